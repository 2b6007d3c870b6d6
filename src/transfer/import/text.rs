//! Rows of NDJSON and CSV files.

use std::fs::File;
use std::io::BufRead as _;

use serde_json::{Map, Number, Value};

use super::{Row, Take, is_index, of_folders};
use crate::reading::delimited::{self, Dialect, is_missing};
use crate::time;

pub(super) fn read_lines(file: File, folders: &[(String, String)], take: Take<'_>) -> anyhow::Result<()> {
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
        if !text.is_empty() && !take(number, Ok(json_row(text, folders)))? {
            break;
        }
    }
    Ok(())
}

/// The line unchanged, unless folders add fields.
fn json_row(text: &[u8], folders: &[(String, String)]) -> Vec<u8> {
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

pub(super) fn read_csv(file: File, folders: &[(String, String)], take: Take<'_>) -> anyhow::Result<()> {
    let (dialect, text) = Dialect::detect(delimited::text(file))?;
    let mut reader = csv::ReaderBuilder::new().delimiter(dialect.delimiter).flexible(true).from_reader(text);
    let heading: Vec<String> = reader.headers()?.iter().map(|name| name.trim().to_owned()).collect();
    let mut record = csv::StringRecord::new();
    loop {
        match reader.read_record(&mut record) {
            Ok(false) => return Ok(()),
            Ok(true) => {
                let line = record.position().map_or(0, csv::Position::line);
                if !take(line, csv_row(&heading, &record, dialect, folders))? {
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

fn csv_row(
    heading: &[String],
    record: &csv::StringRecord,
    dialect: Dialect,
    folders: &[(String, String)],
) -> Row {
    if record.len() != heading.len() {
        return Err(format!("{} fields, but the heading line has {}", record.len(), heading.len()));
    }
    let mut fields = of_folders(folders);
    for (name, cell) in heading.iter().zip(record).filter(|(name, _)| !is_index(name)) {
        let cell = cell.trim();
        if is_missing(cell) {
            continue;
        }
        let value = match name.as_str() {
            "location" | "device_type" | "iot_sensor_id" => Value::from(cell),
            "recorded_timestamp" => moment(cell),
            "motion_detected" => delimited::boolean(cell).map_or_else(|| cell.into(), Value::Bool),
            "other_metrics" | "states" => {
                serde_json::from_str(cell).map_err(|_| format!("{name} is not a JSON object"))?
            }
            _ => {
                let number = dialect.number(cell).and_then(Number::from_f64);
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
