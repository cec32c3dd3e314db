//! What the agent says about errors of its own operating system that have no reason of their own: the
//! reading says that there was one, and the log which.

use std::io;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Instant;

use super::limit::RateLimit;

/// One line for each operation and error now and then: every probe of every gateway may fail alike.
static ERRORS: LazyLock<Mutex<RateLimit<(&'static str, i32)>>> = LazyLock::new(Mutex::default);

/// An operation failed with an error that no closed list names: `system_error`.
pub fn system_error(operation: &'static str, error: &io::Error, now: Instant) {
    let number = error.raw_os_error().unwrap_or_default();
    let kept_back = ERRORS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .admit((operation, number), now);
    if let Some(kept_back) = kept_back {
        tracing::warn!(operation, %error, kept_back, "an error of our own operating system");
    }
}
