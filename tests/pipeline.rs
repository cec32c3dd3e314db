//! The pipeline file as a deployer mistypes it: every key, every meter, every sink and every URL's
//! scheme, one slip of the finger at a time. Each is found with its file, its line and the right word.

#![cfg(feature = "agent")]
// The helpers of a test may fail loudly like the tests themselves.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use ceilometer_ha::config::{Problem, Severity};
use ceilometer_ha::pipeline::{self, Against};
use ceilometer_ha::pollsters::{TABLE, known_meters};

/// Every key that the file has, each in a line of its own; so are meters, sinks and publishers.
const WHOLE: &str = "\
---
sources:
    - name: fast_source
      interval: 1
      meters:
          - storage_connectivity
          - storage_gateway.*
      resources:
          - icmp://10.0.0.21?host=compute-1&network=management
      sinks:
          - main_sink
          - second_sink
    - name: slow_source
      interval: 30
      meters:
          - \"!pollster.failed\"
      sinks:
          - main_sink
sinks:
    - name: main_sink
      transformers:
      publishers:
          - udp://127.0.0.1:4953
    - name: second_sink
      publishers:
          - udp://127.0.0.2:4953
";

fn against(strict: bool) -> Against {
    let meters = known_meters(&[]);
    Against {
        meters,
        strict,
        ..Against::default()
    }
}

/// All that is said about a file, and whether it is taken.
fn problems(text: &str, strict: bool) -> (Vec<Problem>, bool) {
    match pipeline::parse(Path::new("p.yaml"), text, &against(strict)) {
        Ok((_, warnings)) => (warnings, true),
        Err(problems) => (problems.iter().cloned().collect(), false),
    }
}

/// Each way to leave one letter out and to swap two neighbours, and some to put one in or to hit a wrong
/// one.
fn slips(word: &str) -> BTreeSet<String> {
    let letters: Vec<char> = word.chars().collect();
    let mut slips = BTreeSet::new();
    let mut keep = |letters: Vec<char>| {
        slips.insert(letters.into_iter().collect::<String>());
    };
    for at in 0..letters.len() {
        let mut left_out = letters.clone();
        left_out.remove(at);
        keep(left_out);
        let mut swapped = letters.clone();
        if at + 1 < letters.len() {
            swapped.swap(at, at + 1);
            keep(swapped);
        }
        if at % 3 == 0 {
            let wrong = ['e', 'x', 's'][at / 3 % 3];
            let mut put_in = letters.clone();
            put_in.insert(at, wrong);
            keep(put_in);
            let mut hit = letters.clone();
            hit[at] = wrong;
            keep(hit);
        }
    }
    slips.remove(word);
    slips
}

/// Whether one letter put in, left out, replaced or swapped with its neighbour makes one of the other.
fn is_one_slip(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    while let ([first, rest @ ..], [other, others @ ..]) = (a, b)
        && first == other
    {
        (a, b) = (rest, others);
    }
    while let ([rest @ .., last], [others @ .., other]) = (a, b)
        && last == other
    {
        (a, b) = (rest, others);
    }
    match (a, b) {
        ([a, b], [c, d]) => (a, b) == (d, c),
        _ => a.len() <= 1 && b.len() <= 1,
    }
}

/// The file with each place where `word` stands behind `before` written differently, and its line.
fn with_slip(text: &str, before: &str, word: &str, slip: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices(&format!("{before}{word}")) {
        let from = at + before.len();
        let until = from + word.len();
        let line = text[..from].matches('\n').count() + 1;
        found.push((format!("{}{slip}{}", &text[..from], &text[until..]), line));
    }
    found
}

/// A slip is told with its line and the right word, and a strict reader refuses the file.
fn check_slip(text: &str, line: usize, slip: &str, meant: &str) {
    let (told, is_taken) = problems(text, true);
    let names = |problem: &&Problem| {
        problem.line == Some(line)
            && problem.file.as_deref() == Some(Path::new("p.yaml"))
            && problem.message.contains(meant)
            && (problem.message.ends_with(meant) || !meant.contains("nearest"))
    };
    let all: Vec<String> = told.iter().map(ToString::to_string).collect();
    assert!(
        told.iter().any(|problem| names(&problem)),
        "{slip} in line {line}: {all:#?}"
    );
    assert!(!is_taken, "{slip} in line {line} is taken even when strict");
}

#[test]
fn the_file_without_slips_is_taken_without_a_word() {
    assert_eq!(problems(WHOLE, true), (vec![], true));
}

#[test]
fn every_misspelt_key_is_found_with_its_line_and_the_right_word() {
    let mut checked = 0;
    for (before, key) in [
        ("\n", "sinks"),
        ("\n", "sources"),
        ("- ", "name"),
        ("  ", "interval"),
        ("  ", "meters"),
        ("  ", "resources"),
        ("      ", "sinks"),
        ("  ", "transformers"),
        ("  ", "publishers"),
    ] {
        for slip in slips(key).iter().filter(|slip| !slip.is_empty()) {
            let all = with_slip(WHOLE, before, &format!("{key}:"), &format!("{slip}:"));
            assert!(!all.is_empty(), "{key}");
            for (text, line) in all {
                check_slip(
                    &text,
                    line,
                    slip,
                    &format!("the nearest known one is {key}"),
                );
                checked += 1;
            }
        }
    }
    assert!(checked > 150, "{checked}");
}

/// Meters of the file, of every namespace, and one of each built-in pollster's.
#[test]
fn every_misspelt_meter_is_found_with_its_line_and_the_right_word() {
    let known: BTreeSet<&str> = TABLE
        .iter()
        .flat_map(|entry| entry.meters)
        .map(|meter| meter.name.as_ref())
        .collect();
    let mut checked = 0;
    for name in known
        .iter()
        .copied()
        .chain(["storage_gateway.*", "host_network.*"])
    {
        for slip in slips(name) {
            // What is as near to another meter may have been meant for that, or is that.
            let is_another = |other: &&str| {
                *other != name && (pipeline::matches(&slip, other) || is_one_slip(&slip, other))
            };
            let is_other_wildcard = name.contains('*') && !slip.ends_with(".*");
            if known.iter().any(is_another) || is_other_wildcard {
                continue;
            }
            let text = WHOLE.replace("storage_connectivity", &slip);
            check_slip(&text, 6, &slip, &format!("the nearest known one is {name}"));
            checked += 1;
        }
    }
    assert!(checked > 1_000, "{checked}");
}

#[test]
fn every_misspelt_sink_is_found_with_its_line_and_the_right_word() {
    for name in ["main_sink", "second_sink"] {
        for slip in slips(name) {
            for (text, line) in with_slip(WHOLE, "          - ", name, &slip) {
                check_slip(
                    &text,
                    line,
                    &slip,
                    &format!("the nearest one there is {name}"),
                );
            }
        }
    }
}

#[test]
fn every_misspelt_scheme_is_found_with_its_line_and_the_right_word() {
    for slip in slips("udp") {
        for (text, line) in with_slip(WHOLE, "- ", "udp://", &format!("{slip}://")) {
            check_slip(
                &text,
                line,
                &slip,
                "expected udp://host:port or notifier://",
            );
        }
    }
    for slip in slips("://").iter().filter(|slip| !slip.contains("://")) {
        for (text, line) in with_slip(WHOLE, "- udp", "://", slip) {
            check_slip(&text, line, slip, "expected udp://host:port or notifier://");
        }
    }
}

/// The shipped file, with each of its own words misspelt once.
#[test]
fn slips_in_the_shipped_file_are_found() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shipped = fs::read_to_string(root.join("pipeline_ha.yaml")).unwrap();
    let quoted = |line: &str| {
        Some(
            line.trim()
                .strip_prefix("- \"")?
                .strip_suffix('"')?
                .to_owned(),
        )
    };
    let meters: Vec<String> = shipped.lines().filter_map(quoted).collect();
    assert!(meters.len() >= 8, "{meters:?}");
    for meter in &meters {
        let slip = meter.replacen('e', "ee", 1);
        for (text, line) in with_slip(
            &shipped,
            "- \"",
            &format!("{meter}\""),
            &format!("{slip}\""),
        ) {
            if !shipped
                .lines()
                .nth(line - 1)
                .unwrap()
                .trim()
                .starts_with('#')
            {
                check_slip(
                    &text,
                    line,
                    &slip,
                    &format!("the nearest known one is {meter}"),
                );
            }
        }
    }
    for (text, line) in with_slip(&shipped, "          - ", "ha_sink", "ha_snik") {
        if !shipped
            .lines()
            .nth(line - 1)
            .unwrap()
            .trim()
            .starts_with('#')
        {
            check_slip(&text, line, "ha_snik", "the nearest one there is ha_sink");
        }
    }
}

/// One of each kind through the program that a deployer runs.
#[test]
fn the_agent_tells_a_slip_by_check_config() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("ha.conf");
    fs::write(
        &config,
        format!("[DEFAULT]\nstate_path = {}\n", folder.path().display()),
    )
    .unwrap();
    let pipeline = folder.path().join("pipeline_ha.yaml");
    for (right, wrong, line, status, told) in [
        (
            "interval: 30",
            "intervall: 30",
            14,
            2,
            "the nearest known one is interval",
        ),
        (
            "transformers:",
            "tranformers:",
            21,
            0,
            "the nearest known one is transformers",
        ),
        (
            "sources:",
            "sorces:",
            2,
            2,
            "the nearest known one is sources",
        ),
        (
            "publishers:",
            "publisher:",
            22,
            2,
            "the nearest known one is publishers",
        ),
        (
            "- storage_connectivity",
            "- storage_conectivity",
            6,
            0,
            "no pollster of this version yields storage_conectivity; the nearest known one is \
             storage_connectivity",
        ),
        (
            "- second_sink",
            "- secnd_sink",
            12,
            2,
            "the nearest one there is second_sink",
        ),
        (
            "udp://127.0.0.1:4953",
            "upd://127.0.0.1:4953",
            23,
            2,
            "the nearest known one is udp",
        ),
        (
            "udp://127.0.0.1:4953",
            "rpc://",
            23,
            2,
            "publishes no rpc to a message broker; notifier:// takes its place",
        ),
    ] {
        fs::write(&pipeline, WHOLE.replacen(right, wrong, 1)).unwrap();
        for strict in [false, true] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_ceilometer-polling-ha"));
            command
                .args(["--check-config", "--config-file"])
                .arg(&config);
            if strict {
                command.arg("--strict");
            }
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            let place = format!("{}:{line}: ", pipeline.display());
            let is_told = |text: &str| text.contains(&place) && text.contains(told);
            assert!(said.lines().any(is_told), "{wrong}: {said}");
            let expected = if strict { 2 } else { status };
            assert_eq!(output.status.code(), Some(expected), "{wrong}: {said}");
        }
    }
}

#[test]
fn what_is_only_odd_is_no_error_even_when_strict() {
    let odd = WHOLE.replace("interval: 1\n", "interval: 0.1\n");
    let (told, is_taken) = problems(&odd, true);
    assert!(is_taken, "{told:?}");
    assert_eq!(told[0].severity, Severity::Warning);
}

/// A file with many slips says so in bounded space, and an error among those that are not told counts.
#[test]
fn a_file_with_a_thousand_slips_is_refused_in_a_hundred_lines() {
    let meters: String = (0..1_000).map(|number| format!("'no{number}', ")).collect();
    let text = WHOLE
        .replace("          - storage_connectivity\n", "")
        .replace(
            "meters:\n          - storage_gateway.*",
            &format!("meters: [{meters}]"),
        )
        .replace("interval: 30", "interval: 0");
    let (told, is_taken) = problems(&text, false);
    assert_eq!((told.len(), is_taken), (101, false));
    let last = told.last().unwrap();
    assert_eq!(last.message, "901 more problems are not told");
    assert_eq!(last.severity, Severity::Error);
}

#[test]
fn more_than_64_sources_sinks_or_publishers_are_refused() {
    let publishers = |count| -> String {
        let url = |number| format!("          - udp://127.0.0.2:{number}\n");
        (1..=count).map(url).collect()
    };
    let with = |count| WHOLE.replace("          - udp://127.0.0.2:4953\n", &publishers(count));
    assert!(problems(&with(64), true).1);
    let (told, is_taken) = problems(&with(65), false);
    assert!(!is_taken);
    assert_eq!(
        told[0].to_string(),
        "p.yaml:25: sink second_sink: publishers: found 65 publishers, expected 64 at most"
    );
}
