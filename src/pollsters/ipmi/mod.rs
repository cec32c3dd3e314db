//! What this node's own BMC says: whether the chassis has power, and its sensors. It is asked through
//! ipmitool, which keeps the agent's privileges because the kernel's device belongs to root, and has
//! the other limits of everything that is run ([`exec`](super::exec)).
//!
//! A node without a BMC, or without its driver, is nothing that failed: it has no readings.

mod read;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use self::read::Sensor;
use super::exec::{self, End, Limits, Order, Privileges, Report};
use super::{Context, Pollster, Round, failed};
use crate::clock;
use crate::config::IpmiSettings;
use crate::events::commands;
use crate::model::{FailReason, Metadata, Meter, Sample, UtcTime, Value, Volume, meters};

/// The name under which it fails.
pub const NAME: &str = "hardware.ipmi";

/// What ipmitool may print in one run: a thousand sensors are 60 KB; with more it is killed.
const OUTPUT_BYTES_MAX: usize = 256 << 10;
/// What ipmitool may allocate. It needs ten; with less than it wants it fails.
const MEMORY_BYTES_MAX: u64 = 256 << 20;

/// The devices at which ipmitool finds the kernel's driver.
const DEVICES: [&str; 3] = ["/dev/ipmi0", "/dev/ipmi/0", "/dev/ipmidev/0"];
/// What ipmitool says if it finds none of them.
const NO_DEVICE: &str = "Could not open device";

/// How long a round may really take: its timeout, but never into the next one.
pub fn effective_timeout(interval: Duration, settings: &IpmiSettings) -> Duration {
    settings.timeout.min(interval)
}

/// Asks one BMC.
pub struct Ipmi {
    host: String,
    settings: IpmiSettings,
    time: Duration,
    ending: Arc<AtomicBool>,
    /// How the last round failed, and whether there was no BMC, so that the log hears of each once.
    last: Option<FailReason>,
    is_absent: bool,
}

/// Why there is no answer.
enum No {
    /// There is nobody to ask.
    Bmc,
    /// The agent ends.
    Time,
    /// Something is wrong.
    Answer(FailReason),
}

impl Ipmi {
    /// A pollster of this node's BMC.
    pub fn new(context: &Context) -> Self {
        let settings = &context.settings.ipmi;
        Ipmi {
            host: context.host.clone(),
            settings: settings.clone(),
            time: effective_timeout(context.interval, settings),
            ending: Arc::clone(&context.ending),
            last: None,
            is_absent: false,
        }
    }

    /// Both questions; the second has what time the first left. What was found out before something
    /// failed is kept.
    fn ask(&self, deadline: Instant, samples: &mut Vec<Sample>) -> Result<(), (No, String)> {
        let power = self.ipmitool(&["chassis", "power", "status"], deadline);
        let is_on = answer(&power, read::power)?;
        let now = clock::utc();
        let volume = Volume::Int(i64::from(is_on));
        let host = self.host.clone();
        samples.push(self.sample(meters::IPMI_CHASSIS_POWER, host, volume, now));
        let sensors = self.ipmitool(&["sdr", "elist", "full"], deadline);
        let list = answer(&sensors, read::sensors)?;
        let now = clock::utc();
        samples.extend(list.into_iter().map(|sensor| self.sensor(sensor, now)));
        Ok(())
    }

    fn ipmitool(&self, words: &[&str], deadline: Instant) -> Report {
        let order = Order {
            command: &self.settings.command,
            more: words,
            privileges: Privileges::Kept,
            limits: Limits {
                time: deadline.saturating_duration_since(clock::now()),
                output_bytes: OUTPUT_BYTES_MAX,
                memory_bytes: MEMORY_BYTES_MAX,
            },
        };
        let report = exec::run(&order, &self.ending);
        if !report.is_clean {
            commands::left_running(NAME);
        }
        report
    }

    fn sensor(&self, sensor: Sensor, timestamp: UtcTime) -> Sample {
        let resource = format!("{}-{}", self.host, sensor.id);
        let mut sample = self.sample(sensor.meter, resource, sensor.volume, timestamp);
        let name = Value::from(sensor.name);
        sample.metadata.insert("sensor".to_owned(), name);
        sample
    }

    fn sample(
        &self,
        meter: Meter,
        resource_id: String,
        volume: Volume,
        timestamp: UtcTime,
    ) -> Sample {
        Sample::new(
            meter,
            volume,
            resource_id,
            timestamp,
            Metadata::from([("node".to_owned(), Value::from(self.host.as_str()))]),
        )
    }

    fn say(&mut self, failure: Option<FailReason>, is_absent: bool, errors: &str) {
        if is_absent && !self.is_absent {
            commands::no_bmc(errors);
        } else if !is_absent {
            commands::said(NAME, errors, failure, self.last);
        }
        self.is_absent = is_absent;
        self.last = failure;
    }
}

impl Pollster for Ipmi {
    fn poll(&mut self, _round: Round) -> Vec<Sample> {
        let mut samples = Vec::new();
        match self.ask(clock::now() + self.time, &mut samples) {
            Ok(()) => self.say(None, false, ""),
            Err((No::Bmc, errors)) => self.say(None, true, &errors),
            Err((No::Time, _)) => {}
            Err((No::Answer(reason), errors)) => {
                self.say(Some(reason), false, &errors);
                samples.push(failed(&self.host, NAME, reason, clock::utc()));
            }
        }
        samples
    }
}

/// What a report says. An answer counts even if ipmitool ends with an error behind it: many BMCs deny
/// one sensor of a hundred.
fn answer<T>(report: &Report, read: impl Fn(&str) -> Option<T>) -> Result<T, (No, String)> {
    let no = |no| Err((no, report.errors.clone()));
    match report.end {
        End::Exited(status) => match read(&String::from_utf8_lossy(&report.output)) {
            Some(found) if status == 0 || !report.output.is_empty() => Ok(found),
            _ if is_absent(&report.errors) => no(No::Bmc),
            _ if status != 0 => no(No::Answer(FailReason::BmcSilent)),
            _ => no(No::Answer(FailReason::PluginGarbage)),
        },
        End::Died(_) => no(No::Answer(FailReason::PluginCrashed)),
        End::TimedOut => no(No::Answer(FailReason::BmcSilent)),
        End::Flooded => no(No::Answer(FailReason::PluginOutput)),
        End::NotStarted => no(No::Answer(FailReason::PluginMissing)),
        End::Ended => no(No::Time),
    }
}

/// Whether there is no device at all; one that is there and can't be opened is a failure.
fn is_absent(errors: &str) -> bool {
    errors.contains(NO_DEVICE) && !DEVICES.iter().any(|device| Path::new(device).exists())
}
