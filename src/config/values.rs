//! Pure. From an option's text to its value: substitution of `$other` and then the rules of its
//! kind. Every wrong value is reported, and its default stands in so that the checks go on.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::command::{self, CommandLine, PluginSpec};
use super::in_force::{Origin, SetOption};
use super::layers::{Layered, Placed, Setting};
use super::options::{self, DEFAULT, Kind, OPTIONS, OptionSpec};
use super::problem::{Problem, Severity};
use super::settings::Quorum;
use crate::model::Secret;

/// How many `$other` may be followed for one value. Real files nest two or three; what has more is
/// a circle, and is refused.
const SUBSTITUTIONS_MAX: usize = 100;

/// How much of a wrong value is repeated in a message, in characters; the rest is left out.
const FOUND_CHARS_MAX: usize = 60;

/// The longest interface name, as the kernel has it: IFNAMSIZ less the final zero.
const INTERFACE_BYTES_MAX: usize = 15;

/// The longest host name, RFC 1123.
const HOST_BYTES_MAX: usize = 253;

/// The longest part of a host name between dots, RFC 1123.
const LABEL_BYTES_MAX: usize = 63;

/// Every known option's value, with where it came from.
pub(super) struct Values<'a> {
    layered: &'a Layered,
    files: &'a [PathBuf],
    parsed: HashMap<(&'static str, &'static str), Parsed>,
    /// What is set, in the order of the table.
    pub(super) set: Vec<SetOption>,
    /// What is wrong so far.
    pub(super) problems: Vec<Problem>,
}

/// A value that fits its kind.
#[derive(Debug, Clone, PartialEq)]
enum Parsed {
    Text(String),
    Secret(Secret),
    Path(PathBuf),
    File(Option<PathBuf>),
    Bool(bool),
    Int(i64),
    Float(f64),
    Seconds(Duration),
    Words(Vec<String>),
    Sources(Vec<IpAddr>),
    Address(Option<IpAddr>),
    Listen(Option<SocketAddr>),
    Tags(Vec<(String, String)>),
    Quorum(Quorum),
    Command(CommandLine),
    Plugins(Vec<PluginSpec>),
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
                let shown = shown_value(parsed, &text);
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

    fn base_of(&self, origin: Option<&Origin>) -> PathBuf {
        let file = match origin {
            Some(Origin::File(file, _) | Origin::SecretFile(file)) => Some(file),
            Some(Origin::Credential(_) | Origin::Variable(_)) | None => self.files.first(),
        };
        file.and_then(|file| file.parent())
            .map(Path::to_path_buf)
            .unwrap_or_default()
    }

    fn setting(&self, group: &str, name: &str) -> Option<&'a Setting> {
        let spec = options::find(group, name)?;
        self.layered.get(&(spec.group, spec.name))
    }

    fn origin(&self, group: &str, name: &str) -> Option<&'a Origin> {
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

    /// Replaces `$name`, `$group.name` and the same in braces; `$$` and `\$` are a plain dollar
    /// sign. The rules are those of oslo.config, which has them from Python's `string.Template`.
    fn expand(&self, spec: &OptionSpec, text: &str, budget: &mut usize) -> Result<String, String> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            if let Some(before) = before.strip_suffix('\\') {
                out.push_str(before);
                out.push('$');
                rest = after;
                continue;
            }
            out.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                out.push('$');
                rest = after;
            } else if let Some((name, after)) = reference(after) {
                *budget = budget
                    .checked_sub(1)
                    .ok_or("refers to itself through '$'")?;
                out.push_str(&self.look_up(spec, name, budget)?);
                rest = after;
            } else {
                out.push('$');
                rest = after;
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    fn look_up(&self, spec: &OptionSpec, name: &str, budget: &mut usize) -> Result<String, String> {
        let found = match name.split_once('.') {
            Some((group, name)) => options::find(group, name),
            None => options::find(spec.group, name).or_else(|| options::find(DEFAULT, name)),
        };
        let Some(found) = found else {
            // The name is not repeated for a secret: it may be a piece of it.
            let named = if is_secret(spec.kind) {
                "a '$' refers to an unknown option".to_owned()
            } else {
                format!("'${name}' refers to an unknown option")
            };
            return Err(format!(
                "{named}; write $$ for a plain '$', ${{name}} to end a name early"
            ));
        };
        let text = match self.setting(found.group, found.name) {
            Some(setting) => setting.last().map_or("", |placed| placed.text.as_str()),
            None => found.default,
        };
        let origin = self.origin(found.group, found.name);
        let text = if origin.is_some_and(Origin::is_literal) {
            text.to_owned()
        } else {
            self.expand(found, text, budget)?
        };
        let is_set_file = found.kind == Kind::File && !text.is_empty();
        if found.kind == Kind::Path || is_set_file {
            let path = self.base(found.group, found.name).join(text);
            return Ok(path.to_string_lossy().into_owned());
        }
        Ok(text)
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

/// A text that doesn't fit its kind.
pub(super) struct Wrong {
    /// The part of it that doesn't; None if all of it.
    found: Option<String>,
    expected: String,
}

pub(super) fn wrong(expected: impl Into<String>) -> Wrong {
    Wrong {
        found: None,
        expected: expected.into(),
    }
}

pub(super) fn wrong_part(found: &str, expected: impl Into<String>) -> Wrong {
    Wrong {
        found: Some(found.to_owned()),
        expected: expected.into(),
    }
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

fn is_secret(kind: Kind) -> bool {
    matches!(kind, Kind::Secret | Kind::Connection | Kind::Command)
}

/// A value as it is written plainly.
fn plain(parsed: &Parsed) -> String {
    match parsed {
        Parsed::Text(text) => text.clone(),
        Parsed::Secret(secret) => secret.expose().to_owned(),
        Parsed::Path(path) => path.to_string_lossy().into_owned(),
        Parsed::File(path) => path
            .as_deref()
            .map_or_else(String::new, |path| path.to_string_lossy().into_owned()),
        Parsed::Bool(truth) => truth.to_string(),
        Parsed::Int(number) => number.to_string(),
        Parsed::Float(number) => number.to_string(),
        Parsed::Seconds(time) => time.as_secs_f64().to_string(),
        Parsed::Words(words) => words.join(", "),
        Parsed::Sources(addresses) => joined(addresses),
        Parsed::Address(address) => address.map_or_else(String::new, |one| one.to_string()),
        Parsed::Listen(address) => address.map_or_else(String::new, |one| one.to_string()),
        Parsed::Tags(tags) => {
            let tags: Vec<String> = tags.iter().map(|(k, v)| format!("{k}:{v}")).collect();
            tags.join(", ")
        }
        Parsed::Quorum(quorum) => quorum.to_string(),
        Parsed::Command(command) => command_text(command),
        Parsed::Plugins(plugins) => {
            let plugins: Vec<String> = plugins.iter().map(plugin_text).collect();
            plugins.join(", ")
        }
    }
}

/// A value for people, given as it is written plainly.
fn shown_value(parsed: &Parsed, plain: &str) -> String {
    match parsed {
        _ if plain.is_empty() => "nothing".to_owned(),
        Parsed::Secret(_) => "set, not shown".to_owned(),
        Parsed::Command(command) => command_shown(command),
        _ => printable(plain),
    }
}

fn plugin_shown(plugin: &PluginSpec) -> String {
    let format = plugin.format.as_str();
    format!(
        "{} {format} {}",
        plugin.name,
        command_shown(&plugin.command)
    )
}

fn command_shown(command: &CommandLine) -> String {
    let program = printable(&command.program);
    match command.arguments.len() {
        0 => program,
        1 => format!("{program}, 1 argument not shown"),
        more => format!("{program}, {more} arguments not shown"),
    }
}

/// The text on one line: a terminal must not take a value for a command to itself.
fn printable(text: &str) -> String {
    let plain = |c: char| {
        if c.is_control() {
            c.escape_debug().to_string()
        } else {
            c.to_string()
        }
    };
    text.chars().map(plain).collect()
}

fn joined<T: ToString>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    items.join(", ")
}

fn plugin_text(plugin: &PluginSpec) -> String {
    let format = plugin.format.as_str();
    format!("{} {format} {}", plugin.name, command_text(&plugin.command))
}

/// A word with blanks gets its quotes back.
fn command_text(command: &CommandLine) -> String {
    let arguments = command.arguments.iter().map(Secret::expose);
    let words = std::iter::once(command.program.as_str()).chain(arguments);
    let words: Vec<String> = words
        .map(|word| {
            if word.is_empty() || word.contains(char::is_whitespace) {
                format!("\"{word}\"")
            } else {
                word.to_owned()
            }
        })
        .collect();
    words.join(" ")
}

/// Takes the name of `$name` or `${name}` off the text after the dollar sign.
fn reference(after: &str) -> Option<(&str, &str)> {
    if let Some(inside) = after.strip_prefix('{') {
        let (name, rest) = inside.split_once('}')?;
        return (name_length(name) == name.len() && !name.is_empty()).then_some((name, rest));
    }
    let length = name_length(after);
    (length > 0).then(|| after.split_at(length))
}

fn name_length(text: &str) -> usize {
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts {
        return 0;
    }
    text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.')
        .unwrap_or(text.len())
}

fn parse_kind(kind: Kind, text: &str, base: &Path) -> Result<Parsed, Wrong> {
    let many = matches!(
        kind,
        Kind::List | Kind::Choices(_) | Kind::Hosts | Kind::Sources | Kind::Tags
    );
    // A value that begins on the line below its name still has one line.
    let text = text.strip_prefix('\n').unwrap_or(text);
    if !many && text.contains('\n') {
        return Err(wrong("one line; indented lines continue the value"));
    }
    match kind {
        Kind::Text => Ok(Parsed::Text(text.to_owned())),
        Kind::Secret => Ok(Parsed::Secret(Secret::new(text))),
        Kind::Connection => connection(text, base),
        Kind::Path if text.is_empty() => Err(wrong("a path")),
        Kind::Path => Ok(Parsed::Path(base.join(text))),
        Kind::File if text.is_empty() => Ok(Parsed::File(None)),
        Kind::File => Ok(Parsed::File(Some(base.join(text)))),
        Kind::Interface => interface(text),
        Kind::Bool => truth(text),
        Kind::Int { least, most } => int(text, least, most),
        Kind::Float { least, most } => float(text, least, most).map(Parsed::Float),
        Kind::Seconds { least, most } => seconds(text, least, most),
        Kind::Choice(words) => choice(text, words),
        Kind::Choices(words) => choices(text, words),
        Kind::Multi(words) if words.contains(&text) => Ok(Parsed::Words(items(text))),
        Kind::Multi(words) => Err(wrong(format!("{}: no other is built", one_of(words)))),
        Kind::List => Ok(Parsed::Words(items(text))),
        Kind::Command => command::command(text).map(Parsed::Command),
        Kind::Plugins => command::plugin(text).map(|plugin| Parsed::Plugins(vec![plugin])),
        Kind::Hosts => hosts(text),
        Kind::Sources => sources(text),
        Kind::Address => address(text),
        Kind::Listen => listen(text),
        Kind::Tags => tags(text),
        Kind::Quorum => quorum(text),
    }
}

fn items(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

fn truth(text: &str) -> Result<Parsed, Wrong> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "on" | "yes" => Ok(Parsed::Bool(true)),
        "false" | "0" | "off" | "no" => Ok(Parsed::Bool(false)),
        _ => Err(wrong("true or false")),
    }
}

fn int(text: &str, least: i64, most: i64) -> Result<Parsed, Wrong> {
    let number = text.parse().ok();
    number
        .filter(|number| (least..=most).contains(number))
        .map(Parsed::Int)
        .ok_or_else(|| {
            wrong(if least == i64::MIN {
                format!("a whole number up to {most}")
            } else {
                format!("a whole number from {least} to {most}")
            })
        })
}

fn float(text: &str, least: f64, most: f64) -> Result<f64, Wrong> {
    let number = text.parse().ok();
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| wrong(format!("a number from {least} to {most}")))
}

fn seconds(text: &str, least: f64, most: f64) -> Result<Parsed, Wrong> {
    float(text, least, most)
        .ok()
        .and_then(|number| Duration::try_from_secs_f64(number).ok())
        .map(Parsed::Seconds)
        .ok_or_else(|| wrong(format!("seconds from {least} to {most}")))
}

fn choice(text: &str, words: &[&str]) -> Result<Parsed, Wrong> {
    if words.contains(&text) {
        Ok(Parsed::Text(text.to_owned()))
    } else {
        Err(wrong(one_of(words)))
    }
}

fn choices(text: &str, words: &[&str]) -> Result<Parsed, Wrong> {
    let items = items(text);
    if items.is_empty() {
        return Err(wrong(one_of(words)));
    }
    match items.iter().find(|item| !words.contains(&item.as_str())) {
        Some(item) => Err(wrong_part(item, one_of(words))),
        None => Ok(Parsed::Words(items)),
    }
}

fn one_of(words: &[&str]) -> String {
    let words: Vec<&str> = words
        .iter()
        .copied()
        .filter(|word| !word.is_empty())
        .collect();
    match words.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

fn interface(text: &str) -> Result<Parsed, Wrong> {
    let good = text.len() <= INTERFACE_BYTES_MAX
        && !text.contains(|c: char| c.is_whitespace() || c == '/' || c.is_control());
    if good {
        Ok(Parsed::Text(text.to_owned()))
    } else {
        Err(wrong(format!(
            "the name of one network interface, {INTERFACE_BYTES_MAX} characters at most"
        )))
    }
}

fn hosts(text: &str) -> Result<Parsed, Wrong> {
    let hosts = items(text)
        .iter()
        .map(|item| host(item))
        .collect::<Result<_, _>>()?;
    Ok(Parsed::Words(hosts))
}

fn host(item: &str) -> Result<String, Wrong> {
    let bare = without_brackets(item);
    let expected = "IPv4 or IPv6 addresses or host names, separated by commas";
    match bare.parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() || address.is_multicast() => Err(wrong_part(
            item,
            "the address of one host that can answer a ping",
        )),
        Ok(address) => Ok(address.to_string()),
        Err(_) if bare == item && is_host_name(bare) => Ok(bare.to_owned()),
        Err(_) => Err(wrong_part(item, expected)),
    }
}

fn without_brackets(text: &str) -> &str {
    text.strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .filter(|text| text.contains(':'))
        .unwrap_or(text)
}

/// RFC 1123; a name whose last part is a number is a mistyped address.
pub(crate) fn is_host_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= HOST_BYTES_MAX
        && name.split('.').all(is_label)
        && !last.chars().all(|c| c.is_ascii_digit())
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= LABEL_BYTES_MAX
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

fn sources(text: &str) -> Result<Parsed, Wrong> {
    let expected = "one IPv4 and one IPv6 address at most, separated by a comma";
    let mut addresses: Vec<IpAddr> = Vec::new();
    for item in items(text) {
        let address: IpAddr = without_brackets(&item)
            .parse()
            .map_err(|_| wrong_part(&item, expected))?;
        let is_second = addresses
            .iter()
            .any(|other| other.is_ipv4() == address.is_ipv4());
        if is_second || address.is_unspecified() || address.is_multicast() {
            return Err(wrong_part(&item, expected));
        }
        addresses.push(address);
    }
    Ok(Parsed::Sources(addresses))
}

fn address(text: &str) -> Result<Parsed, Wrong> {
    if text.is_empty() {
        return Ok(Parsed::Address(None));
    }
    without_brackets(text)
        .parse()
        .map(|address| Parsed::Address(Some(address)))
        .map_err(|_| wrong("an IPv4 or IPv6 address, or nothing to switch it off"))
}

fn listen(text: &str) -> Result<Parsed, Wrong> {
    if text.is_empty() {
        return Ok(Parsed::Listen(None));
    }
    text.parse()
        .map(|address| Parsed::Listen(Some(address)))
        .map_err(|_| {
            wrong("address:port such as 127.0.0.1:9180 or [::1]:9180, or nothing to switch it off")
        })
}

fn tags(text: &str) -> Result<Parsed, Wrong> {
    let expected = "key:value, separated by commas, keys of letters, digits, '_' and '-'";
    let mut tags: Vec<(String, String)> = Vec::new();
    for item in items(text) {
        let Some((key, value)) = item.split_once(':') else {
            return Err(wrong_part(&item, expected));
        };
        let (key, value) = (key.trim(), value.trim());
        if !is_label(key) || value.is_empty() || value.contains('\n') {
            return Err(wrong_part(&item, expected));
        }
        if tags.iter().any(|(other, _)| other == key) {
            return Err(wrong_part(&item, "each key once"));
        }
        tags.push((key.to_owned(), value.to_owned()));
    }
    Ok(Parsed::Tags(tags))
}

fn quorum(text: &str) -> Result<Parsed, Wrong> {
    let quorum = match text {
        "any" => Some(Quorum::Any),
        "majority" => Some(Quorum::Majority),
        "all" => Some(Quorum::All),
        number => number
            .parse()
            .ok()
            .filter(|least| *least > 0)
            .map(Quorum::AtLeast),
    };
    quorum
        .map(Parsed::Quorum)
        .ok_or_else(|| wrong("any, majority, all or a number of gateways"))
}

/// Engines of SQLAlchemy, which may be named in a message: a word before `://` that isn't one of
/// them may be anything.
const FOREIGN_ENGINES: &[&str] = &[
    "mysql",
    "postgresql",
    "postgres",
    "mongodb",
    "oracle",
    "mssql",
    "db2",
    "hbase",
    "es",
];

fn connection(text: &str, base: &Path) -> Result<Parsed, Wrong> {
    let expected = "sqlite:///path";
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(wrong(expected));
    };
    let engine = scheme.split('+').next().unwrap_or_default();
    if FOREIGN_ENGINES.contains(&engine) {
        return Err(wrong(format!(
            "{expected}: this build has no engine {engine}, it has sqlite"
        )));
    }
    let path = rest.strip_prefix('/').unwrap_or_default();
    let (path, query) = path
        .split_once('?')
        .map_or((path, None), |(path, query)| (path, Some(query)));
    if engine != "sqlite" || path.is_empty() {
        return Err(wrong(expected));
    }
    if path == ":memory:" {
        return Err(wrong(format!(
            "{expected}: a database in memory ends with the process that made it"
        )));
    }
    let path = base.join(path);
    let mut url = format!("sqlite:///{}", path.to_string_lossy());
    if let Some(query) = query {
        url.push('?');
        url.push_str(query);
    }
    Ok(Parsed::Secret(Secret::new(url)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(kind: Kind, text: &str) -> Parsed {
        match parse_kind(kind, text, Path::new("/etc/ha")) {
            Ok(parsed) => parsed,
            Err(wrong) => panic!("{text:?}: expected {}", wrong.expected),
        }
    }

    fn is_wrong(kind: Kind, text: &str) -> bool {
        parse_kind(kind, text, Path::new("/etc/ha")).is_err()
    }

    #[test]
    fn every_default_fits_its_kind() {
        let layered = Layered::new();
        let values = Values::read(&layered, &[]);
        assert_eq!(values.problems, []);
        assert_eq!(values.parsed.len(), OPTIONS.len());
    }

    #[test]
    fn a_file_may_be_unset_and_starts_where_its_option_stands() {
        assert_eq!(ok(Kind::File, ""), Parsed::File(None));
        let expected = Some(PathBuf::from("/etc/ha/hosts"));
        assert_eq!(ok(Kind::File, "hosts"), Parsed::File(expected));
        assert!(is_wrong(Kind::Path, ""));
    }

    #[test]
    fn truth_has_the_words_of_oslo() {
        for (text, truth) in [
            ("True", true),
            ("1", true),
            ("on", true),
            ("YES", true),
            ("False", false),
            ("0", false),
            ("off", false),
            ("no", false),
        ] {
            assert_eq!(ok(Kind::Bool, text), Parsed::Bool(truth), "{text}");
        }
        assert!(is_wrong(Kind::Bool, "y") && is_wrong(Kind::Bool, ""));
    }

    #[test]
    fn numbers_keep_their_range() {
        let kind = Kind::Int { least: 1, most: 9 };
        assert_eq!(ok(kind, "+4"), Parsed::Int(4));
        for text in ["0", "10", "4.0", "four", "", "4 5", "99999999999999999999"] {
            assert!(is_wrong(kind, text), "{text}");
        }
        let kind = Kind::Float {
            least: 0.0,
            most: 1.0,
        };
        assert_eq!(ok(kind, "0.25"), Parsed::Float(0.25));
        for text in ["-0.1", "1.1", "nan", "inf", "half"] {
            assert!(is_wrong(kind, text), "{text}");
        }
    }

    #[test]
    fn gateways_are_addresses_or_names() {
        let words = |words: &[&str]| Parsed::Words(words.iter().map(|w| (*w).to_owned()).collect());
        assert_eq!(
            ok(
                Kind::Hosts,
                " 192.168.0.10, ,gw-1.storage.example,\n[FD00::1], fd00::2,"
            ),
            words(&["192.168.0.10", "gw-1.storage.example", "fd00::1", "fd00::2"])
        );
        for text in [
            "192.168.0.300",
            "192.168.0",
            "0.0.0.0",
            "224.0.0.1",
            "::",
            "gw 1",
            "gw1;reboot",
            "[gw1]",
            "-gw",
            "gw..x",
            "10.0.0.1:80",
            "fe80::1%eth0",
        ] {
            assert!(is_wrong(Kind::Hosts, text), "{text}");
        }
        assert!(is_wrong(Kind::Hosts, &"x".repeat(64)));
        assert!(is_wrong(Kind::Hosts, &"x.".repeat(200)));
    }

    #[test]
    fn sources_are_one_of_each_family() {
        assert_eq!(ok(Kind::Sources, ""), Parsed::Sources(vec![]));
        assert_eq!(
            ok(Kind::Sources, "[fd00::1], 10.0.0.1"),
            Parsed::Sources(vec![
                "fd00::1".parse().unwrap(),
                "10.0.0.1".parse().unwrap()
            ])
        );
        for text in ["10.0.0.1, 10.0.0.2", "eth0", "0.0.0.0"] {
            assert!(is_wrong(Kind::Sources, text), "{text}");
        }
    }

    #[test]
    fn tags_split_at_the_first_colon() {
        assert_eq!(
            ok(Kind::Tags, "rack: r1, url:http://x"),
            Parsed::Tags(vec![
                ("rack".into(), "r1".into()),
                ("url".into(), "http://x".into())
            ])
        );
        for text in ["rack", "rack:", ":r1", "a.b:c", "a:1,a:2"] {
            assert!(is_wrong(Kind::Tags, text), "{text}");
        }
    }

    #[test]
    fn a_database_is_a_file_of_sqlite() {
        let url = |text: &str| match ok(Kind::Connection, text) {
            Parsed::Secret(secret) => secret.expose().to_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(url("sqlite:////var/x.db"), "sqlite:////var/x.db");
        assert_eq!(
            url("sqlite:///x.db?mode=rw"),
            "sqlite:////etc/ha/x.db?mode=rw"
        );
        assert_eq!(url("sqlite+pysqlite:///x.db"), "sqlite:////etc/ha/x.db");
        for text in [
            "",
            "x.db",
            "sqlite://",
            "sqlite:///",
            "sqlite:///:memory:",
            "sqlite:x.db",
            "mysql://u:p@h/d",
            "mysql+pymysql://u:p@h/d",
            "secret://h",
        ] {
            assert!(is_wrong(Kind::Connection, text), "{text}");
        }
    }

    #[test]
    fn one_line_means_one_line() {
        assert!(is_wrong(Kind::Text, "a\n# b"));
        assert!(is_wrong(Kind::Secret, "a\nb"));
        assert_eq!(ok(Kind::Text, "\na"), Parsed::Text("a".into()));
        assert_eq!(
            ok(Kind::List, "a,\nb"),
            Parsed::Words(vec!["a".into(), "b".into()])
        );
    }
}
