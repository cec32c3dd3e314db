//! Pure. The shape of what is shown: `compute-ha status --format json` is this, so names and units
//! of the fields are a contract.
//!
//! Every text in here came from the network and has been through
//! [`printable`](super::text::printable): it is short and holds nothing that moves a cursor.
//! Ages are seconds by the database's clock since it stored the reading; a negative age is a
//! reading from the future, which only a database whose clock went back can hold.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::model::UtcTime;

/// The whole fleet at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FleetView {
    /// The moment by the database's clock, ISO 8601 in UTC without a zone.
    #[serde(serialize_with = "as_text")]
    pub now: UtcTime,
    /// Every host that ever reported about itself, or that somebody looks at from outside: those
    /// with a problem first, the most urgent ahead, then the rest, each by name.
    pub hosts: Vec<HostView>,
    /// Who looks at hosts from outside: those with a problem first, each by name. One that reports
    /// about itself too is also among the hosts.
    pub observers: Vec<ObserverView>,
    /// Every instance that was ever heard of, by UUID and host: where it is, and when that was last
    /// certain. One that moved or migrates is there once for each host.
    pub instances: Vec<PlacedInstanceView>,
}

/// One host: what it reports about itself, and what others see of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct HostView {
    /// The host's name.
    pub host: String,
    /// The host's `cluster` tag, from the newest reading that carries one.
    pub cluster: Option<String>,
    /// Whether the host reaches its storage.
    pub storage: StorageView,
    /// Two agents use this host's name, so nothing that it says is believed; null when one does.
    pub conflict: Option<ConflictView>,
    /// How many seconds its clock is behind the database's; what the newest reading took to be stored
    /// counts in. Below 0 it is ahead. Null where its newest reading is too old.
    pub clock_behind_seconds: Option<f64>,
    /// How well the origin of its newest reading is proven: `host_key` by a key of its own,
    /// `shared_secret` by the fleet's secret alone, by which others could have made it; null when nothing
    /// came from it.
    pub quality: Option<String>,
    /// The agent's sign of life; null when it never sent one.
    pub heartbeat: Option<HeartbeatView>,
    /// Its storage gateways, by address.
    pub gateways: Vec<GatewayView>,
    /// Whether its libvirt answers; null when it never said so.
    pub hypervisor: Option<HypervisorView>,
    /// Its instances; null when it never told of any, nor that there are none.
    pub instances: Option<InstancesView>,
    /// How others see it, by observer. It never changes what is said about its storage.
    pub outside: Vec<OutsideView>,
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
    /// Two agents use the host's name.
    IdentityConflict,
    /// The reading or the heartbeat was received in the future: the database's clock went back.
    ClockWentBack,
    /// The host never sent a reading of its storage.
    NoReading,
    /// Nothing at all has come from it: it is only seen from outside.
    NeverReported,
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

/// Two agents that use one name: an earlier life goes on beside the newest.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ConflictView {
    /// The newest epoch.
    pub epoch: u64,
    /// The earlier one that goes on.
    pub rival_epoch: u64,
    /// How long ago a reading of the earlier one was last stored, in seconds.
    pub age_seconds: f64,
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

/// Whether libvirt answers on a host.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct HypervisorView {
    /// The newest reading as it was sent: 1 it answered, 0 it hung or is dead.
    pub value: Option<f64>,
    /// Its age in seconds.
    pub age_seconds: f64,
    /// The reading says nothing about now.
    pub stale: bool,
    /// The reading is 1 and not stale.
    pub answers: bool,
}

/// The instances of one host. During a migration two hosts show the same one.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct InstancesView {
    /// How many there are: those of the newest complete round, and those heard of since.
    pub there: u64,
    /// The same by state: `nostate`, `running`, `blocked`, `paused`, `shutdown`, `shutoff`,
    /// `crashed`, `pmsuspended`, or `unknown` for a code that this build doesn't know.
    pub by_state: BTreeMap<String, u64>,
    /// Those of them that something happened to, by name.
    pub troubled: Vec<InstanceView>,
    /// Those of which no reading came with the newest round, while readings of it are missing:
    /// nobody can say whether they are gone. The last heard of first. Not counted above.
    pub unconfirmed: Vec<InstanceView>,
    /// The newest round; null when none has arrived.
    pub round: Option<RoundView>,
    /// The newest round of which every reading has arrived; null when there is none.
    pub complete_round: Option<CompleteRoundView>,
    /// Age in seconds of that round, or without one of the newest reading of an instance.
    pub age_seconds: f64,
    /// All of this is history: the round is too old, from an earlier life of the agent, or the
    /// instances couldn't be looked at since.
    pub stale: bool,
}

/// A complete round of looking at a host's instances.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RoundView {
    /// How many instances it saw.
    pub instances: u64,
    /// How many of its readings have not arrived. As long as it isn't 0 nobody may say which
    /// instances are gone.
    pub missing_readings: u64,
}

/// The newest round of instances of which every reading has arrived.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CompleteRoundView {
    /// How many instances it saw.
    pub instances: u64,
    /// How long ago its last reading was stored, in seconds.
    pub age_seconds: f64,
}

/// Where an instance is, as one host says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// On this host.
    There,
    /// It may be: readings of the newest round are missing, and none is about it.
    Unconfirmed,
    /// No longer on this host: a complete round lacks it.
    Gone,
    /// The host says nothing about now.
    Unknown,
}

/// One instance on one host.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PlacedInstanceView {
    /// Its UUID.
    pub uuid: String,
    /// Its name.
    pub name: Option<String>,
    /// The project that owns it.
    pub project: Option<String>,
    /// The host.
    pub host: String,
    /// Whether it is there.
    pub place: Place,
    /// libvirt's state as the host last saw it.
    pub state: CodeView,
    /// Age in seconds of that reading.
    pub age_seconds: f64,
    /// How long ago a complete round of the host last saw it, in seconds; null when none did.
    pub confirmed_age_seconds: Option<f64>,
}

/// One instance, as a host last saw it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct InstanceView {
    /// Its UUID.
    pub uuid: String,
    /// Its name.
    pub name: Option<String>,
    /// The project that owns it.
    pub project: Option<String>,
    /// libvirt's state.
    pub state: CodeView,
    /// libvirt's reason for the state, such as `booted` or `ioerror`.
    pub reason: Option<String>,
    /// What happened to it; null when nothing is wrong.
    pub trouble: Option<Trouble>,
    /// The reading's age in seconds.
    pub age_seconds: f64,
    /// How long ago a complete round last saw it, in seconds; null when none did.
    pub confirmed_age_seconds: Option<f64>,
}

/// What can have happened to an instance, as its state and reason say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// Paused because a disk of it failed or is full.
    IoError,
    /// Its guest crashed.
    Crashed,
    /// Its QEMU died, or failed to start.
    Failed,
    /// Paused by its watchdog.
    Watchdog,
}

impl Trouble {
    /// What happened, for people.
    pub fn words(self) -> &'static str {
        match self {
            Trouble::IoError => "paused by an I/O error",
            Trouble::Crashed => "crashed",
            Trouble::Failed => "its QEMU died or failed to start",
            Trouble::Watchdog => "paused by its watchdog",
        }
    }
}

/// How one observer sees a host from outside.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct OutsideView {
    /// Who looks.
    pub observer: String,
    /// True: the host answers on a network at least. False: it answers on none. Null: the observer
    /// can't say at the moment.
    pub answers: Option<bool>,
    /// Age in seconds of the newest reading.
    pub age_seconds: f64,
    /// Nothing of this says anything about now.
    pub stale: bool,
    /// Network by network, by name.
    pub networks: Vec<OutsideNetworkView>,
}

/// How one observer sees a host on one network.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct OutsideNetworkView {
    /// The network, as the observer names it.
    pub network: String,
    /// The host's address there.
    pub address: Option<String>,
    /// What became of the probes; null when no status of that round arrived.
    pub status: Option<CodeView>,
    /// The round's age in seconds.
    pub age_seconds: f64,
    /// The round says nothing about now: too old, from an earlier life of the observer, or the
    /// observer couldn't look since.
    pub stale: bool,
    /// The host answered, and that is not stale.
    pub answers: bool,
}

/// One who looks at hosts from outside.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ObserverView {
    /// Its name.
    pub observer: String,
    /// It is among the hosts too.
    pub is_host: bool,
    /// How many hosts answer it.
    pub hosts_answering: u64,
    /// How many hosts answer it on no network.
    pub hosts_silent: u64,
    /// Of how many hosts it can't say so at the moment, or no longer says anything.
    pub hosts_unknown: u64,
    /// Age in seconds of the newest reading of any host, or of why there is none.
    pub age_seconds: f64,
    /// That is overdue, or from an earlier life of it.
    pub stale: bool,
    /// Two agents use its name, so nothing that it says is believed; null when one does.
    pub conflict: Option<ConflictView>,
    /// As of a host.
    pub clock_behind_seconds: Option<f64>,
    /// Its sign of life; null when it sends none.
    pub heartbeat: Option<HeartbeatView>,
    /// What it can't look at for a reason on its own side, by pollster.
    pub failures: Vec<FailureView>,
    /// How other observers see it, where it isn't among the hosts.
    pub outside: Vec<OutsideView>,
    /// The publishers by which anything arrived from it, by name.
    pub paths: Vec<PathView>,
}

impl ObserverView {
    /// Whether someone should look at this observer: it is overdue, shares its name, or can't look for a reason on
    /// its own side, or, where it isn't among the hosts, its heartbeat or a path is overdue or
    /// another observer gets no answer from it.
    pub fn has_problem(&self) -> bool {
        let by_itself = || {
            self.heartbeat.as_ref().is_some_and(|beat| beat.silent)
                || self.paths.iter().any(|path| !path.fresh)
                || self.outside.iter().any(OutsideView::has_problem)
        };
        self.stale
            || self.conflict.is_some()
            || !self.failures.is_empty()
            || (!self.is_host && by_itself())
    }
}

impl OutsideView {
    /// Whether the observer sees the host not answering, on one network at least.
    pub fn has_problem(&self) -> bool {
        self.answers == Some(false)
            || self
                .networks
                .iter()
                .any(|network| !network.stale && !network.answers)
    }
}

impl HostView {
    /// Whether someone should look at this host: storage isn't certain to be reached, a gateway
    /// gives a fresh bad answer, libvirt doesn't answer, something happened to an instance, an
    /// observer gets no answer from it, a pollster fails, or a path or the heartbeat is overdue.
    pub fn has_problem(&self) -> bool {
        self.storage.verdict != Verdict::Reachable
            || !self.failures.is_empty()
            || self.paths.iter().any(|path| !path.fresh)
            || self
                .gateways
                .iter()
                .any(|gateway| !gateway.stale && !gateway.answers)
            || self.heartbeat.as_ref().is_some_and(|beat| beat.silent)
            || self
                .hypervisor
                .as_ref()
                .is_some_and(HypervisorView::is_dead)
            || self
                .instances
                .as_ref()
                .is_some_and(|instances| !instances.stale && !instances.troubled.is_empty())
            || self.outside.iter().any(OutsideView::has_problem)
    }
}

impl HypervisorView {
    /// Whether it is known not to answer.
    pub(super) fn is_dead(&self) -> bool {
        !self.stale && !self.answers
    }
}

fn as_text<S: Serializer>(time: &UtcTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}
