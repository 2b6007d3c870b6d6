//! Detached server processes: spawn one into a process group of its own, know it again later, stop it.
//!
//! A pid alone names nobody: it may have been given to another program since. A process is ours only if it also
//! started when the one in the pid file did.

use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use chrono::{DateTime, Utc};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::Kind;
use super::layout::Layout;

/// How long a server may take to end after SIGTERM before it is killed.
const TERM_DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);
/// A log that is longer when its server starts is set aside, in bytes.
const LOG_LIMIT: u64 = 20 << 20;

/// A pid file: a process that an `up` started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub name: String,
    pub kind: Kind,
    pub pid: i32,
    /// When the process started, as the system words it; only ever compared.
    pub start: String,
    pub started_at: DateTime<Utc>,
    pub address: SocketAddr,
    pub log: PathBuf,
    /// Length of the log before this process wrote to it.
    pub log_offset: u64,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// It was not running any more.
    Before,
    OnTerm,
    /// SIGTERM did not end it in time.
    OnKill,
}

/// Starts `command` detached, both its outputs appended to `log`, and writes its pid file.
pub fn spawn(
    layout: &Layout,
    name: &str,
    kind: Kind,
    address: SocketAddr,
    command: &mut Command,
) -> anyhow::Result<(Process, Child)> {
    let log = layout.log(name);
    set_aside(&log)?;
    let open = || OpenOptions::new().create(true).append(true).open(&log);
    let file = open().with_context(|| format!("cannot open {}", log.display()))?;
    let log_offset = file.metadata().map_or(0, |metadata| metadata.len());
    let second = file.try_clone().with_context(|| format!("cannot open {}", log.display()))?;
    // A group of its own: Ctrl-C at the terminal reaches the group in the foreground, which is ours alone.
    let child = command.stdin(Stdio::null()).stdout(file).stderr(second).process_group(0).spawn();
    let mut child = child.with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let pid = i32::try_from(child.id()).context("a pid beyond 31 bits")?;
    let process = Process {
        name: name.to_owned(),
        kind,
        pid,
        // A child that ended already is still in the process table, because nobody has waited for it.
        start: start_of(pid).map(|(start, _)| start).unwrap_or_default(),
        started_at: Utc::now(),
        address,
        log: log.clone(),
        log_offset,
    };
    if let Err(error) = process.save(layout) {
        // Without a pid file nobody would ever find it again.
        let _ = child.kill();
        return Err(error);
    }
    Ok((process, child))
}

/// Cassandra rolls its log by itself; for the others a long log is set aside at the next start, and one is kept.
fn set_aside(log: &Path) -> anyhow::Result<()> {
    if std::fs::metadata(log).is_ok_and(|metadata| metadata.len() > LOG_LIMIT) {
        let aside = log.with_extension("log.1");
        std::fs::rename(log, &aside).with_context(|| format!("cannot write {}", aside.display()))?;
    }
    Ok(())
}

impl Process {
    fn file(layout: &Layout, name: &str) -> PathBuf {
        layout.run_dir().join(format!("{name}.json"))
    }

    fn save(&self, layout: &Layout) -> anyhow::Result<()> {
        write_json(&Self::file(layout, &self.name), self)
    }

    pub fn forget(&self, layout: &Layout) -> anyhow::Result<()> {
        let file = Self::file(layout, &self.name);
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot delete {}", file.display()))
            }
            _ => Ok(()),
        }
    }

    /// Every pid file, by name, whether its process still runs or not.
    pub fn all(layout: &Layout) -> anyhow::Result<Vec<Self>> {
        let entries = match std::fs::read_dir(layout.run_dir()) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot list {}", layout.run_dir().display()));
            }
        };
        let mut all = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                all.push(read_json::<Self>(&path)?);
            }
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// True while this very process runs. A zombie does not run.
    pub fn is_alive(&self) -> bool {
        matches!(start_of(self.pid), Some((start, true)) if start == self.start)
    }

    fn signal(&self, signal: Signal) {
        if self.is_alive() {
            // It may end between the look and the signal; then there is nothing to do.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// SIGTERM, and SIGKILL to one that is still there after 30 s. Ends when the process is gone.
    pub async fn stop(&self) -> anyhow::Result<Ended> {
        if !self.is_alive() {
            return Ok(Ended::Before);
        }
        self.signal(Signal::SIGTERM);
        if self.is_gone_within(TERM_DEADLINE).await {
            return Ok(Ended::OnTerm);
        }
        self.signal(Signal::SIGKILL);
        if self.is_gone_within(Duration::from_secs(10)).await {
            return Ok(Ended::OnKill);
        }
        anyhow::bail!("{} (pid {}) does not end, not even by SIGKILL", self.name, self.pid)
    }

    async fn is_gone_within(&self, deadline: Duration) -> bool {
        let started = Instant::now();
        while self.is_alive() {
            if started.elapsed() > deadline {
                return false;
            }
            tokio::time::sleep(POLL).await;
        }
        true
    }

    /// Memory in use, in bytes.
    pub fn resident_bytes(&self) -> Option<u64> {
        resident_bytes(self.pid)
    }
}

/// Writes beside the file and renames, so that no reader sees half of it.
pub fn write_json(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let draft = path.with_extension("tmp");
    let write = || {
        std::fs::write(&draft, serde_json::to_vec_pretty(value)?)?;
        std::fs::rename(&draft, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| {
        format!("{} is not what `iotctl up` wrote (delete it if no server runs)", path.display())
    })
}

/// When the process `pid` started and whether it runs, rather than being a zombie. `None` where there is none.
#[cfg(target_os = "linux")]
fn start_of(pid: i32) -> Option<(String, bool)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // proc(5): `pid (comm) state …`, where comm may hold anything; the number of threads is field 20, the start time
    // field 22.
    let fields: Vec<_> = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).copied();
    // A JVM's first thread is a zombie while the others still hold its ports: gone is what has no thread left.
    let has_threads = field(20)?.parse::<u32>().is_ok_and(|threads| threads > 1);
    Some((field(22)?.to_owned(), has_threads || !matches!(field(3)?, "Z" | "X")))
}

#[cfg(not(target_os = "linux"))]
fn start_of(pid: i32) -> Option<(String, bool)> {
    let (state, start) =
        ps(pid, "stat=,lstart=")?.split_once(' ').map(|(a, b)| (a.to_owned(), b.trim().to_owned()))?;
    Some((start, !state.starts_with('Z')))
}

#[cfg(target_os = "linux")]
fn resident_bytes(pid: i32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_ascii_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(not(target_os = "linux"))]
fn resident_bytes(pid: i32) -> Option<u64> {
    Some(ps(pid, "rss=")?.parse::<u64>().ok()? * 1024)
}

#[cfg(not(target_os = "linux"))]
fn ps(pid: i32, columns: &str) -> Option<String> {
    let output =
        Command::new("ps").env("LC_ALL", "C").args(["-o", columns, "-p", &pid.to_string()]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LocalConfig;

    fn layout(dir: &Path) -> Layout {
        let layout =
            Layout::of(&LocalConfig { data_dir: Some(dir.to_owned()), ..Default::default() }).unwrap();
        layout.create().unwrap();
        layout
    }

    fn sleeper(layout: &Layout) -> (Process, Child) {
        let address = SocketAddr::from(([127, 0, 0, 1], 9092));
        spawn(layout, "kafka", Kind::Kafka, address, Command::new("sleep").arg("60")).unwrap()
    }

    #[tokio::test]
    async fn a_process_is_found_again_by_its_pid_file_and_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(dir.path());
        let (process, _child) = sleeper(&layout);
        assert_eq!(Process::all(&layout).unwrap(), std::slice::from_ref(&process));
        assert!(process.is_alive() && process.resident_bytes().is_some());
        assert_eq!(process.stop().await.unwrap(), Ended::OnTerm);
        assert!(!process.is_alive());
        process.forget(&layout).unwrap();
        assert!(Process::all(&layout).unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_pid_that_was_given_to_another_program_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (process, mut child) = sleeper(&layout(dir.path()));
        let stale = Process { start: "1".into(), ..process };
        assert!(!stale.is_alive());
        assert_eq!(stale.stop().await.unwrap(), Ended::Before);
        assert!(child.try_wait().unwrap().is_none(), "the other program was stopped");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
