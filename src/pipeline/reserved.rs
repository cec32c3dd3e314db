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
