//! What a reading is. [`decode`] is the only way from bytes to a reading, [`encode`] the only way back;
//! [`metric`] names the metrics and their units, [`bucket`] the time bucket a reading is stored in, [`delimited`] reads
//! the dialects of CSV.
//! Nothing here knows Kafka or CQL.

use std::borrow::Cow;

use uuid::Uuid;

pub mod bucket;
pub mod decode;
pub mod delimited;
pub mod encode;
pub mod group;
pub mod metric;
mod scalar;

pub use bucket::Bucket;
pub use decode::{DecodeLimits, Rejection};
pub use group::{Group, Partition};
pub use metric::Metric;

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
    /// Milliseconds since the Unix epoch.
    pub recorded_at: i64,
    pub temperature: Option<f32>,
    pub humidity: Option<f32>,
    pub pressure: Option<f32>,
    pub motion_detected: Option<bool>,
    pub light_level: Option<f32>,
    pub gas_concentration: Option<f32>,
    /// Any other named number, in the order of the message; names are unique.
    pub other_metrics: Vec<(Cow<'a, str>, f32)>,
}

impl Reading<'_> {
    /// The value of `metric` in this reading, if it was measured.
    pub fn value(&self, metric: &Metric) -> Option<f32> {
        match metric {
            Metric::Temperature => self.temperature,
            Metric::Humidity => self.humidity,
            Metric::Pressure => self.pressure,
            Metric::LightLevel => self.light_level,
            Metric::GasConcentration => self.gas_concentration,
            Metric::Other(name) => {
                self.other_metrics.iter().find(|(other, _)| other == name).map(|(_, value)| *value)
            }
        }
    }

    /// The same reading, owning its names.
    pub fn into_owned(self) -> Reading<'static> {
        Reading {
            location: Cow::Owned(self.location.into_owned()),
            device_type: Cow::Owned(self.device_type.into_owned()),
            other_metrics: self
                .other_metrics
                .into_iter()
                .map(|(name, value)| (Cow::Owned(name.into_owned()), value))
                .collect(),
            ..self
        }
    }
}
