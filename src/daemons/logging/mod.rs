//! The log: one record an event, to standard error, a file, syslog or the journal. Each destination
//! has a bounded queue and a thread of its own, so that a full pipe, a hung disk or a stopped daemon
//! costs lines, which are counted, and never anybody's time.

mod file;
mod journal;
mod outlet;
mod queue;
mod record;
mod stderr;
mod stream;
mod syslog;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;

use self::file::LogFile;
use self::journal::Journal;
use self::outlet::Destination;
use self::queue::Queue;
use self::record::{Form, Record};
use self::stderr::Stderr;
use self::syslog::Syslog;
use super::{DaemonError, output};
use crate::clock;
use crate::config::LogSettings;

/// How long a start waits for the disk to open the log file; then it goes on, and the file is
/// opened whenever the disk answers.
const OPEN_LIMIT: Duration = Duration::from_secs(1);
/// What the end of a process leaves all destinations together to write what waits.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);

/// Keeps the log going; what still waits is written when it is dropped, for a second at most.
// A command's log ends before anything in it could change; a daemon's doesn't.
#[cfg_attr(not(any(feature = "agent", feature = "collector")), allow(dead_code))]
pub(super) struct LogGuard {
    queues: Vec<Arc<Queue>>,
    level: reload::Handle<LevelFilter, Registry>,
}

/// Starts logging as configured. `instead_of_stderr` takes what would go to a terminal that is
/// needed for something else.
pub(super) fn start(
    settings: &LogSettings,
    instead_of_stderr: Option<&Path>,
) -> Result<LogGuard, DaemonError> {
    let mut outlets = Outlets::default();
    let file = settings.file.as_deref().or(instead_of_stderr);
    let to_stderr = instead_of_stderr.is_none() && outlets.add_daemons(settings, file.is_some())?;
    let form = if settings.use_json {
        Form::Json
    } else {
        Form::Text
    };
    if to_stderr {
        outlets.add("stderr", Stderr::new(form))?;
    }
    let opened = match file {
        Some(path) => Some(outlets.add("file", LogFile::new(path, form))?),
        None => None,
    };
    let queues = outlets.queues;
    let (filter, level) = reload::Layer::new(level_of(settings));
    let recorder = Recorder {
        queues: queues.clone(),
    };
    let subscriber = Registry::default().with(filter).with(recorder);
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|error| DaemonError::failed("starting the log", error))?;
    if let (Some(path), Some(opened)) = (file, opened) {
        await_file(path, &opened, to_stderr);
    }
    end_on_panic(queues.clone(), to_stderr);
    Ok(LogGuard { queues, level })
}

/// Starts logging for a command on somebody's terminal, where it tells what it did by itself: only to
/// where a log is kept.
#[cfg(feature = "decider")]
pub(super) fn start_beside_a_terminal(
    settings: &LogSettings,
) -> Result<Option<LogGuard>, DaemonError> {
    let settings = LogSettings {
        use_stderr: false,
        use_journal: settings.use_journal && journal::is_there(),
        ..settings.clone()
    };
    let is_kept =
        settings.file.is_some() || settings.syslog_facility.is_some() || settings.use_journal;
    is_kept.then(|| start(&settings, None)).transpose()
}

#[cfg_attr(not(any(feature = "agent", feature = "collector")), allow(dead_code))]
impl LogGuard {
    /// Opens the log file anew, whatever is now at its path; each thread does so by itself.
    pub(super) fn reopen(&self) {
        for queue in &self.queues {
            queue.reopen();
        }
    }

    /// Logs as much as these settings say from now on.
    pub(super) fn set_level(&self, settings: &LogSettings) {
        if let Err(error) = self.level.reload(level_of(settings)) {
            tracing::error!(%error, "the log's level can't be changed");
        }
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let deadline = clock::now() + DRAIN_LIMIT;
        for queue in &self.queues {
            queue.end();
        }
        for queue in &self.queues {
            queue.wait_for_end(deadline);
        }
    }
}

/// The destinations that were started.
#[derive(Default)]
struct Outlets {
    queues: Vec<Arc<Queue>>,
}

impl Outlets {
    /// Starts those that are daemons of others; returns whether standard error is wanted beside them
    /// and a file. A log that goes nowhere would help nobody.
    fn add_daemons(&mut self, settings: &LogSettings, has_file: bool) -> Result<bool, DaemonError> {
        if let Some(facility) = &settings.syslog_facility {
            self.add("syslog", Syslog::new(facility))?;
        }
        let has_journal = settings.use_journal && journal::is_there();
        if has_journal {
            self.add("journal", Journal::new())?;
        } else if settings.use_journal {
            output::complain(format_args!(
                "warning: [DEFAULT] use_journal: no journal listens at {}, logging to standard error",
                journal::SOCKET
            ));
        }
        let has_other = has_file || has_journal || settings.syslog_facility.is_some();
        let is_asked_for = settings.use_stderr || settings.use_journal;
        Ok(!has_journal && (is_asked_for || !has_other))
    }

    fn add(
        &mut self,
        name: &'static str,
        destination: impl Destination + 'static,
    ) -> Result<outlet::Opened, DaemonError> {
        let queue = Arc::new(Queue::new(crate::events::log_lines_lost(name)));
        let opened = outlet::start(name, destination, Arc::clone(&queue))
            .map_err(|error| DaemonError::failed(format!("starting the log to {name}"), error))?;
        self.queues.push(queue);
        Ok(opened)
    }
}

/// How the events of the message broker's client begin.
const BROKER_CLIENT: &str = "lapin";

/// Makes a record of each event and hands it to every destination.
struct Recorder {
    queues: Vec<Arc<Queue>>,
}

impl<S: Subscriber> Layer<S> for Recorder {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // What lapin has to say of a connection it also gives back, and we say it once; of a message that
        // came back it would log every byte.
        if event.metadata().target().starts_with(BROKER_CLIENT) {
            return;
        }
        let record = Arc::new(Record::of(event, clock::utc()));
        for queue in &self.queues {
            queue.push(Arc::clone(&record));
        }
    }
}

fn level_of(settings: &LogSettings) -> LevelFilter {
    match (settings.debug, settings.verbose) {
        (true, _) => LevelFilter::DEBUG,
        (false, true) => LevelFilter::INFO,
        (false, false) => LevelFilter::WARN,
    }
}

/// Waits for the file, and says loudly that there is none for now. A node is watched with or without
/// a log; the thread goes on trying, and what is logged waits for it as long as there is room.
fn await_file(path: &Path, opened: &outlet::Opened, has_stderr: bool) {
    let why = match opened.recv_timeout(OPEN_LIMIT) {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("the disk doesn't answer for {} s", OPEN_LIMIT.as_secs()),
    };
    let path = path.display();
    tracing::error!("no log in {path} until it can be opened: {why}");
    if !has_stderr {
        output::complain(format_args!(
            "error: no log in {path} until it can be opened: {why}"
        ));
    }
}

/// A thread that panicked would leave a daemon that lives and does half its job. Ending at once is
/// seen, and the service manager starts it again. The last words get a moment, and no more: printing
/// them could block for ever.
fn end_on_panic(queues: Vec<Arc<Queue>>, has_stderr: bool) {
    std::panic::set_hook(Box::new(move |info| {
        let deadline = clock::now() + DRAIN_LIMIT;
        let name = std::thread::current().name().unwrap_or("?").to_owned();
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!("the thread {name} panicked, ending: {info}");
        tracing::debug!("{backtrace}");
        if !has_stderr {
            output::complain(format_args!("the thread {name} panicked: {info}"));
        }
        flush(&queues, deadline);
        std::process::abort();
    }));
}

fn flush(queues: &[Arc<Queue>], deadline: Instant) {
    for queue in queues {
        queue.wait_until_idle(deadline);
    }
}

#[cfg(test)]
mod tests {
    use super::queue::Work;
    use super::*;

    #[test]
    fn the_level_is_what_was_last_said() {
        let mut settings = LogSettings {
            debug: false,
            verbose: true,
            use_stderr: true,
            file: None,
            syslog_facility: None,
            use_journal: false,
            use_json: false,
        };
        let queue = Arc::new(Queue::default());
        let (filter, level) = reload::Layer::new(level_of(&settings));
        let queues = vec![Arc::clone(&queue)];
        let recorder = Recorder {
            queues: queues.clone(),
        };
        let log = LogGuard { queues, level };
        tracing::subscriber::with_default(Registry::default().with(filter).with(recorder), || {
            let heard = || {
                tracing::debug!("round");
                matches!(queue.next(clock::now()), Work::Line(_))
            };
            assert!(!heard());
            settings.debug = true;
            log.set_level(&settings);
            assert!(heard());
            settings.debug = false;
            log.set_level(&settings);
            assert!(!heard());
        });
        queue.has_ended();
    }
}
