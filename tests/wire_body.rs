//! Bodies from a message broker: those of real senders, ours, and what they could be damaged into.

// A test's helpers may fail as the test itself may.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use ceilometer_ha::model::{
    Identity, Metadata, Reading, Received, Sample, Secret, UtcTime, Value, Volume, meters,
};
use ceilometer_ha::wire::envelope::{self, BODY_BYTES_MAX, BODY_MESSAGES_MAX, Notification};
use ceilometer_ha::wire::{self, Refusal, Signing, Verifier, Via, msgpack};
use proptest::prelude::*;
use serde_json::Value as Json;

const SECRET: &str = "a shared secret";

struct Golden {
    name: String,
    body: String,
    secret: String,
    messages: usize,
}

fn goldens() -> Vec<Golden> {
    let lines = include_str!("fixtures/amqp.jsonl").lines();
    let golden = |line| {
        let case: Json = serde_json::from_str(line).unwrap();
        let text = |key: &str| case[key].as_str().unwrap().to_owned();
        Golden {
            name: text("name"),
            body: text("body"),
            secret: text("secret"),
            messages: case["verifies_old"].as_array().unwrap().len(),
        }
    };
    lines.map(golden).collect()
}

fn take(body: &[u8], secret: &str) -> (Vec<Received>, Vec<Refusal>) {
    let verifier = Verifier::new(Secret::new(secret));
    wire::receive_body(body, &verifier, Via::Topic("metering"))
}

/// A body with this in the place of its payload.
fn with_payload(payload: &str) -> String {
    let inner = format!(r#"{{"_context_user": "u", "payload": {payload}, "priority": "SAMPLE"}}"#);
    serde_json::json!({"oslo.message": inner, "oslo.version": "2.0"}).to_string()
}

fn reading(seq: u64, metadata: Metadata) -> Reading {
    let time = UtcTime::from_unix_micros(1_462_330_921_123_456);
    Reading {
        identity: Identity {
            observer: "node-1".to_owned(),
            epoch: 7,
            seq,
        },
        message_id: format!("id-{seq}"),
        sample: Sample::new(meters::INSTANCE, Volume::Int(1), "r", time, metadata),
    }
}

fn body_of(readings: &[Reading]) -> Vec<u8> {
    let signing = Signing::new("openstack", Secret::new(SECRET));
    let messages: Vec<wire::Message> = readings
        .iter()
        .map(|reading| wire::signed(reading, "notifier://?topic=metering", &signing))
        .collect();
    let notification = Notification {
        host: "node-1",
        event_type: "metering_ha",
        id: 1,
        at: UtcTime::from_unix_micros(0),
    };
    envelope::encode(&notification, &messages).unwrap()
}

#[test]
fn every_golden_body_is_taken_but_the_unsigned_one_and_a_time_without_meaning() {
    let goldens = goldens();
    assert_eq!(goldens.len(), 58);
    for case in goldens {
        let (received, refusals) = take(case.body.as_bytes(), &case.secret);
        let refused = match case.name.as_str() {
            "no_secret" => Some(Refusal::NoSignature),
            "timestamp_empty" | "timestamp_bad" => Some(Refusal::BadField("timestamp")),
            _ => None,
        };
        let taken = case.messages - refused.iter().count();
        assert_eq!(received.len(), taken, "{}: {refusals:?}", case.name);
        assert_eq!(refusals, Vec::from_iter(refused), "{}", case.name);
        let (received, refusals) = take(case.body.as_bytes(), "another secret");
        assert!(received.is_empty(), "{}", case.name);
        assert_eq!(refusals.len(), case.messages, "{}", case.name);
    }
}

#[test]
fn the_numbers_that_python_has_and_json_has_not_come_through() {
    let volume = |name: &str| {
        let golden = goldens()
            .into_iter()
            .find(|case| case.name == name)
            .unwrap();
        take(golden.body.as_bytes(), &golden.secret).0[0].volume
    };
    assert_eq!(volume("volume_inf"), Some(f64::INFINITY));
    assert!(volume("volume_nan").is_some_and(f64::is_nan));
    assert_eq!(volume("volume_1e16"), Some(1e16));
    assert_eq!(volume("volume_none"), None);
}

#[test]
fn what_is_no_notification_is_refused_whole() {
    let nested = format!("{}1{}", "[".repeat(70), "]".repeat(70));
    let outer = |version: &str| {
        format!(r#"{{"oslo.message": "{{\"payload\": []}}", "oslo.version": {version}}}"#)
    };
    let cases: &[(&str, Refusal)] = &[
        ("", Refusal::NotJson),
        ("{", Refusal::NotJson),
        (r#"{"payload": [1,]}"#, Refusal::NotJson),
        (r#"{"payload": [01]}"#, Refusal::NotJson),
        (r#"{"payload": [-]}"#, Refusal::NotJson),
        (r#"{"payload": [1.]}"#, Refusal::NotJson),
        (r#"{"payload": ["\x"]}"#, Refusal::NotJson),
        (r#"{"payload": ["\u12g4"]}"#, Refusal::NotJson),
        ("{\"payload\": [\"\n\"]}", Refusal::NotJson),
        (r#"{"payload": []} x"#, Refusal::NotJson),
        ("\u{feff}{}", Refusal::NotJson),
        ("[]", Refusal::NotAnEnvelope),
        ("{}", Refusal::NotAnEnvelope),
        (
            r#"{"oslo.message": "{}", "oslo.version": "2.0"}"#,
            Refusal::NotAnEnvelope,
        ),
        (&outer("\"3.0\""), Refusal::NotAnEnvelope),
        (&outer("2"), Refusal::NotAnEnvelope),
        (
            r#"{"oslo.message": [], "oslo.version": "2.0"}"#,
            Refusal::NotAnEnvelope,
        ),
        (
            r#"{"oslo.message": "{", "oslo.version": "2.0"}"#,
            Refusal::NotJson,
        ),
        (r#"{"payload": [], "payload": []}"#, Refusal::DuplicateKey),
        (&format!(r#"{{"payload": {nested}}}"#), Refusal::TooDeep),
    ];
    for (body, refusal) in cases {
        assert_eq!(
            envelope::open(body.as_bytes()).err(),
            Some(*refusal),
            "{body}"
        );
    }
    for version in ["\"2.0\"", "\"2.1\""] {
        assert!(
            envelope::open(outer(version).as_bytes()).is_ok(),
            "{version}"
        );
    }
    assert_eq!(
        envelope::open(b"{\"a\": \"\xff\"}").err(),
        Some(Refusal::BadText)
    );
}

#[test]
fn one_bad_message_costs_itself() {
    let good = body_of(&[reading(1, Metadata::new())]);
    let text = String::from_utf8(good).unwrap();
    let inner: Json = serde_json::from_str(&text).unwrap();
    let inner = inner["oslo.message"].as_str().unwrap();
    let start = inner.find("\"payload\":[").unwrap() + "\"payload\":[".len();
    let end = inner.find("],\"timestamp\"").unwrap();
    let good = &inner[start..end];
    let deep = format!(r#"{{"a": {}1{}}}"#, "[".repeat(40), "]".repeat(40));
    let many = format!("{{\"a\": [{}0]}}", "0,".repeat(msgpack::ENTRIES_MAX));
    let bad: &[(&str, Refusal)] = &[
        ("7", Refusal::NotAMap),
        ("{}", Refusal::NoSignature),
        (r#"{"a": 1, "a": 1}"#, Refusal::DuplicateKey),
        (r#"{"a": {"b": 1, "\u0062": 1}}"#, Refusal::DuplicateKey),
        (r#"{"a": "\ud800"}"#, Refusal::BadText),
        (&deep, Refusal::TooDeep),
        (&many, Refusal::TooManyEntries),
    ];
    for (bad, refusal) in bad {
        let body = with_payload(&format!("[{good}, {bad} ,{good}]"));
        let (received, refusals) = take(body.as_bytes(), SECRET);
        assert_eq!((received.len(), refusals), (2, vec![*refusal]), "{bad}");
    }
    let (received, refusals) = take(with_payload(good).as_bytes(), SECRET);
    assert_eq!(
        (received.len(), refusals.len()),
        (1, 0),
        "a message that is in no list"
    );
    assert_eq!(
        take(with_payload("[]").as_bytes(), SECRET),
        (vec![], vec![])
    );
    assert_eq!(
        take(format!("{{\"payload\": [{good}]}}").as_bytes(), SECRET)
            .0
            .len(),
        1
    );
}

#[test]
fn each_bound_holds_to_the_last_one() {
    let list = |count| with_payload(&format!("[{}]", vec!["1"; count].join(",")));
    let refusals = |count| take(list(count).as_bytes(), SECRET).1;
    assert_eq!(
        refusals(BODY_MESSAGES_MAX),
        vec![Refusal::NotAMap; BODY_MESSAGES_MAX]
    );
    let beyond = refusals(BODY_MESSAGES_MAX + 2);
    assert_eq!(
        beyond.len(),
        BODY_MESSAGES_MAX + 1,
        "the rest is one refusal"
    );
    assert_eq!(beyond.last(), Some(&Refusal::TooManyMessages));
    let mut body = with_payload("[]");
    body.push_str(&" ".repeat(BODY_BYTES_MAX - body.len()));
    assert!(envelope::open(body.as_bytes()).is_ok());
    body.push(' ');
    assert_eq!(
        envelope::open(body.as_bytes()).err(),
        Some(Refusal::TooLarge)
    );
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i128>().prop_map(Value::Int),
        any::<f64>()
            .prop_filter("JSON has it", |number| number.is_finite())
            .prop_map(Value::Float),
        any::<String>().prop_map(Value::Text),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        let map = prop::collection::btree_map(any::<String>(), inner.clone(), 0..4);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::List),
            map.prop_map(|entries| Value::Map(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    /// What serde writes for other readers, in either spelling of what isn't ASCII, is what is read.
    #[test]
    fn whatever_is_written_is_read(
        values in prop::collection::btree_map(any::<String>(), any_value(), 0..5),
        is_ascii in any::<bool>(),
    ) {
        let sent: Vec<(String, Value)> = values.into_iter().collect();
        let notification = Notification {
            host: "h",
            event_type: "t",
            id: 1,
            at: UtcTime::from_unix_micros(0),
        };
        let body = envelope::encode(&notification, std::slice::from_ref(&sent)).unwrap();
        let body = if is_ascii { escaped(&body) } else { body };
        let opened = envelope::open(&body).unwrap();
        let mut messages = opened.messages();
        let read = messages.next().unwrap().unwrap();
        let read: Vec<(String, Value)> =
            read.into_iter().map(|(key, value)| (key.into_owned(), value)).collect();
        prop_assert_eq!(read, sent);
        prop_assert!(messages.next().is_none());
    }

    /// A body that was cut or changed is refused, or says the same, or brings nothing.
    #[test]
    fn a_damaged_body_brings_nothing_that_was_not_signed(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        is_cut in any::<bool>(),
    ) {
        let sent = [reading(1, Metadata::new()), reading(2, Metadata::new())];
        let mut body = body_of(&sent);
        let whole = take(&body, SECRET).0;
        prop_assert_eq!(whole.len(), 2);
        let at = at.index(body.len());
        if is_cut {
            body.truncate(at);
            prop_assert!(take(&body, SECRET).0.is_empty(), "cut at {at}");
        } else {
            body[at] = byte;
            let taken = take(&body, SECRET).0;
            prop_assert!(taken.iter().all(|message| whole.contains(message)), "{byte} at {at}");
        }
    }
}

/// The same with whatever isn't ASCII escaped, as Python writes it: in the notification, whose text is
/// escaped once more.
fn escaped(body: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(body).unwrap();
    let mut out = String::new();
    for character in text.chars() {
        if character.is_ascii() {
            out.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            out.push_str(&format!("\\\\u{unit:04x}"));
        }
    }
    out.into_bytes()
}
