//! The scale: positions of values. Linear up to ±[`LINEAR`], logarithmic beyond (piecewise linear within each octave).
//!
//! The integer part of a position is the octave of `1 + |value| / 8`, the fraction its mantissa. Only exact operations and
//! one correctly rounded addition are used, so every machine computes the same positions.

/// The scale is linear up to this value.
const LINEAR: f64 = 8.0;
/// Bits of the fraction: an octave has 2³² positions.
const FRACTION_BITS: u32 = 32;
/// The position of the largest number.
pub(super) const MAX_POSITION: u64 = (1024 << FRACTION_BITS) - 1;

/// The position of a finite value, rounded towards negative infinity.
pub(super) fn position_of(value: f64) -> i64 {
    let scaled = 1.0 + value.abs() / LINEAR;
    let position = ((scaled.to_bits() - 1f64.to_bits()) >> (52 - FRACTION_BITS)) as i64;
    if value < 0.0 { -1 - position } else { position }
}

/// The lowest value at a position; beyond the ends of the scale, the largest number.
pub(super) fn value_of(position: i128) -> f64 {
    let distance = u64::try_from(position.unsigned_abs()).map_or(MAX_POSITION, |it| it.min(MAX_POSITION));
    let scaled = f64::from_bits((distance << (52 - FRACTION_BITS)) + 1f64.to_bits());
    let value = ((scaled - 1.0) * LINEAR).min(f64::MAX);
    if position < 0 { -value } else { value }
}

/// The number with the fewest decimals near `value` in a bucket from `low` to `high`: any number of the bucket if it is
/// narrower than a 32-bit float shows, else one within an eighth of the width.
pub(super) fn shortest(value: f64, low: f64, high: f64) -> f64 {
    let width = high - low;
    let is_narrow = width <= value.abs() * f64::from(f32::EPSILON) || width <= 1e-8;
    let tolerance = if is_narrow { width } else { width / 8.0 };
    (0..=12)
        .map(|decimals| {
            let factor = 10f64.powi(decimals);
            (value * factor).round() / factor
        })
        .find(|rounded| (low..=high).contains(rounded) && (rounded - value).abs() <= tolerance)
        .unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_value_lies_between_the_bounds_of_its_position_and_order_is_kept(
            value in any::<f64>().prop_filter("finite", |value| value.is_finite()), other in -1e4f64..1e4,
        ) {
            let position = i128::from(position_of(value));
            // Rounding of the addition costs less than a position.
            prop_assert!(value_of(position - 1) <= value && value <= value_of(position + 2));
            prop_assert_eq!(value < other && position_of(value) > position_of(other), false);
        }
    }

    #[test]
    fn results_have_no_more_digits_than_their_bucket() {
        assert_eq!(shortest(1019.4871, 1019.46, 1019.51), 1019.49);
        assert_eq!(shortest(21.300_000_002, 21.299_999_999, 21.300_000_003), 21.3);
        assert_eq!(shortest(0.0, 0.0, 2e-9), 0.0);
        assert_eq!(shortest(1e300, 0.99e300, 1.01e300), 1e300);
    }
}
