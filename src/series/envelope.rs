//! A long series made short: of each stretch of time the first, lowest, highest and last value stay, so that a line
//! through them looks as that through all values would, and no extreme is lost.

use std::collections::BTreeMap;

use crate::series::Point;

/// Stretches that are kept: more than a screen has columns.
const MOST: usize = 2_000;

/// Takes points in any order of time. Memory is bounded.
#[derive(Debug, Clone, Default)]
pub struct Envelope {
    /// Milliseconds; a power of two, doubled when there are too many stretches.
    width: i64,
    stretches: BTreeMap<i64, Stretch>,
}

#[derive(Debug, Clone, Copy)]
struct Stretch {
    first: Point,
    lowest: Point,
    highest: Point,
    last: Point,
}

impl Stretch {
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

impl Envelope {
    pub fn add(&mut self, point: Point) {
        self.width = self.width.max(1);
        let stretch = Stretch { first: point, lowest: point, highest: point, last: point };
        self.put(stretch);
        while self.stretches.len() > MOST {
            self.width *= 2;
            for (_, stretch) in std::mem::take(&mut self.stretches) {
                self.put(stretch);
            }
        }
    }

    fn put(&mut self, stretch: Stretch) {
        let key = stretch.first.at.div_euclid(self.width);
        self.stretches.entry(key).and_modify(|known| known.merge(stretch)).or_insert(stretch);
    }

    /// In order of time, with a NaN where nothing was measured for much longer than usual.
    pub fn points(&self) -> Vec<Point> {
        const MUCH: i64 = 10;
        let stretches: Vec<&Stretch> = self.stretches.values().collect();
        let mut apart: Vec<i64> =
            stretches.windows(2).map(|pair| pair[1].first.at.saturating_sub(pair[0].last.at)).collect();
        let middle = apart.len() / 2;
        let usual = if apart.is_empty() { 0 } else { *apart.select_nth_unstable(middle).1 };
        let longest = usual.max(self.width).saturating_mul(MUCH);
        let mut points: Vec<Point> = Vec::with_capacity(self.stretches.len() * 4);
        for Stretch { first, lowest, highest, last } in stretches {
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
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_long_silence_breaks_the_line() {
        let mut envelope = Envelope::default();
        for at in (0..100).chain(500..600) {
            envelope.add(Point { at: at * 60_000, value: 1.0 });
        }
        let points = envelope.points();
        let breaks: Vec<_> =
            points.iter().filter(|point| point.value.is_nan()).map(|point| point.at).collect();
        assert_eq!(breaks, [99 * 60_000]);
    }

    proptest! {
        #[test]
        fn extremes_and_ends_survive_in_whatever_order(
            values in prop::collection::vec((-1_000_000i64..1_000_000, -50f64..50.0), 1..6_000),
        ) {
            let mut envelope = Envelope::default();
            values.iter().for_each(|&(at, value)| envelope.add(Point { at, value }));
            let points = envelope.points();
            prop_assert!(points.len() <= 5 * MOST);
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
