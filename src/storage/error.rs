//! What can go wrong between us and the database, and whether trying again can help.

use std::path::PathBuf;

use thiserror::Error;

/// An operation on the database that did not happen. Nothing of its batch was stored.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The connection is no URL of a kind that we know. It isn't shown: it may hold a password.
    #[error("database connection: {0}")]
    Connection(&'static str),
    /// The database is not there.
    #[error("database {0} does not exist: run ceilometer-collector-ha dbsync")]
    NoDatabase(String),
    /// The file is there, our tables aren't.
    #[error("database {0} has no ha tables yet: run ceilometer-collector-ha dbsync")]
    NoSchema(String),
    /// Our tables are those of an older version.
    #[error(
        "database schema is at version {found}, this build needs {known}: run ceilometer-collector-ha dbsync"
    )]
    OlderSchema {
        /// The version of the database.
        found: i64,
        /// The version that this build writes.
        known: i64,
    },
    /// Our tables are those of a newer version, whose rules this build can't know.
    #[error(
        "database schema is at version {found}, this build knows up to {known}: install the newer package"
    )]
    NewerSchema {
        /// The version of the database.
        found: i64,
        /// The newest version that this build knows.
        known: i64,
    },
    /// There are tables of another Ceilometer, or none of Ceilometer's.
    #[error("database can't be taken over: {0}")]
    Foreign(String),
    /// A write through a database that was opened for reading.
    #[error("storing readings: the database was opened read-only")]
    ReadOnly,
    /// A row of ours that no version of this code wrote.
    #[error("row of {table} for {subject} is damaged")]
    Damaged {
        /// The table.
        table: &'static str,
        /// Which row.
        subject: String,
    },
    /// The file system refused.
    #[error("{operation} {}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The database refused.
    #[error("{operation}")]
    Engine {
        /// What was tried.
        operation: &'static str,
        /// Why not.
        source: sqlx::Error,
    },
}

/// Whether trying again can help; the names are metric labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreErrorKind {
    /// Locked, busy, full, or an input/output error: the same call may succeed later.
    Passing,
    /// It will fail until someone does something else first.
    Lasting,
}

impl StoreErrorKind {
    /// The name in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            StoreErrorKind::Passing => "passing",
            StoreErrorKind::Lasting => "lasting",
        }
    }
}

impl StoreError {
    /// Whether trying again can help.
    pub fn kind(&self) -> StoreErrorKind {
        match self {
            StoreError::Engine { source, .. } => engine_kind(source),
            StoreError::File { .. } => StoreErrorKind::Passing,
            StoreError::Connection(_)
            | StoreError::NoDatabase(_)
            | StoreError::NoSchema(_)
            | StoreError::OlderSchema { .. }
            | StoreError::NewerSchema { .. }
            | StoreError::Foreign(_)
            | StoreError::ReadOnly
            | StoreError::Damaged { .. } => StoreErrorKind::Lasting,
        }
    }
}

/// Names the operation that an error of the engine broke.
pub(crate) fn during(operation: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    move |source| StoreError::Engine { operation, source }
}

/// SQLite's primary result codes that another try may not meet again (sqlite.org/rescode.html):
/// BUSY, LOCKED, NOMEM, INTERRUPT, IOERR, FULL, CANTOPEN.
const PASSING_CODES: [u32; 7] = [5, 6, 7, 9, 10, 13, 14];

fn engine_kind(error: &sqlx::Error) -> StoreErrorKind {
    let passing = match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(refused) => refused
            .code()
            .and_then(|code| code.parse::<u32>().ok())
            // The low byte is the primary code, the rest says more.
            .is_some_and(|code| PASSING_CODES.contains(&(code & 0xff))),
        _ => false,
    };
    if passing {
        StoreErrorKind::Passing
    } else {
        StoreErrorKind::Lasting
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
    use sqlx::{ConnectOptions, raw_sql};
    use std::error::Error as _;
    use std::time::Duration;

    async fn refused(conn: &mut SqliteConnection, text: &'static str) -> StoreError {
        let error = raw_sql(text).execute(conn).await.map(|_| ());
        error.map_err(during("trying")).unwrap_err()
    }

    #[tokio::test]
    async fn a_lock_passes_and_a_mistake_lasts() {
        let dir = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new()
            .filename(dir.path().join("db"))
            .create_if_missing(true)
            .busy_timeout(Duration::ZERO);
        let mut holder = options.connect().await.unwrap();
        let mut other = options.connect().await.unwrap();
        raw_sql("BEGIN IMMEDIATE")
            .execute(&mut holder)
            .await
            .unwrap();

        let locked = refused(&mut other, "BEGIN IMMEDIATE").await;
        assert_eq!(locked.kind(), StoreErrorKind::Passing);
        let mistaken = refused(&mut other, "SELECT FROM").await;
        assert_eq!(mistaken.kind(), StoreErrorKind::Lasting);

        let source = locked.source().unwrap().to_string();
        assert!(!locked.to_string().contains(&source));
    }
}
