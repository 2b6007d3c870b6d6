//! The end of a server's log, for the message about its failure.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// More than the last lines ever hold.
const WINDOW: u64 = 64 * 1024;

/// Up to `count` last lines of `path` that were written beyond byte `offset`.
pub(super) fn last_lines(path: &Path, offset: u64, count: usize) -> std::io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    // A log that is shorter than it was has been rolled over.
    let offset = if offset > length { 0 } else { offset };
    file.seek(SeekFrom::Start(offset.max(length.saturating_sub(WINDOW))))?;
    let mut bytes = Vec::new();
    file.take(WINDOW).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    Ok(lines[lines.len().saturating_sub(count)..].iter().map(|line| (*line).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_this_start_wrote_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        std::fs::write(&log, "old\none\ntwo\n\nthree\n").unwrap();
        assert_eq!(last_lines(&log, 4, 2).unwrap(), ["two", "three"]);
        assert_eq!(last_lines(&log, 4, 20).unwrap(), ["one", "two", "three"]);
        assert_eq!(last_lines(&log, 4000, 1).unwrap(), ["three"]);
    }
}
