//! `--where`: a condition over the columns of a reading.
//!
//! ```text
//! condition  = and { "or" and }
//! and        = unary { "and" unary }
//! unary      = "not" unary | "(" condition ")" | comparison
//! comparison = column ( "=" | "==" | "!=" | "<>" | "<" | "<=" | ">" | ">=" ) literal
//!            | column "is" [ "not" ] "missing"
//!            | column                            (motion_detected alone: is it true)
//! ```
//! A column is a name or a quoted name; a literal is a number, `true`, `false` or quoted text (a time in quotes for
//! recorded_timestamp). Inside quotes, single or double, the same quote is written twice: `"5"" pipe"` is `5" pipe`.
//! Numbers are compared as the decimals that they were sent as, so that `temperature = 21.3` finds what was sent as 21.3.
//! A missing value satisfies no comparison, nor its negation (SQL's three-valued logic); `is missing` asks for it.

mod parse;

use std::cmp::Ordering;

use uuid::Uuid;

use super::column::{Column, Value};
use crate::store::readings::StoredReading;
use crate::time::Zone;

/// A condition over a reading.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    root: Node,
}

/// Why a condition cannot be read, with a caret below the place and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--where: {message}\n  {text}\n  {}^", " ".repeat(*.column))]
pub struct FilterError {
    pub message: String,
    /// The condition, and the number of characters before the fault.
    pub text: String,
    pub column: usize,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Not(Box<Node>),
    Missing(Column),
    Compare(Column, Operator, Literal),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, PartialEq)]
enum Literal {
    Number(f64),
    Boolean(bool),
    Text(String),
    Sensor(Uuid),
    Moment(i64),
}

impl Filter {
    /// Parses a condition. Times without a zone are in `zone`, relative ones count from `now` (milliseconds since the
    /// epoch).
    pub fn parse(text: &str, zone: Zone, now: i64) -> Result<Self, FilterError> {
        Ok(Self { root: parse::parse(text, zone, now)? })
    }

    /// Whether the condition is true for a reading; unknown is not true.
    pub fn accepts(&self, reading: &StoredReading) -> bool {
        self.root.holds(reading) == Some(true)
    }

    /// The columns that the condition uses.
    pub fn columns(&self) -> Vec<&Column> {
        let mut columns = Vec::new();
        self.root.collect_columns(&mut columns);
        columns
    }
}

impl Node {
    /// True, false, or unknown. The depth is bounded by the parser.
    fn holds(&self, reading: &StoredReading) -> Option<bool> {
        match self {
            Node::And(left, right) => match left.holds(reading) {
                Some(false) => Some(false),
                Some(true) => right.holds(reading),
                None => (right.holds(reading) == Some(false)).then_some(false),
            },
            Node::Or(left, right) => match left.holds(reading) {
                Some(true) => Some(true),
                Some(false) => right.holds(reading),
                None => (right.holds(reading) == Some(true)).then_some(true),
            },
            Node::Not(inner) => inner.holds(reading).map(|holds| !holds),
            Node::Missing(column) => Some(column.value(reading).is_none()),
            Node::Compare(column, operator, literal) => {
                let ordering = literal.compare_with(&column.value(reading)?)?;
                Some(operator.accepts(ordering))
            }
        }
    }

    fn collect_columns<'a>(&'a self, columns: &mut Vec<&'a Column>) {
        match self {
            Node::And(left, right) | Node::Or(left, right) => {
                left.collect_columns(columns);
                right.collect_columns(columns);
            }
            Node::Not(inner) => inner.collect_columns(columns),
            Node::Missing(column) | Node::Compare(column, ..) => columns.push(column),
        }
    }
}

impl Operator {
    fn accepts(self, ordering: Ordering) -> bool {
        match self {
            Operator::Equal => ordering.is_eq(),
            Operator::NotEqual => ordering.is_ne(),
            Operator::Less => ordering.is_lt(),
            Operator::LessOrEqual => ordering.is_le(),
            Operator::Greater => ordering.is_gt(),
            Operator::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

impl Literal {
    /// Compares `value` with this literal; `None` if they cannot be compared, which the parser rules out.
    fn compare_with(&self, value: &Value<'_>) -> Option<Ordering> {
        match (value, self) {
            (Value::Number(value), Literal::Number(literal)) => value.partial_cmp(literal),
            (Value::Boolean(value), Literal::Boolean(literal)) => Some(value.cmp(literal)),
            (Value::Text(value), Literal::Text(literal)) => Some((*value).cmp(literal)),
            (Value::Sensor(value), Literal::Sensor(literal)) => Some(value.cmp(literal)),
            (Value::Moment(value), Literal::Moment(literal)) => Some(value.cmp(literal)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
