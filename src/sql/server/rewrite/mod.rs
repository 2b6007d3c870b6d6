//! What PostgreSQL understands and DataFusion does not, written in other words before it is planned. A rule is about a form of
//! SQL, never about the text of one client.
//!
//! - [`names`]: the names that PostgreSQL gives to columns without one.
//! - [`subqueries`]: subqueries for each row, and arrays of subqueries.
//! - [`arrays`]: functions that give rows, in the list of columns.
//! - [`forms`]: forms and functions with another spelling.
//! - [`casts`]: OIDs as names, and times in zones.
//! - [`catalog`]: subqueries about what is not there.
//! - [`fetch`]: the forms of FETCH and MOVE.

use std::borrow::Cow;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName,
    ObjectNamePart, Query, Select, SetExpr, TableFactor, VisitMut as _, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

mod arrays;
mod casts;
pub(super) mod catalog;
pub(super) mod fetch;
mod forms;
mod names;
mod subqueries;

/// Views of the catalog that are found without their schema, beside those that datafusion-pg-catalog knows.
const OF_CATALOG: [&str; 4] = ["pg_indexes", "pg_user", "pg_policies", "pg_sequences"];

/// The statements in other words; as they are where they cannot be read, or need no others.
pub(super) fn rewritten(sql: &str) -> Cow<'_, str> {
    let in_full = fetch::in_full(sql);
    let sql = in_full.map_or(Cow::Borrowed(sql), Cow::Owned);
    let parsed = Parser::parse_sql(&PostgreSqlDialect {}, &sql);
    let Ok(before) = parsed else { return sql };
    let mut after = before.clone();
    let _ = after.visit(&mut Rules::default());
    if before == after {
        return sql;
    }
    let texts: Vec<_> = after.iter().map(ToString::to_string).collect();
    Cow::Owned(texts.join("; "))
}

#[derive(Default)]
struct Rules {
    /// How many expressions there are around.
    depth: usize,
}

impl VisitorMut for Rules {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let is_seen = self.depth == 0;
        selects(&mut query.body, &mut |select| {
            for join in select.from.iter_mut().flat_map(|from| &mut from.joins) {
                subqueries::rewrite_join(join);
            }
            forms::name_series(select);
            // Names within an expression are never seen.
            if is_seen {
                select.projection.iter_mut().for_each(casts::show_names);
                names::give(&mut select.projection);
            }
        });
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, _: &mut Expr) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<()> {
        self.depth -= 1;
        subqueries::rewrite(expression);
        arrays::rewrite(expression);
        casts::rewrite(expression);
        forms::rewrite(expression);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        forms::rewrite_query(query);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, args: None, .. } = table
            && let [ObjectNamePart::Identifier(only)] = &*name.0
            && OF_CATALOG.contains(&&*only.value)
        {
            *name = ObjectName::from(vec![Ident::new("pg_catalog"), only.clone()]);
        }
        ControlFlow::Continue(())
    }
}

/// The SELECTs of a query, without those of the queries within it.
fn selects(body: &mut SetExpr, change: &mut impl FnMut(&mut Select)) {
    match body {
        SetExpr::Select(select) => change(select),
        SetExpr::SetOperation { left, right, .. } => {
            selects(left, change);
            selects(right, change);
        }
        _ => {}
    }
}

/// A call of a function.
fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    let args = arguments.into_iter().map(|expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))).collect();
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args,
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// The name of a function without its schema, in lower case.
fn function_name(function: &Function) -> String {
    let last = function.name.0.last().and_then(|part| part.as_ident());
    last.map(|name| name.value.to_lowercase()).unwrap_or_default()
}

/// The arguments of a function, if they are plain expressions.
fn arguments(function: &Function) -> Option<Vec<Expr>> {
    let FunctionArguments::List(list) = &function.args else { return None };
    list.args
        .iter()
        .map(|argument| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expression)) => Some(expression.clone()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a statement becomes, with names for its columns left out of the comparison.
    pub(super) fn becomes(sql: &str, expected: &str) {
        assert_eq!(rewritten(sql), expected);
        // It is read again.
        assert!(Parser::parse_sql(&PostgreSqlDialect {}, expected).is_ok(), "{expected}");
    }

    #[test]
    fn statements_without_such_forms_stay_as_they_are() {
        for sql in [
            "SELECT a, b AS c, t.d, * FROM t WHERE a = ANY(b)",
            "SHOW search_path",
            "SELEC 1",
            "",
            "SELECT 'it''s' AS a, E'\\n' AS b, $1 AS c",
        ] {
            assert_eq!(rewritten(sql), sql);
        }
    }

    #[test]
    fn views_of_the_catalog_need_no_schema() {
        becomes("SELECT a FROM pg_indexes AS i", "SELECT a FROM pg_catalog.pg_indexes AS i");
        becomes("SELECT a FROM public.pg_indexes", "SELECT a FROM public.pg_indexes");
    }
}
