//! `ceilometer-polling-ha --once`: one round of every pollster, shown, and published only if that is asked
//! for.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use super::super::sending::Sending;
use super::super::signals::{self, End};
use super::super::workers::Workers;
use super::super::{
    ConfigArgs, Configuration, DaemonError, Stop, agent_state, instance, output, plan, process,
    secret,
};
use super::task::wants;
use super::{signing, wanted};
use crate::clock;
use crate::config::{Purpose, Settings};
use crate::daemons::reload::Reader;
use crate::events::AgentEvents;
use crate::model::{Sample, Value, meters};
use crate::pipeline::{Emitter, Source};
use crate::pollsters::storage::{SharedMemory, names};
use crate::pollsters::{Bell, Context, Round};
use crate::publisher::queue::Batch;

/// The longest that a round is waited for, however long its interval is; one that takes longer is shown as
/// unfinished.
const ROUND_LIMIT: Duration = Duration::from_secs(60);
/// The shortest: what a slow machine may need for a round of a fast source.
const ROUND_LEAST: Duration = Duration::from_secs(10);
/// How long names of gateways may take to be resolved before the round.
const NAMES_LIMIT: Duration = Duration::from_secs(5);
/// How often it is looked whether somebody ended it.
const LOOK: Duration = Duration::from_millis(100);

/// How one round goes.
#[derive(Debug, Clone, clap::Args)]
pub struct OnceArgs {
    /// One round of every pollster: show what it yields and end; 0 if all could look, 1 otherwise. Nothing
    /// is published or written
    #[arg(long)]
    pub once: bool,
    /// With --once: publish it as well. That is a life of the agent of its own, so that none may run beside it
    #[arg(long, requires = "once")]
    publish: bool,
    /// With --once: a table for people or JSON for programs
    #[arg(long, value_enum, default_value_t = Format::Table, requires = "once")]
    format: Format,
}

/// How to show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// For programs: one JSON document.
    Json,
}

/// What came of it all.
#[derive(Debug, Serialize)]
struct Report {
    host: String,
    rounds: Vec<Looked>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    published: Vec<Published>,
}

/// One round of one pollster.
#[derive(Debug, Serialize)]
struct Looked {
    source: String,
    pollster: String,
    outcome: Outcome,
    seconds: Option<f64>,
    readings: Vec<Shown>,
    #[serde(skip)]
    samples: Vec<Sample>,
}

/// What a round came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// It has readings.
    Read,
    /// It could look and has nothing to say yet, or there is nothing to look at.
    Nothing,
    /// It could not look.
    Failed,
    /// It didn't come back in time.
    Unfinished,
}

/// One reading.
#[derive(Debug, Serialize)]
struct Shown {
    meter: String,
    resource_id: String,
    volume: f64,
    unit: String,
    /// Why there is no other reading, of a `pollster.failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// What became of the readings on one path.
#[derive(Debug, Serialize)]
struct Published {
    path: String,
    sent: usize,
    failed: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
}

/// A task's place among those that run, and what it came to.
type Done = (usize, Vec<Sample>, Duration);

/// Looks once.
pub(super) fn run(args: &ConfigArgs, once: &OnceArgs) -> Result<(), DaemonError> {
    let configuration = Reader::new(args, Purpose::Agent).read()?;
    let settings = Arc::clone(&configuration.settings);
    if args.check_config {
        return plan::print_agent(&settings, &configuration.pipeline, &configuration.options);
    }
    process::keep_files_private();
    let life = match once.publish {
        true => Life::begin(&settings)?,
        false => Life::peek(&settings),
    };
    let runtime = signals::runtime()?;
    let (end, stop) = (End::listen(&runtime)?, Stop::default());
    let ending = stop.clone();
    runtime.spawn(async move {
        end.wait().await;
        ending.stop();
    });
    resolve(&settings, &life.memory)?;
    let rounds = look(&configuration, &life, &stop)?;
    let mut report = Report {
        host: settings.host.clone(),
        rounds,
        published: Vec::new(),
    };
    if once.publish {
        report.published = publish(&configuration, &life, &report.rounds, &stop)?;
    }
    runtime.shutdown_background();
    show(&report, once.format)?;
    report.verdict()
}

/// What a round is looked at with: an agent's life, or a look at what the last one left.
struct Life {
    epoch: u64,
    memory: SharedMemory,
}

impl Life {
    /// An agent's life, which raises the epoch; nobody else may live it.
    fn begin(settings: &Settings) -> Result<Self, DaemonError> {
        instance::claim(&settings.state_path, instance::Role::Agent)?;
        let events = AgentEvents::new()
            .map_err(|error| DaemonError::failed("registering metrics", error))?;
        let start = agent_state::start(&settings.state_path, &events);
        Ok(Life {
            epoch: start.epoch,
            memory: start.memory,
        })
    }

    /// Reads what an agent remembers, beside one that runs, and writes nothing.
    fn peek(settings: &Settings) -> Self {
        Life {
            epoch: clock::utc().unix_millis(),
            memory: agent_state::peek(&settings.state_path),
        }
    }
}

/// Gateways that are configured by name need an address before the round.
fn resolve(settings: &Settings, memory: &SharedMemory) -> Result<(), DaemonError> {
    let names = names::names_in(&settings.compute.gateways);
    if names.is_empty() {
        return Ok(());
    }
    let (mut workers, memory) = (Workers::default(), memory.clone());
    workers.spawn("names".into(), move || {
        names::refresh(&names, &memory);
    })?;
    workers.join(NAMES_LIMIT);
    Ok(())
}

/// Every pollster of every source at once, as in an agent.
fn look(
    configuration: &Configuration,
    life: &Life,
    stop: &Stop,
) -> Result<Vec<Looked>, DaemonError> {
    let (sender, done) = channel::<Done>();
    let (mut rounds, mut workers, mut limit) = (Vec::new(), Workers::default(), ROUND_LEAST);
    for (index, (source, pollster)) in wanted(configuration).enumerate() {
        limit = limit.max(source.interval);
        rounds.push(Looked {
            source: source.name.clone(),
            pollster: pollster.name().to_owned(),
            outcome: Outcome::Unfinished,
            seconds: None,
            readings: Vec::new(),
            samples: Vec::new(),
        });
        let mut built = pollster.build(&context(configuration, source, life, stop));
        let (sender, meters) = (sender.clone(), source.meters.clone());
        workers.spawn(format!("poll {}", pollster.name()), move || {
            let begun = clock::now();
            let mut samples = built.poll(Round { due: begun });
            let took = clock::now() - begun;
            samples.retain(|sample| wants(&meters, sample));
            // Nobody waits any more for one that is late.
            let _ = sender.send((index, samples, took));
        })?;
    }
    drop(sender);
    gather(&mut rounds, &done, limit.min(ROUND_LIMIT), stop);
    Ok(rounds)
}

fn context(configuration: &Configuration, source: &Source, life: &Life, stop: &Stop) -> Context {
    Context {
        host: configuration.settings.host.clone(),
        interval: source.interval,
        settings: Arc::clone(&configuration.settings),
        resources: source.resources.clone(),
        epoch: life.epoch,
        memory: life.memory.clone(),
        bell: Bell::new(|| {}),
        ending: stop.flag(),
    }
}

fn gather(rounds: &mut [Looked], done: &Receiver<Done>, limit: Duration, stop: &Stop) {
    let deadline = clock::now() + limit;
    loop {
        match done.recv_timeout(LOOK) {
            Ok((index, samples, took)) => {
                if let Some(round) = rounds.get_mut(index) {
                    round.fill(samples, took);
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) if stop.is_set() || clock::now() >= deadline => return,
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

impl Looked {
    fn fill(&mut self, samples: Vec<Sample>, took: Duration) {
        let has_failed = |sample: &Sample| sample.meter == meters::POLLSTER_FAILED;
        self.outcome = match (samples.is_empty(), samples.iter().any(has_failed)) {
            (true, _) => Outcome::Nothing,
            (false, true) => Outcome::Failed,
            (false, false) => Outcome::Read,
        };
        self.seconds = Some(took.as_secs_f64());
        self.readings = samples.iter().map(Shown::of).collect();
        self.samples = samples;
    }

    fn words(&self) -> &'static str {
        match self.outcome {
            Outcome::Read => "",
            Outcome::Nothing => {
                "nothing yet: it compares rounds, waits for a first answer, or has nothing to look at"
            }
            Outcome::Failed => "could not look",
            Outcome::Unfinished => "needs more time",
        }
    }
}

impl Shown {
    fn of(sample: &Sample) -> Self {
        let reason = (sample.meter == meters::POLLSTER_FAILED)
            .then(|| sample.metadata.get("reason").and_then(Value::as_str))
            .flatten();
        Shown {
            meter: sample.meter.name.to_string(),
            resource_id: sample.resource_id.clone(),
            volume: sample.volume.as_f64(),
            unit: sample.meter.unit.to_string(),
            reason: reason.map(str::to_owned),
        }
    }
}

/// Sends what was read, numbered as an agent numbers it, to every publisher that its sources name.
fn publish(
    configuration: &Configuration,
    life: &Life,
    rounds: &[Looked],
    stop: &Stop,
) -> Result<Vec<Published>, DaemonError> {
    let settings = &configuration.settings;
    let secret = secret::telemetry_secret(settings)?;
    let compute = &settings.compute;
    let emitter = Emitter::new(
        &settings.host,
        life.epoch,
        compute.cluster.as_deref(),
        &compute.host_tags,
    );
    let mut ways: BTreeMap<String, Sending> = BTreeMap::new();
    for sink in &configuration.pipeline.sinks {
        for publisher in &sink.publishers {
            let sending = Sending::start(publisher, settings, signing(configuration, &secret))?;
            ways.insert(format!("{} {}", sink.name, publisher.path()), sending);
        }
    }
    let sources = &configuration.pipeline.sources;
    for round in rounds.iter().filter(|round| !round.samples.is_empty()) {
        let Some(source) = sources.iter().find(|source| source.name == round.source) else {
            continue;
        };
        let mut batch = Batch::from([]);
        emitter.emit(source.interval, round.samples.clone(), |readings| {
            batch = readings.into();
        });
        let is_its = |key: &str| {
            source
                .sinks
                .iter()
                .any(|sink| key.starts_with(&format!("{sink} ")))
        };
        for (_, way) in ways.iter_mut().filter(|(key, _)| is_its(key)) {
            way.send(Arc::clone(&batch), stop);
        }
    }
    let finished = ways.into_values().map(|way| {
        let path = way.path().to_owned();
        let sent = way.finish();
        Published {
            path,
            sent: sent.sent,
            failed: sent.failed(),
            trouble: sent.trouble,
        }
    });
    Ok(finished.collect())
}

fn show(report: &Report, format: Format) -> Result<(), DaemonError> {
    match format {
        Format::Table => output::write(&report.table()),
        Format::Json => {
            let text = serde_json::to_string_pretty(report)
                .map_err(|error| DaemonError::failed("writing JSON", error))?;
            output::line(format_args!("{text}"))
        }
    }
}

impl Report {
    fn table(&self) -> String {
        let mut text = String::new();
        for round in &self.rounds {
            let took = round
                .seconds
                .map_or("-".to_owned(), |took| format!("{took:.3} s"));
            let words = round.words();
            let words = if words.is_empty() {
                String::new()
            } else {
                format!("  {words}")
            };
            let _ = writeln!(text, "{} / {}  {took}{words}", round.source, round.pollster);
            for shown in &round.readings {
                let Shown {
                    meter,
                    resource_id,
                    volume,
                    unit,
                    reason,
                } = shown;
                let space = if unit.is_empty() { "" } else { " " };
                let reason = reason
                    .as_ref()
                    .map_or(String::new(), |reason| format!("  {reason}"));
                let _ = writeln!(
                    text,
                    "    {meter} = {volume}{space}{unit}  {resource_id}{reason}"
                );
            }
        }
        for Published {
            path,
            sent,
            failed,
            trouble,
        } in &self.published
        {
            let trouble = trouble
                .as_ref()
                .map_or(String::new(), |trouble| format!(": {trouble}"));
            let _ = writeln!(text, "{path}: {sent} sent, {failed} failed{trouble}");
        }
        text
    }

    /// An error if somebody could not look, or something wasn't sent.
    fn verdict(&self) -> Result<(), DaemonError> {
        let is_bad =
            |round: &&Looked| matches!(round.outcome, Outcome::Failed | Outcome::Unfinished);
        let bad: Vec<&str> = self
            .rounds
            .iter()
            .filter(is_bad)
            .map(|round| round.pollster.as_str())
            .collect();
        if !bad.is_empty() {
            return Err(DaemonError::failed(
                "looking once",
                format!("no complete answer of {}", bad.join(", ")),
            ));
        }
        let unsent: usize = self
            .published
            .iter()
            .map(|published| published.failed)
            .sum();
        match unsent {
            0 => Ok(()),
            unsent => Err(DaemonError::failed(
                "publishing",
                format!("{unsent} readings were not sent"),
            )),
        }
    }
}
