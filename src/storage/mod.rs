//! The database: history in Ceilometer's own tables, and beside it the present, in tables of ours.
//!
//! [`Database`] is the door. Behind it `rows`, `json`, `seen` and `plan` are pure and decide what is
//! written; `engine` connects, and `sql` holds the texts, both once for each kind of database; `schema`
//! and `dbsync` make the tables, `writer` (with `history` and `memory`) stores, `fleet` reads.

mod dbsync;
mod engine;
mod error;
mod fleet;
mod history;
mod json;
mod link;
mod memory;
mod plan;
mod rows;
mod schema;
mod seen;
mod sql;
mod statements;
mod writer;

use std::fmt;
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::model::{Received, Secret};

pub use error::{StoreError, StoreErrorKind};
pub use fleet::Fleet;
pub use rows::{Prepared, RowRefusal};
pub use writer::StoreReport;

use engine::{Access, Target};
use link::Link;
use rows::Row;
use writer::Writer;

/// An open database. Reading never waits for writing: each has a connection of its own, which is
/// opened anew after it failed.
pub struct Database {
    shown: String,
    writer: Option<Mutex<Writer>>,
    reader: Mutex<Link>,
}

impl Database {
    /// Opens a database for storing and reading, by its SQLAlchemy URL.
    ///
    /// Fails if [`Database::dbsync`] of this very build hasn't been run on it.
    pub async fn open(connection: &Secret) -> Result<Database, StoreError> {
        let target = Target::of(connection)?;
        let writer = Writer::open(target.clone()).await?;
        Database::with(target, Some(writer)).await
    }

    /// Opens a database for reading alone.
    pub async fn open_read_only(connection: &Secret) -> Result<Database, StoreError> {
        Database::with(Target::of(connection)?, None).await
    }

    async fn with(target: Target, writer: Option<Writer>) -> Result<Database, StoreError> {
        let reader = Link::open(target, Access::Read).await?;
        Ok(Database {
            shown: reader.shown(),
            writer: writer.map(Mutex::new),
            reader: Mutex::new(reader),
        })
    }

    /// Creates the file and the tables as far as they are missing, and takes over a Ceilometer
    /// database with its data. Returns what was done, a line each.
    ///
    /// All or nothing where the engine can undo the making of tables; else another run completes what
    /// one that was ended midway began. A second time there is nothing to do. A newer schema of ours and another
    /// `migrate_version` are refused, and such a file is left as it was.
    pub async fn dbsync(connection: &Secret) -> Result<Vec<String>, StoreError> {
        dbsync::dbsync(&Target::of(connection)?).await
    }

    /// Widens `sample.id` to 64 bits where a taken-over database has fewer; tells what it does while it
    /// does it. It may take hours, and readings are not stored meanwhile.
    pub async fn widen(
        connection: &Secret,
        tell: &(dyn Fn(String) + Send + Sync),
    ) -> Result<(), StoreError> {
        dbsync::widen(&Target::of(connection)?, tell).await
    }

    /// The share of the numbers of samples that is still free.
    pub async fn sample_id_headroom(&self) -> Result<f64, StoreError> {
        let mut reader = self.reader.lock().await;
        let (mut session, _) = reader.take().await?;
        let ids = dbsync::sample_ids(&mut *session).await;
        let ids = reader.put_back(session, ids).await?;
        Ok(ids.headroom())
    }

    /// Stores a batch, all of it or nothing, but for single rows that can't be stored.
    ///
    /// Storing a batch again, after an error or because it came twice, changes nothing. What it
    /// stored is visible to every other connection when it returns.
    pub async fn store(&self, batch: &[Received]) -> Result<StoreReport, StoreError> {
        self.store_rows(rows::rows_of(batch)).await
    }

    /// The same for a batch whose rows were worked out while something else was being stored.
    pub async fn store_prepared(&self, batch: &Prepared) -> Result<StoreReport, StoreError> {
        self.store_rows(batch.rows()).await
    }

    /// Moves the states of these readings as far as they are newer, ahead of their history: that, and
    /// what was seen, stays as it is, so that each may still be stored as history once.
    ///
    /// Returns how many states moved.
    pub async fn store_states(&self, readings: &[Arc<Received>]) -> Result<u64, StoreError> {
        let writer = self.writer.as_ref().ok_or(StoreError::ReadOnly)?;
        let (rows, _) = rows::rows_of(readings);
        writer.lock().await.store_states(rows).await
    }

    async fn store_rows(
        &self,
        rows: (Vec<Row<'_>>, Vec<(usize, RowRefusal)>),
    ) -> Result<StoreReport, StoreError> {
        let writer = self.writer.as_ref().ok_or(StoreError::ReadOnly)?;
        writer.lock().await.store(rows).await
    }

    /// The whole present, at one moment.
    pub async fn fleet(&self) -> Result<Fleet, StoreError> {
        let mut reader = self.reader.lock().await;
        let (mut session, _) = reader.take().await?;
        let fleet = fleet::read(&mut *session).await;
        reader.put_back(session, fleet).await
    }

    /// Closes the connections. Everything stored is on the disk already, so an error here has
    /// nothing to say.
    pub async fn close(self) {
        self.reader.into_inner().close().await;
        if let Some(writer) = self.writer {
            writer.into_inner().close().await;
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("database", &self.shown)
            .field("read_only", &self.writer.is_none())
            .finish_non_exhaustive()
    }
}
