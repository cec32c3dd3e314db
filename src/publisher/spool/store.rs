//! Pure. The spool as a queue of records: which segments there are, what is read, sent and given up. Whoever
//! holds the files is a [`Folder`], so that a disk can lie, fail or lose power in a test.
//!
//! A segment is only ever appended to by the life that made it, and never after a write that failed. So
//! whatever a crash leaves at a segment's end, nothing stands behind it.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use super::body::Body;
use super::record::{self, Found, Place, RECORD_BYTES_MAX, RECORD_HEAD_BYTES, Walk};
use crate::model::{Reading, UtcTime};

/// The longest file of a segment. What is sent goes from the disk by segments, and one of them at a time is
/// in memory while it is read.
pub const SEGMENT_BYTES_MAX: usize = 1 << 20;

/// The most segments: an agent that starts again and again makes one each time. Beyond it the oldest goes,
/// and its readings are counted.
pub const SEGMENTS_MAX: usize = 4096;

/// How often a segment that can't be read is tried before it is passed over.
const READ_TRIES_MAX: u32 = 3;

/// Segments that the whole spool should have at least: so much of it goes when it is full.
const SEGMENTS_MIN: u64 = 16;

/// How old a record may be. A collector tells a copy from a new reading for a day after it last heard of
/// it; what is older than this when its turn comes is given up and counted, rather than perhaps stored twice.
pub const AGE_MAX: Duration = Duration::from_secs(23 * 3600);

/// Where segments and progress are kept.
pub trait Folder {
    /// Every segment's number, in any order.
    fn segments(&mut self) -> io::Result<Vec<u64>>;

    /// At most so many bytes of a segment from an offset on.
    fn read(&mut self, segment: u64, offset: usize, most: usize) -> io::Result<Vec<u8>>;

    /// Puts bytes at the end of a segment, which is at this place. Those at offset 0 make it, or make it
    /// anew. They outlive a power failure once this returns. After an error nobody knows what is there.
    fn append(&mut self, at: Place, bytes: &[u8]) -> io::Result<()>;

    /// Deletes a segment; one that isn't there is fine.
    fn remove(&mut self, segment: u64) -> io::Result<()>;

    /// Keeps a damaged segment under another name for somebody to look at, if there aren't too many.
    fn set_aside(&mut self, segment: u64) -> io::Result<()>;

    /// What was last saved as progress; nothing if nothing was.
    fn progress(&mut self) -> io::Result<Vec<u8>>;

    /// Saves it. It need not outlive a power failure.
    fn set_progress(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// How much is kept, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all segments.
    pub bytes: u64,
    /// How old a record may be.
    pub age: Duration,
}

impl Limits {
    /// A spool of so many bytes.
    pub fn of_bytes(bytes: u64) -> Self {
        Limits {
            bytes,
            age: AGE_MAX,
        }
    }

    /// When a segment is full.
    fn segment(self) -> usize {
        let share = usize::try_from(self.bytes / SEGMENTS_MIN).unwrap_or(usize::MAX);
        share.clamp(RECORD_BYTES_MAX, SEGMENT_BYTES_MAX)
    }
}

/// Readings that were given up since somebody last asked, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses {
    /// Newer ones needed the room.
    pub full: usize,
    /// They would have come too late to be told from new ones.
    pub too_old: usize,
    /// What the disk gave back isn't what was written.
    pub damaged: usize,
}

/// What is in it now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of all segments.
    pub bytes: u64,
    /// Records that wait to be sent.
    pub records: usize,
    /// Their readings.
    pub readings: usize,
    /// When the oldest of them was written, as nearly as is known.
    pub oldest: Option<UtcTime>,
}

/// A record that was read and is to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Its readings.
    pub readings: Vec<Reading>,
    /// What is to be said once it is sent: everything before this place is done.
    pub end: Place,
}

/// The queue.
#[derive(Debug)]
pub struct Store<F> {
    folder: F,
    limits: Limits,
    /// Oldest first.
    segments: VecDeque<Segment>,
    /// Whether the last segment may be appended to.
    is_open: bool,
    /// The next segment's number: no number is ever used twice.
    next: u64,
    /// From where is read on.
    cursor: Place,
    /// What was read and not yet sent.
    lent: VecDeque<Lent>,
    /// Segments that are done, and whose files couldn't be deleted yet.
    doomed: VecDeque<Doomed>,
    saved: Place,
    /// The bytes that are being read.
    window: Window,
    failures: u32,
    losses: Losses,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    /// As far as it was synced, or found.
    bytes: usize,
    /// What of it waits to be sent.
    records: usize,
    readings: usize,
    oldest: UtcTime,
    newest: UtcTime,
    is_damaged: bool,
}

#[derive(Debug)]
struct Lent {
    from: Place,
    end: Place,
    at: UtcTime,
    readings: usize,
}

#[derive(Debug)]
struct Doomed {
    segment: u64,
    bytes: usize,
    is_damaged: bool,
}

/// A part of a segment in memory.
#[derive(Debug, Default)]
struct Window {
    from: Place,
    bytes: Vec<u8>,
}

impl Window {
    /// Whether it holds the segment from here to this end.
    fn holds(&self, from: Place, end: usize) -> bool {
        self.from.segment == from.segment
            && self.from.offset <= from.offset
            && self.from.offset + self.bytes.len() >= end
    }

    fn at(&self, place: Place) -> &[u8] {
        let skipped = place.offset.saturating_sub(self.from.offset);
        self.bytes.get(skipped..).unwrap_or_default()
    }
}

impl<F: Folder> Store<F> {
    /// Finds what earlier lives left.
    pub fn open(mut folder: F, limits: Limits) -> io::Result<Self> {
        let saved = folder.progress()?;
        let done = record::read_progress(&saved).unwrap_or_default();
        let mut numbers = folder.segments()?;
        numbers.sort_unstable();
        let last = numbers.last().copied().unwrap_or_default();
        let mut store = Store {
            folder,
            limits,
            segments: VecDeque::new(),
            is_open: false,
            next: last.max(done.segment).saturating_add(1),
            cursor: done,
            lent: VecDeque::new(),
            doomed: VecDeque::new(),
            saved: done,
            window: Window::default(),
            failures: 0,
            losses: Losses::default(),
        };
        for number in numbers {
            store.find(number, done);
        }
        store.make_room(0);
        Ok(store)
    }

    /// Appends records and syncs them; returns how many were taken, which are safe from now on. More may
    /// be left where a segment is full. After an error none was.
    pub fn append(&mut self, bodies: &[Body], at: UtcTime) -> io::Result<usize> {
        self.bury();
        let Some((first, _)) = bodies.first() else {
            return Ok(0);
        };
        let least = first.len() + RECORD_HEAD_BYTES;
        self.make_room(least);
        if !self.has_room(least) {
            let error = "what was sent can't be deleted and takes all the room there may be";
            return Err(io::Error::new(io::ErrorKind::StorageFull, error));
        }
        let full = self.limits.segment();
        let begin = self.end(least);
        let mut bytes = Vec::new();
        let (mut taken, mut readings) = (0, 0);
        for body in bodies {
            let after = bytes.len() + RECORD_HEAD_BYTES + body.0.len();
            let is_too_much = begin.offset + after > full || !self.has_room(after);
            if taken > 0 && is_too_much {
                break;
            }
            let place = Place {
                offset: begin.offset + bytes.len(),
                ..begin
            };
            record::write(&mut bytes, place, at, body);
            taken += 1;
            readings += body.1;
        }
        if let Err(error) = self.folder.append(begin, &bytes) {
            self.is_open = false;
            return Err(error);
        }
        if begin.offset == 0 {
            self.segments.push_back(Segment::new(begin.segment, at));
            self.next = begin.segment.saturating_add(1);
            self.is_open = true;
        }
        if let Some(segment) = self.segments.back_mut() {
            segment.bytes += bytes.len();
            segment.records += taken;
            segment.readings += readings;
            segment.newest = segment.newest.max(at);
        }
        Ok(taken)
    }

    /// The next records in order, this many at most; what is older than allowed is passed over.
    pub fn read(&mut self, most: usize, now: UtcTime) -> io::Result<Vec<Stored>> {
        let mut read = Vec::new();
        while read.len() < most {
            let Some(end) = self.segment_at_cursor() else {
                break;
            };
            if self.cursor.offset >= end {
                if !self.pass_to_next() {
                    break;
                }
                continue;
            }
            self.load(end)?;
            self.walk(end, most, now, &mut read);
        }
        self.settle();
        Ok(read)
    }

    /// Whether there is something behind what was read.
    pub fn has_unread(&self) -> bool {
        let newest = self.segments.back();
        newest.is_some_and(|segment| self.cursor < segment.end())
    }

    /// Everything before this place, which was the end of a record that was read, has been sent. An error
    /// means that the next life may send it once more.
    pub fn sent(&mut self, end: Place) -> io::Result<()> {
        while self.lent.front().is_some_and(|lent| lent.end <= end) {
            if let Some(lent) = self.lent.pop_front() {
                self.take_off(&lent);
            }
        }
        self.settle();
        let done = self.done();
        if done == self.saved {
            return Ok(());
        }
        self.folder.set_progress(&record::progress(done))?;
        self.saved = done;
        Ok(())
    }

    /// Gives up what is too old.
    pub fn expire(&mut self, now: UtcTime) {
        while let Some(oldest) = self.segments.front()
            && self.is_too_old(oldest.newest, now)
        {
            self.losses.too_old += self.drop_oldest();
        }
        self.bury();
    }

    /// What was given up since this was last asked.
    pub fn losses(&mut self) -> Losses {
        std::mem::take(&mut self.losses)
    }

    /// What is in it.
    pub fn stats(&self) -> Stats {
        let waiting = self.segments.iter().filter(|segment| segment.records > 0);
        Stats {
            bytes: self.bytes(),
            records: self.segments.iter().map(|segment| segment.records).sum(),
            readings: self.segments.iter().map(|segment| segment.readings).sum(),
            oldest: waiting.map(|segment| segment.oldest).min(),
        }
    }

    /// The folder back.
    pub fn into_folder(self) -> F {
        self.folder
    }

    /// Counts what an earlier life left in a segment.
    fn find(&mut self, number: u64, done: Place) {
        if number < done.segment {
            self.entomb(number, 0, false);
            return;
        }
        let from = Place {
            segment: number,
            offset: if number == done.segment {
                done.offset
            } else {
                0
            },
        };
        let mut segment = Segment::new(number, UtcTime::from_unix_micros(i64::MAX));
        segment.newest = UtcTime::from_unix_micros(i64::MIN);
        match self.folder.read(number, from.offset, SEGMENT_BYTES_MAX) {
            Ok(bytes) => {
                segment.bytes = from.offset + bytes.len();
                for found in Walk::new(&bytes, from) {
                    self.losses.damaged += segment.count(&found);
                }
            }
            Err(_) => {
                segment.is_damaged = true;
                self.losses.damaged += 1;
            }
        }
        if segment.records == 0 {
            self.entomb(number, segment.bytes, segment.is_damaged);
        } else {
            self.segments.push_back(segment);
        }
    }

    /// The end of the segment that the cursor is in, or in the next one if that is no more.
    fn segment_at_cursor(&mut self) -> Option<usize> {
        let from = self.cursor.segment;
        let mut segments = self.segments.iter();
        let segment = segments.find(|segment| segment.number >= from)?;
        if segment.number > from {
            self.cursor = segment.begin();
        }
        Some(segment.bytes)
    }

    /// False while more may still be appended to this one.
    fn pass_to_next(&mut self) -> bool {
        let from = self.cursor.segment;
        let mut segments = self.segments.iter();
        let next = segments.find(|segment| segment.number > from);
        match next.map(Segment::begin) {
            Some(begin) => self.cursor = begin,
            None if self.is_open => return false,
            None => {
                self.cursor = Place {
                    segment: self.next,
                    offset: 0,
                };
            }
        }
        true
    }

    /// Has the bytes from the cursor to the end of its segment in memory.
    fn load(&mut self, end: usize) -> io::Result<()> {
        if self.window.holds(self.cursor, end) {
            return Ok(());
        }
        let most = end.saturating_sub(self.cursor.offset);
        let Place { segment, offset } = self.cursor;
        let bytes = match self.folder.read(segment, offset, most) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.failures += 1;
                if self.failures < READ_TRIES_MAX {
                    return Err(error);
                }
                // What can't be read costs itself alone.
                Vec::new()
            }
        };
        self.failures = 0;
        self.window = Window {
            from: self.cursor,
            bytes,
        };
        Ok(())
    }

    /// Takes records from the window.
    fn walk(&mut self, end: usize, most: usize, now: UtcTime, read: &mut Vec<Stored>) {
        let (window, begin) = (std::mem::take(&mut self.window), self.cursor);
        let mut walk = Walk::new(window.at(begin), begin);
        while read.len() < most {
            let from = walk.place();
            let Some(found) = walk.next() else {
                // Where a file is shorter than it was, the rest of it is gone.
                self.cursor.offset = end;
                break;
            };
            self.cursor = walk.place();
            match found {
                Found::Record(record) if self.is_too_old(record.at, now) => {
                    self.losses.too_old += record.readings.len();
                    if let Some(segment) = self.segment_mut(from.segment) {
                        segment.less(record.readings.len());
                    }
                }
                Found::Record(record) => {
                    self.lent.push_back(Lent {
                        from,
                        end: self.cursor,
                        at: record.at,
                        readings: record.readings.len(),
                    });
                    read.push(Stored {
                        readings: record.readings,
                        end: self.cursor,
                    });
                }
                // It is counted when its segment is done, unless it was found so.
                Found::Damaged(_) => {
                    if let Some(segment) = self.segment_mut(from.segment) {
                        segment.is_damaged = true;
                    }
                }
            }
        }
        if self.cursor.offset < end {
            self.window = window;
        }
    }

    fn take_off(&mut self, lent: &Lent) {
        if let Some(segment) = self.segment_mut(lent.from.segment) {
            segment.less(lent.readings);
            segment.oldest = lent.at;
        }
    }

    fn segment_mut(&mut self, number: u64) -> Option<&mut Segment> {
        let mut segments = self.segments.iter_mut();
        segments.find(|segment| segment.number == number)
    }

    fn is_too_old(&self, at: UtcTime, now: UtcTime) -> bool {
        now.seconds_since(at) > self.limits.age.as_secs_f64()
    }

    /// Everything before here has been sent or given up.
    fn done(&self) -> Place {
        let lent = self.lent.front();
        lent.map_or(self.cursor, |lent| lent.from)
    }

    /// Deletes the segments of which everything has been sent.
    fn settle(&mut self) {
        if self
            .segment_at_cursor()
            .is_some_and(|end| self.cursor.offset >= end)
        {
            self.pass_to_next();
        }
        let done = self.done();
        while let Some(segment) = self.segments.front()
            && segment.number < done.segment
        {
            // What is left couldn't be read any more.
            self.losses.damaged += segment.readings;
            let is_damaged = segment.is_damaged || segment.readings > 0;
            let (number, bytes) = (segment.number, segment.bytes);
            self.segments.pop_front();
            self.entomb(number, bytes, is_damaged);
        }
    }

    fn bytes(&self) -> u64 {
        let segments = self.segments.iter().map(|segment| segment.bytes);
        let doomed = self.doomed.iter().map(|doomed| doomed.bytes);
        let bytes: usize = segments.chain(doomed).sum();
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    fn has_room(&self, bytes: usize) -> bool {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes().saturating_add(bytes) <= self.limits.bytes
    }

    /// Gives up the oldest until there is room for so many bytes more.
    fn make_room(&mut self, bytes: usize) {
        while !self.segments.is_empty()
            && (!self.has_room(bytes) || self.segments.len() >= SEGMENTS_MAX)
        {
            self.losses.full += self.drop_oldest();
        }
    }

    /// Returns how many readings are lost by it: what was read will still be sent.
    fn drop_oldest(&mut self) -> usize {
        let Some(segment) = self.segments.pop_front() else {
            return 0;
        };
        let mut lost = segment.readings;
        while let Some(lent) = self.lent.front()
            && lent.from.segment == segment.number
        {
            lost = lost.saturating_sub(lent.readings);
            self.lent.pop_front();
        }
        self.is_open &= !self.segments.is_empty();
        self.entomb(segment.number, segment.bytes, segment.is_damaged);
        lost
    }

    /// Where a record of so many bytes is to be appended: in the last segment, or a new one.
    fn end(&self, bytes: usize) -> Place {
        let full = self.limits.segment();
        match self.segments.back() {
            Some(last) if self.is_open && last.bytes + bytes <= full => last.end(),
            _ => Place {
                segment: self.next,
                offset: 0,
            },
        }
    }

    /// Deletes a segment's file, or will.
    fn entomb(&mut self, segment: u64, bytes: usize, is_damaged: bool) {
        self.doomed.push_back(Doomed {
            segment,
            bytes,
            is_damaged,
        });
        self.bury();
    }

    fn bury(&mut self) {
        while let Some(doomed) = self.doomed.front() {
            let buried = if doomed.is_damaged {
                self.folder.set_aside(doomed.segment)
            } else {
                self.folder.remove(doomed.segment)
            };
            if buried.is_err() {
                return;
            }
            self.doomed.pop_front();
        }
    }
}

impl Segment {
    fn new(number: u64, at: UtcTime) -> Self {
        Segment {
            number,
            bytes: 0,
            records: 0,
            readings: 0,
            oldest: at,
            newest: at,
            is_damaged: false,
        }
    }

    fn begin(&self) -> Place {
        Place {
            segment: self.number,
            offset: 0,
        }
    }

    fn end(&self) -> Place {
        Place {
            segment: self.number,
            offset: self.bytes,
        }
    }

    /// Counts what was found in it; returns how many readings are damaged.
    fn count(&mut self, found: &Found) -> usize {
        match found {
            Found::Record(record) => {
                self.records += 1;
                self.readings += record.readings.len();
                self.oldest = self.oldest.min(record.at);
                self.newest = self.newest.max(record.at);
                0
            }
            Found::Damaged(readings) => {
                self.is_damaged = true;
                *readings
            }
        }
    }

    fn less(&mut self, readings: usize) {
        self.records = self.records.saturating_sub(1);
        self.readings = self.readings.saturating_sub(readings);
    }
}
