//! Pure. Metadata as JSON text, character by character as Python's `json.dumps(…, sort_keys=True)`
//! writes it: the text is hashed, and the hash is compared with that of rows that Ceilometer wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::model::{Metadata, Value};

/// What becomes of NaN and the infinities, which JSON has no words for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NonFinite {
    /// `NaN`, `Infinity`, `-Infinity`, as Python writes and reads them.
    AsPython,
    /// `null`, so that every reader of JSON can read the text.
    AsNull,
    /// Python's words as texts, where the value must not be lost.
    Quoted,
}

/// The text of a map: sorted keys, `", "` and `": "`, everything but plain ASCII escaped.
///
/// Recurses as deep as the value is; callers check that first.
pub(crate) fn write_map(entries: &[(String, Value)], non_finite: NonFinite) -> String {
    let mut text = String::new();
    push_map(&mut text, entries, non_finite);
    text
}

/// The text of any value.
pub(crate) fn write(value: &Value, non_finite: NonFinite) -> String {
    let mut text = String::new();
    push_value(&mut text, value, non_finite);
    text
}

/// The text of a list of texts.
pub(crate) fn write_texts<'t>(texts: impl IntoIterator<Item = &'t String>) -> String {
    let mut list = String::from("[");
    for (index, text) in texts.into_iter().enumerate() {
        if index > 0 {
            list.push_str(", ");
        }
        push_text(&mut list, text);
    }
    list.push(']');
    list
}

/// Reads a list of texts back.
pub(crate) fn read_texts(text: &str) -> Result<BTreeSet<String>, serde_json::Error> {
    serde_json::from_str(text)
}

/// The entries of a map by key, in order of code points; of a key that comes twice the last
/// counts, as in a Python dict.
pub(crate) fn sorted(entries: &[(String, Value)]) -> BTreeMap<&str, &Value> {
    entries
        .iter()
        .map(|(key, value)| (key.as_str(), value))
        .collect()
}

/// Reads a JSON object back.
pub(crate) fn read_map(text: &str) -> Result<Metadata, serde_json::Error> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text)?;
    Ok(object
        .into_iter()
        .map(|(key, value)| (key, read_value(value)))
        .collect())
}

fn read_value(value: serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match value {
        Json::Null => Value::Null,
        Json::Bool(truth) => Value::Bool(truth),
        Json::Number(number) => match number.as_i128() {
            Some(whole) => Value::Int(whole),
            None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::Text(text),
        Json::Array(items) => Value::List(items.into_iter().map(read_value).collect()),
        Json::Object(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, value)| (key, read_value(value)))
                .collect(),
        ),
    }
}

fn push_value(text: &mut String, value: &Value, non_finite: NonFinite) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(true) => text.push_str("true"),
        Value::Bool(false) => text.push_str("false"),
        Value::Int(number) => {
            // Writing into a String can't fail.
            let _ = write!(text, "{number}");
        }
        Value::Float(number) => push_float(text, *number, non_finite),
        Value::Text(content) => push_text(text, content),
        Value::List(items) => push_list(text, items, non_finite),
        Value::Map(entries) => push_map(text, entries, non_finite),
    }
}

fn push_map(text: &mut String, entries: &[(String, Value)], non_finite: NonFinite) {
    text.push('{');
    for (index, (key, value)) in sorted(entries).into_iter().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        push_text(text, key);
        text.push_str(": ");
        push_value(text, value, non_finite);
    }
    text.push('}');
}

fn push_list(text: &mut String, items: &[Value], non_finite: NonFinite) {
    text.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        push_value(text, item, non_finite);
    }
    text.push(']');
}

/// The shortest digits that round-trip, with an exponent where Python has one: `1e-07`, `1e+16`.
fn push_float(text: &mut String, number: f64, non_finite: NonFinite) {
    if !number.is_finite() {
        let word = match number {
            number if number.is_nan() => "NaN",
            number if number > 0.0 => "Infinity",
            _ => "-Infinity",
        };
        match non_finite {
            NonFinite::AsNull => text.push_str("null"),
            NonFinite::AsPython => text.push_str(word),
            NonFinite::Quoted => push_text(text, word),
        }
        return;
    }
    // Rust's Debug takes an exponent for the same magnitudes as Python's repr, but spells it
    // without a plus sign and without a leading zero.
    let shortest = format!("{number:?}");
    match shortest.split_once('e') {
        None => text.push_str(&shortest),
        Some((digits, exponent)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            let _ = write!(text, "{digits}e{sign}{exponent:0>2}");
        }
    }
}

fn push_text(text: &mut String, content: &str) {
    text.push('"');
    for character in content.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            ' '..='~' => text.push(character),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let _ = write!(text, "\\u{unit:04x}");
                }
            }
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, Value)]) -> Vec<(String, Value)> {
        entries
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone()))
            .collect()
    }

    #[test]
    fn text_is_python_s() {
        // Expected texts were printed by `json.dumps(…, sort_keys=True)` of Python 3.11.
        for (entries, expected) in [
            (map(&[]), "{}"),
            (
                map(&[("b", Value::Null), ("a", Value::Bool(true))]),
                r#"{"a": true, "b": null}"#,
            ),
            (
                map(&[("k", "\"\\/\n\r\t\u{8}\u{c}\u{0}\u{1f}\u{7f}~".into())]),
                r#"{"k": "\"\\/\n\r\t\b\f\u0000\u001f\u007f~"}"#,
            ),
            (
                map(&[("ż", "日😀".into())]),
                r#"{"\u017c": "\u65e5\ud83d\ude00"}"#,
            ),
            (
                // By code point: in UTF-16 order the emoji would come first.
                map(&[("😀", Value::Int(2)), ("\u{ffee}", Value::Int(1))]),
                r#"{"\uffee": 1, "\ud83d\ude00": 2}"#,
            ),
            (
                map(&[(
                    "l",
                    Value::List(vec![
                        Value::Int(-1),
                        Value::Map(map(&[("z", 1.5.into()), ("y", Value::List(vec![]))])),
                    ]),
                )]),
                r#"{"l": [-1, {"y": [], "z": 1.5}]}"#,
            ),
            (
                map(&[("twice", Value::Int(1)), ("twice", Value::Int(2))]),
                r#"{"twice": 2}"#,
            ),
        ] {
            assert_eq!(write_map(&entries, NonFinite::AsPython), expected);
        }
    }

    #[test]
    fn floats_are_python_s() {
        for (number, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (5.0, "5.0"),
            (0.1 + 0.2, "0.30000000000000004"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (-1.25e300, "-1.25e+300"),
            (5e-324, "5e-324"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            let mut text = String::new();
            push_float(&mut text, number, NonFinite::AsPython);
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let entries = map(&[
            ("a", Value::Int(i128::from(i64::MIN))),
            ("b", 0.30000000000000004.into()),
            (
                "c",
                Value::List(vec!["ż😀\u{0}".into(), Value::Bool(false)]),
            ),
            ("d", Value::Map(map(&[("e", Value::Null)]))),
        ]);
        let text = write_map(&entries, NonFinite::AsNull);
        let expected: Metadata = entries.into_iter().collect();
        assert_eq!(read_map(&text).unwrap(), expected);
    }

    #[test]
    fn every_json_reader_can_read_what_has_no_word_for_infinity() {
        let entries = map(&[("a", f64::INFINITY.into()), ("b", f64::NAN.into())]);
        let read = read_map(&write_map(&entries, NonFinite::AsNull)).unwrap();
        assert!(read.values().all(|value| *value == Value::Null));
    }
}
