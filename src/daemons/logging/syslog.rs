//! The syslog daemon, by datagrams to /dev/log as RFC 3164 has them between programs of one host:
//! without the host, and without a time, because the daemon stamps what it receives.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use super::outlet::Destination;
use super::record::{Record, cut};

const SOCKET: &str = "/dev/log";
/// The longest message: what rsyslog takes by default. The tail of a longer one is lost.
const MESSAGE_BYTES_MAX: usize = 8192;
/// How long one try waits for a daemon that doesn't read.
const SEND_LIMIT: Duration = Duration::from_secs(1);

/// The facilities of syslog(3) with their numbers.
const FACILITIES: &[(&str, u8)] = &[
    ("LOG_KERN", 0),
    ("LOG_USER", 1),
    ("LOG_MAIL", 2),
    ("LOG_DAEMON", 3),
    ("LOG_AUTH", 4),
    ("LOG_SYSLOG", 5),
    ("LOG_LPR", 6),
    ("LOG_NEWS", 7),
    ("LOG_UUCP", 8),
    ("LOG_CRON", 9),
    ("LOG_AUTHPRIV", 10),
    ("LOG_FTP", 11),
    ("LOG_LOCAL0", 16),
    ("LOG_LOCAL1", 17),
    ("LOG_LOCAL2", 18),
    ("LOG_LOCAL3", 19),
    ("LOG_LOCAL4", 20),
    ("LOG_LOCAL5", 21),
    ("LOG_LOCAL6", 22),
    ("LOG_LOCAL7", 23),
];
/// LOG_USER, as syslog(3) takes it where nothing is said.
const FACILITY_DEFAULT: u8 = 1;

/// The way to the syslog daemon.
pub(super) struct Syslog {
    facility: u8,
    program: String,
    socket: Option<UnixDatagram>,
}

impl Syslog {
    /// Under this facility's name.
    pub(super) fn new(facility: &str) -> Self {
        let known = FACILITIES.iter().find(|(name, _)| *name == facility);
        Syslog {
            facility: known.map_or(FACILITY_DEFAULT, |(_, number)| *number),
            program: super::journal::program(),
            socket: None,
        }
    }

    fn message(&self, record: &Record) -> String {
        let priority = self.facility * 8 + record.severity();
        let pid = std::process::id();
        let text = record.text();
        cut(
            format!("<{priority}>{}[{pid}]: {text}", self.program),
            MESSAGE_BYTES_MAX,
        )
    }
}

impl Destination for Syslog {
    /// The path is looked up each time, so that a daemon that was started again is found.
    fn write(&mut self, record: &Record) -> io::Result<()> {
        let message = self.message(record);
        send(&mut self.socket, message.as_bytes(), SOCKET)
    }
}

/// Sends a datagram, and waits a moment where the other end is slow.
pub(super) fn send(
    socket: &mut Option<UnixDatagram>,
    message: &[u8],
    path: &str,
) -> io::Result<()> {
    if socket.is_none() {
        let unbound = UnixDatagram::unbound()?;
        unbound.set_write_timeout(Some(SEND_LIMIT))?;
        *socket = Some(unbound);
    }
    let socket = socket.as_ref().ok_or(io::ErrorKind::NotConnected)?;
    socket.send_to(message, path).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::UtcTime;

    #[test]
    fn a_message_begins_with_facility_and_severity() {
        let mut record = Record::lost(3, UtcTime::from_unix_micros(0));
        let text = Syslog::new("LOG_LOCAL7").message(&record);
        assert!(text.starts_with("<188>"), "{text}");
        assert!(text.contains(&format!("[{}]: lines of the log", std::process::id())));
        assert!(text.ends_with(" lines=3"), "{text}");
        record.message = "x".repeat(2 * MESSAGE_BYTES_MAX);
        assert_eq!(
            Syslog::new("LOG_USER").message(&record).len(),
            MESSAGE_BYTES_MAX
        );
    }
}
