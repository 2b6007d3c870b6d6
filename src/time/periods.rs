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
}

impl Periods {
    /// The period that contains a moment, in milliseconds since the epoch.
    pub fn of(self, at: i64) -> TimeRange {
        match self {
            Self::All => TimeRange::ALL,
            Self::Hours(zone) => zone.hour(at),
            Self::Days(zone) => zone.day(at),
            Self::Every(span, zone) => zone.period(span, at),
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
