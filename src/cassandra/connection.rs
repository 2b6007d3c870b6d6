//! One connection to one node: cdrs-tokio's transport, plain or TLS, with a deadline on opening and a cap on the
//! requests in flight.
//!
//! The cap matters for more than fairness: the driver numbers requests with 15 bits and wraps, and a number that
//! wraps onto a pending request gets the older answer.

use std::net::SocketAddr;
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
use tokio::sync::Semaphore;

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
        match tokio::time::timeout(self.connect_timeout, self.handshake(node)).await {
            Ok(Ok(transport)) => Ok(Connection { transport, permits: Semaphore::new(MAX_IN_FLIGHT) }),
            Ok(Err(error)) => Err(Error::from_driver(error, node)),
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
        let decoder = ProtocolFrameEncodingFactory.create_decoder(VERSION, compression);
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
