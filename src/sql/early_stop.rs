//! Aggregates of which only the newest or the oldest periods are wanted, such as
//! `GROUP BY time_bucket('1 minute', recorded_timestamp) ORDER BY 1 DESC LIMIT 5`: readings are read in order of time, each
//! period is complete when the next one begins, and reading stops when there are enough.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, TimestampMillisecondArray, new_null_array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::cast::as_timestamp_millisecond_array;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::execution_plan::ChildrenPropertiesMode;
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::partial_sort::PartialSortExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{
    ExecutionPlan, InputOrderMode, ReplaceChildrenOptions, SortOrderPushdownResult,
};

use super::scan::TableScan;
use super::tables::moment;
use crate::time::TimeRange;

/// Rows in order cost this many times what they cost in any order. So much of the range has to be saved.
const COST_OF_ORDER: i64 = 8;

/// Comes after the rules of DataFusion, which have put the limit into the sort by then.
#[derive(Debug)]
pub(super) struct EarlyStop;

impl PhysicalOptimizerRule for EarlyStop {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_down(|node| match node.downcast_ref::<SortExec>() {
            Some(sort) => Ok(match stopping(sort)? {
                Some(plan) => Transformed::yes(plan),
                None => Transformed::no(node),
            }),
            None => Ok(Transformed::no(node)),
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "iotctl_early_stop"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// What takes the place of a sort; `None` where it is not one of the first periods of readings, or would not save enough.
fn stopping(sort: &SortExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(limit) = sort.fetch() else { return Ok(None) };
    let (first, mut node, mut above) = (sort.expr().first(), sort.input(), Vec::new());
    let Some(mut index) = index_of(&first.expr) else { return Ok(None) };
    while let Some(projection) = node.downcast_ref::<ProjectionExec>() {
        let Some(below) = projection.expr().get(index).and_then(|of| index_of(&of.expr)) else {
            return Ok(None);
        };
        above.push(node.clone());
        (node, index) = (projection.input(), below);
    }
    let Some(last_stage) = node.downcast_ref::<AggregateExec>() else { return Ok(None) };
    let first_stage = match last_stage.mode() {
        AggregateMode::Single | AggregateMode::SinglePartitioned => Some(last_stage),
        AggregateMode::Final | AggregateMode::FinalPartitioned => through(last_stage.input())
            .downcast_ref::<AggregateExec>()
            .filter(|stage| *stage.mode() == AggregateMode::Partial),
        AggregateMode::Partial | AggregateMode::PartialReduce => None,
    };
    let Some(stage) = first_stage else { return Ok(None) };
    let groups = stage.group_expr();
    let (below, scan) = projections(stage.input());
    let (Some((period, _)), Some(scan)) = (groups.expr().get(index), scan.downcast_ref::<TableScan>()) else {
        return Ok(None);
    };
    // Aggregates with an order of their own have their input sorted for it.
    if !groups.is_single() || stage.aggr_expr().iter().any(|of| !of.order_bys().is_empty()) {
        return Ok(None);
    }
    let (Some(held), Some(at)) = (scan.held(), scan.schema().index_of(TableScan::MOMENT).ok()) else {
        return Ok(None);
    };
    let moments = Arc::new(Column::new(TableScan::MOMENT, at));
    let by_time = PhysicalSortExpr { expr: moments, options: first.options };
    let SortOrderPushdownResult::Exact { inner: ordered } = scan.try_pushdown_sort(&[by_time])? else {
        return Ok(None);
    };
    let Some(width) = width(&Period { period, below: &below, schema: ordered.schema() }, held)? else {
        return Ok(None);
    };
    let wanted = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1).saturating_mul(width);
    if wanted.saturating_mul(COST_OF_ORDER) > held.to.saturating_sub(held.from) {
        return Ok(None);
    }
    let input = over(&below, Arc::new(CooperativeExec::new(ordered)))?;
    let aggregate = AggregateExec::try_new(
        AggregateMode::Single,
        groups.clone(),
        stage.aggr_expr().to_vec(),
        stage.filter_expr().to_vec(),
        input,
        stage.input_schema(),
    )?;
    let is_in_order = match aggregate.input_order_mode() {
        InputOrderMode::Sorted => true,
        InputOrderMode::PartiallySorted(ordered) => *ordered == [index],
        InputOrderMode::Linear => false,
    };
    if !is_in_order || aggregate.schema() != last_stage.schema() {
        return Ok(None);
    }
    let plan = over(&above, Arc::new(aggregate))?;
    Ok(Some(match sort.expr().len() {
        1 => Arc::new(GlobalLimitExec::new(plan, 0, Some(limit))),
        _ => Arc::new(PartialSortExec::new(sort.expr().clone(), plan, 1).with_fetch(Some(limit))),
    }))
}

fn index_of(expression: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    expression.downcast_ref::<Column>().map(Column::index)
}

/// The first operator that does more than to hand rows on.
fn through(mut plan: &Arc<dyn ExecutionPlan>) -> &Arc<dyn ExecutionPlan> {
    loop {
        let is_handing_on = plan.is::<RepartitionExec>()
            || plan.is::<CoalescePartitionsExec>()
            || plan.is::<CooperativeExec>();
        match plan.children().as_slice() {
            [input] if is_handing_on => plan = *input,
            _ => return plan,
        }
    }
}

/// Projections, the first one on top, and what they are over.
fn projections(plan: &Arc<dyn ExecutionPlan>) -> (Vec<Arc<dyn ExecutionPlan>>, &Arc<dyn ExecutionPlan>) {
    let (mut found, mut plan) = (Vec::new(), through(plan));
    while let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        found.push(plan.clone());
        plan = through(projection.input());
    }
    (found, plan)
}

/// The projections over another plan.
fn over(
    projections: &[Arc<dyn ExecutionPlan>],
    plan: Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    projections.iter().rev().try_fold(plan, |plan, projection| {
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        projection.clone().replace_children(vec![plan], options)
    })
}

/// Milliseconds of the last whole period before the end of the range; `None` if it has none.
fn width(period: &Period<'_>, held: TimeRange) -> Result<Option<i64>> {
    let Some(last) = period.start(held.to.saturating_sub(1))? else { return Ok(None) };
    let before = period.start(last.saturating_sub(1))?;
    Ok(before.and_then(|before| last.checked_sub(before)).filter(|width| *width > 0))
}

/// What rows are grouped by, over projections of the columns of a scan.
struct Period<'a> {
    period: &'a Arc<dyn PhysicalExpr>,
    below: &'a [Arc<dyn ExecutionPlan>],
    schema: SchemaRef,
}

impl Period<'_> {
    /// The start of the period that a moment is in, where the period depends on nothing else.
    fn start(&self, at: i64) -> Result<Option<i64>> {
        let columns = self.schema.fields().iter().map(|field| -> ArrayRef {
            match field.name() == TableScan::MOMENT {
                true => Arc::new(TimestampMillisecondArray::from(vec![at]).with_timezone("+00:00")),
                false => new_null_array(field.data_type(), 1),
            }
        });
        let mut row = nameless(columns.collect())?;
        for projection in self.below.iter().rev().filter_map(|plan| plan.downcast_ref::<ProjectionExec>()) {
            let values = projection.expr().iter().map(|of| of.expr.evaluate(&row)?.into_array(1));
            row = nameless(values.collect::<Result<_>>()?)?;
        }
        let value = self.period.evaluate(&row)?.into_array(1)?;
        let Ok(value) = cast(&value, &moment()) else { return Ok(None) };
        Ok(as_timestamp_millisecond_array(&value)?.iter().next().flatten())
    }
}

/// One row, whose columns are found by their places.
fn nameless(columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    let fields = columns.iter().map(|column| Field::new("", column.data_type().clone(), true));
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns)?)
}
