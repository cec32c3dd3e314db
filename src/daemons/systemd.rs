//! What systemd wants to know of a service, by the protocol of sd_notify(3): that it is ready, that it
//! loads its configuration anew, that it ends, and that it makes progress.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Stop;
use super::workers::Workers;
use crate::clock;
use crate::web::Health;

/// How long a message waits for systemd; then it is lost.
const SEND_LIMIT: Duration = Duration::from_secs(1);
/// However short systemd's patience is said to be.
const BEAT_MIN: Duration = Duration::from_millis(10);
/// How often what is stuck is looked for where systemd has no watchdog for us.
const LOOK_PERIOD: Duration = Duration::from_secs(5);

/// A service that has told systemd that it is ready.
pub(super) struct Service {
    notifier: Arc<Option<Notifier>>,
    stop: Stop,
}

impl Service {
    /// Says that it is ready, and from now on that it makes progress, as long as nothing is stuck.
    /// A plain timer would only say that a timer runs.
    pub(super) fn ready(health: Vec<Arc<dyn Health>>) -> Self {
        let service = Service {
            notifier: Arc::new(Notifier::from_environment()),
            stop: Stop::default(),
        };
        service.tell("READY=1\nSTATUS=running");
        if service.notifier.is_some() {
            let (notifier, stop) = (Arc::clone(&service.notifier), service.stop.clone());
            let spawned = Workers::default().spawn("watchdog".into(), move || {
                if let Some(notifier) = notifier.as_ref() {
                    watch(notifier, &health, &stop);
                }
            });
            if let Err(error) = spawned {
                tracing::error!(%error, "systemd's watchdog will hear nothing");
            }
        }
        service
    }

    /// Its configuration is being loaded anew.
    pub(super) fn reloading(&self) {
        let now = clock::monotonic().as_micros();
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={now}"));
    }

    /// It has been, or was refused; this says which, in a line.
    pub(super) fn reloaded(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// It ends.
    pub(super) fn stopping(&self) {
        self.stop.stop();
        self.tell("STOPPING=1\nSTATUS=draining");
    }

    fn tell(&self, message: &str) {
        if let Some(notifier) = self.notifier.as_ref() {
            notifier.tell(message);
        }
    }
}

/// Beats as often as systemd wants it, while nothing is stuck.
fn watch(notifier: &Notifier, health: &[Arc<dyn Health>], stop: &Stop) {
    let beat = beat();
    let mut was_stuck = Vec::new();
    loop {
        let stuck: Vec<String> = health.iter().flat_map(|part| part.stuck()).collect();
        if stuck.is_empty() && beat.is_some() {
            notifier.tell("WATCHDOG=1");
        }
        if stuck.is_empty() != was_stuck.is_empty() {
            notifier.tell(&format!("STATUS={}", status(&stuck)));
        }
        was_stuck = stuck;
        if stop.wait_until(clock::now() + beat.unwrap_or(LOOK_PERIOD)) {
            return;
        }
    }
}

fn status(stuck: &[String]) -> String {
    if stuck.is_empty() {
        "running".to_owned()
    } else {
        one_line(&format!("stuck: {}", stuck.join("; ")))
    }
}

/// Half of systemd's patience, if it has any with this process.
fn beat() -> Option<Duration> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let is_ours = match std::env::var_os("WATCHDOG_PID") {
        None => true,
        Some(_) => number("WATCHDOG_PID") == Some(std::process::id().into()),
    };
    let patience = number("WATCHDOG_USEC").filter(|patience| is_ours && *patience > 0)?;
    Some(Duration::from_micros(patience / 2).max(BEAT_MIN))
}

fn one_line(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join("; ")
}

/// The way to systemd. Plug-ins and other children never learn of it: they get no environment of ours.
struct Notifier {
    socket: UnixDatagram,
    address: SocketAddr,
    is_failing: AtomicBool,
}

impl Notifier {
    fn from_environment() -> Option<Self> {
        let name = std::env::var_os("NOTIFY_SOCKET")?;
        let made = Notifier::new(name.as_bytes());
        if let Err(error) = &made {
            tracing::warn!(%error, "$NOTIFY_SOCKET can't be used: systemd will hear nothing");
        }
        made.ok()
    }

    /// A path, or a name of the abstract kind with an `@` before it.
    fn new(name: &[u8]) -> io::Result<Self> {
        let address = match name.split_first() {
            Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_LIMIT))?;
        Ok(Notifier {
            socket,
            address,
            is_failing: AtomicBool::new(false),
        })
    }

    /// Says so where it fails, once until it works again: a beat may fail for hours.
    fn tell(&self, words: &str) {
        let sent = self.socket.send_to_addr(words.as_bytes(), &self.address);
        let was_failing = self.is_failing.swap(sent.is_err(), Ordering::Relaxed);
        if let (Err(error), false) = (sent, was_failing) {
            tracing::warn!(%error, words, "telling systemd failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_addresses_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("ceilometer-ha-test-{}", std::process::id());
        let mut abstract_name = b"@".to_vec();
        abstract_name.extend(name.as_bytes());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        for (systemd, name) in [
            (
                UnixDatagram::bind(&path).unwrap(),
                path.as_os_str().as_bytes(),
            ),
            (UnixDatagram::bind_addr(&address).unwrap(), &abstract_name),
        ] {
            Notifier::new(name).unwrap().tell("READY=1");
            let mut heard = [0; 64];
            let length = systemd.recv(&mut heard).unwrap();
            assert_eq!(&heard[..length], b"READY=1");
        }
    }

    #[test]
    fn a_status_is_one_line() {
        assert_eq!(status(&["a\nb".into(), "c".into()]), "stuck: a; b; c");
        assert_eq!(status(&[]), "running");
    }
}
