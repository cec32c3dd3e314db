//! Pure. Which observers' names two agents used lately: names from the network, so a book with a bound,
//! of which only a number comes out.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Conflicts known at once. Cloned images make some; more than these are neither counted nor told one
/// by one.
const CONFLICTS_MAX: usize = 1024;
/// How long a conflict counts after its last sign, as `compute-ha status` has it.
const LATELY: Duration = Duration::from_secs(60);

/// Remembers when each was last noticed.
#[derive(Debug, Default)]
pub(super) struct Conflicts {
    noticed: HashMap<String, Instant>,
}

impl Conflicts {
    /// A sign of a conflict; true if it begins with it.
    pub(super) fn noticed(&mut self, observer: &str, now: Instant) -> bool {
        self.sweep(now);
        if let Some(at) = self.noticed.get_mut(observer) {
            *at = now;
            return false;
        }
        let has_room = self.noticed.len() < CONFLICTS_MAX;
        if has_room {
            self.noticed.insert(observer.to_owned(), now);
        }
        has_room
    }

    /// How many there are now.
    pub(super) fn count(&mut self, now: Instant) -> usize {
        self.sweep(now);
        self.noticed.len()
    }

    fn sweep(&mut self, now: Instant) {
        self.noticed
            .retain(|_, at| now.saturating_duration_since(*at) < LATELY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn a_conflict_begins_once_and_ends_a_minute_after_its_last_sign() {
        let start = clock::now();
        let later = |seconds| start + Duration::from_secs(seconds);
        let mut book = Conflicts::default();
        assert!(book.noticed("a", start));
        assert!(!book.noticed("a", later(40)));
        assert!(book.noticed("b", later(50)));
        assert_eq!(book.count(later(99)), 2);
        assert_eq!(book.count(later(100)), 1, "a's last sign was at 40 s");
        assert_eq!(book.count(later(110)), 0);
        assert!(book.noticed("a", later(111)), "it began anew");
    }

    #[test]
    fn more_than_the_book_holds_are_not_told() {
        let start = clock::now();
        let mut book = Conflicts::default();
        for n in 0..CONFLICTS_MAX {
            assert!(book.noticed(&n.to_string(), start));
        }
        assert!(!book.noticed("one more", start));
        assert_eq!(book.count(start), CONFLICTS_MAX);
    }
}
