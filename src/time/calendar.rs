//! Hours and days of UTC, the units that rollups are kept in.

/// Milliseconds in an hour and a day of UTC.
pub const HOUR: i64 = 3_600_000;
pub const DAY: i64 = 24 * HOUR;

/// The start of the hour that contains a moment.
pub fn hour_of(at: i64) -> i64 {
    at.div_euclid(HOUR) * HOUR
}

/// The start of the day that contains a moment.
pub fn day_of(at: i64) -> i64 {
    at.div_euclid(DAY) * DAY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_before_the_epoch_belong_to_the_hour_and_day_that_they_are_in() {
        assert_eq!(hour_of(1_700_000_123_456) % HOUR, 0);
        assert_eq!((hour_of(-1), day_of(-1)), (-HOUR, -DAY));
    }
}
