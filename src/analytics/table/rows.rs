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

/// The same time of the clock, `length` earlier (later if negative).
pub fn earlier(zone: Zone, at: i64, length: i64) -> i64 {
    zone.earliest(at.saturating_add(zone.offset(at)).saturating_sub(length))
}

/// Puts the lines of a range that lies `length` before beside the rows of the same time of the clock.
pub fn compare(
    rows: &mut Rows,
    before: &BTreeMap<Key, Line>,
    aggregates: &[Aggregate],
    zone: Zone,
    length: i64,
) {
    for (key, line) in before {
        let key = key.clone().map(|part| match part {
            Part::Moment(at) => Part::Moment(earlier(zone, at, -length)),
            other => other,
        });
        let row = rows.entry(key).or_insert_with(|| Row {
            group: Some(line.group.clone()),
            values: vec![None; aggregates.len()],
            ..Row::default()
        });
        row.before = values(line, aggregates);
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
        let berlin = Zone::named("Europe/Berlin").unwrap();
        // Midnight of 2026-10-27 and of 2026-10-20, before the clock was set back.
        let (after, before) = (1_793_055_600_000, 1_792_447_200_000);
        assert_eq!(earlier(berlin, after, 7 * DAY), before);
        assert_eq!(earlier(berlin, before, -7 * DAY), after);
    }
}
