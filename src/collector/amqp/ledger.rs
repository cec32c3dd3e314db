//! Pure. Which deliveries of a channel are answered: they are numbered from 1 without holes, and one answer
//! may stand for all up to a number.

use std::collections::{BTreeMap, BTreeSet};

use super::super::receipt::Settled;

/// What the broker is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    /// All up to this one that aren't answered yet are stored: so many.
    UpTo(u64, u64),
    /// This one is stored, but not yet all before it.
    One(u64),
    /// This one is lost, and isn't to come again.
    Reject(u64),
}

/// Deliveries that are answered. What isn't settled never is.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// All up to this one.
    answered: u64,
    /// Further ones: no more than the broker hands out at once.
    ahead: BTreeSet<u64>,
}

impl Ledger {
    /// What to tell the broker now that these are settled, in this order: nobody is answered twice, for which
    /// it would close the channel.
    pub(super) fn settle(&mut self, settled: impl IntoIterator<Item = Settled>) -> Vec<Reply> {
        let settled = settled.into_iter();
        let settled = settled.map(|settled| (settled.delivery, settled.is_lost));
        let mut settled: BTreeMap<u64, bool> = settled.collect();
        let mut replies = Vec::new();
        let (mut last, mut count) = (None, 0);
        loop {
            let next = self.answered + 1;
            match settled.remove(&next) {
                Some(true) => replies.push(Reply::Reject(next)),
                Some(false) => {
                    last = Some(next);
                    count += 1;
                }
                None if self.ahead.remove(&next) => {}
                None => break,
            }
            self.answered = next;
        }
        replies.extend(last.map(|last| Reply::UpTo(last, count)));
        for (delivery, is_lost) in settled {
            self.ahead.insert(delivery);
            replies.push(if is_lost {
                Reply::Reject(delivery)
            } else {
                Reply::One(delivery)
            });
        }
        replies
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A broker's side of it: what was handed out and isn't answered.
    struct Model {
        open: BTreeSet<u64>,
        acknowledged: BTreeSet<u64>,
        rejected: BTreeSet<u64>,
    }

    impl Model {
        fn hear(&mut self, reply: Reply) {
            match reply {
                Reply::UpTo(last, count) => {
                    assert!(self.open.contains(&last), "an unknown delivery {last}");
                    let later = self.open.split_off(&(last + 1));
                    let answered = std::mem::replace(&mut self.open, later);
                    assert_eq!(u64::try_from(answered.len()).unwrap(), count);
                    self.acknowledged.extend(answered);
                }
                Reply::One(one) => {
                    assert!(self.open.remove(&one), "an unknown delivery {one}");
                    self.acknowledged.insert(one);
                }
                Reply::Reject(one) => {
                    assert!(self.open.remove(&one), "an unknown delivery {one}");
                    self.rejected.insert(one);
                }
            }
        }
    }

    proptest! {
        /// In whatever order and portions deliveries are settled: exactly those are answered, each as it
        /// was settled, and at once.
        #[test]
        fn what_is_settled_is_answered_once_and_nothing_else(
            fates in prop::collection::vec(prop::option::weighted(0.9, prop::bool::weighted(0.1)), 1..40),
            swaps in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..30),
            portion in 1..6usize,
        ) {
            let numbered: Vec<(u64, Option<bool>)> = (1..).zip(fates).collect();
            let mut settled: Vec<Settled> = numbered
                .iter()
                .filter_map(|(delivery, fate)| Some(Settled { delivery: *delivery, is_lost: (*fate)? }))
                .collect();
            if !settled.is_empty() {
                for (a, b) in swaps {
                    let (a, b) = (a.index(settled.len()), b.index(settled.len()));
                    settled.swap(a, b);
                }
            }
            let mut broker = Model {
                open: numbered.iter().map(|(delivery, _)| *delivery).collect(),
                acknowledged: BTreeSet::new(),
                rejected: BTreeSet::new(),
            };
            let (mut stored, mut lost) = (BTreeSet::new(), BTreeSet::new());
            let mut ledger = Ledger::default();
            for portion in settled.chunks(portion) {
                for one in portion {
                    let set = if one.is_lost { &mut lost } else { &mut stored };
                    set.insert(one.delivery);
                }
                for reply in ledger.settle(portion.iter().copied()) {
                    broker.hear(reply);
                }
                prop_assert_eq!(&broker.acknowledged, &stored);
                prop_assert_eq!(&broker.rejected, &lost);
            }
        }
    }

    #[test]
    fn what_is_settled_in_order_is_one_answer() {
        let settled = |delivery| Settled {
            delivery,
            is_lost: false,
        };
        let mut ledger = Ledger::default();
        assert_eq!(
            ledger.settle((1..=500).map(settled)),
            [Reply::UpTo(500, 500)]
        );
        assert_eq!(ledger.settle([settled(502)]), [Reply::One(502)]);
        assert_eq!(ledger.settle([settled(501)]), [Reply::UpTo(501, 1)]);
        assert_eq!(ledger.settle([settled(503)]), [Reply::UpTo(503, 1)]);
    }
}
