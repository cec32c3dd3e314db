//! Reading the present back.

use std::fmt::Display;

use super::engine::{Found, FromFound, Session};
use super::error::{StoreError, during};
use super::link::{ask, now};
use super::seen::SeqSet;
use super::{json, sql};
use crate::model::{
    CompleteRoundRow, Fleet, ObserverRow, PathRow, Rival, RoundRow, StateRow, UtcTime,
};

/// Reads the tables in one snapshot.
pub(crate) async fn read(session: &mut dyn Session) -> Result<Fleet, StoreError> {
    session
        .begin_read()
        .await
        .map_err(during("beginning to read the fleet's state"))?;
    let states: Vec<RawState> = ask(
        session,
        sql::FLEET_STATES,
        vec![],
        "reading the fleet's state",
    )
    .await?;
    let paths: Vec<(String, String, i64)> = ask(
        session,
        sql::FLEET_PATHS,
        vec![],
        "reading the fleet's paths",
    )
    .await?;
    let rounds: Vec<RawRound> = ask(
        session,
        sql::FLEET_ROUNDS,
        vec![],
        "reading the fleet's rounds",
    )
    .await?;
    let complete_rounds: Vec<(String, i64, i64, i64, i64)> = ask(
        session,
        sql::FLEET_COMPLETE_ROUNDS,
        vec![],
        "reading the fleet's complete rounds",
    )
    .await?;
    let observers: Vec<RawObserver> = ask(
        session,
        sql::FLEET_OBSERVERS,
        vec![],
        "reading the fleet's observers",
    )
    .await?;
    // Last, so that nothing in the snapshot is younger than it.
    let now = now(session).await?;
    session
        .commit()
        .await
        .map_err(during("ending to read the fleet's state"))?;
    Ok(Fleet {
        now: UtcTime::from_unix_micros(now),
        states: states.into_iter().map(state_of).collect::<Result<_, _>>()?,
        paths: paths.into_iter().map(path_of).collect(),
        rounds: rounds.into_iter().map(round_of).collect::<Result<_, _>>()?,
        complete_rounds: complete_rounds
            .into_iter()
            .map(complete_round_of)
            .collect::<Result<_, _>>()?,
        observers: observers
            .into_iter()
            .map(observer_of)
            .collect::<Result<_, _>>()?,
    })
}

/// Observer, epoch, seq and volume of an `instance.round`, and the runs of its epoch.
type RawRound = (String, i64, i64, f64, Vec<u8>);

/// Observer, epoch, seq, observed_at, received_at, rival_epoch and rival_at.
type RawObserver = (String, i64, i64, i64, i64, Option<i64>, Option<i64>);

#[derive(Debug)]
struct RawState {
    observer: String,
    meter: String,
    resource_id: String,
    epoch: i64,
    seq: i64,
    volume: f64,
    quality: String,
    observed_at: i64,
    received_at: i64,
    metadata: String,
    paths: String,
    confirmed_at: Option<i64>,
}

impl FromFound for RawState {
    fn from_found(found: Found<'_>) -> Result<Self, sqlx::Error> {
        Ok(RawState {
            observer: found.get(0)?,
            meter: found.get(1)?,
            resource_id: found.get(2)?,
            epoch: found.get(3)?,
            seq: found.get(4)?,
            volume: found.get(5)?,
            quality: found.get(6)?,
            observed_at: found.get(7)?,
            received_at: found.get(8)?,
            metadata: found.get(9)?,
            paths: found.get(10)?,
            confirmed_at: found.get(11)?,
        })
    }
}

fn state_of(raw: RawState) -> Result<StateRow, StoreError> {
    let subject = format!("{} {} {}", raw.observer, raw.meter, raw.resource_id);
    Ok(StateRow {
        epoch: intact(u64::try_from(raw.epoch), &subject)?,
        seq: intact(u64::try_from(raw.seq), &subject)?,
        volume: raw.volume,
        quality: raw.quality,
        observed_at: UtcTime::from_unix_micros(raw.observed_at),
        received_at: UtcTime::from_unix_micros(raw.received_at),
        metadata: intact(json::read_map(&raw.metadata), &subject)?,
        paths: intact(json::read_texts(&raw.paths), &subject)?,
        confirmed_at: raw.confirmed_at.map(UtcTime::from_unix_micros),
        observer: raw.observer,
        meter: raw.meter,
        resource_id: raw.resource_id,
    })
}

fn path_of((observer, path, received_at): (String, String, i64)) -> PathRow {
    PathRow {
        observer,
        path,
        received_at: UtcTime::from_unix_micros(received_at),
    }
}

fn round_of((observer, epoch, seq, count, runs): RawRound) -> Result<RoundRow, StoreError> {
    let subject = format!("{observer} instance.round");
    let epoch = intact(u64::try_from(epoch), &subject)?;
    let seq = intact(u64::try_from(seq), &subject)?;
    // A damaged list proves nothing; the collector tells of it when it needs it.
    let seen = SeqSet::decode(&runs).unwrap_or_default();
    let first = whole(count).and_then(|count| seq.checked_sub(count));
    let last = seq.checked_sub(1);
    let heard = first
        .zip(last)
        .map_or(0, |(first, last)| seen.count_within(first, last));
    Ok(RoundRow {
        observer,
        epoch,
        seq,
        heard,
    })
}

fn complete_round_of(
    (observer, epoch, seq, instances, completed_at): (String, i64, i64, i64, i64),
) -> Result<CompleteRoundRow, StoreError> {
    let number = |number| in_row("ha_round", u64::try_from(number), &observer);
    Ok(CompleteRoundRow {
        epoch: number(epoch)?,
        seq: number(seq)?,
        instances: number(instances)?,
        completed_at: UtcTime::from_unix_micros(completed_at),
        observer,
    })
}

fn observer_of(raw: RawObserver) -> Result<ObserverRow, StoreError> {
    let (observer, epoch, seq, observed_at, received_at, rival_epoch, rival_at) = raw;
    let number = |number| in_row("ha_observer", u64::try_from(number), &observer);
    let rival = match rival_epoch.zip(rival_at) {
        Some((epoch, at)) => Some(Rival {
            epoch: number(epoch)?,
            at: UtcTime::from_unix_micros(at),
        }),
        None => None,
    };
    Ok(ObserverRow {
        epoch: number(epoch)?,
        seq: number(seq)?,
        observed_at: UtcTime::from_unix_micros(observed_at),
        received_at: UtcTime::from_unix_micros(received_at),
        rival,
        observer,
    })
}

/// The count that a volume is, if it is one.
pub(crate) fn whole(volume: f64) -> Option<u64> {
    if volume.fract() != 0.0 {
        return None;
    }
    format!("{volume:.0}").parse().ok()
}

fn intact<T, E>(read: Result<T, E>, subject: &impl Display) -> Result<T, StoreError> {
    in_row("ha_state", read, subject)
}

fn in_row<T, E>(
    table: &'static str,
    read: Result<T, E>,
    subject: &impl Display,
) -> Result<T, StoreError> {
    read.map_err(|_| StoreError::Damaged {
        table,
        subject: subject.to_string(),
    })
}
