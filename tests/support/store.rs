//! Databases of either engine and readings to store in them: one body of a test, run on each engine.

use std::path::{Path, PathBuf};

use ceilometer_ha::model::{Identity, Received, ReceivedMeter, Secret, UtcTime, Value};
use ceilometer_ha::storage::Database;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Decode, Row, SqlSafeStr, Type, TypeInfo, ValueRef, raw_sql,
};

use super::mariadb::{DATABASE, PASSWORD, Server, USER};

/// Makes one test for each engine of a body that gets a database of that engine.
///
/// ```ignore
/// on_each_engine! {
///     async fn what_holds(scratch: Scratch) { … }
/// }
/// ```
#[allow(unused_macros)]
macro_rules! on_each_engine {
    ($($(#[$meta:meta])* async fn $name:ident($scratch:ident: Scratch) $body:block)+) => {
        $(
            $(#[$meta])*
            async fn $name($scratch: $crate::support::store::Scratch) $body

            mod $name {
                use $crate::support::store::Scratch;

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn on_sqlite() {
                    super::$name(Scratch::sqlite()).await;
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn on_mariadb() {
                    super::$name(Scratch::mariadb()).await;
                }
            }
        )+
    };
}
#[allow(unused_imports)]
pub(crate) use on_each_engine;

/// A database that goes with it.
pub struct Scratch {
    place: Place,
    /// As `[database] connection` names it.
    pub url: Secret,
}

enum Place {
    Sqlite {
        _dir: tempfile::TempDir,
        file: PathBuf,
    },
    Mariadb(Box<Server>),
}

/// What a row holds, by column; None for null.
pub type Cells = Vec<Option<String>>;

impl Scratch {
    /// No file yet, and a directory for it.
    pub fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ha.sqlite");
        let url = Secret::new(format!("sqlite:///{}", file.display()));
        Scratch {
            place: Place::Sqlite { _dir: dir, file },
            url,
        }
    }

    /// An empty database of a MariaDB of its own.
    pub fn mariadb() -> Self {
        // Nothing here outlives the server, so nobody needs to wait for a disk.
        let server = Server::start_with(&["--innodb-flush-log-at-trx-commit=0"]);
        Scratch::of(server)
    }

    /// The database of a server that was started otherwise.
    pub fn of(server: Server) -> Self {
        let url = Secret::new(server.url());
        Scratch {
            place: Place::Mariadb(Box::new(server)),
            url,
        }
    }

    /// Another one of the same engine.
    pub fn another(&self) -> Self {
        match self.place {
            Place::Sqlite { .. } => Scratch::sqlite(),
            Place::Mariadb(_) => Scratch::mariadb(),
        }
    }

    /// Whether it is SQLite's.
    pub fn is_sqlite(&self) -> bool {
        matches!(self.place, Place::Sqlite { .. })
    }

    /// SQLite's file.
    pub fn file(&self) -> &Path {
        match &self.place {
            Place::Sqlite { file, .. } => file,
            Place::Mariadb(_) => panic!("MariaDB has no file"),
        }
    }

    /// The server.
    pub fn server(&mut self) -> &mut Server {
        match &mut self.place {
            Place::Sqlite { .. } => panic!("SQLite has no server"),
            Place::Mariadb(server) => server,
        }
    }

    /// A fresh, open database.
    pub async fn open(&self) -> Database {
        Database::dbsync(&self.url).await.unwrap();
        Database::open(&self.url).await.unwrap()
    }

    /// Runs statements; all of them on one connection that knows nothing of ours.
    pub async fn run(&self, text: &str) {
        let text = AssertSqlSafe(text.to_owned()).into_sql_str();
        match &self.place {
            Place::Sqlite { file, .. } => {
                let mut conn = sqlite(file).await;
                raw_sql(text).execute(&mut conn).await.unwrap();
            }
            Place::Mariadb(server) => {
                let mut conn = mariadb(server).await;
                raw_sql(text).execute(&mut conn).await.unwrap();
            }
        }
    }

    /// The rows of a query as text, columns joined by `|`.
    pub async fn look(&self, text: &str) -> Vec<String> {
        let line = |cells: Cells| -> String {
            let cells: Vec<String> = cells
                .into_iter()
                .map(|cell| cell.unwrap_or_else(|| "NULL".to_owned()))
                .collect();
            cells.join("|")
        };
        self.cells(text).await.into_iter().map(line).collect()
    }

    /// The rows of a query; floats as Rust prints them.
    pub async fn cells(&self, text: &str) -> Vec<Cells> {
        let text = AssertSqlSafe(text.to_owned()).into_sql_str();
        match &self.place {
            Place::Sqlite { file, .. } => {
                let mut conn = sqlite(file).await;
                let rows = raw_sql(text).fetch_all(&mut conn).await.unwrap();
                rows.iter().map(cells).collect()
            }
            Place::Mariadb(server) => {
                let mut conn = mariadb(server).await;
                let rows = raw_sql(text).fetch_all(&mut conn).await.unwrap();
                rows.iter().map(cells).collect()
            }
        }
    }

    /// Runs statements as another collector would, so that nobody goes on by what it remembers.
    pub async fn change(&self, text: &str) {
        self.run(text).await;
        if !self.is_sqlite() {
            self.run("UPDATE ha_writer SET writer = 'a test'").await;
        }
    }

    /// Makes the engine refuse to do something to rows of a table, and blame their data.
    pub async fn refuse(&self, event: &str, table: &str, condition: &str) {
        let text = if self.is_sqlite() {
            format!(
                "CREATE TRIGGER refuse_{table} BEFORE {event} ON {table} WHEN {condition} \
                 BEGIN SELECT RAISE(ABORT, 'no beasts here'); END"
            )
        } else {
            format!(
                "CREATE TRIGGER refuse_{table} BEFORE {event} ON {table} FOR EACH ROW \
                 IF {condition} THEN SIGNAL SQLSTATE '22000' \
                 SET MESSAGE_TEXT = 'no beasts here'; END IF"
            )
        };
        self.run(&text).await;
    }

    /// Forgets everything that was stored, which is faster than another database.
    pub async fn empty(&self) {
        self.change(
            "DELETE FROM sample; DELETE FROM metadata_text; DELETE FROM metadata_int; \
             DELETE FROM metadata_float; DELETE FROM metadata_bool; DELETE FROM resource; \
             DELETE FROM meter; DELETE FROM ha_state; DELETE FROM ha_path; DELETE FROM ha_seen; \
             DELETE FROM ha_seen_message; DELETE FROM ha_observer; DELETE FROM ha_round; \
             DELETE FROM ha_quarantine",
        )
        .await;
    }

    /// A moment as Ceilometer's tables hold it in this engine.
    pub fn moment(&self, at: UtcTime) -> String {
        match self.place {
            Place::Sqlite { .. } => at.to_sql_text(),
            Place::Mariadb(_) => {
                let micros = at.unix_micros();
                format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
            }
        }
    }
}

async fn sqlite(file: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(file);
    options.create_if_missing(true).connect().await.unwrap()
}

async fn mariadb(server: &Server) -> MySqlConnection {
    MySqlConnectOptions::new()
        .socket(server.socket())
        .username(USER)
        .password(PASSWORD)
        .database(DATABASE)
        .connect()
        .await
        .unwrap()
}

fn cells<R: Row>(row: &R) -> Cells
where
    usize: sqlx::ColumnIndex<R>,
    f64: Type<R::Database> + for<'r> Decode<'r, R::Database>,
    String: Type<R::Database> + for<'r> Decode<'r, R::Database>,
{
    let cell = |index: usize| {
        let kind = row
            .try_get_raw(index)
            .unwrap()
            .type_info()
            .name()
            .to_owned();
        if matches!(kind.as_str(), "REAL" | "DOUBLE" | "FLOAT") {
            let number: Option<f64> = row.try_get_unchecked(index).unwrap();
            return number.map(|number| format!("{number:?}"));
        }
        row.try_get_unchecked(index).unwrap()
    };
    (0..row.len()).map(cell).collect()
}

/// The page with the queries that deciders may rely on.
pub const PAGE: &str = include_str!("../../docs/sql-contract.md");

/// A query of that page, as the engine understands it.
pub fn query(scratch: &Scratch, name: &str) -> &'static str {
    let block = |name: String| {
        PAGE.split("```sql\n")
            .skip(1)
            .filter_map(|block| block.split_once("\n```"))
            .find_map(|(block, _)| block.strip_prefix(&format!("-- name: {name}\n")))
    };
    let own = (!scratch.is_sqlite()).then(|| block(format!("{name} (mysql)")));
    own.flatten()
        .or_else(|| block(name.to_owned()))
        .unwrap_or_else(|| panic!("the page has no query {name}"))
}

pub const EPOCH: u64 = 1_700_000_000_000;
pub const OBSERVED: i64 = 1_800_000_000_000_000;

/// Reading `seq` of node-1: storage answers, heard over the storage network.
pub fn reading(seq: u64) -> Received {
    reading_of("node-1", EPOCH, seq)
}

pub fn reading_of(observer: &str, epoch: u64, seq: u64) -> Received {
    Received {
        identity: Some(Identity {
            observer: observer.to_owned(),
            epoch,
            seq,
        }),
        path: Some("storage".to_owned()),
        evidence: ceilometer_ha::model::Evidence::default(),
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
pub fn unnumbered(received: Received) -> Received {
    Received {
        identity: None,
        path: None,
        ..received
    }
}

pub fn by_path(path: &str, received: Received) -> Received {
    Received {
        path: Some(path.to_owned()),
        ..received
    }
}

/// The same of another meter about something else.
pub fn about(meter: &str, resource_id: &str, volume: f64, received: Received) -> Received {
    Received {
        meter: ReceivedMeter {
            name: meter.to_owned(),
            ..received.meter
        },
        resource_id: resource_id.to_owned(),
        volume: Some(volume),
        ..received
    }
}
