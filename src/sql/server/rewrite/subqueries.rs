//! Subqueries that give one value for each row: DataFusion plans them only where an aggregate makes it one value. And `ARRAY(SELECT
//! …)`, `= ANY (SELECT …)`.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArgumentClause, FunctionArguments, Ident, Join, JoinConstraint,
    JoinOperator, LimitClause, OrderByExpr, OrderByKind, Query, Select, SelectItem, SetExpr, TableFactor,
    Value, Visit as _, Visitor, visit_expressions,
};

use super::{call, function_name, names};

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
    if let Expr::Subquery(query) = expression
        && is_correlated(query)
    {
        aggregate(query, "first_value");
    }
    if let Some(other) = other(expression) {
        *expression = other;
    }
}

fn other(expression: &Expr) -> Option<Expr> {
    match expression {
        // A bare one in a list of columns would be taken away by the next parser.
        Expr::Subquery(_) => Some(Expr::Nested(Box::new(expression.clone()))),
        Expr::Function(Function { name, args: FunctionArguments::Subquery(query), .. })
            if name.to_string().eq_ignore_ascii_case("array") =>
        {
            let mut query = query.clone();
            aggregate(&mut query, "array_agg").then(|| Expr::Nested(Box::new(Expr::Subquery(query))))
        }
        Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => {
            let subquery = subquery(right)?;
            Some(Expr::InSubquery { expr: left.clone(), subquery, negated: false })
        }
        Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => {
            let subquery = subquery(right)?;
            Some(Expr::InSubquery { expr: left.clone(), subquery, negated: true })
        }
        _ => None,
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
    let SetExpr::Select(select) = &mut *query.body else { return };
    if !is_one || is_by_number || query.with.is_some() || !is_plain(select) {
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

fn subquery(expression: &Expr) -> Option<Box<Query>> {
    match expression {
        Expr::Subquery(query) => Some(query.clone()),
        Expr::Nested(inner) => subquery(inner),
        _ => None,
    }
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
    let order = order.into_iter().map(|by| numbered(by, value)).collect::<Vec<_>>();
    *value = ordered(function, value.clone(), order);
    query.order_by = None;
    query.limit_clause = None;
    true
}

/// `ORDER BY 1` is by the value itself.
fn numbered(mut by: OrderByExpr, value: &Expr) -> OrderByExpr {
    if is_one(&by.expr) {
        by.expr = value.clone();
    }
    by
}

fn is_one(expression: &Expr) -> bool {
    matches!(expression, Expr::Value(value) if matches!(&value.value, Value::Number(number, _) if number == "1"))
}

fn is_aggregate(expression: &Expr) -> bool {
    let found = visit_expressions(expression, |part: &Expr| match part {
        Expr::Function(function)
            if function.over.is_none() && AGGREGATES.contains(&&*function_name(function)) =>
        {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
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
