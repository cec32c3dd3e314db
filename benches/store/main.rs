//! Storing a fleet's readings, in steady state, with the real indexes, on each engine:
//!
//! - the engine's own bulk load of every row that we write, all tables: rows of a run of ours were
//!   logged by triggers, and the engine loads them again, all in one transaction, and in transactions
//!   of the same rows as ours;
//! - ours through [`Database::store`] in batches of the shipped size and of the greatest one, and from
//!   the wire: signed datagrams sent to a collector process as fast as it stores them without a loss;
//! - one commit for each sample;
//! - from a datagram to the state that another connection reads, at 10, 50 and 90 % of what the
//!   collector stores.
//!
//! Every commit is on the disk. What is compared runs in turns, because a machine that is busy changes
//! from minute to minute. `sqlite` or `mariadb` as an argument takes one engine alone.

// A benchmark measures time, paces what it sends and may stop at the first thing that is wrong.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    missing_docs
)]

#[path = "../../tests/support/mod.rs"]
mod support;

mod fleet;
mod mariadb;
mod sqlite;
mod wire;

use std::time::{Duration, Instant};

use ceilometer_ha::model::{Received, Secret};
use ceilometer_ha::storage::Database;

use fleet::{FULL, HOSTS, received, rounds};
use wire::Wire;

/// Samples in a batch: the shipped `batch_size`.
const BATCH: usize = 1000;
/// The greatest one.
const BATCH_MOST: usize = 10_000;
/// Rounds of all hosts in one run.
const ROUNDS: u64 = 20;
/// Runs in turns, of which the median counts.
const RUNS: usize = 7;
/// One commit a sample is so slow that fewer have to do.
const SINGLY: usize = 500;
const BULK_SHARE: f64 = 0.5;
const LAG_LIMIT: Duration = Duration::from_millis(300);

/// A table that a batch in steady state writes to.
#[derive(Clone, Copy)]
struct Table {
    name: &'static str,
    /// None where rows are only added.
    key: Option<&'static str>,
}

const WRITTEN: [Table; 6] = [
    Table {
        name: "sample",
        key: None,
    },
    Table {
        name: "ha_state",
        key: Some("observer, meter, resource_id"),
    },
    Table {
        name: "ha_observer",
        key: Some("observer"),
    },
    Table {
        name: "ha_path",
        key: Some("observer, path"),
    },
    Table {
        name: "ha_round",
        key: Some("observer, epoch, seq"),
    },
    Table {
        name: "ha_seen",
        key: Some("observer, epoch"),
    },
];

/// How a bulk load commits.
#[derive(Clone, Copy)]
enum Bulk {
    /// Once, one load for each table.
    InOne,
    /// As often as ours, each time the rows of one batch of ours.
    InOurs,
}

/// What a run needs of an engine beside [`Database`].
trait Engine {
    const NAME: &'static str;

    fn url(&self) -> Secret;
    /// Keeps what is in the database now, for each run to begin with.
    async fn keep(&mut self);
    /// Brings that back.
    async fn reset(&mut self);
    /// Begins to log rows as they are written, without a number of a batch yet.
    async fn begin_log(&mut self);
    /// Logs with the next number.
    async fn next_batch(&mut self);
    /// Makes of the log what is loaded; returns how many rows it has, by table.
    async fn end_log(&mut self) -> Vec<u64>;
    /// Loads what was logged; returns the seconds that it took.
    async fn bulk(&mut self, how: Bulk) -> f64;
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let arguments: Vec<String> = std::env::args().collect();
    let is_asked = |name: &str| {
        let others = ["sqlite", "mariadb"].map(str::to_owned);
        !arguments.iter().any(|one| others.contains(one)) || arguments.contains(&name.to_owned())
    };
    if is_asked("sqlite") {
        let wire = runtime.block_on(Wire::on_sqlite());
        runtime.block_on(measure(sqlite::Sqlite::new(), wire));
    }
    if is_asked("mariadb") {
        let wire = runtime.block_on(Wire::on_mariadb());
        runtime.block_on(measure(mariadb::Mariadb::new(), wire));
    }
}

/// What is stored: once before the clock runs, so that the writer remembers what it does after a
/// while, and then in each run.
struct Load {
    before: Vec<Received>,
    batches: Vec<Received>,
}

async fn measure<E: Engine>(mut engine: E, mut wire: Wire) {
    Database::dbsync(&engine.url()).await.unwrap();
    let database = Database::open(&engine.url()).await.unwrap();
    store(&database, &received(&rounds(0..FULL - 1)), BATCH).await;
    database.close().await;
    engine.keep().await;
    let load = Load {
        before: received(&rounds(FULL - 1..FULL)),
        batches: received(&rounds(FULL..FULL + ROUNDS)),
    };
    println!(
        "{}: {} samples of {HOSTS} hosts, {} states, medians of {RUNS} runs in turns",
        E::NAME,
        load.batches.len(),
        load.before.len()
    );
    let rate = in_turns(&mut engine, &load, BATCH, Some(&mut wire)).await;
    in_turns(&mut engine, &load, BATCH_MOST, None).await;
    let singly = Load {
        batches: load.batches[..SINGLY].to_vec(),
        ..load
    };
    let rate_singly = SINGLY as f64 / ours(&mut engine, &singly, 1).await;
    println!("  one commit a sample:                {rate_singly:>9.0} samples/s");
    show_lags(&mut wire, rate);
}

/// Compares in batches of one size; returns the rate from the wire.
async fn in_turns<E: Engine>(
    engine: &mut E,
    load: &Load,
    size: usize,
    mut wire: Option<&mut Wire>,
) -> f64 {
    log_rows(engine, load, size).await;
    let samples = load.batches.len() as f64;
    let (mut rates, mut shares): ([Vec<f64>; 4], [Vec<f64>; 4]) = Default::default();
    for _ in 0..RUNS {
        engine.reset().await;
        let in_one = samples / engine.bulk(Bulk::InOne).await;
        engine.reset().await;
        let in_ours = samples / engine.bulk(Bulk::InOurs).await;
        let stored = samples / ours(engine, load, size).await;
        let from_the_wire = wire.as_mut().map_or(f64::NAN, |wire| wire.rate(ROUNDS));
        for (rates, rate) in rates
            .iter_mut()
            .zip([in_one, in_ours, stored, from_the_wire])
        {
            rates.push(rate);
        }
        let pairs = [
            stored / in_one,
            stored / in_ours,
            from_the_wire / in_one,
            from_the_wire / in_ours,
        ];
        for (shares, share) in shares.iter_mut().zip(pairs) {
            shares.push(share);
        }
    }
    let [in_one, in_ours, stored, from_the_wire] = rates.map(median);
    println!("  bulk load, one transaction:         {in_one:>9.0} samples/s");
    println!("  bulk load, transactions of {size:>6}:  {in_ours:>9.0} samples/s");
    let [of_one, of_ours, wire_of_one, wire_of_ours] = shares.map(spread);
    println!(
        "  ours, batches of {size:>6}:            {stored:>9.0} samples/s, of the bulk load in one transaction {of_one}, in ours {of_ours} (wanted {BULK_SHARE})"
    );
    if let Some(wire) = wire {
        println!(
            "  ours, from the wire:                {from_the_wire:>9.0} samples/s, of the bulk load in one transaction {wire_of_one}, in ours {wire_of_ours} (wanted {BULK_SHARE}), {} lost",
            wire.losses()
        );
    }
    from_the_wire
}

/// Stores all once while each row that is written is logged.
async fn log_rows<E: Engine>(engine: &mut E, load: &Load, size: usize) {
    engine.reset().await;
    engine.begin_log().await;
    let database = Database::open(&engine.url()).await.unwrap();
    store(&database, &load.before, BATCH).await;
    for batch in load.batches.chunks(size) {
        engine.next_batch().await;
        store(&database, batch, size).await;
    }
    database.close().await;
    let counts = engine.end_log().await;
    let counts: Vec<String> = WRITTEN
        .iter()
        .zip(counts)
        .map(|(table, count)| format!("{count} to {}", table.name))
        .collect();
    println!(" in batches of {size}, rows written: {}", counts.join(", "));
}

/// Stores the load from the beginning; returns the seconds that it took.
async fn ours<E: Engine>(engine: &mut E, load: &Load, size: usize) -> f64 {
    engine.reset().await;
    let database = Database::open(&engine.url()).await.unwrap();
    store(&database, &load.before, BATCH).await;
    let start = Instant::now();
    store(&database, &load.batches, size).await;
    let took = start.elapsed().as_secs_f64();
    database.close().await;
    took
}

async fn store(database: &Database, readings: &[Received], size: usize) {
    for batch in readings.chunks(size) {
        let report = database.store(batch).await.unwrap();
        assert_eq!(report.stored, batch.len());
    }
}

fn show_lags(wire: &mut Wire, rate: f64) {
    for percent in [10, 50, 90] {
        let lags = wire.lags(rate * f64::from(percent) / 100.0);
        let at = |percent: usize| lags[(lags.len() * percent).div_ceil(100) - 1];
        println!(
            "  datagram -> state at {percent} %: p50 {:.0?}, p99 {:.0?}, worst {:.0?} of {} (wanted {LAG_LIMIT:.0?} at 50 %), {} lost",
            at(50),
            at(99),
            at(100),
            lags.len(),
            wire.losses()
        );
    }
}

fn median(mut took: Vec<f64>) -> f64 {
    took.sort_by(f64::total_cmp);
    took[took.len() / 2]
}

/// The median of ratios, with the least and the greatest.
fn spread(mut ratios: Vec<f64>) -> String {
    ratios.sort_by(f64::total_cmp);
    let [least, greatest] = [ratios[0], ratios[ratios.len() - 1]];
    format!("{:.2} ({least:.2}-{greatest:.2})", median(ratios))
}
