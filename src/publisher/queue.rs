//! Pure but for waiting. The hand-off between pollsters and one publisher: bounded, and when it is
//! full the oldest goes, because the newest state is what must arrive.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::model::Reading;

/// Rounds that may wait for one publisher: over four minutes of four rounds a second, in at most a
/// few megabytes. What is dropped beyond it is lost on this path, and counted.
pub const ROUNDS_MAX: usize = 1024;

/// The readings of one round.
pub type Batch = Arc<[Reading]>;

/// A queue with one reader.
#[derive(Debug, Default)]
pub struct Queue {
    inner: Mutex<Inner>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    batches: VecDeque<Batch>,
    closed: bool,
}

impl Queue {
    /// Puts a round in and never waits; returns how many readings were dropped to make room.
    pub fn push(&self, batch: Batch) -> usize {
        let mut inner = self.lock();
        let mut dropped = 0;
        while inner.batches.len() >= ROUNDS_MAX {
            dropped += inner.batches.pop_front().map_or(0, |oldest| oldest.len());
        }
        inner.batches.push_back(batch);
        self.arrived.notify_one();
        dropped
    }

    /// Waits for the next round; None once the queue is closed and empty.
    pub fn pop(&self) -> Option<Batch> {
        let mut inner = self.lock();
        loop {
            if let Some(batch) = inner.batches.pop_front() {
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
