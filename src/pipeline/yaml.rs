//! Pure. A YAML file as a tree that knows its lines, so that the checks can look at everything and
//! report all that is wrong, not only what a typed reader stumbles over first.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// The deepest nesting that is read. A pipeline has five levels; the limit keeps the stack safe,
/// and a deeper file is refused.
const DEPTH_MAX: usize = 16;

/// The most values that are read, those that aliases repeat included. A pipeline has some dozens; a
/// file with more is refused.
const NODES_MAX: usize = 20_000;

/// The reader's own words about what is no YAML are a sentence; what is longer is cut.
const SHOWN_CHARS_MAX: usize = 200;

/// A value and where it stands.
pub(super) type Node = Spanned<Kind>;

/// What a value is.
#[derive(Debug)]
pub(super) enum Kind {
    Null,
    Bool,
    Number(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Spanned<String>, Node)>),
}

impl Kind {
    /// What to call it in a message.
    pub(super) fn words(&self) -> &'static str {
        match self {
            Kind::Null => "nothing",
            Kind::Bool => "a truth value",
            Kind::Number(_) => "a number",
            Kind::Text(_) => "text",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a map",
        }
    }
}

/// Where a value stands, if the reader knows.
pub(super) fn line_of<T>(spanned: &Spanned<T>) -> Option<usize> {
    usize::try_from(spanned.referenced.line())
        .ok()
        .filter(|line| *line > 0)
}

/// What is no YAML.
pub(super) struct Unreadable {
    pub(super) line: Option<usize>,
    pub(super) message: String,
}

/// Reads a file; an empty one is [`Kind::Null`].
pub(super) fn read(text: &str) -> Result<Node, Unreadable> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            max_nodes: NODES_MAX,
            max_events: 2 * NODES_MAX,
            max_documents: 1,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: NODES_MAX,
        },
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| Unreadable {
        line: error
            .location()
            .and_then(|location| usize::try_from(location.line()).ok()),
        message: one_line(
            &error
                .without_snippet()
                .render_with_formatter(&serde_saphyr::UserMessageFormatter),
        ),
    })
}

/// The words of the YAML reader, which may repeat a key of any length and with any characters.
fn one_line(message: &str) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    message
        .chars()
        .take(SHOWN_CHARS_MAX)
        .map(printable)
        .collect()
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Kind, D::Error> {
        Kind::deserialize(inner)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Kind, E> {
        Ok(Kind::Bool)
    }

    #[allow(clippy::cast_precision_loss)] // an interval beyond 2^53 s is refused anyway
    fn visit_i64<E>(self, number: i64) -> Result<Kind, E> {
        Ok(Kind::Number(number as f64))
    }

    #[allow(clippy::cast_precision_loss)] // an interval beyond 2^53 s is refused anyway
    fn visit_u64<E>(self, number: u64) -> Result<Kind, E> {
        Ok(Kind::Number(number as f64))
    }

    #[allow(clippy::cast_precision_loss)] // an interval beyond 2^53 s is refused anyway
    fn visit_i128<E>(self, number: i128) -> Result<Kind, E> {
        Ok(Kind::Number(number as f64))
    }

    #[allow(clippy::cast_precision_loss)] // an interval beyond 2^53 s is refused anyway
    fn visit_u128<E>(self, number: u128) -> Result<Kind, E> {
        Ok(Kind::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Kind, E> {
        Ok(Kind::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Kind, E> {
        Ok(Kind::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Kind, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Kind::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Kind, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = items.next_entry()? {
            map.push(entry);
        }
        Ok(Kind::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_known_through_lists_and_maps() {
        let root = read("a:\n  - x\n  - b: 1\n    c:\n").ok().unwrap();
        let Kind::Map(map) = &root.value else {
            panic!("{root:?}")
        };
        let (key, list) = &map[0];
        assert_eq!((key.value.as_str(), line_of(key)), ("a", Some(1)));
        let Kind::List(list) = &list.value else {
            panic!("{list:?}")
        };
        assert_eq!(
            list.iter().map(line_of).collect::<Vec<_>>(),
            [Some(2), Some(3)]
        );
        let Kind::Map(inner) = &list[1].value else {
            panic!("{list:?}")
        };
        assert_eq!(
            inner
                .iter()
                .map(|(key, _)| line_of(key))
                .collect::<Vec<_>>(),
            [Some(3), Some(4)]
        );
        assert!(matches!(inner[0].1.value, Kind::Number(n) if n == 1.0));
        assert!(matches!(inner[1].1.value, Kind::Null));
    }

    #[test]
    fn bombs_are_refused() {
        let mut aliases = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..10 {
            let inner = format!("*a{}, ", level - 1).repeat(9);
            aliases.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
        }
        assert!(read(&aliases).is_err());
        assert!(read(&"[".repeat(100_000)).is_err());
        assert!(read(&format!("a: {}x{}", "[".repeat(20), "]".repeat(20))).is_err());
        assert!(read(&"- x\n".repeat(NODES_MAX + 1)).is_err());
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in any::<String>()) {
            let _ = read(&text);
        }

        #[test]
        fn no_text_made_of_yaml_signs_is_too_strange(text in "[-?:,\\[\\]{}#&*!|>'\"% \na<]{0,60}") {
            let _ = read(&text);
        }
    }
}
