//! `COPY (SELECT …) TO STDOUT`, as text, as CSV and in PostgreSQL's binary format.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::{
    CopyLegacyCsvOption, CopyLegacyOption, CopyOption, CopySource, CopyTarget, Ident, Statement,
};
use datafusion_postgres::arrow_pg::datatypes::df;
use datafusion_postgres::hooks::HookClient;
use datafusion_postgres::pgwire::api::portal::Format;
use datafusion_postgres::pgwire::api::results::{Response, Tag};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::PgWireBackendMessage;
use datafusion_postgres::pgwire::messages::copy::{CopyData, CopyDone, CopyOutResponse};
use datafusion_postgres::pgwire::messages::data::{FORMAT_CODE_BINARY, FORMAT_CODE_TEXT};
use datafusion_postgres::pgwire::types::format::FormatOptions;
use futures::StreamExt;

use super::errors::{code, error, planning};

/// Whether a statement only puts out rows to its client.
pub(super) fn is_to_client(statement: &Statement) -> bool {
    matches!(statement, Statement::Copy { to: true, target: CopyTarget::Stdout, .. })
}

/// How rows are written.
#[derive(Debug, PartialEq, Eq)]
struct Layout {
    is_binary: bool,
    is_csv: bool,
    delimiter: char,
    null: String,
    has_header: bool,
    quote: char,
    escape: char,
    always_quoted: Vec<String>,
    quotes_all: bool,
}

impl Layout {
    fn of(options: &[CopyOption], legacy: &[CopyLegacyOption]) -> PgWireResult<Self> {
        let format = options.iter().find_map(|option| match option {
            CopyOption::Format(name) => Some(name.value.to_lowercase()),
            _ => None,
        });
        let has_legacy = |wanted: fn(&CopyLegacyOption) -> bool| legacy.iter().any(wanted);
        let (is_csv, is_binary) = match format.as_deref() {
            None => (
                has_legacy(|option| matches!(option, CopyLegacyOption::Csv(_))),
                has_legacy(|option| matches!(option, CopyLegacyOption::Binary)),
            ),
            Some("text") => (false, false),
            Some("csv") => (true, false),
            Some("binary") => (false, true),
            Some(other) => return Err(not_supported(&format!("the format {other}"))),
        };
        if is_binary && options.len() + legacy.len() > 1 {
            return Err(error(code::WRONG_VALUE, "COPY: the format binary has no other options"));
        }
        let (delimiter, null) = if is_csv { (',', "") } else { ('\t', "\\N") };
        let mut layout = Self {
            is_binary,
            is_csv,
            delimiter,
            null: null.to_owned(),
            has_header: false,
            quote: '"',
            escape: '"',
            always_quoted: Vec::new(),
            quotes_all: false,
        };
        let mut escape = None;
        for option in options {
            match option {
                CopyOption::Format(_) | CopyOption::Freeze(false) => {}
                CopyOption::Delimiter(delimiter) => layout.delimiter = *delimiter,
                CopyOption::Null(null) => layout.null.clone_from(null),
                CopyOption::Header(header) => layout.has_header = *header,
                CopyOption::Quote(quote) => layout.quote = *quote,
                CopyOption::Escape(character) => escape = Some(*character),
                CopyOption::ForceQuote(columns) => layout.force_quote(columns),
                CopyOption::Encoding(name) if is_utf8(name) => {}
                other => return Err(not_supported(&other.to_string())),
            }
        }
        for option in legacy {
            match option {
                CopyLegacyOption::Binary => {}
                CopyLegacyOption::Delimiter(delimiter) => layout.delimiter = *delimiter,
                CopyLegacyOption::Null(null) => layout.null.clone_from(null),
                CopyLegacyOption::Header => layout.has_header = true,
                CopyLegacyOption::Csv(options) => {
                    for option in options {
                        match option {
                            CopyLegacyCsvOption::Header => layout.has_header = true,
                            CopyLegacyCsvOption::Quote(quote) => layout.quote = *quote,
                            CopyLegacyCsvOption::Escape(character) => escape = Some(*character),
                            CopyLegacyCsvOption::ForceQuote(columns) => layout.force_quote(columns),
                            other @ CopyLegacyCsvOption::ForceNotNull(_) => {
                                return Err(not_supported(&other.to_string()));
                            }
                        }
                    }
                }
                other => return Err(not_supported(&other.to_string())),
            }
        }
        layout.escape = escape.unwrap_or(layout.quote);
        let is_wrong = |character: char| matches!(character, '\n' | '\r' | '\\') || !character.is_ascii();
        if is_wrong(layout.delimiter)
            || layout.null.contains(['\n', '\r'])
            || layout.null.contains(layout.delimiter)
        {
            let text = "COPY: the delimiter must be one ASCII character that is not in NULL, and neither has an end of line";
            return Err(error(code::WRONG_VALUE, text));
        }
        Ok(layout)
    }

    fn force_quote(&mut self, columns: &[Ident]) {
        self.quotes_all |= columns.is_empty() || columns.iter().any(|column| column.value == "*");
        self.always_quoted.extend(columns.iter().map(|column| column.value.clone()));
    }

    fn header(&self, names: &[String]) -> String {
        let fields = names.iter().map(|name| (Some(name.as_str()), false));
        self.line(fields)
    }

    fn line<'a>(&self, fields: impl Iterator<Item = (Option<&'a str>, bool)>) -> String {
        let mut line = String::new();
        for (index, (field, is_forced)) in fields.enumerate() {
            if index > 0 {
                line.push(self.delimiter);
            }
            match field {
                None => line.push_str(&self.null),
                Some(text) if self.is_csv => self.push_csv(&mut line, text, is_forced),
                Some(text) => self.push_text(&mut line, text),
            }
        }
        line.push('\n');
        line
    }

    fn push_text(&self, line: &mut String, text: &str) {
        for character in text.chars() {
            match character {
                '\\' => line.push_str("\\\\"),
                '\u{8}' => line.push_str("\\b"),
                '\u{c}' => line.push_str("\\f"),
                '\n' => line.push_str("\\n"),
                '\r' => line.push_str("\\r"),
                '\t' => line.push_str("\\t"),
                '\u{b}' => line.push_str("\\v"),
                character if character == self.delimiter => line.extend(['\\', character]),
                character => line.push(character),
            }
        }
    }

    fn push_csv(&self, line: &mut String, text: &str, is_forced: bool) {
        let is_special = |character: char| {
            character == self.delimiter || character == self.quote || matches!(character, '\n' | '\r')
        };
        // `\.` alone ends the data for old clients.
        if !(is_forced || text == self.null || text == "\\." || text.contains(is_special)) {
            line.push_str(text);
            return;
        }
        line.push(self.quote);
        for character in text.chars() {
            if character == self.quote || character == self.escape {
                line.push(self.escape);
            }
            line.push(character);
        }
        line.push(self.quote);
    }
}

fn is_utf8(name: &str) -> bool {
    matches!(name.to_lowercase().as_str(), "utf8" | "utf-8" | "unicode")
}

fn not_supported(what: &str) -> PgWireError {
    error(code::NOT_SUPPORTED, format!("COPY … TO STDOUT does not support {what} (text, csv and binary are)"))
}

/// Runs the statement and puts out its rows, one message for each, as PostgreSQL does it.
pub(super) async fn copy(
    statement: &Statement,
    context: &SessionContext,
    client: &mut dyn HookClient,
) -> PgWireResult<Response> {
    let Statement::Copy { source, options, legacy_options, .. } = statement else {
        return Err(error(code::INTERNAL, "not a COPY"));
    };
    let layout = Layout::of(options, legacy_options)?;
    let query = match source {
        CopySource::Query(query) => query.to_string(),
        CopySource::Table { table_name, columns } if columns.is_empty() => {
            format!("SELECT * FROM {table_name}")
        }
        CopySource::Table { table_name, columns } => {
            let columns: Vec<_> = columns.iter().map(ToString::to_string).collect();
            format!("SELECT {} FROM {table_name}", columns.join(", "))
        }
    };
    let frame = context.sql(&query).await.map_err(planning)?;
    let formats = Arc::new(FormatOptions::from_client_metadata(client.metadata()));
    let format = if layout.is_binary { Format::UnifiedBinary } else { Format::UnifiedText };
    let mut answer = df::encode_dataframe(frame, &format, Some(formats)).await?;
    let names: Vec<_> = answer.row_schema().iter().map(|field| field.name().to_owned()).collect();
    let forced: Vec<_> =
        names.iter().map(|name| layout.quotes_all || layout.always_quoted.contains(name)).collect();
    let width = i16::try_from(names.len()).unwrap_or(i16::MAX);
    let code = if layout.is_binary { FORMAT_CODE_BINARY } else { FORMAT_CODE_TEXT };
    let begin = CopyOutResponse::new(i8::from(layout.is_binary), width, vec![code; names.len()]);
    client.send_message(PgWireBackendMessage::CopyOutResponse(begin)).await?;
    // Clients look for the header at the start of the first row, or of the end.
    let mut header = if layout.is_binary { binary_header() } else { Vec::new() };
    if layout.has_header {
        send(client, layout.header(&names)).await?;
    }
    let mut count = 0;
    while let Some(row) = answer.data_rows().next().await {
        let row = row?;
        if layout.is_binary {
            send(client, binary_row(std::mem::take(&mut header), width, &row.data)).await?;
        } else {
            let fields = Fields(&row.data).zip(forced.iter().copied());
            send(client, layout.line(fields)).await?;
        }
        count += 1;
    }
    if layout.is_binary {
        send(client, binary_row(header, BINARY_END, &[])).await?;
    }
    client.send_message(PgWireBackendMessage::CopyDone(CopyDone::new())).await?;
    Ok(Response::Execution(Tag::new("COPY").with_rows(count)))
}

/// What stands where the next row would say how many fields it has.
const BINARY_END: i16 = -1;

/// The signature, no flags, and no bytes of extensions.
fn binary_header() -> Vec<u8> {
    let mut header = b"PGCOPY\n\xff\r\n\0".to_vec();
    header.extend([0; 8]);
    header
}

/// The number of the fields, and the fields as a row message has them.
fn binary_row(mut before: Vec<u8>, width: i16, fields: &[u8]) -> Vec<u8> {
    before.extend(width.to_be_bytes());
    before.extend(fields);
    before
}

async fn send(client: &mut dyn HookClient, line: impl Into<Bytes>) -> PgWireResult<()> {
    client.send_message(PgWireBackendMessage::CopyData(CopyData::new(line.into()))).await
}

/// The fields of a row message: the length of each (-1 for NULL) and its text.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Option<&'a str>;

    fn next(&mut self) -> Option<Self::Item> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            self.0 = rest;
            return Some(None);
        };
        let (field, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(Some(std::str::from_utf8(field).unwrap_or("\u{fffd}")))
    }
}

#[cfg(test)]
mod tests {
    use datafusion_postgres::datafusion_pg_catalog::sql::PostgresCompatibilityParser;

    use super::*;

    fn layout(options: &str) -> PgWireResult<Layout> {
        let sql = format!("COPY (SELECT 1) TO STDOUT {options}");
        let mut statements = PostgresCompatibilityParser::new().parse(&sql).unwrap();
        let statement = statements.remove(0);
        assert!(is_to_client(&statement), "{sql}");
        let Statement::Copy { options, legacy_options, .. } = statement else { unreachable!() };
        Layout::of(&options, &legacy_options)
    }

    fn line(options: &str, fields: &[Option<&str>]) -> String {
        layout(options).unwrap().line(fields.iter().map(|field| (*field, false)))
    }

    #[test]
    fn text_escapes_what_would_end_a_field_or_a_line() {
        assert_eq!(line("", &[Some("a\tb"), None, Some(""), Some("x\\y\nz")]), "a\\tb\t\\N\t\tx\\\\y\\nz\n");
        assert_eq!(line("WITH (DELIMITER '|', NULL 'none')", &[Some("a|b"), None]), "a\\|b|none\n");
    }

    #[test]
    fn csv_quotes_what_could_be_mistaken() {
        let fields =
            [Some("a,b"), None, Some(""), Some("say \"x\""), Some("two\nlines"), Some("\\."), Some("ü")];
        assert_eq!(
            line("WITH (FORMAT csv)", &fields),
            "\"a,b\",,\"\",\"say \"\"x\"\"\",\"two\nlines\",\"\\.\",ü\n"
        );
        assert_eq!(line("CSV", &[Some("a,b")]), "\"a,b\"\n");
        assert_eq!(
            line("WITH (FORMAT csv, DELIMITER ';', QUOTE '''')", &[Some("a;b"), Some("c,d")]),
            "'a;b';c,d\n"
        );
        assert!(layout("WITH CSV HEADER").unwrap().has_header);
        assert!(layout("WITH (FORMAT csv, HEADER)").unwrap().has_header);
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        for options in [
            "WITH (FORMAT binary, DELIMITER ',')",
            "WITH (FORMAT parquet)",
            "WITH (FORMAT csv, ENCODING 'latin1')",
            "WITH (DELIMITER '\\')",
        ] {
            assert!(layout(options).is_err(), "{options}");
        }
    }

    #[test]
    fn binary_has_a_header_and_the_fields_of_the_rows() {
        for options in ["WITH (FORMAT binary)", "(FORMAT \"binary\")", "BINARY"] {
            assert!(layout(options).unwrap().is_binary, "{options}");
        }
        assert_eq!(binary_header().len(), 19);
        assert!(binary_header().starts_with(b"PGCOPY\n\xff\r\n\0"));
        assert_eq!(binary_row(vec![9], 1, &[0, 0, 0, 1, b'a']), [9, 0, 1, 0, 0, 0, 1, b'a']);
    }

    #[test]
    fn the_fields_of_a_row_are_read() {
        let mut bytes = Vec::new();
        for field in [Some("a"), None, Some("")] {
            bytes.extend(field.map_or(-1, |text: &str| text.len() as i32).to_be_bytes());
            bytes.extend(field.unwrap_or_default().bytes());
        }
        assert_eq!(Fields(&bytes).collect::<Vec<_>>(), [Some("a"), None, Some("")]);
        assert_eq!(Fields(&[0, 0, 0, 9, b'a']).count(), 0);
    }
}
