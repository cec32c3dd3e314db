//! The only one who waits for the spool's disk: writes what waits, reads back what is to be sent, and tries
//! again where something failed.

use std::io;
use std::time::{Duration, Instant};

use super::body::{self, Body};
use super::hand::{Blocked, Done, Spool, Work};
use super::store::{Folder, Limits, Losses, Store};
use crate::clock;
use crate::events::{SpoolLoss, Spooling};
use crate::model::UtcTime;
use crate::publisher::queue::Batch;

/// The most readings that are encoded at once, unless one round has more.
const GROUP_READINGS_MAX: usize = 4096;

/// How long after a failure the disk is tried again, at first.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// The longest pause between two tries.
const PAUSE_LIMIT: Duration = Duration::from_secs(5);

/// How often what is too old is looked for.
const LOOK_PERIOD: Duration = Duration::from_secs(30);

/// Serves a spool until it is closed and what waits is written, or can't be.
pub fn work<F: Folder>(spool: &Spool, limits: Limits, open: impl Fn() -> io::Result<F>) {
    let mut worker = Worker {
        store: None,
        limits,
        open,
        age: Age::new(),
    };
    let (mut blocked, mut pause) = (Blocked::Nothing, PAUSE_FIRST);
    // The first look is at once.
    let mut until = clock::now();
    loop {
        let work = spool.next(until, blocked, worker.has_unread());
        let mut done = Done::default();
        let result = worker.attempt(&work, spool, &mut done);
        let now = clock::now();
        let mut news = None;
        match result {
            // Who had nothing to write doesn't know whether the disk takes anything again.
            Ok(()) if blocked != Blocked::Nothing && now < until => {}
            Ok(()) => {
                if blocked != Blocked::Nothing {
                    news = Some(Spooling::Works);
                }
                (blocked, pause) = (Blocked::Nothing, PAUSE_FIRST);
                until = now + LOOK_PERIOD;
            }
            Err(error) => {
                if blocked == Blocked::Nothing {
                    news = Some(Spooling::Failed(error.to_string()));
                }
                blocked = worker.doubt(&error);
                until = now + pause;
                pause = (pause * 2).min(PAUSE_LIMIT);
            }
        }
        done.has_failed = blocked != Blocked::Nothing;
        spool.done(done);
        // What is told is so already.
        if let Some(news) = news {
            spool.tell(news);
        }
        if work.is_closed && (blocked != Blocked::Nothing || spool.is_settled()) {
            break;
        }
    }
    let lost = spool.give_up();
    if lost > 0 {
        spool.tell(Spooling::Lost(SpoolLoss::Disk, lost));
    }
}

struct Worker<F, O> {
    store: Option<Store<F>>,
    limits: Limits,
    open: O,
    age: Age,
}

impl<F: Folder, O: Fn() -> io::Result<F>> Worker<F, O> {
    fn has_unread(&self) -> bool {
        self.store.as_ref().is_some_and(Store::has_unread)
    }

    fn attempt(&mut self, work: &Work, spool: &Spool, done: &mut Done) -> io::Result<()> {
        let now = self.age.now();
        let store = match self.store.take() {
            Some(store) => store,
            None => {
                done.is_anew = true;
                Store::open((self.open)()?, self.limits)?
            }
        };
        let store = self.store.insert(store);
        store.expire(now);
        // What is on the disk is read and done with although the disk is full.
        let sent = work.sent.map_or(Ok(()), |end| store.sent(end));
        let written = write(store, &work.group, now, spool, done);
        let wanted = if work.is_closed { 0 } else { work.wanted };
        let read = store.read(wanted, now).map(|read| done.read = read);
        let Losses {
            full,
            too_old,
            damaged,
        } = store.losses();
        for (loss, readings) in [
            (SpoolLoss::Full, full),
            (SpoolLoss::TooOld, too_old),
            (SpoolLoss::Damaged, damaged),
        ] {
            if readings > 0 {
                spool.tell(Spooling::Lost(loss, readings));
            }
        }
        done.stats = Some((store.stats(), now));
        written.and(read).and(sent)
    }

    /// A disk that is full or read-only is what it was; any other one is looked at anew.
    fn doubt(&mut self, error: &io::Error) -> Blocked {
        match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::ReadOnlyFilesystem
                if self.store.is_some() =>
            {
                Blocked::Writes
            }
            _ => {
                self.store = None;
                Blocked::All
            }
        }
    }
}

/// Writes a group, and syncs it once where it fits one segment.
fn write<F: Folder>(
    store: &mut Store<F>,
    group: &[Batch],
    now: UtcTime,
    spool: &Spool,
    done: &mut Done,
) -> io::Result<()> {
    let safe_before = done.safe;
    let written = write_portions(store, group, now, spool, done);
    let safe = done.safe.saturating_sub(safe_before);
    for batch in group.iter().take(safe) {
        if let (Some(first), Some(last)) = (batch.first(), batch.last()) {
            let (first, last) = (first.identity.clone(), last.identity.clone());
            spool.tell(Spooling::Accepted { first, last });
        }
    }
    written
}

fn write_portions<F: Folder>(
    store: &mut Store<F>,
    group: &[Batch],
    now: UtcTime,
    spool: &Spool,
    done: &mut Done,
) -> io::Result<()> {
    let mut portion = Portion::default();
    for batch in group {
        let (bodies, too_large) = body::bodies(batch);
        portion.bodies.extend(bodies);
        portion.rounds += 1;
        portion.readings += batch.len() - too_large;
        portion.too_large += too_large;
        if portion.readings >= GROUP_READINGS_MAX {
            std::mem::take(&mut portion).write(store, now, spool, done)?;
        }
    }
    portion.write(store, now, spool, done)
}

/// What is written at once.
#[derive(Default)]
struct Portion {
    bodies: Vec<Body>,
    rounds: usize,
    readings: usize,
    too_large: usize,
}

impl Portion {
    fn write<F: Folder>(
        self,
        store: &mut Store<F>,
        now: UtcTime,
        spool: &Spool,
        done: &mut Done,
    ) -> io::Result<()> {
        let mut left = self.bodies.as_slice();
        while !left.is_empty() {
            let taken = store.append(left, now)?;
            left = left.get(taken..).unwrap_or_default();
        }
        done.safe += self.rounds;
        if self.readings > 0 {
            spool.tell(Spooling::Written(self.readings));
        }
        if self.too_large > 0 {
            spool.tell(Spooling::Lost(SpoolLoss::TooLarge, self.too_large));
        }
        Ok(())
    }
}

/// The time by which records age: the wall clock as it stood at the start, and from then on a clock that
/// nobody sets. So a step of the wall clock makes nothing old.
struct Age {
    wall: UtcTime,
    since: Instant,
}

impl Age {
    fn new() -> Self {
        Age {
            wall: clock::utc(),
            since: clock::now(),
        }
    }

    fn now(&self) -> UtcTime {
        let passed = clock::now().saturating_duration_since(self.since);
        let passed = i64::try_from(passed.as_micros()).unwrap_or(i64::MAX);
        UtcTime::from_unix_micros(self.wall.unix_micros().saturating_add(passed))
    }
}
