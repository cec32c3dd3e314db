//! The ways out of the agent: a thread and a queue for each publisher of each sink. A queue is closed
//! when nobody can put anything into it any more; its thread sends what is left and ends.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::super::workers::Workers;
use super::super::{DaemonError, Stop};
use crate::clock;
use crate::config::{BrokerSettings, Settings};
use crate::events::{AgentEvents, Delivery, Spooling};
use crate::model::Shared;
use crate::pipeline::{NotifierTarget, Pipeline, Policy, Publisher};
use crate::publisher::Publish;
use crate::publisher::notifier::undelivered::Backlog;
use crate::publisher::notifier::{self, NotifierPublisher};
use crate::publisher::queue::{Batch, Queue};
use crate::publisher::spool::disk::{DiskFolder, folder_of};
use crate::publisher::spool::hand::Spool;
use crate::publisher::spool::store::Limits;
use crate::publisher::spool::{Spooled, worker};
use crate::publisher::udp::UdpPublisher;
use crate::wire::Signing;

/// Each publisher by its sink and its URL.
pub(super) type Outlets = BTreeMap<(String, String), Outlet>;

/// The way to one publisher.
#[derive(Clone)]
pub(super) struct Outlet {
    path: String,
    way: Arc<Way>,
}

/// Closes the queue when the last outlet that leads to it is dropped.
struct Way(Arc<Queue>);

impl Drop for Way {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Outlet {
    /// Hands a round over and never waits.
    pub(super) fn push(&self, batch: Batch, events: &AgentEvents) {
        let dropped = self.way.0.push(batch);
        if dropped > 0 {
            events.publisher_dropped(&self.path, dropped, clock::now());
        }
    }

    /// Nothing more will come.
    pub(super) fn close(&self) {
        self.way.0.close();
    }
}

/// Where a notifier's undelivered rounds wait, and the thread that serves it, if one does.
type Kept = (Box<dyn Backlog>, Option<JoinHandle<()>>);

/// Starts publishers, and knows how many serve one path.
pub(super) struct Publishers {
    pub(super) workers: Workers,
    host: String,
    broker: Arc<BrokerSettings>,
    state_path: PathBuf,
    spool_bytes: u64,
    signing: Shared<Signing>,
    events: Arc<AgentEvents>,
    stop: Stop,
    paths: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Publishers {
    pub(super) fn new(
        settings: &Settings,
        signing: Shared<Signing>,
        events: Arc<AgentEvents>,
        stop: Stop,
    ) -> Self {
        Publishers {
            workers: Workers::default(),
            host: settings.host.clone(),
            broker: Arc::new(settings.broker.clone()),
            state_path: settings.state_path.clone(),
            spool_bytes: settings.spool_bytes,
            signing,
            events,
            stop,
            paths: Arc::default(),
        }
    }

    /// The outlets of a pipeline: those that run already, and new ones for the others.
    pub(super) fn arrange(
        &mut self,
        running: &Outlets,
        pipeline: &Pipeline,
    ) -> Result<Outlets, DaemonError> {
        let mut outlets = Outlets::new();
        for sink in &pipeline.sinks {
            for publisher in &sink.publishers {
                let key = (sink.name.clone(), publisher.url());
                let outlet = match running.get(&key) {
                    Some(outlet) => outlet.clone(),
                    None => self.start(publisher)?,
                };
                outlets.insert(key, outlet);
            }
        }
        Ok(outlets)
    }

    fn start(&mut self, publisher: &Publisher) -> Result<Outlet, DaemonError> {
        let path = publisher.path().to_owned();
        let queue = Arc::<Queue>::default();
        // From here on the queue is closed, whatever fails.
        let way = Arc::new(Way(Arc::clone(&queue)));
        self.expect(publisher, &queue);
        let gone = self.gone(&path);
        let work = match self.work(publisher, queue) {
            Ok(work) => work,
            Err(error) => {
                gone();
                return Err(error);
            }
        };
        let leaving = gone.clone();
        let started = self.workers.spawn(format!("publish {path}"), move || {
            work();
            leaving();
        });
        if started.is_err() {
            gone();
        }
        started.map(|()| Outlet { path, way })
    }

    /// Counts the publisher before its thread can tell anything of itself.
    fn expect(&self, publisher: &Publisher, queue: &Arc<Queue>) {
        let path = publisher.path();
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        *paths.entry(path.to_owned()).or_default() += 1;
        let depth = Arc::downgrade(queue);
        let depth = move || depth.upgrade().map(|queue| queue.len());
        match publisher {
            Publisher::Udp(_) => self.events.expect_publisher(path, depth, clock::now()),
            Publisher::Notifier(_) => self.events.expect_notifier(path, depth, clock::now()),
        }
    }

    /// What is to be done when the publisher has ended.
    fn gone(&self, path: &str) -> impl Fn() + Clone + Send + use<> {
        let (paths, path) = (Arc::clone(&self.paths), path.to_owned());
        let (events, stop) = (Arc::clone(&self.events), self.stop.clone());
        move || {
            one_less(&paths, &path, || {
                if !stop.is_set() {
                    events.publisher_gone(&path);
                }
            });
        }
    }

    /// What the publisher's thread does until its queue is closed.
    fn work(
        &self,
        publisher: &Publisher,
        queue: Arc<Queue>,
    ) -> Result<Box<dyn FnOnce() + Send>, DaemonError> {
        let events = Arc::clone(&self.events);
        Ok(match publisher {
            Publisher::Udp(to) => {
                let publisher = UdpPublisher::new(&to.host, to.port, &to.path, &self.signing);
                Box::new(move || publish_loop(Box::new(publisher), &queue, &events))
            }
            Publisher::Notifier(target) => {
                let path = target.path.clone();
                let tell = move |told: &Delivery<'_>| events.delivery(&path, told, clock::now());
                let (backlog, spooling) = self.backlog(target)?;
                let publisher = NotifierPublisher::new(
                    target,
                    &self.host,
                    (&self.broker, &self.signing),
                    backlog,
                    queue,
                    Box::new(tell),
                );
                Box::new(move || {
                    publisher.run();
                    // It ends once what waits is on the disk. What is left of it then is a panic's.
                    drop(spooling.map(JoinHandle::join));
                })
            }
        })
    }

    /// Where a notifier's rounds wait that couldn't be delivered; with the thread that writes them to a disk,
    /// if one does.
    fn backlog(&self, target: &NotifierTarget) -> Result<Kept, DaemonError> {
        let Policy::Queue(rounds) = target.policy else {
            return Ok((notifier::in_memory(target.policy), None));
        };
        if self.spool_bytes == 0 {
            return Ok((notifier::in_memory(target.policy), None));
        }
        let (events, path) = (Arc::clone(&self.events), target.path.clone());
        let tell = move |told: Spooling| events.spooling(&path, &told, clock::now());
        let spool = Arc::new(Spool::new(rounds, Box::new(tell)));
        let seen = Arc::downgrade(&spool);
        self.events.expect_spool(&target.path, move |now| {
            seen.upgrade().map(|spool| spool.view(now))
        });
        let folder = folder_of(&self.state_path, &target.path);
        let limits = Limits::of_bytes(self.spool_bytes);
        let served = Arc::clone(&spool);
        let spooling = std::thread::Builder::new()
            .name("spool".into())
            .spawn(move || worker::work(&served, limits, || DiskFolder::open(&folder)))
            .map_err(|error| DaemonError::failed("starting the thread spool", error))?;
        Ok((Box::new(Spooled::new(spool)), Some(spooling)))
    }
}

/// One publisher of a path less. If it was the only one, that is told before a new one can begin.
fn one_less(paths: &Mutex<BTreeMap<String, usize>>, path: &str, is_gone: impl FnOnce()) {
    let mut paths = paths.lock().unwrap_or_else(PoisonError::into_inner);
    match paths.get_mut(path) {
        Some(count) if *count > 1 => *count -= 1,
        _ => {
            paths.remove(path);
            is_gone();
        }
    }
}

fn publish_loop(mut publisher: Box<dyn Publish>, queue: &Queue, events: &AgentEvents) {
    while let Some(batch) = queue.pop() {
        let outcome = publisher.publish(&batch);
        events.published(publisher.path(), &outcome, clock::now());
    }
}
