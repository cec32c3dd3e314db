//! docs/storage.md names every table and column of a fresh database, each with its type, and none that
//! isn't there.

#![cfg(feature = "storage")]
// Helpers of tests may fail as tests do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::collections::BTreeMap;

use support::store::{Scratch, on_each_engine};

/// The columns of tables with their types, in order.
type Schema = BTreeMap<String, Vec<(String, String)>>;

/// What the page says of the engine whose types stand in this place of each row.
fn documented(place: usize) -> Schema {
    let page = include_str!("../docs/storage.md");
    let mut schema = Schema::new();
    let mut table = None;
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix('#') {
            let name = heading.trim_start_matches('#').trim();
            table = name
                .strip_prefix('`')
                .and_then(|name| name.strip_suffix('`'));
            continue;
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let (Some(table), [_, column, _, _, what, _]) = (table, cells.as_slice()) else {
            continue;
        };
        let Some(column) = column
            .strip_prefix('`')
            .and_then(|name| name.strip_suffix('`'))
        else {
            continue;
        };
        assert!(!what.is_empty(), "{table}.{column} isn't explained");
        let kind = cells[place].trim_matches('`');
        if kind != "–" {
            let columns = schema.entry(table.to_owned()).or_default();
            columns.push((column.to_owned(), kind.to_owned()));
        }
    }
    schema
}

/// What there is.
async fn real(scratch: &Scratch) -> Schema {
    let text = if scratch.is_sqlite() {
        "SELECT m.name, c.name, c.type FROM sqlite_master AS m JOIN pragma_table_info(m.name) AS c \
         WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%' ORDER BY m.name, c.cid"
    } else {
        "SELECT table_name, column_name, upper(column_type) FROM information_schema.columns \
         WHERE table_schema = DATABASE() ORDER BY table_name, ordinal_position"
    };
    let mut schema = Schema::new();
    for row in scratch.cells(text).await {
        let [table, column, kind] = [0, 1, 2].map(|cell: usize| row[cell].clone().unwrap());
        // The width of an integer is a matter of display.
        let kind = match kind.split_once('(') {
            Some((integer, _)) if integer.ends_with("INT") => integer.to_owned(),
            _ => kind,
        };
        schema.entry(table).or_default().push((column, kind));
    }
    schema
}

on_each_engine! {
    async fn the_page_names_every_table_and_column_that_there_is(scratch: Scratch) {
        scratch.open().await.close().await;
        let documented = documented(if scratch.is_sqlite() { 2 } else { 3 });
        let real = real(&scratch).await;
        let tables = |schema: &Schema| schema.keys().cloned().collect::<Vec<_>>();
        assert_eq!(tables(&documented), tables(&real));
        for (table, columns) in real {
            assert_eq!(documented[&table], columns, "{table}");
        }
    }
}
