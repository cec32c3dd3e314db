//! Storing a batch: one transaction that reads what was seen, asks `plan` what that makes
//! of the batch, and writes it.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::engine::{Access, Bind, Session, Standing, Target};
use super::error::{StoreError, during, is_about_a_missing_row, is_about_data};
use super::json::{self, NonFinite};
use super::link::{Link, ask, now, read, run, write};
use super::memory::{Learned, Memory};
use super::observers::IdentityConflict;
use super::parts::{Part, Parts};
use super::plan::{self, Held, MAX_PATHS, Sorted, StateKey, StatePlan, StateWrite, Windows};
use super::quarantine;
use super::refused::Refused;
use super::retention::{self, Task};
use super::rows::{self, HeldBack, Order, Ours, Prepared, Row, RowRefusal};
use super::seen::SeqSet;
use super::sql::{self, Dialect};
use super::statements::{Binds, nth, numbered, statements};
use super::sweep::Swept;
use crate::events::Chain;
use crate::model::{Proof, Received, Value};

/// How well the origin of a reading is proven, as `ha_state` says it.
fn quality(proof: Proof) -> &'static str {
    match proof {
        Proof::SharedSecret => "shared_secret",
        Proof::HostKey(_) => "host_key",
    }
}

/// How many epochs of one observer are remembered. Each start of an agent makes one; an agent that
/// crashes every ten seconds fills it in ten minutes. Readings of older epochs are then refused,
/// because nothing could tell them from duplicates.
const MAX_EPOCHS: i64 = 64;

/// How long message ids of old senders are remembered: longer than a broker that was down over
/// night holds a second copy. A duplicate that comes later is stored twice, as Ceilometer does.
pub(crate) const MESSAGE_HORIZON_MICROS: i64 = 24 * 3600 * 1_000_000;

/// How many expired message ids one batch may sweep out: more than it can bring in, so that the
/// table shrinks, and few enough not to delay it.
pub(crate) const MESSAGES_SWEPT_MAX: i64 = 4096;

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
    /// Of the stored ones: those that are history alone, however new they are, by
    /// [`HeldBack::ALL`].
    pub held_back: [usize; HeldBack::ALL.len()],
    /// States that moved.
    pub moved: u64,
    /// Gaps in what was seen that were closed because there were too many: a reading that would
    /// still come there will count as a duplicate.
    pub closed_gaps: usize,
    /// Rows that can't be stored, by their index in the batch, in no order.
    pub refused: Vec<(usize, RowRefusal)>,
    /// How many of these are in quarantine now and weren't before.
    pub quarantined: u64,
    /// Messages that are in quarantine no more, or couldn't even be put there.
    pub quarantine_dropped: u64,
    /// How many messages are in quarantine, where that may have changed.
    pub quarantine_size: Option<u64>,
    /// Observers of which an earlier life goes on beside the newest.
    pub conflicts: Vec<IdentityConflict>,
}

impl StoreReport {
    /// Adds what became of a part of the batch that begins at an index.
    fn add(&mut self, part: StoreReport, first: usize) {
        let StoreReport {
            stored,
            duplicates,
            late,
            held_back,
            moved,
            closed_gaps,
            refused,
            quarantined,
            quarantine_dropped,
            quarantine_size,
            conflicts,
        } = part;
        self.stored += stored;
        self.duplicates += duplicates;
        self.late += late;
        for (sum, count) in self.held_back.iter_mut().zip(held_back) {
            *sum += count;
        }
        self.moved += moved;
        self.closed_gaps += closed_gaps;
        let refused = refused.into_iter();
        self.refused
            .extend(refused.map(|(index, refusal)| (first + index, refusal)));
        self.quarantined += quarantined;
        self.quarantine_dropped += quarantine_dropped;
        self.quarantine_size = quarantine_size.or(self.quarantine_size);
        self.conflicts.extend(conflicts);
    }
}

/// The one connection that writes, and what it remembers.
pub(crate) struct Writer {
    link: Link,
    memory: Memory,
}

impl Writer {
    /// Connects.
    pub(crate) async fn open(target: Target) -> Result<Self, StoreError> {
        Ok(Writer {
            link: Link::open(target, Access::Write).await?,
            memory: Memory::default(),
        })
    }

    /// Leaves connecting to the first batch.
    pub(crate) fn away(target: Target) -> Self {
        Writer {
            link: Link::away(target, Access::Write),
            memory: Memory::default(),
        }
    }

    /// Stores a batch in one transaction; in several where the engine refuses the data of single
    /// rows, so that each of these costs itself alone.
    pub(crate) async fn store(&mut self, batch: &Prepared) -> Result<StoreReport, StoreError> {
        let mut report = StoreReport::default();
        let mut parts = Parts::of(batch.messages().len());
        while let Some(part) = parts.take() {
            let first = part.range.start;
            let error = match self.store_part(batch, &part).await {
                Ok(stored) => {
                    report.add(stored, first);
                    continue;
                }
                Err(error) if is_about_data(&error) => error,
                Err(error) => return Err(error),
            };
            self.memory.forget();
            let words = Chain(&error).to_string();
            if !parts.refused(part, is_about_a_missing_row(&error), &words) {
                report.refused.push((first, RowRefusal::DatabaseRefused));
                report.quarantine_dropped += 1;
            }
        }
        Ok(report)
    }

    async fn store_part(
        &mut self,
        batch: &Prepared,
        part: &Part,
    ) -> Result<StoreReport, StoreError> {
        let messages = batch.messages().get(part.range.clone()).unwrap_or_default();
        if messages.is_empty() {
            return Ok(StoreReport::default());
        }
        let (rows, refused) = match &part.condemned {
            None => batch.rows(part.range.clone()),
            Some(_) => (Vec::new(), vec![(0, RowRefusal::DatabaseRefused)]),
        };
        let report = StoreReport {
            refused,
            ..StoreReport::default()
        };
        let mut session = self.session().await?;
        let words = part.condemned.as_deref();
        let messages = Messages { messages, words };
        let result = store_rows(&mut *session, &mut self.memory, rows, report, messages).await;
        self.link.put_back(session, result).await
    }

    /// Moves the states of these rows in a transaction of its own, ahead of their history; returns how
    /// many moved.
    ///
    /// No row is marked as seen, so each may still come as history, and then finds its state done. One
    /// that was seen already moves nothing: it would bring back a host that was forgotten.
    pub(crate) async fn store_states(&mut self, rows: Vec<Row<'_>>) -> Result<u64, StoreError> {
        if rows.is_empty() {
            return Ok(0);
        }
        let mut session = self.session().await?;
        let result = show_rows(&mut *session, &mut self.memory, rows).await;
        self.link.put_back(session, result).await
    }

    async fn session(&mut self) -> Result<Box<dyn Session>, StoreError> {
        let (session, is_known) = self.link.take().await?;
        if !is_known {
            self.memory.forget();
        }
        Ok(session)
    }

    /// Works on the quarantine, or forgets a host, over this connection.
    pub(crate) async fn with_session<T>(
        &mut self,
        work: impl for<'s> FnOnce(
            &'s mut dyn Session,
        )
            -> Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 's>>,
    ) -> Result<T, StoreError> {
        let (mut session, _) = self.link.take().await?;
        // Others' writes are noticed by the session itself; our own aren't.
        self.memory.forget();
        let result = work(&mut *session).await;
        self.link.put_back(session, result).await
    }

    /// Deletes what retention found, in a transaction of its own.
    pub(crate) async fn sweep(&mut self, task: &Task) -> Result<Swept, StoreError> {
        let mut session = self.session().await?;
        let result = sweep_rows(&mut *session, &mut self.memory, task).await;
        self.link.put_back(session, result).await
    }

    /// Closes the connection.
    pub(crate) async fn close(&mut self) {
        self.link.close().await;
    }
}

async fn sweep_rows(
    session: &mut dyn Session,
    memory: &mut Memory,
    task: &Task,
) -> Result<Swept, StoreError> {
    let standing = session
        .begin_write()
        .await
        .map_err(during("beginning to delete what is past its time"))?;
    // Whoever asks is told once: what a batch would learn from the answer is lost on it now.
    if standing == Standing::OthersWrote || task.takes_ids() {
        memory.forget();
    }
    let swept = retention::carry_out(session, task).await?;
    session
        .commit()
        .await
        .map_err(during("committing a deletion"))?;
    Ok(swept)
}

async fn store_rows(
    session: &mut dyn Session,
    memory: &mut Memory,
    rows: Vec<Row<'_>>,
    mut report: StoreReport,
    messages: Messages<'_>,
) -> Result<StoreReport, StoreError> {
    let mut pass = Pass::begin(&mut *session, memory).await?;
    pass.store(rows, &mut report).await?;
    pass.put_aside(messages, &mut report).await?;
    let learned = pass.learned;
    commit(session, memory, learned).await?;
    Ok(report)
}

async fn show_rows(
    session: &mut dyn Session,
    memory: &mut Memory,
    rows: Vec<Row<'_>>,
) -> Result<u64, StoreError> {
    let mut pass = Pass::begin(&mut *session, memory).await?;
    let moved = pass.show_ahead(rows).await?;
    let learned = pass.learned;
    commit(session, memory, learned).await?;
    Ok(moved)
}

async fn commit(
    session: &mut dyn Session,
    memory: &mut Memory,
    learned: Learned,
) -> Result<(), StoreError> {
    session
        .commit()
        .await
        .map_err(during("committing a batch"))?;
    // Only now is it certain that what was learned is so.
    memory.take_in(learned);
    Ok(())
}

/// What became of a batch's states.
struct Shown {
    moved: u64,
    late: usize,
    conflicts: Vec<IdentityConflict>,
}

/// The messages that rows were made of, and what the engine says of the only one where it refuses it.
struct Messages<'a> {
    messages: &'a [Arc<Received>],
    words: Option<&'a str>,
}

/// One batch within its transaction.
pub(crate) struct Pass<'t> {
    /// The session that the transaction is open on.
    pub(crate) session: &'t mut dyn Session,
    /// Its texts.
    pub(crate) dialect: &'static Dialect,
    /// The database's clock, taken once the lock was held.
    pub(crate) now: i64,
    /// What earlier batches learned.
    pub(crate) memory: &'t Memory,
    /// What this one learns.
    pub(crate) learned: Learned,
    /// Observers that the batch brings a further epoch of.
    restarted: BTreeSet<String>,
    /// Up to which number epochs move no state again, of those of which something doesn't.
    retired: HashMap<(String, i64), i64>,
}

impl<'t> Pass<'t> {
    async fn begin(
        session: &'t mut dyn Session,
        memory: &'t mut Memory,
    ) -> Result<Self, StoreError> {
        let standing = session
            .begin_write()
            .await
            .map_err(during("beginning to store a batch"))?;
        if standing == Standing::OthersWrote {
            memory.forget();
        }
        let now = now(session).await?;
        Ok(Pass {
            dialect: session.dialect(),
            session,
            now,
            memory,
            learned: Learned::default(),
            restarted: BTreeSet::new(),
            retired: HashMap::new(),
        })
    }

    async fn store(
        &mut self,
        rows: Vec<Row<'_>>,
        report: &mut StoreReport,
    ) -> Result<(), StoreError> {
        let mut rows = storable(rows, self.dialect, &mut report.refused);
        let mut windows = self.windows(&rows).await?;
        self.hold_back_retired(&mut rows);
        let mut fresh = self.fresh_messages(&rows).await?;
        let sorted = plan::sort_out(rows, &mut windows, &mut fresh);
        report.closed_gaps = plan::close_gaps(&mut windows);
        report.stored = sorted.new.len();
        report.duplicates = sorted.duplicates.len();
        report.refused.extend_from_slice(&sorted.refused);
        report.held_back = held_back(&sorted);

        self.put_samples(&sorted.new).await?;
        let shown = self.show(&sorted).await?;
        report.late = shown.late;
        report.moved = shown.moved;
        report.conflicts = shown.conflicts;
        self.put_rounds(&sorted, &windows).await?;
        self.put_windows(&sorted, windows).await
    }

    /// Moves the states of rows that are newer, and leaves what was seen as it was.
    async fn show_ahead(&mut self, rows: Vec<Row<'_>>) -> Result<u64, StoreError> {
        let mut rows = storable(rows, self.dialect, &mut Vec::new());
        let windows = self.windows(&rows).await?;
        self.hold_back_retired(&mut rows);
        let sorted = plan::ahead(rows, &windows);
        let moved = self.show(&sorted).await?.moved;
        // The rest of a round may be stored already, or comes as what waited somewhere.
        self.put_rounds(&sorted, &windows).await?;
        Ok(moved)
    }

    /// What an operator said shall move no state again moves none.
    fn hold_back_retired(&self, rows: &mut [Row<'_>]) {
        if self.retired.is_empty() {
            return;
        }
        for row in rows {
            let Some(Ours {
                observer, order, ..
            }) = row.live()
            else {
                continue;
            };
            let up_to = self.retired.get(&(observer.to_owned(), order.epoch));
            if up_to.is_some_and(|up_to| order.seq <= *up_to) {
                row.held_back = Some(HeldBack::Retired);
            }
        }
    }

    /// Moves states and observers, and remembers paths.
    async fn show(&mut self, sorted: &Sorted<'_>) -> Result<Shown, StoreError> {
        let held = self.held_states(sorted).await?;
        let states = plan::plan_states(sorted, held);
        let moved = self.put_states(&states).await?;
        // Before paths, which only observers have that are there.
        let conflicts = self.put_observers(sorted).await?;
        self.put_paths(sorted).await?;
        self.put_key_uses(sorted).await?;
        let late = states.late;
        Ok(Shown {
            moved,
            late,
            conflicts,
        })
    }

    /// Puts into quarantine what was refused.
    async fn put_aside(
        &mut self,
        Messages { messages, words }: Messages<'_>,
        report: &mut StoreReport,
    ) -> Result<(), StoreError> {
        let refused = report.refused.iter();
        let refused: Vec<Refused<'_>> = refused
            .filter_map(|(index, reason)| {
                Some(Refused {
                    received: messages.get(*index)?,
                    reason: *reason,
                    detail: words.unwrap_or(reason.words()).to_owned(),
                })
            })
            .collect();
        let kept = self.quarantine(&refused).await?;
        report.quarantined = kept.added;
        report.quarantine_dropped = kept.dropped;
        if !refused.is_empty() || !self.memory.knows_quarantine {
            report.quarantine_size = Some(quarantine::count(self.session).await?);
            self.learned.knows_quarantine = true;
        }
        Ok(())
    }

    /// What was seen of each observer and epoch that the batch speaks of.
    async fn windows<'a>(&mut self, rows: &[Row<'a>]) -> Result<Windows<'a>, StoreError> {
        let keys: BTreeSet<(&'a str, i64)> = rows
            .iter()
            .filter_map(|row| row.ours.map(|ours| (ours.observer, ours.order.epoch)))
            .collect();
        let mut windows = Windows::new();
        let mut unknown = Vec::new();
        for key in keys {
            match self.memory.window(key.0, key.1) {
                Some(seen) => drop(windows.insert(key, Some(seen.clone()))),
                None => unknown.push(key),
            }
        }
        let keys = unknown;
        let questions = numbered(&keys);
        let asked = statements(&self.dialect.seen, &questions, |binds, (n, key)| {
            let (observer, epoch) = **key;
            binds.put(*n).put(observer).put(epoch);
        });
        let found: Vec<(i64, Vec<u8>, i64)> =
            read(self.session, asked, "reading what was seen").await?;
        for (n, runs, retired_seq) in found {
            if let Some(&(observer, epoch)) = nth(&keys, n) {
                let seen = SeqSet::decode(&runs).map_err(|_| StoreError::Damaged {
                    table: "ha_seen",
                    subject: format!("{observer} {epoch}"),
                })?;
                windows.insert((observer, epoch), Some(seen));
                if retired_seq > 0 {
                    self.retired
                        .insert((observer.to_owned(), epoch), retired_seq);
                }
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
        let found: Vec<(i64, Option<i64>)> = ask(
            self.session,
            sql::EPOCHS,
            vec![observer.into()],
            "counting an observer's epochs",
        )
        .await?;
        let is_forgotten = found.first().is_some_and(|(count, oldest)| {
            *count >= MAX_EPOCHS && oldest.is_some_and(|oldest| epoch < oldest)
        });
        if is_forgotten {
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
        let horizon = self.now - MESSAGE_HORIZON_MICROS;
        run(
            self.session,
            self.dialect.trim_messages,
            vec![horizon.into(), MESSAGES_SWEPT_MAX.into()],
            "forgetting old message ids",
        )
        .await?;
        let ids: Vec<&str> = ids.into_iter().collect();
        let asked = statements(&sql::KNOWN_MESSAGES, &ids, |binds, id| {
            binds.put(*id);
        });
        let known: Vec<(String,)> = read(self.session, asked, "looking for message ids").await?;
        let known: HashSet<String> = known.into_iter().map(|(id,)| id).collect();
        let fresh: Vec<&str> = ids.into_iter().filter(|id| !known.contains(*id)).collect();
        let now = self.now;
        let puts = statements(&sql::PUT_MESSAGES, &fresh, |binds, id| {
            binds.put(*id).put(now);
        });
        write(self.session, puts, "remembering message ids").await?;
        Ok(fresh.into_iter().map(str::to_owned).collect())
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
        let mut keys = Vec::new();
        for (key, held) in &mut held {
            match self.memory.state(*key) {
                Some(known) => *held = Some(known.clone()),
                None => keys.push(*key),
            }
        }
        let questions = numbered(&keys);
        let asked = statements(&self.dialect.states, &questions, |binds, (n, key)| {
            let StateKey {
                observer,
                meter,
                resource_id,
            } = **key;
            binds.put(*n).put(observer).put(meter).put(resource_id);
        });
        let found: Vec<(i64, i64, i64, String)> =
            read(self.session, asked, "reading states").await?;
        for (n, epoch, seq, paths) in found {
            if let Some(key) = nth(&keys, n) {
                let paths = json::read_texts(&paths).map_err(|_| StoreError::Damaged {
                    table: "ha_state",
                    subject: format!("{} {} {}", key.observer, key.meter, key.resource_id),
                })?;
                let order = Order { epoch, seq };
                let paths = Arc::new(paths);
                held.insert(*key, Some(Held { order, paths }));
            }
        }
        Ok(held)
    }

    async fn put_states(&mut self, plan: &StatePlan<'_, '_>) -> Result<u64, StoreError> {
        let now = self.now;
        let moves = statements(&self.dialect.move_states, &plan.moves, |binds, write| {
            put_state(binds, write, now);
        });
        write(self.session, moves, "moving states").await?;
        let heard = statements(&self.dialect.hear_states, &plan.heard, |binds, write| {
            put_state(binds, write, now);
        });
        write(self.session, heard, "adding paths to states").await?;
        let written = plan.moves.iter().chain(&plan.heard);
        self.learned.states.extend(written.map(known));
        // Engines count differently what a statement did to a row, but in a transaction that nobody
        // writes beside all of these do what they were planned for.
        Ok(u64::try_from(plan.moves.len()).unwrap_or(u64::MAX))
    }

    async fn put_paths(&mut self, sorted: &Sorted<'_>) -> Result<(), StoreError> {
        let mut newest = plan::plan_paths(sorted);
        newest.retain(|((observer, _), _)| self.is_present(observer));
        let now = self.now;
        let lines = statements(&self.dialect.put_paths, &newest, |binds, line| {
            let ((observer, path), Order { epoch, seq }) = *line;
            binds.put(observer).put(path).put(epoch).put(seq).put(now);
        });
        write(self.session, lines, "remembering paths").await?;
        let mut grown = BTreeSet::new();
        for ((observer, path), _) in newest {
            let pair = (observer.to_owned(), path.to_owned());
            if !self.memory.paths.contains(&pair) {
                self.learned.paths.insert(pair);
                grown.insert(observer);
            }
        }
        for observer in grown {
            self.trim_paths(observer).await?;
        }
        Ok(())
    }

    async fn put_windows(
        &mut self,
        sorted: &Sorted<'_>,
        mut windows: Windows<'_>,
    ) -> Result<(), StoreError> {
        let changed: BTreeSet<(&str, i64)> = sorted
            .new
            .iter()
            .filter_map(|row| row.ours.map(|ours| (ours.observer, ours.order.epoch)))
            .collect();
        let lines: Vec<_> = changed
            .iter()
            .filter_map(|key| Some((key, windows.remove(key)??)))
            .collect();
        let now = self.now;
        let puts = statements(&self.dialect.put_seen, &lines, |binds, (key, seen)| {
            let (observer, epoch) = **key;
            binds.put(observer).put(epoch).put(seen.encode()).put(now);
        });
        write(self.session, puts, "writing what was seen").await?;
        for (key, seen) in lines {
            let (observer, epoch) = *key;
            // What is retired of an epoch is asked for each time: there is little of it.
            let key = (observer.to_owned(), epoch);
            if !self.retired.contains_key(&key) {
                self.learned.windows.push((key.0, epoch, seen));
            }
        }
        for observer in std::mem::take(&mut self.restarted) {
            self.trim_epochs(&observer).await?;
            self.learned.restarted.push(observer);
        }
        Ok(())
    }

    async fn trim_paths(&mut self, observer: &str) -> Result<(), StoreError> {
        let operation = "forgetting paths that an observer has too many of";
        let most = i64::try_from(MAX_PATHS).unwrap_or(i64::MAX);
        let binds = vec![observer.into(), most.into()];
        let excess: Vec<(String,)> =
            ask(self.session, sql::PATHS_TOO_MANY, binds, operation).await?;
        for (path,) in excess {
            let binds = vec![observer.into(), path.into()];
            run(self.session, sql::TRIM_PATHS, binds, operation).await?;
        }
        Ok(())
    }

    async fn trim_epochs(&mut self, observer: &str) -> Result<(), StoreError> {
        let operation = "forgetting epochs that an observer has too many of";
        let binds = vec![observer.into(), MAX_EPOCHS.into()];
        let excess: Vec<(i64,)> = ask(self.session, sql::EPOCH_TOO_MANY, binds, operation).await?;
        if let Some((epoch,)) = excess.first() {
            let binds = vec![observer.into(), (*epoch).into()];
            run(self.session, sql::TRIM_EPOCHS, binds, operation).await?;
        }
        Ok(())
    }
}

/// A state's metadata: the text that `resource` has, unless that isn't what every reader of JSON
/// understands, or no map.
fn state_metadata<'v>(row: &'v Row<'_>) -> Bind<'v> {
    match (&row.received.metadata, &row.metadata_json) {
        (Value::Map(_), Some(text)) if rows::is_finite(&row.received.metadata) => text.into(),
        (metadata, _) => {
            let entries = metadata.as_map().unwrap_or_default();
            json::write_map(entries, NonFinite::AsNull).into()
        }
    }
}

/// How many of the new rows are history alone, by why.
fn held_back(sorted: &Sorted<'_>) -> [usize; HeldBack::ALL.len()] {
    HeldBack::ALL.map(|reason| {
        let is_it = |row: &&Row<'_>| row.ours.is_some() && row.held_back == Some(reason);
        sorted.new.iter().filter(is_it).count()
    })
}

/// The rows that this engine can hold.
fn storable<'a>(
    rows: Vec<Row<'a>>,
    dialect: &Dialect,
    refused: &mut Vec<(usize, RowRefusal)>,
) -> Vec<Row<'a>> {
    if dialect.holds_non_finite {
        rows
    } else {
        rows::finite(rows, refused)
    }
}

fn known(write: &StateWrite<'_, '_>) -> ([String; 3], Held) {
    let StateWrite { row, ours, paths } = write;
    let received = row.received;
    let key = [ours.observer, &received.meter.name, &received.resource_id];
    let held = Held {
        order: ours.order,
        paths: Arc::clone(paths),
    };
    (key.map(str::to_owned), held)
}

fn put_state<'v>(binds: &mut Binds<'v>, write: &'v StateWrite<'_, '_>, now: i64) {
    let StateWrite { row, ours, paths } = write;
    binds
        .put(ours.observer)
        .put(&row.received.meter.name)
        .put(&row.received.resource_id)
        .put(ours.order.epoch)
        .put(ours.order.seq)
        .put(ours.volume)
        .put(quality(row.received.evidence.proof))
        .put(ours.observed_at.unix_micros())
        .put(now)
        .put(state_metadata(row))
        .put(json::write_texts(&**paths));
}
