//! The life of one connection: what is live is sent first, what waits for its turn behind it, and each
//! message has its place in the window until the broker has confirmed it.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Event};

use super::body::Parcel;
use super::undelivered::{Place, Undelivered};
use super::window::{Answer, Verdict, Window};
use super::{End, LIVE_LIMIT, LOOK, NotifierPublisher, Tell};
use crate::broker::{BrokerError, Link, Queue, REPLY_LIMIT, in_time};
use crate::clock;
use crate::events::{Chain, Delivery, Undeliverable};
use crate::publisher::queue::Batch;
use crate::wire::envelope;

/// Messages that may be on their way unconfirmed: more bring no more through, and all of them are sent
/// again if the connection ends.
const WINDOW_MAX: usize = 128;
/// How long the broker may take to confirm. Then its member counts as hung.
const CONFIRM_LIMIT: Duration = Duration::from_secs(5);
/// The pause after a refusal until something is tried again: what is full is full for a while.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// Rounds of the backlog that are asked for at once.
const BACKLOG_AT_ONCE: usize = 16;

/// A message's way from the channel to its answer.
type Answered = Pin<Box<dyn Future<Output = lapin::Result<Answer>> + Send>>;

/// What lives as long as the connection.
pub(super) struct Session<'a> {
    publisher: &'a mut NotifierPublisher,
    link: &'a Link,
    channel: Channel,
    exchange: String,
    queue: String,
    window: Window<(), Answered>,
    flights: VecDeque<Flight>,
    /// The last round of the backlog that is on its way.
    place: Option<Place>,
    /// When the backlog may be tried.
    backlog_from: Instant,
    is_blocked: bool,
}

/// A parcel on its way.
struct Flight {
    parcel: Parcel,
    tries: u32,
    way: Way,
    /// Bodies without a verdict.
    open: usize,
    /// The worst verdict on the others.
    worst: Verdict,
    /// Whether it was sent again already because no queue took it.
    is_again: bool,
}

/// Where a parcel comes from, and so where it goes.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// It is news.
    Live,
    /// It waited. The last parcel of a round takes the round from its place.
    Backlog(Option<Place>),
}

impl<'a> Session<'a> {
    /// Lives until the connection is lost or nothing is left to do.
    pub(super) async fn open(publisher: &'a mut NotifierPublisher, link: &'a Link) -> End {
        let channel = match confirming_channel(link).await {
            Ok(channel) => channel,
            Err(error) => return error.into(),
        };
        let exchange = publisher.broker.settings().declared.exchange.clone();
        let queue = Queue::of_topic(&publisher.target.topic).name;
        let mut session = Session {
            publisher,
            link,
            channel,
            exchange,
            queue,
            window: Window::new(),
            flights: VecDeque::new(),
            place: None,
            backlog_from: clock::now(),
            is_blocked: false,
        };
        let end = session.run().await;
        session.give_up(&end);
        end
    }

    async fn run(&mut self) -> End {
        let link = self.link;
        let mut events = link.connection().events_listener();
        let rounds = Arc::clone(&self.publisher.queue);
        loop {
            if let Err(end) = self.settle().await {
                return end;
            }
            self.fill();
            self.publisher.grow_old();
            if self.publisher.is_closed() && self.publisher.is_over() && self.has_ended() {
                return End::Closed;
            }
            if let Some(end) = self.overdue() {
                return end;
            }
            tokio::select! {
                event = events.next() => {
                    if let Some(end) = self.heard(event) {
                        return end;
                    }
                }
                answered = self.window.answered() => {
                    if let Err(error) = answered {
                        return lost(&error);
                    }
                }
                () = rounds.changed(), if self.has_room() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Whether nothing is on its way, or nobody will wait for it.
    fn has_ended(&self) -> bool {
        self.flights.is_empty() || !self.publisher.has_time()
    }

    fn has_room(&self) -> bool {
        !self.is_blocked && !self.window.is_clearing() && self.window.len() < WINDOW_MAX
    }

    /// Fills the window, with what is live first.
    fn fill(&mut self) {
        while self.has_room() {
            if let Some((came, batch)) = self.publisher.queue.take() {
                if clock::now().saturating_duration_since(came) < LIVE_LIMIT {
                    self.send(&Undelivered { batch, tries: 0 }, Way::Live);
                } else {
                    self.publisher.set_aside(batch, Undeliverable::Late, 0);
                }
            } else if !self.fill_from_backlog() {
                return;
            }
        }
    }

    /// Sends some of what waits; false if nothing can be had now.
    fn fill_from_backlog(&mut self) -> bool {
        if self.publisher.backlog.is_empty() || clock::now() < self.backlog_from {
            return false;
        }
        let room = WINDOW_MAX - self.window.len().min(WINDOW_MAX);
        let rounds = self
            .publisher
            .backlog
            .peek(self.place, BACKLOG_AT_ONCE.min(room));
        let is_some = !rounds.is_empty();
        for (place, round) in rounds {
            self.place = Some(place);
            self.send(&round, Way::Backlog(Some(place)));
        }
        is_some
    }

    fn send(&mut self, round: &Undelivered, way: Way) {
        let parcels = self.publisher.parcels(&round.batch);
        let last = parcels.len().saturating_sub(1);
        for (at, parcel) in parcels.into_iter().enumerate() {
            let way = match way {
                Way::Backlog(_) if at < last => Way::Backlog(None),
                way => way,
            };
            self.start(parcel, round.tries, way, false);
        }
    }

    fn start(&mut self, parcel: Parcel, tries: u32, way: Way, is_again: bool) {
        let (exchange, key) = match way {
            Way::Live => (&*self.exchange, &*self.queue),
            // The default exchange leads to the queue alone, and past everybody who waits for news.
            Way::Backlog(_) => ("", &*self.queue),
        };
        for body in &parcel.bodies {
            let answer = publish(&self.channel, exchange, key, body.clone());
            self.window.push((), body.clone(), answer, clock::now());
        }
        self.flights.push_back(Flight {
            open: parcel.bodies.len(),
            parcel,
            tries,
            way,
            worst: Verdict::Confirmed,
            is_again,
        });
    }

    /// Does what answers ask for.
    async fn settle(&mut self) -> Result<(), End> {
        let verdicts = self.window.settle().map_err(|error| lost(&error))?;
        let (mut again, mut end) = (Vec::new(), None);
        for flight in self.landed(verdicts) {
            match flight.worst {
                _ if flight.parcel.bodies.is_empty() => self.too_large(&flight),
                Verdict::Confirmed => self.confirmed(&flight),
                Verdict::NoRoute if !flight.is_again => again.push(flight),
                Verdict::NoRoute => {
                    let queue = &self.queue;
                    end = Some(End::Lost {
                        why: format!(
                            "the broker has no way to {queue}, which was declared just now"
                        ),
                        reason: Undeliverable::NoRoute,
                    });
                    self.refused(flight, Undeliverable::NoRoute);
                }
                Verdict::Refused => self.refused(flight, Undeliverable::Refused),
            }
        }
        if again.is_empty() && end.is_none() {
            return Ok(());
        }
        let declared = match end {
            Some(end) => Err(end),
            None => self.publisher.declare(self.link).await,
        };
        if let Err(end) = declared {
            self.flights.extend(again);
            return Err(end);
        }
        for flight in again {
            self.start(flight.parcel, flight.tries, flight.way, true);
        }
        Ok(())
    }

    /// The parcels of which all bodies have their verdicts.
    fn landed(&mut self, verdicts: Vec<((), Verdict)>) -> Vec<Flight> {
        let mut verdicts = verdicts.into_iter();
        let mut landed = Vec::new();
        while let Some(flight) = self.flights.front_mut() {
            for ((), verdict) in verdicts.by_ref().take(flight.open) {
                flight.open -= 1;
                flight.worst = flight.worst.max(verdict);
            }
            if flight.open > 0 {
                break;
            }
            landed.extend(self.flights.pop_front());
        }
        landed
    }

    /// Nobody can send this, however often it is tried.
    fn too_large(&mut self, flight: &Flight) {
        let readings = flight.parcel.batch.len();
        let reason = Undeliverable::TooLarge;
        (self.publisher.tell)(&Delivery::Undelivered { reason, readings });
        self.publisher.lost(readings);
        self.leave(flight.way);
    }

    fn refused(&mut self, flight: Flight, reason: Undeliverable) {
        let tries = flight.tries.saturating_add(1);
        self.publisher.set_aside(flight.parcel.batch, reason, tries);
        self.leave(flight.way);
        self.backlog_from = clock::now() + REFUSED_PAUSE;
    }

    fn confirmed(&mut self, flight: &Flight) {
        self.publisher.backoff.worked();
        let bodies = &flight.parcel.bodies;
        let bytes: usize = bodies.iter().map(Vec::len).sum();
        tell_accepted(&self.publisher.tell, &flight.parcel.batch);
        (self.publisher.tell)(&Delivery::Confirmed {
            readings: flight.parcel.batch.len(),
            messages: u64::try_from(bodies.len()).unwrap_or(u64::MAX),
            bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
        });
        self.leave(flight.way);
    }

    /// A round leaves its place in the backlog.
    fn leave(&mut self, way: Way) {
        if let Way::Backlog(Some(place)) = way {
            self.publisher.backlog.sent(place);
            self.publisher.tell_backlog();
        }
    }

    /// What is on its way has nobody who waits for it any more: news is the policy's, and what waited
    /// goes on waiting.
    fn give_up(&mut self, end: &End) {
        let reason = match end {
            End::Lost { reason, .. } => *reason,
            End::Closed => Undeliverable::Disconnected,
        };
        for flight in std::mem::take(&mut self.flights) {
            match flight.way {
                Way::Live => self.publisher.set_aside(
                    flight.parcel.batch,
                    reason,
                    flight.tries.saturating_add(1),
                ),
                Way::Backlog(_) => (self.publisher.tell)(&Delivery::Undelivered {
                    reason,
                    readings: flight.parcel.batch.len(),
                }),
            }
        }
    }

    /// Whether the broker takes too long to confirm. One that says that it takes nothing may.
    fn overdue(&self) -> Option<End> {
        let oldest = self.window.oldest().filter(|_| !self.is_blocked)?;
        let waited = clock::now().saturating_duration_since(oldest);
        (waited >= CONFIRM_LIMIT).then(|| End::Lost {
            why: format!(
                "the broker {} confirmed nothing for {} s",
                self.link.member(),
                CONFIRM_LIMIT.as_secs()
            ),
            reason: Undeliverable::Late,
        })
    }

    fn heard(&mut self, event: Option<Event>) -> Option<End> {
        match event {
            Some(Event::ConnectionBlocked(why)) => {
                self.is_blocked = true;
                (self.publisher.tell)(&Delivery::Blocked { why: &why });
            }
            Some(Event::ConnectionUnblocked) => {
                self.is_blocked = false;
                self.window.renew(clock::now());
                (self.publisher.tell)(&Delivery::Unblocked);
            }
            Some(Event::Error(error)) => return Some(lost(&error)),
            Some(_) => {}
            None => return Some(End::lost(&"the connection ended")),
        }
        None
    }
}

/// Says which readings nothing can lose any more.
fn tell_accepted(tell: &Tell, batch: &Batch) {
    if let (Some(first), Some(last)) = (batch.first(), batch.last()) {
        tell(&Delivery::Accepted {
            first: &first.identity,
            last: &last.identity,
        });
    }
}

fn lost(error: &lapin::Error) -> End {
    End::lost(&Chain(error))
}

async fn confirming_channel(link: &Link) -> Result<Channel, BrokerError> {
    let channel = link.channel().await?;
    let select = channel.confirm_select(ConfirmSelectOptions::default());
    in_time("asking for confirmations", REPLY_LIMIT, select).await?;
    Ok(channel)
}

/// Hands a message to the connection, at once, and gives back how its answer is waited for.
fn publish(channel: &Channel, exchange: &str, key: &str, body: Vec<u8>) -> Answered {
    let (channel, exchange, key) = (channel.clone(), exchange.into(), key.into());
    let options = BasicPublishOptions {
        mandatory: true,
        immediate: false,
    };
    let answer = async move {
        let sent = channel.basic_publish(exchange, key, options, &body, properties());
        let answer = sent.await?.await?;
        Ok(Answer {
            is_ack: answer.is_ack(),
            returned: answer.take_message().map(|returned| returned.delivery.data),
        })
    };
    let mut answer: Answered = Box::pin(answer);
    // The first look hands it over; nothing can be known yet.
    match answer
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Pending => answer,
        Poll::Ready(known) => Box::pin(std::future::ready(known)),
    }
}

/// What oslo.messaging says of a body.
fn properties() -> BasicProperties {
    BasicProperties::default()
        .with_content_type(envelope::CONTENT_TYPE.into())
        .with_content_encoding(envelope::CONTENT_ENCODING.into())
        .with_headers(FieldTable::default())
        .with_delivery_mode(envelope::DELIVERY_MODE)
        .with_priority(0)
}
