//! The collector: receives signed readings and stores them in a database of its own.

use std::process::ExitCode;

use ceilometer_ha::daemons::{self, ConfigArgs, collector, expire};
use clap::{Parser, Subcommand};

/// Receives signed readings over UDP and stores them.
///
/// Without a subcommand it runs until SIGTERM, stores what it has and ends; on SIGHUP it reads its
/// configuration again. Exit codes: 0 done, 1 failed, 2 wrong use or configuration.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    config: ConfigArgs,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Create the database's tables, or bring those of an earlier version or of a Ceilometer up to
    /// date
    Dbsync {
        /// Give the numbers of samples 64 bits in a database that was taken over from Ceilometer; it
        /// copies that table, which may take hours
        #[arg(long)]
        widen: bool,
    },
    /// Delete samples that are older than [database] metering_time_to_live, and what belongs to none
    /// any more, as the collector itself does while it runs
    Expire {
        /// Only say how much would be deleted
        #[arg(long)]
        dry_run: bool,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    daemons::exit(match args.command {
        None => collector::run(&args.config),
        Some(Command::Dbsync { widen }) => collector::dbsync(&args.config, widen),
        Some(Command::Expire { dry_run }) => expire::run(&args.config, dry_run),
    })
}
