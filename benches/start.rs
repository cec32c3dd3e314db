//! How long after the start of a process its first reading is stored, on loopback: an agent beside a
//! collector that runs already, and the standalone, which makes its database first. Each start has
//! another host name, because the name decides how far the first round is put off. Prints p50 and the
//! worst beside the limit of 1.5 s.

// A benchmark measures time and may stop at the first thing that is wrong.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::process::Process;
use support::site::{HOST, Site};
use support::{program, query, wait_for};

const STARTS: usize = 30;
const LIMIT_SECONDS: f64 = 1.5;

fn main() {
    let site = Site::new();
    let _collector = site.collector();
    let config = agent_config(&site);
    let agents = measure(|number| {
        let host = format!("{HOST}-{number}");
        let state = site.path(&host);
        start(
            &site,
            "ceilometer-polling-ha",
            &config,
            &host,
            &state,
            &site.database(),
        )
    });
    print("agent, collector running", &agents);

    let standalones = measure(|number| {
        let site = Site::new();
        let config = agent_config(&site);
        let state = site.path("all");
        let database = state.join("ceilometer_ha.sqlite");
        let host = format!("{HOST}-{number}");
        start(
            &site,
            "ceilometer-ha-standalone",
            &config,
            &host,
            &state,
            &database,
        )
    });
    print("standalone, no database yet", &standalones);
}

/// The agent's files with the intervals that are shipped.
fn agent_config(site: &Site) -> PathBuf {
    let config = site.agent_config();
    let pipeline = site.path("pipeline_ha.yaml");
    let text = fs::read_to_string(&pipeline).expect("read the pipeline");
    fs::write(&pipeline, text.replace("interval: 0.5", "interval: 1")).expect("write it");
    let text = fs::read_to_string(&config).expect("read the configuration");
    fs::write(&config, text.replace("ping_interval = 0.05\n", "")).expect("write it");
    config
}

/// Seconds to the first reading and to the first verdict on the storage.
type Took = (f64, f64);

fn measure(once: impl FnMut(usize) -> Took) -> Vec<Took> {
    (0..STARTS).map(once).collect()
}

fn start(
    site: &Site,
    name: &str,
    config: &Path,
    host: &str,
    state: &Path,
    database: &Path,
) -> Took {
    let mut command = Command::new(program(name));
    command
        .arg("--config-file")
        .arg(config)
        .env("OS_DEFAULT__HOST", host)
        .env("OS_DEFAULT__STATE_PATH", state)
        .envs(site.environment());
    let started_at = support::wall_clock();
    let process = Process::start_with_stdout(
        &mut command,
        std::process::Stdio::null(),
        &site.path(&format!("{host}.log")),
    );
    let took = ["%", "storage_connectivity"].map(|meter| {
        let sql = first_of(host, meter);
        let stored_at = wait_for("a stored reading", || {
            // The standalone makes its database while we look.
            database.exists().then_some(())?;
            query(database, &sql).first()?["at"].as_f64()
        });
        stored_at - started_at
    });
    process.terminate();
    (took[0], took[1])
}

/// The query for when the first reading of this host was stored.
fn first_of(host: &str, meter: &str) -> String {
    format!(
        "SELECT min((julianday(s.recorded_at) - 2440587.5) * 86400.0) AS at FROM sample s JOIN meter m ON m.id = s.meter_id JOIN resource r ON r.internal_id = s.resource_id WHERE m.name LIKE '{meter}' AND (r.resource_id = '{host}' OR r.resource_id LIKE '{host}/%')"
    )
}

fn print(what: &str, took: &[Took]) {
    for (reading, pick) in [
        ("first reading", (|took: &Took| took.0) as fn(&Took) -> f64),
        ("first verdict on the storage", |took| took.1),
    ] {
        let mut seconds: Vec<f64> = took.iter().map(pick).collect();
        seconds.sort_by(f64::total_cmp);
        println!(
            "{what}, {} starts: {reading} stored after {:.2} s at p50, {:.2} s at worst (limit {LIMIT_SECONDS} s)",
            seconds.len(),
            seconds[seconds.len().div_ceil(2) - 1],
            seconds[seconds.len() - 1]
        );
    }
}
