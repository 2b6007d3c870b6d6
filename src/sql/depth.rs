//! What is refused before it is planned: statements that nest too deeply, that grow too far, or whose answer would be another one.
//! The planner goes down into a statement by calls, and a chain such as `1 + 1 + …`, which the parser reads in a loop, would end the
//! whole program by the stack of one thread. A query of WITH is planned again wherever it is named, so that a chain in which each
//! names the one before twice doubles with each link.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::error::{DataFusionError, Result};
use datafusion::sql::sqlparser::ast::{Expr, Query, Select, SetExpr, TableFactor, Visit as _, Visitor};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

/// Operators within each other, tables that are joined, sets that are united. The stack of a thread ([`crate::runtime`]) holds several
/// times as many, also in a build without optimisation.
const MOST: usize = 400;
/// Words and signs without a comma: a tree of more may be so deep that even dropping it takes too much of a stack.
const LONGEST_RUN: usize = 40_000;

/// Tables that are read, with those of WITH wherever they are named.
const MOST_TABLES: u64 = 1_000;

/// A statement that is not planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error(
        "the statement is nested too deeply: over {} operators within each other, joins or sets (write long chains as IN, = ANY or VALUES)",
        MOST
    )]
    TooDeep,
    #[error(
        "the statement reads over {} tables, those of a query in WITH counted each time that it is named (name it once, or aggregate in it)",
        MOST_TABLES
    )]
    TooManyTables,
    /// It would be left out, and all rows would be read.
    #[error("TABLESAMPLE is not supported (narrow the range of time, or use WHERE random() < 0.01)")]
    Sample,
}

impl From<Refused> for DataFusionError {
    fn from(error: Refused) -> Self {
        Self::External(Box::new(error))
    }
}

/// What cannot be read is for others to refuse.
pub(super) fn check(sql: &str) -> Result<(), Refused> {
    // A chain of so many has more bytes, unless it doubles.
    let has = |word: &str| sql.len() >= word.len() && sql.to_lowercase().contains(word);
    if sql.len() <= MOST && !has("with") && !has("tablesample") {
        return Ok(());
    }
    let Ok(tokens) = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize() else { return Ok(()) };
    let runs = tokens.split(|token| matches!(token, Token::Comma | Token::SemiColon));
    if runs
        .map(|run| run.iter().filter(|token| !matches!(token, Token::Whitespace(_))).count())
        .any(|count| count > LONGEST_RUN)
    {
        return Err(Refused::TooDeep);
    }
    let Ok(statements) = Parser::parse_sql(&PostgreSqlDialect {}, sql) else { return Ok(()) };
    match statements.visit(&mut Depth::default()) {
        ControlFlow::Break(refused) => Err(refused),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// Goes no deeper than is allowed.
#[derive(Default)]
struct Depth {
    expressions: usize,
    /// The queries around, the innermost last.
    queries: Vec<Tables>,
}

/// The tables of a query.
#[derive(Default)]
struct Tables {
    count: u64,
    /// The names of its WITH whose queries come next, the first one last.
    expected: Vec<String>,
    /// The tables of those that have been seen.
    named: HashMap<String, u64>,
}

impl Depth {
    /// The tables behind a name: one, unless it is that of a query in WITH.
    fn behind(&self, name: &str) -> u64 {
        let name = name.to_lowercase();
        self.queries.iter().rev().find_map(|query| query.named.get(&name)).map_or(1, |count| (*count).max(1))
    }
}

impl Visitor for Depth {
    type Break = Refused;

    fn pre_visit_expr(&mut self, _: &Expr) -> ControlFlow<Refused> {
        self.expressions += 1;
        allowed(self.expressions)
    }

    fn post_visit_expr(&mut self, _: &Expr) -> ControlFlow<Refused> {
        self.expressions -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Refused> {
        let with = query.with.iter().flat_map(|with| &with.cte_tables);
        let expected = with.map(|query| query.alias.name.value.to_lowercase()).rev().collect();
        self.queries.push(Tables { expected, ..Tables::default() });
        sets(&query.body, 1)
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<Refused> {
        let Some(done) = self.queries.pop() else { return ControlFlow::Continue(()) };
        if done.count > MOST_TABLES {
            return ControlFlow::Break(Refused::TooManyTables);
        }
        if let Some(around) = self.queries.last_mut() {
            match around.expected.pop() {
                Some(name) => drop(around.named.insert(name, done.count)),
                None => around.count = around.count.saturating_add(done.count),
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<Refused> {
        let TableFactor::Table { name, sample, .. } = table else { return ControlFlow::Continue(()) };
        if sample.is_some() {
            return ControlFlow::Break(Refused::Sample);
        }
        let behind = match &*name.0 {
            [only] => only.as_ident().map_or(1, |name| self.behind(&name.value)),
            _ => 1,
        };
        if let Some(query) = self.queries.last_mut() {
            query.count = query.count.saturating_add(behind);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Refused> {
        allowed(select.from.iter().map(|from| 1 + from.joins.len()).sum())
    }
}

fn sets(body: &SetExpr, depth: usize) -> ControlFlow<Refused> {
    allowed(depth)?;
    match body {
        SetExpr::SetOperation { left, right, .. } => {
            sets(left, depth + 1)?;
            sets(right, depth + 1)
        }
        _ => ControlFlow::Continue(()),
    }
}

fn allowed(depth: usize) -> ControlFlow<Refused> {
    match depth > MOST {
        true => ControlFlow::Break(Refused::TooDeep),
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
            assert_eq!(check(&chain(first, next, 1_000)), Err(Refused::TooDeep), "{next}");
            assert_eq!(check(&chain(first, next, 100_000)), Err(Refused::TooDeep), "{next}");
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

    /// A chain of queries, each of which names the one before `times` times.
    fn chain_of_with(links: usize, times: usize) -> String {
        let link = |link: usize| {
            let before: Vec<_> = (0..times).map(|copy| format!("c{} AS t{copy}", link - 1)).collect();
            format!(", c{link} AS (SELECT t0.a FROM {})", before.join(", "))
        };
        let chain: String = (1..links).map(link).collect();
        format!("WITH c0 AS (SELECT a FROM readings){chain} SELECT * FROM C{}", links - 1)
    }

    #[test]
    fn queries_of_with_count_wherever_they_are_named() {
        assert_eq!(check(&chain_of_with(100, 1)), Ok(()));
        assert_eq!(check(&chain_of_with(9, 2)), Ok(()));
        for (links, times) in [(12, 2), (8, 3), (100, 2), (3, 60)] {
            assert_eq!(check(&chain_of_with(links, times)), Err(Refused::TooManyTables), "{links}, {times}");
        }
        // Short ones double too, also within subqueries.
        let mut short = "WITH a AS(SELECT 1 x)".to_owned();
        for (before, name) in ('a'..'l').zip('b'..='l') {
            short += &format!(",{name} AS(SELECT 1 FROM {before},{before} z)");
        }
        let short = format!("SELECT (SELECT count(*) FROM ({short} SELECT 1 FROM l))");
        assert!(short.len() < 450);
        assert_eq!(check(&short), Err(Refused::TooManyTables));
        // A name means the query only where it stands.
        let plain = "SELECT 1 FROM (WITH a AS (SELECT 1 FROM t, t u) SELECT 1 FROM a, a b) x, a, public.a";
        assert_eq!(check(plain), Ok(()));
    }

    #[test]
    fn a_sample_is_refused() {
        assert_eq!(check("SELECT * FROM readings TABLESAMPLE SYSTEM (1)"), Err(Refused::Sample));
        assert_eq!(check("SELECT tablesample FROM (SELECT 1 AS tablesample) AS t"), Ok(()));
    }
}
