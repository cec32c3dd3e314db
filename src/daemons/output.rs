//! stdout and stderr. Whoever reads them may go away at any time, and `println!` would panic.

use std::fmt;
use std::io::{self, Write};

use super::DaemonError;

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

/// Writes a line to stderr. When that fails there is no better place to say so.
pub(super) fn complain(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{text}");
}
