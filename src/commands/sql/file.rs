//! Answers as files. A file has its name only when it is whole; until then it is beside it, as `.NAME.part`.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::SqlFormat;
use super::answer::{Sink, write};
use super::values::headings;
use crate::error::UsageError;
use crate::output::Output;
use crate::output::record::Records;
use crate::time::Zone;

/// Rows of a group of rows, which the writer holds in memory.
const GROUP_ROWS: usize = 131_072;

/// A file that is being written. Dropped before it is whole, it is deleted.
#[derive(Debug)]
pub(super) struct Unfinished {
    part: PathBuf,
    path: PathBuf,
    is_whole: bool,
}

impl Unfinished {
    pub(super) fn create(path: &Path) -> anyhow::Result<(Self, File)> {
        let Some(name) = path.file_name() else {
            return Err(UsageError::new(format!("{} is not a name of a file", path.display())).into());
        };
        if path.is_dir() {
            return Err(UsageError::new(format!("{} is a folder (name a file)", path.display())).into());
        }
        let part = path.with_file_name(format!(".{}.part", name.to_string_lossy()));
        let file = File::create(&part).with_context(|| format!("cannot write {}", path.display()))?;
        Ok((Self { part, path: path.to_owned(), is_whole: false }, file))
    }

    fn finish(mut self) -> anyhow::Result<PathBuf> {
        std::fs::rename(&self.part, &self.path)
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        self.is_whole = true;
        Ok(std::mem::take(&mut self.path))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_whole {
            // There may be no such file any more.
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

/// The rows of a file.
pub(super) struct Rows {
    file: Unfinished,
    writer: Writer,
    rows: u64,
}

enum Writer {
    Records(Box<Records<Sink>>),
    Parquet(Box<ArrowWriter<File>>),
}

impl Rows {
    pub(super) fn begin(
        (file, opened): (Unfinished, File),
        format: SqlFormat,
        zone: Zone,
        schema: &SchemaRef,
        output: &Output,
    ) -> anyhow::Result<Self> {
        let writer = match format.of_records() {
            Some(format) => {
                let sink = BufWriter::new(opened);
                Writer::Records(Box::new(output.records_to(sink, format, zone, headings(schema))?))
            }
            None => {
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(ZstdLevel::default()))
                    .set_max_row_group_row_count(Some(GROUP_ROWS))
                    .build();
                Writer::Parquet(Box::new(ArrowWriter::try_new(opened, schema.clone(), Some(properties))?))
            }
        };
        Ok(Self { file, writer, rows: 0 })
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        self.rows += batch.num_rows() as u64;
        match &mut self.writer {
            Writer::Records(records) => write(records, batch, true),
            Writer::Parquet(writer) => Ok(writer.write(batch)?),
        }
    }

    /// Gives the file its name. Returns that, and the number of rows.
    pub(super) fn finish(self) -> anyhow::Result<(PathBuf, u64)> {
        match self.writer {
            Writer::Records(records) => drop(records.finish()?),
            Writer::Parquet(writer) => {
                let mut file = writer.into_inner()?;
                file.flush()?;
            }
        }
        Ok((self.file.finish()?, self.rows))
    }
}
