//! Values over time in a CSV file: the columns of the time and the value, row by row.

use std::io::{self, BufRead, Read};

use super::Point;
use crate::reading::delimited::{self, Dialect, Text, is_missing};
use crate::time;

/// Bytes of a line. A file without line ends must not fill the memory.
const MAX_LINE: u64 = 1 << 20;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    #[error("line {line}: {message}")]
    Line { line: u64, message: String },
    #[error("{0}")]
    Columns(String),
    #[error("cannot read it: {0}")]
    Unreadable(io::Error),
}

/// A row: its cells as they are in the file, and what they mean.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub moment: String,
    pub text: String,
    /// In milliseconds since the epoch.
    pub at: i64,
    /// `None` where the cell is empty or says that there is no value.
    pub value: Option<f64>,
}

/// Which columns hold the time and the value.
#[derive(Debug, Clone, Copy)]
struct Columns {
    time: usize,
    value: usize,
}

/// The rows of a file, in their order. Empty lines are left out.
pub struct Rows {
    text: Text,
    dialect: Dialect,
    headings: usize,
    columns: Columns,
    line: Vec<u8>,
    number: u64,
}

impl Rows {
    /// Reads the heading line.
    ///
    /// `map` has pairs of a column and a field (`recorded_timestamp` or `timestamp`, and any other name for the value), in
    /// either order. Without them the columns have these names.
    ///
    /// # Errors
    /// An empty file, or one without these columns.
    pub fn of(input: impl Read + Send + 'static, map: &[(String, String)]) -> Result<Self, RowError> {
        let (dialect, mut text) = Dialect::detect(delimited::text(input)).map_err(RowError::Unreadable)?;
        let mut line = Vec::new();
        if !read_line(&mut text, &mut line, 1)? {
            return Err(RowError::Columns("the file is empty".to_owned()));
        }
        // Such a file is one line to us, and would have no rows.
        if line.trim_ascii_end().contains(&b'\r') {
            let message = "its lines end with a carriage return alone (replace it: tr '\\r' '\\n' < FILE)";
            return Err(RowError::Columns(message.to_owned()));
        }
        let headings = cells(&line, dialect, 1)?;
        let columns = columns(&headings, map).map_err(|message| {
            let has_values = headings.iter().any(|heading| time::recorded(heading.trim()).is_some());
            RowError::Columns(match has_values {
                true => "the first line has values and not headings (add a line such as timestamp,value)"
                    .to_owned(),
                false => message,
            })
        })?;
        Ok(Self { text, dialect, headings: headings.len(), columns, line, number: 1 })
    }

    fn read(&mut self) -> Result<Option<Row>, RowError> {
        loop {
            self.number += 1;
            if !read_line(&mut self.text, &mut self.line, self.number)? {
                return Ok(None);
            }
            if !self.line.trim_ascii().is_empty() {
                return self.row().map(Some);
            }
        }
    }

    fn row(&self) -> Result<Row, RowError> {
        let wrong = |message: String| RowError::Line { line: self.number, message };
        let record = cells(&self.line, self.dialect, self.number)?;
        if record.len() != self.headings {
            return Err(wrong(format!(
                "{} columns, but the heading line has {}",
                record.len(),
                self.headings
            )));
        }
        let cell = |index: usize| record.get(index).unwrap_or_default().trim();
        let (moment, text) = (cell(self.columns.time), cell(self.columns.value));
        let at = time::recorded(moment).ok_or_else(|| {
            wrong(format!("{moment:?} is not a time (RFC 3339, or a date and time in UTC)"))
        })?;
        let value = match is_missing(text) {
            true => None,
            false => {
                let number = self.dialect.number(text).filter(|number| number.is_finite());
                Some(number.ok_or_else(|| wrong(format!("{text:?} is not a finite number")))?)
            }
        };
        Ok(Row { moment: moment.to_owned(), text: text.to_owned(), at, value })
    }
}

impl Iterator for Rows {
    type Item = Result<Row, RowError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// The values of a file in order of time; of several at one moment, the first in the file.
///
/// # Errors
/// The first row that cannot be read.
pub fn points(rows: Rows) -> Result<Vec<Point>, RowError> {
    let mut points = Vec::new();
    for row in rows {
        let Row { at, value, .. } = row?;
        points.extend(value.map(|value| Point { at, value }));
    }
    points.sort_by_key(|point| point.at);
    points.dedup_by_key(|point| point.at);
    Ok(points)
}

fn read_line(text: &mut Text, line: &mut Vec<u8>, number: u64) -> Result<bool, RowError> {
    line.clear();
    let length = text.take(MAX_LINE).read_until(b'\n', line).map_err(RowError::Unreadable)?;
    if length as u64 == MAX_LINE && line.last() != Some(&b'\n') {
        let message = "a line of more than 1 MiB (check that this is a CSV file)".to_owned();
        return Err(RowError::Line { line: number, message });
    }
    Ok(length > 0)
}

/// The cells of a line. A quoted cell does not go beyond its line.
fn cells(line: &[u8], dialect: Dialect, number: u64) -> Result<csv::StringRecord, RowError> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(dialect.delimiter)
        .has_headers(false)
        .buffer_capacity(line.len().clamp(64, 8192))
        .from_reader(line);
    let mut record = csv::StringRecord::new();
    match reader.read_record(&mut record) {
        Ok(_) => Ok(record),
        Err(error) if matches!(error.kind(), csv::ErrorKind::Utf8 { .. }) => {
            Err(RowError::Line { line: number, message: "not UTF-8".to_owned() })
        }
        Err(error) => Err(RowError::Line { line: number, message: error.to_string() }),
    }
}

fn columns(headings: &csv::StringRecord, map: &[(String, String)]) -> Result<Columns, String> {
    let known = || headings.iter().map(str::trim).collect::<Vec<_>>().join(", ");
    let find = |name: &str| headings.iter().position(|heading| heading.trim() == name);
    let is_time = |field: &str| field == "recorded_timestamp" || field == "timestamp";
    let (mut time, mut value) = (None, None);
    for (left, right) in map {
        let (index, field) = match (find(left), find(right)) {
            (Some(index), _) => (index, right),
            (None, Some(index)) => (index, left),
            (None, None) => {
                return Err(format!(
                    "--map {left}={right}: the file has neither of these columns (it has: {})",
                    known()
                ));
            }
        };
        let slot = if is_time(field) { &mut time } else { &mut value };
        if slot.replace(index).is_some() {
            return Err(format!("--map {left}={right}: a second column for the same field (leave one out)"));
        }
    }
    let time = time.or_else(|| find("recorded_timestamp")).or_else(|| find("timestamp"));
    let value = value.or_else(|| find("value"));
    match (time, value) {
        (Some(time), Some(value)) if time == value => {
            Err("the time and the value are the same column (name them with --map)".to_owned())
        }
        (Some(time), Some(value)) => Ok(Columns { time, value }),
        (None, _) => Err(format!(
            "no column with the time (it has: {}; name it: --map COLUMN=recorded_timestamp)",
            known()
        )),
        (_, None) => {
            Err(format!("no column with the value (it has: {}; name it: --map COLUMN=value)", known()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn a_file_without_a_heading_line_or_with_bare_carriage_returns_is_refused() {
        for (text, part) in [
            ("2026-01-01T00:00:00Z,1\n2026-01-01T01:00:00Z,2\n", "not headings"),
            ("1767225600,1\n", "not headings"),
            ("timestamp,value\r2026-01-01T00:00:00Z,1\r", "carriage return"),
        ] {
            let error = Rows::of(Cursor::new(text), &[]).err().unwrap().to_string();
            assert!(error.contains(part) && error.ends_with(')'), "{error}");
        }
        let usual = "timestamp,value\r\n2026-01-01T00:00:00Z,1\r\n";
        assert_eq!(points(Rows::of(Cursor::new(usual), &[]).unwrap()).unwrap().len(), 1);
    }

    #[test]
    fn points_are_in_order_of_time_and_one_per_moment() {
        let text = "when,temp\n2026-11-01 00:02:00,3\n\n2026-11-01 00:00:00,1\n2026-11-01 00:01:00,\n2026-11-01 00:02:00,9\n";
        let map = [("when".to_owned(), "timestamp".to_owned()), ("temp".to_owned(), "value".to_owned())];
        let found = points(Rows::of(Cursor::new(text), &map).unwrap()).unwrap();
        let values: Vec<f64> = found.iter().map(|point| point.value).collect();
        assert_eq!(values, [1.0, 3.0]);
        assert_eq!(found[1].at - found[0].at, 120_000);
    }
}
