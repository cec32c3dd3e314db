//! The wire against datagrams of real senders, and against everything that such a datagram could
//! be damaged into.

// A test's helpers may fail as the test itself may.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use ceilometer_ha::model::{
    Identity, Meter, MeterType, Reading, Received, Sample, Secret, UtcTime, Value, Volume,
};
use ceilometer_ha::wire::pytext::{self, Dialect};
use ceilometer_ha::wire::{self, Refusal, msgpack, signature};
use proptest::prelude::*;
use serde_json::Value as Json;

/// One line of `udp.jsonl`: what a real sender put into a datagram.
struct Golden {
    name: String,
    datagram: Vec<u8>,
    secret: Secret,
    message: Json,
}

static GOLDENS: LazyLock<Vec<Golden>> = LazyLock::new(|| {
    let lines = include_str!("fixtures/udp.jsonl").lines();
    lines.map(|line| golden(&parse(line))).collect()
});

fn golden(case: &Json) -> Golden {
    Golden {
        name: case["name"].as_str().unwrap().to_owned(),
        datagram: unhex(case["datagram_hex"].as_str().unwrap()),
        secret: Secret::new(case["secret"].as_str().unwrap()),
        message: case["message"].clone(),
    }
}

/// Python writes NaN and the infinities into JSON as bare words; here they become strings.
fn parse(line: &str) -> Json {
    let mut json = String::new();
    // Every other part is inside a string; escaped quotes are hidden from the division, and no
    // golden string ends with a backslash.
    for (index, part) in line.replace("\\\"", "\u{1}").split('"').enumerate() {
        let is_string = index % 2 == 1;
        let word = |word: &str| format!("\"float {word}\"");
        json += &match (is_string, part) {
            (true, text) => format!("\"{}\"", text.replace('\u{1}', "\\\"")),
            (false, bare) => bare
                .replace("NaN", &word("NaN"))
                .replace("Infinity", &word("Infinity"))
                .replace(&format!("-{}", word("Infinity")), &word("-Infinity")),
        };
    }
    serde_json::from_str(&json).unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// The messages of a datagram, as maps.
fn decoded(datagram: &[u8]) -> Vec<Result<Value, Refusal>> {
    let own = |message: msgpack::Message<'_>| {
        let entries = message.into_iter();
        let entries = entries.map(|(key, value)| (key.into_owned(), value));
        Value::Map(entries.collect())
    };
    let messages = msgpack::messages(datagram).into_iter();
    messages.map(|message| message.map(own)).collect()
}

fn by_name(name: &str) -> &'static Golden {
    GOLDENS.iter().find(|case| case.name == name).unwrap()
}

/// Whether a decoded value is what the golden JSON says. Doubles may differ by the JSON reader's
/// own rounding; their exact bits are under the signature.
fn is_same(value: &Value, json: &Json) -> bool {
    match (value, json) {
        (Value::Null, Json::Null) => true,
        (Value::Bool(ours), Json::Bool(theirs)) => ours == theirs,
        (Value::Int(ours), Json::Number(theirs)) => theirs.to_string() == ours.to_string(),
        (Value::Float(ours), Json::String(word)) => match word.as_str() {
            "float NaN" => ours.is_nan(),
            "float Infinity" => *ours == f64::INFINITY,
            "float -Infinity" => *ours == f64::NEG_INFINITY,
            _ => false,
        },
        (Value::Float(ours), Json::Number(theirs)) => {
            let theirs = theirs.as_f64().unwrap();
            (ours - theirs).abs() <= theirs.abs() * 1e-15
        }
        (Value::Text(ours), Json::String(theirs)) => ours == theirs,
        (Value::List(ours), Json::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| is_same(a, b))
        }
        (Value::Map(ours), Json::Object(theirs)) => {
            let same = |(key, value): &(String, Value)| {
                theirs.get(key).is_some_and(|json| is_same(value, json))
            };
            ours.len() == theirs.len() && ours.iter().all(same)
        }
        _ => false,
    }
}

#[test]
fn every_golden_datagram_decodes_to_its_message() {
    assert_eq!(GOLDENS.len(), 57);
    for case in GOLDENS.iter() {
        let messages = decoded(&case.datagram);
        assert_eq!(messages.len(), 1, "{}", case.name);
        let message = messages[0].as_ref().unwrap();
        assert!(
            is_same(message, &case.message),
            "{}: {message:?}",
            case.name
        );
    }
}

/// The old collector refuses `md_list_long`, which the old sender signed with an `L` behind every
/// number: it decodes the smaller ones as ints and prints those without. We try both. With no
/// secret the old collector takes anything; we take nothing.
#[test]
fn every_golden_datagram_verifies_but_the_unsigned_one() {
    for case in GOLDENS.iter() {
        let message = msgpack::messages(&case.datagram).remove(0).unwrap();
        let outcome = signature::verify(&message, &case.secret);
        let expected = match case.name.as_str() {
            "no_secret" => Err(Refusal::NoSignature),
            _ => Ok(()),
        };
        assert_eq!(outcome, expected, "{}", case.name);
    }
}

/// What the original stored from each datagram is what we hand to storage.
#[test]
fn what_the_original_stored_is_what_is_received() {
    let rows = include_str!("fixtures/rows-sqlite.jsonl").lines();
    for row in rows.map(parse) {
        let name = row["name"].as_str().unwrap();
        let Some(sample) = row["sample"].get(0) else {
            continue;
        };
        let case = by_name(name);
        let (received, refusals) = wire::receive(
            &case.datagram,
            &wire::Verifier::new(case.secret.clone()),
            wire::Via::Anywhere,
        );
        assert_eq!((received.len(), refusals), (1, vec![]), "{name}");
        let got = &received[0];

        assert_eq!(got.identity, None, "{name}");
        assert_eq!(got.message_id, row["message_id"], "{name}");
        assert_eq!(got.signature, sample["message_signature"], "{name}");
        let time = got.timestamp.map(UtcTime::to_sql_text);
        assert_eq!(time.as_deref(), sample["timestamp"].as_str(), "{name}");
        let volume = got.volume.filter(|volume| !volume.is_nan());
        match volume {
            Some(f64::INFINITY) => assert_eq!(sample["volume"], "float Infinity"),
            other => assert_eq!(other, sample["volume"].as_f64(), "{name}"),
        }

        let meter = &row["meter"][0];
        assert_eq!(got.meter.name, meter["name"], "{name}");
        assert_eq!(got.meter.kind.as_deref(), meter["type"].as_str(), "{name}");
        assert_eq!(got.meter.unit.as_deref(), meter["unit"].as_str(), "{name}");

        let resource = &row["resource"][0];
        assert_eq!(got.resource_id, resource["resource_id"], "{name}");
        assert_eq!(got.source, resource["source_id"], "{name}");
        assert_eq!(got.user_id.as_deref(), resource["user_id"].as_str());
        assert_eq!(got.project_id.as_deref(), resource["project_id"].as_str());
        let metadata = &case.message["resource_metadata"];
        assert!(is_same(&got.metadata, metadata), "{name}");
    }
}

#[test]
fn odd_volumes_and_times_are_carried_or_refused() {
    let outcome = |name: &str| {
        let case = by_name(name);
        let (mut received, mut refusals) = wire::receive(
            &case.datagram,
            &wire::Verifier::new(case.secret.clone()),
            wire::Via::Anywhere,
        );
        received.pop().ok_or_else(|| refusals.remove(0))
    };
    assert_eq!(outcome("volume_str").unwrap().volume, Some(3.0));
    assert_eq!(outcome("volume_none").unwrap().volume, None);
    assert_eq!(outcome("volume_bool").unwrap().volume, Some(1.0));
    assert!(outcome("volume_nan").unwrap().volume.unwrap().is_nan());
    assert_eq!(outcome("volume_inf").unwrap().volume, Some(f64::INFINITY));
    assert_eq!(outcome("timestamp_none").unwrap().timestamp, None);
    assert_eq!(outcome("resource_float").unwrap().resource_id, "1.5");
    assert_eq!(outcome("unit_none").unwrap().meter.unit, None);
    for name in ["timestamp_bad", "timestamp_empty"] {
        assert_eq!(outcome(name), Err(Refusal::BadField("timestamp")), "{name}");
    }
    assert_eq!(outcome("no_secret"), Err(Refusal::NoSignature));
}

/// Signs entries of any kind, as an odd sender could.
fn signed(mut message: Vec<(&str, Value)>, secret: &Secret) -> Vec<u8> {
    message.retain(|(_, value)| *value != Value::from("absent"));
    let signature = signature::sign(&message, secret);
    message.push((signature::KEY, signature.into()));
    let mut out = rmp::encode::ByteBuf::new();
    msgpack::write_map(&mut out, &message);
    out.into_vec()
}

/// Entries to replace, to add, or, where "absent", to leave out.
type Changes = Vec<(&'static str, Value)>;

/// A good message of ours with some changes, signed.
fn altered(changes: &[(&'static str, Value)], secret: &Secret) -> Vec<u8> {
    let mut message: Vec<(&str, Value)> = vec![
        ("source", "openstack".into()),
        ("counter_name", "m".into()),
        ("counter_type", "gauge".into()),
        ("counter_unit", "".into()),
        ("counter_volume", Value::Int(1)),
        ("user_id", Value::Null),
        ("project_id", Value::Null),
        ("resource_id", "r".into()),
        ("timestamp", "2016-05-04T03:02:01.123456".into()),
        ("resource_metadata", Value::Map(vec![])),
        ("message_id", "id".into()),
        ("ha_v", Value::Int(1)),
        ("ha_observer", "node-1".into()),
        ("ha_epoch", Value::Int(7)),
        ("ha_seq", Value::Int(9)),
    ];
    for (key, value) in changes {
        message.retain(|(other, _)| other != key);
        message.push((key, value.clone()));
    }
    signed(message, secret)
}

#[test]
fn an_identity_is_whole_or_absent() {
    let secret = Secret::new("s");
    let absent = || Value::from("absent");
    let none = || {
        let keys = ["ha_v", "ha_observer", "ha_epoch", "ha_seq"];
        keys.map(|key| (key, absent())).to_vec()
    };
    let whole = Identity {
        observer: "node-1".to_owned(),
        epoch: 7,
        seq: 9,
    };
    let cases: [(Changes, Result<Option<Identity>, Refusal>); 15] = [
        (vec![], Ok(Some(whole.clone()))),
        (none(), Ok(None)),
        (
            vec![("ha_v", Value::Int(2)), ("ha_future", Value::Null)],
            Ok(Some(whole)),
        ),
        (vec![("ha_v", absent())], Err(Refusal::BadIdentity)),
        (vec![("ha_observer", absent())], Err(Refusal::BadIdentity)),
        (vec![("ha_epoch", absent())], Err(Refusal::BadIdentity)),
        (vec![("ha_seq", absent())], Err(Refusal::BadIdentity)),
        (vec![("ha_observer", "".into())], Err(Refusal::BadIdentity)),
        (
            vec![("ha_observer", Value::Null)],
            Err(Refusal::BadIdentity),
        ),
        (
            vec![("ha_epoch", Value::Int(-1))],
            Err(Refusal::BadIdentity),
        ),
        (
            vec![("ha_epoch", Value::Bool(true))],
            Err(Refusal::BadIdentity),
        ),
        (vec![("ha_seq", Value::Int(0))], Err(Refusal::BadIdentity)),
        (
            vec![("ha_seq", Value::Float(1.0))],
            Err(Refusal::BadIdentity),
        ),
        (
            vec![("ha_v", Value::Int(0))],
            Err(Refusal::UnsupportedVersion),
        ),
        (vec![("ha_v", "1".into())], Err(Refusal::UnsupportedVersion)),
    ];
    for (changes, expected) in cases {
        let (received, refusals) = wire::receive(
            &altered(&changes, &secret),
            &wire::Verifier::new(secret.clone()),
            wire::Via::Anywhere,
        );
        let identity = received.into_iter().next().map(|message| message.identity);
        assert_eq!(identity.ok_or_else(|| refusals[0]), expected, "{changes:?}");
    }
}

/// The signature covers names and values without separators; the same text cut elsewhere must not
/// make a new observer or a new path out of an authentic message.
#[test]
fn an_entry_that_swallowed_its_neighbour_is_refused() {
    let secret = Secret::new("s");
    let ours = [("ha_path", "udp://h:1".into()), ("ha_proof", "".into())];
    let datagram = altered(&ours, &secret);
    assert_eq!(
        wire::receive(
            &datagram,
            &wire::Verifier::new(secret.clone()),
            wire::Via::Anywhere
        )
        .1,
        []
    );
    let mut message = match decoded(&datagram).remove(0) {
        Ok(Value::Map(entries)) => BTreeMap::from_iter(entries),
        other => unreachable!("{other:?}"),
    };
    let refusals = |message: &BTreeMap<String, Value>| {
        let message: Vec<_> = message.clone().into_iter().collect();
        wire::accept(
            message,
            &wire::Verifier::new(secret.clone()),
            wire::Via::Anywhere,
        )
        .err()
    };
    message.remove("ha_proof");
    message.insert("ha_path".to_owned(), "udp://h:1ha_proof".into());
    assert_eq!(refusals(&message), Some(Refusal::BadField("ha_path")));
    message.remove("ha_path");
    let observer = "node-1ha_pathudp://h:1ha_proof";
    message.insert("ha_observer".to_owned(), observer.into());
    assert_eq!(refusals(&message), Some(Refusal::BadIdentity));
}

#[test]
fn each_standard_key_is_needed_and_needs_a_meaning() {
    let secret = Secret::new("s");
    let keys = [
        "source",
        "counter_name",
        "counter_type",
        "counter_unit",
        "counter_volume",
        "user_id",
        "project_id",
        "resource_id",
        "timestamp",
        "resource_metadata",
        "message_id",
    ];
    for key in keys {
        let refusal_of = |value: Value| {
            let datagram = altered(&[(key, value)], &secret);
            wire::receive(
                &datagram,
                &wire::Verifier::new(secret.clone()),
                wire::Via::Anywhere,
            )
            .1
            .pop()
        };
        let missing = refusal_of("absent".into());
        assert_eq!(missing, Some(Refusal::MissingField(key)));
        let of_a_list = refusal_of(Value::List(vec![]));
        let is_metadata = key == "resource_metadata";
        assert_eq!(of_a_list.is_none(), is_metadata, "{key}");
        let of_null = refusal_of(Value::Null);
        let needs_a_value = ["source", "counter_name", "resource_id", "message_id"];
        assert_eq!(of_null.is_some(), needs_a_value.contains(&key), "{key}");
    }
    let bad_path = altered(&[("ha_path", Value::Int(1))], &secret);
    let refusals = wire::receive(
        &bad_path,
        &wire::Verifier::new(secret.clone()),
        wire::Via::Anywhere,
    )
    .1;
    assert_eq!(refusals, [Refusal::BadField("ha_path")]);
}

#[test]
fn a_message_is_not_read_before_it_is_verified() {
    let unsigned = altered(&[("timestamp", "yesterday".into())], &Secret::new(""));
    let refusals = wire::receive(
        &unsigned,
        &wire::Verifier::new(Secret::new("s")),
        wire::Via::Anywhere,
    )
    .1;
    assert_eq!(refusals, [Refusal::NoSignature]);
    let by_another = altered(&[("timestamp", "yesterday".into())], &Secret::new("other"));
    let refusals = wire::receive(
        &by_another,
        &wire::Verifier::new(Secret::new("s")),
        wire::Via::Anywhere,
    )
    .1;
    assert_eq!(refusals, [Refusal::BadSignature]);
}

#[test]
fn one_bad_message_costs_one_message() {
    let secret = Secret::new("s");
    let good = altered(&[], &secret);
    let forged = altered(&[], &Secret::new("other"));
    let datagram = [b"\x94\x05".as_slice(), &good, &forged, &good].concat();
    let (received, refusals) = wire::receive(
        &datagram,
        &wire::Verifier::new(secret.clone()),
        wire::Via::Anywhere,
    );
    assert_eq!(received.len(), 2);
    assert_eq!(refusals, [Refusal::NotAMap, Refusal::BadSignature]);
}

// Damage.

/// Where in the datagram the signature's 64 digits begin.
fn signature_at(case: &Golden) -> usize {
    let signature = case.message[signature::KEY].as_str().unwrap().as_bytes();
    let mut windows = case.datagram.windows(signature.len());
    windows.position(|window| window == signature).unwrap()
}

/// Any golden datagram that is signed.
fn any_golden() -> impl Strategy<Value = &'static Golden> {
    let signed = GOLDENS.iter().filter(|case| case.name != "no_secret");
    prop::sample::select(signed.collect::<Vec<_>>())
}

impl std::fmt::Debug for Golden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// Whether a damaged datagram still says what it said: one NaN is as good as another, and so is
/// every spelling of a length. Of a double an old sender signs twelve digits.
fn says_the_same(damaged: &[u8], case: &Golden) -> bool {
    let said = |bytes: &[u8]| {
        decoded(bytes)
            .into_iter()
            .map(|message| message.map(blurred))
    };
    said(damaged).eq(said(&case.datagram))
}

fn blurred(value: Value) -> Value {
    match value {
        Value::Float(_) => {
            let mut text = String::new();
            pytext::write_str(&mut text, &value, Dialect::Old);
            Value::Text(text)
        }
        Value::List(items) => Value::List(items.into_iter().map(blurred).collect()),
        Value::Map(entries) => {
            let entries = entries.into_iter();
            Value::Map(entries.map(|(key, value)| (key, blurred(value))).collect())
        }
        other => other,
    }
}

/// The bits of a double behind its twelfth digit are not under an old sender's signature. A
/// current one's covers them all.
#[test]
fn an_old_signature_covers_twelve_digits_of_a_double() {
    let case = by_name("volume_0.1+0.2");
    let double = (0.1f64 + 0.2).to_be_bytes();
    let mut windows = case.datagram.windows(double.len());
    let at = windows.position(|window| window == double).unwrap();
    let taken = |byte: usize| {
        let mut damaged = case.datagram.clone();
        damaged[at + byte] ^= 1;
        wire::receive(
            &damaged,
            &wire::Verifier::new(case.secret.clone()),
            wire::Via::Anywhere,
        )
        .0
        .len()
    };
    assert_eq!(
        [0, 1, 2, 3, 4, 5, 6, 7].map(taken),
        [0, 0, 0, 0, 0, 0, 1, 1]
    );
}

proptest! {
    #[test]
    fn a_flipped_signature_never_verifies(case in any_golden(), digit in 0usize..64, mask in 1u8..) {
        let mut damaged = case.datagram.clone();
        damaged[signature_at(case) + digit] ^= mask;
        prop_assert_eq!(wire::receive(&damaged, &wire::Verifier::new(case.secret.clone()), wire::Via::Anywhere).0, vec![]);
    }

    #[test]
    fn a_flipped_byte_never_verifies(
        case in any_golden(),
        at in any::<prop::sample::Index>(),
        mask in 1u8..,
    ) {
        let mut damaged = case.datagram.clone();
        damaged[at.index(case.datagram.len())] ^= mask;
        let verified = wire::receive(&damaged, &wire::Verifier::new(case.secret.clone()), wire::Via::Anywhere).0;
        prop_assert!(verified.is_empty() || says_the_same(&damaged, case));
    }

    #[test]
    fn damaged_datagrams_are_refused_without_a_panic(
        case in any_golden(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
        tail in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut damaged = case.datagram.clone();
        for (at, byte) in changes {
            damaged[at.index(case.datagram.len())] = byte;
        }
        damaged.truncate(cut.index(damaged.len()));
        damaged.extend(tail);
        let (received, refusals) = wire::receive(&damaged, &wire::Verifier::new(case.secret.clone()), wire::Via::Anywhere);
        prop_assert!(!refusals.is_empty() || !received.is_empty() || damaged == [0x90]);
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert_eq!(wire::receive(&bytes, &wire::Verifier::new(Secret::new("s")), wire::Via::Anywhere).0, vec![]);
    }
}

#[test]
fn every_prefix_of_every_golden_datagram_is_refused() {
    for case in GOLDENS.iter() {
        for length in 0..case.datagram.len() {
            let (received, refusals) = wire::receive(
                &case.datagram[..length],
                &wire::Verifier::new(case.secret.clone()),
                wire::Via::Anywhere,
            );
            let outcome = (received.len(), refusals);
            assert_eq!(
                outcome,
                (0, vec![Refusal::NotMsgpack]),
                "{} {length}",
                case.name
            );
        }
    }
}

// Ours.

fn any_metadata_value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(|number| Value::Int(number.into())),
        any::<f64>().prop_map(Value::Float),
        (0i64..100_000_000_000, 0i32..9)
            .prop_map(|(mantissa, places)| Value::Float(mantissa as f64 / 10f64.powi(places))),
        any::<String>().prop_map(Value::Text),
    ];
    // No text and no maps in lists: their two texts differ, and no meter of ours has any.
    let listed = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(|number| Value::Int(number.into())),
        any::<f64>().prop_map(Value::Float),
    ];
    let leaf = prop_oneof![
        4 => scalar,
        1 => prop::collection::vec(listed, 0..4).prop_map(Value::List),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop::collection::btree_map(any::<String>(), inner, 0..4)
            .prop_map(|map| Value::Map(map.into_iter().collect()))
    })
}

fn any_volume() -> impl Strategy<Value = Volume> {
    prop_oneof![
        any::<i64>().prop_map(Volume::Int),
        any::<f64>().prop_map(Volume::Float),
        (0.0f64..1.0).prop_map(Volume::ratio),
        (0.0f64..5e6).prop_map(Volume::Float),
    ]
}

prop_compose! {
    fn any_sample()(
        name in "[a-z._]{1,30}",
        kind in prop::sample::select(vec![MeterType::Gauge, MeterType::Delta, MeterType::Cumulative]),
        unit in any::<String>(),
        volume in any_volume(),
        resource_id in any::<String>(),
        user_id in any::<Option<String>>(),
        project_id in any::<Option<String>>(),
        micros in 0i64..4_000_000_000_000_000,
        metadata in prop::collection::btree_map(any::<String>(), any_metadata_value(), 0..6),
    ) -> Sample {
        Sample {
            meter: Meter { name: name.into(), kind, unit: unit.into() },
            volume,
            resource_id,
            user_id,
            project_id,
            timestamp: UtcTime::from_unix_micros(micros),
            metadata,
        }
    }
}

prop_compose! {
    fn any_reading()(
        observer in "[a-z0-9.-]{1,20}",
        epoch in any::<u64>(),
        seq in 1u64..,
        message_id in "[0-9a-f-]{36}",
        sample in any_sample(),
    ) -> Reading {
        Reading { identity: Identity { observer, epoch, seq }, message_id, sample }
    }
}

/// The double that goes out for this one: the closest that both texts agree on.
fn is_close(sent: f64, received: f64) -> bool {
    (sent.is_nan() && received.is_nan())
        || sent == received
        || (sent - received).abs() <= 5.1e-7 + sent.abs() * 1e-11
}

fn is_close_value(sent: &Value, received: &Value) -> bool {
    match (sent, received) {
        (Value::Float(sent), Value::Float(received)) => is_close(*sent, *received),
        (Value::Float(sent), Value::Int(received)) => is_close(*sent, *received as f64),
        (Value::List(sent), Value::List(received)) => {
            format!("{sent:?}") == format!("{received:?}")
        }
        (Value::Map(sent), Value::Map(received)) => {
            let pairs = sent.iter().zip(received);
            sent.len() == received.len()
                && pairs.into_iter().all(|((key, sent), (other, received))| {
                    key == other && is_close_value(sent, received)
                })
        }
        (sent, received) => sent == received,
    }
}

fn check_content(reading: Reading, path: &str, received: &Received) {
    let sample = reading.sample;
    assert_eq!(received.identity.as_ref(), Some(&reading.identity));
    assert_eq!(received.path.as_deref(), Some(path));
    assert_eq!(received.message_id, reading.message_id);
    assert_eq!(received.source, "openstack");
    assert_eq!(received.meter.name, sample.meter.name);
    assert_eq!(
        received.meter.kind.as_deref(),
        Some(sample.meter.kind.as_str())
    );
    assert_eq!(
        received.meter.unit.as_deref(),
        Some(sample.meter.unit.as_ref())
    );
    assert!(is_close(sample.volume.as_f64(), received.volume.unwrap()));
    assert_eq!(received.resource_id, sample.resource_id);
    assert_eq!(received.user_id, sample.user_id);
    assert_eq!(received.project_id, sample.project_id);
    assert_eq!(received.timestamp, Some(sample.timestamp));
    let metadata = Value::Map(sample.metadata.into_iter().collect());
    assert!(is_close_value(&metadata, &received.metadata));
}

fn texts(message: &[(String, Value)], dialect: Dialect) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for (key, value) in message {
        match value {
            Value::Map(inner) => {
                for (below, text) in self::texts(inner, dialect) {
                    texts.insert(format!("{key}:{below}"), text);
                }
            }
            scalar => {
                let text = texts.entry(key.clone()).or_default();
                pytext::write_str(text, scalar, dialect);
            }
        }
    }
    texts
}

proptest! {
    #[test]
    fn a_reading_arrives_as_it_was(reading in any_reading()) {
        let secret = Secret::new("s");
        let path = "udp://192.0.2.6:4953";
        let datagram = wire::encode(&reading, path, &wire::Signing::new("openstack", secret.clone()));
        let (received, refusals) = wire::receive(&datagram, &wire::Verifier::new(secret.clone()), wire::Via::Anywhere);
        prop_assert_eq!((received.len(), refusals), (1, vec![]));
        check_content(reading, path, &received[0]);
    }

    #[test]
    fn old_and_current_verifiers_read_the_same_text(reading in any_reading()) {
        let datagram = wire::encode(&reading, "p", &wire::Signing::new("openstack", Secret::new("s")));
        let message = decoded(&datagram).remove(0).unwrap();
        let message = message.as_map().unwrap();
        let (old, current) = (texts(message, Dialect::Old), texts(message, Dialect::Current));
        prop_assert_eq!(old, current);
    }

    #[test]
    fn packing_keeps_order_and_limit(
        sizes in prop::collection::vec(1usize..300, 0..600),
        limit in 1usize..1500,
    ) {
        let maps: Vec<_> = sizes.into_iter().map(small_message).collect();
        let expected: Vec<_> = maps.iter().flat_map(|map| decoded(map)).collect();
        let mut unpacked = Vec::new();
        for datagram in wire::pack(maps, limit) {
            let messages = decoded(&datagram.bytes);
            prop_assert!(datagram.bytes.len() <= limit || messages.len() == 1);
            prop_assert_eq!(datagram.messages, messages.len());
            unpacked.extend(messages);
        }
        prop_assert_eq!(unpacked, expected);
    }
}

/// A map of about this many bytes.
fn small_message(size: usize) -> Vec<u8> {
    let mut out = rmp::encode::ByteBuf::new();
    let entry = ("k".to_owned(), Value::Text("x".repeat(size)));
    msgpack::write_map(&mut out, &[entry]);
    out.into_vec()
}

#[test]
fn packing_wastes_no_datagram() {
    let one = small_message(10);
    let three = wire::pack(vec![one.clone(); 3], 1 + 2 * one.len());
    assert_eq!(three.len(), 2);
    assert_eq!(three[1].bytes, one, "one map alone goes as a map");
    let large = small_message(100);
    let lone = wire::pack(vec![one.clone(), large.clone(), one.clone()], 50);
    let lone: Vec<Vec<u8>> = lone.into_iter().map(|datagram| datagram.bytes).collect();
    assert_eq!(lone, [one.clone(), large, one]);
}
