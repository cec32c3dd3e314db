//! Pure. The fields of each kind of answer: their names in Ceilometer's API, which JSON and CSV keep,
//! and their headings in its client's tables, which have fewer.

use crate::model::UtcTime;

/// One field of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name in JSON and CSV.
    pub name: &'static str,
    /// Its heading in a table, if it is shown there.
    pub heading: Option<&'static str>,
}

/// One value of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// There is none.
    Null,
    /// A text.
    Text(String),
    /// A number that may have a fraction.
    Real(f64),
    /// A whole number.
    Int(i64),
    /// A moment.
    Time(UtcTime),
    /// JSON, as the sender's metadata are kept.
    Json(String),
    /// Names with their values.
    Map(Vec<(&'static str, Cell)>),
}

impl From<Option<String>> for Cell {
    fn from(text: Option<String>) -> Self {
        text.map_or(Cell::Null, Cell::Text)
    }
}

impl From<Option<UtcTime>> for Cell {
    fn from(time: Option<UtcTime>) -> Self {
        time.map_or(Cell::Null, Cell::Time)
    }
}

impl From<Option<f64>> for Cell {
    fn from(number: Option<f64>) -> Self {
        number.map_or(Cell::Null, Cell::Real)
    }
}

macro_rules! columns {
    ($($name:literal $(=> $heading:literal)?),+ $(,)?) => {
        &[$(Column { name: $name, heading: columns!(@ $($heading)?) }),+]
    };
    (@) => { None };
    (@ $heading:literal) => { Some($heading) };
}

/// A sample, as `/v2/meters/NAME` gives it.
pub const SAMPLES: &[Column] = columns![
    "resource_id" => "Resource ID",
    "counter_name" => "Name",
    "counter_type" => "Type",
    "counter_volume" => "Volume",
    "counter_unit" => "Unit",
    "timestamp" => "Timestamp",
    "recorded_at",
    "user_id",
    "project_id",
    "source",
    "message_id",
    "resource_metadata",
];

/// A meter of a resource.
pub const METERS: &[Column] = columns![
    "name" => "Name",
    "type" => "Type",
    "unit" => "Unit",
    "resource_id" => "Resource ID",
    "user_id" => "User ID",
    "project_id" => "Project ID",
    "source",
];

/// A resource.
pub const RESOURCES: &[Column] = columns![
    "resource_id" => "Resource ID",
    "source" => "Source",
    "user_id" => "User ID",
    "project_id" => "Project ID",
    "first_sample_timestamp" => "First Sample",
    "last_sample_timestamp" => "Last Sample",
    "metadata",
];

/// Statistics of one period and group.
pub const STATISTICS: &[Column] = columns![
    "period" => "Period",
    "period_start" => "Period Start",
    "period_end" => "Period End",
    "groupby" => "Group By",
    "unit" => "Unit",
    "max" => "Max",
    "min" => "Min",
    "avg" => "Avg",
    "sum" => "Sum",
    "count" => "Count",
    "duration" => "Duration",
    "duration_start" => "Duration Start",
    "duration_end" => "Duration End",
];
