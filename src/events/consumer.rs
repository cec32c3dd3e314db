//! What a consumer of the message broker tells the outside, for its topic.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::Chain;
use super::collector::CollectorEvents;
use super::metrics::Metrics;
use crate::wire::Refusal;

/// The way in, in the labels that UDP has too.
const AMQP: &str = "amqp";

/// The metrics that each topic has series of.
pub(super) struct ConsumerMetrics {
    deliveries: IntCounterVec,
    redelivered: IntCounterVec,
    acknowledged: IntCounterVec,
    quarantined: IntCounterVec,
    lost: IntCounterVec,
    unacknowledged: IntGaugeVec,
    connected: IntGaugeVec,
}

impl ConsumerMetrics {
    pub(super) fn new(metrics: &Metrics) -> prometheus::Result<Self> {
        let of_topic = &["topic"];
        Ok(ConsumerMetrics {
            deliveries: metrics.counters("deliveries_total", "Deliveries of history that the message broker made", of_topic)?,
            redelivered: metrics.counters(
                "deliveries_redelivered_total",
                "Deliveries among them that were made before and not acknowledged",
                of_topic,
            )?,
            acknowledged: metrics.counters(
                "deliveries_acknowledged_total",
                "Deliveries that were acknowledged: all that is good in them is stored, and what isn't is in quarantine",
                of_topic,
            )?,
            quarantined: metrics.counters(
                "deliveries_quarantined_total",
                "Bodies that went into the broker's quarantine for something in them, by the first reason",
                &["topic", "reason"],
            )?,
            lost: metrics.counters(
                "deliveries_lost_total",
                "Deliveries with something bad in them that the broker would not put into quarantine: what is good in them is stored, the rest is lost",
                of_topic,
            )?,
            unacknowledged: metrics.gauges("deliveries_unacknowledged", "Deliveries that are being stored or put into quarantine now", of_topic)?,
            connected: metrics.gauges("broker_connected", "1 while the topic is being consumed", of_topic)?,
        })
    }
}

/// What the consumer of one topic tells. Its series are looked up once, here.
pub struct ConsumerEvents {
    collector: Arc<CollectorEvents>,
    topic: String,
    bytes: IntCounter,
    accepted: IntCounter,
    refused: Vec<IntCounter>,
    deliveries: IntCounter,
    redelivered: IntCounter,
    acknowledged: IntCounter,
    quarantined: Vec<IntCounter>,
    lost: IntCounter,
    unacknowledged: IntGauge,
    connected: IntGauge,
}

impl fmt::Debug for ConsumerEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConsumerEvents").field(&self.topic).finish()
    }
}

impl ConsumerEvents {
    /// For this topic, which isn't consumed yet.
    pub fn new(collector: &Arc<CollectorEvents>, topic: &str, now: Instant) -> Self {
        let of_topic = &[topic];
        let ConsumerMetrics {
            deliveries,
            redelivered,
            acknowledged,
            quarantined,
            lost,
            unacknowledged,
            connected,
        } = &collector.consumers;
        let verdict = |verdict: &str| collector.messages.with_label_values(&[AMQP, verdict]);
        let quarantined =
            |reason: Refusal| quarantined.with_label_values(&[topic, reason.as_str()]);
        let events = ConsumerEvents {
            bytes: collector.received_bytes.with_label_values(&[AMQP]),
            accepted: verdict("accepted"),
            refused: Refusal::ALL.map(|refusal| verdict(refusal.as_str())).into(),
            deliveries: deliveries.with_label_values(of_topic),
            redelivered: redelivered.with_label_values(of_topic),
            acknowledged: acknowledged.with_label_values(of_topic),
            quarantined: Refusal::ALL.map(quarantined).into(),
            lost: lost.with_label_values(of_topic),
            unacknowledged: unacknowledged.with_label_values(of_topic),
            connected: connected.with_label_values(of_topic),
            topic: topic.to_owned(),
            collector: Arc::clone(collector),
        };
        events.collector.ready(|book| book.expect_topic(topic, now));
        events
    }

    /// The topic is being consumed from this member of the cluster.
    pub fn connected(&self, member: &str) {
        self.connected.set(1);
        self.collector.ready(|book| book.consumed(&self.topic));
        tracing::info!(
            topic = self.topic,
            broker = member,
            "consuming from the message broker"
        );
    }

    /// It isn't any more, or could not be. That is told once, however often it is tried; `/readyz` has the
    /// latest reason.
    pub fn away(&self, error: &dyn Error, now: Instant) {
        let why = Chain(error).to_string();
        self.disconnected();
        let is_news = self
            .collector
            .ready(|book| book.unconsumed(&self.topic, &why, now));
        if is_news {
            tracing::warn!(
                topic = self.topic,
                "nothing is consumed, to be tried again and again: {why}"
            );
        } else {
            tracing::debug!(
                topic = self.topic,
                "the message broker is still away: {why}"
            );
        }
    }

    /// The connection is gone, and with it what was not acknowledged by it: it comes again.
    pub fn disconnected(&self) {
        self.connected.set(0);
        self.unacknowledged.set(0);
    }

    /// These were there already, declared otherwise than configured.
    pub fn declared_otherwise(&self, names: &[String]) {
        for name in names {
            if self.collector.declared_otherwise(name) {
                tracing::warn!(
                    topic = self.topic,
                    name,
                    "the broker has it with other properties than are configured: it is used as it is"
                );
            }
        }
    }

    /// A delivery of so many bytes came.
    pub fn delivered(&self, bytes: usize, is_redelivered: bool) {
        self.deliveries.inc();
        self.bytes.inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
        self.redelivered.inc_by(u64::from(is_redelivered));
        self.unacknowledged.inc();
    }

    /// So many messages of it are authentic.
    pub fn accepted(&self, messages: usize) {
        self.accepted
            .inc_by(u64::try_from(messages).unwrap_or(u64::MAX));
    }

    /// So many of it were refused.
    pub fn refused(&self, refusal: Refusal, messages: usize, now: Instant) {
        if let Some(counter) = self.refused.get(refusal.index()) {
            counter.inc_by(u64::try_from(messages).unwrap_or(u64::MAX));
        }
        let reason = refusal.as_str();
        if let Some(kept_back) = self.collector.admit(reason, now) {
            let topic = &self.topic;
            tracing::warn!(
                reason,
                topic,
                messages,
                kept_back,
                "message refused: {refusal}"
            );
        }
    }

    /// So many states of what is said just now found no room.
    pub fn shown(&self, lost: usize) {
        self.collector.states_lost(lost);
    }

    /// So many deliveries were acknowledged.
    pub fn acknowledged(&self, deliveries: u64) {
        self.acknowledged.inc_by(deliveries);
        self.unacknowledged
            .sub(i64::try_from(deliveries).unwrap_or(i64::MAX));
    }

    /// A delivery was rejected, for good.
    pub fn rejected(&self) {
        self.unacknowledged.dec();
    }

    /// A body is in the broker's quarantine.
    pub fn quarantined(&self, reason: Refusal) {
        if let Some(counter) = self.quarantined.get(reason.index()) {
            counter.inc();
        }
    }

    /// A body isn't in quarantine, and won't be.
    pub fn lost(&self, reason: Refusal, error: &dyn Error, now: Instant) {
        self.lost.inc();
        if let Some(kept_back) = self.collector.admit("delivery_lost", now) {
            tracing::error!(
                reason = reason.as_str(),
                topic = self.topic,
                kept_back,
                "a body with refused messages is lost, for it could not be put into quarantine: {}",
                Chain(error)
            );
        }
    }
}
