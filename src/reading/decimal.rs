//! The one rule for 32-bit floats: a stored `f32` stands for the shortest decimal that rounds to it, and that decimal,
//! as an `f64`, is what is shown, compared and averaged.
//!
//! A sensor that sends 21.3 has its value stored as 21.299999237…, because a binary float has no 21.3. Widened as it
//! stands, a rule `above = 21.3` would see a lower value, and the mean of equal values would lie beside them. The
//! shortest decimal is what the sensor sent, wherever it sent up to six significant digits.

/// Up to here every `f32` has whole numbers as neighbours at most 1 apart, so that a whole number is its own shortest
/// decimal.
const WHOLE: f64 = 16_777_216.0;
/// Adding and subtracting this rounds a number below 2^51 to a whole one.
const ROUNDER: f64 = 6_755_399_441_055_744.0;
/// Digits after the point that are tried before the general algorithm.
const POWERS: [f64; 10] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// The shortest decimal that rounds to `value`, as the nearest `f64`. `widen(value) as f32 == value` for every number;
/// what is not finite stays what it is, and -0.0 is 0.0.
#[inline]
pub fn widen(value: f32) -> f64 {
    let exact = f64::from(value);
    if exact.abs() < WHOLE {
        // Half the distance to the next `f32`, and a little more than the rounding errors of this test.
        let tolerance = exact.abs() * (1.000_001 / WHOLE);
        for power in POWERS {
            let scaled = exact * power;
            let digits = (scaled + ROUNDER) - ROUNDER;
            // Both are whole numbers that an f64 holds, so the quotient is the f64 next to the decimal.
            if (digits - scaled).abs() <= tolerance * power {
                let decimal = digits / power;
                if decimal as f32 == value {
                    return decimal;
                }
            }
        }
    }
    general(value)
}

#[cold]
fn general(value: f32) -> f64 {
    if !value.is_finite() {
        return f64::from(value);
    }
    zmij::Buffer::new().format_finite(value).parse().expect("a formatted float is a number")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Digits of the shortest text that reads back as `value`, by the standard library.
    fn shortest_digits(value: f32) -> usize {
        format!("{value:e}").split('e').next().unwrap().bytes().filter(u8::is_ascii_digit).count()
    }

    /// Whether `widen` gives a decimal that rounds to `value` and none is shorter.
    fn is_shortest(value: f32) -> bool {
        let wide = widen(value);
        let digits =
            format!("{wide:e}").split('e').next().unwrap().bytes().filter(u8::is_ascii_digit).count();
        wide as f32 == value && digits == shortest_digits(value)
    }

    #[test]
    fn what_a_sensor_sent_comes_back() {
        for sent in
            [21.3, 0.1, -0.1, 28.3, 1013.25, 0.001, 99.99, 3.3, 415.0, 1e-9, 3e38, -273.15, 16_777_217.0]
        {
            assert!(is_shortest(sent as f32), "{sent}");
        }
        assert_eq!((widen(21.3), widen(-0.1), widen(1013.25), widen(3e38)), (21.3, -0.1, 1013.25, 3e38));
        assert!(widen(-0.0).is_sign_positive(), "there is one zero");
        assert_eq!(widen(f32::INFINITY), f64::INFINITY);
        assert!(widen(f32::NAN).is_nan());
    }

    #[test]
    fn every_decimal_of_up_to_six_digits_is_its_own_shortest() {
        for digits in (0..1_000_000).step_by(7) {
            for power in [1e1, 1e2, 1e3, 1e5, 1e8] {
                let sent = f64::from(digits) / power;
                assert_eq!(widen(sent as f32), sent);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn the_fast_path_is_the_shortest_decimal(bits in any::<u32>()) {
            let value = f32::from_bits(bits);
            prop_assume!(value.is_finite());
            prop_assert!(is_shortest(value), "{:e} {:e}", value, widen(value));
            // Whatever prints floats elsewhere prints the same digits.
            prop_assert_eq!(widen(value), general(value), "{:e}", value);
        }

        #[test]
        fn so_it_is_for_values_as_sensors_have_them(value in -2000f32..2000.0) {
            prop_assert!(is_shortest(value), "{:e} {:e}", value, widen(value));
            prop_assert_eq!(widen(value), general(value), "{:e}", value);
        }

        #[test]
        fn order_is_kept(one in any::<f32>(), other in any::<f32>()) {
            prop_assume!(one.is_finite() && other.is_finite());
            prop_assert_eq!(widen(one).partial_cmp(&widen(other)), one.partial_cmp(&other));
        }
    }
}
