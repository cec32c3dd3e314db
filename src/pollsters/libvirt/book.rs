//! Pure. What is known about the node's instances, and what of it is worth a reading.
//!
//! `instance.state` goes out with every complete round and at every event; `instance` and
//! `power.state`, which repeat a lot of metadata, on change and at least every ten minutes. A complete
//! round ends with `instance.round`, whose volume is the number of `instance.state` right before it:
//! whoever has all of them knows that there are no others.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::domain::Domain;
use super::report::{DomainState, Uuid, What};
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
    instances: BTreeMap<Uuid, Instance>,
}

/// One of them.
#[derive(Debug, Default)]
struct Instance {
    /// Its name in libvirt, once an event told it.
    name: Option<String>,
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
            instance.state = Some((seen.state, seen.reason));
            self.instances.insert(seen.uuid, instance);
        }
    }

    /// The readings of the round that was last taken over.
    pub fn round(&mut self, now: Instant, at: UtcTime) -> Vec<Sample> {
        let uuids: Vec<Uuid> = self.instances.keys().copied().collect();
        let mut samples = self.changes(uuids.iter().copied(), now, at);
        let states: Vec<Sample> = uuids
            .iter()
            .filter_map(|uuid| self.state_sample(*uuid, None, at))
            .collect();
        let count = i64::try_from(states.len()).unwrap_or(i64::MAX);
        samples.extend(states);
        samples.push(Sample::new(
            meters::INSTANCE_ROUND,
            Volume::Int(count),
            self.host.clone(),
            at,
            Metadata::from([("node".to_owned(), Value::from(self.host.as_str()))]),
        ));
        samples
    }

    /// Those whose definitions should be read now, at most `count`; they count as read.
    pub fn to_read(&mut self, now: Instant, count: usize) -> Vec<Uuid> {
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
                *uuid
            })
            .collect()
    }

    /// A definition was read.
    pub fn define(&mut self, uuid: Uuid, definition: Domain) {
        if let Some(instance) = self.instances.get_mut(&uuid) {
            instance.definition = Some(definition);
        }
    }

    /// Something happened to an instance: the reading about it, if its state can be told.
    pub fn happened(&mut self, uuid: Uuid, name: &str, what: &What, at: UtcTime) -> Option<Sample> {
        let instance = self.instances.entry(uuid).or_default();
        instance.name = Some(name.to_owned());
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
        let instance = self.instances.entry(seen.uuid).or_default();
        let state = Some((seen.state, seen.reason));
        if instance.state == state {
            return None;
        }
        instance.state = state;
        self.state_sample(seen.uuid, None, at)
    }

    /// `instance` and `power.state` of those that changed since they were last told, or that were
    /// not told for long.
    pub fn changes(
        &mut self,
        uuids: impl Iterator<Item = Uuid>,
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
            if let Some(instance) = self.instances.get_mut(&uuid) {
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
    fn to_tell(&self, uuid: Uuid, now: Instant) -> Option<(i64, Metadata)> {
        let instance = self.instances.get(&uuid)?;
        let (state, _) = instance.state?;
        let metadata = self.metadata(uuid, instance, state);
        // What is not repeated now would be too late in the next round. Rounds that are far apart
        // repeat everything anyway, and are no reason to repeat it at every event between them.
        let ahead = self.interval.min(REPEAT / 2);
        let is_old = |told: &Told| now.saturating_duration_since(told.at) + ahead > REPEAT;
        let is_news = instance
            .told
            .as_ref()
            .is_none_or(|told| told.state != state || told.metadata != metadata || is_old(told));
        is_news.then_some((state, metadata))
    }

    fn metadata(&self, uuid: Uuid, instance: &Instance, state: i64) -> Metadata {
        match &instance.definition {
            Some(definition) => definition.instance_metadata(&self.host, state, &self.reserved),
            None => Metadata::from([
                ("instance_id".to_owned(), Value::from(uuid.to_string())),
                ("name".to_owned(), Value::from(instance.called(uuid))),
                ("instance_host".to_owned(), Value::from(self.host.as_str())),
            ]),
        }
    }

    fn state_sample(&self, uuid: Uuid, happened: Option<Happened>, at: UtcTime) -> Option<Sample> {
        let instance = self.instances.get(&uuid)?;
        let (state, reason) = instance.state?;
        let nova = instance
            .definition
            .as_ref()
            .and_then(|definition| definition.nova.as_ref());
        let name = nova.and_then(|nova| nova.display_name.clone());
        let mut metadata = Metadata::new();
        let mut put = |key: &str, value: &str| {
            metadata.insert(key.to_owned(), Value::from(value));
        };
        put("node", &self.host);
        put("host", &self.host);
        put("name", &name.unwrap_or_else(|| instance.called(uuid)));
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
        uuid: Uuid,
        meter: Meter,
        volume: i64,
        metadata: Metadata,
        timestamp: UtcTime,
    ) -> Sample {
        let nova = self
            .instances
            .get(&uuid)
            .and_then(|instance| instance.definition.as_ref()?.nova.as_ref());
        Sample {
            meter,
            volume: Volume::Int(volume),
            resource_id: uuid.to_string(),
            user_id: nova.map(|nova| nova.user_id.clone()),
            project_id: nova.map(|nova| nova.project_id.clone()),
            timestamp,
            metadata,
        }
    }
}

impl Instance {
    /// Its name in libvirt; its UUID as long as nobody told.
    fn called(&self, uuid: Uuid) -> String {
        let defined = self.definition.as_ref().map(|definition| &definition.name);
        defined
            .or(self.name.as_ref())
            .cloned()
            .unwrap_or_else(|| uuid.to_string())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use proptest::prelude::*;
    use virt_sys as sys;

    const A: Uuid = Uuid([0xa; 16]);
    const B: Uuid = Uuid([0xb; 16]);
    const A_TEXT: &str = "0a0a0a0a-0a0a-0a0a-0a0a-0a0a0a0a0a0a";
    const B_TEXT: &str = "0b0b0b0b-0b0b-0b0b-0b0b-0b0b0b0b0b0b";
    const RUNNING: (i64, i64) = (1, 1);
    const SHUTOFF: (i64, i64) = (5, 1);
    const HALF_A_MINUTE: Duration = Duration::from_secs(30);

    fn book() -> Book {
        let reserved = Reserved {
            namespaces: Vec::new(),
            keys: Vec::new(),
            length: 256,
        };
        Book::new("node-1", HALF_A_MINUTE, &reserved)
    }

    fn seen(uuid: Uuid, (state, reason): (i64, i64)) -> DomainState {
        DomainState {
            uuid,
            state,
            reason,
        }
    }

    fn at() -> UtcTime {
        UtcTime::from_unix_micros(0)
    }

    fn lifecycle_of(event: u32, detail: u32) -> What {
        What::Lifecycle(event.try_into().unwrap(), detail.try_into().unwrap())
    }

    fn text<'a>(sample: &'a Sample, key: &str) -> &'a str {
        sample
            .metadata
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or("")
    }

    /// Meter and resource of each sample, in order.
    fn told(samples: &[Sample]) -> Vec<(&str, &str)> {
        samples
            .iter()
            .map(|sample| (&*sample.meter.name, sample.resource_id.as_str()))
            .collect()
    }

    #[test]
    fn a_round_ends_with_the_count_of_the_states_right_before_it() {
        let (mut book, now) = (book(), clock::now());
        book.saw(&[seen(A, RUNNING), seen(B, SHUTOFF)]);
        let samples = book.round(now, at());
        let expected = [
            ("instance", A_TEXT),
            ("power.state", A_TEXT),
            ("instance", B_TEXT),
            ("power.state", B_TEXT),
            ("instance.state", A_TEXT),
            ("instance.state", B_TEXT),
            ("instance.round", "node-1"),
        ];
        assert_eq!(told(&samples), expected);
        let volumes: Vec<f64> = samples[4..].iter().map(|one| one.volume.as_f64()).collect();
        assert_eq!(volumes, [1.0, 5.0, 2.0]);
        assert_eq!(text(&samples[4], "reason"), "booted");
        assert_eq!(text(&samples[5], "reason"), "shutdown");

        book.saw(&[seen(B, SHUTOFF)]);
        let samples = book.round(now + HALF_A_MINUTE, at());
        let expected = [("instance.state", B_TEXT), ("instance.round", "node-1")];
        assert_eq!(told(&samples), expected, "A is gone, and B is no news");

        book.saw(&[]);
        let samples = book.round(now + HALF_A_MINUTE * 2, at());
        assert_eq!(told(&samples), [("instance.round", "node-1")]);
        assert_eq!(
            samples[0].volume,
            Volume::Int(0),
            "none, and that is certain"
        );
    }

    #[test]
    fn instance_and_power_state_come_on_change_and_every_ten_minutes() {
        let (mut book, start) = (book(), clock::now());
        let mut told_at = Vec::new();
        for round in 0..200 {
            let now = start + HALF_A_MINUTE * round;
            let state = if round < 150 { RUNNING } else { SHUTOFF };
            book.saw(&[seen(A, state)]);
            let samples = book.round(now, at());
            let told = |meter: Meter| samples.iter().any(|sample| sample.meter == meter);
            assert_eq!(told(meters::INSTANCE), told(meters::POWER_STATE));
            assert!(told(meters::INSTANCE_STATE));
            if told(meters::INSTANCE) {
                told_at.push(now - start);
            }
        }
        assert!(told_at.contains(&(HALF_A_MINUTE * 150)), "the change");
        assert!(told_at.windows(2).all(|two| two[1] - two[0] <= REPEAT));
        let few = 200 * 30 / 600 + 2;
        assert!(told_at.len() <= few, "told {} times", told_at.len());
    }

    #[test]
    fn rounds_that_are_far_apart_repeat_all_and_events_between_them_nothing() {
        let (mut book, start) = (book(), clock::now());
        book.interval = Duration::from_secs(3600);
        for round in 0..3 {
            let now = start + book.interval * round;
            book.saw(&[seen(A, RUNNING)]);
            let samples = book.round(now, at());
            assert!(told(&samples).contains(&("instance", A_TEXT)), "{round}");
            let soon = now + HALF_A_MINUTE;
            assert!(book.changes([A].into_iter(), soon, at()).is_empty());
        }
    }

    #[test]
    fn what_happens_is_told_with_its_reason() {
        let on = |event: u32, detail: u32| lifecycle_of(event, detail);
        for (what, volume, reason, event, detail) in [
            (
                on(
                    sys::VIR_DOMAIN_EVENT_STOPPED,
                    sys::VIR_DOMAIN_EVENT_STOPPED_FAILED,
                ),
                5,
                "failed",
                "stopped",
                "failed",
            ),
            (
                on(
                    sys::VIR_DOMAIN_EVENT_STOPPED,
                    sys::VIR_DOMAIN_EVENT_STOPPED_MIGRATED,
                ),
                5,
                "migrated",
                "stopped",
                "migrated",
            ),
            (
                on(
                    sys::VIR_DOMAIN_EVENT_SUSPENDED,
                    sys::VIR_DOMAIN_EVENT_SUSPENDED_IOERROR,
                ),
                3,
                "ioerror",
                "suspended",
                "ioerror",
            ),
            (
                on(
                    sys::VIR_DOMAIN_EVENT_SUSPENDED,
                    sys::VIR_DOMAIN_EVENT_SUSPENDED_WATCHDOG,
                ),
                3,
                "watchdog",
                "suspended",
                "watchdog",
            ),
            (
                on(
                    sys::VIR_DOMAIN_EVENT_CRASHED,
                    sys::VIR_DOMAIN_EVENT_CRASHED_PANICKED,
                ),
                6,
                "panicked",
                "crashed",
                "panicked",
            ),
            (What::Reboot, 1, "booted", "reboot", ""),
            (What::Watchdog(2), 1, "booted", "watchdog", "reset"),
            (What::Watchdog(77), 1, "booted", "watchdog", "unknown"),
            (
                What::IoError(1, "enospc".into()),
                1,
                "booted",
                "io_error",
                "enospc",
            ),
            (
                What::IoError(1, "\u{1b}[2J moon".into()),
                1,
                "booted",
                "io_error",
                "other",
            ),
            (What::ControlError, 1, "booted", "control_error", ""),
            (on(77, 77), 1, "booted", "unknown", "unknown"),
        ] {
            let mut book = book();
            book.saw(&[seen(A, RUNNING)]);
            let sample = book.happened(A, "instance-a", &what, at()).unwrap();
            assert_eq!(sample.meter, meters::INSTANCE_STATE);
            assert_eq!(sample.volume, Volume::Int(volume), "{what:?}");
            let words = ["reason", "event", "detail"].map(|key| text(&sample, key));
            assert_eq!(words, [reason, event, detail], "{what:?}");
        }
    }

    #[test]
    fn an_event_about_an_unknown_instance_waits_for_libvirts_word() {
        let mut book = book();
        assert_eq!(book.happened(A, "instance-a", &What::Reboot, at()), None);
        let sample = book.verify(&seen(A, RUNNING), at()).unwrap();
        assert_eq!(sample.volume, Volume::Int(1));
        assert_eq!(book.verify(&seen(A, RUNNING), at()), None, "no news");
    }

    #[test]
    fn a_changed_definition_is_read_again_and_every_one_now_and_then() {
        let (mut book, now) = (book(), clock::now());
        book.saw(&[seen(A, RUNNING), seen(B, RUNNING)]);
        assert_eq!(book.to_read(now, 1), [A]);
        assert_eq!(book.to_read(now, 9), [B]);
        assert!(book.to_read(now, 9).is_empty());
        book.happened(B, "instance-b", &What::Metadata, at());
        assert_eq!(book.to_read(now, 9), [B]);
        let defined = lifecycle_of(
            sys::VIR_DOMAIN_EVENT_DEFINED,
            sys::VIR_DOMAIN_EVENT_DEFINED_UPDATED,
        );
        book.happened(A, "instance-a", &defined, at());
        assert_eq!(book.to_read(now, 9), [A]);
        assert_eq!(book.to_read(now + REREAD, 9), [A, B]);
    }

    /// Keeps the last state that was told of each instance.
    fn note(last: &mut BTreeMap<String, f64>, samples: impl IntoIterator<Item = Sample>) {
        for sample in samples {
            if sample.meter == meters::INSTANCE_STATE {
                last.insert(sample.resource_id.clone(), sample.volume.as_f64());
            }
        }
    }

    proptest! {
        /// Whatever happens in whatever order, the last reading of an instance says what libvirt
        /// said last when it was asked.
        #[test]
        fn the_last_word_is_libvirts(
            steps in prop::collection::vec((0..2usize, 0..3u8, 0..12i32, 0..9i32, 0..8i64, 0..4i64), 1..60),
        ) {
            let (mut book, now) = (book(), clock::now());
            let mut last = BTreeMap::new();
            let mut asked = BTreeMap::new();
            for (which, kind, event, detail, state, reason) in steps {
                let uuid = [A, B][which];
                let word = seen(uuid, (state, reason));
                // Whoever something happens to is asked for right after it.
                if kind == 0 {
                    note(&mut last, book.happened(uuid, "instance", &What::Lifecycle(event, detail), at()));
                }
                if kind == 2 {
                    book.saw(std::slice::from_ref(&word));
                    asked.clear();
                    note(&mut last, book.round(now, at()));
                } else {
                    note(&mut last, book.verify(&word, at()));
                }
                #[allow(clippy::cast_precision_loss)]
                asked.insert(uuid.to_string(), state as f64);
                for (uuid, state) in &asked {
                    prop_assert_eq!(last.get(uuid), Some(state));
                }
            }
        }
    }
}
