//! Pure. What is wrong with a configuration: where, which option, what was found and what would be
//! right. Problems are collected, never thrown one at a time.

use std::fmt;
use std::path::PathBuf;

use super::in_force::Origin;

/// How much a problem matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth a line in the log: something is accepted and has no effect.
    Note,
    /// Probably not what was meant; the daemon starts.
    Warning,
    /// The daemon does not start.
    Error,
}

impl Severity {
    /// The word before the message.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that is wrong, or odd, in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How much it matters.
    pub severity: Severity,
    /// The file it is in; None for the environment and for what is nowhere in particular.
    pub file: Option<PathBuf>,
    /// The line in that file, from 1.
    pub line: Option<usize>,
    /// The option or section, such as `[compute] ping_count`.
    pub option: Option<String>,
    /// What was found and what would be right. Never holds a secret.
    pub message: String,
}

impl Problem {
    /// A problem of no file and no option.
    pub fn new(severity: Severity, message: impl Into<String>) -> Self {
        Problem {
            severity,
            file: None,
            line: None,
            option: None,
            message: message.into(),
        }
    }

    /// The same problem, in this file.
    #[must_use]
    pub fn in_file(mut self, file: impl Into<PathBuf>, line: Option<usize>) -> Self {
        self.file = Some(file.into());
        self.line = line;
        self
    }

    /// The same problem, about this option or section.
    #[must_use]
    pub fn about(mut self, option: impl Into<String>) -> Self {
        self.option = Some(option.into());
        self
    }
}

impl Problem {
    /// The same problem, about an option's value that comes from there.
    #[must_use]
    pub(super) fn set_at(self, origin: Option<&Origin>, title: String) -> Self {
        match origin {
            None => self.about(title),
            Some(Origin::File(path, line)) => self.in_file(path, Some(*line)).about(title),
            Some(Origin::SecretFile(path)) => self.in_file(path, None).about(title),
            Some(Origin::Variable(name)) => self.about(format!("{title} from {name}")),
            Some(Origin::Credential(name)) => self.about(format!("{title} from credential {name}")),
        }
    }
}

impl fmt::Display for Problem {
    /// `ceilometer_ha.conf:12: [compute] ping_count: found "four", expected …`; whoever prints it
    /// adds the severity.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}", file.display())?;
            if let Some(line) = self.line {
                write!(f, ":{line}")?;
            }
            f.write_str(": ")?;
        }
        if let Some(option) = &self.option {
            write!(f, "{option}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// Everything that is wrong with a configuration that can't be used: at least one error, with the
/// warnings found on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Takes them as they are.
    pub fn new(problems: Vec<Problem>) -> Self {
        Problems(problems)
    }

    /// All of them, in the order of files and lines.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    /// Only those that keep a daemon from starting.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.iter()
            .filter(|problem| problem.severity == Severity::Error)
    }
}

impl fmt::Display for Problems {
    /// One a line; what is no error says so first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            if problem.severity != Severity::Error {
                write!(f, "{}: ", problem.severity)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Gives back what was read and the harmless problems, or all problems if one is an error.
pub(crate) fn settle<T>(value: T, problems: Vec<Problem>) -> Result<(T, Vec<Problem>), Problems> {
    if problems
        .iter()
        .any(|problem| problem.severity == Severity::Error)
    {
        Err(Problems(problems))
    } else {
        Ok((value, problems))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_where_what_and_why() {
        let problem = Problem::new(Severity::Error, "found \"four\", expected a number")
            .in_file("ha.conf", Some(12))
            .about("[compute] ping_count");
        let note = Problem::new(Severity::Note, "nothing reads it");
        assert_eq!(
            Problems::new(vec![problem, note]).to_string(),
            "ha.conf:12: [compute] ping_count: found \"four\", expected a number\n\
             note: nothing reads it"
        );
    }

    #[test]
    fn only_an_error_spoils_the_result() {
        let warning = Problem::new(Severity::Warning, "odd");
        let error = Problem::new(Severity::Error, "wrong");
        assert_eq!(
            settle(7, vec![warning.clone()]),
            Ok((7, vec![warning.clone()]))
        );
        let problems = settle(7, vec![warning, error.clone()]).unwrap_err();
        assert_eq!(problems.iter().count(), 2);
        assert_eq!(problems.errors().collect::<Vec<_>>(), [&error]);
    }
}
