//! Whether files have changed since they were read.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What differs between a file and its successor: when it was written, its size, and which file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp([i64; 7]);

impl Stamp {
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        std::fs::metadata(path).map(|metadata| Self::from(&metadata))
    }
}

impl From<&Metadata> for Stamp {
    fn from(file: &Metadata) -> Self {
        Self([
            file.mtime(),
            file.mtime_nsec(),
            file.ctime(),
            file.ctime_nsec(),
            file.size().cast_signed(),
            file.ino().cast_signed(),
            file.dev().cast_signed(),
        ])
    }
}

/// Changes that are followed by another within this time are one: a certificate and its key are two files.
const SETTLED: Duration = Duration::from_secs(1);

/// Files that are looked at again and again.
#[derive(Debug)]
pub(crate) struct Watched {
    paths: Vec<PathBuf>,
    /// As of the last look; no stamp where a file is missing.
    seen: Vec<Option<Stamp>>,
    /// Of what is in use.
    used: Vec<Option<Stamp>>,
    changed: Option<Instant>,
    not_before: Option<Instant>,
}

impl Watched {
    /// What the files hold now is in use.
    pub(crate) fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let paths: Vec<_> = paths.into_iter().collect();
        let seen = stamps(&paths);
        Self { used: seen.clone(), seen, paths, changed: None, not_before: None }
    }

    /// Looks at the files. Whether they are to be read again: until [`Watched::done`], and not while they still change.
    pub(crate) fn is_due(&mut self) -> bool {
        let now = stamps(&self.paths);
        if now != self.seen {
            self.seen = now;
            self.changed = Some(Instant::now());
            self.not_before = None;
        }
        self.changed.is_some_and(|at| at.elapsed() >= SETTLED)
            && self.not_before.is_none_or(|at| at <= Instant::now())
    }

    /// What they held could not be used: it is tried again after this time, or when they change again.
    pub(crate) fn postpone(&mut self, by: Duration) {
        self.not_before = Some(Instant::now() + by);
    }

    /// What they held at the last look is in use.
    pub(crate) fn done(&mut self) {
        self.used = self.seen.clone();
        (self.changed, self.not_before) = (None, None);
    }

    /// Whether any file but this one is not as it was when it was taken into use.
    pub(crate) fn others_changed(&self, but: Option<&Path>) -> bool {
        let stamps = self.seen.iter().zip(&self.used);
        self.paths.iter().zip(stamps).any(|(path, (seen, used))| Some(path.as_path()) != but && seen != used)
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Option<Stamp>> {
    paths.iter().map(|path| Stamp::of(path).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_due_once_they_have_settled_and_until_they_are_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let [password, key] = ["password", "key"].map(|name| folder.path().join(name));
        std::fs::write(&password, "one").unwrap();
        let mut watched = Watched::new([password.clone(), key.clone()]);
        assert!(!watched.is_due());
        std::fs::write(&password, "other").unwrap();
        assert!(!watched.is_due(), "it may still be written");
        std::thread::sleep(SETTLED);
        assert!(watched.is_due() && watched.is_due());
        watched.postpone(Duration::from_secs(60));
        assert!(!watched.is_due());
        // Another change is looked at whatever became of the last.
        std::fs::write(&key, "a key").unwrap();
        watched.is_due();
        std::thread::sleep(SETTLED);
        assert!(watched.is_due());
        assert!(watched.others_changed(Some(&password)));
        watched.done();
        assert!(!watched.is_due() && !watched.others_changed(None));
    }
}
