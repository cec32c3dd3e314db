//! The database: history in Ceilometer's own tables, and beside it the present, in tables of ours.
//!
//! [`Database`] is the door. Behind it `rows`, `json`, `seen` and `plan` are pure and decide what is
//! written; `sql` and `schema` hold the texts; `connect`, `dbsync`, `writer` (with
//! `history`, `memory` and `statements`) and `fleet` do the input and output, for SQLite so far.

mod connect;
mod dbsync;
mod error;
mod fleet;
mod history;
mod json;
mod memory;
mod plan;
mod rows;
mod schema;
mod seen;
mod sql;
mod statements;
mod writer;

use std::fmt;
use std::path::PathBuf;

use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::Mutex;

use crate::model::{Received, Secret};

pub use error::{StoreError, StoreErrorKind};
pub use fleet::Fleet;
pub use rows::RowRefusal;
pub use writer::StoreReport;

use writer::Writer;

/// An open database. Reading never waits for writing: each has a connection of its own.
pub struct Database {
    path: PathBuf,
    writer: Option<Mutex<Writer>>,
    reader: Mutex<SqliteConnection>,
}

impl Database {
    /// Opens a database for storing and reading, by its SQLAlchemy URL.
    ///
    /// Fails if [`Database::dbsync`] of this very build hasn't been run on it.
    pub async fn open(connection: &Secret) -> Result<Database, StoreError> {
        let path = connect::file_of(connection)?;
        connect::must_exist(&path).await?;
        let mut conn = connect::connect(&path).await?;
        connect::check(&mut conn, &path).await?;
        connect::log_ahead(&mut conn).await?;
        let reader = connect::connect_read_only(&path).await?;
        Ok(Database {
            path,
            writer: Some(Mutex::new(Writer::new(conn))),
            reader: Mutex::new(reader),
        })
    }

    /// Opens a database for reading alone.
    pub async fn open_read_only(connection: &Secret) -> Result<Database, StoreError> {
        let path = connect::file_of(connection)?;
        connect::must_exist(&path).await?;
        let mut reader = connect::connect_read_only(&path).await?;
        connect::check(&mut reader, &path).await?;
        Ok(Database {
            path,
            writer: None,
            reader: Mutex::new(reader),
        })
    }

    /// Creates the file and the tables as far as they are missing, and takes over a Ceilometer
    /// database with its data. Returns what was done, a line each.
    ///
    /// All or nothing, and a second time there is nothing to do. A newer schema of ours and another
    /// `migrate_version` are refused, and such a file is left as it was.
    pub async fn dbsync(connection: &Secret) -> Result<Vec<String>, StoreError> {
        dbsync::dbsync(&connect::file_of(connection)?).await
    }

    /// Stores a batch, all of it or nothing, but for single rows that can't be stored.
    ///
    /// Storing a batch again, after an error or because it came twice, changes nothing. What it
    /// stored is visible to every other connection when it returns.
    pub async fn store(&self, batch: &[Received]) -> Result<StoreReport, StoreError> {
        let writer = self.writer.as_ref().ok_or(StoreError::ReadOnly)?;
        writer.lock().await.store(batch).await
    }

    /// The whole present, at one moment.
    pub async fn fleet(&self) -> Result<Fleet, StoreError> {
        fleet::read(&mut *self.reader.lock().await).await
    }

    /// Closes the connections. Everything stored is on the disk already, so an error here has
    /// nothing to say.
    pub async fn close(self) {
        let _ = self.reader.into_inner().close().await;
        if let Some(writer) = self.writer {
            writer.into_inner().close().await;
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("path", &self.path)
            .field("read_only", &self.writer.is_none())
            .finish_non_exhaustive()
    }
}
