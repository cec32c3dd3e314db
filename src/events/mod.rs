//! What the daemons tell the outside: one method for each observable event writes the log line and
//! bumps the counter, so that neither is forgotten.
//!
//! Metric names start with `ceilometer_ha_`, units are base units, counters end in `_total`, and
//! every label's values come from a closed list or from the configuration.

#[cfg(feature = "agent")]
mod agent;
#[cfg(feature = "agent")]
mod changes;
#[cfg(feature = "collector")]
mod collector;
#[cfg(any(feature = "agent", feature = "collector"))]
mod limit;
#[cfg(any(feature = "agent", feature = "collector"))]
mod metrics;

#[cfg(feature = "agent")]
pub use agent::AgentEvents;
#[cfg(feature = "collector")]
pub use collector::CollectorEvents;
#[cfg(any(feature = "agent", feature = "collector"))]
pub use metrics::Metrics;

/// An error with its causes, in one line.
pub struct Chain<'a>(pub &'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
