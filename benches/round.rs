//! One ping round against `fping -i0`, the peer, in the same run: CPU and wall time of whole
//! processes for 2, 16 and 1,000 targets on loopback, median of interleaved runs; and the wall time
//! of rounds with dead gateways.
//!
//! Limits stated beside the figures: CPU at most 1.1 × fping's, wall at most spacing × (count − 1)
//! + timeout + 0.1 s, no reply lost. Needs root (or CAP_NET_RAW) and fping.

// A benchmark measures time and may stop at the first thing that is wrong.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ceilometer_ha::pollsters::ping::path::Pin;
use ceilometer_ha::pollsters::ping::prober;
use ceilometer_ha::pollsters::ping::round::{Aim, Plan};
use ceilometer_ha::pollsters::ping::routes::Routes;
use nix::sys::resource::{UsageWho, getrusage};
use support::lab::Lab;

const RUNS: usize = 5;
const PLAN: Plan = Plan {
    count: 4,
    spacing: Duration::from_millis(100),
    timeout: Duration::from_millis(500),
};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let Some(at) = args.iter().position(|arg| arg == "--one-round") {
        one_round(
            args[at + 1..]
                .iter()
                .map(|address| address.parse().expect("an address"))
                .collect(),
        );
        return;
    }
    println!(
        "one round of {} probes, {:?} apart, timeout {:?}; median of {RUNS} interleaved runs",
        PLAN.count, PLAN.spacing, PLAN.timeout
    );
    println!(
        "{:>8} {:>12} {:>12} {:>9} {:>11} {:>11} {:>9}",
        "targets", "our CPU", "fping CPU", "ratio", "our wall", "fping wall", "our lost"
    );
    for targets in [2, 16, 1000] {
        compare(targets);
    }
    dead_gateways();
}

/// One dead gateway and sixteen, beside one that answers.
fn dead_gateways() {
    let lab = Lab::new();
    lab.silence("gw1", true);
    let dead: Vec<String> = (101..117).map(|last| format!("10.77.1.{last}")).collect();
    for address in &dead {
        lab.inside("gw1", &format!("ip addr add {address}/24 dev st0"));
    }
    let alive = "10.77.1.12".to_owned();
    println!(
        "\n{:>8} {:>11}   limit {:?}",
        "dead",
        "wall",
        PLAN.spacing * 3 + PLAN.timeout + Duration::from_millis(100)
    );
    for count in [0, 1, 16] {
        let program = std::env::current_exe().unwrap();
        let mut command = lab.command("node", &program);
        command.arg("--one-round").arg(&alive).args(&dead[..count]);
        let run = measure(&mut command);
        assert_eq!(run.output.trim(), (4 * count).to_string(), "lost probes");
        println!("{count:>8} {:>11.1?}", run.wall);
    }
}

fn compare(targets: usize) {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut lost = 0;
    for run in 0..=RUNS {
        let mine = measure(
            Command::new(std::env::current_exe().unwrap())
                .arg("--one-round")
                .args(addresses(targets).iter().map(IpAddr::to_string)),
        );
        let peer = measure(
            Command::new("fping")
                .args(["-i0", "-q", "-c4", "-p100", "-t500"])
                .args(addresses(targets).iter().map(IpAddr::to_string)),
        );
        lost += mine
            .output
            .trim()
            .parse::<usize>()
            .expect("the number of lost probes");
        if run > 0 {
            // The first run only warms up.
            ours.push((mine.cpu, mine.wall));
            theirs.push((peer.cpu, peer.wall));
        }
    }
    let median = |runs: &[(Duration, Duration)], which: fn(&(Duration, Duration)) -> Duration| {
        let mut values: Vec<Duration> = runs.iter().map(which).collect();
        values.sort();
        values[values.len() / 2]
    };
    let (cpu, peer_cpu) = (median(&ours, |run| run.0), median(&theirs, |run| run.0));
    println!(
        "{targets:>8} {:>12.2?} {:>12.2?} {:>9.2} {:>11.1?} {:>11.1?} {lost:>9}",
        cpu,
        peer_cpu,
        cpu.as_secs_f64() / peer_cpu.as_secs_f64(),
        median(&ours, |run| run.1),
        median(&theirs, |run| run.1),
    );
}

struct Run {
    cpu: Duration,
    wall: Duration,
    output: String,
}

fn measure(command: &mut Command) -> Run {
    let cpu = || {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
        let micros = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
        u64::try_from(micros(usage.user_time()) + micros(usage.system_time())).unwrap()
    };
    let (cpu_before, start) = (cpu(), Instant::now());
    let output = command
        .stdin(Stdio::null())
        .output()
        .expect("run (fping comes with Debian's package fping)");
    let wall = start.elapsed();
    Run {
        cpu: Duration::from_micros(cpu() - cpu_before),
        wall,
        output: String::from_utf8_lossy(&output.stdout).into_owned(),
    }
}

/// What the pollster does in a round: look every path up, probe, and count.
fn one_round(addresses: Vec<IpAddr>) {
    let mut routes = Routes::open().expect("open a netlink socket");
    let aims: Vec<Aim> = addresses
        .into_iter()
        .map(|address| {
            let path = routes
                .path(address, None, Pin::Free)
                .expect("look up a route");
            Aim {
                address,
                interface: path.link.expect("a path").index,
            }
        })
        .collect();
    let findings = prober::probe(PLAN, aims, &[], 0);
    assert_eq!(findings.void, None);
    let lost: u32 = findings
        .tallies
        .iter()
        .map(|tally| u32::from(PLAN.count) - tally.answered)
        .sum();
    println!("{lost}");
}

fn addresses(targets: usize) -> Vec<IpAddr> {
    (0..targets)
        .map(|n| {
            Ipv4Addr::new(
                127,
                0,
                u8::try_from(1 + n / 250).unwrap(),
                u8::try_from(1 + n % 250).unwrap(),
            )
            .into()
        })
        .collect()
}
