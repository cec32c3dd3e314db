//! A running program of ours: started, signalled by its pid, stopped, and its log kept.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use ceilometer_ha::clock;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::wait_for;

/// How long the end of a test waits for a process that it has killed.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// One process; it is killed when the test ends, however the test ends.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it with stdout and stderr in a file.
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("open the log");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("share the log"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Process {
            child,
            log: log.to_owned(),
        }
    }

    /// Starts it with stdout where the test says, and stderr in a file.
    pub fn start_with_stdout(command: &mut Command, stdout: Stdio, errors: &Path) -> Self {
        let child = command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(File::create(errors).expect("open the log"))
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Process {
            child,
            log: errors.to_owned(),
        }
    }

    /// Starts it with stderr where the test says, and stdout in a file.
    pub fn start_with_stderr(command: &mut Command, stderr: Stdio, stdout: &Path) -> Self {
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(stdout).expect("open the log"))
            .stderr(stderr)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Process {
            child,
            log: stdout.to_owned(),
        }
    }

    /// Its pid. Programs are started by ones that end in exec, so this is the program's own.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("signal a running process");
    }

    /// SIGTERM, and waits for its end.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    /// SIGKILL, and waits for its end.
    pub fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        self.wait();
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the process to end", || {
            self.child.try_wait().expect("wait for a child")
        })
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("look at a child").is_none()
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            // Not for ever: it may hang in the kernel for as long as a disk is frozen.
            let deadline = clock::now() + KILL_LIMIT;
            while clock::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
                super::pause();
            }
        }
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.log());
        }
    }
}
