//! Real processes, real networks, and waiting on conditions: what the end-to-end tests share.
// Each test binary uses its own part of it, and a helper of tests may fail the test.
#![allow(dead_code, missing_docs, unreachable_pub)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

pub mod bmc;
pub mod broker;
pub mod disk;
pub mod guest;
pub mod hypervisor;
pub mod lab;
pub mod mariadb;
pub mod node;
pub mod process;
pub mod publishing;
pub mod rabbitmq;
pub mod site;
pub mod store;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use ceilometer_ha::clock;
use serde_json::Value;

/// The longest a test waits for anything; far above what is expected, so that only a condition that
/// never comes true runs into it.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Waits until `look` finds something, and returns it; fails the test after [`LIMIT`].
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    wait_until(what, || look().ok_or_else(String::new))
}

/// The same for a `look` that says what it sees instead.
#[track_caller]
pub fn wait_until<T>(what: &str, look: impl FnMut() -> Result<T, String>) -> T {
    wait_within(LIMIT, what, look)
}

/// The same for what takes long by itself on a busy machine.
#[track_caller]
pub fn wait_within<T>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<T, String>,
) -> T {
    let deadline = clock::now() + limit;
    loop {
        let seen = match look() {
            Ok(found) => return found,
            Err(seen) => seen,
        };
        assert!(
            clock::now() < deadline,
            "waited {limit:?} in vain for: {what}\n{seen}"
        );
        pause();
    }
}

/// The pause between two looks at a condition, not a guess at how long something takes.
#[allow(clippy::disallowed_methods)]
fn pause() {
    std::thread::sleep(Duration::from_millis(15));
}

/// Runs a command to its end; fails the test if it can't be run or fails.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = run_unchecked(command);
    assert!(
        output.status.success(),
        "{command:?} failed: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a command to its end, whatever it says.
#[track_caller]
pub fn run_unchecked(command: &mut Command) -> Output {
    let name = command.get_program().to_owned();
    command.output().unwrap_or_else(|error| {
        panic!("{name:?} can't be run ({error}): `make test` installs what the tests need")
    })
}

/// A program of this package, as built for this test run.
pub fn program(name: &str) -> PathBuf {
    match name {
        "ceilometer-polling-ha" => env!("CARGO_BIN_EXE_ceilometer-polling-ha").into(),
        "ceilometer-collector-ha" => env!("CARGO_BIN_EXE_ceilometer-collector-ha").into(),
        "compute-ha" => env!("CARGO_BIN_EXE_compute-ha").into(),
        "ceilometer-ha-standalone" => env!("CARGO_BIN_EXE_ceilometer-ha-standalone").into(),
        other => panic!("{other} is none of our programs"),
    }
}

/// What `compute-ha status --format json` says about a database; None until there is one.
pub fn status(config: &Path) -> Option<Value> {
    let mut command = Command::new(program("compute-ha"));
    let output = run_unchecked(
        command
            .args(["status", "--format", "json", "--config-file"])
            .arg(config),
    );
    serde_json::from_slice(&output.stdout).ok()
}

/// Rows of a query on an SQLite database, as the `sqlite3` program gives them to anybody.
pub fn query(database: &Path, sql: &str) -> Vec<Value> {
    let mut command = Command::new("sqlite3");
    let output = run_unchecked(command.arg("-readonly").arg("-json").arg(database).arg(sql));
    let text = String::from_utf8_lossy(&output.stdout);
    if text.trim().is_empty() {
        return Vec::new();
    }
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{sql}: {error}: {text}"))
}

/// The volumes of a meter in the order in which they were observed.
pub fn volumes(database: &Path, meter: &str) -> Vec<f64> {
    let sql = format!(
        "SELECT s.volume FROM sample s JOIN meter m ON m.id = s.meter_id WHERE m.name = '{meter}' ORDER BY s.timestamp, s.id"
    );
    query(database, &sql)
        .iter()
        .map(|row| row["volume"].as_f64().expect("a number"))
        .collect()
}

/// Seconds since 1970, to be compared with what a database on this machine says.
pub fn wall_clock() -> f64 {
    clock::wall().as_secs_f64()
}

/// The query for when the first `storage_connectivity` of 0 after this moment was stored.
pub fn first_zero_after(since: f64) -> String {
    format!(
        "SELECT min(at) AS at FROM (SELECT (julianday(s.recorded_at) - 2440587.5) * 86400.0 AS at FROM sample s JOIN meter m ON m.id = s.meter_id WHERE m.name = 'storage_connectivity' AND s.volume = 0) WHERE at > {since}"
    )
}
