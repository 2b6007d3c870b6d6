//! Questions to one node that is starting, each on a connection of its own and in the bytes of the native protocol v4:
//! a session would need a whole cluster to begin with.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const STARTUP: u8 = 1;
const READY: u8 = 2;
const OPTIONS: u8 = 5;
const SUPPORTED: u8 = 6;
const QUERY: u8 = 7;
const RESULT: u8 = 8;

/// Whether the node answers the first question of every driver: OPTIONS, section 4.1.3.
pub async fn answers(address: SocketAddr, deadline: Duration) -> bool {
    ask(address, &[(frame(OPTIONS, &[]), SUPPORTED)], deadline).await
}

/// The keyspace whose replicas [`reaches_replicas`] asks.
pub const REPLICATED_KEYSPACE: &str = "system_distributed";

/// Whether the node reaches `replicas` replicas of every token range: it reads a whole table of
/// [`REPLICATED_KEYSPACE`] at consistency ONE, TWO or THREE. More than the keyspace's replication factor are never
/// reached, however healthy the cluster is.
pub async fn reaches_replicas(address: SocketAddr, replicas: usize, deadline: Duration) -> bool {
    // Nearly always empty.
    const CQL: &str = "SELECT keyspace_name FROM system_distributed.view_build_status";
    let consistency = replicas.clamp(1, 3) as u8;
    let mut query = (CQL.len() as u32).to_be_bytes().to_vec();
    query.extend(CQL.as_bytes());
    query.extend([0, consistency, 0]);
    // STARTUP is answered by READY, which has no body, and QUERY by RESULT: sections 4.1 and 4.2.
    let startup = frame(STARTUP, b"\x00\x01\x00\x0bCQL_VERSION\x00\x053.0.0");
    ask(address, &[(startup, READY), (frame(QUERY, &query), RESULT)], deadline).await
}

/// Sends each request in turn; whether each was answered with the opcode that belongs to it.
async fn ask(address: SocketAddr, requests: &[(Vec<u8>, u8)], deadline: Duration) -> bool {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        for (request, expected) in requests {
            stream.write_all(request).await?;
            let mut header = [0; 9];
            stream.read_exact(&mut header).await?;
            if header[4] != *expected {
                return Ok(false);
            }
        }
        std::io::Result::Ok(true)
    };
    matches!(timeout(deadline, exchange).await, Ok(Ok(true)))
}

fn frame(opcode: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![4, 0, 0, 0, opcode];
    frame.extend((body.len() as u32).to_be_bytes());
    frame.extend(body);
    frame
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(3);

    /// A node that answers its requests with these opcodes.
    async fn node(opcodes: Vec<u8>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for opcode in opcodes {
                let mut header = [0; 9];
                stream.read_exact(&mut header).await.unwrap();
                let length = u32::from_be_bytes(header[5..].try_into().unwrap());
                stream.read_exact(&mut vec![0; length as usize]).await.unwrap();
                stream.write_all(&[0x84, 0, 0, 0, opcode, 0, 0, 0, 0]).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn a_node_that_refuses_the_consistency_does_not_reach_its_replicas() {
        assert!(reaches_replicas(node(vec![READY, RESULT]).await, 3, DEADLINE).await);
        assert!(!reaches_replicas(node(vec![READY, 0]).await, 3, DEADLINE).await);
    }

    #[tokio::test]
    async fn an_open_port_that_speaks_another_protocol_is_no_answer() {
        assert!(answers(node(vec![SUPPORTED]).await, DEADLINE).await);
        assert!(!answers(node(vec![0]).await, DEADLINE).await);
        assert!(!answers("127.0.0.1:1".parse().unwrap(), DEADLINE).await);
    }
}
