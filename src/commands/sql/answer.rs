//! Runs a statement and prints its answer as it comes.

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Float64Type, Int64Type, Schema, TimeUnit, TimestampMillisecondType, UInt64Type,
};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::error::DataFusionError;
use futures::StreamExt as _;
use tokio::time::timeout;

use super::SqlArgs;
use crate::cassandra::Session;
use crate::commands::Context;
use crate::commands::support::until_stopped;
use crate::error::UsageError;
use crate::output::Format;
use crate::output::record::{Cell, Heading};
use crate::sql::{Bounds, Engine, Limits, context};

pub(super) async fn print(args: &SqlArgs, statement: &str, command: Context) -> anyhow::Result<()> {
    let Context { config, output, shutdown, .. } = command;
    let statement = command_of(statement)?;
    let zone = args.zone.zone()?;
    let session = Session::connect(&config.cassandra).await?;
    let memory = usize::try_from(args.memory.as_u64()).unwrap_or(usize::MAX);
    let bounds = Bounds { time: args.timeout, ..Limits::default().bounds };
    let engine = Engine::new(session, config, Limits { memory, bounds, ..Limits::default() })?;
    let context = until_stopped(&shutdown, engine.context()).await?;
    let planned = async {
        match timeout(args.timeout, context::run(&context, &statement)).await {
            Ok(planned) => planned.map_err(refused),
            Err(_) => anyhow::bail!("the statement was not planned within --timeout (raise it)"),
        }
    };
    let mut batches = until_stopped(&shutdown, planned).await?;
    let schema = batches.schema();
    if args.format == Format::Table
        && schema.fields().iter().map(|field| field.name()).eq(["plan_type", "plan"])
    {
        while let Some(batch) = until_stopped(&shutdown, next(&mut batches)).await? {
            for row in 0..batch.num_rows() {
                let [kind, plan] = [0, 1].map(|column| shown(&batch, column, row));
                output.print(format!("{}:\n{}", kind?, plan?.trim_end()))?;
            }
        }
        return Ok(());
    }
    let mut records = output.records(args.format, zone, headings(&schema))?;
    while let Some(batch) = until_stopped(&shutdown, next(&mut batches)).await? {
        let columns: Vec<_> = (0..batch.num_columns())
            .map(|column| Values::of(&batch, column, args.format))
            .collect::<Result<_, _>>()?;
        for row in 0..batch.num_rows() {
            let cells: Vec<_> = columns.iter().map(|column| column.cell(row)).collect();
            records.write(&cells)?;
        }
        records.flush()?;
    }
    if records.finish()? == 0 {
        output.note("no rows");
    }
    Ok(())
}

async fn next(
    batches: &mut datafusion::execution::SendableRecordBatchStream,
) -> anyhow::Result<Option<RecordBatch>> {
    batches.next().await.transpose().map_err(refused)
}

/// The statement, or that for which `.tables` and `.schema` stand.
fn command_of(statement: &str) -> Result<String, UsageError> {
    let Some(command) = statement.strip_prefix('.') else { return Ok(statement.to_owned()) };
    let words: Vec<_> = command.split_whitespace().collect();
    let columns = "SELECT table_name, column_name, data_type FROM information_schema.columns \
                   WHERE table_schema = 'public'";
    match words.as_slice() {
        ["tables"] => Ok("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' \
                          ORDER BY table_name"
            .to_owned()),
        ["schema"] => Ok(format!("{columns} ORDER BY table_name, ordinal_position")),
        ["schema", table] => {
            let table = table.replace('\'', "''");
            Ok(format!("{columns} AND table_name = '{table}' ORDER BY ordinal_position"))
        }
        _ => Err(UsageError::new(format!(".{command} is not known (there are .tables and .schema NAME)"))),
    }
}

/// What is wrong with the statement is a mistake of its author; all else failed.
fn refused(error: DataFusionError) -> anyhow::Error {
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

/// JSON needs each name once.
fn headings(schema: &Schema) -> Vec<Heading> {
    let mut headings: Vec<Heading> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let mut name = field.name().clone();
        let mut number = 2;
        while headings.iter().any(|heading| heading.name == name) {
            name = format!("{}_{number}", field.name());
            number += 1;
        }
        headings.push(if field.data_type().is_numeric() {
            Heading::right(name)
        } else {
            Heading::left(name)
        });
    }
    headings
}

fn shown(batch: &RecordBatch, column: usize, row: usize) -> Result<String, DataFusionError> {
    let formatter = ArrayFormatter::try_new(batch.column(column), &FormatOptions::default())?;
    Ok(formatter.value(row).try_to_string()?)
}

/// The values of a column.
enum Values {
    Moments(datafusion::arrow::array::TimestampMillisecondArray),
    /// Exactly, or as people read them.
    Numbers(datafusion::arrow::array::Float64Array, bool),
    Counts(datafusion::arrow::array::UInt64Array),
    Integers(datafusion::arrow::array::Int64Array),
    Booleans(datafusion::arrow::array::BooleanArray),
    Texts(Vec<Option<String>>),
}

impl Values {
    fn of(batch: &RecordBatch, column: usize, format: Format) -> Result<Self, DataFusionError> {
        let array = batch.column(column);
        Ok(match array.data_type() {
            DataType::Timestamp(_, zone) => {
                let milliseconds = cast(array, &DataType::Timestamp(TimeUnit::Millisecond, zone.clone()))?;
                Self::Moments(milliseconds.as_primitive::<TimestampMillisecondType>().clone())
            }
            DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                let numbers = cast(array, &DataType::Float64)?;
                Self::Numbers(numbers.as_primitive::<Float64Type>().clone(), format != Format::Table)
            }
            unsigned if unsigned.is_unsigned_integer() => {
                Self::Counts(cast(array, &DataType::UInt64)?.as_primitive::<UInt64Type>().clone())
            }
            signed if signed.is_signed_integer() => {
                Self::Integers(cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
            }
            DataType::Boolean => Self::Booleans(array.as_boolean().clone()),
            _ => {
                let formatter = ArrayFormatter::try_new(array, &FormatOptions::default())?;
                let texts = (0..array.len()).map(|row| match array.is_null(row) {
                    true => Ok(None),
                    false => formatter.value(row).try_to_string().map(Some),
                });
                Self::Texts(texts.collect::<Result<_, _>>()?)
            }
        })
    }

    fn cell(&self, row: usize) -> Cell<'_> {
        let is_null = match self {
            Self::Moments(values) => values.is_null(row),
            Self::Numbers(values, _) => values.is_null(row),
            Self::Counts(values) => values.is_null(row),
            Self::Integers(values) => values.is_null(row),
            Self::Booleans(values) => values.is_null(row),
            Self::Texts(values) => values[row].is_none(),
        };
        if is_null {
            return Cell::Missing;
        }
        match self {
            Self::Moments(values) => Cell::Moment(values.value(row)),
            Self::Numbers(values, true) => Cell::Number(values.value(row)),
            Self::Numbers(values, false) => Cell::Double(values.value(row)),
            Self::Counts(values) => Cell::Count(values.value(row)),
            Self::Integers(values) => match u64::try_from(values.value(row)) {
                Ok(count) => Cell::Count(count),
                Err(_) => Cell::Number(values.value(row) as f64),
            },
            Self::Booleans(values) => Cell::Boolean(values.value(row)),
            Self::Texts(values) => values[row].as_deref().map_or(Cell::Missing, Cell::Text),
        }
    }
}
