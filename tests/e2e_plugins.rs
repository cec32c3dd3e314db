//! Pollsters of an operator's own, run for real: everything that a program can do wrong, and what it
//! costs nobody else.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ceilometer_ha::clock;
use ceilometer_ha::config::{self, CommandLine, ConfigText, Purpose, Settings};
use ceilometer_ha::model::{FailReason, Sample, Secret, Value, Volume, meters};
use ceilometer_ha::pollsters::exec::{self, End, Limits, Order, Privileges, Report};
use ceilometer_ha::pollsters::storage::SharedMemory;
use ceilometer_ha::pollsters::{Bell, Context, Listed, Pollster, Round, listed};
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use support::process::Process;
use support::site::{Daemon, HOST, SECRET, Site};
use support::{program, query, run, wait_for, wait_until};
use tempfile::TempDir;

/// Long enough for a shell to start on a busy machine, short enough to wait for.
const TIMEOUT: Duration = Duration::from_secs(2);
/// What a run may take beyond its deadline: killing, reaping, and a busy machine.
const SLACK: Duration = Duration::from_secs(3);

/// One test at a time where they share a process: each looks at all children of it, and whatever
/// leaves the session of one plug-in may be killed after any other.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A folder that everybody may enter, with programs in it.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Folder(folder)
    }

    fn program(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn script(&self, name: &str, lines: &str) -> PathBuf {
        self.program(name, &format!("#!/bin/sh\n{lines}\n"))
    }
}

fn settings(lines: &str) -> Settings {
    let file = ConfigText {
        path: "test.conf".into(),
        text: format!("[DEFAULT]\nhost = n\n[plugins]\n{lines}\n"),
    };
    config::load(Purpose::Agent, &[file], &[], "n", true)
        .unwrap_or_else(|problems| panic!("{problems}"))
        .settings
}

fn context(settings: Settings, interval: Duration) -> Context {
    Context {
        host: "n".into(),
        interval,
        settings: Arc::new(settings),
        resources: Vec::new(),
        epoch: 1,
        memory: SharedMemory::default(),
        bell: Bell::new(|| {}),
        ending: Arc::default(),
    }
}

/// The plug-in `p` as the agent builds it from its declaration.
fn plugin(format: &str, command: &str, more: &str) -> Box<dyn Pollster> {
    let settings = settings(&format!(
        "pollster = p {format} {command}\ntimeout = {}\n{more}",
        TIMEOUT.as_secs_f64()
    ));
    let plugin = listed(&settings).find(|pollster| pollster.name() == "p");
    plugin
        .expect("a plug-in")
        .build(&context(settings.clone(), Duration::from_secs(60)))
}

fn poll(plugin: &mut Box<dyn Pollster>) -> Vec<Sample> {
    plugin.poll(Round { due: clock::now() })
}

/// What one round says: the reason of its failure, or its samples.
fn outcome(format: &str, command: &Path) -> Result<Vec<Sample>, FailReason> {
    outcome_of(&mut plugin(format, &command.display().to_string(), ""))
}

fn outcome_of(plugin: &mut Box<dyn Pollster>) -> Result<Vec<Sample>, FailReason> {
    let samples = poll(plugin);
    match &samples[..] {
        [failed] if failed.meter == meters::POLLSTER_FAILED => {
            assert_eq!(failed.resource_id, "n/p");
            assert_eq!(failed.metadata["pollster"], Value::from("p"));
            let Volume::Int(code) = failed.volume else {
                panic!("{failed:?}")
            };
            Err(FailReason::from_code(code).unwrap())
        }
        _ => Ok(samples),
    }
}

/// The command lines of all processes with this argument, zombies left out.
fn processes_with(word: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        // A whole argument: a shell's script that mentions it is no process of that kind.
        if line.split('\0').any(|one| one == word) {
            found.push(line.replace('\0', " "));
        }
    }
    found
}

/// A number that no other test sleeps for, to know its sleepers by.
fn sleepers(test: &str) -> String {
    let id = std::process::id();
    format!("7{id}.{}", test.len())
}

fn children_of_ours() -> String {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    tasks
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .collect()
}

fn assert_nothing_is_left(sleeper: &str, case: &str) {
    assert_eq!(processes_with(sleeper), [""; 0], "{case}: still running");
    assert_eq!(children_of_ours(), "", "{case}: still a child of ours");
}

// ------------------------------------------------------------------ one plug-in alone

#[test]
fn whatever_a_plug_in_does_wrong_has_its_reason_and_leaves_nothing_running() {
    let _alone = alone();
    use FailReason::*;
    let folder = Folder::new();
    let sleeper = sleepers("wrong");
    let json = r#"{"meter": "p", "type": "gauge", "unit": "", "volume": 1}"#;
    for (name, format, lines, expected) in [
        ("hangs", "nagios", format!("sleep {sleeper}"), PluginTimeout),
        (
            "ignores_sigterm",
            "nagios",
            format!("trap '' TERM INT HUP QUIT\nwhile :; do sleep {sleeper}; done"),
            PluginTimeout,
        ),
        (
            "hangs_behind_a_closed_pipe",
            "json",
            format!("exec >&- 2>&-\nsleep {sleeper}"),
            PluginTimeout,
        ),
        (
            "hangs_with_many_children",
            "nagios",
            format!("for i in 1 2 3 4 5; do sleep {sleeper} & done\nwait"),
            PluginTimeout,
        ),
        (
            "hangs_in_another_session",
            "nagios",
            format!("setsid sh -c 'sleep {sleeper} & setsid sleep {sleeper}' &\nsleep {sleeper}"),
            PluginTimeout,
        ),
        ("floods", "nagios", "yes".into(), PluginOutput),
        ("floods_the_log", "nagios", "yes >&2".into(), PluginOutput),
        (
            "floods_and_goes",
            "json",
            "head -c 65537 /dev/zero".into(),
            PluginOutput,
        ),
        (
            "floods_from_another_session",
            "nagios",
            format!("setsid yes {sleeper} &\nsleep {sleeper}"),
            PluginOutput,
        ),
        ("crashes", "nagios", "kill -SEGV $$".into(), PluginCrashed),
        (
            "aborts",
            "json",
            format!("echo '{json}'\nkill -ABRT $$"),
            PluginCrashed,
        ),
        (
            "gives_up",
            "json",
            format!("echo '{json}'\nexit 1"),
            PluginCrashed,
        ),
        (
            "eats_memory",
            "json",
            format!("exec python3 -c 'x = bytearray(1 << 30)' {sleeper}"),
            PluginCrashed,
        ),
        (
            "writes_a_huge_file",
            "json",
            "f=$(mktemp)\nexec 3>$f\nrm $f\nexec head -c 100000000 /dev/zero >&3".into(),
            PluginCrashed,
        ),
        ("says_nothing", "nagios", "exit 0".into(), PluginGarbage),
        ("fell_over", "nagios", "exit 1".into(), PluginGarbage),
        (
            "has_another_status",
            "nagios",
            "echo OK\nexit 7".into(),
            PluginGarbage,
        ),
        (
            "says_something_else",
            "json",
            "echo all is well".into(),
            PluginGarbage,
        ),
        (
            "says_bytes",
            "json",
            "head -c 999 /dev/urandom".into(),
            PluginGarbage,
        ),
        (
            "claims_to_be_another",
            "json",
            format!(
                "echo '{}'",
                json.replace("\"p\"", "\"storage_connectivity\"")
            ),
            PluginGarbage,
        ),
        (
            "needs_what_is_missing",
            "nagios",
            "exec /nowhere/at/all".into(),
            PluginMissing,
        ),
    ] {
        let command = folder.script(name, &lines);
        let started = clock::now();
        assert_eq!(outcome(format, &command), Err(expected), "{name}");
        let took = clock::now() - started;
        assert!(took < TIMEOUT + SLACK, "{name} took {took:?}");
        assert_nothing_is_left(&sleeper, name);
    }
}

#[test]
fn what_cannot_be_started_is_missing() {
    let _alone = alone();
    let folder = Folder::new();
    let data = folder.0.path().join("data");
    fs::write(&data, "no program").unwrap();
    let odd = folder.program("odd", "#!/nowhere/python\n");
    for command in [Path::new("/nowhere/check"), folder.0.path(), &data, &odd] {
        let expected = Err(FailReason::PluginMissing);
        assert_eq!(
            outcome("nagios", command),
            expected,
            "{}",
            command.display()
        );
    }
    let good = folder.script("good", "echo OK");
    let command = good.display().to_string();
    let mut nobodys = plugin("nagios", &command, "user = somebody-who-is-not-there");
    assert_eq!(outcome_of(&mut nobodys), Err(FailReason::PluginMissing));
}

#[test]
fn what_a_plug_in_leaves_behind_is_killed_and_what_it_said_counts() {
    let _alone = alone();
    let folder = Folder::new();
    let sleeper = sleepers("leaves");
    // Whatever the plug-in starts inherits the open pipe, so that even what is too fast to be found
    // in a list of processes is known to live: the pipe has an end only when nobody holds it.
    let held = folder.0.path().join("held");
    mkfifo(&held, Mode::from_bits_truncate(0o666)).unwrap();
    fs::set_permissions(&held, fs::Permissions::from_mode(0o666)).unwrap();
    let mut pipe = File::options()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(&held)
        .unwrap();
    for (name, lines) in [
        ("a_child", format!("sleep {sleeper} &")),
        ("an_orphan", format!("(sleep {sleeper} &)")),
        (
            "a_daemon",
            format!("(setsid sleep {sleeper} >/dev/null 2>&1 </dev/null &)"),
        ),
        (
            "a_daemon_on_the_pipe",
            format!("(setsid sleep {sleeper} &)"),
        ),
        (
            "a_double_fork",
            format!("setsid sh -c '(setsid sleep {sleeper} &); sleep {sleeper}' &"),
        ),
        (
            "a_group_of_its_own",
            format!("set -m\nsleep {sleeper} &\nset +m"),
        ),
        (
            "a_runaway",
            format!(
                "python3 -c 'import os
while True:
    if os.fork(): os._exit(0)
    os.setsid()' {sleeper}\nsleep {sleeper} &"
            ),
        ),
    ] {
        // A moment, so that all of it is there before its parent goes.
        let wait = format!("until pgrep -f '^slee[p] {sleeper}$' >/dev/null; do :; done");
        let hold = format!("exec 9>{}\necho x >&9", held.display());
        let text = format!("{hold}\n{lines}\n{wait}\necho 'OK|x=1'");
        let command = folder.script(name, &text);
        let samples = outcome("nagios", &command).unwrap_or_else(|reason| {
            panic!("{name}: {reason}");
        });
        assert_eq!(samples.len(), 2, "{name}");
        let mut held = String::new();
        let end = pipe.read_to_string(&mut held);
        assert!(matches!(end, Ok(2)), "{name}: still held, {end:?}");
        assert_nothing_is_left(&sleeper, name);
    }
}

#[test]
fn a_fork_bomb_ends_with_its_plug_in() {
    let _alone = alone();
    let folder = Folder::new();
    let bomb = folder.program("bomb", "#!/bin/bash\nb() { b | b & }\nb\nsleep 1000\n");
    let word = bomb.display().to_string();
    let mut plugin = plugin("nagios", &word, "user = games\n");
    std::thread::scope(|scope| {
        let round = scope.spawn(|| outcome_of(&mut plugin));
        wait_for("the bomb to go off", || {
            (processes_with(&word).len() > 100).then_some(())
        });
        assert_eq!(round.join().unwrap(), Err(FailReason::PluginTimeout));
    });
    assert_nothing_is_left(&word, "bomb");
}

#[test]
fn a_plug_in_has_no_privileges_no_environment_and_no_descriptors() {
    let _alone = alone();
    // Descriptors and variables that a careless program would inherit.
    let here = File::open("/").unwrap();
    let leak = nix::unistd::dup(&here).unwrap();
    let report = shell(
        "id -u; id -g; id -G; pwd; echo $PPID; ps -o sid= -p $$; echo $$; readlink /proc/self/fd/0
         nice | sed s/^/nice:/; grep -E 'Cap|NoNew' /proc/self/status; tr '\\0' '\\n' </proc/self/environ
         for fd in /proc/self/fd/*; do echo \"fd ${fd##*/}\"; done; cat /proc/self/limits",
        Privileges::Dropped { user: "nobody" },
    );
    drop(leak);
    assert_eq!(report.end, End::Exited(0), "{report:?}");
    let text = String::from_utf8(report.output).unwrap();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    let (uid, gid) = (nobody.uid.to_string(), nobody.gid.to_string());
    assert_eq!(lines[..4], [&uid, &gid, &gid, "/"], "{text}");
    assert_eq!(lines[4], std::process::id().to_string(), "our own child");
    assert_eq!(lines[5], lines[6], "a session of its own");
    assert_eq!(lines[7], "/dev/null");
    assert_eq!(lines[8], "nice:10", "the probes come first");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(
            lines.contains(&&*format!("{set}:\t0000000000000000")),
            "{text}"
        );
    }
    assert!(lines.contains(&"NoNewPrivs:\t1"), "{text}");
    let variables: Vec<&&str> = lines.iter().filter(|line| line.contains('=')).collect();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let mut expected = vec!["LANG=C", path];
    // What a shell adds for itself isn't in its environment at its start.
    expected.sort_unstable();
    let mut found: Vec<&str> = variables.into_iter().copied().collect();
    found.sort_unstable();
    found.retain(|line| !line.starts_with("PWD="));
    assert_eq!(found, expected, "{text}");
    let open: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("fd "))
        .collect();
    // The third is the folder that the shell lists.
    assert_eq!(open[..3], ["0", "1", "2"], "{text}");
    assert!(open.len() <= 4, "{text}");
    let limit = |name: &str, value: &str| {
        let is_it = |line: &&str| {
            line.starts_with(name)
                && line.split_whitespace().filter(|one| *one == value).count() == 2
        };
        assert!(lines.iter().any(is_it), "{name} {value}: {text}");
    };
    limit("Max address space", "268435456");
    limit("Max core file size", "0");
    limit("Max file size", "16777216");
    limit("Max open files", "256");
    limit("Max processes", "512");
}

#[test]
fn privileges_that_are_meant_to_be_kept_are_kept_within_the_same_limits() {
    let _alone = alone();
    let report = shell("id -u; pwd; ulimit -v", Privileges::Kept);
    assert_eq!(String::from_utf8_lossy(&report.output), "0\n/\n262144\n");
}

#[test]
fn the_end_of_the_agent_is_the_end_of_its_commands() {
    let _alone = alone();
    let sleeper = sleepers("ending");
    let ending = AtomicBool::new(false);
    let command = shell_line(&format!("sleep {sleeper} & sleep {sleeper}"));
    let order = order(
        &command,
        Privileges::Dropped { user: "nobody" },
        Duration::from_secs(600),
    );
    std::thread::scope(|scope| {
        let running = scope.spawn(|| exec::run(&order, &ending));
        wait_for("two sleepers", || {
            (processes_with(&sleeper).len() >= 2).then_some(())
        });
        ending.store(true, Ordering::Relaxed);
        assert_eq!(running.join().unwrap().end, End::Ended);
    });
    assert_nothing_is_left(&sleeper, "ending");
}

#[test]
fn two_commands_at_once_leave_each_other_alone() {
    let _alone = alone();
    let sleeper = sleepers("two at once");
    // The first has an orphan in its own session while the second ends and is swept up after.
    let flag = TempDir::new().unwrap();
    fs::set_permissions(flag.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let go = flag.path().join("go").display().to_string();
    let lines = format!("(sleep {sleeper} &)\nuntil [ -e {go} ]; do sleep 0.05; done\necho well");
    let first = shell_line(&lines);
    let order = order(
        &first,
        Privileges::Dropped { user: "nobody" },
        Duration::from_secs(30),
    );
    std::thread::scope(|scope| {
        let running = scope.spawn(|| exec::run(&order, &AtomicBool::new(false)));
        wait_for("a sleeper", || {
            (!processes_with(&sleeper).is_empty()).then_some(())
        });
        for _ in 0..3 {
            let other = shell("(setsid sleep 1000 &); echo well", Privileges::Kept);
            assert_eq!(other.output, b"well\n");
            assert!(other.is_clean);
        }
        assert_eq!(processes_with(&sleeper).len(), 1, "it has a claim to live");
        fs::write(&go, "").unwrap();
        let report = running.join().unwrap();
        assert_eq!(report.output, b"well\n", "{report:?}");
    });
    assert_nothing_is_left(&sleeper, "two at once");
}

#[test]
fn the_children_of_others_are_left_alone() {
    let _alone = alone();
    let sleeper = sleepers("children of others");
    let mut ours = Command::new("sleep").arg(&sleeper).spawn().unwrap();
    let mut ended = Command::new("true").spawn().unwrap();
    wait_for("the end of a child", || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", ended.id())).unwrap();
        stat.contains(") Z ").then_some(())
    });
    assert!(shell("(setsid sleep 1000 &); echo well", Privileges::Kept).is_clean);
    assert_eq!(ours.try_wait().unwrap(), None, "still running");
    assert!(
        ended.wait().unwrap().success(),
        "its status is still to be had"
    );
    ours.kill().unwrap();
    ours.wait().unwrap();
}

fn shell_line(lines: &str) -> CommandLine {
    CommandLine {
        program: "/bin/sh".into(),
        arguments: vec![Secret::new("-c"), Secret::new(lines)],
    }
}

fn order<'a>(command: &'a CommandLine, privileges: Privileges<'a>, time: Duration) -> Order<'a> {
    Order {
        command,
        more: &[],
        privileges,
        limits: Limits {
            time,
            output_bytes: 65536,
            memory_bytes: 256 << 20,
        },
    }
}

fn shell(lines: &str, privileges: Privileges<'_>) -> Report {
    let command = shell_line(lines);
    let order = order(&command, privileges, Duration::from_secs(10));
    exec::run(&order, &AtomicBool::new(false))
}

// ------------------------------------------------------------------ what they say

#[test]
fn real_monitoring_plug_ins_are_read() {
    let _alone = alone();
    for (command, meters) in [
        (
            "check_load -w 9000,9000,9000 -c 9001,9001,9001",
            &["p", "p.load1", "p.load5", "p.load15"][..],
        ),
        ("check_users -w 1000 -c 2000", &["p", "p.users"]),
        ("check_procs", &["p", "p.procs"]),
        ("check_disk -w 1 -c 1 -p /", &["p", "p._"]),
        ("check_dummy 2 broken", &["p"]),
    ] {
        let line = format!("/usr/lib/nagios/plugins/{command}");
        let samples = outcome_of(&mut plugin("nagios", &line, "")).unwrap();
        let found: Vec<&str> = samples.iter().map(|one| one.meter.name.as_ref()).collect();
        assert_eq!(found, meters, "{command}");
        let status = if command.contains("dummy") { 2 } else { 0 };
        assert_eq!(samples[0].volume, Volume::Int(status), "{command}");
        assert!(
            samples.iter().all(|one| one.resource_id == "n"),
            "{command}"
        );
    }
}

#[test]
fn a_wrong_sample_costs_itself_and_is_counted() {
    let _alone = alone();
    let folder = Folder::new();
    let good =
        r#"{"meter": "p.a", "type": "gauge", "unit": "C", "volume": 1, "resource_id": "other/1"}"#;
    let bad = good.replace("gauge", "guess");
    let command = folder.script(
        "half",
        &format!("echo '{good}'\necho '{bad}'\necho nonsense"),
    );
    let mut plugin = plugin("json", &command.display().to_string(), "");
    let samples = outcome_of(&mut plugin).unwrap();
    assert_eq!(samples.len(), 1);
    assert_eq!(samples[0].resource_id, "other/1");
    assert_eq!(samples[0].metadata["node"], Value::from("n"));
    assert_eq!(plugin.take_counts().refused, 2);
    assert_eq!(plugin.take_counts().refused, 0);
}

#[test]
fn a_plug_in_that_has_nothing_to_say_in_json_has_not_failed() {
    let _alone = alone();
    let folder = Folder::new();
    for (name, lines) in [
        ("quiet", "exit 0"),
        ("as_long_as_allowed", "printf '%65536s' ''"),
    ] {
        let command = folder.script(name, lines);
        assert_eq!(outcome("json", &command), Ok(vec![]), "{name}");
    }
}

/// The programs that docs/plugins.md shows, by the name in their first line's comment.
#[test]
fn the_examples_of_the_documentation_run() {
    let _alone = alone();
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/plugins.md")).unwrap();
    let folder = Folder::new();
    for (language, format, least) in [("sh", "nagios", 2), ("python", "json", 1)] {
        let fence = format!("```{language}\n");
        let (_, after) = text.split_once(&fence).expect("an example");
        let code = after.split("```").next().unwrap();
        let command = folder.program(language, code);
        let samples = outcome(format, &with_name(&command, code, &folder)).unwrap();
        assert!(samples.len() >= least, "{language}: {samples:?}");
    }
}

/// The examples have names of their own; here each is `p`.
fn with_name(command: &Path, code: &str, folder: &Folder) -> PathBuf {
    let name = command.file_name().unwrap().to_str().unwrap().to_owned();
    folder.program(
        &format!("{name}-p"),
        &code.replace("entropy.bits", "p.bits"),
    )
}

// ------------------------------------------------------------------ in the agent

fn agent_files(site: &Site, plugins: &str, sources: &str) -> PathBuf {
    let (config, pipeline) = (site.path("agent.conf"), site.path("pipeline_ha.yaml"));
    fs::write(
        &pipeline,
        format!(
            "sources:\n{sources}sinks:\n    - name: ha_sink\n      publishers: ['{}']\n",
            site.url()
        ),
    )
    .unwrap();
    let state = site.path("agent");
    fs::create_dir_all(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(site.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (_, listen) = site.environment().pop().unwrap();
    fs::write(
        &config,
        format!(
            "[DEFAULT]\nhost = {HOST}\nstate_path = {}\n[compute]\nstorage_server_address = 127.0.0.1\nping_interval = 0.05\n[publisher]\ntelemetry_secret = {SECRET}\nallow_weak_secret = true\n[agent]\nhttp_listen = {listen}\n[plugins]\n{plugins}\n",
            state.display(),
        ),
    )
    .unwrap();
    config
}

fn source(name: &str, interval: f64, meters: &str) -> String {
    format!(
        "    - name: {name}\n      interval: {interval}\n      meters: [{meters}]\n      sinks: [ha_sink]\n"
    )
}

fn samples_of(site: &Site, meter: &str) -> u64 {
    site.number(&format!(
        "SELECT count(*) FROM sample s JOIN meter m ON m.id = s.meter_id WHERE m.name = '{meter}'"
    ))
}

#[test]
fn plug_ins_that_misbehave_cost_nobody_else_a_round() {
    let _alone = alone();
    let site = Site::new();
    let folder = Folder::new();
    let sleeper = sleepers("misbehave");
    let mut plugins = "timeout = 1\n".to_owned();
    let mut wanted = Vec::new();
    for (name, format, lines) in [
        (
            "hangs",
            "nagios",
            format!("setsid sleep {sleeper} & sleep {sleeper}"),
        ),
        ("floods", "nagios", "yes".to_owned()),
        ("crashes", "nagios", "kill -SEGV $$".into()),
        ("garbage", "json", "echo well".into()),
        ("works", "nagios", "echo 'OK|speed=7km/h'".into()),
    ] {
        let command = folder.script(name, &lines);
        plugins += &format!("pollster = {name} {format} {}\n", command.display());
        wanted.push(name);
    }
    plugins += "pollster = missing nagios /nowhere/check\n";
    wanted.extend(["missing", "works.speed"]);
    let sources = source("fast", 0.5, "storage_connectivity, compute.heartbeat")
        + &source("own", 2.0, &wanted.join(", "));
    let config = agent_files(&site, &plugins, &sources);
    let _collector = site.collector();
    let agent = Process::start(
        Command::new(program("ceilometer-polling-ha"))
            .arg("--config-file")
            .arg(&config),
        &site.path("agent.log"),
    );
    site.wait_for_health(Daemon::Agent);
    let reasons = [
        ("hangs", "plugin_timeout"),
        ("floods", "plugin_output"),
        ("crashes", "plugin_crashed"),
        ("garbage", "plugin_garbage"),
        ("missing", "plugin_missing"),
    ];
    wait_until("three rounds of every plug-in", || {
        let failed = |(name, reason): &(&str, &str)| {
            site.metric(
                Daemon::Agent,
                &format!("pollster_failed_total{{pollster=\"{name}\",reason=\"{reason}\",source=\"own\"}}"),
            )
        };
        let counts: Vec<u64> = reasons.iter().map(failed).collect();
        let works = samples_of(&site, "works.speed");
        if counts.iter().all(|count| *count >= 3) && works >= 3 {
            Ok(())
        } else {
            Err(format!("{counts:?} {works}"))
        }
    });
    let refused = "plugin_samples_refused_total{pollster=\"garbage\",source=\"own\"}";
    assert!(site.metric(Daemon::Agent, refused) >= 3);
    // Every round of the others took place: none was missed, and all are stored.
    for pollster in ["storage_connectivity", "heartbeat"] {
        let series = format!("{{pollster=\"{pollster}\",source=\"fast\"}}");
        let rounds = site.metric(Daemon::Agent, &format!("rounds_total{series}"));
        assert!(rounds >= 10, "{pollster} had {rounds} rounds");
        let missed = site.metric(Daemon::Agent, &format!("rounds_missed_total{series}"));
        assert_eq!(missed, 0, "{pollster}");
        let meter = if pollster == "heartbeat" {
            "compute.heartbeat"
        } else {
            pollster
        };
        wait_until("all rounds to be stored", || {
            match samples_of(&site, meter) {
                stored if stored >= rounds => Ok(()),
                stored => Err(format!("{stored} of {rounds} {meter}")),
            }
        });
    }
    let failed = query(
        &site.database(),
        "SELECT DISTINCT r.resource_id AS id, s.volume AS code FROM sample s JOIN meter m ON m.id = s.meter_id JOIN resource r ON r.internal_id = s.resource_id WHERE m.name = 'pollster.failed' ORDER BY id",
    );
    let failed: Vec<(String, f64)> = failed
        .iter()
        .map(|row| {
            (
                row["id"].as_str().unwrap().to_owned(),
                row["code"].as_f64().unwrap(),
            )
        })
        .collect();
    let expected: Vec<(String, f64)> = [
        ("crashes", 21.0),
        ("floods", 20.0),
        ("garbage", 22.0),
        ("hangs", 19.0),
        ("missing", 23.0),
    ]
    .map(|(name, code)| (format!("{HOST}/{name}"), code))
    .into();
    assert_eq!(failed, expected);
    assert!(agent.terminate().success());
    assert_eq!(processes_with(&sleeper), [""; 0]);
}

#[test]
fn an_agent_that_ends_or_is_killed_takes_its_plug_ins_along() {
    let _alone = alone();
    let site = Site::new();
    let folder = Folder::new();
    let sleeper = sleepers("takes along");
    let command = folder.script("hangs", &format!("exec sleep {sleeper}"));
    let plugins = format!(
        "timeout = 600\npollster = hangs nagios {}",
        command.display()
    );
    let config = agent_files(&site, &plugins, &source("own", 600.0, "hangs"));
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let mut agent = Process::start(
            Command::new(program("ceilometer-polling-ha"))
                .arg("--config-file")
                .arg(&config),
            &site.path("agent.log"),
        );
        wait_for("the plug-in to run", || {
            (!processes_with(&sleeper).is_empty()).then_some(())
        });
        agent.signal(signal);
        agent.wait();
        wait_until("the plug-in to be gone", || {
            match processes_with(&sleeper) {
                none if none.is_empty() => Ok(()),
                some => Err(format!("after {signal}: {some:?}")),
            }
        });
    }
}

#[test]
fn an_agent_that_is_not_root_keeps_its_capabilities_to_itself() {
    let _alone = alone();
    let site = Site::new();
    let folder = Folder::new();
    let command = folder.script(
        "caps",
        "caps=$(sed -n 's/^Cap\\(Inh\\|Prm\\|Eff\\|Amb\\):\\t//p' /proc/self/status | sort -u)
nnp=$(sed -n 's/^NoNewPrivs:\\t//p' /proc/self/status)
echo \"{\\\"meter\\\": \\\"caps\\\", \\\"type\\\": \\\"gauge\\\", \\\"unit\\\": \\\"\\\", \\\"volume\\\": $(id -u), \\\"metadata\\\": {\\\"sets\\\": \\\"$caps\\\", \\\"nnp\\\": $nnp}}\"",
    );
    let plugins = format!("pollster = caps json {}", command.display());
    let config = agent_files(
        &site,
        &plugins,
        &source("own", 1.0, "caps, storage_connectivity"),
    );
    let _collector = site.collector();
    let _agent = Process::start(
        Command::new("setpriv")
            .args(["--reuid=games", "--regid=games", "--clear-groups"])
            .args(["--inh-caps=+net_raw", "--ambient-caps=+net_raw", "--"])
            .arg(program("ceilometer-polling-ha"))
            .arg("--config-file")
            .arg(&config),
        &site.path("agent.log"),
    );
    wait_for("a reading of the plug-in", || {
        (samples_of(&site, "caps") > 0).then_some(())
    });
    let rows = query(
        &site.database(),
        "SELECT s.volume AS uid, r.resource_metadata AS metadata FROM sample s JOIN meter m ON m.id = s.meter_id JOIN resource r ON r.internal_id = s.resource_id WHERE m.name = 'caps' LIMIT 1",
    );
    let games = nix::unistd::User::from_name("games").unwrap().unwrap();
    assert_eq!(rows[0]["uid"].as_f64(), Some(f64::from(games.uid.as_raw())));
    let metadata = rows[0]["metadata"].as_str().unwrap();
    assert!(
        metadata.contains(r#""sets": "0000000000000000""#),
        "{metadata}"
    );
    assert!(metadata.contains(r#""nnp": 1"#), "{metadata}");
}

#[test]
fn the_check_of_the_configuration_lists_plug_ins_and_says_what_holds() {
    let _alone = alone();
    let site = Site::new();
    let plugins = "pollster = slow nagios /opt/check -p hunter2\npollster = unused json /opt/other";
    let sources = source("own", 2.0, "slow, slow.*");
    let config = agent_files(&site, plugins, &sources);
    let text = run(Command::new(program("ceilometer-polling-ha"))
        .args(["--check-config", "--config-file"])
        .arg(&config));
    assert!(
        text.contains(
            "  pollster slow\n    runs /opt/check with 2 arguments, killed after 2s\n    which is the interval of its source: [plugins] timeout is 10s\n"
        ),
        "{text}"
    );
    let (plan, _) = text.split_once("options that differ").unwrap();
    assert!(
        !plan.contains("unused") && !text.contains("hunter2"),
        "{text}"
    );
}

#[test]
fn a_source_runs_the_plug_ins_whose_meters_it_may_want() {
    let _alone = alone();
    let settings = settings("pollster = a json /x\npollster = b nagios /y");
    let names: Vec<&str> = listed(&settings).map(Listed::name).collect();
    assert_eq!(names[names.len() - 2..], ["a", "b"]);
    assert!(names.contains(&"storage_connectivity"));
}
