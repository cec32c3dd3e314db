//! Pure. Keeps an event that a peer can cause at any rate from filling the log.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// One line for each kind of event in this time.
pub(super) const PERIOD: Duration = Duration::from_secs(10);

/// Lets one event of each kind through in each period, and counts those it keeps back. Kinds come
/// from closed lists or from the configuration, so it stays small.
#[derive(Debug)]
pub(super) struct RateLimit<K> {
    kinds: HashMap<K, (Instant, u64)>,
}

impl<K> Default for RateLimit<K> {
    fn default() -> Self {
        RateLimit {
            kinds: HashMap::new(),
        }
    }
}

impl<K: Eq + Hash> RateLimit<K> {
    /// Whether to log this one: Some with how many were kept back since the last, or None.
    pub(super) fn admit(&mut self, kind: K, now: Instant) -> Option<u64> {
        match self.kinds.get_mut(&kind) {
            Some((last, kept_back)) if now.saturating_duration_since(*last) < PERIOD => {
                *kept_back += 1;
                None
            }
            Some((last, kept_back)) => {
                *last = now;
                Some(std::mem::take(kept_back))
            }
            None => {
                self.kinds.insert(kind, (now, 0));
                Some(0)
            }
        }
    }

    /// Forgets kinds that won't come again.
    #[cfg(feature = "agent")]
    pub(super) fn forget(&mut self, is_gone: impl Fn(&K) -> bool) {
        self.kinds.retain(|kind, _| !is_gone(kind));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn the_first_of_each_kind_at_once_then_one_a_period_with_the_count() {
        let start = clock::now();
        let mut limit = RateLimit::default();
        assert_eq!(limit.admit("forged", start), Some(0));
        assert_eq!(limit.admit("broken", start), Some(0));
        for _ in 0..999 {
            assert_eq!(limit.admit("forged", start + PERIOD / 2), None);
        }
        assert_eq!(limit.admit("forged", start + PERIOD), Some(999));
        assert_eq!(limit.admit("forged", start + PERIOD * 2), Some(0));
    }
}
