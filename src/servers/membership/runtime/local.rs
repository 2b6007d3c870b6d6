//! The nodes of `iotctl up`: processes and directories on this machine.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use bytesize::ByteSize;
use chrono::Utc;

use super::{Disk, Node};
use crate::config::LocalConfig;
use crate::error::UsageError;
use crate::output::Output;
use crate::servers::local::cassandra::Nodes;
use crate::servers::local::cluster::{Cluster, LocalNode, MAX_NODES, Server};
use crate::servers::local::java::{self, Java};
use crate::servers::local::layout::{Layout, Lock, cache_dir};
use crate::servers::local::monitoring::Watchers;
use crate::servers::local::process::{self, Process};
use crate::servers::local::progress::ProgressLines;
use crate::servers::local::{Kind, boot, disk, jars, memory, ports};
use crate::servers::membership::view::View;
use crate::shutdown::Shutdown;

/// The main class of Cassandra's own tool; it speaks JMX with the node.
const NODETOOL: &str = "org.apache.cassandra.tools.NodeTool";

/// The nodes of a data directory, locked against every other `up`, `down` and `node`.
#[derive(Debug)]
pub struct Local {
    config: LocalConfig,
    layout: Layout,
    cluster: Cluster,
    java: Java,
    jars: PathBuf,
    agent_jars: Option<PathBuf>,
    _lock: Lock,
}

impl Local {
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
        let (cache, board) = (cache_dir(config)?, ProgressLines::new(output));
        let jars = jars::CASSANDRA.fetch(&cache, &java, &board, shutdown).await?;
        let agent_jars = match cluster.monitoring {
            Some(_) => Some(jars::JMX_EXPORTER.fetch(&cache, &java, &board, shutdown).await?),
            None => None,
        };
        Ok(Self { config: config.clone(), layout, cluster, java, jars, agent_jars, _lock: lock })
    }

    pub fn contact_points(&self) -> anyhow::Result<Vec<String>> {
        Ok(self.servers()?.into_iter().map(|(_, server)| server.address.to_string()).collect())
    }

    fn servers(&self) -> anyhow::Result<Vec<(LocalNode, Server)>> {
        let nodes = self.cluster.nodes.iter();
        nodes.map(|node| Ok((*node, self.cluster.server(*node, &self.config)?))).collect()
    }

    /// By name, such as cassandra-2, or by address.
    pub fn find(&self, name: &str) -> anyhow::Result<Node> {
        super::find(name, self.servers()?.iter().map(|(_, server)| node(server)))
    }

    pub fn named(&self, name: &str) -> anyhow::Result<Node> {
        Ok(node(&self.cluster.server(self.local_node(name)?, &self.config)?))
    }

    pub fn member(&self, address: SocketAddr) -> anyhow::Result<Node> {
        self.find(&address.ip().to_string())
    }

    /// The node of this name: the cluster's own, or one that is not in it yet or no more.
    fn local_node(&self, name: &str) -> anyhow::Result<LocalNode> {
        if let Some(known) = self.cluster.nodes.iter().find(|known| known.name() == name) {
            return Ok(*known);
        }
        let number = name.strip_prefix("cassandra-").and_then(|number| number.parse::<u16>().ok());
        let index = number.and_then(|number| number.checked_sub(1));
        Ok(LocalNode { index: index.with_context(|| format!("{name:?} is no node"))?, is_seed: false })
    }

    /// The lowest number that is free.
    pub fn next(&self, _view: &View) -> anyhow::Result<Node> {
        let is_free = |index: &u16| self.cluster.nodes.iter().all(|node| node.index != *index);
        let index = (0..).find(is_free).context("too many nodes")?;
        if u32::from(index) >= MAX_NODES {
            bail!(UsageError::new(format!("{MAX_NODES} nodes are the most on one machine")));
        }
        Ok(node(&self.cluster.server(LocalNode { index, is_seed: false }, &self.config)?))
    }

    pub async fn seeds(&self, _view: &View) -> anyhow::Result<Vec<IpAddr>> {
        let seeds = self.cluster.seeds(&self.config)?;
        Ok(seeds.into_iter().map(|(_, ip)| ip).collect())
    }

    pub async fn obstacles(&self, node: &Node) -> anyhow::Result<Vec<String>> {
        let mut reasons = Vec::new();
        let server = self.cluster.server(self.local_node(&node.name)?, &self.config)?;
        if let Err(error) = ports::check(&ports::needed(&self.config, &self.cluster, &[&server])) {
            reasons.push(format!("{error:#}"));
        }
        let dir = self.layout.server_dir(&node.name);
        if std::fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some()) {
            reasons.push(format!("{} is not empty (move it away)", dir.display()));
        }
        Ok(reasons)
    }

    /// All nodes share this machine's.
    pub async fn disks(&self, _nodes: &[Node]) -> anyhow::Result<Vec<Disk>> {
        let root = self.layout.root();
        let free = ByteSize::b(disk::of(root)?.free_bytes);
        Ok(vec![Disk { free, place: root.display().to_string() }])
    }

    fn process(&self, name: &str) -> anyhow::Result<Option<Process>> {
        Ok(Process::all(&self.layout)?.into_iter().find(|process| process.name == name))
    }

    pub async fn is_running(&self, node: &Node) -> anyhow::Result<bool> {
        Ok(self.process(&node.name)?.is_some_and(|process| process.is_alive()))
    }

    pub async fn start(&self, node: &Node, replaced: Option<IpAddr>) -> anyhow::Result<String> {
        let server = self.cluster.server(self.local_node(&node.name)?, &self.config)?;
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
        let mut command = nodes.prepare(&server)?;
        let (process, _child) =
            process::spawn(&self.layout, &server.name, Kind::Cassandra, server.address, &mut command)?;
        Ok(format!("started, pid {}", process.pid))
    }

    /// Its process is there at once.
    pub fn start_patience(&self) -> Duration {
        Duration::ZERO
    }

    pub async fn stop(&self, node: &Node) -> anyhow::Result<()> {
        if let Some(process) = self.process(&node.name)? {
            process.stop().await?;
            process.forget(&self.layout)?;
        }
        Ok(())
    }

    /// Under a name that tells when.
    pub async fn set_aside(&self, node: &Node) -> anyhow::Result<Option<String>> {
        let dir = self.layout.server_dir(&node.name);
        if !dir.exists() {
            return Ok(None);
        }
        let now = Utc::now().format("%Y%m%dT%H%M%S%.3fZ");
        let aside = self.layout.server_dir(&format!("aside-{}-{now}", node.name));
        std::fs::rename(&dir, &aside)
            .with_context(|| format!("cannot move {} to {}", dir.display(), aside.display()))?;
        Ok(Some(aside.display().to_string()))
    }

    pub async fn enlist(&mut self, node: &Node) -> anyhow::Result<()> {
        self.take_in(self.local_node(&node.name)?)
    }

    pub async fn succeed(&mut self, dead: &Node, newcomer: &Node) -> anyhow::Result<()> {
        let (dead, newcomer) = (self.local_node(&dead.name)?, self.local_node(&newcomer.name)?);
        self.cluster.nodes.retain(|known| known.index != dead.index);
        // On the data that it has by now it bootstraps no more, seed or not.
        self.take_in(LocalNode { is_seed: dead.is_seed, ..newcomer })
    }

    fn take_in(&mut self, node: LocalNode) -> anyhow::Result<()> {
        if self.cluster.nodes.iter().all(|known| known.index != node.index) {
            self.cluster.nodes.push(node);
            self.cluster.nodes.sort_by_key(|node| node.index);
        }
        self.save()
    }

    pub async fn strike(&mut self, node: &Node) -> anyhow::Result<()> {
        self.cluster.nodes.retain(|known| known.name() != node.name);
        self.save()
    }

    pub async fn last_words(&self, node: &Node) -> String {
        match self.process(&node.name) {
            Ok(Some(process)) => boot::last_words(&process),
            _ => String::new(),
        }
    }

    pub fn restart_remedy(&self, _node: &Node) -> String {
        "start it with `iotctl up`".into()
    }

    fn save(&self) -> anyhow::Result<()> {
        self.cluster.save(&self.layout)?;
        let watchers = Watchers { config: &self.config, layout: &self.layout, cluster: &self.cluster };
        let servers = self.cluster.servers(&self.config)?;
        let prometheus = servers.iter().find(|server| server.kind == Kind::Prometheus);
        prometheus.map_or(Ok(()), |server| watchers.write_targets(&self.layout.server_dir(&server.name)))
    }

    pub fn nodetool(&self, node: &Node, arguments: &[&str]) -> tokio::process::Command {
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
        let index = self.local_node(&node.name).map_or(0, |node| node.index);
        let port = self.config.cassandra_jmx_port.saturating_add(index);
        command.args(["-h", &IpAddr::from([127, 0, 0, 1]).to_string(), "-p", &port.to_string()]);
        command.args(arguments).stdin(Stdio::null());
        let mut command = tokio::process::Command::from(command);
        command.kill_on_drop(true);
        command
    }
}

fn node(server: &Server) -> Node {
    Node { name: server.name.clone(), address: server.address }
}
