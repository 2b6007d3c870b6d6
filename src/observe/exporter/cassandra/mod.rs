//! Each Cassandra node by its own virtual tables (`system_views`), asked over CQL: no agent, no JMX.
//!
//! A virtual table describes only the node that answers, so every question goes to each node of the local datacenter.
//! A view that a version does not have is left out.
//!
//! [`metrics`]: what is exported. [`node`]: one node's answers. [`heartbeats`]: which peers a node hears.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::time::timeout;

use super::ANSWER_TIMEOUT;
use crate::cassandra::Session;
use crate::config::CassandraConfig;
use crate::observe::exporter::snapshot::Snapshot;

mod heartbeats;
pub mod metrics;
mod node;

use heartbeats::Heartbeats;
use metrics::{LOAD, NODE_INFO, NODE_UP, PEER_UP};
use node::NodeAnswers;

/// Looks at the nodes, round by round.
pub struct Watch {
    config: CassandraConfig,
    timeout: Duration,
    session: Option<Session>,
    heartbeats: Heartbeats,
}

impl Watch {
    pub fn new(config: &CassandraConfig, timeout: Duration) -> Self {
        Self { config: config.clone(), timeout, session: None, heartbeats: Heartbeats::default() }
    }

    /// Looks through a session that is open already.
    pub fn over(session: Session, config: &CassandraConfig, timeout: Duration) -> Self {
        Self { session: Some(session), ..Self::new(config, timeout) }
    }

    /// What was found, and the error where no node answered.
    pub async fn look(&mut self) -> (Snapshot, Result<(), String>) {
        let session = match self.session().await {
            Ok(session) => session,
            Err(error) => return (self.unreachable(), Err(error)),
        };
        let datacenter = session.local_datacenter();
        let mut nodes = session.nodes();
        nodes.retain(|node| node.datacenter == datacenter);
        let asked = nodes.iter().map(|node| async {
            // A node that the session has no connection to would only cost its deadline.
            match node.is_up {
                true => timeout(self.timeout, node::ask(&session, node.address, self.timeout)).await.ok()?,
                false => None,
            }
        });
        let answers = join_all(asked).await;
        let answered = match answers.iter().any(Option::is_some) {
            true => Ok(()),
            false => Err(format!("no node of datacenter {datacenter} answers within {:?}", self.timeout)),
        };
        let mut snapshot = Snapshot::default();
        for (node, answers) in nodes.iter().zip(answers) {
            let name = node.address.to_string();
            snapshot.set(&NODE_UP, &[&name], f64::from(u8::from(answers.is_some())));
            let Some(NodeAnswers { snapshot: of_node, version, gossip }) = answers else { continue };
            snapshot.append(of_node);
            let host_id = node.host_id.to_string();
            snapshot.set(&NODE_INFO, &[&name, &node.datacenter, &node.rack, &host_id, &version], 1.0);
            for member in gossip {
                if member.address == node.address.ip() {
                    if let Some(load) = member.load {
                        snapshot.set(&LOAD, &[&name], load);
                    }
                    continue;
                }
                let is_up = self.heartbeats.note(node.address, &member, Instant::now());
                snapshot.set(&PEER_UP, &[&name, &member.address.to_string()], f64::from(u8::from(is_up)));
            }
        }
        self.heartbeats.forget_all_but(&nodes.iter().map(|node| node.address).collect::<Vec<_>>());
        (snapshot, answered)
    }

    async fn session(&mut self) -> Result<Session, String> {
        if let Some(session) = &self.session {
            return Ok(session.clone());
        }
        // The first connection discovers the cluster, and on a busy machine takes longer than any question.
        match timeout(ANSWER_TIMEOUT, Session::connect(&self.config)).await {
            Ok(Ok(session)) => Ok(self.session.insert(session).clone()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no Cassandra node answers within {ANSWER_TIMEOUT:?}")),
        }
    }

    /// Before the first connection, only the contact points are known.
    fn unreachable(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for point in &self.config.contact_points {
            let has_port = point.parse::<SocketAddr>().is_ok() || point.contains(':');
            let node = if has_port { point.clone() } else { format!("{point}:9042") };
            snapshot.set(&NODE_UP, &[&node], 0.0);
        }
        snapshot
    }
}
