//! Statements that are not questions: what changes anything is refused, and what belongs to the session is answered here.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::common::{DFSchema, ParamValues};
use datafusion::logical_expr::{EmptyRelation, LogicalPlan};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as DataFusionStatement;
use datafusion::sql::sqlparser::ast::{CopySource, Expr, Ident, ObjectName, Reset, Set, SetExpr, Statement};
use datafusion_postgres::QueryHook;
use datafusion_postgres::arrow_pg::datatypes::df;
use datafusion_postgres::hooks::HookClient;
use datafusion_postgres::pgwire::api::ClientInfo;
use datafusion_postgres::pgwire::api::portal::Format;
use datafusion_postgres::pgwire::api::results::{Response, Tag};
use datafusion_postgres::pgwire::api::store::PortalStore;
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::response::TransactionStatus;
use datafusion_postgres::pgwire::types::format::FormatOptions;

use super::copy;
use super::errors::{code, error, fatal, planning};
use super::prepared::{PreparedStatements, folded, not_there};
use super::rewrite::catalog;
use super::seat::Seat;
use crate::sql::bounds::Watch;

/// Comes before all other hooks.
pub(super) struct Statements {
    pub(super) seat: Arc<Seat>,
    pub(super) watch: Watch,
    pub(super) prepared: PreparedStatements,
}

/// What a statement is refused with, if it is.
fn refusal(statement: &Statement) -> Option<PgWireError> {
    (!only_reads(statement)).then(|| {
        error(
            code::READ_ONLY,
            "this server only reads: SELECT, WITH, VALUES, EXPLAIN, SHOW, SET, COPY … TO STDOUT and cursors",
        )
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
        Statement::Explain { statement, .. } | Statement::Prepare { statement, .. } => only_reads(statement),
        Statement::Copy { source: CopySource::Query(query), .. } => {
            copy::is_to_client(statement) && body_only_reads(&query.body)
        }
        Statement::Copy { .. } => copy::is_to_client(statement),
        // What a MOVE leaves out goes nowhere; there is nothing else that rows could go into.
        Statement::Fetch { into, .. } => {
            into.as_ref().is_none_or(|into| into.to_string() == super::rewrite::fetch::MOVED)
        }
        // Settings of DataFusion could lift the limits.
        Statement::Set(Set::SingleAssignment { variable, .. }) => !is_datafusions(variable),
        Statement::Reset(reset) => match &reset.reset {
            Reset::ALL => true,
            Reset::ConfigurationParameter(name) => !is_datafusions(name),
        },
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
        | Statement::Close { .. }
        | Statement::Discard { .. }
        | Statement::Deallocate { .. }
        | Statement::Execute { .. }
        | Statement::UNLISTEN { .. } => true,
        _ => false,
    }
}

fn is_datafusions(variable: &ObjectName) -> bool {
    variable.to_string().trim_start_matches('"').to_lowercase().starts_with("datafusion")
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

/// A plan for what is answered without one.
pub(super) fn nothing() -> LogicalPlan {
    let schema = Arc::new(DFSchema::empty());
    LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema })
}

/// The time of a `SET statement_timeout`: a number of milliseconds, or with a unit; 0 is none.
fn timeout(value: &str) -> PgWireResult<Option<Duration>> {
    let value = value.trim().trim_matches(['\'', '"']).trim();
    let digits = value.find(|character: char| !character.is_ascii_digit()).unwrap_or(value.len());
    let (number, unit) = value.split_at(digits);
    let milliseconds = match unit.trim() {
        "" | "ms" => Some(1),
        "s" => Some(1_000),
        "min" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        _ => None,
    };
    let time =
        number.parse::<u64>().ok().zip(milliseconds).and_then(|(number, unit)| number.checked_mul(unit));
    match time {
        Some(0) => Ok(None),
        Some(time) => Ok(Some(Duration::from_millis(time))),
        None if value.eq_ignore_ascii_case("default") => Ok(None),
        None => Err(error(
            code::WRONG_VALUE,
            format!("invalid value for statement_timeout: {value} (write 5000, 5s or 1min)"),
        )),
    }
}

/// Runs a statement of the simple protocol.
async fn rows(
    statement: &Statement,
    context: &SessionContext,
    client: &mut dyn HookClient,
) -> PgWireResult<Response> {
    let frame = context.sql(&statement.to_string()).await.map_err(planning)?;
    let formats = Arc::new(FormatOptions::from_client_metadata(client.metadata()));
    Ok(Response::Query(df::encode_dataframe(frame, &Format::UnifiedText, Some(formats)).await?))
}

/// The plan of another statement than the client's, for the extended protocol.
async fn plan_of(statement: Statement, context: &SessionContext) -> PgWireResult<LogicalPlan> {
    let statement = DataFusionStatement::Statement(Box::new(statement));
    context.state().statement_to_plan(statement).await.map_err(planning)
}

impl Statements {
    fn check(&self, statement: &Statement) -> PgWireResult<()> {
        if !self.seat.is_taken() {
            return Err(fatal(code::NOT_AUTHORISED, "log in first"));
        }
        match refusal(statement) {
            Some(refused) => Err(refused),
            None => Ok(()),
        }
    }

    /// The answer to a statement that is not left to DataFusion and the other hooks.
    async fn answer(
        &self,
        statement: &Statement,
        context: &SessionContext,
        client: &mut dyn HookClient,
    ) -> PgWireResult<Option<Response>> {
        self.check(statement)?;
        if let Some(response) = savepoint(statement) {
            return Ok(Some(response));
        }
        // The hook of transactions has the error for it.
        if client.transaction_status() == TransactionStatus::Error {
            return Ok(None);
        }
        let tag = match statement {
            Statement::Set(Set::SingleAssignment { variable, values, .. }) => {
                if variable.to_string().eq_ignore_ascii_case("statement_timeout") {
                    let value = values.first().map(ToString::to_string).unwrap_or_default();
                    self.watch.limit_time(timeout(&value)?);
                }
                return Ok(None);
            }
            Statement::Copy { .. } => return copy::copy(statement, context, client).await.map(Some),
            Statement::Prepare { name, data_types, statement } => {
                self.prepare(name, data_types, statement, context).await?;
                "PREPARE"
            }
            Statement::Execute { .. } => return self.execute(statement, context, client).await.map(Some),
            Statement::Deallocate { name, .. } => {
                self.deallocate(name, client)?;
                "DEALLOCATE"
            }
            Statement::Reset(reset) => {
                match &reset.reset {
                    Reset::ALL => self.reset(client),
                    Reset::ConfigurationParameter(name) => self.reset_one(&name.to_string(), client),
                }
                "RESET"
            }
            Statement::Discard { .. } => {
                self.reset(client);
                self.prepared.clear();
                "DISCARD ALL"
            }
            Statement::UNLISTEN { .. } => "UNLISTEN",
            _ => match catalog::simplified(statement) {
                Some(simpler) => return rows(&simpler, context, client).await.map(Some),
                None => return Ok(None),
            },
        };
        Ok(Some(Response::Execution(Tag::new(tag))))
    }

    async fn prepare(
        &self,
        name: &Ident,
        types: &[datafusion::sql::sqlparser::ast::DataType],
        statement: &Statement,
        context: &SessionContext,
    ) -> PgWireResult<()> {
        // What is wrong with it is said now.
        plan_of(statement.clone(), context).await?;
        self.prepared.add(name, types, statement)
    }

    fn filled(&self, statement: &Statement) -> PgWireResult<Statement> {
        let Statement::Execute { name: Some(name), parameters, .. } = statement else {
            return Err(error(code::SYNTAX, "EXECUTE needs the name of a prepared statement"));
        };
        let name = name.0.last().and_then(|part| part.as_ident()).map(folded).unwrap_or_default();
        let values: Vec<Expr> = parameters.clone();
        self.prepared.filled(&name, &values)
    }

    async fn execute(
        &self,
        statement: &Statement,
        context: &SessionContext,
        client: &mut dyn HookClient,
    ) -> PgWireResult<Response> {
        rows(&self.filled(statement)?, context, client).await
    }

    /// Of SQL's prepared statements and those of the protocol, which have one space of names.
    fn deallocate(&self, name: &Ident, client: &mut dyn HookClient) -> PgWireResult<()> {
        if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("all") {
            self.prepared.clear();
            return Ok(());
        }
        let name = folded(name);
        let store = client.portal_store();
        let was_there = store.get_statement(&name).is_some();
        store.rm_statement(&name);
        match self.prepared.remove(&name) || was_there {
            true => Ok(()),
            false => Err(not_there(&name)),
        }
    }

    fn reset(&self, client: &mut dyn HookClient) {
        for name in ["statement_timeout", "timezone", "datestyle", "intervalstyle", "search_path"] {
            self.reset_one(name, client);
        }
    }

    fn reset_one(&self, name: &str, client: &mut dyn HookClient) {
        let name = name.to_lowercase();
        if name == "statement_timeout" {
            self.watch.limit_time(None);
            client.metadata_mut().remove("statement_timeout_ms");
        }
        client.metadata_mut().remove(&name);
    }
}

#[async_trait]
impl QueryHook for Statements {
    async fn handle_simple_query(
        &self,
        statement: &Statement,
        context: &SessionContext,
        client: &mut dyn HookClient,
    ) -> Option<PgWireResult<Response>> {
        self.answer(statement, context, client).await.transpose()
    }

    async fn handle_extended_parse_query(
        &self,
        statement: &Statement,
        context: &SessionContext,
        _: &(dyn ClientInfo + Send + Sync),
    ) -> Option<PgWireResult<LogicalPlan>> {
        if let Err(refused) = self.check(statement) {
            return Some(Err(refused));
        }
        match statement {
            // Its columns are described before it runs.
            Statement::Execute { .. } => match self.filled(statement) {
                Ok(filled) => Some(plan_of(filled, context).await),
                Err(error) => Some(Err(error)),
            },
            Statement::Query(_) => match catalog::simplified(statement) {
                Some(simpler) => Some(plan_of(simpler, context).await),
                None => None,
            },
            Statement::Copy { .. }
            | Statement::Prepare { .. }
            | Statement::Deallocate { .. }
            | Statement::Reset(_)
            | Statement::Discard { .. }
            | Statement::UNLISTEN { .. } => Some(Ok(nothing())),
            _ => savepoint(statement).map(|_| Ok(nothing())),
        }
    }

    async fn handle_extended_query(
        &self,
        statement: &Statement,
        _: &LogicalPlan,
        _: &ParamValues,
        context: &SessionContext,
        client: &mut dyn HookClient,
    ) -> Option<PgWireResult<Response>> {
        match statement {
            // They have the plan of another statement already.
            Statement::Execute { .. } | Statement::Query(_) => None,
            _ => self.answer(statement, context, client).await.transpose(),
        }
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
            "COPY (SELECT 1) TO STDOUT",
            "COPY readings TO STDOUT WITH CSV HEADER",
            "PREPARE a AS SELECT 1",
            "EXECUTE a (1)",
            "DEALLOCATE ALL",
            "DISCARD ALL",
            "RESET ALL",
            "RESET statement_timeout",
            "UNLISTEN *",
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
            "COPY readings TO PROGRAM 'sh'",
            "COPY readings FROM STDIN",
            "COPY (SELECT 1 AS a INTO t) TO STDOUT",
            "PREPARE a AS DELETE FROM readings",
            "CREATE VIEW v AS SELECT 1",
            "SET datafusion.runtime.memory_limit = '10G'",
            "SET \"datafusion\".runtime.memory_limit = '10G'",
            "RESET datafusion.runtime.memory_limit",
            "TRUNCATE readings",
            "LISTEN x",
        ] {
            assert!(!is_allowed(sql), "{sql}");
        }
    }

    #[test]
    fn a_timeout_is_milliseconds_or_has_a_unit() {
        for (text, expected) in [
            ("'5s'", Some(5_000)),
            ("5000", Some(5_000)),
            ("'250 ms'", Some(250)),
            ("'1min'", Some(60_000)),
            ("0", None),
            ("DEFAULT", None),
        ] {
            assert_eq!(timeout(text).unwrap(), expected.map(Duration::from_millis), "{text}");
        }
        for text in ["'soon'", "'5 parsecs'", "-1", "''", "99999999999999999999"] {
            assert!(timeout(text).is_err(), "{text}");
        }
    }
}
