//! The only place that knows CQL and cdrs-tokio. One pooled [`Session`] serves every command: it keeps its own view
//! of the nodes, routes each request to a replica, gives each a deadline, and tries another node where that helps.
//! Requests and results are written and read in wire format. Nothing here prints.
//!
//! - [`session`]: connect, prepare, execute, pages, batches, schema agreement.
//! - `discovery`, `topology`, `node`, `connection`, `frames`, `tls`: the cluster as the session sees it, from the ring down to a socket.
//! - [`statement`], [`values`], [`rows`]: requests, bound values and results in wire format.
//! - [`schema`]: schema.cql filled in, compared with what is there, and applied.
//! - [`writes`]: the statements that store readings.
//! - [`groups`]: which groups, sensors and partitions there are; [`readings`]: raw and newest readings, page by page;
//!   [`aggregates`]: what the server computes over a partition.
//! - [`error`]: failures, classified.

use cassandra_protocol::frame::Version;

pub mod aggregates;
mod connection;
mod discovery;
pub mod error;
mod frames;
pub mod groups;
mod node;
pub mod readings;
pub mod rows;
pub mod schema;
pub mod session;
pub mod statement;
mod tls;
pub mod topology;
pub mod values;
pub mod writes;

pub use error::Error;
pub use rows::{CellError, FromCell, Row, Rows};
pub use session::{NodeView, Pages, Session};
pub use statement::{Batch, SealedBatch, Statement};
pub use values::Values;

/// The native protocol's version; 4 is the first with "not set" values and is spoken by every Cassandra since 2.2.
const VERSION: Version = Version::V4;
