//! Pure. Which of the metadata that users give their instances goes into readings, as Ceilometer
//! chooses it (`ceilometer/sample.py`, `add_reserved_user_metadata`).

use crate::config::Reserved;
use crate::model::{Metadata, Value};

impl Reserved {
    /// What becomes `user_metadata`: entries whose key starts with one of the namespaces, without that
    /// prefix, and entries with one of the keys. Dots become underscores; texts are cut; a key that
    /// `taken` has is left out. Where two become one, a later namespace goes before an earlier one, keys
    /// before namespaces, and within one of them the later entry. None if nothing is left.
    ///
    /// As many entries as `user` has may be left: whoever brings it bounds it.
    pub fn select(
        &self,
        user: &[(String, Value)],
        taken: &Metadata,
    ) -> Option<Vec<(String, Value)>> {
        let mut selected: Vec<(String, Value)> = Vec::new();
        let by_prefix = self.namespaces.iter().flat_map(|prefix| {
            let bare = move |(key, value)| Some((str::strip_prefix(key, prefix.as_str())?, value));
            user.iter().map(as_text_and_value).filter_map(bare)
        });
        let by_key = self.keys.iter().flat_map(|wanted| {
            let is_it = move |(key, _): &(&str, &Value)| *key == wanted.as_str();
            user.iter().map(as_text_and_value).filter(is_it)
        });
        for (key, value) in by_prefix.chain(by_key) {
            let key = key.replace('.', "_");
            if !taken.contains_key(&key) {
                put(&mut selected, key, self.cut(value));
            }
        }
        Some(selected).filter(|selected| !selected.is_empty())
    }

    fn cut(&self, value: &Value) -> Value {
        match value {
            Value::Text(text) => Value::Text(text.chars().take(self.length).collect()),
            other => other.clone(),
        }
    }
}

fn as_text_and_value((key, value): &(String, Value)) -> (&str, &Value) {
    (key, value)
}

fn put(entries: &mut Vec<(String, Value)>, key: String, value: Value) {
    match entries.iter_mut().find(|(known, _)| *known == key) {
        Some((_, known)) => *known = value,
        None => entries.push((key, value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reserved(namespaces: &[&str], keys: &[&str], length: usize) -> Reserved {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Reserved {
            namespaces: owned(namespaces),
            keys: owned(keys),
            length,
        }
    }

    fn entries(pairs: &[(&str, &str)]) -> Vec<(String, Value)> {
        pairs
            .iter()
            .map(|(key, text)| ((*key).to_owned(), Value::from(*text)))
            .collect()
    }

    #[test]
    fn the_golden_rules() {
        let by_prefix = reserved(&["metering."], &[], 256);
        let by_both = reserved(&["metering."], &["stack", "a.b"], 256);
        let two = reserved(&["metering.", "ha."], &[], 256);
        for (rule, reserved, user, expected) in [
            (
                "the prefix is removed, what lacks it is left out",
                &by_prefix,
                &[("metering.x", "1"), ("y", "2"), ("xmetering.z", "3")][..],
                &[("x", "1")][..],
            ),
            (
                "dots become underscores",
                &by_prefix,
                &[("metering.a.b.c", "1")],
                &[("a_b_c", "1")],
            ),
            (
                "a key that exists already is left out, also once its dots are gone",
                &by_prefix,
                &[("metering.display.name", "1"), ("metering.x", "2")],
                &[("x", "2")],
            ),
            (
                "keys by their whole name",
                &by_both,
                &[("stack", "1"), ("a.b", "2"), ("a.b.c", "3")],
                &[("stack", "1"), ("a_b", "2")],
            ),
            (
                "a key by name replaces one by prefix",
                &by_both,
                &[("stack", "by name"), ("metering.stack", "by prefix")],
                &[("stack", "by name")],
            ),
            (
                "a later namespace replaces an earlier one",
                &two,
                &[("ha.x", "ha"), ("metering.x", "metering")],
                &[("x", "ha")],
            ),
            (
                "a later entry replaces an earlier one",
                &by_prefix,
                &[("metering.a.b", "1"), ("metering.a_b", "2")],
                &[("a_b", "2")],
            ),
        ] {
            let taken = Metadata::from([("display_name".to_owned(), Value::Null)]);
            let selected = reserved.select(&entries(user), &taken);
            assert_eq!(selected, Some(entries(expected)), "{rule}");
        }
    }

    #[test]
    fn texts_are_cut_in_characters_and_nothing_else_is() {
        let user = [
            ("metering.text".to_owned(), Value::from("żółć")),
            ("metering.number".to_owned(), Value::Int(123_456)),
        ];
        let cut = |length| reserved(&["metering."], &[], length).select(&user, &Metadata::new());
        let expected = |text: &str| {
            let text = ("text".to_owned(), Value::from(text));
            Some(vec![text, ("number".to_owned(), Value::Int(123_456))])
        };
        assert_eq!(cut(3), expected("żół"));
        assert_eq!(cut(4), expected("żółć"));
        assert_eq!(cut(0), expected(""));
    }

    #[test]
    fn nothing_selected_is_no_user_metadata() {
        let reserved = reserved(&["metering."], &["stack"], 256);
        assert_eq!(reserved.select(&[], &Metadata::new()), None);
        let taken = Metadata::from([("stack".to_owned(), Value::Null)]);
        assert_eq!(reserved.select(&entries(&[("stack", "x")]), &taken), None);
    }
}
