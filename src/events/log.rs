//! What the log itself tells. It is the process's, as the log is, and shown beside whatever metrics
//! a daemon has.

use std::sync::LazyLock;

use prometheus::{IntCounter, IntCounterVec, Opts};

use super::full;

static LINES_LOST: LazyLock<Option<IntCounterVec>> = LazyLock::new(|| {
    let help = "Lines of the log that were lost because a destination took none in time";
    let options = Opts::new(full("log_lines_lost_total"), help);
    // It fails only for a name that Prometheus doesn't allow.
    IntCounterVec::new(options, &["destination"]).ok()
});

/// The counter of one destination's losses, shown from now on.
pub fn log_lines_lost(destination: &'static str) -> Option<IntCounter> {
    let lines = LINES_LOST.as_ref()?;
    Some(lines.with_label_values(&[destination]))
}

/// All of them, to be registered.
#[cfg(any(feature = "agent", feature = "collector"))]
pub(super) fn lines_lost() -> Option<IntCounterVec> {
    LINES_LOST.clone()
}
