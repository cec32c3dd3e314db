//! The instances of this node: their states in complete rounds, and what happens to them as it
//! happens.
//!
//! An event says what happened, and that something did: whoever is concerned is asked for right
//! after it. So the last reading is always libvirt's own word from after the last event, although an
//! event may overtake the answer to an earlier question.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use super::super::{Bell, Context, Pollster, Round, failed};
use super::book::Book;
use super::domain;
use super::leaving::Leaving;
use super::link::{Link, Trouble};
use super::report::{Event, Uuid};
use super::sys::Listener;
use crate::clock;
use crate::events::{self, Counts};
use crate::model::{FailReason, Sample, meters};
use crate::pollsters::storage::SharedMemory;

/// The pollster's name.
pub const NAME: &str = "instances";

/// Events that may wait. A thousand guests that start at once make some thousand; what is beyond is
/// made good by a complete round right after.
pub const EVENTS_MAX: usize = 4096;

/// Definitions that are read with one question.
const CHUNK: usize = 64;
/// With more instances touched than this, all are asked for at once.
const SINGLY_MAX: usize = 16;
/// The least time between two complete rounds that events ask for.
const SPACING: Duration = Duration::from_millis(250);

/// Looks at the instances.
pub struct Instances {
    host: String,
    uri: String,
    timeout: Duration,
    book: Book,
    leaving: Leaving,
    link: Link,
    events: Receiver<Event>,
    /// Some events found no place.
    has_gap: Arc<AtomicBool>,
    /// When a complete round is wanted before the next one is due.
    round_at: Option<Instant>,
    last_round: Option<Instant>,
    failed: Option<FailReason>,
    memory: SharedMemory,
}

impl Instances {
    /// A pollster for the libvirt of `[compute] libvirt_uri`.
    pub fn new(context: &Context) -> Self {
        let (sender, events) = sync_channel(EVENTS_MAX);
        let has_gap = Arc::new(AtomicBool::new(false));
        let settings = &context.settings.libvirt;
        let listener = listener(sender, Arc::clone(&has_gap), context.bell.clone());
        Instances {
            host: context.host.clone(),
            uri: settings.uri.clone(),
            timeout: settings.timeout,
            book: Book::new(&context.host, context.interval, &context.settings.reserved),
            leaving: Leaving::default(),
            link: Link::new(&settings.uri, settings.timeout, Some(listener)),
            events,
            has_gap,
            round_at: None,
            last_round: None,
            failed: None,
            memory: context.memory.clone(),
        }
    }

    /// A complete round, or why there is none.
    fn round(&mut self) -> Result<Vec<Sample>, FailReason> {
        let now = clock::now();
        self.last_round = Some(now);
        self.round_at = None;
        match self.link.ask(super::sys::Connection::states) {
            Ok(states) => {
                self.failed = None;
                self.memory.hypervisor_answers(&self.uri);
                self.book.saw(&states);
                self.leaving.saw(&states);
                self.read_definitions(now);
                Ok(self.book.round(now, clock::utc()))
            }
            Err(trouble) => {
                self.round_at = self.link.retry_at();
                Err(self.reason(trouble))
            }
        }
    }

    /// Reads the definitions that are due, as long as the round has time.
    fn read_definitions(&mut self, now: Instant) {
        while clock::now().saturating_duration_since(now) < self.timeout {
            let uuids = self.book.to_read(now, CHUNK);
            if uuids.is_empty() || !self.read(uuids) {
                return;
            }
        }
    }

    /// Reads some definitions; false when libvirt doesn't answer.
    fn read(&mut self, uuids: Vec<Uuid>) -> bool {
        let answer = self.link.ask(move |connection| {
            let read = uuids.into_iter().map(|uuid| {
                let xml = connection.xml_of(uuid)?;
                Ok((uuid, xml))
            });
            read.collect::<Result<Vec<_>, _>>()
        });
        let Ok(definitions) = answer else {
            // Whoever lost the connection hears no events until it is open again.
            self.round_at = self.round_at.or(self.link.retry_at());
            return false;
        };
        for (uuid, xml) in definitions {
            match xml.as_deref().map(domain::parse) {
                Some(Ok(definition)) => self.book.define(uuid, definition),
                Some(Err(error)) => {
                    events::instance_unreadable(&uuid.to_string(), &error.to_string());
                }
                // It vanished meanwhile.
                None => {}
            }
        }
        true
    }

    /// What events say, and what libvirt says about those they concern.
    fn told(&mut self) -> Vec<Sample> {
        let mut samples = Vec::new();
        let now = clock::now();
        let mut touched = BTreeSet::from_iter(self.leaving.due(now));
        let heard: Vec<Event> = self.events.try_iter().take(EVENTS_MAX).collect();
        for event in heard {
            match event {
                Event::Domain { uuid, name, what } => {
                    self.leaving.heard(uuid, &what, now);
                    samples.extend(self.book.happened(uuid, &name, &what, clock::utc()));
                    touched.insert(uuid);
                }
                Event::Closed => {
                    self.link.close();
                    self.want_round();
                }
            }
        }
        if self.has_gap.swap(false, Ordering::SeqCst) || touched.len() > SINGLY_MAX {
            self.want_round();
        } else if !touched.is_empty() {
            samples.extend(self.verify(&touched));
        }
        samples
    }

    fn verify(&mut self, touched: &BTreeSet<Uuid>) -> Vec<Sample> {
        let uuids: Vec<Uuid> = touched.iter().copied().collect();
        let answer = self.link.ask(move |connection| {
            let states = uuids.iter().map(|uuid| connection.state_of(*uuid));
            states.collect::<Result<Vec<_>, _>>()
        });
        let Ok(states) = answer else {
            self.want_round();
            return Vec::new();
        };
        for (uuid, _) in touched.iter().zip(&states).filter(|(_, is)| is.is_none()) {
            // An instance that is gone is told by a complete round that lacks it.
            self.leaving.gone(*uuid);
            self.want_round();
        }
        let now = clock::now();
        self.read_definitions(now);
        let mut samples: Vec<Sample> = states
            .iter()
            .flatten()
            .filter_map(|seen| self.book.verify(seen, clock::utc()))
            .collect();
        samples.extend(
            self.book
                .changes(touched.iter().copied(), now, clock::utc()),
        );
        samples
    }

    /// Asks for a complete round as soon as the last one is old enough.
    fn want_round(&mut self) {
        let now = clock::now();
        let earliest = self.last_round.map_or(now, |last| now.max(last + SPACING));
        self.round_at.get_or_insert(earliest);
    }

    /// A libvirt that has answered this node and whose socket is gone is dead; one that never has
    /// may never have been installed.
    fn reason(&self, trouble: Trouble) -> FailReason {
        match trouble {
            Trouble::Missing if self.memory.hypervisor_answered(&self.uri) => {
                FailReason::HypervisorSilent
            }
            other => other.reason(),
        }
    }

    fn failure(&mut self, reason: FailReason) -> Sample {
        self.failed = Some(reason);
        failed(
            &self.host,
            &meters::INSTANCE_ROUND.name,
            reason,
            clock::utc(),
        )
    }
}

impl Pollster for Instances {
    fn poll(&mut self, _round: Round) -> Vec<Sample> {
        self.round()
            .unwrap_or_else(|reason| vec![self.failure(reason)])
    }

    fn take_counts(&mut self) -> Counts {
        self.link.take_counts()
    }

    fn news(&mut self) -> Vec<Sample> {
        let mut samples = self.told();
        if self.round_at.is_some_and(|at| at <= clock::now()) {
            match self.round() {
                Ok(round) => samples.extend(round),
                // Said once; the rounds that are due repeat it.
                Err(reason) if self.failed != Some(reason) => samples.push(self.failure(reason)),
                Err(_) => {}
            }
        }
        samples
    }

    fn wake_at(&self) -> Option<Instant> {
        let wanted = [self.round_at, self.leaving.look_at()];
        wanted.into_iter().flatten().min()
    }
}

/// Keeps events for the pollster's thread, and wakes it.
fn listener(sender: SyncSender<Event>, has_gap: Arc<AtomicBool>, bell: Bell) -> Listener {
    Arc::new(move |event| {
        if let Err(TrySendError::Full(_)) = sender.try_send(event) {
            has_gap.store(true, Ordering::SeqCst);
        }
        bell.ring();
    })
}
