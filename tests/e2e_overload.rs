//! A collector that gets more than its database can take: the present stays readable, what history
//! loses is counted, and memory stays bounded.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use ceilometer_ha::model::{Reading, Secret, Value};
use ceilometer_ha::wire;
use support::process::Process;
use support::site::{Daemon, Lock, SECRET, Site, reading, signed};
use support::{wait_for, wait_until};

/// Messages that may wait, as ARCHITECTURE.md has it.
const WAITING: u64 = 20_000;
/// The shipped `batch_size`.
const BATCH: u64 = 1000;

/// Sends readings, many to a datagram, and waits until they are taken in: none is lost on the way.
fn send(site: &Site, readings: &[Reading]) {
    let secret = Secret::new(SECRET);
    let before = site.messages("accepted");
    let mut sent = 0;
    for some in readings.chunks(500) {
        let encode = |reading| {
            wire::encode(
                reading,
                "udp://storage",
                &wire::Signing::new("openstack", secret.clone()),
            )
        };
        for datagram in wire::pack(some.iter().map(encode).collect(), 8192) {
            site.send(&datagram.bytes);
        }
        sent += u64::try_from(some.len()).unwrap();
        wait_for("all to be received", || {
            (site.messages("accepted") == before + sent).then_some(())
        });
    }
}

fn dropped(site: &Site, reason: &str) -> u64 {
    let series = format!("messages_dropped_total{{reason=\"{reason}\"}}");
    site.metric(Daemon::Collector, &series)
}

/// Waits until nothing waits and every accepted message is accounted for.
fn wait_until_settled(site: &Site) {
    wait_until("all to be stored or counted", || {
        let accepted = site.messages("accepted");
        let stored = site.readings("stored") + site.readings("duplicate");
        let lost = dropped(site, "queue_full") + dropped(site, "state_lost");
        if stored + lost == accepted && site.metric(Daemon::Collector, "queued_messages") == 0 {
            return Ok(());
        }
        Err(format!("{stored} stored and {lost} lost of {accepted}"))
    });
}

/// How much later than the present this history was stored, by the database's clock.
const BEHIND: &str = "SELECT CAST((julianday(recorded_at) - 2440587.5) * 86400000 AS INTEGER) \
     - (SELECT max(received_at) / 1000 FROM ha_state) AS behind FROM sample";

#[test]
fn the_newest_of_every_state_is_stored_first_and_what_history_loses_is_counted() {
    const OBSERVERS: u64 = 300;
    const EACH: u64 = 100;
    let site = Site::new();
    let _collector = site.collector();
    let lock = Lock::hold(&site.database());
    let rounds = (1..=EACH).flat_map(|seq| {
        (1..=OBSERVERS).map(move |observer| reading(&format!("node-{observer}"), seq))
    });
    let readings: Vec<Reading> = rounds.collect();
    send(&site, &readings);
    let lost = dropped(&site, "queue_full");
    assert!(
        (OBSERVERS * EACH - WAITING - 2 * BATCH..=OBSERVERS * EACH - WAITING).contains(&lost),
        "{lost} lost: a batch is being stored, another may be ready, and the queue is full"
    );
    assert_eq!(dropped(&site, "state_lost"), 0);
    lock.release();
    wait_until_settled(&site);

    let newest = format!("SELECT count(*) FROM ha_state WHERE seq = {EACH}");
    assert_eq!(site.number(&newest), OBSERVERS, "the newest of each");
    let samples = site.number("SELECT count(*) FROM sample");
    assert_eq!(samples, OBSERVERS * EACH - lost);
    assert_eq!(dropped(&site, "queue_full"), lost);
    site.assert_nothing_twice();
    let later = site.number(&format!("SELECT count(*) FROM ({BEHIND}) WHERE behind > 0"));
    assert!(
        later * 10 > samples * 9,
        "only {later} of {samples} samples were stored after the last state had moved"
    );
    let ahead = site.metric(Daemon::Collector, "states_moved_ahead_total");
    assert_eq!(ahead, OBSERVERS, "each moved once, ahead");
}

#[test]
fn a_state_does_not_wait_for_its_batch() {
    let site = Site::new();
    let _collector = site.collector_with("batch_timeout = 4");
    site.send(&signed(&reading("patient", 1)));
    wait_for("the sample", || {
        (site.samples_of("patient") == 1).then_some(())
    });
    let behind = site.number(BEHIND);
    assert!(
        (2000..6000).contains(&behind),
        "the sample came {behind} ms after the state"
    );
    assert_eq!(site.readings("late"), 0);
}

fn most_kilobytes(process: &Process) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.unwrap().parse().unwrap()
}

/// All that is sent is half a gigabyte.
#[test]
fn large_messages_take_no_more_memory_than_stated() {
    const COUNT: u64 = 8000;
    const BYTES: usize = 60_000;
    /// Two budgets of 64 MiB; a batch of 16 MiB that is being stored and another that is ready, with
    /// their rows; and the datagrams on their way.
    const GROWTH_MAX_KB: u64 = 280_000;
    let site = Site::new();
    let collector = site.collector();
    let _lock = Lock::hold(&site.database());
    let before = most_kilobytes(&collector);
    for seq in 1..=COUNT {
        let mut large = reading(&format!("node-{seq}"), seq);
        let text = Value::from("x".repeat(BYTES));
        large.sample.metadata.insert("text".to_owned(), text);
        site.send(&signed(&large));
        if seq % 100 == 0 {
            wait_for("all to be received", || {
                (site.messages("accepted") == seq).then_some(())
            });
        }
    }
    let grown = most_kilobytes(&collector) - before;
    assert!(grown < GROWTH_MAX_KB, "{grown} kB more at the most");
    let (history, states) = (dropped(&site, "queue_full"), dropped(&site, "state_lost"));
    assert!(history > 0 && states > 0, "{history} and {states} lost");
}
