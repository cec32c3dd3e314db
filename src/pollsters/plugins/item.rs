//! Pure. One thing that a plug-in found, whichever format it was said in, and the bounds on all of
//! them.

use std::collections::BTreeSet;

use crate::model::{Metadata, MeterType, Volume};

/// The most samples of one round. The output's own limit allows more of the shortest ones; what is
/// beyond is refused, and counted.
const ITEMS_MAX: usize = 1000;
/// The longest name of a meter. The database keeps 255 characters, of which a person reads a few; an
/// item with a longer one is refused.
pub(super) const METER_CHARS_MAX: usize = 128;
/// The longest unit; an item with a longer one is refused.
pub(super) const UNIT_CHARS_MAX: usize = 32;

/// What becomes one sample.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Item {
    /// The meter's name: the plug-in's, or one that begins with it and a dot.
    pub(super) meter: String,
    /// Gauge, delta or cumulative.
    pub(super) kind: MeterType,
    /// The unit, empty where there is none.
    pub(super) unit: String,
    /// How much.
    pub(super) volume: Volume,
    /// Of what; None for the host.
    pub(super) resource: Option<String>,
    /// What else is known about the resource.
    pub(super) metadata: Metadata,
}

/// What one round of a plug-in yields.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Found {
    /// What could be read.
    pub(super) items: Vec<Item>,
    /// How many couldn't.
    pub(super) refused: u64,
    /// Why the first of them couldn't.
    pub(super) why: Option<&'static str>,
    seen: BTreeSet<(String, Option<String>)>,
}

impl Found {
    /// Takes an item in, or counts it as refused. One meter of one resource has one value a round.
    pub(super) fn add(&mut self, item: Result<Item, &'static str>) {
        let checked = item.and_then(|item| {
            if self.items.len() >= ITEMS_MAX {
                return Err("more samples than one round may have");
            }
            let key = (item.meter.clone(), item.resource.clone());
            if !self.seen.insert(key) {
                return Err("the same meter and resource twice");
            }
            Ok(item)
        });
        match checked {
            Ok(item) => self.items.push(item),
            Err(why) => {
                self.refused += 1;
                self.why.get_or_insert(why);
            }
        }
    }

    /// Nothing was found, for this reason.
    pub(super) fn nothing(why: &'static str) -> Self {
        Found {
            refused: 1,
            why: Some(why),
            ..Found::default()
        }
    }

    /// Whether it is no answer at all: there was something, and none of it could be read.
    pub(super) fn is_garbage(&self) -> bool {
        self.items.is_empty() && self.refused > 0
    }
}

/// Whether a text fits one line of at most so many characters.
pub(super) fn is_short(text: &str, chars_max: usize) -> bool {
    text.chars().count() <= chars_max && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(meter: &str, resource: Option<&str>) -> Result<Item, &'static str> {
        Ok(Item {
            meter: meter.into(),
            kind: MeterType::Gauge,
            unit: String::new(),
            volume: Volume::Int(1),
            resource: resource.map(str::to_owned),
            metadata: Metadata::new(),
        })
    }

    #[test]
    fn one_meter_of_one_resource_counts_once() {
        let mut found = Found::default();
        for (meter, resource) in [("a", None), ("a", Some("x")), ("b", None), ("a", Some("x"))] {
            found.add(item(meter, resource));
        }
        assert_eq!((found.items.len(), found.refused), (3, 1));
        assert_eq!(found.why, Some("the same meter and resource twice"));
    }

    #[test]
    fn a_round_has_so_many_samples_and_no_more() {
        let mut found = Found::default();
        for number in 0..=ITEMS_MAX {
            found.add(item(&format!("a.{number}"), None));
        }
        assert_eq!((found.items.len(), found.refused), (ITEMS_MAX, 1));
    }

    #[test]
    fn nothing_said_is_no_garbage() {
        assert!(!Found::default().is_garbage());
        assert!(Found::nothing("why").is_garbage());
    }
}
