//! The agent: a thread for each pollster of each source ([`task`]), a thread and a queue for each
//! publisher ([`outlets`]). A start and a reload are one thing: what the configuration asks for is
//! compared with what runs; what stays goes on, what is new starts, what is gone ends.

mod health;
mod once;
mod outlets;
mod task;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::health::AgentHealth;
pub use self::once::OnceArgs;
use self::outlets::{Outlets, Publishers};
use self::task::{Mailbox, Role, Task};
use super::instance;
use super::reload::{Part, Reader, Reloads};
use super::signals::{End, Hangups};
use super::stop::Woken;
use super::systemd::Service;
use super::workers::Workers;
use super::{
    ConfigArgs, Configuration, DRAIN_LIMIT, DaemonError, Stop, agent_state, files, hosts, http,
    plan, process, secret, signals,
};
use crate::clock;
use crate::config::{Problem, Problems, Purpose, Settings, Severity};
use crate::events::AgentEvents;
use crate::model::{Secret, Shared};
use crate::pipeline::{Against, Emitter, Pipeline, Source};
use crate::pollsters::ping::round::PROBES_MAX;
use crate::pollsters::schedule::Schedule;
use crate::pollsters::storage::{SharedMemory, names};
use crate::pollsters::{Context, Listed, Pollster, known_meters, listed};
use crate::web::Health;
use crate::wire::Signing;

/// Runs one round of every pollster and shows it.
pub fn run_once(args: &ConfigArgs, once: &OnceArgs) -> Result<(), DaemonError> {
    once::run(args, once)
}

/// Runs the agent until it is told to end.
pub fn run(args: &ConfigArgs) -> Result<(), DaemonError> {
    let runtime = signals::runtime()?;
    let hangups = Hangups::listen(&runtime)?;
    let reader = Reader::new(args, Purpose::Agent);
    let configuration = reader.read()?;
    let settings = Arc::clone(&configuration.settings);
    if args.check_config {
        return plan::print_agent(&settings, &configuration.pipeline, &configuration.options);
    }
    let end = End::listen(&runtime)?;
    let log = Arc::new(process::begin(&settings, None, &[instance::Role::Agent])?);
    let secret = secret::telemetry_secret(&settings)?;
    let agent = Arc::new(Agent::start(&configuration, &secret)?);
    let parts: Vec<Arc<dyn Part>> = vec![agent.clone()];
    let service = Arc::new(Service::ready(vec![agent.health()]));
    let reloads = Reloads::start(reader, configuration, (&log, &service), parts)?;
    runtime.spawn(http::serve(
        settings.agent.http_listen,
        reloads.watch(agent.health()),
    ));
    runtime.spawn(reloads.at(hangups));
    runtime.block_on(end.wait());
    service.stopping();
    agent.stop();
    runtime.shutdown_background();
    Ok(())
}

/// A running agent.
pub struct Agent {
    host: String,
    health: Arc<AgentHealth>,
    emitter: Arc<Emitter>,
    memory: SharedMemory,
    signing: Shared<Signing>,
    names: Names,
    stop: Stop,
    running: Mutex<Running>,
}

/// What runs, as the configuration in force asks for it.
struct Running {
    tasks: BTreeMap<Key, Handle>,
    outlets: Outlets,
    pollsters: Workers,
    publishers: Publishers,
    /// Who writes to the disk: nothing but the end of it all waits for one that hangs.
    savers: Workers,
}

/// A source and one of its pollsters.
type Key = (String, String);

/// A task as whoever reloads sees it.
struct Handle {
    mailbox: Arc<Mailbox>,
    /// What its pollster was built from.
    context: Context,
}

/// What a task that runs already is to become.
struct Change {
    role: Role,
    context: Context,
    /// A pollster in the place of the one that runs, if that was built from something else.
    pollster: Option<Box<dyn Pollster>>,
}

impl Agent {
    /// Starts everything.
    pub(super) fn start(
        configuration: &Configuration,
        secret: &Secret,
    ) -> Result<Self, DaemonError> {
        let settings = &configuration.settings;
        let events = AgentEvents::new()
            .map_err(|error| DaemonError::failed("registering metrics", error))?;
        let events = Arc::new(events);
        let state = agent_state::start(&settings.state_path, &events);
        events.started(&settings.host, state.epoch);
        let (stop, signing) = (Stop::default(), Shared::new(signing(configuration, secret)));
        let compute = &settings.compute;
        let emitter = Emitter::new(
            &settings.host,
            state.epoch,
            compute.cluster.as_deref(),
            &compute.host_tags,
        );
        let mut savers = Workers::default();
        save_changes(&mut savers, state.file, &state.memory, &events, &stop)?;
        let publishers =
            Publishers::new(settings, signing.clone(), Arc::clone(&events), stop.clone());
        let agent = Agent {
            host: settings.host.clone(),
            health: Arc::new(AgentHealth::new(events)),
            emitter: Arc::new(emitter),
            memory: state.memory,
            signing,
            names: Names::default(),
            stop,
            running: Mutex::new(Running {
                tasks: BTreeMap::new(),
                outlets: Outlets::new(),
                pollsters: Workers::default(),
                publishers,
                savers,
            }),
        };
        agent.arrange(&mut agent.running(), configuration)?;
        Ok(agent)
    }

    /// What `/healthz` and `/metrics` show.
    pub fn health(&self) -> Arc<dyn Health> {
        Arc::clone(&self.health) as Arc<dyn Health>
    }

    /// Ends: no new rounds, what is queued is sent, and all of it within [`DRAIN_LIMIT`].
    pub fn stop(&self) {
        let deadline = clock::now() + DRAIN_LIMIT;
        self.stop.stop();
        let mut running = self.running();
        let left = || deadline.saturating_duration_since(clock::now());
        let mut busy = std::mem::take(&mut running.pollsters).join(left());
        for outlet in running.outlets.values() {
            outlet.close();
        }
        let publishers = std::mem::take(&mut running.publishers.workers);
        for workers in [publishers, std::mem::take(&mut running.savers)] {
            busy.extend(workers.join(left()));
        }
        if busy.is_empty() {
            tracing::info!("agent stopped");
        } else {
            tracing::warn!(
                busy = busy.join(", "),
                "agent stopped without waiting any longer"
            );
        }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes what runs what the configuration asks for. All that can fail comes first: then what runs
    /// goes on as it was.
    fn arrange(
        &self,
        running: &mut Running,
        configuration: &Configuration,
    ) -> Result<(), DaemonError> {
        let Running {
            tasks,
            outlets,
            pollsters,
            publishers,
            savers: _,
        } = running;
        tasks.retain(|_, handle| !handle.mailbox.is_closed());
        self.names.set(
            &configuration.settings,
            &self.memory,
            &self.health.events,
            &self.stop,
        )?;
        let arranged = publishers.arrange(outlets, &configuration.pipeline)?;
        let mut fresh = Fresh::default();
        let mut changes = Vec::new();
        for (source, pollster) in wanted(configuration) {
            let key = (source.name.clone(), pollster.name().to_owned());
            let role = role(source, &arranged);
            match tasks.get(&key).filter(|handle| fresh.keep(&handle.mailbox)) {
                Some(handle) => {
                    changes.push((
                        key,
                        self.change(handle, source, pollster, role, configuration),
                    ));
                }
                None => {
                    let handle =
                        self.start_task(pollsters, source, pollster, role, configuration)?;
                    fresh.started.insert(key, handle);
                }
            }
        }
        let stay: BTreeSet<&Key> = changes.iter().map(|(key, _)| key).collect();
        for (_, handle) in tasks.iter().filter(|(key, _)| !stay.contains(key)) {
            handle.mailbox.end();
        }
        for (key, change) in changes {
            if let Some(handle) = tasks.get_mut(&key) {
                handle.become_other(change);
            }
        }
        tasks.append(&mut fresh.settle());
        *outlets = arranged;
        Ok(())
    }

    fn change(
        &self,
        handle: &Handle,
        source: &Source,
        pollster: Listed<'_>,
        role: Role,
        configuration: &Configuration,
    ) -> Change {
        let context = self.context(&handle.mailbox, source, configuration);
        let is_same = handle.context.says_the_same(&context, pollster);
        Change {
            role,
            pollster: (!is_same).then(|| pollster.build(&context)),
            context,
        }
    }

    fn start_task(
        &self,
        pollsters: &mut Workers,
        source: &Source,
        pollster: Listed<'_>,
        role: Role,
        configuration: &Configuration,
    ) -> Result<Handle, DaemonError> {
        let mailbox = Mailbox::new(&self.stop);
        let context = self.context(&mailbox, source, configuration);
        let (name, interval) = (pollster.name().to_owned(), source.interval);
        let who = (&self.host, &source.name);
        let task = Task {
            pollster: pollster.build(&context),
            source: source.name.clone(),
            role,
            schedule: Schedule::new(clock::now(), interval, who),
            emitter: Arc::clone(&self.emitter),
            events: Arc::clone(&self.health.events),
            progress: self.health.watch(&source.name, &name, interval),
            mailbox: Arc::clone(&mailbox),
            name,
        };
        let stop = self.stop.clone();
        pollsters.spawn(format!("poll {}", pollster.name()), move || task.run(&stop))?;
        Ok(Handle { mailbox, context })
    }

    fn context(
        &self,
        mailbox: &Arc<Mailbox>,
        source: &Source,
        configuration: &Configuration,
    ) -> Context {
        Context {
            host: self.host.clone(),
            interval: source.interval,
            settings: Arc::clone(&configuration.settings),
            resources: source.resources.clone(),
            epoch: self.emitter.epoch(),
            memory: self.memory.clone(),
            bell: mailbox.bell(),
            ending: self.stop.flag(),
        }
    }
}

impl Part for Agent {
    fn reload(&self, configuration: &Configuration, secret: &Secret) -> Result<(), DaemonError> {
        let mut running = self.running();
        if self.stop.is_set() {
            return Ok(());
        }
        self.arrange(&mut running, configuration)?;
        let compute = &configuration.settings.compute;
        self.emitter
            .retag(compute.cluster.as_deref(), &compute.host_tags);
        self.signing.set(signing(configuration, secret));
        Ok(())
    }
}

impl Handle {
    fn become_other(&mut self, change: Change) {
        let Change {
            role,
            context,
            pollster,
        } = change;
        self.context = context;
        self.mailbox.change(role, pollster);
    }
}

/// What an arrangement has begun: undone, unless it is settled.
#[derive(Default)]
struct Fresh {
    started: BTreeMap<Key, Handle>,
    kept: Vec<Arc<Mailbox>>,
}

impl Fresh {
    /// Keeps a task that runs, also one that was told to end and hasn't; false if it has.
    fn keep(&mut self, mailbox: &Arc<Mailbox>) -> bool {
        let was_ending = mailbox.is_ending();
        let goes_on = mailbox.go_on();
        if was_ending && goes_on {
            self.kept.push(Arc::clone(mailbox));
        }
        goes_on
    }

    fn settle(mut self) -> BTreeMap<Key, Handle> {
        self.kept.clear();
        std::mem::take(&mut self.started)
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        for handle in self.started.values() {
            handle.mailbox.end();
        }
        for mailbox in &self.kept {
            mailbox.end();
        }
    }
}

/// The gateways that are configured by name, and the thread that resolves them.
#[derive(Default)]
struct Names {
    resolver: Mutex<Option<Resolver>>,
}

/// What the thread looks at, and what wakes it.
struct Resolver {
    names: Shared<Vec<String>>,
    rung: Arc<AtomicBool>,
}

impl Names {
    /// Resolves these from now on, at once. The thread starts with the first name there is.
    fn set(
        &self,
        settings: &Settings,
        memory: &SharedMemory,
        events: &Arc<AgentEvents>,
        stop: &Stop,
    ) -> Result<(), DaemonError> {
        let wanted = names::names_in(&settings.compute.gateways);
        let mut resolver = self.resolver.lock().unwrap_or_else(PoisonError::into_inner);
        match &*resolver {
            Some(Resolver { names, .. }) if *names.get() == wanted => {}
            Some(Resolver { names, rung }) => {
                names.set(wanted);
                stop.ring(rung);
            }
            None if wanted.is_empty() => {}
            None => {
                let (names, rung) = (Shared::new(wanted), Arc::<AtomicBool>::default());
                resolve(
                    names.clone(),
                    Arc::clone(&rung),
                    memory.clone(),
                    Arc::clone(events),
                    stop.clone(),
                )?;
                *resolver = Some(Resolver { names, rung });
            }
        }
        Ok(())
    }
}

/// A resolver can hang for minutes, so nobody waits for it: not a round, and not the end.
fn resolve(
    names: Shared<Vec<String>>,
    rung: Arc<AtomicBool>,
    memory: SharedMemory,
    events: Arc<AgentEvents>,
    stop: Stop,
) -> Result<(), DaemonError> {
    Workers::default().spawn("names".into(), move || {
        loop {
            let lookups = names::refresh(&names.get(), &memory);
            events.names_looked_up(lookups.resolved, lookups.failed);
            let again = clock::now() + lookups.again_in();
            if stop.wait_until_or(again, &rung) == Woken::Stop {
                return;
            }
        }
    })
}

fn save_changes(
    workers: &mut Workers,
    file: Option<agent_state::StateFile>,
    memory: &SharedMemory,
    events: &Arc<AgentEvents>,
    stop: &Stop,
) -> Result<(), DaemonError> {
    let Some(file) = file else {
        return Ok(());
    };
    let (memory, events, stop) = (memory.clone(), Arc::clone(events), stop.clone());
    workers.spawn("state".into(), move || {
        agent_state::save_changes(&file, &memory, &events, &stop);
    })
}

fn signing(configuration: &Configuration, secret: &Secret) -> Signing {
    let source = &configuration.settings.sample_source;
    Signing::new(source, secret.clone()).proving(configuration.keys.own.clone())
}

/// Every pollster of every source.
fn wanted(configuration: &Configuration) -> impl Iterator<Item = (&Source, Listed<'_>)> {
    let Configuration {
        settings, pipeline, ..
    } = configuration;
    let of = move |source| pollsters_of(source, settings).map(move |pollster| (source, pollster));
    pipeline.sources.iter().flat_map(of)
}

fn role(source: &Source, outlets: &Outlets) -> Role {
    let is_of = |(sink, _): &(String, String), name: &String| sink == name;
    let of_sink = |name| {
        let all = outlets.iter();
        all.filter(move |(key, _)| is_of(key, name))
            .map(|(_, outlet)| outlet.clone())
    };
    Role {
        interval: source.interval,
        meters: source.meters.clone(),
        outlets: source.sinks.iter().flat_map(of_sink).collect(),
    }
}

/// The pollsters that a source's meters ask for, among those of the configured namespaces.
pub(super) fn pollsters_of<'a>(
    source: &'a Source,
    settings: &'a Settings,
) -> impl Iterator<Item = Listed<'a>> {
    listed(settings).filter(|pollster| pollster.is_wanted_by(&source.meters))
}

/// Reads the pipeline, and finds meters in it that nobody polls and more probes than a round can
/// have: here, because only here both the pollsters and the files are known. Gives back what is odd
/// about it as well.
pub(super) fn load_pipeline(
    settings: &Settings,
    strict: bool,
) -> Result<(Pipeline, Vec<Problem>), DaemonError> {
    let against = Against {
        meters: known_meters(&settings.plugins.pollsters),
        topic: settings.topic.clone(),
        strict,
    };
    let path = &settings.pipeline_cfg_file;
    let (mut pipeline, mut warnings) = files::load_pipeline(path, &against)?;
    warnings.extend(hosts::add(settings, &mut pipeline)?);
    let probes = settings.compute.gateways.len() * usize::from(settings.compute.ping_count);
    if probes > PROBES_MAX {
        let message = format!(
            "found {probes} probes a round (gateways times ping_count), expected {PROBES_MAX} at most"
        );
        let problem =
            Problem::new(Severity::Error, message).about("[compute] storage_server_address");
        return Err(DaemonError::Config(Problems::new(vec![problem])));
    }
    Ok((pipeline, warnings))
}
