//! Rollups: summaries of the readings of an hour or a day, computed once, so that questions about long ranges need not
//! read every row. They only make answers faster: every answer equals that of a scan of the raw rows.
//!
//! - [`due`]: which hours and days have to be computed. [`writer`]: computing them. [`background`]: doing so beside other
//!   work. [`verify`]: computing them again and comparing.
//!
//! # Guarantees
//! - An hour is rolled up when it has been over for [`GRACE`], a day when all its hours are rolled up.
//! - Before a row is stored whose hour has been over for half of [`GRACE`] or longer, its writer stores a dirty marker
//!   (table `rollup_dirty`), and renews it every [`RENEW`] while it writes to that hour.
//! - A marker is acted upon when it has rested for [`REST`]: by then its writer has finished or made a newer one. The hour
//!   is computed from the raw rows, then its day, then exactly the markers that were read before are deleted.
//! - A query reads the markers first. It takes rollups for hours and days that have them and no marker, and raw rows for
//!   everything else.
//!
//! Half of each of these times is left for clocks that differ between hosts and for slow requests.

use std::time::Duration;

pub mod background;
pub mod due;
pub mod verify;
pub mod writer;

use crate::time::HOUR;

/// How long an hour must have been over before it is rolled up.
pub const GRACE: Duration = Duration::from_secs(600);
/// Minimum age of the newest dirty marker of an hour before the hour is computed again.
pub const REST: Duration = Duration::from_secs(60);
/// Maximum age of a writer's dirty marker while it writes to that hour.
pub const RENEW: Duration = Duration::from_secs(20);

/// Whether a row of `hour` that is stored at `now` needs a dirty marker first.
pub fn is_late(hour: i64, now: i64) -> bool {
    now >= hour + HOUR + GRACE.as_millis() as i64 / 2
}

/// Whether `hour` (or a day's last hour) may be rolled up at `now`.
pub fn is_closed(hour: i64, now: i64) -> bool {
    now >= hour + HOUR + GRACE.as_millis() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_late_well_before_its_hour_may_be_rolled_up() {
        let hour = crate::time::hour_of(1_700_000_123_456);
        let end = hour + HOUR;
        assert!(!is_late(hour, end + 299_999) && is_late(hour, end + 300_000));
        assert!(!is_closed(hour, end + 599_999) && is_closed(hour, end + 600_000));
    }
}
