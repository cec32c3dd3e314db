//! Pure. Which rounds of instances are complete. A round that saw N instances and whose
//! `instance.round` has the number R is complete once everything numbered R − N to R − 1 in its epoch
//! has been stored, in whatever order.

use std::collections::BTreeMap;

use super::fleet::whole;
use super::plan::{Sorted, Windows};
use super::rows::{Order, Row};
use super::seen::SeqSet;
use crate::model::meters;

/// How many rounds of one observer are kept that readings are missing of. What is missing after four
/// further rounds was lost on all paths; what is lost beyond is that an instance which is gone since
/// was last seen by such a round.
const ROUNDS_WAITING_MAX: usize = 4;

/// A round of an observer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Round {
    /// The place of its `instance.round`.
    pub(crate) order: Order,
    /// How many instances it saw.
    pub(crate) instances: i64,
    /// When the last of its readings was stored; None while some are missing.
    pub(crate) completed_at: Option<i64>,
}

/// What becomes of an observer's rounds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Settled {
    /// Those that are kept: the newest complete one, and the newest ones that wait.
    pub(crate) kept: Vec<Round>,
    /// Those that this batch completed.
    pub(crate) completed: Vec<Round>,
}

/// The observers that the batch brings anything of that belongs to rounds, with the rounds that it
/// brings. What waited somewhere may complete a round that is known already and brings none.
pub(crate) fn by_observer<'a>(sorted: &Sorted<'a>) -> BTreeMap<&'a str, Vec<Round>> {
    let mut rounds: BTreeMap<&str, Vec<Round>> = BTreeMap::new();
    for row in &sorted.new {
        let meter = row.received.meter.name.as_str();
        if meter == meters::INSTANCE_ROUND.name {
            if let Some((observer, round)) = round_of(row) {
                let rounds = rounds.entry(observer).or_default();
                rounds.extend(row.live().map(|_| round));
            }
        } else if meter == meters::INSTANCE_STATE.name
            && let Some(ours) = row.ours
        {
            rounds.entry(ours.observer).or_default();
        }
    }
    rounds
}

/// Settles the rounds of one observer: those that are kept of it, and those that the batch brings.
pub(crate) fn settle(
    observer: &str,
    held: &[Round],
    new: &[Round],
    windows: &Windows<'_>,
    now: i64,
) -> Settled {
    let all = new.iter().chain(held).map(|round| (round.order, *round));
    let all: BTreeMap<Order, Round> = all.collect();
    let mut settled = Settled::default();
    let (mut complete, mut waiting) = (None, Vec::new());
    for mut round in all.into_values() {
        let window = windows.get(&(observer, round.order.epoch));
        let window = window.and_then(Option::as_ref);
        if round.completed_at.is_none() && window.is_some_and(|seen| covers(seen, &round)) {
            round.completed_at = Some(now);
            settled.completed.push(round);
        }
        match round.completed_at {
            Some(_) => complete = Some(round),
            None => waiting.push(round),
        }
    }
    let excess = waiting.len().saturating_sub(ROUNDS_WAITING_MAX);
    settled.kept = waiting.split_off(excess);
    settled.kept.extend(complete);
    settled.kept.sort_unstable_by_key(|round| round.order);
    settled
}

impl Round {
    /// The number of its first reading.
    pub(crate) fn first(&self) -> i64 {
        self.order.seq - self.instances
    }
}

fn covers(seen: &SeqSet, round: &Round) -> bool {
    let [first, end] = [round.first(), round.order.seq].map(i64::unsigned_abs);
    let instances = round.instances.unsigned_abs();
    instances == 0 || seen.count_within(first, end.saturating_sub(1)) == instances
}

/// The round that a row ends; None if it is about another host, or its volume can't be its count.
fn round_of<'a>(row: &Row<'a>) -> Option<(&'a str, Round)> {
    let ours = row.ours?;
    let instances = i64::try_from(whole(ours.volume)?).ok()?;
    let is_own = row.received.resource_id == ours.observer;
    (is_own && instances <= ours.order.seq).then_some((
        ours.observer,
        Round {
            order: ours.order,
            instances,
            completed_at: None,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(seq: i64, instances: i64, completed_at: Option<i64>) -> Round {
        let order = Order { epoch: 7, seq };
        Round {
            order,
            instances,
            completed_at,
        }
    }

    fn seqs(rounds: &[Round]) -> Vec<i64> {
        rounds.iter().map(|round| round.order.seq).collect()
    }

    fn settled(held: &[Round], new: &[Round], seen: &[u64]) -> (Vec<i64>, Vec<i64>) {
        let mut set = SeqSet::default();
        for seq in seen {
            set.insert(*seq);
        }
        let windows: Windows<'_> = [(("n", 7), Some(set))].into();
        let settled = settle("n", held, new, &windows, 99);
        (seqs(&settled.kept), seqs(&settled.completed))
    }

    #[test]
    fn the_table_of_rounds() {
        type Case<'a> = (&'a str, &'a [Round], &'a [Round], &'a [u64], [&'a [i64]; 2]);
        let waits = round(3, 2, None);
        let done = round(3, 2, Some(1));
        let cases: [Case<'_>; 9] = [
            ("all are there", &[], &[waits], &[1, 2, 3], [&[3], &[3]]),
            ("one is missing", &[], &[waits], &[1, 3], [&[3], &[]]),
            ("it came later", &[waits], &[], &[1, 2, 3], [&[3], &[3]]),
            (
                "it is complete once",
                &[done],
                &[],
                &[1, 2, 3, 4],
                [&[3], &[]],
            ),
            ("none to see", &[], &[round(1, 0, None)], &[1], [&[1], &[1]]),
            (
                "a newer one takes its place",
                &[done],
                &[round(4, 0, None)],
                &[1, 2, 3, 4],
                [&[4], &[4]],
            ),
            (
                "an older one is completed after it",
                &[waits, round(6, 0, Some(1))],
                &[],
                &[1, 2, 3, 6],
                [&[6], &[3]],
            ),
            (
                "a newer one waits beside it",
                &[done],
                &[round(6, 2, None)],
                &[1, 2, 3, 5, 6],
                [&[3, 6], &[]],
            ),
            (
                "more wait than are kept",
                &[
                    done,
                    round(6, 2, None),
                    round(9, 2, None),
                    round(12, 2, None),
                    round(15, 2, None),
                ],
                &[round(18, 2, None)],
                &[1, 2, 3, 6, 9, 12, 15, 18],
                [&[3, 9, 12, 15, 18], &[]],
            ),
        ];
        for (case, held, new, seen, [kept, completed]) in cases {
            let expected = (kept.to_vec(), completed.to_vec());
            assert_eq!(settled(held, new, seen), expected, "{case}");
        }
    }

    #[test]
    fn what_a_closed_gap_swallowed_completes_nothing_and_neither_does_another_life() {
        let mut set = SeqSet::default();
        for seq in [1, 3, 5] {
            set.insert(seq);
        }
        set.close_gaps(0);
        let windows: Windows<'_> = [(("n", 7), Some(set)), (("n", 8), None)].into();
        let other_life = Round {
            order: Order { epoch: 8, seq: 3 },
            ..round(3, 2, None)
        };
        for new in [round(3, 2, None), other_life] {
            assert_eq!(settle("n", &[], &[new], &windows, 99).completed, []);
        }
    }
}
