//! Pure. How hosts are seen from outside, and who looks at them.
//!
//! An observer that looks at other hosts sends, for each of them, `host.connectivity` and two meters
//! for each network. What it couldn't look at for a reason on its own side is one `pollster.failed`:
//! for a whole round (`host.connectivity`), for a network (`host_network/NETWORK`) or for a host on a
//! network (`host_network/HOST/NETWORK`). Whatever is of an earlier round than such a failure says
//! nothing about now. A host that looks at itself is not seen from outside.

use std::collections::BTreeMap;

use super::host::{HostFacts, gateway_status, is_same_round, order, text_of};
use super::text::printable;
use super::view::{FailureView, ObserverView, OutsideNetworkView, OutsideView};
use crate::model::{GatewayStatus, StateRow, meters};

/// The prefix of a pollster's name that names one network, or one host and one network.
const NETWORK_POLLSTER: &str = "host_network/";

/// How many hosts answer an observer, don't answer, and how many it says nothing about.
#[derive(Debug, Default)]
struct Counts {
    answering: u64,
    silent: u64,
    unknown: u64,
}

/// What one observer says about other hosts.
pub(super) struct Looks<'a> {
    facts: &'a HostFacts<'a>,
    /// By the host looked at.
    hosts: BTreeMap<&'a str, Look<'a>>,
    /// Of each network, the newest reading about any host.
    newest_of_network: BTreeMap<&'a str, &'a StateRow>,
    /// Of all it says about others, why it can't say anything included, the newest reading.
    newest: &'a StateRow,
}

/// The readings of one observer about one other host.
#[derive(Debug, Default)]
struct Look<'a> {
    host: Option<&'a StateRow>,
    /// By network: connectivity and status.
    networks: BTreeMap<&'a str, [Option<&'a StateRow>; 2]>,
}

/// Whether a pollster of that name looks at other hosts.
pub(super) fn is_outside_pollster(pollster: &str) -> bool {
    pollster == meters::HOST_CONNECTIVITY.name || pollster.starts_with(NETWORK_POLLSTER)
}

impl<'a> Looks<'a> {
    /// What this observer says about other hosts; None if it says nothing.
    pub(super) fn of(facts: &'a HostFacts<'a>) -> Option<Self> {
        let mut hosts: BTreeMap<&str, Look<'_>> = BTreeMap::new();
        let mut newest_of_network = BTreeMap::new();
        let mut newest = newest_failure(facts);
        for row in facts.rows.of_meter(&meters::HOST_CONNECTIVITY) {
            keep_newer(&mut newest, row);
            hosts.entry(&row.resource_id).or_default().host = Some(row);
        }
        let network_meters = [
            meters::HOST_NETWORK_CONNECTIVITY,
            meters::HOST_NETWORK_STATUS,
        ];
        for (index, meter) in network_meters.iter().enumerate() {
            for row in facts.rows.of_meter(meter) {
                keep_newer(&mut newest, row);
                let Some((host, network)) = row.resource_id.split_once('/') else {
                    continue;
                };
                let look = hosts.entry(host).or_default();
                let places = look.networks.entry(network).or_default();
                if let Some(place) = places.get_mut(index) {
                    *place = Some(row);
                }
                let kept = newest_of_network.entry(network).or_insert(row);
                if order(row) > order(kept) {
                    *kept = row;
                }
            }
        }
        hosts.remove(facts.host);
        Some(Looks {
            facts,
            hosts,
            newest_of_network,
            newest: newest?,
        })
    }

    /// How it sees each of them, by the host looked at.
    pub(super) fn views(&self) -> Vec<(&'a str, OutsideView)> {
        let views = self.hosts.iter();
        views
            .filter_map(|(host, look)| Some((*host, self.view(host, look)?)))
            .collect()
    }

    /// The observer itself, with how it sees the hosts and how others see it.
    pub(super) fn observer_view(
        &self,
        is_host: bool,
        views: &[(&str, OutsideView)],
        outside: Vec<OutsideView>,
    ) -> ObserverView {
        let counts = Counts::of(views);
        ObserverView {
            observer: printable(self.facts.host),
            is_host,
            hosts_answering: counts.answering,
            hosts_silent: counts.silent,
            hosts_unknown: counts.unknown,
            age_seconds: self.facts.age_seconds(self.newest),
            stale: !self.facts.is_now(self.newest),
            conflict: self.facts.conflict.clone(),
            clock_behind_seconds: self.facts.clock_behind_seconds(),
            heartbeat: self.facts.heartbeat_view(),
            failures: self.failures(),
            outside,
            paths: self.facts.paths(),
        }
    }

    fn view(&self, host: &str, look: &Look<'_>) -> Option<OutsideView> {
        let networks = look.networks.iter();
        let networks: Vec<OutsideNetworkView> = networks
            .filter_map(|(network, rows)| self.network_view(host, network, *rows))
            .collect();
        let told = look.host.filter(|row| !self.is_outlived(host, look, row));
        let all = look.networks.values().flatten().flatten().copied();
        let newest = all.chain(look.host).max_by_key(|row| order(row))?;
        Some(OutsideView {
            observer: printable(self.facts.host),
            // The reading about the whole may have been lost on its way, those of its round not.
            answers: told.and_then(|row| answer_of(row.volume)).or_else(|| {
                networks
                    .iter()
                    .any(|network| network.answers)
                    .then_some(true)
            }),
            age_seconds: self.facts.age_seconds(newest),
            stale: told.is_none() && networks.iter().all(|network| network.stale),
            networks,
        })
    }

    fn network_view(
        &self,
        host: &str,
        network: &str,
        [connectivity, status]: [Option<&StateRow>; 2],
    ) -> Option<OutsideNetworkView> {
        let anchor = connectivity.or(status)?;
        let status = status
            .filter(|row| is_same_round(row, anchor))
            .map(|row| gateway_status(row.volume));
        let answered = match connectivity {
            Some(row) => row.volume == 1.0,
            None => status.as_ref().and_then(|s| s.code) == Some(GatewayStatus::Answered.code()),
        };
        let failures = [
            self.failure(&meters::HOST_CONNECTIVITY.name),
            self.failure(&format!("{NETWORK_POLLSTER}{network}")),
            self.failure(&format!("{NETWORK_POLLSTER}{host}/{network}")),
        ];
        let failed = failures
            .into_iter()
            .flatten()
            .any(|failure| is_after(failure, anchor));
        let stale = failed || !self.facts.is_now(anchor);
        Some(OutsideNetworkView {
            network: printable(network),
            address: anchor.metadata.get("address").and_then(text_of),
            status,
            age_seconds: self.facts.age_seconds(anchor),
            stale,
            answers: answered && !stale,
        })
    }

    /// Whether what was said about a host as a whole is history: too old, or a later round said
    /// something about one of its networks, or why it can't, and nothing about the whole.
    fn is_outlived(&self, host: &str, look: &Look<'_>, told: &StateRow) -> bool {
        let of_network = |network: &str| {
            [
                self.failure(&format!("{NETWORK_POLLSTER}{network}")),
                self.failure(&format!("{NETWORK_POLLSTER}{host}/{network}")),
            ]
        };
        let failures = look.networks.keys().flat_map(|network| of_network(network));
        let readings = look.networks.values().flatten().copied();
        let mut later = failures
            .chain(readings)
            .chain([self.failure(&meters::HOST_CONNECTIVITY.name)])
            .flatten();
        !self.facts.is_now(told) || later.any(|row| is_after(row, told))
    }

    fn failure(&self, pollster: &str) -> Option<&'a StateRow> {
        let resource_id = format!("{}/{pollster}", self.facts.host);
        self.facts
            .rows
            .get(&meters::POLLSTER_FAILED.name, &resource_id)
    }

    /// What it can't look at now.
    fn failures(&self) -> Vec<FailureView> {
        let failures = self.facts.rows.of_meter(&meters::POLLSTER_FAILED);
        let named = failures
            .into_iter()
            .filter_map(|row| Some((self.facts.part_of(&row.resource_id)?, row)));
        named
            .filter(|(pollster, row)| {
                is_outside_pollster(pollster) && self.is_active(pollster, row)
            })
            .map(|(pollster, row)| self.facts.failure_view(pollster, row))
            .collect()
    }

    /// Whether a failure is neither history nor followed by what it had prevented.
    fn is_active(&self, pollster: &str, failure: &StateRow) -> bool {
        let followed_by = match pollster.strip_prefix(NETWORK_POLLSTER) {
            None => Some(self.newest),
            Some(place) if place.contains('/') => {
                let connectivity = &meters::HOST_NETWORK_CONNECTIVITY.name;
                self.facts.rows.get(connectivity, place)
            }
            Some(network) => self.newest_of_network.get(network).copied(),
        };
        self.facts.is_now(failure) && !followed_by.is_some_and(|row| is_after(row, failure))
    }
}

impl Counts {
    fn of(views: &[(&str, OutsideView)]) -> Self {
        let mut counts = Counts::default();
        for (_, view) in views {
            *match view.answers {
                Some(true) => &mut counts.answering,
                Some(false) => &mut counts.silent,
                None => &mut counts.unknown,
            } += 1;
        }
        counts
    }
}

/// The newest of the failures that are about others.
fn newest_failure<'a>(facts: &HostFacts<'a>) -> Option<&'a StateRow> {
    let failures = facts.rows.of_meter(&meters::POLLSTER_FAILED);
    failures
        .into_iter()
        .filter(|row| {
            facts
                .part_of(&row.resource_id)
                .is_some_and(is_outside_pollster)
        })
        .max_by_key(|row| order(row))
}

fn keep_newer<'a>(kept: &mut Option<&'a StateRow>, row: &'a StateRow) {
    if kept.is_none_or(|kept| order(row) > order(kept)) {
        *kept = Some(row);
    }
}

/// Whether a reading is of a later round than another: one round numbers many.
fn is_after(row: &StateRow, other: &StateRow) -> bool {
    order(row) > order(other) && !is_same_round(row, other)
}

fn answer_of(volume: f64) -> Option<bool> {
    match volume {
        1.0 => Some(true),
        0.0 => Some(false),
        _ => None,
    }
}
