//! Forms and functions that DataFusion spells in another way.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, DataType, Expr, Fetch, Function, FunctionArguments, Ident, LimitClause,
    OrderByKind, Query, Select, SelectItem, SetExpr, TableAlias, TableAliasColumnDef, TableFactor,
    TableFunctionArgs, Value, visit_expressions,
};

use super::{argument, call, function_name, is_small, select_of, take, take_arguments};

/// Functions that DataFusion has as tables. All others give one value, or rows by `unnest`.
const TABLE_FUNCTIONS: [&str; 3] = ["generate_series", "range", "pg_get_keywords"];

/// Parts are moved, never copied: an expression of many parts would be copied once for each of them.
pub(super) fn rewrite(expression: &mut Expr) {
    let changed = match expression {
        Expr::Function(function) => other_function(function),
        // A field of a record.
        Expr::CompoundFieldAccess { root, access_chain } => match access_chain.as_slice() {
            [AccessExpr::Dot(Expr::Identifier(field))] => {
                let field = text(&field.value);
                Some(call("get_field", vec![take(root), field]))
            }
            _ => None,
        },
        // The part of a text that a regular expression matches.
        Expr::Substring { expr, substring_from: Some(pattern), substring_for: None, .. }
            if is_text(pattern) =>
        {
            let found = call("regexp_match", vec![take(expr), take(pattern)]);
            Some(call("array_element", vec![found, Expr::Value(Value::Number("1".to_owned(), false).into())]))
        }
        Expr::InSubquery { expr, subquery, negated } => values(subquery).map(|list| {
            let expr = Box::new(take(expr));
            Expr::InList { expr, list, negated: *negated }
        }),
        // Each pattern gets a copy of what is compared.
        Expr::Like { any: true, negated: false, expr, pattern, escape_char } if is_small(expr) => {
            any(pattern, |pattern| Expr::Like {
                any: false,
                negated: false,
                expr: expr.clone(),
                pattern: Box::new(pattern),
                escape_char: escape_char.clone(),
            })
        }
        Expr::ILike { any: true, negated: false, expr, pattern, escape_char } if is_small(expr) => {
            any(pattern, |pattern| Expr::ILike {
                any: false,
                negated: false,
                expr: expr.clone(),
                pattern: Box::new(pattern),
                escape_char: escape_char.clone(),
            })
        }
        // JSON is text here.
        Expr::BinaryOp { left, op: BinaryOperator::Arrow, right } => {
            Some(call("json_member", vec![take(left), take(right)]))
        }
        Expr::BinaryOp { left, op: BinaryOperator::LongArrow, right } => {
            Some(call("json_member_text", vec![take(left), take(right)]))
        }
        Expr::Cast { data_type: data_type @ (DataType::JSON | DataType::JSONB), .. } => {
            *data_type = DataType::Text;
            None
        }
        _ => None,
    };
    if let Some(changed) = changed {
        *expression = changed;
    }
}

fn other_function(function: &mut Function) -> Option<Expr> {
    let name = function_name(function);
    match &*name {
        "clock_timestamp" | "statement_timestamp" | "transaction_timestamp" => {
            take_arguments::<0>(function).map(|[]| call("now", Vec::new()))
        }
        "localtimestamp" if matches!(function.args, FunctionArguments::None) => {
            Some(call("timezone", vec![text("UTC"), call("now", Vec::new())]))
        }
        "every" => take_arguments(function).map(|[condition]| call("bool_and", vec![condition])),
        "date_trunc" => truncated(function),
        _ => None,
    }
}

/// `date_trunc(unit, moment, zone)`: as a bucket, which rollups may answer.
fn truncated(function: &mut Function) -> Option<Expr> {
    let unit = match argument(function, 0)? {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(name) => name.to_lowercase(),
            _ => String::new(),
        },
        _ => String::new(),
    };
    let width = match &*unit {
        "minute" => "1 minute",
        "hour" => "1 hour",
        "day" => "1 day",
        "week" => "1 week",
        "month" => "1 month",
        "quarter" => "3 months",
        "year" => "1 year",
        // There are two copies of the zone.
        _ if is_small(argument(function, 2)?) => {
            let [unit, time, zone] = take_arguments(function)?;
            let clock = call("timezone", vec![zone.clone(), time]);
            return Some(call("timezone", vec![zone, call("date_trunc", vec![unit, clock])]));
        }
        _ => return None,
    };
    let [_, time, zone] = take_arguments(function)?;
    Some(call("time_bucket", vec![text(width), time, zone]))
}

fn text(value: &str) -> Expr {
    Expr::Value(Value::SingleQuotedString(value.to_owned()).into())
}

fn is_text(expression: &Expr) -> bool {
    matches!(expression, Expr::Value(value) if matches!(value.value, Value::SingleQuotedString(_)))
}

/// The values of `IN (VALUES (1), (2))`.
fn values(query: &mut Query) -> Option<Vec<Expr>> {
    let SetExpr::Values(values) = &mut *query.body else { return None };
    if values.rows.iter().any(|row| row.content.len() != 1) {
        return None;
    }
    Some(values.rows.iter_mut().flat_map(|row| row.content.drain(..)).collect())
}

/// Whether one of an array's patterns fits.
fn any(patterns: &mut Expr, fits: impl Fn(Expr) -> Expr) -> Option<Expr> {
    match patterns {
        Expr::Nested(inner) => any(inner, fits),
        Expr::Array(array) => {
            let all = array.elem.drain(..).map(fits);
            let one = all.reduce(|left, right| Expr::BinaryOp {
                left: Box::new(left),
                op: BinaryOperator::Or,
                right: Box::new(right),
            })?;
            Some(Expr::Nested(Box::new(one)))
        }
        _ => None,
    }
}

/// `FROM generate_series(1, 5) AS g`: the name is that of the column too, where it is used so.
pub(super) fn name_series(select: &mut Select) {
    let mut used = BTreeSet::new();
    let _ = visit_expressions(select, |part: &Expr| {
        if let Expr::Identifier(name) = part {
            used.insert(name.value.to_lowercase());
        }
        ControlFlow::<()>::Continue(())
    });
    let factors = select.from.iter_mut().flat_map(|from| {
        std::iter::once(&mut from.relation).chain(from.joins.iter_mut().map(|join| &mut join.relation))
    });
    for factor in factors {
        if let TableFactor::Table { args: Some(_), alias: Some(alias), .. } = factor
            && alias.columns.is_empty()
            && used.contains(&alias.name.value.to_lowercase())
        {
            alias.columns.push(TableAliasColumnDef::from_name(alias.name.value.clone()));
        }
    }
}

/// `FROM string_to_array('a,b', ',') AS s`: a function that is no table of DataFusion's is a table with one column.
pub(super) fn rewrite_table_function(table: &mut TableFactor) {
    let TableFactor::Table {
        name,
        alias,
        args: Some(TableFunctionArgs { args, settings: None }),
        with_ordinality: false,
        ..
    } = table
    else {
        return;
    };
    let Some(last) = name.0.last().and_then(|part| part.as_ident()) else { return };
    if TABLE_FUNCTIONS.contains(&&*last.value.to_lowercase()) {
        return;
    }
    let mut alias = alias.clone().unwrap_or_else(|| TableAlias {
        explicit: true,
        name: last.clone(),
        columns: Vec::new(),
        at: None,
    });
    let column = match alias.columns.as_slice() {
        [] => alias.name.clone(),
        [column] => column.name.clone(),
        _ => return,
    };
    alias.columns.clear();
    let Expr::Function(mut function) = call(&last.value, Vec::new()) else { return };
    if let FunctionArguments::List(list) = &mut function.args {
        list.args = args.clone();
    }
    let item = SelectItem::ExprWithAlias { expr: Expr::Function(function), alias: column };
    let Some(subquery) = select_of(item) else { return };
    *table = TableFactor::Derived { lateral: false, subquery, alias: Some(alias), sample: None };
}

/// `FETCH FIRST 5 ROWS ONLY` is a LIMIT, and what a SELECT DISTINCT is ordered by is one of its columns.
pub(super) fn rewrite_query(query: &mut Query) {
    if let Some(Fetch { with_ties: false, percent: false, quantity }) = &query.fetch {
        let limit = quantity.clone().unwrap_or(Expr::Value(Value::Number("1".to_owned(), false).into()));
        match &mut query.limit_clause {
            None => {
                query.limit_clause =
                    Some(LimitClause::LimitOffset { limit: Some(limit), offset: None, limit_by: Vec::new() });
                query.fetch = None;
            }
            Some(LimitClause::LimitOffset { limit: none @ None, .. }) => {
                *none = Some(limit);
                query.fetch = None;
            }
            Some(_) => {}
        }
    }
    if let SetExpr::Select(select) = &*query.body
        && select.distinct.is_some()
        && let Some(OrderByKind::Expressions(order)) = query.order_by.as_mut().map(|order| &mut order.kind)
    {
        let aliases: HashMap<&Expr, &Ident> = select
            .projection
            .iter()
            .filter_map(|item| match item {
                SelectItem::ExprWithAlias { expr, alias } => Some((expr, alias)),
                _ => None,
            })
            .collect();
        for by in order {
            let is_named =
                matches!(by.expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_));
            if let Some(alias) = aliases.get(&by.expr)
                && !is_named
            {
                by.expr = Expr::Identifier((*alias).clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::becomes;

    #[test]
    fn functions_have_other_names() {
        becomes(
            "SELECT every(a) AS b, clock_timestamp() AS c FROM t",
            "SELECT bool_and(a) AS b, now() AS c FROM t",
        );
        becomes("SELECT localtimestamp AS a", "SELECT timezone('UTC', now()) AS a");
        becomes(
            "SELECT date_trunc('Day', a, 'Europe/Berlin') AS b FROM t",
            "SELECT time_bucket('1 day', a, 'Europe/Berlin') AS b FROM t",
        );
        becomes(
            "SELECT date_trunc('second', a, 'UTC') AS b FROM t",
            "SELECT timezone('UTC', date_trunc('second', timezone('UTC', a))) AS b FROM t",
        );
    }

    #[test]
    fn forms_are_those_of_datafusion() {
        for (given, expected) in [
            ("SELECT (a.b).c AS d FROM a", "SELECT get_field((a.b), 'c') AS d FROM a"),
            (
                "SELECT substring(a FROM '[0-9]+') AS b FROM t",
                "SELECT array_element(regexp_match(a, '[0-9]+'), 1) AS b FROM t",
            ),
            ("SELECT a FROM t WHERE a IN (VALUES (1), (2))", "SELECT a FROM t WHERE a IN (1, 2)"),
            (
                "SELECT a FROM t WHERE a LIKE ANY (ARRAY['x%', 'y%'])",
                "SELECT a FROM t WHERE (a LIKE 'x%' OR a LIKE 'y%')",
            ),
            (
                "SELECT a::JSON -> 'b' ->> 'c' AS d FROM t",
                "SELECT json_member_text(json_member(a::TEXT, 'b'), 'c') AS d FROM t",
            ),
            ("SELECT a FROM t OFFSET 1 FETCH FIRST 2 ROWS ONLY", "SELECT a FROM t LIMIT 2 OFFSET 1"),
            (
                "SELECT g + 1 AS a FROM generate_series(1, 3) AS g",
                "SELECT g + 1 AS a FROM generate_series(1, 3) AS g (g)",
            ),
            ("SELECT a FROM t FETCH FIRST ROW ONLY", "SELECT a FROM t LIMIT 1"),
            (
                "SELECT s[1] AS a FROM pg_catalog.string_to_array('x,y', ',') AS s",
                "SELECT s[1] AS a FROM (SELECT string_to_array('x,y', ',') AS s) AS s",
            ),
            (
                "SELECT x AS a FROM pg_catalog.unnest(ARRAY[1, 2]) AS t (x)",
                "SELECT x AS a FROM (SELECT unnest(ARRAY[1, 2]) AS x) AS t",
            ),
            (
                "SELECT DISTINCT upper(a) FROM t ORDER BY upper(a) DESC",
                "SELECT DISTINCT upper(a) AS \"upper\" FROM t ORDER BY \"upper\" DESC",
            ),
        ] {
            becomes(given, expected);
        }
    }
}
