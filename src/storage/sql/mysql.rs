//! MySQL's and MariaDB's words.

use std::borrow::Cow;

use super::{Bulk, Dialect};
use crate::model::UtcTime;

/// Stands in our tables' texts for a collation of whole UTF-8 that compares bytes, blanks at the end
/// included. Each engine has a name of its own for it.
pub(crate) const COLLATION: &str = "OUR_COLLATION";

/// That collation. Sessions speak in it too, so that values are compared as these columns are.
pub(crate) fn collation(is_mariadb: bool) -> &'static str {
    if is_mariadb {
        "utf8mb4_nopad_bin"
    } else {
        "utf8mb4_0900_bin"
    }
}

/// The database's clock in unix microseconds.
macro_rules! now_micros {
    () => {
        "CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)"
    };
}

/// The name of the lock; such names are at most 64 characters long and hold in the whole server.
macro_rules! migration {
    () => {
        "CONCAT('ceilometer_ha ', SHA1(DATABASE()))"
    };
}

macro_rules! put_states {
    () => {
        "INSERT INTO ha_state (observer, meter, resource_id, epoch, seq, volume, quality, \
         observed_at, received_at, metadata, paths) VALUES"
    };
}

/// What a column becomes if the row that comes has a greater place than the one that is there.
/// Assignments are made from left to right, so the place itself comes last, its epoch after its seq.
macro_rules! newer {
    ($column:literal) => {
        concat!(
            $column,
            " = IF((VALUES(epoch), VALUES(seq)) > (epoch, seq), VALUES(",
            $column,
            "), ",
            $column,
            ")"
        )
    };
}

macro_rules! newer_place {
    () => {
        concat!(newer!("seq"), ", epoch = GREATEST(VALUES(epoch), epoch)")
    };
}

/// Of two keys that read the same the first one is kept.
macro_rules! put_metadata {
    ($table:literal) => {
        Bulk::new(
            concat!("INSERT INTO ", $table, " (id, meta_key, value) VALUES"),
            "(?,?,?)",
            "ON DUPLICATE KEY UPDATE value = value",
        )
    };
}

/// Keeps other migrations of this database out; 1 if nobody else is at it.
pub(crate) const TAKE_MIGRATION: &str = concat!("SELECT GET_LOCK(", migration!(), ", 5)");

/// Lets them in again.
pub(crate) const RELEASE_MIGRATION: &str = concat!("DO RELEASE_LOCK(", migration!(), ")");

/// All of them.
pub(crate) static DIALECT: Dialect = Dialect {
    now: concat!("SELECT ", now_micros!()),
    tables: "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()",
    columns: "SELECT column_name FROM information_schema.columns \
         WHERE table_schema = DATABASE() AND table_name = ?",
    ceilometer: include_str!("ceilometer_mysql.sql"),
    versions: "CREATE TABLE IF NOT EXISTS ha_schema (
    version INT NOT NULL,
    what VARCHAR(255) NOT NULL,
    applied_at BIGINT NOT NULL,
    PRIMARY KEY (version)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=OUR_COLLATION",
    put_version: concat!(
        "INSERT INTO ha_schema (version, what, applied_at) VALUES (?,?,",
        now_micros!(),
        ")"
    ),
    migrations: &[
        include_str!("ha_1_mysql.sql"),
        include_str!("ha_2_mysql.sql"),
        include_str!("ha_3_mysql.sql"),
    ],

    // Neither engine ranges over a list of rows, but both look up each row of a table that they join.
    seen: Bulk::separated(
        "SELECT STRAIGHT_JOIN wanted.n, ha_seen.runs, ha_seen.retired_seq FROM (",
        "SELECT CAST(? AS SIGNED) AS n, CAST(? AS CHAR(255)) AS observer, CAST(? AS SIGNED) AS epoch",
        " UNION ALL ",
        ") AS wanted JOIN ha_seen \
         ON ha_seen.observer = wanted.observer AND ha_seen.epoch = wanted.epoch",
    ),
    put_seen: Bulk::new(
        "INSERT INTO ha_seen (observer, epoch, runs, seen_at) VALUES",
        "(?,?,?,?)",
        "ON DUPLICATE KEY UPDATE runs = VALUES(runs), seen_at = VALUES(seen_at)",
    ),
    trim_messages: "DELETE FROM ha_seen_message WHERE seen_at < ? ORDER BY seen_at LIMIT ?",

    // Letter case and blanks at the end don't count, as in the table's own unique key.
    meter_id: "SELECT min(id) FROM meter WHERE name = ? AND type <=> ? AND unit <=> ?",
    // One question each, so that whatever collation a database has, its index is used. Only then
    // bytes are compared.
    resource_ids: Bulk::separated(
        "",
        "SELECT CAST(? AS SIGNED) AS n, min(internal_id) AS id FROM resource WHERE resource_id = ? \
         AND CAST(user_id AS BINARY) <=> CAST(? AS BINARY) \
         AND CAST(project_id AS BINARY) <=> CAST(? AS BINARY) \
         AND CAST(source_id AS BINARY) <=> CAST(? AS BINARY) \
         AND CAST(metadata_hash AS BINARY) = CAST(? AS BINARY) \
         AND CAST(resource_id AS BINARY) = CAST(? AS BINARY) HAVING id IS NOT NULL",
        " UNION ALL ",
        "",
    ),
    put_texts: put_metadata!("metadata_text"),
    put_ints: put_metadata!("metadata_int"),
    put_floats: put_metadata!("metadata_float"),
    put_bools: put_metadata!("metadata_bool"),

    states: Bulk::separated(
        "SELECT STRAIGHT_JOIN wanted.n, ha_state.epoch, ha_state.seq, ha_state.paths FROM (",
        "SELECT CAST(? AS SIGNED) AS n, CAST(? AS CHAR(255)) AS observer, \
         CAST(? AS CHAR(255)) AS meter, CAST(? AS CHAR(255)) AS resource_id",
        " UNION ALL ",
        ") AS wanted JOIN ha_state ON ha_state.observer = wanted.observer \
         AND ha_state.meter = wanted.meter AND ha_state.resource_id = wanted.resource_id",
    ),
    move_states: Bulk::new(
        put_states!(),
        "(?,?,?,?,?,?,?,?,?,?,?)",
        concat!(
            "ON DUPLICATE KEY UPDATE ",
            newer!("volume"),
            ", ",
            newer!("quality"),
            ", ",
            newer!("observed_at"),
            ", ",
            newer!("received_at"),
            ", ",
            newer!("metadata"),
            ", ",
            newer!("paths"),
            ", ",
            newer_place!()
        ),
    ),
    hear_states: Bulk::new(
        put_states!(),
        "(?,?,?,?,?,?,?,?,?,?,?)",
        "ON DUPLICATE KEY UPDATE \
         paths = IF((VALUES(epoch), VALUES(seq)) = (epoch, seq), VALUES(paths), paths)",
    ),
    put_paths: Bulk::new(
        "INSERT INTO ha_path (observer, path, epoch, seq, received_at) VALUES",
        "(?,?,?,?,?)",
        concat!(
            "ON DUPLICATE KEY UPDATE ",
            newer!("received_at"),
            ", ",
            newer_place!()
        ),
    ),
    sample_ids: "SELECT max(id), CASE (SELECT data_type FROM information_schema.columns \
         WHERE table_schema = DATABASE() AND table_name = 'sample' AND column_name = 'id') \
         WHEN 'bigint' THEN 9223372036854775807 ELSE 2147483647 END FROM sample",
    widen: Some("ALTER TABLE sample MODIFY id BIGINT NOT NULL AUTO_INCREMENT"),

    holds_non_finite: false,
    // How a life began depends on both epochs, so it comes before the place.
    put_observers: Bulk::new(
        "INSERT INTO ha_observer (observer, epoch, seq, began_observed_at, began_received_at, \
         observed_at, received_at) VALUES",
        "(?,?,?,?,?,?,?)",
        concat!(
            "ON DUPLICATE KEY UPDATE began_observed_at = \
             IF(VALUES(epoch) > epoch, VALUES(began_observed_at), began_observed_at), \
             began_received_at = \
             IF(VALUES(epoch) > epoch, VALUES(began_received_at), began_received_at), ",
            newer!("observed_at"),
            ", ",
            newer!("received_at"),
            ", ",
            newer_place!()
        ),
    ),
    put_key_uses: Bulk::new(
        "INSERT INTO ha_host_key (observer, number, first_used_at, last_used_at) VALUES",
        "(?,?,?,?)",
        "ON DUPLICATE KEY UPDATE last_used_at = VALUES(last_used_at)",
    ),
    put_quarantine: Bulk::new(
        "INSERT INTO ha_quarantine (quarantined_at, digest, reason, detail, observer, meter, \
         resource_id, message_id, message) VALUES",
        "(?,?,?,?,?,?,?,?,?)",
        "ON DUPLICATE KEY UPDATE id = id",
    ),

    moment,
    moment_of,
    period: "(CAST(sample.timestamp * 1000000 AS SIGNED) - ?) DIV ?",
    text,
};

/// Unix seconds with six digits.
fn moment(at: UtcTime) -> String {
    let micros = at.unix_micros();
    let sign = if micros < 0 { "-" } else { "" };
    let micros = micros.unsigned_abs();
    format!("{sign}{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

fn moment_of(text: &str) -> Option<UtcTime> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{fraction:0<6}");
    let micros: i64 = digits.get(..6)?.parse().ok()?;
    let whole = seconds.parse::<i64>().ok()?.checked_mul(1_000_000)?;
    let micros = if seconds.starts_with('-') {
        whole.checked_sub(micros)?
    } else {
        whole.checked_add(micros)?
    };
    Some(UtcTime::from_unix_micros(micros))
}

/// Ceilometer's tables have UTF-8 of three bytes at most: what takes four becomes U+FFFD.
fn text(text: &str) -> Cow<'_, str> {
    let is_wide = |c: char| c > '\u{ffff}';
    if text.contains(is_wide) {
        Cow::Owned(text.replace(is_wide, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_unix_seconds() {
        for (micros, expected) in [
            (0, "0.000000"),
            (1_462_330_921_123_456, "1462330921.123456"),
            (-1, "-0.000001"),
            (-62_135_596_800_000_000, "-62135596800.000000"),
        ] {
            let at = UtcTime::from_unix_micros(micros);
            assert_eq!(moment(at), expected);
            assert_eq!(moment_of(expected), Some(at));
        }
        assert_eq!(moment_of("7"), Some(UtcTime::from_unix_micros(7_000_000)));
        assert_eq!(moment_of("2016-05-04"), None);
    }

    #[test]
    fn text_of_four_bytes_is_replaced_and_nothing_else() {
        assert_eq!(text("wezeł \u{ffff}"), "wezeł \u{ffff}");
        assert_eq!(text("a😀b\u{10000}"), "a\u{fffd}b\u{fffd}");
    }
}
