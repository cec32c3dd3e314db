//! Agent and collector in one process: the demo, and the smallest installation.

use std::process::ExitCode;

use ceilometer_ha::daemons::{self, ConfigArgs, standalone};
use clap::Parser;

/// Runs the agent and the collector in one process, with the embedded database, and shows what is
/// known live.
///
/// On a terminal the log goes to standalone.log in state_path. Exit codes: 0 done, 1 failed, 2 wrong
/// use or configuration.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    config: ConfigArgs,
}

fn main() -> ExitCode {
    let args = Args::parse();
    daemons::exit(standalone::run(&args.config))
}
