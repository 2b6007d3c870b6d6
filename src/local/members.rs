//! Nodes in and out of a local cluster: the processes and files of `iotctl node`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, bail};
use bytesize::ByteSize;
use chrono::Utc;

use super::cassandra::Nodes;
use super::cluster::{Cluster, LocalNode, MAX_NODES, Server};
use super::disk;
use super::java::{self, Java};
use super::layout::{Layout, Lock, cache_dir};
use super::memory;
use super::monitoring::Watchers;
use super::ports;
use super::process::{self, Process};
use super::progress::Board;
use super::{Kind, jars};
use crate::config::LocalConfig;
use crate::error::UsageError;
use crate::output::Output;
use crate::shutdown::Shutdown;

/// The main class of Cassandra's own tool; it speaks JMX with the node.
const NODETOOL: &str = "org.apache.cassandra.tools.NodeTool";

/// The nodes of a data directory, locked against every other `up`, `down` and `node`.
#[derive(Debug)]
pub struct Members {
    config: LocalConfig,
    layout: Layout,
    cluster: Cluster,
    java: Java,
    jars: PathBuf,
    agent_jars: Option<PathBuf>,
    _lock: Lock,
}

impl Members {
    /// # Errors
    /// Where no `up` has come to its end.
    pub async fn open(config: &LocalConfig, output: Output, shutdown: &Shutdown) -> anyhow::Result<Self> {
        let layout = Layout::of(config)?;
        let cluster = Cluster::load(&layout)?.filter(|cluster| cluster.is_complete);
        let Some(cluster) = cluster else {
            bail!(UsageError::new(format!(
                "there is no cluster in {} (start one with `iotctl up --nodes 3`; `iotctl node` tends those that \
                 `iotctl up` started)",
                layout.root().display()
            )));
        };
        let lock = layout.lock()?;
        let java = java::find(&java::Places::of_this_machine()).await?;
        let (cache, board) = (cache_dir(config)?, Board::new(output));
        let jars = jars::CASSANDRA.fetch(&cache, &java, &board, shutdown).await?;
        let agent_jars = match cluster.monitoring {
            Some(_) => Some(jars::JMX_EXPORTER.fetch(&cache, &java, &board, shutdown).await?),
            None => None,
        };
        Ok(Self { config: config.clone(), layout, cluster, java, jars, agent_jars, _lock: lock })
    }

    /// Where the journals lie.
    pub fn journals(config: &LocalConfig) -> anyhow::Result<PathBuf> {
        Ok(Layout::of(config)?.root().join("journal"))
    }

    /// The nodes with their servers.
    pub fn servers(&self) -> anyhow::Result<Vec<(LocalNode, Server)>> {
        let nodes = self.cluster.nodes.iter();
        nodes.map(|node| Ok((*node, self.cluster.server(*node, &self.config)?))).collect()
    }

    /// By name, such as cassandra-2, or by address.
    pub fn find(&self, name: &str) -> anyhow::Result<Option<(LocalNode, Server)>> {
        let is_meant = |server: &Server| {
            server.name == name
                || server.address.to_string() == name
                || server.address.ip().to_string() == name
        };
        Ok(self.servers()?.into_iter().find(|(_, server)| is_meant(server)))
    }

    pub fn is_last_seed(&self, node: LocalNode) -> bool {
        node.is_seed && self.cluster.nodes.iter().filter(|node| node.is_seed).count() == 1
    }

    /// The next node that may join: the lowest number that is free.
    pub fn next(&self) -> anyhow::Result<(LocalNode, Server)> {
        let is_free = |index: &u16| self.cluster.nodes.iter().all(|node| node.index != *index);
        let index = (0..).find(is_free).context("too many nodes")?;
        if u32::from(index) >= MAX_NODES {
            bail!(UsageError::new(format!("{MAX_NODES} nodes are the most on one machine")));
        }
        let node = LocalNode { index, is_seed: false };
        Ok((node, self.cluster.server(node, &self.config)?))
    }

    /// The node of an operation that was begun, whether it has been enlisted or not.
    pub fn named(&self, name: &str) -> anyhow::Result<(LocalNode, Server)> {
        if let Some(found) = self.find(name)? {
            return Ok(found);
        }
        let number = name.strip_prefix("cassandra-").and_then(|number| number.parse::<u16>().ok());
        let index = number.and_then(|number| number.checked_sub(1));
        let node =
            LocalNode { index: index.with_context(|| format!("{name:?} is no node"))?, is_seed: false };
        Ok((node, self.cluster.server(node, &self.config)?))
    }

    /// Why a node cannot start: addresses that are taken, a data directory that is not empty.
    pub fn obstacles(&self, server: &Server) -> Vec<String> {
        let mut reasons = Vec::new();
        if let Err(error) = ports::check(&ports::needed(&self.config, &self.cluster, &[server])) {
            reasons.push(format!("{error:#}"));
        }
        let dir = self.layout.server_dir(&server.name);
        if std::fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some()) {
            reasons.push(format!("{} is not empty (move it away)", dir.display()));
        }
        reasons
    }

    /// Free disk where the data lies, and its name.
    pub fn free_disk(&self) -> anyhow::Result<(ByteSize, String)> {
        let root = self.layout.root();
        Ok((ByteSize::b(disk::of(root)?.free_bytes), root.display().to_string()))
    }

    /// The process of a node, if it runs.
    pub fn process(&self, name: &str) -> anyhow::Result<Option<Process>> {
        let processes = Process::all(&self.layout)?;
        Ok(processes.into_iter().find(|process| process.name == name && process.is_alive()))
    }

    /// Starts a node on whatever data it has; on none, in the place of the dead node `replaced`.
    pub fn start(&self, server: &Server, replaced: Option<IpAddr>) -> anyhow::Result<Process> {
        let count = u32::try_from(self.cluster.nodes.len()).unwrap_or(u32::MAX);
        let suited = memory::heaps(memory::total(), count.saturating_add(1));
        let nodes = Nodes {
            config: &self.config,
            layout: &self.layout,
            java: &self.java,
            jars: &self.jars,
            heap: self.config.cassandra_heap.unwrap_or(suited.cassandra),
            seeds: self.cluster.seeds(&self.config)?,
            replaced,
            agent: self.agent_jars.as_deref(),
        };
        let mut command = nodes.prepare(server)?;
        let (process, _child) =
            process::spawn(&self.layout, &server.name, Kind::Cassandra, server.address, &mut command)?;
        Ok(process)
    }

    /// Ends a node's process.
    pub async fn stop(&self, name: &str) -> anyhow::Result<()> {
        if let Some(process) = self.process(name)? {
            process.stop().await?;
            process.forget(&self.layout)?;
        }
        Ok(())
    }

    /// Moves a node's files out of the way, under a name that tells when. Nothing is deleted.
    pub fn set_aside(&self, name: &str) -> anyhow::Result<Option<PathBuf>> {
        let dir = self.layout.server_dir(name);
        if !dir.exists() {
            return Ok(None);
        }
        let aside =
            self.layout.server_dir(&format!("aside-{name}-{}", Utc::now().format("%Y%m%dT%H%M%S%.3fZ")));
        std::fs::rename(&dir, &aside)
            .with_context(|| format!("cannot move {} to {}", dir.display(), aside.display()))?;
        Ok(Some(aside))
    }

    /// From now on `up` starts the node with the others.
    pub fn enlist(&mut self, node: LocalNode) -> anyhow::Result<()> {
        if self.cluster.nodes.iter().all(|known| known.index != node.index) {
            self.cluster.nodes.push(node);
            self.cluster.nodes.sort_by_key(|node| node.index);
        }
        self.save()
    }

    /// From now on `up` starts the newcomer in the place of the dead node.
    pub fn succeed(&mut self, dead: LocalNode, newcomer: LocalNode) -> anyhow::Result<()> {
        self.cluster.nodes.retain(|known| known.index != dead.index);
        self.enlist(newcomer)
    }

    /// From now on `up` knows the node no more.
    pub fn strike(&mut self, node: LocalNode) -> anyhow::Result<()> {
        self.cluster.nodes.retain(|known| known.index != node.index);
        self.save()
    }

    fn save(&self) -> anyhow::Result<()> {
        self.cluster.save(&self.layout)?;
        let watchers = Watchers { config: &self.config, layout: &self.layout, cluster: &self.cluster };
        let servers = self.cluster.servers(&self.config)?;
        let prometheus = servers.iter().find(|server| server.kind == Kind::Prometheus);
        prometheus.map_or(Ok(()), |server| watchers.write_targets(&self.layout.server_dir(&server.name)))
    }

    /// Cassandra's own tool, for the node with this address. It ends with us, what it asked for does not.
    pub fn nodetool(&self, node: LocalNode, arguments: &[&str]) -> tokio::process::Command {
        let options = [
            "-Xmx64m",
            "-XX:TieredStopAtLevel=1",
            // The node's name for itself in RMI has no port in it that the parser of newer Javas would take.
            "-Dcom.sun.jndi.rmiURLParsing=legacy",
            "--add-exports=java.rmi/sun.rmi.transport.tcp=ALL-UNNAMED",
            "--add-exports=java.base/sun.nio.ch=ALL-UNNAMED",
            "--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED",
            "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
            "--add-opens=java.base/jdk.internal.ref=ALL-UNNAMED",
            "--add-opens=java.base/java.nio=ALL-UNNAMED",
        ];
        let options = options.map(str::to_owned).to_vec();
        let mut command = self.java.command(&self.jars, options, NODETOOL);
        let port = self.config.cassandra_jmx_port.saturating_add(node.index);
        command.args(["-h", &IpAddr::from([127, 0, 0, 1]).to_string(), "-p", &port.to_string()]);
        command.args(arguments).stdin(Stdio::null());
        let mut command = tokio::process::Command::from(command);
        command.kill_on_drop(true);
        command
    }
}
