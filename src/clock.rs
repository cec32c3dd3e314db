//! The only place that reads time. Everything else gets `now` as an argument, or asks here.

use std::time::{Duration, Instant, SystemTime};

use crate::model::UtcTime;

/// The monotonic clock: what intervals, timeouts and lateness are measured by.
#[allow(clippy::disallowed_methods)] // this is the place
pub fn now() -> Instant {
    Instant::now()
}

/// The same clock as the kernel counts it, since a start of the machine: what is told to systemd.
/// Zero where it can't be read.
pub fn monotonic() -> Duration {
    use nix::time::{ClockId, clock_gettime};
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map(Duration::from)
        .unwrap_or_default()
}

/// The wall clock in UTC: what a reading is stamped with. It may be set back or jump, so nothing
/// is ever ordered or timed by it.
pub fn utc() -> UtcTime {
    let since_epoch = wall();
    UtcTime::from_unix_micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
}

/// The wall clock as the kernel's packet timestamps count it: time since 1970-01-01 UTC, zero for a
/// clock that stands before that.
#[allow(clippy::disallowed_methods)] // this is the place
pub fn wall() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}
