//! What a daemon asks of the system for itself, before it does anything else: who may read its files,
//! whether it may dump core, whether it may be swapped out, and that it is alone.

use std::fs;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::prctl;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};

use super::instance::{self, Role};
use super::logging::{self, LogGuard};
use super::{DaemonError, output};
use crate::config::Settings;

/// CAP_IPC_LOCK in a set of capabilities.
const IPC_LOCK: u64 = 1 << 14;

/// Begins a daemon: its log, and that nobody else is what it is going to be. `instead_of_stderr` is
/// where the log goes that a terminal has no room for.
pub(super) fn begin(
    settings: &Settings,
    instead_of_stderr: Option<&Path>,
    roles: &[Role],
) -> Result<LogGuard, DaemonError> {
    keep_files_private();
    allow_dumps(settings.process.core_dumps);
    let log = logging::start(&settings.log, instead_of_stderr)?;
    if settings.process.lock_memory {
        lock_memory();
    }
    for role in roles {
        instance::claim(&settings.state_path, *role)?;
    }
    Ok(log)
}

/// Whatever is made from now on is for the user, and readable by the group.
pub(super) fn keep_files_private() {
    umask(Mode::S_IWGRP | Mode::S_IRWXO);
}

/// Memory holds secrets, so it is not written into a core, and no other process of the same user may
/// look into it. Where that can't be had, it is no reason to leave a node unwatched.
fn allow_dumps(is_allowed: bool) {
    let limited = if is_allowed {
        Ok(())
    } else {
        setrlimit(Resource::RLIMIT_CORE, 0, 0)
    };
    if let Err(error) = prctl::set_dumpable(is_allowed).and(limited) {
        output::complain(format_args!(
            "warning: [DEFAULT] core_dumps can't be put in force: {error}"
        ));
    }
}

/// Locks what is in memory and what comes into it, when it comes: without `ONFAULT` the stack of each
/// thread and every reserved arena would be made real at once. With a finite limit a later allocation
/// could fail, so it is not tried.
fn lock_memory() {
    if !may_lock() {
        tracing::info!(
            "memory is not locked: that needs CAP_IPC_LOCK or an unlimited RLIMIT_MEMLOCK"
        );
        return;
    }
    let on_fault = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    let flags = MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault;
    match mlockall(flags) {
        Ok(()) => tracing::debug!("memory is locked"),
        // In a user namespace the capability is there and counts for nothing.
        Err(Errno::EPERM | Errno::ENOMEM) => tracing::info!("memory may not be locked here"),
        Err(error) => tracing::warn!(%error, "locking memory failed"),
    }
}

fn may_lock() -> bool {
    let is_unlimited =
        getrlimit(Resource::RLIMIT_MEMLOCK).is_ok_and(|(soft, _)| soft == RLIM_INFINITY);
    is_unlimited
        || fs::read_to_string("/proc/self/status")
            .is_ok_and(|status| effective_capabilities(&status) & IPC_LOCK != 0)
}

/// The effective capabilities in the text of `/proc/PID/status`; none if there is no such line.
fn effective_capabilities(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_as_the_kernel_writes_them() {
        let status = "Name:\tx\nCapPrm:\tffff\nCapEff:\t0000000000004000\nCapBnd:\t0\n";
        assert_eq!(effective_capabilities(status), IPC_LOCK);
        assert_eq!(effective_capabilities("Name:\tx\n"), 0);
        assert_eq!(effective_capabilities("CapEff:\tx\n"), 0);
    }
}
