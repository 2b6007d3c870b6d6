//! How rare a value of a statistic is among those that came before it.

use serde::{Deserialize, Serialize};

use super::LANES;

/// Bins per doubling of the statistic.
const PER_OCTAVE: f64 = 4.0;
/// Number of bins: 64 doublings, and the first one for zero.
const BINS: usize = 257;
/// The bin of the first value that is not zero.
const MIDDLE: i32 = 128;
/// Number of values before a surprise is stated.
const WARM_UP: f32 = 20.0;
/// At this number of values half of their weight is forgotten.
const MEMORY: f32 = 8192.0;
/// Share of the largest values from which the tail beyond them is extrapolated, and their least number.
const TAIL_SHARE: f32 = 0.02;
const TAIL_COUNT: f32 = 5.0;

/// Counts of a statistic that is never negative, by its logarithm.
///
/// Only the order and the ratios of values matter, so that statistics of any unit can be compared by their surprise.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Tail {
    /// Empty before the first value.
    counts: Vec<f32>,
    total: f32,
    /// The highest bin that ever had a count.
    top: usize,
    /// The absolute number of the bin in the middle; `None` before the first value that is not zero.
    origin: Option<i32>,
}

impl Tail {
    /// The surprise of a value by those before it: -log10 of the estimated share of values at least as large. Then counts it.
    pub(super) fn surprise(&mut self, value: f64) -> f64 {
        let bin = self.bin(value);
        let surprise = if self.total < WARM_UP { 0.0 } else { -self.share(bin).clamp(1e-30, 1.0).log10() };
        self.count(bin);
        surprise
    }

    fn bin(&mut self, value: f64) -> usize {
        const RANGE: std::ops::Range<f64> = 1e-30..1e32;
        if !RANGE.contains(&value) {
            return if value >= RANGE.end { BINS - 1 } else { 0 };
        }
        let absolute = (value.log2() * PER_OCTAVE).floor() as i32;
        let origin = *self.origin.get_or_insert(absolute);
        (absolute - origin + MIDDLE).clamp(1, BINS as i32 - 1) as usize
    }

    fn share(&self, bin: usize) -> f64 {
        let beyond = self.counts.get(bin + 1..=self.top).map_or(0.0, sum);
        let here = self.counts.get(bin).copied().unwrap_or(0.0);
        let above = f64::from(beyond + here / 2.0);
        let share = (above + 0.5) / (f64::from(self.total) + 1.0);
        if above >= 1.0 { share } else { share.min(self.extrapolated(bin)) }
    }

    /// Beyond what was seen, the tail continues as a power law with the mean exponent of the largest values: the estimator of
    /// Hill (1975), on bins.
    fn extrapolated(&self, bin: usize) -> f64 {
        let wanted = (TAIL_SHARE * self.total).max(TAIL_COUNT);
        let (mut tail, mut first) = (0.0_f32, self.top);
        while let Some(count) = self.counts.get(first)
            && first > 1
            && tail + count <= wanted
        {
            tail += count;
            first -= 1;
        }
        if tail == 0.0 || bin <= first {
            return 1.0;
        }
        let middle = |bin: usize| bin as f64 - first as f64 - 0.5;
        let lengths = (first + 1..).zip(self.counts.iter().skip(first + 1));
        let lengths: f64 = lengths.map(|(bin, count)| f64::from(*count) * middle(bin)).sum();
        // One more value in the lowest of these bins keeps the mean of few values from being 0.
        let mean = ((lengths + 0.25) / (f64::from(tail) + 1.0)).max(0.25);
        f64::from((tail + 1.0) / (self.total + 1.0)) * (-middle(bin) / mean).exp()
    }

    fn count(&mut self, bin: usize) {
        self.counts.resize(BINS, 0.0);
        if let Some(count) = self.counts.get_mut(bin) {
            *count += 1.0;
        }
        self.top = self.top.max(bin);
        self.total += 1.0;
        if self.total >= MEMORY {
            // Forgetting by halves needs no clock, and a constant number of operations per value.
            self.counts.iter_mut().for_each(|count| *count /= 2.0);
            self.total = self.counts.iter().sum();
        }
    }
}

fn sum(counts: &[f32]) -> f32 {
    let (lanes, rest) = counts.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for counts in lanes {
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    sums.iter().chain(rest).sum()
}
