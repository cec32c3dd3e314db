//! Pure. The two steps of reading a configuration: what the layers say, and, once somebody has read
//! the files that they name for their secrets, what holds.

use std::fmt;
use std::path::{Path, PathBuf};

use super::in_force::Origin;
use super::layers::{self, Layer, Layered, Placed, Sorter};
use super::options::IN_FILES;
use super::problem::{Problem, Problems, Severity, settle};
use super::values::Values;
use super::{ConfigText, FILE_BYTES_MAX, Loaded, Purpose, ini, settings};

/// The longest file with a secret, and the longest credential, in bytes. A URL or a key has some
/// hundred, a list of a thousand gateways 40 KB; a longer one is something else, and is refused.
pub const SECRET_BYTES_MAX: usize = 64 << 10;

/// What a configuration is made of, lowest first.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// Configuration files, each above the one before it.
    pub files: &'a [ConfigText],
    /// systemd's credentials: files with names such as `publisher.telemetry_secret`.
    pub credentials: &'a [SecretText],
    /// The environment, of which `OS_<GROUP>__<OPTION>` counts.
    pub environment: &'a [(String, String)],
    /// Whether sections and options that nobody knows are errors.
    pub strict: bool,
}

/// What somebody found in a file that holds the value of one option.
#[derive(Clone)]
pub struct SecretText {
    /// The path, as [`Draft::secret_files`] gave it.
    pub path: PathBuf,
    /// What the file holds, of which one byte more than [`SECRET_BYTES_MAX`] is enough; or why it
    /// can't be read.
    pub found: Result<Vec<u8>, String>,
    /// Whether every user may read it.
    pub is_public: bool,
}

impl SecretText {
    /// The text without the blanks around it, or what is wrong with the file.
    pub(super) fn text(&self) -> Result<&str, String> {
        let path = self.path.display();
        let bytes = self
            .found
            .as_ref()
            .map_err(|why| format!("found {path}, which can't be read: {why}"))?;
        if bytes.len() > SECRET_BYTES_MAX {
            return Err(format!(
                "found more than {SECRET_BYTES_MAX} bytes in {path}, expected one value"
            ));
        }
        std::str::from_utf8(bytes)
            .map(str::trim)
            .map_err(|_| format!("found bytes in {path} that are no UTF-8, expected text"))
    }
}

impl fmt::Debug for SecretText {
    /// Leaves the text out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretText({})", self.path.display())
    }
}

/// A configuration whose layers have been put on top of each other.
pub struct Draft {
    purpose: Purpose,
    strict: bool,
    files: Vec<PathBuf>,
    layered: Layered,
    problems: Vec<Problem>,
}

impl Draft {
    /// Reads the layers. What is wrong is told by [`Draft::check`], with all that is still found.
    pub fn read(purpose: Purpose, inputs: &Inputs<'_>) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let layers = layers_of(inputs, &mut problems);
        let layered = match layers::merge(layers) {
            Ok(layered) => layered,
            Err(error) => {
                let message = format!("can't merge the files: {error}");
                problems.push(Problem::new(Severity::Error, message));
                return Err(Problems::new(problems));
            }
        };
        Ok(Draft {
            purpose,
            strict: inputs.strict,
            files: inputs.files.iter().map(|file| file.path.clone()).collect(),
            layered,
            problems,
        })
    }

    /// The files that options name for their secrets, of those that this program uses.
    pub fn secret_files(&self) -> Vec<PathBuf> {
        let values = Values::new(&self.layered, &self.files);
        IN_FILES
            .iter()
            .filter(|(group, name, _)| self.purpose.uses(&format!("[{group}] {name}")))
            .filter_map(|(group, _, file)| values.named_file(group, file))
            .collect()
    }

    /// Checks everything. `host_name` is the node's name unless an option says otherwise.
    pub fn check(mut self, host_name: &str, secrets: &[SecretText]) -> Result<Loaded, Problems> {
        self.take_secrets(secrets);
        let mut values = Values::read(&self.layered, &self.files);
        let settings = settings::build(&mut values, host_name);
        let mut problems = self.problems;
        problems.append(&mut values.problems);
        let options = values.set;
        // Who looks at a fleet again and again isn't told each time what is odd about a daemon's options.
        problems.retain(|problem| {
            let is_odd = problem.severity != Severity::Error;
            !(is_odd && self.purpose == Purpose::Operator && self.purpose.tolerates(problem))
        });
        for problem in &mut problems {
            if problem.severity == Severity::Error
                && !self.strict
                && self.purpose.tolerates(problem)
            {
                problem.severity = Severity::Warning;
            }
        }
        problems.sort_by_cached_key(|problem| place(problem, &self.files));
        match settings {
            Ok(settings) => {
                let (settings, warnings) = settle(settings, problems)?;
                Ok(Loaded {
                    settings,
                    warnings,
                    options,
                })
            }
            Err(mismatch) => {
                problems.push(Problem::new(Severity::Error, mismatch.to_string()));
                Err(Problems::new(problems))
            }
        }
    }

    /// Puts the texts of files in the place of the options whose values they are.
    fn take_secrets(&mut self, secrets: &[SecretText]) {
        for &(group, name, file) in IN_FILES {
            let Some(path) = Values::new(&self.layered, &self.files).named_file(group, file) else {
                continue;
            };
            let origin = self.origin(group, file);
            let title = format!("[{group}] {file}");
            if let Some(other) = self.origin_of_text(group, name) {
                let message =
                    format!("found [{group}] {name} as well, at {other}, expected one of the two");
                self.report(Severity::Error, origin.as_ref(), title, message);
                continue;
            }
            let Some(secret) = secrets.iter().find(|secret| secret.path == path) else {
                continue;
            };
            if secret.is_public {
                let message = format!(
                    "every user may read {}, better its owner alone: chmod 600",
                    path.display()
                );
                self.report(Severity::Warning, origin.as_ref(), title.clone(), message);
            }
            match secret.text() {
                Ok("") => {
                    let message = format!("found nothing in {}, expected a secret", path.display());
                    self.report(Severity::Error, origin.as_ref(), title, message);
                }
                Ok(text) => {
                    let text = text.to_owned();
                    let origin = Origin::SecretFile(path);
                    let placed = Placed { text, origin };
                    self.layered.insert((group, name), vec![placed]);
                }
                Err(message) => self.report(Severity::Error, origin.as_ref(), title, message),
            }
        }
    }

    fn origin(&self, group: &'static str, name: &'static str) -> Option<Origin> {
        let setting = self.layered.get(&(group, name))?;
        setting.last().map(|placed| placed.origin.clone())
    }

    /// Where an option is set to more than nothing.
    fn origin_of_text(&self, group: &'static str, name: &'static str) -> Option<Origin> {
        let placed = self.layered.get(&(group, name))?.last()?;
        (!placed.text.is_empty()).then(|| placed.origin.clone())
    }

    fn report(
        &mut self,
        severity: Severity,
        origin: Option<&Origin>,
        title: String,
        message: String,
    ) {
        let problem = Problem::new(severity, message).set_at(origin, title);
        self.problems.push(problem);
    }
}

/// Makes the layers, lowest first.
fn layers_of(inputs: &Inputs<'_>, problems: &mut Vec<Problem>) -> Vec<Layer> {
    let mut sorter = Sorter::new(inputs.strict);
    let mut all: Vec<Layer> = Vec::new();
    for file in inputs.files {
        if file.text.len() > FILE_BYTES_MAX {
            let message = format!(
                "found {} bytes, expected {FILE_BYTES_MAX} at most",
                file.text.len()
            );
            problems.push(Problem::new(Severity::Error, message).in_file(&file.path, None));
            continue;
        }
        let document = ini::read(&file.text);
        all.push(sorter.file(&file.path.to_string_lossy(), &document, all.last()));
    }
    all.push(sorter.credentials(inputs.credentials));
    all.push(sorter.environment(inputs.environment));
    problems.extend(sorter.finish());
    all
}

/// Problems are told in the order of files and lines, what is in no file last.
fn place(problem: &Problem, files: &[PathBuf]) -> (usize, usize) {
    let is_it = |known: &PathBuf, file: &Path| known.to_string_lossy() == file.to_string_lossy();
    let file = problem
        .file
        .as_ref()
        .and_then(|file| files.iter().position(|known| is_it(known, file)));
    (file.unwrap_or(usize::MAX), problem.line.unwrap_or(0))
}
