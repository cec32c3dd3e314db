//! systemd's journal by its native protocol: a datagram of `FIELD=value` lines; a value with line ends
//! has its length before it. <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use nix::errno::Errno;

use super::outlet::Destination;
use super::record::{Record, cut};
use super::syslog;

/// Where the journal listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";
/// The longest text in words; fields are beside it. The tail of a longer one is lost.
const MESSAGE_BYTES_MAX: usize = 8192;
/// What a socket takes that takes no more than the least.
const SHORT_BYTES: usize = 1024;
/// Fields with a meaning of the journal's own, which an event may not set.
const RESERVED: &[&str] = &["MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "SYSLOG_PID"];

/// Whether there is a journal.
pub(super) fn is_there() -> bool {
    Path::new(SOCKET).exists()
}

/// What this program is called.
pub(super) fn program() -> String {
    let program = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&program).file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// The way to the journal.
pub(super) struct Journal {
    program: String,
    socket: Option<UnixDatagram>,
}

impl Journal {
    /// Nothing is opened before the first line.
    pub(super) fn new() -> Self {
        Journal {
            program: program(),
            socket: None,
        }
    }
}

impl Destination for Journal {
    /// One that is too long for the socket goes without its fields, and shortened.
    fn write(&mut self, record: &Record) -> io::Result<()> {
        let whole = entry(record, &self.program, MESSAGE_BYTES_MAX, true);
        match syslog::send(&mut self.socket, &whole, SOCKET) {
            Err(error) if error.raw_os_error() == Some(Errno::EMSGSIZE as i32) => {
                let short = entry(record, &self.program, SHORT_BYTES, false);
                syslog::send(&mut self.socket, &short, SOCKET)
            }
            other => other,
        }
    }
}

fn entry(record: &Record, program: &str, bytes: usize, has_fields: bool) -> Vec<u8> {
    let mut entry = Vec::new();
    put(&mut entry, "MESSAGE", &cut(record.text(), bytes));
    put(&mut entry, "PRIORITY", &record.severity().to_string());
    put(&mut entry, "SYSLOG_IDENTIFIER", program);
    put(&mut entry, "SYSLOG_PID", &std::process::id().to_string());
    for (name, value) in record.fields.iter().filter(|_| has_fields) {
        if let Some(name) = field_name(name) {
            put(&mut entry, &name, &value.raw());
        }
    }
    entry
}

/// Upper case letters, digits and underscores; the journal refuses others.
fn field_name(name: &str) -> Option<String> {
    let name: String = name
        .chars()
        .map(|c| match c.to_ascii_uppercase() {
            c if c.is_ascii_alphanumeric() => c,
            _ => '_',
        })
        .collect();
    let is_good = name.starts_with(|c: char| c.is_ascii_uppercase());
    (is_good && !RESERVED.contains(&name.as_str())).then_some(name)
}

fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        let length = u64::try_from(value.len()).unwrap_or(u64::MAX);
        entry.extend(length.to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend(value.as_bytes());
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::super::record::Shown;
    use super::*;
    use crate::model::UtcTime;

    #[test]
    fn fields_are_told_apart_whatever_is_in_them() {
        let mut record = Record::lost(3, UtcTime::from_unix_micros(0));
        record.message = "m".into();
        record.fields = vec![
            ("a.b", Shown::Text("x\nPRIORITY=0".into())),
            ("priority", Shown::Text("0".into())),
            ("_pid", Shown::Text("1".into())),
        ];
        let text = entry(&record, "p", 100, true);
        let expected = [
            b"MESSAGE=m a.b=\"x\\nPRIORITY=0\" priority=\"0\" _pid=\"1\"\n".as_slice(),
            b"PRIORITY=4\nSYSLOG_IDENTIFIER=p\nSYSLOG_PID=",
            std::process::id().to_string().as_bytes(),
            b"\nA_B\n\x0c\0\0\0\0\0\0\0x\nPRIORITY=0\n",
        ]
        .concat();
        assert_eq!(text, expected, "{}", String::from_utf8_lossy(&text));
        assert!(entry(&record, "p", 4, false).starts_with(b"MESSAGE=m a."));
    }
}
