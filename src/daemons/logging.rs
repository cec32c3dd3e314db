//! Sets the log up: one line an event, to stderr and a file, never waiting for either.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::writer::{BoxMakeWriter, MakeWriterExt};

use super::DaemonError;
use crate::config::LogSettings;

/// Lines that may wait for a slow disk or a full pipe; beyond it lines are lost rather than a probe
/// late.
const LINES_MAX: usize = 16_384;

/// Keeps the log going; what is still waiting is written when it is dropped.
pub(super) struct LogGuard {
    _guards: Vec<WorkerGuard>,
}

/// Starts logging as configured: to the file, if there is one, and to stderr unless `use_stderr`
/// says otherwise and there is a file. `instead_of_stderr` takes what would go to a terminal that
/// is needed for something else.
pub(super) fn start(
    settings: &LogSettings,
    instead_of_stderr: Option<&Path>,
) -> Result<LogGuard, DaemonError> {
    let level = match (settings.debug, settings.verbose) {
        (true, _) => LevelFilter::DEBUG,
        (false, true) => LevelFilter::INFO,
        (false, false) => LevelFilter::WARN,
    };
    let mut outlets = Vec::new();
    if let Some(path) = &settings.file {
        outlets.push(writer(open(path)?));
    }
    if settings.use_stderr || settings.file.is_none() {
        outlets.push(match instead_of_stderr {
            Some(path) => writer(open(path)?),
            None => writer(io::stderr()),
        });
    }
    // A file with escape sequences in it is no use to anybody.
    let is_plain = settings.file.is_some() || instead_of_stderr.is_some();
    let (writers, guards): (Vec<_>, Vec<_>) = outlets.into_iter().unzip();
    let all = writers.into_iter().map(BoxMakeWriter::new);
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(!is_plain && io::stderr().is_terminal())
        .with_writer(
            all.reduce(|one, other| BoxMakeWriter::new(one.and(other)))
                .unwrap_or_else(|| BoxMakeWriter::new(io::stderr)),
        )
        .init();
    end_on_panic();
    Ok(LogGuard { _guards: guards })
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

fn writer(to: impl io::Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LINES_MAX)
        .finish(to)
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
