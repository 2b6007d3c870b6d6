//! Does the promise hold? Three sides are compared, reading by reading: what the producer's ledger says was
//! acknowledged, what the topic holds, and what the table and the dead-letter topic hold.
//!
//! [`collect`] turns each side into [`record`]s, [`sort`] brings them in order of sensor and time on disk,
//! [`compare`] passes a verdict over each reading, [`findings`] keeps what does not add up. Memory does not grow
//! with the number of readings: one sorted run, and a bit a message ([`crate::kafka::positions`]).

pub mod collect;
pub mod compare;
pub mod findings;
pub mod ledger;
pub mod record;
pub mod report;
pub mod sort;

pub use collect::{Options, Phase, Progress, audit};
pub use report::Report;
