//! A reading that is put together value by value, by the rule for values that messages have.

use std::borrow::Cow;

use serde_json::Value;
use uuid::Uuid;

use super::{DecodeLimits, Decoded, Fields, MAX_OTHER_METRICS, Place, Scalar};
use crate::reading::{Metric, Rejection};

/// Gathers the values of one reading.
#[derive(Default)]
pub struct ReadingBuilder {
    fields: Fields<'static>,
    /// Values that a later one of the same name replaced by a different one.
    replaced: usize,
}

/// A value that is set already.
#[derive(PartialEq)]
enum Known {
    Column(f32),
    Motion(bool),
    Number(f64),
    State(String),
}

impl ReadingBuilder {
    /// Values that a later one of the same name replaced by a different one.
    pub fn replaced(&self) -> usize {
        self.replaced
    }

    /// Sets a value; a later one of the same name replaces it.
    pub fn set(&mut self, name: &str, value: &Value) -> Result<(), Rejection> {
        self.counted(name, |builder| builder.set_scalar(name, value))
    }

    fn counted(
        &mut self,
        name: &str,
        set: impl FnOnce(&mut Self) -> Result<(), Rejection>,
    ) -> Result<(), Rejection> {
        let before = self.known(name);
        set(self)?;
        self.replaced += usize::from(before.is_some() && before != self.known(name));
        Ok(())
    }

    fn known(&self, name: &str) -> Option<Known> {
        let fields = &self.fields;
        let column = Metric::COLUMNS.iter().position(|metric| metric.name() == name);
        let number = match column {
            Some(column) => fields.columns[column].map(Known::Column),
            None if name == "motion_detected" => fields.motion_detected.map(Known::Motion),
            None => {
                let found = fields.other_metrics.iter().find(|(known, _)| known == name);
                found.map(|(_, value)| Known::Number(*value))
            }
        };
        let state = || fields.states.iter().find(|(known, _)| known == name);
        number.or_else(|| state().map(|(_, text)| Known::State(text.to_string())))
    }

    fn set_scalar(&mut self, name: &str, value: &Value) -> Result<(), Rejection> {
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
        self.fields.set_value(Place::Mapped, Cow::Owned(name.to_owned()), scalar)
    }

    /// Sets a state, also where its text looks like a number.
    pub fn set_text(&mut self, name: &str, value: &Value) -> Result<(), Rejection> {
        let text = match value {
            Value::String(text) => text.trim().to_owned(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return self.set(name, value),
        };
        if text.is_empty() {
            return self.set(name, &Value::Null);
        }
        let text = Scalar::Text(Cow::Owned(text));
        self.counted(name, |builder| {
            builder.fields.set_value(Place::States, Cow::Owned(name.to_owned()), text)
        })
    }

    /// Sets what the message says about the sensor.
    pub fn set_tags(&mut self, tags: Vec<(String, String)>) {
        self.fields.sensor_tags = tags.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
    }

    /// Adds the values of another part of the same reading, which replace those of the same names.
    ///
    /// # Errors
    /// [`Rejection::TooManyMetrics`], with nothing added.
    pub fn merge(&mut self, other: Self) -> Result<(), Rejection> {
        self.replaced += other.replaced;
        let (ours, others) = (&mut self.fields, other.fields);
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
            ours.set_value(Place::Mapped, name, Scalar::Number(value))?;
        }
        for (name, text) in others.states {
            ours.set_value(Place::States, name, Scalar::Text(text))?;
        }
        ours.left_out.extend(others.left_out);
        self.replaced += replaced;
        Ok(())
    }

    /// The reading, if it is one.
    pub fn finish(
        mut self,
        (location, device_type, sensor, recorded_at): (String, String, Uuid, i64),
        sensor_name: Option<String>,
        limits: &DecodeLimits,
        now: i64,
    ) -> Result<Decoded<'static>, Rejection> {
        self.fields.location = Some(location.into());
        self.fields.device_type = Some(device_type.into());
        self.fields.sensor = Some(sensor);
        self.fields.sensor_name = sensor_name.map(Cow::Owned);
        self.fields.recorded_at = Some(recorded_at);
        self.fields.into_decoded(limits, now)
    }
}
