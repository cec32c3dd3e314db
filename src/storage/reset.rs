//! Letting a lower epoch be the present: for a host that lost its state directory while its clock was
//! behind. Whatever it said in other lives is history from then on.

use std::collections::BTreeSet;

use super::engine::Session;
use super::error::{StoreError, during};
use super::forget::nearest;
use super::link::{ask, now, run};
use super::retired::{Known, lives, retire};
use super::sql;
use crate::model::UtcTime;

/// Two lives that were both heard within this time are two agents.
const HEARD_LATELY_SECONDS: f64 = 60.0;

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Resetting {
    /// It is done, or would be.
    Reset(Reset),
    /// Nothing was changed: the life that was heard last is the newest anyway.
    NotNeeded {
        /// Its epoch.
        epoch: i64,
        /// How long ago it was heard.
        age_seconds: f64,
    },
    /// Nothing was changed: another life was heard only just now as well.
    StillThere {
        /// Its epoch.
        epoch: i64,
        /// How long ago it was heard.
        age_seconds: f64,
    },
    /// Nobody of that name has said anything.
    Unknown {
        /// The names that are nearest to it.
        nearest: Vec<String>,
    },
}

/// What was changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reset {
    /// The epoch that is the present now.
    pub epoch: i64,
    /// How long ago it was heard.
    pub age_seconds: f64,
    /// The epoch that was the present.
    pub was_epoch: i64,
    /// How many epochs move no state any more.
    pub retired: usize,
    /// States that were removed.
    pub states: u64,
}

/// Does it in one transaction.
pub(crate) async fn reset(
    session: &mut dyn Session,
    host: String,
    dry_run: bool,
) -> Result<Resetting, StoreError> {
    session
        .begin_write()
        .await
        .map_err(during("beginning to reset an identity"))?;
    let outcome = decide(session, &host).await?;
    let operation = "ending to reset an identity";
    if matches!(outcome, Resetting::Reset(_)) && !dry_run {
        session.commit().await.map_err(during(operation))?;
    } else {
        session.rollback().await.map_err(during(operation))?;
    }
    Ok(outcome)
}

async fn decide(session: &mut dyn Session, host: &str) -> Result<Resetting, StoreError> {
    let now = UtcTime::from_unix_micros(now(session).await?);
    let age = |known: &Known| now.seconds_since(UtcTime::from_unix_micros(known.seen_at));
    let mut lives = lives(session, host).await?;
    lives.retain(|_, known| known.retired < sql::RETIRED);
    let newest = lives.last_key_value();
    let last = lives
        .iter()
        .max_by_key(|(epoch, known)| (known.seen_at, **epoch));
    let (Some((&newest, top)), Some((&epoch, known))) = (newest, last) else {
        return Ok(Resetting::Unknown {
            nearest: nearest(host, &names(session).await?),
        });
    };
    let age_seconds = age(known);
    if epoch == newest {
        return Ok(Resetting::NotNeeded { epoch, age_seconds });
    }
    if age(top) < HEARD_LATELY_SECONDS {
        return Ok(Resetting::StillThere {
            epoch: newest,
            age_seconds: age(top),
        });
    }
    let retired = retire(session, host, |other, _| match other == epoch {
        true => 0,
        false => sql::RETIRED,
    })
    .await?;
    let states = remove(session, host).await?;
    Ok(Resetting::Reset(Reset {
        epoch,
        age_seconds,
        was_epoch: newest,
        retired,
        states,
    }))
}

/// Removes what the other lives show: it would stand above all that the present one says.
async fn remove(session: &mut dyn Session, host: &str) -> Result<u64, StoreError> {
    let operation = "removing what an observer's other lives show";
    let states = run(session, sql::DROP_STATES, vec![host.into()], operation).await?;
    for text in [sql::DROP_PATHS, sql::DROP_ROUNDS_OF, sql::DROP_OBSERVER] {
        run(session, text, vec![host.into()], operation).await?;
    }
    Ok(states.changed)
}

async fn names(session: &mut dyn Session) -> Result<BTreeSet<String>, StoreError> {
    let operation = "looking for observers";
    let found: Vec<(String, i64)> = ask(session, sql::LAST_HEARD, vec![], operation).await?;
    Ok(found.into_iter().map(|(name, _)| name).collect())
}
