//! What the agent senses. A pollster looks at one thing and yields samples; the table below is all
//! that are built in, and [`listed`] adds the operator's own. A pollster may block: each has a thread of
//! its own.

pub mod exec;
pub mod heartbeat;
pub mod hosts;
pub mod ipmi;
pub mod libvirt;
pub mod ping;
pub mod plugins;
pub mod schedule;
pub mod storage;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::config::{ComputeSettings, Namespace, PluginSettings, PluginSpec, Settings};
use crate::events::Counts;
use crate::model::{FailReason, Metadata, Meter, Sample, UtcTime, Value, Volume, meters};
use crate::pipeline::{KnownMeters, MeterFilter};

/// What a pollster is built from.
#[derive(Debug, Clone)]
pub struct Context {
    /// The name of this host: the observer, and the resource of its own meters.
    pub host: String,
    /// How often it will be asked.
    pub interval: Duration,
    /// The configuration.
    pub settings: Arc<Settings>,
    /// Resources that the source names by hand, as URLs; those of `hosts_file` among them.
    pub resources: Vec<String>,
    /// This life of the agent.
    pub epoch: u64,
    /// What is remembered about gateways.
    pub memory: storage::SharedMemory,
    /// Asks for [`Pollster::news`].
    pub bell: Bell,
    /// Set when the agent ends: whoever waits for something else than the time looks at it.
    pub ending: Arc<AtomicBool>,
}

/// A part of a [`Context`] that a pollster reads. Host, epoch, memory and bell stay the same for one
/// life of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// How often it will be asked.
    Interval,
    /// Resources that its source names.
    Resources,
    /// What `[compute]` says of probes and gateways.
    Probes,
    /// Which libvirt, and how long it is waited for.
    Libvirt,
    /// Which user metadata goes into readings.
    Reserved,
    /// The way to the BMC.
    Ipmi,
    /// Its own line under `[plugins]`, what plug-ins may, and the host's tags, whose keys are taken.
    Plugin,
}

impl Context {
    /// Whether another one says the same about all that a pollster reads, so that one built from it
    /// would be no other.
    pub fn says_the_same(&self, other: &Context, pollster: Listed<'_>) -> bool {
        let mut reads = pollster.reads().iter();
        reads.all(|part| self.agrees(other, *part, pollster.name()))
    }

    fn agrees(&self, other: &Context, part: Reads, name: &str) -> bool {
        let (ours, its) = (&self.settings, &other.settings);
        match part {
            Reads::Interval => self.interval == other.interval,
            Reads::Resources => self.resources == other.resources,
            Reads::Probes => probes(&ours.compute) == probes(&its.compute),
            Reads::Libvirt => {
                (&ours.libvirt.uri, ours.libvirt.timeout) == (&its.libvirt.uri, its.libvirt.timeout)
            }
            Reads::Reserved => ours.reserved == its.reserved,
            Reads::Ipmi => ours.ipmi == its.ipmi,
            Reads::Plugin => {
                plugin(&ours.plugins, name) == plugin(&its.plugins, name)
                    && ours.compute.host_tags == its.compute.host_tags
            }
        }
    }
}

/// The settings without what only tags readings.
fn probes(settings: &ComputeSettings) -> ComputeSettings {
    ComputeSettings {
        cluster: None,
        host_tags: Vec::new(),
        ..settings.clone()
    }
}

/// The settings as one plug-in sees them, without the others.
fn plugin(settings: &PluginSettings, name: &str) -> PluginSettings {
    let mut seen = settings.clone();
    seen.pollsters.retain(|spec| spec.name == name);
    seen
}

/// What a pollster rings when something happened that can't wait for its next round. Any thread may
/// ring it, and it never blocks.
#[derive(Clone)]
pub struct Bell(Arc<dyn Fn() + Send + Sync>);

impl Bell {
    /// A bell that does this.
    pub fn new(ring: impl Fn() + Send + Sync + 'static) -> Self {
        Bell(Arc::new(ring))
    }

    /// Asks for [`Pollster::news`], soon.
    pub fn ring(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bell")
    }
}

/// One round's circumstances.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    /// When it was due.
    pub due: Instant,
}

/// A thing that can be asked for samples again and again.
pub trait Pollster: Send {
    /// One round. It may block for as long as its interval; it never fails but says in a
    /// `pollster.failed` what it couldn't find out.
    fn poll(&mut self, round: Round) -> Vec<Sample>;

    /// What can't wait for the next round: asked for after its [`Bell`] rang, and at
    /// [`Pollster::wake_at`]. Never at the same time as a round.
    fn news(&mut self) -> Vec<Sample> {
        Vec::new()
    }

    /// What it counted beside its samples since it was asked last; asked after each round.
    fn take_counts(&mut self) -> Counts {
        Counts::default()
    }

    /// When it wants to be asked for news although no bell rang; asked after each round and each
    /// news.
    fn wake_at(&self) -> Option<Instant> {
        None
    }
}

/// One line of the table of pollsters.
pub struct Entry {
    /// Its name: in logs, metrics and `pollster.failed`.
    pub name: &'static str,
    /// Where it runs, as `polling_namespaces` says.
    pub namespace: Namespace,
    /// The meters it yields; a source that wants one of them runs it.
    pub meters: &'static [Meter],
    /// What it is built from: when a reload changes none of it, the running one goes on.
    pub reads: &'static [Reads],
    /// Makes one.
    pub build: fn(&Context) -> Box<dyn Pollster>,
}

/// Every pollster of this build.
pub const TABLE: &[Entry] = &[
    Entry {
        name: storage::VERDICT,
        namespace: Namespace::Compute,
        meters: &[
            meters::STORAGE_CONNECTIVITY,
            meters::GATEWAY_LOSS_RATIO,
            meters::GATEWAY_RTT,
            meters::GATEWAY_STATUS,
        ],
        reads: &[Reads::Interval, Reads::Probes],
        build: |context| Box::new(storage::StoragePollster::new(context)),
    },
    Entry {
        name: "heartbeat",
        namespace: Namespace::Compute,
        meters: &[meters::HEARTBEAT],
        reads: &[],
        build: |context| Box::new(heartbeat::Heartbeat::new(context)),
    },
    Entry {
        name: libvirt::hypervisor::NAME,
        namespace: Namespace::Compute,
        meters: &[meters::HYPERVISOR_CONNECTIVITY],
        reads: &[Reads::Interval, Reads::Libvirt],
        build: |context| Box::new(libvirt::hypervisor::Hypervisor::new(context)),
    },
    Entry {
        name: libvirt::instances::NAME,
        namespace: Namespace::Compute,
        meters: &[
            meters::INSTANCE,
            meters::POWER_STATE,
            meters::INSTANCE_STATE,
            meters::INSTANCE_ROUND,
        ],
        reads: &[Reads::Interval, Reads::Libvirt, Reads::Reserved],
        build: |context| Box::new(libvirt::instances::Instances::new(context)),
    },
    Entry {
        name: libvirt::statistics::NAME,
        namespace: Namespace::Compute,
        meters: libvirt::figures::METERS,
        reads: &[Reads::Libvirt, Reads::Reserved],
        build: |context| Box::new(libvirt::statistics::Statistics::new(context)),
    },
    Entry {
        name: hosts::NAME,
        namespace: Namespace::Central,
        meters: &[
            meters::HOST_CONNECTIVITY,
            meters::HOST_NETWORK_CONNECTIVITY,
            meters::HOST_NETWORK_STATUS,
        ],
        reads: &[Reads::Interval, Reads::Resources, Reads::Probes],
        build: |context| Box::new(hosts::HostsPollster::new(context)),
    },
    Entry {
        name: ipmi::NAME,
        namespace: Namespace::Ipmi,
        meters: &[
            meters::IPMI_CHASSIS_POWER,
            meters::IPMI_TEMPERATURE,
            meters::IPMI_VOLTAGE,
            meters::IPMI_CURRENT,
            meters::IPMI_FAN,
            meters::IPMI_POWER,
        ],
        reads: &[Reads::Interval, Reads::Ipmi],
        build: |context| Box::new(ipmi::Ipmi::new(context)),
    },
];

/// A pollster that can run: a line of the [`TABLE`], or a plug-in of the configuration.
#[derive(Clone, Copy)]
pub enum Listed<'a> {
    /// One of this build.
    BuiltIn(&'static Entry),
    /// One that the configuration declares. It yields the meter of its name and any that begin with
    /// that and a dot.
    Plugin(&'a PluginSpec),
}

/// Every pollster that these settings run: those of the configured namespaces, and all plug-ins, which
/// belong to the host and to no namespace.
pub fn listed(settings: &Settings) -> impl Iterator<Item = Listed<'_>> {
    let built_in = TABLE
        .iter()
        .filter(|entry| settings.polling_namespaces.contains(&entry.namespace));
    let plugins = settings.plugins.pollsters.iter();
    built_in
        .map(Listed::BuiltIn)
        .chain(plugins.map(Listed::Plugin))
}

/// Every meter that an agent with these plug-ins may yield, in whichever namespace.
pub fn known_meters(plugins: &[PluginSpec]) -> KnownMeters {
    let failed = meters::POLLSTER_FAILED;
    let built_in = TABLE.iter().flat_map(|entry| entry.meters).chain([&failed]);
    KnownMeters::new(
        built_in.map(|meter| meter.name.as_ref()),
        plugins.iter().map(|spec| spec.name.as_str()),
    )
}

impl<'a> Listed<'a> {
    /// Its name: in logs, metrics and `pollster.failed`.
    pub fn name(self) -> &'a str {
        match self {
            Listed::BuiltIn(entry) => entry.name,
            Listed::Plugin(spec) => &spec.name,
        }
    }

    /// Whether a source with these meters runs it.
    pub fn is_wanted_by(self, wanted: &MeterFilter) -> bool {
        match self {
            Listed::BuiltIn(entry) => entry.meters.iter().any(|meter| wanted.wants(&meter.name)),
            Listed::Plugin(spec) => wanted.may_want(&spec.name),
        }
    }

    /// What it is built from.
    fn reads(self) -> &'static [Reads] {
        match self {
            Listed::BuiltIn(entry) => entry.reads,
            Listed::Plugin(_) => &[Reads::Interval, Reads::Plugin],
        }
    }

    /// Makes one.
    pub fn build(self, context: &Context) -> Box<dyn Pollster> {
        match self {
            Listed::BuiltIn(entry) => (entry.build)(context),
            Listed::Plugin(spec) => Box::new(plugins::Plugin::new(spec, context)),
        }
    }
}

/// A `pollster.failed`: that `pollster` of `host` has no reading, and why. It is an answer of its
/// own and never a sample of the meter that is missing.
pub fn failed(host: &str, pollster: &str, reason: FailReason, timestamp: UtcTime) -> Sample {
    let metadata = Metadata::from([
        ("node".to_owned(), Value::from(host)),
        ("pollster".to_owned(), Value::from(pollster)),
        ("reason".to_owned(), Value::from(reason.as_str())),
    ]);
    Sample::new(
        meters::POLLSTER_FAILED,
        Volume::Int(reason.code()),
        format!("{host}/{pollster}"),
        timestamp,
        metadata,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TAKEN_NAMES;

    /// The file in which each line of the table reads its context.
    const FILES: &[(&str, &str)] = &[
        (storage::VERDICT, include_str!("storage/mod.rs")),
        ("heartbeat", include_str!("heartbeat.rs")),
        (
            libvirt::hypervisor::NAME,
            include_str!("libvirt/hypervisor.rs"),
        ),
        (
            libvirt::instances::NAME,
            include_str!("libvirt/instances.rs"),
        ),
        (
            libvirt::statistics::NAME,
            include_str!("libvirt/statistics.rs"),
        ),
        (hosts::NAME, include_str!("hosts/mod.rs")),
        (ipmi::NAME, include_str!("ipmi/mod.rs")),
    ];

    #[test]
    fn every_line_of_the_table_says_all_that_its_pollster_reads() {
        assert_eq!(FILES.len(), TABLE.len());
        for entry in TABLE {
            let (_, text) = FILES.iter().find(|(name, _)| *name == entry.name).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            for (word, part) in [
                ("context.interval", Reads::Interval),
                ("context.resources", Reads::Resources),
                ("settings.compute", Reads::Probes),
                ("settings.libvirt", Reads::Libvirt),
                ("settings.reserved", Reads::Reserved),
                ("settings.ipmi", Reads::Ipmi),
            ] {
                let is_said = entry.reads.contains(&part);
                assert_eq!(code.contains(word), is_said, "{} {word}", entry.name);
            }
            for whole in [
                "context.settings;",
                "context.settings)",
                "context.settings,",
            ] {
                assert!(!code.contains(whole), "{} takes all settings", entry.name);
            }
            for foreign in [
                "settings.plugins",
                "settings.central",
                "settings.agent",
                "host_tags",
            ] {
                assert!(!code.contains(foreign), "{} reads {foreign}", entry.name);
            }
        }
    }

    #[test]
    fn no_plug_in_can_have_the_name_of_a_built_in_meter_or_pollster() {
        let failed = meters::POLLSTER_FAILED;
        let meters = TABLE.iter().flat_map(|entry| entry.meters).chain([&failed]);
        let names = meters.map(|meter| meter.name.as_ref());
        for name in names.chain(TABLE.iter().map(|entry| entry.name)) {
            let first = name.split('.').next().unwrap();
            assert!(
                TAKEN_NAMES.contains(&first),
                "a plug-in could be called {first}"
            );
        }
    }
}
