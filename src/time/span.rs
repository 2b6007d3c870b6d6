//! The length of the periods that an answer is divided into, as people write it: 15m, 1h, 1d, 1w, 3mo.

use chrono::{Datelike, NaiveDate, TimeDelta};

use super::calendar::{DAY, HOUR};

/// A length by the clock, or by the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Span {
    /// Milliseconds.
    Clock(i64),
    Days(i64),
    /// Of seven days from Monday to Sunday.
    Weeks(i64),
    Months(i64),
}

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
/// Long enough for any question, and far inside the range of the calendar.
const MOST_DAYS: i64 = 100 * 366;
/// 1970-01-01 is a Thursday.
const DAYS_SINCE_MONDAY: i64 = 3;

impl std::str::FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || {
            format!(
                "{text:?} is not a length of periods (write 30s, 15m, 1h, 1d, 1w, 1mo or 1y; a whole number and one unit)"
            )
        };
        let text = text.trim();
        let digits = text.len() - text.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let number: i64 = number.parse().map_err(|_| refuse())?;
        let (span, days) = match unit.trim() {
            "s" | "second" | "seconds" => (Self::Clock(number.saturating_mul(SECOND)), number / 86_400),
            "m" | "min" | "minute" | "minutes" => {
                (Self::Clock(number.saturating_mul(MINUTE)), number / 1_440)
            }
            "h" | "hour" | "hours" => (Self::Clock(number.saturating_mul(HOUR)), number / 24),
            "d" | "day" | "days" => (Self::Days(number), number),
            "w" | "week" | "weeks" => (Self::Weeks(number), number.saturating_mul(7)),
            "mo" | "month" | "months" => (Self::Months(number), number.saturating_mul(31)),
            "y" | "year" | "years" => (Self::Months(number.saturating_mul(12)), number.saturating_mul(366)),
            _ => return Err(refuse()),
        };
        match number >= 1 && days <= MOST_DAYS {
            true => Ok(span),
            false => Err(refuse()),
        }
    }
}

impl Span {
    /// The period that contains `wall`, a time of a clock in milliseconds since 1970-01-01 00:00 on that clock: its start and
    /// the start of the next one. Clock lengths count from midnight if they divide the day; days and months are counted from the
    /// day `first` (days since 1970-01-01) and from its month.
    pub(super) fn around(self, first: i64, wall: i64) -> (i64, i64) {
        let day = wall.div_euclid(DAY);
        match self {
            Self::Clock(length) => {
                let from = wall.div_euclid(length).saturating_mul(length);
                (from, from.saturating_add(length))
            }
            Self::Days(days) => {
                let from = (day - first).div_euclid(days) * days + first;
                (from.saturating_mul(DAY), (from + days).saturating_mul(DAY))
            }
            Self::Weeks(weeks) => {
                let days = 7 * weeks;
                let from = (day + DAYS_SINCE_MONDAY).div_euclid(days) * days - DAYS_SINCE_MONDAY;
                (from.saturating_mul(DAY), (from + days).saturating_mul(DAY))
            }
            Self::Months(months) => {
                let start = month_of(day).zip(month_of(first)).and_then(|(month, first)| {
                    let from = (month - first).div_euclid(months) * months + first;
                    Some((first_of(from)?, first_of(from + months)))
                });
                match start {
                    Some((from, to)) => (from * DAY, to.map_or(i64::MAX, |to| to * DAY)),
                    // Where the calendar ends.
                    None => (wall, wall.saturating_add(1)),
                }
            }
        }
    }
}

/// Months since January 1970.
fn month_of(day: i64) -> Option<i64> {
    let date = NaiveDate::default().checked_add_signed(TimeDelta::try_days(day)?)?;
    Some((i64::from(date.year()) - 1970) * 12 + i64::from(date.month0()))
}

/// The first day of a month, in days since 1970-01-01. `None` where the calendar ends.
fn first_of(month: i64) -> Option<i64> {
    let year = i32::try_from(1970 + month.div_euclid(12)).ok()?;
    let month = u32::try_from(month.rem_euclid(12) + 1).ok()?;
    Some((NaiveDate::from_ymd_opt(year, month, 1)? - NaiveDate::default()).num_days())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_as_people_write_them_and_nothing_is_guessed() {
        for (text, span) in [
            ("15m", Span::Clock(15 * MINUTE)),
            ("90s", Span::Clock(90 * SECOND)),
            ("6h", Span::Clock(6 * HOUR)),
            ("1 hour", Span::Clock(HOUR)),
            ("1d", Span::Days(1)),
            ("2 weeks", Span::Weeks(2)),
            ("1mo", Span::Months(1)),
            ("1y", Span::Months(12)),
        ] {
            assert_eq!(text.parse(), Ok(span), "{text}");
        }
        for text in ["", "h", "0m", "-1d", "1.5h", "1M", "15", "1h30m", "99999999999999999999d", "200y", "١h"]
        {
            assert!(text.parse::<Span>().unwrap_err().contains("write 30s, 15m"), "{text}");
        }
    }

    #[test]
    fn weeks_begin_on_monday_and_months_on_their_first_day() {
        let date = |text: &str| {
            (NaiveDate::parse_from_str(text, "%Y-%m-%d").unwrap() - NaiveDate::default()).num_days() * DAY
        };
        for (span, inside, from, to) in [
            ("1w", "2026-11-26", "2026-11-23", "2026-11-30"),
            ("1w", "1969-12-28", "1969-12-22", "1969-12-29"),
            ("1mo", "2024-02-29", "2024-02-01", "2024-03-01"),
            ("3mo", "2026-11-26", "2026-10-01", "2027-01-01"),
            ("1y", "1969-12-31", "1969-01-01", "1970-01-01"),
        ] {
            let span: Span = span.parse().unwrap();
            assert_eq!(span.around(0, date(inside) + DAY - 1), (date(from), date(to)), "{span:?} {inside}");
        }
        assert_eq!(Span::Months(1).around(0, i64::MAX).0, i64::MAX);
    }
}
