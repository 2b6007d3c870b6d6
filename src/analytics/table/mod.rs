//! A table of statistics, as `iotctl stats` prints it and `/api/stats` answers: [`by`] what each line is about, [`aggregate`] the
//! statistics of a line, [`rows`] the lines with those of an earlier range beside them and without gaps.

pub mod aggregate;
pub mod by;
pub mod rows;

pub use aggregate::Aggregate;
pub use by::ByArg;
pub use rows::{Fill, Row, Rows};
