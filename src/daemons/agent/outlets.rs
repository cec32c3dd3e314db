//! The ways out of the agent: a thread and a queue for each publisher of each sink. A queue is closed
//! when nobody can put anything into it any more; its thread sends what is left and ends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::super::workers::Workers;
use super::super::{DaemonError, Stop};
use crate::clock;
use crate::events::AgentEvents;
use crate::model::Shared;
use crate::pipeline::{Pipeline, Publisher};
use crate::publisher::Publish;
use crate::publisher::queue::{Batch, Queue};
use crate::publisher::udp::UdpPublisher;
use crate::wire::Signing;

/// Each publisher by its sink and its path.
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

/// Starts publishers, and knows how many serve one path.
pub(super) struct Publishers {
    pub(super) workers: Workers,
    signing: Shared<Signing>,
    events: Arc<AgentEvents>,
    stop: Stop,
    paths: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Publishers {
    pub(super) fn new(signing: Shared<Signing>, events: Arc<AgentEvents>, stop: Stop) -> Self {
        Publishers {
            workers: Workers::default(),
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
                let key = (sink.name.clone(), publisher.path().to_owned());
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
        let publisher = build(publisher, &self.signing);
        let queue = Arc::<Queue>::default();
        // From here on the queue is closed, whatever fails.
        let way = Arc::new(Way(Arc::clone(&queue)));
        let (events, stop) = (Arc::clone(&self.events), self.stop.clone());
        let (paths, own_path) = (Arc::clone(&self.paths), path.clone());
        let depth = Arc::downgrade(&queue);
        self.workers.spawn(format!("publish {path}"), move || {
            publish_loop(publisher, &queue, &events);
            one_less(&paths, &own_path, || {
                if !stop.is_set() {
                    events.publisher_gone(&own_path);
                }
            });
        })?;
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        *paths.entry(path.clone()).or_default() += 1;
        let depth = move || depth.upgrade().map(|queue| queue.len());
        self.events.expect_publisher(&path, depth, clock::now());
        drop(paths);
        Ok(Outlet { path, way })
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

fn build(publisher: &Publisher, signing: &Shared<Signing>) -> Box<dyn Publish> {
    match publisher {
        Publisher::Udp(to) => Box::new(UdpPublisher::new(&to.host, to.port, &to.path, signing)),
    }
}

fn publish_loop(mut publisher: Box<dyn Publish>, queue: &Queue, events: &AgentEvents) {
    while let Some(batch) = queue.pop() {
        let outcome = publisher.publish(&batch);
        events.published(publisher.path(), &outcome, clock::now());
    }
}
