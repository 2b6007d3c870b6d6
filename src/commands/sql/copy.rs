//! `COPY (SELECT …) TO 'FILE'`: a file on the user's own machine. Only here: the server never writes.

use std::path::PathBuf;

use datafusion::sql::parser::{CopyToSource, CopyToStatement, DFParserBuilder, Statement};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;

use super::SqlFormat;
use crate::error::UsageError;

/// What is to be written, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Copy {
    pub(super) statement: String,
    pub(super) path: PathBuf,
    pub(super) format: SqlFormat,
}

/// `None` where the statement is not COPY … TO.
///
/// # Errors
/// What is wrong with it.
pub(super) fn of(statement: &str) -> Result<Option<Copy>, UsageError> {
    let is_copy = statement.trim_start().get(..4).is_some_and(|word| word.eq_ignore_ascii_case("copy"));
    if !is_copy {
        return Ok(None);
    }
    let refused = |what: &dyn std::fmt::Display| {
        UsageError::new(format!(
            "{what} (write COPY (SELECT …) TO 'FILE.parquet', 'FILE.csv' or 'FILE.ndjson')"
        ))
    };
    let parsed = DFParserBuilder::new(statement).with_dialect(&PostgreSqlDialect {}).build();
    let parsed = parsed.and_then(|mut parser| parser.parse_statement()).map_err(|error| refused(&error))?;
    let Statement::CopyTo(CopyToStatement { source, target, partitioned_by, stored_as, options }) = parsed
    else {
        return Err(refused(&"this COPY is not supported"));
    };
    if !partitioned_by.is_empty() || !options.is_empty() {
        return Err(refused(&"COPY has no options and no partitions"));
    }
    let statement = match source {
        CopyToSource::Query(query) => query.to_string(),
        CopyToSource::Relation(table) => format!("SELECT * FROM {table}"),
    };
    let path = PathBuf::from(target);
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    let format = match stored_as.map(|kind| kind.to_lowercase()).or(ending).as_deref() {
        Some("parquet") => SqlFormat::Parquet,
        Some("csv") => SqlFormat::Csv,
        Some("json" | "ndjson" | "jsonl") => SqlFormat::Ndjson,
        _ => return Err(refused(&format!("{} has no known ending", path.display()))),
    };
    Ok(Some(Copy { statement, path, format }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_or_stored_as_is_the_format() {
        let found = of("copy (SELECT 1 AS a) TO 'a b.Parquet'").unwrap().unwrap();
        assert_eq!((found.path, found.format), (PathBuf::from("a b.Parquet"), SqlFormat::Parquet));
        let found = of("COPY daily TO 'x' STORED AS CSV").unwrap().unwrap();
        assert_eq!((&*found.statement, found.format), ("SELECT * FROM daily", SqlFormat::Csv));
        assert_eq!(of("SELECT 'copy'").unwrap(), None);
    }

    #[test]
    fn anything_else_is_refused() {
        for statement in ["COPY (SELECT 1) TO 'x'", "COPY readings FROM 'x.csv'", "copy"] {
            assert!(of(statement).is_err(), "{statement}");
        }
    }
}
