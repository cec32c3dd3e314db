//! The quarantine: what can't be stored leaves the stream and is kept aside, once, with the reason.

use super::engine::Session;
use super::error::{StoreError, during};
use super::link::{ask, now, run, write};
use super::refused::{self, Line, Refused};
use super::sql;
use super::statements::statements;
use super::writer::Pass;
use crate::model::{Quarantined, QuarantinedMessage, UtcTime};

/// How many messages are kept aside. Someone is to look at them, and a sender gone wrong repeats
/// itself; when there are more the oldest go, and are counted.
const QUARANTINE_ROWS_MAX: i64 = 1000;

/// What a batch did to the quarantine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Messages that are kept aside now and weren't before.
    pub(crate) added: u64,
    /// Messages that had to go for them.
    pub(crate) dropped: u64,
}

impl Pass<'_> {
    /// Puts messages aside.
    pub(crate) async fn quarantine(&mut self, refused: &[Refused<'_>]) -> Result<Kept, StoreError> {
        if refused.is_empty() {
            return Ok(Kept::default());
        }
        let lines: Vec<Line> = refused.iter().map(refused::line_of).collect();
        let now = self.now;
        let puts = statements(&self.dialect.put_quarantine, &lines, |binds, line| {
            binds
                .put(now)
                .put(&line.digest)
                .put(line.reason)
                .put(&line.detail)
                .put(line.observer.as_deref())
                .put(&line.meter)
                .put(&line.resource_id)
                .put(&line.message_id)
                .put(&line.message);
        });
        // Engines count a row that was there already as they please.
        let before = count(self.session).await?;
        write(self.session, puts, "putting messages into quarantine").await?;
        let added = count(self.session).await?.saturating_sub(before);
        let dropped = trim(self.session).await?;
        Ok(Kept { added, dropped })
    }
}

/// Id, quarantined_at, reason, detail, observer, meter, resource_id and message_id.
type RawQuarantined = (
    i64,
    i64,
    String,
    String,
    Option<String>,
    String,
    String,
    String,
);

/// How many messages are kept aside.
pub(crate) async fn count(session: &mut dyn Session) -> Result<u64, StoreError> {
    let operation = "counting the quarantine";
    let found: Vec<(i64,)> = ask(session, sql::QUARANTINE_COUNT, vec![], operation).await?;
    let (count,) = found.first().copied().unwrap_or_default();
    Ok(count.unsigned_abs())
}

/// Those that are kept aside, the newest first.
pub(crate) async fn list(session: &mut dyn Session) -> Result<Vec<Quarantined>, StoreError> {
    let operation = "reading the quarantine";
    let now = now(session).await?;
    let rows: Vec<RawQuarantined> = ask(session, sql::QUARANTINE_LIST, vec![], operation).await?;
    let rows = rows.into_iter();
    Ok(rows
        .map(
            |(id, at, reason, detail, observer, meter, resource_id, message_id)| Quarantined {
                id,
                at: UtcTime::from_unix_micros(at),
                age_seconds: UtcTime::from_unix_micros(now)
                    .seconds_since(UtcTime::from_unix_micros(at)),
                reason,
                detail,
                observer,
                meter,
                resource_id,
                message_id,
            },
        )
        .collect())
}

/// One of them with its message; None if there is none of that id.
pub(crate) async fn show(
    session: &mut dyn Session,
    id: i64,
) -> Result<Option<QuarantinedMessage>, StoreError> {
    let operation = "reading a quarantined message";
    let about = list(session).await?.into_iter().find(|row| row.id == id);
    let found: Vec<(String,)> =
        ask(session, sql::QUARANTINE_MESSAGE, vec![id.into()], operation).await?;
    let message = found.into_iter().next().map(|(message,)| message);
    Ok(about
        .zip(message)
        .map(|(about, message)| QuarantinedMessage { about, message }))
}

/// Forgets these, or all of them; returns the ids that there were.
pub(crate) async fn purge(
    session: &mut dyn Session,
    ids: Option<&[i64]>,
) -> Result<Vec<i64>, StoreError> {
    let operation = "purging the quarantine";
    session.begin_write().await.map_err(during(operation))?;
    let all: Vec<(i64,)> = ask(session, sql::QUARANTINE_IDS, vec![], operation).await?;
    let all = all.into_iter().map(|(id,)| id);
    let purged: Vec<i64> = all
        .filter(|id| ids.is_none_or(|ids| ids.contains(id)))
        .collect();
    for id in &purged {
        run(session, sql::QUARANTINE_DROP, vec![(*id).into()], operation).await?;
    }
    session.commit().await.map_err(during(operation))?;
    Ok(purged)
}

async fn trim(session: &mut dyn Session) -> Result<u64, StoreError> {
    let operation = "trimming the quarantine";
    let binds = vec![QUARANTINE_ROWS_MAX.into()];
    let excess: Vec<(i64,)> = ask(session, sql::QUARANTINE_TOO_MANY, binds, operation).await?;
    let Some((newest,)) = excess.first() else {
        return Ok(0);
    };
    let binds = vec![(*newest).into()];
    let trimmed = run(session, sql::QUARANTINE_TRIM, binds, operation).await?;
    Ok(trimmed.changed)
}
