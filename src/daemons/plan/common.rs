//! The parts that several programs print.

#[cfg(any(feature = "collector", feature = "decider"))]
use crate::config::DatabaseSettings;
use crate::config::SetOption;
use crate::config::options::Effect;
#[cfg(any(feature = "agent", feature = "collector"))]
use crate::config::{LogSettings, Settings};
use crate::daemons::{DaemonError, output};

/// Where the samples are.
#[cfg(any(feature = "collector", feature = "decider"))]
pub(super) fn print_database(settings: &DatabaseSettings) -> Result<(), DaemonError> {
    output::line(format_args!("database {}", settings.shown()))
}

/// Whose secret signs and verifies.
#[cfg(any(feature = "agent", feature = "collector"))]
pub(super) fn print_secret(settings: &Settings) -> Result<(), DaemonError> {
    let path = settings.state_path.display();
    match settings.telemetry_secret {
        Some(_) => output::line(format_args!("secret of [publisher] telemetry_secret")),
        None => output::line(format_args!(
            "secret of this host's own, in {path}: [publisher] telemetry_secret is not set"
        )),
    }
}

/// How much is logged, and where to.
#[cfg(any(feature = "agent", feature = "collector"))]
pub(super) fn print_log(settings: &LogSettings) -> Result<(), DaemonError> {
    let level = match (settings.debug, settings.verbose) {
        (true, _) => "debug",
        (false, true) => "info",
        (false, false) => "warning",
    };
    let form = if settings.use_json { " as JSON" } else { "" };
    let mut places: Vec<String> = Vec::new();
    if settings.use_journal {
        places.push("the journal".to_owned());
    }
    if let Some(facility) = &settings.syslog_facility {
        places.push(format!("syslog as {facility}"));
    }
    if let Some(file) = &settings.file {
        places.push(format!("{}{form}", file.display()));
    }
    // A log that goes nowhere would help nobody.
    if settings.use_stderr || places.is_empty() {
        places.push(format!("standard error{form}"));
    }
    output::line(format_args!(
        "log at level {level} to {}",
        places.join(", ")
    ))
}

/// The options that are read and differ from their default.
pub(super) fn print_options(options: &[SetOption]) -> Result<(), DaemonError> {
    let mut changed = options
        .iter()
        .filter(|option| !option.is_default && option.spec.effect == Effect::Read)
        .peekable();
    if changed.peek().is_none() {
        return output::line(format_args!("every option has its default"));
    }
    output::line(format_args!("options that differ from their default"))?;
    for option in changed {
        let default = match option.spec.default {
            "" => "nothing",
            text => text,
        };
        output::line(format_args!(
            "  {} = {}\n    default {default}, set in {}",
            option.spec.title(),
            option.shown,
            option.origin
        ))?;
    }
    Ok(())
}
