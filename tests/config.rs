//! Configuration as a deployer meets it: the shipped samples, the original deployment's files, and
//! files that are wrong or odd, each beside the exact words that it earns.

#![cfg(feature = "agent")]
// The helpers of a test may fail loudly like the tests themselves.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ceilometer_ha::config::options::{self, Effect, Kind, OPTIONS};
use ceilometer_ha::config::{
    ConfigText, Connection, Loaded, Namespace, PluginFormat, Problem, Problems, Purpose, Quorum,
    Settings, Severity, load,
};
use ceilometer_ha::model::Secret;
use ceilometer_ha::pipeline::{self, Against, Pipeline};
use ceilometer_ha::pollsters::known_meters;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn fixture(name: &str) -> String {
    let path = root().join("tests/fixtures/config").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn text(path: &str, text: &str) -> ConfigText {
    ConfigText {
        path: PathBuf::from(path),
        text: text.to_owned(),
    }
}

fn load_one(content: &str) -> Result<Loaded, Problems> {
    load(
        Purpose::Everything,
        &[text("/etc/ha/ha.conf", content)],
        &[],
        "node-1",
        false,
    )
}

fn settings(content: &str) -> Settings {
    load_one(content)
        .unwrap_or_else(|problems| panic!("{content}\n{problems}"))
        .settings
}

/// A pipeline as an agent without plug-ins reads it.
fn parse(path: &Path, text: &str, strict: bool) -> Result<(Pipeline, Vec<Problem>), Problems> {
    let meters = known_meters(&[]);
    pipeline::parse(
        path,
        text,
        &Against {
            meters,
            strict,
            topic: "metering_ha".to_owned(),
        },
    )
}

fn lines<'a>(problems: impl IntoIterator<Item = &'a Problem>) -> String {
    problems
        .into_iter()
        .map(|problem| format!("{}: {problem}\n", problem.severity))
        .collect()
}

// ------------------------------------------------------------------ the shipped samples

fn shipped(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

#[test]
fn the_shipped_configuration_loads_without_a_word_even_when_strict() {
    let sample = shipped("ceilometer_ha.conf");
    let files = [text("/etc/ceilometer/ceilometer_ha.conf", &sample)];
    let loaded = load(Purpose::Everything, &files, &[], "node-1", true).unwrap();
    assert_eq!(lines(&loaded.warnings), "");
    let settings = loaded.settings;
    assert_eq!(settings.compute.gateways, ["127.0.0.1", "127.0.0.2"]);
    assert_eq!(settings.telemetry_secret, None);
    assert_eq!(
        settings.pipeline_cfg_file,
        Path::new("/etc/ceilometer/pipeline_ha.yaml")
    );
    assert_eq!(
        settings.database.connection,
        Secret::new("sqlite:////var/lib/ceilometer-ha/ceilometer_ha.sqlite")
    );
}

#[test]
fn the_shipped_configuration_shows_every_option_with_its_true_default() {
    let sample = shipped("ceilometer_ha.conf");
    let mut section = "";
    let mut shown = Vec::new();
    for line in sample.lines() {
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']');
        }
        let line = line.strip_prefix('#').unwrap_or(line);
        let Some((name, value)) = line.split_once(" =") else {
            continue;
        };
        let Some(spec) = options::find(section, name) else {
            assert!(name.contains(' '), "[{section}] {name} is no option");
            continue;
        };
        if !spec.default.is_empty() {
            assert_eq!(value.trim(), spec.default, "[{section}] {name}");
        }
        shown.push((spec.group, spec.name));
    }
    for spec in OPTIONS.iter().filter(|spec| spec.effect == Effect::Read) {
        let hidden = spec.name == "sample_source" || spec.name == "meter_dispatchers";
        let count = shown
            .iter()
            .filter(|name| **name == (spec.group, spec.name))
            .count();
        assert_eq!(
            count,
            usize::from(!hidden),
            "[{}] {}",
            spec.group,
            spec.name
        );
    }
}

#[test]
fn the_shipped_pipeline_loads_without_a_word() {
    let sample = shipped("pipeline_ha.yaml");
    let (pipeline, warnings) = parse(Path::new("pipeline_ha.yaml"), &sample, true).unwrap();
    assert_eq!(lines(&warnings), "");
    let [fast, slow] = &pipeline.sources[..] else {
        panic!("{pipeline:?}")
    };
    assert_eq!(fast.interval, Duration::from_secs(1));
    assert_eq!(slow.interval, Duration::from_secs(30));
    for meter in [
        "storage_connectivity",
        "storage_gateway.loss_ratio",
        "storage_gateway.rtt",
        "storage_gateway.status",
        "compute.heartbeat",
        "hypervisor.connectivity",
    ] {
        assert!(fast.meters.wants(meter), "{meter}");
    }
    for meter in [
        "instance.state",
        "instance.round",
        "instance",
        "power.state",
    ] {
        assert!(
            slow.meters.wants(meter) && !fast.meters.wants(meter),
            "{meter}"
        );
    }
    assert!(!slow.meters.wants("cpu"), "statistics are opt-in");
    assert_eq!(paths(&pipeline), ["udp://127.0.0.1:4953"]);
}

fn paths(pipeline: &Pipeline) -> Vec<&str> {
    pipeline
        .sinks
        .iter()
        .flat_map(|sink| &sink.publishers)
        .map(|publisher| publisher.path())
        .collect()
}

// ------------------------------------------------------------------ the original deployment

/// A file as it was published, with its secret, which is an error unless it is allowed.
fn load_original(name: &str) -> Loaded {
    let original = fixture(name);
    let problems = load_one(&original).unwrap_err().to_string();
    assert!(
        problems.contains("was published with a configuration"),
        "{problems}"
    );
    let allowed = (
        "OS_PUBLISHER__ALLOW_WEAK_SECRET".to_owned(),
        "true".to_owned(),
    );
    let files = [text("/etc/ha/ha.conf", &original)];
    load(Purpose::Everything, &files, &[allowed], "node-1", false).unwrap()
}

#[test]
fn the_original_agents_file_works_unchanged_but_for_its_secret() {
    let loaded = load_original("original_agent.conf");
    let warnings: Vec<_> = loaded
        .warnings
        .iter()
        .filter(|problem| problem.severity == Severity::Warning)
        .collect();
    assert_eq!(
        lines(warnings),
        "warning: /etc/ha/ha.conf:1: [DEAFULT]: unknown section, read as [DEFAULT]; correct the \
         header\n\
         warning: /etc/ha/ha.conf:45: [publisher] telemetry_secret: found a secret that was published \
         with a configuration, which anybody may know; make one with `openssl rand -hex 24`\n"
    );
    let settings = loaded.settings;
    assert_eq!(settings.host, "node-1");
    assert_eq!(settings.polling_namespaces, [Namespace::Compute]);
    assert!(settings.log.verbose && !settings.log.debug && !settings.log.use_stderr);
    assert_eq!(settings.compute.gateways, ["192.168.0.10", "192.168.0.20"]);
    assert_eq!(settings.compute.ping_count, 4);
    assert_eq!(settings.compute.accepted_loss, 0.5);
    assert_eq!(settings.compute.quorum, Quorum::Any);
    assert_eq!(
        settings.telemetry_secret,
        Some(Secret::new("nmWpu7Pu8DDWhQ3oPaBpVQjn"))
    );
}

#[test]
fn the_original_collectors_file_works_unchanged_but_for_its_secret() {
    let settings = load_original("original_collector.conf").settings;
    assert_eq!(settings.collector.udp_port, 4953);
    assert_eq!(settings.collector.udp_address, "0.0.0.0".parse().ok());
    assert_eq!(settings.database.retention, Some(Duration::from_secs(1800)));
    let Ok(Connection::Mysql(mysql)) = Connection::parse(settings.database.connection.expose())
    else {
        panic!("{}", settings.database.shown());
    };
    assert_eq!(mysql.database, "ceilometer");
}

#[test]
fn an_agent_takes_a_copy_of_a_controllers_file_whatever_its_database() {
    let text = text(
        "/etc/ha/ha.conf",
        "[database]\nconnection = oracle://u:hunter2@h/d\n",
    );
    let loaded = load(Purpose::Agent, &[text], &[], "node-1", false).unwrap();
    assert!(
        lines(loaded.warnings.iter()).contains("warning: /etc/ha/ha.conf:2: [database] connection")
    );
}

#[test]
fn the_original_pipeline_works_unchanged() {
    let yaml = fixture("original_pipeline.yaml");
    let (pipeline, warnings) = parse(Path::new("pipeline_ha.yaml"), &yaml, true).unwrap();
    assert_eq!(lines(&warnings), "");
    let [source] = &pipeline.sources[..] else {
        panic!("{pipeline:?}")
    };
    assert_eq!(source.name, "ha_source");
    assert_eq!(source.interval, Duration::from_secs(30));
    assert_eq!(source.sinks, ["ha_sink"]);
    assert!(source.meters.wants("storage_connectivity"));
    assert!(!source.meters.wants("compute.heartbeat"));
    assert!(!source.meters.excludes_by_name("pollster.failed"));
    assert_eq!(
        source.meters.meter_names().collect::<Vec<_>>(),
        ["storage_connectivity"]
    );
    assert_eq!(
        paths(&pipeline),
        ["udp://192.168.0.6:4953", "udp://10.20.0.6:4953"]
    );
}

// ------------------------------------------------------------------ what is wrong or odd

/// Every file in a folder beside the words it earns. `BLESS=1` writes those words anew, to be read
/// before they are committed.
fn check_folder(folder: &str, loads: bool) {
    let folder = root().join("tests/fixtures/config").join(folder);
    let mut checked = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap();
        let (found, loaded) = words(name, &String::from_utf8_lossy(&fs::read(&path).unwrap()));
        let beside = path.with_file_name(format!("{name}.txt"));
        if std::env::var_os("BLESS").is_some() {
            fs::write(&beside, &found).unwrap();
        }
        let expected = fs::read_to_string(&beside).unwrap_or_default();
        assert_eq!(found, expected, "{name}");
        assert_eq!(loaded, loads, "{name}");
        assert!(
            !found.contains("hunter2") && !found.contains("word@"),
            "{name}"
        );
        checked += 1;
    }
    assert!(checked > 0);
}

fn words(name: &str, content: &str) -> (String, bool) {
    let result = if name.ends_with(".yaml") {
        parse(Path::new(name), content, name.starts_with("strict")).map(|(_, warnings)| warnings)
    } else {
        let strict = name.starts_with("strict");
        load(
            Purpose::Everything,
            &[text(name, content)],
            &[],
            "node-1",
            strict,
        )
        .map(|loaded| loaded.warnings)
    };
    match result {
        Ok(warnings) => (lines(&warnings), true),
        Err(problems) => (lines(problems.iter()), false),
    }
}

#[test]
fn bad_files_are_refused_with_all_that_is_wrong() {
    check_folder("bad", false);
}

#[test]
fn every_option_that_can_be_wrong_is_wrong_in_a_fixture() {
    let folder = root().join("tests/fixtures/config/bad");
    let all: String = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(".conf.txt"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    for spec in OPTIONS {
        // Any one line is right for these; a file that is named is tried in tests/config_sources.rs.
        if matches!(
            spec.kind,
            Kind::Text | Kind::Secret | Kind::List | Kind::File
        ) {
            continue;
        }
        let told = all.lines().any(|line| {
            line.starts_with("error: ") && line.contains(&format!("{}: ", spec.title()))
        });
        assert!(told, "{} is wrong in no bad fixture", spec.title());
    }
}

#[test]
fn odd_files_load_with_a_warning() {
    check_folder("odd", true);
}

#[test]
fn a_file_without_end_is_refused_as_a_whole() {
    let huge = "#".repeat((1 << 20) + 1);
    let problems = load_one(&huge).unwrap_err();
    assert_eq!(
        problems.to_string(),
        "/etc/ha/ha.conf: found 1048577 bytes, expected 1048576 at most"
    );
    assert!(parse(Path::new("p.yaml"), &huge, false).is_err());
}

// ------------------------------------------------------------------ values

#[test]
fn without_any_file_the_defaults_hold() {
    let loaded = load(Purpose::Everything, &[], &[], "node-1", true).unwrap();
    assert_eq!(lines(&loaded.warnings), "");
    let settings = loaded.settings;
    assert_eq!(settings.sample_source, "openstack");
    assert_eq!(settings.polling_namespaces, [Namespace::Compute]);
    assert_eq!(settings.pipeline_cfg_file, Path::new("pipeline_ha.yaml"));
    assert_eq!(settings.state_path, Path::new("/var/lib/ceilometer-ha"));
    assert!(settings.compute.gateways.is_empty());
    assert_eq!(settings.compute.ping_interval, Duration::from_millis(100));
    assert_eq!(settings.compute.ping_timeout, Duration::from_millis(500));
    assert_eq!(settings.agent.http_listen, "127.0.0.1:9180".parse().ok());
    assert_eq!(
        settings.collector.http_listen,
        "127.0.0.1:9181".parse().ok()
    );
    assert_eq!(settings.collector.batch_size, 1000);
    assert_eq!(settings.collector.batch_timeout, Duration::from_millis(50));
    assert_eq!(settings.database.retention, None);
    assert_eq!(settings.log.file, None);
}

#[test]
fn every_setting_can_be_set() {
    let settings = settings(
        "[DEFAULT]\nhost = a\nsample_source = b\npolling_namespaces = central,compute,central\n\
         debug = on\nverbose = 0\nuse_stderr = no\nlog_file = x.log\nlog_dir = /var/log\n\
         reserved_metadata_namespace = metering., ha.\nreserved_metadata_keys = stack,\n\
         reserved_metadata_length = 9\n\
         [compute]\nstorage_server_address = [fd00::1], gw\nstorage_quorum = 2\n\
         storage_interface = bond1\nstorage_source_address = fd00::2, 10.0.0.2\n\
         cluster = c1\nhost_tags = rack:1, room: 2\nping_count = 3\nping_interval = 0.25\n\
         [agent]\nhttp_listen =\n[plugins]\npollster = raid nagios /opt/check -x \"a b\"\n\
         pollster = disks json /opt/disks\ntimeout = 2.5\nmemory_max = 32\noutput_max = 2\nuser = ha\n\
         [ipmi]\ncommand = ipmitool -P pw\ntimeout = 3\n[collector]\nudp_address = ::\nhttp_listen = [::1]:1\n\
         [database]\nmetering_time_to_live = -1\n[publisher]\ntelemetry_secret = a#b c$$d = e: f\n",
    );
    assert_eq!(
        (settings.host.as_str(), settings.sample_source.as_str()),
        ("a", "b")
    );
    assert_eq!(
        settings.polling_namespaces,
        [Namespace::Central, Namespace::Compute]
    );
    let reserved = &settings.reserved;
    assert_eq!(reserved.namespaces, ["metering.", "ha."]);
    assert_eq!(reserved.keys, ["stack"]);
    assert_eq!(reserved.length, 9);
    assert!(settings.log.debug && !settings.log.verbose && !settings.log.use_stderr);
    assert_eq!(settings.log.file, Some("/var/log/x.log".into()));
    let compute = settings.compute;
    assert_eq!(compute.gateways, ["fd00::1", "gw"]);
    assert_eq!(compute.quorum, Quorum::AtLeast(2));
    assert_eq!(compute.storage_interface.as_deref(), Some("bond1"));
    let sources: [IpAddr; 2] = ["fd00::2".parse().unwrap(), "10.0.0.2".parse().unwrap()];
    assert_eq!(compute.storage_source_addresses, sources);
    assert_eq!(compute.cluster.as_deref(), Some("c1"));
    let tags = [
        ("rack".to_owned(), "1".to_owned()),
        ("room".to_owned(), "2".to_owned()),
    ];
    assert_eq!(compute.host_tags, tags);
    assert_eq!(compute.ping_interval, Duration::from_millis(250));
    assert_eq!(settings.agent.http_listen, None);
    let plugins = settings.plugins;
    let declared: Vec<_> = plugins
        .pollsters
        .iter()
        .map(|plugin| {
            (
                plugin.name.as_str(),
                plugin.format,
                plugin.command.program.as_str(),
            )
        })
        .collect();
    assert_eq!(
        declared,
        [
            ("raid", PluginFormat::Nagios, "/opt/check"),
            ("disks", PluginFormat::Json, "/opt/disks")
        ]
    );
    let arguments = [Secret::new("-x"), Secret::new("a b")];
    assert_eq!(plugins.pollsters[0].command.arguments, arguments);
    assert_eq!(plugins.timeout, Duration::from_millis(2500));
    assert_eq!(
        (plugins.memory_bytes, plugins.output_bytes),
        (32 << 20, 2048)
    );
    assert_eq!(plugins.user, "ha");
    assert_eq!(settings.ipmi.command.program, "ipmitool");
    assert_eq!(settings.ipmi.timeout, Duration::from_secs(3));
    assert_eq!(settings.collector.udp_address, "::".parse().ok());
    assert_eq!(settings.collector.http_listen, "[::1]:1".parse().ok());
    assert_eq!(settings.database.retention, None);
    assert_eq!(
        settings.telemetry_secret,
        Some(Secret::new("a#b c$d = e: f"))
    );
}

#[test]
fn the_ratio_means_what_it_is_said_to_mean() {
    for (lines, accepted_loss, warned) in [
        ("", 0.5, false),
        ("ping_loss_ratio = 0.5", 0.5, false),
        ("ping_loss_ratio = 0.25", 0.25, true),
        (
            "ping_loss_ratio = 0.25\nping_ratio_meaning = loss",
            0.25,
            false,
        ),
        (
            "ping_loss_ratio = 0.25\nping_ratio_meaning = success",
            0.75,
            false,
        ),
        (
            "ping_loss_ratio = 0.9\nping_ratio_meaning = success",
            0.1,
            false,
        ),
        (
            "ping_loss_ratio = 0\nping_ratio_meaning = success",
            1.0,
            false,
        ),
        ("ping_ratio_meaning = success", 0.5, false),
    ] {
        let loaded = load_one(&format!("[compute]\n{lines}\n")).unwrap();
        assert_eq!(
            loaded.settings.compute.accepted_loss, accepted_loss,
            "{lines}"
        );
        assert_eq!(!loaded.warnings.is_empty(), warned, "{lines}");
    }
}

#[test]
fn a_secret_that_everybody_knows_is_none_unless_it_is_allowed() {
    assert_eq!(settings("[publisher]\n").telemetry_secret, None);
    for (secret, words) in [
        ("", "found nothing"),
        ("\"\"", "found nothing"),
        ("change this for valid signing", "Ceilometer's default"),
        ("nmWpu7Pu8DDWhQ3oPaBpVQjn", "was published"),
    ] {
        let lines = format!("[publisher]\ntelemetry_secret = {secret}\n");
        for purpose in [Purpose::Agent, Purpose::Collector, Purpose::Everything] {
            let files = [text("/etc/ha/ha.conf", &lines)];
            let problems = load(purpose, &files, &[], "n", false)
                .unwrap_err()
                .to_string();
            assert!(problems.contains(words), "{problems}");
            assert!(!problems.contains("nmWpu7"), "{problems}");
        }
        let files = [text("/etc/ha/ha.conf", &lines)];
        load(Purpose::Operator, &files, &[], "n", false).expect("it needs no secret");
        let loaded = load_one(&format!("{lines}allow_weak_secret = true\n")).unwrap();
        assert_eq!(loaded.warnings.len(), 1, "{secret}");
        let secret =
            Some(Secret::new(secret.trim_matches('"'))).filter(|secret| !secret.is_empty());
        assert_eq!(loaded.settings.telemetry_secret, secret);
    }
}

#[test]
fn paths_start_where_their_file_is() {
    let files = [
        text(
            "/etc/a/a.conf",
            "[DEFAULT]\nlog_file = l\n[database]\nconnection = sqlite:///a.db\n",
        ),
        text(
            "/etc/b/b.conf",
            "[DEFAULT]\nstate_path = state\nlog_dir = logs\n",
        ),
    ];
    let settings = load(Purpose::Everything, &files, &[], "n", false)
        .unwrap()
        .settings;
    assert_eq!(
        settings.pipeline_cfg_file,
        Path::new("/etc/a/pipeline_ha.yaml")
    );
    assert_eq!(settings.state_path, Path::new("/etc/b/state"));
    assert_eq!(settings.log.file, Some("/etc/b/logs/l".into()));
    assert_eq!(
        settings.database.connection,
        Secret::new("sqlite:////etc/a/a.db")
    );

    let settings = load(Purpose::Everything, &files[1..], &[], "n", false)
        .unwrap()
        .settings;
    assert_eq!(
        settings.database.connection,
        Secret::new("sqlite:////etc/b/state/ceilometer_ha.sqlite")
    );
}

// ------------------------------------------------------------------ layers and substitution

#[test]
fn later_files_win_and_variables_above_them() {
    let files = [
        text(
            "a",
            "[compute]\nping_count = 1\ncluster = a\nping_timeout = 1\n",
        ),
        text("b", "[compute]\nping_count = 2\ncluster = b\n"),
    ];
    let environment = [("OS_COMPUTE__PING_COUNT".to_owned(), "3".to_owned())];
    let compute = load(Purpose::Everything, &files, &environment, "n", false)
        .unwrap()
        .settings
        .compute;
    assert_eq!(compute.ping_count, 3);
    assert_eq!(compute.cluster.as_deref(), Some("b"));
    assert_eq!(compute.ping_timeout, Duration::from_secs(1));
}

#[test]
fn an_old_name_in_a_later_file_wins_too() {
    let files = [
        text("a", "[database]\nconnection = sqlite:////a\n"),
        text("b", "[sql]\nconnection = sqlite:////b\n"),
    ];
    let loaded = load(Purpose::Everything, &files, &[], "n", false).unwrap();
    assert_eq!(
        loaded.settings.database.connection,
        Secret::new("sqlite:////b")
    );
}

#[test]
fn variables_have_their_place_in_messages() {
    let environment = |name: &str, value: &str| [(name.to_owned(), value.to_owned())];
    let problems = load(
        Purpose::Everything,
        &[],
        &environment("OS_COMPUTE__PING_COUNT", "x"),
        "n",
        false,
    )
    .unwrap_err();
    assert_eq!(
        problems.to_string(),
        "[compute] ping_count from OS_COMPUTE__PING_COUNT: found \"x\", expected a whole number \
         from 1 to 100"
    );
    let loaded = load(
        Purpose::Everything,
        &[],
        &environment("OS_COMPUTE__PNG_COUNT", "x"),
        "n",
        false,
    )
    .unwrap();
    assert_eq!(
        lines(&loaded.warnings),
        "warning: OS_COMPUTE__PNG_COUNT: unknown option; the nearest known one is ping_count\n"
    );
    for foreign in [
        "OS_AUTH_URL",
        "OS_CLOUD__X",
        "HOME",
        "OS_DEFAULT__RPC_WORKERS",
    ] {
        let loaded = load(
            Purpose::Everything,
            &[],
            &environment(foreign, "x"),
            "n",
            true,
        )
        .unwrap();
        assert_eq!(lines(&loaded.warnings), "", "{foreign}");
    }
}

#[test]
fn an_option_set_in_several_lines_grows_over_files() {
    let files = [
        text("a", "[DEFAULT]\nmeter_dispatchers = http\n"),
        text(
            "b",
            "[DEFAULT]\nmeter_dispatchers = database\nmeter_dispatchers = file\n",
        ),
    ];
    let problems = load(Purpose::Everything, &files, &[], "n", false).unwrap_err();
    let found: Vec<_> = problems
        .errors()
        .map(|problem| problem.message.as_str())
        .collect();
    assert_eq!(
        found,
        [
            "found \"http\", expected database: no other is built",
            "found \"file\", expected database: no other is built"
        ]
    );
}

#[test]
fn dollars_stand_for_other_options() {
    for (value, expected) in [
        ("$host", "node"),
        ("${host}", "node"),
        ("$DEFAULT.host", "node"),
        ("${DEFAULT.host}", "node"),
        ("a-$host-b", "a-node-b"),
        ("${host}_b", "node_b"),
        ("$$host", "$host"),
        ("\\$host", "$host"),
        ("a$", "a$"),
        ("a$ b", "a$ b"),
        ("$1", "$1"),
        ("${}", "${}"),
        ("${host", "${host"),
        ("$compute.ping_count", "7"),
        ("$ping_count", "7"),
        ("$storage_interface", ""),
        ("$state_path/x", "/var/lib/ceilometer-ha/x"),
        ("$collector.udp_port", "4953"),
    ] {
        let content =
            format!("[DEFAULT]\nhost = node\n[compute]\nping_count = 7\ncluster = {value}\n");
        let cluster = settings(&content).compute.cluster.unwrap_or_default();
        assert_eq!(cluster, expected, "{value}");
    }
}

#[test]
fn a_section_may_be_opened_again_and_named_in_any_case() {
    let settings =
        settings("[compute]\nping_count = 3\n[DEFAULT]\ndebug = 1\n[Compute]\ncluster = x\n");
    assert_eq!(settings.compute.ping_count, 3);
    assert_eq!(settings.compute.cluster.as_deref(), Some("x"));
}

#[test]
fn lists_go_over_lines_and_leave_blanks_out() {
    let settings = settings("[compute]\nstorage_server_address = 10.0.0.1,, \n    10.0.0.2 ,\n");
    assert_eq!(settings.compute.gateways, ["10.0.0.1", "10.0.0.2"]);
}

#[test]
fn nothing_that_is_printed_holds_a_secret() {
    let file = text(
        "a",
        "[publisher]\ntelemetry_secret = hunter2hunter2hunter2\n[database]\nconnection = sqlite:////hunter2\n",
    );
    let loaded = load(
        Purpose::Everything,
        std::slice::from_ref(&file),
        &[],
        "n",
        false,
    )
    .unwrap();
    let shown = format!("{file:?} {loaded:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn secrets_are_all_known_as_such() {
    for spec in OPTIONS {
        let secret = ["secret", "password", "transport_url", "connection"]
            .iter()
            .any(|word| spec.name.contains(word) && !spec.name.ends_with("_file"));
        let secret = secret && spec.kind != Kind::Bool;
        assert_eq!(
            matches!(spec.kind, Kind::Secret | Kind::Connection),
            secret,
            "[{}] {}",
            spec.group,
            spec.name
        );
    }
}

mod any_text {
    use super::*;
    use proptest::prelude::*;

    fn a_line() -> impl Strategy<Value = String> {
        let name = prop::sample::select(OPTIONS).prop_map(|spec| spec.name);
        let value = prop_oneof![
            any::<String>(),
            "[$a-z.{}\\\\,:/\\[\\]0-9 -]{0,30}",
            name.clone().prop_map(|name| format!("${name}")),
        ];
        prop_oneof![
            (name, value).prop_map(|(name, value)| format!("{name} = {value}")),
            prop::sample::select(OPTIONS).prop_map(|spec| format!("[{}]", spec.group)),
            any::<String>(),
        ]
    }

    proptest! {
        #[test]
        fn loads_or_says_why_not(
            file in prop::collection::vec(a_line(), 0..20),
            variable in "OS_[A-Z_]{0,20}",
            value in any::<String>(),
        ) {
            let files = [text("ha.conf", &file.join("\n"))];
            match load(Purpose::Everything, &files, &[(variable, value)], "n", false) {
                Ok(loaded) => prop_assert!(
                    loaded.warnings.iter().all(|problem| problem.severity < Severity::Error)
                ),
                Err(problems) => prop_assert!(problems.errors().count() > 0),
            }
        }

        #[test]
        fn a_number_is_taken_just_within_its_range(count in any::<i64>()) {
            let result = load_one(&format!("[compute]\nping_count = {count}\n"));
            prop_assert_eq!(result.is_ok(), (1..=100).contains(&count));
        }

        #[test]
        fn a_pipeline_is_read_or_refused(yaml in "(sources|sinks|name|interval|meters|publishers|transformers|[-: \n\\[\\]{}*&!a0'\"]){0,30}") {
            if let Err(problems) = parse(Path::new("p.yaml"), &yaml, false) {
                prop_assert!(problems.errors().count() > 0);
            }
        }
    }
}
