//! The Prometheus endpoint: [`server`] answers /metrics, /healthz and /readyz; [`health`] is what the last two report.
//! Metric names follow Prometheus' advice (base units, `_total` for counters). [`describe`] lists them for the reference.
//! [`renewal`] counts passwords and certificates that changed while the process runs. [`watchdog`] reports the same state to systemd.

pub mod describe;
pub mod health;
pub(crate) mod renewal;
pub mod server;
pub mod watchdog;

pub use health::Health;
