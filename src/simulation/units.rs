//! `--unit`: units of recordings, converted to those of the wire format by the units of mappings.

use crate::error::UsageError;
use crate::mapping::units;
use crate::reading::{Metric, Reading, widen};

/// The conversion of one metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversion {
    metric: Metric,
    conversion: units::Conversion,
}

impl Conversion {
    /// The conversion from `unit` of `metric`; a usage error names the units that are known.
    pub fn named(metric: &str, unit: &str) -> Result<Self, UsageError> {
        let refuse = |problem: String| Err(UsageError::new(format!("--unit {metric}={unit}: {problem}")));
        match units::Conversion::to_column(metric, unit) {
            Ok(Some(conversion)) => Ok(Self { metric: Metric::named(metric), conversion }),
            Ok(None) => refuse(format!(
                "{metric:?} is sent as it is (units are for temperature, humidity, pressure, light_level and \
                 gas_concentration; a file for --mapping converts others too)"
            )),
            Err(problem) => refuse(problem),
        }
    }

    pub fn convert(&self, value: f64) -> f64 {
        self.conversion.convert(value)
    }

    pub fn is_for(&self, metric: &Metric) -> bool {
        self.metric == *metric
    }

    /// Converts the metric in a decoded reading; an error names the metric whose value overflows.
    pub fn apply(&self, reading: &mut Reading<'_>) -> Result<(), String> {
        let value = match self.metric {
            Metric::Temperature => &mut reading.temperature,
            Metric::Humidity => &mut reading.humidity,
            Metric::Pressure => &mut reading.pressure,
            Metric::LightLevel => &mut reading.light_level,
            Metric::GasConcentration => &mut reading.gas_concentration,
            Metric::Other(_) => return Ok(()),
        };
        if let Some(value) = value {
            let converted = self.convert(widen(*value)) as f32;
            if !converted.is_finite() {
                return Err(format!("field {}: {value} is out of range after the conversion", self.metric));
            }
            *value = converted;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_converted_to_those_of_the_wire_format() {
        for (metric, unit, from, to) in [
            ("temperature", "fahrenheit", 212.0, 100.0),
            ("temperature", "Fahrenheit", -40.0, -40.0),
            ("temperature", "kelvin", 273.15, 0.0),
            ("pressure", "pa", 101_325.0, 1013.25),
            ("pressure", "inHg", 29.92, 1013.207),
            ("humidity", "fraction", 0.5, 50.0),
        ] {
            let value = Conversion::named(metric, unit).unwrap().convert(from);
            assert!((value - to).abs() < 1e-3, "{from} {unit} is {value}");
        }
    }

    #[test]
    fn an_unknown_unit_is_refused_with_the_known_ones() {
        let error = Conversion::named("temperature", "rankine").unwrap_err().to_string();
        assert!(error.contains("celsius, fahrenheit, kelvin"), "{error}");
        assert!(Conversion::named("vibration", "mm").is_err());
    }
}
