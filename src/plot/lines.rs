//! What charts of several verbs have in common: the name of a metric, means between their extremes, and forecasts.

use super::{Range, Series};
use crate::output::text;
use crate::reading::Metric;
use crate::series::{Point, Regular, Step, Summary};
use crate::time::Periods;

/// A metric as titles name it: `temperature (°C)`.
pub fn title(metric: &Metric) -> String {
    title_in(metric, metric.unit())
}

/// In a unit that the metric does not have of itself.
pub fn title_in(metric: &Metric, unit: Option<&str>) -> String {
    let unit = unit.map(|unit| format!(" ({})", text::visible(unit))).unwrap_or_default();
    format!("{}{unit}", text::visible(metric.name()))
}

/// The means of successive periods, and the range from the lowest to the highest value of each. A period without values is a
/// gap in both.
pub fn means<'s>(
    summaries: impl Iterator<Item = (i64, &'s Summary)>,
    periods: Periods,
) -> (Vec<Point>, Vec<Range>) {
    values(summaries.map(|(at, summary)| (at, summary.mean(), summary)), periods)
}

/// As [`means`], with another statistic of each period.
pub fn values<'s>(
    values: impl Iterator<Item = (i64, f64, &'s Summary)>,
    periods: Periods,
) -> (Vec<Point>, Vec<Range>) {
    let (mut points, mut band): (Vec<Point>, Vec<Range>) = (Vec::new(), Vec::new());
    for (at, value, summary) in values {
        if let Some(end) = points.last().map(|last| periods.of(last.at).to).filter(|end| at > *end) {
            points.push(Point { at: end, value: f64::NAN });
            band.push(Range { at: end, low: f64::NAN, high: f64::NAN });
        }
        points.push(Point { at, value });
        band.push(Range { at, low: summary.lowest.value, high: summary.highest.value });
    }
    (points, band)
}

/// The end of the past, three times as long as the forecast, and the forecast with its interval.
pub fn forecast(past: &Regular, steps: &[Step]) -> (Vec<Series>, Vec<Range>) {
    let from = past.len().saturating_sub(3 * steps.len());
    let measured: Vec<Point> =
        (from..past.len()).map(|index| Point { at: past.at(index), value: past.values[index] }).collect();
    // The forecast starts where the measured line ends: both would seem to have a gap between them otherwise.
    let joint = measured.iter().rfind(|point| point.value.is_finite()).copied();
    let next = steps.iter().map(|step| Point { at: step.at, value: step.value });
    let intervals = steps.iter().map(|step| Range { at: step.at, low: step.low, high: step.high });
    let band = joint.map(|Point { at, value }| Range { at, low: value, high: value });
    let line = |name: &str, points: Vec<Point>| Series { name: name.to_owned(), points };
    let next = line("forecast", joint.into_iter().chain(next).collect());
    (vec![line("measured", measured), next], band.into_iter().chain(intervals).collect())
}
