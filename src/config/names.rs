//! Pure. Which sections and options are known, and what an unknown one was probably meant to be.

use std::collections::HashSet;
use std::sync::LazyLock;

use super::foreign;
use super::nearest::{all_nearest, nearest};
use super::options::{self, DEFAULT, OPTIONS, group_key};

/// Longer names are not repeated in a message: they are rather a line gone astray.
const NAME_CHARS_MAX: usize = 64;

/// How many unknown names of one configuration are compared with the known ones. A file with more is
/// no configuration of ours; further names are told without a suggestion.
const HINTS_MAX: usize = 200;

/// Sections in which options of ours stand, older names included.
static OWN_SECTIONS: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let old = OPTIONS.iter().flat_map(|spec| spec.deprecated);
    OPTIONS
        .iter()
        .map(|spec| spec.group)
        .chain(old.map(|(group, _)| *group))
        .map(|group| group_key(group).into_owned())
        .collect()
});

pub(super) fn is_own_section(name: &str) -> bool {
    OWN_SECTIONS.contains(group_key(name).as_ref())
}

pub(super) fn is_known_section(name: &str) -> bool {
    is_own_section(name) || foreign::is_section(name)
}

/// Finds what unknown names were probably meant to be, so often and no more.
#[derive(Default)]
pub(super) struct Hints {
    given: usize,
}

impl Hints {
    /// `; the nearest known one is [compute]`, or nothing.
    pub(super) fn section(&mut self, name: &str) -> String {
        if !self.may_look() {
            return String::new();
        }
        let own = OPTIONS.iter().map(|spec| spec.group);
        nearest(name, own.chain(foreign::sections())).map_or_else(String::new, |meant| {
            format!("; the nearest known one is [{meant}]")
        })
    }

    /// What an unknown option of one of our sections was probably meant to be.
    pub(super) fn option(&mut self, group: &str, name: &str) -> String {
        let strange = name
            .chars()
            .any(|c| !c.is_ascii_alphanumeric() && !"_-.".contains(c));
        let mut hint = if strange {
            ", expected a name of letters, digits and '_' before the separator".to_owned()
        } else {
            String::new()
        };
        if self.may_look() {
            hint.push_str(&meant(group, name));
        }
        hint
    }

    /// The section that a line with a bracket was probably meant to open.
    pub(super) fn header(&mut self, line: &str) -> String {
        let name = line.trim_start_matches(['[', '(', '{']);
        let name = name.split([']', ')', '}', '#', ';']).next();
        self.section(name.unwrap_or_default().trim())
    }

    /// The option that the first word of a line was probably meant to be.
    pub(super) fn line(&mut self, group: &str, line: &str) -> String {
        let word = line.split_whitespace().next().unwrap_or_default();
        if !self.may_look() {
            return String::new();
        }
        match neighbours(group, word).as_slice() {
            [] => String::new(),
            several => format!("; did you mean {}", several.join(" or ")),
        }
    }

    /// `; the nearest known one is compute.ping_count` for the name of a credential, or nothing.
    pub(super) fn credential(&mut self, name: &str) -> String {
        if !self.may_look() {
            return String::new();
        }
        let known: Vec<String> = OPTIONS
            .iter()
            .map(|spec| format!("{}.{}", spec.group, spec.name))
            .collect();
        nearest(name, known.iter().map(String::as_str)).map_or_else(String::new, |meant| {
            format!("; the nearest known one is {meant}")
        })
    }

    fn may_look(&mut self) -> bool {
        self.given += 1;
        self.given <= HINTS_MAX
    }
}

/// The same name in another section, else the nearest names of this one, else those of another.
fn meant(group: &str, name: &str) -> String {
    let elsewhere: Vec<String> = OPTIONS
        .iter()
        .filter(|spec| spec.name == name)
        .map(options::OptionSpec::title)
        .collect();
    if !elsewhere.is_empty() {
        return format!(" here; did you mean {}", elsewhere.join(" or "));
    }
    let near = neighbours(group, name);
    match near.as_slice() {
        [] => {}
        [one] => return format!("; the nearest known one is {one}"),
        several => return format!("; the nearest known ones are {}", several.join(", ")),
    }
    let mut titles: Vec<String> = Vec::new();
    for meant in all_nearest(name, OPTIONS.iter().map(|spec| spec.name)) {
        let of_name = OPTIONS.iter().filter(|spec| spec.name == meant);
        titles.extend(of_name.map(options::OptionSpec::title));
    }
    if titles.is_empty() {
        String::new()
    } else {
        format!(" here; did you mean {}", titles.join(" or "))
    }
}

/// The nearest known names of a section: those that hold, older ones, and those of other services.
fn neighbours(group: &str, name: &str) -> Vec<&'static str> {
    let here = OPTIONS
        .iter()
        .filter(|spec| options::same_group(spec.group, group))
        .map(|spec| spec.name);
    let old = OPTIONS
        .iter()
        .flat_map(|spec| spec.deprecated)
        .filter(|(old, _)| options::same_group(old, group))
        .map(|(_, name)| *name);
    all_nearest(name, here.chain(old).chain(foreign::options_in(group)))
}

/// A name, if it is one; a line that went astray may hold a secret and is only counted.
pub(super) fn shorten(name: &str) -> String {
    let count = name.chars().count();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:/".contains(c);
    if count <= NAME_CHARS_MAX && name.chars().all(plain) {
        name.to_owned()
    } else {
        format!("(a name of {count} characters)")
    }
}

/// `OS_COMPUTE__PING_COUNT` is `[compute] ping_count`; most other variables are none of ours.
pub(super) fn option_of_variable(variable: &str) -> Option<(String, String)> {
    let (group, name) = variable.strip_prefix("OS_")?.split_once("__")?;
    let group = if group == DEFAULT {
        group.to_owned()
    } else {
        group.to_lowercase()
    };
    Some((group, name.to_lowercase()))
}
