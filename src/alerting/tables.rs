//! Files of named tables in TOML, such as `[[rule]]` and `[[receiver]]`. Errors name the line and the table.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;
use toml::Spanned;

use crate::config::duration::exact;

const MAX_BYTES: u64 = 1 << 20;
const MAX_NAME_BYTES: usize = 64;
const MAX_TIME: Duration = Duration::from_secs(30 * 86_400);

/// What the tables of a file are.
#[derive(Debug)]
pub(super) struct Kind {
    /// As in the file, such as `rule`.
    pub name: &'static str,
    pub most: usize,
    /// What to do where there are more, in parentheses; may be empty.
    pub too_many: &'static str,
    /// Why two may not have one name.
    pub known_by: &'static str,
}

/// Why a file of tables is refused.
#[derive(Debug, thiserror::Error)]
pub enum TablesError {
    #[error("cannot read the {kind}s: {source}")]
    Unreadable { kind: &'static str, source: std::io::Error },
    #[error("line {line}: {message}")]
    Syntax { line: usize, message: String },
    #[error("line {line}, {kind} {name:?}: {problem}")]
    Table { kind: &'static str, line: usize, name: String, problem: String },
    #[error("the file has no [[{kind}]]")]
    Empty { kind: &'static str },
    #[error("the file has {count} {kind}s, more than the maximum of {most}{remedy}")]
    TooMany { kind: &'static str, count: usize, most: usize, remedy: &'static str },
}

impl Kind {
    /// The text of the file at `path`.
    pub(super) fn read(&self, path: &Path) -> Result<String, TablesError> {
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text))
            .map_err(|source| TablesError::Unreadable { kind: self.name, source })?;
        if text.len() as u64 > MAX_BYTES {
            let message = format!("the file is larger than {}", bytesize::ByteSize(MAX_BYTES));
            return Err(TablesError::Syntax { line: 1, message });
        }
        Ok(text)
    }

    /// The checked tables of a file: `tables` takes them out of it, `name` is a table's.
    pub(super) fn parse<F: DeserializeOwned, R, T>(
        &self,
        text: &str,
        tables: impl FnOnce(F) -> Vec<Spanned<R>>,
        name: impl Fn(&R) -> &String,
        check: impl Fn(R) -> Result<T, String>,
    ) -> Result<Vec<T>, TablesError> {
        let kind = self.name;
        let line = |at: usize| text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
        let file: F = toml::from_str(text).map_err(|error| TablesError::Syntax {
            line: line(error.span().map_or(0, |span| span.start)),
            message: error.message().replace('\n', ", "),
        })?;
        let raw = tables(file);
        match raw.len() {
            0 => return Err(TablesError::Empty { kind }),
            count if count > self.most => {
                return Err(TablesError::TooMany { kind, count, most: self.most, remedy: self.too_many });
            }
            _ => {}
        }
        let mut names = HashSet::new();
        let mut checked = Vec::with_capacity(raw.len());
        for raw in raw {
            let (line, raw) = (line(raw.span().start), raw.into_inner());
            let name = name(&raw).clone();
            let table = match names.insert(name.clone()) {
                true => plain(&name).and_then(|()| check(raw)),
                false => Err(format!("another {kind} has this name (rename one: {})", self.known_by)),
            };
            checked.push(table.map_err(|problem| TablesError::Table { kind, line, name, problem })?);
        }
        Ok(checked)
    }
}

/// A name is a label of metrics.
fn plain(name: &str) -> Result<(), String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(is_plain) {
        return Err(format!("a name must have 1 to {MAX_NAME_BYTES} letters, digits, `-`, `_` or `.`"));
    }
    Ok(())
}

/// Reads a duration.
pub(super) fn length(key: &str, text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(length) if length <= MAX_TIME => Ok(length),
        Ok(_) => Err(format!("{key} is longer than {}", exact(MAX_TIME))),
        Err(_) => Err(format!("{key} is {text:?}, which is not a duration (such as 90s, 5m or 1h 30m)")),
    }
}
