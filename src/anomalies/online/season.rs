//! What is usual at this time of the day or of the week.

use serde::{Deserialize, Serialize};

/// The usual value in each slot of a period; it follows the newest values.
///
/// A sensor without this season has nearly the same value in all slots, and its distances are those from its level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Season {
    /// Milliseconds.
    period: i64,
    usual: Vec<f32>,
    /// Number of values per slot, no more counted than the weight needs.
    counts: Vec<u8>,
    /// The least weight of the newest value.
    weight: f32,
    /// The time of the first value.
    #[serde(default)]
    first: Option<i64>,
}

impl Season {
    pub(super) fn new(period: i64, slots: usize, weight: f32) -> Self {
        Self { period, usual: vec![0.0; slots], counts: vec![0; slots], weight, first: None }
    }

    /// Whether a whole period has passed: values of this slot are those of earlier periods, too.
    pub(super) fn is_in_use(&self, at: i64) -> bool {
        self.first.is_some_and(|first| at.saturating_sub(first) >= self.period)
    }

    /// The distance from what was usual in this slot; `None` for a slot without a value. Then adds the value.
    pub(super) fn distance(&mut self, at: i64, value: f32) -> Option<f64> {
        self.first.get_or_insert(at);
        let length = (self.period / self.usual.len().max(1) as i64).max(1);
        let slot = (at.rem_euclid(self.period) / length) as usize;
        let (Some(usual), Some(count)) = (self.usual.get_mut(slot), self.counts.get_mut(slot)) else {
            return None;
        };
        let distance = (*count > 0).then(|| f64::from((value - *usual).abs()));
        *count = count.saturating_add(1);
        *usual += (value - *usual) * self.weight.max(1.0 / f32::from(*count));
        distance
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_season_is_in_use_after_a_whole_period() {
        let mut season = Season::new(24, 4, 0.2);
        season.distance(6, 1.0);
        assert!(!season.is_in_use(29));
        assert!(season.is_in_use(30));
    }

    #[test]
    fn a_season_that_was_kept_by_an_earlier_version_goes_on() {
        let kept = rmp_serde::to_vec(&(24_i64, vec![1.0_f32], vec![1_u8], 0.2_f32)).unwrap();
        let season: Season = rmp_serde::from_slice(&kept).unwrap();
        assert_eq!((season.period, season.first), (24, None));
        let named = rmp_serde::to_vec(&season).unwrap();
        assert_eq!(rmp_serde::from_slice::<Season>(&named).unwrap(), season);
    }
}
