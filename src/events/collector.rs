//! What the collector tells the outside.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::clocks::Clocks;
use super::collector_ready::CollectorReadiness;
use super::conflicts::Conflicts;
use super::consumer::ConsumerMetrics;
use super::limit::RateLimit;
use super::metrics::Metrics;
use super::observers::Observers;
use super::process::ProcessMetrics;
use super::{Chain, Usage};
use crate::model::{Received, Standing, UtcTime};
use crate::wire::Refusal;

const BATCH_SIZES: &[f64] = &[1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1000.0];
const LAG_SECONDS: &[f64] = &[0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0];
const STORE_SECONDS: &[f64] = &[0.001, 0.005, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// The way in by datagrams.
const UDP: &str = "udp";
/// What storing makes of a reading.
const RESULTS: [&str; 4] = ["stored", "duplicate", "late", "refused"];
/// Why accepted messages are dropped.
const DROPS: [&str; 3] = ["queue_full", "state_lost", "shutdown"];

/// What a batch that was committed came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stored {
    /// Readings in it.
    pub size: usize,
    /// Those that are now in history.
    pub stored: usize,
    /// Those that were there already.
    pub duplicates: usize,
    /// Of the stored ones: those that moved no state, because a newer one was there.
    pub late: usize,
    /// States that moved.
    pub moved: u64,
    /// Gaps in sequence numbers that were closed because there were too many.
    pub closed_gaps: usize,
}

/// What a pass of the retention deleted, in rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expired {
    /// Samples.
    pub samples: u64,
    /// Resources that no sample refers to any more.
    pub resources: u64,
    /// Meters likewise.
    pub meters: u64,
    /// Lives of observers without a present.
    pub seen: u64,
    /// Message ids of old senders.
    pub messages: u64,
}

impl Expired {
    /// The tables that rows go from, with how many went.
    fn by_table(&self) -> [(&'static str, u64); 5] {
        [
            ("sample", self.samples),
            ("resource", self.resources),
            ("meter", self.meters),
            ("ha_seen", self.seen),
            ("ha_seen_message", self.messages),
        ]
    }
}

/// The collector's metrics and log lines.
///
/// What every datagram bumps is looked up once, here: receiving one costs 3 µs in all, and looking a
/// labelled series up a tenth of one.
pub struct CollectorEvents {
    metrics: Metrics,
    process: ProcessMetrics,
    pub(super) messages: IntCounterVec,
    pub(super) received_bytes: IntCounterVec,
    pub(super) consumers: ConsumerMetrics,
    datagrams: IntCounter,
    bytes: IntCounter,
    accepted: IntCounter,
    refused: Vec<IntCounter>,
    kernel_dropped: IntCounter,
    receive_errors: IntCounter,
    dropped: IntCounterVec,
    readings: IntCounterVec,
    held_back: IntCounterVec,
    rows_refused: IntCounterVec,
    quarantined: IntGauge,
    quarantine_dropped: IntCounter,
    conflicts: IntGauge,
    moved: IntCounter,
    moved_ahead: IntCounter,
    closed_gaps: IntCounter,
    store_errors: IntCounter,
    batch_size: Histogram,
    lag: Histogram,
    store_duration: Histogram,
    commit_age: prometheus::Gauge,
    expired: IntCounterVec,
    expiry_errors: IntCounter,
    expiry_age: prometheus::Gauge,
    queued: IntGauge,
    receive_buffer: IntGaugeVec,
    observers: IntGauge,
    sample_ids: prometheus::GaugeVec,
    clock_ahead: prometheus::Gauge,
    clock_behind: prometheus::Gauge,
    heard: Mutex<Observers>,
    clocks: Mutex<Clocks>,
    rivals: Mutex<Conflicts>,
    readiness: Mutex<CollectorReadiness>,
    last_commit: Mutex<Instant>,
    last_expiry: Mutex<Instant>,
    refusals: Mutex<RateLimit<&'static str>>,
    /// What the broker has with other properties, which is told once.
    differing: Mutex<BTreeSet<String>>,
}

impl CollectorEvents {
    /// Registers every metric. Each series of a closed list begins with 0: an alert on a rate misses
    /// the first event of a series that only begins with it.
    pub fn new(now: Instant) -> prometheus::Result<Self> {
        let metrics = Metrics::with_log();
        let of_udp = &["transport"];
        let messages = metrics.counters(
            "messages_total",
            "Metering messages received, by verdict: accepted, or why not",
            &["transport", "verdict"],
        )?;
        let verdict = |verdict: &str| messages.with_label_values(&[UDP, verdict]);
        let received_bytes = metrics.counters(
            "received_bytes_total",
            "Bytes of the datagrams and bodies received, without what the network and the broker put around them",
            of_udp,
        )?;
        let events = CollectorEvents {
            process: ProcessMetrics::new(&metrics)?,
            datagrams: metrics.counters("datagrams_total", "Datagrams received", of_udp)?.with_label_values(&[UDP]),
            consumers: ConsumerMetrics::new(&metrics)?,
            bytes: received_bytes.with_label_values(&[UDP]),
            accepted: verdict("accepted"),
            refused: Refusal::ALL.map(|refusal| verdict(refusal.as_str())).into(),
            kernel_dropped: metrics.counters(
                "datagrams_dropped_total",
                "Datagrams that the kernel dropped because the receive buffer was full",
                of_udp,
            )?.with_label_values(&[UDP]),
            receive_errors: metrics.counters("receive_errors_total", "Times that the kernel failed to hand a datagram over", of_udp)?.with_label_values(&[UDP]),
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
            held_back: metrics.counters(
                "readings_history_only_total",
                "Readings that were stored as history alone, however new they were, by why: backlog, ancient, future, retired",
                &["reason"],
            )?,
            rows_refused: metrics.counters("readings_refused_total", "Readings that no table can hold, by why", &["reason"])?,
            quarantined: metrics.gauge("quarantined_messages", "Messages that no table can hold and that are kept aside, of 1,000 that may; as of the last batch that changed it")?,
            quarantine_dropped: metrics.counter("quarantine_dropped_total", "Messages that are not kept aside any more, or never were, because the quarantine was full or refused them")?,
            conflicts: metrics.gauge("identity_conflicts", "Observers whose name two agents used within the last minute")?,
            moved: metrics.counter("states_moved_total", "Times that a reading became the newest of its meter and resource")?,
            moved_ahead: metrics.counter(
                "states_moved_ahead_total",
                "States that moved ahead of the history of their readings, because that had to wait",
            )?,
            closed_gaps: metrics.counter(
                "gaps_closed_total",
                "Gaps in an observer's sequence that were closed because there were too many: what still comes there counts as duplicate",
            )?,
            store_errors: metrics.counter("store_errors_total", "Batches that could not be stored and were tried again")?,
            batch_size: metrics.histogram("batch_size", "Readings in a batch", BATCH_SIZES)?,
            lag: metrics.histogram(
                "store_lag_seconds",
                "From the receipt of a batch's first message to the commit",
                LAG_SECONDS,
            )?,
            store_duration: metrics.histogram("store_duration_seconds", "How long the database took for a batch, or until it refused it", STORE_SECONDS)?,
            commit_age: metrics.real_gauge("commit_age_seconds", "How long ago a batch was last committed, or the collector started if none was")?,
            expired: metrics.counters("expired_rows_total", "Rows deleted because they were past their time, by table", &["table"])?,
            expiry_errors: metrics.counter("expiry_errors_total", "Passes of the retention that the database refused; the next one goes on")?,
            expiry_age: metrics.real_gauge("expiry_age_seconds", "How long ago a pass of the retention last got to its end, or the collector started if none has")?,
            queued: metrics.gauge("queued_messages", "Messages that wait to be stored now, of 20,000 that may, and 10,000 more from a message broker")?,
            receive_buffer: metrics.gauges("receive_buffer_bytes", "The receive buffer that the kernel granted", &[])?,
            observers: metrics.gauge("observers", "Observers of which a reading was stored within the last minute")?,
            sample_ids: metrics.real_gauges("sample_id_headroom_ratio", "The share of the numbers of samples that is still free", &[])?,
            clock_ahead: metrics.real_gauge("observer_clock_ahead_seconds", "How far ahead of the collector's the clock is that is the furthest ahead; 0 if none is")?,
            clock_behind: metrics.real_gauge(
                "observer_clock_behind_seconds",
                "The greatest age that an observer's last reading had when it was stored: its clock is behind, or readings are late",
            )?,
            messages,
            received_bytes,
            heard: Mutex::default(),
            clocks: Mutex::default(),
            rivals: Mutex::default(),
            readiness: Mutex::default(),
            last_commit: Mutex::new(now),
            last_expiry: Mutex::new(now),
            refusals: Mutex::default(),
            differing: Mutex::default(),
            metrics,
        };
        for reason in DROPS {
            events.dropped.with_label_values(&[reason]);
        }
        for result in RESULTS {
            events.readings.with_label_values(&[result]);
        }
        for (table, _) in Expired::default().by_table() {
            events.expired.with_label_values(&[table]);
        }
        Ok(events)
    }

    /// Shows these reasons of readings that no table can hold, with 0.
    pub fn expect_rows_refused(&self, reasons: impl Iterator<Item = &'static str>) {
        for reason in reasons {
            self.rows_refused.with_label_values(&[reason]);
        }
    }

    /// Its metrics as they are now, in Prometheus' text format; `waiting` messages wait to be stored.
    pub fn render(&self, waiting: usize, is_ready: bool, usage: &Usage, now: Instant) -> String {
        self.process.set(is_ready, usage);
        self.queued.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        let last_commit = *lock(&self.last_commit);
        self.commit_age
            .set(now.saturating_duration_since(last_commit).as_secs_f64());
        let last_expiry = *lock(&self.last_expiry);
        self.expiry_age
            .set(now.saturating_duration_since(last_expiry).as_secs_f64());
        let heard = lock(&self.heard).summary(now);
        self.observers
            .set(i64::try_from(heard.count).unwrap_or(i64::MAX));
        let conflicts = lock(&self.rivals).count(now);
        self.conflicts
            .set(i64::try_from(conflicts).unwrap_or(i64::MAX));
        self.clock_ahead.set(heard.ahead);
        self.clock_behind.set(heard.behind);
        self.metrics.render()
    }

    /// What keeps the collector from its job, one text each.
    pub fn not_ready(&self, now: Instant) -> Vec<String> {
        lock(&self.readiness).troubles(now)
    }

    /// The UDP socket is open.
    pub fn listening(&self, address: SocketAddr, buffer_bytes: usize, wanted_bytes: usize) {
        self.receive_buffer
            .with_label_values::<&str>(&[])
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

    /// This share of the numbers of samples is still free.
    pub fn sample_ids(&self, headroom: f64) {
        self.sample_ids.with_label_values::<&str>(&[]).set(headroom);
    }

    /// No way in is configured.
    pub fn deaf(&self) {
        lock(&self.readiness).deaf();
        tracing::warn!(
            "nothing is received: [collector] udp_address is empty, and no topic is consumed"
        );
    }

    /// A datagram of this length came in with this many good messages.
    pub fn received(&self, accepted: usize, bytes: usize) {
        self.datagrams.inc();
        self.bytes.inc_by(count(bytes));
        self.accepted.inc_by(count(accepted));
    }

    /// A message was refused. Anybody can cause this at any rate, so it is logged now and then.
    pub fn refused(&self, refusal: Refusal, from: Option<SocketAddr>, now: Instant) {
        if let Some(counter) = self.refused.get(refusal.index()) {
            counter.inc();
        }
        let reason = refusal.as_str();
        if let Some(kept_back) = self.admit(reason, now) {
            let from =
                from.map_or_else(|| "an unknown address".to_owned(), |from| from.to_string());
            tracing::warn!(reason, from, kept_back, "message refused: {refusal}");
        }
    }

    /// The kernel dropped datagrams.
    pub fn kernel_dropped(&self, datagrams: u32, now: Instant) {
        self.kernel_dropped.inc_by(u64::from(datagrams));
        lock(&self.readiness).kernel_dropped(now);
        if let Some(kept_back) = self.admit("kernel_dropped", now) {
            tracing::warn!(
                datagrams,
                kept_back,
                "the kernel dropped datagrams: the receive buffer was full"
            );
        }
    }

    /// The writer is behind and its queue is full: of so many messages the history is lost, of so
    /// many more the state as well.
    pub fn queue_full(&self, messages: usize, states: usize, now: Instant) {
        for (reason, lost) in [("queue_full", messages), ("state_lost", states)] {
            self.dropped
                .with_label_values(&[reason])
                .inc_by(count(lost));
        }
        lock(&self.readiness).queue_full(now);
        if let Some(kept_back) = self.admit("queue_full", now) {
            tracing::warn!(
                messages,
                states,
                kept_back,
                "messages dropped: the database can't keep up and the queue is full"
            );
        }
    }

    /// So many states moved ahead of the history of their readings.
    pub fn states_stored(&self, readings: usize, moved: u64, now: Instant) {
        tracing::debug!(readings, moved, "states stored ahead of their history");
        self.moved.inc_by(moved);
        self.moved_ahead.inc_by(moved);
        lock(&self.readiness).stored(Ok(()), now);
    }

    /// States of readings whose history is lost can't be stored, or found no room again.
    pub fn states_lost(&self, states: usize) {
        self.dropped
            .with_label_values(&["state_lost"])
            .inc_by(count(states));
    }

    /// Receiving failed in a way that may pass.
    pub fn receive_failed(&self, error: &std::io::Error, now: Instant) {
        self.receive_errors.inc();
        if let Some(kept_back) = self.admit("receive_failed", now) {
            tracing::warn!(%error, kept_back, "receiving failed");
        }
    }

    /// The database took so long for a batch, whether or not it was stored.
    pub fn tried(&self, took: Duration) {
        self.store_duration.observe(took.as_secs_f64());
    }

    /// A batch was committed.
    pub fn stored(&self, batch: &Stored, lag: Duration, now: Instant) {
        tracing::debug!(?batch, ?lag, "batch stored");
        let Stored {
            size,
            stored,
            duplicates,
            late,
            moved,
            closed_gaps,
        } = *batch;
        self.batch_size
            .observe(f64::from(u32::try_from(size).unwrap_or(u32::MAX)));
        self.lag.observe(lag.as_secs_f64());
        for (result, number) in RESULTS.into_iter().zip([stored, duplicates, late]) {
            self.readings
                .with_label_values(&[result])
                .inc_by(count(number));
        }
        self.moved.inc_by(moved);
        self.closed_gaps.inc_by(count(closed_gaps));
        lock(&self.readiness).stored(Ok(()), now);
        *lock(&self.last_commit) = now;
    }

    /// So many readings were stored as history alone, because of this.
    pub fn held_back(&self, reason: &'static str, readings: usize) {
        self.held_back
            .with_label_values(&[reason])
            .inc_by(count(readings));
    }

    /// These readings were stored, at `wall` by our clock. Who was heard is told by how many, never by
    /// name.
    pub fn heard<'m>(
        &self,
        messages: impl IntoIterator<Item = &'m Received>,
        wall: UtcTime,
        now: Instant,
    ) {
        let mut observers = lock(&self.heard);
        let mut clocks = lock(&self.clocks);
        for message in messages {
            let (Some(identity), Some(observed)) = (&message.identity, message.timestamp) else {
                continue;
            };
            let standing = message.evidence.standing;
            if standing == Standing::Live {
                observers.heard(&identity.observer, observed, wall, now);
            }
            if let Some(words) = clocks.judged(&identity.observer, standing) {
                tracing::warn!(observer = identity.observer, %observed, "{words}");
            }
        }
    }

    /// One reading of a batch could not be stored and never can.
    pub fn row_refused(&self, reason: &'static str, words: &dyn std::fmt::Display, now: Instant) {
        self.readings.with_label_values(&["refused"]).inc();
        self.rows_refused.with_label_values(&[reason]).inc();
        if let Some(kept_back) = self.admit(reason, now) {
            tracing::warn!(reason, kept_back, "reading not stored: {words}");
        }
    }

    /// The quarantine changed: how many messages are in it now, where that is known, and how many had
    /// to go.
    pub fn quarantine(&self, size: Option<u64>, dropped: u64, now: Instant) {
        if let Some(size) = size {
            self.quarantined
                .set(i64::try_from(size).unwrap_or(i64::MAX));
        }
        self.quarantine_dropped.inc_by(dropped);
        if dropped > 0
            && let Some(kept_back) = self.admit("quarantine_dropped", now)
        {
            tracing::warn!(
                dropped,
                kept_back,
                "the quarantine is full, the oldest went: see compute-ha quarantine list"
            );
        }
    }

    /// An earlier life of an observer goes on beside the newest: two agents use one name.
    pub fn identity_conflict(&self, observer: &str, epoch: i64, rival_epoch: i64, now: Instant) {
        if lock(&self.rivals).noticed(observer, now) {
            tracing::error!(
                observer,
                epoch,
                rival_epoch,
                "two agents use one name: all that it says is unknown until one of them is stopped or renamed"
            );
        }
    }

    /// Storing a batch failed; it will be tried again.
    pub fn store_failed(&self, size: usize, error: &dyn std::error::Error, now: Instant) {
        self.store_errors.inc();
        lock(&self.readiness).stored(Err(Chain(error).to_string()), now);
        if let Some(kept_back) = self.admit("store_failed", now) {
            tracing::error!(
                size,
                kept_back,
                "storing failed, trying again: {}",
                Chain(error)
            );
        }
    }

    /// A pass of the retention deleted this much, and did or didn't get to its end.
    pub fn expired(&self, expired: &Expired, took: Duration, is_over: bool, now: Instant) {
        let Expired {
            samples,
            resources,
            meters,
            seen,
            messages,
        } = *expired;
        for (table, rows) in expired.by_table() {
            self.expired.with_label_values(&[table]).inc_by(rows);
        }
        if is_over {
            *lock(&self.last_expiry) = now;
        }
        if *expired == Expired::default() {
            tracing::debug!(?took, "nothing is past its time");
        } else {
            tracing::info!(
                samples,
                resources,
                meters,
                seen,
                messages,
                ?took,
                "deleted what is past its time"
            );
        }
    }

    /// A pass of the retention failed; another one comes.
    pub fn expiring_failed(&self, error: &dyn std::error::Error, now: Instant) {
        self.expiry_errors.inc();
        if let Some(kept_back) = self.admit("expiring_failed", now) {
            tracing::error!(
                kept_back,
                "deleting what is past its time failed, to be tried again: {}",
                Chain(error)
            );
        }
    }

    /// The collector ends with messages that could not be stored, and that nobody else has.
    pub fn left_unstored(&self, messages: usize) {
        if messages == 0 {
            return;
        }
        self.dropped
            .with_label_values(&["shutdown"])
            .inc_by(count(messages));
        tracing::error!(
            messages,
            "messages not stored before the time to stop was up"
        );
    }

    /// Whether it wasn't said before that the broker has this with other properties.
    pub(super) fn declared_otherwise(&self, name: &str) -> bool {
        lock(&self.differing).insert(name.to_owned())
    }

    /// Writes into the book of what keeps the collector from its job.
    pub(super) fn ready<T>(&self, write: impl FnOnce(&mut CollectorReadiness) -> T) -> T {
        write(&mut lock(&self.readiness))
    }

    pub(super) fn admit(&self, kind: &'static str, now: Instant) -> Option<u64> {
        lock(&self.refusals).admit(kind, now)
    }
}

/// Whoever panicked with it left a number that is one off, which is no reason to end.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
