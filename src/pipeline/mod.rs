//! Pure. `pipeline_ha.yaml`: which meters are polled how often, and where their readings go. The
//! format and the wording of its errors are Ceilometer's. And [`Emitter`], which tags and numbers
//! what is polled on its way there.

use std::path::Path;
use std::time::Duration;

use crate::config::{FILE_BYTES_MAX, Problem, Problems, Severity, settle};

mod difference;
mod emit;
pub mod keys;
mod known;
mod meters;
mod notifier;
mod reader;
mod reserved;
mod target;
mod yaml;

pub use crate::config::Reserved;
pub use difference::differences;
pub use emit::Emitter;
pub use known::KnownMeters;
pub use meters::{MeterFilter, matches, may_match_below};
pub use notifier::{NotifierTarget, Policy};
pub use target::{DEFAULT_UDP_PORT, Publisher, UdpTarget};

/// A whole file, checked: every source's sinks exist.
#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline {
    /// What is polled, in the order of the file.
    pub sources: Vec<Source>,
    /// Where it goes, in the order of the file.
    pub sinks: Vec<Sink>,
}

/// Meters that are polled together.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// Its name, which no other source has.
    pub name: String,
    /// The time from one polling to the next; more than zero.
    pub interval: Duration,
    /// Which meters.
    pub meters: MeterFilter,
    /// Resources given by hand, as Ceilometer's URLs.
    pub resources: Vec<String>,
    /// Names of discoveries.
    pub discovery: Vec<String>,
    /// Names of sinks; at least one.
    pub sinks: Vec<String>,
}

/// Publishers that get the same readings.
#[derive(Debug, Clone, PartialEq)]
pub struct Sink {
    /// Its name, which no other sink has.
    pub name: String,
    /// At least one; no two with the same path.
    pub publishers: Vec<Publisher>,
}

/// What a file is checked against beside its own rules.
#[derive(Debug, Clone, Default)]
pub struct Against {
    /// The meters that there are; others are unknown names.
    pub meters: KnownMeters,
    /// The topic of a `notifier://` that names none.
    pub topic: String,
    /// Whether unknown names are errors instead of warnings.
    pub strict: bool,
}

/// Reads a file's text; `path` is for the messages. Gives the pipeline with what is odd about it, or
/// every problem at once.
pub fn parse(
    path: &Path,
    text: &str,
    against: &Against,
) -> Result<(Pipeline, Vec<Problem>), Problems> {
    let refuse = |line: Option<usize>, message: String| {
        let problem = Problem::new(Severity::Error, message).in_file(path, line);
        Err(Problems::new(vec![problem]))
    };
    if text.len() > FILE_BYTES_MAX {
        let found = text.len();
        return refuse(
            None,
            format!("found {found} bytes, expected {FILE_BYTES_MAX} at most"),
        );
    }
    match yaml::read(text) {
        Ok(root) => {
            let mut reader = reader::Reader::new(path, against);
            let pipeline = reader.pipeline(&root);
            settle(pipeline, reader.finish())
        }
        Err(unreadable) => refuse(
            unreadable.line,
            format!("can't be read as YAML: {}", unreadable.message),
        ),
    }
}
