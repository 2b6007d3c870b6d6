//! The names of columns that have none, as PostgreSQL gives them: programs read `count` of `SELECT count(*)`. DataFusion's names are
//! the expressions. No two columns may have one name there; later ones get a number.

use datafusion::sql::sqlparser::ast::{
    AccessExpr, Expr, FunctionArguments, Ident, SelectItem, SetExpr, Subscript,
};

use super::function_name;

const NO_NAME: &str = "?column?";

pub(super) fn give(projection: &mut [SelectItem]) {
    let mut taken: Vec<String> = projection
        .iter()
        .filter_map(|item| match item {
            SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
            _ => None,
        })
        .collect();
    for item in projection {
        let SelectItem::UnnamedExpr(expression) = item else { continue };
        // Columns have their names, and those of different tables may be the same.
        if matches!(expression, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) {
            continue;
        }
        let base = of(expression).unwrap_or_else(|| NO_NAME.to_owned());
        let name = (0..)
            .map(|number| match number {
                0 => base.clone(),
                number => format!("{base}_{number}"),
            })
            .find(|name| !taken.contains(name))
            .unwrap_or_default();
        taken.push(name.clone());
        let alias = Ident::with_quote('"', name);
        *item = SelectItem::ExprWithAlias { expr: expression.clone(), alias };
    }
}

/// The name of an expression, if it has one.
pub(super) fn of(expression: &Expr) -> Option<String> {
    let plain = |name: &Ident| match name.quote_style {
        Some(_) => name.value.clone(),
        None => name.value.to_lowercase(),
    };
    match expression {
        Expr::Identifier(name) => Some(plain(name)),
        Expr::CompoundIdentifier(names) => names.last().map(plain),
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => of(inner),
        Expr::Function(function) => match (&function.args, &*function_name(function)) {
            (FunctionArguments::Subquery(_), "array") => Some("array".to_owned()),
            (_, name) => Some(name.to_owned()),
        },
        Expr::Cast { expr, data_type, .. } => match of(expr) {
            Some(name) => Some(name),
            None => {
                let name = data_type.to_string().to_lowercase();
                let end = name.find(['(', '[']).unwrap_or(name.len());
                Some(name[..end].rsplit('.').next().unwrap_or_default().to_owned())
            }
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
            "SELECT count(a), count(b), NULL, NULL, x AS count_1 FROM t",
            "SELECT count(a) AS \"count\", count(b) AS \"count_2\", NULL AS \"?column?\", NULL AS \"?column?_1\", x AS count_1 FROM t",
        );
    }
}
