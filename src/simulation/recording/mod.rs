//! Readings from a file: NDJSON in the wire format, CSV with a [`Mapping`] of its columns, or either through a mapping file
//! ([`RowMapping`]). The file is streamed; one line is in memory at a time, and no more than
//! [`DecodeLimits::max_message_bytes`] of it.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use csv::StringRecord;

use super::columns::{Layout, Mapping};
use crate::error::UsageError;
use crate::mapping::Mapped;
use crate::mapping::rows::{self, RowMapping};
use crate::reading::decode::{DecodeLimits, decode};
use crate::reading::delimited::{self, Dialect};
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
    pub mapping: Mapping,
    /// Instead of `mapping`.
    pub rows: Option<RowMapping>,
    pub shift: TimeShift,
    /// Skip and count lines that are not readings, instead of stopping at the first.
    pub skip_bad: bool,
    /// Limits of an NDJSON line; the same as in ingest.
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
    /// Lines skipped because they are not readings.
    pub bad: u64,
    /// Lines that the mapping skips.
    pub skipped: u64,
}

/// What columns become.
enum Columns {
    Fields(Layout),
    /// A mapping file reads them by their names.
    Mapped(Vec<String>),
}

enum Lines {
    Csv { reader: Box<csv::Reader<Limited>>, budget: Budget, columns: Columns, record: StringRecord },
    Ndjson { reader: Box<dyn BufRead + Send>, line: Vec<u8>, number: u64 },
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Lines::Csv { .. } => "Csv",
            Lines::Ndjson { .. } => "Ndjson",
        })
    }
}

/// A line that is not a reading.
struct Bad {
    line: u64,
    reason: String,
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
        let lines = if has_lines {
            if !plan.mapping.is_empty() {
                return Err(UsageError::new(format!(
                    "{name} is NDJSON and has no columns (--map and --set are for CSV; leave them out)"
                ))
                .into());
            }
            Lines::Ndjson { reader, line: Vec::new(), number: blank_lines }
        } else {
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
            let columns = match (&plan.rows, named) {
                (Some(rows), []) => {
                    rows.check_has_columns()?;
                    let headings =
                        reader.headers().with_context(|| format!("cannot read the headings of {name}"))?;
                    Columns::Mapped(headings.iter().map(|name| name.trim().to_owned()).collect())
                }
                (Some(_), named) => Columns::Mapped(named.to_vec()),
                (None, _) => {
                    let headings =
                        reader.headers().with_context(|| format!("cannot read the headings of {name}"))?;
                    Columns::Fields(Layout::resolve(&plan.mapping, headings, dialect)?)
                }
            };
            Lines::Csv { reader: Box::new(reader), budget, columns, record: StringRecord::new() }
        };
        let ready = VecDeque::new();
        Ok(Self { name, lines, plan: plan.clone(), shift: 0, ready, bad: 0, skipped: 0 })
    }

    /// Columns that are not sent because they are neither mapped nor named like a field.
    pub fn ignored_columns(&self) -> &[String] {
        match &self.lines {
            Lines::Csv { columns: Columns::Fields(layout), .. } => &layout.ignored,
            _ => &[],
        }
    }

    /// The next reading, or `None` at the end.
    pub fn next_reading(&mut self) -> anyhow::Result<Option<Reading<'static>>> {
        loop {
            if let Some(mut reading) = self.ready.pop_front() {
                reading.recorded_at = reading.recorded_at.saturating_add(self.shift);
                return Ok(Some(reading));
            }
            let next = self.lines.next(&self.plan, &mut self.ready);
            match next.with_context(|| format!("cannot read {}", self.name))? {
                None => return Ok(None),
                Some(Ok(is_skipped)) => self.skipped += u64::from(is_skipped),
                Some(Err(_)) if self.plan.skip_bad => self.bad += 1,
                Some(Err(Bad { line, reason })) => anyhow::bail!(
                    "{}:{line}: {reason} (fix the line, or pass --skip-bad to count and skip such lines)",
                    self.name
                ),
            }
        }
    }
}

impl Lines {
    /// Puts the readings of the next line into `ready`; whether the mapping skips the line.
    fn next(
        &mut self,
        plan: &RecordingPlan,
        ready: &mut VecDeque<Reading<'static>>,
    ) -> io::Result<Option<Result<bool, Bad>>> {
        match self {
            Lines::Csv { reader, budget, columns, record } => {
                match budget.for_line(|| reader.read_record(record)) {
                    Ok(false) => Ok(None),
                    Ok(true) => {
                        let line = record.position().map_or(0, csv::Position::line);
                        let taken = match columns {
                            Columns::Fields(layout) => layout.reading(record).map(|reading| {
                                ready.push_back(reading);
                                false
                            }),
                            Columns::Mapped(heading) => map_record(heading, record, plan, ready),
                        };
                        Ok(Some(taken.map_err(|reason| Bad { line, reason })))
                    }
                    Err(error) if error.is_io_error() => Err(error.into()),
                    Err(error) => {
                        let line = error.position().map_or(0, csv::Position::line);
                        Ok(Some(Err(Bad { line, reason: csv_reason(&error) })))
                    }
                }
            }
            Lines::Ndjson { reader, line, number } => loop {
                let limit = plan.limits.max_message_bytes;
                if !read_line(reader, line, limit)? {
                    return Ok(None);
                }
                *number += 1;
                if !line.trim_ascii().is_empty() {
                    let taken = match &plan.rows {
                        Some(rows) => {
                            map_readings(rows.line(line.trim_ascii(), &plan.limits, time::now()), ready)
                        }
                        None => decode_line(line, plan).map(|reading| {
                            ready.push_back(reading);
                            false
                        }),
                    };
                    return Ok(Some(taken.map_err(|reason| Bad { line: *number, reason })));
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

fn map_record(
    heading: &[String],
    record: &StringRecord,
    plan: &RecordingPlan,
    ready: &mut VecDeque<Reading<'static>>,
) -> Result<bool, String> {
    if record.len() != heading.len() {
        return Err(format!("{} columns, but the mapping has {}", record.len(), heading.len()));
    }
    let Some(mapping) = &plan.rows else { return Ok(true) };
    let row = rows::columns(heading, record.iter());
    map_readings(mapping.row(row, &plan.limits, time::now()), ready)
}

/// Of a row with faults, the good readings are taken all the same.
fn map_readings(
    mapped: Result<Mapped<'static>, Rejection>,
    ready: &mut VecDeque<Reading<'static>>,
) -> Result<bool, String> {
    let mapped = mapped.map_err(|rejection| rejection.to_string())?;
    ready.extend(mapped.readings.into_iter().map(|decoded| decoded.reading));
    match mapped.faults.as_slice() {
        [] => Ok(mapped.is_skipped),
        faults => Err(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
    }
}

fn decode_line(line: &[u8], plan: &RecordingPlan) -> Result<Reading<'static>, String> {
    let decoded =
        decode(line.trim_ascii(), &plan.limits, time::now()).map_err(|reason| reason.to_string())?;
    let mut reading = decoded.reading.into_owned();
    for conversion in &plan.mapping.conversions {
        conversion.apply(&mut reading)?;
    }
    Ok(reading)
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
    let mut scan = Recording::open_unshifted(&RecordingPlan { skip_bad: true, ..plan.clone() })?;
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
            mapping: Mapping::parse(
                &strings(&["timestamp=recorded_timestamp", "value=temperature"]),
                &strings(&["location=plant-1", "device_type=machine"]),
                &[],
            )
            .unwrap(),
            rows: None,
            shift: TimeShift::None,
            skip_bad: false,
            limits: DecodeLimits { max_message_bytes: 1 << 20, max_future_skew: Duration::from_secs(3600) },
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
            file(&format!("{TEXT}2013-12-02 21:25:00,hot\n2013-12-02 21:30:00\n2013-12-02 21:35:00,75\n"));
        let error = all(&plan(file.path())).unwrap_err().to_string();
        assert!(error.contains(":4: column \"value\": \"hot\" is not a number"), "{error}");
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
        plan.mapping = Mapping::parse(&[], &[], &["temperature=kelvin".to_owned()]).unwrap();
        let error = all(&plan).unwrap_err().to_string();
        assert!(error.contains(":4: "), "{error}");
        plan.skip_bad = true;
        let (readings, bad) = all(&plan).unwrap();
        assert_eq!((readings.len(), bad), (2, 1));
        assert!((readings[0].temperature.unwrap() - 27.0).abs() < 1e-3);
        assert_eq!(readings[0].other_metrics, [("pm".into(), 2.0)]);
        plan.mapping.location = Some("plant-1".into());
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
                let shift = shift.parse().unwrap();
                let plan = RecordingPlan { shift, skip_bad: true, ..plan(file.path()) };
                assert_eq!(all(&plan).unwrap().1, 1);
            }
        }
    }

    #[test]
    fn a_value_that_overflows_in_the_conversion_is_a_bad_line() {
        let line = "{\"location\":\"l\",\"device_type\":\"d\",\"iot_sensor_id\":\"6d0a1c1e-52c4-4b0e-9b57-7f3c8a4e21d5\",\
                    \"recorded_timestamp\":\"2026-01-01T00:00:00Z\",\"pressure\":3e38}\n";
        let file = file(line);
        let mut plan = plan(file.path());
        plan.mapping = Mapping::parse(&[], &[], &["pressure=kpa".to_owned()]).unwrap();
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
        plan.mapping = Mapping::default();
        plan.rows = Some(RowMapping::of(&mapping, None, file.path()).unwrap());
        let error = all(&plan).unwrap_err().to_string();
        assert!(error.contains(":4: element 1 of 2: recorded_timestamp"), "{error}");
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
