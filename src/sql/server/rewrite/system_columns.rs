//! `tableoid`, which every table of PostgreSQL has: the OID of the table that a row is of.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::ast::{Expr, Ident, Select, TableFactor, Value};

use super::call;

const NAME: &str = "tableoid";

pub(super) fn is_one(name: &Ident) -> bool {
    name.value.eq_ignore_ascii_case(NAME)
}

/// The tables of a query.
#[derive(Debug, Default)]
pub(super) struct Tables(BTreeMap<String, String>);

impl Tables {
    pub(super) fn add(&mut self, select: &Select) {
        let factors = select.from.iter().flat_map(|from| {
            std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation))
        });
        for factor in factors {
            let TableFactor::Table { name, alias, args: None, .. } = factor else { continue };
            let own = name.0.last().and_then(|part| part.as_ident());
            if let Some(shown) = alias.as_ref().map(|alias| &alias.name).or(own) {
                self.0.entry(shown.value.to_lowercase()).or_insert_with(|| name.to_string());
            }
        }
    }
}

/// The table is known by its name in one of the queries around, the nearest of them first; without a name it is the only one there.
pub(super) fn rewrite(expression: &mut Expr, around: &[Tables]) {
    let found = match &*expression {
        Expr::CompoundIdentifier(parts) => match &**parts {
            [.., table, column] if is_one(column) => {
                let name = table.value.to_lowercase();
                around.iter().rev().find_map(|tables| tables.0.get(&name))
            }
            _ => None,
        },
        Expr::Identifier(column) if is_one(column) => {
            around.last().filter(|tables| tables.0.len() == 1).and_then(|tables| tables.0.values().next())
        }
        _ => None,
    };
    if let Some(name) = found {
        *expression = call("to_regclass", vec![Expr::Value(Value::SingleQuotedString(name.clone()).into())]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::becomes;

    #[test]
    fn rows_have_the_oid_of_their_table() {
        becomes(
            "SELECT l.lanname FROM pg_language AS l LEFT JOIN pg_description AS d ON d.classoid = l.tableoid AND d.objoid = l.oid",
            "SELECT l.lanname FROM pg_language AS l LEFT JOIN pg_description AS d ON d.classoid = to_regclass('pg_language') \
             AND d.objoid = l.oid",
        );
        becomes(
            "SELECT tableoid, tableoid::regclass AS name FROM public.readings",
            "SELECT to_regclass('public.readings') AS \"tableoid\", regclass_name(to_regclass('public.readings')) AS name \
             FROM public.readings",
        );
        becomes(
            "SELECT a FROM t AS x WHERE EXISTS (SELECT 1 FROM u WHERE x.tableoid = 1)",
            "SELECT a FROM t AS x WHERE EXISTS (SELECT 1 FROM u WHERE to_regclass('t') = 1)",
        );
        becomes(
            "SELECT q.tableoid AS a FROM (SELECT 1 AS tableoid) AS q",
            "SELECT q.tableoid AS a FROM (SELECT 1 AS tableoid) AS q",
        );
    }
}
