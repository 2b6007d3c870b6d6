//! Limits of a statement: its time and its rows. The work runs in a runtime of its own, and joins give way to others after
//! each batch, so that a statement that only computes can be stopped too.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::config::ConfigOptions;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::execution_plan::ChildrenPropertiesMode;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
    ReplaceChildrenOptions,
};
use futures::StreamExt;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::context::Work;

/// The limits of each statement.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Time from the start of the execution.
    pub time: Duration,
    /// Rows that are put out.
    pub rows: usize,
}

/// Time in which a statement that runs ends by itself.
const TO_END: Duration = Duration::from_secs(1);

/// Why a statement was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Stopped {
    #[error("the statement was cancelled by its client")]
    Cancelled,
    #[error("the statement was stopped after {} (narrow its range of time, or raise --timeout)", humantime::format_duration(*.0))]
    Late(Duration),
    #[error("the answer has more than {0} rows (add LIMIT, or raise --max-rows)")]
    TooManyRows(usize),
}

/// The work of a statement has panicked. DataFusion's does so in some joins that no longer fit into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the statement broke off (the log says where; if it joins many rows, narrow it or raise --memory)")]
pub(super) struct Broken;

/// How a statement ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    pub(super) seconds: f64,
    pub(super) rows: usize,
    pub(super) outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All rows were put out.
    Complete,
    Stopped(Stopped),
    Failed,
    /// Its client wanted no more, or left.
    Dropped,
}

/// The running statement of a session, for whoever watches over its client.
#[derive(Debug, Clone)]
pub(super) struct Watch(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// The time that statements may take.
    time: Duration,
    /// Until when the statement must be over; `None` between statements.
    deadline: Mutex<Option<Instant>>,
    /// Counts requests to cancel.
    cancels: watch::Sender<u64>,
    /// A shorter time than that of the limits, if the client has set one.
    own_time: Mutex<Option<Duration>>,
    on_end: OnceLock<OnEnd>,
}

struct OnEnd(Box<dyn Fn(&Ended) + Send + Sync>);

impl fmt::Debug for OnEnd {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("OnEnd")
    }
}

impl Watch {
    pub(super) fn new(time: Duration) -> Self {
        Self(Arc::new(State { time, ..State::default() }))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        *self.0.deadline.lock().expect("no panic while locked")
    }

    /// Ends the statement that runs; without one, nothing.
    pub(super) fn cancel(&self) {
        self.0.cancels.send_modify(|count| *count += 1);
    }

    /// Resolves when the client cancels, or when the time that a statement may take is over: for the work before there are rows.
    pub(super) async fn stopped(&self) -> Stopped {
        let mut cancels = self.0.cancels.subscribe();
        let own_time = *self.0.own_time.lock().expect("no panic while locked");
        let time = own_time.map_or(self.0.time, |own| own.min(self.0.time));
        let stopped = tokio::select! {
            Ok(()) = cancels.changed() => Stopped::Cancelled,
            () = tokio::time::sleep(time) => Stopped::Late(time),
        };
        // What runs already hears of it too, and says how it ended.
        if self.deadline().is_some() {
            tokio::time::sleep(TO_END).await;
        }
        stopped
    }

    /// The statements of the session may take this time, or that of its limits if it is shorter.
    pub(super) fn limit_time(&self, time: Option<Duration>) {
        *self.0.own_time.lock().expect("no panic while locked") = time;
    }

    /// Calls `told` at the end of each statement. Only the first call has an effect.
    pub(super) fn on_end(&self, told: impl Fn(&Ended) + Send + Sync + 'static) {
        let _ = self.0.on_end.set(OnEnd(Box::new(told)));
    }

    fn set(&self, deadline: Option<Instant>) {
        *self.0.deadline.lock().expect("no panic while locked") = deadline;
    }
}

/// Puts [`Bounded`] on top of each plan and makes its joins cooperative.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) bounds: Bounds,
    pub(super) work: Arc<Work>,
    pub(super) watch: Watch,
}

impl PhysicalOptimizerRule for Guard {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        // A join takes one batch of its input and makes any number of batches of it without waiting for anything.
        let plan = plan
            .transform_up(|node| match multiplies(&*node) {
                true => Ok(Transformed::yes(Arc::new(CooperativeExec::new(node)) as Arc<dyn ExecutionPlan>)),
                false => Ok(Transformed::no(node)),
            })
            .data()?;
        let plan: Arc<dyn ExecutionPlan> = match plan.output_partitioning().partition_count() {
            0 | 1 => plan,
            _ => Arc::new(CoalescePartitionsExec::new(plan)),
        };
        let properties = plan.properties().clone();
        let (bounds, work, watch) = (self.bounds, self.work.clone(), self.watch.clone());
        Ok(Arc::new(Bounded { input: plan, properties, bounds, work, watch }))
    }

    fn name(&self) -> &'static str {
        "iotctl_bounds"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The plan without the [`Bounded`] on top: as a part of a plan that has its own.
pub(super) fn unbounded(plan: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    match (&*plan as &dyn std::any::Any).downcast_ref::<Bounded>() {
        Some(bounded) => bounded.input.clone(),
        None => plan,
    }
}

fn multiplies(node: &dyn ExecutionPlan) -> bool {
    let name = node.name();
    name.ends_with("JoinExec") || name == "UnnestExec"
}

/// Runs a plan as a task of the work's runtime, and ends with an error at its limits.
#[derive(Debug)]
struct Bounded {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
    bounds: Bounds,
    work: Arc<Work>,
    watch: Watch,
}

impl DisplayAs for Bounded {
    fn fmt_as(&self, _: DisplayFormatType, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = humantime::format_duration(self.bounds.time);
        match self.bounds.rows {
            usize::MAX => write!(formatter, "Bounded: time={time}"),
            rows => write!(formatter, "Bounded: time={time}, rows={rows}"),
        }
    }
}

impl ExecutionPlan for Bounded {
    fn name(&self) -> &'static str {
        "Bounded"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(input) = children.pop() else {
            return Err(DataFusionError::Internal("Bounded has one input".to_owned()));
        };
        let properties = input.properties().clone();
        let (bounds, work, watch) = (self.bounds, self.work.clone(), self.watch.clone());
        Ok(Arc::new(Self { input, properties, bounds, work, watch }))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let own_time = *self.watch.0.own_time.lock().expect("no panic while locked");
        let bounds = Bounds {
            time: own_time.map_or(self.bounds.time, |own| own.min(self.bounds.time)),
            ..self.bounds
        };
        let started = Instant::now();
        let deadline = started + bounds.time;
        self.watch.set(Some(deadline));
        let (sender, receiver) = mpsc::channel(2);
        let input = self.input.clone();
        let task = self.work.spawn(async move {
            let mut stream = match input.execute(partition, context) {
                Ok(stream) => stream,
                Err(error) => {
                    let _ = sender.send(Some(Err(error))).await;
                    return;
                }
            };
            while let Some(batch) = stream.next().await {
                if sender.send(Some(batch)).await.is_err() {
                    return;
                }
            }
            // Without it the work has panicked, and the answer is not whole.
            let _ = sender.send(None).await;
        });
        let running = Running {
            receiver,
            task,
            cancelled: self.watch.0.cancels.subscribe(),
            watch: self.watch.clone(),
            started,
            deadline,
            bounds,
            rows_left: bounds.rows,
            outcome: Outcome::Dropped,
            _work: self.work.clone(),
        };
        let batches = futures::stream::unfold(Some(running), |running| async move {
            let mut running = running?;
            match running.next().await {
                Some(Ok(batch)) => Some((Ok(batch), Some(running))),
                Some(Err(error)) => Some((Err(error), None)),
                None => None,
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }
}

type Batch = Result<datafusion::arrow::array::RecordBatch>;

/// A statement that runs. Dropping it stops the work.
struct Running {
    /// Ends with `None`.
    receiver: mpsc::Receiver<Option<Batch>>,
    task: AbortHandle,
    cancelled: watch::Receiver<u64>,
    watch: Watch,
    started: Instant,
    deadline: Instant,
    bounds: Bounds,
    rows_left: usize,
    outcome: Outcome,
    /// The threads last as long as the statement.
    _work: Arc<Work>,
}

impl Running {
    async fn next(&mut self) -> Option<Batch> {
        let received = tokio::select! {
            received = tokio::time::timeout_at(self.deadline, self.receiver.recv()) => received,
            Ok(()) = self.cancelled.changed() => return Some(Err(self.stop(Stopped::Cancelled))),
        };
        let batch = match received {
            Ok(Some(Some(batch))) => batch,
            Ok(Some(None)) => {
                self.outcome = Outcome::Complete;
                return None;
            }
            Ok(None) => {
                self.outcome = Outcome::Failed;
                return Some(Err(DataFusionError::External(Box::new(Broken))));
            }
            Err(_) => return Some(Err(self.stop(Stopped::Late(self.bounds.time)))),
        };
        match &batch {
            Ok(batch) => match self.rows_left.checked_sub(batch.num_rows()) {
                Some(left) => self.rows_left = left,
                None => return Some(Err(self.stop(Stopped::TooManyRows(self.bounds.rows)))),
            },
            Err(_) => self.outcome = Outcome::Failed,
        }
        Some(batch)
    }

    fn stop(&mut self, why: Stopped) -> DataFusionError {
        self.outcome = Outcome::Stopped(why);
        DataFusionError::External(Box::new(why))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
        self.watch.set(None);
        if let Some(OnEnd(told)) = self.watch.0.on_end.get() {
            let rows = self.bounds.rows - self.rows_left;
            told(&Ended { seconds: self.started.elapsed().as_secs_f64(), rows, outcome: self.outcome });
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{AsArray, Int64Array, RecordBatch};
    use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use datafusion::catalog::MemTable;
    use datafusion::execution::SessionStateBuilder;
    use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
    use datafusion::prelude::SessionContext;

    use super::*;

    /// A session with a table of the numbers from 1 to 3, each in a batch of its own, and a function that panics at 3.
    fn session() -> SessionContext {
        let bounds = Bounds { time: Duration::from_secs(60), rows: 10 };
        let guard = Guard { bounds, work: Work::start().unwrap(), watch: Watch::new(bounds.time) };
        let state =
            SessionStateBuilder::new().with_default_features().with_physical_optimizer_rule(Arc::new(guard));
        let context = SessionContext::new_with_state(state.build());
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let batch =
            |n| RecordBatch::try_new(schema.clone(), vec![Arc::new(Int64Array::from(vec![n]))]).unwrap();
        let table = MemTable::try_new(schema.clone(), vec![vec![batch(1), batch(2), batch(3)]]).unwrap();
        context.register_table("t", Arc::new(table)).unwrap();
        let body = Arc::new(|arguments: &[ColumnarValue]| {
            let values = ColumnarValue::values_to_arrays(arguments)?;
            assert!(!values[0].as_primitive::<Int64Type>().values().contains(&3), "three");
            Ok(ColumnarValue::Array(values[0].clone()))
        });
        let udf = create_udf("no_three", vec![DataType::Int64], DataType::Int64, Volatility::Volatile, body);
        context.register_udf(udf);
        context
    }

    #[tokio::test]
    async fn an_answer_that_broke_off_is_an_error() {
        let context = session();
        let whole =
            context.sql("SELECT no_three(n) FROM t WHERE n < 3").await.unwrap().collect().await.unwrap();
        assert_eq!(whole.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
        for sql in [
            "SELECT no_three(n) FROM t",
            "SELECT sum(no_three(n)) FROM t",
            "SELECT n FROM t ORDER BY no_three(n)",
        ] {
            let failure = context.sql(sql).await.unwrap().collect().await.unwrap_err();
            assert!(failure.to_string().contains("the statement broke off"), "{sql}: {failure}");
        }
    }
}
