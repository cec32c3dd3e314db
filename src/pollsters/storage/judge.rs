//! Pure. What a round means (the table "what a probe means" in ARCHITECTURE.md): a status for each
//! gateway, or no reading and why, and from those a verdict about the node's storage.
//!
//! The two mistakes to avoid are opposites. A fault of our own must not read as a dead gateway, or
//! a healthy node is fenced; a real loss must not read as a fault of our own, or a dead node is
//! kept. What tells them apart for a missing link, address or route is whether this gateway ever
//! answered this node.

use super::super::ping::path::PathState;
use super::super::ping::round::Tally;
use super::super::ping::weigh::{Unsaid, weigh};
use crate::config::Quorum;
use crate::model::{FailReason, GatewayStatus};

/// A gateway that could be judged.
pub use super::super::ping::weigh::Reading as GatewayReading;

/// What is known about one gateway after a round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evidence {
    /// Probes asked for.
    pub count: u16,
    /// What became of them; None if none could be tried because there was no path to send on.
    pub tally: Option<Tally>,
    /// The path, looked at once more at the end of the round if anything was lost.
    pub path: PathState,
    /// Whether the gateway ever answered this node.
    pub answered_before: bool,
}

/// Judges one gateway: up when lost/sent is at most `accepted_loss`.
pub fn gateway(evidence: &Evidence, accepted_loss: f64) -> Result<GatewayReading, FailReason> {
    let Some(tally) = evidence.tally else {
        return path_is_gone(evidence);
    };
    match weigh(&tally, evidence.count, accepted_loss) {
        Ok(reading) if !reading.is_up() && evidence.path != PathState::Usable => {
            path_is_gone(evidence)
        }
        Ok(reading) => Ok(reading),
        Err(Unsaid::LocalPath) => path_is_gone(evidence),
        Err(Unsaid::Ours(reason)) => Err(reason),
    }
}

/// The verdict from n gateways of which `needed` must be up: true once enough are, false once too
/// many are down for that, otherwise none. A gateway without a reading counts neither way.
pub fn storage(gateways: &[Result<GatewayReading, FailReason>], quorum: Quorum) -> Option<bool> {
    let needed = quorum.needed(gateways.len());
    let up = gateways
        .iter()
        .flatten()
        .filter(|reading| reading.is_up())
        .count();
    let down = gateways
        .iter()
        .flatten()
        .filter(|reading| !reading.is_up())
        .count();
    if up >= needed {
        Some(true)
    } else if down > gateways.len().saturating_sub(needed) {
        Some(false)
    } else {
        None
    }
}

/// Why there is no verdict: the gateways' common reason, or that the quorum can't be had.
pub fn why_no_verdict(gateways: &[Result<GatewayReading, FailReason>]) -> FailReason {
    let mut reasons = gateways
        .iter()
        .filter_map(|gateway| gateway.as_ref().err().copied());
    match reasons.next() {
        Some(first) if gateways.iter().all(|gateway| *gateway == Err(first)) => first,
        _ => FailReason::NoQuorum,
    }
}

fn path_is_gone(evidence: &Evidence) -> Result<GatewayReading, FailReason> {
    if evidence.answered_before {
        Ok(GatewayReading {
            status: GatewayStatus::LocalPathLost,
            loss_ratio: 1.0,
            rtt: None,
        })
    } else {
        Err(FailReason::PathNeverSeen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use FailReason::{
        NoBuffers, NoPermission, NoQuorum, OutputBlocked, PathNeverSeen, ProbesNotSent,
    };
    use GatewayStatus::{
        Answered, LocalPathLost, Prohibited, Silent, TooLate, Unreachable, WrongPath,
    };
    use proptest::prelude::*;
    use std::time::Duration;

    fn sent(answered: u32) -> Tally {
        Tally {
            sent: 4,
            answered,
            rtt: (answered > 0).then_some(Duration::from_millis(1)),
            ..Tally::default()
        }
    }

    fn seen(
        tally: Option<Tally>,
        path: PathState,
        answered_before: bool,
    ) -> Result<GatewayStatus, FailReason> {
        let evidence = Evidence {
            count: 4,
            tally,
            path,
            answered_before,
        };
        gateway(&evidence, 0.5).map(|reading| reading.status)
    }

    #[test]
    fn the_table_of_what_a_probe_means() {
        use PathState::{Elsewhere, LinkDown, NoAddress, NoInterface, NoRoute, Usable};
        let fault = |reason| {
            Some(Tally {
                sent: 3,
                answered: 3,
                fault: Some(reason),
                ..Tally::default()
            })
        };
        let with = |change: fn(&mut Tally)| {
            let mut tally = sent(0);
            change(&mut tally);
            Some(tally)
        };
        let unsent = Some(Tally {
            sent: 0,
            local_path: 4,
            ..Tally::default()
        });
        for (what, tally, path, before, expected) in [
            ("answers", Some(sent(4)), Usable, true, Ok(Answered)),
            (
                "half lost is still accepted",
                Some(sent(2)),
                Usable,
                true,
                Ok(Answered),
            ),
            (
                "three of four lost is not",
                Some(sent(1)),
                Usable,
                true,
                Ok(Silent),
            ),
            ("silence", Some(sent(0)), Usable, true, Ok(Silent)),
            (
                "silence of one that never answered is a loss too",
                Some(sent(0)),
                Usable,
                false,
                Ok(Silent),
            ),
            (
                "icmp unreachable",
                with(|t| t.unreachable = 1),
                Usable,
                true,
                Ok(Unreachable),
            ),
            (
                "icmp prohibited",
                with(|t| t.prohibited = 1),
                Usable,
                true,
                Ok(Prohibited),
            ),
            (
                "around another way",
                with(|t| t.wrong_path = 4),
                Usable,
                true,
                Ok(WrongPath),
            ),
            (
                "after the timeout",
                with(|t| t.too_late = 4),
                Usable,
                true,
                Ok(TooLate),
            ),
            (
                "link down, answered before",
                Some(sent(0)),
                LinkDown,
                true,
                Ok(LocalPathLost),
            ),
            (
                "link down, never answered",
                Some(sent(0)),
                LinkDown,
                false,
                Err(PathNeverSeen),
            ),
            (
                "link counted as down, but answers come",
                Some(sent(4)),
                LinkDown,
                false,
                Ok(Answered),
            ),
            (
                "no route, answered before",
                None,
                NoRoute,
                true,
                Ok(LocalPathLost),
            ),
            (
                "no route, never answered",
                None,
                NoRoute,
                false,
                Err(PathNeverSeen),
            ),
            (
                "no address, answered before",
                None,
                NoAddress,
                true,
                Ok(LocalPathLost),
            ),
            (
                "no address, never answered",
                None,
                NoAddress,
                false,
                Err(PathNeverSeen),
            ),
            (
                "no interface, answered before",
                None,
                NoInterface,
                true,
                Ok(LocalPathLost),
            ),
            (
                "route leads elsewhere, answered before",
                None,
                Elsewhere,
                true,
                Ok(LocalPathLost),
            ),
            (
                "path lost between look and send",
                unsent,
                Usable,
                true,
                Ok(LocalPathLost),
            ),
            (
                "the same, never answered",
                unsent,
                Usable,
                false,
                Err(PathNeverSeen),
            ),
            (
                "our own firewall",
                fault(OutputBlocked),
                Usable,
                true,
                Err(OutputBlocked),
            ),
            ("no buffers", fault(NoBuffers), Usable, true, Err(NoBuffers)),
            (
                "fewer sent than asked",
                Some(Tally {
                    sent: 3,
                    ..Tally::default()
                }),
                Usable,
                true,
                Err(ProbesNotSent),
            ),
        ] {
            assert_eq!(seen(tally, path, before), expected, "{what}");
        }
    }

    fn up() -> Result<GatewayReading, FailReason> {
        Ok(GatewayReading {
            status: Answered,
            loss_ratio: 0.0,
            rtt: None,
        })
    }

    fn down() -> Result<GatewayReading, FailReason> {
        Ok(GatewayReading {
            status: Silent,
            loss_ratio: 1.0,
            rtt: None,
        })
    }

    #[test]
    fn quorum_has_three_values() {
        let none = Err(NoPermission);
        for (gateways, quorum, expected) in [
            (vec![up(), down()], Quorum::Any, Some(true)),
            (vec![down(), down()], Quorum::Any, Some(false)),
            (vec![down(), none], Quorum::Any, None),
            (vec![up(), none], Quorum::Any, Some(true)),
            (vec![up(), none], Quorum::All, None),
            (vec![down(), none], Quorum::All, Some(false)),
            (vec![up(), up()], Quorum::All, Some(true)),
            (vec![up(), up(), down()], Quorum::Majority, Some(true)),
            (vec![up(), down(), down()], Quorum::Majority, Some(false)),
            (vec![up(), down(), none], Quorum::Majority, None),
            (vec![up(), down()], Quorum::Majority, Some(false)),
            (
                vec![up(), up(), down(), down()],
                Quorum::AtLeast(2),
                Some(true),
            ),
            (
                vec![up(), down(), down(), down()],
                Quorum::AtLeast(2),
                Some(false),
            ),
            (vec![up(), none, down(), down()], Quorum::AtLeast(2), None),
        ] {
            assert_eq!(
                storage(&gateways, quorum),
                expected,
                "{quorum:?} of {gateways:?}"
            );
        }
    }

    #[test]
    fn the_reason_for_no_verdict_is_the_common_one() {
        assert_eq!(
            why_no_verdict(&[Err(NoPermission), Err(NoPermission)]),
            NoPermission
        );
        assert_eq!(why_no_verdict(&[Err(NoPermission), down()]), NoQuorum);
        assert_eq!(
            why_no_verdict(&[Err(NoPermission), Err(NoBuffers)]),
            NoQuorum
        );
    }

    fn any_outcome() -> impl Strategy<Value = Result<GatewayReading, FailReason>> {
        prop_oneof![Just(up()), Just(down()), Just(Err(NoBuffers))]
    }

    proptest! {
        /// Learning what was unknown never turns a verdict round.
        #[test]
        fn a_verdict_survives_what_is_learnt_later(
            gateways in proptest::collection::vec(any_outcome(), 1..12),
            learnt in proptest::collection::vec(any::<bool>(), 12),
            needed in 1usize..12,
        ) {
            let quorum = Quorum::AtLeast(needed.min(gateways.len()));
            let before = storage(&gateways, quorum);
            let full: Vec<_> = gateways.iter().zip(learnt)
                .map(|(gateway, is_up)| gateway.or(if is_up { up() } else { down() }))
                .collect();
            let after = storage(&full, quorum);
            prop_assert!(after.is_some(), "with every reading there is a verdict");
            prop_assert!(before.is_none() || before == after);
        }
    }
}
