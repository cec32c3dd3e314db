//! Pure. Which options are set, to what, and where: what an operator is shown of a configuration, and
//! what a reload compares.

use std::fmt;
use std::path::PathBuf;

use super::options::OptionSpec;
use crate::model::Secret;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A line of a configuration file, from 1.
    File(PathBuf, usize),
    /// A credential of systemd's, by its name.
    Credential(String),
    /// A variable of the environment, by its name.
    Variable(String),
    /// A file that holds nothing but the value, named by another option.
    SecretFile(PathBuf),
}

impl Origin {
    /// Whether the text is the value as it stands, without `$` in it having a meaning: whoever puts a
    /// secret into a file of its own need not know of any dialect.
    pub(super) fn is_literal(&self) -> bool {
        match self {
            Origin::File(..) | Origin::Variable(_) => false,
            Origin::Credential(_) | Origin::SecretFile(_) => true,
        }
    }

    /// The origin as the `config` crate carries it: a word, and what it is about.
    pub(super) fn tag(&self) -> String {
        match self {
            Origin::File(path, line) => format!("{line} {}", path.to_string_lossy()),
            Origin::Credential(name) => format!("credential {name}"),
            Origin::Variable(name) => format!("variable {name}"),
            Origin::SecretFile(path) => format!("secret {}", path.to_string_lossy()),
        }
    }

    /// The origin of a tag.
    pub(super) fn from_tag(tag: &str) -> Self {
        match tag.split_once(' ') {
            Some(("credential", name)) => Origin::Credential(name.to_owned()),
            Some(("secret", path)) => Origin::SecretFile(path.into()),
            Some((line, path)) if line != "variable" => {
                Origin::File(path.into(), line.parse().unwrap_or_default())
            }
            Some((_, name)) => Origin::Variable(name.to_owned()),
            None => Origin::Variable(tag.to_owned()),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(path, line) => write!(f, "{}:{line}", path.display()),
            Origin::Credential(name) => write!(f, "credential {name}"),
            Origin::Variable(name) => write!(f, "variable {name}"),
            Origin::SecretFile(path) => write!(f, "{}", path.display()),
        }
    }
}

/// An option that something sets. An option that takes several values is here once for each.
#[derive(Debug, Clone, PartialEq)]
pub struct SetOption {
    /// Which.
    pub spec: &'static OptionSpec,
    /// The value in force, in the one way of writing it that its kind has: `$other` replaced, relative
    /// paths made whole, numbers and lists in their plain form. It may be a secret.
    pub value: Secret,
    /// The value for people: on one line, and without what may be a secret.
    pub shown: String,
    /// Where it was set.
    pub origin: Origin,
    /// Whether it is what would hold anyway.
    pub is_default: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_survives_the_layers() {
        for origin in [
            Origin::File("/etc/variable x/credential 7.conf".into(), 12),
            Origin::Credential("publisher.telemetry_secret".into()),
            Origin::Variable("OS_COMPUTE__PING_COUNT".into()),
            Origin::SecretFile("/run/a b/12 secret".into()),
        ] {
            assert_eq!(Origin::from_tag(&origin.tag()), origin);
        }
    }
}
