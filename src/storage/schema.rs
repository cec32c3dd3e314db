//! Pure. The tables: Ceilometer's as its own dbsync makes them, and ours beside them in ordered
//! migrations.

use super::sql::now_micros;

/// Ceilometer's tables in SQLite, as its migrations 1 to 45 leave them.
///
/// `sample.id` is INTEGER PRIMARY KEY there, which in SQLite has 64 bits already: the BIGINT that
/// other engines need is here without a change.
pub(crate) const CEILOMETER: &str = include_str!("ceilometer.sql");

/// The version of Ceilometer's schema that [`CEILOMETER`] is.
pub(crate) const MIGRATE_VERSION: i64 = 45;

/// Reads that version; Ceilometer's repository is known by this id.
pub(crate) const GET_MIGRATE_VERSION: &str =
    "SELECT version FROM migrate_version WHERE repository_id = 'ceilometer'";

/// Says that version in a fresh database, for tools that ask.
pub(crate) const PUT_MIGRATE_VERSION: &str = "INSERT INTO migrate_version \
     (repository_id, repository_path, version) \
     VALUES ('ceilometer', 'ceilometer/storage/sqlalchemy/migrate_repo', ?)";

/// The columns that we write or that deciders read; a database without one can't be taken over.
pub(crate) const NEEDED_COLUMNS: &[(&str, &[&str])] = &[
    ("meter", &["id", "name", "type", "unit"]),
    (
        "resource",
        &[
            "internal_id",
            "user_id",
            "project_id",
            "source_id",
            "resource_id",
            "resource_metadata",
            "metadata_hash",
        ],
    ),
    (
        "sample",
        &[
            "id",
            "meter_id",
            "resource_id",
            "volume",
            "timestamp",
            "recorded_at",
            "message_signature",
            "message_id",
        ],
    ),
    ("metadata_text", &["id", "meta_key", "value"]),
    ("metadata_int", &["id", "meta_key", "value"]),
    ("metadata_float", &["id", "meta_key", "value"]),
    ("metadata_bool", &["id", "meta_key", "value"]),
];

/// Where we write down which migrations have been applied.
pub(crate) const VERSIONS: &str = "CREATE TABLE IF NOT EXISTS ha_schema (
    version INTEGER NOT NULL PRIMARY KEY,
    what VARCHAR(255) NOT NULL,
    applied_at BIGINT NOT NULL
)";

/// Writes one of them down.
pub(crate) const PUT_VERSION: &str = concat!(
    "INSERT INTO ha_schema (version, what, applied_at) VALUES (?,?,",
    now_micros!(),
    ")"
);

/// One step from one version of our tables to the next. It is never changed once released.
#[derive(Debug)]
pub(crate) struct Migration {
    /// The version that it leads to.
    pub(crate) version: i64,
    /// What it does, for the one who runs dbsync.
    pub(crate) what: &'static str,
    /// How.
    pub(crate) sql: &'static str,
}

/// All of them, in order, without a hole.
pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    what: "current state, paths, and what was seen",
    sql: "
CREATE TABLE ha_state (
    observer VARCHAR(255) NOT NULL,
    meter VARCHAR(255) NOT NULL,
    resource_id VARCHAR(255) NOT NULL,
    epoch BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    volume DOUBLE NOT NULL,
    quality VARCHAR(32) NOT NULL,
    observed_at BIGINT NOT NULL,
    received_at BIGINT NOT NULL,
    metadata TEXT NOT NULL,
    paths TEXT NOT NULL,
    PRIMARY KEY (observer, meter, resource_id)
) WITHOUT ROWID;
CREATE INDEX ix_ha_state_meter ON ha_state (meter, resource_id);
CREATE TABLE ha_path (
    observer VARCHAR(255) NOT NULL,
    path VARCHAR(255) NOT NULL,
    epoch BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    received_at BIGINT NOT NULL,
    PRIMARY KEY (observer, path)
) WITHOUT ROWID;
CREATE TABLE ha_seen (
    observer VARCHAR(255) NOT NULL,
    epoch BIGINT NOT NULL,
    runs BLOB NOT NULL,
    PRIMARY KEY (observer, epoch)
) WITHOUT ROWID;
CREATE TABLE ha_seen_message (
    message_id VARCHAR(128) NOT NULL,
    seen_at BIGINT NOT NULL,
    PRIMARY KEY (message_id)
) WITHOUT ROWID;
CREATE INDEX ix_ha_seen_message_seen_at ON ha_seen_message (seen_at);
",
}];

/// The version that this build reads and writes.
pub(crate) fn latest() -> i64 {
    MIGRATIONS.last().map_or(0, |migration| migration.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_count_from_one_without_a_hole() {
        let versions: Vec<i64> = MIGRATIONS.iter().map(|m| m.version).collect();
        let expected: Vec<i64> = (1..=latest()).collect();
        assert_eq!(versions, expected);
    }
}
