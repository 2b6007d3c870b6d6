//! Casts that mean something else in PostgreSQL. `oid::regclass` is shown as the name of the relation, and `AT TIME ZONE` takes a
//! zone away or adds one; DataFusion only changes the zone in which a moment is shown.

use datafusion::sql::sqlparser::ast::{BinaryOperator, DataType, Expr, Ident, SelectItem, Value};

use super::{call, function_name, names};

/// Of a column that is shown: the name instead of the number.
pub(super) fn show_names(item: &mut SelectItem) {
    match item {
        SelectItem::UnnamedExpr(expression) => {
            let name = names::of(expression).unwrap_or_default();
            if let Some(shown) = shown(expression) {
                *item = SelectItem::ExprWithAlias { expr: shown, alias: Ident::with_quote('"', name) };
            }
        }
        SelectItem::ExprWithAlias { expr, .. } => {
            if let Some(shown) = shown(expr) {
                *expr = shown;
            }
        }
        _ => {}
    }
}

/// `…::regclass::text` is a name wherever it stands; `'name'::regclass` an OID.
pub(super) fn rewrite(expression: &mut Expr) {
    if let Expr::AtTimeZone { timestamp, time_zone } = expression {
        *expression = call("timezone", vec![(**time_zone).clone(), (**timestamp).clone()]);
        return;
    }
    let Expr::Cast { expr, data_type, .. } = expression else { return };
    let changed = match last_name(data_type).as_str() {
        "text" | "varchar" | "name" => shown(expr),
        "regclass" if is_text(expr) => Some(call("to_regclass", vec![(**expr).clone()])),
        _ => None,
    };
    if let Some(changed) = changed {
        *expression = changed;
    }
}

/// The name of what an OID stands for, if the expression is the cast of one.
fn shown(expression: &Expr) -> Option<Expr> {
    match expression {
        Expr::Nested(inner) => shown(inner),
        Expr::Cast { expr, data_type, .. } if !is_text(expr) => match last_name(data_type).as_str() {
            "regclass" => Some(call("regclass_name", vec![(**expr).clone()])),
            "regtype" => Some(call("format_type", vec![(**expr).clone(), Expr::Value(Value::Null.into())])),
            _ => None,
        },
        // It was one before its inner part was rewritten.
        Expr::Function(function) if function_name(function) == "to_regclass" => {
            Some(call("regclass_name", vec![expression.clone()]))
        }
        _ => None,
    }
}

/// Whether it is a text by what it is; columns are OIDs.
fn is_text(expression: &Expr) -> bool {
    match expression {
        Expr::Value(value) => matches!(value.value, Value::SingleQuotedString(_) | Value::Placeholder(_)),
        Expr::Nested(inner) => is_text(inner),
        Expr::BinaryOp { op: BinaryOperator::StringConcat, .. } => true,
        Expr::Function(function) => {
            ["format", "quote_ident", "concat", "replace"].contains(&&*function_name(function))
        }
        Expr::Cast { data_type, .. } => ["text", "varchar", "name"].contains(&&*last_name(data_type)),
        _ => false,
    }
}

fn last_name(data_type: &DataType) -> String {
    let name = data_type.to_string().to_lowercase();
    name.rsplit('.').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::tests::becomes;

    #[test]
    fn at_time_zone_is_a_function() {
        becomes(
            "SELECT a AT TIME ZONE 'UTC' AS b FROM t GROUP BY a AT TIME ZONE 'UTC'",
            "SELECT timezone('UTC', a) AS b FROM t GROUP BY timezone('UTC', a)",
        );
    }

    #[test]
    fn oids_are_shown_by_their_names_and_names_are_oids() {
        becomes(
            "SELECT conrelid::pg_catalog.regclass FROM c WHERE x = 'pg_class'::regclass",
            "SELECT regclass_name(conrelid) AS \"conrelid\" FROM c WHERE x = to_regclass('pg_class')",
        );
        becomes(
            "SELECT a FROM c WHERE conrelid::regclass::text = 'readings'",
            "SELECT a FROM c WHERE regclass_name(conrelid) = 'readings'",
        );
        becomes(
            "SELECT a FROM c WHERE CAST(CAST(format('%I.%I', s, t) AS REGCLASS) AS OID) = 1",
            "SELECT a FROM c WHERE CAST(to_regclass(format('%I.%I', s, t)) AS OID) = 1",
        );
        becomes("SELECT a::REGTYPE AS t FROM c", "SELECT format_type(a, NULL) AS t FROM c");
    }
}
