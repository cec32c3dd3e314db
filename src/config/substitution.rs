//! Pure. `$other` in an option's text. The rules are those of oslo.config, which has them from Python's
//! `string.Template`.

use std::path::Path;

use super::in_force::Origin;
use super::kinds::{Parsed, parse_kind};
use super::options::{self, DEFAULT, Kind, OptionSpec};
use super::shown::decimal;
use super::values::{Values, is_secret};

/// How many `$other` may be followed for one value. Real files nest two or three; what has more is
/// a circle, and is refused.
pub(super) const SUBSTITUTIONS_MAX: usize = 100;

impl Values<'_> {
    /// Replaces `$name`, `$group.name` and the same in braces; `$$` and `\$` are a plain dollar
    /// sign. The rules are those of oslo.config, which has them from Python's `string.Template`.
    pub(super) fn expand(
        &self,
        spec: &OptionSpec,
        text: &str,
        budget: &mut usize,
    ) -> Result<String, String> {
        let text = text.replace("\\$", "$$");
        let mut out = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once('$') {
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
        if is_secret(found.kind) {
            self.refers_to_secret.set(true);
        }
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
        Ok(as_referred(found.kind, text))
    }
}

/// A referred value as oslo.config puts it into a text: numbers and truths as Python writes them.
fn as_referred(kind: Kind, text: String) -> String {
    match kind {
        Kind::Bool | Kind::Int { .. } | Kind::Float { .. } | Kind::Seconds { .. } => {
            match parse_kind(kind, &text, Path::new("")) {
                Ok(Parsed::Bool(true)) => "True".to_owned(),
                Ok(Parsed::Bool(false)) => "False".to_owned(),
                Ok(Parsed::Int(number)) => number.to_string(),
                Ok(Parsed::Float(number)) => format!("{number:?}"),
                Ok(Parsed::Seconds(time)) if time.subsec_nanos() == 0 => {
                    format!("{}.0", time.as_secs())
                }
                Ok(Parsed::Seconds(time)) => decimal(time),
                _ => text,
            }
        }
        _ => text,
    }
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
