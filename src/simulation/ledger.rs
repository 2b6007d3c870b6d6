//! The ledger: one JSON line for each message that the broker acknowledged, as the ground truth that later checks
//! compare with. Keys: `sensor`, `timestamp`, `partition`, `offset`, and where they apply `extreme` (the metric)
//! with its `value`, `duplicate`, and `malformed` (the kind).

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::stream::Note;
use crate::kafka::producer::Position;
use crate::reading::encode::{self, Encoder};

/// An open ledger. Lines are buffered; [`Ledger::finish`] makes them durable.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    file: BufWriter<File>,
    encoder: Encoder,
    line: Vec<u8>,
}

impl Ledger {
    /// Opens `path` for appending, creating it if need be.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let file = BufWriter::with_capacity(64 * 1024, file);
        Ok(Self { path: path.to_owned(), file, encoder: Encoder::new(), line: Vec::new() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn record(&mut self, note: &Note, position: Position) -> io::Result<()> {
        let line = &mut self.line;
        line.clear();
        line.extend_from_slice(b"{\"sensor\":\"");
        encode::sensor_id(note.sensor, line);
        line.extend_from_slice(b"\",\"timestamp\":");
        self.encoder.timestamp(note.recorded_at, line);
        write!(line, ",\"partition\":{},\"offset\":{}", position.partition, position.offset)?;
        if let Some(extreme) = note.extreme {
            line.extend_from_slice(b",\"extreme\":");
            encode::string(extreme.metric, line);
            write!(line, ",\"value\":{}", extreme.value)?;
        }
        if note.duplicate {
            line.extend_from_slice(b",\"duplicate\":true");
        }
        if let Some(kind) = note.malformed {
            line.extend_from_slice(b",\"malformed\":");
            encode::string(kind.name(), line);
        }
        line.extend_from_slice(b"}\n");
        self.file.write_all(line)
    }

    /// Writes what is buffered and waits until the disk has it.
    pub fn finish(&mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::disorder::Malformation;
    use crate::simulation::fleet::Extreme;

    #[test]
    fn lines_are_appended_and_mark_what_was_injected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.ledger");
        let plain = Note { recorded_at: 1_386_018_900_000, ..Note::default() };
        let extreme = Note { extreme: Some(Extreme { metric: "co2_ppm", value: 4821.0 }), ..plain };
        let malformed = Note { malformed: Some(Malformation::Truncated), duplicate: true, ..plain };
        for notes in [vec![plain, extreme], vec![malformed]] {
            let mut ledger = Ledger::open(&path).unwrap();
            for (offset, note) in notes.iter().enumerate() {
                ledger.record(note, Position { partition: 3, offset: offset as i64 }).unwrap();
            }
            ledger.finish().unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(
            lines[0],
            serde_json::json!({"sensor": "00000000-0000-0000-0000-000000000000",
                "timestamp": "2013-12-02T21:15:00.000Z", "partition": 3, "offset": 0})
        );
        assert_eq!((&lines[1]["extreme"], &lines[1]["value"]), (&"co2_ppm".into(), &4821.into()));
        assert_eq!((&lines[2]["malformed"], &lines[2]["duplicate"]), (&"truncated".into(), &true.into()));
    }
}
