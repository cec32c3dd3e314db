//! What the agent tells the outside.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::{GaugeVec, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec};

use super::agent_ready::AgentReadiness;
use super::brokers::BrokerMetrics;
use super::changes::Changes;
use super::limit::RateLimit;
use super::metrics::Metrics;
use super::process::ProcessMetrics;
use super::readings::{ReadingMetrics, Shown};
use super::spools::SpoolMetrics;
use super::{Counts, Delivery, LibvirtCounts, Outcome, ProbeResult, SpoolView, Spooling, Usage};
use crate::model::{FailReason, Sample, Volume, meters};

const ROUND_SECONDS: &[f64] = &[0.001, 0.01, 0.1, 0.3, 0.5, 0.8, 1.0, 2.0, 5.0, 30.0];
const LATENESS_SECONDS: &[f64] = &[0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 30.0];
const ANSWER_SECONDS: &[f64] = &[0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 3.0, 10.0];

/// What becomes of a reading that a publisher is given.
const PUBLISHED: [&str; 2] = ["sent", "failed"];
/// What becomes of an attempt that can fail.
const ATTEMPTED: [&str; 2] = ["done", "failed"];

/// Says how many rounds wait in a publisher's queue, while there is one.
type Depth = Box<dyn Fn() -> Option<usize> + Send + Sync>;

/// The agent's metrics and log lines.
pub struct AgentEvents {
    metrics: Metrics,
    process: ProcessMetrics,
    readings: ReadingMetrics,
    rounds: IntCounterVec,
    rounds_failed: IntCounterVec,
    missed: IntCounterVec,
    failed: IntCounterVec,
    samples: IntCounterVec,
    items_refused: IntCounterVec,
    duration: HistogramVec,
    lateness: HistogramVec,
    round_age: GaugeVec,
    probes: IntCounterVec,
    libvirt_answer: HistogramVec,
    libvirt_connects: IntCounterVec,
    libvirt_abandoned: IntCounterVec,
    libvirt_threads: IntGaugeVec,
    published: IntCounterVec,
    datagrams: IntCounterVec,
    bytes: IntCounterVec,
    dropped: IntCounterVec,
    refused: IntCounterVec,
    queued: IntGaugeVec,
    sent_age: GaugeVec,
    brokers: BrokerMetrics,
    spools: SpoolMetrics,
    lookups: IntCounterVec,
    saves: IntCounterVec,
    epoch: IntGauge,
    changes: Mutex<Changes>,
    shown: Mutex<Shown>,
    readiness: Mutex<AgentReadiness>,
    queues: Mutex<BTreeMap<String, Vec<Depth>>>,
    publish_errors: Mutex<RateLimit<(String, &'static str)>>,
}

impl AgentEvents {
    /// Registers every metric.
    pub fn new() -> prometheus::Result<Self> {
        let metrics = Metrics::with_log();
        let of_pollster = &["source", "pollster"];
        let events = AgentEvents {
            process: ProcessMetrics::new(&metrics)?,
            readings: ReadingMetrics::new(&metrics)?,
            rounds: metrics.counters("rounds_total", "Rounds of a pollster that ended", of_pollster)?,
            rounds_failed: metrics.counters(
                "rounds_failed_total",
                "Rounds that ended with a pollster.failed, beside readings or not",
                of_pollster,
            )?,
            missed: metrics.counters(
                "rounds_missed_total",
                "Rounds that never started because an earlier one, or a stop of the whole process, took their time",
                of_pollster,
            )?,
            failed: metrics.counters(
                "pollster_failed_total",
                "pollster.failed samples: rounds, or gateways in a round, without a reading",
                &["source", "pollster", "reason"],
            )?,
            samples: metrics.counters("samples_total", "Samples that a pollster yielded, those between rounds and pollster.failed among them", of_pollster)?,
            items_refused: metrics.counters(
                "plugin_samples_refused_total",
                "Samples of plug-ins that couldn't be read, beside others that could or not",
                of_pollster,
            )?,
            duration: metrics.histograms("round_duration_seconds", "How long rounds took", of_pollster, ROUND_SECONDS)?,
            lateness: metrics.histograms("round_lateness_seconds", "How long after their time rounds started", of_pollster, LATENESS_SECONDS)?,
            round_age: metrics.real_gauges("round_age_seconds", "How long ago a pollster's last round ended, or it started if none has", of_pollster)?,
            probes: metrics.counters(
                "probes_total",
                "Pings that were due, by what became of them; whether a target is lost is judged by all of a round",
                &["source", "pollster", "result"],
            )?,
            libvirt_answer: metrics.histograms("libvirt_answer_seconds", "The longest that libvirt took for an answer in each round", of_pollster, ANSWER_SECONDS)?,
            libvirt_connects: metrics.counters("libvirt_connects_total", "Attempts to connect to libvirt", of_pollster)?,
            libvirt_abandoned: metrics.counters(
                "libvirt_abandoned_total",
                "Questions that libvirt, or a guest through it, didn't answer in time: each leaves a thread behind until it does",
                of_pollster,
            )?,
            libvirt_threads: metrics.gauges("libvirt_threads", "Threads that talk to libvirt or hang in it", of_pollster)?,
            published: metrics.counters("readings_published_total", "Readings handed to a publisher, by what became of them", &["publisher", "result"])?,
            datagrams: metrics.counters("publisher_datagrams_total", "Datagrams that a publisher sent", &["publisher"])?,
            bytes: metrics.counters("publisher_sent_bytes_total", "Bytes of the datagrams that a publisher sent, without headers of IP and UDP, or of the bodies that the message broker confirmed", &["publisher"])?,
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
            queued: metrics.gauges("publisher_queued_rounds", "Rounds that wait for a publisher now, of 1,024 that may", &["publisher"])?,
            sent_age: metrics.real_gauges("publisher_sent_age_seconds", "How long ago a publisher last sent something, or it started if it never has", &["publisher"])?,
            brokers: BrokerMetrics::new(&metrics)?,
            spools: SpoolMetrics::new(&metrics)?,
            lookups: metrics.counters("name_lookups_total", "Look-ups of gateways' names", &["result"])?,
            saves: metrics.counters("state_saves_total", "Attempts to save what is remembered of gateways in agent.json", &["result"])?,
            epoch: metrics.gauge("epoch", "The agent's epoch: grows with every start")?,
            changes: Mutex::default(),
            shown: Mutex::default(),
            readiness: Mutex::default(),
            queues: Mutex::default(),
            publish_errors: Mutex::default(),
            metrics,
        };
        for result in ATTEMPTED {
            events.lookups.with_label_values(&[result]);
            events.saves.with_label_values(&[result]);
        }
        Ok(events)
    }

    /// Its metrics as they are now, in Prometheus' text format.
    pub fn render(&self, is_ready: bool, usage: &Usage, now: Instant) -> String {
        self.process.set(is_ready, usage);
        {
            let readiness = lock(&self.readiness);
            for (labels, age) in readiness.round_ages(now) {
                self.round_age
                    .with_label_values(&labels)
                    .set(age.as_secs_f64());
            }
            for (path, age) in readiness.sent_ages(now) {
                self.sent_age
                    .with_label_values(&[path])
                    .set(age.as_secs_f64());
            }
        }
        self.spools.look(now);
        for (path, depths) in lock(&self.queues).iter() {
            let waiting = depths.iter().filter_map(|depth| depth()).sum();
            self.queued.with_label_values(&[path]).set(whole(waiting));
        }
        self.metrics.render()
    }

    /// What keeps the agent from its job, one text each.
    pub fn not_ready(&self, now: Instant) -> Vec<String> {
        lock(&self.readiness).troubles(now)
    }

    /// A pollster of a source begins. Its counters begin with 0: an alert on a rate misses the first
    /// event of a series that only begins with it.
    pub fn expect_pollster(&self, source: &str, pollster: &str, now: Instant) {
        for counters in [
            &self.rounds,
            &self.rounds_failed,
            &self.missed,
            &self.samples,
        ] {
            counters.with_label_values(&[source, pollster]);
        }
        lock(&self.readiness).expect_pollster(source, pollster, now);
    }

    /// A publisher begins, whose queue holds so many rounds. Its counters begin with 0.
    pub fn expect_publisher(
        &self,
        path: &str,
        depth: impl Fn() -> Option<usize> + Send + Sync + 'static,
        now: Instant,
    ) {
        for counters in [&self.datagrams, &self.refused] {
            counters.with_label_values(&[path]);
        }
        self.expect(path, depth);
        lock(&self.readiness).expect_publisher(path, now);
    }

    /// The same for one that has a message broker.
    pub fn expect_notifier(
        &self,
        path: &str,
        depth: impl Fn() -> Option<usize> + Send + Sync + 'static,
        now: Instant,
    ) {
        self.brokers.expect(path);
        self.expect(path, depth);
        lock(&self.readiness).expect_notifier(path, now);
    }

    /// A notifier has a spool, which looks like this.
    pub fn expect_spool(
        &self,
        path: &str,
        look: impl Fn(Instant) -> Option<SpoolView> + Send + Sync + 'static,
    ) {
        self.spools.expect(path, look);
    }

    /// A publisher's spool has something to tell.
    pub fn spooling(&self, publisher: &str, told: &Spooling, now: Instant) {
        self.spools.tell(publisher, told, now);
    }

    fn expect(&self, path: &str, depth: impl Fn() -> Option<usize> + Send + Sync + 'static) {
        for result in PUBLISHED {
            self.published.with_label_values(&[path, result]);
        }
        for counters in [&self.bytes, &self.dropped] {
            counters.with_label_values(&[path]);
        }
        let mut queues = lock(&self.queues);
        // Two sinks may name one URL; what one of them had before a reload is gone.
        let of_path = queues.entry(path.to_owned()).or_default();
        of_path.retain(|depth| depth().is_some());
        of_path.push(Box::new(depth));
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
        (took, late): (Duration, Duration),
        samples: &[Sample],
        now: Instant,
    ) {
        let labels = [source, pollster];
        self.rounds.with_label_values(&labels).inc();
        self.duration
            .with_label_values(&labels)
            .observe(took.as_secs_f64());
        self.lateness
            .with_label_values(&labels)
            .observe(late.as_secs_f64());
        tracing::debug!(
            source,
            pollster,
            ?took,
            ?late,
            samples = samples.len(),
            "round ended"
        );
        if failures(samples).next().is_some() {
            self.rounds_failed.with_label_values(&labels).inc();
        }
        lock(&self.readiness).round_ended((source, pollster), failures(samples), now);
        self.readings
            .round(source, pollster, samples, &mut lock(&self.shown));
        self.told(source, pollster, samples);
    }

    /// What a pollster counted since it was asked last.
    pub fn counted(&self, source: &str, pollster: &str, counts: &Counts) {
        let Counts {
            refused,
            probes,
            libvirt,
        } = counts;
        if *refused > 0 {
            self.items_refused
                .with_label_values(&[source, pollster])
                .inc_by(*refused);
        }
        if !probes.is_empty() {
            for result in ProbeResult::ALL {
                self.probes
                    .with_label_values(&[source, pollster, result.as_str()])
                    .inc_by(probes.of(*result));
            }
        }
        if let Some(libvirt) = libvirt {
            self.libvirt(&[source, pollster], *libvirt);
        }
    }

    fn libvirt(&self, labels: &[&str; 2], counts: LibvirtCounts) {
        let LibvirtCounts {
            connects,
            abandoned,
            slowest,
            threads,
        } = counts;
        self.libvirt_connects
            .with_label_values(labels)
            .inc_by(connects);
        self.libvirt_abandoned
            .with_label_values(labels)
            .inc_by(abandoned);
        self.libvirt_threads
            .with_label_values(labels)
            .set(i64::try_from(threads).unwrap_or(i64::MAX));
        if let Some(slowest) = slowest {
            self.libvirt_answer
                .with_label_values(labels)
                .observe(slowest.as_secs_f64());
        }
    }

    /// A pollster had something to say between two rounds.
    pub fn news(&self, source: &str, pollster: &str, samples: &[Sample]) {
        tracing::debug!(source, pollster, samples = samples.len(), "news");
        self.told(source, pollster, samples);
    }

    fn told(&self, source: &str, pollster: &str, samples: &[Sample]) {
        self.samples
            .with_label_values(&[source, pollster])
            .inc_by(count(samples.len()));
        for reason in failures(samples) {
            self.failed
                .with_label_values(&[source, pollster, reason.as_str()])
                .inc();
        }
        let news = lock(&self.changes).of_round(samples);
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

    /// The configuration has a pollster of a source no more, and its last round is over: nothing of it
    /// is shown any longer.
    pub fn pollster_gone(&self, source: &str, pollster: &str) {
        lock(&self.readiness).forget_pollster(source, pollster);
        self.readings
            .forget(source, pollster, &mut lock(&self.shown));
        self.metrics
            .forget(&[("source", source), ("pollster", pollster)]);
        tracing::info!(source, pollster, "pollster ended");
    }

    /// The configuration has a publisher no more, and what was queued for it is sent: likewise.
    pub fn publisher_gone(&self, publisher: &str) {
        lock(&self.readiness).forget_publisher(publisher);
        lock(&self.queues).remove(publisher);
        self.metrics.forget(&[("publisher", publisher)]);
        lock(&self.publish_errors).forget(|(of, _)| of == publisher);
        self.brokers.forget(publisher);
        self.spools.forget(publisher);
        tracing::info!(publisher, "publisher ended");
    }

    /// A publisher was given readings. Those that failed are lost on this path; a datagram that had
    /// left and was not taken keeps none of the next ones back.
    pub fn published(&self, publisher: &str, outcome: &Outcome, now: Instant) {
        let Outcome {
            sent,
            failed,
            datagrams,
            bytes,
            error,
            refused,
        } = outcome;
        lock(&self.readiness).published(publisher, outcome, now);
        for (result, readings) in PUBLISHED.into_iter().zip([sent, failed]) {
            self.published
                .with_label_values(&[publisher, result])
                .inc_by(count(*readings));
        }
        self.datagrams
            .with_label_values(&[publisher])
            .inc_by(*datagrams);
        self.bytes.with_label_values(&[publisher]).inc_by(*bytes);
        if let Some(error) = error
            && let Some(kept_back) = self.admit(publisher, "failed", now)
        {
            tracing::warn!(publisher, readings = failed, %error, kept_back, "publishing failed");
        }
        if let Some(error) = refused {
            self.refused.with_label_values(&[publisher]).inc();
            if let Some(kept_back) = self.admit(publisher, "refused", now) {
                tracing::warn!(publisher, %error, kept_back, "the other end takes nothing: is the collector running?");
            }
        }
    }

    /// A publisher told something of its message broker. Readings are sent once it has confirmed them,
    /// and failed once nobody will try them again.
    pub fn delivery(&self, publisher: &str, delivery: &Delivery<'_>, now: Instant) {
        let published = |result: &str, readings: usize| {
            self.published
                .with_label_values(&[publisher, result])
                .inc_by(count(readings));
        };
        match delivery {
            Delivery::Confirmed {
                readings, bytes, ..
            } => {
                published("sent", *readings);
                self.bytes.with_label_values(&[publisher]).inc_by(*bytes);
            }
            Delivery::Lost { readings } => published("failed", *readings),
            _ => {}
        }
        lock(&self.readiness).delivery(publisher, delivery, now);
        self.brokers.tell(publisher, delivery, now);
    }

    /// A publisher's queue was full.
    pub fn publisher_dropped(&self, publisher: &str, readings: usize, now: Instant) {
        self.dropped
            .with_label_values(&[publisher])
            .inc_by(count(readings));
        lock(&self.readiness).queue_full(publisher, now);
    }

    /// Names of gateways were looked up: so many resolved, so many didn't.
    pub fn names_looked_up(&self, resolved: usize, failed: usize) {
        for (result, names) in ATTEMPTED.into_iter().zip([resolved, failed]) {
            self.lookups
                .with_label_values(&[result])
                .inc_by(count(names));
        }
    }

    /// What is remembered was saved, or not.
    pub fn state_saved(&self, file: &Path, result: &io::Result<()>, now: Instant) {
        match result {
            Ok(()) => {
                self.saves.with_label_values(&["done"]).inc();
                lock(&self.readiness).saved(Ok(()), now);
            }
            Err(error) => {
                self.saves.with_label_values(&["failed"]).inc();
                let file = file.display();
                tracing::warn!(%file, %error, "saving the agent's state failed");
                lock(&self.readiness).saved(Err(format!("saving {file} failed: {error}")), now);
            }
        }
    }

    /// Nothing can be remembered in this life of the agent.
    pub fn no_state(&self, file: &Path, error: &io::Error, now: Instant) {
        self.saves.with_label_values(&["failed"]).inc();
        let file = file.display();
        tracing::error!(
            %file, %error,
            "no state can be kept: a storage path that is lost while the agent restarts will read as unknown"
        );
        lock(&self.readiness).saved(Err(format!("reading {file} failed: {error}")), now);
    }

    fn admit(&self, publisher: &str, kind: &'static str, now: Instant) -> Option<u64> {
        lock(&self.publish_errors).admit((publisher.to_owned(), kind), now)
    }
}

/// The reasons of the failures among samples.
fn failures(samples: &[Sample]) -> impl Iterator<Item = FailReason> {
    samples.iter().filter_map(|sample| match sample.volume {
        Volume::Int(code) if sample.meter == meters::POLLSTER_FAILED => FailReason::from_code(code),
        _ => None,
    })
}

/// Whoever panicked with it left a number that is one off, which is no reason to end.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(readings: usize) -> u64 {
    u64::try_from(readings).unwrap_or(u64::MAX)
}

fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const PATH: &str = "udp://192.0.2.6:4953";

    fn lines(events: &AgentEvents, name: &str) -> Vec<String> {
        let text = events.render(true, &Usage::default(), clock::now());
        let start = format!("ceilometer_ha_{name}{{");
        let of_name = text.lines().filter(|line| line.starts_with(&start));
        of_name.map(str::to_owned).collect()
    }

    #[test]
    fn queues_are_counted_when_somebody_asks_and_those_of_one_url_together() {
        let events = AgentEvents::new().unwrap();
        for depth in [3, 4] {
            events.expect_publisher(PATH, move || Some(depth), clock::now());
        }
        let queued = lines(&events, "publisher_queued_rounds");
        let expected = format!("ceilometer_ha_publisher_queued_rounds{{publisher=\"{PATH}\"}} 7");
        assert_eq!(queued, [expected]);
    }

    #[test]
    fn what_is_no_more_has_no_series_and_no_trouble() {
        let events = AgentEvents::new().unwrap();
        events.expect_publisher(PATH, || Some(1), clock::now());
        events.expect_pollster("s", "p", clock::now());
        assert_eq!(lines(&events, "round_age_seconds").len(), 1);
        events.publisher_gone(PATH);
        events.pollster_gone("s", "p");
        for name in [
            "publisher_queued_rounds",
            "publisher_sent_age_seconds",
            "round_age_seconds",
            "readings_published_total",
            "rounds_total",
        ] {
            assert!(lines(&events, name).is_empty(), "{name}");
        }
        assert!(events.not_ready(clock::now()).is_empty());
    }
}
