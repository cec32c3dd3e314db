//! Standard error: plain lines, or with the priority before each where systemd's journal reads them.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use nix::sys::stat::fstat;

use super::outlet::Destination;
use super::record::{Form, Record};
use super::stream::Stream;

/// Standard error by a descriptor of our own: that of the standard library has a lock, which a write
/// that blocks would keep from everybody.
pub(super) struct Stderr {
    to: Option<File>,
    form: Form,
    is_journal: bool,
    stream: Stream,
}

impl Stderr {
    /// Standard error as it is now.
    pub(super) fn new(form: Form) -> Self {
        let stderr = io::stderr();
        let to = stderr.as_fd().try_clone_to_owned().ok().map(File::from);
        Stderr {
            is_journal: to.as_ref().is_some_and(is_journal),
            to,
            form,
            stream: Stream::default(),
        }
    }
}

impl Destination for Stderr {
    fn write(&mut self, record: &Record) -> io::Result<()> {
        let to = self.to.as_mut().ok_or(io::ErrorKind::NotFound)?;
        let (form, is_journal) = (self.form, self.is_journal);
        self.stream.write(to, || match (is_journal, form) {
            (false, form) => record.line(form),
            // The journal stamps time and level by itself.
            (true, Form::Text) => format!("<{}>{}", record.severity(), record.text()),
            (true, Form::Json) => format!("<{}>{}", record.severity(), record.line(form)),
        })
    }
}

/// Whether systemd's journal reads it: it names the device and the inode of what it gave us, because
/// a shell in between may have put something else in its place.
fn is_journal(file: &File) -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    fstat(file).is_ok_and(|is| named == format!("{}:{}", is.st_dev, is.st_ino))
}
