//! Functions whose value may be far larger than the statement, such as `repeat('x', 2000000000)`: they are refused before they take
//! memory that no limit counts, and with it the process of all clients.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, FieldRef, Int64Type, IntervalMonthDayNanoType, TimeUnit};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::FunctionRegistry as _;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use datafusion::prelude::SessionContext;

/// What one call may make of one batch of rows, in bytes.
const MOST: u64 = 16 << 20;
/// Each place where a text is found becomes a text of up to so many bytes, however many places there are.
const SHORT: u64 = 64;
/// A number or a time in a list.
const ITEM: u64 = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{name} would make more than {} MiB of one batch of rows (make its values shorter)", MOST >> 20)]
pub(in super::super) struct TooLarge {
    name: &'static str,
}

/// How large the value of a function is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Growth {
    /// The first argument, as often as the second one says.
    Times,
    /// As many letters or items as the second argument says.
    Length,
    /// The argument with this number stands at each place of the first one.
    Between(usize),
    /// Numbers or times from the first argument to the second one, by steps of the third.
    Steps,
}

/// All that can grow so, by the names that they are registered by.
const GROWING: [(&str, Growth); 10] = [
    ("repeat", Growth::Times),
    ("array_repeat", Growth::Times),
    ("lpad", Growth::Length),
    ("rpad", Growth::Length),
    ("array_resize", Growth::Length),
    ("replace", Growth::Between(2)),
    ("regexp_replace", Growth::Between(2)),
    ("array_to_string", Growth::Between(1)),
    ("range", Growth::Steps),
    ("generate_series", Growth::Steps),
];

/// Puts a limit on those functions of a session.
pub(super) fn register(context: &SessionContext) {
    for (name, growth) in GROWING {
        if let Ok(function) = context.state().udf(name) {
            context.register_udf(ScalarUDF::new_from_impl(Limited { name, growth, function }));
        }
    }
}

/// A function with a limit.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Limited {
    name: &'static str,
    growth: Growth,
    function: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for Limited {
    fn name(&self) -> &str {
        self.function.name()
    }

    /// The same: a session that is built again from its functions registers each by all of its names.
    fn aliases(&self) -> &[String] {
        self.function.aliases()
    }

    fn signature(&self) -> &Signature {
        self.function.signature()
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        self.function.inner().coerce_types(given)
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        self.function.inner().return_type(given)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.function.return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_one = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if is_one { 1 } else { args.number_rows };
        let values = args.args.iter().map(|value| value.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let total = (0..rows).fold(0_u64, |sum, row| sum.saturating_add(self.growth.of(&values, row)));
        if total > MOST {
            return Err(DataFusionError::External(Box::new(TooLarge { name: self.name })));
        }
        self.function.invoke_with_args(args)
    }
}

impl Growth {
    /// About how many bytes the value of a row has; 0 where that is not known, such as for NULL.
    fn of(self, values: &[ArrayRef], row: usize) -> u64 {
        let size = match self {
            Self::Times => of_two(values, 0, 1, row)
                .map(|(value, times)| size(value, row).saturating_mul(whole(times, row))),
            Self::Length => of_two(values, 0, 1, row).map(|(_, length)| {
                let filler = values.get(2).map_or(1, |filler| size(filler, row).clamp(1, ITEM));
                whole(length, row).saturating_mul(filler)
            }),
            Self::Between(place) => of_two(values, 0, place, row).map(|(value, between)| {
                let between = size(between, row);
                let places = size(value, row).saturating_add(1);
                if between > SHORT { places.saturating_mul(between) } else { 0 }
            }),
            Self::Steps => steps(values, row).map(|steps| steps.saturating_mul(ITEM)),
        };
        size.unwrap_or(0)
    }
}

/// Two arguments that have values in a row.
fn of_two(values: &[ArrayRef], first: usize, second: usize, row: usize) -> Option<(&ArrayRef, &ArrayRef)> {
    let pair = (values.get(first)?, values.get(second)?);
    (pair.0.is_valid(row) && pair.1.is_valid(row)).then_some(pair)
}

/// The bytes of a value.
fn size(values: &ArrayRef, row: usize) -> u64 {
    let bytes = match values.data_type() {
        DataType::Utf8 => values.as_string::<i32>().value(row).len(),
        DataType::LargeUtf8 => values.as_string::<i64>().value(row).len(),
        DataType::Utf8View => values.as_string_view().value(row).len(),
        DataType::List(_) => values.as_list::<i32>().value(row).get_array_memory_size(),
        DataType::LargeList(_) => values.as_list::<i64>().value(row).get_array_memory_size(),
        _ => 8,
    };
    bytes as u64
}

/// A whole number; 0 below it and where it is not one.
fn whole(values: &ArrayRef, row: usize) -> u64 {
    number(&values.slice(row, 1), &DataType::Int64).map_or(0, |number| u64::try_from(number).unwrap_or(0))
}

fn number(value: &ArrayRef, through: &DataType) -> Option<i64> {
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let value = cast_with_options(value, through, &options).ok()?;
    let value = cast_with_options(&value, &DataType::Int64, &options).ok()?;
    value.is_valid(0).then(|| value.as_primitive::<Int64Type>().value(0))
}

/// How many steps it is from the first argument to the second one.
fn steps(values: &[ArrayRef], row: usize) -> Option<u64> {
    const DAY: i128 = 86_400_000_000;
    let at = |place: usize| values.get(place).map(|values| values.slice(row, 1));
    let is_time = values.first()?.data_type().is_temporal();
    let through = match is_time {
        true => DataType::Timestamp(TimeUnit::Microsecond, None),
        false => DataType::Int64,
    };
    let whole = |place: usize| number(&at(place)?, &through).map(i128::from);
    // With one argument, numbers from 0.
    let (from, to) = match values.len() {
        1 => (0, whole(0)?),
        _ => (whole(0)?, whole(1)?),
    };
    let step = match at(2) {
        None => 1,
        Some(step) if is_time => {
            if step.data_type()
                != &DataType::Interval(datafusion::arrow::datatypes::IntervalUnit::MonthDayNano)
            {
                return None;
            }
            let step = step.as_primitive::<IntervalMonthDayNanoType>().value(0);
            let days = i128::from(step.months) * 28 + i128::from(step.days);
            days * DAY + i128::from(step.nanoseconds) / 1_000
        }
        Some(step) => i128::from(number(&step, &DataType::Int64)?),
    };
    let steps = (to - from).unsigned_abs() / step.unsigned_abs().max(1);
    Some(u64::try_from(steps).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> SessionContext {
        let context = SessionContext::new();
        register(&context);
        context
    }

    #[tokio::test]
    async fn what_would_fill_the_memory_is_refused() {
        let context = context();
        for call in [
            "repeat('x', 2000000000)",
            "repeat('xy', n * 10000000)",
            "lpad('x', 2000000000)",
            "rpad('x', 2000000000, 'abc')",
            "replace(repeat('a', 1000000), 'a', repeat('b', 1000000))",
            "regexp_replace(repeat('a', 1000000), 'a', repeat('b', 1000000), 'g')",
            "array_to_string(array_repeat('a', 100000), repeat('b', 1000000))",
            "array_repeat('x', 1000000000)",
            "list_repeat(array_repeat(1, 1000000), 1000000)",
            "array_resize([1], 1000000000, 0)",
            "range(1000000000)",
            "range(0, 1000000000000, 3)",
            "generate_series(n, 1000000000)",
            "generate_series(timestamp '2000-01-01', timestamp '2026-01-01', interval '1 millisecond')",
        ] {
            let sql = format!("SELECT {call} FROM (VALUES (1), (2)) AS t (n)");
            let failure = match context.sql(&sql).await {
                Ok(frame) => frame.collect().await.unwrap_err().to_string(),
                Err(error) => error.to_string(),
            };
            assert!(failure.contains("would make more than 16 MiB"), "{call}: {failure}");
        }
    }

    #[tokio::test]
    async fn what_people_ask_for_is_answered() {
        let context = context();
        for (call, expected) in [
            ("repeat('ab', n)", "ab"),
            ("lpad('7', 3, '0')", "007"),
            ("rpad('ab', 1)", "a"),
            ("replace('a-b', '-', '_')", "a_b"),
            ("regexp_replace('abc', 'b.*', '')", "a"),
            ("array_to_string(list_repeat('a', 2), ', ')", "a, a"),
            ("array_to_string(range(3), ' ')", "0 1 2"),
            ("array_to_string(generate_series(3, 1, -1), ' ')", "3 2 1"),
            ("array_length(generate_series(date '2026-01-01', date '2026-01-31', interval '1 day'))", "31"),
            ("repeat('x', -5)", ""),
            ("coalesce(repeat(NULL, 2000000000), lpad('x', NULL), 'none')", "none"),
            ("length(repeat('x', 1000000))", "1000000"),
        ] {
            let sql = format!("SELECT CAST({call} AS text) FROM (VALUES (1)) AS t (n)");
            let batches = context.sql(&sql).await.unwrap().collect().await.unwrap();
            let found = datafusion::arrow::compute::cast(batches[0].column(0), &DataType::Utf8).unwrap();
            assert_eq!(found.as_string::<i32>().value(0), expected, "{call}");
        }
    }
}
