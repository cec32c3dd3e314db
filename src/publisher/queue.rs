//! Pure but for waiting. The hand-off between pollsters and one publisher: bounded, and when it is
//! full the oldest goes, because the newest state is what must arrive.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::clock;
use crate::model::Reading;

/// Rounds that may wait for one publisher: over four minutes of four rounds a second, in at most a
/// few megabytes. What is dropped beyond it is lost on this path, and counted.
pub const ROUNDS_MAX: usize = 1024;

/// The readings of one round.
pub type Batch = Arc<[Reading]>;

/// A queue with one reader: a thread that waits, or a task.
#[derive(Debug, Default)]
pub struct Queue {
    inner: Mutex<Inner>,
    arrived: Condvar,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    /// Rounds with when they came.
    batches: VecDeque<(Instant, Batch)>,
    closed: bool,
}

impl Queue {
    /// Puts a round in and never waits; returns how many readings were dropped to make room.
    pub fn push(&self, batch: Batch) -> usize {
        let mut inner = self.lock();
        let mut dropped = 0;
        while inner.batches.len() >= ROUNDS_MAX {
            let oldest = inner.batches.pop_front();
            dropped += oldest.map_or(0, |(_, oldest)| oldest.len());
        }
        inner.batches.push_back((clock::now(), batch));
        self.arrived.notify_one();
        self.changed.notify_one();
        dropped
    }

    /// Waits for the next round; None once the queue is closed and empty.
    pub fn pop(&self) -> Option<Batch> {
        let mut inner = self.lock();
        loop {
            if let Some((_, batch)) = inner.batches.pop_front() {
                return Some(batch);
            }
            if inner.closed {
                return None;
            }
            inner = self
                .arrived
                .wait(inner)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The next round and when it came, if one waits.
    pub fn take(&self) -> Option<(Instant, Batch)> {
        self.lock().batches.pop_front()
    }

    /// The next round, if it came before this moment.
    pub fn take_older(&self, than: Instant) -> Option<Batch> {
        let mut inner = self.lock();
        inner.batches.front().filter(|(came, _)| *came < than)?;
        inner.batches.pop_front().map(|(_, batch)| batch)
    }

    /// Waits until something came or the queue was closed, since it was waited for last.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Whether nothing more will come.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// How many rounds wait.
    pub fn len(&self) -> usize {
        self.lock().batches.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Nothing more will come: the reader takes what is there and ends.
    pub fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Identity, Metadata, Sample, UtcTime, Volume, meters};

    fn batch(seq: u64) -> Batch {
        let sample = Sample {
            meter: meters::HEARTBEAT,
            volume: Volume::Int(0),
            resource_id: "n".into(),
            user_id: None,
            project_id: None,
            timestamp: UtcTime::from_unix_micros(0),
            metadata: Metadata::new(),
        };
        let identity = Identity {
            observer: "n".into(),
            epoch: 1,
            seq,
        };
        [Reading {
            identity,
            message_id: String::new(),
            sample,
        }]
        .into()
    }

    #[test]
    fn a_full_queue_drops_the_oldest_and_keeps_the_order() {
        let queue = Queue::default();
        let rounds = u64::try_from(ROUNDS_MAX).unwrap();
        let dropped: usize = (0..rounds + 3).map(|seq| queue.push(batch(seq))).sum();
        assert_eq!((dropped, queue.len()), (3, ROUNDS_MAX));
        queue.close();
        let seqs: Vec<u64> = std::iter::from_fn(|| queue.pop())
            .map(|batch| batch[0].identity.seq)
            .collect();
        assert_eq!(seqs, (3..rounds + 3).collect::<Vec<_>>());
    }
}
