//! Pollsters of the operator's own: an executable that prints what it found, in the format of Nagios'
//! plug-ins or as JSON, declared under `[plugins]`. It is run as [`exec`](super::exec) runs
//! everything: within limits, without privileges.
//!
//! Pure parts: [`nagios`], [`json`], [`item`].

mod item;
mod json;
mod nagios;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use self::item::{Found, Item};
use super::exec::{self, End, Limits, Order, Privileges, Report};
use super::{Context, Pollster, Round, failed};
use crate::clock;
use crate::config::{PluginFormat, PluginSettings, PluginSpec};
use crate::events::{Counts, commands};
use crate::model::{FailReason, Meter, Sample, UtcTime, Value};

/// Metadata that every reading has, or may have, from the agent itself.
const OWN_METADATA: [&str; 4] = ["node", "cluster", "interval", "user_metadata"];

/// How long a plug-in may really run: its timeout, but never into its next round.
pub fn effective_timeout(interval: Duration, settings: &PluginSettings) -> Duration {
    settings.timeout.min(interval)
}

/// One plug-in of one host.
pub struct Plugin {
    host: String,
    spec: PluginSpec,
    user: String,
    limits: Limits,
    reserved: Vec<String>,
    ending: Arc<AtomicBool>,
    /// How the last round failed, so that the log hears of each failure once.
    last: Option<FailReason>,
    refused: u64,
}

impl Plugin {
    /// The pollster for a declaration.
    pub fn new(spec: &PluginSpec, context: &Context) -> Self {
        let settings = &context.settings.plugins;
        let tags = context.settings.compute.host_tags.iter();
        let own = OWN_METADATA.into_iter().map(str::to_owned);
        Plugin {
            host: context.host.clone(),
            spec: spec.clone(),
            user: settings.user.clone(),
            limits: Limits {
                time: effective_timeout(context.interval, settings),
                output_bytes: settings.output_bytes,
                memory_bytes: settings.memory_bytes,
            },
            reserved: own.chain(tags.map(|(key, _)| key.clone())).collect(),
            ending: Arc::clone(&context.ending),
            last: None,
            refused: 0,
        }
    }

    fn run(&self) -> Report {
        let order = Order {
            command: &self.spec.command,
            more: &[],
            privileges: Privileges::Dropped { user: &self.user },
            limits: self.limits,
        };
        exec::run(&order, &self.ending)
    }

    /// What the report says; None if the plug-in was ended because the agent ends.
    fn judge(&self, report: &Report) -> Option<Result<Found, FailReason>> {
        let found = match report.end {
            End::Exited(status) => match self.spec.format {
                PluginFormat::Nagios => nagios::read(&self.spec.name, status, &report.output),
                // A script that fell over half-way may have printed half a truth.
                PluginFormat::Json if status != 0 => return Some(Err(FailReason::PluginCrashed)),
                PluginFormat::Json => json::read(&self.spec.name, &report.output, &self.reserved),
            },
            End::Died(_) => return Some(Err(FailReason::PluginCrashed)),
            End::TimedOut => return Some(Err(FailReason::PluginTimeout)),
            End::Flooded => return Some(Err(FailReason::PluginOutput)),
            End::NotStarted => return Some(Err(FailReason::PluginMissing)),
            End::Ended => return None,
        };
        Some(Ok(found))
    }

    fn samples(&mut self, found: Found, timestamp: UtcTime) -> Result<Vec<Sample>, FailReason> {
        self.refused += found.refused;
        if let Some(why) = found.why {
            commands::items_refused(&self.spec.name, found.refused, why);
        }
        if found.is_garbage() {
            return Err(FailReason::PluginGarbage);
        }
        let sample = |item: Item| {
            let mut metadata = item.metadata;
            metadata.insert("node".to_owned(), Value::from(self.host.as_str()));
            Sample {
                meter: Meter {
                    name: item.meter.into(),
                    kind: item.kind,
                    unit: item.unit.into(),
                },
                volume: item.volume,
                resource_id: item.resource.unwrap_or_else(|| self.host.clone()),
                user_id: None,
                project_id: None,
                timestamp,
                metadata,
            }
        };
        Ok(found.items.into_iter().map(sample).collect())
    }
}

impl Pollster for Plugin {
    fn poll(&mut self, _round: Round) -> Vec<Sample> {
        let report = self.run();
        let now = clock::utc();
        if !report.is_clean {
            commands::left_running(&self.spec.name);
        }
        let Some(found) = self.judge(&report) else {
            return Vec::new();
        };
        let result = found.and_then(|found| self.samples(found, now));
        let failure = result.as_ref().err().copied();
        commands::said(&self.spec.name, &report.errors, failure, self.last);
        self.last = failure;
        result.unwrap_or_else(|reason| vec![failed(&self.host, &self.spec.name, reason, now)])
    }

    fn take_counts(&mut self) -> Counts {
        Counts {
            refused: std::mem::take(&mut self.refused),
            ..Counts::default()
        }
    }
}
