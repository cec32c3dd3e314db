//! Storing a fleet's readings, in steady state, with the real indexes:
//!
//! - the engine's own bulk load of every row that we write, all tables: rows of a run of ours were
//!   logged by triggers, and `INSERT … SELECT` writes them again from an attached database, all in one
//!   transaction, and in transactions of the same rows as ours;
//! - one commit for each sample;
//! - ours through [`Database::store`] in batches of 1,000, and from the wire: signed datagrams sent to
//!   a collector process as fast as it stores them without a loss;
//! - from a datagram to the state that another connection reads, at 10, 50 and 90 % of that.
//!
//! All on SQLite with a commit on the disk (`synchronous = FULL`). What is compared runs in turns,
//! because a machine that is busy changes from minute to minute.

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

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ceilometer_ha::model::{
    Identity, Metadata, Reading, Received, Sample, Secret, UtcTime, Value, Volume, meters,
};
use ceilometer_ha::storage::Database;
use ceilometer_ha::wire;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row, raw_sql};
use support::process::Process;
use support::site::{Daemon, SECRET, Site};
use support::wait_for;

/// Compute nodes, each with two gateways and four instances.
const HOSTS: usize = 250;
/// Rounds of all hosts in one run.
const ROUNDS: u64 = 16;
/// Samples in a batch: the shipped `batch_size`.
const BATCH: usize = 1000;
/// Interleaved runs, of which the median counts.
const RUNS: usize = 5;
/// One commit a sample is so slow that fewer have to do.
const SINGLY: usize = 500;
/// Messages that may be on their way to the database: the queue holds 20,000.
const IN_FLIGHT: u64 = 12_000;
/// How long each load is kept up.
const LAG_RUN: Duration = Duration::from_secs(15);
const BULK_SHARE: f64 = 0.5;
const LAG_LIMIT: Duration = Duration::from_millis(300);
const EPOCH: u64 = 1_790_000_000_000;

/// Tables that a batch in steady state writes to, with their keys; None for rows that are only added.
const WRITTEN: [(&str, Option<&str>); 4] = [
    ("sample", None),
    ("ha_state", Some("observer, meter, resource_id")),
    ("ha_path", Some("observer, path")),
    ("ha_seen", Some("observer, epoch")),
];

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let what = std::env::args().nth(1).unwrap_or_default();
    let folder = tempfile::tempdir().unwrap();
    if what != "--lag-only" {
        runtime.block_on(throughput(folder.path()));
    }
    if what != "--store-only" {
        from_the_wire();
    }
}

async fn throughput(folder: &Path) {
    let warm = folder.join("warm");
    let known: Vec<Received> = received(&rounds(0..1));
    let database = fresh(&warm).await;
    store(&database, &known).await;
    database.close().await;
    let batches = received(&rounds(1..=ROUNDS));
    println!(
        "{} samples of {HOSTS} hosts in batches of {BATCH}, {} states, median of {RUNS} runs in turns",
        batches.len(),
        known.len()
    );
    let log = log_rows(folder, &warm, &batches).await;
    let mut took: [Vec<f64>; 3] = Default::default();
    for _ in 0..RUNS {
        took[0].push(bulk(folder, &warm, &log, true).await);
        took[1].push(bulk(folder, &warm, &log, false).await);
        took[2].push(ours(folder, &warm, &batches).await);
    }
    let singly = ours_singly(folder, &warm, &batches[..SINGLY]).await;
    let rate = |took: f64| batches.len() as f64 / took;
    let [one, batched, ours] = took.map(|took| rate(median(took)));
    println!("bulk load, one transaction:     {one:>9.0} samples/s");
    println!("bulk load, same transactions:   {batched:>9.0} samples/s");
    println!(
        "ours, Database::store:          {ours:>9.0} samples/s, {:.2} of the bulk load in one transaction, {:.2} of that in ours (wanted {BULK_SHARE})",
        ours / one,
        ours / batched
    );
    println!(
        "ours, one commit a sample:      {:>9.0} samples/s",
        SINGLY as f64 / singly
    );
}

/// A database of ours at this path.
async fn fresh(file: &Path) -> Database {
    let url = url(file);
    Database::dbsync(&url).await.unwrap();
    Database::open(&url).await.unwrap()
}

fn url(file: &Path) -> Secret {
    Secret::new(format!("sqlite:///{}", file.display()))
}

async fn store(database: &Database, readings: &[Received]) {
    for batch in readings.chunks(BATCH) {
        let report = database.store(batch).await.unwrap();
        assert_eq!(report.stored, batch.len());
    }
}

async fn raw(file: &Path) -> SqliteConnection {
    SqliteConnectOptions::new()
        .filename(file)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .pragma("wal_autocheckpoint", "8192")
        .pragma("cache_size", "-32768")
        .connect()
        .await
        .unwrap()
}

async fn run(conn: &mut SqliteConnection, text: &str) {
    raw_sql(AssertSqlSafe(text.to_owned()))
        .execute(conn)
        .await
        .unwrap_or_else(|error| panic!("{text}: {error}"));
}

/// A copy of the warm database, which nobody has open.
fn copy(folder: &Path, warm: &Path) -> PathBuf {
    let file = folder.join("run");
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{end}", file.display()));
    }
    fs::copy(warm, &file).unwrap();
    file
}

async fn columns(conn: &mut SqliteConnection, table: &str) -> Vec<String> {
    let text = format!("SELECT name FROM pragma_table_info('{table}')");
    let rows = raw_sql(AssertSqlSafe(text)).fetch_all(conn).await.unwrap();
    let names = rows.iter().map(|row| row.get::<String, _>(0));
    names.filter(|name| name != "id").collect()
}

/// Stores all once, with triggers that log each row as it is written; returns the file with the log:
/// a table for each table, with the number of the batch.
async fn log_rows(folder: &Path, warm: &Path, readings: &[Received]) -> PathBuf {
    let file = copy(folder, warm);
    let mut conn = raw(&file).await;
    run(
        &mut conn,
        "CREATE TABLE log_batch (n INTEGER); INSERT INTO log_batch VALUES (0)",
    )
    .await;
    for (table, key) in WRITTEN {
        let columns = columns(&mut conn, table).await;
        let new: Vec<String> = columns.iter().map(|name| format!("NEW.{name}")).collect();
        run(
            &mut conn,
            &format!(
                "CREATE TABLE log_{table} (batch INTEGER, {})",
                columns.join(", ")
            ),
        )
        .await;
        let events: &[&str] = if key.is_some() {
            &["INSERT", "UPDATE"]
        } else {
            &["INSERT"]
        };
        for event in events {
            run(
                &mut conn,
                &format!(
                    "CREATE TRIGGER log_{table}_{event} AFTER {event} ON {table} BEGIN \
                     INSERT INTO log_{table} VALUES ((SELECT n FROM log_batch), {}); END",
                    new.join(", ")
                ),
            )
            .await;
        }
    }
    let database = Database::open(&url(&file)).await.unwrap();
    for batch in readings.chunks(BATCH) {
        run(&mut conn, "UPDATE log_batch SET n = n + 1").await;
        database.store(batch).await.unwrap();
    }
    database.close().await;
    // What is attached has to be there.
    let log = folder.join("log");
    fs::write(&log, "").unwrap();
    run(&mut conn, &format!("ATTACH '{}' AS log", log.display())).await;
    for (table, _) in WRITTEN {
        run(
            &mut conn,
            &format!(
                "CREATE TABLE log.{table} AS SELECT * FROM main.log_{table} ORDER BY rowid; \
                 CREATE INDEX log.of_{table} ON {table} (batch)"
            ),
        )
        .await;
        let rows: i64 =
            sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM log.{table}")))
                .fetch_one(&mut conn)
                .await
                .unwrap();
        println!("{rows:>9} rows written to {table}");
    }
    conn.close().await.unwrap();
    log
}

/// Writes what was logged again; returns the seconds that it took.
async fn bulk(folder: &Path, warm: &Path, log: &Path, in_one: bool) -> f64 {
    let mut conn = raw(&copy(folder, warm)).await;
    run(&mut conn, &format!("ATTACH '{}' AS log", log.display())).await;
    let mut texts = Vec::new();
    for (table, key) in WRITTEN {
        let columns = columns(&mut conn, table).await;
        let set: Vec<String> = columns
            .iter()
            .map(|name| format!("{name} = excluded.{name}"))
            .collect();
        let on_conflict = key.map_or_else(String::new, |key| {
            format!("ON CONFLICT ({key}) DO UPDATE SET {}", set.join(", "))
        });
        let columns = columns.join(", ");
        texts.push(format!(
            "INSERT INTO main.{table} ({columns}) SELECT {columns} FROM log.{table} WHERE batch = ? {on_conflict}"
        ));
    }
    let last: i64 = sqlx::query_scalar("SELECT max(batch) FROM log.sample")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    let start = Instant::now();
    if in_one {
        run(&mut conn, "BEGIN IMMEDIATE").await;
    }
    for batch in 1..=last {
        if !in_one {
            run(&mut conn, "BEGIN IMMEDIATE").await;
        }
        for text in &texts {
            sqlx::query(AssertSqlSafe(text.clone()))
                .bind(batch)
                .execute(&mut conn)
                .await
                .unwrap();
        }
        if !in_one {
            run(&mut conn, "COMMIT").await;
        }
    }
    if in_one {
        run(&mut conn, "COMMIT").await;
    }
    let took = start.elapsed().as_secs_f64();
    conn.close().await.unwrap();
    took
}

async fn ours(folder: &Path, warm: &Path, readings: &[Received]) -> f64 {
    let database = Database::open(&url(&copy(folder, warm))).await.unwrap();
    let start = Instant::now();
    store(&database, readings).await;
    let took = start.elapsed().as_secs_f64();
    database.close().await;
    took
}

async fn ours_singly(folder: &Path, warm: &Path, readings: &[Received]) -> f64 {
    let database = Database::open(&url(&copy(folder, warm))).await.unwrap();
    let start = Instant::now();
    for reading in readings {
        database.store(std::slice::from_ref(reading)).await.unwrap();
    }
    let took = start.elapsed().as_secs_f64();
    database.close().await;
    took
}

/// A collector process, and what was sent to it.
struct Wire {
    site: Site,
    _collector: Process,
    sent: u64,
    round: u64,
}

impl Wire {
    fn start() -> Self {
        let site = Site::new();
        let collector = site.collector();
        let mut wire = Wire {
            site,
            _collector: collector,
            sent: 0,
            round: 0,
        };
        // Every resource is known from here on.
        let datagrams = datagrams(&rounds(0..1));
        wire.send_all(&datagrams);
        wire.wait();
        wire
    }

    fn next_rounds(&mut self, count: u64) -> Vec<Reading> {
        let first = self.round + 1;
        self.round += count;
        rounds(first..=self.round)
    }

    fn stored(&self) -> u64 {
        self.site.readings("stored")
    }

    /// Sends as fast as is stored.
    fn send_all(&mut self, datagrams: &[wire::Datagram]) {
        let mut stored = self.stored();
        for datagram in datagrams {
            while self.sent - stored > IN_FLIGHT {
                std::thread::sleep(Duration::from_millis(5));
                stored = self.stored();
            }
            self.site.send(&datagram.bytes);
            self.sent += datagram.messages as u64;
        }
    }

    fn wait(&self) {
        wait_for("all to be stored", || {
            (self.stored() == self.sent).then_some(())
        });
    }

    fn losses(&self) -> u64 {
        let series = "messages_dropped_total{reason=\"queue_full\"}";
        self.site.metric(Daemon::Collector, series) + self.site.datagrams().1
    }
}

fn from_the_wire() {
    let mut rates = Vec::new();
    let mut wire = Wire::start();
    for _ in 0..RUNS {
        let readings = wire.next_rounds(ROUNDS);
        let datagrams = datagrams(&readings);
        let start = Instant::now();
        wire.send_all(&datagrams);
        wire.wait();
        rates.push(readings.len() as f64 / start.elapsed().as_secs_f64());
    }
    let rate = median(rates);
    println!(
        "ours, from the wire:            {rate:>9.0} samples/s, {} lost",
        wire.losses()
    );
    for percent in [10, 50, 90] {
        let mut lags = lags(&mut wire, rate * f64::from(percent) / 100.0);
        lags.sort();
        let at = |percent: usize| lags[(lags.len() * percent).div_ceil(100) - 1];
        println!(
            "datagram -> state at {percent} %: p50 {:.0?}, p99 {:.0?}, worst {:.0?} of {} (wanted {LAG_LIMIT:.0?} at 50 %), {} lost",
            at(50),
            at(99),
            at(100),
            lags.len(),
            wire.losses()
        );
    }
}

/// Sends at a rate; returns how long each heartbeat took to be readable, looked for every 5 ms.
fn lags(wire: &mut Wire, rate: f64) -> Vec<Duration> {
    let per_round = rounds(0..1).len() as f64;
    let count = (rate * LAG_RUN.as_secs_f64() / per_round).ceil().max(2.0) as u64;
    let first = wire.round + 1;
    let readings = wire.next_rounds(count);
    let datagrams = datagrams(&readings);
    let done = first + count - 1;
    let file = wire.site.database();
    let (tell, sent_at) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || watch(&file, done, &sent_at));
    let start = Instant::now();
    let mut messages = 0.0;
    let mut beat = 0usize;
    for datagram in &datagrams {
        let due = start + Duration::from_secs_f64(messages / rate);
        if let Some(early) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(early);
        }
        wire.site.send(&datagram.bytes);
        let now = Instant::now();
        messages += datagram.messages as f64;
        wire.sent += datagram.messages as u64;
        // The heartbeat is the last of a host's round.
        while ((beat + 1) * PER_HOST) as f64 <= messages {
            let (round, host) = (first + (beat / HOSTS) as u64, beat % HOSTS);
            tell.send(((host_name(host), seq_of_heartbeat(round)), now))
                .unwrap();
            beat += 1;
        }
    }
    drop(tell);
    wire.wait();
    reader.join().unwrap()
}

type Sent = ((String, i64), Instant);

/// Looks until the last heartbeat of all is there. A heartbeat that was overtaken by the next one
/// became readable when that was seen.
fn watch(file: &Path, last_round: u64, sent_at: &std::sync::mpsc::Receiver<Sent>) -> Vec<Duration> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut conn = SqliteConnectOptions::new()
            .filename(file)
            .read_only(true)
            .connect()
            .await
            .unwrap();
        let mut open: HashMap<String, Vec<(i64, Instant)>> = HashMap::new();
        let mut lags = Vec::new();
        loop {
            let rows: Vec<(String, i64)> = sqlx::query_as(
                "SELECT observer, seq FROM ha_state WHERE meter = 'compute.heartbeat'",
            )
            .fetch_all(&mut conn)
            .await
            .unwrap();
            let now = Instant::now();
            for ((host, seq), at) in sent_at.try_iter() {
                open.entry(host).or_default().push((seq, at));
            }
            let mut done = 0;
            for (host, shown) in rows {
                done += usize::from(shown >= seq_of_heartbeat(last_round));
                let waiting = open.entry(host).or_default();
                let seen = waiting.iter().filter(|(seq, _)| *seq <= shown);
                lags.extend(seen.map(|(_, at)| now.saturating_duration_since(*at)));
                waiting.retain(|(seq, _)| *seq > shown);
            }
            if done == HOSTS && open.values().all(Vec::is_empty) {
                return lags;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
}

fn host_name(host: usize) -> String {
    format!("compute-{host:03}.example.org")
}

/// Readings of one host in one round.
const PER_HOST: usize = 16;

fn seq_of_heartbeat(round: u64) -> i64 {
    i64::try_from((round + 1) * PER_HOST as u64).unwrap()
}

/// All readings of these rounds, host by host.
fn rounds(which: impl IntoIterator<Item = u64>) -> Vec<Reading> {
    let all = which.into_iter();
    all.flat_map(|round| (0..HOSTS).flat_map(move |host| of_host(host, round)))
        .collect()
}

fn of_host(host: usize, round: u64) -> Vec<Reading> {
    let name = host_name(host);
    let mut samples = vec![(
        meters::STORAGE_CONNECTIVITY,
        name.clone(),
        Volume::ratio(1.0),
    )];
    for gateway in ["192.0.2.1", "192.0.2.2"] {
        let resource = format!("{name}/{gateway}");
        samples.push((
            meters::GATEWAY_LOSS_RATIO,
            resource.clone(),
            Volume::ratio(0.0),
        ));
        samples.push((meters::GATEWAY_RTT, resource.clone(), Volume::ratio(0.25)));
        samples.push((meters::GATEWAY_STATUS, resource, Volume::ratio(0.0)));
    }
    for instance in 0..4 {
        let resource = format!("{host:08x}-0000-4000-8000-{instance:012x}");
        samples.push((meters::INSTANCE_STATE, resource.clone(), Volume::ratio(1.0)));
        samples.push((meters::INSTANCE, resource, Volume::ratio(1.0)));
    }
    samples.push((meters::HEARTBEAT, name.clone(), Volume::ratio(1.0)));
    assert_eq!(samples.len(), PER_HOST);
    let numbered = (1..).zip(samples);
    numbered
        .map(|(number, (meter, resource_id, volume))| {
            let cluster = vec![("cluster".to_owned(), Value::from("rack-7"))];
            let metadata = [
                ("node".to_owned(), Value::from(name.clone())),
                ("cluster".to_owned(), Value::from("rack-7")),
                ("user_metadata".to_owned(), Value::Map(cluster)),
                ("interval".to_owned(), Value::from(1.0)),
            ];
            let seq = round * PER_HOST as u64 + number;
            Reading {
                identity: Identity {
                    observer: name.clone(),
                    epoch: EPOCH,
                    seq,
                },
                message_id: format!("{host:08x}-11a5-11e6-8a5e-{seq:012x}"),
                sample: Sample {
                    meter,
                    volume,
                    resource_id,
                    user_id: None,
                    project_id: None,
                    timestamp: UtcTime::from_unix_micros(
                        1_790_000_000_000_000 + i64::try_from(round).unwrap() * 1_000_000,
                    ),
                    metadata: Metadata::from(metadata),
                },
            }
        })
        .collect()
}

/// Signed and packed as an agent does on an Ethernet, host by host and round by round.
fn datagrams(readings: &[Reading]) -> Vec<wire::Datagram> {
    let secret = Secret::new(SECRET);
    readings
        .chunks(PER_HOST)
        .flat_map(|round| {
            let encode =
                |reading| wire::encode(reading, "openstack", "udp://192.0.2.6:4953", &secret);
            wire::pack(round.iter().map(encode).collect(), 1472)
        })
        .collect()
}

/// The same readings as a collector takes them in.
fn received(readings: &[Reading]) -> Vec<Received> {
    let secret = Secret::new(SECRET);
    let taken = datagrams(readings).into_iter().flat_map(|datagram| {
        let (received, refusals) = wire::receive(&datagram.bytes, &secret);
        assert!(refusals.is_empty());
        received
    });
    taken.collect()
}

fn median(mut took: Vec<f64>) -> f64 {
    took.sort_by(f64::total_cmp);
    took[took.len() / 2]
}
