//! Pure. What a host may say, and by which way: the rules that a message of ours is held to once it is
//! known whose it is.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::Via;
use crate::model::{Received, Value};

/// Meters whose resource is the host that speaks, or something of it behind a slash.
const OWN: [&str; 5] = [
    "storage_connectivity",
    "compute.heartbeat",
    "instance.round",
    "hypervisor.connectivity",
    "pollster.failed",
];
/// The same for every meter that begins so.
const OWN_PREFIXES: [&str; 1] = ["storage_gateway."];
/// Meters whose resource is a host that is looked at, or something of it behind a slash.
const LOOKS: [&str; 2] = ["host.connectivity", "host.power"];
/// The same for every meter that begins so.
const LOOKS_PREFIXES: [&str; 1] = ["host_network."];
/// What the BMC of the host that speaks says: the resource is the host, or begins with it and a dash.
const BMC_PREFIX: &str = "hardware.ipmi.";
/// The meter whose metadata say where an instance is.
const INSTANCE_STATE: &str = "instance.state";
/// Where other meters of an instance say so, as Ceilometer has it.
const INSTANCE_HOST: &str = "instance_host";

/// Whether an observer may say this: it speaks for itself alone, unless it is one of those that may
/// look at others.
pub(super) fn may_say(observer: &str, received: &Received, lookers: &BTreeSet<String>) -> bool {
    let meter = received.meter.name.as_str();
    let resource = received.resource_id.as_str();
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| meter.starts_with(prefix));
    if OWN.contains(&meter) || begins(&OWN_PREFIXES) {
        return is_of(observer, resource, '/');
    }
    if LOOKS.contains(&meter) || begins(&LOOKS_PREFIXES) {
        return is_of(observer, resource, '/') || lookers.contains(observer);
    }
    if meter.starts_with(BMC_PREFIX) {
        return is_of(observer, resource, '-');
    }
    let host = |key: &str| entry(&received.metadata, key);
    if meter == INSTANCE_STATE {
        return host("host").and_then(Value::as_str) == Some(observer);
    }
    host(INSTANCE_HOST).is_none_or(|host| host.as_str() == Some(observer))
}

fn is_of(observer: &str, resource: &str, separator: char) -> bool {
    let rest = resource.strip_prefix(observer);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(separator))
}

fn entry<'v>(metadata: &'v Value, key: &str) -> Option<&'v Value> {
    let entries = metadata.as_map()?.iter();
    entries
        .rev()
        .find(|(known, _)| known == key)
        .map(|(_, value)| value)
}

/// Whether a path is the way by which its message came.
pub(super) fn is_the_way(path: Option<&str>, via: Via<'_>, accepted: &BTreeSet<String>) -> bool {
    let is_accepted = |path: &str| accepted.contains(path);
    match (path, via) {
        (_, Via::Anywhere) => true,
        (None, _) => false,
        (Some(path), Via::Udp(local)) => leads_to(path, local) || is_accepted(path),
        (Some(path), Via::Topic(topic)) => {
            path.strip_prefix("notifier://?topic=") == Some(topic) || is_accepted(path)
        }
    }
}

/// Whether a path names this address of ours. A host's name may mean any of them; its port is told.
fn leads_to(path: &str, local: SocketAddr) -> bool {
    let Some((host, port)) = path
        .strip_prefix("udp://")
        .and_then(|rest| rest.rsplit_once(':'))
    else {
        return false;
    };
    if port.parse() != Ok(local.port()) {
        return false;
    }
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    match (bare.unwrap_or(host).parse::<IpAddr>(), bare) {
        (Ok(address), _) => address.to_canonical() == local.ip().to_canonical(),
        (Err(_), Some(_)) => false,
        (Err(_), None) => !host.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Evidence, ReceivedMeter};

    fn received(meter: &str, resource_id: &str, metadata: &[(&str, &str)]) -> Received {
        let metadata = metadata.iter();
        let metadata = metadata.map(|(key, value)| ((*key).to_owned(), Value::from(*value)));
        Received {
            identity: None,
            path: None,
            evidence: Evidence::default(),
            message_id: String::new(),
            signature: String::new(),
            source: String::new(),
            meter: ReceivedMeter {
                name: meter.to_owned(),
                kind: None,
                unit: None,
            },
            volume: None,
            resource_id: resource_id.to_owned(),
            user_id: None,
            project_id: None,
            timestamp: None,
            metadata: Value::Map(metadata.collect()),
        }
    }

    #[test]
    fn the_table_of_who_may_say_what() {
        let lookers = BTreeSet::from(["c".to_owned()]);
        let of = |key: &'static str, host: &'static str| vec![(key, host)];
        for (observer, meter, resource, metadata, expected) in [
            ("n", "storage_connectivity", "n", vec![], true),
            ("n", "storage_connectivity", "m", vec![], false),
            ("c", "storage_connectivity", "m", vec![], false),
            ("n", "storage_gateway.rtt", "n/10.0.0.1", vec![], true),
            ("n", "storage_gateway.status", "nn/10.0.0.1", vec![], false),
            ("n", "storage_gateway.loss_ratio", "m/n", vec![], false),
            ("n", "compute.heartbeat", "n", vec![], true),
            ("n", "compute.heartbeat", "m", vec![], false),
            ("n", "hypervisor.connectivity", "m", vec![], false),
            ("n", "instance.round", "m", vec![], false),
            (
                "n",
                "pollster.failed",
                "n/storage_connectivity",
                vec![],
                true,
            ),
            (
                "n",
                "pollster.failed",
                "m/storage_connectivity",
                vec![],
                false,
            ),
            ("c", "host.connectivity", "m", vec![], true),
            ("n", "host.connectivity", "m", vec![], false),
            ("n", "host.connectivity", "n", vec![], true),
            ("n", "host.power", "m", vec![], false),
            ("n", "host_network.status", "m/storage", vec![], false),
            ("c", "host_network.connectivity", "m/storage", vec![], true),
            ("n", "hardware.ipmi.chassis.power", "n", vec![], true),
            ("n", "hardware.ipmi.chassis.power", "m", vec![], false),
            ("n", "hardware.ipmi.fan", "n-fan_1", vec![], true),
            ("n", "hardware.ipmi.fan", "m-fan_1", vec![], false),
            ("n", "instance.state", "uuid", of("host", "n"), true),
            ("n", "instance.state", "uuid", of("host", "m"), false),
            ("n", "instance.state", "uuid", vec![], false),
            ("c", "instance.state", "uuid", of("host", "m"), false),
            ("n", "power.state", "uuid", of("instance_host", "n"), true),
            ("n", "power.state", "uuid", of("instance_host", "m"), false),
            ("n", "cpu", "uuid", of("host", "a hash"), true),
            ("n", "of.a.plug.in", "whatever", vec![], true),
        ] {
            let received = received(meter, resource, &metadata);
            let may = may_say(observer, &received, &lookers);
            assert_eq!(may, expected, "{observer} {meter} {resource} {metadata:?}");
        }
    }

    #[test]
    fn the_table_of_ways() {
        let v4 = Via::Udp("192.0.2.6:4953".parse().unwrap());
        let mapped = Via::Udp("[::ffff:192.0.2.6]:4953".parse().unwrap());
        let v6 = Via::Udp("[fd00::6]:4953".parse().unwrap());
        let topic = Via::Topic("metering_ha");
        let accepted = BTreeSet::from(["udp://198.51.100.1:9".to_owned()]);
        for (path, via, expected) in [
            (Some("udp://192.0.2.6:4953"), v4, true),
            (Some("udp://192.0.2.6:4953"), mapped, true),
            (Some("udp://192.0.2.7:4953"), v4, false),
            (Some("udp://192.0.2.6:4952"), v4, false),
            (Some("udp://[fd00::6]:4953"), v6, true),
            (Some("udp://[fd00:0:0::6]:4953"), v6, true),
            (Some("udp://[fd00::7]:4953"), v6, false),
            (Some("udp://[controller]:4953"), v6, false),
            (Some("udp://controller:4953"), v4, true),
            (Some("udp://controller:4952"), v4, false),
            (Some("udp://:4953"), v4, false),
            (Some("udp://controller"), v4, false),
            (Some("tcp://192.0.2.6:4953"), v4, false),
            (Some("udp://198.51.100.1:9"), v4, true),
            (Some("notifier://?topic=metering_ha"), v4, false),
            (Some("notifier://?topic=metering_ha"), topic, true),
            (Some("notifier://?topic=metering"), topic, false),
            (Some("udp://192.0.2.6:4953"), topic, false),
            (None, v4, false),
            (None, topic, false),
            (Some("whatever"), Via::Anywhere, true),
            (None, Via::Anywhere, true),
        ] {
            assert_eq!(
                is_the_way(path, via, &accepted),
                expected,
                "{path:?} {via:?}"
            );
        }
    }
}
