//! SQLite's words.

use std::borrow::Cow;

use super::{Bulk, Dialect};
use crate::model::UtcTime;

/// The database's clock in unix microseconds, at the millisecond resolution that SQLite has.
macro_rules! now_micros {
    () => {
        "CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000"
    };
}

macro_rules! put_states {
    () => {
        "INSERT INTO ha_state (observer, meter, resource_id, epoch, seq, volume, quality, \
         observed_at, received_at, metadata, paths) VALUES"
    };
}

/// All of them.
pub(crate) static DIALECT: Dialect = Dialect {
    now: concat!("SELECT ", now_micros!()),
    tables: "SELECT name FROM sqlite_master WHERE type = 'table'",
    columns: "SELECT name FROM pragma_table_info(?)",
    // `sample.id` is INTEGER PRIMARY KEY there, which in SQLite has 64 bits already.
    ceilometer: include_str!("ceilometer_sqlite.sql"),
    versions: "CREATE TABLE IF NOT EXISTS ha_schema (
    version INTEGER NOT NULL PRIMARY KEY,
    what VARCHAR(255) NOT NULL,
    applied_at BIGINT NOT NULL
)",
    put_version: concat!(
        "INSERT INTO ha_schema (version, what, applied_at) VALUES (?,?,",
        now_micros!(),
        ")"
    ),
    migrations: &[
        include_str!("ha_1_sqlite.sql"),
        include_str!("ha_2_sqlite.sql"),
        include_str!("ha_3_sqlite.sql"),
    ],

    seen: Bulk::new(
        "WITH wanted(n, observer, epoch) AS (VALUES",
        "(?,?,?)",
        ") SELECT wanted.n, ha_seen.runs, ha_seen.retired_seq FROM wanted CROSS JOIN ha_seen \
         ON ha_seen.observer = wanted.observer AND ha_seen.epoch = wanted.epoch",
    ),
    put_seen: Bulk::new(
        "INSERT INTO ha_seen (observer, epoch, runs, seen_at) VALUES",
        "(?,?,?,?)",
        "ON CONFLICT (observer, epoch) DO UPDATE SET runs = excluded.runs, seen_at = excluded.seen_at",
    ),
    trim_messages: "DELETE FROM ha_seen_message WHERE message_id IN \
         (SELECT message_id FROM ha_seen_message WHERE seen_at < ? ORDER BY seen_at LIMIT ?)",

    // `IS`, because a type or unit may be null.
    meter_id: "SELECT min(id) FROM meter WHERE name = ? AND type IS ? AND unit IS ?",
    // The unary plus keeps SQLite from choosing the index on the hash, which a whole fleet may share.
    resource_ids: Bulk::new(
        "WITH wanted(n, resource_id, user_id, project_id, source_id, metadata_hash, same) AS (VALUES",
        "(?,?,?,?,?,?,?)",
        ") SELECT wanted.n, min(resource.internal_id) FROM wanted CROSS JOIN resource \
         ON resource.resource_id = wanted.resource_id \
         AND resource.user_id IS wanted.user_id AND resource.project_id IS wanted.project_id \
         AND resource.source_id IS wanted.source_id \
         AND +resource.metadata_hash = wanted.metadata_hash GROUP BY wanted.n",
    ),
    put_texts: Bulk::new(
        "INSERT OR IGNORE INTO metadata_text (id, meta_key, value) VALUES",
        "(?,?,?)",
        "",
    ),
    put_ints: Bulk::new(
        "INSERT OR IGNORE INTO metadata_int (id, meta_key, value) VALUES",
        "(?,?,?)",
        "",
    ),
    put_floats: Bulk::new(
        "INSERT OR IGNORE INTO metadata_float (id, meta_key, value) VALUES",
        "(?,?,?)",
        "",
    ),
    put_bools: Bulk::new(
        "INSERT OR IGNORE INTO metadata_bool (id, meta_key, value) VALUES",
        "(?,?,?)",
        "",
    ),

    states: Bulk::new(
        "WITH wanted(n, observer, meter, resource_id) AS (VALUES",
        "(?,?,?,?)",
        ") SELECT wanted.n, ha_state.epoch, ha_state.seq, ha_state.paths \
         FROM wanted CROSS JOIN ha_state ON ha_state.observer = wanted.observer \
         AND ha_state.meter = wanted.meter AND ha_state.resource_id = wanted.resource_id",
    ),
    move_states: Bulk::new(
        put_states!(),
        "(?,?,?,?,?,?,?,?,?,?,?)",
        "ON CONFLICT (observer, meter, resource_id) DO UPDATE SET \
         epoch = excluded.epoch, seq = excluded.seq, volume = excluded.volume, \
         quality = excluded.quality, observed_at = excluded.observed_at, \
         received_at = excluded.received_at, metadata = excluded.metadata, paths = excluded.paths \
         WHERE (excluded.epoch, excluded.seq) > (ha_state.epoch, ha_state.seq)",
    ),
    hear_states: Bulk::new(
        put_states!(),
        "(?,?,?,?,?,?,?,?,?,?,?)",
        "ON CONFLICT (observer, meter, resource_id) DO UPDATE SET paths = excluded.paths \
         WHERE (excluded.epoch, excluded.seq) = (ha_state.epoch, ha_state.seq)",
    ),
    put_paths: Bulk::new(
        "INSERT INTO ha_path (observer, path, epoch, seq, received_at) VALUES",
        "(?,?,?,?,?)",
        "ON CONFLICT (observer, path) DO UPDATE SET \
         epoch = excluded.epoch, seq = excluded.seq, received_at = excluded.received_at \
         WHERE (excluded.epoch, excluded.seq) > (ha_path.epoch, ha_path.seq)",
    ),

    sample_ids: "SELECT max(id), 9223372036854775807 FROM sample",
    widen: None,

    holds_non_finite: true,

    put_observers: Bulk::new(
        "INSERT INTO ha_observer (observer, epoch, seq, began_observed_at, began_received_at, \
         observed_at, received_at) VALUES",
        "(?,?,?,?,?,?,?)",
        "ON CONFLICT (observer) DO UPDATE SET \
         began_observed_at = CASE WHEN excluded.epoch > ha_observer.epoch \
         THEN excluded.began_observed_at ELSE ha_observer.began_observed_at END, \
         began_received_at = CASE WHEN excluded.epoch > ha_observer.epoch \
         THEN excluded.began_received_at ELSE ha_observer.began_received_at END, \
         epoch = excluded.epoch, seq = excluded.seq, observed_at = excluded.observed_at, \
         received_at = excluded.received_at \
         WHERE (excluded.epoch, excluded.seq) > (ha_observer.epoch, ha_observer.seq)",
    ),
    put_key_uses: Bulk::new(
        "INSERT INTO ha_host_key (observer, number, first_used_at, last_used_at) VALUES",
        "(?,?,?,?)",
        "ON CONFLICT (observer, number) DO UPDATE SET last_used_at = excluded.last_used_at",
    ),
    put_quarantine: Bulk::new(
        "INSERT INTO ha_quarantine (quarantined_at, digest, reason, detail, observer, meter, \
         resource_id, message_id, message) VALUES",
        "(?,?,?,?,?,?,?,?,?)",
        "ON CONFLICT (digest) DO NOTHING",
    ),

    moment: UtcTime::to_sql_text,
    moment_of: |text| UtcTime::parse(text).ok(),
    // In whole numbers: julianday() would round a moment into the wrong period.
    period: "(CAST(strftime('%s', substr(sample.timestamp, 1, 19)) AS INTEGER) * 1000000 \
         + CAST(substr(sample.timestamp || '000000', 21, 6) AS INTEGER) - ?) / ?",
    text: |text| Cow::Borrowed(text),
};

#[cfg(test)]
mod tests {
    use super::*;

    /// Two collectors that both found nothing newer, and write one after the other.
    #[tokio::test]
    async fn the_statement_itself_keeps_the_newer_reading() {
        use sqlx::{AssertSqlSafe, Connection, raw_sql};
        let mut conn = sqlx::SqliteConnection::connect("sqlite::memory:")
            .await
            .unwrap();
        raw_sql(DIALECT.migrations[0])
            .execute(&mut conn)
            .await
            .unwrap();
        for (epoch, seq, kept) in [
            (2, 5, (2, 5)),
            (2, 4, (2, 5)),
            (1, 9, (2, 5)),
            (2, 6, (2, 6)),
            (3, 1, (3, 1)),
        ] {
            let (text, _) = DIALECT.move_states.statements(&[()]).next().unwrap();
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

    /// What is read whole is read in the order of its primary key, the rest is looked up, and nothing is
    /// sorted.
    #[tokio::test]
    async fn the_fleet_is_read_in_the_order_of_its_indexes() {
        use super::super::{
            FLEET_COMPLETE_ROUNDS, FLEET_OBSERVERS, FLEET_PATHS, FLEET_ROUNDS, FLEET_STATES,
        };
        use sqlx::{AssertSqlSafe, Connection, Row, raw_sql};
        let mut conn = sqlx::SqliteConnection::connect("sqlite::memory:")
            .await
            .unwrap();
        for text in DIALECT.migrations {
            raw_sql(*text).execute(&mut conn).await.unwrap();
        }
        for (text, expected) in [
            (FLEET_STATES, &["SCAN ha_state"][..]),
            (FLEET_PATHS, &["SCAN ha_path"]),
            (FLEET_OBSERVERS, &["SCAN ha_observer"]),
            (FLEET_COMPLETE_ROUNDS, &["SCAN ha_round"]),
            (
                FLEET_ROUNDS,
                &[
                    "SEARCH ha_state USING INDEX ix_ha_state_meter (meter=?)",
                    "SEARCH ha_seen USING PRIMARY KEY (observer=? AND epoch=?)",
                ],
            ),
        ] {
            let rows = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}")))
                .fetch_all(&mut conn)
                .await
                .unwrap();
            let plan: Vec<String> = rows.iter().map(|row| row.get(3)).collect();
            assert_eq!(plan, expected, "{text}");
        }
    }
}
