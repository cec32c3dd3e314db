//! What it costs to read a configuration: 10,000 lines, most of them comments and options of other
//! services, as a copied `ceilometer.conf` has them, and 10,000 lines of mistakes. oslo.config parses
//! the same file in the same run, as the peer.

// A benchmark is the one kind of program here whose business is to read a clock.
#![allow(clippy::disallowed_methods)]

#[allow(dead_code)] // only the wire's benchmark signs
#[path = "../tests/ceilometer/mod.rs"]
mod ceilometer;

use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

use ceilometer_ha::config::options::OPTIONS;
use ceilometer_ha::config::{ConfigText, Purpose, load};

/// Lines of each file.
const LINES: usize = 10_000;
/// What reading the usual one may cost.
const LIMIT_MS: f64 = 50.0;
/// Runs, of which the median counts.
const RUNS: usize = 9;

fn main() {
    let usual = usual();
    let half: String = usual
        .lines()
        .take(LINES / 2)
        .map(|line| format!("{line}\n"))
        .collect();
    let bytes = usual.len();
    println!("{LINES} lines of configuration, {bytes} bytes, median of {RUNS} runs:");
    let ours = median_ms(&usual);
    println!("load: {ours:.2} ms (limit {LIMIT_MS:.0} ms)");
    println!("half of it: {:.2} ms", median_ms(&half));
    println!(
        "as many lines of misspelt options: {:.2} ms",
        median_ms(&misspelt())
    );
    match peer_ms(&usual) {
        Ok(peer) => println!(
            "oslo.config parses it, without looking at a value, in {peer:.2} ms, {:.1} times ours",
            peer / ours
        ),
        Err(problem) => println!("oslo.config was not measured: {problem}"),
    }
}

/// A block for each option with comments, as the sample generator writes it, between options of other
/// services.
fn usual() -> String {
    let mut lines: Vec<String> = Vec::with_capacity(LINES);
    let mut number = 0;
    while lines.len() < LINES {
        let spec = OPTIONS.get(number % OPTIONS.len());
        let Some(spec) = spec else { break };
        number += 1;
        lines.push(format!("[{}]", spec.group));
        lines.push(format!("# {}", spec.help));
        lines.push("# Deprecated group/name - [DEFAULT]/nothing".to_owned());
        if spec.default.is_empty() {
            lines.push(format!("#{} = <None>", spec.name));
        } else {
            lines.push(format!("{} = {}", spec.name, spec.default));
        }
        lines.push(String::new());
        lines.push("[keystone_authtoken]".to_owned());
        lines.push(format!("option_{number} = a value = of another service"));
        lines.push("    and its second line".to_owned());
    }
    lines.truncate(LINES);
    lines.join("\n")
}

/// The same mistake never twice.
fn misspelt() -> String {
    let names = OPTIONS.iter().cycle().enumerate();
    let lines = names.map(|(number, spec)| format!("{}_{number} = 1", spec.name));
    let lines: Vec<String> = lines.take(LINES).collect();
    format!("[compute]\n{}", lines.join("\n"))
}

/// The median time of one load, in milliseconds.
fn median_ms(text: &str) -> f64 {
    let file = ConfigText {
        path: PathBuf::from("/etc/ceilometer/ceilometer_ha.conf"),
        text: text.to_owned(),
    };
    let mut runs: Vec<f64> = (0..RUNS)
        .map(|_| {
            let files = std::slice::from_ref(&file);
            let start = Instant::now();
            let loaded = load(Purpose::Everything, files, &[], "host", false);
            let elapsed = start.elapsed().as_secs_f64() * 1e3;
            if let Err(problems) = black_box(loaded) {
                println!("not measured, it can't be used:\n{problems}");
            }
            elapsed
        })
        .collect();
    runs.sort_by(f64::total_cmp);
    runs.get(RUNS / 2).copied().unwrap_or(f64::NAN)
}

fn peer_ms(text: &str) -> Result<f64, String> {
    let path = std::env::temp_dir().join(format!("config-bench-{}.conf", std::process::id()));
    std::fs::write(&path, text).map_err(|error| error.to_string())?;
    let shown = path.to_string_lossy().into_owned();
    let answer = ceilometer::run_script("configuration.py", &["time", &shown], "");
    std::fs::remove_file(&path).map_err(|error| error.to_string())?;
    let answer = answer?;
    let seconds = answer
        .as_f64()
        .ok_or(format!("configuration.py said {answer}"))?;
    Ok(seconds * 1e3)
}
