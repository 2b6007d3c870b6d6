//! One parser of moments, for flags and for filters, and how moments are printed.

use chrono::{DateTime, Local, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Utc};

/// How a moment without a zone is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Zone {
    #[default]
    Utc,
    Local,
}

/// Why a moment or a range cannot be used; the message holds the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    #[error(
        "{text:?} is no moment (write 2026-01-31, 2026-01-31 12:00, 2026-01-31T12:00:00Z, now, -2h or '2h ago')"
    )]
    NoMoment { text: String },
    #[error("{text:?} is no length of time (write 24h, 30m or 7d)")]
    NoLength { text: String },
    #[error(
        "{text:?} does not exist in local time, where clocks were changed (give an offset, such as 2026-03-29T02:30:00+01:00)"
    )]
    Skipped { text: String },
    #[error("the range ends at {to}, not after its start at {from} (swap --from and --to)")]
    Inverted { from: String, to: String },
}

/// A moment in milliseconds since the epoch: RFC 3339, a date with or without a time, `now`, `-2h`, `2h ago`.
pub fn moment(text: &str, zone: Zone, now: i64) -> Result<i64, TimeError> {
    let trimmed = text.trim();
    if trimmed.eq_ignore_ascii_case("now") {
        return Ok(now);
    }
    let ago = trimmed.strip_suffix("ago").map(str::trim_end).or_else(|| trimmed.strip_prefix('-'));
    if let Some(ago) = ago {
        return Ok(now.saturating_sub(length(ago).map_err(|_| no_moment(text))?));
    }
    if let Ok(moment) = DateTime::parse_from_rfc3339(trimmed) {
        return Ok(moment.timestamp_millis());
    }
    let naive = naive(trimmed).ok_or_else(|| no_moment(text))?;
    match zone {
        Zone::Utc => Ok(naive.and_utc().timestamp_millis()),
        // Where the clock was set back, the earlier of both: a range then misses nothing at its start.
        Zone::Local => match Local.from_local_datetime(&naive).earliest() {
            Some(moment) => Ok(moment.timestamp_millis()),
            None => Err(TimeError::Skipped { text: text.to_owned() }),
        },
    }
}

/// A moment as results print it: RFC 3339 in milliseconds.
pub fn display(at: i64) -> String {
    match DateTime::<Utc>::from_timestamp_millis(at) {
        Some(moment) => moment.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        None => at.to_string(),
    }
}

pub(super) fn naive(text: &str) -> Option<NaiveDateTime> {
    const FORMATS: [&str; 4] =
        ["%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S%.f"];
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Some(date.and_time(NaiveTime::MIN));
    }
    FORMATS.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
}

/// A length of time in milliseconds: 24h, 30m, 7d.
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
    fn what_is_no_moment_is_told_what_would_be_one() {
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
    fn the_last_hours_have_an_open_end() {
        let range = TimeRange::parse(None, None, Some("24h"), Zone::Utc, NOW).unwrap();
        assert!(range.contains(NOW - 24 * 3_600_000) && range.contains(NOW + 1000));
        assert!(!range.contains(NOW - 24 * 3_600_000 - 1));
        assert!(TimeRange::parse(None, None, Some("soon"), Zone::Utc, NOW).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,40}", digits in "[-0-9hmdags :TZ+.]{0,30}") {
            for text in [text, digits] {
                let _ = moment(&text, Zone::Utc, NOW);
                let _ = moment(&text, Zone::Local, NOW);
                let _ = TimeRange::parse(None, None, Some(&text), Zone::Utc, NOW);
            }
        }

        #[test]
        fn a_printed_moment_reads_back_as_itself(at in 0i64..4_102_444_800_000) {
            prop_assert_eq!(moment(&display(at), Zone::Utc, NOW), Ok(at));
        }
    }
}
