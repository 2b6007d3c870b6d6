//! Is the no-loss promise kept? An audit compares three sides, reading by reading: what the producer's ledger lists as
//! acknowledged, what the topic holds, and what the table and the dead-letter topic hold. Memory does not grow with the
//! number of readings: one sorted run, and one bit per message ([`crate::kafka::positions`]).
//!
//! - [`run`]: one audit from its beginning to its [`report`]. [`progress`]: how far it is.
//! - [`collect`]: each side as [`record`]s, from the table, the topics and the [`ledger`]. [`names`]: groups by number.
//! - [`sort`]: records in order of sensor and time, on disk.
//! - [`observed`]: what is known of one reading. [`compare`]: the verdict on each. [`findings`]: what is wrong, with
//!   examples.

pub mod collect;
pub mod compare;
pub mod findings;
pub mod ledger;
pub mod names;
mod observed;
pub mod progress;
pub mod record;
pub mod report;
pub mod run;
pub mod sort;
mod topics;

pub use collect::Options;
pub use progress::{Phase, Progress};
pub use report::Report;
pub use run::audit;
