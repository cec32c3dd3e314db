//! Consuming over one connection, until it ends or it is time to stop.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer as Deliveries};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;

use super::super::intake::Inlet;
use super::super::receipt::{Receipt, Settled, Tickets, receipts};
use super::aside::{Aside, Bad};
use super::ledger::{Ledger, Reply};
use super::pause::Pause;
use super::{Consumer, Ended, queues, stopped};
use crate::broker::{BrokerError, Link, Queue, REPLY_LIMIT, Topology, in_time};
use crate::clock;
use crate::model::{Received, Standing};
use crate::wire::{self, Refusal, Via, envelope};

/// Deliveries of the present that the broker may hand out before the first is acknowledged. That waits for
/// nothing, so a few are enough to keep the connection busy.
const LIVE_PREFETCH: u16 = 100;
/// Messages of one body that are read before others get their turn.
const CHUNK_MAX: usize = 256;
/// Settled deliveries that are answered together at most.
const SETTLED_AT_ONCE_MAX: usize = 1024;
/// A quiet broker is asked so often whether it and the queue are still there: one that hangs says nothing,
/// and heartbeats may be switched off.
const ASK_EVERY: Duration = Duration::from_secs(15);

/// A connection and what consumes over it.
pub(super) struct Session<'a> {
    pub(super) consumer: &'a Consumer,
    pub(super) link: &'a Link,
    pub(super) aside: &'a Aside,
}

/// What is consumed from one queue.
struct Subscription {
    queue: Queue,
    channel: Channel,
    deliveries: Deliveries,
}

impl Session<'_> {
    /// Consumes. Ok once it was told to stop, and all that was taken is acknowledged or given up.
    pub(super) async fn run(
        &self,
        inlet: &mut Option<Inlet>,
        pause: &mut Pause,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), Ended> {
        let Some(open) = inlet.as_ref() else {
            return Ok(());
        };
        let events = &self.consumer.events;
        let (mut history, mut live) = tokio::select! {
            biased;
            () = stopped(stop) => return Ok(()),
            begun = self.begin() => begun?,
        };
        events.connected(self.link.member());
        pause.reset();
        let (tickets, told) = receipts();
        let channel = history.channel.clone();
        let mut acknowledging = pin!(self.acknowledge(&channel, told));
        let ended = tokio::select! {
            biased;
            () = stopped(stop) => None,
            ended = &mut acknowledging => Some(ended.map_or_else(Ended::from, |()| self.cancelled(&history.queue))),
            ended = self.take_live(&mut live, open) => Some(ended),
            ended = self.take_history(&mut history, &tickets, open) => Some(ended),
        };
        let result = match ended {
            Some(ended) => Err(ended),
            None => {
                // Whoever stores must know that no more comes, and the other end of the tickets too.
                *inlet = None;
                drop(tickets);
                cancel(&live).await?;
                cancel(&history).await?;
                acknowledging.await.map_err(Ended::from)
            }
        };
        events.disconnected();
        result
    }

    async fn begin(&self) -> Result<(Subscription, Subscription), BrokerError> {
        let Consumer {
            topic,
            settings,
            prefetch,
            events,
            ..
        } = self.consumer;
        let (history, live) = (queues::history(topic), queues::live(topic));
        let topology = Topology {
            declared: &settings.declared,
            queues: vec![history.clone(), live.clone()],
        };
        let differing = topology.declare(self.link).await?;
        events.declared_otherwise(&differing);
        // The present first, so that nothing comes as history alone.
        let live = self.subscribe(live, LIVE_PREFETCH).await?;
        Ok((self.subscribe(history, *prefetch).await?, live))
    }

    async fn subscribe(&self, queue: Queue, prefetch: u16) -> Result<Subscription, BrokerError> {
        let channel = self.link.channel().await?;
        let name = &queue.name;
        let bounding = channel.basic_qos(prefetch, BasicQosOptions::default());
        in_time("bounding what comes", REPLY_LIMIT, bounding).await?;
        let consuming = channel.basic_consume(
            name.as_str().into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let doing = format!("consuming from queue {name}");
        let deliveries = in_time(doing, REPLY_LIMIT, consuming).await?;
        Ok(Subscription {
            queue,
            channel,
            deliveries,
        })
    }

    async fn take_history(
        &self,
        from: &mut Subscription,
        tickets: &Tickets,
        inlet: &Inlet,
    ) -> Ended {
        loop {
            // Here others get their turn, and the end comes: no delivery is in hand.
            tokio::task::yield_now().await;
            match self.next(from).await {
                Ok(delivery) => {
                    let ticket = tickets.open(delivery.delivery_tag);
                    self.take_in(delivery, ticket, inlet).await;
                }
                Err(ended) => return ended,
            }
        }
    }

    /// Verifies what a delivery brings, and hands it over as soon as there is room. What is bad in it is put
    /// aside with the whole body.
    async fn take_in(&self, delivery: Delivery, ticket: Receipt, inlet: &Inlet) {
        let Consumer { topic, events, .. } = self.consumer;
        let now = clock::now();
        events.delivered(delivery.data.len(), delivery.redelivered);
        let verifier = self.consumer.verifier.get();
        let mut refused = Refused::default();
        match envelope::open(&delivery.data) {
            Err(refusal) => refused.add(refusal),
            Ok(body) => {
                let mut messages = body.messages().peekable();
                while messages.peek().is_some() {
                    let mut chunk = Vec::new();
                    for message in messages.by_ref().take(CHUNK_MAX) {
                        let via = Via::Topic(topic);
                        match message.and_then(|message| wire::accept(message, &verifier, via)) {
                            Ok(message) => chunk.push((as_history(message), ticket.another())),
                            Err(refusal) => refused.add(refusal),
                        }
                    }
                    events.accepted(chunk.len());
                    inlet.deliver(chunk, now).await;
                    if messages.peek().is_some() {
                        // A long body keeps nobody else from the processor.
                        tokio::task::yield_now().await;
                    }
                }
            }
        }
        let Some(reason) = refused.first else {
            return ticket.settle();
        };
        for (refusal, count) in refused.counts {
            events.refused(refusal, count, now);
        }
        self.aside.put(Bad::new(delivery, reason, ticket)).await;
    }

    /// Shows what is said just now. Nothing of it is counted but losses, because all of it comes as history.
    async fn take_live(&self, from: &mut Subscription, inlet: &Inlet) -> Ended {
        let Consumer { topic, events, .. } = self.consumer;
        loop {
            let delivery = match self.next(from).await {
                Ok(delivery) => delivery,
                Err(ended) => return ended,
            };
            let now = clock::now();
            let verifier = self.consumer.verifier.get();
            let (mut messages, _) =
                wire::receive_body(&delivery.data, &verifier, Via::Topic(topic));
            let wall = clock::utc();
            for message in &mut messages {
                verifier.judge_time(message, wall);
            }
            events.shown(inlet.show(messages, now));
            let acknowledging = from
                .channel
                .basic_ack(delivery.delivery_tag, BasicAckOptions::default());
            if let Err(error) = in_time("acknowledging", REPLY_LIMIT, acknowledging).await {
                return error.into();
            }
        }
    }

    /// The next delivery. A broker that says nothing is asked whether it is there.
    async fn next(&self, from: &mut Subscription) -> Result<Delivery, Ended> {
        loop {
            match tokio::time::timeout(ASK_EVERY, from.deliveries.next()).await {
                Ok(Some(Ok(delivery))) => return Ok(delivery),
                Ok(Some(Err(source))) => {
                    let doing = format!("consuming from queue {}", from.queue.name);
                    return Err(BrokerError::Failed { doing, source }.into());
                }
                Ok(None) => return Err(self.cancelled(&from.queue)),
                Err(_) => self.ask(from).await?,
            }
        }
    }

    async fn ask(&self, from: &Subscription) -> Result<(), BrokerError> {
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let name = &from.queue.name;
        let asking =
            from.channel
                .queue_declare(name.as_str().into(), options, FieldTable::default());
        let doing = format!("asking for queue {name}");
        in_time(doing, REPLY_LIMIT, asking).await.map(drop)
    }

    /// Answers what is settled, until nothing can be any more.
    async fn acknowledge(
        &self,
        channel: &Channel,
        mut told: UnboundedReceiver<Settled>,
    ) -> Result<(), BrokerError> {
        let events = &self.consumer.events;
        let mut ledger = Ledger::default();
        let mut settled = Vec::new();
        while told.recv_many(&mut settled, SETTLED_AT_ONCE_MAX).await > 0 {
            for reply in ledger.settle(settled.drain(..)) {
                answer(channel, reply).await?;
                match reply {
                    Reply::UpTo(_, count) => events.acknowledged(count),
                    Reply::One(_) => events.acknowledged(1),
                    Reply::Reject(_) => events.rejected(),
                }
            }
        }
        Ok(())
    }

    fn cancelled(&self, queue: &Queue) -> Ended {
        Ended::Cancelled {
            member: self.link.member().to_owned(),
            queue: queue.name.clone(),
        }
    }
}

async fn answer(channel: &Channel, reply: Reply) -> Result<(), BrokerError> {
    let acknowledge = |delivery, multiple| {
        let answering = channel.basic_ack(delivery, BasicAckOptions { multiple });
        in_time("acknowledging", REPLY_LIMIT, answering)
    };
    match reply {
        Reply::UpTo(delivery, _) => acknowledge(delivery, true).await,
        Reply::One(delivery) => acknowledge(delivery, false).await,
        Reply::Reject(delivery) => {
            let options = BasicRejectOptions { requeue: false };
            let rejecting = channel.basic_reject(delivery, options);
            in_time("rejecting", REPLY_LIMIT, rejecting).await
        }
    }
}

async fn cancel(subscription: &Subscription) -> Result<(), BrokerError> {
    let tag = subscription.deliveries.tag();
    let cancelling = subscription
        .channel
        .basic_cancel(tag, BasicCancelOptions::default());
    let doing = format!("ceasing to consume from queue {}", subscription.queue.name);
    in_time(doing, REPLY_LIMIT, cancelling).await
}

/// Nobody knows how long it waited in the queue.
fn as_history(mut message: Received) -> Received {
    let standing = &mut message.evidence.standing;
    if *standing == Standing::Live {
        *standing = Standing::Backlog;
    }
    message
}

/// Why messages of a body were refused.
#[derive(Default)]
struct Refused {
    first: Option<Refusal>,
    counts: std::collections::HashMap<Refusal, usize>,
}

impl Refused {
    fn add(&mut self, refusal: Refusal) {
        self.first.get_or_insert(refusal);
        *self.counts.entry(refusal).or_default() += 1;
    }
}
