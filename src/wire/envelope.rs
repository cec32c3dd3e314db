//! Pure. What stands around metering messages on a message broker: oslo.messaging's notification, as
//! the text inside an envelope of version 2.0.

use std::borrow::Cow;
use std::ops::Range;

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use super::Refusal;
use super::json::Reader;
use super::msgpack::Message as Decoded;
use crate::model::{UtcTime, Value};

/// The longest body that is looked at. A round of ours has some hundred messages of 0.7 kB, a poll of a
/// whole region by Ceilometer some thousand. A longer one is refused whole.
pub const BODY_BYTES_MAX: usize = 4 << 20;

/// The most messages in one body: more than fit in one of honest messages. A longer list is refused from
/// there on.
pub const BODY_MESSAGES_MAX: usize = 10_000;

/// What the outer map calls the notification, which is JSON in a text.
const MESSAGE: &str = "oslo.message";
/// What it calls its own version.
const VERSION: &str = "oslo.version";
/// What the notification calls its messages.
const PAYLOAD: &str = "payload";

/// What a notification says beside its messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification<'a> {
    /// The host that sends it.
    pub host: &'a str,
    /// The topic, and behind a dot the meter's name where there is a notification for each meter.
    pub event_type: &'a str,
    /// An id of its own, of 128 random bits.
    pub id: u128,
    /// When it is sent.
    pub at: UtcTime,
}

/// The content type of a body.
pub const CONTENT_TYPE: &str = "application/json";
/// Its encoding.
pub const CONTENT_ENCODING: &str = "utf-8";
/// Persistent, as oslo.messaging sends: a durable queue keeps it over a restart of the broker.
pub const DELIVERY_MODE: u8 = 2;

/// The body that brings these messages.
///
/// None where a message can't be told in JSON, which holds for no message of ours.
pub fn encode<K: AsRef<str>>(
    notification: &Notification<'_>,
    messages: &[Vec<(K, Value)>],
) -> Option<Vec<u8>> {
    let Notification {
        host,
        event_type,
        id,
        at,
    } = notification;
    let inner = Inner {
        message_id: uuid(*id),
        publisher_id: format!("telemetry.publisher.{host}"),
        event_type,
        payload: messages,
        timestamp: at.to_string().replacen('T', " ", 1),
        unique_id: format!("{id:032x}"),
    };
    let inner = serde_json::to_string(&inner).ok()?;
    let outer = [("oslo.message", inner.as_str()), ("oslo.version", "2.0")];
    serde_json::to_vec(&Entries(&outer)).ok()
}

/// A body whose syntax was checked from begin to end.
#[derive(Debug)]
pub struct Body<'a> {
    text: Cow<'a, str>,
    payload: Range<usize>,
}

/// Opens a body. Without an envelope it is the notification itself, as for oslo.messaging.
pub fn open(body: &[u8]) -> Result<Body<'_>, Refusal> {
    if body.len() > BODY_BYTES_MAX {
        return Err(Refusal::TooLarge);
    }
    let text = std::str::from_utf8(body).map_err(|_| Refusal::BadText)?;
    let outer = Parts::of(text)?;
    let (text, payload) = match (outer.message, outer.version) {
        (Some(message), Some(version)) => {
            let is_ours = version.as_deref().is_some_and(is_version_2);
            let text = message.filter(|_| is_ours).ok_or(Refusal::NotAnEnvelope)?;
            let payload = Parts::of(&text)?.payload;
            (text, payload)
        }
        _ => (Cow::Borrowed(text), outer.payload),
    };
    let payload = payload.ok_or(Refusal::NotAnEnvelope)?;
    Ok(Body { text, payload })
}

impl Body<'_> {
    /// Its messages, not yet verified, one after the other: a bad one costs itself alone, and no more than
    /// one is in memory unless somebody keeps it.
    pub fn messages(&self) -> impl Iterator<Item = Result<Decoded<'_>, Refusal>> {
        let payload = self.text.get(self.payload.clone()).unwrap_or_default();
        let items = Reader::items(payload).take(BODY_MESSAGES_MAX + 1);
        items.enumerate().map(|(index, text)| {
            if index == BODY_MESSAGES_MAX {
                return Err(Refusal::TooManyMessages);
            }
            Reader::message(text)
        })
    }
}

/// What of a map is looked at. A text is None where another value stands.
#[derive(Default)]
struct Parts<'a> {
    message: Option<Option<Cow<'a, str>>>,
    version: Option<Option<Cow<'a, str>>>,
    payload: Option<Range<usize>>,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Result<Self, Refusal> {
        let mut parts = Parts::default();
        Reader::new(text).whole_map(|key, reader| {
            let is_first = match key {
                MESSAGE => parts.message.replace(reader.string_or_other()?).is_none(),
                VERSION => parts.version.replace(reader.string_or_other()?).is_none(),
                PAYLOAD => parts.payload.replace(reader.place()?).is_none(),
                _ => return Ok(false),
            };
            if is_first {
                Ok(true)
            } else {
                Err(Refusal::DuplicateKey)
            }
        })?;
        Ok(parts)
    }
}

/// Another minor version says the same and more.
fn is_version_2(version: &str) -> bool {
    version.split('.').next() == Some("2")
}

/// A notification in the order in which oslo.messaging writes it.
struct Inner<'a, K> {
    message_id: String,
    publisher_id: String,
    event_type: &'a str,
    payload: &'a [Vec<(K, Value)>],
    timestamp: String,
    unique_id: String,
}

impl<K: AsRef<str>> Serialize for Inner<'_, K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(7))?;
        map.serialize_entry("message_id", &self.message_id)?;
        map.serialize_entry("publisher_id", &self.publisher_id)?;
        map.serialize_entry("event_type", self.event_type)?;
        map.serialize_entry("priority", "SAMPLE")?;
        map.serialize_entry("payload", &Messages(self.payload))?;
        map.serialize_entry("timestamp", &self.timestamp)?;
        map.serialize_entry("_unique_id", &self.unique_id)?;
        map.end()
    }
}

struct Messages<'a, K>(&'a [Vec<(K, Value)>]);

impl<K: AsRef<str>> Serialize for Messages<'_, K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for message in self.0 {
            list.serialize_element(&Message(message))?;
        }
        list.end()
    }
}

struct Message<'a, K>(&'a [(K, Value)]);

impl<K: AsRef<str>> Serialize for Message<'_, K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in self.0 {
            map.serialize_entry(key.as_ref(), &Json(value))?;
        }
        map.end()
    }
}

struct Entries<'a>(&'a [(&'a str, &'a str)]);

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

/// A value as JSON, whose text reads back as the same value: what was signed is its Python text.
struct Json<'a>(&'a Value);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(truth) => serializer.serialize_bool(*truth),
            Value::Int(number) => serializer.serialize_i128(*number),
            Value::Float(number) if number.is_finite() => serializer.serialize_f64(*number),
            Value::Float(_) => Err(serde::ser::Error::custom("JSON has no such number")),
            Value::Text(text) => serializer.serialize_str(text),
            Value::List(items) => serializer.collect_seq(items.iter().map(Json)),
            Value::Map(entries) => Message(entries).serialize(serializer),
        }
    }
}

/// 128 bits as a UUID of random ones (RFC 9562, version 4).
fn uuid(id: u128) -> String {
    let id = (id & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{id:032x}");
    let mut text = String::with_capacity(36);
    for (at, digit) in hex.chars().enumerate() {
        if matches!(at, 8 | 12 | 16 | 20) {
            text.push('-');
        }
        text.push(digit);
    }
    text
}
