//! The picture of `iotctl stats --plot`: which of the statistics it shows, as lines over time or as a map.

use std::collections::BTreeMap;

use super::{DEFAULT_AGG, StatsArgs};
use crate::analytics::stats::{Key, Line, Lines, Part};
use crate::analytics::table::{Aggregate, rows};
use crate::commands::support;
use crate::output::Output;
use crate::plot::files::Picture;
use crate::plot::{Chart, HeatMap, MOST_SERIES, Series, lines};
use crate::reading::Metric;
use crate::series::Point;
use crate::store::sensors::SensorNames;
use crate::time::{Periods, Zone};

/// What a line of a plot is about, in words; empty if it is about everything.
fn subject(key: &Key, names: &SensorNames) -> String {
    let parts: Vec<_> = key
        .iter()
        .filter_map(|part| match part {
            Part::Sensor(sensor) => {
                Some(names.get(*sensor).map_or_else(|| sensor.to_string(), str::to_owned))
            }
            Part::Name(name) => Some(name.to_string()),
            Part::Untagged => Some("without the tag".to_owned()),
            Part::Moment(_) | Part::None => None,
        })
        .collect();
    parts.join(", ")
}

/// A statistic as a picture names it.
fn statistic(aggregate: &Aggregate) -> &str {
    match aggregate {
        Aggregate::Avg => "average",
        other => other.name(),
    }
}

/// The statistics of --agg that a picture shows: the average of the default ones, else those with the metric's unit, which one axis
/// can have. Of several subjects, or as a heat map, only the first.
fn drawn(asked: &[Aggregate], is_one: bool) -> Vec<Aggregate> {
    if is_default(asked) {
        return vec![Aggregate::Avg];
    }
    let has_unit = |aggregate: &&Aggregate| !matches!(aggregate, Aggregate::Count | Aggregate::Sum);
    let mut drawn: Vec<_> = asked.iter().filter(has_unit).cloned().collect();
    if drawn.is_empty() {
        drawn.extend(asked.first().cloned());
    }
    drawn.truncate(if is_one { MOST_SERIES } else { 1 });
    drawn
}

/// The statistics of --agg, of one line between the lowest and the highest value; or one as a map of days by hours.
pub(super) fn picture(
    args: &StatsArgs,
    (metric, unit): (&Metric, Option<&str>),
    (zone, periods): (Zone, Periods),
    found: &Lines,
    names: &SensorNames,
    output: &Output,
) -> Picture {
    let mut by_subject: BTreeMap<Key, Vec<(i64, &Line)>> = BTreeMap::new();
    for (key, line) in &found.lines {
        let Some(at) = rows::moment(key) else { continue };
        by_subject.entry(rows::without_time(key)).or_default().push((at, line));
    }
    let is_single = by_subject.len() <= 1;
    let drawn = drawn(&args.agg, is_single && !args.heat_map);
    note_left_out(&args.agg, &drawn, output);
    let shown: Vec<_> = drawn.iter().map(statistic).collect();
    let unit = unit.filter(|_| drawn != [Aggregate::Count]);
    let title = format!("{} {}", shown.join(", "), lines::title_in(metric, unit));
    let of = support::plot_subject(&args.selection);
    if args.heat_map {
        let hours = by_subject.into_values().flatten();
        let points = hours.filter_map(|(at, line)| Some(Point { at, value: drawn.first()?.value(line) }));
        let title = format!("{title} by day and hour");
        return Picture::HeatMap(HeatMap { title, subject: of, ..HeatMap::of(zone, points) });
    }
    let mut band = Vec::new();
    let mut series: Vec<Series> = Vec::new();
    for (key, found) in &by_subject {
        for aggregate in &drawn {
            let values = found.iter().map(|(at, line)| (*at, aggregate.value(line), &line.summary));
            let (points, range) = lines::values(values, periods);
            let about = subject(key, names);
            let name =
                if about.is_empty() || drawn.len() > 1 { statistic(aggregate).to_owned() } else { about };
            series.push(Series { name, points });
            // A spread, a count or a sum does not lie between the values.
            let is_value = !matches!(aggregate, Aggregate::Count | Aggregate::Sum | Aggregate::Stddev);
            if is_single && is_value {
                band = range;
            }
        }
    }
    if series.len() > MOST_SERIES {
        output.note(format!(
            "drawing {MOST_SERIES} of {} lines (--location or --sensor draws fewer)",
            series.len()
        ));
        series.truncate(MOST_SERIES);
    }
    let band_name = "lowest to highest value".to_owned();
    Picture::Chart(Chart { title, subject: of, series, band, band_name, zone, ..Chart::default() })
}

fn is_default(asked: &[Aggregate]) -> bool {
    asked.iter().map(Aggregate::name).eq(DEFAULT_AGG.split(','))
}

fn note_left_out(asked: &[Aggregate], drawn: &[Aggregate], output: &Output) {
    let is_left_out = |aggregate: &&Aggregate| !drawn.contains(aggregate);
    let left_out: Vec<_> = asked.iter().filter(is_left_out).map(Aggregate::name).collect();
    if !left_out.is_empty() && !is_default(asked) {
        output.note(format!("not drawn: {} (draw each with a --plot of its own)", left_out.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statistics_that_were_asked_for_are_drawn_as_far_as_one_axis_can_show_them() {
        let names = |asked: &str, is_one| {
            let asked: Vec<Aggregate> = asked.split(',').map(|name| name.parse().unwrap()).collect();
            drawn(&asked, is_one).iter().map(statistic).collect::<Vec<_>>().join(",")
        };
        assert_eq!(names(DEFAULT_AGG, true), "average");
        assert_eq!(names("p95", true), "p95");
        assert_eq!(names("count,max,p95", true), "max,p95");
        assert_eq!(names("max,p95", false), "max");
        assert_eq!(names("count,sum", true), "count");
    }
}
