//! The present beside the states: who observes, which rounds of instances are complete, and what is
//! left of a host that was forgotten.

#![cfg(feature = "storage")]
// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::sync::Arc;

use ceilometer_ha::model::{Received, UtcTime};
use ceilometer_ha::storage::Database;
use support::store::{Scratch, about, by_path, on_each_engine, query, reading_of};

const SECOND: i64 = 1_000_000;

/// A reading that was made so many seconds ago by its observer's clock.
fn made(now: UtcTime, seconds_ago: i64, reading: Received) -> Received {
    let at = now.unix_micros() - seconds_ago * SECOND;
    Received {
        timestamp: Some(UtcTime::from_unix_micros(at)),
        ..reading
    }
}

async fn now(db: &Database) -> UtcTime {
    db.fleet().await.unwrap().now
}

mod identity {
    use super::*;

    /// Life 1, and life 2 that began `seconds_ago` by every clock.
    async fn two_lives(scratch: &Scratch, db: &Database, seconds_ago: i64) {
        let now = now(db).await;
        db.store(&[made(now, seconds_ago + 9, reading_of("n", 1, 1))])
            .await
            .unwrap();
        db.store(&[made(now, seconds_ago, reading_of("n", 2, 1))])
            .await
            .unwrap();
        let earlier = seconds_ago * SECOND;
        scratch
            .change(&format!(
                "UPDATE ha_observer SET began_received_at = began_received_at - {earlier}"
            ))
            .await;
    }

    on_each_engine! {
        async fn an_earlier_life_that_goes_on_is_a_conflict_and_one_that_comes_late_is_none(scratch: Scratch) {
            let db = scratch.open().await;
            two_lives(&scratch, &db, 30).await;
            let now = now(&db).await;
            let late = [
                made(now, 38, reading_of("n", 1, 2)),
                made(now, 31, reading_of("n", 1, 3)),
                made(now, 29, reading_of("n", 1, 4)),
            ];
            let report = db.store(&late).await.unwrap();
            assert_eq!((report.stored, report.conflicts), (3, vec![]));
            assert_eq!(db.fleet().await.unwrap().observers[0].rival, None);

            for (seq, seconds_ago) in [(5, 3), (6, 2)] {
                // The second time from memory.
                let rival = made(now, seconds_ago, reading_of("n", 1, seq));
                let report = db.store(std::slice::from_ref(&rival)).await.unwrap();
                assert_eq!((report.stored, report.late), (1, 1), "it is history");
                let [conflict] = &report.conflicts[..] else {
                    panic!("{report:?}");
                };
                assert_eq!(conflict.observer, "n");
                assert_eq!((conflict.epoch, conflict.rival_epoch), (2, 1));
                // A second copy is no second sign.
                let again = db.store(&[by_path("other", rival)]).await.unwrap();
                assert_eq!(again.conflicts, []);
            }
            let fleet = db.fleet().await.unwrap();
            let [observer] = &fleet.observers[..] else {
                panic!("{fleet:?}");
            };
            assert_eq!((observer.epoch, observer.seq), (2, 1));
            let rival = observer.rival.unwrap();
            assert_eq!(rival.epoch, 1);
            assert!((0.0..60.0).contains(&fleet.now.seconds_since(rival.at)));

            // The newest life says nothing about the other's end, and keeps its own beginning.
            db.store(&[made(now, 0, reading_of("n", 2, 2))])
                .await
                .unwrap();
            assert_eq!(db.fleet().await.unwrap().observers[0].rival, Some(rival));
            let other = Database::open(&scratch.url).await.unwrap();
            let report = other
                .store(&[made(now, 1, reading_of("n", 1, 7))])
                .await
                .unwrap();
            assert_eq!(report.conflicts.len(), 1);
        }
    }

    on_each_engine! {
        async fn what_was_on_its_way_when_the_clock_was_set_back_is_no_conflict(scratch: Scratch) {
            let db = scratch.open().await;
            let now = now(&db).await;
            // The new life's clock is an hour behind that of the old one.
            db.store(&[made(now, 3600, reading_of("n", 2, 1))])
                .await
                .unwrap();
            let report = db
                .store(&[made(now, 0, reading_of("n", 1, 9))])
                .await
                .unwrap();
            assert_eq!(report.conflicts, []);
        }
    }

    on_each_engine! {
        async fn the_newest_reading_gives_the_clock_s_offset(scratch: Scratch) {
            let db = scratch.open().await;
            let now = now(&db).await;
            for (seq, seconds_ago) in [(2, -90), (3, 40), (1, 7)] {
                db.store(&[made(now, seconds_ago, reading_of("n", 1, seq))])
                    .await
                    .unwrap();
            }
            let observers = db.fleet().await.unwrap().observers;
            assert_eq!(observers[0].seq, 3);
            let behind = observers[0].clock_behind_seconds();
            assert!((40.0..55.0).contains(&behind), "{behind}");
        }
    }
}

mod rounds {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;
    use std::collections::{BTreeMap, BTreeSet};
    use tokio::runtime::Handle;

    fn instance(host: &str, epoch: u64, seq: u64, uuid: &str) -> Received {
        about("instance.state", uuid, 1.0, reading_of(host, epoch, seq))
    }

    #[allow(clippy::cast_precision_loss)] // a handful
    fn round(host: &str, epoch: u64, seq: u64, instances: usize) -> Received {
        let reading = reading_of(host, epoch, seq);
        about("instance.round", host, instances as f64, reading)
    }

    const ROUNDS: &str = "SELECT observer, epoch, seq, instances, completed_at IS NOT NULL \
                          FROM ha_round ORDER BY observer, epoch, seq";
    const CONFIRMED: &str = "SELECT observer, resource_id, epoch, seq FROM ha_state \
                             WHERE meter = 'instance.state' AND confirmed_at IS NOT NULL \
                             ORDER BY observer, resource_id";

    on_each_engine! {
        async fn a_round_confirms_once_every_reading_is_there_whoever_stores_the_last(scratch: Scratch) {
            let one = scratch.open().await;
            let two = Database::open(&scratch.url).await.unwrap();
            one.store(&[instance("n", 1, 1, "a"), round("n", 1, 3, 2)])
                .await
                .unwrap();
            assert_eq!(scratch.look(ROUNDS).await, ["n|1|3|2|0"]);
            assert_eq!(scratch.look(CONFIRMED).await, [""; 0]);
            assert_eq!(one.fleet().await.unwrap().complete_rounds, []);

            two.store(&[instance("n", 1, 2, "b")]).await.unwrap();
            assert_eq!(scratch.look(ROUNDS).await, ["n|1|3|2|1"]);
            assert_eq!(scratch.look(CONFIRMED).await, ["n|a|1|1", "n|b|1|2"]);
            let fleet = one.fleet().await.unwrap();
            let complete = &fleet.complete_rounds[0];
            assert_eq!((complete.seq, complete.instances), (3, 2));
            assert_eq!(
                fleet.states.iter().filter_map(|s| s.confirmed_at).count(),
                2
            );

            // Another host's numbers, and those of another life, complete nothing.
            two.store(&[
                round("m", 1, 3, 2),
                instance("m", 2, 1, "c"),
                instance("m", 2, 2, "d"),
            ])
            .await
            .unwrap();
            assert_eq!(scratch.look(ROUNDS).await, ["m|1|3|2|0", "n|1|3|2|1"]);
        }
    }

    on_each_engine! {
        async fn one_that_is_gone_keeps_when_a_complete_round_last_saw_it(scratch: Scratch) {
            let db = scratch.open().await;
            db.store(&[
                instance("n", 1, 1, "a"),
                instance("n", 1, 2, "b"),
                round("n", 1, 3, 2),
            ])
            .await
            .unwrap();
            scratch
                .change("UPDATE ha_state SET confirmed_at = 1000000 WHERE confirmed_at IS NOT NULL")
                .await;
            // b is gone; the reading of the event about it moves its row and confirms nothing.
            db.store(&[
                instance("n", 1, 4, "b"),
                instance("n", 1, 5, "a"),
                round("n", 1, 6, 1),
            ])
            .await
            .unwrap();
            assert_eq!(
                scratch
                    .look(
                        "SELECT resource_id, seq, confirmed_at > 1000000 FROM ha_state \
                         WHERE meter = 'instance.state' ORDER BY resource_id"
                    )
                    .await,
                ["a|5|1", "b|4|0"]
            );
            assert_eq!(scratch.look(ROUNDS).await, ["n|1|6|1|1"], "older ones go");
        }
    }

    on_each_engine! {
        async fn rounds_that_wait_are_few_and_end_with_the_newest(scratch: Scratch) {
            let db = scratch.open().await;
            for seq in (2..=16).step_by(2) {
                db.store(&[round("n", 1, seq, 1)]).await.unwrap();
            }
            assert_eq!(
                scratch.look(ROUNDS).await,
                ["n|1|10|1|0", "n|1|12|1|0", "n|1|14|1|0", "n|1|16|1|0"]
            );
            db.store(&[instance("n", 1, 15, "a"), round("n", 1, 17, 99)])
                .await
                .unwrap();
            let kept = scratch.look(ROUNDS).await;
            assert_eq!(
                kept[3], "n|1|16|1|1",
                "no round of 99 can end with 17: {kept:?}"
            );
        }
    }

    /// Two hosts' rounds, each a set of instances, two lives each.
    type Seen = Vec<Vec<BTreeSet<u8>>>;

    /// All that the hosts send, in their order, and what must come of it.
    fn sent(seen: &Seen) -> (Vec<Received>, Vec<String>, BTreeSet<String>) {
        let (mut messages, mut newest, mut confirmed) = (Vec::new(), Vec::new(), BTreeMap::new());
        for (host, rounds) in seen.iter().enumerate() {
            let host = format!("n{host}");
            let (mut epoch, mut seq, mut last) = (1, 0, None);
            for (nth, instances) in rounds.iter().enumerate() {
                if nth == 2 {
                    (epoch, seq) = (2, 0);
                }
                for uuid in instances {
                    seq += 1;
                    messages.push(instance(&host, epoch, seq, &uuid.to_string()));
                    confirmed.insert((host.clone(), uuid.to_string()), (epoch, seq));
                }
                seq += 1;
                messages.push(round(&host, epoch, seq, instances.len()));
                last = Some(format!("{host}|{epoch}|{seq}|{}|1", instances.len()));
            }
            newest.extend(last);
        }
        let confirmed = confirmed
            .into_iter()
            .map(|((host, uuid), (epoch, seq))| format!("{host}|{uuid}|{epoch}|{seq}"));
        (messages, newest, confirmed.collect())
    }

    async fn run(
        scratch: &Scratch,
        dbs: &[Database; 2],
        seen: Seen,
        order: Vec<usize>,
        cuts: Vec<(usize, bool)>,
    ) {
        scratch.empty().await;
        let (messages, newest, confirmed) = sent(&seen);
        // A permutation with some of them twice, and everything at least once.
        let mut arriving: Vec<Received> = Vec::new();
        let mut rest = messages.clone();
        for pick in order {
            if pick % 4 == 0 && !arriving.is_empty() {
                arriving.push(arriving[pick % arriving.len()].clone());
            } else if !rest.is_empty() {
                arriving.push(rest.swap_remove(pick % rest.len()));
            }
        }
        arriving.extend(rest);
        let mut rest = &arriving[..];
        for (size, second) in cuts.into_iter().chain([(usize::MAX, false)]) {
            let (batch, later) = rest.split_at(size.min(rest.len()));
            rest = later;
            dbs[usize::from(second)].store(batch).await.unwrap();
        }
        assert_eq!(scratch.look(ROUNDS).await, newest);
        let found: BTreeSet<String> = scratch.look(CONFIRMED).await.into_iter().collect();
        assert_eq!(found, confirmed);
        let observers = dbs[0].fleet().await.unwrap().observers.into_iter();
        let greatest = observers.map(|row| (row.observer, row.epoch, row.seq));
        let mut expected: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for who in messages.into_iter().filter_map(|message| message.identity) {
            let order = expected.entry(who.observer).or_default();
            *order = (*order).max((who.epoch, who.seq));
        }
        let expected = expected
            .into_iter()
            .map(|(observer, (epoch, seq))| (observer, epoch, seq));
        assert!(greatest.eq(expected));
    }

    fn runs() -> impl Strategy<Value = (Seen, Vec<usize>, Vec<(usize, bool)>)> {
        let instances = prop::collection::btree_set(0..5_u8, 0..4);
        let rounds = prop::collection::vec(instances, 0..=4);
        (
            prop::collection::vec(rounds, 1..=2),
            prop::collection::vec(0..1000_usize, 0..60),
            prop::collection::vec((0..9usize, any::<bool>()), 0..12),
        )
    }

    on_each_engine! {
        async fn no_order_no_duplicate_and_no_batching_changes_what_is_confirmed(
            scratch: Scratch
        ) {
            let dbs = [
                scratch.open().await,
                Database::open(&scratch.url).await.unwrap(),
            ];
            let config = ProptestConfig { cases: 48, ..ProptestConfig::default() };
            // The cases are blocking calls, each of which waits for work on this very runtime.
            tokio::task::block_in_place(|| {
                TestRunner::new(config)
                    .run(&runs(), |(seen, order, cuts)| {
                        Handle::current().block_on(run(&scratch, &dbs, seen, order, cuts));
                        Ok(())
                    })
                    .unwrap();
            });
        }
    }
}

mod forget {
    use super::*;
    use ceilometer_ha::storage::{ForgetOptions, Forgetting, Forgotten, StoreError};

    const OPTIONS: ForgetOptions = ForgetOptions {
        force: false,
        dry_run: false,
    };
    const FORCE: ForgetOptions = ForgetOptions {
        force: true,
        dry_run: false,
    };

    /// Everything of ours that names an observer or a resource.
    const PRESENT: &str = "SELECT observer, meter, resource_id FROM ha_state \
        UNION ALL SELECT observer, 'path', path FROM ha_path \
        UNION ALL SELECT observer, 'round', '' FROM ha_round \
        UNION ALL SELECT observer, 'observer', '' FROM ha_observer ORDER BY 1, 2, 3";

    fn own(host: &str) -> Vec<Received> {
        let numbered = |seq| reading_of(host, 1, seq);
        vec![
            numbered(1),
            about("instance.state", "a", 1.0, numbered(2)),
            about("instance.round", host, 1.0, numbered(3)),
            by_path("management", numbered(1)),
        ]
    }

    fn looks(host: &str, first: u64) -> Vec<Received> {
        let numbered = |nth| reading_of("controller", 1, first + nth);
        let place = format!("{host}/net");
        let failed = format!("controller/host_network/{host}/net");
        vec![
            about("host.connectivity", host, 1.0, numbered(0)),
            about("host.power", host, 1.0, numbered(1)),
            about("host_network.status", &place, 0.0, numbered(2)),
            about("pollster.failed", &failed, 1.0, numbered(3)),
        ]
    }

    async fn fleet_of_two(scratch: &Scratch, db: &Database) {
        for messages in [own("n-1"), own("n-10"), looks("n-1", 1), looks("n-10", 5)] {
            db.store(&messages).await.unwrap();
        }
        age(scratch, 61).await;
    }

    async fn age(scratch: &Scratch, seconds: i64) {
        for table in ["ha_state", "ha_path", "ha_observer"] {
            let micros = seconds * SECOND;
            scratch
                .change(&format!(
                    "UPDATE {table} SET received_at = received_at - {micros}"
                ))
                .await;
        }
    }

    on_each_engine! {
        async fn its_present_goes_and_nothing_else_and_no_copy_brings_it_back(scratch: Scratch) {
            let db = scratch.open().await;
            fleet_of_two(&scratch, &db).await;
            let kept: Vec<String> = scratch
                .look(PRESENT)
                .await
                .into_iter()
                .filter(|row| row.contains("n-10") || row.starts_with("controller|observer"))
                .chain(["controller|path|storage".to_owned()])
                .collect();
            let samples = scratch.look("SELECT count(*) FROM sample").await;
            let seen = scratch
                .look("SELECT observer, hex(runs) FROM ha_seen")
                .await;

            // By another process, while the collector remembers all of it.
            let operator = Database::open(&scratch.url).await.unwrap();
            let Forgetting::Forgotten(forgotten) = operator.forget("n-1", OPTIONS).await.unwrap()
            else {
                panic!("it was heard a minute ago");
            };
            assert!((60.0..90.0).contains(&forgotten.last_heard_seconds));
            let expected = Forgotten {
                states: 3,
                states_of_others: 4,
                paths: 2,
                rounds: 1,
                observers: 1,
                last_heard_seconds: forgotten.last_heard_seconds,
            };
            assert_eq!(forgotten, expected);
            let mut kept = kept;
            kept.sort();
            assert_eq!(scratch.look(PRESENT).await, kept);
            assert_eq!(scratch.look("SELECT count(*) FROM sample").await, samples);
            assert_eq!(
                scratch
                    .look("SELECT observer, hex(runs) FROM ha_seen")
                    .await,
                seen
            );

            let copies: Vec<Received> = own("n-1")
                .into_iter()
                .map(|message| by_path("third", message))
                .collect();
            let ahead: Vec<Arc<Received>> = copies.iter().cloned().map(Arc::new).collect();
            assert_eq!(db.store_states(&ahead).await.unwrap(), 0);
            assert_eq!(scratch.look(PRESENT).await, kept);
            let report = db.store(&copies).await.unwrap();
            assert_eq!((report.stored, report.duplicates), (0, 4));
            assert_eq!(
                scratch.look(PRESENT).await,
                kept,
                "seen before, and so nothing new"
            );

            let report = db.store(&[reading_of("n-1", 1, 4)]).await.unwrap();
            assert_eq!((report.stored, report.moved), (1, 1));
            let back: Vec<String> = scratch.look(PRESENT).await;
            let back: Vec<&String> = back.iter().filter(|row| row.starts_with("n-1|")).collect();
            assert_eq!(
                back,
                [
                    "n-1|observer|",
                    "n-1|path|storage",
                    "n-1|storage_connectivity|n-1"
                ]
            );
        }
    }

    on_each_engine! {
        async fn who_was_heard_just_now_is_kept_unless_forced(scratch: Scratch) {
            let db = scratch.open().await;
            fleet_of_two(&scratch, &db).await;
            let before = scratch.look(PRESENT).await;
            // By itself, or by somebody who looks at it.
            for (message, by) in [
                (looks("n-1", 9).remove(0), "controller"),
                (reading_of("n-1", 1, 9), "n-1"),
            ] {
                db.store(&[message]).await.unwrap();
                let outcome = db.forget("n-1", OPTIONS).await.unwrap();
                let Forgetting::HeardLately {
                    observer,
                    age_seconds,
                } = outcome
                else {
                    panic!("{outcome:?}");
                };
                assert_eq!(observer, by);
                assert!((0.0..60.0).contains(&age_seconds));
                assert_eq!(scratch.look(PRESENT).await, before);
            }
            let dry = ForgetOptions {
                dry_run: true,
                ..FORCE
            };
            let would = db.forget("n-1", dry).await.unwrap();
            assert_eq!(scratch.look(PRESENT).await, before, "nothing is changed");
            let Forgetting::Forgotten(would) = would else {
                panic!("{would:?}");
            };
            let Forgetting::Forgotten(did) = db.forget("n-1", FORCE).await.unwrap() else {
                panic!("it was forced");
            };
            assert_eq!((would.states, would.states_of_others), (3, 4));
            assert_eq!((did.states, did.states_of_others), (3, 4));
            assert!(scratch.look(PRESENT).await.len() < before.len());
        }
    }

    on_each_engine! {
        async fn who_is_unknown_is_told_with_the_nearest_names(scratch: Scratch) {
            let db = scratch.open().await;
            fleet_of_two(&scratch, &db).await;
            db.store(&looks("only-seen", 20)).await.unwrap();
            for (name, expected) in [
                ("n-2", vec!["n-1"]),
                ("n_10", vec!["n-10"]),
                ("only-sen", vec!["only-seen"]),
                ("something-else", vec![]),
                ("", vec![]),
                ("n-1/net", vec![]),
            ] {
                let outcome = db.forget(name, FORCE).await.unwrap();
                let Forgetting::Unknown { nearest } = outcome else {
                    panic!("{name}: {outcome:?}");
                };
                assert_eq!(nearest, expected, "{name}");
            }
        }
    }

    on_each_engine! {
        async fn it_is_all_or_nothing(scratch: Scratch) {
            let db = scratch.open().await;
            fleet_of_two(&scratch, &db).await;
            let before = scratch.look(PRESENT).await;
            scratch.refuse("DELETE", "ha_observer", "1 = 1").await;
            db.forget("n-1", OPTIONS).await.unwrap_err();
            assert_eq!(scratch.look(PRESENT).await, before);
            let reader = Database::open_read_only(&scratch.url).await.unwrap();
            let error = reader.forget("n-1", OPTIONS).await.unwrap_err();
            assert!(matches!(error, StoreError::ReadOnly));
        }
    }
}

mod contract {
    use super::*;

    on_each_engine! {
        async fn two_agents_of_one_name_are_unknown_in_every_query_of_the_present(scratch: Scratch) {
            let db = scratch.open().await;
            for (host, rival_seconds) in [("free", None), ("live", Some(30)), ("over", Some(90))] {
                let numbered = |seq| reading_of(host, 2, seq);
                db.store(&[
                    Received {
                        volume: Some(0.0),
                        ..numbered(1)
                    },
                    about("instance.state", "a", 1.0, numbered(2)),
                    about("instance.round", host, 1.0, numbered(3)),
                ])
                .await
                .unwrap();
                if let Some(seconds) = rival_seconds {
                    let at = now(&db).await.unix_micros() - seconds * SECOND;
                    scratch
                        .run(&format!(
                            "UPDATE ha_observer SET rival_epoch = 1, rival_at = {at} \
                             WHERE observer = '{host}'"
                        ))
                        .await;
                }
            }
            let verdicts = format!("SELECT host, verdict FROM ({}) AS page ORDER BY host", query(&scratch, "present"));
            assert_eq!(
                scratch.look(&verdicts).await,
                ["free|down", "live|unknown", "over|down"]
            );
            let standings = format!("SELECT host, standing FROM ({}) AS page ORDER BY host", query(&scratch, "instances"));
            assert_eq!(
                scratch.look(&standings).await,
                ["free|there", "live|unknown", "over|there"]
            );
        }
    }

    #[tokio::test]
    async fn the_present_is_found_by_indexes_and_sorted_by_them() {
        let scratch = Scratch::sqlite();
        scratch.open().await;
        let plan = scratch
            .look(&format!(
                "EXPLAIN QUERY PLAN {}",
                query(&scratch, "present")
            ))
            .await
            .join("\n");
        assert!(
            plan.contains("SEARCH ha_state USING INDEX ix_ha_state_meter"),
            "{plan}"
        );
        assert!(
            plan.contains("SEARCH ha_observer USING PRIMARY KEY"),
            "{plan}"
        );
        assert!(
            !plan.contains("TEMP B-TREE") && !plan.contains("SCAN ha_"),
            "{plan}"
        );
    }
}
