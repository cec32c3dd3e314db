//! Pure. What becomes of rounds that couldn't be delivered: the place where they wait until there is a
//! way again, as the URL's policy says. Whatever waits here is no news any more.

use std::collections::VecDeque;

use crate::publisher::queue::Batch;

/// Where a round stands among those that wait: each has a greater one than those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(pub u64);

/// A round that couldn't be delivered.
#[derive(Debug, Clone)]
pub struct Undelivered {
    /// Its readings.
    pub batch: Batch,
    /// How often it was tried.
    pub tries: u32,
}

/// Rounds that wait for a way, oldest first. No method may wait for a disk: whoever keeps rounds on one
/// does so by a thread of its own, and gives back here what that thread has read already.
pub trait Backlog: Send {
    /// Takes a round in, behind all others. Returns how many readings are lost: those of the oldest
    /// rounds, which made room, or its own.
    fn put(&mut self, round: Undelivered) -> usize;

    /// The oldest rounds behind this place, or the oldest of all; at most so many, and fewer where more
    /// can't be had at once: then it is asked again soon. They stay here.
    fn peek(&mut self, behind: Option<Place>, limit: usize) -> Vec<(Place, Undelivered)>;

    /// Every round up to this place is delivered, or was put in again: it goes.
    fn sent(&mut self, up_to: Place);

    /// There was another try to find a way, in vain. Returns the readings of rounds that are given up
    /// by it.
    fn tried(&mut self) -> usize;

    /// How many rounds wait.
    fn len(&self) -> usize;

    /// Whether none waits.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether what waits outlives the publisher, so that its end needs to wait for none of it.
    fn is_kept(&self) -> bool {
        false
    }

    /// Nobody will come for what waits. Returns how many readings are lost by that.
    fn close(&mut self) -> usize;
}

/// Rounds in memory: bounded in number, the oldest go first.
#[derive(Debug)]
pub struct Memory {
    rounds: VecDeque<(Place, Undelivered)>,
    next: u64,
    rounds_max: usize,
    tries_max: Option<u32>,
}

impl Memory {
    /// Keeps so many rounds, and each until it was tried so often; None is for ever.
    pub fn new(rounds_max: usize, tries_max: Option<u32>) -> Self {
        Memory {
            rounds: VecDeque::new(),
            next: 0,
            rounds_max,
            tries_max,
        }
    }

    fn is_given_up(&self, round: &Undelivered) -> bool {
        self.tries_max.is_some_and(|most| round.tries >= most)
    }
}

impl Backlog for Memory {
    fn put(&mut self, round: Undelivered) -> usize {
        if self.rounds_max == 0 || self.is_given_up(&round) {
            return round.batch.len();
        }
        let mut lost = 0;
        while self.rounds.len() >= self.rounds_max {
            let oldest = self.rounds.pop_front();
            lost += oldest.map_or(0, |(_, oldest)| oldest.batch.len());
        }
        self.rounds.push_back((Place(self.next), round));
        self.next += 1;
        lost
    }

    fn peek(&mut self, behind: Option<Place>, limit: usize) -> Vec<(Place, Undelivered)> {
        let from = behind.map_or(0, |behind| {
            self.rounds.partition_point(|(place, _)| *place <= behind)
        });
        self.rounds.iter().skip(from).take(limit).cloned().collect()
    }

    fn sent(&mut self, up_to: Place) {
        let gone = self.rounds.partition_point(|(place, _)| *place <= up_to);
        self.rounds.drain(..gone);
    }

    fn tried(&mut self) -> usize {
        for (_, round) in &mut self.rounds {
            round.tries = round.tries.saturating_add(1);
        }
        let Some(most) = self.tries_max else {
            return 0;
        };
        let mut lost = 0;
        self.rounds.retain(|(_, round)| {
            let stays = round.tries < most;
            lost += if stays { 0 } else { round.batch.len() };
            stays
        });
        lost
    }

    fn len(&self) -> usize {
        self.rounds.len()
    }

    fn close(&mut self) -> usize {
        let left = std::mem::take(&mut self.rounds);
        left.iter().map(|(_, round)| round.batch.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Identity, Metadata, Reading, Sample, UtcTime, Volume, meters};

    fn round(seq: u64, readings: usize) -> Undelivered {
        let reading = Reading {
            identity: Identity {
                observer: "n".into(),
                epoch: 1,
                seq,
            },
            message_id: String::new(),
            sample: Sample {
                meter: meters::HEARTBEAT,
                volume: Volume::Int(0),
                resource_id: "n".into(),
                user_id: None,
                project_id: None,
                timestamp: UtcTime::from_unix_micros(0),
                metadata: Metadata::new(),
            },
        };
        Undelivered {
            batch: vec![reading; readings].into(),
            tries: 0,
        }
    }

    fn seqs(rounds: &[(Place, Undelivered)]) -> Vec<u64> {
        let of = |(_, round): &(Place, Undelivered)| round.batch[0].identity.seq;
        rounds.iter().map(of).collect()
    }

    #[derive(Debug, Clone)]
    enum Step {
        Put(usize),
        Send { peek: usize, sent: usize },
        Try,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1usize..4).prop_map(Step::Put),
            3 => (0usize..6, 0usize..6).prop_map(|(peek, sent)| Step::Send { peek, sent }),
            1 => Just(Step::Try),
        ]
    }

    proptest! {
        #[test]
        fn every_reading_is_sent_in_order_or_lost_and_counted_and_no_more_wait_than_may(
            steps in prop::collection::vec(step(), 0..60),
            rounds_max in 0usize..6,
            tries_max in prop::option::of(1u32..4),
        ) {
            let mut memory = Memory::new(rounds_max, tries_max);
            let (mut given, mut lost, mut sent, mut last) = (0, 0, 0, None);
            for (seq, step) in (0u64..).zip(steps) {
                match step {
                    Step::Put(readings) => {
                        given += readings;
                        lost += memory.put(round(seq, readings));
                    }
                    Step::Send { peek, sent: count } => {
                        let seen = memory.peek(None, peek);
                        prop_assert_eq!(seen.len(), peek.min(memory.len()));
                        let more = memory.peek(seen.last().map(|(place, _)| *place), 9);
                        let all = memory.peek(None, 9 + peek);
                        let parts: Vec<u64> = [seqs(&seen), seqs(&more)].concat();
                        prop_assert_eq!(parts, seqs(&all), "what is behind goes on where it ended");
                        for (place, round) in seen.iter().take(count) {
                            let seq = round.batch[0].identity.seq;
                            prop_assert!(last.is_none_or(|last| last < seq), "{:?} {}", last, seq);
                            last = Some(seq);
                            sent += round.batch.len();
                            memory.sent(*place);
                        }
                    }
                    Step::Try => lost += memory.tried(),
                }
                prop_assert!(memory.len() <= rounds_max);
            }
            let left = memory.close();
            prop_assert_eq!(given, sent + lost + left);
        }
    }

    #[test]
    fn a_round_is_given_up_after_its_last_try_and_the_oldest_makes_room() {
        let mut memory = Memory::new(2, Some(2));
        assert_eq!(memory.put(round(1, 3)), 0);
        assert_eq!(memory.tried(), 0);
        assert_eq!(memory.put(round(2, 1)), 0);
        assert_eq!(memory.tried(), 3, "the first one has been tried twice");
        assert_eq!((memory.put(round(3, 1)), memory.put(round(4, 1))), (0, 1));
        assert_eq!(seqs(&memory.peek(None, 9)), [3, 4]);
        let tried = Undelivered {
            tries: 2,
            ..round(5, 2)
        };
        assert_eq!(memory.put(tried), 2);
        assert_eq!(Memory::new(0, None).put(round(1, 2)), 2, "who keeps none");
    }
}
