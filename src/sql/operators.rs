//! What our operators and rules have in common.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{ExecutionPlan, Partitioning, PlanProperties};

use crate::time::{self, TimeRange};

/// Of an operator that puts out one partition in no order.
pub(super) fn one_partition(schema: SchemaRef, emission: EmissionType) -> PlanProperties {
    let equivalences = EquivalenceProperties::new(schema);
    PlanProperties::new(equivalences, Partitioning::UnknownPartitioning(1), emission, Boundedness::Bounded)
}

/// Changes each part of each expression of a plan, innermost first. What is put out keeps its name.
pub(super) fn each_expression(
    plan: LogicalPlan,
    change: impl Fn(Expr) -> Transformed<Expr>,
) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| {
        let names = NamePreserver::new(&node);
        node.map_expressions(|expression| {
            let name = names.save(&expression);
            let changed = expression.transform_up(|part| Ok(change(part)))?;
            Ok(changed.update_data(|expression| name.restore(expression)))
        })
    })
    .data()
}

/// The ends that a range has, for EXPLAIN.
pub(super) fn write_range(formatter: &mut fmt::Formatter<'_>, range: TimeRange) -> fmt::Result {
    if range.from > i64::MIN {
        write!(formatter, ", from={}", time::display(range.from))?;
    }
    match range.to < i64::MAX {
        true => write!(formatter, ", to={}", time::display(range.to)),
        false => Ok(()),
    }
}

/// The columns of a plan that a scan asks for, under the names of `schema`; all of them without a projection.
pub(super) fn projected(
    plan: Arc<dyn ExecutionPlan>,
    schema: &SchemaRef,
    projection: Option<&Vec<usize>>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let given = plan.schema();
    let all: Vec<usize> = (0..schema.fields().len()).collect();
    let shown = projection.unwrap_or(&all).iter().map(|&index| {
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(given.field(index).name(), index));
        (column, schema.field(index).name().clone())
    });
    Ok(Arc::new(ProjectionExec::try_new(shown.collect::<Vec<_>>(), plan)?))
}
