//! Deleting what is past its time, in steps: each looks at a bounded number of rows by a connection
//! that reads, and only if something is to go, deletes that in a short transaction of the writer's.

use std::collections::BTreeSet;

use super::engine::Session;
use super::error::StoreError;
use super::link::{ask, now, read, run, write};
use super::sql::{Bulk, retention as texts};
use super::statements::statements;
use super::sweep::{
    CHUNK_MAX, RESOURCES_SWEPT_MAX, SEEN_HORIZON_MICROS, SEEN_SWEPT_MAX, Stage, Sweep, Swept,
};
use super::writer::{MESSAGE_HORIZON_MICROS, MESSAGES_SWEPT_MAX};
use crate::model::UtcTime;

/// What a look found to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Task {
    /// Samples behind one id and up to another, recorded before a moment.
    Samples {
        after: i64,
        until: i64,
        cutoff: String,
    },
    /// Resources, unless a sample has come since.
    Resources(Vec<i64>),
    /// Meters, likewise.
    Meters(Vec<i64>),
    /// What was seen of (observer, epoch), unless written since a moment.
    Seen(Vec<(String, i64)>, i64),
    /// Message ids from before a moment.
    Messages(i64),
}

impl Task {
    /// Whether it may take away what a writer remembers: ids, or what was seen.
    pub(crate) fn takes_ids(&self) -> bool {
        matches!(self, Task::Resources(_) | Task::Meters(_) | Task::Seen(..))
    }
}

/// A look at what comes next.
#[derive(Debug)]
pub(crate) struct Looked {
    /// What is to be done, if anything is.
    pub(crate) task: Option<Task>,
    /// How many rows that takes away, as far as a look can tell.
    pub(crate) found: Swept,
    /// How far the look went.
    pub(crate) went: Went,
}

/// How far a look went.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Went {
    /// Over so many samples up to an id, so many of them expired.
    Samples(Option<i64>, i64, i64),
    /// Over rows up to an id.
    Orphans(Option<i64>),
    /// Over all, or as many as one step may take.
    Rest {
        /// Whether there may be more.
        is_more: bool,
    },
}

impl Went {
    /// Moves the pass on.
    pub(crate) fn on(self, sweep: &mut Sweep) {
        match self {
            Went::Samples(end, looked, expired) => sweep.samples_swept(end, looked, expired),
            Went::Orphans(end) => sweep.orphans_swept(end),
            Went::Rest { is_more } => sweep.rest_swept(is_more),
        }
    }
}

/// Looks at what comes next.
pub(crate) async fn look(session: &mut dyn Session, sweep: &Sweep) -> Result<Looked, StoreError> {
    let now = now(session).await?;
    match sweep.stage() {
        Stage::Samples => look_at_samples(session, sweep, now).await,
        Stage::Resources => look_at_bare(session, sweep, now, &RESOURCES).await,
        Stage::Meters => look_at_bare(session, sweep, now, &METERS).await,
        Stage::Seen => look_at_seen(session, now).await,
        Stage::Messages | Stage::Over => look_at_messages(session, now).await,
    }
}

/// Deletes, within a transaction.
pub(crate) async fn carry_out(session: &mut dyn Session, task: &Task) -> Result<Swept, StoreError> {
    let mut swept = Swept::default();
    match task {
        Task::Samples {
            after,
            until,
            cutoff,
        } => {
            let binds = vec![(*after).into(), (*until).into(), cutoff.into()];
            let done = run(session, texts::DELETE_SAMPLES, binds, DELETING_SAMPLES).await?;
            swept.samples = done.changed;
        }
        Task::Resources(ids) => {
            let operation = "deleting resources without samples";
            let ids = still_bare(session, &texts::BARE_RESOURCES, ids, operation).await?;
            for bulk in &texts::DELETE_METADATA {
                delete(session, bulk, &ids, operation).await?;
            }
            swept.resources = delete(session, &texts::DELETE_RESOURCES, &ids, operation).await?;
        }
        Task::Meters(ids) => {
            let operation = "deleting meters without samples";
            let ids = still_bare(session, &texts::BARE_METERS, ids, operation).await?;
            swept.meters = delete(session, &texts::DELETE_METERS, &ids, operation).await?;
        }
        Task::Seen(keys, before) => {
            for (observer, epoch) in keys {
                let binds = vec![observer.into(), (*epoch).into(), (*before).into()];
                let done = run(session, texts::DELETE_SEEN, binds, FORGETTING).await?;
                swept.seen += done.changed;
            }
        }
        Task::Messages(before) => {
            let text = session.dialect().trim_messages;
            let binds = vec![(*before).into(), MESSAGES_SWEPT_MAX.into()];
            let done = run(session, text, binds, "forgetting old message ids").await?;
            swept.messages = done.changed;
        }
    }
    Ok(swept)
}

const DELETING_SAMPLES: &str = "deleting samples that are past their time";
const FORGETTING: &str = "forgetting what was seen of observers that are gone";

async fn look_at_samples(
    session: &mut dyn Session,
    sweep: &Sweep,
    now: i64,
) -> Result<Looked, StoreError> {
    let after = sweep.after();
    let cutoff = cutoff(session, sweep, now);
    let binds = vec![cutoff.as_str().into(), after.into(), CHUNK_MAX.into()];
    let found: Vec<(Option<i64>, i64, i64)> = ask(
        session,
        texts::LOOK_SAMPLES,
        binds,
        "looking for samples that are past their time",
    )
    .await?;
    let (end, looked, expired) = found.first().copied().unwrap_or((None, 0, 0));
    let task = end.filter(|_| expired > 0).map(|until| Task::Samples {
        after,
        until,
        cutoff,
    });
    Ok(Looked {
        task,
        found: Swept {
            samples: u64::try_from(expired).unwrap_or(0),
            ..Swept::default()
        },
        went: Went::Samples(end, looked, expired),
    })
}

/// Looks for the next ids that nothing refers to: to the end of the chunk, or where there are too many
/// for one step, to the last of them.
async fn look_at_bare(
    session: &mut dyn Session,
    sweep: &Sweep,
    now: i64,
    bare: &Bare,
) -> Result<Looked, StoreError> {
    let Bare {
        end,
        look,
        operation,
        task,
        found,
    } = *bare;
    let after = sweep.after();
    let binds = vec![after.into(), CHUNK_MAX.into()];
    let ends: Vec<(Option<i64>,)> = ask(session, end, binds, operation).await?;
    let mut end = ends.first().and_then(|(end,)| *end);
    let mut ids = Vec::new();
    if let Some(until) = end {
        let cutoff = cutoff(session, sweep, now);
        let binds = vec![after.into(), until.into(), cutoff.into()];
        let bare: Vec<(i64,)> = ask(session, look, binds, operation).await?;
        ids.extend(bare.into_iter().map(|(id,)| id));
        if ids.len() > RESOURCES_SWEPT_MAX {
            ids.truncate(RESOURCES_SWEPT_MAX);
            end = ids.last().copied();
        }
    }
    Ok(Looked {
        found: found(u64::try_from(ids.len()).unwrap_or(u64::MAX)),
        task: Some(ids).filter(|ids| !ids.is_empty()).map(task),
        went: Went::Orphans(end),
    })
}

/// A table of which rows go once no sample refers to them.
struct Bare {
    /// Finds the last id of a chunk.
    end: &'static str,
    /// Finds those in it that nothing refers to.
    look: &'static str,
    operation: &'static str,
    task: fn(Vec<i64>) -> Task,
    found: fn(u64) -> Swept,
}

const RESOURCES: Bare = Bare {
    end: texts::END_OF_RESOURCES,
    look: texts::LOOK_RESOURCES,
    operation: "looking for resources without samples",
    task: Task::Resources,
    found: |resources| Swept {
        resources,
        ..Swept::default()
    },
};

const METERS: Bare = Bare {
    end: texts::END_OF_METERS,
    look: texts::LOOK_METERS,
    operation: "looking for meters without samples",
    task: Task::Meters,
    found: |meters| Swept {
        meters,
        ..Swept::default()
    },
};

async fn look_at_seen(session: &mut dyn Session, now: i64) -> Result<Looked, StoreError> {
    let before = now - SEEN_HORIZON_MICROS;
    let binds = vec![before.into(), SEEN_SWEPT_MAX.into()];
    let keys: Vec<(String, i64)> = ask(session, texts::LOOK_SEEN, binds, FORGETTING).await?;
    let is_more = !keys.is_empty();
    Ok(Looked {
        task: is_more.then_some(Task::Seen(keys, before)),
        found: Swept::default(),
        went: Went::Rest { is_more },
    })
}

async fn look_at_messages(session: &mut dyn Session, now: i64) -> Result<Looked, StoreError> {
    let before = now - MESSAGE_HORIZON_MICROS;
    let found: Vec<(String,)> = ask(
        session,
        texts::LOOK_MESSAGES,
        vec![before.into()],
        "looking for old message ids",
    )
    .await?;
    let is_more = !found.is_empty();
    Ok(Looked {
        task: is_more.then_some(Task::Messages(before)),
        found: Swept::default(),
        went: Went::Rest { is_more },
    })
}

/// The first moment of which samples are kept, as Ceilometer's tables hold it.
fn cutoff(session: &dyn Session, sweep: &Sweep, now: i64) -> String {
    let moment = session.dialect().moment;
    moment(UtcTime::from_unix_micros(sweep.cutoff(now)))
}

/// Those of the ids that nothing refers to, now that nobody else writes.
async fn still_bare(
    session: &mut dyn Session,
    bulk: &'static Bulk,
    ids: &[i64],
    operation: &'static str,
) -> Result<Vec<i64>, StoreError> {
    let asked = statements(bulk, ids, |binds, id| {
        binds.put(*id);
    });
    let found: Vec<(i64,)> = read(session, asked, operation).await?;
    let found: BTreeSet<i64> = found.into_iter().map(|(id,)| id).collect();
    Ok(found.into_iter().collect())
}

async fn delete(
    session: &mut dyn Session,
    bulk: &'static Bulk,
    ids: &[i64],
    operation: &'static str,
) -> Result<u64, StoreError> {
    let deletes = statements(bulk, ids, |binds, id| {
        binds.put(*id);
    });
    write(session, deletes, operation).await
}
