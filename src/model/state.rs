//! Pure. The present as the database keeps it: one row for each (observer, meter, resource).

use std::collections::BTreeSet;

use super::{Metadata, UtcTime};

/// The newest reading of one meter about one resource by one observer.
#[derive(Debug, Clone, PartialEq)]
pub struct StateRow {
    /// Who saw it.
    pub observer: String,
    /// The meter's name.
    pub meter: String,
    /// The resource.
    pub resource_id: String,
    /// The observer's epoch.
    pub epoch: u64,
    /// The reading's number within it.
    pub seq: u64,
    /// The value.
    pub volume: f64,
    /// How well its origin is proven, such as `shared_secret`.
    pub quality: String,
    /// When, by the observer's clock.
    pub observed_at: UtcTime,
    /// When it was stored, by the database's clock: ages are counted from here.
    pub received_at: UtcTime,
    /// Metadata of the reading.
    pub metadata: Metadata,
    /// The paths by which this very reading was heard.
    pub paths: BTreeSet<String>,
    /// When a complete round that saw the instance was last completed, by the database's clock; of
    /// `instance.state` alone.
    pub confirmed_at: Option<UtcTime>,
}

/// When a path from an observer last brought anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathRow {
    /// Who sent it.
    pub observer: String,
    /// The publisher, as the sender names it.
    pub path: String,
    /// When it last brought an authentic reading, by the database's clock.
    pub received_at: UtcTime,
}

/// How much has been stored of the newest round of instances of an observer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundRow {
    /// Who looked.
    pub observer: String,
    /// The epoch of its newest `instance.round`.
    pub epoch: u64,
    /// The number of that reading within it.
    pub seq: u64,
    /// Of the numbers that belong to the round, those right before `seq` and as many as it counts,
    /// how many have certainly been stored.
    pub heard: u64,
}

/// The newest round of instances of an observer of which every reading has been stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompleteRoundRow {
    /// Who looked.
    pub observer: String,
    /// The epoch of its `instance.round`.
    pub epoch: u64,
    /// The number of that reading within it.
    pub seq: u64,
    /// How many instances it saw.
    pub instances: u64,
    /// When the last of its readings was stored, by the database's clock.
    pub completed_at: UtcTime,
}

/// Who observes, in which life, and by which clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObserverRow {
    /// Its name.
    pub observer: String,
    /// Its newest epoch.
    pub epoch: u64,
    /// The number of its newest reading within that.
    pub seq: u64,
    /// When that reading was made, by the observer's clock.
    pub observed_at: UtcTime,
    /// When it was stored, by the database's clock.
    pub received_at: UtcTime,
    /// The last sign of an earlier epoch that goes on beside the newest.
    pub rival: Option<Rival>,
}

impl ObserverRow {
    /// How far the observer's clock is behind the database's, in seconds: what its newest reading took
    /// to be stored counts in, and a clock that is ahead is below 0.
    pub fn clock_behind_seconds(&self) -> f64 {
        self.received_at.seconds_since(self.observed_at)
    }
}

/// Another agent that uses an observer's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rival {
    /// Its epoch, older than the newest.
    pub epoch: u64,
    /// When a reading of it was last stored, by the database's clock.
    pub at: UtcTime,
}

/// The present of everything that is observed, as the database holds it at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Fleet {
    /// The database's clock, from which ages are counted. Never before a time of receipt below.
    pub now: UtcTime,
    /// The newest readings, by observer, meter and resource.
    pub states: Vec<StateRow>,
    /// When each path was last heard, by observer and path.
    pub paths: Vec<PathRow>,
    /// How much of each newest round of instances arrived, by observer.
    pub rounds: Vec<RoundRow>,
    /// The newest complete rounds, by observer.
    pub complete_rounds: Vec<CompleteRoundRow>,
    /// Who observes, by observer.
    pub observers: Vec<ObserverRow>,
}
