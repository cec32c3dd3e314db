//! The metrics of one daemon, and how they are made.

use prometheus::core::Collector;
use prometheus::{
    Counter, Encoder, Gauge, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

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

    pub(super) fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        self.register(IntCounterVec::new(Opts::new(full(name), help), labels)?)
    }

    #[cfg(feature = "collector")]
    pub(super) fn counter(
        &self,
        name: &str,
        help: &str,
    ) -> prometheus::Result<prometheus::IntCounter> {
        self.register(prometheus::IntCounter::new(full(name), help)?)
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.register(IntGauge::new(full(name), help)?)
    }

    /// Gauges of whole numbers. One without labels can be shown and not shown.
    pub(super) fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntGaugeVec> {
        self.register(IntGaugeVec::new(Opts::new(full(name), help), labels)?)
    }

    #[cfg(feature = "agent")]
    /// Gauges of seconds, ratios and the like.
    pub(super) fn real_gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<prometheus::GaugeVec> {
        self.register(prometheus::GaugeVec::new(
            Opts::new(full(name), help),
            labels,
        )?)
    }

    #[cfg(feature = "collector")]
    /// The same for one without labels, which is always shown.
    pub(super) fn real_gauge(&self, name: &str, help: &str) -> prometheus::Result<Gauge> {
        self.register(Gauge::new(full(name), help)?)
    }

    #[cfg(feature = "collector")]
    pub(super) fn histogram(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
    ) -> prometheus::Result<prometheus::Histogram> {
        let options = HistogramOpts::new(full(name), help).buckets(buckets.to_vec());
        self.register(prometheus::Histogram::with_opts(options)?)
    }

    /// A gauge by a name that every process of every project uses.
    pub(super) fn process_gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGaugeVec> {
        self.register(IntGaugeVec::new(Opts::new(name, help), &[])?)
    }

    /// The same for a time.
    pub(super) fn process_time(&self, name: &str, help: &str) -> prometheus::Result<Gauge> {
        self.register(Gauge::new(name, help)?)
    }

    /// The same for a counter.
    pub(super) fn process_counter(&self, name: &str, help: &str) -> prometheus::Result<Counter> {
        self.register(Counter::new(name, help)?)
    }

    #[cfg(feature = "agent")]
    pub(super) fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> prometheus::Result<prometheus::HistogramVec> {
        let options = HistogramOpts::new(full(name), help).buckets(buckets.to_vec());
        self.register(prometheus::HistogramVec::new(options, labels)?)
    }

    fn register<M: Collector + Clone + 'static>(&self, metric: M) -> prometheus::Result<M> {
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

/// Shows a value, or that there is none: a series that is absent is unknown, and 0 would be a value.
pub(super) fn show<P: prometheus::core::Atomic + 'static>(
    gauges: &prometheus::core::GenericGaugeVec<P>,
    labels: &[&str],
    value: Option<P::T>,
) {
    match value {
        Some(value) => gauges.with_label_values(labels).set(value),
        // One that isn't there can't be removed, and needn't be.
        None => drop(gauges.remove_label_values(labels)),
    }
}

fn full(name: &str) -> String {
    format!("ceilometer_ha_{name}")
}
