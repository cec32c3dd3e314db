//! One pollster of one source, in its thread, and how a reload talks to it.
//!
//! ```text
//!           due, or news
//!          ┌──────────┐
//!          ▼          │
//! waits ──────► polls ┘     between two rounds it looks into its mailbox:
//!   │                         another role: interval, meters, outlets, pollster; the rounds go on
//!   └──► ends                 told to end, and nobody took it back until then
//! ```

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::super::Stop;
use super::super::stop::Woken;
use super::health::Progress;
use super::outlets::Outlet;
use crate::clock;
use crate::events::AgentEvents;
use crate::model::{Sample, meters};
use crate::pipeline::{Emitter, MeterFilter};
use crate::pollsters::schedule::{Schedule, Tick};
use crate::pollsters::{Bell, Pollster, Round};

/// What a configuration says of a task, beside what its pollster is built from.
pub(super) struct Role {
    /// The time from one round to the next.
    pub(super) interval: Duration,
    /// Which meters are wanted.
    pub(super) meters: MeterFilter,
    /// Where they go.
    pub(super) outlets: Vec<Outlet>,
}

/// The way to a task. What was not taken yet is replaced by what comes later.
pub(super) struct Mailbox {
    slot: Mutex<Slot>,
    rung: AtomicBool,
    stop: Stop,
}

#[derive(Default)]
struct Slot {
    role: Option<Role>,
    pollster: Option<Box<dyn Pollster>>,
    is_ending: bool,
    is_closed: bool,
}

/// What a task found in its mailbox.
enum Mail {
    Nothing,
    Change(Role, Option<Box<dyn Pollster>>),
    End,
}

impl Mailbox {
    pub(super) fn new(stop: &Stop) -> Arc<Self> {
        Arc::new(Mailbox {
            slot: Mutex::default(),
            rung: AtomicBool::new(false),
            stop: stop.clone(),
        })
    }

    /// A bell that wakes the task.
    pub(super) fn bell(self: &Arc<Self>) -> Bell {
        let mailbox = Arc::clone(self);
        Bell::new(move || mailbox.ring())
    }

    /// Another role between two rounds and, from the next round on, another pollster if there is one.
    pub(super) fn change(&self, role: Role, pollster: Option<Box<dyn Pollster>>) {
        let mut slot = self.slot();
        slot.role = Some(role);
        slot.pollster = pollster.or(slot.pollster.take());
        drop(slot);
        self.ring();
    }

    /// No round after the one in hand.
    pub(super) fn end(&self) {
        self.slot().is_ending = true;
        self.ring();
    }

    /// Takes the end back; false if it is too late.
    pub(super) fn go_on(&self) -> bool {
        let mut slot = self.slot();
        slot.is_ending = slot.is_closed;
        !slot.is_closed
    }

    /// Whether it was told to end, and that still stands.
    pub(super) fn is_ending(&self) -> bool {
        self.slot().is_ending
    }

    /// Whether the task has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.slot().is_closed
    }

    /// What there is. At the end, `last_words` come before anybody can start another task in its place.
    fn take(&self, last_words: impl FnOnce()) -> Mail {
        let mut slot = self.slot();
        if slot.is_ending {
            last_words();
            slot.is_closed = true;
            return Mail::End;
        }
        match slot.role.take() {
            Some(role) => Mail::Change(role, slot.pollster.take()),
            None => Mail::Nothing,
        }
    }

    fn ring(&self) {
        self.stop.ring(&self.rung);
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One pollster of one source.
pub(super) struct Task {
    pub(super) pollster: Box<dyn Pollster>,
    pub(super) name: String,
    pub(super) source: String,
    pub(super) role: Role,
    pub(super) schedule: Schedule,
    pub(super) emitter: Arc<Emitter>,
    pub(super) events: Arc<AgentEvents>,
    pub(super) progress: Arc<Progress>,
    pub(super) mailbox: Arc<Mailbox>,
}

impl Task {
    /// Round after round, until it is time to end or it is told to.
    pub(super) fn run(mut self, stop: &Stop) {
        let mut tick = self.schedule.first();
        let mut last = None;
        let mut next_pollster = None;
        loop {
            match self.mail() {
                Mail::Nothing => {}
                Mail::Change(role, pollster) => {
                    next_pollster = pollster.or(next_pollster);
                    tick = self.assume(role, tick, last);
                }
                Mail::End => return,
            }
            match self.wait(stop, tick.due) {
                Woken::Stop => return,
                Woken::Due => {}
                Woken::Rung => {
                    self.news();
                    continue;
                }
            }
            // The one before goes on listening until here, and is dropped when the round is over.
            let _before = next_pollster
                .take()
                .map(|next| std::mem::replace(&mut self.pollster, next));
            self.round(tick);
            let now = clock::now();
            self.progress.ended(now);
            last = Some(tick.due);
            tick = self.schedule.after(tick, now);
            if tick.missed > 0 {
                self.events
                    .rounds_missed(&self.source, &self.name, tick.missed);
            }
        }
    }

    fn mail(&self) -> Mail {
        self.mailbox
            .take(|| self.events.pollster_gone(&self.source, &self.name))
    }

    /// Takes a role on; the next round is due no later than it would have been.
    fn assume(&mut self, role: Role, next: Tick, last: Option<Instant>) -> Tick {
        let interval = role.interval;
        let is_other = interval != self.role.interval;
        self.role = role;
        if !is_other {
            return next;
        }
        let now = clock::now();
        self.progress.retimed(interval, now);
        self.schedule = self.schedule.changed(now, last, next.due, interval);
        self.schedule.first()
    }

    /// Sleeps until the round is due or somebody rings; a pollster that wants to be asked is as good as
    /// a bell.
    fn wait(&self, stop: &Stop, due: Instant) -> Woken {
        let wake_at = self.pollster.wake_at().map_or(due, |at| at.min(due));
        match stop.wait_until_or(wake_at, &self.mailbox.rung) {
            Woken::Due if wake_at < due => Woken::Rung,
            woken => woken,
        }
    }

    fn round(&mut self, tick: Tick) {
        let started = clock::now();
        let late = started.saturating_duration_since(tick.due);
        let mut samples = self.pollster.poll(Round { due: tick.due });
        let ended = clock::now();
        let times = (ended.saturating_duration_since(started), late);
        self.events
            .round_ended(&self.source, &self.name, times, &samples, ended);
        self.events
            .counted(&self.source, &self.name, &self.pollster.take_counts());
        samples.retain(|sample| wants(&self.role.meters, sample));
        self.deliver(samples);
    }

    fn news(&mut self) {
        let mut samples = self.pollster.news();
        self.events.news(&self.source, &self.name, &samples);
        samples.retain(|sample| wants(&self.role.meters, sample));
        self.deliver(samples);
    }

    fn deliver(&self, samples: Vec<Sample>) {
        if samples.is_empty() {
            return;
        }
        self.emitter.emit(self.role.interval, samples, |readings| {
            let batch: Arc<[_]> = readings.into();
            for outlet in &self.role.outlets {
                outlet.push(Arc::clone(&batch), &self.events);
            }
        });
    }
}

/// Whether a source with these meters wants a sample. A failure goes wherever its pollster's meters go,
/// unless it is excluded by name: without it a missing reading would have no reason.
pub(super) fn wants(filter: &MeterFilter, sample: &Sample) -> bool {
    let name = &sample.meter.name;
    if sample.meter == meters::POLLSTER_FAILED {
        !filter.excludes_by_name(name)
    } else {
        filter.wants(name)
    }
}
