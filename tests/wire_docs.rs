//! The worked example of docs/wire.md, recomputed from the page's own words: by the rules as they stand there,
//! and by our code. `BLESS=1` writes what follows from the message.

// A test's helpers may fail as the test itself may.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::PathBuf;

use ceilometer_ha::model::{Proof, Secret, UtcTime, Value};
use ceilometer_ha::wire::envelope::{self, Notification};
use ceilometer_ha::wire::keys::KeyRing;
use ceilometer_ha::wire::{self, Policy, Proven, Verifier, Via, msgpack, signature};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value as Json;
use sha2::Sha256;

/// The widest line of a wrapped block.
const WIDTH: usize = 120;
/// What names the example's notification.
const ID: u128 = 0x296a_b270_cc64_4fb6_8593_870d_b226_cc89;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/wire.md")
}

fn page() -> String {
    fs::read_to_string(path()).unwrap()
}

/// Where a block of the example stands in the page.
fn place(page: &str, name: &str) -> std::ops::Range<usize> {
    let mark = format!("<!-- example: {name} -->\n");
    let begin = page.find(&mark).unwrap_or_else(|| panic!("no {mark}")) + mark.len();
    let begin = begin + page[begin..].find('\n').unwrap() + 1;
    begin..begin + page[begin..].find("```\n<!-- end -->").unwrap()
}

fn block(page: &str, name: &str) -> String {
    page[place(page, name)].to_owned()
}

/// A block without the line ends that are for the page's width.
fn unwrapped(page: &str, name: &str) -> String {
    block(page, name).replace('\n', "")
}

fn wrapped(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let lines = characters
        .chunks(WIDTH)
        .map(|line| line.iter().collect::<String>() + "\n");
    lines.collect()
}

/// The signed text by the page's rules: keys sorted at each level, nested names joined, nothing between.
fn signed_text(prefix: &str, map: &serde_json::Map<String, Json>) -> String {
    let mut keys: Vec<&String> = map.keys().collect();
    keys.sort();
    let entry = |key: &String| {
        let name = format!("{prefix}{key}");
        match &map[key] {
            Json::Object(inner) => signed_text(&format!("{name}:"), inner),
            Json::String(text) => name + text,
            Json::Null => name + "None",
            Json::Number(number) => name + &number.to_string(),
            other => panic!("the example has no {other}"),
        }
    };
    keys.into_iter().map(entry).collect()
}

fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::String(text) => Value::from(text.as_str()),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Value::Int(whole.into()),
            None => Value::Float(number.as_f64().unwrap()),
        },
        Json::Object(map) => Value::Map(entries(map)),
        other => panic!("the example has no {other}"),
    }
}

/// Entries in sorted order.
fn entries(map: &serde_json::Map<String, Json>) -> Vec<(String, Value)> {
    let mut entries: Vec<_> = map
        .iter()
        .map(|(key, json)| (key.clone(), value(json)))
        .collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    entries
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// Bytes behind their number, which has eight bytes.
fn counted(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_be_bytes(), bytes].concat()
}

/// What is proven of a value, by the page's table.
fn proven_bytes(json: &Json) -> Vec<u8> {
    match json {
        Json::Null => b"n".to_vec(),
        Json::String(text) => [b"s", counted(text.as_bytes()).as_slice()].concat(),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => [b"i", counted(whole.to_string().as_bytes()).as_slice()].concat(),
            None => [b"d", number.as_f64().unwrap().to_be_bytes().as_slice()].concat(),
        },
        Json::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            let mut bytes = [b"m", (keys.len() as u64).to_be_bytes().as_slice()].concat();
            for key in keys {
                bytes.extend(counted(key.as_bytes()));
                bytes.extend(proven_bytes(&map[key]));
            }
            bytes
        }
        other => panic!("the example has no {other}"),
    }
}

/// The key of a host by the master of number 1, by the page's rule.
fn key_of(host: &str, master: &[u8]) -> [u8; 32] {
    let length = u32::try_from(host.len()).unwrap().to_be_bytes();
    let info = [length.as_slice(), host.as_bytes(), &1u32.to_be_bytes()];
    let mut key = [0; 32];
    let derived = hkdf::Hkdf::<Sha256>::new(Some(b"ceilometer-ha host key"), master);
    derived.expand(&info.concat(), &mut key).unwrap();
    key
}

fn mac(key: &[u8], bytes: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(bytes);
    hex(&mac.finalize().into_bytes())
}

#[test]
fn the_worked_example_follows_from_its_message() {
    let mut page = page();
    let secret = Secret::new(unwrapped(&page, "secret"));
    let message: Json = serde_json::from_str(&block(&page, "message")).unwrap();

    let key = key_of("node-1", &unhex(&unwrapped(&page, "master")));
    let bytes = [
        b"ceilometer-ha proof 1\0",
        proven_bytes(&message).as_slice(),
    ]
    .concat();
    let proof = format!("1:{}", mac(&key, &bytes));
    let mut map = message.as_object().unwrap().clone();
    map.insert("ha_proof".to_owned(), proof.as_str().into());

    let map = &map;
    let text = signed_text("", map);
    let signature = mac(secret.expose().as_bytes(), text.as_bytes());
    assert_eq!(
        signature::sign(&entries(map), &secret),
        signature,
        "our own signature is the page's"
    );

    let mut signed = entries(map);
    signed.push((signature::KEY.to_owned(), signature.as_str().into()));
    signed.sort_by(|a, b| a.0.cmp(&b.0));
    let mut datagram = rmp::encode::ByteBuf::new();
    msgpack::write_map(&mut datagram, &signed);
    let datagram = hex(&datagram.into_vec());
    let notification = Notification {
        host: "node-1",
        event_type: "metering_ha",
        id: ID,
        at: UtcTime::parse("2016-05-04T03:02:01.200000").unwrap(),
    };
    let body = envelope::encode(&notification, &[signed]).unwrap();
    let body = String::from_utf8(body).unwrap();

    for (name, expected) in [
        ("key", &hex(&key)),
        ("proven bytes", &hex(&bytes)),
        ("proof", &proof),
        ("signed text", &text),
        ("signature", &signature),
        ("datagram", &datagram),
        ("body", &body),
    ] {
        if std::env::var_os("BLESS").is_some() {
            page.replace_range(place(&page, name), &wrapped(expected));
        }
        assert_eq!(
            &unwrapped(&page, name),
            expected,
            "docs/wire.md: {name}: run the test with BLESS=1"
        );
    }
    if std::env::var_os("BLESS").is_some() {
        fs::write(path(), page).unwrap();
    }
}

#[test]
fn a_collector_takes_the_example_by_both_ways() {
    let page = page();
    let policy = Policy {
        keys: KeyRing::parse(&format!("master 1 {}", unwrapped(&page, "master"))).unwrap(),
        require_proof: true,
        ..Policy::default()
    };
    let secret = Secret::new(unwrapped(&page, "secret"));
    let verifier = Verifier::with(secret, policy, &Proven::default());
    let datagram = unhex(&unwrapped(&page, "datagram"));
    let (mut received, refusals) = wire::receive(&datagram, &verifier, Via::Anywhere);
    assert_eq!((received.len(), refusals), (1, vec![]));
    let by_udp = received.remove(0);
    assert_eq!(by_udp.evidence.proof, Proof::HostKey(1));
    let identity = by_udp.identity.as_ref().unwrap();
    assert_eq!((identity.observer.as_str(), identity.seq), ("node-1", 9));

    let body = unwrapped(&page, "body");
    let body = envelope::open(body.as_bytes()).unwrap();
    let messages: Vec<_> = body.messages().collect();
    let [Ok(message)] = <[_; 1]>::try_from(messages).unwrap() else {
        panic!("no message");
    };
    let by_broker = wire::accept(message, &verifier, Via::Anywhere).unwrap();
    assert_eq!(by_broker, by_udp);
}
