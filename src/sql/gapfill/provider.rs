//! The table that takes the place of an aggregate by `time_bucket_gapfill`.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session as PlanningSession, TableProvider};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, plan_err};
use datafusion::datasource::source_as_provider;
use datafusion::error::Result;
use datafusion::logical_expr::logical_plan::Aggregate;
use datafusion::logical_expr::{Expr, LogicalPlan, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::exec::{GapFill, Shape};
use super::functions::Fill;
use crate::sql::bounds;
use crate::sql::operators::projected;
use crate::sql::rollups::Summaries;
use crate::sql::selection::Selection;
use crate::sql::tables::Table;
use crate::time::{Periods, TimeRange};

#[derive(Debug, Clone)]
pub(super) struct Filled {
    input: Arc<LogicalPlan>,
    shape: Shape,
    /// What the columns stand for.
    names: Vec<Column>,
    schema: SchemaRef,
}

impl Filled {
    /// `names` are those of the aggregate's columns.
    pub(super) fn new(aggregate: Aggregate, (time, periods): (usize, Periods), names: Vec<Column>) -> Self {
        let groups = aggregate.group_expr.len();
        let fields = aggregate.schema.fields().iter().enumerate().map(|(index, field)| {
            // A line without readings has no aggregates.
            let is_nullable = field.is_nullable() || index >= groups;
            Field::new(format!("c{index}"), field.data_type().clone(), is_nullable)
        });
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let keys = (0..groups).filter(|index| *index != time).collect();
        let shape = Shape { time, periods, keys, columns: schema.fields().len(), fills: Vec::new() };
        Self { input: Arc::new(LogicalPlan::Aggregate(aggregate)), shape, names, schema }
    }

    pub(super) fn names(&self) -> &[Column] {
        &self.names
    }

    /// The column of the values of another, filled.
    pub(super) fn fill(&mut self, how: Fill, column: &Column) -> Result<Column> {
        let found = self.names[..self.shape.columns].iter().position(|name| {
            name.name == column.name && (column.relation.is_none() || name.relation == column.relation)
        });
        let Some(index) = found.filter(|index| *index != self.shape.time && !self.shape.keys.contains(index))
        else {
            return plan_err!("{} is not an aggregate that can be filled", column.name);
        };
        let position = self.shape.fills.iter().position(|known| *known == (how, index));
        let position = position.unwrap_or_else(|| {
            let kind = match how {
                Fill::Last => self.schema.field(index).data_type().clone(),
                Fill::Between => DataType::Float64,
            };
            let number = self.schema.fields().len();
            let mut fields: Vec<_> = self.schema.fields().iter().cloned().collect();
            fields.push(Arc::new(Field::new(format!("c{number}"), kind, true)));
            self.schema = Arc::new(Schema::new(fields));
            let function = if how == Fill::Last { "locf" } else { "interpolate" };
            self.names.push(Column::new_unqualified(format!("{function}({column})")));
            self.shape.fills.push((how, index));
            self.shape.fills.len() - 1
        });
        Ok(self.names[self.shape.columns + position].clone())
    }
}

/// The range of time that the scan below reads.
fn range(plan: &LogicalPlan) -> Result<TimeRange> {
    let mut found = TimeRange::ALL;
    plan.apply(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let provider = source_as_provider(&scan.source)?;
            let provider = &*provider as &dyn std::any::Any;
            if let Some(summaries) = provider.downcast_ref::<Summaries>() {
                found = summaries.range();
                return Ok(TreeNodeRecursion::Stop);
            }
            if let Some(time) = provider.downcast_ref::<Table>().and_then(|table| table.kind().time_column())
            {
                found = Selection::of(&scan.filters, Some(time)).0.range;
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

#[async_trait]
impl TableProvider for Filled {
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
        let input = state.optimize(&self.input)?;
        let range = range(&input)?;
        let planned = state.query_planner().create_physical_plan(&input, state).await?;
        let filled: Arc<dyn ExecutionPlan> = Arc::new(GapFill::new(
            bounds::unbounded(planned),
            self.shape.clone(),
            range,
            self.schema.clone(),
        ));
        projected(filled, &self.schema, projection)
    }
}
