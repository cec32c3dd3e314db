//! One connection to a database, whatever its engine: the trait that each engine implements, the
//! values that go in and the rows that come out.

pub(crate) mod mysql;
pub(crate) mod sqlite;

use std::borrow::Cow;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use sqlx::mysql::MySqlRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqlStr};

use super::error::StoreError;
use super::sql::Dialect;
use crate::config::Connection;
use crate::model::Secret;
use mysql::MysqlTarget;

/// Work of a session that is under way.
pub(crate) type Doing<'s, T> = Pin<Box<dyn Future<Output = Result<T, sqlx::Error>> + Send + 's>>;

/// What is done with each row that a statement gives back.
pub(crate) type Each<'s> = &'s mut (dyn FnMut(Found<'_>) -> Result<(), sqlx::Error> + Send);

/// One connection. Every wait in it ends: where an engine can hang, the session has a deadline.
///
/// A session that returned an error may have a transaction open: [`Session::rollback`] ends it, and
/// if that fails too, the session is dropped. One whose future was dropped is dropped as well.
pub(crate) trait Session: Send {
    /// The texts that this engine understands.
    fn dialect(&self) -> &'static Dialect;

    /// Makes a database ready to be stored into, once its tables are known to be ours.
    fn settle(&mut self) -> Doing<'_, ()>;

    /// Begins a transaction that no other collector writes beside, and tells whether anybody else
    /// has written since this session's last one.
    fn begin_write(&mut self) -> Doing<'_, Standing>;

    /// Begins a transaction that sees one moment.
    fn begin_read(&mut self) -> Doing<'_, ()>;

    /// Ends the transaction. When it returns, what was written is on the disk.
    fn commit(&mut self) -> Doing<'_, ()>;

    /// Gives the transaction up, if one is open.
    fn rollback(&mut self) -> Doing<'_, ()>;

    /// Runs one statement.
    fn execute<'s>(&'s mut self, text: SqlStr, binds: Vec<Bind<'s>>) -> Doing<'s, Done>;

    /// Runs several statements without values, such as those that make tables.
    fn execute_all(&mut self, texts: SqlStr) -> Doing<'_, ()>;

    /// Runs one statement and hands each of its rows on.
    fn fetch<'s>(&'s mut self, text: SqlStr, binds: Vec<Bind<'s>>, each: Each<'s>)
    -> Doing<'s, ()>;

    /// Closes it. What was committed is safe already, so an error here has nothing to say.
    fn close(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// Whether what a writer remembers is still true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nobody else has written since.
    Alone,
    /// Somebody has: rows may have changed, and ids may mean other rows.
    OthersWrote,
}

/// What a statement did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Done {
    /// Rows that it changed.
    pub(crate) changed: u64,
    /// The id that the last inserted row was given.
    pub(crate) last_id: i64,
}

/// What a session is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Making and changing tables.
    Migrate,
    /// Storing.
    Write,
    /// Reading alone.
    Read,
}

/// A database that can be connected to.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// SQLite's file.
    Sqlite(PathBuf),
    /// A database of MySQL or MariaDB.
    Mysql(MysqlTarget),
}

impl Target {
    /// Reads a SQLAlchemy URL.
    pub(crate) fn of(connection: &Secret) -> Result<Target, StoreError> {
        match Connection::parse(connection.expose()).map_err(StoreError::Connection)? {
            Connection::Sqlite(file) => Ok(Target::Sqlite(file)),
            Connection::Mysql(mysql) => Ok(Target::Mysql(MysqlTarget::new(mysql))),
        }
    }

    /// Its name for people, without a password.
    pub(crate) fn shown(&self) -> String {
        match self {
            Target::Sqlite(file) => file.display().to_string(),
            Target::Mysql(mysql) => mysql.shown(),
        }
    }

    /// Connects. A file that isn't there is created for [`Access::Migrate`] alone; says so in
    /// `done`.
    pub(crate) async fn connect(
        &self,
        access: Access,
        done: &mut Vec<String>,
    ) -> Result<Box<dyn Session>, StoreError> {
        match self {
            Target::Sqlite(file) => Ok(Box::new(sqlite::connect(file, access, done).await?)),
            Target::Mysql(target) => Ok(Box::new(target.connect(access).await?)),
        }
    }
}

/// A value on its way into a statement.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Bind<'v> {
    /// NULL.
    Null,
    /// An integer; truth values are 0 and 1.
    Int(i64),
    /// A floating-point number.
    Real(f64),
    /// Text.
    Text(Cow<'v, str>),
    /// Text that many rows share.
    Shared(Arc<str>),
    /// Bytes.
    Bytes(Cow<'v, [u8]>),
}

macro_rules! binds {
    ($($from:ty => $value:ident $bind:expr;)+) => {
        $(impl<'v> From<$from> for Bind<'v> {
            fn from($value: $from) -> Self {
                $bind
            }
        })+
    };
}

binds! {
    i64 => value Bind::Int(value);
    f64 => value Bind::Real(value);
    bool => value Bind::Int(value.into());
    &'v str => value Bind::Text(value.into());
    String => value Bind::Text(value.into());
    &'v String => value Bind::Text(value.into());
    Cow<'v, str> => value Bind::Text(value);
    &Arc<str> => value Bind::Shared(Arc::clone(value));
    Vec<u8> => value Bind::Bytes(value.into());
    &'v [u8] => value Bind::Bytes(value.into());
}

impl<'v, T: Into<Bind<'v>>> From<Option<T>> for Bind<'v> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Bind::Null, Into::into)
    }
}

/// A row that a statement gave back.
#[derive(Clone, Copy)]
pub(crate) enum Found<'r> {
    /// SQLite's.
    Sqlite(&'r SqliteRow),
    /// MySQL's or MariaDB's.
    Mysql(&'r MySqlRow),
}

impl Found<'_> {
    /// The value of a column, by its place.
    pub(crate) fn get<T: Cell>(self, column: usize) -> Result<T, sqlx::Error> {
        T::read(self, column)
    }
}

/// A type that a column can be read as.
pub(crate) trait Cell: Sized {
    /// Reads it.
    fn read(found: Found<'_>, column: usize) -> Result<Self, sqlx::Error>;
}

macro_rules! cells {
    ($($cell:ty),+) => {
        $(impl Cell for $cell {
            fn read(found: Found<'_>, column: usize) -> Result<Self, sqlx::Error> {
                match found {
                    Found::Sqlite(row) => row.try_get_unchecked(column),
                    Found::Mysql(row) => row.try_get_unchecked(column),
                }
            }
        })+
    };
}

cells!(
    i64,
    f64,
    String,
    Vec<u8>,
    Option<i64>,
    Option<f64>,
    Option<String>,
    Option<Vec<u8>>
);

/// A row as a type of its own.
pub(crate) trait FromFound: Sized + Send {
    /// Reads its columns.
    fn from_found(found: Found<'_>) -> Result<Self, sqlx::Error>;
}

macro_rules! tuples {
    ($($($cell:ident $column:literal),+;)+) => {
        $(impl<$($cell: Cell + Send),+> FromFound for ($($cell,)+) {
            fn from_found(found: Found<'_>) -> Result<Self, sqlx::Error> {
                Ok(($(found.get::<$cell>($column)?,)+))
            }
        })+
    };
}

tuples! {
    A 0;
    A 0, B 1;
    A 0, B 1, C 2;
    A 0, B 1, C 2, D 3;
    A 0, B 1, C 2, D 3, E 4;
    A 0, B 1, C 2, D 3, E 4, F 5;
    A 0, B 1, C 2, D 3, E 4, F 5, G 6;
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7;
}
