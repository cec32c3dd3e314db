//! Ending what an observer said up to now: nothing of it moves a state again. What was seen stays, so that
//! its copies are still told from what is new.

use std::collections::BTreeMap;

use super::engine::Session;
use super::error::StoreError;
use super::link::{ask, now, run};
use super::seen::SeqSet;
use super::sql;

/// A life of an observer, as far as anything is known of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// The greatest number that was stored or is shown.
    pub(crate) last: i64,
    /// When anything of it was last stored; 0 if only states are known of it.
    pub(crate) seen_at: i64,
    /// Up to which number it moves no state.
    pub(crate) retired: i64,
    has_row: bool,
}

/// The lives of an observer, by epoch.
pub(crate) async fn lives(
    session: &mut dyn Session,
    observer: &str,
) -> Result<BTreeMap<i64, Known>, StoreError> {
    let operation = "looking for an observer's epochs";
    let seen: Vec<(i64, Vec<u8>, i64, i64)> =
        ask(session, sql::SEEN_OF, vec![observer.into()], operation).await?;
    let mut lives = BTreeMap::new();
    for (epoch, runs, seen_at, retired) in seen {
        let runs = SeqSet::decode(&runs).map_err(|_| StoreError::Damaged {
            table: "ha_seen",
            subject: format!("{observer} {epoch}"),
        })?;
        let known = Known {
            last: i64::try_from(runs.last()).unwrap_or(i64::MAX),
            seen_at,
            retired,
            has_row: true,
        };
        lives.insert(epoch, known);
    }
    let binds = vec![observer.into(), observer.into()];
    let shown: Vec<(i64, i64)> = ask(session, sql::SHOWN_OF, binds, operation).await?;
    for (epoch, last) in shown {
        let known: &mut Known = lives.entry(epoch).or_default();
        known.last = known.last.max(last);
    }
    Ok(lives)
}

/// Retires each life of an observer up to the number that is said of it, by its epoch and its greatest
/// number; returns how many are retired further than before.
pub(crate) async fn retire(
    session: &mut dyn Session,
    observer: &str,
    up_to: impl Fn(i64, i64) -> i64,
) -> Result<usize, StoreError> {
    let operation = "retiring an observer's epochs";
    let now = now(session).await?;
    let mut count = 0;
    for (epoch, known) in lives(session, observer).await? {
        let up_to = up_to(epoch, known.last);
        if up_to <= known.retired {
            continue;
        }
        count += 1;
        let (text, binds) = match known.has_row {
            true => (
                sql::RETIRE_EPOCH,
                vec![up_to.into(), observer.into(), epoch.into()],
            ),
            false => (
                sql::PUT_RETIRED_EPOCH,
                vec![
                    observer.into(),
                    epoch.into(),
                    SeqSet::default().encode().into(),
                    now.into(),
                    up_to.into(),
                ],
            ),
        };
        run(session, text, binds, operation).await?;
    }
    Ok(count)
}
