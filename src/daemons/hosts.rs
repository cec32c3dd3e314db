//! The hosts that are looked at from outside: joins `hosts_file` with the resources of the sources
//! that look at hosts, and refuses what doesn't fit before anything starts.

use super::agent::pollsters_of;
use super::{DaemonError, files, output};
use crate::config::{Namespace, Problem, Settings, Severity, settle};
use crate::pipeline::{Pipeline, Source};
use crate::pollsters::hosts::NAME;
use crate::pollsters::hosts::list::{List, Target};
use crate::pollsters::ping::round::PROBES_MAX;

/// Gives every source that looks at hosts those of the file as further resources, and says what is odd
/// about them. The file is read only in namespace central: a compute node may hold a copy of a
/// controller's configuration.
pub(super) fn add(
    settings: &Settings,
    pipeline: &mut Pipeline,
) -> Result<Vec<Problem>, DaemonError> {
    if !settings.polling_namespaces.contains(&Namespace::Central) {
        return Ok(Vec::new());
    }
    let mut of_file = List::default();
    let mut problems = match &settings.central.hosts_file {
        Some(path) => files::load_hosts(path, &mut of_file)?,
        None => Vec::new(),
    };
    let mut is_used = false;
    for source in &mut pipeline.sources {
        if !looks_at_hosts(source, settings) {
            continue;
        }
        is_used = true;
        let mut list = of_file.clone();
        problems.extend(list.read_resources(
            &settings.pipeline_cfg_file,
            &source.name,
            &source.resources,
        ));
        source.resources = list.targets().map(Target::to_string).collect();
        problems.extend(too_many_probes(settings, source));
    }
    if settings.central.hosts_file.is_some() && !is_used {
        let message = format!("no source of pipeline_ha.yaml polls {NAME}, which looks at hosts");
        let problem = Problem::new(Severity::Warning, message);
        problems.push(problem.about("[central] hosts_file"));
    }
    let ((), warnings) = settle((), problems).map_err(DaemonError::Config)?;
    Ok(warnings)
}

/// Prints whom a source looks at, for `--check-config`.
pub(super) fn print(source: &Source, settings: &Settings) -> Result<(), DaemonError> {
    if !looks_at_hosts(source, settings) {
        return Ok(());
    }
    let targets = source
        .resources
        .iter()
        .filter_map(|url| Target::from_url(url).ok());
    for Target {
        host,
        network,
        address,
    } in targets
    {
        output::line(format_args!("  looks at {host} on {network}: {address}"))?;
    }
    Ok(())
}

fn looks_at_hosts(source: &Source, settings: &Settings) -> bool {
    pollsters_of(source, settings).any(|entry| entry.name() == NAME)
}

fn too_many_probes(settings: &Settings, source: &Source) -> Option<Problem> {
    let probes = source.resources.len() * usize::from(settings.compute.ping_count);
    (probes > PROBES_MAX).then(|| {
        let message = format!(
            "found {probes} probes a round of source {} (addresses times ping_count), expected \
             {PROBES_MAX} at most",
            source.name
        );
        Problem::new(Severity::Error, message).about("[compute] ping_count")
    })
}
