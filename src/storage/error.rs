//! What can go wrong between us and the database, and whether trying again can help.

use std::path::PathBuf;

use sqlx::error::DatabaseError;
use sqlx::mysql::MySqlDatabaseError;
use thiserror::Error;

use crate::config::ConnectionError;

/// An operation on the database that did not happen. Nothing of its batch was stored.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The connection is no URL of a kind that we know. It isn't shown: it may hold a password.
    #[error("database connection: expected {0}")]
    Connection(ConnectionError),
    /// The database is not there.
    #[error("database {0} does not exist: run ceilometer-collector-ha dbsync")]
    NoDatabase(String),
    /// The server has no such database, or none for this user.
    #[error(
        "database {database} does not exist, or {user} may not use it: an administrator runs \
         CREATE DATABASE {database} CHARACTER SET utf8; GRANT ALL ON {database}.* TO {user}; \
         then run ceilometer-collector-ha dbsync"
    )]
    NoMysqlDatabase {
        /// The database.
        database: String,
        /// Who would use it.
        user: String,
    },
    /// A server didn't let us in, or isn't there.
    #[error("connecting to {place} as {user}")]
    Connecting {
        /// Who logs in.
        user: String,
        /// Where.
        place: String,
        /// Why not.
        source: sqlx::Error,
    },
    /// The server can be read from alone, as a replica can.
    #[error("connecting to {0}: it is read-only")]
    ReadOnlyServer(String),
    /// No server is named.
    #[error("connecting to {0}: it names no server")]
    NoServer(String),
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
            StoreError::Engine { source, .. } | StoreError::Connecting { source, .. } => {
                engine_kind(source)
            }
            StoreError::File { .. } | StoreError::ReadOnlyServer(_) => StoreErrorKind::Passing,
            StoreError::Connection(_)
            | StoreError::NoDatabase(_)
            | StoreError::NoMysqlDatabase { .. }
            | StoreError::NoServer(_)
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

/// Whether an error is about the values of single rows, so that its batch would be stored but for them.
/// A key that refers to nothing counts as one, although a stale id in memory may be behind it.
pub(crate) fn is_about_data(error: &StoreError) -> bool {
    let StoreError::Engine {
        source: sqlx::Error::Database(refused),
        ..
    } = error
    else {
        return false;
    };
    match refused.try_downcast_ref::<MySqlDatabaseError>() {
        Some(mysql) => {
            mysql_is_about_data(mysql.number(), mysql.code()) && !is_about_ids(mysql.message())
        }
        None => primary_code(&**refused).is_some_and(|code| SQLITE_DATA.contains(&code)),
    }
}

/// Whether a row was meant to belong to another that isn't there, in any engine.
pub(crate) fn is_about_a_missing_row(error: &StoreError) -> bool {
    let StoreError::Engine { source, .. } = error else {
        return false;
    };
    source
        .as_database_error()
        .is_some_and(DatabaseError::is_foreign_key_violation)
}

/// SQLite's primary result codes that another try may not meet again (sqlite.org/rescode.html):
/// BUSY, LOCKED, NOMEM, INTERRUPT, IOERR, FULL, CANTOPEN.
const SQLITE_PASSING: [u32; 7] = [5, 6, 7, 9, 10, 13, 14];

/// Those that a row's values cause: TOOBIG, CONSTRAINT, MISMATCH, RANGE.
const SQLITE_DATA: [u32; 4] = [18, 19, 20, 25];

/// Errors of MySQL and MariaDB that another try, perhaps at another server, may not meet again.
const MYSQL_PASSING: [u16; 24] = [
    3,    // writing a file failed
    1021, // disk full
    1030, // the storage engine reports an error of its own, a full disk among others
    1040, // too many connections
    1047, // Galera: not prepared, as a node without its cluster is
    1053, // shutting down
    1114, // table or tablespace full
    1135, // no thread for a connection
    1159, // reading a packet took too long
    1161, // writing a packet took too long
    1180, // the commit failed
    1203, // the user has too many connections
    1205, // waited too long for a lock
    1213, // deadlock, or Galera's certification failed
    1226, // the user has used up a resource
    1290, // read-only, as a replica is
    1317, // interrupted
    1792, // the transaction is read-only
    1836, // running in read-only mode
    1927, // the connection was killed
    2006, // gone away
    2013, // lost while it answered
    3024, // the statement took too long
    4031, // idle for too long
];

/// Those that a row's values cause, where the SQLSTATE is a general one: null, foreign key, no such
/// number, wrong value.
const MYSQL_DATA: [u16; 10] = [1048, 1062, 1264, 1265, 1292, 1366, 1367, 1406, 1452, 4025];

fn mysql_is_about_data(number: u16, state: Option<&str>) -> bool {
    // 22 is a wrong value and 23 a violated constraint, in every SQL database.
    let by_state = state.is_some_and(|state| state.starts_with("22") || state.starts_with("23"));
    by_state || MYSQL_DATA.contains(&number)
}

/// Whether a message is about a number that the engine gives to a row: a table has run out of them, and
/// no row would do better. Its code is that of a wrong value all the same.
fn is_about_ids(message: &str) -> bool {
    ["column 'id'", "column 'internal_id'", "PRIMARY'"]
        .iter()
        .any(|part| message.contains(part))
}

/// The low byte is the primary code, the rest says more.
fn primary_code(refused: &dyn DatabaseError) -> Option<u32> {
    let code: u32 = refused.code()?.parse().ok()?;
    Some(code & 0xff)
}

fn engine_kind(error: &sqlx::Error) -> StoreErrorKind {
    let passing = match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(refused) => match refused.try_downcast_ref::<MySqlDatabaseError>() {
            Some(mysql) => MYSQL_PASSING.contains(&mysql.number()),
            None => primary_code(&**refused).is_some_and(|code| SQLITE_PASSING.contains(&code)),
        },
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
        assert!(!is_about_data(&locked) && !is_about_data(&mistaken));

        let source = locked.source().unwrap().to_string();
        assert!(!locked.to_string().contains(&source));
    }

    #[tokio::test]
    async fn what_a_row_s_values_cause_is_told_from_what_ails_the_database() {
        let mut conn = SqliteConnectOptions::new().connect().await.unwrap();
        raw_sql(
            "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT NOT NULL);
             CREATE TABLE of_t (a INTEGER REFERENCES t (a));",
        )
        .execute(&mut conn)
        .await
        .unwrap();
        for (text, is_data) in [
            ("INSERT INTO t VALUES (1, NULL)", true),
            ("INSERT INTO t VALUES ('x', '')", true),
            ("INSERT INTO t VALUES (1, zeroblob(1 << 31))", true),
            ("INSERT INTO of_t VALUES (7)", true),
            ("INSERT INTO nowhere VALUES (1)", false),
        ] {
            let error = refused(&mut conn, text).await;
            assert_eq!(is_about_data(&error), is_data, "{text}: {error:?}");
            let is_missing = text.contains("of_t");
            assert_eq!(is_about_a_missing_row(&error), is_missing, "{text}");
            assert_eq!(error.kind(), StoreErrorKind::Lasting, "{text}");
        }
        assert!(mysql_is_about_data(1366, Some("HY000")));
        assert!(mysql_is_about_data(4025, Some("23000")));
        assert!(!mysql_is_about_data(1146, Some("42S02")));
    }
}
