//! A series of any length in as many columns as a screen has: of each column the lowest and the highest value stay,
//! at their own moments, so that no spike is lost. Memory grows with the columns alone.

use crate::series::Point;

/// One column's lowest and highest point.
#[derive(Debug, Clone, Copy)]
struct Column {
    lowest: Point,
    highest: Point,
}

/// Takes in points in any order.
#[derive(Debug)]
pub struct Downsampler {
    from: i64,
    to: i64,
    columns: Vec<Option<Column>>,
    count: u64,
    sum: f64,
    first: Option<Point>,
    last: Option<Point>,
}

/// What is left to draw, and what was said of all points.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Downsampled {
    /// In order of time; at most two a column, and the first and the last of all.
    pub points: Vec<Point>,
    /// Of all points taken in.
    pub count: u64,
    pub mean: Option<f64>,
    pub lowest: Option<f64>,
    pub highest: Option<f64>,
}

impl Downsampler {
    /// For moments in `[from, to)`; what lies outside is counted to the nearest column.
    pub fn new(from: i64, to: i64, columns: usize) -> Self {
        let columns = vec![None; columns.max(1)];
        Self { from, to, columns, count: 0, sum: 0.0, first: None, last: None }
    }

    pub fn add(&mut self, point: Point) {
        let share = (point.at as f64 - self.from as f64) / (self.to as f64 - self.from as f64).max(1.0);
        // `as` saturates: what is before the range is in the first column.
        let index = ((share * self.columns.len() as f64) as usize).min(self.columns.len() - 1);
        match &mut self.columns[index] {
            Some(column) if point.value < column.lowest.value => column.lowest = point,
            Some(column) if point.value > column.highest.value => column.highest = point,
            Some(_) => {}
            empty => *empty = Some(Column { lowest: point, highest: point }),
        }
        self.count += 1;
        self.sum += point.value;
        if self.first.is_none_or(|first| point.at < first.at) {
            self.first = Some(point);
        }
        if self.last.is_none_or(|last| point.at >= last.at) {
            self.last = Some(point);
        }
    }

    pub fn finish(self) -> Downsampled {
        let columns = self.columns.iter().flatten();
        let lowest = columns.clone().map(|column| column.lowest.value).reduce(f64::min);
        let highest = columns.clone().map(|column| column.highest.value).reduce(f64::max);
        let mut points: Vec<Point> = columns
            .flat_map(|column| [column.lowest, column.highest])
            .chain(self.first)
            .chain(self.last)
            .collect();
        points.sort_by(|left, right| left.at.cmp(&right.at).then(left.value.total_cmp(&right.value)));
        points.dedup();
        let mean = (self.count > 0).then(|| self.sum / self.count as f64);
        Downsampled { points, count: self.count, mean, lowest, highest }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(points: &[Point], columns: usize) -> Downsampled {
        let mut sampler = Downsampler::new(0, 1_000, columns);
        points.iter().for_each(|point| sampler.add(*point));
        sampler.finish()
    }

    #[test]
    fn a_single_spike_among_many_survives() {
        let mut points: Vec<_> = (0..1_000).map(|at| Point { at, value: 20.0 }).collect();
        points[617].value = 99.0;
        let drawn = of(&points, 10);
        assert!(drawn.points.contains(&Point { at: 617, value: 99.0 }), "{drawn:?}");
        assert_eq!((drawn.count, drawn.lowest, drawn.highest), (1_000, Some(20.0), Some(99.0)));
    }

    #[test]
    fn nothing_stays_nothing() {
        assert_eq!(of(&[], 10), Downsampled::default());
    }

    proptest! {
        #[test]
        fn extremes_ends_and_bounds_hold(
            points in prop::collection::vec((-50i64..1_200, -9.0f64..9.0), 1..300),
            columns in 1usize..40,
        ) {
            let points: Vec<_> = points.into_iter().map(|(at, value)| Point { at, value }).collect();
            let drawn = of(&points, columns);
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
    }
}
