//! Durations as people write them (`90d`, `1h 30m`, `500ms`), for serde's `with`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de::Error};

pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&exact(*duration))
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(|error| {
        D::Error::custom(format!("{text:?} is not a duration like 90d, 1h or 500ms ({error})"))
    })
}

/// Days, hours, minutes, seconds and fractions of a second, without rounding. humantime's own form has months and years
/// of mean length: 90 days are `2months 29days 2h 52m 48s`.
pub fn exact(duration: Duration) -> String {
    const UNITS: [(u128, &str); 7] = [
        (86_400_000_000_000, "d"),
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "us"),
        (1, "ns"),
    ];
    let mut rest = duration.as_nanos();
    let mut parts = Vec::new();
    for (length, unit) in UNITS {
        if rest >= length {
            parts.push(format!("{}{unit}", rest / length));
            rest %= length;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_written_in_units_of_fixed_length() {
        assert_eq!(exact(Duration::from_secs(90 * 86_400)), "90d");
        assert_eq!(exact(Duration::from_secs(5_400)), "1h 30m");
        assert_eq!(exact(Duration::from_millis(50)), "50ms");
        assert_eq!(exact(Duration::ZERO), "0s");
    }

    proptest! {
        #[test]
        fn a_written_duration_is_read_back_unchanged(seconds in 0u64..1 << 40, nanos in 0u32..1_000_000_000) {
            let duration = Duration::new(seconds, nanos);
            prop_assert_eq!(humantime::parse_duration(&exact(duration)).unwrap(), duration);
        }
    }
}
