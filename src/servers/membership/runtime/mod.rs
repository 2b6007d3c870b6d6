//! Who runs the nodes: the processes and files of a membership operation, behind one enum. Which nodes are members is
//! not decided here (that is [`super::view`]); a runtime only starts, stops and sets aside.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;

use super::view::View;
use crate::config::{Config, RuntimeKind};
use crate::error::UsageError;
use crate::output::Output;
use crate::servers::local::layout::Layout;
use crate::shutdown::Shutdown;

mod docker;
mod local;
mod remote;

pub use docker::Docker;
pub use local::Local;
pub use remote::Remote;

/// A node, by the name that its runtime uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    /// Where its clients connect.
    pub address: SocketAddr,
}

impl Node {
    pub fn ip(&self) -> IpAddr {
        self.address.ip()
    }

    /// Whether a user means this node by its name, its address, or its address with port.
    pub fn is_meant_by(&self, typed: &str) -> bool {
        self.name == typed || self.address.to_string() == typed || self.ip().to_string() == typed
    }
}

/// The node that a user means, among those that a runtime knows.
fn find(typed: &str, known: impl IntoIterator<Item = Node>) -> anyhow::Result<Node> {
    let known: Vec<_> = known.into_iter().collect();
    known.iter().find(|node| node.is_meant_by(typed)).cloned().ok_or_else(|| {
        let names: Vec<_> = known.iter().map(|node| node.name.as_str()).collect();
        UsageError::new(format!("{typed:?} is not a node of this cluster (its nodes: {})", names.join(", ")))
            .into()
    })
}

/// Free space where the data of some nodes lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    pub free: ByteSize,
    /// For messages: a path, or a node.
    pub place: String,
}

#[derive(Debug)]
pub enum Runtime {
    /// The processes of `iotctl up`.
    Local(Local),
    /// The containers of `iotctl up --docker`.
    Docker(Docker),
    /// The operator's own machines, by the commands in the configuration.
    Remote(Remote),
}

/// The same call for each runtime.
macro_rules! each {
    ($runtime:expr, $it:ident => $call:expr) => {
        match $runtime {
            Runtime::Local($it) => $call,
            Runtime::Docker($it) => $call,
            Runtime::Remote($it) => $call,
        }
    };
}

impl Runtime {
    pub async fn open(config: &Config, output: Output, shutdown: &Shutdown) -> anyhow::Result<Self> {
        Ok(match config.cluster.runtime {
            RuntimeKind::Local => Self::Local(Local::open(&config.local, output, shutdown).await?),
            RuntimeKind::Docker => Self::Docker(Docker::open(config).await?),
            RuntimeKind::Remote => Self::Remote(Remote::open(config)),
        })
    }

    /// The folder of the journals. Each cluster has its own, so that no operation is resumed on another cluster.
    pub fn journals(config: &Config) -> anyhow::Result<PathBuf> {
        match (&config.cluster.journal_dir, config.cluster.runtime) {
            (Some(dir), _) => Ok(dir.clone()),
            (None, RuntimeKind::Local) => Ok(Layout::of(&config.local)?.root().join("journal")),
            (None, RuntimeKind::Docker) => docker::journals(config),
            (None, RuntimeKind::Remote) => remote::journals(config),
        }
    }

    /// Nodes that know the cluster's members.
    pub fn contact_points(&self) -> anyhow::Result<Vec<String>> {
        each!(self, it => it.contact_points())
    }

    /// The node that a user means by a name or an address.
    ///
    /// # Errors
    /// A usage error that lists the nodes, if there is no such node.
    pub fn find(&self, name: &str) -> anyhow::Result<Node> {
        each!(self, it => it.find(name))
    }

    /// The node of an operation that was begun, whether or not it is on the runtime's list.
    pub fn named(&self, name: &str) -> anyhow::Result<Node> {
        each!(self, it => it.named(name))
    }

    /// A cluster member by this runtime's name for it.
    pub fn member(&self, address: SocketAddr) -> anyhow::Result<Node> {
        each!(self, it => it.member(address))
    }

    /// The node that joins next.
    pub fn next(&self, view: &View) -> anyhow::Result<Node> {
        each!(self, it => it.next(view))
    }

    /// The seeds: the nodes that the others ask for the members when they start.
    pub async fn seeds(&self, view: &View) -> anyhow::Result<Vec<IpAddr>> {
        each!(self, it => it.seeds(view).await)
    }

    /// Why a node cannot start without data: addresses that are in use, a data directory that is not empty.
    pub async fn obstacles(&self, node: &Node) -> anyhow::Result<Vec<String>> {
        each!(self, it => it.obstacles(node).await)
    }

    /// Why this node cannot be removed, if it cannot.
    pub fn hold(&self, node: &Node) -> Option<String> {
        match self {
            Self::Docker(docker) => docker.hold(node),
            Self::Local(_) | Self::Remote(_) => None,
        }
    }

    /// The disks with the data of these nodes, as far as they can be known; nodes may share one.
    pub async fn disks(&self, nodes: &[Node]) -> anyhow::Result<Vec<Disk>> {
        each!(self, it => it.disks(nodes).await)
    }

    pub async fn is_running(&self, node: &Node) -> anyhow::Result<bool> {
        each!(self, it => it.is_running(node).await)
    }

    /// Starts a node on the data that it has, or without data in the place of the dead node `replaced`. Returns a
    /// description of what was done.
    pub async fn start(&self, node: &Node, replaced: Option<IpAddr>) -> anyhow::Result<String> {
        each!(self, it => it.start(node, replaced).await)
    }

    /// How long a node may take until its process can be seen.
    pub fn start_patience(&self) -> Duration {
        each!(self, it => it.start_patience())
    }

    /// Ends a node's process, if it runs.
    pub async fn stop(&self, node: &Node) -> anyhow::Result<()> {
        each!(self, it => it.stop(node).await)
    }

    /// Moves a node's files aside, and returns where they are. Nothing is deleted.
    pub async fn set_aside(&self, node: &Node) -> anyhow::Result<Option<String>> {
        each!(self, it => it.set_aside(node).await)
    }

    /// From now on the node is started with the others.
    pub async fn enlist(&mut self, node: &Node) -> anyhow::Result<()> {
        each!(self, it => it.enlist(node).await)
    }

    /// From now on the new node is started in the place of the dead one, and is a seed if that was one.
    pub async fn succeed(&mut self, dead: &Node, newcomer: &Node) -> anyhow::Result<()> {
        each!(self, it => it.succeed(dead, newcomer).await)
    }

    /// From now on the node is no longer started.
    pub async fn strike(&mut self, node: &Node) -> anyhow::Result<()> {
        each!(self, it => it.strike(node).await)
    }

    /// The end of a node's log, as the end of a sentence; empty if it cannot be read.
    pub async fn last_words(&self, node: &Node) -> String {
        each!(self, it => it.last_words(node).await)
    }

    /// How to restart a node whose process has ended, for a remedy.
    pub fn restart_remedy(&self, node: &Node) -> String {
        each!(self, it => it.restart_remedy(node))
    }

    /// Cassandra's own tool, for this node. It ends with iotctl; what it requested continues.
    pub fn nodetool(&self, node: &Node, arguments: &[&str]) -> tokio::process::Command {
        each!(self, it => it.nodetool(node, arguments))
    }
}
