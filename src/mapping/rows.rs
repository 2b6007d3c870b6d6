//! Rows of files through a mapping: the same source, the same steps and the same readings as a message of a topic.
//!
//! A line of NDJSON (or of any other text format) is a payload. A row with columns, of CSV or Parquet, is the object that a
//! payload of the format `csv` has for it, or for `json` the payload itself. A row has no key, no headers and no time of its own.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::columns::Completion;
use super::payload::PayloadFormat;
use super::source::Source;
use super::{Mapped, Mapping, Record};
use crate::error::UsageError;
use crate::reading::{DecodeLimits, Rejection};

/// One file's way through a mapping.
#[derive(Debug, Clone)]
pub struct RowMapping {
    mapping: Arc<Mapping>,
    /// What reads the file.
    main: Box<Candidate>,
    /// Sources after it, to which its `only` leaves rows.
    others: Vec<Candidate>,
    /// Of a mapping that flags say.
    completion: Option<Completion>,
}

/// A source that may read a row.
#[derive(Debug, Clone)]
struct Candidate {
    /// Of the mapping.
    source: usize,
    /// What `topic` stands for.
    topic: String,
    captures: HashMap<String, String>,
}

impl Candidate {
    fn of(mapping: &Mapping, index: usize, stem: &str) -> Self {
        let source = &mapping.sources[index];
        let topic = match source.topics.as_slice() {
            [topic] if source.topic_pattern.is_none() => topic.clone(),
            _ => stem.to_owned(),
        };
        let captures = source.topic_captures(&topic);
        Self { source: index, topic, captures }
    }

    fn record<'a>(&'a self, payload: &'a [u8]) -> Record<'a> {
        Record { topic: &self.topic, key: None, headers: &NO_HEADERS, timestamp: None, payload }
    }
}

impl RowMapping {
    /// For a file. The source is the one that `source` names; else the only one that is not dropped; else the first whose
    /// topics hold the file's name, without its folder and extension.
    ///
    /// # Errors
    /// There is no such source, or its messages are not text.
    pub fn of(mapping: &Arc<Mapping>, source: Option<&str>, file: &Path) -> Result<Self, UsageError> {
        let (stem, source_is_named) = (stem(file), source.is_some());
        let names = || mapping.sources().collect::<Vec<_>>().join(", ");
        let refuse = |problem: String| UsageError::new(format!("mapping {}: {problem}", mapping.place));
        let index = match source {
            Some(wanted) => mapping.sources().position(|name| name == wanted).ok_or_else(|| {
                refuse(format!("there is no source {wanted:?} (the mapping has: {})", names()))
            })?,
            None => by_name(&mapping.sources, &stem).ok_or_else(|| {
                refuse(format!(
                    "no source is for {} (name one with --source: {}; or name the file after a topic)",
                    file.display(),
                    names()
                ))
            })?,
        };
        let source = &mapping.sources[index];
        if !source.format().is_text() {
            return Err(refuse(format!(
                "source {}: rows of files are text, and its format is {} (import from files with a source of json or csv)",
                source.name,
                source.format().name()
            )));
        }
        let others = match source_is_named {
            true => Vec::new(),
            false => after(&mapping.sources, index, &stem),
        };
        let candidate = |index| Candidate::of(mapping, index, &stem);
        let (main, others) = (Box::new(candidate(index)), others.into_iter().map(candidate).collect());
        Ok(Self { mapping: mapping.clone(), main, others, completion: None })
    }

    /// Through a mapping of one source, that flags say.
    pub(super) fn by_flags(mapping: Arc<Mapping>, completion: Completion) -> Self {
        let main = Box::new(Candidate { source: 0, topic: String::new(), captures: HashMap::new() });
        Self { mapping, main, others: Vec::new(), completion: Some(completion) }
    }

    fn source(&self) -> &Source {
        &self.mapping.sources[self.main.source]
    }

    /// Its name.
    pub fn source_name(&self) -> &str {
        &self.source().name
    }

    /// Whether a payload is plain JSON, to which fields may be added.
    pub fn is_json(&self) -> bool {
        self.source().format() == PayloadFormat::Json
    }

    /// Whether a file that begins with this byte has lines that are payloads, and not columns.
    pub fn has_lines(&self, first: Option<u8>) -> bool {
        match self.source().format() {
            PayloadFormat::Csv => false,
            PayloadFormat::Json => matches!(first, Some(b'{' | b'[')),
            _ => true,
        }
    }

    /// What separates the columns of CSV: as in payloads of that format. Of a file that payloads do not come in, it is found out
    /// by the heading.
    pub fn delimiter(&self) -> Option<u8> {
        let stated = self.source().csv().delimiter.and_then(|delimiter| u8::try_from(delimiter).ok());
        match self.source().format() {
            PayloadFormat::Csv => stated.or(Some(b',')),
            _ => stated,
        }
    }

    /// The columns of CSV without a heading line; none if there is one.
    pub fn columns(&self) -> &[String] {
        &self.source().csv().columns
    }

    /// # Errors
    /// Its source reads no rows with columns.
    pub fn check_has_columns(&self) -> Result<(), UsageError> {
        match self.source().format() {
            PayloadFormat::Csv | PayloadFormat::Json => Ok(()),
            other => Err(UsageError::new(format!(
                "mapping {}: source {}: rows of CSV and Parquet have columns, and its format is {} (set format = \"csv\" or \
                 \"json\")",
                self.mapping.place,
                self.source_name(),
                other.name()
            ))),
        }
    }

    /// By the first source whose `only` holds, as for a message.
    fn by_first<'s>(
        &'s self,
        mut read: impl FnMut(&'s Candidate, &'s Source) -> Result<Option<Mapped<'static>>, Rejection>,
    ) -> Result<Mapped<'static>, Rejection> {
        for candidate in std::iter::once(&*self.main).chain(&self.others) {
            if let Some(mapped) = read(candidate, &self.mapping.sources[candidate.source])? {
                return Ok(mapped);
            }
        }
        Ok(Mapped::skipped())
    }

    /// The readings of a line that is a payload.
    ///
    /// # Errors
    /// Why it holds none.
    pub fn line(&self, line: &[u8], limits: &DecodeLimits, now: i64) -> Result<Mapped<'static>, Rejection> {
        if line.len() > limits.max_message_bytes {
            return Err(Rejection::TooLarge { bytes: line.len(), limit: limits.max_message_bytes });
        }
        self.by_first(|candidate, source| {
            source.read(&candidate.record(line), &candidate.captures, limits, now)
        })
    }

    /// The readings of a row with columns.
    ///
    /// # Errors
    /// Why it holds none.
    pub fn row(
        &self,
        mut columns: Map<String, Value>,
        limits: &DecodeLimits,
        now: i64,
    ) -> Result<Mapped<'static>, Rejection> {
        if let Some(completion) = &self.completion {
            completion.apply(&mut columns);
        }
        let row = Value::Object(columns);
        let is_csv = self.source().format() == PayloadFormat::Csv;
        let value = if is_csv { Value::Array(vec![row]) } else { row };
        let read = |candidate: &Candidate, source: &Source, value| {
            source.read_value(&candidate.record(b""), &candidate.captures, value, limits, now)
        };
        // Of most files one source reads all rows: they are not copied for others.
        if self.others.is_empty() {
            return Ok(read(&self.main, self.source(), value)?.unwrap_or_else(Mapped::skipped));
        }
        self.by_first(|candidate, source| read(candidate, source, value.clone()))
    }
}

/// A row of CSV as payloads of that format have it: cells are text, and null where they are empty.
pub fn columns<'a>(heading: &[String], cells: impl Iterator<Item = &'a str>) -> Map<String, Value> {
    let cell = |text: &str| match text.trim() {
        "" => Value::Null,
        text => text.into(),
    };
    heading.iter().cloned().zip(cells.map(cell)).collect()
}

/// The name of a topic may have dots, so that only what is known to be an extension is one.
fn stem(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match name.rsplit_once('.') {
        Some((stem, "csv" | "ndjson" | "jsonl" | "json" | "parquet" | "txt" | "tsv")) => stem.to_owned(),
        _ => name,
    }
}

const NO_HEADERS: fn(&str) -> Option<String> = |_| None;

fn by_name(sources: &[Source], stem: &str) -> Option<usize> {
    let mut taking = (0..sources.len()).filter(|index| !sources[*index].is_dropped());
    if let (Some(only), None) = (taking.next(), taking.next()) {
        return Some(only);
    }
    let record = Record { topic: stem, key: None, headers: &NO_HEADERS, timestamp: None, payload: b"" };
    sources.iter().position(|source| source.matches(&record).is_some())
}

/// The sources after one that its `only` leaves rows to: those that the file's name fits too, and that read rows as it does.
fn after(sources: &[Source], index: usize, stem: &str) -> Vec<usize> {
    let record = Record { topic: stem, key: None, headers: &NO_HEADERS, timestamp: None, payload: b"" };
    let first = &sources[index];
    let fits = |source: &Source| {
        source.matches(&record).is_some() && source.format() == first.format() && source.csv() == first.csv()
    };
    (index + 1..sources.len()).filter(|index| first.has_condition() && fits(&sources[*index])).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_795_600_000_000;

    fn limits() -> DecodeLimits {
        DecodeLimits {
            max_message_bytes: 10_000,
            max_future_skew: std::time::Duration::from_secs(60),
            is_any_time: false,
        }
    }

    fn mapping(text: &str) -> Arc<Mapping> {
        Arc::new(Mapping::parse("test.toml", text).unwrap())
    }

    const TWO: &str = "
        [[source]]
        name = \"halls\"
        topic_pattern = '^hall-(?<hall>.+)$'
        location = \"capture.hall\"
        device_type = { constant = \"meter\" }
        sensor = \"value.id\"
        recorded_timestamp = { from = \"value.at\", format = \"ms\" }
        metrics = { temperature = \"value.t\" }
        [[source]]
        name = \"lists\"
        topics = [\"batch\"]
        format = \"csv\"
        location = \"topic\"
        device_type = { constant = \"meter\" }
        sensor = \"each.id\"
        metrics = { temperature = \"each.t\" }";

    fn columns(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(columns) => columns,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_source_is_chosen_by_its_name_or_by_the_files() {
        let mapping = mapping(TWO);
        let of = |source: Option<&str>, file: &str| RowMapping::of(&mapping, source, file.as_ref());
        assert_eq!(of(None, "old/hall-7.csv").unwrap().source_name(), "halls");
        assert_eq!(of(None, "batch.csv").unwrap().source_name(), "lists");
        assert_eq!(of(Some("lists"), "hall-7.csv").unwrap().source_name(), "lists");
        let error = of(None, "other.csv").unwrap_err().to_string();
        assert!(error.contains("--source") && error.contains("halls, lists"), "{error}");
        assert!(of(Some("hall"), "hall-7.csv").unwrap_err().to_string().contains("halls, lists"));
        // The only one takes files of any name.
        let one = super::super::Mapping::load("ttn-v3").unwrap();
        assert!(RowMapping::of(&Arc::new(one), None, "x.ndjson".as_ref()).is_ok());
        let binary = Arc::new(super::super::Mapping::load("sparkplug-b").unwrap());
        let error = RowMapping::of(&binary, None, "x.ndjson".as_ref()).unwrap_err().to_string();
        assert!(error.contains("sparkplug-b"), "{error}");
    }

    #[test]
    fn a_row_is_read_as_the_message_with_its_content_is() {
        let mapping = mapping(TWO);
        let rows = RowMapping::of(&mapping, None, "hall-7.ndjson".as_ref()).unwrap();
        let payload = json!({"id": "a", "at": NOW, "t": "21.5"});
        let text = payload.to_string();
        let record = Record {
            topic: "hall-7",
            key: None,
            headers: &NO_HEADERS,
            timestamp: Some(5),
            payload: text.as_bytes(),
        };
        let message = mapping.read(&record, &limits(), NOW).unwrap();
        assert_eq!(message.readings[0].reading.location, "7");
        assert_eq!(rows.line(record.payload, &limits(), NOW).unwrap(), message);
        assert_eq!(rows.row(columns(payload.clone()), &limits(), NOW).unwrap(), message);
    }

    #[test]
    fn a_row_is_left_to_the_next_source_where_only_does_not_hold() {
        let source = |kind: &str, metric: &str| {
            format!(
                "[[source]]\nname = {kind:?}\ntopics = [\"rows\"]\nonly = '.value.kind == {kind:?}'\n\
                 location = {{ constant = \"l\" }}\ndevice_type = {{ constant = \"d\" }}\nsensor = \"value.id\"\n\
                 recorded_timestamp = {{ from = \"value.at\", format = \"ms\" }}\nmetrics = {{ {metric} = \"value.v\" }}\n"
            )
        };
        let mapping = mapping(&(source("env", "temperature") + &source("pwr", "power")));
        let rows = |source| RowMapping::of(&mapping, source, "rows.csv".as_ref()).unwrap();
        let read = |rows: &RowMapping, kind: &str| {
            rows.row(columns(json!({"id": "a", "at": NOW, "kind": kind, "v": 5})), &limits(), NOW).unwrap()
        };
        let all = rows(None);
        assert_eq!(read(&all, "env").readings[0].reading.temperature, Some(5.0));
        assert_eq!(read(&all, "pwr").readings[0].reading.other_metrics, [("power".into(), 5.0)]);
        assert!(read(&all, "other").is_skipped);
        assert!(read(&rows(Some("env")), "pwr").is_skipped, "a source that is named reads alone");
    }

    #[test]
    fn the_time_of_a_record_is_missed_by_a_reason_of_its_own() {
        let rows = RowMapping::of(&mapping(TWO), Some("lists"), "x.csv".as_ref()).unwrap();
        let mapped = rows.row(columns(json!({"id": "a", "t": "1"})), &limits(), NOW).unwrap();
        assert!(mapped.readings.is_empty());
        assert_eq!(mapped.faults[0].reason(), "no_time");
        assert!(mapped.faults[0].to_string().starts_with("element 0 of 1: mapping: recorded_timestamp: "));
        let senml = Arc::new(Mapping::load("senml").unwrap());
        let rows = RowMapping::of(&senml, None, "x.ndjson".as_ref()).unwrap();
        let relative = br#"[{"n":"a/t","u":"Cel","v":1}]"#;
        assert_eq!(rows.line(relative, &limits(), NOW).unwrap_err().reason(), "no_time");
    }
}
