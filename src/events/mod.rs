//! What the daemons tell the outside: one method for each observable event writes the log line and
//! bumps the counter, so that neither is forgotten.
//!
//! Metric names start with `ceilometer_ha_`, units are base units, counters end in `_total`, and
//! every label's values come from a closed list or from the configuration.

#[cfg(feature = "agent")]
mod agent;
mod changes;
#[cfg(feature = "collector")]
mod collector;
mod limit;

use prometheus::core::Collector;
use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

#[cfg(feature = "agent")]
pub use agent::AgentEvents;
pub use changes::Changes;
#[cfg(feature = "collector")]
pub use collector::CollectorEvents;
pub use limit::RateLimit;

/// The metrics of one daemon.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// All of them in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        // Writing to memory fails only for a metric without a name, which registering refuses.
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "encoding metrics failed");
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        self.register(IntCounterVec::new(Opts::new(full(name), help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.register(IntGauge::new(full(name), help)?)
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> prometheus::Result<HistogramVec> {
        let options = HistogramOpts::new(full(name), help).buckets(buckets.to_vec());
        self.register(HistogramVec::new(options, labels)?)
    }

    fn register<M: Collector + Clone + 'static>(&self, metric: M) -> prometheus::Result<M> {
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
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

fn full(name: &str) -> String {
    format!("ceilometer_ha_{name}")
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
