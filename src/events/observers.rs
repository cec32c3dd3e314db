//! Pure. Who was heard lately, and how far their clocks are off: names from the network, so a book
//! with a bound, of which only numbers come out.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::model::UtcTime;

/// Observers known at once: far above any fleet. Further ones are not counted until others have gone
/// silent.
const OBSERVERS_MAX: usize = 65_536;
/// How long an observer counts after its last reading: four scrapes of a usual Prometheus, and a
/// node that died is gone from the count within a minute.
pub(super) const LATELY: Duration = Duration::from_secs(60);

/// Remembers when each observer was last heard.
#[derive(Debug, Default)]
pub(super) struct Observers {
    heard: HashMap<String, Heard>,
}

#[derive(Debug, Clone, Copy)]
struct Heard {
    at: Instant,
    /// Our clock less the observer's.
    offset_micros: i64,
}

/// What is to be shown of them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Summary {
    /// How many were heard lately.
    pub(super) count: usize,
    /// How far ahead of ours the clock is that is the furthest ahead, in seconds; 0 if none is.
    pub(super) ahead: f64,
    /// How old the newest reading of the observer is that is the furthest behind, in seconds.
    pub(super) behind: f64,
}

impl Observers {
    /// A reading of this observer, dated `observed` by its clock, was stored at `wall` by ours.
    pub(super) fn heard(&mut self, observer: &str, observed: UtcTime, wall: UtcTime, at: Instant) {
        let offset_micros = wall.unix_micros().saturating_sub(observed.unix_micros());
        let heard = Heard { at, offset_micros };
        if let Some(known) = self.heard.get_mut(observer) {
            *known = heard;
            return;
        }
        if self.heard.len() >= OBSERVERS_MAX {
            self.sweep(at);
        }
        if self.heard.len() < OBSERVERS_MAX {
            self.heard.insert(observer.to_owned(), heard);
        }
    }

    /// What is to be shown; those that were not heard lately are forgotten.
    pub(super) fn summary(&mut self, now: Instant) -> Summary {
        self.sweep(now);
        let mut summary = Summary {
            count: self.heard.len(),
            ..Summary::default()
        };
        for heard in self.heard.values() {
            #[allow(clippy::cast_precision_loss)]
            // microseconds of a clock that is wrong by decades
            let offset = heard.offset_micros as f64 / 1e6;
            summary.ahead = summary.ahead.max(-offset);
            summary.behind = summary.behind.max(offset);
        }
        summary
    }

    fn sweep(&mut self, now: Instant) {
        self.heard
            .retain(|_, heard| now.saturating_duration_since(heard.at) < LATELY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn at(seconds: i64) -> UtcTime {
        UtcTime::from_unix_micros(seconds * 1_000_000)
    }

    #[test]
    fn observers_count_for_a_minute_and_the_clocks_that_are_most_wrong_show() {
        let start = clock::now();
        let mut book = Observers::default();
        book.heard("a", at(998), at(1000), start);
        book.heard("b", at(1007), at(1000), start);
        book.heard("b", at(1008), at(1001), start + Duration::from_secs(1));
        let shown = book.summary(start + Duration::from_secs(2));
        let expected = Summary {
            count: 2,
            ahead: 7.0,
            behind: 2.0,
        };
        assert_eq!(shown, expected);
        let later = book.summary(start + LATELY);
        assert_eq!((later.count, later.behind), (1, 0.0), "a has gone silent");
        assert_eq!(book.summary(start + LATELY * 2), Summary::default());
    }

    #[test]
    fn more_observers_than_a_fleet_has_are_not_kept() {
        let start = clock::now();
        let mut book = Observers::default();
        for n in 0..=OBSERVERS_MAX {
            book.heard(&n.to_string(), at(0), at(0), start);
        }
        assert_eq!(book.summary(start).count, OBSERVERS_MAX);
        book.heard("new", at(0), at(0), start + LATELY);
        assert_eq!(book.summary(start + LATELY).count, 1);
    }
}
