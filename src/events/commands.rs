//! What is worth telling about commands that pollsters run. What they print is never metadata, and it
//! may say the same every second: the log gets it when the outcome changes.

use crate::model::FailReason;

/// A command printed this to standard error, in a round that failed or didn't.
pub fn said(command: &str, errors: &str, failure: Option<FailReason>, before: Option<FailReason>) {
    match failure {
        _ if errors.is_empty() => {}
        Some(reason) if failure != before => {
            tracing::warn!(command, %reason, errors, "a command failed");
        }
        _ => tracing::debug!(command, errors, "a command complained"),
    }
}

/// Not all that a command printed could be read.
pub fn items_refused(command: &str, refused: u64, first: &str) {
    tracing::debug!(command, refused, first, "samples refused");
}

/// Something that a command started couldn't be killed in time.
pub fn left_running(command: &str) {
    tracing::warn!(
        command,
        "what a command started is still there: it hangs in the kernel, or forks faster than it is killed"
    );
}

/// The node has no BMC, or no driver for it.
pub fn no_bmc(errors: &str) {
    tracing::info!(errors, "this node has no BMC to talk to: no readings of it");
}
