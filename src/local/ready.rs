//! Asks a server whether it is ready, in the protocol that its clients will speak: a port that is open promises
//! nothing.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::Kind;
use crate::cassandra::Session;
use crate::config::{CassandraConfig, KafkaConfig};
use crate::kafka;

/// How long a server that is well may take to answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(3);

/// True once the server at `address` answers.
pub async fn answers(kind: Kind, address: SocketAddr) -> bool {
    match kind {
        // OPTIONS, and SUPPORTED in return: native protocol v4, section 4.1.3.
        Kind::Cassandra => {
            let answer = ask(address, &[4, 0, 0, 0, 5, 0, 0, 0, 0], 5).await;
            answer.is_some_and(|answer| answer.get(4) == Some(&6))
        }
        Kind::Zookeeper => {
            let answer = ask(address, b"srvr", 17).await;
            answer.is_some_and(|answer| answer.starts_with(b"Zookeeper version"))
        }
        Kind::Kafka => broker_answers(address).await,
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

/// Resolves once ZooKeeper at `address` remembers no broker. One that was killed is remembered until its session
/// ends, and until then its successor is refused and ends.
pub async fn broker_is_forgotten(address: SocketAddr) {
    // `dump` lists the sessions and the nodes that end with them.
    while let Some(dump) = ask(address, b"dump", 64 * 1024).await {
        if !String::from_utf8_lossy(&dump).contains("/brokers/ids/") {
            return;
        }
        sleep(Duration::from_millis(250)).await;
    }
}

async fn broker_answers(address: SocketAddr) -> bool {
    // Knocking first spares the log the client library's complaints while there is nobody to talk to.
    if !matches!(timeout(ANSWER_DEADLINE, TcpStream::connect(address)).await, Ok(Ok(_))) {
        return false;
    }
    let config = KafkaConfig {
        bootstrap_servers: vec![address.to_string()],
        request_timeout: ANSWER_DEADLINE,
        ..Default::default()
    };
    // A list of topics without this one is an answer.
    matches!(
        kafka::topics::describe(&config, "iotctl-is-anybody-there").await,
        Ok(_) | Err(kafka::Error::MissingTopic { .. })
    )
}

/// Resolves once a session that starts at the first node has found all of them up. Each node answers for itself a
/// while before it knows the others.
pub async fn ring_is_whole(nodes: &[SocketAddr]) {
    let config = CassandraConfig {
        contact_points: nodes.iter().map(SocketAddr::to_string).collect(),
        ..Default::default()
    };
    loop {
        if let Ok(Ok(session)) = timeout(Duration::from_secs(10), Session::connect(&config)).await {
            for _ in 0..20 {
                let up = session.nodes().iter().filter(|node| node.is_up).count();
                if up == nodes.len() {
                    return;
                }
                sleep(Duration::from_millis(250)).await;
            }
        }
        sleep(Duration::from_millis(250)).await;
    }
}
