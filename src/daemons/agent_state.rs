//! The agent's file in `state_path`: its epoch, and what it remembers of its gateways. The disk may
//! be missing, full or hung; the agent then starts without, says so, and is only less sure.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Stop;
use crate::clock;
use crate::events::AgentEvents;
use crate::model::UtcTime;
use crate::pollsters::storage::{Memory, SharedMemory};

const FILE: &str = "agent.json";
/// A state file larger than this is not ours.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How long a start waits for the disk.
const DISK_LIMIT: Duration = Duration::from_secs(2);
/// How often what changed is saved: a gateway that first answered is news worth keeping at once.
const SAVE_PERIOD: Duration = Duration::from_millis(250);

/// What the file holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Saved {
    epoch: u64,
    #[serde(default)]
    gateways: Memory,
}

/// What an agent starts with.
pub(super) struct Start {
    /// This life's epoch.
    pub epoch: u64,
    /// What is remembered.
    pub memory: SharedMemory,
    /// Where to save changes; None if the disk didn't answer and what it holds must not be
    /// overwritten.
    pub file: Option<StateFile>,
}

/// The file, while the agent runs.
pub(super) struct StateFile {
    path: PathBuf,
    epoch: u64,
}

/// Reads what the last life left, and writes this life's epoch before anything is said in it.
pub(super) fn start(state_path: &Path, events: &AgentEvents) -> Start {
    let path = state_path.join(FILE);
    let now = clock::utc();
    let (sender, answer) = mpsc::channel();
    let on_disk = path.clone();
    // The disk may hang for ever: then this thread does, and nobody else.
    let spawned = std::thread::Builder::new()
        .name("state-load".into())
        .spawn(move || {
            let _ = sender.send(load_and_mark(&on_disk, now));
        });
    let loaded = match spawned {
        Ok(_) => answer
            .recv_timeout(DISK_LIMIT)
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))
            .flatten(),
        Err(error) => Err(error),
    };
    match loaded {
        Ok(Saved { epoch, gateways }) => Start {
            epoch,
            memory: SharedMemory::new(gateways),
            file: Some(StateFile { path, epoch }),
        },
        Err(error) => {
            events.no_state(&path, &error, clock::now());
            Start {
                epoch: next_epoch(0, now),
                memory: SharedMemory::default(),
                file: None,
            }
        }
    }
}

/// What an agent remembers, for who only looks: nothing is written, and where the disk doesn't answer
/// nothing is known.
pub(super) fn peek(state_path: &Path) -> SharedMemory {
    let path = state_path.join(FILE);
    let (sender, answer) = mpsc::channel();
    let spawned = std::thread::Builder::new()
        .name("state-peek".into())
        .spawn(move || {
            let _ = sender.send(read(&path));
        });
    let found = match spawned {
        Ok(_) => answer.recv_timeout(DISK_LIMIT).ok(),
        Err(_) => None,
    };
    let saved: Option<Saved> = found
        .and_then(Result::ok)
        .flatten()
        .and_then(|text| serde_json::from_str(&text).ok());
    SharedMemory::new(saved.unwrap_or_default().gateways)
}

/// Saves what changes until it is time to stop.
pub(super) fn save_changes(
    file: &StateFile,
    memory: &SharedMemory,
    events: &AgentEvents,
    stop: &Stop,
) {
    let mut seen = 0;
    let mut is_over = false;
    while !is_over {
        is_over = stop.wait_until(clock::now() + SAVE_PERIOD);
        let Some((version, gateways)) = memory.changed_since(seen) else {
            continue;
        };
        let saved = Saved {
            epoch: file.epoch,
            gateways,
        };
        let result = save(&file.path, &saved);
        if result.is_ok() {
            seen = version;
        }
        events.state_saved(&file.path, &result, clock::now());
    }
}

fn load_and_mark(path: &Path, now: UtcTime) -> io::Result<Saved> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let last = load(path)?;
    let saved = Saved {
        epoch: next_epoch(last.epoch, now),
        gateways: last.gateways,
    };
    save(path, &saved)?;
    Ok(saved)
}

/// The greater of the last one plus one, and the time in milliseconds: it grows although the clock
/// was set back, and although the file was lost.
fn next_epoch(last: u64, now: UtcTime) -> u64 {
    last.saturating_add(1).max(now.unix_millis())
}

/// The file's text; None if there is none.
fn read(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    io::read_to_string(io::Read::take(file, FILE_BYTES_MAX)).map(Some)
}

fn load(path: &Path) -> io::Result<Saved> {
    let Some(text) = read(path)? else {
        return Ok(Saved::default());
    };
    match serde_json::from_str(&text) {
        Ok(saved) => Ok(saved),
        Err(error) => {
            let aside = path.with_extension("json.bad");
            tracing::error!(file = %path.display(), %error, aside = %aside.display(), "the state file is damaged: set aside");
            fs::rename(path, aside)?;
            Ok(Saved::default())
        }
    }
}

/// Whole or not at all: written beside, synced, and moved into place.
fn save(path: &Path, saved: &Saved) -> io::Result<()> {
    let draft = path.with_extension("json.new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o640)
        .open(&draft)?;
    file.write_all(serde_json::to_string_pretty(saved)?.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_grow_whatever_the_clock_and_the_file_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let noon = UtcTime::from_unix_micros(1_000_000_000_000);
        let hour_before = UtcTime::from_unix_micros(noon.unix_micros() - 3_600_000_000);
        let first = load_and_mark(&path, noon).unwrap().epoch;
        assert_eq!(first, noon.unix_millis());
        let second = load_and_mark(&path, hour_before).unwrap().epoch;
        assert_eq!(second, first + 1, "although the clock was set back");
        fs::remove_file(&path).unwrap();
        let later = UtcTime::from_unix_micros(noon.unix_micros() + 60_000_000);
        assert!(
            load_and_mark(&path, later).unwrap().epoch > second,
            "although the file was lost"
        );
    }

    #[test]
    fn a_damaged_file_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        fs::write(&path, "{\"epoch\": 1, \"gateways\":").unwrap();
        assert_eq!(load(&path).unwrap(), Saved::default());
        assert!(path.with_extension("json.bad").exists());
    }

    #[test]
    fn what_is_remembered_survives() {
        let folder = tempfile::tempdir().unwrap();
        let events = AgentEvents::new().unwrap();
        let first = start(folder.path(), &events);
        first
            .memory
            .answered("192.0.2.7".parse().unwrap(), "st0", false);
        let stop = Stop::default();
        stop.stop();
        save_changes(&first.file.unwrap(), &first.memory, &events, &stop);
        let second = start(folder.path(), &events);
        assert!(second.epoch > first.epoch);
        assert_eq!(
            second
                .memory
                .interface_of("192.0.2.7".parse().unwrap())
                .as_deref(),
            Some("st0")
        );
    }
}
