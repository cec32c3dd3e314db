//! What the node's BMC says, asked by the real ipmitool of a simulated BMC.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ceilometer_ha::clock;
use ceilometer_ha::config::{self, ConfigText, Purpose, Settings};
use ceilometer_ha::model::{FailReason, Sample, Volume, meters};
use ceilometer_ha::pollsters::storage::SharedMemory;
use ceilometer_ha::pollsters::{Bell, Context, Pollster, Round, listed};
use nix::sys::signal::Signal;
use support::bmc::Bmc;
use tempfile::TempDir;

const INTERVAL: Duration = Duration::from_secs(60);
/// What a round may take beyond its deadline on a busy machine.
const SLACK: Duration = Duration::from_secs(3);

fn settings(lines: &str) -> Settings {
    let file = ConfigText {
        path: "test.conf".into(),
        text: format!("[DEFAULT]\npolling_namespaces = ipmi\n[ipmi]\n{lines}\n"),
    };
    config::load(Purpose::Agent, &[file], &[], "n", true)
        .unwrap_or_else(|problems| panic!("{problems}"))
        .settings
}

fn pollster(lines: &str) -> Box<dyn Pollster> {
    let settings = settings(lines);
    let context = Context {
        host: "n".into(),
        interval: INTERVAL,
        settings: Arc::new(settings.clone()),
        resources: Vec::new(),
        epoch: 1,
        memory: SharedMemory::default(),
        bell: Bell::new(|| {}),
        ending: Arc::default(),
    };
    let all: Vec<_> = listed(&settings).collect();
    let [ipmi] = &all[..] else {
        panic!("{} pollsters", all.len())
    };
    ipmi.build(&context)
}

fn poll(pollster: &mut Box<dyn Pollster>) -> Vec<Sample> {
    pollster.poll(Round { due: clock::now() })
}

/// Meter, unit, resource and volume.
fn short(samples: &[Sample]) -> Vec<(&str, &str, &str, f64)> {
    samples
        .iter()
        .map(|sample| {
            let (meter, unit) = (sample.meter.name.as_ref(), sample.meter.unit.as_ref());
            (
                meter,
                unit,
                sample.resource_id.as_str(),
                sample.volume.as_f64(),
            )
        })
        .collect()
}

#[track_caller]
fn assert_failed(samples: &[Sample], reason: FailReason) {
    let [failed] = samples else {
        panic!("{samples:?}")
    };
    assert_eq!(failed.meter, meters::POLLSTER_FAILED);
    assert_eq!(failed.resource_id, "n/hardware.ipmi");
    assert_eq!(failed.volume, Volume::Int(reason.code()));
}

/// A port of this process's own, below those that the kernel gives away.
fn port(offset: u32) -> u16 {
    u16::try_from(20_000 + (std::process::id() % 4000) * 3 + offset).unwrap()
}

#[test]
fn chassis_power_and_sensors_are_what_the_bmc_says() {
    let folder = TempDir::new().unwrap();
    let bmc = Bmc::start(folder.path(), port(0));
    let mut pollster = pollster(&format!("command = ipmitool {}", bmc.words()));
    let samples = poll(&mut pollster);
    assert_eq!(
        short(&samples),
        [
            ("hardware.ipmi.chassis.power", "", "n", 1.0),
            ("hardware.ipmi.temperature", "C", "n-cpu_temp_(0x1)", 41.0),
            ("hardware.ipmi.voltage", "V", "n-12v_(0x2)", 12.0),
            ("hardware.ipmi.fan", "RPM", "n-fan_1_(0x3)", 5500.0),
            ("hardware.ipmi.current", "A", "n-psu1_current_(0x4)", 2.3),
            ("hardware.ipmi.power", "W", "n-pwr_consumption_(0x5)", 240.0),
        ],
        "and nothing of a sensor that is off"
    );
    bmc.set_power(false);
    assert_eq!(poll(&mut pollster)[0].volume, Volume::Int(0));
    bmc.set_power(true);
    assert_eq!(poll(&mut pollster)[0].volume, Volume::Int(1));
}

#[test]
fn a_bmc_that_hangs_or_is_gone_is_silent_within_the_deadline() {
    let folder = TempDir::new().unwrap();
    let bmc = Bmc::start(folder.path(), port(1));
    let lines = format!("command = ipmitool {}\ntimeout = 1", bmc.words());
    let mut pollster = pollster(&lines);
    assert!(poll(&mut pollster).len() > 1);
    bmc.process.signal(Signal::SIGSTOP);
    let started = clock::now();
    let samples = poll(&mut pollster);
    let took = clock::now() - started;
    bmc.process.signal(Signal::SIGCONT);
    assert_failed(&samples, FailReason::BmcSilent);
    assert!(took < Duration::from_secs(1) + SLACK, "{took:?}");
    assert!(poll(&mut pollster).len() > 1, "it answers again");
    let wrong = lines.replace("-P test", "-P other");
    assert_failed(&poll(&mut self::pollster(&wrong)), FailReason::BmcSilent);
    bmc.process.kill();
    assert_failed(&poll(&mut pollster), FailReason::BmcSilent);
}

#[test]
fn a_node_without_a_bmc_has_no_readings_and_no_failure() {
    let has_one = ["/dev/ipmi0", "/dev/ipmi/0", "/dev/ipmidev/0"]
        .iter()
        .any(|device| Path::new(device).exists());
    if has_one {
        eprintln!("this machine has a BMC, so what it would be without can't be seen here");
        return;
    }
    let mut pollster = pollster("");
    for _ in 0..2 {
        assert_eq!(poll(&mut pollster), []);
    }
}

#[test]
fn an_ipmitool_that_is_missing_or_is_none_says_so() {
    let mut missing = pollster("command = /nowhere/ipmitool -I lan");
    assert_failed(&poll(&mut missing), FailReason::PluginMissing);
    let folder = TempDir::new().unwrap();
    for (name, lines, reason) in [
        ("talks", "echo Usage: ipmitool", FailReason::PluginGarbage),
        ("fails", "echo no >&2; exit 1", FailReason::BmcSilent),
        ("crashes", "kill -SEGV $$", FailReason::PluginCrashed),
        ("floods", "yes", FailReason::PluginOutput),
    ] {
        let program = folder.path().join(name);
        fs::write(&program, format!("#!/bin/sh\n{lines}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let mut pollster = pollster(&format!("command = {}", program.display()));
        assert_failed(&poll(&mut pollster), reason);
    }
}

#[test]
fn what_was_found_out_before_the_bmc_failed_is_kept() {
    let folder = TempDir::new().unwrap();
    let program = folder.path().join("half");
    let lines =
        "#!/bin/sh\n[ $1 = chassis ] && echo Chassis Power is on && exit\nexec sleep 1000\n";
    fs::write(&program, lines).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let line = format!("command = {}\ntimeout = 1", program.display());
    let samples = poll(&mut pollster(&line));
    assert_eq!(
        short(&samples),
        [
            ("hardware.ipmi.chassis.power", "", "n", 1.0),
            ("pollster.failed", "", "n/hardware.ipmi", 26.0)
        ]
    );
}
