//! Pure but for waiting. What waits for one destination of the log: bounded, and when it is full new
//! lines are lost, counted, and their number stands where they would have been.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::IntCounter;

use super::record::Record;
use crate::clock;

/// Lines that may wait for a slow disk or a full pipe, some megabytes of them; beyond it lines are
/// lost rather than a probe late.
pub(super) const LINES_MAX: usize = 16_384;

/// What the thread of a destination has to do next.
#[derive(Debug, PartialEq)]
pub(super) enum Work {
    /// Write this.
    Line(Arc<Record>),
    /// Say that so many lines are missing here.
    Lost(u64),
    /// Open the destination anew.
    Reopen,
    /// Nothing, for as long as it wanted to wait.
    Idle,
    /// End.
    End,
}

/// A queue with one reader.
#[derive(Debug, Default)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    changed: Condvar,
    lost: Option<IntCounter>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: VecDeque<Entry>,
    is_writing: bool,
    is_reopening: bool,
    is_ending: bool,
    has_ended: bool,
}

#[derive(Debug)]
enum Entry {
    Line(Arc<Record>),
    Lost(u64),
}

impl Queue {
    /// An empty one that counts here what is lost.
    pub(super) fn new(lost: Option<IntCounter>) -> Self {
        Queue {
            lost,
            ..Queue::default()
        }
    }

    /// Puts a line in, or counts it as lost; never waits.
    pub(super) fn push(&self, record: Arc<Record>) {
        let mut inner = self.lock();
        if inner.entries.len() < LINES_MAX {
            inner.entries.push_back(Entry::Line(record));
            self.changed.notify_all();
            return;
        }
        match inner.entries.back_mut() {
            Some(Entry::Lost(lines)) => *lines += 1,
            _ => inner.entries.push_back(Entry::Lost(1)),
        }
        drop(inner);
        self.count(1);
    }

    /// Waits for something to do, until then at most.
    pub(super) fn next(&self, until: Instant) -> Work {
        let mut inner = self.lock();
        inner.is_writing = false;
        self.changed.notify_all();
        loop {
            if std::mem::take(&mut inner.is_reopening) {
                return Work::Reopen;
            }
            if let Some(entry) = inner.entries.pop_front() {
                inner.is_writing = true;
                return match entry {
                    Entry::Line(record) => Work::Line(record),
                    Entry::Lost(lines) => Work::Lost(lines),
                };
            }
            if inner.is_ending {
                return Work::End;
            }
            let Some(waited) = self.wait(inner, until) else {
                return Work::Idle;
            };
            inner = waited;
        }
    }

    /// Waits before another try, unless it is time to end or to reopen; says whether to try at all.
    pub(super) fn pause(&self, pause: Duration) -> Work {
        let until = clock::now() + pause;
        let mut inner = self.lock();
        loop {
            if inner.is_ending {
                return Work::End;
            }
            if std::mem::take(&mut inner.is_reopening) {
                return Work::Reopen;
            }
            let Some(waited) = self.wait(inner, until) else {
                return Work::Idle;
            };
            inner = waited;
        }
    }

    /// The reader shall open its destination anew.
    #[cfg_attr(not(any(feature = "agent", feature = "collector")), allow(dead_code))]
    pub(super) fn reopen(&self) {
        self.lock().is_reopening = true;
        self.changed.notify_all();
    }

    /// The reader shall write what is here and end.
    pub(super) fn end(&self) {
        self.lock().is_ending = true;
        self.changed.notify_all();
    }

    /// The reader has ended.
    pub(super) fn has_ended(&self) {
        self.lock().has_ended = true;
        self.changed.notify_all();
    }

    /// Waits for the reader's end, but not longer than this.
    pub(super) fn wait_for_end(&self, deadline: Instant) {
        self.wait_while(deadline, |inner| !inner.has_ended);
    }

    /// Waits until everything is written, but not longer than this.
    pub(super) fn wait_until_idle(&self, deadline: Instant) {
        self.wait_while(deadline, |inner| {
            inner.is_writing || !inner.entries.is_empty()
        });
    }

    /// So many lines will never be written.
    pub(super) fn count(&self, lines: u64) {
        if let Some(lost) = &self.lost {
            lost.inc_by(lines);
        }
    }

    fn wait_while(&self, deadline: Instant, is_busy: impl Fn(&Inner) -> bool) {
        let mut inner = self.lock();
        while is_busy(&inner) {
            let Some(waited) = self.wait(inner, deadline) else {
                return;
            };
            inner = waited;
        }
    }

    /// Waits for a change; None when the time is up.
    fn wait<'a>(
        &self,
        inner: MutexGuard<'a, Inner>,
        until: Instant,
    ) -> Option<MutexGuard<'a, Inner>> {
        let left = until.saturating_duration_since(clock::now());
        if left.is_zero() {
            return None;
        }
        let waited = self.changed.wait_timeout(inner, left);
        Some(waited.unwrap_or_else(PoisonError::into_inner).0)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::UtcTime;

    #[test]
    fn what_is_lost_is_counted_and_said_where_it_is_missing() {
        let lost = IntCounter::new("lost", "lost").unwrap();
        let queue = Queue::new(Some(lost.clone()));
        let line = Arc::new(Record::lost(0, UtcTime::from_unix_micros(0)));
        for _ in 0..LINES_MAX + 5 {
            queue.push(Arc::clone(&line));
        }
        assert_eq!(lost.get(), 5);
        assert_eq!(queue.next(clock::now()), Work::Line(Arc::clone(&line)));
        assert_eq!(queue.next(clock::now()), Work::Line(Arc::clone(&line)));
        queue.push(Arc::clone(&line));
        queue.end();
        let work = || match queue.next(clock::now()) {
            Work::End => None,
            other => Some(other),
        };
        let rest: Vec<Work> = std::iter::from_fn(work).collect();
        assert_eq!(rest.len(), LINES_MAX - 2 + 2);
        assert_eq!(rest[LINES_MAX - 2], Work::Lost(5));
        assert_eq!(rest[LINES_MAX - 1], Work::Line(line));
    }

    #[test]
    fn a_reopening_comes_before_what_waits_and_once() {
        let queue = Queue::default();
        let line = Arc::new(Record::lost(0, UtcTime::from_unix_micros(0)));
        queue.push(Arc::clone(&line));
        queue.reopen();
        assert_eq!(queue.next(clock::now()), Work::Reopen);
        assert_eq!(queue.next(clock::now()), Work::Line(line));
        queue.reopen();
        assert_eq!(queue.pause(Duration::from_secs(60)), Work::Reopen);
        assert_eq!(queue.next(clock::now()), Work::Idle);
    }

    #[test]
    fn nobody_waits_longer_than_agreed_for_a_reader_that_hangs() {
        let queue = Queue::default();
        queue.push(Arc::new(Record::lost(0, UtcTime::from_unix_micros(0))));
        queue.end();
        let soon = clock::now() + Duration::from_millis(20);
        queue.wait_for_end(soon);
        queue.wait_until_idle(soon);
        assert!(clock::now() >= soon);
    }
}
