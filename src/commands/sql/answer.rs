//! Where the rows of an answer go: to standard output, to a file, or into a picture.

use std::fs::File;
use std::io::{BufWriter, StdoutLock, Write};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt as _;

use super::SqlFormat;
use super::chart::Points;
use super::file::{Rows, Unfinished};
use super::values::{Values, headings};
use crate::error::UsageError;
use crate::output::record::Records;
use crate::output::{Format, Output};
use crate::time::Zone;

pub(super) enum Answer {
    Printed(Records<BufWriter<StdoutLock<'static>>>, Format),
    Written(Box<Rows>),
    Drawn(Points),
    /// EXPLAIN, for people.
    Plan(Output),
}

impl Answer {
    pub(super) fn printed(
        output: &Output,
        format: Format,
        zone: Zone,
        schema: &Schema,
    ) -> anyhow::Result<Self> {
        let is_plan = schema.fields().iter().map(|field| field.name()).eq(["plan_type", "plan"]);
        if is_plan && format == Format::Table {
            return Ok(Self::Plan(*output));
        }
        let records = output.records(format, zone, headings(schema))?;
        Ok(Self::Printed(records, format))
    }

    /// To a file that has its name only when it is whole.
    pub(super) fn written(
        file: (Unfinished, File),
        format: SqlFormat,
        zone: Zone,
        schema: &SchemaRef,
        output: &Output,
    ) -> anyhow::Result<Self> {
        Ok(Self::Written(Box::new(Rows::begin(file, format, zone, schema, output)?)))
    }

    /// Runs a statement that has none.
    pub(super) async fn nothing(batches: &mut SendableRecordBatchStream) -> anyhow::Result<()> {
        while let Some(batch) = batches.next().await {
            batch.map_err(refused)?;
        }
        Ok(())
    }

    /// Takes all rows of a statement.
    pub(super) async fn take(&mut self, batches: &mut SendableRecordBatchStream) -> anyhow::Result<()> {
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(refused)?;
            match self {
                Self::Printed(records, format) => {
                    write(records, &batch, *format != Format::Table)?;
                    records.flush()?;
                }
                Self::Written(rows) => rows.write(&batch)?,
                Self::Drawn(points) => points.add(&batch)?,
                Self::Plan(output) => {
                    for row in 0..batch.num_rows() {
                        let [kind, plan] = [0, 1].map(|column| shown(&batch, column, row));
                        output.print(format!("{}:\n{}", kind?, plan?.trim_end()))?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Rows as records.
pub(super) fn write(
    records: &mut Records<impl Write>,
    batch: &RecordBatch,
    exactly: bool,
) -> anyhow::Result<()> {
    let columns: Vec<_> = (0..batch.num_columns())
        .map(|column| Values::of(batch, column, exactly))
        .collect::<Result<_, _>>()?;
    for row in 0..batch.num_rows() {
        let cells: Vec<_> = columns.iter().map(|column| column.cell(row)).collect();
        records.write(&cells)?;
    }
    Ok(())
}

/// What is wrong with the statement is a mistake of its author; all else failed.
pub(super) fn refused(error: DataFusionError) -> anyhow::Error {
    // DataFusion lists what it knows below; an error here is one line.
    let text = error.strip_backtrace().split_whitespace().collect::<Vec<_>>().join(" ");
    let is_mistake = matches!(
        error.find_root(),
        DataFusionError::SQL(..)
            | DataFusionError::Plan(_)
            | DataFusionError::SchemaError(..)
            | DataFusionError::NotImplemented(_)
    );
    match is_mistake {
        true => UsageError::new(text).into(),
        false => anyhow::anyhow!("{text}"),
    }
}

fn shown(batch: &RecordBatch, column: usize, row: usize) -> Result<String, DataFusionError> {
    let formatter = ArrayFormatter::try_new(batch.column(column), &FormatOptions::default())?;
    Ok(formatter.value(row).try_to_string()?)
}

/// The writers of a file.
pub(super) type Sink = BufWriter<File>;
