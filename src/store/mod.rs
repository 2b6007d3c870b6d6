//! Our tables: the only place with CQL over them. It turns readings into bound values and rows into readings, page by
//! page. What may not live here: connections and routing (those are [`crate::cassandra`]'s), what answers mean (the
//! rooms above), and anything that prints. `tests/layout.rs` keeps CQL out of every other room.
//!
//! - [`schema`]: schema.cql filled in, compared with what is there, and applied.
//! - [`writes`]: the statements that store readings, and how a reading is bound to them.
//! - [`readings`]: raw and newest readings, page by page; [`cells`]: which cells of them; [`aggregates`]: what the server computes over a partition.
//! - `shape`: tables of the first version beside those of today.
//! - [`groups`]: which groups, sensors and partitions there are; [`sensors`]: their names and tags; [`sample`]: some
//!   partitions of the table.
//! - [`rollups`]: summaries of hours and days, their coverage, dirty markers and leases; [`forecasts`]: stored forecasts.
//! - [`mappings`]: by which mapping a consumer group was last ingested.
//! - [`detector_states`]: what `ingest --detect` remembers of sensors.
//! - [`purge`]: deleting whole partitions.

pub mod aggregates;
pub mod cells;
pub mod detector_states;
pub mod forecasts;
pub mod groups;
pub mod mappings;
pub mod purge;
pub mod readings;
pub mod rollups;
pub mod sample;
pub mod schema;
pub mod sensors;
mod shape;
pub mod writes;
