//! SQLite's bulk load: `INSERT … SELECT` from an attached database, which goes through no parser and no
//! client for each row.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use ceilometer_ha::model::Secret;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row, raw_sql};

use super::{Bulk, Engine, Table, WRITTEN};

/// A database in a file, and a copy of what each run begins with.
pub(crate) struct Sqlite {
    folder: tempfile::TempDir,
}

impl Sqlite {
    pub(crate) fn new() -> Self {
        Sqlite {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// With the settings of our own writer, a commit on the disk included.
    async fn connect(&self) -> SqliteConnection {
        SqliteConnectOptions::new()
            .filename(self.path("run"))
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .pragma("wal_autocheckpoint", "8192")
            .pragma("cache_size", "-32768")
            .connect()
            .await
            .unwrap()
    }
}

impl Engine for Sqlite {
    const NAME: &'static str = "SQLite";

    fn url(&self) -> Secret {
        Secret::new(format!("sqlite:///{}", self.path("run").display()))
    }

    async fn keep(&mut self) {
        fs::copy(self.path("run"), self.path("kept")).unwrap();
    }

    async fn reset(&mut self) {
        remove(&self.path("run"));
        fs::copy(self.path("kept"), self.path("run")).unwrap();
    }

    async fn begin_log(&mut self) {
        let mut conn = self.connect().await;
        let mut texts =
            "CREATE TABLE log_batch (n INTEGER); INSERT INTO log_batch VALUES (0);\n".to_owned();
        for table in WRITTEN {
            let columns = columns(&mut conn, table.name).await;
            texts += &logged(table, &columns);
        }
        run(&mut conn, &texts).await;
        conn.close().await.unwrap();
    }

    async fn next_batch(&mut self) {
        let mut conn = self.connect().await;
        run(&mut conn, "UPDATE log_batch SET n = n + 1").await;
        conn.close().await.unwrap();
    }

    async fn end_log(&mut self) -> Vec<u64> {
        let mut conn = self.connect().await;
        // What is attached has to be there.
        let log = self.path("log");
        remove(&log);
        fs::write(&log, "").unwrap();
        run(&mut conn, &attach(&log)).await;
        let mut counts = Vec::new();
        for Table { name, .. } in WRITTEN {
            run(
                &mut conn,
                &format!(
                    "CREATE TABLE log.{name} AS SELECT * FROM main.log_{name} WHERE batch > 0 \
                     ORDER BY rowid; CREATE INDEX log.of_{name} ON {name} (batch)"
                ),
            )
            .await;
            let count = number(&mut conn, &format!("SELECT count(*) FROM log.{name}")).await;
            counts.push(count.unsigned_abs());
        }
        conn.close().await.unwrap();
        counts
    }

    async fn bulk(&mut self, how: Bulk) -> f64 {
        let mut conn = self.connect().await;
        run(&mut conn, &attach(&self.path("log"))).await;
        let last = number(&mut conn, "SELECT max(batch) FROM log.sample").await;
        let mut texts = Vec::new();
        for table in WRITTEN {
            let columns = columns(&mut conn, table.name).await;
            texts.push(upsert(table, &columns));
        }
        let in_one = [format!("batch BETWEEN 1 AND {last}")];
        let in_ours: Vec<String> = (1..=last).map(|n| format!("batch = {n}")).collect();
        let transactions = match how {
            Bulk::InOne => &in_one[..],
            Bulk::InOurs => &in_ours,
        };
        let start = Instant::now();
        for which in transactions {
            run(&mut conn, "BEGIN IMMEDIATE").await;
            for (head, tail) in &texts {
                run(&mut conn, &format!("{head} WHERE {which} {tail}")).await;
            }
            run(&mut conn, "COMMIT").await;
        }
        let took = start.elapsed().as_secs_f64();
        conn.close().await.unwrap();
        took
    }
}

/// A table for what is written to this one, and triggers that fill it.
fn logged(table: Table, columns: &[String]) -> String {
    let Table { name, key } = table;
    let new: Vec<String> = columns.iter().map(|name| format!("NEW.{name}")).collect();
    let (columns, new) = (columns.join(", "), new.join(", "));
    let trigger = |event: &str| {
        format!(
            "CREATE TRIGGER log_{name}_{event} AFTER {event} ON {name} BEGIN \
             INSERT INTO log_{name} VALUES ((SELECT n FROM log_batch), {new}); END;\n"
        )
    };
    let updates = key.map_or_else(String::new, |_| trigger("UPDATE"));
    let inserts = trigger("INSERT");
    format!("CREATE TABLE log_{name} (batch INTEGER, {columns});\n{inserts}{updates}")
}

/// What writes a table's rows, before and after what says which.
fn upsert(Table { name, key }: Table, columns: &[String]) -> (String, String) {
    let set: Vec<String> = columns
        .iter()
        .map(|name| format!("{name} = excluded.{name}"))
        .collect();
    let columns = columns.join(", ");
    let tail = key.map(|key| format!("ON CONFLICT ({key}) DO UPDATE SET {}", set.join(", ")));
    (
        format!("INSERT INTO main.{name} ({columns}) SELECT {columns} FROM log.{name}"),
        tail.unwrap_or_default(),
    )
}

fn attach(log: &Path) -> String {
    format!("ATTACH '{}' AS log", log.display())
}

fn remove(file: &Path) {
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{end}", file.display()));
    }
}

async fn run(conn: &mut SqliteConnection, text: &str) {
    raw_sql(AssertSqlSafe(text.to_owned()))
        .execute(conn)
        .await
        .unwrap_or_else(|error| panic!("{text}: {error}"));
}

async fn number(conn: &mut SqliteConnection, text: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(text.to_owned()))
        .fetch_one(conn)
        .await
        .unwrap()
}

/// Without the number of a sample, which the engine gives.
async fn columns(conn: &mut SqliteConnection, table: &str) -> Vec<String> {
    let text = format!("SELECT name FROM pragma_table_info('{table}')");
    let rows = raw_sql(AssertSqlSafe(text)).fetch_all(conn).await.unwrap();
    let names = rows.iter().map(|row| row.get::<String, _>(0));
    names.filter(|name| name != "id").collect()
}
