//! Pure. What is known about the node's instances, and what of it is worth a reading.
//!
//! `instance.state` goes out with every complete round and at every event; `instance` and
//! `power.state`, which repeat a lot of metadata, on change and at least every ten minutes. A complete
//! round ends with `instance.round`, whose volume is the number of `instance.state` right before it:
//! whoever has all of them knows that there are no others.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::domain::Domain;
use super::report::{DomainState, What};
use super::state::{Lifecycle, lifecycle, reason_name};
use crate::config::Reserved;
use crate::model::{Metadata, Meter, Sample, UtcTime, Value, Volume, meters};

/// How often `instance` and `power.state` are told although nothing changed.
const REPEAT: Duration = Duration::from_secs(600);
/// How often a definition is read again although no event said that it changed: events can be lost.
const REREAD: Duration = Duration::from_secs(600);

/// The instances of one node.
pub struct Book {
    host: String,
    interval: Duration,
    reserved: Reserved,
    instances: BTreeMap<String, Instance>,
}

/// One of them.
#[derive(Debug, Default)]
struct Instance {
    /// Its name in libvirt.
    name: String,
    /// State and reason; None until libvirt was asked.
    state: Option<(i64, i64)>,
    definition: Option<Domain>,
    /// When its definition was last asked for.
    read_at: Option<Instant>,
    told: Option<Told>,
}

/// What was last said of it in `instance` and `power.state`.
#[derive(Debug)]
struct Told {
    at: Instant,
    state: i64,
    metadata: Metadata,
}

/// What happened to an instance, for metadata. Both words are of closed lists.
#[derive(Debug, Clone, Copy)]
struct Happened {
    event: &'static str,
    detail: &'static str,
}

impl Book {
    /// A book for the instances of `host`, which are looked at every `interval`.
    pub fn new(host: &str, interval: Duration, reserved: &Reserved) -> Self {
        Book {
            host: host.to_owned(),
            interval,
            reserved: reserved.clone(),
            instances: BTreeMap::new(),
        }
    }

    /// Takes over what a complete round saw: who isn't in it is gone.
    pub fn saw(&mut self, states: &[DomainState]) {
        let mut before = std::mem::take(&mut self.instances);
        for seen in states {
            let mut instance = before.remove(&seen.uuid).unwrap_or_default();
            instance.name.clone_from(&seen.name);
            instance.state = Some((seen.state, seen.reason));
            self.instances.insert(seen.uuid.clone(), instance);
        }
    }

    /// The readings of the round that was last taken over.
    pub fn round(&mut self, now: Instant, at: UtcTime) -> Vec<Sample> {
        let uuids: Vec<String> = self.instances.keys().cloned().collect();
        let mut samples = self.changes(uuids.iter(), now, at);
        let states: Vec<Sample> = uuids
            .iter()
            .filter_map(|uuid| self.state_sample(uuid, None, at))
            .collect();
        let count = i64::try_from(states.len()).unwrap_or(i64::MAX);
        samples.extend(states);
        samples.push(Sample {
            meter: meters::INSTANCE_ROUND,
            volume: Volume::Int(count),
            resource_id: self.host.clone(),
            user_id: None,
            project_id: None,
            timestamp: at,
            metadata: Metadata::from([("node".to_owned(), Value::from(self.host.as_str()))]),
        });
        samples
    }

    /// Those whose definitions should be read now, at most `count`; they count as read.
    pub fn to_read(&mut self, now: Instant, count: usize) -> Vec<String> {
        let is_due = |instance: &Instance| {
            instance
                .read_at
                .is_none_or(|at| now.saturating_duration_since(at) >= REREAD)
        };
        let due = self
            .instances
            .iter_mut()
            .filter(|(_, instance)| is_due(instance));
        due.take(count)
            .map(|(uuid, instance)| {
                instance.read_at = Some(now);
                uuid.clone()
            })
            .collect()
    }

    /// A definition was read.
    pub fn define(&mut self, uuid: &str, definition: Domain) {
        if let Some(instance) = self.instances.get_mut(uuid) {
            instance.definition = Some(definition);
        }
    }

    /// Something happened to an instance: the reading about it, if its state can be told.
    pub fn happened(&mut self, uuid: &str, name: &str, what: &What, at: UtcTime) -> Option<Sample> {
        let instance = self.instances.entry(uuid.to_owned()).or_default();
        name.clone_into(&mut instance.name);
        let happened = match what {
            What::Lifecycle(event, detail) => {
                let Lifecycle {
                    name,
                    detail,
                    state,
                } = lifecycle(*event, *detail);
                if name == "defined" {
                    instance.read_at = None;
                }
                instance.state = state.or(instance.state);
                Happened {
                    event: name,
                    detail,
                }
            }
            What::Reboot => Happened::new("reboot", ""),
            What::Watchdog(action) => Happened::new("watchdog", watchdog_action(*action)),
            What::IoError(_, reason) => Happened::new("io_error", io_reason(reason)),
            What::ControlError => Happened::new("control_error", ""),
            What::Metadata => {
                instance.read_at = None;
                return None;
            }
        };
        self.state_sample(uuid, Some(happened), at)
    }

    /// What libvirt says about one instance when asked after an event: the reading about it, if it
    /// is another state than the last one that was told.
    pub fn verify(&mut self, seen: &DomainState, at: UtcTime) -> Option<Sample> {
        let instance = self.instances.entry(seen.uuid.clone()).or_default();
        instance.name.clone_from(&seen.name);
        let state = Some((seen.state, seen.reason));
        if instance.state == state {
            return None;
        }
        instance.state = state;
        self.state_sample(&seen.uuid, None, at)
    }

    /// `instance` and `power.state` of those that changed since they were last told, or that were
    /// not told for long.
    pub fn changes<'a>(
        &mut self,
        uuids: impl Iterator<Item = &'a String>,
        now: Instant,
        at: UtcTime,
    ) -> Vec<Sample> {
        let mut samples = Vec::new();
        for uuid in uuids {
            let Some((state, metadata)) = self.to_tell(uuid, now) else {
                continue;
            };
            samples.extend([
                self.sample(uuid, meters::INSTANCE, 1, metadata.clone(), at),
                self.sample(uuid, meters::POWER_STATE, state, metadata.clone(), at),
            ]);
            if let Some(instance) = self.instances.get_mut(uuid) {
                instance.told = Some(Told {
                    at: now,
                    state,
                    metadata,
                });
            }
        }
        samples
    }

    /// State and metadata of an instance, if they are to be told now.
    fn to_tell(&self, uuid: &str, now: Instant) -> Option<(i64, Metadata)> {
        let instance = self.instances.get(uuid)?;
        let (state, _) = instance.state?;
        let metadata = self.metadata(uuid, instance, state);
        // Not to be repeated in the next round would be too late then.
        let is_old = |told: &Told| now.saturating_duration_since(told.at) + self.interval > REPEAT;
        let is_news = instance
            .told
            .as_ref()
            .is_none_or(|told| told.state != state || told.metadata != metadata || is_old(told));
        is_news.then_some((state, metadata))
    }

    fn metadata(&self, uuid: &str, instance: &Instance, state: i64) -> Metadata {
        match &instance.definition {
            Some(definition) => definition.instance_metadata(&self.host, state, &self.reserved),
            None => Metadata::from([
                ("instance_id".to_owned(), Value::from(uuid)),
                ("name".to_owned(), Value::from(instance.name.as_str())),
                ("instance_host".to_owned(), Value::from(self.host.as_str())),
            ]),
        }
    }

    fn state_sample(&self, uuid: &str, happened: Option<Happened>, at: UtcTime) -> Option<Sample> {
        let instance = self.instances.get(uuid)?;
        let (state, reason) = instance.state?;
        let nova = instance
            .definition
            .as_ref()
            .and_then(|definition| definition.nova.as_ref());
        let name = nova
            .and_then(|nova| nova.display_name.as_deref())
            .unwrap_or(&instance.name);
        let mut metadata = Metadata::new();
        let mut put = |key: &str, value: &str| {
            metadata.insert(key.to_owned(), Value::from(value));
        };
        put("node", &self.host);
        put("host", &self.host);
        put("name", name);
        put("reason", reason_name(state, reason));
        if let Some(nova) = nova {
            put("project", &nova.project_id);
        }
        if let Some(Happened { event, detail }) = happened {
            put("event", event);
            if !detail.is_empty() {
                put("detail", detail);
            }
        }
        Some(self.sample(uuid, meters::INSTANCE_STATE, state, metadata, at))
    }

    fn sample(
        &self,
        uuid: &str,
        meter: Meter,
        volume: i64,
        metadata: Metadata,
        timestamp: UtcTime,
    ) -> Sample {
        let nova = self
            .instances
            .get(uuid)
            .and_then(|instance| instance.definition.as_ref()?.nova.as_ref());
        Sample {
            meter,
            volume: Volume::Int(volume),
            resource_id: uuid.to_owned(),
            user_id: nova.map(|nova| nova.user_id.clone()),
            project_id: nova.map(|nova| nova.project_id.clone()),
            timestamp,
            metadata,
        }
    }
}

impl Happened {
    fn new(event: &'static str, detail: &'static str) -> Self {
        Happened { event, detail }
    }
}

/// The name of a `virDomainEventWatchdogAction` (libvirt-domain.h).
fn watchdog_action(action: i32) -> &'static str {
    match action {
        0 => "none",
        1 => "pause",
        2 => "reset",
        3 => "poweroff",
        4 => "shutdown",
        5 => "debug",
        6 => "inject_nmi",
        _ => "unknown",
    }
}

/// QEMU's word for why a disk failed: `enospc`, or nothing that it names.
fn io_reason(reason: &str) -> &'static str {
    match reason {
        "enospc" => "enospc",
        "eperm" => "eperm",
        _ => "other",
    }
}
