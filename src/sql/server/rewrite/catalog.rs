//! Questions about the catalog that DataFusion cannot plan: SQLAlchemy asks for defaults, sequences and collations of columns by
//! subqueries for each column. There are none of them, so each of these subqueries is NULL. Its parameters stay in the statement:
//! clients send a value for each, and values belong to parameters by their order.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArguments, Query, Select, SelectItem, SetExpr, Statement, TableFactor, Value,
    visit_expressions, visit_expressions_mut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::{argument, function_name};

/// Tables of the catalog that have no rows for our columns.
const EMPTY: [&str; 3] = ["pg_attrdef", "pg_sequence", "pg_collation"];
/// Tables of the catalog without rows, of which lists are made.
const WITHOUT_LISTS: [&str; 3] = ["pg_policy", "pg_enum", "pg_auth_members"];
/// Ends of the names of columns of the catalog without values, of which lists are made: options, rights, tags of event triggers.
const WITHOUT_VALUES: [&str; 3] = ["options", "acl", "evttags"];
/// What an expression is replaced by.
const NULL: &str = "NULL";
const NO_LIST: &str = "CAST(NULL AS TEXT[])";

/// The statement with those subqueries replaced, if it has any.
pub(in super::super) fn simplified(statement: &Statement) -> Option<Statement> {
    if !matches!(statement, Statement::Query(_)) {
        return None;
    }
    let mut changed = statement.clone();
    let mut is_changed = false;
    let _ = visit_expressions_mut(&mut changed, |expression: &mut Expr| {
        let value = match &*expression {
            Expr::Subquery(query) => value_of(query),
            // psql's \du asks for the roles that a role is in.
            Expr::Function(Function { name, args: FunctionArguments::Subquery(query), .. })
                if name.to_string().eq_ignore_ascii_case("array")
                    && query.to_string().contains("pg_auth_members") =>
            {
                Some(NULL)
            }
            _ => None,
        };
        if let Some(value) = value {
            *expression = with_parameters(value, &parameters(expression));
            is_changed = true;
        }
        ControlFlow::<()>::Continue(())
    });
    is_changed.then_some(changed)
}

/// The parameters of an expression, with their casts, by which they have a type.
fn parameters(expression: &Expr) -> Vec<String> {
    let is_parameter = |expression: &Expr| matches!(expression, Expr::Value(value) if matches!(value.value, Value::Placeholder(_)));
    let (mut found, mut cast) = (Vec::new(), HashSet::new());
    let _ = visit_expressions(expression, |part: &Expr| {
        match part {
            Expr::Cast { expr, .. } if is_parameter(expr) => {
                cast.insert(expr.to_string());
                found.push(part.to_string());
            }
            _ if is_parameter(part) && !cast.contains(&part.to_string()) => found.push(part.to_string()),
            _ => {}
        }
        ControlFlow::<()>::Continue(())
    });
    found
}

/// A value, whatever the parameters are.
fn with_parameters(value: &str, parameters: &[String]) -> Expr {
    let conditions: Vec<_> = parameters.iter().map(|parameter| format!("{parameter} IS NULL")).collect();
    let text = match conditions.is_empty() {
        true => value.to_owned(),
        false => format!("CASE WHEN {} THEN {value} ELSE {value} END", conditions.join(" AND ")),
    };
    let parsed =
        Parser::new(&PostgreSqlDialect {}).try_with_sql(&text).and_then(|mut parser| parser.parse_expr());
    parsed.unwrap_or_else(|_| Expr::Value(Value::Null.into()))
}

/// What a scalar subquery is for each of our columns, if that is known.
fn value_of(query: &Query) -> Option<&'static str> {
    let SetExpr::Select(select) = &*query.body else { return None };
    if is_over_nothing(select) {
        return Some(NO_LIST);
    }
    // Tables side by side have no rows where one of them has none.
    let tables: Vec<_> = select.from.iter().filter_map(|from| table_name(&from.relation)).collect();
    if tables.iter().any(|table| EMPTY.contains(&&**table)) {
        return Some(NULL);
    }
    let ([_], [table], [SelectItem::UnnamedExpr(item)]) = (&*select.from, &*tables, &*select.projection)
    else {
        return None;
    };
    match item {
        // What `ARRAY(SELECT …)` has become.
        Expr::Function(function) if function_name(function) == "array_agg" => {
            WITHOUT_LISTS.contains(&&**table).then_some(NO_LIST)
        }
        // No type has a collation.
        Expr::CompoundIdentifier(column) => {
            (table == "pg_type" && column.last()?.value == "typcollation").then_some("0")
        }
        _ => None,
    }
}

/// Whether its rows are the items of a list that has none: `array_agg(…) FROM (SELECT unnest(c.reloptions) AS x) AS x`.
fn is_over_nothing(select: &Select) -> bool {
    let [from] = &*select.from else { return false };
    let TableFactor::Derived { subquery, .. } = &from.relation else { return false };
    let SetExpr::Select(inner) = &*subquery.body else { return false };
    let ([SelectItem::ExprWithAlias { expr: Expr::Function(function), .. }], []) =
        (&*inner.projection, &*inner.from)
    else {
        return false;
    };
    let column = match argument(function, 0) {
        Some(Expr::Identifier(name)) => Some(name),
        Some(Expr::CompoundIdentifier(names)) => names.last(),
        _ => None,
    };
    let Some(column) = column.map(|name| name.value.to_lowercase()) else { return false };
    if function_name(function) != "unnest" {
        return false;
    }
    let [SelectItem::UnnamedExpr(Expr::Function(aggregate))] = &*select.projection else { return false };
    function_name(aggregate) == "array_agg" && WITHOUT_VALUES.iter().any(|end| column.ends_with(end))
}

fn table_name(table: &TableFactor) -> Option<String> {
    let TableFactor::Table { name, .. } = table else { return None };
    Some(name.0.last()?.as_ident()?.value.to_lowercase())
}

#[cfg(test)]
mod tests {
    use datafusion_postgres::datafusion_pg_catalog::sql::PostgresCompatibilityParser;

    use super::*;

    fn simple(sql: &str) -> Option<String> {
        let statement = PostgresCompatibilityParser::new().parse(sql).unwrap().remove(0);
        simplified(&statement).map(|statement| statement.to_string())
    }

    #[test]
    fn parameters_of_what_is_left_out_stay_in_their_order() {
        assert_eq!(
            simple(
                "SELECT CASE WHEN a.atthasdef THEN (SELECT d.adbin FROM pg_catalog.pg_attrdef d WHERE d.adnum = $1::SMALLINT AND d.a = $2) \
                 ELSE NULL END FROM pg_catalog.pg_attribute a WHERE a.attname = $3::TEXT"
            )
            .unwrap(),
            "SELECT CASE WHEN a.atthasdef THEN CASE WHEN $1::SMALLINT IS NULL AND $2 IS NULL THEN NULL ELSE NULL END ELSE NULL END \
             FROM pg_catalog.pg_attribute a WHERE a.attname = $3::TEXT"
        );
    }

    #[test]
    fn subqueries_of_what_is_not_there_are_null_and_others_stay() {
        assert_eq!(
            simple(
                "SELECT CASE WHEN a.atthasdef THEN (SELECT d.adbin FROM pg_catalog.pg_attrdef d WHERE d.adrelid = a.attrelid) \
                 ELSE NULL END FROM pg_catalog.pg_attribute a WHERE (SELECT pg_catalog.pg_type.typcollation FROM \
                 pg_catalog.pg_type WHERE pg_catalog.pg_type.oid = a.atttypid) <> a.attcollation"
            )
            .unwrap(),
            "SELECT CASE WHEN a.atthasdef THEN NULL ELSE NULL END FROM pg_catalog.pg_attribute a WHERE 0 <> a.attcollation"
        );
        // Of several tables too.
        assert_eq!(
            simple(
                "SELECT ((SELECT c.collname FROM pg_catalog.pg_collation c, pg_catalog.pg_type t WHERE c.oid = a.attcollation AND \
                 t.oid = a.atttypid AND a.attcollation <> t.typcollation)) AS attcollation FROM pg_catalog.pg_attribute a"
            )
            .unwrap(),
            "SELECT (NULL) AS attcollation FROM pg_catalog.pg_attribute a"
        );
        assert_eq!(simple("SELECT (SELECT max(temperature) FROM readings)"), None);
        assert_eq!(simple("SELECT (SELECT typname FROM pg_type WHERE oid = 25)"), None);
    }

    #[test]
    fn lists_of_what_is_not_there_are_null() {
        assert_eq!(
            simple(
                "SELECT array_to_string(((SELECT array_agg(p.polname) FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid)), ',') AS a \
                 FROM pg_catalog.pg_class c"
            )
            .unwrap(),
            "SELECT array_to_string((CAST(NULL AS TEXT[])), ',') AS a FROM pg_catalog.pg_class c"
        );
        assert_eq!(simple("SELECT (SELECT count(*) FROM pg_policy)"), None);
        assert_eq!(
            simple(
                "SELECT ((SELECT array_agg('toast.' || x) FROM (SELECT unnest(tc.reloptions) AS x) AS x)) AS a FROM pg_class c"
            )
            .unwrap(),
            "SELECT (CAST(NULL AS TEXT[])) AS a FROM pg_catalog.pg_class c"
        );
    }
}
