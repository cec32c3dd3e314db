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

    /// The grid from `now` on, with another interval, for a pollster whose next round would have been
    /// due at `next`; the last one was `last`, if there was one. The next round comes no later than it
    /// would have, and one new interval after the last one; if that has gone by, at the first of the new
    /// intervals counted from there that hasn't, so that a fleet which was spread stays spread.
    #[must_use]
    pub fn changed(
        self,
        now: Instant,
        last: Option<Instant>,
        next: Instant,
        interval: Duration,
    ) -> Self {
        let base = last.unwrap_or(now);
        let gone = now.saturating_duration_since(base).as_nanos();
        let steps = gone.div_ceil(interval.as_nanos().max(1)).max(1);
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        let first = base + interval.saturating_mul(steps);
        Schedule {
            first: first.min(next),
            interval,
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
    use proptest::prelude::*;

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

    proptest! {
        /// A pollster is told new intervals at any time, again and again: no round is put off because of
        /// it, and none is due in the past.
        #[test]
        fn a_new_interval_never_puts_a_round_off(
            first in 1..100_000u64,
            changes in prop::collection::vec((1..100_000u64, 0.0..1.0f64, 0..4u8), 1..20),
        ) {
            let ms = Duration::from_millis;
            let start = clock::now();
            let mut schedule = Schedule::new(start, ms(first), "host");
            let mut tick = schedule.first();
            let (mut last, mut earlier) = (None, start);
            for (interval, part, rounds) in changes {
                for _ in 0..rounds {
                    last = Some(tick.due);
                    earlier = tick.due;
                    tick = schedule.after(tick, tick.due);
                    prop_assert_eq!(tick.missed, 0);
                }
                let now = earlier + (tick.due - earlier).mul_f64(part);
                earlier = now;
                let before = tick.due;
                schedule = schedule.changed(now, last, before, ms(interval));
                tick = schedule.first();
                prop_assert!(tick.due <= before, "no later than it would have been");
                prop_assert!(tick.due >= now.min(before), "not in the past");
                prop_assert!(tick.due <= now + ms(interval), "within a new interval");
                if let Some(last) = last.filter(|last| *last + ms(interval) >= now) {
                    prop_assert!(tick.due <= last + ms(interval));
                }
                let next = schedule.after(tick, tick.due);
                prop_assert_eq!(next.due - tick.due, ms(interval));
            }
        }
    }

    #[test]
    fn the_same_interval_keeps_the_grid() {
        let schedule = Schedule::new(clock::now(), SECOND, "host");
        let (first, now) = (schedule.first(), schedule.first().due + SECOND / 3);
        let next = schedule.after(first, now);
        let same = schedule.changed(now, Some(first.due), next.due, SECOND);
        assert_eq!(same.first().due, next.due);
    }

    #[test]
    fn a_fleet_that_is_told_a_shorter_interval_stays_spread() {
        let (start, now) = (clock::now(), clock::now() + SECOND * 50);
        let due = |host: u32| {
            let slow = Schedule::new(start, SECOND * 100, host);
            let (first, next) = (slow.first(), slow.after(slow.first(), now));
            let fast = slow.changed(now, Some(first.due), next.due, SECOND);
            (fast.first().due - start).as_millis() % 1000
        };
        let spread: std::collections::BTreeSet<u128> = (0..100).map(due).collect();
        assert!(spread.len() > 50, "{spread:?}");
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
