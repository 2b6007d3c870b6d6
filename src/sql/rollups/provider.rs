//! The table that takes the place of an aggregate.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::{Session as PlanningSession, TableProvider};
use datafusion::common::ToDFSchema;
use datafusion::common::cast::as_boolean_array;
use datafusion::error::Result;
use datafusion::logical_expr::logical_plan::Aggregate;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::answer::{Answer, Asked};
use super::question::Question;
use crate::analytics::sources::MaxResolution;
use crate::analytics::stats::{Plans, StatsQuery};
use crate::analytics::tags::Chosen;
use crate::reading::{Group, Metric};
use crate::sql::bounds;
use crate::sql::operators::projected;
use crate::sql::rows;
use crate::sql::scan::{chosen_groups, external};
use crate::sql::tables::Sources;
use crate::store::rollups::Detail;
use crate::time::TimeRange;

#[derive(Debug)]
pub(in crate::sql) struct Summaries {
    question: Question,
    sources: Arc<Sources>,
    /// What it stands for: computed from raw rows where there are no rollups.
    original: LogicalPlan,
    schema: SchemaRef,
}

impl Summaries {
    pub(super) fn new(question: Question, sources: Arc<Sources>, original: Aggregate) -> Self {
        // The names of an aggregate's columns may come twice, with other qualifiers.
        let fields = original.schema.fields().iter().enumerate().map(|(index, field)| {
            Field::new(format!("c{index}"), field.data_type().clone(), field.is_nullable())
        });
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Self { question, sources, original: LogicalPlan::Aggregate(original), schema }
    }

    /// The range of time that is asked for.
    pub(in crate::sql) fn range(&self) -> TimeRange {
        self.question.selection.range
    }

    async fn groups(&self, state: &dyn PlanningSession) -> Result<Vec<Arc<Group>>> {
        let selection = &self.question.selection;
        if selection.range.from >= selection.range.to {
            return Ok(Vec::new());
        }
        let groups = chosen_groups(&self.sources, selection).await.map_err(external)?;
        let Some(condition) = conjunction(self.question.of_groups.clone()) else { return Ok(groups) };
        let names = Arc::new(Schema::new(
            ["location", "device_type"]
                .map(|name| Field::new(name, datafusion::arrow::datatypes::DataType::Utf8, false))
                .to_vec(),
        ));
        let condition = unqualified(condition)?;
        let condition = state.create_physical_expr(condition, &names.clone().to_dfschema()?)?;
        let batch = datafusion::arrow::array::RecordBatch::try_new(
            names,
            vec![
                rows::texts(groups.iter().map(|group| &*group.location)),
                rows::texts(groups.iter().map(|group| &*group.device_type)),
            ],
        )?;
        let passes = condition.evaluate(&batch)?.into_array(batch.num_rows())?;
        let passes = as_boolean_array(&passes)?.iter();
        Ok(groups
            .into_iter()
            .zip(passes)
            .filter(|(_, passes)| *passes == Some(true))
            .map(|(group, _)| group)
            .collect())
    }

    /// `None` if the plans take nothing from rollups.
    async fn asked(&self, state: &dyn PlanningSession) -> Result<Option<Asked>> {
        let groups = self.groups(state).await?;
        let Question { selection, by, metrics, calls, .. } = &self.question;
        let chosen = match &selection.sensors {
            Some(sensors) if sensors.len() != 1 => Some(Arc::new(Chosen::everywhere(&groups, sensors))),
            _ => None,
        };
        let needs_sketch = calls.iter().any(|(function, _)| function.needs_sketch());
        let query = StatsQuery {
            groups,
            sensor: selection.one_sensor(),
            chosen,
            tag_values: Arc::new([]),
            metric: metrics.first().cloned().unwrap_or(Metric::Temperature),
            range: selection.range,
            by: *by,
            detail: if needs_sketch { Detail::Whole } else { Detail::WithoutSketch },
            max_resolution: MaxResolution::Day,
        };
        let plans: Plans = query.plans(&self.sources.session).await.map_err(external)?;
        let is_of_use = plans.iter().any(|(_, plan)| !plan.days.is_empty() || !plan.hours.is_empty());
        Ok(is_of_use.then_some(Asked { question: self.question.clone(), query, plans }))
    }
}

/// Columns of the readings by their names alone.
fn unqualified(expression: Expr) -> Result<Expr> {
    use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
    expression
        .transform_up(|part| match part {
            Expr::Column(column) => {
                Ok(Transformed::yes(Expr::Column(datafusion::common::Column::new_unqualified(column.name))))
            }
            other => Ok(Transformed::no(other)),
        })
        .data()
}

#[async_trait]
impl TableProvider for Summaries {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        state: &dyn PlanningSession,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let plan: Arc<dyn ExecutionPlan> = match self.asked(state).await? {
            Some(asked) => Arc::new(Answer::new(asked, self.sources.clone(), self.schema.clone())),
            None => {
                let planned = state.query_planner().create_physical_plan(&self.original, state).await?;
                bounds::unbounded(planned)
            }
        };
        projected(plan, &self.schema, projection)
    }
}
