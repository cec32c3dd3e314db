//! The database from outside: what a batch leaves in a real database of each engine, read back by a
//! connection of its own.

#![cfg(feature = "storage")]
// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

mod golden {
    //! What Ceilometer's own collector made of the same messages.

    use crate::support::store::*;
    use ceilometer_ha::model::{Received, Secret, Value};
    use ceilometer_ha::storage::RowRefusal;
    use ceilometer_ha::wire;
    use serde_json::{Value as Json, json};
    use std::collections::{BTreeMap, BTreeSet};

    const MESSAGES: &str = include_str!("fixtures/udp.jsonl");

    /// The secret of the collector that made the rows; cases signed with another never got in.
    const SECRET: &str = "nmWpu7Pu8DDWhQ3oPaBpVQjn";

    /// The original failed to sort integer keys beside text, in whichever database.
    const INT_KEYS: &str = "int_keys";

    /// What the original made of the messages in one engine.
    struct Golden {
        rows: &'static str,
        /// Cases that it failed to store and we store.
        only_ours: &'static [&'static str],
        /// Cases that both fail to store.
        refused: &'static [(&'static str, RowRefusal)],
    }

    const SQLITE: Golden = Golden {
        rows: include_str!("fixtures/rows-sqlite.jsonl"),
        only_ours: &[],
        refused: &[
            ("md_ints", RowRefusal::MetadataOutOfRange),
            ("md_list_long", RowRefusal::MetadataOutOfRange),
        ],
    };

    const MYSQL: Golden = Golden {
        rows: include_str!("fixtures/rows-mysql.jsonl"),
        // Text of four bytes in UTF-8, for which its tables have no room.
        only_ours: &["md_list_unicode", "md_unicode_values"],
        refused: &[
            ("md_float_special", RowRefusal::MetadataNotFinite),
            ("md_ints", RowRefusal::MetadataOutOfRange),
            ("md_list_long", RowRefusal::MetadataOutOfRange),
            ("volume_inf", RowRefusal::VolumeNotFinite),
            ("volume_nan", RowRefusal::VolumeNotFinite),
        ],
    };

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
        wire::receive(
            &datagram,
            &wire::Verifier::new(secret.clone()),
            wire::Via::Anywhere,
        )
        .0
        .pop()
    }

    fn cases(rows: &str) -> BTreeMap<String, (Received, Json)> {
        let by_name = |lines: &str| -> BTreeMap<String, Json> {
            lines
                .lines()
                .map(parse)
                .map(|case| (case["name"].as_str().unwrap().to_owned(), case))
                .collect()
        };
        let messages = by_name(MESSAGES);
        by_name(rows)
            .into_iter()
            .filter(|(name, _)| name != INT_KEYS)
            .filter_map(|(name, rows)| Some((name.clone(), (received(&messages[&name])?, rows))))
            .collect()
    }

    /// A number as Rust prints it; NaN is a null in a database.
    fn number(json: &Json) -> Option<String> {
        let number = value(json).as_f64().filter(|number| !number.is_nan())?;
        Some(format!("{number:?}"))
    }

    /// The same as a database holds it: what the original's driver gave MySQL was rounded to 15
    /// digits, and is compared so.
    fn rounded(scratch: &Scratch, number: Option<String>) -> Option<String> {
        if scratch.is_sqlite() {
            return number;
        }
        let number: f64 = number?.parse().unwrap();
        Some(format!("{number:.14e}"))
    }

    async fn one(scratch: &Scratch, query: String) -> Cells {
        let mut rows = scratch.cells(&query).await;
        assert_eq!(rows.len(), 1, "{query}");
        rows.remove(0)
    }

    async fn metadata(scratch: &Scratch, resource: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for table in ["text", "int", "bool", "float"] {
            let query =
                format!("SELECT meta_key, value FROM metadata_{table} WHERE id = {resource}");
            for row in scratch.cells(&query).await {
                let [key, value] = &row[..] else {
                    panic!("{row:?}");
                };
                let value = match table {
                    "float" => rounded(scratch, value.clone()),
                    _ => value.clone(),
                };
                found.insert(format!(
                    "metadata_{table} {} {value:?}",
                    key.as_ref().unwrap()
                ));
            }
        }
        found
    }

    fn golden_metadata(scratch: &Scratch, rows: &Json) -> BTreeSet<String> {
        let mut expected = BTreeSet::new();
        for table in ["text", "int", "bool", "float"] {
            for row in rows[format!("metadata_{table}")].as_array().unwrap() {
                let key = row["meta_key"].as_str().unwrap();
                let value = match (table, &row["value"]) {
                    ("float", json) => rounded(scratch, number(json)),
                    (_, Json::Null) => None,
                    (_, Json::String(text)) => Some(text.clone()),
                    (_, other) => Some(other.to_string()),
                };
                expected.insert(format!("metadata_{table} {key} {value:?}"));
            }
        }
        expected
    }

    /// Compares a case's rows column by column; returns our ids of its meter and resource beside the
    /// original's.
    async fn compare(scratch: &Scratch, name: &str, rows: &Json) -> ((String, i64), (String, i64)) {
        let golden = &rows["sample"][0];
        let id = golden["message_id"].as_str().unwrap();
        let sample = one(
            scratch,
            format!(
                "SELECT meter_id, resource_id, volume, timestamp, message_signature, recorded_at \
                 FROM sample WHERE message_id = '{id}'"
            ),
        )
        .await;
        let volume = rounded(scratch, sample[2].clone());
        assert_eq!(
            json!([volume, sample[3], sample[4]]),
            json!([
                rounded(scratch, number(&golden["volume"])),
                golden["timestamp"],
                golden["message_signature"]
            ]),
            "{name}"
        );
        assert!(sample[5].is_some(), "{name}");
        let (meter_id, resource_id) = (sample[0].clone().unwrap(), sample[1].clone().unwrap());

        let meter = one(
            scratch,
            format!("SELECT name, type, unit FROM meter WHERE id = {meter_id}"),
        )
        .await;
        let golden_meter = &rows["meter"][0];
        let expected = ["name", "type", "unit"].map(|key| golden_meter[key].clone());
        assert_eq!(json!(meter), json!(expected), "{name}");

        let mut resource = one(
            scratch,
            format!(
                "SELECT user_id, project_id, source_id, resource_id, metadata_hash, \
                 resource_metadata FROM resource WHERE internal_id = {resource_id}"
            ),
        )
        .await;
        let golden_resource = &rows["resource"][0];
        let text = resource.pop().unwrap();
        let columns = [
            "user_id",
            "project_id",
            "source_id",
            "resource_id",
            "metadata_hash",
        ];
        assert_eq!(
            json!(resource),
            json!(columns.map(|key| golden_resource[key].clone())),
            "{name}"
        );
        let golden_text = golden_resource["resource_metadata"].as_str();
        assert_eq!(text.as_deref().map(parse), golden_text.map(parse), "{name}");
        assert_eq!(
            metadata(scratch, &resource_id).await,
            golden_metadata(scratch, rows),
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

    on_each_engine! {
        async fn rows_are_what_ceilometer_s_collector_made_of_the_same_messages(scratch: Scratch) {
            let db = scratch.open().await;
            let golden = if scratch.is_sqlite() { SQLITE } else { MYSQL };
            let cases = cases(golden.rows);
            let batch: Vec<Received> = cases.values().map(|(message, _)| message.clone()).collect();
            let report = db.store(&batch).await.unwrap();

            let refused: BTreeMap<&str, RowRefusal> = report
                .refused
                .iter()
                .map(|(index, refusal)| (cases.keys().nth(*index).unwrap().as_str(), *refusal))
                .collect();
            assert_eq!(refused, golden.refused.iter().copied().collect());

            let (mut meters, mut resources) = (BTreeSet::new(), BTreeSet::new());
            for (name, (_, rows)) in &cases {
                if refused.contains_key(name.as_str()) || golden.only_ours.contains(&name.as_str()) {
                    assert_eq!(rows["sample"], json!([]), "{name}");
                    continue;
                }
                let (meter, resource) = compare(&scratch, name, rows).await;
                meters.insert(meter);
                resources.insert(resource);
            }
            assert!(resources.len() > 20);
            // Ids may differ, but what shares a row there shares one here, and nothing else does.
            for pairs in [meters, resources] {
                let ours: BTreeSet<&String> = pairs.iter().map(|(ours, _)| ours).collect();
                let theirs: BTreeSet<i64> = pairs.iter().map(|(_, theirs)| *theirs).collect();
                assert_eq!((ours.len(), theirs.len()), (pairs.len(), pairs.len()));
            }
            let fleet = db.fleet().await.unwrap();
            assert_eq!(fleet.states, [], "old senders move no state");
        }
    }
}

mod dbsync {
    use crate::support::store::*;
    use ceilometer_ha::model::{Secret, UtcTime};
    use ceilometer_ha::storage::{Database, StoreError, StoreErrorKind};
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Mutex;

    const SQLITE_DDL: &str = include_str!("fixtures/sqlite-ddl.sql");
    const MYSQL_DDL: &str = include_str!("fixtures/mysql-ddl.sql");

    /// Every table, column, index and constraint; of Ceilometer's tables alone if ours are left out.
    async fn tables(scratch: &Scratch, with_ours: bool) -> Vec<String> {
        let ours = if with_ours { "" } else { "ha_%" };
        if scratch.is_sqlite() {
            let query = format!(
                "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' \
                 AND tbl_name NOT LIKE '{ours}' ORDER BY type, name"
            );
            return scratch.look(&query).await;
        }
        let mut found = Vec::new();
        for query in [
            "SELECT table_name, engine, table_collation FROM information_schema.tables",
            "SELECT table_name, column_name, ordinal_position, column_default, is_nullable, \
             column_type, collation_name, extra FROM information_schema.columns",
            "SELECT table_name, index_name, seq_in_index, column_name, non_unique, sub_part \
             FROM information_schema.statistics",
            "SELECT table_name, constraint_name, column_name, referenced_table_name, \
             referenced_column_name FROM information_schema.key_column_usage",
            "SELECT table_name, constraint_name, check_clause \
             FROM information_schema.check_constraints",
        ] {
            let schema = if query.contains("constraint") {
                "constraint_schema"
            } else {
                "table_schema"
            };
            let query =
                format!("{query} WHERE {schema} = DATABASE() AND table_name NOT LIKE '{ours}'");
            found.extend(scratch.look(&query).await);
        }
        found.sort_unstable();
        found
    }

    /// The tables that the original's own dbsync makes.
    async fn original(scratch: &Scratch) {
        if scratch.is_sqlite() {
            return scratch.run(SQLITE_DDL).await;
        }
        // Theirs are in no order: a table may refer to a later one.
        let text = format!("SET foreign_key_checks = 0; {MYSQL_DDL}");
        scratch.run(&text).await;
    }

    /// A database as the original's own dbsync and collector left it.
    async fn existing(scratch: &Scratch) {
        original(scratch).await;
        let at = |seconds: i64| {
            let at = UtcTime::from_unix_micros(1_462_330_921_123_456 + seconds * 1_000_000);
            scratch.moment(at)
        };
        scratch
            .run(&format!(
                "INSERT INTO migrate_version VALUES ('ceilometer', '/usr/lib/migrate_repo', 45);
                 INSERT INTO meter VALUES (7, 'storage_connectivity', 'gauge', '');
                 INSERT INTO resource (internal_id, user_id, project_id, source_id, resource_id,
                     resource_metadata, metadata_hash) VALUES (9, NULL, NULL, 'openstack', 'node-1',
                     '{{\"node\": \"node-1\"}}', '5e084b0507346173344a7828efec0ebc');
                 INSERT INTO metadata_text VALUES (9, 'node', 'node-1');
                 INSERT INTO sample VALUES (41, 7, 9, 1.0, '{}', '{}', 'sig', 'm-0');",
                at(0),
                at(1)
            ))
            .await;
    }

    on_each_engine! {
        async fn a_fresh_one_is_made_and_a_second_time_there_is_nothing_to_do(scratch: Scratch) {
            let done = Database::dbsync(&scratch.url).await.unwrap();
            let made = done.iter().filter(|line| line.starts_with("brought ha tables to version"));
            assert_eq!(made.count(), 3, "{done:?}");
            if scratch.is_sqlite() {
                let mode = std::fs::metadata(scratch.file()).unwrap().permissions();
                assert_eq!(mode.mode() & 0o137, 0, "others may not read it");
            }

            let before = tables(&scratch, true).await;
            assert!(before.len() > 20, "{before:?}");
            let done = Database::dbsync(&scratch.url).await.unwrap();
            assert!(done[0].starts_with("nothing to do"), "{done:?}");
            assert_eq!(done.len(), 1, "{done:?}");
            assert_eq!(tables(&scratch, true).await, before);
            assert_eq!(
                scratch.look("SELECT version FROM migrate_version").await,
                ["45"]
            );
        }

        async fn an_existing_one_is_taken_over_with_its_data_and_ends_like_a_fresh_one(taken_over: Scratch) {
            existing(&taken_over).await;
            let done = Database::dbsync(&taken_over.url).await.unwrap();
            assert!(done[0].starts_with("took over"), "{done:?}");

            let db = Database::open(&taken_over.url).await.unwrap();
            db.store(&[reading(1)]).await.unwrap();
            let samples = "SELECT id, meter_id, resource_id, message_id FROM sample ORDER BY id";
            let expected = ["41|7|9|m-0".to_owned(), format!("42|7|9|node-1-{EPOCH}-1")];
            assert_eq!(
                taken_over.look(samples).await,
                expected,
                "the rows that were there are used"
            );

            let headroom = db.sample_id_headroom().await.unwrap();
            let warnings = done.iter().filter(|line| line.contains("--widen")).count();
            assert_eq!(warnings, usize::from(!taken_over.is_sqlite()), "{done:?}");
            let most = if taken_over.is_sqlite() { i64::MAX } else { i64::from(i32::MAX) };
            assert!((headroom - (1.0 - 42.0 / most as f64)).abs() < 1e-12, "{headroom}");

            let told = Mutex::new(Vec::new());
            for _ in 0..2 {
                let tell = |line| told.lock().unwrap().push(line);
                Database::widen(&taken_over.url, &tell).await.unwrap();
            }
            let told = told.into_inner().unwrap();
            assert!(told.last().unwrap().starts_with("nothing to do"), "{told:?}");
            assert!(db.sample_id_headroom().await.unwrap() > 0.999_999_999_9);
            assert_eq!(taken_over.look(samples).await, expected);
            db.store(&[reading(2)]).await.unwrap();

            let fresh = taken_over.another();
            Database::dbsync(&fresh.url).await.unwrap();
            assert_eq!(tables(&taken_over, true).await, tables(&fresh, true).await);
        }

        async fn ceilometer_s_tables_are_those_of_its_own_dbsync(scratch: Scratch) {
            original(&scratch).await;
            let fresh = scratch.another();
            Database::dbsync(&fresh.url).await.unwrap();
            let (ours, mut theirs) = (tables(&fresh, false).await, tables(&scratch, true).await);
            if !scratch.is_sqlite() {
                // The one deliberate difference.
                let id = theirs.iter_mut().find(|line| line.starts_with("sample|id|1|")).unwrap();
                *id = id.replace("int(11)", "bigint(20)");
            }
            assert_eq!(ours, theirs);
        }

        async fn what_is_not_ours_is_refused_and_left_alone(first: Scratch) {
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
                let scratch = first.another();
                existing(&scratch).await;
                scratch.run(spoil).await;
                let before = tables(&scratch, true).await;
                let error = Database::dbsync(&scratch.url).await.unwrap_err();
                assert!(
                    matches!(&error, StoreError::Foreign(why) if why.contains(word)),
                    "{spoil}: {error}"
                );
                assert_eq!(error.kind(), StoreErrorKind::Lasting);
                assert_eq!(tables(&scratch, true).await, before, "{spoil}");
                if scratch.is_sqlite() {
                    assert_eq!(scratch.look("PRAGMA journal_mode").await, ["delete"]);
                }
            }
        }
    }

    on_each_engine! {
        async fn a_newer_one_is_refused_by_everyone(scratch: Scratch) {
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
    }

    on_each_engine! {
        async fn what_is_missing_is_said_with_what_to_do(scratch: Scratch) {
            if scratch.is_sqlite() {
                for error in [
                    Database::open(&scratch.url).await.unwrap_err(),
                    Database::open_read_only(&scratch.url).await.unwrap_err(),
                ] {
                    assert!(matches!(error, StoreError::NoDatabase(_)), "{error}");
                    assert!(error.to_string().contains("ceilometer-collector-ha dbsync"));
                }
                assert!(!scratch.file().exists(), "looking creates nothing");
            }

            existing(&scratch).await;
            for error in [
                Database::open(&scratch.url).await.unwrap_err(),
                Database::open_read_only(&scratch.url).await.unwrap_err(),
            ] {
                assert!(matches!(error, StoreError::NoSchema(_)), "{error}");
                assert!(error.to_string().contains("ceilometer-collector-ha dbsync"));
            }
        }
    }

    #[tokio::test]
    async fn a_directory_that_is_missing_is_named() {
        let scratch = Scratch::sqlite();
        let url = Secret::new(format!(
            "sqlite:///{}/nowhere/ha.sqlite",
            scratch.file().display()
        ));
        let error = Database::dbsync(&url).await.unwrap_err();
        assert!(error.to_string().contains("nowhere"), "{error}");
    }
}

mod store {
    use crate::support::store::*;
    use ceilometer_ha::model::{Received, ReceivedMeter, Value};
    use ceilometer_ha::storage::{Database, RowRefusal, StoreError, StoreErrorKind, StoreReport};
    use std::sync::Arc;

    async fn samples(scratch: &Scratch) -> Vec<String> {
        scratch
            .look("SELECT message_id FROM sample ORDER BY id")
            .await
    }

    on_each_engine! {
        async fn what_is_stored_is_seen_at_once_by_another_process(scratch: Scratch) {
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
            if scratch.is_sqlite() {
                assert_eq!(
                    scratch.look("PRAGMA journal_mode").await,
                    ["wal"],
                    "or readers and the writer would wait for each other"
                );
            }
            writer.close().await;
            reader.close().await;
        }
    }

    on_each_engine! {
        async fn two_paths_are_one_sample_and_both_are_remembered(scratch: Scratch) {
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
    }

    on_each_engine! {
        async fn a_late_one_is_history_and_never_moves_state(scratch: Scratch) {
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
    }

    on_each_engine! {
        async fn late_means_behind_the_state_or_behind_its_own_batch(scratch: Scratch) {
            let db = scratch.open().await;
            db.store(&[reading(5)]).await.unwrap();
            let batch = [3, 6, 8, 7].map(reading);
            let report = db.store(&batch).await.unwrap();
            assert_eq!((report.stored, report.late, report.moved), (4, 2, 1));
            assert_eq!(db.fleet().await.unwrap().states[0].seq, 8);
        }
    }

    on_each_engine! {
        async fn states_go_ahead_of_their_history_and_change_nothing_else(scratch: Scratch) {
            let db = scratch.open().await;
            db.store(&[reading(1)]).await.unwrap();
            let waiting: Vec<_> = [4, 3].map(reading).map(Arc::new).into();
            assert_eq!(db.store_states(&waiting).await.unwrap(), 1);
            let state = "SELECT epoch, seq, paths FROM ha_state";
            let shown = [format!("{EPOCH}|4|[\"storage\"]")];
            assert_eq!(scratch.look(state).await, shown);
            assert_eq!(samples(&scratch).await, ["node-1-1700000000000-1"]);
            assert_eq!(scratch.look("SELECT seq FROM ha_path").await, ["4"]);

            // As history the one that is shown is neither late nor a duplicate, and moves nothing.
            let report = db.store(&[2, 4].map(reading)).await.unwrap();
            assert_eq!((report.stored, report.duplicates), (2, 0));
            assert_eq!((report.late, report.moved), (1, 0));
            assert_eq!(scratch.look(state).await, shown);
            assert_eq!(samples(&scratch).await.len(), 3);

            let older = [Arc::new(reading(3))];
            assert_eq!(db.store_states(&older).await.unwrap(), 0);
            let other_path = [Arc::new(by_path("management", reading(4)))];
            assert_eq!(db.store_states(&other_path).await.unwrap(), 0);
            let both = [format!("{EPOCH}|4|[\"management\", \"storage\"]")];
            assert_eq!(scratch.look(state).await, both);
            let old_sender = [Arc::new(unnumbered(reading(9)))];
            assert_eq!(db.store_states(&old_sender).await.unwrap(), 0);
            assert_eq!(samples(&scratch).await.len(), 3);
        }
    }

    /// What the writer remembers must be what is there, whoever else writes or fails.
    #[tokio::test]
    async fn what_is_remembered_is_what_is_there() {
        let scratch = Scratch::sqlite();
        let db = scratch.open().await;
        db.store(&[1, 2].map(reading)).await.unwrap();
        // Somebody forgets the host: it begins anew.
        scratch
            .run("DELETE FROM ha_state; DELETE FROM ha_seen")
            .await;
        let report = db.store(&[reading(2)]).await.unwrap();
        assert_eq!((report.stored, report.moved), (1, 1));
        // A batch that fails at first, although nobody else has written, leaves what was seen as it was.
        scratch
            .run("CREATE TRIGGER no BEFORE INSERT ON ha_state WHEN NEW.meter = 'never' BEGIN SELECT raise(ABORT, 'no'); END")
            .await;
        db.store(&[reading(3)]).await.unwrap();
        let mut never = reading(5);
        never.meter = ReceivedMeter {
            name: "never".into(),
            ..never.meter
        };
        let report = db.store(&[reading(4), never]).await.unwrap();
        assert_eq!((report.stored, report.refused.len()), (1, 1));
        let report = db.store(&[reading(4), reading(5)]).await.unwrap();
        assert_eq!((report.stored, report.duplicates, report.moved), (1, 1, 1));
    }

    on_each_engine! {
        async fn the_same_batch_again_changes_nothing(scratch: Scratch) {
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
    }

    on_each_engine! {
        async fn old_senders_duplicates_are_stored_once_within_the_horizon(scratch: Scratch) {
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
    }

    on_each_engine! {
        async fn one_bad_row_costs_one_row(scratch: Scratch) {
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
    }

    on_each_engine! {
        async fn the_greatest_numbers_that_fit_are_kept(scratch: Scratch) {
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
    }

    on_each_engine! {
        async fn too_many_gaps_close_the_oldest_and_say_so(scratch: Scratch) {
            let db = scratch.open().await;
            let odd: Vec<Received> = (0..=1027).map(|n| reading(2 * n + 1)).collect();
            let report = db.store(&odd).await.unwrap();
            assert_eq!((report.stored, report.closed_gaps), (1028, 3));
            let report = db.store(&[2, 4, 6, 8].map(reading)).await.unwrap();
            assert_eq!((report.stored, report.duplicates), (1, 3));
        }
    }

    on_each_engine! {
        async fn lives_too_long_ago_are_refused_rather_than_stored_twice(scratch: Scratch) {
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
    }

    on_each_engine! {
        async fn an_observer_has_a_bounded_number_of_paths(scratch: Scratch) {
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
    }

    on_each_engine! {
        async fn an_expirer_that_deletes_and_an_id_that_comes_again_mislead_nobody(scratch: Scratch) {
            let db = scratch.open().await;
            db.store(&[reading(1)]).await.unwrap();
            // Ceilometer's expirer takes samples, and then what no sample refers to.
            scratch
                .run(
                    "DELETE FROM sample; DELETE FROM metadata_text; DELETE FROM resource;
                     DELETE FROM meter;",
                )
                .await;
            if scratch.is_sqlite() {
                // It gives the same ids again.
                scratch
                    .run(
                        "INSERT INTO meter VALUES (1, 'another', 'gauge', '');
                         INSERT INTO resource (internal_id, resource_id) VALUES (1, 'another');",
                    )
                    .await;
                db.store(&[reading(2)]).await.unwrap();
            } else {
                // It doesn't, and who deleted doesn't say so: keys that refer to nothing do.
                while let Err(error) = db.store(&[reading(2)]).await {
                    let cause = std::error::Error::source(&error).unwrap().to_string();
                    assert!(cause.contains("foreign key constraint fails"), "{cause}");
                }
            }
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
    }

    on_each_engine! {
        async fn each_distinct_resource_has_one_row_whoever_asks(scratch: Scratch) {
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
    }

    on_each_engine! {
        async fn a_sample_of_a_resource_that_is_gone_is_refused_instead_of_dangling(scratch: Scratch) {
            let db = scratch.open().await;
            scratch
                .run(if scratch.is_sqlite() {
                    "CREATE TRIGGER gone AFTER INSERT ON resource BEGIN DELETE FROM resource; END"
                } else {
                    // No trigger of MySQL's may touch the table that it is of.
                    "CREATE TRIGGER gone BEFORE INSERT ON sample FOR EACH ROW \
                     SET NEW.resource_id = NEW.resource_id + 1"
                })
                .await;
            let bare = Received {
                metadata: Value::Map(vec![]),
                ..reading(1)
            };
            let report = db.store(&[bare]).await.unwrap();
            assert_eq!(report.refused, [(0, RowRefusal::DatabaseRefused)]);
            assert_eq!(samples(&scratch).await.len(), 0);
        }
    }

    on_each_engine! {
        async fn a_failed_batch_leaves_nothing_behind_not_even_in_memory(scratch: Scratch) {
            let db = scratch.open().await;
            scratch
                .run("ALTER TABLE ha_path RENAME TO ha_path_away")
                .await;
            let error = db.store(&[reading(1)]).await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Lasting);
            assert_eq!(samples(&scratch).await.len(), 0);
            scratch
                .run("ALTER TABLE ha_path_away RENAME TO ha_path")
                .await;
            let report = db.store(&[reading(1)]).await.unwrap();
            assert_eq!((report.stored, report.moved), (1, 1));
            assert_eq!(
                scratch.look("SELECT count(*) FROM resource").await,
                ["1"],
                "the resource was made again"
            );
        }
    }

    on_each_engine! {
        async fn metadata_keys_that_read_the_same_cost_nothing_but_the_second(scratch: Scratch) {
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
    }

    on_each_engine! {
        async fn damage_in_our_own_tables_is_an_error_that_names_the_row(scratch: Scratch) {
            let db = scratch.open().await;
            db.store(&[reading(1)]).await.unwrap();
            scratch.run("UPDATE ha_seen SET runs = x'ff'").await;
            let error = db.store(&[reading(2)]).await.unwrap_err();
            assert!(error.to_string().contains("ha_seen for node-1"), "{error}");
            scratch.run("UPDATE ha_state SET metadata = 'x'").await;
            let error = db.fleet().await.unwrap_err();
            assert!(error.to_string().contains("ha_state for node-1"), "{error}");
        }
    }

    on_each_engine! {
        async fn two_collectors_at_once_store_everything_once(scratch: Scratch) {
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
}

mod order {
    //! Whatever the network does to the order, the outcome is the same.

    use crate::support::store::*;
    use ceilometer_ha::model::Received;
    use ceilometer_ha::storage::{Database, StoreReport};
    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;
    use tokio::runtime::Handle;

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
        let paths = scratch
            .cells("SELECT observer, path, epoch, seq FROM ha_path")
            .await;
        let paths = paths.into_iter().map(|row| {
            let cell = |column: usize| row[column].clone().unwrap();
            let order = (cell(2).parse().unwrap(), cell(3).parse().unwrap());
            ((cell(0), cell(1)), order)
        });
        Outcome {
            history,
            states: states.collect(),
            paths: paths.collect(),
        }
    }

    /// Where a batch ends, whether the second collector stores it, and whether it shows the states of
    /// all that is still to come before.
    type Cut = (usize, bool, bool);

    /// Stores the messages in batches cut at `cuts`, each by one of two collectors.
    async fn run(scratch: &Scratch, dbs: &[Database; 2], sent: Vec<Received>, cuts: Vec<Cut>) {
        scratch.empty().await;
        let mut total = StoreReport::default();
        let mut rest = &sent[..];
        let is_shown_first = cuts.iter().any(|(.., first)| *first);
        for (size, second, first) in cuts.into_iter().chain([(usize::MAX, false, false)]) {
            let db = &dbs[usize::from(second)];
            if first {
                let all: Vec<_> = rest.iter().cloned().map(Arc::new).collect();
                db.store_states(&all).await.unwrap();
            }
            let (batch, later) = rest.split_at(size.min(rest.len()));
            rest = later;
            let report = db.store(batch).await.unwrap();
            assert_eq!(report.stored + report.duplicates, batch.len());
            total.stored += report.stored;
            total.late += report.late;
        }
        let expected = expected(&sent);
        assert_eq!(outcome(scratch, &dbs[0]).await, expected);
        assert_eq!(total.stored, expected.history.len());
        if is_shown_first {
            assert!(total.late >= late(&sent), "the states were ahead");
        } else {
            assert_eq!(total.late, late(&sent));
        }
    }

    /// Runs of messages with where they are cut into batches.
    fn runs() -> impl Strategy<Value = (Vec<Received>, Vec<Cut>)> {
        let sent = prop::collection::vec(
            (
                0..2u8,
                1..4u64,
                1..9u64,
                any::<bool>(),
                prop::bool::weighted(0.9),
            ),
            1..60,
        );
        // An old sender's ids are its own: nobody sends one message both ways.
        let sent = sent.prop_map(|sent| {
            sent.into_iter()
                .map(|sent| match sent {
                    (_, epoch, seq, path, false) => message((9, epoch, seq, path, false)),
                    numbered => message(numbered),
                })
                .collect()
        });
        (
            sent,
            prop::collection::vec(
                (0..12usize, any::<bool>(), prop::bool::weighted(0.2)),
                0..12,
            ),
        )
    }

    on_each_engine! {
        async fn no_order_no_duplicate_and_no_batching_changes_the_outcome(scratch: Scratch) {
            let dbs = [
                scratch.open().await,
                Database::open(&scratch.url).await.unwrap(),
            ];
            let config = ProptestConfig { cases: 60, ..ProptestConfig::default() };
            // The cases are blocking calls, each of which waits for work on this very runtime.
            tokio::task::block_in_place(|| {
                TestRunner::new(config)
                    .run(&runs(), |(sent, cuts)| {
                        Handle::current().block_on(run(&scratch, &dbs, sent, cuts));
                        Ok(())
                    })
                    .unwrap();
            });
        }
    }
}

mod contract {
    //! The queries of docs/sql-contract.md, taken out of the page and run.

    use crate::support::store::*;
    use ceilometer_ha::model::{Received, UtcTime, Value};
    use ceilometer_ha::storage::Database;

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
            let recorded = UtcTime::from_unix_micros(now - recorded_ago * 1_000_000);
            let recorded = scratch.moment(recorded);
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

    on_each_engine! {
        async fn the_last_six_bound_both_ages_and_too_few_are_unknown(scratch: Scratch) {
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
                scratch.look(query(&scratch, "last_six")).await,
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
    }

    on_each_engine! {
        async fn readings_of_one_host_count_together_whatever_its_metadata(scratch: Scratch) {
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
            assert_eq!(scratch.look(query(&scratch, "last_six")).await, ["moved|6|0.0|down"]);
        }
    }

    on_each_engine! {
        async fn a_host_is_in_the_cluster_of_its_last_sample(scratch: Scratch) {
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
                scratch.look(query(&scratch, "hosts_by_cluster")).await,
                ["a|blue", "b|green", "c|green"]
            );
        }
    }

    on_each_engine! {
        async fn the_present_is_one_query_with_ages_by_the_database_s_clock(scratch: Scratch) {
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
            let page = query(&scratch, "present");
            let verdicts = format!("SELECT host, volume, cluster, verdict FROM ({page}) AS page");
            assert_eq!(
                scratch.look(&verdicts).await,
                [
                    "down|0.0|blue|down",
                    "silent|0.0|blue|unknown",
                    "strange|0.5|blue|unknown",
                    "up|1.0|blue|up",
                ]
            );
            let ages = format!("SELECT age_s BETWEEN 0 AND 60, offset_s < 0 FROM ({page}) AS page");
            assert_eq!(scratch.look(&ages).await, ["1|1"; 4]);
            let paths = format!("SELECT observer, path FROM ({}) AS page", query(&scratch, "paths"));
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
    }

    on_each_engine! {
        async fn old_senders_are_in_the_last_six_and_not_in_the_present(scratch: Scratch) {
            let db = scratch.open().await;
            let now = db.fleet().await.unwrap().now;
            let old: Vec<Received> = (1..=6)
                .map(|seq| Received {
                    timestamp: Some(now),
                    ..unnumbered(reading(seq))
                })
                .collect();
            db.store(&old).await.unwrap();
            assert_eq!(scratch.look(query(&scratch, "last_six")).await, ["node-1|6|1.0|up"]);
            assert_eq!(scratch.look(query(&scratch, "present")).await, [""; 0]);
        }
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

    on_each_engine! {
        async fn an_instance_is_gone_only_if_a_complete_round_lacks_it(scratch: Scratch) {
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
            let page = query(&scratch, "instances");
            let all = format!("SELECT host, instance, standing FROM ({page}) AS page");
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
    }

    on_each_engine! {
        async fn a_round_that_cannot_be_one_was_not_heard(scratch: Scratch) {
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
            let heard = |fleet: &ceilometer_ha::model::Fleet| -> Vec<u64> {
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
                "-- name: last_six (mysql)",
                "-- name: hosts_by_cluster",
                "-- name: present",
                "-- name: present (mysql)",
                "-- name: paths",
                "-- name: instances",
                "-- name: instances (mysql)"
            ]
        );
    }
}
