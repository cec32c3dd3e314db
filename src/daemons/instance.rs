//! One agent and one collector for each `state_path`. Two agents with one identity would number their
//! readings from one file, and two collectors would make one secret and one database.
//!
//! A lock of the kernel's holds this, which ends with its process however that ends. The file only
//! says who has it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::{DaemonError, Stop};
use crate::clock;

/// How long a start waits for the disk; then it goes on without knowing.
const DISK_LIMIT: Duration = Duration::from_secs(2);
/// How long it waits for one that is about to end, as when somebody restarts it in a hurry.
const PREDECESSOR_LIMIT: Duration = Duration::from_secs(1);
const PREDECESSOR_LOOK: Duration = Duration::from_millis(50);

/// What there can be one of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// An agent.
    #[cfg(feature = "agent")]
    Agent,
    /// A collector.
    #[cfg(feature = "collector")]
    Collector,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "agent")]
            Role::Agent => "agent",
            #[cfg(feature = "collector")]
            Role::Collector => "collector",
        }
    }
}

/// Why the place could not be had.
#[derive(Debug)]
enum Taken {
    /// Somebody else has it.
    By(String),
    /// Nobody knows.
    Unknown(io::Error),
}

/// Takes the place of this role until the process ends. A disk that hangs, is full or may not be
/// written is no reason to leave a node unwatched: then it is said that nobody knows.
pub(super) fn claim(state_path: &Path, role: Role) -> Result<(), DaemonError> {
    let name = role.name();
    let path = state_path.join(format!("{name}.lock"));
    let (sender, answer) = channel();
    let (file, deadline) = (path.clone(), clock::now() + PREDECESSOR_LIMIT);
    let spawned = std::thread::Builder::new()
        .name("instance".into())
        .spawn(move || match take_by(&file, deadline) {
            Ok(lock) => {
                // Nobody listens any more where a disk answered too late.
                let _ = sender.send(Ok(()));
                keep(lock, &file);
            }
            Err(taken) => drop(sender.send(Err(taken))),
        });
    let answer = match spawned {
        Ok(_) => answer.recv_timeout(DISK_LIMIT),
        Err(_) => Err(RecvTimeoutError::Disconnected),
    };
    let unknown = match answer {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(Taken::By(pid))) if is_ending(&pid) => io::Error::other(format!(
            "the process {pid} has ended but hangs in the kernel, as with a disk that doesn't answer"
        )),
        Ok(Err(Taken::By(pid))) => {
            let what = format!("starting the {name} of {}", state_path.display());
            let why = format!("another one runs, process {pid}");
            return Err(DaemonError::failed(what, why));
        }
        Ok(Err(Taken::Unknown(error))) => error,
        Err(_) => io::ErrorKind::TimedOut.into(),
    };
    tracing::warn!(file = %path.display(), error = %unknown, "can't tell whether another {name} runs with this state_path");
    Ok(())
}

/// The lock stays for as long as the process does, and says whose it is.
fn keep(lock: Flock<File>, path: &Path) {
    std::mem::forget(lock);
    if let Err(error) = fs::write(path, format!("{}\n", std::process::id())) {
        tracing::debug!(file = %path.display(), %error, "the lock doesn't say whose it is");
    }
}

/// Takes the lock, and tries again until then while somebody has it.
fn take_by(path: &Path, deadline: Instant) -> Result<Flock<File>, Taken> {
    let pause = Stop::default();
    loop {
        match take(path) {
            Err(Taken::By(_)) if clock::now() < deadline => {
                pause.wait_until(clock::now() + PREDECESSOR_LOOK);
            }
            other => return other,
        }
    }
}

fn take(path: &Path) -> Result<Flock<File>, Taken> {
    let file = open(path).map_err(Taken::Unknown)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, Errno::EWOULDBLOCK)) => {
            let holder = fs::read_to_string(path).unwrap_or_default();
            Err(Taken::By(holder.trim().to_owned()))
        }
        Err((_, error)) => Err(Taken::Unknown(error.into())),
    }
}

/// Opens it for reading where it is there already: that works on a disk that takes no writes, and is
/// enough for a lock.
fn open(path: &Path) -> io::Result<File> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut options = OpenOptions::new();
    let new = options.write(true).create(true).truncate(false);
    new.mode(0o640).open(path)
}

/// Whether a process is over but for threads that hang in the kernel, which nobody can end.
fn is_ending(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(") ");
    after_name.is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_one_has_it_until_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/agent.lock");
        let first = take(&path).unwrap();
        fs::write(&path, "17\n").unwrap();
        let Err(Taken::By(pid)) = take_by(&path, clock::now()) else {
            panic!("a second one");
        };
        assert_eq!(pid, "17");
        drop(first);
        take(&path).unwrap();
    }

    #[test]
    fn one_that_is_about_to_end_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.lock");
        let first = take(&path).unwrap();
        let second = path.clone();
        let waiting = std::thread::spawn(move || {
            take_by(&second, clock::now() + Duration::from_secs(60)).is_ok()
        });
        drop(first);
        assert!(waiting.join().unwrap());
    }

    #[test]
    fn a_process_that_runs_is_not_ending() {
        assert!(!is_ending(&std::process::id().to_string()));
        assert!(!is_ending("") && !is_ending("no number"));
    }

    #[test]
    fn where_nothing_can_be_written_nobody_knows() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(take(&file.join("x.lock")), Err(Taken::Unknown(_))));
    }
}
