//! Reads the files of keys. They are for their owner alone: a key that others can read proves nothing.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::DaemonError;
use crate::config::{Problem, Problems, Severity};
#[cfg(any(feature = "agent", feature = "collector"))]
use crate::config::{Purpose, Settings};
#[cfg(any(feature = "agent", feature = "collector"))]
use crate::wire::keys::{HOST_KEY_BYTES_MAX, HostKey};
use crate::wire::keys::{KEYS_BYTES_MAX, KeyRing, KeysError};

/// The mode's bits for all but the owner.
const FOR_OTHERS: u32 = 0o077;

#[cfg(any(feature = "agent", feature = "collector"))]
const OF_HOST: &str = "[publisher] host_key_file";
const OF_COLLECTOR: &str = "[collector] host_keys_file";

/// The keys that a daemon has.
#[cfg(any(feature = "agent", feature = "collector"))]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Keys {
    /// An agent's own.
    pub(super) own: Option<HostKey>,
    /// A collector's.
    pub(super) ring: KeyRing,
}

#[cfg(any(feature = "agent", feature = "collector"))]
impl Keys {
    /// Reads what the settings name and the program uses.
    pub(super) fn load(settings: &Settings, purpose: Purpose) -> Result<Self, DaemonError> {
        let mut keys = Keys::default();
        if let Some(path) = &settings.host_key_file
            && matches!(purpose, Purpose::Agent | Purpose::Everything)
        {
            keys.own = Some(own(path, &settings.host)?);
        }
        if let Some(path) = &settings.collector.trust.host_keys_file
            && matches!(purpose, Purpose::Collector | Purpose::Everything)
        {
            keys.ring = ring(path)?;
        }
        Ok(keys)
    }
}

/// The key of this very host.
#[cfg(any(feature = "agent", feature = "collector"))]
fn own(path: &Path, host: &str) -> Result<HostKey, DaemonError> {
    let text = read(path, OF_HOST, HOST_KEY_BYTES_MAX)?;
    let key = HostKey::parse(&text).map_err(|error| in_line(path, OF_HOST, error))?;
    if key.host() != host {
        let message = format!(
            "found the key of {:?}, expected that of {host:?}, as [DEFAULT] host has it",
            key.host()
        );
        return Err(wrong(path, OF_HOST, message));
    }
    Ok(key)
}

/// All keys of a collector.
pub(super) fn ring(path: &Path) -> Result<KeyRing, DaemonError> {
    let text = read(path, OF_COLLECTOR, KEYS_BYTES_MAX)?;
    KeyRing::parse(&text).map_err(|error| in_line(path, OF_COLLECTOR, error))
}

fn read(path: &Path, option: &str, most: usize) -> Result<String, DaemonError> {
    let failed = |error: io::Error| wrong(path, option, format!("can't be read: {error}"));
    let found = fs::metadata(path).map_err(failed)?;
    // A pipe might never answer.
    if !found.is_file() {
        return Err(wrong(path, option, "found no regular file"));
    }
    let mode = found.permissions().mode() & 0o7777;
    if mode & FOR_OTHERS != 0 {
        let message =
            format!("found the mode {mode:o}, expected a file for its owner alone: chmod 600");
        return Err(wrong(path, option, message));
    }
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > most {
        let message = format!("found more than {most} bytes, expected keys alone");
        return Err(wrong(path, option, message));
    }
    String::from_utf8(bytes)
        .map_err(|_| wrong(path, option, "found bytes that are no UTF-8, expected text"))
}

fn in_line(path: &Path, option: &str, error: KeysError) -> DaemonError {
    let problem = Problem::new(Severity::Error, error.message);
    told(problem.in_file(path, Some(error.line)).about(option))
}

fn wrong(path: &Path, option: &str, message: impl Into<String>) -> DaemonError {
    let problem = Problem::new(Severity::Error, message);
    told(problem.in_file(path, None).about(option))
}

fn told(problem: Problem) -> DaemonError {
    DaemonError::Config(Problems::new(vec![problem]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemons::key_files::{append, write_own};
    use crate::wire::keys::master_line;

    #[test]
    fn a_line_is_added_whole_and_the_mode_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        append(&path, &master_line(1, &[1; 32])).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&path), 0o600);
        fs::write(&path, fs::read_to_string(&path).unwrap().trim_end()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        append(&path, &master_line(2, &[2; 32])).unwrap();
        assert_eq!(mode(&path), 0o400);
        let numbers: Vec<u32> = ring(&path)
            .unwrap()
            .masters()
            .map(|(number, _)| number)
            .collect();
        assert_eq!(numbers, [1, 2]);
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "no draft is left"
        );
    }

    #[test]
    fn a_file_that_others_may_read_holds_no_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        append(&path, &master_line(1, &[1; 32])).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = ring(&path).unwrap_err().to_string();
            assert!(error.contains("chmod 600"), "{mode:o}: {error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        ring(&path).unwrap();
        assert!(ring(folder.path()).is_err(), "a directory");
        fs::write(&path, vec![b'#'; KEYS_BYTES_MAX + 1]).unwrap();
        assert!(ring(&path).unwrap_err().to_string().contains("more than"));
    }

    #[test]
    fn a_node_has_its_own_key_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write_own(&path, &HostKey::new("node-1", 3, [5; 32]).issued()).unwrap();
        assert_eq!(own(&path, "node-1").unwrap().number(), 3);
        let error = own(&path, "node-2").unwrap_err().to_string();
        assert!(
            error.contains("node-1") && error.contains("node-2"),
            "{error}"
        );
        assert!(
            write_own(&path, "").is_err(),
            "what is there is not written over"
        );
    }
}
