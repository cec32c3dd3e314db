//! Pure. What a pollster yields: one sample of one meter about one resource.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use super::{UtcTime, Value};

/// Ceilometer's three types of meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MeterType {
    /// A value that stands alone.
    Gauge,
    /// A change since the last sample.
    Delta,
    /// A count that only grows until its source restarts.
    Cumulative,
}

impl MeterType {
    /// The word on the wire and in the `meter` table.
    pub fn as_str(self) -> &'static str {
        match self {
            MeterType::Gauge => "gauge",
            MeterType::Delta => "delta",
            MeterType::Cumulative => "cumulative",
        }
    }

    /// The type that a word on the wire names.
    pub fn from_name(name: &str) -> Option<Self> {
        [MeterType::Gauge, MeterType::Delta, MeterType::Cumulative]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }
}

impl fmt::Display for MeterType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A meter: name, type and unit, as one row of the `meter` table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Meter {
    /// The counter's name, such as `storage_connectivity`.
    pub name: Cow<'static, str>,
    /// Gauge, delta or cumulative.
    pub kind: MeterType,
    /// The unit of the volume; empty where there is none.
    pub unit: Cow<'static, str>,
}

impl Meter {
    /// A meter known at compile time.
    pub const fn new(name: &'static str, kind: MeterType, unit: &'static str) -> Self {
        Meter {
            name: Cow::Borrowed(name),
            kind,
            unit: Cow::Borrowed(unit),
        }
    }
}

/// The meters of ours that this build emits. Names, types and units are a contract.
pub mod meters {
    use super::{Meter, MeterType};

    /// 1 the node reaches its storage, 0 it does not. Resource: the host.
    pub const STORAGE_CONNECTIVITY: Meter =
        Meter::new("storage_connectivity", MeterType::Gauge, "");
    /// Lost probes over sent ones, 0 to 1. Resource: host/gateway.
    pub const GATEWAY_LOSS_RATIO: Meter =
        Meter::new("storage_gateway.loss_ratio", MeterType::Gauge, "ratio");
    /// Median round-trip time of the answered probes. Resource: host/gateway.
    pub const GATEWAY_RTT: Meter = Meter::new("storage_gateway.rtt", MeterType::Gauge, "us");
    /// The code of a [`GatewayStatus`](crate::model::GatewayStatus). Resource: host/gateway.
    pub const GATEWAY_STATUS: Meter = Meter::new("storage_gateway.status", MeterType::Gauge, "");
    /// Always 1: the instance is there. Resource: the instance's UUID. Ceilometer's.
    pub const INSTANCE: Meter = Meter::new("instance", MeterType::Gauge, "instance");
    /// libvirt's state of the domain (`virDomainState`). Resource: the instance's UUID. Ceilometer's.
    pub const POWER_STATE: Meter = Meter::new("power.state", MeterType::Gauge, "");
    /// libvirt's state of the domain (`virDomainState`), with its reason in the metadata. Resource:
    /// the instance's UUID.
    pub const INSTANCE_STATE: Meter = Meter::new("instance.state", MeterType::Gauge, "");
    /// How many instances a complete round saw; that many `instance.state` are numbered right
    /// before it. Resource: the host.
    pub const INSTANCE_ROUND: Meter = Meter::new("instance.round", MeterType::Gauge, "instance");
    /// 1 libvirt answered, 0 it hung or is dead. Resource: the host.
    pub const HYPERVISOR_CONNECTIVITY: Meter =
        Meter::new("hypervisor.connectivity", MeterType::Gauge, "");
    /// 1 at least one network of the host answers, 0 none does. Seen from outside. Resource: the
    /// host looked at.
    pub const HOST_CONNECTIVITY: Meter = Meter::new("host.connectivity", MeterType::Gauge, "");
    /// 1 the host answers on this network, 0 it does not. Resource: host/network.
    pub const HOST_NETWORK_CONNECTIVITY: Meter =
        Meter::new("host_network.connectivity", MeterType::Gauge, "");
    /// The code of a [`GatewayStatus`](crate::model::GatewayStatus). Resource: host/network.
    pub const HOST_NETWORK_STATUS: Meter = Meter::new("host_network.status", MeterType::Gauge, "");
    /// 1 the BMC says that the chassis has power, 0 that it hasn't. Resource: the host.
    pub const IPMI_CHASSIS_POWER: Meter =
        Meter::new("hardware.ipmi.chassis.power", MeterType::Gauge, "");
    /// What a sensor of the chassis measures. Resource: host-sensor. Ceilometer's, like the next.
    pub const IPMI_TEMPERATURE: Meter =
        Meter::new("hardware.ipmi.temperature", MeterType::Gauge, "C");
    /// Likewise.
    pub const IPMI_VOLTAGE: Meter = Meter::new("hardware.ipmi.voltage", MeterType::Gauge, "V");
    /// Likewise.
    pub const IPMI_CURRENT: Meter = Meter::new("hardware.ipmi.current", MeterType::Gauge, "A");
    /// Likewise.
    pub const IPMI_FAN: Meter = Meter::new("hardware.ipmi.fan", MeterType::Gauge, "RPM");
    /// Likewise.
    pub const IPMI_POWER: Meter = Meter::new("hardware.ipmi.power", MeterType::Gauge, "W");
    /// The agent's own `ha_seq`: it lives and counts. Resource: the host.
    pub const HEARTBEAT: Meter = Meter::new("compute.heartbeat", MeterType::Cumulative, "");
    /// The code of a [`FailReason`](crate::model::FailReason). Resource: host/pollster.
    pub const POLLSTER_FAILED: Meter = Meter::new("pollster.failed", MeterType::Gauge, "");
}

/// A sample's value. Whole numbers stay whole: Python prints `1` and `1.0` differently, and the
/// text is what gets signed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Volume {
    /// A whole number.
    Int(i64),
    /// A double; ours have at most six decimal places, so that old and new senders' texts agree.
    Float(f64),
}

impl Volume {
    /// A ratio, rounded to the six places that every verifier prints alike.
    pub fn ratio(value: f64) -> Self {
        Volume::Float((value * 1e6).round() / 1e6)
    }

    /// A number that somebody else measured, as every verifier prints it alike: at most six decimal
    /// places and, because old ones print no more, twelve digits. None if it is no finite number.
    pub fn measured(value: f64) -> Option<Self> {
        if !value.is_finite() {
            return None;
        }
        let rounded: f64 = format!("{value:.11e}").parse().ok()?;
        let rounded: f64 = format!("{rounded:.6}").parse().ok()?;
        let whole = (rounded.fract() == 0.0)
            .then(|| format!("{rounded:.0}").parse().ok())
            .flatten();
        Some(whole.map_or(Volume::Float(rounded), Volume::Int))
    }

    /// As the database keeps it.
    pub fn as_f64(self) -> f64 {
        match self {
            #[allow(clippy::cast_precision_loss)] // the column is a double
            Volume::Int(number) => number as f64,
            Volume::Float(number) => number,
        }
    }
}

/// What is known about a resource beside its meters. Sorted, because its text is hashed.
pub type Metadata = BTreeMap<String, Value>;

/// One sample of one meter, as a pollster yields it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// What was measured.
    pub meter: Meter,
    /// How much.
    pub volume: Volume,
    /// Of what.
    pub resource_id: String,
    /// The owner, where the resource has one.
    pub user_id: Option<String>,
    /// The owner's project, where the resource has one.
    pub project_id: Option<String>,
    /// When, by the observer's clock.
    pub timestamp: UtcTime,
    /// What else is known about the resource. Nothing that changes each round belongs here: every
    /// distinct metadata makes a row in `resource`.
    pub metadata: Metadata,
}

impl Sample {
    /// A sample of something that belongs to no user and no project.
    pub fn new(
        meter: Meter,
        volume: Volume,
        resource_id: impl Into<String>,
        timestamp: UtcTime,
        metadata: Metadata,
    ) -> Self {
        Sample {
            meter,
            volume,
            resource_id: resource_id.into(),
            user_id: None,
            project_id: None,
            timestamp,
            metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_has_a_text_that_all_agree_about() {
        for (value, expected) in [
            (1.0, Some(Volume::Int(1))),
            (-0.0, Some(Volume::Int(0))),
            (0.1 + 0.2, Some(Volume::Float(0.3))),
            (1.234_567_89, Some(Volume::Float(1.234_568))),
            (-0.000_000_4, Some(Volume::Int(0))),
            (123_456_789.123_456, Some(Volume::Float(123_456_789.123))),
            (123_456_789_012.7, Some(Volume::Int(123_456_789_013))),
            (1e15, Some(Volume::Int(1_000_000_000_000_000))),
            (1e300, Some(Volume::Float(1e300))),
            (f64::NAN, None),
            (f64::INFINITY, None),
        ] {
            assert_eq!(Volume::measured(value), expected, "{value}");
        }
    }
}
