//! Asks a server whether it is ready, in the protocol that its clients will speak: a port that is open promises
//! nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::Kind;
use crate::cassandra::{Session, probe, system};
use crate::config::{CassandraConfig, KafkaConfig};
use crate::kafka;

/// How long a healthy server may take to answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(3);

/// True once the server at `address` answers.
pub async fn answers(kind: Kind, address: SocketAddr) -> bool {
    match kind {
        Kind::Cassandra => probe::answers(address, ANSWER_DEADLINE).await,
        Kind::Zookeeper => {
            let answer = ask(address, b"srvr", 17).await;
            answer.is_some_and(|answer| answer.starts_with(b"Zookeeper version"))
        }
        Kind::Kafka => broker_answers(address).await,
        Kind::Prometheus => page_answers(address, "/-/ready").await,
        Kind::NodeExporter => page_answers(address, "/").await,
        Kind::Grafana => page_answers(address, "/api/health").await,
    }
}

/// The first bytes of the answer, up to `length` of them; `None` where there is none in time.
async fn ask(address: SocketAddr, question: &[u8], length: u64) -> Option<Vec<u8>> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(question).await?;
        let mut answer = Vec::new();
        stream.take(length).read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    timeout(ANSWER_DEADLINE, exchange).await.ok()?.ok()
}

/// Whether an HTTP server answers 200 to a GET of `path`.
pub async fn page_answers(address: SocketAddr, path: &str) -> bool {
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    // "HTTP/1.1 200", or 1.0 in answer to 1.0.
    let answer = ask(address, request.as_bytes(), 12).await;
    answer.is_some_and(|answer| answer.starts_with(b"HTTP/1.") && answer.ends_with(b" 200"))
}

/// Resolves once ZooKeeper at `address` does not remember the broker with this id. One that was killed is remembered until
/// its session ends, and until then its successor is refused and ends.
pub async fn broker_is_forgotten(address: SocketAddr, id: u16) {
    let node = format!("/brokers/ids/{id}");
    // `dump` lists the sessions and the nodes that end with them.
    while let Some(dump) = ask(address, b"dump", 64 * 1024).await {
        if !String::from_utf8_lossy(&dump).lines().any(|line| line.trim() == node) {
            return;
        }
        sleep(Duration::from_millis(250)).await;
    }
}

/// Resolves once each of these brokers lists all of them.
pub async fn brokers_are_registered(brokers: &[SocketAddr]) {
    loop {
        let listed = brokers.iter().map(|&broker| kafka_at(broker)).map(async |config| {
            kafka::topics::brokers(&config).await.is_ok_and(|listed| listed == brokers.len())
        });
        if join_all(listed).await.into_iter().all(|all| all) {
            return;
        }
        sleep(Duration::from_millis(250)).await;
    }
}

fn kafka_at(address: SocketAddr) -> KafkaConfig {
    KafkaConfig {
        bootstrap_servers: vec![address.to_string()],
        request_timeout: ANSWER_DEADLINE,
        ..Default::default()
    }
}

async fn broker_answers(address: SocketAddr) -> bool {
    // A plain connection first: the client library logs an error per attempt while nothing listens.
    if !matches!(timeout(ANSWER_DEADLINE, TcpStream::connect(address)).await, Ok(Ok(_))) {
        return false;
    }
    // An answer without a broker in it comes before the broker has registered, and refuses new topics.
    kafka::topics::brokers(&kafka_at(address)).await.is_ok_and(|brokers| brokers > 0)
}

/// Resolves once a client finds all nodes and every node reaches the replicas of every token range. Each node answers
/// clients some time before it knows the others and takes them for alive; until then, quorums are refused.
pub async fn ring_is_whole(nodes: &[SocketAddr]) {
    loop {
        if let Some(replicas) = replicas_once_all_are_found(nodes).await {
            let reach = nodes.iter().map(|&node| probe::reaches_replicas(node, replicas, ANSWER_DEADLINE));
            if join_all(reach).await.into_iter().all(|reached| reached) {
                return;
            }
        }
        sleep(Duration::from_millis(250)).await;
    }
}

/// How many replicas every node must reach; `None` unless a session finds all nodes up.
async fn replicas_once_all_are_found(nodes: &[SocketAddr]) -> Option<usize> {
    let config = CassandraConfig {
        contact_points: nodes.iter().map(SocketAddr::to_string).collect(),
        ..Default::default()
    };
    let session = timeout(Duration::from_secs(10), Session::connect(&config)).await.ok()?.ok()?;
    for _ in 0..20 {
        if session.nodes().iter().filter(|node| node.is_up).count() == nodes.len() {
            let keyspaces = system::keyspaces(&session).await.ok()?;
            let keyspace = keyspaces.iter().find(|(name, _)| name == probe::REPLICATED_KEYSPACE);
            return keyspace.map(|(_, options)| replicas(options, nodes.len()));
        }
        sleep(Duration::from_millis(250)).await;
    }
    None
}

/// A keyspace's replication factor, summed over datacenters, and never more than there are nodes: a decommission may
/// have lowered the factor below the number of nodes, and a new cluster of one node has a factor of three.
fn replicas(options: &BTreeMap<String, String>, nodes: usize) -> usize {
    let factors = options.iter().filter(|(key, _)| *key != "class");
    let factor: usize = factors.filter_map(|(_, factor)| factor.parse::<usize>().ok()).sum();
    factor.clamp(1, nodes.max(1))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A server that answers every request with this.
    async fn page(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_exact(&mut [0; 3]).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        address
    }

    #[tokio::test]
    async fn a_prometheus_that_still_replays_its_log_is_not_ready() {
        assert!(answers(Kind::Prometheus, page("HTTP/1.0 200 OK\r\n\r\nready").await).await);
        let starting = page("HTTP/1.0 503 Service Unavailable\r\n\r\n").await;
        assert!(!answers(Kind::Prometheus, starting).await);
        assert!(!answers(Kind::NodeExporter, "127.0.0.1:1".parse().unwrap()).await);
    }

    #[test]
    fn a_ring_is_whole_at_the_replication_that_the_keyspace_has_now() {
        let replicas = |options: &[(&str, &str)], nodes| {
            let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            replicas(&options.collect(), nodes)
        };
        let simple =
            |factor, nodes| replicas(&[("class", "SimpleStrategy"), ("replication_factor", factor)], nodes);
        assert_eq!(simple("3", 3), 3);
        assert_eq!(simple("3", 1), 1, "a new cluster of one node");
        assert_eq!(simple("1", 2), 1, "lowered by a decommission, and a node added since");
        assert_eq!(simple("2", 3), 2);
        assert_eq!(replicas(&[("class", "NetworkTopologyStrategy"), ("dc1", "1"), ("dc2", "1")], 3), 2);
    }

    #[tokio::test]
    async fn a_port_that_is_closed_is_no_answer() {
        assert!(!answers(Kind::Cassandra, "127.0.0.1:1".parse().unwrap()).await);
        assert!(!answers(Kind::Zookeeper, "127.0.0.1:1".parse().unwrap()).await);
    }
}
