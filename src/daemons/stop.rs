//! The one flag that ends every thread, and the one way to sleep.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use crate::clock;

/// Shared by everything that must end together.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    flag: Arc<AtomicBool>,
    since: OnceLock<Instant>,
    lock: Mutex<()>,
    changed: Condvar,
}

/// Why a sleep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// It is time to end.
    Stop,
    /// The time has come.
    Due,
    /// Somebody rang.
    Rung,
}

impl Stop {
    /// Time to end.
    pub fn stop(&self) {
        let _guard = self
            .inner
            .lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.inner.since.get_or_init(clock::now);
        self.inner.flag.store(true, Ordering::SeqCst);
        self.inner.changed.notify_all();
    }

    /// Whether it is time to end.
    pub fn is_set(&self) -> bool {
        self.inner.flag.load(Ordering::SeqCst)
    }

    /// Since when it is time to end.
    pub fn since(&self) -> Option<Instant> {
        self.inner.since.get().copied()
    }

    /// The flag, for loops that look at it themselves.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.inner.flag)
    }

    /// Sleeps until `when`; true, at once, when it is time to end.
    pub fn wait_until(&self, when: Instant) -> bool {
        self.wait_until_or(when, &AtomicBool::new(false)) == Woken::Stop
    }

    /// Sets the flag, and wakes whoever waits for it.
    pub fn ring(&self, rung: &AtomicBool) {
        let _guard = self
            .inner
            .lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        rung.store(true, Ordering::SeqCst);
        self.inner.changed.notify_all();
    }

    /// Sleeps until `when`, or until it is time to end, or until the flag is set, which is cleared
    /// again. The end comes before everything, and what is due before what rang.
    pub fn wait_until_or(&self, when: Instant, rung: &AtomicBool) -> Woken {
        let mut guard = self
            .inner
            .lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.is_set() {
                return Woken::Stop;
            }
            let left = when.saturating_duration_since(clock::now());
            if left.is_zero() {
                return Woken::Due;
            }
            if rung.swap(false, Ordering::SeqCst) {
                return Woken::Rung;
            }
            guard = self
                .inner
                .changed
                .wait_timeout(guard, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_ring_wakes_once_and_is_kept_for_who_is_busy() {
        let (stop, rung) = (Stop::default(), Arc::new(AtomicBool::new(false)));
        stop.ring(&rung);
        assert_eq!(stop.wait_until_or(clock::now() + HOUR, &rung), Woken::Rung);
        assert_eq!(stop.wait_until_or(clock::now(), &rung), Woken::Due);
        let (other, flag) = (stop.clone(), Arc::clone(&rung));
        let ringer = std::thread::spawn(move || other.ring(&flag));
        assert_eq!(stop.wait_until_or(clock::now() + HOUR, &rung), Woken::Rung);
        ringer.join().unwrap();
    }

    #[test]
    fn the_end_comes_before_a_ring_and_a_round_is_not_starved_by_rings() {
        let (stop, rung) = (Stop::default(), AtomicBool::new(true));
        assert_eq!(stop.wait_until_or(clock::now(), &rung), Woken::Due);
        stop.stop();
        assert_eq!(stop.wait_until_or(clock::now() + HOUR, &rung), Woken::Stop);
    }
}
