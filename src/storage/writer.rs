//! Storing a batch in SQLite: one transaction that reads what was seen, asks `plan` what that makes
//! of the batch, and writes it.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Connection as _, FromRow};

use super::error::{StoreError, during};
use super::json::{self, NonFinite};
use super::memory::Memory;
use super::plan::{self, Held, MAX_PATHS, Sorted, StateKey, StatePlan, StateWrite, Windows};
use super::rows::{self, Order, Row, RowRefusal};
use super::seen::SeqSet;
use super::sql;
use super::statements::{Binds, Filled, nth, numbered, statements};
use crate::model::Received;

/// How well the origin of a reading is proven: by the secret that the whole fleet shares.
const QUALITY_SHARED_SECRET: &str = "shared_secret";

/// How many epochs of one observer are remembered. Each start of an agent makes one; an agent that
/// crashes every ten seconds fills it in ten minutes. Readings of older epochs are then refused,
/// because nothing could tell them from duplicates.
const MAX_EPOCHS: i64 = 64;

/// How long message ids of old senders are remembered: longer than a broker that was down over
/// night holds a second copy. A duplicate that comes later is stored twice, as Ceilometer does.
const MESSAGE_HORIZON_MICROS: i64 = 24 * 3600 * 1_000_000;

/// How many expired message ids one batch may sweep out: more than it can bring in, so that the
/// table shrinks, and few enough not to delay it.
const MESSAGES_SWEPT_MAX: i64 = 4096;

/// What became of a batch. Each row is counted once, in `stored`, `duplicates` or `refused`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreReport {
    /// Rows that are now in history.
    pub stored: usize,
    /// Rows that were there already; nothing was changed but the paths they were heard by.
    pub duplicates: usize,
    /// Of the stored ones: those that came after a newer one of their meter and resource, and so
    /// moved no state.
    pub late: usize,
    /// States that moved.
    pub moved: u64,
    /// Gaps in what was seen that were closed because there were too many: a reading that would
    /// still come there will count as a duplicate.
    pub closed_gaps: usize,
    /// Rows that can't be stored, by their index in the batch, in no order.
    pub refused: Vec<(usize, RowRefusal)>,
}

/// The one connection that writes, and what it remembers.
#[derive(Debug)]
pub(crate) struct Writer {
    conn: SqliteConnection,
    memory: Memory,
}

impl Writer {
    /// Takes a connection that was opened for writing.
    pub(crate) fn new(conn: SqliteConnection) -> Self {
        Writer {
            conn,
            memory: Memory::default(),
        }
    }

    /// Stores a batch in one transaction.
    pub(crate) async fn store(&mut self, batch: &[Received]) -> Result<StoreReport, StoreError> {
        let (rows, refused) = rows::rows_of(batch);
        let mut report = StoreReport {
            refused,
            ..StoreReport::default()
        };
        if rows.is_empty() {
            return Ok(report);
        }
        let Writer { conn, memory } = self;
        // Immediate: the lock is taken before anything is read, so what was read stays true.
        let mut tx = conn
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(during("beginning to store a batch"))?;
        memory.check(&mut tx).await?;
        let mut pass = Pass::begin(&mut tx, memory).await?;
        pass.store(rows, &mut report).await?;
        let learned = pass.learned;
        tx.commit().await.map_err(during("committing a batch"))?;
        // Only now is it certain that the ids exist.
        memory.take_in(learned);
        Ok(report)
    }

    /// Closes the connection.
    pub(crate) async fn close(self) {
        let _ = self.conn.close().await;
    }
}

/// One batch within its transaction.
pub(crate) struct Pass<'t> {
    /// The connection that the transaction is open on.
    pub(crate) conn: &'t mut SqliteConnection,
    /// The database's clock, taken once the lock was held.
    pub(crate) now: i64,
    /// What earlier batches learned.
    pub(crate) memory: &'t Memory,
    /// What this one learns.
    pub(crate) learned: Memory,
    /// Observers that the batch brings a further epoch of.
    restarted: BTreeSet<String>,
}

impl<'t> Pass<'t> {
    async fn begin(conn: &'t mut SqliteConnection, memory: &'t Memory) -> Result<Self, StoreError> {
        let now = sqlx::query_scalar(sql::NOW)
            .fetch_one(&mut *conn)
            .await
            .map_err(during("reading the database's clock"))?;
        Ok(Pass {
            conn,
            now,
            memory,
            learned: Memory::default(),
            restarted: BTreeSet::new(),
        })
    }

    async fn store(
        &mut self,
        rows: Vec<Row<'_>>,
        report: &mut StoreReport,
    ) -> Result<(), StoreError> {
        let mut windows = self.windows(&rows).await?;
        let mut fresh = self.fresh_messages(&rows).await?;
        let sorted = plan::sort_out(rows, &mut windows, &mut fresh);
        report.closed_gaps = plan::close_gaps(&mut windows);
        report.stored = sorted.new.len();
        report.duplicates = sorted.duplicates.len();
        report.refused.extend_from_slice(&sorted.refused);

        self.put_samples(&sorted.new).await?;
        let held = self.held_states(&sorted).await?;
        let states = plan::plan_states(&sorted, held);
        report.late = states.late;
        report.moved = self.put_states(&states).await?;
        self.put_paths(&sorted).await?;
        self.put_windows(&sorted, &windows).await
    }

    /// What was seen of each observer and epoch that the batch speaks of.
    async fn windows<'a>(&mut self, rows: &[Row<'a>]) -> Result<Windows<'a>, StoreError> {
        let keys: BTreeSet<(&'a str, i64)> = rows
            .iter()
            .filter_map(|row| row.ours.map(|ours| (ours.observer, ours.order.epoch)))
            .collect();
        let keys: Vec<_> = keys.into_iter().collect();
        let found: Vec<(i64, Vec<u8>)> = self
            .read(
                statements(
                    &sql::SEEN,
                    &numbered(&keys),
                    |binds, (n, (observer, epoch))| {
                        binds.put(n).put(observer).put(epoch);
                    },
                ),
                "reading what was seen",
            )
            .await?;
        let mut windows = Windows::new();
        for (n, runs) in found {
            if let Some(&(observer, epoch)) = nth(&keys, n) {
                let seen = SeqSet::decode(&runs).map_err(|_| StoreError::Damaged {
                    table: "ha_seen",
                    subject: format!("{observer} {epoch}"),
                })?;
                windows.insert((observer, epoch), Some(seen));
            }
        }
        for key in keys {
            if let Entry::Vacant(unknown) = windows.entry(key) {
                unknown.insert(self.begin_window(key).await?);
            }
        }
        Ok(windows)
    }

    /// An empty window, or None if the epoch is so old that it may have been forgotten.
    async fn begin_window(
        &mut self,
        (observer, epoch): (&str, i64),
    ) -> Result<Option<SeqSet>, StoreError> {
        let (count, oldest): (i64, Option<i64>) = sqlx::query_as(sql::EPOCHS)
            .bind(observer)
            .fetch_one(&mut *self.conn)
            .await
            .map_err(during("counting an observer's epochs"))?;
        if count >= MAX_EPOCHS && oldest.is_some_and(|oldest| epoch < oldest) {
            return Ok(None);
        }
        self.restarted.insert(observer.to_owned());
        Ok(Some(SeqSet::default()))
    }

    /// Remembers the ids of old senders' messages; gives back those that were new.
    async fn fresh_messages(&mut self, rows: &[Row<'_>]) -> Result<HashSet<String>, StoreError> {
        let ids: BTreeSet<&str> = rows
            .iter()
            .filter(|row| row.ours.is_none())
            .map(|row| row.received.message_id.as_str())
            .collect();
        if ids.is_empty() {
            return Ok(HashSet::new());
        }
        sqlx::query(sql::TRIM_MESSAGES)
            .bind(self.now - MESSAGE_HORIZON_MICROS)
            .bind(MESSAGES_SWEPT_MAX)
            .execute(&mut *self.conn)
            .await
            .map_err(during("forgetting old message ids"))?;
        let ids: Vec<&str> = ids.into_iter().collect();
        let now = self.now;
        let fresh: Vec<(String,)> = self
            .read(
                statements(&sql::PUT_MESSAGES, &ids, |binds, id| {
                    binds.put(*id).put(now);
                }),
                "remembering message ids",
            )
            .await?;
        Ok(fresh.into_iter().map(|(id,)| id).collect())
    }

    async fn held_states<'a>(
        &mut self,
        sorted: &Sorted<'a>,
    ) -> Result<BTreeMap<StateKey<'a>, Option<Held>>, StoreError> {
        let mut held: BTreeMap<StateKey<'a>, Option<Held>> = sorted
            .new
            .iter()
            .chain(&sorted.duplicates)
            .filter_map(StateKey::of)
            .map(|key| (key, None))
            .collect();
        let keys: Vec<StateKey<'a>> = held.keys().copied().collect();
        let found: Vec<(i64, i64, i64, String)> = self
            .read(
                statements(&sql::STATES, &numbered(&keys), |binds, (n, key)| {
                    let StateKey {
                        observer,
                        meter,
                        resource_id,
                    } = key;
                    binds.put(n).put(observer).put(meter).put(resource_id);
                }),
                "reading states",
            )
            .await?;
        for (n, epoch, seq, paths) in found {
            if let Some(key) = nth(&keys, n) {
                let paths = json::read_texts(&paths).map_err(|_| StoreError::Damaged {
                    table: "ha_state",
                    subject: format!("{} {} {}", key.observer, key.meter, key.resource_id),
                })?;
                let order = Order { epoch, seq };
                held.insert(*key, Some(Held { order, paths }));
            }
        }
        Ok(held)
    }

    async fn put_states(&mut self, plan: &StatePlan<'_, '_>) -> Result<u64, StoreError> {
        let now = self.now;
        let bind = |binds: &mut Binds, write: &StateWrite<'_, '_>| put_state(binds, write, now);
        let moves = statements(&sql::MOVE_STATES, &plan.moves, bind);
        let moved = self.write(moves, "moving states").await?;
        let heard = statements(&sql::HEAR_STATES, &plan.heard, bind);
        self.write(heard, "adding paths to states").await?;
        Ok(moved)
    }

    async fn put_paths(&mut self, sorted: &Sorted<'_>) -> Result<(), StoreError> {
        let newest = plan::plan_paths(sorted);
        let now = self.now;
        let lines = statements(&sql::PUT_PATHS, &newest, |binds, line| {
            let ((observer, path), Order { epoch, seq }) = line;
            binds.put(observer).put(path).put(epoch).put(seq).put(now);
        });
        self.write(lines, "remembering paths").await?;
        let mut grown = BTreeSet::new();
        for ((observer, path), _) in newest {
            let pair = (observer.to_owned(), path.to_owned());
            if !self.memory.paths.contains(&pair) {
                self.learned.paths.insert(pair);
                grown.insert(observer);
            }
        }
        for observer in grown {
            let most = i64::try_from(MAX_PATHS).unwrap_or(i64::MAX);
            self.trim(sql::TRIM_PATHS, observer, most).await?;
        }
        Ok(())
    }

    async fn put_windows(
        &mut self,
        sorted: &Sorted<'_>,
        windows: &Windows<'_>,
    ) -> Result<(), StoreError> {
        let changed: BTreeSet<(&str, i64)> = sorted
            .new
            .iter()
            .filter_map(|row| row.ours.map(|ours| (ours.observer, ours.order.epoch)))
            .collect();
        let lines: Vec<_> = changed
            .iter()
            .filter_map(|key| Some((key, windows.get(key)?.as_ref()?)))
            .collect();
        let puts = statements(&sql::PUT_SEEN, &lines, |binds, (key, seen)| {
            let (observer, epoch) = key;
            binds.put(observer).put(epoch).put(seen.encode());
        });
        self.write(puts, "writing what was seen").await?;
        for observer in std::mem::take(&mut self.restarted) {
            self.trim(sql::TRIM_EPOCHS, &observer, MAX_EPOCHS).await?;
        }
        Ok(())
    }

    async fn trim(
        &mut self,
        text: &'static str,
        observer: &str,
        most: i64,
    ) -> Result<(), StoreError> {
        sqlx::query(text)
            .bind(observer)
            .bind(most)
            .execute(&mut *self.conn)
            .await
            .map_err(during("forgetting what an observer has too much of"))?;
        Ok(())
    }

    /// Runs statements that ask; returns all their answers.
    pub(crate) async fn read<T>(
        &mut self,
        statements: Vec<Filled>,
        operation: &'static str,
    ) -> Result<Vec<T>, StoreError>
    where
        T: for<'r> FromRow<'r, SqliteRow> + Send + Unpin,
    {
        let mut all = Vec::new();
        for Filled { text, binds } in statements {
            let arguments = binds.finish().map_err(during(operation))?;
            let rows: Vec<T> = sqlx::query_as_with(AssertSqlSafe(text), arguments)
                .fetch_all(&mut *self.conn)
                .await
                .map_err(during(operation))?;
            all.extend(rows);
        }
        Ok(all)
    }

    /// Runs statements; returns how many rows they changed.
    pub(crate) async fn write(
        &mut self,
        statements: Vec<Filled>,
        operation: &'static str,
    ) -> Result<u64, StoreError> {
        let mut changed = 0;
        for Filled { text, binds } in statements {
            let arguments = binds.finish().map_err(during(operation))?;
            changed += sqlx::query_with(AssertSqlSafe(text), arguments)
                .execute(&mut *self.conn)
                .await
                .map_err(during(operation))?
                .rows_affected();
        }
        Ok(changed)
    }
}

fn put_state(binds: &mut Binds, write: &StateWrite<'_, '_>, now: i64) {
    let StateWrite { row, ours, paths } = write;
    binds
        .put(ours.observer)
        .put(&row.received.meter.name)
        .put(&row.received.resource_id)
        .put(ours.order.epoch)
        .put(ours.order.seq)
        .put(ours.volume)
        .put(QUALITY_SHARED_SECRET)
        .put(ours.observed_at.unix_micros())
        .put(now)
        .put(json::write_map(
            row.received.metadata.as_map().unwrap_or_default(),
            NonFinite::AsNull,
        ))
        .put(json::write_texts(paths));
}
