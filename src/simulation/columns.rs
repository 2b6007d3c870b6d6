//! Which column of a CSV recording is which field of a reading, from `--map`, `--set` and `--unit`.

use csv::StringRecord;
use uuid::Uuid;

use super::fleet::blank;
use super::units::Conversion;
use crate::error::UsageError;
use crate::reading::delimited::{self, Dialect, is_missing};
use crate::reading::{LEGACY_MISSING, Metric, Reading, sensor, widen};
use crate::time;

/// What the user specified about the columns.
#[derive(Debug, Clone, Default)]
pub struct Mapping {
    /// (column, field) pairs of `--map`.
    pub map: Vec<(String, String)>,
    pub location: Option<String>,
    pub device_type: Option<String>,
    pub sensor: Option<String>,
    pub conversions: Vec<Conversion>,
}

impl Mapping {
    /// Parses the lists of `--map`, `--set` and `--unit`, each item `name=value`.
    pub fn parse(map: &[String], set: &[String], unit: &[String]) -> Result<Self, UsageError> {
        let mut mapping = Mapping { map: pairs("--map", map)?, ..Mapping::default() };
        for (field, value) in pairs("--set", set)? {
            let slot = match field.as_str() {
                "location" => &mut mapping.location,
                "device_type" => &mut mapping.device_type,
                "iot_sensor_id" => &mut mapping.sensor,
                _ => {
                    return Err(UsageError::new(format!(
                        "--set {field}={value}: only location, device_type and iot_sensor_id can be set \
                         (take {field:?} from a column with --map COLUMN={field})"
                    )));
                }
            };
            *slot = Some(value);
        }
        for (metric, unit) in pairs("--unit", unit)? {
            mapping.conversions.push(Conversion::named(&metric, &unit)?);
        }
        Ok(mapping)
    }

    /// Whether nothing was specified about columns.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty() && self.location.is_none() && self.device_type.is_none() && self.sensor.is_none()
    }
}

fn pairs(flag: &str, items: &[String]) -> Result<Vec<(String, String)>, UsageError> {
    items
        .iter()
        .map(|item| match item.split_once('=') {
            Some((name, value)) if !name.trim().is_empty() && !value.trim().is_empty() => {
                Ok((name.trim().to_owned(), value.trim().to_owned()))
            }
            _ => Err(UsageError::new(format!("{flag} {item:?}: write it as NAME=VALUE"))),
        })
        .collect()
}

/// Where a column's cells go.
#[derive(Debug, Clone, PartialEq)]
enum Field {
    Location,
    DeviceType,
    Sensor,
    Timestamp,
    Motion,
    Number(Metric, Option<Conversion>),
}

/// A [`Mapping`] resolved against a file's heading line.
#[derive(Debug, Clone)]
pub struct Layout {
    /// (column index, its name, field).
    fields: Vec<(usize, String, Field)>,
    location: Option<String>,
    device_type: Option<String>,
    sensor: Option<String>,
    dialect: Dialect,
    /// Columns that are neither mapped nor named like a field.
    pub ignored: Vec<String>,
}

impl Layout {
    /// Columns named like a field of the wire format need no `--map`.
    pub fn resolve(mapping: &Mapping, headings: &StringRecord, dialect: Dialect) -> Result<Self, UsageError> {
        let known = || headings.iter().map(str::trim).collect::<Vec<_>>().join(", ");
        for (column, _) in &mapping.map {
            if !headings.iter().any(|heading| heading.trim() == column) {
                return Err(UsageError::new(format!(
                    "--map {column}=…: the recording has no such column (it has: {})",
                    known()
                )));
            }
        }
        let mut fields = Vec::new();
        let mut ignored = Vec::new();
        for (index, heading) in headings.iter().map(str::trim).enumerate() {
            let mapped = mapping.map.iter().find(|(column, _)| column == heading).map(|(_, to)| to.as_str());
            match mapped.or_else(|| is_field(heading).then_some(heading)) {
                Some(to) => fields.push((index, heading.to_owned(), field(to, &mapping.conversions))),
                // The index that pandas writes has no name, and is not worth a note.
                None if heading.is_empty() => {}
                None => ignored.push(heading.to_owned()),
            }
        }
        let has = |wanted: &Field| fields.iter().any(|(_, _, field)| field == wanted);
        let missing = |name: &str, remedy: &str| {
            Err(UsageError::new(format!("the recording has no {name} (it has: {}; {remedy})", known())))
        };
        if !has(&Field::Timestamp) {
            return missing("recorded_timestamp", "name its column: --map COLUMN=recorded_timestamp");
        }
        if !has(&Field::Location) && mapping.location.is_none() {
            return missing("location", "--map COLUMN=location or --set location=NAME");
        }
        if !has(&Field::DeviceType) && mapping.device_type.is_none() {
            return missing("device_type", "--map COLUMN=device_type or --set device_type=NAME");
        }
        let Mapping { location, device_type, sensor, .. } = mapping.clone();
        Ok(Self { fields, location, device_type, sensor, dialect, ignored })
    }

    /// The reading of one record, or what is wrong with it.
    pub fn reading(&self, record: &StringRecord) -> Result<Reading<'static>, String> {
        let mut reading = blank();
        let mut sensor = self.sensor.clone();
        if let Some(location) = &self.location {
            reading.location = location.clone().into();
        }
        if let Some(device_type) = &self.device_type {
            reading.device_type = device_type.clone().into();
        }
        for (index, column, field) in &self.fields {
            let cell = record.get(*index).unwrap_or("").trim();
            let missing = is_missing(cell);
            match field {
                Field::Timestamp => {
                    reading.recorded_at = time::recorded(cell).ok_or_else(|| {
                        format!("column {column:?}: {cell:?} is not a timestamp (such as 2013-12-02 21:15:00, RFC 3339, or epoch)")
                    })?;
                }
                Field::Location if !missing => reading.location = cell.to_owned().into(),
                Field::DeviceType if !missing => reading.device_type = cell.to_owned().into(),
                Field::Sensor if !missing => sensor = Some(cell.to_owned()),
                _ if missing => {}
                Field::Motion => {
                    let truth = delimited::boolean(cell)
                        .ok_or_else(|| format!("column {column:?}: {cell:?} is neither true nor false"))?;
                    reading.motion_detected = Some(truth);
                }
                Field::Number(metric, conversion) => {
                    let value = number(column, cell, self.dialect, conversion.as_ref())?;
                    set(&mut reading, metric, value);
                }
                Field::Location | Field::DeviceType | Field::Sensor => {}
            }
        }
        for (name, value) in [("location", &reading.location), ("device_type", &reading.device_type)] {
            if value.is_empty() {
                return Err(format!("{name} is empty"));
            }
        }
        reading.sensor = sensor_id(sensor.as_deref(), &reading.location, &reading.device_type);
        Ok(reading)
    }
}

fn is_field(name: &str) -> bool {
    matches!(name, "location" | "device_type" | "iot_sensor_id" | "recorded_timestamp" | "motion_detected")
        || !matches!(Metric::named(name), Metric::Other(_))
}

fn field(name: &str, conversions: &[Conversion]) -> Field {
    match name {
        "location" => Field::Location,
        "device_type" => Field::DeviceType,
        "iot_sensor_id" => Field::Sensor,
        "recorded_timestamp" => Field::Timestamp,
        "motion_detected" => Field::Motion,
        name => {
            let metric = Metric::named(name);
            let conversion = conversions.iter().find(|conversion| conversion.is_for(&metric)).cloned();
            Field::Number(metric, conversion)
        }
    }
}

fn number(
    column: &str,
    cell: &str,
    dialect: Dialect,
    conversion: Option<&Conversion>,
) -> Result<f32, String> {
    let value = dialect.number(cell).ok_or_else(|| format!("column {column:?}: {cell:?} is not a number"))?;
    // The sentinel means "missing" in any unit, so it is not converted.
    let converted = match conversion {
        Some(conversion) if value != LEGACY_MISSING => conversion.convert(value),
        _ => value,
    };
    let narrow = converted as f32;
    if narrow.is_finite() { Ok(narrow) } else { Err(format!("column {column:?}: {cell} is out of range")) }
}

fn set(reading: &mut Reading<'static>, metric: &Metric, value: f32) {
    match metric {
        Metric::Temperature => reading.temperature = Some(value),
        Metric::Humidity => reading.humidity = Some(value),
        Metric::Pressure => reading.pressure = Some(value),
        Metric::LightLevel => reading.light_level = Some(value),
        Metric::GasConcentration => reading.gas_concentration = Some(value),
        Metric::Other(name) => reading.other_metrics.push((name.clone().into(), widen(value))),
    }
}

/// The given id, or one derived from the given name, or else from the group; always the same for the same input.
pub fn sensor_id(given: Option<&str>, location: &str, device_type: &str) -> Uuid {
    match given {
        Some(text) => sensor::id(text),
        None => sensor::id(&format!("{location}/{device_type}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMA: Dialect = Dialect { delimiter: b',', has_decimal_comma: false };

    fn strings(items: &[&str]) -> Vec<String> {
        items.iter().map(std::string::ToString::to_string).collect()
    }

    fn mapping(map: &[&str], set: &[&str], unit: &[&str]) -> Mapping {
        Mapping::parse(&strings(map), &strings(set), &strings(unit)).unwrap()
    }

    fn record(cells: &[&str]) -> StringRecord {
        StringRecord::from(cells.to_vec())
    }

    #[test]
    fn a_plain_time_series_becomes_readings_of_one_sensor() {
        let mapping = mapping(
            &["timestamp=recorded_timestamp", "value=temperature"],
            &["location=plant-1", "device_type=machine"],
            &["temperature=fahrenheit"],
        );
        let layout = Layout::resolve(&mapping, &record(&["timestamp", "value"]), COMMA).unwrap();
        let reading = layout.reading(&record(&["2013-12-02 21:15:00", "73.96732207"])).unwrap();
        assert_eq!((&*reading.location, &*reading.device_type), ("plant-1", "machine"));
        assert_eq!(reading.recorded_at, 1_386_018_900_000);
        assert!((reading.temperature.unwrap() - 23.315_18).abs() < 1e-4);
        assert_eq!(reading.humidity, None);
        let next = layout.reading(&record(&["2013-12-02 21:20:00", "74.9"])).unwrap();
        assert_eq!(next.sensor, reading.sensor);
        assert_eq!(reading.sensor, sensor_id(None, "plant-1", "machine"));
    }

    #[test]
    fn columns_named_like_fields_need_no_map_and_others_are_named_as_ignored() {
        let headings = record(&["location", "device_type", "iot_sensor_id", "t", "humidity", "comment"]);
        let layout =
            Layout::resolve(&mapping(&["t=recorded_timestamp"], &[], &[]), &headings, COMMA).unwrap();
        assert_eq!(layout.ignored, ["comment"]);
        let id = "6d0a1c1e-52c4-4b0e-9b57-7f3c8a4e21d5";
        let reading = layout.reading(&record(&["l", "d", id, "0", "-999.0", "x"])).unwrap();
        assert_eq!(reading.sensor.to_string(), id);
        assert_eq!(reading.humidity, Some(-999.0));
        let named = layout.reading(&record(&["l", "d", "pump 7", "0", "", "x"])).unwrap();
        assert_eq!((named.sensor, named.humidity), (sensor_id(Some("pump 7"), "l", "d"), None));
    }

    #[test]
    fn other_metrics_and_motion_are_taken_from_columns() {
        let map = ["t=recorded_timestamp", "v=vibration", "m=motion_detected"];
        let mapping = mapping(&map, &["location=l", "device_type=d"], &[]);
        let layout = Layout::resolve(&mapping, &record(&["t", "v", "m"]), COMMA).unwrap();
        let reading = layout.reading(&record(&["0", "1.5", "yes"])).unwrap();
        assert_eq!(reading.other_metrics, [("vibration".into(), 1.5)]);
        assert_eq!(reading.motion_detected, Some(true));
        for (cells, word) in [
            (["soon", "1", "1"], "not a timestamp"),
            (["0", "x", "1"], "not a number"),
            (["0", "1e60", "1"], "out of range"),
            (["0", "1", "maybe"], "neither true nor false"),
        ] {
            let error = layout.reading(&record(&cells)).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused_before_anything_is_sent() {
        let headings = record(&["timestamp", "value"]);
        let refuse = |map: &[&str], set: &[&str]| {
            Layout::resolve(&mapping(map, set, &[]), &headings, COMMA).unwrap_err().to_string()
        };
        assert!(refuse(&["time=recorded_timestamp"], &[]).contains("it has: timestamp, value"));
        assert!(refuse(&[], &[]).contains("--map COLUMN=recorded_timestamp"));
        assert!(refuse(&["timestamp=recorded_timestamp"], &[]).contains("--set location=NAME"));
        let error = Mapping::parse(&[], &strings(&["temperature=3"]), &[]).unwrap_err();
        assert!(error.to_string().contains("only location"));
        assert!(Mapping::parse(&strings(&["value"]), &[], &[]).is_err());
    }
}
