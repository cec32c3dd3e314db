//! The database: history in Ceilometer's own tables, and beside it the present, in tables of ours.
//!
//! [`Database`] is the door. Behind it `rows`, `json`, `seen`, `plan`, `identity`, `complete`, `refused`,
//! `parts` and `about` are pure and decide what is written; `engine` connects, and `sql` holds the texts,
//! both once for each kind of database; `schema` and `dbsync` make the tables, `writer` (with `history`,
//! `observers`, `rounds`, `quarantine` and `memory`) stores, `retention` (with
//! `sweep`) deletes, `fleet` reads the present and `reading` (with `conditions`) history, `forget` forgets a host, `reset`
//! lets a lower epoch of it be the present, and `retired` keeps what either ended from coming back;
//! `host_keys` remembers who proved himself by which key.

mod about;
mod complete;
mod conditions;
mod dbsync;
mod engine;
mod error;
mod fleet;
mod forget;
mod history;
mod host_keys;
mod identity;
mod json;
mod link;
mod memory;
mod observers;
mod parts;
mod plan;
mod quarantine;
mod reading;
mod refused;
mod reset;
mod retention;
mod retired;
mod rounds;
mod rows;
mod schema;
mod seen;
mod sql;
mod statements;
mod sweep;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::model::{Fleet, Quarantined, QuarantinedMessage, Received, Secret};
use crate::query::{Cell, Filter, Group};

pub use error::{StoreError, StoreErrorKind};
pub use forget::{ForgetOptions, Forgetting, Forgotten};
pub use host_keys::HostKeyUse;
pub use observers::IdentityConflict;
pub use reading::{Resources, Samples};
pub use reset::{Reset, Resetting};
pub use rows::{HeldBack, Prepared, RowRefusal};
pub use sweep::{Reach, Sweep, Swept};
pub use writer::StoreReport;

use engine::{Access, Target};
use link::Link;
use writer::Writer;

/// Asks by the connection that reads, and lets go of it at once. A macro, because a closure that lends
/// a session out can't be told to be `Send` in all its lifetimes.
macro_rules! by_reader {
    ($database:ident, |$session:ident| $asked:expr) => {{
        let mut reader = $database.reader.lock().await;
        let (mut session, _) = reader.take().await?;
        let $session = &mut *session;
        let answer = $asked.await;
        reader.put_back(session, answer).await
    }};
}

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

    /// The same for a server that may be away just now: then storing and reading connect when they are
    /// asked to. What it is away for is told beside.
    pub async fn open_or_wait(
        connection: &Secret,
    ) -> Result<(Database, Option<StoreError>), StoreError> {
        match Database::open(connection).await {
            Ok(database) => Ok((database, None)),
            Err(error) if error.kind() == StoreErrorKind::Passing => {
                let target = Target::of(connection)?;
                let writer = Writer::away(target.clone());
                let reader = Link::away(target, Access::Read);
                Ok((Database::of(Some(writer), reader), Some(error)))
            }
            Err(error) => Err(error),
        }
    }

    /// Opens a database for reading alone.
    pub async fn open_read_only(connection: &Secret) -> Result<Database, StoreError> {
        Database::with(Target::of(connection)?, None).await
    }

    async fn with(target: Target, writer: Option<Writer>) -> Result<Database, StoreError> {
        Ok(Database::of(
            writer,
            Link::open(target, Access::Read).await?,
        ))
    }

    fn of(writer: Option<Writer>, reader: Link) -> Database {
        Database {
            shown: reader.shown(),
            writer: writer.map(Mutex::new),
            reader: Mutex::new(reader),
        }
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
        let ids = by_reader!(self, |session| dbsync::sample_ids(session))?;
        Ok(ids.headroom())
    }

    /// Stores a batch, all of it or nothing, but for single rows that can't be stored.
    ///
    /// Storing a batch again, after an error or because it came twice, changes nothing. What it
    /// stored is visible to every other connection when it returns.
    pub async fn store(&self, batch: &[Received]) -> Result<StoreReport, StoreError> {
        let messages = batch.iter().cloned().map(Arc::new).collect();
        self.store_prepared(&Prepared::new(messages)).await
    }

    /// The same for a batch whose rows were worked out while something else was being stored.
    pub async fn store_prepared(&self, batch: &Prepared) -> Result<StoreReport, StoreError> {
        let writer = self.writer.as_ref().ok_or(StoreError::ReadOnly)?;
        writer.lock().await.store(batch).await
    }

    /// Moves the states of these readings as far as they are new and newer, ahead of their history:
    /// that, and what was seen, stays as it is, so that each may still be stored as history once.
    ///
    /// Returns how many states moved.
    pub async fn store_states(&self, readings: &[Arc<Received>]) -> Result<u64, StoreError> {
        let writer = self.writer.as_ref().ok_or(StoreError::ReadOnly)?;
        let (rows, _) = rows::rows_of(readings);
        writer.lock().await.store_states(rows).await
    }

    /// Does the next step of a pass of the retention; returns what it deleted. Each step is short, so
    /// that no batch waits long for it. Whoever goes through a pass leaves others room between them.
    ///
    /// What fails can be tried again, or given up: it was done or not, as a whole.
    pub async fn sweep(&self, sweep: &mut Sweep) -> Result<Swept, StoreError> {
        if sweep.is_over() {
            return Ok(Swept::default());
        }
        let looked = by_reader!(self, |session| retention::look(session, sweep))?;
        let swept = match looked.task {
            Some(_) if sweep.is_dry() => looked.found,
            Some(task) => {
                let writer = self.writer.as_ref().ok_or(StoreError::ReadOnly)?;
                writer.lock().await.sweep(&task).await?
            }
            None => Swept::default(),
        };
        looked.went.on(sweep);
        Ok(swept)
    }

    /// The whole present, at one moment.
    pub async fn fleet(&self) -> Result<Fleet, StoreError> {
        by_reader!(self, |session| fleet::read(session))
    }

    /// Removes the present of a host; its history, and what was seen of it, stay.
    pub async fn forget(
        &self,
        host: &str,
        options: ForgetOptions,
    ) -> Result<Forgetting, StoreError> {
        let host = host.to_owned();
        let writer = self.writer.as_ref().ok_or(StoreError::ReadOnly)?;
        let mut writer = writer.lock().await;
        writer
            .with_session(move |session| Box::pin(forget::forget(session, host, options)))
            .await
    }

    /// Lets the life of a host that was heard last be its present, though its epoch is lower than another's.
    pub async fn reset_identity(&self, host: &str, dry_run: bool) -> Result<Resetting, StoreError> {
        let host = host.to_owned();
        let writer = self.writer.as_ref().ok_or(StoreError::ReadOnly)?;
        let mut writer = writer.lock().await;
        writer
            .with_session(move |session| Box::pin(reset::reset(session, host, dry_run)))
            .await
    }

    /// Which hosts proved themselves by which keys, and when.
    pub async fn host_key_uses(&self) -> Result<Vec<HostKeyUse>, StoreError> {
        by_reader!(self, |session| host_keys::uses(session))
    }

    /// What is in quarantine, the newest first.
    pub async fn quarantined(&self) -> Result<Vec<Quarantined>, StoreError> {
        by_reader!(self, |session| quarantine::list(session))
    }

    /// One message in quarantine; None if there is none of that id.
    pub async fn quarantined_message(
        &self,
        id: i64,
    ) -> Result<Option<QuarantinedMessage>, StoreError> {
        by_reader!(self, |session| quarantine::show(session, id))
    }

    /// Drops messages from quarantine, these or all; returns the ids that were there.
    pub async fn purge_quarantine(&self, ids: Option<Vec<i64>>) -> Result<Vec<i64>, StoreError> {
        let writer = self.writer.as_ref().ok_or(StoreError::ReadOnly)?;
        let mut writer = writer.lock().await;
        writer
            .with_session(move |session| {
                Box::pin(async move { quarantine::purge(session, ids.as_deref()).await })
            })
            .await
    }

    /// The next samples of an answer, newest first; none if there are no more.
    pub async fn samples(
        &self,
        filter: &Filter,
        page: &mut Samples,
    ) -> Result<Vec<Vec<Cell>>, StoreError> {
        by_reader!(self, |session| reading::samples(session, filter, page))
    }

    /// The next meters of an answer, one for each meter of each resource that has a sample: those whose
    /// newest sample the filter means. None if there are no more.
    pub async fn meters(
        &self,
        filter: &Filter,
        page: &mut Resources,
    ) -> Result<Option<Vec<Vec<Cell>>>, StoreError> {
        by_reader!(self, |session| reading::meters(session, filter, page))
    }

    /// The next resources of an answer: those with samples that the filter means. None if there are no
    /// more.
    pub async fn resources(
        &self,
        filter: &Filter,
        page: &mut Resources,
    ) -> Result<Option<Vec<Vec<Cell>>>, StoreError> {
        by_reader!(self, |session| reading::resources(session, filter, page))
    }

    /// Statistics of the samples that the filter means, by unit, group and period.
    pub async fn statistics(
        &self,
        filter: &Filter,
        period: Option<Duration>,
        groups: &[Group],
    ) -> Result<Vec<Vec<Cell>>, StoreError> {
        by_reader!(self, |session| reading::statistics(
            session, filter, period, groups
        ))
    }

    /// Closes the connections. Everything stored is on the disk already, so an error here has
    /// nothing to say.
    pub async fn close(&self) {
        self.reader.lock().await.close().await;
        if let Some(writer) = &self.writer {
            writer.lock().await.close().await;
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
