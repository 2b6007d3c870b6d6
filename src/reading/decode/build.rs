//! A reading that is put together value by value, by the rule for values that messages have.

use std::borrow::Cow;

use serde_json::Value;
use uuid::Uuid;

use super::{DecodeLimits, Decoded, Fields, MAX_OTHER_METRICS, Place, Scalar};
use crate::reading::Rejection;

/// Gathers the values of one reading.
#[derive(Default)]
pub struct ReadingBuilder(Fields<'static>);

impl ReadingBuilder {
    /// Sets a value; a later one of the same name replaces it.
    pub fn set(&mut self, name: &str, value: &Value) -> Result<(), Rejection> {
        let scalar = match value {
            Value::Null => Scalar::Null,
            Value::Bool(value) => Scalar::Boolean(*value),
            Value::Number(number) => match number.as_f64() {
                Some(number) => Scalar::Number(number),
                None => Scalar::Compound,
            },
            Value::String(text) => Scalar::Text(Cow::Owned(text.clone())),
            Value::Array(_) | Value::Object(_) => Scalar::Compound,
        };
        self.0.set_value(Place::Top, Cow::Owned(name.to_owned()), scalar)
    }

    /// Sets a state, also where its text looks like a number.
    pub fn set_text(&mut self, name: &str, value: &Value) -> Result<(), Rejection> {
        let text = match value {
            Value::String(text) => text.trim().to_owned(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return self.set(name, value),
        };
        match text.is_empty() {
            true => self.set(name, &Value::Null),
            false => {
                self.0.set_value(Place::States, Cow::Owned(name.to_owned()), Scalar::Text(Cow::Owned(text)))
            }
        }
    }

    /// Sets what the message says about the sensor.
    pub fn set_tags(&mut self, tags: Vec<(String, String)>) {
        self.0.sensor_tags = tags.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
    }

    /// Adds the values of another part of the same reading, which replace those of the same names. Says how many were
    /// replaced by others.
    ///
    /// # Errors
    /// [`Rejection::TooManyMetrics`], with nothing added.
    pub fn merge(&mut self, other: Self) -> Result<usize, Rejection> {
        let (ours, others) = (&mut self.0, other.0);
        let differs =
            |(left, right): (&Option<f32>, &Option<f32>)| left.is_some() && right.is_some() && left != right;
        let mut replaced = ours.columns.iter().zip(&others.columns).filter(|pair| differs(*pair)).count();
        for (name, value) in &others.other_metrics {
            replaced +=
                usize::from(ours.other_metrics.iter().any(|(known, old)| known == name && old != value));
        }
        for (name, text) in &others.states {
            replaced += usize::from(ours.states.iter().any(|(known, old)| known == name && old != text));
        }
        let is_full = |ours: usize, others: usize| ours + others > MAX_OTHER_METRICS;
        if is_full(ours.other_metrics.len(), others.other_metrics.len())
            || is_full(ours.states.len(), others.states.len())
        {
            return Err(Rejection::TooManyMetrics);
        }
        for (column, other) in ours.columns.iter_mut().zip(others.columns) {
            *column = other.or(*column);
        }
        ours.motion_detected = others.motion_detected.or(ours.motion_detected);
        for (name, value) in others.other_metrics {
            ours.set_value(Place::Top, name, Scalar::Number(value))?;
        }
        for (name, text) in others.states {
            ours.set_value(Place::States, name, Scalar::Text(text))?;
        }
        ours.left_out.extend(others.left_out);
        Ok(replaced)
    }

    /// The reading, if it is one.
    pub fn finish(
        mut self,
        (location, device_type, sensor, recorded_at): (String, String, Uuid, i64),
        sensor_name: Option<String>,
        limits: &DecodeLimits,
        now: i64,
    ) -> Result<Decoded<'static>, Rejection> {
        self.0.location = Some(location.into());
        self.0.device_type = Some(device_type.into());
        self.0.sensor = Some(sensor);
        self.0.sensor_name = sensor_name.map(Cow::Owned);
        self.0.recorded_at = Some(recorded_at);
        self.0.into_decoded(limits, now)
    }
}
