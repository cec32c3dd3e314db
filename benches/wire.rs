//! What it costs to take one datagram in: verify its signature and read it. Ceilometer's own code
//! does the same for the same datagram in the same run, as the peer.

// A benchmark is the one kind of program here whose business is to read a clock.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

#[path = "../tests/ceilometer/mod.rs"]
mod ceilometer;

use std::hint::black_box;
use std::time::Instant;

use ceilometer_ha::model::{
    Identity, Metadata, Reading, Sample, Secret, UtcTime, Value, Volume, meters,
};
use ceilometer_ha::wire;
use ceilometer_ha::wire::keys::KeyRing;

/// What taking one datagram in may cost.
const LIMIT_US: f64 = 4.0;
/// The same with a proof.
const LIMIT_PROVEN_US: f64 = 6.0;
/// Runs, of which the median counts.
const RUNS: usize = 9;
/// Datagrams in one run: long enough that a clock's resolution is nothing.
const COUNT: u32 = 50_000;
/// Messages in a body, as a small round has them.
const BODY_MESSAGES: u32 = 20;
/// Bodies in one run.
const BODY_COUNT: u32 = COUNT / BODY_MESSAGES;
/// The peer is slower and takes fewer.
const PEER_COUNT: u32 = 5_000;

fn main() {
    let secret = ceilometer::secret();
    let reading = reading();
    let path = "udp://192.0.2.6:4953";
    let signing = wire::Signing::new("openstack", secret.clone());
    let verifier = wire::Verifier::new(secret.clone());
    let datagram = wire::encode(&reading, path, &signing);
    let bytes = datagram.len();
    println!("a datagram of {bytes} bytes, median of {RUNS} runs:");

    let ours = median_us(COUNT, || receive(&datagram, &verifier));
    println!("verify and decode: {ours:.2} us (limit {LIMIT_US:.0} us)");
    let body = body(&reading, &signing);
    let of_body = median_us(BODY_COUNT, || {
        let (received, refusals) = wire::receive_body(&body, &verifier, wire::Via::Topic("t"));
        received.len() + refusals.len()
    }) / f64::from(BODY_MESSAGES);
    println!(
        "the same in an AMQP body of {BODY_MESSAGES}: {of_body:.2} us a message, {:.2} times",
        of_body / ours
    );
    let another = wire::Verifier::new(Secret::new("another secret"));
    let refused = median_us(COUNT, || receive(&datagram, &another));
    println!("refuse a forged one: {refused:.2} us");
    let encode = median_us(COUNT, || wire::encode(&reading, path, &signing).len());
    println!("sign and encode: {encode:.2} us");

    prove(&reading, &secret);

    match peer_us(&datagram) {
        Ok(peer) => println!(
            "Ceilometer's verify and decode: {peer:.2} us, {:.1} times ours",
            peer / ours
        ),
        Err(problem) => println!("Ceilometer was not measured: {problem}"),
    }
}

/// The same with a proof by the host's own key, which is at hand after the first message.
fn prove(reading: &Reading, secret: &Secret) {
    let keys = KeyRing::parse(&format!("master 1 {}", "07".repeat(32))).unwrap();
    let key = keys.newest(&reading.identity.observer);
    let signing = wire::Signing::new("openstack", secret.clone()).proving(key);
    let path = "udp://192.0.2.6:4953";
    let policy = wire::Policy {
        keys,
        require_proof: true,
        ..wire::Policy::default()
    };
    let verifier = wire::Verifier::with(secret.clone(), policy, &wire::Proven::default());
    let via = wire::Via::Udp("192.0.2.6:4953".parse().unwrap());
    let datagram = wire::encode(reading, path, &signing);
    assert_eq!(wire::receive(&datagram, &verifier, via).0.len(), 1);
    let ours = median_us(COUNT, || wire::receive(&datagram, &verifier, via).0.len());
    println!("verify and decode with proof: {ours:.2} us (limit {LIMIT_PROVEN_US:.0} us)");
    let encode = median_us(COUNT, || wire::encode(reading, path, &signing).len());
    println!("sign and encode with proof: {encode:.2} us");
}

fn receive(datagram: &[u8], verifier: &wire::Verifier) -> usize {
    let (received, refusals) = wire::receive(datagram, verifier, wire::Via::Anywhere);
    received.len() + refusals.len()
}

/// The same reading as often as a body has messages.
fn body(reading: &Reading, signing: &wire::Signing) -> Vec<u8> {
    let message = wire::signed(reading, "notifier://?topic=t", signing);
    let notification = wire::envelope::Notification {
        host: "compute-017.example.org",
        event_type: "t",
        id: 1,
        at: reading.sample.timestamp,
    };
    let messages: Vec<wire::Message> = (0..BODY_MESSAGES).map(|_| message.clone()).collect();
    wire::envelope::encode(&notification, &messages).unwrap_or_default()
}

/// The median time of one call, in microseconds.
fn median_us(count: u32, mut call: impl FnMut() -> usize) -> f64 {
    let mut runs: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..count {
                black_box(call());
            }
            start.elapsed().as_secs_f64() / f64::from(count) * 1e6
        })
        .collect();
    runs.sort_by(f64::total_cmp);
    runs.get(RUNS / 2).copied().unwrap_or(f64::NAN)
}

fn peer_us(datagram: &[u8]) -> Result<f64, String> {
    let hex = ceilometer::hex(datagram);
    let answer = ceilometer::run(&["time", &PEER_COUNT.to_string()], &hex)?;
    answer.as_f64().ok_or(format!("verify.py said {answer}"))
}

/// A reading whose datagram has about 600 bytes, as a gateway's has with its metadata.
fn reading() -> Reading {
    let cluster = vec![("cluster".to_owned(), Value::from("rack-7"))];
    let metadata = [
        ("node", Value::from("compute-017.example.org")),
        ("cluster", Value::from("rack-7")),
        ("user_metadata", Value::Map(cluster)),
        ("gateway", Value::from("192.0.2.1")),
    ];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value));
    Reading {
        identity: Identity {
            observer: "compute-017.example.org".to_owned(),
            epoch: 1_462_330_921_123,
            seq: 86_400,
        },
        message_id: "3f2b6a3e-11a5-11e6-8a5e-525400a1b2c3".to_owned(),
        sample: Sample {
            meter: meters::GATEWAY_LOSS_RATIO,
            volume: Volume::ratio(0.25),
            resource_id: "compute-017.example.org/192.0.2.1".to_owned(),
            user_id: None,
            project_id: None,
            timestamp: UtcTime::from_unix_micros(1_462_330_921_123_456),
            metadata: Metadata::from(metadata),
        },
    }
}
