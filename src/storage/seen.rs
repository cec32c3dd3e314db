//! Pure. Which sequence numbers of one life of one observer have been stored, kept exactly, as a
//! short list of runs.
//!
//! An agent counts without holes, so what arrives is one run that grows at its end. What the
//! network loses or delays leaves a gap; what arrives late fills it. The list is exact as long as
//! it has few gaps. When it has too many the oldest is closed: whatever would still have arrived
//! there counts as seen from then on, and is lost. Losing history is the safe side: the other one
//! would be to store a reading twice.

use thiserror::Error;

/// How many gaps one epoch of one observer may have before the oldest is closed.
///
/// A gap is what is lost or late on all paths at once; a thousand of them are an hour of a 1 s
/// source that loses every fourth reading. At two to four bytes each the list stays below the
/// size of one database page. What is lost beyond: late readings older than a thousand gaps.
pub(crate) const MAX_GAPS: usize = 1024;

/// Sequence numbers begin here, so that an observer heard from its first reading on has no gap.
const FIRST_SEQ: u64 = 1;

/// The first byte of an encoded list, to be changed with the encoding.
const FORMAT: u8 = 1;

/// A list of runs in the database that no version of this code wrote.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the list of sequence numbers seen is damaged")]
pub(crate) struct DamagedRuns;

/// A set of sequence numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SeqSet {
    /// Ascending, and never adjacent: between any two there is at least one number not seen.
    runs: Vec<Run>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    first: u64,
    last: u64,
}

impl SeqSet {
    /// Puts a number in; false if it was there already.
    pub(crate) fn insert(&mut self, seq: u64) -> bool {
        let at = self.runs.partition_point(|run| run.first <= seq);
        let (before, after) = self.runs.split_at_mut(at);
        let left = before.last_mut();
        if left.as_ref().is_some_and(|run| run.last >= seq) {
            return false;
        }
        let left = left.filter(|run| run.last.checked_add(1) == Some(seq));
        let right = after
            .first_mut()
            .filter(|run| seq.checked_add(1) == Some(run.first));
        match (left, right) {
            (Some(left), Some(right)) => {
                left.last = right.last;
                self.runs.remove(at);
            }
            (Some(left), None) => left.last = seq,
            (None, Some(right)) => right.first = seq,
            (None, None) => self.runs.insert(
                at,
                Run {
                    first: seq,
                    last: seq,
                },
            ),
        }
        true
    }

    /// The greatest number; 0 if there is none.
    pub(crate) fn last(&self) -> u64 {
        self.runs.last().map_or(0, |run| run.last)
    }

    /// How much room it takes, in runs.
    pub(crate) fn weight(&self) -> usize {
        self.runs.len() + 1
    }

    /// How many stretches of numbers below the greatest have not been seen.
    pub(crate) fn gaps(&self) -> usize {
        self.runs.len() - usize::from(self.begins_at_the_beginning())
    }

    /// Closes the oldest gaps until at most `max` are left; returns how many were closed.
    pub(crate) fn close_gaps(&mut self, max: usize) -> usize {
        let excess = self.gaps().saturating_sub(max);
        if excess == 0 {
            return 0;
        }
        // Closing the gap before the first run, if there is one, joins nothing.
        let joined = excess - usize::from(!self.begins_at_the_beginning());
        self.runs.drain(..joined);
        if let Some(run) = self.runs.first_mut() {
            run.first = 0;
        }
        excess
    }

    /// How many numbers from `first` to `last` have certainly been seen. What a closed gap has
    /// swallowed begins at 0, and nothing in that run is certain.
    pub(crate) fn count_within(&self, first: u64, last: u64) -> u64 {
        let certain = self.runs.iter().filter(|run| run.first >= FIRST_SEQ);
        let overlaps = certain.filter_map(|run| {
            let (from, to) = (run.first.max(first), run.last.min(last));
            to.checked_sub(from).map(|steps| steps.saturating_add(1))
        });
        overlaps.sum()
    }

    /// As kept in the database: the format, then for each run the distance from the end of the
    /// one before and its length less one, as LEB128.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        let mut end = 0;
        for run in &self.runs {
            push_number(&mut bytes, run.first - end);
            push_number(&mut bytes, run.last - run.first);
            end = run.last;
        }
        bytes
    }

    /// Reads what [`SeqSet::encode`] wrote.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DamagedRuns> {
        let Some((&FORMAT, mut rest)) = bytes.split_first() else {
            return Err(DamagedRuns);
        };
        let mut runs: Vec<Run> = Vec::new();
        while !rest.is_empty() {
            let run = take_run(&mut rest, runs.last())?;
            runs.push(run);
        }
        Ok(SeqSet { runs })
    }

    fn begins_at_the_beginning(&self) -> bool {
        self.runs.first().is_some_and(|run| run.first <= FIRST_SEQ)
    }
}

fn take_run(rest: &mut &[u8], before: Option<&Run>) -> Result<Run, DamagedRuns> {
    let distance = take_number(rest)?;
    let end = before.map_or(0, |run| run.last);
    if before.is_some() && distance < 2 {
        return Err(DamagedRuns);
    }
    let first = end.checked_add(distance).ok_or(DamagedRuns)?;
    let last = first.checked_add(take_number(rest)?).ok_or(DamagedRuns)?;
    Ok(Run { first, last })
}

fn push_number(bytes: &mut Vec<u8>, mut number: u64) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            bytes.push(low & 0x7f);
            return;
        }
        bytes.push(low | 0x80);
    }
}

fn take_number(rest: &mut &[u8]) -> Result<u64, DamagedRuns> {
    let mut number: u64 = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (&byte, tail) = rest.split_first().ok_or(DamagedRuns)?;
        *rest = tail;
        let low = u64::from(byte & 0x7f);
        if (low << shift) >> shift != low {
            return Err(DamagedRuns);
        }
        number |= low << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(DamagedRuns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn set_of(seqs: &[u64]) -> SeqSet {
        let mut set = SeqSet::default();
        for &seq in seqs {
            set.insert(seq);
        }
        set
    }

    /// Numbers that crowd together, so that runs meet, and a few at the ends of the range.
    fn seqs() -> impl Strategy<Value = Vec<u64>> {
        let one = prop_oneof![
            20 => 0..60u64,
            2 => 1000..1010u64,
            1 => (u64::MAX - 3)..=u64::MAX,
        ];
        prop::collection::vec(one, 0..120)
    }

    proptest! {
        #[test]
        fn it_is_a_set(seqs in seqs()) {
            let mut set = SeqSet::default();
            let mut model = HashSet::new();
            for seq in seqs {
                prop_assert_eq!(set.insert(seq), model.insert(seq), "{}", seq);
            }
            for run in set.runs.windows(2) {
                prop_assert!(run[0].last + 1 < run[1].first, "{:?}", set);
            }
        }

        /// Zero is no number of ours: a run that begins there has swallowed gaps.
        #[test]
        fn it_counts_what_it_holds(seqs in seqs(), first in 0..70u64, width in 0..70u64) {
            let seqs: Vec<u64> = seqs.into_iter().filter(|seq| *seq > 0).collect();
            let model: HashSet<u64> = seqs.iter().copied().collect();
            let last = first + width;
            let expected = model.iter().filter(|seq| (first..=last).contains(*seq)).count();
            prop_assert_eq!(set_of(&seqs).count_within(first, last), expected as u64);
        }

        #[test]
        fn what_is_written_is_read(seqs in seqs()) {
            let set = set_of(&seqs);
            prop_assert_eq!(SeqSet::decode(&set.encode()), Ok(set));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(mut set) = SeqSet::decode(&bytes) {
                set.insert(7);
                set.close_gaps(1);
                prop_assert_eq!(SeqSet::decode(&set.encode()), Ok(set));
            }
        }

        #[test]
        fn closing_only_ever_adds_the_oldest(seqs in seqs(), max in 0..6usize) {
            let mut set = set_of(&seqs);
            let gaps = set.gaps();
            let closed = set.close_gaps(max);
            prop_assert_eq!(set.gaps(), gaps.min(max));
            prop_assert_eq!(closed, gaps - set.gaps());

            let seen: HashSet<u64> = seqs.iter().copied().collect();
            let mut unseen_met = 0;
            for seq in (0..60).chain(1000..1010) {
                let inserted = set.clone().insert(seq);
                prop_assert!(!(inserted && seen.contains(&seq)), "{} was forgotten", seq);
                unseen_met += usize::from(inserted);
                // Once a number is open, every later unseen one is open too.
                if unseen_met > 0 && !seen.contains(&seq) {
                    prop_assert!(inserted, "{} was closed before an older one", seq);
                }
            }
        }
    }

    #[test]
    fn what_a_closed_gap_swallowed_is_not_certain() {
        let mut set = set_of(&[1, 2, 5, 6, 9]);
        assert_eq!(set.count_within(1, 6), 4);
        set.close_gaps(1);
        assert_eq!(set.count_within(1, 6), 0, "3 and 4 never came");
        assert_eq!(set.count_within(1, 9), 1);
        assert_eq!(set.count_within(0, u64::MAX), 1);
    }

    #[test]
    fn a_stream_without_loss_is_one_run() {
        assert_eq!(SeqSet::default().gaps(), 0);
        let set = set_of(&(1..=5000).collect::<Vec<_>>());
        assert_eq!(set.gaps(), 0);
        assert_eq!(set.encode().len(), 4);
    }

    #[test]
    fn starting_in_the_middle_is_one_gap_and_far_ahead_another() {
        let mut set = set_of(&[500, 501, 9_000_000]);
        assert_eq!(set.gaps(), 2);
        assert_eq!(set.close_gaps(1), 1);
        assert!(
            !set.insert(3),
            "what lies before the first run is the oldest gap"
        );
        assert!(set.insert(502));
    }

    #[test]
    fn damage_is_refused() {
        for bytes in [
            &[][..],
            &[2, 1, 1],
            &[FORMAT, 1],
            &[FORMAT, 0x80],
            &[FORMAT, 1, 0, 1, 0],
            &[
                FORMAT, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0,
            ],
        ] {
            assert_eq!(SeqSet::decode(bytes), Err(DamagedRuns), "{bytes:?}");
        }
    }
}
