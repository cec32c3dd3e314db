//! Pure. How a batch whose data the database refuses is halved, until what is refused stands alone
//! and everything else is stored.

use std::ops::Range;

/// A part of a batch that is to be stored in one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its place in the batch.
    pub(crate) range: Range<usize>,
    /// Why the one message in it is put aside instead: the engine's words.
    pub(crate) condemned: Option<String>,
    /// What it relies on has been read anew already.
    is_second_try: bool,
}

/// What is left of a batch, in its order.
#[derive(Debug)]
pub(crate) struct Parts(Vec<Part>);

impl Parts {
    /// All of a batch.
    pub(crate) fn of(messages: usize) -> Self {
        Parts(vec![Part::new(0..messages)])
    }

    /// The next part to store.
    pub(crate) fn take(&mut self) -> Option<Part> {
        self.0.pop()
    }

    /// A part was refused for its data. If only a row was missing that it relies on, what is remembered
    /// of such rows may be to blame, and it is tried once more; else in halves; a single message is put
    /// aside. Returns false for one that can't even be put aside.
    pub(crate) fn refused(&mut self, part: Part, a_row_is_missing: bool, words: &str) -> bool {
        let Part {
            range,
            condemned,
            is_second_try,
        } = part;
        if condemned.is_some() {
            return false;
        }
        if a_row_is_missing && !is_second_try {
            self.0.push(Part {
                is_second_try: true,
                ..Part::new(range)
            });
        } else if range.len() > 1 {
            let middle = range.start + range.len() / 2;
            for half in [middle..range.end, range.start..middle] {
                self.0.push(Part {
                    is_second_try,
                    ..Part::new(half)
                });
            }
        } else {
            self.0.push(Part {
                condemned: Some(words.to_owned()),
                ..Part::new(range)
            });
        }
        true
    }
}

impl Part {
    fn new(range: Range<usize>) -> Self {
        Part {
            range,
            condemned: None,
            is_second_try: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        /// Whatever is bad: the good are stored in their order, each once, the bad are put aside, and
        /// no more is tried than halving needs.
        #[test]
        fn each_bad_one_costs_itself(size in 1..200_usize, bad in prop::collection::btree_set(0..200_usize, 0..8)) {
            let bad: BTreeSet<usize> = bad.into_iter().filter(|index| *index < size).collect();
            let mut parts = Parts::of(size);
            let (mut stored, mut aside, mut tries) = (Vec::new(), BTreeSet::new(), 0);
            while let Some(part) = parts.take() {
                tries += 1;
                if part.condemned.is_some() {
                    prop_assert_eq!(part.range.len(), 1);
                    aside.insert(part.range.start);
                } else if part.range.clone().any(|index| bad.contains(&index)) {
                    prop_assert!(parts.refused(part, false, "no"));
                } else {
                    stored.extend(part.range);
                }
            }
            let good: Vec<usize> = (0..size).filter(|index| !bad.contains(index)).collect();
            prop_assert_eq!(stored, good);
            prop_assert!(tries <= 1 + bad.len() * 2 * 9, "{}", tries);
            prop_assert_eq!(aside, bad);
        }
    }

    #[test]
    fn a_missing_row_earns_one_more_try_and_no_second() {
        let mut parts = Parts::of(2);
        let first = parts.take().unwrap();
        assert!(parts.refused(first, true, "no"));
        let again = parts.take().unwrap();
        assert_eq!(again.range, 0..2);
        assert!(parts.refused(again, true, "no"));
        let half = parts.take().unwrap();
        assert_eq!(half.range, 0..1);
        assert!(parts.refused(half, true, "no"));
        let condemned = parts.take().unwrap();
        assert_eq!(condemned.condemned.as_deref(), Some("no"));
        assert!(
            !parts.refused(condemned, true, "no"),
            "nothing more can be done"
        );
        assert_eq!(parts.take().unwrap().range, 1..2);
    }
}
