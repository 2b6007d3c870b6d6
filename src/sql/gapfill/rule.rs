//! Replaces aggregates by `time_bucket_gapfill`, and the fillings above them.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, plan_err};
use datafusion::config::ConfigOptions;
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::logical_plan::{Aggregate, Filter, Projection};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, ScalarUDF};
use datafusion::optimizer::AnalyzerRule;

use super::functions::{GAPFILL, fill};
use super::provider::Filled;
use crate::sql::functions::time_bucket::{TimeBucket, periods};

#[derive(Debug, Default)]
pub(in crate::sql) struct Gaps;

/// The name of the scan; plans with equal names would count as the same.
const NAME: &str = "gapfill";

impl AnalyzerRule for Gaps {
    fn name(&self) -> &'static str {
        "iotctl_gapfill"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let mut count = 0;
        plan.transform_up_with_subqueries(|node| {
            if let LogicalPlan::Aggregate(aggregate) = &node
                && aggregate.group_expr.iter().any(is_gapfill)
            {
                count += 1;
                return Ok(Transformed::yes(replaced(aggregate, count)?));
            }
            if let LogicalPlan::Projection(projection) = &node
                && projection.expr.iter().any(has_filling)
            {
                return Ok(Transformed::yes(filled(projection)?));
            }
            Ok(Transformed::no(node))
        })
        .data()
    }
}

fn is_gapfill(expression: &Expr) -> bool {
    matches!(expression, Expr::ScalarFunction(function) if function.func.name() == GAPFILL)
}

fn filling(expression: &Expr) -> Option<&ScalarFunction> {
    match expression {
        Expr::ScalarFunction(function) if fill(function.func.name()).is_some() => Some(function),
        _ => None,
    }
}

fn has_filling(expression: &Expr) -> bool {
    expression.exists(|part| Ok(filling(part).is_some())).unwrap_or(false)
}

/// The aggregate by `time_bucket` below a scan that adds the lines.
fn replaced(aggregate: &Aggregate, number: usize) -> Result<LogicalPlan> {
    let mut groups = aggregate.group_expr.clone();
    let mut time = None;
    for (index, expression) in groups.iter_mut().enumerate() {
        if let Expr::ScalarFunction(function) = expression
            && function.func.name() == GAPFILL
        {
            let periods = match function.args.as_slice() {
                [Expr::Literal(width, _), _] => periods(width, None)?,
                [Expr::Literal(width, _), _, Expr::Literal(zone, _)] => periods(width, Some(zone))?,
                _ => return plan_err!("the width and the time zone of {GAPFILL} are texts"),
            };
            if time.replace((index, periods)).is_some() {
                return plan_err!("{GAPFILL} may stand once in a statement");
            }
            function.func = Arc::new(ScalarUDF::new_from_impl(TimeBucket::new()));
        }
    }
    let Some((time, periods)) = time else { return plan_err!("{GAPFILL} is something to group by") };
    let inner = Aggregate::try_new(aggregate.input.clone(), groups, aggregate.aggr_expr.clone())?;
    let names =
        aggregate.schema.iter().map(|(qualifier, field)| Column::new(qualifier.cloned(), field.name()));
    let provider = Filled::new(inner, (time, periods), names.collect());
    shown(provider, &format!("{NAME}_{number}"))
}

/// A scan whose columns have the names of what they stand for.
fn shown(provider: Filled, name: &str) -> Result<LogicalPlan> {
    let names = provider.names().to_vec();
    let scan = LogicalPlanBuilder::scan(name, provider_as_source(Arc::new(provider)), None)?.build()?;
    let columns = scan.schema().columns().into_iter().zip(names);
    let shown = columns.map(|(column, name)| Expr::Column(column).alias_qualified(name.relation, name.name));
    Ok(LogicalPlan::Projection(Projection::try_new(shown.collect(), Arc::new(scan))?))
}

/// A projection with `locf` and `interpolate`: their values become columns of the scan.
fn filled(projection: &Projection) -> Result<LogicalPlan> {
    let (mut provider, name, conditions) = below(&projection.input)?;
    let mut expressions = Vec::with_capacity(projection.expr.len());
    for expression in &projection.expr {
        // The column keeps its name.
        let (qualifier, name) = expression.qualified_name();
        let replaced = expression
            .clone()
            .transform_up(|part| {
                let Some(function) = filling(&part) else { return Ok(Transformed::no(part)) };
                let of = match function.args.as_slice() {
                    [Expr::Column(column)] => Some(column),
                    [Expr::Cast(cast)] => match &*cast.expr {
                        Expr::Column(column) => Some(column),
                        _ => None,
                    },
                    _ => None,
                };
                let how = fill(function.func.name());
                match (of, how) {
                    (Some(column), Some(how)) => {
                        Ok(Transformed::yes(Expr::Column(provider.fill(how, column)?)))
                    }
                    _ => plan_err!(
                        "{} takes an aggregate itself, such as {0}(avg(temperature))",
                        function.func.name()
                    ),
                }
            })
            .data()?;
        expressions.push(match (&replaced, qualifier) {
            (Expr::Alias(_), _) => replaced,
            (Expr::Column(column), _) if column.name == name => replaced,
            (_, qualifier) => replaced.alias_qualified(qualifier, name),
        });
    }
    let mut plan = shown(provider, &name)?;
    for condition in conditions.into_iter().rev() {
        plan = LogicalPlan::Filter(Filter::try_new(condition, Arc::new(plan))?);
    }
    Ok(LogicalPlan::Projection(Projection::try_new(expressions, Arc::new(plan))?))
}

/// The scan below conditions (of HAVING), its name, and these.
fn below(plan: &LogicalPlan) -> Result<(Filled, String, Vec<Expr>)> {
    let mut conditions = Vec::new();
    let mut plan = plan;
    loop {
        match plan {
            LogicalPlan::Filter(filter) => {
                conditions.push(filter.predicate.clone());
                plan = &filter.input;
            }
            LogicalPlan::Projection(projection) => {
                if let LogicalPlan::TableScan(scan) = &*projection.input
                    && let Ok(provider) = source_as_provider(&scan.source)
                    && let Some(filled) = (&*provider as &dyn std::any::Any).downcast_ref::<Filled>()
                {
                    return Ok((filled.clone(), scan.table_name.table().to_owned(), conditions));
                }
                break;
            }
            _ => break,
        }
    }
    plan_err!("locf and interpolate take aggregates of a statement that is grouped by {GAPFILL}")
}
