//! Reloads: a thread that reads the configuration again when SIGHUP comes or the pipeline's file has
//! changed, and hands it to the running daemons. The files are read in a further thread, because a disk
//! may hang: no round, no signal and no end waits for it.
//!
//! ```text
//! SIGHUP, kept as one ─┐                                  ┌─ refused: log, metric, /readyz
//!                      ├─► reload ─► config-load ─► check ┤
//! pipeline looked at ──┘   one at a time, 10 s            └─ in force: parts, secret, log level
//! ```

use std::future::Future;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use std::{io, iter};

pub(super) use super::configuration::Reader;
use super::configuration::{Configuration, Difference, Seen};
use super::logging::LogGuard;
use super::signals::Hangups;
use super::systemd::Service;
use super::workers::Workers;
use super::{DaemonError, secret};
use crate::clock;
use crate::config::Problem;
use crate::events::{Chain, ConfigEvents};
use crate::model::Secret;
use crate::web::Health;

/// How long files are waited for. A healthy disk takes milliseconds; later it is worth saying that the
/// configuration can't be read. It is loaded when it can, at last.
const LOAD_LIMIT: Duration = Duration::from_secs(10);

/// The most threads that hang in reading files. Beyond it a reload is refused without a further one.
const LOADERS_MAX: usize = 4;

/// What takes a new configuration while it runs.
pub(super) trait Part: Send + Sync + 'static {
    /// Makes it hold. Where that fails, the one before holds.
    fn reload(&self, configuration: &Configuration, secret: &Secret) -> Result<(), DaemonError>;
}

/// The way to the thread that reloads.
pub(super) struct Reloads {
    requests: SyncSender<Request>,
    events: Arc<ConfigEvents>,
    refusal: Arc<Mutex<Option<Refusal>>>,
}

/// Why to reload.
#[derive(Debug, Clone, Copy)]
enum Request {
    /// Somebody asked.
    Hangup,
    /// Files that had been given up were read after all.
    Late,
}

/// A configuration that was refused and not followed by a good one.
struct Refusal {
    since: Instant,
    problems: usize,
    first: String,
}

impl Reloads {
    /// Starts the thread. Nobody waits for its end.
    pub(super) fn start(
        reader: Reader,
        configuration: Configuration,
        (log, service): (&Arc<LogGuard>, &Arc<Service>),
        parts: Vec<Arc<dyn Part>>,
    ) -> Result<Self, DaemonError> {
        let events = ConfigEvents::new(clock::utc())
            .map_err(|error| DaemonError::failed("registering metrics", error))?;
        let events = Arc::new(events);
        let refusal = Arc::default();
        // One place: what comes while a reload runs asks for one more, however often it comes.
        let (requests, queue) = sync_channel(1);
        let reloader = Reloader {
            loader: Loader::new(&requests),
            queue,
            seen: configuration.seen,
            reader,
            configuration,
            log: Arc::downgrade(log),
            service: Arc::clone(service),
            parts,
            events: Arc::clone(&events),
            refusal: Arc::clone(&refusal),
        };
        Workers::default().spawn("reload".into(), move || reloader.run())?;
        Ok(Reloads {
            requests,
            events,
            refusal,
        })
    }

    /// Reloads whenever SIGHUP comes.
    pub(super) fn at(&self, mut hangups: Hangups) -> impl Future<Output = ()> + Send + use<> {
        let requests = self.requests.clone();
        async move {
            while hangups.next().await {
                // A full place means that a reload is to come anyway.
                let _ = requests.try_send(Request::Hangup);
            }
        }
    }

    /// A daemon's health together with that of its configuration.
    pub(super) fn watch(&self, daemon: Arc<dyn Health>) -> Arc<dyn Health> {
        Arc::new(Watched {
            daemon,
            events: Arc::clone(&self.events),
            refusal: Arc::clone(&self.refusal),
        })
    }
}

/// The thread's own part.
struct Reloader {
    queue: Receiver<Request>,
    loader: Loader,
    reader: Reader,
    configuration: Configuration,
    /// The pipeline's file as it was when it was last looked at.
    seen: Seen,
    /// Weak, because what is left in the log is written when the daemon drops it at its end.
    log: Weak<LogGuard>,
    service: Arc<Service>,
    parts: Vec<Arc<dyn Part>>,
    events: Arc<ConfigEvents>,
    refusal: Arc<Mutex<Option<Refusal>>>,
}

/// What was read.
type Loaded = (Configuration, Difference, Secret);

impl Reloader {
    fn run(mut self) {
        while let Some(because) = self.next() {
            self.begin(because);
            let loaded = self.load();
            let outcome = loaded.and_then(|loaded| self.put_in_force(loaded));
            self.end(outcome);
        }
    }

    /// Waits for a reason to reload.
    fn next(&self) -> Option<&'static str> {
        loop {
            let request = match self.configuration.settings.pipeline_refresh {
                Some(period) => self.queue.recv_timeout(period),
                None => self.queue.recv().map_err(RecvTimeoutError::from),
            };
            match request {
                Ok(Request::Hangup) => {
                    self.reopen_log();
                    return Some("SIGHUP");
                }
                Ok(Request::Late) => return Some("its files can be read after all"),
                Err(RecvTimeoutError::Timeout) if self.pipeline_changed() => {
                    return Some("the pipeline's file has changed");
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    fn begin(&self, because: &str) {
        self.service.reloading();
        self.events.reloading(because);
    }

    fn end(&self, outcome: Result<Difference, DaemonError>) {
        match outcome {
            Ok(Difference { changes, pending }) => {
                *lock(&self.refusal) = None;
                self.service.reloaded("running");
                self.events.reloaded(&changes, &pending, clock::utc());
            }
            Err(error) => {
                let problems = problems_of(&error);
                self.events.refused(&problems);
                let refusal = Refusal {
                    since: clock::now(),
                    problems: problems.len(),
                    first: problems.into_iter().next().unwrap_or_default(),
                };
                self.service.reloaded(&refusal.words());
                *lock(&self.refusal) = Some(refusal);
            }
        }
    }

    fn load(&mut self) -> Result<Loaded, DaemonError> {
        let (reader, running) = (self.reader.clone(), self.configuration.clone());
        self.seen = None;
        let (seen, loaded) = self.loader.within_limit(move || {
            // First, so that the next look finds what changes after it.
            let seen = running.look();
            let loaded = reader.read_again(&running).and_then(|(new, difference)| {
                let secret = secret::telemetry_secret(&new.settings)?;
                Ok((new, difference, secret))
            });
            (seen, loaded)
        })?;
        self.seen = loaded.as_ref().map_or(seen, |(new, _, _)| new.seen);
        loaded
    }

    fn put_in_force(&mut self, loaded: Loaded) -> Result<Difference, DaemonError> {
        let (configuration, difference, secret) = loaded;
        for part in &self.parts {
            part.reload(&configuration, &secret)?;
        }
        if let Some(log) = self.log.upgrade() {
            log.set_level(&configuration.settings.log);
        }
        let told = &self.configuration.warnings;
        let is_news = |problem: &&Problem| !told.contains(problem);
        for problem in configuration.warnings.iter().filter(is_news) {
            self.events.odd(problem);
        }
        self.configuration = configuration;
        Ok(difference)
    }

    /// Whether the pipeline's file holds something else than when it was last looked at. One that can't
    /// be read, or not in time, holds nothing; when it can be at last, a reload is asked for.
    fn pipeline_changed(&self) -> bool {
        let running = self.configuration.clone();
        let seen = self.loader.within_limit(move || running.look());
        seen.ok().flatten() != self.seen
    }

    fn reopen_log(&self) {
        if let Some(log) = self.log.upgrade() {
            log.reopen();
        }
    }
}

/// Reads files, and doesn't wait for ever.
struct Loader {
    requests: SyncSender<Request>,
    /// One count for each thread that is at work, and one for the loader.
    alive: Arc<()>,
}

impl Loader {
    fn new(requests: &SyncSender<Request>) -> Self {
        Loader {
            requests: requests.clone(),
            alive: Arc::default(),
        }
    }

    /// Does the work in a thread and waits for it, but no longer than the limit. Work that is over later
    /// asks for a reload.
    fn within_limit<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, DaemonError> {
        if Arc::strong_count(&self.alive) > LOADERS_MAX {
            return Err(hangs(format!("{LOADERS_MAX} earlier attempts hang")));
        }
        let (sender, answer) = channel();
        let (requests, alive) = (self.requests.clone(), Arc::clone(&self.alive));
        std::thread::Builder::new()
            .name("config-load".to_owned())
            .spawn(move || {
                let done = work();
                // Before anybody learns of it: a thread that is through hangs no more, however long it
                // takes to end.
                drop(alive);
                if sender.send(done).is_err() {
                    let _ = requests.try_send(Request::Late);
                }
            })
            .map_err(|error| DaemonError::failed("starting the thread config-load", error))?;
        answer
            .recv_timeout(LOAD_LIMIT)
            .map_err(|_| hangs(format!("no answer within {LOAD_LIMIT:?}")))
    }
}

fn hangs(why: String) -> DaemonError {
    let cause = io::Error::new(io::ErrorKind::TimedOut, why);
    DaemonError::failed("reading the configuration's files", cause)
}

fn problems_of(error: &DaemonError) -> Vec<String> {
    match error {
        DaemonError::Config(problems) => problems.errors().map(ToString::to_string).collect(),
        other => iter::once(Chain(other).to_string()).collect(),
    }
}

fn lock(refusal: &Mutex<Option<Refusal>>) -> MutexGuard<'_, Option<Refusal>> {
    refusal.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A daemon's health and its configuration's.
struct Watched {
    daemon: Arc<dyn Health>,
    events: Arc<ConfigEvents>,
    refusal: Arc<Mutex<Option<Refusal>>>,
}

impl Health for Watched {
    fn stuck(&self) -> Vec<String> {
        self.daemon.stuck()
    }

    fn not_ready(&self) -> Vec<String> {
        let mut all = self.daemon.not_ready();
        all.extend(lock(&self.refusal).as_ref().map(Refusal::words));
        all
    }

    fn metrics(&self, is_ready: bool) -> String {
        self.daemon.metrics(is_ready) + &self.events.metrics().render()
    }
}

impl Refusal {
    fn words(&self) -> String {
        let Refusal {
            since,
            problems,
            first,
        } = self;
        let seconds = clock::now().saturating_duration_since(*since).as_secs();
        format!(
            "the configuration was refused {seconds} s ago and the one before it is in force, problems: {problems}, the first: {first}"
        )
    }
}
