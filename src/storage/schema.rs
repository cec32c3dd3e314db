//! Which tables there must be: Ceilometer's at its last version, and ours beside them in ordered
//! migrations, whose texts each engine has for itself.

use super::engine::{Session, Target};
use super::error::StoreError;
use super::link::ask;
use super::sql;

/// The version of Ceilometer's schema that a fresh database has and a taken-over one must have.
pub(crate) const MIGRATE_VERSION: i64 = 45;

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

/// What each step from one version of our tables to the next does, for the one who runs dbsync. A step
/// is never changed once released.
pub(crate) const MIGRATIONS: &[(i64, &str)] = &[
    (1, "current state, paths, and what was seen"),
    (
        2,
        "observers, complete rounds of instances, and the quarantine",
    ),
    (3, "keys that hosts prove themselves by, and retired epochs"),
];

/// The version that this build reads and writes.
pub(crate) fn latest() -> i64 {
    MIGRATIONS.last().map_or(0, |(version, _)| *version)
}

/// Whether a table is there.
pub(crate) async fn has_table(session: &mut dyn Session, table: &str) -> Result<bool, StoreError> {
    let text = session.dialect().tables;
    let tables: Vec<(String,)> =
        ask(session, text, vec![], "listing the database's tables").await?;
    Ok(tables.iter().any(|(name,)| name == table))
}

/// The version of our tables; None if there are none.
pub(crate) async fn version(session: &mut dyn Session) -> Result<Option<i64>, StoreError> {
    if !has_table(session, "ha_schema").await? {
        return Ok(None);
    }
    let found: Vec<(Option<i64>,)> = ask(
        session,
        sql::VERSION,
        vec![],
        "reading the schema's version",
    )
    .await?;
    Ok(found.first().and_then(|(version,)| *version))
}

/// Refuses a database whose tables are not exactly those of this build.
pub(crate) async fn check(session: &mut dyn Session, target: &Target) -> Result<(), StoreError> {
    let known = latest();
    match version(session).await? {
        None => Err(StoreError::NoSchema(target.shown())),
        Some(found) if found < known => Err(StoreError::OlderSchema { found, known }),
        Some(found) if found > known => Err(StoreError::NewerSchema { found, known }),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_count_from_one_without_a_hole_and_every_engine_has_their_texts() {
        let versions: Vec<i64> = MIGRATIONS.iter().map(|(version, _)| *version).collect();
        let expected: Vec<i64> = (1..=latest()).collect();
        assert_eq!(versions, expected);
        for dialect in [&sql::sqlite::DIALECT, &sql::mysql::DIALECT] {
            assert_eq!(dialect.migrations.len(), MIGRATIONS.len());
        }
    }
}
