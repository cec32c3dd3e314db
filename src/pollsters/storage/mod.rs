//! Does this node reach its storage gateways? One round probes all of them at once and yields
//! `storage_connectivity`, three meters for each gateway, and a `pollster.failed` for whatever
//! couldn't be found out.
//!
//! Pure parts: [`judge`] (what a round means) and [`memory`]. IO: [`names`], and the probing itself,
//! which is in [`ping`](super::ping).

pub mod judge;
pub mod memory;
pub mod names;

use std::net::IpAddr;

pub use memory::{Memory, SharedMemory};

use self::judge::{Evidence, GatewayReading};
use super::ping::path::{Path, Pin};
use super::ping::round::{Aim, Numbers, Plan, Tally};
use super::ping::routes::Routes;
use super::ping::socket::Timestamps;
use super::ping::{counted, prober, reason_of};
use super::{Context, Pollster, Round, failed};
use crate::clock;
use crate::config::{self, ComputeSettings};
use crate::events::{Counts, Probes};
use crate::model::{FailReason, Metadata, Meter, Sample, UtcTime, Value, Volume, meters};

/// The pollster's name, under which the verdict fails.
pub const VERDICT: &str = "storage_connectivity";
/// Before a gateway: the name under which its own readings fail.
const GATEWAY: &str = "storage_gateway";

/// Probes the storage gateways of one host.
pub struct StoragePollster {
    host: String,
    settings: ComputeSettings,
    plan: Plan,
    memory: SharedMemory,
    numbers: Numbers,
    probes: Probes,
    /// None if there was no socket to be had; replies are then dated a little late.
    _timestamps: Option<Timestamps>,
}

/// A configured gateway, on its way through a round.
struct Target<'a> {
    /// As configured: an address or a name.
    gateway: &'a str,
    /// Where to probe it, or why not.
    address: Result<IpAddr, FailReason>,
    path: Result<Path, FailReason>,
    tally: Option<Tally>,
}

type Outcome = Result<GatewayReading, FailReason>;

impl StoragePollster {
    /// A pollster for the gateways of `[compute] storage_server_address`.
    pub fn new(context: &Context) -> Self {
        StoragePollster {
            host: context.host.clone(),
            plan: Plan {
                count: context.settings.compute.ping_count,
                spacing: context.settings.compute.ping_interval,
                timeout: config::effective_timeout(context.interval, &context.settings.compute),
            },
            settings: context.settings.compute.clone(),
            memory: context.memory.clone(),
            numbers: Numbers::default(),
            probes: Probes::default(),
            _timestamps: Timestamps::keep().ok(),
        }
    }

    fn targets(&self) -> Vec<Target<'_>> {
        let mut routes = Routes::open().map_err(|error| reason_of(&error));
        self.settings
            .gateways
            .iter()
            .map(|gateway| {
                let address = self.address(gateway);
                let path = address.and_then(|address| match &mut routes {
                    Ok(routes) => self.look(routes, address),
                    Err(reason) => Err(*reason),
                });
                Target {
                    gateway,
                    address,
                    path,
                    tally: None,
                }
            })
            .collect()
    }

    fn address(&self, gateway: &str) -> Result<IpAddr, FailReason> {
        match gateway.parse() {
            Ok(address) => Ok(address),
            Err(_) => self
                .memory
                .address_of(gateway)
                .ok_or(FailReason::NameUnresolved),
        }
    }

    fn look(&self, routes: &mut Routes, address: IpAddr) -> Result<Path, FailReason> {
        let remembered = self.memory.interface_of(address);
        let pin = match (&self.settings.storage_interface, &remembered) {
            (Some(configured), _) => Pin::Configured(configured),
            (None, Some(remembered)) => Pin::Remembered(remembered),
            (None, None) => Pin::Free,
        };
        let source = self.settings.storage_source_addresses.iter().copied();
        let source = source
            .into_iter()
            .find(|source| source.is_ipv4() == address.is_ipv4());
        routes
            .path(address, source, pin)
            .map_err(|error| reason_of(&error))
    }

    /// Probes every target that has a path and notes what came of it; Some if none of it counts.
    fn probe(&self, targets: &mut [Target<'_>], first_seq: u16) -> Option<FailReason> {
        let reachable = targets
            .iter()
            .enumerate()
            .filter_map(|(index, target)| Some((index, target.aim()?)));
        let (indexes, aims): (Vec<usize>, Vec<Aim>) = reachable.unzip();
        let findings = prober::probe(
            self.plan,
            aims,
            &self.settings.storage_source_addresses,
            first_seq,
        );
        for (index, tally) in indexes.into_iter().zip(&findings.tallies) {
            if let Some(target) = targets.get_mut(index) {
                target.tally = Some(*tally);
            }
        }
        findings.void
    }

    /// Looks once more at the paths of those that lost something: a link may have gone down while
    /// the round ran.
    fn look_again(&self, targets: &mut [Target<'_>]) {
        let Ok(mut routes) = Routes::open() else {
            return;
        };
        for target in targets {
            let lost_some = target
                .tally
                .is_some_and(|tally| tally.answered < tally.sent);
            if let (true, Ok(address)) = (lost_some, target.address)
                && let Ok(path) = self.look(&mut routes, address)
            {
                target.path = Ok(path);
            }
        }
    }

    fn judge(&self, target: &Target<'_>) -> Outcome {
        let address = target.address?;
        let path = target.path.as_ref().map_err(|reason| *reason)?;
        let evidence = Evidence {
            count: self.plan.count,
            tally: target.tally,
            path: path.state,
            answered_before: self.memory.interface_of(address).is_some(),
        };
        judge::gateway(&evidence, self.settings.accepted_loss)
    }

    /// A gateway that answers by an interface is remembered with it.
    fn remember(&self, targets: &[Target<'_>]) {
        for target in targets {
            let answered = target.tally.is_some_and(|tally| tally.answered > 0);
            if let (
                true,
                Ok(address),
                Ok(Path {
                    link: Some(link), ..
                }),
            ) = (answered, target.address, &target.path)
            {
                self.memory.answered(
                    address,
                    &link.name,
                    self.settings.storage_interface.is_some(),
                );
            }
        }
    }

    fn samples(&self, gateways: &[(&str, Outcome)], at: UtcTime) -> Vec<Sample> {
        let outcomes: Vec<Outcome> = gateways.iter().map(|(_, outcome)| *outcome).collect();
        let mut samples = Vec::with_capacity(1 + gateways.len() * 3);
        samples.push(match judge::storage(&outcomes, self.settings.quorum) {
            Some(is_reached) => self.sample(
                meters::STORAGE_CONNECTIVITY,
                Volume::Int(is_reached.into()),
                None,
                at,
            ),
            None => failed(&self.host, VERDICT, judge::why_no_verdict(&outcomes), at),
        });
        for (gateway, outcome) in gateways {
            match outcome {
                Ok(reading) => samples.extend(self.gateway_samples(gateway, reading, at)),
                Err(reason) => samples.push(failed(
                    &self.host,
                    &format!("{GATEWAY}/{gateway}"),
                    *reason,
                    at,
                )),
            }
        }
        samples
    }

    fn gateway_samples(&self, gateway: &str, reading: &GatewayReading, at: UtcTime) -> Vec<Sample> {
        let GatewayReading {
            status,
            loss_ratio,
            rtt,
        } = *reading;
        let rtt = rtt.map(|rtt| Volume::Int(i64::try_from(rtt.as_micros()).unwrap_or(i64::MAX)));
        let measured = [
            Some((meters::GATEWAY_STATUS, Volume::Int(status.code()))),
            Some((meters::GATEWAY_LOSS_RATIO, Volume::ratio(loss_ratio))),
            rtt.map(|rtt| (meters::GATEWAY_RTT, rtt)),
        ];
        let of_gateway = |(meter, volume)| self.sample(meter, volume, Some(gateway), at);
        measured.into_iter().flatten().map(of_gateway).collect()
    }

    fn sample(
        &self,
        meter: Meter,
        volume: Volume,
        gateway: Option<&str>,
        timestamp: UtcTime,
    ) -> Sample {
        let mut metadata = Metadata::from([("node".to_owned(), Value::from(self.host.as_str()))]);
        let mut resource_id = self.host.clone();
        if let Some(gateway) = gateway {
            metadata.insert("gateway".to_owned(), Value::from(gateway));
            resource_id = format!("{}/{gateway}", self.host);
        }
        Sample::new(meter, volume, resource_id, timestamp, metadata)
    }
}

impl Pollster for StoragePollster {
    fn poll(&mut self, _round: Round) -> Vec<Sample> {
        if self.settings.gateways.is_empty() {
            return vec![failed(
                &self.host,
                VERDICT,
                FailReason::NotConfigured,
                clock::utc(),
            )];
        }
        let first_seq = self.numbers.take(self.plan, self.settings.gateways.len());
        let mut targets = self.targets();
        let void = self.probe(&mut targets, first_seq);
        let tallies = targets.iter().map(|target| target.tally.as_ref());
        let probes = counted::of_round(self.plan.count, tallies, void.is_some());
        if let Some(reason) = void {
            self.probes = probes;
            return vec![failed(&self.host, VERDICT, reason, clock::utc())];
        }
        self.remember(&targets);
        self.look_again(&mut targets);
        let gateways: Vec<(&str, Outcome)> = targets
            .iter()
            .map(|target| (target.gateway, self.judge(target)))
            .collect();
        let samples = self.samples(&gateways, clock::utc());
        self.probes = probes;
        samples
    }

    fn take_counts(&mut self) -> Counts {
        Counts {
            probes: std::mem::take(&mut self.probes),
            ..Counts::default()
        }
    }
}

impl Target<'_> {
    /// Whom to probe and by which interface, if there is a path to send on.
    fn aim(&self) -> Option<Aim> {
        let (Ok(address), Ok(path)) = (self.address, self.path.as_ref()) else {
            return None;
        };
        let link = path.link.as_ref().filter(|_| path.state.can_send())?;
        Some(Aim {
            address,
            interface: link.index,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Bell;
    use super::super::ping::path;
    use super::*;
    use crate::config::{ConfigText, Purpose};
    use crate::model::GatewayStatus;
    use std::time::Duration;

    /// A pollster of a host that has only its loopback, which every host has.
    fn pollster() -> StoragePollster {
        let file = ConfigText {
            path: "test.conf".into(),
            text: "[compute]\nstorage_server_address = 127.0.0.1\n".into(),
        };
        let settings = config::load(Purpose::Agent, &[file], &[], "n", true)
            .unwrap()
            .settings;
        StoragePollster::new(&Context {
            host: "n".into(),
            interval: Duration::from_secs(1),
            settings: settings.into(),
            resources: Vec::new(),
            epoch: 1,
            memory: SharedMemory::default(),
            bell: Bell::new(|| {}),
            ending: std::sync::Arc::default(),
        })
    }

    /// A gateway that was probed by `st0`, which at the time was the right interface.
    fn target(answered: u32) -> Target<'static> {
        let link = path::Link {
            index: 7,
            name: "st0".into(),
            is_running: true,
        };
        Target {
            gateway: "127.0.0.1",
            address: Ok("127.0.0.1".parse().unwrap()),
            path: Ok(Path::by(link, Pin::Free)),
            tally: Some(Tally {
                sent: 4,
                answered,
                ..Tally::default()
            }),
        }
    }

    #[test]
    fn whoever_lost_something_has_its_path_looked_at_again() {
        let pollster = pollster();
        let gateway = "127.0.0.1".parse().unwrap();
        // By now its route leads by the loopback.
        pollster.memory.answered(gateway, "st0", false);
        let mut targets = [target(0), target(1), target(4)];
        pollster.look_again(&mut targets);
        let statuses = targets
            .iter()
            .map(|target| pollster.judge(target).unwrap().status);
        assert_eq!(
            statuses.collect::<Vec<_>>(),
            [
                GatewayStatus::LocalPathLost,
                GatewayStatus::LocalPathLost,
                GatewayStatus::Answered
            ]
        );
    }
}
