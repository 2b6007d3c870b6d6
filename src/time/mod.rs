//! Moments, ranges, hours and days. All moments are milliseconds since the Unix epoch.
//!
//! - [`mod@moment`]: moments as people and programs write them, and as results print them.
//! - [`range`]: `--from`, `--to` and `--last`; [`calendar`]: hours and days of UTC.
//! - [`zone`]: time zones, with their hours and days; [`periods`]: what an answer is divided into, [`span`]: by its length.

use std::time::{SystemTime, UNIX_EPOCH};

pub mod calendar;
pub mod moment;
pub mod periods;
pub mod range;
pub mod span;
pub mod zone;

pub use calendar::{DAY, HOUR, day_of, hour_of};
pub use moment::{TimeError, display, last_moment, length, moment, recorded, rfc3339, spelled_date};
pub use periods::Periods;
pub use range::TimeRange;
pub use span::Span;
pub use zone::Zone;

/// The present, in milliseconds since the epoch.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
