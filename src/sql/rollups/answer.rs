//! The operator that answers an aggregate from rollups and, where there are none, raw rows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::EmissionType;
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet,
};
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
};
use datafusion::scalar::ScalarValue;
use tokio::sync::mpsc;

use super::question::Question;
use crate::analytics::presence;
use crate::analytics::stats::{Key, Part, Plans, StatsQuery};
use crate::cassandra::Session;
use crate::reading::Metric;
use crate::series::Summary;
use crate::sql::operators::{one_partition, write_range};
use crate::sql::rows::moments;
use crate::sql::scan::external;
use crate::sql::tables::Sources;
use crate::store::groups;
use crate::time::{HOUR, Periods, TimeRange};

/// Lines that are in memory at once, where a line is of one period.
const MOST_LINES: u64 = 20_000;

/// A question with its sources, as they were when the statement was planned.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) question: Question,
    pub(super) query: StatsQuery,
    pub(super) plans: Plans,
}

#[derive(Debug, Clone)]
pub(super) struct Answer {
    asked: Arc<Asked>,
    sources: Arc<Sources>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl Answer {
    pub(super) fn new(asked: Asked, sources: Arc<Sources>, schema: SchemaRef) -> Self {
        let properties = one_partition(schema.clone(), EmissionType::Incremental);
        let (asked, properties) = (Arc::new(asked), Arc::new(properties));
        Self { asked, sources, schema, properties, metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl DisplayAs for Answer {
    fn fmt_as(&self, _: DisplayFormatType, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Asked { query, plans, question } = &*self.asked;
        let count = |of: fn(&crate::analytics::sources::Plan) -> usize| -> usize {
            plans.iter().map(|(_, plan)| of(plan)).sum()
        };
        write!(
            formatter,
            "SummaryScan: readings, groups={}, days from rollups={}, hours from rollups={}, partitions of raw rows={}, \
             rollups of {}, metrics={}",
            plans.len(),
            count(|plan| plan.days.len()),
            count(|plan| plan.hours.len()),
            count(|plan| plan.raw.len()),
            if query.is_of_sensors() { "sensors" } else { "groups" },
            question.metrics.iter().map(Metric::name).collect::<Vec<_>>().join(" "),
        )?;
        write_range(formatter, query.range)
    }
}

impl ExecutionPlan for Answer {
    fn name(&self) -> &'static str {
        "SummaryScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
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
        let mut stream = RecordBatchReceiverStreamBuilder::new(self.schema.clone(), 2);
        let counter = |name: &'static str| MetricBuilder::new(&self.metrics).counter(name, 0);
        let mut work = Work {
            answer: self.clone(),
            sender: stream.tx(),
            baseline: BaselineMetrics::new(&self.metrics, 0),
            raw_rows: counter("raw_rows"),
            rollups: counter("rollups_read"),
            batch_rows: context.session_config().batch_size().max(1),
            context,
        };
        stream.spawn(async move { work.run().await });
        Ok(stream.build())
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// What a line has of each metric.
type Line = Vec<Option<Summary>>;

struct Work {
    answer: Answer,
    sender: mpsc::Sender<Result<RecordBatch>>,
    baseline: BaselineMetrics,
    raw_rows: Count,
    rollups: Count,
    batch_rows: usize,
    context: Arc<TaskContext>,
}

impl Work {
    async fn run(&mut self) -> Result<()> {
        let asked = self.answer.asked.clone();
        let session = self.answer.sources.session.clone();
        let memory = MemoryConsumer::new("SummaryScan").register(self.context.memory_pool());
        let windows = windows(&session, &asked).await.map_err(external)?;
        if windows.len() < 2 {
            let lines = self.lines(&session, &asked.query, &asked.plans).await?;
            memory.try_grow(bytes(&lines))?;
            return self.send(lines).await.map(|_| ());
        }
        for range in windows {
            let query = StatsQuery { range, ..asked.query.clone() };
            let plans = query.plans(&session).await.map_err(external)?;
            let lines = self.lines(&session, &query, &plans).await?;
            memory.try_grow(bytes(&lines))?;
            if !self.send(lines).await? {
                return Ok(());
            }
            memory.free();
        }
        Ok(())
    }

    async fn lines(
        &self,
        session: &Session,
        query: &StatsQuery,
        plans: &Plans,
    ) -> Result<BTreeMap<Key, Line>> {
        let Question { metrics, asked, only_measured, .. } = &self.answer.asked.question;
        let needs_rows = !only_measured && *asked > 0;
        let mut present = BTreeSet::new();
        let rows = needs_rows.then_some(&mut present);
        let found = query.find_planned(session, plans, metrics, rows).await.map_err(external)?;
        if let Some(lines) = found.first() {
            self.raw_rows.add(usize::try_from(lines.sources.readings).unwrap_or(usize::MAX));
            self.rollups.add(usize::try_from(lines.sources.rollups).unwrap_or(usize::MAX));
        }
        if needs_rows {
            present.extend(found.iter().flat_map(|lines| lines.lines.keys().cloned()));
            presence::complete(query, session, plans, &mut present).await.map_err(external)?;
        }
        let mut lines: BTreeMap<Key, Line> = BTreeMap::new();
        let cut = |mut key: Key| {
            key[*asked..].fill(Part::None);
            key
        };
        let none = || vec![None; metrics.len()];
        for key in present {
            lines.entry(cut(key)).or_insert_with(none);
        }
        for (index, of_metric) in found.into_iter().enumerate() {
            for (key, line) in of_metric.lines {
                match &mut lines.entry(cut(key)).or_insert_with(none)[index] {
                    Some(summary) => summary.merge(&line.summary),
                    empty => *empty = Some(line.summary),
                }
            }
        }
        if *asked == 0 {
            lines.entry(Key::default()).or_insert_with(none);
        }
        Ok(lines)
    }

    /// `false` where no more lines are wanted.
    async fn send(&mut self, lines: BTreeMap<Key, Line>) -> Result<bool> {
        let lines: Vec<_> = lines.into_iter().collect();
        for lines in lines.chunks(self.batch_rows) {
            let batch = self.batch(lines)?;
            self.baseline.record_output(batch.num_rows());
            if self.sender.send(Ok(batch)).await.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn batch(&self, lines: &[(Key, Line)]) -> Result<RecordBatch> {
        let Question { keys, calls, .. } = &self.answer.asked.question;
        let schema = &self.answer.schema;
        let of_keys = keys.iter().map(|&index| column_of_key(lines, index));
        let of_calls = calls.iter().map(|&(function, metric)| {
            ScalarValue::iter_to_array(lines.iter().map(|(_, line)| function.of(line[metric].as_ref())))
        });
        let columns = of_keys
            .chain(of_calls)
            .zip(schema.fields())
            .map(|(column, field)| Ok(cast(&column?, field.data_type())?))
            .collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(lines.len()));
        Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
    }
}

fn column_of_key(lines: &[(Key, Line)], index: usize) -> Result<ArrayRef> {
    let parts = || lines.iter().map(|(key, _)| &key[index]);
    Ok(match parts().next() {
        Some(Part::Moment(_)) => moments(parts().map(|part| match part {
            Part::Moment(at) => Some(*at),
            _ => None,
        })),
        Some(Part::Name(_) | Part::Sensor(_)) => ScalarValue::iter_to_array(parts().map(|part| {
            ScalarValue::Utf8(match part {
                Part::Name(name) => Some(name.to_string()),
                Part::Sensor(sensor) => Some(sensor.to_string()),
                _ => None,
            })
        }))?,
        None => new_null_array(&datafusion::arrow::datatypes::DataType::Utf8, 0),
        Some(part) => return Err(DataFusionError::Internal(format!("{part:?} is not a key of a group"))),
    })
}

/// About how much memory lines take.
fn bytes(lines: &BTreeMap<Key, Line>) -> usize {
    /// Counts of a sketch beside the summary itself.
    const SKETCH: usize = 512;
    let metrics = lines.values().next().map_or(0, Vec::len);
    lines.len() * (size_of::<Key>() + metrics * (size_of::<Option<Summary>>() + SKETCH))
}

/// The ranges of time that are answered one after another: whole periods, so that no line is of two of them. One if there are
/// few lines, or no periods.
async fn windows(session: &Session, asked: &Asked) -> Result<Vec<TimeRange>, crate::cassandra::Error> {
    let Asked { query, plans, .. } = asked;
    let periods = query.by.periods();
    let hull = plans.iter().flat_map(|(_, plan)| {
        let days = plan.days.iter().map(|day| TimeRange { from: *day, to: day + crate::time::DAY });
        let hours = plan.hours.iter().map(|hour| TimeRange { from: *hour, to: hour + HOUR });
        days.chain(hours).chain(plan.raw.iter().map(|(_, part)| *part))
    });
    let hull =
        hull.reduce(|one, other| TimeRange { from: one.from.min(other.from), to: one.to.max(other.to) });
    let Some(hull) = hull.filter(|_| periods != Periods::All) else { return Ok(vec![query.range]) };
    let mut lines = plans.len() as u64;
    if query.is_of_sensors() && query.sensor.is_none() {
        lines = 0;
        for (group, _) in plans {
            lines += groups::summary(session, group).await?.sensors;
        }
    }
    Ok(cut(hull, query.range, periods, MOST_LINES / lines.max(1)))
}

/// Cuts the part of `range` that has rows so that each piece has at most `most` periods, and at least one.
fn cut(hull: TimeRange, range: TimeRange, periods: Periods, most: u64) -> Vec<TimeRange> {
    let mut cursor = periods.cursor();
    let mut windows = Vec::new();
    let (mut from, mut at, mut count) = (hull.from.max(range.from), hull.from.max(range.from), 0);
    let to = hull.to.min(range.to);
    while at < to {
        at = cursor.of(at).to.min(to);
        count += 1;
        if count >= most.max(1) || at >= to {
            windows.push(TimeRange { from, to: at });
            (from, count) = (at, 0);
        }
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{DAY, Zone};

    #[test]
    fn windows_are_whole_periods_and_together_all_of_the_range() {
        let periods = Periods::Days(Zone::named("Asia/Kolkata").unwrap());
        let hull = TimeRange { from: 0, to: 10 * DAY };
        let range = TimeRange { from: HOUR, to: i64::MAX };
        let windows = cut(hull, range, periods, 3);
        assert_eq!((windows[0].from, windows[windows.len() - 1].to), (HOUR, 10 * DAY));
        assert_eq!(windows.len(), 4);
        for pair in windows.windows(2) {
            assert_eq!(pair[0].to, pair[1].from);
            assert_eq!(periods.of(pair[0].to).from, pair[0].to);
        }
        assert_eq!(cut(hull, range, periods, 0).len(), 11);
        assert_eq!(cut(hull, range, periods, 100).len(), 1);
        assert!(cut(hull, TimeRange { from: 5, to: 5 }, periods, 1).is_empty());
    }
}
