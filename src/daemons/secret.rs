//! Where the telemetry secret comes from when the configuration names none.
//!
//! Nothing is ever signed or accepted without a secret. Rather than ship a published one, a host
//! makes its own, which serves an agent and a collector that share a state directory; between
//! hosts it fails closed: the collector refuses what it can't verify.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::DaemonError;
use super::known_secret::FILE;
use crate::config::Settings;
use crate::model::Secret;

const RANDOM_BYTES: usize = 24;

/// The configured secret, or this host's own.
pub(super) fn telemetry_secret(settings: &Settings) -> Result<Secret, DaemonError> {
    if let Some(secret) = &settings.telemetry_secret {
        return Ok(secret.clone());
    }
    let path = settings.state_path.join(FILE);
    let failed =
        |error| DaemonError::failed(format!("making a secret in {}", path.display()), error);
    fs::create_dir_all(&settings.state_path).map_err(failed)?;
    make(&path).map_err(failed)?;
    let secret = Secret::new(fs::read_to_string(&path).map_err(failed)?.trim());
    if secret.is_empty() {
        return Err(failed(io::Error::new(
            io::ErrorKind::InvalidData,
            "the file is empty: remove it",
        )));
    }
    tracing::warn!(
        file = %path.display(),
        "[publisher] telemetry_secret is not set: using this host's own, which no other host can verify"
    );
    Ok(secret)
}

/// Makes the file unless it is there. It is written under another name and linked into place, so
/// that an agent and a collector that start together end up with the same one, whole.
fn make(path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let mut random = [0; RANDOM_BYTES];
    fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let draft = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn made_once_and_for_the_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        make(&path).unwrap();
        let first = fs::read_to_string(&path).unwrap();
        assert_eq!(first.trim().len(), RANDOM_BYTES * 2);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        make(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), first);
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "no draft is left behind"
        );
    }
}
