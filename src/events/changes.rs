//! Pure. What of a node's samples is news: a verdict, a gateway's status or a failure that differs
//! from the one before. A healthy second writes no log line, and neither does the tenth bad one.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{FailReason, GatewayStatus, Sample, Value, Volume, instance_state_name, meters};

/// Things watched at once; beyond it a thing is always news.
const WATCHED_MAX: usize = 65_536;

/// Reasons of an instance's state that nobody wished for.
const BAD_REASONS: [&str; 5] = ["ioerror", "watchdog", "crashed", "failed", "panicked"];

/// One thing that changed, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    /// The meter it is about.
    pub(super) meter: &'static str,
    /// The resource it is about.
    pub(super) resource_id: String,
    /// What it is now, for the log.
    pub(super) now: String,
    /// Whether that is bad.
    pub(super) is_bad: bool,
}

/// Remembers the last value of each thing.
#[derive(Debug, Default)]
pub(super) struct Changes {
    last: BTreeMap<(&'static str, String), i64>,
}

impl Changes {
    /// What is news among the samples of one round of `pollster`.
    pub(super) fn of_round(&mut self, samples: &[Sample]) -> Vec<Change> {
        let mut news: Vec<Change> = samples
            .iter()
            .filter_map(|sample| self.change(sample))
            .collect();
        news.extend(self.recovered(samples));
        news
    }

    fn change(&mut self, sample: &Sample) -> Option<Change> {
        let Volume::Int(code) = sample.volume else {
            return None;
        };
        let (meter, now, is_bad) = describe(sample, code)?;
        let key = (meter, sample.resource_id.clone());
        let before = self.last.get(&key).copied();
        if self.last.len() < WATCHED_MAX || before.is_some() {
            self.last.insert(key, code);
        }
        // Being well from the start on is no news, but for the verdict.
        let is_news =
            before != Some(code) && (before.is_some() || is_bad || meter == "storage_connectivity");
        is_news.then(|| Change {
            meter,
            resource_id: sample.resource_id.clone(),
            now,
            is_bad,
        })
    }

    /// Failures that this round, which does have a reading of the same thing, no longer names.
    fn recovered(&mut self, samples: &[Sample]) -> Vec<Change> {
        let is_failure = |key: &&(&'static str, String)| key.0 == "pollster.failed";
        if !self.last.keys().any(|key| is_failure(&key)) {
            return Vec::new();
        }
        let failed = meters::POLLSTER_FAILED.name;
        let (failures, readings): (Vec<&Sample>, Vec<&Sample>) = samples
            .iter()
            .partition(|sample| sample.meter.name == failed);
        let named: BTreeSet<&str> = failures
            .iter()
            .map(|sample| sample.resource_id.as_str())
            .collect();
        let measured: BTreeSet<String> = readings.iter().copied().flat_map(failures_of).collect();
        let is_measured = |resource: &str| {
            let of_any_observer = resource.split_once('/').map(|(_, pollster)| pollster);
            measured.contains(resource)
                || of_any_observer.is_some_and(|it| measured.contains(it))
                || readings.iter().any(|sample| is_below(sample, resource))
        };
        let over: Vec<_> = self
            .last
            .keys()
            .filter(is_failure)
            .filter(|(_, resource)| !named.contains(resource.as_str()) && is_measured(resource))
            .cloned()
            .collect();
        over.into_iter()
            .map(|key| {
                self.last.remove(&key);
                Change {
                    meter: key.0,
                    resource_id: key.1,
                    now: "has readings again".to_owned(),
                    is_bad: false,
                }
            })
            .collect()
    }
}

/// Whether the failure names a pollster whose meters begin with its name, as plug-ins' do.
fn is_below(sample: &Sample, failed: &str) -> bool {
    let below = failed
        .split_once('/')
        .and_then(|(_, name)| sample.meter.name.strip_prefix(name));
    below.is_some_and(|below| below.is_empty() || below.starts_with('.'))
}

/// The resources under which the failure of this sample's meter would stand. Those about hosts seen
/// from outside lack the observer, whom their samples don't name.
fn failures_of(sample: &Sample) -> Vec<String> {
    let (resource, meter) = (&sample.resource_id, &sample.meter);
    if *meter == meters::HOST_CONNECTIVITY {
        return vec![meter.name.to_string()];
    }
    match resource.split_once('/') {
        Some((_, network)) if *meter == meters::HOST_NETWORK_STATUS => vec![
            format!("host_network/{network}"),
            format!("host_network/{resource}"),
        ],
        Some((host, gateway)) => vec![format!("{host}/storage_gateway/{gateway}")],
        None => vec![format!("{resource}/{}", meter.name)],
    }
}

fn describe(sample: &Sample, code: i64) -> Option<(&'static str, String, bool)> {
    match &*sample.meter.name {
        "storage_connectivity" => Some((
            "storage_connectivity",
            (if code == 1 { "reachable" } else { "lost" }).to_owned(),
            code != 1,
        )),
        "storage_gateway.status" => {
            let status = GatewayStatus::from_code(code)?;
            Some((
                "storage_gateway.status",
                status.words().to_owned(),
                status != GatewayStatus::Answered,
            ))
        }
        "hypervisor.connectivity" => Some((
            "hypervisor.connectivity",
            (if code == 1 {
                "libvirt answers"
            } else {
                "libvirt hangs or is dead"
            })
            .to_owned(),
            code != 1,
        )),
        "instance.state" => {
            let reason = sample.metadata.get("reason").and_then(Value::as_str);
            let reason = reason.unwrap_or_default();
            let state = instance_state_name(code).unwrap_or("unknown");
            Some((
                "instance.state",
                format!("{state} ({reason})"),
                BAD_REASONS.contains(&reason),
            ))
        }
        "host.connectivity" => Some((
            "host.connectivity",
            (if code == 1 {
                "answers"
            } else {
                "answers on no network"
            })
            .to_owned(),
            code != 1,
        )),
        "host_network.status" => {
            let status = GatewayStatus::from_code(code)?;
            Some((
                "host_network.status",
                status.words().to_owned(),
                status != GatewayStatus::Answered,
            ))
        }
        "pollster.failed" => Some((
            "pollster.failed",
            FailReason::from_code(code)?.words().to_owned(),
            true,
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Metadata, Meter, UtcTime};

    fn sample(meter: Meter, resource: &str, code: i64) -> Sample {
        Sample {
            meter,
            volume: Volume::Int(code),
            resource_id: resource.to_owned(),
            user_id: None,
            project_id: None,
            timestamp: UtcTime::from_unix_micros(0),
            metadata: Metadata::new(),
        }
    }

    #[test]
    fn a_pollster_has_recovered_when_any_of_its_meters_has_a_reading() {
        let mut changes = Changes::default();
        let code = FailReason::PluginTimeout.code();
        let failed = [sample(meters::POLLSTER_FAILED, "n/raid", code)];
        assert_eq!(changes.of_round(&failed).len(), 1);
        let meter = |name| Meter::new(name, crate::model::MeterType::Gauge, "");
        let other = [sample(meter("raid2.wear"), "n/sda", 1)];
        assert!(changes.of_round(&other).is_empty());
        let own = [sample(meter("raid.wear"), "n/sda", 1)];
        assert_eq!(changes.of_round(&own)[0].now, "has readings again");
    }

    #[test]
    fn only_what_differs_is_news() {
        let mut changes = Changes::default();
        let mut news = |samples: &[Sample]| -> Vec<String> {
            changes
                .of_round(samples)
                .into_iter()
                .map(|change| format!("{}: {}", change.resource_id, change.now))
                .collect()
        };
        let well = [
            sample(meters::STORAGE_CONNECTIVITY, "n", 1),
            sample(meters::GATEWAY_STATUS, "n/g", 0),
        ];
        let lost = [
            sample(meters::STORAGE_CONNECTIVITY, "n", 0),
            sample(meters::GATEWAY_STATUS, "n/g", 1),
        ];
        let late = [sample(
            meters::POLLSTER_FAILED,
            "n/storage_connectivity",
            FailReason::TimersLate.code(),
        )];
        assert_eq!(news(&well), ["n: reachable"]);
        assert!(news(&well).is_empty());
        assert_eq!(news(&lost), ["n: lost", "n/g: silent"]);
        assert!(news(&lost).is_empty());
        assert_eq!(
            news(&late),
            ["n/storage_connectivity: the agent was stopped or starved of CPU"]
        );
        assert!(news(&late).is_empty());
        assert_eq!(
            news(&well),
            [
                "n: reachable",
                "n/g: answers",
                "n/storage_connectivity: has readings again"
            ]
        );
        assert!(news(&well).is_empty());
    }

    #[test]
    fn hosts_seen_from_outside_go_silent_and_a_network_without_witness_recovers() {
        let mut changes = Changes::default();
        let mut news = |samples: &[Sample]| -> Vec<String> {
            changes
                .of_round(samples)
                .into_iter()
                .map(|change| format!("{}: {}", change.resource_id, change.now))
                .collect()
        };
        let host = |name: &str, code| sample(meters::HOST_CONNECTIVITY, name, code);
        let network = |name: &str, code| sample(meters::HOST_NETWORK_STATUS, name, code);
        let failed =
            |name: &str, reason: FailReason| sample(meters::POLLSTER_FAILED, name, reason.code());
        let well = [
            host("a", 1),
            network("a/m", 0),
            host("b", 1),
            network("b/m", 0),
        ];
        let cut = [
            host("a", 0),
            network("a/m", 1),
            host("b", 1),
            network("b/m", 0),
        ];
        let blind = [failed("ctl/host_network/m", FailReason::NoWitness)];
        let partly = [
            host("b", 1),
            network("b/m", 0),
            failed("ctl/host_network/m", FailReason::NoWitness),
            failed("ctl/host_network/a/m", FailReason::NoBuffers),
        ];
        let late = [failed("ctl/host.connectivity", FailReason::TimersLate)];
        assert!(
            news(&well).is_empty(),
            "being well from the start is no news"
        );
        assert_eq!(news(&cut), ["a: answers on no network", "a/m: silent"]);
        assert!(news(&cut).is_empty());
        assert_eq!(
            news(&blind),
            ["ctl/host_network/m: no host of this network answers: the fault may be our own"]
        );
        assert_eq!(
            news(&partly),
            ["ctl/host_network/a/m: out of socket buffers"],
            "what is still named is not over"
        );
        assert_eq!(
            news(&well),
            [
                "a: answers",
                "a/m: answers",
                "ctl/host_network/a/m: has readings again",
                "ctl/host_network/m: has readings again"
            ]
        );
        assert_eq!(news(&late).len(), 1);
        assert_eq!(news(&well), ["ctl/host.connectivity: has readings again"]);
        assert!(news(&well).is_empty());
    }
}
