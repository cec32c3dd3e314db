//! Pure. What one received message becomes in the tables: Ceilometer's `meter`, `resource`,
//! `sample` and `metadata_*` as its own collector would fill them, and what our tables need beside.

use std::borrow::Borrow;
use std::ops::Range;
use std::sync::Arc;

use md5::{Digest, Md5};

use super::json::{self, NonFinite};
use crate::model::{Received, ReceivedMeter, Standing, UtcTime, Value};

/// How deep metadata may nest. Real ones are two or three deep; deeper than this is a sender gone
/// wrong, and its message is refused rather than walked.
pub(crate) const MAX_METADATA_DEPTH: usize = 32;

/// How many values the metadata of one message may hold, since each becomes a row. A Nova instance
/// has about fifty. A message with more is refused.
pub(crate) const MAX_METADATA_VALUES: usize = 4096;

/// How long the metadata of one message may be as JSON, in bytes: what MySQL's TEXT holds. SQLite would
/// hold more, but what is refused by one engine is refused by all. A longer message is refused.
const MAX_METADATA_BYTES: usize = 65_535;

/// The width of Ceilometer's VARCHAR columns, in characters. A longer text would be cut, refused
/// or kept by the engine's mood, so the message is refused.
pub(crate) const MAX_TEXT: usize = 255;
/// The width of `sample.message_id`.
pub(crate) const MAX_MESSAGE_ID: usize = 128;
/// The width of `sample.message_signature`.
const MAX_SIGNATURE: usize = 64;

/// 0001-01-01T00:00:00, the first moment that a DATETIME can hold.
const FIRST_MICROS: i64 = -62_135_596_800_000_000;
/// 9999-12-31T23:59:59.999999, the last one.
const LAST_MICROS: i64 = 253_402_300_799_999_999;

/// Writes the closed list of refusals: variant, name, words.
macro_rules! refusals {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $words:literal;)+) => {
        /// Why one message could not be stored. It costs itself alone, never its batch.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum RowRefusal { $($(#[$doc])* $variant,)+ }

        impl RowRefusal {
            /// Every member.
            pub const ALL: &'static [RowRefusal] = &[$(RowRefusal::$variant),+];

            /// The name in metric labels.
            pub fn as_str(self) -> &'static str {
                match self { $(RowRefusal::$variant => $text),+ }
            }

            /// What to tell a person.
            pub fn words(self) -> &'static str {
                match self { $(RowRefusal::$variant => $words),+ }
            }
        }

        impl std::fmt::Display for RowRefusal {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

refusals! {
    /// An epoch or a sequence number above what a BIGINT holds.
    OrderOutOfRange = "order_out_of_range", "its epoch or sequence number does not fit a BIGINT";
    /// A numbered reading without a volume can't be a state.
    VolumeMissing = "volume_missing", "it is numbered but has no volume";
    /// A volume that is NaN or infinite can't be a state, and MySQL can't hold it at all.
    VolumeNotFinite = "volume_not_finite", "its volume is NaN or infinite, which no state and not every engine can hold";
    /// A numbered reading without a time can't be a state.
    TimestampMissing = "timestamp_missing", "it is numbered but has no timestamp";
    /// A time that no calendar of a database has.
    TimestampOutOfRange = "timestamp_out_of_range", "its timestamp lies outside the years 1 to 9999";
    /// A name, an id or a signature longer than its column.
    TextTooLong = "text_too_long", "a name, an id or the signature is longer than its column";
    /// An integer in the metadata above what a BIGINT holds.
    MetadataOutOfRange = "metadata_out_of_range", "an integer in its metadata does not fit a BIGINT";
    /// A number in the metadata that is NaN or infinite, for which MySQL has no room.
    MetadataNotFinite = "metadata_not_finite", "a number in its metadata is NaN or infinite, which the database can't hold";
    /// A key of the metadata, with those above it, is longer than its column.
    MetadataKeyTooLong = "metadata_key_too_long", "a key of its metadata, with those that it lies in, is longer than its column";
    /// Metadata nested too deep.
    MetadataTooDeep = "metadata_too_deep", "its metadata nest too deep";
    /// Metadata with too many values, or too long as text.
    MetadataTooLarge = "metadata_too_large", "its metadata hold too many values or too much text";
    /// It belongs to a life of its observer so long ago that what was seen of it is forgotten.
    EpochForgotten = "epoch_forgotten", "its observer has started too often since to tell it from a duplicate";
    /// It passed every check of ours, and the database's engine refuses it all the same.
    DatabaseRefused = "database_refused", "the database refuses what is in it";
}

/// One message, ready for the tables.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    /// Its place in the batch.
    pub(crate) index: usize,
    /// The message.
    pub(crate) received: &'a Received,
    /// What makes it one of ours; None for a plain Ceilometer sender's.
    pub(crate) ours: Option<Ours<'a>>,
    /// Why it moves no state, if it is one of ours and mayn't.
    pub(crate) held_back: Option<HeldBack>,
    /// Its row in `resource`.
    pub(crate) resource: Arc<ResourceKey>,
    /// `resource.resource_metadata`; None where the sender's was Python's None.
    pub(crate) metadata_json: Option<Arc<str>>,
}

impl<'a> Row<'a> {
    /// What makes it one of ours, if it may move a state.
    pub(crate) fn live(&self) -> Option<Ours<'a>> {
        self.ours.filter(|_| self.held_back.is_none())
    }
}

/// Why a reading is history alone, however new it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldBack {
    /// It waited somewhere for nobody knows how long.
    Backlog,
    /// Its time is too long ago.
    Ancient,
    /// Its time is too far ahead.
    Future,
    /// It is of a life of its observer that an operator ended.
    Retired,
}

impl HeldBack {
    /// Every member.
    pub const ALL: [HeldBack; 4] = [
        HeldBack::Backlog,
        HeldBack::Ancient,
        HeldBack::Future,
        HeldBack::Retired,
    ];

    /// The name in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            HeldBack::Backlog => "backlog",
            HeldBack::Ancient => "ancient",
            HeldBack::Future => "future",
            HeldBack::Retired => "retired",
        }
    }

    fn of(standing: Standing) -> Option<Self> {
        match standing {
            Standing::Live => None,
            Standing::Backlog => Some(HeldBack::Backlog),
            Standing::Ancient => Some(HeldBack::Ancient),
            Standing::Future => Some(HeldBack::Future),
        }
    }
}

/// What a batch's rows need that costs time to work out, made before the database is asked.
#[derive(Debug)]
pub struct Prepared {
    messages: Vec<Arc<Received>>,
    lines: Vec<Result<Line, RowRefusal>>,
}

/// The part of a row that is worked out from its message alone.
#[derive(Debug, Clone)]
struct Line {
    resource: Arc<ResourceKey>,
    metadata_json: Option<Arc<str>>,
}

impl Prepared {
    /// Checks messages and works their rows out. Takes some microseconds for each.
    pub fn new(messages: Vec<Arc<Received>>) -> Self {
        let lines = messages.iter().map(|message| line_of(message)).collect();
        Prepared { messages, lines }
    }

    /// The messages.
    pub fn messages(&self) -> &[Arc<Received>] {
        &self.messages
    }

    /// The rows of some of the messages, and by index among these what can't be one.
    pub(crate) fn rows(&self, range: Range<usize>) -> (Vec<Row<'_>>, Vec<(usize, RowRefusal)>) {
        let all = self.messages.iter().zip(&self.lines);
        let some = all.take(range.end).skip(range.start).enumerate();
        sort(some.map(|(index, (received, line))| {
            let row = line.clone().and_then(|line| row_of(index, received, line));
            (index, row)
        }))
    }
}

/// The part of a message that state is made of, checked to be storable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ours<'a> {
    /// Who saw it.
    pub(crate) observer: &'a str,
    /// Which life of the observer, and which reading of that life.
    pub(crate) order: Order,
    /// The volume, finite.
    pub(crate) volume: f64,
    /// When, by the observer's clock.
    pub(crate) observed_at: UtcTime,
}

/// A place in an observer's order, as BIGINTs hold it: never negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Order {
    /// Which life of the observer.
    pub(crate) epoch: i64,
    /// Which reading of that life.
    pub(crate) seq: i64,
}

/// What makes a row of `resource` distinct.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ResourceKey {
    /// `resource_id`, the sender's.
    pub(crate) resource_id: String,
    /// `user_id`.
    pub(crate) user_id: Option<String>,
    /// `project_id`.
    pub(crate) project_id: Option<String>,
    /// `source_id`.
    pub(crate) source: String,
    /// MD5 of the metadata's text.
    pub(crate) metadata_md5: [u8; 16],
}

impl ResourceKey {
    /// `resource.metadata_hash`.
    pub(crate) fn metadata_hash(&self) -> String {
        use std::fmt::Write as _;
        self.metadata_md5
            .iter()
            .fold(String::with_capacity(32), |mut hex, byte| {
                // Writing into a String can't fail.
                let _ = write!(hex, "{byte:02x}");
                hex
            })
    }
}

/// One row of a `metadata_*` table, but for the id of its resource.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MetadataRow {
    /// `meta_key`: `a.b` for a key in a map, `c[0]` for an item of a list.
    pub(crate) key: String,
    /// Which table, and its value.
    pub(crate) value: MetadataValue,
}

/// A value in the table of its type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum MetadataValue {
    /// `metadata_text`; None is Python's.
    Text(Option<String>),
    /// `metadata_int`.
    Int(i64),
    /// `metadata_float`.
    Float(f64),
    /// `metadata_bool`.
    Bool(bool),
}

/// The rows of a batch, and by index what can't be one.
pub(crate) fn rows_of<M: Borrow<Received>>(
    batch: &[M],
) -> (Vec<Row<'_>>, Vec<(usize, RowRefusal)>) {
    sort(batch.iter().enumerate().map(|(index, received)| {
        let received = received.borrow();
        let row = line_of(received).and_then(|line| row_of(index, received, line));
        (index, row)
    }))
}

fn sort<'a>(
    all: impl Iterator<Item = (usize, Result<Row<'a>, RowRefusal>)>,
) -> (Vec<Row<'a>>, Vec<(usize, RowRefusal)>) {
    let mut rows = Vec::with_capacity(all.size_hint().0);
    let mut refused = Vec::new();
    for (index, row) in all {
        match row {
            Ok(row) => rows.push(row),
            Err(refusal) => refused.push((index, refusal)),
        }
    }
    (rows, refused)
}

/// Takes out what an engine that has no NaN and no infinity can't hold.
pub(crate) fn finite<'a>(
    rows: Vec<Row<'a>>,
    refused: &mut Vec<(usize, RowRefusal)>,
) -> Vec<Row<'a>> {
    let refusal = |row: &Row<'a>| {
        if row
            .received
            .volume
            .is_some_and(|volume| !volume.is_finite())
        {
            return Some(RowRefusal::VolumeNotFinite);
        }
        (!is_finite(&row.received.metadata)).then_some(RowRefusal::MetadataNotFinite)
    };
    rows.into_iter()
        .filter(|row| match refusal(row) {
            None => true,
            Some(refusal) => {
                refused.push((row.index, refusal));
                false
            }
        })
        .collect()
}

/// Spreads metadata over rows, sorted by key at each level. Two paths that read the same, as
/// `{"a.b": 1, "a": {"b": 2}}` has them, are both given; the tables keep the first.
pub(crate) fn flatten(metadata: &Value) -> Vec<MetadataRow> {
    let mut rows = Vec::new();
    // What is no map has no keys: it stands in `resource` alone, as with the original.
    flatten_map("", metadata.as_map().unwrap_or_default(), &mut rows);
    rows
}

fn row_of(index: usize, received: &Received, line: Line) -> Result<Row<'_>, RowRefusal> {
    Ok(Row {
        index,
        received,
        ours: ours_of(received)?,
        held_back: HeldBack::of(received.evidence.standing),
        resource: line.resource,
        metadata_json: line.metadata_json,
    })
}

fn line_of(received: &Received) -> Result<Line, RowRefusal> {
    check_texts(received)?;
    if received.timestamp.is_some_and(|at| !in_calendar(at)) {
        return Err(RowRefusal::TimestampOutOfRange);
    }
    let mut budget = MAX_METADATA_VALUES;
    check_value(&received.metadata, MAX_METADATA_DEPTH, &mut budget)?;
    let metadata_json = json::write(&received.metadata, NonFinite::AsPython);
    if metadata_json.len() > MAX_METADATA_BYTES {
        return Err(RowRefusal::MetadataTooLarge);
    }
    // A text that is no longer than a key may be has none that is.
    if metadata_json.len() > MAX_TEXT && longest_key(0, &received.metadata) > MAX_TEXT {
        return Err(RowRefusal::MetadataKeyTooLong);
    }
    let resource = ResourceKey {
        resource_id: received.resource_id.clone(),
        user_id: received.user_id.clone(),
        project_id: received.project_id.clone(),
        source: received.source.clone(),
        metadata_md5: Md5::digest(&metadata_json).into(),
    };
    let metadata_json = (received.metadata != Value::Null).then(|| metadata_json.into());
    Ok(Line {
        resource: Arc::new(resource),
        metadata_json,
    })
}

fn ours_of(received: &Received) -> Result<Option<Ours<'_>>, RowRefusal> {
    let Some(identity) = &received.identity else {
        return Ok(None);
    };
    let bigint = |number: u64| i64::try_from(number).map_err(|_| RowRefusal::OrderOutOfRange);
    let volume = received.volume.ok_or(RowRefusal::VolumeMissing)?;
    if !volume.is_finite() {
        return Err(RowRefusal::VolumeNotFinite);
    }
    Ok(Some(Ours {
        observer: &identity.observer,
        order: Order {
            epoch: bigint(identity.epoch)?,
            seq: bigint(identity.seq)?,
        },
        volume,
        observed_at: received.timestamp.ok_or(RowRefusal::TimestampMissing)?,
    }))
}

fn in_calendar(at: UtcTime) -> bool {
    (FIRST_MICROS..=LAST_MICROS).contains(&at.unix_micros())
}

fn check_texts(received: &Received) -> Result<(), RowRefusal> {
    let Received {
        identity,
        path,
        evidence: _,
        message_id,
        signature,
        source,
        meter: ReceivedMeter { name, kind, unit },
        volume: _,
        resource_id,
        user_id,
        project_id,
        timestamp: _,
        metadata: _,
    } = received;
    let required = [source, name, resource_id].into_iter();
    let optional = [path, kind, unit, user_id, project_id]
        .into_iter()
        .flatten();
    let observer = identity.iter().map(|identity| &identity.observer);
    let fits = required
        .chain(optional)
        .chain(observer)
        .all(|text| is_within(text, MAX_TEXT))
        && is_within(message_id, MAX_MESSAGE_ID)
        && is_within(signature, MAX_SIGNATURE);
    if fits {
        Ok(())
    } else {
        Err(RowRefusal::TextTooLong)
    }
}

fn is_within(text: &str, characters: usize) -> bool {
    text.len() <= characters || text.chars().nth(characters).is_none()
}

fn check_map(
    entries: &[(String, Value)],
    depth: usize,
    budget: &mut usize,
) -> Result<(), RowRefusal> {
    let depth = depth.checked_sub(1).ok_or(RowRefusal::MetadataTooDeep)?;
    entries
        .iter()
        .try_for_each(|(_, value)| check_value(value, depth, budget))
}

fn check_value(value: &Value, depth: usize, budget: &mut usize) -> Result<(), RowRefusal> {
    *budget = budget.checked_sub(1).ok_or(RowRefusal::MetadataTooLarge)?;
    match value {
        Value::Null | Value::Bool(_) | Value::Float(_) | Value::Text(_) => Ok(()),
        Value::Int(number) => match i64::try_from(*number) {
            Ok(_) => Ok(()),
            Err(_) => Err(RowRefusal::MetadataOutOfRange),
        },
        Value::List(items) => {
            let depth = depth.checked_sub(1).ok_or(RowRefusal::MetadataTooDeep)?;
            items
                .iter()
                .try_for_each(|item| check_value(item, depth, budget))
        }
        Value::Map(entries) => check_map(entries, depth, budget),
    }
}

/// Whether no number in it is NaN or infinite.
pub(crate) fn is_finite(value: &Value) -> bool {
    match value {
        Value::Float(number) => number.is_finite(),
        Value::List(items) => items.iter().all(is_finite),
        Value::Map(entries) => entries.iter().all(|(_, value)| is_finite(value)),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Text(_) => true,
    }
}

/// The length of the longest `meta_key` in characters, below a key that is so long already.
fn longest_key(base: usize, value: &Value) -> usize {
    match value {
        Value::Map(entries) => {
            let dot = usize::from(base > 0);
            let below = entries
                .iter()
                .map(|(key, value)| longest_key(base + dot + key.chars().count(), value));
            below.max().unwrap_or(0)
        }
        Value::List(items) => {
            let digits = items.len().saturating_sub(1).to_string().len();
            let below = items
                .iter()
                .map(|item| longest_key(base + digits + "[]".len(), item));
            below.max().unwrap_or(0)
        }
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) => base,
    }
}

fn flatten_map(base: &str, entries: &[(String, Value)], rows: &mut Vec<MetadataRow>) {
    for (key, value) in json::sorted(entries) {
        let key = if base.is_empty() {
            key.to_owned()
        } else {
            format!("{base}.{key}")
        };
        flatten_value(key, value, rows);
    }
}

fn flatten_value(key: String, value: &Value, rows: &mut Vec<MetadataRow>) {
    let value = match value {
        Value::Map(entries) => return flatten_map(&key, entries, rows),
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                flatten_value(format!("{key}[{index}]"), item, rows);
            }
            return;
        }
        Value::Null => MetadataValue::Text(None),
        Value::Text(text) => MetadataValue::Text(Some(text.clone())),
        Value::Bool(truth) => MetadataValue::Bool(*truth),
        Value::Float(number) => MetadataValue::Float(*number),
        Value::Int(number) => match i64::try_from(*number) {
            Ok(number) => MetadataValue::Int(number),
            // Checked before: such a message has no row.
            Err(_) => return,
        },
    };
    rows.push(MetadataRow { key, value });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Identity;

    fn reading() -> Received {
        Received {
            identity: Some(Identity {
                observer: "node-1".into(),
                epoch: 1,
                seq: 1,
            }),
            path: Some("udp://192.0.2.1:4953".into()),
            evidence: crate::model::Evidence::default(),
            message_id: "m-1".into(),
            signature: "0".repeat(64),
            source: "openstack".into(),
            meter: ReceivedMeter {
                name: "storage_connectivity".into(),
                kind: Some("gauge".into()),
                unit: Some(String::new()),
            },
            volume: Some(1.0),
            resource_id: "node-1".into(),
            user_id: None,
            project_id: None,
            timestamp: Some(UtcTime::from_unix_micros(1_462_330_921_123_456)),
            metadata: Value::Map(vec![]),
        }
    }

    fn taken(received: &Received) -> Result<(), RowRefusal> {
        let line = line_of(received)?;
        row_of(0, received, line).map(|_| ())
    }

    fn nested(levels: usize) -> Value {
        (0..levels).fold(Value::Null, |inner, level| {
            if level % 2 == 0 {
                Value::List(vec![inner])
            } else {
                Value::Map(vec![("k".into(), inner)])
            }
        })
    }

    #[test]
    fn each_refusal_has_its_cause() {
        type Spoil = fn(&mut Received);
        let causes: [(RowRefusal, Spoil); 15] = [
            (RowRefusal::OrderOutOfRange, |r| {
                r.identity.as_mut().unwrap().epoch = 1 << 63;
            }),
            (RowRefusal::OrderOutOfRange, |r| {
                r.identity.as_mut().unwrap().seq = u64::MAX;
            }),
            (RowRefusal::VolumeMissing, |r| r.volume = None),
            (RowRefusal::VolumeNotFinite, |r| r.volume = Some(f64::NAN)),
            (RowRefusal::VolumeNotFinite, |r| {
                r.volume = Some(f64::INFINITY);
            }),
            (RowRefusal::TimestampMissing, |r| r.timestamp = None),
            (RowRefusal::TimestampOutOfRange, |r| {
                r.timestamp = Some(UtcTime::from_unix_micros(LAST_MICROS + 1));
            }),
            (RowRefusal::TextTooLong, |r| r.resource_id = "ż".repeat(256)),
            (RowRefusal::TextTooLong, |r| r.signature.push('0')),
            (RowRefusal::MetadataOutOfRange, |r| {
                r.metadata = Value::Map(vec![("k".into(), Value::List(vec![Value::Int(1 << 63)]))]);
            }),
            (RowRefusal::MetadataKeyTooLong, |r| {
                r.metadata = Value::Map(vec![("k".repeat(256), Value::Null)]);
            }),
            (RowRefusal::MetadataKeyTooLong, |r| {
                let list = Value::List(vec![Value::Null; 11]);
                let map = Value::Map(vec![("ż".repeat(126), list)]);
                r.metadata = Value::Map(vec![("k".repeat(125), map)]);
            }),
            (RowRefusal::MetadataTooLarge, |r| {
                let text = "x".repeat(MAX_METADATA_BYTES);
                r.metadata = Value::Map(vec![("k".into(), Value::Text(text))]);
            }),
            (RowRefusal::MetadataTooDeep, |r| {
                r.metadata = Value::Map(vec![("k".into(), nested(MAX_METADATA_DEPTH))]);
            }),
            (RowRefusal::MetadataTooLarge, |r| {
                r.metadata = Value::Map(vec![(
                    "k".into(),
                    Value::List(vec![Value::Null; MAX_METADATA_VALUES]),
                )]);
            }),
        ];
        assert!(taken(&reading()).is_ok());
        for (refusal, spoil) in causes {
            let mut spoiled = reading();
            spoil(&mut spoiled);
            assert_eq!(taken(&spoiled), Err(refusal), "{}", refusal.words());
        }
    }

    #[test]
    fn the_widest_that_fit_are_taken() {
        let mut widest = reading();
        widest.resource_id = "ż".repeat(255);
        widest.timestamp = Some(UtcTime::from_unix_micros(LAST_MICROS));
        widest.identity.as_mut().unwrap().seq = i64::MAX.unsigned_abs();
        widest.metadata = Value::Map(vec![("k".into(), nested(MAX_METADATA_DEPTH - 1))]);
        assert!(taken(&widest).is_ok());
    }

    #[test]
    fn an_old_sender_may_leave_things_out_or_say_infinity() {
        for volume in [None, Some(f64::NAN), Some(f64::INFINITY)] {
            let old = Received {
                identity: None,
                volume,
                timestamp: None,
                ..reading()
            };
            assert!(taken(&old).is_ok(), "{volume:?}");
        }
    }

    #[test]
    fn an_empty_key_is_no_base() {
        // Ceilometer's `dict_to_keyval` joins with a dot only where there is something to join to.
        let inner = Value::Map(vec![("a".into(), Value::Int(1))]);
        assert_eq!(
            flatten(&Value::Map(vec![(String::new(), inner)])),
            [MetadataRow {
                key: "a".into(),
                value: MetadataValue::Int(1),
            }]
        );
    }

    #[test]
    fn refusals_have_distinct_names() {
        let names: std::collections::BTreeSet<_> =
            RowRefusal::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(names.len(), RowRefusal::ALL.len());
    }
}
