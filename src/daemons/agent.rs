//! The agent: a thread for each pollster of each source, a thread and a queue for each publisher.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::signals::End;
use super::stop::Woken;
use super::workers::Workers;
use super::{
    ConfigArgs, DRAIN_LIMIT, DaemonError, Stop, agent_state, files, hosts, http, logging, plan,
    secret, signals,
};
use crate::clock;
use crate::config::{Problem, Problems, Purpose, Settings, Severity};
use crate::events::AgentEvents;
use crate::model::{Sample, Secret, meters};
use crate::pipeline::{Against, Emitter, MeterFilter, Pipeline, Publisher, Source};
use crate::pollsters::ping::round::PROBES_MAX;
use crate::pollsters::schedule::{Schedule, Tick};
use crate::pollsters::storage::{SharedMemory, names};
use crate::pollsters::{Bell, Context, Listed, Pollster, Round, known_meters, listed};
use crate::publisher::queue::Queue;
use crate::publisher::udp::UdpPublisher;
use crate::publisher::{Outcome, Publish};
use crate::web::Health;

/// Intervals without an ended round after which a pollster counts as stuck.
const STUCK_AFTER: u32 = 3;
/// Never called stuck sooner than this.
const STUCK_MIN: Duration = Duration::from_secs(5);

/// Runs the agent until it is told to end.
pub fn run(args: &ConfigArgs) -> Result<(), DaemonError> {
    let settings = files::load_settings(args, Purpose::Agent)?;
    let pipeline = load_pipeline(&settings, args.strict)?;
    if args.check_config {
        return plan::print_agent(&settings, &pipeline);
    }
    let runtime = signals::runtime()?;
    let end = End::listen(&runtime)?;
    let _log = logging::start(&settings.log, None)?;
    let secret = secret::telemetry_secret(&settings)?;
    let agent = Agent::start(&settings, &pipeline, &secret)?;
    runtime.spawn(http::serve(settings.agent.http_listen, agent.health()));
    runtime.block_on(end.wait());
    agent.stop();
    runtime.shutdown_background();
    Ok(())
}

/// A running agent.
pub struct Agent {
    health: Arc<AgentHealth>,
    queues: Vec<Arc<Queue>>,
    pollsters: Workers,
    publishers: Workers,
    stop: Stop,
}

impl Agent {
    /// Starts everything.
    pub fn start(
        settings: &Settings,
        pipeline: &Pipeline,
        secret: &Secret,
    ) -> Result<Self, DaemonError> {
        let events = Arc::new(
            AgentEvents::new()
                .map_err(|error| DaemonError::failed("registering metrics", error))?,
        );
        let state = agent_state::start(&settings.state_path);
        events.started(&settings.host, state.epoch);
        let mut agent = Agent {
            health: Arc::new(AgentHealth {
                events,
                progress: RwLock::default(),
            }),
            queues: Vec::new(),
            pollsters: Workers::default(),
            publishers: Workers::default(),
            stop: Stop::default(),
        };
        agent.start_memory(settings, state.memory.clone(), state.file)?;
        let sinks = agent.start_publishers(settings, pipeline, secret)?;
        let compute = &settings.compute;
        let emitter = Emitter::new(
            &settings.host,
            state.epoch,
            compute.cluster.as_deref(),
            &compute.host_tags,
        );
        agent.start_pollsters(
            settings,
            pipeline,
            &sinks,
            &Arc::new(emitter),
            &state.memory,
        )?;
        Ok(agent)
    }

    /// What `/healthz` and `/metrics` show.
    pub fn health(&self) -> Arc<dyn Health> {
        Arc::clone(&self.health) as Arc<dyn Health>
    }

    /// Ends: no new rounds, what is queued is sent, and all of it within [`DRAIN_LIMIT`].
    pub fn stop(self) {
        let deadline = clock::now() + DRAIN_LIMIT;
        self.stop.stop();
        let mut busy = self
            .pollsters
            .join(deadline.saturating_duration_since(clock::now()));
        for queue in &self.queues {
            queue.close();
        }
        busy.extend(
            self.publishers
                .join(deadline.saturating_duration_since(clock::now())),
        );
        if busy.is_empty() {
            tracing::info!("agent stopped");
        } else {
            tracing::warn!(
                busy = busy.join(", "),
                "agent stopped without waiting any longer"
            );
        }
    }

    fn start_memory(
        &mut self,
        settings: &Settings,
        memory: SharedMemory,
        file: Option<agent_state::StateFile>,
    ) -> Result<(), DaemonError> {
        if let Some(file) = file {
            let (memory, stop) = (memory.clone(), self.stop.clone());
            self.pollsters.spawn("state".into(), move || {
                agent_state::save_changes(&file, &memory, &stop);
            })?;
        }
        let names = names::names_in(&settings.compute.gateways);
        if names.is_empty() {
            return Ok(());
        }
        let stop = self.stop.clone();
        // A resolver can hang for minutes, so nobody waits for it: not a round, and not the end.
        Workers::default().spawn("names".into(), move || {
            while !stop.wait_until(clock::now() + names::refresh(&names, &memory)) {}
        })
    }

    /// A thread for each publisher of each sink; returns each sink's queues.
    fn start_publishers(
        &mut self,
        settings: &Settings,
        pipeline: &Pipeline,
        secret: &Secret,
    ) -> Result<Sinks, DaemonError> {
        let mut sinks = Sinks::new();
        for sink in &pipeline.sinks {
            for publisher in &sink.publishers {
                let publisher = build(publisher, settings, secret);
                let outlet = Outlet {
                    path: publisher.path().to_owned(),
                    queue: Arc::default(),
                };
                self.queues.push(Arc::clone(&outlet.queue));
                let (queue, events) = (Arc::clone(&outlet.queue), Arc::clone(&self.health.events));
                self.publishers
                    .spawn(format!("publish {}", outlet.path), move || {
                        publish_loop(publisher, &queue, &events);
                    })?;
                sinks.entry(sink.name.clone()).or_default().push(outlet);
            }
        }
        Ok(sinks)
    }

    fn start_pollsters(
        &mut self,
        settings: &Settings,
        pipeline: &Pipeline,
        sinks: &Sinks,
        emitter: &Arc<Emitter>,
        memory: &SharedMemory,
    ) -> Result<(), DaemonError> {
        let now = clock::now();
        let shared_settings = Arc::new(settings.clone());
        for source in &pipeline.sources {
            let outlets: Vec<Outlet> = source
                .sinks
                .iter()
                .filter_map(|sink| sinks.get(sink))
                .flatten()
                .cloned()
                .collect();
            for pollster in pollsters_of(source, settings) {
                let rung = Arc::new(AtomicBool::new(false));
                let context = Context {
                    host: settings.host.clone(),
                    interval: source.interval,
                    settings: Arc::clone(&shared_settings),
                    resources: source.resources.clone(),
                    epoch: emitter.epoch(),
                    memory: memory.clone(),
                    bell: bell(&self.stop, &rung),
                    ending: self.stop.flag(),
                };
                let task = Task {
                    pollster: pollster.build(&context),
                    name: pollster.name().to_owned(),
                    source: source.name.clone(),
                    meters: source.meters.clone(),
                    interval: source.interval,
                    schedule: Schedule::new(now, source.interval, (&settings.host, &source.name)),
                    outlets: outlets.clone(),
                    emitter: Arc::clone(emitter),
                    events: Arc::clone(&self.health.events),
                    progress: self.health.watch(
                        &source.name,
                        pollster.name(),
                        source.interval,
                        now,
                    ),
                    rung,
                };
                let stop = self.stop.clone();
                self.pollsters
                    .spawn(format!("poll {}", pollster.name()), move || task.run(&stop))?;
            }
        }
        Ok(())
    }
}

/// A bell that wakes the task that waits for this flag.
fn bell(stop: &Stop, rung: &Arc<AtomicBool>) -> Bell {
    let (stop, rung) = (stop.clone(), Arc::clone(rung));
    Bell::new(move || stop.ring(&rung))
}

/// A way to one publisher.
#[derive(Clone)]
struct Outlet {
    path: String,
    queue: Arc<Queue>,
}

type Sinks = BTreeMap<String, Vec<Outlet>>;

/// The pollsters that a source's meters ask for, among those of the configured namespaces.
pub(super) fn pollsters_of<'a>(
    source: &'a Source,
    settings: &'a Settings,
) -> impl Iterator<Item = Listed<'a>> {
    listed(settings).filter(|pollster| pollster.is_wanted_by(&source.meters))
}

fn build(publisher: &Publisher, settings: &Settings, secret: &Secret) -> Box<dyn Publish> {
    match publisher {
        Publisher::Udp(to) => Box::new(UdpPublisher::new(
            &to.host,
            to.port,
            &to.path,
            &settings.sample_source,
            secret,
        )),
    }
}

fn publish_loop(mut publisher: Box<dyn Publish>, queue: &Queue, events: &AgentEvents) {
    while let Some(batch) = queue.pop() {
        let Outcome {
            sent,
            failed,
            error,
            refused,
        } = publisher.publish(&batch);
        events.published(publisher.path(), sent);
        if let Some(error) = error {
            events.publish_failed(publisher.path(), failed, &error, clock::now());
        }
        if let Some(error) = refused {
            events.publisher_refused(publisher.path(), &error, clock::now());
        }
    }
}

/// One pollster of one source, in its thread.
struct Task {
    pollster: Box<dyn Pollster>,
    name: String,
    source: String,
    meters: MeterFilter,
    interval: Duration,
    schedule: Schedule,
    outlets: Vec<Outlet>,
    emitter: Arc<Emitter>,
    events: Arc<AgentEvents>,
    progress: Arc<Progress>,
    rung: Arc<AtomicBool>,
}

impl Task {
    fn run(mut self, stop: &Stop) {
        let mut tick = self.schedule.first();
        loop {
            let wake_at = self
                .pollster
                .wake_at()
                .map_or(tick.due, |at| at.min(tick.due));
            match stop.wait_until_or(wake_at, &self.rung) {
                Woken::Stop => return,
                Woken::Due if wake_at == tick.due => {}
                Woken::Due | Woken::Rung => {
                    self.news();
                    continue;
                }
            }
            self.round(tick);
            let now = clock::now();
            self.progress.ended(now);
            tick = self.schedule.after(tick, now);
            if tick.missed > 0 {
                self.events
                    .rounds_missed(&self.source, &self.name, tick.missed);
            }
        }
    }

    fn round(&mut self, tick: Tick) {
        let started = clock::now();
        let late = started.saturating_duration_since(tick.due);
        let mut samples = self.pollster.poll(Round { due: tick.due });
        let took = clock::now().saturating_duration_since(started);
        self.events
            .round_ended(&self.source, &self.name, took, late, &samples);
        let refused = self.pollster.take_refused();
        self.events
            .samples_refused(&self.source, &self.name, refused);
        samples.retain(|sample| self.wants(sample));
        self.deliver(samples);
    }

    fn news(&mut self) {
        let mut samples = self.pollster.news();
        self.events.news(&self.source, &self.name, &samples);
        samples.retain(|sample| self.wants(sample));
        self.deliver(samples);
    }

    /// A failure goes wherever its pollster's meters go, unless it is excluded by name: without it
    /// a missing reading would have no reason.
    fn wants(&self, sample: &Sample) -> bool {
        let name = &sample.meter.name;
        if sample.meter == meters::POLLSTER_FAILED {
            !self.meters.excludes_by_name(name)
        } else {
            self.meters.wants(name)
        }
    }

    fn deliver(&self, samples: Vec<Sample>) {
        if samples.is_empty() {
            return;
        }
        self.emitter.emit(self.interval, samples, |readings| {
            let batch: Arc<[_]> = readings.into();
            for outlet in &self.outlets {
                let dropped = outlet.queue.push(Arc::clone(&batch));
                if dropped > 0 {
                    self.events.publisher_dropped(&outlet.path, dropped);
                }
            }
        });
    }
}

/// When a pollster last ended a round.
struct Progress {
    name: String,
    interval: Duration,
    start: Instant,
    last_ms: AtomicU64,
}

impl Progress {
    fn ended(&self, now: Instant) {
        let since = now.saturating_duration_since(self.start).as_millis();
        self.last_ms
            .store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn trouble(&self, now: Instant) -> Option<String> {
        let last = self.start + Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
        let silent = now.saturating_duration_since(last);
        let is_stuck = silent > (self.interval * STUCK_AFTER).max(STUCK_MIN);
        is_stuck.then(|| {
            format!(
                "{} has ended no round for {} s",
                self.name,
                silent.as_secs()
            )
        })
    }
}

struct AgentHealth {
    events: Arc<AgentEvents>,
    progress: RwLock<Vec<Arc<Progress>>>,
}

impl AgentHealth {
    fn watch(
        &self,
        source: &str,
        pollster: &str,
        interval: Duration,
        now: Instant,
    ) -> Arc<Progress> {
        let progress = Arc::new(Progress {
            name: format!("{pollster} of source {source}"),
            interval,
            start: now,
            last_ms: AtomicU64::new(0),
        });
        self.progress
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(&progress));
        progress
    }
}

impl Health for AgentHealth {
    fn stuck(&self) -> Vec<String> {
        let now = clock::now();
        let progress = self.progress.read().unwrap_or_else(PoisonError::into_inner);
        progress
            .iter()
            .filter_map(|progress| progress.trouble(now))
            .collect()
    }

    fn not_ready(&self) -> Vec<String> {
        Vec::new()
    }

    fn metrics(&self) -> String {
        self.events.metrics().render()
    }
}

/// Reads the pipeline, and finds meters in it that nobody polls and more probes than a round can
/// have: here, because only here both the pollsters and the files are known.
pub(super) fn load_pipeline(settings: &Settings, strict: bool) -> Result<Pipeline, DaemonError> {
    let against = Against {
        meters: known_meters(&settings.plugins.pollsters),
        strict,
    };
    let mut pipeline = files::load_pipeline(&settings.pipeline_cfg_file, &against)?;
    hosts::add(settings, &mut pipeline)?;
    let probes = settings.compute.gateways.len() * usize::from(settings.compute.ping_count);
    if probes > PROBES_MAX {
        let message = format!(
            "found {probes} probes a round (gateways times ping_count), expected {PROBES_MAX} at most"
        );
        let problem =
            Problem::new(Severity::Error, message).about("[compute] storage_server_address");
        return Err(DaemonError::Config(Problems::new(vec![problem])));
    }
    Ok(pipeline)
}
