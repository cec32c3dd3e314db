//! What an operator does about the present: sees two agents that use one name, forgets hosts that are
//! no more, and looks into what could not be stored. Whole programs on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::fs;
use std::process::{Command, Output};

use ceilometer_ha::model::{Reading, Value, Volume};
use serde_json::Value as Json;
use support::site::{Daemon, EPOCH, HOST, Site, reading, signed};
use support::{program, run, run_unchecked, wait_for, wait_until};

fn compute_ha(site: &Site, arguments: &[&str]) -> Output {
    let mut command = Command::new(program("compute-ha"));
    let config = site.path("collector.conf");
    run_unchecked(command.args(arguments).arg("--config-file").arg(config))
}

/// Exit code, stdout and stderr.
fn said(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// Lets time pass for the database.
fn change(site: &Site, sql: &str) {
    let script = format!(".timeout 10000\n{sql};\n");
    let file = site.path("change.sql");
    fs::write(&file, script).unwrap();
    let read = format!(".read {}", file.display());
    run(Command::new("sqlite3").arg(site.database()).arg(read));
}

const BEAT: &str = "    - name: beat
      interval: 0.5
      meters: [compute.heartbeat]
      sinks: [ha_sink]";

#[test]
fn two_agents_of_one_name_are_unknown_until_one_has_another() {
    let site = Site::new();
    let collector = site.collector();
    let first = site.agent();
    site.wait_for_agent(0);
    let conflicts = || site.metric(Daemon::Collector, "identity_conflicts");
    assert_eq!(conflicts(), 0);

    let name = format!("[DEFAULT]\nhost = {HOST}");
    let twin = site.agent_of("twin", BEAT, &name);
    let host = site.wait_for_host(HOST, "a conflict of identity", |host| {
        host["storage"]["reason"] == "identity_conflict"
    });
    assert_eq!(host["storage"]["verdict"], "unknown");
    let epochs = ["epoch", "rival_epoch"].map(|key| host["conflict"][key].as_u64().unwrap());
    assert!(epochs[0] > epochs[1], "{host}");
    wait_for("the metric", || (conflicts() == 1).then_some(()));
    let log = wait_for("a line of the log", || {
        let log = collector.log();
        log.contains("two agents use one name").then_some(log)
    });
    assert_eq!(log.matches("two agents use one name").count(), 1, "{log}");
    let (code, table, _) = said(&compute_ha(&site, &["status"]));
    assert_eq!(code, 0);
    let words: String = table.split_whitespace().collect::<Vec<_>>().join(" ");
    for expected in [
        "two agents use this name",
        &epochs[0].to_string(),
        &epochs[1].to_string(),
        "[DEFAULT] host",
    ] {
        assert!(words.contains(expected), "{table}");
    }

    // The twin ends, and the first one starts anew, so that its life is the newest. Nothing is left
    // of the conflict a minute after its last sign.
    drop(twin);
    drop(first);
    let _first = site.agent();
    site.wait_for_host(HOST, "the newest life", |host| {
        host["heartbeat"]["epoch"].as_u64() > Some(epochs[0])
            && host["storage"]["reason"] == "identity_conflict"
    });
    change(
        &site,
        "UPDATE ha_observer SET rival_at = rival_at - 60000000",
    );
    let host = site.wait_for_host(HOST, "the end of the conflict", |host| {
        host["storage"]["verdict"] == "reachable"
    });
    assert_eq!(host["conflict"], Json::Null);
}

#[test]
fn a_host_is_forgotten_once_it_is_silent_and_back_when_it_reports() {
    let site = Site::new();
    let _collector = site.collector();
    for (host, seq) in [("node-7", 1), ("node-8", 1)] {
        site.store_one(&reading(host, seq));
    }
    let log = site.path("operator.log");
    let config = site.path("collector.conf");
    let text = fs::read_to_string(&config).unwrap();
    let line = format!("[DEFAULT]\nlog_file = {}\n", log.display());
    fs::write(&config, text.replacen("[DEFAULT]\n", &line, 1)).unwrap();

    let (code, _, errors) = said(&compute_ha(&site, &["forget", "node-7"]));
    assert_eq!(code, 1);
    assert!(
        errors.contains("it was heard") && errors.contains("--force"),
        "{errors}"
    );
    let (code, _, errors) = said(&compute_ha(&site, &["forget", "nod-8"]));
    assert_eq!(code, 1);
    assert!(errors.contains("did you mean node-8?"), "{errors}");
    assert!(site.host("node-7").is_some());

    change(
        &site,
        "UPDATE ha_state SET received_at = received_at - 61000000;
         UPDATE ha_path SET received_at = received_at - 61000000;
         UPDATE ha_observer SET received_at = received_at - 61000000",
    );
    let (code, out, _) = said(&compute_ha(&site, &["forget", "node-7", "--dry-run"]));
    assert_eq!(code, 0);
    assert!(
        out.starts_with("would forget node-7: 1 states of its own"),
        "{out}"
    );
    assert!(site.host("node-7").is_some());
    assert!(!log.exists(), "nothing was done");

    let (code, out, errors) = said(&compute_ha(&site, &["forget", "node-7"]));
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(
        out.starts_with("forgot node-7: 1 states of its own"),
        "{out}"
    );
    let logged = fs::read_to_string(&log).unwrap();
    assert!(
        logged.contains("a host was forgotten") && logged.contains("node-7"),
        "{logged}"
    );
    assert!(site.host("node-7").is_none() && site.host("node-8").is_some());
    assert_eq!(site.samples_of("node-7"), 1, "history stays");

    // A copy of what it said is nothing new; a further reading is.
    site.send(&signed(&reading("node-7", 1)));
    wait_for("a duplicate", || {
        (site.readings("duplicate") == 1).then_some(())
    });
    assert!(site.host("node-7").is_none());
    site.store_one(&reading("node-7", 2));
    let host = site.wait_for_host("node-7", "the host to be back", |_| true);
    assert_eq!(host["storage"]["verdict"], "reachable");
    assert_eq!(host["paths"][0]["path"], "udp://test");
}

/// A reading with a number of its own, of a resource whose name clears a terminal, and that no table
/// holds.
fn evil(seq: u64) -> Reading {
    let mut evil = reading("node-1", seq);
    evil.sample.volume = Volume::Float(f64::INFINITY);
    evil.sample.resource_id = "evil\u{1b}[2J\u{9b}2J".to_owned();
    let words = Value::from("\u{1b}]0;pwned\u{7}\u{202e}");
    evil.sample.metadata.insert("words".to_owned(), words);
    evil
}

fn quarantined(site: &Site) -> Vec<Json> {
    let (code, out, _) = said(&compute_ha(
        site,
        &["quarantine", "list", "--format", "json"],
    ));
    assert_eq!(code, 0);
    serde_json::from_str(&out).unwrap()
}

#[test]
fn what_could_not_be_stored_is_listed_shown_and_purged_and_steers_no_terminal() {
    let site = Site::new();
    let _collector = site.collector();
    let (code, out, _) = said(&compute_ha(&site, &["quarantine", "list"]));
    assert_eq!((code, out.as_str()), (0, "The quarantine is empty.\n"));

    for seq in [1, 2, 2] {
        site.send(&signed(&evil(seq)));
    }
    site.store_one(&reading("node-1", 3));
    let rows = wait_until("both in quarantine", || match quarantined(&site) {
        rows if rows.len() == 2 => Ok(rows),
        rows => Err(format!("{rows:?}")),
    });
    assert_eq!(rows[0]["reason"], "volume_not_finite");
    assert_eq!(rows[0]["resource_id"], "evil\u{1b}[2J\u{9b}2J");
    assert_eq!(rows[0]["observer"], "node-1");
    let of = |series: &str| site.metric(Daemon::Collector, series);
    assert_eq!(of("quarantined_messages"), 2);
    wait_for("all three to be told", || {
        (of("readings_refused_total{reason=\"volume_not_finite\"}") == 3).then_some(())
    });

    let id = rows[1]["id"].to_string();
    for arguments in [
        vec!["quarantine", "list"],
        vec!["quarantine", "list", "--format", "json"],
        vec!["quarantine", "show", &id],
        vec!["quarantine", "show", &id, "--format", "json"],
    ] {
        let (code, out, _) = said(&compute_ha(&site, &arguments));
        assert_eq!(code, 0);
        let obeyed = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
        assert!(!out.contains(obeyed), "{arguments:?}: {out:?}");
        assert!(out.contains("volume_not_finite"), "{out}");
    }
    let (_, out, _) = said(&compute_ha(
        &site,
        &["quarantine", "show", &id, "--format", "json"],
    ));
    let shown: Json = serde_json::from_str(&out).unwrap();
    assert_eq!(shown["message"]["counter_volume"], "Infinity");
    assert_eq!(shown["message"]["ha_epoch"], EPOCH);
    assert_eq!(
        shown["message"]["resource_metadata"]["words"],
        "\u{1b}]0;pwned\u{7}\u{202e}"
    );

    for (arguments, code, words) in [
        (
            vec!["quarantine", "show", "999"],
            1,
            "it has no message 999",
        ),
        (
            vec!["quarantine", "purge", &id, "999"],
            1,
            "it has no message 999",
        ),
        (vec!["quarantine", "purge"], 2, "required"),
        (
            vec!["quarantine", "purge", "--all", "1"],
            2,
            "cannot be used",
        ),
        (vec!["quarantine"], 2, "Usage"),
    ] {
        let (found, _, errors) = said(&compute_ha(&site, &arguments));
        assert_eq!(found, code, "{arguments:?}: {errors}");
        assert!(errors.contains(words), "{arguments:?}: {errors}");
    }
    assert_eq!(quarantined(&site).len(), 1, "what there was is purged");
    let (code, out, _) = said(&compute_ha(&site, &["quarantine", "purge", "--all"]));
    assert_eq!((code, out.as_str()), (0, "purged 1 messages\n"));
    assert_eq!(quarantined(&site), [] as [Json; 0]);
    site.store_one(&reading("node-1", 4));
    wait_for("the gauge", || {
        (of("quarantined_messages") == 0).then_some(())
    });
}
