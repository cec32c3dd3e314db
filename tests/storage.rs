//! The database from outside: what a batch leaves in a real SQLite file, read back by a connection
//! of its own.

#![cfg(feature = "storage")]
// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support {
    //! Files, readings and raw looks into the tables.

    use std::path::PathBuf;

    use ceilometer_ha::model::{Identity, Received, ReceivedMeter, Secret, UtcTime, Value};
    use ceilometer_ha::storage::Database;
    use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
    use sqlx::{AssertSqlSafe, ConnectOptions, Row};

    pub(crate) const DDL: &str = include_str!("fixtures/sqlite-ddl.sql");

    /// A database file in a directory that goes with it.
    pub(crate) struct Scratch {
        _dir: tempfile::TempDir,
        pub(crate) file: PathBuf,
        pub(crate) url: Secret,
    }

    impl Scratch {
        pub(crate) fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("ha.sqlite");
            let url = Secret::new(format!("sqlite:///{}", file.display()));
            Scratch {
                _dir: dir,
                file,
                url,
            }
        }

        /// A fresh, open database.
        pub(crate) async fn open(&self) -> Database {
            Database::dbsync(&self.url).await.unwrap();
            Database::open(&self.url).await.unwrap()
        }

        /// A connection that knows nothing of ours; it may create the file.
        pub(crate) async fn raw(&self) -> SqliteConnection {
            SqliteConnectOptions::new()
                .filename(&self.file)
                .create_if_missing(true)
                .connect()
                .await
                .unwrap()
        }

        /// Runs statements.
        pub(crate) async fn run(&self, text: &str) {
            sqlx::raw_sql(AssertSqlSafe(text.to_owned()))
                .execute(&mut self.raw().await)
                .await
                .unwrap();
        }

        /// The rows of a query as text, columns joined by `|`.
        pub(crate) async fn look(&self, text: &str) -> Vec<String> {
            let rows = sqlx::raw_sql(AssertSqlSafe(text.to_owned()))
                .fetch_all(&mut self.raw().await)
                .await
                .unwrap();
            rows.iter().map(line).collect()
        }
    }

    fn line(row: &sqlx::sqlite::SqliteRow) -> String {
        let cell = |index| {
            row.try_get_unchecked::<Option<String>, _>(index)
                .unwrap()
                .unwrap_or_else(|| "NULL".to_owned())
        };
        let cells: Vec<String> = (0..row.len()).map(cell).collect();
        cells.join("|")
    }

    pub(crate) const EPOCH: u64 = 1_700_000_000_000;
    pub(crate) const OBSERVED: i64 = 1_800_000_000_000_000;

    /// Reading `seq` of node-1: storage answers, heard over the storage network.
    pub(crate) fn reading(seq: u64) -> Received {
        reading_of("node-1", EPOCH, seq)
    }

    pub(crate) fn reading_of(observer: &str, epoch: u64, seq: u64) -> Received {
        Received {
            identity: Some(Identity {
                observer: observer.to_owned(),
                epoch,
                seq,
            }),
            path: Some("storage".to_owned()),
            message_id: format!("{observer}-{epoch}-{seq}"),
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
            timestamp: Some(UtcTime::from_unix_micros(
                OBSERVED + i64::try_from(seq % 1_000_000).unwrap(),
            )),
            metadata: Value::Map(vec![("node".to_owned(), Value::from(observer))]),
        }
    }

    /// The same message as an old sender would have sent it.
    pub(crate) fn unnumbered(received: Received) -> Received {
        Received {
            identity: None,
            path: None,
            ..received
        }
    }

    pub(crate) fn by_path(path: &str, received: Received) -> Received {
        Received {
            path: Some(path.to_owned()),
            ..received
        }
    }
}

mod golden {
    //! What Ceilometer's own collector made of the same messages.

    use super::support::*;
    use ceilometer_ha::model::{Received, Secret, UtcTime, Value};
    use ceilometer_ha::storage::RowRefusal;
    use ceilometer_ha::wire;
    use serde_json::{Value as Json, json};
    use std::collections::{BTreeMap, BTreeSet};

    const MESSAGES: &str = include_str!("fixtures/udp.jsonl");
    const ROWS: &str = include_str!("fixtures/rows-sqlite.jsonl");

    /// The secret of the collector that made the rows; cases signed with another never got in.
    const SECRET: &str = "nmWpu7Pu8DDWhQ3oPaBpVQjn";

    /// The original failed to store what we can: it could not sort integer keys beside text.
    const ONLY_OURS: &str = "int_keys";

    /// Cases that the original failed to store.
    const REFUSED: &[&str] = &["md_ints", "md_list_long"];

    /// Python's JSON has words for NaN and the infinities; here they become texts.
    fn parse(text: &str) -> Json {
        let mut plain = String::new();
        for (index, piece) in split_strings(text).into_iter().enumerate() {
            if index % 2 == 1 {
                plain.push_str(piece);
                continue;
            }
            let piece = piece
                .replace("-Infinity", "\"@minus\"")
                .replace("Infinity", "\"@plus\"")
                .replace("NaN", "\"@nan\"");
            plain.push_str(&piece);
        }
        serde_json::from_str(&plain).unwrap()
    }

    /// Cuts JSON so that every second piece is a string with its quotes.
    fn split_strings(text: &str) -> Vec<&str> {
        let mut pieces = Vec::new();
        let (mut start, mut inside, mut escaped) = (0, false, false);
        for (at, byte) in text.bytes().enumerate() {
            if escaped {
                escaped = false;
            } else if inside && byte == b'\\' {
                escaped = true;
            } else if byte == b'"' {
                let cut = if inside { at + 1 } else { at };
                pieces.push(&text[start..cut]);
                start = cut;
                inside = !inside;
            }
        }
        pieces.push(&text[start..]);
        pieces
    }

    fn value(json: &Json) -> Value {
        match json {
            Json::Null => Value::Null,
            Json::Bool(truth) => Value::Bool(*truth),
            Json::Number(number) => match number.as_i128() {
                Some(whole) => Value::Int(whole),
                None => Value::Float(number.as_f64().unwrap()),
            },
            Json::String(text) => match text.as_str() {
                "@plus" => Value::Float(f64::INFINITY),
                "@minus" => Value::Float(f64::NEG_INFINITY),
                "@nan" => Value::Float(f64::NAN),
                text => Value::from(text),
            },
            Json::Array(items) => Value::List(items.iter().map(value).collect()),
            Json::Object(map) => Value::Map(
                map.iter()
                    .map(|(key, json)| (key.clone(), value(json)))
                    .collect(),
            ),
        }
    }

    /// The message as verifying and decoding hand it over; None for what they refuse.
    fn received(case: &Json) -> Option<Received> {
        let hex = case["datagram_hex"].as_str().unwrap();
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let datagram: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
        let secret = Secret::new(SECRET);
        wire::receive(&datagram, &secret).0.pop()
    }

    fn cases() -> BTreeMap<String, (Received, Json)> {
        let by_name = |lines: &str| -> BTreeMap<String, Json> {
            lines
                .lines()
                .map(parse)
                .map(|case| (case["name"].as_str().unwrap().to_owned(), case))
                .collect()
        };
        let messages = by_name(MESSAGES);
        by_name(ROWS)
            .into_iter()
            .filter(|(name, _)| name != ONLY_OURS)
            .filter_map(|(name, rows)| Some((name.clone(), (received(&messages[&name])?, rows))))
            .collect()
    }

    /// A number as SQLite prints it.
    fn number(json: &Json) -> Option<f64> {
        value(json).as_f64().filter(|number| !number.is_nan())
    }

    async fn sample(raw: &mut sqlx::sqlite::SqliteConnection, id: &str) -> (i64, i64, Json) {
        type Columns = (
            i64,
            i64,
            Option<f64>,
            Option<String>,
            Option<String>,
            Option<String>,
        );
        let rows: Vec<Columns> = sqlx::query_as(
            "SELECT meter_id, resource_id, volume, timestamp, recorded_at, message_signature \
             FROM sample WHERE message_id = ?",
        )
        .bind(id)
        .fetch_all(raw)
        .await
        .unwrap();
        let [(meter, resource, volume, timestamp, recorded_at, signature)] = &rows[..] else {
            panic!("{id}: {} samples", rows.len());
        };
        let recorded_at = UtcTime::parse(recorded_at.as_ref().unwrap()).unwrap();
        assert!(recorded_at.unix_micros() > OBSERVED - 1_000_000_000_000_000);
        let volume = volume.map(|volume| format!("{volume:?}"));
        (*meter, *resource, json!([volume, timestamp, signature]))
    }

    async fn metadata(raw: &mut sqlx::sqlite::SqliteConnection, resource: i64) -> BTreeSet<String> {
        let rows: Vec<(String, String, Option<String>, Option<f64>)> = sqlx::query_as(
            "SELECT 'metadata_text', meta_key, value, NULL FROM metadata_text WHERE id = ?1
             UNION ALL SELECT 'metadata_int', meta_key, CAST(value AS TEXT), NULL
                 FROM metadata_int WHERE id = ?1
             UNION ALL SELECT 'metadata_bool', meta_key, CAST(value AS TEXT), NULL
                 FROM metadata_bool WHERE id = ?1
             UNION ALL SELECT 'metadata_float', meta_key, NULL, value
                 FROM metadata_float WHERE id = ?1",
        )
        .bind(resource)
        .fetch_all(raw)
        .await
        .unwrap();
        rows.into_iter()
            .map(|(table, key, text, float)| format!("{table} {key} {text:?} {float:?}"))
            .collect()
    }

    fn golden_metadata(rows: &Json) -> BTreeSet<String> {
        let mut expected = BTreeSet::new();
        for table in ["text", "int", "bool", "float"] {
            for row in rows[format!("metadata_{table}")].as_array().unwrap() {
                let key = row["meta_key"].as_str().unwrap();
                let (text, float) = match (table, &row["value"]) {
                    ("float", json) => (None, number(json)),
                    (_, Json::Null) => (None, None),
                    (_, Json::String(text)) => (Some(text.clone()), None),
                    (_, other) => (Some(other.to_string()), None),
                };
                expected.insert(format!("metadata_{table} {key} {text:?} {float:?}"));
            }
        }
        expected
    }

    async fn compare(
        raw: &mut sqlx::sqlite::SqliteConnection,
        name: &str,
        rows: &Json,
    ) -> ((i64, i64), (i64, i64)) {
        let golden = &rows["sample"][0];
        let (meter_id, resource_id, ours) =
            sample(raw, golden["message_id"].as_str().unwrap()).await;
        let volume = number(&golden["volume"]).map(|volume| format!("{volume:?}"));
        let expected = json!([volume, golden["timestamp"], golden["message_signature"]]);
        assert_eq!(ours, expected, "{name}");

        let meter: (String, Option<String>, Option<String>) =
            sqlx::query_as("SELECT name, type, unit FROM meter WHERE id = ?")
                .bind(meter_id)
                .fetch_one(&mut *raw)
                .await
                .unwrap();
        let golden_meter = &rows["meter"][0];
        let expected = ["name", "type", "unit"].map(|key| golden_meter[key].clone());
        assert_eq!(json!(meter), json!(expected), "{name}");

        type Resource = (
            Option<String>,
            Option<String>,
            String,
            String,
            String,
            Option<String>,
        );
        let resource: Resource = sqlx::query_as(
            "SELECT user_id, project_id, source_id, resource_id, metadata_hash, resource_metadata \
             FROM resource WHERE internal_id = ?",
        )
        .bind(resource_id)
        .fetch_one(&mut *raw)
        .await
        .unwrap();
        let golden_resource = &rows["resource"][0];
        let columns = [
            "user_id",
            "project_id",
            "source_id",
            "resource_id",
            "metadata_hash",
        ];
        let (user, project, source, id, hash, text) = resource;
        assert_eq!(
            json!([user, project, source, id, hash]),
            json!(columns.map(|key| golden_resource[key].clone())),
            "{name}"
        );
        let golden_text = golden_resource["resource_metadata"].as_str();
        assert_eq!(text.as_deref().map(parse), golden_text.map(parse), "{name}");
        assert_eq!(
            metadata(raw, resource_id).await,
            golden_metadata(rows),
            "{name}"
        );
        (
            (meter_id, golden_meter["id"].as_i64().unwrap()),
            (
                resource_id,
                golden_resource["internal_id"].as_i64().unwrap(),
            ),
        )
    }

    #[tokio::test]
    async fn rows_are_what_ceilometer_s_collector_made_of_the_same_messages() {
        let scratch = Scratch::new();
        let db = scratch.open().await;
        let cases = cases();
        let batch: Vec<Received> = cases.values().map(|(message, _)| message.clone()).collect();
        let report = db.store(&batch).await.unwrap();

        let refused: BTreeSet<&str> = report
            .refused
            .iter()
            .map(|(index, refusal)| {
                assert_eq!(*refusal, RowRefusal::MetadataOutOfRange);
                cases.keys().nth(*index).unwrap().as_str()
            })
            .collect();
        assert_eq!(refused, REFUSED.iter().copied().collect());

        let mut raw = scratch.raw().await;
        let (mut meters, mut resources) = (BTreeSet::new(), BTreeSet::new());
        for (name, (_, rows)) in &cases {
            if REFUSED.contains(&name.as_str()) {
                assert_eq!(rows["sample"], json!([]), "{name}");
                continue;
            }
            let (meter, resource) = compare(&mut raw, name, rows).await;
            meters.insert(meter);
            resources.insert(resource);
        }
        assert!(resources.len() > 20);
        // Ids may differ, but what shares a row there shares one here, and nothing else does.
        for pairs in [meters, resources] {
            let ours: BTreeSet<i64> = pairs.iter().map(|(ours, _)| *ours).collect();
            let theirs: BTreeSet<i64> = pairs.iter().map(|(_, theirs)| *theirs).collect();
            assert_eq!((ours.len(), theirs.len()), (pairs.len(), pairs.len()));
        }
        let fleet = db.fleet().await.unwrap();
        assert_eq!(fleet.states, [], "old senders move no state");
    }
}

mod dbsync {
    use super::support::*;
    use ceilometer_ha::storage::{Database, StoreError, StoreErrorKind};
    use std::os::unix::fs::PermissionsExt;

    const TABLES: &str = "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' \
                          ORDER BY type, name";

    /// A database as the original's own dbsync and collector left it.
    async fn existing(scratch: &Scratch) {
        scratch.run(DDL).await;
        scratch
            .run(
                "INSERT INTO migrate_version VALUES ('ceilometer', '/usr/lib/migrate_repo', 45);
                 INSERT INTO meter VALUES (7, 'storage_connectivity', 'gauge', '');
                 INSERT INTO resource VALUES (9, NULL, NULL, 'openstack', 'node-1',
                     '{\"node\": \"node-1\"}', '5e084b0507346173344a7828efec0ebc');
                 INSERT INTO metadata_text VALUES (9, 'node', 'node-1');
                 INSERT INTO sample VALUES (41, 7, 9, 1.0, '2016-05-04 03:02:01.123456',
                     '2016-05-04 03:02:02.000000', 'sig', 'm-0');",
            )
            .await;
    }

    #[tokio::test]
    async fn a_fresh_one_is_made_and_a_second_time_there_is_nothing_to_do() {
        let scratch = Scratch::new();
        let done = Database::dbsync(&scratch.url).await.unwrap();
        assert_eq!(done.len(), 4, "{done:?}");
        let mode = std::fs::metadata(&scratch.file).unwrap().permissions();
        assert_eq!(mode.mode() & 0o137, 0, "others may not read it");

        let tables = scratch.look(TABLES).await;
        let done = Database::dbsync(&scratch.url).await.unwrap();
        assert!(done[0].starts_with("nothing to do"), "{done:?}");
        assert_eq!(scratch.look(TABLES).await, tables);
        assert_eq!(
            scratch.look("SELECT version FROM migrate_version").await,
            ["45"]
        );
    }

    #[tokio::test]
    async fn an_existing_one_is_taken_over_with_its_data_and_ends_like_a_fresh_one() {
        let taken_over = Scratch::new();
        existing(&taken_over).await;
        let done = Database::dbsync(&taken_over.url).await.unwrap();
        assert!(done[0].starts_with("took over"), "{done:?}");
        let fresh = Scratch::new();
        Database::dbsync(&fresh.url).await.unwrap();
        assert_eq!(taken_over.look(TABLES).await, fresh.look(TABLES).await);

        let db = Database::open(&taken_over.url).await.unwrap();
        db.store(&[reading(1)]).await.unwrap();
        assert_eq!(
            taken_over
                .look("SELECT id, meter_id, resource_id, message_id FROM sample ORDER BY id")
                .await,
            ["41|7|9|m-0".to_owned(), format!("42|7|9|node-1-{EPOCH}-1")],
            "the rows that were there are used"
        );
    }

    #[tokio::test]
    async fn ceilometer_s_tables_are_those_of_its_own_dbsync() {
        let original = Scratch::new();
        original.run(DDL).await;
        let fresh = Scratch::new();
        Database::dbsync(&fresh.url).await.unwrap();
        let ours = "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' \
                    AND tbl_name NOT LIKE 'ha_%' ORDER BY type, name";
        assert_eq!(fresh.look(ours).await, original.look(TABLES).await);
    }

    #[tokio::test]
    async fn what_is_not_ours_is_refused_and_left_alone() {
        for (spoil, word) in [
            ("UPDATE migrate_version SET version = 44", "44"),
            ("UPDATE migrate_version SET version = 46", "46"),
            ("DELETE FROM migrate_version", "no row"),
            ("DROP TABLE migrate_version", "no migrate_version"),
            (
                "ALTER TABLE sample RENAME COLUMN recorded_at TO at",
                "recorded_at",
            ),
            ("DROP TABLE metadata_float", "metadata_float"),
        ] {
            let scratch = Scratch::new();
            existing(&scratch).await;
            scratch.run(spoil).await;
            let tables = scratch.look(TABLES).await;
            let error = Database::dbsync(&scratch.url).await.unwrap_err();
            assert!(
                matches!(&error, StoreError::Foreign(why) if why.contains(word)),
                "{spoil}: {error}"
            );
            assert_eq!(error.kind(), StoreErrorKind::Lasting);
            assert_eq!(scratch.look(TABLES).await, tables, "{spoil}");
            assert_eq!(scratch.look("PRAGMA journal_mode").await, ["delete"]);
        }
    }

    #[tokio::test]
    async fn a_newer_one_is_refused_by_everyone() {
        let scratch = Scratch::new();
        Database::dbsync(&scratch.url).await.unwrap();
        scratch
            .run("INSERT INTO ha_schema VALUES (1000, 'from the future', 0)")
            .await;
        for error in [
            Database::dbsync(&scratch.url).await.unwrap_err(),
            Database::open(&scratch.url).await.unwrap_err(),
            Database::open_read_only(&scratch.url).await.unwrap_err(),
        ] {
            assert!(
                matches!(error, StoreError::NewerSchema { found: 1000, .. }),
                "{error}"
            );
        }
    }

    #[tokio::test]
    async fn what_is_missing_is_said_with_what_to_do() {
        let scratch = Scratch::new();
        for error in [
            Database::open(&scratch.url).await.unwrap_err(),
            Database::open_read_only(&scratch.url).await.unwrap_err(),
        ] {
            assert!(matches!(error, StoreError::NoDatabase(_)), "{error}");
            assert!(error.to_string().contains("ceilometer-collector-ha dbsync"));
        }
        assert!(!scratch.file.exists(), "looking creates nothing");

        existing(&scratch).await;
        for error in [
            Database::open(&scratch.url).await.unwrap_err(),
            Database::open_read_only(&scratch.url).await.unwrap_err(),
        ] {
            assert!(matches!(error, StoreError::NoSchema(_)), "{error}");
            assert!(error.to_string().contains("ceilometer-collector-ha dbsync"));
        }
    }

    #[tokio::test]
    async fn a_directory_that_is_missing_is_named() {
        let scratch = Scratch::new();
        let url = ceilometer_ha::model::Secret::new(format!(
            "sqlite:///{}/nowhere/ha.sqlite",
            scratch.file.display()
        ));
        let error = Database::dbsync(&url).await.unwrap_err();
        assert!(error.to_string().contains("nowhere"), "{error}");
    }
}

mod store {
    use super::support::*;
    use ceilometer_ha::model::{Received, Value};
    use ceilometer_ha::storage::{Database, RowRefusal, StoreError, StoreErrorKind, StoreReport};

    async fn samples(scratch: &Scratch) -> Vec<String> {
        scratch
            .look("SELECT message_id FROM sample ORDER BY id")
            .await
    }

    #[tokio::test]
    async fn what_is_stored_is_seen_at_once_by_another_process() {
        let scratch = Scratch::new();
        let writer = scratch.open().await;
        let reader = Database::open_read_only(&scratch.url).await.unwrap();
        for seq in 1..=3 {
            let received = Received {
                volume: Some(0.5),
                metadata: Value::Map(vec![
                    ("node".into(), "wezeł".into()),
                    ("float".into(), Value::Float(0.30000000000000004)),
                    (
                        "user_metadata".into(),
                        Value::Map(vec![("cluster".into(), "blue".into())]),
                    ),
                ]),
                ..reading(seq)
            };
            writer.store(std::slice::from_ref(&received)).await.unwrap();
            let fleet = reader.fleet().await.unwrap();
            let [state] = &fleet.states[..] else {
                panic!("{fleet:?}");
            };
            assert_eq!((state.epoch, state.seq), (EPOCH, seq));
            assert_eq!(
                (
                    state.observer.as_str(),
                    state.meter.as_str(),
                    state.resource_id.as_str()
                ),
                ("node-1", "storage_connectivity", "node-1")
            );
            assert_eq!(
                (state.volume, state.quality.as_str()),
                (0.5, "shared_secret")
            );
            assert_eq!(Some(state.observed_at), received.timestamp);
            let sent = received.metadata.as_map().unwrap();
            assert_eq!(state.metadata, sent.iter().cloned().collect());
            assert_eq!(state.paths, ["storage".to_owned()].into());
            let age = fleet.now.seconds_since(state.received_at);
            assert!((0.0..60.0).contains(&age), "{age}");
        }
        assert!(matches!(
            reader.store(&[reading(9)]).await,
            Err(StoreError::ReadOnly)
        ));
        assert_eq!(
            scratch.look("PRAGMA journal_mode").await,
            ["wal"],
            "or readers and the writer would wait for each other"
        );
        writer.close().await;
        reader.close().await;
    }

    #[tokio::test]
    async fn two_paths_are_one_sample_and_both_are_remembered() {
        let scratch = Scratch::new();
        let db = scratch.open().await;
        db.store(&[reading(1)]).await.unwrap();
        let before = db.fleet().await.unwrap();
        let report = db
            .store(&[by_path("management", reading(1))])
            .await
            .unwrap();
        let expected = StoreReport {
            duplicates: 1,
            ..StoreReport::default()
        };
        assert_eq!(report, expected);

        let after = db.fleet().await.unwrap();
        let mut state = before.states[0].clone();
        state.paths.insert("management".into());
        assert_eq!(after.states, [state], "nothing but its paths has changed");
        let paths: Vec<&str> = after.paths.iter().map(|path| path.path.as_str()).collect();
        assert_eq!(paths, ["management", "storage"]);
        assert_eq!(samples(&scratch).await.len(), 1);

        // A path that brings what is old already still tells nothing about the newest reading.
        db.store(&[reading(2)]).await.unwrap();
        db.store(&[by_path("third", reading(1))]).await.unwrap();
        let fleet = db.fleet().await.unwrap();
        assert_eq!(fleet.states[0].paths, ["storage".to_owned()].into());
    }

    #[tokio::test]
    async fn a_late_one_is_history_and_never_moves_state() {
        let scratch = Scratch::new();
        let db = scratch.open().await;
        db.store(&[reading(5)]).await.unwrap();
        let state = db.fleet().await.unwrap().states;
        let late = Received {
            volume: Some(0.0),
            ..reading(4)
        };
        let older_life = Received {
            volume: Some(0.0),
            ..reading_of("node-1", EPOCH - 1, 900)
        };
        let report = db.store(&[late, older_life]).await.unwrap();
        assert_eq!((report.stored, report.late, report.moved), (2, 2, 0));
        assert_eq!(db.fleet().await.unwrap().states, state);
        assert_eq!(samples(&scratch).await.len(), 3);

        let report = db
            .store(&[reading_of("node-1", EPOCH + 1, 1)])
            .await
            .unwrap();
        assert_eq!((report.late, report.moved), (0, 1), "a new life is newer");
    }

    #[tokio::test]
    async fn late_means_behind_the_state_or_behind_its_own_batch() {
        let scratch = Scratch::new();
        let db = scratch.open().await;
        db.store(&[reading(5)]).await.unwrap();
        let batch = [3, 6, 8, 7].map(reading);
        let report = db.store(&batch).await.unwrap();
        assert_eq!((report.stored, report.late, report.moved), (4, 2, 1));
        assert_eq!(db.fleet().await.unwrap().states[0].seq, 8);
    }

    #[tokio::test]
    async fn the_same_batch_again_changes_nothing() {
        let scratch = Scratch::new();
        let db = scratch.open().await;
        let mut batch: Vec<Received> = (1..=700).map(reading).collect();
        batch.extend((1..=700).map(|seq| unnumbered(reading_of("old", EPOCH, seq))));
        assert_eq!(db.store(&batch).await.unwrap().stored, 1400);
        let fleet = db.fleet().await.unwrap();
        let report = db.store(&batch).await.unwrap();
        assert_eq!((report.stored, report.duplicates), (0, 1400));
        let again = db.fleet().await.unwrap();
        assert_eq!((again.states, again.paths), (fleet.states, fleet.paths));
        assert_eq!(samples(&scratch).await.len(), 1400);
    }

    #[tokio::test]
    async fn old_senders_duplicates_are_stored_once_within_the_horizon() {
        let scratch = Scratch::new();
        let db = scratch.open().await;
        let old = unnumbered(reading(1));
        let nameless = Received {
            message_id: String::new(),
            ..old.clone()
        };
        let report = db
            .store(&[old.clone(), old.clone(), nameless.clone(), nameless])
            .await
            .unwrap();
        assert_eq!((report.stored, report.duplicates), (3, 1));
        let report = db.store(std::slice::from_ref(&old)).await.unwrap();
        assert_eq!((report.stored, report.duplicates), (0, 1));
        assert_eq!(db.fleet().await.unwrap().states, []);

        // A day later.
        scratch
            .run("UPDATE ha_seen_message SET seen_at = seen_at - 86400000000 - 1000")
            .await;
        assert_eq!(db.store(&[old]).await.unwrap().stored, 1);
        assert_eq!(
            scratch.look("SELECT count(*) FROM ha_seen_message").await,
            ["1"],
            "what lies beyond the horizon is swept out"
        );
    }

    #[tokio::test]
    async fn one_bad_row_costs_one_row() {
        let scratch = Scratch::new();
        let db = scratch.open().await;
        let batch = [
            reading(1),
            Received {
                volume: Some(f64::INFINITY),
                ..reading(2)
            },
            Received {
                volume: Some(f64::NAN),
                ..reading(3)
            },
            reading_of("node-1", u64::MAX, 4),
            reading_of("node-1", EPOCH, 1 << 63),
            reading(6),
        ];
        let report = db.store(&batch).await.unwrap();
        assert_eq!(report.stored, 2);
        assert_eq!(
            report.refused,
            [
                (1, RowRefusal::VolumeNotFinite),
                (2, RowRefusal::VolumeNotFinite),
                (3, RowRefusal::OrderOutOfRange),
                (4, RowRefusal::OrderOutOfRange),
            ]
        );
        assert_eq!(db.fleet().await.unwrap().states[0].seq, 6);
        let report = db.store(&batch[1..2]).await.unwrap();
        assert_eq!(report.refused.len(), 1, "a batch of bad rows alone is none");
    }

    #[tokio::test]
    async fn the_greatest_numbers_that_fit_are_kept() {
        let scratch = Scratch::new();
        let db = scratch.open().await;
        let most = i64::MAX.unsigned_abs();
        let report = db
            .store(&[reading(1), reading_of("node-1", most, most)])
            .await
            .unwrap();
        assert_eq!(report.stored, 2);
        let state = &db.fleet().await.unwrap().states[0];
        assert_eq!((state.epoch, state.seq), (most, most));
    }

    #[tokio::test]
    async fn too_many_gaps_close_the_oldest_and_say_so() {
        let scratch = Scratch::new();
        let db = scratch.open().await;
        let odd: Vec<Received> = (0..=1027).map(|n| reading(2 * n + 1)).collect();
        let report = db.store(&odd).await.unwrap();
        assert_eq!((report.stored, report.closed_gaps), (1028, 3));
        let report = db.store(&[2, 4, 6, 8].map(reading)).await.unwrap();
        assert_eq!((report.stored, report.duplicates), (1, 3));
    }

    #[tokio::test]
    async fn lives_too_long_ago_are_refused_rather_than_stored_twice() {
        let scratch = Scratch::new();
        let db = scratch.open().await;
        let lives: Vec<Received> = (1..=65).map(|life| reading_of("node-1", life, 1)).collect();
        for life in &lives {
            assert_eq!(
                db.store(std::slice::from_ref(life)).await.unwrap().stored,
                1
            );
        }
        let report = db.store(&lives).await.unwrap();
        assert_eq!(report.refused, [(0, RowRefusal::EpochForgotten)]);
        assert_eq!((report.stored, report.duplicates), (0, 64));
        let other = db.store(&[reading_of("node-2", 1, 1)]).await.unwrap();
        assert_eq!(other.stored, 1, "another observer has lives of its own");
    }

    #[tokio::test]
    async fn an_observer_has_a_bounded_number_of_paths() {
        let scratch = Scratch::new();
        let db = scratch.open().await;
        for number in 1..=40 {
            let path = format!("path-{number:02}");
            db.store(&[by_path(&path, reading(number)), by_path(&path, reading(1))])
                .await
                .unwrap();
        }
        let fleet = db.fleet().await.unwrap();
        let paths: Vec<&str> = fleet.paths.iter().map(|path| path.path.as_str()).collect();
        assert_eq!(paths.len(), 16);
        assert_eq!(
            (paths[0], paths[15]),
            ("path-25", "path-40"),
            "the newest are kept"
        );
        for number in 50..90 {
            db.store(&[by_path(&format!("path-{number}"), reading(40))])
                .await
                .unwrap();
        }
        assert_eq!(db.fleet().await.unwrap().states[0].paths.len(), 16);
    }

    #[tokio::test]
    async fn an_expirer_that_deletes_and_an_id_that_comes_again_mislead_nobody() {
        let scratch = Scratch::new();
        let db = scratch.open().await;
        db.store(&[reading(1)]).await.unwrap();
        // Ceilometer's expirer takes samples, and then what no sample refers to.
        scratch
            .run(
                "DELETE FROM sample; DELETE FROM metadata_text; DELETE FROM resource;
                 DELETE FROM meter;
                 INSERT INTO meter VALUES (1, 'another', 'gauge', '');
                 INSERT INTO resource (internal_id, resource_id) VALUES (1, 'another');",
            )
            .await;
        db.store(&[reading(2)]).await.unwrap();
        assert_eq!(
            scratch
                .look(
                    "SELECT meter.name, resource.resource_id FROM sample
                     JOIN meter ON meter.id = meter_id
                     JOIN resource ON internal_id = sample.resource_id"
                )
                .await,
            ["storage_connectivity|node-1"]
        );
    }

    #[tokio::test]
    async fn each_distinct_resource_has_one_row_whoever_asks() {
        let scratch = Scratch::new();
        let variants = |seq: u64| -> Vec<Received> {
            let base = unnumbered(reading(seq));
            let changes: [fn(&mut Received); 7] = [
                |_| (),
                |r| r.user_id = Some("user".into()),
                |r| r.user_id = Some("other user".into()),
                |r| r.project_id = Some("project".into()),
                |r| r.source = "another".into(),
                |r| r.metadata = Value::Map(vec![]),
                |r| r.resource_id = "node-2".into(),
            ];
            let change = |(number, change): (usize, fn(&mut Received))| {
                let mut received = base.clone();
                change(&mut received);
                received.message_id = format!("{number}");
                received.signature = seq.to_string();
                received
            };
            changes.into_iter().enumerate().map(change).collect()
        };
        let look = |seq: u64| {
            format!(
                "SELECT message_id, user_id, project_id, source_id, resource.resource_id,
                 resource_metadata FROM sample
                 JOIN resource ON internal_id = sample.resource_id
                 WHERE message_signature = '{seq}' ORDER BY message_id"
            )
        };
        let first = scratch.open().await;
        assert_eq!(first.store(&variants(1)).await.unwrap().stored, 7);
        scratch.run("DELETE FROM ha_seen_message").await;
        let second = Database::open(&scratch.url).await.unwrap();
        assert_eq!(second.store(&variants(2)).await.unwrap().stored, 7);
        assert_eq!(
            scratch.look("SELECT count(*) FROM resource").await,
            ["7"],
            "one that remembers nothing finds them"
        );
        let seen = scratch.look(&look(1)).await;
        assert_eq!(scratch.look(&look(2)).await, seen);
        assert_eq!(seen[4], "4|NULL|NULL|another|node-1|{\"node\": \"node-1\"}");
    }

    #[tokio::test]
    async fn a_sample_of_a_resource_that_is_gone_fails_instead_of_dangling() {
        let scratch = Scratch::new();
        let db = scratch.open().await;
        scratch
            .run("CREATE TRIGGER gone AFTER INSERT ON resource BEGIN DELETE FROM resource; END")
            .await;
        let bare = Received {
            metadata: Value::Map(vec![]),
            ..reading(1)
        };
        assert!(db.store(&[bare]).await.is_err());
        assert_eq!(samples(&scratch).await.len(), 0);
    }

    #[tokio::test]
    async fn a_failed_batch_leaves_nothing_behind_not_even_in_memory() {
        let scratch = Scratch::new();
        let db = scratch.open().await;
        scratch
            .run(
                "CREATE TRIGGER full BEFORE INSERT ON ha_path BEGIN SELECT RAISE(ABORT, 'no'); END",
            )
            .await;
        let error = db.store(&[reading(1)]).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Lasting);
        assert_eq!(samples(&scratch).await.len(), 0);
        scratch.run("DROP TRIGGER full").await;
        let report = db.store(&[reading(1)]).await.unwrap();
        assert_eq!((report.stored, report.moved), (1, 1));
        assert_eq!(
            scratch.look("SELECT count(*) FROM resource").await,
            ["1"],
            "the resource was made again"
        );
    }

    #[tokio::test]
    async fn metadata_keys_that_read_the_same_cost_nothing_but_the_second() {
        let scratch = Scratch::new();
        let db = scratch.open().await;
        let twins = Received {
            metadata: Value::Map(vec![
                ("a".into(), Value::Map(vec![("b".into(), Value::Int(2))])),
                ("a.b".into(), Value::Int(1)),
            ]),
            ..reading(1)
        };
        assert_eq!(db.store(&[twins]).await.unwrap().stored, 1);
        assert_eq!(
            scratch
                .look("SELECT meta_key, value FROM metadata_int")
                .await,
            ["a.b|2"]
        );
    }

    #[tokio::test]
    async fn damage_in_our_own_tables_is_an_error_that_names_the_row() {
        let scratch = Scratch::new();
        let db = scratch.open().await;
        db.store(&[reading(1)]).await.unwrap();
        scratch.run("UPDATE ha_seen SET runs = x'ff'").await;
        let error = db.store(&[reading(2)]).await.unwrap_err();
        assert!(error.to_string().contains("ha_seen for node-1"), "{error}");
        scratch.run("UPDATE ha_state SET metadata = 'x'").await;
        let error = db.fleet().await.unwrap_err();
        assert!(error.to_string().contains("ha_state for node-1"), "{error}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn two_collectors_at_once_store_everything_once() {
        let scratch = Scratch::new();
        let (one, two) = (
            scratch.open().await,
            Database::open(&scratch.url).await.unwrap(),
        );
        let feed = |db: Database, path: &'static str| async move {
            let mut stored = 0;
            for start in (1..=400).step_by(10) {
                let batch: Vec<Received> = (start..start + 10)
                    .map(|seq| by_path(path, reading(seq)))
                    .collect();
                stored += db.store(&batch).await.unwrap().stored;
            }
            stored
        };
        let one = tokio::spawn(feed(one, "storage"));
        let two = tokio::spawn(feed(two, "management"));
        assert_eq!(one.await.unwrap() + two.await.unwrap(), 400);
        let db = Database::open_read_only(&scratch.url).await.unwrap();
        let fleet = db.fleet().await.unwrap();
        assert_eq!(fleet.states[0].seq, 400);
        assert_eq!(fleet.states[0].paths.len(), 2);
        assert_eq!(samples(&scratch).await.len(), 400);
    }
}

mod order {
    //! Whatever the network does to the order, the outcome is the same.

    use super::support::*;
    use ceilometer_ha::model::Received;
    use ceilometer_ha::storage::{Database, StoreReport};
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// Who, which life, which reading of it, by which path; and whether an old sender sent it.
    type Sent = (u8, u64, u64, bool, bool);

    fn message((observer, epoch, seq, first_path, numbered): Sent) -> Received {
        let received = reading_of(&format!("node-{observer}"), epoch, seq);
        if !numbered {
            return unnumbered(received);
        }
        let mut received = by_path(if first_path { "storage" } else { "management" }, received);
        received.volume = Some(f64::from(u8::try_from(seq % 3).unwrap()));
        if seq % 2 == 0 {
            received.resource_id.push_str("/gateway");
        }
        received
    }

    /// The place, the volume and the paths of what a state shows.
    type Shown = (u64, u64, f64, BTreeSet<String>);

    /// What a run of messages must leave, by the simplest rules that say it.
    #[derive(Debug, Default, PartialEq)]
    struct Outcome {
        history: BTreeSet<String>,
        states: BTreeMap<(String, String), Shown>,
        paths: BTreeMap<(String, String), (u64, u64)>,
    }

    fn expected(sent: &[Received]) -> Outcome {
        let mut outcome = Outcome::default();
        for message in sent {
            outcome.history.insert(message.message_id.clone());
            let (Some(who), Some(path), Some(volume)) =
                (&message.identity, &message.path, message.volume)
            else {
                continue;
            };
            let order = (who.epoch, who.seq);
            let fresh = (who.epoch, who.seq, volume, BTreeSet::new());
            let key = (who.observer.clone(), message.resource_id.clone());
            let state = outcome.states.entry(key).or_insert_with(|| fresh.clone());
            if (state.0, state.1) < order {
                *state = fresh;
            }
            if (state.0, state.1) == order {
                state.3.insert(path.clone());
            }
            let newest = outcome
                .paths
                .entry((who.observer.clone(), path.clone()))
                .or_default();
            *newest = order.max(*newest);
        }
        outcome
    }

    /// How many of the numbered ones are new but behind a newer one when they come.
    fn late(sent: &[Received]) -> usize {
        let (mut seen, mut newest) = (BTreeSet::new(), BTreeMap::new());
        let mut late = 0;
        for message in sent {
            let Some(who) = &message.identity else {
                continue;
            };
            let order = (who.epoch, who.seq);
            if seen.insert(who.clone()) {
                let key = (&who.observer, &message.resource_id);
                let state = newest.entry(key).or_insert(order);
                late += usize::from(*state > order);
                *state = order.max(*state);
            }
        }
        late
    }

    async fn outcome(scratch: &Scratch, db: &Database) -> Outcome {
        let history = scratch.look("SELECT message_id FROM sample").await;
        let count = history.len();
        let history: BTreeSet<String> = history.into_iter().collect();
        assert_eq!(history.len(), count, "something was stored twice");
        let states = db.fleet().await.unwrap().states.into_iter().map(|state| {
            let key = (state.observer, state.resource_id);
            (key, (state.epoch, state.seq, state.volume, state.paths))
        });
        let paths: Vec<(String, String, i64, i64)> =
            sqlx::query_as("SELECT observer, path, epoch, seq FROM ha_path")
                .fetch_all(&mut scratch.raw().await)
                .await
                .unwrap();
        let paths = paths.into_iter().map(|(observer, path, epoch, seq)| {
            let order = (epoch.unsigned_abs(), seq.unsigned_abs());
            ((observer, path), order)
        });
        Outcome {
            history,
            states: states.collect(),
            paths: paths.collect(),
        }
    }

    /// Stores the messages in batches cut at `cuts`, each by one of two collectors.
    async fn run(sent: Vec<Received>, cuts: Vec<(usize, bool)>) {
        let scratch = Scratch::new();
        let dbs = [
            scratch.open().await,
            Database::open(&scratch.url).await.unwrap(),
        ];
        let mut total = StoreReport::default();
        let mut rest = &sent[..];
        for (size, second) in cuts.into_iter().chain([(usize::MAX, false)]) {
            let (batch, later) = rest.split_at(size.min(rest.len()));
            rest = later;
            let report = dbs[usize::from(second)].store(batch).await.unwrap();
            assert_eq!(report.stored + report.duplicates, batch.len());
            total.stored += report.stored;
            total.late += report.late;
        }
        let expected = expected(&sent);
        assert_eq!(outcome(&scratch, &dbs[0]).await, expected);
        assert_eq!(total.stored, expected.history.len());
        assert_eq!(total.late, late(&sent));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

        #[test]
        fn no_order_no_duplicate_and_no_batching_changes_the_outcome(
            sent in prop::collection::vec(
                (0..2u8, 1..4u64, 1..9u64, any::<bool>(), prop::bool::weighted(0.9)),
                1..60,
            ),
            cuts in prop::collection::vec((0..12usize, any::<bool>()), 0..12),
        ) {
            // An old sender's ids are its own: nobody sends one message both ways.
            let sent = sent.into_iter().map(|sent| match sent {
                (_, epoch, seq, path, false) => message((9, epoch, seq, path, false)),
                numbered => message(numbered),
            });
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(run(sent.collect(), cuts));
        }
    }
}

mod contract {
    //! The queries of docs/sql-contract.md, taken out of the page and run.

    use super::support::*;
    use ceilometer_ha::model::{Received, UtcTime, Value};
    use ceilometer_ha::storage::Database;

    const PAGE: &str = include_str!("../docs/sql-contract.md");

    fn query(name: &str) -> &'static str {
        PAGE.split("```sql\n")
            .skip(1)
            .filter_map(|block| block.split_once("\n```"))
            .find_map(|(block, _)| block.strip_prefix(&format!("-- name: {name}\n")))
            .unwrap_or_else(|| panic!("the page has no query {name}"))
    }

    /// Stores one host's readings: for each the volume, and how many seconds ago by either clock.
    async fn history(scratch: &Scratch, db: &Database, host: &str, readings: &[(f64, i64, i64)]) {
        let now = db.fleet().await.unwrap().now.unix_micros();
        for (seq, (volume, observed_ago, recorded_ago)) in (1..).zip(readings) {
            let at = UtcTime::from_unix_micros(now - observed_ago * 1_000_000);
            let received = Received {
                volume: Some(*volume),
                timestamp: Some(at),
                ..reading_of(host, EPOCH, seq)
            };
            db.store(&[received]).await.unwrap();
            let recorded = UtcTime::from_unix_micros(now - recorded_ago * 1_000_000).to_sql_text();
            scratch
                .run(&format!(
                    "UPDATE sample SET recorded_at = '{recorded}' \
                     WHERE message_id = '{host}-{EPOCH}-{seq}'"
                ))
                .await;
        }
    }

    /// The last rounds of a source of 30 s, the newest first.
    fn rounds(volumes: &[f64], delay: i64) -> Vec<(f64, i64, i64)> {
        (0..)
            .zip(volumes)
            .map(|(round, volume)| (*volume, round * 30 + delay, round * 30))
            .collect()
    }

    #[tokio::test]
    async fn the_last_six_bound_both_ages_and_too_few_are_unknown() {
        let scratch = Scratch::new();
        let db = scratch.open().await;
        let down = [0.0; 6];
        for (host, readings) in [
            ("all-down", rounds(&down, 0)),
            ("all-up", rounds(&[1.0; 6], 0)),
            // The seventh is fresh too, but the last six count.
            (
                "recovered-before",
                rounds(&[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0], 0),
            ),
            ("mixed", rounds(&[0.0, 0.0, 0.0, 1.0, 1.0, 1.0], 0)),
            ("five-down", rounds(&down[..5], 0)),
            ("silent-for-an-hour", vec![(0.0, 3600, 3600); 6]),
            ("spool-drained", vec![(0.0, 3600, 0); 6]),
            ("clock-ahead", vec![(0.0, -3600, 0); 6]),
            ("clock-ahead-and-silent", vec![(0.0, 0, 3600); 6]),
            ("clock-a-little-off", rounds(&down, 5)),
        ] {
            history(&scratch, &db, host, &readings).await;
        }
        assert_eq!(
            scratch.look(query("last_six")).await,
            [
                "all-down|6|0.0|down",
                "all-up|6|1.0|up",
                "clock-a-little-off|6|0.0|down",
                "clock-ahead|0|NULL|unknown",
                "clock-ahead-and-silent|0|NULL|unknown",
                "five-down|5|0.0|unknown",
                "mixed|6|0.5|mixed",
                "recovered-before|6|0.0|down",
                "silent-for-an-hour|0|NULL|unknown",
                "spool-drained|0|NULL|unknown",
            ]
        );
    }

    #[tokio::test]
    async fn readings_of_one_host_count_together_whatever_its_metadata() {
        let scratch = Scratch::new();
        let db = scratch.open().await;
        history(&scratch, &db, "moved", &rounds(&[0.0; 4], 60)).await;
        let now = db.fleet().await.unwrap().now;
        for seq in [11, 12] {
            let received = Received {
                volume: Some(0.0),
                timestamp: Some(now),
                metadata: Value::Map(vec![("cluster".into(), "green".into())]),
                ..reading_of("moved", EPOCH, seq)
            };
            db.store(&[received]).await.unwrap();
        }
        assert_eq!(scratch.look(query("last_six")).await, ["moved|6|0.0|down"]);
    }

    #[tokio::test]
    async fn a_host_is_in_the_cluster_of_its_last_sample() {
        let scratch = Scratch::new();
        let db = scratch.open().await;
        let tagged = |host: &str, seq, cluster: &str| Received {
            metadata: Value::Map(vec![(
                "user_metadata".into(),
                Value::Map(vec![("cluster".into(), cluster.into())]),
            )]),
            ..reading_of(host, EPOCH, seq)
        };
        db.store(&[
            tagged("a", 1, "blue"),
            tagged("b", 1, "blue"),
            tagged("b", 2, "green"),
            tagged("c", 1, "green"),
            tagged("c", 2, "blue"),
            tagged("c", 3, "green"),
            reading_of("untagged", EPOCH, 1),
        ])
        .await
        .unwrap();
        assert_eq!(
            scratch.look(query("hosts_by_cluster")).await,
            ["a|blue", "b|green", "c|green"]
        );
    }

    #[tokio::test]
    async fn the_present_is_one_query_with_ages_by_the_database_s_clock() {
        let scratch = Scratch::new();
        let db = scratch.open().await;
        for (host, volume) in [
            ("down", 0.0),
            ("silent", 0.0),
            ("strange", 0.5),
            ("up", 1.0),
        ] {
            let received = Received {
                volume: Some(volume),
                metadata: Value::Map(vec![("cluster".into(), "blue".into())]),
                ..reading_of(host, EPOCH, 1)
            };
            db.store(&[received]).await.unwrap();
        }
        scratch
            .run("UPDATE ha_state SET received_at = received_at - 16000000 WHERE observer = 'silent'")
            .await;
        let page = query("present");
        let verdicts = format!("SELECT host, volume, cluster, verdict FROM ({page})");
        assert_eq!(
            scratch.look(&verdicts).await,
            [
                "down|0.0|blue|down",
                "silent|0.0|blue|unknown",
                "strange|0.5|blue|unknown",
                "up|1.0|blue|up",
            ]
        );
        let ages = format!("SELECT age_s BETWEEN 0 AND 60, offset_s < 0 FROM ({page})");
        assert_eq!(scratch.look(&ages).await, ["1|1"; 4]);
        let paths = format!("SELECT observer, path FROM ({})", query("paths"));
        assert_eq!(
            scratch.look(&paths).await,
            [
                "down|storage",
                "silent|storage",
                "strange|storage",
                "up|storage"
            ]
        );
    }

    #[tokio::test]
    async fn old_senders_are_in_the_last_six_and_not_in_the_present() {
        let scratch = Scratch::new();
        let db = scratch.open().await;
        let now = db.fleet().await.unwrap().now;
        let old: Vec<Received> = (1..=6)
            .map(|seq| Received {
                timestamp: Some(now),
                ..unnumbered(reading(seq))
            })
            .collect();
        db.store(&old).await.unwrap();
        assert_eq!(scratch.look(query("last_six")).await, ["node-1|6|1.0|up"]);
        assert_eq!(scratch.look(query("present")).await, [""; 0]);
    }

    /// A reading of a meter about a resource, with a volume.
    fn of(host: &str, epoch: u64, seq: u64, meter: &str, about: &str, volume: f64) -> Received {
        let mut received = reading_of(host, epoch, seq);
        received.meter.name = meter.to_owned();
        Received {
            volume: Some(volume),
            resource_id: about.to_owned(),
            metadata: Value::Map(vec![("reason".into(), "booted".into())]),
            ..received
        }
    }

    fn instance(host: &str, seq: u64, uuid: &str) -> Received {
        of(host, EPOCH, seq, "instance.state", uuid, 1.0)
    }

    fn round(host: &str, seq: u64, instances: f64) -> Received {
        of(host, EPOCH, seq, "instance.round", host, instances)
    }

    #[tokio::test]
    async fn an_instance_is_gone_only_if_a_complete_round_lacks_it() {
        let scratch = Scratch::new();
        let db = scratch.open().await;
        let first = |host: &str| {
            vec![
                instance(host, 1, "a"),
                instance(host, 2, "b"),
                round(host, 3, 2.0),
            ]
        };
        for (host, later) in [
            (
                "complete",
                vec![instance("complete", 4, "a"), round("complete", 5, 1.0)],
            ),
            ("empty", vec![round("empty", 4, 0.0)]),
            // Number 5 was lost, and c started after the round.
            (
                "lossy",
                vec![
                    instance("lossy", 4, "a"),
                    round("lossy", 6, 2.0),
                    instance("lossy", 7, "c"),
                ],
            ),
            // The rows ask too much here: all numbers have arrived.
            (
                "moved",
                vec![
                    instance("moved", 4, "a"),
                    round("moved", 5, 1.0),
                    instance("moved", 6, "a"),
                ],
            ),
            (
                "restarted",
                vec![of("restarted", EPOCH + 1, 1, "instance.state", "c", 1.0)],
            ),
            (
                "failing",
                vec![of(
                    "failing",
                    EPOCH,
                    4,
                    "pollster.failed",
                    "failing/instance.round",
                    16.0,
                )],
            ),
            (
                "recovered",
                vec![
                    of(
                        "recovered",
                        EPOCH,
                        4,
                        "pollster.failed",
                        "recovered/instance.round",
                        16.0,
                    ),
                    instance("recovered", 5, "a"),
                    round("recovered", 6, 1.0),
                ],
            ),
            ("silent", vec![]),
        ] {
            db.store(&first(host)).await.unwrap();
            db.store(&later).await.unwrap();
        }
        db.store(&[instance("unfinished", 1, "a")]).await.unwrap();
        scratch
            .run("UPDATE ha_state SET received_at = received_at - 91000000 WHERE observer = 'silent'")
            .await;
        let page = query("instances");
        let all = format!("SELECT host, instance, standing FROM ({page})");
        assert_eq!(
            scratch.look(&all).await,
            [
                "complete|a|there",
                "complete|b|gone",
                "empty|a|gone",
                "empty|b|gone",
                "failing|a|unknown",
                "failing|b|unknown",
                "lossy|a|there",
                "lossy|b|unconfirmed",
                "lossy|c|there",
                "moved|a|there",
                "moved|b|unconfirmed",
                "recovered|a|there",
                "recovered|b|gone",
                "restarted|a|there",
                "restarted|b|there",
                "restarted|c|there",
                "silent|a|unknown",
                "silent|b|unknown",
                "unfinished|a|unknown",
            ]
        );
        // What status knows beside the rows: how many of each round's numbers were stored.
        let fleet = db.fleet().await.unwrap();
        let rounds: Vec<_> = fleet
            .rounds
            .iter()
            .map(|round| format!("{} {} {}", round.observer, round.seq, round.heard))
            .collect();
        assert_eq!(
            rounds,
            [
                "complete 5 1",
                "empty 4 0",
                "failing 3 2",
                "lossy 6 1",
                "moved 5 1",
                "recovered 6 1",
                "restarted 3 2",
                "silent 3 2",
            ]
        );
        assert!(fleet.rounds.iter().all(|round| round.epoch == EPOCH));
    }

    #[tokio::test]
    async fn a_round_that_cannot_be_one_was_not_heard() {
        let scratch = Scratch::new();
        let db = scratch.open().await;
        for (host, volume) in [
            ("fraction", 0.5),
            ("huge", 1e300),
            ("more", 9.0),
            ("negative", -1.0),
        ] {
            db.store(&[instance(host, 1, "a"), round(host, 2, volume)])
                .await
                .unwrap();
        }
        let heard = |fleet: &ceilometer_ha::storage::Fleet| -> Vec<u64> {
            fleet.rounds.iter().map(|round| round.heard).collect()
        };
        assert_eq!(heard(&db.fleet().await.unwrap()), [0; 4]);
        // A list that is damaged proves nothing, and hides nothing of the present.
        db.store(&[instance("sound", 1, "a"), round("sound", 2, 1.0)])
            .await
            .unwrap();
        assert_eq!(heard(&db.fleet().await.unwrap()), [0, 0, 0, 0, 1]);
        scratch
            .run("UPDATE ha_seen SET runs = x'ff' WHERE observer = 'sound'")
            .await;
        let fleet = db.fleet().await.unwrap();
        assert_eq!(heard(&fleet), [0; 5]);
        assert_eq!(fleet.states.len(), 10);
    }

    #[test]
    fn every_block_of_the_page_has_a_name_and_is_run_above() {
        let names: Vec<&str> = PAGE
            .split("```sql\n")
            .skip(1)
            .map(|block| block.lines().next().unwrap_or_default())
            .collect();
        assert_eq!(
            names,
            [
                "-- name: last_six",
                "-- name: hosts_by_cluster",
                "-- name: present",
                "-- name: paths",
                "-- name: instances"
            ]
        );
    }
}
