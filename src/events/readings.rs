//! The newest readings of this node as gauges: what is reached and what runs. A reading that there is
//! none of is a series that isn't there, because 0 would say something.

use std::collections::{BTreeMap, BTreeSet};

use prometheus::{GaugeVec, IntGaugeVec};

use super::metrics::{Metrics, show};
use crate::model::{INSTANCE_STATES, Meter, Sample, Value, Volume, instance_state_name, meters};

/// What a host looked at from outside does.
const ANSWERS: [(&str, i64); 2] = [("answering", 1), ("silent", 0)];

/// The gauges. Gateways and sources come from the configuration, states from closed lists.
pub(super) struct ReadingMetrics {
    storage: IntGaugeVec,
    gateway_status: IntGaugeVec,
    gateway_loss: GaugeVec,
    gateway_rtt: GaugeVec,
    hypervisor: IntGaugeVec,
    instances: IntGaugeVec,
    hosts: IntGaugeVec,
}

/// The gateways of each source that have series.
pub(super) type Shown = BTreeMap<String, BTreeSet<String>>;

impl ReadingMetrics {
    /// Registers them.
    pub(super) fn new(metrics: &Metrics) -> prometheus::Result<Self> {
        Ok(ReadingMetrics {
            storage: metrics.gauges("storage_reachable", "1 if the newest round reached the storage, 0 if it lost it; absent if it couldn't tell", &["source"])?,
            gateway_status: metrics.gauges("gateway_status", "Code of what became of a gateway's probes in the newest round, 0 if it answered; absent without a reading", &["source", "gateway"])?,
            gateway_loss: metrics.real_gauges("gateway_loss_ratio", "Lost probes over sent ones of the newest round; absent without a reading", &["source", "gateway"])?,
            gateway_rtt: metrics.real_gauges("gateway_rtt_seconds", "Median round-trip time of the newest round's answered probes; absent if none was", &["source", "gateway"])?,
            hypervisor: metrics.gauges("hypervisor_reachable", "1 if libvirt answers, 0 if it hangs or is dead; absent if that isn't known", &["source"])?,
            instances: metrics.gauges("instances", "Instances by state in the newest complete round; absent if libvirt couldn't be asked", &["source", "state"])?,
            hosts: metrics.gauges("hosts", "Hosts seen from outside by what the newest round saw; those without a reading are in neither", &["source", "state"])?,
        })
    }

    /// Shows what a round of a pollster brought. Each pollster has gauges of its own, found by the
    /// meter that it always yields, or fails to.
    pub(super) fn round(
        &self,
        source: &str,
        pollster: &str,
        samples: &[Sample],
        shown: &mut Shown,
    ) {
        let newest = |meter: &Meter| {
            let mut of_meter = samples.iter().filter(|sample| sample.meter == *meter);
            of_meter.find_map(|sample| whole(sample.volume))
        };
        if pollster == meters::STORAGE_CONNECTIVITY.name {
            show(
                &self.storage,
                &[source],
                newest(&meters::STORAGE_CONNECTIVITY),
            );
            self.gateways(source, samples, shown.entry(source.to_owned()).or_default());
        } else if pollster == "hypervisor" && !samples.is_empty() {
            show(
                &self.hypervisor,
                &[source],
                newest(&meters::HYPERVISOR_CONNECTIVITY),
            );
        } else if pollster == "instances" {
            let is_complete = newest(&meters::INSTANCE_ROUND).is_some();
            self.instances(source, samples, is_complete);
        } else if pollster == meters::HOST_CONNECTIVITY.name {
            for (state, volume) in ANSWERS {
                let of_state = samples.iter().filter(|sample| {
                    sample.meter == meters::HOST_CONNECTIVITY
                        && sample.volume == Volume::Int(volume)
                });
                show(
                    &self.hosts,
                    &[source, state],
                    Some(number(of_state.count())),
                );
            }
        }
    }

    /// A pollster of a source is no more.
    pub(super) fn forget(&self, source: &str, pollster: &str, shown: &mut Shown) {
        self.round(source, pollster, &[], shown);
        if pollster == "hypervisor" {
            show(&self.hypervisor, &[source], None);
        }
        for (state, _) in ANSWERS {
            if pollster == meters::HOST_CONNECTIVITY.name {
                show(&self.hosts, &[source, state], None);
            }
        }
    }

    fn gateways(&self, source: &str, samples: &[Sample], shown: &mut BTreeSet<String>) {
        let mut now = BTreeSet::new();
        let mut answered = BTreeSet::new();
        for sample in samples {
            let Some(gateway) = sample.metadata.get("gateway").and_then(Value::as_str) else {
                continue;
            };
            let labels = [source, gateway];
            if sample.meter == meters::GATEWAY_STATUS {
                show(&self.gateway_status, &labels, whole(sample.volume));
                now.insert(gateway.to_owned());
            } else if sample.meter == meters::GATEWAY_LOSS_RATIO {
                show(&self.gateway_loss, &labels, Some(sample.volume.as_f64()));
            } else if sample.meter == meters::GATEWAY_RTT {
                show(
                    &self.gateway_rtt,
                    &labels,
                    Some(sample.volume.as_f64() / 1e6),
                );
                answered.insert(gateway.to_owned());
            }
        }
        // Shown first and removed then: a scrape in between finds no gap.
        for gateway in shown.difference(&now) {
            show(&self.gateway_status, &[source, gateway], None);
            show(&self.gateway_loss, &[source, gateway], None);
        }
        for gateway in shown.difference(&answered) {
            show(&self.gateway_rtt, &[source, gateway], None);
        }
        *shown = now;
    }

    fn instances(&self, source: &str, samples: &[Sample], is_complete: bool) {
        let states = samples
            .iter()
            .filter(|sample| sample.meter == meters::INSTANCE_STATE)
            .filter_map(|sample| instance_state_name(whole(sample.volume)?));
        let mut counts = BTreeMap::new();
        for state in states {
            *counts.entry(state).or_insert(0) += 1;
        }
        for state in INSTANCE_STATES {
            let count = counts.get(state).copied().unwrap_or_default();
            show(
                &self.instances,
                &[source, state],
                is_complete.then_some(count),
            );
        }
    }
}

fn whole(volume: Volume) -> Option<i64> {
    match volume {
        Volume::Int(number) => Some(number),
        Volume::Float(_) => None,
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Metadata, UtcTime};

    fn sample(meter: Meter, volume: Volume, gateway: Option<&str>) -> Sample {
        let gateway = gateway.map(|name| ("gateway".to_owned(), Value::from(name)));
        let metadata: Metadata = gateway.into_iter().collect();
        Sample::new(
            meter,
            volume,
            "n".to_owned(),
            UtcTime::from_unix_micros(0),
            metadata,
        )
    }

    /// The lines of a round after the others, without those of types and help.
    fn after(rounds: &[(&str, Vec<Sample>)]) -> Vec<String> {
        let metrics = Metrics::default();
        let gauges = ReadingMetrics::new(&metrics).unwrap();
        let mut shown = Shown::default();
        for (pollster, samples) in rounds {
            gauges.round("s", pollster, samples, &mut shown);
        }
        let text = metrics.render();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| line.replace("ceilometer_ha_", ""))
            .collect()
    }

    fn gateway(name: &str, rtt: Option<i64>) -> Vec<Sample> {
        let loss = if rtt.is_some() { 0.0 } else { 1.0 };
        let status = i64::from(rtt.is_none());
        let mut samples = vec![
            sample(meters::GATEWAY_STATUS, Volume::Int(status), Some(name)),
            sample(meters::GATEWAY_LOSS_RATIO, Volume::ratio(loss), Some(name)),
        ];
        samples.extend(rtt.map(|rtt| sample(meters::GATEWAY_RTT, Volume::Int(rtt), Some(name))));
        samples
    }

    #[test]
    fn gateways_show_their_newest_reading_and_nothing_without_one() {
        let storage = "storage_connectivity";
        let verdict = |volume| sample(meters::STORAGE_CONNECTIVITY, Volume::Int(volume), None);
        let well = [
            vec![verdict(1)],
            gateway("a", Some(1500)),
            gateway("b", Some(2)),
        ]
        .concat();
        assert_eq!(
            after(&[
                (storage, well.clone()),
                (storage, [vec![verdict(0)], gateway("a", None)].concat())
            ]),
            [
                "gateway_loss_ratio{gateway=\"a\",source=\"s\"} 1",
                "gateway_status{gateway=\"a\",source=\"s\"} 1",
                "storage_reachable{source=\"s\"} 0",
            ],
            "a is silent, and b has no reading"
        );
        assert!(after(&[(storage, well.clone()), (storage, vec![])]).is_empty());
        assert!(
            after(&[(storage, well)])
                .contains(&"gateway_rtt_seconds{gateway=\"a\",source=\"s\"} 0.0015".to_owned())
        );
    }

    #[test]
    fn instances_are_counted_by_state_in_complete_rounds_alone() {
        let state = |code| sample(meters::INSTANCE_STATE, Volume::Int(code), None);
        let round = vec![
            state(1),
            state(1),
            state(5),
            sample(meters::INSTANCE_ROUND, Volume::Int(3), None),
        ];
        let lines = after(&[("instances", round.clone())]);
        assert_eq!(lines.len(), INSTANCE_STATES.len());
        assert!(lines.contains(&"instances{source=\"s\",state=\"running\"} 2".to_owned()));
        assert!(lines.contains(&"instances{source=\"s\",state=\"paused\"} 0".to_owned()));
        assert!(after(&[("instances", round), ("instances", vec![])]).is_empty());
    }

    #[test]
    fn libvirt_and_hosts_keep_unknown_apart_from_zero() {
        let libvirt = |volume| {
            vec![sample(
                meters::HYPERVISOR_CONNECTIVITY,
                Volume::Int(volume),
                None,
            )]
        };
        let failed = || vec![sample(meters::POLLSTER_FAILED, Volume::Int(13), None)];
        let line = ["hypervisor_reachable{source=\"s\"} 0".to_owned()];
        assert_eq!(
            after(&[("hypervisor", libvirt(0)), ("hypervisor", vec![])]),
            line,
            "a question is still open"
        );
        assert!(after(&[("hypervisor", libvirt(1)), ("hypervisor", failed())]).is_empty());
        let host = |volume| sample(meters::HOST_CONNECTIVITY, Volume::Int(volume), None);
        assert_eq!(
            after(&[("host.connectivity", vec![host(1), host(1), host(0)])]),
            [
                "hosts{source=\"s\",state=\"answering\"} 2",
                "hosts{source=\"s\",state=\"silent\"} 1"
            ]
        );
    }
}
