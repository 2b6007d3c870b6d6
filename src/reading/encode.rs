//! From a [`Reading`] to the message's bytes: one JSON object, fields in the table's order, missing ones left out.
//!
//! Written by hand because the simulated fleet encodes hundreds of thousands a second into one reused buffer:
//! nothing here allocates once the buffer has grown, and the date of a timestamp is worked out once a second.

use chrono::{DateTime, Datelike, Timelike};
use uuid::Uuid;

use super::{LEGACY_MISSING, Metric, Reading};

/// Encodes readings one after another; remembers the last second's text.
#[derive(Debug, Clone)]
pub struct Encoder {
    /// The second that `stamp` spells, since the epoch.
    second: i64,
    /// `2026-01-31T12:34:56`.
    stamp: [u8; 19],
}

impl Default for Encoder {
    fn default() -> Self {
        Self { second: i64::MIN, stamp: [b'0'; 19] }
    }
}

impl Encoder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends `reading` to `out`. A number that is not finite cannot be said in JSON and is left out as missing. Of a reading
    /// with a -999, which a mapping may have found, other metrics are in `measured_metrics`, and this column too.
    pub fn encode(&mut self, reading: &Reading<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"location\":");
        string(&reading.location, out);
        out.extend_from_slice(b",\"device_type\":");
        string(&reading.device_type, out);
        out.extend_from_slice(b",\"iot_sensor_id\":\"");
        sensor_id(reading.sensor, out);
        out.extend_from_slice(b"\",\"recorded_timestamp\":");
        self.timestamp(reading.recorded_at, out);
        column(b",\"temperature\":", reading.temperature, out);
        column(b",\"humidity\":", reading.humidity, out);
        column(b",\"pressure\":", reading.pressure, out);
        if let Some(motion) = reading.motion_detected {
            out.extend_from_slice(if motion {
                b",\"motion_detected\":true"
            } else {
                b",\"motion_detected\":false"
            });
        }
        column(b",\"light_level\":", reading.light_level, out);
        column(b",\"gas_concentration\":", reading.gas_concentration, out);
        others(reading, out);
        about_sensor(reading, out);
        out.push(b'}');
    }

    /// Appends a quoted RFC 3339 timestamp in UTC with milliseconds; outside the four-digit years that RFC 3339 can
    /// say, the bare milliseconds since the epoch, which the wire format takes as well.
    pub fn timestamp(&mut self, millis: i64, out: &mut Vec<u8>) {
        let second = millis.div_euclid(1000);
        if second != self.second {
            let Some(stamp) = spell(second) else {
                out.extend_from_slice(itoa::Buffer::new().format(millis).as_bytes());
                return;
            };
            (self.second, self.stamp) = (second, stamp);
        }
        let mut text = [0; 26];
        text[0] = b'"';
        text[1..20].copy_from_slice(&self.stamp);
        text[20] = b'.';
        // 0..1000, so it fits.
        digits(millis.rem_euclid(1000) as u32, &mut text[21..24]);
        text[24] = b'Z';
        text[25] = b'"';
        out.extend_from_slice(&text);
    }
}

/// Adds a member to the encoded object that ends `out`: how some devices say "not measured".
pub fn append(name: &str, json: &[u8], out: &mut Vec<u8>) {
    if out.last() == Some(&b'}') {
        out.pop();
        out.push(b',');
        string(name, out);
        out.push(b':');
        out.extend_from_slice(json);
        out.push(b'}');
    }
}

/// Appends the 36 characters of a sensor id.
pub fn sensor_id(sensor: Uuid, out: &mut Vec<u8>) {
    let mut text = Uuid::encode_buffer();
    out.extend_from_slice(sensor.hyphenated().encode_lower(&mut text).as_bytes());
}

/// Appends a quoted, escaped JSON string.
pub fn string(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut plain = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[plain..index]);
        plain = index + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
    }
    out.extend_from_slice(&bytes[plain..]);
    out.push(b'"');
}

/// A column, unless its value would be read as missing.
fn column(key: &[u8], value: Option<f32>, out: &mut Vec<u8>) {
    number(key, value.filter(|value| f64::from(*value) != LEGACY_MISSING), out);
}

/// The shortest decimal that reads back as the same number.
fn number<N: zmij::Float>(key: &[u8], value: Option<N>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        let mut buffer = zmij::Buffer::new();
        let text = buffer.format(value);
        // The names of what is not finite are letters.
        if text.ends_with(|last: char| last.is_ascii_digit()) {
            out.extend_from_slice(key);
            out.extend_from_slice(text.as_bytes());
        }
    }
}

fn others(reading: &Reading<'_>, out: &mut Vec<u8>) {
    let columns = || {
        let values = Metric::COLUMNS.iter().map(|metric| (metric.name(), reading.column(metric)));
        values.filter(|(_, value)| value.is_some_and(|value| f64::from(value) == LEGACY_MISSING))
    };
    let has_sentinel =
        columns().next().is_some() || reading.other_metrics.iter().any(|(_, value)| *value == LEGACY_MISSING);
    let mut separator: &[u8] =
        if has_sentinel { b",\"measured_metrics\":{" } else { b",\"other_metrics\":{" };
    for (name, value) in columns() {
        out.extend_from_slice(separator);
        string(name, out);
        number(b":", value, out);
        separator = b",";
    }
    for (name, value) in reading.other_metrics.iter().filter(|(_, value)| value.is_finite()) {
        out.extend_from_slice(separator);
        string(name, out);
        number(b":", Some(*value), out);
        separator = b",";
    }
    if separator == b"," {
        out.push(b'}');
    }
    texts(b",\"states\":{", reading.states.iter().map(|(name, text)| (&**name, &**text)), out);
}

/// An object of texts that begins with `opening`; nothing without pairs.
fn texts<'r>(opening: &[u8], pairs: impl Iterator<Item = (&'r str, &'r str)>, out: &mut Vec<u8>) {
    let mut separator = opening;
    for (name, text) in pairs {
        out.extend_from_slice(separator);
        string(name, out);
        out.push(b':');
        string(text, out);
        separator = b",";
    }
    if separator == b"," {
        out.push(b'}');
    }
}

/// What a mapping found out about the sensor, so that a reading that was mapped loses nothing.
fn about_sensor(reading: &Reading<'_>, out: &mut Vec<u8>) {
    if let Some(name) = &reading.sensor_name {
        out.extend_from_slice(b",\"sensor_name\":");
        string(name, out);
    }
    texts(b",\"sensor_tags\":{", reading.sensor_tags.iter().map(|(key, value)| (&**key, &**value)), out);
}

fn spell(second: i64) -> Option<[u8; 19]> {
    let at = DateTime::from_timestamp(second, 0)?;
    let year = u32::try_from(at.year()).ok().filter(|year| *year <= 9999)?;
    let mut text = *b"0000-00-00T00:00:00";
    digits(year, &mut text[0..4]);
    digits(at.month(), &mut text[5..7]);
    digits(at.day(), &mut text[8..10]);
    digits(at.hour(), &mut text[11..13]);
    digits(at.minute(), &mut text[14..16]);
    digits(at.second(), &mut text[17..19]);
    Some(text)
}

/// Fills `text` with the last digits of `number`, zeros in front.
fn digits(mut number: u32, text: &mut [u8]) {
    for digit in text.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn finite() -> impl Strategy<Value = Option<f32>> {
        proptest::option::of(proptest::num::f32::NORMAL | proptest::num::f32::ZERO)
    }

    prop_compose! {
        fn reading()(
            location in ".{0,40}", device_type in "\\PC{0,20}", id in any::<u128>(),
            recorded_at in -62_167_219_200_000i64..253_402_300_800_000,
            columns in [finite(), finite(), finite(), finite(), finite()],
            motion_detected in proptest::option::of(any::<bool>()),
            others in proptest::collection::btree_map(".{0,8}", proptest::num::f64::NORMAL, 0..4),
            states in proptest::collection::btree_map(".{0,8}", ".{0,12}", 0..3),
        ) -> Reading<'static> {
            let [temperature, humidity, pressure, light_level, gas_concentration] = columns;
            Reading {
                location: location.into(), device_type: device_type.into(), sensor: Uuid::from_u128(id),
                sensor_name: None, sensor_tags: Vec::new(),                recorded_at, temperature, humidity, pressure, motion_detected, light_level, gas_concentration,
                other_metrics: others.into_iter().map(|(name, value)| (name.into(), value)).collect(),
                states: states.into_iter().map(|(name, text)| (name.into(), text.into())).collect(),
            }
        }
    }

    fn parse(reading: &Reading<'_>) -> Value {
        let mut out = Vec::new();
        Encoder::new().encode(reading, &mut out);
        serde_json::from_slice(&out).expect("encoded readings are JSON")
    }

    proptest! {
        #[test]
        fn what_is_encoded_reads_back_the_same(reading in reading()) {
            let value = parse(&reading);
            let float = |value: &Value| value.as_f64().map(|number| number as f32);
            prop_assert_eq!(value["location"].as_str(), Some(&*reading.location));
            prop_assert_eq!(value["device_type"].as_str(), Some(&*reading.device_type));
            prop_assert_eq!(value["iot_sensor_id"].as_str(), Some(&*reading.sensor.to_string()));
            let at = DateTime::parse_from_rfc3339(value["recorded_timestamp"].as_str().unwrap()).unwrap();
            prop_assert_eq!(at.timestamp_millis(), reading.recorded_at);
            prop_assert_eq!(float(&value["temperature"]), reading.temperature);
            prop_assert_eq!(float(&value["humidity"]), reading.humidity);
            prop_assert_eq!(float(&value["pressure"]), reading.pressure);
            prop_assert_eq!(value["motion_detected"].as_bool(), reading.motion_detected);
            prop_assert_eq!(float(&value["light_level"]), reading.light_level);
            prop_assert_eq!(float(&value["gas_concentration"]), reading.gas_concentration);
            let others: BTreeMap<_, _> =
                reading.other_metrics.iter().map(|(name, value)| (name.to_string(), *value)).collect();
            let read: BTreeMap<_, _> = value["other_metrics"].as_object().into_iter().flatten()
                .map(|(name, value)| (name.clone(), value.as_f64().unwrap())).collect();
            prop_assert_eq!(read, others);
            let states: BTreeMap<_, _> =
                reading.states.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
            let read: BTreeMap<_, _> = value["states"].as_object().into_iter().flatten()
                .map(|(name, text)| (name.clone(), text.as_str().unwrap().to_owned())).collect();
            prop_assert_eq!(read, states);
        }
    }

    proptest! {
        #[test]
        fn a_decoded_encoding_is_the_reading(reading in reading()) {
            use crate::reading::decode::{DecodeLimits, EARLIEST, decode};
            let limits = DecodeLimits {
                max_message_bytes: 1 << 20,
                max_future_skew: std::time::Duration::from_secs(3600),
                is_any_time: false,
            };
            let mut reading = reading;
            // What the decoder refuses by rule is not this property's business.
            for name in [&mut reading.location, &mut reading.device_type] {
                let printable: String = name.chars().filter(|it| !it.is_control()).take(60).collect();
                *name = format!("n{printable}").into();
            }
            for (index, (name, _)) in reading.other_metrics.iter_mut().enumerate() {
                let printable: String = name.chars().filter(|it| !it.is_control()).collect();
                *name = format!("m{index}{printable}").into();
            }
            for (index, (name, text)) in reading.states.iter_mut().enumerate() {
                let printable: String = name.chars().filter(|it| !it.is_control()).collect();
                *name = format!("s{index}{printable}").into();
                // Blank text is missing.
                *text = format!("{text}x").into();
            }
            reading.recorded_at = reading.recorded_at.max(EARLIEST);
            let mut out = Vec::new();
            Encoder::new().encode(&reading, &mut out);
            let decoded = decode(&out, &limits, reading.recorded_at).unwrap();
            prop_assert_eq!(decoded.reading, reading);
            prop_assert!(decoded.left_out.is_empty());
        }
    }

    fn plain() -> Reading<'static> {
        Reading {
            location: "plant-1".into(),
            device_type: "thermostat".into(),
            sensor: Uuid::nil(),
            sensor_name: None,
            sensor_tags: Vec::new(),
            recorded_at: 1_386_018_900_007,
            temperature: Some(23.32),
            humidity: None,
            pressure: Some(f32::NAN),
            motion_detected: Some(false),
            light_level: None,
            gas_concentration: None,
            other_metrics: vec![("bad".into(), f64::INFINITY), ("battery_voltage".into(), 3.0)],
            states: vec![("mode".into(), "eco \"x\"".into())],
        }
    }

    #[test]
    fn a_reading_is_one_object_without_its_missing_fields() {
        let mut out = Vec::new();
        Encoder::new().encode(&plain(), &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"location\":\"plant-1\",\"device_type\":\"thermostat\",\
             \"iot_sensor_id\":\"00000000-0000-0000-0000-000000000000\",\
             \"recorded_timestamp\":\"2013-12-02T21:15:00.007Z\",\"temperature\":23.32,\
             \"motion_detected\":false,\"other_metrics\":{\"battery_voltage\":3.0},\
             \"states\":{\"mode\":\"eco \\\"x\\\"\"}}"
        );
    }

    #[test]
    fn a_year_that_rfc_3339_cannot_say_is_sent_as_milliseconds() {
        let mut reading = plain();
        reading.recorded_at = 253_402_300_800_000;
        assert_eq!(parse(&reading)["recorded_timestamp"], 253_402_300_800_000i64);
    }

    #[test]
    fn an_encoder_keeps_no_trace_of_the_second_before() {
        let mut encoder = Encoder::new();
        let mut out = Vec::new();
        for millis in [-1, 0, 999, 1000, 1_386_018_900_007, 0] {
            out.clear();
            encoder.timestamp(millis, &mut out);
            let text: String = serde_json::from_slice(&out).unwrap();
            assert_eq!(DateTime::parse_from_rfc3339(&text).unwrap().timestamp_millis(), millis);
        }
    }

    #[test]
    fn a_null_joins_the_object() {
        let mut out = Vec::new();
        Encoder::new().encode(&plain(), &mut out);
        append("humidity", b"null", &mut out);
        let value: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value.get("humidity"), Some(&Value::Null));
        assert_eq!(value["motion_detected"], false);
    }
}
