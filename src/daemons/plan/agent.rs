//! The agent's part.

use std::time::Duration;

use crate::config::{self, Settings};
use crate::daemons::agent::pollsters_of;
use crate::daemons::{DaemonError, hosts, output};
use crate::pipeline::Pipeline;
use crate::pollsters::storage::VERDICT;
use crate::pollsters::{Listed, ipmi, libvirt, plugins};

/// What an agent would run.
pub(super) fn print(settings: &Settings, pipeline: &Pipeline) -> Result<(), DaemonError> {
    let compute = &settings.compute;
    output::line(format_args!(
        "host {}, state in {}",
        settings.host,
        settings.state_path.display()
    ))?;
    output::line(format_args!("gateways {}", compute.gateways.join(", ")))?;
    for source in &pipeline.sources {
        output::line(format_args!(
            "source {} every {:?} to {}",
            source.name,
            source.interval,
            source.sinks.join(", ")
        ))?;
        let pollsters: Vec<_> = pollsters_of(source, settings).collect();
        let runs = |names: &[&str]| {
            pollsters
                .iter()
                .any(|pollster| names.contains(&pollster.name()))
        };
        for pollster in &pollsters {
            output::line(format_args!("  pollster {}", pollster.name()))?;
            print_command(*pollster, settings, source.interval)?;
        }
        hosts::print(source, settings)?;
        if runs(&[VERDICT, crate::pollsters::hosts::NAME]) {
            let timeout = config::effective_timeout(source.interval, compute);
            output::line(format_args!(
                "  {} probes, {:?} apart, wait {timeout:?} for their reply",
                compute.ping_count, compute.ping_interval
            ))?;
        }
        if runs(&libvirt::POLLSTERS) {
            output::line(format_args!(
                "  asks libvirt at {}, waits {:?} for its answer",
                settings.libvirt.uri, settings.libvirt.timeout
            ))?;
        }
    }
    for sink in &pipeline.sinks {
        for publisher in &sink.publishers {
            output::line(format_args!(
                "sink {} publishes to {}",
                sink.name,
                publisher.url()
            ))?;
        }
    }
    if let Some(address) = settings.agent.http_listen {
        output::line(format_args!(
            "serves /healthz, /readyz and /metrics on {address}"
        ))?;
    }
    Ok(())
}

/// What a pollster runs and how long it may take. Its arguments may be secrets.
fn print_command(
    pollster: Listed<'_>,
    settings: &Settings,
    interval: Duration,
) -> Result<(), DaemonError> {
    let (command, asked, given, option) = match pollster {
        Listed::Plugin(spec) => (
            &spec.command,
            settings.plugins.timeout,
            plugins::effective_timeout(interval, &settings.plugins),
            "[plugins] timeout",
        ),
        Listed::BuiltIn(entry) if entry.name == ipmi::NAME => (
            &settings.ipmi.command,
            settings.ipmi.timeout,
            ipmi::effective_timeout(interval, &settings.ipmi),
            "[ipmi] timeout",
        ),
        Listed::BuiltIn(_) => return Ok(()),
    };
    output::line(format_args!(
        "    runs {} with {} arguments, killed after {given:?}",
        command.program,
        command.arguments.len()
    ))?;
    if given < asked {
        output::line(format_args!(
            "    which is the interval of its source: {option} is {asked:?}"
        ))?;
    }
    Ok(())
}
