//! Exact quantiles. Equal values are counted together, so memory grows with the number of different values.

use std::collections::HashMap;

/// Values with their counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExactQuantiles {
    /// By the bits of the value.
    counts: HashMap<u64, u64>,
}

impl ExactQuantiles {
    /// Adds a value. Returns whether it was new, so that callers can limit the memory.
    pub fn add(&mut self, value: f64) -> bool {
        // -0.0 and 0.0 are the same value.
        let count = self.counts.entry((value + 0.0).to_bits()).or_default();
        *count += 1;
        *count == 1
    }

    /// The values that a share of all values does not exceed (nearest rank), one per quantile; none without values.
    pub fn quantiles(&self, quantiles: &[f64]) -> Vec<f64> {
        let mut sorted: Vec<(f64, u64)> =
            self.counts.iter().map(|(&bits, &count)| (f64::from_bits(bits), count)).collect();
        sorted.sort_unstable_by(|(left, _), (right, _)| left.total_cmp(right));
        let mut total = 0;
        for (_, count) in &mut sorted {
            total += *count;
            *count = total;
        }
        let Some(&(last, _)) = sorted.last() else { return Vec::new() };
        let value = |quantile: &f64| {
            let rank = ((quantile * total as f64).ceil() as u64).max(1);
            let index = sorted.partition_point(|(_, up_to)| *up_to < rank);
            sorted.get(index).map_or(last, |(value, _)| *value)
        };
        quantiles.iter().map(value).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn quantiles_are_those_of_sorted_values(values in prop::collection::vec(-20i32..20, 0..60)) {
            let mut exact = ExactQuantiles::default();
            let new = values.iter().filter(|value| exact.add(f64::from(**value) / 4.0)).count();
            let mut sorted = values;
            sorted.sort_unstable();
            let rank = |quantile: f64| ((quantile * sorted.len() as f64).ceil() as usize).max(1) - 1;
            let wanted = [0.0, 0.5, 0.9, 0.99, 1.0];
            let expected = wanted.iter().filter(|_| !sorted.is_empty()).map(|&q| f64::from(sorted[rank(q)]) / 4.0);
            prop_assert_eq!(exact.quantiles(&wanted), expected.collect::<Vec<_>>());
            sorted.dedup();
            prop_assert_eq!(new, sorted.len());
        }
    }
}
