//! A series of any length made short enough to draw. Of each column of time the first, lowest, highest and last value
//! stay at their own moments (M4: Jugel, Jerzak, Hackenbroich and Markl, 2014), so that a line through them looks like
//! the line through all values and no extreme is lost. Memory is bounded by the number of columns.

use std::collections::BTreeMap;

use crate::series::{Mean, Point};

/// Columns of a series whose range is not known in advance: more than a screen has.
const MAX_COLUMNS: usize = 2_000;
/// A pause this many times longer than usual breaks the line.
const BREAK: i64 = 10;

/// Takes in points in any order.
#[derive(Debug, Clone)]
pub struct Downsampler {
    grid: Grid,
    columns: BTreeMap<i64, Column>,
    count: u64,
    mean: Mean,
}

/// Where columns begin and end.
#[derive(Debug, Clone, Copy)]
enum Grid {
    /// A range that is known: points outside of `[from, to)` belong to the nearest column.
    Range { from: i64, to: i64, columns: usize },
    /// A width in milliseconds that doubles when there are too many columns.
    Growing { width: i64 },
}

#[derive(Debug, Clone, Copy)]
struct Column {
    first: Point,
    lowest: Point,
    highest: Point,
    last: Point,
}

/// The extremes of each column, and what holds for all points.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Extremes {
    /// In order of time: at most two per column, and the first and the last of all.
    pub points: Vec<Point>,
    /// Number of points taken in.
    pub count: u64,
    pub mean: Option<f64>,
    pub lowest: Option<f64>,
    pub highest: Option<f64>,
}

impl Grid {
    fn column(self, at: i64) -> i64 {
        match self {
            Self::Range { from, to, columns } => {
                let share = (at as f64 - from as f64) / (to as f64 - from as f64).max(1.0);
                // `as` saturates: what is before the range is in the first column.
                ((share * columns as f64) as usize).min(columns - 1) as i64
            }
            Self::Growing { width } => at.div_euclid(width),
        }
    }
}

impl Column {
    fn of(point: Point) -> Self {
        Self { first: point, lowest: point, highest: point, last: point }
    }

    fn merge(&mut self, other: Self) {
        if other.first.at < self.first.at {
            self.first = other.first;
        }
        if other.last.at >= self.last.at {
            self.last = other.last;
        }
        if other.lowest.value < self.lowest.value {
            self.lowest = other.lowest;
        }
        if other.highest.value > self.highest.value {
            self.highest = other.highest;
        }
    }
}

impl Default for Downsampler {
    /// For a range that is not known in advance.
    fn default() -> Self {
        Self { grid: Grid::Growing { width: 1 }, columns: BTreeMap::new(), count: 0, mean: Mean::default() }
    }
}

impl Downsampler {
    /// For moments in `[from, to)`, in milliseconds since the epoch.
    pub fn within(from: i64, to: i64, columns: usize) -> Self {
        Self { grid: Grid::Range { from, to, columns: columns.max(1) }, ..Self::default() }
    }

    pub fn add(&mut self, point: Point) {
        self.count += 1;
        self.mean.add(point.value);
        self.merge(Column::of(point));
        while let Grid::Growing { width } = &mut self.grid
            && self.columns.len() > MAX_COLUMNS
        {
            *width *= 2;
            std::mem::take(&mut self.columns).into_values().for_each(|column| self.merge(column));
        }
    }

    fn merge(&mut self, column: Column) {
        let key = self.grid.column(column.first.at);
        self.columns.entry(key).and_modify(|known| known.merge(column)).or_insert(column);
    }

    /// The lowest and the highest point of each column.
    pub fn extremes(&self) -> Extremes {
        let columns = self.columns.values();
        let first = columns.clone().map(|column| column.first).min_by_key(|point| point.at);
        let last = columns.clone().map(|column| column.last).max_by_key(|point| point.at);
        let lowest = columns.clone().map(|column| column.lowest.value).reduce(f64::min);
        let highest = columns.clone().map(|column| column.highest.value).reduce(f64::max);
        let mut points: Vec<Point> =
            columns.flat_map(|column| [column.lowest, column.highest]).chain(first).chain(last).collect();
        points.sort_by(|left, right| left.at.cmp(&right.at).then(left.value.total_cmp(&right.value)));
        points.dedup();
        Extremes { points, count: self.count, mean: self.mean.get(), lowest, highest }
    }

    /// The four points of each column in order of time, with a NaN where nothing was measured for much longer than
    /// usual.
    pub fn polyline(&self) -> Vec<Point> {
        let columns: Vec<&Column> = self.columns.values().collect();
        let mut pauses: Vec<i64> =
            columns.windows(2).map(|pair| pair[1].first.at.saturating_sub(pair[0].last.at)).collect();
        let middle = pauses.len() / 2;
        let usual = if pauses.is_empty() { 0 } else { *pauses.select_nth_unstable(middle).1 };
        let longest = usual.max(self.width()).saturating_mul(BREAK);
        let mut points: Vec<Point> = Vec::with_capacity(columns.len() * 4);
        for Column { first, lowest, highest, last } in columns {
            let before = points.last().map(|before| before.at);
            if let Some(at) = before.filter(|at| first.at.saturating_sub(*at) > longest) {
                points.push(Point { at, value: f64::NAN });
            }
            let mut four = [*first, *lowest, *highest, *last];
            four.sort_by_key(|point| point.at);
            for point in four {
                if points.last() != Some(&point) {
                    points.push(point);
                }
            }
        }
        points
    }

    /// Of a column, in milliseconds.
    fn width(&self) -> i64 {
        match self.grid {
            Grid::Range { from, to, columns } => to.saturating_sub(from) / columns as i64,
            Grid::Growing { width } => width,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn extremes(points: &[Point], columns: usize) -> Extremes {
        let mut sampler = Downsampler::within(0, 1_000, columns);
        points.iter().for_each(|point| sampler.add(*point));
        sampler.extremes()
    }

    #[test]
    fn a_single_spike_among_many_survives() {
        let mut points: Vec<_> = (0..1_000).map(|at| Point { at, value: 20.0 }).collect();
        points[617].value = 99.0;
        let drawn = extremes(&points, 10);
        assert!(drawn.points.contains(&Point { at: 617, value: 99.0 }), "{drawn:?}");
        assert_eq!((drawn.count, drawn.lowest, drawn.highest), (1_000, Some(20.0), Some(99.0)));
    }

    #[test]
    fn nothing_stays_nothing() {
        assert_eq!(extremes(&[], 10), Extremes::default());
        assert_eq!(Downsampler::default().polyline(), []);
    }

    #[test]
    fn a_long_silence_breaks_the_line() {
        let moments = || (0..100).chain(500..600).map(|minute| minute * 60_000);
        for mut sampler in [Downsampler::default(), Downsampler::within(0, 600 * 60_000, 1_000)] {
            moments().for_each(|at| sampler.add(Point { at, value: 1.0 }));
            let points = sampler.polyline();
            let breaks: Vec<_> =
                points.iter().filter(|point| point.value.is_nan()).map(|point| point.at).collect();
            assert_eq!(breaks, [99 * 60_000]);
        }
    }

    proptest! {
        #[test]
        fn extremes_ends_and_bounds_hold_within_a_range(
            points in prop::collection::vec((-50i64..1_200, -9.0f64..9.0), 1..300),
            columns in 1usize..40,
        ) {
            let points: Vec<_> = points.into_iter().map(|(at, value)| Point { at, value }).collect();
            let drawn = extremes(&points, columns);
            prop_assert!(drawn.points.len() <= 2 * columns + 2);
            prop_assert!(drawn.points.iter().all(|point| points.contains(point)));
            prop_assert!(drawn.points.windows(2).all(|pair| pair[0].at <= pair[1].at));
            let values = || points.iter().map(|point| point.value);
            prop_assert_eq!(drawn.lowest, values().reduce(f64::min));
            prop_assert_eq!(drawn.highest, values().reduce(f64::max));
            let drawn_values = || drawn.points.iter().map(|point| point.value);
            prop_assert_eq!(drawn_values().reduce(f64::min), values().reduce(f64::min));
            prop_assert_eq!(drawn_values().reduce(f64::max), values().reduce(f64::max));
            prop_assert_eq!(drawn.points.first().map(|p| p.at), points.iter().map(|p| p.at).min());
            prop_assert_eq!(drawn.points.last().map(|p| p.at), points.iter().map(|p| p.at).max());
        }

        #[test]
        fn extremes_and_ends_survive_in_any_order_of_an_unknown_range(
            values in prop::collection::vec((-1_000_000i64..1_000_000, -50f64..50.0), 1..6_000),
        ) {
            let mut sampler = Downsampler::default();
            values.iter().for_each(|&(at, value)| sampler.add(Point { at, value }));
            let points = sampler.polyline();
            prop_assert!(points.len() <= 5 * MAX_COLUMNS);
            prop_assert!(points.windows(2).all(|pair| pair[0].at <= pair[1].at));
            let lowest = values.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
            let highest = values.iter().map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max);
            prop_assert!(points.iter().any(|point| point.value == lowest));
            prop_assert!(points.iter().any(|point| point.value == highest));
            let first = values.iter().map(|(at, _)| *at).min();
            prop_assert_eq!(points.first().map(|point| point.at), first);
        }
    }
}
