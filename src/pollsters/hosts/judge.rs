//! Pure. What a round says about the hosts that were looked at, and what it doesn't because the
//! fault may be the observer's own.
//!
//! An observer whose link is down, or whose switch port is dead, hears nobody. So a loss is believed
//! only against witnesses: other hosts of the same network that answered through the same interface
//! in the same round. A witness answered *every* probe: an outage of our own that was long enough to
//! lose a host was long enough to cost everybody a probe. And most of those that answer must be
//! witnesses: where everybody loses a little, the loss is likelier to be ours than theirs.

use super::super::ping::path::PathState;
use super::super::ping::round::Tally;
use super::super::ping::weigh::{Reading, Unsaid, weigh};
use crate::model::FailReason;

/// A host's address on one network, after a round.
pub type Outcome = Result<Reading, FailReason>;

/// What is known about one address after a round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evidence {
    /// Probes asked for.
    pub count: u16,
    /// What became of them; None if none could be tried because there was no path to send on.
    pub tally: Option<Tally>,
    /// Our own side of the path, looked at once more at the end of the round if anything was lost.
    pub path: PathState,
}

/// An address of a network, by the interface of ours that leads to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// The interface's index; None if there is no path.
    pub interface: Option<u32>,
    /// What its probes say.
    pub outcome: Outcome,
}

/// Why a network, or one host of it, has no reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The network as a whole.
    Network(FailReason),
    /// The host at this place of the network.
    Host(usize, FailReason),
}

/// What one address's probes say by themselves.
pub fn address(evidence: &Evidence, accepted_loss: f64) -> Outcome {
    let Some(tally) = evidence.tally else {
        return Err(FailReason::ProbesNotSent);
    };
    match weigh(&tally, evidence.count, accepted_loss) {
        Ok(reading) if !reading.is_up() && evidence.path != PathState::Usable => {
            Err(FailReason::NoWitness)
        }
        Ok(reading) => Ok(reading),
        Err(Unsaid::LocalPath) => Err(FailReason::ProbesNotSent),
        Err(Unsaid::Ours(reason)) => Err(reason),
    }
}

/// The outcomes of one network, without the losses that nobody witnesses.
pub fn network(seen: &[Seen]) -> Vec<Outcome> {
    seen.iter()
        .map(|one| match one.outcome {
            Ok(reading) if !reading.is_up() && !is_witnessed(&reading, one.interface, seen) => {
                Err(FailReason::NoWitness)
            }
            other => other,
        })
        .collect()
}

/// What is missing of a network, said once where it is about all of it.
pub fn missing(outcomes: &[Outcome]) -> Vec<Missing> {
    let reasons = || outcomes.iter().filter_map(|outcome| outcome.err());
    let not_ours = |reason: &FailReason| *reason != FailReason::NoWitness;
    if outcomes.iter().all(Result::is_err) {
        // A fault that we know to be ours says more than that nobody answered.
        let told = reasons().find(not_ours).or_else(|| reasons().next());
        return told.map(Missing::Network).into_iter().collect();
    }
    let unwitnessed = reasons().find(|reason| !not_ours(reason));
    let of_hosts = outcomes.iter().enumerate().filter_map(|(index, outcome)| {
        let reason = outcome.err().filter(not_ours)?;
        Some(Missing::Host(index, reason))
    });
    unwitnessed
        .map(Missing::Network)
        .into_iter()
        .chain(of_hosts)
        .collect()
}

/// The verdict about a host from all of its networks: true if it answers on one, false if it is
/// known not to answer on any, otherwise none.
pub fn host(networks: impl IntoIterator<Item = Outcome>) -> Option<bool> {
    let mut verdict = Some(false);
    let mut networks = networks.into_iter().peekable();
    networks.peek()?;
    for outcome in networks {
        match outcome {
            Ok(reading) if reading.is_up() => return Some(true),
            Ok(_) => {}
            Err(_) => verdict = None,
        }
    }
    verdict
}

/// Whether most of the others that answered by this interface answered everything.
fn is_witnessed(lost: &Reading, interface: Option<u32>, seen: &[Seen]) -> bool {
    let answering = || {
        seen.iter()
            .filter(|one| one.interface == interface)
            .filter_map(|one| one.outcome.ok())
            .filter(|reading| reading.loss_ratio < 1.0)
    };
    let itself = usize::from(lost.loss_ratio < 1.0);
    let others = answering().count().saturating_sub(itself);
    let witnesses = answering()
        .filter(|reading| reading.loss_ratio <= 0.0)
        .count();
    witnesses * 2 > others
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::GatewayStatus;
    use FailReason::{NoBuffers, NoPermission, NoWitness, OutputBlocked, ProbesNotSent};
    use proptest::prelude::*;

    const USED: Option<u32> = Some(2);

    fn tally(answered: u32) -> Tally {
        Tally {
            sent: 4,
            answered,
            ..Tally::default()
        }
    }

    fn of(answered: u32, interface: Option<u32>) -> Seen {
        let evidence = Evidence {
            count: 4,
            tally: Some(tally(answered)),
            path: PathState::Usable,
        };
        Seen {
            interface,
            outcome: address(&evidence, 0.5),
        }
    }

    /// A network of hosts that answered so many of four probes each: 1, 0, or x for no reading.
    fn read(answered: &[u32]) -> String {
        let seen: Vec<Seen> = answered
            .iter()
            .map(|answered| of(*answered, USED))
            .collect();
        network(&seen).iter().map(letter).collect()
    }

    fn letter(outcome: &Outcome) -> char {
        match outcome {
            Ok(reading) if reading.is_up() => '1',
            Ok(_) => '0',
            Err(_) => 'x',
        }
    }

    #[test]
    fn what_the_probes_of_one_address_say() {
        use PathState::{LinkDown, NoRoute, Usable};
        let ours = Tally {
            fault: Some(OutputBlocked),
            ..tally(4)
        };
        let cut = Tally {
            sent: 2,
            local_path: 2,
            ..Tally::default()
        };
        let unreachable = Tally {
            unreachable: 4,
            ..tally(0)
        };
        let few = Tally {
            sent: 3,
            ..Tally::default()
        };
        for (what, tally, path, expected) in [
            (
                "answers",
                Some(tally(4)),
                Usable,
                Ok(GatewayStatus::Answered),
            ),
            (
                "half lost is accepted",
                Some(tally(2)),
                Usable,
                Ok(GatewayStatus::Answered),
            ),
            (
                "three of four are not",
                Some(tally(1)),
                Usable,
                Ok(GatewayStatus::Silent),
            ),
            ("silence", Some(tally(0)), Usable, Ok(GatewayStatus::Silent)),
            (
                "unreachable",
                Some(unreachable),
                Usable,
                Ok(GatewayStatus::Unreachable),
            ),
            (
                "silence, our own link is down",
                Some(tally(0)),
                LinkDown,
                Err(NoWitness),
            ),
            (
                "silence, our own route is gone by now",
                Some(tally(0)),
                NoRoute,
                Err(NoWitness),
            ),
            (
                "answers, whatever our link says",
                Some(tally(4)),
                LinkDown,
                Ok(GatewayStatus::Answered),
            ),
            ("no path to send on", None, NoRoute, Err(ProbesNotSent)),
            (
                "our path went while we sent",
                Some(cut),
                Usable,
                Err(ProbesNotSent),
            ),
            ("our own firewall", Some(ours), Usable, Err(OutputBlocked)),
            ("too few sent", Some(few), Usable, Err(ProbesNotSent)),
        ] {
            let evidence = Evidence {
                count: 4,
                tally,
                path,
            };
            let status = address(&evidence, 0.5).map(|reading| reading.status);
            assert_eq!(status, expected, "{what}");
        }
    }

    #[test]
    fn a_loss_needs_witnesses() {
        for (what, answered, expected) in [
            ("all well", &[4, 4, 4][..], "111"),
            ("one lost", &[4, 0, 4], "101"),
            ("all but one lost", &[0, 0, 4, 0, 0], "00100"),
            ("a pair is enough", &[0, 4], "01"),
            ("nobody answers", &[0, 0, 0], "xxx"),
            ("a single host that answers", &[4], "1"),
            ("a single host that is silent", &[0], "x"),
            (
                "our own outage cost everybody a probe",
                &[0, 3, 3, 3],
                "x111",
            ),
            (
                "an outage that ended in the middle of a phase",
                &[1, 1, 2, 2],
                "xx11",
            ),
            ("a little loss elsewhere", &[0, 3, 4, 4], "0111"),
            ("loss wherever we look", &[0, 1, 2, 3, 3, 4, 4], "xx11111"),
            (
                "what the lost one answered doesn't speak against it",
                &[1, 4],
                "01",
            ),
        ] {
            assert_eq!(read(answered), expected, "{what}");
        }
    }

    #[test]
    fn a_witness_answers_by_the_same_interface() {
        let seen = [of(0, Some(2)), of(4, Some(3)), of(0, Some(3))];
        let letters: String = network(&seen).iter().map(letter).collect();
        assert_eq!(letters, "x10");
    }

    #[test]
    fn what_is_missing_is_said_once_where_all_of_it_is() {
        let up = of(4, USED).outcome;
        let lost = of(0, USED).outcome;
        for (outcomes, expected) in [
            (vec![up, lost], vec![]),
            (vec![Err(NoWitness); 300], vec![Missing::Network(NoWitness)]),
            (
                vec![Err(NoPermission); 2],
                vec![Missing::Network(NoPermission)],
            ),
            (
                vec![Err(NoWitness), Err(NoBuffers)],
                vec![Missing::Network(NoBuffers)],
            ),
            (vec![up, Err(NoWitness)], vec![Missing::Network(NoWitness)]),
            (
                vec![up, Err(NoBuffers), Err(NoWitness), Err(ProbesNotSent)],
                vec![
                    Missing::Network(NoWitness),
                    Missing::Host(1, NoBuffers),
                    Missing::Host(3, ProbesNotSent),
                ],
            ),
            (vec![], vec![]),
        ] {
            assert_eq!(missing(&outcomes), expected, "{outcomes:?}");
        }
    }

    #[test]
    fn a_host_is_lost_only_when_every_network_says_so() {
        let up = of(4, USED).outcome;
        let lost = of(0, USED).outcome;
        let none = Err(NoWitness);
        for (networks, expected) in [
            (vec![up], Some(true)),
            (vec![lost, up], Some(true)),
            (vec![none, up], Some(true)),
            (vec![lost, lost], Some(false)),
            (vec![lost], Some(false)),
            (vec![lost, none], None),
            (vec![none], None),
            (vec![], None),
        ] {
            assert_eq!(host(networks.clone()), expected, "{networks:?}");
        }
    }

    proptest! {
        /// An outage of the observer's own that lasts for any stretch of the round, however it falls
        /// among the hosts, makes nobody lost.
        #[test]
        fn no_outage_of_our_own_makes_a_host_lost(hosts in 1usize..400, from in 0usize..1600, length in 0usize..1600) {
            let answers = |host: usize| {
                let probes = (0..4).map(|phase| phase * hosts + host);
                probes.filter(|probe| !(from..from + length).contains(probe)).count()
            };
            let answered: Vec<u32> = (0..hosts).map(|host| u32::try_from(answers(host)).unwrap()).collect();
            prop_assert!(!read(&answered).contains('0'), "{answered:?}");
        }
    }
}
