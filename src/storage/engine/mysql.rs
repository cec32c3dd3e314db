//! MySQL and MariaDB: one or several servers, of which one is written to at a time.
//!
//! Collectors take turns: whoever writes first locks the one row of `ha_writer`. So two of them never
//! deadlock, never make a row of `resource` twice, and each learns by that row whether the other has
//! written since.

use std::borrow::Cow;
use std::future::Future;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::error::BoxDynError;
use sqlx::mysql::{
    MySqlArguments, MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlSslMode,
};
use sqlx::{
    Arguments as _, AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _, SqlSafeStr as _,
    SqlStr, raw_sql,
};

use super::{Access, Bind, Doing, Done, Each, Found, Session, Standing};
use crate::config::{Connection, Endpoint, MysqlConnection, TlsMode};
use crate::model::Secret;
use crate::storage::error::{StoreError, StoreErrorKind};
use crate::storage::sql::Dialect;
use crate::storage::sql::mysql::{self, DIALECT};

/// How long a server may take to let us in. Then the next one is tried.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How long a server may take for one statement. One that takes longer hangs, or its disk does: the
/// connection is given up, and so is what was done of its transaction.
const STATEMENT_LIMIT: Duration = Duration::from_secs(10);

/// How long a server may take for one statement that changes a table. A table of some hundred million
/// rows takes hours to be copied.
const MIGRATION_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// How long closing may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// How many seconds a statement waits for another collector's turn. It is well below
/// [`STATEMENT_LIMIT`], so that the server says what it waited for.
const LOCK_SECONDS: u32 = 3;

/// How many seconds a transaction may be idle before the server ends it. A batch goes from statement
/// to statement within milliseconds; only a collector that was stopped is slower, and it must not hold
/// the other one up.
const IDLE_SECONDS_MAX: u32 = 5;

/// How many prepared statements a connection keeps: more than there are texts.
const STATEMENTS_MAX: usize = 256;

/// Errors that say that a database is not there, or not for this user.
const NO_DATABASE: [u16; 2] = [1044, 1049];

/// Errors after which another server may do better: read-only, no part of its cluster, shutting down.
const ELSEWHERE: [u16; 5] = [1047, 1053, 1290, 1792, 1836];

/// Errors about what was made by a run that didn't get to its end: the table, column or index is there.
const THERE_ALREADY: [u16; 3] = [1050, 1060, 1061];

/// A database, and which of its servers was good last.
#[derive(Debug, Clone)]
pub(crate) struct MysqlTarget {
    connection: Arc<MysqlConnection>,
    good: Arc<AtomicUsize>,
}

impl MysqlTarget {
    pub(crate) fn new(connection: MysqlConnection) -> Self {
        MysqlTarget {
            connection: Arc::new(connection),
            good: Arc::default(),
        }
    }

    /// Its name for people, without a password.
    pub(crate) fn shown(&self) -> String {
        Connection::Mysql((*self.connection).clone()).to_string()
    }

    /// Connects to the server that was good last, or to the next one that is; none that only reads
    /// is good for anything but reading.
    pub(crate) async fn connect(&self, access: Access) -> Result<MysqlSession, StoreError> {
        let endpoints = &self.connection.endpoints;
        let first = self.good.load(Ordering::Relaxed);
        let mut failure = None;
        for step in 0..endpoints.len() {
            let index = (first + step) % endpoints.len();
            let Some(endpoint) = endpoints.get(index) else {
                continue;
            };
            match self.connect_to(endpoint, access).await {
                Ok(session) => {
                    self.good.store(index, Ordering::Relaxed);
                    return Ok(session);
                }
                Err(error) => failure = Some(worse(failure, error)),
            }
        }
        Err(failure.unwrap_or_else(|| StoreError::NoServer(self.shown())))
    }

    async fn connect_to(
        &self,
        endpoint: &Endpoint,
        access: Access,
    ) -> Result<MysqlSession, StoreError> {
        let connecting = async {
            let mut conn = self.options(endpoint).connect().await?;
            let (is_mariadb, is_read_only) = look(&mut conn).await?;
            raw_sql(AssertSqlSafe(settings(access, is_mariadb)))
                .execute(&mut conn)
                .await?;
            Ok((conn, is_mariadb, is_read_only))
        };
        let refused = |source| self.refused(endpoint, source);
        let (conn, is_mariadb, is_read_only) =
            within(CONNECT_LIMIT, connecting).await.map_err(refused)?;
        if is_read_only && access != Access::Read {
            return Err(StoreError::ReadOnlyServer(endpoint.to_string()));
        }
        Ok(MysqlSession {
            conn,
            access,
            is_mariadb,
            is_broken: false,
            token: token(),
            turn: 0,
            written: None,
            writing: None,
        })
    }

    fn refused(&self, endpoint: &Endpoint, source: sqlx::Error) -> StoreError {
        let database = &self.connection.database;
        match number(&source) {
            Some(number) if NO_DATABASE.contains(&number) => StoreError::NoMysqlDatabase {
                database: database.clone(),
                user: self.connection.user.clone(),
            },
            _ => StoreError::Connecting {
                user: self.connection.user.clone(),
                place: endpoint.to_string(),
                source,
            },
        }
    }

    fn options(&self, endpoint: &Endpoint) -> MySqlConnectOptions {
        let MysqlConnection {
            user,
            password,
            endpoints: _,
            database,
            tls,
        } = &*self.connection;
        let mut options = MySqlConnectOptions::new()
            .username(user)
            .database(database)
            .statement_cache_capacity(STATEMENTS_MAX)
            // Ours are said below, all in one place.
            .pipes_as_concat(false)
            .no_engine_substitution(false)
            .set_names(false)
            .timezone(None)
            .disable_statement_logging();
        if let Some(password) = password.as_ref().map(Secret::expose) {
            options = options.password(password);
        }
        match endpoint {
            Endpoint::Unix(path) => return options.socket(path).ssl_mode(MySqlSslMode::Disabled),
            Endpoint::Tcp(host, port) => options = options.host(host).port(*port),
        }
        if let Some(ca) = &tls.ca {
            options = options.ssl_ca(ca);
        }
        if let Some((cert, key)) = &tls.identity {
            options = options.ssl_client_cert(cert).ssl_client_key(key);
        }
        options.ssl_mode(match tls.mode {
            TlsMode::Off => MySqlSslMode::Disabled,
            TlsMode::Preferred => MySqlSslMode::Preferred,
            TlsMode::Required => MySqlSslMode::Required,
            TlsMode::VerifyCa => MySqlSslMode::VerifyCa,
            TlsMode::VerifyIdentity => MySqlSslMode::VerifyIdentity,
        })
    }
}

/// Of two servers' errors the one that somebody has to mend, or the later one.
fn worse(earlier: Option<StoreError>, later: StoreError) -> StoreError {
    match earlier {
        Some(earlier) if earlier.kind() == StoreErrorKind::Lasting => earlier,
        _ => later,
    }
}

/// Whether it is MariaDB, and whether it only reads.
async fn look(conn: &mut MySqlConnection) -> Result<(bool, bool), sqlx::Error> {
    let row = raw_sql("SELECT version() LIKE '%MariaDB%', @@global.read_only")
        .fetch_one(conn)
        .await?;
    let flag = |column: usize| row.try_get_unchecked::<i64, _>(column);
    Ok((flag(0)? != 0, flag(1)? != 0))
}

/// What a session must be like, whatever the server's own settings are.
fn settings(access: Access, is_mariadb: bool) -> String {
    let collation = mysql::collation(is_mariadb);
    // A writer sees what the one before it has committed. A reader sees one moment.
    let isolation = match access {
        Access::Read => "REPEATABLE READ",
        Access::Migrate | Access::Write => "READ COMMITTED",
    };
    let idle = match access {
        Access::Write if is_mariadb => format!(", idle_transaction_timeout = {IDLE_SECONDS_MAX}"),
        Access::Write => format!(", wait_timeout = {IDLE_SECONDS_MAX}"),
        Access::Migrate | Access::Read => String::new(),
    };
    format!(
        "SET NAMES utf8mb4 COLLATE {collation}; \
         SET SESSION TRANSACTION ISOLATION LEVEL {isolation}; \
         SET SESSION time_zone = '+00:00', foreign_key_checks = 1, autocommit = 1, \
         sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', \
         innodb_lock_wait_timeout = {LOCK_SECONDS}, lock_wait_timeout = {LOCK_SECONDS}{idle}"
    )
}

/// What no other session is called. It needn't be unguessable.
fn token() -> String {
    let half = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", half(), half())
}

/// Waits for a server, but not for ever.
async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(sqlx::Error::Io(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer within {} s", limit.as_secs()),
        ))),
    }
}

fn number(error: &sqlx::Error) -> Option<u16> {
    let sqlx::Error::Database(refused) = error else {
        return None;
    };
    let refused = refused.try_downcast_ref::<MySqlDatabaseError>()?;
    Some(refused.number())
}

/// A connection to a server.
#[derive(Debug)]
pub(crate) struct MysqlSession {
    conn: MySqlConnection,
    access: Access,
    is_mariadb: bool,
    /// Whether nothing more can be expected of it.
    is_broken: bool,
    /// What it is called in `ha_writer`.
    token: String,
    /// How many transactions it has begun to write.
    turn: u64,
    /// What it left in `ha_writer` when it last committed.
    written: Option<String>,
    /// What it leaves there if it commits now.
    writing: Option<String>,
}

impl Session for MysqlSession {
    fn dialect(&self) -> &'static Dialect {
        &DIALECT
    }

    fn settle(&mut self) -> Doing<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn begin_write(&mut self) -> Doing<'_, Standing> {
        match self.access {
            Access::Migrate => Box::pin(self.begin_migration()),
            Access::Write | Access::Read => Box::pin(self.take_turn()),
        }
    }

    fn begin_read(&mut self) -> Doing<'_, ()> {
        self.execute_all(SqlStr::from_static(
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; \
             START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
        ))
    }

    fn commit(&mut self) -> Doing<'_, ()> {
        Box::pin(async {
            let result = self.end("COMMIT").await;
            // Without an answer nobody knows whose turn it was last.
            self.written = self.writing.take().filter(|_| result.is_ok());
            result
        })
    }

    fn rollback(&mut self) -> Doing<'_, ()> {
        Box::pin(async {
            if self.is_broken {
                return Err(sqlx::Error::WorkerCrashed);
            }
            self.writing = None;
            self.end("ROLLBACK").await
        })
    }

    fn execute<'s>(&'s mut self, text: SqlStr, binds: Vec<Bind<'s>>) -> Doing<'s, Done> {
        Box::pin(async {
            let arguments = arguments(binds).map_err(sqlx::Error::Encode)?;
            let limit = self.limit();
            let work = sqlx::query_with(text, arguments).execute(&mut self.conn);
            let result = within(limit, work).await;
            let done = self.judged(result)?;
            Ok(Done {
                changed: done.rows_affected(),
                last_id: i64::try_from(done.last_insert_id()).unwrap_or(i64::MAX),
            })
        })
    }

    fn execute_all(&mut self, texts: SqlStr) -> Doing<'_, ()> {
        Box::pin(async move {
            if self.access == Access::Migrate {
                return self.make(texts.as_str()).await;
            }
            self.execute_text(texts).await
        })
    }

    fn fetch<'s>(
        &'s mut self,
        text: SqlStr,
        binds: Vec<Bind<'s>>,
        each: Each<'s>,
    ) -> Doing<'s, ()> {
        Box::pin(async {
            let arguments = arguments(binds).map_err(sqlx::Error::Encode)?;
            let limit = self.limit();
            let work = sqlx::query_with(text, arguments).fetch_all(&mut self.conn);
            let result = within(limit, work).await;
            let rows = self.judged(result)?;
            rows.iter().try_for_each(|row| each(Found::Mysql(row)))
        })
    }

    fn close(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async {
            let _ = within(CLOSE_LIMIT, self.conn.close()).await;
        })
    }
}

impl MysqlSession {
    fn limit(&self) -> Duration {
        match self.access {
            Access::Migrate => MIGRATION_LIMIT,
            Access::Write | Access::Read => STATEMENT_LIMIT,
        }
    }

    /// Gives the connection up after what a server doesn't say of a single statement.
    fn judged<T>(&mut self, result: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        if let Err(error) = &result {
            self.is_broken |= match error {
                sqlx::Error::Database(_) => {
                    number(error).is_some_and(|number| ELSEWHERE.contains(&number))
                }
                _ => true,
            };
        }
        result
    }

    async fn execute_text(&mut self, texts: SqlStr) -> Result<(), sqlx::Error> {
        let limit = self.limit();
        let result = within(limit, raw_sql(texts).execute(&mut self.conn)).await;
        self.judged(result).map(|_| ())
    }

    async fn end(&mut self, text: &'static str) -> Result<(), sqlx::Error> {
        if self.access == Access::Migrate {
            return self
                .execute_text(SqlStr::from_static(mysql::RELEASE_MIGRATION))
                .await;
        }
        self.execute_text(SqlStr::from_static(text)).await
    }

    /// Waits for the other collectors, and writes down who has the turn. The text differs each time, so
    /// that a Galera cluster sees a conflict where two of its nodes are written to at once.
    async fn take_turn(&mut self) -> Result<Standing, sqlx::Error> {
        self.turn += 1;
        let name = format!("{} {}", self.token, self.turn);
        let texts = format!(
            "START TRANSACTION; SELECT writer FROM ha_writer WHERE id = 1 FOR UPDATE; \
             UPDATE ha_writer SET writer = '{name}' WHERE id = 1"
        );
        let work = raw_sql(AssertSqlSafe(texts)).fetch_all(&mut self.conn);
        let result = within(STATEMENT_LIMIT, work).await;
        let rows = self.judged(result)?;
        let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        let last: String = row.try_get_unchecked(0)?;
        let is_alone = self.written.as_ref() == Some(&last);
        self.writing = Some(name);
        Ok(if is_alone {
            Standing::Alone
        } else {
            Standing::OthersWrote
        })
    }

    /// Keeps other migrations of this database out. There is no transaction: the engine ends one at
    /// each change of a table.
    async fn begin_migration(&mut self) -> Result<Standing, sqlx::Error> {
        let work = raw_sql(mysql::TAKE_MIGRATION).fetch_one(&mut self.conn);
        let result = within(STATEMENT_LIMIT, work).await;
        let row = self.judged(result)?;
        let is_taken: Option<i64> = row.try_get_unchecked(0)?;
        if is_taken == Some(1) {
            Ok(Standing::OthersWrote)
        } else {
            Err(sqlx::Error::Io(io::Error::new(
                io::ErrorKind::WouldBlock,
                "another dbsync of this database runs",
            )))
        }
    }

    /// Runs statements that make or change tables, one by one; what a run that was ended midway has made
    /// already is left as it is.
    async fn make(&mut self, texts: &str) -> Result<(), sqlx::Error> {
        let texts = texts.replace(mysql::COLLATION, mysql::collation(self.is_mariadb));
        for text in texts.split(";\n").map(str::trim) {
            if text.is_empty() {
                continue;
            }
            let text = AssertSqlSafe(text.to_owned()).into_sql_str();
            match self.execute_text(text).await {
                Err(error)
                    if number(&error).is_some_and(|number| THERE_ALREADY.contains(&number)) => {}
                result => result?,
            }
        }
        Ok(())
    }
}

fn arguments(binds: Vec<Bind<'_>>) -> Result<MySqlArguments, BoxDynError> {
    let mut arguments = MySqlArguments::default();
    for bind in binds {
        match bind {
            Bind::Null => arguments.add(None::<i64>)?,
            Bind::Int(value) => arguments.add(value)?,
            Bind::Real(value) => arguments.add(value)?,
            Bind::Text(Cow::Borrowed(value)) => arguments.add(value)?,
            Bind::Text(Cow::Owned(value)) => arguments.add(value)?,
            Bind::Shared(value) => arguments.add(&*value)?,
            Bind::Bytes(Cow::Borrowed(value)) => arguments.add(value)?,
            Bind::Bytes(Cow::Owned(value)) => arguments.add(value)?,
        }
    }
    Ok(arguments)
}
