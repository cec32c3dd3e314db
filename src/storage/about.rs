//! Pure. Which states of others are about a host.

use crate::model::meters;

/// Meters by which others tell of a host as a whole: the resource is the host.
const OF_HOSTS: [&str; 2] = ["host.connectivity", "host.power"];

/// Meters by which others tell of a host on one of its networks: the resource is `HOST/NETWORK`.
const OF_NETWORKS: [&str; 2] = ["host_network.connectivity", "host_network.status"];

/// All of them, and the one that says why nothing can be told; as the query of `forget` lists them.
pub(crate) const METERS: [&str; 5] = [
    OF_HOSTS[0],
    OF_HOSTS[1],
    OF_NETWORKS[0],
    OF_NETWORKS[1],
    "pollster.failed",
];

/// The host that a state of an observer is about, if it is about one as others see it.
pub(crate) fn host_of<'r>(observer: &str, meter: &str, resource_id: &'r str) -> Option<&'r str> {
    if OF_HOSTS.contains(&meter) {
        return Some(resource_id);
    }
    let place = if OF_NETWORKS.contains(&meter) {
        resource_id
    } else if meter == meters::POLLSTER_FAILED.name {
        let pollster = resource_id.strip_prefix(observer)?;
        pollster.strip_prefix("/host_network/")?
    } else {
        return None;
    };
    place.split_once('/').map(|(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_what_is_about_whom() {
        for (meter, resource_id, expected) in [
            ("host.connectivity", "n", Some("n")),
            ("host.power", "n", Some("n")),
            ("host_network.connectivity", "n/storage", Some("n")),
            ("host_network.status", "n/storage/a", Some("n")),
            ("host_network.status", "n", None),
            ("pollster.failed", "c/host_network/n/storage", Some("n")),
            ("pollster.failed", "c/host_network/storage", None),
            ("pollster.failed", "c/host.connectivity", None),
            ("pollster.failed", "d/host_network/n/storage", None),
            ("storage_connectivity", "n", None),
            ("storage_gateway.status", "n/10.0.0.1", None),
        ] {
            assert_eq!(
                host_of("c", meter, resource_id),
                expected,
                "{meter} {resource_id}"
            );
        }
    }

    #[test]
    fn the_meters_are_those_of_the_looks_from_outside() {
        let known = [
            meters::HOST_CONNECTIVITY,
            meters::HOST_NETWORK_CONNECTIVITY,
            meters::HOST_NETWORK_STATUS,
            meters::POLLSTER_FAILED,
        ];
        for meter in known {
            assert!(METERS.contains(&&*meter.name), "{}", meter.name);
        }
    }
}
