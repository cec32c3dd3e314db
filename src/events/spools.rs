//! What publishers tell of their spools, as metrics and log lines.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec};

use super::brokers::accepted;
use super::limit::RateLimit;
use super::metrics::{Metrics, show};
use super::{SpoolLoss, SpoolView, Spooling};

/// Says what a spool looks like, while there is one.
type Look = Box<dyn Fn(Instant) -> Option<SpoolView> + Send + Sync>;

/// The metrics of spools.
pub(super) struct SpoolMetrics {
    written: IntCounterVec,
    lost: IntCounterVec,
    bytes: IntGaugeVec,
    readings: IntGaugeVec,
    age: GaugeVec,
    usable: IntGaugeVec,
    looks: Mutex<BTreeMap<String, Look>>,
    losses: Mutex<RateLimit<(String, &'static str)>>,
}

impl SpoolMetrics {
    pub(super) fn new(metrics: &Metrics) -> prometheus::Result<Self> {
        let of_publisher = &["publisher"];
        Ok(SpoolMetrics {
            written: metrics.counters(
                "publisher_spool_written_readings_total",
                "Readings that a publisher's spool accepted: they were synced to the disk",
                of_publisher,
            )?,
            lost: metrics.counters(
                "publisher_spool_lost_readings_total",
                "Readings that a publisher's spool gave up, or couldn't take",
                &["publisher", "reason"],
            )?,
            bytes: metrics.gauges(
                "publisher_spool_bytes",
                "Bytes of a publisher's spool on the disk",
                of_publisher,
            )?,
            readings: metrics.gauges(
                "publisher_spool_readings",
                "Readings in a publisher's spool that wait to be sent",
                of_publisher,
            )?,
            age: metrics.real_gauges(
                "publisher_spool_oldest_age_seconds",
                "How long ago the oldest reading in a publisher's spool was written; absent while there is none",
                of_publisher,
            )?,
            usable: metrics.gauges(
                "publisher_spool_usable",
                "1 if a publisher's spool can be written, 0 while its disk fails or hangs",
                of_publisher,
            )?,
            looks: Mutex::default(),
            losses: Mutex::default(),
        })
    }

    /// A publisher with a spool begins; its counters begin with 0.
    pub(super) fn expect(
        &self,
        publisher: &str,
        look: impl Fn(Instant) -> Option<SpoolView> + Send + Sync + 'static,
    ) {
        self.written.with_label_values(&[publisher]);
        for loss in SpoolLoss::ALL {
            self.lost.with_label_values(&[publisher, loss.as_str()]);
        }
        lock(&self.looks).insert(publisher.to_owned(), Box::new(look));
    }

    /// It is no more.
    pub(super) fn forget(&self, publisher: &str) {
        lock(&self.looks).remove(publisher);
        lock(&self.losses).forget(|(of, _)| of == publisher);
    }

    /// Looks at all of them.
    pub(super) fn look(&self, now: Instant) {
        for (publisher, look) in lock(&self.looks).iter() {
            // A reload may have taken the spool and left the publisher.
            let (view, labels) = (look(now), [publisher.as_str()]);
            let of = |value: &dyn Fn(&SpoolView) -> i64| view.as_ref().map(value);
            let bytes = of(&|view| i64::try_from(view.bytes).unwrap_or(i64::MAX));
            let readings = of(&|view| i64::try_from(view.readings).unwrap_or(i64::MAX));
            show(&self.bytes, &labels, bytes);
            show(&self.readings, &labels, readings);
            show(&self.usable, &labels, of(&|view| i64::from(view.works)));
            let oldest = view.and_then(|view| view.oldest);
            show(&self.age, &labels, oldest.map(|age| age.as_secs_f64()));
        }
    }

    pub(super) fn tell(&self, publisher: &str, told: &Spooling, now: Instant) {
        match told {
            Spooling::Works => {
                tracing::info!(publisher, "the spool's disk is used again");
            }
            Spooling::Failed(why) => {
                tracing::warn!(
                    publisher,
                    why,
                    "the spool can't be used: undelivered rounds wait in memory, and don't outlive the agent"
                );
            }
            Spooling::Written(readings) => {
                self.written
                    .with_label_values(&[publisher])
                    .inc_by(count(*readings));
            }
            Spooling::Accepted { first, last } => accepted(publisher, first, last),
            Spooling::Lost(loss, readings) => {
                let reason = loss.as_str();
                self.lost
                    .with_label_values(&[publisher, reason])
                    .inc_by(count(*readings));
                let kind = (publisher.to_owned(), reason);
                if let Some(kept_back) = lock(&self.losses).admit(kind, now) {
                    tracing::warn!(
                        publisher,
                        readings,
                        reason,
                        kept_back,
                        "readings of the spool are lost"
                    );
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(readings: usize) -> u64 {
    u64::try_from(readings).unwrap_or(u64::MAX)
}
