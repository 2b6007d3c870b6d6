//! Plots of series: in the terminal, or as SVG, PNG and HTML. Their size does not grow with the number of readings.
//!
//! - [`Chart`]: lines over time, with a band, marks and a limit; [`HeatMap`]: days by hours.
//! - [`terminal`]: plots as text; [`files`]: as SVG, PNG or a page.

use std::path::PathBuf;

use crate::output::record::Clock;
use crate::series::Point;

pub mod files;
pub mod terminal;

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
    /// Such as `temperature (°C)`.
    pub title: String,
    pub series: Vec<Series>,
    /// Such as an interval, or minimum to maximum; in order of time.
    pub band: Vec<Range>,
    /// Highlighted points, such as extremes and anomalies.
    pub marks: Vec<Point>,
    pub limit: Option<f64>,
    /// The zone of the time axis.
    pub clock: Clock,
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
        // A constant line is drawn in the middle.
        let margin =
            if values.0 < values.1 { (values.1 - values.0) * 0.05 } else { values.0.abs().max(1.0) * 0.05 };
        Some(((time.0, time.1.max(time.0 + 1)), (values.0 - margin, values.1 + margin)))
    }
}

/// Values by day (rows) and hour (24 columns).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HeatMap {
    pub title: String,
    /// The start of the day, in milliseconds since the epoch, and its hours.
    pub days: Vec<(i64, [Option<f64>; 24])>,
}

impl HeatMap {
    /// From values by hour, in order of time.
    pub fn of(title: String, hours: impl IntoIterator<Item = Point>) -> Self {
        const HOUR: i64 = 3_600_000;
        let mut days: Vec<(i64, [Option<f64>; 24])> = Vec::new();
        for point in hours {
            let day = point.at.div_euclid(24 * HOUR) * 24 * HOUR;
            let hour = usize::try_from((point.at - day) / HOUR).unwrap_or(0).min(23);
            match days.last_mut() {
                Some((last, hours)) if *last == day => hours[hour] = Some(point.value),
                _ => {
                    let mut hours = [None; 24];
                    hours[hour] = Some(point.value);
                    days.push((day, hours));
                }
            }
        }
        Self { title, days }
    }

    pub fn bounds(&self) -> Option<(f64, f64)> {
        let values = self.days.iter().flat_map(|(_, hours)| hours).flatten();
        values.fold(None, |bounds, &value| match bounds {
            None => Some((value, value)),
            Some((low, high)) => Some((value.min(low), value.max(high))),
        })
    }
}

/// A moment as an axis shows it: the shorter the axis, the finer. `shown` is the axis' length in milliseconds.
fn moment(at: i64, shown: i64, clock: Clock) -> String {
    const DAY: i64 = 86_400_000;
    let pattern = if shown <= DAY {
        "%H:%M"
    } else if shown <= 15 * DAY {
        "%m-%d %H:%M"
    } else {
        "%Y-%m-%d"
    };
    clock.format(at, pattern)
}

/// A value as an axis shows it.
fn value(value: f64, shown: f64) -> String {
    const PLAIN: std::ops::Range<f64> = 1e-5..1e15;
    if shown != 0.0 && !PLAIN.contains(&shown.abs()) {
        return format!("{value:.2e}");
    }
    let decimals = (2.0 - shown.abs().max(1e-12).log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{value:.decimals$}")
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
    fn hours_are_grouped_by_day() {
        let point = |hour: i64| Point { at: hour * 3_600_000, value: hour as f64 };
        let map = HeatMap::of(String::new(), [point(1), point(23), point(24)]);
        assert_eq!(map.days.len(), 2);
        assert_eq!((map.days[0].1[23], map.days[0].1[2], map.days[1].1[0]), (Some(23.0), None, Some(24.0)));
        assert_eq!(map.bounds(), Some((1.0, 24.0)));
    }

    #[test]
    fn the_ending_of_a_file_decides_its_format() {
        assert_eq!("-".parse(), Ok(Target::Terminal));
        assert_eq!("a/b.PNG".parse(), Ok(Target::File("a/b.PNG".into())));
        assert!("picture.gif".parse::<Target>().unwrap_err().contains(".svg"));
    }

    #[test]
    fn axes_show_as_many_digits_as_their_length_needs() {
        assert_eq!((value(20.126, 5.0), value(1013.0, 400.0)), ("20.13".into(), "1013".into()));
        let shown = |at, shown| moment(at, shown, Clock::Utc);
        assert_eq!((shown(3_600_000, 10_000), shown(0, i64::MAX)), ("01:00".into(), "1970-01-01".into()));
    }
}
