//! What verbs over a CSV file of recorded values share: its columns, where it is read from, and what is wrong with it.

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::Context as _;

use crate::error::UsageError;
use crate::series::recorded::RowError;

/// The pairs of `--map`.
///
/// # Errors
/// One that is not COLUMN=FIELD.
pub fn columns(map: &[String]) -> Result<Vec<(String, String)>, UsageError> {
    map.iter().map(|item| pair(item)).collect()
}

fn pair(item: &str) -> Result<(String, String), UsageError> {
    match item.split_once('=').map(|(left, right)| (left.trim(), right.trim())) {
        Some((left, right)) if !left.is_empty() && !right.is_empty() => {
            Ok((left.to_owned(), right.to_owned()))
        }
        _ => Err(UsageError::new(format!("--map {item:?}: write it as COLUMN=FIELD"))),
    }
}

/// A file, or standard input for `-`, and its name in messages.
///
/// # Errors
/// A file that cannot be opened.
pub fn input(file: &Path) -> anyhow::Result<(String, Box<dyn io::Read + Send>)> {
    if file == Path::new("-") {
        return Ok(("standard input".to_owned(), Box::new(io::stdin())));
    }
    let open = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok((file.display().to_string(), Box::new(open)))
}

/// A failure of the file `name`, with the line.
pub fn row_error(name: &str, error: RowError) -> anyhow::Error {
    match error {
        RowError::Columns(message) => UsageError::new(format!("{name}: {message}")).into(),
        RowError::Line { line, message } => anyhow::anyhow!("{name}:{line}: {message}"),
        RowError::Unreadable(error) => anyhow::Error::new(error).context(format!("cannot read {name}")),
    }
}
