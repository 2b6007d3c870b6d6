//! Historical readings from files: each row becomes a message of the wire format and is decoded by the same rules as
//! every message, then sent to Kafka, or stored as `ingest` stores it, rows first and then what readers find them by.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use anyhow::Context;
use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Float32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use serde_json::{Map, Number, Value};
use uuid::Uuid;

use super::FileFormat;
use super::plan::unescape;
use crate::error::UsageError;
use crate::reading::{Metric, widen};

/// Rows of a Parquet file that are held at once.
const BATCH_ROWS: usize = 8_192;

/// A row of a file as a message, or why it is not one.
pub type Row = Result<Vec<u8>, String>;

/// The files that were named; of a folder, those in it and below, without hidden names and those with `_` in front.
pub fn files(named: &[PathBuf], format: Option<FileFormat>) -> anyhow::Result<Vec<(PathBuf, FileFormat)>> {
    let mut files = Vec::new();
    for path in named {
        if path.is_dir() {
            let before = files.len();
            walk(path, format, &mut files)?;
            if files.len() == before {
                return Err(UsageError::new(format!(
                    "{} contains no .parquet, .csv or .ndjson file",
                    path.display()
                ))
                .into());
            }
        } else {
            let format = format.or_else(|| FileFormat::of(path)).ok_or_else(|| {
                UsageError::new(format!(
                    "the format of {} is unknown (give --format parquet, csv or ndjson)",
                    path.display()
                ))
            })?;
            // An unreadable file is reported before the first file is imported.
            std::fs::File::open(path)
                .map_err(|error| UsageError::new(format!("cannot read {}: {error}", path.display())))?;
            files.push((path.clone(), format));
        }
    }
    Ok(files)
}

fn walk(
    folder: &Path,
    format: Option<FileFormat>,
    files: &mut Vec<(PathBuf, FileFormat)>,
) -> anyhow::Result<()> {
    let context = || format!("cannot read {}", folder.display());
    let entries = std::fs::read_dir(folder).with_context(context)?;
    let mut paths =
        entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>().with_context(context)?;
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(['.', '_']) {
            continue;
        }
        if path.is_dir() {
            walk(&path, format, files)?;
        } else if let Some(found) = FileFormat::of(&path)
            && format.is_none_or(|format| format == found)
        {
            files.push((path, found));
        }
    }
    Ok(())
}

/// Passes each row of a file to `take` with its line (for Parquet its row number), until `take` returns `false`.
pub fn read(
    path: &Path,
    format: FileFormat,
    mut take: impl FnMut(u64, Row) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let context = || format!("cannot read {}", path.display());
    match format {
        FileFormat::Ndjson => read_lines(file, &folders(path), &mut take).with_context(context),
        FileFormat::Csv => read_csv(file, &folders(path), &mut take).with_context(context),
        FileFormat::Parquet => read_parquet(file, &folders(path), &mut take).with_context(context),
    }
}

/// `location` and `device_type` from the names of the folders above a file.
fn folders(path: &Path) -> Vec<(String, String)> {
    let mut names = Vec::new();
    for part in path.parent().into_iter().flat_map(Path::components) {
        let part = part.as_os_str().to_string_lossy();
        if let Some((key @ ("location" | "device_type"), value)) = part.split_once('=')
            && let Some(value) = unescape(value)
        {
            names.push((key.to_owned(), value));
        }
    }
    names
}

type Take<'a> = &'a mut dyn FnMut(u64, Row) -> anyhow::Result<bool>;

fn read_lines(file: File, folders: &[(String, String)], take: Take<'_>) -> anyhow::Result<()> {
    /// A line without an end must not fill the memory; every allowed message is shorter.
    const LONGEST: u64 = 64 << 20;
    let mut reader = BufReader::with_capacity(1 << 18, file);
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

fn read_csv(file: File, folders: &[(String, String)], take: Take<'_>) -> anyhow::Result<()> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(BufReader::new(file));
    let heading: Vec<String> = reader.headers()?.iter().map(|name| name.trim().to_owned()).collect();
    let mut record = csv::StringRecord::new();
    loop {
        match reader.read_record(&mut record) {
            Ok(false) => return Ok(()),
            Ok(true) => {
                let line = record.position().map_or(0, csv::Position::line);
                if !take(line, csv_row(&heading, &record, folders))? {
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

fn csv_row(heading: &[String], record: &csv::StringRecord, folders: &[(String, String)]) -> Row {
    if record.len() != heading.len() {
        return Err(format!("{} fields, but the heading line has {}", record.len(), heading.len()));
    }
    let mut fields = of_folders(folders);
    for (name, text) in heading.iter().zip(record) {
        if text.is_empty() {
            continue;
        }
        let value = match name.as_str() {
            "location" | "device_type" | "iot_sensor_id" => Value::from(text),
            "recorded_timestamp" => text.parse::<i64>().map_or_else(|_| text.into(), Value::from),
            "motion_detected" => match text.to_ascii_lowercase().as_str() {
                "true" | "1" => Value::Bool(true),
                "false" | "0" => Value::Bool(false),
                _ => text.into(),
            },
            "other_metrics" | "states" => {
                serde_json::from_str(text).map_err(|_| format!("{name} is not a JSON object"))?
            }
            _ => text.parse().ok().and_then(Number::from_f64).map_or_else(|| text.into(), Value::Number),
        };
        fields.insert(name.clone(), value);
    }
    Ok(Value::Object(fields).to_string().into_bytes())
}

fn of_folders(folders: &[(String, String)]) -> Map<String, Value> {
    folders.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect()
}

fn read_parquet(file: File, folders: &[(String, String)], take: Take<'_>) -> anyhow::Result<()> {
    // Use Parquet's own types, and not what the writing program noted about them.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let reader = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options)?;
    let mut number = 0;
    for batch in reader.with_batch_size(BATCH_ROWS).build()? {
        let batch: RecordBatch = batch?;
        let schema = batch.schema();
        for row in 0..batch.num_rows() {
            number += 1;
            let mut fields = of_folders(folders);
            let mut refusal = None;
            for (field, column) in schema.fields().iter().zip(batch.columns()) {
                match cell(column, row) {
                    Ok(Value::Null) => {}
                    Ok(value) => drop(fields.insert(field.name().clone(), value)),
                    // A column that is not a field of a reading is ignored, as in a message.
                    Err(_) if !is_known(field.name()) => {}
                    Err(kind) => {
                        refusal = Some(format!("column {} has the unsupported type {kind}", field.name()));
                    }
                }
            }
            let message = match refusal {
                Some(refusal) => Err(refusal),
                None => Ok(Value::Object(fields).to_string().into_bytes()),
            };
            if !take(number, message)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn is_known(name: &str) -> bool {
    let fields = [
        "location",
        "device_type",
        "iot_sensor_id",
        "recorded_timestamp",
        "motion_detected",
        "other_metrics",
        "states",
    ];
    fields.contains(&name) || Metric::COLUMNS.iter().any(|metric| metric.name() == name)
}

/// A cell as JSON; the name of its type if that is not supported.
fn cell(column: &ArrayRef, row: usize) -> Result<Value, String> {
    if column.is_null(row) {
        return Ok(Value::Null);
    }
    let float =
        |value: f64| Number::from_f64(value).map_or_else(|| Value::from(value.to_string()), Value::Number);
    Ok(match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::Float32 => float(widen(column.as_primitive::<Float32Type>().value(row))),
        DataType::Float64 => float(column.as_primitive::<Float64Type>().value(row)),
        DataType::FixedSizeBinary(16) => {
            let bytes = column.as_fixed_size_binary().value(row);
            Uuid::from_slice(bytes).map_err(|error| error.to_string())?.to_string().into()
        }
        DataType::Timestamp(unit, _) => match unit {
            TimeUnit::Second => column.as_primitive::<TimestampSecondType>().value(row).saturating_mul(1000),
            TimeUnit::Millisecond => column.as_primitive::<TimestampMillisecondType>().value(row),
            TimeUnit::Microsecond => {
                column.as_primitive::<TimestampMicrosecondType>().value(row).div_euclid(1000)
            }
            TimeUnit::Nanosecond => {
                column.as_primitive::<TimestampNanosecondType>().value(row).div_euclid(1_000_000)
            }
        }
        .into(),
        DataType::Map(..) => {
            let entries = column.as_map().value(row);
            let (names, values) = (entries.column(0), entries.column(1));
            let mut map = Map::new();
            for index in 0..entries.len() {
                if let Value::String(name) = cell(names, index)? {
                    map.insert(name, cell(values, index)?);
                }
            }
            Value::Object(map)
        }
        other => return Err(other.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(format: FileFormat, name: &str, text: &str) -> Vec<(u64, Row)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        let mut rows = Vec::new();
        read(&path, format, |line, row| {
            rows.push((line, row));
            Ok(true)
        })
        .unwrap();
        rows
    }

    fn message(row: &Row) -> Value {
        serde_json::from_slice(row.as_ref().unwrap()).unwrap()
    }

    #[test]
    fn a_csv_row_is_a_message_without_its_empty_fields_and_bad_rows_are_reported_by_line() {
        let text = "iot_sensor_id,recorded_timestamp,temperature,humidity,motion_detected,other_metrics,rpm\n\
                    x,1700000000000,21.5,,true,\"{\"\"a\"\":1}\",7\nshort\ny,2026-01-31T00:00:00Z,hot,,,nonsense,\n";
        let rows = rows(FileFormat::Csv, "location=a%20b/device_type=t/x.csv", text);
        assert_eq!(
            message(&rows[0].1),
            serde_json::json!({"location": "a b", "device_type": "t", "iot_sensor_id": "x",
                "recorded_timestamp": 1_700_000_000_000i64, "temperature": 21.5, "motion_detected": true,
                "other_metrics": {"a": 1}, "rpm": 7.0})
        );
        assert_eq!((rows[1].0, rows[1].1.is_err()), (3, true));
        assert_eq!(rows[2].1.as_ref().unwrap_err(), "other_metrics is not a JSON object");
    }

    #[test]
    fn lines_are_numbered_and_blank_lines_skipped() {
        let rows = rows(FileFormat::Ndjson, "x.ndjson", "{}\n\n{\"a\":1}");
        assert_eq!(rows.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn folders_supply_what_a_line_leaves_out_and_nothing_else() {
        let text = "{\"temperature\":21.3}\n{\"location\":\"own\"}\n[not an object\n";
        let rows = rows(FileFormat::Ndjson, "location=a/device_type=t/x.ndjson", text);
        let expected = serde_json::json!({"location": "a", "device_type": "t", "temperature": 21.3});
        assert_eq!(message(&rows[0].1), expected);
        assert_eq!(message(&rows[1].1), serde_json::json!({"location": "own", "device_type": "t"}));
        assert_eq!(rows[2].1.as_deref(), Ok(b"[not an object".as_slice()));
    }

    #[test]
    fn a_parquet_file_of_ours_reads_back_as_messages() {
        use crate::reading::Reading;
        use crate::transfer::block::{Blocks, schema};
        use crate::transfer::file::BlockWriter;
        let reading = Reading {
            location: "a".into(),
            device_type: "t".into(),
            sensor: Uuid::nil(),
            recorded_at: 1_700_000_000_123,
            temperature: Some(21.3),
            humidity: None,
            pressure: None,
            motion_detected: Some(true),
            light_level: None,
            gas_concentration: None,
            other_metrics: vec![("energy".into(), 123_456_789.125), ("rpm".into(), 0.1)],
            states: vec![("mode".into(), "eco".into())],
        };
        let mut blocks = Blocks::new(FileFormat::Parquet, &[]);
        blocks.push(&reading).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        let mut writer = BlockWriter::new(File::create(&path).unwrap(), FileFormat::Parquet, &[]).unwrap();
        writer.write(&blocks.take().unwrap().unwrap().0).unwrap();
        writer.finish().unwrap();
        assert_eq!(schema(&[]).fields().len(), 12);
        let mut messages = Vec::new();
        read(&path, FileFormat::Parquet, |_, row| {
            messages.push(row.unwrap());
            Ok(true)
        })
        .unwrap();
        let limits = crate::reading::DecodeLimits {
            max_message_bytes: 10_000,
            max_future_skew: std::time::Duration::from_secs(1),
        };
        let decoded = crate::reading::decode::decode(&messages[0], &limits, 1_700_000_000_123).unwrap();
        assert_eq!(decoded.reading, reading);
    }
}
