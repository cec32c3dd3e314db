//! Pure. What the rows of one observer say about that observer's own host.
//!
//! An observer may report about other hosts too (a controller that looks at compute nodes): such
//! rows have another resource, and nothing here takes them for the observer's own. They are told
//! in [`outside`](super::outside).

use std::collections::{BTreeMap, BTreeSet};

use super::freshness::{Age, Freshness, declared_interval};
use super::identity::{conflict_view, conflict_words};
use super::instances::instances_view;
use super::outside::is_outside_pollster;
use super::text::{age, printable};
use super::view::{
    CodeView, ConflictView, FailureView, GatewayView, HeartbeatView, HostView, HypervisorView,
    OutsideView, PathView, StorageView, UnknownReason, Verdict,
};
use crate::model::{
    CompleteRoundRow, FailReason, GatewayStatus, Meter, ObserverRow, PathRow, RoundRow, StateRow,
    UtcTime, Value, meters,
};

/// How far apart two readings of one round may be by their observer's clock, in seconds. A round
/// waits for answers for 0.2 s at least, so that no two rounds are this near to each other.
const SAME_ROUND_SECONDS: f64 = 0.1;

/// The prefix of a pollster's name that names one gateway.
const GATEWAY_POLLSTER: &str = "storage_gateway/";

/// The key under which a reading declares how often it comes, in seconds.
const INTERVAL: &str = "interval";

/// Why there is no verdict, and the same in words.
type WhyUnknown = (UnknownReason, String);

/// One observer's rows, by meter and resource.
#[derive(Debug, Default)]
pub(super) struct HostRows<'a> {
    states: BTreeMap<(&'a str, &'a str), &'a StateRow>,
    paths: BTreeMap<&'a str, &'a PathRow>,
    round: Option<&'a RoundRow>,
    pub(super) complete_round: Option<&'a CompleteRoundRow>,
    pub(super) observer: Option<&'a ObserverRow>,
}

impl<'a> HostRows<'a> {
    /// Adds a reading; of two about the same, the one with the greater (epoch, seq) stays.
    pub(super) fn add_state(&mut self, row: &'a StateRow) {
        let kept = self
            .states
            .entry((&row.meter, &row.resource_id))
            .or_insert(row);
        if order(row) > order(kept) {
            *kept = row;
        }
    }

    /// Adds a path; of two with the same name, the one heard last stays.
    pub(super) fn add_path(&mut self, row: &'a PathRow) {
        let kept = self.paths.entry(&row.path).or_insert(row);
        if row.received_at > kept.received_at {
            *kept = row;
        }
    }

    /// Adds what arrived of its newest round; of two, that of the newer round stays.
    pub(super) fn add_round(&mut self, row: &'a RoundRow) {
        let is_newer = |kept: &RoundRow| (row.epoch, row.seq) > (kept.epoch, kept.seq);
        if self.round.is_none_or(is_newer) {
            self.round = Some(row);
        }
    }

    pub(super) fn get(&self, meter: &str, resource_id: &str) -> Option<&'a StateRow> {
        self.states.get(&(meter, resource_id)).copied()
    }

    /// All readings of one meter, by resource.
    pub(super) fn of_meter(&self, meter: &Meter) -> Vec<&'a StateRow> {
        let name: &str = &meter.name;
        self.states
            .range((name, "")..)
            .take_while(|((meter, _), _)| *meter == name)
            .map(|(_, row)| *row)
            .collect()
    }

    /// How many readings of this very round have certainly been stored.
    pub(super) fn heard(&self, round: &StateRow) -> u64 {
        let of_it = self
            .round
            .filter(|row| (row.epoch, row.seq) == order(round));
        of_it.map_or(0, |row| row.heard)
    }

    fn is_empty(&self) -> bool {
        self.states.is_empty() && self.paths.is_empty()
    }
}

/// What the facts say about their host, and what others see of it.
pub(super) fn host_view(facts: &HostFacts<'_>, outside: Vec<OutsideView>) -> HostView {
    HostView {
        host: printable(facts.host),
        cluster: facts.cluster(),
        storage: facts.storage(),
        conflict: facts.conflict.clone(),
        clock_behind_seconds: facts.clock_behind_seconds(),
        quality: facts.quality(),
        heartbeat: facts.heartbeat_view(),
        gateways: facts.gateways(),
        hypervisor: facts.hypervisor(),
        instances: instances_view(facts),
        outside,
        failures: facts.failures(|pollster| !is_outside_pollster(pollster)),
        paths: facts.paths(),
    }
}

/// What every part of a host's view is judged by.
pub(super) struct HostFacts<'a> {
    pub(super) host: &'a str,
    pub(super) rows: &'a HostRows<'a>,
    now: UtcTime,
    heartbeat: Option<&'a StateRow>,
    interval_seconds: Option<f64>,
    freshness: Freshness,
    newest_epoch: u64,
    pub(super) conflict: Option<ConflictView>,
}

impl<'a> HostFacts<'a> {
    /// The facts about one observer at `now`.
    pub(super) fn new(now: UtcTime, host: &'a str, rows: &'a HostRows<'a>) -> Self {
        let heartbeat = rows.get(&meters::HEARTBEAT.name, host);
        let interval_seconds = heartbeat.and_then(declared_by);
        HostFacts {
            host,
            rows,
            now,
            heartbeat,
            interval_seconds,
            freshness: Freshness::new(now, interval_seconds),
            newest_epoch: rows.states.values().map(|row| row.epoch).max().unwrap_or(0),
            conflict: rows.observer.and_then(|row| conflict_view(now, row)),
        }
    }

    /// Whether it tells, or should be able to tell, of its own storage, libvirt or instances.
    pub(super) fn senses_itself(&self) -> bool {
        let own = [
            meters::STORAGE_CONNECTIVITY,
            meters::HYPERVISOR_CONNECTIVITY,
        ];
        let parts = [
            meters::GATEWAY_STATUS,
            meters::GATEWAY_LOSS_RATIO,
            meters::GATEWAY_RTT,
            meters::INSTANCE_STATE,
            meters::INSTANCE_ROUND,
        ];
        let has = |meter: &Meter| !self.rows.of_meter(meter).is_empty();
        let fails = |meter: &Meter| {
            let pollster = format!("{}/{}", self.host, meter.name);
            let failure = self.rows.get(&meters::POLLSTER_FAILED.name, &pollster);
            failure.is_some()
        };
        own.iter()
            .any(|meter| self.rows.get(&meter.name, self.host).is_some() || fails(meter))
            || parts.iter().any(|meter| has(meter) || fails(meter))
    }

    pub(super) fn cluster(&self) -> Option<String> {
        let tag = |row: &&'a StateRow| row.metadata.get("cluster").and_then(text_of);
        let own = self
            .rows
            .states
            .values()
            .copied()
            .filter(|row| row.resource_id == self.host);
        own.filter(|row| tag(row).is_some())
            .max_by_key(|row| order(row))
            .and_then(|row| tag(&row))
    }

    pub(super) fn heartbeat_view(&self) -> Option<HeartbeatView> {
        let row = self.heartbeat?;
        let earlier_life = self.is_earlier_life(row);
        let age = self.judge(row);
        Some(HeartbeatView {
            epoch: row.epoch,
            seq: row.seq,
            age_seconds: self.age_seconds(row),
            interval_seconds: self.interval_seconds,
            version: row.metadata.get("version").and_then(text_of),
            fresh: age == Age::Fresh && !earlier_life,
            silent: age == Age::Stale,
            earlier_life,
        })
    }

    fn quality(&self) -> Option<String> {
        let newest = self.rows.states.values().max_by_key(|row| order(row))?;
        Some(printable(&newest.quality))
    }

    fn storage(&self) -> StorageView {
        let row = self.rows.get(&meters::STORAGE_CONNECTIVITY.name, self.host);
        let (verdict, reason, words) = match self.judge_storage(row) {
            Ok(verdict) => (verdict, None, None),
            Err((reason, words)) => (Verdict::Unknown, Some(reason), Some(words)),
        };
        StorageView {
            verdict,
            reason,
            words,
            value: row.map(|row| row.volume).filter(|value| value.is_finite()),
            age_seconds: row.map(|row| self.age_seconds(row)),
        }
    }

    /// How far its clock is behind, as its newest reading says while that is believed.
    pub(super) fn clock_behind_seconds(&self) -> Option<f64> {
        let row = self.rows.observer?;
        let is_fresh = self.freshness.judge(row.received_at) == Age::Fresh;
        is_fresh.then(|| row.clock_behind_seconds())
    }

    /// The verdict, or why there is none: first what concerns the whole host, then the newest
    /// probe, then the reading itself.
    fn judge_storage(&self, row: Option<&StateRow>) -> Result<Verdict, WhyUnknown> {
        if self.rows.is_empty() {
            let words = "only seen from outside: nothing has arrived from an agent of its own";
            return Err((UnknownReason::NeverReported, words.to_owned()));
        }
        if let Some(conflict) = &self.conflict {
            return Err((UnknownReason::IdentityConflict, conflict_words(conflict)));
        }
        self.check_heartbeat()?;
        self.check_storage_pollster()?;
        let none = || {
            (
                UnknownReason::NoReading,
                "no reading of its storage has arrived".to_owned(),
            )
        };
        let row = row.ok_or_else(none)?;
        if self.is_earlier_life(row) {
            let words = "the last reading is from before the agent's restart";
            return Err((UnknownReason::EarlierLife, words.to_owned()));
        }
        self.check_age(row, UnknownReason::Stale, "the last reading is")?;
        verdict_of(row.volume)
    }

    /// A heartbeat of an earlier life is no evidence: readings of a later one have arrived.
    fn check_heartbeat(&self) -> Result<(), WhyUnknown> {
        match self.heartbeat.filter(|row| !self.is_earlier_life(row)) {
            Some(row) => self.check_age(row, UnknownReason::Silent, "the last heartbeat is"),
            None => Ok(()),
        }
    }

    fn check_storage_pollster(&self) -> Result<(), WhyUnknown> {
        let name = &meters::STORAGE_CONNECTIVITY.name;
        match self.active_failure(name) {
            Some(row) => {
                let failure = self.failure_view(name, row);
                Err((
                    UnknownReason::ProbeFailed,
                    format!("the probe failed: {}", failure.words()),
                ))
            }
            None => Ok(()),
        }
    }

    fn check_age(
        &self,
        row: &StateRow,
        stale: UnknownReason,
        subject: &str,
    ) -> Result<(), WhyUnknown> {
        let amount = age(self.age_seconds(row).abs());
        match self.judge(row) {
            Age::Fresh => Ok(()),
            Age::Stale if stale == UnknownReason::Silent => {
                Err((stale, format!("no heartbeat for {amount}")))
            }
            Age::Stale => Err((stale, format!("{subject} {amount} old"))),
            Age::Future => {
                let words =
                    format!("{subject} from {amount} ahead: the database's clock went back");
                Err((UnknownReason::ClockWentBack, words))
            }
        }
    }

    fn gateways(&self) -> Vec<GatewayView> {
        let addresses: BTreeSet<&str> = self
            .rows
            .states
            .keys()
            .filter(|(meter, _)| is_gateway_meter(meter))
            .filter_map(|(_, resource_id)| self.part_of(resource_id))
            .collect();
        let mut gateways: Vec<_> = addresses
            .into_iter()
            .filter_map(|address| self.gateway(address))
            .collect();
        gateways.sort_by_cached_key(|gateway| address_order(&gateway.address));
        gateways
    }

    fn gateway(&self, address: &str) -> Option<GatewayView> {
        let resource_id = format!("{}/{address}", self.host);
        let row = |meter: &Meter| self.rows.get(&meter.name, &resource_id);
        let status = row(&meters::GATEWAY_STATUS);
        let (loss_ratio, rtt) = (row(&meters::GATEWAY_LOSS_RATIO), row(&meters::GATEWAY_RTT));
        // The status stands for the last round that was judged; where none arrived, the newest does.
        let newest = || {
            loss_ratio
                .into_iter()
                .chain(rtt)
                .max_by_key(|row| order(row))
        };
        let anchor = status.or_else(newest)?;
        let status = status.map(|row| gateway_status(row.volume));
        let failed = self
            .active_failure(&format!("{GATEWAY_POLLSTER}{address}"))
            .is_some();
        let stale = failed || !self.is_now(anchor);
        let answered =
            status.as_ref().and_then(|status| status.code) == Some(GatewayStatus::Answered.code());
        Some(GatewayView {
            address: printable(address),
            loss_ratio: figure_of_round(loss_ratio, anchor),
            rtt_us: figure_of_round(rtt, anchor),
            age_seconds: self.age_seconds(anchor),
            stale,
            answers: answered && !stale,
            status,
        })
    }

    fn hypervisor(&self) -> Option<HypervisorView> {
        let name = &meters::HYPERVISOR_CONNECTIVITY.name;
        let row = self.rows.get(name, self.host)?;
        let stale = !self.is_now(row) || self.active_failure(name).is_some();
        Some(HypervisorView {
            value: Some(row.volume).filter(|value| value.is_finite()),
            age_seconds: self.age_seconds(row),
            stale,
            answers: row.volume == 1.0 && !stale,
        })
    }

    /// The failures of the pollsters that are asked for.
    pub(super) fn failures(&self, is_wanted: fn(&str) -> bool) -> Vec<FailureView> {
        let failures = self.rows.of_meter(&meters::POLLSTER_FAILED);
        let names = failures
            .iter()
            .filter_map(|row| self.part_of(&row.resource_id));
        names
            .filter(|name| is_wanted(name))
            .filter_map(|name| Some(self.failure_view(name, self.active_failure(name)?)))
            .collect()
    }

    /// The failure of this pollster, unless it is history or what it names has a newer reading.
    pub(super) fn active_failure(&self, pollster: &str) -> Option<&'a StateRow> {
        let resource_id = format!("{}/{pollster}", self.host);
        let failure = self.rows.get(&meters::POLLSTER_FAILED.name, &resource_id)?;
        let reading = self.reading_of(pollster);
        let superseded = reading.is_some_and(|reading| order(reading) > order(failure));
        (self.is_now(failure) && !superseded).then_some(failure)
    }

    /// The reading that a pollster yields when it doesn't fail.
    fn reading_of(&self, pollster: &str) -> Option<&'a StateRow> {
        match pollster.strip_prefix(GATEWAY_POLLSTER) {
            Some(address) => {
                let resource_id = format!("{}/{address}", self.host);
                self.rows.get(&meters::GATEWAY_STATUS.name, &resource_id)
            }
            None => self.rows.get(pollster, self.host),
        }
    }

    pub(super) fn failure_view(&self, pollster: &str, row: &StateRow) -> FailureView {
        FailureView {
            pollster: printable(pollster),
            reason: fail_reason(row),
            detail: row.metadata.get("detail").and_then(text_of),
            age_seconds: self.age_seconds(row),
        }
    }

    pub(super) fn paths(&self) -> Vec<PathView> {
        let views = self.rows.paths.values().map(|row| PathView {
            path: printable(&row.path),
            age_seconds: self.freshness.age_seconds(row.received_at),
            fresh: self.freshness.judge(row.received_at) == Age::Fresh,
        });
        views.collect()
    }

    /// What stands behind `host/` in the resource, if it is about this host.
    pub(super) fn part_of<'b>(&self, resource_id: &'b str) -> Option<&'b str> {
        let part = resource_id.strip_prefix(self.host)?.strip_prefix('/')?;
        (!part.is_empty()).then_some(part)
    }

    fn is_earlier_life(&self, row: &StateRow) -> bool {
        row.epoch < self.newest_epoch
    }

    /// Whether a reading says anything about now. Where two agents use the name, none does.
    pub(super) fn is_now(&self, row: &StateRow) -> bool {
        self.conflict.is_none() && !self.is_earlier_life(row) && self.judge(row) == Age::Fresh
    }

    /// A reading is judged by the interval that it declares itself, since sources differ; one that
    /// declares none, by the heartbeat's.
    fn judge(&self, row: &StateRow) -> Age {
        let freshness = declared_by(row).map_or(self.freshness, |interval| {
            Freshness::new(self.now, Some(interval))
        });
        freshness.judge(row.received_at)
    }

    pub(super) fn age_seconds(&self, row: &StateRow) -> f64 {
        self.seconds_since(row.received_at)
    }

    /// By the database's clock.
    pub(super) fn seconds_since(&self, at: UtcTime) -> f64 {
        self.freshness.age_seconds(at)
    }
}

impl FailureView {
    /// The reason and the detail, for people.
    pub(super) fn words(&self) -> String {
        match &self.detail {
            Some(detail) => format!("{} ({detail})", self.reason.words),
            None => self.reason.words.clone(),
        }
    }
}

pub(super) fn order(row: &StateRow) -> (u64, u64) {
    (row.epoch, row.seq)
}

/// Whether two readings of one observer are of one round, as far as its clock can tell.
pub(super) fn is_same_round(one: &StateRow, other: &StateRow) -> bool {
    let apart_seconds = one.observed_at.seconds_since(other.observed_at).abs();
    one.epoch == other.epoch && apart_seconds < SAME_ROUND_SECONDS
}

fn declared_by(row: &StateRow) -> Option<f64> {
    row.metadata.get(INTERVAL).and_then(declared_interval)
}

/// The reading's value, if it is of the same round as the anchor. A round in which nothing answers
/// has no round-trip time, and the database still holds that of the last one that had.
fn figure_of_round(row: Option<&StateRow>, anchor: &StateRow) -> Option<f64> {
    let row = row.filter(|row| is_same_round(row, anchor))?;
    Some(row.volume).filter(|volume| volume.is_finite())
}

fn is_gateway_meter(meter: &str) -> bool {
    [
        meters::GATEWAY_STATUS,
        meters::GATEWAY_LOSS_RATIO,
        meters::GATEWAY_RTT,
    ]
    .iter()
    .any(|gateway_meter| gateway_meter.name == meter)
}

fn verdict_of(volume: f64) -> Result<Verdict, WhyUnknown> {
    if volume == 1.0 {
        Ok(Verdict::Reachable)
    } else if volume == 0.0 {
        Ok(Verdict::Lost)
    } else {
        let words = format!("the last reading is {volume:e}, neither 0 nor 1");
        Err((UnknownReason::StrangeValue, words))
    }
}

pub(super) fn gateway_status(volume: f64) -> CodeView {
    let code = code_of(volume);
    match code.and_then(GatewayStatus::from_code) {
        Some(status) => CodeView {
            code,
            name: Some(status.as_str().to_owned()),
            words: status.words().to_owned(),
        },
        None => unknown_code(code, volume, None),
    }
}

/// The reason by its code; of a code that this build doesn't know, the name that came with it.
fn fail_reason(row: &StateRow) -> CodeView {
    let code = code_of(row.volume);
    match code.and_then(FailReason::from_code) {
        Some(reason) => CodeView {
            code,
            name: Some(reason.as_str().to_owned()),
            words: reason.words().to_owned(),
        },
        None => unknown_code(
            code,
            row.volume,
            row.metadata.get("reason").and_then(text_of),
        ),
    }
}

pub(super) fn unknown_code(code: Option<i64>, volume: f64, name: Option<String>) -> CodeView {
    let number = code.map_or_else(|| format!("{volume:e}"), |code| code.to_string());
    let words = match &name {
        Some(name) => format!("code {number}, {name}"),
        None => format!("code {number}"),
    };
    CodeView { code, name, words }
}

/// The volume as a whole number, if it is one.
pub(super) fn code_of(volume: f64) -> Option<i64> {
    if volume.fract() != 0.0 {
        return None;
    }
    format!("{volume:.0}").parse().ok()
}

/// A text or a number from metadata, ready to be shown; empty text is none.
pub(super) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) if !text.is_empty() => Some(printable(text)),
        Value::Int(number) => Some(number.to_string()),
        Value::Float(number) => Some(format!("{number:?}")),
        _ => None,
    }
}

/// Addresses in order of their numbers, IPv4 before IPv6, then names.
fn address_order(address: &str) -> (bool, Option<std::net::IpAddr>, String) {
    let parsed = address.parse().ok();
    (parsed.is_none(), parsed, address.to_owned())
}
