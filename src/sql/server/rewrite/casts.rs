//! Casts that mean something else in PostgreSQL. `oid::regclass` is shown as the name of the relation, and `AT TIME ZONE` takes a
//! zone away or adds one; DataFusion only changes the zone in which a moment is shown.

use datafusion::sql::sqlparser::ast::{BinaryOperator, DataType, Expr, SelectItem, Value};

use super::{call, function_name, take};

/// Of a column that is shown, and has its name: the name instead of the number.
pub(super) fn show_names(item: &mut SelectItem) {
    if let SelectItem::ExprWithAlias { expr, .. } = item
        && let Some(shown) = shown(expr)
    {
        *expr = shown;
    }
}

/// `…::regclass::text` is a name wherever it stands; `'name'::regclass` an OID.
pub(super) fn rewrite(expression: &mut Expr) {
    if let Expr::AtTimeZone { timestamp, time_zone } = expression {
        *expression = call("timezone", vec![take(time_zone), take(timestamp)]);
        return;
    }
    if let Expr::BinaryOp { left, op: BinaryOperator::Eq | BinaryOperator::NotEq, right } = expression {
        compare_functions(left, right);
        compare_functions(right, left);
        return;
    }
    let Expr::Cast { expr, data_type, .. } = expression else { return };
    let changed = match last_name(data_type).as_str() {
        "text" | "varchar" | "name" => shown(expr),
        "regclass" if is_text(expr) => Some(call("to_regclass", vec![take(expr)])),
        "regproc" if holds_names(expr) => Some(take(expr)),
        _ => None,
    };
    if let Some(changed) = changed {
        *expression = changed;
    }
}

/// `typinput = 'pg_catalog.array_in'::regproc` compares names.
fn compare_functions(column: &Expr, function: &mut Expr) {
    if let Expr::Cast { expr, data_type, .. } = function
        && holds_names(column)
        && last_name(data_type) == "regproc"
        && let Expr::Value(value) = &**expr
        && let Value::SingleQuotedString(name) = &value.value
    {
        let name = name.rsplit('.').next().unwrap_or_default().to_owned();
        *function = Expr::Value(Value::SingleQuotedString(name).into());
    }
}

/// Whether it is a column of functions: those hold names here, not OIDs.
fn holds_names(expression: &Expr) -> bool {
    const OIDS: [&str; 5] = ["oid", "objid", "refobjid", "tgfoid", "castfunc"];
    let name = match expression {
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(names) => names.last(),
        _ => None,
    };
    name.is_some_and(|name| !OIDS.contains(&&*name.value.to_lowercase()))
}

/// The name of what an OID stands for, if the expression is the cast of one.
fn shown(expression: &mut Expr) -> Option<Expr> {
    match expression {
        Expr::Nested(inner) => shown(inner),
        Expr::Cast { expr, data_type, .. } if !is_text(expr) => match last_name(data_type).as_str() {
            "regclass" => Some(call("regclass_name", vec![take(expr)])),
            "regtype" => Some(call("format_type", vec![take(expr), Expr::Value(Value::Null.into())])),
            _ => None,
        },
        // It was one before its inner part was rewritten.
        Expr::Function(function) if function_name(function) == "to_regclass" => {
            Some(call("regclass_name", vec![take(expression)]))
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
        becomes(
            "SELECT typinput = 'pg_catalog.array_in'::regproc AS a, typoutput::REGPROC AS b FROM t",
            "SELECT typinput = 'array_in' AS a, typoutput AS b FROM t",
        );
        becomes(
            "SELECT a FROM p WHERE p.oid = 'lower'::REGPROC",
            "SELECT a FROM p WHERE p.oid = 'lower'::REGPROC",
        );
        becomes("SELECT a::REGTYPE AS t FROM c", "SELECT format_type(a, NULL) AS t FROM c");
    }
}
