//! Errors as PostgreSQL's clients know them: each with its SQLSTATE.

use std::sync::Arc;

use datafusion::arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion_postgres::pgwire::api::{ClientInfo, ErrorHandler};
use datafusion_postgres::pgwire::error::{ErrorInfo, PgWireError};
use tracing::debug;

use super::metrics::ServeMetrics;
use super::seat::Seat;
use crate::sql::bounds::{Broken, Stopped};
use crate::sql::depth::Refused;
use crate::sql::functions::sizes::TooLarge;
use crate::sql::growth::TooFar;

pub(super) mod code {
    pub(in super::super) const PROTOCOL: &str = "08P01";
    pub(in super::super) const NOT_SUPPORTED: &str = "0A000";
    pub(in super::super) const WRONG_VALUE: &str = "22023";
    pub(in super::super) const WRONG_TEXT: &str = "22P02";
    pub(in super::super) const NUMBER_TOO_LARGE: &str = "22003";
    pub(in super::super) const DIVISION_BY_ZERO: &str = "22012";
    pub(in super::super) const READ_ONLY: &str = "25006";
    pub(in super::super) const FAILED_TRANSACTION: &str = "25P02";
    pub(in super::super) const NO_SUCH_STATEMENT: &str = "26000";
    pub(in super::super) const NOT_AUTHORISED: &str = "28000";
    pub(in super::super) const WRONG_PASSWORD: &str = "28P01";
    pub(in super::super) const NO_SUCH_CURSOR: &str = "34000";
    pub(in super::super) const CURSOR_EXISTS: &str = "42P03";
    pub(in super::super) const NOT_IN_THIS_STATE: &str = "55000";
    pub(in super::super) const SYNTAX: &str = "42601";
    pub(in super::super) const AMBIGUOUS_COLUMN: &str = "42702";
    pub(in super::super) const NO_SUCH_COLUMN: &str = "42703";
    pub(in super::super) const GROUPING: &str = "42803";
    pub(in super::super) const WRONG_TYPE: &str = "42804";
    pub(in super::super) const NO_SUCH_FUNCTION: &str = "42883";
    pub(in super::super) const NO_SUCH_TABLE: &str = "42P01";
    pub(in super::super) const OUT_OF_MEMORY: &str = "53200";
    pub(in super::super) const TOO_MANY_CLIENTS: &str = "53300";
    pub(in super::super) const LIMIT: &str = "53400";
    pub(in super::super) const TOO_LARGE: &str = "54000";
    pub(in super::super) const TOO_DEEP: &str = "54001";
    pub(in super::super) const CANCELLED: &str = "57014";
    pub(in super::super) const NOT_NOW: &str = "57P03";
    pub(in super::super) const SERVERS: &str = "58000";
    pub(in super::super) const INTERNAL: &str = "XX000";
}

/// An error after which the connection goes on.
pub(super) fn error(code: &str, text: impl Into<String>) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("ERROR".to_owned(), code.to_owned(), text.into())))
}

/// An error that ends the connection.
pub(super) fn fatal(code: &str, text: impl Into<String>) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("FATAL".to_owned(), code.to_owned(), text.into())))
}

/// An error of DataFusion, which [`Errors`] gives its SQLSTATE.
pub(super) fn planning(error: DataFusionError) -> PgWireError {
    PgWireError::ApiError(Box::new(error))
}

/// Gives each error its SQLSTATE, and ends connections that have not logged in.
#[derive(Debug)]
pub(super) struct Errors {
    pub(super) seat: Arc<Seat>,
    pub(super) metrics: ServeMetrics,
}

impl ErrorHandler for Errors {
    fn on_error<C: ClientInfo>(&self, client: &C, error: &mut PgWireError) {
        let taken = std::mem::replace(error, PgWireError::QueryCanceled);
        let mut info: ErrorInfo = match taken {
            PgWireError::ApiError(inner) => {
                let (code, text) = described(&*inner);
                ErrorInfo::new("ERROR".to_owned(), code.to_owned(), text)
            }
            other => other.into(),
        };
        // PostgreSQL's own code for what the hook of transactions says.
        if info.code == "25P01" && info.message.starts_with("current transaction is aborted") {
            code::FAILED_TRANSACTION.clone_into(&mut info.code);
        }
        // The connection would go on as if it had logged in.
        if !self.seat.is_taken() {
            info.severity = "FATAL".to_owned();
        }
        self.metrics.error(&info.code);
        debug!(peer = %client.socket_addr(), code = info.code, "{}", info.message);
        *error = PgWireError::UserError(Box::new(info));
    }
}

/// The SQLSTATE and the text of an error.
fn described(error: &(dyn std::error::Error + 'static)) -> (&'static str, String) {
    if let Some(error) = error.downcast_ref::<DataFusionError>() {
        return of_datafusion(error);
    }
    if let Some(error) = error.downcast_ref::<ParserError>() {
        return (of_parser(error), parser_text(error));
    }
    if let Some(stopped) = error.downcast_ref::<Stopped>() {
        return (of_stopped(*stopped), stopped.to_string());
    }
    if let Some(refused) = error.downcast_ref::<Refused>() {
        let code = match refused {
            Refused::TooDeep | Refused::TooManyTables => code::TOO_DEEP,
            Refused::Sample => code::NOT_SUPPORTED,
        };
        return (code, refused.to_string());
    }
    if error.is::<TooFar>() {
        return (code::TOO_DEEP, error.to_string());
    }
    if error.is::<TooLarge>() {
        return (code::TOO_LARGE, error.to_string());
    }
    if let Some(error) = error.downcast_ref::<ArrowError>() {
        return (of_arrow(error), error.to_string());
    }
    (code::INTERNAL, error.to_string())
}

fn of_datafusion(error: &DataFusionError) -> (&'static str, String) {
    match error {
        DataFusionError::SQL(inner, _) => (of_parser(inner), parser_text(inner)),
        DataFusionError::Plan(text) => (of_plan(text), text.clone()),
        DataFusionError::SchemaError(inner, _) => {
            let code = match &**inner {
                SchemaError::FieldNotFound { .. } => code::NO_SUCH_COLUMN,
                _ => code::AMBIGUOUS_COLUMN,
            };
            (code, inner.to_string())
        }
        DataFusionError::NotImplemented(text) => (code::NOT_SUPPORTED, text.clone()),
        DataFusionError::Configuration(text) => (code::WRONG_VALUE, text.clone()),
        DataFusionError::ResourcesExhausted(text) => {
            (code::OUT_OF_MEMORY, format!("{text} (narrow the statement, or raise --memory)"))
        }
        DataFusionError::ArrowError(inner, _) => (of_arrow(inner), inner.to_string()),
        DataFusionError::Execution(text) => (of_execution(text), text.clone()),
        DataFusionError::Diagnostic(_, inner) | DataFusionError::Context(_, inner) => of_datafusion(inner),
        DataFusionError::Shared(inner) => of_datafusion(inner),
        DataFusionError::Collection(all) => match all.first() {
            Some(first) => of_datafusion(first),
            None => (code::INTERNAL, error.to_string()),
        },
        DataFusionError::External(inner) if inner.is::<Broken>() => (code::INTERNAL, inner.to_string()),
        DataFusionError::External(inner) => match described(&**inner) {
            // Cassandra's and Kafka's, with the remedy in their text.
            (code::INTERNAL, _) => (code::SERVERS, chain(&**inner)),
            known => known,
        },
        other => (code::INTERNAL, other.strip_backtrace()),
    }
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

fn of_stopped(stopped: Stopped) -> &'static str {
    match stopped {
        Stopped::Cancelled | Stopped::Late(_) => code::CANCELLED,
        Stopped::TooManyRows(_) => code::LIMIT,
    }
}

fn of_parser(error: &ParserError) -> &'static str {
    match error {
        ParserError::RecursionLimitExceeded => code::TOO_DEEP,
        _ => code::SYNTAX,
    }
}

fn parser_text(error: &ParserError) -> String {
    match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => format!("syntax error: {text}"),
        ParserError::RecursionLimitExceeded => "the statement is nested too deeply".to_owned(),
    }
}

/// DataFusion has no kinds of errors of planning: they are known by their texts, which tests hold.
fn of_plan(text: &str) -> &'static str {
    let has = |part: &str| text.contains(part);
    if has("table '") && has("not found") || has("failed to resolve schema") {
        code::NO_SUCH_TABLE
    } else if has("Invalid function")
        || has("No function matches")
        || has("Table function")
        || has("does not support zero")
    {
        code::NO_SUCH_FUNCTION
    } else if has("No field named") {
        code::NO_SUCH_COLUMN
    } else if has("GROUP BY") {
        code::GROUPING
    } else if has("Cannot coerce") || has("Cannot infer common argument type") || has("incompatible types") {
        code::WRONG_TYPE
    } else if has("Prepared statement") {
        code::NO_SUCH_STATEMENT
    } else {
        code::SYNTAX
    }
}

fn of_arrow(error: &ArrowError) -> &'static str {
    match error {
        ArrowError::CastError(_) | ArrowError::ParseError(_) => code::WRONG_TEXT,
        ArrowError::DivideByZero => code::DIVISION_BY_ZERO,
        ArrowError::ArithmeticOverflow(_) => code::NUMBER_TOO_LARGE,
        ArrowError::NotYetImplemented(_) => code::NOT_SUPPORTED,
        ArrowError::ComputeError(text) => of_execution(text),
        ArrowError::MemoryError(_) => code::OUT_OF_MEMORY,
        ArrowError::ExternalError(inner) => match described(&**inner) {
            (code, _) if code != code::INTERNAL => code,
            _ => code::SERVERS,
        },
        _ => code::INTERNAL,
    }
}

fn of_execution(text: &str) -> &'static str {
    let lower = text.to_lowercase();
    let has = |part: &str| lower.contains(part);
    if has("prepared statement") && has("not exist") {
        code::NO_SUCH_STATEMENT
    } else if has("parse") || has("cannot cast") || has("parsing timestamp") {
        code::WRONG_TEXT
    } else if has("unsupported date_trunc") || has("of a negative number") {
        code::WRONG_VALUE
    } else {
        code::INTERNAL
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use datafusion::prelude::SessionContext;

    use super::*;

    #[tokio::test]
    async fn errors_have_the_codes_that_clients_branch_on() {
        let context = SessionContext::new();
        context.sql("SET datafusion.sql_parser.dialect = 'postgresql'").await.unwrap();
        for (sql, expected) in [
            ("SELEC 1", code::SYNTAX),
            ("SELECT 'a", code::SYNTAX),
            ("SELECT * FROM nothing", code::NO_SUCH_TABLE),
            ("SELECT * FROM a.b.c", code::NO_SUCH_TABLE),
            ("SELECT x FROM (SELECT 1 AS y) t", code::NO_SUCH_COLUMN),
            ("SELECT y FROM (SELECT 1 AS y) a, (SELECT 1 AS y) b", code::AMBIGUOUS_COLUMN),
            ("SELECT nothing(1)", code::NO_SUCH_FUNCTION),
            ("SELECT sqrt('a', 'b')", code::NO_SUCH_FUNCTION),
            ("SELECT x, count(*) FROM (SELECT 1 AS x, 2 AS y) GROUP BY y", code::GROUPING),
            ("SELECT 'a'::int", code::WRONG_TEXT),
            ("SELECT CAST('2026-13-01' AS timestamp)", code::WRONG_TEXT),
            ("SELECT 1 / (SELECT 0)", code::DIVISION_BY_ZERO),
            ("SELECT sqrt(-1)", code::WRONG_VALUE),
            ("SELECT date_trunc('fortnight', now())", code::WRONG_VALUE),
            ("SELECT 9223372036854775807 + x FROM (SELECT 1::bigint AS x)", "no error, or too large"),
            ("EXECUTE nothing(1)", code::NO_SUCH_STATEMENT),
        ] {
            let error = match context.sql(sql).await {
                Ok(frame) => frame.collect().await.map(|_| ()),
                Err(error) => Err(error),
            };
            let Err(error) = error else { continue };
            let (found, text) = of_datafusion(&error);
            assert!(found == expected || expected.contains("no error"), "{sql}: {found} {text}");
            assert!(!text.contains("Error during planning"), "{text}");
        }
    }

    #[test]
    fn a_stopped_statement_says_why() {
        for (stopped, expected) in [
            (Stopped::Cancelled, "57014"),
            (Stopped::Late(Duration::from_secs(5)), "57014"),
            (Stopped::TooManyRows(10), "53400"),
        ] {
            let error = DataFusionError::External(Box::new(stopped));
            let nested =
                DataFusionError::Context("x".to_owned(), Box::new(DataFusionError::Shared(Arc::new(error))));
            assert_eq!(of_datafusion(&nested), (expected, stopped.to_string()));
        }
        let (found, _) = of_datafusion(&DataFusionError::ResourcesExhausted("x".to_owned()));
        assert_eq!(found, "53200");
    }
}
