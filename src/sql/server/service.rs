//! The statements of a client on their way to datafusion-postgres: in other words where DataFusion needs them, and with an end to
//! planning too, when the client cancels or the time is over.

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::sql::sqlparser::ast;
use datafusion_postgres::DfSessionService;
use datafusion_postgres::datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use datafusion_postgres::pgwire::api::portal::{Format, Portal};
use datafusion_postgres::pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use datafusion_postgres::pgwire::api::results::{FieldInfo, Response};
use datafusion_postgres::pgwire::api::stmt::QueryParser;
use datafusion_postgres::pgwire::api::store::PortalStore;
use datafusion_postgres::pgwire::api::{ClientInfo, ClientPortalStore, Type};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::PgWireBackendMessage;
use futures::Sink;

use super::parameters;
use super::rewrite::rewritten;
use crate::sql::bounds::Watch;
use crate::sql::depth;

/// What the statements of the protocol are to datafusion-postgres.
pub(super) type Statement = <DfSessionService as ExtendedQueryHandler>::Statement;
type TheirParser = <DfSessionService as ExtendedQueryHandler>::QueryParser;

/// Puts statements into other words, but for those that datafusion-postgres has an answer of its own for.
struct Words(PostgresCompatibilityParser);

impl Words {
    fn of<'a>(&self, sql: &'a str) -> Cow<'a, str> {
        match self.is_answered(sql) {
            true => Cow::Borrowed(sql),
            false => rewritten(sql),
        }
    }

    /// Whether it replaces a whole statement with one that has no table and no rows.
    fn is_answered(&self, sql: &str) -> bool {
        sql.contains("pg_") && self.0.parse(sql).is_ok_and(|statements| statements.iter().any(has_no_rows))
    }
}

fn has_no_rows(statement: &ast::Statement) -> bool {
    let ast::Statement::Query(query) = statement else { return false };
    let ast::SetExpr::Select(select) = &*query.body else { return false };
    let is_false = |value: &ast::ValueWithSpan| value.value == ast::Value::Boolean(false);
    select.from.is_empty() && matches!(&select.selection, Some(ast::Expr::Value(value)) if is_false(value))
}

pub(super) struct Service {
    words: Arc<Words>,
    theirs: Arc<DfSessionService>,
    parser: Arc<Parser>,
    watch: Watch,
}

impl Service {
    pub(super) fn new(theirs: DfSessionService, watch: Watch) -> Self {
        let words = Arc::new(Words(PostgresCompatibilityParser::new()));
        let parser = Parser { words: words.clone(), theirs: theirs.query_parser(), watch: watch.clone() };
        Self { words, theirs: Arc::new(theirs), parser: Arc::new(parser), watch }
    }
}

/// Before anything else is made of a statement.
fn refuse_deep(sql: &str) -> PgWireResult<()> {
    depth::check(sql).map_err(|error| PgWireError::ApiError(Box::new(error)))
}

/// The end of the work, unless the client cancels it or its time is over.
async fn unless_stopped<T>(watch: &Watch, work: impl Future<Output = PgWireResult<T>>) -> PgWireResult<T> {
    tokio::select! {
        done = work => done,
        stopped = watch.stopped() => Err(PgWireError::ApiError(Box::new(stopped))),
    }
}

#[async_trait]
impl SimpleQueryHandler for Service {
    async fn do_query<C>(&self, client: &mut C, query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        refuse_deep(query)?;
        let query = self.words.of(query);
        unless_stopped(&self.watch, SimpleQueryHandler::do_query(&*self.theirs, client, &query)).await
    }
}

#[async_trait]
impl ExtendedQueryHandler for Service {
    type Statement = Statement;
    type QueryParser = Parser;

    fn query_parser(&self) -> Arc<Parser> {
        self.parser.clone()
    }

    async fn do_query<C>(
        &self,
        client: &mut C,
        portal: &Portal<Self::Statement>,
        max_rows: usize,
    ) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let changed = parameters::understood(portal);
        let portal = changed.as_ref().unwrap_or(portal);
        let work = ExtendedQueryHandler::do_query(&*self.theirs, client, portal, max_rows);
        unless_stopped(&self.watch, work).await
    }
}

pub(super) struct Parser {
    words: Arc<Words>,
    theirs: Arc<TheirParser>,
    watch: Watch,
}

#[async_trait]
impl QueryParser for Parser {
    type Statement = Statement;

    async fn parse_sql<C>(
        &self,
        client: &C,
        sql: &str,
        types: &[Option<Type>],
    ) -> PgWireResult<Option<Self::Statement>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        refuse_deep(sql)?;
        let sql = parameters::typed(self.words.of(sql), types);
        unless_stopped(&self.watch, self.theirs.parse_sql(client, &sql, types)).await
    }

    fn get_parameter_types(&self, statement: &Self::Statement) -> PgWireResult<Vec<Type>> {
        self.theirs.get_parameter_types(statement)
    }

    fn get_result_schema(
        &self,
        statement: &Self::Statement,
        format: Option<&Format>,
    ) -> PgWireResult<Vec<FieldInfo>> {
        self.theirs.get_result_schema(statement, format)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sql::bounds::Stopped;

    async fn never_planned(watch: &Watch) -> Stopped {
        let planning = std::future::pending::<PgWireResult<()>>();
        match unless_stopped(watch, planning).await {
            Err(PgWireError::ApiError(error)) => *error.downcast::<Stopped>().unwrap(),
            _ => panic!("it was not stopped"),
        }
    }

    #[tokio::test]
    async fn planning_ends_at_a_cancel_and_when_its_time_is_over() {
        let watch = Watch::new(Duration::from_secs(3_600));
        let cancel = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            watch.cancel();
        };
        let (stopped, ()) = tokio::join!(never_planned(&watch), cancel);
        assert_eq!(stopped, Stopped::Cancelled);
        // A cancel that came before is not for the next statement.
        watch.limit_time(Some(Duration::from_millis(20)));
        assert_eq!(never_planned(&watch).await, Stopped::Late(Duration::from_millis(20)));
        assert_eq!(unless_stopped(&watch, async { Ok(5) }).await.unwrap(), 5);
    }

    #[test]
    fn what_datafusion_postgres_answers_itself_keeps_its_words() {
        let words = Words(PostgresCompatibilityParser::new());
        let policies = "SELECT n.nspname schema_name,\n t.typname type_name\n FROM   pg_catalog.pg_type t";
        assert!(!words.is_answered(policies));
        assert!(!words.is_answered("select relname from pg_class where false"));
        assert_eq!(words.of("SELECT count(*) FROM pg_class"), "SELECT count(*) AS \"count\" FROM pg_class");
        let sizes = "select c.oid,pg_catalog.pg_total_relation_size(c.oid) as total_rel_size,\
                     pg_catalog.pg_relation_size(c.oid) as rel_size FROM pg_class c WHERE c.relnamespace='public'";
        assert!(words.is_answered(sizes));
    }
}
