//! What the daemons tell the outside: one method for each observable event writes the log line and
//! bumps the counter, so that neither is forgotten.
//!
//! Metric names start with `ceilometer_ha_`, units are base units, counters end in `_total`, and
//! every label's values come from a closed list or from the configuration.

#[cfg(feature = "agent")]
mod agent;
#[cfg(feature = "agent")]
mod agent_ready;
#[cfg(feature = "agent")]
mod brokers;
#[cfg(feature = "agent")]
mod changes;
#[cfg(feature = "collector")]
mod clocks;
#[cfg(feature = "collector")]
mod collector;
#[cfg(feature = "collector")]
mod collector_ready;
#[cfg(feature = "agent")]
pub mod commands;
#[cfg(any(feature = "agent", feature = "collector"))]
mod config;
#[cfg(feature = "collector")]
mod conflicts;
#[cfg(feature = "collector")]
mod consumer;
#[cfg(feature = "agent")]
mod counts;
#[cfg(feature = "publisher")]
mod delivery;
#[cfg(feature = "agent")]
mod hypervisor;
#[cfg(feature = "agent")]
mod kernel;
#[cfg(any(feature = "agent", feature = "collector"))]
mod limit;
#[cfg(any(feature = "agent", feature = "collector", feature = "decider"))]
mod log;
#[cfg(any(feature = "agent", feature = "collector"))]
mod metrics;
#[cfg(feature = "collector")]
mod observers;
#[cfg(feature = "decider")]
mod operator;
#[cfg(feature = "publisher")]
mod outcome;
#[cfg(any(feature = "agent", feature = "collector"))]
mod process;
#[cfg(feature = "agent")]
mod readings;
#[cfg(feature = "publisher")]
mod spool;
#[cfg(feature = "agent")]
mod spools;

#[cfg(feature = "agent")]
pub use agent::AgentEvents;
#[cfg(feature = "agent")]
pub use agent_ready::makes_unready;
#[cfg(feature = "collector")]
pub use collector::{CollectorEvents, Expired, Stored};
#[cfg(any(feature = "agent", feature = "collector"))]
pub use config::ConfigEvents;
#[cfg(feature = "collector")]
pub use consumer::ConsumerEvents;
#[cfg(feature = "agent")]
pub use counts::{Counts, LibvirtCounts, ProbeResult, Probes};
#[cfg(feature = "publisher")]
pub use delivery::{Delivery, Undeliverable};
#[cfg(feature = "agent")]
pub use hypervisor::{hypervisor_answers, hypervisor_failed, instance_unreadable};
#[cfg(feature = "agent")]
pub use kernel::system_error;
#[cfg(any(feature = "agent", feature = "collector", feature = "decider"))]
pub use log::log_lines_lost;
#[cfg(any(feature = "agent", feature = "collector"))]
pub use metrics::Metrics;
#[cfg(feature = "decider")]
pub use operator::{host_forgotten, identity_reset, keys_changed, quarantine_purged};
#[cfg(feature = "publisher")]
pub use outcome::Outcome;
#[cfg(any(feature = "agent", feature = "collector"))]
pub use process::Usage;
#[cfg(feature = "publisher")]
pub use spool::{SpoolLoss, SpoolView, Spooling};

/// What all our metrics begin with.
#[cfg(any(feature = "agent", feature = "collector", feature = "decider"))]
fn full(name: &str) -> String {
    format!("ceilometer_ha_{name}")
}

/// An error with its causes, in one line. Some libraries' errors end with the text of their cause
/// already; it is said once.
pub struct Chain<'a>(pub &'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut last = self.0.to_string();
        f.write_str(&last)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !last.ends_with(&text) {
                write!(f, ": {text}")?;
            }
            last = text;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    fn chain(texts: &[&'static str]) -> String {
        let layer = texts
            .iter()
            .rev()
            .fold(None, |source, text| Some(Box::new(Layer { text, source })));
        Chain(&*layer.unwrap()).to_string()
    }

    #[test]
    fn a_chain_says_every_cause_once() {
        assert_eq!(
            chain(&["opening x", "no such file"]),
            "opening x: no such file"
        );
        assert_eq!(
            chain(&["storing", "refused: locked", "locked", "code 5"]),
            "storing: refused: locked: code 5"
        );
    }
}
