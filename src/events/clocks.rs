//! Pure. Whose readings have a time that is too far off: told when it begins and when it is over. Names
//! from the network, so a book with a bound.

use std::collections::HashMap;

use crate::model::Standing;

/// Observers known to be off at once: far above what goes wrong in a fleet. Further ones are counted and
/// not told one by one.
const CLOCKS_MAX: usize = 1024;

/// Remembers who is off, and which way.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    off: HashMap<String, Standing>,
}

impl Clocks {
    /// What to tell of an observer's reading, if it differs from the one before.
    pub(super) fn judged(&mut self, observer: &str, standing: Standing) -> Option<&'static str> {
        let words = match standing {
            Standing::Live => {
                self.off.remove(observer)?;
                return Some("the observer's readings have a time about now again");
            }
            // It says nothing about a clock.
            Standing::Backlog => return None,
            Standing::Ancient => {
                "the observer's readings are too old to be about now, and are history alone: its clock is \
                 behind, they were long on their way, or somebody sends them again"
            }
            Standing::Future => {
                "the observer's readings are from the future, and are history alone: its clock is ahead"
            }
        };
        if let Some(known) = self.off.get_mut(observer) {
            let is_news = *known != standing;
            *known = standing;
            return is_news.then_some(words);
        }
        if self.off.len() >= CLOCKS_MAX {
            return None;
        }
        self.off.insert(observer.to_owned(), standing);
        Some(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Standing::{Ancient, Backlog, Future, Live};

    #[test]
    fn what_is_off_is_told_at_changes_alone() {
        let mut clocks = Clocks::default();
        let told = [
            Live, Ancient, Ancient, Backlog, Ancient, Future, Live, Live, Backlog,
        ]
        .map(|standing| clocks.judged("n", standing).is_some());
        let expected = [false, true, false, false, false, true, true, false, false];
        assert_eq!(told, expected);
    }

    #[test]
    fn more_than_the_book_holds_are_not_told() {
        let mut clocks = Clocks::default();
        for n in 0..CLOCKS_MAX {
            assert!(clocks.judged(&n.to_string(), Ancient).is_some());
        }
        assert_eq!(clocks.judged("one more", Ancient), None);
        assert_eq!(clocks.off.len(), CLOCKS_MAX);
    }
}
