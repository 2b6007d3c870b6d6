//! `time_bucket_gapfill`: an aggregate by time with a line for each bucket, also where there are no readings. `locf` and
//! `interpolate` fill their values.
//!
//! - [`functions`]: the names, which stand for something only in such a statement. [`rule`]: splits an aggregate in one by
//!   `time_bucket` and the [`provider`] above it, which adds the lines with [`exec`].

mod exec;
mod functions;
mod provider;
mod rule;

pub(super) use functions::register;
pub(super) use rule::Gaps;
