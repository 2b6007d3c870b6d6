//! How rare a value of a statistic is among those that came before it.

use serde::{Deserialize, Serialize};

use super::LANES;

/// Number of bins: four for each of 64 doublings, and the first one for zero.
const BINS: usize = 257;
/// The bin of the first value that is not zero.
const MIDDLE: i32 = 128;
/// Number of values before a surprise is stated.
const WARM_UP: f32 = 20.0;
/// At this number of values half of their weight is forgotten.
const MEMORY: f32 = 8192.0;
/// What is less of a count is forgotten: as [`MEMORY`] is 2^13, 23 bits of a float are enough for each sum.
const GRAIN: f32 = 1.0 / 1024.0;
/// Share of the largest values from which the tail beyond them is extrapolated, and their least number.
const TAIL_SHARE: f32 = 0.02;
const TAIL_COUNT: f32 = 5.0;

/// Counts of a statistic that is never negative, by its logarithm.
///
/// Only the order and the ratios of values matter, so that statistics of any unit can be compared by their surprise.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Tail {
    /// Empty before the first value. Multiples of [`GRAIN`], so that sums of them are exact in any order.
    counts: Vec<f32>,
    /// The sum of each [`LANES`] of the counts. They are made of the counts where a state was read back.
    #[serde(skip)]
    sums: Vec<f32>,
    total: f32,
    /// The highest bin that ever had a count.
    top: usize,
    /// The absolute number of the bin in the middle; `None` before the first value that is not zero.
    origin: Option<i32>,
}

impl Tail {
    /// The surprise of a value by those before it: -log10 of the estimated share of values at least as large. `None` before there
    /// are enough of them. Then counts it. Among the values of the tail is one more at a distance of `least` bins.
    pub(super) fn surprise(&mut self, value: f64, least: f64) -> Option<f64> {
        if self.sums.is_empty() {
            self.counts.resize(BINS, 0.0);
            self.sum_lanes();
        }
        let bin = self.bin(value);
        let surprise = (self.total >= WARM_UP)
            .then(|| -self.share(bin, least).clamp(1e-30, 1.0).ln() * std::f64::consts::LOG10_E);
        self.count(bin);
        surprise
    }

    fn bin(&mut self, value: f64) -> usize {
        const RANGE: std::ops::Range<f64> = 1e-30..1e32;
        if !RANGE.contains(&value) {
            return if value >= RANGE.end { BINS - 1 } else { 0 };
        }
        let absolute = quarters(value);
        let origin = *self.origin.get_or_insert(absolute);
        (absolute - origin + MIDDLE).clamp(1, BINS as i32 - 1) as usize
    }

    fn share(&self, bin: usize, least: f64) -> f64 {
        // The rest of the bin's lanes, and all lanes beyond.
        let end = (bin + 1).next_multiple_of(LANES);
        let rest: f32 = self.counts.get(bin + 1..end.min(BINS)).unwrap_or_default().iter().sum();
        let beyond = rest + self.sums.get(end / LANES..=self.top / LANES).map_or(0.0, sum);
        let here = self.counts.get(bin).copied().unwrap_or(0.0);
        let above = f64::from(beyond + here / 2.0);
        let share = (above + 0.5) / (f64::from(self.total) + 1.0);
        if above >= 1.0 { share } else { share.min(self.extrapolated(bin, least)) }
    }

    /// Beyond what was seen, the tail continues as a power law with the mean exponent of the largest values: the estimator of
    /// Hill (1975), on bins.
    fn extrapolated(&self, bin: usize, least: f64) -> f64 {
        let wanted = (TAIL_SHARE * self.total).max(TAIL_COUNT);
        let (mut tail, mut first) = (0.0_f32, self.top);
        while let Some(count) = self.counts.get(first)
            && first > 1
            && tail + count <= wanted
        {
            tail += count;
            first -= 1;
        }
        // Beyond zeros there is no ratio.
        if first == 0 || bin <= first {
            return 1.0;
        }
        let middle = |bin: usize| bin as f64 - first as f64 - 0.5;
        let lengths = (first + 1..).zip(self.counts.iter().skip(first + 1));
        let lengths: f64 = lengths.map(|(bin, count)| f64::from(*count) * middle(bin)).sum();
        // By chance a few values may lie near each other, and the next one, as usual as they are, would be far beyond them.
        let mean = ((lengths + least) / (f64::from(tail) + 1.0)).max(0.25);
        f64::from((tail + 1.0) / (self.total + 1.0)) * (-middle(bin) / mean).exp()
    }

    fn count(&mut self, bin: usize) {
        for (counts, index) in [(&mut self.counts, bin), (&mut self.sums, bin / LANES)] {
            if let Some(count) = counts.get_mut(index) {
                *count += 1.0;
            }
        }
        self.top = self.top.max(bin);
        self.total += 1.0;
        if self.total >= MEMORY {
            // Forgetting by halves needs no clock, and a constant number of operations per value.
            self.counts.iter_mut().for_each(|count| *count = (*count / 2.0 / GRAIN).floor() * GRAIN);
            self.sum_lanes();
            self.total = sum(&self.sums);
        }
    }

    fn sum_lanes(&mut self) {
        self.sums = self.counts.chunks(LANES).map(|counts| counts.iter().sum()).collect();
    }
}

/// The quarter of an octave of a positive normal number: four times its binary logarithm, rounded down.
fn quarters(value: f64) -> i32 {
    /// 2^(1/4), 2^(2/4) and 2^(3/4).
    const BOUNDS: [f64; 3] = [1.189_207_115_002_721, std::f64::consts::SQRT_2, 1.681_792_830_507_429];
    const FRACTION: u32 = f64::MANTISSA_DIGITS - 1;
    let exponent = (value.to_bits() >> FRACTION) as i32 - (f64::MAX_EXP - 1);
    let fraction = f64::from_bits(value.to_bits() & ((1 << FRACTION) - 1) | 1.0_f64.to_bits());
    4 * exponent + BOUNDS.iter().filter(|bound| fraction >= **bound).count() as i32
}

fn sum(counts: &[f32]) -> f32 {
    let (lanes, rest) = counts.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for counts in lanes {
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    sums.iter().chain(rest).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quarters_of_octaves_are_those_of_the_logarithm() {
        for exponent in -98..106 {
            for fraction in [1.0, 1.1, 1.18, 1.19, 1.4, 1.42, 1.68, 1.69, 1.999] {
                let value = fraction * 2.0_f64.powi(exponent);
                assert_eq!(quarters(value), (value.log2() * 4.0).floor() as i32, "{value}");
            }
        }
    }

    #[test]
    fn sums_of_lanes_are_those_of_the_counts_and_exact_after_forgetting() {
        let mut tail = Tail::default();
        let mut bits = 1_u64;
        for _ in 0..100_000 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            tail.surprise(((bits >> 33) as f64 / 1e7).exp(), 1.0);
        }
        let exact: f64 = tail.counts.iter().copied().map(f64::from).sum();
        assert_eq!(f64::from(tail.total), exact);
        let mut again: Tail = rmp_serde::from_slice(&rmp_serde::to_vec(&tail).unwrap()).unwrap();
        for value in [0.0, 1.0, 1e6, 1e9] {
            assert_eq!(tail.surprise(value, 1.0), again.surprise(value, 1.0));
        }
        assert_eq!(tail, again);
    }
}
