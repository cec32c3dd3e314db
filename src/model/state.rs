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

/// How much has been stored of the newest complete round of instances of an observer.
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
