//! `down`: stops exactly what `up` started, and deletes its data only on request.

use std::path::PathBuf;

use anyhow::{Context, bail};
use futures::future::try_join_all;
use serde::Serialize;

use super::Kind;
use super::layout::Layout;
use super::process::{Ended, Process};
use crate::config::LocalConfig;
use crate::error::UsageError;

/// A server that `down` dealt with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stopped {
    pub name: String,
    pub pid: i32,
    pub ended: Ended,
}

/// Stops every server of this data directory and returns once all have ended; their data stays. Empty where nothing
/// was started.
pub async fn down(config: &LocalConfig) -> anyhow::Result<Vec<Stopped>> {
    let layout = Layout::of(config)?;
    if !layout.is_ours() {
        return Ok(Vec::new());
    }
    let _lock = layout.lock()?;
    let processes = Process::all(&layout)?;
    stop_all(&layout, processes).await
}

/// All at once, but ZooKeeper last: a broker that ends deregisters there.
pub(super) async fn stop_all(layout: &Layout, processes: Vec<Process>) -> anyhow::Result<Vec<Stopped>> {
    let (last, first): (Vec<_>, Vec<_>) =
        processes.into_iter().partition(|process| process.kind == Kind::Zookeeper);
    let mut stopped = Vec::new();
    for processes in [first, last] {
        let stops = processes.into_iter().map(async |process| {
            let ended = process.stop().await?;
            process.forget(layout)?;
            anyhow::Ok(Stopped { name: process.name, pid: process.pid, ended })
        });
        stopped.extend(try_join_all(stops).await?);
    }
    Ok(stopped)
}

/// Deletes the data directory with everything in it. False where there is none.
///
/// # Errors
/// A directory that `up` did not make is left alone, and so is one whose servers run.
pub fn purge(config: &LocalConfig) -> anyhow::Result<bool> {
    let layout = Layout::of(config)?;
    let root = layout.root();
    if !root.exists() {
        return Ok(false);
    }
    if !layout.is_ours() {
        bail!(UsageError::new(format!(
            "{} was not made by `iotctl up`, so it is not deleted (name another directory with --data DIR)",
            root.display()
        )));
    }
    let _lock = layout.lock()?;
    if let Some(process) = Process::all(&layout)?.iter().find(|process| process.is_alive()) {
        bail!("{} still runs, so {} is not deleted (run `iotctl down`)", process.name, root.display());
    }
    delete(&layout).with_context(|| format!("cannot delete {}", root.display()))?;
    Ok(true)
}

fn delete(layout: &Layout) -> std::io::Result<()> {
    for path in deletion_order(layout)? {
        match path.is_dir() && !path.is_symlink() {
            true => std::fs::remove_dir_all(&path)?,
            false => std::fs::remove_file(&path)?,
        }
    }
    std::fs::remove_dir(layout.root())
}

/// The entries of the directory, the marker last: a purge that is killed must leave a directory that the next one still
/// recognizes.
fn deletion_order(layout: &Layout) -> std::io::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(layout.root())?.map(|entry| Ok(entry?.path()));
    let mut paths = entries.collect::<std::io::Result<Vec<_>>>()?;
    paths.sort_by_key(|path| *path == layout.marker());
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &std::path::Path) -> LocalConfig {
        LocalConfig { data_dir: Some(dir.to_owned()), ..Default::default() }
    }

    #[test]
    fn purge_deletes_only_what_carries_the_marker() {
        let dir = tempfile::tempdir().unwrap();
        let foreign = dir.path().join("foreign");
        std::fs::create_dir(&foreign).unwrap();
        std::fs::write(foreign.join("thesis.txt"), "years of work").unwrap();
        let error = purge(&config(&foreign)).unwrap_err();
        assert!(error.is::<UsageError>() && foreign.join("thesis.txt").exists());

        let ours = config(&dir.path().join("ours"));
        assert!(!purge(&ours).unwrap());
        Layout::of(&ours).unwrap().create().unwrap();
        assert!(purge(&ours).unwrap());
        assert!(!dir.path().join("ours").exists());
    }

    #[test]
    fn a_purge_that_was_killed_can_be_run_again() {
        let dir = tempfile::tempdir().unwrap();
        let ours = config(dir.path());
        let layout = Layout::of(&ours).unwrap();
        layout.create().unwrap();
        std::fs::create_dir_all(layout.server_dir("cassandra-1").join("data")).unwrap();
        let order = deletion_order(&layout).unwrap();
        assert_eq!(order.last(), Some(&layout.marker()), "the marker is deleted last");
        // Killed before its last step.
        for path in order.iter().filter(|path| path.is_dir()) {
            std::fs::remove_dir_all(path).unwrap();
        }
        assert!(purge(&ours).unwrap());
        assert!(!dir.path().exists());
    }

    #[tokio::test]
    async fn down_where_nothing_was_started_stops_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(down(&config(&dir.path().join("none"))).await.unwrap(), []);
        assert!(!dir.path().join("none").exists());
    }
}
