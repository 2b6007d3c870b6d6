//! Quantiles without the values: a histogram whose buckets are the values rounded to eight bits of precision.
//!
//! A bucket is the upper half of a 32-bit float (sign, exponent, seven bits of fraction), so that neighbours are 0.8 %
//! apart and a value is at most [`RELATIVE_ERROR`] from the middle of its bucket, whatever its size. Counts add up:
//! merging sketches in any order gives that of all the values, to the bit.

/// How far a quantile may be from the value of that rank, as a share of it.
pub const RELATIVE_ERROR: f32 = 1.0 / 256.0;

/// The first byte of a stored sketch.
const VERSION: u8 = 1;

/// Counts by bucket. At most 65,280 buckets; values within a tenth of each other take about a dozen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sketch {
    /// In the order of the values.
    buckets: Vec<(u16, u64)>,
}

impl Sketch {
    /// Adds a finite value.
    pub fn add(&mut self, value: f32) {
        self.add_to(bucket_of(value), 1);
    }

    pub fn merge(&mut self, other: &Self) {
        for &(bucket, count) in &other.buckets {
            self.add_to(bucket, count);
        }
    }

    fn add_to(&mut self, bucket: u16, count: u64) {
        match self.buckets.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
            Ok(index) => self.buckets[index].1 = self.buckets[index].1.saturating_add(count),
            Err(index) => self.buckets.insert(index, (bucket, count)),
        }
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// About the value that a share `quantile` of all values does not exceed (nearest rank); `None` without values.
    pub fn quantile(&self, quantile: f64) -> Option<f32> {
        let count = self.count();
        let rank = ((quantile * count as f64).ceil() as u64).clamp(1, count.max(1));
        let mut seen: u64 = 0;
        self.buckets.iter().find_map(|&(bucket, count)| {
            seen = seen.saturating_add(count);
            (seen >= rank).then(|| middle_of(bucket))
        })
    }

    /// As it is stored: a version, then for each bucket its distance from the one before and its count (LEB128).
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        let mut before = 0;
        for &(bucket, count) in &self.buckets {
            push_varint(&mut bytes, u64::from(bucket - before));
            push_varint(&mut bytes, count);
            before = bucket;
        }
        bytes
    }

    /// `None` where the bytes are no sketch.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&VERSION, mut rest) = bytes.split_first()? else { return None };
        let mut buckets: Vec<(u16, u64)> = Vec::with_capacity(rest.len() / 2);
        while !rest.is_empty() {
            let distance = u16::try_from(take_varint(&mut rest)?).ok()?;
            let bucket = match buckets.last() {
                Some((before, _)) => before.checked_add(distance).filter(|_| distance > 0)?,
                None => distance,
            };
            let count = take_varint(&mut rest).filter(|&count| count > 0)?;
            buckets.push((bucket, count));
        }
        Some(Self { buckets })
    }
}

/// The upper half of the value's bits, made to sort as the values do.
fn bucket_of(value: f32) -> u16 {
    // -0.0 is 0.0.
    let bits = (value + 0.0).to_bits();
    let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    (ordered >> 16) as u16
}

fn middle_of(bucket: u16) -> f32 {
    let value = |low: u32| {
        let ordered = u32::from(bucket) << 16 | low;
        f32::from_bits(if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered })
    };
    let (one, other) = (value(0), value(0xffff));
    // Zero shares its bucket with what is too small to matter.
    if one == 0.0 { 0.0 } else { one / 2.0 + other / 2.0 }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sketch(values: &[f32]) -> Sketch {
        let mut sketch = Sketch::default();
        values.iter().for_each(|&value| sketch.add(value));
        sketch
    }

    /// Any finite value, large, tiny, negative.
    fn values() -> impl Strategy<Value = Vec<f32>> {
        let value = prop_oneof![any::<f32>().prop_filter("finite", |value| value.is_finite()), -50f32..50.0];
        prop::collection::vec(value, 1..200)
    }

    proptest! {
        #[test]
        fn a_quantile_is_within_the_error_of_the_value_of_that_rank(mut values in values(), quantile in 0.0f64..=1.0) {
            let found = sketch(&values).quantile(quantile).unwrap();
            values.sort_unstable_by(f32::total_cmp);
            let rank = ((quantile * values.len() as f64).ceil() as usize).clamp(1, values.len());
            let exact = f64::from(values[rank - 1]);
            let error = (f64::from(found) - exact).abs();
            // Below the least normal number, floats have no eight bits of precision.
            prop_assert!(
                error <= exact.abs() * f64::from(RELATIVE_ERROR) + f64::from(f32::MIN_POSITIVE),
                "{} for {}", found, exact
            );
        }

        #[test]
        fn merging_gives_the_sketch_of_all_values_in_whatever_order(one in values(), other in values()) {
            let mut merged = sketch(&other);
            merged.merge(&sketch(&one));
            prop_assert_eq!(&merged, &sketch(&[one, other].concat()));
            prop_assert_eq!(Sketch::from_bytes(&merged.to_bytes()), Some(merged));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(sketch) = Sketch::from_bytes(&bytes) {
                sketch.quantile(0.5);
                sketch.count();
            }
        }
    }

    #[test]
    fn zero_is_zero_and_an_hour_of_temperatures_is_small() {
        assert_eq!(sketch(&[0.0, -0.0]).quantile(0.5), Some(0.0));
        assert_eq!(Sketch::default().quantile(0.5), None);
        let hour: Vec<f32> = (0..60).map(|minute| 20.0 + minute as f32 / 60.0).collect();
        assert!(sketch(&hour).to_bytes().len() < 24);
    }
}
