//! Where it all meets: the only place that starts threads and tasks, reads files, and owns queues
//! and signals. One file for each daemon, and the parts that they share.

#[cfg(feature = "agent")]
pub mod agent;
#[cfg(feature = "agent")]
mod agent_state;
#[cfg(feature = "collector")]
pub mod collector;
#[cfg(any(feature = "agent", feature = "collector"))]
mod configuration;
#[cfg(feature = "collector")]
pub mod expire;
mod files;
#[cfg(feature = "decider")]
pub mod forget;
#[cfg(feature = "collector")]
mod headroom;
#[cfg(feature = "agent")]
mod hosts;
#[cfg(any(feature = "agent", feature = "collector"))]
mod http;
#[cfg(feature = "decider")]
pub mod identity;
#[cfg(any(feature = "agent", feature = "collector"))]
mod instance;
#[cfg(feature = "decider")]
pub mod key;
#[cfg(feature = "decider")]
mod key_files;
mod keys;
#[cfg(any(feature = "agent", feature = "collector", feature = "decider"))]
mod known_secret;
#[cfg(feature = "decider")]
pub mod listen;
#[cfg(any(feature = "agent", feature = "collector", feature = "decider"))]
mod logging;
mod output;
mod plan;
#[cfg(any(feature = "agent", feature = "collector"))]
mod process;
#[cfg(feature = "collector")]
mod proofs;
#[cfg(feature = "decider")]
pub mod quarantine;
#[cfg(feature = "decider")]
pub mod reading;
#[cfg(any(feature = "agent", feature = "collector"))]
mod reload;
#[cfg(feature = "collector")]
mod retention;
#[cfg(any(feature = "agent", feature = "collector"))]
mod secret;
#[cfg(feature = "decider")]
pub mod send_sample;
#[cfg(feature = "publisher")]
mod sending;
mod signals;
#[cfg(all(feature = "agent", feature = "collector", feature = "decider"))]
pub mod standalone;
#[cfg(feature = "decider")]
pub mod status;
mod stop;
#[cfg(feature = "collector")]
mod storing;
#[cfg(any(feature = "agent", feature = "collector"))]
mod systemd;
#[cfg(any(feature = "agent", feature = "collector"))]
mod usage;
#[cfg(any(feature = "agent", feature = "collector", feature = "publisher"))]
mod workers;

use std::path::PathBuf;
use std::time::Duration;

use crate::config::Problems;

#[cfg(any(feature = "agent", feature = "collector"))]
use configuration::Configuration;
pub use files::{load_settings, read_error};
pub use stop::Stop;

/// What SIGTERM leaves a daemon to send or store what it has; then it ends all the same.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// The options that every program shares.
#[derive(Debug, Clone, clap::Args)]
pub struct ConfigArgs {
    /// Configuration file; may be given several times, later ones win
    #[arg(
        long = "config-file",
        value_name = "FILE",
        global = true,
        default_value = "/etc/ceilometer/ceilometer_ha.conf"
    )]
    pub config_file: Vec<PathBuf>,

    /// Directory of further files, read in order of their names (*.conf)
    #[arg(long = "config-dir", value_name = "DIR", global = true)]
    pub config_dir: Vec<PathBuf>,

    /// Treat options that nobody knows as errors
    #[arg(long, global = true)]
    pub strict: bool,

    /// Check the configuration, print what would be in force, and exit with 0 or 2
    #[arg(long, global = true)]
    pub check_config: bool,
}

/// Why a program ends other than as asked.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The configuration can't be used: exit code 2.
    #[error("the configuration can't be used:\n{0}")]
    Config(Problems),
    /// A file that is needed can't be read: exit code 2.
    #[error("reading {path} failed")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Whoever read stdout has gone, as `head` does: nothing is left to do, and nobody to tell.
    #[error("nobody reads stdout any more")]
    Unread,
    /// Anything else: exit code 1.
    #[error("{what} failed")]
    Failed {
        /// The operation and its subject.
        what: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl DaemonError {
    /// An operation that failed.
    pub fn failed(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        DaemonError::Failed {
            what: what.into(),
            source: source.into(),
        }
    }

    /// 2 for wrong use or configuration, 1 for the rest that is an error at all.
    pub fn exit_code(&self) -> u8 {
        match self {
            DaemonError::Unread => 0,
            DaemonError::Config(_) | DaemonError::Read { .. } => 2,
            DaemonError::Failed { .. } => 1,
        }
    }
}

/// Ends a program: what went wrong, with its causes, on stderr, and the exit code.
pub fn exit(result: Result<(), DaemonError>) -> std::process::ExitCode {
    match result {
        Ok(()) | Err(DaemonError::Unread) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            output::complain(format_args!("error: {}", crate::events::Chain(&error)));
            error.exit_code().into()
        }
    }
}
