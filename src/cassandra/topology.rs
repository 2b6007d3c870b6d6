//! Which nodes there are and which of them hold a partition: the token ring and the keyspace's replication, as the
//! system tables tell them.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::node::{Health, Node, NodeInfo};
use super::{CellError, Row, Rows};

pub(super) const LOCAL_QUERY: &str = "SELECT host_id, data_center, rack, tokens, rpc_address, rpc_port, cluster_name, schema_version FROM system.local \
     WHERE key = 'local'";
pub(super) const PEERS_QUERY: &str =
    "SELECT host_id, data_center, rack, tokens, native_address, native_port FROM system.peers_v2";

/// How a keyspace spreads its replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Replication {
    /// The next so many nodes on the ring.
    Simple(usize),
    /// So many nodes in each datacenter, on different racks where there are enough.
    NetworkTopology(BTreeMap<String, usize>),
    /// Unknown keyspace or strategy: any node may coordinate.
    Unknown,
}

impl Replication {
    /// From the `replication` column of system_schema.keyspaces.
    pub(super) fn parse(mut options: BTreeMap<String, String>) -> Self {
        // "3" or "3/1" (full/transient).
        let factor = |text: &String| text.split('/').next().and_then(|text| text.parse().ok()).unwrap_or(0);
        let class = options.remove("class").unwrap_or_default();
        match class.rsplit('.').next() {
            Some("SimpleStrategy") => Self::Simple(options.get("replication_factor").map_or(0, factor)),
            Some("NetworkTopologyStrategy") => Self::NetworkTopology(
                options.iter().map(|(name, text)| (name.clone(), factor(text))).collect(),
            ),
            _ => Self::Unknown,
        }
    }
}

/// A node and the tokens it holds now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub info: NodeInfo,
    pub tokens: Vec<i64>,
}

/// A row of system.local or system.peers_v2. `None` for a row that gossip has not filled in yet.
fn member(row: Row<'_>, fallback: SocketAddr) -> Result<Option<Member>, CellError> {
    let (Some(host_id), Some(datacenter), Some(rack), Some(tokens)) = (
        row.get::<Option<_>>(0)?,
        row.get::<Option<String>>(1)?,
        row.get::<Option<String>>(2)?,
        row.get::<Option<Vec<&str>>>(3)?,
    ) else {
        return Ok(None);
    };
    let ip = row.get::<Option<IpAddr>>(4)?.filter(|ip| !ip.is_unspecified()).unwrap_or(fallback.ip());
    let port =
        row.get::<Option<i32>>(5)?.and_then(|port| u16::try_from(port).ok()).unwrap_or(fallback.port());
    let mut tokens: Vec<i64> = tokens.iter().filter_map(|token| token.parse().ok()).collect();
    tokens.sort_unstable();
    let info = NodeInfo { address: SocketAddr::new(ip, port), host_id, datacenter, rack };
    Ok(Some(Member { info, tokens }))
}

/// All the nodes that the rows of system.local (from the node at `asked`) and system.peers_v2 name.
pub(super) fn members(asked: SocketAddr, local: &Rows, peers: &Rows) -> Result<Vec<Member>, CellError> {
    let mut members = Vec::with_capacity(1 + peers.len());
    for row in local.iter() {
        // Some configurations give the bind address here; the address that answered is right.
        members.extend(member(row, asked)?.map(|mut member| {
            member.info.address = asked;
            member
        }));
    }
    for row in peers.iter() {
        members.extend(member(row, asked)?);
    }
    Ok(members)
}

/// A snapshot of the cluster, replaced as a whole when it changes.
pub struct Topology {
    pub(super) nodes: Vec<Arc<Node>>,
    replication: Replication,
    pub(super) local_datacenter: String,
    /// (token, index into `nodes`), by token.
    ring: Vec<(i64, usize)>,
    rack_count: BTreeMap<String, usize>,
}

impl Topology {
    pub(super) fn new(
        members: Vec<(Arc<Node>, Vec<i64>)>,
        replication: Replication,
        local_datacenter: String,
    ) -> Self {
        let mut ring: Vec<_> = members
            .iter()
            .enumerate()
            .flat_map(|(index, (_, tokens))| tokens.iter().map(move |&token| (token, index)))
            .collect();
        ring.sort_unstable();
        let nodes: Vec<_> = members.into_iter().map(|(node, _)| node).collect();
        let mut racks: BTreeMap<String, HashSet<&str>> = BTreeMap::new();
        for node in &nodes {
            racks.entry(node.info.datacenter.clone()).or_default().insert(&node.info.rack);
        }
        let rack_count = racks.into_iter().map(|(datacenter, racks)| (datacenter, racks.len())).collect();
        Self { nodes, replication, local_datacenter, ring, rack_count }
    }

    /// A made-up cluster whose nodes are all up; for benches.
    #[doc(hidden)]
    pub fn sample(nodes: u16, tokens_per_node: u64, replication_factor: usize) -> Self {
        let members = (0..nodes).map(|number| {
            let [high, low] = number.to_be_bytes();
            let info = NodeInfo {
                address: SocketAddr::from(([127, 1, high, low], 9042)),
                host_id: uuid::Uuid::from_u128(number.into()),
                datacenter: "dc1".into(),
                rack: "r1".into(),
            };
            let node = Node::new(info, 1);
            node.set_health(Health::Up);
            // Spread over the ring as a hash would.
            let tokens = (0..tokens_per_node).map(|token| {
                (u64::from(number) * tokens_per_node + token).wrapping_mul(0x9E37_79B9_7F4A_7C15) as i64
            });
            (node, tokens.collect())
        });
        Self::new(members.collect(), Replication::Simple(replication_factor), "dc1".into())
    }

    /// How many nodes a request with this token would be tried on; for benches.
    #[doc(hidden)]
    pub fn plan_length(&self, token: i64) -> usize {
        self.plan(Some(token), 0).len()
    }

    pub(super) fn is_local(&self, node: &Node) -> bool {
        node.info.datacenter == self.local_datacenter
    }

    /// The nodes that hold the partition with this token, of any datacenter.
    fn replicas(&self, token: i64) -> Vec<&Arc<Node>> {
        let start = self.ring.partition_point(|&(other, _)| other < token);
        let mut seen = HashSet::new();
        let walk = (0..self.ring.len())
            .map(|offset| self.ring[(start + offset) % self.ring.len()].1)
            .filter(|&index| seen.insert(index))
            .map(|index| &self.nodes[index]);
        match &self.replication {
            Replication::Unknown => Vec::new(),
            Replication::Simple(factor) => walk.take(*factor).collect(),
            Replication::NetworkTopology(factors) => self.replicas_by_datacenter(walk, factors),
        }
    }

    /// As NetworkTopologyStrategy chooses: a rack is used again only once every rack of the datacenter is in use.
    fn replicas_by_datacenter<'a>(
        &'a self,
        walk: impl Iterator<Item = &'a Arc<Node>>,
        factors: &BTreeMap<String, usize>,
    ) -> Vec<&'a Arc<Node>> {
        let mut wanted = factors.clone();
        let mut spare: BTreeMap<&str, usize> = factors
            .iter()
            .map(|(name, factor)| {
                (name.as_str(), factor.saturating_sub(self.rack_count.get(name).copied().unwrap_or(0)))
            })
            .collect();
        let mut used_racks = HashSet::new();
        let mut replicas = Vec::new();
        for node in walk {
            let info = &node.info;
            let Some(wanted) = wanted.get_mut(&info.datacenter).filter(|wanted| **wanted > 0) else {
                continue;
            };
            if !used_racks.insert((info.datacenter.as_str(), info.rack.as_str())) {
                match spare.get_mut(info.datacenter.as_str()).filter(|spare| **spare > 0) {
                    Some(spare) => *spare -= 1,
                    None => continue,
                }
            }
            *wanted -= 1;
            replicas.push(node);
        }
        replicas
    }

    /// The nodes to try for a request, best first: healthy replicas with the fewest requests waiting, then the
    /// other healthy nodes of the local datacenter, then the silent ones. Nodes without a connection are left out.
    pub(super) fn plan(&self, token: Option<i64>, turn: usize) -> Vec<Arc<Node>> {
        let replicas = token.map(|token| self.replicas(token)).unwrap_or_default();
        let count = self.nodes.len().max(1);
        let mut plan: Vec<_> = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| self.is_local(node) && node.health() != Health::Down)
            .map(|(index, node)| {
                let is_replica = replicas.iter().any(|replica| Arc::ptr_eq(replica, node));
                // The turn spreads equals, so that one idle node is not everybody's first choice.
                ((node.health(), !is_replica, node.in_flight(), (index + turn) % count), node)
            })
            .collect();
        plan.sort_by_key(|(rank, _)| *rank);
        plan.into_iter().map(|(_, node)| node.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(last: u8, datacenter: &str, rack: &str, tokens: &[i64]) -> (Arc<Node>, Vec<i64>) {
        let address = SocketAddr::from(([127, 0, 0, last], 9042));
        let info = NodeInfo {
            address,
            host_id: uuid::Uuid::from_u128(last.into()),
            datacenter: datacenter.into(),
            rack: rack.into(),
        };
        (Node::new(info, 1), tokens.to_vec())
    }

    fn addresses(nodes: Vec<&Arc<Node>>) -> Vec<u8> {
        nodes
            .into_iter()
            .map(|node| match node.info.address.ip() {
                IpAddr::V4(ip) => ip.octets()[3],
                IpAddr::V6(_) => unreachable!("tests use v4"),
            })
            .collect()
    }

    #[test]
    fn simple_replicas_are_the_next_distinct_nodes_on_the_ring() {
        let nodes = vec![node(1, "dc", "r", &[0, 30]), node(2, "dc", "r", &[10]), node(3, "dc", "r", &[20])];
        let topology = Topology::new(nodes, Replication::Simple(2), "dc".into());
        assert_eq!(addresses(topology.replicas(5)), [2, 3]);
        assert_eq!(addresses(topology.replicas(10)), [2, 3]);
        assert_eq!(addresses(topology.replicas(25)), [1, 2]);
        assert_eq!(addresses(topology.replicas(31)), [1, 2]);
    }

    #[test]
    fn network_replicas_prefer_racks_that_have_none() {
        let nodes = vec![
            node(1, "dc", "a", &[0]),
            node(2, "dc", "a", &[10]),
            node(3, "dc", "b", &[20]),
            node(4, "other", "a", &[5]),
        ];
        let factors = BTreeMap::from([("dc".to_owned(), 2), ("other".to_owned(), 1)]);
        let topology = Topology::new(nodes, Replication::NetworkTopology(factors), "dc".into());
        assert_eq!(addresses(topology.replicas(-5)), [1, 4, 3]);
    }

    #[test]
    fn replication_is_read_from_the_system_table() {
        let options = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let simple =
            options(&[("class", "org.apache.cassandra.locator.SimpleStrategy"), ("replication_factor", "3")]);
        assert_eq!(Replication::parse(simple), Replication::Simple(3));
        let network = options(&[("class", "NetworkTopologyStrategy"), ("dc1", "3")]);
        assert_eq!(
            Replication::parse(network),
            Replication::NetworkTopology(BTreeMap::from([("dc1".into(), 3)]))
        );
    }
}
