//! The rule of the optimiser. It comes after those of DataFusion, which have moved conditions into the scan by then.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::datasource::provider_as_source;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::logical_plan::{Aggregate, Projection};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use super::Settings;
use super::joined;
use super::provider::Summaries;
use super::question::Question;
use crate::sql::tables::Sources;

#[derive(Debug, Default)]
pub(in crate::sql) struct FromRollups;

impl OptimizerRule for FromRollups {
    fn name(&self) -> &'static str {
        "iotctl_from_rollups"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>, DataFusionError> {
        let is_on = config.options().extensions.get::<Settings>().is_some_and(|settings| settings.rollups);
        let LogicalPlan::Aggregate(aggregate) = &plan else { return Ok(Transformed::no(plan)) };
        if !is_on {
            return Ok(Transformed::no(plan));
        }
        let found = match Question::of(aggregate) {
            Some((question, sources)) => {
                // Each name once: plans with equal names would count as the same plan.
                let name = config.alias_generator().next("summaries");
                Some(replacement(&name, question, sources, aggregate))
            }
            None => joined::rewritten(aggregate, config),
        };
        match found {
            Some(replaced) => Ok(Transformed::yes(replaced?)),
            None => Ok(Transformed::no(plan)),
        }
    }
}

/// A scan with the columns of the aggregate.
pub(super) fn replacement(
    name: &str,
    question: Question,
    sources: Arc<Sources>,
    aggregate: &Aggregate,
) -> Result<LogicalPlan> {
    let provider = Summaries::new(question, sources, aggregate.clone());
    let scan = LogicalPlanBuilder::scan(name, provider_as_source(Arc::new(provider)), None)?.build()?;
    let columns = scan.schema().columns();
    let shown = columns.into_iter().zip(aggregate.schema.iter()).map(|(column, (qualifier, field))| {
        Expr::Column(column).alias_qualified(qualifier.cloned(), field.name())
    });
    let projection =
        Projection::try_new_with_schema(shown.collect(), Arc::new(scan), aggregate.schema.clone())?;
    Ok(LogicalPlan::Projection(projection))
}
