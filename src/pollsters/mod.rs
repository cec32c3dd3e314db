//! What the agent senses. A pollster looks at one thing and yields samples; the table below is all
//! of them. A pollster may block: each has a thread of its own.

pub mod heartbeat;
pub mod hosts;
pub mod libvirt;
pub mod ping;
pub mod schedule;
pub mod storage;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{Namespace, Settings};
use crate::model::{FailReason, Metadata, Meter, Sample, UtcTime, Value, Volume, meters};

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
    /// Makes one.
    pub build: fn(&Context) -> Box<dyn Pollster>,
}

/// Every pollster of this build.
pub const TABLE: &[Entry] = &[
    Entry {
        name: "storage_connectivity",
        namespace: Namespace::Compute,
        meters: &[
            meters::STORAGE_CONNECTIVITY,
            meters::GATEWAY_LOSS_RATIO,
            meters::GATEWAY_RTT,
            meters::GATEWAY_STATUS,
        ],
        build: |context| Box::new(storage::StoragePollster::new(context)),
    },
    Entry {
        name: "heartbeat",
        namespace: Namespace::Compute,
        meters: &[meters::HEARTBEAT],
        build: |context| Box::new(heartbeat::Heartbeat::new(context)),
    },
    Entry {
        name: "hypervisor",
        namespace: Namespace::Compute,
        meters: &[meters::HYPERVISOR_CONNECTIVITY],
        build: |context| Box::new(libvirt::hypervisor::Hypervisor::new(context)),
    },
    Entry {
        name: "instances",
        namespace: Namespace::Compute,
        meters: &[
            meters::INSTANCE,
            meters::POWER_STATE,
            meters::INSTANCE_STATE,
            meters::INSTANCE_ROUND,
        ],
        build: |context| Box::new(libvirt::instances::Instances::new(context)),
    },
    Entry {
        name: "statistics",
        namespace: Namespace::Compute,
        meters: libvirt::figures::METERS,
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
        build: |context| Box::new(hosts::HostsPollster::new(context)),
    },
];

/// A `pollster.failed`: that `pollster` of `host` has no reading, and why. It is an answer of its
/// own and never a sample of the meter that is missing.
pub fn failed(host: &str, pollster: &str, reason: FailReason, timestamp: UtcTime) -> Sample {
    let metadata = Metadata::from([
        ("node".to_owned(), Value::from(host)),
        ("pollster".to_owned(), Value::from(pollster)),
        ("reason".to_owned(), Value::from(reason.as_str())),
    ]);
    Sample {
        meter: meters::POLLSTER_FAILED,
        volume: Volume::Int(reason.code()),
        resource_id: format!("{host}/{pollster}"),
        user_id: None,
        project_id: None,
        timestamp,
        metadata,
    }
}
