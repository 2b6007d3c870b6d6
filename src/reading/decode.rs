//! From a message's bytes to a [`Reading`], or the reason why it can never be stored.
//!
//! The bytes come from outside and may be hostile: nothing here panics, recurses without bound (serde_json stops at
//! 128 levels) or allocates more than a few times the message's own size, and no reason for a refusal repeats more
//! than a little of the message. Where a name stands twice, the last one counts, as it does for most JSON readers.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Unexpected, Visitor};
use uuid::Uuid;

use super::scalar::{AnyScalar, Name, Scalar};
use super::{LEGACY_MISSING, Metric, Reading};
use crate::time;

/// A location, device type or metric name is at most this long.
pub const MAX_NAME_BYTES: usize = 256;
/// A reading has at most this many metrics beyond the columns.
pub const MAX_OTHER_METRICS: usize = 64;
/// 2000-01-01T00:00:00Z: a clock that says less has never been set.
pub const EARLIEST: i64 = 946_684_800_000;

/// What decoding refuses beyond malformed messages.
#[derive(Debug, Clone, Copy)]
pub struct DecodeLimits {
    pub max_message_bytes: usize,
    /// How far after now a reading may claim to be.
    pub max_future_skew: Duration,
}

/// A decoded message.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded<'a> {
    pub reading: Reading<'a>,
    /// Unknown fields that are no numbers; they are not stored.
    pub ignored_fields: u32,
}

/// Why a message can never be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("not a JSON object: {0}")]
    NotJson(String),
    #[error("{bytes} bytes are more than the {limit} that ingest.max_message_bytes allows")]
    TooLarge { bytes: usize, limit: usize },
    #[error("required field {0} is missing")]
    MissingField(&'static str),
    #[error("field {field} must be {expected}")]
    IllTyped { field: String, expected: &'static str },
    #[error("field {field}: {value} does not fit a 32-bit float")]
    NumberOutOfRange { field: String, value: String },
    #[error("recorded_timestamp {0} ms is before the year 2000 or too far in the future")]
    TimestampOutOfRange(i64),
    #[error("field {field}: a name must have 1 to 256 bytes and no control characters")]
    BadName { field: String },
    #[error("more than {MAX_OTHER_METRICS} other metrics")]
    TooManyMetrics,
}

impl Rejection {
    /// Every label of [`Rejection::reason`], in the order of [`Rejection::examples`].
    pub const REASONS: [&str; 8] = [
        "not_json",
        "too_large",
        "missing_field",
        "ill_typed_field",
        "number_out_of_range",
        "timestamp_out_of_range",
        "bad_name",
        "too_many_metrics",
    ];

    /// One of each, for the reference.
    pub fn examples() -> Vec<Self> {
        let field = || "temperature".to_owned();
        vec![
            Self::NotJson("expected value at line 1 column 1".to_owned()),
            Self::TooLarge { bytes: 1_048_577, limit: 1_048_576 },
            Self::MissingField("iot_sensor_id"),
            Self::IllTyped { field: field(), expected: "a number or null" },
            Self::NumberOutOfRange { field: field(), value: "1e39".to_owned() },
            Self::TimestampOutOfRange(0),
            Self::BadName { field: "location".to_owned() },
            Self::TooManyMetrics,
        ]
    }

    /// A short label for counting: one of a fixed few.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotJson(_) => "not_json",
            Self::TooLarge { .. } => "too_large",
            Self::MissingField(_) => "missing_field",
            Self::IllTyped { .. } => "ill_typed_field",
            Self::NumberOutOfRange { .. } => "number_out_of_range",
            Self::TimestampOutOfRange(_) => "timestamp_out_of_range",
            Self::BadName { .. } => "bad_name",
            Self::TooManyMetrics => "too_many_metrics",
        }
    }

    fn ill_typed(field: &str, expected: &'static str) -> Self {
        Self::IllTyped { field: shown(field), expected }
    }
}

/// Decodes one message. `now` is in milliseconds since the epoch.
pub fn decode<'a>(message: &'a [u8], limits: &DecodeLimits, now: i64) -> Result<Decoded<'a>, Rejection> {
    if message.len() > limits.max_message_bytes {
        return Err(Rejection::TooLarge { bytes: message.len(), limit: limits.max_message_bytes });
    }
    let mut fields = Fields::default();
    let mut json = serde_json::Deserializer::from_slice(message);
    let parsed = fields.deserialize_from(&mut json).and_then(|()| json.end());
    if let Some(rejection) = fields.rejection.take() {
        return Err(rejection);
    }
    parsed.map_err(|error| match error.to_string() {
        message if message.starts_with("number out of range") => {
            Rejection::NumberOutOfRange { field: "?".into(), value: "a number".into() }
        }
        message => Rejection::NotJson(message),
    })?;
    fields.into_decoded(limits, now)
}

/// The fields met so far.
#[derive(Default)]
struct Fields<'a> {
    location: Option<Cow<'a, str>>,
    device_type: Option<Cow<'a, str>>,
    sensor: Option<Uuid>,
    recorded_at: Option<i64>,
    columns: [Option<f32>; 5],
    motion_detected: Option<bool>,
    other_metrics: Vec<(Cow<'a, str>, f32)>,
    ignored_fields: u32,
    /// serde's errors are text; the typed reason waits here.
    rejection: Option<Rejection>,
}

impl<'a> Fields<'a> {
    fn deserialize_from<D: Deserializer<'a>>(&mut self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(FieldsVisitor(self))
    }

    fn into_decoded(self, limits: &DecodeLimits, now: i64) -> Result<Decoded<'a>, Rejection> {
        let recorded_at = self.recorded_at.ok_or(Rejection::MissingField("recorded_timestamp"))?;
        let latest =
            now.saturating_add(i64::try_from(limits.max_future_skew.as_millis()).unwrap_or(i64::MAX));
        if recorded_at < EARLIEST || recorded_at > latest {
            return Err(Rejection::TimestampOutOfRange(recorded_at));
        }
        let [temperature, humidity, pressure, light_level, gas_concentration] = self.columns;
        let reading = Reading {
            location: self.location.ok_or(Rejection::MissingField("location"))?,
            device_type: self.device_type.ok_or(Rejection::MissingField("device_type"))?,
            sensor: self.sensor.ok_or(Rejection::MissingField("iot_sensor_id"))?,
            recorded_at,
            temperature,
            humidity,
            pressure,
            motion_detected: self.motion_detected,
            light_level,
            gas_concentration,
            other_metrics: self.other_metrics,
        };
        Ok(Decoded { reading, ignored_fields: self.ignored_fields })
    }

    fn set(&mut self, field: Cow<'a, str>, value: Scalar<'a>) -> Result<(), Rejection> {
        match &*field {
            "location" => self.location = Some(name("location", value)?),
            "device_type" => self.device_type = Some(name("device_type", value)?),
            "iot_sensor_id" => self.sensor = Some(sensor(value)?),
            "recorded_timestamp" => self.recorded_at = Some(timestamp(value)?),
            "motion_detected" => self.motion_detected = boolean(value)?,
            _ => match Metric::COLUMNS.iter().position(|metric| metric.name() == field) {
                Some(column) => self.columns[column] = number(&field, value)?,
                None if value.is_number() => self.set_other_metric(field, value)?,
                None => self.ignored_fields += 1,
            },
        }
        Ok(())
    }

    fn set_other_metric(&mut self, field: Cow<'a, str>, value: Scalar<'a>) -> Result<(), Rejection> {
        check_name(&field, &field)?;
        let value = number(&field, value)?;
        let known = self.other_metrics.iter().position(|(name, _)| *name == field);
        match (known, value) {
            (Some(index), Some(value)) => self.other_metrics[index].1 = value,
            (Some(index), None) => drop(self.other_metrics.remove(index)),
            (None, Some(_)) if self.other_metrics.len() == MAX_OTHER_METRICS => {
                return Err(Rejection::TooManyMetrics);
            }
            (None, Some(value)) => self.other_metrics.push((field, value)),
            (None, None) => {}
        }
        Ok(())
    }

    /// Keeps the typed reason and gives serde something to stop on.
    fn reject<E: serde::de::Error>(&mut self, rejection: Rejection) -> E {
        self.rejection = Some(rejection);
        E::custom("rejected")
    }
}

fn name<'a>(field: &str, value: Scalar<'a>) -> Result<Cow<'a, str>, Rejection> {
    match value {
        Scalar::Text(text) => check_name(field, &text).map(|()| text),
        _ => Err(Rejection::ill_typed(field, "text")),
    }
}

fn check_name(field: &str, name: &str) -> Result<(), Rejection> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        return Err(Rejection::BadName { field: shown(field) });
    }
    Ok(())
}

fn sensor(value: Scalar<'_>) -> Result<Uuid, Rejection> {
    let id = match value {
        Scalar::Text(text) => Uuid::try_parse(&text).ok(),
        _ => None,
    };
    id.ok_or_else(|| Rejection::ill_typed("iot_sensor_id", "a UUID"))
}

fn timestamp(value: Scalar<'_>) -> Result<i64, Rejection> {
    let millis = match value {
        Scalar::Text(text) => time::rfc3339(&text),
        Scalar::Integer(millis) => Some(millis),
        // Some clients write every number as a float; a fraction of a millisecond is dropped.
        Scalar::Float(millis) if millis.abs() < 1e15 => Some(millis.floor() as i64),
        _ => None,
    };
    millis.ok_or_else(|| {
        Rejection::ill_typed("recorded_timestamp", "RFC 3339 with an offset or Z, or milliseconds since 1970")
    })
}

fn boolean(value: Scalar<'_>) -> Result<Option<bool>, Rejection> {
    match value {
        Scalar::Null => Ok(None),
        Scalar::Boolean(value) => Ok(Some(value)),
        _ => Err(Rejection::ill_typed("motion_detected", "true, false or null")),
    }
}

/// A number, or missing: null and the legacy sentinel are.
fn number(field: &str, value: Scalar<'_>) -> Result<Option<f32>, Rejection> {
    let value = match value {
        Scalar::Null => return Ok(None),
        Scalar::Integer(value) => value as f64,
        Scalar::Float(value) => value,
        _ => return Err(Rejection::ill_typed(field, "a number or null")),
    };
    if value == LEGACY_MISSING {
        return Ok(None);
    }
    let stored = value as f32;
    match stored.is_finite() {
        true => Ok(Some(stored)),
        false => Err(Rejection::NumberOutOfRange { field: shown(field), value: value.to_string() }),
    }
}

/// A field's name, fit for a message: it may be anything, of any length.
fn shown(field: &str) -> String {
    field.chars().take(64).flat_map(char::escape_debug).collect()
}

/// Text where an object belongs. serde's own words would repeat all of it, which may be megabytes.
fn no_object<'a, E: serde::de::Error>(expected: &impl Visitor<'a>) -> E {
    E::invalid_type(Unexpected::Other("a string"), expected)
}

struct FieldsVisitor<'f, 'a>(&'f mut Fields<'a>);

impl<'a> Visitor<'a> for FieldsVisitor<'_, 'a> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object with the fields of a reading")
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        Err(no_object(&self))
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key_seed(Name)? {
            if field == "other_metrics" {
                map.next_value_seed(OtherMetrics(self.0))?;
                continue;
            }
            let value = map.next_value_seed(AnyScalar)?;
            self.0.set(field, value).map_err(|rejection| self.0.reject(rejection))?;
        }
        Ok(())
    }
}

/// The object under `other_metrics`.
struct OtherMetrics<'f, 'a>(&'f mut Fields<'a>);

impl<'a> DeserializeSeed<'a> for OtherMetrics<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for OtherMetrics<'_, 'a> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of numbers under other_metrics")
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        Err(no_object(&self))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key_seed(Name)? {
            let value = map.next_value_seed(AnyScalar)?;
            self.0.set_other_metric(field, value).map_err(|rejection| self.0.reject(rejection))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_750_000_000_000;
    const LIMITS: DecodeLimits =
        DecodeLimits { max_message_bytes: 10_000, max_future_skew: Duration::from_secs(3600) };
    const ID: &str = "6f1d2c3b-4a59-4687-8796-a5b4c3d2e1f0";

    fn message(extra: &str) -> String {
        format!(
            r#"{{"location":"plant-1","device_type":"thermostat","iot_sensor_id":"{ID}","recorded_timestamp":"2025-06-15T12:00:00.250+02:00"{extra}}}"#
        )
    }

    fn decoded(extra: &str) -> Result<Decoded<'static>, Rejection> {
        let message = message(extra);
        let decoded = decode(message.as_bytes(), &LIMITS, NOW)?;
        Ok(Decoded { reading: decoded.reading.into_owned(), ignored_fields: decoded.ignored_fields })
    }

    #[test]
    fn four_fields_are_enough() {
        let reading = decoded("").unwrap().reading;
        assert_eq!(reading.location, "plant-1");
        assert_eq!(reading.device_type, "thermostat");
        assert_eq!(reading.sensor.to_string(), ID);
        assert_eq!(reading.recorded_at, 1_749_981_600_250);
        assert_eq!(reading.temperature, None);
        assert!(reading.other_metrics.is_empty());
    }

    #[test]
    fn every_field_is_read() {
        let reading = decoded(
            r#","temperature":21.5,"humidity":40,"pressure":1013.25,"motion_detected":true,"light_level":0.25,
            "gas_concentration":3e2,"other_metrics":{"co2_ppm":415,"voltage":3.3}"#,
        )
        .unwrap()
        .reading;
        assert_eq!(reading.temperature, Some(21.5));
        assert_eq!(reading.humidity, Some(40.0));
        assert_eq!(reading.pressure, Some(1013.25));
        assert_eq!(reading.motion_detected, Some(true));
        assert_eq!(reading.light_level, Some(0.25));
        assert_eq!(reading.gas_concentration, Some(300.0));
        assert_eq!(reading.other_metrics, [("co2_ppm".into(), 415.0), ("voltage".into(), 3.3)]);
    }

    #[test]
    fn absent_null_and_the_legacy_sentinel_are_all_missing() {
        let reading =
            decoded(r#","temperature":null,"humidity":-999.0,"pressure":-999,"other_metrics":{"a":-999.0}"#)
                .unwrap()
                .reading;
        assert_eq!((reading.temperature, reading.humidity, reading.pressure), (None, None, None));
        assert!(reading.other_metrics.is_empty());
        assert!(decoded(r#","other_metrics":null"#).unwrap().reading.other_metrics.is_empty());
    }

    #[test]
    fn unknown_numbers_become_other_metrics_and_other_unknown_fields_are_counted() {
        let decoded =
            decoded(r#","vibration":7,"note":"hot","tags":[1,{"a":[2]}],"nested":{"x":1}"#).unwrap();
        assert_eq!(decoded.reading.other_metrics, [("vibration".into(), 7.0)]);
        assert_eq!(decoded.ignored_fields, 3);
    }

    #[test]
    fn the_last_of_two_equal_names_counts() {
        let reading = decoded(r#","temperature":1,"temperature":2,"other_metrics":{"a":1,"a":2},"a":3"#)
            .unwrap()
            .reading;
        assert_eq!(reading.temperature, Some(2.0));
        assert_eq!(reading.other_metrics, [("a".into(), 3.0)]);
    }

    #[test]
    fn escaped_names_are_unescaped() {
        let message = message(r#","t\u0065mperature":5"#);
        assert_eq!(decode(message.as_bytes(), &LIMITS, NOW).unwrap().reading.temperature, Some(5.0));
    }

    #[test]
    fn each_kind_of_bad_message_has_its_reason() {
        let reason = |message: &str| decode(message.as_bytes(), &LIMITS, NOW).unwrap_err().reason();
        assert_eq!(reason(""), "not_json");
        assert_eq!(reason("[1]"), "not_json");
        assert_eq!(reason(&message(r#","temperature":NaN"#)), "not_json");
        assert_eq!(reason(&format!("{} x", message(""))), "not_json");
        assert_eq!(reason(&format!("{}1", "[".repeat(9_000))), "not_json");
        assert_eq!(reason(&"x".repeat(10_001)), "too_large");
        assert_eq!(reason(r#"{"location":"a"}"#), "missing_field");
        assert_eq!(reason(&message(r#","location":7"#)), "ill_typed_field");
        assert_eq!(reason(&message(r#","location":null"#)), "ill_typed_field");
        assert_eq!(reason(&message(r#","iot_sensor_id":"seven""#)), "ill_typed_field");
        assert_eq!(reason(&message(r#","recorded_timestamp":"2025-06-15 12:00""#)), "ill_typed_field");
        assert_eq!(reason(&message(r#","temperature":"hot""#)), "ill_typed_field");
        assert_eq!(reason(&message(r#","motion_detected":1"#)), "ill_typed_field");
        assert_eq!(reason(&message(r#","other_metrics":[1]"#)), "not_json");
        assert_eq!(reason(&message(r#","temperature":1e39"#)), "number_out_of_range");
        assert_eq!(reason(&message(r#","temperature":1e999"#)), "number_out_of_range");
        assert_eq!(reason(&message(r#","recorded_timestamp":0"#)), "timestamp_out_of_range");
        assert_eq!(reason(&message(r#","recorded_timestamp":1750000000"#)), "timestamp_out_of_range");
        assert_eq!(
            reason(&message(&format!(r#","recorded_timestamp":{}"#, NOW + 3_600_001))),
            "timestamp_out_of_range"
        );
        assert_eq!(reason(&message(r#","location":"a\u0000b""#)), "bad_name");
        assert_eq!(reason(&message(r#","location":"""#)), "bad_name");
        assert_eq!(reason(&message(&format!(r#","device_type":"{}""#, "x".repeat(257)))), "bad_name");
        let many: Vec<_> = (0..65).map(|index| format!("\"m{index}\":1")).collect();
        assert_eq!(
            reason(&message(&format!(r#","other_metrics":{{{}}}"#, many.join(",")))),
            "too_many_metrics"
        );
    }

    #[test]
    fn a_refusal_does_not_repeat_a_long_message() {
        let limits = DecodeLimits { max_message_bytes: 1 << 20, ..LIMITS };
        let long = "\\u0001x".repeat(100_000);
        for message in [
            format!("\"{long}\""),
            format!("{{\"other_metrics\":\"{long}\"}}"),
            format!("{{\"temperature\":\"{long}\"}}"),
            format!("{{\"iot_sensor_id\":\"{long}\"}}"),
            format!("{{\"location\":\"{long}\"}}"),
            format!("{{\"{long}\":1}}"),
            format!("{{\"other_metrics\":{{\"{long}\":1}}}}"),
            format!("{{\"{long}"),
        ] {
            let text = decode(message.as_bytes(), &limits, NOW).unwrap_err().to_string();
            assert!(text.len() < 1_000, "{} bytes: {:.100}", text.len(), text);
        }
    }

    #[test]
    fn a_byte_order_mark_and_bad_utf8_are_not_json() {
        let with_mark = [b"\xEF\xBB\xBF", message("").as_bytes()].concat();
        assert_eq!(decode(&with_mark, &LIMITS, NOW).unwrap_err().reason(), "not_json");
        let mut bad = message("").into_bytes();
        bad[14] = 0xFF;
        assert_eq!(decode(&bad, &LIMITS, NOW).unwrap_err().reason(), "not_json");
    }

    #[test]
    fn epoch_milliseconds_are_a_timestamp_too() {
        assert_eq!(
            decoded(r#","recorded_timestamp":1749981600250"#).unwrap().reading.recorded_at,
            1_749_981_600_250
        );
        assert_eq!(
            decoded(r#","recorded_timestamp":1749981600250.0"#).unwrap().reading.recorded_at,
            1_749_981_600_250
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode(&bytes, &LIMITS, NOW);
        }

        #[test]
        fn no_damage_to_a_message_makes_it_panic(cut in 0usize..160, byte in any::<u8>(), at in 0usize..160) {
            let mut bytes = message(r#","temperature":21.5,"other_metrics":{"a":1}"#).into_bytes();
            let length = bytes.len();
            bytes[at % length] = byte;
            bytes.truncate(cut.max(1));
            let _ = decode(&bytes, &LIMITS, NOW);
        }

        #[test]
        fn decoding_is_a_pure_function_of_the_message(temperature in proptest::option::of(-1e30f32..1e30), at in EARLIEST..NOW) {
            let value = temperature.map_or("null".to_owned(), |value| format!("{value:e}"));
            let message = message(&format!(r#","temperature":{value},"recorded_timestamp":{at}"#));
            let once = decode(message.as_bytes(), &LIMITS, NOW).unwrap();
            prop_assert_eq!(once.reading.temperature, temperature.filter(|value| *value != -999.0));
            prop_assert_eq!(once.reading.recorded_at, at);
            prop_assert_eq!(&once, &decode(message.as_bytes(), &LIMITS, NOW + 1).unwrap());
        }
    }
}
