//! Pure. The statements that SQLite is given, and how many rows one of them carries.

use std::sync::{Arc, OnceLock};

/// How many rows one statement may carry, greatest first. A batch is cut into these sizes only, so
/// that each text is prepared once. The widest row has eleven binds: 512 of them stay far below
/// SQLite's 32,766, and more rows in a statement gain nothing.
const ROWS_PER_STATEMENT: [usize; 4] = [512, 64, 8, 1];

/// The database's clock in unix microseconds, at the millisecond resolution that SQLite has.
macro_rules! now_micros {
    () => {
        "CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000"
    };
}
pub(crate) use now_micros;

/// The database's clock.
pub(crate) const NOW: &str = concat!("SELECT ", now_micros!());

/// A statement that is repeated for many rows: a head, one group of binds for each row, a tail.
#[derive(Debug)]
pub(crate) struct Bulk {
    head: &'static str,
    group: &'static str,
    tail: &'static str,
    texts: OnceLock<[Arc<str>; ROWS_PER_STATEMENT.len()]>,
}

impl Bulk {
    const fn new(head: &'static str, group: &'static str, tail: &'static str) -> Self {
        Bulk {
            head,
            group,
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
        let groups = vec![self.group; size].join(",");
        format!("{} {groups} {}", self.head, self.tail)
    }
}

/// What was seen of (observer, epoch), by the number of the question.
pub(crate) static SEEN: Bulk = Bulk::new(
    "WITH wanted(n, observer, epoch) AS (VALUES",
    "(?,?,?)",
    ") SELECT wanted.n, ha_seen.runs FROM wanted CROSS JOIN ha_seen \
     ON ha_seen.observer = wanted.observer AND ha_seen.epoch = wanted.epoch",
);

/// How many epochs of an observer are kept, and the oldest of them.
pub(crate) const EPOCHS: &str = "SELECT count(*), min(epoch) FROM ha_seen WHERE observer = ?";

/// Writes what was seen.
pub(crate) static PUT_SEEN: Bulk = Bulk::new(
    "INSERT INTO ha_seen (observer, epoch, runs) VALUES",
    "(?,?,?)",
    "ON CONFLICT (observer, epoch) DO UPDATE SET runs = excluded.runs",
);

/// Forgets all but the newest epochs of an observer.
pub(crate) const TRIM_EPOCHS: &str = "DELETE FROM ha_seen WHERE observer = ?1 AND epoch NOT IN \
     (SELECT epoch FROM ha_seen WHERE observer = ?1 ORDER BY epoch DESC LIMIT ?2)";

/// Remembers message ids of old senders; gives back those that were new.
pub(crate) static PUT_MESSAGES: Bulk = Bulk::new(
    "INSERT INTO ha_seen_message (message_id, seen_at) VALUES",
    "(?,?)",
    "ON CONFLICT (message_id) DO NOTHING RETURNING message_id",
);

/// Forgets some message ids from beyond the horizon.
pub(crate) const TRIM_MESSAGES: &str = "DELETE FROM ha_seen_message WHERE message_id IN \
     (SELECT message_id FROM ha_seen_message WHERE seen_at < ? ORDER BY seen_at LIMIT ?)";

/// The id of a meter. `IS`, because a type or unit may be null.
pub(crate) const METER_ID: &str =
    "SELECT min(id) FROM meter WHERE name = ? AND type IS ? AND unit IS ?";

/// A new meter.
pub(crate) const PUT_METER: &str = "INSERT INTO meter (name, type, unit) VALUES (?,?,?)";

/// Ids of resources, by the number of the question. The unary plus keeps SQLite from choosing the
/// index on the hash, which a whole fleet may share.
pub(crate) static RESOURCE_IDS: Bulk = Bulk::new(
    "WITH wanted(n, resource_id, user_id, project_id, source_id, metadata_hash) AS (VALUES",
    "(?,?,?,?,?,?)",
    ") SELECT wanted.n, min(resource.internal_id) FROM wanted CROSS JOIN resource \
     ON resource.resource_id = wanted.resource_id \
     AND resource.user_id IS wanted.user_id AND resource.project_id IS wanted.project_id \
     AND resource.source_id IS wanted.source_id \
     AND +resource.metadata_hash = wanted.metadata_hash GROUP BY wanted.n",
);

/// A new resource.
pub(crate) const PUT_RESOURCE: &str = "INSERT INTO resource \
     (resource_id, user_id, project_id, source_id, resource_metadata, metadata_hash) \
     VALUES (?,?,?,?,?,?)";

/// Metadata of new resources that are texts or null. Of two keys that read the same the first
/// is kept.
pub(crate) static PUT_TEXTS: Bulk = Bulk::new(
    "INSERT OR IGNORE INTO metadata_text (id, meta_key, value) VALUES",
    "(?,?,?)",
    "",
);
/// Those that are integers.
pub(crate) static PUT_INTS: Bulk = Bulk::new(
    "INSERT OR IGNORE INTO metadata_int (id, meta_key, value) VALUES",
    "(?,?,?)",
    "",
);
/// Those that are floats.
pub(crate) static PUT_FLOATS: Bulk = Bulk::new(
    "INSERT OR IGNORE INTO metadata_float (id, meta_key, value) VALUES",
    "(?,?,?)",
    "",
);
/// Those that are truth values.
pub(crate) static PUT_BOOLS: Bulk = Bulk::new(
    "INSERT OR IGNORE INTO metadata_bool (id, meta_key, value) VALUES",
    "(?,?,?)",
    "",
);

/// History.
pub(crate) static PUT_SAMPLES: Bulk = Bulk::new(
    "INSERT INTO sample \
     (meter_id, resource_id, volume, timestamp, recorded_at, message_signature, message_id) VALUES",
    "(?,?,?,?,?,?,?)",
    "",
);

/// What states show, by the number of the question.
pub(crate) static STATES: Bulk = Bulk::new(
    "WITH wanted(n, observer, meter, resource_id) AS (VALUES",
    "(?,?,?,?)",
    ") SELECT wanted.n, ha_state.epoch, ha_state.seq, ha_state.paths \
     FROM wanted CROSS JOIN ha_state ON ha_state.observer = wanted.observer \
     AND ha_state.meter = wanted.meter AND ha_state.resource_id = wanted.resource_id",
);

macro_rules! put_states {
    () => {
        "INSERT INTO ha_state (observer, meter, resource_id, epoch, seq, volume, quality, \
         observed_at, received_at, metadata, paths) VALUES"
    };
}

/// Moves states. The comparison is in the statement, so that of two collectors that race, in
/// whatever order, the newer reading stays.
pub(crate) static MOVE_STATES: Bulk = Bulk::new(
    put_states!(),
    "(?,?,?,?,?,?,?,?,?,?,?)",
    "ON CONFLICT (observer, meter, resource_id) DO UPDATE SET \
     epoch = excluded.epoch, seq = excluded.seq, volume = excluded.volume, \
     quality = excluded.quality, observed_at = excluded.observed_at, \
     received_at = excluded.received_at, metadata = excluded.metadata, paths = excluded.paths \
     WHERE (excluded.epoch, excluded.seq) > (ha_state.epoch, ha_state.seq)",
);

/// Adds paths to the very readings that states show.
pub(crate) static HEAR_STATES: Bulk = Bulk::new(
    put_states!(),
    "(?,?,?,?,?,?,?,?,?,?,?)",
    "ON CONFLICT (observer, meter, resource_id) DO UPDATE SET paths = excluded.paths \
     WHERE (excluded.epoch, excluded.seq) = (ha_state.epoch, ha_state.seq)",
);

/// Remembers the newest reading that each path brought.
pub(crate) static PUT_PATHS: Bulk = Bulk::new(
    "INSERT INTO ha_path (observer, path, epoch, seq, received_at) VALUES",
    "(?,?,?,?,?)",
    "ON CONFLICT (observer, path) DO UPDATE SET \
     epoch = excluded.epoch, seq = excluded.seq, received_at = excluded.received_at \
     WHERE (excluded.epoch, excluded.seq) > (ha_path.epoch, ha_path.seq)",
);

/// Forgets all but the paths of an observer that brought the newest readings.
pub(crate) const TRIM_PATHS: &str = "DELETE FROM ha_path WHERE observer = ?1 AND path NOT IN \
     (SELECT path FROM ha_path WHERE observer = ?1 ORDER BY epoch DESC, seq DESC, path LIMIT ?2)";

/// The present, all of it, in the order of the primary key.
pub(crate) const FLEET_STATES: &str = "SELECT observer, meter, resource_id, epoch, seq, volume, \
     quality, observed_at, received_at, metadata, paths \
     FROM ha_state ORDER BY observer, meter, resource_id";

/// When each path was last heard.
pub(crate) const FLEET_PATHS: &str =
    "SELECT observer, path, received_at FROM ha_path ORDER BY observer, path";

/// The newest rounds of instances, with what was seen of their epochs.
pub(crate) const FLEET_ROUNDS: &str = "SELECT ha_state.observer, ha_state.epoch, ha_state.seq, \
     ha_state.volume, ha_seen.runs FROM ha_state JOIN ha_seen \
     ON ha_seen.observer = ha_state.observer AND ha_seen.epoch = ha_state.epoch \
     WHERE ha_state.meter = 'instance.round' AND ha_state.resource_id = ha_state.observer \
     ORDER BY ha_state.observer";

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

    /// Two collectors that both found nothing newer, and write one after the other.
    #[tokio::test]
    async fn the_statement_itself_keeps_the_newer_reading() {
        use super::super::schema::MIGRATIONS;
        use sqlx::{AssertSqlSafe, Connection, raw_sql};
        let mut conn = sqlx::SqliteConnection::connect("sqlite::memory:")
            .await
            .unwrap();
        raw_sql(MIGRATIONS[0].sql).execute(&mut conn).await.unwrap();
        for (epoch, seq, kept) in [
            (2, 5, (2, 5)),
            (2, 4, (2, 5)),
            (1, 9, (2, 5)),
            (2, 6, (2, 6)),
            (3, 1, (3, 1)),
        ] {
            let (text, _) = MOVE_STATES.statements(&[()]).next().unwrap();
            sqlx::query(AssertSqlSafe(text))
                .bind("node-1")
                .bind("storage_connectivity")
                .bind("node-1")
                .bind(epoch)
                .bind(seq)
                .bind(1.0)
                .bind("shared_secret")
                .bind(0)
                .bind(0)
                .bind("{}")
                .bind("[]")
                .execute(&mut conn)
                .await
                .unwrap();
            let found: (i64, i64) = sqlx::query_as("SELECT epoch, seq FROM ha_state")
                .fetch_one(&mut conn)
                .await
                .unwrap();
            assert_eq!(found, kept);
        }
    }
}
