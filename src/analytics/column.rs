//! The columns of a reading by name, and the value of a reading in each.

use std::sync::Arc;

use uuid::Uuid;

use crate::reading::{LEGACY_MISSING, Metric};
use crate::store::readings::StoredReading;

/// A column of a reading. Its name is the field name of the wire format.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Column {
    Location,
    DeviceType,
    Sensor,
    RecordedAt,
    MotionDetected,
    Metric(Metric),
    /// All of `other_metrics` at once.
    OtherMetrics,
    /// All of `states` at once.
    States,
}

/// The value of a reading in a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    Text(&'a str),
    Sensor(Uuid),
    /// Milliseconds since the epoch.
    Moment(i64),
    Boolean(bool),
    Number(f64),
    Metrics(&'a [(Arc<str>, f64)]),
    States(&'a [(Arc<str>, Arc<str>)]),
}

impl Column {
    /// All columns, in the order of the wire format.
    pub const ALL: [Column; 12] = [
        Column::Location,
        Column::DeviceType,
        Column::Sensor,
        Column::RecordedAt,
        Column::Metric(Metric::Temperature),
        Column::Metric(Metric::Humidity),
        Column::Metric(Metric::Pressure),
        Column::MotionDetected,
        Column::Metric(Metric::LightLevel),
        Column::Metric(Metric::GasConcentration),
        Column::OtherMetrics,
        Column::States,
    ];

    /// The column of the table with this name, or else the metric with this name in `other_metrics`.
    pub fn named(name: &str) -> Self {
        Self::ALL
            .into_iter()
            .find(|column| column.name() == name)
            .unwrap_or_else(|| Self::Metric(Metric::named(name)))
    }

    pub fn name(&self) -> &str {
        match self {
            Self::Location => "location",
            Self::DeviceType => "device_type",
            Self::Sensor => "iot_sensor_id",
            Self::RecordedAt => "recorded_timestamp",
            Self::MotionDetected => "motion_detected",
            Self::Metric(metric) => metric.name(),
            Self::OtherMetrics => "other_metrics",
            Self::States => "states",
        }
    }

    /// The heading for people: the name and its unit.
    pub fn heading(&self) -> String {
        match self {
            Self::Metric(metric) => match metric.unit() {
                Some(unit) => format!("{} ({unit})", metric.name()),
                None => metric.name().to_owned(),
            },
            other => other.name().to_owned(),
        }
    }

    /// The value of the reading; `None` if it was not measured.
    pub fn value<'a>(&self, reading: &'a StoredReading) -> Option<Value<'a>> {
        match self {
            Self::Location => Some(Value::Text(&reading.group.location)),
            Self::DeviceType => Some(Value::Text(&reading.group.device_type)),
            Self::Sensor => Some(Value::Sensor(reading.sensor)),
            Self::RecordedAt => Some(Value::Moment(reading.recorded_at)),
            Self::MotionDetected => reading.motion_detected.map(Value::Boolean),
            Self::Metric(metric) => reading.value(metric).map(Value::Number).or_else(|| match metric {
                Metric::Other(name) => reading.state(name).map(Value::Text),
                _ => None,
            }),
            Self::OtherMetrics if reading.other_metrics.is_empty() => None,
            Self::OtherMetrics => Some(Value::Metrics(&reading.other_metrics)),
            Self::States if reading.states.is_empty() => None,
            Self::States => Some(Value::States(&reading.states)),
        }
    }

    /// The legacy platform's default for a value that was not measured. Other metrics had no default.
    pub fn legacy_default(&self) -> Option<Value<'static>> {
        match self {
            Self::Metric(Metric::LightLevel) => Some(Value::Number(0.0)),
            Self::Metric(Metric::Other(_)) => None,
            Self::Metric(_) => Some(Value::Number(LEGACY_MISSING)),
            Self::MotionDetected => Some(Value::Boolean(false)),
            Self::OtherMetrics => Some(Value::Metrics(&[])),
            Self::States | Self::Location | Self::DeviceType | Self::Sensor | Self::RecordedAt => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_their_wire_names_and_any_other_name_is_a_metric() {
        for column in Column::ALL {
            assert_eq!(Column::named(column.name()), column);
        }
        assert_eq!(Column::named("rpm"), Column::Metric(Metric::Other("rpm".into())));
        assert_eq!(Column::named("temperature").heading(), "temperature (°C)");
    }

    #[test]
    fn legacy_defaults_are_those_of_the_legacy_table() {
        let default = |name| Column::named(name).legacy_default();
        for name in ["temperature", "humidity", "pressure", "gas_concentration"] {
            assert_eq!(default(name), Some(Value::Number(-999.0)), "{name}");
        }
        assert_eq!(default("light_level"), Some(Value::Number(0.0)));
        assert_eq!(default("motion_detected"), Some(Value::Boolean(false)));
        assert_eq!(default("other_metrics"), Some(Value::Metrics(&[])));
        assert_eq!(default("rpm"), None);
    }
}
