//! The stages behind the receivers, each with a bounded hand-off to the next: the rows of a batch are
//! worked out while the database works on the one before it, and what became of it is told while it
//! works on the next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;

use super::Stop;
use super::collector::CollectorHealth;
use crate::clock;
use crate::collector::intake::{Outlet, Work};
use crate::collector::newest::newest_of;
use crate::collector::receipt::Receipt;
use crate::collector::waiting::{Batch, Limits, States, portions};
use crate::events::{CollectorEvents, Stored};
use crate::model::{Received, Shared};
use crate::storage::{Database, HeldBack, IdentityConflict, Prepared, StoreError, StoreReport};

/// First pause after a batch that could not be stored; it doubles up to the longest.
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_LONGEST: Duration = Duration::from_secs(1);
/// The same once it is time to end, when there is no time to lose.
const RETRY_LONGEST_AT_END: Duration = Duration::from_millis(100);
/// A try that fails so long after it was time to end is the last one: with another wait for a lock
/// it would outlast [`super::DRAIN_LIMIT`], and what is lost could not be said.
const GIVE_UP_AFTER: Duration = Duration::from_secs(2);
/// How many stored batches may wait to be told about; then storing waits for the telling.
const SETTLED_MAX: usize = 4;

/// Stores what comes out of the intake, batch after batch, and states first where batches are late.
pub(super) struct Writer {
    pub(super) database: Arc<Database>,
    pub(super) health: Arc<CollectorHealth>,
    pub(super) limits: Shared<Limits>,
    pub(super) stop: Stop,
}

/// A batch with its rows worked out.
struct Ready {
    rows: Prepared,
    receipts: Vec<Receipt>,
    since: Instant,
}

impl Ready {
    /// How many of its messages nobody else has.
    fn only_here(&self) -> usize {
        self.rows.messages().len() - self.receipts.len()
    }
}

/// A batch that is stored, and what became of it.
struct Settled {
    rows: Prepared,
    report: StoreReport,
    lag: Duration,
    at: Instant,
}

impl Writer {
    /// Runs until nothing comes any more and all is stored, or given up at the end of the process.
    pub(super) async fn run(self, from: Outlet) {
        let (settled, told) = channel(SETTLED_MAX);
        let teller = tokio::spawn(tell(told, Arc::clone(&self.health.events)));
        self.work(&from, settled).await;
        self.database.close().await;
        // It ends with the last batch that it was handed.
        let _ = teller.await;
    }

    async fn work(&self, from: &Outlet, settled: Sender<Settled>) {
        let mut pause = RETRY_FIRST;
        let mut ahead = None;
        loop {
            let work = match ahead.take() {
                Some(ready) => {
                    if let Some(states) = from.states_if_due(clock::now()) {
                        let ready: &Ready = &ready;
                        self.show(states, ready.rows.messages(), from, &mut pause)
                            .await;
                    }
                    Some(ready)
                }
                None => match from.next(&self.limits).await {
                    Some(Work::Batch(batch)) => self.ready(prepare(batch)).await,
                    Some(Work::States(states)) => {
                        self.show(states, &[], from, &mut pause).await;
                        None
                    }
                    None => return,
                },
            };
            let Some(ready) = work else { continue };
            let next = from.batch_if_full(*self.limits.get()).map(prepare);
            let done = self.store(ready).await;
            if let Some(preparing) = next {
                ahead = self.ready(preparing).await;
            }
            let Some(done) = done else {
                let left = ahead.map_or(0, |ready| ready.only_here()) + from.only_here();
                self.health.events.left_unstored(left);
                return;
            };
            if settled.send(done).await.is_err() {
                return;
            }
        }
    }

    /// Waits for the rows of a batch.
    async fn ready(&self, (count, preparing): Preparing) -> Option<Ready> {
        let ready = preparing.await;
        // It fails only when the runtime ends before the batch is ready.
        if ready.is_err() {
            self.health.events.left_unstored(count);
        }
        ready.ok()
    }

    /// Tries until it is stored, and settles its receipts then and only then: what was received is not given up because a disk is full or
    /// somebody holds a lock. At the end of the process it is tried for as long as the drain lasts;
    /// None if that was too short.
    async fn store(&self, batch: Ready) -> Option<Settled> {
        let events = &self.health.events;
        self.health.storing();
        let mut pause = RETRY_FIRST;
        loop {
            let started = clock::now();
            let result = self.database.store_prepared(&batch.rows).await;
            let at = clock::now();
            events.tried(at.saturating_duration_since(started));
            let count = batch.rows.messages().len();
            match result {
                Ok(report) => {
                    self.health.stored();
                    batch.receipts.into_iter().for_each(Receipt::settle);
                    return Some(Settled {
                        lag: at.saturating_duration_since(batch.since),
                        rows: batch.rows,
                        report,
                        at,
                    });
                }
                Err(error) => events.store_failed(count, &error, at),
            }
            if self.is_time_up(at) {
                events.left_unstored(batch.only_here());
                return None;
            }
            self.rest(&mut pause).await;
        }
    }

    /// Stores the newest of these states, and of those of the batch that is next, ahead of their
    /// history. What can't be stored now waits for the next time.
    async fn show(
        &self,
        states: States,
        next: &[Arc<Received>],
        from: &Outlet,
        pause: &mut Duration,
    ) {
        let events = &self.health.events;
        let alone = states.alone.iter().map(|arrived| &arrived.message);
        let newest = newest_of(next.iter().chain(&states.waiting).chain(alone));
        self.health.storing();
        let result = self.move_states(&newest).await;
        let now = clock::now();
        match result {
            Ok(moved) => {
                self.health.stored();
                *pause = RETRY_FIRST;
                events.states_stored(newest.len(), moved, now);
            }
            Err(error) => {
                events.store_failed(newest.len(), &error, now);
                if self.is_time_up(now) {
                    return events.left_unstored(states.alone.len());
                }
                events.states_lost(from.take_back(states));
                self.rest(pause).await;
            }
        }
    }

    async fn move_states(&self, readings: &[Arc<Received>]) -> Result<u64, StoreError> {
        let mut moved = 0;
        for portion in portions(readings) {
            moved += self.database.store_states(portion).await?;
        }
        Ok(moved)
    }

    fn is_time_up(&self, now: Instant) -> bool {
        let since = self.stop.since();
        since.is_some_and(|since| now >= since + GIVE_UP_AFTER)
    }

    async fn rest(&self, pause: &mut Duration) {
        let longest = match self.stop.since() {
            Some(_) => RETRY_LONGEST_AT_END,
            None => RETRY_LONGEST,
        };
        *pause = (*pause * 2).min(longest);
        tokio::time::sleep(*pause).await;
    }
}

/// How many messages that nobody else has, and who works the rows out.
type Preparing = (usize, JoinHandle<Ready>);

/// Works the rows out on a thread that may be busy for a while.
fn prepare(batch: Batch) -> Preparing {
    let Batch {
        messages,
        receipts,
        since,
    } = batch;
    let count = messages.len() - receipts.len();
    let preparing = tokio::task::spawn_blocking(move || Ready {
        rows: Prepared::new(messages),
        receipts,
        since,
    });
    (count, preparing)
}

/// Tells what became of batches: in metrics, and in the log where something can't be stored.
async fn tell(mut told: Receiver<Settled>, events: Arc<CollectorEvents>) {
    while let Some(settled) = told.recv().await {
        let Settled {
            rows,
            report,
            lag,
            at,
        } = settled;
        let messages = rows.messages();
        // Each reading is counted once, but that `late` ones are among the stored.
        let stored = Stored {
            size: messages.len(),
            stored: report.stored,
            duplicates: report.duplicates,
            late: report.late,
            moved: report.moved,
            closed_gaps: report.closed_gaps,
        };
        events.stored(&stored, lag, at);
        for (reason, readings) in HeldBack::ALL.into_iter().zip(report.held_back) {
            events.held_back(reason.as_str(), readings);
        }
        events.heard(messages.iter().map(Arc::as_ref), clock::utc(), at);
        events.quarantine(report.quarantine_size, report.quarantine_dropped, at);
        for conflict in &report.conflicts {
            let IdentityConflict {
                observer,
                epoch,
                rival_epoch,
            } = conflict;
            events.identity_conflict(observer, *epoch, *rival_epoch, at);
        }
        for (index, refusal) in &report.refused {
            let message = messages.get(*index);
            let resource = message.map_or("", |message| message.resource_id.as_str());
            let words = format!("{refusal} (resource {resource:?})");
            events.row_refused(refusal.as_str(), &words, at);
        }
    }
}
