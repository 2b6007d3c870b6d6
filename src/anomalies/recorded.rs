//! A score for each row of a CSV file, from the rows before it and itself alone.

use std::io::{self, Read, Write};

use super::Sensitivity;
use super::online::Online;
use crate::series::Rolling;
use crate::series::recorded::{Row, RowError, Rows};

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
    #[error(transparent)]
    Row(#[from] RowError),
    #[error(transparent)]
    Unwritable(io::Error),
}

/// How many rows there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub rows: u64,
    /// Rows with a score of 0.5 or more.
    pub alarms: u64,
    /// Rows without a value. Their score is 0.
    pub without_value: u64,
    /// Rows with a value that are not newer than an earlier one. Their score is 0.
    pub not_newer: u64,
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
/// `map` is that of [`Rows::of`].
pub fn score(
    input: impl Read + Send + 'static,
    map: &[(String, String)],
    method: Method,
    sensitivity: Sensitivity,
    output: &mut dyn Write,
) -> Result<Counts, RecordedError> {
    let rows = Rows::of(input, map)?;
    let mut judge = Judge::new(method, sensitivity);
    let (mut counts, mut newest) = (Counts::default(), i64::MIN);
    let mut writer = csv::Writer::from_writer(output);
    let unwritable = |error: csv::Error| match error.into_kind() {
        csv::ErrorKind::Io(error) => RecordedError::Unwritable(error),
        other => RecordedError::Unwritable(io::Error::other(format!("{other:?}"))),
    };
    writer.write_record(["timestamp", "value", "anomaly_score"]).map_err(unwritable)?;
    for row in rows {
        let Row { moment, text, at, value } = row?;
        counts.rows += 1;
        let score = match value {
            None => {
                counts.without_value += 1;
                0.0
            }
            Some(_) if at <= newest => {
                counts.not_newer += 1;
                0.0
            }
            Some(value) => {
                newest = at;
                judge.score(at, value)
            }
        };
        counts.alarms += u64::from(score >= 0.5);
        writer.write_record([&moment, &text, &score.to_string()]).map_err(unwritable)?;
    }
    writer.flush().map_err(RecordedError::Unwritable)?;
    Ok(counts)
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
            assert_eq!((counts.rows, counts.without_value, counts.not_newer), (400, 0, 0));
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
        assert_eq!(counts, Counts { rows: 3, alarms: 0, without_value: 1, not_newer: 1 });
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
