//! SQL over the tables, for `iotctl sql` and `iotctl serve`: Apache DataFusion plans and runs the statements, and this room
//! gives it the tables. Nothing here writes. Only in builds with the feature `sql`. No CQL (see [`crate::store`]) and no
//! printing.
//!
//! - [`context`]: a session of DataFusion with our tables, functions and limits.
//! - `tables`: the tables and their columns; `selection`: which conditions go down to partitions and slices; `scan`: the
//!   operator that reads; `rows`, `summaries`, `messages`: what it reads.
//! - `rollups`: aggregates over `readings` that are answered from rollups.
//! - `gapfill`: aggregates with a line for each bucket of time.
//! - [`access`]: the locations that a session may see, held by the tables.
//! - `bounds`: time and rows of a statement are limited, and whatever computes can be stopped.
//! - `depth`: what is refused before it is planned; `growth`: expressions that would grow without end.
//! - `early_stop`: the newest or oldest periods of an aggregate are read alone.
//! - `like`: `LIKE` with any escape character.
//! - `minutes`: times without seconds.
//! - `operators`: what our operators have in common.
//! - `whole`: casts to whole numbers.
//! - `functions`: `time_bucket`, `first`, `last`, `delta`, `increase`, `rate` and others.
//! - [`server`]: PostgreSQL's protocol.

pub mod access;
mod bounds;
pub mod context;
mod depth;
mod early_stop;
mod functions;
mod gapfill;
mod growth;
mod like;
mod messages;
mod minutes;
mod operators;
mod rollups;
mod rows;
mod scan;
mod selection;
pub mod server;
mod summaries;
mod tables;
mod whole;

pub use access::Access;
pub use bounds::Bounds;
pub use context::{Engine, Limits};
