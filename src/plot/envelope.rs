//! A long series made short: of each stretch of time the first, lowest, highest and last value stay, so that a line
//! through them looks as that through all values would, and no extreme is lost.

use std::collections::BTreeMap;

use crate::analytics::series::Point;

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

    /// In order of time.
    pub fn points(&self) -> Vec<Point> {
        let mut points = Vec::with_capacity(self.stretches.len() * 4);
        for Stretch { first, lowest, highest, last } in self.stretches.values() {
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

    proptest! {
        #[test]
        fn extremes_and_ends_survive_in_whatever_order(
            values in prop::collection::vec((-1_000_000i64..1_000_000, -50f64..50.0), 1..6_000),
        ) {
            let mut envelope = Envelope::default();
            values.iter().for_each(|&(at, value)| envelope.add(Point { at, value }));
            let points = envelope.points();
            prop_assert!(points.len() <= 4 * MOST);
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
