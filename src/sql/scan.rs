//! The operator that reads a table: rows become columns, conditions are applied, and reading stops at the limit.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{BooleanArray, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::cast::as_boolean_array;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::EmissionType;
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet,
};
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
    SortOrderPushdownResult,
};
use tokio::sync::mpsc;

use super::messages;
use super::rows;
use super::selection::Selection;
use super::summaries::{self, Periods};
use super::tables::{Kind, Sources};
use crate::analytics::Order;
use crate::reading::Group;
use crate::sql::operators::{one_partition, write_range};
use crate::store::groups;
use crate::time::TimeRange;

/// Groups whose sensors are looked up instead of all groups being read.
const MOST_SENSORS: usize = 100;

/// What a scan reads: known when the statement is planned, so that EXPLAIN shows it.
#[derive(Debug)]
pub(super) struct Reads {
    pub(super) kind: Kind,
    pub(super) sources: Arc<Sources>,
    pub(super) selection: Selection,
    pub(super) groups: Vec<Arc<Group>>,
    /// Partitions of raw rows.
    partitions: usize,
    /// The part of the range that they can have rows of.
    held: Option<TimeRange>,
    /// Of `hourly` and `daily`: what is read of each group.
    pub(super) periods: Vec<Periods>,
}

impl Reads {
    pub(super) async fn plan(kind: Kind, sources: &Arc<Sources>, mut selection: Selection) -> Result<Self> {
        selection.access = sources.access.clone();
        let groups = match kind {
            Kind::Alerts | Kind::DeadLetters | Kind::Forecasts => Vec::new(),
            _ => chosen_groups(sources, &selection).await.map_err(external)?,
        };
        let periods = Vec::new();
        let mut reads =
            Self { kind, sources: sources.clone(), selection, groups, partitions: 0, held: None, periods };
        let session = &sources.session;
        let range = reads.selection.range;
        if range.from >= range.to {
            reads.groups.clear();
        }
        for group in &reads.groups {
            match kind {
                Kind::Readings => {
                    let found = groups::partitions(session, group, range.from, range.to).await;
                    let found = found.map_err(external)?;
                    reads.partitions += found.len();
                    for bucket in found.iter().map(|partition| partition.bucket) {
                        let held = reads.held.get_or_insert(TimeRange { from: i64::MAX, to: i64::MIN });
                        held.from = held.from.min(bucket.start.max(range.from));
                        held.to = held.to.max(bucket.end().min(range.to));
                    }
                }
                Kind::Hourly | Kind::Daily => {
                    let periods = Periods::plan(kind, session, group, range).await.map_err(external)?;
                    reads.partitions += periods.plan.raw.len();
                    reads.periods.push(periods);
                }
                _ => {}
            }
        }
        Ok(reads)
    }

    fn sources(&self) -> String {
        match self.kind {
            Kind::Readings => format!("partitions of raw rows={}", self.partitions),
            Kind::Hourly | Kind::Daily => {
                let count = |of: fn(&Periods) -> usize| self.periods.iter().map(of).sum::<usize>();
                format!(
                    "days from rollups={}, hours from rollups={}, partitions of raw rows={}",
                    count(|periods| periods.plan.days.len()),
                    count(|periods| periods.plan.hours.len()),
                    self.partitions
                )
            }
            Kind::Latest => "newest readings".to_owned(),
            Kind::Sensors | Kind::Groups => "registry".to_owned(),
            Kind::Alerts | Kind::DeadLetters => "the whole topic".to_owned(),
            Kind::Forecasts => "all stored forecasts".to_owned(),
        }
    }
}

/// The groups of a selection that the session may see.
pub(super) async fn chosen_groups(
    sources: &Sources,
    selection: &Selection,
) -> Result<Vec<Arc<Group>>, crate::cassandra::Error> {
    let session = &sources.session;
    let mut found = Vec::new();
    match &selection.sensors {
        Some(sensors) if sensors.len() <= MOST_SENSORS => {
            for sensor in sensors {
                found.extend(groups::groups_of_sensor(session, *sensor).await?);
            }
            found.sort_unstable();
            found.dedup();
        }
        _ => found = groups::groups(session).await?,
    }
    let is_seen = |group: &Group| sources.access.permits(&group.location) && selection.has_group(group);
    Ok(found.into_iter().filter(is_seen).map(Arc::new).collect())
}

pub(super) fn external(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> DataFusionError {
    DataFusionError::External(error.into())
}

/// Reads a table. The only partition of its output is in order of time where that was asked for.
#[derive(Debug, Clone)]
pub(super) struct TableScan {
    reads: Arc<Reads>,
    /// The columns that are built; the first `shown` of them are put out.
    built: SchemaRef,
    shown: usize,
    filter: Option<Arc<dyn PhysicalExpr>>,
    limit: Option<usize>,
    order: Option<Order>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl TableScan {
    /// The column of the moments.
    pub(super) const MOMENT: &str = "recorded_timestamp";

    pub(super) fn new(
        reads: Arc<Reads>,
        built: SchemaRef,
        shown: usize,
        filter: Option<Arc<dyn PhysicalExpr>>,
        limit: Option<usize>,
    ) -> Self {
        let fields: Vec<_> = built.fields().iter().take(shown).cloned().collect();
        let shown_schema = Arc::new(datafusion::arrow::datatypes::Schema::new(fields));
        let properties = one_partition(shown_schema, EmissionType::Incremental);
        let metrics = ExecutionPlanMetricsSet::new();
        Self { reads, built, shown, filter, limit, order: None, properties: Arc::new(properties), metrics }
    }

    /// The part of the range of time that the stored partitions can have rows of.
    pub(super) fn held(&self) -> Option<TimeRange> {
        self.reads.held
    }

    /// The scan in an order of the moments.
    fn ordered(&self, order: Order, by: &[PhysicalSortExpr]) -> Self {
        let mut properties = PlanProperties::clone(&self.properties);
        let mut equivalences = EquivalenceProperties::new(self.schema());
        equivalences.add_ordering(by.iter().cloned());
        properties.set_eq_properties(equivalences);
        Self { order: Some(order), properties: Arc::new(properties), ..self.clone() }
    }
}

impl DisplayAs for TableScan {
    fn fmt_as(&self, _: DisplayFormatType, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reads { kind, selection, groups, .. } = &*self.reads;
        write!(formatter, "TableScan: {}, groups={}, {}", kind.name(), groups.len(), self.reads.sources())?;
        if let Some(sensors) = &selection.sensors {
            write!(formatter, ", sensors={}", sensors.len())?;
        }
        if let Some(metrics) = &selection.metrics {
            write!(formatter, ", metrics={}", metrics.len())?;
        }
        write_range(formatter, selection.range)?;
        match self.order {
            Some(Order::Asc) => write!(formatter, ", oldest first")?,
            Some(Order::Desc) => write!(formatter, ", newest first")?,
            None => {}
        }
        if let Some(limit) = self.limit {
            write!(formatter, ", limit={limit}")?;
        }
        match &self.filter {
            Some(filter) => write!(formatter, ", filter={filter}"),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for TableScan {
    fn name(&self) -> &'static str {
        "TableScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        match &self.filter {
            Some(filter) => visit(filter),
            None => Ok(TreeNodeRecursion::Continue),
        }
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let mut stream = RecordBatchReceiverStreamBuilder::new(self.schema(), 2);
        let (sender, scan) = (stream.tx(), self.clone());
        let baseline = BaselineMetrics::new(&self.metrics, 0);
        let rows_read = MetricBuilder::new(&self.metrics).counter("rows_read", 0);
        let batch_rows = context.session_config().batch_size();
        // A limit without an order has the newest rows.
        let order = self.order.or(self.limit.map(|_| Order::Desc));
        let reads = self.reads.clone();
        stream.spawn(async move {
            let left = scan.limit.unwrap_or(usize::MAX);
            let schema = scan.schema();
            let mut sink = Sink { scan, schema, sender, baseline, rows_read, batch_rows, left };
            match reads.kind {
                Kind::Readings => rows::readings(&reads, order, &mut sink).await,
                Kind::Latest => rows::latest(&reads, &mut sink).await,
                Kind::Sensors => rows::sensors(&reads, &mut sink).await,
                Kind::Groups => rows::groups(&reads, &mut sink).await,
                Kind::Hourly | Kind::Daily => summaries::read(&reads, &mut sink).await,
                Kind::Alerts => messages::alerts(&reads, &mut sink).await,
                Kind::DeadLetters => messages::dead_letters(&reads, &mut sink).await,
                Kind::Forecasts => messages::forecasts(&reads, &mut sink).await,
            }
        });
        Ok(stream.build())
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn supports_limit_pushdown(&self) -> bool {
        false
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        let limit = match (self.limit, limit) {
            (Some(before), Some(limit)) => Some(before.min(limit)),
            (before, limit) => before.or(limit),
        };
        Some(Arc::new(Self { limit, ..self.clone() }))
    }

    fn fetch(&self) -> Option<usize> {
        self.limit
    }

    /// Readings come in order of their moments, and of their sensors where those are the same.
    fn try_pushdown_sort(
        &self,
        by: &[PhysicalSortExpr],
    ) -> Result<SortOrderPushdownResult<Arc<dyn ExecutionPlan>>> {
        let names = [Self::MOMENT, "iot_sensor_id"];
        let descending = by.first().is_some_and(|first| first.options.descending);
        let is_prefix = by.len() <= names.len()
            && by.iter().zip(names).all(|(key, name)| {
                key.options.descending == descending
                    && key.expr.downcast_ref::<Column>().is_some_and(|column| column.name() == name)
            });
        // A limit that was set before the order would choose other rows.
        if self.reads.kind != Kind::Readings || by.is_empty() || !is_prefix || self.limit.is_some() {
            return Ok(SortOrderPushdownResult::Unsupported);
        }
        let order = if descending { Order::Desc } else { Order::Asc };
        Ok(SortOrderPushdownResult::Exact { inner: Arc::new(self.ordered(order, by)) })
    }
}

/// Where the rows of a scan go.
pub(super) struct Sink {
    scan: TableScan,
    schema: SchemaRef,
    sender: mpsc::Sender<Result<RecordBatch>>,
    baseline: BaselineMetrics,
    rows_read: Count,
    batch_rows: usize,
    /// Rows until the limit.
    left: usize,
}

impl Sink {
    /// The names of the columns to build.
    pub(super) fn columns(&self) -> impl Iterator<Item = &str> {
        self.scan.built.fields().iter().map(|field| field.name().as_str())
    }

    /// Whether a column is to be built.
    pub(super) fn needs(&self, name: &str) -> bool {
        self.scan.built.column_with_name(name).is_some()
    }

    /// Puts out rows, built column by column; `false` where no more are wanted.
    pub(super) async fn send<T>(
        &mut self,
        rows: &[T],
        build: impl Fn(&str, &[T]) -> datafusion::arrow::array::ArrayRef,
    ) -> Result<bool> {
        for rows in rows.chunks(self.batch_rows.max(1)) {
            self.rows_read.add(rows.len());
            let columns = self.scan.built.fields().iter().map(|field| build(field.name(), rows)).collect();
            let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
            let mut batch = RecordBatch::try_new_with_options(self.scan.built.clone(), columns, &options)?;
            if let Some(filter) = &self.scan.filter {
                let passes = filter.evaluate(&batch)?.into_array(batch.num_rows())?;
                let passes: &BooleanArray = as_boolean_array(&passes)?;
                batch = filter_record_batch(&batch, passes)?;
            }
            if batch.num_rows() > self.left {
                batch = batch.slice(0, self.left);
            }
            let count = batch.num_rows();
            if count == 0 {
                continue;
            }
            let shown = batch.columns()[..self.scan.shown].to_vec();
            let options = RecordBatchOptions::new().with_row_count(Some(count));
            let shown = RecordBatch::try_new_with_options(self.schema.clone(), shown, &options)?;
            self.left -= count;
            self.baseline.record_output(count);
            if self.sender.send(Ok(shown)).await.is_err() || self.left == 0 {
                return Ok(false);
            }
        }
        Ok(self.left > 0 && !self.sender.is_closed())
    }
}
