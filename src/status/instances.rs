//! Pure. Which instances a host has, as its newest complete round and what was heard since say.
//!
//! A complete round that saw N instances sends N readings of `instance.state` and then the
//! `instance.round` with value N. If that one has the number R, theirs are R − N to R − 1. What
//! happens between rounds pushes further readings with greater numbers, and of each instance only
//! the newest reading is kept. So each instance stands in one of these places:
//!
//! | its newest reading | all N of the round have arrived | some are missing |
//! |---|---|---|
//! | of a later epoch, or numbered above R | there: heard of since | there |
//! | numbered R − N to R − 1 | there: the round saw it | there |
//! | of an earlier epoch, or numbered below R − N | gone: the round lacked it | unconfirmed |
//!
//! Unconfirmed is not gone: the missing readings may have been about just these instances. That all
//! N have arrived is known if N rows are still numbered as the round numbered them, or if every one
//! of those numbers is known to have been stored (`ha_seen`), whatever has moved rows to a later
//! number since. Counting rows above R won't do: one of them may be about an instance that started
//! after the round.

use std::collections::BTreeMap;

use super::host::{HostFacts, code_of, order, text_of, unknown_code};
use super::text::printable;
use super::view::{
    CodeView, CompleteRoundView, InstanceView, InstancesView, Place as Standing,
    PlacedInstanceView, RoundView, Trouble,
};
use crate::model::{StateRow, instance_state_name, meters};

/// What a state is counted as that has no name here.
const UNKNOWN: &str = "unknown";

/// A complete round of one observer, as its `instance.round` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Round {
    epoch: u64,
    seq: u64,
    instances: u64,
}

/// Where a reading stands against a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The round, or the life of the agent, began after it.
    Before,
    /// The round sent it.
    Within,
    /// It came after the round.
    After,
}

/// A host's instances, sorted out.
#[derive(Debug)]
struct Sorted<'a> {
    there: Vec<&'a StateRow>,
    unconfirmed: Vec<&'a StateRow>,
    gone: Vec<&'a StateRow>,
    /// How many of the round's readings are not known to have arrived.
    missing_readings: u64,
}

/// What a host's rows say about its instances.
struct Told<'a> {
    round: Option<Round>,
    sorted: Sorted<'a>,
    /// What the age of it all goes by.
    anchor: &'a StateRow,
    is_stale: bool,
}

impl<'a> Told<'a> {
    /// None if the host never told of any, nor that it has none.
    fn of(facts: &HostFacts<'a>) -> Option<Self> {
        let rows = facts.rows.of_meter(&meters::INSTANCE_STATE);
        let told = facts.rows.get(&meters::INSTANCE_ROUND.name, facts.host);
        let round = told.and_then(Round::of);
        let newest = || rows.iter().copied().max_by_key(|row| order(row));
        let anchor = told.or_else(newest)?;
        let heard = told.map_or(0, |row| facts.rows.heard(row));
        let failed = facts.active_failure(&meters::INSTANCE_ROUND.name).is_some();
        Some(Told {
            round,
            sorted: sort_out(round, heard, rows.iter().copied()),
            anchor,
            is_stale: failed || !facts.is_now(anchor),
        })
    }
}

/// Every instance that a host ever told of, and whether it is there.
pub(super) fn placed_instances(facts: &HostFacts<'_>) -> Vec<PlacedInstanceView> {
    let Some(told) = Told::of(facts) else {
        return Vec::new();
    };
    let lists = [
        (Standing::There, &told.sorted.there),
        (Standing::Unconfirmed, &told.sorted.unconfirmed),
        (Standing::Gone, &told.sorted.gone),
    ];
    let rows = lists
        .into_iter()
        .flat_map(|(place, rows)| rows.iter().map(move |row| (place, *row)));
    rows.map(|(place, row)| {
        let InstanceView {
            uuid,
            name,
            project,
            state,
            age_seconds,
            confirmed_age_seconds,
            ..
        } = instance_view(facts, row);
        PlacedInstanceView {
            uuid,
            name,
            project,
            host: printable(facts.host),
            place: if told.is_stale {
                Standing::Unknown
            } else {
                place
            },
            state,
            age_seconds,
            confirmed_age_seconds,
        }
    })
    .collect()
}

/// The instances of a host; None if it never told of any, nor that it has none.
pub(super) fn instances_view(facts: &HostFacts<'_>) -> Option<InstancesView> {
    let Told {
        round,
        sorted,
        anchor,
        is_stale,
    } = Told::of(facts)?;
    let complete_round = facts.rows.complete_round;
    let view = |row: &&StateRow| instance_view(facts, row);
    let mut troubled: Vec<InstanceView> = sorted
        .there
        .iter()
        .filter(|row| trouble_of(row).is_some())
        .map(view)
        .collect();
    troubled.sort_by(|a, b| (a.trouble, &a.name, &a.uuid).cmp(&(b.trouble, &b.name, &b.uuid)));
    Some(InstancesView {
        there: count(sorted.there.len()),
        by_state: by_state(&sorted.there),
        troubled,
        unconfirmed: sorted.unconfirmed.iter().map(view).collect(),
        round: round.map(|round| RoundView {
            instances: round.instances,
            missing_readings: sorted.missing_readings,
        }),
        complete_round: complete_round.map(|row| CompleteRoundView {
            instances: row.instances,
            age_seconds: facts.seconds_since(row.completed_at),
        }),
        age_seconds: facts.age_seconds(anchor),
        stale: is_stale,
    })
}

/// The rule of this module. Without a round that can be read, whoever was heard of is there.
fn sort_out<'a>(
    round: Option<Round>,
    heard: u64,
    rows: impl Iterator<Item = &'a StateRow>,
) -> Sorted<'a> {
    let Some(round) = round else {
        return Sorted {
            there: rows.collect(),
            unconfirmed: Vec::new(),
            gone: Vec::new(),
            missing_readings: 0,
        };
    };
    let (mut there, mut before) = (Vec::new(), Vec::new());
    let mut within: u64 = 0;
    for row in rows {
        let place = round.place(row);
        within += u64::from(place == Place::Within);
        match place {
            Place::Before => before.push(row),
            Place::Within | Place::After => there.push(row),
        }
    }
    let missing_readings = round.instances.saturating_sub(within.max(heard));
    before.sort_by_key(|row| std::cmp::Reverse(order(row)));
    let (unconfirmed, gone) = match missing_readings {
        0 => (Vec::new(), before),
        _ => (before, Vec::new()),
    };
    Sorted {
        there,
        unconfirmed,
        gone,
        missing_readings,
    }
}

impl Round {
    /// The round that this `instance.round` ends; None if its volume can't be its count.
    fn of(row: &StateRow) -> Option<Self> {
        let instances = u64::try_from(code_of(row.volume)?).ok()?;
        (instances <= row.seq).then_some(Round {
            epoch: row.epoch,
            seq: row.seq,
            instances,
        })
    }

    fn place(&self, row: &StateRow) -> Place {
        let first = self.seq.saturating_sub(self.instances);
        if order(row) < (self.epoch, first) {
            Place::Before
        } else if order(row) < (self.epoch, self.seq) {
            Place::Within
        } else {
            Place::After
        }
    }
}

fn instance_view(facts: &HostFacts<'_>, row: &StateRow) -> InstanceView {
    let text = |key: &str| row.metadata.get(key).and_then(text_of);
    InstanceView {
        uuid: printable(&row.resource_id),
        name: text("name"),
        project: text("project"),
        state: state_view(row.volume),
        reason: text("reason"),
        trouble: trouble_of(row),
        age_seconds: facts.age_seconds(row),
        confirmed_age_seconds: row.confirmed_at.map(|at| facts.seconds_since(at)),
    }
}

fn state_view(volume: f64) -> CodeView {
    let code = code_of(volume);
    match state_name(volume) {
        Some(name) => CodeView {
            code,
            name: Some(name.to_owned()),
            words: name.to_owned(),
        },
        None => unknown_code(code, volume, None),
    }
}

fn by_state(rows: &[&StateRow]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for row in rows {
        let name = state_name(row.volume).unwrap_or(UNKNOWN);
        *counts.entry(name.to_owned()).or_default() += 1;
    }
    counts
}

fn state_name(volume: f64) -> Option<&'static str> {
    instance_state_name(code_of(volume)?)
}

/// What happened to an instance, by the names of libvirt's states and reasons. A guest whose crash
/// leaves it running, or paused, or shut off, crashed all the same.
fn trouble_of(row: &StateRow) -> Option<Trouble> {
    let reason = row.metadata.get("reason").and_then(|value| value.as_str());
    match (state_name(row.volume)?, reason.unwrap_or_default()) {
        ("paused", "ioerror") => Some(Trouble::IoError),
        ("paused", "watchdog") => Some(Trouble::Watchdog),
        ("crashed", _) | ("running" | "paused" | "shutoff", "crashed") => Some(Trouble::Crashed),
        ("shutoff", "failed") => Some(Trouble::Failed),
        _ => None,
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Metadata, UtcTime, Value};
    use proptest::prelude::*;
    use std::collections::{BTreeSet, HashSet};

    fn reading(uuid: &str, epoch: u64, seq: u64) -> StateRow {
        StateRow {
            observer: "n".into(),
            meter: meters::INSTANCE_STATE.name.to_string(),
            resource_id: uuid.into(),
            epoch,
            seq,
            volume: 1.0,
            quality: String::new(),
            observed_at: UtcTime::from_unix_micros(0),
            received_at: UtcTime::from_unix_micros(0),
            metadata: Metadata::new(),
            paths: BTreeSet::new(),
            confirmed_at: None,
        }
    }

    fn uuids(rows: &[&StateRow]) -> String {
        rows.iter().map(|row| row.resource_id.as_str()).collect()
    }

    /// Rows as (instance, epoch, seq), against a round of epoch 7, number 20, that saw three.
    #[test]
    fn the_table_of_standings() {
        let round = Round {
            epoch: 7,
            seq: 20,
            instances: 3,
        };
        let all = [("a", 7, 17), ("b", 7, 18), ("c", 7, 19)];
        type Row = (&'static str, u64, u64);
        type Case<'a> = (&'a str, Vec<Row>, u64, (&'a str, &'a str, u64));
        let with = |more: &[Row]| [&all[..], more].concat();
        let cases: Vec<Case<'_>> = vec![
            ("as the round saw it", with(&[]), 3, ("abc", "", 0)),
            (
                "and nothing is known of numbers",
                with(&[]),
                0,
                ("abc", "", 0),
            ),
            (
                "one was there before",
                with(&[("x", 7, 16)]),
                3,
                ("abc", "", 0),
            ),
            (
                "one before a restart, numbered high",
                with(&[("x", 6, 99)]),
                3,
                ("abc", "", 0),
            ),
            (
                "one started since",
                with(&[("d", 7, 21), ("x", 7, 3)]),
                3,
                ("abcd", "", 0),
            ),
            (
                "an event moved one, and all numbers are known",
                vec![("a", 7, 17), ("b", 7, 18), ("c", 7, 25), ("x", 7, 3)],
                3,
                ("abc", "", 0),
            ),
            (
                "an event moved one, and its number may not have arrived",
                vec![("a", 7, 17), ("b", 7, 18), ("c", 7, 25), ("x", 7, 3)],
                0,
                ("abc", "x", 1),
            ),
            (
                "one was lost, another started since: the counts agree and prove nothing",
                vec![("a", 7, 17), ("b", 7, 18), ("c", 7, 3), ("d", 7, 25)],
                2,
                ("abd", "c", 1),
            ),
            (
                "one was lost; the last heard of come first",
                vec![
                    ("a", 7, 17),
                    ("b", 7, 18),
                    ("c", 7, 13),
                    ("x", 6, 90),
                    ("y", 7, 14),
                ],
                2,
                ("ab", "ycx", 1),
            ),
            (
                "one was lost that was never heard of",
                vec![("a", 7, 17), ("b", 7, 18)],
                2,
                ("ab", "", 1),
            ),
            ("all were lost", vec![("a", 7, 3)], 0, ("", "a", 3)),
            (
                "a restart, and no round of the new life yet",
                with(&[("d", 8, 1), ("x", 7, 2)]),
                3,
                ("abcd", "", 0),
            ),
            (
                "more is believed of no number",
                with(&[("x", 7, 3)]),
                9,
                ("abc", "", 0),
            ),
        ];
        for (case, rows, heard, (there, unconfirmed, missing)) in cases {
            let rows: Vec<StateRow> = rows
                .into_iter()
                .map(|(uuid, epoch, seq)| reading(uuid, epoch, seq))
                .collect();
            let sorted = sort_out(Some(round), heard, rows.iter());
            let seen = (
                uuids(&sorted.there),
                uuids(&sorted.unconfirmed),
                sorted.missing_readings,
            );
            assert_eq!(seen, (there.into(), unconfirmed.into(), missing), "{case}");
        }
        let rows = [reading("a", 7, 17)];
        let none = Round {
            instances: 0,
            ..round
        };
        assert_eq!(
            uuids(&sort_out(Some(none), 0, rows.iter()).there),
            "",
            "a round that saw none"
        );
        assert_eq!(
            uuids(&sort_out(None, 0, rows.iter()).there),
            "a",
            "no round yet"
        );
    }

    #[test]
    fn a_volume_that_is_no_count_ends_no_round() {
        for (volume, expected) in [
            (0.0, Some(0)),
            (20.0, Some(20)),
            (21.0, None),
            (-1.0, None),
            (1.5, None),
            (1e300, None),
            (f64::NAN, None),
        ] {
            let row = StateRow {
                volume,
                ..reading("n", 7, 20)
            };
            let instances = Round::of(&row).map(|round| round.instances);
            assert_eq!(instances, expected, "{volume}");
        }
    }

    #[test]
    fn what_happened_to_an_instance() {
        for (state, reason, expected) in [
            (3.0, "ioerror", Some(Trouble::IoError)),
            (3.0, "watchdog", Some(Trouble::Watchdog)),
            (3.0, "crashed", Some(Trouble::Crashed)),
            (1.0, "crashed", Some(Trouble::Crashed)),
            (5.0, "crashed", Some(Trouble::Crashed)),
            (6.0, "panicked", Some(Trouble::Crashed)),
            (6.0, "", Some(Trouble::Crashed)),
            (5.0, "failed", Some(Trouble::Failed)),
            (1.0, "booted", None),
            (3.0, "user", None),
            (3.0, "migration", None),
            (5.0, "ioerror", None),
            (5.0, "destroyed", None),
            (99.0, "crashed", None),
            (f64::NAN, "ioerror", None),
        ] {
            let mut row = StateRow {
                volume: state,
                ..reading("a", 1, 1)
            };
            row.metadata.insert("reason".into(), Value::from(reason));
            assert_eq!(trouble_of(&row), expected, "{state} {reason}");
        }
    }

    /// What a host does next.
    #[derive(Debug, Clone)]
    enum Step {
        /// It looks at these instances; of the readings (the last is `instance.round`) those arrive.
        Round(BTreeSet<u8>, Vec<bool>),
        /// Something happens to an instance; the reading arrives or not.
        Event(u8, bool),
        /// Another reading takes a number.
        Other(bool),
        /// The agent starts anew.
        Restart,
    }

    fn step(lossy: bool) -> impl Strategy<Value = Step> {
        let arrives = move || prop_oneof![3 => Just(true), 1 => Just(!lossy)];
        let round = (
            prop::collection::btree_set(0..6_u8, 0..5),
            prop::collection::vec(arrives(), 6),
        );
        prop_oneof![
            4 => round.prop_map(|(seen, arrived)| Step::Round(seen, arrived)),
            3 => (0..8_u8, arrives()).prop_map(|(one, arrived)| Step::Event(one, arrived)),
            1 => arrives().prop_map(Step::Other),
            1 => Just(Step::Restart),
        ]
    }

    /// A host, what of it arrived, and what is true since the newest round that arrived.
    #[derive(Default)]
    struct World {
        epoch: u64,
        seq: u64,
        rows: BTreeMap<u8, StateRow>,
        seen: HashSet<(u64, u64)>,
        round: Option<Round>,
        in_round: BTreeSet<u8>,
        heard_since: BTreeSet<u8>,
    }

    impl World {
        fn send(&mut self, about: Option<u8>, arrives: bool) {
            self.seq += 1;
            if !arrives {
                return;
            }
            self.seen.insert((self.epoch, self.seq));
            if let Some(one) = about {
                let row = reading(&one.to_string(), self.epoch, self.seq);
                self.rows.insert(one, row);
                self.heard_since.insert(one);
            }
        }

        fn step(&mut self, step: Step) {
            match step {
                Step::Restart => (self.epoch, self.seq) = (self.epoch + 1, 0),
                Step::Other(arrives) => self.send(None, arrives),
                Step::Event(one, arrives) => self.send(Some(one), arrives),
                Step::Round(instances, arrived) => {
                    let mut arrived = arrived.into_iter();
                    for one in &instances {
                        self.send(Some(*one), arrived.next().unwrap());
                    }
                    let arrives = arrived.next().unwrap();
                    self.send(None, arrives);
                    if arrives {
                        self.round = Some(Round {
                            epoch: self.epoch,
                            seq: self.seq,
                            instances: instances.len() as u64,
                        });
                        self.in_round = instances;
                        self.heard_since.clear();
                    }
                }
            }
        }

        fn heard(&self) -> u64 {
            let Some(round) = self.round else { return 0 };
            let numbers = round.seq - round.instances..round.seq;
            numbers
                .filter(|seq| self.seen.contains(&(round.epoch, *seq)))
                .count() as u64
        }
    }

    fn names(rows: &[&StateRow]) -> BTreeSet<u8> {
        rows.iter()
            .map(|row| row.resource_id.parse().unwrap())
            .collect()
    }

    proptest! {
        /// Whatever is lost: none that the newest round saw, or that was heard of since, is ever
        /// called gone, and none is called there that was in neither.
        #[test]
        fn nobody_is_gone_who_may_be_there(
            steps in prop::collection::vec(step(true), 0..24),
            numbers_known in any::<bool>(),
        ) {
            let mut world = World::default();
            for step in steps {
                world.step(step);
                let heard = if numbers_known { world.heard() } else { 0 };
                let sorted = sort_out(world.round, heard, world.rows.values());
                let (there, unconfirmed) = (names(&sorted.there), names(&sorted.unconfirmed));
                prop_assert!(there.is_disjoint(&unconfirmed));
                let known: BTreeSet<u8> = world.rows.keys().copied().collect();
                let alive: BTreeSet<u8> = world.in_round.union(&world.heard_since).copied().collect();
                for one in alive.intersection(&known) {
                    prop_assert!(there.contains(one) || unconfirmed.contains(one), "{one}");
                }
                prop_assert!(there.is_subset(&alive), "{there:?} {alive:?}");
                if sorted.missing_readings == 0 {
                    prop_assert_eq!(there, alive);
                    prop_assert!(unconfirmed.is_empty());
                } else {
                    prop_assert_eq!(there.union(&unconfirmed).count(), known.len());
                }
            }
        }

        /// As long as nothing is lost everything is certain, whatever moves rows to later numbers.
        #[test]
        fn without_a_loss_everything_is_certain(steps in prop::collection::vec(step(false), 0..24)) {
            let mut world = World::default();
            for step in steps {
                world.step(step);
                let sorted = sort_out(world.round, world.heard(), world.rows.values());
                prop_assert_eq!(sorted.missing_readings, 0);
                prop_assert!(sorted.unconfirmed.is_empty());
            }
        }
    }
}
