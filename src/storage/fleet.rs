//! Reading the present back.

use std::fmt::Display;

use sqlx::Connection;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{FromRow, Row as _};

use super::error::{StoreError, during};
use super::{json, sql};
use crate::model::{PathRow, StateRow, UtcTime};

/// The present of everything that is observed, as the database holds it at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Fleet {
    /// The database's clock, from which ages are counted. Never before a time of receipt below.
    pub now: UtcTime,
    /// The newest readings, by observer, meter and resource.
    pub states: Vec<StateRow>,
    /// When each path was last heard, by observer and path.
    pub paths: Vec<PathRow>,
}

/// Reads both tables in one snapshot.
pub(crate) async fn read(conn: &mut SqliteConnection) -> Result<Fleet, StoreError> {
    let mut tx = conn
        .begin()
        .await
        .map_err(during("beginning to read the fleet's state"))?;
    let states: Vec<RawState> = sqlx::query_as(sql::FLEET_STATES)
        .fetch_all(&mut *tx)
        .await
        .map_err(during("reading the fleet's state"))?;
    let paths: Vec<(String, String, i64)> = sqlx::query_as(sql::FLEET_PATHS)
        .fetch_all(&mut *tx)
        .await
        .map_err(during("reading the fleet's paths"))?;
    // Last, so that nothing in the snapshot is younger than it.
    let now: i64 = sqlx::query_scalar(sql::NOW)
        .fetch_one(&mut *tx)
        .await
        .map_err(during("reading the database's clock"))?;
    tx.commit()
        .await
        .map_err(during("ending to read the fleet's state"))?;
    Ok(Fleet {
        now: UtcTime::from_unix_micros(now),
        states: states.into_iter().map(state_of).collect::<Result<_, _>>()?,
        paths: paths.into_iter().map(path_of).collect(),
    })
}

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
}

impl FromRow<'_, SqliteRow> for RawState {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(RawState {
            observer: row.try_get("observer")?,
            meter: row.try_get("meter")?,
            resource_id: row.try_get("resource_id")?,
            epoch: row.try_get("epoch")?,
            seq: row.try_get("seq")?,
            volume: row.try_get("volume")?,
            quality: row.try_get("quality")?,
            observed_at: row.try_get("observed_at")?,
            received_at: row.try_get("received_at")?,
            metadata: row.try_get("metadata")?,
            paths: row.try_get("paths")?,
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

fn intact<T, E>(read: Result<T, E>, subject: &impl Display) -> Result<T, StoreError> {
    read.map_err(|_| StoreError::Damaged {
        table: "ha_state",
        subject: subject.to_string(),
    })
}
