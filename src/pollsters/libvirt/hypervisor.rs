//! `hypervisor.connectivity`: does libvirt answer? Asked with the smallest question that goes to
//! libvirtd and back, over a connection that is used for nothing else.
//!
//! A round doesn't wait for the whole timeout: a question that is still open when its round has to
//! end is looked at again in the next one. So an interval of one second is kept, with a libvirt that
//! may take three.

use std::time::{Duration, Instant};

use super::super::{Context, Pollster, Round, failed};
use super::link::{Link, Pending, Trouble, Waited};
use crate::clock;
use crate::events::Counts;
use crate::model::{Metadata, Sample, Value, Volume, meters};
use crate::pollsters::storage::SharedMemory;

/// The pollster's name.
pub const NAME: &str = "hypervisor";

/// The share of an interval that a round may wait.
const PATIENCE: f64 = 0.8;

/// Asks libvirt whether it lives.
pub struct Hypervisor {
    host: String,
    uri: String,
    link: Link,
    pending: Option<Pending<()>>,
    patience: Duration,
    memory: SharedMemory,
    /// Whether it had ever answered this node when it was last asked.
    was_known: bool,
}

impl Hypervisor {
    /// A pollster for the libvirt of `[compute] libvirt_uri`.
    pub fn new(context: &Context) -> Self {
        let settings = &context.settings.libvirt;
        Hypervisor {
            host: context.host.clone(),
            uri: settings.uri.clone(),
            link: Link::new(&settings.uri, settings.timeout, None),
            pending: None,
            patience: context.interval.mul_f64(PATIENCE),
            memory: context.memory.clone(),
            was_known: false,
        }
    }

    /// What is known at `until`; None while the question is open.
    fn ask(&mut self, until: Instant) -> Option<Result<(), Trouble>> {
        let pending = match self.pending.take() {
            Some(pending) => pending,
            None => match self.begin() {
                Ok(pending) => pending,
                Err(trouble) => return Some(Err(trouble)),
            },
        };
        let deadline = pending.deadline();
        let waited = match self.link.finish(pending, until) {
            Waited::Over(Err(_)) if self.link.was_cut() => match self.ask_again(deadline) {
                Ok(pending) => self.link.finish(pending, until),
                Err(trouble) => Waited::Over(Err(trouble)),
            },
            waited => waited,
        };
        match waited {
            Waited::Over(result) => Some(result),
            Waited::Still(pending) => {
                self.pending = Some(pending);
                None
            }
        }
    }

    /// Asks over another connection, in the time that the question has left: a libvirtd that was
    /// restarted since the last round ended every connection, and is well.
    fn ask_again(&mut self, deadline: Instant) -> Result<Pending<()>, Trouble> {
        self.link.hurry();
        let question = super::sys::Connection::ping;
        self.link.begin_until(deadline, question)
    }

    fn begin(&mut self) -> Result<Pending<()>, Trouble> {
        let is_known = self.memory.hypervisor_answered(&self.uri);
        if is_known && !self.was_known {
            // Another pollster has just had its first answer: that there was no socket is history,
            // and must not be repeated as the death of a libvirt that was there.
            self.link.hurry();
        }
        self.was_known = is_known;
        self.link.begin(super::sys::Connection::ping)
    }

    /// A libvirt that has answered this node and whose socket is gone is dead; one that never has
    /// may never have been installed.
    fn judge(&self, answer: Result<(), Trouble>) -> Sample {
        let volume = match answer {
            Ok(()) => 1,
            Err(Trouble::Silent) => 0,
            Err(Trouble::Missing) if self.was_known => 0,
            Err(trouble) => {
                let name = &meters::HYPERVISOR_CONNECTIVITY.name;
                return failed(&self.host, name, trouble.reason(), clock::utc());
            }
        };
        Sample::new(
            meters::HYPERVISOR_CONNECTIVITY,
            Volume::Int(volume),
            self.host.clone(),
            clock::utc(),
            Metadata::from([("node".to_owned(), Value::from(self.host.as_str()))]),
        )
    }
}

impl Pollster for Hypervisor {
    fn poll(&mut self, _round: Round) -> Vec<Sample> {
        let Some(answer) = self.ask(clock::now() + self.patience) else {
            return Vec::new();
        };
        if answer.is_ok() {
            self.memory.hypervisor_answers(&self.uri);
        }
        vec![self.judge(answer)]
    }

    fn take_counts(&mut self) -> Counts {
        self.link.take_counts()
    }
}
