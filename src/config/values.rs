//! Pure. From an option's text to its value: substitution of `$other` and then the rules of its
//! kind. Every wrong value is reported, and its default stands in so that the checks go on.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::command::{CommandLine, PluginSpec};
use super::in_force::{Origin, SetOption};
use super::kinds::{Parsed, parse_kind};
use super::layers::{Layered, Placed, Setting};
use super::options::{self, Kind, OPTIONS, OptionSpec};
use super::problem::{Problem, Severity};
use super::settings::Quorum;
use super::shown::{NOT_SHOWN, plain, plugin_shown, plugin_text, shown_value};
use super::substitution::SUBSTITUTIONS_MAX;
use crate::model::Secret;

/// How much of a wrong value is repeated in a message, in characters; the rest is left out.
const FOUND_CHARS_MAX: usize = 60;

/// Every known option's value, with where it came from.
pub(super) struct Values<'a> {
    layered: &'a Layered,
    files: &'a [PathBuf],
    parsed: HashMap<(&'static str, &'static str), Parsed>,
    /// Whether the text that was expanded last refers to a secret.
    pub(super) refers_to_secret: Cell<bool>,
    /// What is set, in the order of the table.
    pub(super) set: Vec<SetOption>,
    /// What is wrong so far.
    pub(super) problems: Vec<Problem>,
}

/// The table of options and the code that reads it disagree about an option's kind. A test that
/// reads every setting keeps this from happening.
#[derive(Debug, thiserror::Error)]
#[error("[{0}] {1} is not of the kind that the program reads it as")]
pub(super) struct Mismatch(&'static str, &'static str);

impl Mismatch {
    pub(super) fn new(group: &'static str, name: &'static str) -> Self {
        Mismatch(group, name)
    }
}

/// Writes the typed readers of [`Values`].
macro_rules! readers {
    ($($name:ident: $variant:ident as $type:ty;)+) => {
        impl Values<'_> {
            $(pub(super) fn $name(
                &self,
                group: &'static str,
                name: &'static str,
            ) -> Result<$type, Mismatch> {
                match self.parsed.get(&(group, name)) {
                    Some(Parsed::$variant(value)) => Ok(value.clone()),
                    _ => Err(Mismatch(group, name)),
                }
            })+
        }
    };
}

readers! {
    text: Text as String;
    secret: Secret as Secret;
    path: Path as PathBuf;
    file: File as Option<PathBuf>;
    truth: Bool as bool;
    int: Int as i64;
    float: Float as f64;
    seconds: Seconds as Duration;
    words: Words as Vec<String>;
    sources: Sources as Vec<IpAddr>;
    address: Address as Option<IpAddr>;
    listen: Listen as Option<SocketAddr>;
    tags: Tags as Vec<(String, String)>;
    quorum: Quorum as Quorum;
    command: Command as CommandLine;
    plugins: Plugins as Vec<PluginSpec>;
}

impl<'a> Values<'a> {
    /// Nothing read yet; `files` are the paths behind the origins in `layered`.
    pub(super) fn new(layered: &'a Layered, files: &'a [PathBuf]) -> Self {
        Values {
            layered,
            files,
            parsed: HashMap::new(),
            refers_to_secret: Cell::new(false),
            set: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Reads all options.
    pub(super) fn read(layered: &'a Layered, files: &'a [PathBuf]) -> Self {
        let mut values = Values::new(layered, files);
        let nothing = Layered::new();
        let defaults = Values::new(&nothing, files);
        for spec in OPTIONS {
            values.refers_to_secret.set(false);
            let parsed = match values.parse(spec) {
                Ok(parsed) => {
                    values.note_set(spec, &parsed);
                    Some(parsed)
                }
                Err(failures) => {
                    for failure in failures {
                        values.report_at(Severity::Error, spec, failure);
                    }
                    defaults.parse(spec).ok()
                }
            };
            if let Some(parsed) = parsed {
                values.parsed.insert((spec.group, spec.name), parsed);
            }
        }
        values
    }

    /// Remembers what an option is set to and where, if it is set.
    fn note_set(&mut self, spec: &'static OptionSpec, parsed: &Parsed) {
        let Some(setting) = self.setting(spec.group, spec.name) else {
            return;
        };
        let is_secret = self.refers_to_secret.get();
        let is_default = self.default_of(spec).as_ref() == Ok(parsed);
        let set_option = |(value, shown): (String, String), placed: &Placed| SetOption {
            spec,
            value: Secret::new(value),
            shown,
            origin: placed.origin.clone(),
            is_default,
        };
        match parsed {
            Parsed::Plugins(plugins) => {
                let each = plugins
                    .iter()
                    .map(|plugin| (plugin_text(plugin), plugin_shown(plugin)))
                    .zip(setting);
                self.set
                    .extend(each.map(|(text, placed)| set_option(text, placed)));
            }
            parsed => {
                let text = plain(parsed);
                let shown = if is_secret {
                    NOT_SHOWN.to_owned()
                } else {
                    shown_value(parsed, &text)
                };
                let last = setting.last();
                self.set
                    .extend(last.map(|placed| set_option((text, shown), placed)));
            }
        }
    }

    /// What an option would be if nothing set it.
    fn default_of(&self, spec: &OptionSpec) -> Result<Parsed, String> {
        if spec.kind == Kind::Plugins {
            return Ok(Parsed::Plugins(Vec::new()));
        }
        self.parse_text(spec, spec.default, None)
    }

    /// The file that an option names, if it names one and rightly.
    pub(super) fn named_file(&self, group: &str, name: &str) -> Option<PathBuf> {
        match self.parse(options::find(group, name)?).ok()? {
            Parsed::File(path) => path,
            _ => None,
        }
    }

    /// Gives an option a value that another option, which may refer to nothing, names for it; the
    /// error says what would be right.
    pub(super) fn override_with(
        &mut self,
        group: &str,
        name: &str,
        text: &str,
        by: (&str, &str),
    ) -> Result<(), String> {
        let Some(spec) = options::find(group, name) else {
            return Ok(());
        };
        let base = self.base(by.0, by.1);
        let parsed = parse_kind(spec.kind, text, &base).map_err(|wrong| wrong.expected)?;
        self.parsed.insert((spec.group, spec.name), parsed);
        Ok(())
    }

    /// Whether anything sets an option to what it takes, be it nothing.
    pub(super) fn is_set(&self, group: &str, name: &str) -> bool {
        let mut set = self.set.iter().map(|set| set.spec);
        set.any(|spec| spec.group == group && spec.name == name)
    }

    /// Adds a problem about an option, at the place where it is set.
    pub(super) fn report(
        &mut self,
        severity: Severity,
        group: &str,
        name: &str,
        message: impl Into<String>,
    ) {
        let origin = self.origin(group, name).cloned();
        self.push(
            severity,
            format!("[{group}] {name}"),
            origin.as_ref(),
            message.into(),
        );
    }

    fn report_at(&mut self, severity: Severity, spec: &OptionSpec, failure: Failure<'_>) {
        let origin = &failure.placed.origin;
        self.push(severity, spec.title(), Some(origin), failure.message);
    }

    fn push(
        &mut self,
        severity: Severity,
        title: String,
        origin: Option<&Origin>,
        message: String,
    ) {
        self.problems
            .push(Problem::new(severity, message).set_at(origin, title));
    }

    /// The directory where a relative path in this option starts: that of the file that holds it,
    /// else that of the first file.
    pub(super) fn base(&self, group: &str, name: &str) -> PathBuf {
        self.base_of(self.origin(group, name))
    }

    pub(super) fn base_of(&self, origin: Option<&Origin>) -> PathBuf {
        let file = match origin {
            Some(Origin::File(file, _) | Origin::SecretFile(file)) => Some(file),
            Some(Origin::Credential(_) | Origin::Variable(_)) | None => self.files.first(),
        };
        file.and_then(|file| file.parent())
            .map(Path::to_path_buf)
            .unwrap_or_default()
    }

    pub(super) fn setting(&self, group: &str, name: &str) -> Option<&'a Setting> {
        let spec = options::find(group, name)?;
        self.layered.get(&(spec.group, spec.name))
    }

    pub(super) fn origin(&self, group: &str, name: &str) -> Option<&'a Origin> {
        self.setting(group, name)
            .and_then(|setting| setting.last())
            .map(|placed| &placed.origin)
    }

    /// Reads one option. An unset one fails without a word: its default is wrong only through
    /// another option, which has a failure of its own. Of several texts all are checked; plug-ins are
    /// all kept, of everything else the last.
    fn parse(&self, spec: &OptionSpec) -> Result<Parsed, Vec<Failure<'a>>> {
        let Some(setting) = self.setting(spec.group, spec.name) else {
            return self.default_of(spec).map_err(|_| Vec::new());
        };
        let mut last = Parsed::Words(Vec::new());
        let mut failures = Vec::new();
        for placed in setting {
            match self.parse_text(spec, &placed.text, Some(&placed.origin)) {
                Ok(parsed) => match join(&mut last, parsed) {
                    Ok(()) => {}
                    Err(message) => failures.push(Failure { placed, message }),
                },
                Err(message) => failures.push(Failure { placed, message }),
            }
        }
        if failures.is_empty() {
            Ok(last)
        } else {
            Err(failures)
        }
    }

    fn parse_text(
        &self,
        spec: &OptionSpec,
        text: &str,
        origin: Option<&Origin>,
    ) -> Result<Parsed, String> {
        let expanded = if origin.is_some_and(Origin::is_literal) {
            text.to_owned()
        } else {
            self.expand(spec, text, &mut { SUBSTITUTIONS_MAX })?
        };
        let base = self.base_of(origin);
        parse_kind(spec.kind, &expanded, &base).map_err(|wrong| {
            // What is shown is the text of the file: the substituted one may hold a secret.
            let part = wrong.found.filter(|found| text.contains(found.as_str()));
            wrong_value(
                spec.kind,
                part.as_deref().unwrap_or(shown(spec.kind, text)),
                &wrong.expected,
            )
        })
    }
}

/// How much of a plug-in's declaration is shown: its name, because an argument may be a secret.
fn shown(kind: Kind, text: &str) -> &str {
    match kind {
        Kind::Plugins => text.split_whitespace().next().unwrap_or_default(),
        _ => text,
    }
}

/// Lets a further text of one option join those before it.
fn join(before: &mut Parsed, parsed: Parsed) -> Result<(), String> {
    let (Parsed::Plugins(all), Parsed::Plugins(more)) = (&mut *before, &parsed) else {
        *before = parsed;
        return Ok(());
    };
    for plugin in more {
        if all.iter().any(|other| other.name == plugin.name) {
            let name = &plugin.name;
            return Err(format!("found {name:?} again, expected each name once"));
        }
        all.push(plugin.clone());
    }
    Ok(())
}

/// A text that was given to an option and is wrong.
struct Failure<'a> {
    placed: &'a Placed,
    message: String,
}

fn wrong_value(kind: Kind, found: &str, expected: &str) -> String {
    let count = found.chars().count();
    if is_secret(kind) {
        format!("found a secret of {count} characters, expected {expected}")
    } else if found.is_empty() {
        format!("found nothing, expected {expected}")
    } else if count > FOUND_CHARS_MAX {
        let start: String = found.chars().take(FOUND_CHARS_MAX).collect();
        format!(
            "found {start:?} and {} more characters, expected {expected}",
            count - FOUND_CHARS_MAX
        )
    } else {
        format!("found {found:?}, expected {expected}")
    }
}

pub(super) fn is_secret(kind: Kind) -> bool {
    matches!(kind, Kind::Secret | Kind::Connection | Kind::Command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_fits_its_kind() {
        let layered = Layered::new();
        let values = Values::read(&layered, &[]);
        assert_eq!(values.problems, []);
        assert_eq!(values.parsed.len(), OPTIONS.len());
    }
}
