//! The level and the spread of the last values, and how far they are from earlier ones.

use serde::{Deserialize, Serialize};

use super::LANES;

/// Number of earlier levels and spreads that are remembered.
const HISTORY: usize = 256;

/// A window of the last values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Window {
    /// Maximum number of values.
    size: usize,
    /// A ring.
    values: Vec<f32>,
    /// Number of values so far.
    seen: u64,
    levels: History,
    spreads: History,
}

/// The last values of a statistic.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct History {
    /// A ring.
    values: Vec<f32>,
    next: usize,
    /// The same values in ascending order. It is made of the ring where a state was read back.
    #[serde(skip)]
    sorted: Vec<f32>,
}

impl Window {
    pub(super) fn new(size: usize) -> Self {
        let (levels, spreads) = (History::default(), History::default());
        Self { size, values: Vec::new(), seen: 0, levels, spreads }
    }

    /// Adds a value. The distances of the mean and of the spread of the window from the nearest ones of earlier windows; `None`
    /// until there are earlier windows.
    pub(super) fn distances(&mut self, value: f32) -> (Option<f64>, Option<f64>) {
        if self.values.len() < self.size {
            self.values.push(value);
        } else if let Some(oldest) = self.values.get_mut((self.seen % self.size as u64) as usize) {
            *oldest = value;
        }
        self.seen += 1;
        if self.values.len() < self.size {
            return (None, None);
        }
        let count = self.values.len() as f64;
        let mean = self.sum(|value| value) / count;
        let squares = self.sum(|value| (value - mean).powi(2));
        // The root of the deviation: a spread of 4 is to 1 what 9 is to 4, so that calm and wild times weigh alike.
        let (level, spread) = (mean as f32, (squares / count).sqrt().sqrt() as f32);
        let distances = (self.levels.distance(level), self.spreads.distance(spread));
        // A window is remembered for each quarter of its length. The newest one of them may overlap with the next window, so
        // that what lasts is unusual only when it begins.
        if self.seen.is_multiple_of(self.size as u64 / 4) {
            self.levels.remember(level);
            self.spreads.remember(spread);
        }
        distances
    }

    fn sum(&self, of: impl Fn(f64) -> f64) -> f64 {
        let mut sums = [0.0; LANES / 2];
        let (lanes, rest) = self.values.as_chunks::<{ LANES / 2 }>();
        for values in lanes {
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += of(f64::from(*value)));
        }
        rest.iter().map(|value| of(f64::from(*value))).chain(sums).sum()
    }
}

impl History {
    /// The distance from the nearest remembered value.
    fn distance(&mut self, value: f32) -> Option<f64> {
        self.sort();
        let above = self.sorted.partition_point(|other| *other < value);
        let neighbours = self.sorted.get(above.saturating_sub(1)..).unwrap_or_default().iter().take(2);
        let nearest = neighbours.map(|other| (other - value).abs()).reduce(f32::min);
        nearest.map(f64::from)
    }

    fn remember(&mut self, value: f32) {
        self.sort();
        match self.values.get_mut(self.next) {
            Some(oldest) => {
                let gone = self.sorted.partition_point(|other| other < oldest);
                if gone < self.sorted.len() {
                    self.sorted.remove(gone);
                }
                *oldest = value;
            }
            None => self.values.push(value),
        }
        self.sorted.insert(self.sorted.partition_point(|other| *other < value), value);
        self.next = (self.next + 1) % HISTORY;
    }

    fn sort(&mut self) {
        if self.sorted.len() != self.values.len() {
            self.sorted.clone_from(&self.values);
            self.sorted.sort_by(f32::total_cmp);
        }
    }
}
