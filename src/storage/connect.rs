//! From a connection URL to a SQLite connection, and whether what it leads to can be used.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteSynchronous};
use sqlx::{ConnectOptions, raw_sql};

use super::error::{StoreError, during};
use super::schema;
use crate::model::Secret;

/// How long a statement waits for another process's lock before it fails as passing. A batch takes
/// tens of milliseconds, a checkpoint a second; who holds a lock for longer is stuck. It is well
/// below what a daemon is given to end in, so that the end can still be reported.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// What the write-ahead log is cut back to after a checkpoint, so that one long reader doesn't
/// leave gigabytes behind.
const WAL_BYTES_MAX: &str = "67108864";

/// The file behind a SQLAlchemy URL: `sqlite:////absolute` or `sqlite:///relative`. A driver name
/// after a plus sign and options after a question mark are SQLAlchemy's business and are skipped.
pub(crate) fn file_of(connection: &Secret) -> Result<PathBuf, StoreError> {
    let url = connection.expose();
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(StoreError::Connection(
            "is no URL such as sqlite:////var/lib/ceilometer-ha/ha.sqlite",
        ));
    };
    if scheme.split('+').next() != Some("sqlite") {
        return Err(StoreError::Connection(
            "this build stores in sqlite:// only",
        ));
    }
    let file = rest.split('?').next().unwrap_or(rest);
    match file.strip_prefix('/') {
        Some(path) if !path.is_empty() && path != ":memory:" => Ok(PathBuf::from(path)),
        _ => Err(StoreError::Connection(
            "names no file: sqlite:////absolute/path or sqlite:///relative/path, \
             and not in memory, where no other process could read it",
        )),
    }
}

/// Connects for writing.
pub(crate) async fn connect(path: &Path) -> Result<SqliteConnection, StoreError> {
    options(path)
        .synchronous(SqliteSynchronous::Full)
        .connect()
        .await
        .map_err(during("connecting to the database"))
}

/// Connects for reading.
pub(crate) async fn connect_read_only(path: &Path) -> Result<SqliteConnection, StoreError> {
    options(path)
        .read_only(true)
        .connect()
        .await
        .map_err(during("connecting to the database for reading"))
}

/// Switches the file to write-ahead logging, in which readers and the writer don't wait for each
/// other. Done only once the tables are known to be ours: the mode stays with the file.
pub(crate) async fn log_ahead(conn: &mut SqliteConnection) -> Result<(), StoreError> {
    raw_sql("PRAGMA journal_mode = WAL")
        .execute(conn)
        .await
        .map_err(during("switching the database to write-ahead logging"))?;
    Ok(())
}

/// The version of our tables; None if there are none.
pub(crate) async fn version(conn: &mut SqliteConnection) -> Result<Option<i64>, StoreError> {
    if !has_table(conn, "ha_schema").await? {
        return Ok(None);
    }
    sqlx::query_scalar("SELECT max(version) FROM ha_schema")
        .fetch_one(conn)
        .await
        .map_err(during("reading the schema's version"))
}

/// Whether a table is there.
pub(crate) async fn has_table(
    conn: &mut SqliteConnection,
    table: &str,
) -> Result<bool, StoreError> {
    let found: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?")
            .bind(table)
            .fetch_one(conn)
            .await
            .map_err(during("listing the database's tables"))?;
    Ok(found > 0)
}

/// Refuses a database whose tables are not exactly those of this build.
pub(crate) async fn check(conn: &mut SqliteConnection, path: &Path) -> Result<(), StoreError> {
    let known = schema::latest();
    match version(conn).await? {
        None => Err(StoreError::NoSchema(path.to_owned())),
        Some(found) if found < known => Err(StoreError::OlderSchema { found, known }),
        Some(found) if found > known => Err(StoreError::NewerSchema { found, known }),
        Some(_) => Ok(()),
    }
}

/// Refuses a file that isn't there, which SQLite would only call "unable to open".
pub(crate) async fn must_exist(path: &Path) -> Result<(), StoreError> {
    if exists(path).await? {
        Ok(())
    } else {
        Err(StoreError::NoDatabase(path.to_owned()))
    }
}

/// Whether the file is there.
pub(crate) async fn exists(path: &Path) -> Result<bool, StoreError> {
    tokio::fs::try_exists(path)
        .await
        .map_err(|source| StoreError::File {
            operation: "looking for the database file",
            path: path.to_owned(),
            source,
        })
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .busy_timeout(BUSY_TIMEOUT)
        // Ids of meters and resources are cached: a dangling one must fail, not be stored.
        .foreign_keys(true)
        .pragma("journal_size_limit", WAL_BYTES_MAX)
        .disable_statement_logging()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_sqlalchemy_s() {
        for (url, file) in [
            ("sqlite:////var/lib/ha.sqlite", "/var/lib/ha.sqlite"),
            ("sqlite:///ha.sqlite", "ha.sqlite"),
            ("sqlite+pysqlite:////x/y?timeout=20", "/x/y"),
        ] {
            let found = file_of(&Secret::new(url)).unwrap();
            assert_eq!(found, Path::new(file), "{url}");
        }
    }

    #[test]
    fn a_url_that_is_refused_is_not_shown() {
        for url in [
            "",
            "/var/lib/s3cret.sqlite",
            "sqlite://",
            "sqlite:///",
            "sqlite://s3cret",
            "sqlite:///:memory:",
            "mysql://ceilometer:s3cret@controller/ceilometer",
        ] {
            let error = file_of(&Secret::new(url)).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{url}");
        }
    }
}
