//! The tables for PostgreSQL's clients: its protocol and catalog by datafusion-postgres. Each client has a session of its
//! own. Nothing can be changed.

use std::collections::HashMap;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ParamValues};
use datafusion::logical_expr::{
    ColumnarValue, EmptyRelation, LogicalPlan, ScalarUDF, Volatility, create_udf,
};
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{Set, SetExpr, Statement};
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::setup_pg_catalog;
use datafusion_postgres::hooks::HookClient;
use datafusion_postgres::hooks::set_show::SetShowHook;
use datafusion_postgres::hooks::transactions::TransactionStatementHook;
use datafusion_postgres::pgwire::api::auth::StartupHandler;
use datafusion_postgres::pgwire::api::auth::noop::NoopStartupHandler;
use datafusion_postgres::pgwire::api::cancel::CancelHandler;
use datafusion_postgres::pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use datafusion_postgres::pgwire::api::results::{Response, Tag};
use datafusion_postgres::pgwire::api::{ClientInfo, PgWireServerHandlers};
use datafusion_postgres::pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::cancel::CancelRequest;
use datafusion_postgres::pgwire::messages::startup::SecretKey;
use datafusion_postgres::pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use datafusion_postgres::pgwire::tokio::process_socket;
use datafusion_postgres::{DfSessionService, QueryHook};
use futures::Sink;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use super::bounds::Watch;
use super::context::{CATALOG, Engine};
use crate::shutdown::Shutdown;

mod cursors;

use cursors::Cursors;

/// A client that has not taken its answer so long after the statement's deadline is disconnected.
const GRACE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The server, bound to its address.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    engine: Engine,
    places: Arc<Semaphore>,
    clients: Arc<Clients>,
}

impl Server {
    pub async fn bind(address: SocketAddr, engine: Engine, max_clients: usize) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| anyhow::anyhow!("cannot listen on {address}: {error} (choose another port)"))?;
        let places = Arc::new(Semaphore::new(max_clients));
        Ok(Self { listener, engine, places, clients: Arc::default() })
    }

    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until shutdown is requested.
    pub async fn serve(self, shutdown: &Shutdown) {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = shutdown.requested() => return,
            };
            let (socket, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Such as too many open files: others may close theirs.
                    warn!("cannot accept a client: {error}");
                    tokio::time::sleep(LOOK_EVERY).await;
                    continue;
                }
            };
            let Ok(place) = self.places.clone().try_acquire_owned() else {
                warn!(%peer, "refused a client: --max-clients are connected");
                continue;
            };
            let (engine, clients, shutdown) = (self.engine.clone(), self.clients.clone(), shutdown.clone());
            tokio::spawn(async move {
                tokio::select! {
                    result = client(socket, &engine, clients) => match result {
                        Ok(()) => debug!(%peer, "client left"),
                        Err(error) => warn!(%peer, "client disconnected: {error:#}"),
                    },
                    () = shutdown.requested() => {}
                }
                drop(place);
            });
        }
    }
}

async fn client(socket: TcpStream, engine: &Engine, clients: Arc<Clients>) -> anyhow::Result<()> {
    socket.set_nodelay(true)?;
    let (context, watch) = engine.watched_context().await?;
    setup_pg_catalog(&context, CATALOG, EmptyContextProvider).map_err(|error| anyhow::anyhow!("{error}"))?;
    context.register_udf(version());
    context.register_udf(to_regtype());
    let hooks: Vec<Arc<dyn QueryHook>> = vec![
        Arc::new(ReadOnly),
        Arc::new(Cursors::default()),
        Arc::new(SetShowHook),
        Arc::new(TransactionStatementHook),
    ];
    let handlers = Handlers {
        service: Arc::new(DfSessionService::new_with_hooks(Arc::new(context), hooks)),
        startup: Arc::new(Startup { clients: clients.clone(), watch: watch.clone(), pid: Mutex::default() }),
        cancel: clients,
    };
    tokio::select! {
        result = process_socket(socket, None, Arc::new(handlers)) => Ok(result?),
        () = overdue(watch) => anyhow::bail!("it did not take its answer in time"),
    }
}

/// `version()` with the words by which drivers, such as SQLAlchemy's, know what the server can do: those of the PostgreSQL whose
/// catalog it has.
fn version() -> ScalarUDF {
    let text = format!("PostgreSQL 16.6 (iotctl {}, Apache DataFusion)", env!("CARGO_PKG_VERSION"));
    let answer = ColumnarValue::Scalar(ScalarValue::from(text));
    create_udf(
        "version",
        Vec::new(),
        DataType::Utf8,
        Volatility::Stable,
        Arc::new(move |_| Ok(answer.clone())),
    )
}

/// `to_regtype(name)`, by which psycopg asks for types of extensions (hstore), of which there are none.
fn to_regtype() -> ScalarUDF {
    let answer = ColumnarValue::Scalar(ScalarValue::Int32(None));
    let name = vec![DataType::Utf8];
    create_udf("to_regtype", name, DataType::Int32, Volatility::Stable, Arc::new(move |_| Ok(answer.clone())))
}

/// Resolves once a statement is still there long after its deadline: whoever takes rows gets its error before.
async fn overdue(watch: Watch) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if watch.deadline().is_some_and(|deadline| deadline.elapsed() > GRACE) {
            return;
        }
    }
}

struct Handlers {
    service: Arc<DfSessionService>,
    startup: Arc<Startup>,
    cancel: Arc<Clients>,
}

impl PgWireServerHandlers for Handlers {
    fn simple_query_handler(&self) -> Arc<impl SimpleQueryHandler> {
        self.service.clone()
    }

    fn extended_query_handler(&self) -> Arc<impl ExtendedQueryHandler> {
        self.service.clone()
    }

    fn startup_handler(&self) -> Arc<impl StartupHandler> {
        self.startup.clone()
    }

    fn cancel_handler(&self) -> Arc<impl CancelHandler> {
        self.cancel.clone()
    }
}

/// The clients that are connected, by the number and the key with which another connection may cancel their statement.
#[derive(Debug, Default)]
struct Clients(Mutex<HashMap<i32, (SecretKey, Watch)>>);

#[async_trait]
impl CancelHandler for Clients {
    async fn on_cancel_request(&self, request: CancelRequest) {
        let known = self.0.lock().expect("no panic while locked");
        if let Some((key, watch)) = known.get(&request.pid)
            && key.eq_value(&request.secret_key)
        {
            watch.cancel();
        }
    }
}

/// Every user of this machine may connect; `iotctl serve` listens on no other address.
struct Startup {
    clients: Arc<Clients>,
    watch: Watch,
    pid: Mutex<Option<i32>>,
}

#[async_trait]
impl NoopStartupHandler for Startup {
    async fn post_startup<C>(&self, client: &mut C, _: PgWireFrontendMessage) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let (pid, key) = client.pid_and_secret_key();
        *self.pid.lock().expect("no panic while locked") = Some(pid);
        self.clients.0.lock().expect("no panic while locked").insert(pid, (key, self.watch.clone()));
        Ok(())
    }
}

impl Drop for Startup {
    fn drop(&mut self) {
        if let Some(pid) = *self.pid.lock().expect("no panic while locked") {
            self.clients.0.lock().expect("no panic while locked").remove(&pid);
        }
    }
}

/// Refuses whatever does not only read.
struct ReadOnly;

/// What a statement is refused with, if it is.
fn refusal(statement: &Statement) -> Option<PgWireError> {
    (!only_reads(statement)).then(|| {
        let text = "this server only reads: SELECT, WITH, VALUES, EXPLAIN, SHOW, SET and cursors";
        let info = ErrorInfo::new("ERROR".to_owned(), "25006".to_owned(), text.to_owned());
        PgWireError::UserError(Box::new(info))
    })
}

fn only_reads(statement: &Statement) -> bool {
    match statement {
        Statement::Query(query) => {
            body_only_reads(&query.body)
                && query
                    .with
                    .as_ref()
                    .is_none_or(|with| with.cte_tables.iter().all(|table| body_only_reads(&table.query.body)))
        }
        Statement::Explain { statement, .. } => only_reads(statement),
        // Settings of DataFusion could lift the limits.
        Statement::Set(Set::SingleAssignment { variable, .. }) => {
            !variable.to_string().to_lowercase().starts_with("datafusion")
        }
        Statement::Set(_)
        | Statement::ExplainTable { .. }
        | Statement::ShowVariable { .. }
        | Statement::ShowStatus { .. }
        | Statement::ShowCatalogs { .. }
        | Statement::ShowTables { .. }
        | Statement::ShowColumns { .. }
        | Statement::StartTransaction { .. }
        | Statement::Commit { .. }
        | Statement::Rollback { .. }
        | Statement::Savepoint { .. }
        | Statement::ReleaseSavepoint { .. }
        | Statement::Declare { .. }
        | Statement::Fetch { .. }
        | Statement::Close { .. }
        | Statement::Discard { .. }
        | Statement::Deallocate { .. } => true,
        _ => false,
    }
}

fn body_only_reads(body: &SetExpr) -> bool {
    match body {
        SetExpr::Select(select) => select.into.is_none(),
        SetExpr::Query(query) => body_only_reads(&query.body),
        SetExpr::SetOperation { left, right, .. } => body_only_reads(left) && body_only_reads(right),
        SetExpr::Values(_) | SetExpr::Table(_) => true,
        _ => false,
    }
}

/// The answer to statements about savepoints, which drivers make around questions of their own: there is nothing to undo, and
/// going back to one ends the error of a transaction.
fn savepoint(statement: &Statement) -> Option<Response> {
    match statement {
        Statement::Savepoint { .. } => Some(Response::Execution(Tag::new("SAVEPOINT"))),
        Statement::ReleaseSavepoint { .. } => Some(Response::Execution(Tag::new("RELEASE"))),
        Statement::Rollback { savepoint: Some(_), .. } => {
            Some(Response::TransactionStart(Tag::new("ROLLBACK")))
        }
        _ => None,
    }
}

/// A plan for what a hook answers.
fn nothing() -> LogicalPlan {
    let schema = Arc::new(DFSchema::empty());
    LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema })
}

#[async_trait]
impl QueryHook for ReadOnly {
    async fn handle_simple_query(
        &self,
        statement: &Statement,
        _: &SessionContext,
        _: &mut dyn HookClient,
    ) -> Option<PgWireResult<Response>> {
        refusal(statement).map(Err).or_else(|| savepoint(statement).map(Ok))
    }

    async fn handle_extended_parse_query(
        &self,
        statement: &Statement,
        _: &SessionContext,
        _: &(dyn ClientInfo + Send + Sync),
    ) -> Option<PgWireResult<LogicalPlan>> {
        refusal(statement).map(Err).or_else(|| savepoint(statement).map(|_| Ok(nothing())))
    }

    async fn handle_extended_query(
        &self,
        statement: &Statement,
        _: &LogicalPlan,
        _: &ParamValues,
        _: &SessionContext,
        _: &mut dyn HookClient,
    ) -> Option<PgWireResult<Response>> {
        refusal(statement).map(Err).or_else(|| savepoint(statement).map(Ok))
    }
}

#[cfg(test)]
mod tests {
    use datafusion_postgres::datafusion_pg_catalog::sql::PostgresCompatibilityParser;

    use super::*;

    fn is_allowed(sql: &str) -> bool {
        let statements = PostgresCompatibilityParser::new().parse(sql).unwrap();
        assert_eq!(statements.len(), 1, "{sql}");
        only_reads(&statements[0])
    }

    #[test]
    fn statements_that_read_are_allowed_and_all_others_refused() {
        for sql in [
            "SELECT 1",
            "WITH a AS (SELECT 1) SELECT * FROM a",
            "EXPLAIN SELECT 1",
            "SHOW server_version",
            "SET statement_timeout = '5s'",
            "BEGIN",
            "COMMIT",
            "VALUES (1)",
        ] {
            assert!(is_allowed(sql), "{sql}");
        }
        for sql in [
            "CREATE TABLE t AS SELECT 1",
            "SELECT 1 AS a INTO t",
            "INSERT INTO readings VALUES (1)",
            "DELETE FROM readings",
            "UPDATE readings SET location = 'x'",
            "DROP TABLE readings",
            "EXPLAIN ANALYZE INSERT INTO readings VALUES (1)",
            "COPY readings TO '/tmp/x.csv'",
            "CREATE VIEW v AS SELECT 1",
            "SET datafusion.runtime.memory_limit = '10G'",
            "TRUNCATE readings",
        ] {
            assert!(!is_allowed(sql), "{sql}");
        }
    }
}
