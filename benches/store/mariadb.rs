//! MariaDB's bulk load: `LOAD DATA INFILE` of files that the server itself has written, with `REPLACE`
//! where rows may be there already. That neither sends anything over a connection nor writes a row twice.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use ceilometer_ha::model::Secret;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Row, raw_sql};

use super::support::mariadb::{DATABASE, Server};
use super::{Bulk, Engine, Table, WRITTEN};

/// A server with room for the data, as a production one has, and each commit on the disk.
const OPTIONS: [&str; 4] = [
    "--innodb-buffer-pool-size=256M",
    "--innodb-log-file-size=128M",
    "--innodb-flush-log-at-trx-commit=1",
    "--secure-file-priv=",
];

/// What every batch writes on this engine alone: whose turn it was.
const TURN: Table = Table {
    name: "ha_writer",
    key: Some("id"),
};

/// A database in a server of its own, and a copy of what each run begins with.
pub(crate) struct Mariadb {
    server: Server,
    folder: tempfile::TempDir,
    batches: usize,
}

impl Mariadb {
    pub(crate) fn new() -> Self {
        Mariadb {
            server: server(),
            folder: tempfile::tempdir().unwrap(),
            batches: 0,
        }
    }

    /// As the administrator, in a session like ours.
    async fn connect(&self) -> MySqlConnection {
        let mut conn = connect(&self.server.socket()).await;
        run(
            &mut conn,
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        )
        .await;
        conn
    }

    fn file(&self, table: &str, batch: Option<usize>) -> PathBuf {
        let batch = batch.map_or_else(|| "all".to_owned(), |batch| batch.to_string());
        self.folder.path().join(format!("{table}.{batch}"))
    }
}

pub(crate) fn server() -> Server {
    Server::start_with(&OPTIONS)
}

pub(crate) async fn connect(socket: &Path) -> MySqlConnection {
    MySqlConnectOptions::new()
        .socket(socket)
        .username("root")
        .database(DATABASE)
        .connect()
        .await
        .unwrap()
}

fn tables() -> impl Iterator<Item = Table> {
    WRITTEN.into_iter().chain([TURN])
}

impl Engine for Mariadb {
    const NAME: &'static str = "MariaDB";

    fn url(&self) -> Secret {
        Secret::new(self.server.url())
    }

    async fn keep(&mut self) {
        let mut conn = self.connect().await;
        run(
            &mut conn,
            "CREATE DATABASE kept; CREATE DATABASE log; CREATE TABLE log.batch (n INT)",
        )
        .await;
        for Table { name, .. } in tables() {
            run(
                &mut conn,
                &format!("CREATE TABLE kept.{name} AS SELECT * FROM {name}"),
            )
            .await;
        }
    }

    async fn reset(&mut self) {
        let mut conn = self.connect().await;
        for Table { name, .. } in tables() {
            run(
                &mut conn,
                &format!("TRUNCATE {name}; INSERT INTO {name} SELECT * FROM kept.{name}"),
            )
            .await;
        }
    }

    async fn begin_log(&mut self) {
        let mut conn = self.connect().await;
        run(
            &mut conn,
            "DELETE FROM log.batch; INSERT INTO log.batch VALUES (0)",
        )
        .await;
        self.batches = 0;
        for table in tables() {
            let columns = columns(&mut conn, table.name).await;
            run(&mut conn, &logged(table, &columns)).await;
        }
    }

    async fn next_batch(&mut self) {
        let mut conn = self.connect().await;
        run(&mut conn, "UPDATE log.batch SET n = n + 1").await;
        self.batches += 1;
    }

    async fn end_log(&mut self) -> Vec<u64> {
        let mut conn = self.connect().await;
        let mut counts = Vec::new();
        for Table { name, key } in tables() {
            let columns = columns(&mut conn, name).await.join(", ");
            for batch in (1..=self.batches).map(Some).chain([None]) {
                let file = self.file(name, batch);
                let _ = fs::remove_file(&file);
                let which =
                    batch.map_or_else(|| "batch > 0".to_owned(), |n| format!("batch = {n}"));
                run(
                    &mut conn,
                    &format!(
                        "SELECT {columns} INTO OUTFILE '{}' CHARACTER SET binary \
                         FROM log.{name} WHERE {which} ORDER BY nr",
                        file.display()
                    ),
                )
                .await;
            }
            let text = format!("SELECT count(*) FROM log.{name} WHERE batch > 0");
            let count: i64 = sqlx::query_scalar(AssertSqlSafe(text))
                .fetch_one(&mut conn)
                .await
                .unwrap();
            counts.push(count.unsigned_abs());
            let update =
                key.map_or_else(String::new, |_| format!("DROP TRIGGER log_{name}_UPDATE"));
            run(
                &mut conn,
                &format!("DROP TRIGGER log_{name}_INSERT; DROP TABLE log.{name}; {update}"),
            )
            .await;
        }
        counts
    }

    async fn bulk(&mut self, how: Bulk) -> f64 {
        let mut conn = self.connect().await;
        let mut columns_of = Vec::new();
        for table in tables() {
            columns_of.push((table, columns(&mut conn, table.name).await.join(", ")));
        }
        let batches: Vec<Option<usize>> = match how {
            Bulk::InOne => vec![None],
            Bulk::InOurs => (1..=self.batches).map(Some).collect(),
        };
        let load = |batch: Option<usize>| {
            let loads = columns_of.iter().filter_map(|(table, columns)| {
                let file = self.file(table.name, batch);
                let has_rows = fs::metadata(&file).unwrap().len() > 0;
                has_rows.then(|| {
                    format!(
                        "LOAD DATA INFILE '{}' {} INTO TABLE {} CHARACTER SET binary ({columns})",
                        file.display(),
                        table.key.map_or("", |_| "REPLACE"),
                        table.name
                    )
                })
            });
            loads.collect()
        };
        let transactions: Vec<Vec<String>> = batches.into_iter().map(load).collect();
        let start = Instant::now();
        for loads in transactions {
            run(&mut conn, "START TRANSACTION").await;
            for load in loads {
                run(&mut conn, &load).await;
            }
            run(&mut conn, "COMMIT").await;
        }
        start.elapsed().as_secs_f64()
    }
}

/// A table for what is written to this one, and triggers that fill it.
fn logged(Table { name, key }: Table, columns: &[String]) -> String {
    let new: Vec<String> = columns.iter().map(|name| format!("NEW.{name}")).collect();
    let (columns, new) = (columns.join(", "), new.join(", "));
    let trigger = |event: &str| {
        format!(
            "CREATE TRIGGER log_{name}_{event} AFTER {event} ON {name} FOR EACH ROW \
             INSERT INTO log.{name} (batch, {columns}) VALUES ((SELECT n FROM log.batch), {new})"
        )
    };
    let updates = key.map_or_else(String::new, |_| trigger("UPDATE"));
    let inserts = trigger("INSERT");
    format!(
        "CREATE TABLE log.{name} AS SELECT 0 AS batch, {columns} FROM {name} LIMIT 0; \
         ALTER TABLE log.{name} ADD COLUMN nr BIGINT AUTO_INCREMENT PRIMARY KEY, ADD KEY (batch); \
         {inserts}; {updates}"
    )
}

async fn run(conn: &mut MySqlConnection, text: &str) {
    raw_sql(AssertSqlSafe(text.to_owned()))
        .execute(conn)
        .await
        .unwrap_or_else(|error| panic!("{text}: {error}"));
}

/// Without the number of a sample, which the engine gives.
async fn columns(conn: &mut MySqlConnection, table: &str) -> Vec<String> {
    let text = format!(
        "SELECT column_name FROM information_schema.columns \
         WHERE table_schema = DATABASE() AND table_name = '{table}' \
         AND NOT (table_name = 'sample' AND column_name = 'id') ORDER BY ordinal_position"
    );
    let rows = raw_sql(AssertSqlSafe(text)).fetch_all(conn).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>(0)).collect()
}
