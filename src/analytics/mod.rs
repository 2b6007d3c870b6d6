//! Questions over stored readings. Every answer equals that of a full scan of the raw rows; memory does not grow with
//! the number of readings. No CQL here (see [`crate::cassandra`]) and no printing (see [`crate::output`]).
//!
//! - [`time_range`]: moments and ranges as people write them.
//! - [`groups`]: which groups a question is about; what to say when there is no such group.
//! - [`column`]: the columns of a reading by name; [`filter`]: conditions over them.
//! - [`stretch`]: how a range of time is cut so that each piece fits in memory; [`scan`]: readings in order of time.
//! - [`series`]: a metric over time, on a regular grid, as detectors take it; [`history`]: means on such a grid, from
//!   rollups where they do.
//! - [`extremes`]: each sensor's highest and lowest value; [`count`]: how many rows there are;
//!   [`stats`]: statistics by sensor, group or time; [`silence`]: sensors that have stopped sending.

pub mod column;
pub mod count;
pub mod extremes;
pub mod filter;
pub mod groups;
pub mod history;
pub mod scan;
pub mod series;
pub mod silence;
pub mod slice;
pub mod sources;
pub mod stats;

pub use column::Column;
pub use filter::Filter;
pub use scan::{Order, Scan};
