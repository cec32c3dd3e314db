//! What it costs to keep readings in the spool and to read them back, in batches of one round of 4 readings
//! and of 100. The peer is a plain write of the same bytes to one file with a sync after each, in the same
//! run on the same disk, in turns; and one plain read of that file.
//!
//! The disk is that of the working directory's `target`, or of the folder that is given as an argument.

// A benchmark measures time and may stop at the first thing that is wrong.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use ceilometer_ha::model::{Identity, Metadata, Reading, Sample, UtcTime, Value, Volume, meters};
use ceilometer_ha::publisher::spool::body;
use ceilometer_ha::publisher::spool::disk::DiskFolder;
use ceilometer_ha::publisher::spool::record::{self, Place};
use ceilometer_ha::publisher::spool::store::{Limits, Store};

/// Runs of each kind in turns, of which the median counts.
const RUNS: usize = 7;
/// Batches of a run.
const BATCHES: u64 = 200;
/// Records that are read at once, as the worker does.
const READ_AT_ONCE: usize = 64;

fn main() {
    let below = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'))
        .unwrap_or_else(|| "target".to_owned());
    let folder = tempfile::tempdir_in(&below).expect("make a folder");
    println!("readings/s, median of {RUNS} runs of {BATCHES} batches, each synced, below {below}:");
    for readings in [4, 100] {
        let batches: Vec<Vec<Reading>> = (0..BATCHES).map(|seq| batch(seq, readings)).collect();
        let mut rates = [const { Vec::new() }; 4];
        for run in 0..RUNS {
            let path = folder.path().join(format!("{readings}-{run}"));
            let (append, replay) = ours(&path, &batches);
            let (write, read) = plain(&path.join("plain"), &batches);
            for (kind, seconds) in rates.iter_mut().zip([append, write, replay, read]) {
                kind.push(seconds);
            }
            fs::remove_dir_all(&path).expect("remove it");
        }
        let total = BATCHES as f64 * readings as f64;
        let [append, write, replay, read] = rates.map(|seconds| total / median(seconds));
        println!("batches of {readings}:");
        println!(
            "  append {append:.0}, plain write and sync {write:.0}: {:.2} of it",
            append / write
        );
        println!(
            "  replay {replay:.0}, plain read without decoding {read:.0}: {:.3} of it",
            replay / read
        );
    }
}

/// Seconds of appending and of reading back.
fn ours(path: &Path, batches: &[Vec<Reading>]) -> (f64, f64) {
    let limits = Limits::of_bytes(1 << 30);
    let now = UtcTime::from_unix_micros(1_700_000_000_000_000);
    let mut store = Store::open(DiskFolder::open(path).unwrap(), limits).unwrap();
    let start = Instant::now();
    for batch in batches {
        let (bodies, _) = body::bodies(batch);
        let mut left = bodies.as_slice();
        while !left.is_empty() {
            let taken = store.append(left, now).unwrap();
            left = &left[taken..];
        }
    }
    let append = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let mut count = 0;
    while store.has_unread() {
        let read = store.read(READ_AT_ONCE, now).unwrap();
        count += read
            .iter()
            .map(|stored| stored.readings.len())
            .sum::<usize>();
        store.sent(read.last().unwrap().end).unwrap();
    }
    let replay = start.elapsed().as_secs_f64();
    assert_eq!(count, batches.iter().map(Vec::len).sum::<usize>());
    (append, replay)
}

/// The same bytes, encoded before.
fn plain(path: &Path, batches: &[Vec<Reading>]) -> (f64, f64) {
    let now = UtcTime::from_unix_micros(1_700_000_000_000_000);
    let records: Vec<Vec<u8>> = batches
        .iter()
        .map(|batch| {
            let mut bytes = Vec::new();
            for body in &body::bodies(batch).0 {
                record::write(&mut bytes, Place::default(), now, body);
            }
            bytes
        })
        .collect();
    let mut file = File::create(path).unwrap();
    let start = Instant::now();
    for bytes in &records {
        file.write_all(bytes).unwrap();
        file.sync_data().unwrap();
    }
    let write = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let length = fs::read(path).unwrap().len();
    let read = start.elapsed().as_secs_f64();
    assert_eq!(length, records.iter().map(Vec::len).sum::<usize>());
    (write, read)
}

fn median(mut runs: Vec<f64>) -> f64 {
    runs.sort_by(f64::total_cmp);
    runs[runs.len() / 2]
}

/// A round as a node's gateways make it.
fn batch(seq: u64, readings: usize) -> Vec<Reading> {
    let reading = |number: usize| {
        let metadata = [
            ("node", Value::from("compute-017.example.org")),
            ("cluster", Value::from("rack-7")),
            ("gateway", Value::from("192.0.2.1")),
        ];
        Reading {
            identity: Identity {
                observer: "compute-017.example.org".to_owned(),
                epoch: 1_462_330_921_123,
                seq: seq * readings as u64 + number as u64,
            },
            message_id: "3f2b6a3e-11a5-11e6-8a5e-525400a1b2c3".to_owned(),
            sample: Sample::new(
                meters::GATEWAY_LOSS_RATIO,
                Volume::ratio(0.25),
                "compute-017.example.org/192.0.2.1",
                UtcTime::from_unix_micros(1_462_330_921_123_456),
                Metadata::from(metadata.map(|(key, value)| (key.to_owned(), value))),
            ),
        }
    };
    (0..readings).map(reading).collect()
}
