//! Storing from the wire: a collector process, signed datagrams, and another connection that looks.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ceilometer_ha::model::{Reading, Secret, meters};
use ceilometer_ha::storage::Database;
use ceilometer_ha::wire;
use sqlx::mysql::MySqlConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions};

use super::fleet::{FULL, HOSTS, datagrams, rounds};
use super::support::mariadb::Server;
use super::support::process::Process;
use super::support::site::{Daemon, Site};
use super::support::wait_for;
use super::{BATCH, mariadb};

/// Messages that may be on their way to the database: enough to keep it busy.
const IN_FLIGHT: u64 = 4 * BATCH as u64;
/// How long each load is kept up.
const LAG_RUN: Duration = Duration::from_secs(15);
/// The series that counts what is in history.
const STORED: &str = "ceilometer_ha_readings_total{result=\"stored\"} ";
/// How often it is looked at what is stored.
const STORED_EVERY: Duration = Duration::from_millis(20);
/// How often the state is looked at, to be added to what is measured.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A collector process with a database of its own, and what was sent to it.
pub(crate) struct Wire {
    site: Site,
    server: Option<Server>,
    _collector: Process,
    sent: u64,
    next: u64,
}

impl Wire {
    pub(crate) async fn on_sqlite() -> Self {
        Wire::start(None).await
    }

    pub(crate) async fn on_mariadb() -> Self {
        let server = mariadb::server();
        Database::dbsync(&Secret::new(server.url())).await.unwrap();
        Wire::start(Some(server)).await
    }

    async fn start(server: Option<Server>) -> Self {
        let site = Site::new();
        let lines = server.as_ref().map_or_else(String::new, |server| {
            format!("[database]\nconnection = {}", server.url())
        });
        // The readings have times of their own.
        let lines = format!("clock_tolerance = 0\n{lines}");
        let collector = site.collector_with(&lines);
        let mut wire = Wire {
            site,
            server,
            _collector: collector,
            sent: 0,
            next: 0,
        };
        // Everything is known from here on.
        let datagrams = datagrams(&wire.next_rounds(FULL));
        wire.send_all(&datagrams);
        wire.wait();
        wire
    }

    fn next_rounds(&mut self, count: u64) -> Vec<Reading> {
        let first = self.next;
        self.next += count;
        rounds(first..self.next)
    }

    /// Sends this many rounds as fast as they are stored; returns samples a second.
    pub(crate) fn rate(&mut self, count: u64) -> f64 {
        let readings = self.next_rounds(count);
        let datagrams = datagrams(&readings);
        let start = Instant::now();
        self.send_all(&datagrams);
        self.wait();
        readings.len() as f64 / start.elapsed().as_secs_f64()
    }

    /// Asked over a bare socket: a program for each look would take from what is measured.
    fn stored(&self) -> u64 {
        let mut http = TcpStream::connect(self.site.http_address(Daemon::Collector)).unwrap();
        http.write_all(b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut text = String::new();
        http.read_to_string(&mut text).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(STORED));
        value.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
    }

    fn send_all(&mut self, datagrams: &[wire::Datagram]) {
        let mut stored = self.stored();
        for datagram in datagrams {
            while self.sent - stored > IN_FLIGHT {
                std::thread::sleep(STORED_EVERY);
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

    /// Readings whose history was lost, and datagrams that the kernel dropped.
    pub(crate) fn losses(&self) -> u64 {
        let series = "messages_dropped_total{reason=\"queue_full\"}";
        self.site.metric(Daemon::Collector, series) + self.site.datagrams().1
    }

    /// Sends at a rate; returns how long each heartbeat took to be readable, sorted.
    pub(crate) fn lags(&mut self, rate: f64) -> Vec<Duration> {
        let of_a_round = rounds(FULL..FULL + 1).len() as f64;
        let count = (rate * LAG_RUN.as_secs_f64() / of_a_round).ceil().max(2.0) as u64;
        let readings = self.next_rounds(count);
        let datagrams = datagrams(&readings);
        let (tell, sent) = std::sync::mpsc::channel();
        let place = self.place();
        let reader = std::thread::spawn(move || watch(place, &sent));
        let start = Instant::now();
        let mut rest = &readings[..];
        for datagram in &datagrams {
            let messages = readings.len() - rest.len();
            let due = start + Duration::from_secs_f64(messages as f64 / rate);
            if let Some(early) = due.checked_duration_since(Instant::now()) {
                std::thread::sleep(early);
            }
            self.site.send(&datagram.bytes);
            let at = Instant::now();
            let (now, later) = rest.split_at(datagram.messages);
            rest = later;
            let beats = now
                .iter()
                .filter(|one| one.sample.meter == meters::HEARTBEAT);
            for beat in beats {
                let seq = i64::try_from(beat.identity.seq).unwrap();
                tell.send((beat.identity.observer.clone(), seq, at))
                    .unwrap();
            }
            self.sent += datagram.messages as u64;
        }
        drop(tell);
        let mut lags = reader.join().unwrap();
        assert_eq!(lags.len() as u64, count * HOSTS as u64);
        self.wait();
        lags.sort();
        lags
    }

    fn place(&self) -> Place {
        match &self.server {
            None => Place::Sqlite(self.site.database()),
            Some(server) => Place::Mariadb(server.socket()),
        }
    }
}

/// A host's heartbeat by its number, and when it was sent.
type Sent = (String, i64, Instant);

enum Place {
    Sqlite(PathBuf),
    Mariadb(PathBuf),
}

enum Reader {
    Sqlite(SqliteConnection),
    Mariadb(MySqlConnection),
}

impl Reader {
    async fn open(place: Place) -> Self {
        match place {
            Place::Sqlite(file) => {
                let options = SqliteConnectOptions::new().filename(file).read_only(true);
                Reader::Sqlite(options.connect().await.unwrap())
            }
            Place::Mariadb(socket) => Reader::Mariadb(mariadb::connect(&socket).await),
        }
    }

    async fn heartbeats(&mut self) -> Vec<(String, i64)> {
        let text = AssertSqlSafe(format!(
            "SELECT observer, seq FROM ha_state WHERE meter = '{}'",
            meters::HEARTBEAT.name
        ));
        match self {
            Reader::Sqlite(conn) => sqlx::query_as(text).fetch_all(conn).await.unwrap(),
            Reader::Mariadb(conn) => sqlx::query_as(text).fetch_all(conn).await.unwrap(),
        }
    }
}

/// Looks until nobody sends and each heartbeat is there. One that was overtaken by the next one became
/// readable when that was seen.
fn watch(place: Place, sent: &std::sync::mpsc::Receiver<Sent>) -> Vec<Duration> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut reader = Reader::open(place).await;
        let mut open: HashMap<String, Vec<(i64, Instant)>> = HashMap::new();
        let mut lags = Vec::new();
        let mut is_over = false;
        while !is_over || open.values().any(|waiting| !waiting.is_empty()) {
            let shown = reader.heartbeats().await;
            let now = Instant::now();
            is_over = take(sent, &mut open);
            for (host, shown) in shown {
                let waiting = open.entry(host).or_default();
                let seen = waiting.iter().filter(|(seq, _)| *seq <= shown);
                lags.extend(seen.map(|(_, at)| now.saturating_duration_since(*at)));
                waiting.retain(|(seq, _)| *seq > shown);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        lags
    })
}

/// Takes in what was sent; returns whether that was all.
fn take(
    sent: &std::sync::mpsc::Receiver<Sent>,
    open: &mut HashMap<String, Vec<(i64, Instant)>>,
) -> bool {
    loop {
        match sent.try_recv() {
            Ok((host, seq, at)) => open.entry(host).or_default().push((seq, at)),
            Err(std::sync::mpsc::TryRecvError::Empty) => return false,
            Err(std::sync::mpsc::TryRecvError::Disconnected) => return true,
        }
    }
}
