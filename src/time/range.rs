//! Ranges of time, from `--from`, `--to` and `--last`.

use super::moment::{TimeError, last_moment, length, moment};
use super::zone::Zone;

/// Moments in `[from, to)`, in milliseconds since the epoch; an open end is the end of `i64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeRange {
    pub from: i64,
    pub to: i64,
}

impl TimeRange {
    pub const ALL: Self = Self { from: i64::MIN, to: i64::MAX };

    /// From `--from`, `--to` and `--last` as they were given. `now` is in milliseconds since the epoch.
    ///
    /// `last` leaves the end open: a sensor's clock may be ahead of ours, and its newest reading belongs to the answer.
    pub fn parse(
        from: Option<&str>,
        to: Option<&str>,
        last: Option<&str>,
        zone: Zone,
        now: i64,
    ) -> Result<Self, TimeError> {
        let mut range = Self::ALL;
        if let Some(last) = last {
            range.from = now.saturating_sub(length(last)?);
        }
        if let Some(from) = from {
            range.from = moment(from, zone, now)?;
        }
        if let Some(to) = to {
            range.to = last_moment(to, zone, now)?;
        }
        if range.from >= range.to {
            return Err(TimeError::Inverted { from: zone.show(range.from), to: zone.show(range.to) });
        }
        Ok(range)
    }

    pub fn contains(&self, at: i64) -> bool {
        self.from <= at && at < self.to
    }

    pub fn is_everything(&self) -> bool {
        *self == Self::ALL
    }
}
