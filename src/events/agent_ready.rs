//! Pure. What keeps an agent from its job, why, and since when: a book that its events fill and
//! `/readyz` reads. A restart mends none of it.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use super::{Delivery, Outcome};
use crate::model::FailReason;

/// Rounds in a row with the same failure before it counts: one that was late, or an agent that was
/// stopped for a moment, is no lasting trouble.
const FAILED_ROUNDS: u32 = 2;
/// How long a publisher may fail before it counts: a switch that learns a new topology takes less.
const UNSENT_AFTER: Duration = Duration::from_secs(5);
/// How long a queue that overflowed counts: four scrapes of a usual Prometheus.
const FULL_FOR: Duration = Duration::from_secs(60);

/// Facts about everything that the agent runs.
#[derive(Debug, Default)]
pub(super) struct AgentReadiness {
    pollsters: BTreeMap<(String, String), PollsterFacts>,
    publishers: BTreeMap<String, PublisherFacts>,
    unkept: Option<Since>,
}

/// A trouble that began at a time.
#[derive(Debug, Clone)]
struct Since {
    at: Instant,
    why: String,
}

#[derive(Debug)]
struct PollsterFacts {
    started: Instant,
    last_round: Option<Instant>,
    failing: BTreeMap<FailReason, Failing>,
}

#[derive(Debug, Clone, Copy)]
struct Failing {
    since: Instant,
    rounds: u32,
    readings: usize,
}

#[derive(Debug)]
struct PublisherFacts {
    last_sent: Instant,
    unsent: Option<Since>,
    refused: Option<Since>,
    /// Without a connection to the message broker, if it needs one.
    away: Option<Since>,
    /// The message broker takes nothing.
    blocked: Option<Since>,
    full: Option<Instant>,
}

impl AgentReadiness {
    /// A pollster of a source begins.
    pub(super) fn expect_pollster(&mut self, source: &str, pollster: &str, now: Instant) {
        let facts = PollsterFacts {
            started: now,
            last_round: None,
            failing: BTreeMap::new(),
        };
        self.pollsters
            .insert((source.to_owned(), pollster.to_owned()), facts);
    }

    /// It is no more.
    pub(super) fn forget_pollster(&mut self, source: &str, pollster: &str) {
        self.pollsters
            .remove(&(source.to_owned(), pollster.to_owned()));
    }

    /// A round ended with these failures.
    pub(super) fn round_ended(
        &mut self,
        (source, pollster): (&str, &str),
        failures: impl Iterator<Item = FailReason>,
        now: Instant,
    ) {
        let key = (source.to_owned(), pollster.to_owned());
        let facts = self.pollsters.entry(key).or_insert(PollsterFacts {
            started: now,
            last_round: None,
            failing: BTreeMap::new(),
        });
        facts.last_round = Some(now);
        let before = std::mem::take(&mut facts.failing);
        for reason in failures.filter(|reason| makes_unready(*reason)) {
            let failing = facts.failing.entry(reason).or_insert_with(|| {
                let before = before.get(&reason);
                Failing {
                    since: before.map_or(now, |before| before.since),
                    rounds: before.map_or(0, |before| before.rounds).saturating_add(1),
                    readings: 0,
                }
            });
            failing.readings += 1;
        }
    }

    /// A publisher begins.
    pub(super) fn expect_publisher(&mut self, path: &str, now: Instant) {
        self.publishers
            .entry(path.to_owned())
            .or_insert(PublisherFacts {
                last_sent: now,
                unsent: None,
                refused: None,
                away: None,
                blocked: None,
                full: None,
            });
    }

    /// The same of one that needs a message broker, and has no connection yet.
    pub(super) fn expect_notifier(&mut self, path: &str, now: Instant) {
        self.expect_publisher(path, now);
        if let Some(facts) = self.publishers.get_mut(path) {
            facts.away.get_or_insert_with(|| Since {
                at: now,
                why: "nothing was heard of it yet".to_owned(),
            });
        }
    }

    /// It is no more.
    pub(super) fn forget_publisher(&mut self, path: &str) {
        self.publishers.remove(path);
    }

    /// A publisher was given readings.
    pub(super) fn published(&mut self, path: &str, outcome: &Outcome, now: Instant) {
        let since = |error: &io::Error| Since {
            at: now,
            why: error.to_string(),
        };
        let Some(facts) = self.publishers.get_mut(path) else {
            return;
        };
        if outcome.sent > 0 {
            facts.last_sent = now;
            facts.unsent = None;
        } else if let Some(error) = &outcome.error {
            facts.unsent.get_or_insert_with(|| since(error));
        }
        match &outcome.refused {
            Some(error) => {
                facts.refused.get_or_insert_with(|| since(error));
            }
            None if outcome.sent > 0 => facts.refused = None,
            None => {}
        }
    }

    /// A publisher told something of its message broker.
    pub(super) fn delivery(&mut self, path: &str, delivery: &Delivery<'_>, now: Instant) {
        let Some(facts) = self.publishers.get_mut(path) else {
            return;
        };
        let since = |why: &str| Since {
            at: now,
            why: why.to_owned(),
        };
        match delivery {
            Delivery::Connected { .. } => facts.away = None,
            Delivery::Disconnected { why } => {
                facts.blocked = None;
                // Since when stays; why is what was heard last.
                facts.away.get_or_insert_with(|| since(why)).why = (*why).to_owned();
            }
            Delivery::Blocked { why } => facts.blocked = Some(since(why)),
            Delivery::Unblocked => facts.blocked = None,
            Delivery::Confirmed { .. } => {
                facts.last_sent = now;
                facts.unsent = None;
            }
            Delivery::Undelivered { reason, .. } => {
                facts.unsent.get_or_insert_with(|| since(reason.words()));
            }
            Delivery::Accepted { .. }
            | Delivery::Differs { .. }
            | Delivery::Lost { .. }
            | Delivery::Backlog { .. } => {}
        }
    }

    /// A publisher's queue was full.
    pub(super) fn queue_full(&mut self, path: &str, now: Instant) {
        if let Some(facts) = self.publishers.get_mut(path) {
            facts.full = Some(now);
        }
    }

    /// The state was saved, or not and why.
    pub(super) fn saved(&mut self, result: Result<(), String>, now: Instant) {
        match result {
            Ok(()) => self.unkept = None,
            Err(why) => {
                self.unkept.get_or_insert(Since { at: now, why });
            }
        }
    }

    /// For each source and pollster, how long ago its last round ended; without one, how long ago
    /// it began.
    pub(super) fn round_ages(&self, now: Instant) -> impl Iterator<Item = ([&str; 2], Duration)> {
        self.pollsters.iter().map(move |((source, name), facts)| {
            let last = facts.last_round.unwrap_or(facts.started);
            ([&**source, &**name], now.saturating_duration_since(last))
        })
    }

    /// For each publisher, how long ago it last sent something; without that, how long ago it began.
    pub(super) fn sent_ages(&self, now: Instant) -> impl Iterator<Item = (&str, Duration)> {
        self.publishers
            .iter()
            .map(move |(path, facts)| (&**path, now.saturating_duration_since(facts.last_sent)))
    }

    /// What isn't ready, why and since when, one text each.
    pub(super) fn troubles(&self, now: Instant) -> Vec<String> {
        let mut troubles = Vec::new();
        for ((source, pollster), facts) in &self.pollsters {
            facts.tell(
                &format!("{pollster} of source {source}"),
                now,
                &mut troubles,
            );
        }
        for (path, facts) in &self.publishers {
            facts.tell(path, now, &mut troubles);
        }
        if let Some(Since { at, why }) = &self.unkept {
            troubles.push(format!(
                "no state can be kept for {} s: {why}",
                secs(now, *at)
            ));
        }
        troubles
    }
}

impl PollsterFacts {
    fn tell(&self, name: &str, now: Instant, troubles: &mut Vec<String>) {
        if self.last_round.is_none() {
            let waited = secs(now, self.started);
            troubles.push(format!(
                "{name} has not ended its first round for {waited} s"
            ));
        }
        for (reason, failing) in &self.failing {
            if failing.rounds >= FAILED_ROUNDS {
                let (lasted, missing) = (secs(now, failing.since), failing.readings);
                let words = reason.words();
                troubles.push(format!(
                    "{name}: {reason} for {lasted} s, {missing} in the last round: {words}"
                ));
            }
        }
    }
}

impl PublisherFacts {
    fn tell(&self, path: &str, now: Instant, troubles: &mut Vec<String>) {
        let lasting = |since: &Option<Since>| {
            let since = since.clone()?;
            (now.saturating_duration_since(since.at) >= UNSENT_AFTER).then_some(since)
        };
        if let Some(Since { at, why }) = lasting(&self.away) {
            troubles.push(format!(
                "{path} has no connection to the message broker for {} s: {why}",
                secs(now, at)
            ));
        }
        if let Some(Since { at, why }) = lasting(&self.blocked) {
            troubles.push(format!(
                "the message broker takes nothing from {path} for {} s: {why}",
                secs(now, at)
            ));
        }
        if let Some(Since { at, why }) = lasting(&self.unsent) {
            troubles.push(format!(
                "{path} has sent nothing for {} s: {why}",
                secs(now, at)
            ));
        }
        if let Some(Since { at, why }) = lasting(&self.refused) {
            let lasted = secs(now, at);
            troubles.push(format!(
                "nobody takes what {path} sends for {lasted} s: {why}"
            ));
        }
        let full = self
            .full
            .filter(|at| now.saturating_duration_since(*at) < FULL_FOR);
        if let Some(at) = full {
            let ago = secs(now, at);
            troubles.push(format!(
                "the queue to {path} was full {ago} s ago: readings were dropped"
            ));
        }
    }
}

/// Whether a failure that stays makes the agent unready: it is the agent's, its host's or its
/// configuration's. The others say something about what is watched, which the agent found out.
pub fn makes_unready(reason: FailReason) -> bool {
    match reason {
        FailReason::HypervisorSilent
        | FailReason::HypervisorError
        | FailReason::InstanceSilent
        | FailReason::NoWitness
        | FailReason::BmcSilent => false,
        FailReason::NoPermission
        | FailReason::OutputBlocked
        | FailReason::NotConfigured
        | FailReason::NameUnresolved
        | FailReason::DescriptorLimit
        | FailReason::NoBuffers
        | FailReason::PathNeverSeen
        | FailReason::ProbesNotSent
        | FailReason::ReceiveOverflow
        | FailReason::TimersLate
        | FailReason::NoQuorum
        | FailReason::SystemError
        | FailReason::HypervisorDenied
        | FailReason::HypervisorUnusable
        | FailReason::HypervisorNeverSeen
        | FailReason::PluginTimeout
        | FailReason::PluginOutput
        | FailReason::PluginCrashed
        | FailReason::PluginGarbage
        | FailReason::PluginMissing
        | FailReason::NoHosts => true,
    }
}

fn secs(now: Instant, since: Instant) -> u64 {
    now.saturating_duration_since(since).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::events::Undeliverable;

    const SECOND: Duration = Duration::from_secs(1);
    const STORAGE: (&str, &str) = ("ha_fast", "storage_connectivity");
    const PATH: &str = "udp://192.0.2.6:4953";

    fn outcome(sent: usize, error: Option<i32>, refused: Option<i32>) -> Outcome {
        Outcome {
            sent,
            error: error.map(io::Error::from_raw_os_error),
            refused: refused.map(io::Error::from_raw_os_error),
            ..Outcome::default()
        }
    }

    #[test]
    fn a_pollster_is_ready_with_its_first_round_unless_two_fail_in_a_row() {
        let start = clock::now();
        let mut book = AgentReadiness::default();
        book.expect_pollster(STORAGE.0, STORAGE.1, start);
        assert_eq!(
            book.troubles(start + SECOND),
            ["storage_connectivity of source ha_fast has not ended its first round for 1 s"]
        );
        let refused = || [FailReason::NoPermission, FailReason::NoPermission].into_iter();
        book.round_ended(STORAGE, refused(), start + SECOND);
        assert!(book.troubles(start + SECOND).is_empty(), "once is no state");
        book.round_ended(STORAGE, refused(), start + SECOND * 2);
        assert_eq!(
            book.troubles(start + SECOND * 4),
            [
                "storage_connectivity of source ha_fast: no_permission for 3 s, 2 in the last round: no permission for ICMP: grant CAP_NET_RAW or widen net.ipv4.ping_group_range"
            ]
        );
        book.round_ended(STORAGE, std::iter::empty(), start + SECOND * 5);
        assert!(book.troubles(start + SECOND * 6).is_empty());
        book.round_ended(STORAGE, refused(), start + SECOND * 7);
        assert!(
            book.troubles(start + SECOND * 7).is_empty(),
            "counted anew after a round that was well"
        );
    }

    #[test]
    fn what_is_watched_may_fail_without_the_agent_being_unready() {
        let start = clock::now();
        let mut book = AgentReadiness::default();
        for _ in 0..3 {
            let failures = [FailReason::InstanceSilent, FailReason::HypervisorSilent];
            book.round_ended(("s", "instances"), failures.into_iter(), start);
        }
        assert!(book.troubles(start).is_empty());
    }

    #[test]
    fn a_publisher_that_fails_or_is_refused_for_five_seconds_is_not_ready() {
        let start = clock::now();
        let mut book = AgentReadiness::default();
        book.expect_publisher(PATH, start);
        book.published(PATH, &outcome(0, Some(101), None), start);
        book.published(PATH, &outcome(0, Some(101), None), start + SECOND * 4);
        assert!(book.troubles(start + SECOND * 4).is_empty());
        assert_eq!(
            book.troubles(start + SECOND * 5),
            [
                "udp://192.0.2.6:4953 has sent nothing for 5 s: Network is unreachable (os error 101)"
            ]
        );
        book.published(PATH, &outcome(1, None, Some(111)), start + SECOND * 6);
        assert!(
            book.troubles(start + SECOND * 6).is_empty(),
            "it sends again"
        );
        book.published(PATH, &outcome(1, None, Some(111)), start + SECOND * 11);
        assert_eq!(
            book.troubles(start + SECOND * 11),
            [
                "nobody takes what udp://192.0.2.6:4953 sends for 5 s: Connection refused (os error 111)"
            ]
        );
        book.published(PATH, &outcome(1, None, None), start + SECOND * 12);
        assert!(book.troubles(start + SECOND * 20).is_empty());
    }

    #[test]
    fn a_message_broker_that_is_away_or_takes_nothing_is_told_until_it_is_back() {
        let start = clock::now();
        let mut book = AgentReadiness::default();
        let path = "notifier://?topic=t";
        book.expect_notifier(path, start);
        assert!(book.troubles(start + SECOND * 4).is_empty());
        let gone = |why| Delivery::Disconnected { why };
        book.delivery(path, &gone("no route to host"), start + SECOND * 4);
        assert_eq!(
            book.troubles(start + SECOND * 5),
            [
                "notifier://?topic=t has no connection to the message broker for 5 s: no route to host"
            ]
        );
        book.delivery(
            path,
            &Delivery::Connected { member: "m" },
            start + SECOND * 6,
        );
        assert!(book.troubles(start + SECOND * 60).is_empty());
        book.delivery(
            path,
            &Delivery::Blocked {
                why: "low on memory",
            },
            start,
        );
        assert_eq!(
            book.troubles(start + SECOND * 7),
            ["the message broker takes nothing from notifier://?topic=t for 7 s: low on memory"]
        );
        book.delivery(path, &Delivery::Unblocked, start + SECOND * 8);
        let refused = Delivery::Undelivered {
            reason: Undeliverable::Refused,
            readings: 3,
        };
        book.delivery(path, &refused, start + SECOND * 8);
        assert_eq!(
            book.troubles(start + SECOND * 13),
            [
                "notifier://?topic=t has sent nothing for 5 s: the broker refuses what is sent, as for a full queue"
            ]
        );
        let confirmed = Delivery::Confirmed {
            readings: 1,
            messages: 1,
            bytes: 1,
        };
        book.delivery(path, &confirmed, start + SECOND * 14);
        assert!(book.troubles(start + SECOND * 60).is_empty());
    }

    #[test]
    fn a_queue_that_overflowed_and_a_state_that_is_not_kept_are_told() {
        let start = clock::now();
        let mut book = AgentReadiness::default();
        book.expect_publisher(PATH, start);
        book.queue_full(PATH, start);
        book.saved(Err("writing agent.json: disk full".to_owned()), start);
        book.saved(Err("another error".to_owned()), start + SECOND);
        assert_eq!(
            book.troubles(start + SECOND * 2),
            [
                "the queue to udp://192.0.2.6:4953 was full 2 s ago: readings were dropped",
                "no state can be kept for 2 s: writing agent.json: disk full"
            ]
        );
        book.saved(Ok(()), start + SECOND * 3);
        assert!(book.troubles(start + FULL_FOR).is_empty());
    }

    #[test]
    fn what_is_forgotten_is_told_no_more() {
        let start = clock::now();
        let mut book = AgentReadiness::default();
        book.expect_pollster("s", "p", start);
        book.expect_publisher(PATH, start);
        book.queue_full(PATH, start);
        book.forget_pollster("s", "p");
        book.forget_publisher(PATH);
        assert!(book.troubles(start).is_empty());
        assert_eq!(
            book.round_ages(start).count() + book.sent_ages(start).count(),
            0
        );
    }
}
