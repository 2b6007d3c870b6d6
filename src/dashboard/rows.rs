//! Answers of many rows for scripts: JSON, NDJSON, CSV or an Arrow stream, by the parameter `format` or the header `Accept`.

use std::sync::Arc;

use arrow_array::builder::{Float64Builder, StringBuilder, TimestampMillisecondBuilder, UInt64Builder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema, TimeUnit};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::problem::Problem;
use crate::output::record::{Cell, Heading};
use crate::output::{ColorChoice, Format, Output};
use crate::time::Zone;

/// Rows of an answer.
pub(super) const MAX_ROWS: usize = 100_000;

/// Of a statement's answer, which is not held in memory.
#[cfg(feature = "sql")]
pub(super) const MAX_SQL_ROWS: usize = 1_000_000;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Json,
    Ndjson,
    Csv,
    Arrow,
}

const ENCODINGS: [(&str, &str, Encoding); 4] = [
    ("json", "application/json", Encoding::Json),
    ("ndjson", "application/x-ndjson", Encoding::Ndjson),
    ("csv", "text/csv", Encoding::Csv),
    ("arrow", "application/vnd.apache.arrow.stream", Encoding::Arrow),
];

impl Encoding {
    /// The one that is asked for, else JSON.
    pub(super) fn asked(format: Option<&str>, headers: &HeaderMap) -> Result<Self, Problem> {
        if let Some(format) = format {
            let found = ENCODINGS.iter().find(|(name, ..)| *name == format);
            return found.map(|(.., encoding)| *encoding).ok_or_else(|| {
                Problem::bad_request("format is not one that is known (give json, ndjson, csv or arrow)")
            });
        }
        let accepted = headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(|part| part.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
        let mut found = accepted.filter_map(|kind| ENCODINGS.iter().find(|(_, known, _)| *known == kind));
        Ok(found.next().map_or(Self::Json, |(.., encoding)| *encoding))
    }

    pub(super) fn content_type(self) -> &'static str {
        ENCODINGS.iter().find(|(.., encoding)| *encoding == self).map_or("", |(_, kind, _)| kind)
    }
}

/// What the values of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Number,
    Count,
    Moment,
}

/// A value; of the kind of its column, or missing.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Missing,
    Text(Arc<str>),
    Number(f64),
    /// Of text without its last digits, as the command line has it.
    Computed(f64),
    Count(u64),
    /// Milliseconds since the epoch.
    Moment(i64),
}

impl Value {
    pub(super) fn text(text: impl AsRef<str>) -> Self {
        Self::Text(text.as_ref().into())
    }

    fn cell(&self) -> Cell<'_> {
        match self {
            Self::Missing => Cell::Missing,
            Self::Text(text) => Cell::Text(text),
            Self::Number(number) => Cell::Number(*number),
            Self::Computed(number) => Cell::Double(*number),
            Self::Count(count) => Cell::Count(*count),
            Self::Moment(at) => Cell::Moment(*at),
        }
    }
}

/// A table in memory, of at most [`MAX_ROWS`] rows.
#[derive(Debug, Default)]
pub(super) struct Rows {
    columns: Vec<(String, Kind)>,
    rows: Vec<Vec<Value>>,
    most: usize,
}

impl Rows {
    pub(super) fn new(columns: Vec<(String, Kind)>, most: usize) -> Self {
        Self { columns, rows: Vec::new(), most }
    }

    /// # Errors
    /// There are as many rows as there may be.
    pub(super) fn push(&mut self, row: Vec<Value>) -> Result<(), Problem> {
        if self.rows.len() >= self.most {
            return Err(Problem::bad_request(format!(
                "the answer has more than {} rows (ask for a shorter range or fewer lines, or give a limit up to {MAX_ROWS})",
                self.most
            )));
        }
        self.rows.push(row);
        Ok(())
    }

    pub(super) fn answer(&self, encoding: Encoding) -> Result<Response, Problem> {
        let internal = |error: String| Problem::internal(error);
        let body = match encoding {
            Encoding::Arrow => self.arrow().map_err(|error| internal(error.to_string()))?,
            Encoding::Json => self.text(Format::Json).map_err(|error| internal(error.to_string()))?,
            Encoding::Ndjson => self.text(Format::Ndjson).map_err(|error| internal(error.to_string()))?,
            Encoding::Csv => self.text(Format::Csv).map_err(|error| internal(error.to_string()))?,
        };
        let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(encoding.content_type()))];
        Ok((kind, body).into_response())
    }

    fn text(&self, format: Format) -> anyhow::Result<Vec<u8>> {
        let mut body = Vec::new();
        let headings = self.columns.iter().map(|(name, _)| Heading::left(name.as_str())).collect();
        let output = Output::new(ColorChoice::Never, true);
        let mut records = output.records_to(&mut body, format, Zone::Utc, headings)?;
        let mut cells = Vec::new();
        for row in &self.rows {
            cells.clear();
            cells.extend(row.iter().map(Value::cell));
            records.write(&cells)?;
        }
        records.finish()?;
        Ok(body)
    }

    fn arrow(&self) -> Result<Vec<u8>, ArrowError> {
        let fields: Vec<_> = self
            .columns
            .iter()
            .map(|(name, kind)| {
                let kind = match kind {
                    Kind::Text => DataType::Utf8,
                    Kind::Number => DataType::Float64,
                    Kind::Count => DataType::UInt64,
                    Kind::Moment => DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
                };
                Field::new(name, kind, true)
            })
            .collect();
        let arrays = (0..self.columns.len()).map(|index| self.array(index)).collect();
        let schema = Arc::new(Schema::new(fields));
        let batch = RecordBatch::try_new(schema.clone(), arrays)?;
        let mut writer = StreamWriter::try_new(Vec::new(), &schema)?;
        writer.write(&batch)?;
        writer.finish()?;
        writer.into_inner()
    }

    fn array(&self, index: usize) -> ArrayRef {
        let values = self.rows.iter().map(|row| row.get(index).unwrap_or(&Value::Missing));
        match self.columns[index].1 {
            Kind::Text => {
                let mut builder = StringBuilder::new();
                values.for_each(|value| match value {
                    Value::Text(text) => builder.append_value(text),
                    _ => builder.append_null(),
                });
                Arc::new(builder.finish())
            }
            Kind::Number => {
                let mut builder = Float64Builder::new();
                values.for_each(|value| match value {
                    Value::Number(number) | Value::Computed(number) => builder.append_value(*number),
                    _ => builder.append_null(),
                });
                Arc::new(builder.finish())
            }
            Kind::Count => {
                let mut builder = UInt64Builder::new();
                values.for_each(|value| match value {
                    Value::Count(count) => builder.append_value(*count),
                    _ => builder.append_null(),
                });
                Arc::new(builder.finish())
            }
            Kind::Moment => {
                let mut builder = TimestampMillisecondBuilder::new().with_timezone("UTC");
                values.for_each(|value| match value {
                    Value::Moment(at) => builder.append_value(*at),
                    _ => builder.append_null(),
                });
                Arc::new(builder.finish())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow_ipc::reader::StreamReader;

    use super::*;

    fn rows() -> Rows {
        let columns = [("at", Kind::Moment), ("name", Kind::Text), ("n", Kind::Count), ("avg", Kind::Number)];
        let mut rows = Rows::new(columns.map(|(name, kind)| (name.to_owned(), kind)).into(), 2);
        let first = vec![Value::Moment(0), Value::text("a,\"b\"\n"), Value::Count(3), Value::Number(1.5)];
        rows.push(first).unwrap();
        rows.push(vec![Value::Moment(1), Value::Missing, Value::Count(0), Value::Missing]).unwrap();
        rows
    }

    #[test]
    fn each_encoding_has_every_value_and_what_is_missing() {
        let mut rows = rows();
        let text = |format| String::from_utf8(rows.text(format).unwrap()).unwrap();
        assert_eq!(
            text(Format::Ndjson),
            "{\"at\":\"1970-01-01T00:00:00.000Z\",\"name\":\"a,\\\"b\\\"\\n\",\"n\":3,\"avg\":1.5}\n\
             {\"at\":\"1970-01-01T00:00:00.001Z\",\"n\":0}\n"
        );
        assert!(text(Format::Csv).starts_with("at,name,n,avg\n"), "{}", text(Format::Csv));
        let read: serde_json::Value = serde_json::from_str(&text(Format::Json)).unwrap();
        assert_eq!(read.as_array().map(Vec::len), Some(2));
        let bytes = rows.arrow().unwrap();
        let batches: Vec<_> = StreamReader::try_new(&*bytes, None).unwrap().map(Result::unwrap).collect();
        assert_eq!((batches.len(), batches[0].num_rows(), batches[0].num_columns()), (1, 2, 4));
        let nulls: Vec<_> = batches[0].columns().iter().map(|column| column.null_count()).collect();
        assert_eq!(nulls, [0, 1, 0, 1]);
        assert!(rows.push(Vec::new()).is_err());
    }

    #[test]
    fn the_parameter_comes_before_the_header_and_json_is_the_default() {
        let asked = |format: Option<&str>, accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            Encoding::asked(format, &headers)
        };
        assert_eq!(asked(None, "*/*"), Ok(Encoding::Json));
        assert_eq!(asked(None, "text/html, text/csv;q=0.9"), Ok(Encoding::Csv));
        assert_eq!(asked(None, "application/vnd.apache.arrow.stream"), Ok(Encoding::Arrow));
        assert_eq!(asked(Some("ndjson"), "text/csv"), Ok(Encoding::Ndjson));
        assert!(asked(Some("xml"), "text/csv").is_err());
    }
}
