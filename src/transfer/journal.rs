//! The options of an export into a folder, its plan, and its finished files: one JSON object per line in
//! `_iotctl_export.ndjson`. Readers of such folders skip names that begin with an underscore.
//!
//! The plan appears as a whole, by a rename; each finished file adds a line after its own rename. Only the last line can
//! be truncated: its file is written again.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead as _, BufReader, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::file::Draft;
use super::plan::PlannedFile;
use super::{FileFormat, FolderKey};
use crate::error::UsageError;

pub const NAME: &str = "_iotctl_export.ndjson";

/// The options as given: a resumed export must have the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    pub keyspace: String,
    pub format: FileFormat,
    pub partition_by: Vec<FolderKey>,
    pub location: Option<String>,
    pub device_type: Option<String>,
    pub sensor: Option<uuid::Uuid>,
    #[serde(default)]
    pub tags: Vec<(String, String)>,
    pub from: Option<String>,
    pub to: Option<String>,
    pub last: Option<String>,
    pub local: bool,
    /// Journals of older versions do not have it.
    #[serde(default)]
    pub time_zone: Option<String>,
}

impl Asked {
    /// The first difference, as text.
    fn difference(&self, other: &Self) -> Option<String> {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".into());
        let show = |asked: &Self| {
            let keys: Vec<_> = asked.partition_by.iter().map(|key| format!("{key:?}")).collect();
            [
                ("--keyspace", asked.keyspace.clone()),
                ("--format", asked.format.extension().to_owned()),
                ("--partition-by", keys.join(",")),
                ("--location", text(&asked.location)),
                ("--device-type", text(&asked.device_type)),
                ("--sensor", text(&asked.sensor.map(|sensor| sensor.to_string()))),
                (
                    "--tag",
                    asked
                        .tags
                        .iter()
                        .map(|(key, value)| format!("{key}={value}"))
                        .collect::<Vec<_>>()
                        .join(" "),
                ),
                ("--from", text(&asked.from)),
                ("--to", text(&asked.to)),
                ("--last", text(&asked.last)),
                ("--local", asked.local.to_string()),
                ("--time-zone", text(&asked.time_zone)),
            ]
        };
        let mut pairs = show(self).into_iter().zip(show(other));
        let ((flag, was), (_, is)) = pairs.find(|(was, is)| was != is)?;
        Some(format!("{flag} was {was} and is {is}"))
    }
}

/// A line of the journal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::large_enum_variant, reason = "one line is in memory at a time")]
enum Line {
    Asked {
        version: u32,
        asked: Asked,
        from: i64,
        to: i64,
        planned_at: i64,
    },
    File(PlannedFile),
    /// The plan is complete.
    Planned {
        files: usize,
    },
    Done(Done),
}

/// A finished file; a file without rows is not created.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    pub path: String,
    pub rows: u64,
    pub bytes: u64,
}

const VERSION: u32 = 2;

/// An export's journal, locked while it exists.
#[derive(Debug)]
pub struct Journal {
    file: File,
    pub files: Vec<PlannedFile>,
    pub done: HashMap<String, Done>,
}

impl Journal {
    pub fn path(folder: &Path) -> PathBuf {
        folder.join(NAME)
    }

    /// The journal of an export that was started here, if any.
    ///
    /// # Errors
    /// Another export was started here, one is running, or the folder contains something else.
    pub fn open(folder: &Path, asked: &Asked) -> anyhow::Result<Option<Self>> {
        let path = Self::path(folder);
        let file = match OpenOptions::new().read(true).append(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Self::must_be_empty(folder).map(|()| None);
            }
            Err(error) => return Err(error).with_context(|| format!("cannot open {}", path.display())),
        };
        lock(&file, folder)?;
        let journal = Self::read(file, asked, folder);
        journal.map(Some)
    }

    /// Writes a plan and starts the journal.
    pub fn begin(
        folder: &Path,
        asked: Asked,
        range: crate::time::TimeRange,
        files: Vec<PlannedFile>,
    ) -> anyhow::Result<Self> {
        let path = Self::path(folder);
        let (draft, mut writer) = Draft::create(&path)?;
        let planned_at = chrono::Utc::now().timestamp_millis();
        let count = files.len();
        let mut line = |line: &Line| -> anyhow::Result<()> {
            serde_json::to_writer(&mut writer, line)?;
            Ok(writer.write_all(b"\n")?)
        };
        line(&Line::Asked { version: VERSION, asked, from: range.from, to: range.to, planned_at })?;
        for file in &files {
            line(&Line::File(file.clone()))?;
        }
        line(&Line::Planned { files: count })?;
        draft.persist(writer)?;
        let file = OpenOptions::new().read(true).append(true).open(&path)?;
        lock(&file, folder)?;
        Ok(Self { file, files, done: HashMap::new() })
    }

    /// Records a finished file.
    pub fn finished(&mut self, done: Done) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(&Line::Done(done.clone()))?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .and_then(|()| self.file.sync_data())
            .context("cannot write the journal")?;
        self.done.insert(done.path.clone(), done);
        Ok(())
    }

    /// The files that are not finished.
    pub fn rest(&self) -> Vec<PlannedFile> {
        self.files.iter().filter(|file| !self.done.contains_key(&file.path)).cloned().collect()
    }

    fn read(mut file: File, asked: &Asked, folder: &Path) -> anyhow::Result<Self> {
        let mut reader = BufReader::new(&file);
        let (mut files, mut done) = (Vec::new(), HashMap::new());
        let mut is_whole = false;
        let mut end = 0;
        let mut text = Vec::new();
        loop {
            text.clear();
            let length = reader.read_until(b'\n', &mut text)?;
            if text.last() != Some(&b'\n') {
                break;
            }
            let line = serde_json::from_slice(&text).with_context(|| {
                format!(
                    "{} is damaged (empty the folder, or name another --output)",
                    Self::path(folder).display()
                )
            })?;
            end += length as u64;
            match line {
                Line::Asked { version, .. } if version != VERSION => {
                    bail!(
                        "{} was written by another version of iotctl (name another --output)",
                        folder.display()
                    )
                }
                Line::Asked { asked: was, .. } => {
                    if let Some(difference) = was.difference(asked) {
                        return Err(UsageError::new(format!(
                            "{} contains an export with other options: {difference} (repeat its options to resume \
                             it, or name another --output)",
                            folder.display()
                        ))
                        .into());
                    }
                }
                Line::File(file) => files.push(file),
                Line::Planned { .. } => is_whole = true,
                Line::Done(file) => drop(done.insert(file.path.clone(), file)),
            }
        }
        if !is_whole {
            bail!("{} has no complete plan (empty the folder, or name another --output)", folder.display());
        }
        // What was cut off must not run into the next line.
        file.set_len(end)?;
        file.seek(std::io::SeekFrom::End(0))?;
        // A file that somebody has removed since is written again.
        done.retain(|path, file: &mut Done| file.rows == 0 || folder.join(path).is_file());
        Ok(Self { file, files, done })
    }

    fn must_be_empty(folder: &Path) -> anyhow::Result<()> {
        match std::fs::read_dir(folder) {
            Ok(mut entries) => match entries.find(|entry| {
                // A plan that was not whole yet.
                entry.as_ref().is_ok_and(|entry| entry.file_name() != format!(".{NAME}.tmp").as_str())
            }) {
                Some(_) => Err(UsageError::new(format!(
                    "{} is not empty and does not contain an export (name an empty or a new folder as --output)",
                    folder.display()
                ))
                .into()),
                None => Ok(()),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", folder.display())),
        }
    }
}

fn lock(file: &File, folder: &Path) -> anyhow::Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => bail!("another export into {} is running", folder.display()),
        Err(TryLockError::Error(error)) => Err(error).context("cannot lock the journal"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::TimeRange;

    fn asked() -> Asked {
        Asked {
            keyspace: "k".into(),
            format: FileFormat::Csv,
            partition_by: vec![],
            location: None,
            device_type: None,
            sensor: None,
            tags: Vec::new(),
            from: None,
            to: None,
            last: Some("1d".into()),
            local: false,
            time_zone: None,
        }
    }

    fn planned(path: &str) -> PlannedFile {
        PlannedFile { path: path.into(), pieces: vec![] }
    }

    #[test]
    fn what_is_finished_stays_so_and_a_torn_line_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Journal::open(folder.path(), &asked()).unwrap().is_none());
        let files = vec![planned("a"), planned("b"), planned("c")];
        let mut journal = Journal::begin(folder.path(), asked(), TimeRange::ALL, files).unwrap();
        assert!(Journal::open(folder.path(), &asked()).unwrap_err().to_string().contains("is running"));
        journal.finished(Done { path: "a".into(), rows: 0, bytes: 0 }).unwrap();
        journal.finished(Done { path: "b".into(), rows: 1, bytes: 1 }).unwrap();
        journal.file.write_all(br#"{"done":{"path":"c","ro"#).unwrap();
        drop(journal);
        std::fs::write(folder.path().join("b"), "x").unwrap();
        let mut journal = Journal::open(folder.path(), &asked()).unwrap().unwrap();
        assert_eq!(journal.rest(), [planned("c")]);
        journal.finished(Done { path: "c".into(), rows: 0, bytes: 0 }).unwrap();
        drop(journal);
        std::fs::remove_file(folder.path().join("b")).unwrap();
        let journal = Journal::open(folder.path(), &asked()).unwrap().unwrap();
        assert_eq!(journal.rest(), [planned("b")], "a removed file is written again");
    }

    #[test]
    fn other_options_and_other_files_are_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        drop(Journal::begin(folder.path(), asked(), TimeRange::ALL, vec![]).unwrap());
        let other = Asked { last: Some("2d".into()), ..asked() };
        let error = Journal::open(folder.path(), &other).unwrap_err().to_string();
        assert!(error.contains("--last was 1d and is 2d") && error.contains("another --output"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("thesis.txt"), "x").unwrap();
        assert!(Journal::open(folder.path(), &asked()).unwrap_err().to_string().contains("not empty"));
    }
}
