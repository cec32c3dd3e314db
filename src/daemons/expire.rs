//! `ceilometer-collector-ha expire`: deletes history that is past its time, now.

use std::time::{Duration, Instant};

use super::{ConfigArgs, DaemonError, files, output, plan, retention, signals};
use crate::clock;
use crate::config::{Loaded, Problem, Problems, Purpose, Severity};
use crate::storage::{Database, Reach, StoreError, Sweep, Swept};

/// How often long work says how far it has come.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Deletes it, or with `is_dry` says what would go. May be interrupted at any time, and runs beside
/// collectors.
pub fn run(args: &ConfigArgs, is_dry: bool) -> Result<(), DaemonError> {
    let Loaded {
        settings, options, ..
    } = files::load_settings(args, Purpose::Collector)?;
    if args.check_config {
        return plan::print_database(&settings, &options);
    }
    let Some(keep) = settings.database.retention else {
        let problem = Problem::new(
            Severity::Error,
            "found no time to live, so samples are kept for ever; set the seconds to keep them for",
        );
        let problem = problem.about("[database] metering_time_to_live");
        return Err(DaemonError::Config(Problems::new(vec![problem])));
    };
    let connection = &settings.database.connection;
    let work = async {
        let database = if is_dry {
            Database::open_read_only(connection).await?
        } else {
            Database::open(connection).await?
        };
        let swept = sweep(&database, keep, is_dry).await;
        database.close().await;
        swept
    };
    let swept = signals::runtime()?
        .block_on(work)
        .map_err(|error| DaemonError::failed("deleting what is past its time", error))?;
    let would = if is_dry { "would delete" } else { "deleted" };
    output::line(format_args!(
        "{would} what is older than {} s: {}",
        keep.as_secs(),
        words(swept, is_dry)
    ))
}

async fn sweep(database: &Database, keep: Duration, is_dry: bool) -> Result<Swept, StoreError> {
    let mut sweep = if is_dry {
        Sweep::dry(keep)
    } else {
        Sweep::new(Some(keep), Reach::Whole, i64::MIN)
    };
    let mut swept = Swept::default();
    let mut told = clock::now();
    while !sweep.is_over() {
        swept.add(retention::step(database, &mut sweep).await?);
        tell(&mut told, swept, is_dry);
    }
    Ok(swept)
}

fn tell(told: &mut Instant, swept: Swept, is_dry: bool) {
    let now = clock::now();
    if now.saturating_duration_since(*told) >= PROGRESS_EVERY {
        *told = now;
        output::complain(format_args!("so far: {}", words(swept, is_dry)));
    }
}

fn words(swept: Swept, is_dry: bool) -> String {
    let Swept {
        samples,
        resources,
        meters,
        seen,
        messages,
    } = swept;
    let history = format!("{samples} samples, {resources} resources, {meters} meters");
    if is_dry {
        return history;
    }
    format!("{history}, {seen} lives of observers, {messages} message ids")
}
