//! What a fleet sends: the meters of the shipped pipeline, at its pace.

use ceilometer_ha::model::{
    Identity, Metadata, Meter, Reading, Received, Sample, Secret, UtcTime, Value, Volume, meters,
};
use ceilometer_ha::wire;

use super::support::site::SECRET;

/// Compute nodes, each with two gateways.
pub(crate) const HOSTS: usize = 250;
/// Instances on each.
const INSTANCES: usize = 20;
/// Each host looks at its instances in every 30th round, as shipped: not all hosts in the same one.
const SLOW: u64 = 30;
/// In the first rounds all do, so that everything is known from then on.
pub(crate) const FULL: u64 = 2;
const EPOCH: u64 = 1_790_000_000_000;

/// All readings of these rounds, host by host.
pub(crate) fn rounds(which: impl IntoIterator<Item = u64>) -> Vec<Reading> {
    let all = which.into_iter();
    all.flat_map(|round| (0..HOSTS).flat_map(move |host| of_host(host, round)))
        .collect()
}

fn is_slow(host: usize, round: u64) -> bool {
    round < FULL || (round + host as u64).is_multiple_of(SLOW)
}

/// What a host says in one round; the heartbeat comes last.
fn samples(host: usize, round: u64) -> Vec<(Meter, String, f64)> {
    let name = host_name(host);
    let mut samples = vec![(meters::STORAGE_CONNECTIVITY, name.clone(), 1.0)];
    for gateway in ["192.0.2.1", "192.0.2.2"] {
        let resource = format!("{name}/{gateway}");
        samples.push((meters::GATEWAY_LOSS_RATIO, resource.clone(), 0.0));
        samples.push((meters::GATEWAY_RTT, resource.clone(), 0.25));
        samples.push((meters::GATEWAY_STATUS, resource, 0.0));
    }
    samples.push((meters::HYPERVISOR_CONNECTIVITY, name.clone(), 1.0));
    if is_slow(host, round) {
        let instance = |number: usize| format!("{host:08x}-0000-4000-8000-{number:012x}");
        let all = |meter: Meter| (0..INSTANCES).map(move |n| (meter.clone(), instance(n), 1.0));
        samples.extend(all(meters::INSTANCE_STATE));
        samples.push((meters::INSTANCE_ROUND, name.clone(), INSTANCES as f64));
        samples.extend(all(meters::INSTANCE));
        samples.extend(all(meters::POWER_STATE));
    }
    samples.push((meters::HEARTBEAT, name, 1.0));
    samples
}

fn of_host(host: usize, round: u64) -> Vec<Reading> {
    let before: usize = (0..round).map(|round| samples_in(host, round)).sum();
    let numbered = (before as u64 + 1..).zip(samples(host, round));
    numbered
        .map(|(seq, (meter, resource_id, volume))| Reading {
            identity: Identity {
                observer: host_name(host),
                epoch: EPOCH,
                seq,
            },
            message_id: format!("{host:08x}-11a5-11e6-8a5e-{seq:012x}"),
            sample: Sample {
                meter,
                volume: Volume::ratio(volume),
                resource_id,
                user_id: None,
                project_id: None,
                timestamp: UtcTime::from_unix_micros(
                    1_790_000_000_000_000 + i64::try_from(round).unwrap() * 1_000_000,
                ),
                metadata: metadata(host),
            },
        })
        .collect()
}

fn samples_in(host: usize, round: u64) -> usize {
    if is_slow(host, round) {
        10 + 3 * INSTANCES
    } else {
        9
    }
}

fn metadata(host: usize) -> Metadata {
    let cluster = vec![("cluster".to_owned(), Value::from("rack-7"))];
    Metadata::from([
        ("node".to_owned(), Value::from(host_name(host))),
        ("cluster".to_owned(), Value::from("rack-7")),
        ("user_metadata".to_owned(), Value::Map(cluster)),
        ("interval".to_owned(), Value::from(1.0)),
    ])
}

fn host_name(host: usize) -> String {
    format!("compute-{host:03}.example.org")
}

/// Signed and packed as an agent does on an Ethernet, host by host and round by round.
pub(crate) fn datagrams(readings: &[Reading]) -> Vec<wire::Datagram> {
    let secret = Secret::new(SECRET);
    let is_end = |one: &Reading, _: &Reading| one.sample.meter.name != meters::HEARTBEAT.name;
    readings
        .chunk_by(is_end)
        .flat_map(|round| {
            let encode = |reading| {
                wire::encode(
                    reading,
                    "udp://192.0.2.6:4953",
                    &wire::Signing::new("openstack", secret.clone()),
                )
            };
            wire::pack(round.iter().map(encode).collect(), 1472)
        })
        .collect()
}

/// The same readings as a collector takes them in.
pub(crate) fn received(readings: &[Reading]) -> Vec<Received> {
    let secret = Secret::new(SECRET);
    let taken = datagrams(readings).into_iter().flat_map(|datagram| {
        let (received, refusals) = wire::receive(
            &datagram.bytes,
            &wire::Verifier::new(secret.clone()),
            wire::Via::Anywhere,
        );
        assert!(refusals.is_empty());
        received
    });
    taken.collect()
}
