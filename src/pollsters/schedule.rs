//! Pure. When the rounds of one pollster start: on a grid that never drifts, spread over the
//! fleet, and never two at once.

use std::hash::{Hash, Hasher};
use std::time::{Duration, Instant};

/// The longest a first round is put off for the sake of spreading: a start should be seen soon.
const SPREAD_MAX: Duration = Duration::from_millis(500);

/// The grid of one pollster in one source: `first`, `first + interval`, `first + 2 × interval` …
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    first: Instant,
    interval: Duration,
}

/// One point on the grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// Which point, from 0.
    pub index: u64,
    /// When it is due.
    pub due: Instant,
    /// How many points were passed over since the last one because their time had gone by.
    pub missed: u64,
}

impl Schedule {
    /// A grid for an agent that starts at `now`. The first round is put off by up to half an
    /// interval, by a hash of who asks, so that a fleet started at once doesn't send at once.
    pub fn new(now: Instant, interval: Duration, who: impl Hash) -> Self {
        let mut hasher = std::hash::DefaultHasher::new();
        who.hash(&mut hasher);
        #[allow(clippy::cast_precision_loss)] // a fraction needs no 64 bits
        let fraction = (hasher.finish() >> 11) as f64 / (1u64 << 53) as f64;
        let spread = (interval / 2).min(SPREAD_MAX).mul_f64(fraction);
        Schedule {
            first: now + spread,
            interval,
        }
    }

    /// The first round.
    pub fn first(&self) -> Tick {
        Tick {
            index: 0,
            due: self.first,
            missed: 0,
        }
    }

    /// The round after `last`, asked for when `last` is over: the next point on the grid or, if
    /// that has gone by already, the latest one that has. That one starts late, at once; those
    /// between are missed.
    pub fn after(&self, last: Tick, now: Instant) -> Tick {
        let passed =
            now.saturating_duration_since(self.first).as_nanos() / self.interval.as_nanos().max(1);
        let latest = u64::try_from(passed).unwrap_or(u64::MAX);
        let next = last.index.saturating_add(1);
        let index = next.max(latest);
        Tick {
            index,
            due: self.due(index),
            missed: index - next,
        }
    }

    fn due(&self, index: u64) -> Instant {
        let offset = self.interval.as_secs_f64() * index_as_f64(index);
        self.first + Duration::try_from_secs_f64(offset).unwrap_or(Duration::MAX / 4)
    }
}

#[allow(clippy::cast_precision_loss)] // exact up to 2^53 rounds
fn index_as_f64(index: u64) -> f64 {
    index as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_grid_does_not_drift() {
        let schedule = Schedule::new(clock::now(), Duration::from_millis(100), "host");
        let mut tick = schedule.first();
        for _ in 0..100_000 {
            tick = schedule.after(tick, tick.due + Duration::from_millis(70));
        }
        let expected = schedule.first().due + Duration::from_secs(10_000);
        let off = tick.due.max(expected) - tick.due.min(expected);
        assert!(
            off < Duration::from_micros(10),
            "off by {off:?} after 100,000 rounds"
        );
        assert_eq!(tick.missed, 0);
    }

    #[test]
    fn a_round_that_ends_a_little_late_starts_the_next_at_once() {
        let schedule = Schedule::new(clock::now(), SECOND, "host");
        let first = schedule.first();
        let next = schedule.after(first, first.due + Duration::from_millis(1005));
        assert_eq!((next.index, next.missed), (1, 0));
        assert_eq!(next.due, first.due + SECOND);
    }

    #[test]
    fn rounds_that_were_slept_through_are_counted_and_not_made_up_for() {
        let schedule = Schedule::new(clock::now(), SECOND, "host");
        let first = schedule.first();
        let next = schedule.after(first, first.due + Duration::from_millis(5300));
        assert_eq!((next.index, next.missed), (5, 4));
        let following = schedule.after(next, next.due + Duration::from_millis(600));
        assert_eq!((following.index, following.missed), (6, 0));
    }

    #[test]
    fn a_fleet_is_spread_and_a_start_is_seen_soon() {
        let now = clock::now();
        let offsets: Vec<Duration> = (0..1000)
            .map(|host| Schedule::new(now, SECOND, host).first().due - now)
            .collect();
        assert!(offsets.iter().all(|offset| *offset <= SPREAD_MAX));
        let early = offsets
            .iter()
            .filter(|offset| **offset < SPREAD_MAX / 2)
            .count();
        assert!(
            (400..600).contains(&early),
            "{early} of 1000 in the first half"
        );
    }
}
