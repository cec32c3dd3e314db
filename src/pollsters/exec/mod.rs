//! Runs a command that somebody else wrote, within limits: it has a deadline, may print and allocate
//! so much, gets no input, no environment, no descriptors of ours and, unless it is meant to keep
//! them, no privileges. When it ends, by itself or not, everything it started is killed.
//!
//! Limits and privileges are set by `setsid`, `setpriv` and `prlimit` of util-linux ([`wrap`] has
//! the words): between fork and exec this process could set them only in code that must not
//! allocate, lock or fail. Where they are missing, nothing is run.
//!
//! Nothing here waits for the end of a pipe: a process that escaped can hold it open for ever.

mod orphans;
mod process;
mod wrap;

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::process::{ChildStderr, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, User, geteuid};

use self::wrap::Who;
use crate::clock;
use crate::config::CommandLine;
use crate::model::Secret;

/// What is kept of standard error for the log; the rest is read and forgotten.
const ERRORS_KEPT_MAX: usize = 2048;

/// The most that a command may print to standard error. It is never used but for the log, and a
/// command that prints more is killed like one that floods standard output.
const ERRORS_BYTES_MAX: usize = 1 << 20;

/// The longest sleep of whoever watches a command: the kernel tells of output at once, of an end
/// only whoever asks.
const LOOK_MAX: Duration = Duration::from_millis(10);

/// How much is read at a time, and how often before the clock is looked at.
const CHUNK: usize = 8192;
const CHUNKS_AT_ONCE: usize = 32;

/// Everything that a command finds in its environment, with `LANG=C`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Exit codes by which util-linux, shells and `env` say that there was nothing to start.
const NOT_STARTED: [i32; 2] = [126, 127];

/// A command to be run.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// What to run.
    pub command: &'a CommandLine,
    /// What comes after its own arguments.
    pub more: &'a [&'a str],
    /// Whose privileges it has.
    pub privileges: Privileges<'a>,
    /// How much of what it may use.
    pub limits: Limits,
}

/// Whose privileges a command has.
#[derive(Debug, Clone, Copy)]
pub enum Privileges<'a> {
    /// Those of this process, all of them.
    Kept,
    /// None: this user's, if we are root; else our own, without capabilities. It can't gain any
    /// either.
    Dropped {
        /// The user.
        user: &'a str,
    },
}

/// How much a command may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// When it is killed.
    pub time: Duration,
    /// What it may print to standard output.
    pub output_bytes: usize,
    /// The address space of each of its processes.
    pub memory_bytes: u64,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal, and not by our hand.
    Died(i32),
    /// It ran into its deadline and was killed.
    TimedOut,
    /// It printed too much and was killed.
    Flooded,
    /// It was killed because the agent ends.
    Ended,
    /// It couldn't be started, or not within its limits.
    NotStarted,
}

/// What became of a command.
#[derive(Debug)]
pub struct Report {
    /// How it ended.
    pub end: End,
    /// What it printed to standard output, unless it printed too much.
    pub output: Vec<u8>,
    /// The head of what it, or whatever was to start it, printed to standard error; fit for a log.
    pub errors: String,
    /// Whether everything that it started is gone.
    pub is_clean: bool,
}

/// Runs it and waits for its end, but no longer than its limits say, or until `ending`.
pub fn run(order: &Order<'_>, ending: &AtomicBool) -> Report {
    let deadline = clock::now() + order.limits.time;
    match Running::start(order) {
        Ok(running) => running.watch(order.limits, deadline, ending),
        Err(error) => Report::not_started(&error),
    }
}

impl Report {
    fn not_started(error: &io::Error) -> Self {
        Report {
            end: End::NotStarted,
            output: Vec::new(),
            errors: error.to_string(),
            is_clean: true,
        }
    }
}

/// A command that was started.
struct Running {
    pid: Pid,
    output: Pipe<ChildStdout>,
    errors: Pipe<ChildStderr>,
}

impl Running {
    fn start(order: &Order<'_>) -> io::Result<Self> {
        let before = wrap::before(who(order.privileges)?, order.limits.memory_bytes);
        let (first, others) = before.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let arguments = order.command.arguments.iter().map(Secret::expose);
        let (mut child, pid) = orphans::start(
            Command::new(first)
                .args(others)
                .arg(&order.command.program)
                .args(arguments)
                .args(order.more)
                .env_clear()
                .env("PATH", PATH)
                .env("LANG", "C")
                .current_dir("/")
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped()),
        )?;
        Ok(Running {
            pid,
            output: Pipe::new(child.stdout.take()),
            errors: Pipe::new(child.stderr.take()),
        })
    }

    fn watch(mut self, limits: Limits, deadline: Instant, ending: &AtomicBool) -> Report {
        let end = loop {
            self.read(limits);
            let now = clock::now();
            if self.is_flood(limits) {
                break End::Flooded;
            } else if let Some(end) = self.ended() {
                break end;
            } else if now >= deadline {
                break End::TimedOut;
            } else if ending.load(Ordering::Relaxed) {
                break End::Ended;
            }
            self.wait(deadline.saturating_duration_since(now));
        };
        let is_clean = orphans::end(self.pid);
        // What it had printed before it ended may still be in the pipe, and nobody writes any more.
        self.read(limits);
        self.report(end, limits, is_clean)
    }

    fn report(mut self, end: End, limits: Limits, is_clean: bool) -> Report {
        let end = match end {
            End::Exited(_) if self.is_flood(limits) => End::Flooded,
            End::Exited(status) if NOT_STARTED.contains(&status) => End::NotStarted,
            other => other,
        };
        if end == End::Flooded {
            self.output.kept.clear();
        }
        Report {
            end,
            output: self.output.kept,
            errors: for_the_log(&self.errors.kept),
            is_clean,
        }
    }

    /// Reads what is there, and a little more of standard output than is allowed.
    fn read(&mut self, limits: Limits) {
        self.output.read(limits.output_bytes.saturating_add(1));
        self.errors.read(ERRORS_KEPT_MAX);
    }

    fn is_flood(&self, limits: Limits) -> bool {
        self.output.bytes > limits.output_bytes || self.errors.bytes > ERRORS_BYTES_MAX
    }

    /// How it ended, if it has. It is left unreaped, so that its number stays its own until its
    /// group is killed.
    fn ended(&self) -> Option<End> {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        match waitid(Id::Pid(self.pid), flags) {
            Ok(WaitStatus::Exited(_, status)) => Some(End::Exited(status)),
            Ok(WaitStatus::Signaled(_, signal, _)) => Some(End::Died(signal as i32)),
            Ok(_) => None,
            // Nobody else waits for it; but if somebody had, it would have ended.
            Err(_) => Some(End::NotStarted),
        }
    }

    /// Sleeps until there is something to read, or for a moment.
    fn wait(&self, left: Duration) {
        let mut open = Vec::with_capacity(2);
        open.extend(self.output.pipe.as_ref().map(AsFd::as_fd));
        open.extend(self.errors.pipe.as_ref().map(AsFd::as_fd));
        let mut waiting: Vec<PollFd<'_>> = open
            .into_iter()
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        let milliseconds = left.min(LOOK_MAX).as_millis().max(1);
        let timeout = u8::try_from(milliseconds).unwrap_or(u8::MAX);
        let _ = poll(&mut waiting, PollTimeout::from(timeout));
    }
}

/// The end of a pipe that is ours, and what came through it.
struct Pipe<R> {
    /// None once nobody can write any more.
    pipe: Option<R>,
    kept: Vec<u8>,
    /// How much came, with what wasn't kept.
    bytes: usize,
}

impl<R: Read + AsFd> Pipe<R> {
    fn new(pipe: Option<R>) -> Self {
        // A read that may block could block for ever.
        let pipe = pipe.filter(|pipe| fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).is_ok());
        Pipe {
            pipe,
            kept: Vec::new(),
            bytes: 0,
        }
    }

    /// Reads what is there, and keeps the first `kept_max` bytes of all.
    fn read(&mut self, kept_max: usize) {
        let mut chunk = [0; CHUNK];
        for _ in 0..CHUNKS_AT_ONCE {
            let Some(pipe) = &mut self.pipe else {
                return;
            };
            match pipe.read(&mut chunk) {
                Ok(0) => self.pipe = None,
                Ok(count) => {
                    self.bytes = self.bytes.saturating_add(count);
                    let room = kept_max.saturating_sub(self.kept.len());
                    self.kept
                        .extend(chunk.iter().take(count.min(room)).copied());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.pipe = None,
            }
        }
    }
}

fn who(privileges: Privileges<'_>) -> io::Result<Who> {
    let Privileges::Dropped { user } = privileges else {
        return Ok(Who::Same);
    };
    if !geteuid().is_root() {
        return Ok(Who::SameWithoutCapabilities);
    }
    let found = User::from_name(user)?
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no user {user}")))?;
    if found.uid.is_root() {
        let message = format!("the user {user} is root by another name");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    Ok(Who::Other {
        uid: found.uid.as_raw(),
        gid: found.gid.as_raw(),
    })
}

/// One line without anything that a terminal would obey.
fn for_the_log(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let words: Vec<String> = text
        .split_whitespace()
        .map(|word| word.chars().filter(|c| !c.is_control()).collect())
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_obeys_nobody() {
        assert_eq!(
            for_the_log(b"a\x1b[2Jb\n\tc \xff\x07\r\n"),
            "a[2Jb c \u{fffd}"
        );
        assert_eq!(for_the_log(b""), "");
    }
}
