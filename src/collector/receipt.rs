//! Receipts: whoever hands messages over learns when the last of them is stored, and is told of nothing
//! that isn't.
//!
//! ```text
//! delivery 7 ── ticket ─┬─ receipt of message a ── stored ──┐
//!                       ├─ receipt of message b ── stored ──┼─► "7 is settled", once
//!                       └─ ticket itself ───────── settled ─┘
//! ```
//!
//! A receipt that is dropped was not settled, and then its delivery never is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The share of one message in a delivery. Not to be copied: each is settled once.
#[derive(Debug)]
pub struct Receipt(Arc<Open>);

/// What became of a delivery as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// Its number.
    pub delivery: u64,
    /// Whether something of it is lost for good.
    pub is_lost: bool,
}

/// Opens deliveries, and hears when they are settled. What is told waits without a bound of its own: there
/// are never more than deliveries that were opened.
pub fn receipts() -> (Tickets, UnboundedReceiver<Settled>) {
    let (settled, told) = unbounded_channel();
    (Tickets(settled), told)
}

/// Opens deliveries. The other end hears of no more once this and every receipt is gone.
#[derive(Debug)]
pub struct Tickets(UnboundedSender<Settled>);

#[derive(Debug)]
struct Open {
    delivery: u64,
    /// Receipts that aren't settled, and will never get to zero if one of them was dropped.
    unsettled: AtomicUsize,
    is_lost: AtomicBool,
    told: UnboundedSender<Settled>,
}

impl Tickets {
    /// Opens a delivery. It isn't settled before this first receipt is, so that others can be added.
    pub fn open(&self, delivery: u64) -> Receipt {
        Receipt(Arc::new(Open {
            delivery,
            unsettled: AtomicUsize::new(1),
            is_lost: AtomicBool::new(false),
            told: self.0.clone(),
        }))
    }
}

impl Receipt {
    /// One more receipt of the same delivery.
    pub fn another(&self) -> Receipt {
        self.0.unsettled.fetch_add(1, Ordering::Relaxed);
        Receipt(Arc::clone(&self.0))
    }

    /// What it was for is done.
    pub fn settle(self) {
        // Whoever settles last sees what all others did before.
        if self.0.unsettled.fetch_sub(1, Ordering::AcqRel) == 1 {
            let settled = Settled {
                delivery: self.0.delivery,
                is_lost: self.0.is_lost.load(Ordering::Relaxed),
            };
            // Who doesn't listen any more has given the delivery back.
            let _ = self.0.told.send(settled);
        }
    }

    /// What it was for can never be done.
    pub fn lose(self) {
        self.0.is_lost.store(true, Ordering::Relaxed);
        self.settle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// What becomes of one receipt.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum End {
        Settled,
        Lost,
        Dropped,
    }

    fn end() -> impl Strategy<Value = End> {
        prop_oneof![8 => Just(End::Settled), 1 => Just(End::Lost), 1 => Just(End::Dropped)]
    }

    proptest! {
        /// In whatever order receipts end: a delivery is told of once, after its last receipt was
        /// settled, and not at all if one was dropped.
        #[test]
        fn a_delivery_is_settled_once_and_only_when_all_of_it_is(
            deliveries in prop::collection::vec(prop::collection::vec(end(), 1..6), 1..8),
            order in any::<prop::sample::Index>(),
            swaps in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..40),
        ) {
            let (tickets, mut told) = receipts();
            let mut open = Vec::new();
            for (delivery, ends) in (0..).zip(&deliveries) {
                let first = tickets.open(delivery);
                open.extend(ends[1..].iter().map(|end| (delivery, first.another(), *end)));
                open.push((delivery, first, ends[0]));
            }
            let turn = order.index(open.len());
            open.rotate_left(turn);
            for (a, b) in swaps {
                let (a, b) = (a.index(open.len()), b.index(open.len()));
                open.swap(a, b);
            }
            let mut left: BTreeMap<u64, usize> = (0..).zip(deliveries.iter().map(Vec::len)).collect();
            for (delivery, receipt, end) in open {
                match end {
                    End::Settled => receipt.settle(),
                    End::Lost => receipt.lose(),
                    End::Dropped => drop(receipt),
                }
                *left.get_mut(&delivery).unwrap() -= 1;
                let ends = &deliveries[usize::try_from(delivery).unwrap()];
                let expected = (left[&delivery] == 0 && !ends.contains(&End::Dropped)).then(|| Settled {
                    delivery,
                    is_lost: ends.contains(&End::Lost),
                });
                prop_assert_eq!(told.try_recv().ok(), expected);
            }
            drop(tickets);
            prop_assert!(told.blocking_recv().is_none(), "nothing comes any more");
        }
    }
}
