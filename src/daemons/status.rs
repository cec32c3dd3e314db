//! `compute-ha status`: reads the database and shows the fleet.

use std::io::{self, IsTerminal};
use std::time::Duration;

use super::signals::End;
use super::{ConfigArgs, DaemonError, files, output, plan, signals};
use crate::config::{Loaded, Purpose};
use crate::model::Secret;
use crate::status::{self, FleetView, TableOptions};
use crate::storage::Database;

/// Columns where the terminal doesn't say.
const WIDTH_DEFAULT: usize = 100;

/// How to show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs: one JSON document.
    Json,
}

/// Shows it once, or again and again.
pub fn run(args: &ConfigArgs, format: Format, watch: Option<Duration>) -> Result<(), DaemonError> {
    let Loaded {
        settings, options, ..
    } = files::load_settings(args, Purpose::Operator)?;
    if args.check_config {
        return plan::print_database(&settings, &options);
    }
    let connection = settings.database.connection;
    let runtime = signals::runtime()?;
    match watch {
        None => runtime.block_on(show(&connection, format)),
        Some(period) => {
            let end = End::listen(&runtime)?;
            runtime.block_on(async {
                tokio::select! {
                    () = end.wait() => Ok(()),
                    failed = watch_with(&connection, format, period) => failed,
                }
            })
        }
    }
}

async fn show(connection: &Secret, format: Format) -> Result<(), DaemonError> {
    let view = fleet(connection).await?;
    output::write(&render(&view, format, io::stdout().is_terminal())?)
}

async fn watch_with(
    connection: &Secret,
    format: Format,
    period: Duration,
) -> Result<(), DaemonError> {
    let mut ticks = tokio::time::interval(period);
    loop {
        ticks.tick().await;
        // A database that is being restarted is shown as such, and looked at again.
        let text = match fleet(connection).await {
            Ok(view) => render(&view, format, io::stdout().is_terminal())?,
            Err(error) => format!("{}\n", crate::events::Chain(&error)),
        };
        if io::stdout().is_terminal() && format == Format::Table {
            output::write(&on_clear_screen(&text))?;
        } else {
            output::write(&text)?;
        }
    }
}

async fn fleet(connection: &Secret) -> Result<FleetView, DaemonError> {
    let read = async {
        let database = Database::open_read_only(connection).await?;
        let fleet = database.fleet().await;
        database.close().await;
        fleet
    };
    let fleet = read
        .await
        .map_err(|error| DaemonError::failed("reading the fleet's state", error))?;
    Ok(status::view(&fleet))
}

/// The view as text; a table for a terminal is as wide as the terminal.
pub fn render(view: &FleetView, format: Format, is_terminal: bool) -> Result<String, DaemonError> {
    match format {
        Format::Table => {
            let colour = is_terminal && std::env::var_os("NO_COLOR").is_none();
            Ok(status::render_table(
                view,
                &TableOptions {
                    width: width(),
                    colour,
                },
            ))
        }
        Format::Json => serde_json::to_string_pretty(view)
            .map(|text| text + "\n")
            .map_err(|error| DaemonError::failed("writing JSON", error)),
    }
}

/// The text in place of what the screen shows.
pub fn on_clear_screen(text: &str) -> String {
    format!("\x1b[H\x1b[2J{text}")
}

pub(super) fn width() -> usize {
    let columns = std::env::var("COLUMNS")
        .ok()
        .and_then(|columns| columns.parse().ok());
    columns.or_else(terminal_columns).unwrap_or(WIDTH_DEFAULT)
}

fn terminal_columns() -> Option<usize> {
    terminal_size::terminal_size().map(|(width, _)| usize::from(width.0))
}
