//! What a disk gives back of a publisher's spool.

use std::collections::BTreeMap;
use std::io;

use ceilometer_ha::model::UtcTime;
use ceilometer_ha::publisher::spool::body::{self, BODY_BYTES_MAX, READINGS_MAX};
use ceilometer_ha::publisher::spool::record::{self, Found, Place, RECORD_HEAD_BYTES, Walk};
use ceilometer_ha::publisher::spool::store::{AGE_MAX, Folder, Limits, SEGMENT_BYTES_MAX, Store};

const BEGIN: Place = Place {
    segment: 1,
    offset: 0,
};

/// Any bytes are records or damage, and come to an end. The same bytes once more as the body of a record
/// whose checksums are right, so that the code behind them is reached, and as what was saved as progress.
pub(super) fn spool(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(SEGMENT_BYTES_MAX)];
    check_walk(bytes);
    let body = bytes[..bytes.len().min(BODY_BYTES_MAX)].to_vec();
    let readings = body::readings(&body);
    let count = readings.as_ref().map_or(1, Vec::len);
    let mut whole = Vec::new();
    let now = UtcTime::from_unix_micros(0);
    record::write(&mut whole, BEGIN, now, &(body, count));
    let length = whole.len();
    whole.extend(bytes);
    let mut walk = Walk::new(&whole, BEGIN);
    match (walk.next(), readings) {
        (Some(Found::Record(record)), Some(readings)) => {
            // What is no number isn't equal to itself.
            assert_eq!(format!("{:?}", record.readings), format!("{readings:?}"));
            check_again(&readings);
        }
        (Some(Found::Damaged(readings)), None) => assert_eq!(readings, count),
        (found, readings) => panic!("{found:?} where {readings:?} should be"),
    }
    assert_eq!(walk.place().offset, length);
    whole.truncate(SEGMENT_BYTES_MAX);
    check_store(whole, bytes);
}

/// Every step leads on, and no more comes out than there is.
fn check_walk(bytes: &[u8]) {
    let mut walk = Walk::new(bytes, BEGIN);
    let mut before = walk.place();
    while let Some(found) = walk.next() {
        let after = walk.place();
        assert!(after > before && after.offset <= bytes.len());
        if let Found::Record(record) = found {
            assert!(record.readings.len() <= READINGS_MAX);
            assert!(after.offset - before.offset >= RECORD_HEAD_BYTES);
        }
        before = after;
    }
    assert_eq!(before.offset, bytes.len());
}

/// What was read can be written, and is the same then.
fn check_again(readings: &[ceilometer_ha::model::Reading]) {
    let (bodies, too_large) = body::bodies(readings);
    assert_eq!(too_large, 0);
    let again: Vec<_> = bodies
        .iter()
        .flat_map(|(body, _)| body::readings(body).unwrap())
        .collect();
    assert_eq!(format!("{again:?}"), format!("{readings:?}"));
}

fn check_store(segment: Vec<u8>, progress: &[u8]) {
    let most = segment.len();
    let folder = Files {
        segments: BTreeMap::from([(1, segment.clone()), (2, segment)]),
        progress: progress.to_vec(),
    };
    let limits = Limits {
        bytes: 4 << 20,
        age: AGE_MAX,
    };
    let now = UtcTime::from_unix_micros(0);
    let mut store = Store::open(folder, limits).unwrap();
    let mut steps = 0;
    while store.has_unread() {
        for stored in store.read(3, now).unwrap() {
            store.sent(stored.end).unwrap();
        }
        steps += 1;
        assert!(steps <= 2 * most + 2, "it doesn't end");
    }
    assert_eq!(store.stats().records, 0);
    assert!(store.into_folder().segments.is_empty());
}

struct Files {
    segments: BTreeMap<u64, Vec<u8>>,
    progress: Vec<u8>,
}

impl Folder for Files {
    fn segments(&mut self) -> io::Result<Vec<u64>> {
        Ok(self.segments.keys().copied().collect())
    }

    fn read(&mut self, segment: u64, offset: usize, most: usize) -> io::Result<Vec<u8>> {
        let bytes = self.segments.get(&segment).ok_or(io::ErrorKind::NotFound)?;
        let rest = bytes.get(offset..).unwrap_or_default();
        Ok(rest[..rest.len().min(most)].to_vec())
    }

    fn append(&mut self, _at: Place, _bytes: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn remove(&mut self, segment: u64) -> io::Result<()> {
        self.segments.remove(&segment);
        Ok(())
    }

    fn set_aside(&mut self, segment: u64) -> io::Result<()> {
        self.remove(segment)
    }

    fn progress(&mut self) -> io::Result<Vec<u8>> {
        Ok(self.progress.clone())
    }

    fn set_progress(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.progress = bytes.to_vec();
        Ok(())
    }
}
