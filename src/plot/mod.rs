//! Plots of series: in the terminal, or as SVG, PNG and HTML. Their size does not grow with the number of readings.
//!
//! - [`Chart`]: lines over time, with a band, marks and a limit; [`HeatMap`]: days by hours.
//! - [`terminal`]: plots as text; [`files`]: as SVG, PNG or a page. All files are made of one SVG (`svg.rs`).
//! - [`lines`]: what charts of several verbs have in common.
//! - `ticks.rs`: round instants of the shown zone and round values, for both.

use std::path::PathBuf;

use crate::series::Point;
use crate::time::{DAY, HOUR, Zone};

pub(crate) use text::escape;

pub mod files;
pub mod lines;
mod svg;
pub mod terminal;
mod text;
mod ticks;

/// Where a plot goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Terminal,
    /// The ending decides the format: .svg, .png or .html.
    File(PathBuf),
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "-" {
            return Ok(Self::Terminal);
        }
        let path = PathBuf::from(text);
        match files::Kind::of(&path) {
            Some(_) => Ok(Self::File(path)),
            None => {
                Err("write FILE.svg, FILE.png or FILE.html, or --plot without a file for the terminal"
                    .to_owned())
            }
        }
    }
}

/// A line.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    pub name: String,
    /// In order of time. NaN breaks the line.
    pub points: Vec<Point>,
}

/// A range of values at a moment, in milliseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    pub at: i64,
    pub low: f64,
    pub high: f64,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Chart {
    /// What is drawn, such as `average temperature (°C)`.
    pub title: String,
    /// Of which group or sensor.
    pub subject: String,
    pub series: Vec<Series>,
    /// Such as an interval, or minimum to maximum; in order of time.
    pub band: Vec<Range>,
    /// For the legend, as the name of the marks.
    pub band_name: String,
    /// Highlighted points, such as extremes and anomalies.
    pub marks: Vec<Point>,
    pub marks_name: String,
    pub limit: Option<f64>,
    /// The zone of the time axis.
    pub zone: Zone,
}

/// Maximum number of lines in a chart: more cannot be distinguished.
pub const MOST_SERIES: usize = 8;

impl Chart {
    /// First and last moment, lowest and highest value; `None` where there is nothing to draw.
    pub fn bounds(&self) -> Option<((i64, i64), (f64, f64))> {
        let points = self.series.iter().flat_map(|series| &series.points).chain(&self.marks);
        let points = points.map(|point| (point.at, point.value, point.value));
        let band = self.band.iter().map(|range| (range.at, range.low, range.high));
        let all = points.chain(band).filter(|(_, low, high)| low.is_finite() && high.is_finite());
        let (mut time, mut values) = ((i64::MAX, i64::MIN), (f64::INFINITY, f64::NEG_INFINITY));
        for (at, low, high) in all {
            time = (time.0.min(at), time.1.max(at));
            values = (values.0.min(low), values.1.max(high));
        }
        if time.0 > time.1 {
            return None;
        }
        if let Some(limit) = self.limit {
            values = (values.0.min(limit), values.1.max(limit));
        }
        // A single moment and a constant line are drawn in the middle.
        if time.0 == time.1 {
            time = (time.0.saturating_sub(30_000), time.1.saturating_add(30_000));
        }
        let margin = match values.0 < values.1 {
            true => values.1 * 0.05 - values.0 * 0.05,
            false => values.0.abs().max(1.0) * 0.05,
        };
        let (low, high) = ((values.0 - margin).max(f64::MIN), (values.1 + margin).min(f64::MAX));
        Some((time, (low, high)))
    }

    /// Of what, and in which zone its times are.
    pub fn subtitle(&self) -> String {
        let at = self.bounds().map_or(0, |((_, to), _)| to);
        subtitle(&self.subject, self.zone, at)
    }
}

/// Values by day (rows) and hour (24 columns).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HeatMap {
    /// What is drawn, such as `average temperature (°C) by day and hour`.
    pub title: String,
    /// Of which group or sensor.
    pub subject: String,
    /// The day, counted from 1970-01-01, and its hours, both as a clock in the zone shows them.
    pub days: Vec<(i64, [Option<f64>; 24])>,
    /// The zone of days and hours.
    pub zone: Zone,
}

/// A pause longer than this is not drawn as blank rows.
const MAX_BLANK_DAYS: i64 = 366;

impl HeatMap {
    /// From values by hour, in order of time. An hour that a clock shows twice has the mean of both.
    pub fn of(zone: Zone, hours: impl IntoIterator<Item = Point>) -> Self {
        let mut days: Vec<(i64, [Option<f64>; 24])> = Vec::new();
        let mut last: Option<(i64, usize, u32)> = None;
        for point in hours {
            let wall = point.at + zone.offset(point.at);
            let day = wall.div_euclid(DAY);
            let hour = usize::try_from(wall.rem_euclid(DAY) / HOUR).unwrap_or(0);
            match days.last().map(|(day, _)| *day) {
                Some(before) if before == day => {}
                Some(before) if (1..=MAX_BLANK_DAYS).contains(&(day - before)) => {
                    days.extend((before + 1..=day).map(|day| (day, [None; 24])));
                }
                _ => days.push((day, [None; 24])),
            }
            let count = match last {
                Some((known, same, count)) if (known, same) == (day, hour) => count + 1,
                _ => 1,
            };
            last = Some((day, hour, count));
            if let Some((_, hours)) = days.last_mut() {
                let before = hours[hour].unwrap_or(point.value);
                hours[hour] = Some(before + (point.value - before) / f64::from(count));
            }
        }
        Self { days, zone, ..Self::default() }
    }

    pub fn bounds(&self) -> Option<(f64, f64)> {
        let values = self.days.iter().flat_map(|(_, hours)| hours).flatten();
        values.fold(None, |bounds, &value| match bounds {
            None => Some((value, value)),
            Some((low, high)) => Some((value.min(low), value.max(high))),
        })
    }

    /// Of what, and in which zone its days are.
    pub fn subtitle(&self) -> String {
        subtitle(&self.subject, self.zone, self.days.last().map_or(0, |(day, _)| day * DAY))
    }

    /// The date of a row.
    fn day(day: i64) -> String {
        Zone::Utc.format(day.saturating_mul(DAY), "%Y-%m-%d")
    }
}

fn subtitle(subject: &str, zone: Zone, at: i64) -> String {
    let zone = zone_name(zone, at);
    if subject.is_empty() { zone } else { format!("{subject} · {zone}") }
}

/// The zone's name and its offset at the last moment of a picture.
fn zone_name(zone: Zone, at: i64) -> String {
    match zone {
        Zone::Utc => "UTC".to_owned(),
        Zone::Named(_) => format!("{} ({})", zone.name(), ticks::offset_text(zone.offset(at))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_contain_everything_that_is_drawn() {
        let point = |at, value| Point { at, value };
        let chart = Chart {
            series: vec![Series {
                name: "a".into(),
                points: vec![point(5, 1.0), point(7, f64::NAN), point(9, 2.0)],
            }],
            band: vec![Range { at: 11, low: 0.0, high: 3.0 }],
            marks: vec![point(1, 4.0)],
            limit: Some(10.0),
            ..Chart::default()
        };
        let (time, (low, high)) = chart.bounds().unwrap();
        assert_eq!(time, (1, 11));
        assert!(low < 0.0 && high > 10.0);
        assert_eq!(Chart { limit: Some(1.0), ..Chart::default() }.bounds(), None);
    }

    #[test]
    fn a_single_value_stands_in_the_middle_and_the_widest_range_is_finite() {
        let of = |values: &[f64]| {
            let points = values.iter().map(|&value| Point { at: 90_000, value }).collect();
            Chart { series: vec![Series { name: String::new(), points }], ..Chart::default() }.bounds()
        };
        assert_eq!(of(&[0.0]), Some(((60_000, 120_000), (-0.05, 0.05))));
        assert!(
            of(&[f64::MIN, f64::MAX]).is_some_and(|(_, (low, high))| low.is_finite() && high.is_finite())
        );
    }

    #[test]
    fn hours_are_grouped_by_day_and_a_day_without_values_is_blank() {
        let point = |hour: i64| Point { at: hour * HOUR, value: hour as f64 };
        let map = HeatMap::of(Zone::Utc, [point(1), point(23), point(72)]);
        assert_eq!(map.days.iter().map(|(day, _)| *day).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!((map.days[0].1[23], map.days[0].1[2], map.days[3].1[0]), (Some(23.0), None, Some(72.0)));
        assert_eq!(map.days[1].1, [None; 24]);
        assert_eq!(map.bounds(), Some((1.0, 72.0)));
    }

    #[test]
    fn a_heat_map_has_the_days_and_hours_of_the_zone() {
        let berlin = Zone::named("Europe/Berlin").unwrap();
        // The hours of 2026-03-29 (Berlin skips 02:00) and 2026-10-25 (02:00 comes twice there), from local midnight.
        let map = |from: &str, hours: i64| {
            let from = crate::time::rfc3339(from).unwrap();
            let points = (0..hours).map(|hour| Point { at: from + hour * HOUR, value: hour as f64 });
            let map = HeatMap::of(berlin, points);
            assert_eq!(map.days.len(), 1, "{map:?}");
            (HeatMap::day(map.days[0].0), map.days[0].1)
        };
        let (day, hours) = map("2026-03-28T23:00:00Z", 23);
        assert_eq!((day.as_str(), hours[1], hours[2], hours[3]), ("2026-03-29", Some(1.0), None, Some(2.0)));
        let (day, hours) = map("2026-10-24T22:00:00Z", 25);
        assert_eq!(
            (day.as_str(), hours[2], hours[3], hours[23]),
            ("2026-10-25", Some(2.5), Some(4.0), Some(24.0))
        );
        let kolkata = Zone::named("Asia/Kolkata").unwrap();
        let midnight = Point { at: crate::time::rfc3339("2026-07-01T18:30:00Z").unwrap(), value: 1.0 };
        let map = HeatMap::of(kolkata, [midnight]);
        assert_eq!((HeatMap::day(map.days[0].0).as_str(), map.days[0].1[0]), ("2026-07-02", Some(1.0)));
        assert!(map.subtitle().contains("Asia/Kolkata (+05:30)"), "{}", map.subtitle());
    }

    #[test]
    fn the_ending_of_a_file_decides_its_format() {
        assert_eq!("-".parse(), Ok(Target::Terminal));
        assert_eq!("a/b.PNG".parse(), Ok(Target::File("a/b.PNG".into())));
        assert!("picture.gif".parse::<Target>().unwrap_err().contains(".svg"));
    }
}
