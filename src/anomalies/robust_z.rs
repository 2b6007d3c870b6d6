//! Values far from the sensor's own median, in units of its median absolute deviation.

use super::{Finding, Sensitivity};
use crate::series::Point;
use crate::series::robust::Centre;

/// Fewer values do not show what is usual.
pub const FEWEST: usize = 8;

/// The points beyond the sensitivity's deviations, in their order.
pub fn find(points: &[Point], sensitivity: Sensitivity) -> Vec<Finding> {
    let mut values: Vec<f64> = points.iter().map(|point| point.value).collect();
    let Some(centre) = Centre::of(&mut values).filter(|_| points.len() >= FEWEST) else { return Vec::new() };
    let finding = |point: &Point| {
        let score = centre.score(point.value)?;
        let is_far = score.abs() > sensitivity.deviations();
        is_far.then_some(Finding { point: *point, expected: centre.median, score: Some(score) })
    };
    points.iter().filter_map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::tests::points;

    #[test]
    fn a_value_far_from_the_median_is_found_and_its_score_is_in_deviations() {
        let mut values = [20.0, 20.5, 21.0, 21.5, 22.0].repeat(20);
        values[50] = 46.0;
        let found = find(&points(&values), Sensitivity::DEFAULT);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].point.value, found[0].expected), (46.0, 21.0));
        // MAD 0.5: (46 - 21) / (1.4826 * 0.5).
        assert!((found[0].score.unwrap() - 33.7246).abs() < 1e-3, "{found:?}");
    }

    #[test]
    fn ordinary_noise_and_constant_or_short_series_have_nothing_unusual() {
        assert!(find(&points(&[20.0, 20.5, 21.0, 21.5, 22.0].repeat(20)), Sensitivity::DEFAULT).is_empty());
        assert!(find(&points(&[20.0; 100]), Sensitivity::DEFAULT).is_empty());
        assert!(find(&points(&[1.0, 1.0, 2.0, 90.0]), Sensitivity::DEFAULT).is_empty());
    }
}
