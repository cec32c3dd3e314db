//! What `--check-config` prints: what would be in force. Every program says first what it would do,
//! then where its log goes, then which options differ from their default and where they were set.

#[cfg(feature = "agent")]
mod agent;
#[cfg(feature = "collector")]
mod collector;
mod common;

#[cfg(any(feature = "agent", feature = "collector", feature = "decider"))]
use super::DaemonError;
#[cfg(any(feature = "agent", feature = "collector", feature = "decider"))]
use crate::config::{SetOption, Settings};
#[cfg(feature = "agent")]
use crate::pipeline::Pipeline;

/// What an agent would do.
#[cfg(feature = "agent")]
pub(super) fn print_agent(
    settings: &Settings,
    pipeline: &Pipeline,
    options: &[SetOption],
) -> Result<(), DaemonError> {
    agent::print(settings, pipeline)?;
    common::print_secret(settings)?;
    common::print_log(&settings.log)?;
    common::print_options(options)
}

/// What a collector would do.
#[cfg(feature = "collector")]
pub(super) fn print_collector(
    settings: &Settings,
    options: &[SetOption],
) -> Result<(), DaemonError> {
    collector::print(&settings.collector)?;
    common::print_database(&settings.database)?;
    common::print_secret(settings)?;
    common::print_log(&settings.log)?;
    common::print_options(options)
}

/// What agent and collector in one process would do.
#[cfg(all(feature = "agent", feature = "collector", feature = "decider"))]
pub(super) fn print_standalone(
    settings: &Settings,
    pipeline: &Pipeline,
    options: &[SetOption],
) -> Result<(), DaemonError> {
    agent::print(settings, pipeline)?;
    collector::print(&settings.collector)?;
    common::print_database(&settings.database)?;
    common::print_secret(settings)?;
    common::print_log(&settings.log)?;
    common::print_options(options)
}

/// What a command of the operator's, or one for the tables, would look at.
#[cfg(any(feature = "collector", feature = "decider"))]
pub(super) fn print_database(
    settings: &Settings,
    options: &[SetOption],
) -> Result<(), DaemonError> {
    common::print_database(&settings.database)?;
    common::print_options(options)
}
