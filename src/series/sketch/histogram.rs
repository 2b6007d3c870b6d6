//! Counts by bucket of the scale, their merge and their stored form.

use super::scale::{MAX_POSITION, position_of, shortest, value_of};

/// The first byte of the stored form.
const VERSION: u8 = 2;
/// The version before, with buckets 0.8 % of the value wide.
const LEGACY_VERSION: u8 = 1;
/// The flag beside the level that says [`Histogram::is_legacy`].
const LEGACY_FLAG: u8 = 0x80;
/// Limit of the distances between buckets, as LEB128, in bytes.
const MAX_KEY_BYTES: usize = 512;
/// Wider buckets than this hold the whole scale.
const MAX_LEVEL: u32 = 44;

/// A bucket and the number of its values. Bucket `n` holds the positions from `n << level` on.
type Bucket = (i64, u64);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Histogram {
    /// Buckets are `2^level` positions wide.
    level: u32,
    /// In ascending order, none twice.
    buckets: Vec<Bucket>,
    /// See [`super::Sketch::is_legacy`].
    pub is_legacy: bool,
}

impl Histogram {
    pub(super) fn of(values: &[f64]) -> Self {
        let buckets = values.iter().map(|&value| (position_of(value), 1)).collect();
        Self::new(0, buckets, false)
    }

    /// Takes buckets in any order and joins them until they fit.
    fn new(level: u32, mut buckets: Vec<Bucket>, is_legacy: bool) -> Self {
        buckets.sort_by_key(|(key, _)| *key);
        let mut histogram = Self { level, buckets: joined(buckets.into_iter()), is_legacy };
        while histogram.key_bytes() > MAX_KEY_BYTES {
            let halved = histogram.buckets.iter().map(|&(key, count)| (key >> 1, count));
            histogram.buckets = joined(halved);
            histogram.level += 1;
        }
        histogram
    }

    pub(super) fn merge(&mut self, other: &Self) {
        let level = self.level.max(other.level);
        let mut buckets = Vec::with_capacity(self.buckets.len() + other.buckets.len());
        for histogram in [&*self, other] {
            let shift = level - histogram.level;
            buckets.extend(histogram.buckets.iter().map(|&(key, count)| (key >> shift, count)));
        }
        *self = Self::new(level, buckets, self.is_legacy || other.is_legacy);
    }

    /// More values never make it smaller, and wider buckets never larger. The exact merge depends on both.
    fn key_bytes(&self) -> usize {
        self.buckets.windows(2).map(|pair| varint_length(pair[0].0.abs_diff(pair[1].0))).sum()
    }

    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    pub(super) fn quantile(&self, quantile: f64) -> Option<f64> {
        let total = self.count();
        let rank = ((quantile * total as f64).ceil() as u64).clamp(1, total.max(1));
        let mut before: u64 = 0;
        for &(key, count) in &self.buckets {
            if before.saturating_add(count) < rank {
                before += count;
                continue;
            }
            let bound = |key: i64| value_of(i128::from(key) << self.level);
            let (low, high) = (bound(key), bound(key.saturating_add(1)));
            // The values of a bucket are assumed to be evenly spread.
            let share = ((rank - before) as f64 - 0.5) / count as f64;
            return Some(shortest(low + (high - low) * share, low, high));
        }
        None
    }

    /// The version, the level with a flag, then for each bucket its distance from the one before it (for the first one: its
    /// number in zigzag form), doubled. The lowest bit says that its count, minus 2, follows; otherwise the count is 1. All
    /// numbers are LEB128. Empty without a value.
    pub(super) fn encode(&self) -> Vec<u8> {
        if self.buckets.is_empty() {
            return Vec::new();
        }
        let flag = if self.is_legacy { LEGACY_FLAG } else { 0 };
        let mut bytes = vec![VERSION, self.level as u8 | flag];
        let mut before = None;
        for &(key, count) in &self.buckets {
            let distance = match before.replace(key) {
                Some(before) => key.abs_diff(before),
                None => (key << 1 ^ key >> 63) as u64,
            };
            push_varint(&mut bytes, distance << 1 | u64::from(count > 1));
            if count > 1 {
                push_varint(&mut bytes, count - 2);
            }
        }
        bytes
    }

    /// `None` if the bytes are not a sketch of this version or version 1.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [] => Some(Self::default()),
            [VERSION, head, rest @ ..] => decode(*head, rest),
            [LEGACY_VERSION, rest @ ..] => decode_legacy(rest),
            _ => None,
        }
    }
}

fn decode(head: u8, mut rest: &[u8]) -> Option<Histogram> {
    let level = u32::from(head & !LEGACY_FLAG);
    if level > MAX_LEVEL {
        return None;
    }
    let mut buckets: Vec<Bucket> = Vec::with_capacity(rest.len());
    while !rest.is_empty() {
        let number = take_varint(&mut rest)?;
        let distance = number >> 1;
        let key = match buckets.last() {
            Some((before, _)) => before.checked_add_unsigned(distance).filter(|_| distance > 0)?,
            None => (distance >> 1) as i64 ^ -((distance & 1) as i64),
        };
        if key.unsigned_abs() > (MAX_POSITION >> level) + 1 {
            return None;
        }
        let count = if number & 1 == 0 { 1 } else { take_varint(&mut rest)?.checked_add(2)? };
        buckets.push((key, count));
    }
    Some(Histogram { level, buckets, is_legacy: head & LEGACY_FLAG != 0 })
}

/// Version 1 counted by the upper half of a 32-bit float. For each bucket it has the distance from the one before and the
/// count.
fn decode_legacy(mut rest: &[u8]) -> Option<Histogram> {
    let mut legacy: Option<u16> = None;
    let mut buckets: Vec<Bucket> = Vec::with_capacity(rest.len() / 2);
    while !rest.is_empty() {
        let distance = u16::try_from(take_varint(&mut rest)?).ok()?;
        let bucket = match legacy {
            Some(before) => before.checked_add(distance).filter(|_| distance > 0)?,
            None => distance,
        };
        legacy = Some(bucket);
        let count = take_varint(&mut rest).filter(|&count| count > 0)?;
        buckets.push((position_of(middle_of_legacy(bucket)), count));
    }
    let is_legacy = !buckets.is_empty();
    Some(Histogram::new(0, buckets, is_legacy))
}

fn middle_of_legacy(bucket: u16) -> f64 {
    let bound = |low: u32| {
        let ordered = u32::from(bucket) << 16 | low;
        let value = f32::from_bits(if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered });
        // The outermost buckets would hold infinities.
        if value.is_finite() { f64::from(value) } else { f64::from(f32::MAX.copysign(value)) }
    };
    let (one, other) = (bound(0), bound(0xffff));
    // Zero shares its bucket with subnormal numbers.
    if one == 0.0 || other == 0.0 { 0.0 } else { one.midpoint(other) }
}

/// Joins neighbours with the same key.
fn joined(buckets: impl Iterator<Item = Bucket>) -> Vec<Bucket> {
    let mut joined: Vec<Bucket> = Vec::new();
    for (key, count) in buckets {
        match joined.last_mut() {
            Some(last) if last.0 == key => last.1 = last.1.saturating_add(count),
            _ => joined.push((key, count)),
        }
    }
    joined
}

fn varint_length(number: u64) -> usize {
    (64 - number.max(1).leading_zeros()).div_ceil(7) as usize
}

fn push_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        number |= bits << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}
