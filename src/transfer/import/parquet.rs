//! Rows of Parquet files.

use std::fs::File;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, FieldRef};
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use serde_json::{Map, Number, Value};

use super::cell::cell;
use super::{Row, is_index, of_folders};
use crate::reading::Metric;
use crate::time;

/// Rows that are held at once.
const BATCH_ROWS: usize = 8_192;

/// A row of a batch.
pub(super) struct BatchRow<'a> {
    batch: &'a RecordBatch,
    row: usize,
}

/// The names of the columns.
pub(super) fn heading(file: File) -> anyhow::Result<Vec<String>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options())?;
    Ok(reader.schema().fields().iter().map(|field| field.name().clone()).collect())
}

/// Parquet's own types are used, and not what the writing program noted about them.
fn options() -> ArrowReaderOptions {
    ArrowReaderOptions::new().with_skip_arrow_metadata(true)
}

/// Passes each row on with its number, from 1.
pub(super) fn rows(
    file: File,
    mut take: impl FnMut(u64, BatchRow<'_>) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let reader = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options())?;
    let mut number = 0;
    for batch in reader.with_batch_size(BATCH_ROWS).build()? {
        let batch: RecordBatch = batch?;
        for row in 0..batch.num_rows() {
            number += 1;
            if !take(number, BatchRow { batch: &batch, row })? {
                return Ok(());
            }
        }
    }
    Ok(())
}

impl BatchRow<'_> {
    fn cells(&self) -> impl Iterator<Item = (&FieldRef, Result<Value, String>)> {
        let row = self.row;
        let columns = self.batch.schema_ref().fields().iter().zip(self.batch.columns());
        columns.map(move |(field, column)| (field, cell(column, row)))
    }

    /// As a message of the wire format.
    pub(super) fn message(&self, folders: &[(String, String)]) -> Row {
        let mut fields = of_folders(folders);
        for (field, value) in self.cells().filter(|(field, _)| !is_index(field.name())) {
            match value {
                Ok(Value::Null) => {}
                Ok(value) => drop(fields.insert(field.name().clone(), as_field(field.name(), value))),
                // A column that is not a field of a reading is ignored, as in a message.
                Err(_) if !is_known(field.name()) => {}
                Err(kind) => return Err(unsupported(field.name(), &kind)),
            }
        }
        Ok(Value::Object(fields).to_string().into_bytes())
    }

    /// As a mapping reads it: moments are text, as those of Avro are.
    pub(super) fn columns(&self, folders: &[(String, String)]) -> Result<Map<String, Value>, String> {
        let mut fields = of_folders(folders);
        for (field, value) in self.cells() {
            let value = match (value.map_err(|kind| unsupported(field.name(), &kind))?, field.data_type()) {
                (Value::Number(at), DataType::Timestamp(..) | DataType::Date64) => moment(&at),
                (Value::Number(at), DataType::Date32) => match moment(&at) {
                    Value::String(text) => text.split('T').next().unwrap_or(&text).into(),
                    other => other,
                },
                (value, _) => value,
            };
            fields.insert(field.name().clone(), value);
        }
        Ok(fields)
    }
}

fn moment(at: &Number) -> Value {
    at.as_i64().map_or_else(|| at.clone().into(), |at| time::display(at).into())
}

fn unsupported(column: &str, kind: &str) -> String {
    format!("column {column} has the unsupported type {kind}")
}

fn is_known(name: &str) -> bool {
    let fields = [
        "location",
        "device_type",
        "iot_sensor_id",
        "sensor_name",
        "recorded_timestamp",
        "motion_detected",
        "other_metrics",
        "states",
    ];
    fields.contains(&name) || Metric::COLUMNS.iter().any(|metric| metric.name() == name)
}

/// The value as the field takes it: pandas and SQL engines write booleans as numbers, and times as text.
fn as_field(name: &str, value: Value) -> Value {
    match (name, &value) {
        ("motion_detected", Value::Number(number)) => match number.as_f64() {
            Some(1.0) => true.into(),
            Some(0.0) => false.into(),
            _ => value,
        },
        // What no date is, the decoder reports.
        ("recorded_timestamp", Value::String(text)) => time::recorded(text).map_or(value, Value::from),
        _ => value,
    }
}
