//! Consumes what notifier:// publishers send to a message broker.
//!
//! Each topic has two queues, which get the same bodies:
//!
//! ```text
//! TOPIC.sample ─ history ─► intake ─► stored ─► acknowledged     waits for room, loses nothing
//! TOPIC.live ─── states ──► intake's states, at once acknowledged   holds 30 s, never waits
//!      a body with anything bad in it ─► TOPIC.quarantine, confirmed ─► acknowledged
//! ```
//!
//! What comes from `TOPIC.sample` may have waited there for hours and moves no state. So however long the
//! backlog, the present doesn't stand behind it.

mod aside;
mod ledger;
mod pause;
mod queues;
mod session;

use std::sync::Arc;

use tokio::sync::watch;

use self::aside::{Aside, aside};
use self::pause::Pause;
use self::session::Session;
use super::intake::Inlet;
use crate::broker::{Broker, BrokerError};
use crate::clock;
use crate::config::BrokerSettings;
use crate::events::ConsumerEvents;
use crate::model::Shared;
use crate::wire::Verifier;

/// Consumes one topic.
#[derive(Debug)]
pub struct Consumer {
    /// The topic.
    pub topic: String,
    /// Where the broker is.
    pub settings: Arc<BrokerSettings>,
    /// What the broker's operator sees as the connections' names.
    pub name: String,
    /// Deliveries that the broker may hand out before the first of them is stored.
    pub prefetch: u16,
    /// What messages are verified by.
    pub verifier: Shared<Verifier>,
    /// What it tells.
    pub events: Arc<ConsumerEvents>,
}

/// Why consuming ended although nobody asked for it.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(
        "the broker {member} cancelled consuming from queue {queue}: it was deleted, or its node is gone"
    )]
    Cancelled { member: String, queue: String },
}

impl Consumer {
    /// Consumes until it is told to stop: then it takes no more, and ends once all that it took is stored and
    /// acknowledged, or given up by who stores it. A broker that is away is tried again and again.
    pub async fn run(self, inlet: Inlet, stop: watch::Receiver<bool>) {
        let name = format!("{} quarantine", self.name);
        let broker = Broker::new(Arc::clone(&self.settings), name);
        let (aside, keeper) = aside(broker, &self.topic, Arc::clone(&self.events));
        tokio::join!(self.consume(inlet, aside, stop), keeper.run());
    }

    async fn consume(self, inlet: Inlet, aside: Aside, mut stop: watch::Receiver<bool>) {
        let broker = Broker::new(Arc::clone(&self.settings), self.name.clone());
        let mut inlet = Some(inlet);
        let mut pause = Pause::default();
        loop {
            let connected = tokio::select! {
                biased;
                () = stopped(&mut stop) => return,
                connected = broker.connect() => connected,
            };
            let is_over = match connected {
                Ok(link) => {
                    let session = Session {
                        consumer: &self,
                        link: &link,
                        aside: &aside,
                    };
                    let ended = session.run(&mut inlet, &mut pause, &mut stop).await;
                    let is_over = self.tell(ended);
                    link.close().await;
                    is_over
                }
                Err(error) => self.tell(Err(error.into())),
            };
            if is_over {
                return;
            }
            tokio::select! {
                biased;
                () = stopped(&mut stop) => return,
                () = tokio::time::sleep(pause.next()) => {}
            }
        }
    }

    /// Whether consuming is over because it was told to stop; otherwise says why it isn't going on.
    fn tell(&self, ended: Result<(), Ended>) -> bool {
        match ended {
            Ok(()) => true,
            Err(error) => {
                self.events.away(&error, clock::now());
                false
            }
        }
    }
}

/// Returns when it is time to stop, or nobody could say so any more.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|is_set| *is_set).await;
}
