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

    fn bytes(&self) -> usize {
        let bytes = |bind: &Bind<'_>| match bind {
            Bind::Text(text) => text.len(),
            Bind::Shared(text) => text.len(),
            Bind::Bytes(bytes) => bytes.len(),
            Bind::Null | Bind::Int(_) | Bind::Real(_) => 0,
        };
        self.0.iter().map(bytes).sum()
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

/// The most bytes of texts and bytes in one statement of several rows: MySQL closes a connection that
/// sends more than its `max_allowed_packet`, of which no supported version has less than 4 MiB. What is
/// more goes into another statement.
const STATEMENT_BYTES_MAX: usize = 2 << 20;

/// Cuts rows into statements and binds each row's values.
pub(crate) fn statements<'v, T>(
    bulk: &'static Bulk,
    rows: &'v [T],
    bind: impl Fn(&mut Binds<'v>, &'v T),
) -> Vec<Filled<'v>> {
    let mut filled = Vec::new();
    fill(bulk, rows, &bind, &mut filled);
    filled
}

fn fill<'v, T>(
    bulk: &'static Bulk,
    rows: &'v [T],
    bind: &impl Fn(&mut Binds<'v>, &'v T),
    filled: &mut Vec<Filled<'v>>,
) {
    for (text, rows) in bulk.statements(rows) {
        let mut binds = Binds::default();
        for row in rows {
            bind(&mut binds, row);
        }
        if rows.len() > 1 && binds.bytes() > STATEMENT_BYTES_MAX {
            let (first, second) = rows.split_at(rows.len() / 2);
            fill(bulk, first, bind, filled);
            fill(bulk, second, bind, filled);
        } else {
            filled.push(Filled {
                text: AssertSqlSafe(text).into_sql_str(),
                binds: binds.0,
            });
        }
    }
}

/// Numbers questions, so that answers can say which one they belong to.
pub(crate) fn numbered<K>(keys: &[K]) -> Vec<(i64, &K)> {
    (0..).zip(keys).collect()
}

/// The question that an answer belongs to.
pub(crate) fn nth<K>(keys: &[K], n: i64) -> Option<&K> {
    keys.get(usize::try_from(n).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::sql::PUT_MESSAGES;

    #[test]
    fn a_statement_of_several_rows_has_a_bounded_length() {
        let long = "x".repeat(STATEMENT_BYTES_MAX / 8);
        let rows = vec![long.as_str(); 71];
        let filled = statements(&PUT_MESSAGES, &rows, |binds, text| {
            binds.put(*text).put(0);
        });
        let sizes: Vec<usize> = filled.iter().map(|one| one.binds.len() / 2).collect();
        assert_eq!(sizes, [[8; 8].as_slice(), &[1; 7]].concat());

        let huge = "x".repeat(STATEMENT_BYTES_MAX + 1);
        let rows = vec![huge.as_str(); 9];
        let filled = statements(&PUT_MESSAGES, &rows, |binds, text| {
            binds.put(*text).put(0);
        });
        assert_eq!(filled.len(), 9, "a single row is never cut");
    }
}
