//! What publishers tell of their message broker, as metrics and log lines.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use prometheus::{IntCounterVec, IntGaugeVec};

use super::limit::RateLimit;
use super::metrics::Metrics;
use super::{Delivery, Undeliverable};
use crate::model::Identity;

/// The metrics that a publisher has for having a message broker, and who is connected.
pub(super) struct BrokerMetrics {
    messages: IntCounterVec,
    undelivered: IntCounterVec,
    connected: IntGaugeVec,
    blocked: IntGaugeVec,
    backlog: IntGaugeVec,
    /// Whether each publisher has a connection, as it told last.
    told: Mutex<BTreeMap<String, bool>>,
    failures: Mutex<RateLimit<(String, Undeliverable)>>,
}

impl BrokerMetrics {
    pub(super) fn new(metrics: &Metrics) -> prometheus::Result<Self> {
        let of_publisher = &["publisher"];
        Ok(BrokerMetrics {
            messages: metrics.counters(
                "publisher_messages_total",
                "Messages that the message broker confirmed to a publisher",
                of_publisher,
            )?,
            undelivered: metrics.counters(
                "publisher_undelivered_total",
                "Readings that a try didn't deliver to the message broker; the publisher's policy says whether they are tried again",
                &["publisher", "reason"],
            )?,
            connected: metrics.gauges(
                "publisher_connected",
                "1 if a publisher has a connection to the message broker",
                of_publisher,
            )?,
            blocked: metrics.gauges(
                "publisher_blocked",
                "1 if the message broker has said that it takes nothing for now",
                of_publisher,
            )?,
            backlog: metrics.gauges(
                "publisher_backlog_rounds",
                "Rounds that couldn't be delivered and wait until there is a way again",
                of_publisher,
            )?,
            told: Mutex::default(),
            failures: Mutex::default(),
        })
    }

    /// A publisher begins; its counters begin with 0.
    pub(super) fn expect(&self, publisher: &str) {
        self.messages.with_label_values(&[publisher]);
        for reason in Undeliverable::ALL {
            self.undelivered
                .with_label_values(&[publisher, reason.as_str()]);
        }
        for gauge in [&self.connected, &self.blocked, &self.backlog] {
            gauge.with_label_values(&[publisher]).set(0);
        }
    }

    /// It is no more.
    pub(super) fn forget(&self, publisher: &str) {
        lock(&self.told).remove(publisher);
        lock(&self.failures).forget(|(of, _)| of == publisher);
    }

    pub(super) fn tell(&self, publisher: &str, delivery: &Delivery<'_>, now: Instant) {
        match delivery {
            Delivery::Connected { member } => {
                self.connected.with_label_values(&[publisher]).set(1);
                lock(&self.told).insert(publisher.to_owned(), true);
                tracing::info!(publisher, member, "connected to the message broker");
            }
            Delivery::Disconnected { why } => self.disconnected(publisher, why),
            Delivery::Blocked { why } => {
                self.blocked.with_label_values(&[publisher]).set(1);
                tracing::warn!(publisher, why, "the message broker takes nothing for now");
            }
            Delivery::Unblocked => {
                self.blocked.with_label_values(&[publisher]).set(0);
                tracing::info!(publisher, "the message broker takes messages again");
            }
            Delivery::Differs { name } => {
                tracing::warn!(
                    publisher,
                    name,
                    "is there with other properties than the configuration's, and used as it is"
                );
            }
            Delivery::Confirmed { messages, .. } => {
                self.messages
                    .with_label_values(&[publisher])
                    .inc_by(*messages);
            }
            Delivery::Undelivered { reason, readings } => {
                self.undelivered(publisher, *reason, *readings, now);
            }
            Delivery::Accepted { first, last } => accepted(publisher, first, last),
            Delivery::Lost { .. } => {}
            Delivery::Backlog { rounds } => {
                let rounds = i64::try_from(*rounds).unwrap_or(i64::MAX);
                self.backlog.with_label_values(&[publisher]).set(rounds);
            }
        }
    }

    /// Told once: nobody needs a line for every attempt while a broker is away.
    fn disconnected(&self, publisher: &str, why: &str) {
        self.connected.with_label_values(&[publisher]).set(0);
        self.blocked.with_label_values(&[publisher]).set(0);
        match lock(&self.told).insert(publisher.to_owned(), false) {
            Some(false) => {
                tracing::debug!(publisher, why, "still no connection to the message broker");
            }
            Some(true) => {
                tracing::warn!(publisher, why, "the connection to the message broker ended");
            }
            None => tracing::warn!(publisher, why, "no connection to the message broker"),
        }
    }

    fn undelivered(&self, publisher: &str, reason: Undeliverable, readings: usize, now: Instant) {
        self.undelivered
            .with_label_values(&[publisher, reason.as_str()])
            .inc_by(u64::try_from(readings).unwrap_or(u64::MAX));
        let kind = (publisher.to_owned(), reason);
        if let Some(kept_back) = lock(&self.failures).admit(kind, now) {
            let why = reason.words();
            tracing::warn!(
                publisher,
                readings,
                kept_back,
                "not delivered to the message broker: {why}"
            );
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says which readings nothing can lose any more, at the broker or on the disk. Whoever looks for a missing
/// reading begins with this line.
pub(super) fn accepted(publisher: &str, first: &Identity, last: &Identity) {
    let (epoch, first, last) = (first.epoch, first.seq, last.seq);
    tracing::debug!(publisher, epoch, first, last, "readings accepted");
}
