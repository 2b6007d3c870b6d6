//! The time zone that times are read and printed in, and its hours and days.
//!
//! A zone is UTC, one of the IANA database by its name, or that of the machine. Everything in the program that depends on
//! a zone asks [`Zone`]; the rules themselves are jiff's.

use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, FixedOffset, SecondsFormat, Utc};
use jiff::Timestamp;
use jiff::tz::{self, AmbiguousOffset, Offset, TimeZone};

use super::calendar::{DAY, HOUR};
use super::moment::TimeError;
use super::range::TimeRange;
use super::span::Span;

/// A time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Zone {
    #[default]
    Utc,
    /// Any other one, with its rules.
    Named(&'static Rules),
}

/// The name of a zone and its offsets from UTC.
#[derive(Debug, PartialEq, Eq)]
pub struct Rules {
    name: String,
    rules: TimeZone,
}

/// Which of two moments with the same local time is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fold {
    Earlier,
    Later,
}

impl Zone {
    /// The zone with a name of the IANA database, in upper or lower case.
    ///
    /// # Errors
    /// [`TimeError::NoZone`] with the most similar name, if there is one.
    pub fn named(name: &str) -> Result<Self, TimeError> {
        match tz::db().get(name) {
            Ok(rules) => Ok(Self::of(rules, name)),
            Err(_) => Err(TimeError::NoZone { text: name.to_owned(), remedy: remedy(name) }),
        }
    }

    /// The zone of the machine: of the variable TZ, or of /etc/localtime. Without both it is UTC, as for all programs.
    ///
    /// # Errors
    /// [`TimeError::NoMachineZone`] if TZ or /etc/localtime names no zone.
    pub fn of_machine() -> Result<Self, TimeError> {
        let variable = std::env::var_os("TZ").map(|text| text.to_string_lossy().into_owned());
        let place = match &variable {
            Some(text) => format!("TZ={text:?}"),
            None => "/etc/localtime".to_owned(),
        };
        match TimeZone::try_system() {
            Ok(rules) => Ok(Self::of(rules, variable.as_deref().unwrap_or("local time"))),
            Err(_) if variable.is_none() && std::fs::symlink_metadata(&place).is_err() => Ok(Self::Utc),
            Err(_) => Err(TimeError::NoMachineZone { place }),
        }
    }

    /// All names of the IANA database, in order.
    pub fn names() -> Vec<String> {
        let mut names: Vec<String> = tz::db().available().map(|name| name.as_str().to_owned()).collect();
        names.sort_unstable();
        names
    }

    /// A zone by its rules; `text` names it if the database does not.
    fn of(rules: TimeZone, text: &str) -> Self {
        /// Zones that were asked for, each once. They are never dropped, so that a zone is `Copy`; a process uses few.
        static KNOWN: Mutex<Vec<&'static Rules>> = Mutex::new(Vec::new());
        if rules == TimeZone::UTC {
            return Self::Utc;
        }
        let name = rules.iana_name().unwrap_or(text).to_owned();
        let wanted = Rules { name, rules };
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.iter().copied().find(|known| **known == wanted).unwrap_or_else(|| {
            let kept: &'static Rules = Box::leak(Box::new(wanted));
            known.push(kept);
            kept
        });
        Self::Named(found)
    }

    /// Such as `UTC` and `Europe/Berlin`; the text of TZ if that has rules instead of a name (`JST-9`).
    pub fn name(self) -> &'static str {
        match self {
            Self::Utc => "UTC",
            Self::Named(rules) => &rules.name,
        }
    }

    /// The milliseconds that the zone adds to UTC at a moment (milliseconds since the epoch). 0 where the calendar ends.
    pub fn offset(self, at: i64) -> i64 {
        match (self, Timestamp::from_millisecond(at)) {
            (Self::Named(zone), Ok(at)) => millis(zone.rules.to_offset(at)),
            _ => 0,
        }
    }

    /// RFC 3339 with milliseconds and the offset; the bare number where the calendar ends.
    pub fn show(self, at: i64) -> String {
        match self.local(at) {
            Some(moment) => moment.to_rfc3339_opts(SecondsFormat::Millis, self == Self::Utc),
            None => at.to_string(),
        }
    }

    /// By a pattern of chrono's; the bare number where the calendar ends.
    pub fn format(self, at: i64, pattern: &str) -> String {
        self.local(at).map_or_else(|| at.to_string(), |moment| moment.format(pattern).to_string())
    }

    /// Offsets in RFC 3339 have no seconds, as those before the zones had: then the time is that of the whole minute.
    fn local(self, at: i64) -> Option<DateTime<FixedOffset>> {
        let minutes = i32::try_from(self.offset(at) / 60_000).ok()?;
        let offset = FixedOffset::east_opt(minutes * 60)?;
        Some(DateTime::<Utc>::from_timestamp_millis(at)?.with_timezone(&offset))
    }

    /// The hour that a moment is in, by the clock of the zone. Where the clock is set back, the hour that comes twice is
    /// two hours; where it is set by less than an hour, the hour that is cut is shorter.
    pub fn hour(self, at: i64) -> TimeRange {
        self.by_the_clock(HOUR, 0, at)
    }

    /// The period of a length of up to an hour that a moment is in, cut where the clock is set. `ahead` is added to the clock.
    fn by_the_clock(self, length: i64, ahead: i64, at: i64) -> TimeRange {
        let ahead = self.offset(at).saturating_add(ahead);
        let from = at.saturating_add(ahead).div_euclid(length).saturating_mul(length).saturating_sub(ahead);
        let to = from.saturating_add(length);
        TimeRange { from: self.since(from, at), to: self.until(at, to) }
    }

    /// The period of this length that a moment is in. Periods of up to an hour are cut where the clock is set; longer ones
    /// are longer or shorter by what it is set.
    pub fn period(self, span: Span, at: i64) -> TimeRange {
        self.period_since(0, span, at)
    }

    /// The same, with days and months counted from the day `first` (days since 1970-01-01) and from its month.
    pub fn period_since(self, first: i64, span: Span, at: i64) -> TimeRange {
        match span {
            Span::Clock(length) if length <= HOUR => self.by_the_clock(length, 0, at),
            _ => self.by_the_calendar((first, span), 0, at),
        }
    }

    /// The period of this length that a moment is in by a clock that is `ahead` of the one of the zone. A period of such a
    /// clock may come in two parts, where that of the zone is set back within it.
    pub(super) fn period_ahead(self, span: Span, ahead: i64, at: i64) -> TimeRange {
        match span {
            Span::Clock(length) if length <= HOUR => self.by_the_clock(length, ahead, at),
            _ => self.by_the_calendar((0, span), ahead, at),
        }
    }

    /// The periods of this length, in order, that begin when a clock in the zone shows `wall`, or would begin then were the
    /// clock not set at that time: two where it is set back within them, none where it is set forward over all of them.
    pub(super) fn periods_at(self, span: Span, wall: i64) -> Vec<TimeRange> {
        let (start, next) = span.around(0, wall);
        let last = next.saturating_sub(1);
        let moments = [
            Ok(self.first_of(start)),
            self.moment_of(start, Fold::Later),
            self.moment_of(last, Fold::Earlier),
            self.moment_of(last, Fold::Later),
        ];
        let mut found: Vec<_> = moments.into_iter().flatten().map(|at| self.period(span, at)).collect();
        found.retain(|period| span.around(0, self.wall(period.from)).0 == start);
        found.sort_unstable_by_key(|period| period.from);
        found.dedup();
        found
    }

    /// Of the clock that is `ahead` of the one of the zone.
    fn by_the_calendar(self, (first, span): (i64, Span), ahead: i64, at: i64) -> TimeRange {
        let around = |wall: i64| {
            let (from, to) = span.around(first, wall.saturating_add(ahead));
            (from.saturating_sub(ahead), to.saturating_sub(ahead))
        };
        let (from, to) = around(self.wall(at));
        let next = self.first_of(to);
        // A clock that is set back over a start shows the earlier period again: that belongs to the one that has begun.
        if at >= next {
            return TimeRange { from: next, to: self.first_of(around(to).1) };
        }
        TimeRange { from: self.first_of(from), to: next }
    }

    /// The day that a moment is in, by the calendar of the zone: 24 hours, or 23 or 25 where the clock is set. It begins
    /// with the first midnight of its date, or with the first moment of a date that has no midnight.
    pub fn day(self, at: i64) -> TimeRange {
        self.by_the_calendar((0, Span::Days(1)), 0, at)
    }

    /// The first moment of a date, counted in days since 1970-01-01.
    pub(super) fn start_of(self, date: i64) -> i64 {
        self.first_of(date.saturating_mul(DAY))
    }

    /// What a clock in the zone shows at a moment, in milliseconds since 1970-01-01 00:00 on that clock.
    pub fn wall(self, at: i64) -> i64 {
        at.saturating_add(self.offset(at))
    }

    /// The first moment at which a clock in the zone shows `wall` or, where it is set forward over that, a later time.
    pub fn first_of(self, wall: i64) -> i64 {
        match self.offsets_of(wall) {
            AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
                wall.saturating_sub(millis(offset))
            }
            AmbiguousOffset::Gap { before, after } => {
                self.since(wall.saturating_sub(millis(after)), wall.saturating_sub(millis(before)))
            }
        }
    }

    /// The moment at which a clock in the zone shows `wall`, in milliseconds since 1970-01-01 00:00 on that clock.
    ///
    /// # Errors
    /// The moment that it would be had the clock not been set forward over it.
    pub(super) fn moment_of(self, wall: i64, fold: Fold) -> Result<i64, i64> {
        match (self.offsets_of(wall), fold) {
            (AmbiguousOffset::Unambiguous { offset }, _)
            | (AmbiguousOffset::Fold { before: offset, .. }, Fold::Earlier)
            | (AmbiguousOffset::Fold { after: offset, .. }, Fold::Later) => {
                Ok(wall.saturating_sub(millis(offset)))
            }
            (AmbiguousOffset::Gap { before, .. }, _) => Err(wall.saturating_sub(millis(before))),
        }
    }

    /// The first moment at which a clock in the zone shows `wall`, in milliseconds since 1970-01-01 00:00 on that clock. For
    /// a time that the clock is set forward over, the moment that it would be had it not been.
    pub fn earliest(self, wall: i64) -> i64 {
        self.moment_of(wall, Fold::Earlier).unwrap_or_else(|skipped| skipped)
    }

    fn offsets_of(self, wall: i64) -> AmbiguousOffset {
        match (self, Timestamp::from_millisecond(wall)) {
            (Self::Named(zone), Ok(wall)) => {
                zone.rules.to_ambiguous_timestamp(Offset::UTC.to_datetime(wall)).offset()
            }
            _ => AmbiguousOffset::Unambiguous { offset: Offset::UTC },
        }
    }

    /// The first moment from `from` to `to` (both inclusive) since which the offset is that of `to`.
    fn since(self, from: i64, to: i64) -> i64 {
        let offset = self.offset(to);
        if self.offset(from) == offset {
            return from;
        }
        // The offset differs at `before` and is that of `to` at `at`.
        let (mut before, mut at) = (from, to);
        while at - before > 1 {
            let middle = before.midpoint(at);
            if self.offset(middle) == offset { at = middle } else { before = middle }
        }
        at
    }

    /// The first moment after `from` at which the offset is not that of `from`, at most `to`.
    fn until(self, from: i64, to: i64) -> i64 {
        let offset = self.offset(from);
        let (mut at, mut after) = (from, to.saturating_sub(1));
        if self.offset(after) == offset {
            return to;
        }
        while after - at > 1 {
            let middle = at.midpoint(after);
            if self.offset(middle) == offset { at = middle } else { after = middle }
        }
        after
    }
}

fn millis(offset: Offset) -> i64 {
    i64::from(offset.seconds()) * 1_000
}

/// What to write instead of a name that no zone has.
fn remedy(name: &str) -> String {
    const LEAST_SIMILARITY: f64 = 0.85;
    /// Longer than any name.
    const LONGEST: usize = 64;
    let lower = name.to_ascii_lowercase();
    if let Some(remedy) = remedy_for_offset(&lower) {
        return remedy;
    }
    // Berlin stands for Europe/Berlin.
    let similarity = |zone: &str| {
        let zone = zone.to_ascii_lowercase();
        let city = zone.rsplit('/').next().unwrap_or_default();
        strsim::jaro_winkler(&lower, &zone).max(strsim::jaro_winkler(&lower, city))
    };
    // Backwards, so that of equally similar names the first one is taken.
    let all = Zone::names().into_iter().rev().map(|zone| (similarity(&zone), zone));
    let most_similar =
        (name.len() <= LONGEST).then(|| all.max_by(|(left, _), (right, _)| left.total_cmp(right))).flatten();
    match most_similar {
        Some((similarity, zone)) if similarity >= LEAST_SIMILARITY => format!("did you mean {zone}?"),
        _ => "write a name of the IANA database, such as Europe/Berlin or Asia/Kolkata".to_owned(),
    }
}

/// For an offset from UTC, such as `utc+1` and `+05:30`. The signs of the zones below `Etc/` are reversed.
fn remedy_for_offset(lower: &str) -> Option<String> {
    let rest = lower.strip_prefix("utc").or_else(|| lower.strip_prefix("gmt")).unwrap_or(lower);
    let (sign, reversed, most) = match rest.chars().next()? {
        '+' => ('+', '-', 14),
        '-' => ('-', '+', 12),
        _ => return None,
    };
    let (hours, minutes) = rest[1..].split_once(':').unwrap_or((&rest[1..], "0"));
    let (hours, minutes): (u8, u8) = (hours.parse().ok()?, minutes.parse().ok()?);
    Some(match (hours, minutes) {
        (0, 0) => "write UTC".to_owned(),
        (hours, 0) if (1..=most).contains(&hours) => {
            format!("write Etc/GMT{reversed}{hours}: the name of UTC{sign}{hours} has the other sign")
        }
        _ => "fixed offsets have names for whole hours only, such as Etc/GMT-1 for UTC+1; name a place instead, such as \
              Europe/Berlin or Asia/Kolkata"
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::rfc3339;

    const MINUTE: i64 = 60_000;

    fn zone(name: &str) -> Zone {
        Zone::named(name).unwrap()
    }

    fn at(text: &str) -> i64 {
        rfc3339(text).unwrap()
    }

    /// The zone's day that contains a moment: its first moment, and its length in minutes.
    fn day(name: &str, moment: &str) -> (String, i64) {
        let day = zone(name).day(at(moment));
        (zone(name).show(day.from), (day.to - day.from) / MINUTE)
    }

    #[test]
    fn days_have_23_24_or_25_hours_and_begin_at_the_midnight_of_the_zone() {
        for (name, moment, start, hours) in [
            ("Europe/Berlin", "2026-10-25T12:00:00Z", "2026-10-25T00:00:00.000+02:00", 25),
            ("Europe/Berlin", "2026-10-25T22:59:59.999Z", "2026-10-25T00:00:00.000+02:00", 25),
            ("Europe/Berlin", "2026-10-25T23:00:00Z", "2026-10-26T00:00:00.000+01:00", 24),
            ("Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-29T00:00:00.000+01:00", 23),
            ("Europe/Berlin", "2026-07-01T22:00:00Z", "2026-07-02T00:00:00.000+02:00", 24),
            ("Asia/Kolkata", "2026-07-01T18:30:00Z", "2026-07-02T00:00:00.000+05:30", 24),
            ("Asia/Kolkata", "2026-07-01T18:29:59.999Z", "2026-07-01T00:00:00.000+05:30", 24),
            ("Asia/Kathmandu", "2026-07-01T18:15:00Z", "2026-07-02T00:00:00.000+05:45", 24),
            ("America/St_Johns", "2026-01-01T03:29:59Z", "2025-12-31T00:00:00.000-03:30", 24),
            ("America/St_Johns", "2026-01-01T03:30:00Z", "2026-01-01T00:00:00.000-03:30", 24),
        ] {
            assert_eq!(day(name, moment), (start.to_owned(), hours * 60), "{name} {moment}");
        }
    }

    #[test]
    fn days_whose_midnight_is_skipped_or_comes_twice_begin_with_their_first_moment() {
        // Santiago skips midnight; Havana has it twice; St. John's went from 00:01 back to 23:01 of the day before; Samoa
        // had no 30th of December 2011.
        for (name, moment, start, minutes) in [
            ("America/Santiago", "2026-09-06T12:00:00Z", "2026-09-06T01:00:00.000-03:00", 23 * 60),
            ("America/Havana", "2025-11-02T12:00:00Z", "2025-11-02T00:00:00.000-04:00", 25 * 60),
            ("America/St_Johns", "2006-10-29T03:00:00Z", "2006-10-29T00:00:00.000-02:30", 25 * 60),
            ("Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29T00:00:00.000-10:00", 24 * 60),
            ("Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-31T00:00:00.000+14:00", 24 * 60),
        ] {
            assert_eq!(day(name, moment), (start.to_owned(), minutes), "{name}");
        }
    }

    #[test]
    fn an_hour_that_comes_twice_is_two_hours_and_a_skipped_one_is_none() {
        let hours = |name: &str, from: &str, count: usize| -> Vec<String> {
            let mut at = at(from);
            let mut shown = Vec::new();
            for _ in 0..count {
                let hour = zone(name).hour(at);
                shown.push(format!(
                    "{} {}",
                    zone(name).format(hour.from, "%H:%M%:z"),
                    (hour.to - hour.from) / MINUTE
                ));
                at = hour.to;
            }
            shown
        };
        assert_eq!(
            hours("Europe/Berlin", "2026-10-24T23:00:00Z", 4),
            ["01:00+02:00 60", "02:00+02:00 60", "02:00+01:00 60", "03:00+01:00 60"]
        );
        assert_eq!(hours("Europe/Berlin", "2026-03-29T00:00:00Z", 2), ["01:00+01:00 60", "03:00+02:00 60"]);
        assert_eq!(hours("Asia/Kolkata", "2026-07-01T00:00:00Z", 2), ["05:00+05:30 60", "06:00+05:30 60"]);
        assert_eq!(hours("Asia/Kathmandu", "2026-07-01T00:00:00Z", 1), ["05:00+05:45 60"]);
        // Lord Howe Island sets its clocks by half an hour.
        assert_eq!(
            hours("Australia/Lord_Howe", "2026-04-04T14:30:00Z", 3),
            ["01:00+11:00 60", "01:30+10:30 30", "02:00+10:30 60"]
        );
    }

    #[test]
    fn longer_periods_are_longer_or_shorter_where_the_clock_is_set() {
        for (span, moment, start, minutes) in [
            ("6h", "2026-10-25T00:30:00Z", "2026-10-25T00:00:00.000+02:00", 7 * 60),
            ("6h", "2026-10-25T01:30:00Z", "2026-10-25T00:00:00.000+02:00", 7 * 60),
            ("2h", "2026-03-29T01:30:00Z", "2026-03-29T03:00:00.000+02:00", 60),
            ("15m", "2026-10-25T01:05:00Z", "2026-10-25T02:00:00.000+01:00", 15),
            ("1w", "2026-10-25T12:00:00Z", "2026-10-19T00:00:00.000+02:00", (7 * 24 + 1) * 60),
            ("1mo", "2026-03-15T12:00:00Z", "2026-03-01T00:00:00.000+01:00", (31 * 24 - 1) * 60),
        ] {
            let zone = zone("Europe/Berlin");
            let found = zone.period(span.parse().unwrap(), at(moment));
            let found = (zone.show(found.from), (found.to - found.from) / MINUTE);
            assert_eq!(found, (start.to_owned(), minutes), "{span} {moment}");
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_name_that_is_meant() {
        for (wrong, remedy) in [
            ("Europe/Berlim", "did you mean Europe/Berlin?"),
            ("berlin", "did you mean Europe/Berlin?"),
            ("Asia/Calcuta", "did you mean Asia/Calcutta?"),
            ("UTC+1", "write Etc/GMT-1: the name of UTC+1 has the other sign"),
            ("gmt-05:00", "write Etc/GMT+5: the name of UTC-5 has the other sign"),
            ("+05:30", "for whole hours only"),
            ("UTC+0", "write UTC"),
            ("", "such as Europe/Berlin"),
            ("+05:30", "such as Europe/Berlin"),
        ] {
            let error = Zone::named(wrong).unwrap_err().to_string();
            assert!(error.contains("is not a time zone") && error.contains(remedy), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_zone_is_known_by_its_name_in_any_case_and_utc_is_utc() {
        assert_eq!(zone("europe/berlin"), zone("Europe/Berlin"));
        assert_eq!(zone("europe/berlin").name(), "Europe/Berlin");
        assert_eq!((zone("UTC"), Zone::Utc.show(0).as_str()), (Zone::Utc, "1970-01-01T00:00:00.000Z"));
        assert_eq!(Zone::Utc.show(i64::MAX), i64::MAX.to_string());
        assert!(Zone::names().iter().any(|name| name == "Asia/Kathmandu"));
    }

    fn some_zone() -> impl Strategy<Value = Zone> {
        prop::sample::select(Zone::names()).prop_map(|name| zone(&name))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn periods_of_any_zone_follow_each_other_without_gap_or_overlap(
            zone in some_zone(), at in -3_000_000_000_000i64..4_000_000_000_000,
        ) {
            for span in ["1s", "15m", "7m", "1h", "90m", "6h", "1d", "2d", "1w", "1mo", "3mo", "1y"] {
                let span: Span = span.parse().unwrap();
                let period = |zone: Zone, at| zone.period(span, at);
                let found = period(zone, at);
                prop_assert!(found.contains(at), "{} {found:?}", zone.name());
                for part in 0..4 {
                    let inside = found.from + (found.to - 1 - found.from) * part / 3;
                    prop_assert_eq!(period(zone, inside), found, "{}", zone.name());
                }
                prop_assert_eq!(period(zone, found.to).from, found.to, "{}", zone.name());
                prop_assert_eq!(period(zone, found.from - 1).to, found.from, "{}", zone.name());
                let name = span.around(0, zone.wall(found.from)).0;
                prop_assert!(zone.periods_at(span, name).contains(&found), "{} {found:?}", zone.name());
            }
            let (hour, day) = (zone.hour(at), zone.day(at));
            prop_assert_eq!((hour, day), (zone.period(Span::Clock(HOUR), at), zone.period(Span::Days(1), at)));
            prop_assert!(hour.to - hour.from <= HOUR && day.from <= hour.from && hour.to <= day.to);
        }

        #[test]
        fn earlier_times_are_divided_without_gap_or_overlap_and_each_part_has_the_name_of_a_later_one(
            zone in some_zone(), at in -3_000_000_000_000i64..4_000_000_000_000,
            ahead in prop::sample::select(vec![1, 90 * MINUTE, DAY, 7 * DAY, 30 * DAY]),
        ) {
            for span in ["15m", "1h", "6h", "1d", "1w", "1mo"] {
                let span: Span = span.parse().unwrap();
                let found = zone.period_ahead(span, ahead, at);
                prop_assert!(found.contains(at), "{} {found:?}", zone.name());
                prop_assert_eq!(zone.period_ahead(span, ahead, found.to).from, found.to, "{}", zone.name());
                prop_assert_eq!(zone.period_ahead(span, ahead, found.from - 1).to, found.from, "{}", zone.name());
                let (name, next) = span.around(0, zone.wall(found.from) + ahead);
                for period in zone.periods_at(span, name) {
                    prop_assert!((name..next).contains(&zone.wall(period.from)), "{} {period:?}", zone.name());
                }
            }
        }

        #[test]
        fn a_moment_printed_in_any_zone_reads_back_as_itself(
            zone in some_zone(), at in -3_000_000_000_000i64..4_000_000_000_000,
        ) {
            prop_assert_eq!(rfc3339(&zone.show(at)), Some(at));
        }

        #[test]
        fn the_time_on_a_clock_is_that_of_the_moment_or_of_the_one_with_the_same_time(
            zone in some_zone(), at in 0i64..4_000_000_000_000,
        ) {
            let wall = at + zone.offset(at);
            let found = [Fold::Earlier, Fold::Later].map(|fold| zone.moment_of(wall, fold));
            prop_assert!(found.contains(&Ok(at)), "{}: {found:?}", zone.name());
            prop_assert!(found[0] <= found[1]);
        }
    }
}
