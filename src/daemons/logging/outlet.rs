//! The thread of one destination of the log.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::queue::{Queue, Work};
use super::record::Record;
use crate::clock;

/// The pause before a line that could not be written is tried again.
const RETRY: Duration = Duration::from_millis(250);
/// How often a destination is looked at between lines.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// Tells once whether the destination could be opened.
pub(super) type Opened = Receiver<io::Result<()>>;

/// Where lines go. Whatever it does may block: only its own thread waits for it.
pub(super) trait Destination: Send {
    /// Writes one record. An error means that the same record is to be tried again later.
    fn write(&mut self, record: &Record) -> io::Result<()>;

    /// Opens it, if that must be done.
    fn open(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Looks whether it is still what it was.
    fn look(&mut self) {}

    /// Opens it anew: somebody says that it has changed.
    fn reopen(&mut self) {}
}

/// Starts the thread of a destination.
pub(super) fn start(
    name: &'static str,
    destination: impl Destination + 'static,
    queue: Arc<Queue>,
) -> io::Result<Opened> {
    let (sender, opened) = channel();
    std::thread::Builder::new()
        .name(format!("log {name}"))
        .spawn(move || {
            let mut outlet = Outlet {
                name,
                destination,
                queue,
                is_failing: false,
            };
            let first = outlet.destination.open();
            outlet.is_failing = first.is_err();
            // Nobody listens any more where a disk answered too late.
            let _ = sender.send(first);
            outlet.run();
        })?;
    Ok(opened)
}

struct Outlet<D> {
    name: &'static str,
    destination: D,
    queue: Arc<Queue>,
    is_failing: bool,
}

impl<D: Destination> Outlet<D> {
    fn run(mut self) {
        let mut look_at = clock::now() + LOOK_PERIOD;
        loop {
            if clock::now() >= look_at {
                self.destination.look();
                look_at = clock::now() + LOOK_PERIOD;
            }
            let is_written = match self.queue.next(look_at) {
                Work::Line(record) => self.write(&record, 1),
                Work::Lost(lines) => self.write(&Record::lost(lines, clock::utc()), 0),
                Work::Reopen => {
                    self.destination.reopen();
                    true
                }
                Work::Idle => true,
                Work::End => break,
            };
            if !is_written {
                break;
            }
        }
        self.queue.has_ended();
    }

    /// Writes a record that stands for so many lines, however often it must be tried. False if it is
    /// time to end and nothing can be written.
    fn write(&mut self, record: &Record, lines: u64) -> bool {
        loop {
            match self.destination.write(record) {
                Ok(()) => {
                    self.is_failing = false;
                    return true;
                }
                Err(error) => self.failed(&error),
            }
            match self.queue.pause(RETRY) {
                Work::End => {
                    self.queue.count(lines);
                    return false;
                }
                Work::Reopen => self.destination.reopen(),
                _ => self.destination.look(),
            }
        }
    }

    /// Says it once, for the other destinations, and for this one when it works again.
    fn failed(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.is_failing, true) {
            let destination = self.name;
            tracing::error!(destination, %error, "the log can't be written there; its lines wait");
        }
    }
}
