//! Pure. Reads samples as JSON: one object a line, or one array of objects.
//!
//! ```text
//! {"meter": "disk_health.wear", "type": "gauge", "unit": "%", "volume": 3,
//!  "resource_id": "node-1/sda", "metadata": {"model": "X25"}}
//! ```

use serde_json::{Map, Value as Json};

use super::item::{Found, Item, METER_CHARS_MAX, UNIT_CHARS_MAX, is_short};
use crate::model::{Metadata, MeterType, Value, Volume};

/// The longest resource, as the database keeps it; an item with a longer one is refused.
const RESOURCE_CHARS_MAX: usize = 255;
/// The most metadata of one sample; an item with more is refused.
const METADATA_MAX: usize = 32;
/// The longest key and the longest text of metadata; an item with a longer one is refused.
const KEY_CHARS_MAX: usize = 64;
const TEXT_CHARS_MAX: usize = 255;

/// Reads one round of the plug-in of this name. Metadata under one of `reserved` is the agent's.
pub(super) fn read(name: &str, output: &[u8], reserved: &[String]) -> Found {
    let Ok(text) = std::str::from_utf8(output) else {
        return Found::nothing("text that isn't UTF-8");
    };
    let text = text.trim();
    let mut found = Found::default();
    if text.starts_with('[') {
        let Ok(items) = serde_json::from_str::<Vec<Json>>(text) else {
            return Found::nothing("an array that isn't JSON");
        };
        for value in &items {
            found.add(item(name, value, reserved));
        }
        return found;
    }
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let value = serde_json::from_str(line).map_err(|_| "a line that isn't JSON");
        found.add(value.and_then(|value| item(name, &value, reserved)));
    }
    found
}

fn item(name: &str, value: &Json, reserved: &[String]) -> Result<Item, &'static str> {
    let object = value.as_object().ok_or("a sample that is no object")?;
    let known = ["meter", "type", "unit", "volume", "resource_id", "metadata"];
    if object.keys().any(|key| !known.contains(&key.as_str())) {
        return Err("a sample with an unknown key");
    }
    Ok(Item {
        meter: meter(name, object)?,
        kind: text(object, "type")
            .and_then(MeterType::from_name)
            .ok_or("a sample without gauge, delta or cumulative as its type")?,
        unit: text(object, "unit")
            .filter(|unit| is_short(unit, UNIT_CHARS_MAX))
            .ok_or("a sample without a unit, or with too long a one")?
            .to_owned(),
        volume: object
            .get("volume")
            .and_then(volume)
            .ok_or("a sample without a number as its volume")?,
        resource: resource(object)?,
        metadata: metadata(object, reserved)?,
    })
}

fn text<'a>(object: &'a Map<String, Json>, key: &str) -> Option<&'a str> {
    object.get(key)?.as_str()
}

fn meter(name: &str, object: &Map<String, Json>) -> Result<String, &'static str> {
    let meter = text(object, "meter").ok_or("a sample without a meter")?;
    let below = meter.strip_prefix(name).ok_or(FOREIGN)?;
    let is_own = below.is_empty() || (below.starts_with('.') && below.len() > 1);
    if !is_own {
        return Err(FOREIGN);
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if meter.len() > METER_CHARS_MAX || !meter.chars().all(plain) {
        return Err(
            "a meter's name that is too long or has other signs than letters, digits, . _ -",
        );
    }
    Ok(meter.to_owned())
}

const FOREIGN: &str = "a meter whose name isn't the plug-in's and doesn't begin with it and a dot";

fn volume(value: &Json) -> Option<Volume> {
    let number = value.as_number()?;
    number
        .as_i64()
        .map(Volume::Int)
        .or_else(|| Volume::measured(number.as_f64()?))
}

fn resource(object: &Map<String, Json>) -> Result<Option<String>, &'static str> {
    let Some(value) = object.get("resource_id") else {
        return Ok(None);
    };
    value
        .as_str()
        .filter(|text| !text.is_empty() && is_short(text, RESOURCE_CHARS_MAX))
        .map(|text| Some(text.to_owned()))
        .ok_or("a resource_id that is no text of 1 to 255 characters")
}

fn metadata(object: &Map<String, Json>, reserved: &[String]) -> Result<Metadata, &'static str> {
    let Some(value) = object.get("metadata") else {
        return Ok(Metadata::new());
    };
    let entries = value.as_object().ok_or("metadata that is no object")?;
    if entries.len() > METADATA_MAX {
        return Err("metadata with too many keys");
    }
    entries
        .iter()
        .map(|(key, value)| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
            if key.is_empty() || key.len() > KEY_CHARS_MAX || !key.chars().all(plain) {
                return Err("a key of metadata that is too long or has strange signs");
            }
            if reserved.contains(key) {
                return Err("a key of metadata that the agent fills by itself");
            }
            Ok((key.clone(), plain_value(value)?))
        })
        .collect()
}

fn plain_value(value: &Json) -> Result<Value, &'static str> {
    match value {
        Json::Bool(truth) => Ok(Value::Bool(*truth)),
        Json::Number(_) => match volume(value) {
            Some(Volume::Int(number)) => Ok(Value::Int(i128::from(number))),
            Some(Volume::Float(number)) => Ok(Value::Float(number)),
            None => Err("a number in metadata that is none"),
        },
        Json::String(text) if is_short(text, TEXT_CHARS_MAX) => Ok(Value::from(text.as_str())),
        Json::String(_) => Err("a text in metadata that is too long or has control characters"),
        Json::Null | Json::Array(_) | Json::Object(_) => {
            Err("metadata that is neither text, number nor truth value")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = r#"{"meter": "p.wear", "type": "gauge", "unit": "%", "volume": 3.5, "resource_id": "n/sda", "metadata": {"model": "X25", "slot": 2, "spare": false, "size": 0.5}}"#;

    fn read_one(text: &str) -> Found {
        read("p", text.as_bytes(), &["node".to_owned()])
    }

    #[test]
    fn a_sample_is_what_its_object_says() {
        let found = read_one(GOOD);
        let [item] = &found.items[..] else {
            panic!("{found:?}")
        };
        assert_eq!(item.meter, "p.wear");
        assert_eq!((item.kind, item.unit.as_str()), (MeterType::Gauge, "%"));
        assert_eq!(item.volume, Volume::Float(3.5));
        assert_eq!(item.resource.as_deref(), Some("n/sda"));
        assert_eq!(item.metadata["model"], Value::from("X25"));
        assert_eq!(item.metadata["slot"], Value::Int(2));
        assert_eq!(item.metadata["spare"], Value::Bool(false));
        assert_eq!(item.metadata["size"], Value::Float(0.5));
    }

    #[test]
    fn an_array_and_lines_say_the_same() {
        let short = r#"{"meter": "p", "type": "delta", "unit": "", "volume": 1}"#;
        let lines = format!("\n{GOOD}\r\n\n{short}\n");
        let array = format!(" [{GOOD},\n {short}]\n");
        assert_eq!(read_one(&lines).items.len(), 2);
        assert_eq!(read_one(&lines), read_one(&array));
        for nothing in ["", " \n", "[]"] {
            assert_eq!(read_one(nothing), Found::default(), "{nothing:?}");
        }
    }

    #[test]
    fn what_is_wrong_costs_its_own_sample_alone() {
        let with = |from: &str, to: &str| GOOD.replacen(from, to, 1);
        let long = "x".repeat(256);
        for bad in [
            with("p.wear", "q.wear"),
            with("p.wear", "pq"),
            with("p.wear", "p."),
            with("p.wear", "instance.state"),
            with("p.wear", "p.\u{e4}"),
            with("p.wear", "p.a b"),
            with("p.wear", &format!("p.{long}")),
            with("\"p.wear\"", "1"),
            with("gauge", "Gauge"),
            with("%", &long),
            with("\"unit\"", "\"units\""),
            with("3.5", "\"3.5\""),
            with("3.5", "NaN"),
            with("3.5", "1e999"),
            with("3.5", "true"),
            with("3.5", "null"),
            with("n/sda", ""),
            with("n/sda", &long),
            with("n/sda", "a\\nb"),
            with("\"n/sda\"", "7"),
            with("model", "node"),
            with("model", "a.b"),
            with("model", &long),
            with("X25", &long),
            with("\"X25\"", "[1]"),
            with("\"X25\"", "{}"),
            with("\"X25\"", "null"),
            with("{\"model\"", "[{\"model\""),
            "[[]]".to_owned(),
            "7".to_owned(),
            "OK - all well".to_owned(),
            "[".repeat(100_000),
        ] {
            let found = read_one(&bad);
            assert!(found.is_garbage(), "{bad:.80}: {found:?}");
            if !bad.starts_with('[') {
                let found = read_one(&format!("{bad}\n{GOOD}"));
                assert_eq!((found.items.len(), found.refused), (1, 1), "{bad:.80}");
            }
        }
        let many: Vec<String> = (0..=METADATA_MAX).map(|n| format!("\"k{n}\": 1")).collect();
        let metadata = |count| format!("{{{}}}", many[..count].join(", "));
        let with_keys = |count| {
            GOOD.replace(
                r#"{"model": "X25", "slot": 2, "spare": false, "size": 0.5}"#,
                &metadata(count),
            )
        };
        assert!(!read_one(&with_keys(METADATA_MAX)).is_garbage());
        assert!(read_one(&with_keys(METADATA_MAX + 1)).is_garbage());
        assert!(read("p", b"\xff", &[]).is_garbage());
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(output in any::<Vec<u8>>()) {
            read("p", &output, &[]);
        }

        #[test]
        fn whatever_is_read_is_bounded(text in "[\\[\\]{}:,\"a-z0-9.e\\\\ \n-]{0,200}") {
            read("p", text.as_bytes(), &[]);
        }

        #[test]
        fn whatever_meter_is_read_is_the_plug_ins_own(meter in "(p|q|instance)?[.a-z_]{0,6}") {
            let line = GOOD.replace("p.wear", &meter);
            for item in read_one(&line).items {
                prop_assert!(item.meter == "p" || item.meter.starts_with("p."));
            }
        }
    }
}
