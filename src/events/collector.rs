//! What the collector tells the outside.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::{HistogramVec, IntCounterVec, IntGauge};

use super::Chain;
use super::limit::RateLimit;
use super::metrics::Metrics;

const BATCH_SIZES: &[f64] = &[1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1000.0];
const LAG_SECONDS: &[f64] = &[0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0];

/// The collector's metrics and log lines.
pub struct CollectorEvents {
    metrics: Metrics,
    datagrams: IntCounterVec,
    messages: IntCounterVec,
    kernel_dropped: IntCounterVec,
    dropped: IntCounterVec,
    readings: IntCounterVec,
    store_errors: IntCounterVec,
    batch_size: HistogramVec,
    lag: HistogramVec,
    queued: IntGauge,
    receive_buffer: IntGauge,
    refusals: Mutex<RateLimit<&'static str>>,
}

impl CollectorEvents {
    /// Registers every metric.
    pub fn new() -> prometheus::Result<Self> {
        let metrics = Metrics::default();
        Ok(CollectorEvents {
            datagrams: metrics.counters("datagrams_total", "Datagrams received", &["transport"])?,
            messages: metrics.counters(
                "messages_total",
                "Metering messages received, by verdict: accepted, or why not",
                &["transport", "verdict"],
            )?,
            kernel_dropped: metrics.counters(
                "datagrams_dropped_total",
                "Datagrams that the kernel dropped because the receive buffer was full",
                &["transport"],
            )?,
            dropped: metrics.counters(
                "messages_dropped_total",
                "Accepted messages dropped before they were stored, by why",
                &["reason"],
            )?,
            readings: metrics.counters(
                "readings_total",
                "Readings by what storing made of them: stored, duplicate, late (stored as history only), refused",
                &["result"],
            )?,
            store_errors: metrics.counters("store_errors_total", "Batches that could not be stored and were tried again", &[])?,
            batch_size: metrics.histograms("batch_size", "Readings in a batch", &[], BATCH_SIZES)?,
            lag: metrics.histograms(
                "store_lag_seconds",
                "From the receipt of a batch's first message to the commit",
                &[],
                LAG_SECONDS,
            )?,
            queued: metrics.gauge("queued_messages", "Messages that wait to be stored")?,
            receive_buffer: metrics.gauge("receive_buffer_bytes", "The receive buffer that the kernel granted")?,
            refusals: Mutex::default(),
            metrics,
        })
    }

    /// Shows these verdicts from the start, with 0: an alert on a rate misses the first event of a
    /// series that only begins with it.
    pub fn expect_refusals(&self, reasons: &[&str]) {
        for verdict in reasons.iter().chain(&["accepted"]) {
            self.messages
                .with_label_values(&["udp", *verdict])
                .inc_by(0);
        }
    }

    /// The metrics, to be shown.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The UDP socket is open.
    pub fn listening(
        &self,
        address: std::net::SocketAddr,
        buffer_bytes: usize,
        wanted_bytes: usize,
    ) {
        self.receive_buffer
            .set(i64::try_from(buffer_bytes).unwrap_or(i64::MAX));
        tracing::info!(%address, buffer_bytes, "listening for UDP");
        if buffer_bytes < wanted_bytes {
            tracing::warn!(
                buffer_bytes,
                wanted_bytes,
                "the receive buffer is small, bursts may be lost: raise net.core.rmem_max or grant CAP_NET_ADMIN"
            );
        }
    }

    /// A datagram came in with this many good messages.
    pub fn received(&self, accepted: usize) {
        self.datagrams.with_label_values(&["udp"]).inc();
        self.messages
            .with_label_values(&["udp", "accepted"])
            .inc_by(count(accepted));
    }

    /// A message was refused. Anybody can cause this at any rate, so it is logged now and then.
    pub fn refused(
        &self,
        reason: &'static str,
        words: &dyn std::fmt::Display,
        from: &dyn std::fmt::Display,
        now: Instant,
    ) {
        self.messages.with_label_values(&["udp", reason]).inc();
        if let Some(kept_back) = self.admit(reason, now) {
            tracing::warn!(reason, from = %from, kept_back, "message refused: {words}");
        }
    }

    /// The kernel dropped datagrams.
    pub fn kernel_dropped(&self, datagrams: u32, now: Instant) {
        self.kernel_dropped
            .with_label_values(&["udp"])
            .inc_by(u64::from(datagrams));
        if let Some(kept_back) = self.admit("kernel_dropped", now) {
            tracing::warn!(
                datagrams,
                kept_back,
                "the kernel dropped datagrams: the receive buffer was full"
            );
        }
    }

    /// The writer is behind and its queue is full.
    pub fn queue_full(&self, messages: usize, now: Instant) {
        self.dropped
            .with_label_values(&["queue_full"])
            .inc_by(count(messages));
        if let Some(kept_back) = self.admit("queue_full", now) {
            tracing::warn!(
                messages,
                kept_back,
                "messages dropped: the database can't keep up and the queue is full"
            );
        }
    }

    /// Receiving failed in a way that may pass.
    pub fn receive_failed(&self, error: &std::io::Error, now: Instant) {
        if let Some(kept_back) = self.admit("receive_failed", now) {
            tracing::warn!(%error, kept_back, "receiving failed");
        }
    }

    /// This many messages wait.
    pub fn queued(&self, messages: usize) {
        self.queued.set(i64::try_from(messages).unwrap_or(i64::MAX));
    }

    /// A batch was committed; `results` says how many readings became what.
    pub fn stored(&self, size: usize, results: &[(&'static str, usize)], lag: Duration) {
        tracing::debug!(size, ?results, ?lag, "batch stored");
        let size = f64::from(u32::try_from(size).unwrap_or(u32::MAX));
        self.batch_size.with_label_values::<&str>(&[]).observe(size);
        self.lag
            .with_label_values::<&str>(&[])
            .observe(lag.as_secs_f64());
        for (result, number) in results {
            self.readings
                .with_label_values(&[*result])
                .inc_by(count(*number));
        }
    }

    /// One reading of a batch could not be stored and never can.
    pub fn row_refused(&self, reason: &'static str, words: &dyn std::fmt::Display, now: Instant) {
        self.readings.with_label_values(&["refused"]).inc();
        if let Some(kept_back) = self.admit(reason, now) {
            tracing::warn!(reason, kept_back, "reading not stored: {words}");
        }
    }

    /// Storing a batch failed; it will be tried again.
    pub fn store_failed(&self, size: usize, error: &dyn std::error::Error, now: Instant) {
        self.store_errors.with_label_values::<&str>(&[]).inc();
        if let Some(kept_back) = self.admit("store_failed", now) {
            tracing::error!(
                size,
                kept_back,
                "storing failed, trying again: {}",
                Chain(error)
            );
        }
    }

    /// The collector ends with messages that could not be stored.
    pub fn left_unstored(&self, messages: usize) {
        self.dropped
            .with_label_values(&["shutdown"])
            .inc_by(count(messages));
        tracing::error!(
            messages,
            "messages not stored before the time to stop was up"
        );
    }

    fn admit(&self, kind: &'static str, now: Instant) -> Option<u64> {
        self.refusals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .admit(kind, now)
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
