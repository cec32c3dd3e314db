//! From rows to statements with their binds, a bounded number of rows in each.

use std::sync::Arc;

use sqlx::error::BoxDynError;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments as _, Encode, Sqlite, Type};

use super::sql::Bulk;

/// The binds of a statement; the first that can't be encoded fails it.
#[derive(Debug, Default)]
pub(crate) struct Binds {
    arguments: SqliteArguments,
    failed: Option<BoxDynError>,
}

impl Binds {
    /// Adds a value.
    pub(crate) fn put<'v>(&mut self, value: impl Encode<'v, Sqlite> + Type<Sqlite>) -> &mut Self {
        if let Err(error) = self.arguments.add(value) {
            self.failed.get_or_insert(error);
        }
        self
    }

    /// All of them, in order.
    pub(crate) fn finish(self) -> Result<SqliteArguments, sqlx::Error> {
        match self.failed {
            None => Ok(self.arguments),
            Some(error) => Err(sqlx::Error::Encode(error)),
        }
    }
}

/// A statement with its binds.
#[derive(Debug)]
pub(crate) struct Filled {
    /// The statement's text.
    pub(crate) text: Arc<str>,
    /// As many as the text asks for.
    pub(crate) binds: Binds,
}

/// Cuts rows into statements and binds each row's values.
pub(crate) fn statements<T>(
    bulk: &'static Bulk,
    rows: &[T],
    bind: impl Fn(&mut Binds, &T),
) -> Vec<Filled> {
    let fill = |(text, rows): (Arc<str>, &[T])| {
        let mut binds = Binds::default();
        for row in rows {
            bind(&mut binds, row);
        }
        Filled { text, binds }
    };
    bulk.statements(rows).map(fill).collect()
}

/// Numbers questions, so that answers can say which one they belong to.
pub(crate) fn numbered<K>(keys: &[K]) -> Vec<(i64, &K)> {
    (0..).zip(keys).collect()
}

/// The question that an answer belongs to.
pub(crate) fn nth<K>(keys: &[K], n: i64) -> Option<&K> {
    keys.get(usize::try_from(n).ok()?)
}
