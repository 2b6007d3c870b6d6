//! The second compose file: nodes that `iotctl node` has added to those of docker-compose.yml, and those that it has
//! taken out, so that a later `docker compose up` with both files starts what belongs to the cluster and nothing else.
//! It is JSON, which every YAML reader takes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::servers::local::process::{read_json, write_json};

#[derive(Debug, Clone, PartialEq)]
pub struct NodesFile {
    path: PathBuf,
    content: Content,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Content {
    services: BTreeMap<String, Value>,
    volumes: BTreeMap<String, Value>,
}

impl NodesFile {
    pub const NAME: &str = "docker-compose.nodes.yml";

    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let content = match path.is_file() {
            true => read_json(path).with_context(|| {
                format!("{} is not as iotctl wrote it (mend it, or move it away)", path.display())
            })?,
            false => Content::default(),
        };
        Ok(Self { path: path.to_owned(), content })
    }

    /// Whether the node was taken out of the cluster.
    pub fn is_struck(&self, name: &str) -> bool {
        self.content.services.get(name).is_some_and(|service| service["scale"] == 0)
    }

    /// Whether the node was added here.
    pub fn has(&self, name: &str) -> bool {
        self.content.services.contains_key(name) && !self.is_struck(name)
    }

    /// Puts a node in, with a volume of its own for its data.
    pub fn put(&mut self, name: &str, service: Value, volume: &str) -> anyhow::Result<()> {
        self.content.services.insert(name.to_owned(), service);
        self.content.volumes.insert(volume.to_owned(), json!({}));
        self.save()
    }

    /// Takes a node out. One of docker-compose.yml stays in it, with no container; the volumes stay where they are.
    pub fn strike(&mut self, name: &str, is_in_base: bool) -> anyhow::Result<()> {
        match is_in_base {
            true => drop(self.content.services.insert(name.to_owned(), json!({ "scale": 0 }))),
            false => drop(self.content.services.remove(name)),
        }
        self.save()
    }

    fn save(&self) -> anyhow::Result<()> {
        write_json(&self.path, &self.content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_and_taken_out_is_there_the_next_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NodesFile::NAME);
        let mut file = NodesFile::load(&path).unwrap();
        assert!(!file.has("cassandra-4") && !file.is_struck("cassandra-4"));
        file.put("cassandra-4", json!({ "image": "cassandra:5.0.6" }), "cassandra-4-x").unwrap();
        file.strike("cassandra-3", true).unwrap();
        let mut again = NodesFile::load(&path).unwrap();
        assert_eq!(again, file);
        assert!(again.has("cassandra-4") && again.is_struck("cassandra-3") && !again.has("cassandra-3"));
        again.strike("cassandra-4", false).unwrap();
        assert!(!NodesFile::load(&path).unwrap().has("cassandra-4"));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("cassandra-4-x"), "its data's volume stays: {text}");
    }
}
