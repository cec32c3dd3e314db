//! Forgetting a host: its present goes, in one transaction. History stays, and so does what was seen,
//! so that a copy of what was stored once doesn't bring it back.

use std::collections::BTreeSet;

use super::about;
use super::engine::Session;
use super::error::{StoreError, during};
use super::link::{ask, now, run};
use super::retired::retire;
use super::sql;
use crate::config::nearest::all_nearest;
use crate::model::UtcTime;

/// Who was heard within this time is there, and would come back with its next reading: four rounds of
/// an agent with Ceilometer's shortest usual interval of 15 s.
const HEARD_LATELY_SECONDS: f64 = 60.0;

/// How a host is forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ForgetOptions {
    /// Also one that was heard lately.
    pub force: bool,
    /// Change nothing.
    pub dry_run: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Forgetting {
    /// It is forgotten, or would be.
    Forgotten(Forgotten),
    /// Nothing was changed: it was heard, or told of, only just now.
    HeardLately {
        /// By whom: its own agent, or another's.
        observer: String,
        /// How long ago.
        age_seconds: f64,
    },
    /// Nobody of that name is known.
    Unknown {
        /// The names that are nearest to it.
        nearest: Vec<String>,
    },
}

/// The rows that were removed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Forgotten {
    /// States that it observed.
    pub states: u64,
    /// States of others that were about it.
    pub states_of_others: u64,
    /// Paths by which it was heard.
    pub paths: u64,
    /// Its rounds of instances.
    pub rounds: u64,
    /// Its rows as an observer.
    pub observers: u64,
    /// How long ago anything about it was last stored.
    pub last_heard_seconds: f64,
}

/// What is known about a host.
#[derive(Debug, Default)]
struct Known {
    /// Who told of it last, and when.
    last: Option<(i64, String)>,
    /// States of others about it: observer, meter, resource.
    of_others: Vec<(String, String, String)>,
    /// All names that could have been meant.
    names: BTreeSet<String>,
}

/// Forgets a host in one transaction, unless it is unknown or was heard lately.
pub(crate) async fn forget(
    session: &mut dyn Session,
    host: String,
    options: ForgetOptions,
) -> Result<Forgetting, StoreError> {
    session
        .begin_write()
        .await
        .map_err(during("beginning to forget a host"))?;
    let now = now(session).await?;
    let known = known(session, &host).await?;
    let outcome = match known.last {
        None => Forgetting::Unknown {
            nearest: nearest(&host, &known.names),
        },
        Some((at, observer)) => {
            let age_seconds =
                UtcTime::from_unix_micros(now).seconds_since(UtcTime::from_unix_micros(at));
            if age_seconds < HEARD_LATELY_SECONDS && !options.force {
                Forgetting::HeardLately {
                    observer,
                    age_seconds,
                }
            } else {
                let mut forgotten = remove(session, &host, &known.of_others).await?;
                forgotten.last_heard_seconds = age_seconds;
                Forgetting::Forgotten(forgotten)
            }
        }
    };
    let operation = "ending to forget a host";
    let is_done = matches!(outcome, Forgetting::Forgotten(_)) && !options.dry_run;
    if is_done {
        session.commit().await.map_err(during(operation))?;
    } else {
        session.rollback().await.map_err(during(operation))?;
    }
    Ok(outcome)
}

async fn known(session: &mut dyn Session, host: &str) -> Result<Known, StoreError> {
    let operation = "looking for a host";
    let mut known = Known::default();
    let observers: Vec<(String, i64)> = ask(session, sql::LAST_HEARD, vec![], operation).await?;
    for (observer, at) in observers {
        if observer == host {
            known.last = known.last.max(Some((at, observer.clone())));
        }
        known.names.insert(observer);
    }
    let binds = about::METERS.iter().map(|meter| (*meter).into()).collect();
    let told: Vec<(String, String, String, i64)> =
        ask(session, sql::TOLD_OF_HOSTS, binds, operation).await?;
    for (observer, meter, resource_id, at) in told {
        let Some(about) = about::host_of(&observer, &meter, &resource_id) else {
            continue;
        };
        if about == host {
            known.last = known.last.max(Some((at, observer.clone())));
            known.of_others.push((observer, meter, resource_id));
        } else {
            known.names.insert(about.to_owned());
        }
    }
    Ok(known)
}

async fn remove(
    session: &mut dyn Session,
    host: &str,
    of_others: &[(String, String, String)],
) -> Result<Forgotten, StoreError> {
    let operation = "forgetting a host";
    let mut forgotten = Forgotten::default();
    // No copy of what is known now brings it back, by whichever door it comes.
    retire(session, host, |_, last| last).await?;
    run(session, sql::DROP_KEY_USES, vec![host.into()], operation).await?;
    // Its own looks at itself are among these; they are counted once, by whoever comes first.
    for (observer, meter, resource_id) in of_others {
        let binds = vec![observer.into(), meter.into(), resource_id.into()];
        let dropped = run(session, sql::DROP_STATE, binds, operation).await?;
        let count = if observer == host {
            &mut forgotten.states
        } else {
            &mut forgotten.states_of_others
        };
        *count += dropped.changed;
    }
    for (text, count) in [
        (sql::DROP_STATES, &mut forgotten.states),
        (sql::DROP_PATHS, &mut forgotten.paths),
        (sql::DROP_ROUNDS_OF, &mut forgotten.rounds),
        (sql::DROP_OBSERVER, &mut forgotten.observers),
    ] {
        let dropped = run(session, text, vec![host.into()], operation).await?;
        *count += dropped.changed;
    }
    Ok(forgotten)
}

pub(super) fn nearest(host: &str, names: &BTreeSet<String>) -> Vec<String> {
    let nearest = all_nearest(host, names.iter().map(String::as_str));
    nearest.into_iter().map(str::to_owned).collect()
}
