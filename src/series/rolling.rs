//! The last values of a series, by age and by size.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::robust::Centre;

/// The last values, by age and by size.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Rolling {
    by_age: VecDeque<f64>,
    sorted: Vec<f64>,
}

impl Rolling {
    pub fn len(&self) -> usize {
        self.by_age.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_age.is_empty()
    }

    /// Median and spread; `None` without a value.
    pub fn centre(&self) -> Option<Centre> {
        Centre::of_sorted(&self.sorted)
    }

    /// Adds a value. If there are `max` already, it takes the place of the oldest.
    pub fn remember(&mut self, value: f64, max: usize) {
        if self.by_age.len() >= max
            && let Some(oldest) = self.by_age.pop_front()
        {
            let index = self.sorted.partition_point(|other| other.total_cmp(&oldest).is_lt());
            self.sorted.remove(index);
        }
        self.by_age.push_back(value);
        let index = self.sorted.partition_point(|other| other.total_cmp(&value).is_lt());
        self.sorted.insert(index, value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_window_holds_the_last_values_in_both_orders(values in prop::collection::vec(-9i16..9, 1..80)) {
            let mut window = Rolling::default();
            for (index, value) in values.iter().enumerate() {
                window.remember(f64::from(*value), 16);
                let mut expected: Vec<f64> =
                    values[(index + 1).saturating_sub(16)..=index].iter().copied().map(f64::from).collect();
                prop_assert_eq!(&window.by_age, &VecDeque::from(expected.clone()));
                expected.sort_by(f64::total_cmp);
                prop_assert_eq!(&window.sorted, &expected);
            }
        }
    }
}
