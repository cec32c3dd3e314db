//! `compute-ha quarantine`: what could not be stored, and why.

use super::status::{Format, width};
use super::{ConfigArgs, DaemonError, files, logging, output, plan, signals};
use crate::config::{Loaded, LogSettings, Purpose};
use crate::events;
use crate::model::Secret;
use crate::status::quarantine::{list_json, list_table, message_json, message_text};
use crate::storage::{Database, StoreError};

/// What is asked of the quarantine.
#[derive(Debug, Clone, PartialEq, Eq, clap::Subcommand)]
pub enum Command {
    /// List what is in it, the newest first
    List {
        /// A table for people or JSON for programs
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
    /// Show one message with all that is known about it
    Show {
        /// Its number
        id: i64,

        /// Text for people or JSON for programs
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
    /// Drop messages for good
    Purge {
        /// Their numbers
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        ids: Vec<i64>,

        /// All of them
        #[arg(long)]
        all: bool,
    },
}

/// Does it. A number that isn't there is exit code 1.
pub fn run(args: &ConfigArgs, command: &Command) -> Result<(), DaemonError> {
    let Loaded {
        settings, options, ..
    } = files::load_settings(args, Purpose::Operator)?;
    if args.check_config {
        return plan::print_database(&settings, &options);
    }
    let connection = &settings.database.connection;
    let runtime = signals::runtime()?;
    match command {
        Command::List { format } => runtime.block_on(list(connection, *format)),
        Command::Show { id, format } => runtime.block_on(show(connection, *id, *format)),
        Command::Purge { ids, .. } => {
            let wanted = (!ids.is_empty()).then(|| ids.clone());
            let purged = runtime.block_on(purge(connection, wanted))?;
            told(&settings.log, ids, &purged)
        }
    }
}

async fn list(connection: &Secret, format: Format) -> Result<(), DaemonError> {
    let database = Database::open_read_only(connection).await.map_err(failed)?;
    let rows = database.quarantined().await;
    database.close().await;
    let rows = rows.map_err(failed)?;
    match format {
        Format::Table => output::write(&list_table(&rows, width())),
        Format::Json => output::write(&json(list_json(&rows))?),
    }
}

async fn show(connection: &Secret, id: i64, format: Format) -> Result<(), DaemonError> {
    let database = Database::open_read_only(connection).await.map_err(failed)?;
    let message = database.quarantined_message(id).await;
    database.close().await;
    let Some(message) = message.map_err(failed)? else {
        return Err(not_there(&[id]));
    };
    match format {
        Format::Table => output::write(&message_text(&message)),
        Format::Json => output::write(&json(message_json(&message))?),
    }
}

async fn purge(connection: &Secret, ids: Option<Vec<i64>>) -> Result<Vec<i64>, DaemonError> {
    let database = Database::open(connection).await.map_err(failed)?;
    let purged = database.purge_quarantine(ids).await;
    database.close().await;
    purged.map_err(failed)
}

fn told(log: &LogSettings, ids: &[i64], purged: &[i64]) -> Result<(), DaemonError> {
    if !purged.is_empty() {
        let _log = logging::start_beside_a_terminal(log)?;
        events::quarantine_purged(purged.len());
    }
    output::line(format_args!("purged {} messages", purged.len()))?;
    let missing: Vec<i64> = ids
        .iter()
        .copied()
        .filter(|id| !purged.contains(id))
        .collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(not_there(&missing)),
    }
}

fn json(written: Result<String, serde_json::Error>) -> Result<String, DaemonError> {
    written.map_err(|error| DaemonError::failed("writing JSON", error))
}

fn failed(error: StoreError) -> DaemonError {
    DaemonError::failed("looking into the quarantine", error)
}

fn not_there(ids: &[i64]) -> DaemonError {
    let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
    DaemonError::failed(
        "looking into the quarantine",
        format!("it has no message {}", ids.join(", ")),
    )
}
