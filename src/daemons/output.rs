//! stdout and stderr. Whoever reads them may go away at any time, and `println!` would panic; or stop
//! reading, and everybody who writes would wait for ever.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use super::DaemonError;

/// How long a complaint waits for whoever reads stderr, unless that is a terminal; then no further
/// one is tried.
const STDERR_LIMIT: Duration = Duration::from_secs(1);

/// Nobody reads stderr.
static IS_UNREAD: AtomicBool = AtomicBool::new(false);

/// Writes text to stdout.
pub(super) fn write(text: &str) -> Result<(), DaemonError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(DaemonError::Unread),
        other => other.map_err(|error| DaemonError::failed("writing to stdout", error)),
    }
}

/// Writes a line to stdout.
pub(super) fn line(text: fmt::Arguments<'_>) -> Result<(), DaemonError> {
    write(&format!("{text}\n"))
}

/// Writes a line to stderr. When that fails there is no better place to say so, and when nobody reads
/// it, a node must be watched all the same.
pub(super) fn complain(text: fmt::Arguments<'_>) {
    let line = format!("{text}\n");
    if io::stderr().is_terminal() {
        let _ = io::stderr().write_all(line.as_bytes());
        return;
    }
    if IS_UNREAD.load(Ordering::Relaxed) {
        return;
    }
    let (sender, written) = channel();
    let spawned = std::thread::Builder::new().spawn(move || {
        let _ = io::stderr().write_all(line.as_bytes());
        let _ = sender.send(());
    });
    if spawned.is_err() || written.recv_timeout(STDERR_LIMIT).is_err() {
        IS_UNREAD.store(true, Ordering::Relaxed);
    }
}
