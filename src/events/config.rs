//! What the daemons tell about their configuration and its reloads. Options are named; their values,
//! of which some are secrets, are not.

use prometheus::{IntCounterVec, IntGauge};

use super::metrics::Metrics;
use crate::config::Problem;
use crate::model::UtcTime;

/// Lines that one refused configuration may put into the log. It may have a problem in each of its
/// thousands of lines; the rest shows `--check-config`.
const PROBLEMS_TOLD_MAX: usize = 100;

/// The metrics and log lines of reloads, of a daemon's or of several that share a process.
pub struct ConfigEvents {
    metrics: Metrics,
    reloads: IntCounterVec,
    last_success: IntGauge,
    is_successful: IntGauge,
    pending: IntGauge,
}

impl ConfigEvents {
    /// Registers every metric, for a configuration that was good at `now`.
    pub fn new(now: UtcTime) -> prometheus::Result<Self> {
        let metrics = Metrics::default();
        let events = ConfigEvents {
            reloads: metrics.counters(
                "config_reloads_total",
                "Reloads of the configuration by what came of them: applied, unchanged (nothing that takes effect without a restart), refused",
                &["result"],
            )?,
            last_success: metrics.gauge(
                "config_last_reload_success_timestamp_seconds",
                "When a configuration was last read and accepted, since 1970; at first the time of the start",
            )?,
            is_successful: metrics.gauge(
                "config_last_reload_successful",
                "1 if the files were accepted when they were last read, 0 if the configuration before them is still in force",
            )?,
            pending: metrics.gauge(
                "config_restart_pending",
                "Settings with a new value in the files that waits for a restart",
            )?,
            metrics,
        };
        for result in ["applied", "unchanged", "refused"] {
            events.reloads.with_label_values(&[result]);
        }
        events.accepted(now);
        Ok(events)
    }

    /// The metrics, to be shown.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Files are read again, because of this.
    pub fn reloading(&self, because: &str) {
        tracing::info!(because, "reloading the configuration");
    }

    /// A configuration was accepted: these options and parts of the pipeline changed, these options
    /// wait for a restart.
    pub fn reloaded(&self, changes: &[String], pending: &[String], now: UtcTime) {
        let result = if changes.is_empty() {
            "unchanged"
        } else {
            "applied"
        };
        self.reloads.with_label_values(&[result]).inc();
        self.accepted(now);
        self.pending
            .set(i64::try_from(pending.len()).unwrap_or(i64::MAX));
        for what in changes {
            tracing::info!(what, "configuration changed");
        }
        for option in pending {
            tracing::warn!(option, "its new value waits for a restart");
        }
        tracing::info!(
            changes = changes.len(),
            restart_pending = pending.len(),
            "configuration reloaded"
        );
    }

    /// Something is odd about a configuration that was accepted.
    pub fn odd(&self, problem: &Problem) {
        tracing::warn!("configuration: {problem}");
    }

    /// A configuration was refused for these reasons; the one before it stays in force.
    pub fn refused(&self, problems: &[String]) {
        self.reloads.with_label_values(&["refused"]).inc();
        self.is_successful.set(0);
        for problem in problems.iter().take(PROBLEMS_TOLD_MAX) {
            tracing::error!("configuration refused: {problem}");
        }
        tracing::error!(
            problems = problems.len(),
            "the configuration was refused: the one before it stays in force"
        );
    }

    fn accepted(&self, now: UtcTime) {
        self.last_success.set(now.unix_micros() / 1_000_000);
        self.is_successful.set(1);
    }
}
