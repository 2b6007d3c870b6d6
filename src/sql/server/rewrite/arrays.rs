//! `generate_subscripts` and `information_schema._pg_expandarray`, by which drivers take keys and indexes apart, as lists that are
//! unnested: DataFusion has no functions that give rows among the columns but `unnest`. And the columns of the catalog whose items are
//! counted from 0.

use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, Expr, Ident, ObjectName, Subscript, Value,
};

use super::{call, function_name, take};

/// Columns of the types int2vector and oidvector.
const VECTORS: [&str; 9] = [
    "indkey",
    "indclass",
    "indcollation",
    "indoption",
    "proargtypes",
    "partattrs",
    "partclass",
    "partcollation",
    "tgattr",
];

pub(super) fn rewrite(expression: &mut Expr) {
    if let Expr::CompoundFieldAccess { root, access_chain } = expression {
        count_from_one(root, access_chain);
        return;
    }
    let Expr::Function(function) = expression else { return };
    let list = match &*function_name(function) {
        "generate_subscripts" => "generate_subscripts_list",
        "_pg_expandarray" => "expandarray_list",
        _ => return,
    };
    // All arguments stay: a parameter that is left out would shift the values of the others.
    function.name = ObjectName::from(vec![Ident::new(list)]);
    let rows = take(expression);
    *expression = call("unnest", vec![rows]);
}

/// `indkey[0]` is the first item.
fn count_from_one(root: &Expr, chain: &mut [AccessExpr]) {
    let mut last = match root {
        Expr::Identifier(name) => Some(name.value.clone()),
        Expr::CompoundIdentifier(names) => names.last().map(|name| name.value.clone()),
        _ => None,
    };
    for access in chain {
        last = match access {
            AccessExpr::Dot(Expr::Identifier(name)) => Some(name.value.clone()),
            AccessExpr::Subscript(Subscript::Index { index })
                if last.is_some_and(|name| VECTORS.contains(&&*name.to_lowercase())) =>
            {
                *index = after(take(index));
                None
            }
            _ => None,
        };
    }
}

fn after(index: Expr) -> Expr {
    let number = match &index {
        Expr::Value(value) => match &value.value {
            Value::Number(number, _) => number.parse::<u32>().ok(),
            _ => None,
        },
        _ => None,
    };
    let value = |number: u64| Expr::Value(Value::Number(number.to_string(), false).into());
    match number {
        Some(number) => value(u64::from(number) + 1),
        None => Expr::BinaryOp {
            left: Box::new(Expr::Nested(Box::new(index))),
            op: BinaryOperator::Plus,
            right: Box::new(value(1)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::becomes;

    #[test]
    fn rows_of_an_array_are_unnested() {
        becomes(
            "SELECT unnest(a) AS x, generate_subscripts(a, 1) AS n FROM t",
            "SELECT unnest(a) AS x, unnest(generate_subscripts_list(a, 1)) AS n FROM t",
        );
        becomes(
            "SELECT (information_schema._pg_expandarray(i.indkey)).n AS n FROM i",
            "SELECT get_field((unnest(expandarray_list(i.indkey))), 'n') AS n FROM i",
        );
        becomes(
            "SELECT i.indkey[0] AS a, indclass[n] AS b, a.conkey[1] AS c FROM i",
            "SELECT i.indkey[1] AS a, indclass[(n) + 1] AS b, a.conkey[1] AS c FROM i",
        );
        becomes(
            "SELECT generate_subscripts(a, $1::INTEGER) AS n FROM t WHERE b = $2",
            "SELECT unnest(generate_subscripts_list(a, $1::INTEGER)) AS n FROM t WHERE b = $2",
        );
    }
}
