//! `compute-ha samples`, `meters`, `resources` and `statistics`: what Ceilometer's client showed of
//! history.

use std::io::{self, IsTerminal};
use std::time::Duration;

use super::{ConfigArgs, DaemonError, files, output, plan, signals};
use crate::config::{Loaded, Purpose};
use crate::query::{self, Column, Field, Filter, Format, Group, Page};
use crate::storage::{Database, Resources, Samples, StoreError};

/// What every question has.
#[derive(Debug, clap::Args)]
pub struct Question {
    /// Which samples are meant: FIELD OP VALUE, several with semicolons between them, all of which must
    /// hold. Fields: resource_id, user_id, project_id, source, message_id, meter (= and !=), timestamp
    /// (<, <=, >, >=), metadata.KEY (all of them for numbers). A value may have its type before it, as
    /// in metadata.vcpus=integer::8; without, it is taken for what Python would take it for
    #[arg(short, long, default_value = "", hide_default_value = true)]
    query: Filter,

    /// A table for people, JSON or CSV for programs
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// `samples`
#[derive(Debug, clap::Args)]
pub struct SamplesArgs {
    #[command(flatten)]
    question: Question,

    /// Only samples of this meter
    #[arg(short, long)]
    meter: Option<String>,

    /// How many samples at most, the newest first
    #[arg(short, long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
}

/// `meters` and `resources`
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    #[command(flatten)]
    question: Question,

    /// How many at most [default: all]
    #[arg(short, long, value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

/// `statistics`
#[derive(Debug, clap::Args)]
pub struct StatisticsArgs {
    #[command(flatten)]
    question: Question,

    /// The meter
    #[arg(short, long)]
    meter: String,

    /// Statistics of every so many seconds; 0 for all samples together
    #[arg(short, long, value_name = "SECONDS", default_value_t = 0)]
    period: u32,

    /// Statistics of each resource_id, user_id, project_id or source; may be given several times
    #[arg(short, long, value_name = "FIELD")]
    groupby: Vec<Group>,
}

/// A question about history.
#[derive(Debug)]
pub enum Ask {
    /// For samples.
    Samples(SamplesArgs),
    /// For the meters of resources.
    Meters(ListArgs),
    /// For resources.
    Resources(ListArgs),
    /// For statistics of a meter.
    Statistics(StatisticsArgs),
}

/// Answers it on stdout.
pub fn run(args: &ConfigArgs, ask: Ask) -> Result<(), DaemonError> {
    let Loaded {
        settings, options, ..
    } = files::load_settings(args, Purpose::Operator)?;
    if args.check_config {
        return plan::print_database(&settings, &options);
    }
    signals::runtime()?.block_on(async {
        let database = Database::open_read_only(&settings.database.connection)
            .await
            .map_err(failed)?;
        let answered = answer(&database, ask).await;
        database.close().await;
        answered
    })
}

async fn answer(database: &Database, ask: Ask) -> Result<(), DaemonError> {
    match ask {
        Ask::Samples(args) => samples(database, args).await,
        Ask::Meters(args) => {
            let mut out = Out::new(&args.question, query::METERS, args.limit);
            let (filter, mut page) = (args.question.query, Resources::default());
            while out.is_open() {
                match database.meters(&filter, &mut page).await.map_err(failed)? {
                    Some(rows) => out.rows(rows)?,
                    None => break,
                }
            }
            out.end()
        }
        Ask::Resources(args) => {
            let mut out = Out::new(&args.question, query::RESOURCES, args.limit);
            let (filter, mut page) = (args.question.query, Resources::default());
            while out.is_open() {
                let rows = database.resources(&filter, &mut page).await;
                match rows.map_err(failed)? {
                    Some(rows) => out.rows(rows)?,
                    None => break,
                }
            }
            out.end()
        }
        Ask::Statistics(args) => statistics(database, args).await,
    }
}

async fn samples(database: &Database, args: SamplesArgs) -> Result<(), DaemonError> {
    let mut out = Out::new(&args.question, query::SAMPLES, Some(args.limit));
    let filter = of_meter(args.question.query, args.meter);
    let mut page = Samples::newest(args.limit);
    loop {
        let rows = database.samples(&filter, &mut page).await.map_err(failed)?;
        if rows.is_empty() {
            return out.end();
        }
        out.rows(rows)?;
    }
}

async fn statistics(database: &Database, args: StatisticsArgs) -> Result<(), DaemonError> {
    let mut out = Out::new(&args.question, query::STATISTICS, None);
    let filter = of_meter(args.question.query, Some(args.meter));
    let period = (args.period > 0).then(|| Duration::from_secs(args.period.into()));
    let rows = database.statistics(&filter, period, &args.groupby).await;
    out.rows(rows.map_err(failed)?)?;
    out.end()
}

fn of_meter(mut filter: Filter, meter: Option<String>) -> Filter {
    let condition =
        meter.map(|meter| query::Condition::Text(Field::Meter, query::Equality::Is, meter));
    filter.conditions.extend(condition);
    filter
}

fn failed(error: StoreError) -> DaemonError {
    DaemonError::failed("reading history", error)
}

/// An answer on its way to stdout.
struct Out {
    page: Page,
    left: u64,
}

impl Out {
    fn new(question: &Question, columns: &'static [Column], limit: Option<u64>) -> Self {
        Out {
            page: Page::new(question.format, columns, io::stdout().is_terminal()),
            left: limit.unwrap_or(u64::MAX),
        }
    }

    /// Whether more would be shown.
    fn is_open(&self) -> bool {
        self.left > 0
    }

    fn rows(&mut self, mut rows: Vec<Vec<query::Cell>>) -> Result<(), DaemonError> {
        rows.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= u64::try_from(rows.len()).unwrap_or(self.left);
        // A page in which nothing was found leaves a table's widths to the next one.
        if rows.is_empty() {
            return Ok(());
        }
        output::write(&self.page.rows(&rows))
    }

    fn end(&mut self) -> Result<(), DaemonError> {
        output::write(&self.page.end())
    }
}
