//! Pure but for waiting. The hand-off between a publisher, which never waits for the disk, and the worker,
//! which does: rounds on their way to the disk, and rounds read back from it.
//!
//! While the disk fails or hangs, rounds wait here, as many as in any queue, and are sent from here. Then
//! the oldest of those that the worker isn't writing just now goes first.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::record::Place;
use super::store::{Stats, Stored};
use crate::clock;
use crate::events::{SpoolLoss, SpoolView, Spooling};
use crate::model::UtcTime;
use crate::publisher::queue::Batch;

/// The most rounds that are written and synced at once. The rest is written right after.
pub const GROUP_ROUNDS_MAX: usize = 256;

/// The most rounds that are read back before they are asked for.
pub const READY_MAX: usize = 64;

/// How long the worker may be busy before the disk counts as hung: then what waits is sent from memory.
pub const HANG_LIMIT: Duration = Duration::from_secs(2);

/// Hears what is worth telling.
pub type Tell = Box<dyn Fn(Spooling) + Send + Sync>;

/// One publisher's spool.
pub struct Spool {
    inner: Mutex<Inner>,
    changed: Condvar,
    tell: Tell,
}

struct Inner {
    /// Not safe yet, oldest first, as they were put.
    waiting: VecDeque<(u64, Batch)>,
    /// How many were ever put.
    put: u64,
    /// How many of them, from the oldest on, the worker is writing.
    writing: usize,
    /// How many rounds may be in memory alone.
    rounds_max: usize,
    /// Read back and not yet asked for, oldest first.
    ready: VecDeque<(Place, Batch)>,
    /// Given to the publisher, in that order, by a number of their own.
    lent: VecDeque<Lent>,
    next: u64,
    /// The greatest place of those that were ever given to the publisher.
    newest_lent: Option<Place>,
    /// The greatest place that was ever sent.
    newest_sent: Option<Place>,
    /// The same until the worker knows, and how many had been put by then: one of those may be a copy of
    /// what was sent, so all of them must be safe before the disk forgets the original.
    sent: Option<(Place, u64)>,
    stats: Stats,
    /// When that was so, by two clocks.
    looked: Option<(Instant, UtcTime)>,
    has_failed: bool,
    /// Since when the worker has been busy.
    busy_since: Option<Instant>,
    /// Whether it was told that the worker hangs.
    hang_is_told: bool,
    is_closed: bool,
}

/// A round that was given to the publisher.
struct Lent {
    number: u64,
    origin: Origin,
    batch: Batch,
}

/// Where a round that was given to the publisher is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Disk(Place),
    /// It is in memory alone, and was put as this one.
    Memory(u64),
}

impl Origin {
    fn place(self) -> Option<Place> {
        match self {
            Origin::Disk(place) => Some(place),
            Origin::Memory(_) => None,
        }
    }

    fn put(self) -> Option<u64> {
        match self {
            Origin::Disk(_) => None,
            Origin::Memory(put) => Some(put),
        }
    }
}

/// What the worker can't do before its next try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blocked {
    /// It can do everything.
    Nothing,
    /// The disk takes nothing.
    Writes,
    /// The disk doesn't work at all.
    All,
}

/// What the worker is to do.
#[derive(Debug)]
pub(super) struct Work {
    /// Write these.
    pub(super) group: Vec<Batch>,
    /// Up to here has been sent.
    pub(super) sent: Option<Place>,
    /// Read so many rounds back.
    pub(super) wanted: usize,
    /// Nothing more will come.
    pub(super) is_closed: bool,
}

/// What the worker did.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// So many of the group are safe.
    pub(super) safe: usize,
    /// What was read back.
    pub(super) read: Vec<Stored>,
    /// What is on the disk, and when that was so by the clock that records age by; None if nobody knows.
    pub(super) stats: Option<(Stats, UtcTime)>,
    /// Whether something went wrong.
    pub(super) has_failed: bool,
    /// Whether what was read back before will be read once more.
    pub(super) is_anew: bool,
}

impl Spool {
    /// One that is empty until its worker has looked at the disk, with so many rounds in memory at most.
    pub fn new(rounds_max: usize, tell: Tell) -> Self {
        Spool {
            inner: Mutex::new(Inner {
                waiting: VecDeque::new(),
                put: 0,
                writing: 0,
                rounds_max,
                ready: VecDeque::new(),
                lent: VecDeque::new(),
                next: 0,
                newest_lent: None,
                newest_sent: None,
                sent: None,
                stats: Stats::default(),
                looked: None,
                has_failed: false,
                busy_since: None,
                hang_is_told: false,
                is_closed: false,
            }),
            changed: Condvar::new(),
            tell,
        }
    }

    /// Takes a round and never waits; returns how many readings were dropped to make room, which is told
    /// as well.
    pub fn put(&self, batch: Batch, now: Instant) -> usize {
        let mut inner = self.lock();
        let dropped = inner.put(batch);
        let hangs = inner.begins_to_hang(now);
        drop(inner);
        self.changed.notify_all();
        if hangs {
            self.tell_of_hang();
        }
        if dropped > 0 {
            self.tell(Spooling::Lost(SpoolLoss::Disk, dropped));
        }
        dropped
    }

    /// The rounds to send next, so many at most, from behind one that was given before or from the first
    /// one that isn't [`sent`](Self::sent). Each has a greater number than those before it.
    pub fn peek(&self, behind: Option<u64>, most: usize, now: Instant) -> Vec<(u64, Batch)> {
        let mut inner = self.lock();
        let batches = inner.peek(behind, most, now);
        let hangs = inner.begins_to_hang(now);
        drop(inner);
        if hangs {
            self.tell_of_hang();
        }
        // There is room for more to be read.
        self.changed.notify_all();
        batches
    }

    /// Every round up to this number has been sent.
    pub fn sent(&self, number: u64) {
        self.lock().sent(number);
        self.changed.notify_all();
    }

    /// How many rounds it holds, on the disk and in memory.
    pub fn len(&self) -> usize {
        let inner = self.lock();
        inner.stats.records + inner.in_memory()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it looks like now.
    pub fn view(&self, now: Instant) -> SpoolView {
        self.lock().view(now)
    }

    /// Waits until the disk has been looked at and everything that was put is safe; false if it isn't by
    /// then.
    pub fn settle(&self, until: Instant) -> bool {
        let mut inner = self.lock();
        while inner.looked.is_none() || !inner.waiting.is_empty() {
            let left = until.saturating_duration_since(clock::now());
            if left.is_zero() {
                return false;
            }
            inner = self.wait(inner, left);
        }
        true
    }

    /// Nothing more will come, and nothing more will be sent: the worker writes what waits and ends.
    pub fn close(&self) {
        self.lock().close();
        self.changed.notify_all();
    }

    /// What to do next, once there is something, or when the time has come, at which all is tried again.
    pub(super) fn next(&self, until: Instant, blocked: Blocked, has_unread: bool) -> Work {
        let mut inner = self.lock();
        loop {
            let now = clock::now();
            let left = until.saturating_duration_since(now);
            let is_due = left.is_zero() || inner.is_closed;
            let may_write = is_due || blocked == Blocked::Nothing;
            if is_due || (blocked != Blocked::All && inner.has_work(may_write, has_unread)) {
                return inner.begin(may_write, now);
            }
            inner = self.wait(inner, left);
        }
    }

    /// What came of it.
    pub(super) fn done(&self, done: Done) {
        let works = !done.has_failed;
        let mut inner = self.lock();
        let was_hung = inner.done(done, clock::now());
        drop(inner);
        self.changed.notify_all();
        if works && was_hung {
            self.tell(Spooling::Works);
        }
    }

    /// Whether there is nothing left to write.
    pub(super) fn is_settled(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// What will never be written, in readings.
    pub(super) fn give_up(&self) -> usize {
        let waiting = std::mem::take(&mut self.lock().waiting);
        self.changed.notify_all();
        waiting.iter().map(|(_, batch)| batch.len()).sum()
    }

    pub(super) fn tell(&self, told: Spooling) {
        (self.tell)(told);
    }

    fn tell_of_hang(&self) {
        let why = format!("it hasn't answered for {} s", HANG_LIMIT.as_secs());
        self.tell(Spooling::Failed(why));
    }

    fn wait<'a>(&self, inner: MutexGuard<'a, Inner>, left: Duration) -> MutexGuard<'a, Inner> {
        let waited = self.changed.wait_timeout(inner, left);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.lock();
        let (waiting, stats) = (inner.waiting.len(), inner.stats);
        write!(f, "Spool(waiting: {waiting}, {stats:?})")
    }
}

impl Inner {
    fn in_memory(&self) -> usize {
        let lent = self.lent.iter().filter_map(|lent| lent.origin.put());
        self.waiting.len() + lent.count()
    }

    /// Up to where the disk may forget.
    fn done_with(&self) -> Option<Place> {
        let (place, put) = self.sent?;
        let waiting = self.waiting.front().map(|(put, _)| *put);
        let lent = self.lent.iter().filter_map(|lent| lent.origin.put());
        let oldest = lent.chain(waiting).min();
        oldest.is_none_or(|oldest| oldest >= put).then_some(place)
    }

    fn put(&mut self, batch: Batch) -> usize {
        let mut dropped = 0;
        if self.in_memory() >= self.rounds_max {
            // What the worker is writing may be safe in a moment.
            let Some((_, oldest)) = self.waiting.remove(self.writing) else {
                return batch.len();
            };
            dropped = oldest.len();
        }
        self.waiting.push_back((self.put, batch));
        self.put += 1;
        dropped
    }

    fn peek(&mut self, behind: Option<u64>, most: usize, now: Instant) -> Vec<(u64, Batch)> {
        let is_behind = |lent: &&Lent| behind.is_none_or(|behind| lent.number > behind);
        let again = self.lent.iter().filter(is_behind).take(most);
        let mut found: Vec<(u64, Batch)> = again
            .map(|lent| (lent.number, lent.batch.clone()))
            .collect();
        while found.len() < most
            && let Some((origin, batch)) = self.unlent(now)
        {
            found.push((self.next, batch.clone()));
            self.newest_lent = self.newest_lent.max(origin.place());
            self.lent.push_back(Lent {
                number: self.next,
                origin,
                batch,
            });
            self.next += 1;
        }
        found
    }

    /// The next one to give: from memory only while the disk isn't used.
    fn unlent(&mut self, now: Instant) -> Option<(Origin, Batch)> {
        if let Some((place, batch)) = self.ready.pop_front() {
            return Some((Origin::Disk(place), batch));
        }
        if self.is_usable(now) {
            return None;
        }
        let (put, batch) = self.waiting.remove(self.writing)?;
        Some((Origin::Memory(put), batch))
    }

    fn sent(&mut self, number: u64) {
        while self.lent.front().is_some_and(|lent| lent.number <= number) {
            let lent = self.lent.pop_front();
            let on_disk = lent.and_then(|lent| Some((lent.origin.place()?, lent.batch)));
            if let Some((place, batch)) = on_disk {
                self.newest_sent = self.newest_sent.max(Some(place));
                self.sent = self.newest_sent.map(|place| (place, self.put));
                self.stats.records = self.stats.records.saturating_sub(1);
                self.stats.readings = self.stats.readings.saturating_sub(batch.len());
            }
        }
    }

    /// What was given and is in memory alone is older than what waits.
    fn close(&mut self) {
        let lent = std::mem::take(&mut self.lent);
        let in_memory = lent
            .into_iter()
            .filter_map(|lent| Some((lent.origin.put()?, lent.batch)));
        for (at, lent) in (self.writing..).zip(in_memory) {
            self.waiting.insert(at, lent);
        }
        self.is_closed = true;
    }

    fn has_work(&self, may_write: bool, has_unread: bool) -> bool {
        let is_wanted = has_unread && self.ready.len() <= READY_MAX / 2;
        (may_write && !self.waiting.is_empty()) || self.done_with().is_some() || is_wanted
    }

    fn begin(&mut self, may_write: bool, now: Instant) -> Work {
        let most = if may_write { GROUP_ROUNDS_MAX } else { 0 };
        let group = self.waiting.iter().take(most);
        let group: Vec<Batch> = group.map(|(_, batch)| batch.clone()).collect();
        let sent = self.done_with();
        if sent.is_some() {
            self.sent = None;
        }
        self.writing = group.len();
        self.busy_since = Some(now);
        Work {
            group,
            sent,
            wanted: READY_MAX.saturating_sub(self.ready.len()),
            is_closed: self.is_closed,
        }
    }

    /// Returns whether it was told that the worker hung.
    fn done(&mut self, done: Done, now: Instant) -> bool {
        self.waiting.drain(..done.safe.min(self.writing));
        self.writing = 0;
        self.busy_since = None;
        self.has_failed = done.has_failed;
        if done.is_anew {
            self.ready.clear();
            self.sent = self.newest_sent.map(|place| (place, self.put));
        }
        // Where the disk was opened anew, what was given before is read once more.
        let is_new = |stored: &Stored| Some(stored.end) > self.newest_lent;
        let read = done.read.into_iter().filter(is_new);
        let read: Vec<_> = read
            .map(|stored| (stored.end, Batch::from(stored.readings)))
            .collect();
        self.ready.extend(read);
        if let Some((stats, at)) = done.stats {
            self.stats = stats;
            self.looked = Some((now, at));
        }
        std::mem::take(&mut self.hang_is_told)
    }

    fn view(&self, now: Instant) -> SpoolView {
        let age = |(then, at): (Instant, UtcTime)| {
            let before = at.seconds_since(self.stats.oldest?).max(0.0);
            let since = now.saturating_duration_since(then);
            Some(Duration::from_secs_f64(before) + since)
        };
        SpoolView {
            bytes: self.stats.bytes,
            readings: self.stats.readings,
            oldest: self.looked.and_then(age),
            waiting: self.in_memory(),
            works: self.is_usable(now),
        }
    }

    fn is_hung(&self, now: Instant) -> bool {
        let since = self.busy_since;
        since.is_some_and(|since| now.saturating_duration_since(since) > HANG_LIMIT)
    }

    fn is_usable(&self, now: Instant) -> bool {
        !self.has_failed && !self.is_hung(now)
    }

    /// True once for each time.
    fn begins_to_hang(&mut self, now: Instant) -> bool {
        let begins = !self.hang_is_told && !self.has_failed && self.is_hung(now);
        self.hang_is_told |= begins;
        begins
    }
}
