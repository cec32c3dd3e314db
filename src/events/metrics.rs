//! The metrics of one daemon, and how they are made.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::{
    Counter, Encoder, Gauge, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use super::full;

/// Removes one series of a metric, named by its labels.
type Forget = Box<dyn Fn(&HashMap<&str, &str>) + Send>;

/// The metrics of one daemon.
#[derive(Clone, Default)]
pub struct Metrics {
    registry: Registry,
    labelled: Arc<Mutex<Vec<(String, Forget)>>>,
}

impl Metrics {
    /// With those of the log, which is the whole process's.
    pub(super) fn with_log() -> Self {
        let metrics = Metrics::default();
        if let Some(lines_lost) = super::log::lines_lost() {
            // It fails only for a second one of the same name.
            let _ = metrics.registry.register(Box::new(lines_lost));
        }
        metrics
    }

    /// All of them in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        // Writing to memory fails only for a metric without a name, which registering refuses.
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "encoding metrics failed");
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Removes every series that has all of these labels: what they name is gone, and names that a
    /// configuration once had must not pile up.
    #[cfg(feature = "agent")]
    pub(super) fn forget(&self, labels: &[(&str, &str)]) {
        let gathered = self.registry.gather();
        let labelled = self.labelled();
        for (name, forget) in labelled.iter() {
            let families = gathered.iter().filter(|family| family.name() == name);
            for metric in families.flat_map(|family| family.get_metric()) {
                let series: HashMap<&str, &str> = metric
                    .get_label()
                    .iter()
                    .map(|label| (label.name(), label.value()))
                    .collect();
                let has = |(name, value): &(&str, &str)| series.get(name) == Some(value);
                if labels.iter().all(has) {
                    forget(&series);
                }
            }
        }
    }

    pub(super) fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        let counters = IntCounterVec::new(Opts::new(full(name), help), labels)?;
        self.register_labelled(name, counters)
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
        self.register_labelled(name, IntGaugeVec::new(Opts::new(full(name), help), labels)?)
    }

    /// Gauges of seconds, ratios and the like.
    #[cfg(any(feature = "agent", feature = "collector"))]
    pub(super) fn real_gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<prometheus::GaugeVec> {
        let gauges = prometheus::GaugeVec::new(Opts::new(full(name), help), labels)?;
        self.register_labelled(name, gauges)
    }

    /// The same for one without labels, which is always shown.
    #[cfg(feature = "collector")]
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
        self.register_labelled(name, prometheus::HistogramVec::new(options, labels)?)
    }

    fn register_labelled<B: MetricVecBuilder + 'static>(
        &self,
        name: &str,
        metric: MetricVec<B>,
    ) -> prometheus::Result<MetricVec<B>> {
        let series = self.register(metric)?;
        let removable = series.clone();
        let forget = move |labels: &HashMap<&str, &str>| {
            // Somebody else may have removed it already.
            let _ = removable.remove(labels);
        };
        self.labelled().push((full(name), Box::new(forget)));
        Ok(series)
    }

    fn labelled(&self) -> MutexGuard<'_, Vec<(String, Forget)>> {
        self.labelled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register<M: Collector + Clone + 'static>(&self, metric: M) -> prometheus::Result<M> {
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.registry.fmt(f)
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
