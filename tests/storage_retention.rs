//! What retention deletes and what it leaves, in a real database that is looked at by a connection of
//! its own.

#![cfg(feature = "storage")]
// Helpers of tests may fail as tests do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ceilometer_ha::clock;
use ceilometer_ha::model::{Received, UtcTime, Value};
use ceilometer_ha::storage::{Database, Reach, Sweep, Swept};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use support::store::{EPOCH, Scratch, on_each_engine, reading_of};
use tokio::runtime::Handle;
use tokio::task::block_in_place;

/// Samples are kept for so long in these tests.
const KEEP: Duration = Duration::from_secs(1800);
/// An age within it, and one beyond it, in seconds.
const FRESH: i64 = 60;
const OLD: i64 = 3600;
/// Microseconds.
const DAY: i64 = 24 * 3600 * 1_000_000;

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// The whole numbers in the first column of a query's rows.
async fn numbers(scratch: &Scratch, text: &str) -> Vec<i64> {
    let rows = scratch.look(text).await;
    rows.iter().map(|row| row.parse().unwrap()).collect()
}

async fn count(scratch: &Scratch, table: &str) -> i64 {
    numbers(scratch, &format!("SELECT count(*) FROM {table}")).await[0]
}

/// So many seconds ago, as a value in SQL.
fn moment(scratch: &Scratch, age: i64) -> String {
    let at = UtcTime::from_unix_micros(clock::utc().unix_micros() - age * 1_000_000);
    format!("'{}'", scratch.moment(at))
}

/// Makes all history so many seconds older.
async fn age(scratch: &Scratch, seconds: i64) {
    let recorded = moment(scratch, seconds);
    scratch
        .run(&format!("UPDATE sample SET recorded_at = {recorded}"))
        .await;
}

/// Inserts rows, a bounded number in each statement.
async fn insert(scratch: &Scratch, table: &str, rows: &[String]) {
    for rows in rows.chunks(1000) {
        let text = format!("INSERT INTO {table} VALUES {}", rows.join(","));
        scratch.run(&text).await;
    }
}

/// Adds samples with these ages, numbered on.
async fn add(scratch: &Scratch, ages: &[(i64, usize)]) {
    let make = "INSERT INTO resource (resource_id) SELECT 'n' FROM (SELECT count(*) AS n FROM resource) AS r WHERE n = 0;\
         INSERT INTO meter (name) SELECT 'm' FROM (SELECT count(*) AS n FROM meter) AS m WHERE n = 0";
    scratch.run(make).await;
    let of = "SELECT min(internal_id) FROM resource UNION ALL SELECT min(id) FROM meter UNION ALL \
              SELECT coalesce(max(id), 0) FROM sample";
    let found = numbers(scratch, of).await;
    let (resource, meter, mut id) = (found[0], found[1], found[2]);
    for (age, count) in ages {
        let at = moment(scratch, *age);
        let rows: Vec<String> = (0..*count)
            .map(|_| {
                id += 1;
                format!("({id}, {meter}, {resource}, 1.0, {at}, {at})")
            })
            .collect();
        let table = "sample (id, meter_id, resource_id, volume, timestamp, recorded_at)";
        insert(scratch, table, &rows).await;
    }
}

fn reading(observer: &str, seq: u64) -> Received {
    reading_of(observer, EPOCH, seq)
}

/// Goes through a whole pass.
async fn pass(db: &Database, mut sweep: Sweep) -> Swept {
    let mut swept = Swept::default();
    while !sweep.is_over() {
        swept.add(db.sweep(&mut sweep).await.unwrap());
    }
    swept
}

fn whole() -> Sweep {
    Sweep::new(Some(KEEP), Reach::Whole, i64::MIN)
}

/// The resource, the meter, and the ages by recorded_at and timestamp in seconds, of one sample.
type Aged = (i64, i64, Option<i64>, Option<i64>);

const RESOURCES: i64 = 80;
const METERS: i64 = 5;

fn samples() -> impl Strategy<Value = Vec<Aged>> {
    let age = || prop::option::weighted(0.8, prop_oneof![Just(FRESH), Just(OLD), Just(-OLD)]);
    prop::collection::vec((1..=RESOURCES, 1..=METERS, age(), age()), 1..200)
}

fn is_kept((_, _, recorded, taken): &Aged) -> bool {
    recorded.or(*taken).is_some_and(|age| age < OLD)
}

/// Fills the tables with these samples, and with resources and meters that have some or none.
async fn fill(scratch: &Scratch, samples: &[Aged]) {
    scratch.empty().await;
    let of = |values: fn(i64) -> String, count: i64| -> Vec<String> {
        (1..=count).map(values).collect()
    };
    let resources = of(|id| format!("({id}, 'r{id}')"), RESOURCES);
    insert(scratch, "resource (internal_id, resource_id)", &resources).await;
    for (table, value) in [
        ("metadata_text", "'x'"),
        ("metadata_int", "1"),
        ("metadata_float", "0.5"),
        ("metadata_bool", "1"),
    ] {
        let rows: Vec<String> = (1..=RESOURCES)
            .map(|id| format!("({id}, 'k', {value})"))
            .collect();
        insert(scratch, &format!("{table} (id, meta_key, value)"), &rows).await;
    }
    let meters = of(|id| format!("({id}, 'm{id}')"), METERS);
    insert(scratch, "meter (id, name)", &meters).await;
    let at = |age: &Option<i64>| age.map_or("NULL".to_owned(), |age| moment(scratch, age));
    let rows: Vec<String> = (1..)
        .zip(samples)
        .map(|(id, (resource, meter, recorded, taken))| {
            format!(
                "({id}, {meter}, {resource}, {}, {})",
                at(recorded),
                at(taken)
            )
        })
        .collect();
    let table = "sample (id, meter_id, resource_id, recorded_at, timestamp)";
    insert(scratch, table, &rows).await;
}

async fn what_goes_is_what_a_model_says(scratch: &Scratch, db: &Database, all: Vec<Aged>) {
    fill(scratch, &all).await;
    db.store(&[reading("node-1", 1)]).await.unwrap();
    scratch
        .run("DELETE FROM sample WHERE message_id = 'node-1-1700000000000-1'")
        .await;
    let before = db.fleet().await.unwrap();

    let kept: Vec<(i64, &Aged)> = (1..).zip(&all).filter(|(_, row)| is_kept(row)).collect();
    let samples: Vec<i64> = kept.iter().map(|(id, _)| *id).collect();
    let resources: BTreeSet<i64> = kept.iter().map(|(_, row)| row.0).collect();
    let meters: BTreeSet<i64> = kept.iter().map(|(_, row)| row.1).collect();
    // And the resource and the meter of the reading whose sample is gone.
    let gone =
        |all: i64, kept: usize| u64::try_from(all).unwrap() + 1 - u64::try_from(kept).unwrap();
    let expected = Swept {
        samples: u64::try_from(all.len() - samples.len()).unwrap(),
        resources: gone(RESOURCES, resources.len()),
        meters: gone(METERS, meters.len()),
        ..Swept::default()
    };
    let reader = Database::open_read_only(&scratch.url).await.unwrap();
    assert_eq!(pass(&reader, Sweep::dry(KEEP)).await, expected, "foretold");
    let left = count(scratch, "sample").await;
    assert_eq!(left, i64::try_from(all.len()).unwrap());

    assert_eq!(pass(db, whole()).await, expected);
    let ids = |column: &str, table: &str| format!("SELECT {column} FROM {table} ORDER BY {column}");
    assert_eq!(numbers(scratch, &ids("id", "sample")).await, samples);
    let resources: Vec<i64> = resources.into_iter().collect();
    assert_eq!(
        numbers(scratch, &ids("internal_id", "resource")).await,
        resources
    );
    for kind in ["text", "int", "float", "bool"] {
        let table = format!("metadata_{kind}");
        assert_eq!(
            numbers(scratch, &ids("id", &table)).await,
            resources,
            "{table}"
        );
    }
    let meters: Vec<i64> = meters.into_iter().collect();
    assert_eq!(numbers(scratch, &ids("id", "meter")).await, meters);
    assert_eq!(pass(db, whole()).await, Swept::default(), "nothing is left");
    let after = db.fleet().await.unwrap();
    assert_eq!((after.states, after.paths), (before.states, before.paths));
}

/// The host that each sample of history is about, by message.
async fn hosts(scratch: &Scratch) -> BTreeMap<String, String> {
    let text = "SELECT message_id, resource.resource_id FROM sample \
                JOIN resource ON resource.internal_id = sample.resource_id \
                JOIN meter ON meter.id = sample.meter_id WHERE message_id IS NOT NULL";
    let rows = scratch.cells(text).await.into_iter();
    rows.map(|row| (row[0].clone().unwrap(), row[1].clone().unwrap()))
        .collect()
}

fn expected_hosts<const N: usize>(all: [(&str, u64); N]) -> BTreeMap<String, String> {
    let all = all.into_iter();
    all.map(|(host, seq)| (reading(host, seq).message_id, host.to_owned()))
        .collect()
}

on_each_engine! {
    async fn what_is_past_its_time_goes_with_all_that_belonged_to_it_alone(scratch: Scratch) {
        let db = scratch.open().await;
        let mut runner = TestRunner::new(cases(24));
        let found = runner.run(&samples(), |samples| {
            let case = what_goes_is_what_a_model_says(&scratch, &db, samples);
            block_in_place(|| Handle::current().block_on(case));
            Ok(())
        });
        found.unwrap();
    }

    async fn the_present_and_what_was_seen_outlive_history(scratch: Scratch) {
        let db = scratch.open().await;
        db.store(&[reading("node-1", 1)]).await.unwrap();
        let before = db.fleet().await.unwrap();
        age(&scratch, OLD).await;
        // What was seen goes by another time than history, and not while there is a present.
        scratch.run("UPDATE ha_seen SET seen_at = 0").await;
        let swept = pass(&db, whole()).await;
        let expected = Swept { samples: 1, resources: 1, meters: 1, ..Swept::default() };
        assert_eq!(swept, expected);
        let after = db.fleet().await.unwrap();
        assert_eq!((after.states, after.paths), (before.states, before.paths));
        let report = db.store(&[reading("node-1", 1)]).await.unwrap();
        assert_eq!((report.stored, report.duplicates), (0, 1));
    }

    async fn what_was_seen_of_a_forgotten_observer_goes_after_a_day(scratch: Scratch) {
        let db = scratch.open().await;
        for observer in ["forgotten", "observed", "stated"] {
            db.store(&[reading(observer, 1)]).await.unwrap();
        }
        scratch
            .run(
                "DELETE FROM ha_observer; DELETE FROM ha_state WHERE observer <> 'stated';
                 INSERT INTO ha_observer VALUES ('observed', 1, 1, 0, 0, 0, 0, NULL, NULL)",
            )
            .await;
        let sweep = || Sweep::new(None, Reach::FrontAndOrphans, i64::MIN);
        let horizon = clock::utc().unix_micros() - DAY;
        for (seen_at, gone) in [(horizon + 60_000_000, 0), (horizon - 1000, 1)] {
            scratch.run(&format!("UPDATE ha_seen SET seen_at = {seen_at}")).await;
            assert_eq!(pass(&db, sweep()).await.seen, gone);
        }
        assert_eq!(scratch.look("SELECT observer FROM ha_seen ORDER BY observer").await, ["observed", "stated"]);
        assert_eq!(count(&scratch, "sample").await, 3, "without a time to live history stays");
    }

    async fn message_ids_go_though_no_old_sender_speaks_any_more(scratch: Scratch) {
        let db = scratch.open().await;
        let old = clock::utc().unix_micros() - DAY - 1000;
        let mut rows: Vec<String> = (0..5000).map(|id| format!("('{id}', {old})")).collect();
        rows.push(format!("('new', {})", old + 60_000_000));
        insert(&scratch, "ha_seen_message (message_id, seen_at)", &rows).await;
        let swept = pass(&db, Sweep::new(None, Reach::Front, i64::MIN)).await;
        assert_eq!(swept.messages, 5000);
        assert_eq!(scratch.look("SELECT message_id FROM ha_seen_message").await, ["new"]);
    }

    async fn a_pass_ends_where_nothing_has_expired_but_a_whole_one(scratch: Scratch) {
        let db = scratch.open().await;
        // The clock was an hour behind for a while.
        add(&scratch, &[(OLD, 2100), (FRESH, 2000), (OLD, 500)]).await;
        let mut sweep = Sweep::new(Some(KEEP), Reach::Front, i64::MIN);
        let mut steps = Vec::new();
        while !sweep.is_over() {
            steps.push(db.sweep(&mut sweep).await.unwrap().samples);
        }
        assert_eq!(steps, [1000, 1000, 100, 0, 0], "each is small, the last is about message ids");
        assert_eq!(sweep.floor(), 2000, "up to which id nothing is left for certain");
        assert_eq!(count(&scratch, "sample").await, 2500);

        let swept = pass(&db, Sweep::new(Some(KEEP), Reach::Front, sweep.floor())).await;
        assert_eq!(swept, Swept::default());
        assert_eq!(pass(&db, whole()).await.samples, 500);
        assert_eq!(count(&scratch, "sample").await, 2000);
    }

    async fn no_step_deletes_many_resources_at_once(scratch: Scratch) {
        let db = scratch.open().await;
        let rows: Vec<String> = (0..1500).map(|id| format!("('r{id}')")).collect();
        insert(&scratch, "resource (resource_id)", &rows).await;
        let mut sweep = whole();
        let (mut most, mut all) = (0, 0);
        while !sweep.is_over() {
            let swept = db.sweep(&mut sweep).await.unwrap();
            most = swept.resources.max(most);
            all += swept.resources;
        }
        assert_eq!((most, all), (64, 1500));
    }

    async fn ids_that_went_are_not_used_again_from_memory(scratch: Scratch) {
        let one = scratch.open().await;
        let two = Database::open(&scratch.url).await.unwrap();
        one.store(&[reading("node-1", 1)]).await.unwrap();
        age(&scratch, OLD).await;
        // The other one deletes what this one remembers, and SQLite gives its ids to something else.
        assert_eq!(pass(&two, whole()).await.resources, 1);
        two.store(&[reading("node-2", 1)]).await.unwrap();
        add(&scratch, &[(OLD, 1)]).await;
        // This one learns of it while it deletes a sample, which takes no id away itself.
        let mut front = whole();
        assert_eq!(one.sweep(&mut front).await.unwrap().samples, 1);
        one.store(&[reading("node-1", 2)]).await.unwrap();
        assert_eq!(hosts(&scratch).await, expected_hosts([("node-1", 2), ("node-2", 1)]));

        // And what it deleted itself, while nobody else wrote.
        while count(&scratch, "sample").await > 0 {
            let all = Sweep::new(Some(Duration::ZERO), Reach::Whole, i64::MIN);
            pass(&one, all).await;
        }
        one.store(&[reading("node-3", 1), reading("node-1", 3)]).await.unwrap();
        assert_eq!(hosts(&scratch).await, expected_hosts([("node-1", 3), ("node-3", 1)]));
    }

    async fn two_collectors_that_delete_and_one_that_stores_do_each_other_no_harm(scratch: Scratch) {
        let storing = scratch.open().await;
        add(&scratch, &[(OLD, 20_000)]).await;
        let mut sweeps = Vec::new();
        for _ in 0..2 {
            let db = Database::open(&scratch.url).await.unwrap();
            sweeps.push(tokio::spawn(async move { pass(&db, whole()).await.samples }));
        }
        let mut stored = 0;
        for seq in 1..=200 {
            let batch = ["node-1", "node-2", "node-3"].map(|host| reading(host, seq));
            stored += storing.store(&batch).await.unwrap().stored;
        }
        let mut swept = 0;
        for sweep in sweeps {
            swept += sweep.await.unwrap();
        }
        assert_eq!((swept, stored), (20_000, 600));
        assert_eq!(hosts(&scratch).await.len(), 600, "each with its resource and its meter");
        let once = "SELECT count(*) FROM resource WHERE resource_id LIKE 'node%'";
        assert_eq!(numbers(&scratch, once).await, [3]);
    }

    async fn a_pass_that_failed_goes_on_where_it_was(scratch: Scratch) {
        let db = scratch.open().await;
        add(&scratch, &[(OLD, 1500)]).await;
        let mut sweep = whole();
        assert_eq!(db.sweep(&mut sweep).await.unwrap().samples, 1000);
        let refuse = if scratch.is_sqlite() {
            "SELECT RAISE(ABORT, 'no');"
        } else {
            "SIGNAL SQLSTATE '45000';"
        };
        scratch
            .run(&format!("CREATE TRIGGER no BEFORE DELETE ON sample FOR EACH ROW BEGIN {refuse} END"))
            .await;
        assert!(db.sweep(&mut sweep).await.is_err());
        assert_eq!(count(&scratch, "sample").await, 500);
        scratch.run("DROP TRIGGER no").await;
        assert_eq!(db.sweep(&mut sweep).await.unwrap().samples, 500);
        assert_eq!(db.store(&[reading("node-1", 1)]).await.unwrap().stored, 1);
    }
}

mod day {
    //! A day at a hundred hosts.

    use super::*;

    const HOSTS: u64 = 100;
    /// Every so many seconds of the day are stored.
    const STEP: i64 = 900;
    const STEPS: i64 = 24 * 3600 / STEP;
    /// Samples are kept for three hours.
    const KEPT_STEPS: i64 = 12;
    /// What docs/storage.md says that a sample costs, indexes included.
    const SQLITE_SAMPLE_BYTES: i64 = 300;
    const MARIADB_SAMPLE_BYTES: i64 = 700;
    /// What everything else may cost here: states, resources with their metadata, empty tables.
    const FIXED_BYTES: i64 = 4 << 20;

    /// The readings of one host in one round of the shipped pipeline: two gateways, five instances.
    fn round(host: u64, step: u64, seq: &mut u64) -> Vec<Received> {
        let observer = format!("compute-{host:03}");
        let mut all = Vec::new();
        let mut put = |meter: &str, resource: String, metadata: Vec<(&str, String)>| {
            *seq += 1;
            let mut received = reading(&observer, *seq);
            // As long as real ones.
            received.message_id = format!("{host:08x}-0000-4000-8000-{seq:012x}");
            received.meter.name = meter.to_owned();
            received.resource_id = resource;
            let metadata = metadata.into_iter();
            received.metadata = Value::Map(
                metadata
                    .map(|(key, value)| (key.to_owned(), Value::from(value.as_str())))
                    .collect(),
            );
            all.push(received);
        };
        let tags = || vec![("node", observer.clone()), ("cluster", "west".to_owned())];
        put("storage_connectivity", observer.clone(), tags());
        put("compute.heartbeat", observer.clone(), tags());
        put("hypervisor.connectivity", observer.clone(), tags());
        put("instance.round", observer.clone(), tags());
        for gateway in ["10.0.0.1", "10.0.0.2"] {
            for meter in ["loss_ratio", "rtt", "status"] {
                let resource = format!("{observer}/{gateway}");
                put(&format!("storage_gateway.{meter}"), resource, tags());
            }
        }
        for slot in 0..5 {
            // One of them is replaced by another in each hour.
            let life = if slot == 0 { step / 4 } else { 0 };
            let uuid = format!("{host:08x}-{slot:04x}-4000-8000-{life:012x}");
            let mut metadata = tags();
            metadata.push(("display_name", format!("instance-{slot}-{life}")));
            put("instance.state", uuid, metadata);
        }
        all
    }

    /// What the tables take up.
    async fn size(scratch: &Scratch) -> i64 {
        if scratch.is_sqlite() {
            let text = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()";
            return numbers(scratch, text).await[0];
        }
        let text = "SELECT CAST(sum(data_length + index_length) AS SIGNED) \
                    FROM information_schema.tables WHERE table_schema = DATABASE()";
        scratch
            .run("ANALYZE TABLE sample, resource, metadata_text, ha_state")
            .await;
        numbers(scratch, text).await[0]
    }

    on_each_engine! {
        async fn a_compressed_day_at_a_hundred_hosts_stays_within_its_bound(scratch: Scratch) {
            let db = scratch.open().await;
            let mut seqs = vec![0; usize::try_from(HOSTS).unwrap()];
            let (mut floor, mut of_a_step) = (i64::MIN, 0);
            for step in 0..STEPS {
                let newest = "SELECT coalesce(max(id), 0) FROM sample";
                let before = numbers(&scratch, newest).await[0];
                let mut batch = Vec::new();
                for (host, seq) in (0..).zip(&mut seqs) {
                    batch.extend(round(host, step.unsigned_abs(), seq));
                }
                of_a_step = i64::try_from(batch.len()).unwrap();
                assert_eq!(db.store(&batch).await.unwrap().stored, batch.len());
                // The day ends now.
                let ago = (STEPS - 1 - step) * STEP;
                let at = moment(&scratch, ago);
                let text = format!("UPDATE sample SET recorded_at = {at} WHERE id > {before}");
                scratch.run(&text).await;
                let keep = (ago + KEPT_STEPS * STEP - STEP / 2).unsigned_abs();
                let keep = Some(Duration::from_secs(keep));
                let mut sweep = Sweep::new(keep, Reach::FrontAndOrphans, floor);
                while !sweep.is_over() {
                    db.sweep(&mut sweep).await.unwrap();
                }
                floor = sweep.floor();
            }
            let kept = count(&scratch, "sample").await;
            assert_eq!(kept, KEPT_STEPS * of_a_step);
            // Of the five instances of a host four lived all day, of the fifth those of the last hours.
            let instances = "SELECT count(*) FROM resource WHERE resource_id LIKE '%-4000-%'";
            let lives = 4 + KEPT_STEPS / 4;
            let expected = lives * i64::try_from(HOSTS).unwrap();
            assert_eq!(numbers(&scratch, instances).await, [expected]);
            let (size, held) = (size(&scratch).await, kept + of_a_step);
            let sample = if scratch.is_sqlite() { SQLITE_SAMPLE_BYTES } else { MARIADB_SAMPLE_BYTES };
            let bound = held * sample + FIXED_BYTES;
            assert!(size <= bound, "{size} bytes, at most {bound} for {held} samples");
        }
    }
}
