//! Which hosts proved themselves by which keys, and when: so that an operator knows when a key can be
//! retired, and a collector who has to prove himself after it was started anew.

use std::collections::BTreeSet;

use super::engine::Session;
use super::error::StoreError;
use super::link::{ask, now, write};
use super::plan::Sorted;
use super::sql;
use super::statements::statements;
use super::writer::Pass;
use crate::model::{Proof, UtcTime};

/// How often the use of a key by a host is written: no reading costs a write of its own.
const WRITTEN_EVERY_MICROS: i64 = 60 * 1_000_000;

/// That a host proved itself by a key.
#[derive(Debug, Clone, PartialEq)]
pub struct HostKeyUse {
    /// The host.
    pub host: String,
    /// The key's number.
    pub number: u32,
    /// How long ago it first did.
    pub first_seconds_ago: f64,
    /// How long ago it last did, to a minute.
    pub last_seconds_ago: f64,
}

impl Pass<'_> {
    /// Writes down by which keys the batch's live readings were proven, where that wasn't done lately.
    pub(crate) async fn put_key_uses(&mut self, sorted: &Sorted<'_>) -> Result<(), StoreError> {
        let used = sorted.new.iter().filter_map(|row| {
            let Proof::HostKey(number) = row.received.evidence.proof else {
                return None;
            };
            Some((row.live()?.observer, number))
        });
        let now = self.now;
        let is_due = |(host, number): &(&str, u32)| {
            let written = self.memory.key_used(host, *number);
            // A clock that was set back makes it due as well.
            written.is_none_or(|at| !(at..at + WRITTEN_EVERY_MICROS).contains(&now))
        };
        let used: BTreeSet<(&str, u32)> = used.filter(is_due).collect();
        let used: Vec<(&str, u32)> = used.into_iter().collect();
        let puts = statements(
            &self.dialect.put_key_uses,
            &used,
            |binds, (host, number)| {
                binds.put(*host).put(i64::from(*number)).put(now).put(now);
            },
        );
        write(self.session, puts, "writing down which keys were used").await?;
        let learned = used.into_iter();
        self.learned
            .key_uses
            .extend(learned.map(|(host, number)| (host.to_owned(), number, now)));
        Ok(())
    }
}

/// All of them.
pub(crate) async fn uses(session: &mut dyn Session) -> Result<Vec<HostKeyUse>, StoreError> {
    let operation = "reading which keys were used";
    let found: Vec<(String, i64, i64, i64)> =
        ask(session, sql::KEY_USES, vec![], operation).await?;
    let now = UtcTime::from_unix_micros(now(session).await?);
    let ago = |at| now.seconds_since(UtcTime::from_unix_micros(at));
    let uses = found.into_iter().filter_map(|(host, number, first, last)| {
        Some(HostKeyUse {
            host,
            number: u32::try_from(number).ok()?,
            first_seconds_ago: ago(first),
            last_seconds_ago: ago(last),
        })
    });
    Ok(uses.collect())
}
