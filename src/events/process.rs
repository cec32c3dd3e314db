//! The metrics that both daemons have: which build this is, whether it is ready, and what its process
//! uses.

use std::time::Duration;

use prometheus::{Counter, Gauge, IntGauge, IntGaugeVec};

use super::metrics::{Metrics, show};

/// What a process uses. None is what the kernel didn't tell.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// When the daemon started, since 1970.
    pub started: Duration,
    /// Processor time of all its threads since then.
    pub cpu: Duration,
    /// Memory that it has in RAM.
    pub resident_bytes: Option<u64>,
    /// Its threads.
    pub threads: Option<u64>,
    /// Its open file descriptors.
    pub open_fds: Option<u64>,
    /// How many it may have.
    pub max_fds: Option<u64>,
}

impl Usage {
    /// Takes in what `/proc/self/status` says.
    #[must_use]
    pub fn with_status(self, status: &str) -> Self {
        let number = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        Usage {
            resident_bytes: number("VmRSS:").map(|kilobytes| kilobytes * 1024),
            threads: number("Threads:"),
            ..self
        }
    }
}

/// The metrics about the process.
pub(super) struct ProcessMetrics {
    ready: IntGauge,
    started: Gauge,
    cpu: Counter,
    resident: IntGaugeVec,
    threads: IntGaugeVec,
    open_fds: IntGaugeVec,
    max_fds: IntGaugeVec,
}

impl ProcessMetrics {
    /// Registers them.
    pub(super) fn new(metrics: &Metrics) -> prometheus::Result<Self> {
        let build = metrics.gauges(
            "build_info",
            "Always 1; the label says which version runs",
            &["version"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(ProcessMetrics {
            ready: metrics.gauge(
                "ready",
                "1 if /readyz answers 200, 0 if it says what isn't ready",
            )?,
            started: metrics.process_time(
                "process_start_time_seconds",
                "When the daemon started, since 1970, by the clock of its host",
            )?,
            cpu: metrics.process_counter(
                "process_cpu_seconds_total",
                "Processor time of all its threads",
            )?,
            resident: metrics.process_gauge(
                "process_resident_memory_bytes",
                "Memory that the process has in RAM",
            )?,
            threads: metrics.process_gauge("process_threads", "Threads of the process")?,
            open_fds: metrics
                .process_gauge("process_open_fds", "File descriptors that are open")?,
            max_fds: metrics
                .process_gauge("process_max_fds", "File descriptors that may be open")?,
        })
    }

    /// Shows what is so now.
    pub(super) fn set(&self, is_ready: bool, usage: &Usage) {
        self.ready.set(is_ready.into());
        self.started.set(usage.started.as_secs_f64());
        // A counter only grows: what it lacks is added.
        let grown = usage.cpu.as_secs_f64() - self.cpu.get();
        self.cpu.inc_by(grown.max(0.0));
        for (gauge, value) in [
            (&self.resident, usage.resident_bytes),
            (&self.threads, usage.threads),
            (&self.open_fds, usage.open_fds),
            (&self.max_fds, usage.max_fds),
        ] {
            show(
                gauge,
                &[],
                value.map(|value| i64::try_from(value).unwrap_or(i64::MAX)),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_become_numbers() {
        let usage = Usage::default().with_status("Name:\tx\nVmRSS:\t   18432 kB\nThreads:\t11\n");
        assert_eq!(usage.resident_bytes, Some(18432 * 1024));
        assert_eq!(usage.threads, Some(11));
        assert_eq!(
            Usage::default().with_status("VmRSS: many\n"),
            Usage::default()
        );
    }

    #[test]
    fn processor_time_only_grows() {
        let metrics = Metrics::default();
        let process = ProcessMetrics::new(&metrics).unwrap();
        let used = |seconds| Usage {
            cpu: Duration::from_secs(seconds),
            ..Usage::default()
        };
        for seconds in [3, 5, 4] {
            process.set(true, &used(seconds));
        }
        assert!(metrics.render().contains("process_cpu_seconds_total 5\n"));
    }
}
