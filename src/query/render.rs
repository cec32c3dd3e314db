//! Pure. Answers as a table, JSON or CSV, page by page. What comes from the database never controls a
//! terminal.

use super::{Cell, Column};
use crate::status::{columns as width_of, harmless, is_unprintable, pad_right, printable};

/// How to show answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs: one JSON list.
    Json,
    /// For spreadsheets: a line of names, then a line for each answer.
    Csv,
}

/// Answers on their way out.
#[derive(Debug)]
pub struct Page {
    format: Format,
    columns: &'static [Column],
    is_terminal: bool,
    /// What a table's columns need; those of the first page's rows.
    widths: Vec<usize>,
    is_begun: bool,
    has_rows: bool,
}

impl Page {
    /// Answers with these columns. CSV is as it is in the database unless a terminal reads it.
    pub fn new(format: Format, columns: &'static [Column], is_terminal: bool) -> Self {
        Page {
            format,
            columns,
            is_terminal,
            widths: Vec::new(),
            is_begun: false,
            has_rows: false,
        }
    }

    /// Some more rows, each with a cell for every column.
    pub fn rows(&mut self, rows: &[Vec<Cell>]) -> String {
        let mut text = self.begin(rows);
        for row in rows {
            match self.format {
                Format::Table => text.push_str(&self.table_row(row)),
                Format::Json => {
                    text.push_str(if self.has_rows { ",\n" } else { "\n" });
                    text.push_str(&self.json_row(row));
                }
                Format::Csv => text.push_str(&self.csv_row(row)),
            }
            self.has_rows = true;
        }
        text
    }

    /// What comes behind the last row.
    pub fn end(&mut self) -> String {
        let mut text = self.begin(&[]);
        match self.format {
            Format::Table => text.push_str(&self.rule()),
            Format::Json if self.has_rows => text.push_str("\n]\n"),
            Format::Json => text.push_str("]\n"),
            Format::Csv => {}
        }
        text
    }

    fn begin(&mut self, rows: &[Vec<Cell>]) -> String {
        if std::mem::replace(&mut self.is_begun, true) {
            return String::new();
        }
        match self.format {
            Format::Table => {
                self.widths = self.measure(rows);
                let headings: Vec<&str> = self.shown().filter_map(|(_, heading)| heading).collect();
                let line = self.line(headings.into_iter().map(str::to_owned));
                format!("{rule}{line}{rule}", rule = self.rule())
            }
            Format::Json => "[".to_owned(),
            Format::Csv => {
                let names: Vec<&str> = self.columns.iter().map(|column| column.name).collect();
                names.join(",") + "\n"
            }
        }
    }

    /// The columns of a table, by their places.
    fn shown(&self) -> impl Iterator<Item = (usize, Option<&'static str>)> {
        let all = self.columns.iter().enumerate();
        all.filter(|(_, column)| column.heading.is_some())
            .map(|(place, column)| (place, column.heading))
    }

    fn measure(&self, rows: &[Vec<Cell>]) -> Vec<usize> {
        let width = |(place, heading): (usize, Option<&str>)| {
            let cells = rows.iter().filter_map(|row| row.get(place));
            let widest = cells.map(|cell| width_of(&table_text(cell))).max();
            let heading = width_of(heading.unwrap_or_default());
            heading.max(widest.unwrap_or(0))
        };
        self.shown().map(width).collect()
    }

    fn rule(&self) -> String {
        let dashes: Vec<String> = self.widths.iter().map(|w| "-".repeat(w + 2)).collect();
        format!("+{}+\n", dashes.join("+"))
    }

    fn line(&self, texts: impl Iterator<Item = String>) -> String {
        let cells: Vec<String> = texts
            .zip(&self.widths)
            .map(|(text, width)| pad_right(&text, *width))
            .collect();
        format!("| {} |\n", cells.join(" | "))
    }

    fn table_row(&self, row: &[Cell]) -> String {
        let texts = self.shown().filter_map(|(place, _)| row.get(place));
        self.line(texts.map(table_text))
    }

    fn json_row(&self, row: &[Cell]) -> String {
        let fields = self.columns.iter().zip(row).map(|(column, cell)| {
            let name = serde_json::Value::from(column.name);
            format!("{name}: {}", json_of(cell))
        });
        let fields: Vec<String> = fields.collect();
        escaped(&format!("{{{}}}", fields.join(", ")))
    }

    fn csv_row(&self, row: &[Cell]) -> String {
        let cells = row.iter().map(|cell| match cell {
            Cell::Null => String::new(),
            Cell::Text(text) | Cell::Json(text) if self.is_terminal => quoted(&harmless(text)),
            Cell::Map(_) => quoted(&escaped(&json_of(cell).to_string())),
            _ => quoted(&plain(cell)),
        });
        let cells: Vec<String> = cells.collect();
        cells.join(",") + "\n"
    }
}

/// A cell as a table shows it.
fn table_text(cell: &Cell) -> String {
    printable(&plain(cell))
}

fn plain(cell: &Cell) -> String {
    match cell {
        Cell::Null => "None".to_owned(),
        Cell::Text(text) | Cell::Json(text) => text.clone(),
        // Always with a fraction, as Python writes a float.
        Cell::Real(number) => format!("{number:?}"),
        Cell::Int(number) => number.to_string(),
        Cell::Time(time) => time.to_string(),
        Cell::Map(fields) => {
            let fields = fields
                .iter()
                .map(|(name, cell)| format!("{name}={}", plain(cell)));
            fields.collect::<Vec<_>>().join(" ")
        }
    }
}

fn json_of(cell: &Cell) -> serde_json::Value {
    match cell {
        Cell::Null => serde_json::Value::Null,
        Cell::Text(text) => text.as_str().into(),
        // JSON knows no infinity.
        Cell::Real(number) => (*number).into(),
        Cell::Int(number) => (*number).into(),
        Cell::Time(time) => time.to_string().into(),
        // What is no JSON, because another program wrote it, is the text that it is.
        Cell::Json(text) => serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into()),
        Cell::Map(fields) => fields
            .iter()
            .map(|(name, cell)| ((*name).to_owned(), json_of(cell)))
            .collect(),
    }
}

/// The same JSON, without a character that a terminal would obey. Between the strings of JSON there
/// are none.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        if is_unprintable(character) {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            text.push(character);
        }
    }
    text
}

/// A field of CSV after RFC 4180. An empty text has quotes, nothing at all has none.
fn quoted(text: &str) -> String {
    if text.is_empty() || text.contains(['"', ',', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{METERS, STATISTICS};
    use super::*;
    use crate::model::UtcTime;
    use proptest::prelude::*;

    fn meter(name: &str, resource: &str) -> Vec<Cell> {
        let text = |text: &str| Cell::Text(text.to_owned());
        vec![
            text(name),
            text("gauge"),
            text(""),
            text(resource),
            Cell::Null,
            Cell::Null,
            text("openstack"),
        ]
    }

    fn all(format: Format, is_terminal: bool, rows: &[Vec<Cell>]) -> String {
        let mut page = Page::new(format, METERS, is_terminal);
        let text = page.rows(rows);
        text + &page.end()
    }

    #[test]
    fn a_table_is_that_of_ceilometers_client() {
        let rows = [meter("storage_connectivity", "node-1"), meter("x", "żółw")];
        assert_eq!(
            all(Format::Table, true, &rows),
            "\
+----------------------+-------+------+-------------+---------+------------+
| Name                 | Type  | Unit | Resource ID | User ID | Project ID |
+----------------------+-------+------+-------------+---------+------------+
| storage_connectivity | gauge |      | node-1      | None    | None       |
| x                    | gauge |      | żółw        | None    | None       |
+----------------------+-------+------+-------------+---------+------------+
"
        );
    }

    #[test]
    fn pages_make_one_answer() {
        let rows = [meter("a", "x"), meter("b", "y"), meter("c", "z")];
        for format in [Format::Table, Format::Json, Format::Csv] {
            let whole = all(format, false, &rows);
            let mut page = Page::new(format, METERS, false);
            let mut paged = String::new();
            for row in &rows {
                paged.push_str(&page.rows(std::slice::from_ref(row)));
            }
            paged.push_str(&page.end());
            assert_eq!(paged, whole);
        }
        assert_eq!(all(Format::Json, false, &[]), "[]\n");
    }

    #[test]
    fn json_has_the_names_and_types_of_the_api() {
        let at = UtcTime::from_unix_micros(1_462_330_921_000_000);
        let row = vec![
            Cell::Int(60),
            Cell::Time(at),
            Cell::Time(at),
            Cell::Map(vec![("resource_id", Cell::Text("node-1".into()))]),
            Cell::Text("ratio".into()),
            Cell::Real(1.0),
            Cell::Real(0.0),
            Cell::Real(0.1),
            Cell::Real(f64::INFINITY),
            Cell::Int(2),
            Cell::Real(30.0),
            Cell::Null,
            Cell::Null,
        ];
        let mut page = Page::new(Format::Json, STATISTICS, false);
        let text = page.rows(&[row]) + &page.end();
        assert_eq!(
            text,
            "[\n{\"period\": 60, \"period_start\": \"2016-05-04T03:02:01.000000\", \
             \"period_end\": \"2016-05-04T03:02:01.000000\", \
             \"groupby\": {\"resource_id\":\"node-1\"}, \"unit\": \"ratio\", \"max\": 1.0, \
             \"min\": 0.0, \"avg\": 0.1, \"sum\": null, \"count\": 2, \"duration\": 30.0, \
             \"duration_start\": null, \"duration_end\": null}\n]\n"
        );
    }

    /// Reads one line of RFC 4180.
    fn unquoted(text: &str) -> Vec<Option<String>> {
        let (mut fields, mut field, mut is_quoted) = (Vec::new(), None::<String>, false);
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '"' if is_quoted && characters.peek() == Some(&'"') => {
                    characters.next();
                    field.get_or_insert_default().push('"');
                }
                '"' => {
                    is_quoted = !is_quoted;
                    field.get_or_insert_default();
                }
                ',' | '\n' if !is_quoted => fields.push(field.take()),
                _ => field.get_or_insert_default().push(character),
            }
        }
        fields
    }

    proptest! {
        #[test]
        fn csv_and_json_give_every_text_back(name in any::<String>(), resource in any::<String>()) {
            let row = meter(&name, &resource);
            let csv = all(Format::Csv, false, std::slice::from_ref(&row));
            let line = csv.split_once('\n').unwrap().1;
            let read: Vec<Cell> = unquoted(line).into_iter().map(Cell::from).collect();
            prop_assert_eq!(&read, &row);
            let json = all(Format::Json, false, std::slice::from_ref(&row));
            let json: serde_json::Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(json[0]["name"].as_str(), Some(name.as_str()));
            prop_assert_eq!(json[0]["resource_id"].as_str(), Some(resource.as_str()));
        }

        #[test]
        fn nothing_that_a_terminal_obeys_comes_out(name in "(\\PC|[\u{0}-\u{9f}\u{202e}\u{feff}])*") {
            let mut row = meter(&name, "x");
            row[6] = Cell::Json(format!("{{\"k\": {}}}", serde_json::Value::from(name)));
            for format in [Format::Table, Format::Json, Format::Csv] {
                let text = all(format, true, std::slice::from_ref(&row));
                prop_assert!(text.chars().all(|c| c == '\n' || !is_unprintable(c)), "{}", text);
            }
        }
    }
}
