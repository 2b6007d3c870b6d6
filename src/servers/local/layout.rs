//! Where everything lies in the data directory, and whose it is.
//!
//! ```text
//! DIR/                     mode 0700
//!   iotctl-local.json      the marker: this directory is ours, and the cluster its data belongs to
//!   lock                   held by the `up` or `down` that is at work
//!   run/<server>.json      one per running process: pid, start time, address, log
//!   logs/<server>.log      kept over restarts
//!   <server>/              configuration and data of cassandra-1, cassandra-2 …, kafka, zookeeper
//! ```

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::cluster::Cluster;
use crate::config::LocalConfig;
use crate::error::UsageError;

const MARKER: &str = "iotctl-local.json";

/// The data directory of one `up`. Making a `Layout` touches nothing on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

/// Held while servers are started or stopped; released when dropped, or when the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Layout {
    pub fn of(config: &LocalConfig) -> anyhow::Result<Self> {
        let root = match &config.data_dir {
            Some(dir) => dir.clone(),
            None => user_dirs("local.data_dir")?.data_local_dir().join("local"),
        };
        let root =
            std::path::absolute(&root).with_context(|| format!("cannot resolve {}", root.display()))?;
        check_path("local.data_dir", &root)?;
        Ok(Self { root })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn server_dir(&self, server: &str) -> PathBuf {
        self.root.join(server)
    }

    pub fn log(&self, server: &str) -> PathBuf {
        self.root.join("logs").join(format!("{server}.log"))
    }

    pub fn run_dir(&self) -> PathBuf {
        self.root.join("run")
    }

    pub fn marker(&self) -> PathBuf {
        self.root.join(MARKER)
    }

    /// True where an earlier `up` made this directory.
    pub fn is_ours(&self) -> bool {
        self.marker().is_file()
    }

    /// Makes the directory, private to this user, and marks it. An existing one is taken over only if it is ours
    /// or empty: `down --purge` deletes what carries the marker.
    pub fn create(&self) -> anyhow::Result<()> {
        let root = &self.root;
        let context = || format!("cannot make {} (choose another with --data DIR)", root.display());
        if !self.is_ours() {
            match std::fs::read_dir(root).map(|mut entries| entries.next().is_some()) {
                Ok(true) => bail!(UsageError::new(format!(
                    "{} is not empty and was not made by `iotctl up` (choose another directory with --data DIR)",
                    root.display()
                ))),
                Ok(false) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    DirBuilder::new().recursive(true).mode(0o700).create(root).with_context(context)?;
                }
                Err(error) => return Err(error).with_context(context),
            }
            Cluster::mark(self)?;
        }
        std::fs::set_permissions(root, PermissionsExt::from_mode(0o700)).with_context(context)?;
        for dir in ["run", "logs"] {
            std::fs::create_dir_all(root.join(dir)).with_context(context)?;
        }
        Ok(())
    }

    /// Claims the directory for one `up` or `down`; whoever comes second is told so at once.
    pub fn lock(&self) -> anyhow::Result<Lock> {
        let path = self.root.join("lock");
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => bail!(
                "another `iotctl up` or `iotctl down` is at work in {} (wait for it to end, or interrupt it)",
                self.root.display()
            ),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }
}

/// The cache directory of the jars.
pub fn cache_dir(config: &LocalConfig) -> anyhow::Result<PathBuf> {
    let dir = match &config.cache_dir {
        Some(dir) => dir.clone(),
        None => user_dirs("local.cache_dir")?.cache_dir().to_owned(),
    };
    let dir = std::path::absolute(&dir).with_context(|| format!("cannot resolve {}", dir.display()))?;
    check_path("local.cache_dir", &dir)?;
    Ok(dir.join("jars"))
}

/// Where this user's programs keep what must not be lost.
pub fn user_data_dir(setting: &str) -> anyhow::Result<PathBuf> {
    Ok(user_dirs(setting)?.data_dir().to_owned())
}

fn user_dirs(setting: &str) -> anyhow::Result<directories::ProjectDirs> {
    directories::ProjectDirs::from("", "", "iotctl")
        .ok_or_else(|| UsageError::new(format!("this user has no home directory (set {setting})")).into())
}

/// These paths go into a class path, a comma-separated list, YAML and Java's properties; what would have a meaning
/// there is refused rather than escaped four ways.
fn check_path(setting: &str, path: &Path) -> anyhow::Result<()> {
    let is_plain = |char: char| !char.is_control() && !r#":,"\$*"#.contains(char);
    match path.to_str() {
        Some(text) if text.chars().all(is_plain) => Ok(()),
        _ => bail!(UsageError::new(format!(
            "{path:?} cannot hold servers: Java's lists of paths do not bear any of : , \" \\ $ * in it (set {setting})"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(root: &Path) -> Layout {
        let config = LocalConfig { data_dir: Some(root.to_owned()), ..Default::default() };
        Layout::of(&config).unwrap()
    }

    #[test]
    fn the_data_directory_is_private_to_the_user() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(&dir.path().join("deep/data"));
        layout.create().unwrap();
        let mode = std::fs::metadata(layout.root()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert!(layout.is_ours());
    }

    #[test]
    fn a_directory_of_somebody_elses_files_is_not_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("thesis.txt"), "years of work").unwrap();
        let error = layout(dir.path()).create().unwrap_err();
        assert!(error.to_string().contains("was not made by `iotctl up`"), "{error}");
        assert!(!layout(dir.path()).is_ours());
    }

    #[test]
    fn the_second_lock_is_refused_and_the_first_can_be_had_again() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(dir.path());
        let first = layout.lock().unwrap();
        assert!(layout.lock().unwrap_err().to_string().contains("at work"));
        drop(first);
        layout.lock().unwrap();
    }

    #[test]
    fn a_path_that_a_class_path_would_split_is_refused() {
        let config = LocalConfig { data_dir: Some("/tmp/a:b".into()), ..Default::default() };
        let error = Layout::of(&config).unwrap_err();
        assert!(error.to_string().contains("local.data_dir"), "{error}");
    }
}
