//! Questions about stored readings. Every answer equals that of a full scan of the raw rows, and memory does not grow
//! with the number of readings. No CQL here (see [`crate::store`]) and no printing (see [`crate::output`]).
//!
//! - [`groups`]: the groups a question is about, and the error if none matches. [`metric_names`]: the other metrics they
//!   have.
//! - [`mod@column`]: the columns of a reading by name. [`filter`]: conditions over them.
//! - [`tags`]: sensors by their tags. [`units`]: the unit of a metric.
//! - [`sources`]: which part of a range comes from rollups and which from raw rows.
//! - [`mod@slice`]: how a range of time is cut so that each piece fits in memory. [`scan`]: readings in order of time.
//! - [`series`]: the points of a metric, as detectors take them. [`history`]: means on a regular grid, from rollups where
//!   possible.
//! - [`stats`]: statistics by sensor, group or time; [`presence`]: lines without a value. [`extremes`]: the highest and lowest
//!   value of each sensor. [`table`]: the lines of such statistics, ready to print. [`count`]: the number of rows. [`silence`]: sensors
//!   that have stopped sending.

pub mod column;
pub mod count;
pub mod extremes;
pub mod filter;
pub mod groups;
pub mod history;
pub mod metric_names;
pub mod presence;
pub mod scan;
pub mod series;
pub mod silence;
pub mod slice;
pub mod sources;
pub mod stats;
pub mod table;
pub mod tags;
pub mod units;

pub use column::Column;
pub use filter::Filter;
pub use scan::{Order, Scan};
