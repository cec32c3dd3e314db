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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use std::io::Write;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_log_names_the_call_and_the_error_once_in_a_while() {
        let lines = Lines::default();
        let to = lines.clone();
        let log = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || to.clone())
            .finish();
        let now = clock::now();
        tracing::subscriber::with_default(log, || {
            for _ in 0..1000 {
                system_error("testing the log", &io::Error::from_raw_os_error(5), now);
            }
            system_error("testing the log", &io::Error::from_raw_os_error(9), now);
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        for error in ["(os error 5)", "(os error 9)"] {
            assert!(
                text.contains("testing the log") && text.contains(error),
                "{text}"
            );
        }
    }
}
