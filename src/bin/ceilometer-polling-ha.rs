//! The agent: probes the storage gateways of this node and publishes what it finds, signed.

use std::process::ExitCode;

use ceilometer_ha::daemons::agent::{self, OnceArgs};
use ceilometer_ha::daemons::{self, ConfigArgs};
use clap::Parser;

/// Probes this node's storage gateways and publishes signed readings.
///
/// Needs either CAP_NET_RAW or a group within the sysctl net.ipv4.ping_group_range. Reads its
/// configuration again on SIGHUP. Ends on SIGTERM after sending what is queued. Exit codes: 0 done,
/// 1 failed, 2 wrong use or configuration.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    once: OnceArgs,
}

fn main() -> ExitCode {
    let args = Args::parse();
    daemons::exit(match args.once.once {
        true => agent::run_once(&args.config, &args.once),
        false => agent::run(&args.config),
    })
}
