//! Pure. The meters that somebody yields, so that a misspelt name is found and put right.

use std::collections::BTreeSet;

use super::{matches, may_match_below};
use crate::config::nearest::nearest;

/// Meters that pollsters yield.
#[derive(Debug, Clone, Default)]
pub struct KnownMeters {
    names: BTreeSet<String>,
    families: BTreeSet<String>,
}

impl KnownMeters {
    /// Meters by their names, and families of which any meter may come whose name is the family's or
    /// begins with it and a dot.
    pub fn new<'n>(
        names: impl IntoIterator<Item = &'n str>,
        families: impl IntoIterator<Item = &'n str>,
    ) -> Self {
        KnownMeters {
            names: names.into_iter().map(str::to_owned).collect(),
            families: families.into_iter().map(str::to_owned).collect(),
        }
    }

    /// Whether a name or wildcard of a source may stand for one of them.
    pub(super) fn may_hold(&self, pattern: &str) -> bool {
        let below = |family: &String| matches(pattern, family) || may_match_below(pattern, family);
        self.names.iter().any(|name| matches(pattern, name)) || self.families.iter().any(below)
    }

    /// The name that a misspelt one was probably meant to be; for a wildcard, one such as
    /// `storage_gateway.*`.
    pub(super) fn nearest(&self, pattern: &str) -> Option<String> {
        let all: BTreeSet<String> = if pattern.contains('*') {
            self.wildcards().collect()
        } else {
            self.names.iter().chain(&self.families).cloned().collect()
        };
        nearest(pattern, all.iter().map(String::as_str)).map(str::to_owned)
    }

    /// What stands for all meters below a name.
    fn wildcards(&self) -> impl Iterator<Item = String> {
        let dots = self.names.iter().flat_map(|name| {
            let above = |(at, _)| name.get(..at);
            name.match_indices('.').filter_map(above)
        });
        dots.chain(self.families.iter().map(String::as_str))
            .map(|above| format!("{above}.*"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> KnownMeters {
        let names = ["cpu", "storage_gateway.rtt", "disk.device.read.bytes"];
        KnownMeters::new(names, ["raid"])
    }

    #[test]
    fn names_wildcards_and_what_is_below_a_family_are_known() {
        for (pattern, is_known) in [
            ("cpu", true),
            ("cpu.*", false),
            ("storage_gateway.*", true),
            ("*.rtt", true),
            ("*", true),
            ("raid", true),
            ("raid.wear", true),
            ("raid.*", true),
            ("raid2", false),
            ("storage_gatewy.*", false),
            ("", false),
        ] {
            assert_eq!(known().may_hold(pattern), is_known, "{pattern}");
        }
    }

    #[test]
    fn the_nearest_is_of_the_same_kind() {
        for (pattern, meant) in [
            ("cpuu", Some("cpu")),
            ("rad", Some("raid")),
            ("storage_gatewy.rtt", Some("storage_gateway.rtt")),
            ("storage_gatewy.*", Some("storage_gateway.*")),
            ("disk.device.raed.*", Some("disk.device.read.*")),
            ("riad.*", Some("raid.*")),
            ("nothing.of.the.kind", None),
        ] {
            assert_eq!(known().nearest(pattern).as_deref(), meant, "{pattern}");
        }
    }
}
