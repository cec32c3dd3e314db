//! Faults of the agent's own side: whatever is wrong here must not read as a dead gateway, must be
//! said with its reason, and must not stop the heartbeat.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;
use support::lab::{AgentConfig, Family, HOST, Lab, verdict};
use support::process::Process;
use support::{program, query, run, volumes, wait_for};

/// Waits until this reason is shown for this pollster, and then for some heartbeats more.
fn expect_failure(lab: &Lab, pollster: &str, reason: &str) -> Value {
    let node = lab.wait_for_node(reason, |node| {
        node["failures"].as_array().is_some_and(|failures| {
            failures.iter().any(|failure| {
                failure["pollster"] == pollster && failure["reason"]["name"] == reason
            })
        })
    });
    lab.wait_for_rounds(3);
    node
}

fn no_zero(lab: &Lab) {
    let zeros = lab
        .verdicts()
        .iter()
        .filter(|verdict| **verdict == 0.0)
        .count();
    assert_eq!(zeros, 0, "a fault of our own read as a lost storage");
}

/// The agent as a user without any privilege.
fn unprivileged_agent(lab: &Lab, wanted: &AgentConfig) -> Process {
    let config = lab.agent_config(wanted);
    fs::create_dir_all(lab.path("agent")).unwrap();
    run(Command::new("chown")
        .arg("-R")
        .arg("nobody")
        .arg(lab.path("agent")));
    run(Command::new("chmod").arg("a+rx").arg(lab.folder.path()));
    let mut command = lab.command("node", "setpriv".as_ref());
    command.args([
        "--reuid=nobody",
        "--regid=nogroup",
        "--clear-groups",
        "--bounding-set=-all",
    ]);
    command
        .arg("--inh-caps=-all")
        .arg(program("ceilometer-polling-ha"));
    Process::start(
        command.arg("--config-file").arg(config),
        &lab.path("agent.log"),
    )
}

#[test]
fn no_permission_for_icmp() {
    let lab = Lab::new();
    let _collector = lab.collector();
    lab.inside("node", "sysctl -qw net.ipv4.ping_group_range='1 0'");
    let _agent = unprivileged_agent(&lab, &AgentConfig::new(&Family::V4.gateways()));
    let node = expect_failure(&lab, "storage_connectivity", "no_permission");
    assert_eq!(verdict(&node), "unknown");
    let ready = || lab.inside("node", "curl -s http://127.0.0.1:9180/readyz");
    let troubles = wait_for("the agent to say that it isn't ready", || {
        Some(ready()).filter(|said| said.contains(": no_permission for "))
    });
    assert!(troubles.contains("grant CAP_NET_RAW"), "{troubles}");
    assert_eq!(lab.verdicts(), Vec::<f64>::new());

    // Granted while it runs, it is used at once.
    lab.inside(
        "node",
        "sysctl -qw net.ipv4.ping_group_range='0 2147483647'",
    );
    lab.wait_for_node("probes without privilege", |node| {
        verdict(node) == "reachable"
    });
    assert_eq!(ready(), "ok\n");
    no_zero(&lab);
}

#[test]
fn no_gateway_configured() {
    let lab = Lab::new();
    let _collector = lab.collector();
    let _agent = lab.agent(&AgentConfig::new(&[]));
    expect_failure(&lab, "storage_connectivity", "not_configured");
    assert_eq!(lab.verdicts(), Vec::<f64>::new());
}

#[test]
fn a_name_that_does_not_resolve() {
    let lab = Lab::new();
    let _collector = lab.collector();
    let _agent = lab.agent(&AgentConfig::new(&["gateway.invalid", "10.77.1.11"]));
    let node = expect_failure(&lab, "storage_gateway/gateway.invalid", "name_unresolved");
    assert_eq!(verdict(&node), "reachable", "the other one answers");
    no_zero(&lab);
}

#[test]
fn a_name_that_resolves_is_probed() {
    let lab = Lab::new();
    let _collector = lab.collector();
    // `ip netns exec` puts files of /etc/netns/NAME in the place of those in /etc.
    let etc = lab.private_etc("node");
    fs::write(
        etc.join("hosts"),
        "127.0.0.1 localhost\n10.77.1.11 gateway.example\n",
    )
    .unwrap();
    let agent = lab.agent(&AgentConfig::new(&["gateway.example"]));
    lab.wait_for_node("the named gateway", |node| verdict(node) == "reachable");
    // The address that is known outlives the name.
    fs::write(etc.join("hosts"), "127.0.0.1 localhost\n").unwrap();
    lab.silence("gw1", true);
    let node = lab.wait_for_node("the named gateway to be lost", |node| {
        verdict(node) == "lost"
    });

    // And it outlives the agent.
    let epoch = |node: &Value| node["heartbeat"]["epoch"].as_u64().unwrap();
    let before = epoch(&node);
    agent.kill();
    let _agent = lab.agent(&AgentConfig::new(&["gateway.example"]));
    lab.wait_for_node("it to be lost still", |node| {
        epoch(node) > before && verdict(node) == "lost"
    });
    assert_eq!(lab.failures(), [], "its address is known");
}

#[test]
fn out_of_descriptors() {
    let lab = Lab::new();
    let _collector = lab.collector();
    let agent = lab.agent(&AgentConfig::new(&Family::V4.gateways()));
    lab.wait_for_node("storage to be reached", |node| verdict(node) == "reachable");
    // Nothing that is open is taken away, but nothing more can be opened.
    let pid = agent.pid();
    run(Command::new("prlimit").args(["--pid", &pid.to_string(), "--nofile=4:4096"]));
    expect_failure(&lab, "storage_connectivity", "descriptor_limit");
    run(Command::new("prlimit").args(["--pid", &pid.to_string(), "--nofile=1024:4096"]));
    lab.wait_for_node("storage to be reached again", |node| {
        verdict(node) == "reachable"
    });
    no_zero(&lab);
}

fn blocked_by_our_own_firewall(family: Family) {
    let lab = Lab::new();
    let _collector = lab.collector();
    let _agent = lab.agent(&AgentConfig::new(&family.gateways()));
    lab.wait_for_node("storage to be reached", |node| verdict(node) == "reachable");
    let (iptables, icmp, request) = (family.iptables(), family.icmp(), family.echo_request());
    lab.inside(
        "node",
        &format!("{iptables} -A OUTPUT -o st0 -p {icmp} {request} -j DROP"),
    );
    expect_failure(&lab, "storage_connectivity", "output_blocked");
    no_zero(&lab);
}

#[test]
fn blocked_by_our_own_firewall_v4() {
    blocked_by_our_own_firewall(Family::V4);
}

#[test]
fn blocked_by_our_own_firewall_v6() {
    blocked_by_our_own_firewall(Family::V6);
}

#[test]
fn a_source_address_that_was_never_there() {
    let lab = Lab::new();
    let _collector = lab.collector();
    let wanted =
        AgentConfig::new(&Family::V4.gateways()).compute("storage_source_address = 10.77.1.99");
    let _agent = lab.agent(&wanted);
    expect_failure(&lab, "storage_connectivity", "path_never_seen");
    assert_eq!(lab.verdicts(), Vec::<f64>::new());
}

/// The age of the newest heartbeat by the database's clock.
fn heartbeat_age(lab: &Lab) -> Option<f64> {
    lab.node()?["heartbeat"]["age_seconds"].as_f64()
}

#[test]
fn stopped_for_five_seconds() {
    let lab = Lab::new();
    let _collector = lab.collector();
    let agent = lab.agent(&AgentConfig::new(&Family::V4.gateways()));
    lab.wait_for_node("storage to be reached", |node| verdict(node) == "reachable");
    // Several times, so that stops fall into every part of a round.
    for _ in 0..3 {
        agent.signal(Signal::SIGSTOP);
        wait_for("five seconds without a heartbeat", || {
            heartbeat_age(&lab).filter(|age| *age > 5.0)
        });
        let node = lab.node().unwrap();
        assert_eq!(
            verdict(&node),
            "unknown",
            "seen from outside: silent, and not lost"
        );
        assert_eq!(node["storage"]["reason"], "silent");
        agent.signal(Signal::SIGCONT);
        lab.wait_for_node("storage to be reached again", |node| {
            verdict(node) == "reachable"
        });
        lab.wait_for_rounds(2);
    }
    no_zero(&lab);
    assert!(
        agent.log().contains("rounds missed"),
        "the stop is visible in the log"
    );
    let metrics = lab.inside("node", "curl -s http://127.0.0.1:9180/metrics");
    let missed = metrics
        .lines()
        .find(|line| {
            line.starts_with("ceilometer_ha_rounds_missed_total") && line.contains("storage")
        })
        .unwrap();
    assert!(
        missed.rsplit(' ').next().unwrap().parse::<f64>().unwrap() >= 9.0,
        "{missed}"
    );
}

/// A round that was slept through says nothing, whatever it saw before and after.
#[test]
fn stopped_in_the_middle_of_a_round() {
    let lab = Lab::new();
    let _collector = lab.collector();
    let [first, _] = Family::V4.gateways();
    let mut wanted = AgentConfig::new(&[first]).compute("ping_count = 1\nping_timeout = 3");
    wanted.interval = "4";
    let agent = lab.agent(&wanted);
    lab.wait_for_node("storage to be reached", |node| verdict(node) == "reachable");
    // The one probe of the next round is dropped, so that the round waits for three seconds.
    lab.inside(
        "gw1",
        "iptables -A INPUT -p icmp --icmp-type echo-request -j DROP",
    );
    wait_for("a round's probe", || {
        let rules = lab.inside("gw1", "iptables -nvxL INPUT");
        let dropped = rules.lines().last()?.split_whitespace().next()?;
        (dropped != "0").then_some(())
    });
    agent.signal(Signal::SIGSTOP);
    wait_for("the round's time to be over", || {
        heartbeat_age(&lab).filter(|age| *age > 4.5)
    });
    lab.inside("gw1", "iptables -F INPUT");
    agent.signal(Signal::SIGCONT);
    wait_for("the round to say nothing", || {
        let (failed, reason) = lab.failures().pop()?;
        let expected = format!("{HOST}/storage_connectivity");
        (failed == expected && reason == "timers_late").then_some(())
    });
    no_zero(&lab);
}

/// A control group that gives the process a thousandth of a core, in the layout of this machine.
struct Starved {
    folder: std::path::PathBuf,
}

impl Starved {
    fn new(pid: u32) -> Self {
        let name = format!("ceilometer-ha-test-{pid}");
        let v1 = std::path::Path::new("/sys/fs/cgroup/cpu");
        let folder = if v1.is_dir() {
            v1.join(name)
        } else {
            std::path::Path::new("/sys/fs/cgroup").join(name)
        };
        fs::create_dir(&folder).expect("make a control group");
        if v1.is_dir() {
            fs::write(folder.join("cpu.cfs_period_us"), "1000000").unwrap();
            fs::write(folder.join("cpu.cfs_quota_us"), "1000").unwrap();
        } else {
            fs::write(folder.join("cpu.max"), "1000 1000000")
                .expect("limit the control group's CPU");
        }
        fs::write(folder.join("cgroup.procs"), pid.to_string()).unwrap();
        Starved { folder }
    }

    fn end(&self) {
        for pid in fs::read_to_string(self.folder.join("cgroup.procs"))
            .unwrap()
            .lines()
        {
            fs::write(self.folder.parent().unwrap().join("cgroup.procs"), pid).unwrap();
        }
    }
}

impl Drop for Starved {
    fn drop(&mut self) {
        self.end();
        let _ = fs::remove_dir(&self.folder);
    }
}

#[test]
fn starved_of_cpu() {
    let lab = Lab::new();
    let _collector = lab.collector();
    let agent = lab.agent(&AgentConfig::new(&Family::V4.gateways()));
    lab.wait_for_node("storage to be reached", |node| verdict(node) == "reachable");
    let starved = Starved::new(agent.pid());
    wait_for("rounds that ran late", || {
        lab.failures()
            .contains(&(
                format!("{HOST}/storage_connectivity"),
                "timers_late".to_owned(),
            ))
            .then_some(())
    });
    lab.wait_for_rounds(2);
    starved.end();
    lab.wait_for_node("storage to be reached again", |node| {
        verdict(node) == "reachable"
    });
    no_zero(&lab);
}

/// Steps the agent's wall clock, and nobody else's, by libfaketime.
#[test]
fn the_clock_set_back_an_hour() {
    let lab = Lab::new();
    let _collector = lab.collector();
    let config = lab.agent_config(&AgentConfig::new(&Family::V4.gateways()));
    let offset = lab.path("offset");
    fs::write(&offset, "+0\n").unwrap();
    let mut command = lab.command("node", "env".as_ref());
    let library = run(Command::new("sh").args(["-c", "ls /usr/lib/*/faketime/libfaketimeMT.so.1"]));
    command.arg(format!("LD_PRELOAD={}", library.trim()));
    command.arg(format!("FAKETIME_TIMESTAMP_FILE={}", offset.display()));
    command.args(["FAKETIME_NO_CACHE=1", "DONT_FAKE_MONOTONIC=1"]);
    command
        .arg(program("ceilometer-polling-ha"))
        .arg("--config-file")
        .arg(&config);
    let agent = Process::start(&mut command, &lab.path("agent.log"));
    lab.wait_for_node("storage to be reached", |node| verdict(node) == "reachable");

    fs::write(&offset, "-3600\n").unwrap();
    let sql = "SELECT min(timestamp) < datetime('now', '-30 minutes') AS is_back FROM sample";
    wait_for("readings stamped an hour ago", || {
        (query(&lab.database(), sql)[0]["is_back"] == 1).then_some(())
    });
    lab.wait_for_rounds(3);
    let node = lab.node().unwrap();
    assert_eq!(
        verdict(&node),
        "reachable",
        "order is by epoch and sequence, age by the database's clock"
    );
    no_zero(&lab);
    assert_eq!(lab.failures(), []);

    // Neither does a restart an hour ago lose its place: the epoch grows all the same.
    let epochs = || {
        query(&lab.database(), "SELECT max(epoch) AS epoch FROM ha_state")[0]["epoch"]
            .as_u64()
            .unwrap()
    };
    let before = epochs();
    agent.kill();
    let _agent = Process::start(&mut command, &lab.path("agent.log"));
    wait_for("a greater epoch", || (epochs() > before).then_some(()));
    lab.wait_for_node("storage to be reached", |node| verdict(node) == "reachable");

    // And a real loss is still seen.
    lab.silence("gw1", true);
    lab.silence("gw2", true);
    lab.wait_for_node("storage to be lost", |node| verdict(node) == "lost");
    assert!(!volumes(&lab.database(), "compute.heartbeat").is_empty());
}

/// Makes every look-up of a name inside a namespace wait for a server that never answers.
fn hang_the_resolver(lab: &Lab, namespace: &str) {
    let etc = lab.private_etc(namespace);
    fs::write(
        etc.join("resolv.conf"),
        "nameserver 10.77.2.1\noptions timeout:30 attempts:5\n",
    )
    .unwrap();
    fs::write(etc.join("nsswitch.conf"), "hosts: dns\n").unwrap();
    lab.inside("ctl", "iptables -A INPUT -p udp --dport 53 -j DROP");
}

/// The sum of a metric's series whose labels hold `label`.
fn metric(lab: &Lab, namespace: &str, port: u16, name: &str, label: &str) -> f64 {
    let metrics = lab.inside(
        namespace,
        &format!("curl -s http://127.0.0.1:{port}/metrics"),
    );
    metrics
        .lines()
        .filter(|line| line.starts_with(name) && line.contains(label))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

#[test]
fn a_resolver_that_hangs_delays_no_round() {
    let lab = Lab::new();
    hang_the_resolver(&lab, "node");
    let _collector = lab.collector();
    let agent = lab.agent(&AgentConfig::new(&["gateway.example", "10.77.1.11"]));
    let node = expect_failure(&lab, "storage_gateway/gateway.example", "name_unresolved");
    assert_eq!(verdict(&node), "reachable", "the other one is probed");
    let missed = metric(&lab, "node", 9180, "ceilometer_ha_rounds_missed_total", "");
    assert_eq!(missed, 0.0, "rounds missed");
    no_zero(&lab);
    assert!(agent.terminate().success());
}

#[test]
fn a_publisher_that_hangs_delays_no_round_and_no_other_publisher() {
    let lab = Lab::new();
    hang_the_resolver(&lab, "node");
    let _collector = lab.collector();
    let mut wanted = AgentConfig::new(&Family::V4.gateways());
    wanted.publishers = vec![
        "udp://collector.example:4953".into(),
        "udp://10.77.2.1:4953".into(),
    ];
    let _agent = lab.agent(&wanted);
    lab.wait_for_node("storage to be reached", |node| verdict(node) == "reachable");
    lab.wait_for_rounds(3);
    let missed = metric(&lab, "node", 9180, "ceilometer_ha_rounds_missed_total", "");
    assert_eq!(missed, 0.0, "rounds missed");
    let published = "ceilometer_ha_readings_published_total";
    assert_eq!(
        metric(&lab, "node", 9180, published, "collector.example"),
        0.0,
        "the first one still waits for its name"
    );
}

/// Opening the state file waits for ever, as it does on a disk that hangs.
#[test]
fn a_disk_that_hangs_delays_no_start() {
    let lab = Lab::new();
    let _collector = lab.collector();
    fs::create_dir_all(lab.path("agent")).unwrap();
    run(Command::new("mkfifo").arg(lab.path("agent/agent.json")));
    let agent = lab.agent(&AgentConfig::new(&Family::V4.gateways()));
    lab.wait_for_node("storage to be reached", |node| verdict(node) == "reachable");
    assert!(agent.log().contains("no state can be kept"), "it is said");
    assert!(agent.terminate().success());
}

/// Its standard error is a pipe that is full and that nobody reads.
#[test]
fn a_log_that_nobody_reads_delays_nothing() {
    let lab = Lab::new();
    let _collector = lab.collector();
    let config = lab.agent_config(&AgentConfig::new(&Family::V4.gateways()));
    let mut command = lab.command("node", "sh".as_ref());
    let fifo = lab.path("fifo");
    let fill = "head -c 65536 /dev/zero >&3";
    command.arg("-ec").arg(format!(
        "mkfifo {0}; exec 3<>{0}; {fill}; exec {1} --config-file {2} 2>&3",
        fifo.display(),
        program("ceilometer-polling-ha").display(),
        config.display()
    ));
    let agent = Process::start(&mut command, &lab.path("agent.log"));
    lab.wait_for_node("storage to be reached", |node| verdict(node) == "reachable");
    lab.wait_for_rounds(3);
    assert!(agent.terminate().success());
}

/// Somebody else holds the database's lock for longer than a statement waits for it.
#[test]
fn a_locked_database_stops_no_receiving_and_loses_nothing() {
    let lab = Lab::new();
    let _collector = lab.collector();
    let agent = lab.agent(&AgentConfig::new(&Family::V4.gateways()));
    lab.wait_for_node("storage to be reached", |node| verdict(node) == "reachable");

    let mut holder = Command::new("sqlite3")
        .arg(lab.database())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = holder.stdin.take().unwrap();
    writeln!(lines, ".timeout 5000\nBEGIN IMMEDIATE;\nSELECT 'held';").unwrap();
    let mut said = [0; 4];
    holder
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut said)
        .unwrap();
    assert_eq!(&said, b"held");
    let received = |lab: &Lab| metric(lab, "ctl", 9181, "ceilometer_ha_datagrams_total", "");
    let before = received(&lab);
    wait_for("a batch that could not be stored", || {
        (metric(&lab, "ctl", 9181, "ceilometer_ha_store_errors_total", "") > 0.0).then_some(())
    });
    assert!(
        received(&lab) > before + 5.0,
        "datagrams came in all the while"
    );
    writeln!(lines, "COMMIT;").unwrap();
    drop(lines);
    holder.wait().unwrap();

    // Every number of the agent's that was given is in the history once.
    assert!(agent.terminate().success());
    let sql = "SELECT (SELECT count(*) FROM sample) AS stored, (SELECT max(seq) FROM ha_state) AS numbered";
    wait_for("all of it to be stored", || {
        let rows = query(&lab.database(), sql);
        (rows[0]["stored"] == rows[0]["numbered"]).then_some(())
    });
}
