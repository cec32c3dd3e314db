//! The spool against a model of it: whatever is appended, read, sent, damaged or cut short in whatever
//! order, and however often its process is killed or loses power.

#![cfg(feature = "agent")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use ceilometer_ha::clock;
use ceilometer_ha::events::{SpoolLoss, Spooling};
use ceilometer_ha::model::{
    Identity, Metadata, Meter, MeterType, Reading, Sample, UtcTime, Value, Volume, meters,
};
use ceilometer_ha::publisher::queue::Batch;
use ceilometer_ha::publisher::spool::body::{self, BODY_BYTES_MAX, Body, READINGS_MAX};
use ceilometer_ha::publisher::spool::disk::{DiskFolder, folder_of};
use ceilometer_ha::publisher::spool::hand::{HANG_LIMIT, READY_MAX, Spool};
use ceilometer_ha::publisher::spool::record::{Found, Place, RECORD_HEAD_BYTES, Walk};
use ceilometer_ha::publisher::spool::store::{
    AGE_MAX, Folder, Limits, Losses, SEGMENTS_MAX, Store, Stored,
};
use ceilometer_ha::publisher::spool::worker;
use proptest::prelude::*;

/// Room for a dozen or two of the batches below.
const LIMITS: Limits = Limits {
    bytes: 200_000,
    age: AGE_MAX,
};

fn noon() -> UtcTime {
    UtcTime::from_unix_micros(1_700_000_000_000_000)
}

fn later(by: Duration) -> UtcTime {
    UtcTime::from_unix_micros(noon().unix_micros() + i64::try_from(by.as_micros()).unwrap())
}

fn reading(seq: u64, padding: usize) -> Reading {
    Reading {
        identity: Identity {
            observer: "compute-1".into(),
            epoch: 1_462_330_921_123,
            seq,
        },
        message_id: format!("id-{seq}"),
        sample: Sample {
            meter: meters::HEARTBEAT,
            volume: Volume::Int(1),
            resource_id: "compute-1".into(),
            user_id: None,
            project_id: Some("p".into()),
            timestamp: noon(),
            metadata: Metadata::from([("x".to_owned(), Value::from("x".repeat(padding)))]),
        },
    }
}

/// A batch of so many readings, each with the same number.
fn batch(seq: u64, readings: usize, padding: usize) -> Vec<Reading> {
    vec![reading(seq, padding); readings]
}

fn bodies_of(batch: &[Reading]) -> Vec<Body> {
    let (bodies, too_large) = body::bodies(batch);
    assert_eq!(too_large, 0);
    bodies
}

/// Files in memory, which outlive the store that uses them.
#[derive(Debug, Clone, Default)]
struct Files(Rc<RefCell<State>>);

#[derive(Debug, Default)]
struct State {
    segments: BTreeMap<u64, Vec<u8>>,
    removed: BTreeMap<u64, Vec<u8>>,
    aside: BTreeSet<u64>,
    progress: Vec<u8>,
    /// Everything that was ever saved as progress.
    history: Vec<Vec<u8>>,
    /// Of the next append only so many bytes get through.
    cut: Option<usize>,
    fails: bool,
    /// Each record that was appended whole: its number, and where it stands.
    places: Vec<(u64, Place, usize)>,
}

impl Folder for Files {
    fn segments(&mut self) -> io::Result<Vec<u64>> {
        // In no order.
        Ok(self.0.borrow().segments.keys().rev().copied().collect())
    }

    fn read(&mut self, segment: u64, offset: usize, most: usize) -> io::Result<Vec<u8>> {
        let state = self.0.borrow();
        let bytes = state
            .segments
            .get(&segment)
            .ok_or(io::ErrorKind::NotFound)?;
        let rest = bytes.get(offset..).unwrap_or_default();
        Ok(rest[..rest.len().min(most)].to_vec())
    }

    fn append(&mut self, at: Place, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        if state.fails {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let cut = state.cut.take();
        let file = state.segments.entry(at.segment).or_default();
        if at.offset == 0 {
            file.clear();
        }
        file.resize(at.offset, 0);
        file.extend(&bytes[..cut.unwrap_or(bytes.len()).min(bytes.len())]);
        if cut.is_some() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut offset = 0;
        while offset < bytes.len() {
            let length = u32::from_le_bytes(bytes[offset + 4..offset + 8].try_into().unwrap());
            let end = offset + RECORD_HEAD_BYTES + usize::try_from(length).unwrap();
            let readings = body::readings(&bytes[offset + RECORD_HEAD_BYTES..end]).unwrap();
            let place = Place {
                offset: at.offset + offset,
                ..at
            };
            state
                .places
                .push((readings[0].identity.seq, place, end - offset));
            offset = end;
        }
        Ok(())
    }

    fn remove(&mut self, segment: u64) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        if let Some(bytes) = state.segments.remove(&segment) {
            state.removed.insert(segment, bytes);
        }
        Ok(())
    }

    fn set_aside(&mut self, segment: u64) -> io::Result<()> {
        self.remove(segment)?;
        self.0.borrow_mut().aside.insert(segment);
        Ok(())
    }

    fn progress(&mut self) -> io::Result<Vec<u8>> {
        Ok(self.0.borrow().progress.clone())
    }

    fn set_progress(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        let before = std::mem::replace(&mut state.progress, bytes.to_vec());
        state.history.push(before);
        Ok(())
    }
}

#[derive(Debug, Clone)]
enum Step {
    Append {
        readings: usize,
        padding: usize,
    },
    /// Only so many bytes reach the disk.
    AppendFails {
        cut: usize,
    },
    Read(usize),
    /// So many of those that were read.
    Sent(prop::sample::Index),
    Kill,
    /// Old progress comes back, and so do files that had been deleted; garbage stands at the end.
    PowerLoss {
        progress: prop::sample::Index,
        garbage: Vec<u8>,
        revived: bool,
    },
    Flip {
        at: prop::sample::Index,
        bits: u8,
    },
    Cut(prop::sample::Index),
}

fn orderly() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1usize..4, 0usize..9_000)
            .prop_map(|(readings, padding)| Step::Append { readings, padding }),
        4 => (1usize..8).prop_map(Step::Read),
        4 => any::<prop::sample::Index>().prop_map(Step::Sent),
    ]
}

fn crashes() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => orderly(),
        1 => (0usize..9_000).prop_map(|cut| Step::AppendFails { cut }),
        1 => Just(Step::Kill),
    ]
}

fn disasters() -> impl Strategy<Value = Step> {
    use prop::sample::Index;
    prop_oneof![
        12 => crashes(),
        1 => (any::<Index>(), prop::collection::vec(any::<u8>(), 0..99), any::<bool>()).prop_map(
            |(progress, garbage, revived)| Step::PowerLoss { progress, garbage, revived }
        ),
        2 => (any::<Index>(), 1u8..=255).prop_map(|(at, bits)| Step::Flip { at, bits }),
        1 => any::<Index>().prop_map(Step::Cut),
    ]
}

/// What should be so.
struct Model {
    files: Files,
    store: Store<Files>,
    /// Readings of each batch that was accepted, by its number.
    accepted: BTreeMap<u64, usize>,
    /// How often each was read.
    read: BTreeMap<u64, usize>,
    sent: BTreeSet<u64>,
    /// Those of which a byte was changed or cut off.
    damaged: BTreeSet<u64>,
    in_hand: Vec<Stored>,
    last: u64,
    losses: Losses,
    lost_power: bool,
    was_killed: bool,
    garbage: usize,
}

impl Model {
    fn new() -> Self {
        let files = Files::default();
        Model {
            store: Store::open(files.clone(), LIMITS).unwrap(),
            files,
            accepted: BTreeMap::new(),
            read: BTreeMap::new(),
            sent: BTreeSet::new(),
            damaged: BTreeSet::new(),
            in_hand: Vec::new(),
            last: 0,
            losses: Losses::default(),
            lost_power: false,
            was_killed: false,
            garbage: 0,
        }
    }

    fn step(&mut self, seq: u64, step: &Step) {
        match step {
            Step::Append { readings, padding } => {
                let bodies = bodies_of(&batch(seq, *readings, *padding));
                assert_eq!(self.store.append(&bodies, noon()).unwrap(), 1);
                self.accepted.insert(seq, *readings);
            }
            Step::AppendFails { cut } => {
                self.files.0.borrow_mut().cut = Some(*cut);
                let bodies = bodies_of(&batch(seq, 2, 4_000));
                self.store.append(&bodies, noon()).unwrap_err();
                self.garbage += 9_000;
            }
            Step::Read(most) => self.read(*most),
            Step::Sent(count) => {
                let count = count.index(self.in_hand.len() + 1);
                let done: Vec<Stored> = self.in_hand.drain(..count).collect();
                if let Some(last) = done.last() {
                    self.store.sent(last.end).unwrap();
                }
                let seqs = done.iter().map(|stored| stored.readings[0].identity.seq);
                self.sent.extend(seqs);
            }
            Step::Kill => {
                self.was_killed = true;
                self.reopen();
            }
            Step::PowerLoss {
                progress,
                garbage,
                revived,
            } => {
                self.lose_power(progress, garbage, *revived);
                self.reopen();
            }
            Step::Flip { at, bits } => self.flip(*at, *bits),
            Step::Cut(at) => self.cut(*at),
        }
        self.losses = sum(self.losses, self.store.losses());
        self.check_size();
    }

    fn read(&mut self, most: usize) {
        let read = self.store.read(most, noon()).unwrap();
        assert!(read.len() <= most);
        for stored in read {
            let seq = stored.readings[0].identity.seq;
            assert!(seq > self.last, "{seq} after {}", self.last);
            self.last = seq;
            if let Some(readings) = self.accepted.get(&seq) {
                assert_eq!(stored.readings.len(), *readings);
                assert_eq!(stored.readings[0].message_id, format!("id-{seq}"));
            }
            let was_sent = self.sent.contains(&seq);
            assert!(!was_sent || self.lost_power, "{seq} was sent");
            *self.read.entry(seq).or_default() += 1;
            self.in_hand.push(stored);
        }
    }

    fn reopen(&mut self) {
        self.losses = sum(self.losses, self.store.losses());
        self.in_hand.clear();
        self.last = 0;
        self.store = Store::open(self.files.clone(), LIMITS).unwrap();
    }

    fn lose_power(&mut self, progress: &prop::sample::Index, garbage: &[u8], revived: bool) {
        self.lost_power = true;
        let state = &mut *self.files.0.borrow_mut();
        if !state.history.is_empty() {
            // What was newer is gone for good.
            let kept = progress.index(state.history.len());
            state.progress = state.history[kept].clone();
            state.history.truncate(kept);
        }
        if revived && let Some((number, bytes)) = state.removed.pop_last() {
            state.segments.entry(number).or_insert(bytes);
        }
        if let Some(mut last) = state.segments.last_entry() {
            last.get_mut().extend(garbage);
            self.garbage += garbage.len();
        }
    }

    /// All files of segments end to end are one place to hurt.
    fn somewhere(&self, at: prop::sample::Index) -> Option<Place> {
        let state = self.files.0.borrow();
        let total: usize = state.segments.values().map(Vec::len).sum();
        let mut offset = (total > 0).then(|| at.index(total))?;
        for (number, bytes) in &state.segments {
            if offset < bytes.len() {
                let segment = *number;
                return Some(Place { segment, offset });
            }
            offset -= bytes.len();
        }
        None
    }

    fn flip(&mut self, at: prop::sample::Index, bits: u8) {
        let Some(place) = self.somewhere(at) else {
            return;
        };
        let state = &mut *self.files.0.borrow_mut();
        state.segments.get_mut(&place.segment).unwrap()[place.offset] ^= bits;
        for (seq, begin, length) in &state.places {
            let is_in = begin.segment == place.segment
                && (begin.offset..begin.offset + length).contains(&place.offset);
            if is_in {
                self.damaged.insert(*seq);
            }
        }
    }

    fn cut(&mut self, at: prop::sample::Index) {
        let Some(place) = self.somewhere(at) else {
            return;
        };
        let state = &mut *self.files.0.borrow_mut();
        state
            .segments
            .get_mut(&place.segment)
            .unwrap()
            .truncate(place.offset);
        for (seq, begin, length) in &state.places {
            if begin.segment == place.segment && begin.offset + length > place.offset {
                self.damaged.insert(*seq);
            }
        }
    }

    fn check_size(&self) {
        let state = self.files.0.borrow();
        let bytes: usize = state.segments.values().map(Vec::len).sum();
        let most = usize::try_from(LIMITS.bytes).unwrap() + self.garbage;
        assert!(bytes <= most, "{bytes} bytes in files");
        assert!(self.store.stats().bytes <= LIMITS.bytes);
    }

    /// Whatever is left is read by another life.
    fn finish(mut self) {
        let is_undamaged = self.damaged.is_empty() && !self.lost_power;
        if is_undamaged && !self.was_killed && self.garbage == 0 {
            self.check_counts();
        }
        self.was_killed = true;
        self.reopen();
        while self.store.has_unread() {
            self.read(3);
            let Some(last) = self.in_hand.drain(..).next_back() else {
                continue;
            };
            self.store.sent(last.end).unwrap();
        }
        self.losses = sum(self.losses, self.store.losses());
        let unread =
            |(seq, _): &(&u64, &usize)| !self.read.contains_key(seq) && !self.damaged.contains(seq);
        let unread: usize = self
            .accepted
            .iter()
            .filter(unread)
            .map(|(_, readings)| readings)
            .sum();
        assert!(
            unread <= self.losses.full,
            "{unread} readings are lost and {:?} are counted",
            self.losses
        );
        assert_eq!(self.losses.too_old, 0);
        if is_undamaged && self.garbage == 0 {
            assert_eq!(self.losses.damaged, 0);
            assert!(self.files.0.borrow().aside.is_empty());
        }
        assert_eq!(self.store.stats().records, 0);
        assert!(self.files.0.borrow().segments.is_empty());
    }

    /// In one life with a disk that is well, every reading is waiting, sent or given up, and counted.
    fn check_counts(&self) {
        let of =
            |seqs: &BTreeSet<u64>| -> usize { seqs.iter().map(|seq| self.accepted[seq]).sum() };
        let accepted: usize = self.accepted.values().sum();
        let lent: BTreeSet<u64> = self
            .in_hand
            .iter()
            .map(|stored| stored.readings[0].identity.seq)
            .collect();
        let stats = self.store.stats();
        let waiting = accepted - of(&self.sent) - self.losses.full;
        // What is in hand may belong to a segment that has made room since.
        assert!(stats.readings <= waiting && waiting <= stats.readings + of(&lent));
    }
}

fn sum(a: Losses, b: Losses) -> Losses {
    Losses {
        full: a.full + b.full,
        too_old: a.too_old + b.too_old,
        damaged: a.damaged + b.damaged,
    }
}

fn follow(steps: &[Step]) {
    let mut model = Model::new();
    for (seq, step) in (1..).zip(steps) {
        model.step(seq, step);
    }
    model.finish();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn what_is_accepted_comes_out_in_order_or_is_counted(
        steps in prop::collection::vec(orderly(), 0..120),
    ) {
        follow(&steps);
    }

    #[test]
    fn a_life_that_is_killed_costs_nothing_that_was_accepted_and_repeats_nothing_that_was_sent(
        steps in prop::collection::vec(crashes(), 0..120),
    ) {
        follow(&steps);
    }

    #[test]
    fn whatever_is_damaged_costs_itself_alone(
        steps in prop::collection::vec(disasters(), 0..120),
    ) {
        follow(&steps);
    }

    #[test]
    fn readings_come_back_as_they_were(readings in prop::collection::vec(any_reading(), 0..270)) {
        let (bodies, too_large) = body::bodies(&readings);
        prop_assert_eq!(too_large, 0);
        let mut back = Vec::new();
        for (body, count) in &bodies {
            prop_assert!(body.len() <= BODY_BYTES_MAX && *count <= READINGS_MAX && *count > 0);
            let of_body = body::readings(body).unwrap();
            prop_assert_eq!(of_body.len(), *count);
            back.extend(of_body);
        }
        prop_assert_eq!(back, readings);
    }
}

fn any_reading() -> impl Strategy<Value = Reading> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(|number| Value::Int(number.into())),
        (-1e300f64..1e300).prop_map(Value::Float),
        ".{0,8}".prop_map(Value::Text),
    ];
    let value = leaf.prop_recursive(2, 8, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            prop::collection::btree_map(".{0,4}", inner, 0..4)
                .prop_map(|map| Value::Map(map.into_iter().collect())),
        ]
    });
    let volume = prop_oneof![
        any::<i64>().prop_map(Volume::Int),
        (-1e300f64..1e300).prop_map(Volume::Float),
    ];
    let kind = prop::sample::select(vec![
        MeterType::Gauge,
        MeterType::Delta,
        MeterType::Cumulative,
    ]);
    let meter = (".{0,8}", kind, ".{0,3}").prop_map(|(name, kind, unit)| Meter {
        name: name.into(),
        kind,
        unit: unit.into(),
    });
    let sample = (
        meter,
        volume,
        ".{0,8}",
        prop::option::of(".{0,8}"),
        prop::option::of(".{0,8}"),
        any::<i64>(),
        prop::collection::btree_map(".{0,4}", value, 0..4),
    );
    let identity = (".{0,8}", any::<u64>(), any::<u64>(), ".{0,8}");
    (identity, sample).prop_map(|(identity, sample)| {
        let (observer, epoch, seq, message_id) = identity;
        let (meter, volume, resource_id, user_id, project_id, micros, metadata) = sample;
        Reading {
            identity: Identity {
                observer,
                epoch,
                seq,
            },
            message_id,
            sample: Sample {
                meter,
                volume,
                resource_id,
                user_id,
                project_id,
                timestamp: UtcTime::from_unix_micros(micros),
                metadata,
            },
        }
    })
}

#[test]
fn a_reading_that_no_collector_would_take_is_left_out_and_counted() {
    let readings = [
        reading(1, 0),
        reading(2, BODY_BYTES_MAX),
        reading(3, 0),
        reading(4, BODY_BYTES_MAX - 200),
    ];
    let (bodies, too_large) = body::bodies(&readings);
    assert_eq!(too_large, 1);
    let counts: Vec<usize> = bodies.iter().map(|(_, count)| *count).collect();
    assert_eq!(counts, [2, 1]);
}

#[test]
fn what_a_disk_brings_back_of_another_file_is_not_believed() {
    let files = Files::default();
    let mut store = Store::open(files.clone(), LIMITS).unwrap();
    store.append(&bodies_of(&batch(1, 1, 10)), noon()).unwrap();
    let one = files.0.borrow().segments[&1].clone();
    let walk = |bytes: &[u8], segment, offset| {
        let from = Place { segment, offset };
        Walk::new(bytes, from).collect::<Vec<_>>()
    };
    assert!(matches!(walk(&one, 1, 0)[..], [Found::Record(_)]));
    // The same bytes in another segment, and at another place of their own.
    assert!(matches!(walk(&one, 2, 0)[..], [Found::Damaged(1)]));
    let moved = [vec![0; 7], one].concat();
    assert!(matches!(walk(&moved, 1, 0)[..], [Found::Damaged(1)]));
}

#[test]
fn what_is_too_old_is_given_up_and_counted() {
    let files = Files::default();
    let mut store = Store::open(files.clone(), LIMITS).unwrap();
    let append = |store: &mut Store<Files>, seq, at| {
        store.append(&bodies_of(&batch(seq, 2, 0)), at).unwrap();
    };
    append(&mut store, 1, noon());
    append(&mut store, 2, later(Duration::from_secs(60)));
    let due = later(AGE_MAX + Duration::from_secs(1));
    store.expire(due);
    assert_eq!(store.stats().readings, 4, "one of the segment may still go");
    let read = store.read(9, due).unwrap();
    assert_eq!(read.len(), 1);
    assert_eq!(read[0].readings[0].identity.seq, 2);
    assert_eq!(store.losses().too_old, 2);
    append(&mut store, 3, noon());
    store.expire(later(AGE_MAX + Duration::from_secs(61)));
    assert_eq!(store.losses().too_old, 2, "what is being sent is not lost");
    assert!(files.0.borrow().segments.is_empty());
    // A clock that is behind makes nothing old.
    let mut store = Store::open(files, LIMITS).unwrap();
    append(&mut store, 4, later(AGE_MAX * 9));
    store.expire(noon());
    assert_eq!(store.read(9, noon()).unwrap().len(), 1);
}

#[test]
fn a_process_that_dies_again_and_again_makes_no_more_files_than_may_be() {
    let files = Files::default();
    let lives = u64::try_from(SEGMENTS_MAX).unwrap();
    let left = (1..=lives).map(|number| (number, one_record(number)));
    files.0.borrow_mut().segments.extend(left);
    let limits = Limits::of_bytes(64 << 20);
    for seq in lives + 1..lives + 4 {
        let mut store = Store::open(files.clone(), limits).unwrap();
        store.append(&bodies_of(&batch(seq, 1, 0)), noon()).unwrap();
        assert_eq!(store.losses().full, 1);
        assert_eq!(files.0.borrow().segments.len(), SEGMENTS_MAX);
    }
    assert_eq!(files.0.borrow().segments.first_key_value().unwrap().0, &4);
}

fn one_record(segment: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let place = Place { segment, offset: 0 };
    let body = &bodies_of(&[reading(segment, 0)])[0];
    ceilometer_ha::publisher::spool::record::write(&mut bytes, place, noon(), body);
    bytes
}

/// A disk that a test stops and breaks, with a real folder below it.
#[derive(Clone, Default)]
struct Switch(Arc<(Mutex<Switched>, Condvar)>);

#[derive(Default)]
struct Switched {
    hangs: bool,
    /// Whether somebody waits for it.
    is_waited_for: bool,
    error: Option<io::ErrorKind>,
    /// How many records each sync made safe.
    appends: Vec<usize>,
}

impl Switch {
    fn set(&self, change: impl FnOnce(&mut Switched)) {
        change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
    }

    /// Waits while it hangs.
    fn pass(&self) -> io::Result<()> {
        let mut state = self.0.0.lock().unwrap();
        while state.hangs {
            state.is_waited_for = true;
            self.0.1.notify_all();
            state = self.0.1.wait(state).unwrap();
        }
        state.error.map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn wait_until_somebody_waits(&self) {
        let state = self.0.0.lock().unwrap();
        let waits = |state: &mut Switched| !state.is_waited_for;
        drop(self.0.1.wait_while(state, waits).unwrap());
    }

    fn appends(&self) -> Vec<usize> {
        self.0.0.lock().unwrap().appends.clone()
    }
}

struct Switchable(DiskFolder, Switch);

impl Folder for Switchable {
    fn segments(&mut self) -> io::Result<Vec<u64>> {
        self.0.segments()
    }

    fn read(&mut self, segment: u64, offset: usize, most: usize) -> io::Result<Vec<u8>> {
        self.0.read(segment, offset, most)
    }

    fn append(&mut self, at: Place, bytes: &[u8]) -> io::Result<()> {
        self.1.pass()?;
        self.0.append(at, bytes)?;
        let records = Walk::new(bytes, at).count();
        self.1.set(|state| state.appends.push(records));
        Ok(())
    }

    fn remove(&mut self, segment: u64) -> io::Result<()> {
        self.0.remove(segment)
    }

    fn set_aside(&mut self, segment: u64) -> io::Result<()> {
        self.0.set_aside(segment)
    }

    fn progress(&mut self) -> io::Result<Vec<u8>> {
        self.0.progress()
    }

    fn set_progress(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.set_progress(bytes)
    }
}

/// A spool in a folder, with its worker.
struct Running {
    spool: Arc<Spool>,
    switch: Switch,
    told: Arc<Mutex<Vec<Spooling>>>,
    worker: Option<JoinHandle<()>>,
}

impl Running {
    fn start(folder: &std::path::Path, rounds_max: usize) -> Self {
        let told = Arc::<Mutex<Vec<Spooling>>>::default();
        let hearer = Arc::clone(&told);
        let tell = move |spooling| hearer.lock().unwrap().push(spooling);
        let spool = Arc::new(Spool::new(rounds_max, Box::new(tell)));
        let switch = Switch::default();
        let (served, theirs, folder) = (Arc::clone(&spool), switch.clone(), folder.to_owned());
        let worker = std::thread::spawn(move || {
            worker::work(&served, Limits::of_bytes(4 << 20), || {
                Ok(Switchable(DiskFolder::open(&folder)?, theirs.clone()))
            });
        });
        Running {
            spool,
            switch,
            told,
            worker: Some(worker),
        }
    }

    /// Another life, which has looked at what is there.
    fn again(folder: &std::path::Path) -> Self {
        let running = Running::start(folder, 50);
        running.settle();
        running
    }

    fn put(&self, seqs: std::ops::RangeInclusive<u64>) -> usize {
        let put = |seq| self.spool.put(Batch::from(batch(seq, 1, 0)), clock::now());
        seqs.map(put).sum()
    }

    fn settle(&self) {
        let limit = clock::now() + Duration::from_secs(60);
        assert!(self.spool.settle(limit), "{:?}", self.spool);
    }

    /// The numbers of what is given next, without saying that it is sent.
    fn peek(&self, most: usize, ahead: Duration) -> Vec<(u64, u64)> {
        let given = self.spool.peek(None, most, clock::now() + ahead);
        let seq = |(number, batch): (u64, Batch)| (number, batch[0].identity.seq);
        given.into_iter().map(seq).collect()
    }

    /// Sends everything there is, in order.
    fn drain(&self) -> Vec<u64> {
        let mut seqs = Vec::new();
        let limit = clock::now() + Duration::from_secs(60);
        while !self.spool.is_empty() {
            assert!(clock::now() < limit, "{:?}", self.spool);
            let given = self.peek(5, Duration::ZERO);
            seqs.extend(given.iter().map(|(_, seq)| *seq));
            match given.last() {
                Some((number, _)) => self.spool.sent(*number),
                None => std::thread::yield_now(),
            }
        }
        seqs
    }

    fn wait_for(&self, what: impl Fn(&[Spooling]) -> bool) {
        let limit = clock::now() + Duration::from_secs(60);
        while !what(&self.told.lock().unwrap()) {
            assert!(clock::now() < limit, "{:?}", self.told);
            std::thread::yield_now();
        }
    }

    fn count(&self, what: impl Fn(&Spooling) -> bool) -> usize {
        let told = self.told.lock().unwrap();
        told.iter().filter(|told| what(told)).count()
    }

    fn written(&self) -> usize {
        let told = self.told.lock().unwrap();
        let of = |told: &Spooling| match told {
            Spooling::Written(readings) => *readings,
            _ => 0,
        };
        told.iter().map(of).sum()
    }

    fn end(&mut self) {
        self.spool.close();
        self.worker.take().unwrap().join().unwrap();
    }
}

fn failures(told: &Spooling) -> bool {
    matches!(told, Spooling::Failed(_))
}

#[test]
fn nothing_is_accepted_before_it_is_synced_and_a_disk_that_hangs_delays_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = Running::start(&folder.path().join("spool"), 300);
    running.put(1..=2);
    running.settle();
    running.switch.set(|state| state.hangs = true);
    running.put(3..=3);
    running.switch.wait_until_somebody_waits();
    assert!(!running.spool.settle(clock::now()), "nothing is safe yet");
    // Three hundred may wait, and the oldest that isn't being written goes first.
    assert_eq!(running.put(4..=310), 308 - 300);
    assert_eq!(running.written(), 2);
    assert!(running.count(|told| *told == Spooling::Lost(SpoolLoss::Disk, 1)) == 8);

    let seqs = |given: Vec<(u64, u64)>| given.into_iter().map(|(_, seq)| seq).collect::<Vec<u64>>();
    let given = seqs(running.peek(999, Duration::ZERO));
    assert_eq!(given, [1, 2], "a disk may take a moment");
    // Once the disk counts as hung, what waits is sent from memory, all but what is being written.
    let hung = HANG_LIMIT * 2;
    // What was read before it hung is first.
    let all: Vec<u64> = (1..=2).chain(12..=310).collect();
    assert_eq!(seqs(running.peek(999, hung)), all);
    assert_eq!(running.count(failures), 1);
    assert!(!running.spool.view(clock::now() + hung).works);
    let last = running.peek(999, hung).last().unwrap().0;
    running.spool.sent(last);
    running.put(311..=311);

    running.switch.set(|state| state.hangs = false);
    running.settle();
    running.wait_for(|told| told.contains(&Spooling::Works));
    assert_eq!(running.count(failures), 1, "told once");
    assert_eq!(running.drain(), [3, 311], "in order, and nothing twice");
    running.end();
}

#[test]
fn what_waits_is_written_with_one_sync() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = Running::start(&folder.path().join("spool"), 9999);
    running.switch.set(|state| state.hangs = true);
    running.put(1..=500);
    running.switch.set(|state| state.hangs = false);
    running.settle();
    let appends = running.switch.appends();
    // The first may have begun before the others came; then three do it all.
    assert!(appends.len() <= 3, "{appends:?}");
    assert_eq!(appends.iter().sum::<usize>(), 500);
    let given = running.peek(9999, Duration::ZERO);
    assert!(given.len() <= READY_MAX, "{}", given.len());
    assert_eq!(running.drain(), (1..=500).collect::<Vec<_>>());
    running.end();
}

#[test]
fn a_full_disk_costs_nothing_that_memory_holds_and_is_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = Running::start(&folder.path().join("spool"), 50);
    running.put(1..=10);
    running.settle();
    running
        .switch
        .set(|state| state.error = Some(io::ErrorKind::StorageFull));
    running.put(11..=20);
    running.wait_for(|told| told.iter().any(failures));
    assert!(!running.spool.view(clock::now()).works);
    // What is on the disk can be read although it is full, and what isn't is sent from memory.
    assert_eq!(running.drain(), (1..=20).collect::<Vec<_>>());
    running.put(21..=80);
    running.switch.set(|state| state.error = None);
    running.settle();
    running.wait_for(|told| told.contains(&Spooling::Works));
    assert_eq!(running.count(failures), 1, "told once");
    assert_eq!(running.drain(), (31..=80).collect::<Vec<_>>());
    running.end();
}

#[test]
fn another_life_sends_what_this_one_left_and_nothing_that_was_sent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool");
    let mut first = Running::start(&path, 50);
    first.put(1..=20);
    first.settle();
    while first.peek(7, Duration::ZERO).len() < 7 {
        std::thread::yield_now();
    }
    let seventh = first.peek(7, Duration::ZERO)[6];
    assert_eq!(seventh.1, 7);
    first.spool.sent(seventh.0);
    // Two at once: the second one runs without a disk, and says so.
    let mut second = Running::start(&path, 50);
    second.wait_for(
        |told| matches!(told, [Spooling::Failed(why), ..] if why.contains("another publisher")),
    );
    second.put(90..=91);
    assert_eq!(second.drain(), [90, 91]);
    first.put(21..=22);
    first.end();
    // It has the disk as soon as it is free, and what the first one left.
    second.wait_for(|told| told.contains(&Spooling::Works));
    assert_eq!(second.drain(), (8..=22).collect::<Vec<_>>());
    second.end();
    assert_eq!(Running::again(&path).drain(), [0; 0]);
}

#[test]
fn a_round_that_is_put_in_again_is_safe_before_the_disk_forgets_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool");
    let mut first = Running::start(&path, 50);
    first.put(1..=2);
    first.settle();
    while first.peek(2, Duration::ZERO).len() < 2 {
        std::thread::yield_now();
    }
    let given = first.peek(2, Duration::ZERO);
    first
        .switch
        .set(|state| state.error = Some(io::ErrorKind::StorageFull));
    // The first one was refused: it is put in again, behind the others, and its place is given up.
    first.put(1..=1);
    first.spool.sent(given[0].0);
    first.wait_for(|told| told.iter().any(failures));
    first.end();
    assert_eq!(
        first.count(|told| *told == Spooling::Lost(SpoolLoss::Disk, 1)),
        1
    );
    assert_eq!(
        Running::again(&path).drain(),
        [1, 2],
        "the original is there"
    );
}

#[test]
fn its_files_are_the_owner_s_alone_and_damaged_ones_are_few() {
    let state_path = tempfile::tempdir().unwrap();
    let path = folder_of(state_path.path(), "notifier://?topic=metering_ha");
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("notifier-topic-metering-ha."), "{name}");
    assert_ne!(
        path,
        folder_of(state_path.path(), "notifier://?topic=metering.ha")
    );
    let long = "x".repeat(999);
    let long = folder_of(state_path.path(), &long);
    assert!(long.file_name().unwrap().len() < 100);

    let mut numbers = Vec::new();
    for seq in 1..=7 {
        let mut store = Store::open(DiskFolder::open(&path).unwrap(), LIMITS).unwrap();
        store.append(&bodies_of(&batch(seq, 1, 0)), noon()).unwrap();
        numbers = store.into_folder().segments().unwrap();
        let file = path.join(format!("{:020}.seg", numbers.last().unwrap()));
        let mut bytes = std::fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&file, bytes).unwrap();
    }
    assert_eq!(
        numbers.len(),
        1,
        "the damaged ones of earlier lives are aside"
    );
    for entry in std::fs::read_dir(&path).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    for folder in path.ancestors().take(2) {
        let mode = std::fs::metadata(folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{}", folder.display());
    }
    let mut store = Store::open(DiskFolder::open(&path).unwrap(), LIMITS).unwrap();
    assert_eq!(store.losses().damaged, 1);
    let names = std::fs::read_dir(&path).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut damaged: Vec<String> = names.filter(|name| name.ends_with(".damaged")).collect();
    damaged.sort();
    let newest: Vec<String> = (4..=7)
        .map(|number| format!("{number:020}.damaged"))
        .collect();
    assert_eq!(damaged, newest);
}

#[test]
fn a_file_that_somebody_deletes_is_noticed_before_anything_in_it_is_called_safe() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool");
    let mut running = Running::start(&path, 50);
    running.put(1..=3);
    running.settle();
    std::fs::remove_dir_all(&path).unwrap();
    running.put(4..=5);
    running.settle();
    assert_eq!(running.count(failures), 1);
    assert_eq!(running.spool.view(clock::now()).readings, 2);
    running.end();
    assert_eq!(Running::again(&path).drain(), [4, 5]);
}
