//! Pure. Puts files and the environment on top of each other: which text does each known option
//! have in the end, and where does it come from. Misspelt, outdated and foreign names are found on
//! the way.
//!
//! Each file and the environment become one [`config::Source`]; which one wins is the `config`
//! crate's business. Only names of our own table get into a layer, so no text of a file is ever
//! read as one of that crate's paths.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use config::{Config, ConfigError, Map, Source, Value, ValueKind};

use super::foreign;
use super::ini::{Document, Entry};
use super::nearest::nearest;
use super::options::{self, DEFAULT, Effect, OPTIONS, OptionSpec};
use super::problem::{Problem, Severity};

/// The header in the original deployment's sample file, which must go on working.
const MISSPELT_DEFAULT: &str = "DEAFULT";

/// Longer names are not repeated in a message: they are rather a line gone astray.
const NAME_CHARS_MAX: usize = 64;

/// What one option was given: a text for each time it was set, if it may be set several times;
/// otherwise one.
pub(super) type Setting = Vec<Placed>;

/// A text and where it stands.
#[derive(Clone)]
pub(super) struct Placed {
    /// The text.
    pub(super) text: String,
    /// `file:line`, or the name of a variable.
    pub(super) origin: String,
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
                    Value::new(Some(&placed.origin), text)
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
        let origin = value.origin().unwrap_or_default().to_owned();
        let text = value.into_string()?;
        Ok(Placed { text, origin })
    };
    values.into_iter().map(placed).collect()
}

/// Makes layers, and remembers what was odd about the names in them.
pub(super) struct Sorter {
    strict: bool,
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
            problems: Vec::new(),
            foreign_sections: BTreeSet::new(),
            foreign_options: BTreeSet::new(),
            ignored: BTreeSet::new(),
        }
    }

    /// A layer from a file. Options that may be set several times go on from the layer below.
    pub(super) fn file(&mut self, file: &str, document: &Document, below: Option<&Layer>) -> Layer {
        self.check_sections(file, document);
        let mut layer = Layer::default();
        for entry in &document.entries {
            let group = real_section(&entry.section);
            if let Some(spec) = options::find(group, &entry.key) {
                self.set(&mut layer, spec, file, entry);
            } else if options::find_deprecated(group, &entry.key).is_none() {
                self.unknown(file, group, entry);
            }
        }
        // Old names come second, so that the new one wins wherever it stands.
        for entry in &document.entries {
            let group = real_section(&entry.section);
            if let Some(spec) = options::find_deprecated(group, &entry.key) {
                self.set_by_old_name(&mut layer, spec, file, entry);
            }
        }
        if let Some(below) = below {
            layer.go_on_from(below);
        }
        layer
    }

    /// The layer of `OS_<GROUP>__<OPTION>` variables.
    pub(super) fn environment(&mut self, variables: &[(String, String)]) -> Layer {
        let mut layer = Layer::default();
        for (variable, text) in variables {
            let Some((group, name)) = option_of_variable(variable) else {
                continue;
            };
            if let Some(spec) =
                options::find(&group, &name).or_else(|| options::find_deprecated(&group, &name))
            {
                self.note_effect(spec);
                let placed = Placed {
                    text: text.clone(),
                    origin: variable.clone(),
                };
                layer.settings.insert((spec.group, spec.name), vec![placed]);
            } else if is_own_section(&group) && !foreign::is_option(&group, &name) {
                let message = format!("unknown option{}", hint(&group, &name));
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

    fn check_sections(&mut self, file: &str, document: &Document) {
        let mut seen = BTreeSet::new();
        for section in &document.sections {
            if !seen.insert(section.name.as_str()) || is_known_section(&section.name) {
                continue;
            }
            let (severity, message) = if section.name == MISSPELT_DEFAULT {
                let message = format!("unknown section, read as [{DEFAULT}]; correct the header");
                (Severity::Warning, message)
            } else {
                let mut message = "unknown section, its options are ignored".to_owned();
                if let Some(meant) = nearest(&section.name, section_names()) {
                    message.push_str(&format!("; the nearest known one is [{meant}]"));
                }
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
            origin: format!("{file}:{}", entry.line),
        };
        let setting = layer.settings.entry((spec.group, spec.name)).or_default();
        if let Some(before) = setting.last().filter(|_| !spec.is_multi()) {
            let message = format!(
                "set again; the value of {} is overridden",
                before.origin.replacen(&format!("{file}:"), "line ", 1)
            );
            self.problems.push(
                Problem::new(Severity::Warning, message)
                    .in_file(file, Some(entry.line))
                    .about(spec.title()),
            );
            setting.clear();
        }
        setting.push(placed);
    }

    fn set_by_old_name(
        &mut self,
        layer: &mut Layer,
        spec: &'static OptionSpec,
        file: &str,
        entry: &Entry,
    ) {
        let mut message = format!("deprecated, use {}", spec.title());
        if layer.settings.contains_key(&(spec.group, spec.name)) {
            message.push_str(", which is set as well and wins");
        } else {
            self.set(layer, spec, file, entry);
        }
        self.problems.push(
            Problem::new(Severity::Warning, message)
                .in_file(file, Some(entry.line))
                .about(format!("[{}] {}", entry.section, entry.key)),
        );
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
                    format!("unknown option{}", hint(group, &entry.key)),
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

fn real_section(name: &str) -> &str {
    if name == MISSPELT_DEFAULT {
        DEFAULT
    } else {
        name
    }
}

fn section_names() -> impl Iterator<Item = &'static str> {
    OPTIONS.iter().map(|spec| spec.group)
}

fn is_own_section(name: &str) -> bool {
    section_names().any(|known| options::same_group(known, name))
}

fn is_known_section(name: &str) -> bool {
    is_own_section(name) || foreign::is_section(name)
}

/// `OS_COMPUTE__PING_COUNT` is `[compute] ping_count`; most other variables are none of ours.
fn option_of_variable(variable: &str) -> Option<(String, String)> {
    let (group, name) = variable.strip_prefix("OS_")?.split_once("__")?;
    let group = if group == DEFAULT {
        group.to_owned()
    } else {
        group.to_lowercase()
    };
    Some((group, name.to_lowercase()))
}

/// What an unknown option was probably meant to be.
fn hint(group: &str, name: &str) -> String {
    if name
        .chars()
        .any(|c| !c.is_ascii_alphanumeric() && !"_-.".contains(c))
    {
        return ", expected a name of letters, digits and '_' before the separator".to_owned();
    }
    if let Some(elsewhere) = OPTIONS.iter().find(|spec| spec.name == name) {
        return format!(" here; did you mean {}", elsewhere.title());
    }
    let neighbours = OPTIONS
        .iter()
        .filter(|spec| options::same_group(spec.group, group))
        .map(|spec| spec.name);
    nearest(name, neighbours).map_or_else(String::new, |meant| {
        format!("; the nearest known one is {meant}")
    })
}

/// A name, if it is one; a line that went astray may hold a secret and is only counted.
fn shorten(name: &str) -> String {
    let count = name.chars().count();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:/".contains(c);
    if count <= NAME_CHARS_MAX && name.chars().all(plain) {
        name.to_owned()
    } else {
        format!("(a name of {count} characters)")
    }
}
