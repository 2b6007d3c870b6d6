//! One file for each operation on the membership: what was done when, and how it ended. A run that was killed is found
//! again by it. The cluster's own state decides how to go on; the journal records what was intended.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::servers::local::Unfinished;
use crate::servers::local::process::{read_json, write_json};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    Add,
    /// A new node takes the place of a dead one.
    Replace,
    Decommission,
}

impl std::fmt::Display for Operation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Add => "add",
            Self::Replace => "replace",
            Self::Decommission => "decommission",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub at: DateTime<Utc>,
    pub what: String,
}

/// A node that still holds data which it has handed over to a new node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanupDue {
    pub node: String,
    pub address: SocketAddr,
    pub done_at: Option<DateTime<Utc>>,
}

/// What the file holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub operation: Operation,
    /// The name of the node, such as cassandra-4.
    pub node: String,
    pub address: SocketAddr,
    pub host_id: Option<Uuid>,
    /// The name of the dead node whose place it takes.
    #[serde(default)]
    pub replaces: Option<String>,
    /// Whether the dead node has been taken off the list, and its files moved aside.
    #[serde(default)]
    pub is_replaced: bool,
    /// When the new node was started last.
    #[serde(default)]
    pub node_started_at: Option<DateTime<Utc>>,
    pub started_at: DateTime<Utc>,
    pub steps: Vec<Step>,
    /// Replication factors of Cassandra's own keyspaces that a decommission lowers.
    #[serde(default)]
    pub lowered: Vec<(String, usize)>,
    /// Rows at consistency ALL of some partitions before, to be found again after.
    pub sample: Vec<super::sample::Counted>,
    pub finished_at: Option<DateTime<Utc>>,
    #[serde(default)]
    pub cleanup: Vec<CleanupDue>,
}

impl Record {
    /// Such as "decommission of cassandra-3".
    pub fn what(&self) -> String {
        format!("{} of {}", self.operation, self.node)
    }

    /// Why nothing else may begin, with the remedy.
    pub fn obstacle(&self) -> String {
        let (what, command) = (self.what(), self.command());
        format!(
            "{what} was begun and is not finished (finish it first: `{command}`, or see `iotctl node abandon --help`)"
        )
    }

    /// What `iotctl up` has to know of it.
    pub fn for_up(&self) -> Unfinished {
        Unfinished {
            what: self.what(),
            command: self.command(),
            leaving: (self.operation == Operation::Decommission).then(|| self.node.clone()),
            replaced: self.replaces.clone(),
        }
    }

    /// The command that finishes it.
    pub fn command(&self) -> String {
        match self.operation {
            Operation::Add => "iotctl node add".into(),
            Operation::Replace => {
                format!("iotctl node replace {}", self.replaces.as_deref().unwrap_or("NODE"))
            }
            Operation::Decommission => format!("iotctl node decommission {}", self.node),
        }
    }
}

/// An operation's record and its file.
#[derive(Debug, Clone, PartialEq)]
pub struct Journal {
    path: PathBuf,
    pub record: Record,
}

impl Journal {
    /// Begins an operation.
    pub fn begin(
        folder: &Path,
        operation: Operation,
        node: &str,
        address: SocketAddr,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let started_at = Utc::now();
        let name = format!("{}-{operation}-{node}.json", started_at.format("%Y%m%dT%H%M%S%.3fZ"));
        let record = Record {
            operation,
            node: node.to_owned(),
            address,
            host_id: None,
            replaces: None,
            is_replaced: false,
            node_started_at: None,
            lowered: Vec::new(),
            started_at,
            steps: Vec::new(),
            sample: Vec::new(),
            finished_at: None,
            cleanup: Vec::new(),
        };
        let mut journal = Self { path: folder.join(name), record };
        journal.step("begun")?;
        Ok(journal)
    }

    /// All of them, the oldest first.
    pub fn all(folder: &Path) -> anyhow::Result<Vec<Self>> {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("cannot list {}", folder.display())),
        };
        let mut all = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                all.push(Self { record: read_json(&path)?, path });
            }
        }
        all.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(all)
    }

    /// The operation that was begun and is not finished.
    pub fn unfinished(folder: &Path) -> anyhow::Result<Option<Self>> {
        Ok(Self::all(folder)?.into_iter().find(|journal| journal.record.finished_at.is_none()))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Records a step, once it has been done.
    pub fn step(&mut self, what: impl Into<String>) -> anyhow::Result<()> {
        self.record.steps.push(Step { at: Utc::now(), what: what.into() });
        self.save()
    }

    pub fn finish(&mut self, what: impl Into<String>) -> anyhow::Result<()> {
        self.record.finished_at = Some(Utc::now());
        self.step(what)
    }

    pub fn save(&self) -> anyhow::Result<()> {
        write_json(&self.path, &self.record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_that_was_begun_is_found_again_until_it_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 4], 9042));
        assert_eq!(Journal::unfinished(&folder.path().join("none")).unwrap(), None);
        let mut journal = Journal::begin(folder.path(), Operation::Add, "cassandra-4", address).unwrap();
        journal.step("started").unwrap();
        let found = Journal::unfinished(folder.path()).unwrap().unwrap();
        assert_eq!(found, journal);
        assert_eq!(found.record.steps.len(), 2);
        journal.finish("done").unwrap();
        assert_eq!(Journal::unfinished(folder.path()).unwrap(), None);
        assert_eq!(Journal::all(folder.path()).unwrap().len(), 1);
    }
}
