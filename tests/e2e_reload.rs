//! Reloads of whole programs on loopback: what changes while rounds go on, what is refused and stays as
//! it was, and what a thousand reloads leave behind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;

use ceilometer_ha::clock;
use ceilometer_ha::daemons::DRAIN_LIMIT;
use ceilometer_ha::model::Secret;
use ceilometer_ha::wire;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value as Json;

use support::process::Process;
use support::site::{Daemon, HOST, SECRET, Site, reading, signed_with};
use support::{program, query, wait_for, wait_until};

/// What an agent's file says beside the usual, by section.
#[derive(Clone, Default)]
struct Lines {
    default: String,
    compute: String,
    more: String,
}

/// A source of a pipeline file.
fn source(name: &str, interval: &str, meters: &str) -> String {
    source_to(name, interval, meters, "ha_sink")
}

fn source_to(name: &str, interval: &str, meters: &str, sinks: &str) -> String {
    format!(
        "    - name: {name}\n      interval: {interval}\n      meters: [{meters}]\n      sinks: [{sinks}]\n"
    )
}

fn sink(name: &str, publishers: &[&str]) -> String {
    format!(
        "    - name: {name}\n      transformers:\n      publishers: ['{}']\n",
        publishers.join("', '")
    )
}

/// An agent whose files the test rewrites.
struct Node<'a> {
    site: &'a Site,
    process: Process,
}

impl<'a> Node<'a> {
    /// Starts one with these lines and sources, publishing to the site's collector.
    fn start(site: &'a Site, lines: &Lines, sources: &str) -> Self {
        write_config(site, lines);
        write_pipeline(site, sources, &sink("ha_sink", &[&site.url()]));
        let process = Process::start(&mut agent(site), &site.path("agent.log"));
        site.wait_for_health(Daemon::Agent);
        Node { site, process }
    }

    /// New files, SIGHUP, and the outcome is waited for.
    fn reload(&self, lines: &Lines, sources: &str, expected: &str) {
        write_config(self.site, lines);
        write_pipeline(self.site, sources, &sink("ha_sink", &[&self.site.url()]));
        self.hangup(expected);
    }

    /// SIGHUP, and its outcome is waited for.
    fn hangup(&self, expected: &str) {
        hangup(self.site, Daemon::Agent, &self.process, expected);
    }

    fn outcomes(&self) -> [u64; 3] {
        outcomes(self.site, Daemon::Agent)
    }

    fn log(&self) -> String {
        self.process.log()
    }

    /// What the newest reading of a meter says of itself.
    fn newest(&self, meter: &str) -> Option<Json> {
        let sql = format!(
            "SELECT metadata FROM ha_state WHERE observer = '{HOST}' AND meter = '{meter}' ORDER BY seq DESC LIMIT 1"
        );
        let row = query(&self.site.database(), &sql).pop()?;
        serde_json::from_str(row["metadata"].as_str()?).ok()
    }

    fn wait_for_newest(&self, meter: &str, what: &str, is: impl Fn(&Json) -> bool) {
        wait_until(what, || match self.newest(meter) {
            Some(metadata) if is(&metadata) => Ok(()),
            other => Err(format!("{meter} has {other:?}")),
        });
    }

    /// Waits for so many further heartbeats to be stored.
    fn wait_for_heartbeats(&self, more: u64) {
        let stored = || {
            self.site.number("SELECT count(*) FROM sample s JOIN meter m ON m.id = s.meter_id WHERE m.name = 'compute.heartbeat'")
        };
        let before = stored();
        wait_for("further heartbeats", || {
            (stored() >= before + more).then_some(())
        });
    }

    /// What `/readyz` says while a configuration is refused.
    fn wait_for_refusal(&self, words: &[&str]) {
        wait_until("a daemon that isn't ready", || {
            match self.site.get(Daemon::Agent, "/readyz") {
                Some((503, text)) if words.iter().all(|word| text.contains(word)) => Ok(()),
                other => Err(format!("{other:?} lacks {words:?}")),
            }
        });
        assert_eq!(self.site.get(Daemon::Agent, "/healthz").unwrap().0, 200);
    }

    /// Waits for `/readyz` to say so: a pollster that has just begun has yet to end a round.
    fn wait_until_ready(&self) {
        wait_until("a daemon that is ready", || {
            match self.site.get(Daemon::Agent, "/readyz") {
                Some((200, text)) if text == "ok\n" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }
}

fn config_path(site: &Site) -> PathBuf {
    site.path("agent.conf")
}

fn pipeline_path(site: &Site) -> PathBuf {
    site.path("pipeline_ha.yaml")
}

fn agent(site: &Site) -> Command {
    let mut command = Command::new(program("ceilometer-polling-ha"));
    command.arg("--config-file").arg(config_path(site));
    command
}

fn write_config(site: &Site, lines: &Lines) {
    let http = http_of(site, Daemon::Agent);
    let secret = match lines.more.contains("telemetry_secret") {
        true => String::new(),
        false => format!("[publisher]\ntelemetry_secret = {SECRET}\nallow_weak_secret = true\n"),
    };
    let text = format!(
        "[DEFAULT]\nhost = {HOST}\nstate_path = {}\n{}\n[agent]\nhttp_listen = {http}\n{secret}[compute]\n{}\n{}\n",
        site.path("agent").display(),
        lines.default,
        lines.compute,
        lines.more
    );
    put(&config_path(site), &text);
}

fn write_pipeline(site: &Site, sources: &str, sinks: &str) {
    let text = format!("sources:\n{sources}sinks:\n{sinks}");
    put(&pipeline_path(site), &text);
}

/// Where a daemon serves HTTP.
fn http_of(site: &Site, daemon: Daemon) -> String {
    let name = match daemon {
        Daemon::Agent => "OS_AGENT__HTTP_LISTEN",
        Daemon::Collector => "OS_COLLECTOR__HTTP_LISTEN",
    };
    let environment = site.environment().into_iter();
    let mut of_daemon = environment.filter(|(key, _)| *key == name);
    of_daemon.next().unwrap().1
}

/// Whole or not at all, as careful tools write files; also in the place of something else.
fn put(path: &Path, text: &str) {
    let draft = path.with_extension("new");
    fs::write(&draft, text).unwrap();
    fs::rename(&draft, path).unwrap();
}

/// Reloads that were applied, unchanged and refused.
fn outcomes(site: &Site, daemon: Daemon) -> [u64; 3] {
    let text = metrics(site, daemon);
    ["applied", "unchanged", "refused"].map(|result| {
        let series = format!("ceilometer_ha_config_reloads_total{{result=\"{result}\"}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&series));
        value.unwrap().parse().unwrap()
    })
}

/// What a daemon measures, asked without another program: a thousand reloads ask some thousand times.
fn metrics(site: &Site, daemon: Daemon) -> String {
    let address = http_of(site, daemon);
    let mut stream = TcpStream::connect(&address).unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn hangup(site: &Site, daemon: Daemon, process: &Process, expected: &str) {
    let before = outcomes(site, daemon);
    process.signal(Signal::SIGHUP);
    let after = wait_for("a reload", || {
        Some(outcomes(site, daemon)).filter(|after| *after != before)
    });
    let index = ["applied", "unchanged", "refused"]
        .iter()
        .position(|result| *result == expected)
        .unwrap();
    let mut due = before;
    due[index] += 1;
    assert_eq!(after, due, "{expected} expected\n{}", process.log());
}

fn compute(lines: &str) -> Lines {
    Lines {
        compute: format!("ping_interval = 0.05\n{lines}"),
        ..Lines::default()
    }
}

const BEAT: (&str, &str, &str) = ("beat", "0.1", "compute.heartbeat");

fn beat() -> String {
    source(BEAT.0, BEAT.1, BEAT.2)
}

// ---------------------------------------------------------------- Under load

/// Every number that an agent gave out since its start is stored, and each once.
fn assert_each_stored_once(site: &Site) {
    let of_agent = format!(
        "FROM sample s JOIN resource r ON r.internal_id = s.resource_id WHERE r.resource_id LIKE '{HOST}%' OR r.resource_id = '6695eb01-f6a4-8304-79aa-97f2502e193f'"
    );
    let last = site.number(&format!(
        "SELECT max(seq) FROM ha_state WHERE observer = '{HOST}'"
    ));
    let stored = site.number(&format!("SELECT count(*) {of_agent}"));
    let ids = site.number(&format!("SELECT count(DISTINCT s.message_id) {of_agent}"));
    assert_eq!(
        (stored, ids),
        (last, last),
        "stored, and different, of {last}"
    );
    let lives = format!("SELECT count(*) FROM ha_seen WHERE observer = '{HOST}'");
    assert_eq!(site.number(&lives), 1, "one epoch");
}

/// Seconds at which a source's heartbeats were made, in order.
fn heartbeats(site: &Site) -> Vec<f64> {
    let sql = "SELECT (julianday(s.timestamp) - 2440587.5) * 86400.0 AS at FROM sample s JOIN meter m ON m.id = s.meter_id WHERE m.name = 'compute.heartbeat' ORDER BY at";
    let rows = query(&site.database(), sql);
    rows.iter().map(|row| row["at"].as_f64().unwrap()).collect()
}

#[test]
fn reloads_under_load_lose_no_round_and_repeat_no_reading() {
    const RELOADS: usize = 120;
    const SECONDS: u64 = 12;
    let site = Site::new();
    let collector = site.collector();
    let staying = [
        source("beat", "0.5", "compute.heartbeat"),
        source("gates", "1", "storage_connectivity, storage_gateway.*"),
        source("libvirt", "1", "hypervisor.connectivity"),
        source("guests", "1", "instance, instance.*"),
        source("own", "2", "own"),
    ]
    .concat();
    let uri = "libvirt_uri = test:///default\nstorage_server_address = 127.0.0.1, 127.0.0.2";
    let own = "[plugins]\npollster = own nagios /bin/echo OK | own=1\n";
    let mut lines = Lines {
        more: own.to_owned(),
        ..compute(uri)
    };
    let node = Node::start(&site, &lines, &staying);
    let begun = clock::now();
    let is_over =
        |round| round >= RELOADS && clock::now().duration_since(begun).as_secs() >= SECONDS;
    for round in (0..).take_while(|round| !is_over(*round)) {
        let is_odd = round % 2 == 1;
        lines.default = format!(
            "debug = {is_odd}\nreserved_metadata_length = {}",
            100 + round % 3
        );
        lines.compute = format!(
            "ping_interval = 0.05\nping_count = {}\n{uri}\ncluster = c{round}\nhost_tags = rack:r{}\n",
            2 + round % 3,
            round % 7
        );
        let extra = match is_odd {
            true => source_to(
                "extra",
                "0.05",
                "storage_connectivity, hypervisor.connectivity",
                "other",
            ),
            false => String::new(),
        };
        let url = site.url();
        let dead = format!("udp://{}:9", site.ip);
        let sinks = match is_odd {
            true => sink("ha_sink", &[&url, &dead]) + &sink("other", &[&url]),
            false => sink("ha_sink", &[&url]),
        };
        write_config(&site, &lines);
        write_pipeline(&site, &(staying.clone() + &extra), &sinks);
        node.hangup("applied");
    }
    let text = site.get(Daemon::Agent, "/metrics").unwrap().1;
    let missed: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("ceilometer_ha_rounds_missed_total{"))
        .filter(|line| !line.contains("\"extra\"") && !line.ends_with(" 0"))
        .collect();
    assert_eq!(missed, [""; 0], "rounds were missed");
    let dropped = text
        .lines()
        .filter(|line| line.starts_with("ceilometer_ha_publisher_dropped_readings_total{"));
    for line in dropped {
        assert!(line.ends_with(" 0"), "{line}");
    }
    node.process.terminate();
    let newest = format!("SELECT max(seq) FROM ha_state WHERE observer = '{HOST}'");
    wait_for("what was sent last", || {
        (site.messages("accepted") >= site.number(&newest)).then_some(())
    });
    assert_eq!(site.readings("duplicate"), 0, "numbers given twice");
    collector.terminate();
    assert_each_stored_once(&site);
    // A round that was lost or put off would shift all that follow.
    let beats = heartbeats(&site);
    let offsets: Vec<f64> = (0u32..)
        .zip(&beats)
        .map(|(index, at)| at - beats[0] - f64::from(index) * 0.5)
        .collect();
    let (early, late) = offsets.split_at(offsets.len() / 2);
    let least = |part: &[f64]| part.iter().copied().fold(f64::INFINITY, f64::min);
    let shift = least(late) - least(early);
    assert!(beats.len() > 20, "{} heartbeats", beats.len());
    assert!(shift.abs() < 0.1, "the grid moved by {shift} s");
}

// ---------------------------------------------------------------- Leaks

/// Resident kilobytes, threads and open descriptors of a process.
fn costs(process: &Process) -> (u64, usize, usize) {
    let folder = PathBuf::from(format!("/proc/{}", process.pid()));
    let status = fs::read_to_string(folder.join("status")).unwrap();
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let resident = resident.trim().trim_end_matches(" kB").parse().unwrap();
    let count = |name: &str| fs::read_dir(folder.join(name)).unwrap().count();
    (resident, count("task"), count("fd"))
}

#[test]
fn a_thousand_reloads_leak_nothing() {
    const WARM_UP: usize = 100;
    const RELOADS: usize = 1000;
    /// What the allocator may keep in pieces.
    const GROWTH_KB: u64 = 4096;
    let site = Site::new();
    let lines = compute("libvirt_uri = test:///default\nstorage_server_address = 127.0.0.1");
    let node = Node::start(&site, &lines, &beat());
    let bare = costs(&node.process);
    let once = |round: usize| {
        // Names never come back, so that whatever is kept for one of them piles up.
        let (port, name) = (20_000 + round, format!("extra{round}"));
        let meters = "instance, instance.*, hypervisor.connectivity, storage_connectivity, cpu";
        let sources = beat() + &source_to(&name, "0.02", meters, &name);
        let url = format!("udp://{}:{port}", site.ip);
        let sinks = sink("ha_sink", &[&site.url()]) + &sink(&name, &[&url]);
        write_pipeline(&site, &sources, &sinks);
        node.hangup("applied");
    };
    let settle = || {
        node.reload(&lines, &beat(), "applied");
        wait_until("what was started to end", || match costs(&node.process) {
            (_, threads, _) if threads <= bare.1 + 1 => Ok(()),
            other => Err(format!("{other:?}, at first {bare:?}")),
        });
        costs(&node.process)
    };
    (0..WARM_UP).for_each(once);
    let before = settle();
    (WARM_UP..WARM_UP + RELOADS).for_each(once);
    let after = settle();
    println!("bare {bare:?}, warm {before:?}, after {RELOADS} more {after:?}");
    assert_eq!(
        (after.1, after.2),
        (before.1, before.2),
        "threads, descriptors"
    );
    assert!(
        after.0 < before.0 + GROWTH_KB,
        "{before:?} became {after:?}"
    );
    let text = site.get(Daemon::Agent, "/metrics").unwrap().1;
    assert!(!text.contains("extra"), "{text}");
    assert!(!text.contains(":20"), "{text}");
}

// ---------------------------------------------------------------- Refusals

#[test]
fn what_cant_be_used_is_refused_and_healed_by_the_next_good_reload() {
    let site = Site::new();
    let _collector = site.collector();
    let (lines, sources) = (compute("cluster = blue"), beat());
    let node = Node::start(&site, &lines, &sources);
    node.wait_until_ready();
    let (config, pipeline) = (config_path(&site), pipeline_path(&site));
    let in_config = |text: &str| {
        let good = fs::read_to_string(&config).unwrap();
        put(&config, &(good + text));
    };
    let bad_line = fs::read_to_string(&config).unwrap().lines().count() + 1;
    let place = format!("{}:{bad_line}: [compute] ping_count", config.display());
    type Spoil<'a> = (&'a str, Box<dyn Fn() + 'a>, Vec<String>);
    let spoils: Vec<Spoil<'_>> = vec![
        (
            "a bad value, and another",
            Box::new(|| in_config("ping_count = four\nping_timeout = never\n")),
            vec![place, "problems: 2".into()],
        ),
        (
            "no INI at all",
            Box::new(|| in_config("what is this\n")),
            vec![format!("{}:{bad_line}", config.display())],
        ),
        (
            "no YAML",
            Box::new(|| put(&pipeline, "sources:\n    - name: [\n")),
            vec![format!("{}:", pipeline.display()), "YAML".into()],
        ),
        (
            "a source without a sink",
            Box::new(|| {
                write_pipeline(
                    &site,
                    &source_to("a", "1", "cpu", "none"),
                    &sink("s", &["udp://127.0.0.1:1"]),
                );
            }),
            vec![format!("{}:", pipeline.display())],
        ),
        (
            "no pipeline",
            Box::new(|| fs::remove_file(&pipeline).unwrap()),
            vec![pipeline.display().to_string(), "No such file".into()],
        ),
        (
            "no configuration",
            Box::new(|| fs::remove_file(&config).unwrap()),
            vec![config.display().to_string(), "No such file".into()],
        ),
        (
            "a directory, which nobody can read as a file, root neither",
            Box::new(|| {
                fs::remove_file(&config).unwrap();
                fs::create_dir(&config).unwrap();
            }),
            vec![config.display().to_string(), "directory".into()],
        ),
    ];
    for (what, spoil, words) in spoils {
        spoil();
        node.hangup("refused");
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        node.wait_for_refusal(&words);
        assert_eq!(
            site.metric(Daemon::Agent, "config_last_reload_successful"),
            0
        );
        node.wait_for_heartbeats(2);
        node.wait_for_newest("compute.heartbeat", what, |metadata| {
            metadata["cluster"] == "blue"
        });
        let log = node.log();
        assert!(
            log.contains("the one before it stays in force")
                && words
                    .iter()
                    .all(|word| word.starts_with("problems") || log.contains(word)),
            "{what}: {log}"
        );
        if config.is_dir() {
            fs::remove_dir(&config).unwrap();
        }
        node.reload(&lines, &sources, "unchanged");
        node.wait_until_ready();
        assert_eq!(
            site.metric(Daemon::Agent, "config_last_reload_successful"),
            1
        );
    }
}

/// Opens a pipe for writing, which waits for a reader.
fn open_pipe(path: &Path) -> fs::File {
    fs::OpenOptions::new().write(true).open(path).unwrap()
}

#[test]
fn files_that_hang_delay_no_round_and_no_end() {
    let site = Site::new();
    let _collector = site.collector();
    let (lines, sources) = (compute("cluster = blue"), beat());
    let node = Node::start(&site, &lines, &sources);
    let config = config_path(&site);
    let hang = || {
        fs::remove_file(&config).unwrap();
        mkfifo(&config, Mode::S_IRWXU).unwrap();
    };
    hang();
    node.process.signal(Signal::SIGHUP);
    wait_for("the reload to begin", || {
        node.log().contains("because=\"SIGHUP\"").then_some(())
    });
    node.wait_for_heartbeats(20);
    node.wait_for_refusal(&["no answer within 10s"]);
    assert_eq!(node.outcomes(), [0, 0, 1]);
    let rounds = "rounds_missed_total{pollster=\"heartbeat\",source=\"beat\"}";
    // A machine that is busy with other tests may cost one or two; waiting for the file would cost a
    // hundred.
    let missed = site.metric(Daemon::Agent, rounds);
    assert!(missed < 10, "{missed} rounds missed");

    // Another file in its place is read although the first reader still hangs.
    let pipe = site.path("pipe");
    fs::rename(&config, &pipe).unwrap();
    node.reload(&compute("cluster = red"), &sources, "applied");
    node.wait_until_ready();
    // And when that one is let go, all is read once more: what was asked for isn't lost.
    write_config(&site, &compute("cluster = green"));
    drop(open_pipe(&pipe));
    node.wait_for_newest("compute.heartbeat", "the cluster", |metadata| {
        metadata["cluster"] == "green"
    });

    hang();
    node.process.signal(Signal::SIGHUP);
    wait_for("the reload to begin", || {
        (node.log().matches("because=\"SIGHUP\"").count() == 3).then_some(())
    });
    let asked = clock::now();
    assert_eq!(node.process.terminate().code(), Some(0));
    assert!(clock::now().duration_since(asked) < DRAIN_LIMIT);
}

// ---------------------------------------------------------------- Signals at odd times

/// Whether a process has a handler of its own for SIGHUP.
fn catches_hangup(process: &Process) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))
        .map(|mask| u64::from_str_radix(mask.trim(), 16).unwrap());
    mask.is_some_and(|mask| mask & 1 == 1)
}

#[test]
fn a_hangup_while_it_starts_or_ends_is_not_fatal() {
    let site = Site::new();
    write_config(&site, &compute(""));
    write_pipeline(&site, &beat(), &sink("ha_sink", &[&site.url()]));
    let config = config_path(&site);
    let text = fs::read_to_string(&config).unwrap();
    let pipe = site.path("pipe");
    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    fs::remove_file(&config).unwrap();
    fs::rename(&pipe, &config).unwrap();
    // It starts, and waits for its configuration.
    let process = Process::start(&mut agent(&site), &site.path("agent.log"));
    wait_for("a handler", || catches_hangup(&process).then_some(()));
    process.signal(Signal::SIGHUP);
    let mut pipe = open_pipe(&config);
    put(&config, &text);
    pipe.write_all(text.as_bytes()).unwrap();
    drop(pipe);
    site.wait_for_health(Daemon::Agent);
    wait_for("the reload that was asked for", || {
        (outcomes(&site, Daemon::Agent) == [0, 1, 0]).then_some(())
    });
    let mut process = process;
    process.signal(Signal::SIGTERM);
    for _ in 0..20 {
        if process.is_running() {
            process.signal(Signal::SIGHUP);
        }
    }
    assert_eq!(process.wait().code(), Some(0));
}

#[test]
fn hangups_that_come_together_are_few_reloads_and_the_last_one_counts() {
    let site = Site::new();
    let _collector = site.collector();
    let node = Node::start(&site, &compute(""), &beat());
    for round in 0..200 {
        write_config(&site, &compute(&format!("cluster = c{round}")));
        node.process.signal(Signal::SIGHUP);
    }
    node.wait_for_newest("compute.heartbeat", "the last cluster", |metadata| {
        metadata["cluster"] == "c199"
    });
    let [applied, unchanged, refused] = node.outcomes();
    assert_eq!(refused, 0);
    assert!(applied + unchanged <= 200);
}

// ---------------------------------------------------------------- What takes effect

#[test]
fn what_needs_a_restart_is_named_and_waits() {
    let site = Site::new();
    let _collector = site.collector();
    let node = Node::start(&site, &compute(""), &beat());
    let before = fs::read_to_string(config_path(&site)).unwrap();
    let after = before
        .replace(&format!("host = {HOST}"), "host = other")
        .replace("http_listen = ", "http_listen = 127.0.0.1:1 #")
        .replace("state_path = ", "core_dumps = true\nstate_path = /nowhere");
    let after = after.replace(
        "http_listen = 127.0.0.1:1 #",
        "http_listen = 127.0.0.1:1\n# ",
    );
    put(&config_path(&site), &after);
    node.hangup("unchanged");
    let log = node.log();
    for option in [
        "[DEFAULT] host",
        "[DEFAULT] state_path",
        "[DEFAULT] core_dumps",
        "[agent] http_listen",
    ] {
        let line = format!("its new value waits for a restart option=\"{option}\"");
        assert!(log.contains(&line), "{option}: {log}");
    }
    assert_eq!(site.metric(Daemon::Agent, "config_restart_pending"), 4);
    node.wait_until_ready();
    node.wait_for_heartbeats(2);
    assert_eq!(
        site.number("SELECT count(DISTINCT observer) FROM ha_state"),
        1
    );
    put(&config_path(&site), &before);
    node.hangup("unchanged");
    assert_eq!(site.metric(Daemon::Agent, "config_restart_pending"), 0);
}

fn failures_of(site: &Site, resource: &str) -> u64 {
    site.number(&format!("SELECT count(*) FROM sample s JOIN meter m ON m.id = s.meter_id JOIN resource r ON r.internal_id = s.resource_id WHERE m.name = 'pollster.failed' AND r.resource_id = '{resource}'"))
}

fn has_state(site: &Site, meter: &str, resource: &str) -> Option<()> {
    let sql = format!(
        "SELECT count(*) FROM ha_state WHERE meter = '{meter}' AND resource_id = '{resource}'"
    );
    (site.number(&sql) == 1).then_some(())
}

#[test]
fn options_of_the_agent_take_effect() {
    let site = Site::new();
    let _collector = site.collector();
    let gates = source("gates", "1", "storage_connectivity, storage_gateway.*");
    let sources = beat() + &gates;
    let mut lines = compute("storage_server_address = 127.0.0.1");
    let node = Node::start(&site, &lines, &sources);
    let host = |name: &str| format!("{HOST}/{name}");
    wait_for("the gateway", || {
        has_state(&site, "storage_gateway.status", &host("127.0.0.1"))
    });

    // Gateways, one by a name that is resolved from now on; tags; probes.
    lines.compute = "ping_interval = 0.05\nstorage_server_address = 127.0.0.2, localhost\ncluster = red\nhost_tags = rack:r7\nping_count = 12\n".into();
    node.reload(&lines, &sources, "applied");
    for gateway in ["127.0.0.2", "localhost"] {
        wait_for(gateway, || {
            has_state(&site, "storage_gateway.status", &host(gateway))
        });
    }
    for meter in ["compute.heartbeat", "storage_connectivity"] {
        node.wait_for_newest(meter, "the tags", |metadata| {
            metadata["cluster"] == "red"
                && metadata["rack"] == "r7"
                && metadata["user_metadata"]["rack"] == "r7"
        });
    }
    // Eleven times 50 ms between the first probe and the last.
    let short = "round_duration_seconds_bucket{pollster=\"storage_connectivity\",source=\"gates\",le=\"0.5\"}";
    let all = "round_duration_seconds_count{pollster=\"storage_connectivity\",source=\"gates\"}";
    let rounds = || {
        (
            site.metric(Daemon::Agent, short),
            site.metric(Daemon::Agent, all),
        )
    };
    let before = rounds();
    let after = wait_for("two more rounds", || {
        Some(rounds()).filter(|after| after.1 >= before.1 + 2)
    });
    assert_eq!(after.0, before.0, "no round was short any more");
    assert!(before.0 > 0, "those before were");

    // The interval; meters that are no longer wanted.
    let slow =
        source("beat", "30", "compute.heartbeat") + &source("gates", "0.5", "storage_connectivity");
    lines.compute = "storage_server_address = 127.0.0.2\nping_count = 1\n".into();
    node.reload(&lines, &slow, "applied");
    node.wait_for_newest("storage_connectivity", "the interval", |metadata| {
        metadata["interval"] == 0.5 && metadata.get("cluster").is_none()
    });
    let status = "SELECT count(*) FROM sample s JOIN meter m ON m.id = s.meter_id WHERE m.name = 'storage_gateway.status'";
    let stored = site.number(status);
    // A longer interval begins after the round that was due anyway, and a shorter one at once.
    node.wait_for_newest("compute.heartbeat", "the interval", |metadata| {
        metadata["interval"] == 30.0
    });
    node.reload(
        &lines,
        &(beat() + &source("gates", "0.5", "storage_connectivity")),
        "applied",
    );
    node.wait_for_heartbeats(3);
    assert_eq!(site.number(status), stored, "nobody wants the status");

    // Levels of the log.
    assert!(!node.log().contains("round ended"));
    lines.default = "debug = true".into();
    node.reload(&lines, &sources, "applied");
    wait_for("debug lines", || {
        node.log().contains("round ended").then_some(())
    });
    lines.default = "verbose = false".into();
    node.reload(&lines, &sources, "applied");

    // A plug-in, another command of the same name, and none.
    let own = |text: &str| format!("[plugins]\npollster = own nagios /bin/echo {text} | own=1\n");
    let with_own = sources.clone() + &source("own", "0.2", "own, own.*");
    lines.more = own("OK");
    node.reload(&lines, &with_own, "applied");
    wait_for("the plug-in", || has_state(&site, "own", HOST));
    lines.more = "[plugins]\npollster = own nagios /no/such/program\n".into();
    node.reload(&lines, &with_own, "applied");
    wait_for("the missing one", || {
        (failures_of(&site, &host("own")) > 0).then_some(())
    });
    lines.more.clear();
    node.reload(&lines, &sources, "applied");
    let series = site.get(Daemon::Agent, "/metrics").unwrap().1;
    wait_until("its series to go", || {
        match site.get(Daemon::Agent, "/metrics") {
            Some((200, text)) if !text.contains("\"own\"") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    assert!(series.contains("\"beat\""));

    // libvirt, which first isn't there and then is.
    let guests = sources.clone() + &source("guests", "0.2", "instance.*, hypervisor.connectivity");
    lines.compute = "libvirt_uri = qemu+unix:///system?socket=/no/such/socket".into();
    node.reload(&lines, &guests, "applied");
    wait_for("no libvirt", || {
        (failures_of(&site, &host("instance.round")) > 0).then_some(())
    });
    lines.compute = "libvirt_uri = test:///default".into();
    node.reload(&lines, &guests, "applied");
    wait_for("libvirt", || {
        has_state(&site, "hypervisor.connectivity", HOST)
    });
    wait_for("a round", || has_state(&site, "instance.round", HOST));
}

/// In a network of its own, without an interface that is up, so that nothing leaves: what is looked at
/// from outside is never this machine itself.
#[test]
fn namespaces_and_hosts_take_effect() {
    let site = Site::new();
    let sources = beat() + &source("outside", "0.5", "host.connectivity, host_network.*");
    let mut lines = compute("");
    write_config(&site, &lines);
    write_pipeline(&site, &sources, &sink("ha_sink", &[&site.url()]));
    let mut command = Command::new("unshare");
    command.arg("-n").arg(program("ceilometer-polling-ha"));
    command.arg("--config-file").arg(config_path(&site));
    let process = Process::start(&mut command, &site.path("agent.log"));
    let wait_for_line = |words: &str| {
        wait_until(words, || match process.log() {
            log if log.contains(words) => Ok(()),
            log => Err(log),
        });
    };
    wait_for_line("agent started");
    let hosts = site.path("hosts");
    fs::write(&hosts, "a m 192.0.2.1\n").unwrap();
    lines.more = "[central]\nhosts_file = hosts\n".into();
    lines.default = "polling_namespaces = compute, central".into();
    write_config(&site, &lines);
    process.signal(Signal::SIGHUP);
    wait_for_line("what=\"[central] hosts_file\"");
    wait_for_line("resource=\"node-1/host_network/m\"");
    fs::write(&hosts, "a m 192.0.2.1\nb n 192.0.2.2\n").unwrap();
    process.signal(Signal::SIGHUP);
    wait_for_line("resource=\"node-1/host_network/n\"");
    fs::write(&hosts, "a m\n").unwrap();
    process.signal(Signal::SIGHUP);
    wait_for_line(&format!("configuration refused: {}:1", hosts.display()));
    lines.default = "polling_namespaces = compute".into();
    write_config(&site, &lines);
    process.signal(Signal::SIGHUP);
    wait_for_line("pollster ended source=\"outside\" pollster=\"host.connectivity\"");
    assert_eq!(process.terminate().code(), Some(0));
}

/// The ids of readings that arrived at a socket, with the greatest number among them.
fn arrived(socket: &UdpSocket, ids: &mut BTreeSet<String>) -> u64 {
    let mut buffer = [0; 65_536];
    let mut last = 0;
    while let Ok(length) = socket.recv(&mut buffer) {
        let (messages, refusals) = wire::receive(
            &buffer[..length],
            &wire::Verifier::new(Secret::new(SECRET)),
            wire::Via::Anywhere,
        );
        assert!(refusals.is_empty());
        for message in messages {
            last = last.max(message.identity.unwrap().seq);
            ids.insert(message.message_id);
        }
    }
    last
}

/// Half of the time a round is in hand while its publisher is taken away.
#[test]
fn publishers_move_and_no_reading_is_lost_on_the_way() {
    const MOVES: usize = 30;
    let site = Site::new();
    let collector = site.collector();
    let lines = compute("storage_server_address = 127.0.0.1, 127.0.0.2\nping_count = 6");
    let gates = source("gates", "0.5", "storage_connectivity, storage_gateway.*");
    let sources = beat() + &gates;
    let node = Node::start(&site, &lines, &sources);
    let own = UdpSocket::bind((site.ip, 0)).unwrap();
    own.set_nonblocking(true).unwrap();
    let url = format!("udp://{}", own.local_addr().unwrap());
    let mut ids = BTreeSet::new();
    let mut last = 0;
    for _ in 0..MOVES {
        write_pipeline(&site, &sources, &sink("ha_sink", &[&url]));
        node.hangup("applied");
        let before = ids.len();
        wait_for("a reading over there", || {
            last = last.max(arrived(&own, &mut ids));
            (ids.len() > before).then_some(())
        });
        write_pipeline(&site, &sources, &sink("ha_sink", &[&site.url()]));
        node.hangup("applied");
    }
    let series = format!("publisher=\"{url}\"");
    wait_for("its series to go", || {
        (!metrics(&site, Daemon::Agent).contains(&series)).then_some(())
    });
    node.wait_for_heartbeats(2);
    node.process.terminate();
    collector.terminate();
    last = last.max(arrived(&own, &mut ids));
    assert!(ids.len() >= MOVES, "{} readings over there", ids.len());
    for row in query(&site.database(), "SELECT message_id FROM sample") {
        ids.insert(row["message_id"].as_str().unwrap().to_owned());
    }
    let newest = format!("SELECT max(seq) FROM ha_state WHERE observer = '{HOST}'");
    last = last.max(site.number(&newest));
    assert_eq!(
        u64::try_from(ids.len()).unwrap(),
        last,
        "readings of {last}"
    );
}

#[test]
fn a_new_secret_holds_on_both_sides() {
    let site = Site::new();
    let collector = site.collector_with("batch_size = 500");
    let (mut lines, sources) = (compute(""), beat());
    let node = Node::start(&site, &lines, &sources);
    node.wait_for_heartbeats(1);
    let other = "another secret, long enough";
    let old = fs::read_to_string(site.path("collector.conf")).unwrap();
    put(&site.path("collector.conf"), &old.replace(SECRET, other));
    hangup(&site, Daemon::Collector, &collector, "applied");
    site.send(&signed_with(&reading("new", 1), "udp://test", other));
    site.wait_for_samples("new", 1);
    site.send(&signed_with(&reading("old", 1), "udp://test", SECRET));
    wait_for("the old secret to be refused", || {
        (site.messages("bad_signature") > 0).then_some(())
    });
    lines.more = format!("[publisher]\ntelemetry_secret = {other}\n");
    node.reload(&lines, &sources, "applied");
    node.wait_for_heartbeats(3);
    assert_eq!(site.samples_of("old"), 0);
    for log in [node.log(), collector.log()] {
        assert!(log.contains("[publisher] telemetry_secret"), "{log}");
        assert!(!log.contains(other) && !log.contains(SECRET), "{log}");
    }
}

#[test]
fn options_of_the_collector_take_effect() {
    const READINGS: u64 = 200;
    let site = Site::new();
    let collector = site.collector_with("batch_size = 500\nbatch_timeout = 0.5");
    let send = |observer: &str| {
        for seq in 1..=READINGS {
            site.send(&signed_with(&reading(observer, seq), "udp://test", SECRET));
        }
        site.wait_for_samples(observer, READINGS);
    };
    let singles = || site.metric(Daemon::Collector, "batch_size_bucket{le=\"1\"}");
    send("many");
    assert!(singles() < READINGS / 2, "{} batches of one", singles());
    site.collector_config("batch_size = 1\nudp_port = 1\n");
    let config = fs::read_to_string(site.path("collector.conf")).unwrap();
    // The port twice: the later line counts.
    assert!(config.contains("udp_port = 1\n"));
    hangup(&site, Daemon::Collector, &collector, "applied");
    let before = singles();
    send("single");
    assert_eq!(singles(), before + READINGS);
    assert_eq!(site.metric(Daemon::Collector, "config_restart_pending"), 1);
    assert!(collector.log().contains("option=\"[collector] udp_port\""));
    put(
        &site.path("collector.conf"),
        "[collector]\nbatch_size = none\n",
    );
    hangup(&site, Daemon::Collector, &collector, "refused");
    let (code, text) = site.get(Daemon::Collector, "/readyz").unwrap();
    assert_eq!(code, 503);
    assert!(
        text.contains("collector.conf:2: [collector] batch_size"),
        "{text}"
    );
    send("after");
}

// ---------------------------------------------------------------- On change

#[test]
fn a_changed_pipeline_is_found_without_a_signal() {
    let site = Site::new();
    let _collector = site.collector();
    let mut lines = compute("libvirt_uri = test:///default\ncluster = blue");
    lines.default = "refresh_pipeline_cfg = true\npipeline_polling_interval = 1".into();
    let node = Node::start(&site, &lines, &beat());
    let wait_for_outcomes = |expected: [u64; 3]| {
        wait_until("a reload", || match node.outcomes() {
            seen if seen == expected => Ok(()),
            other => Err(format!("{other:?}, expected {expected:?}")),
        });
    };
    let pipeline = pipeline_path(&site);
    let good = fs::read_to_string(&pipeline).unwrap();
    // The whole configuration is read again with it.
    write_config(
        &site,
        &Lines {
            compute: "cluster = red".into(),
            ..lines.clone()
        },
    );
    node.wait_for_heartbeats(25);
    assert_eq!(
        node.outcomes(),
        [0, 0, 0],
        "nothing has changed in the pipeline"
    );
    write_pipeline(
        &site,
        &(beat() + &source("v", "0.5", "hypervisor.connectivity")),
        &sink("ha_sink", &[&site.url()]),
    );
    wait_for_outcomes([1, 0, 0]);
    wait_for("the new source", || {
        site.get(Daemon::Agent, "/metrics")?
            .1
            .contains("source=\"v\"")
            .then_some(())
    });
    node.wait_for_newest("compute.heartbeat", "the cluster", |metadata| {
        metadata["cluster"] == "red"
    });
    // In the middle of being written: refused once, and tried again when it has changed.
    fs::write(&pipeline, &good[..good.len() / 2]).unwrap();
    wait_for_outcomes([1, 0, 1]);
    node.wait_for_refusal(&["pipeline_ha.yaml"]);
    node.wait_for_heartbeats(25);
    assert_eq!(node.outcomes(), [1, 0, 1], "the same half twice");
    fs::remove_file(&pipeline).unwrap();
    wait_for_outcomes([1, 0, 2]);
    node.wait_for_heartbeats(25);
    assert_eq!(node.outcomes(), [1, 0, 2], "it is still not there");
    fs::write(&pipeline, &good).unwrap();
    wait_for_outcomes([2, 0, 2]);
    node.wait_until_ready();
}

// ---------------------------------------------------------------- The standalone

#[test]
fn the_standalone_reloads_both_its_parts() {
    let site = Site::new();
    write_config(&site, &compute("storage_server_address = 127.0.0.1"));
    write_pipeline(&site, &beat(), &sink("ha_sink", &[&site.url()]));
    let mut command = Command::new(program("ceilometer-ha-standalone"));
    command.arg("--config-file").arg(config_path(&site));
    command.envs(site.environment());
    let standalone = Process::start(&mut command, &site.path("standalone.out"));
    for daemon in [Daemon::Agent, Daemon::Collector] {
        site.wait_for_health(daemon);
    }
    let mut lines = compute("cluster = red");
    lines.more = "[collector]\nbatch_size = 1\n[publisher]\ntelemetry_secret = another secret, long enough\n".into();
    write_config(&site, &lines);
    hangup(&site, Daemon::Agent, &standalone, "applied");
    assert_eq!(outcomes(&site, Daemon::Collector), [1, 0, 0]);
    let database = site.path("agent/ceilometer_ha.sqlite");
    wait_for("a heartbeat with another secret", || {
        let sql = "SELECT metadata FROM ha_state WHERE meter = 'compute.heartbeat'";
        let row = query(&database, sql).pop()?;
        row["metadata"].as_str()?.contains("red").then_some(())
    });
    put(&config_path(&site), "[compute]\nping_count = four\n");
    hangup(&site, Daemon::Agent, &standalone, "refused");
    for daemon in [Daemon::Agent, Daemon::Collector] {
        assert_eq!(site.get(daemon, "/readyz").unwrap().0, 503);
    }
    assert_eq!(standalone.terminate().code(), Some(0));
}
