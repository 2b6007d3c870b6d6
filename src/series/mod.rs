//! Values over time, in memory: pure computation, without a server.
//!
//! - [`regular`]: points, and means on a regular grid; [`downsample`]: a long series made short enough
//!   to draw.
//! - [`summary`]: what rollups keep of values, and how it merges. [`sketch`]: its percentiles. [`exact`]: percentiles of
//!   all values in memory.
//! - [`mean`]: means that stay within their values. [`robust`]: median and median absolute deviation, which a few outliers do not move.
//! - [`rolling`]: the last values, by age and by size. [`recorded`]: those of a CSV file.

pub mod downsample;
pub mod exact;
pub mod mean;
pub mod recorded;
pub mod regular;
pub mod robust;
pub mod rolling;
pub mod sketch;
pub mod summary;

pub use downsample::Downsampler;
pub use mean::Mean;
#[cfg(test)]
pub(crate) use regular::tests;
pub use regular::{Point, Regular, Step, TooManySteps, round_step, usual_step};
pub use rolling::Rolling;
pub use summary::Summary;
