//! Pure. How long to wait before the next attempt to connect.

use std::time::Duration;

/// The shortest pause.
const PAUSE: Duration = Duration::from_millis(200);
/// The longest one: how late a broker that is back is noticed.
const PAUSE_LIMIT: Duration = Duration::from_secs(5);

/// Pauses that grow with each failure. A part of each is chance, so that a fleet doesn't come back all at
/// once to a broker that has just started.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause after one more failure; `random` is any number.
    pub(super) fn next(&mut self, random: u64) -> Duration {
        let doubled = PAUSE.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        let longest = doubled.min(PAUSE_LIMIT);
        let thousandth = u32::try_from(random % 500).unwrap_or(0);
        longest - longest * thousandth / 1000
    }

    /// It worked.
    pub(super) fn worked(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pauses_grow_up_to_the_limit_and_half_of_each_is_sure(
            failures in 0u32..100,
            random: u64,
        ) {
            let mut backoff = Backoff { failures };
            let longest = backoff.next(0);
            prop_assert!((PAUSE..=PAUSE_LIMIT).contains(&longest));
            prop_assert!(failures < 5 || longest == PAUSE_LIMIT);
            let mut other = Backoff { failures };
            let pause = other.next(random);
            prop_assert!((longest / 2..=longest).contains(&pause), "{:?} of {:?}", pause, longest);
            prop_assert!(backoff.next(0) >= longest);
            backoff.worked();
            prop_assert_eq!(backoff.next(0), PAUSE);
        }
    }
}
