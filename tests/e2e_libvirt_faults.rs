//! A libvirtd that misbehaves, and guests that hang: what the agent makes of it, as it reaches the
//! database. Each libvirtd and each guest is real.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::float_cmp
)]

mod support;

use std::collections::BTreeMap;
use std::fs;

use ceilometer_ha::model::FailReason;
use ceilometer_ha::pollsters::libvirt::link::THREADS_MAX;
use nix::sys::signal::Signal;
use support::guest::{Guest, Key};
use support::hypervisor::Hypervisor;
use support::node::{HOUR, Node, code, descriptors, threads};
use support::site::HOST;
use support::{wait_for, wait_until};

/// Short enough to wait for, where nothing but a hang takes long.
const SHORT: f64 = 2.0;
/// The default: where something must never seem to hang, on a busy machine.
const USUAL: f64 = 3.0;
/// Names by which pollsters fail.
const CONNECTIVITY: &str = "hypervisor.connectivity";
const ROUND: &str = "instance.round";
const STATISTICS: &str = "instance.statistics";

const NOTHING: [f64; 0] = [];
const RUNNING: f64 = 1.0;
const SHUT_OFF: f64 = 5.0;

/// Whatever this agent could say about libvirt, it said nothing but why it can't.
#[track_caller]
fn assert_unknown(node: &Node) {
    assert_eq!(node.connectivity(), NOTHING, "neither 0 nor 1 is known");
    assert_eq!(node.rounds(), NOTHING, "unknown is not none");
}

#[test]
fn a_stopped_libvirtd_is_silent_and_no_instance_is_lost_by_it() {
    let hypervisor = Hypervisor::new();
    let guests = ["one", "two"].map(Guest::new);
    guests.iter().for_each(|guest| hypervisor.run(guest));
    let node = Node::new(&hypervisor.read_only_uri(), SHORT, HOUR);
    let agent = node.agent();
    node.wait_for_rounds(1);
    node.wait_for_connectivity(1.0);
    assert!(!node.connectivity().contains(&0.0));

    hypervisor.freeze();
    node.wait_for_connectivity(0.0);
    node.wait_for_failures(ROUND, FailReason::HypervisorSilent, 1);
    node.assert_nobody_else_suffers();
    assert_eq!(node.state(CONNECTIVITY, HOST), Some(0.0), "still silent");
    assert_eq!(node.rounds(), [2.0], "a round that isn't complete is none");

    hypervisor.thaw();
    node.wait_for_connectivity(1.0);
    assert_eq!(
        node.wait_for_rounds(2),
        [2.0, 2.0],
        "a complete round at once"
    );
    node.assert_nobody_else_suffers();
    node.end(agent);
    for guest in &guests {
        let states = node.history("instance.state", &guest.uuid);
        assert_eq!(states, [RUNNING, RUNNING], "{} in both rounds", guest.name);
    }
    assert_eq!(node.rounds(), [2.0, 2.0]);
    assert_eq!(
        node.failures(ROUND),
        [code(FailReason::HypervisorSilent)],
        "said once"
    );
    assert_eq!(node.failures(CONNECTIVITY), NOTHING, "0 is an answer");
}

#[test]
fn a_killed_libvirtd_is_silent_and_what_happened_meanwhile_is_found() {
    let mut hypervisor = Hypervisor::new();
    let guests = ["lives", "killed", "undefined", "started", "destroyed"].map(Guest::new);
    guests.iter().for_each(|guest| hypervisor.define(guest));
    for name in ["lives", "killed", "destroyed"] {
        hypervisor.start(name);
    }
    let node = Node::new(&hypervisor.read_only_uri(), SHORT, HOUR);
    let agent = node.agent();
    assert_eq!(node.wait_for_rounds(1), [5.0]);
    node.wait_for_connectivity(1.0);

    hypervisor.kill_libvirtd();
    node.wait_for_connectivity(0.0);
    node.wait_for_failures(ROUND, FailReason::HypervisorSilent, 1);
    // Its socket is left behind by a kill, and taken away by a package that is removed.
    fs::remove_file(hypervisor.path("run/libvirt-sock-ro")).unwrap();
    wait_for("the agent to miss the socket", || {
        agent
            .log()
            .contains("No such file or directory")
            .then_some(())
    });
    node.wait_for_more(CONNECTIVITY, HOST, 2);
    assert_eq!(node.state(CONNECTIVITY, HOST), Some(0.0), "it was there");
    assert_eq!(node.failures(CONNECTIVITY), NOTHING);
    hypervisor.qemu("lives");
    hypervisor.kill_qemu("killed");
    node.assert_nobody_else_suffers();

    // The agent looks away while libvirtd comes back, so that no event tells it what others do.
    agent.signal(Signal::SIGSTOP);
    hypervisor.start_libvirtd();
    // libvirtd takes its guests over in turn, and a pause waits until it has taken this one.
    hypervisor.pause("destroyed");
    hypervisor.destroy("destroyed");
    hypervisor.undefine("undefined");
    hypervisor.start("started");
    let before = node.history("instance.state", &guests[2].uuid);
    agent.signal(Signal::SIGCONT);
    node.wait_for_connectivity(1.0);
    assert_eq!(node.wait_for_rounds(2), [5.0, 4.0], "a complete round");
    node.end(agent);
    for (guest, state) in guests
        .iter()
        .zip([RUNNING, SHUT_OFF, SHUT_OFF, RUNNING, SHUT_OFF])
    {
        let last = node.state("instance.state", &guest.uuid);
        assert_eq!(last, Some(state), "{}", guest.name);
    }
    let after = node.history("instance.state", &guests[2].uuid);
    assert_eq!(after, before, "who is gone is in no round any more");
    assert_eq!(node.rounds(), [5.0, 4.0]);
}

#[test]
fn a_libvirtd_that_was_restarted_between_two_looks_was_never_silent() {
    let mut hypervisor = Hypervisor::new();
    hypervisor.run(&Guest::new("guest"));
    let node = Node::new(&hypervisor.read_only_uri(), USUAL, HOUR);
    let agent = node.agent();
    node.wait_for_rounds(1);
    node.wait_for_connectivity(1.0);
    agent.signal(Signal::SIGSTOP);
    hypervisor.kill_libvirtd();
    hypervisor.start_libvirtd();
    agent.signal(Signal::SIGCONT);
    // Its end was noticed, and answered by a round: events may have been lost.
    assert_eq!(node.wait_for_rounds(2), [1.0, 1.0]);
    let connectivity = node.wait_for_more(CONNECTIVITY, HOST, 2);
    assert!(!connectivity.contains(&0.0), "{connectivity:?}");
    assert_eq!(node.failures(CONNECTIVITY), NOTHING);
    node.end(agent);
}

#[test]
fn a_libvirtd_that_is_slow_to_open_is_silent_until_it_answers() {
    let hypervisor = Hypervisor::new();
    hypervisor.run(&Guest::new("guest"));
    hypervisor.freeze();
    let node = Node::new(&hypervisor.read_only_uri(), SHORT, HOUR);
    let agent = node.agent();
    node.wait_for_connectivity(0.0);
    node.wait_for_failures(ROUND, FailReason::HypervisorSilent, 1);
    node.assert_nobody_else_suffers();
    assert_eq!(node.rounds(), NOTHING);
    hypervisor.thaw();
    node.wait_for_connectivity(1.0);
    assert_eq!(node.wait_for_rounds(1), [1.0]);
    node.end(agent);
}

#[test]
fn a_libvirtd_that_never_was_there_is_unknown_and_one_that_was_is_silent() {
    let hypervisor = Hypervisor::new();
    hypervisor.run(&Guest::new("guest"));
    let socket = hypervisor.path("run/libvirt-sock-ro");
    let aside = hypervisor.path("run/aside");
    let node = Node::new(&hypervisor.read_only_uri(), USUAL, HOUR);

    fs::rename(&socket, &aside).unwrap();
    let agent = node.agent();
    node.wait_for_failures(CONNECTIVITY, FailReason::HypervisorNeverSeen, 3);
    node.wait_for_failures(ROUND, FailReason::HypervisorNeverSeen, 1);
    node.assert_nobody_else_suffers();
    assert_unknown(&node);

    fs::rename(&aside, &socket).unwrap();
    node.wait_for_connectivity(1.0);
    assert_eq!(node.wait_for_rounds(1), [1.0]);
    assert!(!node.connectivity().contains(&0.0));
    node.end(agent);
    let refusals = node.failures(CONNECTIVITY).len();

    fs::rename(&socket, &aside).unwrap();
    let agent = node.agent();
    node.wait_for_connectivity(0.0);
    let silent = code(FailReason::HypervisorSilent);
    node.wait_for_history("pollster.failed", &format!("{HOST}/{ROUND}"), |history| {
        history.last() == Some(&silent)
    });
    assert_eq!(node.failures(CONNECTIVITY).len(), refusals, "0 instead");
    assert_eq!(node.rounds(), [1.0]);
    assert!(agent.terminate().success());
}

#[test]
fn a_socket_without_permission_is_unknown_until_it_is_given() {
    let hypervisor = Hypervisor::new();
    hypervisor.run(&Guest::new("guest"));
    hypervisor.forbid(true);
    let node = Node::new(&hypervisor.read_only_uri(), USUAL, HOUR);
    let agent = node.agent_of_nobody();
    node.wait_for_failures(CONNECTIVITY, FailReason::HypervisorDenied, 3);
    node.wait_for_failures(ROUND, FailReason::HypervisorDenied, 1);
    node.assert_nobody_else_suffers();
    assert_unknown(&node);

    hypervisor.forbid(false);
    node.wait_for_connectivity(1.0);
    assert_eq!(node.wait_for_rounds(1), [1.0]);
    assert!(!node.connectivity().contains(&0.0));
    node.end(agent);
}

#[test]
fn a_wrong_uri_is_unknown_and_harms_nothing_else() {
    let hypervisor = Hypervisor::new();
    let socket = hypervisor.path("run/libvirt-sock-ro");
    let refused_by_libvirtd = format!("nonsense+unix:///system?socket={}", socket.display());
    for uri in [refused_by_libvirtd.as_str(), "qemu+nonsense:///system"] {
        let node = Node::new(uri, USUAL, 1.0).source("statistics", 1.0, "cpu");
        let agent = node.agent();
        for name in [CONNECTIVITY, ROUND, STATISTICS] {
            node.wait_for_failures(name, FailReason::HypervisorUnusable, 2);
        }
        node.assert_nobody_else_suffers();
        assert_unknown(&node);
        node.end(agent);
    }
}

/// Waits until each of these guests has so many more samples of its CPU than now.
#[track_caller]
fn wait_for_more_of_each(node: &Node, guests: &[&Guest], more: usize) {
    let before = node.counts("cpu");
    let count = |counts: &BTreeMap<String, usize>, guest: &Guest| {
        counts.get(&guest.uuid).copied().unwrap_or(0)
    };
    wait_until("samples of each guest", || {
        let now = node.counts("cpu");
        let late: Vec<&str> = guests
            .iter()
            .filter(|guest| count(&now, guest) < count(&before, guest) + more)
            .map(|guest| guest.name.as_str())
            .collect();
        let is_done = late.is_empty();
        is_done
            .then_some(())
            .ok_or_else(|| format!("not of {late:?}"))
    });
}

#[test]
fn frozen_guests_cost_their_own_statistics_alone_and_threads_without_end_never() {
    let hypervisor = Hypervisor::new();
    let guests: Vec<Guest> = (1..=20)
        .map(|number| Guest::new(&format!("guest-{number}")))
        .collect();
    guests.iter().for_each(|guest| hypervisor.run(guest));
    let node = Node::new(&hypervisor.read_only_uri(), USUAL, 1.0).source("statistics", 1.0, "cpu");
    let agent = node.agent();
    let all: Vec<&Guest> = guests.iter().collect();
    wait_for_more_of_each(&node, &all, 2);
    let before = threads(&agent);

    let (frozen, others) = all.split_first().unwrap();
    let silent = format!("{STATISTICS}/{}", frozen.uuid);
    hypervisor.freeze_qemu(&frozen.name);
    node.wait_for_failures(&silent, FailReason::InstanceSilent, 2);
    let counted = node.history("cpu", &frozen.uuid);
    let rounds = node.wait_for_more(ROUND, HOST, 3);
    assert!(rounds.iter().all(|count| *count == 20.0), "{rounds:?}");
    wait_for_more_of_each(&node, others, 2);
    assert_eq!(node.history("cpu", &frozen.uuid), counted, "unknown");
    assert!(threads(&agent) <= before + 1);

    // So many that no further one is asked: their states are known all the same.
    let many = &guests[..THREADS_MAX + 2];
    for guest in &many[1..] {
        hypervisor.freeze_qemu(&guest.name);
    }
    node.wait_for_failures(STATISTICS, FailReason::InstanceSilent, 2);
    let rounds = node.wait_for_more(ROUND, HOST, 3);
    assert!(rounds.iter().all(|count| *count == 20.0), "{rounds:?}");
    assert!(threads(&agent) <= before + THREADS_MAX);
    node.assert_nobody_else_suffers();

    for guest in many {
        hypervisor.thaw_qemu(&guest.name);
    }
    wait_for_more_of_each(&node, &all, 2);
    wait_for("threads to end", || {
        (threads(&agent) <= before).then_some(())
    });
    node.end(agent);
    let connectivity = node.connectivity();
    assert!(!connectivity.contains(&0.0), "{connectivity:?}");
    assert_eq!(node.failures(ROUND), NOTHING);
    for guest in &guests {
        let states = node.history("instance.state", &guest.uuid);
        assert!(states.iter().all(|state| *state == RUNNING), "{states:?}");
    }
}

#[test]
fn a_frozen_guest_costs_its_own_statistics_alone_however_short_the_timeout() {
    let hypervisor = Hypervisor::new();
    let guests = ["frozen", "other"].map(Guest::new);
    guests.iter().for_each(|guest| hypervisor.run(guest));
    let [frozen, other] = &guests;
    let node = Node::new(&hypervisor.read_only_uri(), SHORT, HOUR).source("statistics", 1.0, "cpu");
    let agent = node.agent();
    node.wait_for_history("cpu", &other.uuid, |history| history.len() >= 2);
    hypervisor.freeze_qemu(&frozen.name);
    let silent = format!("{STATISTICS}/{}", frozen.uuid);
    node.wait_for_failures(&silent, FailReason::InstanceSilent, THREADS_MAX + 2);
    node.wait_for_more("cpu", &other.uuid, 2);
    hypervisor.thaw_qemu(&frozen.name);
    node.wait_for_more("cpu", &frozen.uuid, 2);
    node.end(agent);
}

/// What virsh counts of a guest, by libvirt's names.
fn counted(hypervisor: &Hypervisor, name: &str) -> BTreeMap<String, f64> {
    let text = hypervisor.virsh(&["domstats", name]);
    let lines = text.lines().filter_map(|line| line.trim().split_once('='));
    lines
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect()
}

/// A meter of Ceilometer's, its resource, and what libvirt counts for it.
#[derive(Clone)]
struct Expected {
    meter: &'static str,
    resource: String,
    counters: &'static [&'static str],
    /// How many of libvirt's units make one of the meter's.
    unit: f64,
}

/// Every meter that a guest with a disk and an interface has.
fn expected(guest: &Guest) -> Vec<Expected> {
    const OWN: [(&str, &[&str], f64); 4] = [
        ("cpu", &["vcpu.0.time", "vcpu.0.wait"], 1.0),
        ("vcpus", &["vcpu.current"], 1.0),
        ("memory", &["balloon.current"], 1024.0),
        ("memory.resident", &["balloon.rss"], 1024.0),
    ];
    const DISK: [(&str, &[&str], f64); 9] = [
        ("disk.device.read.requests", &["block.0.rd.reqs"], 1.0),
        ("disk.device.read.bytes", &["block.0.rd.bytes"], 1.0),
        ("disk.device.read.latency", &["block.0.rd.times"], 1.0),
        ("disk.device.write.requests", &["block.0.wr.reqs"], 1.0),
        ("disk.device.write.bytes", &["block.0.wr.bytes"], 1.0),
        ("disk.device.write.latency", &["block.0.wr.times"], 1.0),
        ("disk.device.capacity", &["block.0.capacity"], 1.0),
        ("disk.device.allocation", &["block.0.allocation"], 1.0),
        ("disk.device.usage", &["block.0.physical"], 1.0),
    ];
    const INTERFACE: [(&str, &[&str], f64); 8] = [
        ("network.incoming.bytes", &["net.0.rx.bytes"], 1.0),
        ("network.incoming.packets", &["net.0.rx.pkts"], 1.0),
        ("network.incoming.packets.error", &["net.0.rx.errs"], 1.0),
        ("network.incoming.packets.drop", &["net.0.rx.drop"], 1.0),
        ("network.outgoing.bytes", &["net.0.tx.bytes"], 1.0),
        ("network.outgoing.packets", &["net.0.tx.pkts"], 1.0),
        ("network.outgoing.packets.error", &["net.0.tx.errs"], 1.0),
        ("network.outgoing.packets.drop", &["net.0.tx.drop"], 1.0),
    ];
    let Guest { name, uuid, .. } = guest;
    let of = |resource: String, meters: &[(&'static str, &'static [&'static str], f64)]| {
        let one = |(meter, counters, unit)| Expected {
            meter,
            resource: resource.clone(),
            counters,
            unit,
        };
        meters.iter().copied().map(one).collect::<Vec<_>>()
    };
    [
        of(uuid.clone(), &OWN),
        of(format!("{uuid}-hda"), &DISK),
        of(format!("{name}-{uuid}-tap1"), &INTERFACE),
    ]
    .concat()
}

#[test]
fn statistics_are_those_of_virsh() {
    let hypervisor = Hypervisor::new();
    let guest = Guest::new("guest").balloon().interface("tap1");
    hypervisor.run(&guest);
    hypervisor.press("guest", Key::Write);
    let node = Node::new(&hypervisor.read_only_uri(), USUAL, HOUR).source(
        "statistics",
        0.5,
        "cpu, vcpus, memory, memory.*, disk.device.*, network.*",
    );
    let agent = node.agent();
    wait_for("the guest to write", || {
        (counted(&hypervisor, "guest")["block.0.wr.bytes"] > 0.0).then_some(())
    });
    node.wait_for_history("cpu", &guest.uuid, |history| !history.is_empty());
    let before = counted(&hypervisor, "guest");
    // One may have been counted before and stored now; all of the one after it are stored with the third.
    node.wait_for_more("cpu", &guest.uuid, 3);
    node.end(agent);
    let after = counted(&hypervisor, "guest");
    for Expected {
        meter,
        resource,
        counters,
        unit,
    } in expected(&guest)
    {
        let of = |counted: &BTreeMap<String, f64>| {
            let parts = counters.iter().map(|name| counted[*name]);
            parts.sum::<f64>() / unit
        };
        let (least, most) = match meter {
            // What the kernel leaves in memory goes up and down.
            "memory.resident" => (of(&before) / 2.0, of(&before) * 2.0),
            _ => (of(&before), of(&after)),
        };
        let stored = node
            .state(meter, &resource)
            .unwrap_or_else(|| panic!("no {meter} of {resource}"));
        assert!(
            (least..=most).contains(&stored),
            "{meter}: {stored} is not within {least} and {most}"
        );
    }
    let written = node.state("disk.device.write.bytes", &format!("{}-hda", guest.uuid));
    assert!(written > Some(0.0));
    // Only a guest whose own system has a driver tells these.
    assert_eq!(node.state("memory.usage", &guest.uuid), None);
}

/// How often libvirtd hangs.
const HANGS: usize = 3;

#[test]
fn many_hangs_leave_nothing_behind_and_none_delays_the_end() {
    let hypervisor = Hypervisor::new();
    let guest = Guest::new("guest");
    hypervisor.run(&guest);
    let node = Node::new(&hypervisor.read_only_uri(), SHORT, HOUR).source("statistics", 1.0, "cpu");
    let agent = node.agent();
    let mut first = None;
    let (mut rounds, mut failures) = (0, 0);
    for hang in 1..=HANGS {
        rounds = node.wait_for_rounds(rounds + 1).len();
        node.wait_for_connectivity(1.0);
        node.wait_for_more("cpu", &guest.uuid, 1);
        let (threads_max, descriptors_max) =
            *first.get_or_insert_with(|| (threads(&agent), descriptors(&agent)));
        wait_until("what hung to end", || {
            let now = (threads(&agent), descriptors(&agent));
            let is_over = now.0 <= threads_max && now.1 <= descriptors_max;
            is_over.then_some(()).ok_or_else(|| format!("{now:?}"))
        });
        failures = node.failures(ROUND).len().max(failures) + 1;
        hypervisor.freeze();
        node.wait_for_connectivity(0.0);
        node.wait_for_failures(ROUND, FailReason::HypervisorSilent, failures);
        node.wait_for_failures(STATISTICS, FailReason::HypervisorSilent, hang);
        if hang < HANGS {
            hypervisor.thaw();
        }
    }
    node.end(agent);
    assert!(node.rounds().iter().all(|count| *count == 1.0));
}
