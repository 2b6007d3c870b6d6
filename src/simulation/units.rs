//! Units of recordings, converted to those of the wire format: °C, %RH, hPa, lux, ppm.

use crate::error::UsageError;
use crate::reading::{Metric, Reading, widen};

/// A linear conversion of one metric: `value * scale + offset`.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversion {
    metric: Metric,
    scale: f64,
    offset: f64,
}

/// (metric, unit, scale, offset) for everything that [`Conversion::named`] knows.
const KNOWN: &[(&str, &str, f64, f64)] = &[
    ("temperature", "celsius", 1.0, 0.0),
    ("temperature", "fahrenheit", 5.0 / 9.0, -160.0 / 9.0),
    ("temperature", "kelvin", 1.0, -273.15),
    ("humidity", "percent", 1.0, 0.0),
    ("humidity", "fraction", 100.0, 0.0),
    ("pressure", "hpa", 1.0, 0.0),
    ("pressure", "mbar", 1.0, 0.0),
    ("pressure", "pa", 0.01, 0.0),
    ("pressure", "kpa", 10.0, 0.0),
    ("pressure", "bar", 1000.0, 0.0),
    ("pressure", "psi", 68.947_572_932, 0.0),
    ("pressure", "inhg", 33.863_886_667, 0.0),
    ("light_level", "lux", 1.0, 0.0),
    ("gas_concentration", "ppm", 1.0, 0.0),
    ("gas_concentration", "ppb", 0.001, 0.0),
];

impl Conversion {
    /// The conversion from `unit` of `metric`; a usage error names the units that are known.
    pub fn named(metric: &str, unit: &str) -> Result<Self, UsageError> {
        let mut units = KNOWN.iter().filter(|(known, ..)| *known == metric);
        let found = units.clone().find(|(_, name, ..)| name.eq_ignore_ascii_case(unit));
        match found {
            Some(&(_, _, scale, offset)) => Ok(Self { metric: Metric::named(metric), scale, offset }),
            None if units.next().is_none() => Err(UsageError::new(format!(
                "--unit {metric}={unit}: no units are known for {metric:?} (only for temperature, humidity, \
                 pressure, light_level and gas_concentration; other metrics are sent as they are)"
            ))),
            None => {
                let known: Vec<_> = KNOWN.iter().filter(|(it, ..)| *it == metric).map(|it| it.1).collect();
                Err(UsageError::new(format!(
                    "--unit {metric}={unit}: unknown unit (known: {})",
                    known.join(", ")
                )))
            }
        }
    }

    pub fn convert(&self, value: f64) -> f64 {
        value * self.scale + self.offset
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
