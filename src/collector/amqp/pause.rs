//! Pure. How long to wait before a broker is tried again.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

/// The first pause; it doubles up to the longest.
const FIRST: Duration = Duration::from_millis(200);
/// The longest pause. Nothing is lost by it: what is sent meanwhile waits in the broker.
const PAUSE_LIMIT: Duration = Duration::from_secs(10);

/// The pauses between tries that fail.
#[derive(Debug)]
pub(super) struct Pause {
    next: Duration,
    random: RandomState,
    tries: u64,
}

impl Default for Pause {
    fn default() -> Self {
        Pause {
            next: FIRST,
            random: RandomState::new(),
            tries: 0,
        }
    }
}

impl Pause {
    /// The next pause: of its length between a half and all, by chance, so that many who lost one broker
    /// don't come back at once.
    pub(super) fn next(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(PAUSE_LIMIT);
        self.tries += 1;
        let chance = self.random.hash_one(self.tries) % 1000;
        whole / 2 + whole / 2 * u32::try_from(chance).unwrap_or(0) / 1000
    }

    /// It worked: the next failure is a first one.
    pub(super) fn reset(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit_and_begin_anew() {
        let mut pause = Pause::default();
        let mut whole = FIRST;
        for _ in 0..20 {
            let taken = pause.next();
            assert!(
                (whole / 2..=whole).contains(&taken),
                "{taken:?} of {whole:?}"
            );
            whole = (whole * 2).min(PAUSE_LIMIT);
        }
        assert_eq!(whole, PAUSE_LIMIT);
        pause.reset();
        assert!(pause.next() <= FIRST);
    }
}
