//! The statements: those that every engine understands, and by [`Dialect`] those that each has its
//! own words for.

pub(crate) mod mysql;
pub(crate) mod reading;
pub(crate) mod retention;
pub(crate) mod sqlite;

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use crate::model::UtcTime;

/// How many rows one statement may carry, greatest first. A batch is cut into these sizes only, so
/// that each text is prepared once. The widest row has eleven binds: 512 of them stay far below
/// SQLite's 32,766, and more rows in a statement gain nothing.
const ROWS_PER_STATEMENT: [usize; 4] = [512, 64, 8, 1];

/// What differs between engines.
#[derive(Debug)]
pub(crate) struct Dialect {
    /// The database's clock in unix microseconds.
    pub(crate) now: &'static str,
    /// The names of all tables.
    pub(crate) tables: &'static str,
    /// The names of a table's columns.
    pub(crate) columns: &'static str,
    /// Ceilometer's tables as its migrations 1 to 45 leave them, but for `sample.id`, which has 64
    /// bits.
    pub(crate) ceilometer: &'static str,
    /// The table of our migrations, if it isn't there.
    pub(crate) versions: &'static str,
    /// Writes a migration down: version, what it does.
    pub(crate) put_version: &'static str,
    /// The texts of [`super::schema::MIGRATIONS`], in their order.
    pub(crate) migrations: &'static [&'static str],

    /// What was seen of (observer, epoch), by the number of the question: runs, retired_seq.
    pub(crate) seen: Bulk,
    /// Writes what was seen: observer, epoch, runs, seen_at.
    pub(crate) put_seen: Bulk,
    /// Forgets some message ids from beyond the horizon: the horizon, how many.
    pub(crate) trim_messages: &'static str,

    /// The id of a meter, or NULL: name, type, unit.
    pub(crate) meter_id: &'static str,
    /// Ids of resources, by the number of the question: resource_id, user_id, project_id, source_id,
    /// metadata_hash, and resource_id once more, for an engine whose index isn't exact.
    pub(crate) resource_ids: Bulk,
    /// Metadata of new resources that are texts or null. Of two keys that read the same the first is
    /// kept.
    pub(crate) put_texts: Bulk,
    /// Those that are integers.
    pub(crate) put_ints: Bulk,
    /// Those that are floats.
    pub(crate) put_floats: Bulk,
    /// Those that are truth values.
    pub(crate) put_bools: Bulk,

    /// What states show, by the number of the question: epoch, seq, paths.
    pub(crate) states: Bulk,
    /// Moves states. The comparison is in the statement, so that of two collectors that race, in
    /// whatever order, the newer reading stays.
    pub(crate) move_states: Bulk,
    /// Adds paths to the very readings that states show.
    pub(crate) hear_states: Bulk,
    /// Remembers the newest reading that each path brought.
    pub(crate) put_paths: Bulk,

    /// The greatest id of a sample, or NULL, and the greatest that its column holds.
    pub(crate) sample_ids: &'static str,
    /// Gives that column 64 bits; None where it always has them.
    pub(crate) widen: Option<&'static str>,

    /// Whether Ceilometer's tables can hold NaN and the infinities.
    pub(crate) holds_non_finite: bool,

    /// Moves observers to their newest readings, in one statement as states are: observer, epoch,
    /// seq, began_observed_at, began_received_at, observed_at, received_at. How a life began stays.
    pub(crate) put_observers: Bulk,
    /// Says that hosts proved themselves: observer, number, when, and when once more. The first time stays.
    pub(crate) put_key_uses: Bulk,
    /// Puts what can't be stored aside, once: quarantined_at, digest, reason, detail, observer, meter,
    /// resource_id, message_id, message.
    pub(crate) put_quarantine: Bulk,

    /// A moment as Ceilometer's tables hold it.
    pub(crate) moment: fn(UtcTime) -> String,
    /// The moment that Ceilometer's tables hold, read as text; None if it is none.
    pub(crate) moment_of: fn(&str) -> Option<UtcTime>,
    /// Which period `sample.timestamp` lies in: the start of the first one and the length of each, in
    /// microseconds.
    pub(crate) period: &'static str,
    /// What Ceilometer's tables can hold of a text.
    pub(crate) text: fn(&str) -> Cow<'_, str>,
}

/// A statement that is repeated for many rows: a head, one group of binds for each row with a
/// separator between them, a tail.
#[derive(Debug)]
pub(crate) struct Bulk {
    head: &'static str,
    group: &'static str,
    separator: &'static str,
    tail: &'static str,
    texts: OnceLock<[Arc<str>; ROWS_PER_STATEMENT.len()]>,
}

impl Bulk {
    /// Groups between commas.
    pub(crate) const fn new(head: &'static str, group: &'static str, tail: &'static str) -> Self {
        Bulk::separated(head, group, ",", tail)
    }

    /// Groups with something else between them.
    pub(crate) const fn separated(
        head: &'static str,
        group: &'static str,
        separator: &'static str,
        tail: &'static str,
    ) -> Self {
        Bulk {
            head,
            group,
            separator,
            tail,
            texts: OnceLock::new(),
        }
    }

    /// Cuts rows into statements: each text with the rows that it takes.
    pub(crate) fn statements<'r, T>(
        &'static self,
        rows: &'r [T],
    ) -> impl Iterator<Item = (Arc<str>, &'r [T])> {
        let mut rest = rows;
        std::iter::from_fn(move || {
            let (size, text) = ROWS_PER_STATEMENT
                .into_iter()
                .zip(self.texts())
                .find(|(size, _)| *size <= rest.len())?;
            let (now, later) = rest.split_at(size);
            rest = later;
            Some((Arc::clone(text), now))
        })
    }

    fn texts(&self) -> &[Arc<str>; ROWS_PER_STATEMENT.len()] {
        self.texts
            .get_or_init(|| ROWS_PER_STATEMENT.map(|size| self.text(size).into()))
    }

    fn text(&self, size: usize) -> String {
        let groups = vec![self.group; size].join(self.separator);
        format!("{} {groups} {}", self.head, self.tail)
    }
}

/// The version of Ceilometer's schema; its repository is known by this id.
pub(crate) const GET_MIGRATE_VERSION: &str =
    "SELECT version FROM migrate_version WHERE repository_id = 'ceilometer'";

/// Says that version in a fresh database, for tools that ask.
pub(crate) const PUT_MIGRATE_VERSION: &str = "INSERT INTO migrate_version \
     (repository_id, repository_path, version) \
     VALUES ('ceilometer', 'ceilometer/storage/sqlalchemy/migrate_repo', ?)";

/// The version of our tables.
pub(crate) const VERSION: &str = "SELECT max(version) FROM ha_schema";

/// The `retired_seq` of an epoch of which nothing moves a state again, whatever its number.
pub(crate) const RETIRED: i64 = i64::MAX;

/// How many epochs of an observer are kept that aren't retired, and the oldest of them.
pub(crate) const EPOCHS: &str = "SELECT count(*), min(epoch) FROM ha_seen \
     WHERE observer = ? AND retired_seq < 9223372036854775807";

/// The newest epoch of an observer that is one too many: observer, how many it may have.
pub(crate) const EPOCH_TOO_MANY: &str = "SELECT epoch FROM ha_seen WHERE observer = ? \
     AND retired_seq < 9223372036854775807 ORDER BY epoch DESC LIMIT 1 OFFSET ?";

/// Forgets an observer's epochs up to one, but for those that are retired.
pub(crate) const TRIM_EPOCHS: &str = "DELETE FROM ha_seen WHERE observer = ? AND epoch <= ? \
     AND retired_seq < 9223372036854775807";

/// What was seen of an observer: epoch, runs, when, retired_seq.
pub(crate) const SEEN_OF: &str =
    "SELECT epoch, runs, seen_at, retired_seq FROM ha_seen WHERE observer = ? ORDER BY epoch";

/// The greatest place of each epoch that anything of an observer shows.
pub(crate) const SHOWN_OF: &str = "SELECT epoch, max(seq) FROM \
     (SELECT epoch, seq FROM ha_state WHERE observer = ? \
     UNION ALL SELECT epoch, seq FROM ha_observer WHERE observer = ?) AS shown GROUP BY epoch";

/// Says up to which number an epoch moves no state again: that number, observer, epoch.
pub(crate) const RETIRE_EPOCH: &str =
    "UPDATE ha_seen SET retired_seq = ? WHERE observer = ? AND epoch = ?";

/// The same for one of which no history was stored: observer, epoch, runs, seen_at, that number.
pub(crate) const PUT_RETIRED_EPOCH: &str =
    "INSERT INTO ha_seen (observer, epoch, runs, seen_at, retired_seq) VALUES (?,?,?,?,?)";

/// Which hosts proved themselves by which keys, and when.
pub(crate) const KEY_USES: &str = "SELECT observer, number, first_used_at, last_used_at \
     FROM ha_host_key ORDER BY observer, number";

/// Forgets by which keys a host proved itself.
pub(crate) const DROP_KEY_USES: &str = "DELETE FROM ha_host_key WHERE observer = ?";

/// Which of these message ids of old senders are known.
pub(crate) static KNOWN_MESSAGES: Bulk = Bulk::new(
    "SELECT message_id FROM ha_seen_message WHERE message_id IN (",
    "?",
    ")",
);

/// Remembers message ids of old senders: id, seen_at.
pub(crate) static PUT_MESSAGES: Bulk = Bulk::new(
    "INSERT INTO ha_seen_message (message_id, seen_at) VALUES",
    "(?,?)",
    "",
);

/// A new meter.
pub(crate) const PUT_METER: &str = "INSERT INTO meter (name, type, unit) VALUES (?,?,?)";

/// A new resource.
pub(crate) const PUT_RESOURCE: &str = "INSERT INTO resource \
     (resource_id, user_id, project_id, source_id, resource_metadata, metadata_hash) \
     VALUES (?,?,?,?,?,?)";

/// History.
pub(crate) static PUT_SAMPLES: Bulk = Bulk::new(
    "INSERT INTO sample \
     (meter_id, resource_id, volume, timestamp, recorded_at, message_signature, message_id) VALUES",
    "(?,?,?,?,?,?,?)",
    "",
);

/// Paths of an observer beyond those that brought the newest readings: observer, how many it may
/// have.
pub(crate) const PATHS_TOO_MANY: &str = "SELECT path FROM ha_path WHERE observer = ? \
     ORDER BY epoch DESC, seq DESC, path LIMIT 4096 OFFSET ?";

/// Forgets paths: observer, path.
pub(crate) const TRIM_PATHS: &str = "DELETE FROM ha_path WHERE observer = ? AND path = ?";

/// The present, all of it, in the order of the primary key.
pub(crate) const FLEET_STATES: &str = "SELECT observer, meter, resource_id, epoch, seq, volume, \
     quality, observed_at, received_at, metadata, paths, confirmed_at \
     FROM ha_state ORDER BY observer, meter, resource_id";

/// When each path was last heard.
pub(crate) const FLEET_PATHS: &str =
    "SELECT observer, path, received_at FROM ha_path ORDER BY observer, path";

/// The newest rounds of instances, with what was seen of their epochs.
pub(crate) const FLEET_ROUNDS: &str = "SELECT ha_state.observer, ha_state.epoch, ha_state.seq, \
     ha_state.volume, ha_seen.runs FROM ha_state JOIN ha_seen \
     ON ha_seen.observer = ha_state.observer AND ha_seen.epoch = ha_state.epoch \
     WHERE ha_state.meter = 'instance.round' AND ha_state.resource_id = ha_state.observer \
     ORDER BY ha_state.resource_id";

/// The newest complete round of each observer: older ones are not kept.
pub(crate) const FLEET_COMPLETE_ROUNDS: &str = "SELECT observer, epoch, seq, instances, completed_at \
     FROM ha_round WHERE completed_at IS NOT NULL ORDER BY observer, epoch, seq";

/// Who observes.
pub(crate) const FLEET_OBSERVERS: &str = "SELECT observer, epoch, seq, observed_at, received_at, \
     rival_epoch, rival_at FROM ha_observer ORDER BY observer";

/// The newest lives of observers.
pub(crate) static LIVES: Bulk = Bulk::new(
    "SELECT observer, epoch, began_observed_at, began_received_at FROM ha_observer \
     WHERE observer IN (",
    "?",
    ")",
);

/// Says that an earlier epoch of an observer goes on: that epoch, when, observer.
pub(crate) const PUT_RIVAL: &str =
    "UPDATE ha_observer SET rival_epoch = ?, rival_at = ? WHERE observer = ?";

/// The rounds that are kept of observers.
pub(crate) static ROUNDS: Bulk = Bulk::new(
    "SELECT observer, epoch, seq, instances, completed_at FROM ha_round WHERE observer IN (",
    "?",
    ")",
);

/// Forgets the rounds of observers.
pub(crate) static DROP_ROUNDS: Bulk =
    Bulk::new("DELETE FROM ha_round WHERE observer IN (", "?", ")");

/// Keeps rounds: observer, epoch, seq, instances, completed_at.
pub(crate) static PUT_ROUNDS: Bulk = Bulk::new(
    "INSERT INTO ha_round (observer, epoch, seq, instances, completed_at) VALUES",
    "(?,?,?,?,?)",
    "",
);

/// Says that a complete round saw instances: when, observer, epoch, first and last number.
pub(crate) const CONFIRM: &str = "UPDATE ha_state SET confirmed_at = ? WHERE observer = ? \
     AND meter = 'instance.state' AND epoch = ? AND seq >= ? AND seq <= ?";

/// How many messages are in quarantine.
pub(crate) const QUARANTINE_COUNT: &str = "SELECT count(*) FROM ha_quarantine";

/// The newest of those that are too many: how many there may be.
pub(crate) const QUARANTINE_TOO_MANY: &str =
    "SELECT id FROM ha_quarantine ORDER BY id DESC LIMIT 1 OFFSET ?";

/// Drops messages up to one.
pub(crate) const QUARANTINE_TRIM: &str = "DELETE FROM ha_quarantine WHERE id <= ?";

/// All but the messages themselves, the newest first.
pub(crate) const QUARANTINE_LIST: &str = "SELECT id, quarantined_at, reason, detail, observer, \
     meter, resource_id, message_id FROM ha_quarantine ORDER BY id DESC";

/// The ids.
pub(crate) const QUARANTINE_IDS: &str = "SELECT id FROM ha_quarantine ORDER BY id";

/// A message itself.
pub(crate) const QUARANTINE_MESSAGE: &str = "SELECT message FROM ha_quarantine WHERE id = ?";

/// Drops a message.
pub(crate) const QUARANTINE_DROP: &str = "DELETE FROM ha_quarantine WHERE id = ?";

/// Every observer that has any state or path, and when anything of it was last stored.
pub(crate) const LAST_HEARD: &str = "SELECT observer, max(received_at) FROM ha_state \
     GROUP BY observer UNION ALL SELECT observer, max(received_at) FROM ha_path GROUP BY observer \
     UNION ALL SELECT observer, received_at FROM ha_observer";

/// States by which observers tell of hosts, themselves included: five meters.
pub(crate) const TOLD_OF_HOSTS: &str = "SELECT observer, meter, resource_id, received_at \
     FROM ha_state WHERE meter IN (?,?,?,?,?)";

/// Drops a state: observer, meter, resource_id.
pub(crate) const DROP_STATE: &str =
    "DELETE FROM ha_state WHERE observer = ? AND meter = ? AND resource_id = ?";

/// Drops all states of an observer.
pub(crate) const DROP_STATES: &str = "DELETE FROM ha_state WHERE observer = ?";

/// Drops all paths of an observer.
pub(crate) const DROP_PATHS: &str = "DELETE FROM ha_path WHERE observer = ?";

/// Drops all rounds of an observer.
pub(crate) const DROP_ROUNDS_OF: &str = "DELETE FROM ha_round WHERE observer = ?";

/// Drops an observer.
pub(crate) const DROP_OBSERVER: &str = "DELETE FROM ha_observer WHERE observer = ?";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_in_one_statement_of_a_constant_size() {
        for count in [0, 1, 7, 8, 63, 64, 511, 512, 1000, 1537] {
            let rows: Vec<usize> = (0..count).collect();
            let mut given = Vec::new();
            for (text, rows) in PUT_MESSAGES.statements(&rows) {
                assert!(ROWS_PER_STATEMENT.contains(&rows.len()));
                assert_eq!(text.matches("(?,?)").count(), rows.len());
                given.extend_from_slice(rows);
            }
            assert_eq!(given, rows);
        }
    }
}
