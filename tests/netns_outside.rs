//! Hosts seen from outside: a controller that looks at many hosts over two networks, management in
//! IPv4 and storage in IPv6, from its namespace to its database. What a silent host, a cut network
//! and the controller's own faults read as.
//!
//! ```text
//!   management 10.78.0.0/16 (bridge bm in `switch`)      storage fd78::/64 (bridge bs in `switch`)
//!   ctl mg0 .0.1 ──┬── mg0 farm1: hosts 0, 2, 4 …        ctl st0 ::1 ──┬── st0 farm1
//!                  └── mg0 farm2: hosts 1, 3, 5 …                      └── st0 farm2
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ceilometer_ha::clock;
use nix::sys::signal::Signal;
use support::process::Process;
use support::{program, query, run, run_unchecked, wait_for, wait_until};
use tempfile::TempDir;

const OBSERVER: &str = "controller-1";
const SECRET: &str = "lab-secret-of-no-value";
const NETWORKS: [&str; 2] = ["management", "storage"];
const METERS: &str = "['host.*', 'host_network.*']";

static LABS: AtomicU32 = AtomicU32::new(0);

/// The networks, the hosts and the controller's files.
struct Outside {
    name: String,
    namespaces: Vec<String>,
    folder: TempDir,
    hosts: usize,
}

fn host(n: usize) -> String {
    format!("compute-{n}")
}

fn farm(n: usize) -> &'static str {
    ["farm1", "farm2"][n % 2]
}

fn address(n: usize, network: &str) -> String {
    match network {
        "management" => format!("10.78.{}.{}", 1 + n / 200, 1 + n % 200),
        _ => format!("fd78::1:{:x}", n + 1),
    }
}

fn interface(network: &str) -> &'static str {
    if network == "management" {
        "mg0"
    } else {
        "st0"
    }
}

impl Outside {
    fn new(hosts: usize) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests make network namespaces and need root"
        );
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let mut lab = Outside {
            name: format!("hao{}-{number}", std::process::id()),
            namespaces: Vec::new(),
            folder: tempfile::tempdir().expect("make a folder"),
            hosts,
        };
        for namespace in ["switch", "ctl", "farm1", "farm2"] {
            lab.add(namespace);
        }
        lab.inside("switch", "for b in bm bs; do ip link add $b type bridge mcast_snooping 0; ip link set $b up; done");
        for (last, namespace) in ["ctl", "farm1", "farm2"].into_iter().enumerate() {
            for (interface, bridge) in [("mg0", "bm"), ("st0", "bs")] {
                lab.plug(namespace, interface, bridge);
            }
            let last = last + 1;
            lab.inside(namespace, &format!("ip addr add 10.78.0.{last}/16 dev mg0; ip addr add fd78::{last}/64 dev st0 nodad"));
        }
        lab.populate();
        lab
    }

    fn add(&mut self, namespace: &str) {
        let full = self.full(namespace);
        run(Command::new("ip").args(["netns", "add", &full]));
        self.namespaces.push(full);
        // An address outlives its link, so that a test may take the link down and up again.
        self.inside(namespace, "ip link set lo up; sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0 net.ipv6.conf.all.keep_addr_on_down=1 net.ipv6.conf.default.accept_dad=0");
    }

    fn plug(&self, namespace: &str, interface: &str, bridge: &str) {
        let (at, switch) = (self.full(namespace), self.full("switch"));
        let port = format!("{namespace}-{bridge}");
        run(Command::new("ip").args([
            "link", "add", interface, "netns", &at, "type", "veth", "peer", "name", &port, "netns",
            &switch,
        ]));
        self.inside("switch", &format!("ip link set {port} master {bridge} up"));
        self.inside(namespace, &format!("ip link set {interface} up"));
    }

    /// Gives the farms their hosts' addresses.
    fn populate(&self) {
        for namespace in ["farm1", "farm2"] {
            let mut batch = String::new();
            for n in (0..self.hosts).filter(|n| farm(*n) == namespace) {
                for network in NETWORKS {
                    writeln!(batch, "addr add {}", address_of(n, network)).unwrap();
                }
            }
            let file = self.path(&format!("{namespace}.batch"));
            fs::write(&file, batch).expect("write a file");
            run(Command::new("ip")
                .args(["-n", &self.full(namespace), "-batch"])
                .arg(file));
        }
    }

    /// Takes a host off a network, or puts it back.
    fn cut(&self, n: usize, network: &str, is_cut: bool) {
        let verb = if is_cut { "del" } else { "add" };
        self.inside(
            farm(n),
            &format!("ip addr {verb} {}", address_of(n, network)),
        );
    }

    #[track_caller]
    fn inside(&self, namespace: &str, line: &str) -> String {
        run(Command::new("ip").args(["netns", "exec", &self.full(namespace), "sh", "-ec", line]))
    }

    fn full(&self, namespace: &str) -> String {
        format!("{}-{namespace}", self.name)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn database(&self) -> PathBuf {
        self.path("state/ceilometer_ha.sqlite")
    }

    /// The file's lines for hosts from this one on.
    fn list(&self, from: usize) -> String {
        let mut list = String::from("# HOST NETWORK ADDRESS\n\n");
        for n in from..self.hosts {
            for network in NETWORKS {
                let (host, address) = (host(n), address(n, network));
                writeln!(list, "{host} {network} {address} # of {}", farm(n)).unwrap();
            }
        }
        list
    }

    /// Writes the controller's files and starts collector and agent. The first host is a resource of
    /// the pipeline, the others are in the file.
    fn start(&self) -> (Process, Process) {
        let resources = NETWORKS.map(|network| {
            let address = address(0, network);
            let address = if network == "storage" {
                format!("[{address}]")
            } else {
                address
            };
            format!("icmp://{address}?host={}&network={network}", host(0))
        });
        self.start_with(&self.list(1), &resources)
    }

    fn start_with(&self, list: &str, resources: &[String]) -> (Process, Process) {
        let config = self.config(list, resources);
        let collector = self.process("ceilometer-collector-ha", &config);
        wait_for("the collector to listen", || {
            collector.log().contains("listening for UDP").then_some(())
        });
        (collector, self.process("ceilometer-polling-ha", &config))
    }

    fn process(&self, name: &str, config: &PathBuf) -> Process {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.full("ctl")])
            .arg(program(name))
            .arg("--config-file")
            .arg(config);
        Process::start(&mut command, &self.path(&format!("{name}.log")))
    }

    fn config(&self, list: &str, resources: &[String]) -> PathBuf {
        write_config(&self.folder, list, resources)
    }

    /// Every sample of a 0 so far: what it says of whom.
    fn zeros(&self) -> BTreeSet<String> {
        let sql = "SELECT DISTINCT m.name || ' ' || r.resource_id AS what FROM sample s JOIN meter m ON m.id = s.meter_id JOIN resource r ON r.internal_id = s.resource_id WHERE m.name IN ('host.connectivity', 'host_network.connectivity') AND s.volume = 0";
        let rows = query(&self.database(), sql);
        rows.iter()
            .map(|row| row["what"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The samples of a meter about a resource, oldest first.
    fn volumes(&self, meter: &str, resource: &str) -> Vec<f64> {
        let sql = format!(
            "SELECT s.volume FROM sample s JOIN meter m ON m.id = s.meter_id JOIN resource r ON r.internal_id = s.resource_id WHERE m.name = '{meter}' AND r.resource_id = '{resource}' ORDER BY s.timestamp, s.id"
        );
        query(&self.database(), &sql)
            .iter()
            .map(|row| row["volume"].as_f64().unwrap())
            .collect()
    }

    /// Waits until the newest samples of a meter about a resource, as many as asked for, are all
    /// this, in readings that came after the call.
    #[track_caller]
    fn wait_for_latest(&self, meter: &str, resource: &str, volume: f64, rounds: usize) {
        let before = self.volumes(meter, resource).len();
        wait_until(
            &format!("{rounds} x {meter} of {resource} to be {volume}"),
            || {
                let after = self.volumes(meter, resource).split_off(before);
                let latest = after.iter().rev().take_while(|seen| **seen == volume);
                if latest.count() >= rounds {
                    Ok(())
                } else {
                    Err(format!("{after:?}"))
                }
            },
        );
    }

    /// Waits until the observer has said several times why this pollster of it has no reading.
    #[track_caller]
    fn wait_for_failures(&self, pollster: &str, reason: i32) {
        let resource = format!("{OBSERVER}/{pollster}");
        self.wait_for_latest("pollster.failed", &resource, f64::from(reason), 3);
    }

    /// How many rounds have said anything.
    fn rounds(&self) -> u64 {
        self.number("SELECT count(DISTINCT timestamp) AS n FROM sample")
    }

    /// How many readings of a network were withheld because nobody witnessed a loss.
    fn without_witness(&self) -> u64 {
        self.number("SELECT count(*) AS n FROM sample s JOIN meter m ON m.id = s.meter_id WHERE m.name = 'pollster.failed' AND s.volume = 24")
    }

    fn number(&self, sql: &str) -> u64 {
        let rows = query(&self.database(), sql);
        rows.first().and_then(|row| row["n"].as_u64()).unwrap_or(0)
    }

    /// Waits until every host has so many verdicts.
    #[track_caller]
    fn wait_for_verdicts(&self, each: usize) {
        let sql = "SELECT count(*) AS hosts, min(n) AS least FROM (SELECT count(*) AS n FROM sample s JOIN meter m ON m.id = s.meter_id WHERE m.name = 'host.connectivity' GROUP BY s.resource_id)";
        wait_until("verdicts about every host", || {
            let rows = query(&self.database(), sql);
            let number = |name: &str| {
                let first = rows.first().and_then(|row| row[name].as_u64());
                usize::try_from(first.unwrap_or(0)).unwrap()
            };
            match (number("hosts"), number("least")) {
                (hosts, least) if hosts == self.hosts && least >= each => Ok(()),
                seen => Err(format!("hosts and their least verdicts: {seen:?}")),
            }
        });
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        for namespace in &self.namespaces {
            // A namespace that is already gone is as good as deleted.
            let _ = Command::new("ip")
                .args(["netns", "del", namespace])
                .output();
        }
    }
}

fn address_of(n: usize, network: &str) -> String {
    let (address, interface) = (address(n, network), interface(network));
    if network == "management" {
        format!("{address}/32 dev {interface}")
    } else {
        format!("{address}/128 dev {interface} nodad")
    }
}

fn write_config(folder: &TempDir, list: &str, resources: &[String]) -> PathBuf {
    let file = |name: &str| folder.path().join(name);
    fs::create_dir_all(file("state")).expect("make a folder");
    fs::write(file("hosts"), list).expect("write a file");
    let resources = format!("['{}']", resources.join("', '"));
    let resources = if resources == "['']" {
        "[]"
    } else {
        &resources
    };
    fs::write(
        file("pipeline_ha.yaml"),
        format!("sources:\n    - name: outside\n      interval: 1\n      meters: {METERS}\n      resources: {resources}\n      sinks: [ha_sink]\nsinks:\n    - name: ha_sink\n      publishers: ['udp://127.0.0.1:4953']\n"),
    )
    .expect("write a file");
    let config = file("ha.conf");
    fs::write(
        &config,
        format!("[DEFAULT]\nhost = {OBSERVER}\npolling_namespaces = central\nstate_path = {}\n[central]\nhosts_file = hosts\n[collector]\nudp_address = 127.0.0.1\n[publisher]\ntelemetry_secret = {SECRET}\n", file("state").display()),
    )
    .expect("write a file");
    config
}

#[test]
fn three_hundred_hosts_are_seen_without_a_false_loss_and_the_cut_one_is_known() {
    let lab = Outside::new(300);
    let (_collector, agent) = lab.start();
    lab.wait_for_verdicts(6);
    assert_eq!(lab.zeros(), BTreeSet::new(), "nobody was cut");

    // One host loses all its networks, another one of them.
    let (dead, half) = (host(7), host(208));
    for network in NETWORKS {
        lab.cut(7, network, true);
    }
    lab.cut(208, "storage", true);
    lab.wait_for_latest("host.connectivity", &dead, 0.0, 3);
    lab.wait_for_latest(
        "host_network.connectivity",
        &format!("{half}/storage"),
        0.0,
        3,
    );
    lab.wait_for_latest(
        "host_network.connectivity",
        &format!("{half}/management"),
        1.0,
        1,
    );
    lab.wait_for_latest("host.connectivity", &half, 1.0, 1);
    let expected = [
        format!("host.connectivity {dead}"),
        format!("host_network.connectivity {dead}/management"),
        format!("host_network.connectivity {dead}/storage"),
        format!("host_network.connectivity {half}/storage"),
    ];
    assert_eq!(lab.zeros(), expected.into(), "and nobody else");
    wait_for("the log to say so", || {
        let log = agent.log();
        (log.contains("answers on no network") && log.contains(&format!("{half}/storage")))
            .then_some(())
    });

    for network in NETWORKS {
        lab.cut(7, network, false);
    }
    lab.wait_for_latest("host.connectivity", &dead, 1.0, 2);
}

/// A small lab that has been seen whole.
fn watched(hosts: usize) -> (Outside, Process, Process) {
    let lab = Outside::new(hosts);
    let (collector, agent) = lab.start();
    lab.wait_for_verdicts(2);
    (lab, collector, agent)
}

/// The controller's own side fails: first on one network, then on both. Whatever it is, no host is
/// lost by it; and once it is over, a host that is really cut is known again.
fn own_fault_is_no_loss(reason: i32, fail: impl Fn(&Outside, &str), heal: impl Fn(&Outside, &str)) {
    let (lab, _collector, agent) = watched(12);
    fail(&lab, "management");
    lab.wait_for_failures("host_network/management", reason);
    lab.wait_for_latest("host.connectivity", &host(3), 1.0, 2);
    let known = lab.volumes(
        "host_network.connectivity",
        &format!("{}/management", host(3)),
    );
    fail(&lab, "storage");
    lab.wait_for_failures("host_network/storage", reason);
    lab.wait_for_failures("host_network/management", reason);
    assert_eq!(lab.zeros(), BTreeSet::new(), "the fault is our own");
    let still = lab.volumes(
        "host_network.connectivity",
        &format!("{}/management", host(3)),
    );
    assert_eq!(known.len(), still.len(), "and neither is anybody well");

    for network in NETWORKS {
        heal(&lab, network);
    }
    lab.wait_for_latest(
        "host_network.connectivity",
        &format!("{}/management", host(3)),
        1.0,
        2,
    );
    lab.wait_for_latest(
        "host_network.connectivity",
        &format!("{}/storage", host(3)),
        1.0,
        2,
    );
    wait_for("the log to say that it is over", || {
        agent.log().contains("has readings again").then_some(())
    });
    assert_eq!(lab.zeros(), BTreeSet::new());
    for network in NETWORKS {
        lab.cut(3, network, true);
    }
    lab.wait_for_latest("host.connectivity", &host(3), 0.0, 2);
    let zeros = lab.zeros();
    assert!(
        zeros.iter().all(|zero| zero.contains(&host(3))),
        "{zeros:?}"
    );
}

#[test]
fn the_observers_own_link_down_is_no_loss() {
    own_fault_is_no_loss(
        8,
        |lab, network| {
            lab.inside("ctl", &format!("ip link set {} down", interface(network)));
        },
        |lab, network| {
            lab.inside("ctl", &format!("ip link set {} up", interface(network)));
        },
    );
}

/// The name of the switch's port that leads to the controller, and of its bridge.
fn port(network: &str) -> (&'static str, &'static str) {
    if network == "management" {
        ("ctl-bm", "bm")
    } else {
        ("ctl-bs", "bs")
    }
}

#[test]
fn the_observers_own_cable_pulled_is_no_loss() {
    own_fault_is_no_loss(
        24,
        |lab, network| {
            lab.inside("switch", &format!("ip link set {} down", port(network).0));
        },
        |lab, network| {
            lab.inside("switch", &format!("ip link set {} up", port(network).0));
        },
    );
}

#[test]
fn the_observers_dead_switch_port_is_no_loss() {
    own_fault_is_no_loss(
        24,
        |lab, network| {
            lab.inside(
                "switch",
                &format!("ip link set {} nomaster", port(network).0),
            );
        },
        |lab, network| {
            let (port, bridge) = port(network);
            lab.inside("switch", &format!("ip link set {port} master {bridge}"));
        },
    );
}

#[test]
fn the_observers_own_firewall_is_no_loss() {
    let rule = |network: &str, verb: &str| {
        if network == "management" {
            format!("iptables {verb} OUTPUT -p icmp --icmp-type echo-request -j DROP")
        } else {
            format!("ip6tables {verb} OUTPUT -p ipv6-icmp --icmpv6-type echo-request -j DROP")
        }
    };
    own_fault_is_no_loss(
        2,
        |lab, network| {
            lab.inside("ctl", &rule(network, "-A"));
        },
        |lab, network| {
            lab.inside("ctl", &rule(network, "-D"));
        },
    );
}

#[test]
fn an_observer_that_is_stopped_calls_nobody_lost() {
    let (lab, _collector, agent) = watched(12);
    let late = format!("{OBSERVER}/host.connectivity");
    // A stop may fall between two rounds, where it does no harm; so until one falls into a round.
    let mut tries = 0;
    wait_for("a stop in the middle of a round", || {
        let before = lab.rounds();
        wait_for("a round", || (lab.rounds() > before).then_some(()));
        // The readings come when a round is over, about 0.35 s after the second.
        tries += 1;
        pass(650 + 50 * (tries % 6));
        agent.signal(Signal::SIGSTOP);
        pass(250);
        agent.signal(Signal::SIGCONT);
        lab.volumes("pollster.failed", &late)
            .contains(&10.0)
            .then_some(())
    });
    lab.wait_for_latest("host.connectivity", &host(3), 1.0, 2);
    assert_eq!(lab.zeros(), BTreeSet::new());
}

/// Lets time pass that a situation is made of: how long an outage lasts, or when it begins.
fn pass(ms: u64) {
    let until = clock::now() + Duration::from_millis(ms);
    wait_for("time to pass", || (clock::now() >= until).then_some(()));
}

/// Outages of our own that begin and end in the middle of a round: on both networks at once, and
/// never two in one round.
#[test]
fn the_observers_short_outages_are_no_loss() {
    let (lab, _collector, _agent) = watched(60);
    for (after_round_ms, outage_ms) in [
        (0, 600),
        (250, 300),
        (250, 600),
        (400, 250),
        (500, 300),
        (500, 450),
        (650, 300),
        (650, 500),
    ] {
        let before = lab.rounds();
        wait_for("the next round", || (lab.rounds() > before).then_some(()));
        pass(after_round_ms);
        lab.inside(
            "switch",
            "for p in ctl-bm ctl-bs; do ip link set $p nomaster; done",
        );
        pass(outage_ms);
        lab.inside(
            "switch",
            "ip link set ctl-bm master bm; ip link set ctl-bs master bs",
        );
        let before = lab.rounds();
        wait_for("it to be over", || {
            (lab.rounds() > before + 1).then_some(())
        });
    }
    assert_eq!(lab.zeros(), BTreeSet::new());
    assert!(
        lab.without_witness() > 0,
        "no outage lost anything: this test doesn't test"
    );
}

#[test]
fn a_single_host_has_no_witness_and_the_observer_itself_is_none() {
    let lab = Outside::new(1);
    let list = format!(
        "{OBSERVER} management 10.78.0.1\n{} management {}\n",
        host(0),
        address(0, "management")
    );
    let (_collector, _agent) = lab.start_with(&list, &[]);
    lab.wait_for_latest("host.connectivity", &host(0), 1.0, 2);
    let failures = || {
        let resource = format!("{OBSERVER}/host_network/management");
        lab.volumes("pollster.failed", &resource)
    };
    assert_eq!(failures(), Vec::<f64>::new(), "the observer is left out");
    lab.cut(0, "management", true);
    lab.wait_for_failures("host_network/management", 24);
    assert_eq!(lab.zeros(), BTreeSet::new(), "it could be our own fault");
    assert_eq!(
        lab.volumes("host.connectivity", OBSERVER),
        Vec::<f64>::new(),
        "no look from outside"
    );
}

#[test]
fn no_list_of_hosts_is_said() {
    let lab = Outside::new(0);
    let (_collector, _agent) = lab.start_with("# nobody yet\n", &[]);
    lab.wait_for_failures("host.connectivity", 25);
}

#[test]
fn wrong_hosts_and_resources_are_found_by_check_config() {
    let folder = tempfile::tempdir().expect("make a folder");
    let check = |list: &str, resource: &str| {
        let config = write_config(&folder, list, &[resource.to_owned()]);
        let mut command = Command::new(program("ceilometer-polling-ha"));
        let output = run_unchecked(
            command
                .arg("--check-config")
                .arg("--config-file")
                .arg(config),
        );
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let good = "icmp://[fd78::9]?host=compute-1&network=storage";
    let (code, plan, _) = check("compute-1 management 10.0.0.1\n", good);
    assert_eq!(code, Some(0));
    for line in [
        "  pollster host.connectivity",
        "  looks at compute-1 on management: 10.0.0.1",
        "  looks at compute-1 on storage: fd78::9",
    ] {
        assert!(plan.lines().any(|it| it == line), "{plan}");
    }

    let (code, _, told) = check("compute-1 10.0.0.1\ncompute-1 a gw.example\n", "icmp://x");
    assert_eq!(code, Some(2), "{told}");
    for part in [
        "hosts:1: found 2 fields, expected HOST NETWORK ADDRESS",
        "hosts:2: found the name \"gw.example\", expected an IPv4 or IPv6 address",
        "source outside: resources: found \"icmp://x\", expected icmp://ADDRESS?host=",
    ] {
        assert!(told.contains(part), "{told}");
    }

    let many: String = (0..400)
        .map(|n| format!("h{n} net 10.0.{}.{}\n", n / 200, n % 200 + 1))
        .collect();
    let config = write_config(&folder, &many, &[good.to_owned()]);
    let mut text = fs::read_to_string(&config).unwrap();
    text.push_str("[compute]\nping_count = 100\n");
    fs::write(&config, text).unwrap();
    let mut command = Command::new(program("ceilometer-polling-ha"));
    let output = run_unchecked(
        command
            .arg("--check-config")
            .arg("--config-file")
            .arg(config),
    );
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        told.contains("[compute] ping_count: found 40100 probes a round"),
        "{told}"
    );
}
