//! Quantiles without the values: a histogram that coarsens itself, so that its error follows the spread of the values.
//!
//! Each value has a position on a [`scale`] that is linear up to ±8 and logarithmic beyond. A [`histogram`] counts positions
//! in buckets of equal width. When the buckets no longer fit in their limit of bytes, neighbours are joined in pairs, as
//! often as necessary. This is DDSketch with a piecewise linear mapping (Masson, Rim and Lee, 2019) and the uniform
//! collapse of UDDSketch (Epicoco et al., 2020), limited in bytes instead of buckets. It is written here because the
//! sketches in crates either lose one end of the values or depend on their order.
//!
//! # Properties
//! - **Merging is exact.** The state depends on the values only, not on their order or on how they were split: a width that
//!   is too narrow for some of the values is too narrow for all. So percentiles from rollups equal those of a scan, and two
//!   computations of a rollup have the same bytes.
//! - **Error.** A quantile is in the bucket of the value with that rank (nearest rank). A bucket is at most 1/256 of the
//!   occupied part of the scale wide. For values within an octave (such as 1010 to 1020 hPa, or times of a month) and for
//!   values within ±8 the error is therefore below 1/256 (0.4 %) of their range. Values that span several octaves have an
//!   error below `(8 + |value|) * octaves / 256`. A few outliers take a few bytes and do not widen the buckets.
//! - **Few values are nearly exact.** Up to about a hundred different values in a sketch have an error below 2⁻³² of
//!   `8 + |value|`.

mod histogram;
mod scale;

use histogram::Histogram;

/// Values that wait to be counted, so that one merge serves many of them.
const MAX_PENDING: usize = 64;

/// A sketch. Compact in memory, because a group may need one for each sensor and metric.
#[derive(Debug, Clone, Default)]
pub struct Sketch {
    /// [`Histogram::encode`]; empty without a counted value.
    encoded: Vec<u8>,
    pending: Vec<f64>,
}

impl Sketch {
    /// Adds a value. NaN and infinities are ignored.
    pub fn add(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.pending.push(value);
        if self.pending.len() >= MAX_PENDING {
            self.encoded = self.histogram().encode();
            self.pending.clear();
        }
    }

    /// Adds the values of another sketch.
    pub fn merge(&mut self, other: &Self) {
        if other.encoded.is_empty() && other.pending.is_empty() {
            return;
        }
        let mut histogram = self.histogram();
        histogram.merge(&other.histogram());
        *self = Self { encoded: histogram.encode(), pending: Vec::new() };
    }

    /// The number of values.
    pub fn count(&self) -> u64 {
        self.histogram().count()
    }

    /// Whether some values come from sketches of version 1, whose error is 0.4 % of the value.
    pub fn is_legacy(&self) -> bool {
        self.histogram().is_legacy
    }

    /// An estimate of the value that a share `quantile` of all values does not exceed (nearest rank), with no more digits
    /// than its bucket supports. `None` without values.
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        self.histogram().quantile(quantile)
    }

    /// The stored form: at most 512 bytes for the buckets, and one to three bytes for each count above 1.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.histogram().encode()
    }

    /// Reads the stored form of this version and of version 1. `None` if the bytes are not a sketch.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let histogram = Histogram::decode(bytes)?;
        Some(Self { encoded: histogram.encode(), pending: Vec::new() })
    }

    fn histogram(&self) -> Histogram {
        // `encode` wrote it, so it can be decoded.
        let mut histogram = Histogram::decode(&self.encoded).unwrap_or_default();
        if !self.pending.is_empty() {
            histogram.merge(&Histogram::of(&self.pending));
        }
        histogram
    }
}

impl PartialEq for Sketch {
    fn eq(&self, other: &Self) -> bool {
        self.histogram() == other.histogram()
    }
}

#[cfg(test)]
mod tests;
