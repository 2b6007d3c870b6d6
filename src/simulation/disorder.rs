//! Faults between a sensor and the topic: readings that arrive late, out of order, twice, with missing values, or
//! malformed. Probabilities are per reading and independent. An injected extreme is never removed or malformed, because
//! it is the ground truth.

use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use uuid::Uuid;

use crate::reading::Reading;

/// Probabilities, each from 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Disorder {
    /// The reading was taken minutes to hours before those sent next to it.
    pub late: f64,
    /// Some later messages are sent before it.
    pub out_of_order: f64,
    /// One measured value is absent, null, or the legacy -999.0.
    pub missing: f64,
    /// The same message is sent again a little later.
    pub duplicate: f64,
    /// The message can never be stored.
    pub malformed: f64,
}

/// How a message is malformed. Each kind is a reason to reject the message permanently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformation {
    Truncated,
    NotJson,
    MissingField,
    IllTyped,
    FarFuture,
    Overflow,
}

impl Malformation {
    pub const ALL: [Self; 6] =
        [Self::Truncated, Self::NotJson, Self::MissingField, Self::IllTyped, Self::FarFuture, Self::Overflow];

    pub fn name(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::NotJson => "not_json",
            Self::MissingField => "missing_field",
            Self::IllTyped => "ill_typed",
            Self::FarFuture => "far_future",
            Self::Overflow => "overflow",
        }
    }

    /// Makes the encoded message in `payload`, which must be one JSON object, malformed.
    pub fn apply(self, payload: &mut Vec<u8>) {
        match self {
            Self::Truncated => payload.truncate(payload.len() * 2 / 3),
            Self::NotJson => {
                payload.clear();
                payload.extend_from_slice(b"sensor rebooted: watchdog timeout");
            }
            Self::MissingField => rename(payload, b"\"iot_sensor_id\"", b"\"iot_sensor_no\""),
            Self::IllTyped => replace_value(payload, b"\"iot_sensor_id\":", b"true"),
            Self::FarFuture => {
                replace_value(payload, b"\"recorded_timestamp\":", b"\"2999-12-31T23:59:59.000Z\"");
            }
            Self::Overflow => {
                payload.pop();
                payload.extend_from_slice(b",\"temperature\":1e99}");
            }
        }
    }
}

fn find(payload: &[u8], needle: &[u8]) -> Option<usize> {
    payload.windows(needle.len()).position(|window| window == needle)
}

fn rename(payload: &mut [u8], from: &[u8], to: &[u8]) {
    if let Some(at) = find(payload, from) {
        payload[at..at + to.len()].copy_from_slice(to);
    }
}

/// Replaces the quoted value after `key`.
fn replace_value(payload: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    if let Some(begin) = find(payload, key).map(|at| at + key.len()) {
        let rest = &payload[begin..];
        let end = rest.iter().position(|&byte| byte == b',' || byte == b'}').unwrap_or(rest.len());
        payload.splice(begin..begin + end, value.iter().copied());
    }
}

/// By how much `sensor`'s late readings are late: from a minute to six hours, the same for all of them.
///
/// Constant per sensor and odd in milliseconds: so two late readings of a sensor keep their distance, and none has the
/// timestamp of a punctual one of the simulated fleet, whose timestamps are even. Every late reading is a row of its
/// own, and counts stay exact.
pub fn lateness(sensor: Uuid) -> Duration {
    const SPAN: u64 = 6 * 3_600_000 - 60_000;
    let (_, low) = sensor.as_u64_pair();
    Duration::from_millis((60_000 + low % SPAN) | 1)
}

/// How a value was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The reading has no value to lose.
    Nothing,
    Absent,
    /// Encoded as `"name":null`.
    Null(&'static str),
    /// Encoded as `"name":-999.0`, which the reading itself never holds.
    Sentinel(&'static str),
}

/// Takes one measured value out of `reading`.
pub fn lose_value(reading: &mut Reading<'_>, rng: &mut ChaCha8Rng) -> Lost {
    let mut columns = [
        ("temperature", &mut reading.temperature),
        ("humidity", &mut reading.humidity),
        ("pressure", &mut reading.pressure),
        ("light_level", &mut reading.light_level),
        ("gas_concentration", &mut reading.gas_concentration),
    ];
    let measured = columns.iter().filter(|(_, value)| value.is_some()).count();
    if measured == 0 {
        return Lost::Nothing;
    }
    let chosen = rng.random_range(0..measured);
    let Some((name, value)) = columns.iter_mut().filter(|(_, value)| value.is_some()).nth(chosen) else {
        return Lost::Nothing;
    };
    **value = None;
    match rng.random_range(0..3) {
        0 => Lost::Absent,
        1 => Lost::Null(name),
        _ => Lost::Sentinel(name),
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use serde_json::Value;

    use super::*;
    use crate::reading::encode::Encoder;
    use crate::simulation::fleet::blank;

    fn reading() -> Reading<'static> {
        Reading {
            location: "plant-1".into(),
            device_type: "thermostat".into(),
            sensor: Uuid::from_u128(7),
            sensor_name: None,
            sensor_tags: Vec::new(),
            recorded_at: 1_700_000_000_000,
            temperature: Some(21.5),
            humidity: Some(40.0),
            ..blank()
        }
    }

    fn broken(kind: Malformation) -> Vec<u8> {
        let mut payload = Vec::new();
        Encoder::new().encode(&reading(), &mut payload);
        kind.apply(&mut payload);
        payload
    }

    #[test]
    fn each_malformation_makes_the_message_malformed_as_named() {
        let json = |kind| serde_json::from_slice::<Value>(&broken(kind));
        assert!(json(Malformation::Truncated).is_err());
        assert!(json(Malformation::NotJson).is_err());
        assert!(json(Malformation::MissingField).unwrap().get("iot_sensor_id").is_none());
        assert_eq!(json(Malformation::IllTyped).unwrap()["iot_sensor_id"], true);
        assert_eq!(json(Malformation::FarFuture).unwrap()["recorded_timestamp"], "2999-12-31T23:59:59.000Z");
        assert_eq!(json(Malformation::Overflow).unwrap()["temperature"], 1e99);
    }

    #[test]
    fn every_malformation_is_rejected_by_the_decoder_and_the_intact_message_is_accepted() {
        use std::time::Duration;

        use crate::reading::decode::{DecodeLimits, decode};
        let limits = DecodeLimits {
            max_message_bytes: 1 << 20,
            max_future_skew: Duration::from_secs(3600),
            is_any_time: false,
        };
        let now = reading().recorded_at;
        let mut whole = Vec::new();
        Encoder::new().encode(&reading(), &mut whole);
        assert_eq!(decode(&whole, &limits, now).unwrap().reading, reading());
        for kind in Malformation::ALL {
            assert!(decode(&broken(kind), &limits, now).is_err(), "{kind:?}");
        }
    }

    #[test]
    fn lateness_is_minutes_to_hours_and_odd() {
        for number in 0..1000u128 {
            let late = lateness(Uuid::from_u128(number * 0x9e37_79b9_7f4a_7c15)).as_millis();
            assert!((60_000..=6 * 3_600_000).contains(&late) && late % 2 == 1);
        }
    }

    #[test]
    fn a_lost_value_is_absent_null_or_the_sentinel() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut seen = [0; 3];
        for _ in 0..300 {
            let mut reading = reading();
            let index = match lose_value(&mut reading, &mut rng) {
                Lost::Nothing => panic!("two values were measured"),
                Lost::Absent => 0,
                Lost::Null(_) => 1,
                Lost::Sentinel(_) => 2,
            };
            seen[index] += 1;
            let left = [reading.temperature, reading.humidity];
            let real = left.iter().flatten().count();
            assert_eq!(real, 1);
        }
        assert!(seen.iter().all(|&count| count > 60), "{seen:?}");
    }
}
