//! `compute-ha listen`: shows what arrives by one way, and whether a collector would take it.

mod amqp;
mod heard;
mod udp;

use std::net::SocketAddr;
use std::time::Duration;

use clap::ValueEnum;

use self::heard::{Heard, Tally};
use super::signals::{self, End};
use super::{ConfigArgs, DaemonError, Stop, files, known_secret, output};
use crate::clock;
use crate::config::{Loaded, Purpose};
use crate::wire::Verifier;

/// What to listen to.
#[derive(Debug, Clone, clap::Args)]
pub struct ListenArgs {
    #[command(flatten)]
    way: Way,
    /// End after so many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after so long
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    /// A line of text or a JSON object for each message
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// By which way messages come.
#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = false)]
struct Way {
    /// Datagrams to this address of ours, where no collector may listen
    #[arg(long, value_name = "ADDRESS:PORT")]
    udp: Option<SocketAddr>,
    /// A topic of the message broker, over a queue of its own that takes nothing from a collector
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
}

/// How to show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For programs: one JSON object a line.
    Json,
}

/// Who shows what is heard, and knows when it is enough.
struct Listener<'a> {
    args: &'a ListenArgs,
    verifier: Verifier,
    tally: Tally,
    stop: Stop,
}

/// Listens until it has heard enough: 0 if it heard something and a collector would take all of it.
pub fn run(args: &ConfigArgs, listen: &ListenArgs) -> Result<(), DaemonError> {
    let Loaded { settings, .. } = files::load_settings(args, Purpose::Wire)?;
    if args.check_config {
        return output::line(format_args!("the configuration can be used"));
    }
    let runtime = signals::runtime()?;
    let (end, stop) = (End::listen(&runtime)?, Stop::default());
    let ending = stop.clone();
    let limit = listen.seconds.map(Duration::from_secs);
    runtime.spawn(async move {
        let over = tokio::time::sleep(limit.unwrap_or(Duration::MAX));
        tokio::select! {
            () = end.wait() => {}
            () = over, if limit.is_some() => {}
        }
        ending.stop();
    });
    let mut listener = Listener {
        args: listen,
        verifier: Verifier::new(known_secret::of(&settings)?),
        tally: Tally::default(),
        stop,
    };
    match (listen.way.udp, &listen.way.topic) {
        (Some(address), _) => udp::listen(address, &mut listener)?,
        (None, Some(topic)) => runtime.block_on(amqp::listen(&settings, topic, &mut listener))?,
        (None, None) => {}
    }
    runtime.shutdown_background();
    listener.conclude()
}

impl Listener<'_> {
    /// Says that messages are taken from now on.
    fn ready(&self, place: &str) {
        output::complain(format_args!("listening on {place}"));
    }

    /// Shows a message.
    fn show(&mut self, heard: &Heard) -> Result<(), DaemonError> {
        self.tally.add(heard);
        match self.args.format {
            Format::Text => output::line(format_args!("{heard}")),
            Format::Json => {
                let line = serde_json::to_string(heard)
                    .map_err(|error| DaemonError::failed("writing JSON", error))?;
                output::line(format_args!("{line}"))
            }
        }
    }

    /// Whether enough was heard, or somebody says so.
    fn is_over(&self) -> bool {
        let is_enough = |count| self.tally.all() >= count;
        self.stop.is_set() || self.args.count.is_some_and(is_enough)
    }

    fn conclude(self) -> Result<(), DaemonError> {
        output::complain(format_args!("{}", self.tally));
        let refused = self.tally.refused();
        if refused > 0 {
            let why = format!(
                "{refused} of {} messages would be refused",
                self.tally.all()
            );
            return Err(DaemonError::failed("listening", why));
        }
        match self.tally.all() {
            0 => Err(DaemonError::failed("listening", "nothing came")),
            _ => Ok(()),
        }
    }
}

/// Now, as messages say it.
fn now() -> crate::model::UtcTime {
    clock::utc()
}
