//! The operator's tools for a path: what `send-sample` sends and `listen` hears, over UDP and over a broker,
//! with Ceilometer at the other end as well; and one round of an agent by `--once`.

// A test's helpers may fail as the test itself may.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code)] // datagrams are for the wire's tests
#[path = "ceilometer/mod.rs"]
mod ceilometer;
mod support;

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use ceilometer_ha::model::Secret;
use ceilometer_ha::wire::{self, Verifier, Via};
use nix::sys::signal::Signal;
use serde_json::Value as Json;
use support::process::Process;
use support::rabbitmq::{Server, USER, VHOST};
use support::{program, run_unchecked, wait_until};

/// A folder with a configuration, whose secret is that of Ceilometer's scripts.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Place { folder };
        let secret = ceilometer::secret();
        let text = format!(
            "[publisher]\ntelemetry_secret = {}\n[DEFAULT]\nhost = node-1\nstate_path = {}\n{more}",
            secret.expose(),
            place.path("state").display()
        );
        fs::write(place.path("ha.conf"), text).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program(name));
        command
            .args(arguments)
            .arg("--config-file")
            .arg(self.path("ha.conf"));
        command
    }

    /// Starts `listen` and waits until it listens; returns it and where.
    fn listen(&self, arguments: &[&str]) -> (Listener, String) {
        let mut all = vec!["listen", "--format", "json", "--seconds", "60"];
        all.extend(arguments);
        let heard = self.path("heard");
        let stdout = Stdio::from(fs::File::create(&heard).unwrap());
        let log = self.path("listen.log");
        let mut command = self.command("compute-ha", &all);
        let mut process = Process::start_with_stdout(&mut command, stdout, &log);
        let place = wait_until("it to listen", || {
            let log = process.log();
            assert!(process.is_running(), "{log}");
            let line = log
                .lines()
                .find_map(|line| line.strip_prefix("listening on "));
            line.map(str::to_owned).ok_or(log)
        });
        (Listener { process, heard }, place)
    }

    fn send(&self, arguments: &[&str]) -> Output {
        let mut all = vec!["send-sample"];
        all.extend(arguments);
        run_unchecked(&mut self.command("compute-ha", &all))
    }
}

struct Listener {
    process: Process,
    heard: PathBuf,
}

impl Listener {
    /// Waits for its end: whether it was content, and what it heard.
    fn end(mut self) -> (bool, Vec<Json>) {
        let is_content = self.process.wait().success();
        let text = fs::read_to_string(&self.heard).unwrap();
        let heard = text.lines().map(|line| serde_json::from_str(line).unwrap());
        (is_content, heard.collect())
    }
}

fn words(output: &Output) -> String {
    let words = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    words.concat()
}

#[test]
fn what_is_sent_by_udp_is_heard_and_judged() {
    let place = Place::new("");
    let (listener, local) = place.listen(&["--udp", "127.0.0.1:0", "--count", "3"]);
    let url = local.replace("udp ", "udp://");
    let output = place.send(&[
        "--publisher",
        &url,
        "--count",
        "3",
        "--rate",
        "50",
        "--meter",
        "test.power",
        "--volume",
        "-1.5",
        "--unit",
        "W",
        "--resource",
        "r",
        "--metadata",
        "a=b=c",
    ]);
    let said = words(&output);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("3 of 3 readings of test.power by send-sample@node-1"),
        "{said}"
    );
    let (is_content, heard) = listener.end();
    assert!(is_content);
    let seqs: Vec<u64> = heard
        .iter()
        .map(|one| one["says"]["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs, [1, 2, 3]);
    for one in &heard {
        assert_eq!(one["verdict"], "ok");
        let says = &one["says"];
        assert_eq!(says["observer"], "send-sample@node-1");
        assert_eq!(
            (&says["meter"], &says["unit"]),
            (&"test.power".into(), &"W".into())
        );
        assert_eq!(says["volume"], -1.5);
        assert_eq!(says["path"], *url);
        assert!(says["age_seconds"].as_f64().unwrap() < 60.0);
    }

    let stranger = Place::new("");
    let text = fs::read_to_string(stranger.path("ha.conf")).unwrap();
    fs::write(
        stranger.path("ha.conf"),
        text.replace("a secret of", "another secret of"),
    )
    .unwrap();
    let (listener, local) = place.listen(&["--udp", "127.0.0.1:0", "--count", "1"]);
    stranger.send(&["--publisher", &local.replace("udp ", "udp://")]);
    let (is_content, heard) = listener.end();
    assert!(!is_content, "what a collector would refuse is no success");
    assert_eq!(heard[0]["verdict"], "bad_signature");
    assert_eq!(heard[0]["says"]["observer"], "send-sample@node-1");
    assert!(heard[0].get("evidence").is_none());
}

#[test]
fn an_interrupt_ends_both_with_a_summary() {
    let place = Place::new("");
    let (listener, local) = place.listen(&["--udp", "127.0.0.1:0"]);
    let url = local.replace("udp ", "udp://");
    let log = place.path("send.log");
    let arguments = [
        "send-sample",
        "--publisher",
        &url,
        "--count",
        "1000000",
        "--rate",
        "50",
    ];
    let mut sender = Process::start(&mut place.command("compute-ha", &arguments), &log);
    wait_until("a reading", || {
        let heard = fs::read_to_string(place.path("heard")).unwrap();
        if heard.lines().count() > 2 {
            Ok(())
        } else {
            Err(heard)
        }
    });
    sender.signal(Signal::SIGINT);
    assert!(sender.wait().success());
    let said = sender.log();
    assert!(
        said.contains(" readings of test.sample by send-sample@node-1"),
        "{said}"
    );
    listener.process.signal(Signal::SIGINT);
    let (is_content, heard) = listener.end();
    assert!(is_content && heard.len() > 2);
}

#[test]
fn what_cant_be_sent_is_an_error_and_wrong_words_are_explained() {
    let place = Place::new("transport_url = rabbit://u:hunter2@127.0.0.1:1/v\n");
    for (arguments, code, expected) in [
        (
            &["--publisher", "udp://no-such-host.invalid:1"][..],
            1,
            "sending 1 of 1 readings",
        ),
        (
            &["--publisher", "notifier://?topic=t"],
            1,
            "connecting to the broker 127.0.0.1:1",
        ),
        (
            &["--publisher", "file:///x"],
            1,
            "expected udp://host:port or notifier://",
        ),
        (&["--count", "0"], 2, "--count"),
        (&["--rate", "0"], 2, "readings a second from 0.001"),
        (&["--volume", "much"], 2, "expected a number"),
        (&["--metadata", "x"], 2, "KEY=VALUE"),
    ] {
        let output = place.send(arguments);
        let said = words(&output);
        assert!(said.contains(expected), "{arguments:?}: {said}");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn a_listener_takes_nothing_from_the_collectors_queue() {
    // oslo.messaging can't log in with a password that has a `/`.
    let password = "simple";
    let server = Server::start_with(&[("default_pass", password)]);
    let url = format!(
        "rabbit://{USER}:{password}@127.0.0.1:{}/{VHOST}",
        server.port()
    );
    let place = Place::new(&format!("transport_url = {url}\n"));
    let (listener, local) = place.listen(&["--topic", "t", "--count", "8"]);
    assert!(!local.contains(password), "{local}");
    let output = place.send(&["--publisher", "notifier://?topic=t", "--count", "5"]);
    let said = words(&output);
    assert!(
        output.status.success() && said.contains("confirmed by the broker"),
        "{said}"
    );

    // Ceilometer's own publisher, to the same queue.
    let sent = ceilometer::run_script("broker.py", &["send", &url, "t"], "").unwrap();
    let (is_content, heard) = listener.end();
    assert!(is_content, "{heard:?}");
    let ours = heard
        .iter()
        .filter(|one| one["says"]["observer"] == "send-sample@node-1");
    assert_eq!(ours.count(), 5);
    let theirs: Vec<&Json> = heard
        .iter()
        .filter(|one| one["says"]["observer"].is_null())
        .collect();
    let ids: Vec<&Json> = theirs
        .iter()
        .map(|one| &one["says"]["message_id"])
        .collect();
    assert_eq!(ids, sent.as_array().unwrap().iter().collect::<Vec<_>>());
    let bodies = server.queue_length("t.sample").unwrap();
    assert!(
        (2..=6).contains(&bodies),
        "{bodies}: the collector's copies are still there"
    );

    // And its own listener takes them all, ours with them.
    let taken = ceilometer::run_script("broker.py", &["receive", &url, "t", "8"], "").unwrap();
    let taken = taken.as_array().unwrap();
    assert_eq!(taken.len(), 8);
    assert!(taken.iter().all(|one| one["verifies"] == true), "{taken:?}");
    assert_eq!(server.queue_length("t.sample"), Some(0));
}

const PIPELINE: &str = "sources:\n  - name: fast\n    interval: 1\n    meters: [compute.heartbeat, good, bad]\n    \
                        sinks: [s]\nsinks:\n  - name: s\n    publishers: [\"udp://127.0.0.1:PORT\"]\n";

/// A place with an agent that has a heartbeat and a plug-in.
fn agent(plugin: &str, port: u16) -> Place {
    let place = Place::new(&format!(
        "pipeline_cfg_file = pipeline.yaml\n[agent]\nhttp_listen =\n[plugins]\n{plugin}\n"
    ));
    fs::write(
        place.path("pipeline.yaml"),
        PIPELINE.replace("PORT", &port.to_string()),
    )
    .unwrap();
    place
}

fn once(place: &Place, arguments: &[&str]) -> (Option<i32>, Json, String) {
    let mut all = vec!["--once", "--format", "json"];
    all.extend(arguments);
    let output = run_unchecked(&mut place.command("ceilometer-polling-ha", &all));
    let said = words(&output);
    let json = serde_json::from_slice(&output.stdout).unwrap_or(Json::Null);
    (output.status.code(), json, said)
}

fn files_in(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

#[test]
fn one_round_is_shown_and_leaves_nothing_behind() {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    socket.set_nonblocking(true).unwrap();
    let port = socket.local_addr().unwrap().port();
    let good = agent("pollster = good nagios /bin/echo fine", port);
    let (code, report, said) = once(&good, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(report["host"], "node-1");
    let rounds = report["rounds"].as_array().unwrap();
    let of = |name: &str| {
        rounds
            .iter()
            .find(|round| round["pollster"] == name)
            .unwrap()
    };
    assert_eq!(of("heartbeat")["outcome"], "read");
    assert_eq!(of("good")["readings"][0]["meter"], "good");
    assert!(report.get("published").is_none());
    assert!(socket.recv(&mut [0]).is_err(), "nothing is published");
    assert_eq!(files_in(&good.path("state")), 0, "nothing is written");

    let bad = agent("pollster = bad nagios /no/such/program", port);
    let (code, report, said) = once(&bad, &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no complete answer of bad"), "{said}");
    let rounds = report["rounds"].as_array().unwrap();
    let failed = rounds
        .iter()
        .find(|round| round["pollster"] == "bad")
        .unwrap();
    assert_eq!(failed["outcome"], "failed");
    assert!(failed["readings"][0]["reason"].is_string(), "{failed}");
}

#[test]
fn one_round_is_published_if_that_is_asked_for_and_no_agent_runs() {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let port = socket.local_addr().unwrap().port();
    let place = agent("pollster = good nagios /bin/echo fine", port);
    let (code, report, said) = once(&place, &["--publish"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(report["published"][0]["failed"], 0);
    let mut epochs = Vec::new();
    let verifier = Verifier::new(Secret::new(ceilometer::secret().expose()));
    let mut take = |count: usize| {
        let mut taken = 0;
        let mut buffer = [0; 65_536];
        while taken < count {
            let length = socket.recv(&mut buffer).unwrap();
            let (received, refusals) = wire::receive(&buffer[..length], &verifier, Via::Anywhere);
            assert_eq!(refusals, []);
            taken += received.len();
            epochs.extend(received.into_iter().map(|one| one.identity.unwrap().epoch));
        }
    };
    let sent =
        |report: &Json| usize::try_from(report["published"][0]["sent"].as_u64().unwrap()).unwrap();
    take(sent(&report));
    let (_, report, _) = once(&place, &["--publish"]);
    take(sent(&report));
    assert!(
        epochs.first() < epochs.last(),
        "each is a life of its own: {epochs:?}"
    );

    let log = place.path("agent.log");
    let _agent = Process::start(&mut place.command("ceilometer-polling-ha", &[]), &log);
    socket.recv(&mut [0; 65_536]).unwrap();
    let (code, _, said) = once(&place, &["--publish"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("another one runs"), "{said}");
    assert_eq!(once(&place, &[]).0, Some(0), "a look alone disturbs nobody");
}
