//! Pure. What the spool's files hold, as bytes; docs/delivery.md explains the format.
//!
//! A checksum covers where its record stands (segment and offset) beside the record itself. So blocks of
//! a file that is no more, which a disk may bring back after a power failure, are never taken for
//! records of this one, and neither is a record inside another one's text.

use super::body::{self, BODY_BYTES_MAX, Body};
use super::crc::Crc;
use crate::model::{Reading, UtcTime};

/// What each record begins with: a byte that no text has, two letters, and the version of the format.
pub const RECORD_MAGIC: [u8; 4] = *b"\xf5HR\x01";
/// What the file of progress begins with.
const PROGRESS_MAGIC: [u8; 8] = *b"HAPROGR\x01";

/// The head of a record: magic, length of the body, count of readings, time, checksums of the body and
/// of the head.
pub const RECORD_HEAD_BYTES: usize = 28;
/// The file of progress: magic, segment, offset, checksum.
pub const PROGRESS_BYTES: usize = 28;
/// The longest record.
pub const RECORD_BYTES_MAX: usize = RECORD_HEAD_BYTES + BODY_BYTES_MAX;

/// A place in the spool: a segment, and an offset in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// The segment's number.
    pub segment: u64,
    /// The offset from the beginning of its file.
    pub offset: usize,
}

/// Appends a record that will stand at this place.
pub fn write(out: &mut Vec<u8>, place: Place, at: UtcTime, (body, readings): &Body) {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let count = u32::try_from(*readings).unwrap_or(u32::MAX);
    let begin = out.len();
    out.extend(RECORD_MAGIC);
    out.extend(length.to_le_bytes());
    out.extend(count.to_le_bytes());
    out.extend(at.unix_micros().to_le_bytes());
    out.extend(sum(place, body).to_le_bytes());
    let head = out.get(begin..).unwrap_or_default();
    let of_head = sum(place, head);
    out.extend(of_head.to_le_bytes());
    out.extend(body);
}

/// A record as it stands in a segment.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// When it was written.
    pub at: UtcTime,
    /// What it holds.
    pub readings: Vec<Reading>,
}

/// What stands at one place of a segment.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// A record.
    Record(Record),
    /// So many readings that can't be read any more; 1 where nobody knows how many they were.
    Damaged(usize),
}

/// Goes through the bytes of a segment, from record to record. What is damaged is passed over: by its
/// length where its head is whole, else to the next place where a whole head stands.
#[derive(Debug)]
pub struct Walk<'a> {
    bytes: &'a [u8],
    segment: u64,
    /// Where `bytes` begin in the file.
    base: usize,
    offset: usize,
}

impl<'a> Walk<'a> {
    /// Through these bytes, which begin at this place.
    pub fn new(bytes: &'a [u8], from: Place) -> Self {
        Walk {
            bytes,
            segment: from.segment,
            base: from.offset,
            offset: 0,
        }
    }

    /// Where the next record begins.
    pub fn place(&self) -> Place {
        Place {
            segment: self.segment,
            offset: self.base + self.offset,
        }
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.offset..).unwrap_or_default()
    }

    /// How far from here the next whole head is, or the end.
    fn gap(&self) -> usize {
        let rest = self.rest();
        let candidates = rest.windows(RECORD_MAGIC.len()).enumerate().skip(1);
        let mut heads = candidates.filter(|(_, window)| *window == RECORD_MAGIC);
        let is_whole = |&(gap, _): &(usize, &[u8])| {
            let place = Place {
                segment: self.segment,
                offset: self.base + self.offset + gap,
            };
            Head::read(rest.get(gap..).unwrap_or_default(), place).is_some()
        };
        heads.find(is_whole).map_or(rest.len(), |(gap, _)| gap)
    }
}

impl Iterator for Walk<'_> {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        let (rest, place) = (self.rest(), self.place());
        if rest.is_empty() {
            return None;
        }
        let Some(head) = Head::read(rest, place) else {
            self.offset += self.gap();
            return Some(Found::Damaged(1));
        };
        let after = rest.get(RECORD_HEAD_BYTES..).unwrap_or_default();
        let Some(body) = after.get(..head.length) else {
            // It was cut short, or what follows was overwritten.
            self.offset += self.gap();
            return Some(Found::Damaged(head.readings));
        };
        self.offset += RECORD_HEAD_BYTES + head.length;
        let readings = (sum(place, body) == head.of_body).then(|| body::readings(body));
        let found = match readings.flatten() {
            Some(readings) if readings.len() == head.readings => Found::Record(Record {
                at: head.at,
                readings,
            }),
            _ => Found::Damaged(head.readings),
        };
        Some(found)
    }
}

/// The head of a record whose checksum is right.
struct Head {
    length: usize,
    readings: usize,
    at: UtcTime,
    of_body: u32,
}

impl Head {
    fn read(bytes: &[u8], place: Place) -> Option<Self> {
        let (head, of_head) = bytes
            .get(..RECORD_HEAD_BYTES)?
            .split_at_checked(RECORD_HEAD_BYTES - 4)?;
        if !head.starts_with(&RECORD_MAGIC) || number(of_head)? != sum(place, head) {
            return None;
        }
        let length = usize::try_from(number(head.get(4..8)?)?).ok()?;
        let micros = i64::from_le_bytes(head.get(12..20)?.try_into().ok()?);
        (length <= BODY_BYTES_MAX).then_some(Head {
            length,
            readings: usize::try_from(number(head.get(8..12)?)?).ok()?,
            at: UtcTime::from_unix_micros(micros),
            of_body: number(head.get(20..24)?)?,
        })
    }
}

/// The bytes of the file of progress: everything before this place is done.
pub fn progress(done: Place) -> [u8; PROGRESS_BYTES] {
    let offset = u64::try_from(done.offset).unwrap_or(u64::MAX);
    let mut bytes = Vec::with_capacity(PROGRESS_BYTES);
    bytes.extend(PROGRESS_MAGIC);
    bytes.extend(done.segment.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes.extend(Crc::new().with(&bytes).sum().to_le_bytes());
    bytes.try_into().unwrap_or([0; PROGRESS_BYTES])
}

/// The place in a file of progress; None if it isn't whole.
pub fn read_progress(bytes: &[u8]) -> Option<Place> {
    let (said, of_said) = bytes.split_at_checked(PROGRESS_BYTES - 4)?;
    let (magic, rest) = said.split_at_checked(PROGRESS_MAGIC.len())?;
    if magic != PROGRESS_MAGIC || number(of_said)? != Crc::new().with(said).sum() {
        return None;
    }
    let (segment, offset) = rest.split_at_checked(8)?;
    Some(Place {
        segment: u64::from_le_bytes(segment.try_into().ok()?),
        offset: usize::try_from(u64::from_le_bytes(offset.try_into().ok()?)).ok()?,
    })
}

/// The checksum of what stands at this place.
fn sum(place: Place, bytes: &[u8]) -> u32 {
    let offset = u64::try_from(place.offset).unwrap_or(u64::MAX);
    Crc::new()
        .with(&place.segment.to_le_bytes())
        .with(&offset.to_le_bytes())
        .with(bytes)
        .sum()
}

fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}
