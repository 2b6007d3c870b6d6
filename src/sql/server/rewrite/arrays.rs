//! `generate_subscripts` and `information_schema._pg_expandarray`, by which drivers take keys and indexes apart, as lists that are
//! unnested: DataFusion has no functions that give rows among the columns but `unnest`.

use datafusion::sql::sqlparser::ast::Expr;

use super::{arguments, call, function_name};

pub(super) fn rewrite(expression: &mut Expr) {
    let Expr::Function(function) = expression else { return };
    let list = match &*function_name(function) {
        "generate_subscripts" => "generate_subscripts_list",
        "_pg_expandarray" => "expandarray_list",
        _ => return,
    };
    // All arguments stay: a parameter that is left out would shift the values of the others.
    if let Some(arguments) = arguments(function) {
        *expression = call("unnest", vec![call(list, arguments)]);
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
            "SELECT generate_subscripts(a, $1::INTEGER) AS n FROM t WHERE b = $2",
            "SELECT unnest(generate_subscripts_list(a, $1::INTEGER)) AS n FROM t WHERE b = $2",
        );
    }
}
