//! Rows of Parquet files.

use std::fs::File;

use arrow_array::RecordBatch;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use serde_json::Value;

use super::cell::cell;
use super::{Take, is_index, of_folders};
use crate::reading::Metric;
use crate::time;

/// Rows that are held at once.
const BATCH_ROWS: usize = 8_192;

pub(super) fn read_parquet(file: File, folders: &[(String, String)], take: Take<'_>) -> anyhow::Result<()> {
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
                if is_index(field.name()) {
                    continue;
                }
                match cell(column, row) {
                    Ok(Value::Null) => {}
                    Ok(value) => drop(fields.insert(field.name().clone(), as_field(field.name(), value))),
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
