//! The telemetry secret for a tool, which takes what is there and makes none.

#[cfg(feature = "decider")]
use super::DaemonError;
#[cfg(feature = "decider")]
use crate::config::Settings;
#[cfg(feature = "decider")]
use crate::model::Secret;

/// The file in `state_path` with this host's own secret.
pub(super) const FILE: &str = "telemetry_secret";

/// The configured secret, or this host's own if it has one already.
#[cfg(feature = "decider")]
pub(super) fn of(settings: &Settings) -> Result<Secret, DaemonError> {
    if let Some(secret) = &settings.telemetry_secret {
        return Ok(secret.clone());
    }
    let path = settings.state_path.join(FILE);
    let what = || format!("reading this host's own secret, {}", path.display());
    let text = std::fs::read_to_string(&path).map_err(|error| {
        let why = format!("{error}; [publisher] telemetry_secret is not set");
        DaemonError::failed(what(), why)
    })?;
    match text.trim() {
        "" => Err(DaemonError::failed(what(), "the file is empty")),
        text => Ok(Secret::new(text)),
    }
}
