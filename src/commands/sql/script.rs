//! Statements from lines: each up to its semicolon, and commands that begin with a dot.

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    Statement(String),
    /// Without its dot.
    Command(String),
}

/// Lines that are not a whole statement yet.
#[derive(Debug, Default)]
pub(super) struct Script {
    waiting: String,
}

impl Script {
    /// Takes a line, and gives what is whole now.
    pub(super) fn push(&mut self, line: &str) -> Vec<Item> {
        if self.waiting.is_empty()
            && let Some(command) = line.trim().strip_prefix('.')
        {
            return vec![Item::Command(command.trim_end_matches(';').trim_end().to_owned())];
        }
        self.waiting += line;
        self.waiting.push('\n');
        let statements = match line.contains(';') {
            true => self.take(),
            false => Vec::new(),
        };
        if is_blank(&self.waiting) {
            self.waiting.clear();
        }
        statements
    }

    /// Whether a statement has begun.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// What is left at the end: the last statement needs no semicolon.
    pub(super) fn finish(&mut self) -> Option<Item> {
        let rest = std::mem::take(&mut self.waiting);
        (!is_blank(&rest)).then(|| Item::Statement(rest.trim().to_owned()))
    }

    /// Forgets the statement that has begun.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    fn take(&mut self) -> Vec<Item> {
        // A text that does not end here goes on in the next line.
        let Some(tokens) = tokens(&self.waiting) else { return Vec::new() };
        let mut found = Vec::new();
        let mut statement = String::new();
        for token in tokens {
            match token {
                Token::SemiColon => {
                    if !is_blank(&statement) {
                        found.push(Item::Statement(statement.trim().to_owned()));
                    }
                    statement.clear();
                }
                token => statement += &token.to_string(),
            }
        }
        self.waiting = statement.trim_start().to_owned();
        found
    }
}

/// Whether there is nothing but blanks and comments.
fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
        || tokens(text).is_some_and(|tokens| tokens.iter().all(|token| matches!(token, Token::Whitespace(_))))
}

/// As they were written. `None` within a text, a quoted name or a comment.
fn tokens(text: &str) -> Option<Vec<Token>> {
    Tokenizer::new(&PostgreSqlDialect {}, text).with_unescape(false).tokenize().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(text: &str) -> Vec<Item> {
        let mut script = Script::default();
        let mut found: Vec<_> = text.lines().flat_map(|line| script.push(line)).collect();
        found.extend(script.finish());
        found
    }

    fn statement(text: &str) -> Item {
        Item::Statement(text.to_owned())
    }

    #[test]
    fn statements_end_at_their_semicolons_and_the_last_at_the_end() {
        assert_eq!(
            items("SELECT 1; SELECT\n 2;;\n\nSELECT 3"),
            [statement("SELECT 1"), statement("SELECT\n 2"), statement("SELECT 3")]
        );
        assert_eq!(items(" \n-- nothing;\n/* and; nothing */\n"), []);
    }

    #[test]
    fn a_semicolon_in_a_text_a_name_or_a_comment_ends_nothing() {
        let text = "SELECT ';', 'it''s;\nstill', \";\" -- no; end\n, $$a;b$$ /* ; */;";
        assert_eq!(items(text), [statement(&text[..text.len() - 1])]);
        assert_eq!(
            items("SELECT 'ö;'; SELECT 'never ends;"),
            [statement("SELECT 'ö;'; SELECT 'never ends;")]
        );
    }

    #[test]
    fn commands_are_lines_that_begin_with_a_dot_between_statements() {
        let found = items(".tables\n .schema readings ;\nSELECT 1\n.5;\n.quit");
        let command = |text: &str| Item::Command(text.to_owned());
        assert_eq!(
            found,
            [command("tables"), command("schema readings"), statement("SELECT 1\n.5"), command("quit")]
        );
    }
}
