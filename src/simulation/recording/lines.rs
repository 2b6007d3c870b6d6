//! Lines of a file, each with a bounded size in memory.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;

/// What the CSV reader takes from the file at a time.
pub(super) const CSV_BUFFER: usize = 64 * 1024;

/// How many more bytes a CSV line may take. An unclosed quote makes the rest of a file one line, which the CSV reader
/// would collect in memory.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    left: Arc<AtomicUsize>,
    per_line: usize,
}

impl Budget {
    /// What the reader has buffered ahead of a line counts for the line before it.
    pub(super) fn new(per_line: usize) -> Self {
        let per_line = per_line.saturating_add(CSV_BUFFER);
        Self { left: Arc::new(AtomicUsize::new(per_line)), per_line }
    }

    /// Reads one line with a full budget.
    pub(super) fn for_line<T>(&self, read: impl FnOnce() -> T) -> T {
        self.left.store(self.per_line, Ordering::Relaxed);
        read()
    }
}

/// A reader that returns no more than the budget.
pub(super) struct Limited {
    pub(super) input: Box<dyn BufRead + Send>,
    pub(super) budget: Budget,
}

impl Read for Limited {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.budget.left.load(Ordering::Relaxed);
        if left == 0 && !self.input.fill_buf()?.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "a line of more than {} bytes (check for an unclosed quote; the limit is ingest.max_message_bytes)",
                    self.budget.per_line - CSV_BUFFER
                ),
            ));
        }
        let limit = buffer.len().min(left);
        let read = self.input.read(&mut buffer[..limit])?;
        self.budget.left.store(left - read, Ordering::Relaxed);
        Ok(read)
    }
}

/// Reads a line and keeps at most a little over `limit` bytes of it: enough for the decoder to see that it is too
/// long. `false` at the end.
pub(super) fn read_line(reader: &mut dyn BufRead, line: &mut Vec<u8>, limit: usize) -> io::Result<bool> {
    line.clear();
    loop {
        let buffer = match reader.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if buffer.is_empty() {
            return Ok(!line.is_empty());
        }
        let end = buffer.iter().position(|&byte| byte == b'\n');
        let taken = end.map_or(buffer.len(), |end| end + 1);
        let room = (limit + 2).saturating_sub(line.len());
        line.extend_from_slice(&buffer[..taken.min(room)]);
        reader.consume(taken);
        if end.is_some() {
            return Ok(true);
        }
    }
}

/// Opens a file, or standard input for `-`.
pub(super) fn input(path: &Path) -> anyhow::Result<Box<dyn Read + Send>> {
    let input: Box<dyn Read + Send> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        if file.metadata().is_ok_and(|it| it.is_dir()) {
            anyhow::bail!("{} is a directory (name a file, or - for standard input)", path.display());
        }
        Box::new(file)
    };
    Ok(input)
}

/// The first byte that is not whitespace, and the number of line ends before it. Blank lines are consumed, and nothing of
/// the line with that byte: a heading may begin with a tab, after a column without a name.
pub(super) fn first_byte(reader: &mut dyn BufRead) -> io::Result<(Option<u8>, u64)> {
    let mut lines = 0;
    loop {
        let buffer = reader.fill_buf()?;
        match buffer.iter().position(|byte| !byte.is_ascii_whitespace()) {
            Some(at) => {
                let byte = buffer[at];
                lines += line_ends(&buffer[..at]);
                let blank = buffer[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
                reader.consume(blank);
                return Ok((Some(byte), lines));
            }
            None if buffer.is_empty() => return Ok((None, lines)),
            None => {
                let blank = buffer.len();
                lines += line_ends(buffer);
                reader.consume(blank);
            }
        }
    }
}

fn line_ends(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|&&byte| byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    #[test]
    fn a_line_without_an_end_does_not_fill_the_memory() {
        let mut line = Vec::new();
        let mut endless = BufReader::new(io::repeat(b'x').take(10 << 20));
        assert!(read_line(&mut endless, &mut line, 1000).unwrap());
        assert!(line.len() <= 1002 && line.capacity() < 1 << 16);
        assert!(!read_line(&mut endless, &mut line, 1000).unwrap());
    }
}
