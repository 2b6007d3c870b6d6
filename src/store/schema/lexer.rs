//! CQL cut into tokens: enough to split a file into statements and to find the values that are filled in, with
//! comments, quoted text, quoted names and `$$` text understood.

use super::Error;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A keyword or an unquoted name.
    Word,
    /// A quoted name, with its quotes.
    QuotedName,
    /// A string, with its quotes.
    Text,
    Number,
    /// One character of punctuation.
    Symbol,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub kind: Kind,
    /// As it stands in the source.
    pub text: &'a str,
    /// Byte offset in the source.
    pub start: usize,
}

impl Token<'_> {
    pub(super) fn end(&self) -> usize {
        self.start + self.text.len()
    }

    /// Whether this is the keyword or the punctuation `text`.
    pub(super) fn is(&self, text: &str) -> bool {
        matches!(self.kind, Kind::Word | Kind::Symbol) && self.text.eq_ignore_ascii_case(text)
    }

    /// The name as the system tables hold it: folded to lower case unless quoted.
    pub(super) fn name(&self) -> Option<String> {
        match self.kind {
            Kind::Word => Some(self.text.to_ascii_lowercase()),
            Kind::QuotedName => Some(unquoted(self.text, '"')),
            _ => None,
        }
    }

    /// The value of a string or a number.
    pub(super) fn value(&self) -> Option<String> {
        match self.kind {
            Kind::Text if self.text.starts_with('$') => Some(self.text[2..self.text.len() - 2].to_owned()),
            Kind::Text => Some(unquoted(self.text, '\'')),
            Kind::Number => Some(self.text.to_owned()),
            _ => None,
        }
    }
}

fn unquoted(text: &str, quote: char) -> String {
    let doubled: String = [quote, quote].iter().collect();
    text[1..text.len() - 1].replace(&doubled, &quote.to_string())
}

/// All the tokens of `source`; whitespace and comments are between them.
pub(super) fn tokens(source: &str) -> Result<Vec<Token<'_>>, Error> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = source[at..].chars().next() {
        let rest = &source[at..];
        let unterminated = |what| Error::Source {
            line: source[..at].matches('\n').count() + 1,
            message: format!("a {what} begins here and does not end"),
        };
        let (kind, length) = if first.is_whitespace() {
            (None, first.len_utf8())
        } else if rest.starts_with("--") || rest.starts_with("//") {
            (None, rest.find('\n').unwrap_or(rest.len()))
        } else if let Some(comment) = rest.strip_prefix("/*") {
            (None, comment.find("*/").ok_or_else(|| unterminated("comment"))? + 4)
        } else if let Some(text) = rest.strip_prefix("$$") {
            (Some(Kind::Text), text.find("$$").ok_or_else(|| unterminated("string"))? + 4)
        } else if first == '\'' {
            (Some(Kind::Text), quoted_length(rest, b'\'').ok_or_else(|| unterminated("string"))?)
        } else if first == '"' {
            (Some(Kind::QuotedName), quoted_length(rest, b'"').ok_or_else(|| unterminated("quoted name"))?)
        } else if first.is_ascii_digit() {
            (Some(Kind::Number), run_length(rest, |c| c.is_ascii_alphanumeric() || c == '.'))
        } else if first.is_alphabetic() || first == '_' {
            (Some(Kind::Word), run_length(rest, |c| c.is_alphanumeric() || c == '_'))
        } else {
            (Some(Kind::Symbol), first.len_utf8())
        };
        tokens.extend(kind.map(|kind| Token { kind, text: &rest[..length], start: at }));
        at += length;
    }
    Ok(tokens)
}

/// The length of a quoted piece at the start of `rest`, in which a doubled quote stands for one.
fn quoted_length(rest: &str, quote: u8) -> Option<usize> {
    let bytes = rest.as_bytes();
    let mut at = 1;
    loop {
        at += bytes.get(at..)?.iter().position(|&byte| byte == quote)? + 1;
        if bytes.get(at) != Some(&quote) {
            return Some(at);
        }
        at += 1;
    }
}

fn run_length(rest: &str, belongs: impl Fn(char) -> bool) -> usize {
    rest.find(|c| !belongs(c)).unwrap_or(rest.len())
}

/// The tokens of each statement of `tokens`, without the semicolons; empty statements are left out.
pub(super) fn statements<'a, 'b>(tokens: &'b [Token<'a>]) -> impl Iterator<Item = &'b [Token<'a>]> {
    tokens.split(|token| token.is(";")).filter(|statement| !statement.is_empty())
}

/// The text that `statement`'s tokens span in `source`.
pub(super) fn text<'a>(source: &'a str, statement: &[Token<'_>]) -> &'a str {
    match (statement.first(), statement.last()) {
        (Some(first), Some(last)) => &source[first.start..last.end()],
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(source: &str) -> Vec<&str> {
        let tokens = tokens(source).unwrap();
        statements(&tokens).map(|statement| text(source, statement)).collect()
    }

    #[test]
    fn statements_end_at_semicolons() {
        assert_eq!(split("USE a; SELECT 1 ;\n;;SELECT 2"), ["USE a", "SELECT 1", "SELECT 2"]);
        assert_eq!(split(" -- nothing; at all\n"), Vec::<&str>::new());
    }

    #[test]
    fn semicolons_in_comments_text_and_names_end_nothing() {
        for statement in [
            "SELECT 'a;b'",
            "SELECT 'it''s; fine'",
            "SELECT $$don't; $ stop$$",
            "SELECT \"odd;\"\"name\"",
            "SELECT a -- one; comment\n, b",
            "SELECT a // another; 'comment\n, b",
            "SELECT a /* and; \n 'a third */, b",
        ] {
            assert_eq!(split(&format!("-- first; comment\n{statement}; USE x")), [statement, "USE x"]);
        }
    }

    #[test]
    fn what_does_not_end_is_refused_with_its_line() {
        for (source, what) in
            [("'a''", "string"), ("\"a", "quoted name"), ("/* a", "comment"), ("$$a$", "string")]
        {
            let error = tokens(&format!("SELECT 1;\n\n{source}")).unwrap_err().to_string();
            assert!(error.contains("line 3") && error.contains(what), "{error}");
        }
    }

    #[test]
    fn names_fold_to_lower_case_unless_quoted() {
        let tokens = tokens("Table \"My\"\"Table\" 'it''s' $$raw$$ 3.5e1").unwrap();
        let names: Vec<_> = tokens.iter().map(Token::name).collect();
        assert_eq!(names, [Some("table".into()), Some("My\"Table".into()), None, None, None]);
        let values: Vec<_> = tokens.iter().filter_map(Token::value).collect();
        assert_eq!(values, ["it's", "raw", "3.5e1"]);
    }
}
