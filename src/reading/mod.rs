//! What a reading is. [`decode`] is the only way from bytes to a reading (`reason`: why there is none), [`encode`] the only
//! way back; [`metric`] names the metrics and their units, [`decimal`] says what a stored 32-bit float stands for,
//! [`sensor`] makes ids of names, [`tags`] what people say about sensors, [`bucket`] is the time bucket that a reading is stored in, and [`delimited`] reads the dialects of CSV. What may not
//! live here: Kafka and CQL.

use std::borrow::Cow;

use uuid::Uuid;

pub mod bucket;
pub mod decimal;
pub mod decode;
pub mod delimited;
pub mod encode;
pub mod group;
pub mod metric;
mod reason;
mod scalar;
pub mod sensor;
pub mod tags;

pub use bucket::Bucket;
pub use decimal::widen;
pub use decode::{DecodeLimits, is_name};
pub use group::{Group, Partition};
pub use metric::Metric;
pub use reason::{Rejection, shown};

/// Sensors of the legacy platform send this instead of leaving a field out.
pub const LEGACY_MISSING: f64 = -999.0;

/// One reading of one sensor, borrowing its names from the message where it can.
///
/// Units: °C, %RH, hPa, lux, ppm. `None` is "not measured"; it is never stored as a number.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading<'a> {
    pub location: Cow<'a, str>,
    pub device_type: Cow<'a, str>,
    pub sensor: Uuid,
    /// What people call the sensor, where its id is made of that ([`sensor`]).
    pub sensor_name: Option<Cow<'a, str>>,
    /// What its message says about the sensor, by a mapping's tags; keys are unique.
    pub sensor_tags: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// Milliseconds since the Unix epoch.
    pub recorded_at: i64,
    pub temperature: Option<f32>,
    pub humidity: Option<f32>,
    pub pressure: Option<f32>,
    pub motion_detected: Option<bool>,
    pub light_level: Option<f32>,
    pub gas_concentration: Option<f32>,
    /// Any other named number, in the order of the message; names are unique.
    pub other_metrics: Vec<(Cow<'a, str>, f64)>,
    /// Named text, such as a mode or a firmware's version, in the order of the message; names are unique.
    pub states: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl Reading<'_> {
    /// The value of `metric` in this reading, if it was measured. Columns are 32-bit floats; see [`widen`].
    pub fn value(&self, metric: &Metric) -> Option<f64> {
        match metric {
            Metric::Other(name) => {
                self.other_metrics.iter().find(|(other, _)| other == name).map(|(_, value)| *value)
            }
            column => self.column(column).map(widen),
        }
    }

    /// The value of a metric that has a column, as it is stored; `None` for the others.
    pub fn column(&self, metric: &Metric) -> Option<f32> {
        match metric {
            Metric::Temperature => self.temperature,
            Metric::Humidity => self.humidity,
            Metric::Pressure => self.pressure,
            Metric::LightLevel => self.light_level,
            Metric::GasConcentration => self.gas_concentration,
            Metric::Other(_) => None,
        }
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        Metric::COLUMNS.iter().all(|metric| self.column(metric).is_none())
            && self.motion_detected.is_none()
            && self.other_metrics.is_empty()
            && self.states.is_empty()
    }

    /// One in which nothing was measured.
    #[cfg(test)]
    pub fn sample() -> Reading<'static> {
        Reading {
            location: "plant-1".into(),
            device_type: "thermostat".into(),
            sensor: Uuid::nil(),
            sensor_name: None,
            sensor_tags: Vec::new(),
            recorded_at: 0,
            temperature: None,
            humidity: None,
            pressure: None,
            motion_detected: None,
            light_level: None,
            gas_concentration: None,
            other_metrics: Vec::new(),
            states: Vec::new(),
        }
    }

    /// The same reading, owning its names.
    pub fn into_owned(self) -> Reading<'static> {
        Reading {
            location: Cow::Owned(self.location.into_owned()),
            device_type: Cow::Owned(self.device_type.into_owned()),
            sensor_name: self.sensor_name.map(|name| Cow::Owned(name.into_owned())),
            sensor_tags: self
                .sensor_tags
                .into_iter()
                .map(|(key, value)| (Cow::Owned(key.into_owned()), Cow::Owned(value.into_owned())))
                .collect(),
            other_metrics: self
                .other_metrics
                .into_iter()
                .map(|(name, value)| (Cow::Owned(name.into_owned()), value))
                .collect(),
            states: self
                .states
                .into_iter()
                .map(|(name, text)| (Cow::Owned(name.into_owned()), Cow::Owned(text.into_owned())))
                .collect(),
            ..self
        }
    }
}
