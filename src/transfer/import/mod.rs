//! Historical readings from files: each row becomes a message of the wire format and is decoded by the same rules as
//! every message, then sent to Kafka, or stored as `ingest` stores it, rows first and then what readers find them by.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Map, Value};

use self::text::Framing;
use super::FileFormat;
use super::plan::unescape;
use crate::error::UsageError;
use crate::mapping::columns::{ByFlags, ColumnFlags};
use crate::mapping::rows::RowMapping;

mod cell;
mod parquet;
mod text;

/// A row of a file as a message, or why it is not one.
pub type Row = Result<Vec<u8>, String>;

/// A row of a file for a mapping.
pub enum RawRow<'a> {
    /// Of a text file without columns.
    Line(&'a [u8]),
    Columns(Map<String, Value>),
}

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
    let folders = folders(path);
    match format {
        FileFormat::Ndjson => text::lines(file, |line, text| take(line, Ok(text::json_row(text, &folders))))
            .with_context(context),
        FileFormat::Csv => text::records(file, Framing::default(), |line, record| {
            take(line, record.and_then(|record| text::message(&record, &folders)))
        })
        .with_context(context),
        FileFormat::Parquet => {
            parquet::rows(file, |number, row| take(number, row.message(&folders))).with_context(context)
        }
    }
}

/// Passes each row of a file as a mapping reads it to `take`, with its line (for Parquet its row number), until `take` returns
/// `false`. What the folders above the file say stands in the row unless it has a field of that name itself.
pub fn read_raw(
    path: &Path,
    format: FileFormat,
    rows: &RowMapping,
    mut take: impl FnMut(u64, Result<RawRow<'_>, String>) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let context = || format!("cannot read {}", path.display());
    let folders = if rows.is_json() || format != FileFormat::Ndjson { folders(path) } else { Vec::new() };
    match format {
        FileFormat::Ndjson => {
            text::lines(file, |line, text| take(line, Ok(RawRow::Line(&text::json_row(text, &folders)))))
                .with_context(context)
        }
        FileFormat::Csv => {
            let framing = Framing { delimiter: rows.delimiter(), columns: rows.columns() };
            text::records(file, framing, |line, record| {
                take(line, record.map(|record| RawRow::Columns(text::columns(&record, &folders))))
            })
            .with_context(context)
        }
        FileFormat::Parquet => {
            parquet::rows(file, |number, row| take(number, row.columns(&folders).map(RawRow::Columns)))
                .with_context(context)
        }
    }
}

/// The mapping of a file by flags and its columns.
///
/// # Errors
/// The file cannot be read, or the flags do not fit it.
pub fn by_flags(path: &Path, format: FileFormat, flags: &ColumnFlags) -> anyhow::Result<ByFlags> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let (mut headings, has_decimal_comma) = match format {
        FileFormat::Ndjson => {
            return Err(UsageError::new(format!(
                "{} is NDJSON and has no columns (--map, --set and --unit are for CSV and Parquet; --mapping is for both)",
                path.display()
            ))
            .into());
        }
        FileFormat::Csv => text::heading(file),
        FileFormat::Parquet => parquet::heading(file).map(|names| (names, false)),
    }
    .with_context(|| format!("cannot read the columns of {}", path.display()))?;
    let above = folders(path).into_iter().map(|(key, _)| key).filter(|key| !headings.contains(key));
    headings.extend(above.collect::<Vec<_>>());
    flags.resolve(&headings, has_decimal_comma).with_context(|| path.display().to_string())
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

fn of_folders(folders: &[(String, String)]) -> Map<String, Value> {
    folders.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect()
}

/// Columns that number the rows and hold nothing else: pandas writes them, without a name in CSV.
fn is_index(name: &str) -> bool {
    name.is_empty() || name.starts_with("__index_level_") || name.starts_with("Unnamed: ")
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

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
            sensor_name: None,
            sensor_tags: Vec::new(),
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
        assert_eq!(schema(&[]).fields().len(), 13);
        let mut messages = Vec::new();
        read(&path, FileFormat::Parquet, |_, row| {
            messages.push(row.unwrap());
            Ok(true)
        })
        .unwrap();
        let limits = crate::reading::DecodeLimits {
            max_message_bytes: 10_000,
            max_future_skew: std::time::Duration::from_secs(1),
            is_any_time: false,
        };
        let decoded = crate::reading::decode::decode(&messages[0], &limits, 1_700_000_000_123).unwrap();
        assert_eq!(decoded.reading, reading);
    }
}
