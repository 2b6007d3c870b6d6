//! Sessions of DataFusion with our tables and functions, in limited memory.

use std::sync::Arc;
use std::time::Duration;

use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider};
use datafusion::config::ConfigExtension as _;
use datafusion::error::Result;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder};
use datafusion::logical_expr::{LogicalPlan, Statement};
use datafusion::optimizer::{Analyzer, AnalyzerRule};
use datafusion::prelude::{SessionConfig, SessionContext};
use tokio::runtime::Runtime;
use tokio::task::AbortHandle;

use super::access::Access;
use super::bounds::{Bounds, Guard, Watch};
use super::depth;
use super::early_stop::EarlyStop;
use super::functions;
use super::gapfill::{self, Gaps};
use super::growth::Growth;
use super::like::Escapes;
use super::minutes::Minutes;
use super::rollups::{FromRollups, Settings};
use super::tables::{Kind, Sources, Table};
use super::whole::Whole;
use crate::analytics::metric_names;
use crate::cassandra::Session;
use crate::config::Config;
use crate::runtime;
use crate::store::groups;

/// The catalog and the schema of the tables, as PostgreSQL's clients know them.
pub(super) const CATALOG: &str = "iotctl";
pub(super) const SCHEMA: &str = "public";
/// Other metrics that become columns.
const MAX_METRIC_COLUMNS: usize = 300;

/// What all statements of a process share.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Memory for sorting, joining and grouping, in bytes; beyond it, they write to temporary files.
    pub memory: usize,
    /// Temporary files, in bytes.
    pub disk: u64,
    pub bounds: Bounds,
}

impl Default for Limits {
    fn default() -> Self {
        let bounds = Bounds { time: Duration::from_secs(300), rows: usize::MAX };
        Self { memory: 128 << 20, disk: 4 << 30, bounds }
    }
}

/// The threads that statements run on: not those that serve clients and wait for signals.
pub(super) struct Work {
    runtime: Option<Runtime>,
}

impl std::fmt::Debug for Work {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Work")
    }
}

impl Work {
    pub(super) fn start() -> Result<Arc<Self>> {
        let runtime = runtime::builder().thread_name("sql").build()?;
        Ok(Arc::new(Self { runtime: Some(runtime) }))
    }

    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let runtime = self.runtime.as_ref().expect("it is taken only when it is dropped");
        runtime.spawn(work).abort_handle()
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // A runtime must not be waited for within another one.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Makes sessions over one Cassandra session.
#[derive(Debug, Clone)]
pub struct Engine {
    sources: Arc<Sources>,
    limits: Limits,
    runtime: Arc<RuntimeEnv>,
    work: Arc<Work>,
}

impl Engine {
    pub fn new(session: Session, config: Config, limits: Limits) -> Result<Self> {
        let pool = TrackConsumersPool::new(FairSpillPool::new(limits.memory), MOST_CONSUMERS_NAMED);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(pool))
            .with_max_temp_directory_size(limits.disk)
            .build_arc()?;
        let sources = Arc::new(Sources { session, config, access: Access::All });
        Ok(Self { sources, limits, runtime, work: Work::start()? })
    }

    /// A session of its own, with the tables as they are now: its settings are no one else's.
    pub async fn context(&self) -> anyhow::Result<SessionContext> {
        let (context, _) = self.empty_context();
        self.fill(&context, Access::All).await?;
        Ok(context)
    }

    /// Memory that statements use now for sorting, joining and grouping, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.runtime.memory_pool.reserved()
    }

    /// A session without tables, which costs the servers nothing.
    pub(super) fn empty_context(&self) -> (SessionContext, Watch) {
        let mut config = session_config();
        config.options_mut().extensions.insert(Settings::default());
        let watch = Watch::new(self.limits.bounds.time);
        let guard = Guard { bounds: self.limits.bounds, work: self.work.clone(), watch: watch.clone() };
        let mut rules = Analyzer::new().rules;
        rules.splice(0..0, [Arc::new(Growth) as Arc<dyn AnalyzerRule + Send + Sync>, Arc::new(Whole)]);
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(self.runtime.clone())
            .with_default_features()
            .with_analyzer_rules(rules)
            .with_analyzer_rule(Arc::new(Minutes))
            .with_analyzer_rule(Arc::new(Escapes))
            .with_analyzer_rule(Arc::new(Gaps))
            .with_optimizer_rule(Arc::new(FromRollups))
            .with_physical_optimizer_rule(Arc::new(EarlyStop))
            .with_physical_optimizer_rule(Arc::new(guard))
            .build();
        let context = SessionContext::new_with_state(state);
        functions::register(&context);
        gapfill::register(&context);
        (context, watch)
    }

    /// Gives a session the tables, with what it may see of them.
    pub(super) async fn fill(&self, context: &SessionContext, access: Access) -> anyhow::Result<()> {
        let session = &self.sources.session;
        let groups =
            groups::groups(session).await?.into_iter().filter(|group| access.permits(&group.location));
        let groups = groups.map(Arc::new).collect::<Vec<_>>();
        let metrics = metric_names::other_metric_names(session, &groups).await?;
        let metrics: Vec<_> = metrics.into_iter().take(MAX_METRIC_COLUMNS).collect();
        let sources = match access {
            Access::All => self.sources.clone(),
            access @ Access::Only(_) => {
                Arc::new(Sources { session: session.clone(), config: self.sources.config.clone(), access })
            }
        };
        let tables = MemorySchemaProvider::new();
        for kind in Kind::ALL {
            let table = Table::new(kind, &sources, &metrics);
            tables.register_table(kind.name().to_owned(), Arc::new(table))?;
        }
        let catalog = MemoryCatalogProvider::new();
        catalog.register_schema(SCHEMA, Arc::new(tables))?;
        context.register_catalog(CATALOG, Arc::new(catalog));
        Ok(())
    }
}

/// How a session reads statements.
pub(super) fn session_config() -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_information_schema(true)
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_create_default_catalog_and_schema(false);
    config.options_mut().sql_parser.dialect = datafusion::config::Dialect::PostgreSQL;
    // Text of the tables is Utf8, and its literals are compared with it without a cast.
    config.options_mut().sql_parser.map_string_types_to_utf8view = false;
    // A cast to timestamptz has one.
    config.options_mut().execution.time_zone = Some("+00:00".to_owned());
    config
}

/// Operators that an error about memory names.
const MOST_CONSUMERS_NAMED: std::num::NonZeroUsize = std::num::NonZeroUsize::new(3).unwrap();

/// Runs one statement that only reads, or sets one of our own settings.
///
/// # Errors
/// What is wrong with the statement, or that it would change something.
pub async fn run(context: &SessionContext, statement: &str) -> Result<SendableRecordBatchStream> {
    depth::check(statement)?;
    let plan = context.state().create_logical_plan(statement).await?;
    let is_ours =
        matches!(&plan, LogicalPlan::Statement(Statement::SetVariable(set)) if is_ours(&set.variable));
    let reading =
        SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(is_ours);
    reading.verify_plan(&plan)?;
    context.execute_logical_plan(plan).await?.execute_stream().await
}

/// Settings of DataFusion could lift the limits.
fn is_ours(setting: &str) -> bool {
    setting.strip_prefix(Settings::PREFIX).is_some_and(|rest| rest.starts_with('.'))
}

/// Whether aggregates of a session may be answered from rollups.
pub fn use_rollups(context: &SessionContext, are_used: bool) {
    let state = context.state_ref();
    let mut state = state.write();
    state.config_mut().options_mut().extensions.insert(Settings { rollups: are_used, ..Settings::default() });
}

/// The names of tables and their columns.
pub async fn names(context: &SessionContext) -> Vec<String> {
    let Some(schema) = context.catalog(CATALOG).and_then(|catalog| catalog.schema(SCHEMA)) else {
        return Vec::new();
    };
    let mut names = schema.table_names();
    for table in names.clone() {
        if let Ok(Some(table)) = schema.table(&table).await {
            names.extend(table.schema().fields().iter().map(|field| field.name().clone()));
        }
    }
    names
}
