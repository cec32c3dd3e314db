//! Collector and agent on this machine's loopback. Each site has a loopback address of its own and
//! ports below those that the kernel gives away, so that no two tests meet, and a daemon that is
//! started again finds its ports free.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use ceilometer_ha::clock;
use ceilometer_ha::model::{Identity, Reading, Sample, Secret, Value, Volume, meters};
use ceilometer_ha::wire;
use serde_json::Value as Json;
use tempfile::TempDir;

use super::process::Process;
use super::{program, query, run_unchecked, status, wait_for, wait_until};

/// The secret of the collector that the golden datagrams were sent to.
pub const SECRET: &str = "nmWpu7Pu8DDWhQ3oPaBpVQjn";
/// The host name of the agent.
pub const HOST: &str = "node-1";
/// The epoch of readings that a test makes itself.
pub const EPOCH: u64 = 1_700_000_000_000;

const UDP_PORT: u16 = 14953;
/// Paths that tests put on what they send themselves.
const MADE_UP: &str =
    "udp://test, udp://storage, udp://management, udp://again, udp://192.0.2.6:4953";
const AGENT_HTTP_PORT: u16 = 19180;
const COLLECTOR_HTTP_PORT: u16 = 19181;
/// The first second byte of the addresses: 127.0 and its neighbours belong to everybody.
const FIRST_NETWORK: u8 = 16;

static SITES: AtomicU8 = AtomicU8::new(FIRST_NETWORK);

/// Which daemon is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Daemon {
    Agent,
    Collector,
}

/// The files and the address of one test's daemons.
pub struct Site {
    pub folder: TempDir,
    pub ip: Ipv4Addr,
    socket: UdpSocket,
}

impl Default for Site {
    fn default() -> Self {
        Site::new()
    }
}

impl Site {
    pub fn new() -> Self {
        let [.., high, low] = std::process::id().to_be_bytes();
        let ip = Ipv4Addr::new(127, SITES.fetch_add(1, Ordering::Relaxed), high, low);
        Site {
            folder: tempfile::tempdir().expect("make a folder"),
            ip,
            socket: UdpSocket::bind((ip, 0)).expect("bind a socket"),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn database(&self) -> PathBuf {
        self.path("collector/ceilometer_ha.sqlite")
    }

    /// Where the collector receives, as a publisher's URL.
    pub fn url(&self) -> String {
        format!("udp://{}:{UDP_PORT}", self.ip)
    }

    /// The collector's settings as environment variables, for a program with other files.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("OS_COLLECTOR__UDP_ADDRESS", self.ip.to_string()),
            ("OS_COLLECTOR__UDP_PORT", UDP_PORT.to_string()),
            ("OS_COLLECTOR__HTTP_LISTEN", self.http(Daemon::Collector)),
            ("OS_AGENT__HTTP_LISTEN", self.http(Daemon::Agent)),
        ]
    }

    /// Writes the collector's file, with further lines for its `[collector]`.
    pub fn collector_config(&self, lines: &str) -> PathBuf {
        let config = self.path("collector.conf");
        let state = self.path("collector");
        let text = format!(
            "[DEFAULT]\nhost = controller\nstate_path = {}\n[publisher]\ntelemetry_secret = {SECRET}\nallow_weak_secret = true\n[collector]\nudp_address = {}\nudp_port = {UDP_PORT}\nhttp_listen = {}\naccept_paths = {MADE_UP}\n{lines}\n",
            state.display(),
            self.ip,
            self.http(Daemon::Collector),
        );
        fs::write(&config, text).expect("write a file");
        config
    }

    /// Starts the collector and waits until it is there.
    pub fn collector(&self) -> Process {
        self.collector_with("")
    }

    /// The same with further lines for its `[collector]`.
    pub fn collector_with(&self, lines: &str) -> Process {
        let config = self.collector_config(lines);
        let mut command = Command::new(program("ceilometer-collector-ha"));
        let process = Process::start(
            command.arg("--config-file").arg(config),
            &self.path("collector.log"),
        );
        self.wait_for_health(Daemon::Collector);
        process
    }

    /// Writes the agent's files: both gateways are this machine itself.
    pub fn agent_config(&self) -> PathBuf {
        let (config, pipeline) = (self.path("agent.conf"), self.path("pipeline_ha.yaml"));
        fs::write(
            &pipeline,
            format!(
                "sources:\n    - name: ha_source\n      interval: 0.5\n      meters: [storage_connectivity, storage_gateway.*, compute.heartbeat]\n      sinks: [ha_sink]\nsinks:\n    - name: ha_sink\n      transformers:\n      publishers: ['{}']\n",
                self.url()
            ),
        )
        .expect("write a file");
        fs::write(
            &config,
            format!(
                "[DEFAULT]\nhost = {HOST}\nstate_path = {}\n[compute]\nstorage_server_address = 127.0.0.1, 127.0.0.2\nping_interval = 0.05\n[publisher]\ntelemetry_secret = {SECRET}\nallow_weak_secret = true\n[agent]\nhttp_listen = {}\n",
                self.path("agent").display(),
                self.http(Daemon::Agent),
            ),
        )
        .expect("write a file");
        config
    }

    /// Starts the agent and waits until it is there.
    pub fn agent(&self) -> Process {
        let config = self.agent_config();
        let mut command = Command::new(program("ceilometer-polling-ha"));
        let process = Process::start(
            command.arg("--config-file").arg(config),
            &self.path("agent.log"),
        );
        self.wait_for_health(Daemon::Agent);
        process
    }

    /// Starts an agent with the sources of a pipeline and lines of configuration of the test's own;
    /// several hosts may have one. It serves no HTTP: what it sends says that it is there.
    pub fn agent_of(&self, host: &str, sources: &str, lines: &str) -> Process {
        let folder = self.path(host);
        fs::create_dir_all(&folder).expect("make a folder");
        let (config, pipeline) = (folder.join("agent.conf"), folder.join("pipeline_ha.yaml"));
        let url = self.url();
        fs::write(
            pipeline,
            format!("sources:\n{sources}\nsinks:\n    - name: ha_sink\n      transformers:\n      publishers: ['{url}']\n"),
        )
        .expect("write a file");
        fs::write(
            &config,
            format!(
                "[DEFAULT]\nhost = {host}\nstate_path = {}\n[publisher]\ntelemetry_secret = {SECRET}\nallow_weak_secret = true\n[agent]\nhttp_listen =\n{lines}\n",
                folder.join("state").display(),
            ),
        )
        .expect("write a file");
        let mut command = Command::new(program("ceilometer-polling-ha"));
        Process::start(
            command.arg("--config-file").arg(config),
            &folder.join("agent.log"),
        )
    }

    /// Sends one datagram to the collector.
    #[track_caller]
    pub fn send(&self, datagram: &[u8]) {
        let sent = self.socket.send_to(datagram, (self.ip, UDP_PORT));
        assert_eq!(sent.expect("send a datagram"), datagram.len());
    }

    /// What a daemon answers to this path: status code and body; None while it isn't there.
    pub fn get(&self, daemon: Daemon, path: &str) -> Option<(u16, String)> {
        let url = format!("http://{}{path}", self.http(daemon));
        let mut curl = Command::new("curl");
        let output =
            run_unchecked(curl.args(["-s", "--max-time", "10", "-w", "\n%{http_code}", &url]));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, code) = text.rsplit_once('\n')?;
        Some((
            code.parse().ok().filter(|code| *code != 0)?,
            body.to_owned(),
        ))
    }

    #[track_caller]
    pub fn wait_for_health(&self, daemon: Daemon) {
        wait_until("a healthy daemon", || match self.get(daemon, "/healthz") {
            Some((200, _)) => Ok(()),
            other => Err(format!("{daemon:?} says {other:?}")),
        });
    }

    /// All metrics of a daemon, as a scraper gets them.
    #[track_caller]
    pub fn scrape(&self, daemon: Daemon) -> String {
        let (code, text) = self.get(daemon, "/metrics").expect("metrics");
        assert_eq!(code, 200, "{text}");
        text
    }

    /// Waits until `/readyz` says this in one of its lines; returns the line.
    #[track_caller]
    pub fn wait_for_unready(&self, daemon: Daemon, what: &str) -> String {
        wait_until(what, || match self.get(daemon, "/readyz") {
            Some((503, text)) => {
                let line = text.lines().find(|line| line.contains(what));
                line.map(str::to_owned).ok_or(text)
            }
            other => Err(format!("{other:?}")),
        })
    }

    /// Where a daemon serves HTTP.
    pub fn http_address(&self, daemon: Daemon) -> SocketAddr {
        self.http(daemon).parse().expect("an address")
    }

    /// The value of a series, its labels in alphabetical order; 0 while it isn't there.
    #[track_caller]
    pub fn metric(&self, daemon: Daemon, series: &str) -> u64 {
        let text = self.scrape(daemon);
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("ceilometer_ha_{series} ")));
        value.map_or(0, |value| value.parse().expect("a whole number"))
    }

    /// Messages by verdict.
    #[track_caller]
    pub fn messages(&self, verdict: &str) -> u64 {
        self.metric(
            Daemon::Collector,
            &format!("messages_total{{transport=\"udp\",verdict=\"{verdict}\"}}"),
        )
    }

    /// Messages of all verdicts but `accepted`.
    pub fn refused_messages(&self) -> u64 {
        let refusals = wire::Refusal::ALL.into_iter();
        refusals
            .map(|refusal| self.messages(refusal.as_str()))
            .sum()
    }

    /// Readings by what storing made of them.
    #[track_caller]
    pub fn readings(&self, result: &str) -> u64 {
        self.metric(
            Daemon::Collector,
            &format!("readings_total{{result=\"{result}\"}}"),
        )
    }

    /// Datagrams that came in, and those that the kernel dropped.
    pub fn datagrams(&self) -> (u64, u64) {
        let of =
            |name: &str| self.metric(Daemon::Collector, &format!("{name}{{transport=\"udp\"}}"));
        (of("datagrams_total"), of("datagrams_dropped_total"))
    }

    /// Waits until this many datagrams have come in or are known to be lost.
    #[track_caller]
    pub fn wait_for_datagrams(&self, sent: u64) {
        wait_until("all datagrams", || match self.datagrams() {
            (received, dropped) if received + dropped == sent => Ok(()),
            other => Err(format!("of {sent} datagrams: {other:?}")),
        });
    }

    /// The fleet as `compute-ha status` shows it.
    pub fn fleet(&self) -> Option<Json> {
        status(&self.path("collector.conf"))
    }

    /// One host of it.
    pub fn host(&self, name: &str) -> Option<Json> {
        let fleet = self.fleet()?;
        let hosts = fleet["hosts"].as_array()?.iter();
        hosts.clone().find(|host| host["host"] == name).cloned()
    }

    /// Waits until a host looks like this.
    #[track_caller]
    pub fn wait_for_host(&self, name: &str, what: &str, is: impl Fn(&Json) -> bool) -> Json {
        wait_until(what, || match self.host(name) {
            Some(host) if is(&host) => Ok(host),
            other => Err(format!("the host is {other:#?}")),
        })
    }

    /// Waits until the agent's storage is reached, in a life later than this epoch; returns the
    /// epoch.
    #[track_caller]
    pub fn wait_for_agent(&self, after: u64) -> u64 {
        let host = self.wait_for_host(HOST, "storage to be reached", |host| {
            host["storage"]["verdict"] == "reachable"
                && host["heartbeat"]["epoch"].as_u64() > Some(after)
        });
        host["heartbeat"]["epoch"].as_u64().expect("an epoch")
    }

    /// The one number that a query yields, never negative; 0 for null.
    #[track_caller]
    pub fn number(&self, sql: &str) -> u64 {
        let rows = query(&self.database(), &format!("SELECT ({sql}) AS n"));
        let row = rows.first().unwrap_or_else(|| panic!("no answer to {sql}"));
        match &row["n"] {
            Json::Null => 0,
            number => number
                .as_u64()
                .unwrap_or_else(|| panic!("{sql} is {number}")),
        }
    }

    /// How many samples a resource has.
    #[track_caller]
    pub fn samples_of(&self, resource: &str) -> u64 {
        self.number(&format!("SELECT count(*) FROM sample s JOIN resource r ON r.internal_id = s.resource_id WHERE r.resource_id = '{resource}'"))
    }

    /// Waits until a resource has so many samples.
    #[track_caller]
    pub fn wait_for_samples(&self, resource: &str, count: u64) {
        wait_until("samples", || match self.samples_of(resource) {
            stored if stored == count => Ok(()),
            other => Err(format!("{resource} has {other} samples, not {count}")),
        });
    }

    /// Sends a good reading and waits until it is stored.
    #[track_caller]
    pub fn store_one(&self, reading: &Reading) {
        self.send(&signed(reading));
        let sql = format!(
            "SELECT count(*) FROM sample WHERE message_id = '{}'",
            reading.message_id
        );
        wait_for("a good reading to be stored", || {
            (self.number(&sql) == 1).then_some(())
        });
    }

    /// Every message of the history is there once.
    #[track_caller]
    pub fn assert_nothing_twice(&self) {
        assert!(self.number("SELECT count(*) FROM sample") > 0, "no history");
        // In one query, because more may be stored at any moment.
        let doubles = "SELECT count(*) - count(DISTINCT message_id) FROM sample";
        assert_eq!(self.number(doubles), 0, "messages stored twice");
    }

    /// The database's file is whole.
    #[track_caller]
    pub fn assert_intact(&self) {
        let check = query(&self.database(), "PRAGMA integrity_check");
        assert_eq!(check, [serde_json::json!({"integrity_check": "ok"})]);
    }

    fn http(&self, daemon: Daemon) -> String {
        let port = match daemon {
            Daemon::Agent => AGENT_HTTP_PORT,
            Daemon::Collector => COLLECTOR_HTTP_PORT,
        };
        format!("{}:{port}", self.ip)
    }
}

/// Another program that holds the database's lock for writing.
pub struct Lock {
    holder: Child,
    stdin: ChildStdin,
}

impl Lock {
    /// Takes the lock and returns once it is held.
    pub fn hold(database: &Path) -> Self {
        let mut holder = Command::new("sqlite3")
            .arg(database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start sqlite3");
        let mut stdin = holder.stdin.take().expect("its stdin");
        writeln!(stdin, ".timeout 10000\nBEGIN EXCLUSIVE;\nSELECT 'held';").expect("tell sqlite3");
        let mut line = String::new();
        let stdout = holder.stdout.as_mut().expect("its stdout");
        BufReader::new(stdout).read_line(&mut line).expect("hear");
        assert_eq!(line, "held\n");
        Lock { holder, stdin }
    }

    /// Lets go of it.
    pub fn release(self) {
        let Lock { mut holder, stdin } = self;
        drop(stdin);
        assert!(holder.wait().expect("wait for sqlite3").success());
    }
}

/// A reading of the storage by an observer of the test's own.
pub fn reading(observer: &str, seq: u64) -> Reading {
    Reading {
        identity: Identity {
            observer: observer.to_owned(),
            epoch: EPOCH,
            seq,
        },
        message_id: format!("{observer}-{seq}"),
        sample: Sample {
            meter: meters::STORAGE_CONNECTIVITY,
            volume: Volume::Int(1),
            resource_id: observer.to_owned(),
            user_id: None,
            project_id: None,
            timestamp: clock::utc(),
            metadata: [("node".to_owned(), Value::from(observer))].into(),
        },
    }
}

/// The message of a reading, authentic.
pub fn signed(reading: &Reading) -> Vec<u8> {
    signed_with(reading, "udp://test", SECRET)
}

/// The message of a reading for this path, with this secret.
pub fn signed_with(reading: &Reading, path: &str, secret: &str) -> Vec<u8> {
    wire::encode(
        reading,
        path,
        &wire::Signing::new("openstack", Secret::new(secret)),
    )
}

/// A datagram of a real sender.
pub struct Golden {
    pub name: String,
    pub message_id: String,
    pub secret: String,
    pub datagram: Vec<u8>,
}

/// All golden datagrams.
pub fn goldens() -> Vec<Golden> {
    let lines = include_str!("../fixtures/udp.jsonl").lines();
    let goldens: Vec<Golden> = lines.map(golden).collect();
    let ids: BTreeSet<&str> = goldens.iter().map(|one| one.message_id.as_str()).collect();
    assert_eq!(ids.len(), goldens.len(), "each has an id of its own");
    goldens
}

fn golden(line: &str) -> Golden {
    // Python's words for what JSON has none for; only volumes and metadata have them.
    let line = line
        .replace("-Infinity", "null")
        .replace("Infinity", "null");
    let case: Json = serde_json::from_str(&line.replace("NaN", "null")).expect("JSON");
    let text = |value: &Json| value.as_str().expect("a text").to_owned();
    let hex = text(&case["datagram_hex"]);
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
    Golden {
        name: text(&case["name"]),
        message_id: text(&case["message"]["message_id"]),
        secret: text(&case["secret"]),
        datagram: (0..hex.len()).step_by(2).map(byte).collect(),
    }
}
