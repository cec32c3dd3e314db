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
use std::path::{Path, PathBuf};
use std::process::Command;

use ceilometer_ha::wire;
use support::disk::Disk;
use support::site::{Daemon, Lock, Site, reading, signed};
use support::{program, run, wait_for, wait_until};

/// Hosts whose readings are sent.
const HOSTS: u64 = 5;
/// Readings in a datagram: a publisher packs as many as its path's MTU holds; here that is a loopback's.
const READINGS_PER_DATAGRAM: u64 = 50;
/// Datagrams that are sent before it is made sure that they arrived, so that none is lost on the way.
const DATAGRAMS_AT_ONCE: u64 = 20;

/// Sends the readings of a small fleet, and knows what must be stored of them.
struct Feed<'s> {
    site: &'s Site,
    /// The one number that a query on the collector's database yields.
    number: &'s dyn Fn(&str) -> u64,
    readings: u64,
    datagrams: u64,
}

impl<'s> Feed<'s> {
    fn new(site: &'s Site, number: &'s dyn Fn(&str) -> u64) -> Self {
        Feed {
            site,
            number,
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
        let stored = || (self.number)("SELECT count(*) FROM sample");
        wait_until("everything to be stored", || match stored() {
            stored if stored >= self.readings => Ok(()),
            stored => Err(format!("{stored} of {}", self.readings)),
        });
        assert_eq!(stored(), self.readings, "stored twice");
        let distinct = (self.number)("SELECT count(DISTINCT message_id) FROM sample");
        assert_eq!(distinct, self.readings, "stored twice");
        let states = "SELECT sum(seq) FROM ha_state WHERE meter = 'storage_connectivity'";
        assert_eq!((self.number)(states), self.newest());
        assert_eq!(self.dropped(), 0);
    }

    /// Messages that the collector gave up.
    #[track_caller]
    fn dropped(&self) -> u64 {
        let of = |reason| {
            let series = format!("messages_dropped_total{{reason=\"{reason}\"}}");
            self.site.metric(Daemon::Collector, &series)
        };
        of("queue_full") + of("shutdown")
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

/// Writes until nothing more fits.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    for size in [1 << 20, 4096, 1] {
        let block = vec![0; size];
        while file.write_all(&block).is_ok() {}
    }
    let _ = file.sync_all();
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
        let number = |sql: &str| site.number(sql);
        let mut feed = Feed::new(&site, &number);
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
        let number = |sql: &str| site.number(sql);
        let mut feed = Feed::new(site, &number);
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
        let number = |sql: &str| site.number(sql);
        let mut feed = Feed::new(site, &number);
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
        let number = |sql: &str| site.number(sql);
        let mut sent = 0;
        for life in 0..5 {
            let collector = site.collector();
            let mut feed = Feed {
                readings: sent,
                ..Feed::new(&site, &number)
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
        let mut again = Feed::new(&site, &number);
        again.send(sent);
        again.assert_all_stored();
    }
}

mod mariadb {
    use super::*;
    use ceilometer_ha::clock;
    use nix::sys::signal::Signal;
    use std::io::{BufRead, BufReader};
    use std::process::{Child, ChildStdin, ChildStdout, Stdio};
    use std::time::Duration;
    use support::mariadb::{DATABASE, Server, USER};
    use support::process::Process;

    /// What a collector may have resident while its queues are full: 20,000 messages and their states
    /// come to some 40 MB, and a tenth of a second of datagrams to another 25.
    const RESIDENT_LIMIT_KB: u64 = 200_000;

    /// A collector on a server, whose tables are made first: it doesn't make them by itself.
    fn collector(site: &Site, server: &Server) -> Process {
        site.collector_with(&prepared(site, server))
    }

    /// Makes the tables; returns what a collector's file has to say of the server.
    fn prepared(site: &Site, server: &Server) -> String {
        let lines = format!("[database]\nconnection = {}", server.url());
        let mut dbsync = Command::new(program("ceilometer-collector-ha"));
        run(dbsync
            .args(["dbsync", "--config-file"])
            .arg(site.collector_config(&lines)));
        lines
    }

    /// A collector that has stored something already.
    struct Running {
        site: Site,
        server: Server,
        collector: Process,
    }

    impl Running {
        fn new(server: Server) -> Self {
            let site = Site::new();
            let collector = collector(&site, &server);
            Running {
                site,
                server,
                collector,
            }
        }

        fn resident_kb(&self) -> u64 {
            let status = fs::read_to_string(format!("/proc/{}/status", self.collector.pid()));
            let status = status.expect("a running process");
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
            number.expect("a size").parse().expect("a number")
        }
    }

    /// Sends until something failed, and a little more.
    fn send_until_it_fails(feed: &mut Feed<'_>) {
        feed.send(1_000);
        wait_for_failures(feed.site);
        feed.send(1_000);
    }

    #[test]
    fn killed_in_the_middle_of_batches_and_started_again() {
        let Running {
            site,
            server,
            collector: _collector,
        } = Running::new(Server::start());
        let server = std::cell::RefCell::new(server);
        let number = |sql: &str| server.borrow().number(sql);
        let mut feed = Feed::new(&site, &number);
        for _ in 0..3 {
            feed.send(3_000);
            server.borrow_mut().kill();
            send_until_it_fails(&mut feed);
            server.borrow_mut().start_again();
            feed.assert_all_stored();
        }
    }

    #[test]
    fn stopped_in_good_order_and_started_again() {
        let Running {
            site,
            server,
            collector: _collector,
        } = Running::new(Server::start());
        let server = std::cell::RefCell::new(server);
        let number = |sql: &str| server.borrow().number(sql);
        let mut feed = Feed::new(&site, &number);
        feed.send(1_000);
        assert!(server.borrow_mut().stop().success());
        send_until_it_fails(&mut feed);
        site.wait_for_unready(Daemon::Collector, "batches can't be stored");
        server.borrow_mut().start_again();
        feed.assert_all_stored();
    }

    #[test]
    fn away_when_the_collector_starts() {
        let site = Site::new();
        let mut server = Server::start();
        let lines = prepared(&site, &server);
        assert!(server.stop().success());
        let collector = site.collector_with(&lines);
        let server = std::cell::RefCell::new(server);
        let number = |sql: &str| server.borrow().number(sql);
        let mut feed = Feed::new(&site, &number);
        send_until_it_fails(&mut feed);
        let log = collector.log();
        assert!(log.contains("the database is away"), "{log}");
        site.wait_for_unready(Daemon::Collector, "batches can't be stored");
        server.borrow_mut().start_again();
        feed.assert_all_stored();
    }

    #[test]
    fn its_disk_full_and_then_not() {
        let site = Site::new();
        let _disk = Disk::of(256 << 20, &site.path("disk"));
        let server = Server::start_in(&site.path("disk"), &[]);
        let _collector = collector(&site, &server);
        let server = std::cell::RefCell::new(server);
        let number = |sql: &str| server.borrow().number(sql);
        let mut feed = Feed::new(&site, &number);
        feed.send(500);
        feed.assert_all_stored();
        let ballast = site.path("disk/ballast");
        fill(&ballast);
        // What InnoDB has in its files already is used up first.
        feed.send(15_000);
        wait_for_failures(&site);
        feed.send(1_000);
        fs::remove_file(&ballast).unwrap();
        // InnoDB ends itself where it can't even write down what it gives up.
        server.borrow_mut().start_if_it_ended();
        feed.assert_all_stored();
    }

    #[test]
    fn read_only_and_then_not() {
        let running = Running::new(Server::start());
        let number = |sql: &str| running.server.number(sql);
        let mut feed = Feed::new(&running.site, &number);
        feed.send(500);
        running.server.sql("SET GLOBAL read_only = ON");
        send_until_it_fails(&mut feed);
        running.server.sql("SET GLOBAL read_only = OFF");
        feed.assert_all_stored();
    }

    #[test]
    fn stalled_for_half_a_minute_with_more_than_may_wait() {
        let running = Running::new(Server::start());
        let number = |sql: &str| running.server.number(sql);
        let mut feed = Feed::new(&running.site, &number);
        feed.send(500);
        feed.assert_all_stored();
        running.server.signal(Signal::SIGSTOP);
        let since = clock::now();
        // More than may wait, and then on and on: whoever sends is always heard.
        feed.send(30_000);
        while clock::now() < since + Duration::from_secs(30) {
            feed.send(50);
        }
        let resident = running.resident_kb();
        assert!(resident < RESIDENT_LIMIT_KB, "{resident} kB");
        running.server.signal(Signal::SIGCONT);
        let newest = feed.newest();
        let states = "SELECT sum(seq) FROM ha_state WHERE meter = 'storage_connectivity'";
        wait_until("the newest states", || match number(states) {
            sum if sum == newest => Ok(()),
            sum => Err(format!("{sum} of {newest}")),
        });
        wait_until("all but what was dropped", || {
            let (stored, dropped) = (number("SELECT count(*) FROM sample"), feed.dropped());
            if stored + dropped == feed.readings && dropped > 0 {
                Ok(())
            } else {
                Err(format!("{stored} + {dropped} of {}", feed.readings))
            }
        });
        let doubles = "SELECT count(*) - count(DISTINCT message_id) FROM sample";
        assert_eq!(number(doubles), 0, "stored twice");
    }

    #[test]
    fn all_its_connections_taken_by_others() {
        let Running {
            site,
            server,
            collector,
        } = Running::new(Server::start_with(&["--max-connections=10"]));
        let number = |sql: &str| server.number(sql);
        let mut feed = Feed::new(&site, &number);
        feed.send(500);
        feed.assert_all_stored();
        // Stopped, it can't be the first to connect again.
        collector.signal(Signal::SIGSTOP);
        let of_ours = format!("FROM information_schema.processlist WHERE user = '{USER}'");
        for id in server.sql(&format!("SELECT id {of_ours}")) {
            server.sql(&format!("KILL {id}"));
        }
        wait_until("its connections to be gone", || {
            match server.number(&format!("SELECT count(*) {of_ours}")) {
                0 => Ok(()),
                left => Err(format!("{left} are left")),
            }
        });
        let others: Vec<Client> = (0..10).map(|_| Client::connect(&server)).collect();
        collector.signal(Signal::SIGCONT);
        send_until_it_fails(&mut feed);
        wait_until("the reason to be logged", || {
            let log = collector.log();
            let is_said = log.contains("Too many connections");
            is_said.then_some(()).ok_or(log)
        });
        drop(others);
        feed.assert_all_stored();
    }

    #[test]
    fn a_deadlock_with_another_program() {
        let Running {
            site,
            server,
            collector,
        } = Running::new(Server::start());
        let number = |sql: &str| server.number(sql);
        let mut feed = Feed::new(&site, &number);
        feed.send(500);
        feed.assert_all_stored();
        // InnoDB ends the transaction that has changed less: the other one shall have changed more.
        server.sql("CREATE TABLE ballast (a INT) ENGINE = InnoDB");
        let mut other = Client::connect(&server);
        other.tell("START TRANSACTION; INSERT INTO ballast SELECT seq FROM seq_1_to_20000");
        other.tell("SELECT seq FROM ha_state WHERE observer = 'node-0' FOR UPDATE");
        feed.send(1_000);
        wait_until("the collector to wait for the other one", || {
            let waiting = "FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'";
            match server.number(&format!("SELECT count(*) {waiting}")) {
                0 => Err("nobody waits".to_owned()),
                _ => Ok(()),
            }
        });
        other.tell("SELECT id FROM ha_writer FOR UPDATE; COMMIT");
        wait_until("the reason to be logged", || {
            let log = collector.log();
            let is_said = log.contains("Deadlock found");
            is_said.then_some(()).ok_or(log)
        });
        feed.assert_all_stored();
    }

    #[test]
    fn two_collectors_that_both_hear_everything_and_one_is_killed() {
        let server = Server::start();
        let number = |sql: &str| server.number(sql);
        let (one, two) = (Site::new(), Site::new());
        let _first = collector(&one, &server);
        let mut first = Feed::new(&one, &number);
        let mut second = Feed::new(&two, &number);
        for _ in 0..3 {
            let killed = collector(&two, &server);
            // Its own count begins anew with each of its lives.
            second.datagrams = 0;
            for _ in 0..5 {
                first.send(400);
                second.send(400);
            }
            killed.kill();
        }
        first.assert_all_stored();
        let resources = "SELECT count(*) - count(DISTINCT resource_id) FROM resource";
        assert_eq!(number(resources), 0, "a resource has two rows");
    }

    /// A session of another program that stays open.
    struct Client {
        child: Child,
        stdin: ChildStdin,
        answers: BufReader<ChildStdout>,
    }

    impl Client {
        fn connect(server: &Server) -> Self {
            let mut child = server
                .client()
                .args(["--unbuffered", DATABASE])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("start a client");
            let stdin = child.stdin.take().expect("its stdin");
            let answers = BufReader::new(child.stdout.take().expect("its stdout"));
            let mut client = Client {
                child,
                stdin,
                answers,
            };
            client.tell("SELECT 'connected'");
            client
        }

        /// Runs statements and waits until they are through.
        fn tell(&mut self, statements: &str) {
            writeln!(self.stdin, "{statements}; SELECT 'through';").expect("tell the client");
            let mut line = String::new();
            while line.trim() != "through" {
                line.clear();
                let read = self.answers.read_line(&mut line).expect("hear the client");
                assert!(read > 0, "the client ended in: {statements}");
            }
        }
    }

    impl Drop for Client {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
