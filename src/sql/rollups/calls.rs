//! Aggregate functions that can be answered from summaries.

use datafusion::arrow::datatypes::DataType;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams};
use datafusion::scalar::ScalarValue;

use crate::reading::Metric;
use crate::series::Summary;
use crate::sql::tables::READING_KEYS;

/// What is computed of a metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Function {
    Count,
    Sum,
    Average,
    Lowest,
    Highest,
    /// Of a sample, divided by the number of values less one; or of the population.
    Deviation(Of),
    Variance(Of),
    First,
    Last,
    Delta,
    Percentile(f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Sample,
    Population,
}

/// A call in a statement.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) function: Function,
    /// `None` counts rows.
    pub(super) metric: Option<Metric>,
}

impl Function {
    /// Whether the sensors' own rollups are needed: in those of a group, the first of the values of several sensors with
    /// one moment may be any of them.
    pub(super) fn needs_sensors(self) -> bool {
        matches!(self, Self::First | Self::Last | Self::Delta)
    }

    pub(super) fn needs_sketch(self) -> bool {
        matches!(self, Self::Percentile(_))
    }

    /// `None` is NULL.
    pub(super) fn of(self, summary: Option<&Summary>) -> ScalarValue {
        if self == Self::Count {
            let count = summary.map_or(0, |summary| i64::try_from(summary.count).unwrap_or(i64::MAX));
            return ScalarValue::Int64(Some(count));
        }
        ScalarValue::Float64(summary.and_then(|summary| self.number(summary)))
    }

    fn number(self, summary: &Summary) -> Option<f64> {
        let variance = |of: Of| {
            let divisor = match of {
                Of::Sample => summary.count.checked_sub(1).filter(|left| *left > 0)?,
                Of::Population => summary.count,
            };
            Some(summary.squares.max(0.0) / divisor as f64)
        };
        match self {
            Self::Count => Some(summary.count as f64),
            Self::Sum => Some(summary.sum),
            Self::Average => Some(summary.mean()),
            Self::Lowest => Some(summary.lowest.value),
            Self::Highest => Some(summary.highest.value),
            Self::Deviation(of) => variance(of).map(f64::sqrt),
            Self::Variance(of) => variance(of),
            Self::First => Some(summary.first.value),
            Self::Last => Some(summary.last.value),
            Self::Delta => {
                (summary.first.at < summary.last.at).then_some(summary.last.value - summary.first.value)
            }
            Self::Percentile(share) => Some(summary.quantile(share)),
        }
    }
}

/// The call that an expression is. Its arguments are columns of `readings`.
pub(super) fn call(expression: &Expr) -> Option<Call> {
    let Expr::AggregateFunction(AggregateFunction { func, params }) =
        expression.clone().unalias_nested().data
    else {
        return None;
    };
    let AggregateFunctionParams { args, distinct, filter, order_by, null_treatment } = params;
    if distinct || filter.is_some() || !order_by.is_empty() || null_treatment.is_some() {
        return None;
    }
    let name = func.name();
    let function = match (name, args.as_slice()) {
        ("count", [Expr::Literal(value, _)]) if !value.is_null() => {
            return Some(Call { function: Function::Count, metric: None });
        }
        ("count", [_]) => Function::Count,
        ("sum", [_]) => Function::Sum,
        ("avg", [_]) => Function::Average,
        ("min", [_]) => Function::Lowest,
        ("max", [_]) => Function::Highest,
        ("stddev", [_]) => Function::Deviation(Of::Sample),
        ("stddev_pop", [_]) => Function::Deviation(Of::Population),
        ("var", [_]) => Function::Variance(Of::Sample),
        ("var_pop", [_]) => Function::Variance(Of::Population),
        ("first" | "last" | "delta", [_, Expr::Column(at)]) if at.name == READING_KEYS[3] => match name {
            "first" => Function::First,
            "last" => Function::Last,
            _ => Function::Delta,
        },
        ("approx_percentile", [_, Expr::Literal(ScalarValue::Float64(Some(share)), _)])
            if (0.0..=1.0).contains(share) =>
        {
            Function::Percentile(*share)
        }
        _ => return None,
    };
    Some(Call { function, metric: Some(metric(args.first()?)?) })
}

/// The metric that an expression is: its column, or `metric(other_metrics, 'name')`.
pub(super) fn metric(expression: &Expr) -> Option<Metric> {
    match expression {
        Expr::Column(column) => {
            let others = ["motion_detected", "other_metrics", "states"];
            let is_metric = !READING_KEYS.contains(&&*column.name) && !others.contains(&&*column.name);
            is_metric.then(|| Metric::named(&column.name))
        }
        Expr::Cast(cast) if *cast.field.data_type() == DataType::Float64 => metric(&cast.expr),
        Expr::ScalarFunction(function) if function.func.name() == "metric" => {
            match function.args.as_slice() {
                [Expr::Column(column), Expr::Literal(name, _)] if column.name == "other_metrics" => {
                    let metric = Metric::named(name.try_as_str().flatten()?);
                    matches!(metric, Metric::Other(_)).then_some(metric)
                }
                _ => None,
            }
        }
        _ => None,
    }
}
