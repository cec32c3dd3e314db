//! The collector: a thread that receives, a task that stores, and a bounded hand-off between them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::instance::Role;
use super::reload::{Part, Reader, Reloads};
use super::signals::{End, Hangups};
use super::storing::Writer;
use super::systemd::Service;
use super::usage::UsageReader;
use super::workers::Workers;
use super::{
    ConfigArgs, Configuration, DRAIN_LIMIT, DaemonError, Stop, files, headroom, http, output, plan,
    process, proofs, retention, secret, signals,
};
use crate::clock;
use crate::collector::amqp::Consumer;
use crate::collector::intake::{self, Inlet};
use crate::collector::udp::{RECEIVE_BUFFER, UdpReceiver};
use crate::collector::waiting::Limits;
use crate::config::{CollectorSettings, Connection, Loaded, Purpose, Settings, TrustSettings};
use crate::events::{Chain, CollectorEvents, ConsumerEvents};
use crate::model::{Secret, Shared};
use crate::storage::{Database, HeldBack, RowRefusal, StoreError};
use crate::web::Health;
use crate::wire::{Policy, Proven, Verifier};

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
        let collector = Collector::start(&configuration, &secret).await?;
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
    consumers: Consumers,
    writer: JoinHandle<()>,
    retention: JoinHandle<()>,
    stop: Stop,
}

/// The tasks that consume topics, and what tells them to stop.
struct Consumers {
    tasks: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
}

/// What a reload changes.
#[derive(Clone)]
struct Live {
    verifier: Shared<Verifier>,
    proven: Proven,
    limits: Shared<Limits>,
    keep: Shared<Option<Duration>>,
}

impl Part for Live {
    fn reload(&self, configuration: &Configuration, secret: &Secret) -> Result<(), DaemonError> {
        self.limits.set(limits(&configuration.settings.collector));
        self.keep.set(configuration.settings.database.retention);
        self.verifier
            .set(verifier(configuration, secret, &self.proven));
        Ok(())
    }
}

impl Collector {
    /// Opens the database and the socket and starts.
    pub(super) async fn start(
        configuration: &Configuration,
        secret: &Secret,
    ) -> Result<Self, DaemonError> {
        let settings = &configuration.settings;
        let events = Arc::new(
            CollectorEvents::new(clock::now())
                .map_err(|error| DaemonError::failed("registering metrics", error))?,
        );
        events.expect_rows_refused(RowRefusal::ALL.iter().map(|refusal| refusal.as_str()));
        for reason in HeldBack::ALL {
            events.held_back(reason.as_str(), 0);
        }
        let database = Arc::new(open_database(settings).await?);
        headroom::watch(Arc::clone(&database), Arc::clone(&events)).await;
        let (inlet, outlet) = intake::intake();
        let health = Arc::new(CollectorHealth {
            events: Arc::clone(&events),
            storing_since: Mutex::default(),
            intake: outlet.gauge(),
            usage: UsageReader::new(),
        });
        let proven = Proven::default();
        proofs::remember(Arc::clone(&database), proven.clone()).await;
        let live = Live {
            verifier: Shared::new(verifier(configuration, secret, &proven)),
            proven,
            limits: Shared::new(limits(&settings.collector)),
            keep: Shared::new(settings.database.retention),
        };
        let stop = Stop::default();
        let mut receivers = Workers::default();
        let mut address = None;
        if let Some(ip) = settings.collector.udp_address {
            let socket = bind(ip, settings.collector.udp_port, &events)?;
            address = socket.local_addr().ok();
            let (verifier, flag) = (live.verifier.clone(), stop.flag());
            let (inlet, events) = (inlet.clone(), Arc::clone(&events));
            receivers.spawn("receive udp".into(), move || {
                socket.run(&verifier, &inlet, &events, &flag);
            })?;
        } else if settings.collector.topics.is_empty() {
            events.deaf();
        }
        let consumers = Consumers::spawn(settings, &live.verifier, &events, &inlet);
        drop(inlet);
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
        let writer = tokio::spawn(writer.run(outlet));
        Ok(Collector {
            health,
            live,
            address,
            receivers,
            consumers,
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

    /// Ends: receives and consumes no more, stores and acknowledges what it has, within [`DRAIN_LIMIT`]. What
    /// isn't acknowledged by then the broker gives to another collector, or to the next start of this one.
    pub async fn stop(self) {
        // It fails where no topic is consumed.
        let _ = self.consumers.stop.send(true);
        self.stop.stop();
        // What is past its time can wait, what was received can't.
        self.retention.abort();
        let receivers = self.receivers;
        let ended = tokio::time::timeout(DRAIN_LIMIT, async move {
            let busy = tokio::task::spawn_blocking(move || receivers.join(DRAIN_LIMIT)).await;
            let stored = self.writer.await;
            for consumer in self.consumers.tasks {
                let _ = consumer.await;
            }
            busy.is_ok_and(|busy| busy.is_empty()) && stored.is_ok()
        });
        match ended.await {
            Ok(true) => tracing::info!("collector stopped"),
            _ => tracing::warn!("collector stopped without waiting any longer"),
        }
    }
}

impl Consumers {
    fn spawn(
        settings: &Settings,
        verifier: &Shared<Verifier>,
        events: &Arc<CollectorEvents>,
        inlet: &Inlet,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let broker = Arc::new(settings.broker.clone());
        let topics = settings.collector.topics.iter();
        let tasks = topics.map(|topic| {
            let consumer = Consumer {
                topic: topic.clone(),
                settings: Arc::clone(&broker),
                name: format!("ceilometer-collector-ha {} {topic}", settings.host),
                prefetch: settings.collector.prefetch,
                verifier: verifier.clone(),
                events: Arc::new(ConsumerEvents::new(events, topic, clock::now())),
            };
            tokio::spawn(consumer.run(inlet.clone(), stopped.clone()))
        });
        Consumers {
            tasks: tasks.collect(),
            stop,
        }
    }
}

/// The embedded database makes its own tables: there is nobody to ask for a `dbsync` first. Of a server
/// whoever looks after it is asked, as Ceilometer does; one that is away just now is waited for, while
/// what is received gathers.
async fn open_database(settings: &Settings) -> Result<Database, DaemonError> {
    files::make_state_path(settings);
    let connection = &settings.database.connection;
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: StoreError| DaemonError::failed(what, error)
    };
    let opening = "opening the database";
    if let Ok(Connection::Sqlite(_)) = Connection::parse(connection.expose()) {
        for line in Database::dbsync(connection)
            .await
            .map_err(failed("preparing the database"))?
        {
            tracing::info!("dbsync: {line}");
        }
        return Database::open(connection).await.map_err(failed(opening));
    }
    let (database, away) = Database::open_or_wait(connection)
        .await
        .map_err(failed(opening))?;
    if let Some(error) = away {
        let why = Chain(&error);
        tracing::warn!("the database is away, and is tried with each batch: {why}");
    }
    Ok(database)
}

/// What messages are held to.
fn verifier(configuration: &Configuration, secret: &Secret, proven: &Proven) -> Verifier {
    let TrustSettings {
        host_keys_file: _,
        require_proof,
        observers,
        accept_paths,
        clock_tolerance,
    } = &configuration.settings.collector.trust;
    let policy = Policy {
        keys: configuration.keys.ring.clone(),
        require_proof: *require_proof,
        observers: observers.iter().cloned().collect(),
        accept_paths: accept_paths.iter().cloned().collect(),
        clock_tolerance: *clock_tolerance,
    };
    Verifier::with(secret.clone(), policy, proven)
}

fn limits(settings: &CollectorSettings) -> Limits {
    Limits {
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

/// What `/healthz` and `/metrics` show, and what storing tells them.
pub(super) struct CollectorHealth {
    pub(super) events: Arc<CollectorEvents>,
    /// Since when nothing was stored although something is being tried.
    storing_since: Mutex<Option<Instant>>,
    intake: intake::Gauge,
    usage: UsageReader,
}

impl CollectorHealth {
    /// Something is to be stored from now on.
    pub(super) fn storing(&self) {
        self.since().get_or_insert_with(clock::now);
    }

    /// It is stored.
    pub(super) fn stored(&self) {
        *self.since() = None;
    }

    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.storing_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Health for CollectorHealth {
    fn stuck(&self) -> Vec<String> {
        let since = *self.since();
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
            .render(self.intake.waiting(), is_ready, &usage, clock::now())
    }
}
