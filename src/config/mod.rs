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

mod change;
mod command;
mod foreign;
mod ini;
mod layers;
pub(crate) mod nearest;
pub mod options;
mod problem;
mod settings;
mod values;

pub use change::{Change, change};
#[cfg(test)]
pub(crate) use command::TAKEN_NAMES;
pub use command::{CommandLine, PluginFormat, PluginSpec};
pub use problem::{Problem, Problems, Severity};
pub use settings::{
    AgentSettings, CentralSettings, CollectorSettings, ComputeSettings, DatabaseSettings,
    EFFECTIVE_TIMEOUT_MIN, IpmiSettings, LibvirtSettings, LogSettings, Namespace, PluginSettings,
    ProcessSettings, Quorum, Reserved, Settings, effective_timeout,
};

pub(crate) use problem::settle;
#[cfg(feature = "agent")]
pub(crate) use values::is_host_name;

use layers::Sorter;
use values::Values;

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
            ],
            Purpose::Everything => &[],
        }
    }

    /// Whether a program reads this section.
    fn uses(self, group: &str) -> bool {
        !self
            .unused_groups()
            .contains(&format!("[{group}]").as_str())
    }

    fn tolerates(self, problem: &Problem) -> bool {
        let option = problem.option.as_deref().unwrap_or_default();
        self.unused_groups()
            .iter()
            .any(|group| option.starts_with(group))
    }
}

/// Reads files, each above the one before it, and `OS_<GROUP>__<OPTION>` variables above them all.
///
/// `host_name` is the node's name unless an option says otherwise. With `strict`, sections and
/// options that nobody knows are errors.
pub fn load(
    purpose: Purpose,
    files: &[ConfigText],
    environment: &[(String, String)],
    host_name: &str,
    strict: bool,
) -> Result<Loaded, Problems> {
    let paths: Vec<PathBuf> = files.iter().map(|file| file.path.clone()).collect();
    let mut problems = Vec::new();
    let layered = match layers::merge(sort(files, environment, strict, &mut problems)) {
        Ok(layered) => layered,
        Err(error) => {
            let message = format!("can't merge the files: {error}");
            problems.push(Problem::new(Severity::Error, message));
            return Err(Problems::new(problems));
        }
    };
    let mut values = Values::read(&layered, &paths);
    let settings = settings::build(&mut values, host_name);
    problems.append(&mut values.problems);
    for problem in &mut problems {
        if problem.severity == Severity::Error && !strict && purpose.tolerates(problem) {
            problem.severity = Severity::Warning;
        }
    }
    problems.sort_by_key(|problem| place(problem, &paths));
    match settings {
        Ok(settings) => {
            settle(settings, problems).map(|(settings, warnings)| Loaded { settings, warnings })
        }
        Err(mismatch) => {
            problems.push(Problem::new(Severity::Error, mismatch.to_string()));
            Err(Problems::new(problems))
        }
    }
}

/// Makes the layers, lowest first.
fn sort(
    files: &[ConfigText],
    environment: &[(String, String)],
    strict: bool,
    problems: &mut Vec<Problem>,
) -> Vec<layers::Layer> {
    let mut sorter = Sorter::new(strict);
    let mut all: Vec<layers::Layer> = Vec::new();
    for file in files {
        if file.text.len() > FILE_BYTES_MAX {
            let message = format!(
                "found {} bytes, expected {FILE_BYTES_MAX} at most",
                file.text.len()
            );
            problems.push(Problem::new(Severity::Error, message).in_file(&file.path, None));
            continue;
        }
        let document = ini::read(&file.text);
        problems.extend(document.faults.iter().map(|fault| {
            Problem::new(Severity::Error, fault.kind.to_string())
                .in_file(&file.path, Some(fault.line))
        }));
        all.push(sorter.file(&file.path.to_string_lossy(), &document, all.last()));
    }
    all.push(sorter.environment(environment));
    problems.extend(sorter.finish());
    all
}

/// Problems are told in the order of files and lines, what is in no file last.
fn place(problem: &Problem, files: &[PathBuf]) -> (usize, usize) {
    let file = problem.file.as_ref().and_then(|file| {
        files
            .iter()
            .position(|known| known.to_string_lossy() == file.to_string_lossy())
    });
    (file.unwrap_or(usize::MAX), problem.line.unwrap_or(0))
}
