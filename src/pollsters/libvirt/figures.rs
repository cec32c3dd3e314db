//! Pure. Ceilometer's meters from what libvirt counts about one domain. Names, units, types and
//! arithmetic are those of Ceilometer's libvirt inspector and its compute pollsters
//! (`ceilometer/compute/virt/libvirt/inspector.py`, `ceilometer/compute/pollsters/`).

use std::collections::BTreeMap;

use super::domain::{Disk, Domain, Interface};
use super::report::Statistic;
use crate::model::MeterType::{Cumulative, Gauge};
use crate::model::{Metadata, Meter, Sample, UtcTime, Value, Volume};

/// Every meter that statistics yield.
pub const METERS: &[Meter] = &[
    CPU,
    VCPUS,
    MEMORY,
    MEMORY_AVAILABLE,
    MEMORY_USAGE,
    MEMORY_RESIDENT,
    MEMORY_SWAP_IN,
    MEMORY_SWAP_OUT,
    Meter::new("disk.device.read.requests", Cumulative, "request"),
    Meter::new("disk.device.read.bytes", Cumulative, "B"),
    Meter::new("disk.device.read.latency", Cumulative, "ns"),
    Meter::new("disk.device.write.requests", Cumulative, "request"),
    Meter::new("disk.device.write.bytes", Cumulative, "B"),
    Meter::new("disk.device.write.latency", Cumulative, "ns"),
    DISK_CAPACITY,
    DISK_ALLOCATION,
    DISK_USAGE,
    DISK_ROOT_SIZE,
    DISK_EPHEMERAL_SIZE,
    Meter::new("network.incoming.bytes", Cumulative, "B"),
    Meter::new("network.incoming.packets", Cumulative, "packet"),
    Meter::new("network.incoming.packets.error", Cumulative, "packet"),
    Meter::new("network.incoming.packets.drop", Cumulative, "packet"),
    Meter::new("network.outgoing.bytes", Cumulative, "B"),
    Meter::new("network.outgoing.packets", Cumulative, "packet"),
    Meter::new("network.outgoing.packets.error", Cumulative, "packet"),
    Meter::new("network.outgoing.packets.drop", Cumulative, "packet"),
];

const CPU: Meter = Meter::new("cpu", Cumulative, "ns");
const VCPUS: Meter = Meter::new("vcpus", Gauge, "vcpu");
const MEMORY: Meter = Meter::new("memory", Gauge, "MiB");
const MEMORY_AVAILABLE: Meter = Meter::new("memory.available", Gauge, "MiB");
const MEMORY_USAGE: Meter = Meter::new("memory.usage", Gauge, "MiB");
const MEMORY_RESIDENT: Meter = Meter::new("memory.resident", Gauge, "MiB");
const MEMORY_SWAP_IN: Meter = Meter::new("memory.swap.in", Cumulative, "MiB");
const MEMORY_SWAP_OUT: Meter = Meter::new("memory.swap.out", Cumulative, "MiB");
const DISK_CAPACITY: Meter = Meter::new("disk.device.capacity", Gauge, "B");
const DISK_ALLOCATION: Meter = Meter::new("disk.device.allocation", Gauge, "B");
const DISK_USAGE: Meter = Meter::new("disk.device.usage", Gauge, "B");
const DISK_ROOT_SIZE: Meter = Meter::new("disk.root.size", Gauge, "GiB");
const DISK_EPHEMERAL_SIZE: Meter = Meter::new("disk.ephemeral.size", Gauge, "GiB");

/// libvirt's counters of a disk, by meter; the names stand behind `block.N.`.
const DISK_COUNTERS: &[(&str, &str)] = &[
    ("disk.device.read.requests", "rd.reqs"),
    ("disk.device.read.bytes", "rd.bytes"),
    ("disk.device.read.latency", "rd.times"),
    ("disk.device.write.requests", "wr.reqs"),
    ("disk.device.write.bytes", "wr.bytes"),
    ("disk.device.write.latency", "wr.times"),
];

/// libvirt's counters of an interface, by meter; the names stand behind `net.N.`.
const INTERFACE_COUNTERS: &[(&str, &str)] = &[
    ("network.incoming.bytes", "rx.bytes"),
    ("network.incoming.packets", "rx.pkts"),
    ("network.incoming.packets.error", "rx.errs"),
    ("network.incoming.packets.drop", "rx.drop"),
    ("network.outgoing.bytes", "tx.bytes"),
    ("network.outgoing.packets", "tx.pkts"),
    ("network.outgoing.packets.error", "tx.errs"),
    ("network.outgoing.packets.drop", "tx.drop"),
];

/// The most disks, interfaces or processors that are read of one domain; QEMU has fewer.
const DEVICES_MAX: i64 = 1024;

/// What libvirt counts about one domain, by name.
pub struct Counters(BTreeMap<String, Statistic>);

impl Counters {
    /// Takes them as libvirt hands them out.
    pub fn new(counted: Vec<(String, Statistic)>) -> Self {
        Counters(counted.into_iter().collect())
    }

    fn number(&self, name: &str) -> Option<i64> {
        match self.0.get(name)? {
            Statistic::Number(number) => i64::try_from(*number).ok(),
            _ => None,
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name)? {
            Statistic::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The numbers of those devices of a kind that have this name.
    fn device(&self, kind: &str, name: &str) -> Option<i64> {
        let count = self.number(&format!("{kind}.count"))?.min(DEVICES_MAX);
        (0..count).find(|device| self.text(&format!("{kind}.{device}.name")) == Some(name))
    }

    /// Nanoseconds of processor time: what the vCPUs ran and waited, where all of them say so.
    fn cpu_time(&self) -> Option<i64> {
        let expected = self.number("vcpu.current");
        let maximum = self.number("vcpu.maximum").unwrap_or(0).min(DEVICES_MAX);
        let of_vcpu = |vcpu: i64| {
            let run = self.number(&format!("vcpu.{vcpu}.time"))?;
            let waited = self.number(&format!("vcpu.{vcpu}.wait"))?;
            Some(run.saturating_add(waited))
        };
        let times: Vec<i64> = (0..maximum).filter_map(of_vcpu).collect();
        if expected == i64::try_from(times.len()).ok() {
            Some(times.into_iter().fold(0, i64::saturating_add))
        } else {
            self.number("cpu.time")
        }
    }

    /// Kibibytes as mebibytes.
    fn mebibytes(&self, name: &str) -> Option<Volume> {
        self.number(name).map(mebibytes)
    }
}

/// The samples of one domain. `metadata` is what its `instance` sample carries.
pub fn samples(
    domain: &Domain,
    counters: &Counters,
    metadata: &Metadata,
    at: UtcTime,
) -> Vec<Sample> {
    let figures = Figures {
        domain,
        counters,
        metadata,
        at,
    };
    let mut samples = figures.processors_and_memory();
    for disk in domain.disks.iter().filter(|disk| disk.has_source) {
        samples.extend(figures.disk(disk));
    }
    for interface in &domain.interfaces {
        samples.extend(figures.interface(interface));
    }
    samples.extend(figures.flavor());
    samples
}

struct Figures<'a> {
    domain: &'a Domain,
    counters: &'a Counters,
    metadata: &'a Metadata,
    at: UtcTime,
}

impl Figures<'_> {
    fn processors_and_memory(&self) -> Vec<Sample> {
        let counters = self.counters;
        let vcpus = counters.number("vcpu.current");
        let cpu_number = Metadata::from([(
            "cpu_number".to_owned(),
            vcpus.map_or(Value::Null, |count| Value::Int(count.into())),
        )]);
        let used = match (
            counters.number("balloon.available"),
            counters
                .number("balloon.usable")
                .or(counters.number("balloon.unused")),
        ) {
            (Some(available), Some(free)) => Some(mebibytes(available.saturating_sub(free))),
            _ => None,
        };
        let swapped = ["balloon.swap_in", "balloon.swap_out"].map(|name| counters.mebibytes(name));
        let both_swapped = swapped.iter().all(Option::is_some);
        let [swap_in, swap_out] = swapped.map(|volume| volume.filter(|_| both_swapped));
        let cpu_time = counters.cpu_time().map(Volume::Int);
        let rest = [
            (VCPUS, vcpus.map(Volume::Int)),
            (MEMORY, counters.mebibytes("balloon.current")),
            (MEMORY_AVAILABLE, counters.mebibytes("balloon.available")),
            (MEMORY_USAGE, used),
            (MEMORY_RESIDENT, counters.mebibytes("balloon.rss")),
            (MEMORY_SWAP_IN, swap_in),
            (MEMORY_SWAP_OUT, swap_out),
        ];
        let uuid = &self.domain.uuid;
        let cpu = cpu_time.map(|volume| self.sample(CPU, volume, uuid, &cpu_number));
        let rest = rest.into_iter().filter_map(|(meter, volume)| {
            Some(self.sample(meter, volume?, uuid, &Metadata::new()))
        });
        cpu.into_iter().chain(rest).collect()
    }

    fn disk(&self, disk: &Disk) -> Vec<Sample> {
        let Some(number) = self.counters.device("block", &disk.device) else {
            return Vec::new();
        };
        let count = |name: &str| self.counters.number(&format!("block.{number}.{name}"));
        let resource = format!("{}-{}", self.domain.uuid, disk.device);
        let more = Metadata::from([("disk_name".to_owned(), Value::from(disk.device.as_str()))]);
        // A CD-ROM's capacity is aligned downwards by libvirt, its physical size is not.
        let capacity = count("capacity").max(count("physical"));
        let sizes = [
            (DISK_CAPACITY, capacity),
            (DISK_ALLOCATION, count("allocation")),
            (DISK_USAGE, count("physical")),
        ];
        let counted = DISK_COUNTERS
            .iter()
            .filter_map(|(meter, name)| Some((meter_named(meter)?, count(name))));
        sizes
            .into_iter()
            .chain(counted)
            .filter_map(|(meter, volume)| {
                Some(self.sample(meter, Volume::Int(volume?), &resource, &more))
            })
            .collect()
    }

    fn interface(&self, interface: &Interface) -> Vec<Sample> {
        let Some(number) = self.counters.device("net", &interface.name) else {
            return Vec::new();
        };
        let resource = interface.fref.clone().unwrap_or_else(|| {
            let Domain { name, uuid, .. } = self.domain;
            format!("{name}-{uuid}-{}", interface.name)
        });
        let more = interface.metadata();
        let counted = INTERFACE_COUNTERS.iter().filter_map(|(meter, name)| {
            let volume = self.counters.number(&format!("net.{number}.{name}"))?;
            let meter = meter_named(meter)?;
            Some(self.sample(meter, Volume::Int(volume), &resource, &more))
        });
        counted.collect()
    }

    /// What the flavor says, which only Nova's instances have.
    fn flavor(&self) -> Vec<Sample> {
        let Some(nova) = &self.domain.nova else {
            return Vec::new();
        };
        let (disk, ephemeral) = (nova.flavor.disk, nova.flavor.ephemeral);
        [
            (DISK_ROOT_SIZE, disk.saturating_sub(ephemeral)),
            (DISK_EPHEMERAL_SIZE, ephemeral),
        ]
        .into_iter()
        .map(|(meter, volume)| {
            let uuid = &self.domain.uuid;
            self.sample(meter, Volume::Int(volume), uuid, &Metadata::new())
        })
        .collect()
    }

    fn sample(&self, meter: Meter, volume: Volume, resource: &str, more: &Metadata) -> Sample {
        let nova = self.domain.nova.as_ref();
        let mut metadata = self.metadata.clone();
        metadata.extend(more.clone());
        Sample {
            meter,
            volume,
            resource_id: resource.to_owned(),
            user_id: nova.map(|nova| nova.user_id.clone()),
            project_id: nova.map(|nova| nova.project_id.clone()),
            timestamp: self.at,
            metadata,
        }
    }
}

fn mebibytes(kibibytes: i64) -> Volume {
    #[allow(clippy::cast_precision_loss)] // memory has no 2^53 KiB
    let kibibytes = kibibytes as f64;
    Volume::ratio(kibibytes / 1024.0)
}

fn meter_named(name: &str) -> Option<Meter> {
    METERS.iter().find(|meter| meter.name == name).cloned()
}
