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
    /// [`Self::Every`] of a clock that is this many milliseconds ahead of the one of the zone: earlier times, divided as the
    /// later ones are that they are compared with.
    Ahead(i64, Span, Zone),
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
            Self::Ahead(ahead, span, zone) => zone.period_ahead(span, ahead, at),
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

    /// The division of the moments that are `length` earlier on the clock: each of its periods has the [`Self::name`] of the
    /// one that it is compared with, which [`Self::named`] finds. All of time, and what has no clock, stays as it is.
    pub fn earlier(self, length: i64) -> Self {
        match self.on_the_clock() {
            Some((span, zone)) => Self::Ahead(length, span, zone),
            None => self,
        }
    }

    /// What stands for a period that [`Self::of`] gave: its first moment. Earlier periods have what the clock shows at the
    /// start of the later one, so that those that are compared with the same one have one name.
    pub fn name(self, period: TimeRange) -> i64 {
        match self {
            Self::Ahead(ahead, span, zone) => span.around(0, zone.wall(period.from).saturating_add(ahead)).0,
            _ => period.from,
        }
    }

    /// The periods that earlier ones of this name are compared with: two where an hour comes twice, none where it is skipped.
    pub fn named(self, name: i64) -> Vec<TimeRange> {
        match self.on_the_clock() {
            Some((span, zone)) => zone.periods_at(span, name),
            None => vec![self.of(name)],
        }
    }

    fn on_the_clock(self) -> Option<(Span, Zone)> {
        match self {
            Self::Hours(zone) => Some((Span::Clock(HOUR), zone)),
            Self::Days(zone) => Some((Span::Days(1), zone)),
            Self::Every(span, zone) => Some((span, zone)),
            Self::All | Self::Since(..) | Self::Ahead(..) | Self::Bins { .. } => None,
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
