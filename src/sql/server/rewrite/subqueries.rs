//! Subqueries that give one value for each row: DataFusion plans them only where an aggregate makes it one value. And `ARRAY(SELECT
//! …)`, `= ANY (SELECT …)`.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArgumentClause, FunctionArguments, Ident, Join, JoinConstraint,
    JoinOperator, LimitClause, OrderByExpr, OrderByKind, Query, Select, SelectItem, SetExpr, Statement,
    TableFactor, UnaryOperator, Value, Visit as _, VisitMut as _, Visitor, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::{call, function_name, is_small, names, take};
use crate::sql::server::members;

/// Columns of a first row, each of which gets a copy of its order.
const MOST_COLUMNS: usize = 40;
/// Functions that make one value of many rows.
const AGGREGATES: [&str; 30] = [
    "count",
    "sum",
    "avg",
    "mean",
    "min",
    "max",
    "array_agg",
    "string_agg",
    "bool_and",
    "bool_or",
    "every",
    "first",
    "last",
    "delta",
    "increase",
    "rate",
    "time_weighted_average",
    "histogram",
    "approx_percentile",
    "first_value",
    "last_value",
    "nth_value",
    "median",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "var_pop",
    "var_samp",
    "percentile_cont",
    "corr",
];

pub(super) fn rewrite(expression: &mut Expr) {
    let changed = match expression {
        Expr::Subquery(query) => {
            if is_correlated(query) {
                aggregate(query, "first_value");
            }
            // A bare one in a list of columns would be taken away by the next parser.
            Some(Expr::Nested(Box::new(take(expression))))
        }
        Expr::Function(Function { name, args: FunctionArguments::Subquery(query), .. })
            if name.to_string().eq_ignore_ascii_case("array") =>
        {
            if !aggregate(query, "array_agg") {
                return;
            }
            let FunctionArguments::Subquery(query) = arguments_of(expression) else { return };
            Some(Expr::Nested(Box::new(Expr::Subquery(query))))
        }
        Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => subquery(right)
            .map(|subquery| Expr::InSubquery { expr: Box::new(take(left)), subquery, negated: false }),
        Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => subquery(right)
            .map(|subquery| Expr::InSubquery { expr: Box::new(take(left)), subquery, negated: true }),
        _ => None,
    };
    if let Some(changed) = changed {
        *expression = changed;
    }
}

fn arguments_of(expression: &mut Expr) -> FunctionArguments {
    match expression {
        Expr::Function(function) => std::mem::replace(&mut function.args, FunctionArguments::None),
        _ => FunctionArguments::None,
    }
}

/// `LEFT JOIN LATERAL (SELECT … ORDER BY … LIMIT 1) ON true`: each column is the first of its values.
pub(super) fn rewrite_join(join: &mut Join) {
    let (JoinOperator::Left(on) | JoinOperator::LeftOuter(on)) = &join.join_operator else { return };
    let is_any = matches!(on, JoinConstraint::On(Expr::Value(value)) if value.value == Value::Boolean(true));
    if let TableFactor::Derived { lateral: true, subquery, .. } = &mut join.relation
        && is_any
    {
        first_row(subquery);
    }
}

fn first_row(query: &mut Query) {
    let is_one = matches!(&query.limit_clause, Some(LimitClause::LimitOffset { limit: Some(limit), offset: None, .. }) if is_one(limit));
    let order = match query.order_by.as_ref().map(|order| &order.kind) {
        Some(OrderByKind::Expressions(order)) => order.clone(),
        _ => return,
    };
    let is_by_number = order.iter().any(|by| matches!(by.expr, Expr::Value(_)));
    // Each column gets a copy of the order.
    let is_short = order.len() <= 4 && order.iter().all(|by| is_small(&by.expr));
    let SetExpr::Select(select) = &mut *query.body else { return };
    if !is_one
        || is_by_number
        || !is_short
        || select.projection.len() > MOST_COLUMNS
        || query.with.is_some()
        || !is_plain(select)
    {
        return;
    }
    let columns = select.projection.iter().map(|item| match item {
        SelectItem::UnnamedExpr(value) if !is_aggregate(value) => {
            Some((value.clone(), Ident::with_quote('"', names::of(value)?)))
        }
        SelectItem::ExprWithAlias { expr, alias } if !is_aggregate(expr) => {
            Some((expr.clone(), alias.clone()))
        }
        _ => None,
    });
    let Some(columns) = columns.collect::<Option<Vec<_>>>() else { return };
    let first = |(value, alias)| SelectItem::ExprWithAlias {
        expr: ordered("first_value", value, order.clone()),
        alias,
    };
    select.projection = columns.into_iter().map(first).collect();
    query.order_by = None;
    query.limit_clause = None;
}

/// Whether its rows are those of its tables.
fn is_plain(select: &Select) -> bool {
    let is_grouped = select.group_by.to_string().len() > "GROUP BY ".len();
    select.distinct.is_none() && !is_grouped && select.having.is_none()
}

fn ordered(function: &str, value: Expr, order: Vec<OrderByExpr>) -> Expr {
    let mut called = call(function, vec![value]);
    if let Expr::Function(Function { args: FunctionArguments::List(list), .. }) = &mut called
        && !order.is_empty()
    {
        list.clauses.push(FunctionArgumentClause::OrderBy(order));
    }
    called
}

fn subquery(expression: &mut Expr) -> Option<Box<Query>> {
    match expression {
        Expr::Nested(inner) => subquery(inner),
        Expr::Subquery(_) => match take(expression) {
            Expr::Subquery(query) => Some(query),
            _ => None,
        },
        _ => None,
    }
}

/// `a IN (SELECT …)` and `NOT IN` among the columns and in ORDER BY, where DataFusion does not plan them.
pub(super) fn look_up_members(expression: &mut Expr) {
    /// With the number of queries around.
    struct Members(usize);
    impl VisitorMut for Members {
        type Break = ();

        fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
            self.0 += 1;
            ControlFlow::Continue(())
        }

        fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
            self.0 -= 1;
            ControlFlow::Continue(())
        }

        fn post_visit_expr(&mut self, part: &mut Expr) -> ControlFlow<()> {
            if self.0 == 0
                && let Expr::InSubquery { expr, subquery, negated } = part
                && !is_correlated(subquery)
                && let Some(list) = list_of(subquery)
            {
                let is_member = call(members::NAME, vec![take(expr), list]);
                *part = match negated {
                    true => Expr::Nested(Box::new(Expr::UnaryOp {
                        op: UnaryOperator::Not,
                        expr: Box::new(is_member),
                    })),
                    false => is_member,
                };
            }
            ControlFlow::Continue(())
        }
    }
    let _ = expression.visit(&mut Members(0));
}

/// All values of a query.
fn list_of(query: &mut Query) -> Option<Expr> {
    let template = "SELECT array_agg(member) FROM (SELECT 1) AS members (member)";
    let Statement::Query(mut all) = Parser::parse_sql(&PostgreSqlDialect {}, template).ok()?.pop()? else {
        return None;
    };
    let SetExpr::Select(select) = &mut *all.body else { return None };
    let TableFactor::Derived { subquery, .. } = &mut select.from.first_mut()?.relation else { return None };
    std::mem::swap(&mut **subquery, query);
    Some(Expr::Subquery(all))
}

/// Makes one value of all rows of a query, in its order. `false` where that is not possible, or not needed.
fn aggregate(query: &mut Query, function: &str) -> bool {
    let is_array = function == "array_agg";
    let limited = match &query.limit_clause {
        None => false,
        Some(LimitClause::LimitOffset { limit: Some(limit), offset: None, .. }) if is_one(limit) => true,
        Some(_) => return false,
    };
    if query.with.is_some() || query.fetch.is_some() || (limited && is_array) {
        return false;
    }
    let order = match query.order_by.as_ref().map(|order| &order.kind) {
        None => Vec::new(),
        Some(OrderByKind::Expressions(order)) => order.clone(),
        Some(OrderByKind::All(_)) => return false,
    };
    let SetExpr::Select(select) = &mut *query.body else { return false };
    if !is_plain(select) {
        return false;
    }
    let [item] = &mut *select.projection else { return false };
    let (SelectItem::UnnamedExpr(value) | SelectItem::ExprWithAlias { expr: value, .. }) = item else {
        return false;
    };
    if is_aggregate(value) {
        return false;
    }
    let Some(order) = numbered(order, value) else { return false };
    *value = ordered(function, take(value), order);
    query.order_by = None;
    query.limit_clause = None;
    true
}

/// `ORDER BY 1` is by the value itself, of which there is only one copy. A value with subqueries may hold such orders itself, whose
/// copies would double with each level: `None`.
fn numbered(order: Vec<OrderByExpr>, value: &Expr) -> Option<Vec<OrderByExpr>> {
    let mut is_there = false;
    let mut found = Vec::new();
    for mut by in order {
        if is_one(&by.expr) {
            if has_subquery(value) {
                return None;
            }
            if std::mem::replace(&mut is_there, true) {
                continue;
            }
            by.expr = value.clone();
        }
        found.push(by);
    }
    Some(found)
}

fn has_subquery(expression: &Expr) -> bool {
    struct Queries;
    impl Visitor for Queries {
        type Break = ();

        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
    }
    expression.visit(&mut Queries).is_break()
}

fn is_one(expression: &Expr) -> bool {
    matches!(expression, Expr::Value(value) if matches!(&value.value, Value::Number(number, _) if number == "1"))
}

/// Whether it makes one value of many rows. Aggregates of a subquery in it are over other rows.
fn is_aggregate(expression: &Expr) -> bool {
    #[derive(Default)]
    struct Aggregates {
        /// How many queries there are around.
        depth: usize,
    }
    impl Visitor for Aggregates {
        type Break = ();

        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.depth += 1;
            ControlFlow::Continue(())
        }

        fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.depth -= 1;
            ControlFlow::Continue(())
        }

        fn pre_visit_expr(&mut self, part: &Expr) -> ControlFlow<()> {
            match part {
                Expr::Function(function)
                    if self.depth == 0
                        && function.over.is_none()
                        && AGGREGATES.contains(&&*function_name(function)) =>
                {
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    expression.visit(&mut Aggregates::default()).is_break()
}

/// Whether a query names a column of a table that it does not have itself. Columns without their table are taken as its own.
fn is_correlated(query: &Query) -> bool {
    let mut names = Names::default();
    let _ = query.visit(&mut names);
    names.used.iter().any(|name| !names.own.contains(name))
}

#[derive(Default)]
struct Names {
    own: BTreeSet<String>,
    used: BTreeSet<String>,
}

impl Visitor for Names {
    type Break = ();

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<()> {
        let (alias, name) = match table {
            TableFactor::Table { name, alias, .. } => (alias, name.0.last().and_then(|part| part.as_ident())),
            TableFactor::Derived { alias, .. }
            | TableFactor::TableFunction { alias, .. }
            | TableFactor::Function { alias, .. }
            | TableFactor::UNNEST { alias, .. }
            | TableFactor::NestedJoin { alias, .. } => (alias, None),
            _ => return ControlFlow::Continue(()),
        };
        let name = alias.as_ref().map(|alias| &alias.name).or(name);
        self.own.extend(name.map(|name: &Ident| name.value.to_lowercase()));
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if let Some(with) = &query.with {
            self.own.extend(with.cte_tables.iter().map(|table| table.alias.name.value.to_lowercase()));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<()> {
        if let Expr::CompoundIdentifier(parts) = expression
            && let [.., table, _] = &**parts
        {
            self.used.insert(table.value.to_lowercase());
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::becomes;

    #[test]
    fn a_subquery_for_each_row_is_the_first_of_its_values() {
        becomes(
            "SELECT s.name, (SELECT r.t FROM r WHERE r.id = s.id ORDER BY r.at DESC LIMIT 1) FROM s",
            "SELECT s.name, ((SELECT first_value(r.t ORDER BY r.at DESC) FROM r WHERE r.id = s.id)) AS \"t\" FROM s",
        );
        // What is one value stays.
        for sql in [
            "SELECT s.name, ((SELECT max(r.t) FROM r WHERE r.id = s.id)) AS high FROM s",
            "SELECT ((SELECT r.t FROM r ORDER BY r.at LIMIT 1)) AS t FROM s",
            "SELECT ((SELECT r.t FROM r WHERE r.id = s.id LIMIT 2)) AS t FROM s",
        ] {
            becomes(
                &sql.replace("((", "(").replace(")) AS high", ") AS high").replace(")) AS t", ") AS t"),
                sql,
            );
        }
    }

    #[test]
    fn members_among_the_columns_are_looked_up_in_a_list() {
        becomes(
            "SELECT CASE WHEN a IN (SELECT b FROM u) THEN 1 END AS n FROM t WHERE a IN (SELECT b FROM u) ORDER BY a IN (SELECT b FROM u)",
            "SELECT CASE WHEN is_member(a, ((SELECT array_agg(member) FROM (SELECT b FROM u) AS members (member)))) THEN 1 END AS n \
             FROM t WHERE a IN (SELECT b FROM u) ORDER BY \
             is_member(a, ((SELECT array_agg(member) FROM (SELECT b FROM u) AS members (member))))",
        );
        becomes(
            "SELECT a NOT IN (SELECT b FROM u) AS n FROM t",
            "SELECT (NOT is_member(a, ((SELECT array_agg(member) FROM (SELECT b FROM u) AS members (member))))) AS n FROM t",
        );
        // Not where it depends on the row.
        let sql = "SELECT a IN (SELECT b FROM u WHERE u.c = t.c) AS n FROM t";
        becomes(sql, sql);
    }

    #[test]
    fn the_first_row_of_a_lateral_join_is_the_first_of_each_column() {
        becomes(
            "SELECT s.name, l.at FROM s LEFT JOIN LATERAL (SELECT r.at, r.t + 1 AS u FROM r WHERE r.id = s.id ORDER BY r.at DESC \
             LIMIT 1) AS l ON true",
            "SELECT s.name, l.at FROM s LEFT JOIN LATERAL (SELECT first_value(r.at ORDER BY r.at DESC) AS \"at\", \
             first_value(r.t + 1 ORDER BY r.at DESC) AS u FROM r WHERE r.id = s.id) AS l ON true",
        );
    }

    #[test]
    fn arrays_and_members_of_subqueries() {
        becomes(
            "SELECT ARRAY(SELECT n FROM t WHERE t.id = s.id ORDER BY 1) AS a FROM s",
            "SELECT ((SELECT array_agg(n ORDER BY n) FROM t WHERE t.id = s.id)) AS a FROM s",
        );
        // An aggregate within a subquery is none of the rows around it.
        becomes(
            "SELECT ARRAY(SELECT t.n || (SELECT max(u.b) FROM u) FROM t) AS a FROM s",
            "SELECT ((SELECT array_agg(t.n || ((SELECT max(u.b) FROM u))) FROM t)) AS a FROM s",
        );
        // One copy of the value is enough for any order by it.
        becomes(
            "SELECT ARRAY(SELECT n FROM t ORDER BY 1, 1) AS a FROM s",
            "SELECT ((SELECT array_agg(n ORDER BY n) FROM t)) AS a FROM s",
        );
        becomes(
            "SELECT a FROM t WHERE a = ANY(SELECT b FROM u)",
            "SELECT a FROM t WHERE a IN (SELECT b FROM u)",
        );
        becomes(
            "SELECT a FROM t WHERE a <> ALL(SELECT b FROM u)",
            "SELECT a FROM t WHERE a NOT IN (SELECT b FROM u)",
        );
    }
}
