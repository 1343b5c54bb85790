//! What Prometheus scrapes of a scaler, in the dispatcher's process or in its own.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Kind;

/// A scaler's metrics.
#[derive(Clone, Debug, Default)]
pub struct ScalerMetrics {
    /// Workers, starting and ready.
    pub size: Gauge,
    /// Workers that there are to be.
    pub desired: Gauge,
    /// Decisions by what took them: agent, formula, guard, gap.
    pub decisions: Family<Kind, Counter>,
    /// Resizes that failed.
    pub resize_failures: Counter,
    /// Edits of the tuning that have been applied.
    pub generation: Gauge,
    /// Edits of the tuning that have been refused.
    pub refused: Counter,
    /// 1 while the newest edit is not in force.
    pub edit_refused: Gauge,
    /// Rows that the database could not take in time.
    pub dropped_rows: Gauge,
    /// 1 while this process is the active one.
    pub active: Gauge,
}

impl ScalerMetrics {
    /// Adds them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let gauges: [(&str, &str, &Gauge); 6] = [
            ("scaler_size", "Workers, starting and ready", &self.size),
            (
                "scaler_desired_size",
                "Workers that there are to be",
                &self.desired,
            ),
            (
                "scaler_tuning_generation",
                "Edits of the tuning that have been applied",
                &self.generation,
            ),
            (
                "scaler_tuning_edit_refused",
                "1 while the newest edit of the tuning is not in force",
                &self.edit_refused,
            ),
            (
                "scaler_dropped_rows",
                "Rows that the database could not take in time",
                &self.dropped_rows,
            ),
            (
                "scaler_active",
                "1 while this process is the active one",
                &self.active,
            ),
        ];
        for (name, help, gauge) in gauges {
            registry.register(name, help, gauge.clone());
        }
        registry.register(
            "scaler_decisions",
            "Decisions, by what took them",
            self.decisions.clone(),
        );
        registry.register(
            "scaler_resize_failures",
            "Resizes of the pool that failed",
            self.resize_failures.clone(),
        );
        registry.register(
            "scaler_tuning_refused",
            "Edits of the tuning that have been refused",
            self.refused.clone(),
        );
    }

    /// The exposition of a process that has no other metrics.
    pub fn text(&self) -> String {
        let mut registry = Registry::with_prefix("windlass");
        self.register(&mut registry);
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &registry);
        text
    }
}
