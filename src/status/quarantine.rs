//! Pure. The quarantine for people and for programs. All that is in there was refused, so nothing of
//! it may reach a terminal that obeys it; what programs get is exact, in plain ASCII.

use serde_json::{Value, json};

use super::text::{age, harmless, pad_left, pad_right, printable, wrap};
use crate::model::{Quarantined, QuarantinedMessage};

/// The columns of a reason: `timestamp_out_of_range`.
const REASON_COLUMNS: usize = 22;

/// The columns of an age: `119 min`.
const AGE_COLUMNS: usize = 7;

/// The columns of a message's number: any that is likely.
const ID_COLUMNS: usize = 6;

/// The narrowest terminal that the table is drawn for, in columns.
const WIDTH_MIN: usize = 60;

/// What to say when there is nothing to show.
const EMPTY: &str = "The quarantine is empty.\n";

/// A line each: number, age, reason, and who said it about what by which meter.
pub fn list_table(rows: &[Quarantined], width: usize) -> String {
    if rows.is_empty() {
        return EMPTY.to_owned();
    }
    let heading = line("ID", "AGE", "REASON", "FROM");
    let indent = heading.len() - "FROM".len();
    let room = width.max(WIDTH_MIN).saturating_sub(indent);
    let mut text = format!("{heading}\n");
    for row in rows {
        let mut from = wrap(&origin(row), room).into_iter();
        let first = from.next().unwrap_or_default();
        let [id, age] = [row.id.to_string(), age(row.age_seconds)];
        text += &format!("{}\n", line(&id, &age, &printable(&row.reason), &first));
        for more in from {
            text += &format!("{}{more}\n", " ".repeat(indent));
        }
    }
    text
}

/// The same as JSON.
pub fn list_json(rows: &[Quarantined]) -> Result<String, serde_json::Error> {
    let rows: Vec<Value> = rows.iter().map(about_json).collect();
    written(&Value::Array(rows))
}

/// One message in full, a line for each thing that is known about it, and the message as JSON.
pub fn message_text(message: &QuarantinedMessage) -> String {
    let about = &message.about;
    let at = about.at.to_sql_text();
    let lines = [
        ("id", about.id.to_string()),
        (
            "put here",
            format!("{at} UTC, {} ago", age(about.age_seconds)),
        ),
        ("reason", about.reason.clone()),
        ("detail", about.detail.clone()),
        ("observer", about.observer.clone().unwrap_or_default()),
        ("meter", about.meter.clone()),
        ("resource", about.resource_id.clone()),
        ("message id", about.message_id.clone()),
    ];
    let lines = lines
        .iter()
        .map(|(name, value)| format!("{}{}\n", pad_right(name, 12), harmless(value)));
    let body = match serde_json::from_str::<Value>(&message.message) {
        Ok(value) => written(&value).unwrap_or_default(),
        Err(_) => format!("{}\n", harmless(&message.message)),
    };
    lines.collect::<String>() + &body
}

/// The same as JSON.
pub fn message_json(message: &QuarantinedMessage) -> Result<String, serde_json::Error> {
    let mut about = about_json(&message.about);
    let body = serde_json::from_str(&message.message)
        .unwrap_or_else(|_| Value::String(message.message.clone()));
    if let Some(object) = about.as_object_mut() {
        object.insert("message".to_owned(), body);
    }
    written(&about)
}

fn line(id: &str, age: &str, reason: &str, from: &str) -> String {
    let [id, age] = [pad_left(id, ID_COLUMNS), pad_left(age, AGE_COLUMNS)];
    let reason = pad_right(reason, REASON_COLUMNS);
    format!("{id}  {age}  {reason}  {from}")
}

fn origin(row: &Quarantined) -> String {
    let who = row.observer.as_deref().unwrap_or("an old sender");
    let [who, meter, resource] = [who, &row.meter, &row.resource_id].map(printable);
    format!("{who}: {meter} of {resource}")
}

fn about_json(row: &Quarantined) -> Value {
    json!({
        "id": row.id,
        "quarantined_at": row.at.to_string(),
        "age_seconds": row.age_seconds,
        "reason": row.reason,
        "detail": row.detail,
        "observer": row.observer,
        "meter": row.meter,
        "resource_id": row.resource_id,
        "message_id": row.message_id,
    })
}

/// JSON in which everything but plain ASCII is escaped: exact for programs, harmless on terminals.
fn written(value: &Value) -> Result<String, serde_json::Error> {
    let text = serde_json::to_string_pretty(value)?;
    Ok(ascii(&text) + "\n")
}

/// Escapes as JSON does; beyond ASCII there is nothing but the insides of texts.
fn ascii(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii() && character != '\u{7f}' {
            plain.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            plain += &format!("\\u{unit:04x}");
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::UtcTime;

    fn row() -> Quarantined {
        Quarantined {
            id: 7,
            at: UtcTime::from_unix_micros(0),
            age_seconds: 300.0,
            reason: "text_too_long".into(),
            detail: "\u{1b}[2J\u{9b}2J".into(),
            observer: Some("node\u{202e}-1".into()),
            meter: "cpu\n".into(),
            resource_id: "ż\u{9b}31m".into(),
            message_id: "m".into(),
        }
    }

    #[test]
    fn nothing_that_was_refused_steers_a_terminal_and_programs_get_it_all() {
        let message = QuarantinedMessage {
            about: row(),
            message: "{\"a\": \"\\u001b[2J\\u009b\", \"\u{9b}\": \"\u{7f}\u{202e}🔥\"}".into(),
        };
        let damaged = QuarantinedMessage {
            message: "no json \u{1b}\u{9b}".into(),
            ..message.clone()
        };
        for text in [
            list_table(&[row()], 80),
            list_json(&[row()]).unwrap(),
            message_text(&message),
            message_json(&message).unwrap(),
            message_text(&damaged),
            message_json(&damaged).unwrap(),
        ] {
            let obeyed = |c: char| c != '\n' && printable(&c.to_string()) != c.to_string();
            assert!(!text.contains(obeyed), "{text:?}");
        }
        let read: Value = serde_json::from_str(&message_json(&message).unwrap()).unwrap();
        assert_eq!(read["detail"], row().detail);
        assert_eq!(read["message"]["a"], "\u{1b}[2J\u{9b}");
        assert_eq!(read["message"]["\u{9b}"], "\u{7f}\u{202e}🔥");
        assert_eq!(read["quarantined_at"], "1970-01-01T00:00:00.000000");
    }

    #[test]
    fn the_table_has_a_line_each_and_none_is_cut() {
        assert_eq!(list_table(&[], 80), EMPTY);
        let long = Quarantined {
            id: 1_234_567,
            observer: None,
            meter: "meter".into(),
            resource_id: "x".repeat(60),
            ..row()
        };
        let table = list_table(&[row(), long], 60);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], "    ID      AGE  REASON                  FROM");
        assert!(
            lines[1].starts_with("     7    5 min  text_too_long           node"),
            "{table}"
        );
        let joined: String = table.split_whitespace().collect();
        assert!(
            joined.contains(&format!("meterof{}", "x".repeat(60))),
            "{table}"
        );
        assert!(lines.iter().all(|line| line.len() <= 64), "{table}");
    }
}
