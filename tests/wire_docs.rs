//! The worked example of docs/wire.md, recomputed from the page's own words: by the rules as they stand there,
//! and by our code. `BLESS=1` writes what follows from the message.

// A test's helpers may fail as the test itself may.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::PathBuf;

use ceilometer_ha::model::{Secret, UtcTime, Value};
use ceilometer_ha::wire::envelope::{self, Notification};
use ceilometer_ha::wire::{self, Verifier, Via, msgpack, signature};
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

#[test]
fn the_worked_example_follows_from_its_message() {
    let mut page = page();
    let secret = Secret::new(unwrapped(&page, "secret"));
    let message: Json = serde_json::from_str(&block(&page, "message")).unwrap();
    let map = message.as_object().unwrap();

    let text = signed_text("", map);
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).unwrap();
    mac.update(text.as_bytes());
    let signature = hex(&mac.finalize().into_bytes());
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
    let verifier = Verifier::new(Secret::new(unwrapped(&page, "secret")));
    let datagram = unhex(&unwrapped(&page, "datagram"));
    let (mut received, refusals) = wire::receive(&datagram, &verifier, Via::Anywhere);
    assert_eq!((received.len(), refusals), (1, vec![]));
    let by_udp = received.remove(0);
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
