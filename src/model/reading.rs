//! Pure. A sample that has an observer and a place in that observer's order.

use super::{Sample, Value};

/// Who saw it, and where it stands in the order of what they saw.
///
/// Order is (epoch, seq) and never a clock: an epoch is one life of an agent, and a sequence
/// number is never given twice within it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// The host name of the agent that saw it.
    pub observer: String,
    /// Which life of that agent.
    pub epoch: u64,
    /// Which reading of that life, from 1.
    pub seq: u64,
}

/// A sample on its way out: ours, numbered, not yet signed for a path.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Observer, epoch and sequence.
    pub identity: Identity,
    /// Unique among all messages of all senders.
    pub message_id: String,
    /// What was seen.
    pub sample: Sample,
}

/// A metering message that arrived, was verified and understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    /// Who saw it; None for a plain Ceilometer sender, which has no order and moves no state.
    pub identity: Option<Identity>,
    /// The publisher it came by, as the sender named it.
    pub path: Option<String>,
    /// How well its origin is proven, and whether it speaks of now.
    pub evidence: Evidence,
    /// The message's own id.
    pub message_id: String,
    /// The signature it carried, as it goes into the `sample` table.
    pub signature: String,
    /// Ceilometer's `source`, such as `openstack`.
    pub source: String,
    /// Meter name, type and unit as the sender wrote them: they may be null or strange.
    pub meter: ReceivedMeter,
    /// The volume; a sender may have sent anything that Python's `float()` takes, or null.
    pub volume: Option<f64>,
    /// The resource.
    pub resource_id: String,
    /// The owner.
    pub user_id: Option<String>,
    /// The owner's project.
    pub project_id: Option<String>,
    /// When, by the sender's clock; None when it sent null.
    pub timestamp: Option<super::UtcTime>,
    /// The resource's metadata: a map, order as sent, from every real sender. The original stored
    /// null, text and lists as well.
    pub metadata: Value,
}

/// What a message is worth as evidence: only what is proven well enough and live moves state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Evidence {
    /// How well its origin is proven.
    pub proof: Proof,
    /// Whether it speaks of now.
    pub standing: Standing,
}

/// How well the origin of a message is proven.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Proof {
    /// By the secret that the whole fleet shares: any of its hosts could have made it.
    #[default]
    SharedSecret,
    /// By the key of this number that only its observer and the collectors hold.
    HostKey(u32),
}

/// Whether a message speaks of now. What doesn't is history, and moves no state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It came as it was sent.
    #[default]
    Live,
    /// It waited in a queue or a spool for nobody knows how long.
    Backlog,
    /// Its time is too long ago.
    Ancient,
    /// Its time is too far ahead.
    Future,
}

/// A meter as a sender wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReceivedMeter {
    /// `counter_name`.
    pub name: String,
    /// `counter_type`.
    pub kind: Option<String>,
    /// `counter_unit`.
    pub unit: Option<String>,
}
