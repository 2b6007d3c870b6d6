//! One connection to one node: cdrs-tokio's transport, plain or TLS, with a deadline on opening and a cap on the
//! requests in flight.
//!
//! The cap matters for more than fairness: the driver numbers requests with 15 bits and wraps, and a number that
//! wraps onto a pending request gets the older answer.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use cassandra_protocol::authenticators::{
    NoneAuthenticatorProvider, SaslAuthenticatorProvider, StaticPasswordAuthenticatorProvider,
};
use cassandra_protocol::compression::Compression;
use cassandra_protocol::frame::{Envelope, Version};
use cdrs_tokio::cluster::{KeyspaceHolder, startup};
use cdrs_tokio::frame_encoding::{FrameEncodingFactory, ProtocolFrameEncodingFactory};
use cdrs_tokio::transport::{CdrsTransport, TransportRustls, TransportTcp};
use futures::FutureExt;
use tokio::sync::Semaphore;

use super::frames::{Frames, Greeted};
use super::tls::Tls;
use super::{Error, VERSION};
use crate::config::CassandraConfig;

/// Requests that may wait for an answer on one connection.
const MAX_IN_FLIGHT: usize = 1024;
/// Requests that may wait to be written.
const WRITE_QUEUE: usize = 256;

/// How every connection of a session is opened.
pub(super) struct Connector {
    tls: Option<Tls>,
    authenticator: Arc<dyn SaslAuthenticatorProvider + Send + Sync>,
    connect_timeout: Duration,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Connector").field("tls", &self.tls.is_some()).finish_non_exhaustive()
    }
}

impl Connector {
    pub fn new(config: &CassandraConfig) -> Result<Self, Error> {
        let authenticator: Arc<dyn SaslAuthenticatorProvider + Send + Sync> =
            match (&config.username, &config.password) {
                (Some(username), Some(password)) => {
                    Arc::new(StaticPasswordAuthenticatorProvider::new(username.as_str(), password.expose()))
                }
                _ => Arc::new(NoneAuthenticatorProvider),
            };
        let tls = config.tls.enabled.then(|| Tls::new(&config.tls)).transpose()?;
        Ok(Self { tls, authenticator, connect_timeout: config.connect_timeout })
    }

    /// Opens a connection, through TLS and login, within the connect timeout.
    pub async fn open(&self, node: SocketAddr) -> Result<Connection, Error> {
        // What comes before the login is over is read by the driver alone, which panics where a length lies.
        let handshake = AssertUnwindSafe(self.handshake(node)).catch_unwind();
        match tokio::time::timeout(self.connect_timeout, handshake).await {
            Ok(Err(_panic)) => {
                Err(Error::Protocol { node, message: "an answer to the login that is malformed".into() })
            }
            Ok(Ok(Ok(transport))) => Ok(Connection { transport, permits: Semaphore::new(MAX_IN_FLIGHT) }),
            Ok(Ok(Err(error))) => Err(Error::from_driver(error, node)),
            Err(_) => Err(Error::Connection {
                node,
                message: format!("no connection within {:?}", self.connect_timeout),
            }),
        }
    }

    async fn handshake(&self, node: SocketAddr) -> cassandra_protocol::error::Result<Transport> {
        // The driver's connections follow `USE`; ours never use one, every statement names its keyspace.
        let keyspace = Arc::new(KeyspaceHolder::new(tokio::sync::watch::channel(None).0));
        let compression = Compression::None;
        let encoder = ProtocolFrameEncodingFactory.create_encoder(VERSION, compression);
        let greeted = Greeted::default();
        let decoder = Box::new(Frames::new(greeted.clone()));
        let transport = match &self.tls {
            None => Transport::Tcp(
                TransportTcp::new(
                    node,
                    keyspace.clone(),
                    None,
                    None,
                    compression,
                    encoder,
                    decoder,
                    WRITE_QUEUE,
                    true,
                )
                .await?,
            ),
            Some(tls) => Transport::Tls(
                TransportRustls::new(
                    node,
                    tls.server_name(node),
                    tls.client_config(),
                    keyspace.clone(),
                    None,
                    None,
                    compression,
                    encoder,
                    decoder,
                    WRITE_QUEUE,
                    true,
                )
                .await?,
            ),
        };
        let authenticator = self.authenticator.as_ref();
        match &transport {
            Transport::Tcp(tcp) => startup(tcp, authenticator, &keyspace, compression, VERSION).await?,
            Transport::Tls(tls) => startup(tls, authenticator, &keyspace, compression, VERSION).await?,
        }
        greeted.set();
        Ok(transport)
    }
}

enum Transport {
    Tcp(TransportTcp),
    Tls(TransportRustls),
}

/// An open connection. Dropping it ends it, and what is in flight on it fails.
pub(super) struct Connection {
    transport: Transport,
    permits: Semaphore,
}

impl Connection {
    /// Sends a request and waits for its answer, for as long as the caller cares to.
    pub async fn request(&self, node: SocketAddr, envelope: &Envelope) -> Result<Envelope, Error> {
        let _permit = self.permits.acquire().await.expect("the semaphore is never closed");
        let answer = match &self.transport {
            Transport::Tcp(transport) => transport.write_envelope(envelope, false).await,
            Transport::Tls(transport) => transport.write_envelope(envelope, false).await,
        };
        answer.map_err(|error| Error::from_driver(error, node))
    }

    /// Asks for nothing, to hear whether the node is there.
    pub async fn heartbeat(&self, node: SocketAddr) -> Result<(), Error> {
        self.request(node, &Envelope::new_req_options(VERSION)).await.map(|_| ())
    }

    pub fn is_broken(&self) -> bool {
        match &self.transport {
            Transport::Tcp(transport) => transport.is_broken(),
            Transport::Tls(transport) => transport.is_broken(),
        }
    }
}

/// Which native protocol this session speaks is one fact for all of it.
const _: () = assert!(matches!(VERSION, Version::V4));

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A node that answers the first request with `greeting` and each later one with `answer`; in both, the bytes
    /// after the first nine are the body, and the stream's number is the request's.
    async fn node(greeting: Vec<u8>, answer: Vec<u8>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            for number in 0.. {
                let mut header = [0; 9];
                let Ok(_) = socket.read_exact(&mut header).await else { return };
                let length = u32::from_be_bytes(header[5..].try_into().unwrap());
                let mut body = vec![0; length as usize];
                socket.read_exact(&mut body).await.unwrap();
                let mut bytes = if number == 0 { greeting.clone() } else { answer.clone() };
                bytes[2..4].copy_from_slice(&header[2..4]);
                socket.write_all(&bytes).await.unwrap();
            }
        });
        address
    }

    fn connector() -> Connector {
        Connector::new(&CassandraConfig { connect_timeout: Duration::from_secs(5), ..Default::default() })
            .unwrap()
    }

    const READY: [u8; 9] = [0x84, 0, 0, 0, 0x02, 0, 0, 0, 0];

    #[tokio::test]
    async fn a_malformed_answer_fails_the_request_at_once_and_ends_the_connection() {
        let short_error = vec![0x84, 0, 0, 0, 0x00, 0, 0, 0, 2, 0, 0];
        let no_kind = vec![0x84, 0, 0, 0, 0x08, 0, 0, 0, 0];
        let many_warnings = vec![0x84, 8, 0, 0, 0x08, 0, 0, 0, 2, 0xFF, 0xFF];
        let negative = vec![0x84, 0, 0, 0, 0x08, 0xFF, 0xFF, 0xFF, 0xFF];
        for answer in [short_error, no_kind, many_warnings, negative] {
            let address = node(READY.to_vec(), answer.clone()).await;
            let connection = connector().open(address).await.unwrap();
            let began = Instant::now();
            let error = connection.heartbeat(address).await.unwrap_err();
            assert!(matches!(error, Error::Connection { .. }), "{answer:x?}: {error}");
            assert!(began.elapsed() < Duration::from_secs(4), "{answer:x?} took {:?}", began.elapsed());
            assert!(connection.is_broken());
        }
    }

    #[tokio::test]
    async fn a_malformed_login_is_an_error_and_no_panic() {
        let lying = vec![0x84, 0, 0, 0, 0x03, 0, 0, 0, 2, 0x7F, 0xFF];
        let address = node(lying, READY.to_vec()).await;
        let Err(error) = connector().open(address).await else { panic!("it is no login") };
        assert!(matches!(error, Error::Protocol { .. }), "{error}");
    }
}
