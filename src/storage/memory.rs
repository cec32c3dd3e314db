//! Pure. What the writer remembers from batch to batch, so that it needn't ask the database again.

use std::collections::{HashMap, HashSet};

use super::identity::Life;
use super::rows::ResourceKey;
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
    pub(crate) resources: HashMap<ResourceKey, i64>,
    /// Pairs of observer and path that have a row.
    pub(crate) paths: HashSet<(String, String)>,
    /// The newest lives of observers that have a row.
    pub(crate) lives: HashMap<String, Life>,
    /// How many messages are in quarantine has been counted.
    pub(crate) knows_quarantine: bool,
}

impl Memory {
    /// Adds what a batch has learned, once it is committed.
    pub(crate) fn take_in(&mut self, learned: Memory) {
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
    }
}
