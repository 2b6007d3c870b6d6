//! Blocks as files: written under a hidden temporary name and renamed when they are complete.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::block::{self, Block};
use super::{FileFormat, FolderKey};

/// Rows per row group: what a reader loads at once, and what a writer keeps in memory, compressed.
const GROUP_ROWS: usize = 262_144;
/// Level 1: with simulated readings, higher levels save little and need much more CPU.
const ZSTD_LEVEL: i32 = 1;

/// Writes blocks to a sink.
pub enum BlockWriter<W: Write + Send> {
    Columns(Box<ArrowWriter<W>>),
    Text(W),
}

impl<W: Write + Send> BlockWriter<W> {
    pub fn new(mut sink: W, format: FileFormat, keys: &[FolderKey]) -> anyhow::Result<Self> {
        match format {
            FileFormat::Parquet => {
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
                    .set_max_row_group_row_count(Some(GROUP_ROWS))
                    .set_created_by(concat!("iotctl ", env!("CARGO_PKG_VERSION")).to_owned())
                    .build();
                // Without Arrow's own schema in the file, so that readers see text instead of categories.
                let options =
                    ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
                let writer = ArrowWriter::try_new_with_options(sink, block::schema(keys), options)?;
                Ok(Self::Columns(Box::new(writer)))
            }
            FileFormat::Csv => {
                sink.write_all(block::CSV_HEADING.as_bytes())?;
                Ok(Self::Text(sink))
            }
            FileFormat::Ndjson => Ok(Self::Text(sink)),
        }
    }

    pub fn write(&mut self, block: &Block) -> anyhow::Result<()> {
        match (self, block) {
            (Self::Columns(writer), Block::Columns(batch)) => Ok(writer.write(batch)?),
            (Self::Text(sink), Block::Text(text)) => Ok(sink.write_all(text)?),
            _ => anyhow::bail!("a block of another format than its file's"),
        }
    }

    /// Ends the file and returns its sink, flushed.
    pub fn finish(self) -> anyhow::Result<W> {
        let mut sink = match self {
            Self::Columns(writer) => writer.into_inner()?,
            Self::Text(sink) => sink,
        };
        sink.flush()?;
        Ok(sink)
    }
}

/// A file that does not exist until it is complete. Dropped earlier, it leaves nothing behind.
pub struct Draft {
    draft: PathBuf,
    path: PathBuf,
    is_kept: bool,
}

impl Draft {
    /// Makes the folders and the temporary file, hidden from readers by its leading dot.
    pub fn create(path: &Path) -> anyhow::Result<(Self, BufWriter<File>)> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let name = path.file_name().context("the output has no file name")?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(".tmp");
        let draft = folder.join(hidden);
        if !folder.as_os_str().is_empty() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let file = File::create(&draft).with_context(|| format!("cannot write {}", draft.display()))?;
        Ok((Self { draft, path: path.to_owned(), is_kept: false }, BufWriter::with_capacity(1 << 18, file)))
    }

    /// Syncs the file to disk and gives it its name. Returns its size in bytes.
    pub fn persist(mut self, file: BufWriter<File>) -> anyhow::Result<u64> {
        let named = || -> io::Result<u64> {
            let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_all()?;
            let bytes = file.metadata()?.len();
            std::fs::rename(&self.draft, &self.path)?;
            if let Some(folder) = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                File::open(folder)?.sync_all()?;
            }
            Ok(bytes)
        };
        let bytes = named().with_context(|| format!("cannot write {}", self.path.display()))?;
        self.is_kept = true;
        Ok(bytes)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = std::fs::remove_file(&self.draft);
        }
    }
}
