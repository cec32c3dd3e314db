//! A publisher to a message broker in a thread of its own, as the agent has it, and all that it tells.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use ceilometer_ha::clock;
use ceilometer_ha::config::{BrokerSettings, Purpose};
use ceilometer_ha::daemons::{ConfigArgs, load_settings};
use ceilometer_ha::events::{Delivery, Undeliverable};
use ceilometer_ha::model::{Secret, Shared};
use ceilometer_ha::pipeline::{NotifierTarget, Policy};
use ceilometer_ha::publisher::notifier::{self, NotifierPublisher};
use ceilometer_ha::publisher::queue::Queue;
use ceilometer_ha::wire::Signing;

use super::site::{HOST, SECRET, reading};
use super::wait_until;

/// Where it publishes to.
pub const TOPIC: &str = "metering_ha";
/// The topic's queue.
pub const QUEUE: &str = "metering_ha.sample";
/// What its readings call it.
pub const PATH: &str = "notifier://?topic=metering_ha";

/// What a publisher told so far.
#[derive(Debug, Clone, Default)]
pub struct Told {
    pub members: Vec<String>,
    pub disconnected: Vec<String>,
    pub is_blocked: bool,
    pub differing: Vec<String>,
    pub confirmed: usize,
    pub undelivered: BTreeMap<Undeliverable, usize>,
    pub lost: usize,
    pub backlog: usize,
}

impl Told {
    fn hear(&mut self, delivery: &Delivery<'_>) {
        match delivery {
            Delivery::Connected { member } => self.members.push((*member).to_owned()),
            Delivery::Disconnected { why } => self.disconnected.push((*why).to_owned()),
            Delivery::Blocked { .. } => self.is_blocked = true,
            Delivery::Unblocked => self.is_blocked = false,
            Delivery::Differs { name } => self.differing.push((*name).to_owned()),
            Delivery::Accepted { .. } => {}
            Delivery::Confirmed { readings, .. } => self.confirmed += readings,
            Delivery::Undelivered { reason, readings } => {
                *self.undelivered.entry(*reason).or_default() += readings;
            }
            Delivery::Lost { readings } => self.lost += readings,
            Delivery::Backlog { rounds } => self.backlog = *rounds,
        }
    }
}

/// A publisher in a thread of its own, as the agent has it.
pub struct Publishing {
    pub queue: Arc<Queue>,
    told: Arc<Mutex<Told>>,
    thread: Option<JoinHandle<()>>,
    seq: u64,
}

impl Publishing {
    pub fn start(url: &str, options: &str, policy: Policy) -> Self {
        let target = NotifierTarget {
            topic: TOPIC.to_owned(),
            policy,
            per_meter: false,
            path: PATH.to_owned(),
        };
        let signing = Shared::new(Signing::new("openstack", Secret::new(SECRET)));
        let (queue, told) = (Arc::<Queue>::default(), Arc::<Mutex<Told>>::default());
        let hearer = Arc::clone(&told);
        let publisher = NotifierPublisher::new(
            &target,
            HOST,
            (&Arc::new(broker(url, options)), &signing),
            notifier::in_memory(policy),
            Arc::clone(&queue),
            Box::new(move |delivery| hearer.lock().unwrap().hear(delivery)),
        );
        Publishing {
            queue,
            told,
            thread: Some(std::thread::spawn(move || publisher.run())),
            seq: 0,
        }
    }

    /// Hands so many rounds of one reading over, numbered on; returns the last number.
    pub fn push(&mut self, rounds: u64) -> u64 {
        for _ in 0..rounds {
            self.seq += 1;
            let dropped = self.queue.push([reading("n", self.seq)].into());
            assert_eq!(dropped, 0);
        }
        self.seq
    }

    pub fn told(&self) -> Told {
        self.told.lock().unwrap().clone()
    }

    #[track_caller]
    pub fn wait(&self, what: &str, is: impl Fn(&Told) -> bool) -> Told {
        wait_until(what, || match self.told() {
            told if is(&told) => Ok(told),
            told => Err(format!("{told:?}")),
        })
    }

    /// Tells it to end and waits for that.
    pub fn end(mut self) -> (Told, Duration) {
        let begin = clock::now();
        self.queue.close();
        self.thread.take().unwrap().join().expect("no panic");
        (self.told(), begin.elapsed())
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// What a configuration says of the broker.
pub fn broker(url: &str, options: &str) -> BrokerSettings {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("agent.conf");
    let text = format!(
        "[DEFAULT]\ntransport_url = {url}\n[oslo_messaging_rabbit]\n{options}\n[publisher]\ntelemetry_secret = {SECRET}\nallow_weak_secret = true\n"
    );
    fs::write(&config, text).unwrap();
    let args = ConfigArgs {
        config_file: vec![config],
        config_dir: vec![],
        strict: false,
        check_config: false,
    };
    load_settings(&args, Purpose::Agent)
        .unwrap()
        .settings
        .broker
}
