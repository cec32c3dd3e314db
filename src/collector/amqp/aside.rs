//! Puts bodies aside in which something can't be read or verified: into a bounded queue of the broker's, with
//! the reason in their headers. The delivery is answered when the broker has confirmed that.
//!
//! It has a connection of its own. A broker that is short of memory or disk blocks connections that publish,
//! with all that they say, and the one that acknowledges must not be one of them.

use std::sync::Arc;

use lapin::message::Delivery;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::AMQPValue;
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::super::receipt::Receipt;
use super::pause::Pause;
use super::queues;
use crate::broker::{Broker, BrokerError, Link, REPLY_LIMIT, Topology, in_time};
use crate::clock;
use crate::events::ConsumerEvents;
use crate::wire::Refusal;

/// Bodies that may wait to be put aside. Beyond it nothing further of the topic is taken until one is.
const WAITING_MAX: usize = 8;
/// How often one is tried. Then the delivery is rejected, and counted as lost.
const TRIES_MAX: u32 = 3;

/// The header that says why.
const REASON: &str = "ha_reason";
/// The header that says where it was consumed.
const TOPIC: &str = "ha_topic";

/// Takes bodies to be put aside.
pub(super) struct Aside(Sender<Bad>);

/// Puts them aside.
pub(super) struct Keeper {
    bad: Receiver<Bad>,
    broker: Broker,
    topic: String,
    events: Arc<ConsumerEvents>,
}

/// A body with something bad in it.
pub(super) struct Bad {
    body: Vec<u8>,
    properties: BasicProperties,
    reason: Refusal,
    receipt: Receipt,
}

/// Makes the two ends.
pub(super) fn aside(broker: Broker, topic: &str, events: Arc<ConsumerEvents>) -> (Aside, Keeper) {
    let (sender, bad) = channel(WAITING_MAX);
    let keeper = Keeper {
        bad,
        broker,
        topic: topic.to_owned(),
        events,
    };
    (Aside(sender), keeper)
}

impl Bad {
    pub(super) fn new(delivery: Delivery, reason: Refusal, receipt: Receipt) -> Self {
        Bad {
            body: delivery.data,
            properties: delivery.properties,
            reason,
            receipt,
        }
    }
}

impl Aside {
    /// Hands a body over, once there is room.
    pub(super) async fn put(&self, bad: Bad) {
        // The keeper goes last.
        let _ = self.0.send(bad).await;
    }
}

/// Why a body could not be put aside.
#[derive(Debug, thiserror::Error)]
enum NotKept {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error("the broker has no queue {0}")]
    NoQueue(String),
    #[error("the broker refused it for queue {0}")]
    Refused(String),
}

/// A way to publish.
struct Way {
    link: Link,
    channel: Channel,
}

impl Keeper {
    /// Runs until nothing can come any more.
    pub(super) async fn run(mut self) {
        let mut way = None;
        while let Some(bad) = self.bad.recv().await {
            self.keep(bad, &mut way).await;
        }
        if let Some(Way { link, .. }) = way {
            link.close().await;
        }
    }

    async fn keep(&self, bad: Bad, way: &mut Option<Way>) {
        let mut pause = Pause::default();
        for last in (0..TRIES_MAX).rev() {
            match self.publish(&bad, way).await {
                Ok(()) => {
                    self.events.quarantined(bad.reason);
                    return bad.receipt.settle();
                }
                Err(error) => {
                    *way = None;
                    if last == 0 {
                        self.events.lost(bad.reason, &error, clock::now());
                        return bad.receipt.lose();
                    }
                }
            }
            tokio::time::sleep(pause.next()).await;
        }
    }

    async fn publish(&self, bad: &Bad, way: &mut Option<Way>) -> Result<(), NotKept> {
        let open = match way.take() {
            Some(open) => open,
            None => self.open().await?,
        };
        let Way { channel, .. } = way.insert(open);
        let queue = format!("{}.quarantine", self.topic);
        let mut headers = bad.properties.headers().clone().unwrap_or_default();
        headers.insert(REASON.into(), text(bad.reason.as_str()));
        headers.insert(TOPIC.into(), text(&self.topic));
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let publishing = async {
            let properties = bad.properties.clone().with_headers(headers);
            channel
                .basic_publish(
                    "".into(),
                    queue.as_str().into(),
                    options,
                    &bad.body,
                    properties,
                )
                .await?
                .await
        };
        let doing = format!("publishing to queue {queue}");
        match in_time(doing, REPLY_LIMIT, publishing).await? {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(_)) => Err(NotKept::NoQueue(queue)),
            Confirmation::Nack(_) | Confirmation::NotRequested => Err(NotKept::Refused(queue)),
        }
    }

    async fn open(&self) -> Result<Way, BrokerError> {
        let link = self.broker.connect().await?;
        let declared = &self.broker.settings().declared;
        let topology = Topology {
            declared,
            queues: vec![queues::quarantine(&self.topic, declared)],
        };
        let differing = topology.declare(&link).await?;
        self.events.declared_otherwise(&differing);
        let channel = link.channel().await?;
        let confirming = channel.confirm_select(ConfirmSelectOptions::default());
        in_time("asking for confirms", REPLY_LIMIT, confirming).await?;
        Ok(Way { link, channel })
    }
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}
