//! The collector: a thread that receives, a task that stores, and a bounded hand-off between them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{Receiver, WeakSender};
use tokio::task::JoinHandle;

use super::instance::Role;
use super::reload::{Part, Reader, Reloads};
use super::signals::{End, Hangups};
use super::systemd::Service;
use super::usage::UsageReader;
use super::workers::Workers;
use super::{
    ConfigArgs, Configuration, DRAIN_LIMIT, DaemonError, Stop, files, headroom, http, output, plan,
    process, retention, secret, signals,
};
use crate::clock;
use crate::collector::batch::{self, Arrived, Batch};
use crate::collector::udp::{RECEIVE_BUFFER, UdpReceiver};
use crate::config::{CollectorSettings, Connection, Loaded, Purpose, Settings};
use crate::events::{CollectorEvents, Stored};
use crate::model::{Received, Secret, Shared};
use crate::storage::{Database, IdentityConflict, RowRefusal, StoreError, StoreReport};
use crate::web::Health;

/// First pause after a batch that could not be stored; it doubles up to the longest.
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_LONGEST: Duration = Duration::from_secs(1);
/// The same once it is time to end, when there is no time to lose.
const RETRY_LONGEST_AT_END: Duration = Duration::from_millis(100);
/// A try that fails so long after it was time to end is the last one: with another wait for a lock
/// it would outlast [`DRAIN_LIMIT`], and what is lost could not be said.
const GIVE_UP_AFTER: Duration = Duration::from_secs(2);
/// How long a batch may take, failing or hanging, before `/healthz` says so.
const TROUBLE_AFTER: Duration = Duration::from_secs(5);

/// Runs the collector until it is told to end.
pub fn run(args: &ConfigArgs) -> Result<(), DaemonError> {
    let runtime = signals::runtime()?;
    let hangups = Hangups::listen(&runtime)?;
    let reader = Reader::new(args, Purpose::Collector);
    let configuration = reader.read()?;
    let settings = Arc::clone(&configuration.settings);
    if args.check_config {
        return plan::print_collector(&settings, &configuration.options);
    }
    let end = End::listen(&runtime)?;
    let log = Arc::new(process::begin(&settings, None, &[Role::Collector])?);
    let secret = secret::telemetry_secret(&settings)?;
    runtime.block_on(async {
        let collector = Collector::start(&settings, &secret).await?;
        let service = Arc::new(Service::ready(vec![collector.health()]));
        let reloads = Reloads::start(
            reader,
            configuration,
            (&log, &service),
            vec![collector.part()],
        )?;
        tokio::spawn(http::serve(
            settings.collector.http_listen,
            reloads.watch(collector.health()),
        ));
        tokio::spawn(reloads.at(hangups));
        end.wait().await;
        service.stopping();
        collector.stop().await;
        Ok(())
    })?;
    runtime.shutdown_background();
    Ok(())
}

/// Creates or migrates the database's tables, and if asked for, widens the numbers of samples.
pub fn dbsync(args: &ConfigArgs, widen: bool) -> Result<(), DaemonError> {
    let Loaded {
        settings, options, ..
    } = files::load_settings(args, Purpose::Collector)?;
    if args.check_config {
        return plan::print_database(&settings, &options);
    }
    process::keep_files_private();
    files::make_state_path(&settings);
    let connection = &settings.database.connection;
    let failed = |error| DaemonError::failed("dbsync", error);
    let runtime = signals::runtime()?;
    let done = runtime
        .block_on(Database::dbsync(connection))
        .map_err(failed)?;
    done.iter()
        .try_for_each(|line| output::line(format_args!("{line}")))?;
    if !widen {
        return Ok(());
    }
    let began = clock::now();
    // Who doesn't read what it says doesn't keep it from going on.
    let tell = |line: String| drop(output::line(format_args!("{line}")));
    runtime
        .block_on(Database::widen(connection, &tell))
        .map_err(failed)?;
    output::line(format_args!(
        "it took {:.1} s",
        clock::now().duration_since(began).as_secs_f64()
    ))
}

/// A running collector.
pub struct Collector {
    health: Arc<CollectorHealth>,
    live: Live,
    address: Option<SocketAddr>,
    receivers: Workers,
    writer: JoinHandle<()>,
    retention: JoinHandle<()>,
    stop: Stop,
}

/// What a reload changes.
#[derive(Clone)]
struct Live {
    secret: Shared<Secret>,
    limits: Shared<batch::Limits>,
    keep: Shared<Option<Duration>>,
}

impl Part for Live {
    fn reload(&self, configuration: &Configuration, secret: &Secret) -> Result<(), DaemonError> {
        self.limits.set(limits(&configuration.settings.collector));
        self.keep.set(configuration.settings.database.retention);
        self.secret.set(secret.clone());
        Ok(())
    }
}

impl Collector {
    /// Opens the database and the socket and starts.
    pub async fn start(settings: &Settings, secret: &Secret) -> Result<Self, DaemonError> {
        let events = Arc::new(
            CollectorEvents::new(clock::now())
                .map_err(|error| DaemonError::failed("registering metrics", error))?,
        );
        events.expect_rows_refused(RowRefusal::ALL.iter().map(|refusal| refusal.as_str()));
        let database = Arc::new(open_database(settings).await?);
        headroom::watch(&settings.database.connection, &events).await;
        let (sender, receiver) = tokio::sync::mpsc::channel(batch::WAITING_MAX);
        let health = Arc::new(CollectorHealth {
            events: Arc::clone(&events),
            storing_since: Mutex::default(),
            queue: sender.downgrade(),
            usage: UsageReader::new(),
        });
        let live = Live {
            secret: Shared::new(secret.clone()),
            limits: Shared::new(limits(&settings.collector)),
            keep: Shared::new(settings.database.retention),
        };
        let stop = Stop::default();
        let mut receivers = Workers::default();
        let mut address = None;
        if let Some(ip) = settings.collector.udp_address {
            let socket = bind(ip, settings.collector.udp_port, &events)?;
            address = socket.local_addr().ok();
            let (secret, flag) = (live.secret.clone(), stop.flag());
            receivers.spawn("receive udp".into(), move || {
                socket.run(&secret, &sender, &events, &flag);
            })?;
        } else {
            events.deaf();
        }
        let retention = retention::spawn(
            Arc::clone(&database),
            live.keep.clone(),
            Arc::clone(&health.events),
        );
        let writer = Writer {
            database,
            health: Arc::clone(&health),
            limits: live.limits.clone(),
            stop: stop.clone(),
        };
        let writer = tokio::spawn(writer.run(receiver));
        Ok(Collector {
            health,
            live,
            address,
            receivers,
            writer,
            retention,
            stop,
        })
    }

    /// What takes a new configuration.
    pub(super) fn part(&self) -> Arc<dyn Part> {
        Arc::new(self.live.clone())
    }

    /// Where it listens.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// What `/healthz` and `/metrics` show.
    pub fn health(&self) -> Arc<dyn Health> {
        Arc::clone(&self.health) as Arc<dyn Health>
    }

    /// Ends: receives no more, stores what it has, within [`DRAIN_LIMIT`].
    pub async fn stop(self) {
        self.stop.stop();
        // What is past its time can wait, what was received can't.
        self.retention.abort();
        let receivers = self.receivers;
        let ended = tokio::time::timeout(DRAIN_LIMIT, async move {
            let busy = tokio::task::spawn_blocking(move || receivers.join(DRAIN_LIMIT)).await;
            let stored = self.writer.await;
            busy.is_ok_and(|busy| busy.is_empty()) && stored.is_ok()
        });
        match ended.await {
            Ok(true) => tracing::info!("collector stopped"),
            _ => tracing::warn!("collector stopped without waiting any longer"),
        }
    }
}

/// The embedded database makes its own tables: there is nobody to ask for a `dbsync` first. Of a server
/// whoever looks after it is asked, as Ceilometer does.
async fn open_database(settings: &Settings) -> Result<Database, DaemonError> {
    files::make_state_path(settings);
    let connection = &settings.database.connection;
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: StoreError| DaemonError::failed(what, error)
    };
    if let Ok(Connection::Sqlite(_)) = Connection::parse(connection.expose()) {
        for line in Database::dbsync(connection)
            .await
            .map_err(failed("preparing the database"))?
        {
            tracing::info!("dbsync: {line}");
        }
    }
    Database::open(connection)
        .await
        .map_err(failed("opening the database"))
}

fn limits(settings: &CollectorSettings) -> batch::Limits {
    batch::Limits {
        size: settings.batch_size,
        timeout: settings.batch_timeout,
    }
}

fn bind(
    ip: std::net::IpAddr,
    port: u16,
    events: &CollectorEvents,
) -> Result<UdpReceiver, DaemonError> {
    let failed =
        |error| DaemonError::failed(format!("binding UDP {}", SocketAddr::new(ip, port)), error);
    let socket = UdpReceiver::bind(ip, port).map_err(failed)?;
    events.listening(
        socket.local_addr().map_err(failed)?,
        socket.buffer_bytes(),
        RECEIVE_BUFFER,
    );
    Ok(socket)
}

/// Stores batch after batch.
struct Writer {
    database: Arc<Database>,
    health: Arc<CollectorHealth>,
    limits: Shared<batch::Limits>,
    stop: Stop,
}

impl Writer {
    async fn run(self, mut from: Receiver<Arrived>) {
        while let Some(batch) = batch::next(&mut from, &self.limits).await {
            self.store(batch).await;
        }
        self.database.close().await;
    }

    /// Tries until it is stored: what was received is not given up because a disk is full or
    /// somebody holds a lock. At the end of the process it is tried for as long as the drain lasts.
    async fn store(&self, batch: Batch) {
        self.health.storing(Some(clock::now()));
        let mut pause = RETRY_FIRST;
        loop {
            let started = clock::now();
            let result = self.database.store(&batch.messages).await;
            let now = clock::now();
            self.health
                .events
                .tried(now.saturating_duration_since(started));
            let error = match result {
                Ok(report) => {
                    self.health.storing(None);
                    return self.report(&batch, &report, now);
                }
                Err(error) => error,
            };
            self.health
                .events
                .store_failed(batch.messages.len(), &error, now);
            let longest = match self.stop.since() {
                Some(since) if now >= since + GIVE_UP_AFTER => {
                    return self.health.events.left_unstored(batch.messages.len());
                }
                Some(_) => RETRY_LONGEST_AT_END,
                None => RETRY_LONGEST,
            };
            pause = (pause * 2).min(longest);
            tokio::time::sleep(pause).await;
        }
    }

    fn report(&self, batch: &Batch, report: &StoreReport, now: Instant) {
        let lag = batch
            .since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        // Each reading is counted once, but that `late` ones are among the stored.
        let stored = Stored {
            size: batch.messages.len(),
            stored: report.stored,
            duplicates: report.duplicates,
            late: report.late,
            moved: report.moved,
            closed_gaps: report.closed_gaps,
        };
        let events = &self.health.events;
        events.stored(&stored, lag, now);
        events.heard(&batch.messages, clock::utc(), now);
        events.quarantine(report.quarantine_size, report.quarantine_dropped, now);
        for conflict in &report.conflicts {
            let IdentityConflict {
                observer,
                epoch,
                rival_epoch,
            } = conflict;
            events.identity_conflict(observer, *epoch, *rival_epoch, now);
        }
        for (index, refusal) in &report.refused {
            let message: Option<&Received> = batch.messages.get(*index);
            let resource = message.map_or("", |message| message.resource_id.as_str());
            events.row_refused(
                refusal.as_str(),
                &format!("{refusal} (resource {resource:?})"),
                now,
            );
        }
    }
}

struct CollectorHealth {
    events: Arc<CollectorEvents>,
    /// Since when one and the same batch is being stored.
    storing_since: Mutex<Option<Instant>>,
    /// The hand-off to the writer, which it ends with its last real sender.
    queue: WeakSender<Arrived>,
    usage: UsageReader,
}

impl CollectorHealth {
    fn storing(&self, since: Option<Instant>) {
        *self
            .storing_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Messages that wait to be stored.
    fn waiting(&self) -> usize {
        let queue = self.queue.upgrade();
        queue.map_or(0, |queue| queue.max_capacity() - queue.capacity())
    }
}

impl Health for CollectorHealth {
    fn stuck(&self) -> Vec<String> {
        let since = *self
            .storing_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let trying = since.map(|since| clock::now().saturating_duration_since(since));
        let too_long = trying.filter(|trying| *trying >= TROUBLE_AFTER);
        too_long
            .map(|trying| format!("nothing could be stored for {} s", trying.as_secs()))
            .into_iter()
            .collect()
    }

    fn not_ready(&self) -> Vec<String> {
        self.events.not_ready(clock::now())
    }

    fn metrics(&self, is_ready: bool) -> String {
        let usage = self.usage.read();
        self.events
            .render(self.waiting(), is_ready, &usage, clock::now())
    }
}
