//! Which servers belong to a data directory: decided by the `up` that makes it, kept in its marker file, and the
//! same for every later one, because data that three nodes share cannot be had by one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::bail;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::Kind;
use super::kafka;
use super::layout::Layout;
use super::process::{read_json, write_json};
use crate::config::LocalConfig;
use crate::error::UsageError;
use crate::output::text::plural;

/// More would be no use on one machine, and each takes most of a gigabyte.
pub const MAX_NODES: u32 = 9;

/// What keeps Kafka's metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum KafkaMode {
    /// Kafka 4 by itself
    #[default]
    Kraft,
    /// Kafka 3.9 with a ZooKeeper
    Zookeeper,
}

/// A Cassandra node of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalNode {
    /// `cassandra-1` has 0. Its address and its JMX port are so much above the cluster's first ones.
    pub index: u16,
    /// Whether the others ask it who is there. It was here from the start: what joins later streams its data first, and
    /// a seed never does.
    pub is_seed: bool,
}

impl LocalNode {
    pub fn name(self) -> String {
        format!("cassandra-{}", self.index + 1)
    }
}

/// The servers that a data directory is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Cassandra nodes, in order.
    #[serde(deserialize_with = "nodes")]
    pub nodes: Vec<LocalNode>,
    pub kafka: KafkaMode,
    /// Number of Kafka brokers, each of them a controller too.
    #[serde(default = "one")]
    pub brokers: u16,
    /// The id that the storage of every broker is formatted with.
    #[serde(default = "kafka::cluster_id")]
    pub kafka_id: String,
    pub address: Ipv4Addr,
    /// False until all servers of the first start have answered. Data of a start that never got there is thrown
    /// away by the next one.
    pub is_complete: bool,
    /// With `--monitoring`: the agent in each JVM, and these servers, which were installed.
    #[serde(default)]
    pub monitoring: Option<Vec<Kind>>,
}

fn one() -> u16 {
    1
}

/// Markers of old hold the number of nodes: nobody could join or leave.
fn nodes<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<LocalNode>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Nodes {
        Count(u16),
        Each(Vec<LocalNode>),
    }
    Ok(match Nodes::deserialize(deserializer)? {
        Nodes::Count(count) => (0..count).map(|index| LocalNode { index, is_seed: true }).collect(),
        Nodes::Each(nodes) => nodes,
    })
}

/// One server of a cluster, whether it runs or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub name: String,
    pub kind: Kind,
    /// Where its clients connect.
    pub address: SocketAddr,
    /// Counts from 0 among servers of its kind.
    pub index: u16,
}

#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    #[serde(rename = "made by")]
    made_by: String,
    cluster: Option<Cluster>,
}

impl std::fmt::Display for KafkaMode {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Kraft => "kraft",
            Self::Zookeeper => "zookeeper",
        })
    }
}

/// "3 nodes with Kafka (kraft) at 127.0.0.1".
impl std::fmt::Display for Cluster {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let nodes = self.nodes.len();
        let Self { kafka, address, brokers, .. } = self;
        let brokers = if *brokers == 1 { "Kafka".to_owned() } else { format!("{brokers} Kafka brokers") };
        let nodes = plural(nodes, "Cassandra node");
        write!(formatter, "{nodes} and {brokers} ({kafka}) at {address}")
    }
}

impl Cluster {
    /// A cluster with one broker whose nodes all start at once, on no data.
    pub fn fresh(nodes: u32, mode: KafkaMode, address: Ipv4Addr) -> Self {
        let count = u16::try_from(nodes).unwrap_or(u16::MAX);
        let nodes = (0..count).map(|index| LocalNode { index, is_seed: true }).collect();
        let kafka_id = kafka::cluster_id();
        Self { nodes, kafka: mode, brokers: 1, kafka_id, address, is_complete: false, monitoring: None }
    }

    /// Marks a directory as ours before there is anything in it.
    pub fn mark(layout: &Layout) -> anyhow::Result<()> {
        Self::write(layout, None)
    }

    pub fn save(&self, layout: &Layout) -> anyhow::Result<()> {
        Self::write(layout, Some(self.clone()))
    }

    fn write(layout: &Layout, cluster: Option<Cluster>) -> anyhow::Result<()> {
        write_json(&layout.marker(), &Marker { made_by: "iotctl up".into(), cluster })
    }

    /// The cluster of this directory; `None` where no `up` has got as far as starting a server.
    pub fn load(layout: &Layout) -> anyhow::Result<Option<Self>> {
        match layout.is_ours() {
            true => Ok(read_json::<Marker>(&layout.marker())?.cluster),
            false => Ok(None),
        }
    }

    /// True where what is asked for is this cluster: what is left out is as it was.
    pub fn answers(
        &self,
        nodes: Option<u32>,
        brokers: Option<u16>,
        kafka: Option<KafkaMode>,
        address: Ipv4Addr,
    ) -> bool {
        nodes.is_none_or(|nodes| nodes as usize == self.nodes.len())
            && brokers.is_none_or(|brokers| brokers == self.brokers)
            && kafka.is_none_or(|kafka| kafka == self.kafka)
            && address == self.address
    }

    /// The indexes and addresses of the seeds.
    pub fn seeds(&self, config: &LocalConfig) -> anyhow::Result<Vec<(u16, IpAddr)>> {
        let seeds = self.nodes.iter().filter(|node| node.is_seed);
        seeds.map(|node| Ok((node.index, self.server(*node, config)?.address.ip()))).collect()
    }

    /// The server of a node that is, or is to be, one of this cluster.
    pub fn server(&self, node: LocalNode, config: &LocalConfig) -> anyhow::Result<Server> {
        let address = SocketAddr::from((node_address(self.address, node.index)?, config.cassandra_port));
        Ok(Server { name: node.name(), kind: Kind::Cassandra, address, index: node.index })
    }

    /// The Kafka brokers. They take the following addresses, as the nodes do.
    pub fn brokers(&self, config: &LocalConfig) -> anyhow::Result<Vec<Server>> {
        (0..self.brokers)
            .map(|index| {
                let address = SocketAddr::from((node_address(self.address, index)?, config.kafka_port));
                let name = match self.brokers {
                    1 => Kind::Kafka.to_string(),
                    _ => format!("{}-{}", Kind::Kafka, index + 1),
                };
                Ok(Server { name, kind: Kind::Kafka, address, index })
            })
            .collect()
    }

    /// Its servers, in the order in which they are shown.
    pub fn servers(&self, config: &LocalConfig) -> anyhow::Result<Vec<Server>> {
        let mut servers = Vec::new();
        for node in &self.nodes {
            servers.push(self.server(*node, config)?);
        }
        let single = |kind: Kind, port| Server {
            name: kind.to_string(),
            kind,
            address: SocketAddr::from((self.address, port)),
            index: 0,
        };
        if self.kafka == KafkaMode::Zookeeper {
            servers.push(single(Kind::Zookeeper, config.zookeeper_port));
        }
        servers.extend(self.brokers(config)?);
        for kind in self.monitoring.iter().flatten() {
            let port = match kind {
                Kind::Prometheus => config.prometheus_port,
                Kind::NodeExporter => config.node_exporter_port,
                Kind::Grafana => config.grafana_port,
                Kind::Cassandra | Kind::Kafka | Kind::Zookeeper => continue,
            };
            servers.push(single(*kind, port));
        }
        Ok(servers)
    }
}

/// The address of the node with this index: the following ones, all of them loopback.
fn node_address(first: Ipv4Addr, index: u16) -> anyhow::Result<Ipv4Addr> {
    let address = u32::from(first).checked_add(index.into()).map(Ipv4Addr::from);
    match address.filter(|address| first.is_loopback() && address.is_loopback()) {
        // The last one of all is the network's broadcast address.
        Some(address) if address != Ipv4Addr::new(127, 255, 255, 255) => Ok(address),
        _ => bail!(UsageError::new(format!(
            "{first} and the {index} addresses after it are not all in 127.0.0.0/8 (set local.address)"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(nodes: u32, kafka: KafkaMode, address: [u8; 4]) -> Cluster {
        let kafka_id = "0123456789abcdef01234A".into();
        Cluster { is_complete: true, kafka_id, ..Cluster::fresh(nodes, kafka, address.into()) }
    }

    #[test]
    fn several_brokers_have_numbers_and_the_following_addresses_and_one_has_not() {
        let names = |brokers| -> Vec<String> {
            let cluster = Cluster { brokers, ..cluster(1, KafkaMode::Kraft, [127, 0, 0, 1]) };
            let servers = cluster.servers(&LocalConfig::default()).unwrap();
            servers[1..].iter().map(|server| format!("{} {}", server.name, server.address)).collect()
        };
        assert_eq!(names(1), ["kafka 127.0.0.1:9092"]);
        assert_eq!(names(3), ["kafka-1 127.0.0.1:9092", "kafka-2 127.0.0.2:9092", "kafka-3 127.0.0.3:9092"]);
    }

    #[test]
    fn nodes_take_the_following_addresses_on_the_same_port() {
        let servers =
            cluster(3, KafkaMode::Zookeeper, [127, 0, 0, 254]).servers(&LocalConfig::default()).unwrap();
        let shown: Vec<_> =
            servers.iter().map(|server| format!("{} {}", server.name, server.address)).collect();
        assert_eq!(
            shown,
            [
                "cassandra-1 127.0.0.254:9042",
                "cassandra-2 127.0.0.255:9042",
                "cassandra-3 127.0.1.0:9042",
                "zookeeper 127.0.0.254:2181",
                "kafka 127.0.0.254:9092",
            ]
        );
    }

    #[test]
    fn a_marker_that_counts_its_nodes_is_understood() {
        let text = r#"{"nodes": 3, "kafka": "kraft", "address": "127.0.0.1", "is_complete": true}"#;
        let read: Cluster = serde_json::from_str(text).unwrap();
        let kafka_id = read.kafka_id.clone();
        assert_eq!(read, Cluster { kafka_id, ..cluster(3, KafkaMode::Kraft, [127, 0, 0, 1]) });
        let again: Cluster = serde_json::from_str(&serde_json::to_string(&read).unwrap()).unwrap();
        assert_eq!(again, read);
    }

    #[test]
    fn no_node_leaves_loopback() {
        for first in [[10, 0, 0, 1], [127, 255, 255, 254]] {
            let error = cluster(2, KafkaMode::Kraft, first).servers(&LocalConfig::default()).unwrap_err();
            assert!(error.to_string().contains("set local.address"), "{error}");
        }
    }

    #[test]
    fn what_is_left_out_is_as_it_was() {
        let cluster = cluster(3, KafkaMode::Kraft, [127, 0, 0, 1]);
        let home = Ipv4Addr::LOCALHOST;
        assert!(cluster.answers(None, None, None, home));
        assert!(cluster.answers(Some(3), Some(1), Some(KafkaMode::Kraft), home));
        assert!(!cluster.answers(Some(1), None, None, home));
        assert!(!cluster.answers(None, Some(3), None, home));
        assert!(!cluster.answers(None, None, Some(KafkaMode::Zookeeper), home));
        assert!(!cluster.answers(None, None, None, [127, 0, 0, 9].into()));
    }
}
