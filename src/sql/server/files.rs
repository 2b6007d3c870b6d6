//! Files that are read again when they change.

use std::path::Path;
use std::time::SystemTime;

/// By what a change of files is seen: their times, lengths and places on the disk. `None` where there is no file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp(Vec<Option<(SystemTime, u64, u64)>>);

impl Stamp {
    pub(super) fn of(paths: &[&Path]) -> Self {
        use std::os::unix::fs::MetadataExt;
        let stamp = |path: &&Path| {
            let metadata = path.metadata().ok()?;
            Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
        };
        Self(paths.iter().map(stamp).collect())
    }
}
