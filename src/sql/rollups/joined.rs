//! Aggregates over a join of `readings` with a table about sensors, such as conditions on tags: the readings are summed up by
//! sensor and group below the join, from rollups, and the sums are added up above it. A join takes or repeats all readings of a sensor
//! in a group alike, so the answer is the same.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::logical_plan::{Aggregate, Join, JoinType, Projection};
use datafusion::logical_expr::{AggregateUDF, Expr, LogicalPlan, binary_expr, cast, when};
use datafusion::logical_expr::{Operator, lit};
use datafusion::optimizer::OptimizerConfig;

use super::calls::{self, Function};
use super::keys;
use super::question::{Question, bottom, inlined};
use super::rule::replacement;
use crate::sql::tables::READING_KEYS;

/// `None` where the readings have to be joined one by one.
pub(super) fn rewritten(aggregate: &Aggregate, config: &dyn OptimizerConfig) -> Option<Result<LogicalPlan>> {
    let LogicalPlan::Join(join) = bottom(&aggregate.input) else { return None };
    let groups = inlined(&aggregate.group_expr, &aggregate.input)?;
    let calls = inlined(&aggregate.aggr_expr, &aggregate.input)?;
    let is_left = match (is_of_readings(&join.left), is_of_readings(&join.right), join.join_type) {
        (true, false, JoinType::Inner | JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti) => true,
        (false, true, JoinType::Inner | JoinType::Right | JoinType::RightSemi | JoinType::RightAnti) => false,
        _ => return None,
    };
    let readings = if is_left { &join.left } else { &join.right };
    let ours = readings.schema();
    let mut by: Vec<Expr> = Vec::new();
    let mut outer_groups = Vec::new();
    for group in &groups {
        let is_time = is_of(group, ours)
            && inlined(std::slice::from_ref(group), readings)?.first().and_then(keys::periods).is_some();
        if !is_time {
            keys_of(group, ours, readings, &mut by)?;
            outer_groups.push(group.clone());
            continue;
        }
        if !by.contains(group) {
            by.push(group.clone());
        }
        outer_groups.push(Expr::Column(Column::new_unqualified(group.schema_name().to_string())));
    }
    for (left, right) in &join.on {
        keys_of(left, ours, readings, &mut by)?;
        keys_of(right, ours, readings, &mut by)?;
    }
    if let Some(filter) = &join.filter {
        keys_of(filter, ours, readings, &mut by)?;
    }
    let mut inner = Vec::new();
    let mut outer = Vec::new();
    for expression in &calls {
        outer.push(Part::of(expression, ours, readings, &mut inner)?);
    }
    let inner = Aggregate::try_new(readings.clone(), by, inner).ok()?;
    let (question, sources) = Question::of(&inner)?;
    let name = config.alias_generator().next("summaries");
    Some(replacement(&name, question, sources, &inner).and_then(|summed| {
        let (left, right) = match is_left {
            true => (Arc::new(summed), join.right.clone()),
            false => (join.left.clone(), Arc::new(summed)),
        };
        above(aggregate, join, (left, right), outer_groups, &outer)
    }))
}

/// An aggregate above the join, of parts that were aggregated below it.
enum Part {
    /// The number of values.
    Count(Column),
    /// By the function itself.
    Same(Arc<AggregateUDF>, Column),
    Average {
        sum: Column,
        count: Column,
    },
}

impl Part {
    fn of(expression: &Expr, ours: &DFSchema, readings: &LogicalPlan, inner: &mut Vec<Expr>) -> Option<Self> {
        let expression = expression.clone().unalias_nested().data;
        let of_table = inlined(std::slice::from_ref(&expression), readings)?;
        if !is_of(&expression, ours) {
            return None;
        }
        let function = calls::call(of_table.first()?)?.function;
        let Expr::AggregateFunction(AggregateFunction { func, params }) = &expression else { return None };
        let mut add = |expression: Expr| {
            let name = Column::new_unqualified(expression.schema_name().to_string());
            if !inner.contains(&expression) {
                inner.push(expression);
            }
            name
        };
        Some(match function {
            Function::Count => Self::Count(add(expression.clone())),
            Function::Sum | Function::Lowest | Function::Highest => {
                Self::Same(func.clone(), add(expression.clone()))
            }
            Function::Average => Self::Average {
                sum: add(call(sum_udaf(), params.args.clone())),
                count: add(call(count_udaf(), params.args.clone())),
            },
            _ => return None,
        })
    }

    fn calls(&self) -> Vec<Expr> {
        let column = |column: &Column| vec![Expr::Column(column.clone())];
        match self {
            Self::Count(count) => vec![call(sum_udaf(), column(count))],
            Self::Same(function, of) => vec![call(function.clone(), column(of))],
            Self::Average { sum, count } => {
                vec![call(sum_udaf(), column(sum)), call(sum_udaf(), column(count))]
            }
        }
    }

    /// The value, of the columns of [`Self::calls`].
    fn value(&self, columns: &mut impl Iterator<Item = Expr>) -> Option<Result<Expr>> {
        let first = columns.next()?;
        Some(match self {
            // Without a value there are none to add up.
            Self::Count(_) => {
                when(first.clone().is_null(), lit(ScalarValue::Int64(Some(0)))).otherwise(first)
            }
            Self::Same(..) => Ok(first),
            Self::Average { .. } => {
                Ok(binary_expr(first, Operator::Divide, cast(columns.next()?, DataType::Float64)))
            }
        })
    }
}

fn call(function: Arc<AggregateUDF>, args: Vec<Expr>) -> Expr {
    Expr::AggregateFunction(AggregateFunction::new_udf(function, args, false, None, Vec::new(), None))
}

fn above(
    aggregate: &Aggregate,
    join: &Join,
    (left, right): (Arc<LogicalPlan>, Arc<LogicalPlan>),
    groups: Vec<Expr>,
    parts: &[Part],
) -> Result<LogicalPlan> {
    let Join { on, filter, join_type, join_constraint, null_equality, null_aware, .. } = join.clone();
    let joined =
        Join::try_new(left, right, on, filter, join_type, join_constraint, null_equality, null_aware)?;
    let mut calls: Vec<Expr> = Vec::new();
    let mut places = Vec::new();
    for call in parts.iter().flat_map(Part::calls) {
        let place = calls.iter().position(|known| *known == call);
        places.push(place.unwrap_or_else(|| {
            calls.push(call);
            calls.len() - 1
        }));
    }
    let count = groups.len();
    let summed = Aggregate::try_new(Arc::new(LogicalPlan::Join(joined)), groups, calls)?;
    let columns: Vec<_> = summed.schema.columns().into_iter().map(Expr::Column).collect();
    let mut of_calls = places.into_iter().map(|place| columns[count + place].clone());
    let mut values = columns[..count].to_vec();
    for part in parts {
        values.extend(part.value(&mut of_calls).transpose()?);
    }
    let shown = values.into_iter().zip(aggregate.schema.iter());
    let shown =
        shown.map(|(value, (qualifier, field))| value.alias_qualified(qualifier.cloned(), field.name()));
    let shown = shown.collect();
    let projection = Projection::try_new_with_schema(
        shown,
        Arc::new(LogicalPlan::Aggregate(summed)),
        aggregate.schema.clone(),
    )?;
    Ok(LogicalPlan::Projection(projection))
}

fn is_of_readings(plan: &LogicalPlan) -> bool {
    Question::table(plan).is_some()
}

/// Whether all columns of an expression are those of a plan.
fn is_of(expression: &Expr, schema: &DFSchema) -> bool {
    expression.column_refs().into_iter().all(|column| schema.has_column(column))
}

/// Adds the columns of the readings in an expression to those that they are grouped by. `None` if they are not those of groups and
/// sensors.
fn keys_of(expression: &Expr, ours: &DFSchema, readings: &LogicalPlan, by: &mut Vec<Expr>) -> Option<()> {
    for column in expression.column_refs().into_iter().filter(|column| ours.has_column(column)) {
        let column = Expr::Column(column.clone());
        let of_table = inlined(std::slice::from_ref(&column), readings)?;
        match of_table.first()? {
            Expr::Column(found) if READING_KEYS[..3].contains(&&*found.name) => {}
            _ => return None,
        }
        if !by.contains(&column) {
            by.push(column);
        }
    }
    (!expression.is_volatile()).then_some(())
}
