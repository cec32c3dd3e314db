//! Pure. What the quarantine keeps of a message that no table can hold.

use md5::{Digest, Md5};

use super::json::{self, NonFinite};
use super::rows::{MAX_MESSAGE_ID, MAX_TEXT, RowRefusal};
use crate::model::{Identity, Received, ReceivedMeter, Value};

/// How long a quarantined message may be as JSON, in bytes: every engine's TEXT holds it, and no
/// datagram can carry much more. Of a longer one the beginning is kept, and that it was cut is said.
pub(crate) const QUARANTINE_MESSAGE_BYTES_MAX: usize = 65_000;

/// How many characters of an engine's own words are kept. They name a column and a value; the rest
/// of a longer one is lost.
const DETAIL_CHARS_MAX: usize = 1024;

/// A message that can't be stored, and why.
#[derive(Debug)]
pub(crate) struct Refused<'a> {
    /// The message.
    pub(crate) received: &'a Received,
    /// Why.
    pub(crate) reason: RowRefusal,
    /// The same in words; the engine's own where it refused.
    pub(crate) detail: String,
}

/// A row of `ha_quarantine`.
#[derive(Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) digest: String,
    pub(crate) reason: &'static str,
    pub(crate) detail: String,
    pub(crate) observer: Option<String>,
    pub(crate) meter: String,
    pub(crate) resource_id: String,
    pub(crate) message_id: String,
    pub(crate) message: String,
}

/// The row of one message.
pub(crate) fn line_of(refused: &Refused<'_>) -> Line {
    let Refused {
        received,
        reason,
        detail,
    } = refused;
    let whole = json_of(received);
    let observer = received.identity.as_ref().map(|who| who.observer.as_str());
    Line {
        digest: digest(received, &whole),
        reason: reason.as_str(),
        detail: cut(detail, DETAIL_CHARS_MAX),
        observer: observer.map(|observer| cut(observer, MAX_TEXT)),
        meter: cut(&received.meter.name, MAX_TEXT),
        resource_id: cut(&received.resource_id, MAX_TEXT),
        message_id: cut(&received.message_id, MAX_MESSAGE_ID),
        message: bounded(whole),
    }
}

/// Tells messages apart as storing does: a numbered one by its place in its observer's order, another
/// by its id, one without an id by all of it.
fn digest(received: &Received, whole: &str) -> String {
    let mut hash = Md5::new();
    match &received.identity {
        Some(Identity {
            observer,
            epoch,
            seq,
        }) => {
            hash.update(epoch.to_be_bytes());
            hash.update(seq.to_be_bytes());
            hash.update(observer);
        }
        None if received.message_id.is_empty() => hash.update(whole),
        None => hash.update(&received.message_id),
    }
    let bytes: [u8; 16] = hash.finalize().into();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The message under the names of the wire, in plain ASCII. A number that JSON has no word for is
/// written as text.
fn json_of(received: &Received) -> String {
    let Received {
        identity,
        path,
        evidence: _,
        message_id,
        signature,
        source,
        meter: ReceivedMeter { name, kind, unit },
        volume,
        resource_id,
        user_id,
        project_id,
        timestamp,
        metadata,
    } = received;
    let optional = |text: &Option<String>| text.as_deref().map_or(Value::Null, Value::from);
    let mut entries: Vec<(&str, Value)> = vec![
        ("message_id", Value::from(message_id.as_str())),
        ("message_signature", Value::from(signature.as_str())),
        ("source", Value::from(source.as_str())),
        ("counter_name", Value::from(name.as_str())),
        ("counter_type", optional(kind)),
        ("counter_unit", optional(unit)),
        ("counter_volume", volume.map_or(Value::Null, Value::from)),
        ("resource_id", Value::from(resource_id.as_str())),
        ("user_id", optional(user_id)),
        ("project_id", optional(project_id)),
        (
            "timestamp",
            timestamp.map_or(Value::Null, |at| Value::Text(at.to_string())),
        ),
        ("resource_metadata", metadata.clone()),
        ("ha_path", optional(path)),
    ];
    if let Some(Identity {
        observer,
        epoch,
        seq,
    }) = identity
    {
        entries.push(("ha_observer", Value::from(observer.as_str())));
        entries.push(("ha_epoch", Value::Int(i128::from(*epoch))));
        entries.push(("ha_seq", Value::Int(i128::from(*seq))));
    }
    let entries: Vec<(String, Value)> = entries
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    json::write_map(&entries, NonFinite::Quoted)
}

/// A message that is too long becomes an object that says so, with its beginning as text. Its JSON is
/// plain ASCII; quoting it once more doubles it at most.
fn bounded(whole: String) -> String {
    if whole.len() <= QUARANTINE_MESSAGE_BYTES_MAX {
        return whole;
    }
    let head: String = whole
        .chars()
        .take(QUARANTINE_MESSAGE_BYTES_MAX / 2 - 64)
        .collect();
    let entries = [
        (
            "cut_from_bytes".to_owned(),
            Value::Int(i128::try_from(whole.len()).unwrap_or(i128::MAX)),
        ),
        ("head".to_owned(), Value::Text(head)),
    ];
    json::write_map(&entries, NonFinite::Quoted)
}

fn cut(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::UtcTime;

    fn message(volume: f64, metadata: Value) -> Received {
        Received {
            identity: Some(Identity {
                observer: "n".into(),
                epoch: 7,
                seq: 9,
            }),
            path: None,
            evidence: crate::model::Evidence::default(),
            message_id: "m".into(),
            signature: "s".into(),
            source: "openstack".into(),
            meter: ReceivedMeter {
                name: "cpu".into(),
                kind: None,
                unit: None,
            },
            volume: Some(volume),
            resource_id: "r".into(),
            user_id: None,
            project_id: None,
            timestamp: Some(UtcTime::from_unix_micros(0)),
            metadata,
        }
    }

    fn line(received: &Received) -> Line {
        line_of(&Refused {
            received,
            reason: RowRefusal::VolumeNotFinite,
            detail: "why".into(),
        })
    }

    #[test]
    fn the_whole_message_is_kept_as_json_that_everybody_reads() {
        let metadata = Value::Map(vec![
            ("ż\u{1b}".into(), Value::Float(f64::NAN)),
            ("list".into(), Value::List(vec![Value::Int(1 << 80)])),
        ]);
        let line = line(&message(f64::NEG_INFINITY, metadata));
        assert!(line.message.is_ascii());
        let read: serde_json::Value = serde_json::from_str(&line.message).unwrap();
        assert_eq!(read["counter_volume"], "-Infinity");
        assert_eq!(read["resource_metadata"]["ż\u{1b}"], "NaN");
        assert_eq!(read["ha_epoch"], 7);
        assert_eq!(read["timestamp"], "1970-01-01T00:00:00.000000");
    }

    #[test]
    fn every_column_is_bounded_and_a_cut_message_says_so() {
        let mut long = message(1.0, Value::from("\"\u{7}".repeat(40_000)));
        long.message_id = "ż".repeat(500);
        long.resource_id = "ż".repeat(500);
        let cut = line_of(&Refused {
            received: &long,
            reason: RowRefusal::TextTooLong,
            detail: "x".repeat(5000),
        });
        assert!(
            cut.message.len() <= QUARANTINE_MESSAGE_BYTES_MAX,
            "{}",
            cut.message.len()
        );
        let read: serde_json::Value = serde_json::from_str(&cut.message).unwrap();
        assert!(read["cut_from_bytes"].as_u64().unwrap() > 65_000);
        assert!(
            read["head"]
                .as_str()
                .unwrap()
                .starts_with("{\"counter_name\": \"cpu\"")
        );
        let lengths =
            [&cut.detail, &cut.message_id, &cut.resource_id].map(|text| text.chars().count());
        assert_eq!(lengths, [1024, 128, 255]);

        let shorter = message(1.0, Value::from("x".repeat(64_000)));
        assert!(!line(&shorter).message.contains("cut_from_bytes"));
    }

    #[test]
    fn a_message_is_told_from_another_as_storing_tells_them() {
        let one = message(1.0, Value::Null);
        let digest = |received: &Received| line(received).digest;
        let by_another_path = Received {
            path: Some("p".into()),
            message_id: "other".into(),
            ..one.clone()
        };
        assert_eq!(digest(&one), digest(&by_another_path), "its place counts");
        assert_eq!(digest(&one).len(), 32);
        let old = |id: &str, volume| Received {
            identity: None,
            message_id: id.into(),
            volume: Some(volume),
            ..one.clone()
        };
        assert_eq!(
            digest(&old("a", 1.0)),
            digest(&old("a", 2.0)),
            "its id counts"
        );
        assert_ne!(digest(&old("a", 1.0)), digest(&old("b", 1.0)));
        assert_ne!(
            digest(&old("", 1.0)),
            digest(&old("", 2.0)),
            "all of it counts"
        );
        assert_ne!(digest(&one), digest(&old("m", 1.0)));
    }
}
