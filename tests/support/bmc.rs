//! A BMC without hardware: OpenIPMI's simulator, on this machine's loopback, with sensors.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::Process;
use super::{run_unchecked, wait_for};

/// A sensor of the simulator: number, entity, type, unit (tables 42-3 and 43-15 of the IPMI
/// specification), name, factor, and its exponent of ten.
pub struct Sensor(
    pub u8,
    pub u8,
    pub u8,
    pub u8,
    pub &'static str,
    pub u8,
    pub i8,
);

pub const SENSORS: [Sensor; 6] = [
    Sensor(1, 3, 1, 1, "CPU Temp", 1, 0),
    Sensor(2, 7, 2, 4, "12V", 6, -2),
    Sensor(3, 29, 4, 18, "FAN 1", 100, 0),
    Sensor(4, 19, 3, 5, "PSU1 Current", 1, -1),
    Sensor(5, 19, 0x0b, 6, "Pwr Consumption", 2, 0),
    Sensor(6, 3, 1, 1, "CPU2 Temp", 1, 0),
];

/// Raw values of the first five; the last one is switched off.
const VALUES: [u8; 5] = [41, 200, 55, 23, 120];

/// A running simulator.
pub struct Bmc {
    pub process: Process,
    folder: PathBuf,
    port: u16,
}

impl Bmc {
    /// Starts it and waits until it answers.
    pub fn start(folder: &Path, port: u16) -> Self {
        let power = folder.join("power");
        fs::write(&power, "1").expect("write");
        let control = folder.join("control");
        // The simulator asks this program what it can't know: `get power`, `set power 0`.
        let script = format!(
            "#!/bin/sh\n[ \"$1 $2\" = 'get power' ] && echo \"power:$(cat {})\"\nexit 0\n",
            power.display()
        );
        fs::write(&control, script).expect("write");
        fs::set_permissions(&control, fs::Permissions::from_mode(0o755)).expect("chmod");
        let state = folder.join("state");
        fs::create_dir(&state).expect("make a folder");
        let (lan, commands) = (folder.join("lan.conf"), folder.join("commands"));
        fs::write(&lan, lan_conf(port, &control)).expect("write");
        fs::write(&commands, emulation()).expect("write");
        let process = Process::start(
            Command::new("ipmi_sim")
                .arg("-n")
                .arg("-c")
                .arg(&lan)
                .arg("-f")
                .arg(&commands)
                .arg("-s")
                .arg(&state),
            &folder.join("ipmi_sim.log"),
        );
        let bmc = Bmc {
            process,
            folder: folder.to_owned(),
            port,
        };
        wait_for("the simulated BMC", || {
            let mut ipmitool = Command::new("ipmitool");
            let words = bmc.words();
            let command = ipmitool.args(words.split(' ')).args(["mc", "info"]);
            run_unchecked(command).status.success().then_some(())
        });
        bmc
    }

    /// What ipmitool needs before its own words to talk to it.
    pub fn words(&self) -> String {
        format!("-I lan -H 127.0.0.1 -p {} -U ha -P test", self.port)
    }

    /// Switches the chassis on or off.
    pub fn set_power(&self, is_on: bool) {
        fs::write(self.folder.join("power"), if is_on { "1" } else { "0" }).expect("write");
    }
}

fn lan_conf(port: u16, control: &Path) -> String {
    let auths: String = ["callback", "user", "operator", "admin"]
        .map(|level| format!("allowed_auths_{level} none md2 md5 straight\n"))
        .concat();
    format!(
        "name \"test\"\nset_working_mc 0x20\nstartlan 1\naddr 127.0.0.1 {port}\npriv_limit admin\n{auths}guid a123456789abcdefa123456789abcdef\nendlan\nchassis_control \"{}\"\nuser 2 true \"ha\" \"test\" admin 10 none md2 md5 straight\n",
        control.display()
    )
}

/// The commands that make the BMC: a controller, sensors with their records, and values.
fn emulation() -> String {
    let mut text = "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\nsel_enable 0x20 100 0x0a\n".to_owned();
    for sensor in &SENSORS {
        let Sensor(number, _, kind, ..) = sensor;
        let bytes: Vec<String> = record(sensor)
            .iter()
            .map(|byte| format!("0x{byte:02x}"))
            .collect();
        text += &format!("main_sdr_add 0x20 {}\n", bytes.join(" "));
        text += &format!("sensor_add 0x20 0 {number} {kind} 1\n");
    }
    for (sensor, value) in SENSORS.iter().zip(VALUES) {
        text += &format!("sensor_set_value 0x20 0 {} {value} 0\n", sensor.0);
    }
    let masks = "000000000000000 ".repeat(4);
    for (at, sensor) in SENSORS.iter().enumerate() {
        let scanning = if at < VALUES.len() {
            "scanning"
        } else {
            "no-scanning"
        };
        text += &format!(
            "sensor_set_event_support 0x20 0 {} enable {scanning} per-state {masks}\n",
            sensor.0
        );
    }
    text + "mc_enable 0x20\n"
}

/// A full sensor record: IPMI specification 2.0, table 43-1.
fn record(sensor: &Sensor) -> Vec<u8> {
    let Sensor(number, entity, kind, unit, name, factor, exponent) = *sensor;
    let mut body = vec![0x20, 0, number, entity, 1, 0x7f, 0x68, kind, 1];
    body.extend([0; 6]);
    body.extend([0, unit, 0, 0, factor, 0, 0, 0, 0]);
    body.push(exponent.to_le_bytes()[0] << 4);
    body.extend([0, 0, 0, 0, 0xff, 0, 0, 0, 0, 0, 0, 0, 2, 2, 0, 0, 0]);
    body.push(0xc0 | u8::try_from(name.len()).expect("a short name"));
    body.extend(name.as_bytes());
    let length = u8::try_from(body.len()).expect("a short record");
    [&[0, 0, 0x51, 1, length][..], &body].concat()
}
