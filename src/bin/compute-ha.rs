//! The operator's commands.

use std::process::ExitCode;
use std::time::Duration;

use ceilometer_ha::daemons::listen::{self, ListenArgs};
use ceilometer_ha::daemons::reading::{self, Ask, ListArgs, SamplesArgs, StatisticsArgs};
use ceilometer_ha::daemons::send_sample::{self, SendArgs};
use ceilometer_ha::daemons::status::{self, Format};
use ceilometer_ha::daemons::{self, ConfigArgs, forget, identity, key, quarantine};
use ceilometer_ha::storage::ForgetOptions;
use clap::{Parser, Subcommand};

/// Shows what is known about the compute nodes, and what was.
///
/// Exit codes: 0 done, 1 failed, 2 wrong use or configuration.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show every host: its storage, its last heartbeat, each gateway, and what could not be found
    /// out and why
    Status {
        #[command(flatten)]
        config: ConfigArgs,

        /// A table for people or JSON for programs
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,

        /// Show it again every so many seconds, until Ctrl-C
        #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
        watch: Option<u32>,
    },

    /// Remove what is said about the present of a host that is no more; its history stays
    Forget {
        #[command(flatten)]
        config: ConfigArgs,

        /// The host's name, as status shows it
        host: String,

        /// Even if it was heard within the last minute, and so will be back with its next reading
        #[arg(long)]
        force: bool,

        /// Say what would be removed, and remove nothing
        #[arg(long)]
        dry_run: bool,
    },

    /// Let the life of a host that was heard last be its present, where it lost its state directory while
    /// its clock was behind; without --yes, say what that would change
    ResetIdentity {
        #[command(flatten)]
        config: ConfigArgs,

        /// The host's name, as status shows it
        host: String,

        /// Do it
        #[arg(long)]
        yes: bool,
    },

    /// Make, hand out, retire or list the keys by which hosts prove what they say
    Key {
        #[command(flatten)]
        config: ConfigArgs,

        #[command(subcommand)]
        command: key::Command,
    },

    /// List, show or drop the messages that could not be stored
    Quarantine {
        #[command(flatten)]
        config: ConfigArgs,

        #[command(subcommand)]
        command: quarantine::Command,
    },
    /// Show samples, the newest first
    Samples {
        #[command(flatten)]
        config: ConfigArgs,
        #[command(flatten)]
        args: SamplesArgs,
    },
    /// Show which meters each resource has
    Meters {
        #[command(flatten)]
        config: ConfigArgs,
        #[command(flatten)]
        args: ListArgs,
    },
    /// Show resources as their newest samples describe them
    Resources {
        #[command(flatten)]
        config: ConfigArgs,
        #[command(flatten)]
        args: ListArgs,
    },
    /// Send test readings over one path, as the observer send-sample@HOST, which no node can be
    SendSample {
        #[command(flatten)]
        config: ConfigArgs,
        #[command(flatten)]
        args: SendArgs,
    },
    /// Show what arrives by one way, and whether a collector would take it
    Listen {
        #[command(flatten)]
        config: ConfigArgs,
        #[command(flatten)]
        args: ListenArgs,
    },
    /// Show count, least, greatest, mean and sum of a meter's volumes
    Statistics {
        #[command(flatten)]
        config: ConfigArgs,
        #[command(flatten)]
        args: StatisticsArgs,
    },
}

fn main() -> ExitCode {
    daemons::exit(match Args::parse().command {
        Command::Status {
            config,
            format,
            watch,
        } => {
            let watch = watch.map(|seconds| Duration::from_secs(seconds.into()));
            status::run(&config, format, watch)
        }
        Command::Forget {
            config,
            host,
            force,
            dry_run,
        } => forget::run(&config, &host, ForgetOptions { force, dry_run }),
        Command::ResetIdentity { config, host, yes } => identity::run(&config, &host, yes),
        Command::Key { config, command } => key::run(&config, &command),
        Command::Quarantine { config, command } => quarantine::run(&config, &command),
        Command::Samples { config, args } => reading::run(&config, Ask::Samples(args)),
        Command::Meters { config, args } => reading::run(&config, Ask::Meters(args)),
        Command::Resources { config, args } => reading::run(&config, Ask::Resources(args)),
        Command::SendSample { config, args } => send_sample::run(&config, &args),
        Command::Listen { config, args } => listen::run(&config, &args),
        Command::Statistics { config, args } => reading::run(&config, Ask::Statistics(args)),
    })
}
