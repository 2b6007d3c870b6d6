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
    if let Some(array) = arguments(function).and_then(|arguments| arguments.into_iter().next()) {
        *expression = call("unnest", vec![call(list, vec![array])]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::becomes;

    #[test]
    fn rows_of_an_array_are_unnested() {
        becomes(
            "SELECT unnest(a) AS x, generate_subscripts(a, 1) AS n FROM t",
            "SELECT unnest(a) AS x, unnest(generate_subscripts_list(a)) AS n FROM t",
        );
        becomes(
            "SELECT (information_schema._pg_expandarray(i.indkey)).n AS n FROM i",
            "SELECT get_field((unnest(expandarray_list(i.indkey))), 'n') AS n FROM i",
        );
    }
}
