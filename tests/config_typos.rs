//! A deployer's typo anywhere in `ceilometer_ha.conf` is found with its line and the right word: tried
//! over every option and section, and a sample of it through a real program.

#![cfg(feature = "agent")]
// A test's helpers may fail as the test itself may.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use ceilometer_ha::config::options::{self, OPTIONS};
use ceilometer_ha::config::{ConfigText, Problem, Purpose, foreign, load};

const FILE: &str = "/etc/ha/ha.conf";

/// Every slip of one finger: a letter left out, two swapped, another letter in its place, one too many,
/// one in the other case, and a hyphen for an underscore.
fn slips(word: &str) -> BTreeSet<String> {
    let letters: Vec<char> = word.chars().collect();
    let join = |letters: Vec<char>| letters.into_iter().collect::<String>();
    let mut slips = BTreeSet::new();
    for at in 0..letters.len() {
        let with = |c: char| {
            let mut other = letters.clone();
            other[at] = c;
            join(other)
        };
        let mut shorter = letters.clone();
        shorter.remove(at);
        slips.insert(join(shorter));
        slips.insert(with(neighbour(letters[at])));
        slips.insert(with(if letters[at].is_ascii_uppercase() {
            letters[at].to_ascii_lowercase()
        } else {
            letters[at].to_ascii_uppercase()
        }));
        if letters[at] == '_' {
            slips.insert(with('-'));
        }
        for extra in [letters[at], 'x'] {
            let mut longer = letters.clone();
            longer.insert(at, extra);
            slips.insert(join(longer));
        }
        if at > 0 {
            let mut swapped = letters.clone();
            swapped.swap(at - 1, at);
            slips.insert(join(swapped));
        }
    }
    slips.insert(format!("{word}s"));
    slips.insert(word.to_uppercase());
    slips.insert(word.replace('_', "-"));
    slips.remove(word);
    slips.retain(|slip| !slip.is_empty());
    slips
}

/// The key beside it.
fn neighbour(letter: char) -> char {
    let row = "qwertyuiopasdfghjklzxcvbnm";
    let at = row.find(letter.to_ascii_lowercase());
    at.and_then(|at| row.chars().nth((at + 1) % row.len()))
        .unwrap_or('o')
}

/// Every name under which an option may be set: section, name.
fn names() -> Vec<(&'static str, &'static str)> {
    OPTIONS
        .iter()
        .flat_map(|spec| {
            let own = std::iter::once((spec.group, spec.name));
            own.chain(spec.deprecated.iter().copied())
        })
        .collect()
}

fn is_known(group: &str, name: &str) -> bool {
    options::find(group, name).is_some()
        || options::find_deprecated(group, name).is_some()
        || foreign::is_option(group, name)
}

fn sections() -> BTreeSet<&'static str> {
    OPTIONS.iter().map(|spec| spec.group).collect()
}

fn is_known_section(name: &str) -> bool {
    foreign::is_section(name)
        || names()
            .iter()
            .any(|(group, _)| options::same_group(group, name))
}

fn problems(text: &str, environment: &[(String, String)]) -> Vec<Problem> {
    let file = ConfigText {
        path: PathBuf::from(FILE),
        text: text.to_owned(),
    };
    match load(Purpose::Everything, &[file], environment, "n", false) {
        Ok(loaded) => loaded.warnings,
        Err(problems) => problems.iter().cloned().collect(),
    }
}

/// Whether a message names a word, as a word.
fn names_word(problem: &Problem, word: &str) -> bool {
    let is_sign = |c: char| !c.is_alphanumeric() && c != '_';
    problem.message.split(is_sign).any(|part| part == word)
}

/// Asserts that a problem at this line of the file names the word.
fn assert_found(problems: &[Problem], line: usize, word: &str, typed: &str) {
    let here: Vec<&Problem> = problems
        .iter()
        .filter(|problem| {
            problem.line == Some(line) && problem.file.as_deref() == Some(Path::new(FILE))
        })
        .collect();
    assert!(
        here.iter().any(|problem| names_word(problem, word)),
        "{typed:?} for {word:?}: {here:?}"
    );
}

/// A host's own key, in the place of a collector's keys: the message names it with its section.
fn is_of_another_section(slip: &str) -> bool {
    slip == "host_key_file"
}

#[test]
fn a_slip_in_an_options_name_is_found_with_the_right_word() {
    let mut tried = 0;
    let mut excused = Vec::new();
    for (group, name) in names() {
        let mut text = format!("[{group}]\n");
        let (known, unknown): (Vec<String>, Vec<String>) = slips(name)
            .into_iter()
            .partition(|slip| is_known(group, slip) || is_of_another_section(slip));
        excused.extend(known);
        for slip in &unknown {
            text.push_str(&format!("{slip} = 1\n"));
        }
        let problems = problems(&text, &[]);
        for (index, slip) in unknown.iter().enumerate() {
            assert_found(&problems, index + 2, name, slip);
            tried += 1;
        }
    }
    assert!(tried > 5000, "{tried}");
    // What is itself a name can't be told from one.
    excused.sort();
    excused.dedup();
    assert_eq!(
        excused,
        [
            "host_key_file",
            "logdir",
            "logfile",
            "rabbit_host",
            "rabbit_hosts"
        ]
    );
}

#[test]
fn a_slip_in_a_variables_name_is_found_with_the_right_word() {
    for spec in OPTIONS {
        let slips: Vec<String> = slips(spec.name)
            .into_iter()
            .map(|slip| slip.to_lowercase().replace('-', "_"))
            .filter(|slip| !is_known(spec.group, slip) && *slip != spec.name)
            .filter(|slip| !is_of_another_section(slip))
            .collect();
        let variables: Vec<(String, String)> = slips
            .iter()
            .map(|slip| {
                let name = format!("OS_{}__{slip}", spec.group).to_uppercase();
                (name, "1".to_owned())
            })
            .collect();
        let problems = problems("", &variables);
        for (variable, _) in &variables {
            let found = problems.iter().any(|problem| {
                problem.option.as_deref() == Some(variable) && names_word(problem, spec.name)
            });
            assert!(found, "{variable}: {problems:?}");
        }
    }
}

#[test]
fn a_slip_in_a_sections_name_is_found_with_the_right_word() {
    let mut tried = 0;
    for section in sections() {
        let slips: Vec<String> = slips(section)
            .into_iter()
            .filter(|slip| !is_known_section(slip))
            .collect();
        let text: String = slips.iter().map(|slip| format!("[{slip}]\n")).collect();
        let problems = problems(&text, &[]);
        for (index, slip) in slips.iter().enumerate() {
            assert_found(&problems, index + 1, section, slip);
            tried += 1;
        }
    }
    assert!(tried > 400, "{tried}");
}

#[test]
fn a_broken_header_is_found_with_the_right_word() {
    for section in sections() {
        let broken = [
            format!("[{section}"),
            format!("{section}]"),
            format!("({section}]"),
            format!("[{section})"),
            format!("[{section}}}"),
            format!("[[{section}]"),
            format!("[{section}]]"),
            format!("[{section}] # why"),
            format!("[ {section} ]"),
            format!("[{section}];"),
        ];
        let text = broken.join("\n");
        let problems = problems(&text, &[]);
        for (index, header) in broken.iter().enumerate() {
            assert_found(&problems, index + 1, section, header);
        }
    }
}

#[test]
fn options_below_a_broken_header_are_not_taken_for_those_of_the_section_above() {
    for header in ["[database", "database]"] {
        let text = format!("[publisher]\n{header}\ntelemetry_secret = 1\n");
        let file = ConfigText {
            path: PathBuf::from(FILE),
            text,
        };
        let problems = load(Purpose::Everything, &[file], &[], "n", false).unwrap_err();
        assert_eq!(problems.iter().count(), 1, "{header}: {problems}");
    }
}

#[test]
fn an_option_in_the_wrong_section_is_found_with_the_right_one() {
    for group in sections() {
        let strangers: Vec<_> = OPTIONS
            .iter()
            .filter(|spec| !is_known(group, spec.name))
            .collect();
        let mut text = format!("[{group}]\n");
        for spec in &strangers {
            text.push_str(&format!("{} = 1\n", spec.name));
        }
        let problems = problems(&text, &[]);
        for (index, spec) in strangers.iter().enumerate() {
            let found = problems.iter().any(|problem| {
                problem.line == Some(index + 2) && problem.message.contains(&spec.title())
            });
            assert!(found, "{} in [{group}]: {problems:?}", spec.title());
        }
    }
}

#[test]
fn a_line_without_its_sign_is_found_with_the_right_word() {
    for (group, name) in names() {
        let text = format!("[{group}]\n{name} 1\n");
        assert_found(&problems(&text, &[]), 2, name, name);
    }
}

#[test]
fn a_program_tells_typos_by_file_line_and_right_word() {
    let folder = tempfile::tempdir().unwrap();
    let pipeline = folder.path().join("pipeline_ha.yaml");
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipeline_ha.yaml");
    std::fs::copy(sample, pipeline).unwrap();
    let file = folder.path().join("ha.conf");
    let mut text = String::new();
    let mut expected = Vec::new();
    for (number, spec) in OPTIONS.iter().enumerate() {
        let slips: Vec<String> = slips(spec.name)
            .into_iter()
            .filter(|slip| !is_known(spec.group, slip))
            .collect();
        text.push_str(&format!("[{}]\n", spec.group));
        text.push_str(&format!("{} = 1\n", slips[number % slips.len()]));
        expected.push((2 * number + 2, spec.name));
    }
    std::fs::write(&file, text).unwrap();
    for (strict, code) in [(false, 0), (true, 2)] {
        let output = Command::new(env!("CARGO_BIN_EXE_ceilometer-polling-ha"))
            .args(["--check-config", "--config-file"])
            .arg(&file)
            .args(strict.then_some("--strict"))
            .env_clear()
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        for (line, name) in &expected {
            let place = format!("{}:{line}: ", file.display());
            let found = said.lines().any(|said| {
                let words = said.split(|c: char| !c.is_alphanumeric() && c != '_');
                said.contains(&place) && words.into_iter().any(|word| word == *name)
            });
            assert!(found, "{place}{name}: {said}");
        }
    }
}
