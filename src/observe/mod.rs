//! Looking on: what is known about all servers at once, without changing anything.
//!
//! - [`exporter`]: Kafka and Cassandra as seen from outside, for Prometheus.
//! - [`status`]: one screen of the present state; [`doctor`]: checks with a verdict and a remedy; [`top`]: the live view.

pub mod doctor;
pub mod exporter;
pub mod status;
pub mod top;
