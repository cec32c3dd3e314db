//! Pure. What of a node's samples is news: a verdict, a gateway's status or a failure that differs
//! from the one before. A healthy second writes no log line, and neither does the tenth bad one.

use std::collections::BTreeMap;

use crate::model::{FailReason, GatewayStatus, Sample, Volume, meters};

/// Things watched at once; beyond it a thing is always news.
const WATCHED_MAX: usize = 65_536;

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
        let (meter, now, is_bad) = describe(&sample.meter.name, code)?;
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
        let failed = meters::POLLSTER_FAILED.name;
        let is_named = |resource: &str| {
            samples
                .iter()
                .any(|sample| sample.meter.name == failed && sample.resource_id == resource)
        };
        let is_measured = |resource: &str| {
            samples
                .iter()
                .any(|sample| sample.meter.name != failed && is_of(sample, resource))
        };
        let over: Vec<_> = self
            .last
            .keys()
            .filter(|(meter, resource)| {
                *meter == "pollster.failed" && !is_named(resource) && is_measured(resource)
            })
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

/// Whether this sample is what the failure of this resource was the lack of.
fn is_of(sample: &Sample, failed: &str) -> bool {
    failure_of(sample) == failed || is_below(sample, failed)
}

/// Whether the failure names a pollster whose meters begin with its name, as plug-ins' do.
fn is_below(sample: &Sample, failed: &str) -> bool {
    let below = failed
        .split_once('/')
        .and_then(|(_, name)| sample.meter.name.strip_prefix(name));
    below.is_some_and(|below| below.is_empty() || below.starts_with('.'))
}

/// The resource under which the failure of this sample's meter would stand.
fn failure_of(sample: &Sample) -> String {
    match sample.resource_id.split_once('/') {
        Some((host, gateway)) => format!("{host}/storage_gateway/{gateway}"),
        None => format!("{}/{}", sample.resource_id, sample.meter.name),
    }
}

fn describe(meter: &str, code: i64) -> Option<(&'static str, String, bool)> {
    match meter {
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
}
