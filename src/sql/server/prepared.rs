//! `PREPARE`, `EXECUTE` and `DEALLOCATE` in SQL: an EXECUTE becomes the statement itself, with its values in it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Mutex;

use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, Expr, Ident, Statement, Value, ValueWithSpan, visit_expressions,
    visit_expressions_mut,
};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};

use super::errors::{code, error};

/// Statements that a session may keep.
const MOST: usize = 1_000;

#[derive(Debug, Clone)]
struct Prepared {
    statement: Statement,
    types: Vec<DataType>,
    parameters: usize,
}

/// The statements of a session by name.
#[derive(Debug, Default)]
pub(super) struct PreparedStatements(Mutex<BTreeMap<String, Prepared>>);

impl PreparedStatements {
    pub(super) fn add(&self, name: &Ident, types: &[DataType], statement: &Statement) -> PgWireResult<()> {
        let name = folded(name);
        let mut kept = self.0.lock().expect("no panic while locked");
        if kept.contains_key(&name) {
            return Err(error("42P05", format!("prepared statement \"{name}\" already exists")));
        }
        if kept.len() >= MOST {
            return Err(error(
                code::LIMIT,
                format!("more than {MOST} prepared statements (DEALLOCATE some)"),
            ));
        }
        let parameters = count(statement).max(types.len());
        kept.insert(name, Prepared { statement: statement.clone(), types: types.to_vec(), parameters });
        Ok(())
    }

    /// The statement with its values.
    pub(super) fn filled(&self, name: &str, values: &[Expr]) -> PgWireResult<Statement> {
        let found = self.0.lock().expect("no panic while locked").get(name).cloned();
        let Prepared { mut statement, types, parameters } = found.ok_or_else(|| not_there(name))?;
        if values.len() != parameters {
            let text = format!(
                "wrong number of parameters for prepared statement \"{name}\": expected {parameters}, got {}",
                values.len()
            );
            return Err(error(code::SYNTAX, text));
        }
        let _ = visit_expressions_mut(&mut statement, |expression: &mut Expr| {
            if let Some(index) = placeholder(expression)
                && let Some(value) = values.get(index - 1)
            {
                let value = Expr::Nested(Box::new(value.clone()));
                *expression = match types.get(index - 1) {
                    Some(data_type) => Expr::Cast {
                        kind: CastKind::Cast,
                        expr: Box::new(value),
                        data_type: data_type.clone(),
                        array: false,
                        format: None,
                    },
                    None => value,
                };
            }
            ControlFlow::<()>::Continue(())
        });
        Ok(statement)
    }

    /// Whether there was one of this name.
    pub(super) fn remove(&self, name: &str) -> bool {
        self.0.lock().expect("no panic while locked").remove(name).is_some()
    }

    pub(super) fn clear(&self) {
        self.0.lock().expect("no panic while locked").clear();
    }
}

pub(super) fn not_there(name: &str) -> PgWireError {
    error(code::NO_SUCH_STATEMENT, format!("prepared statement \"{name}\" does not exist"))
}

/// A name as PostgreSQL reads it: in lower case unless it is quoted.
pub(super) fn folded(name: &Ident) -> String {
    match name.quote_style {
        Some(_) => name.value.clone(),
        None => name.value.to_lowercase(),
    }
}

/// The highest number of a placeholder.
fn count(statement: &Statement) -> usize {
    let mut highest = 0;
    let _ = visit_expressions(statement, |expression: &Expr| {
        highest = highest.max(placeholder(expression).unwrap_or_default());
        ControlFlow::<()>::Continue(())
    });
    highest
}

fn placeholder(expression: &Expr) -> Option<usize> {
    match expression {
        Expr::Value(ValueWithSpan { value: Value::Placeholder(name), .. }) => {
            name.strip_prefix('$')?.parse().ok().filter(|index| *index > 0)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use datafusion_postgres::datafusion_pg_catalog::sql::PostgresCompatibilityParser;

    use super::*;

    fn parse(sql: &str) -> Statement {
        PostgresCompatibilityParser::new().parse(sql).unwrap().remove(0)
    }

    fn prepare(kept: &PreparedStatements, sql: &str) -> PgWireResult<()> {
        let Statement::Prepare { name, data_types, statement } = parse(sql) else { panic!("{sql}") };
        kept.add(&name, &data_types, &statement)
    }

    fn execute(kept: &PreparedStatements, sql: &str) -> Result<String, String> {
        let Statement::Execute { name: Some(name), parameters, .. } = parse(sql) else { panic!("{sql}") };
        kept.filled(&name.to_string(), &parameters)
            .map(|statement| statement.to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn an_execute_is_the_statement_with_its_values() {
        let kept = PreparedStatements::default();
        prepare(&kept, "PREPARE one (int, text) AS SELECT $1 + $1, $2 FROM readings WHERE location = $2")
            .unwrap();
        prepare(&kept, "PREPARE two AS SELECT * FROM readings WHERE temperature > $1").unwrap();
        assert_eq!(
            execute(&kept, "EXECUTE one (1, 'a''; DROP')").unwrap(),
            "SELECT CAST((1) AS INT) + CAST((1) AS INT), CAST(('a''; DROP') AS TEXT) FROM readings WHERE location = \
             CAST(('a''; DROP') AS TEXT)"
        );
        assert_eq!(
            execute(&kept, "EXECUTE two (-1)").unwrap(),
            "SELECT * FROM readings WHERE temperature > (-1)"
        );
        assert!(execute(&kept, "EXECUTE two").unwrap_err().contains("expected 1, got 0"));
        assert!(execute(&kept, "EXECUTE three (1)").unwrap_err().contains("does not exist"));
        assert!(prepare(&kept, "PREPARE two AS SELECT 1").is_err());
        assert!(kept.remove("two") && !kept.remove("two"));
    }
}
