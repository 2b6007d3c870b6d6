//! From a message's bytes to a [`Reading`], or the reason why it can never be stored.
//!
//! One rule for values, wherever a field stands (at the top level, or in `other_metrics`):
//!
//! | value | becomes |
//! |---|---|
//! | number, or text that is a JSON number | the column of that name, else an other metric |
//! | `true`, `false` | `motion_detected`, else an other metric of 1 or 0; left out where the column has a unit |
//! | other text of up to [`MAX_STATE_BYTES`] | a state under the field's name |
//! | null, empty text, the legacy sentinel -999.0 | nothing: not measured. Under `measured_metrics`, and in mappings, -999 is a number |
//! | array, object, longer text | left out, and named in [`Decoded::left_out`] |
//!
//! A whole number in text beyond ±2^53 stays text, because a 64-bit float would lose its last digits: such a number is an
//! id. Text under `states` is a state whatever it looks like. Where a name stands twice, the last one counts, as it does
//! for most JSON readers.
//!
//! The bytes come from outside and may be hostile: nothing here panics, recurses without bound (serde_json stops at
//! 128 levels) or allocates more than a few times the message's own size, and no reason for a refusal repeats more
//! than a little of the message.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use uuid::Uuid;

use super::reason::{self, shown};
use super::scalar::{AnyScalar, Name, Scalar};
use super::tags::{MAX_TAGS, check_key};
use super::{Metric, Reading, Rejection};
use crate::time;

/// A location, device type or metric name is at most this long.
pub const MAX_NAME_BYTES: usize = 256;
/// A reading has at most this many metrics beyond the columns, and as many states.
pub const MAX_OTHER_METRICS: usize = 64;
/// Longer text is left out.
pub const MAX_STATE_BYTES: usize = 256;
/// 2000-01-01T00:00:00Z: a clock that says less has never been set.
pub const EARLIEST: i64 = 946_684_800_000;

/// What decoding refuses beyond malformed messages.
#[derive(Debug, Clone, Copy)]
pub struct DecodeLimits {
    pub max_message_bytes: usize,
    /// How far after now a reading may claim to be.
    pub max_future_skew: Duration,
    /// Times are not checked: those of a recording are shifted first.
    pub is_any_time: bool,
}

impl DecodeLimits {
    /// # Errors
    /// [`Rejection::TimestampOutOfRange`] before [`EARLIEST`], or too far after now.
    pub fn check_time(&self, recorded_at: i64, now: i64) -> Result<(), Rejection> {
        let latest = now.saturating_add(i64::try_from(self.max_future_skew.as_millis()).unwrap_or(i64::MAX));
        match self.is_any_time || (EARLIEST..=latest).contains(&recorded_at) {
            true => Ok(()),
            false => Err(reason::out_of_range(recorded_at, latest)),
        }
    }
}

/// A decoded message.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded<'a> {
    pub reading: Reading<'a>,
    /// The names of fields that are not stored, because no column takes their value; those in `other_metrics`,
    /// `measured_metrics` and `states` with that in front, as in `other_metrics.a`. As they stand in the message: hostile, of any length.
    pub left_out: Vec<Cow<'a, str>>,
}

/// Decodes one message. `now` is in milliseconds since the epoch.
pub fn decode<'a>(message: &'a [u8], limits: &DecodeLimits, now: i64) -> Result<Decoded<'a>, Rejection> {
    if message.len() > limits.max_message_bytes {
        return Err(Rejection::TooLarge { bytes: message.len(), limit: limits.max_message_bytes });
    }
    let mut fields = Fields::default();
    // One look at the whole message costs less than one at each of its strings. Bytes that are not UTF-8 do no harm in a field that
    // is left out.
    let parsed = match std::str::from_utf8(message) {
        Ok(text) => fields.parse(serde_json::Deserializer::from_str(text)),
        Err(_) => fields.parse(serde_json::Deserializer::from_slice(message)),
    };
    if let Some(rejection) = fields.rejection.take() {
        return Err(rejection);
    }
    if let Err(error) = parsed {
        return Err(reason::not_json(message, &error));
    }
    fields.into_decoded(limits, now)
}

/// The fields met so far.
#[derive(Default)]
struct Fields<'a> {
    location: Option<Cow<'a, str>>,
    device_type: Option<Cow<'a, str>>,
    sensor: Option<Uuid>,
    sensor_name: Option<Cow<'a, str>>,
    sensor_tags: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    recorded_at: Option<i64>,
    columns: [Option<f32>; 5],
    motion_detected: Option<bool>,
    other_metrics: Vec<(Cow<'a, str>, f64)>,
    states: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    left_out: Vec<Cow<'a, str>>,
    /// serde's errors are text; the typed reason waits here.
    rejection: Option<Rejection>,
}

impl<'a> Fields<'a> {
    fn parse<R: serde_json::de::Read<'a>>(
        &mut self,
        mut json: serde_json::Deserializer<R>,
    ) -> Result<(), serde_json::Error> {
        self.deserialize_from(&mut json).and_then(|()| json.end())
    }

    fn deserialize_from<D: Deserializer<'a>>(&mut self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(FieldsVisitor(self))
    }

    fn into_decoded(self, limits: &DecodeLimits, now: i64) -> Result<Decoded<'a>, Rejection> {
        let recorded_at = self.recorded_at.ok_or(Rejection::MissingField("recorded_timestamp"))?;
        limits.check_time(recorded_at, now)?;
        let [temperature, humidity, pressure, light_level, gas_concentration] = self.columns;
        let reading = Reading {
            location: self.location.ok_or(Rejection::MissingField("location"))?,
            device_type: self.device_type.ok_or(Rejection::MissingField("device_type"))?,
            sensor: self.sensor.ok_or(Rejection::MissingField("iot_sensor_id"))?,
            sensor_name: self.sensor_name,
            sensor_tags: self.sensor_tags,
            recorded_at,
            temperature,
            humidity,
            pressure,
            motion_detected: self.motion_detected,
            light_level,
            gas_concentration,
            other_metrics: self.other_metrics,
            states: self.states,
        };
        if !self.left_out.is_empty() && reading.is_empty() {
            return Err(reason::nothing_understood(&self.left_out));
        }
        Ok(Decoded { reading, left_out: self.left_out })
    }

    /// A field at the top level.
    fn set(&mut self, field: Cow<'a, str>, value: Scalar<'a>) -> Result<(), Rejection> {
        match &*field {
            "location" => self.location = Some(name("location", value)?),
            "device_type" => self.device_type = Some(name("device_type", value)?),
            "iot_sensor_id" => self.sensor = Some(sensor(value)?),
            "recorded_timestamp" => self.recorded_at = Some(timestamp(value)?),
            "sensor_name" => match value {
                Scalar::Text(text) if is_name(&text) => self.sensor_name = Some(text),
                other => self.set_value(Place::Top, field, other)?,
            },
            _ => self.set_value(Place::Top, field, value)?,
        }
        Ok(())
    }

    /// A field that holds a value, wherever it stands.
    fn set_value(&mut self, place: Place, field: Cow<'a, str>, value: Scalar<'a>) -> Result<(), Rejection> {
        match Metric::COLUMNS.iter().position(|metric| metric.name() == field) {
            Some(column) => self.set_column(place, column, field, value),
            None if field == "motion_detected" => self.set_motion(place, field, value),
            None => self.set_other(place, field, value),
        }
    }

    fn set_column(
        &mut self,
        place: Place,
        column: usize,
        field: Cow<'a, str>,
        value: Scalar<'a>,
    ) -> Result<(), Rejection> {
        let value = match value.simplified(place == Place::States, place.has_sentinel()) {
            Scalar::Number(value) => {
                let stored = value as f32;
                if !stored.is_finite() {
                    return Err(reason::too_large_for_a_column(&place.path(&field), value));
                }
                Some(stored)
            }
            Scalar::Null => None,
            Scalar::Text(text) => {
                self.columns[column] = None;
                return self.set_state(place, field, text);
            }
            Scalar::Boolean(_) | Scalar::Compound => return self.leave_out(place, field),
        };
        self.columns[column] = value;
        self.forget_state(&field);
        Ok(())
    }

    fn set_motion(&mut self, place: Place, field: Cow<'a, str>, value: Scalar<'a>) -> Result<(), Rejection> {
        let moves = match value.simplified(place == Place::States, place.has_sentinel()) {
            Scalar::Null => None,
            Scalar::Boolean(value) => Some(value),
            Scalar::Number(0.0) => Some(false),
            Scalar::Number(1.0) => Some(true),
            Scalar::Text(text) if text.eq_ignore_ascii_case("true") => Some(true),
            Scalar::Text(text) if text.eq_ignore_ascii_case("false") => Some(false),
            Scalar::Text(text) => {
                self.motion_detected = None;
                return self.set_state(place, field, text);
            }
            Scalar::Number(_) | Scalar::Compound => return self.leave_out(place, field),
        };
        self.motion_detected = moves;
        self.forget_state(&field);
        Ok(())
    }

    fn set_other(&mut self, place: Place, field: Cow<'a, str>, value: Scalar<'a>) -> Result<(), Rejection> {
        let value = match value.simplified(place == Place::States, place.has_sentinel()) {
            Scalar::Null => None,
            Scalar::Number(value) if !value.is_finite() => {
                return Err(reason::too_large_for_a_number(&place.path(&field), value));
            }
            Scalar::Number(value) => Some(value),
            Scalar::Boolean(value) => Some(f64::from(u8::from(value))),
            Scalar::Text(text) => {
                self.other_metrics.retain(|(name, _)| *name != field);
                return self.set_state(place, field, text);
            }
            Scalar::Compound => return self.leave_out(place, field),
        };
        check_name(place, &field)?;
        self.forget_state(&field);
        replace(&mut self.other_metrics, field, value)
    }

    fn set_state(&mut self, place: Place, field: Cow<'a, str>, text: Cow<'a, str>) -> Result<(), Rejection> {
        if text.len() > MAX_STATE_BYTES {
            self.forget_state(&field);
            return self.leave_out(place, field);
        }
        check_name(place, &field)?;
        replace(&mut self.states, field, Some(text))
    }

    /// What is no tag says nothing about the reading, and is left out.
    fn set_tag(&mut self, key: Cow<'a, str>, value: Scalar<'a>) -> Result<(), Rejection> {
        match value {
            Scalar::Text(value)
                if check_key(&key).is_ok() && is_name(&value) && self.sensor_tags.len() < MAX_TAGS =>
            {
                replace(&mut self.sensor_tags, key, Some(value))
            }
            _ => self.leave_out(Place::Tags, key),
        }
    }

    /// A later value of the same name replaces a state.
    fn forget_state(&mut self, field: &str) {
        if !self.states.is_empty() {
            self.states.retain(|(name, _)| name != field);
        }
    }

    fn leave_out(&mut self, place: Place, field: Cow<'a, str>) -> Result<(), Rejection> {
        self.left_out.push(match place {
            Place::Top | Place::Mapped => field,
            place => place.path(&field).into(),
        });
        Ok(())
    }

    /// Names the field of a number that no float can hold; other failures of the parser pass as they are.
    fn unreadable<E: serde::de::Error>(&mut self, place: Place, field: &str, error: E) -> E {
        match reason::is_out_of_range(&error) {
            true => self.reject(reason::too_large_for_a_number(&place.path(field), f64::INFINITY)),
            false => error,
        }
    }

    /// Keeps the typed reason and gives serde something to stop on.
    fn reject<E: serde::de::Error>(&mut self, rejection: Rejection) -> E {
        self.rejection = Some(rejection);
        E::custom("rejected")
    }
}

/// Where a field stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Top,
    OtherMetrics,
    /// Metrics that were measured, whatever their number is: a mapping has no sentinel.
    Measured,
    States,
    Tags,
    /// In no message: a mapping sets the value.
    Mapped,
}

impl Place {
    const fn name(self) -> &'static str {
        match self {
            Self::Top | Self::Mapped => "",
            Self::OtherMetrics => "other_metrics",
            Self::Measured => "measured_metrics",
            Self::States => "states",
            Self::Tags => "sensor_tags",
        }
    }

    /// Whether -999.0 means that nothing was measured.
    const fn has_sentinel(self) -> bool {
        !matches!(self, Self::Measured | Self::Mapped)
    }

    /// The field's name from the top of the message.
    fn path(self, field: &str) -> String {
        match self {
            Self::Top | Self::Mapped => field.to_owned(),
            place => format!("{}.{field}", place.name()),
        }
    }
}

/// Sets, replaces or (where there is no value) removes the entry of a name.
fn replace<'a, T>(
    entries: &mut Vec<(Cow<'a, str>, T)>,
    field: Cow<'a, str>,
    value: Option<T>,
) -> Result<(), Rejection> {
    let known = entries.iter().position(|(name, _)| *name == field);
    match (known, value) {
        (Some(index), Some(value)) => entries[index].1 = value,
        (Some(index), None) => drop(entries.remove(index)),
        (None, Some(_)) if entries.len() == MAX_OTHER_METRICS => return Err(Rejection::TooManyMetrics),
        (None, Some(value)) => entries.push((field, value)),
        (None, None) => {}
    }
    Ok(())
}

fn name<'a>(field: &'static str, value: Scalar<'a>) -> Result<Cow<'a, str>, Rejection> {
    match value {
        Scalar::Text(text) if is_name(&text) => Ok(text),
        Scalar::Text(_) => Err(Rejection::BadName { field: field.into() }),
        _ => Err(Rejection::IllTyped { field, expected: "text" }),
    }
}

fn check_name(place: Place, field: &str) -> Result<(), Rejection> {
    match is_name(field) {
        true => Ok(()),
        false => Err(Rejection::BadName { field: shown(&place.path(field)) }),
    }
}

/// Whether a text can be a location, a device type, a sensor's name or a metric's.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.chars().any(char::is_control)
}

fn sensor(value: Scalar<'_>) -> Result<Uuid, Rejection> {
    let id = match value {
        Scalar::Text(text) => Uuid::try_parse(&text).ok(),
        _ => None,
    };
    id.ok_or(Rejection::IllTyped { field: "iot_sensor_id", expected: "a UUID" })
}

fn timestamp(value: Scalar<'_>) -> Result<i64, Rejection> {
    let millis = match value {
        // A number in text is a number.
        Scalar::Text(text) => time::rfc3339(&text).or_else(|| text.trim().parse().ok()),
        // Some clients write every number as a float; a fraction of a millisecond is dropped.
        Scalar::Number(millis) if millis.abs() < 9e18 => Some(millis.floor() as i64),
        _ => None,
    };
    millis.ok_or(Rejection::IllTyped {
        field: "recorded_timestamp",
        expected: "RFC 3339 with an offset or Z, or milliseconds since 1970",
    })
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
            let place = match &*field {
                "other_metrics" => Place::OtherMetrics,
                "measured_metrics" => Place::Measured,
                "states" => Place::States,
                "sensor_tags" => Place::Tags,
                _ => {
                    let value = match map.next_value_seed(AnyScalar) {
                        Ok(value) => value,
                        Err(error) => return Err(self.0.unreadable(Place::Top, &field, error)),
                    };
                    self.0.set(field, value).map_err(|rejection| self.0.reject(rejection))?;
                    continue;
                }
            };
            map.next_value_seed(Nested { fields: self.0, place })?;
        }
        Ok(())
    }
}

/// The object under `other_metrics`, `measured_metrics`, `states` or `sensor_tags`.
struct Nested<'f, 'a> {
    fields: &'f mut Fields<'a>,
    place: Place,
}

impl Nested<'_, '_> {
    /// No object: there is nothing in it to store.
    fn leave_out<E>(self) -> Result<(), E> {
        self.fields.left_out.push(self.place.name().into());
        Ok(())
    }
}

impl<'a> DeserializeSeed<'a> for Nested<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Nested<'_, 'a> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "an object under {}", self.place.name())
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        self.leave_out()
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        self.leave_out()
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        self.leave_out()
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        self.leave_out()
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        self.leave_out()
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut sequence: A) -> Result<(), A::Error> {
        while sequence.next_element::<IgnoredAny>()?.is_some() {}
        self.leave_out()
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { fields, place } = self;
        while let Some(field) = map.next_key_seed(Name)? {
            let value = match map.next_value_seed(AnyScalar) {
                Ok(value) => value,
                Err(error) => return Err(fields.unreadable(place, &field, error)),
            };
            let set = match place {
                Place::Tags => fields.set_tag(field, value),
                _ => fields.set_value(place, field, value),
            };
            set.map_err(|rejection| fields.reject(rejection))?;
        }
        Ok(())
    }
}

pub mod build;

#[cfg(test)]
mod tests;
