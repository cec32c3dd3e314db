//! One way out for a tool: readings go where a publisher's URL says, and what became of them comes back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::workers::Workers;
use super::{DaemonError, Stop};
use crate::clock;
use crate::config::Settings;
use crate::events::Delivery;
use crate::model::Shared;
use crate::pipeline::Publisher;
use crate::publisher::Publish;
use crate::publisher::notifier::{self, NotifierPublisher};
use crate::publisher::queue::{Batch, Queue};
use crate::publisher::udp::UdpPublisher;
use crate::wire::Signing;

/// How many rounds may wait for the broker before whoever makes more waits too. Nothing is lost here: a
/// tool waits, other than an agent.
const WAITING_MAX: usize = 16;
/// How often it is looked whether there is room again.
const LOOK: Duration = Duration::from_millis(20);
/// What a broker is given for what still waits at the end.
const FINISH_LIMIT: Duration = Duration::from_secs(10);

/// A publisher at work.
pub(super) struct Sending {
    path: String,
    sent: Arc<Mutex<Sent>>,
    way: Way,
}

enum Way {
    Udp(UdpPublisher),
    Notifier(Arc<Queue>, Workers),
}

/// What became of readings.
#[derive(Debug, Clone, Default)]
pub(super) struct Sent {
    /// Readings that were to be sent.
    pub(super) given: usize,
    /// Readings that left or, with a broker, that it has confirmed.
    pub(super) sent: usize,
    /// Datagrams, or messages to the broker.
    pub(super) messages: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// What went wrong last.
    pub(super) trouble: Option<String>,
}

impl Sending {
    /// Begins; with a broker, a thread is started that connects.
    pub(super) fn start(
        publisher: &Publisher,
        settings: &Settings,
        signing: Signing,
    ) -> Result<Self, DaemonError> {
        let (signing, sent) = (Shared::new(signing), Arc::<Mutex<Sent>>::default());
        let path = publisher.path().to_owned();
        let way = match publisher {
            Publisher::Udp(to) => {
                Way::Udp(UdpPublisher::new(&to.host, to.port, &to.path, &signing))
            }
            Publisher::Notifier(target) => {
                let (queue, mut workers) = (Arc::<Queue>::default(), Workers::default());
                let told = Arc::clone(&sent);
                let publisher = NotifierPublisher::new(
                    target,
                    &settings.host,
                    (&Arc::new(settings.broker.clone()), &signing),
                    notifier::in_memory(target.policy),
                    Arc::clone(&queue),
                    Box::new(move |delivery: &Delivery<'_>| lock(&told).note(delivery)),
                );
                workers.spawn(format!("publish {path}"), move || publisher.run())?;
                Way::Notifier(queue, workers)
            }
        };
        Ok(Sending { path, sent, way })
    }

    /// What readings call this way.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Sends a round. Waits for room, unless it is time to end.
    pub(super) fn send(&mut self, batch: Batch, stop: &Stop) {
        lock(&self.sent).given += batch.len();
        match &mut self.way {
            Way::Udp(publisher) => {
                let outcome = publisher.publish(&batch);
                let mut sent = lock(&self.sent);
                sent.sent += outcome.sent;
                sent.messages += outcome.datagrams;
                sent.bytes += outcome.bytes;
                let trouble = outcome.error.or(outcome.refused);
                sent.trouble = trouble
                    .map(|error| error.to_string())
                    .or(sent.trouble.take());
            }
            Way::Notifier(queue, _) => {
                while queue.len() >= WAITING_MAX && !stop.wait_until(clock::now() + LOOK) {}
                queue.push(batch);
            }
        }
    }

    /// What became of them so far.
    #[cfg(feature = "decider")]
    pub(super) fn so_far(&self) -> Sent {
        lock(&self.sent).clone()
    }

    /// Ends: what waits for a broker is sent, for as long as that may take.
    pub(super) fn finish(self) -> Sent {
        if let Way::Notifier(queue, workers) = self.way {
            queue.close();
            workers.join(FINISH_LIMIT);
        }
        lock(&self.sent).clone()
    }
}

impl Sent {
    fn note(&mut self, delivery: &Delivery<'_>) {
        match delivery {
            Delivery::Confirmed {
                readings,
                messages,
                bytes,
            } => {
                self.sent += readings;
                self.messages += messages;
                self.bytes += bytes;
            }
            Delivery::Disconnected { why } => self.trouble = Some((*why).to_owned()),
            Delivery::Blocked { why } => {
                self.trouble = Some(format!("the broker takes nothing for now: {why}"));
            }
            Delivery::Undelivered { reason, .. } => {
                self.trouble.get_or_insert_with(|| {
                    format!("the broker has no reading: {}", reason.as_str())
                });
            }
            Delivery::Connected { .. }
            | Delivery::Accepted { .. }
            | Delivery::Unblocked
            | Delivery::Differs { .. }
            | Delivery::Lost { .. }
            | Delivery::Backlog { .. } => {}
        }
    }

    /// Readings that didn't leave, or that nobody has confirmed.
    pub(super) fn failed(&self) -> usize {
        self.given.saturating_sub(self.sent)
    }
}

fn lock(sent: &Mutex<Sent>) -> MutexGuard<'_, Sent> {
    sent.lock().unwrap_or_else(PoisonError::into_inner)
}
