//! Readings from a file: NDJSON in the wire format, CSV whose columns flags name ([`ColumnFlags`]), or either through a mapping
//! file ([`RowMapping`]). The file is streamed; one line is in memory at a time, and no more than
//! [`DecodeLimits::max_message_bytes`] of it.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use csv::StringRecord;

use crate::error::UsageError;
use crate::mapping::Mapped;
use crate::mapping::columns::{ByFlags, ColumnFlags};
use crate::mapping::rows::{self, RowMapping};
use crate::reading::decode::{DecodeLimits, decode};
use crate::reading::delimited::{self, Dialect, Text};
use crate::reading::{Reading, Rejection};
use crate::time;

mod lines;
mod shift;

use lines::{Budget, CSV_BUFFER, Limited, first_byte, input, read_line};
pub use shift::TimeShift;

/// What to replay.
#[derive(Debug, Clone)]
pub struct RecordingPlan {
    /// `-` is standard input.
    pub path: PathBuf,
    pub flags: ColumnFlags,
    /// By a mapping file, instead of `flags`.
    pub rows: Option<RowMapping>,
    pub shift: TimeShift,
    /// Skip and count lines that are not readings, instead of stopping at the first.
    pub skip_bad: bool,
    /// Limits of an NDJSON line; the same as in ingest. Times are checked as they are sent.
    pub limits: DecodeLimits,
}

/// An open recording.
#[derive(Debug)]
pub struct Recording {
    name: String,
    lines: Lines,
    plan: RecordingPlan,
    shift: i64,
    /// Readings of the last line that are not taken yet: a mapping may find several in one.
    ready: VecDeque<Reading<'static>>,
    /// Columns that are not sent because they are neither mapped nor named like a field.
    ignored: Vec<String>,
    /// Lines skipped because they are not readings.
    pub bad: u64,
    /// Lines that the mapping skips.
    pub skipped: u64,
}

enum Lines {
    Csv {
        reader: Box<csv::Reader<Limited>>,
        budget: Budget,
        heading: Vec<String>,
        rows: RowMapping,
        record: StringRecord,
    },
    Ndjson {
        reader: Text,
        line: Vec<u8>,
        number: u64,
    },
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Lines::Csv { .. } => "Csv",
            Lines::Ndjson { .. } => "Ndjson",
        })
    }
}

/// A line that was read.
struct Line {
    number: u64,
    readings: Vec<Reading<'static>>,
    /// Why it, or a part of it, is not a reading.
    problem: Option<String>,
    /// The mapping says that it holds none.
    is_skipped: bool,
}

impl Line {
    fn bad(number: u64, problem: String) -> Self {
        Self { number, readings: Vec::new(), problem: Some(problem), is_skipped: false }
    }

    /// Of a row with faults, the good readings are taken all the same.
    fn mapped(number: u64, mapped: Result<Mapped<'static>, Rejection>) -> Self {
        let mapped = match mapped {
            Ok(mapped) => mapped,
            Err(rejection) => return Self::bad(number, rejection.to_string()),
        };
        let faults: Vec<_> = mapped.faults.iter().map(ToString::to_string).collect();
        Self {
            number,
            // A device that measured nothing sent its message all the same.
            readings: mapped
                .readings
                .into_iter()
                .map(|decoded| decoded.reading)
                .chain(mapped.empty)
                .collect(),
            problem: (!faults.is_empty()).then(|| faults.join("; ")),
            is_skipped: mapped.is_skipped,
        }
    }
}

impl Recording {
    /// Opens the file, recognizes its format by the first character, and resolves the columns.
    pub fn open(plan: &RecordingPlan) -> anyhow::Result<Self> {
        let mut recording = Self::open_unshifted(plan)?;
        recording.shift = match plan.shift {
            TimeShift::None => 0,
            TimeShift::By(millis) => millis,
            TimeShift::LastIsNow => time::now().saturating_sub(last_moment(plan)?),
        };
        Ok(recording)
    }

    fn open_unshifted(plan: &RecordingPlan) -> anyhow::Result<Self> {
        let name = if plan.path == Path::new("-") { "stdin".into() } else { plan.path.display().to_string() };
        Self::read(name, input(&plan.path)?, plan)
    }

    /// Reads from `reader` instead of the plan's path.
    pub(crate) fn read(
        name: String,
        reader: Box<dyn Read + Send>,
        plan: &RecordingPlan,
    ) -> anyhow::Result<Self> {
        let mut reader = delimited::text(reader);
        let (first, blank_lines) = first_byte(&mut reader).with_context(|| format!("cannot read {name}"))?;
        let has_lines = match &plan.rows {
            Some(rows) => rows.has_lines(first),
            None => first == Some(b'{'),
        };
        let (lines, ignored) = if has_lines {
            if plan.flags.names_columns() {
                return Err(UsageError::new(format!(
                    "{name} is NDJSON and has no columns (--map and --set are for CSV; leave them out)"
                ))
                .into());
            }
            (Lines::Ndjson { reader, line: Vec::new(), number: blank_lines }, Vec::new())
        } else {
            csv_lines(&name, reader, plan)?
        };
        let ready = VecDeque::new();
        Ok(Self { name, lines, plan: plan.clone(), shift: 0, ready, ignored, bad: 0, skipped: 0 })
    }

    /// Columns that are not sent because they are neither mapped nor named like a field.
    pub fn ignored_columns(&self) -> &[String] {
        &self.ignored
    }

    /// The next reading, or `None` at the end.
    pub fn next_reading(&mut self) -> anyhow::Result<Option<Reading<'static>>> {
        loop {
            if let Some(reading) = self.ready.pop_front() {
                return Ok(Some(reading));
            }
            let next = self.lines.next(&self.plan);
            let Some(line) = next.with_context(|| format!("cannot read {}", self.name))? else {
                return Ok(None);
            };
            self.skipped += u64::from(line.is_skipped);
            match self.take(line) {
                Ok(()) => {}
                Err(_) if self.plan.skip_bad => self.bad += 1,
                Err(reason) => anyhow::bail!(
                    "{}:{reason} (fix the line, or pass --skip-bad to count and skip such lines)",
                    self.name
                ),
            }
        }
    }

    /// Puts the readings of a line into `ready`, with the times that they are sent with.
    fn take(&mut self, line: Line) -> Result<(), String> {
        let mut problem = line.problem;
        let is_one = line.readings.len() == 1;
        for mut reading in line.readings {
            reading.recorded_at = reading.recorded_at.saturating_add(self.shift);
            match self.plan.limits.check_time(reading.recorded_at, time::now()) {
                Ok(()) => self.ready.push_back(reading),
                Err(rejection) if is_one => problem = problem.or_else(|| Some(rejection.to_string())),
                Err(rejection) => {
                    let name = reading.sensor_name.as_deref();
                    let sensor = name.map_or_else(|| reading.sensor.to_string(), crate::reading::shown);
                    problem = problem.or_else(|| Some(format!("sensor {sensor}: {rejection}")));
                }
            }
        }
        problem.map_or(Ok(()), |problem| Err(format!("{}: {problem}", line.number)))
    }
}

/// A file with columns, and those that are ignored.
fn csv_lines(name: &str, reader: Text, plan: &RecordingPlan) -> anyhow::Result<(Lines, Vec<String>)> {
    let (mut dialect, reader) = Dialect::detect(reader)?;
    let named = plan.rows.as_ref().map_or(&[][..], RowMapping::columns);
    if let Some(delimiter) = plan.rows.as_ref().and_then(RowMapping::delimiter) {
        dialect.delimiter = delimiter;
    }
    let budget = Budget::new(plan.limits.max_message_bytes);
    let limited = Limited { input: reader, budget: budget.clone() };
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(dialect.delimiter)
        .has_headers(named.is_empty())
        .buffer_capacity(CSV_BUFFER)
        .from_reader(limited);
    let heading: Vec<String> = match named {
        [] => {
            let headings = reader.headers().with_context(|| format!("cannot read the headings of {name}"))?;
            headings.iter().map(|heading| heading.trim().to_owned()).collect()
        }
        named => named.to_vec(),
    };
    let ByFlags { rows, ignored } = match &plan.rows {
        Some(rows) => {
            rows.check_has_columns()?;
            ByFlags { rows: rows.clone(), ignored: Vec::new() }
        }
        None => plan.flags.resolve(&heading, dialect.has_decimal_comma)?,
    };
    let (reader, record) = (Box::new(reader), StringRecord::new());
    Ok((Lines::Csv { reader, budget, heading, rows, record }, ignored))
}

impl Lines {
    /// The next line that is not blank. Times are checked where they are shifted.
    fn next(&mut self, plan: &RecordingPlan) -> io::Result<Option<Line>> {
        let limits = DecodeLimits { is_any_time: true, ..plan.limits };
        match self {
            Lines::Csv { reader, budget, heading, rows, record } => {
                let read = budget.for_line(|| reader.read_record(record));
                match read {
                    Ok(false) => Ok(None),
                    Ok(true) => {
                        let number = record.position().map_or(0, csv::Position::line);
                        if record.len() != heading.len() {
                            let problem =
                                format!("{} columns, but the mapping has {}", record.len(), heading.len());
                            return Ok(Some(Line::bad(number, problem)));
                        }
                        let row = rows::columns(heading, record.iter());
                        Ok(Some(Line::mapped(number, rows.row(row, &limits, time::now()))))
                    }
                    Err(error) if error.is_io_error() => Err(error.into()),
                    Err(error) => {
                        let number = error.position().map_or(0, csv::Position::line);
                        Ok(Some(Line::bad(number, csv_reason(&error))))
                    }
                }
            }
            Lines::Ndjson { reader, line, number } => loop {
                if !read_line(reader, line, limits.max_message_bytes)? {
                    return Ok(None);
                }
                *number += 1;
                let text = line.trim_ascii();
                if !text.is_empty() {
                    return Ok(Some(match &plan.rows {
                        Some(rows) => Line::mapped(*number, rows.line(text, &limits, time::now())),
                        None => decode_line(*number, text, &plan.flags, &limits),
                    }));
                }
            },
        }
    }
}

fn csv_reason(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} columns, but the heading line has {expected_len}")
        }
        csv::ErrorKind::Utf8 { .. } => "not UTF-8".to_owned(),
        _ => error.to_string(),
    }
}

/// A line of the wire format, with the units that flags state.
fn decode_line(number: u64, line: &[u8], flags: &ColumnFlags, limits: &DecodeLimits) -> Line {
    let decoded = decode(line, limits, time::now()).map_err(|rejection| rejection.to_string());
    let converted = decoded.and_then(|decoded| {
        let mut reading = decoded.reading.into_owned();
        flags.convert(&mut reading).map(|()| reading)
    });
    match converted {
        Ok(reading) => Line { number, readings: vec![reading], problem: None, is_skipped: false },
        Err(problem) => Line::bad(number, problem),
    }
}

/// The newest timestamp in the recording, by reading it once.
fn last_moment(plan: &RecordingPlan) -> anyhow::Result<i64> {
    if plan.path == Path::new("-") {
        return Err(UsageError::new(
            "--time-shift now needs a file: the last reading of a pipe is unknown until the pipe ends \
             (save it to a file, or give a duration such as --time-shift +7d)",
        )
        .into());
    }
    // A bad line is reported when its turn to be sent comes; here it only has no timestamp.
    let limits = DecodeLimits { is_any_time: true, ..plan.limits };
    let mut scan = Recording::open_unshifted(&RecordingPlan { skip_bad: true, limits, ..plan.clone() })?;
    let mut last = None;
    while let Some(reading) = scan.next_reading()? {
        last = last.max(Some(reading.recorded_at));
    }
    last.ok_or_else(|| anyhow::anyhow!("{} contains no reading", scan.name))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn plan(path: &Path) -> RecordingPlan {
        let strings = |items: &[&str]| items.iter().map(std::string::ToString::to_string).collect::<Vec<_>>();
        RecordingPlan {
            path: path.to_owned(),
            flags: ColumnFlags::parse(
                &strings(&["timestamp=recorded_timestamp", "value=temperature"]),
                &strings(&["location=plant-1", "device_type=machine"]),
                &[],
            )
            .unwrap(),
            rows: None,
            shift: TimeShift::None,
            skip_bad: false,
            limits: DecodeLimits {
                max_message_bytes: 1 << 20,
                max_future_skew: Duration::from_secs(3600),
                is_any_time: false,
            },
        }
    }

    fn all(plan: &RecordingPlan) -> anyhow::Result<(Vec<Reading<'static>>, u64)> {
        let mut recording = Recording::open(plan)?;
        let mut readings = Vec::new();
        while let Some(reading) = recording.next_reading()? {
            readings.push(reading);
        }
        Ok((readings, recording.bad))
    }

    const TEXT: &str = "timestamp,value\n2013-12-02 21:15:00,73.9\n2013-12-02 21:20:00,74.9\n";

    #[test]
    fn a_csv_recording_is_streamed_in_order() {
        let file = file(TEXT);
        let (readings, bad) = all(&plan(file.path())).unwrap();
        assert_eq!(bad, 0);
        assert_eq!(readings.iter().map(|it| it.temperature.unwrap()).collect::<Vec<_>>(), [73.9, 74.9]);
        assert_eq!(readings[1].recorded_at - readings[0].recorded_at, 300_000);
    }

    #[test]
    fn the_last_reading_can_become_now() {
        let file = file(TEXT);
        let shifted = RecordingPlan { shift: TimeShift::LastIsNow, ..plan(file.path()) };
        let (readings, _) = all(&shifted).unwrap();
        assert!((time::now() - readings[1].recorded_at).abs() < 10_000);
        assert_eq!(readings[1].recorded_at - readings[0].recorded_at, 300_000);
        let moved = RecordingPlan { shift: "-1h".parse().unwrap(), ..plan(file.path()) };
        assert_eq!(all(&moved).unwrap().0[0].recorded_at, 1_386_018_900_000 - 3_600_000);
        assert!("tomorrow".parse::<TimeShift>().is_err());
    }

    #[test]
    fn times_are_checked_as_they_are_sent_and_not_as_they_were_recorded() {
        let line = |at: &str| {
            format!(
                "{{\"location\":\"l\",\"device_type\":\"d\",\"iot_sensor_id\":\"6d0a1c1e-52c4-4b0e-9b57-7f3c8a4e21d5\",\
                 \"recorded_timestamp\":\"{at}\",\"pm\":2}}\n"
            )
        };
        let wire = file(&[line("1995-03-01T00:00:00Z"), line("1995-03-01T01:00:00Z")].concat());
        let columns = file("timestamp,value\n1995-03-01 00:00,1\n1995-03-01 01:00,2\n");
        for (path, flags) in
            [(wire.path(), ColumnFlags::default()), (columns.path(), plan(columns.path()).flags)]
        {
            let old = RecordingPlan { flags, ..plan(path) };
            let error = all(&old).unwrap_err().to_string();
            assert!(
                error.contains("recorded_timestamp") && error.contains("before the year 2000"),
                "{error}"
            );
            let shifted = RecordingPlan { shift: TimeShift::LastIsNow, ..old };
            let (readings, bad) = all(&shifted).unwrap();
            assert_eq!((readings.len(), bad), (2, 0));
            assert!((time::now() - readings[1].recorded_at).abs() < 10_000);
        }
    }

    #[test]
    fn the_dialects_of_excel_and_pandas_are_read() {
        let rows = [
            "\u{feff}timestamp;value\r\n2013-12-02 21:15:00;73,9\r\n2013-12-02 21:20:00;-\r\n",
            "\ttimestamp\tvalue\n0\t2013-12-02 21:15:00\t73.9\n1\t2013-12-02 21:20:00\t\\N\n",
            ",timestamp,value\n0,2013-12-02 21:15:00+00:00,73.9\n1,2013-12-02 21:20:00+00:00,NA\n",
            "\nsep=|\ntimestamp|value\n2013-12-02T21:15:00|73.9\n2013-12-02T21:20:00|null\n",
        ];
        for text in rows {
            let file = file(text);
            let (readings, _) = all(&plan(file.path())).unwrap();
            let found: Vec<_> = readings.iter().map(|it| (it.recorded_at, it.temperature)).collect();
            assert_eq!(found, [(1_386_018_900_000, Some(73.9)), (1_386_019_200_000, None)], "{text:?}");
            assert!(Recording::open(&plan(file.path())).unwrap().ignored_columns().is_empty());
        }
    }

    #[test]
    fn a_bad_line_is_named_or_counted() {
        let file =
            file(&format!("{TEXT}2013-12-02 21:25:00,1e60\n2013-12-02 21:30:00\n2013-12-02 21:35:00,75\n"));
        let error = all(&plan(file.path())).unwrap_err().to_string();
        assert!(error.contains(":4: field temperature: "), "{error}");
        assert!(error.contains("--skip-bad"));
        let (readings, bad) = all(&RecordingPlan { skip_bad: true, ..plan(file.path()) }).unwrap();
        assert_eq!((readings.len(), bad), (3, 2));
    }

    #[test]
    fn the_wire_format_is_replayed_line_by_line() {
        let line = |at: &str, id: &str| {
            format!(
                "{{\"location\":\"l\",\"device_type\":\"d\",\"iot_sensor_id\":\"{id}\",\
                 \"recorded_timestamp\":\"{at}\",\"temperature\":300.15,\"pm\":2}}"
            )
        };
        let good = line("2026-01-01T00:00:00Z", "6d0a1c1e-52c4-4b0e-9b57-7f3c8a4e21d5");
        let file = file(&format!("\n{good}\n\n{}\n{good}", line("2026-01-01T00:00:00Z", "pump")));
        let mut plan = plan(file.path());
        plan.flags = ColumnFlags::parse(&[], &[], &["temperature=kelvin".to_owned()]).unwrap();
        let error = all(&plan).unwrap_err().to_string();
        assert!(error.contains(":4: "), "{error}");
        plan.skip_bad = true;
        let (readings, bad) = all(&plan).unwrap();
        assert_eq!((readings.len(), bad), (2, 1));
        assert!((readings[0].temperature.unwrap() - 27.0).abs() < 1e-3);
        assert_eq!(readings[0].other_metrics, [("pm".into(), 2.0)]);
        plan.flags = ColumnFlags::parse(&[], &["location=plant-1".to_owned()], &[]).unwrap();
        assert!(all(&plan).unwrap_err().to_string().contains("NDJSON"));
    }

    #[test]
    fn an_unclosed_quote_does_not_fill_the_memory() {
        let mut text = TEXT.to_owned();
        text.push_str("2013-12-02 21:25:00,\"73.9\n");
        text.push_str(&"2013-12-02 21:30:00,74\n".repeat(20_000));
        let file = file(&text);
        for skip_bad in [false, true] {
            let mut plan = RecordingPlan { skip_bad, ..plan(file.path()) };
            plan.limits.max_message_bytes = 1_000;
            let error = format!("{:#}", all(&plan).unwrap_err());
            assert!(error.contains("a line of more than 1000 bytes (check for an unclosed quote"), "{error}");
        }
        let (readings, bad) = all(&RecordingPlan { skip_bad: true, ..plan(file.path()) }).unwrap();
        assert_eq!((readings.len(), bad), (2, 1), "below the limit it is a line that is not a reading");
    }

    #[test]
    fn impossible_timestamps_are_bad_lines_and_never_overflow() {
        for moment in ["-1e300", "1e300", "9223372036854775807", "-9223372036854775808", "262142-01-01 00:00"]
        {
            let file = file(&format!("{TEXT}{moment},70\n"));
            let error = all(&plan(file.path())).unwrap_err().to_string();
            assert!(error.contains(":4: ") && error.contains("is not a timestamp"), "{error}");
            for shift in ["now", "+290000000y", "-290000000y"] {
                // What is shifted out of the time that there is, is bad too.
                let bad = if shift == "now" { 1 } else { 3 };
                let shift = shift.parse().unwrap();
                let plan = RecordingPlan { shift, skip_bad: true, ..plan(file.path()) };
                assert_eq!(all(&plan).unwrap().1, bad);
            }
        }
    }

    #[test]
    fn a_value_that_overflows_in_the_conversion_is_a_bad_line() {
        let line = "{\"location\":\"l\",\"device_type\":\"d\",\"iot_sensor_id\":\"6d0a1c1e-52c4-4b0e-9b57-7f3c8a4e21d5\",\
                    \"recorded_timestamp\":\"2026-01-01T00:00:00Z\",\"pressure\":3e38}\n";
        let file = file(line);
        let mut plan = plan(file.path());
        plan.flags = ColumnFlags::parse(&[], &[], &["pressure=kpa".to_owned()]).unwrap();
        let error = all(&plan).unwrap_err().to_string();
        assert!(error.contains(":1: field pressure:") && error.contains("out of range"), "{error}");
    }

    #[test]
    fn a_mapping_finds_several_readings_in_a_line_and_names_the_bad_element() {
        let text = "[[source]]\neach = \"value\"\nlocation = { constant = \"l\" }\ndevice_type = { constant = \"d\" }\n\
                    sensor = \"each.id\"\nrecorded_timestamp = { from = \"each.at\", format = \"s\" }\n\
                    only = \".value != []\"\nmetrics = { temperature = \"each.t\" }\n";
        let mapping = std::sync::Arc::new(crate::mapping::Mapping::parse("m.toml", text).unwrap());
        let file = file(
            "\n[{\"id\":\"a\",\"at\":1700000000,\"t\":1},{\"id\":\"b\",\"at\":1700000060,\"t\":2}]\n[]\n\
             [{\"id\":\"a\",\"at\":1700000120,\"t\":3},{\"id\":\"b\",\"at\":5,\"t\":4}]\n",
        );
        let mut plan = plan(file.path());
        plan.flags = ColumnFlags::default();
        plan.rows = Some(RowMapping::of(&mapping, None, file.path()).unwrap());
        let error = all(&plan).unwrap_err().to_string();
        assert!(error.contains(":4: sensor b: recorded_timestamp"), "{error}");
        plan.skip_bad = true;
        plan.shift = "+1m".parse().unwrap();
        let (readings, bad) = all(&plan).unwrap();
        let found: Vec<_> = readings.iter().map(|it| (it.recorded_at, it.temperature)).collect();
        assert_eq!(
            found,
            [(1_700_000_060_000, Some(1.0)), (1_700_000_120_000, Some(2.0)), (1_700_000_180_000, Some(3.0))]
        );
        assert_eq!(bad, 1);
        assert_eq!(readings[0].sensor_name.as_deref(), Some("a"));
    }

    #[test]
    fn a_missing_file_and_an_empty_one_are_reported() {
        let error = format!("{:#}", all(&plan("/nowhere/at/all.csv".as_ref())).unwrap_err());
        assert!(error.contains("cannot open /nowhere/at/all.csv: No such file"), "{error}");
        let file = file("");
        assert!(all(&plan(file.path())).unwrap_err().is::<UsageError>());
    }
}
