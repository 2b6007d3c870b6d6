//! Who runs the nodes: the processes and files of a membership operation, behind one enum. What a cluster is made of is
//! not decided here (that is [`super::view`]); a runtime starts, stops and sets aside what it is told to.

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

/// A node, as who runs it names it.
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
}

/// The node that a person means, of those that a runtime knows: by name, address or address with port.
fn find(name: &str, known: impl IntoIterator<Item = Node>) -> anyhow::Result<Node> {
    let known: Vec<_> = known.into_iter().collect();
    let is_meant =
        |node: &&Node| node.name == name || node.address.to_string() == name || node.ip().to_string() == name;
    known.iter().find(is_meant).cloned().ok_or_else(|| {
        let names: Vec<_> = known.iter().map(|node| node.name.as_str()).collect();
        UsageError::new(format!("{name:?} is no node here (there are {})", names.join(", "))).into()
    })
}

/// Free space where the data of some nodes lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    pub free: ByteSize,
    /// As a person would look for it.
    pub place: String,
}

#[derive(Debug)]
pub enum Runtime {
    /// The processes of `iotctl up`.
    Local(Local),
    /// The containers of `iotctl up --docker`.
    Docker(Docker),
    /// Machines of the operator's, by the commands that the configuration has.
    Remote(Remote),
}

/// The same call, whoever runs the nodes.
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

    /// Where the journals lie: apart for each cluster, because nobody must take up in one what was begun in another.
    pub fn journals(config: &Config) -> anyhow::Result<PathBuf> {
        match (&config.cluster.journal_dir, config.cluster.runtime) {
            (Some(dir), _) => Ok(dir.clone()),
            (None, RuntimeKind::Local) => Ok(Layout::of(&config.local)?.root().join("journal")),
            (None, RuntimeKind::Docker) => docker::journals(config),
            (None, RuntimeKind::Remote) => remote::journals(config),
        }
    }

    /// Where to ask who is in the cluster.
    pub fn contact_points(&self) -> anyhow::Result<Vec<String>> {
        each!(self, it => it.contact_points())
    }

    /// The node that a person means by a name or an address.
    ///
    /// # Errors
    /// A usage error that lists the nodes, where there is none like it.
    pub fn find(&self, name: &str) -> anyhow::Result<Node> {
        each!(self, it => it.find(name))
    }

    /// The node of an operation that was begun, whether it is enlisted by now or not.
    pub fn named(&self, name: &str) -> anyhow::Result<Node> {
        each!(self, it => it.named(name))
    }

    /// How this runtime calls a member of the cluster.
    pub fn member(&self, address: SocketAddr) -> anyhow::Result<Node> {
        each!(self, it => it.member(address))
    }

    /// The node that joins next.
    pub fn next(&self, view: &View) -> anyhow::Result<Node> {
        each!(self, it => it.next(view))
    }

    /// Whom the nodes ask who is there, when they start.
    pub async fn seeds(&self, view: &View) -> anyhow::Result<Vec<IpAddr>> {
        each!(self, it => it.seeds(view).await)
    }

    /// Why a node cannot start on no data: addresses that are taken, a data directory that is not empty.
    pub async fn obstacles(&self, node: &Node) -> anyhow::Result<Vec<String>> {
        each!(self, it => it.obstacles(node).await)
    }

    /// Why this node has to stay, if it has.
    pub fn hold(&self, node: &Node) -> Option<String> {
        match self {
            Self::Docker(docker) => docker.hold(node),
            Self::Local(_) | Self::Remote(_) => None,
        }
    }

    /// The disks that the data of these nodes lies on, as far as they can be known; nodes may share one.
    pub async fn disks(&self, nodes: &[Node]) -> anyhow::Result<Vec<Disk>> {
        each!(self, it => it.disks(nodes).await)
    }

    pub async fn is_running(&self, node: &Node) -> anyhow::Result<bool> {
        each!(self, it => it.is_running(node).await)
    }

    /// Starts a node on whatever data it has; on none, in the place of the dead node `replaced`. Says what was done.
    pub async fn start(&self, node: &Node, replaced: Option<IpAddr>) -> anyhow::Result<String> {
        each!(self, it => it.start(node, replaced).await)
    }

    /// How long a node may take to show a first sign of life.
    pub fn start_patience(&self) -> Duration {
        each!(self, it => it.start_patience())
    }

    /// Ends a node's process, if it runs.
    pub async fn stop(&self, node: &Node) -> anyhow::Result<()> {
        each!(self, it => it.stop(node).await)
    }

    /// Moves a node's files out of the way, and says where they are. Nothing is deleted.
    pub async fn set_aside(&self, node: &Node) -> anyhow::Result<Option<String>> {
        each!(self, it => it.set_aside(node).await)
    }

    /// From now on the node is started with the others.
    pub async fn enlist(&mut self, node: &Node) -> anyhow::Result<()> {
        each!(self, it => it.enlist(node).await)
    }

    /// From now on the newcomer is started in the place of the dead node, and is what that was to the others.
    pub async fn succeed(&mut self, dead: &Node, newcomer: &Node) -> anyhow::Result<()> {
        each!(self, it => it.succeed(dead, newcomer).await)
    }

    /// From now on the node is started no more.
    pub async fn strike(&mut self, node: &Node) -> anyhow::Result<()> {
        each!(self, it => it.strike(node).await)
    }

    /// The end of what a node wrote to its log, as the end of a sentence; empty where it cannot be had.
    pub async fn last_words(&self, node: &Node) -> String {
        each!(self, it => it.last_words(node).await)
    }

    /// What starts a node again that has ended, for a remedy.
    pub fn restart_remedy(&self, node: &Node) -> String {
        each!(self, it => it.restart_remedy(node))
    }

    /// Cassandra's own tool, for this node. It ends with us, what it asked for does not.
    pub fn nodetool(&self, node: &Node, arguments: &[&str]) -> tokio::process::Command {
        each!(self, it => it.nodetool(node, arguments))
    }
}
