//! A score for each row of a CSV file, from the rows before it and itself alone.

use std::io::{self, BufRead, Read, Write};

use super::Sensitivity;
use super::online::Online;
use crate::reading::delimited::{self, Dialect, Text, is_missing};
use crate::series::Rolling;
use crate::time;

/// What judges the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Method {
    /// The streaming detector of `ingest --detect`: level, spread, shape and season, and how rare they are
    #[default]
    Online,
    /// The distance from the median of the last 120 values
    RobustZ,
}

/// Why a file is not scored.
#[derive(Debug, thiserror::Error)]
pub enum RecordedError {
    #[error("line {line}: {message}")]
    Line { line: u64, message: String },
    #[error("{0}")]
    Columns(String),
    #[error("cannot read it: {0}")]
    Unreadable(io::Error),
    #[error(transparent)]
    Unwritable(io::Error),
}

/// How many rows there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub rows: u64,
    /// Rows with a score of 0.5 or more.
    pub alarms: u64,
    /// Rows without a value, and rows that are not newer than an earlier one. Their score is 0.
    pub not_judged: u64,
}

/// Bytes of a line. A file without line ends must not fill the memory.
const MAX_LINE: u64 = 1 << 20;

/// Which columns hold the time and the value.
#[derive(Debug, Clone, Copy)]
struct Columns {
    time: usize,
    value: usize,
}

/// One method's state.
enum Judge {
    Online(Box<Online>),
    RobustZ { values: Rolling, sensitivity: Sensitivity },
}

impl Judge {
    fn new(method: Method, sensitivity: Sensitivity) -> Self {
        match method {
            Method::Online => Self::Online(Box::new(Online::new(sensitivity))),
            Method::RobustZ => Self::RobustZ { values: Rolling::default(), sensitivity },
        }
    }

    fn score(&mut self, at: i64, value: f64) -> f64 {
        /// As the rule `robust-z` by default.
        const READINGS: usize = 120;
        const MIN_READINGS: usize = 30;
        match self {
            Self::Online(online) => online.judge(at, value).score,
            Self::RobustZ { values, sensitivity } => {
                let count = values.len();
                let centre = if count < MIN_READINGS { None } else { values.centre() };
                values.remember(value, READINGS);
                let score = centre.and_then(|centre| centre.score_of_another(value, count, 0.0));
                score.map_or(0.0, |score| score.abs() / (score.abs() + sensitivity.deviations()))
            }
        }
    }
}

/// Reads a CSV file and writes `timestamp,value,anomaly_score` for each of its rows, in their order.
///
/// `map` has pairs of a column and a field (`recorded_timestamp` or `timestamp`, and any other name for the value), in either
/// order. Without them the columns have these names.
pub fn score(
    input: impl Read + Send + 'static,
    map: &[(String, String)],
    method: Method,
    sensitivity: Sensitivity,
    output: &mut dyn Write,
) -> Result<Counts, RecordedError> {
    let (dialect, mut text) = Dialect::detect(delimited::text(input)).map_err(RecordedError::Unreadable)?;
    let mut line = Vec::new();
    if !read_line(&mut text, &mut line, 1)? {
        return Err(RecordedError::Columns("the file is empty".to_owned()));
    }
    let headings = cells(&line, dialect, 1)?;
    let columns = columns(&headings, map).map_err(RecordedError::Columns)?;
    let mut judge = Judge::new(method, sensitivity);
    let (mut counts, mut newest) = (Counts::default(), i64::MIN);
    let mut writer = csv::Writer::from_writer(output);
    let unwritable = |error: csv::Error| match error.into_kind() {
        csv::ErrorKind::Io(error) => RecordedError::Unwritable(error),
        other => RecordedError::Unwritable(io::Error::other(format!("{other:?}"))),
    };
    writer.write_record(["timestamp", "value", "anomaly_score"]).map_err(unwritable)?;
    for number in 2.. {
        if !read_line(&mut text, &mut line, number)? {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let wrong = |message: String| RecordedError::Line { line: number, message };
        let record = cells(&line, dialect, number)?;
        if record.len() != headings.len() {
            return Err(wrong(format!(
                "{} columns, but the heading line has {}",
                record.len(),
                headings.len()
            )));
        }
        let cell = |index: usize| record.get(index).unwrap_or_default().trim();
        let (moment, value) = (cell(columns.time), cell(columns.value));
        let at = time::recorded(moment).ok_or_else(|| {
            wrong(format!("{moment:?} is not a time (RFC 3339, or a date and time in UTC)"))
        })?;
        counts.rows += 1;
        let score = if is_missing(value) || at <= newest {
            counts.not_judged += 1;
            0.0
        } else {
            let number = dialect.number(value).filter(|number| number.is_finite());
            let number = number.ok_or_else(|| wrong(format!("{value:?} is not a finite number")))?;
            newest = at;
            judge.score(at, number)
        };
        counts.alarms += u64::from(score >= 0.5);
        writer.write_record([moment, value, &score.to_string()]).map_err(unwritable)?;
    }
    writer.flush().map_err(RecordedError::Unwritable)?;
    Ok(counts)
}

fn read_line(text: &mut Text, line: &mut Vec<u8>, number: u64) -> Result<bool, RecordedError> {
    line.clear();
    let length = text.take(MAX_LINE).read_until(b'\n', line).map_err(RecordedError::Unreadable)?;
    if length as u64 == MAX_LINE && line.last() != Some(&b'\n') {
        let message = "a line of more than 1 MiB (check that this is a CSV file)".to_owned();
        return Err(RecordedError::Line { line: number, message });
    }
    Ok(length > 0)
}

/// The cells of a line. A quoted cell does not go beyond its line.
fn cells(line: &[u8], dialect: Dialect, number: u64) -> Result<csv::StringRecord, RecordedError> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(dialect.delimiter)
        .has_headers(false)
        .buffer_capacity(line.len().clamp(64, 8192))
        .from_reader(line);
    let mut record = csv::StringRecord::new();
    match reader.read_record(&mut record) {
        Ok(_) => Ok(record),
        Err(error) if matches!(error.kind(), csv::ErrorKind::Utf8 { .. }) => {
            Err(RecordedError::Line { line: number, message: "not UTF-8".to_owned() })
        }
        Err(error) => Err(RecordedError::Line { line: number, message: error.to_string() }),
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

    fn scored(text: &str, map: &[(&str, &str)]) -> Result<(Counts, String), String> {
        let map: Vec<_> = map.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
        let mut output = Vec::new();
        let input = Cursor::new(text.to_owned());
        let counts = score(input, &map, Method::Online, Sensitivity::DEFAULT, &mut output);
        counts.map(|counts| (counts, String::from_utf8(output).unwrap())).map_err(|error| error.to_string())
    }

    fn minute(minute: u32) -> String {
        format!("2026-11-01 {:02}:{:02}:00", minute / 60, minute % 60)
    }

    fn rows(count: u32, value: impl Fn(u32) -> f64) -> String {
        let rows: String = (0..count).map(|row| format!("{},{}\n", minute(row), value(row))).collect();
        format!("timestamp,value\n{rows}")
    }

    #[test]
    fn each_row_keeps_its_time_and_value_and_gets_a_score() {
        let text = rows(400, |row| if row == 300 { 90.0 } else { f64::from(row * 7 % 5) });
        for map in [
            &[("timestamp", "recorded_timestamp"), ("value", "value")][..],
            &[],
            &[("recorded_timestamp", "timestamp")],
        ] {
            let (counts, output) = scored(&text, map).unwrap();
            assert_eq!((counts.rows, counts.not_judged), (400, 0));
            assert!((1..=2).contains(&counts.alarms), "{counts:?}");
            let lines: Vec<_> = output.lines().collect();
            assert_eq!(lines[0], "timestamp,value,anomaly_score");
            let cells: Vec<_> = lines[301].split(',').collect();
            assert_eq!(cells[..2], [minute(300).as_str(), "90"]);
            assert!(cells[2].parse::<f64>().unwrap() > 0.5, "{cells:?}");
        }
    }

    #[test]
    fn rows_without_a_value_and_rows_that_are_late_are_written_with_zero() {
        let text = "when;temp\n2026-11-01T00:00:00Z;1,5\n2026-11-01T00:00:00Z;2\n2026-11-01T00:01:00Z;\n";
        let (counts, output) =
            scored(text, &[("when", "recorded_timestamp"), ("temp", "temperature")]).unwrap();
        assert_eq!(counts, Counts { rows: 3, alarms: 0, not_judged: 2 });
        assert_eq!(
            output,
            "timestamp,value,anomaly_score\n2026-11-01T00:00:00Z,\"1,5\",0\n2026-11-01T00:00:00Z,2,0\n2026-11-01T00:01:00Z,,0\n"
        );
    }

    #[test]
    fn an_error_names_the_line_or_the_columns() {
        for (text, map, problem) in [
            ("", &[][..], "the file is empty"),
            ("a,b\n", &[], "no column with the time (it has: a, b"),
            ("timestamp,b\n", &[], "no column with the value"),
            ("timestamp,value\n", &[("x", "y")], "--map x=y: the file has neither"),
            ("timestamp,value\n", &[("value", "a"), ("timestamp", "b")], "a second column"),
            ("timestamp,value\nsoon,1\n", &[], "line 2: \"soon\" is not a time"),
            (
                "timestamp,value\n2026-11-01,1\n2026-11-02,hot\n",
                &[],
                "line 3: \"hot\" is not a finite number",
            ),
            ("timestamp,value\n2026-11-01,inf\n", &[], "line 2: \"inf\" is not a finite number"),
            ("timestamp,value\n2026-11-01\n", &[], "line 2: 1 columns, but the heading line has 2"),
        ] {
            let error = scored(text, map).unwrap_err();
            assert!(error.contains(problem), "{text:?}: {error}");
        }
        let error = scored(&format!("timestamp,value\n{}", "1".repeat(2 << 20)), &[]).unwrap_err();
        assert!(error.contains("line 2: a line of more than 1 MiB"), "{error}");
    }
}
