//! What happens to real guests of a real libvirt, and what the database then says about them: agent,
//! collector and hypervisor as they are on a node.
//!
//! The agent's rounds are an hour apart. So there is one at the start, and whatever is stored later
//! was pushed by an event.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::collections::BTreeMap;
use std::process::Command;

use ceilometer_ha::model::instance_state_name;
use serde_json::Value as Json;
use support::guest::{Disk, Guest, Key, Nova};
use support::hypervisor::Hypervisor;
use support::process::Process;
use support::site::{HOST, Site};
use support::{query, wait_until};

const SOURCES: &str = "    - name: ha_slow
      interval: 3600
      meters: [instance.state, instance.round, instance, power.state]
      sinks: [ha_sink]
";
const OTHER_HOST: &str = "node-2";
/// A guest that never runs: what libvirt tells about it is a milestone among everything else.
const MARKER: &str = "marker";

/// A compute node: guests, and the agent that looks at them.
struct Node {
    host: &'static str,
    agent: Process,
    libvirt: Hypervisor,
    uuids: BTreeMap<String, String>,
    /// How much of each guest's history was looked at.
    looked_at: BTreeMap<String, usize>,
    milestones: usize,
}

/// A stored reading; of other meters than `instance.state`, only numbers and metadata count.
#[derive(Debug, Clone)]
struct Stored {
    /// State and reason, and behind a colon the event and its detail.
    text: String,
    seq: u64,
    metadata: Json,
}

impl Node {
    /// A node whose guests are there before its agent: all are defined, and those of `run` run.
    /// Returns after the first round, which sees every one.
    fn new(site: &Site, host: &'static str, run: &[Guest], define: &[Guest]) -> Self {
        let libvirt = Hypervisor::new();
        let marker = Guest::idle(MARKER);
        let guests: Vec<&Guest> = run.iter().chain(define).chain([&marker]).collect();
        for guest in &guests {
            libvirt.define(guest);
        }
        for guest in run {
            libvirt.virsh(&["start", &guest.name]);
        }
        for guest in run.iter().filter(|guest| guest.disk.is_some()) {
            libvirt.wait_for_boots(&guest.name, 1);
        }
        let uuids: BTreeMap<String, String> = guests
            .iter()
            .map(|guest| (guest.name.clone(), guest.uuid.clone()))
            .collect();
        let lines = format!(
            "[compute]\nlibvirt_uri = {}\ncluster = rack-7\nhost_tags = zone:north\n",
            libvirt.read_only_uri()
        );
        let node = Node {
            host,
            agent: site.agent_of(host, SOURCES, &lines),
            libvirt,
            looked_at: uuids.keys().map(|name| (name.clone(), 1)).collect(),
            uuids,
            milestones: 0,
        };
        node.wait_for_rounds(site, &[guests.len()]);
        node
    }

    /// A guest that isn't there yet will be.
    fn expect(&mut self, guest: &Guest) {
        self.uuids.insert(guest.name.clone(), guest.uuid.clone());
        self.looked_at.insert(guest.name.clone(), 0);
    }

    /// Waits until the rounds that were stored, all since the start, saw so many instances each.
    #[track_caller]
    fn wait_for_rounds(&self, site: &Site, counts: &[usize]) {
        wait_until("complete rounds", || match self.rounds(site) {
            rounds if rounds == counts => Ok(()),
            rounds => Err(format!("{}: {rounds:?}, not {counts:?}", self.host)),
        });
    }

    fn rounds(&self, site: &Site) -> Vec<usize> {
        let rows = query(
            &site.database(),
            &format!(
                "SELECT s.volume FROM sample s JOIN meter m ON m.id = s.meter_id JOIN resource r ON r.internal_id = s.resource_id WHERE m.name = 'instance.round' AND r.resource_id = '{}' ORDER BY s.id",
                self.host
            ),
        );
        let volume = |row: &Json| serde_json::from_value::<f64>(row["volume"].clone()).unwrap();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        rows.iter().map(|row| volume(row) as usize).collect()
    }

    fn uuid(&self, name: &str) -> &str {
        &self.uuids[name]
    }

    /// Everything that this node's agent said of a guest's state, in the order in which it came.
    fn history(&self, site: &Site, name: &str) -> Vec<Stored> {
        let rows = query(
            &site.database(),
            &format!(
                "SELECT s.volume, r.resource_metadata AS metadata, 0 AS seq FROM sample s JOIN meter m ON m.id = s.meter_id JOIN resource r ON r.internal_id = s.resource_id WHERE m.name = 'instance.state' AND r.resource_id = '{}' ORDER BY s.id",
                self.uuid(name)
            ),
        );
        let all = rows.iter().map(stored);
        all.filter(|one| one.metadata["node"] == self.host)
            .collect()
    }

    /// The current row of a guest for a meter.
    #[track_caller]
    fn current(&self, site: &Site, meter: &str, resource: &str) -> Stored {
        let rows = query(
            &site.database(),
            &format!(
                "SELECT volume, metadata, seq FROM ha_state WHERE observer = '{}' AND meter = '{meter}' AND resource_id = '{resource}'",
                self.host
            ),
        );
        assert_eq!(rows.len(), 1, "{meter} of {resource} on {}", self.host);
        stored(&rows[0])
    }

    /// Waits until everything that libvirt has told so far is stored: it tells in order, so that it
    /// is told something whose reading can't be taken for another.
    #[track_caller]
    fn reach_milestone(&mut self, site: &Site) {
        self.milestones += 1;
        let xml = self.libvirt.path(&format!("{MARKER}.xml"));
        self.libvirt.virsh(&["define", &xml.display().to_string()]);
        wait_until("a milestone", || {
            let history = texts(&self.history(site, MARKER));
            let is_milestone = |text: &&String| *text == "shutoff (unknown): defined updated";
            match history.iter().filter(is_milestone).count() {
                count if count == self.milestones => Ok(()),
                _ => Err(format!("{} of the marker: {history:#?}", self.host)),
            }
        });
    }

    /// Something was done to a guest. Waits until libvirt has told it all and has this state, and
    /// checks what was stored since the last look: these readings in this order, with none or any
    /// between them, and libvirt's own state last.
    #[track_caller]
    fn see(&mut self, site: &Site, name: &str, state: &str, readings: &[&str]) {
        let before = self.looked_at[name];
        wait_until("these readings", || {
            let told = texts(&self.history(site, name)).split_off(before);
            match holds_in_order(&told, readings) {
                true => Ok(()),
                false => Err(format!("{name}: {told:#?}\nnot {readings:#?}")),
            }
        });
        self.libvirt.wait_for_state(name, state);
        self.reach_milestone(site);
        self.looked_at
            .insert(name.to_owned(), self.history(site, name).len());
        self.assert_agrees(site, name);
    }

    /// The newest reading of a guest says what libvirt says, with the reason, in each meter.
    #[track_caller]
    fn assert_agrees(&self, site: &Site, name: &str) {
        let history = texts(&self.history(site, name));
        let last = history.last().unwrap();
        let current = self.current(site, "instance.state", self.uuid(name));
        assert_eq!(&current.text, last, "{name}: {history:#?}");
        let is = current.text.split(": ").next().unwrap();
        let libvirts = ours(&self.libvirt.state(name));
        assert_eq!(is, libvirts, "{name}: {history:#?}");
        let power = self.current(site, "power.state", self.uuid(name));
        let state = is.split(' ').next().unwrap();
        assert_eq!(
            power.text.split(' ').next(),
            Some(state),
            "{name}: power.state"
        );
        let instance = self.current(site, "instance", self.uuid(name));
        assert_eq!(instance.metadata, power.metadata, "{name}: told together");
    }

    /// Whether the last complete round saw this guest, or something newer is known of it.
    fn is_there(&self, site: &Site, name: &str) -> bool {
        let round = self.current(site, "instance.round", self.host);
        let count = u64::try_from(*self.rounds(site).last().unwrap()).unwrap();
        let state = self.current(site, "instance.state", self.uuid(name));
        state.seq >= round.seq - count
    }

    /// At the end every guest is as libvirt says, and those that are gone are not there.
    #[track_caller]
    fn assert_all_agree(&mut self, site: &Site) {
        self.reach_milestone(site);
        let names: Vec<String> = self.uuids.keys().cloned().collect();
        for name in names {
            let known = self.libvirt.knows(&name);
            assert_eq!(self.is_there(site, &name), known, "{name} is there");
            if known {
                self.assert_agrees(site, &name);
            }
        }
        assert!(self.agent.is_running(), "the agent has ended");
    }

    /// How often `power.state` of a guest was stored.
    fn power_states(&self, site: &Site, name: &str) -> u64 {
        site.number(&format!("SELECT count(*) FROM sample s JOIN meter m ON m.id = s.meter_id JOIN resource r ON r.internal_id = s.resource_id WHERE m.name = 'power.state' AND r.resource_id = '{}'", self.uuid(name)))
    }
}

fn stored(row: &Json) -> Stored {
    let metadata: Json = serde_json::from_str(row["metadata"].as_str().unwrap()).unwrap();
    let word = |key: &str| metadata[key].as_str().unwrap_or("").to_owned();
    #[allow(clippy::cast_possible_truncation)]
    let state = instance_state_name(row["volume"].as_f64().unwrap() as i64).unwrap_or("none");
    let mut text = format!("{state} ({})", word("reason"));
    if metadata.get("event").is_some() {
        text = format!("{text}: {} {}", word("event"), word("detail"));
    }
    Stored {
        text: text.trim_end().to_owned(),
        seq: row["seq"].as_u64().unwrap(),
        metadata,
    }
}

fn texts(history: &[Stored]) -> Vec<String> {
    history.iter().map(|one| one.text.clone()).collect()
}

/// Whether these are among what was told, in this order. Without a state any is right.
fn holds_in_order(told: &[String], wanted: &[&str]) -> bool {
    let mut told = told.iter();
    let is = |one: &str, text: &str| one == text || (text.starts_with(": ") && one.ends_with(text));
    wanted.iter().all(|text| told.any(|one| is(one, text)))
}

/// What virsh calls a state and its reason, in our words.
fn ours(domstate: &str) -> String {
    let (state, reason) = domstate.split_once(" (").unwrap();
    let reason = match reason.trim_end_matches(')') {
        "I/O error" => "ioerror",
        "migrating" => "migration",
        other => other,
    };
    format!("{} ({reason})", state.replace(' ', ""))
}

fn nova() -> Nova {
    Nova {
        display_name: "web-1".into(),
        flavor: "m1.tiny".into(),
        user_id: "0123456789abcdef0123456789abcdef".into(),
        project_id: "fedcba9876543210fedcba9876543210".into(),
        image: Some("2c1c1a8e-5c4f-4b52-9d0b-6a3a2e4b1f00".into()),
    }
}

#[test]
fn what_is_done_to_a_guest_is_stored_with_its_reason() {
    let site = Site::new();
    let _collector = site.collector();
    let running = ["paused", "reset", "reboots", "asked", "off", "killed"].map(Guest::new);
    let others = [Guest::new("started"), Guest::new("undefined")];
    let mut node = Node::new(&site, HOST, &running, &others);

    assert_eq!(
        texts(&node.history(&site, "killed")),
        ["running (booted)"],
        "the first round"
    );
    node.libvirt.start("started");
    node.see(
        &site,
        "started",
        "running (booted)",
        &["running (booted): started booted"],
    );
    node.libvirt.pause("paused");
    node.see(
        &site,
        "paused",
        "paused (user)",
        &["paused (user): suspended paused"],
    );
    node.libvirt.resume("paused");
    node.see(
        &site,
        "paused",
        "running (unpaused)",
        &["running (unpaused): resumed unpaused"],
    );
    assert_eq!(
        node.power_states(&site, "paused"),
        3,
        "power.state: at first, and at two changes"
    );
    let rebooted = ["running (booted): reboot"];
    node.libvirt.reset("reset");
    node.see(&site, "reset", "running (booted)", &rebooted);
    node.libvirt.press("reboots", Key::Reboot);
    node.see(&site, "reboots", "running (booted)", &rebooted);
    node.libvirt.reboot("asked");
    node.libvirt.wait_for_boots("asked", 2);
    node.see(&site, "asked", "running (booted)", &rebooted);
    for name in ["reset", "reboots"] {
        assert_eq!(node.power_states(&site, name), 1, "{name} has not changed");
    }
    node.libvirt.press("off", Key::PowerOff);
    node.see(
        &site,
        "off",
        "shut off (shutdown)",
        &[
            "shutdown (unknown): shutdown guest",
            "shutoff (shutdown): stopped shutdown",
        ],
    );
    node.libvirt.destroy("started");
    node.see(
        &site,
        "started",
        "shut off (destroyed)",
        &["shutoff (destroyed): stopped destroyed"],
    );
    // The event says "failed" and the state says "crashed": the state is the last word.
    node.libvirt.kill_qemu("killed");
    node.see(
        &site,
        "killed",
        "shut off (crashed)",
        &["shutoff (failed): stopped failed", "shutoff (crashed)"],
    );
    node.wait_for_rounds(&site, &[9]);
    node.libvirt.undefine("undefined");
    node.wait_for_rounds(&site, &[9, 8]);
    assert!(
        texts(&node.history(&site, "undefined"))
            .contains(&"shutoff (unknown): undefined removed".to_owned())
    );
    assert!(!node.is_there(&site, "undefined"));
    node.assert_all_agree(&site);
    site.assert_nothing_twice();
}

#[test]
fn what_goes_wrong_in_a_guest_is_stored_with_its_reason() {
    let site = Site::new();
    let _collector = site.collector();
    let running = [
        Guest::new("full").disk(Disk::Small),
        Guest::new("preserved").on_crash("preserve"),
        Guest::new("crashed").on_crash("destroy"),
        Guest::new("restarted").on_crash("restart"),
        Guest::new("bitten").watchdog("pause"),
        Guest::new("bitten-reset").watchdog("reset"),
        Guest::new("bitten-off").watchdog("poweroff"),
    ];
    let mut node = Node::new(&site, HOST, &running, &[]);

    let paused = "paused (ioerror): suspended ioerror";
    let resumed = "running (unpaused): resumed unpaused";
    node.libvirt.press("full", Key::Write);
    node.see(
        &site,
        "full",
        "paused (I/O error)",
        &["running (booted): io_error enospc", paused],
    );
    node.libvirt.resume("full");
    node.see(
        &site,
        "full",
        "paused (I/O error)",
        // It may be paused again before the error is told.
        &[resumed, ": io_error enospc", paused],
    );
    node.libvirt.give_space("full");
    node.libvirt.resume("full");
    node.see(&site, "full", "running (unpaused)", &[resumed]);

    let panicked = "crashed (panicked): crashed panicked";
    node.libvirt.press("preserved", Key::Panic);
    node.see(&site, "preserved", "crashed (panicked)", &[panicked]);
    node.libvirt.press("crashed", Key::Panic);
    node.see(
        &site,
        "crashed",
        "shut off (crashed)",
        &[panicked, "shutoff (crashed): stopped crashed"],
    );
    node.libvirt.press("restarted", Key::Panic);
    node.libvirt.wait_for_boots("restarted", 2);
    node.see(
        &site,
        "restarted",
        "running (crashed)",
        &[panicked, resumed],
    );

    node.libvirt.press("bitten", Key::Watchdog);
    node.see(
        &site,
        "bitten",
        "paused (watchdog)",
        &[
            "running (booted): watchdog pause",
            "paused (watchdog): suspended watchdog",
        ],
    );
    node.libvirt.press("bitten-reset", Key::Watchdog);
    node.libvirt.wait_for_boots("bitten-reset", 2);
    node.see(
        &site,
        "bitten-reset",
        "running (booted)",
        &["running (booted): watchdog reset"],
    );
    node.libvirt.press("bitten-off", Key::Watchdog);
    node.see(
        &site,
        "bitten-off",
        "shut off (crashed)",
        &[
            "running (booted): watchdog poweroff",
            "shutoff (failed): stopped failed",
            "shutoff (crashed)",
        ],
    );
    node.wait_for_rounds(&site, &[8]);
    node.assert_all_agree(&site);
}

#[test]
fn a_migrated_guest_is_on_both_nodes_and_then_on_the_other_alone() {
    let image = tempfile::NamedTempFile::new().unwrap();
    let guest = Guest::new("guest").disk(Disk::At(image.path().to_owned()));
    let site = Site::new();
    let _collector = site.collector();
    let mut here = Node::new(&site, HOST, std::slice::from_ref(&guest), &[]);
    let mut there = Node::new(&site, OTHER_HOST, &[], &[]);
    there.expect(&guest);

    here.libvirt.press("guest", Key::Dirty);
    let mut migration = here.libvirt.migrate_slowly("guest", &there.libvirt);
    // Neither node's view waits for the other's, and both are true.
    there.see(
        &site,
        "guest",
        "paused (migrating)",
        &["paused (migration): started migrated"],
    );
    here.reach_milestone(&site);
    here.assert_agrees(&site, "guest");
    let here_still = here.current(&site, "instance.state", &guest.uuid);
    assert_eq!(here_still.text, "running (booted)");
    assert!(here.is_there(&site, "guest") && there.is_there(&site, "guest"));

    here.libvirt.hurry_migration("guest");
    assert!(migration.wait().success(), "{}", migration.log());
    there.see(
        &site,
        "guest",
        "running (migrated)",
        &["running (migrated): resumed migrated"],
    );
    here.wait_for_rounds(&site, &[2, 1]);
    let left = texts(&here.history(&site, "guest"));
    assert!(
        left.contains(&"shutoff (migrated): stopped migrated".to_owned()),
        "{left:#?}"
    );
    assert!(!here.is_there(&site, "guest"));
    assert!(there.is_there(&site, "guest"));

    // Back, and this time it stays defined where it was.
    let before = there.rounds(&site);
    there.libvirt.migrate("guest", &here.libvirt, true);
    there.see(
        &site,
        "guest",
        "shut off (migrated)",
        &["shutoff (migrated): stopped migrated"],
    );
    here.see(
        &site,
        "guest",
        "running (migrated)",
        &["running (migrated): resumed migrated"],
    );
    assert_eq!(there.rounds(&site), before, "nothing is gone from there");
    here.assert_all_agree(&site);
    there.assert_all_agree(&site);
}

#[test]
fn an_instance_is_stored_with_its_owner_and_the_tags_of_its_node() {
    let site = Site::new();
    let _collector = site.collector();
    let guest = Guest::idle("instance-0000002a").nova(nova());
    let mut node = Node::new(&site, HOST, std::slice::from_ref(&guest), &[]);

    // One that comes later is told by an event alone.
    let late = Guest::idle("instance-0000002b").nova(nova());
    node.expect(&late);
    node.libvirt.run(&late);
    node.see(
        &site,
        &late.name,
        "running (booted)",
        &["running (booted): started booted"],
    );
    for name in [&guest.name, &late.name] {
        let state = node.current(&site, "instance.state", node.uuid(name));
        let is = &state.metadata;
        assert_eq!(is["name"], "web-1", "{name}: {is:#}");
        assert_eq!(is["project"], nova().project_id, "{name}");
        let instance = node.current(&site, "instance", node.uuid(name));
        let says = &instance.metadata;
        assert_eq!(says["display_name"], "web-1", "{name}: {says:#}");
        assert_eq!(says["name"], **name);
        assert_eq!(says["flavor"]["name"], "m1.tiny", "{name}: {says:#}");
        assert_eq!(says["instance_type"], "m1.tiny");
        assert_eq!(says["status"], "active", "{name}: {says:#}");
        assert_eq!(says["image"]["id"], nova().image.unwrap());
        for metadata in [is, says] {
            assert_eq!(metadata["cluster"], "rack-7", "{name}: {metadata:#}");
            assert_eq!(metadata["user_metadata"]["cluster"], "rack-7");
            assert_eq!(metadata["user_metadata"]["zone"], "north");
        }
        // As an existing decider finds it.
        let owned = format!(
            "SELECT count(DISTINCT m.name) FROM sample s JOIN meter m ON m.id = s.meter_id JOIN resource r ON r.internal_id = s.resource_id JOIN metadata_text t ON t.id = r.internal_id WHERE r.resource_id = '{}' AND r.project_id = '{}' AND r.user_id = '{}' AND t.meta_key = 'user_metadata.cluster' AND t.value = 'rack-7'",
            node.uuid(name),
            nova().project_id,
            nova().user_id,
        );
        assert_eq!(site.number(&owned), 3, "{name}: its three meters");
    }
    node.assert_all_agree(&site);
}

#[test]
fn whatever_happens_at_once_the_newest_reading_is_libvirts_last_word() {
    let site = Site::new();
    let _collector = site.collector();
    let names: Vec<String> = (1..=20).map(|number| format!("guest-{number}")).collect();
    let guests: Vec<Guest> = names.iter().map(|name| Guest::idle(name)).collect();
    let mut node = Node::new(&site, HOST, &guests, &[]);
    // Three clients at once, each through all guests.
    let mut clients: Vec<Process> = ["suspend", "resume", "reset"]
        .iter()
        .map(|what| {
            let each = names.iter().map(|name| format!("{what} {name}"));
            let all: Vec<String> = each.collect();
            let mut command: Command = node.libvirt.virsh_command(&[&all.join("; ")]);
            Process::start(&mut command, &node.libvirt.path(&format!("{what}.log")))
        })
        .collect();
    for name in &names[..7] {
        node.libvirt.kill_qemu(name);
    }
    for client in &mut clients {
        // It fails where it came too late.
        client.wait();
    }
    for name in &names[7..10] {
        node.libvirt.destroy(name);
    }
    for name in &names[..7] {
        node.libvirt.wait_for_state(name, "shut off (crashed)");
    }
    node.assert_all_agree(&site);
}
