//! Pure. What a batch changes: which of its rows are new, which state they move, which paths they
//! came by. The engine reads what it needs, asks here, and writes the answer without a choice left.
//!
//! ```text
//! rows ── seen before? ──yes──► duplicate: its path is remembered, nothing else
//!           │ no
//!           ▼
//!         history ── about now? ──no──► held back: history only
//!           │ yes
//!           ▼
//!         newer than the state? ──no──► late: history only
//!                          │ yes
//!                          ▼
//!                        state
//! ```

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::rows::{Order, Ours, Row, RowRefusal};
use super::seen::{MAX_GAPS, SeqSet};

/// How many paths one reading, and one observer, are remembered by. A deployment has two or three
/// networks; what is lost beyond is the name of a further path.
pub(crate) const MAX_PATHS: usize = 16;

/// What was seen, by observer and epoch; None where that epoch has been forgotten.
pub(crate) type Windows<'a> = HashMap<(&'a str, i64), Option<SeqSet>>;

/// A batch sorted out: each row is in exactly one of the lists, in the batch's order.
#[derive(Debug, Default)]
pub(crate) struct Sorted<'a> {
    /// Not seen before.
    pub(crate) new: Vec<Row<'a>>,
    /// Seen before, in the database or earlier in the batch.
    pub(crate) duplicates: Vec<Row<'a>>,
    /// Of an epoch that has been forgotten.
    pub(crate) refused: Vec<(usize, RowRefusal)>,
}

/// Tells new rows from duplicates, and marks them as seen in `windows`.
///
/// An old sender's message is new if its id is in `fresh`, once; one without an id always is.
pub(crate) fn sort_out<'a>(
    rows: Vec<Row<'a>>,
    windows: &mut Windows<'a>,
    fresh: &mut HashSet<String>,
) -> Sorted<'a> {
    let mut sorted = Sorted::default();
    for row in rows {
        let is_new = match &row.ours {
            Some(ours) => insert(windows, ours),
            None => {
                let id = &row.received.message_id;
                Some(id.is_empty() || fresh.remove(id))
            }
        };
        match is_new {
            Some(true) => sorted.new.push(row),
            Some(false) => sorted.duplicates.push(row),
            None => sorted.refused.push((row.index, RowRefusal::EpochForgotten)),
        }
    }
    sorted
}

/// The rows of ours that may move states, whether or not their history is stored: what moves ahead of it
/// may as well come after it. One of an epoch that has been forgotten is none.
pub(crate) fn ahead<'a>(rows: Vec<Row<'a>>, windows: &Windows<'a>) -> Sorted<'a> {
    let is_known = |row: &Row<'a>| {
        let key = row.live().map(|ours| (ours.observer, ours.order.epoch));
        key.and_then(|key| windows.get(&key))
            .is_some_and(Option::is_some)
    };
    Sorted {
        new: rows.into_iter().filter(is_known).collect(),
        ..Sorted::default()
    }
}

/// Closes the oldest gaps of each window; returns how many.
pub(crate) fn close_gaps(windows: &mut Windows<'_>) -> usize {
    windows
        .values_mut()
        .flatten()
        .map(|window| window.close_gaps(MAX_GAPS))
        .sum()
}

fn insert<'a>(windows: &mut Windows<'a>, ours: &Ours<'a>) -> Option<bool> {
    let window = windows.get_mut(&(ours.observer, ours.order.epoch))?;
    Some(window.as_mut()?.insert(ours.order.seq.unsigned_abs()))
}

/// What a state is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StateKey<'a> {
    /// Who saw it.
    pub(crate) observer: &'a str,
    /// The meter's name.
    pub(crate) meter: &'a str,
    /// The resource.
    pub(crate) resource_id: &'a str,
}

impl<'a> StateKey<'a> {
    /// What a row's state would be about; None for an old sender's, which has none, and for one that
    /// moves none.
    pub(crate) fn of(row: &Row<'a>) -> Option<Self> {
        Some(StateKey {
            observer: row.live()?.observer,
            meter: &row.received.meter.name,
            resource_id: &row.received.resource_id,
        })
    }
}

/// What the database holds of a state, as far as deciding needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    /// The reading that it shows.
    pub(crate) order: Order,
    /// The paths by which that reading was heard.
    pub(crate) paths: Arc<BTreeSet<String>>,
}

/// A row of `ha_state` to be written.
#[derive(Debug)]
pub(crate) struct StateWrite<'r, 'a> {
    /// The message that it shows.
    pub(crate) row: &'r Row<'a>,
    /// What makes that message one of ours.
    pub(crate) ours: Ours<'a>,
    /// The paths by which it was heard so far.
    pub(crate) paths: Arc<BTreeSet<String>>,
}

/// What a batch does to states.
#[derive(Debug, Default)]
pub(crate) struct StatePlan<'r, 'a> {
    /// States that a newer reading moves, at most one each.
    pub(crate) moves: Vec<StateWrite<'r, 'a>>,
    /// States whose very reading was heard by a further path.
    pub(crate) heard: Vec<StateWrite<'r, 'a>>,
    /// How many new readings came after a newer one and are history only.
    pub(crate) late: usize,
}

/// Finds the newest reading for each state. `held` has an entry for each key that comes up.
pub(crate) fn plan_states<'r, 'a>(
    sorted: &'r Sorted<'a>,
    held: BTreeMap<StateKey<'a>, Option<Held>>,
) -> StatePlan<'r, 'a> {
    let mut plan = StatePlan::default();
    let mut slots: BTreeMap<StateKey<'a>, Slot<'r, 'a>> = held
        .into_iter()
        .map(|(key, held)| (key, Slot::new(held)))
        .collect();
    for (row, ours, key) in of_ours(&sorted.new) {
        match slots.entry(key).or_default().offer(row, ours) {
            Offered::Newest => {}
            // The state was stored ahead of the history.
            Offered::Shown => slots.entry(key).or_default().hear_again(row, ours),
            Offered::Late => plan.late += 1,
        }
    }
    for (row, ours, key) in of_ours(&sorted.duplicates) {
        slots.entry(key).or_default().hear_again(row, ours);
    }
    for slot in slots.into_values() {
        slot.write_into(&mut plan);
    }
    plan
}

/// The newest that each path brought, by observer and path; a duplicate counts, for it was heard.
pub(crate) fn plan_paths<'r>(sorted: &'r Sorted<'_>) -> Vec<((&'r str, &'r str), Order)> {
    let mut newest: BTreeMap<(&str, &str), Order> = BTreeMap::new();
    for (row, ours, _) in of_ours(&sorted.new).chain(of_ours(&sorted.duplicates)) {
        if let Some(path) = &row.received.path {
            let order = newest.entry((ours.observer, path)).or_insert(ours.order);
            *order = ours.order.max(*order);
        }
    }
    newest.into_iter().collect()
}

fn of_ours<'r, 'a>(
    rows: &'r [Row<'a>],
) -> impl Iterator<Item = (&'r Row<'a>, Ours<'a>, StateKey<'a>)> {
    rows.iter()
        .filter_map(|row| Some((row, row.live()?, StateKey::of(row)?)))
}

/// What a reading is to its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Offered {
    /// The newest so far.
    Newest,
    /// The very one that it shows.
    Shown,
    /// An older one.
    Late,
}

/// One state while a batch passes by.
#[derive(Debug, Default)]
struct Slot<'r, 'a> {
    order: Option<Order>,
    paths: Arc<BTreeSet<String>>,
    moved_by: Option<(&'r Row<'a>, Ours<'a>)>,
    heard_by: Option<(&'r Row<'a>, Ours<'a>)>,
}

impl<'r, 'a> Slot<'r, 'a> {
    fn new(held: Option<Held>) -> Self {
        let (order, paths) =
            held.map_or_else(Default::default, |held| (Some(held.order), held.paths));
        Slot {
            order,
            paths,
            moved_by: None,
            heard_by: None,
        }
    }

    /// Takes a new reading if it is newer than what is held.
    fn offer(&mut self, row: &'r Row<'a>, ours: Ours<'a>) -> Offered {
        match self.order.cmp(&Some(ours.order)) {
            Ordering::Less => {
                self.order = Some(ours.order);
                self.heard_only_by(row.received.path.as_ref());
                self.moved_by = Some((row, ours));
                Offered::Newest
            }
            Ordering::Equal => Offered::Shown,
            Ordering::Greater => Offered::Late,
        }
    }

    /// Takes the path of a duplicate of the very reading that is held.
    fn hear_again(&mut self, row: &'r Row<'a>, ours: Ours<'a>) {
        if self.order != Some(ours.order) || self.paths.len() >= MAX_PATHS {
            return;
        }
        if let Some(path) = &row.received.path
            && !self.paths.contains(path)
        {
            Arc::make_mut(&mut self.paths).insert(path.clone());
            self.heard_by = Some((row, ours));
        }
    }

    /// Begins the paths anew. Mostly they are the same as before, and are kept.
    fn heard_only_by(&mut self, path: Option<&String>) {
        if !self.paths.iter().eq(path) {
            self.paths = Arc::new(path.into_iter().cloned().collect());
        }
    }

    fn write_into(self, plan: &mut StatePlan<'r, 'a>) {
        let (list, by) = match (self.moved_by, self.heard_by) {
            (Some(by), _) => (&mut plan.moves, by),
            (None, Some(by)) => (&mut plan.heard, by),
            (None, None) => return,
        };
        let (row, ours) = by;
        list.push(StateWrite {
            row,
            ours,
            paths: self.paths,
        });
    }
}
