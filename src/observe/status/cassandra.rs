//! The nodes of the configured cluster, as the other nodes see them.

use std::net::SocketAddr;

use serde::Serialize;

use super::Section;
use crate::cassandra::{Error, Session};
use crate::servers::membership::View;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cassandra {
    pub nodes: Vec<Node>,
    /// Disagreements between the nodes about each other, as text.
    pub disagreements: Vec<String>,
    /// Number of different schema versions; `None` if the role may not read them.
    pub schema_versions: Option<usize>,
    /// What could not be read, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Node {
    pub address: SocketAddr,
    /// As in gossip, such as `normal`; `None` if the role may not read it.
    pub state: Option<&'static str>,
    /// Whether it answers this client.
    pub answers: bool,
    /// Nodes that see it alive, and nodes that were asked.
    pub heard_by: Option<(usize, usize)>,
    pub load_bytes: Option<f64>,
    pub datacenter: Option<String>,
    pub rack: Option<String>,
    pub version: Option<String>,
}

impl Node {
    pub fn is_healthy(&self) -> bool {
        self.answers
            && self.state.is_none_or(|state| state == "normal")
            && self.heard_by.is_none_or(|(heard, asked)| heard == asked)
    }
}

impl Cassandra {
    pub fn attention(&self) -> Vec<String> {
        let unhealthy = self.nodes.iter().filter(|node| !node.is_healthy()).map(|node| {
            let ip = node.address.ip();
            match (node.answers, node.state) {
                (_, Some(state)) if state != "normal" && state != "unknown" => {
                    format!("node {ip} is {state} (see `iotctl node list`)")
                }
                (true, _) => format!("node {ip} is not seen alive by all others (see `iotctl node list`)"),
                (false, _) => format!(
                    "node {ip} does not answer (start it or see its log; if it is lost, run `iotctl node replace {ip}`)"
                ),
            }
        });
        let mut attention: Vec<_> = unhealthy.collect();
        attention.extend(self.disagreements.iter().map(|text| format!("{text} (see `iotctl node list`)")));
        if let Some(versions) = self.schema_versions.filter(|versions| *versions > 1) {
            attention.push(format!(
                "the nodes have {versions} different schema versions (wait until they agree, or see `nodetool \
                 describecluster`)"
            ));
        }
        attention
    }
}

/// Reads every node's gossip; without that permission, what the session itself knows.
pub async fn look(session: &Session) -> Section<Cassandra> {
    match View::read(session).await {
        Ok(view) => Section::Known(of_view(&view)),
        Err(error @ (Error::Unauthorized { .. } | Error::Invalid { .. })) => {
            let remark = match error {
                Error::Unauthorized { .. } => {
                    "this role may not read the nodes' own views (GRANT SELECT ON KEYSPACE system_views to it)"
                        .to_owned()
                }
                error => format!("the nodes' own views cannot be read: {error}"),
            };
            let versions = session.schema_versions().await;
            Section::Known(Cassandra { remark: Some(remark), ..of_session(session, versions.len()) })
        }
        Err(error) => Section::unknown_because(error),
    }
}

fn of_view(view: &View) -> Cassandra {
    let node = |member: &crate::servers::membership::view::Member| Node {
        address: member.address,
        state: Some(member.state.name()),
        answers: member.answers,
        heard_by: Some((member.heard_by, member.asked)),
        load_bytes: member.load_bytes,
        datacenter: member.datacenter.clone(),
        rack: member.rack.clone(),
        version: member.version.clone(),
    };
    Cassandra {
        nodes: view.members.iter().map(node).collect(),
        disagreements: view.disagreements.clone(),
        schema_versions: Some(view.schema_versions().len()),
        remark: None,
    }
}

fn of_session(session: &Session, versions: usize) -> Cassandra {
    let nodes = session.nodes().into_iter().map(|node| Node {
        address: node.address,
        state: None,
        answers: node.is_up,
        heard_by: None,
        load_bytes: None,
        datacenter: Some(node.datacenter),
        rack: Some(node.rack),
        version: None,
    });
    Cassandra {
        nodes: nodes.collect(),
        disagreements: Vec::new(),
        schema_versions: Some(versions),
        remark: None,
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn cassandra(nodes: u8) -> Cassandra {
        let node = |number| Node {
            address: SocketAddr::from(([127, 0, 0, number], 9042)),
            state: Some("normal"),
            answers: true,
            heard_by: Some((nodes.into(), nodes.into())),
            load_bytes: Some(1e6),
            datacenter: Some("dc1".into()),
            rack: Some("rack1".into()),
            version: Some("5.0.6".into()),
        };
        Cassandra {
            nodes: (1..=nodes).map(node).collect(),
            disagreements: Vec::new(),
            schema_versions: Some(1),
            remark: None,
        }
    }

    #[test]
    fn a_node_that_does_not_answer_and_one_that_joins_are_distinguished() {
        let mut cassandra = cassandra(3);
        assert_eq!(cassandra.attention(), Vec::<String>::new());
        cassandra.nodes[1].answers = false;
        cassandra.nodes[2].state = Some("joining");
        let attention = cassandra.attention();
        assert!(attention[0].contains("127.0.0.2 does not answer"), "{attention:?}");
        assert!(attention[1].contains("127.0.0.3 is joining"), "{attention:?}");
    }

    #[test]
    fn a_node_that_answers_us_but_that_another_node_does_not_see_is_not_healthy() {
        let mut cassandra = cassandra(2);
        cassandra.nodes[0].heard_by = Some((1, 2));
        assert!(cassandra.attention()[0].contains("127.0.0.1 is not seen alive by all"));
    }
}
