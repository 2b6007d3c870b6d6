//! The servers' jars: fetched once by Maven into a cache that all data directories share.
//!
//! A folder of jars is named after a hash of its pom and appears by a rename, so it is either whole or not there.

use std::collections::VecDeque;
use std::fs::{OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use uuid::Uuid;

use super::java::Java;
use super::progress::{ProgressLines, Step};
use crate::error::Interrupted;
use crate::shutdown::Shutdown;

/// Maven stops by itself when a server does not answer; this is for one that sends a byte now and then.
const FETCH_DEADLINE: Duration = Duration::from_secs(30 * 60);
const GOAL: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";
const INSTALL: &str = "install it, such as `apt install maven` or `brew install maven`";

/// A set of jars that belong together.
#[derive(Debug, Clone, Copy)]
pub struct Jars {
    pub name: &'static str,
    pub title: &'static str,
    pom: &'static str,
}

pub const CASSANDRA: Jars =
    Jars { name: "cassandra", title: "Cassandra 5.0.6", pom: include_str!("poms/cassandra.xml") };
pub const KAFKA: Jars = Jars { name: "kafka", title: "Kafka 4.1.1", pom: include_str!("poms/kafka.xml") };
pub const KAFKA_ZOOKEEPER: Jars = Jars {
    name: "kafka-zookeeper",
    title: "Kafka 3.9.1 and ZooKeeper",
    pom: include_str!("poms/kafka-zookeeper.xml"),
};

pub const JMX_EXPORTER: Jars = Jars {
    name: "jmx-exporter",
    title: "the metrics agent 1.0.1",
    pom: include_str!("poms/jmx-exporter.xml"),
};

pub const SPARK_CASSANDRA: Jars = Jars {
    name: "spark-cassandra",
    title: "Spark's Cassandra connector 3.5.1",
    pom: include_str!("poms/spark-cassandra.xml"),
};

impl Jars {
    /// The folder of these jars in `cache`. Another pom, another folder.
    pub fn folder(&self, cache: &Path) -> PathBuf {
        let hash = Uuid::new_v5(&Uuid::NAMESPACE_OID, self.pom.as_bytes()).simple().to_string();
        cache.join(format!("{}-{}", self.name, &hash[..12]))
    }

    /// Fetches the jars unless they are there. Returns their folder.
    pub async fn fetch(
        &self,
        cache: &Path,
        java: &Java,
        board: &ProgressLines,
        shutdown: &Shutdown,
    ) -> anyhow::Result<PathBuf> {
        let folder = self.folder(cache);
        if folder.is_dir() {
            return Ok(folder);
        }
        let maven = find_maven().with_context(|| {
            format!("Maven (`mvn`) fetches {}, and it is not on the PATH ({INSTALL})", self.title)
        })?;
        let context = || format!("cannot make {} (set local.cache_dir)", cache.display());
        std::fs::create_dir_all(cache).with_context(context)?;
        let step = board.step("jars", &format!("fetching {} with Maven (the first time only)", self.title));
        let _lock = lock(&cache.join(format!("{}.lock", self.name)), &step, shutdown).await?;
        if folder.is_dir() {
            return Ok(folder);
        }
        let draft = cache.join(format!("{}.part", self.name));
        // What an interrupted fetch left; nobody else is here, for we hold the lock.
        let _ = std::fs::remove_dir_all(&draft);
        std::fs::create_dir_all(&draft).with_context(context)?;
        let fetched = self.run_maven(&maven, java, &draft, &step, shutdown).await;
        let renamed = fetched.and_then(|()| {
            std::fs::rename(draft.join("jars"), &folder)
                .with_context(|| format!("cannot make {}", folder.display()))
        });
        let _ = std::fs::remove_dir_all(&draft);
        renamed?;
        step.done(&format!("{} fetched", self.title));
        Ok(folder)
    }

    async fn run_maven(
        &self,
        maven: &Path,
        java: &Java,
        draft: &Path,
        step: &Step,
        shutdown: &Shutdown,
    ) -> anyhow::Result<()> {
        let pom = draft.join("pom.xml");
        std::fs::write(&pom, self.pom).with_context(|| format!("cannot write {}", pom.display()))?;
        let mut command = tokio::process::Command::new(maven);
        command.args(["-B", "-f"]).arg(&pom).arg(GOAL);
        command.arg(format!("-DoutputDirectory={}", draft.join("jars").display()));
        if let Some(home) = java.home() {
            command.env("JAVA_HOME", home);
        }
        command.current_dir(draft).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().context("cannot start Maven")?;
        let mut last = VecDeque::new();
        let end = async {
            follow(&mut child, &mut last, self, step).await?;
            child.wait().await
        };
        let status = tokio::select! {
            status = tokio::time::timeout(FETCH_DEADLINE, end) => status,
            () = shutdown.requested() => return Err(Interrupted.into()),
        };
        let status = status
            .with_context(|| format!("Maven has not fetched {} in {FETCH_DEADLINE:?}", self.title))?
            .context("cannot read from Maven")?;
        if !status.success() {
            bail!("Maven cannot fetch {} ({status}); its last lines:\n{}", self.title, said(&last));
        }
        Ok(())
    }
}

/// Reads both outputs to their ends, keeps the last lines and counts the files.
async fn follow(
    child: &mut tokio::process::Child,
    last: &mut VecDeque<String>,
    jars: &Jars,
    step: &Step,
) -> std::io::Result<()> {
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else { return Ok(()) };
    let (mut stdout, mut stderr) = (BufReader::new(stdout).lines(), BufReader::new(stderr).lines());
    let (mut stdout_is_open, mut stderr_is_open) = (true, true);
    let mut files = 0;
    while stdout_is_open || stderr_is_open {
        let line = tokio::select! {
            line = stdout.next_line(), if stdout_is_open => {
                line?.or_else(|| { stdout_is_open = false; None })
            }
            line = stderr.next_line(), if stderr_is_open => {
                line?.or_else(|| { stderr_is_open = false; None })
            }
        };
        let Some(line) = line else { continue };
        if line.contains("Downloaded from ") {
            files += 1;
            step.set(format!("fetching {} with Maven, {files} files so far", jars.title));
        }
        if !line.contains("Download") && !line.contains("Progress (") {
            last.push_back(line);
            if last.len() > 40 {
                last.pop_front();
            }
        }
    }
    Ok(())
}

/// Maven's own complaint without its advice about its switches; where it has none, whatever it said last.
fn said(lines: &VecDeque<String>) -> String {
    let advice = ["Re-run Maven", "To see the full", "For more information", "[Help 1]"];
    let is_complaint = |line: &str| {
        line.strip_prefix("[ERROR]")
            .map(str::trim)
            .is_some_and(|text| !text.is_empty() && !advice.iter().any(|advice| text.starts_with(advice)))
    };
    let mut said: Vec<_> = lines.iter().map(String::as_str).filter(|line| is_complaint(line)).collect();
    if said.is_empty() {
        said.extend(lines.iter().skip(lines.len().saturating_sub(20)).map(String::as_str));
    }
    said.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

async fn lock(path: &Path, step: &Step, shutdown: &Shutdown) -> anyhow::Result<std::fs::File> {
    let context = || format!("cannot lock {}", path.display());
    let file = OpenOptions::new().create(true).append(true).open(path).with_context(context)?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                step.set("waiting for another iotctl that is fetching the same jars");
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(context),
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
            () = shutdown.requested() => return Err(Interrupted.into()),
        }
    }
}

pub fn find_maven() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join("mvn")).find(|program| program.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pom_has_a_folder_of_its_own() {
        let cache = Path::new("/cache");
        let folders = [CASSANDRA, KAFKA, KAFKA_ZOOKEEPER].map(|jars| jars.folder(cache));
        assert!(folders[0] != folders[1] && folders[1] != folders[2]);
        assert!(folders[0].to_string_lossy().starts_with("/cache/cassandra-"));
    }

    #[test]
    fn mavens_complaint_is_shown_without_its_advice() {
        let lines = VecDeque::from(
            [
                "[INFO] Scanning for projects...",
                "[ERROR] Failed to execute goal on project cassandra: Connection refused -> [Help 1]",
                "[ERROR] ",
                "[ERROR] Re-run Maven using the -X switch to enable full debug logging.",
                "[ERROR] [Help 1] somewhere",
            ]
            .map(String::from),
        );
        assert_eq!(
            said(&lines),
            "  [ERROR] Failed to execute goal on project cassandra: Connection refused -> [Help 1]"
        );
    }
}
