//! Columns of an answer as cells.

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Float64Type, Int64Type, Schema, TimeUnit, TimestampMillisecondType, UInt64Type,
};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::error::DataFusionError;

use crate::output::record::{Cell, Heading};

/// JSON needs each name once.
pub(super) fn headings(schema: &Schema) -> Vec<Heading> {
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

/// The values of a column.
pub(super) enum Values {
    Moments(datafusion::arrow::array::TimestampMillisecondArray),
    /// Exactly, or as people read them.
    Numbers(datafusion::arrow::array::Float64Array, bool),
    Counts(datafusion::arrow::array::UInt64Array),
    Integers(datafusion::arrow::array::Int64Array),
    Booleans(datafusion::arrow::array::BooleanArray),
    Texts(Vec<Option<String>>),
}

impl Values {
    pub(super) fn of(batch: &RecordBatch, column: usize, exactly: bool) -> Result<Self, DataFusionError> {
        let array = batch.column(column);
        Ok(match array.data_type() {
            DataType::Timestamp(_, zone) => {
                let milliseconds = cast(array, &DataType::Timestamp(TimeUnit::Millisecond, zone.clone()))?;
                Self::Moments(milliseconds.as_primitive::<TimestampMillisecondType>().clone())
            }
            DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                let numbers = cast(array, &DataType::Float64)?;
                Self::Numbers(numbers.as_primitive::<Float64Type>().clone(), exactly)
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

    /// The times of a column of times or dates.
    pub(super) fn moments(batch: &RecordBatch, column: usize) -> Result<Self, DataFusionError> {
        let milliseconds = cast(batch.column(column), &DataType::Timestamp(TimeUnit::Millisecond, None))?;
        Ok(Self::Moments(milliseconds.as_primitive::<TimestampMillisecondType>().clone()))
    }

    pub(super) fn cell(&self, row: usize) -> Cell<'_> {
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
