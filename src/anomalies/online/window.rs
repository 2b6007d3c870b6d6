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
}

impl Window {
    pub(super) fn new(size: usize) -> Self {
        let (levels, spreads) = (History::default(), History::default());
        Self { size, values: Vec::new(), seen: 0, levels, spreads }
    }

    /// Adds a value. The distances of the mean and of the spread of the window from the nearest ones of earlier windows; 0 until
    /// the window is full.
    pub(super) fn distances(&mut self, value: f32) -> (f64, f64) {
        if self.values.len() < self.size {
            self.values.push(value);
        } else if let Some(oldest) = self.values.get_mut((self.seen % self.size as u64) as usize) {
            *oldest = value;
        }
        self.seen += 1;
        if self.values.len() < self.size {
            return (0.0, 0.0);
        }
        let count = self.values.len() as f64;
        let mean = self.values.iter().copied().map(f64::from).sum::<f64>() / count;
        let squares: f64 = self.values.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum();
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
}

impl History {
    /// The distance from the nearest remembered value; 0 without one.
    fn distance(&self, value: f32) -> f64 {
        let (lanes, rest) = self.values.as_chunks::<LANES>();
        let mut nearest = [f32::MAX; LANES];
        for others in lanes {
            nearest
                .iter_mut()
                .zip(others)
                .for_each(|(nearest, other)| *nearest = nearest.min((other - value).abs()));
        }
        let distances = rest.iter().map(|other| (other - value).abs()).chain(nearest);
        if self.values.is_empty() { 0.0 } else { f64::from(distances.fold(f32::MAX, f32::min)) }
    }

    fn remember(&mut self, value: f32) {
        match self.values.get_mut(self.next) {
            Some(oldest) => *oldest = value,
            None => self.values.push(value),
        }
        self.next = (self.next + 1) % HISTORY;
    }
}
