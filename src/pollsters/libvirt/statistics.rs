//! Ceilometer's statistics of instances, for those who put their meters into the pipeline: over a
//! connection of their own, because they enter each guest's QEMU, and a frozen one answers never.
//!
//! Guests are asked one by one. One that doesn't answer within [`GUEST_LIMIT`], or half of
//! `libvirt_timeout` if that is less, keeps the thread that asked it, and the next guest gets another;
//! it is not asked again before that answer came. Each such thread holds one of libvirtd's workers
//! too, of which there are twenty: with [`THREADS_MAX`] guests that hang, nobody is asked until one
//! of them lets go.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::{Context, Pollster, Round, failed};
use super::domain;
use super::figures::{self, Counters};
use super::link::{Link, Pending, THREADS_MAX, Trouble, Waited};
use super::report::{DomainState, Statistic, Uuid};
use super::sys::GROUPS;
use crate::clock;
use crate::config::Reserved;
use crate::events::{self, Counts};
use crate::model::{FailReason, Sample};

/// The pollster's name, under which statistics fail; for one guest, its UUID follows.
pub const NAME: &str = "instance.statistics";

/// How long a guest's QEMU may take. It answers within some milliseconds.
const GUEST_LIMIT: Duration = Duration::from_secs(2);
/// The share of libvirt's own timeout that a guest may take at most: who takes longer is left to
/// itself before libvirtd would count as silent, which puts everybody off.
const PATIENCE: f64 = 0.5;
/// The domain states in which there is a QEMU to ask: running, blocked, paused, shutting down,
/// suspended by power management.
const WITH_QEMU: [i64; 5] = [1, 2, 3, 4, 7];

/// What libvirt says about one guest; None if it is gone.
type Answer = Option<(String, Vec<(String, Statistic)>)>;

/// Asks for the statistics of every guest that runs.
pub struct Statistics {
    host: String,
    reserved: Reserved,
    link: Link,
    patience: Duration,
    stuck: BTreeMap<Uuid, Pending<Answer>>,
}

impl Statistics {
    /// A pollster for the libvirt of `[compute] libvirt_uri`.
    pub fn new(context: &Context) -> Self {
        let settings = &context.settings.libvirt;
        Statistics {
            host: context.host.clone(),
            reserved: context.settings.reserved.clone(),
            link: Link::new(&settings.uri, settings.timeout, None),
            patience: GUEST_LIMIT.min(settings.timeout.mul_f64(PATIENCE)),
            stuck: BTreeMap::new(),
        }
    }

    /// Asks one guest.
    fn ask(&mut self, guest: &DomainState) -> Result<Vec<Sample>, FailReason> {
        if self.stuck.contains_key(&guest.uuid) {
            return Err(FailReason::InstanceSilent);
        }
        let uuid = guest.uuid;
        let pending = self
            .link
            .begin(move |connection| {
                let xml = connection.xml_of(uuid)?;
                let counted = connection.statistics_of(uuid, GROUPS)?;
                Ok(xml.zip(counted))
            })
            .map_err(Trouble::reason)?;
        match self.link.finish(pending, clock::now() + self.patience) {
            Waited::Over(Ok(Some((xml, counted)))) => Ok(self.read(guest, &xml, counted)),
            Waited::Over(Ok(None)) => Ok(Vec::new()),
            Waited::Over(Err(trouble)) => Err(trouble.reason()),
            Waited::Still(pending) => {
                self.link.abandon();
                self.stuck.insert(guest.uuid, pending);
                self.is_libvirt_well()?;
                Err(FailReason::InstanceSilent)
            }
        }
    }

    /// Opens the connection for the next guest, whose time must not begin before that, and learns
    /// whether it is libvirtd that hangs and no guest.
    fn is_libvirt_well(&mut self) -> Result<(), FailReason> {
        if self.is_full() {
            return Ok(());
        }
        let answer = self.link.ask(super::sys::Connection::ping);
        answer.map_err(Trouble::reason)
    }

    fn read(
        &self,
        guest: &DomainState,
        xml: &str,
        counted: Vec<(String, Statistic)>,
    ) -> Vec<Sample> {
        match domain::parse(xml) {
            Ok(domain) => {
                let metadata = domain.instance_metadata(&self.host, guest.state, &self.reserved);
                figures::samples(&domain, &Counters::new(counted), &metadata, clock::utc())
            }
            Err(error) => {
                events::instance_unreadable(&guest.uuid.to_string(), &error.to_string());
                Vec::new()
            }
        }
    }

    /// Lets those go whose answer came after all, too late to be of use.
    fn release(&mut self) {
        self.stuck.retain(|_, pending| pending.is_open());
    }

    /// Asks those that run one after the other.
    fn ask_all(&mut self, guests: &[DomainState]) -> Vec<Sample> {
        let mut samples = Vec::new();
        for guest in guests {
            if !WITH_QEMU.contains(&guest.state) {
                continue;
            }
            match self.ask(guest) {
                Ok(read) => samples.extend(read),
                Err(reason @ (FailReason::InstanceSilent | FailReason::HypervisorError)) => {
                    samples.push(self.failure(&format!("{NAME}/{}", guest.uuid), reason));
                }
                // No guest is to blame, and none of the others would be heard.
                Err(reason) => {
                    samples.push(self.failure(NAME, reason));
                    break;
                }
            }
            if self.is_full() {
                samples.push(self.failure(NAME, FailReason::InstanceSilent));
                break;
            }
        }
        samples
    }

    /// Whether as many guests hang as there may be threads.
    fn is_full(&self) -> bool {
        self.stuck.len() >= THREADS_MAX
    }

    fn failure(&self, name: &str, reason: FailReason) -> Sample {
        failed(&self.host, name, reason, clock::utc())
    }
}

impl Pollster for Statistics {
    fn poll(&mut self, _round: Round) -> Vec<Sample> {
        self.release();
        if self.is_full() {
            return vec![self.failure(NAME, FailReason::InstanceSilent)];
        }
        match self.link.ask(super::sys::Connection::states) {
            Ok(guests) => self.ask_all(&guests),
            Err(trouble) => vec![self.failure(NAME, trouble.reason())],
        }
    }

    fn take_counts(&mut self) -> Counts {
        self.link.take_counts()
    }
}
