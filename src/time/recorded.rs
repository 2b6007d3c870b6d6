//! Timestamps as recordings and flags write them.

use chrono::DateTime;

/// 0000-01-01 and the end of 9999-12-31: what RFC 3339 can say.
const YEARS: std::ops::Range<i64> = -62_167_219_200_000..253_402_300_800_000;

/// Milliseconds since the epoch of RFC 3339, of a date and time without a zone (taken as UTC), of a date alone, or
/// of a number: seconds since the epoch, or milliseconds from 100,000,000,000 on (which is 1973, or the year 5138).
/// Nothing before the year 0 or after 9999.
pub fn parse(text: &str) -> Option<i64> {
    anywhen(text.trim()).filter(|at| YEARS.contains(at))
}

fn anywhen(text: &str) -> Option<i64> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Some(at.timestamp_millis());
    }
    if let Some(at) = super::moment::naive(text) {
        return Some(at.and_utc().timestamp_millis());
    }
    if let Ok(at) = DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z") {
        return Some(at.timestamp_millis());
    }
    let number: f64 = text.parse().ok().filter(|number: &f64| number.is_finite())?;
    let millis = if number.abs() < 1e11 { number * 1000.0 } else { number };
    // A conversion of what lies outside saturates.
    Some(millis.round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_usual_ways_to_write_a_moment_are_understood() {
        let moment = Some(1_386_018_900_000);
        for text in [
            "2013-12-02T21:15:00Z",
            "2013-12-02T22:15:00+01:00",
            "2013-12-02 21:15:00",
            "2013-12-02 21:15:00.000",
            "2013-12-02 22:15:00+01",
            "2013-12-02T21:15",
            "1386018900",
            "1386018900000",
            " 1386018900.0 ",
        ] {
            assert_eq!(parse(text), moment, "{text}");
        }
        assert_eq!(parse("1970-01-02"), Some(86_400_000));
        for text in
            ["", "yesterday", "2013-13-02 21:15:00", "NaN", "inf", "1e300", "-1e300", "+262142-01-01 00:00"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
