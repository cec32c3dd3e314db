//! Deleting history that is past its time, while the collector stores.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::clock;
use crate::events::{CollectorEvents, Expired};
use crate::model::Shared;
use crate::storage::{Database, Reach, StoreError, Sweep, Swept};

/// The longest from the end of a pass to the next one.
const PASS_EVERY: Duration = Duration::from_secs(60);
/// The shortest.
const PASS_EVERY_AT_LEAST: Duration = Duration::from_secs(1);
/// A pass comes so many times within the time that samples are kept, unless that is long: so much
/// longer than they should, samples may stay.
const PASSES_IN_A_LIFE: u32 = 20;
/// How often a pass goes through what no sample refers to any more.
const ORPHANS_EVERY: Duration = Duration::from_secs(600);
/// How often a pass looks at every sample: the clock of the database may have been set.
const WHOLE_EVERY: Duration = Duration::from_secs(24 * 3600);
/// How often is looked whether a reload has changed the time to live.
const RELOAD_EVERY: Duration = Duration::from_secs(1);

/// Goes through pass after pass, until the task is aborted: a step that is under way is then undone.
pub(super) fn spawn(
    database: Arc<Database>,
    keep: Shared<Option<Duration>>,
    events: Arc<CollectorEvents>,
) -> JoinHandle<()> {
    let retention = Retention {
        database,
        keep,
        events,
        floor: i64::MIN,
        orphans_at: None,
        whole_at: None,
    };
    tokio::spawn(retention.run())
}

struct Retention {
    database: Arc<Database>,
    keep: Shared<Option<Duration>>,
    events: Arc<CollectorEvents>,
    /// Up to which id the last pass left nothing.
    floor: i64,
    orphans_at: Option<Instant>,
    whole_at: Option<Instant>,
}

impl Retention {
    async fn run(mut self) {
        loop {
            let keep = *self.keep.get();
            if let Err(error) = self.pass(keep).await {
                self.events.expiring_failed(&error, clock::now());
            }
            let next = clock::now() + pause_after(keep);
            while clock::now() < next && *self.keep.get() == keep {
                let left = next.saturating_duration_since(clock::now());
                tokio::time::sleep(left.min(RELOAD_EVERY)).await;
            }
            if *self.keep.get() != keep {
                self.whole_at = None;
            }
        }
    }

    /// One pass; given up when a reload changes what is kept.
    async fn pass(&mut self, keep: Option<Duration>) -> Result<(), StoreError> {
        let started = clock::now();
        let reach = self.reach(keep, started);
        let mut sweep = Sweep::new(keep, reach, self.floor);
        let mut swept = Swept::default();
        let mut result = Ok(());
        while !sweep.is_over() && *self.keep.get() == keep {
            match step(&self.database, &mut sweep).await {
                Ok(more) => swept.add(more),
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        if keep.is_some() {
            self.floor = sweep.floor();
        }
        let now = clock::now();
        if sweep.is_over() {
            self.passed(reach, now);
        }
        let expired = Expired {
            samples: swept.samples,
            resources: swept.resources,
            meters: swept.meters,
            seen: swept.seen,
            messages: swept.messages,
        };
        let took = now.saturating_duration_since(started);
        self.events.expired(&expired, took, sweep.is_over(), now);
        result
    }

    fn reach(&self, keep: Option<Duration>, now: Instant) -> Reach {
        let is_due = |last: Option<Instant>, every| {
            last.is_none_or(|last| now.saturating_duration_since(last) >= every)
        };
        if keep.is_some() && is_due(self.whole_at, WHOLE_EVERY) {
            Reach::Whole
        } else if is_due(self.orphans_at, ORPHANS_EVERY) {
            Reach::FrontAndOrphans
        } else {
            Reach::Front
        }
    }

    fn passed(&mut self, reach: Reach, now: Instant) {
        if reach == Reach::Whole {
            self.whole_at = Some(now);
        }
        if reach != Reach::Front {
            self.orphans_at = Some(now);
        }
    }
}

/// One step of a pass, and a pause at least as long, in which whoever stores has the database alone.
pub(super) async fn step(database: &Database, sweep: &mut Sweep) -> Result<Swept, StoreError> {
    let started = clock::now();
    let swept = database.sweep(sweep).await?;
    tokio::time::sleep(clock::now().saturating_duration_since(started)).await;
    Ok(swept)
}

fn pause_after(keep: Option<Duration>) -> Duration {
    keep.map_or(PASS_EVERY, |keep| {
        (keep / PASSES_IN_A_LIFE).clamp(PASS_EVERY_AT_LEAST, PASS_EVERY)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_come_often_enough_for_a_short_life_and_rarely_enough_for_a_long_one() {
        for (keep, pause) in [
            (None, 60),
            (Some(5), 1),
            (Some(480), 24),
            (Some(1800), 60),
            (Some(86_400), 60),
        ] {
            let keep = keep.map(Duration::from_secs);
            assert_eq!(pause_after(keep), Duration::from_secs(pause));
        }
    }
}
