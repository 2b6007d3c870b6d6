//! The one parser of moments, and how a moment is printed.
//!
//! [`moment`] reads what people type: flags, filters and the dashboard's questions. [`recorded`] reads what programs
//! wrote: columns of files, labels. Both understand the same dates and times; people may also count back from now, and
//! programs may count from the epoch.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime};

use super::calendar::DAY;
use super::zone::{Fold, Zone};

/// Why a moment or a range cannot be used; the message holds the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    #[error(
        "{text:?} is not a time (write 2026-01-31, 2026-01-31 12:00, 2026-01-31T12:00:00Z, now, -2h or '2h ago')"
    )]
    NoMoment { text: String },
    #[error("{text:?} is not a duration (write 24h, 30m or 7d)")]
    NoLength { text: String },
    #[error(
        "{text:?} does not exist in {zone}, because clocks were set forward (write {instead}, or another time with its \
         offset)"
    )]
    Skipped { text: String, zone: &'static str, instead: String },
    #[error("{text:?} is not a time zone ({remedy})")]
    NoZone { text: String, remedy: String },
    #[error(
        "{place} is not a time zone (set TZ to a name such as Europe/Berlin, or give --time-zone NAME instead of --local)"
    )]
    NoMachineZone { place: String },
    #[error("the range ends at {to}, not after its start at {from} (swap --from and --to)")]
    Inverted { from: String, to: String },
}

/// A date or time as it is written.
enum Written {
    /// With an offset: milliseconds since the epoch.
    At(i64),
    /// Without one: the time that a clock on the wall shows.
    Wall(NaiveDateTime),
    /// A date alone: the start of the day.
    Date(NaiveDate),
}

/// A moment in milliseconds since the epoch: RFC 3339, a date with or without a time, `now`, `-2h`, `2h ago`.
///
/// Where the clock was set back, a time that came twice is the earlier one: a range that starts there misses nothing.
pub fn moment(text: &str, zone: Zone, now: i64) -> Result<i64, TimeError> {
    read(text, zone, now, Fold::Earlier)
}

/// Like [`moment()`], but of a time that came twice the later one: a range that ends there misses nothing.
pub fn last_moment(text: &str, zone: Zone, now: i64) -> Result<i64, TimeError> {
    read(text, zone, now, Fold::Later)
}

fn read(text: &str, zone: Zone, now: i64, fold: Fold) -> Result<i64, TimeError> {
    let trimmed = text.trim();
    if trimmed.eq_ignore_ascii_case("now") {
        return Ok(now);
    }
    let ago = trimmed.strip_suffix("ago").map(str::trim_end).or_else(|| trimmed.strip_prefix('-'));
    if let Some(ago) = ago {
        return Ok(now.saturating_sub(length(ago).map_err(|_| no_moment(text))?));
    }
    match written(trimmed).ok_or_else(|| no_moment(text))? {
        Written::At(at) => Ok(at),
        Written::Date(date) => {
            Ok(zone.start_of(date.and_time(NaiveTime::MIN).and_utc().timestamp_millis() / DAY))
        }
        Written::Wall(wall) => zone.moment_of(wall.and_utc().timestamp_millis(), fold).map_err(|instead| {
            TimeError::Skipped { text: text.to_owned(), zone: zone.name(), instead: zone.show(instead) }
        }),
    }
}

/// 0000-01-01 and the end of 9999-12-31: what RFC 3339 can express.
const YEARS: std::ops::Range<i64> = -62_167_219_200_000..253_402_300_800_000;

/// A moment that a program wrote, in milliseconds since the epoch: a date or time, in UTC if it has no offset; or a
/// number, which is seconds since the epoch below 100,000,000,000 and milliseconds from there (the year 1973) on.
/// Nothing before the year 0 or after 9999, and no date in digits ([`spelled_date`]): it is not a count.
pub fn recorded(text: &str) -> Option<i64> {
    let text = text.trim();
    let at = match written(text) {
        Some(Written::At(at)) => at,
        Some(Written::Wall(wall)) => wall.and_utc().timestamp_millis(),
        Some(Written::Date(date)) => date.and_time(NaiveTime::MIN).and_utc().timestamp_millis(),
        None if spelled_date(text).is_some() => return None,
        None => {
            let number: f64 = text.parse().ok().filter(|number: &f64| number.is_finite())?;
            let millis = if number.abs() < 1e11 { number * 1000.0 } else { number };
            // Values outside of the range of i64 saturate.
            millis.round() as i64
        }
    };
    YEARS.contains(&at).then_some(at)
}

/// A moment of RFC 3339 in milliseconds since the epoch.
pub fn rfc3339(text: &str) -> Option<i64> {
    DateTime::parse_from_rfc3339(text).ok().map(|moment| moment.timestamp_millis())
}

/// The date that digits spell: 20200101, 202001011530, 20200101153000 or 20200101153000250, from 1900 to 2099. As a count of
/// seconds or milliseconds such a number would be another time altogether.
pub fn spelled_date(digits: &str) -> Option<NaiveDateTime> {
    let (date, time) = digits.split_at_checked(8)?;
    let time = match time.len() {
        0 => "000000".to_owned(),
        4 => format!("{time}00"),
        6 => time.to_owned(),
        9 if time.is_ascii() => time[..6].to_owned(),
        _ => return None,
    };
    let date = NaiveDate::parse_from_str(date, "%Y%m%d").ok()?;
    let time = NaiveTime::parse_from_str(&time, "%H%M%S").ok()?;
    (1900..2100).contains(&date.year()).then(|| date.and_time(time))
}

fn written(text: &str) -> Option<Written> {
    const WALL: [&str; 4] =
        ["%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S%.f"];
    // PostgreSQL and pandas write a blank for the T, and hours alone as the offset; polars writes the offset as +0000.
    const WITH_OFFSET: [&str; 2] = ["%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f%#z"];
    if let Some(at) = rfc3339(text) {
        return Some(Written::At(at));
    }
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Some(Written::Date(date));
    }
    if let Some(wall) = WALL.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok()) {
        return Some(Written::Wall(wall));
    }
    let moment = WITH_OFFSET.iter().find_map(|format| DateTime::parse_from_str(text, format).ok())?;
    Some(Written::At(moment.timestamp_millis()))
}

/// A moment as results print it in UTC: RFC 3339 in milliseconds.
pub fn display(at: i64) -> String {
    Zone::Utc.show(at)
}

/// A duration in milliseconds: 24h, 30m, 7d.
pub fn length(text: &str) -> Result<i64, TimeError> {
    let no_length = || TimeError::NoLength { text: text.to_owned() };
    let length = humantime::parse_duration(text.trim()).map_err(|_| no_length())?;
    i64::try_from(length.as_millis()).map_err(|_| no_length())
}

fn no_moment(text: &str) -> TimeError {
    TimeError::NoMoment { text: text.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::TimeRange;

    const NOW: i64 = 1_769_860_800_000; // 2026-01-31T12:00:00Z

    fn at(text: &str) -> i64 {
        moment(text, Zone::Utc, NOW).unwrap()
    }

    #[test]
    fn moments_are_read_as_people_write_them() {
        assert_eq!(at("2026-01-31T12:00:00Z"), NOW);
        assert_eq!(at("2026-01-31T13:00:00+01:00"), NOW);
        assert_eq!(at("2026-01-31 12:00"), NOW);
        assert_eq!(at("2026-01-31 12:00:00.250"), NOW + 250);
        assert_eq!(at("2026-01-31"), NOW - 12 * 3_600_000);
        assert_eq!(at(" now "), NOW);
        assert_eq!(at("-2h"), NOW - 7_200_000);
        assert_eq!(at("2h ago"), NOW - 7_200_000);
        assert_eq!(at("1h 30m ago"), NOW - 5_400_000);
    }

    #[test]
    fn the_error_about_a_text_that_is_not_a_time_shows_how_to_write_one() {
        for text in ["", "yesterday", "2026-13-01", "-", "ago", "-2 parsecs", "12"] {
            let error = moment(text, Zone::Utc, NOW).unwrap_err();
            assert!(error.to_string().contains("write 2026-01-31"), "{text}: {error}");
        }
    }

    #[test]
    fn an_inverted_or_empty_range_names_its_remedy() {
        let range = |from, to| TimeRange::parse(Some(from), Some(to), None, Zone::Utc, NOW);
        assert!(range("-2h", "-1h").is_ok());
        for error in [range("-1h", "-2h").unwrap_err(), range("now", "now").unwrap_err()] {
            assert!(error.to_string().contains("swap --from and --to"), "{error}");
        }
    }

    #[test]
    fn a_range_over_an_hour_that_came_twice_covers_both() {
        let berlin = Zone::named("Europe/Berlin").unwrap();
        let range = |from, to| TimeRange::parse(Some(from), Some(to), None, berlin, NOW).unwrap();
        let hours = |range: TimeRange| (range.to - range.from) as f64 / 3_600_000.0;
        // 02:00 to 03:00 came twice.
        let both = range("2026-10-25 02:00", "2026-10-25 03:00");
        assert_eq!((display(both.from).as_str(), hours(both)), ("2026-10-25T00:00:00.000Z", 2.0));
        assert_eq!(hours(range("2026-10-25 02:30", "2026-10-25 02:30")), 1.0);
        assert_eq!(hours(range("2026-10-25", "2026-10-26")), 25.0);
        assert_eq!(hours(range("2026-03-29", "2026-03-30")), 23.0);
        assert_eq!(hours(range("2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00")), 1.0);
        let kathmandu = Zone::named("Asia/Kathmandu").unwrap();
        assert_eq!(moment("2026-07-01 05:45", kathmandu, NOW), Ok(at("2026-07-01")));
    }

    #[test]
    fn a_time_that_was_skipped_is_refused_with_the_one_to_write_and_a_date_never_is() {
        let berlin = Zone::named("Europe/Berlin").unwrap();
        for read in [moment, last_moment] {
            let error = read("2026-03-29 02:30", berlin, NOW).unwrap_err().to_string();
            assert!(error.contains("does not exist in Europe/Berlin"), "{error}");
            assert!(error.contains("write 2026-03-29T03:30:00.000+02:00"), "{error}");
            // Midnight was skipped there.
            let santiago = Zone::named("America/Santiago").unwrap();
            assert_eq!(read("2026-09-06", santiago, NOW), Ok(at("2026-09-06T04:00:00Z")));
        }
    }

    #[test]
    fn the_last_hours_have_an_open_end() {
        let range = TimeRange::parse(None, None, Some("24h"), Zone::Utc, NOW).unwrap();
        assert!(range.contains(NOW - 24 * 3_600_000) && range.contains(NOW + 1000));
        assert!(!range.contains(NOW - 24 * 3_600_000 - 1));
        assert!(TimeRange::parse(None, None, Some("soon"), Zone::Utc, NOW).is_err());
    }

    #[test]
    fn all_usual_ways_to_write_a_moment_are_understood() {
        let moment = Some(1_386_018_900_000);
        for text in [
            "2013-12-02T21:15:00Z",
            "2013-12-02T22:15:00+01:00",
            "2013-12-02 21:15:00",
            "2013-12-02 21:15:00.000",
            "2013-12-02 22:15:00+01",
            "2013-12-02T21:15",
            "1386018900",
            "1386018900000",
            " 1386018900.0 ",
        ] {
            assert_eq!(recorded(text), moment, "{text}");
        }
        assert_eq!(recorded("1970-01-02"), Some(86_400_000));
        for text in
            ["", "yesterday", "2013-13-02 21:15:00", "NaN", "inf", "1e300", "-1e300", "+262142-01-01 00:00"]
        {
            assert_eq!(recorded(text), None, "{text}");
        }
    }

    #[test]
    fn a_date_in_digits_is_not_a_count_of_seconds() {
        for text in ["20200101000000", "20200101", "202001011530", "20200101153000250"] {
            assert_eq!(recorded(text), None, "{text}: as a count it would be the year 2610 or 1970");
            assert!(spelled_date(text).is_some_and(|date| date.to_string().starts_with("2020-01-01")));
        }
        for text in ["1577836800", "1577836800000", "20201301", "2020010199", "99990101"] {
            assert_eq!(spelled_date(text), None, "{text}");
            assert!(recorded(text).is_some(), "{text}");
        }
    }

    #[test]
    fn people_and_programs_write_the_same_dates_and_times() {
        for text in ["2013-12-02T22:15:00+01:00", "2013-12-02 22:15:00+01", "2013-12-02 21:15", "2013-12-02"]
        {
            assert_eq!(recorded(text), Some(at(text)), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,40}", digits in "[-0-9hmdags :TZ+.]{0,30}") {
            for text in [text, digits] {
                let _ = moment(&text, Zone::Utc, NOW);
                let _ = moment(&text, Zone::named("America/St_Johns").unwrap(), NOW);
                let _ = TimeRange::parse(None, None, Some(&text), Zone::Utc, NOW);
            }
        }

        #[test]
        fn a_printed_moment_reads_back_as_itself(at in 0i64..4_102_444_800_000) {
            prop_assert_eq!(moment(&display(at), Zone::Utc, NOW), Ok(at));
        }
    }
}
