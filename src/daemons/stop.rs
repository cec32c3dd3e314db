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
        let mut guard = self
            .inner
            .lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.is_set() {
                return true;
            }
            let left = when.saturating_duration_since(clock::now());
            if left.is_zero() {
                return false;
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
