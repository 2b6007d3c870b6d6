//! The only place that knows the CQL of our tables: what is written to them, and what is read from them page by page.
//! The driver is in [`crate::cassandra`]. Nothing here prints.
//!
//! - [`schema`]: schema.cql filled in, compared with what is there, and applied.
//! - [`writes`]: the statements that store readings.
//! - [`groups`]: which groups, sensors and partitions there are; [`readings`]: raw and newest readings, page by page;
//!   [`aggregates`]: what the server computes over a partition; [`rollups`]: what was computed before;
//!   [`forecasts`]: forecasts that are kept; [`purge`]: deleting whole partitions.

pub mod aggregates;
pub mod forecasts;
pub mod groups;
pub mod purge;
pub mod readings;
pub mod rollups;
pub mod schema;
pub mod writes;
