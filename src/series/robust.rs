//! Median and spread, which a few outliers do not move.

/// For normal values the median absolute deviation times this is the standard deviation.
const MAD_TO_DEVIATION: f64 = 1.482_602_218_505_602;
/// The same for the mean absolute deviation.
const MEAN_DEVIATION_TO_DEVIATION: f64 = 1.253_314_137_315_5;

/// Median and spread of values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Centre {
    pub median: f64,
    /// A robust standard deviation. If more than half of the values are equal, the median absolute deviation is 0, and the
    /// mean absolute deviation is used instead. 0 only if all values are equal.
    pub deviation: f64,
}

impl Centre {
    /// `None` without a value. Reorders `values`, which must not contain NaN.
    pub fn of(values: &mut [f64]) -> Option<Self> {
        let median = median(values)?;
        for value in values.iter_mut() {
            *value = (*value - median).abs();
        }
        let deviation = match self::median(values)? * MAD_TO_DEVIATION {
            0.0 => values.iter().sum::<f64>() / values.len() as f64 * MEAN_DEVIATION_TO_DEVIATION,
            deviation => deviation,
        };
        Some(Self { median, deviation })
    }

    /// The same for values in ascending order, without changing them. The distances from the median grow on both sides, so
    /// they are visited in ascending order up to the middle one.
    pub fn of_sorted(sorted: &[f64]) -> Option<Self> {
        let length = sorted.len();
        let at = |index: usize| sorted.get(index).copied();
        let upper = at(length / 2)?;
        let median = if length.is_multiple_of(2) { at(length / 2 - 1)?.midpoint(upper) } else { upper };
        let split = sorted.partition_point(|value| *value < median);
        let (mut below, mut above) = (split, split);
        let mut nearest = || {
            let left = below.checked_sub(1).and_then(at).map(|value| median - value);
            let right = at(above).map(|value| value - median);
            match (left, right) {
                (Some(left), right) if right.is_none_or(|right| left <= right) => {
                    below -= 1;
                    Some(left)
                }
                (_, right) => {
                    above += 1;
                    right
                }
            }
        };
        let (mut before, mut middle) = (0.0, 0.0);
        for _ in 0..=length / 2 {
            before = middle;
            middle = nearest()?;
        }
        let median_deviation = if length.is_multiple_of(2) { before.midpoint(middle) } else { middle };
        let deviation = match median_deviation * MAD_TO_DEVIATION {
            0.0 => {
                let sum: f64 = sorted.iter().map(|value| (value - median).abs()).sum();
                sum / length as f64 * MEAN_DEVIATION_TO_DEVIATION
            }
            deviation => deviation,
        };
        Some(Self { median, deviation })
    }

    /// The distance of `value` from the median in robust standard deviations; `None` if all values are equal.
    pub fn score(&self, value: f64) -> Option<f64> {
        (self.deviation > 0.0).then(|| (value - self.median) / self.deviation)
    }

    /// The score of a further value beside the `count` values of this centre. If all of those are equal, the value counts in
    /// the mean absolute deviation, as it does when a whole series is judged: so a jump of a constant series has a score.
    /// The deviation is taken as at least `min_deviation`. `None` if all values are equal.
    pub fn score_of_another(&self, value: f64, count: usize, min_deviation: f64) -> Option<f64> {
        let deviation = match self.deviation {
            0.0 => (value - self.median).abs() / (count + 1) as f64 * MEAN_DEVIATION_TO_DEVIATION,
            deviation => deviation,
        };
        Self { median: self.median, deviation: deviation.max(min_deviation) }.score(value)
    }
}

/// The median; for an even number of values the mean of the two in the middle. Reorders `values`, which must not contain
/// NaN.
pub fn median(values: &mut [f64]) -> Option<f64> {
    let middle = values.len() / 2;
    if values.is_empty() {
        return None;
    }
    let is_even = values.len().is_multiple_of(2);
    let (below, &mut upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    if !is_even {
        return Some(upper);
    }
    let lower = below.iter().copied().max_by(f64::total_cmp)?;
    Some(lower.midpoint(upper))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wild_values_do_not_move_it() {
        // R: median(x) = 10, mad(x) = 1.4826.
        let centre = Centre::of(&mut [8.0, 9.0, 10.0, 11.0, 12.0, 1e9, 10.0]).unwrap();
        assert_eq!(centre.median, 10.0);
        assert!((centre.deviation - 1.4826).abs() < 1e-4, "{centre:?}");
        assert!((centre.score(13.0).unwrap() - 3.0 / 1.4826).abs() < 1e-4);
    }

    #[test]
    fn values_that_are_mostly_the_same_still_have_a_spread() {
        let centre = Centre::of(&mut [5.0, 5.0, 5.0, 5.0, 9.0]).unwrap();
        assert!((centre.deviation - 0.8 * 1.253_314).abs() < 1e-5, "{centre:?}");
        assert_eq!(Centre::of(&mut [5.0, 5.0]).unwrap().score(9.0), None);
        assert_eq!(Centre::of(&mut []), None);
    }

    #[test]
    fn a_jump_of_a_constant_series_scores_as_it_does_in_the_whole_series() {
        let mut series = vec![5.0; 100];
        let constant = Centre::of(&mut series.clone()).unwrap();
        assert_eq!(constant.score_of_another(5.0, 100, 0.0), None);
        let live = constant.score_of_another(500.0, 100, 0.0).unwrap();
        series.push(500.0);
        let batch = Centre::of(&mut series).unwrap().score(500.0).unwrap();
        assert!((live - batch).abs() < 1e-9 && (live - 80.6).abs() < 0.1, "{live}, {batch}");
        assert_eq!(constant.score_of_another(5.5, 100, 0.25), Some(2.0));
    }

    proptest! {
        #[test]
        fn sorted_values_have_the_same_centre(values in prop::collection::vec(-20i16..20, 0..40)) {
            let mut sorted: Vec<f64> = values.iter().map(|value| f64::from(*value) / 4.0).collect();
            sorted.sort_by(f64::total_cmp);
            let mut copied: Vec<f64> = sorted.clone();
            prop_assert_eq!(Centre::of_sorted(&sorted), Centre::of(&mut copied));
        }

        #[test]
        fn the_median_is_the_one_of_sorted_values(values in prop::collection::vec(-1e6f64..1e6, 1..40)) {
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let half = sorted.len() / 2;
            let expected =
                if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 };
            let found = median(&mut values.clone()).unwrap();
            prop_assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1.0));
        }
    }
}
