//! What retention looks for and deletes, in words that every engine understands.

use super::Bulk;

/// A sample that is past its time, by the one moment that counts: when it was recorded, or where
/// nobody wrote that down, when it was taken. One without either was kept for ever by Ceilometer.
macro_rules! is_expired {
    () => {
        "(coalesce(recorded_at, timestamp) IS NULL OR coalesce(recorded_at, timestamp) < ?)"
    };
}

macro_rules! without_samples {
    () => {
        "NOT EXISTS (SELECT 1 FROM sample WHERE sample.resource_id = resource.internal_id)"
    };
}

macro_rules! without_samples_of_it {
    () => {
        "NOT EXISTS (SELECT 1 FROM sample WHERE sample.meter_id = meter.id)"
    };
}

/// An observer of which nothing is known now.
macro_rules! without_present {
    () => {
        "NOT EXISTS (SELECT 1 FROM ha_observer WHERE ha_observer.observer = ha_seen.observer) \
         AND NOT EXISTS (SELECT 1 FROM ha_state WHERE ha_state.observer = ha_seen.observer)"
    };
}

/// The next samples by id, how many there are and how many of them are past their time: the moment,
/// the id that they come behind, how many.
pub(crate) const LOOK_SAMPLES: &str = concat!(
    "SELECT max(id), count(*), count(CASE WHEN ",
    is_expired!(),
    " THEN 1 END) FROM (SELECT id, recorded_at, timestamp FROM sample \
     WHERE id > ? ORDER BY id LIMIT ?) AS chunk"
);

/// Deletes what is past its time: the first id behind, the last one, the moment.
pub(crate) const DELETE_SAMPLES: &str = concat!(
    "DELETE FROM sample WHERE id > ? AND id <= ? AND ",
    is_expired!()
);

/// The last of the next resources: the id that they come behind, how many.
pub(crate) const END_OF_RESOURCES: &str = "SELECT max(internal_id) FROM \
     (SELECT internal_id FROM resource WHERE internal_id > ? ORDER BY internal_id LIMIT ?) AS chunk";

/// Resources of which no sample is kept: the first id behind, the last one, the moment.
pub(crate) const LOOK_RESOURCES: &str = concat!(
    "SELECT internal_id FROM resource WHERE internal_id > ? AND internal_id <= ? \
     AND NOT EXISTS (SELECT 1 FROM sample WHERE sample.resource_id = resource.internal_id AND NOT ",
    is_expired!(),
    ") ORDER BY internal_id"
);

/// Which of these resources really have no sample.
pub(crate) static BARE_RESOURCES: Bulk = Bulk::new(
    "SELECT internal_id FROM resource WHERE internal_id IN (",
    "?",
    concat!(") AND ", without_samples!()),
);

/// The metadata of resources and then, because they refer to it, the resources.
pub(crate) static DELETE_METADATA: [Bulk; 4] = [
    Bulk::new("DELETE FROM metadata_text WHERE id IN (", "?", ")"),
    Bulk::new("DELETE FROM metadata_int WHERE id IN (", "?", ")"),
    Bulk::new("DELETE FROM metadata_float WHERE id IN (", "?", ")"),
    Bulk::new("DELETE FROM metadata_bool WHERE id IN (", "?", ")"),
];

/// Deletes resources.
pub(crate) static DELETE_RESOURCES: Bulk =
    Bulk::new("DELETE FROM resource WHERE internal_id IN (", "?", ")");

/// The last of the next meters: the id that they come behind, how many.
pub(crate) const END_OF_METERS: &str =
    "SELECT max(id) FROM (SELECT id FROM meter WHERE id > ? ORDER BY id LIMIT ?) AS chunk";

/// Meters of which no sample is kept: the first id behind, the last one, the moment.
pub(crate) const LOOK_METERS: &str = concat!(
    "SELECT id FROM meter WHERE id > ? AND id <= ? \
     AND NOT EXISTS (SELECT 1 FROM sample WHERE sample.meter_id = meter.id AND NOT ",
    is_expired!(),
    ") ORDER BY id"
);

/// Which of these meters really have no sample.
pub(crate) static BARE_METERS: Bulk = Bulk::new(
    "SELECT id FROM meter WHERE id IN (",
    "?",
    concat!(") AND ", without_samples_of_it!()),
);

/// Deletes meters.
pub(crate) static DELETE_METERS: Bulk = Bulk::new("DELETE FROM meter WHERE id IN (", "?", ")");

/// What was seen of observers without a present and not written since: the moment, how many.
pub(crate) const LOOK_SEEN: &str = concat!(
    "SELECT observer, epoch FROM ha_seen WHERE seen_at < ? AND ",
    without_present!(),
    " ORDER BY observer, epoch LIMIT ?"
);

/// Forgets it: observer, epoch, the moment.
pub(crate) const DELETE_SEEN: &str = concat!(
    "DELETE FROM ha_seen WHERE observer = ? AND epoch = ? AND seen_at < ? AND ",
    without_present!()
);

/// Whether any message id is from beyond the horizon: the horizon.
pub(crate) const LOOK_MESSAGES: &str =
    "SELECT message_id FROM ha_seen_message WHERE seen_at < ? ORDER BY seen_at LIMIT 1";
