//! What retention deletes and what it leaves, in a real database that is looked at by a connection of
//! its own.

#![cfg(feature = "storage")]
// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use ceilometer_ha::clock;
use ceilometer_ha::model::{Identity, Received, ReceivedMeter, Secret, UtcTime, Value};
use ceilometer_ha::storage::{Database, Reach, Sweep, Swept};
use proptest::prelude::*;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Row};

/// Samples are kept for so long in these tests.
const KEEP: Duration = Duration::from_secs(1800);
/// An age within it, and one beyond it, in seconds.
const FRESH: i64 = 60;
const OLD: i64 = 3600;

/// A database file in a directory that goes with it.
struct Scratch {
    _dir: tempfile::TempDir,
    file: std::path::PathBuf,
    url: Secret,
}

impl Scratch {
    async fn new() -> (Scratch, Database) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ha.sqlite");
        let url = Secret::new(format!("sqlite:///{}", file.display()));
        Database::dbsync(&url).await.unwrap();
        let db = Database::open(&url).await.unwrap();
        let scratch = Scratch {
            _dir: dir,
            file,
            url,
        };
        (scratch, db)
    }

    async fn another(&self) -> Database {
        Database::open(&self.url).await.unwrap()
    }

    async fn raw(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(&self.file);
        options.connect().await.unwrap()
    }

    async fn run(&self, text: &str) {
        sqlx::raw_sql(AssertSqlSafe(text.to_owned()))
            .execute(&mut self.raw().await)
            .await
            .unwrap();
    }

    /// The first column of a query's rows.
    async fn look(&self, text: &str) -> Vec<i64> {
        let rows = sqlx::raw_sql(AssertSqlSafe(text.to_owned()))
            .fetch_all(&mut self.raw().await)
            .await
            .unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    async fn count(&self, table: &str) -> i64 {
        self.look(&format!("SELECT count(*) FROM {table}")).await[0]
    }

    /// Makes all history so many seconds older.
    async fn age(&self, seconds: i64) {
        let recorded = moment(seconds);
        self.run(&format!("UPDATE sample SET recorded_at = '{recorded}'"))
            .await;
    }

    /// Inserts samples of one resource and meter with these ages, as fast as the engine can.
    async fn insert(&self, ages: &[(i64, usize)]) {
        let mut text = "INSERT OR IGNORE INTO resource (internal_id, resource_id) VALUES (1, 'n');\
             INSERT OR IGNORE INTO meter (id, name) VALUES (1, 'm');"
            .to_owned();
        for (age, count) in ages {
            let recorded = moment(*age);
            write!(
                text,
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
                 INSERT INTO sample (meter_id, resource_id, volume, timestamp, recorded_at)
                 SELECT 1, 1, 1.0, '{recorded}', '{recorded}' FROM n;"
            )
            .unwrap();
        }
        self.run(&text).await;
    }
}

/// So many seconds ago, as the tables hold it.
fn moment(age: i64) -> String {
    UtcTime::from_unix_micros(clock::utc().unix_micros() - age * 1_000_000).to_sql_text()
}

fn reading(observer: &str, seq: u64) -> Received {
    Received {
        identity: Some(Identity {
            observer: observer.to_owned(),
            epoch: 1_700_000_000_000,
            seq,
        }),
        path: Some("storage".to_owned()),
        message_id: format!("{observer}-{seq}"),
        signature: "5".repeat(64),
        source: "openstack".to_owned(),
        meter: ReceivedMeter {
            name: "storage_connectivity".to_owned(),
            kind: Some("gauge".to_owned()),
            unit: Some(String::new()),
        },
        volume: Some(1.0),
        resource_id: observer.to_owned(),
        user_id: None,
        project_id: None,
        timestamp: Some(clock::utc()),
        metadata: Value::Map(vec![("node".to_owned(), Value::from(observer))]),
    }
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
type Row4 = (i64, i64, Option<i64>, Option<i64>);

fn rows() -> impl Strategy<Value = Vec<Row4>> {
    let age = || prop::option::weighted(0.8, prop_oneof![Just(FRESH), Just(OLD), Just(-OLD)]);
    prop::collection::vec((1..=80_i64, 1..=5_i64, age(), age()), 0..200)
}

fn is_kept((_, _, recorded, taken): &Row4) -> bool {
    recorded.or(*taken).is_some_and(|age| age < OLD)
}

async fn kept_is_kept(rows: Vec<Row4>) {
    let (scratch, db) = Scratch::new().await;
    db.store(&[reading("node-1", 1)]).await.unwrap();
    let fleet = db.fleet().await.unwrap();
    scratch
        .run("DELETE FROM sample; DELETE FROM meter; DELETE FROM metadata_text; DELETE FROM resource")
        .await;
    let mut text = String::from("BEGIN;");
    for id in 1..=80 {
        write!(
            text,
            "INSERT INTO resource (internal_id, resource_id) VALUES ({id}, 'r{id}');
             INSERT INTO metadata_text VALUES ({id}, 'a', 'x');
             INSERT INTO metadata_int VALUES ({id}, 'b', 1);
             INSERT INTO metadata_float VALUES ({id}, 'c', 0.5);
             INSERT INTO metadata_bool VALUES ({id}, 'd', 1);"
        )
        .unwrap();
    }
    for id in 1..=5 {
        write!(text, "INSERT INTO meter (id, name) VALUES ({id}, 'm{id}');").unwrap();
    }
    for (number, (resource, meter, recorded, taken)) in rows.iter().enumerate() {
        let of =
            |age: &Option<i64>| age.map_or("NULL".to_owned(), |age| format!("'{}'", moment(age)));
        let (recorded, taken) = (of(recorded), of(taken));
        write!(
            text,
            "INSERT INTO sample (id, meter_id, resource_id, recorded_at, timestamp)
             VALUES ({number}, {meter}, {resource}, {recorded}, {taken});"
        )
        .unwrap();
    }
    scratch.run(&(text + "COMMIT")).await;

    let kept: Vec<(i64, &Row4)> = (0..).zip(&rows).filter(|(_, row)| is_kept(row)).collect();
    let samples: Vec<i64> = kept.iter().map(|(id, _)| *id).collect();
    let resources: BTreeSet<i64> = kept.iter().map(|(_, row)| row.0).collect();
    let meters: BTreeSet<i64> = kept.iter().map(|(_, row)| row.1).collect();
    let expected = Swept {
        samples: u64::try_from(rows.len() - samples.len()).unwrap(),
        resources: u64::try_from(80 - resources.len()).unwrap(),
        meters: u64::try_from(5 - meters.len()).unwrap(),
        ..Swept::default()
    };
    let reader = Database::open_read_only(&scratch.url).await.unwrap();
    assert_eq!(pass(&reader, Sweep::dry(KEEP)).await, expected, "foretold");
    assert_eq!(
        scratch.count("sample").await,
        i64::try_from(rows.len()).unwrap()
    );

    assert_eq!(pass(&db, whole()).await, expected);
    assert_eq!(
        scratch.look("SELECT id FROM sample ORDER BY id").await,
        samples
    );
    let resources: Vec<i64> = resources.into_iter().collect();
    let text = "SELECT internal_id FROM resource ORDER BY internal_id";
    assert_eq!(scratch.look(text).await, resources);
    for table in [
        "metadata_text",
        "metadata_int",
        "metadata_float",
        "metadata_bool",
    ] {
        let text = format!("SELECT id FROM {table} ORDER BY id");
        assert_eq!(scratch.look(&text).await, resources, "{table}");
    }
    let meters: Vec<i64> = meters.into_iter().collect();
    assert_eq!(
        scratch.look("SELECT id FROM meter ORDER BY id").await,
        meters
    );
    assert_eq!(
        pass(&db, whole()).await,
        Swept::default(),
        "nothing is left to do"
    );
    let now = db.fleet().await.unwrap();
    assert_eq!((now.states, now.paths), (fleet.states, fleet.paths));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_past_its_time_goes_with_all_that_belonged_to_it_alone(rows in rows()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(kept_is_kept(rows));
    }
}

#[tokio::test]
async fn the_present_and_what_was_seen_outlive_history() {
    let (scratch, db) = Scratch::new().await;
    db.store(&[reading("node-1", 1)]).await.unwrap();
    let before = db.fleet().await.unwrap();
    scratch.age(OLD).await;
    // What was seen goes by another time than history, and not while there is a present.
    scratch.run("UPDATE ha_seen SET seen_at = 0").await;
    let swept = pass(&db, whole()).await;
    assert_eq!(
        (swept.samples, swept.resources, swept.meters, swept.seen),
        (1, 1, 1, 0)
    );
    let after = db.fleet().await.unwrap();
    assert_eq!((after.states, after.paths), (before.states, before.paths));
    let report = db.store(&[reading("node-1", 1)]).await.unwrap();
    assert_eq!((report.stored, report.duplicates), (0, 1));
}

#[tokio::test]
async fn what_was_seen_of_a_forgotten_observer_goes_after_a_day() {
    let (scratch, db) = Scratch::new().await;
    for observer in ["forgotten", "observed", "stated"] {
        db.store(&[reading(observer, 1)]).await.unwrap();
    }
    scratch
        .run(
            "DELETE FROM ha_observer; DELETE FROM ha_state WHERE observer <> 'stated';
             INSERT INTO ha_observer VALUES ('observed', 1, 1, 0, 0, 0, 0, NULL, NULL)",
        )
        .await;
    let day = 24 * 3600 * 1_000_000_i64;
    let now = clock::utc().unix_micros();
    let just_within = now - day + 60_000_000;
    scratch
        .run(&format!("UPDATE ha_seen SET seen_at = {just_within}"))
        .await;
    let sweep = || Sweep::new(None, Reach::FrontAndOrphans, i64::MIN);
    assert_eq!(pass(&db, sweep()).await.seen, 0);
    scratch
        .run(&format!(
            "UPDATE ha_seen SET seen_at = {}",
            now - day - 1000
        ))
        .await;
    assert_eq!(pass(&db, sweep()).await.seen, 1);
    let left = "SELECT count(*) FROM ha_seen WHERE observer = 'forgotten'";
    assert_eq!(scratch.look(left).await, [0]);
    assert_eq!(scratch.count("ha_seen").await, 2);
    assert_eq!(
        scratch.count("sample").await,
        3,
        "without a time to live history stays"
    );
}

#[tokio::test]
async fn message_ids_go_though_no_old_sender_speaks_any_more() {
    let (scratch, db) = Scratch::new().await;
    let day = 24 * 3600 * 1_000_000_i64;
    let old = clock::utc().unix_micros() - day - 1000;
    let mut text = String::from("BEGIN;");
    for id in 0..5000 {
        write!(text, "INSERT INTO ha_seen_message VALUES ('{id}', {old});").unwrap();
    }
    write!(
        text,
        "INSERT INTO ha_seen_message VALUES ('new', {});COMMIT",
        old + 60_000_000
    )
    .unwrap();
    scratch.run(&text).await;
    let swept = pass(&db, Sweep::new(None, Reach::Front, i64::MIN)).await;
    assert_eq!(swept.messages, 5000);
    assert_eq!(scratch.count("ha_seen_message").await, 1);
}

#[tokio::test]
async fn a_pass_ends_where_nothing_has_expired_but_a_whole_one() {
    let (scratch, db) = Scratch::new().await;
    // The clock was an hour behind for a while.
    scratch
        .insert(&[(OLD, 2100), (FRESH, 2000), (OLD, 500)])
        .await;
    let mut sweep = Sweep::new(Some(KEEP), Reach::Front, i64::MIN);
    let mut steps = Vec::new();
    while !sweep.is_over() {
        steps.push(db.sweep(&mut sweep).await.unwrap().samples);
    }
    assert_eq!(
        steps,
        [1000, 1000, 100, 0, 0],
        "each is small, the last is about message ids"
    );
    assert_eq!(
        sweep.floor(),
        2000,
        "up to which id nothing is left for certain"
    );
    assert_eq!(scratch.count("sample").await, 2500);

    let swept = pass(&db, Sweep::new(Some(KEEP), Reach::Front, sweep.floor())).await;
    assert_eq!(swept, Swept::default());
    assert_eq!(pass(&db, whole()).await.samples, 500);
    assert_eq!(scratch.count("sample").await, 2000);
}

#[tokio::test]
async fn no_step_deletes_many_resources_at_once() {
    let (scratch, db) = Scratch::new().await;
    let mut text = String::from("BEGIN;");
    for id in 0..1500 {
        write!(text, "INSERT INTO resource (resource_id) VALUES ('r{id}');").unwrap();
    }
    scratch.run(&(text + "COMMIT")).await;
    let mut sweep = whole();
    let mut most = 0;
    let mut all = 0;
    while !sweep.is_over() {
        let swept = db.sweep(&mut sweep).await.unwrap();
        most = swept.resources.max(most);
        all += swept.resources;
    }
    assert_eq!((most, all), (64, 1500));
}

/// The host that each sample of history is about, by message.
async fn hosts(scratch: &Scratch) -> BTreeMap<String, String> {
    let text = "SELECT message_id, resource.resource_id FROM sample \
                JOIN resource ON resource.internal_id = sample.resource_id \
                JOIN meter ON meter.id = sample.meter_id";
    let rows: Vec<(String, String)> = sqlx::query_as(text)
        .fetch_all(&mut scratch.raw().await)
        .await
        .unwrap();
    rows.into_iter().collect()
}

#[tokio::test]
async fn ids_that_went_are_not_used_again_from_memory() {
    let (scratch, one) = Scratch::new().await;
    let two = scratch.another().await;
    one.store(&[reading("node-1", 1)]).await.unwrap();
    scratch.age(OLD).await;
    // The other one deletes what this one remembers, and gives its ids to something else.
    assert_eq!(pass(&two, whole()).await.resources, 1);
    two.store(&[reading("node-2", 1)]).await.unwrap();
    scratch.insert(&[(OLD, 1)]).await;
    // This one learns of it while it deletes a sample, which takes no id away itself.
    let mut front = Sweep::new(Some(KEEP), Reach::Front, i64::MIN);
    assert_eq!(one.sweep(&mut front).await.unwrap().samples, 1);
    one.store(&[reading("node-1", 2)]).await.unwrap();
    let expected = [("node-1-2", "node-1"), ("node-2-1", "node-2")];
    let expected = expected.map(|(id, host)| (id.to_owned(), host.to_owned()));
    assert_eq!(hosts(&scratch).await, BTreeMap::from(expected));

    // And what it deleted itself.
    scratch.age(OLD).await;
    assert!(pass(&one, whole()).await.resources >= 2);
    one.store(&[reading("node-3", 1), reading("node-1", 3)])
        .await
        .unwrap();
    let expected = [("node-1-3", "node-1"), ("node-3-1", "node-3")];
    let expected = expected.map(|(id, host)| (id.to_owned(), host.to_owned()));
    assert_eq!(hosts(&scratch).await, BTreeMap::from(expected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_collectors_that_delete_and_one_that_stores_do_each_other_no_harm() {
    let (scratch, storing) = Scratch::new().await;
    scratch.insert(&[(OLD, 20_000)]).await;
    let sweeping = [scratch.another().await, scratch.another().await];
    let sweeps = sweeping.map(|db| {
        tokio::spawn(async move {
            let mut swept = pass(&db, whole()).await;
            swept.add(pass(&db, whole()).await);
            swept.samples
        })
    });
    let mut stored = 0;
    for seq in 1..=200 {
        let hosts = ["node-1", "node-2", "node-3"];
        let batch = hosts.map(|host| reading(host, seq));
        stored += storing.store(&batch).await.unwrap().stored;
    }
    let mut swept = 0;
    for sweep in sweeps {
        swept += sweep.await.unwrap();
    }
    assert_eq!((swept, stored), (20_000, 600));
    assert_eq!(
        hosts(&scratch).await.len(),
        600,
        "each with its resource and its meter"
    );
    let twice = "SELECT count(*) FROM resource WHERE resource_id LIKE 'node%'";
    assert_eq!(scratch.look(twice).await, [3]);
}

#[tokio::test]
async fn a_pass_that_failed_goes_on_where_it_was() {
    let (scratch, db) = Scratch::new().await;
    scratch.insert(&[(OLD, 1500)]).await;
    let mut sweep = whole();
    assert_eq!(db.sweep(&mut sweep).await.unwrap().samples, 1000);
    scratch
        .run("CREATE TRIGGER no BEFORE DELETE ON sample BEGIN SELECT RAISE(ABORT, 'no'); END")
        .await;
    assert!(db.sweep(&mut sweep).await.is_err());
    assert_eq!(scratch.count("sample").await, 500);
    scratch.run("DROP TRIGGER no").await;
    assert_eq!(db.sweep(&mut sweep).await.unwrap().samples, 500);
    assert_eq!(db.store(&[reading("node-1", 1)]).await.unwrap().stored, 1);
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
    /// What docs/storage.md says that a sample costs in SQLite, indexes included.
    const SAMPLE_BYTES: i64 = 400;
    /// What it says of a state, a resource with its metadata and the empty tables, here.
    const FIXED_BYTES: i64 = 6 << 20;

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

    #[tokio::test]
    async fn a_compressed_day_at_a_hundred_hosts_stays_within_its_bound() {
        let (scratch, db) = Scratch::new().await;
        let mut seqs = vec![0; usize::try_from(HOSTS).unwrap()];
        let mut floor = i64::MIN;
        let mut rounds = 0;
        for step in 0..STEPS {
            let before = scratch
                .look("SELECT coalesce(max(id), 0) FROM sample")
                .await[0];
            let mut batch = Vec::new();
            for (host, seq) in (0..).zip(&mut seqs) {
                batch.extend(round(host, step.unsigned_abs(), seq));
            }
            rounds = i64::try_from(batch.len()).unwrap();
            assert_eq!(db.store(&batch).await.unwrap().stored, batch.len());
            // The day ends now.
            let ago = (STEPS - 1 - step) * STEP;
            let at = moment(ago);
            let text = format!("UPDATE sample SET recorded_at = '{at}' WHERE id > {before}");
            scratch.run(&text).await;
            let keep = Duration::from_secs((ago + KEPT_STEPS * STEP - STEP / 2).unsigned_abs());
            let mut sweep = Sweep::new(Some(keep), Reach::FrontAndOrphans, floor);
            while !sweep.is_over() {
                db.sweep(&mut sweep).await.unwrap();
            }
            floor = sweep.floor();
        }
        let kept = scratch.count("sample").await;
        assert_eq!(kept, KEPT_STEPS * rounds);
        // Of the five instances of a host four lived all day, and of the fifth those of the last hours.
        let instances =
            "SELECT count(DISTINCT resource_id) FROM resource WHERE resource_id LIKE '%-4000-%'";
        let lives = KEPT_STEPS / 4;
        assert_eq!(scratch.look(instances).await, [(4 + lives) * 100]);
        let size = scratch
            .look("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")
            .await[0];
        let bound = (kept + rounds) * SAMPLE_BYTES + FIXED_BYTES;
        assert!(
            size <= bound,
            "{size} bytes for {kept} samples, at most {bound}"
        );
    }
}
