//! Where receivers hand messages over and the writer takes them. Who receives what nobody keeps never waits;
//! who consumes from a broker waits until there is room; and the writer waits until a batch or some states
//! are due.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::receipt::Receipt;
use super::waiting::{Arrived, Batch, Due, Limits, States, Waiting};
use crate::clock;
use crate::model::{Received, Shared};

/// Makes the two ends.
pub fn intake() -> (Inlet, Outlet) {
    let shared = Arc::new(Intake::default());
    shared.lock().inlets = 1;
    (Inlet(Arc::clone(&shared)), Outlet(shared))
}

/// The receivers' end. When the last of its clones is dropped, nothing comes any more.
#[derive(Debug)]
pub struct Inlet(Arc<Intake>);

/// The writer's end.
#[derive(Debug)]
pub struct Outlet(Arc<Intake>);

/// Tells how much waits.
#[derive(Debug)]
pub struct Gauge(Arc<Intake>);

/// What found no room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// Messages whose history is lost, but no newer state.
    pub history: usize,
    /// Readings whose state is lost too.
    pub states: usize,
}

/// What the writer is to do.
#[derive(Debug)]
pub enum Work {
    /// Store these, as history and state.
    Batch(Batch),
    /// Store the states of these.
    States(States),
}

#[derive(Debug, Default)]
struct Intake {
    inside: Mutex<Inside>,
    /// Rung for the writer, when as many wait as it wants, or nothing comes any more.
    bell: Notify,
    /// Rung for those who wait for room, when a batch was taken.
    room: Notify,
}

#[derive(Debug, Default)]
struct Inside {
    waiting: Waiting,
    /// How many there are that may still hand something over.
    inlets: usize,
    /// How many must wait for the writer to be woken before its time.
    wanted: usize,
}

impl Intake {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a batch out, which makes room.
    fn take(&self, inside: &mut Inside, size: usize) -> Option<Batch> {
        let batch = inside.waiting.take(size);
        self.room.notify_waiters();
        batch
    }
}

impl Inlet {
    /// Hands the messages of one datagram over, as far as there is room.
    pub fn push(&self, messages: impl IntoIterator<Item = Received>, at: Instant) -> Lost {
        let mut lost = Lost::default();
        let mut inside = self.0.lock();
        for message in messages {
            let arrived = Arrived {
                message: Arc::new(message),
                at,
                receipt: None,
            };
            if let Err(arrived) = inside.waiting.queue(arrived) {
                let is_kept = inside.waiting.keep_state(arrived);
                let count = if is_kept {
                    &mut lost.history
                } else {
                    &mut lost.states
                };
                *count += 1;
            }
        }
        let is_wanted = inside.waiting.fills(inside.wanted);
        drop(inside);
        if is_wanted {
            self.0.bell.notify_one();
        }
        lost
    }

    /// Hands over what its sender keeps until the receipts are settled. Waits for room; what is dropped
    /// while it waits is not settled.
    pub async fn deliver(&self, messages: Vec<(Received, Receipt)>, at: Instant) {
        let arrived = |(message, receipt)| Arrived {
            message: Arc::new(message),
            at,
            receipt: Some(receipt),
        };
        let mut rest = messages.into_iter().map(arrived);
        let mut next = rest.next();
        loop {
            let mut room = pin!(self.0.room.notified());
            // From here on no ring is missed.
            room.as_mut().enable();
            next = self.fill(next, &mut rest);
            if next.is_none() {
                return;
            }
            room.await;
        }
    }

    /// Hands over as much as there is room for; returns the first that found none.
    fn fill(
        &self,
        mut next: Option<Arrived>,
        rest: &mut impl Iterator<Item = Arrived>,
    ) -> Option<Arrived> {
        let mut inside = self.0.lock();
        while let Some(arrived) = next {
            if let Err(back) = inside.waiting.queue(arrived) {
                next = Some(back);
                break;
            }
            next = rest.next();
        }
        let is_wanted = inside.waiting.fills(inside.wanted);
        drop(inside);
        if is_wanted {
            self.0.bell.notify_one();
        }
        next
    }

    /// Hands over readings of which only the state is to be stored: their history comes another way.
    /// Returns of how many the state found no room.
    pub fn show(&self, messages: impl IntoIterator<Item = Received>, at: Instant) -> usize {
        let mut inside = self.0.lock();
        let arrived = |message| Arrived {
            message: Arc::new(message),
            at,
            receipt: None,
        };
        let messages = messages.into_iter().map(arrived);
        let kept = messages.map(|arrived| inside.waiting.keep_state(arrived));
        let lost = kept.filter(|is_kept| !is_kept).count();
        drop(inside);
        self.0.bell.notify_one();
        lost
    }
}

impl Clone for Inlet {
    fn clone(&self) -> Self {
        self.0.lock().inlets += 1;
        Inlet(Arc::clone(&self.0))
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        self.0.lock().inlets -= 1;
        self.0.bell.notify_one();
    }
}

impl Outlet {
    /// Waits for work, within the limits that hold when it is looked for; None once nothing can come
    /// any more and nothing waits.
    pub async fn next(&self, limits: &Shared<Limits>) -> Option<Work> {
        loop {
            let wake_at = match self.look(*limits.get(), clock::now()) {
                Look::Work(work) => return Some(work),
                Look::Over => return None,
                Look::Wait(wake_at) => wake_at,
            };
            let rung = self.0.bell.notified();
            match wake_at {
                Some(at) => drop(tokio::time::timeout_at(at.into(), rung).await),
                None => rung.await,
            }
        }
    }

    /// Takes a batch if one is due already.
    pub fn batch_if_full(&self, limits: Limits) -> Option<Batch> {
        let mut inside = self.0.lock();
        let is_full = inside.waiting.fills(limits.size);
        is_full
            .then(|| self.0.take(&mut inside, limits.size))
            .flatten()
    }

    /// Takes states if some have waited for too long, and no batch has to be stored first.
    pub fn states_if_due(&self, now: Instant) -> Option<States> {
        let mut inside = self.0.lock();
        let are_due = inside.waiting.are_states_due(now);
        are_due.then(|| inside.waiting.states())
    }

    /// Takes back states that could not be stored now. Returns of how many the state is lost.
    pub fn take_back(&self, states: States) -> usize {
        self.0.lock().waiting.take_back(states)
    }

    /// Something that tells how much waits.
    pub fn gauge(&self) -> Gauge {
        Gauge(Arc::clone(&self.0))
    }

    /// How many messages wait that nobody else has.
    pub fn only_here(&self) -> usize {
        self.0.lock().waiting.only_here()
    }

    fn look(&self, limits: Limits, now: Instant) -> Look {
        let mut inside = self.0.lock();
        let is_closed = inside.inlets == 0;
        let work = match inside.waiting.due(limits, is_closed, now) {
            Due::Batch => self.0.take(&mut inside, limits.size).map(Work::Batch),
            Due::States => Some(Work::States(inside.waiting.states())),
            Due::At(at) => {
                inside.wanted = limits.size;
                return Look::Wait(Some(at));
            }
            Due::Nothing => None,
        };
        match work {
            Some(work) => Look::Work(work),
            None if is_closed => Look::Over,
            None => {
                inside.wanted = 1;
                Look::Wait(None)
            }
        }
    }
}

enum Look {
    Work(Work),
    Wait(Option<Instant>),
    Over,
}

impl Gauge {
    /// Messages that wait to be stored.
    pub fn waiting(&self) -> usize {
        self.0.lock().waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::waiting::WAITING_MAX;
    use super::*;
    use crate::model::{Identity, ReceivedMeter, Value};
    use std::time::Duration;

    const PATIENT: Limits = Limits {
        size: 3,
        timeout: Duration::from_secs(3600),
    };

    fn message(seq: u64) -> Received {
        Received {
            identity: Some(Identity {
                observer: "o".into(),
                epoch: 1,
                seq,
            }),
            path: None,
            evidence: crate::model::Evidence::default(),
            message_id: seq.to_string(),
            signature: String::new(),
            source: String::new(),
            meter: ReceivedMeter {
                name: "m".into(),
                kind: None,
                unit: None,
            },
            volume: None,
            resource_id: "r".into(),
            user_id: None,
            project_id: None,
            timestamp: None,
            metadata: Value::Null,
        }
    }

    fn ids(messages: &[Arc<Received>]) -> Vec<&str> {
        let ids = messages.iter().map(|message| message.message_id.as_str());
        ids.collect()
    }

    async fn next(outlet: &Outlet, limits: &Shared<Limits>) -> String {
        match outlet.next(limits).await {
            Some(Work::Batch(batch)) => format!("batch {}", ids(&batch.messages).join(" ")),
            Some(Work::States(states)) => format!("states {}", ids(&states.waiting).join(" ")),
            None => "over".to_owned(),
        }
    }

    /// A batch's time never comes here: what fills it wakes the writer, and the end of the receivers.
    #[tokio::test]
    async fn the_writer_is_woken_by_a_full_batch_by_states_and_by_the_end() {
        let (inlet, outlet) = intake();
        let limits = Shared::new(PATIENT);
        let fill = async { inlet.push((1..=3).map(message), clock::now()) };
        let (work, _) = tokio::join!(next(&outlet, &limits), fill);
        assert_eq!(work, "batch 1 2 3");
        let one = async { inlet.push([message(4)], clock::now()) };
        let (work, _) = tokio::join!(next(&outlet, &limits), one);
        assert_eq!(work, "states 4");
        let end = async { drop(inlet) };
        let (work, ()) = tokio::join!(next(&outlet, &limits), end);
        assert_eq!(work, "batch 4");
        assert_eq!(next(&outlet, &limits).await, "over");
    }

    #[tokio::test]
    async fn what_finds_no_room_is_kept_as_a_state_and_told() {
        let (inlet, outlet) = intake();
        let most = u64::try_from(WAITING_MAX).unwrap();
        let now = clock::now();
        assert_eq!(inlet.push((1..=most).map(message), now), Lost::default());
        let lost = inlet.push([most + 2, most + 1].map(message), now);
        assert_eq!(
            lost,
            Lost {
                history: 2,
                states: 0
            }
        );
        assert_eq!(outlet.gauge().waiting(), WAITING_MAX + 1);
        drop(inlet);
        let limits = Shared::new(Limits {
            size: WAITING_MAX,
            ..PATIENT
        });
        let (mut history, mut alone) = (0, Vec::new());
        while let Some(work) = outlet.next(&limits).await {
            match work {
                Work::Batch(batch) => history += batch.messages.len(),
                Work::States(states) => alone.extend(states.alone),
            }
        }
        assert_eq!(history, WAITING_MAX);
        let alone: Vec<&str> = alone
            .iter()
            .map(|one| one.message.message_id.as_str())
            .collect();
        assert_eq!(alone, [(most + 2).to_string()]);
    }
}
