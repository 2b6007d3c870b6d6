//! Forms and functions that DataFusion spells in another way.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, DataType, Expr, Fetch, LimitClause, OrderByKind, Query, Select, SelectItem,
    SetExpr, TableAliasColumnDef, TableFactor, Value, visit_expressions,
};

use super::{arguments, call, function_name};

pub(super) fn rewrite(expression: &mut Expr) {
    if let Some(other) = other(expression) {
        *expression = other;
    }
}

fn other(expression: &Expr) -> Option<Expr> {
    match expression {
        Expr::Function(function) => {
            let arguments = arguments(function)?;
            match (&*function_name(function), arguments.as_slice()) {
                ("clock_timestamp" | "statement_timestamp" | "transaction_timestamp", []) => {
                    Some(call("now", Vec::new()))
                }
                ("every", [condition]) => Some(call("bool_and", vec![condition.clone()])),
                ("date_trunc", [unit, time, zone]) => Some(truncated(unit, time, zone)),
                _ => None,
            }
        }
        Expr::Identifier(name)
            if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("localtimestamp") =>
        {
            Some(call("timezone", vec![text("UTC"), call("now", Vec::new())]))
        }
        // A field of a record.
        Expr::CompoundFieldAccess { root, access_chain } => match access_chain.as_slice() {
            [AccessExpr::Dot(Expr::Identifier(field))] => {
                Some(call("get_field", vec![(**root).clone(), text(&field.value)]))
            }
            _ => None,
        },
        // The part of a text that a regular expression matches.
        Expr::Substring { expr, substring_from: Some(pattern), substring_for: None, .. }
            if is_text(pattern) =>
        {
            let found = call("regexp_match", vec![(**expr).clone(), (**pattern).clone()]);
            Some(call("array_element", vec![found, Expr::Value(Value::Number("1".to_owned(), false).into())]))
        }
        Expr::InSubquery { expr, subquery, negated } => {
            let list = values(subquery)?;
            Some(Expr::InList { expr: expr.clone(), list, negated: *negated })
        }
        Expr::Like { any: true, negated: false, expr, pattern, escape_char } => {
            any(pattern, |pattern| Expr::Like {
                any: false,
                negated: false,
                expr: expr.clone(),
                pattern: Box::new(pattern),
                escape_char: escape_char.clone(),
            })
        }
        Expr::ILike { any: true, negated: false, expr, pattern, escape_char } => {
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
            Some(call("json_member", vec![(**left).clone(), (**right).clone()]))
        }
        Expr::BinaryOp { left, op: BinaryOperator::LongArrow, right } => {
            Some(call("json_member_text", vec![(**left).clone(), (**right).clone()]))
        }
        Expr::Cast { data_type: DataType::JSON | DataType::JSONB, .. } => {
            let mut cast = expression.clone();
            if let Expr::Cast { data_type, .. } = &mut cast {
                *data_type = DataType::Text;
            }
            Some(cast)
        }
        _ => None,
    }
}

/// `date_trunc(unit, moment, zone)`: as a bucket, which rollups may answer.
fn truncated(unit: &Expr, time: &Expr, zone: &Expr) -> Expr {
    let name = match unit {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(name) => name.to_lowercase(),
            _ => String::new(),
        },
        _ => String::new(),
    };
    let width = match &*name {
        "minute" => "1 minute",
        "hour" => "1 hour",
        "day" => "1 day",
        "week" => "1 week",
        "month" => "1 month",
        "quarter" => "3 months",
        "year" => "1 year",
        _ => {
            let clock = call("timezone", vec![zone.clone(), time.clone()]);
            return call("timezone", vec![zone.clone(), call("date_trunc", vec![unit.clone(), clock])]);
        }
    };
    call("time_bucket", vec![text(width), time.clone(), zone.clone()])
}

fn text(value: &str) -> Expr {
    Expr::Value(Value::SingleQuotedString(value.to_owned()).into())
}

fn is_text(expression: &Expr) -> bool {
    matches!(expression, Expr::Value(value) if matches!(value.value, Value::SingleQuotedString(_)))
}

/// The values of `IN (VALUES (1), (2))`.
fn values(query: &Query) -> Option<Vec<Expr>> {
    let SetExpr::Values(values) = &*query.body else { return None };
    let rows = values.rows.iter();
    rows.map(|row| match row.content.as_slice() {
        [value] => Some(value.clone()),
        _ => None,
    })
    .collect()
}

/// Whether one of an array's patterns fits.
fn any(patterns: &Expr, fits: impl Fn(Expr) -> Expr) -> Option<Expr> {
    match patterns {
        Expr::Nested(inner) => any(inner, fits),
        Expr::Array(array) => {
            let all = array.elem.iter().cloned().map(fits);
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
        for by in order {
            if let Some(alias) = alias_of(select, &by.expr) {
                by.expr = alias;
            }
        }
    }
}

fn alias_of(select: &Select, expression: &Expr) -> Option<Expr> {
    if matches!(expression, Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_)) {
        return None;
    }
    select.projection.iter().find_map(|item| match item {
        SelectItem::ExprWithAlias { expr, alias } if expr == expression => {
            Some(Expr::Identifier(alias.clone()))
        }
        _ => None,
    })
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
                "SELECT DISTINCT upper(a) FROM t ORDER BY upper(a) DESC",
                "SELECT DISTINCT upper(a) AS \"upper\" FROM t ORDER BY \"upper\" DESC",
            ),
        ] {
            becomes(given, expected);
        }
    }
}
