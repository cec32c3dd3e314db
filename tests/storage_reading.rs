//! Questions about history, against what a reader finds who looks at every sample one by one.

#![cfg(feature = "storage")]
// Helpers of tests may fail as tests do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ceilometer_ha::model::{Received, ReceivedMeter, UtcTime, Value};
use ceilometer_ha::query::{self, Cell, Filter, Group};
use ceilometer_ha::storage::{Database, Resources, Samples};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use support::store::{Scratch, on_each_engine};
use tokio::runtime::Handle;
use tokio::task::block_in_place;

/// 2016-05-04T03:00:00.
const BEGIN: i64 = 1_462_330_800_000_000;
/// Moments are halves of a second, periods whole ones.
const TICK: i64 = 500_000;

/// A sample as the test knows it: which meter, resource, owner, cluster and number of vCPUs, when, how
/// much.
#[derive(Debug, Clone)]
struct Known {
    id: usize,
    meter: u8,
    resource: u8,
    project: Option<u8>,
    cluster: Option<u8>,
    vcpus: u8,
    tick: Option<i64>,
    volume: Option<u8>,
}

impl Known {
    fn received(&self) -> Received {
        let mut metadata = vec![
            ("vcpus".to_owned(), Value::Int(self.vcpus.into())),
            (
                "share".to_owned(),
                Value::Float(f64::from(self.vcpus) / 2.0),
            ),
            ("is_public".to_owned(), Value::Bool(self.vcpus > 1)),
        ];
        if let Some(cluster) = self.cluster {
            let tags = vec![(
                "cluster".to_owned(),
                Value::from(format!("c{cluster}").as_str()),
            )];
            metadata.push(("user_metadata".to_owned(), Value::Map(tags)));
        }
        Received {
            identity: None,
            path: None,
            evidence: ceilometer_ha::model::Evidence::default(),
            message_id: self.message(),
            signature: String::new(),
            source: "openstack".to_owned(),
            meter: ReceivedMeter {
                name: self.meter(),
                kind: Some("gauge".to_owned()),
                unit: Some("u".to_owned()),
            },
            volume: self.volume.map(f64::from),
            resource_id: self.resource(),
            user_id: None,
            project_id: self.project.map(|project| format!("p{project}")),
            timestamp: self.at(),
            metadata: Value::Map(metadata),
        }
    }

    fn message(&self) -> String {
        format!("message-{}", self.id)
    }

    fn meter(&self) -> String {
        format!("m{}", self.meter)
    }

    fn resource(&self) -> String {
        format!("r{}", self.resource)
    }

    fn at(&self) -> Option<UtcTime> {
        let tick = self.tick?;
        Some(UtcTime::from_unix_micros(BEGIN + tick * TICK))
    }
}

fn known() -> impl Strategy<Value = Vec<Known>> {
    let one = (
        0..3_u8,
        0..4_u8,
        prop::option::of(0..2_u8),
        prop::option::of(0..2_u8),
        1..3_u8,
        prop::option::weighted(0.9, 0..20_i64),
        prop::option::weighted(0.9, 0..4_u8),
    );
    prop::collection::vec(one, 0..60).prop_map(|all| {
        let known = all.into_iter().enumerate();
        known
            .map(
                |(id, (meter, resource, project, cluster, vcpus, tick, volume))| Known {
                    id,
                    meter,
                    resource,
                    project,
                    cluster,
                    vcpus,
                    tick,
                    volume,
                },
            )
            .collect()
    })
}

/// A condition as text and as what it means.
#[derive(Debug, Clone)]
enum Wish {
    Resource(u8, bool),
    Project(u8, bool),
    Meter(u8),
    Message(usize),
    Cluster(u8, bool),
    Vcpus(&'static str, u8),
    Share(&'static str, u8),
    Public(bool),
    Time(&'static str, i64),
    Nobody,
}

fn wish() -> impl Strategy<Value = Wish> {
    let operator = || prop::sample::select(vec!["=", "!=", "<", "<=", ">", ">="]);
    let order = prop::sample::select(vec!["<", "<=", ">", ">="]);
    prop_oneof![
        (0..4_u8, any::<bool>()).prop_map(|(r, is)| Wish::Resource(r, is)),
        (0..2_u8, any::<bool>()).prop_map(|(p, is)| Wish::Project(p, is)),
        (0..3_u8).prop_map(Wish::Meter),
        (0..60_usize).prop_map(Wish::Message),
        (0..2_u8, any::<bool>()).prop_map(|(c, is)| Wish::Cluster(c, is)),
        (operator(), 1..3_u8).prop_map(|(op, n)| Wish::Vcpus(op, n)),
        (operator(), 1..3_u8).prop_map(|(op, n)| Wish::Share(op, n)),
        any::<bool>().prop_map(Wish::Public),
        (order, 0..20_i64).prop_map(|(op, tick)| Wish::Time(op, tick)),
        Just(Wish::Nobody),
    ]
}

/// Some conditions, and often two that bound the time from below.
fn wishes() -> impl Strategy<Value = Vec<Wish>> {
    let since = || {
        let order = prop::sample::select(vec![">", ">="]);
        (order, 0..10_i64).prop_map(|(op, tick)| Wish::Time(op, tick))
    };
    let any = prop::collection::vec(wish(), 0..3);
    (any, prop::option::weighted(0.3, (since(), since()))).prop_map(|(mut all, both)| {
        all.extend(both.into_iter().flat_map(|(one, other)| [one, other]));
        all
    })
}

fn compares<T: PartialOrd + Copy>(one: T, operator: &str, other: T) -> bool {
    match operator {
        "=" => one == other,
        "!=" => one != other,
        "<" => one < other,
        "<=" => one <= other,
        ">" => one > other,
        ">=" => one >= other,
        _ => unreachable!(),
    }
}

impl Wish {
    fn text(&self) -> String {
        let is = |is: bool| if is { "=" } else { "!=" };
        match self {
            Wish::Resource(r, yes) => format!("resource_id{}r{r}", is(*yes)),
            Wish::Project(p, yes) => format!("project{}p{p}", is(*yes)),
            Wish::Meter(m) => format!("meter=m{m}"),
            Wish::Message(id) => format!("message_id=message-{id}"),
            Wish::Cluster(c, yes) => format!("metadata.user_metadata.cluster{}c{c}", is(*yes)),
            Wish::Vcpus(op, n) => format!("metadata.vcpus{op}{n}"),
            Wish::Share(op, n) => {
                format!("resource_metadata.share{op}float::{}", f64::from(*n) / 2.0)
            }
            Wish::Public(yes) => format!("metadata.is_public=boolean::{yes}"),
            Wish::Time(op, tick) => {
                format!(
                    "timestamp{op}{}",
                    UtcTime::from_unix_micros(BEGIN + tick * TICK)
                )
            }
            // Quotes and wildcards are a value like any other.
            Wish::Nobody => "user_id='; DROP TABLE sample --%".replace(';', ""),
        }
    }

    fn holds(&self, known: &Known) -> bool {
        match self {
            Wish::Resource(r, yes) => (known.resource == *r) == *yes,
            Wish::Project(p, yes) => known.project.is_some_and(|project| (project == *p) == *yes),
            Wish::Meter(m) => known.meter == *m,
            Wish::Message(id) => known.id == *id,
            Wish::Cluster(c, yes) => known.cluster.is_some_and(|cluster| (cluster == *c) == *yes),
            Wish::Vcpus(op, n) | Wish::Share(op, n) => compares(known.vcpus, op, *n),
            Wish::Public(yes) => (known.vcpus > 1) == *yes,
            Wish::Time(op, tick) => known.tick.is_some_and(|at| compares(at, op, *tick)),
            Wish::Nobody => false,
        }
    }
}

/// Stores these samples and nothing else.
async fn store(scratch: &Scratch, db: &Database, known: &[Known]) {
    scratch.empty().await;
    let batch: Vec<Received> = known.iter().map(Known::received).collect();
    assert_eq!(db.store(&batch).await.unwrap().stored, batch.len());
}

fn place(columns: &[query::Column], name: &str) -> usize {
    columns
        .iter()
        .position(|column| column.name == name)
        .unwrap()
}

fn texts(rows: &[Vec<Cell>], columns: &[query::Column], name: &str) -> Vec<String> {
    let place = place(columns, name);
    rows.iter()
        .map(|row| match &row[place] {
            Cell::Text(text) => text.clone(),
            Cell::Null => "None".to_owned(),
            other => panic!("{name} is {other:?}"),
        })
        .collect()
}

async fn all_samples(db: &Database, filter: &Filter, limit: u64) -> Vec<Vec<Cell>> {
    let mut page = Samples::newest(limit);
    let mut all = Vec::new();
    loop {
        let rows = db.samples(filter, &mut page).await.unwrap();
        if rows.is_empty() {
            return all;
        }
        all.extend(rows);
    }
}

async fn all_resources(db: &Database, filter: &Filter) -> Vec<Vec<Cell>> {
    let mut page = Resources::default();
    let mut all = Vec::new();
    while let Some(rows) = db.resources(filter, &mut page).await.unwrap() {
        all.extend(rows);
    }
    all
}

async fn all_meters(db: &Database, filter: &Filter) -> Vec<Vec<Cell>> {
    let mut page = Resources::default();
    let mut all = Vec::new();
    while let Some(rows) = db.meters(filter, &mut page).await.unwrap() {
        all.extend(rows);
    }
    all
}

async fn answers_are_right(
    scratch: &Scratch,
    db: &Database,
    known: Vec<Known>,
    wishes: Vec<Wish>,
    limit: u64,
) {
    store(scratch, db, &known).await;
    let query: Vec<String> = wishes.iter().map(Wish::text).collect();
    let filter: Filter = query.join("; ").parse().unwrap();
    let meant = |known: &Known| wishes.iter().all(|wish| wish.holds(known));

    // Newest first; those without a date are the oldest.
    let mut expected: Vec<&Known> = known.iter().filter(|known| meant(known)).collect();
    expected.sort_by_key(|known| Reverse((known.tick, known.id)));
    let ids: Vec<String> = expected.iter().map(|known| known.message()).collect();
    let limited = usize::try_from(limit).unwrap().min(ids.len());
    let rows = all_samples(db, &filter, limit).await;
    assert_eq!(texts(&rows, query::SAMPLES, "message_id"), ids[..limited]);

    resources_are_right(db, &filter, &known, &expected).await;
    meters_are_right(db, &filter, &known, meant).await;
    for period in [None, Some(1), Some(3), Some(7)] {
        statistics_are_right(db, &filter, &wishes, &expected, period).await;
    }
}

async fn resources_are_right(db: &Database, filter: &Filter, known: &[Known], meant: &[&Known]) {
    let rows = all_resources(db, filter).await;
    let moments = |resource: &str| -> Vec<UtcTime> {
        let of = meant.iter().filter(|known| known.resource() == resource);
        of.filter_map(|known| known.at()).collect()
    };
    let expected: BTreeSet<String> = meant.iter().map(|known| known.resource()).collect();
    let found = texts(&rows, query::RESOURCES, "resource_id");
    assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
    let projects = texts(&rows, query::RESOURCES, "project_id");
    for ((row, resource), project) in rows.iter().zip(&found).zip(projects) {
        let time = |time: Option<UtcTime>| time.map_or(Cell::Null, Cell::Time);
        let first = moments(resource).into_iter().min();
        let last = moments(resource).into_iter().max();
        assert_eq!(
            row[place(query::RESOURCES, "first_sample_timestamp")],
            time(first)
        );
        assert_eq!(
            row[place(query::RESOURCES, "last_sample_timestamp")],
            time(last)
        );
        // As its newest sample of that moment has it, whatever the question was.
        let newest = known
            .iter()
            .filter(|known| &known.resource() == resource)
            .filter(|known| last.is_none() || known.at() == last)
            .max_by_key(|known| known.id)
            .unwrap();
        let owner = newest
            .project
            .map_or("None".to_owned(), |project| format!("p{project}"));
        assert_eq!(project, owner, "{resource}");
    }
}

async fn meters_are_right(
    db: &Database,
    filter: &Filter,
    known: &[Known],
    meant: impl Fn(&Known) -> bool,
) {
    let rows = all_meters(db, filter).await;
    let mut newest = BTreeMap::new();
    for known in known {
        newest.insert((known.resource(), known.meter()), known);
    }
    newest.retain(|_, known| meant(known));
    let found: Vec<(String, String)> = texts(&rows, query::METERS, "resource_id")
        .into_iter()
        .zip(texts(&rows, query::METERS, "name"))
        .collect();
    assert_eq!(found, newest.into_keys().collect::<Vec<_>>());
}

/// Count, least, greatest, sum, first and last moment of each group and period.
type Sums = (i64, f64, f64, f64, Option<i64>, Option<i64>);

async fn statistics_are_right(
    db: &Database,
    filter: &Filter,
    wishes: &[Wish],
    meant: &[&Known],
    period: Option<u64>,
) {
    let length = period.map(Duration::from_secs);
    let rows = db
        .statistics(filter, length, &[Group::Resource])
        .await
        .unwrap();
    let asked = wishes.iter().filter_map(|wish| match wish {
        Wish::Time(">" | ">=", tick) => Some(*tick),
        _ => None,
    });
    let start = asked
        .max()
        .or(meant.iter().filter_map(|known| known.tick).min());
    let mut expected: BTreeMap<(Option<i64>, String), Sums> = BTreeMap::new();
    for known in meant {
        let nth = match (period, known.tick, start) {
            (None, _, _) => None,
            (Some(period), Some(tick), Some(start)) => {
                Some((tick - start) / (2 * i64::try_from(period).unwrap()))
            }
            // What has no date is in no period.
            (Some(_), ..) => continue,
        };
        let group = expected.entry((nth, known.resource())).or_insert((
            0,
            f64::MAX,
            f64::MIN,
            0.0,
            None,
            None,
        ));
        if let Some(volume) = known.volume.map(f64::from) {
            group.0 += 1;
            group.1 = group.1.min(volume);
            group.2 = group.2.max(volume);
            group.3 += volume;
        }
        group.4 = [group.4, known.tick].into_iter().flatten().min();
        group.5 = group.5.max(known.tick);
    }
    expected.retain(|_, sums| sums.0 > 0);
    assert_eq!(rows.len(), expected.len());
    for (row, ((nth, resource), (count, min, max, sum, first, last))) in rows.iter().zip(expected) {
        let cell = |name| row[place(query::STATISTICS, name)].clone();
        let at = |tick: i64| Cell::Time(UtcTime::from_unix_micros(BEGIN + tick * TICK));
        let time = |tick: Option<i64>| tick.map_or(Cell::Null, at);
        assert_eq!(
            cell("groupby"),
            Cell::Map(vec![("resource_id", Cell::Text(resource))])
        );
        assert_eq!(cell("unit"), Cell::Text("u".into()));
        assert_eq!(cell("count"), Cell::Int(count));
        assert_eq!(
            (cell("min"), cell("max")),
            (Cell::Real(min), Cell::Real(max))
        );
        assert_eq!(cell("sum"), Cell::Real(sum));
        assert_eq!(
            cell("avg"),
            Cell::Real(sum / f64::from(i32::try_from(count).unwrap()))
        );
        assert_eq!(cell("duration_start"), time(first));
        assert_eq!(cell("duration_end"), time(last));
        let seconds = first.zip(last).map(|(first, last)| last - first);
        let seconds = seconds.map(|ticks| f64::from(i32::try_from(ticks).unwrap()) / 2.0);
        assert_eq!(cell("duration"), seconds.map_or(Cell::Null, Cell::Real));
        let period = i64::try_from(period.unwrap_or(0)).unwrap();
        let (begin, end) = match nth {
            Some(nth) => {
                let begin = start.unwrap() + nth * 2 * period;
                (Some(begin), Some(begin + 2 * period))
            }
            None => (first, last),
        };
        assert_eq!(cell("period"), Cell::Int(period));
        assert_eq!(
            (cell("period_start"), cell("period_end")),
            (time(begin), time(end))
        );
    }
}

on_each_engine! {
    async fn whatever_is_asked_is_what_a_reader_of_every_sample_finds(scratch: Scratch) {
        let db = scratch.open().await;
        let config = ProptestConfig {
            cases: 64,
            failure_persistence: None,
            ..ProptestConfig::default()
        };
        let cases = (known(), wishes(), 1..80_u64);
        let found = TestRunner::new(config).run(&cases, |(known, wishes, limit)| {
            let case = answers_are_right(&scratch, &db, known, wishes, limit);
            block_in_place(|| Handle::current().block_on(case));
            Ok(())
        });
        found.unwrap();
    }

    async fn many_samples_come_page_by_page_none_twice_and_none_missing(scratch: Scratch) {
        let db = scratch.open().await;
        // More than two pages, many of one moment, and many of none.
        let known: Vec<Known> = (0..2500)
            .map(|id| Known {
                id,
                meter: 0,
                resource: u8::try_from(id % 200).unwrap(),
                project: None,
                cluster: None,
                vcpus: 1,
                tick: (id % 3 > 0).then_some(i64::try_from(id % 2).unwrap()),
                volume: Some(1),
            })
            .collect();
        store(&scratch, &db, &known).await;
        let mut expected: Vec<&Known> = known.iter().collect();
        expected.sort_by_key(|known| Reverse((known.tick, known.id)));
        let expected: Vec<String> = expected.into_iter().map(Known::message).collect();
        let filter = Filter::default();
        let rows = all_samples(&db, &filter, u64::MAX).await;
        assert_eq!(texts(&rows, query::SAMPLES, "message_id"), expected);
        let mut page = Samples::newest(u64::MAX);
        let first = db.samples(&filter, &mut page).await.unwrap();
        assert_eq!(first.len(), 1000, "what is in memory at once is bounded");
    }

    async fn more_resources_than_fit_a_page_are_all_there(scratch: Scratch) {
        let db = scratch.open().await;
        let known: Vec<Known> = (0..=255_u8)
            .flat_map(|resource| [0, 1].map(|meter| (resource, meter)))
            .enumerate()
            .map(|(id, (resource, meter))| Known {
                id,
                meter,
                resource,
                project: Some(meter),
                cluster: None,
                vcpus: 1,
                tick: Some(0),
                volume: Some(1),
            })
            .collect();
        store(&scratch, &db, &known).await;
        let mut last = known[0].received();
        last.resource_id = "s".to_owned();
        last.message_id = "another".to_owned();
        db.store(&[last]).await.unwrap();
        let filter = Filter::default();
        assert_eq!(all_resources(&db, &filter).await.len(), 257);
        assert_eq!(all_meters(&db, &filter).await.len(), 513);
        let mut page = Resources::default();
        let first = db.resources(&filter, &mut page).await.unwrap().unwrap();
        assert_eq!(first.len(), 256);
    }
}
