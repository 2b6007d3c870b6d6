//! The mapping that flags say: which column of a file is which field of a reading, by `--map`, `--set` and `--unit`. Flags become
//! a source as a mapping file has it, and rows go through that; so one rule says what a column becomes, whoever names it.
//!
//! What a file with a mapping of its own has to state, flags find out: which delimiter and decimal mark a file has, which words
//! mean that a value is missing, and whether a number is seconds or milliseconds.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::Mapping;
use super::file::{
    DecimalMark, MomentShape, NullWord, PathOr, Paths, SourceShape, TargetShape, UnitShape, ValueShape,
};
use super::moment::TimestampFormat;
use super::path::Path;
use super::rows::RowMapping;
use super::units::Conversion;
use crate::error::UsageError;
use crate::reading::delimited::is_missing;
use crate::reading::{LEGACY_MISSING, Metric, Reading, widen};

/// Spellings of true and false beside those that each value may have.
const WORDS: [(&str, f64); 12] = [
    ("yes", 1.0),
    ("Yes", 1.0),
    ("YES", 1.0),
    ("on", 1.0),
    ("On", 1.0),
    ("ON", 1.0),
    ("no", 0.0),
    ("No", 0.0),
    ("NO", 0.0),
    ("off", 0.0),
    ("Off", 0.0),
    ("OFF", 0.0),
];

/// What flags say about the columns of a file.
#[derive(Debug, Clone, Default)]
pub struct ColumnFlags {
    /// (column, field) pairs of `--map`.
    map: Vec<(String, String)>,
    /// (field, value) pairs of `--set`.
    set: Vec<(String, String)>,
    /// (metric, unit) pairs of `--unit`.
    units: Vec<(String, String)>,
}

/// The mapping of a file, by flags and the file's headings.
#[derive(Debug)]
pub struct ByFlags {
    pub rows: RowMapping,
    /// Columns that are neither mapped nor named like a field.
    pub ignored: Vec<String>,
}

/// What is done to a row before it goes through a mapping that flags say.
#[derive(Debug, Clone)]
pub(super) struct Completion {
    /// (column, value): what stands there in rows that have nothing.
    set: Vec<(String, String)>,
}

impl Completion {
    pub(super) fn apply(&self, row: &mut Map<String, Value>) {
        for cell in row.values_mut() {
            if cell.as_str().is_some_and(|text| is_missing(text.trim())) {
                *cell = Value::Null;
            }
        }
        for (column, value) in &self.set {
            match row.get_mut(column) {
                Some(cell) if !cell.is_null() => {}
                _ => drop(row.insert(column.clone(), value.as_str().into())),
            }
        }
    }
}

impl ColumnFlags {
    /// Parses the lists of `--map`, `--set` and `--unit`, each item `name=value`.
    ///
    /// # Errors
    /// What is wrong with an item, and how to write it.
    pub fn parse(map: &[String], set: &[String], unit: &[String]) -> Result<Self, UsageError> {
        let flags =
            Self { map: pairs("--map", map)?, set: pairs("--set", set)?, units: pairs("--unit", unit)? };
        for (index, (column, field)) in flags.map.iter().enumerate() {
            if let Some((other, _)) = flags.map[..index].iter().find(|(_, known)| known == field) {
                return Err(UsageError::new(format!(
                    "--map: {other:?} and {column:?} cannot both be {field} (leave one out, or give it another name)"
                )));
            }
        }
        for (field, value) in &flags.set {
            if !matches!(field.as_str(), "location" | "device_type" | "iot_sensor_id") {
                return Err(UsageError::new(format!(
                    "--set {field}={value}: only location, device_type and iot_sensor_id can be set \
                     (take {field:?} from a column with --map COLUMN={field})"
                )));
            }
        }
        for (metric, unit) in &flags.units {
            let refuse = |problem: String| UsageError::new(format!("--unit {metric}={unit}: {problem}"));
            match Conversion::to_column(metric, unit) {
                Ok(Some(_)) => {}
                Ok(None) => {
                    return Err(refuse(format!(
                        "{metric:?} is stored as it is (units are for temperature, humidity, pressure, light_level and \
                         gas_concentration; a file for --mapping converts others too)"
                    )));
                }
                Err(problem) => return Err(refuse(problem)),
            }
        }
        Ok(flags)
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        !self.names_columns() && self.units.is_empty()
    }

    /// Whether columns are mapped or set.
    pub fn names_columns(&self) -> bool {
        !(self.map.is_empty() && self.set.is_empty())
    }

    /// The mapping of a file with these headings. Columns named like a field of the wire format need no `--map`.
    ///
    /// # Errors
    /// A column that is mapped is not there, or nothing says what a required field is.
    pub fn resolve(&self, headings: &[String], has_decimal_comma: bool) -> Result<ByFlags, UsageError> {
        if let Some((column, _)) = self.map.iter().find(|(column, _)| !headings.contains(column)) {
            return Err(UsageError::new(format!(
                "--map {column}=…: the file has no such column (it has: {})",
                headings.join(", ")
            )));
        }
        let columns = self.columns(headings);
        let (shape, set) = self.source(headings, &columns, has_decimal_comma)?;
        let ignored = headings
            .iter()
            // The index that pandas writes has no name, and is not worth a note.
            .filter(|heading| !heading.is_empty() && !columns.values().any(|column| column == *heading));
        let ignored = ignored.cloned().collect();
        let mapping = Mapping::of_source("of the flags", shape)?;
        Ok(ByFlags { rows: RowMapping::by_flags(Arc::new(mapping), Completion { set }), ignored })
    }

    /// The column of each field: the one that `--map` names, else the one of the field's own name.
    fn columns(&self, headings: &[String]) -> BTreeMap<String, String> {
        let is_mapped = |heading: &String| self.map.iter().any(|(column, _)| column == heading);
        let named = headings.iter().filter(|heading| is_field(heading) && !is_mapped(heading));
        let mut columns: BTreeMap<_, _> = named.map(|heading| (heading.clone(), heading.clone())).collect();
        columns.extend(self.map.iter().map(|(column, field)| (field.clone(), column.clone())));
        columns
    }

    /// The source, and what stands in its columns where a row has nothing.
    fn source(
        &self,
        headings: &[String],
        columns: &BTreeMap<String, String>,
        has_decimal_comma: bool,
    ) -> Result<(SourceShape, Vec<(String, String)>), UsageError> {
        let missing = |field: &str, remedy: &str| {
            let known = headings.join(", ");
            UsageError::new(format!("the file has no {field} (it has: {known}; {remedy})"))
        };
        let mut set: Vec<(String, String)> = Vec::new();
        // The column of a field of the group. What is set is a column that has the same in all rows.
        let mut column = |field: &str| {
            let column = columns.get(field);
            match (self.set.iter().rfind(|(name, _)| name == field), column) {
                (Some((_, value)), column) => {
                    let column = column.map_or(field, String::as_str).to_owned();
                    set.push((column.clone(), value.clone()));
                    Some(column)
                }
                (None, column) => column.cloned(),
            }
        };
        let location = column("location")
            .ok_or_else(|| missing("location", "--map COLUMN=location or --set location=NAME"))?;
        let device_type = column("device_type")
            .ok_or_else(|| missing("device_type", "--map COLUMN=device_type or --set device_type=NAME"))?;
        // A file of one sensor need not name it: it is then its group's.
        let sensor = match column("iot_sensor_id") {
            Some(sensor) => vec![sensor],
            None => vec![location.clone(), device_type.clone()],
        };
        let moment = columns.get("recorded_timestamp").ok_or_else(|| {
            missing("recorded_timestamp", "name its column: --map COLUMN=recorded_timestamp")
        })?;
        let metrics: BTreeMap<_, _> = columns
            .iter()
            .filter(|(field, _)| !is_about_the_row(field))
            .map(|(name, column)| (name.clone(), PathOr(self.metric(name, column, has_decimal_comma))))
            .collect();
        if metrics.is_empty() {
            return Err(missing("metric", "name its column: --map COLUMN=temperature"));
        }
        let target = |columns: Vec<String>| {
            Some(PathOr(TargetShape { from: paths(columns), ..TargetShape::default() }))
        };
        let shape = SourceShape {
            location: target(vec![location]),
            device_type: target(vec![device_type]),
            sensor: target(sensor),
            recorded_timestamp: Some(PathOr(MomentShape {
                from: paths(vec![moment.clone()]),
                format: Some(TimestampFormat::Written),
                ..MomentShape::default()
            })),
            metrics,
            ..SourceShape::default()
        };
        Ok((shape, set))
    }

    fn metric(&self, name: &str, column: &str, has_decimal_comma: bool) -> ValueShape {
        let words = match name {
            "motion_detected" => WORDS.iter().map(|(word, value)| ((*word).to_owned(), *value)).collect(),
            _ => BTreeMap::new(),
        };
        ValueShape {
            from: paths(vec![column.to_owned()]),
            unit: self.unit(name).map(|unit| UnitShape::Named(unit.to_owned())),
            words,
            // The columns are those of the built-in format.
            null: vec![NullWord::of_number(LEGACY_MISSING)],
            decimal_comma: if has_decimal_comma { DecimalMark::Either } else { DecimalMark::Point },
            ..ValueShape::default()
        }
    }

    fn unit(&self, metric: &str) -> Option<&str> {
        self.units.iter().rfind(|(name, _)| name == metric).map(|(_, unit)| unit.as_str())
    }

    /// Converts a reading of the wire format, whose columns need no mapping.
    ///
    /// # Errors
    /// The metric whose value overflows.
    pub fn convert(&self, reading: &mut Reading<'_>) -> Result<(), String> {
        for (name, unit) in &self.units {
            let value = match Metric::named(name) {
                Metric::Temperature => &mut reading.temperature,
                Metric::Humidity => &mut reading.humidity,
                Metric::Pressure => &mut reading.pressure,
                Metric::LightLevel => &mut reading.light_level,
                Metric::GasConcentration => &mut reading.gas_concentration,
                Metric::Other(_) => continue,
            };
            if let (Some(value), Some(conversion)) = (value, Conversion::to_column(name, unit)?) {
                let converted = conversion.convert(widen(*value)) as f32;
                if !converted.is_finite() {
                    return Err(format!("field {name}: {value} is out of range after the conversion"));
                }
                *value = converted;
            }
        }
        Ok(())
    }
}

fn paths(columns: Vec<String>) -> Paths {
    Paths(columns.into_iter().map(Path::to_member).collect())
}

fn is_about_the_row(name: &str) -> bool {
    matches!(name, "location" | "device_type" | "iot_sensor_id" | "recorded_timestamp")
}

fn is_field(name: &str) -> bool {
    is_about_the_row(name) || name == "motion_detected" || !matches!(Metric::named(name), Metric::Other(_))
}

fn pairs(flag: &str, items: &[String]) -> Result<Vec<(String, String)>, UsageError> {
    let pair = |item: &String| match item.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() && !value.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err(UsageError::new(format!("{flag} {item:?}: write it as NAME=VALUE"))),
    };
    items.iter().map(pair).collect()
}

#[cfg(test)]
mod tests;
