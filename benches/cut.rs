//! How long a real cut takes to become a stored 0: the agent and the collector in network
//! namespaces, the shipped interval of 1 s, and the storage link cut at random moments of the round.
//! Prints p50, p99 and the worst beside the limit of 3 s; 100 cuts, in several networks at a time.
//! Needs root.

// A benchmark measures time, waits for random moments and may stop at the first thing that is wrong.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use support::lab::{AgentConfig, Family, Lab, verdict};
use support::{query, wait_for};

const CUTS: usize = 100;
/// Networks at a time: few enough that they don't starve each other on two cores.
const LABS: usize = 4;
const LIMIT_SECONDS: f64 = 3.0;

fn main() {
    let workers: Vec<_> = (0..LABS)
        .map(|_| std::thread::spawn(|| cuts(CUTS / LABS)))
        .collect();
    let mut took: Vec<f64> = workers
        .into_iter()
        .flat_map(|worker| worker.join().expect("cut and measure"))
        .collect();
    took.sort_by(f64::total_cmp);
    let at = |percent: usize| took[(took.len() * percent).div_ceil(100) - 1];
    println!(
        "{} cuts of the storage link, interval 1 s, 4 probes 100 ms apart, timeout 500 ms",
        took.len()
    );
    println!(
        "cut -> stored 0: p50 {:.2} s, p99 {:.2} s, worst {:.2} s (limit {LIMIT_SECONDS} s at p99)",
        at(50),
        at(99),
        at(100)
    );
}

fn cuts(count: usize) -> Vec<f64> {
    let lab = Lab::new();
    let _collector = lab.collector();
    let _agent = lab.agent(&AgentConfig::new(&Family::V4.gateways()));
    (0..count).map(|number| cut(&lab, number)).collect()
}

/// Cuts, waits for the 0, mends, waits for the 1.
fn cut(lab: &Lab, number: usize) -> f64 {
    lab.wait_for_node("storage to be reached", |node| verdict(node) == "reachable");
    std::thread::sleep(Duration::from_millis(
        RandomState::new().hash_one(number) % 1000,
    ));
    // A cable pulled at the switch leaves the node's route and address in place: only silence tells.
    let (cut, mend) = (
        "ip link set gw1 down; ip link set gw2 down",
        "ip link set gw1 up; ip link set gw2 up",
    );
    let cut_at = support::wall_clock();
    lab.inside("switch", cut);
    let sql = support::first_zero_after(cut_at);
    let stored_at = wait_for("a stored 0", || {
        query(&lab.database(), &sql)[0]["at"].as_f64()
    });
    lab.inside("switch", mend);
    stored_at - cut_at
}
