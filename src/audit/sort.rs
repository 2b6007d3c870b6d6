//! An external sort: sorted runs go to an unnamed scratch file, which the system deletes even if the process is killed,
//! and are merged while they are read back.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::record::{Key, Record};

/// Records that are sorted in memory at once: about 64 MB.
const RUN_RECORDS: usize = 600_000;
/// Memory for the read buffers of all runs, in bytes.
const MERGE_BYTES: usize = 32 * 1024 * 1024;

/// The scratch file cannot be created or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot sort in {dir:?} (give a folder with more space by --work-dir)")]
pub struct SortError {
    dir: PathBuf,
    source: io::Error,
}

/// Takes records in any order.
pub struct Sorter {
    dir: PathBuf,
    run_records: usize,
    unsorted: Vec<Record>,
    scratch: Option<Scratch>,
    records: u64,
}

struct Scratch {
    writer: BufWriter<File>,
    written: u64,
    /// Where each run ends.
    ends: Vec<u64>,
}

impl Sorter {
    /// `dir` is the folder of the scratch file, if one is needed.
    pub fn new(dir: &Path) -> Self {
        Self::with_runs_of(RUN_RECORDS, dir)
    }

    fn with_runs_of(run_records: usize, dir: &Path) -> Self {
        Self { dir: dir.to_owned(), run_records, unsorted: Vec::new(), scratch: None, records: 0 }
    }

    pub fn push(&mut self, record: Record) -> Result<(), SortError> {
        self.unsorted.push(record);
        self.records += 1;
        if self.unsorted.len() >= self.run_records {
            self.spill().map_err(|source| SortError { dir: self.dir.clone(), source })?;
        }
        Ok(())
    }

    /// Records taken so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    fn spill(&mut self) -> io::Result<()> {
        self.unsorted.sort_unstable_by_key(Record::key);
        let scratch = match &mut self.scratch {
            Some(scratch) => scratch,
            None => {
                let writer = BufWriter::with_capacity(1024 * 1024, tempfile::tempfile_in(&self.dir)?);
                self.scratch.insert(Scratch { writer, written: 0, ends: Vec::new() })
            }
        };
        let mut counting = Counting { inner: &mut scratch.writer, count: 0 };
        for record in self.unsorted.drain(..) {
            record.write(&mut counting)?;
        }
        scratch.written += counting.count;
        scratch.ends.push(scratch.written);
        Ok(())
    }

    /// All records in order.
    pub fn finish(mut self) -> Result<Sorted, SortError> {
        self.merge().map_err(|source| SortError { dir: self.dir.clone(), source })
    }

    fn merge(&mut self) -> io::Result<Sorted> {
        self.unsorted.sort_unstable_by_key(Record::key);
        let mut sorted = Sorted {
            memory: std::mem::take(&mut self.unsorted).into_iter(),
            runs: Vec::new(),
            heads: Vec::new(),
            order: BinaryHeap::new(),
            dir: self.dir.clone(),
        };
        if let Some(scratch) = self.scratch.take() {
            let file = Arc::new(scratch.writer.into_inner().map_err(io::IntoInnerError::into_error)?);
            let buffer = (MERGE_BYTES / scratch.ends.len()).clamp(4 * 1024, 1024 * 1024);
            let starts = [0].into_iter().chain(scratch.ends.iter().copied());
            for (at, end) in starts.zip(scratch.ends.iter().copied()) {
                let run = Run { file: file.clone(), at, end };
                sorted.runs.push(BufReader::with_capacity(buffer, run));
            }
        }
        sorted.heads = vec![None; sorted.runs.len() + 1];
        for source in 0..sorted.heads.len() {
            sorted.refill(source)?;
        }
        Ok(sorted)
    }
}

/// Records in order.
pub struct Sorted {
    /// The last run, which stays in memory.
    memory: std::vec::IntoIter<Record>,
    runs: Vec<BufReader<Run>>,
    /// The next record of each source that has one.
    heads: Vec<Option<Record>>,
    /// The keys of the heads and their sources: the number of a run, or for the memory the number after the last run.
    order: BinaryHeap<Reverse<(Key, usize)>>,
    dir: PathBuf,
}

impl Sorted {
    fn refill(&mut self, source: usize) -> io::Result<()> {
        let record = match self.runs.get_mut(source) {
            Some(run) => Record::read(run)?,
            None => self.memory.next(),
        };
        self.order.extend(record.as_ref().map(|record| Reverse((record.key(), source))));
        self.heads[source] = record;
        Ok(())
    }
}

impl Iterator for Sorted {
    type Item = Result<Record, SortError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((_, source)) = self.order.pop()?;
        let record = self.heads[source].take()?;
        let refilled = self.refill(source).map_err(|source| SortError { dir: self.dir.clone(), source });
        Some(refilled.map(|()| record))
    }
}

/// One sorted run of the scratch file. All runs share one open file, so the limit of open files does not limit them.
struct Run {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for Run {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let read = self.file.read_at(&mut buffer[..wanted], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

struct Counting<W> {
    inner: W,
    count: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.count += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::record::tests::record;
    use super::*;

    proptest! {
        #[test]
        fn records_come_out_in_order_however_many_runs_they_took(
            records in prop::collection::vec(record(), 0..200),
            run_records in 1usize..100,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut sorter = Sorter::with_runs_of(run_records, dir.path());
            for record in &records {
                sorter.push(record.clone()).unwrap();
            }
            let found: Vec<Record> = sorter.finish().unwrap().collect::<Result<_, _>>().unwrap();
            prop_assert!(found.is_sorted_by_key(Record::key));
            let in_full_order = |mut records: Vec<Record>| {
                records.sort_by_key(|record| format!("{record:?}"));
                records
            };
            prop_assert_eq!(in_full_order(found), in_full_order(records));
            prop_assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named_with_the_remedy() {
        let mut sorter = Sorter::with_runs_of(1, Path::new("/nonexistent"));
        let record = Record {
            sensor: uuid::Uuid::nil(),
            recorded_at: 0,
            side: super::super::record::Side::Ledger,
            group: 0,
            position: Default::default(),
            cells: Default::default(),
        };
        let error = sorter.push(record).unwrap_err().to_string();
        assert!(error.contains("/nonexistent") && error.contains("--work-dir"), "{error}");
    }
}
