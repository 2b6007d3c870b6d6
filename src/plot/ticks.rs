//! Where the ticks of an axis stand, and their labels: round instants of the shown zone, and round values.
//!
//! Times come from the offset of the zone alone (milliseconds to add to UTC), so that every zone and every clock change
//! is treated alike.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime};

use crate::time::{DAY, HOUR};

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;

/// A tick of a time axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tick {
    /// Milliseconds since the epoch.
    pub(super) at: i64,
    /// The time of day, or the day.
    pub(super) label: String,
    /// The date (or year) where it changes, and the offset from UTC after a clock change.
    pub(super) under: Option<String>,
}

/// The distance of two ticks of a time axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// In milliseconds, shorter than a day.
    Clock(i64),
    Days(i64),
    Months(i64),
}

const STEPS: [Step; 46] = [
    Step::Clock(1),
    Step::Clock(2),
    Step::Clock(5),
    Step::Clock(10),
    Step::Clock(20),
    Step::Clock(50),
    Step::Clock(100),
    Step::Clock(200),
    Step::Clock(500),
    Step::Clock(SECOND),
    Step::Clock(2 * SECOND),
    Step::Clock(5 * SECOND),
    Step::Clock(10 * SECOND),
    Step::Clock(15 * SECOND),
    Step::Clock(30 * SECOND),
    Step::Clock(MINUTE),
    Step::Clock(2 * MINUTE),
    Step::Clock(5 * MINUTE),
    Step::Clock(10 * MINUTE),
    Step::Clock(15 * MINUTE),
    Step::Clock(30 * MINUTE),
    Step::Clock(HOUR),
    Step::Clock(2 * HOUR),
    Step::Clock(3 * HOUR),
    Step::Clock(6 * HOUR),
    Step::Clock(12 * HOUR),
    Step::Days(1),
    Step::Days(2),
    Step::Days(7),
    Step::Days(14),
    Step::Months(1),
    Step::Months(2),
    Step::Months(3),
    Step::Months(6),
    Step::Months(12),
    Step::Months(24),
    Step::Months(60),
    Step::Months(120),
    Step::Months(600),
    Step::Months(1_200),
    Step::Months(12_000),
    Step::Months(24_000),
    Step::Months(60_000),
    Step::Months(120_000),
    Step::Months(600_000),
    Step::Months(6_000_000),
];

impl Step {
    /// In milliseconds; of months the shortest.
    fn length(self) -> i64 {
        match self {
            Self::Clock(length) => length,
            Self::Days(days) => days * DAY,
            Self::Months(months) => months * 28 * DAY,
        }
    }

    /// The times of day or the days, as a clock in that zone shows them, that cover `[from, to]`.
    fn walls(self, from: i64, to: i64) -> Vec<i64> {
        let every = |step: i64, first: i64| {
            let start = (from - first).div_euclid(step);
            let end = (to - first).div_euclid(step) + 1;
            (start..=end).map(|index| first + index * step).collect()
        };
        match self {
            Self::Clock(step) => every(step, 0),
            // Weeks begin on Monday: 1970-01-05 is one.
            Self::Days(days) => every(days * DAY, if days % 7 == 0 { 4 * DAY } else { 0 }),
            Self::Months(months) => {
                let month = |at: i64| wall(at).map(|at| i64::from(at.year()) * 12 + i64::from(at.month0()));
                let (Some(start), Some(end)) = (month(from), month(to)) else { return Vec::new() };
                let first = |month: i64| {
                    let year = i32::try_from(month.div_euclid(12)).ok()?;
                    let date = NaiveDate::from_ymd_opt(year, month.rem_euclid(12) as u32 + 1, 1)?;
                    Some(date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis())
                };
                let indices = start.div_euclid(months)..=end.div_euclid(months) + 1;
                indices.filter_map(|index| first(index * months)).collect()
            }
        }
    }

    fn label(self, wall: NaiveDateTime) -> String {
        let pattern = match self {
            Self::Clock(step) if step % MINUTE == 0 => "%H:%M",
            Self::Clock(step) if step % SECOND == 0 => "%H:%M:%S",
            Self::Clock(_) => "%H:%M:%S%.3f",
            Self::Days(_) => "%b %-d",
            Self::Months(months) if months % 12 == 0 => "%Y",
            Self::Months(_) => "%b",
        };
        wall.format(pattern).to_string()
    }

    /// What stands below the label where it changes.
    fn date(self, wall: NaiveDateTime) -> Option<String> {
        match self {
            Self::Clock(_) => Some(wall.format("%Y-%m-%d").to_string()),
            Self::Months(months) if months % 12 == 0 => None,
            Self::Days(_) | Self::Months(_) => Some(wall.format("%Y").to_string()),
        }
    }
}

/// The time that a clock shows, from milliseconds since the epoch plus the zone's offset.
fn wall(at: i64) -> Option<NaiveDateTime> {
    DateTime::from_timestamp_millis(at).map(|moment| moment.naive_utc())
}

/// The ticks in `[from, to]`, at most `most` + 1. `offset` gives the milliseconds that the zone adds to UTC at a moment.
pub(super) fn times(from: i64, to: i64, most: usize, offset: impl Fn(i64) -> i64) -> Vec<Tick> {
    let most = i64::try_from(most.max(1)).unwrap_or(i64::MAX);
    let shown = to.saturating_sub(from);
    let fits = |step: &Step| shown / step.length() <= most;
    // The last step is longer than any time that the calendar has.
    let step = STEPS.into_iter().find(fits).unwrap_or(STEPS[STEPS.len() - 1]);
    let (before, after) = (offset(from), offset(to));
    let covered = (from.saturating_add(before.min(after)), to.saturating_add(before.max(after)));
    if wall(covered.0).is_none() || wall(covered.1).is_none() {
        return Vec::new();
    }
    let mut moments: Vec<i64> = step
        .walls(covered.0, covered.1)
        .into_iter()
        .flat_map(|wall| instants(wall, step, &offset))
        .filter(|at| (from..=to).contains(at))
        .collect();
    moments.sort_unstable();
    moments.dedup();
    let mut ticks: Vec<Tick> = Vec::with_capacity(moments.len());
    let (mut last_date, mut last_offset) = (None, None);
    for at in moments {
        let shift = offset(at);
        let Some(shown) = wall(at + shift) else { continue };
        let date = step.date(shown);
        let is_changed = matches!(step, Step::Clock(_)) && last_offset.is_some_and(|last| last != shift);
        let mut under = date.clone().filter(|_| date != last_date);
        if is_changed {
            let zone = offset_text(shift);
            under = Some(under.map_or(zone.clone(), |date| format!("{date} {zone}")));
        }
        ticks.push(Tick { at, label: step.label(shown), under });
        (last_date, last_offset) = (date, Some(shift));
    }
    ticks
}

/// The moments at which a clock shows `wall`: none where it is skipped, both where it comes twice.
fn instants(wall: i64, step: Step, offset: &impl Fn(i64) -> i64) -> Vec<i64> {
    let (before, after) = (offset(wall - DAY), offset(wall + DAY));
    let mut found: Vec<i64> = [before, after]
        .into_iter()
        .filter(|shift| offset(wall - shift) == *shift)
        .map(|shift| wall - shift)
        .collect();
    found.sort_unstable();
    found.dedup();
    match step {
        // Both, so that the ticks are as far apart as everywhere else.
        Step::Clock(step) if step <= HOUR => {}
        Step::Clock(_) => found.truncate(1),
        // A day that begins after midnight, because midnight is skipped.
        Step::Days(_) | Step::Months(_) if found.is_empty() => found.push(wall - before),
        Step::Days(_) | Step::Months(_) => found.truncate(1),
    }
    found
}

/// An offset from UTC in milliseconds as `+05:30`.
pub(super) fn offset_text(offset: i64) -> String {
    let minutes = offset.abs() / MINUTE;
    let sign = if offset < 0 { '-' } else { '+' };
    format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
}

/// Round values in `[low, high]` with labels that differ, at most `most` + 1 of them.
pub(super) fn values(low: f64, high: f64, most: usize) -> Vec<(f64, String)> {
    let rough = (high / 2.0 - low / 2.0) / most.max(1) as f64 * 2.0;
    if !(rough.is_finite() && rough > 0.0) {
        return Vec::new();
    }
    let power = 10f64.powi(rough.log10().floor() as i32);
    let step =
        [1.0, 2.0, 5.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough * 0.999_999);
    let step = step.unwrap_or(10.0 * power);
    // A bound that is a tick itself stays one, although 0.0006 / 0.0001 is 5.999….
    let (first, last) = ((low / step - 1e-9).ceil(), (high / step + 1e-9).floor());
    if !step.is_normal() || last - first > 2.0 * most as f64 + 2.0 {
        return Vec::new();
    }
    let mut ticks: Vec<(f64, String)> = Vec::new();
    let mut index = first;
    while index <= last && ticks.len() <= 2 * most + 2 {
        // Multiplied and not added up, so that 0 is 0; `+ 0.0` turns -0 into 0.
        let value = index * step + 0.0;
        ticks.push((value, figure(value, step)));
        index += 1.0;
    }
    // Steps of the last bit of a number cannot all be told apart.
    ticks.dedup_by(|left, right| left.0 == right.0 || left.1 == right.1);
    ticks
}

/// A value to the digits that tell values `step` apart.
pub(super) fn figure(value: f64, step: f64) -> String {
    /// Beyond this length, a power of ten is shorter.
    const LONGEST: usize = 12;
    // 0.3 of a step of 0.1 must not need 17 digits: a small tolerance before the logarithm is rounded.
    let decimals = -(step.abs().max(1e-300).log10() + 1e-9).floor();
    let plain_decimals = decimals.clamp(0.0, 320.0) as usize;
    let plain = if decimals <= LONGEST as f64 && value.abs() < 1e15 {
        format!("{value:.plain_decimals$}")
    } else {
        String::new()
    };
    if !plain.is_empty() && plain.len() <= LONGEST {
        return plain;
    }
    let digits = (value.abs().max(1e-300).log10().floor() + decimals).clamp(0.0, 16.0) as usize;
    format!("{value:.digits$e}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn utc(_: i64) -> i64 {
        0
    }

    /// Berlin in 2026: summer time from 2026-03-29 01:00 UTC to 2026-10-25 01:00 UTC.
    fn berlin(at: i64) -> i64 {
        if (moment("2026-03-29 01:00")..moment("2026-10-25 01:00")).contains(&at) { 2 * HOUR } else { HOUR }
    }

    /// Lord Howe Island: half an hour of summer time, until 2026-04-04 15:00 UTC.
    fn lord_howe(at: i64) -> i64 {
        if at < moment("2026-04-04 15:00") { 11 * HOUR } else { 10 * HOUR + 30 * MINUTE }
    }

    /// Santiago skips midnight: 2026-09-06 begins at 01:00.
    fn santiago(at: i64) -> i64 {
        if at < moment("2026-09-06 04:00") { -4 * HOUR } else { -3 * HOUR }
    }

    fn moment(text: &str) -> i64 {
        crate::time::recorded(text).unwrap()
    }

    /// `label` or `label/under` of each tick.
    fn shown(from: &str, to: &str, offset: impl Fn(i64) -> i64) -> Vec<String> {
        let text = |tick: Tick| match tick.under {
            Some(under) => format!("{}/{under}", tick.label),
            None => tick.label,
        };
        times(moment(from), moment(to), 8, offset).into_iter().map(text).collect()
    }

    #[test]
    fn ticks_are_round_instants_and_the_date_stands_where_it_changes() {
        assert_eq!(
            shown("2026-11-23 22:13:07", "2026-11-24 01:50", utc),
            ["22:30/2026-11-23", "23:00", "23:30", "00:00/2026-11-24", "00:30", "01:00", "01:30"]
        );
        assert_eq!(
            shown("2026-11-23 16:50:03", "2026-11-23 16:50:22", utc),
            ["16:50:05/2026-11-23", "16:50:10", "16:50:15", "16:50:20"]
        );
        assert_eq!(
            shown("2026-12-20", "2027-01-20", utc),
            ["Dec 21/2026", "Dec 28", "Jan 4/2027", "Jan 11", "Jan 18"]
        );
        assert_eq!(shown("2025-11-02", "2026-04-02", utc), ["Dec/2025", "Jan/2026", "Feb", "Mar", "Apr"]);
        assert_eq!(shown("2019-05-01", "2025-02-01", utc), ["2020", "2021", "2022", "2023", "2024", "2025"]);
    }

    #[test]
    fn ticks_are_round_in_the_zone_that_is_shown() {
        let kolkata = |_| 5 * HOUR + 30 * MINUTE;
        let kathmandu = |_| 5 * HOUR + 45 * MINUTE;
        let day = |offset: &dyn Fn(i64) -> i64| shown("2026-11-23", "2026-11-24", offset);
        assert_eq!(
            day(&kolkata),
            ["06:00/2026-11-23", "09:00", "12:00", "15:00", "18:00", "21:00", "00:00/2026-11-24", "03:00"]
        );
        assert_eq!(day(&kathmandu)[..2], ["06:00/2026-11-23", "09:00"]);
        let ticks = times(moment("2026-11-20"), moment("2026-11-26"), 8, kathmandu);
        assert!(ticks.iter().all(|tick| (tick.at + kathmandu(0)) % DAY == 0), "{ticks:?}");
    }

    #[test]
    fn a_clock_that_is_set_back_shows_an_hour_twice_and_says_so() {
        assert_eq!(
            shown("2026-10-24 22:00", "2026-10-25 04:00", berlin),
            ["00:00/2026-10-25", "01:00", "02:00", "02:00/+01:00", "03:00", "04:00", "05:00"]
        );
        let ticks = times(moment("2026-10-24 22:00"), moment("2026-10-25 04:00"), 8, berlin);
        assert!(ticks.windows(2).all(|pair| pair[1].at - pair[0].at == HOUR), "{ticks:?}");
        // Half an hour: 01:30 comes twice.
        let half = shown("2026-04-04 14:00", "2026-04-04 16:30", lord_howe);
        assert_eq!(half.iter().filter(|label| label.starts_with("01:30")).count(), 2, "{half:?}");
    }

    #[test]
    fn a_clock_that_is_set_forward_skips_an_hour() {
        assert_eq!(
            shown("2026-03-28 23:00", "2026-03-29 05:00", berlin),
            ["00:00/2026-03-29", "01:00", "03:00/+02:00", "04:00", "05:00", "06:00", "07:00"]
        );
        let days = shown("2026-03-26 00:00", "2026-04-01 00:00", berlin);
        assert_eq!(days, ["Mar 27/2026", "Mar 28", "Mar 29", "Mar 30", "Mar 31", "Apr 1"]);
    }

    #[test]
    fn a_day_without_a_midnight_begins_with_its_first_moment() {
        let ticks = times(moment("2026-09-02 12:00"), moment("2026-09-09 12:00"), 8, santiago);
        let sunday = ticks.iter().find(|tick| tick.at == moment("2026-09-06 04:00"));
        assert_eq!(sunday.map(|tick| tick.label.as_str()), Some("Sep 6"), "{ticks:?}");
    }

    #[test]
    fn labels_of_small_and_large_values_differ() {
        let labels = |low, high| values(low, high, 6).into_iter().map(|(_, label)| label).collect::<Vec<_>>();
        assert_eq!(labels(0.0001, 0.0006), ["0.0001", "0.0002", "0.0003", "0.0004", "0.0005", "0.0006"]);
        assert_eq!(labels(-1.0, 20.2), ["0", "5", "10", "15", "20"]);
        assert_eq!(
            labels(1e-9, 5e-9),
            ["0.000000001", "0.000000002", "0.000000003", "0.000000004", "0.000000005"]
        );
        assert_eq!(labels(0.0, 3e38), ["0", "5e37", "1.0e38", "1.5e38", "2.0e38", "2.5e38", "3.0e38"]);
        assert!(values(1.0, 1.0, 6).is_empty() && values(f64::NAN, 1.0, 6).is_empty());
        assert!(!values(f64::MIN, f64::MAX, 6).is_empty());
    }

    proptest! {
        #[test]
        fn ticks_are_few_in_order_and_within_the_axis(
            from in -60_000_000_000_000i64..200_000_000_000_000, shown in 1i64..100_000_000_000_000,
            most in 2usize..12, quarters in -48i64..56,
        ) {
            let ticks = times(from, from + shown, most, |_| quarters * 15 * MINUTE);
            prop_assert!(ticks.len() <= most + 1, "{ticks:?}");
            prop_assert!(ticks.windows(2).all(|pair| pair[0].at < pair[1].at));
            prop_assert!(ticks.iter().all(|tick| (from..=from + shown).contains(&tick.at)));
            prop_assert!(ticks.first().is_none_or(|tick| tick.under.is_some() || tick.label.len() >= 4));
        }

        #[test]
        fn labels_of_values_differ_and_mean_their_value(low in -1e12f64..1e12, size in -12i32..12) {
            let high = low + 10f64.powi(size) * (1.0 + low.abs() / 1e6);
            let ticks = values(low, high, 7);
            for pair in ticks.windows(2) {
                prop_assert_ne!(&pair[0].1, &pair[1].1);
                let (left, right): (f64, f64) = (pair[0].1.parse().unwrap(), pair[1].1.parse().unwrap());
                prop_assert!(left < right && left >= low - (right - left) && right <= high + (right - left));
            }
        }
    }
}
