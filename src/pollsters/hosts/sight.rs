//! Pure. Since when each network has been seen clearly. A loss counts only after [`SETTLE`] of that.
//!
//! The end of an outage of our own isn't the same for every host: while the kernel waits for an
//! answer to the ARP or neighbour request that the outage swallowed, that host's probes wait too,
//! and those whose request was luckier answer everything and would witness against it. The same
//! holds for a start, which may follow an outage.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::judge::{Missing, Outcome, missing};
use crate::model::FailReason;

/// How long Linux asks for a neighbour before it gives up: three requests, a second apart.
pub const SETTLE: Duration = Duration::from_secs(3);

/// What an observer knows of its own sight.
#[derive(Debug, Clone, Default)]
pub struct Sight {
    clear_since: BTreeMap<String, Instant>,
}

impl Sight {
    /// Takes in one network's outcomes of the round that was due `now`, and gives them back without
    /// the losses that come too soon.
    pub fn settled(&mut self, network: &str, outcomes: Vec<Outcome>, now: Instant) -> Vec<Outcome> {
        let is_whole = |missing: &Missing| matches!(missing, Missing::Network(_));
        if missing(&outcomes).iter().any(is_whole) {
            self.clear_since.remove(network);
            return outcomes;
        }
        let since = *self.clear_since.entry(network.to_owned()).or_insert(now);
        if now.saturating_duration_since(since) >= SETTLE {
            return outcomes;
        }
        let without_losses = outcomes.into_iter().map(|outcome| match outcome {
            Ok(reading) if !reading.is_up() => Err(FailReason::NoWitness),
            other => other,
        });
        without_losses.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::ping::weigh::Reading;
    use super::*;
    use crate::clock;
    use crate::model::GatewayStatus;

    #[test]
    fn a_loss_counts_once_the_network_has_been_seen_clearly_for_a_while() {
        let of = |status| {
            Ok(Reading {
                status,
                loss_ratio: 0.0,
                rtt: None,
            })
        };
        let (up, lost) = (of(GatewayStatus::Answered), of(GatewayStatus::Silent));
        let blind = Err(FailReason::NoWitness);
        let start = clock::now();
        let mut sight = Sight::default();
        let mut see = |second, outcomes: &[Outcome]| {
            let now = start + Duration::from_secs(second);
            sight.settled("m", outcomes.to_vec(), now)
        };
        for second in 0..3 {
            assert_eq!(see(second, &[up, lost]), [up, blind], "a start, {second} s");
        }
        assert_eq!(see(3, &[up, lost]), [up, lost]);
        assert_eq!(see(4, &[up, lost]), [up, lost]);
        assert_eq!(see(5, &[blind, blind]), [blind, blind]);
        for second in 6..9 {
            assert_eq!(see(second, &[up, lost]), [up, blind], "{second} s");
        }
        assert_eq!(see(9, &[up, lost]), [up, lost]);
        let ours = Err(FailReason::NoBuffers);
        assert_eq!(see(10, &[up, ours]), [up, ours], "of one host alone");
        assert_eq!(see(11, &[up, lost]), [up, lost]);
        assert_eq!(see(12, &[ours, ours]), [ours, ours]);
        assert_eq!(see(13, &[up, lost]), [up, blind]);
    }
}
