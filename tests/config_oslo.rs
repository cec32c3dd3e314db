//! Our reader of configuration files against oslo.config's: the same files, option by option. What
//! differs on purpose is named here and in docs/options.md, nothing else may.

// A test's helpers may fail as the test itself may.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code)] // only the wire's tests sign
#[path = "ceilometer/mod.rs"]
mod ceilometer;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ceilometer_ha::config::options::{self, Kind, OPTIONS, OptionSpec};
use ceilometer_ha::config::{ConfigText, Loaded, Problems, Purpose, foreign, load};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value as Json, json};

/// Generated cases; each is one start of oslo.config inside one process.
const GENERATED: usize = 200;

/// Files that lie upon each other, and the environment above them.
#[derive(Debug, Clone)]
struct Case {
    name: String,
    files: Vec<String>,
    environment: Vec<(String, String)>,
}

/// The type that oslo.config knows an option of ours as.
fn kind(spec: &OptionSpec) -> &'static str {
    match spec.kind {
        Kind::Bool => "bool",
        Kind::Int { .. } => "int",
        Kind::Float { .. } | Kind::Seconds { .. } => "float",
        Kind::Choices(_) | Kind::List | Kind::Hosts | Kind::Sources | Kind::Tags => "list",
        Kind::Multi(_) | Kind::Plugins => "multi",
        Kind::Text
        | Kind::Secret
        | Kind::Connection
        | Kind::Path
        | Kind::File
        | Kind::Interface
        | Kind::Choice(_)
        | Kind::Command
        | Kind::Address
        | Kind::Listen
        | Kind::Quorum => "text",
    }
}

fn described(spec: &OptionSpec) -> Json {
    let (least, most) = match spec.kind {
        Kind::Int { least, most } => (json!(least), json!(most)),
        Kind::Float { least, most } | Kind::Seconds { least, most } => (json!(least), json!(most)),
        _ => (Json::Null, Json::Null),
    };
    json!({
        "group": spec.group, "name": spec.name, "kind": kind(spec), "default": spec.default,
        "deprecated": spec.deprecated, "least": least, "most": most,
    })
}

/// Writes the cases into a folder and lets oslo.config read them.
fn oslo(folder: &Path, cases: &[Case]) -> Vec<Json> {
    let described: Vec<Json> = OPTIONS.iter().map(described).collect();
    let cases: Vec<Json> = cases
        .iter()
        .enumerate()
        .map(|(number, case)| {
            let files = case.files.iter().enumerate().map(|(layer, text)| {
                let path = path_of(folder, number, layer);
                fs::write(&path, text).unwrap();
                path
            });
            let environment: BTreeMap<_, _> = case.environment.iter().cloned().collect();
            json!({"files": files.collect::<Vec<_>>(), "environment": environment})
        })
        .collect();
    let asked = json!({"options": described, "cases": cases}).to_string();
    let answer = ceilometer::run_script("configuration.py", &["read"], &asked)
        .unwrap_or_else(|problem| panic!("{problem}"));
    serde_json::from_value(answer).unwrap()
}

fn path_of(folder: &Path, number: usize, layer: usize) -> PathBuf {
    folder.join(format!("{number}.{layer}.conf"))
}

fn ours(folder: &Path, number: usize, case: &Case) -> Result<Loaded, Problems> {
    let texts: Vec<ConfigText> = case
        .files
        .iter()
        .enumerate()
        .map(|(layer, text)| ConfigText {
            path: path_of(folder, number, layer),
            text: text.clone(),
        })
        .collect();
    load(
        Purpose::Everything,
        &texts,
        &case.environment,
        "node",
        false,
    )
}

/// oslo.config's value as ours is written, with what we make of it on purpose: empty items of lists are
/// left out, paths start at their file, addresses have one spelling.
fn as_ours(spec: &OptionSpec, value: &Json, folder: &Path) -> Vec<String> {
    let text = |value: &Json| match value {
        Json::String(text) => text.clone(),
        Json::Number(number) => number.as_f64().unwrap().to_string(),
        other => other.to_string(),
    };
    let text_value = text(value);
    let in_folder = |path: &str| folder.join(path).to_string_lossy().into_owned();
    match (spec.kind, value) {
        (Kind::Plugins, Json::Array(items)) => items.iter().map(text).collect(),
        (Kind::Multi(_), Json::Array(items)) => items.last().map(text).into_iter().collect(),
        (kind, Json::Array(items)) => {
            let items: Vec<String> = items
                .iter()
                .map(text)
                .filter(|item| !item.is_empty())
                .collect();
            let joined = items.join(", ");
            vec![match kind {
                Kind::Hosts | Kind::Sources => joined.replace(['[', ']'], "").to_lowercase(),
                _ => joined,
            }]
        }
        (Kind::Path, _) => vec![in_folder(&text_value)],
        (Kind::File, _) if !text_value.is_empty() => vec![in_folder(&text_value)],
        (Kind::Connection, _) => {
            let path = text_value.strip_prefix("sqlite:///").unwrap_or(&text_value);
            vec![format!("sqlite:///{}", in_folder(path))]
        }
        _ => vec![
            text_value
                .strip_prefix('\n')
                .unwrap_or(&text_value)
                .to_owned(),
        ],
    }
}

fn compare(case: &Case, number: usize, folder: &Path, theirs: &Json) {
    let loaded = match ours(folder, number, case) {
        Ok(loaded) => loaded,
        Err(problems) => panic!("{problems}\n{case:#?}"),
    };
    let mut set: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for option in &loaded.options {
        let name = format!("{}.{}", option.spec.group, option.spec.name);
        let values = set.entry(name).or_default();
        values.push(option.value.expose().to_owned());
    }
    for spec in OPTIONS {
        let name = format!("{}.{}", spec.group, spec.name);
        let their = &theirs[&name];
        assert!(their.get("error").is_none(), "{name}: {their} {case:#?}");
        let their = their.get("value").map(|value| as_ours(spec, value, folder));
        assert_eq!(set.get(&name), their.as_ref(), "{name}: {case:#?}");
    }
}

/// Compares all cases that both can read.
fn compare_all(cases: &[Case]) {
    let folder = tempfile::tempdir().unwrap();
    let answers = oslo(folder.path(), cases);
    assert_eq!(answers.len(), cases.len());
    for (number, (case, theirs)) in cases.iter().zip(&answers).enumerate() {
        compare(case, number, folder.path(), theirs);
    }
}

fn fixtures(folder: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/config/oslo")
        .join(folder);
    let mut files: Vec<(String, String)> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

// ------------------------------------------------------------------ odd files

#[test]
fn odd_files_have_the_same_values() {
    let one = |(name, text): (String, String)| Case {
        name,
        files: vec![text],
        environment: Vec::new(),
    };
    let mut cases: Vec<Case> = fixtures("same").into_iter().map(one).collect();
    assert!(cases.len() >= 5);
    // All of them upon each other, in both orders.
    let mut all: Vec<String> = cases.iter().map(|case| case.files[0].clone()).collect();
    for name in ["all", "all the other way round"] {
        cases.push(Case {
            name: name.to_owned(),
            files: all.clone(),
            environment: vec![("OS_COMPUTE__PING_COUNT".into(), "9".into())],
        });
        all.reverse();
    }
    compare_all(&cases);
}

#[test]
fn what_oslo_config_refuses_is_an_error_here_too() {
    let cases: Vec<Case> = fixtures("refused")
        .into_iter()
        .map(|(name, text)| Case {
            name,
            files: vec![text],
            environment: Vec::new(),
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    for (number, (case, theirs)) in cases.iter().zip(oslo(folder.path(), &cases)).enumerate() {
        let refused = theirs.get("parse_error").is_some()
            || theirs
                .as_object()
                .unwrap()
                .values()
                .any(|value| value.get("error").is_some());
        assert!(refused, "oslo.config reads {}: {theirs:#}", case.name);
        let problems = ours(folder.path(), number, case).unwrap_err();
        assert!(problems.errors().count() > 0, "{}", case.name);
    }
}

/// What differs on purpose, each with what oslo.config makes of it. docs/options.md has the same list.
#[test]
fn the_differences_are_those_that_are_documented() {
    let cases: Vec<Case> = DIFFERENCES
        .iter()
        .map(|difference| Case {
            name: difference.what.to_owned(),
            files: vec![difference.file.to_owned()],
            environment: difference
                .environment
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/options.md");
    let document = fs::read_to_string(document).unwrap();
    for (number, (case, theirs)) in cases.iter().zip(oslo(folder.path(), &cases)).enumerate() {
        let difference = &DIFFERENCES[number];
        let of_option = theirs.get(difference.option).unwrap_or(&theirs);
        assert_eq!(
            of_option
                .to_string()
                .replace(&folder.path().display().to_string(), ""),
            difference.theirs,
            "{}",
            case.name
        );
        let our = match ours(folder.path(), number, case) {
            Ok(loaded) => loaded
                .options
                .iter()
                .find(|set| format!("{}.{}", set.spec.group, set.spec.name) == difference.option)
                .map_or_else(
                    || "unset".to_owned(),
                    |set| {
                        set.value
                            .expose()
                            .replace(&folder.path().display().to_string(), "")
                    },
                ),
            Err(problems) => problems
                .errors()
                .map(|problem| problem.message.clone())
                .collect(),
        };
        assert_eq!(our, difference.ours, "{}", case.name);
        assert!(
            document.contains(&format!("- {}", difference.what)),
            "docs/options.md doesn't say: {}",
            difference.what
        );
    }
}

struct Difference {
    /// The beginning of its line in docs/options.md.
    what: &'static str,
    file: &'static str,
    environment: &'static [(&'static str, &'static str)],
    option: &'static str,
    theirs: &'static str,
    ours: &'static str,
}

const DIFFERENCES: &[Difference] = &[
    Difference {
        what: "`[DEAFULT]`",
        file: "[DEAFULT]\nhost = a\n",
        environment: &[],
        option: "DEFAULT.host",
        theirs: "{}",
        ours: "a",
    },
    Difference {
        what: "A byte order mark",
        file: "\u{feff}[DEFAULT]\nhost = a\n",
        environment: &[],
        option: "DEFAULT.host",
        theirs: "{\"parse_error\":\"Failed to parse /1.0.conf: at /1.0.conf:1, No ':' or '=' found in assignment: '\\\\ufeff[DEFAULT]'\"}",
        ours: "a",
    },
    Difference {
        what: "`$DEFAULT.option`",
        file: "[DEFAULT]\nhost = a\n[compute]\ncluster = $DEFAULT.host\n",
        environment: &[],
        option: "compute.cluster",
        theirs: "{\"error\":\"NoSuchGroupError: no such group [DEFAULT]\"}",
        ours: "a",
    },
    Difference {
        what: "Relative paths",
        file: "[DEFAULT]\nstate_path = x\n",
        environment: &[],
        option: "DEFAULT.state_path",
        theirs: "{\"value\":\"x\"}",
        ours: "/x",
    },
    Difference {
        what: "Empty items",
        file: "[DEFAULT]\nreserved_metadata_keys = a,, b,\n",
        environment: &[],
        option: "DEFAULT.reserved_metadata_keys",
        theirs: "{\"value\":[\"a\",\"\",\"b\"]}",
        ours: "a, b",
    },
    Difference {
        what: "A value of several lines",
        file: "[compute]\ncluster = a\n  # b\n",
        environment: &[],
        option: "compute.cluster",
        theirs: "{\"value\":\"a\\n# b\"}",
        ours: "found \"a\\n# b\", expected one line; indented lines continue the value",
    },
    Difference {
        what: "An empty number",
        file: "[compute]\nping_count =\n",
        environment: &[],
        option: "compute.ping_count",
        theirs: "{\"value\":null}",
        ours: "found nothing, expected a whole number from 1 to 100",
    },
    Difference {
        what: "Numbers with `_`",
        file: "[collector]\nbatch_size = 1_0\n",
        environment: &[],
        option: "collector.batch_size",
        theirs: "{\"value\":10}",
        ours: "found \"1_0\", expected a whole number from 1 to 10000",
    },
    Difference {
        what: "A reference to a list",
        file: "[DEFAULT]\nreserved_metadata_keys = a, b\nhost = $reserved_metadata_keys\n",
        environment: &[],
        option: "DEFAULT.host",
        theirs: "{\"value\":\"['a', 'b']\"}",
        ours: "a, b",
    },
    Difference {
        what: "A variable for an option with several values",
        file: "[DEFAULT]\nmeter_dispatchers = database\n",
        environment: &[("OS_DEFAULT__METER_DISPATCHERS", "database")],
        option: "DEFAULT.meter_dispatchers",
        theirs: "{\"value\":[\"d\",\"a\",\"t\",\"a\",\"b\",\"a\",\"s\",\"e\"]}",
        ours: "database",
    },
    Difference {
        what: "A variable by an older name",
        file: "",
        environment: &[("OS_DEFAULT__COUNTER_SOURCE", "a")],
        option: "DEFAULT.sample_source",
        theirs: "{}",
        ours: "a",
    },
];

// ------------------------------------------------------------------ generated files

/// A value that this option takes, in one of the ways of writing it.
fn a_value(spec: &'static OptionSpec) -> BoxedStrategy<String> {
    let word = "[a-z][a-z0-9_.#;=: /-]{0,12}[a-z0-9]";
    match spec.kind {
        // What others refer to refers to nothing, or there would be circles; and a user needs a name.
        Kind::Text if matches!(spec.name, "host" | "sample_source" | "cluster" | "user") => {
            word.boxed()
        }
        Kind::Text if spec.name == "rabbit_host" => "[a-z]{1,6}".boxed(),
        Kind::Text => prop_oneof![
            word.boxed(),
            Just("$host x".to_owned()),
            Just("${sample_source}s".to_owned()),
            Just("a$$b\\$c$".to_owned()),
            Just("$compute.cluster-$collector.udp_port".to_owned()),
            Just("\"a b\"".to_owned()),
            Just("'".to_owned()),
            Just("$debug, $compute.ping_count $compute.ping_interval".to_owned()),
        ]
        .boxed(),
        Kind::Secret if spec.name == "transport_url" => {
            "rabbit://[a-z]{1,4}:[a-z0-9=;]{1,9}@[a-z]{1,4}:[1-9][0-9]{3}/[a-z]{0,4}".boxed()
        }
        Kind::Secret => "[a-z0-9 #=:;]{1,30}".boxed(),
        Kind::Bool => {
            let words = [
                "true", "True", "1", "on", "YES", "false", "FALSE", "0", "off", "no",
            ];
            prop::sample::select(words.to_vec())
                .prop_map(str::to_owned)
                .boxed()
        }
        Kind::Int { least, most } => {
            let number = least.max(-5)..=most.min(90_000);
            (number, any::<bool>())
                .prop_map(|(n, plus)| {
                    if plus && n >= 0 {
                        format!("+{n}")
                    } else {
                        format!("0{n}").replace("0-", "-0")
                    }
                })
                .boxed()
        }
        Kind::Float { least, most } | Kind::Seconds { least, most } => (least..=most.min(50.0))
            .prop_map(|number| format!("{number:.3}"))
            .prop_filter("in range", move |text| {
                text.parse().is_ok_and(|n: f64| (least..=most).contains(&n))
            })
            .boxed(),
        Kind::Choice(words) | Kind::Multi(words) => prop::sample::select(words.to_vec())
            .prop_map(str::to_owned)
            .boxed(),
        Kind::Choices(words) => prop::sample::subsequence(words.to_vec(), 1..=words.len())
            .prop_map(|words| words.join(" , "))
            .boxed(),
        Kind::List if spec.name == "rabbit_hosts" => {
            prop::sample::select(vec!["mq1, mq2:5673", "[fd00::1]:5671", "10.0.0.1:5672"])
                .prop_map(str::to_owned)
                .boxed()
        }
        Kind::List => prop::collection::vec("[a-z.]{1,6}", 0..4)
            .prop_map(|words| words.join(",\n   "))
            .boxed(),
        Kind::Hosts => {
            prop::sample::select(vec!["10.0.0.1, gw", "[fd00::1]", "gw-1.x,\n\t10.0.0.2"])
                .prop_map(str::to_owned)
                .boxed()
        }
        Kind::Sources => Just("10.0.0.1, fd00::1".to_owned()).boxed(),
        Kind::Tags => Just("a:b, c:d".to_owned()).boxed(),
        // One of the two without the other is an error.
        Kind::File if matches!(spec.name, "ssl_cert_file" | "ssl_key_file") => {
            Just(String::new()).boxed()
        }
        Kind::Path | Kind::File => "(/[a-z]{1,4}){1,3}".boxed(),
        Kind::Connection => "sqlite:////[a-z]{1,4}/[a-z]{1,4}".boxed(),
        Kind::Interface => "[a-z]{1,4}[0-9]".boxed(),
        Kind::Address => Just("10.0.0.1".to_owned()).boxed(),
        Kind::Listen => "127\\.0\\.0\\.1:[1-9][0-9]{3}".boxed(),
        Kind::Quorum => prop::sample::select(vec!["any", "all"])
            .prop_map(str::to_owned)
            .boxed(),
        Kind::Command => "[a-z]{1,6}( -[a-z]){0,3}".boxed(),
        Kind::Plugins => "x[a-z]{6} (nagios|json) /[a-z]{1,6}( -[a-z]){0,2}".boxed(),
    }
}

/// A line or two that say it, under a name that the option has or had.
fn an_assignment() -> impl Strategy<Value = (String, String)> {
    // A plug-in's name must be another each time, which repeated files would not keep to, and proofs
    // are not required without keys.
    let settable: Vec<&'static OptionSpec> = OPTIONS
        .iter()
        .filter(|spec| {
            spec.kind != Kind::Plugins
                && !matches!(
                    spec.name,
                    "telemetry_secret_file"
                        | "connection_file"
                        | "transport_url_file"
                        | "require_proof"
                )
        })
        .collect();
    prop::sample::select(settable)
        .prop_flat_map(|spec| {
            let mut names = vec![(spec.group, spec.name); 3];
            names.extend(spec.deprecated);
            let separator = prop::sample::select(vec![" = ", "=", ": ", " :", "="]);
            (prop::sample::select(names), separator, a_value(spec))
        })
        .prop_map(|((group, name), separator, value)| {
            let value = value.replace("\n", "\n ");
            (group.to_owned(), format!("{name}{separator}{value}"))
        })
}

fn a_file() -> impl Strategy<Value = String> {
    let noise = prop::sample::select(vec!["", "# a = b", "; [x]", "   "]);
    let case = prop::sample::select(vec![false, false, true]);
    prop::collection::vec((an_assignment(), noise, case), 0..12).prop_map(|lines| {
        let mut text = String::new();
        for ((group, line), noise, upper) in lines {
            let group = if upper { group.to_uppercase() } else { group };
            text.push_str(&format!("[{group}]\n{noise}\n{line}\n"));
        }
        text
    })
}

#[test]
fn generated_files_have_the_same_values() {
    let mut runner = TestRunner::deterministic();
    let variable = prop::sample::select(vec![
        ("OS_COMPUTE__PING_COUNT", "7"),
        ("OS_DEFAULT__DEBUG", "on"),
        ("OS_DATABASE__CONNECTION", "sqlite:////env"),
        ("OS_DEFAULT__HOST", "$sample_source"),
    ]);
    let strategy = (
        prop::collection::vec(a_file(), 1..4),
        prop::collection::vec(variable, 0..2),
    );
    let cases: Vec<Case> = (0..GENERATED)
        .map(|number| {
            let (files, environment) = strategy.new_tree(&mut runner).unwrap().current();
            Case {
                name: format!("generated {number}"),
                files,
                environment: environment
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect(),
            }
        })
        .collect();
    compare_all(&cases);
}

// ------------------------------------------------------------------ whole files of others

/// Every option that the installed Ceilometer and its libraries register, in one file.
#[test]
fn a_whole_ceilometer_conf_earns_no_false_warning() {
    let answer = ceilometer::run_script("configuration.py", &["registered"], "")
        .unwrap_or_else(|problem| panic!("{problem}"));
    let registered: Vec<(String, String)> = serde_json::from_value(answer).unwrap();
    assert!(registered.len() > 200, "{}", registered.len());
    let mut unknown = Vec::new();
    for (group, name) in &registered {
        let is_ours =
            options::find(group, name).is_some() || options::find_deprecated(group, name).is_some();
        if !is_ours && !foreign::is_option(group, name) {
            unknown.push(format!("[{group}] {name}"));
        }
    }
    assert_eq!(unknown, Vec::<String>::new());
}
