//! The metrics of a reading and their units.

use std::fmt;

/// A number that a reading may carry: one of the five columns, or a name in `other_metrics`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Metric {
    Temperature,
    Humidity,
    Pressure,
    LightLevel,
    GasConcentration,
    /// A key of the `other_metrics` column.
    Other(String),
}

impl Metric {
    /// The metrics with a column of their own, in the table's order.
    pub const COLUMNS: [Metric; 5] = [
        Metric::Temperature,
        Metric::Humidity,
        Metric::Pressure,
        Metric::LightLevel,
        Metric::GasConcentration,
    ];

    /// Any name is a metric: one of the columns, else a key of `other_metrics`. Whether such a key exists only the
    /// data can say.
    pub fn named(name: &str) -> Self {
        Self::COLUMNS
            .into_iter()
            .find(|metric| metric.name() == name)
            .unwrap_or_else(|| Self::Other(name.to_owned()))
    }

    /// The column, or the key in `other_metrics`.
    pub fn name(&self) -> &str {
        match self {
            Metric::Temperature => "temperature",
            Metric::Humidity => "humidity",
            Metric::Pressure => "pressure",
            Metric::LightLevel => "light_level",
            Metric::GasConcentration => "gas_concentration",
            Metric::Other(name) => name,
        }
    }

    /// The unit for headings; other metrics have none that we know.
    pub fn unit(&self) -> Option<&'static str> {
        match self {
            Metric::Temperature => Some("°C"),
            Metric::Humidity => Some("%RH"),
            Metric::Pressure => Some("hPa"),
            Metric::LightLevel => Some("lux"),
            Metric::GasConcentration => Some("ppm"),
            Metric::Other(_) => None,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
