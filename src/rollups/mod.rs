//! Rollups: what the readings of an hour or a day amount to, computed once, so that questions over long ranges need
//! not read every row. They only make answers faster: each answer stays that of a scan of the raw rows.
//!
//! # What holds
//! - An hour is rolled up when it has been over for [`GRACE`], a day when all its hours are.
//! - A row that is stored when its hour has been over for half of that, or longer, is preceded by a mark
//!   (`rollup_dirty`), which its writer renews every [`RENEW`] while it writes to that hour.
//! - Only marks that have rested for [`REST`] are acted upon: whoever made them has either finished or made newer ones.
//!   The hour is computed from the raw rows, then its day, then exactly those marks are deleted.
//! - A reader looks at the marks first, then takes rollups for hours and days that have them and no mark, and the raw
//!   rows for everything else.
//!
//! What the times leave room for is that clocks of two hosts differ and that requests take long: half of each.
//!
//! - [`due`]: which are to be computed; [`writer`]: computing them; [`background`]: doing so beside other work;
//!   [`verify`]: computing them again and comparing.

use std::time::Duration;

pub mod background;
pub mod due;
pub mod verify;
pub mod writer;

use crate::time::HOUR;

/// How long an hour must have been over before it is rolled up.
pub const GRACE: Duration = Duration::from_secs(600);
/// How old the youngest mark of an hour must be before it is acted upon.
pub const REST: Duration = Duration::from_secs(60);
/// How old a writer's mark may be while it goes on writing to that hour.
pub const RENEW: Duration = Duration::from_secs(20);

/// Whether a row of `hour` that is stored at `now` needs a mark before it.
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
