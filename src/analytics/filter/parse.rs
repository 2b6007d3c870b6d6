//! The parser of conditions. Length and depth are bounded, so that no text can exhaust the stack.

use super::{FilterError, Literal, Node, Operator};
use crate::analytics::column::Column;
use crate::reading::Metric;
use crate::time::{self, Zone};

const MAX_BYTES: usize = 4_096;
const MAX_DEPTH: usize = 64;

pub(super) fn parse(text: &str, zone: Zone, now: i64) -> Result<Node, FilterError> {
    if text.len() > MAX_BYTES {
        let message = format!(
            "the condition is {} bytes long, more than the maximum of {MAX_BYTES} (shorten it)",
            text.len()
        );
        return Err(FilterError { message, text: text.chars().take(60).collect(), column: 60 });
    }
    let mut parser = Parser { text, at: 0, depth: 0, zone, now };
    let node = parser.condition()?;
    match parser.next()? {
        Token { kind: Kind::End, .. } => Ok(node),
        Token { kind: Kind::Close, at, .. } => Err(parser.error(at, "unexpected `)`")),
        token => Err(parser.error(token.at, "expected `and`, `or` or the end")),
    }
}

struct Parser<'a> {
    text: &'a str,
    /// Byte offset of the rest of the text.
    at: usize,
    depth: usize,
    zone: Zone,
    now: i64,
}

/// A token and the byte offset of its start.
#[derive(Debug, Clone, PartialEq)]
struct Token<'a> {
    kind: Kind<'a>,
    at: usize,
}

#[derive(Debug, Clone, PartialEq)]
enum Kind<'a> {
    Word(&'a str),
    Quoted(String),
    Number(&'a str),
    Operator(Operator),
    Open,
    Close,
    End,
}

impl Kind<'_> {
    fn is_word(&self, word: &str) -> bool {
        matches!(self, Kind::Word(found) if found.eq_ignore_ascii_case(word))
    }
}

impl<'a> Parser<'a> {
    fn condition(&mut self) -> Result<Node, FilterError> {
        let mut node = self.conjunction()?;
        let mut chained = 0;
        while self.accept_word("or")? {
            self.count_link(&mut chained)?;
            node = Node::Or(Box::new(node), Box::new(self.conjunction()?));
        }
        Ok(node)
    }

    fn conjunction(&mut self) -> Result<Node, FilterError> {
        let mut node = self.unary()?;
        let mut chained = 0;
        while self.accept_word("and")? {
            self.count_link(&mut chained)?;
            node = Node::And(Box::new(node), Box::new(self.unary()?));
        }
        Ok(node)
    }

    fn unary(&mut self) -> Result<Node, FilterError> {
        let token = self.next()?;
        if self.depth >= MAX_DEPTH {
            return Err(self.error(token.at, &format!("nested more than {MAX_DEPTH} deep (simplify it)")));
        }
        self.depth += 1;
        let node = match &token.kind {
            kind if kind.is_word("not") => Node::Not(Box::new(self.unary()?)),
            Kind::Open => {
                let node = self.condition()?;
                let close = self.next()?;
                if close.kind != Kind::Close {
                    return Err(self.error(close.at, "expected `)`"));
                }
                node
            }
            Kind::Word(name) => self.comparison(token.at, Column::named(name))?,
            Kind::Quoted(name) => self.comparison(token.at, Column::named(name))?,
            Kind::End => return Err(self.error(token.at, "expected a column, such as temperature")),
            _ => {
                return Err(
                    self.error(token.at, "a comparison must start with a column, as in temperature > 28")
                );
            }
        };
        self.depth -= 1;
        Ok(node)
    }

    fn comparison(&mut self, column_at: usize, column: Column) -> Result<Node, FilterError> {
        let before = self.at;
        let token = self.next()?;
        match token.kind {
            Kind::Operator(operator) => {
                let literal_at = self.next()?;
                self.compare(column, operator, literal_at)
            }
            ref kind if kind.is_word("is") => {
                let negated = self.accept_word("not")?;
                let missing = self.next()?;
                if !missing.kind.is_word("missing") {
                    return Err(self.error(missing.at, "expected `missing`, as in humidity is missing"));
                }
                let node = Node::Missing(column);
                Ok(if negated { Node::Not(Box::new(node)) } else { node })
            }
            _ if column == Column::MotionDetected => {
                self.at = before;
                Ok(Node::Compare(column, Operator::Equal, Literal::Boolean(true)))
            }
            _ => {
                let message = format!(
                    "expected =, !=, <, <=, >, >= or `is missing` after {} (columns: {}, or any other metric)",
                    column.name(),
                    Column::ALL.each_ref().map(Column::name).join(", ")
                );
                let at = if token.kind == Kind::End { column_at } else { token.at };
                Err(self.error(at, &message))
            }
        }
    }

    fn compare(&self, column: Column, operator: Operator, token: Token<'_>) -> Result<Node, FilterError> {
        let expected = |what: &str| {
            Err(self.error(token.at, &format!("{} must be compared with {what}", column.name())))
        };
        let literal = match &column {
            Column::Metric(metric) => match token.kind {
                Kind::Number(number) => self.number(token.at, number)?,
                // A state.
                Kind::Quoted(text) if matches!(metric, Metric::Other(_)) => Literal::Text(text),
                _ => return expected("a number, as in > 28.5"),
            },
            Column::MotionDetected => match &token.kind {
                kind if kind.is_word("true") => Literal::Boolean(true),
                kind if kind.is_word("false") => Literal::Boolean(false),
                _ => return expected("true or false"),
            },
            Column::Location | Column::DeviceType => match token.kind {
                Kind::Quoted(text) => Literal::Text(text),
                _ => return expected("text in quotes, as in = \"plant-1\""),
            },
            Column::Sensor => match &token.kind {
                Kind::Quoted(text) => match uuid::Uuid::parse_str(text) {
                    Ok(sensor) => Literal::Sensor(sensor),
                    Err(_) => return expected("a UUID in quotes"),
                },
                _ => return expected("a UUID in quotes"),
            },
            Column::RecordedAt => match &token.kind {
                Kind::Quoted(text) => match self.moment(operator, text) {
                    Ok(moment) => Literal::Moment(moment),
                    Err(error) => return Err(self.error(token.at, &error.to_string())),
                },
                _ => return expected("a time in quotes, as in >= \"2026-01-31 12:00\""),
            },
            Column::OtherMetrics => {
                let message = "other_metrics is a map (compare one of its metrics, as in rpm > 1000)";
                return Err(self.error(token.at, message));
            }
            Column::States => {
                let message = "states is a map (compare one of its texts, as in mode = \"eco\")";
                return Err(self.error(token.at, message));
            }
        };
        Ok(Node::Compare(column, operator, literal))
    }

    /// Of a time that came twice, because clocks were set back, the one with which the comparison holds for more moments.
    fn moment(&self, operator: Operator, text: &str) -> Result<i64, time::TimeError> {
        match operator {
            Operator::Less | Operator::LessOrEqual => time::last_moment(text, self.zone, self.now),
            _ => time::moment(text, self.zone, self.now),
        }
    }

    fn number(&self, at: usize, text: &str) -> Result<Literal, FilterError> {
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Literal::Number(number)),
            Ok(_) => Err(self.error(at, "this number is too large for a 64-bit float")),
            Err(_) => Err(self.error(at, "not a number (write 28, -3.5 or 1e3)")),
        }
    }

    /// A chain of `and` is a tree as deep as the chain is long.
    fn count_link(&self, chained: &mut usize) -> Result<(), FilterError> {
        *chained += 1;
        if *chained > MAX_BYTES / 8 {
            return Err(self.error(self.at, "too many conditions in a row (simplify it)"));
        }
        Ok(())
    }

    fn accept_word(&mut self, word: &str) -> Result<bool, FilterError> {
        let before = self.at;
        let accepted = self.next()?.kind.is_word(word);
        if !accepted {
            self.at = before;
        }
        Ok(accepted)
    }

    fn next(&mut self) -> Result<Token<'a>, FilterError> {
        let text = self.text;
        let rest = text[self.at..].trim_start();
        let at = text.len() - rest.len();
        let Some(first) = rest.chars().next() else {
            self.at = at;
            return Ok(Token { kind: Kind::End, at });
        };
        let (kind, length) = match first {
            '(' => (Kind::Open, 1),
            ')' => (Kind::Close, 1),
            '=' | '!' | '<' | '>' => self.operator(rest, at)?,
            '\'' | '"' => self.quoted(rest, at, first)?,
            '0'..='9' | '+' | '-' | '.' => {
                let length = span(rest, |c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
                (Kind::Number(&rest[..length]), length)
            }
            c if c.is_alphabetic() || c == '_' => {
                let length = span(rest, |c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/'));
                (Kind::Word(&rest[..length]), length)
            }
            _ => return Err(self.error(at, "unexpected character (put unusual names in double quotes)")),
        };
        self.at = at + length;
        Ok(Token { kind, at })
    }

    fn operator(&self, rest: &str, at: usize) -> Result<(Kind<'a>, usize), FilterError> {
        const OPERATORS: [(&str, Operator); 8] = [
            ("==", Operator::Equal),
            ("!=", Operator::NotEqual),
            ("<>", Operator::NotEqual),
            ("<=", Operator::LessOrEqual),
            (">=", Operator::GreaterOrEqual),
            ("=", Operator::Equal),
            ("<", Operator::Less),
            (">", Operator::Greater),
        ];
        OPERATORS
            .iter()
            .find(|(sign, _)| rest.starts_with(sign))
            .map(|(sign, operator)| (Kind::Operator(*operator), sign.len()))
            .ok_or_else(|| self.error(at, "unknown operator (use =, !=, <, <=, > or >=)"))
    }

    /// Text up to the next quote of the same kind; two of them stand for one.
    fn quoted(&self, rest: &str, at: usize, quote: char) -> Result<(Kind<'a>, usize), FilterError> {
        let mut text = String::new();
        let mut characters = rest.char_indices().skip(1).peekable();
        while let Some((index, character)) = characters.next() {
            if character != quote {
                text.push(character);
            } else if characters.next_if(|(_, next)| *next == quote).is_some() {
                text.push(quote);
            } else {
                return Ok((Kind::Quoted(text), index + 1));
            }
        }
        Err(self.error(at, "this quote is not closed (write a quote inside quotes twice)"))
    }

    fn error(&self, at: usize, message: &str) -> FilterError {
        let before = self.text.get(..at).unwrap_or(self.text);
        // Keep it on one line, so that the caret is below the fault.
        let text = self.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        FilterError { message: message.to_owned(), text, column: before.chars().count() }
    }
}

/// Length in bytes of the longest prefix whose characters all belong.
fn span(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|character| !belongs(character)).unwrap_or(text.len())
}
