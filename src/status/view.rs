//! Pure. The shape of what is shown: `compute-ha status --format json` is this, so names and units
//! of the fields are a contract.
//!
//! Every text in here came from the network and has been through
//! [`printable`](super::text::printable): it is short and holds nothing that moves a cursor.
//! Ages are seconds by the database's clock since it stored the reading; a negative age is a
//! reading from the future, which only a database whose clock went back can hold.

use serde::{Serialize, Serializer};

use crate::model::UtcTime;

/// The whole fleet at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FleetView {
    /// The moment by the database's clock, ISO 8601 in UTC without a zone.
    #[serde(serialize_with = "as_text")]
    pub now: UtcTime,
    /// Every host that ever reported: those with a problem first, then the rest, each by name.
    pub hosts: Vec<HostView>,
}

/// One host, as it reports about itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct HostView {
    /// The host's name.
    pub host: String,
    /// The host's `cluster` tag, from the newest reading that carries one.
    pub cluster: Option<String>,
    /// Whether the host reaches its storage.
    pub storage: StorageView,
    /// The agent's sign of life; null when it never sent one.
    pub heartbeat: Option<HeartbeatView>,
    /// Its storage gateways, by address.
    pub gateways: Vec<GatewayView>,
    /// What the agent can't probe at the moment for a reason on its own side, by pollster.
    pub failures: Vec<FailureView>,
    /// The publishers by which anything arrived from it, by name.
    pub paths: Vec<PathView>,
}

/// What may be said about a host's storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Its newest reading says that storage can't be reached.
    Lost,
    /// Nothing can be said; not a synonym of lost.
    Unknown,
    /// Its newest reading says that storage is reached.
    Reachable,
}

impl Verdict {
    /// The word in JSON and in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Lost => "lost",
            Verdict::Unknown => "unknown",
            Verdict::Reachable => "reachable",
        }
    }
}

/// Why nothing can be said about a host's storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownReason {
    /// The host's heartbeat is overdue.
    Silent,
    /// The reading or the heartbeat was received in the future: the database's clock went back.
    ClockWentBack,
    /// The host never sent a reading of its storage.
    NoReading,
    /// The newest probe failed on the host's own side.
    ProbeFailed,
    /// The reading is from before the agent's last start.
    EarlierLife,
    /// The reading is too old.
    Stale,
    /// The reading is neither 0 nor 1.
    StrangeValue,
}

/// Whether a host reaches its storage.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StorageView {
    /// The verdict.
    pub verdict: Verdict,
    /// Why the verdict is `unknown`; null for the other two.
    pub reason: Option<UnknownReason>,
    /// The same in words, for people.
    pub words: Option<String>,
    /// The newest reading as it was sent, believed or not: 1 reachable, 0 lost. Null when there is
    /// none, or when it is no finite number.
    pub value: Option<f64>,
    /// Its age in seconds.
    pub age_seconds: Option<f64>,
}

/// An agent's sign of life.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct HeartbeatView {
    /// Which life of the agent.
    pub epoch: u64,
    /// Which reading of that life.
    pub seq: u64,
    /// Its age in seconds.
    pub age_seconds: f64,
    /// Seconds between heartbeats as the agent declares them; null when it doesn't, or when what it
    /// declares can't be an interval.
    pub interval_seconds: Option<f64>,
    /// The agent's version as it declares it.
    pub version: Option<String>,
    /// It is of the agent's newest life and not overdue.
    pub fresh: bool,
    /// It is overdue: older than three declared intervals, and than three seconds.
    pub silent: bool,
    /// Newer readings are from a later life of the agent, which has sent no heartbeat yet.
    pub earlier_life: bool,
}

/// A code of one of our closed lists, which a newer agent's may exceed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CodeView {
    /// The number as it was sent; null when it was no whole number.
    pub code: Option<i64>,
    /// The code's name, such as `silent`; null when this build doesn't know the code.
    pub name: Option<String>,
    /// What it means, for people; `code 99` when this build doesn't know it.
    pub words: String,
}

/// One storage gateway, as a host sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct GatewayView {
    /// Its address, or its name, as configured on the host.
    pub address: String,
    /// What became of the probes of the last round that was judged; null when no status arrived.
    pub status: Option<CodeView>,
    /// Lost probes over sent ones in that round, 0 to 1; null when it didn't arrive.
    pub loss_ratio: Option<f64>,
    /// Median round-trip time in that round in microseconds; null when nothing answered.
    pub rtt_us: Option<f64>,
    /// The round's age in seconds.
    pub age_seconds: f64,
    /// The round says nothing about now: too old, from an earlier life of the agent, or a newer
    /// probe failed on the host's own side. A gateway that was taken out of the configuration ends
    /// like this.
    pub stale: bool,
    /// The status is 0, `answered`, and not stale.
    pub answers: bool,
}

/// A pollster that has no reading, for a reason on the host's own side.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FailureView {
    /// The pollster, such as `storage_connectivity`, or `storage_gateway/10.0.0.1` for one gateway.
    pub pollster: String,
    /// Why.
    pub reason: CodeView,
    /// What the agent adds to that, for people.
    pub detail: Option<String>,
    /// Its age in seconds.
    pub age_seconds: f64,
}

/// A publisher by which readings arrive from a host.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PathView {
    /// The publisher, as the agent names it.
    pub path: String,
    /// Seconds since it last brought an authentic reading.
    pub age_seconds: f64,
    /// It brought something within the time in which a live host's reading is believed.
    pub fresh: bool,
}

impl HostView {
    /// Whether someone should look at this host: storage isn't certain to be reached, a gateway
    /// gives a fresh bad answer, a pollster fails, or a path or the heartbeat is overdue.
    pub fn has_problem(&self) -> bool {
        self.storage.verdict != Verdict::Reachable
            || !self.failures.is_empty()
            || self.paths.iter().any(|path| !path.fresh)
            || self
                .gateways
                .iter()
                .any(|gateway| !gateway.stale && !gateway.answers)
            || self.heartbeat.as_ref().is_some_and(|beat| beat.silent)
    }
}

fn as_text<S: Serializer>(time: &UtcTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}
