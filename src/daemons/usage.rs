//! What our own process uses, as the kernel says. Read when somebody asks for metrics, from what a
//! process may read of itself whatever its user and although it leaves no core.

use std::fs;
use std::time::Duration;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeVal;

use crate::clock;
use crate::events::Usage;

/// Reads what the process uses.
#[derive(Debug)]
pub(super) struct UsageReader {
    started: Duration,
}

impl UsageReader {
    /// One for a daemon that starts now.
    pub(super) fn new() -> Self {
        UsageReader {
            started: clock::wall(),
        }
    }

    /// What is used now.
    pub(super) fn read(&self) -> Usage {
        let cpu = getrusage(UsageWho::RUSAGE_SELF)
            .map(|usage| seconds(usage.user_time()) + seconds(usage.system_time()));
        // Counting them opens one more.
        let open_fds = fs::read_dir("/proc/self/fd").map(|all| all.count().saturating_sub(1));
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map(|(soft, _)| soft);
        Usage {
            started: self.started,
            cpu: cpu.unwrap_or_default(),
            open_fds: open_fds.ok().and_then(|count| count.try_into().ok()),
            max_fds: limit.ok(),
            ..Usage::default()
        }
        .with_status(&fs::read_to_string("/proc/self/status").unwrap_or_default())
    }
}

fn seconds(time: TimeVal) -> Duration {
    let whole = u64::try_from(time.tv_sec()).unwrap_or_default();
    let micros = u64::try_from(time.tv_usec()).unwrap_or_default();
    Duration::from_secs(whole) + Duration::from_micros(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_process_has_threads_memory_and_descriptors() {
        let reader = UsageReader::new();
        let before = reader.read();
        let file = fs::File::open("/dev/null").unwrap();
        let after = reader.read();
        assert!(before.threads >= Some(1) && before.resident_bytes > Some(100_000));
        assert!(before.max_fds > before.open_fds && before.open_fds >= Some(3));
        assert!(after.cpu >= before.cpu && after.started == before.started);
        drop(file);
    }
}
