//! Pure. Readings as the body of a record: a msgpack list of maps, like a datagram but unsigned, so that
//! the decoder that a peer's bytes can't hurt reads our own disk as well.

use std::borrow::Cow;

use rmp::encode::ByteBuf;

use crate::model::{Identity, Meter, MeterType, Reading, Sample, UtcTime, Value, Volume};
use crate::wire::msgpack::{self, DATAGRAM_BYTES_MAX, MESSAGES_MAX};

/// The longest body: what the decoder takes. A reading that needs more by itself isn't spooled; no
/// collector would take it either.
pub const BODY_BYTES_MAX: usize = DATAGRAM_BYTES_MAX;

/// The most readings of one record; a larger round becomes several records.
pub const READINGS_MAX: usize = MESSAGES_MAX;

/// The head of a list of 256.
const HEAD_BYTES: usize = 3;

/// Keys of a reading, in the order in which they are written.
mod key {
    pub(super) const OBSERVER: &str = "o";
    pub(super) const EPOCH: &str = "e";
    pub(super) const SEQ: &str = "n";
    pub(super) const MESSAGE_ID: &str = "i";
    pub(super) const METER: &str = "m";
    pub(super) const KIND: &str = "k";
    pub(super) const UNIT: &str = "u";
    pub(super) const VOLUME: &str = "v";
    pub(super) const RESOURCE: &str = "r";
    pub(super) const USER: &str = "U";
    pub(super) const PROJECT: &str = "P";
    pub(super) const MICROS: &str = "t";
    pub(super) const METADATA: &str = "d";
}

/// A body, and how many readings are in it.
pub type Body = (Vec<u8>, usize);

/// The bodies that hold these readings, in order, and how many readings were too large for any.
pub fn bodies(readings: &[Reading]) -> (Vec<Body>, usize) {
    let mut bodies = Vec::new();
    let mut open: Vec<Vec<u8>> = Vec::new();
    let (mut bytes, mut too_large) = (HEAD_BYTES, 0);
    for reading in readings {
        let one = encoded(reading);
        if one.len() + HEAD_BYTES > BODY_BYTES_MAX {
            too_large += 1;
            continue;
        }
        if open.len() == READINGS_MAX || bytes + one.len() > BODY_BYTES_MAX {
            bodies.push(closed(&mut open));
            bytes = HEAD_BYTES;
        }
        bytes += one.len();
        open.push(one);
    }
    if !open.is_empty() {
        bodies.push(closed(&mut open));
    }
    (bodies, too_large)
}

/// The readings of a body; None if it isn't one.
pub fn readings(body: &[u8]) -> Option<Vec<Reading>> {
    let messages = msgpack::messages(body);
    let decoded = messages.into_iter().map(|message| reading(message.ok()?));
    decoded.collect()
}

fn closed(open: &mut Vec<Vec<u8>>) -> Body {
    let count = open.len();
    let mut body = msgpack::list_head(count);
    body.extend(open.drain(..).flatten());
    (body, count)
}

fn encoded(reading: &Reading) -> Vec<u8> {
    let Reading {
        identity,
        message_id,
        sample,
    } = reading;
    let text = |text: &str| Value::from(text);
    let optional = |text: &Option<String>| text.as_deref().map_or(Value::Null, Value::from);
    let volume = match sample.volume {
        Volume::Int(number) => Value::Int(number.into()),
        Volume::Float(number) => Value::Float(number),
    };
    let metadata = sample.metadata.clone().into_iter().collect();
    let entries = [
        (key::OBSERVER, text(&identity.observer)),
        (key::EPOCH, Value::from(identity.epoch)),
        (key::SEQ, Value::from(identity.seq)),
        (key::MESSAGE_ID, text(message_id)),
        (key::METER, text(&sample.meter.name)),
        (key::KIND, text(sample.meter.kind.as_str())),
        (key::UNIT, text(&sample.meter.unit)),
        (key::VOLUME, volume),
        (key::RESOURCE, text(&sample.resource_id)),
        (key::USER, optional(&sample.user_id)),
        (key::PROJECT, optional(&sample.project_id)),
        (
            key::MICROS,
            Value::Int(sample.timestamp.unix_micros().into()),
        ),
        (key::METADATA, Value::Map(metadata)),
    ];
    let mut out = ByteBuf::new();
    msgpack::write_map(&mut out, &entries);
    out.into_vec()
}

/// A reading from its entries, which come in the order in which they are written.
fn reading(message: Vec<(Cow<'_, str>, Value)>) -> Option<Reading> {
    let mut fields = Fields(message.into_iter());
    let identity = Identity {
        observer: fields.text(key::OBSERVER)?,
        epoch: fields.take(key::EPOCH)?.as_u64()?,
        seq: fields.take(key::SEQ)?.as_u64()?,
    };
    let message_id = fields.text(key::MESSAGE_ID)?;
    let meter = Meter {
        name: fields.text(key::METER)?.into(),
        kind: MeterType::from_name(&fields.text(key::KIND)?)?,
        unit: fields.text(key::UNIT)?.into(),
    };
    let volume = match fields.take(key::VOLUME)? {
        Value::Int(number) => Volume::Int(i64::try_from(number).ok()?),
        Value::Float(number) => Volume::Float(number),
        _ => return None,
    };
    let sample = Sample {
        meter,
        volume,
        resource_id: fields.text(key::RESOURCE)?,
        user_id: fields.optional(key::USER)?,
        project_id: fields.optional(key::PROJECT)?,
        timestamp: match fields.take(key::MICROS)? {
            Value::Int(micros) => UtcTime::from_unix_micros(i64::try_from(micros).ok()?),
            _ => return None,
        },
        metadata: match fields.take(key::METADATA)? {
            Value::Map(entries) => entries.into_iter().collect(),
            _ => return None,
        },
    };
    Some(Reading {
        identity,
        message_id,
        sample,
    })
}

/// What is left of a reading's entries.
struct Fields<'a>(std::vec::IntoIter<(Cow<'a, str>, Value)>);

impl Fields<'_> {
    /// The next entry, if it has this key.
    fn take(&mut self, key: &str) -> Option<Value> {
        let (found, value) = self.0.next()?;
        (found == key).then_some(value)
    }

    fn text(&mut self, key: &str) -> Option<String> {
        match self.take(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A text or nothing.
    fn optional(&mut self, key: &str) -> Option<Option<String>> {
        match self.take(key)? {
            Value::Text(text) => Some(Some(text)),
            Value::Null => Some(None),
            _ => None,
        }
    }
}
