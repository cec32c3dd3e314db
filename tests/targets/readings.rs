//! Datagrams, the messages in them, and what becomes a message: the XML of domains.

use std::time::Duration;

use ceilometer_ha::model::{
    Identity, Metadata, Reading, Received, Sample, Secret, UtcTime, Value, Volume, meters,
};
use ceilometer_ha::pipeline::{Emitter, Reserved};
use ceilometer_ha::pollsters::libvirt::domain::{self, Domain, Properties};
use ceilometer_ha::wire::pytext::{self, Dialect};
use ceilometer_ha::wire::{self, Refusal, envelope, msgpack, signature};

const SECRET: &str = "a shared secret";
/// The longest payload that UDP over IPv4 carries.
const PAYLOAD_MAX: usize = 65_507;
/// What `pack` is given, as a publisher on Ethernet does.
const LIMIT: usize = 1_472;

type Entries = Vec<(String, Value)>;

/// Bytes as they come by UDP, through all of the receive path. An attacker without the secret ends
/// at the signature, so what decodes is signed as well and taken once more.
pub(super) fn datagram(bytes: &[u8]) {
    let secret = Secret::new(SECRET);
    let messages = msgpack::messages(bytes);
    assert!(messages.len() <= msgpack::MESSAGES_MAX + 1);
    let (received, refusals) = wire::receive(
        bytes,
        &wire::Verifier::new(secret.clone()),
        wire::Via::Anywhere,
    );
    assert_eq!(received.len() + refusals.len(), messages.len());
    received.iter().for_each(check_received);
    let (forged, _) = wire::receive(
        bytes,
        &wire::Verifier::new(Secret::new("another secret")),
        wire::Via::Anywhere,
    );
    assert!(forged.is_empty() || received.is_empty());

    let messages = messages.into_iter().flatten().map(own);
    let signed: Vec<Entries> = messages
        .flat_map(|message| [sign(message.clone()), sign(completed(message))])
        .collect();
    let taken: Vec<Received> = signed.iter().filter_map(accept).collect();
    taken.iter().for_each(check_received);
    check_transport(&signed, &taken);
}

/// Bytes as they come from a message broker. As with datagrams, what decodes is signed as well, and taken
/// once more, alone and in a body of ours.
pub(super) fn amqp_body(bytes: &[u8]) {
    let verifier = wire::Verifier::new(Secret::new(SECRET));
    let via = wire::Via::Topic("metering_ha");
    let (received, refusals) = wire::receive_body(bytes, &verifier, via);
    received.iter().for_each(check_received);
    let body = match envelope::open(bytes) {
        Ok(body) => body,
        Err(refusal) => {
            assert_eq!(refusals, [refusal]);
            return assert!(received.is_empty());
        }
    };
    let messages: Vec<_> = body.messages().collect();
    assert!(messages.len() <= envelope::BODY_MESSAGES_MAX + 1);
    assert_eq!(received.len() + refusals.len(), messages.len());
    for message in messages.into_iter().flatten().map(own) {
        let [alone, whole] = [sign(message.clone()), sign(completed(message))];
        let taken = [&alone, &whole].map(accept);
        taken.iter().flatten().for_each(check_received);
        check_body(&[alone, whole]);
    }
}

/// What is put into a body comes out of it.
fn check_body(messages: &[Entries]) {
    let notification = envelope::Notification {
        host: "h",
        event_type: "t",
        id: 1,
        at: UtcTime::from_unix_micros(0),
    };
    // NaN and the infinities are read, and never written.
    let Some(bytes) = envelope::encode(&notification, messages) else {
        return;
    };
    let Ok(body) = envelope::open(&bytes) else {
        return assert!(bytes.len() > envelope::BODY_BYTES_MAX);
    };
    let read: Vec<Entries> = body.messages().map(|read| own(read.unwrap())).collect();
    assert_eq!(read.len(), messages.len());
    for (read, sent) in read.into_iter().zip(messages) {
        assert!(is_same(&Value::Map(read), &Value::Map(sent.clone())));
    }
}

/// A message of ours with the entries of another put in their places: so that each reader of a field
/// meets whatever a sender with the secret may send.
fn completed(message: Entries) -> Entries {
    let sample = sample(Metadata::new());
    let encoded = wire::encode(
        &reading(sample),
        "udp://h:1",
        &wire::Signing::new("openstack", Secret::new("x")),
    );
    let mut complete = own(msgpack::messages(&encoded).remove(0).unwrap());
    for (key, value) in message {
        complete.retain(|(known, _)| *known != key);
        complete.push((key, value));
    }
    complete
}

fn sign(mut message: Entries) -> Entries {
    message.retain(|(key, _)| key != signature::KEY);
    let signature = signature::sign(&message, &Secret::new(SECRET));
    message.push((signature::KEY.to_owned(), signature.into()));
    message
}

/// What a signed message is read as. Whatever its fields are, its signature is right, unless there is
/// too much to sign; with one digit of it changed it is wrong.
fn accept(signed: &Entries) -> Option<Received> {
    let secret = Secret::new(SECRET);
    let outcome = wire::accept(
        signed.clone(),
        &wire::Verifier::new(secret.clone()),
        wire::Via::Anywhere,
    );
    let (_, signature) = signed.last().unwrap();
    if *signature == Value::from("") {
        assert_eq!(outcome, Err(Refusal::NoSignature));
        return None;
    }
    assert_ne!(outcome, Err(Refusal::BadSignature));
    let mut forged = signed.clone();
    forged.last_mut().unwrap().1 = altered(signature.as_str().unwrap()).into();
    assert_eq!(
        wire::accept(
            forged,
            &wire::Verifier::new(secret.clone()),
            wire::Via::Anywhere
        ),
        Err(Refusal::BadSignature),
        "a changed signature is taken"
    );
    outcome.ok()
}

fn altered(signature: &str) -> String {
    let other = if signature.starts_with('0') { "1" } else { "0" };
    format!("{other}{}", &signature[1..])
}

fn check_received(message: &Received) {
    let hidden = |text: &str| text.contains("ha_path") || text.contains("ha_proof");
    if let Some(identity) = &message.identity {
        assert!(identity.seq > 0 && !identity.observer.is_empty());
        assert!(!hidden(&identity.observer));
    }
    assert!(!message.path.as_deref().is_some_and(hidden));
    assert_eq!(message.signature.len(), 64);
    if let Some(time) = message.timestamp {
        assert_eq!(UtcTime::parse(&time.to_string()).unwrap(), time);
    }
}

/// What was packed into datagrams arrives whole and in order.
fn check_transport(signed: &[Entries], taken: &[Received]) {
    let encoded: Vec<Vec<u8>> = signed.iter().map(encoded).collect();
    if encoded
        .iter()
        .any(|bytes| bytes.len() > msgpack::DATAGRAM_BYTES_MAX)
    {
        return;
    }
    let mut arrived = Vec::new();
    let mut count = 0;
    for datagram in wire::pack(encoded, LIMIT) {
        count += datagram.messages;
        arrived.extend(
            wire::receive(
                &datagram.bytes,
                &wire::Verifier::new(Secret::new(SECRET)),
                wire::Via::Anywhere,
            )
            .0,
        );
    }
    assert_eq!(count, signed.len());
    assert_eq!(arrived.len(), taken.len());
    for (arrived, sent) in arrived.iter().zip(taken) {
        assert_eq!(arrived.signature, sent.signature);
        assert!(is_same(&arrived.metadata, &sent.metadata));
    }
}

/// A message alone: what is decoded is encoded to bytes that decode to the same, its signature
/// doesn't go by the order of its entries, texts that are called the same are, and as metadata of a
/// reading of ours it comes through.
pub(super) fn message(bytes: &[u8]) {
    for message in msgpack::messages(bytes).into_iter().flatten().map(own) {
        let bytes = encoded(&message);
        match msgpack::messages(&bytes).remove(0) {
            Ok(again) => assert!(is_same(
                &Value::Map(own(again)),
                &Value::Map(message.clone())
            )),
            Err(refusal) => assert_eq!(refusal, Refusal::TooLarge),
        }
        check_texts(&message);
        let secret = Secret::new(SECRET);
        let signature = signature::sign(&message, &secret);
        let reversed: Entries = message.iter().rev().cloned().collect();
        assert_eq!(signature::sign(&reversed, &secret), signature);
        check_as_metadata(message);
    }
    check_time(&String::from_utf8_lossy(bytes));
}

fn check_texts(message: &Entries) {
    for (_, value) in message {
        let text = |dialect| {
            let mut text = String::new();
            pytext::write_str(&mut text, value, dialect);
            text
        };
        let current = text(Dialect::Current);
        if pytext::is_same_in_all(value) {
            assert_eq!(text(Dialect::Old), current);
            assert_eq!(text(Dialect::OldLong), current);
        }
        if let Value::Float(number) = value {
            let back: f64 = current.parse().unwrap();
            assert!(back.to_bits() == number.to_bits() || back.is_nan());
        }
    }
}

fn check_as_metadata(message: Entries) {
    let sent = reading(sample(message.into_iter().collect()));
    let encoded = wire::encode(
        &sent,
        "udp://h:1",
        &wire::Signing::new("openstack", Secret::new(SECRET)),
    );
    let (mut received, refusals) = wire::receive(
        &encoded,
        &wire::Verifier::new(Secret::new(SECRET)),
        wire::Via::Anywhere,
    );
    let Some(received) = received.pop() else {
        let too_much = [
            Refusal::TooLarge,
            Refusal::TooDeep,
            Refusal::TooManyEntries,
            Refusal::NoSignature,
        ];
        assert!(too_much.contains(&refusals[0]), "{}", refusals[0]);
        return;
    };
    assert_eq!(received.identity, Some(sent.identity));
    let metadata = received.metadata.as_map().unwrap();
    assert_eq!(metadata.len(), sent.sample.metadata.len());
    for (key, value) in metadata {
        check_agreed(value);
        let sent = &sent.sample.metadata[key];
        let is_text = |value: &Value| matches!(value, Value::Text(_));
        assert_eq!(is_text(value), is_text(sent));
    }
}

/// Old and current verifiers print it alike; but for lists, about which they never agree.
fn check_agreed(value: &Value) {
    match value {
        Value::Map(entries) => entries.iter().for_each(|(_, value)| check_agreed(value)),
        Value::List(_) => {}
        alone => {
            let (mut old, mut current) = (String::new(), String::new());
            pytext::write_str(&mut old, alone, Dialect::Old);
            pytext::write_str(&mut current, alone, Dialect::Current);
            assert_eq!(old, current);
        }
    }
}

fn check_time(text: &str) {
    if let Ok(time) = UtcTime::parse(text) {
        assert_eq!(UtcTime::parse(&time.to_string()).unwrap(), time);
        assert_eq!(UtcTime::parse(&time.to_sql_text()).unwrap(), time);
    }
}

/// A domain's XML: what is read is within its bounds, and what is said about the instance and about its
/// interfaces fits a datagram and is taken.
pub(super) fn nova_xml(bytes: &[u8]) {
    let Ok(domain) = domain::parse(&String::from_utf8_lossy(bytes)) else {
        return;
    };
    check_domain(&domain);
    let reserved = Reserved {
        namespaces: vec!["metering.".to_owned()],
        keys: Vec::new(),
        length: 256,
    };
    let metadata = domain.instance_metadata("node-1", 1, &reserved);
    check_sent(&domain, metadata.clone());
    for interface in &domain.interfaces {
        let mut metadata = metadata.clone();
        metadata.extend(interface.metadata());
        check_sent(&domain, metadata);
    }
}

fn check_domain(domain: &Domain) {
    is_short(&domain.uuid);
    is_short(&domain.name);
    assert!(domain.disks.len() <= 1024 && domain.interfaces.len() <= 1024);
    for disk in &domain.disks {
        is_short(&disk.device);
    }
    for interface in &domain.interfaces {
        is_short(&interface.name);
        is_short(&interface.mac);
        check_properties(&interface.parameters);
    }
    if let Some(nova) = &domain.nova {
        is_short(&nova.user_id);
        is_short(&nova.project_id);
        is_short(nova.display_name.as_deref().unwrap_or_default());
        is_short(&nova.flavor.name);
        nova.image_meta.iter().for_each(check_properties);
        nova.flavor.extra_specs.iter().for_each(check_properties);
    }
}

fn is_short(text: &str) {
    assert!(text.chars().count() <= 255, "{text}");
}

fn check_properties(properties: &Properties) {
    assert!(properties.len() <= 128);
    for (key, text) in properties {
        is_short(key);
        is_short(text.as_deref().unwrap_or_default());
    }
}

fn check_sent(domain: &Domain, metadata: Metadata) {
    let mut sample = sample(metadata);
    sample.resource_id.clone_from(&domain.uuid);
    if let Some(nova) = &domain.nova {
        sample.user_id = Some(nova.user_id.clone());
        sample.project_id = Some(nova.project_id.clone());
    }
    let emitter = Emitter::new("node-1", 7, Some("blue"), &[]);
    emitter.emit(Duration::from_secs(30), vec![sample], |readings| {
        for reading in readings {
            let encoded = wire::encode(
                &reading,
                "udp://h:1",
                &wire::Signing::new("openstack", Secret::new(SECRET)),
            );
            assert!(encoded.len() <= PAYLOAD_MAX, "{} bytes", encoded.len());
            let (received, refusals) = wire::receive(
                &encoded,
                &wire::Verifier::new(Secret::new(SECRET)),
                wire::Via::Anywhere,
            );
            assert_eq!(received.len(), 1, "{refusals:?}");
        }
    });
}

fn sample(metadata: Metadata) -> Sample {
    let time = UtcTime::from_unix_micros(1_462_330_921_123_456);
    Sample::new(meters::INSTANCE, Volume::Int(1), "r", time, metadata)
}

fn reading(sample: Sample) -> Reading {
    Reading {
        identity: Identity {
            observer: "node-1".to_owned(),
            epoch: 7,
            seq: 9,
        },
        message_id: "id".to_owned(),
        sample,
    }
}

fn own(message: msgpack::Message<'_>) -> Entries {
    let owned = message.into_iter();
    owned
        .map(|(key, value)| (key.into_owned(), value))
        .collect()
}

fn encoded(message: &Entries) -> Vec<u8> {
    let mut out = rmp::encode::ByteBuf::new();
    msgpack::write_map(&mut out, message);
    out.into_vec()
}

/// As `==`, but a NaN is the same as itself.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
        }
        (Value::Map(a), Value::Map(b)) => {
            let same = |((a, one), (b, other)): (&(String, Value), &(String, Value))| {
                a == b && is_same(one, other)
            };
            a.len() == b.len() && a.iter().zip(b).all(same)
        }
        _ => a == b,
    }
}
