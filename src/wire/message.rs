//! Pure. The metering message: from a reading to a signed datagram, and from a datagram to the
//! messages in it that are authentic and make sense.

use rmp::encode::ByteBuf;

use super::keys::HostKey;
use super::pytext::{self, Dialect};
use super::{Refusal, Verifier, Via, envelope, msgpack, proof, signature};
use crate::model::{
    Evidence, Identity, Meter, Reading, Received, ReceivedMeter, Sample, Secret, UtcTime, Value,
    Volume,
};

/// What we write as `ha_v`. A message with a greater one is read all the same, by the keys that
/// are known here: a newer agent must not fall silent at an older collector.
pub const VERSION: u64 = 1;

/// Makes the signed message of a reading for one path, in msgpack. It is signed last, as current
/// Ceilometer signs.
///
/// Doubles are brought into a form whose text old and new verifiers agree on (see [`agreed`]).
/// Only text or maps inside lists are left on which the two differ; no meter of ours has any.
///
/// An empty secret yields an empty signature, as in Ceilometer, which [`receive`] refuses.
pub fn encode(reading: &Reading, path: &str, signing: &Signing) -> Vec<u8> {
    let mut out = ByteBuf::with_capacity(USUAL_BYTES);
    msgpack::write_map(&mut out, &signed(reading, path, signing));
    out.into_vec()
}

/// The signed message of a reading for one path, its entries in sorted order of their keys. The proof
/// comes first, so that the signature covers it too.
pub fn signed(reading: &Reading, path: &str, signing: &Signing) -> Message {
    let mut message = entries(reading, &signing.source, path);
    if let Some(key) = &signing.key {
        let proof = proof::make(&message, key);
        put(&mut message, proof::KEY, proof);
    }
    let signature = signature::sign(&message, &signing.secret);
    put(&mut message, signature::KEY, signature);
    message
}

fn put(message: &mut Message, key: &str, text: String) {
    if let Some((_, value)) = message.iter_mut().find(|(known, _)| *known == key) {
        *value = text.into();
    }
}

/// A message of ours.
pub type Message = Vec<(&'static str, Value)>;

/// What makes a message of a reading. Readings are signed when they are sent and not before, so that a
/// new secret holds for those that wait as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signing {
    source: String,
    secret: Secret,
    key: Option<HostKey>,
}

impl Signing {
    /// Signs with the secret that the fleet shares. `source` is Ceilometer's sample source.
    pub fn new(source: impl Into<String>, secret: Secret) -> Self {
        Signing {
            source: source.into(),
            secret,
            key: None,
        }
    }

    /// The same, with a proof by the host's own key.
    pub fn proving(self, key: Option<HostKey>) -> Self {
        Signing { key, ..self }
    }
}

/// Fills datagrams with encoded messages, in order: one message goes as it is, several as a list.
/// Each datagram has at most `limit` bytes, but for a message that alone has more: it goes alone,
/// and whether it arrives is for the network to say.
pub fn pack(messages: Vec<Vec<u8>>, limit: usize) -> Vec<Datagram> {
    let mut datagrams = Vec::new();
    let mut group = Vec::new();
    let mut bytes = 0;
    for message in messages {
        let head = msgpack::list_head(group.len() + 1).len();
        let is_full = head + bytes + message.len() > limit || group.len() == msgpack::MESSAGES_MAX;
        if is_full && !group.is_empty() {
            datagrams.push(datagram(std::mem::take(&mut group)));
            bytes = 0;
        }
        bytes += message.len();
        group.push(message);
    }
    if !group.is_empty() {
        datagrams.push(datagram(group));
    }
    datagrams
}

/// Bytes to send at once, and how many messages they hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// What goes over the wire.
    pub bytes: Vec<u8>,
    /// Messages in it.
    pub messages: usize,
}

/// Takes a datagram apart and every message through [`accept`]. One bad message costs one message.
pub fn receive(
    datagram: &[u8],
    verifier: &Verifier,
    via: Via<'_>,
) -> (Vec<Received>, Vec<Refusal>) {
    let messages = msgpack::messages(datagram);
    let mut received = Vec::with_capacity(messages.len());
    let mut refusals = Vec::new();
    for message in messages {
        match message.and_then(|message| accept(message, verifier, via)) {
            Ok(message) => received.push(message),
            Err(refusal) => refusals.push(refusal),
        }
    }
    (received, refusals)
}

/// Takes a body from a message broker apart and every message through [`accept`]. What can't be opened is
/// one refusal.
pub fn receive_body(
    body: &[u8],
    verifier: &Verifier,
    via: Via<'_>,
) -> (Vec<Received>, Vec<Refusal>) {
    let body = match envelope::open(body) {
        Ok(body) => body,
        Err(refusal) => return (Vec::new(), vec![refusal]),
    };
    let mut received = Vec::new();
    let mut refusals = Vec::new();
    for message in body.messages() {
        match message.and_then(|message| accept(message, verifier, via)) {
            Ok(message) => received.push(message),
            Err(refusal) => refusals.push(refusal),
        }
    }
    (received, refusals)
}

/// Verifies one decoded message and only then reads it.
pub fn accept<K: AsRef<str>>(
    message: Vec<(K, Value)>,
    verifier: &Verifier,
    via: Via<'_>,
) -> Result<Received, Refusal> {
    verifier.check_signature(&message)?;
    let proof = verifier.check_proof(&message)?;
    let mut received = Fields::sort(message).read()?;
    received.evidence.proof = proof;
    verifier.check_origin(&received, via)?;
    Ok(received)
}

/// The room a message usually needs, so that encoding reserves memory once.
const USUAL_BYTES: usize = 768;

fn datagram(group: Vec<Vec<u8>>) -> Datagram {
    let messages = group.len();
    let head = if messages == 1 {
        Vec::new()
    } else {
        msgpack::list_head(messages)
    };
    let bytes = group.into_iter().fold(head, |mut bytes, message| {
        bytes.extend(message);
        bytes
    });
    Datagram { bytes, messages }
}

/// Every entry, the signature still null. Nothing is left out by `..`: a new field has to find its
/// place here. In sorted order, because a verifier has to sort, and finds it done.
fn entries(reading: &Reading, source: &str, path: &str) -> Vec<(&'static str, Value)> {
    let Reading {
        identity,
        message_id,
        sample,
    } = reading;
    let Identity {
        observer,
        epoch,
        seq,
    } = identity;
    let Sample {
        meter: Meter { name, kind, unit },
        volume,
        resource_id,
        user_id,
        project_id,
        timestamp,
        metadata,
    } = sample;
    let metadata = metadata
        .iter()
        .map(|(key, value)| (key.clone(), agreed_value(value)));
    [
        ("counter_name", name.as_ref().into()),
        ("counter_type", kind.as_str().into()),
        ("counter_unit", unit.as_ref().into()),
        ("counter_volume", agreed_volume(*volume)),
        ("ha_epoch", (*epoch).into()),
        ("ha_observer", observer.as_str().into()),
        ("ha_path", path.into()),
        (proof::KEY, "".into()),
        ("ha_seq", (*seq).into()),
        ("ha_v", VERSION.into()),
        ("message_id", message_id.as_str().into()),
        (signature::KEY, Value::Null),
        ("project_id", text_or_null(project_id.as_deref())),
        ("resource_id", resource_id.as_str().into()),
        ("resource_metadata", Value::Map(metadata.collect())),
        ("source", source.into()),
        ("timestamp", timestamp.to_string().into()),
        ("user_id", text_or_null(user_id.as_deref())),
    ]
    .into()
}

fn text_or_null(text: Option<&str>) -> Value {
    text.map_or(Value::Null, Value::from)
}

fn agreed_volume(volume: Volume) -> Value {
    match volume {
        Volume::Int(number) => Value::Int(number.into()),
        Volume::Float(number) => agreed(number),
    }
}

/// Doubles alone or in maps; inside lists both dialects print them alike anyway.
fn agreed_value(value: &Value) -> Value {
    match value {
        Value::Float(number) => agreed(*number),
        Value::Map(entries) => {
            let entries = entries.iter();
            Value::Map(
                entries
                    .map(|(key, value)| (key.clone(), agreed_value(value)))
                    .collect(),
            )
        }
        other => other.clone(),
    }
}

/// A double as old and current verifiers print it alike: at most six places and twelve digits,
/// and from 1e11 on, where the one writes `1e+11` and the other `100000000000.0`, an integer.
fn agreed(number: f64) -> Value {
    let rounded = Value::Float(round_to_six_places(number));
    if pytext::is_same_in_all(&rounded) {
        return rounded;
    }
    let mut twelve_digits = String::new();
    pytext::write_str(&mut twelve_digits, &rounded, Dialect::Old);
    let Ok(shorter) = twelve_digits.parse() else {
        return rounded;
    };
    if pytext::is_same_in_all(&Value::Float(shorter)) {
        return Value::Float(shorter);
    }
    match format!("{shorter:.0}").parse() {
        Ok(whole) if shorter.abs() < WHOLE_BELOW => Value::Int(whole),
        _ => Value::Float(shorter),
    }
}

/// From here on both print a double in the scientific form again.
const WHOLE_BELOW: f64 = 1e16;

fn round_to_six_places(number: f64) -> f64 {
    let millionths = (number * 1e6).round();
    if millionths.is_finite() {
        millionths / 1e6
    } else {
        number
    }
}

/// The known keys of a verified message; a key that isn't there stays None.
#[derive(Default)]
struct Fields {
    source: Option<Value>,
    counter_name: Option<Value>,
    counter_type: Option<Value>,
    counter_unit: Option<Value>,
    counter_volume: Option<Value>,
    user_id: Option<Value>,
    project_id: Option<Value>,
    resource_id: Option<Value>,
    timestamp: Option<Value>,
    resource_metadata: Option<Value>,
    message_id: Option<Value>,
    message_signature: Option<Value>,
    ha_v: Option<Value>,
    ha_observer: Option<Value>,
    ha_epoch: Option<Value>,
    ha_seq: Option<Value>,
    ha_path: Option<Value>,
}

impl Fields {
    /// Unknown keys are let go of: newer senders have more of them, and they were signed.
    fn sort<K: AsRef<str>>(entries: Vec<(K, Value)>) -> Self {
        let mut fields = Fields::default();
        for (key, value) in entries {
            if let Some(place) = fields.place(key.as_ref()) {
                *place = Some(value);
            }
        }
        fields
    }

    fn place(&mut self, key: &str) -> Option<&mut Option<Value>> {
        Some(match key {
            "source" => &mut self.source,
            "counter_name" => &mut self.counter_name,
            "counter_type" => &mut self.counter_type,
            "counter_unit" => &mut self.counter_unit,
            "counter_volume" => &mut self.counter_volume,
            "user_id" => &mut self.user_id,
            "project_id" => &mut self.project_id,
            "resource_id" => &mut self.resource_id,
            "timestamp" => &mut self.timestamp,
            "resource_metadata" => &mut self.resource_metadata,
            "message_id" => &mut self.message_id,
            signature::KEY => &mut self.message_signature,
            "ha_v" => &mut self.ha_v,
            "ha_observer" => &mut self.ha_observer,
            "ha_epoch" => &mut self.ha_epoch,
            "ha_seq" => &mut self.ha_seq,
            "ha_path" => &mut self.ha_path,
            _ => return None,
        })
    }

    fn read(self) -> Result<Received, Refusal> {
        let identity = identity(self.ha_v, self.ha_observer, self.ha_epoch, self.ha_seq)?;
        Ok(Received {
            identity,
            path: path(self.ha_path)?,
            evidence: Evidence::default(),
            message_id: text("message_id", self.message_id)?,
            signature: text(signature::KEY, self.message_signature)?,
            source: text("source", self.source)?,
            meter: ReceivedMeter {
                name: text("counter_name", self.counter_name)?,
                kind: nullable_text("counter_type", self.counter_type)?,
                unit: nullable_text("counter_unit", self.counter_unit)?,
            },
            volume: volume(self.counter_volume)?,
            resource_id: text("resource_id", self.resource_id)?,
            user_id: nullable_text("user_id", self.user_id)?,
            project_id: nullable_text("project_id", self.project_id)?,
            timestamp: timestamp(self.timestamp)?,
            metadata: self
                .resource_metadata
                .ok_or(Refusal::MissingField("resource_metadata"))?,
        })
    }
}

/// All of version, observer, epoch and sequence make an identity, none of them is a plain
/// Ceilometer sender, and anything between is refused.
fn identity(
    version: Option<Value>,
    observer: Option<Value>,
    epoch: Option<Value>,
    seq: Option<Value>,
) -> Result<Option<Identity>, Refusal> {
    let (version, observer, epoch, seq) = match (version, observer, epoch, seq) {
        (None, None, None, None) => return Ok(None),
        (Some(version), Some(Value::Text(observer)), Some(epoch), Some(seq)) => {
            (version, observer, epoch, seq)
        }
        _ => return Err(Refusal::BadIdentity),
    };
    if version.as_u64().is_none_or(|version| version == 0) {
        return Err(Refusal::UnsupportedVersion);
    }
    if observer.is_empty() || has_swallowed_a_key(&observer) {
        return Err(Refusal::BadIdentity);
    }
    match (epoch.as_u64(), seq.as_u64()) {
        (Some(epoch), Some(seq)) if seq > 0 => Ok(Some(Identity {
            observer,
            epoch,
            seq,
        })),
        _ => Err(Refusal::BadIdentity),
    }
}

/// The signed text has nothing between its entries, so that someone on the way could drop
/// `ha_path` from an authentic message and put its name and value behind the observer's name: the
/// signature would still fit, and a host that doesn't exist would have seen something.
fn has_swallowed_a_key(text: &str) -> bool {
    text.contains("ha_path") || text.contains(proof::KEY)
}

fn path(value: Option<Value>) -> Result<Option<String>, Refusal> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Text(text)) if !has_swallowed_a_key(&text) => Ok(Some(text)),
        Some(_) => Err(Refusal::BadField("ha_path")),
    }
}

fn text(name: &'static str, value: Option<Value>) -> Result<String, Refusal> {
    nullable_text(name, value)?.ok_or(Refusal::BadField(name))
}

/// Text, or a number's text, as a database puts a number into a text column; a truth value is a
/// number there.
fn nullable_text(name: &'static str, value: Option<Value>) -> Result<Option<String>, Refusal> {
    let value = match value.ok_or(Refusal::MissingField(name))? {
        Value::Null => return Ok(None),
        Value::Text(text) => return Ok(Some(text)),
        Value::Bool(truth) => Value::Int(truth.into()),
        number @ (Value::Int(_) | Value::Float(_)) => number,
        Value::List(_) | Value::Map(_) => return Err(Refusal::BadField(name)),
    };
    let mut text = String::new();
    pytext::write_str(&mut text, &value, Dialect::Current);
    Ok(Some(text))
}

/// A number, null, or text that reads as a number, as the original's databases took them.
fn volume(value: Option<Value>) -> Result<Option<f64>, Refusal> {
    const NAME: &str = "counter_volume";
    match value.ok_or(Refusal::MissingField(NAME))? {
        Value::Null => Ok(None),
        Value::Text(text) => match text.trim().parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(Refusal::BadField(NAME)),
        },
        other => match other.as_f64() {
            Some(number) => Ok(Some(number)),
            None => Err(Refusal::BadField(NAME)),
        },
    }
}

fn timestamp(value: Option<Value>) -> Result<Option<UtcTime>, Refusal> {
    const NAME: &str = "timestamp";
    match value.ok_or(Refusal::MissingField(NAME))? {
        Value::Null => Ok(None),
        Value::Text(text) => match UtcTime::parse(&text) {
            Ok(time) => Ok(Some(time)),
            Err(_) => Err(Refusal::BadField(NAME)),
        },
        _ => Err(Refusal::BadField(NAME)),
    }
}
