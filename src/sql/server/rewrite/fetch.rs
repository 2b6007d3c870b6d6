//! `FETCH` and `MOVE` as PostgreSQL reads them: `FETCH name`, `FETCH FORWARD 5 name`, `MOVE ALL IN name`. The parser knows
//! `FETCH direction FROM name` only, and no MOVE, which becomes a FETCH into nothing.

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

/// The name into which the rows of a MOVE are fetched: they are counted, and not sent.
pub(in super::super) const MOVED: &str = "iotctl_moved";

/// The statements with their FETCH and MOVE in the parser's form, if there are any.
pub(super) fn in_full(sql: &str) -> Option<String> {
    let has_word = |word: &str| sql.to_ascii_lowercase().contains(word);
    if !has_word("fetch") && !has_word("move") {
        return None;
    }
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql).with_unescape(false).tokenize().ok()?;
    let statements = tokens.split(|token| *token == Token::SemiColon);
    let mut is_changed = false;
    let texts = statements.map(|statement| {
        let text = statement.iter().map(ToString::to_string).collect::<String>();
        match one(statement) {
            Some(fetch) => {
                is_changed = true;
                fetch
            }
            None => text,
        }
    });
    let text = texts.collect::<Vec<_>>().join(";");
    is_changed.then_some(text)
}

fn one(statement: &[Token]) -> Option<String> {
    let mut words: Vec<String> = statement
        .iter()
        .filter(|token| !matches!(token, Token::Whitespace(_)))
        .map(ToString::to_string)
        .collect();
    let first = words.first()?.to_ascii_uppercase();
    let is_move = match &*first {
        "FETCH" => false,
        "MOVE" => true,
        _ => return None,
    };
    words.remove(0);
    let name = words.pop()?;
    if words.last().is_some_and(|word| ["FROM", "IN"].contains(&&*word.to_ascii_uppercase())) {
        words.pop();
    }
    let upper: Vec<_> = words.iter().map(|word| word.to_ascii_uppercase()).collect();
    let direction = match upper.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] | ["NEXT" | "FORWARD"] => "NEXT".to_owned(),
        ["ALL"] | ["FORWARD", "ALL"] => "ALL".to_owned(),
        ["FORWARD" | "RELATIVE", number] if is_number(number) => (*number).to_owned(),
        [number] if is_number(number) => (*number).to_owned(),
        ["-", number] | ["FORWARD", "-", number] => format!("BACKWARD {number}"),
        ["BACKWARD"] => "PRIOR".to_owned(),
        other => other.join(" "),
    };
    let into = if is_move { format!(" INTO {MOVED}") } else { String::new() };
    Some(format!("FETCH {direction} FROM {name}{into}"))
}

fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    #[test]
    fn a_fetch_has_its_direction_and_its_from() {
        for (given, expected) in [
            ("FETCH c", "FETCH NEXT FROM c"),
            ("fetch next c", "FETCH NEXT FROM c"),
            ("FETCH FROM c", "FETCH NEXT FROM c"),
            ("FETCH FORWARD c", "FETCH NEXT FROM c"),
            ("FETCH 5 IN \"C d\"", "FETCH 5 FROM \"C d\""),
            ("FETCH FORWARD 5 FROM c", "FETCH 5 FROM c"),
            ("FETCH FORWARD ALL c", "FETCH ALL FROM c"),
            ("FETCH -1 c", "FETCH BACKWARD 1 FROM c"),
            ("FETCH BACKWARD ALL FROM c", "FETCH BACKWARD ALL FROM c"),
            ("FETCH FIRST FROM c", "FETCH FIRST FROM c"),
            ("MOVE c", "FETCH NEXT FROM c INTO iotctl_moved"),
            ("MOVE FORWARD 10 IN c", "FETCH 10 FROM c INTO iotctl_moved"),
            ("SELECT 'fetch;'; FETCH c; SELECT 2", "SELECT 'fetch;';FETCH NEXT FROM c; SELECT 2"),
        ] {
            let found = in_full(given).unwrap();
            assert_eq!(found, expected, "{given}");
            assert!(Parser::parse_sql(&PostgreSqlDialect {}, &found).is_ok(), "{found}");
        }
        for other in ["SELECT 1", "SELECT a FROM t FETCH FIRST 5 ROWS ONLY", "SELECT 'move'", "FETCH"] {
            assert_eq!(in_full(other), None, "{other}");
        }
    }
}
