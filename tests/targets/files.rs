//! Files that people wrote: the configuration, the pipeline, the list of hosts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ceilometer_ha::config::{self, ConfigText, Problem, Problems, Purpose, Severity};
use ceilometer_ha::pipeline::{self, Against, Pipeline};
use ceilometer_ha::pollsters::hosts::list::{ADDRESSES_MAX, List, Target};
use ceilometer_ha::pollsters::known_meters;

/// Stands where a secret does, and in no message.
const SECRET: &str = "hunter2hunter2hunter2";

/// Zero bytes divide files from each other and from the environment, whose lines are `NAME=value`.
/// The same files are read with and without `--strict`.
pub(super) fn ini(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut parts = text.split('\0');
    let first = parts.next().unwrap_or_default();
    let second = parts.next().unwrap_or_default();
    let environment: Vec<(String, String)> = parts
        .next()
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let secret = format!(
        "[publisher]\ntelemetry_secret = {SECRET}\n[database]\nconnection = mysql://u:{SECRET}@h/d\n\
         [ipmi]\ncommand = ipmitool -P {SECRET}\n[plugins]\npollster = raid nagios /x {SECRET}\n"
    );
    let files: Vec<ConfigText> = [
        ("secret.conf", secret.as_str()),
        ("a.conf", first),
        ("b.conf", second),
    ]
    .map(|(path, text)| ConfigText {
        path: PathBuf::from(path),
        text: text.to_owned(),
    })
    .into();
    // Whoever writes the secret into the other files as well may find it there.
    let is_told = text.contains("hunter");
    let load = |strict| config::load(Purpose::Agent, &files, &environment, "node-1", strict);
    let (strict, lax) = (load(true), load(false));
    assert!(
        strict.is_err() || lax.is_ok(),
        "strict takes what is refused otherwise"
    );
    for outcome in [&strict, &lax] {
        for problem in outcome_problems(outcome.as_ref().map(|loaded| &loaded.warnings[..])) {
            assert!(
                is_told || !problem.to_string().contains("hunter"),
                "{problem}"
            );
            check_place(problem, &files);
        }
        if let Ok(loaded) = outcome {
            // Whoever puts a secret into another option by `$` wants it there.
            assert!(is_told || text.contains('$') || !format!("{loaded:?}").contains("hunter"));
        }
    }
}

/// What a pipeline file says, or all that is wrong with it. The same text once more as the rest of a
/// publisher's URL with a password.
pub(super) fn yaml(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let file = ConfigText {
        path: PathBuf::from("p.yaml"),
        text: text.clone().into_owned(),
    };
    let outcome = pipeline::parse(&file.path, &text, &against(true));
    let is_read = matches!(&outcome, Ok((pipeline, _)) if is_whole(pipeline));
    assert!(is_read || outcome.is_err());
    let problems = outcome_problems(outcome.as_ref().map(|(_, warnings)| &warnings[..]));
    for problem in problems {
        assert!(problem.line.is_some(), "{problem}");
        check_place(problem, std::slice::from_ref(&file));
    }
    check_url(&text);
}

fn against(strict: bool) -> Against {
    let meters = known_meters(&[]);
    Against {
        meters,
        strict,
        topic: "metering_ha".to_owned(),
    }
}

fn check_url(rest: &str) {
    let rest: String = rest.chars().take(200).collect();
    let (before, after) = rest.split_once('@').unwrap_or((&rest, ""));
    for scheme in ["udp", "gnocchi", "upd"] {
        let url = format!("{scheme}://{before}:{SECRET}@{after}");
        let quoted = url.replace('\'', "''").replace(char::is_control, "");
        let text = format!(
            "sources: []\nsinks:\n    - name: a\n      publishers:\n          - '{quoted}'\n"
        );
        if let Err(problems) = pipeline::parse(Path::new("p.yaml"), &text, &against(false)) {
            assert!(
                rest.contains("hunter") || !problems.to_string().contains("hunter"),
                "{problems}"
            );
        }
    }
}

/// What a checked pipeline promises.
fn is_whole(pipeline: &Pipeline) -> bool {
    let day = Duration::from_secs(86_400);
    let has_one_name = |names: Vec<&String>| {
        let mut sorted = names.clone();
        sorted.sort();
        sorted.dedup();
        sorted.len() == names.len() && names.iter().all(|name| !name.is_empty())
    };
    let sinks: Vec<&String> = pipeline.sinks.iter().map(|sink| &sink.name).collect();
    let sources = pipeline.sources.iter();
    has_one_name(sinks.clone())
        && has_one_name(sources.clone().map(|source| &source.name).collect())
        && sources.clone().all(|source| {
            !source.interval.is_zero()
                && source.interval <= day
                && !source.sinks.is_empty()
                && source.sinks.iter().all(|sink| sinks.contains(&sink))
                && source.meters.meter_names().next().is_some()
        })
        && pipeline.sinks.iter().all(|sink| {
            let paths = sink.publishers.iter();
            let mut paths: Vec<&str> = paths.map(|publisher| publisher.path()).collect();
            let count = paths.len();
            paths.sort_unstable();
            paths.dedup();
            count > 0 && paths.len() == count
        })
}

/// A list of hosts; what is accepted reads back from its own spelling.
pub(super) fn hosts_file(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let file = ConfigText {
        path: PathBuf::from("hosts"),
        text: text.clone().into_owned(),
    };
    let mut list = List::default();
    for problem in list.read_file(&file.path, &text) {
        assert!(problem.line.is_some());
        check_place(&problem, std::slice::from_ref(&file));
    }
    assert!(list.targets().count() <= ADDRESSES_MAX);
    for target in list.targets() {
        assert_eq!(Target::from_url(&target.to_string()).as_ref(), Ok(target));
    }
    let urls: Vec<String> = text.lines().map(str::to_owned).collect();
    list.read_resources(&file.path, "a", &urls);
}

/// The problems of an outcome: harmless ones beside a result, and at least one that is not beside none.
fn outcome_problems<'p>(outcome: Result<&'p [Problem], &'p Problems>) -> Vec<&'p Problem> {
    match outcome {
        Ok(warnings) => {
            let mut warnings = warnings.iter();
            assert!(
                warnings
                    .clone()
                    .all(|problem| problem.severity < Severity::Error)
            );
            warnings.by_ref().collect()
        }
        Err(problems) => {
            assert!(problems.errors().count() > 0);
            problems.iter().collect()
        }
    }
}

/// A problem is told in one line, and is in a line that its file has.
fn check_place(problem: &Problem, files: &[ConfigText]) {
    let is_one_line = !problem.to_string().contains(char::is_control);
    assert!(is_one_line, "{:?}", problem.to_string());
    let (Some(path), Some(line)) = (&problem.file, problem.line) else {
        return;
    };
    let file = files.iter().find(|file| file.path == *path).unwrap();
    let lines = file.text.replace("\r\n", "\n").replace('\r', "\n");
    let count = lines.split('\n').count();
    assert!((1..=count).contains(&line), "{problem}: of {count} lines");
}
