//! The quarantine: what can't be stored leaves the stream, once, and costs nobody else anything.

#![cfg(feature = "storage")]
// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use ceilometer_ha::model::{Identity, Received, Value};
use ceilometer_ha::storage::{Database, RowRefusal, StoreErrorKind};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::collections::BTreeSet;
use support::store::{Scratch, about, by_path, on_each_engine, reading_of};
use tokio::runtime::Handle;

/// What the engine is made to refuse.
const POISON: f64 = 666.0;

const IS_POISON: &str = "NEW.volume = 666";

fn good(seq: u64) -> Received {
    reading_of("n", 1, seq)
}

/// Refused by our own checks.
fn infinite(seq: u64) -> Received {
    Received {
        volume: Some(f64::INFINITY),
        ..good(seq)
    }
}

/// Refused by the engine.
fn poison(seq: u64) -> Received {
    Received {
        volume: Some(POISON),
        ..good(seq)
    }
}

async fn samples(scratch: &Scratch) -> Vec<String> {
    scratch
        .look("SELECT message_id FROM sample ORDER BY id")
        .await
}

async fn kept(db: &Database) -> Vec<(String, String)> {
    let rows = db.quarantined().await.unwrap().into_iter().rev();
    rows.map(|row| (row.message_id, row.reason)).collect()
}

on_each_engine! {
    async fn what_no_table_holds_is_kept_once_with_its_reason(scratch: Scratch) {
        let db = scratch.open().await;
        let report = db.store(&[good(1), infinite(2), good(3)]).await.unwrap();
        assert_eq!(report.stored, 2);
        assert_eq!(report.refused, [(1, RowRefusal::VolumeNotFinite)]);
        assert_eq!((report.quarantined, report.quarantine_size), (1, Some(1)));

        // The same by another path, and again after an answer that was lost.
        for again in [by_path("management", infinite(2)), infinite(2)] {
            let report = db.store(&[again]).await.unwrap();
            assert_eq!(report.refused.len(), 1);
            assert_eq!((report.quarantined, report.quarantine_size), (0, Some(1)));
        }
        let nobody = Received {
            identity: None,
            resource_id: "x".repeat(256),
            ..good(9)
        };
        db.store(&[nobody]).await.unwrap();
        let rows = db.quarantined().await.unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].observer, None, "the newest first");
        assert_eq!(rows[0].reason, "text_too_long");
        let row = &rows[1];
        assert_eq!(row.observer.as_deref(), Some("n"));
        assert_eq!(
            (row.meter.as_str(), row.resource_id.as_str()),
            ("storage_connectivity", "n")
        );
        assert_eq!(
            (row.message_id.as_str(), row.reason.as_str()),
            ("n-1-2", "volume_not_finite")
        );
        assert_eq!(row.detail, RowRefusal::VolumeNotFinite.words());
        assert!((0.0..60.0).contains(&row.age_seconds));

        let shown = db.quarantined_message(row.id).await.unwrap().unwrap();
        assert_eq!(&shown.about.id, &row.id);
        let message: serde_json::Value = serde_json::from_str(&shown.message).unwrap();
        assert_eq!(message["counter_volume"], "Infinity");
        assert_eq!(message["ha_seq"], 2);
        assert_eq!(message["resource_metadata"]["node"], "n");
        assert_eq!(db.quarantined_message(row.id + 99).await.unwrap(), None);
    }
}

on_each_engine! {
    async fn purging_drops_what_is_named_and_says_what_there_was(scratch: Scratch) {
        let db = scratch.open().await;
        let batch: Vec<Received> = (1..=4).map(infinite).collect();
        db.store(&batch).await.unwrap();
        let ids: Vec<i64> = db
            .quarantined()
            .await
            .unwrap()
            .iter()
            .map(|row| row.id)
            .collect();
        let [four, three, two, one] = ids[..] else {
            panic!("{ids:?}");
        };
        assert_eq!(
            db.purge_quarantine(Some(vec![two, 999])).await.unwrap(),
            [two]
        );
        assert_eq!(db.purge_quarantine(Some(vec![])).await.unwrap(), [0; 0]);
        let mut left = db.purge_quarantine(None).await.unwrap();
        left.sort_unstable();
        assert_eq!(left, [one, three, four]);
        assert_eq!(db.quarantined().await.unwrap(), []);
        let report = db.store(&[infinite(9)]).await.unwrap();
        assert_eq!(report.quarantine_size, Some(1));
        assert!(
            db.quarantined().await.unwrap()[0].id > four,
            "no number comes twice"
        );
    }
}

on_each_engine! {
    async fn what_the_engine_refuses_costs_itself_and_its_words_are_kept(scratch: Scratch) {
        let db = scratch.open().await;
        scratch.refuse("INSERT", "sample", IS_POISON).await;
        let mut batch: Vec<Received> = (1..=700).map(good).collect();
        batch[0] = poison(1);
        batch[400] = poison(401);
        batch[401] = infinite(402);
        batch[699] = poison(700);
        let report = db.store(&batch).await.unwrap();
        let refused: BTreeSet<(usize, RowRefusal)> = report.refused.iter().copied().collect();
        let expected = [
            (0, RowRefusal::DatabaseRefused),
            (400, RowRefusal::DatabaseRefused),
            (401, RowRefusal::VolumeNotFinite),
            (699, RowRefusal::DatabaseRefused),
        ];
        assert_eq!(refused, expected.into());
        assert_eq!(report.refused.len(), 4);
        assert_eq!((report.stored, report.duplicates, report.late), (696, 0, 0));
        assert_eq!(report.quarantined, 4);
        let stored: BTreeSet<String> = samples(&scratch).await.into_iter().collect();
        assert_eq!(stored.len(), 696);
        assert_eq!(db.fleet().await.unwrap().states[0].seq, 699);
        let poisoned = db.quarantined().await.unwrap();
        let words = &poisoned
            .iter()
            .find(|row| row.message_id == "n-1-401")
            .unwrap()
            .detail;
        assert!(
            words.contains("storing samples") && words.contains("no beasts here"),
            "{words}"
        );

        // Again: what was stored is a duplicate, what was refused is refused.
        let again = db.store(&batch).await.unwrap();
        assert_eq!(
            (again.stored, again.duplicates, again.quarantined),
            (0, 696, 0)
        );
        assert_eq!(again.refused.len(), 4);
    }
}

on_each_engine! {
    async fn an_id_that_went_stale_costs_nobody_anything(scratch: Scratch) {
        let db = scratch.open().await;
        // Within our own transaction, so that nobody is seen to have written.
        scratch
            .run(
                "CREATE TRIGGER gone AFTER INSERT ON ha_path FOR EACH ROW BEGIN \
                 DELETE FROM sample; DELETE FROM metadata_text; DELETE FROM resource; END",
            )
            .await;
        db.store(&[good(1)]).await.unwrap();
        assert_eq!(scratch.look("SELECT count(*) FROM resource").await, ["0"]);
        let report = db.store(&[good(2)]).await.unwrap();
        assert_eq!((report.stored, report.refused), (1, vec![]));
        assert_eq!(samples(&scratch).await, ["n-1-2"]);
        assert_eq!(db.quarantined().await.unwrap(), []);
    }
}

on_each_engine! {
    async fn what_is_wrong_with_the_whole_database_puts_nothing_aside(scratch: Scratch) {
        let db = scratch.open().await;
        for (spoil, mend) in [
            (
                "ALTER TABLE sample RENAME TO away",
                "ALTER TABLE away RENAME TO sample",
            ),
            (
                "ALTER TABLE ha_path RENAME TO away",
                "ALTER TABLE away RENAME TO ha_path",
            ),
            (
                "ALTER TABLE ha_quarantine RENAME TO away",
                "ALTER TABLE away RENAME TO ha_quarantine",
            ),
            (
                "ALTER TABLE ha_observer RENAME COLUMN rival_at TO away;
                 ALTER TABLE ha_observer RENAME COLUMN received_at TO gone",
                "ALTER TABLE ha_observer RENAME COLUMN away TO rival_at;
                 ALTER TABLE ha_observer RENAME COLUMN gone TO received_at",
            ),
        ] {
            scratch.run(spoil).await;
            let error = db.store(&[good(1), infinite(2)]).await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Lasting, "{spoil}: {error}");
            scratch.run(mend).await;
            assert_eq!(db.quarantined().await.unwrap(), [], "{spoil}");
            assert_eq!(samples(&scratch).await.len(), 0, "{spoil}");
        }
        let report = db.store(&[good(1), infinite(2)]).await.unwrap();
        assert_eq!((report.stored, report.quarantined), (1, 1));
    }
}

on_each_engine! {
    async fn one_that_cant_even_be_kept_is_counted_and_ends(scratch: Scratch) {
        let db = scratch.open().await;
        scratch.refuse("INSERT", "sample", IS_POISON).await;
        scratch.refuse("INSERT", "ha_quarantine", "1 = 1").await;
        let batch = [good(1), poison(2), infinite(3), good(4)];
        let report = db.store(&batch).await.unwrap();
        assert_eq!((report.stored, report.refused.len()), (2, 2));
        assert_eq!((report.quarantined, report.quarantine_dropped), (0, 2));
        assert_eq!(samples(&scratch).await, ["n-1-1", "n-1-4"]);
    }
}

on_each_engine! {
    async fn the_oldest_of_more_than_a_thousand_go_and_are_counted(scratch: Scratch) {
        let db = scratch.open().await;
        let batch: Vec<Received> = (1..=1000).map(infinite).collect();
        let report = db.store(&batch).await.unwrap();
        assert_eq!((report.quarantined, report.quarantine_dropped), (1000, 0));
        let report = db.store(&[infinite(1001), infinite(1002)]).await.unwrap();
        assert_eq!((report.quarantined, report.quarantine_dropped), (2, 2));
        assert_eq!(report.quarantine_size, Some(1000));
        let kept = kept(&db).await;
        assert_eq!((kept.len(), kept[0].0.as_str()), (1000, "n-1-3"));
    }
}

on_each_engine! {
    async fn a_life_that_is_forgotten_is_refused_into_quarantine(scratch: Scratch) {
        let db = scratch.open().await;
        for life in 1..=65 {
            db.store(&[reading_of("n", life, 1)]).await.unwrap();
        }
        let report = db.store(&[reading_of("n", 1, 2)]).await.unwrap();
        assert_eq!(report.refused, [(0, RowRefusal::EpochForgotten)]);
        assert_eq!(
            kept(&db).await,
            [("n-1-2".to_owned(), "epoch_forgotten".to_owned())]
        );
    }
}

on_each_engine! {
    async fn how_many_there_are_is_known_from_the_first_batch_on_and_after_others_changed_it(scratch: Scratch) {
        let one = scratch.open().await;
        one.store(&[infinite(1)]).await.unwrap();
        let two = Database::open(&scratch.url).await.unwrap();
        let sizes = async |db: &Database, seq| db.store(&[good(seq)]).await.unwrap().quarantine_size;
        assert_eq!(sizes(&two, 2).await, Some(1), "the first batch counts");
        assert_eq!(sizes(&two, 3).await, None, "nothing has changed");
        one.purge_quarantine(None).await.unwrap();
        assert_eq!(sizes(&two, 4).await, Some(0), "somebody has written");
    }
}

/// What is sent: its kind, and whether it comes by a second path too.
fn sent() -> impl Strategy<Value = Vec<(u8, bool)>> {
    prop::collection::vec((0..6_u8, any::<bool>()), 1..40)
}

async fn run(scratch: &Scratch, db: &Database, sent: Vec<(u8, bool)>, cuts: Vec<usize>) {
    scratch.empty().await;
    let (mut messages, mut stored, mut aside) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for (seq, (kind, twice)) in (1..).zip(sent) {
        let message = match kind {
            0 => poison(seq),
            1 => infinite(seq),
            2 => about("cpu", "vm", 1.0, good(seq)),
            3 => Received {
                identity: None,
                ..poison(seq)
            },
            4 => Received {
                metadata: Value::Map(vec![("seq".into(), Value::from(seq))]),
                ..good(seq)
            },
            _ => good(seq),
        };
        let is_bad = matches!(kind, 0 | 1 | 3);
        if is_bad { &mut aside } else { &mut stored }.insert(message.message_id.clone());
        if twice {
            messages.push(by_path("management", message.clone()));
        }
        messages.push(message);
    }
    let mut rest = &messages[..];
    for size in cuts.into_iter().chain([usize::MAX]) {
        let (batch, later) = rest.split_at(size.min(rest.len()));
        rest = later;
        let report = db.store(batch).await.unwrap();
        let told = report.stored + report.duplicates + report.refused.len();
        assert_eq!(told, batch.len(), "each is told once");
    }
    let found = samples(scratch).await;
    assert_eq!(found.len(), stored.len(), "nothing is stored twice");
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), stored);
    let found = kept(db).await;
    assert_eq!(found.len(), aside.len(), "nothing is kept twice");
    let found: BTreeSet<String> = found.into_iter().map(|(id, _)| id).collect();
    assert_eq!(found, aside);
    let newest = messages
        .iter()
        .filter(|message| stored.contains(&message.message_id))
        .filter_map(|message| message.identity.as_ref().map(|Identity { seq, .. }| *seq));
    let fleet = db.fleet().await.unwrap();
    assert_eq!(fleet.observers.first().map(|row| row.seq), newest.max());
}

on_each_engine! {
    async fn whatever_is_bad_everything_else_is_stored_once(scratch: Scratch) {
        let db = scratch.open().await;
        scratch.refuse("INSERT", "sample", IS_POISON).await;
        let config = ProptestConfig { cases: 40, ..ProptestConfig::default() };
        let runs = (sent(), prop::collection::vec(0..20_usize, 0..5));
        // The cases are blocking calls, each of which waits for work on this very runtime.
        tokio::task::block_in_place(|| {
            TestRunner::new(config)
                .run(&runs, |(sent, cuts)| {
                    Handle::current().block_on(run(&scratch, &db, sent, cuts));
                    Ok(())
                })
                .unwrap();
        });
    }
}
