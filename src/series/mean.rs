//! Means that stay within their values: rounding of the sum would put the mean of 180 values of 21.3 beside 21.3.

/// A mean that grows value by value, in constant memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mean {
    sum: f64,
    count: u64,
    lowest: f64,
    highest: f64,
}

impl Default for Mean {
    fn default() -> Self {
        Self { sum: 0.0, count: 0, lowest: f64::INFINITY, highest: f64::NEG_INFINITY }
    }
}

impl Mean {
    /// Adds one value.
    pub fn add(&mut self, value: f64) {
        self.merge(Self { sum: value, count: 1, lowest: value, highest: value });
    }

    /// Of values that were added up before, between `lowest` and `highest`.
    pub fn of_sum(sum: f64, count: u64, lowest: f64, highest: f64) -> Self {
        Self { sum, count, lowest, highest }
    }

    /// Adds the values of another mean.
    pub fn merge(&mut self, other: Self) {
        self.sum += other.sum;
        self.count += other.count;
        self.lowest = self.lowest.min(other.lowest);
        self.highest = self.highest.max(other.highest);
    }

    /// The mean, within the lowest and the highest value; `None` without a value.
    pub fn get(&self) -> Option<f64> {
        (self.count > 0).then(|| (self.sum / self.count as f64).max(self.lowest).min(self.highest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_equal_values_is_that_value() {
        let mut mean = Mean::default();
        assert_eq!(mean.get(), None);
        (0..180).for_each(|_| mean.add(21.3));
        assert_eq!(mean.get(), Some(21.3));
        let mut merged = Mean::of_sum(21.3 * 90.0, 90, 21.3, 21.3);
        merged.merge(mean);
        assert_eq!(merged.get(), Some(21.3));
        merged.add(400.0);
        assert!(merged.get().is_some_and(|mean| mean > 21.3 && mean < 400.0));
    }
}
