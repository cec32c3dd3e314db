//! Starts commands, and finds what they leave behind. Whatever a command forked stays below it, or
//! comes to us when its parent dies, because this process asks to be given orphans (a "child
//! subreaper"). What came to us and isn't in our session was a command's: nothing else that the agent
//! starts leaves its session.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, getsid};

use super::process::{Standing, standing};
use crate::clock;

/// How long to go on killing what a command left behind. Killing takes a millisecond; what takes
/// longer hangs in the kernel, or forks faster than it is found. It is looked for again after the
/// next run.
const SWEEP_MAX: Duration = Duration::from_millis(500);
/// The time between two looks.
const SWEEP_PAUSE_MS: u8 = 2;
/// The first descriptor that a command must not inherit: the three before it are the command's own.
const FIRST_FOREIGN_DESCRIPTOR: i32 = 3;

/// The commands that run, by pid, which is their session's too. Nobody but a sweep reaps, and only
/// while it holds this lock: so no number is anybody else's between a look and a kill.
static RUNNING: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// Starts a command that makes a session of its own before anything else.
pub(super) fn start(command: &mut Command) -> io::Result<(Child, Pid)> {
    let mut running = lock();
    prctl::set_child_subreaper(true)?;
    // Ours are all marked already; what whoever started us left open without a mark is not.
    close_fds::set_fds_cloexec_threadsafe(FIRST_FOREIGN_DESCRIPTOR, &[]);
    let child = command.spawn()?;
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    running.insert(pid);
    Ok((child, Pid::from_raw(pid)))
}

/// Ends a command, if it hasn't ended, with everything that it started and left; false if something
/// is still there. Its status is gone afterwards.
pub(super) fn end(command: Pid) -> bool {
    let mut running = lock();
    // Its group and, in case it hadn't got as far as making one, itself.
    let _ = killpg(command, Signal::SIGKILL);
    let _ = kill(command, Signal::SIGKILL);
    running.remove(&command.as_raw());
    drop(running);
    // Until it has made its session, it can't be told from the agent's other children.
    reap_from(command, clock::now() + SWEEP_MAX) && sweep(clock::now() + SWEEP_MAX)
}

/// Waits for the end of a process that was killed; false if it takes too long.
fn reap_from(killed: Pid, deadline: Instant) -> bool {
    loop {
        let guard = lock();
        match waitpid(killed, Some(WaitPidFlag::WNOHANG)) {
            Ok(status) if status.pid().is_none() => {}
            // Gone, or another sweep was faster.
            Ok(_) | Err(_) => return true,
        }
        drop(guard);
        if clock::now() >= deadline {
            return false;
        }
        pause();
    }
}

/// Kills and reaps orphans until there are none; false if some are left at the deadline.
fn sweep(deadline: Instant) -> bool {
    let mut before = None;
    loop {
        let running = lock();
        let found = orphans(&running);
        for (pid, standing) in &found {
            remove(*pid, *standing);
        }
        drop(running);
        let is_same = before.as_ref() == Some(&found);
        // Twice, because a list that is read while it changes may lack one.
        if found.is_empty() && is_same {
            return true;
        }
        if clock::now() >= deadline {
            return false;
        }
        // Others than before: something forks and exits again and again, and is caught only by
        // whoever is faster.
        if is_same {
            pause();
        }
        before = Some(found);
    }
}

fn remove(pid: Pid, standing: Standing) {
    if !standing.is_zombie {
        // Its whole group at once, so that two that start each other again are both gone.
        let _ = killpg(Pid::from_raw(standing.group), Signal::SIGKILL);
        let _ = kill(pid, Signal::SIGKILL);
    }
    let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
}

/// Children of ours in another session than ours and in none of a command that still runs.
fn orphans(running: &BTreeSet<i32>) -> Vec<(Pid, Standing)> {
    let own = i32::try_from(std::process::id()).unwrap_or(-1);
    let Ok(session) = getsid(None) else {
        return Vec::new();
    };
    let is_orphan = |pid: i32, standing: Standing| {
        standing.parent == own
            && standing.session != session.as_raw()
            && !running.contains(&pid)
            && !running.contains(&standing.session)
    };
    children()
        .into_iter()
        .filter_map(|pid| {
            let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
            let standing = standing(&String::from_utf8_lossy(&stat))?;
            is_orphan(pid, standing).then(|| (Pid::from_raw(pid), standing))
        })
        .collect()
}

/// The pids of our children; of all processes, where the kernel doesn't list children.
fn children() -> Vec<i32> {
    let tasks = numbers_in("/proc/self/task");
    let lists: Option<Vec<String>> = tasks
        .iter()
        .map(
            |task| match fs::read_to_string(format!("/proc/self/task/{task}/children")) {
                Ok(list) => Some(list),
                // A thread that has just ended has no children any more.
                Err(_) if fs::metadata(format!("/proc/self/task/{task}")).is_err() => {
                    Some(String::new())
                }
                Err(_) => None,
            },
        )
        .collect();
    match lists {
        Some(lists) => lists
            .iter()
            .flat_map(|list| list.split_ascii_whitespace())
            .filter_map(|pid| pid.parse().ok())
            .collect(),
        None => numbers_in("/proc"),
    }
}

fn numbers_in(folder: &str) -> Vec<i32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn pause() {
    let _ = poll(
        &mut [] as &mut [PollFd<'_>],
        PollTimeout::from(SWEEP_PAUSE_MS),
    );
}

fn lock() -> MutexGuard<'static, BTreeSet<i32>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}
