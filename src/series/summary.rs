//! The summary of a metric's values over a period of time.

use super::Mean;
use super::sketch::Sketch;

/// A value and when it was recorded, in milliseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    pub value: f64,
    pub at: i64,
}

/// The summary of one or more values. Two of them merge into that of all their values.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    pub count: u64,
    pub sum: f64,
    /// The sum of the squared deviations from the mean. The sum of the squares would lose its digits for values that are
    /// large and close to each other, such as pressures.
    pub squares: f64,
    /// The latest of the lowest values, and of the highest.
    pub lowest: Measured,
    pub highest: Measured,
    pub first: Measured,
    pub last: Measured,
    pub sketch: Sketch,
}

impl Summary {
    pub fn of(value: f64, at: i64) -> Self {
        // -0.0 and 0.0 are the same value.
        let measured = Measured { value: value + 0.0, at };
        let mut sketch = Sketch::default();
        sketch.add(value);
        Self {
            count: 1,
            sum: value,
            squares: 0.0,
            lowest: measured,
            highest: measured,
            first: measured,
            last: measured,
            sketch,
        }
    }

    pub fn add(&mut self, value: f64, at: i64) {
        let measured = Measured { value: value + 0.0, at };
        let before = value - self.mean();
        self.count += 1;
        self.sum += value;
        self.offer(measured, measured);
        self.squares += before * (value - self.mean());
        self.widen(measured, measured);
        self.sketch.add(value);
    }

    pub fn merge(&mut self, other: &Self) {
        let (count, others) = (self.count as f64, other.count as f64);
        let apart = other.mean() - self.mean();
        self.squares += other.squares + apart * apart * count * others / (count + others);
        self.count += other.count;
        self.sum += other.sum;
        self.offer(other.lowest, other.highest);
        self.widen(other.first, other.last);
        self.sketch.merge(&other.sketch);
    }

    fn offer(&mut self, lowest: Measured, highest: Measured) {
        if (lowest.value, -lowest.at) < (self.lowest.value, -self.lowest.at) {
            self.lowest = lowest;
        }
        if (highest.value, highest.at) > (self.highest.value, self.highest.at) {
            self.highest = highest;
        }
    }

    fn widen(&mut self, first: Measured, last: Measured) {
        // Of two values of one moment, as two sensors may have, the larger one counts, whichever comes first.
        if (first.at, -first.value) < (self.first.at, -self.first.value) {
            self.first = first;
        }
        if (last.at, last.value) > (self.last.at, self.last.value) {
            self.last = last;
        }
    }

    /// Never outside the lowest and the highest value, whatever rounding does to the sum.
    pub fn mean(&self) -> f64 {
        self.as_mean().get().unwrap_or(f64::NAN)
    }

    /// The values as a [`Mean`], to be merged with others.
    pub fn as_mean(&self) -> Mean {
        Mean::of_sum(self.sum, self.count, self.lowest.value, self.highest.value)
    }

    /// The standard deviation of the population: divided by the number of values.
    pub fn standard_deviation(&self) -> f64 {
        (self.squares.max(0.0) / self.count as f64).sqrt()
    }

    /// See [`Sketch::quantile`].
    pub fn quantile(&self, quantile: f64) -> f64 {
        let value = self.sketch.quantile(quantile).unwrap_or(self.lowest.value);
        value.clamp(self.lowest.value, self.highest.value)
    }

    /// The change from the first value to the last, per hour; `None` if both have the same time.
    pub fn change_per_hour(&self) -> Option<f64> {
        let hours = (self.last.at - self.first.at) as f64 / 3_600_000.0;
        (hours > 0.0).then(|| (self.last.value - self.first.value) / hours)
    }

    /// Whether both are summaries of the same values. Sums may differ by the order in which they were added up.
    pub fn is_same(&self, other: &Self) -> bool {
        self.is_same_without_sketch(other) && self.sketch == other.sketch
    }

    /// The same, whatever the sketches hold.
    pub fn is_same_without_sketch(&self, other: &Self) -> bool {
        let close = |left: f64, right: f64, scale: f64| (left - right).abs() <= 1e-9 * scale.max(1e-30);
        let scale = self.lowest.value.abs().max(self.highest.value.abs());
        let scale = scale * self.count as f64;
        let exact = |summary: &Self| {
            (summary.count, summary.lowest, summary.highest, summary.first.at, summary.last.at)
        };
        exact(self) == exact(other)
            && close(self.sum, other.sum, scale)
            && close(self.squares, other.squares, scale * scale)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn summary(values: &[(f64, i64)]) -> Option<Summary> {
        let (&(value, at), rest) = values.split_first()?;
        let mut summary = Summary::of(value, at);
        rest.iter().for_each(|&(value, at)| summary.add(value, at));
        Some(summary)
    }

    #[test]
    fn close_values_keep_their_deviation() {
        let values: Vec<(f64, i64)> = (0..1_000).map(|n| (1013.25 + (n % 2) as f64 * 0.125, n)).collect();
        let deviation = summary(&values).unwrap().standard_deviation();
        assert!((deviation - 0.0625).abs() < 1e-9, "{deviation}");
    }

    #[test]
    fn of_equal_extremes_the_latest_moment_counts_and_minus_zero_is_zero() {
        let summary = summary(&[(0.0, 5), (-0.0, 9), (-0.0, 7)]).unwrap();
        assert_eq!((summary.lowest.at, summary.highest.at), (9, 9));
        assert!(summary.lowest.value.is_sign_positive());
    }

    #[test]
    fn of_values_with_one_moment_the_larger_is_first_and_last_in_any_order() {
        for values in [[(1.0, 5), (3.0, 5), (2.0, 5)], [(3.0, 5), (1.0, 5), (2.0, 5)]] {
            let summary = summary(&values).unwrap();
            assert_eq!((summary.first.value, summary.last.value), (3.0, 3.0));
        }
    }

    proptest! {
        #[test]
        fn merged_parts_are_the_whole_and_the_whole_is_brute_force(
            values in prop::collection::vec((-1000f64..1000.0, 0i64..1_000_000), 1..100),
            cut in 0usize..100,
        ) {
            let (one, other) = values.split_at(cut.min(values.len()));
            let whole = summary(&values).unwrap();
            let merged = match (summary(one), summary(other)) {
                (Some(mut one), Some(other)) => { one.merge(&other); one }
                (one, other) => one.or(other).unwrap(),
            };
            prop_assert!(merged.is_same(&whole), "{:?} {:?}", merged, whole);
            let count = values.len() as f64;
            let mean = values.iter().map(|(value, _)| *value).sum::<f64>() / count;
            let variance = values.iter().map(|(value, _)| (value - mean).powi(2)).sum::<f64>() / count;
            prop_assert!((whole.mean() - mean).abs() < 1e-6);
            prop_assert!((whole.standard_deviation() - variance.sqrt()).abs() < 1e-6);
            let highest = values.iter().map(|(value, _)| *value).fold(f64::MIN, f64::max);
            let at = values.iter().filter(|(value, _)| *value == highest).map(|(_, at)| *at).max();
            prop_assert_eq!((whole.highest.value, Some(whole.highest.at)), (highest, at));
        }
    }
}
