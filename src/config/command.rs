//! Pure. Commands in options: a line of words, and the declaration of a plug-in.

use super::kinds::{Wrong, wrong, wrong_part};
use crate::model::Secret;

/// The most words of a command. A wrapper with every option has some dozens; with more, the option is
/// refused.
const WORDS_MAX: usize = 64;

/// The longest name of a plug-in. It is the start of its meters' names, of which the database keeps
/// 255 characters; a longer one is refused.
const PLUGIN_NAME_CHARS_MAX: usize = 32;

/// Names that no plug-in may have: the first parts of the names of meters, of ours and of
/// Ceilometer's, and what our own failures are called. A reading of a plug-in can never pass for one
/// of the agent's own.
pub(crate) const TAKEN_NAMES: &[&str] = &[
    "central",
    "compute",
    "cpu",
    "cpu_util",
    "disk",
    "gateway",
    "hardware",
    "heartbeat",
    "host",
    "host_network",
    "hypervisor",
    "instance",
    "instances",
    "ipmi",
    "libvirt",
    "memory",
    "network",
    "node",
    "perf",
    "plugins",
    "pollster",
    "power",
    "statistics",
    "storage_connectivity",
    "storage_gateway",
    "vcpus",
];

/// A command and its arguments. The arguments may hold a password, so they are never printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// An absolute path, or a name that is looked up in the usual folders.
    pub program: String,
    /// What follows it.
    pub arguments: Vec<Secret>,
}

/// How a plug-in says what it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PluginFormat {
    /// Exit status and a line of text, as Nagios' plug-ins do.
    Nagios,
    /// Samples as JSON objects.
    Json,
}

impl PluginFormat {
    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            PluginFormat::Nagios => "nagios",
            PluginFormat::Json => "json",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [PluginFormat::Nagios, PluginFormat::Json]
            .into_iter()
            .find(|format| format.as_str() == name)
    }
}

/// A plug-in as it is declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginSpec {
    /// The name of its meters, or the part before their first dot.
    pub name: String,
    /// What it prints.
    pub format: PluginFormat,
    /// What is run; its program is an absolute path.
    pub command: CommandLine,
}

/// Reads `COMMAND [ARGUMENTS…]`.
pub(super) fn command(text: &str) -> Result<CommandLine, Wrong> {
    let mut words = words(text)?.into_iter();
    let expected = "a command as an absolute path or a plain name, then its arguments";
    let program = words.next().unwrap_or_default();
    let is_plain = !program.is_empty() && !program.contains('/');
    if !is_plain && !is_absolute(&program) {
        return Err(wrong(expected));
    }
    Ok(CommandLine {
        program,
        arguments: words.map(Secret::new).collect(),
    })
}

/// Reads `NAME FORMAT COMMAND [ARGUMENTS…]`. A failure never shows an argument.
pub(super) fn plugin(text: &str) -> Result<PluginSpec, Wrong> {
    let mut words = words(text)?.into_iter();
    let shape = "NAME FORMAT COMMAND [ARGUMENTS], such as `smart nagios /usr/lib/nagios/plugins/check_ide_smart -d /dev/sda`";
    let name = words.next().unwrap_or_default();
    if !is_plugin_name(&name) {
        let expected = format!(
            "{shape}, the name of at most {PLUGIN_NAME_CHARS_MAX} lower-case letters, digits and '_'"
        );
        return Err(wrong_part(&name, expected));
    }
    if TAKEN_NAMES.contains(&name.as_str()) {
        let expected = "another name: meters of the agent's own begin like this one";
        return Err(wrong_part(&name, expected));
    }
    let format = words.next().unwrap_or_default();
    let Some(format) = PluginFormat::from_name(&format) else {
        let expected = format!("{shape}, the format nagios or json");
        return Err(wrong_part(&format, expected));
    };
    let program = words.next().unwrap_or_default();
    if !is_absolute(&program) {
        let expected = format!("{shape}, the command as an absolute path");
        return Err(wrong_part(&program, expected));
    }
    let arguments = words.map(Secret::new).collect();
    Ok(PluginSpec {
        name,
        format,
        command: CommandLine { program, arguments },
    })
}

/// Splits at blanks; what stands between two double quotes is kept together, and `""` is an empty
/// word. There is no way to write a double quote: a wrapper script has all the quoting one wants.
fn words(text: &str) -> Result<Vec<String>, Wrong> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut is_quoted = false;
    for c in text.chars() {
        match c {
            '"' => {
                is_quoted = !is_quoted;
                word.get_or_insert_default();
            }
            blank if blank.is_whitespace() && !is_quoted => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    if is_quoted {
        return Err(wrong_part("\"", "a second double quote to every first one"));
    }
    words.extend(word);
    if words.len() > WORDS_MAX {
        let expected = format!("{WORDS_MAX} words at most; write a script");
        let first = words.first().map_or("", String::as_str);
        return Err(wrong_part(first, expected));
    }
    Ok(words)
}

fn is_absolute(program: &str) -> bool {
    program.starts_with('/') && !program.ends_with('/')
}

fn is_plugin_name(name: &str) -> bool {
    (1..=PLUGIN_NAME_CHARS_MAX).contains(&name.len())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exposed(line: &CommandLine) -> Vec<&str> {
        line.arguments.iter().map(Secret::expose).collect()
    }

    #[test]
    fn blanks_part_words_and_quotes_keep_them_together() {
        for (text, expected) in [
            ("a b", &["a", "b"][..]),
            ("  a\t b  ", &["a", "b"]),
            ("a \"b c\" d", &["a", "b c", "d"]),
            ("a --x=\"b c\"", &["a", "--x=b c"]),
            ("a \"\"", &["a", ""]),
            ("a 'b c'", &["a", "'b", "c'"]),
            ("a \\\"b c\\\"", &["a", "\\b c\\"]),
            ("", &[]),
        ] {
            assert_eq!(words(text).ok().unwrap(), expected, "{text}");
        }
        assert!(words("a \"b").is_err());
        assert!(words(&"a ".repeat(WORDS_MAX)).is_ok());
        assert!(words(&"a ".repeat(WORDS_MAX + 1)).is_err());
    }

    #[test]
    fn a_plugin_has_a_name_a_format_and_a_command() {
        let spec = plugin("raid_1 nagios /opt/check \"a b\" -c 3")
            .ok()
            .unwrap();
        assert_eq!(spec.name, "raid_1");
        assert_eq!(spec.format, PluginFormat::Nagios);
        assert_eq!(spec.command.program, "/opt/check");
        assert_eq!(exposed(&spec.command), ["a b", "-c", "3"]);
        for text in [
            "",
            "raid",
            "raid nagios",
            "raid perl /opt/check",
            "raid nagios check_raid",
            "raid nagios ./check_raid",
            "raid nagios /opt/",
            "Raid nagios /opt/check",
            "ra.id nagios /opt/check",
            "ra-id nagios /opt/check",
            "instance nagios /opt/check",
            "storage_gateway json /opt/check",
            "pollster json /opt/check",
            "raid nagios /opt/check \"a",
        ] {
            assert!(plugin(text).is_err(), "{text}");
        }
        let name = "x".repeat(PLUGIN_NAME_CHARS_MAX);
        assert!(plugin(&format!("{name} json /x")).is_ok());
        assert!(plugin(&format!("{name}x json /x")).is_err());
    }

    #[test]
    fn a_command_is_a_path_or_a_plain_name_and_hides_its_arguments() {
        let line = command("ipmitool -P hunter2").ok().unwrap();
        assert_eq!(line.program, "ipmitool");
        assert_eq!(exposed(&line), ["-P", "hunter2"]);
        assert!(!format!("{line:?}").contains("hunter2"));
        assert!(command("/usr/bin/ipmitool").is_ok());
        for text in ["", "bin/ipmitool", "./ipmitool", "\"\""] {
            assert!(command(text).is_err(), "{text}");
        }
    }
}
