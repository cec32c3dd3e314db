//! History as an operator meets it: kept for its time by a running collector, deleted by hand, and
//! asked for.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::fs;
use std::process::{Command, Output};

use ceilometer_ha::clock;
use ceilometer_ha::model::{Identity, Received, ReceivedMeter, Secret, UtcTime, Value};
use ceilometer_ha::storage::Database;
use nix::sys::signal::Signal;
use serde_json::Value as Json;
use support::site::{Daemon, Site};
use support::{program, run, run_unchecked, wait_for};

const OLD: &str = "sample.recorded_at < datetime('now', '-10 minutes')";
const DELETED: &str = "expired_rows_total{table=\"sample\"}";

/// Makes the collector's database and stores these in it, as a collector does.
fn store(site: &Site, batch: &[Received]) {
    fs::create_dir_all(site.database().parent().unwrap()).unwrap();
    let url = Secret::new(format!("sqlite:///{}", site.database().display()));
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    runtime.block_on(async {
        Database::dbsync(&url).await.unwrap();
        let db = Database::open(&url).await.unwrap();
        assert_eq!(db.store(batch).await.unwrap().stored, batch.len());
        db.close().await;
    });
}

/// Adds so many samples that were recorded an hour ago.
fn add_old(site: &Site, count: u32) {
    let sql = format!(
        "INSERT INTO resource (internal_id, resource_id) VALUES (1000, 'old');
         INSERT INTO meter (id, name) VALUES (1000, 'old');
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
         INSERT INTO sample (meter_id, resource_id, volume, timestamp, recorded_at)
         SELECT 1000, 1000, 1.0, t, t FROM n,
         (SELECT strftime('%Y-%m-%d %H:%M:%S.000000', 'now', '-1 hour') AS t)"
    );
    run(Command::new("sqlite3").arg(site.database()).arg(sql));
}

fn reading(host: &str, seq: u64) -> Received {
    let start = UtcTime::parse("2016-05-04T03:02:01.5").unwrap();
    let seconds = i64::try_from(seq).unwrap() * 30_000_000;
    let tags = vec![("cluster".to_owned(), Value::from("west, \"1\""))];
    Received {
        identity: Some(Identity {
            observer: host.to_owned(),
            epoch: 1_700_000_000_000,
            seq,
        }),
        path: None,
        evidence: ceilometer_ha::model::Evidence::default(),
        message_id: format!("{host}-{seq}"),
        signature: "5".repeat(64),
        source: "openstack".to_owned(),
        meter: ReceivedMeter {
            name: "storage_connectivity".to_owned(),
            kind: Some("gauge".to_owned()),
            unit: Some(String::new()),
        },
        volume: Some(if seq.is_multiple_of(4) { 0.0 } else { 1.0 }),
        resource_id: host.to_owned(),
        user_id: None,
        project_id: None,
        timestamp: Some(UtcTime::from_unix_micros(start.unix_micros() + seconds)),
        metadata: Value::Map(vec![("user_metadata".to_owned(), Value::Map(tags))]),
    }
}

fn keeping(seconds: u32) -> String {
    format!("[database]\nmetering_time_to_live = {seconds}")
}

fn collector(site: &Site, words: &[&str], lines: &str) -> Output {
    let config = site.collector_config(lines);
    let mut command = Command::new(program("ceilometer-collector-ha"));
    run_unchecked(command.arg("--config-file").arg(config).args(words))
}

/// What `compute-ha` says to these words.
fn ask(site: &Site, words: &[&str]) -> Output {
    let mut command = Command::new(program("compute-ha"));
    run_unchecked(
        command
            .args(words)
            .arg("--config-file")
            .arg(site.path("collector.conf")),
    )
}

#[track_caller]
fn answer(site: &Site, words: &[&str]) -> String {
    let output = ask(site, words);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_collector_keeps_history_as_long_as_a_reload_says() {
    let site = Site::new();
    store(&site, &[reading("node-1", 1)]);
    add_old(&site, 2500);
    let process = site.collector_with(&keeping(7200));
    wait_for("a pass that leaves what is younger than two hours", || {
        let log = process.log();
        log.contains("listening for UDP").then_some(())
    });
    assert_eq!(site.number("SELECT count(*) FROM sample"), 2501);

    site.collector_config(&keeping(600));
    process.signal(Signal::SIGHUP);
    wait_for("what is older than ten minutes to go", || {
        (site.metric(Daemon::Collector, DELETED) == 2500).then_some(())
    });
    wait_for("what belonged to it to go", || {
        let of = |table: &str| {
            let series = format!("expired_rows_total{{table=\"{table}\"}}");
            site.metric(Daemon::Collector, &series)
        };
        (of("resource") == 1 && of("meter") == 1).then_some(())
    });
    assert_eq!(site.number("SELECT count(*) FROM sample"), 1);
    assert_eq!(site.number("SELECT count(*) FROM ha_state"), 1);
    wait_for("a line about it", || {
        process
            .log()
            .contains("deleted what is past its time")
            .then_some(())
    });
    assert!(process.terminate().success());
}

#[test]
fn a_long_pass_holds_up_neither_storing_nor_the_end() {
    let site = Site::new();
    store(&site, &[]);
    add_old(&site, 200_000);
    let process = site.collector_with(&keeping(600));
    wait_for("deleting to be under way", || {
        (site.metric(Daemon::Collector, DELETED) > 0 || site.number(&left()) < 200_000)
            .then_some(())
    });
    let sent = 40;
    for seq in 1..=sent {
        let reading = support::site::reading("node-1", seq);
        site.send(&support::site::signed(&reading));
    }
    wait_for("new readings to be stored", || {
        (site.readings("stored") == sent).then_some(())
    });
    assert!(site.number(&left()) > 0, "there was nothing to wait for");
    let started = clock::now();
    assert!(process.terminate().success());
    let took = clock::now() - started;
    assert!(
        site.number(&left()) > 0,
        "the end waited for the pass, {took:?}"
    );
    assert_eq!(
        site.number("SELECT count(*) FROM sample WHERE meter_id <> 1000"),
        sent
    );
}

fn left() -> String {
    format!("SELECT count(*) FROM sample WHERE {OLD}")
}

#[test]
fn expire_by_hand_says_what_it_deletes() {
    let site = Site::new();
    store(&site, &[reading("node-1", 1)]);
    add_old(&site, 2500);

    let output = collector(&site, &["expire"], "");
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("[database] metering_time_to_live: found no time to live"),
        "{error}"
    );
    assert_eq!(site.number("SELECT count(*) FROM sample"), 2501);

    let says = |words: &[&str]| {
        let output = collector(&site, words, &keeping(600));
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(
        says(&["expire", "--dry-run"]),
        "would delete what is older than 600 s: 2500 samples, 1 resources, 1 meters\n"
    );
    assert_eq!(site.number("SELECT count(*) FROM sample"), 2501);
    assert_eq!(
        says(&["expire"]),
        "deleted what is older than 600 s: 2500 samples, 1 resources, 1 meters, 0 lives of \
         observers, 0 message ids\n"
    );
    assert_eq!(site.number("SELECT count(*) FROM sample"), 1);

    // Less than a decider looks back over is odd, and said at every start.
    let output = collector(&site, &["--check-config"], &keeping(300));
    assert_eq!(output.status.code(), Some(0));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("[database] metering_time_to_live: found 300 s, better 480 s or more"),
        "{error}"
    );
    fs::remove_file(site.database()).unwrap();
    assert_eq!(
        collector(&site, &["expire"], &keeping(600)).status.code(),
        Some(1)
    );
}

#[test]
fn history_is_shown_as_ceilometers_client_did() {
    let site = Site::new();
    site.collector_config("");
    let mut batch: Vec<Received> = (1..=8).map(|seq| reading("node-1", seq)).collect();
    batch.push(reading("node-\u{1b}[2J", 1));
    store(&site, &batch);

    let text = answer(&site, &["samples", "-m", "storage_connectivity", "-l", "1"]);
    let expected = "\
+-------------+----------------------+-------+--------+------+----------------------------+
| Resource ID | Name                 | Type  | Volume | Unit | Timestamp                  |
+-------------+----------------------+-------+--------+------+----------------------------+
| node-1      | storage_connectivity | gauge | 0.0    |      | 2016-05-04T03:06:01.500000 |
+-------------+----------------------+-------+--------+------+----------------------------+
";
    assert_eq!(text, expected);

    let query = "metadata.user_metadata.cluster=west, \"1\"; timestamp<2016-05-04T03:03:01.5";
    let text = answer(&site, &["samples", "-q", query, "--format", "json"]);
    let samples: Vec<Json> = serde_json::from_str(&text).unwrap();
    assert!(!text.contains('\u{1b}'));
    assert_eq!(samples.len(), 2);
    assert_eq!(samples[0]["resource_id"], "node-\u{1b}[2J");
    let mut sample = samples[1].clone();
    assert!(sample["recorded_at"].take().is_string());
    assert_eq!(
        sample,
        serde_json::json!({
            "resource_id": "node-1",
            "counter_name": "storage_connectivity",
            "counter_type": "gauge",
            "counter_volume": 1.0,
            "counter_unit": "",
            "timestamp": "2016-05-04T03:02:31.500000",
            "recorded_at": null,
            "user_id": null,
            "project_id": null,
            "source": "openstack",
            "message_id": "node-1-1",
            "resource_metadata": {"user_metadata": {"cluster": "west, \"1\""}},
        })
    );

    let text = answer(
        &site,
        &["meters", "-q", "resource_id=node-1", "--format", "csv"],
    );
    assert_eq!(
        text,
        "name,type,unit,resource_id,user_id,project_id,source\n\
         storage_connectivity,gauge,\"\",node-1,,,openstack\n"
    );
    let text = answer(&site, &["resources", "-l", "1", "--format", "csv"]);
    assert_eq!(
        text,
        "resource_id,source,user_id,project_id,first_sample_timestamp,last_sample_timestamp,metadata\n\
         node-\u{1b}[2J,openstack,,,2016-05-04T03:02:31.500000,2016-05-04T03:02:31.500000,\
         \"{\"\"user_metadata\"\": {\"\"cluster\"\": \"\"west, \\\"\"1\\\"\"\"\"}}\"\n"
    );
    let words = [
        "statistics",
        "-m",
        "storage_connectivity",
        "-p",
        "60",
        "-g",
        "resource_id",
    ];
    let query = [
        "-q",
        "resource=node-1;timestamp>2016-05-04T03:02:01",
        "--format",
        "csv",
    ];
    let text = answer(&site, &[&words[..], &query[..]].concat());
    let group = "\"{\"\"resource_id\"\":\"\"node-1\"\"}\"";
    let lines = [
        "period,period_start,period_end,groupby,unit,max,min,avg,sum,count,duration,duration_start,duration_end".to_owned(),
        format!("60,2016-05-04T03:02:01.000000,2016-05-04T03:03:01.000000,{group},\"\",1.0,1.0,1.0,1.0,1,0.0,2016-05-04T03:02:31.500000,2016-05-04T03:02:31.500000"),
        format!("60,2016-05-04T03:03:01.000000,2016-05-04T03:04:01.000000,{group},\"\",1.0,1.0,1.0,2.0,2,30.0,2016-05-04T03:03:01.500000,2016-05-04T03:03:31.500000"),
        format!("60,2016-05-04T03:04:01.000000,2016-05-04T03:05:01.000000,{group},\"\",1.0,0.0,0.5,1.0,2,30.0,2016-05-04T03:04:01.500000,2016-05-04T03:04:31.500000"),
        format!("60,2016-05-04T03:05:01.000000,2016-05-04T03:06:01.000000,{group},\"\",1.0,1.0,1.0,2.0,2,30.0,2016-05-04T03:05:01.500000,2016-05-04T03:05:31.500000"),
        format!("60,2016-05-04T03:06:01.000000,2016-05-04T03:07:01.000000,{group},\"\",0.0,0.0,0.0,0.0,1,0.0,2016-05-04T03:06:01.500000,2016-05-04T03:06:01.500000"),
    ];
    assert_eq!(text, lines.join("\n") + "\n");

    let output = ask(&site, &["samples", "-q", "resource_id~node"]);
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("at character 1, \"resource_id~node\""),
        "{error}"
    );
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let site = Site::new();
    let config = site.collector_config("");
    let batch: Vec<Received> = (1..=3000).map(|seq| reading("node-1", seq)).collect();
    store(&site, &batch);
    let line = format!(
        "{} samples -l 3000 --format csv --config-file {} | head -n 2; echo ${{PIPESTATUS[0]}}",
        program("compute-ha").display(),
        config.display()
    );
    let output = run_unchecked(Command::new("bash").arg("-c").arg(line));
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines.len(), lines[2]), (3, "0"), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
