//! `notifier://`: signed messages to a topic of the message broker, each confirmed by it.
//!
//! A thread of its own serves one publisher ([`NotifierPublisher::run`]). It lives from connection to
//! connection, each with a tokio runtime of its own: whatever a connection that is given up leaves behind
//! ends with that. What is live goes first, to the exchange; what waited too long, or couldn't be delivered
//! and is kept by the policy, goes behind it and straight to the queue, so that nobody takes it for news.

mod backoff;
mod body;
mod session;
pub mod undelivered;
mod window;

use std::fmt::Display;
use std::hash::{BuildHasher, RandomState};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::backoff::Backoff;
use self::body::{Maker, Parcel};
use self::session::Session;
use self::undelivered::{Backlog, Memory, Undelivered};
use super::queue::{Batch, Queue};
use crate::broker::{self, Broker, BrokerError, Link, Topology};
use crate::clock;
use crate::config::BrokerSettings;
use crate::events::{Chain, Delivery, Undeliverable};
use crate::model::Shared;
use crate::pipeline::{NotifierTarget, Policy};
use crate::wire::Signing;

/// How long a round may wait and still be sent as news. A collector that heard it later would call an old
/// state the present.
pub const LIVE_LIMIT: Duration = Duration::from_secs(3);
/// What a publisher that is told to end leaves itself to send what waits. The rest is the policy's.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(4);
/// How long the broker may take for a goodbye.
const GOODBYE_LIMIT: Duration = Duration::from_millis(500);
/// How often it is looked whether a round has waited for too long.
const LOOK: Duration = Duration::from_millis(250);

/// Tells what happens, to logs and metrics.
pub type Tell = Box<dyn Fn(&Delivery<'_>) + Send>;

/// Sends to one topic.
pub struct NotifierPublisher {
    target: NotifierTarget,
    host: String,
    signing: Shared<Signing>,
    broker: Arc<Broker>,
    backlog: Box<dyn Backlog>,
    queue: Arc<Queue>,
    tell: Tell,
    backoff: Backoff,
    ids: Ids,
    /// When it was told to end.
    closed: Option<Instant>,
    /// What was told last: how many rounds wait, and what is declared otherwise than we do.
    told_backlog: usize,
    told_differing: Vec<String>,
}

/// Why a life with one connection is over.
enum End {
    /// Nothing is left to do, or no time.
    Closed,
    /// There is no connection, or none any more.
    Lost {
        /// In words.
        why: String,
        /// What that makes of what was on its way.
        reason: Undeliverable,
    },
}

impl End {
    fn lost(why: &dyn Display) -> Self {
        End::Lost {
            why: why.to_string(),
            reason: Undeliverable::Disconnected,
        }
    }
}

impl From<BrokerError> for End {
    fn from(error: BrokerError) -> Self {
        End::lost(&Chain(&error))
    }
}

/// The place where rounds wait that a policy keeps.
pub fn in_memory(policy: Policy) -> Box<dyn Backlog> {
    Box::new(match policy {
        Policy::Drop => Memory::new(0, None),
        Policy::Retry(tries) => Memory::new(super::queue::ROUNDS_MAX, Some(tries)),
        Policy::Queue(rounds) => Memory::new(rounds, None),
    })
}

impl NotifierPublisher {
    /// A publisher for this target that takes rounds from the queue; `host` is who sends.
    pub fn new(
        target: &NotifierTarget,
        host: &str,
        (broker, signing): (&Arc<BrokerSettings>, &Shared<Signing>),
        backlog: Box<dyn Backlog>,
        queue: Arc<Queue>,
        tell: Tell,
    ) -> Self {
        NotifierPublisher {
            target: target.clone(),
            host: host.to_owned(),
            signing: signing.clone(),
            broker: Arc::new(Broker::new(
                Arc::clone(broker),
                format!("{host} {}", target.path),
            )),
            backlog,
            queue,
            tell,
            backoff: Backoff::default(),
            ids: Ids::default(),
            closed: None,
            told_backlog: 0,
            told_differing: Vec::new(),
        }
    }

    /// Publishes until the queue is closed, and what waits then is sent, or the time for that is over.
    pub fn run(mut self) {
        let mut pause = Duration::ZERO;
        while let End::Lost { why, .. } = self.live(pause) {
            (self.tell)(&Delivery::Disconnected { why: &why });
            self.tried();
            if self.is_closed() {
                break;
            }
            pause = self.backoff.next(self.ids.random());
        }
        while let Some((_, batch)) = self.queue.take() {
            self.set_aside(batch, Undeliverable::Disconnected, 0);
        }
        let lost = self.backlog.close();
        self.lost(lost);
    }

    /// Lives with one connection, after a pause.
    fn live(&mut self, pause: Duration) -> End {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        match runtime {
            Ok(runtime) => {
                let end = runtime.block_on(self.connected(pause));
                runtime.shutdown_background();
                end
            }
            Err(error) => End::lost(&format_args!("starting a runtime: {error}")),
        }
    }

    async fn connected(&mut self, pause: Duration) -> End {
        if let Some(end) = self.pause(pause).await {
            return end;
        }
        let link = match self.connect().await {
            Ok(link) => link,
            Err(end) => return end,
        };
        let end = Session::open(self, &link).await;
        if matches!(end, End::Closed) {
            // Who doesn't answer a goodbye is gone as well.
            let _ = tokio::time::timeout(GOODBYE_LIMIT, link.close()).await;
        }
        end
    }

    /// Lets time pass, during which rounds grow old. Ends early where there is nothing left to wait for.
    async fn pause(&mut self, pause: Duration) -> Option<End> {
        let until = clock::now() + pause;
        loop {
            self.grow_old();
            if self.is_closed() {
                return self.is_over().then_some(End::Closed);
            }
            let left = until.saturating_duration_since(clock::now());
            if left.is_zero() {
                return None;
            }
            let queue = Arc::clone(&self.queue);
            let _ = tokio::time::timeout(left.min(LOOK), queue.changed()).await;
        }
    }

    /// Connects and declares; rounds grow old meanwhile.
    async fn connect(&mut self) -> Result<Link, End> {
        let (broker, topic) = (Arc::clone(&self.broker), self.target.topic.clone());
        let connecting = async move {
            let link = broker.connect().await?;
            let differing = declare(&broker, &link, &topic).await?;
            Ok::<_, BrokerError>((link, differing))
        };
        let mut connecting = pin!(connecting);
        loop {
            // An answer that is there counts, however late it is looked at.
            let connected = tokio::time::timeout(LOOK, connecting.as_mut()).await;
            if let Ok(connected) = connected {
                let (link, differing) = connected?;
                self.differ(differing);
                let member = link.member();
                (self.tell)(&Delivery::Connected { member });
                return Ok(link);
            }
            self.grow_old();
            if self.is_closed() && self.is_over() {
                return Err(End::Closed);
            }
        }
    }

    /// Declares again what somebody deleted.
    async fn declare(&mut self, link: &Link) -> Result<(), End> {
        let differing = declare(&self.broker, link, &self.target.topic).await?;
        self.differ(differing);
        Ok(())
    }

    fn differ(&mut self, differing: Vec<String>) {
        if self.told_differing != differing {
            for name in &differing {
                (self.tell)(&Delivery::Differs { name });
            }
            self.told_differing = differing;
        }
    }

    /// Whether it was told to end; notes when.
    fn is_closed(&mut self) -> bool {
        if self.closed.is_none() && self.queue.is_closed() {
            self.closed = Some(clock::now());
        }
        self.closed.is_some()
    }

    /// Whether, told to end, it has no round left or no time.
    fn is_over(&self) -> bool {
        let has_nothing =
            self.queue.is_empty() && (self.backlog.is_empty() || self.backlog.is_kept());
        self.closed.is_some() && (has_nothing || !self.has_time())
    }

    fn has_time(&self) -> bool {
        let ends = self.closed.map(|closed| closed + DRAIN_LIMIT);
        ends.is_none_or(|ends| clock::now() < ends)
    }

    /// Rounds that waited for too long are no news any more.
    fn grow_old(&mut self) {
        let Some(since) = clock::now().checked_sub(LIVE_LIMIT) else {
            return;
        };
        while let Some(batch) = self.queue.take_older(since) {
            self.set_aside(batch, Undeliverable::Late, 0);
        }
    }

    /// A round wasn't delivered: the policy has it, or nobody.
    fn set_aside(&mut self, batch: Batch, reason: Undeliverable, tries: u32) {
        let readings = batch.len();
        (self.tell)(&Delivery::Undelivered { reason, readings });
        let lost = self.backlog.put(Undelivered { batch, tries });
        self.lost(lost);
        self.tell_backlog();
    }

    /// An attempt to connect, or a connection, ended.
    fn tried(&mut self) {
        let lost = self.backlog.tried();
        self.lost(lost);
        self.tell_backlog();
    }

    fn lost(&self, readings: usize) {
        if readings > 0 {
            (self.tell)(&Delivery::Lost { readings });
        }
    }

    fn tell_backlog(&mut self) {
        let rounds = self.backlog.len();
        if self.told_backlog != rounds {
            self.told_backlog = rounds;
            (self.tell)(&Delivery::Backlog { rounds });
        }
    }

    /// A round as the bodies that bring it.
    fn parcels(&mut self, batch: &Batch) -> Vec<Parcel> {
        let signing = self.signing.get();
        let maker = Maker {
            host: &self.host,
            topic: &self.target.topic,
            path: &self.target.path,
            per_meter: self.target.per_meter,
            signing: &signing,
        };
        maker.parcels(batch, clock::utc(), || self.ids.next())
    }
}

async fn declare(broker: &Broker, link: &Link, topic: &str) -> Result<Vec<String>, BrokerError> {
    let topology = Topology {
        declared: &broker.settings().declared,
        queues: vec![broker::Queue::of_topic(topic)],
    };
    topology.declare(link).await
}

/// Numbers that nobody else has.
#[derive(Debug, Default)]
struct Ids {
    hasher: RandomState,
    last: u64,
}

impl Ids {
    fn random(&mut self) -> u64 {
        self.last = self.last.wrapping_add(1);
        self.hasher.hash_one(self.last)
    }

    fn next(&mut self) -> u128 {
        u128::from(self.random()) << 64 | u128::from(self.random())
    }
}
