//! What of an aggregate can be answered from rollups.

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::datasource::source_as_provider;
use datafusion::error::Result;
use datafusion::logical_expr::logical_plan::{Aggregate, TableScan};
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::calls::{self, Call, Function};
use super::keys;
use crate::analytics::stats::{By, Dimension};
use crate::reading::Metric;
use crate::sql::selection::Selection;
use crate::sql::tables::{Kind, READING_KEYS, Sources, Table};

/// An aggregate as a question about summaries.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) selection: Selection,
    /// Conditions on locations and device types that the selection does not hold.
    pub(super) of_groups: Vec<Expr>,
    /// What it is grouped by, each once. With the sensor at the end where only the sensors' own rollups serve.
    pub(super) by: By,
    /// How many of the dimensions are asked for.
    pub(super) asked: usize,
    /// For each column of the groups, which of the dimensions it is.
    pub(super) keys: Vec<usize>,
    pub(super) metrics: Vec<Metric>,
    /// For each aggregate, which of the metrics it is of.
    pub(super) calls: Vec<(Function, usize)>,
    /// Whether there is a line only where one of the metrics has a value.
    pub(super) only_measured: bool,
}

impl Question {
    /// `None` where only the raw rows have the answer.
    pub(super) fn of(aggregate: &Aggregate) -> Option<(Self, Arc<Sources>)> {
        let groups = inlined(&aggregate.group_expr, &aggregate.input)?;
        let calls = inlined(&aggregate.aggr_expr, &aggregate.input)?;
        let (scan, sources) = Self::table(&aggregate.input)?;
        if scan.fetch.is_some() || calls.is_empty() {
            return None;
        }
        let calls = calls.iter().map(calls::call).collect::<Option<Vec<_>>>()?;
        let (selection, rest) = Selection::of(&scan.filters, Kind::Readings.time_column());
        let (measured, of_groups) = conditions(rest)?;
        Some((Self::new(selection, of_groups, &groups, &calls, &measured)?, sources))
    }

    /// The scan of `readings` below projections and names of subqueries.
    pub(super) fn table(plan: &LogicalPlan) -> Option<(&TableScan, Arc<Sources>)> {
        let LogicalPlan::TableScan(scan) = bottom(plan) else { return None };
        let provider = source_as_provider(&scan.source).ok()?;
        let table = (&*provider as &dyn std::any::Any).downcast_ref::<Table>()?;
        (table.kind() == Kind::Readings).then(|| (scan, table.sources().clone()))
    }

    fn new(
        selection: Selection,
        of_groups: Vec<Expr>,
        groups: &[Expr],
        calls: &[Call],
        measured: &[Metric],
    ) -> Option<Self> {
        let mut metrics: Vec<Metric> = measured.to_vec();
        let mut found = Vec::new();
        for call in calls {
            let metric = match &call.metric {
                Some(metric) => metric.clone(),
                // Rows are counted where each of them has a value of the one metric.
                None => measured.first()?.clone(),
            };
            let index = metrics.iter().position(|known| *known == metric).unwrap_or_else(|| {
                metrics.push(metric);
                metrics.len() - 1
            });
            found.push((call.function, index));
        }
        // Rows without the one say nothing about the values of another.
        if !measured.is_empty() && metrics.len() > 1 {
            return None;
        }
        let mut dimensions: Vec<Dimension> = Vec::new();
        let mut keys = Vec::new();
        for expression in groups {
            let dimension = dimension(expression)?;
            let index = dimensions.iter().position(|known| *known == dimension);
            keys.push(index.unwrap_or_else(|| {
                dimensions.push(dimension);
                dimensions.len() - 1
            }));
        }
        let asked = dimensions.len();
        if calls.iter().any(|call| call.function.needs_sensors()) && !dimensions.contains(&Dimension::Sensor)
        {
            dimensions.push(Dimension::Sensor);
        }
        let by = By::of(&dimensions)?;
        let only_measured = !measured.is_empty();
        Some(Self { selection, of_groups, by, asked, keys, metrics, calls: found, only_measured })
    }
}

/// What one expression groups by.
fn dimension(expression: &Expr) -> Option<Dimension> {
    match expression {
        Expr::Column(column) => match READING_KEYS.iter().position(|name| *name == column.name)? {
            0 => Some(Dimension::Location),
            1 => Some(Dimension::DeviceType),
            2 => Some(Dimension::Sensor),
            // Each moment is a group of its own.
            _ => None,
        },
        Expr::Alias(alias) => dimension(&alias.expr),
        other => keys::periods(other).map(Dimension::Time),
    }
}

/// Conditions beside the selection: metrics that must have a value, and conditions on groups. `None` if there are others.
fn conditions(rest: Vec<Expr>) -> Option<(Vec<Metric>, Vec<Expr>)> {
    let (mut measured, mut of_groups) = (Vec::new(), Vec::new());
    for condition in rest {
        let columns = condition.column_refs();
        if let Expr::IsNotNull(inner) = &condition
            && let Some(metric) = calls::metric(inner)
        {
            if !measured.contains(&metric) {
                measured.push(metric);
            }
            continue;
        }
        if condition.is_volatile() || columns.iter().any(|column| !READING_KEYS[..2].contains(&&*column.name))
        {
            return None;
        }
        of_groups.push(condition);
    }
    Some((measured, of_groups))
}

/// What is below projections and names of subqueries.
pub(super) fn bottom(plan: &LogicalPlan) -> &LogicalPlan {
    match plan {
        LogicalPlan::Projection(projection) => bottom(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => bottom(&alias.input),
        other => other,
    }
}

/// Expressions over the output of a plan as those over what is below its projections and names.
pub(super) fn inlined(expressions: &[Expr], plan: &LogicalPlan) -> Option<Vec<Expr>> {
    let mut expressions = expressions.to_vec();
    let mut plan = plan;
    loop {
        let input = match plan {
            LogicalPlan::Projection(projection) => &projection.input,
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            _ => return Some(expressions),
        };
        let below = |column: &Column| -> Option<Expr> {
            let index = plan.schema().index_of_column(column).ok()?;
            Some(match plan {
                LogicalPlan::Projection(projection) => {
                    projection.expr.get(index)?.clone().unalias_nested().data
                }
                _ => Expr::Column(input.schema().columns().get(index)?.clone()),
            })
        };
        expressions =
            expressions.into_iter().map(|expression| replaced(expression, &below)).collect::<Option<_>>()?;
        plan = input;
    }
}

fn replaced(expression: Expr, below: &impl Fn(&Column) -> Option<Expr>) -> Option<Expr> {
    let mut is_known = true;
    let replaced: Result<Expr> = expression
        .transform_up(|part| match &part {
            Expr::Column(column) => match below(column) {
                Some(found) => Ok(Transformed::yes(found)),
                None => {
                    is_known = false;
                    Ok(Transformed::no(part))
                }
            },
            _ => Ok(Transformed::no(part)),
        })
        .data();
    replaced.ok().filter(|_| is_known)
}
