//! How deep a statement may nest. The planner goes down into it by calls, and a chain such as `1 + 1 + …`, which the parser reads in a
//! loop, would end the whole program by the stack of one thread.

use std::ops::ControlFlow;

use datafusion::error::{DataFusionError, Result};
use datafusion::sql::sqlparser::ast::{Expr, Query, Select, SetExpr, Visit as _, Visitor};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

/// Operators within each other, tables that are joined, sets that are united. The stack of a thread ([`crate::runtime`]) holds several
/// times as many, also in a build without optimisation.
const MOST: usize = 400;
/// Words and signs without a comma: a tree of more may be so deep that even dropping it takes too much of a stack.
const LONGEST_RUN: usize = 40_000;

/// A statement that is not planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the statement is nested too deeply: over {} operators within each other, joins or sets (write long chains as IN, = ANY or VALUES)",
    MOST
)]
pub(super) struct TooDeep;

impl From<TooDeep> for DataFusionError {
    fn from(error: TooDeep) -> Self {
        Self::External(Box::new(error))
    }
}

/// Refuses statements that nest too deeply. What cannot be read is for others to refuse.
pub(super) fn check(sql: &str) -> Result<(), TooDeep> {
    // A chain of so many has more bytes.
    if sql.len() <= MOST {
        return Ok(());
    }
    let Ok(tokens) = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize() else { return Ok(()) };
    let runs = tokens.split(|token| matches!(token, Token::Comma | Token::SemiColon));
    if runs
        .map(|run| run.iter().filter(|token| !matches!(token, Token::Whitespace(_))).count())
        .any(|count| count > LONGEST_RUN)
    {
        return Err(TooDeep);
    }
    match Parser::parse_sql(&PostgreSqlDialect {}, sql) {
        Ok(statements) if statements.visit(&mut Depth::default()).is_break() => Err(TooDeep),
        _ => Ok(()),
    }
}

/// Goes no deeper than is allowed.
#[derive(Default)]
struct Depth {
    expressions: usize,
}

impl Visitor for Depth {
    type Break = ();

    fn pre_visit_expr(&mut self, _: &Expr) -> ControlFlow<()> {
        self.expressions += 1;
        allowed(self.expressions)
    }

    fn post_visit_expr(&mut self, _: &Expr) -> ControlFlow<()> {
        self.expressions -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        sets(&query.body, 1)
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        allowed(select.from.iter().map(|from| 1 + from.joins.len()).sum())
    }
}

fn sets(body: &SetExpr, depth: usize) -> ControlFlow<()> {
    allowed(depth)?;
    match body {
        SetExpr::SetOperation { left, right, .. } => {
            sets(left, depth + 1)?;
            sets(right, depth + 1)
        }
        _ => ControlFlow::Continue(()),
    }
}

fn allowed(depth: usize) -> ControlFlow<()> {
    match depth > MOST {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_of_each_kind_have_an_end() {
        let chain = |first: &str, next: &str, count: usize| format!("SELECT {first}{}", next.repeat(count));
        for (first, next) in [
            ("1", " + 1"),
            ("a FROM t WHERE a = 1", " OR a = 1"),
            ("1", "::TEXT"),
            ("a", " -> 'b'"),
            ("1", " UNION ALL SELECT 1"),
            ("1 FROM t", " CROSS JOIN t"),
            ("1 FROM t", ", t"),
        ] {
            assert_eq!(check(&chain(first, next, 300)), Ok(()), "{next}");
            assert_eq!(check(&chain(first, next, 1_000)), Err(TooDeep), "{next}");
            assert_eq!(check(&chain(first, next, 100_000)), Err(TooDeep), "{next}");
        }
    }

    #[test]
    fn long_lists_are_not_deep() {
        let list = vec!["1"; 10_000].join(", ");
        assert_eq!(check(&format!("SELECT {list} WHERE 1 IN ({list})")), Ok(()));
        let rows = vec!["(1)"; 10_000].join(", ");
        assert_eq!(check(&format!("SELECT * FROM (VALUES {rows}) AS t (a)")), Ok(()));
        assert_eq!(check(&"(".repeat(10_000)), Ok(()), "others say that it cannot be read");
    }
}
