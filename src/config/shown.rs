//! Pure. Values as texts: in the one plain way of writing them, and for people, without what may be a
//! secret.

use std::time::Duration;

use super::command::{CommandLine, PluginSpec};
use super::kinds::Parsed;
use crate::model::Secret;

/// What is shown of a secret.
pub(super) const NOT_SHOWN: &str = "set, not shown";

/// A value as it is written plainly.
pub(super) fn plain(parsed: &Parsed) -> String {
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
        Parsed::Seconds(time) => decimal(*time),
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

/// Seconds as they are written in a file. A floating point number would show its rounding.
pub(super) fn decimal(time: Duration) -> String {
    let text = format!("{}.{:09}", time.as_secs(), time.subsec_nanos());
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A value for people, given as it is written plainly.
pub(super) fn shown_value(parsed: &Parsed, plain: &str) -> String {
    match parsed {
        _ if plain.is_empty() => "nothing".to_owned(),
        Parsed::Secret(_) => NOT_SHOWN.to_owned(),
        Parsed::Command(command) => command_shown(command),
        _ => printable(plain),
    }
}

pub(super) fn plugin_shown(plugin: &PluginSpec) -> String {
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

pub(super) fn plugin_text(plugin: &PluginSpec) -> String {
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
