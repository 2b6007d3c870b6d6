//! The Cassandra cluster as a whole: who is in it, and nodes in and out of it.
//!
//! [`view`] is what every node reports about every node; [`checks`] refuses what would lose data or could not be
//! finished; [`add`] and [`decommission`] do the work, [`streaming`] shows it, [`sample`] verifies it, and [`journal`]
//! records each step, so that a run that was killed is resumed. Processes and files are the [`runtime`]'s;
//! [`nodetool`] reads the errors of Cassandra's own tool.

pub mod add;
pub mod checks;
pub mod cleanup;
pub mod decommission;
pub mod journal;
pub mod nodetool;
pub mod operator;
pub mod runtime;
pub mod sample;
pub mod streaming;
pub mod view;

pub use operator::Operator;
pub use runtime::{Node, Runtime};
pub use view::View;
