//! `3 * interval '1 hour'` and `interval '1 day' / 2`, which DataFusion does not calculate.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, IntervalMonthDayNanoArray};
use datafusion::arrow::datatypes::{
    DataType, Float64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
};
use datafusion::arrow::error::ArrowError;
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::FunctionRegistry as _;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable as _, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::prelude::{SessionContext, cast, lit};
use datafusion::sql::sqlparser::ast::BinaryOperator;

const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);
/// As PostgreSQL counts what is not a whole month or day.
const DAYS_OF_MONTH: f64 = 30.0;
const NANOS_OF_DAY: f64 = 86_400e9;

/// Makes the calculation known to a session.
pub(super) fn register(context: &SessionContext) {
    let planner: Arc<dyn ExprPlanner> = Arc::new(Times);
    // It fails for registries without planners, which a session is not.
    let _ = context.state_ref().write().register_expr_planner(planner);
}

#[derive(Debug)]
struct Times;

impl ExprPlanner for Times {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let is = |side: &Expr, wanted: fn(&DataType) -> bool| {
            side.get_type(schema).is_ok_and(|data_type| wanted(&data_type))
        };
        let is_interval = |side: &Expr| is(side, |data_type| matches!(data_type, DataType::Interval(_)));
        // A parameter has no type yet.
        let is_number = |side: &Expr| matches!(side, Expr::Placeholder(_)) || is(side, DataType::is_numeric);
        let RawBinaryExpr { op, left, right } = expr;
        let (interval, factor) = match op {
            BinaryOperator::Multiply if is_interval(&left) && is_number(&right) => (left, right),
            BinaryOperator::Multiply if is_number(&left) && is_interval(&right) => (right, left),
            BinaryOperator::Divide if is_interval(&left) && is_number(&right) => {
                (left, lit(1.0) / cast(right, DataType::Float64))
            }
            op => return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right })),
        };
        let times = ScalarUDF::new_from_impl(TimesFunction {
            signature: Signature::exact(vec![INTERVAL, DataType::Float64], Volatility::Immutable),
        });
        Ok(PlannerResult::Planned(
            times.call(vec![cast(interval, INTERVAL), cast(factor, DataType::Float64)]),
        ))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct TimesFunction {
    signature: Signature,
}

impl ScalarUDFImpl for TimesFunction {
    fn name(&self) -> &'static str {
        "interval_times"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(INTERVAL)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let values = ColumnarValue::values_to_arrays(&args.args)?;
        let (intervals, factors) =
            (values[0].as_primitive::<IntervalMonthDayNanoType>(), values[1].as_primitive::<Float64Type>());
        let product = (0..intervals.len()).map(|row| {
            let are_there = intervals.is_valid(row) && factors.is_valid(row);
            are_there.then(|| times(intervals.value(row), factors.value(row))).transpose()
        });
        let product = Arc::new(product.collect::<Result<IntervalMonthDayNanoArray>>()?);
        ColumnarValue::Array(product).cast_to(&INTERVAL, None)
    }
}

/// What is left of a month becomes days, and what is left of a day becomes time.
fn times(interval: IntervalMonthDayNano, factor: f64) -> Result<IntervalMonthDayNano> {
    let months = f64::from(interval.months) * factor;
    let days = f64::from(interval.days) * factor + months.fract() * DAYS_OF_MONTH;
    // To microseconds, as PostgreSQL keeps them.
    #[expect(
        clippy::cast_precision_loss,
        reason = "beyond 104 days of nanoseconds, microseconds are still exact"
    )]
    let nanos = ((interval.nanoseconds as f64 * factor + days.fract() * NANOS_OF_DAY) / 1e3).round() * 1e3;
    let (months, days) = (months.trunc(), days.trunc());
    let fits = |value: f64, most: f64| value.abs() <= most;
    let most_days = f64::from(i32::MAX);
    if !fits(months, most_days) || !fits(days, most_days) || !fits(nanos, 9.2e18) {
        let reason = "the interval is too large".to_owned();
        return Err(DataFusionError::from(ArrowError::ArithmeticOverflow(reason)));
    }
    #[expect(clippy::cast_possible_truncation, reason = "they have been compared with what fits")]
    Ok(IntervalMonthDayNano::new(months as i32, days as i32, nanos as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn intervals_are_multiplied_and_divided_as_by_postgresql() {
        let context = SessionContext::new();
        context.sql("SET datafusion.sql_parser.dialect = 'postgresql'").await.unwrap();
        register(&context);
        for (question, expected) in [
            ("3 * interval '1 hour'", "interval '3 hours'"),
            ("interval '1 day' * 2", "interval '2 days'"),
            ("interval '1 day' / 2", "interval '12 hours'"),
            ("0.5 * interval '1 month'", "interval '15 days'"),
            ("interval '1 month 1 day' * 1.5", "interval '1 month 16 days 12 hours'"),
            ("-2 * interval '90 minutes'", "interval '-3 hours'"),
            ("n * interval '1 second'", "interval '4 seconds'"),
            ("interval '1 second' * 0.001", "interval '1 millisecond'"),
        ] {
            let sql = format!(
                "SELECT {question} = {expected} AS same, {question} AS found FROM (VALUES (4)) AS t (n)"
            );
            let batches = context.sql(&sql).await.unwrap().collect().await.unwrap();
            assert!(batches[0].column(0).as_boolean().value(0), "{question}: {:?}", batches[0].column(1));
        }
        for nothing in ["NULL::int * interval '1 day'", "2 * NULL::interval"] {
            let batches =
                context.sql(&format!("SELECT {nothing} AS x")).await.unwrap().collect().await.unwrap();
            assert_eq!(batches[0].column(0).null_count(), 1, "{nothing}");
        }
        for refused in ["interval '1 day' * 1e300", "interval '1 day' / 0"] {
            let frame = context.sql(&format!("SELECT {refused}")).await;
            let is_refused = match frame {
                Ok(frame) => frame.collect().await.is_err(),
                Err(_) => true,
            };
            assert!(is_refused, "{refused}");
        }
    }
}
