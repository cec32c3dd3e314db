//! From rows to statements with their binds, a bounded number of rows in each.

use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};

use super::engine::Bind;
use super::sql::Bulk;

/// The binds of a statement, in order.
#[derive(Debug, Default)]
pub(crate) struct Binds<'v>(Vec<Bind<'v>>);

impl<'v> Binds<'v> {
    /// Adds a value.
    pub(crate) fn put(&mut self, value: impl Into<Bind<'v>>) -> &mut Self {
        self.0.push(value.into());
        self
    }
}

/// A statement with its binds.
#[derive(Debug)]
pub(crate) struct Filled<'v> {
    /// The statement's text.
    pub(crate) text: SqlStr,
    /// As many as the text asks for.
    pub(crate) binds: Vec<Bind<'v>>,
}

/// Cuts rows into statements and binds each row's values.
pub(crate) fn statements<'v, T>(
    bulk: &'static Bulk,
    rows: &'v [T],
    bind: impl Fn(&mut Binds<'v>, &'v T),
) -> Vec<Filled<'v>> {
    let fill = |(text, rows): (_, &'v [T])| {
        let mut binds = Binds::default();
        for row in rows {
            bind(&mut binds, row);
        }
        Filled {
            text: AssertSqlSafe(text).into_sql_str(),
            binds: binds.0,
        }
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
