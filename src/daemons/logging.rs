//! Sets the log up: one line an event, to stderr, a file, or both, never waiting for either.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::Registry;
use tracing_subscriber::fmt::writer::{BoxMakeWriter, MakeWriterExt};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use super::DaemonError;
use crate::config::LogSettings;

/// Lines that may wait for a slow disk or a full pipe; beyond it lines are lost rather than a probe
/// late.
const LINES_MAX: usize = 16_384;

/// Keeps the log going; what is still waiting is written when it is dropped.
pub(super) struct LogGuard {
    guards: Vec<WorkerGuard>,
    level: reload::Handle<LevelFilter, Registry>,
}

/// Starts logging as configured. `instead_of_stderr` takes what would go to a terminal that is
/// needed for something else.
pub(super) fn start(
    settings: &LogSettings,
    instead_of_stderr: Option<&Path>,
) -> Result<LogGuard, DaemonError> {
    let (level, handle) = reload::Layer::new(level_of(settings));
    let file = settings.file.as_deref().or(instead_of_stderr);
    // A log that goes nowhere would help nobody.
    let to_stderr = instead_of_stderr.is_none() && (settings.use_stderr || file.is_none());
    let mut log = LogGuard {
        guards: Vec::new(),
        level: handle,
    };
    let in_file = match file {
        Some(path) => log.outlet(open(path)?),
        None => nowhere(),
    };
    let on_stderr = if to_stderr {
        log.outlet(io::stderr())
    } else {
        nowhere()
    };
    let lines = tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_ansi(file.is_none() && io::stderr().is_terminal())
        .with_writer(in_file.and(on_stderr));
    tracing_subscriber::registry()
        .with(level)
        .with(lines)
        .init();
    end_on_panic();
    Ok(log)
}

impl LogGuard {
    /// Another level from now on.
    pub(super) fn set_level(&self, settings: &LogSettings) {
        if let Err(error) = self.level.reload(level_of(settings)) {
            tracing::error!(%error, "changing the log's level failed");
        }
    }

    /// The log's file may have been moved away: its name means another one from now on.
    #[allow(clippy::unused_self)]
    pub(super) fn reopen(&self) {}

    fn outlet(&mut self, to: impl io::Write + Send + 'static) -> BoxMakeWriter {
        let (writer, guard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(LINES_MAX)
            .finish(to);
        self.guards.push(guard);
        BoxMakeWriter::new(writer)
    }
}

fn level_of(settings: &LogSettings) -> LevelFilter {
    match (settings.debug, settings.verbose) {
        (true, _) => LevelFilter::DEBUG,
        (false, true) => LevelFilter::INFO,
        (false, false) => LevelFilter::WARN,
    }
}

fn nowhere() -> BoxMakeWriter {
    BoxMakeWriter::new(io::sink)
}

fn open(path: &Path) -> Result<std::fs::File, DaemonError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .map_err(|error| DaemonError::failed(format!("making {}", folder.display()), error))?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(path)
        .map_err(|error| DaemonError::failed(format!("opening the log {}", path.display()), error))
}

/// A thread that panicked would leave a daemon that lives and does half its job. Ending at once is
/// seen, and the service manager starts it again.
fn end_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        print(info);
        std::process::abort();
    }));
}
