//! Pure. Puts files and the environment on top of each other: which text does each known option
//! have in the end, and where does it come from. Misspelt, outdated and foreign names are found on
//! the way.
//!
//! Each file and the environment become one [`config::Source`]; which one wins is the `config`
//! crate's business. Only names of our own table get into a layer, so no text of a file is ever
//! read as one of that crate's paths.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use config::{Config, ConfigError, Map, Source, Value, ValueKind};

use super::draft::SecretText;
use super::foreign;
use super::in_force::Origin;
use super::ini::{Document, Entry, Fault, FaultKind};
use super::names::{self, Hints, is_own_section, shorten};
use super::options::{self, DEFAULT, Effect, OPTIONS, OptionSpec};
use super::problem::{Problem, Severity};

/// The header in the original deployment's sample file, which must go on working.
const MISSPELT_DEFAULT: &str = "DEAFULT";

/// What one option was given: a text for each time it was set, if it may be set several times;
/// otherwise one.
pub(super) type Setting = Vec<Placed>;

/// A text and where it stands.
#[derive(Clone)]
pub(super) struct Placed {
    /// The text.
    pub(super) text: String,
    /// Where.
    pub(super) origin: Origin,
}

/// What every option that is set at all is set to.
pub(super) type Layered = HashMap<(&'static str, &'static str), Setting>;

/// One file, or the environment.
#[derive(Clone, Default)]
pub(super) struct Layer {
    settings: BTreeMap<(&'static str, &'static str), Setting>,
}

impl std::fmt::Debug for Layer {
    /// Leaves the texts out: some are secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.settings.keys()).finish()
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        let entry = |((group, name), setting): (&(&str, &str), &Setting)| {
            let values: Vec<Value> = setting
                .iter()
                .map(|placed| {
                    let text = ValueKind::String(placed.text.clone());
                    Value::new(Some(&placed.origin.tag()), text)
                })
                .collect();
            let key = format!("{group}.{name}");
            (key, Value::new(None, ValueKind::Array(values)))
        };
        Ok(self.settings.iter().map(entry).collect())
    }
}

/// Lets the later layers win over the earlier ones.
pub(super) fn merge(layers: Vec<Layer>) -> Result<Layered, ConfigError> {
    let mut builder = Config::builder();
    for layer in layers {
        builder = builder.add_source(layer);
    }
    let merged = builder.build()?;
    let mut layered = Layered::new();
    for spec in OPTIONS {
        match merged.get_array(&format!("{}.{}", spec.group, spec.name)) {
            Ok(values) => {
                layered.insert((spec.group, spec.name), setting_of(values)?);
            }
            Err(ConfigError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(layered)
}

fn setting_of(values: Vec<Value>) -> Result<Setting, ConfigError> {
    let placed = |value: Value| {
        let origin = Origin::from_tag(value.origin().unwrap_or_default());
        let text = value.into_string()?;
        Ok(Placed { text, origin })
    };
    values.into_iter().map(placed).collect()
}

/// Makes layers, and remembers what was odd about the names in them.
pub(super) struct Sorter {
    strict: bool,
    hints: Hints,
    /// What is odd so far.
    pub(super) problems: Vec<Problem>,
    foreign_sections: BTreeSet<String>,
    foreign_options: BTreeSet<String>,
    ignored: BTreeSet<String>,
}

impl Sorter {
    /// With `strict`, unknown names are errors.
    pub(super) fn new(strict: bool) -> Self {
        Sorter {
            strict,
            hints: Hints::default(),
            problems: Vec::new(),
            foreign_sections: BTreeSet::new(),
            foreign_options: BTreeSet::new(),
            ignored: BTreeSet::new(),
        }
    }

    /// A layer from a file. Options that may be set several times go on from the layer below.
    pub(super) fn file(&mut self, file: &str, document: &Document, below: Option<&Layer>) -> Layer {
        self.check_faults(file, document);
        self.check_sections(file, document);
        let mut layer = Layer::default();
        // Old names come second, so that the new one wins wherever it stands; of several old ones, the
        // one that comes first in the table.
        let mut old: Vec<(usize, &'static OptionSpec, &Entry)> = Vec::new();
        for entry in &document.entries {
            let group = real_section(&entry.section);
            if let Some(spec) = options::find(group, &entry.key) {
                self.set(&mut layer, spec, file, entry);
            } else if let Some((spec, rank)) = options::find_deprecated(group, &entry.key) {
                old.push((rank, spec, entry));
            } else {
                self.unknown(file, group, entry);
            }
        }
        old.sort_by_key(|(rank, _, _)| *rank);
        self.set_by_old_names(&mut layer, file, &old);
        if let Some(below) = below {
            layer.go_on_from(below);
        }
        layer
    }

    /// The layer of systemd's credentials, each named `<group>.<option>`.
    pub(super) fn credentials(&mut self, credentials: &[SecretText]) -> Layer {
        let mut layer = Layer::default();
        for file in credentials {
            let credential = file.path.file_name().unwrap_or_default().to_string_lossy();
            let credential = credential.as_ref();
            let (group, name) = credential.split_once('.').unwrap_or((DEFAULT, credential));
            if let Some(spec) = find_by_any_name(group, name) {
                self.note_effect(spec);
                let origin = Origin::Credential(credential.to_owned());
                match file.text() {
                    Ok(text) => {
                        let text = text.to_owned();
                        let placed = Placed { text, origin };
                        layer.settings.insert((spec.group, spec.name), vec![placed]);
                    }
                    Err(message) => self.problems.push(
                        Problem::new(Severity::Error, message).set_at(Some(&origin), spec.title()),
                    ),
                }
            } else {
                let hint = self.hints.credential(credential);
                let message =
                    format!("unknown credential, expected the name <group>.<option>{hint}");
                let severity = self.severity_of_unknown();
                let about = format!("credential {}", shorten(credential));
                self.problems
                    .push(Problem::new(severity, message).about(about));
            }
        }
        layer
    }

    /// The layer of `OS_<GROUP>__<OPTION>` variables.
    pub(super) fn environment(&mut self, variables: &[(String, String)]) -> Layer {
        let mut layer = Layer::default();
        for (variable, text) in variables {
            let Some((group, name)) = names::option_of_variable(variable) else {
                continue;
            };
            let is_known_name = OPTIONS.iter().any(|spec| spec.name == name);
            if let Some(spec) = find_by_any_name(&group, &name) {
                self.note_effect(spec);
                let placed = Placed {
                    text: text.clone(),
                    origin: Origin::Variable(variable.clone()),
                };
                layer.settings.insert((spec.group, spec.name), vec![placed]);
            } else if foreign::is_option(&group, &name) {
                // Somebody else's.
            } else if is_own_section(&group) || is_known_name {
                let message = format!("unknown option{}", self.hints.option(&group, &name));
                let severity = self.severity_of_unknown();
                self.problems
                    .push(Problem::new(severity, message).about(shorten(variable)));
            }
        }
        layer
    }

    /// What is left to say once about all layers together.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        if !self.foreign_sections.is_empty() || !self.foreign_options.is_empty() {
            let sections = self.foreign_sections.iter().map(|name| format!("[{name}]"));
            let all: Vec<String> = sections
                .chain(self.foreign_options.iter().cloned())
                .collect();
            let message = format!("ignored, they belong to other services: {}", all.join(", "));
            self.problems.push(Problem::new(Severity::Note, message));
        }
        if !self.ignored.is_empty() {
            let all: Vec<String> = self.ignored.iter().cloned().collect();
            let message = format!(
                "accepted, but without effect in this version: {}",
                all.join(", ")
            );
            self.problems.push(Problem::new(Severity::Note, message));
        }
        self.problems
    }

    fn severity_of_unknown(&self) -> Severity {
        if self.strict {
            Severity::Error
        } else {
            Severity::Warning
        }
    }

    /// Lines that are neither sections nor options, each with what it was probably meant to be.
    fn check_faults(&mut self, file: &str, document: &Document) {
        for Fault { line, kind, place } in &document.faults {
            let hint = match (kind, place) {
                (FaultKind::OpenHeader | FaultKind::LostHeader, Some((_, text))) => {
                    self.hints.header(text)
                }
                (FaultKind::NoSeparator, Some((section, text))) => {
                    self.hints.line(real_section(section), text)
                }
                _ => String::new(),
            };
            let message = format!("{kind}{hint}");
            let problem = Problem::new(Severity::Error, message);
            self.problems.push(problem.in_file(file, Some(*line)));
        }
    }

    fn check_sections(&mut self, file: &str, document: &Document) {
        let mut seen = BTreeSet::new();
        for section in &document.sections {
            if !seen.insert(section.name.as_str()) || names::is_known_section(&section.name) {
                continue;
            }
            let (severity, message) = if section.name == MISSPELT_DEFAULT {
                let message = format!("unknown section, read as [{DEFAULT}]; correct the header");
                (Severity::Warning, message)
            } else {
                let hint = self.hints.section(&section.name);
                let message = format!("unknown section, its options are ignored{hint}");
                (self.severity_of_unknown(), message)
            };
            let problem = Problem::new(severity, message)
                .in_file(file, Some(section.line))
                .about(format!("[{}]", shorten(&section.name)));
            self.problems.push(problem);
        }
    }

    fn set(&mut self, layer: &mut Layer, spec: &'static OptionSpec, file: &str, entry: &Entry) {
        self.note_effect(spec);
        let placed = Placed {
            text: entry.value.clone(),
            origin: Origin::File(file.into(), entry.line),
        };
        let setting = layer.settings.entry((spec.group, spec.name)).or_default();
        if let Some(before) = setting.last().filter(|_| !spec.is_multi()) {
            let before = match &before.origin {
                Origin::File(path, line) if path.as_os_str() == file => format!("line {line}"),
                other => other.to_string(),
            };
            let message = format!("set again; the value of {before} is overridden");
            self.problems.push(
                Problem::new(Severity::Warning, message)
                    .in_file(file, Some(entry.line))
                    .about(spec.title()),
            );
            setting.clear();
        }
        setting.push(placed);
    }

    fn set_by_old_names(
        &mut self,
        layer: &mut Layer,
        file: &str,
        old: &[(usize, &'static OptionSpec, &Entry)],
    ) {
        let mut set_by: HashMap<&str, usize> = HashMap::new();
        // Of an option with several values, those by old names come first, in the order of the lines.
        let mut earlier = Layer::default();
        for &(rank, spec, entry) in old {
            let mut message = format!("deprecated, use {}", spec.title());
            let is_set = layer.settings.contains_key(&(spec.group, spec.name));
            if spec.is_multi() {
                self.set(&mut earlier, spec, file, entry);
            } else if !is_set || set_by.get(spec.name) == Some(&rank) {
                set_by.insert(spec.name, rank);
                self.set(layer, spec, file, entry);
            } else {
                message.push_str(", which is set as well and wins");
            }
            self.problems.push(
                Problem::new(Severity::Warning, message)
                    .in_file(file, Some(entry.line))
                    .about(format!("[{}] {}", entry.section, entry.key)),
            );
        }
        layer.go_on_from(&earlier);
    }

    fn unknown(&mut self, file: &str, group: &str, entry: &Entry) {
        if foreign::is_section(group) {
            self.foreign_sections.insert(shorten(group));
        } else if foreign::is_option(group, &entry.key) {
            self.foreign_options
                .insert(format!("[{group}] {}", shorten(&entry.key)));
        } else if is_own_section(group) {
            self.problems.push(
                Problem::new(
                    self.severity_of_unknown(),
                    format!("unknown option{}", self.hints.option(group, &entry.key)),
                )
                .in_file(file, Some(entry.line))
                .about(format!("[{group}] {}", shorten(&entry.key))),
            );
        }
    }

    fn note_effect(&mut self, spec: &OptionSpec) {
        if spec.effect == Effect::Ignored {
            self.ignored.insert(spec.title());
        }
    }
}

impl Layer {
    /// Puts the texts of the layer below before those of this one, where an option takes several.
    fn go_on_from(&mut self, below: &Layer) {
        for spec in OPTIONS.iter().filter(|spec| spec.is_multi()) {
            let key = (spec.group, spec.name);
            if let Some(earlier) = below.settings.get(&key) {
                let setting = self.settings.entry(key).or_default();
                setting.splice(0..0, earlier.iter().cloned());
            }
        }
    }
}

fn find_by_any_name(group: &str, name: &str) -> Option<&'static OptionSpec> {
    options::find(group, name)
        .or_else(|| options::find_deprecated(group, name).map(|(spec, _)| spec))
}

fn real_section(name: &str) -> &str {
    if name == MISSPELT_DEFAULT {
        DEFAULT
    } else {
        name
    }
}
