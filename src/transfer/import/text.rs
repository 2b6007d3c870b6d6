//! Rows of NDJSON and CSV files.

use std::fs::File;
use std::io::BufRead as _;

use serde_json::{Map, Number, Value};

use super::{Row, is_index, of_folders};
use crate::mapping::rows;
use crate::reading::delimited::{self, Dialect, is_missing};
use crate::time;

pub(super) fn lines(
    file: File,
    mut take: impl FnMut(u64, &[u8]) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    /// A line without an end must not fill the memory; every allowed message is shorter.
    const LONGEST: u64 = 64 << 20;
    let mut reader = delimited::text(file);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let length = std::io::Read::take(&mut reader, LONGEST).read_until(b'\n', &mut line)?;
        if length == 0 {
            break;
        }
        anyhow::ensure!((length as u64) < LONGEST, "line {number} is longer than 64 MiB");
        let text = line.trim_ascii();
        if !text.is_empty() && !take(number, text)? {
            break;
        }
    }
    Ok(())
}

/// The line unchanged, unless folders add fields.
pub(super) fn json_row(text: &[u8], folders: &[(String, String)]) -> Vec<u8> {
    if folders.is_empty() {
        return text.to_vec();
    }
    match serde_json::from_slice::<Map<String, Value>>(text) {
        Ok(own) => {
            let mut fields = of_folders(folders);
            fields.extend(own);
            Value::Object(fields).to_string().into_bytes()
        }
        // The decoder reports what is wrong with it, as for any other message.
        Err(_) => text.to_vec(),
    }
}

/// How a file of CSV is written, where that is not found out by its first line.
#[derive(Clone, Copy, Default)]
pub(super) struct Framing<'a> {
    pub(super) delimiter: Option<u8>,
    /// Instead of a heading line.
    pub(super) columns: &'a [String],
}

/// A row of CSV with as many cells as the heading.
pub(super) struct Record<'a> {
    heading: &'a [String],
    cells: &'a csv::StringRecord,
    dialect: Dialect,
}

/// The names of the columns, and whether numbers have a decimal comma.
pub(super) fn heading(file: File) -> anyhow::Result<(Vec<String>, bool)> {
    let (dialect, text) = Dialect::detect(delimited::text(file))?;
    let mut reader = csv::ReaderBuilder::new().delimiter(dialect.delimiter).flexible(true).from_reader(text);
    let headings = reader.headers()?.iter().map(|name| name.trim().to_owned()).collect();
    Ok((headings, dialect.has_decimal_comma))
}

/// Passes each row on with its line.
pub(super) fn records(
    file: File,
    framing: Framing<'_>,
    mut take: impl FnMut(u64, Result<Record<'_>, String>) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let (mut dialect, text) = Dialect::detect(delimited::text(file))?;
    dialect.delimiter = framing.delimiter.unwrap_or(dialect.delimiter);
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(dialect.delimiter)
        .has_headers(framing.columns.is_empty())
        .flexible(true)
        .from_reader(text);
    let heading: Vec<String> = match framing.columns {
        [] => reader.headers()?.iter().map(|name| name.trim().to_owned()).collect(),
        columns => columns.to_vec(),
    };
    let mut cells = csv::StringRecord::new();
    loop {
        match reader.read_record(&mut cells) {
            Ok(false) => return Ok(()),
            Ok(true) => {
                let line = cells.position().map_or(0, csv::Position::line);
                let record = match cells.len() == heading.len() {
                    true => Ok(Record { heading: &heading, cells: &cells, dialect }),
                    false => {
                        Err(format!("{} fields, but the heading line has {}", cells.len(), heading.len()))
                    }
                };
                if !take(line, record)? {
                    return Ok(());
                }
            }
            Err(error) if matches!(error.kind(), csv::ErrorKind::Utf8 { .. }) => {
                let line = error.position().map_or(0, csv::Position::line);
                if !take(line, Err("not UTF-8".into()))? {
                    return Ok(());
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The row as a mapping reads it: cells are text.
pub(super) fn columns(record: &Record<'_>, folders: &[(String, String)]) -> Map<String, Value> {
    let mut fields = of_folders(folders);
    fields.extend(rows::columns(record.heading, record.cells.iter()));
    fields
}

/// The row as a message of the wire format.
pub(super) fn message(record: &Record<'_>, folders: &[(String, String)]) -> Row {
    let mut fields = of_folders(folders);
    for (name, cell) in record.heading.iter().zip(record.cells).filter(|(name, _)| !is_index(name)) {
        let cell = cell.trim();
        if is_missing(cell) {
            continue;
        }
        let value = match name.as_str() {
            "location" | "device_type" | "iot_sensor_id" | "sensor_name" => Value::from(cell),
            "recorded_timestamp" => moment(cell),
            "motion_detected" => delimited::boolean(cell).map_or_else(|| cell.into(), Value::Bool),
            "other_metrics" | "states" => {
                serde_json::from_str(cell).map_err(|_| format!("{name} is not a JSON object"))?
            }
            _ => {
                let number = record.dialect.number(cell).and_then(Number::from_f64);
                number.map_or_else(|| cell.into(), Value::Number)
            }
        };
        fields.insert(name.clone(), value);
    }
    Ok(Value::Object(fields).to_string().into_bytes())
}

/// A number is milliseconds since the epoch, as in a message, also with the fraction that pandas gives to a column with
/// missing values. A date and time without an offset is UTC.
fn moment(cell: &str) -> Value {
    let number = cell.strip_suffix(".0").unwrap_or(cell);
    match number.parse::<i64>() {
        Ok(milliseconds) => milliseconds.into(),
        // What no date is, the decoder reports.
        Err(_) => time::recorded(cell).map_or_else(|| cell.into(), Value::from),
    }
}
