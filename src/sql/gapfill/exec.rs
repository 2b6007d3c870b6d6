//! The operator that adds lines. It holds its input in memory: the lines of an aggregate.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, RecordBatch, TimestampMillisecondArray, UInt64Array,
};
use datafusion::arrow::compute::{
    SortColumn, cast, concat_batches, lexsort_to_indices, partition, take, take_record_batch,
};
use datafusion::arrow::datatypes::{DataType, Float64Type, SchemaRef, TimestampMillisecondType};
use datafusion::common::exec_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, EmissionType};
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
};
use futures::StreamExt as _;

use super::functions::Fill;
use crate::sql::operators::{one_partition, write_range};
use crate::sql::tables::moment;
use crate::time::{Periods, TimeRange};

/// Lines that an answer may have: more are a mistake, and would fill the memory.
const MOST_LINES: usize = 5_000_000;

/// What the columns of the input are.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    /// The column of the buckets.
    pub(super) time: usize,
    pub(super) periods: Periods,
    /// The other columns that lines are grouped by.
    pub(super) keys: Vec<usize>,
    /// The columns of the input; after them come those that are filled.
    pub(super) columns: usize,
    pub(super) fills: Vec<(Fill, usize)>,
}

#[derive(Debug)]
pub(super) struct GapFill {
    input: Arc<dyn ExecutionPlan>,
    shape: Shape,
    range: TimeRange,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl GapFill {
    pub(super) fn new(
        input: Arc<dyn ExecutionPlan>,
        shape: Shape,
        range: TimeRange,
        schema: SchemaRef,
    ) -> Self {
        let properties = one_partition(schema.clone(), EmissionType::Final);
        Self { input, shape, range, schema, properties: Arc::new(properties) }
    }
}

impl DisplayAs for GapFill {
    fn fmt_as(&self, _: DisplayFormatType, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "GapFill: keys={}", self.shape.keys.len())?;
        write_range(formatter, self.range)
    }
}

impl ExecutionPlan for GapFill {
    fn name(&self) -> &'static str {
        "GapFill"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::SinglePartition]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(input) = children.pop() else { return exec_err!("GapFill has one input") };
        Ok(Arc::new(Self::new(input, self.shape.clone(), self.range, self.schema.clone())))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let mut stream = RecordBatchReceiverStreamBuilder::new(self.schema.clone(), 2);
        let sender = stream.tx();
        let memory = MemoryConsumer::new("GapFill").register(context.memory_pool());
        let batch_rows = context.session_config().batch_size().max(1);
        let (shape, range, schema) = (self.shape.clone(), self.range, self.schema.clone());
        let mut input = self.input.execute(0, context)?;
        stream.spawn(async move {
            let mut batches = Vec::new();
            while let Some(batch) = input.next().await {
                let batch = batch?;
                memory.try_grow(2 * batch.get_array_memory_size())?;
                batches.push(batch);
            }
            let lines = concat_batches(&input.schema(), &batches)?;
            drop(batches);
            let Some(lines) = in_order(&lines, &shape)? else { return Ok(()) };
            let plan = Gapless::of(&lines, &shape, range)?;
            memory.try_grow(plan.lines.len() * size_of::<Line>())?;
            for part in plan.lines.chunks(batch_rows) {
                let batch = batch(&lines, &shape, part, &schema)?;
                if sender.send(Ok(batch)).await.is_err() {
                    break;
                }
            }
            Ok(())
        });
        Ok(stream.build())
    }
}

/// The lines by their keys, then by time. `None` if there are none.
fn in_order(lines: &RecordBatch, shape: &Shape) -> Result<Option<RecordBatch>> {
    if lines.num_rows() == 0 {
        return Ok(None);
    }
    let by = shape
        .keys
        .iter()
        .chain([&shape.time])
        .map(|&column| SortColumn { values: lines.column(column).clone(), options: None });
    let order = lexsort_to_indices(&by.collect::<Vec<_>>(), None)?;
    Ok(Some(take_record_batch(lines, &order)?))
}

/// A line of the answer.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    at: i64,
    /// A line with the same keys.
    key: usize,
    /// The line of the input, if there is one.
    line: Option<usize>,
    /// All lines of the input with the same keys.
    group: Range<usize>,
}

#[derive(Debug)]
struct Gapless {
    lines: Vec<Line>,
}

impl Gapless {
    fn of(lines: &RecordBatch, shape: &Shape, range: TimeRange) -> Result<Self> {
        let at = times(lines, shape)?;
        let moments = || at.iter().flatten();
        let (Some(first), Some(last)) = (moments().min(), moments().max()) else {
            return Ok(Self { lines: Vec::new() });
        };
        let from = if range.from > i64::MIN { range.from.min(first) } else { first };
        let to = if range.to < i64::MAX { range.to } else { last.saturating_add(1) };
        let keys: Vec<_> = shape.keys.iter().map(|&column| lines.column(column).clone()).collect();
        let groups = match keys.is_empty() {
            true => std::iter::once(0..lines.num_rows()).collect(),
            false => partition(&keys)?.ranges(),
        };
        let mut found = Vec::new();
        for group in groups {
            let mut next = group.start;
            let mut periods = shape.periods.cursor();
            let mut bucket = periods.of(from);
            loop {
                // A line of the input is never left out.
                let line = (next < group.end && at.value(next) < bucket.to).then_some(next);
                if line.is_none() && bucket.from >= to {
                    break;
                }
                next += usize::from(line.is_some());
                found.push(Line { at: bucket.from, key: group.start, line, group: group.clone() });
                if found.len() > MOST_LINES {
                    return Err(DataFusionError::ResourcesExhausted(format!(
                        "time_bucket_gapfill makes more than {MOST_LINES} lines (narrow the range of time, or widen the buckets)"
                    )));
                }
                if bucket.to <= bucket.from {
                    break;
                }
                bucket = periods.of(bucket.to);
            }
        }
        Ok(Self { lines: found })
    }
}

fn times(lines: &RecordBatch, shape: &Shape) -> Result<TimestampMillisecondArray> {
    Ok(cast(lines.column(shape.time), &moment())?.as_primitive::<TimestampMillisecondType>().clone())
}

fn batch(lines: &RecordBatch, shape: &Shape, part: &[Line], schema: &SchemaRef) -> Result<RecordBatch> {
    let keys = UInt64Array::from_iter_values(part.iter().map(|line| line.key as u64));
    let values = UInt64Array::from_iter(part.iter().map(|line| line.line.map(|line| line as u64)));
    let at = times(lines, shape)?;
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for index in 0..shape.columns {
        let column = lines.column(index);
        columns.push(if index == shape.time {
            let starts = TimestampMillisecondArray::from_iter_values(part.iter().map(|line| line.at));
            Arc::new(starts.with_timezone("+00:00"))
        } else if shape.keys.contains(&index) {
            take(column, &keys, None)?
        } else {
            take(column, &values, None)?
        });
    }
    for &(how, index) in &shape.fills {
        let column = lines.column(index);
        columns.push(match how {
            Fill::Last => {
                let before = part.iter().map(|line| before(column, &at, line).map(|line| line as u64));
                take(column, &UInt64Array::from_iter(before), None)?
            }
            Fill::Between => {
                let numbers = cast(column, &DataType::Float64)?;
                let numbers = numbers.as_primitive::<Float64Type>();
                Arc::new(Float64Array::from_iter(part.iter().map(|line| between(numbers, &at, line))))
            }
        });
    }
    let columns = columns.iter().zip(schema.fields()).map(|(column, field)| cast(column, field.data_type()));
    Ok(RecordBatch::try_new(schema.clone(), columns.collect::<Result<_, _>>()?)?)
}

/// The last line with a value up to this one.
fn before(column: &dyn Array, at: &TimestampMillisecondArray, line: &Line) -> Option<usize> {
    let end = line.group.start + at.values()[line.group.clone()].partition_point(|moment| *moment <= line.at);
    (line.group.start..end).rev().find(|&index| column.is_valid(index))
}

/// The value of a line, or that on the way from the value before to the value after it.
fn between(values: &Float64Array, at: &TimestampMillisecondArray, line: &Line) -> Option<f64> {
    let before = before(values, at, line)?;
    let (from, low) = (at.value(before), values.value(before));
    if from == line.at {
        return Some(low);
    }
    let after = (before + 1..line.group.end).find(|&index| values.is_valid(index))?;
    let (to, high) = (at.value(after), values.value(after));
    Some(low + (high - low) * (line.at - from) as f64 / (to - from) as f64)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::StringArray;
    use datafusion::arrow::datatypes::{Field, Schema};

    use super::*;
    use crate::time::{HOUR, Zone};

    fn lines() -> RecordBatch {
        let at: ArrayRef = Arc::new(
            TimestampMillisecondArray::from(vec![4 * HOUR, HOUR, 2 * HOUR, 5 * HOUR]).with_timezone("+00:00"),
        );
        let place: ArrayRef = Arc::new(StringArray::from(vec!["a", "a", "b", "a"]));
        let value: ArrayRef = Arc::new(Float64Array::from(vec![Some(7.0), Some(1.0), Some(5.0), None]));
        RecordBatch::try_from_iter_with_nullable([
            ("at", at, false),
            ("place", place, false),
            ("value", value, true),
        ])
        .unwrap()
    }

    /// Hour, place, value, and what it is filled with.
    type Filled = (i64, String, Option<f64>, Option<f64>, Option<f64>);

    fn filled(range: TimeRange) -> Vec<Filled> {
        let periods = Periods::Hours(Zone::Utc);
        let fills = vec![(Fill::Last, 2), (Fill::Between, 2)];
        let shape = Shape { time: 0, periods, keys: vec![1], columns: 3, fills };
        let number = |name: &str| Field::new(name, DataType::Float64, true);
        let schema = Arc::new(Schema::new(vec![
            Field::new("at", moment(), false),
            Field::new("place", DataType::Utf8, false),
            number("value"),
            number("last"),
            number("between"),
        ]));
        let lines = in_order(&lines(), &shape).unwrap().unwrap();
        let plan = Gapless::of(&lines, &shape, range).unwrap();
        let batch = batch(&lines, &shape, &plan.lines, &schema).unwrap();
        let numbers = |column: usize| batch.column(column).as_primitive::<Float64Type>().clone();
        let at = batch.column(0).as_primitive::<TimestampMillisecondType>();
        let (value, last, between) = (numbers(2), numbers(3), numbers(4));
        let of = |array: &Float64Array, row: usize| array.is_valid(row).then(|| array.value(row));
        (0..batch.num_rows())
            .map(|row| {
                let place = batch.column(1).as_string::<i32>().value(row).to_owned();
                (at.value(row) / HOUR, place, of(&value, row), of(&last, row), of(&between, row))
            })
            .collect()
    }

    #[test]
    fn each_group_has_each_bucket_of_the_range() {
        let found = filled(TimeRange { from: HOUR / 2, to: 6 * HOUR });
        let a = |at, value, last, between| (at, "a".to_owned(), value, last, between);
        assert_eq!(
            found[..6],
            [
                a(0, None, None, None),
                a(1, Some(1.0), Some(1.0), Some(1.0)),
                a(2, None, Some(1.0), Some(3.0)),
                a(3, None, Some(1.0), Some(5.0)),
                a(4, Some(7.0), Some(7.0), Some(7.0)),
                a(5, None, Some(7.0), None),
            ]
        );
        assert_eq!(found.len(), 12);
        assert_eq!(found[8], (2, "b".to_owned(), Some(5.0), Some(5.0), Some(5.0)));
    }

    #[test]
    fn without_a_range_the_buckets_reach_from_the_first_to_the_last_reading() {
        let found = filled(TimeRange::ALL);
        let of_b: Vec<_> = found.iter().filter(|line| line.1 == "b").map(|line| line.0).collect();
        assert_eq!((found.len(), of_b), (10, vec![1, 2, 3, 4, 5]));
    }
}
