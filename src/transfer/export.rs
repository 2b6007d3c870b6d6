//! Stored readings to files: planned, read in parallel, written with bounded memory, resumable.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::block::{Block, Blocks};
use super::file::{BlockWriter, Draft};
use super::journal::{Asked, Done, Journal};
use super::names::{GroupNames, named};
use super::plan::{self, Piece, PlannedFile};
use super::{FileFormat, FolderKey};
use crate::analytics::scan::Question;
use crate::analytics::tags::Chosen;
use crate::analytics::{Order, Scan, slice};
use crate::cassandra::Session;
use crate::error::Interrupted;
use crate::output::Output;
use crate::reading::{Group, Partition};
use crate::shutdown::Shutdown;
use crate::store::groups;
use crate::store::readings::{self, Slice};
use crate::time::{TimeRange, Zone};

/// Blocks that wait for a file's thread.
const QUEUE: usize = 2;
/// Groups whose buckets are looked up at once.
const PLANNING: usize = 16;

/// What to export, and how.
#[derive(Debug, Clone)]
pub struct Export {
    pub session: Session,
    pub format: FileFormat,
    pub keys: Vec<FolderKey>,
    pub sensor: Option<Uuid>,
    /// Sensors of a filter by tags; all without one.
    pub chosen: Option<Arc<Chosen>>,
    pub names: Arc<GroupNames>,
    /// Whose days folders are named after.
    pub zone: Zone,
    /// Partitions that are read at once.
    pub parallel: usize,
    pub progress: Arc<Progress>,
    pub shutdown: Shutdown,
}

/// How far an export is.
#[derive(Debug, Default)]
pub struct Progress {
    pub rows: AtomicU64,
    /// Bytes of finished files.
    pub bytes: AtomicU64,
    /// Buckets of the plan that are left to be read, and read.
    pub buckets_total: AtomicU64,
    pub buckets: AtomicU64,
}

/// The one file or stream that a whole export goes to.
#[derive(Debug, Clone)]
pub enum Target {
    File(PathBuf),
    Stdout(Output),
}

impl Export {
    /// The pieces of the groups' readings in a range.
    pub async fn pieces(&self, groups: &[Arc<Group>], range: TimeRange) -> anyhow::Result<Vec<Piece>> {
        let days = self.keys.contains(&FolderKey::Day).then_some(self.zone);
        let pieces = stream::iter(groups)
            .map(async |group| {
                let partitions = groups::partitions(&self.session, group, range.from, range.to).await?;
                let slices = slice::slices(partitions, range);
                let pieces = slices.iter().flat_map(|slice| plan::pieces(group, slice, days));
                Ok::<Vec<Piece>, crate::cassandra::Error>(pieces.collect())
            })
            .buffered(PLANNING)
            .try_concat();
        tokio::select! {
            pieces = pieces => Ok(pieces?),
            () = self.shutdown.requested() => Err(Interrupted.into()),
        }
    }

    /// Opens the folder's journal; a new export is planned first.
    pub async fn journal(
        &self,
        folder: &Path,
        asked: Asked,
        groups: &[Arc<Group>],
        range: TimeRange,
    ) -> anyhow::Result<Journal> {
        match Journal::open(folder, &asked)? {
            Some(journal) => Ok(journal),
            None => {
                let files =
                    plan::files(self.pieces(groups, range).await?, &self.keys, self.zone, self.format);
                Journal::begin(folder, asked, range, files)
            }
        }
    }

    /// Writes the unfinished files, several at once. If it is stopped, it leaves only complete files.
    pub async fn to_folder(&self, folder: &Path, journal: &mut Journal) -> anyhow::Result<()> {
        let rest = journal.rest();
        self.expect(rest.iter().map(PlannedFile::buckets).sum());
        let mut files = stream::iter(rest)
            .map(|file| {
                let (export, folder) = (self.clone(), folder.to_owned());
                let task = tokio::spawn(async move { export.file(&folder, file).await });
                async { task.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())) }
            })
            .buffer_unordered(self.parallel);
        while let Some(done) = files.next().await {
            journal.finished(done?)?;
        }
        Ok(())
    }

    /// Writes all pieces to one file or stream, in no order.
    pub async fn to_one(&self, target: Target, pieces: Vec<Piece>) -> anyhow::Result<()> {
        self.expect(pieces.iter().map(|piece| piece.buckets.len()).sum());
        let (sender, receiver) = mpsc::channel(QUEUE * self.parallel);
        let (format, progress) = (self.format, self.progress.clone());
        let writing = tokio::task::spawn_blocking(move || match target {
            Target::File(path) => {
                let (draft, sink) = Draft::create(&path)?;
                let Some(sink) = write_blocks(BlockWriter::new(sink, format, &[])?, receiver)? else {
                    return Ok(());
                };
                progress.bytes.fetch_add(draft.persist(sink)?, Ordering::Relaxed);
                Ok(())
            }
            Target::Stdout(output) => {
                let writer = BlockWriter::new(Stdout(output), format, &[])?;
                write_blocks(writer, receiver).map(drop)
            }
        });
        let reading = async {
            let mut tasks = stream::iter(pieces)
                .map(|piece| {
                    let (export, sender) = (self.clone(), sender.clone());
                    let task = tokio::spawn(async move {
                        let mut blocks = Blocks::new(export.format, &[]);
                        export.piece(&piece, &mut blocks, &sender).await?;
                        export.flush(&mut blocks, &sender).await
                    });
                    async { task.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())) }
                })
                .buffer_unordered(self.parallel);
            while let Some(result) = tasks.next().await {
                result?;
            }
            anyhow::Ok(())
        };
        let read = reading.await;
        if read.is_ok() {
            // A writer that has failed no longer receives; its own result has the reason.
            let _ = sender.send(Message::End).await;
        }
        drop(sender);
        let written = writing.await.context("the writing thread ended without a result")?;
        match read {
            // The writer's reason is the cause.
            Err(error) if error.is::<WriterGone>() => written.and(Err(error)),
            Err(error) => Err(error),
            Ok(()) => written,
        }
    }

    fn expect(&self, buckets: usize) {
        self.progress.buckets_total.store(buckets as u64, Ordering::Relaxed);
    }

    async fn file(&self, folder: &Path, file: PlannedFile) -> anyhow::Result<Done> {
        let (sender, mut receiver) = mpsc::channel(QUEUE);
        let path = folder.join(&file.path);
        let (format, keys) = (self.format, self.keys.clone());
        let writing = tokio::task::spawn_blocking(move || {
            let Some(first) = receiver.blocking_recv() else { return Ok(None) };
            let Message::Block(first) = first else { return Ok(Some(0)) };
            let (draft, sink) = Draft::create(&path)?;
            let mut writer = BlockWriter::new(sink, format, &keys)?;
            writer.write(&first)?;
            match write_blocks(writer, receiver)? {
                Some(sink) => draft.persist(sink).map(Some),
                None => Ok(None),
            }
        });
        let mut rows = 0;
        let reading = async {
            let mut blocks = Blocks::new(self.format, &self.keys);
            for piece in &file.pieces {
                rows += self.piece(piece, &mut blocks, &sender).await?;
            }
            self.flush(&mut blocks, &sender).await?;
            sender.send(Message::End).await.map_err(|_| WriterGone.into())
        };
        let read: anyhow::Result<()> = reading.await;
        drop(sender);
        let written = writing.await.context("a writing thread ended without a result")?;
        let bytes = match read {
            Err(error) if error.is::<WriterGone>() => return Err(written.err().unwrap_or(error)),
            Err(error) => return Err(error),
            Ok(()) => written?.context("a file was not finished")?,
        };
        self.progress.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(Done { path: file.path, rows, bytes })
    }

    /// Reads a piece into blocks; returns the number of rows.
    async fn piece(
        &self,
        piece: &Piece,
        blocks: &mut Blocks,
        sender: &mpsc::Sender<Message>,
    ) -> anyhow::Result<u64> {
        let partitions = piece.partitions();
        let rows = match &partitions[..] {
            [partition] => {
                let mut rows = 0;
                let names = self.until_stopped(self.names.of(&self.session, &partition.group)).await?;
                let slice = Slice { from: piece.from, to: piece.to, sensor: self.sensor };
                let mut pages =
                    self.until_stopped(readings::readings(&self.session, partition, slice)).await?;
                while let Some(page) = self.until_stopped(pages.page()).await? {
                    let mut kept = 0;
                    for row in page.iter() {
                        let reading = pages.read_in_place(row, &partition.group)?;
                        if self.takes(&partition.group, reading.sensor) {
                            blocks.push(&named(reading, &names))?;
                            kept += 1;
                        }
                    }
                    rows += self.passed(kept);
                    self.flush_full(blocks, sender).await?;
                }
                rows
            }
            // Overlapping buckets: the scan knows which copy counts.
            _ => self.overlapping(piece, &partitions, blocks, sender).await?,
        };
        self.progress.buckets.fetch_add(partitions.len() as u64, Ordering::Relaxed);
        Ok(rows)
    }

    async fn overlapping(
        &self,
        piece: &Piece,
        partitions: &[Partition],
        blocks: &mut Blocks,
        sender: &mpsc::Sender<Message>,
    ) -> anyhow::Result<u64> {
        let Some(group) = partitions.first().map(|partition| partition.group.clone()) else { return Ok(0) };
        let names = self.until_stopped(self.names.of(&self.session, &group)).await?;
        let question = Question {
            groups: vec![group],
            sensor: self.sensor,
            range: piece.range(),
            filter: None,
            chosen: self.chosen.clone(),
            order: Some(Order::Asc),
        };
        let mut scan = self.until_stopped(Scan::start(&self.session, question)).await?;
        let mut rows = 0;
        while let Some(chunk) = self.until_stopped(scan.next()).await? {
            for reading in &chunk {
                blocks.push(&named(reading.as_reading(), &names))?;
                if blocks.is_full() {
                    self.flush(blocks, sender).await?;
                }
            }
            rows += self.passed(chunk.len());
        }
        Ok(rows)
    }

    fn takes(&self, group: &Group, sensor: Uuid) -> bool {
        self.chosen.as_ref().is_none_or(|chosen| chosen.contains(group, sensor))
    }

    fn passed(&self, rows: usize) -> u64 {
        self.progress.rows.fetch_add(rows as u64, Ordering::Relaxed);
        rows as u64
    }

    async fn flush_full(&self, blocks: &mut Blocks, sender: &mpsc::Sender<Message>) -> anyhow::Result<()> {
        if blocks.is_full() { self.flush(blocks, sender).await } else { Ok(()) }
    }

    async fn flush(&self, blocks: &mut Blocks, sender: &mpsc::Sender<Message>) -> anyhow::Result<()> {
        match blocks.take()? {
            Some((block, _)) => sender.send(Message::Block(block)).await.map_err(|_| WriterGone.into()),
            None => Ok(()),
        }
    }

    async fn until_stopped<T, E: Into<anyhow::Error>>(
        &self,
        future: impl Future<Output = Result<T, E>>,
    ) -> anyhow::Result<T> {
        tokio::select! {
            result = future => result.map_err(Into::into),
            () = self.shutdown.requested() => Err(Interrupted.into()),
        }
    }
}

/// What the writing thread receives. A channel that closes without an end leaves no file.
#[derive(Debug)]
enum Message {
    Block(Block),
    End,
}

/// The writing thread has ended; its own result has the reason.
#[derive(Debug, thiserror::Error)]
#[error("the file's writer has ended")]
struct WriterGone;

/// Writes until the end and returns the flushed sink; `None` if no end came.
fn write_blocks<W: Write + Send>(
    mut writer: BlockWriter<W>,
    mut blocks: mpsc::Receiver<Message>,
) -> anyhow::Result<Option<W>> {
    while let Some(message) = blocks.blocking_recv() {
        match message {
            Message::Block(block) => writer.write(&block)?,
            Message::End => return writer.finish().map(Some),
        }
    }
    Ok(None)
}

/// Standard output, through [`Output`] for each block: its lock cannot be held across threads.
struct Stdout(Output);

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.stream().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.stream().flush()
    }
}
