//! Pure. One event as the log holds it, and how it reads as text and as JSON. Whatever an event
//! says, it is one line and obeys no terminal.

use std::fmt::{self, Write};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use crate::model::UtcTime;

/// The longest text in a record; the tail of a longer one is lost. With the queue's lines it bounds
/// what a destination that hangs may cost.
const TEXT_BYTES_MAX: usize = 4096;

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// For people.
    Text,
    /// A JSON object.
    Json,
}

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    /// When it was.
    pub time: UtcTime,
    /// How bad it is.
    pub level: Level,
    /// What it is, in words.
    pub message: String,
    /// What it is about.
    pub fields: Vec<(&'static str, Shown)>,
}

/// A field's value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shown {
    /// A text that is quoted in a line.
    Text(String),
    /// Something that has a form of its own.
    Plain(String),
    /// A number or a truth.
    Json(Value),
}

impl Record {
    /// What an event says.
    pub(super) fn of(event: &Event<'_>, time: UtcTime) -> Self {
        let mut record = Record {
            time,
            level: *event.metadata().level(),
            message: String::new(),
            fields: Vec::new(),
        };
        event.record(&mut record);
        record
    }

    /// What is said where lines are missing.
    pub(super) fn lost(lines: u64, time: UtcTime) -> Self {
        Record {
            time,
            level: Level::WARN,
            message: "lines of the log lost: its destination took none in time".to_owned(),
            fields: vec![("lines", Shown::Json(lines.into()))],
        }
    }

    /// The message and the fields, for whoever stamps time and level by himself.
    pub(super) fn text(&self) -> String {
        let mut text = escaped(&self.message);
        for (name, value) in &self.fields {
            let blank = if text.is_empty() { "" } else { " " };
            // Writing to a text doesn't fail.
            let _ = write!(text, "{blank}{name}={}", value.in_a_line());
        }
        text
    }

    /// A whole line, without its end.
    pub(super) fn line(&self, form: Form) -> String {
        match form {
            Form::Text => format!("{}Z {:>5} {}", self.time, self.level, self.text()),
            Form::Json => self.json(),
        }
    }

    /// The severity as syslog counts it.
    pub(super) fn severity(&self) -> u8 {
        match self.level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        }
    }

    fn json(&self) -> String {
        let fields = self.fields.iter();
        let mut map: Map<String, Value> = fields
            .map(|(name, value)| ((*name).to_owned(), value.as_json()))
            .collect();
        map.insert("timestamp".into(), format!("{}Z", self.time).into());
        map.insert("level".into(), self.level.as_str().into());
        map.insert("message".into(), self.message.as_str().into());
        Value::Object(map).to_string()
    }

    fn add(&mut self, field: &Field, value: Shown) {
        match (field.name(), value) {
            ("message", Shown::Text(text) | Shown::Plain(text)) => self.message = text,
            (name, value) => self.fields.push((name, value)),
        }
    }
}

impl Shown {
    /// As it is, for a destination that keeps values apart.
    pub(super) fn raw(&self) -> String {
        match self {
            Shown::Text(text) | Shown::Plain(text) => text.clone(),
            Shown::Json(value) => value.to_string(),
        }
    }

    fn in_a_line(&self) -> String {
        match self {
            Shown::Text(text) => format!("{text:?}"),
            Shown::Plain(text) => escaped(text),
            Shown::Json(value) => value.to_string(),
        }
    }

    fn as_json(&self) -> Value {
        match self {
            Shown::Text(text) | Shown::Plain(text) => text.as_str().into(),
            Shown::Json(value) => value.clone(),
        }
    }
}

impl Visit for Record {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = cut(format!("{value:?}"), TEXT_BYTES_MAX);
        self.add(field, Shown::Plain(text));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, Shown::Text(cut(value.to_owned(), TEXT_BYTES_MAX)));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Shown::Json(value.into()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Shown::Json(value.into()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, Shown::Json(value.into()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Shown::Json(value.into()));
    }
}

/// The text, or as much of it as fits.
pub(super) fn cut(mut text: String, bytes: usize) -> String {
    let mut ends = (0..=bytes.min(text.len())).rev();
    let end = ends.find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or(0));
    text
}

fn escaped(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            time: UtcTime::from_unix_micros(1_462_330_921_123_456),
            level: Level::WARN,
            message: "two\nlines\x1b[2J".into(),
            fields: vec![
                ("host", Shown::Text("a \"b\"\n".into())),
                ("error", Shown::Plain("x\ny".into())),
                ("count", Shown::Json(7.into())),
            ],
        }
    }

    #[test]
    fn an_event_is_one_line_whatever_it_says() {
        assert_eq!(
            record().line(Form::Text),
            "2016-05-04T03:02:01.123456Z  WARN two\\nlines\\u{1b}[2J host=\"a \\\"b\\\"\\n\" error=x\\ny count=7"
        );
        let json = record().line(Form::Json);
        assert!(!json.contains(['\n', '\x1b']), "{json}");
        let value: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            value,
            serde_json::json!({"timestamp": "2016-05-04T03:02:01.123456Z", "level": "WARN",
                "message": "two\nlines\x1b[2J", "host": "a \"b\"\n", "error": "x\ny", "count": 7})
        );
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(cut("aé".into(), 2), "a");
        assert_eq!(cut("aé".into(), 3), "aé");
    }
}
