//! The Prometheus endpoint: [`server`] answers /metrics, /healthz and /readyz; [`health`] is what the last two report.
//! Metric names follow Prometheus' advice (base units, `_total` for counters). [`describe`] lists them for the reference.

pub mod describe;
pub mod health;
pub mod server;

pub use health::Health;
