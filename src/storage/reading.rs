//! Reading history as Ceilometer's API did, page by page, so that no answer has to fit into memory.

use std::time::Duration;

use sqlx::{AssertSqlSafe, SqlSafeStr as _};

use super::conditions::Conditions;
use super::engine::{Bind, Found, FromFound, Session};
use super::error::StoreError;
use super::link::{ask, read};
use super::sql::{self, Dialect, reading as texts};
use super::statements::Filled;
use crate::model::UtcTime;
use crate::query::{Cell, Condition, Filter, Group, Order};

/// How many samples are read at a time.
const SAMPLES_MAX: u64 = 1000;

/// How many resources are looked at together. Each may have some rows and dozens of meters.
const RESOURCES_MAX: i64 = 256;

/// How far the reading of samples has come.
#[derive(Debug, Clone)]
pub struct Samples {
    left: u64,
    place: Place,
}

#[derive(Debug, Clone)]
enum Place {
    /// At the newest one.
    Newest,
    /// Behind a sample of that moment, as its table holds it, and with that id.
    Behind(String, i64),
    /// Among those that were never dated, behind an id.
    Undated(i64),
    /// Behind the last one.
    End,
}

impl Samples {
    /// From the newest one on, so many at most.
    pub fn newest(limit: u64) -> Self {
        Samples {
            left: limit,
            place: Place::Newest,
        }
    }
}

/// How far the reading of resources has come, in the order of their ids.
#[derive(Debug, Clone, Default)]
pub struct Resources {
    behind: Option<String>,
}

/// Reads the next page of samples.
pub(crate) async fn samples(
    session: &mut dyn Session,
    filter: &Filter,
    page: &mut Samples,
) -> Result<Vec<Vec<Cell>>, StoreError> {
    let dialect = session.dialect();
    while page.left > 0 && !matches!(page.place, Place::End) {
        let size = page.left.min(SAMPLES_MAX);
        let statement = next_samples(filter, &page.place, size, dialect);
        let found: Vec<Sample> = read(session, vec![statement], "reading samples").await?;
        let count = u64::try_from(found.len()).unwrap_or(u64::MAX);
        page.left -= count.min(page.left);
        page.place = match (found.last(), &page.place) {
            (Some(last), _) if count == size => last.place(),
            (_, Place::Newest | Place::Behind(..)) => Place::Undated(i64::MAX),
            (_, Place::Undated(_) | Place::End) => Place::End,
        };
        if !found.is_empty() {
            return Ok(found.into_iter().map(|row| row.cells(dialect)).collect());
        }
    }
    Ok(Vec::new())
}

fn next_samples<'f>(
    filter: &'f Filter,
    place: &Place,
    size: u64,
    dialect: &'static Dialect,
) -> Filled<'f> {
    let Conditions { text, mut binds } = Conditions::of(filter, dialect);
    let behind = match place {
        Place::Newest => texts::DATED,
        Place::Behind(moment, id) => {
            let moment = || Bind::from(moment.clone());
            binds.extend([moment(), moment(), (*id).into()]);
            texts::DATED_BEHIND
        }
        Place::Undated(id) => {
            binds.push((*id).into());
            texts::UNDATED_BEHIND
        }
        Place::End => texts::NOTHING,
    };
    binds.push(i64::try_from(size).unwrap_or(i64::MAX).into());
    filled(
        format!("{}{text}{behind}{}", texts::SAMPLES, texts::SAMPLES_ORDER),
        binds,
    )
}

/// Reads the meters of the next resources.
pub(crate) async fn meters(
    session: &mut dyn Session,
    filter: &Filter,
    page: &mut Resources,
) -> Result<Option<Vec<Vec<Cell>>>, StoreError> {
    let Some(span) = next_resources(session, page).await? else {
        return Ok(None);
    };
    let Conditions { text, binds } = Conditions::of(filter, session.dialect());
    let binds = span.into_iter().map(Bind::from).chain(binds).collect();
    let text = format!("{}{text}{}", texts::METERS, texts::METERS_ORDER);
    let found: Vec<Texts<7>> = read(session, vec![filled(text, binds)], "reading meters").await?;
    let cells = |Texts(texts): Texts<7>| texts.map(Cell::from).into();
    Ok(Some(found.into_iter().map(cells).collect()))
}

/// Reads the next resources.
pub(crate) async fn resources(
    session: &mut dyn Session,
    filter: &Filter,
    page: &mut Resources,
) -> Result<Option<Vec<Vec<Cell>>>, StoreError> {
    let Some(span) = next_resources(session, page).await? else {
        return Ok(None);
    };
    let dialect = session.dialect();
    let Conditions { text, binds } = Conditions::of(filter, dialect);
    let binds = binds.into_iter().chain(span.into_iter().map(Bind::from));
    let text = format!("{}{text}{}", texts::RESOURCES, texts::RESOURCES_SPAN);
    let statement = filled(text, binds.collect());
    let found: Vec<(String, Option<String>, Option<String>)> =
        read(session, vec![statement], "reading resources").await?;
    let mut rows = Vec::with_capacity(found.len());
    for (resource, first, last) in found {
        let newest = newest_of(session, &resource, last.as_deref()).await?;
        let Some((source, user, project, metadata)) = newest else {
            continue;
        };
        rows.push(vec![
            Cell::Text(resource),
            source.into(),
            user.into(),
            project.into(),
            moment(first, dialect).into(),
            moment(last, dialect).into(),
            metadata.map_or(Cell::Null, Cell::Json),
        ]);
    }
    Ok(Some(rows))
}

type Newest = (
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
);

/// Source, user, project and metadata of a resource, as its newest sample, of that moment, has them.
async fn newest_of(
    session: &mut dyn Session,
    resource: &str,
    last: Option<&str>,
) -> Result<Option<Newest>, StoreError> {
    let operation = "reading a resource";
    let found: Vec<Newest> = match last {
        Some(last) => {
            let binds = vec![resource.into(), last.into()];
            ask(session, texts::NEWEST_OF, binds, operation).await?
        }
        None => ask(session, texts::UNDATED_OF, vec![resource.into()], operation).await?,
    };
    Ok(found.into_iter().next())
}

/// The next resources: the id behind which they come and the last one, both as often as they are
/// bound.
async fn next_resources(
    session: &mut dyn Session,
    page: &mut Resources,
) -> Result<Option<[String; 2]>, StoreError> {
    let behind = page.behind.clone().unwrap_or_default();
    let binds = vec![behind.as_str().into(), RESOURCES_MAX.into()];
    let found: Vec<(Option<String>,)> =
        ask(session, texts::RESOURCES_BEHIND, binds, "listing resources").await?;
    let Some((Some(until),)) = found.into_iter().next() else {
        return Ok(None);
    };
    page.behind = Some(until.clone());
    Ok(Some([behind, until]))
}

/// Reads statistics.
pub(crate) async fn statistics(
    session: &mut dyn Session,
    filter: &Filter,
    period: Option<Duration>,
    groups: &[Group],
) -> Result<Vec<Vec<Cell>>, StoreError> {
    let dialect = session.dialect();
    let mut periods = None;
    if let Some(length) = period {
        let length = i64::try_from(length.as_micros()).unwrap_or(i64::MAX).max(1);
        let Some(start) = first_period(session, filter).await? else {
            return Ok(Vec::new());
        };
        periods = Some((start.unix_micros(), length));
    }
    let statement = sums(filter, periods, groups, dialect);
    let found: Vec<Sums> = read(session, vec![statement], "reading statistics").await?;
    Ok(found
        .into_iter()
        .map(|sums| sums.cells(periods, groups, dialect))
        .collect())
}

/// When the first period begins: where the filter does, or else with the first sample.
async fn first_period(
    session: &mut dyn Session,
    filter: &Filter,
) -> Result<Option<UtcTime>, StoreError> {
    let from = filter
        .conditions
        .iter()
        .filter_map(|condition| match condition {
            Condition::Taken(Order::More | Order::MoreOrEqual, at) => Some(*at),
            _ => None,
        });
    if let Some(from) = from.max() {
        return Ok(Some(from));
    }
    let dialect = session.dialect();
    let Conditions { text, binds } = Conditions::of(filter, dialect);
    let statement = filled(format!("{}{text}", texts::FIRST), binds);
    let found: Vec<(Option<String>,)> =
        read(session, vec![statement], "reading statistics").await?;
    let first = found.into_iter().next().and_then(|(first,)| first);
    Ok(moment(first, dialect))
}

fn sums<'f>(
    filter: &'f Filter,
    periods: Option<(i64, i64)>,
    groups: &[Group],
    dialect: &'static Dialect,
) -> Filled<'f> {
    let Conditions { text, binds } = Conditions::of(filter, dialect);
    let mut all = Vec::new();
    let (period, dated) = match periods {
        Some((start, length)) => {
            all.extend([Bind::Int(start), Bind::Int(length)]);
            (dialect.period, texts::DATED)
        }
        None => ("0", ""),
    };
    all.extend(binds);
    let of = |group: Group| match groups.contains(&group) {
        true => sql::reading::column(group),
        false => "''",
    };
    let [resource, user, project, source] = Group::ALL.map(of);
    let text = format!(
        "SELECT {period} AS nth, meter.unit AS unit, {resource} AS by_resource, {user} AS by_user, \
         {project} AS by_project, {source} AS by_source, {}{text}{dated}{}",
        texts::SUMS,
        texts::SUMS_GROUPS
    );
    filled(text, all)
}

fn filled(text: String, binds: Vec<Bind<'_>>) -> Filled<'_> {
    Filled {
        // Constants of ours; what was asked for is bound.
        text: AssertSqlSafe(text).into_sql_str(),
        binds,
    }
}

fn moment(text: Option<String>, dialect: &'static Dialect) -> Option<UtcTime> {
    text.and_then(|text| (dialect.moment_of)(&text))
}

/// A row of so many texts.
struct Texts<const N: usize>([Option<String>; N]);

impl<const N: usize> FromFound for Texts<N> {
    fn from_found(found: Found<'_>) -> Result<Self, sqlx::Error> {
        let mut texts = [const { None }; N];
        for (column, text) in texts.iter_mut().enumerate() {
            *text = found.get(column)?;
        }
        Ok(Texts(texts))
    }
}

struct Sample {
    id: i64,
    volume: Option<f64>,
    timestamp: Option<String>,
    recorded_at: Option<String>,
    message_id: Option<String>,
    name: String,
    kind: Option<String>,
    unit: Option<String>,
    resource_id: String,
    user_id: Option<String>,
    project_id: Option<String>,
    source: Option<String>,
    metadata: Option<String>,
}

impl FromFound for Sample {
    fn from_found(found: Found<'_>) -> Result<Self, sqlx::Error> {
        Ok(Sample {
            id: found.get(0)?,
            volume: found.get(1)?,
            timestamp: found.get(2)?,
            recorded_at: found.get(3)?,
            message_id: found.get(4)?,
            name: found.get(5)?,
            kind: found.get(6)?,
            unit: found.get(7)?,
            resource_id: found.get(8)?,
            user_id: found.get(9)?,
            project_id: found.get(10)?,
            source: found.get(11)?,
            metadata: found.get(12)?,
        })
    }
}

impl Sample {
    fn place(&self) -> Place {
        match &self.timestamp {
            Some(timestamp) => Place::Behind(timestamp.clone(), self.id),
            None => Place::Undated(self.id),
        }
    }

    /// In the order of [`crate::query::SAMPLES`].
    fn cells(self, dialect: &'static Dialect) -> Vec<Cell> {
        vec![
            Cell::Text(self.resource_id),
            Cell::Text(self.name),
            self.kind.into(),
            self.volume.into(),
            self.unit.into(),
            moment(self.timestamp, dialect).into(),
            moment(self.recorded_at, dialect).into(),
            self.user_id.into(),
            self.project_id.into(),
            self.source.into(),
            self.message_id.into(),
            self.metadata.map_or(Cell::Null, Cell::Json),
        ]
    }
}

struct Sums {
    nth: i64,
    unit: Option<String>,
    by: [Option<String>; 4],
    max: Option<f64>,
    min: Option<f64>,
    avg: Option<f64>,
    sum: Option<f64>,
    count: i64,
    first: Option<String>,
    last: Option<String>,
}

impl FromFound for Sums {
    fn from_found(found: Found<'_>) -> Result<Self, sqlx::Error> {
        Ok(Sums {
            nth: found.get(0)?,
            unit: found.get(1)?,
            by: [found.get(2)?, found.get(3)?, found.get(4)?, found.get(5)?],
            max: found.get(6)?,
            min: found.get(7)?,
            avg: found.get(8)?,
            sum: found.get(9)?,
            count: found.get(10)?,
            first: found.get(11)?,
            last: found.get(12)?,
        })
    }
}

impl Sums {
    /// In the order of [`crate::query::STATISTICS`].
    fn cells(
        self,
        periods: Option<(i64, i64)>,
        groups: &[Group],
        dialect: &'static Dialect,
    ) -> Vec<Cell> {
        let first = moment(self.first, dialect);
        let last = moment(self.last, dialect);
        let (period, start, end) = match periods {
            Some((start, length)) => {
                let begin = start.saturating_add(self.nth.saturating_mul(length));
                (
                    length / 1_000_000,
                    Some(UtcTime::from_unix_micros(begin)),
                    Some(UtcTime::from_unix_micros(begin.saturating_add(length))),
                )
            }
            None => (0, first, last),
        };
        let by = Group::ALL.into_iter().zip(self.by);
        let by: Vec<(&str, Cell)> = by
            .filter(|(group, _)| groups.contains(group))
            .map(|(group, value)| (group.as_str(), value.into()))
            .collect();
        let duration = first
            .zip(last)
            .map(|(first, last)| last.seconds_since(first));
        vec![
            Cell::Int(period),
            start.into(),
            end.into(),
            if by.is_empty() {
                Cell::Null
            } else {
                Cell::Map(by)
            },
            self.unit.into(),
            self.max.into(),
            self.min.into(),
            self.avg.into(),
            self.sum.into(),
            Cell::Int(self.count),
            duration.into(),
            first.into(),
            last.into(),
        ]
    }
}
