//! The wire against current Ceilometer's own code: what we sign verifies there, and what it signs
//! verifies here.

// A test's helpers may fail as the test itself may.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "ceilometer/mod.rs"]
mod ceilometer;

use ceilometer_ha::model::{Identity, Metadata, Reading, Sample, UtcTime, Value, Volume, meters};
use ceilometer_ha::wire;
use serde_json::Value as Json;

const PATH: &str = "udp://192.0.2.6:4953";

fn reading(seq: u64, volume: Volume, metadata: Vec<(&str, Value)>) -> Reading {
    let metadata = metadata.into_iter();
    Reading {
        identity: Identity {
            observer: "node-1".to_owned(),
            epoch: 1_462_330_921_123,
            seq,
        },
        message_id: format!("00000000-0000-11e6-8000-{seq:012x}"),
        sample: Sample {
            meter: meters::STORAGE_CONNECTIVITY,
            volume,
            resource_id: "node-1".to_owned(),
            user_id: None,
            project_id: Some("проект".to_owned()),
            timestamp: UtcTime::from_unix_micros(1_462_330_921_123_456),
            metadata: metadata
                .map(|(key, value)| (key.to_owned(), value))
                .collect::<Metadata>(),
        },
    }
}

fn map(entries: Vec<(&str, Value)>) -> Value {
    let entries = entries.into_iter();
    Value::Map(
        entries
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
    )
}

fn readings() -> Vec<Reading> {
    let floats = [
        0.0,
        1.0,
        -0.0,
        0.333_333,
        1.0 / 3.0,
        1_234.567_891,
        1e11,
        1e15,
        1e16,
        1e-9,
    ];
    let volumes = floats.map(Volume::Float).into_iter().chain([
        Volume::Int(0),
        Volume::Int(i64::MAX),
        Volume::Int(i64::MIN),
    ]);
    let mut readings: Vec<Reading> = (1..)
        .zip(volumes)
        .map(|(seq, volume)| reading(seq, volume, vec![("node", "node-1".into())]))
        .collect();
    let odd = vec![
        ("żółć", Value::from("日本語 😀 '\"\\\n")),
        ("", Value::Null),
        ("a:b", Value::Bool(true)),
        (
            "user_metadata",
            map(vec![("cluster", "rack-7".into()), ("z", map(vec![]))]),
        ),
        ("float", Value::Float(0.1 + 0.2)),
        (
            "ints",
            Value::List(vec![
                Value::Int(1),
                Value::Int(u64::MAX.into()),
                Value::Null,
            ]),
        ),
        (
            "texts",
            Value::List(vec![
                "it's".into(),
                "żółć".into(),
                map(vec![("b", Value::Int(1)), ("a", Value::Float(2.5))]),
            ]),
        ),
    ];
    readings.push(reading(100, Volume::Int(1), odd));
    readings
}

fn ask(arguments: &[&str], input: &str) -> Json {
    ceilometer::run(arguments, input).unwrap_or_else(|problem| panic!("{problem}"))
}

#[test]
fn what_we_sign_verifies_in_ceilometer() {
    let readings = readings();
    let messages: Vec<Vec<u8>> = readings
        .iter()
        .map(|reading| {
            wire::encode(
                reading,
                PATH,
                &wire::Signing::new("openstack", ceilometer::secret()),
            )
        })
        .collect();
    let list = wire::pack(messages.clone(), 65_507);
    assert_eq!(list.len(), 1);
    let datagrams = messages
        .iter()
        .chain(list.iter().map(|datagram| &datagram.bytes));
    let input: Vec<String> = datagrams.map(|bytes| ceilometer::hex(bytes)).collect();

    let answers = ask(&["check"], &input.join("\n"));
    let answers = answers.as_array().unwrap();
    let one_by_one = answers[..messages.len()].iter().map(|answer| &answer[0]);
    let in_a_list = answers[messages.len()].as_array().unwrap().iter();
    assert_eq!(in_a_list.len(), messages.len());
    let pairs = one_by_one.chain(in_a_list).zip(readings.iter().cycle());
    for (answer, reading) in pairs {
        assert_eq!(answer["verifies"], true, "{reading:?}");
        let message = &answer["message"];
        assert_eq!(message["message_id"], reading.message_id);
        assert_eq!(message["timestamp"], "2016-05-04T03:02:01.123456");
        assert_eq!(message["ha_v"], 1);
        assert_eq!(message["ha_observer"], "node-1");
        assert_eq!(message["ha_epoch"], 1_462_330_921_123u64);
        assert_eq!(message["ha_seq"], reading.identity.seq);
        assert_eq!(message["ha_path"], PATH);
        assert_eq!(message["ha_proof"], "");
    }
}

#[test]
fn what_ceilometer_signs_verifies_here() {
    let datagrams = ask(&["send"], "");
    let datagrams = datagrams.as_array().unwrap();
    assert!(datagrams.len() > 50);
    for datagram in datagrams {
        let bytes = unhex(datagram.as_str().unwrap());
        let (received, refusals) = wire::receive(
            &bytes,
            &wire::Verifier::new(ceilometer::secret()),
            wire::Via::Anywhere,
        );
        assert_eq!((received.len(), refusals), (1, vec![]), "{datagram}");
        assert_eq!(received[0].identity, None);
        assert_eq!(received[0].project_id.as_deref(), Some("проект"));
        let forged = wire::receive(
            &bytes,
            &wire::Verifier::new(ceilometer_ha::model::Secret::new("another")),
            wire::Via::Anywhere,
        );
        assert_eq!(forged.1, [wire::Refusal::BadSignature]);
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}
