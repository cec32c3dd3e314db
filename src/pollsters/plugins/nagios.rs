//! Pure. Reads what a plug-in for Nagios says: the exit status is the verdict, and behind a `|` in
//! its text stand numbers. The source is the Monitoring Plugins Development Guidelines, "Plugin
//! Output for Nagios" and "Performance data", and for texts of several lines Nagios' own
//! documentation of its plug-in API.

use super::item::{Found, Item, UNIT_CHARS_MAX};
use crate::model::{Metadata, MeterType, Value, Volume};

/// The longest label, in a meter's name and in metadata. Labels are paths and device names; a number
/// with a longer one is refused.
const LABEL_CHARS_MAX: usize = 64;

/// The verdicts, in the order of their codes.
const STATUS: [&str; 4] = ["ok", "warning", "critical", "unknown"];

/// Reads one round of the plug-in of this name.
pub(super) fn read(name: &str, status: i32, output: &[u8]) -> Found {
    let Some(word) = usize::try_from(status).ok().and_then(|at| STATUS.get(at)) else {
        return Found::nothing("an exit status other than 0, 1, 2 and 3");
    };
    let text = String::from_utf8_lossy(output);
    // A program that fell over says nothing here and ends with 1, which is no warning of anything.
    if text.trim().is_empty() {
        return Found::nothing("no line of text");
    }
    let mut found = Found::default();
    found.add(Ok(Item {
        meter: name.to_owned(),
        kind: MeterType::Gauge,
        unit: String::new(),
        volume: Volume::Int(i64::from(status)),
        resource: None,
        metadata: Metadata::from([("status".to_owned(), Value::from(*word))]),
    }));
    for one in tokens(&performance_data(&text)) {
        match number(name, &one) {
            Ok(Some(item)) => found.add(Ok(item)),
            Ok(None) => {}
            Err(why) => found.add(Err(why)),
        }
    }
    found
}

/// What stands behind `|` in the first line and, further down, behind the first `|` up to the end.
fn performance_data(text: &str) -> String {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let first = first.split_once('|').map_or("", |(_, data)| data);
    let rest = rest.split_once('|').map_or("", |(_, data)| data);
    format!("{first} {rest}")
}

/// One number as it is written: `label=value[UOM];warn;crit;min;max`.
struct Token {
    label: String,
    value: String,
}

/// Splits performance data at blanks; a label in single quotes may hold any, and `''` in it is one
/// quote.
fn tokens(data: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = data.trim_start();
    while !rest.is_empty() {
        let (label, after) = label(rest);
        let end = after.find(char::is_whitespace).unwrap_or(after.len());
        let (value, next) = after.split_at_checked(end).unwrap_or((after, ""));
        let value = value.to_owned();
        tokens.push(Token { label, value });
        rest = next.trim_start();
    }
    tokens
}

/// The label at the start of a text and what stands behind its `=`; nothing does where it has none.
fn label(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('\'') else {
        let end = text
            .find(|c: char| c == '=' || c.is_whitespace())
            .unwrap_or(text.len());
        let (label, after) = text.split_at_checked(end).unwrap_or((text, ""));
        return (label.to_owned(), after.strip_prefix('=').unwrap_or(after));
    };
    let mut label = String::new();
    let mut rest = quoted;
    while let Some((part, after)) = rest.split_once('\'') {
        label.push_str(part);
        match after.strip_prefix('\'') {
            Some(more) => {
                label.push('\'');
                rest = more;
            }
            None => return (label, after.strip_prefix('=').unwrap_or(after)),
        }
    }
    (label, "")
}

/// A number as an item; None for one that the plug-in says it couldn't find out.
fn number(name: &str, token: &Token) -> Result<Option<Item>, &'static str> {
    let value = token.value.split(';').next().unwrap_or_default();
    if value == "U" {
        return Ok(None);
    }
    // Digits first: what follows is the unit, and a unit may begin with an E.
    let end = value
        .find(|c: char| !c.is_ascii_digit() && !"+-.".contains(c))
        .unwrap_or(value.len());
    let (digits, unit) = value.split_at_checked(end).unwrap_or((value, ""));
    let volume = digits
        .parse()
        .ok()
        .and_then(Volume::measured)
        .ok_or("performance data without a number")?;
    if unit.len() > UNIT_CHARS_MAX || !unit.chars().all(is_of_a_unit) {
        return Err("performance data with a strange unit");
    }
    let is_counter = unit == "c";
    Ok(Some(Item {
        meter: format!("{name}.{}", part_of_a_name(&token.label)?),
        kind: if is_counter {
            MeterType::Cumulative
        } else {
            MeterType::Gauge
        },
        unit: if is_counter { "" } else { unit }.to_owned(),
        volume,
        resource: None,
        metadata: Metadata::from([("label".to_owned(), Value::from(token.label.as_str()))]),
    }))
}

fn is_of_a_unit(c: char) -> bool {
    c.is_ascii_alphabetic() || "%/".contains(c)
}

/// A label as a part of a meter's name: in lower case, everything but letters, digits and `-` as
/// `_`.
fn part_of_a_name(label: &str) -> Result<String, &'static str> {
    if label.is_empty() || label.chars().count() > LABEL_CHARS_MAX {
        return Err("performance data with no label, or too long a one");
    }
    if label.chars().any(char::is_control) {
        return Err("performance data with a strange label");
    }
    let plain = |c: char| match c.to_ascii_lowercase() {
        c if c.is_ascii_alphanumeric() || c == '-' => c,
        _ => '_',
    };
    Ok(label.chars().map(plain).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Meter, unit and volume of everything found.
    fn numbers(text: &str) -> Vec<(String, String, f64)> {
        let found = read("p", 0, text.as_bytes());
        found
            .items
            .into_iter()
            .skip(1)
            .map(|item| (item.meter, item.unit, item.volume.as_f64()))
            .collect()
    }

    fn owned(numbers: &[(&str, &str, f64)]) -> Vec<(String, String, f64)> {
        numbers
            .iter()
            .map(|(meter, unit, volume)| ((*meter).to_owned(), (*unit).to_owned(), *volume))
            .collect()
    }

    #[test]
    fn the_status_is_the_first_sample() {
        for (status, word) in [(0, "ok"), (1, "warning"), (2, "critical"), (3, "unknown")] {
            let found = read("p", status, b"TEXT - whatever");
            let [item] = &found.items[..] else {
                panic!("{found:?}")
            };
            assert_eq!((item.meter.as_str(), item.kind), ("p", MeterType::Gauge));
            assert_eq!(item.volume, Volume::Int(i64::from(status)));
            assert_eq!(item.metadata["status"], Value::from(word));
            assert_eq!(item.metadata.len(), 1, "no text that changes each round");
        }
    }

    #[test]
    fn no_text_and_other_statuses_are_no_answer() {
        for (status, text) in [(0, ""), (1, "  \n"), (4, "OK"), (-1, "OK"), (139, "OK")] {
            assert!(
                read("p", status, text.as_bytes()).is_garbage(),
                "{status} {text:?}"
            );
        }
    }

    /// Outputs of real plug-ins (Debian's monitoring-plugins 2.3.3) and of the guidelines.
    #[test]
    fn performance_data_become_samples() {
        for (text, expected) in [
            (
                "LOAD OK - total load average: 0.15, 0.09, 0.03|load1=0.150;9.000;9.000;0; load5=0.090;9.000;9.000;0; load15=0.030;9.000;9.000;0; ",
                &[
                    ("p.load1", "", 0.15),
                    ("p.load5", "", 0.09),
                    ("p.load15", "", 0.03),
                ][..],
            ),
            (
                "USERS OK - 2 users currently logged in |users=2;10;20;0",
                &[("p.users", "", 2.0)],
            ),
            (
                "DISK OK - free space: / 3326 MB (56%);| /=2643MB;5948;5958;0;5968",
                &[("p._", "MB", 2643.0)],
            ),
            (
                "PING OK - Packet loss = 0%, RTA = 0.80 ms|rta=0.80ms;;;0.00 pl=0%;80;100;;",
                &[("p.rta", "ms", 0.8), ("p.pl", "%", 0.0)],
            ),
            (
                "DISK OK - text | /=2643MB;5948;5958;0;5968\n/ 15272 MB (77%);\n/boot 68 MB (69%);\n/home 69357 MB | /boot=68MB;88;93;0;98\n/home=69357MB;253404;253409;0;253414",
                &[
                    ("p._", "MB", 2643.0),
                    ("p._boot", "MB", 68.0),
                    ("p._home", "MB", 69357.0),
                ],
            ),
            (
                "OK|'a b'=1s 'it''s'=2",
                &[("p.a_b", "s", 1.0), ("p.it_s", "", 2.0)],
            ),
            ("OK|Packets=12c", &[("p.packets", "", 12.0)]),
            ("OK|a=U b=-1.5;U c=U;1;2", &[("p.b", "", -1.5)]),
            (
                "OK|t=3.5us w=1KB x=1TB",
                &[("p.t", "us", 3.5), ("p.w", "KB", 1.0), ("p.x", "TB", 1.0)],
            ),
            ("OK", &[]),
            ("OK|", &[]),
        ] {
            assert_eq!(numbers(text), owned(expected), "{text}");
            assert_eq!(read("p", 0, text.as_bytes()).refused, 0, "{text}");
        }
        assert_eq!(
            read("p", 0, b"OK|n=12c").items[1].kind,
            MeterType::Cumulative
        );
    }

    #[test]
    fn numbers_that_cannot_be_read_cost_themselves_alone() {
        for bad in [
            "x",
            "x=",
            "=1",
            "''=1",
            "'a=1",
            "x=abc",
            "x=1.2.3",
            "x=--1",
            "x=1e",
            "x=nan",
            "x=inf",
            "x=1\u{b5}s",
            "a=2",
        ] {
            let text = format!("OK|a=1 {bad}");
            let found = read("p", 0, text.as_bytes());
            let read = found.items.len() + usize::try_from(found.refused).unwrap();
            assert_eq!(read, 3, "{bad}: {found:?}");
            assert!(!found.is_garbage());
        }
        let label = "x".repeat(LABEL_CHARS_MAX);
        assert_eq!(numbers(&format!("OK|{label}=1")).len(), 1);
        assert_eq!(numbers(&format!("OK|{label}x=1")).len(), 0);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(status in any::<i32>(), output in any::<Vec<u8>>()) {
            read("p", status, &output);
        }

        #[test]
        fn whatever_is_read_begins_with_the_name_and_is_bounded(
            status in 0..4, data in "[a-zA-Z0-9=;|'%. \n\u{e4}-]{0,200}"
        ) {
            let found = read("p", status, format!("OK|{data}").as_bytes());
            for item in &found.items {
                prop_assert!(item.meter == "p" || item.meter.starts_with("p."));
                prop_assert!(item.meter.len() <= 2 + LABEL_CHARS_MAX && item.meter.is_ascii());
                prop_assert!(item.volume.as_f64().is_finite());
                prop_assert!(item.unit.len() <= UNIT_CHARS_MAX);
            }
        }
    }
}
