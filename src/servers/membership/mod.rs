//! The Cassandra cluster as a whole: who is in it, and nodes in and out of it.
//!
//! [`view`] is what every node says of every node; [`checks`] refuses what would lose data or leave a mess;
//! [`add`] and [`decommission`] do the work, [`streaming`] shows it, [`sample`] verifies it, and [`journal`] remembers
//! each step, so that a run that was killed is taken up again. Processes and files are the [`runtime`]'s.

pub mod add;
pub mod checks;
pub mod cleanup;
pub mod decommission;
pub mod journal;
pub mod operator;
pub mod runtime;
pub mod sample;
pub mod streaming;
pub mod view;

pub use operator::Operator;
pub use runtime::{Node, Runtime};
pub use view::View;
