//! Moments, ranges, hours and days. All moments are milliseconds since the Unix epoch.
//!
//! - [`mod@moment`]: moments as people and programs write them, and as results print them.
//! - [`range`]: `--from`, `--to` and `--last`; [`calendar`]: hours and days of UTC.

use std::time::{SystemTime, UNIX_EPOCH};

pub mod calendar;
pub mod moment;
pub mod range;

pub use calendar::{DAY, HOUR, day_of, hour_of};
pub use moment::{TimeError, Zone, display, length, moment, recorded, rfc3339, spelled_date};
pub use range::TimeRange;

/// The present, in milliseconds since the epoch.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
