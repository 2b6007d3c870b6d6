//! The rows of an answer: one for each line, with those of an earlier range beside it, and for the periods without values.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clap::ValueEnum;

use super::aggregate::Aggregate;
use crate::analytics::stats::{Key, Line, Part};
use crate::error::UsageError;
use crate::reading::Group;
use crate::time::{Periods, TimeRange, Zone};

/// Rows in memory after gaps are filled.
const MOST_ROWS: usize = 1_000_000;

/// What stands in a period without values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Fill {
    /// Nothing: a count of 0
    Null,
    /// The values of the period before
    Previous,
    /// Values on the straight line between the periods around it
    Linear,
}

/// A line of the answer as it is printed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    /// The group of the newest value.
    pub group: Option<Arc<Group>>,
    /// One for each statistic.
    pub values: Vec<Option<f64>>,
    pub rate: Option<f64>,
    /// The statistics of the range before.
    pub before: Vec<Option<f64>>,
    pub is_filled: bool,
}

pub type Rows = BTreeMap<Key, Row>;

pub fn rows(lines: &BTreeMap<Key, Line>, aggregates: &[Aggregate]) -> Rows {
    let row = |line: &Line| Row {
        group: Some(line.group.clone()),
        values: values(line, aggregates),
        rate: line.summary.change_per_hour(),
        ..Row::default()
    };
    lines.iter().map(|(key, line)| (key.clone(), row(line))).collect()
}

fn values(line: &Line, aggregates: &[Aggregate]) -> Vec<Option<f64>> {
    aggregates.iter().map(|aggregate| Some(aggregate.value(line))).collect()
}

/// The times that a clock shows in the range, `length` earlier. Its lines are those of [`StatsQuery::by`] [`By::earlier`].
///
/// [`StatsQuery::by`]: crate::analytics::stats::StatsQuery::by
/// [`By::earlier`]: crate::analytics::stats::By::earlier
pub fn earlier(zone: Zone, range: TimeRange, length: i64) -> TimeRange {
    let before = |at: i64| zone.first_of(zone.wall(at).saturating_sub(length));
    let (from, to) = (before(range.from), before(range.to));
    // A range that ends in the hour that comes twice may end earlier on the clock than it begins.
    let to = if to > from { to } else { from.saturating_add(range.to.saturating_sub(range.from)) };
    TimeRange { from, to }
}

/// Puts the lines of the earlier range beside the rows of the same time of the clock. A line for an hour that comes twice is
/// beside both; one for an hour that is skipped is beside none. `periods` are those of the rows, `range` is that of the rows.
pub fn compare(
    rows: &mut Rows,
    before: &BTreeMap<Key, Line>,
    aggregates: &[Aggregate],
    periods: Periods,
    range: TimeRange,
) {
    for (key, line) in before {
        let keys = match moment(key) {
            Some(name) => {
                let shown = |period: &TimeRange| period.from < range.to && range.from < period.to;
                let shown = periods.named(name).into_iter().filter(shown);
                shown.map(|period| with_time(key, period.from)).collect()
            }
            None => vec![key.clone()],
        };
        for key in keys {
            let row = rows.entry(key).or_insert_with(|| Row {
                group: Some(line.group.clone()),
                values: vec![None; aggregates.len()],
                ..Row::default()
            });
            row.before = values(line, aggregates);
        }
    }
}

/// Adds a row for each period without one, from the start of the range (or the first row) to its end (or the last row).
///
/// # Errors
/// There would be too many.
pub fn fill(
    rows: &mut Rows,
    how: Fill,
    aggregates: &[Aggregate],
    periods: Periods,
    range: TimeRange,
    now: i64,
) -> Result<(), UsageError> {
    let moments: BTreeSet<i64> = rows.keys().filter_map(moment).collect();
    let (Some(&first), Some(&last)) = (moments.first(), moments.last()) else { return Ok(()) };
    let first = if range.from == i64::MIN { first } else { periods.of(range.from).from };
    let last = if range.is_everything() { last } else { last.max(now.min(range.to.saturating_sub(1))) };
    let subjects: BTreeSet<Key> = rows.keys().map(without_time).collect();
    let mut at = first;
    let mut all = Vec::new();
    while at <= last {
        all.push(at);
        if all.len().saturating_mul(subjects.len()) > MOST_ROWS {
            return Err(UsageError::new(format!(
                "more than {MOST_ROWS} lines with the gaps filled (take longer periods or a shorter range of time)"
            )));
        }
        at = periods.of(at).to;
    }
    for subject in &subjects {
        let key = |at: i64| with_time(subject, at);
        let group = all.iter().find_map(|&at| rows.get(&key(at))?.group.clone());
        for &at in &all {
            rows.entry(key(at)).or_insert_with(|| Row {
                group: group.clone(),
                values: aggregates
                    .iter()
                    .map(|aggregate| (*aggregate == Aggregate::Count).then_some(0.0))
                    .collect(),
                is_filled: true,
                ..Row::default()
            });
        }
        for (index, aggregate) in aggregates.iter().enumerate() {
            if how != Fill::Null && *aggregate != Aggregate::Count {
                bridge(rows, &all, key, index, how);
            }
        }
    }
    Ok(())
}

/// Fills one statistic between rows that have it.
fn bridge(rows: &mut Rows, all: &[i64], key: impl Fn(i64) -> Key, index: usize, how: Fill) {
    let known =
        |rows: &Rows, at: i64| rows.get(&key(at)).and_then(|row| row.values.get(index).copied().flatten());
    let mut last: Option<(usize, f64)> = None;
    for place in 0..all.len() {
        let Some(value) = known(rows, all[place]) else {
            if let (Fill::Previous, Some((_, value))) = (how, last) {
                set(rows, &key(all[place]), index, value);
            }
            continue;
        };
        if let (Fill::Linear, Some((start, from))) = (how, last) {
            for between in start + 1..place {
                let share = (all[between] - all[start]) as f64 / (all[place] - all[start]) as f64;
                set(rows, &key(all[between]), index, from + (value - from) * share);
            }
        }
        last = Some((place, value));
    }
}

fn set(rows: &mut Rows, key: &Key, index: usize, value: f64) {
    if let Some(place) = rows.get_mut(key).and_then(|row| row.values.get_mut(index)) {
        *place = Some(value);
    }
}

pub fn moment(key: &Key) -> Option<i64> {
    key.iter().find_map(|part| match part {
        Part::Moment(at) => Some(*at),
        _ => None,
    })
}

/// The key of all periods of a line.
pub fn without_time(key: &Key) -> Key {
    with_time(key, 0)
}

fn with_time(key: &Key, at: i64) -> Key {
    key.clone().map(|part| match part {
        Part::Moment(_) => Part::Moment(at),
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{DAY, HOUR};

    fn key(name: &str, at: i64) -> Key {
        let mut key = Key::default();
        key[0] = Part::Moment(at);
        key[1] = Part::Name(name.into());
        key
    }

    fn filled(how: Fill) -> Vec<Option<f64>> {
        let aggregates = [Aggregate::Count, Aggregate::Avg];
        let row = |value| Row { values: vec![Some(1.0), Some(value)], ..Row::default() };
        let mut rows: Rows =
            [(key("a", HOUR), row(10.0)), (key("a", 4 * HOUR), row(40.0)), (key("b", 0), row(1.0))].into();
        let range = TimeRange { from: 10, to: 5 * HOUR };
        fill(&mut rows, how, &aggregates, Periods::Hours(Zone::Utc), range, i64::MAX).unwrap();
        assert_eq!(rows.len(), 10);
        assert_eq!(rows[&key("b", HOUR)].values[0], Some(0.0), "nothing was counted there");
        (0..5).map(|hour| rows[&key("a", hour * HOUR)].values[1]).collect()
    }

    #[test]
    fn periods_without_values_are_filled_as_asked_and_never_before_the_first_value() {
        assert_eq!(filled(Fill::Null), [None, Some(10.0), None, None, Some(40.0)]);
        assert_eq!(filled(Fill::Previous), [None, Some(10.0), Some(10.0), Some(10.0), Some(40.0)]);
        assert_eq!(filled(Fill::Linear), [None, Some(10.0), Some(20.0), Some(30.0), Some(40.0)]);
    }

    #[test]
    fn more_rows_than_memory_should_hold_are_refused() {
        let mut rows: Rows = [(key("a", 0), Row::default())].into();
        let range = TimeRange { from: 0, to: 365 * DAY };
        let span = crate::time::Span::Clock(1_000);
        let every = Periods::every(span, Zone::Utc);
        let error = fill(&mut rows, Fill::Null, &[], every, range, i64::MAX).unwrap_err();
        assert!(error.to_string().contains("longer periods"), "{error}");
    }

    #[test]
    fn the_day_a_week_before_is_the_same_date_of_the_calendar_where_the_clock_was_set_between() {
        let range = |from: &str, to: &str| TimeRange { from: at(from), to: at(to) };
        for (now, then) in [
            (
                range("2026-10-27T00:00:00+01:00", "2026-10-28T00:00:00+01:00"),
                range("2026-10-20T00:00:00+02:00", "2026-10-21T00:00:00+02:00"),
            ),
            // 02:30 was skipped.
            (
                range("2026-04-05T02:30:00+02:00", "2026-04-05T04:00:00+02:00"),
                range("2026-03-29T03:00:00+02:00", "2026-03-29T04:00:00+02:00"),
            ),
            // From the first half past two to the second quarter past two.
            (
                range("2026-10-25T02:30:00+02:00", "2026-10-25T02:15:00+01:00"),
                range("2026-10-18T02:30:00+02:00", "2026-10-18T03:15:00+02:00"),
            ),
        ] {
            assert_eq!(earlier(zone("Europe/Berlin"), now, 7 * DAY), then);
        }
    }

    fn zone(name: &str) -> Zone {
        Zone::named(name).unwrap()
    }

    fn at(text: &str) -> i64 {
        crate::time::rfc3339(text).unwrap()
    }

    /// The rows of a range and the number of minutes earlier that each is beside, where there is one value a minute in the
    /// earlier range alone.
    fn beside(name: &str, span: &str, from: &str, to: &str, length: i64) -> Vec<(String, f64)> {
        const MINUTE: i64 = 60_000;
        let (zone, range) = (zone(name), TimeRange { from: at(from), to: at(to) });
        let periods = Periods::every(span.parse().unwrap(), zone);
        let earlier = earlier(zone, range, length);
        let by = periods.earlier(length);
        let mut before: BTreeMap<Key, Line> = BTreeMap::new();
        let mut minute = earlier.from;
        while minute < earlier.to {
            let line = Line::of_values(&[(1.0, minute)]);
            let key = key("a", by.name(by.of(minute)));
            before.entry(key).and_modify(|known| known.summary.merge(&line.summary)).or_insert(line);
            minute += MINUTE;
        }
        let mut rows = Rows::new();
        compare(&mut rows, &before, &[Aggregate::Count], periods, range);
        rows.iter()
            .map(|(key, row)| (zone.format(moment(key).unwrap(), "%dT%H:%M%:z"), row.before[0].unwrap()))
            .collect()
    }

    #[test]
    fn each_hour_is_beside_that_of_the_same_time_where_the_clock_is_set_in_either_range() {
        let week = 7 * DAY;
        let berlin = |from: &str, to: &str| beside("Europe/Berlin", "1h", from, to, week);
        let lord_howe = |from: &str, to: &str| beside("Australia/Lord_Howe", "1h", from, to, week);
        let lines = |expected: &[(&str, f64)]| -> Vec<(String, f64)> {
            expected.iter().map(|(start, minutes)| ((*start).to_owned(), *minutes)).collect()
        };
        // Set back in the shown range: both hours are beside the one of a week earlier.
        assert_eq!(
            berlin("2026-10-25T01:00:00+02:00", "2026-10-25T04:00:00+01:00"),
            lines(&[
                ("25T01:00+02:00", 60.0),
                ("25T02:00+02:00", 60.0),
                ("25T02:00+01:00", 60.0),
                ("25T03:00+01:00", 60.0),
            ])
        );
        // Set back in the earlier range: one hour is beside both.
        assert_eq!(
            berlin("2026-11-01T01:00:00+01:00", "2026-11-01T04:00:00+01:00"),
            lines(&[("01T01:00+01:00", 60.0), ("01T02:00+01:00", 120.0), ("01T03:00+01:00", 60.0)])
        );
        // Set forward in the shown range: the skipped hour has no line, and none is beside another one.
        assert_eq!(
            berlin("2026-03-29T01:00:00+01:00", "2026-03-29T04:00:00+02:00"),
            lines(&[("29T01:00+01:00", 60.0), ("29T03:00+02:00", 60.0)])
        );
        // Set forward in the earlier range: there is nothing to compare the hour with.
        assert_eq!(
            berlin("2026-04-05T01:00:00+02:00", "2026-04-05T04:00:00+02:00"),
            lines(&[("05T01:00+02:00", 60.0), ("05T03:00+02:00", 60.0)])
        );
        // By half an hour, from 02:00 back to 01:30 and from 02:00 to 02:30.
        assert_eq!(
            lord_howe("2026-04-05T01:00:00+11:00", "2026-04-05T03:00:00+10:30"),
            lines(&[("05T01:00+11:00", 60.0), ("05T01:30+10:30", 60.0), ("05T02:00+10:30", 60.0)])
        );
        assert_eq!(
            lord_howe("2026-04-12T01:00:00+10:30", "2026-04-12T03:00:00+10:30"),
            lines(&[("12T01:00+10:30", 90.0), ("12T02:00+10:30", 60.0)])
        );
        assert_eq!(
            lord_howe("2026-10-04T01:00:00+10:30", "2026-10-04T04:00:00+11:00"),
            lines(&[("04T01:00+10:30", 60.0), ("04T02:30+11:00", 60.0), ("04T03:00+11:00", 60.0)])
        );
        assert_eq!(
            lord_howe("2026-10-11T01:00:00+11:00", "2026-10-11T04:00:00+11:00"),
            lines(&[("11T01:00+11:00", 60.0), ("11T02:00+11:00", 30.0), ("11T03:00+11:00", 60.0)])
        );
    }

    #[test]
    fn a_range_is_divided_as_the_one_that_it_is_compared_with_whatever_lies_between() {
        // Weeks begin on Monday and months on their first day; 30 days before are neither.
        let weeks = beside("UTC", "1w", "2026-11-09T00:00:00Z", "2026-11-23T00:00:00Z", DAY);
        assert_eq!(weeks, [("09T00:00+00:00".to_owned(), 10_080.0), ("16T00:00+00:00".to_owned(), 10_080.0)]);
        let months = beside("UTC", "1mo", "2026-10-01T00:00:00Z", "2026-12-01T00:00:00Z", 30 * DAY);
        assert_eq!(
            months,
            [("01T00:00+00:00".to_owned(), 31.0 * 1440.0), ("01T00:00+00:00".to_owned(), 30.0 * 1440.0)]
        );
        let hours = beside("UTC", "6h", "2026-11-09T00:00:00Z", "2026-11-09T12:00:00Z", 5 * HOUR);
        assert_eq!(hours, [("09T00:00+00:00".to_owned(), 360.0), ("09T06:00+00:00".to_owned(), 360.0)]);
        // A day of 25 hours.
        let days =
            beside("Europe/Berlin", "1d", "2026-10-25T00:00:00+02:00", "2026-10-27T00:00:00+01:00", DAY);
        assert_eq!(days, [("25T00:00+02:00".to_owned(), 1440.0), ("26T00:00+01:00".to_owned(), 1500.0)]);
    }
}
