//! What PostgreSQL understands and DataFusion does not, written in other words before it is planned. A rule is about a form of
//! SQL, never about the text of one client.
//!
//! - [`names`]: the names that PostgreSQL gives to columns without one.
//! - [`subqueries`]: subqueries for each row, and arrays of subqueries.
//! - [`arrays`]: functions that give rows, in the list of columns.
//! - [`forms`]: forms and functions with another spelling.
//! - [`casts`]: OIDs as names, and times in zones.
//! - [`system_columns`]: columns that every table of PostgreSQL has.
//! - [`catalog`]: subqueries about what is not there.
//! - [`fetch`]: the forms of FETCH and MOVE.

use std::borrow::Cow;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName,
    ObjectNamePart, OrderByExpr, OrderByKind, Query, Select, SelectItem, SetExpr, Statement, TableFactor,
    Value, VisitMut as _, VisitorMut, visit_expressions,
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
mod system_columns;

/// Views of the catalog that are found without their schema, beside those that datafusion-pg-catalog knows.
const OF_CATALOG: [&str; 4] = ["pg_indexes", "pg_user", "pg_policies", "pg_sequences"];

/// The statements in other words; as they are where they cannot be read, or need no others.
pub(super) fn rewritten(sql: &str) -> Cow<'_, str> {
    let in_full = fetch::in_full(sql);
    let sql = in_full.map_or(Cow::Borrowed(sql), Cow::Owned);
    let parsed = Parser::parse_sql(&PostgreSqlDialect {}, &sql);
    let Ok(mut statements) = parsed else { return sql };
    // Texts are compared, and not trees, because a deep tree is walked with a guarded stack only to write it.
    let before = text(&statements);
    let _ = statements.visit(&mut Rules::default());
    let after = text(&statements);
    if before == after { sql } else { Cow::Owned(after) }
}

fn text(statements: &[Statement]) -> String {
    let texts: Vec<_> = statements.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

#[derive(Default)]
struct Rules {
    /// How many expressions there are around.
    depth: usize,
    /// The tables of the queries around, by the names that they have there.
    tables: Vec<system_columns::Tables>,
}

impl VisitorMut for Rules {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let is_seen = self.depth == 0;
        let mut tables = system_columns::Tables::default();
        let order: &mut [OrderByExpr] = match query.order_by.as_mut().map(|order| &mut order.kind) {
            Some(OrderByKind::Expressions(order)) => order.as_mut_slice(),
            _ => &mut [],
        };
        selects(&mut query.body, &mut |select| {
            for join in select.from.iter_mut().flat_map(|from| &mut from.joins) {
                subqueries::rewrite_join(join);
            }
            forms::name_series(select);
            tables.add(select);
            // Names within an expression are never seen.
            if is_seen {
                names::give(&mut select.projection, order);
                select.projection.iter_mut().for_each(casts::show_names);
            }
            for item in &mut select.projection {
                if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                    subqueries::look_up_members(expr);
                }
            }
        });
        order.iter_mut().for_each(|by| subqueries::look_up_members(&mut by.expr));
        self.tables.push(tables);
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
        system_columns::rewrite(expression, &self.tables);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.tables.pop();
        forms::rewrite_query(query);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, args: None, .. } = table
            && let [ObjectNamePart::Identifier(only)] = &*name.0
            && OF_CATALOG.contains(&&*only.value.to_lowercase())
        {
            *name = ObjectName::from(vec![Ident::new("pg_catalog"), only.clone()]);
        }
        forms::rewrite_table_function(table);
        ControlFlow::Continue(())
    }
}

/// The SELECTs of a query, without those of the queries within it.
fn selects(body: &mut SetExpr, change: &mut impl FnMut(&mut Select)) {
    match body {
        SetExpr::Select(select) => change(select),
        SetExpr::SetOperation { .. } => {
            // Many of them stand to the left of each other.
            let mut rest = body;
            while let SetExpr::SetOperation { left, right, .. } = rest {
                selects(right, change);
                rest = left;
            }
            selects(rest, change);
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

/// Whether it may stand several times in a statement: what doubles with each level of a statement has no end.
fn is_small(expression: &Expr) -> bool {
    const MOST_PARTS: usize = 8;
    const LONGEST: usize = 100;
    let mut parts = 0;
    let counted = visit_expressions(expression, |_: &Expr| {
        parts += 1;
        if parts > MOST_PARTS { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    counted.is_continue() && expression.to_string().len() <= LONGEST
}

/// `SELECT item`
fn select_of(item: SelectItem) -> Option<Box<Query>> {
    let Statement::Query(mut query) = Parser::parse_sql(&PostgreSqlDialect {}, "SELECT 1").ok()?.pop()?
    else {
        return None;
    };
    let SetExpr::Select(select) = &mut *query.body else { return None };
    select.projection = vec![item];
    Some(query)
}

/// An expression, which is moved to another place.
fn take(expression: &mut Expr) -> Expr {
    std::mem::replace(expression, Expr::Value(Value::Null.into()))
}

/// The name of a function without its schema, in lower case.
fn function_name(function: &Function) -> String {
    let last = function.name.0.last().and_then(|part| part.as_ident());
    last.map(|name| name.value.to_lowercase()).unwrap_or_default()
}

/// An argument of a function, if it is a plain expression.
fn argument(function: &Function, place: usize) -> Option<&Expr> {
    let FunctionArguments::List(list) = &function.args else { return None };
    match list.args.get(place)? {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expression)) => Some(expression),
        _ => None,
    }
}

/// The arguments of a function, if they are so many plain expressions. They are moved.
fn take_arguments<const COUNT: usize>(function: &mut Function) -> Option<[Expr; COUNT]> {
    let FunctionArguments::List(list) = &mut function.args else { return None };
    let is_plain =
        |argument: &FunctionArg| matches!(argument, FunctionArg::Unnamed(FunctionArgExpr::Expr(_)));
    if list.args.len() != COUNT || !list.args.iter().all(is_plain) {
        return None;
    }
    let taken = list.args.drain(..).filter_map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expression)) => Some(expression),
        _ => None,
    });
    taken.collect::<Vec<_>>().try_into().ok()
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
    fn hostile_statements_do_not_grow_without_end() {
        let nested = |before: &str, after: &str, depth: usize| {
            format!("SELECT {}a{} FROM t", before.repeat(depth), after.repeat(depth))
        };
        for sql in [
            nested("date_trunc('second', b, ", ")", 12),
            nested("ARRAY(SELECT ", " ORDER BY 1)", 8),
            nested("(", "::TEXT LIKE ANY (ARRAY['x', 'y', 'z']))", 12),
            format!("SELECT {}a FROM t", "NULL, ".repeat(20_000)),
            format!("SELECT ARRAY(SELECT n FROM t ORDER BY {}1) FROM t", "1, ".repeat(20_000)),
        ] {
            let start = std::time::Instant::now();
            let found = rewritten(&sql);
            assert!(found.len() < 30 * sql.len(), "{} of {}", found.len(), sql.len());
            assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
        }
    }

    #[test]
    fn views_of_the_catalog_need_no_schema() {
        becomes("SELECT a FROM pg_indexes AS i", "SELECT a FROM pg_catalog.pg_indexes AS i");
        becomes("SELECT a FROM public.pg_indexes", "SELECT a FROM public.pg_indexes");
    }
}
