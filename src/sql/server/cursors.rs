//! Cursors: `DECLARE … CURSOR FOR`, `FETCH` and `CLOSE`, as drivers send them to take a long answer in parts.
//!
//! Drivers describe a cursor before they fetch from it and ask for text or binary values in each `FETCH`, so the columns are
//! known from `DECLARE` on, and rows are encoded when they are fetched.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::common::{DFSchemaRef, ParamValues};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::{EmptyRelation, Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::{CloseCursor, Declare, DeclareType, FetchDirection, Statement, Value};
use datafusion_postgres::QueryHook;
use datafusion_postgres::arrow_pg::datatypes::df;
use datafusion_postgres::hooks::HookClient;
use datafusion_postgres::pgwire::api::portal::{Format, Portal};
use datafusion_postgres::pgwire::api::results::{Response, Tag};
use datafusion_postgres::pgwire::api::stmt::StoredStatement;
use datafusion_postgres::pgwire::api::store::PortalStore;
use datafusion_postgres::pgwire::api::{ClientInfo, DEFAULT_NAME};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::types::format::FormatOptions;
use futures::StreamExt;
use tokio::sync::Mutex;

use super::errors::{code, error, planning};
use super::prepared::folded;
use super::statements::nothing;

/// Open cursors of one client: each holds the memory of a scan.
const MOST: usize = 8;
/// Rows of one `FETCH`, which are in memory at once.
const MOST_ROWS: usize = 100_000;

/// The cursors of one client.
#[derive(Default)]
pub(super) struct Cursors {
    open: Mutex<HashMap<String, Cursor>>,
}

struct Cursor {
    columns: DFSchemaRef,
    rows: SendableRecordBatchStream,
    /// What is left of the batch that was begun.
    rest: Option<RecordBatch>,
    /// Whether it outlives its transaction.
    holds: bool,
}

/// A question that makes a table (`SELECT … INTO`) would make it when it is planned.
fn reading() -> SQLOptions {
    SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false)
}

/// The name and the question of a `DECLARE`.
fn declared(statements: &[Declare]) -> PgWireResult<(String, String, bool)> {
    let [declare] = statements else { return Err(error(code::SYNTAX, "one cursor at a time")) };
    match (declare.names.first(), &declare.for_query) {
        (Some(name), Some(question)) if declare.declare_type == Some(DeclareType::Cursor) => {
            Ok((folded(name), question.to_string(), declare.hold == Some(true)))
        }
        _ => Err(error(code::SYNTAX, "write DECLARE name CURSOR FOR SELECT …")),
    }
}

/// Rows that a `FETCH` asks for; `None` for all.
fn wanted(direction: &FetchDirection) -> PgWireResult<Option<usize>> {
    let number = |value: &Value| match value {
        Value::Number(text, _) => {
            text.parse().map_err(|_| error(code::WRONG_VALUE, format!("FETCH {text}: not a number of rows")))
        }
        other => Err(error(code::SYNTAX, format!("FETCH {other}: not a number of rows"))),
    };
    match direction {
        FetchDirection::Next | FetchDirection::Forward { limit: None } => Ok(Some(1)),
        FetchDirection::Forward { limit: Some(limit) } | FetchDirection::Count { limit } => {
            number(&limit.value).map(Some)
        }
        FetchDirection::ForwardAll | FetchDirection::All => Ok(None),
        _ => Err(error(code::NOT_IN_THIS_STATE, "cursors only go forward")),
    }
}

fn missing(name: &str) -> PgWireError {
    error(code::NO_SUCH_CURSOR, format!("cursor \"{name}\" does not exist"))
}

impl Cursor {
    async fn take(&mut self, wanted: Option<usize>) -> PgWireResult<Vec<RecordBatch>> {
        let too_many =
            || error(code::LIMIT, format!("a FETCH has at most {MOST_ROWS} rows (take them in parts)"));
        if wanted.is_some_and(|wanted| wanted > MOST_ROWS) {
            return Err(too_many());
        }
        // One more than are allowed shows that there are too many.
        let mut left = wanted.unwrap_or(MOST_ROWS + 1);
        let mut taken = Vec::new();
        while left > 0 {
            let batch = match self.rest.take() {
                Some(rest) => rest,
                None => match self.rows.next().await {
                    Some(batch) => batch.map_err(planning)?,
                    None => break,
                },
            };
            let here = batch.num_rows().min(left);
            left -= here;
            self.rest = (here < batch.num_rows()).then(|| batch.slice(here, batch.num_rows() - here));
            taken.push(batch.slice(0, here));
        }
        if wanted.is_none() && left == 0 {
            return Err(too_many());
        }
        Ok(taken)
    }
}

impl Cursors {
    async fn declare(
        &self,
        statements: &[Declare],
        parameters: Option<&ParamValues>,
        session: &SessionContext,
        client: &dyn HookClient,
    ) -> PgWireResult<Response> {
        let (name, question, holds) = declared(statements)?;
        let mut open = self.open.lock().await;
        if open.contains_key(&name) {
            return Err(error(code::CURSOR_EXISTS, format!("cursor \"{name}\" already exists")));
        }
        if open.len() >= MOST {
            return Err(error(code::LIMIT, format!("{MOST} cursors are open (close one)")));
        }
        let mut frame = session.sql_with_options(&question, reading()).await.map_err(planning)?;
        if let Some(parameters) = parameters {
            frame = frame.with_param_values(parameters.clone()).map_err(planning)?;
        }
        let plan = frame.logical_plan().clone();
        let columns = plan.schema().clone();
        let rows = frame.execute_stream().await.map_err(planning)?;
        open.insert(name.clone(), Cursor { columns, rows, rest: None, holds });
        // By which it is described.
        let statement = (question, Some((Statement::Declare { stmts: statements.to_vec() }, plan)));
        let stored = Arc::new(StoredStatement::new(name.clone(), statement, Vec::new()));
        client.portal_store().put_portal(Arc::new(Portal::new_cursor(name, stored)));
        Ok(Response::Execution(Tag::new("DECLARE CURSOR")))
    }

    async fn fetch(
        &self,
        (name, direction): (&str, &FetchDirection),
        format: &Format,
        session: &SessionContext,
        client: &dyn HookClient,
    ) -> PgWireResult<Response> {
        let wanted = wanted(direction)?;
        let mut open = self.open.lock().await;
        let cursor = open.get_mut(name).ok_or_else(|| missing(name))?;
        let mut taken = cursor.take(wanted).await?;
        if taken.is_empty() {
            taken.push(RecordBatch::new_empty(cursor.rows.schema()));
        }
        let frame = session.read_batches(taken).map_err(planning)?;
        let options = Arc::new(FormatOptions::from_client_metadata(client.metadata()));
        let mut answer = df::encode_dataframe(frame, format, Some(options)).await?;
        answer.set_command_tag("FETCH");
        Ok(Response::Query(answer))
    }

    /// Leaves out rows as a FETCH would take them.
    async fn skip(&self, name: &str, direction: &FetchDirection) -> PgWireResult<Response> {
        let wanted = wanted(direction)?;
        let mut open = self.open.lock().await;
        let cursor = open.get_mut(name).ok_or_else(|| missing(name))?;
        let mut left = wanted.unwrap_or(usize::MAX);
        let mut skipped = 0;
        // By portions, which are all that is in memory.
        while left > 0 {
            let taken = cursor.take(Some(left.min(MOST_ROWS))).await?;
            let rows = taken.iter().map(RecordBatch::num_rows).sum::<usize>();
            if rows == 0 {
                break;
            }
            skipped += rows;
            left -= rows;
        }
        Ok(Response::Execution(Tag::new("MOVE").with_rows(skipped)))
    }

    async fn close(&self, cursor: &CloseCursor, client: &dyn HookClient) -> PgWireResult<Response> {
        match cursor {
            CloseCursor::All => self.retain(client, |_| false).await,
            CloseCursor::Specific { name } => {
                let name = folded(name);
                if self.open.lock().await.remove(&name).is_none() {
                    return Err(missing(&name));
                }
                client.portal_store().rm_portal(&name);
            }
        }
        Ok(Response::Execution(Tag::new("CLOSE CURSOR")))
    }

    async fn retain(&self, client: &dyn HookClient, keeps: impl Fn(&Cursor) -> bool) {
        let mut open = self.open.lock().await;
        let names: Vec<String> =
            open.iter().filter(|(_, cursor)| !keeps(cursor)).map(|(name, _)| name.clone()).collect();
        for name in names {
            open.remove(&name);
            client.portal_store().rm_portal(&name);
        }
    }

    async fn answer(
        &self,
        statement: &Statement,
        parameters: Option<&ParamValues>,
        session: &SessionContext,
        client: &mut dyn HookClient,
    ) -> Option<PgWireResult<Response>> {
        match statement {
            Statement::Declare { stmts } => Some(self.declare(stmts, parameters, session, client).await),
            Statement::Fetch { name, direction, into: Some(_), .. } => {
                Some(self.skip(&folded(name), direction).await)
            }
            Statement::Fetch { name, direction, into: None, .. } => {
                // In the extended protocol the portal says how values are wanted.
                let format = match parameters {
                    Some(_) => format_of(statement, client),
                    None => Format::UnifiedText,
                };
                Some(self.fetch((&folded(name), direction), &format, session, client).await)
            }
            Statement::Close { cursor } => Some(self.close(cursor, client).await),
            // Not the end of a transaction, which others answer.
            Statement::Rollback { savepoint: Some(_), .. } => None,
            Statement::Commit { .. } | Statement::Rollback { .. } => {
                self.retain(client, |cursor| cursor.holds).await;
                None
            }
            Statement::Discard { .. } => {
                self.retain(client, |_| false).await;
                None
            }
            _ => None,
        }
    }
}

/// How the portal of a `FETCH` wants its values: drivers use the one without a name.
fn format_of(statement: &Statement, client: &dyn HookClient) -> Format {
    let portal = client.portal_store().get_portal(DEFAULT_NAME);
    let portal = portal.as_ref().and_then(|entry| entry.value());
    match portal {
        Some(portal) if portal.statement.statement.0 == statement.to_string() => {
            portal.result_column_format.clone()
        }
        _ => Format::UnifiedText,
    }
}

#[async_trait]
impl QueryHook for Cursors {
    async fn handle_simple_query(
        &self,
        statement: &Statement,
        session: &SessionContext,
        client: &mut dyn HookClient,
    ) -> Option<PgWireResult<Response>> {
        self.answer(statement, None, session, client).await
    }

    async fn handle_extended_parse_query(
        &self,
        statement: &Statement,
        session: &SessionContext,
        _: &(dyn ClientInfo + Send + Sync),
    ) -> Option<PgWireResult<LogicalPlan>> {
        match statement {
            // The parameters are those of the question, and there are no columns.
            Statement::Declare { stmts } => Some(
                async {
                    let (_, question, _) = declared(stmts)?;
                    let plan = session.state().create_logical_plan(&question).await.map_err(planning)?;
                    LogicalPlanBuilder::from(plan)
                        .project(Vec::<Expr>::new())
                        .and_then(LogicalPlanBuilder::build)
                        .map_err(planning)
                }
                .await,
            ),
            Statement::Fetch { into: Some(_), .. } => Some(Ok(nothing())),
            Statement::Fetch { name, .. } => {
                let name = folded(name);
                let schema = self.open.lock().await.get(&name).map(|cursor| cursor.columns.clone());
                let schema = schema.ok_or_else(|| missing(&name));
                Some(schema.map(|schema| {
                    LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema })
                }))
            }
            Statement::Close { .. } => Some(Ok(nothing())),
            _ => None,
        }
    }

    async fn handle_extended_query(
        &self,
        statement: &Statement,
        _: &LogicalPlan,
        parameters: &ParamValues,
        session: &SessionContext,
        client: &mut dyn HookClient,
    ) -> Option<PgWireResult<Response>> {
        self.answer(statement, Some(parameters), session, client).await
    }
}
