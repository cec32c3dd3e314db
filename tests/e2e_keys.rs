//! Keys of hosts from end to end: issued, used, changed, retired by the commands, with whole programs on
//! loopback.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use ceilometer_ha::model::{Secret, Volume};
use ceilometer_ha::wire::keys::HostKey;
use ceilometer_ha::wire::{self, Signing};
use nix::sys::signal::Signal;
use serde_json::Value as Json;
use support::process::Process;
use support::site::{Daemon, HOST, SECRET, Site, reading, signed};
use support::{program, run_unchecked, wait_for};

const BEAT: &str = "    - name: beat
      interval: 0.5
      meters: [compute.heartbeat]
      sinks: [ha_sink]";

fn command(site: &Site, arguments: &[&str]) -> Output {
    let mut command = Command::new(program("compute-ha"));
    let config = site.path("collector.conf");
    run_unchecked(command.args(arguments).arg("--config-file").arg(config))
}

#[track_caller]
fn done(site: &Site, arguments: &[&str]) -> String {
    let output = command(site, arguments);
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {text}{errors}");
    text
}

#[track_caller]
fn refused(site: &Site, arguments: &[&str], words: &str) {
    let output = command(site, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && errors.contains(words),
        "{errors}"
    );
}

#[track_caller]
fn reload(site: &Site, collector: &Process) {
    let reloads = || {
        site.metric(
            Daemon::Collector,
            "config_reloads_total{result=\"applied\"}",
        )
    };
    let before = reloads();
    collector.signal(Signal::SIGHUP);
    wait_for("a reload", || (reloads() > before).then_some(()));
}

fn listed(site: &Site) -> Json {
    serde_json::from_str(&done(site, &["key", "list", "--format", "json"])).unwrap()
}

fn has_used(site: &Site, number: u64) -> bool {
    let listed = listed(site);
    let mut uses = listed["hosts"].as_array().unwrap().iter();
    uses.any(|one| one["host"] == HOST && one["number"] == number)
}

#[test]
fn keys_from_the_first_one_to_its_end() {
    let site = Site::new();
    let keys = site.path("host_keys");
    site.collector_config(&format!("host_keys_file = {}", keys.display()));
    refused(&site, &["key", "issue", HOST], "host_keys");
    done(&site, &["key", "rotate"]);
    assert_eq!(
        fs::metadata(&keys).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let own = site.path("own.key");
    let own_text = own.display().to_string();
    done(&site, &["key", "issue", HOST, "--output", &own_text]);
    assert_eq!(
        fs::metadata(&own).unwrap().permissions().mode() & 0o777,
        0o600
    );
    refused(
        &site,
        &["key", "issue", HOST, "--output", &own_text],
        "own.key",
    );

    let collector = site.collector_with(&format!("host_keys_file = {}", keys.display()));
    let agent = || {
        site.agent_of(
            HOST,
            BEAT,
            &format!("[publisher]\nhost_key_file = {own_text}"),
        )
    };
    let first = agent();
    site.wait_for_host(HOST, "a proven state", |host| host["quality"] == "host_key");
    wait_for("the use of key 1", || has_used(&site, 1).then_some(()));

    // A host of the fleet without this one's key can't speak for it, nor a plain copy of its words.
    let mut lie = reading(HOST, 1_000_000);
    lie.identity.epoch = u64::MAX >> 2;
    lie.sample.volume = Volume::Int(0);
    site.send(&signed(&lie));
    wait_for("a refusal", || {
        (site.messages("no_proof") == 1).then_some(())
    });
    let thief = HostKey::new(HOST, 1, [7; 32]);
    let signing = Signing::new("openstack", Secret::new(SECRET)).proving(Some(thief));
    site.send(&wire::encode(&lie, "udp://test", &signing));
    wait_for("a refusal", || {
        (site.messages("bad_proof") == 1).then_some(())
    });
    assert_eq!(
        site.number("SELECT count(*) FROM ha_state WHERE meter = 'storage_connectivity'"),
        0
    );

    // The collector is started anew: it still knows that this host has to prove itself.
    drop(collector);
    let collector = site.collector_with(&format!("host_keys_file = {}", keys.display()));
    site.send(&signed(&lie));
    wait_for("a refusal", || {
        (site.messages("no_proof") == 1).then_some(())
    });

    // Two keys hold until the old one is retired.
    done(&site, &["key", "rotate"]);
    reload(&site, &collector);
    refused(&site, &["key", "retire", "7"], "no key of that number");
    let issued = done(&site, &["key", "issue", HOST]);
    assert!(issued.starts_with(&format!("{HOST} 2 ")), "another number");
    assert_eq!(site.messages("expired_key"), 0);
    let old = fs::read(&own).unwrap();
    fs::write(&own, issued).unwrap();
    first.signal(Signal::SIGHUP);
    wait_for("the use of key 2", || has_used(&site, 2).then_some(()));
    done(&site, &["key", "retire", "1"]);
    reload(&site, &collector);
    assert_eq!(listed(&site)["keys"][0]["is_retired"], true);
    refused(&site, &["key", "retire", "2"], "only master");

    // Whoever has the old key has nothing.
    drop(first);
    fs::write(&own, old).unwrap();
    let _stale = agent();
    wait_for("a refusal", || {
        (site.messages("expired_key") > 0).then_some(())
    });
    let text = fs::read_to_string(&keys).unwrap();
    let secret = text.split_whitespace().nth(2).unwrap();
    for log in [collector.log(), done(&site, &["key", "list"])] {
        assert!(!log.contains(&secret[..16]), "{log}");
    }
}

#[test]
fn files_of_keys_that_can_t_be_used_are_refused_by_name() {
    let site = Site::new();
    let keys = site.path("host_keys");
    let config = site.collector_config(&format!("host_keys_file = {}", keys.display()));
    let check = || {
        let mut command = Command::new(program("ceilometer-collector-ha"));
        let output = run_unchecked(
            command
                .arg("--check-config")
                .arg("--config-file")
                .arg(&config),
        );
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap(), errors)
    };
    let says = |words: &str| {
        let (code, errors) = check();
        assert_eq!(code, 2, "{errors}");
        assert!(
            errors.contains("[collector] host_keys_file") && errors.contains(words),
            "{errors}"
        );
    };
    says("can't be read");
    fs::write(&keys, "").unwrap();
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o640)).unwrap();
    says("chmod 600");
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(check().0, 0);
    fs::write(&keys, "\nmaster 1 00\n").unwrap();
    says("host_keys:2");
}
