//! Holds the documents to the code: what they list is what there is, what they show loads, and where
//! they point something stands. `BLESS=1` rewrites the generated parts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ceilometer_ha::clock;
use ceilometer_ha::config::options::{Effect, Kind, OPTIONS, OptionSpec, Reload};
use ceilometer_ha::config::{self, ConfigText, Purpose};
use ceilometer_ha::events::{
    AgentEvents, CollectorEvents, ConfigEvents, ConsumerEvents, Counts, Delivery, Expired,
    LibvirtCounts, Outcome, ProbeResult, Probes, SpoolLoss, SpoolView, Stored, Undeliverable,
    Usage, makes_unready,
};
use ceilometer_ha::model::{
    FailReason, GatewayStatus, INSTANCE_STATES, Metadata, Meter, Sample, UtcTime, Volume, meters,
};
use ceilometer_ha::pipeline::keys::{KEYS, Of};
use ceilometer_ha::storage::{HeldBack, RowRefusal};
use ceilometer_ha::wire::Refusal;
use ceilometer_ha::{pipeline, pollsters};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every document that a person reads.
fn documents() -> Vec<String> {
    let mut names: Vec<String> = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
    ]
    .map(str::to_owned)
    .into();
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        if file.ends_with(".md") {
            names.push(format!("docs/{file}"));
        }
    }
    names
}

/// Compares the generated parts of a document, each between two marks, with what the code says; or
/// puts that in their place.
fn hold(document: &str, parts: &[(&str, String)]) {
    let before = read(document);
    let mut after = before.clone();
    for (name, expected) in parts {
        let mark = format!("<!-- from the code: {name} -->\n");
        let (head, rest) = after
            .split_once(&mark)
            .unwrap_or_else(|| panic!("{document} has no mark {mark}"));
        let (_, tail) = rest
            .split_once("<!-- end -->")
            .expect("an end to every mark");
        after = format!("{head}{mark}{expected}<!-- end -->{tail}");
    }
    if std::env::var_os("BLESS").is_some() {
        fs::write(root().join(document), after).unwrap();
        return;
    }
    for (number, (is, should)) in before.lines().zip(after.lines()).enumerate() {
        assert_eq!(
            is,
            should,
            "{document}:{} is stale: run the test with BLESS=1",
            number + 1
        );
    }
    assert_eq!(before, after, "{document} is stale");
}

fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut text = format!("| {} |\n|{}\n", header.join(" | "), "---|".repeat(N));
    for row in rows {
        writeln!(text, "| {} |", row.join(" | ")).unwrap();
    }
    text
}

fn code(text: impl std::fmt::Display) -> String {
    format!("`{text}`")
}

/// Who yields a reason, as far as its name tells.
fn whose(reason: FailReason) -> &'static str {
    let name = reason.as_str();
    let of = [
        ("hypervisor_", "libvirt"),
        ("instance_", "libvirt"),
        ("plugin_", "plug-ins, ipmitool"),
        ("bmc_", "ipmitool"),
        ("no_witness", "hosts from outside"),
        ("no_hosts", "hosts from outside"),
        ("not_configured", "gateways"),
        ("name_", "gateways"),
        ("path_never_seen", "gateways"),
        ("no_quorum", "gateways"),
    ];
    let found = of.iter().find(|(start, _)| name.starts_with(start));
    found.map_or("any ping", |(_, whose)| whose)
}

#[test]
fn meters_and_their_codes_are_those_of_the_code() {
    let statuses = GatewayStatus::ALL.iter().map(|status| {
        [
            status.code().to_string(),
            code(status),
            status.words().to_owned(),
        ]
    });
    let reasons = FailReason::ALL.iter().map(|reason| {
        [
            reason.code().to_string(),
            code(reason),
            reason.words().to_owned(),
            whose(*reason).to_owned(),
            if makes_unready(*reason) { "yes" } else { "no" }.to_owned(),
        ]
    });
    let header = ["code", "name", "words"];
    let with_whose = ["code", "name", "words", "of", "in `/readyz`"];
    hold(
        "docs/meters.md",
        &[
            ("gateway status", table(header, statuses)),
            ("reasons", table(with_whose, reasons)),
        ],
    );
}

#[test]
fn every_meter_is_described_with_its_type_and_unit() {
    let text = read("docs/meters.md");
    let mut emitted: Vec<&Meter> = pollsters::TABLE
        .iter()
        .flat_map(|entry| entry.meters)
        .collect();
    let failure = meters::POLLSTER_FAILED;
    emitted.push(&failure);
    for meter in &emitted {
        let unit = if meter.unit.is_empty() {
            "none"
        } else {
            &meter.unit
        };
        let row = format!("| `{}` | {} | {unit} |", meter.name, meter.kind);
        assert!(text.contains(&row), "docs/meters.md has no row {row}");
    }
    let described = text
        .lines()
        .filter(|line| line.contains("| gauge |") || line.contains("| cumulative |"))
        .count();
    assert_eq!(
        described,
        emitted.len(),
        "docs/meters.md describes a meter that nobody emits"
    );
}

#[test]
fn every_reason_has_its_advice() {
    let text = read("docs/operations.md");
    for reason in FailReason::ALL {
        assert!(
            text.contains(&format!("| `{reason}` |")),
            "docs/operations.md doesn't say what to do about {reason}"
        );
    }
}

/// Everything the agent can say, once, so that every metric has a series.
fn all_of_the_agents() -> String {
    let events = AgentEvents::new().unwrap();
    let now = clock::now();
    let at = UtcTime::from_unix_micros(0);
    let sample = |meter: Meter| {
        let metadata = Metadata::from([("gateway".to_owned(), "g".into())]);
        Sample::new(meter, Volume::Int(1), "n/g".to_owned(), at, metadata)
    };
    let failed = pollsters::failed("n", "p", FailReason::NoQuorum, at);
    events.started("n", 1);
    events.expect_pollster("s", "p", now);
    events.expect_publisher("udp://c:1", || Some(0), now);
    for (pollster, samples) in [
        ("p", vec![failed]),
        (
            "storage_connectivity",
            vec![
                sample(meters::STORAGE_CONNECTIVITY),
                sample(meters::GATEWAY_STATUS),
                sample(meters::GATEWAY_LOSS_RATIO),
                sample(meters::GATEWAY_RTT),
            ],
        ),
        ("hypervisor", vec![sample(meters::HYPERVISOR_CONNECTIVITY)]),
        ("instances", vec![sample(meters::INSTANCE_ROUND)]),
        ("host.connectivity", vec![sample(meters::HOST_CONNECTIVITY)]),
    ] {
        let times = (Duration::ZERO, Duration::ZERO);
        events.round_ended("s", pollster, times, &samples, now);
    }
    let mut probes = Probes::default();
    probes.add(ProbeResult::Answered, 1);
    let libvirt = LibvirtCounts {
        slowest: Some(Duration::ZERO),
        ..LibvirtCounts::default()
    };
    let counts = Counts {
        refused: 1,
        probes,
        libvirt: Some(libvirt),
    };
    events.counted("s", "p", &counts);
    events.rounds_missed("s", "p", 1);
    let outcome = Outcome {
        error: Some(io::Error::other("x")),
        refused: Some(io::ErrorKind::ConnectionRefused.into()),
        ..Outcome::default()
    };
    events.published("udp://c:1", &outcome, now);
    events.publisher_dropped("udp://c:1", 1, now);
    events.expect_notifier(AWAY, || Some(1), now);
    events.expect_spool(AWAY, |_| {
        Some(SpoolView {
            oldest: Some(Duration::ZERO),
            ..SpoolView::default()
        })
    });
    events.names_looked_up(1, 1);
    events.state_saved(Path::new("agent.json"), &Ok(()), now);
    events.no_state(Path::new("agent.json"), &io::Error::other("x"), now);
    events.render(true, &used(), now)
}

/// Likewise for the collector.
fn all_of_the_collectors() -> String {
    let now = clock::now();
    let events = Arc::new(CollectorEvents::new(now).unwrap());
    let consumer = ConsumerEvents::new(&events, "t", now);
    consumer.connected("b:1");
    consumer.away(&io::Error::other("x"), now);
    consumer.declared_otherwise(&["q".to_owned()]);
    consumer.delivered(1, true);
    consumer.accepted(1);
    consumer.refused(Refusal::NotJson, 1, now);
    consumer.shown(1);
    consumer.acknowledged(1);
    consumer.rejected();
    consumer.quarantined(Refusal::NotJson);
    consumer.lost(Refusal::NotJson, &io::Error::other("x"), now);
    events.expect_rows_refused(RowRefusal::ALL.iter().map(|refusal| refusal.as_str()));
    events.listening(SocketAddr::from(([127, 0, 0, 1], 1)), 1, 1);
    events.sample_ids(1.0);
    events.received(1, 1);
    events.refused(Refusal::BadSignature, None, now);
    events.kernel_dropped(1, now);
    events.receive_failed(&io::Error::other("x"), now);
    events.queue_full(1, 1, now);
    events.states_stored(1, 1, now);
    events.states_lost(1);
    events.tried(Duration::ZERO);
    events.stored(&Stored::default(), Duration::ZERO, now);
    events.row_refused("text_too_long", &"words", now);
    for reason in HeldBack::ALL {
        events.held_back(reason.as_str(), 1);
    }
    events.store_failed(1, &io::Error::other("x"), now);
    events.quarantine(Some(1), 1, now);
    events.identity_conflict("n", 2, 1, now);
    events.left_unstored(1);
    events.expired(&Expired::default(), Duration::ZERO, true, now);
    events.expiring_failed(&io::Error::other("x"), now);
    events.render(0, true, &used(), now)
}

fn used() -> Usage {
    Usage {
        resident_bytes: Some(1),
        threads: Some(1),
        open_fds: Some(1),
        max_fds: Some(1),
        ..Usage::default()
    }
}

/// Publishers with a message broker that is away, and one that takes nothing.
const AWAY: &str = "notifier://?topic=away";
const BLOCKED: &str = "notifier://?topic=blocked";

/// What `/readyz` can say beside `/healthz`, as the events lead to it.
fn everything_unready() -> Vec<String> {
    let start = clock::now();
    let later = start + Duration::from_secs(10);
    let agent = AgentEvents::new().unwrap();
    agent.expect_pollster("s", "first", start);
    agent.no_state(Path::new("agent.json"), &io::Error::other("x"), start);
    for path in ["udp://unsent:1", "udp://refused:1"] {
        agent.expect_publisher(path, || Some(0), start);
    }
    for path in [AWAY, BLOCKED] {
        agent.expect_notifier(path, || Some(0), start);
    }
    agent.delivery(BLOCKED, &Delivery::Connected { member: "m" }, start);
    agent.delivery(BLOCKED, &Delivery::Blocked { why: "x" }, start);
    agent.publisher_dropped("udp://unsent:1", 1, start);
    let failed = pollsters::failed(
        "n",
        "p",
        FailReason::NoPermission,
        UtcTime::from_unix_micros(0),
    );
    for now in [start, later] {
        let times = (Duration::ZERO, Duration::ZERO);
        agent.round_ended("s", "p", times, std::slice::from_ref(&failed), now);
        let unsent = Outcome {
            error: Some(io::Error::other("x")),
            ..Outcome::default()
        };
        agent.published("udp://unsent:1", &unsent, now);
        let refused = Outcome {
            sent: 1,
            refused: Some(io::Error::other("x")),
            ..Outcome::default()
        };
        agent.published("udp://refused:1", &refused, now);
    }
    let collector = Arc::new(CollectorEvents::new(start).unwrap());
    collector.deaf();
    ConsumerEvents::new(&collector, "TOPIC", start).away(&io::Error::other("x"), start);
    collector.store_failed(1, &io::Error::other("x"), start);
    collector.queue_full(1, 0, start);
    collector.kernel_dropped(1, start);
    let mut lines = agent.not_ready(later);
    lines.extend(collector.not_ready(later));
    lines
}

#[test]
fn every_line_of_readyz_is_explained() {
    let text = read("docs/operations.md");
    let section = text.split("## What readyz says").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let words = |text: &str| -> Vec<String> {
        let names = [
            "udp://HOST:PORT",
            "notifier://?topic=TOPIC",
            "POLLSTER",
            "SOURCE",
            "REASON",
            "TOPIC",
            "…",
        ];
        let plain = names
            .iter()
            .fold(text.to_owned(), |text, name| text.replace(name, "NAME"));
        plain.split(' ').map(str::to_owned).collect()
    };
    // A name or a number stands for any; what comes after a colon is the reason's or the error's own.
    let is_like = |shown: &[String], pattern: &[String]| {
        let same = |(shown, pattern): (&String, &String)| {
            let any = pattern.contains("NAME") || pattern.chars().all(|c| c.is_ascii_digit());
            any || shown == pattern
        };
        let ends =
            pattern.last().is_some_and(|last| last == "NAME") || shown.len() == pattern.len();
        ends && shown.len() >= pattern.len() && shown.iter().zip(pattern).all(same)
    };
    let patterns: Vec<Vec<String>> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next().map(words))
        .collect();
    let lines = everything_unready();
    assert_eq!(lines.len(), patterns.len(), "{lines:#?}");
    for line in lines {
        let shown: Vec<String> = line.split(' ').map(str::to_owned).collect();
        assert!(
            patterns.iter().any(|pattern| is_like(&shown, pattern)),
            "docs/operations.md doesn't explain {line:?}"
        );
    }
}

/// Likewise for the configuration of either.
fn all_of_the_configurations() -> String {
    let events = ConfigEvents::new(UtcTime::from_unix_micros(0)).unwrap();
    events.reloaded(&["x".into()], &["y".into()], UtcTime::from_unix_micros(0));
    events.metrics().render()
}

/// The label names of a line of Prometheus' text format, without a bucket's bound.
fn labels_of(series: &str) -> BTreeSet<String> {
    let Some((_, labels)) = series.split_once('{') else {
        return BTreeSet::new();
    };
    let names = labels.split("=\"").filter_map(|before| {
        let name = before.rsplit([',', '{', '"']).next()?;
        name.chars()
            .all(|c| c.is_ascii_lowercase() || c == '_')
            .then(|| name.to_owned())
    });
    names
        .filter(|name| !name.is_empty() && name != "le")
        .collect()
}

/// Name, type, labels and help of every metric in Prometheus' text format.
fn metrics_in(rendered: &str) -> BTreeMap<String, [String; 4]> {
    let mut found: BTreeMap<String, [String; 4]> = BTreeMap::new();
    let mut help = String::new();
    let mut name = String::new();
    for line in rendered.lines() {
        if let Some(text) = line.strip_prefix("# HELP ") {
            let (_, words) = text.split_once(' ').unwrap();
            words.clone_into(&mut help);
        } else if let Some(text) = line.strip_prefix("# TYPE ") {
            let (of, kind) = text.split_once(' ').unwrap();
            of.clone_into(&mut name);
            let row = [code(of), kind.to_owned(), String::new(), help.clone()];
            found.insert(name.clone(), row);
        } else if let Some(row) = found.get_mut(&name) {
            let labels: Vec<String> = labels_of(line).into_iter().map(code).collect();
            row[2] = labels.join(", ");
        }
    }
    found
}

/// How a file of `events` registers a metric. Those of every process keep their own names.
const REGISTERING: [(&str, &str); 9] = [
    (".counters(", "ceilometer_ha_"),
    (".counter(", "ceilometer_ha_"),
    (".gauge(", "ceilometer_ha_"),
    (".gauges(", "ceilometer_ha_"),
    (".real_gauge(", "ceilometer_ha_"),
    (".real_gauges(", "ceilometer_ha_"),
    (".histogram(", "ceilometer_ha_"),
    (".histograms(", "ceilometer_ha_"),
    (".process_", ""),
];

/// The names that files of `events` register.
fn registered_in(files: &[&str]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in files {
        let text = read(&format!("src/events/{file}"));
        let code = text.split("#[cfg(test)]").next().unwrap();
        for (call, prefix) in REGISTERING {
            for after in code.split(call).skip(1) {
                names.insert(format!("{prefix}{}", after.split('"').nth(1).unwrap()));
            }
        }
    }
    names
}

/// What labels can hold, by metric and label, where that is a closed list.
fn closed_lists() -> Vec<(&'static str, &'static str, Vec<&'static str>)> {
    let reasons: Vec<_> = FailReason::ALL.iter().map(|it| it.as_str()).collect();
    let results: Vec<_> = ProbeResult::ALL.iter().map(|it| it.as_str()).collect();
    let refusals = Refusal::ALL.map(Refusal::as_str);
    let verdicts: Vec<_> = ["accepted"].into_iter().chain(refusals).collect();
    let rows: Vec<_> = RowRefusal::ALL.iter().map(|it| it.as_str()).collect();
    vec![
        ("pollster_failed_total", "reason", reasons),
        ("probes_total", "result", results),
        ("instances", "state", INSTANCE_STATES.to_vec()),
        ("hosts", "state", vec!["answering", "silent"]),
        ("readings_published_total", "result", vec!["sent", "failed"]),
        (
            "publisher_undelivered_total",
            "reason",
            Undeliverable::ALL.map(Undeliverable::as_str).to_vec(),
        ),
        (
            "publisher_spool_lost_readings_total",
            "reason",
            SpoolLoss::ALL.map(SpoolLoss::as_str).to_vec(),
        ),
        ("name_lookups_total", "result", vec!["done", "failed"]),
        ("state_saves_total", "result", vec!["done", "failed"]),
        ("messages_total", "verdict", verdicts),
        ("deliveries_quarantined_total", "reason", refusals.to_vec()),
        (
            "messages_dropped_total",
            "reason",
            vec!["queue_full", "state_lost", "shutdown"],
        ),
        (
            "readings_total",
            "result",
            vec!["stored", "duplicate", "late", "refused"],
        ),
        ("readings_refused_total", "reason", rows),
        (
            "expired_rows_total",
            "table",
            vec!["sample", "resource", "meter", "ha_seen", "ha_seen_message"],
        ),
    ]
}

/// Every value of a label of a metric that a scrape shows.
fn values_in(rendered: &str, metric: &str, label: &str) -> BTreeSet<String> {
    let series = format!("ceilometer_ha_{metric}{{");
    let lines = rendered.lines().filter(|line| line.starts_with(&series));
    let value = |line: &str| {
        let (_, after) = line.split_once(&format!("{label}=\""))?;
        Some(after.split('"').next()?.to_owned())
    };
    lines.filter_map(value).collect()
}

/// A metric's help, as a sentence of a table.
fn rows(metrics: BTreeMap<String, [String; 4]>) -> Vec<[String; 4]> {
    metrics.into_values().collect()
}

#[test]
fn metrics_are_those_of_the_daemons() {
    ceilometer_ha::events::log_lines_lost("stderr").unwrap();
    let (agent_text, collector_text) = (all_of_the_agents(), all_of_the_collectors());
    let config_text = all_of_the_configurations();
    let mut agent = metrics_in(&agent_text);
    let mut collector = metrics_in(&collector_text);
    let config = metrics_in(&config_text);
    // The log is the process's: every daemon shows what it lost.
    let lost = "ceilometer_ha_log_lines_lost_total";
    let [log, same] = [&mut agent, &mut collector].map(|metrics| metrics.remove(lost).unwrap());
    assert_eq!(log, same);
    let names = |metrics: &BTreeMap<String, _>| metrics.keys().cloned().collect::<BTreeSet<_>>();
    for (shown, files) in [
        (
            &agent,
            [
                "process.rs",
                "agent.rs",
                "brokers.rs",
                "spools.rs",
                "readings.rs",
            ]
            .as_slice(),
        ),
        (
            &collector,
            ["process.rs", "collector.rs", "consumer.rs"].as_slice(),
        ),
        (&config, ["config.rs"].as_slice()),
    ] {
        assert_eq!(
            names(shown),
            registered_in(files),
            "this test doesn't touch every metric of {files:?}"
        );
    }
    let of_both = registered_in(&["process.rs"]);
    let both = agent
        .extract_if(.., |name, _| of_both.contains(name))
        .collect();
    collector.retain(|name, _| !of_both.contains(name));
    let lists = closed_lists();
    for (metric, label, values) in &lists {
        for text in [&agent_text, &collector_text] {
            for value in values_in(text, metric, label) {
                assert!(values.contains(&&*value), "{metric} has {label} {value}");
            }
        }
    }
    let lists = lists.into_iter().map(|(metric, label, values)| {
        let values: Vec<String> = values.iter().map(code).collect();
        [code(metric), code(label), values.join(", ")]
    });
    let header = ["metric", "type", "labels", "meaning"];
    hold(
        "docs/metrics.md",
        &[
            ("both", table(header, rows(both))),
            ("agent", table(header, rows(agent))),
            ("collector", table(header, rows(collector))),
            ("config", table(header, rows(config))),
            ("log", table(header, [log])),
            ("closed lists", table(["metric", "label", "values"], lists)),
            (
                "alerts",
                table(
                    ["alert", "severity", "when", "what it means and what to do"],
                    alerts(),
                ),
            ),
        ],
    );
}

/// The rules of docs/alerts.yml, in its own order: name, severity, condition, words.
fn alerts() -> Vec<[String; 4]> {
    let text = read("docs/alerts.yml");
    let rules = text.split("- alert: ").skip(1);
    let field = |rule: &str, name: &str| {
        let line = rule
            .lines()
            .find_map(|line| line.trim_start().strip_prefix(name));
        line.map(|value| value.trim().trim_matches('\'').replace("''", "'"))
    };
    let row = |rule: &str| {
        let name = rule.lines().next().unwrap().trim();
        let get = |key: &str| field(rule, key).unwrap_or_else(|| panic!("{name} has no {key}"));
        let lasting = field(rule, "for:").map_or(String::new(), |time| format!(" for {time}"));
        let when = format!("{}{lasting}", code(get("expr:").replace('|', "\\|")));
        [code(name), get("severity:"), when, get("description:")]
    };
    rules.map(row).collect()
}

#[test]
fn alerts_name_metrics_and_labels_that_there_are() {
    let shown = all_of_the_agents() + &all_of_the_collectors() + &all_of_the_configurations();
    let metrics = metrics_in(&shown);
    let lists = closed_lists();
    let text = read("docs/alerts.yml");
    let mut named = 0;
    for after in text.split("ceilometer_ha_").skip(1) {
        let name: String = after
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect();
        let base = name.trim_end_matches("_bucket").trim_end_matches("_count");
        assert!(
            metrics.contains_key(&format!("ceilometer_ha_{base}")),
            "docs/alerts.yml names {name}, which no daemon has"
        );
        named += 1;
        let Some(selector) = after.strip_prefix(&format!("{name}{{")) else {
            continue;
        };
        let selector = selector.split('}').next().unwrap();
        let (label, value) = selector.split_once('=').unwrap();
        let value = value.trim_matches(['~', '"']);
        let list = lists
            .iter()
            .find(|(of, its, _)| *of == base && *its == label);
        let (.., values) = list.unwrap_or_else(|| panic!("{name} has no closed label {label}"));
        for one in value.split('|') {
            assert!(values.contains(&one), "{name} never has {label} {one}");
        }
    }
    assert!(named > 10, "docs/alerts.yml names only {named} metrics");
}

#[test]
fn refusals_are_those_of_the_wire_and_of_the_tables() {
    let on_the_wire = Refusal::ALL.map(|refusal| [code(refusal.as_str()), refusal.to_string()]);
    let in_the_tables = RowRefusal::ALL
        .iter()
        .map(|refusal| [code(refusal), refusal.words().to_owned()]);
    let header = ["label", "why"];
    hold(
        "docs/wire.md",
        &[
            ("refusals", table(header, on_the_wire)),
            ("row refusals", table(header, in_the_tables)),
        ],
    );
}

/// What an option takes, in words.
fn takes(kind: Kind) -> String {
    let words = |words: &[&str]| {
        let words: Vec<String> = words
            .iter()
            .filter(|word| !word.is_empty())
            .map(code)
            .collect();
        words.join(", ")
    };
    match kind {
        Kind::Text => "text".into(),
        Kind::Secret => "text, never shown".into(),
        Kind::Connection => "an SQLAlchemy URL".into(),
        Kind::Path => "a path".into(),
        Kind::File => "a path, or nothing".into(),
        Kind::Interface => "an interface's name".into(),
        Kind::Bool => "true or false".into(),
        Kind::Int {
            least: i64::MIN,
            most,
        } => format!("a whole number up to {most}"),
        Kind::Int { least, most } => format!("a whole number, {least} to {most}"),
        Kind::Float { least, most } => format!("a number, {least} to {most}"),
        Kind::Seconds { least, most } => format!("seconds, {least} to {most}"),
        Kind::Choice(choices) => format!("one of {}", words(choices)),
        Kind::Choices(choices) => format!("a comma list of {}", words(choices)),
        Kind::List => "a comma list".into(),
        Kind::Multi(choices) => format!("{}; may be set several times", words(choices)),
        Kind::Command => "a command; arguments are never shown".into(),
        Kind::Plugins => "NAME FORMAT COMMAND [ARGUMENTS]; may be set several times".into(),
        Kind::Hosts => "a comma list of addresses or host names".into(),
        Kind::Sources => "one IPv4 and one IPv6 address at most".into(),
        Kind::Address => "an address, or nothing".into(),
        Kind::Listen => "address:port, or nothing".into(),
        Kind::Tags => "a comma list of key:value".into(),
        Kind::Quorum => "`any`, `majority`, `all` or a number".into(),
    }
}

/// What becomes of a new value.
fn on_reload(reload: Reload) -> &'static str {
    match reload {
        Reload::Live => "holds at once",
        Reload::Restart => "needs a restart",
    }
}

fn option_row(spec: &OptionSpec) -> [String; 6] {
    let mut help = spec.help.to_owned();
    if !spec.deprecated.is_empty() {
        let names: Vec<String> = spec
            .deprecated
            .iter()
            .map(|(group, name)| format!("`[{group}] {name}`"))
            .collect();
        write!(help, " Older names: {}.", names.join(", ")).unwrap();
    }
    let default = if spec.default.is_empty() {
        String::new()
    } else {
        code(spec.default)
    };
    let reload = match spec.effect {
        Effect::Read => on_reload(spec.reload),
        Effect::Ignored => "nothing",
    };
    [
        code(spec.name),
        takes(spec.kind),
        default,
        spec.since.to_owned(),
        reload.to_owned(),
        help,
    ]
}

fn options_with(effect: Effect) -> String {
    let mut text = String::new();
    let of_effect = || OPTIONS.iter().filter(move |spec| spec.effect == effect);
    let groups: Vec<&str> = of_effect().fold(Vec::new(), |mut groups, spec| {
        if !groups.contains(&spec.group) {
            groups.push(spec.group);
        }
        groups
    });
    for group in groups {
        let rows = of_effect()
            .filter(|spec| spec.group == group)
            .map(option_row);
        let header = [
            "option",
            "takes",
            "default",
            "since",
            "after a reload",
            "what it is",
        ];
        write!(text, "\n### [{group}]\n\n{}", table(header, rows)).unwrap();
    }
    text
}

#[test]
fn options_are_those_of_the_table() {
    hold(
        "docs/options.md",
        &[
            ("read", options_with(Effect::Read)),
            ("ignored", options_with(Effect::Ignored)),
        ],
    );
}

#[test]
fn keys_of_the_pipeline_are_those_of_the_table() {
    let part = |of: Of| {
        let keys = KEYS.iter().filter(|key| key.of == of);
        let rows = keys.map(|key| {
            assert!(key.help.ends_with('.') && !key.help.contains("  "));
            let cells = [key.takes, key.without, key.since, key.help];
            let [takes, without, since, help] = cells.map(str::to_owned);
            [code(key.name), takes, without, since, help]
        });
        table(["key", "takes", "without it", "since", "what it is"], rows)
    };
    hold(
        "docs/pipeline.md",
        &[
            ("file", part(Of::File)),
            ("source", part(Of::Source)),
            ("sink", part(Of::Sink)),
        ],
    );
}

#[test]
fn options_that_need_a_restart_are_listed() {
    let mut groups: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for spec in OPTIONS {
        if spec.reload == Reload::Restart && spec.effect == Effect::Read {
            groups.entry(spec.group).or_default().push(code(spec.name));
        }
    }
    let rows = groups
        .into_iter()
        .map(|(group, names)| [format!("[{group}]"), names.join(", ")]);
    let list = table(["section", "options"], rows);
    hold("docs/operations.md", &[("restart", list)]);
}

/// A fenced block of a document.
struct Block {
    language: String,
    /// What stands behind the language.
    words: String,
    text: String,
    line: usize,
}

/// Every fenced block, in order.
fn blocks(document: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_open = false;
    for (index, line) in read(document).lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), is_open) {
            (Some(info), false) => {
                let (language, words) = info.split_once(' ').unwrap_or((info, ""));
                blocks.push(Block {
                    language: language.to_owned(),
                    words: words.to_owned(),
                    text: String::new(),
                    line: index + 1,
                });
                is_open = true;
            }
            (Some(_), true) => is_open = false,
            (None, true) => writeln!(blocks.last_mut().unwrap().text, "{line}").unwrap(),
            (None, false) => {}
        }
    }
    assert!(!is_open, "{document} has a fence without an end");
    blocks
}

/// Every option is known by name and section, so that a block of configuration is known by its look.
fn looks_like_configuration(text: &str) -> bool {
    let is_ini = text.lines().any(|line| {
        let name = line
            .trim_start_matches('#')
            .split('=')
            .next()
            .unwrap_or_default();
        line.contains('=') && OPTIONS.iter().any(|spec| spec.name == name.trim())
    });
    is_ini
        || text
            .lines()
            .any(|line| matches!(line.trim_end(), "sources:" | "sinks:"))
}

fn against(strict: bool) -> pipeline::Against {
    // What docs/plugins.md and the shipped configuration declare as examples.
    let plugins = ["load", "entropy"];
    let known = pollsters::TABLE.iter().flat_map(|entry| entry.meters);
    let known = known.map(|meter| meter.name.as_ref());
    let meters = pipeline::KnownMeters::new(known, plugins);
    pipeline::Against {
        meters,
        strict,
        topic: "metering_ha".to_owned(),
    }
}

fn load_ini(document: &str, text: &str) {
    let file = ConfigText {
        path: PathBuf::from(document),
        text: text.to_owned(),
    };
    match config::load(Purpose::Everything, &[file], &[], "host", true) {
        Ok(loaded) => assert_eq!(loaded.warnings, [], "{document}:\n{text}"),
        Err(problems) => panic!("{problems}\n{text}"),
    }
}

fn load_yaml(document: &str, text: &str) {
    match pipeline::parse(Path::new(document), text, &against(true)) {
        Ok((_, warnings)) => assert_eq!(warnings, [], "{document}:\n{text}"),
        Err(problems) => panic!("{problems}\n{text}"),
    }
}

fn load_hosts(document: &str, text: &str) {
    let mut list = pollsters::hosts::list::List::default();
    let problems = list.read_file(Path::new(document), text);
    assert_eq!(problems, [], "{document}:\n{text}");
    assert!(list.targets().count() > 0, "{document}:\n{text}");
}

/// A block that is no file says so behind its language: ```` ```ini excerpt ````.
const NO_FILE: &str = "excerpt";

#[test]
fn every_snippet_of_configuration_loads_without_a_word() {
    let mut seen = BTreeMap::from([("ini", 0), ("yaml", 0), ("hosts", 0)]);
    for document in documents() {
        for block in blocks(&document) {
            let place = format!("{document}:{}", block.line);
            assert!(
                matches!(&*block.words, "" | NO_FILE),
                "{place}: {}",
                block.words
            );
            let load = match &*block.language {
                _ if block.words == NO_FILE => continue,
                "ini" => load_ini,
                "yaml" => load_yaml,
                "hosts" => load_hosts,
                "conf" | "yml" | "cfg" | "toml" => {
                    panic!("{place}: call it ini, yaml or hosts, so that it is loaded")
                }
                _ => {
                    let text = &block.text;
                    assert!(!looks_like_configuration(text), "{place} is configuration");
                    continue;
                }
            };
            load(&place, &block.text);
            *seen.get_mut(&*block.language).unwrap() += 1;
        }
    }
    assert!(
        seen.values().all(|count| *count > 0),
        "the documents show no configuration any more: {seen:?}"
    );
}

/// What stands in a comment of a shipped file, to be put in force by taking the `#` away, loads as well.
#[test]
fn every_commented_sample_loads_without_a_word() {
    let yaml = uncommented(&read("pipeline_ha.yaml"), |line| {
        line.starts_with([' ', '-'])
            && (line.contains(": ") || line.ends_with(':') || line.trim_start().starts_with("- "))
    });
    let yaml = yaml.replacen("- name: ha_slow", "- name: ha_bmc", 1);
    assert!(yaml.contains("\n    - name: ha_outside\n"), "{yaml}");
    load_yaml("pipeline_ha.yaml", &yaml);
    let ini = uncommented(&read("ceilometer_ha.conf"), |line| {
        let name = line.split(" =").next().unwrap_or_default();
        let is_option = |name: &str| OPTIONS.iter().any(|spec| spec.name == name);
        // A secret stands here or in a file of its own, never in both.
        let has_other_place = name.strip_suffix("_file").is_some_and(is_option);
        line.contains(" =") && is_option(name) && !has_other_place
    });
    load_ini("ceilometer_ha.conf", &ini);
}

/// The text without the `#` before lines that look like what they comment out.
fn uncommented(text: &str, is_sample: fn(&str) -> bool) -> String {
    let line = |line: &str| {
        let indent = line.len() - line.trim_start().len();
        let bare = line
            .trim_start()
            .strip_prefix('#')
            .map(|bare| bare.strip_prefix(' ').unwrap_or(bare));
        match bare {
            Some(bare) if is_sample(bare) => format!("{}{bare}\n", &line[..indent]),
            _ => format!("{line}\n"),
        }
    };
    text.lines().map(line).collect()
}

/// The anchors of a document's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            let kept = heading
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.collect::<String>().replace(' ', "-")
        })
        .collect()
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    for document in documents() {
        let text = read(&document);
        let folder = root().join(&document).parent().unwrap().to_owned();
        let targets = text
            .split("](")
            .skip(1)
            .filter_map(|after| after.split(')').next());
        for target in targets.filter(|target| !target.contains("://")) {
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = folder.join(path);
            assert!(
                file.exists(),
                "{document} points to {target}, which isn't there"
            );
            assert!(
                anchor.is_empty() || anchors(&fs::read_to_string(file).unwrap()).contains(anchor),
                "{document} points to {target}, which has no such heading"
            );
        }
    }
}

/// The bounds in ARCHITECTURE.md: name, value as written in the code, file.
fn bounds_in_architecture() -> Vec<[String; 3]> {
    let text = read("ARCHITECTURE.md");
    let rows = text
        .lines()
        .skip_while(|line| !line.starts_with("| bound |"))
        .skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .map(|line| {
            let quoted: Vec<&str> = line.split('`').skip(1).step_by(2).collect();
            let [name, value, file, ..] = quoted[..] else {
                panic!("a row without name, value and file: {line}");
            };
            [name, value, file].map(str::to_owned)
        })
        .collect()
}

/// Constants that are named like bounds and aren't: the exponents at which Python changes its way of
/// writing a number.
const NO_BOUNDS: &[&str] = &["EXPONENT_MAX_OLD", "EXPONENT_MAX_REPR"];

/// The constants of one file that are named like bounds, with their values; tests left out.
fn bounds_in_code(file: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap();
    let declared = code.split("const ").skip(1).filter_map(|after| {
        let (name, rest) = after.split_once(": ")?;
        let (_, value) = rest.split(';').next()?.split_once(" = ")?;
        Some((name.to_owned(), value.to_owned()))
    });
    declared
        .filter(|(name, _)| {
            let is_bound = name
                .split('_')
                .any(|word| matches!(word, "MAX" | "LIMIT" | "HORIZON"));
            is_bound
                && name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
                && !NO_BOUNDS.contains(&name.as_str())
        })
        .collect()
}

fn sources_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources_below(&path));
        } else if path.extension().is_some_and(|is| is == "rs") {
            found.push(path);
        }
    }
    found
}

#[test]
fn every_bound_is_in_architecture_with_its_value() {
    let mut in_code = BTreeSet::new();
    for file in sources_below(&root().join("src")) {
        let short = file
            .strip_prefix(root().join("src"))
            .unwrap()
            .display()
            .to_string();
        in_code.extend(
            bounds_in_code(&file)
                .into_iter()
                .map(|(name, value)| [name, value, short.clone()]),
        );
    }
    let written: BTreeSet<[String; 3]> = bounds_in_architecture().into_iter().collect();
    let missing: Vec<_> = in_code.difference(&written).collect();
    assert!(
        missing.is_empty(),
        "bounds that ARCHITECTURE.md lacks, or has with another value: {missing:#?}"
    );
    for [name, value, file] in &written {
        let text = read(&format!("src/{file}"));
        assert!(
            text.contains(&format!("const {name}: ")) && text.contains(&format!(" = {value};")),
            "ARCHITECTURE.md has {name} = {value} in {file}, which the code doesn't"
        );
    }
}
