//! Do the hosts answer, seen from here? One round probes every address of every host at once and
//! yields `host.connectivity` for each host, two meters for each host on each network, and a
//! `pollster.failed` for whatever couldn't be found out, our own blindness above all.
//!
//! Pure parts: [`list`] (whom to look at), [`judge`] (what a round means) and [`sight`] (whether we
//! have seen clearly for long enough). The probing is in [`ping`](super::ping).

pub mod judge;
pub mod list;
pub mod sight;

use std::collections::BTreeMap;
use std::time::Instant;

use self::judge::{Evidence, Missing, Outcome, Seen};
use self::list::Target;
use self::sight::Sight;
use super::ping::path::{Path, PathState, Pin};
use super::ping::round::{Aim, Numbers, Plan, Tally};
use super::ping::routes::Routes;
use super::ping::socket::Timestamps;
use super::ping::{counted, prober, reason_of};
use super::{Context, Pollster, Round, failed};
use crate::clock;
use crate::config;
use crate::events::{Counts, Probes};
use crate::model::{FailReason, Metadata, Meter, Sample, UtcTime, Value, Volume, meters};

/// The pollster's name, and the name under which a whole round fails.
pub const NAME: &str = "host.connectivity";
/// Before a network, or a host and a network: the name under which its readings fail.
const NETWORK: &str = "host_network";
/// The index of the loopback interface, by which Linux leads to a host's own addresses.
const LOOPBACK: u32 = 1;

/// Looks at hosts from outside.
pub struct HostsPollster {
    observer: String,
    plan: Plan,
    accepted_loss: f64,
    targets: Vec<Target>,
    sight: Sight,
    numbers: Numbers,
    probes: Probes,
    /// None if there was no socket to be had; replies are then dated a little late.
    _timestamps: Option<Timestamps>,
}

/// A target on its way through a round.
struct Look<'a> {
    target: &'a Target,
    path: Result<Path, FailReason>,
    tally: Option<Tally>,
}

/// A target after the round.
type Judged<'a> = (&'a Target, Outcome);

impl HostsPollster {
    /// A pollster for the hosts that the resources name; what is wrong among them was told when the
    /// configuration was read.
    pub fn new(context: &Context) -> Self {
        let compute = &context.settings.compute;
        let targets = context.resources.iter();
        HostsPollster {
            observer: context.host.clone(),
            plan: Plan {
                count: compute.ping_count,
                spacing: compute.ping_interval,
                timeout: config::effective_timeout(context.interval, compute),
            },
            accepted_loss: compute.accepted_loss,
            targets: targets
                .filter_map(|url| Target::from_url(url).ok())
                .collect(),
            sight: Sight::default(),
            numbers: Numbers::default(),
            probes: Probes::default(),
            _timestamps: Timestamps::keep().ok(),
        }
    }

    /// Every target with our path to it. Addresses of our own are left out: one list serves all
    /// observers, and that we reach ourselves tells nobody anything.
    fn looks(&self) -> Vec<Look<'_>> {
        let mut routes = Routes::open().map_err(|error| reason_of(&error));
        let looks = self.targets.iter().map(|target| {
            let path = match &mut routes {
                Ok(routes) => path_to(routes, target),
                Err(reason) => Err(*reason),
            };
            Look {
                target,
                path,
                tally: None,
            }
        });
        looks
            .filter(|look| look.interface() != Some(LOOPBACK))
            .collect()
    }

    /// Probes every target that has a path and notes what came of it; Some if none of it counts.
    fn probe(&self, looks: &mut [Look<'_>], first_seq: u16) -> Option<FailReason> {
        let reachable = looks
            .iter()
            .enumerate()
            .filter_map(|(index, look)| Some((index, look.aim()?)));
        let (indexes, aims): (Vec<usize>, Vec<Aim>) = reachable.unzip();
        let findings = prober::probe(self.plan, aims, &[], first_seq);
        for (index, tally) in indexes.into_iter().zip(&findings.tallies) {
            if let Some(look) = looks.get_mut(index) {
                look.tally = Some(*tally);
            }
        }
        findings.void
    }

    fn judge<'a>(
        &self,
        looks: &[Look<'a>],
        sight: &mut Sight,
        now: Instant,
    ) -> Vec<Vec<Judged<'a>>> {
        let mut networks: BTreeMap<&str, Vec<(&'a Target, Seen)>> = BTreeMap::new();
        for look in looks {
            let seen = Seen {
                interface: look.interface(),
                outcome: self.outcome(look),
            };
            let network = networks.entry(&look.target.network).or_default();
            network.push((look.target, seen));
        }
        let judged = networks.into_iter().map(|(name, network)| {
            let (targets, seen): (Vec<&Target>, Vec<Seen>) = network.into_iter().unzip();
            let outcomes = sight.settled(name, judge::network(&seen), now);
            targets.into_iter().zip(outcomes).collect()
        });
        judged.collect()
    }

    fn outcome(&self, look: &Look<'_>) -> Outcome {
        let path = look.path.as_ref().map_err(|reason| *reason)?;
        let evidence = Evidence {
            count: self.plan.count,
            tally: look.tally,
            path: path.state,
        };
        judge::address(&evidence, self.accepted_loss)
    }

    fn samples(&self, networks: &[Vec<Judged<'_>>], at: UtcTime) -> Vec<Sample> {
        let mut hosts: BTreeMap<&str, Vec<Outcome>> = BTreeMap::new();
        for (target, outcome) in networks.iter().flatten() {
            hosts.entry(&target.host).or_default().push(*outcome);
        }
        let verdicts = hosts
            .into_iter()
            .filter_map(|(host, outcomes)| Some((host, judge::host(outcomes)?)));
        let mut samples: Vec<Sample> = verdicts
            .map(|(host, answers)| host_sample(host, answers, at))
            .collect();
        for network in networks {
            for (target, outcome) in network {
                if let Ok(reading) = outcome {
                    let connectivity = Volume::Int(reading.is_up().into());
                    let status = Volume::Int(reading.status.code());
                    samples.extend([
                        network_sample(meters::HOST_NETWORK_CONNECTIVITY, connectivity, target, at),
                        network_sample(meters::HOST_NETWORK_STATUS, status, target, at),
                    ]);
                }
            }
            samples.extend(self.failures(network, at));
        }
        samples
    }

    fn failures(&self, network: &[Judged<'_>], at: UtcTime) -> Vec<Sample> {
        let outcomes: Vec<Outcome> = network.iter().map(|(_, outcome)| *outcome).collect();
        let of = |missing| {
            let (pollster, reason) = match missing {
                Missing::Network(reason) => {
                    let (target, _) = network.first()?;
                    (format!("{NETWORK}/{}", target.network), reason)
                }
                Missing::Host(index, reason) => {
                    let (target, _) = network.get(index)?;
                    let Target { host, network, .. } = target;
                    (format!("{NETWORK}/{host}/{network}"), reason)
                }
            };
            Some(failed(&self.observer, &pollster, reason, at))
        };
        judge::missing(&outcomes)
            .into_iter()
            .filter_map(of)
            .collect()
    }
}

impl Pollster for HostsPollster {
    fn poll(&mut self, round: Round) -> Vec<Sample> {
        let first_seq = self.numbers.take(self.plan, self.targets.len());
        let mut looks = self.looks();
        let round_failed = |reason| vec![failed(&self.observer, NAME, reason, clock::utc())];
        if looks.is_empty() {
            return round_failed(FailReason::NoHosts);
        }
        let void = self.probe(&mut looks, first_seq);
        let tallies = looks.iter().map(|look| look.tally.as_ref());
        let probes = counted::of_round(self.plan.count, tallies, void.is_some());
        if let Some(reason) = void {
            self.probes = probes;
            return round_failed(reason);
        }
        look_again(&mut looks);
        // A round that counts for nothing, above, changes nothing about what we could see: on a busy
        // host there may be one every few seconds, and a real loss would never be known.
        let mut sight = self.sight.clone();
        let networks = self.judge(&looks, &mut sight, round.due);
        let samples = self.samples(&networks, clock::utc());
        self.sight = sight;
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

impl Look<'_> {
    fn interface(&self) -> Option<u32> {
        let link = self.path.as_ref().ok()?.link.as_ref();
        link.map(|link| link.index)
    }

    /// Whom to probe and by which interface, if there is a path to send on.
    fn aim(&self) -> Option<Aim> {
        let path = self.path.as_ref().ok()?;
        let interface = self.interface().filter(|_| path.state.can_send())?;
        Some(Aim {
            address: self.target.address,
            interface,
        })
    }
}

fn path_to(routes: &mut Routes, target: &Target) -> Result<Path, FailReason> {
    routes
        .path(target.address, None, Pin::Free)
        .map_err(|error| reason_of(&error))
}

/// Looks once more at the paths to those that lost something: our own link may have gone down while
/// the round ran. The interface stays the one that was probed by; a route that by now leads
/// elsewhere is a path that is gone.
fn look_again(looks: &mut [Look<'_>]) {
    let Ok(mut routes) = Routes::open() else {
        return;
    };
    for look in looks {
        let lost_some = look.tally.is_some_and(|tally| tally.answered < tally.sent);
        let interface = look.interface();
        if let (true, Ok(path)) = (lost_some, &mut look.path)
            && let Ok(now) = path_to(&mut routes, look.target)
        {
            let same = now.link.as_ref().map(|link| link.index) == interface;
            path.state = if same {
                now.state
            } else {
                PathState::Elsewhere
            };
        }
    }
}

fn host_sample(host: &str, answers: bool, at: UtcTime) -> Sample {
    let metadata = Metadata::from([("node".to_owned(), Value::from(host))]);
    let volume = Volume::Int(answers.into());
    Sample::new(meters::HOST_CONNECTIVITY, volume, host, at, metadata)
}

fn network_sample(meter: Meter, volume: Volume, target: &Target, at: UtcTime) -> Sample {
    let Target {
        host,
        network,
        address,
    } = target;
    let metadata = Metadata::from([
        ("node".to_owned(), Value::from(host.as_str())),
        ("network".to_owned(), Value::from(network.as_str())),
        (
            "address".to_owned(),
            Value::from(address.to_string().as_str()),
        ),
    ]);
    Sample::new(meter, volume, format!("{host}/{network}"), at, metadata)
}

#[cfg(test)]
mod tests {
    use super::super::Bell;
    use super::super::ping::path::Link;
    use super::super::storage::SharedMemory;
    use super::*;
    use crate::config::{ConfigText, Purpose};
    use std::time::Duration;

    fn pollster(resources: &[&str]) -> HostsPollster {
        let file = ConfigText {
            path: "test.conf".into(),
            text: "[DEFAULT]\npolling_namespaces = central\n".into(),
        };
        let settings = config::load(Purpose::Agent, &[file], &[], "ctl", true)
            .unwrap()
            .settings;
        HostsPollster::new(&Context {
            host: "ctl".into(),
            interval: Duration::from_secs(1),
            settings: settings.into(),
            resources: resources.iter().map(|url| (*url).to_owned()).collect(),
            epoch: 1,
            memory: SharedMemory::default(),
            bell: Bell::new(|| {}),
            ending: std::sync::Arc::default(),
        })
    }

    #[test]
    fn whoever_lost_something_has_our_own_path_looked_at_again() {
        let pollster = pollster(&[]);
        // By now its route leads by the loopback, as it does on every host.
        let target = Target {
            host: "a".into(),
            network: "m".into(),
            address: "127.0.0.1".parse().unwrap(),
        };
        let look = |answered| {
            let link = Link {
                index: 7,
                name: "mg0".into(),
                is_running: true,
            };
            Look {
                target: &target,
                path: Ok(Path::by(link, Pin::Free)),
                tally: Some(Tally {
                    sent: 4,
                    answered,
                    ..Tally::default()
                }),
            }
        };
        let mut looks = [look(0), look(3), look(4)];
        look_again(&mut looks);
        let ups: Vec<_> = looks
            .iter()
            .map(|look| pollster.outcome(look).map(|reading| reading.is_up()))
            .collect();
        assert_eq!(ups, [Err(FailReason::NoWitness), Ok(true), Ok(true)]);
        assert_eq!(looks[0].interface(), Some(7), "it was probed by this one");
    }
}
