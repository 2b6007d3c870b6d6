//! The Prometheus endpoint: [`server`] answers /metrics, /healthz and /readyz; [`health`] is what the last two report.
//! Metric names follow Prometheus' advice (base units, `_total` for counters).

pub mod health;
pub mod server;

pub use health::Health;
