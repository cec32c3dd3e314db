//! What befalls a database while a collector stores into it: whatever it is, receiving goes on, memory
//! stays bounded, and once it is over everything that was taken in is there, once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use ceilometer_ha::wire;
use support::disk::Disk;
use support::site::{Daemon, Lock, Site, reading, signed};
use support::{run, wait_for, wait_until};

/// Hosts whose readings are sent.
const HOSTS: u64 = 5;
/// Readings in a datagram: a publisher packs as many as its path's MTU holds; here that is a loopback's.
const READINGS_PER_DATAGRAM: u64 = 50;
/// Datagrams that are sent before it is made sure that they arrived, so that none is lost on the way.
const DATAGRAMS_AT_ONCE: u64 = 20;

/// Sends the readings of a small fleet, and knows what must be stored of them.
struct Feed<'s> {
    site: &'s Site,
    readings: u64,
    datagrams: u64,
}

impl<'s> Feed<'s> {
    fn new(site: &'s Site) -> Self {
        Feed {
            site,
            readings: 0,
            datagrams: 0,
        }
    }

    /// Sends so many more and waits until they have been received, which no database may keep from
    /// happening.
    #[track_caller]
    fn send(&mut self, readings: u64) {
        let last = self.readings + readings;
        while self.readings < last {
            let count = READINGS_PER_DATAGRAM.min(last - self.readings);
            let messages = (0..count).map(|_| self.next()).collect();
            for datagram in wire::pack(messages, 65_000) {
                self.site.send(&datagram.bytes);
                self.datagrams += 1;
            }
            if self.datagrams.is_multiple_of(DATAGRAMS_AT_ONCE) {
                self.site.wait_for_datagrams(self.datagrams);
            }
        }
        self.site.wait_for_datagrams(self.datagrams);
        assert_eq!(self.site.datagrams().1, 0, "the kernel dropped datagrams");
    }

    fn next(&mut self) -> Vec<u8> {
        let host = format!("node-{}", self.readings % HOSTS);
        let seq = self.readings / HOSTS + 1;
        self.readings += 1;
        signed(&reading(&host, seq))
    }

    /// The sum of the numbers that the states of all hosts must show.
    fn newest(&self) -> u64 {
        let of = |host| (self.readings + HOSTS - 1 - host) / HOSTS;
        (0..HOSTS).map(of).sum()
    }

    /// Waits until all of it is in the history, once, and the newest of each host in its state.
    #[track_caller]
    fn assert_all_stored(&self) {
        let sql = "SELECT count(*) FROM sample";
        wait_until("everything to be stored", || match self.site.number(sql) {
            stored if stored >= self.readings => Ok(()),
            stored => Err(format!("{stored} of {}", self.readings)),
        });
        assert_eq!(self.site.number(sql), self.readings, "stored twice");
        self.site.assert_nothing_twice();
        let states = "SELECT sum(seq) FROM ha_state WHERE meter = 'storage_connectivity'";
        assert_eq!(self.site.number(states), self.newest());
        let dropped = ["queue_full", "shutdown"].map(|reason| {
            let series = format!("messages_dropped_total{{reason=\"{reason}\"}}");
            self.site.metric(Daemon::Collector, &series)
        });
        assert_eq!(dropped, [0, 0]);
    }
}

/// Waits until batches fail.
#[track_caller]
fn wait_for_failures(site: &Site) {
    let before = site.metric(Daemon::Collector, "store_errors_total");
    wait_for("a batch that could not be stored", || {
        let now = site.metric(Daemon::Collector, "store_errors_total");
        (now > before).then_some(())
    });
}

mod sqlite {
    use super::*;

    /// A collector on a small disk of its own.
    struct Small {
        site: Site,
        _disk: Disk,
    }

    impl Small {
        fn new() -> Self {
            let site = Site::new();
            let disk = Disk::at(&site.path("collector"));
            Small { site, _disk: disk }
        }

        /// The files that are written into, but for the one that is mapped.
        fn files(&self) -> Vec<PathBuf> {
            let file = self.site.database();
            let log = file.with_extension("sqlite-wal");
            vec![file, log]
        }

        fn change(&self, flag: &str) {
            run(Command::new("chattr").arg(flag).args(self.files()));
        }
    }

    #[test]
    fn locked_by_another_program() {
        let site = Site::new();
        let _collector = site.collector();
        let mut feed = Feed::new(&site);
        feed.send(500);
        feed.assert_all_stored();
        let lock = Lock::hold(&site.database());
        feed.send(2_000);
        wait_for_failures(&site);
        feed.send(2_000);
        lock.release();
        feed.assert_all_stored();
    }

    #[test]
    fn its_disk_full_and_then_not() {
        let small = Small::new();
        let site = &small.site;
        let _collector = site.collector();
        let mut feed = Feed::new(site);
        feed.send(500);
        feed.assert_all_stored();
        let ballast = site.path("collector/ballast");
        fill(&ballast);
        feed.send(5_000);
        wait_for_failures(site);
        let said = site.wait_for_unready(Daemon::Collector, "full");
        assert!(said.contains("batches can't be stored"), "{said}");
        feed.send(2_000);
        fs::remove_file(&ballast).unwrap();
        feed.assert_all_stored();
        site.assert_intact();
    }

    #[test]
    fn its_files_not_to_be_written_and_then_again() {
        let small = Small::new();
        let site = &small.site;
        let _collector = site.collector();
        let mut feed = Feed::new(site);
        feed.send(500);
        feed.assert_all_stored();
        small.change("+i");
        feed.send(2_000);
        wait_for_failures(site);
        feed.send(2_000);
        small.change("-i");
        feed.assert_all_stored();
        site.assert_intact();
    }

    #[test]
    fn its_collector_killed_in_the_middle_of_batches() {
        let site = Site::new();
        let mut sent = 0;
        for life in 0..5 {
            let collector = site.collector();
            let mut feed = Feed {
                readings: sent,
                ..Feed::new(&site)
            };
            feed.send(1_000);
            sent = feed.readings;
            collector.kill();
            site.assert_intact();
            // What was stored is whole: each reading with what it needs, and no state without history.
            let lonely = "SELECT count(*) FROM sample WHERE resource_id NOT IN (SELECT internal_id FROM resource)";
            assert_eq!(site.number(lonely), 0, "life {life}");
        }
        let _collector = site.collector();
        let mut again = Feed::new(&site);
        again.send(sent);
        again.assert_all_stored();
    }

    /// Writes until nothing more fits.
    fn fill(path: &std::path::Path) {
        let mut file = File::create(path).unwrap();
        for size in [1 << 20, 4096, 1] {
            let block = vec![0; size];
            while file.write_all(&block).is_ok() {}
        }
        let _ = file.sync_all();
    }
}
