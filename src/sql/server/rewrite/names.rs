//! The names of columns that have none, as PostgreSQL gives them: programs read `count` of `SELECT count(*)`. DataFusion's names are
//! the expressions. No two columns may have one name there; later ones get a number.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, DataType, Expr, FunctionArguments, Ident, OrderByExpr, SelectItem, SetExpr, Subscript,
    visit_expressions,
};

use super::{function_name, system_columns, take};

const NO_NAME: &str = "?column?";

/// `order` is what the query is ordered by.
pub(super) fn give(projection: &mut [SelectItem], order: &[OrderByExpr]) {
    let own = projection.iter().filter_map(|item| match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
        SelectItem::UnnamedExpr(expression) if is_column(expression) => of(expression),
        _ => None,
    });
    let mut taken: HashSet<String> = own.collect();
    // Columns that a query is ordered by stand beside its own ones.
    for by in order {
        let _ = visit_expressions(by, |part: &Expr| {
            if matches!(part, Expr::CompoundIdentifier(_)) {
                taken.extend(of(part));
            }
            ControlFlow::<()>::Continue(())
        });
    }
    // How often a name came: numbers go on from there, so that many columns of one name take no longer than others.
    let mut numbers: HashMap<String, usize> = HashMap::new();
    for item in projection {
        let SelectItem::UnnamedExpr(expression) = item else { continue };
        // Columns have their names, and those of different tables may be the same.
        if is_column(expression) {
            continue;
        }
        let base = of(expression).unwrap_or_else(|| NO_NAME.to_owned());
        let number = numbers.entry(base.clone()).or_default();
        let name = loop {
            let name = match *number {
                0 => base.clone(),
                number => format!("{base}_{number}"),
            };
            *number += 1;
            if taken.insert(name.clone()) {
                break name;
            }
        };
        let alias = Ident::with_quote('"', name);
        *item = SelectItem::ExprWithAlias { expr: take(expression), alias };
    }
}

/// Whether it stays a column: one of the system's becomes an expression.
fn is_column(expression: &Expr) -> bool {
    let name = match expression {
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(names) => names.last(),
        _ => None,
    };
    name.is_some_and(|name| !system_columns::is_one(name))
}

/// The name of an expression, if it has one.
pub(super) fn of(expression: &Expr) -> Option<String> {
    let plain = |name: &Ident| match name.quote_style {
        Some(_) => name.value.clone(),
        None => name.value.to_lowercase(),
    };
    let (expression, cast) = without_casts(expression);
    let found = match expression {
        Expr::Identifier(name) => Some(plain(name)),
        Expr::CompoundIdentifier(names) => names.last().map(plain),
        Expr::Function(function) => match (&function.args, &*function_name(function)) {
            (FunctionArguments::Subquery(_), "array") => Some("array".to_owned()),
            (_, name) => Some(name.to_owned()),
        },
        Expr::CompoundFieldAccess { root, access_chain } => match access_chain.last() {
            Some(AccessExpr::Dot(field)) => of(field),
            Some(AccessExpr::Subscript(Subscript::Index { .. } | Subscript::Slice { .. })) | None => of(root),
        },
        Expr::Subquery(query) => match &*query.body {
            SetExpr::Select(select) => match select.projection.first()? {
                SelectItem::UnnamedExpr(expression) => of(expression),
                SelectItem::ExprWithAlias { alias, .. } => Some(plain(alias)),
                _ => None,
            },
            _ => None,
        },
        Expr::Case { else_result, .. } => {
            Some(else_result.as_deref().and_then(column).unwrap_or_else(|| "case".to_owned()))
        }
        Expr::Exists { .. } => Some("exists".to_owned()),
        Expr::Extract { .. } => Some("extract".to_owned()),
        Expr::Substring { .. } => Some("substring".to_owned()),
        Expr::Position { .. } => Some("position".to_owned()),
        Expr::Overlay { .. } => Some("overlay".to_owned()),
        Expr::Trim { .. } => Some("btrim".to_owned()),
        Expr::Ceil { .. } => Some("ceil".to_owned()),
        Expr::Floor { .. } => Some("floor".to_owned()),
        Expr::AtTimeZone { .. } => Some("timezone".to_owned()),
        Expr::Array(_) => Some("array".to_owned()),
        Expr::Interval(_) => Some("interval".to_owned()),
        Expr::TypedString(typed) => Some(typed.data_type.to_string().to_lowercase()),
        _ => None,
    };
    found.or_else(|| {
        let name = cast?.to_string().to_lowercase();
        let end = name.find(['(', '[']).unwrap_or(name.len());
        Some(name[..end].rsplit('.').next().unwrap_or_default().to_owned())
    })
}

/// What is cast, and the last type that it is cast to.
fn without_casts(mut expression: &Expr) -> (&Expr, Option<&DataType>) {
    let mut cast = None;
    loop {
        expression = match expression {
            Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => inner,
            Expr::Cast { expr, data_type, .. } => {
                cast = cast.or(Some(data_type));
                expr
            }
            _ => return (expression, cast),
        };
    }
}

fn column(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Function(_) => of(expression),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::becomes;

    #[test]
    fn columns_have_the_names_of_postgresql() {
        for (given, name) in [
            ("count(*)", "count"),
            ("pg_catalog.Max(t.a)", "max"),
            ("a + 1", "?column?"),
            ("'x'", "?column?"),
            ("a::TEXT", "a"),
            ("1::BIGINT", "bigint"),
            ("1::INT::TEXT", "text"),
            ("CASE WHEN a THEN 1 ELSE 2 END", "case"),
            ("EXISTS (SELECT b FROM t)", "exists"),
            ("(t.a)", "a"),
            ("a[1]", "a"),
            ("EXTRACT(YEAR FROM a)", "extract"),
            ("avg(a) OVER (ORDER BY b)", "avg"),
        ] {
            becomes(&format!("SELECT {given} FROM t"), &format!("SELECT {given} AS \"{name}\" FROM t"));
        }
    }

    #[test]
    fn no_two_columns_have_one_name() {
        becomes(
            "SELECT a, a::TEXT, lower(b), b::TEXT FROM t ORDER BY t.b",
            "SELECT a, a::TEXT AS \"a_1\", lower(b) AS \"lower\", b::TEXT AS \"b_1\" FROM t ORDER BY t.b",
        );
        becomes(
            "SELECT count(a), count(b), NULL, NULL, x AS count_1 FROM t",
            "SELECT count(a) AS \"count\", count(b) AS \"count_2\", NULL AS \"?column?\", NULL AS \"?column?_1\", x AS count_1 FROM t",
        );
    }
}
