//! What daemons tell a scraper, a monitor and an operator who asks: `/metrics`, `/healthz` and
//! `/readyz` of whole programs on loopback, read by Prometheus' own tools, and with peers and clients
//! that mean harm.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use ceilometer_ha::model::{Meter, MeterType, Reading};
use ceilometer_ha::wire::Refusal;
use support::process::Process;
use support::site::{Daemon, HOST, Lock, Site, goldens, reading, signed, signed_with};
use support::{program, run, wait_for, wait_until};

const BOTH: [Daemon; 2] = [Daemon::Agent, Daemon::Collector];
/// Probes of each of the two gateways in a round.
const PROBES: u64 = 4;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn promtool() -> Command {
    let promtool = root().join("target/promtool");
    assert!(
        promtool.exists(),
        "there is no {}: run scripts/install-test-parts",
        promtool.display()
    );
    Command::new(promtool)
}

/// What `promtool check metrics` complains of.
fn complaints(scrape: &str) -> String {
    let mut child = promtool()
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(scrape.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    format!(
        "{}{}",
        String::from_utf8_lossy(&said),
        if output.status.success() {
            ""
        } else {
            "refused"
        }
    )
}

type Labels = Vec<(String, String)>;

/// Every series of a scrape with its value, as Prometheus' own client library reads it.
fn parsed(site: &Site, scrape: &str) -> BTreeMap<String, f64> {
    const READ: &str = "import json, sys
from prometheus_client.parser import text_string_to_metric_families as families
read = [(s.name, sorted(s.labels.items()), s.value) for f in families(open(sys.argv[1]).read()) for s in f.samples]
print(json.dumps(read))";
    let file = site.path("scrape.txt");
    fs::write(&file, scrape).unwrap();
    let text = run(Command::new(root().join("target/test-venv/bin/python"))
        .args(["-c", READ])
        .arg(&file));
    let read: Vec<(String, Labels, f64)> = serde_json::from_str(&text).unwrap();
    let series = read.into_iter().map(|(name, labels, value)| {
        let labels: Vec<String> = labels
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        (format!("{name}{{{}}}", labels.join(",")), value)
    });
    series.collect()
}

/// The names of the metrics that a scrape shows.
fn names(scrape: &str) -> BTreeSet<String> {
    let types = scrape
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "));
    types
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect()
}

/// The sum of the series of a metric whose labels contain this.
fn sum(scrape: &str, metric: &str, label: &str) -> u64 {
    let start = format!("ceilometer_ha_{metric}{{");
    let lines = scrape
        .lines()
        .filter(|line| line.starts_with(&start) && line.contains(label));
    let values = lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let total = values.sum::<f64>() as u64;
    total
}

fn standalone(site: &Site) -> Process {
    let shipped = |name: &str| -> PathBuf { root().join(name) };
    let pipeline = fs::read_to_string(shipped("pipeline_ha.yaml")).unwrap();
    let own = pipeline.replace("- udp://127.0.0.1:4953", &format!("- {}", site.url()));
    fs::write(site.path("pipeline_ha.yaml"), own).unwrap();
    let mut command = Command::new(program("ceilometer-ha-standalone"));
    command
        .arg("--config-file")
        .arg(shipped("ceilometer_ha.conf"))
        .envs(site.environment())
        .env("OS_DEFAULT__STATE_PATH", site.path("collector"))
        .env(
            "OS_DEFAULT__PIPELINE_CFG_FILE",
            site.path("pipeline_ha.yaml"),
        );
    Process::start(&mut command, &site.path("standalone.out"))
}

/// Metrics that a healthy daemon doesn't show: they count what has not happened, or belong to what the
/// shipped configuration doesn't run.
const NOT_SHOWN: [&str; 11] = [
    "ceilometer_ha_broker_connected",
    "ceilometer_ha_deliveries_acknowledged_total",
    "ceilometer_ha_deliveries_lost_total",
    "ceilometer_ha_deliveries_quarantined_total",
    "ceilometer_ha_deliveries_redelivered_total",
    "ceilometer_ha_deliveries_total",
    "ceilometer_ha_deliveries_unacknowledged",
    "ceilometer_ha_hosts",
    "ceilometer_ha_plugin_samples_refused_total",
    "ceilometer_ha_pollster_failed_total",
    "ceilometer_ha_publisher_spool_oldest_age_seconds",
];

#[test]
fn prometheus_reads_every_daemon_without_a_complaint_and_finds_what_is_documented() {
    let (apart, together) = (Site::new(), Site::new());
    let _collector = apart.collector();
    let config = apart.agent_config();
    // What belongs to a way to a broker is there although the broker isn't.
    let pipeline = apart.path("pipeline_ha.yaml");
    let text = fs::read_to_string(&pipeline).unwrap();
    fs::write(
        &pipeline,
        text.replace("publishers: [", "publishers: ['notifier://?policy=queue', "),
    )
    .unwrap();
    let mut agent = Command::new(program("ceilometer-polling-ha"));
    let _agent = Process::start(
        agent
            .arg("--config-file")
            .arg(config)
            .env("OS_DEFAULT__TRANSPORT_URL", "rabbit://127.0.0.1:9/"),
        &apart.path("agent.log"),
    );
    let _standalone = standalone(&together);
    let wanted = |site: &Site| {
        wait_until("readings to be stored and instances to be counted", || {
            let scrapes = BOTH.map(|daemon| site.get(daemon, "/metrics").map(|(_, text)| text));
            let [Some(agent), Some(collector)] = scrapes else {
                return Err("no daemons".to_owned());
            };
            let is_there = sum(&agent, "storage_reachable", "") == 1
                && sum(&agent, "readings_published_total", "sent") > 0
                && sum(&collector, "readings_total", "stored") > 0;
            if is_there {
                Ok([agent, collector])
            } else {
                Err(agent)
            }
        })
    };
    wanted(&apart);
    wait_until("instances of the standalone", || {
        // It may not listen yet.
        let (_, agent) = together.get(Daemon::Agent, "/metrics").ok_or("no answer")?;
        let running = sum(&agent, "instances", "running");
        (running == 1).then_some(()).ok_or(agent)
    });
    let mut shown = BTreeSet::new();
    for site in [&apart, &together] {
        for scrape in wanted(site) {
            assert_eq!(complaints(&scrape), "", "{scrape}");
            let series = parsed(site, &scrape);
            let lines = scrape.lines().filter(|line| !line.starts_with('#')).count();
            assert_eq!(series.len(), lines, "each series once");
            let version = format!(
                "ceilometer_ha_build_info{{version={}}}",
                env!("CARGO_PKG_VERSION")
            );
            assert_eq!(series[&version], 1.0);
            assert!(series["process_resident_memory_bytes{}"] > 1e6);
            assert!(series["process_open_fds{}"] > 3.0 && series["process_threads{}"] > 1.0);
            assert!(series["process_start_time_seconds{}"] > 1.7e9);
            shown.extend(names(&scrape));
        }
    }
    let text = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let documented: BTreeSet<String> = rows
        .map(|row| row.split('`').next().unwrap().to_owned())
        .filter(|name| name.starts_with("ceilometer_ha_") || name.starts_with("process_"))
        .filter(|name| !NOT_SHOWN.contains(&name.as_str()))
        .collect();
    // On a machine that is busy with other tests, a round may fail now and then.
    shown.retain(|name| !NOT_SHOWN.contains(&name.as_str()));
    assert_eq!(shown, documented);
}

#[test]
fn promtool_complains_of_what_is_wrong() {
    let wrong = "# TYPE ceilometer_ha_rounds counter\nceilometer_ha_rounds 1\n";
    assert!(
        complaints(wrong).contains("_total"),
        "{}",
        complaints(wrong)
    );
}

#[test]
fn alerts_are_rules_that_fire_as_they_should() {
    run(promtool()
        .args(["check", "rules"])
        .arg(root().join("docs/alerts.yml")));
    run(promtool()
        .args(["test", "rules"])
        .arg(root().join("tests/fixtures/alerts_test.yml")));
}

#[test]
fn rounds_probes_and_readings_add_up() {
    let site = Site::new();
    let _collector = site.collector();
    let agent = site.agent();
    let storage = "pollster=\"storage_connectivity\"";
    let scrape = wait_until("a scrape between two rounds", || {
        let scrape = site.scrape(Daemon::Agent);
        let rounds = sum(&scrape, "rounds_total", storage);
        let probes = sum(&scrape, "probes_total", storage);
        let is_whole = rounds >= 3 && probes == rounds * 2 * PROBES;
        if is_whole { Ok(scrape) } else { Err(scrape) }
    });
    let rounds = sum(&scrape, "rounds_total", storage);
    // On a machine that is busy with other tests, our timers may be late now and then.
    let failed = sum(&scrape, "rounds_failed_total", storage);
    let well = rounds - failed;
    let probes = |result: &str| sum(&scrape, "probes_total", &format!("result=\"{result}\""));
    assert_eq!(probes("answered"), well * 2 * PROBES);
    assert_eq!(probes("void"), failed * 2 * PROBES);
    // A verdict, and three readings of each gateway.
    assert_eq!(sum(&scrape, "samples_total", storage), well * 7 + failed);
    // Two pollsters of which one pings, a publisher, a verdict and two gateways: docs/metrics.md has
    // the sum.
    let steady = series(&scrape)
        .into_iter()
        .filter(|name| !name.contains("pollster_failed"));
    assert_eq!(steady.count(), 20 + 2 * 29 + 11 + 8 + 1 + 2 * 3);
    assert_eq!(
        sum(&scrape, "state_saves_total", "done"),
        1,
        "two gateways, one save"
    );
    wait_until("what was sent to be what was received", || {
        let (sent, received) = (site.scrape(Daemon::Agent), site.scrape(Daemon::Collector));
        let pairs = [
            (
                sum(&sent, "publisher_datagrams_total", ""),
                sum(&received, "datagrams_total", ""),
            ),
            (
                sum(&sent, "publisher_sent_bytes_total", ""),
                sum(&received, "received_bytes_total", ""),
            ),
            (
                sum(&sent, "readings_published_total", "sent"),
                sum(&received, "readings_total", "stored"),
            ),
        ];
        let is_same = pairs
            .iter()
            .all(|(sent, received)| sent == received && *sent > 0);
        is_same.then_some(()).ok_or_else(|| format!("{pairs:?}"))
    });
    assert_eq!(site.metric(Daemon::Collector, "observers"), 1);
    wait_for("nothing to wait for its batch", || {
        (site.metric(Daemon::Collector, "queued_messages") == 0).then_some(())
    });
    for daemon in BOTH {
        assert_eq!(site.get(daemon, "/readyz"), Some((200, "ok\n".to_owned())));
        assert_eq!(site.metric(daemon, "ready"), 1);
    }
    assert!(agent.terminate().success());
}

/// The series of a scrape, without their values.
fn series(scrape: &str) -> BTreeSet<String> {
    let lines = scrape.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap().0.to_owned())
        .collect()
}

#[test]
fn nothing_that_a_peer_sends_makes_a_series() {
    const HOSTS: u64 = 2000;
    let site = Site::new();
    let _collector = site.collector();
    let before = series(&site.scrape(Daemon::Collector));
    assert_eq!(before.len(), 123, "docs/metrics.md says how many there are");
    for n in 0..HOSTS {
        // Authentic, and each of a host, a meter and a resource of its own.
        let host = format!("host-{n}\"}}\n");
        let Reading {
            identity,
            message_id,
            mut sample,
        } = reading(&host, 1);
        sample.meter = Meter {
            name: format!("meter-{n}\"}} 1").into(),
            kind: MeterType::Gauge,
            unit: format!("unit-{n}").into(),
        };
        let own = Reading {
            identity,
            message_id,
            sample,
        };
        site.send(&signed(&own));
        site.send(&signed_with(&own, "udp://forged", "another secret"));
        site.send(format!("garbage {n}").as_bytes());
    }
    for golden in goldens() {
        site.send(&golden.datagram);
    }
    wait_until("everything to be judged", || {
        let scrape = site.scrape(Daemon::Collector);
        let stored = sum(&scrape, "readings_total", "result=\"stored\"");
        let forged = sum(&scrape, "messages_total", "bad_signature");
        (stored > HOSTS && forged >= HOSTS)
            .then_some(())
            .ok_or(scrape)
    });
    let scrape = site.scrape(Daemon::Collector);
    assert_eq!(series(&scrape), before);
    assert_eq!(complaints(&scrape), "");
    let observers = site.metric(Daemon::Collector, "observers");
    assert!(observers >= HOSTS, "{observers} were heard");
    let verdicts = Refusal::ALL.map(Refusal::as_str);
    for line in scrape
        .lines()
        .filter(|line| line.starts_with("ceilometer_ha_messages_total{"))
    {
        let verdict = line
            .split("verdict=\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        assert!(
            verdict == "accepted" || verdicts.contains(&verdict),
            "{line}"
        );
    }
}

#[test]
fn a_thousand_idle_clients_cost_an_agent_nothing() {
    let site = Site::new();
    let _collector = site.collector();
    let _agent = site.agent();
    site.wait_for_agent(0);
    let before = open_fds(&site.scrape(Daemon::Agent));
    let idle: Vec<TcpStream> = (0..1000)
        .map(|_| TcpStream::connect(site.http_address(Daemon::Agent)).unwrap())
        .collect();
    let scrape = site.scrape(Daemon::Agent);
    let fds = open_fds(&scrape);
    assert!(fds <= before + 40, "{fds} descriptors are open");
    let rounds = sum(&scrape, "rounds_total", "storage");
    let missed = sum(&scrape, "rounds_missed_total", "");
    wait_for("further rounds", || {
        (sum(&site.scrape(Daemon::Agent), "rounds_total", "storage") >= rounds + 2).then_some(())
    });
    assert_eq!(
        sum(&site.scrape(Daemon::Agent), "rounds_missed_total", ""),
        missed
    );
    // The first of them was cut off long ago.
    let mut first = idle.first().unwrap();
    first
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    assert!(
        !matches!(first.read(&mut [0]), Ok(1..)),
        "an answer that nobody asked for"
    );
}

fn open_fds(scrape: &str) -> u64 {
    let line = scrape
        .lines()
        .find_map(|line| line.strip_prefix("process_open_fds "));
    line.unwrap().parse().unwrap()
}

#[test]
fn an_agent_says_what_is_not_ready_and_is_ready_again() {
    let site = Site::new();
    let _agent = site.agent();
    let line = site.wait_for_unready(Daemon::Agent, "nobody takes what");
    assert!(
        line.ends_with("s: Connection refused (os error 111)") && line.contains(&site.url()),
        "{line}"
    );
    assert_eq!(site.metric(Daemon::Agent, "ready"), 0);
    assert_eq!(
        site.get(Daemon::Agent, "/healthz"),
        Some((200, "ok\n".to_owned())),
        "no restart would help"
    );
    let _collector = site.collector();
    wait_until("the agent to be ready", || {
        match site.get(Daemon::Agent, "/readyz") {
            Some((200, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn an_agent_that_cannot_keep_its_state_or_knows_no_gateway_is_not_ready() {
    let site = Site::new();
    let config = site.agent_config();
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("127.0.0.1, 127.0.0.2", "")).unwrap();
    // A file where the folder should be.
    fs::write(site.path("agent"), "").unwrap();
    let mut command = Command::new(program("ceilometer-polling-ha"));
    let _agent = Process::start(
        command.arg("--config-file").arg(config),
        &site.path("agent.log"),
    );
    site.wait_for_health(Daemon::Agent);
    let line = site.wait_for_unready(Daemon::Agent, "not_configured");
    assert!(
        line.starts_with("storage_connectivity of source ha_source: not_configured for ")
            && line.ends_with("storage_server_address is empty"),
        "{line}"
    );
    let line = site.wait_for_unready(Daemon::Agent, "no state can be kept");
    assert!(line.contains("agent.json failed: "), "{line}");
    assert_eq!(
        sum(&site.scrape(Daemon::Agent), "state_saves_total", "failed"),
        1
    );
    let failed = "rounds_failed_total{pollster=\"storage_connectivity\",source=\"ha_source\"}";
    assert!(site.metric(Daemon::Agent, failed) >= 2);
    let scrape = site.scrape(Daemon::Agent);
    assert!(
        !scrape.contains("ceilometer_ha_storage_reachable{"),
        "unknown is no value"
    );
}

#[test]
fn a_collector_says_that_it_cannot_store_or_hears_nothing() {
    let site = Site::new();
    let collector = site.collector();
    site.store_one(&reading(HOST, 1));
    let lock = Lock::hold(&site.database());
    site.send(&signed(&reading(HOST, 2)));
    let line = site.wait_for_unready(Daemon::Collector, "batches can't be stored");
    assert!(line.contains("database is locked"), "{line}");
    site.send(&signed(&reading(HOST, 3)));
    wait_for("what waits to be shown although nothing is stored", || {
        (site.metric(Daemon::Collector, "queued_messages") == 1).then_some(())
    });
    lock.release();
    site.wait_for_samples(HOST, 3);
    wait_until("the collector to be ready", || {
        match site.get(Daemon::Collector, "/readyz") {
            Some((200, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    assert_eq!(site.metric(Daemon::Collector, "queued_messages"), 0);
    assert!(collector.terminate().success());

    let config = site.collector_config("");
    let text = fs::read_to_string(&config).unwrap();
    let deaf = text.replace(&format!("udp_address = {}", site.ip), "udp_address =");
    fs::write(&config, deaf).unwrap();
    let mut command = Command::new(program("ceilometer-collector-ha"));
    let _deaf = Process::start(
        command.arg("--config-file").arg(config),
        &site.path("deaf.log"),
    );
    site.wait_for_health(Daemon::Collector);
    site.wait_for_unready(Daemon::Collector, "nothing is received");
}
