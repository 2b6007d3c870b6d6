//! The periods that an answer is divided into.

use super::calendar::HOUR;
use super::range::TimeRange;
use super::span::Span;
use super::zone::Zone;

/// Hours, days or other lengths of a zone, or all of time as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Periods {
    All,
    Hours(Zone),
    Days(Zone),
    Every(Span, Zone),
    /// The same, with days and months counted from a day (days since 1970-01-01) and its month.
    Since(i64, Span, Zone),
    /// Of one length in milliseconds, counted from a moment: no clock and no calendar.
    Bins {
        origin: i64,
        length: i64,
    },
}

impl Periods {
    /// The period that contains a moment, in milliseconds since the epoch.
    pub fn of(self, at: i64) -> TimeRange {
        match self {
            Self::All => TimeRange::ALL,
            Self::Hours(zone) => zone.hour(at),
            Self::Days(zone) => zone.day(at),
            Self::Every(span, zone) => zone.period(span, at),
            Self::Since(first, span, zone) => zone.period_since(first, span, at),
            Self::Bins { origin, length } => {
                let from = at.saturating_sub((at.saturating_sub(origin)).rem_euclid(length));
                TimeRange { from, to: from.saturating_add(length) }
            }
        }
    }

    /// Periods of this length: hours and days are those of [`Self::Hours`] and [`Self::Days`].
    pub fn every(span: Span, zone: Zone) -> Self {
        match span {
            Span::Clock(HOUR) => Self::Hours(zone),
            Span::Days(1) => Self::Days(zone),
            _ => Self::Every(span, zone),
        }
    }

    pub fn cursor(self) -> PeriodCursor {
        PeriodCursor { periods: self, last: TimeRange { from: 0, to: 0 } }
    }
}

/// [`Periods`] for moments that follow each other: the last period is kept.
#[derive(Debug)]
pub struct PeriodCursor {
    periods: Periods,
    last: TimeRange,
}

impl PeriodCursor {
    /// The period that contains a moment.
    pub fn of(&mut self, at: i64) -> TimeRange {
        if !self.last.contains(at) {
            self.last = self.periods.of(at);
        }
        self.last
    }

    /// Whether one period contains all moments from `from` up to `to`.
    pub fn holds(&mut self, from: i64, to: i64) -> bool {
        self.of(from).to >= to
    }
}
