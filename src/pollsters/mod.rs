//! What the agent senses. A pollster looks at one thing and yields samples; the table below is all
//! of them. A pollster may block: each has a thread of its own.

pub mod heartbeat;
pub mod schedule;
pub mod storage;

use std::time::{Duration, Instant};

use crate::config::{ComputeSettings, Namespace};
use crate::model::{FailReason, Metadata, Meter, Sample, UtcTime, Value, Volume, meters};

/// What a pollster is built from.
#[derive(Debug, Clone)]
pub struct Context {
    /// The name of this host: the observer, and the resource of its own meters.
    pub host: String,
    /// How often it will be asked.
    pub interval: Duration,
    /// `[compute]` of the configuration.
    pub compute: ComputeSettings,
    /// This life of the agent.
    pub epoch: u64,
    /// What is remembered about gateways.
    pub memory: storage::SharedMemory,
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
