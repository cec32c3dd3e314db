//! Pure. Configuration: the texts of INI files in oslo.config's dialect and the environment go in,
//! checked settings come out, or every problem at once.
//!
//! ```text
//! text ──ini──► lines ──layers──► text of each option ──values──► its value ──settings──► Settings
//!                      (options: the table of all names)
//! ```
//!
//! Reading files is for whoever calls; relative paths in values start at the directory of the file
//! that holds them.

use std::path::PathBuf;

mod broker;
mod change;
mod command;
mod connection;
mod draft;
pub mod foreign;
mod in_force;
mod ini;
mod kinds;
mod layers;
mod names;
pub(crate) mod nearest;
pub mod options;
mod problem;
mod settings;
mod shown;
mod substitution;
mod transport;
mod values;

pub use broker::{BROKERS_MAX, BrokerMember, BrokerSettings, BrokerTls, Declared};
pub use change::{Change, change};
#[cfg(test)]
pub(crate) use command::TAKEN_NAMES;
pub use command::{CommandLine, PluginFormat, PluginSpec};
pub use connection::{
    Connection, ConnectionError, ENDPOINTS_MAX, Endpoint, MysqlConnection, Tls, TlsMode,
};
pub use draft::{Draft, Inputs, SECRET_BYTES_MAX, SecretText};
pub use in_force::{Origin, SetOption};
pub use problem::{Problem, Problems, Severity};
pub use settings::{
    AgentSettings, CentralSettings, CollectorSettings, ComputeSettings, DatabaseSettings,
    EFFECTIVE_TIMEOUT_MIN, IpmiSettings, LibvirtSettings, LogSettings, Namespace, PluginSettings,
    ProcessSettings, Quorum, Reserved, Settings, TrustSettings, effective_timeout,
};

#[cfg(feature = "publisher")]
pub(crate) use kinds::is_host_name;
#[cfg(feature = "publisher")]
pub(crate) use problem::settle;

/// The longest file that is read, in bytes. A whole commented `ceilometer.conf` has 100 KB; a longer
/// one is something else and is refused as a whole.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// A configuration file that somebody has read.
#[derive(Clone)]
pub struct ConfigText {
    /// Where it was read; messages and relative paths go by it.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
}

impl std::fmt::Debug for ConfigText {
    /// Leaves the text out: it holds secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "ConfigText({}, {} bytes)",
            self.path.display(),
            self.text.len()
        )
    }
}

/// Settings that can be used.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What holds.
    pub settings: Settings,
    /// What is odd about it: warnings and notes, in the order of files and lines.
    pub warnings: Vec<Problem>,
    /// The options that something sets, in the order of their table, and where; also those that are
    /// set to their default.
    pub options: Vec<SetOption>,
}

/// What a program needs of the configuration. The files are shared: a compute node may hold a copy of
/// a controller's, so what is wrong with options that a program doesn't use is only a warning to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The agent: no collector, no database.
    Agent,
    /// The collector: no probes.
    Collector,
    /// The operator's commands: the database alone.
    Operator,
    /// Tools that send and receive messages themselves: no probes, no database.
    Wire,
    /// All of it.
    Everything,
}

impl Purpose {
    fn unused_groups(self) -> &'static [&'static str] {
        match self {
            Purpose::Agent => &["[collector]", "[database]"],
            Purpose::Collector => &["[compute]", "[central]", "[agent]", "[plugins]", "[ipmi]"],
            Purpose::Operator => &[
                "[compute]",
                "[central]",
                "[agent]",
                "[plugins]",
                "[ipmi]",
                "[collector]",
                "[publisher]",
                "[DEFAULT] transport_url",
                "[oslo_messaging_rabbit]",
            ],
            Purpose::Wire => &[
                "[compute]",
                "[central]",
                "[agent]",
                "[plugins]",
                "[ipmi]",
                "[database]",
            ],
            Purpose::Everything => &[],
        }
    }

    /// Whether a program reads this section, or the section of this option.
    fn uses(self, title: &str) -> bool {
        !self
            .unused_groups()
            .iter()
            .any(|group| title.starts_with(group))
    }

    fn tolerates(self, problem: &Problem) -> bool {
        !self.uses(problem.option.as_deref().unwrap_or_default())
    }
}

/// Reads files, each above the one before it, and `OS_<GROUP>__<OPTION>` variables above them all:
/// for whoever has no credentials and no files with secrets beside them. See [`Draft`].
pub fn load(
    purpose: Purpose,
    files: &[ConfigText],
    environment: &[(String, String)],
    host_name: &str,
    strict: bool,
) -> Result<Loaded, Problems> {
    let inputs = Inputs {
        files,
        credentials: &[],
        environment,
        strict,
    };
    Draft::read(purpose, &inputs)?.check(host_name, &[])
}
