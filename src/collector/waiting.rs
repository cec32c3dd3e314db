//! Pure. The messages that wait to be stored, bounded by their number and by their bytes: all of
//! them in order of arrival, and of those that found no room the newest of each state.
//!
//! ```text
//! message ── is there room? ──yes──► queue: history and state
//!              │ no
//!              ▼
//!            the newest of its state? ──yes──► states: state alone
//!              │ no
//!              ▼
//!            gone, for one that is newer is here
//! ```

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::newest::{self, OwnedKey};
use super::receipt::Receipt;
use crate::model::{Received, ReceivedMeter, Value};

/// Messages that may wait to be stored as history: some seconds of a fleet of a thousand hosts.
/// Beyond it the history of new ones is lost; unacknowledged UDP has no better place to wait.
pub const WAITING_MAX: usize = 20_000;

/// Bytes of memory that these may take: a usual message takes 2 kB, one that fills a datagram a
/// thousand times as much. What is lost beyond it is as above.
pub const WAITING_BYTES_MAX: usize = 64 << 20;

/// Messages that may wait beside these because their sender keeps them until they are stored: the largest
/// batch. Nothing is lost beyond it: they are taken later.
pub const BACKLOG_MAX: usize = 10_000;

/// Bytes of memory that these may take. Nothing is lost beyond it, as above.
pub const BACKLOG_BYTES_MAX: usize = 32 << 20;

/// The share of a batch that a backlog gets although more messages wait that nobody keeps: one of so many.
const BACKLOG_SHARE: usize = 4;

/// States that may wait although the history of their readings is lost: ten thousand hosts with six
/// each. Beyond it the state of a new one is lost as well, until its next reading finds room.
pub const STATES_MAX: usize = 65_536;

/// Bytes of memory that these may take. What is lost beyond it is as above.
pub const STATES_BYTES_MAX: usize = 64 << 20;

/// Bytes of memory of the messages of one transaction, whose rows take several times as much: ten
/// thousand usual messages. Nothing is lost beyond it: the rest is for the next one.
pub const BATCH_BYTES_MAX: usize = 16 << 20;

/// How long a message may wait before its state is stored ahead of its history: half of the 0.2 s
/// within which state should be readable, so that storing it has the other half.
pub const STATE_AFTER: Duration = Duration::from_millis(100);

/// A message and when it came.
#[derive(Debug)]
pub struct Arrived {
    /// The message, verified.
    pub message: Arc<Received>,
    /// When its datagram or delivery was read.
    pub at: Instant,
    /// What is settled when it is stored; None where its sender doesn't keep it.
    pub receipt: Option<Receipt>,
}

/// How large a batch may get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// So many messages.
    pub size: usize,
    /// So long after the first of them came.
    pub timeout: Duration,
}

/// Messages to be stored together.
#[derive(Debug)]
pub struct Batch {
    /// The messages in order of arrival.
    pub messages: Vec<Arc<Received>>,
    /// What is settled when all of them are stored.
    pub receipts: Vec<Receipt>,
    /// When the first of them came.
    pub since: Instant,
}

/// Readings whose states are to be stored at once.
#[derive(Debug, Default)]
pub struct States {
    /// Those whose history waits, in order of arrival.
    pub waiting: Vec<Arc<Received>>,
    /// Those whose history is lost.
    pub alone: Vec<Arrived>,
    /// Up to which message states were asked for before.
    shown_before: u64,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Storing a batch.
    Batch,
    /// Storing states, because some of them have waited for [`STATE_AFTER`].
    States,
    /// Nothing before this moment, unless more comes.
    At(Instant),
    /// Nothing, because nothing waits.
    Nothing,
}

/// How much may wait.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    waiting: usize,
    waiting_bytes: usize,
    backlog: usize,
    backlog_bytes: usize,
    states: usize,
    states_bytes: usize,
    batch_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            waiting: WAITING_MAX,
            waiting_bytes: WAITING_BYTES_MAX,
            backlog: BACKLOG_MAX,
            backlog_bytes: BACKLOG_BYTES_MAX,
            states: STATES_MAX,
            states_bytes: STATES_BYTES_MAX,
            batch_bytes: BATCH_BYTES_MAX,
        }
    }
}

/// What waits.
#[derive(Debug, Default)]
pub struct Waiting {
    bounds: Bounds,
    queue: VecDeque<Weighed>,
    queue_bytes: usize,
    /// Those that their sender keeps; they have no state to tell.
    backlog: VecDeque<Weighed>,
    backlog_bytes: usize,
    /// How many messages were ever queued: the number of the next one.
    queued: u64,
    /// The messages with lower numbers were asked for as states.
    shown: u64,
    /// Whether states were stored after the last batch: then it is a batch's turn.
    is_batch_s_turn: bool,
    states: HashMap<OwnedKey, Weighed>,
    states_bytes: usize,
    /// When the first of the states came.
    states_since: Option<Instant>,
}

#[derive(Debug)]
struct Weighed {
    arrived: Arrived,
    bytes: usize,
}

impl Waiting {
    /// Puts a message behind the others, or gives it back if there is no room.
    pub fn queue(&mut self, arrived: Arrived) -> Result<(), Arrived> {
        let bytes = bytes_of(&arrived.message);
        if arrived.receipt.is_some() {
            return self.queue_backlog(arrived, bytes);
        }
        let Bounds {
            waiting,
            waiting_bytes,
            ..
        } = self.bounds;
        if self.queue.len() >= waiting || self.queue_bytes + bytes > waiting_bytes {
            return Err(arrived);
        }
        self.queue_bytes += bytes;
        self.queued += 1;
        self.queue.push_back(Weighed { arrived, bytes });
        Ok(())
    }

    fn queue_backlog(&mut self, arrived: Arrived, bytes: usize) -> Result<(), Arrived> {
        let Bounds {
            backlog,
            backlog_bytes,
            ..
        } = self.bounds;
        if self.backlog.len() >= backlog || self.backlog_bytes + bytes > backlog_bytes {
            return Err(arrived);
        }
        self.backlog_bytes += bytes;
        self.backlog.push_back(Weighed { arrived, bytes });
        Ok(())
    }

    /// Keeps the state of a message that found no room, or that has only a state to tell, unless a newer one is kept already. False if
    /// there is no room for it either.
    pub fn keep_state(&mut self, arrived: Arrived) -> bool {
        let Some(key) = OwnedKey::of(&arrived.message) else {
            return true;
        };
        let bytes = bytes_of(&arrived.message);
        let at = arrived.at;
        let count = self.states.len();
        match self.states.entry(key) {
            Entry::Occupied(mut held) => {
                let older = held.get();
                if !newest::is_newer(&arrived.message, &older.arrived.message) {
                    return true;
                }
                let others = self.states_bytes - older.bytes;
                if others + bytes > self.bounds.states_bytes {
                    return false;
                }
                self.states_bytes = others + bytes;
                held.insert(Weighed { arrived, bytes });
            }
            Entry::Vacant(free) => {
                let Bounds {
                    states,
                    states_bytes,
                    ..
                } = self.bounds;
                if count >= states || self.states_bytes + bytes > states_bytes {
                    return false;
                }
                self.states_bytes += bytes;
                free.insert(Weighed { arrived, bytes });
            }
        }
        self.states_since.get_or_insert(at);
        true
    }

    /// Whether a batch of this size can be filled, by number or by bytes.
    pub fn fills(&self, size: usize) -> bool {
        let bytes = self.queue_bytes + self.backlog_bytes;
        self.queue.len() + self.backlog.len() >= size || bytes >= self.bounds.batch_bytes
    }

    /// How many messages wait, in one way or the other.
    pub fn len(&self) -> usize {
        self.queue.len() + self.backlog.len() + self.states.len()
    }

    /// How many of them nobody else has.
    pub fn only_here(&self) -> usize {
        self.queue.len() + self.states.len()
    }

    /// Whether states wait alone.
    pub fn has_states(&self) -> bool {
        !self.states.is_empty()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is to be done. `is_ending` says that nothing comes any more.
    ///
    /// States and batches take turns when both are due, so that neither starves the other. States that wait
    /// alone are due with any batch, so that the present doesn't come behind history.
    pub fn due(&self, limits: Limits, is_ending: bool, now: Instant) -> Due {
        let batch_at = self.oldest().map(|oldest| oldest + limits.timeout);
        let is_batch_due = self.fills(limits.size)
            || (is_ending && batch_at.is_some())
            || batch_at.is_some_and(|at| at <= now);
        // A batch that takes all there is shows all there is.
        let does_batch_do = self.queue.len() <= self.room_in(limits.size) && !self.has_states();
        let states_at = self.unshown_since().map(|since| since + STATE_AFTER);
        let are_states_due = states_at.is_some_and(|at| at <= now)
            || (self.has_states() && (is_batch_due || is_ending));
        let must_batch = is_batch_due && (does_batch_do || self.is_batch_s_turn);
        match (are_states_due && !must_batch, is_batch_due) {
            (true, _) => Due::States,
            (false, true) => Due::Batch,
            (false, false) => [batch_at, states_at]
                .into_iter()
                .flatten()
                .min()
                .map_or(Due::Nothing, Due::At),
        }
    }

    /// Whether states go before a batch that is ready: they wait alone, or have waited for too long, and no
    /// batch was stored since the last ones.
    pub fn are_states_due(&self, now: Instant) -> bool {
        let since = self.unshown_since();
        let is_late = since.is_some_and(|since| since + STATE_AFTER <= now);
        !self.is_batch_s_turn && (is_late || self.has_states())
    }

    /// Takes so many messages out, each kind oldest first, or fewer that are large; None if none is queued.
    pub fn take(&mut self, size: usize) -> Option<Batch> {
        let since = self.oldest()?;
        let mut batch = Batch {
            messages: Vec::with_capacity(size.min(self.queue.len() + self.backlog.len())),
            receipts: Vec::new(),
            since,
        };
        let room = self.bounds.batch_bytes;
        let waiting = within(weights(&self.queue), room).min(self.room_in(size));
        let taken = batch.add(self.queue.drain(..waiting));
        self.queue_bytes -= taken;
        let room = room.saturating_sub(taken);
        let is_alone = waiting == 0;
        if is_alone
            || weights(&self.backlog)
                .next()
                .is_some_and(|first| first <= room)
        {
            let backlog = within(weights(&self.backlog), room).min(size - waiting);
            self.backlog_bytes -= batch.add(self.backlog.drain(..backlog));
        }
        self.is_batch_s_turn = false;
        Some(batch)
    }

    /// Gives out the readings whose states weren't given out yet: those whose history waits stay in
    /// the queue.
    pub fn states(&mut self) -> States {
        let unshown = self.unshown();
        let states = States {
            waiting: self
                .queue
                .iter()
                .skip(self.queue.len() - unshown)
                .map(|weighed| Arc::clone(&weighed.arrived.message))
                .collect(),
            alone: self
                .states
                .drain()
                .map(|(_, state)| state.arrived)
                .collect(),
            shown_before: self.shown,
        };
        self.states_bytes = 0;
        self.states_since = None;
        self.shown = self.queued;
        self.is_batch_s_turn = true;
        states
    }

    /// Takes back what could not be stored now. False for how many there is no room any more.
    pub fn take_back(&mut self, states: States) -> usize {
        self.shown = self.shown.min(states.shown_before);
        let kept = states.alone.into_iter().map(|state| self.keep_state(state));
        kept.filter(|kept| !kept).count()
    }

    fn oldest(&self) -> Option<Instant> {
        let fronts = [self.queue.front(), self.backlog.front()].into_iter();
        fronts.flatten().map(|oldest| oldest.arrived.at).min()
    }

    /// How many of a batch of this size are for messages that nobody keeps, if there are so many.
    fn room_in(&self, size: usize) -> usize {
        size - self.backlog.len().min(size / BACKLOG_SHARE)
    }

    /// How many at the queue's end weren't given out as states.
    fn unshown(&self) -> usize {
        let unshown = usize::try_from(self.queued - self.shown).unwrap_or(usize::MAX);
        unshown.min(self.queue.len())
    }

    fn unshown_since(&self) -> Option<Instant> {
        let first = self.queue.get(self.queue.len() - self.unshown());
        let queued = first.map(|weighed| weighed.arrived.at);
        [queued, self.states_since].into_iter().flatten().min()
    }
}

/// Cuts messages into portions of no more bytes than one transaction may have.
pub fn portions(messages: &[Arc<Received>]) -> impl Iterator<Item = &[Arc<Received>]> {
    let mut rest = messages;
    std::iter::from_fn(move || {
        let bytes = rest.iter().map(|message| bytes_of(message));
        let (portion, later) = rest.split_at(within(bytes, BATCH_BYTES_MAX));
        rest = later;
        (!portion.is_empty()).then_some(portion)
    })
}

impl Batch {
    /// Returns how many bytes were added.
    fn add(&mut self, taken: impl Iterator<Item = Weighed>) -> usize {
        let mut added = 0;
        for Weighed { arrived, bytes } in taken {
            added += bytes;
            self.messages.push(arrived.message);
            self.receipts.extend(arrived.receipt);
        }
        added
    }
}

fn weights(queue: &VecDeque<Weighed>) -> impl Iterator<Item = usize> {
    queue.iter().map(|weighed| weighed.bytes)
}

/// How many of the first of these fit into so many bytes; one that is too large goes alone.
fn within(bytes: impl Iterator<Item = usize>, room: usize) -> usize {
    let sums = bytes.scan(0, |sum, bytes| {
        *sum += bytes;
        Some(*sum)
    });
    let sums = sums.enumerate();
    sums.take_while(|(at, sum)| *at == 0 || *sum <= room)
        .count()
}

/// What a message takes in memory, roughly: its texts, and the room of each value.
fn bytes_of(message: &Received) -> usize {
    let Received {
        identity,
        path,
        evidence: _,
        message_id,
        signature,
        source,
        meter: ReceivedMeter { name, kind, unit },
        volume: _,
        resource_id,
        user_id,
        project_id,
        timestamp: _,
        metadata,
    } = message;
    let observer = identity.iter().map(|identity| &identity.observer);
    let optional = [path, kind, unit, user_id, project_id];
    let texts = [message_id, signature, source, name, resource_id]
        .into_iter()
        .chain(optional.into_iter().flatten())
        .chain(observer);
    size_of::<Received>() + texts.map(String::len).sum::<usize>() + bytes_of_value(metadata)
}

/// Recurses as deep as the decoder lets values nest.
fn bytes_of_value(value: &Value) -> usize {
    let inner = match value {
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => 0,
        Value::Text(text) => text.len(),
        Value::List(items) => items.iter().map(bytes_of_value).sum(),
        Value::Map(entries) => entries
            .iter()
            .map(|(key, value)| size_of::<String>() + key.len() + bytes_of_value(value))
            .sum(),
    };
    size_of::<Value>() + inner
}

#[cfg(test)]
mod tests {
    use super::super::receipt::{Tickets, receipts};
    use super::*;
    use crate::clock;
    use crate::model::Identity;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    const LIMITS: Limits = Limits {
        size: 4,
        timeout: Duration::from_millis(50),
    };
    const MILLISECOND: Duration = Duration::from_millis(1);

    /// A message with a number of its own: of observer, resource, sequence number, if it has one.
    fn message(id: usize, numbered: Option<(u8, u8, u64)>, padding: usize) -> Received {
        let (observer, resource, seq) = numbered.unwrap_or_default();
        Received {
            identity: numbered.map(|_| Identity {
                observer: observer.to_string(),
                epoch: 1,
                seq,
            }),
            path: None,
            evidence: crate::model::Evidence::default(),
            message_id: id.to_string(),
            signature: String::new(),
            source: String::new(),
            meter: ReceivedMeter {
                name: "m".into(),
                kind: None,
                unit: None,
            },
            volume: None,
            resource_id: resource.to_string(),
            user_id: None,
            project_id: None,
            timestamp: None,
            metadata: Value::List(vec![Value::Text("x".repeat(padding))]),
        }
    }

    fn arrived(message: Received, at: Instant) -> Arrived {
        let message = Arc::new(message);
        Arrived {
            message,
            at,
            receipt: None,
        }
    }

    fn kept(message: Received, at: Instant, tickets: &Tickets) -> Arrived {
        Arrived {
            receipt: Some(tickets.open(0)),
            ..arrived(message, at)
        }
    }

    fn small() -> Waiting {
        Waiting {
            bounds: Bounds {
                waiting: 5,
                waiting_bytes: 4000,
                backlog: 3,
                backlog_bytes: 2500,
                states: 3,
                states_bytes: 2000,
                batch_bytes: 2000,
            },
            ..Waiting::default()
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(Option<(u8, u8, u64)>, usize),
        /// The same of a message that its sender keeps.
        Kept(Option<(u8, u8, u64)>, usize),
        Take(usize),
        States {
            fail: bool,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        let numbered = prop::option::weighted(0.9, (0..2u8, 0..3u8, 1..30u64));
        let padding = prop_oneof![9 => 0..50usize, 1 => 500..5000usize];
        prop_oneof![
            6 => (numbered.clone(), padding.clone())
                .prop_map(|(numbered, padding)| Step::Push(numbered, padding)),
            2 => (numbered, padding).prop_map(|(numbered, padding)| Step::Kept(numbered, padding)),
            1 => (1..4usize).prop_map(Step::Take),
            1 => any::<bool>().prop_map(|fail| Step::States { fail }),
        ]
    }

    /// What was given out so far.
    #[derive(Default)]
    struct Given {
        history: Vec<usize>,
        kept: Vec<usize>,
        alone: Vec<usize>,
        newest: BTreeMap<OwnedKeyText, u64>,
    }

    type OwnedKeyText = (String, String);

    fn key(message: &Received) -> Option<(OwnedKeyText, u64)> {
        let identity = message.identity.as_ref()?;
        let key = (identity.observer.clone(), message.resource_id.clone());
        Some((key, identity.seq))
    }

    fn raise(newest: &mut BTreeMap<OwnedKeyText, u64>, message: &Received) {
        if let Some((key, seq)) = key(message) {
            let newest = newest.entry(key).or_default();
            *newest = seq.max(*newest);
        }
    }

    impl Given {
        /// The ones that are kept come last, and each with its receipt.
        fn batch(&mut self, batch: Batch) {
            let kept = batch.messages.len() - batch.receipts.len();
            for (at, message) in batch.messages.into_iter().enumerate() {
                let list = if at < kept {
                    raise(&mut self.newest, &message);
                    &mut self.history
                } else {
                    &mut self.kept
                };
                list.push(message.message_id.parse().unwrap());
            }
        }

        fn states(&mut self, states: States) {
            for state in states.alone {
                raise(&mut self.newest, &state.message);
                self.alone.push(state.message.message_id.parse().unwrap());
            }
            for message in states.waiting {
                raise(&mut self.newest, &message);
            }
        }
    }

    fn assert_bounds(waiting: &Waiting) {
        let bytes: usize = waiting.queue.iter().map(|weighed| weighed.bytes).sum();
        assert_eq!(bytes, waiting.queue_bytes);
        let backlog: usize = waiting.backlog.iter().map(|weighed| weighed.bytes).sum();
        assert_eq!(backlog, waiting.backlog_bytes);
        let states: usize = waiting.states.values().map(|weighed| weighed.bytes).sum();
        assert_eq!(states, waiting.states_bytes);
        let bounds = waiting.bounds;
        assert!(waiting.queue.len() <= bounds.waiting && bytes <= bounds.waiting_bytes);
        assert!(waiting.backlog.len() <= bounds.backlog && backlog <= bounds.backlog_bytes);
        assert!(waiting.states.len() <= bounds.states && states <= bounds.states_bytes);
    }

    proptest! {
        /// Whatever comes and whatever is asked for: nothing is given twice, history comes in order,
        /// and of each state the newest that wasn't refused comes out.
        #[test]
        fn the_newest_of_each_state_comes_out_and_nothing_twice(
            steps in prop::collection::vec(step(), 0..120),
        ) {
            let now = clock::now();
            let mut waiting = small();
            let mut given = Given::default();
            let mut taken_in = BTreeMap::new();
            let mut lost = BTreeSet::new();
            let (tickets, _told) = receipts();
            let is_push = |step: &&Step| matches!(step, Step::Push(..) | Step::Kept(..));
            let pushed = steps.iter().filter(is_push).count();
            for (id, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Push(numbered, padding) => {
                        let message = message(id, numbered, padding);
                        match waiting.queue(arrived(message.clone(), now)) {
                            Ok(()) => raise(&mut taken_in, &message),
                            Err(back) => {
                                lost.insert(id);
                                if waiting.keep_state(back) {
                                    raise(&mut taken_in, &message);
                                }
                            }
                        }
                    }
                    Step::Kept(numbered, padding) => {
                        let message = kept(message(id, numbered, padding), now, &tickets);
                        if let Err(back) = waiting.queue(message) {
                            prop_assert!(back.receipt.is_some(), "it comes back whole");
                            lost.insert(id);
                        }
                    }
                    Step::Take(size) => {
                        waiting.take(size).into_iter().for_each(|batch| given.batch(batch));
                    }
                    Step::States { fail: false } => given.states(waiting.states()),
                    Step::States { fail: true } => {
                        let states = waiting.states();
                        prop_assert_eq!(waiting.take_back(states), 0, "nothing came between");
                    }
                }
                assert_bounds(&waiting);
            }
            given.states(waiting.states());
            while let Some(batch) = waiting.take(3) {
                given.batch(batch);
            }
            prop_assert!(waiting.is_empty());
            assert_bounds(&waiting);
            prop_assert!(given.history.is_sorted_by(|before, after| before < after));
            prop_assert!(given.kept.is_sorted_by(|before, after| before < after));
            let given_once: BTreeSet<usize> = given.history.iter().chain(&given.kept).copied().collect();
            prop_assert_eq!(given_once.len(), given.history.len() + given.kept.len());
            prop_assert!(given_once.is_disjoint(&lost));
            prop_assert_eq!(given_once.len() + lost.len(), pushed, "each came out or found no room");
            let alone: BTreeSet<usize> = given.alone.iter().copied().collect();
            prop_assert_eq!(alone.len(), given.alone.len(), "a state alone came twice");
            prop_assert!(alone.is_subset(&lost));
            prop_assert_eq!(given.newest, taken_in);
        }

        /// A state that was given out isn't asked for again, and one that wasn't is.
        #[test]
        fn each_waiting_reading_is_given_once_as_a_state(
            steps in prop::collection::vec(step(), 0..120),
        ) {
            let now = clock::now();
            let mut waiting = Waiting::default();
            let (mut shown, mut pushed) = (Vec::new(), Vec::new());
            let (tickets, _told) = receipts();
            for (id, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Push(numbered, padding) => {
                        waiting.queue(arrived(message(id, numbered, padding), now)).unwrap();
                        pushed.push(id);
                    }
                    Step::Kept(numbered, padding) => {
                        let message = kept(message(id, numbered, padding), now, &tickets);
                        let _ = waiting.queue(message);
                    }
                    Step::Take(_) => {}
                    Step::States { fail: false } => {
                        let states = waiting.states().waiting;
                        shown.extend(states.iter().map(|m| m.message_id.parse::<usize>().unwrap()));
                    }
                    Step::States { fail: true } => {
                        let states = waiting.states();
                        waiting.take_back(states);
                    }
                }
            }
            let rest = waiting.states().waiting;
            shown.extend(rest.iter().map(|m| m.message_id.parse::<usize>().unwrap()));
            prop_assert_eq!(shown, pushed);
        }
    }

    fn filled(count: usize, at: Instant) -> Waiting {
        let mut waiting = Waiting::default();
        for id in 0..count {
            let message = message(id, Some((0, 0, 1)), 0);
            waiting.queue(arrived(message, at)).unwrap();
        }
        waiting
    }

    #[test]
    fn a_batch_is_due_when_it_is_full_or_its_first_message_has_waited_or_nothing_comes_any_more() {
        let start = clock::now();
        assert_eq!(Waiting::default().due(LIMITS, true, start), Due::Nothing);
        let at = start + LIMITS.timeout;
        assert_eq!(filled(3, start).due(LIMITS, false, start), Due::At(at));
        assert_eq!(filled(3, start).due(LIMITS, false, at), Due::Batch);
        assert_eq!(filled(3, start).due(LIMITS, true, start), Due::Batch);
        assert_eq!(filled(4, start).due(LIMITS, false, start), Due::Batch);
    }

    #[test]
    fn bytes_that_pile_up_are_stored_before_they_cost_history() {
        let start = clock::now();
        let mut waiting = small();
        let large = message(0, Some((0, 0, 1)), 2000);
        waiting.queue(arrived(large, start)).unwrap();
        assert_eq!(waiting.due(LIMITS, false, start), Due::Batch);
    }

    #[test]
    fn states_go_first_once_they_have_waited_and_take_turns_with_batches() {
        let start = clock::now();
        let mut waiting = filled(12, start);
        let late = start + STATE_AFTER;
        assert_eq!(waiting.due(LIMITS, false, late - MILLISECOND), Due::Batch);
        assert_eq!(waiting.due(LIMITS, false, late), Due::States);
        assert_eq!(waiting.states().waiting.len(), 12);
        let more = message(12, Some((0, 0, 2)), 0);
        waiting.queue(arrived(more, start)).unwrap();
        assert_eq!(waiting.due(LIMITS, false, late), Due::Batch, "its turn");
        assert!(!waiting.are_states_due(late));
        waiting.take(4).unwrap();
        assert!(waiting.are_states_due(late));
        assert_eq!(waiting.due(LIMITS, false, late), Due::States);
        assert_eq!(waiting.states().waiting.len(), 1, "the others were shown");
    }

    #[test]
    fn a_batch_that_takes_all_there_is_needs_no_states_first() {
        let start = clock::now();
        let late = start + STATE_AFTER;
        assert_eq!(filled(3, start).due(LIMITS, false, late), Due::Batch);
    }

    #[test]
    fn states_that_wait_alone_go_before_a_batch_but_not_before_every_one() {
        let start = clock::now();
        let mut waiting = filled(4, start);
        assert!(waiting.keep_state(arrived(message(9, Some((1, 1, 1)), 0), start)));
        assert!(waiting.are_states_due(start));
        assert_eq!(waiting.due(LIMITS, false, start), Due::States);
        assert_eq!(waiting.states().alone.len(), 1);
        assert!(waiting.keep_state(arrived(message(9, Some((1, 1, 2)), 0), start)));
        assert_eq!(waiting.due(LIMITS, false, start), Due::Batch, "its turn");
    }

    #[test]
    fn a_backlog_has_room_of_its_own_and_gets_a_quarter_of_each_batch_at_least() {
        let start = clock::now();
        let (tickets, _told) = receipts();
        let mut waiting = filled(WAITING_MAX, start);
        for id in 0..BACKLOG_MAX {
            let message = message(id, Some((0, 1, 1)), 0);
            waiting.queue(kept(message, start, &tickets)).unwrap();
        }
        let further = kept(message(0, Some((0, 1, 1)), 0), start, &tickets);
        let further = waiting.queue(further).unwrap_err();
        let batch = waiting.take(1000).unwrap();
        assert_eq!((batch.messages.len(), batch.receipts.len()), (1000, 250));
        waiting.queue(further).unwrap();
        assert_eq!(waiting.only_here(), WAITING_MAX - 750);
        while waiting.only_here() > 0 {
            waiting.take(1000).unwrap();
        }
        let batch = waiting.take(1000).unwrap();
        assert_eq!((batch.messages.len(), batch.receipts.len()), (1000, 1000));
    }

    #[test]
    fn a_long_batch_timeout_delays_no_state() {
        let start = clock::now();
        let patient = Limits {
            timeout: Duration::from_secs(5),
            ..LIMITS
        };
        let mut waiting = filled(3, start);
        let late = start + STATE_AFTER;
        assert_eq!(waiting.due(patient, false, start), Due::At(late));
        assert_eq!(waiting.due(patient, false, late), Due::States);
        waiting.states();
        let due = start + patient.timeout;
        assert_eq!(waiting.due(patient, false, late), Due::At(due));
        assert_eq!(waiting.due(patient, false, due), Due::Batch);
    }

    #[test]
    fn each_bound_holds_to_the_last_one() {
        let now = clock::now();
        let mut waiting = filled(WAITING_MAX, now);
        let further = arrived(message(0, Some((0, 0, 1)), 0), now);
        let further = waiting.queue(further).unwrap_err();
        assert!(waiting.keep_state(further));

        let mut waiting = Waiting::default();
        for n in 0..u64::try_from(STATES_MAX).unwrap() {
            let mut message = message(0, Some((0, 0, 1)), 0);
            message.resource_id = n.to_string();
            assert!(waiting.keep_state(arrived(message, now)), "{n}");
        }
        assert!(!waiting.keep_state(arrived(message(0, Some((1, 0, 1)), 0), now)));
        let newer = arrived(message(0, Some((0, 0, 2)), 0), now);
        assert!(waiting.keep_state(newer), "a known one has its place");
    }

    #[test]
    fn what_is_large_is_stored_in_small_portions() {
        let start = clock::now();
        let padding = BATCH_BYTES_MAX / 3;
        let large = || message(0, Some((0, 0, 1)), padding);
        let mut waiting = Waiting::default();
        for _ in 0..3 {
            waiting.queue(arrived(large(), start)).unwrap();
        }
        assert_eq!(waiting.take(3).unwrap().messages.len(), 2);
        assert_eq!(waiting.take(3).unwrap().messages.len(), 1);
        let larger = message(0, Some((0, 0, 1)), BATCH_BYTES_MAX);
        let messages = [large(), larger, large(), large(), large()].map(Arc::new);
        let sizes: Vec<usize> = portions(&messages).map(<[_]>::len).collect();
        assert_eq!(sizes, [1, 1, 2, 1]);
    }

    #[test]
    fn what_is_too_large_for_the_states_is_not_kept() {
        let mut waiting = small();
        let now = clock::now();
        assert!(!waiting.keep_state(arrived(message(0, Some((0, 0, 1)), 5000), now)));
        assert!(waiting.keep_state(arrived(message(1, Some((0, 0, 1)), 0), now)));
        assert!(!waiting.keep_state(arrived(message(2, Some((0, 0, 2)), 5000), now)));
        let states = waiting.states();
        assert_eq!(states.alone.len(), 1, "the older one is better than none");
        assert!(waiting.keep_state(arrived(message(3, None, 5000), now)));
    }
}
