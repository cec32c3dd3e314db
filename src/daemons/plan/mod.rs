//! What `--check-config` prints: what would be in force.

#[cfg(feature = "agent")]
mod agent;
#[cfg(feature = "collector")]
mod collector;

#[cfg(feature = "agent")]
pub(super) use agent::print_agent;
#[cfg(feature = "collector")]
pub(super) use collector::print_collector;
