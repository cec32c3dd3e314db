//! Pure. What the writer remembers from batch to batch, so that it needn't ask the database again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::identity::Life;
use super::plan::{Held, StateKey};
use super::rows::ResourceKey;
use super::seen::SeqSet;
use crate::model::ReceivedMeter;

/// How many ids of meters are kept in memory. When it is full it is emptied, which costs a query
/// for each meter that comes again.
const MAX_CACHED_METERS: usize = 4096;

/// How many ids of resources are kept in memory, at about 200 bytes each: ten thousand hosts with
/// two gateways and a pollster each fit. When it is full it is emptied, as above.
const MAX_CACHED_RESOURCES: usize = 65_536;

/// How many (observer, path) pairs are known to be in the database already. When it is full it is
/// emptied, which costs a needless sweep for each pair that comes again.
const MAX_KNOWN_PATHS: usize = 65_536;

/// How many states are known by what they show, at about 300 bytes each: as many as resources. When
/// it is full it is emptied, which costs a query for each state that moves again.
const MAX_CACHED_STATES: usize = 65_536;

/// How many runs of sequence numbers are known, at 16 bytes each: a thousand observers that lose
/// every fourth reading for hours, or a fleet of any size that loses none. When it is full it is
/// emptied, as above.
const MAX_CACHED_RUNS: usize = 1 << 20;

/// How many hosts are remembered by when the use of their keys was written. When it is full it is
/// emptied, which costs a row for each host.
const MAX_CACHED_KEY_USES: usize = 65_536;

/// How many observers' lives are kept in memory, at about 100 bytes each. When it is full it is
/// emptied, as above.
const MAX_CACHED_LIVES: usize = 65_536;

/// What needn't be asked again, as long as nobody else writes into the database: an expirer deletes
/// resources without samples, and SQLite gives the same id again.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Ids of meters.
    pub(crate) meters: HashMap<ReceivedMeter, i64>,
    /// Ids of resources.
    pub(crate) resources: HashMap<Arc<ResourceKey>, i64>,
    /// Pairs of observer and path that have a row.
    pub(crate) paths: HashSet<(String, String)>,
    /// The newest lives of observers that have a row.
    pub(crate) lives: HashMap<String, Life>,
    /// How many messages are in quarantine has been counted.
    pub(crate) knows_quarantine: bool,
    /// When it was last written that a host proved itself by a key: host, number.
    key_uses: HashMap<String, HashMap<u32, i64>>,
    observers: HashMap<String, Observer>,
    runs: usize,
    states: usize,
}

/// What is known of one observer: what was seen by epoch, what its states show by meter and resource.
#[derive(Debug, Default)]
struct Observer {
    windows: HashMap<i64, SeqSet>,
    states: HashMap<String, HashMap<String, Held>>,
}

/// What a batch learns, to be remembered once it is committed.
#[derive(Debug, Default)]
pub(crate) struct Learned {
    /// Ids of meters.
    pub(crate) meters: HashMap<ReceivedMeter, i64>,
    /// Ids of resources.
    pub(crate) resources: HashMap<Arc<ResourceKey>, i64>,
    /// Pairs of observer and path that have a row now.
    pub(crate) paths: HashSet<(String, String)>,
    /// What was seen by observer and epoch.
    pub(crate) windows: Vec<(String, i64, SeqSet)>,
    /// Observers some of whose epochs were forgotten.
    pub(crate) restarted: Vec<String>,
    /// What states show: observer, meter, resource.
    pub(crate) states: Vec<([String; 3], Held)>,
    /// The newest lives of observers that have a row.
    pub(crate) lives: HashMap<String, Life>,
    /// How many messages are in quarantine has been counted.
    pub(crate) knows_quarantine: bool,
    /// Hosts that were written to have proven themselves, by which key and when.
    pub(crate) key_uses: Vec<(String, u32, i64)>,
}

impl Memory {
    /// Forgets what may not be so any more. When a key's use was last written is no claim about the
    /// database, and stays: others that write would make it be written each time.
    pub(crate) fn forget(&mut self) {
        *self = Memory {
            key_uses: std::mem::take(&mut self.key_uses),
            ..Memory::default()
        };
    }

    /// When it was last written that a host proved itself by a key.
    pub(crate) fn key_used(&self, host: &str, number: u32) -> Option<i64> {
        self.key_uses.get(host)?.get(&number).copied()
    }

    /// What was seen of an epoch.
    pub(crate) fn window(&self, observer: &str, epoch: i64) -> Option<&SeqSet> {
        self.observers.get(observer)?.windows.get(&epoch)
    }

    /// What a state shows.
    pub(crate) fn state(&self, key: StateKey<'_>) -> Option<&Held> {
        let observer = self.observers.get(key.observer)?;
        observer.states.get(key.meter)?.get(key.resource_id)
    }

    /// Adds what a batch has learned, once it is committed.
    pub(crate) fn take_in(&mut self, learned: Learned) {
        if self.meters.len() + learned.meters.len() > MAX_CACHED_METERS {
            self.meters.clear();
        }
        if self.resources.len() + learned.resources.len() > MAX_CACHED_RESOURCES {
            self.resources.clear();
        }
        if self.paths.len() + learned.paths.len() > MAX_KNOWN_PATHS {
            self.paths.clear();
        }
        if self.lives.len() + learned.lives.len() > MAX_CACHED_LIVES {
            self.lives.clear();
        }
        self.meters.extend(learned.meters);
        self.resources.extend(learned.resources);
        self.paths.extend(learned.paths);
        self.lives.extend(learned.lives);
        self.knows_quarantine |= learned.knows_quarantine;
        let runs: usize = learned.windows.iter().map(|(.., seen)| seen.weight()).sum();
        if self.runs + runs > MAX_CACHED_RUNS
            || self.states + learned.states.len() > MAX_CACHED_STATES
        {
            self.observers.clear();
            (self.runs, self.states) = (0, 0);
        }
        for (observer, epoch, seen) in learned.windows {
            self.remember_window(observer, epoch, seen);
        }
        for observer in learned.restarted {
            self.forget_windows(&observer);
        }
        for (key, held) in learned.states {
            self.remember_state(key, held);
        }
        if self.key_uses.len() + learned.key_uses.len() > MAX_CACHED_KEY_USES {
            self.key_uses.clear();
        }
        for (host, number, at) in learned.key_uses {
            self.key_uses.entry(host).or_default().insert(number, at);
        }
    }

    fn remember_window(&mut self, observer: String, epoch: i64, seen: SeqSet) {
        self.runs += seen.weight();
        let windows = &mut self.observers.entry(observer).or_default().windows;
        if let Some(before) = windows.insert(epoch, seen) {
            self.runs -= before.weight();
        }
    }

    fn forget_windows(&mut self, observer: &str) {
        if let Some(observer) = self.observers.get_mut(observer) {
            let gone = observer.windows.drain().map(|(_, seen)| seen.weight());
            self.runs -= gone.sum::<usize>();
        }
    }

    fn remember_state(&mut self, [observer, meter, resource_id]: [String; 3], held: Held) {
        let states = &mut self.observers.entry(observer).or_default().states;
        let of_meter = states.entry(meter).or_default();
        if of_meter.insert(resource_id, held).is_none() {
            self.states += 1;
        }
    }
}
