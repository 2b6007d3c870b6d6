//! One connection to one node: cdrs-tokio's transport over a plain or an encrypted stream, with a deadline on opening
//! and a cap on the requests in flight.
//!
//! The cap matters for more than fairness: the driver numbers requests with 15 bits and wraps, and a number that
//! wraps onto a pending request gets the older answer.

use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use cassandra_protocol::authenticators::{
    NoneAuthenticatorProvider, SaslAuthenticatorProvider, StaticPasswordAuthenticatorProvider,
};
use cassandra_protocol::compression::Compression;
use cassandra_protocol::frame::{Envelope, Version};
use cdrs_tokio::cluster::{KeyspaceHolder, startup};
use cdrs_tokio::frame_encoding::{FrameEncodingFactory, ProtocolFrameEncodingFactory};
use cdrs_tokio::transport::{CdrsTransport, TransportTcp};
use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::frames::{Frames, Greeted};
use super::renewal::Renewal;
use super::tls::Tls;
use super::{Error, VERSION};
use crate::config::CassandraConfig;

/// Requests that may wait for an answer on one connection.
const MAX_IN_FLIGHT: usize = 1024;
/// Requests that may wait to be written.
const WRITE_QUEUE: usize = 256;

/// How every connection of a session is opened.
pub(super) struct Connector {
    renewal: Renewal,
    connect_timeout: Duration,
    has_warned: AtomicBool,
}

/// What a connection shows of itself: user, password and certificate, and whom it trusts.
pub(super) struct Login {
    tls: Option<Tls>,
    authenticator: Arc<dyn SaslAuthenticatorProvider + Send + Sync>,
    has_password: bool,
}

impl Login {
    /// Reads the files of TLS.
    pub(super) fn new(config: &CassandraConfig) -> Result<Self, Error> {
        let authenticator: Arc<dyn SaslAuthenticatorProvider + Send + Sync> =
            match (&config.username, &config.password) {
                (Some(username), Some(password)) => {
                    Arc::new(StaticPasswordAuthenticatorProvider::new(username.as_str(), password.expose()))
                }
                _ => Arc::new(NoneAuthenticatorProvider),
            };
        let tls = config.tls.enabled.then(|| Tls::new(&config.tls)).transpose()?;
        Ok(Self { tls, authenticator, has_password: config.password.is_some() })
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Connector").finish_non_exhaustive()
    }
}

impl Connector {
    pub(super) fn new(config: &CassandraConfig) -> Result<Self, Error> {
        Ok(Self {
            renewal: Renewal::new(config)?,
            connect_timeout: config.connect_timeout,
            has_warned: AtomicBool::new(false),
        })
    }

    /// Opens a connection, through TLS and login, within the connect timeout.
    pub(super) async fn open(&self, node: SocketAddr) -> Result<Connection, Error> {
        self.renew(node).await;
        self.open_by(&self.renewal.current(), node).await
    }

    /// If password or certificates have changed in their files, tries them on this node, and uses them from now on if it accepts them.
    pub(super) async fn renew(&self, node: SocketAddr) {
        let Some(attempt) = self.renewal.begin() else { return };
        let tried = match attempt.login() {
            Ok(login) => self.open_by(&login, node).await.map(|_| login),
            Err(error) => Err(error),
        };
        attempt.conclude(tried);
    }

    async fn open_by(&self, login: &Login, node: SocketAddr) -> Result<Connection, Error> {
        // What comes before the login is over is read by the driver alone, which panics where a length lies.
        let handshake = AssertUnwindSafe(self.handshake(login, node)).catch_unwind();
        match tokio::time::timeout(self.connect_timeout, handshake).await {
            Ok(Ok(result)) => result,
            Ok(Err(_panic)) => {
                Err(Error::Protocol { node, message: "an answer to the login that is malformed".into() })
            }
            Err(_) => Err(Error::Connection {
                node,
                message: format!("no connection within {:?}", self.connect_timeout),
            }),
        }
    }

    async fn handshake(&self, login: &Login, node: SocketAddr) -> Result<Connection, Error> {
        // The driver's connections follow `USE`; ours never use one, every statement names its keyspace.
        let keyspace = Arc::new(KeyspaceHolder::new(tokio::sync::watch::channel(None).0));
        let compression = Compression::None;
        let end = Arc::new(OnceLock::new());
        let stream = TcpStream::connect(node).await.map_err(|error| broken(node, &error))?;
        stream.set_nodelay(true).map_err(|error| broken(node, &error))?;
        if login.tls.is_none()
            && login.has_password
            && !node.ip().is_loopback()
            && !self.has_warned.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(%node, "the password goes over the network unencrypted (set cassandra.tls.enabled = true)");
        }
        let greeted = Greeted::default();
        let frames = Frames::new(greeted.clone());
        let transport = match &login.tls {
            None => transport(node, Observed { stream, end: end.clone() }, frames, &keyspace),
            Some(tls) => {
                let stream = tls.connect(node, stream).await?;
                transport(node, Observed { stream, end: end.clone() }, frames, &keyspace)
            }
        };
        let transport = transport.map_err(|error| broken(node, &error))?;
        match startup(&transport, login.authenticator.as_ref(), &keyspace, compression, VERSION).await {
            Ok(()) => {
                greeted.set();
                Ok(Connection { transport, permits: Semaphore::new(MAX_IN_FLIGHT) })
            }
            // The driver forgets why a stream ended. With TLS 1.3 a server refuses a client's certificate only now.
            Err(error) => Err(match (end.get(), &login.tls) {
                (None, _) => Error::from_driver(error, node),
                (Some(end), None) if end.is_hanging_up() => Error::Connection {
                    node,
                    message: "it hangs up on a connection without TLS (does it want it? set cassandra.tls.enabled = true)"
                        .into(),
                },
                // Its word for it may be lost with what it had not read yet.
                (Some(end), Some(tls)) if end.is_hanging_up() && !tls.has_own_certificate() => Error::Connection {
                    node,
                    message: "it hung up right after the TLS handshake: it asks for a certificate of this client, or is \
                              going down (set cassandra.tls.cert_file and cassandra.tls.key_file)"
                        .into(),
                },
                (Some(End::Closed), _) => {
                    Error::Connection { node, message: "it closed the connection".into() }
                }
                (Some(End::Failed(failure)), tls) => {
                    let refusal = tls.as_ref().and_then(|tls| tls.refusal(node, failure));
                    refusal.unwrap_or_else(|| broken(node, failure))
                }
            }),
        }
    }
}

fn transport<S: AsyncRead + AsyncWrite + Send + Sync + 'static>(
    node: SocketAddr,
    stream: S,
    frames: Frames,
    keyspace: &Arc<KeyspaceHolder>,
) -> io::Result<TransportTcp> {
    let compression = Compression::None;
    let encoder = ProtocolFrameEncodingFactory.create_encoder(VERSION, compression);
    TransportTcp::with_stream(
        stream,
        node,
        keyspace.clone(),
        None,
        None,
        compression,
        encoder,
        Box::new(frames),
        WRITE_QUEUE,
    )
}

fn broken(node: SocketAddr, error: &io::Error) -> Error {
    Error::Connection { node, message: error.to_string() }
}

/// How a stream ended.
#[derive(Debug)]
enum End {
    Closed,
    Failed(io::Error),
}

impl End {
    /// As servers do that read our first bytes and take them for nonsense.
    fn is_hanging_up(&self) -> bool {
        match self {
            Self::Closed => true,
            Self::Failed(error) => {
                matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
            }
        }
    }
}

/// A stream that keeps how it ended: the driver gives up at the first failure of either side.
struct Observed<S> {
    stream: S,
    end: Arc<OnceLock<End>>,
}

impl<S> Observed<S> {
    /// Keeps the failure, and gives its like back.
    fn failed(&self, error: io::Error) -> io::Error {
        let like = io::Error::new(error.kind(), error.to_string());
        let _ = self.end.set(End::Failed(error));
        like
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Observed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match ready!(Pin::new(&mut self.stream).poll_read(context, buffer)) {
            Ok(()) => {
                if buffer.filled().len() == before && buffer.remaining() > 0 {
                    let _ = self.end.set(End::Closed);
                }
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(self.failed(error))),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Observed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        Poll::Ready(written.map_err(|error| self.failed(error)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(context));
        Poll::Ready(flushed.map_err(|error| self.failed(error)))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// An open connection. Dropping it ends it, and what is in flight on it fails.
pub(super) struct Connection {
    transport: TransportTcp,
    permits: Semaphore,
}

impl Connection {
    /// Sends a request and waits for its answer, for as long as the caller cares to.
    pub(super) async fn request(&self, node: SocketAddr, envelope: &Envelope) -> Result<Envelope, Error> {
        let _permit = self.permits.acquire().await.expect("the semaphore is never closed");
        let answer = self.transport.write_envelope(envelope, false).await;
        answer.map_err(|error| Error::from_driver(error, node))
    }

    /// Asks for nothing, to hear whether the node is there.
    pub(super) async fn heartbeat(&self, node: SocketAddr) -> Result<(), Error> {
        self.request(node, &Envelope::new_req_options(VERSION)).await.map(|_| ())
    }

    pub(super) fn is_broken(&self) -> bool {
        self.transport.is_broken()
    }
}

/// Which native protocol this session speaks is one fact for all of it.
const _: () = assert!(matches!(VERSION, Version::V4));
