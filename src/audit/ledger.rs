//! The ledger: one JSON line per message that the broker acknowledged. Audits compare with it. Keys: `sensor`,
//! `timestamp`, `partition`, `offset`, and if they apply `sensor_name`, `extreme` (the metric) with its `value`, `duplicate`,
//! `empty` (no value is left in it) and `malformed` (the kind).

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::Deserialize;
use uuid::Uuid;

use crate::kafka::producer::Position;
use crate::reading::encode::{self, Encoder};

/// A message as the ledger records it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Acknowledged<'a> {
    pub sensor: Uuid,
    /// What the message calls it.
    pub sensor_name: Option<&'a str>,
    /// Milliseconds since the epoch.
    pub recorded_at: i64,
    /// The metric that carries an injected extreme, and its value.
    pub extreme: Option<(&'a str, f32)>,
    pub duplicate: bool,
    /// No value is left in it.
    pub empty: bool,
    /// The kind of damage, if the message was damaged on purpose.
    pub malformed: Option<&'a str>,
}

/// An open ledger. Lines are buffered; [`Ledger::finish`] makes them durable.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    file: BufWriter<File>,
    encoder: Encoder,
    line: Vec<u8>,
}

impl Ledger {
    /// Opens `path` for appending; creates it if it does not exist.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let file = BufWriter::with_capacity(64 * 1024, file);
        Ok(Self { path: path.to_owned(), file, encoder: Encoder::new(), line: Vec::new() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn record(&mut self, message: &Acknowledged<'_>, position: Position) -> io::Result<()> {
        let line = &mut self.line;
        line.clear();
        line.extend_from_slice(b"{\"sensor\":\"");
        encode::sensor_id(message.sensor, line);
        line.extend_from_slice(b"\",\"timestamp\":");
        self.encoder.timestamp(message.recorded_at, line);
        write!(line, ",\"partition\":{},\"offset\":{}", position.partition, position.offset)?;
        if let Some(name) = message.sensor_name {
            line.extend_from_slice(b",\"sensor_name\":");
            encode::string(name, line);
        }
        if let Some((metric, value)) = message.extreme {
            line.extend_from_slice(b",\"extreme\":");
            encode::string(metric, line);
            write!(line, ",\"value\":{value}")?;
        }
        if message.duplicate {
            line.extend_from_slice(b",\"duplicate\":true");
        }
        if message.empty {
            line.extend_from_slice(b",\"empty\":true");
        }
        if let Some(kind) = message.malformed {
            line.extend_from_slice(b",\"malformed\":");
            encode::string(kind, line);
        }
        line.extend_from_slice(b"}\n");
        self.file.write_all(line)
    }

    /// Writes the buffer and waits until it is on disk.
    pub fn finish(&mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()
    }
}

/// An entry as it is read back.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Entry<'a> {
    pub sensor: Uuid,
    pub timestamp: DateTime<Utc>,
    pub partition: i32,
    pub offset: i64,
    /// What the message calls the sensor.
    #[serde(default, borrow)]
    pub sensor_name: Option<Cow<'a, str>>,
    /// The metric that carries an injected extreme.
    #[serde(default, borrow)]
    pub extreme: Option<Cow<'a, str>>,
    /// No value is left in it.
    #[serde(default)]
    pub empty: bool,
    #[serde(default, borrow)]
    pub malformed: Option<Cow<'a, str>>,
}

/// Reads a ledger line by line; one line is in memory at a time.
#[derive(Debug)]
pub struct LedgerReader<R> {
    file: BufReader<R>,
    line: Vec<u8>,
}

/// A line of a ledger.
#[derive(Debug, Clone, PartialEq)]
pub enum Line<'a> {
    Entry(Entry<'a>),
    /// Not an entry: left by a process that was killed while it wrote, or of another program.
    Unreadable,
}

impl LedgerReader<File> {
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self::new(File::open(path)?))
    }
}

impl<R: Read> LedgerReader<R> {
    pub fn new(file: R) -> Self {
        Self { file: BufReader::with_capacity(256 * 1024, file), line: Vec::new() }
    }

    /// The next line and its length in bytes; `None` at the end.
    pub fn next_line(&mut self) -> io::Result<Option<(Line<'_>, u64)>> {
        /// Maximum length in bytes; entries are shorter than 300.
        const LONGEST: u64 = 64 * 1024;
        self.line.clear();
        let bytes = (&mut self.file).take(LONGEST).read_until(b'\n', &mut self.line)? as u64;
        if bytes == 0 {
            return Ok(None);
        }
        let line = match serde_json::from_slice(&self.line) {
            Ok(entry) => Line::Entry(entry),
            Err(_) => Line::Unreadable,
        };
        Ok(Some((line, bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_appended_and_mark_what_was_injected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.ledger");
        let plain = Acknowledged { recorded_at: 1_386_018_900_000, ..Acknowledged::default() };
        let extreme = Acknowledged { extreme: Some(("co2_ppm", 4821.0)), ..plain };
        let malformed = Acknowledged { malformed: Some("truncated"), duplicate: true, ..plain };
        let empty = Acknowledged { empty: true, ..plain };
        for notes in [vec![plain, extreme], vec![malformed, empty]] {
            let mut ledger = Ledger::open(&path).unwrap();
            for (offset, note) in notes.iter().enumerate() {
                ledger.record(note, Position { partition: 3, offset: offset as i64 }).unwrap();
            }
            ledger.finish().unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 4);
        assert_eq!((&lines[3]["empty"], &lines[1]["empty"]), (&true.into(), &serde_json::Value::Null));
        assert_eq!(
            lines[0],
            serde_json::json!({"sensor": "00000000-0000-0000-0000-000000000000",
                "timestamp": "2013-12-02T21:15:00.000Z", "partition": 3, "offset": 0})
        );
        assert_eq!((&lines[1]["extreme"], &lines[1]["value"]), (&"co2_ppm".into(), &4821.into()));
        assert_eq!((&lines[2]["malformed"], &lines[2]["duplicate"]), (&"truncated".into(), &true.into()));
    }

    #[test]
    fn a_ledger_is_read_back_and_incomplete_lines_are_recognised() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.ledger");
        let note = Acknowledged {
            sensor: Uuid::from_u128(7),
            recorded_at: 1_386_018_900_123,
            malformed: Some("truncated"),
            sensor_name: Some("pump \"7\""),
            ..Acknowledged::default()
        };
        let mut ledger = Ledger::open(&path).unwrap();
        ledger.record(&note, Position { partition: 3, offset: 9 }).unwrap();
        ledger.finish().unwrap();
        let whole = std::fs::read(&path).unwrap();
        let torn = [&whole[..20], b"\n", &whole[..], &vec![b'x'; 100_000], &whole[..30]].concat();
        std::fs::write(&path, &torn).unwrap();
        let mut reader = LedgerReader::open(&path).unwrap();
        let (mut entries, mut unreadable, mut bytes) = (0, 0, 0);
        while let Some((line, length)) = reader.next_line().unwrap() {
            bytes += length;
            match line {
                Line::Entry(entry) => {
                    entries += 1;
                    assert_eq!((entry.sensor, entry.partition, entry.offset), (note.sensor, 3, 9));
                    assert_eq!(entry.timestamp.timestamp_millis(), note.recorded_at);
                    assert_eq!(entry.malformed.as_deref(), Some("truncated"));
                    assert_eq!(entry.sensor_name.as_deref(), note.sensor_name);
                }
                Line::Unreadable => unreadable += 1,
            }
        }
        assert_eq!((entries, bytes), (1, torn.len() as u64));
        assert!(unreadable >= 2, "{unreadable}");
    }
}
