//! Numbers as people read them.

/// Beyond these sizes a number is written with an exponent: 3e38 and not 39 digits. Whole numbers up to 2^53 are within.
const PLAIN: std::ops::Range<f64> = 1e-5..1e16;

/// All digits of a stored value: the shortest decimal that stands for it.
pub fn exact(number: f64) -> String {
    shown(number)
}

/// Up to `digits` significant digits of a computed value, whose last ones say nothing. Digits before the point are kept: a
/// counter's mean of 53566019.3 in six digits would be another number.
pub fn rounded(number: f64, digits: usize) -> String {
    let whole = if is_plain(number) && number != 0.0 {
        number.abs().log10().floor().max(0.0) as usize + 1
    } else {
        0
    };
    let digits = digits.max(whole);
    let rounded: f64 = format!("{number:.*e}", digits.saturating_sub(1)).parse().unwrap_or(number);
    shown(rounded)
}

/// A computed value with `decimals` digits after the point.
pub fn fixed(number: f64, decimals: usize) -> String {
    match is_plain(number) {
        true => format!("{number:.decimals$}"),
        false => format!("{number:.decimals$e}"),
    }
}

fn is_plain(number: f64) -> bool {
    number == 0.0 || !number.is_finite() || PLAIN.contains(&number.abs())
}

fn shown(number: f64) -> String {
    match is_plain(number) {
        true => number.to_string(),
        false => format!("{number:e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn very_large_and_very_small_numbers_have_an_exponent() {
        for (number, text) in [
            (3e38, "3e38"),
            (-3e38, "-3e38"),
            (1e-7, "1e-7"),
            (0.0, "0"),
            (21.3, "21.3"),
            (16_777_216.0, "16777216"),
            (9_007_199_254_740_992.0, "9007199254740992"),
            (123_456_789.125, "123456789.125"),
            (1e16, "1e16"),
            (0.000_1, "0.0001"),
        ] {
            assert_eq!(exact(number), text);
            assert_eq!(exact(number).parse::<f64>().unwrap(), number, "it reads back");
        }
        assert_eq!(rounded(1.0 / 3.0, 9), "0.333333333");
        assert_eq!(rounded(1.0 / 3.0, 6), "0.333333");
        assert_eq!(rounded(2.5e20, 9), "2.5e20");
        assert_eq!(rounded(21.0, 9), "21");
        assert_eq!(rounded(53_566_019.34, 6), "53566019");
        assert_eq!(rounded(1_001_152_000_000_000.0, 9), "1001152000000000");
        assert_eq!([0.0, f64::NAN].map(|number| rounded(number, 6)), ["0", "NaN"]);
        assert_eq!([3e38, 0.0, 20.126].map(|number| fixed(number, 2)), ["3.00e38", "0.00", "20.13"]);
    }
}
