//! SQLite: a file, one writer at a time, readers that nobody waits for.

use std::borrow::Cow;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sqlx::error::BoxDynError;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteSynchronous};
use sqlx::{Arguments as _, ConnectOptions, Connection as _, SqlStr, raw_sql};

use super::{Access, Bind, Doing, Done, Each, Found, Session, Standing};
use crate::storage::error::{StoreError, during};
use crate::storage::sql::Dialect;
use crate::storage::sql::sqlite::DIALECT;

/// How long a statement waits for another process's lock before it fails as passing. A batch takes
/// tens of milliseconds, a checkpoint a second; who holds a lock for longer is stuck. It is well
/// below what a daemon is given to end in, so that the end can still be reported.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// What the write-ahead log is cut back to after a checkpoint, so that one long reader doesn't
/// leave gigabytes behind.
const WAL_BYTES_MAX: &str = "67108864";

/// Pages of the write-ahead log, of 4 KiB each, after which what is in them goes into the file: half of
/// [`WAL_BYTES_MAX`]. Indexes scatter what a batch writes; with SQLite's thousand pages each batch's
/// would be written once more and synced twice.
const CHECKPOINT_PAGES: &str = "8192";

/// The writer's page cache in KiB, with a minus sign as SQLite has it: the inner pages of the indexes
/// of a few hundred million samples. SQLite's two MiB hold one batch.
const CACHE_KIB: &str = "-32768";

/// Who may read a database file that we create: its owner and group, as far as the umask lets them.
const FILE_MODE: u32 = 0o640;

/// A connection to a file.
#[derive(Debug)]
pub(crate) struct SqliteSession {
    conn: SqliteConnection,
    /// SQLite's count of what others committed, as of the last transaction; none has been seen yet
    /// at first.
    data_version: Option<i64>,
    /// Whether a transaction is open.
    is_open: bool,
}

/// Connects; for [`Access::Migrate`] the file is made if it is missing.
pub(crate) async fn connect(
    path: &Path,
    access: Access,
    done: &mut Vec<String>,
) -> Result<SqliteSession, StoreError> {
    if !exists(path).await? {
        if access != Access::Migrate {
            // SQLite would only call it "unable to open".
            return Err(StoreError::NoDatabase(path.display().to_string()));
        }
        create_file(path).await?;
        done.push(format!(
            "created database file {} (mode {FILE_MODE:04o})",
            path.display()
        ));
    }
    let options = options(path);
    let options = match access {
        Access::Read => options.read_only(true),
        Access::Migrate | Access::Write => options
            .synchronous(SqliteSynchronous::Full)
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
            .pragma("cache_size", CACHE_KIB),
    };
    let conn = options
        .connect()
        .await
        .map_err(during("connecting to the database"))?;
    Ok(SqliteSession {
        conn,
        data_version: None,
        is_open: false,
    })
}

impl Session for SqliteSession {
    fn dialect(&self) -> &'static Dialect {
        &DIALECT
    }

    fn settle(&mut self) -> Doing<'_, ()> {
        // In write-ahead logging readers and the writer don't wait for each other. The mode stays
        // with the file.
        self.execute_all(SqlStr::from_static("PRAGMA journal_mode = WAL"))
    }

    fn begin_write(&mut self) -> Doing<'_, Standing> {
        Box::pin(async {
            // Immediate: the lock is taken before anything is read, so what was read stays true.
            self.begin("BEGIN IMMEDIATE").await?;
            let data_version: i64 = sqlx::query_scalar("PRAGMA data_version")
                .fetch_one(&mut self.conn)
                .await?;
            let known = self.data_version.replace(data_version);
            Ok(if known == Some(data_version) {
                Standing::Alone
            } else {
                Standing::OthersWrote
            })
        })
    }

    fn begin_read(&mut self) -> Doing<'_, ()> {
        Box::pin(self.begin("BEGIN"))
    }

    fn commit(&mut self) -> Doing<'_, ()> {
        Box::pin(self.end("COMMIT"))
    }

    fn rollback(&mut self) -> Doing<'_, ()> {
        Box::pin(async {
            if self.is_open {
                self.end("ROLLBACK").await?;
            }
            Ok(())
        })
    }

    fn execute<'s>(&'s mut self, text: SqlStr, binds: Vec<Bind<'s>>) -> Doing<'s, Done> {
        Box::pin(async {
            let arguments = arguments(binds).map_err(sqlx::Error::Encode)?;
            let done = sqlx::query_with(text, arguments)
                .execute(&mut self.conn)
                .await?;
            Ok(Done {
                changed: done.rows_affected(),
                last_id: done.last_insert_rowid(),
            })
        })
    }

    fn execute_all(&mut self, texts: SqlStr) -> Doing<'_, ()> {
        Box::pin(async { raw_sql(texts).execute(&mut self.conn).await.map(|_| ()) })
    }

    fn fetch<'s>(
        &'s mut self,
        text: SqlStr,
        binds: Vec<Bind<'s>>,
        each: Each<'s>,
    ) -> Doing<'s, ()> {
        Box::pin(async {
            let arguments = arguments(binds).map_err(sqlx::Error::Encode)?;
            let rows = sqlx::query_with(text, arguments)
                .fetch_all(&mut self.conn)
                .await?;
            rows.iter().try_for_each(|row| each(Found::Sqlite(row)))
        })
    }

    fn close(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async {
            let _ = self.conn.close().await;
        })
    }
}

impl SqliteSession {
    async fn begin(&mut self, text: &'static str) -> Result<(), sqlx::Error> {
        sqlx::query(text).execute(&mut self.conn).await?;
        self.is_open = true;
        Ok(())
    }

    async fn end(&mut self, text: &'static str) -> Result<(), sqlx::Error> {
        sqlx::query(text).execute(&mut self.conn).await?;
        self.is_open = false;
        Ok(())
    }
}

fn arguments(binds: Vec<Bind<'_>>) -> Result<SqliteArguments, BoxDynError> {
    let mut arguments = SqliteArguments::default();
    for bind in binds {
        match bind {
            Bind::Null => arguments.add(None::<i64>)?,
            Bind::Int(value) => arguments.add(value)?,
            Bind::Real(value) => arguments.add(value)?,
            // One allocation, where a `&str` would take two.
            Bind::Text(Cow::Borrowed(value)) => arguments.add(Arc::<str>::from(value))?,
            Bind::Text(Cow::Owned(value)) => arguments.add(value)?,
            Bind::Shared(value) => arguments.add(value)?,
            Bind::Bytes(value) => arguments.add(value.into_owned())?,
        }
    }
    Ok(arguments)
}

async fn exists(path: &Path) -> Result<bool, StoreError> {
    tokio::fs::try_exists(path)
        .await
        .map_err(|source| StoreError::File {
            operation: "looking for the database file",
            path: path.to_owned(),
            source,
        })
}

async fn create_file(path: &Path) -> Result<(), StoreError> {
    tokio::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)
        .await
        .map(|_| ())
        .map_err(|source| StoreError::File {
            operation: "creating the database file",
            path: path.to_owned(),
            source,
        })
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .busy_timeout(BUSY_TIMEOUT)
        // Ids of meters and resources are cached: a dangling one must fail, not be stored.
        .foreign_keys(true)
        .pragma("journal_size_limit", WAL_BYTES_MAX)
        .disable_statement_logging()
}
