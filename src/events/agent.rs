//! What the agent tells the outside.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::{HistogramVec, IntCounterVec, IntGauge};

use super::changes::Changes;
use super::limit::RateLimit;
use super::metrics::Metrics;
use crate::model::{FailReason, Sample, Volume, meters};

const ROUND_SECONDS: &[f64] = &[0.001, 0.01, 0.1, 0.3, 0.5, 0.8, 1.0, 2.0, 5.0, 30.0];
const LATENESS_SECONDS: &[f64] = &[0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 30.0];

/// The agent's metrics and log lines.
pub struct AgentEvents {
    metrics: Metrics,
    rounds: IntCounterVec,
    missed: IntCounterVec,
    failed: IntCounterVec,
    items_refused: IntCounterVec,
    duration: HistogramVec,
    lateness: HistogramVec,
    published: IntCounterVec,
    dropped: IntCounterVec,
    refused: IntCounterVec,
    epoch: IntGauge,
    changes: Mutex<Changes>,
    publish_errors: Mutex<RateLimit<(String, &'static str)>>,
}

impl AgentEvents {
    /// Registers every metric.
    pub fn new() -> prometheus::Result<Self> {
        let metrics = Metrics::default();
        Ok(AgentEvents {
            rounds: metrics.counters("rounds_total", "Rounds of a pollster that ended", &["source", "pollster"])?,
            missed: metrics.counters(
                "rounds_missed_total",
                "Rounds that never started because an earlier one, or a stop of the whole process, took their time",
                &["source", "pollster"],
            )?,
            failed: metrics.counters(
                "pollster_failed_total",
                "pollster.failed samples: rounds, or gateways in a round, without a reading",
                &["source", "pollster", "reason"],
            )?,
            items_refused: metrics.counters(
                "plugin_samples_refused_total",
                "Samples of plug-ins that couldn't be read, beside others that could or not",
                &["source", "pollster"],
            )?,
            duration: metrics.histograms("round_duration_seconds", "How long rounds took", &["source", "pollster"], ROUND_SECONDS)?,
            lateness: metrics.histograms(
                "round_lateness_seconds",
                "How long after their time rounds started",
                &["source", "pollster"],
                LATENESS_SECONDS,
            )?,
            published: metrics.counters("readings_published_total", "Readings handed to a publisher, by what became of them", &["publisher", "result"])?,
            dropped: metrics.counters(
                "publisher_dropped_readings_total",
                "Readings dropped, oldest first, because a publisher's queue was full",
                &["publisher"],
            )?,
            refused: metrics.counters(
                "publisher_refused_total",
                "Times that the other end was heard not to take a datagram, such as a host without a collector; UDP tells of some, never of all",
                &["publisher"],
            )?,
            epoch: metrics.gauge("epoch", "The agent's epoch: grows with every start")?,
            changes: Mutex::default(),
            publish_errors: Mutex::default(),
            metrics,
        })
    }

    /// The metrics, to be shown.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The agent starts.
    pub fn started(&self, host: &str, epoch: u64) {
        self.epoch.set(i64::try_from(epoch).unwrap_or(i64::MAX));
        tracing::info!(
            host,
            epoch,
            version = env!("CARGO_PKG_VERSION"),
            "agent started"
        );
    }

    /// A round ended.
    pub fn round_ended(
        &self,
        source: &str,
        pollster: &str,
        took: Duration,
        late: Duration,
        samples: &[Sample],
    ) {
        self.rounds.with_label_values(&[source, pollster]).inc();
        self.duration
            .with_label_values(&[source, pollster])
            .observe(took.as_secs_f64());
        self.lateness
            .with_label_values(&[source, pollster])
            .observe(late.as_secs_f64());
        tracing::debug!(
            source,
            pollster,
            ?took,
            ?late,
            samples = samples.len(),
            "round ended"
        );
        self.told(source, pollster, samples);
    }

    /// A plug-in made samples that couldn't be read.
    pub fn samples_refused(&self, source: &str, pollster: &str, refused: u64) {
        if refused > 0 {
            self.items_refused
                .with_label_values(&[source, pollster])
                .inc_by(refused);
        }
    }

    /// A pollster had something to say between two rounds.
    pub fn news(&self, source: &str, pollster: &str, samples: &[Sample]) {
        tracing::debug!(source, pollster, samples = samples.len(), "news");
        self.told(source, pollster, samples);
    }

    fn told(&self, source: &str, pollster: &str, samples: &[Sample]) {
        for sample in samples {
            if let (true, Volume::Int(code)) =
                (sample.meter == meters::POLLSTER_FAILED, sample.volume)
                && let Some(reason) = FailReason::from_code(code)
            {
                self.failed
                    .with_label_values(&[source, pollster, reason.as_str()])
                    .inc();
            }
        }
        let news = self
            .changes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .of_round(samples);
        for change in news {
            let (meter, resource, now) = (change.meter, change.resource_id, change.now);
            if change.is_bad {
                tracing::warn!(source, meter, resource, "{now}");
            } else {
                tracing::info!(source, meter, resource, "{now}");
            }
        }
    }

    /// Rounds were passed over.
    pub fn rounds_missed(&self, source: &str, pollster: &str, missed: u64) {
        self.missed
            .with_label_values(&[source, pollster])
            .inc_by(missed);
        tracing::warn!(
            source,
            pollster,
            missed,
            "rounds missed: the last one, or a stop of the process, took their time"
        );
    }

    /// The configuration has a pollster of a source no more, and its last round is over.
    pub fn pollster_gone(&self, source: &str, pollster: &str) {
        self.metrics
            .forget(&[("source", source), ("pollster", pollster)]);
        tracing::info!(source, pollster, "pollster ended");
    }

    /// The configuration has a publisher no more, and what was queued for it is sent.
    pub fn publisher_gone(&self, publisher: &str) {
        self.metrics.forget(&[("publisher", publisher)]);
        self.publish_errors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .forget(|(of, _)| of == publisher);
        tracing::info!(publisher, "publisher ended");
    }

    /// A publisher sent readings.
    pub fn published(&self, publisher: &str, readings: usize) {
        self.published
            .with_label_values(&[publisher, "sent"])
            .inc_by(count(readings));
    }

    /// A publisher could not send readings; for UDP they are lost on this path.
    pub fn publish_failed(
        &self,
        publisher: &str,
        readings: usize,
        error: &std::io::Error,
        now: Instant,
    ) {
        self.published
            .with_label_values(&[publisher, "failed"])
            .inc_by(count(readings));
        if let Some(kept_back) = self.admit(publisher, "failed", now) {
            tracing::warn!(publisher, readings, %error, kept_back, "publishing failed");
        }
    }

    /// A datagram that had left was not taken. The next ones are sent all the same.
    pub fn publisher_refused(&self, publisher: &str, error: &std::io::Error, now: Instant) {
        self.refused.with_label_values(&[publisher]).inc();
        if let Some(kept_back) = self.admit(publisher, "refused", now) {
            tracing::warn!(publisher, %error, kept_back, "the other end takes nothing: is the collector running?");
        }
    }

    /// A publisher's queue was full.
    pub fn publisher_dropped(&self, publisher: &str, readings: usize) {
        self.dropped
            .with_label_values(&[publisher])
            .inc_by(count(readings));
    }

    fn admit(&self, publisher: &str, kind: &'static str, now: Instant) -> Option<u64> {
        self.publish_errors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .admit((publisher.to_owned(), kind), now)
    }
}

fn count(readings: usize) -> u64 {
    u64::try_from(readings).unwrap_or(u64::MAX)
}
