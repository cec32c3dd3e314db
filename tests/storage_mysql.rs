//! What only a server does: it refuses, hangs, is one of several, compares text in its own way and can't
//! undo the making of a table. Real MariaDB servers, each private to its test.

#![cfg(feature = "storage")]
// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::error::Error as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ceilometer_ha::clock;
use ceilometer_ha::model::{Received, Secret, Value};
use ceilometer_ha::storage::{Database, StoreError, StoreErrorKind};
use nix::sys::signal::Signal;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Row, raw_sql};

use support::mariadb::{DATABASE, PASSWORD, Server, USER};
use support::store::*;
use support::{program, run};

/// The password as a URL has it.
const CODED: &str = "p%40ss%3Aw%2Frd";

/// A port that nobody listens on now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A server that listens on loopback too, with further options.
fn on_port(options: &[&str]) -> (Server, u16) {
    let port = free_port();
    let port_option = format!("--port={port}");
    let mut all = vec![port_option.as_str(), "--bind-address=127.0.0.1"];
    all.extend_from_slice(options);
    (Server::start_with(&all), port)
}

/// A URL of these ports, in their order.
fn url_of(ports: &[u16], options: &str) -> Secret {
    let hosts: Vec<String> = ports
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    let hosts = hosts.join(",");
    Secret::new(format!(
        "mysql+pymysql://{USER}:{CODED}@{hosts}/{DATABASE}?charset=utf8{options}"
    ))
}

async fn raw(server: &Server) -> MySqlConnection {
    MySqlConnectOptions::new()
        .socket(server.socket())
        .username(USER)
        .password(PASSWORD)
        .database(DATABASE)
        .connect()
        .await
        .unwrap()
}

/// Everything that an error says.
fn said(error: &StoreError) -> String {
    let source = error.source().map(ToString::to_string);
    format!("{error}: {}", source.unwrap_or_default())
}

#[tokio::test]
async fn who_is_not_let_in_learns_why_and_what_to_do() {
    let (server, port) = on_port(&[]);
    let wrong = Secret::new(format!(
        "mysql://{USER}:hunter2@127.0.0.1:{port}/{DATABASE}"
    ));
    for error in [
        Database::dbsync(&wrong).await.unwrap_err(),
        Database::open(&wrong).await.unwrap_err(),
    ] {
        let said = said(&error);
        assert!(
            said.contains(&format!("connecting to 127.0.0.1:{port} as {USER}")),
            "{said}"
        );
        assert!(said.contains("Access denied"), "{said}");
        assert!(!format!("{said} {error:?}").contains("hunter2"));
        assert_eq!(error.kind(), StoreErrorKind::Lasting);
    }
    server.sql("GRANT ALL ON nowhere.* TO ceilometer@'127.0.0.1'");
    for database in ["nowhere", "notmine"] {
        let url = format!("mysql://{USER}:{CODED}@127.0.0.1:{port}/{database}");
        let error = Database::dbsync(&Secret::new(url)).await.unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains(&format!("CREATE DATABASE {database} ")),
            "{said}"
        );
        assert_eq!(error.kind(), StoreErrorKind::Lasting);
    }
    let nobody = url_of(&[free_port()], "");
    let error = Database::open(&nobody).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Passing);
    assert!(said(&error).contains("refused"), "{}", said(&error));
}

/// Makes a CA, and a certificate of a server for a host name.
fn certificates(folder: &Path, ca: &str, name: &str) {
    let openssl = |arguments: &str| {
        let arguments = arguments.split_whitespace();
        run(Command::new("openssl").current_dir(folder).args(arguments));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    openssl(&format!(
        "req -x509 {key} -keyout {ca}.key -out {ca}.pem -subj /CN={ca} \
         -addext basicConstraints=critical,CA:TRUE"
    ));
    openssl(&format!(
        "req -x509 {key} -CA {ca}.pem -CAkey {ca}.key -keyout {name}.key -out {name}.pem \
         -subj /CN={name} -addext subjectAltName=DNS:{name} -addext basicConstraints=CA:FALSE"
    ));
}

#[tokio::test]
async fn tls_proves_who_the_server_is() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().display();
    certificates(folder.path(), "ca", "localhost");
    certificates(folder.path(), "other", "unused");
    let (server, port) = on_port(&[
        &format!("--ssl-cert={place}/localhost.pem"),
        &format!("--ssl-key={place}/localhost.key"),
    ]);
    server.sql("ALTER USER ceilometer@'127.0.0.1' REQUIRE SSL");
    let connection = |host: &str, options: &str| {
        let options = options.replace("DIR", &place.to_string());
        Secret::new(format!(
            "mysql://{USER}:{CODED}@{host}:{port}/{DATABASE}?{options}"
        ))
    };
    Database::dbsync(&connection("localhost", "ssl_ca=DIR/ca.pem"))
        .await
        .unwrap();
    for (host, options, is_right) in [
        ("localhost", "ssl_ca=DIR/ca.pem", true),
        ("localhost", "ssl_ca=DIR/other.pem", false),
        ("localhost", "ssl_verify_cert=true", false),
        ("127.0.0.1", "ssl_ca=DIR/ca.pem", false),
        (
            "127.0.0.1",
            "ssl_ca=DIR/ca.pem&ssl_check_hostname=false",
            true,
        ),
        (
            "127.0.0.1",
            "ssl_ca=DIR/other.pem&ssl_check_hostname=false",
            false,
        ),
        (
            "127.0.0.1",
            "ssl_ca=DIR/other.pem&ssl_verify_cert=false",
            true,
        ),
        ("127.0.0.1", "", true),
        ("127.0.0.1", "ssl_disabled=true", false),
    ] {
        let opened = Database::open(&connection(host, options)).await;
        assert_eq!(opened.is_ok(), is_right, "{host} {options}: {opened:?}");
    }
    // A server that can do no TLS is not spoken to where it was asked for.
    let (plain, port) = on_port(&[]);
    assert!(plain.sql("SELECT @@have_ssl") != ["YES"]);
    let url = url_of(&[port], "&ssl_mode=REQUIRED");
    let error = Database::dbsync(&url).await.unwrap_err();
    assert!(said(&error).contains("TLS"), "{}", said(&error));
}

#[tokio::test]
async fn a_server_that_is_dead_or_read_only_is_passed_over() {
    let ((one, first), (two, second)) = (on_port(&[]), on_port(&[]));
    for port in [first, second] {
        Database::dbsync(&url_of(&[port], "")).await.unwrap();
    }
    let count = |server: &Server| server.number("SELECT count(*) FROM sample");
    let url = url_of(&[free_port(), first, second], "");

    let db = Database::open(&url).await.unwrap();
    db.store(&[reading(1)]).await.unwrap();
    assert_eq!((count(&one), count(&two)), (1, 0), "the first that lives");

    one.sql("SET GLOBAL read_only = 1");
    let error = db.store(&[reading(2)]).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Passing, "{}", said(&error));
    db.store(&[reading(2)]).await.unwrap();
    assert_eq!(
        (count(&one), count(&two)),
        (1, 1),
        "the one that takes writes"
    );

    two.sql("SET GLOBAL read_only = 1");
    db.store(&[reading(3)]).await.unwrap_err();
    let error = db.store(&[reading(3)]).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Passing, "{}", said(&error));
    assert!(
        Database::open_read_only(&url).await.is_ok(),
        "reading needs no more"
    );
    one.sql("SET GLOBAL read_only = 0");
    db.store(&[reading(3)]).await.unwrap();
    assert_eq!((count(&one), count(&two)), (2, 1), "the first one again");
}

#[tokio::test]
async fn a_server_that_hangs_holds_nobody_for_ever_and_costs_nothing() {
    let server = Server::start();
    let url = Secret::new(server.url());
    Database::dbsync(&url).await.unwrap();
    let db = Database::open(&url).await.unwrap();
    db.store(&[reading(1)]).await.unwrap();
    server.signal(Signal::SIGSTOP);
    let began = clock::now();
    let batch = [reading(2)];
    let (stored, read, opened) =
        tokio::join!(db.store(&batch), db.fleet(), Database::open_read_only(&url));
    let took = clock::now().duration_since(began);
    server.signal(Signal::SIGCONT);
    assert!(took < Duration::from_secs(20), "{took:?}");
    for error in [stored.unwrap_err(), read.unwrap_err(), opened.unwrap_err()] {
        assert_eq!(error.kind(), StoreErrorKind::Passing, "{}", said(&error));
        assert!(
            said(&error).contains("no answer within"),
            "{}",
            said(&error)
        );
    }
    // What the server made of the batch that nobody waited for is unknown, and doesn't matter.
    db.store(&batch).await.unwrap();
    assert_eq!(server.number("SELECT count(*) FROM sample"), 2);
    assert_eq!(db.fleet().await.unwrap().states[0].seq, 2);
}

#[tokio::test]
async fn a_collector_waits_for_its_turn_but_not_for_ever() {
    use sqlx::Executor;
    let server = Server::start();
    let url = Secret::new(server.url());
    Database::dbsync(&url).await.unwrap();
    let db = Database::open(&url).await.unwrap();
    // What a session of a collector is like, as somebody sees who is asked from inside it.
    let mut other = raw(&server).await;
    other
        .execute(
            "CREATE TABLE witness (line TEXT); CREATE TRIGGER t BEFORE INSERT ON sample FOR EACH ROW \
             INSERT INTO witness VALUES (concat_ws(' ', @@tx_isolation, @@idle_transaction_timeout, \
             @@innodb_lock_wait_timeout, @@time_zone, @@foreign_key_checks))",
        )
        .await
        .unwrap();
    db.store(&[reading(1)]).await.unwrap();
    assert_eq!(
        server.sql("SELECT line FROM witness"),
        ["READ-COMMITTED 5 3 +00:00 ON"]
    );

    other
        .execute("START TRANSACTION; SELECT writer FROM ha_writer FOR UPDATE")
        .await
        .unwrap();
    let error = db.store(&[reading(2)]).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Passing, "{}", said(&error));
    assert!(
        said(&error).contains("Lock wait timeout"),
        "{}",
        said(&error)
    );
    let fleet = db.fleet().await.unwrap();
    assert_eq!(fleet.states.len(), 1, "a reader waits for no writer");
    other.execute("ROLLBACK").await.unwrap();
    db.store(&[reading(2)]).await.unwrap();
    assert_eq!(db.fleet().await.unwrap().states[0].seq, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_collectors_never_deadlock_and_make_no_resource_twice() {
    let server = Server::start_with(&["--innodb-flush-log-at-trx-commit=0"]);
    let url = Secret::new(server.url());
    Database::dbsync(&url).await.unwrap();
    let feed = |db: Database, backwards: bool| async move {
        for round in 1..=25 {
            let mut batch: Vec<Received> = (0..20)
                .map(|host| reading_of(&format!("node-{round}-{host}"), EPOCH, 1))
                .collect();
            if backwards {
                batch.reverse();
            }
            db.store(&batch).await.unwrap();
        }
    };
    let one = tokio::spawn(feed(Database::open(&url).await.unwrap(), false));
    let two = tokio::spawn(feed(Database::open(&url).await.unwrap(), true));
    one.await.unwrap();
    two.await.unwrap();
    assert_eq!(server.number("SELECT count(*) FROM sample"), 500);
    assert_eq!(server.number("SELECT count(*) FROM resource"), 500);
    assert_eq!(
        server.number("SELECT count(DISTINCT resource_id) FROM resource"),
        500
    );
    let status = server.sql("SHOW ENGINE INNODB STATUS").join("\n");
    assert!(!status.contains("LATEST DETECTED DEADLOCK"), "{status}");
}

#[tokio::test]
async fn text_is_whole_in_ours_and_compared_as_each_table_does() {
    let server = Server::start();
    let url = Secret::new(server.url());
    Database::dbsync(&url).await.unwrap();
    let db = Database::open(&url).await.unwrap();
    let smiling = Received {
        resource_id: "node-😀".to_owned(),
        message_id: "id-😀".to_owned(),
        metadata: Value::Map(vec![("who".into(), "me 😀".into())]),
        ..reading(1)
    };
    db.store(&[smiling]).await.unwrap();
    let state = &db.fleet().await.unwrap().states[0];
    assert_eq!(state.resource_id, "node-😀");
    assert_eq!(state.metadata.get("who"), Some(&Value::from("me 😀")));
    let replaced = "SELECT message_id, r.resource_id, value FROM sample s \
                    JOIN resource r ON internal_id = s.resource_id JOIN metadata_text t ON t.id = internal_id";
    assert_eq!(
        server.sql(replaced),
        ["id-\u{fffd}\tnode-\u{fffd}\tme \u{fffd}"]
    );

    // A meter is one whatever its letter case, a resource and a state are not.
    let names = ["name", "Name", "name ", "nàme"];
    let batch: Vec<Received> = (10..)
        .zip(names)
        .map(|(seq, name)| {
            let mut received = reading(seq);
            received.meter.name = name.to_owned();
            received.resource_id = name.to_owned();
            received
        })
        .collect();
    assert_eq!(db.store(&batch).await.unwrap().stored, 4);
    assert_eq!(db.store(&batch).await.unwrap().duplicates, 4);
    let again = Database::open(&url).await.unwrap();
    let later: Vec<Received> = batch
        .into_iter()
        .map(|received| {
            unnumbered(Received {
                message_id: format!("old {}", received.message_id),
                ..received
            })
        })
        .collect();
    assert_eq!(again.store(&later).await.unwrap().stored, 4);
    let sizes = "SELECT (SELECT count(*) FROM meter WHERE name LIKE 'n_me%'), \
                 (SELECT count(*) FROM resource WHERE resource_id LIKE 'n_me%'), \
                 (SELECT count(*) FROM ha_state WHERE meter LIKE 'n_me%' OR meter = 'Name')";
    assert_eq!(server.sql(sizes), ["1\t4\t4"]);
    let own = "SELECT count(DISTINCT resource_id) FROM sample WHERE message_id LIKE 'old %'";
    assert_eq!(server.sql(own), ["4"], "each is found by its own name");
}

/// The texts that a server was given to prepare, or to execute with their values.
fn logged(server: &Server, verb: &str) -> Vec<String> {
    let file = server.socket().with_file_name("general");
    let log = std::fs::read_to_string(file).unwrap();
    let verb = format!(" {verb}\t");
    log.lines()
        .filter_map(|line| line.split_once(&verb))
        .map(|(_, text)| text.to_owned())
        .collect()
}

/// A server that logs every statement, with our tables, and some rows in them.
async fn logging() -> (Server, Database) {
    let server = Server::start_with(&[
        "--general-log=1",
        "--general-log-file=../general",
        "--innodb-flush-log-at-trx-commit=0",
    ]);
    let url = Secret::new(server.url());
    Database::dbsync(&url).await.unwrap();
    let db = Database::open(&url).await.unwrap();
    (server, db)
}

#[tokio::test]
async fn the_statements_themselves_keep_the_newer_reading() {
    let (server, db) = logging().await;
    db.store(&[reading(1)]).await.unwrap();
    db.store(&[by_path("management", reading(1))])
        .await
        .unwrap();
    let texts = logged(&server, "Prepare");
    let text = |begin: &str, end: &str| {
        let found = texts
            .iter()
            .find(|text| text.starts_with(begin) && text.ends_with(end));
        found
            .unwrap_or_else(|| panic!("no {begin} … {end} in {texts:#?}"))
            .clone()
    };
    let moving = text(
        "INSERT INTO ha_state",
        "epoch = GREATEST(VALUES(epoch), epoch)",
    );
    let hearing = text("INSERT INTO ha_state", "VALUES(paths), paths)");
    let path = text(
        "INSERT INTO ha_path",
        "epoch = GREATEST(VALUES(epoch), epoch)",
    );

    let mut conn = raw(&server).await;
    let places = [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 1), (3, 2)];
    for held in places {
        for come in places {
            for (text, is_kept) in [(&moving, come <= held), (&hearing, come != held)] {
                sqlx::query("DELETE FROM ha_state")
                    .execute(&mut conn)
                    .await
                    .unwrap();
                for ((epoch, seq), mark) in [(held, "held"), (come, "come")] {
                    let (number, name) = (seq as f64 / 2.0, "node-1");
                    sqlx::query(AssertSqlSafe(text.as_str()))
                        .bind(name)
                        .bind(name)
                        .bind(name)
                        .bind(epoch)
                        .bind(seq)
                        .bind(number)
                        .bind(mark)
                        .bind(seq)
                        .bind(seq)
                        .bind(mark)
                        .bind(mark)
                        .execute(&mut conn)
                        .await
                        .unwrap();
                }
                let row = sqlx::query(
                    "SELECT epoch, seq, volume, observed_at, received_at, quality, metadata, paths \
                     FROM ha_state",
                )
                .fetch_one(&mut conn)
                .await
                .unwrap();
                let place: (i64, i64) = (row.get(0), row.get(1));
                let marks: [String; 3] = [row.get(5), row.get(6), row.get(7)];
                let about = format!("{held:?} then {come:?}: {text}");
                if text == &moving {
                    let (winner, mark) = if is_kept {
                        (held, "held")
                    } else {
                        (come, "come")
                    };
                    assert_eq!(place, winner, "{about}");
                    assert_eq!(row.get::<f64, _>(2), winner.1 as f64 / 2.0, "{about}");
                    assert_eq!(
                        (row.get::<i64, _>(3), row.get::<i64, _>(4)),
                        (winner.1, winner.1)
                    );
                    assert_eq!(marks, [mark; 3], "{about}");
                } else {
                    assert_eq!(place, held, "{about}");
                    let path = if is_kept { "held" } else { "come" };
                    assert_eq!(marks, ["held", "held", path], "{about}");
                }
            }
            sqlx::query("DELETE FROM ha_path")
                .execute(&mut conn)
                .await
                .unwrap();
            for ((epoch, seq), at) in [(held, 1), (come, 2)] {
                let query = sqlx::query(AssertSqlSafe(path.as_str()));
                let query = query
                    .bind("node-1")
                    .bind("path")
                    .bind(epoch)
                    .bind(seq)
                    .bind(at);
                query.execute(&mut conn).await.unwrap();
            }
            let found: (i64, i64, i64) =
                sqlx::query_as("SELECT epoch, seq, received_at FROM ha_path")
                    .fetch_one(&mut conn)
                    .await
                    .unwrap();
            let newest = held.max(come);
            let at = if come > held { 2 } else { 1 };
            assert_eq!(found, (newest.0, newest.1, at), "{held:?} then {come:?}");
        }
    }
}

#[tokio::test]
async fn no_question_of_a_batch_reads_a_whole_table() {
    let (server, db) = logging().await;
    let rows = |from: u64| -> Vec<Received> {
        (from..from + 700)
            .map(|host| reading_of(&format!("node-{host}"), EPOCH, 1))
            .collect()
    };
    for from in [0, 700, 1400] {
        db.store(&rows(from)).await.unwrap();
        // Each of an old sender's has a resource of its own as well.
        db.store(&rows(from).into_iter().map(unnumbered).collect::<Vec<_>>())
            .await
            .unwrap();
    }
    server.sql("ANALYZE TABLE ha_state, ha_seen, resource, meter, ha_seen_message, ha_path");
    drop(db);
    let db = Database::open(&Secret::new(server.url())).await.unwrap();
    let before = logged(&server, "Execute").len();
    db.store(
        &(0..64)
            .map(|host| reading_of(&format!("node-{host}"), EPOCH, 2))
            .collect::<Vec<_>>(),
    )
    .await
    .unwrap();
    db.store(
        &(0..64)
            .map(|host| unnumbered(reading_of(&format!("old-{host}"), EPOCH, 3)))
            .collect::<Vec<_>>(),
    )
    .await
    .unwrap();

    let mut conn = raw(&server).await;
    // As the collector's own session is set.
    let settings = logged(&server, "Query");
    let names = settings
        .iter()
        .find(|text| text.starts_with("SET NAMES utf8mb4 COLLATE"));
    raw_sql(AssertSqlSafe(names.unwrap().as_str()))
        .execute(&mut conn)
        .await
        .unwrap();
    let mut looked_at = std::collections::BTreeSet::new();
    for text in logged(&server, "Execute").into_iter().skip(before) {
        if !text.starts_with("SELECT") {
            continue;
        }
        let explained = raw_sql(AssertSqlSafe(format!("EXPLAIN {text}")));
        for row in explained.fetch_all(&mut conn).await.unwrap() {
            let cell = |name: &str| -> Option<String> { row.try_get_unchecked(name).unwrap() };
            let table = cell("table").unwrap_or_default();
            if [
                "ha_state",
                "ha_seen",
                "ha_seen_message",
                "resource",
                "meter",
            ]
            .contains(&table.as_str())
            {
                let kind = cell("type").unwrap();
                let is_indexed = matches!(
                    kind.as_str(),
                    "const" | "eq_ref" | "ref" | "ref_or_null" | "range"
                );
                assert!(is_indexed, "{table} by {kind}: {text}");
                looked_at.insert(table);
            }
        }
    }
    assert!(looked_at.len() >= 3, "{looked_at:?}");
}

#[tokio::test]
async fn a_dbsync_that_was_ended_midway_is_completed_by_the_next_one() {
    const TEXTS: [&str; 3] = [
        include_str!("../src/storage/sql/ceilometer_mysql.sql"),
        include_str!("../src/storage/sql/ha_1_mysql.sql"),
        include_str!("../src/storage/sql/ha_2_mysql.sql"),
    ];
    // Which tables are made, in order; an administrator allows some of them.
    let mut made = vec!["ha_schema"];
    made.extend(
        TEXTS
            .iter()
            .flat_map(|text| text.lines())
            .filter_map(|line| {
                let table = line
                    .strip_prefix("CREATE TABLE ")?
                    .split_whitespace()
                    .next()?;
                Some(table.trim_matches('`'))
            }),
    );
    let at = |table: &str| made.iter().position(|other| *other == table).unwrap();
    let server = Server::start_with(&["--innodb-flush-log-at-trx-commit=0"]);
    let url = Secret::new(server.url());
    let tables = || {
        server.sql(
            "SELECT table_name, column_name, column_type, is_nullable, collation_name, column_key, extra \
             FROM information_schema.columns WHERE table_schema = DATABASE() \
             UNION ALL SELECT table_name, index_name, column_name, seq_in_index, non_unique, '', '' \
             FROM information_schema.statistics WHERE table_schema = DATABASE() \
             UNION ALL SELECT table_name, constraint_name, constraint_type, '', '', '', '' \
             FROM information_schema.table_constraints WHERE table_schema = DATABASE() \
             ORDER BY 1, 2, 3, 4",
        )
    };
    Database::dbsync(&url).await.unwrap();
    let fresh = tables();
    for missing in [
        "ha_schema",
        "resource",
        "metadata_float",
        "migrate_version",
        "ha_state",
        "ha_writer",
        // Then tables of ours are altered, and nothing tells that from being begun.
        "ha_observer",
        "ha_quarantine",
    ] {
        server.sql(
            "DROP DATABASE ceilometer; CREATE DATABASE ceilometer CHARACTER SET utf8; \
             REVOKE ALL, GRANT OPTION FROM ceilometer@localhost; \
             GRANT SELECT, INSERT, UPDATE, DELETE, REFERENCES, ALTER ON ceilometer.* \
             TO ceilometer@localhost",
        );
        let grants: Vec<String> = made[..at(missing)]
            .iter()
            .map(|table| format!("GRANT CREATE ON ceilometer.{table} TO ceilometer@localhost;"))
            .collect();
        server.sql(&grants.concat());
        let error = Database::dbsync(&url).await.unwrap_err();
        assert!(
            said(&error).contains("denied"),
            "{missing}: {}",
            said(&error)
        );
        assert!(
            Database::open(&url).await.is_err(),
            "{missing}: it can't be used yet"
        );
        server.sql("GRANT ALL ON ceilometer.* TO ceilometer@localhost");
        let done = Database::dbsync(&url).await.unwrap();
        assert!(!done[0].starts_with("nothing"), "{missing}: {done:?}");
        assert_eq!(tables(), fresh, "{missing}");
        assert!(
            Database::dbsync(&url).await.unwrap()[0].starts_with("nothing"),
            "{missing}"
        );
        assert_eq!(
            server.sql("SELECT id, writer FROM ha_writer"),
            ["1\t"],
            "{missing}"
        );
    }
}

#[tokio::test]
async fn widening_says_what_it_does_and_keeps_what_is_there() {
    let server = Server::start();
    let url = Secret::new(server.url());
    Database::dbsync(&url).await.unwrap();
    server.sql("ALTER TABLE sample MODIFY id INT NOT NULL AUTO_INCREMENT");
    let db = Database::open(&url).await.unwrap();
    db.store(&[reading(1)]).await.unwrap();
    server.sql("UPDATE sample SET id = 2147483647; ALTER TABLE sample AUTO_INCREMENT = 2147483647");
    let error = db.store(&[reading(2)]).await.unwrap_err();
    assert!(said(&error).contains("'id'"), "{}", said(&error));
    assert_eq!(
        server.number("SELECT count(*) FROM ha_quarantine"),
        0,
        "it is not the reading's fault"
    );
    assert!(db.sample_id_headroom().await.unwrap().abs() < 1e-9);

    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("ha.conf");
    let text = format!(
        "[DEFAULT]\nstate_path = state\n[database]\nconnection = {}\n",
        server.url()
    );
    std::fs::write(&config, text).unwrap();
    let widen = || {
        let mut command = Command::new(program("ceilometer-collector-ha"));
        run(command
            .args(["dbsync", "--widen", "--config-file"])
            .arg(&config))
    };
    let told = widen();
    for words in [
        "has 0.0 % of its numbers left",
        "widening sample.id to BIGINT",
        "sample.id is BIGINT now",
        "it took",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    db.store(&[reading(2)]).await.unwrap();
    let ids = server.sql("SELECT id FROM sample ORDER BY id");
    assert_eq!(ids, ["2147483647", "2147483648"]);
    assert!(widen().contains("nothing to do: sample.id has 64 bits"));
}
