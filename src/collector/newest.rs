//! Pure. Which of many readings are the newest of their states.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::model::{Identity, Received, Standing};

/// What a reading is about: observer, meter, resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct OwnedKey {
    observer: String,
    meter: String,
    resource_id: String,
}

impl OwnedKey {
    /// None for what has no state: a message of an old sender, or one that doesn't speak of now.
    pub(super) fn of(message: &Received) -> Option<Self> {
        let identity = numbered(message)?;
        Some(OwnedKey {
            observer: identity.observer.clone(),
            meter: message.meter.name.clone(),
            resource_id: message.resource_id.clone(),
        })
    }
}

/// The identity of what has a state.
fn numbered(message: &Received) -> Option<&Identity> {
    let identity = message.identity.as_ref();
    identity.filter(|_| message.evidence.standing == Standing::Live)
}

/// Whether a reading comes after another one of the same observer.
pub(super) fn is_newer(this: &Received, than: &Received) -> bool {
    order(this) > order(than)
}

fn order(message: &Received) -> Option<(u64, u64)> {
    let order = |identity: &Identity| (identity.epoch, identity.seq);
    message.identity.as_ref().map(order)
}

/// Keeps the newest reading of each state, with its copies from other paths, and drops what has no
/// state.
pub fn newest_of<'m>(messages: impl IntoIterator<Item = &'m Arc<Received>>) -> Vec<Arc<Received>> {
    let mut newest: HashMap<(&str, &str, &str), Vec<&'m Arc<Received>>> = HashMap::new();
    for message in messages {
        let Some(identity) = numbered(message) else {
            continue;
        };
        let (observer, meter) = (identity.observer.as_str(), message.meter.name.as_str());
        match newest.entry((observer, meter, message.resource_id.as_str())) {
            Entry::Vacant(first) => {
                first.insert(vec![message]);
            }
            Entry::Occupied(mut held) => {
                let held = held.get_mut();
                let than = held.first().and_then(|held| order(held));
                match order(message).cmp(&than) {
                    std::cmp::Ordering::Greater => *held = vec![message],
                    std::cmp::Ordering::Equal => held.push(message),
                    std::cmp::Ordering::Less => {}
                }
            }
        }
    }
    newest.into_values().flatten().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ReceivedMeter, Value};
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn message(key: u8, epoch: u64, seq: u64, path: u8, numbered: bool) -> Arc<Received> {
        Arc::new(Received {
            identity: numbered.then(|| Identity {
                observer: (key & 1).to_string(),
                epoch,
                seq,
            }),
            path: Some(path.to_string()),
            evidence: crate::model::Evidence::default(),
            message_id: String::new(),
            signature: String::new(),
            source: String::new(),
            meter: ReceivedMeter {
                name: (key & 2).to_string(),
                kind: None,
                unit: None,
            },
            volume: None,
            resource_id: (key & 4).to_string(),
            user_id: None,
            project_id: None,
            timestamp: None,
            metadata: Value::Null,
        })
    }

    proptest! {
        #[test]
        fn the_newest_of_each_state_with_all_its_paths(
            all in prop::collection::vec((0..8u8, 0..3u64, 0..4u64, 0..2u8, prop::bool::weighted(0.9)), 0..60),
        ) {
            let mut model: BTreeMap<u8, (u64, u64, BTreeSet<u8>)> = BTreeMap::new();
            for &(key, epoch, seq, path, _) in all.iter().filter(|sent| sent.4) {
                let (held_epoch, held_seq, paths) = model.entry(key).or_default();
                if (epoch, seq) > (*held_epoch, *held_seq) || paths.is_empty() {
                    (*held_epoch, *held_seq) = (epoch, seq);
                    paths.clear();
                }
                if (epoch, seq) == (*held_epoch, *held_seq) {
                    paths.insert(path);
                }
            }
            let sent: Vec<_> = all.into_iter().map(|(k, e, s, p, n)| message(k, e, s, p, n)).collect();
            let mut found: BTreeMap<u8, (u64, u64, BTreeSet<u8>)> = BTreeMap::new();
            for newest in newest_of(&sent) {
                let identity = newest.identity.as_ref().unwrap();
                let bits = [&identity.observer, &newest.meter.name, &newest.resource_id];
                let key = bits.map(|bit| bit.parse::<u8>().unwrap()).iter().sum();
                let entry = found.entry(key).or_default();
                (entry.0, entry.1) = (identity.epoch, identity.seq);
                entry.2.insert(newest.path.as_ref().unwrap().parse().unwrap());
            }
            prop_assert_eq!(found, model);
        }
    }
}
