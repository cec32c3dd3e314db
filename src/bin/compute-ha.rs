//! The operator's commands.

use std::process::ExitCode;
use std::time::Duration;

use ceilometer_ha::daemons::status::{self, Format};
use ceilometer_ha::daemons::{self, ConfigArgs};
use clap::{Parser, Subcommand};

/// Shows what is known about the compute nodes.
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
}

fn main() -> ExitCode {
    let Command::Status {
        config,
        format,
        watch,
    } = Args::parse().command;
    let watch = watch.map(|seconds| Duration::from_secs(seconds.into()));
    daemons::exit(status::run(&config, format, watch))
}
