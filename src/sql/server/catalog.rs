//! Questions about the catalog that DataFusion cannot plan: SQLAlchemy asks for defaults, sequences and collations of columns by
//! subqueries for each column. There are none of them, so each of these subqueries is NULL. Its parameters stay in the statement:
//! clients send a value for each, and values belong to parameters by their order.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArguments, Query, SelectItem, SetExpr, Statement, TableFactor, Value,
    visit_expressions, visit_expressions_mut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

/// Tables of the catalog that have no rows for our columns.
const EMPTY: [&str; 3] = ["pg_attrdef", "pg_sequence", "pg_collation"];

/// The statement with those subqueries replaced, if it has any.
pub(super) fn simplified(statement: &Statement) -> Option<Statement> {
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
                Some(Value::Null)
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
    let (mut found, mut cast) = (Vec::new(), Vec::new());
    let _ = visit_expressions(expression, |part: &Expr| {
        match part {
            Expr::Cast { expr, .. } if is_parameter(expr) => {
                cast.push(expr.to_string());
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
fn with_parameters(value: Value, parameters: &[String]) -> Expr {
    let conditions: Vec<_> = parameters.iter().map(|parameter| format!("{parameter} IS NULL")).collect();
    let text = format!("CASE WHEN {} THEN {value} ELSE {value} END", conditions.join(" AND "));
    let parsed =
        Parser::new(&PostgreSqlDialect {}).try_with_sql(&text).and_then(|mut parser| parser.parse_expr());
    match parsed {
        Ok(parsed) if !parameters.is_empty() => parsed,
        _ => Expr::Value(value.into()),
    }
}

/// What a scalar subquery is for each of our columns, if that is known.
fn value_of(query: &Query) -> Option<Value> {
    let SetExpr::Select(select) = &*query.body else { return None };
    let [from] = &*select.from else { return None };
    let TableFactor::Table { name, .. } = &from.relation else { return None };
    let table = name.0.last()?.as_ident()?.value.to_lowercase();
    if EMPTY.contains(&&*table) {
        return Some(Value::Null);
    }
    // No type has a collation.
    let [SelectItem::UnnamedExpr(Expr::CompoundIdentifier(column))] = &*select.projection else {
        return None;
    };
    let is_collation = column.last()?.value == "typcollation";
    (table == "pg_type" && is_collation).then(|| Value::Number("0".to_owned(), false))
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
        assert_eq!(simple("SELECT (SELECT max(temperature) FROM readings)"), None);
        assert_eq!(simple("SELECT (SELECT typname FROM pg_type WHERE oid = 25)"), None);
    }
}
