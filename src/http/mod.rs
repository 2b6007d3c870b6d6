//! The one way to serve HTTP: every listener of the program is a [`Server`].
//!
//! A listener must not harm the work of its process, so a server bounds what clients can take:
//!
//! | limit | effect |
//! |---|---|
//! | connections: [`MAX_CONNECTIONS`], and a quarter of the process's file descriptors | the oldest connection without a request makes room for a new one; if every connection has sent a request, the new one is closed |
//! | [`HEADER_TIMEOUT`] for a request's headers, and between two requests | the connection is closed |
//! | [`BUFFER_BYTES`] for a request's headers | the request is refused |
//! | [`WRITE_TIMEOUT`] without a byte of an answer that the client takes | the connection is closed and counted; a query whose rows are sent as they come ends |
//! | [`GRACE`] after a shutdown | responses that take longer are cut off |
//!
//! - [`access`]: what a listener asks of its clients: TLS and a login, by the settings. [`login`]: tokens and sessions.
//! - [`guard`]: who is let in. [`host`]: on a loopback address, only requests whose `Host` is this machine.
//! - [`stall`]: clients that stop reading. [`client`]: sends single requests. [`network`]: what counts as one client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::{Router, middleware};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus::core::Collector;
use prometheus::{IntCounter, Registry};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;

use crate::shutdown::Shutdown;
use crate::tls::server::ServerTls;

mod access;
pub(crate) mod client;
mod connections;
mod guard;
pub mod host;
pub mod login;
pub mod network;
mod stall;

pub use access::{Access, own_client};
use connections::{Connections, Place};
pub use guard::{CSRF_HEADER, Caller, Gate, Refused, Site};
use guard::{Guard, Peer};
use stall::Watched;

/// Maximum number of connections of a listener.
pub const MAX_CONNECTIONS: usize = 256;
/// How long a client may take for the headers of a request, and leave a connection idle between two requests.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Memory for a request's headers.
pub const BUFFER_BYTES: usize = 32 * 1024;
/// How long a client may take no byte of an answer.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long responses may take to finish after a shutdown was requested.
pub const GRACE: Duration = Duration::from_secs(5);
/// Pause after a failed accept, such as when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The first byte of a TLS connection.
const HANDSHAKE: u8 = 0x16;
/// What a client hears that does not speak TLS where it should.
const PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n\
                       this port speaks TLS (use https://)\n";

/// A bound listener that does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    access: Access,
    max_connections: usize,
    header_timeout: Duration,
    write_timeout: Duration,
    stalled: IntCounter,
}

/// What a listener counts, without a value, as the reference lists it too.
pub fn metrics() -> Vec<Box<dyn Collector>> {
    vec![Box::new(login::attempts()), Box::new(stall::counter())]
}

impl Server {
    /// Binds `address`. `failure` is the error message, with its remedy, if that fails.
    ///
    /// # Errors
    /// The address is not this machine's, or in use; or other machines could reach it as [`Access::check`] forbids.
    pub async fn bind(
        address: SocketAddr,
        access: Access,
        failure: impl FnOnce() -> String,
    ) -> anyhow::Result<Self> {
        access.check(address)?;
        let listener = TcpListener::bind(address).await.with_context(failure)?;
        let address = listener.local_addr()?;
        let max_connections = MAX_CONNECTIONS.min(connections::share_of_descriptors());
        Ok(Self {
            listener,
            address,
            access,
            max_connections,
            header_timeout: HEADER_TIMEOUT,
            write_timeout: WRITE_TIMEOUT,
            stalled: stall::counter(),
        })
    }

    /// The bound address; with port 0, the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Adds what this listener counts.
    ///
    /// # Errors
    /// The registry has the metrics of another listener.
    pub fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        if let Some(login) = self.access.login() {
            registry.register(Box::new(login.attempts()))?;
        }
        registry.register(Box::new(self.stalled.clone()))
    }

    /// Serves until shutdown is requested, and then until the responses in progress are sent, for at most [`GRACE`].
    pub async fn serve(self, routes: Router, site: Site, shutdown: Shutdown) {
        let Access { tls, .. } = &self.access;
        let guard = Guard::new(self.address, site, self.access.login().cloned(), tls.is_some());
        let checked = routes.layer(middleware::from_fn_with_state(Arc::new(guard), guard::check));
        let service = TowerToHyperService::new(checked);
        let connections = Connections::new(self.max_connections);
        let mut tasks = JoinSet::new();
        loop {
            let stream = tokio::select! {
                () = shutdown.requested() => break,
                Some(_) = tasks.join_next() => continue,
                stream = self.accept() => stream,
            };
            if let Some(place) = connections.admit().await {
                let connection = Connection { place, header_timeout: self.header_timeout, tls: tls.clone() };
                // A response is written at once, so there is nothing to wait for before sending it.
                let _ = stream.set_nodelay(true);
                let Ok(peer) = stream.peer_addr() else { continue };
                // Below TLS, which would hide how slowly its records leave.
                let stream = Watched::new(stream, self.write_timeout, self.stalled.clone());
                tasks.spawn(connection.run(stream, peer, service.clone(), shutdown.clone()));
            }
        }
        drop(self.listener);
        while tasks.join_next().await.is_some() {}
    }

    async fn accept(&self) -> TcpStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return stream,
                // The client's connection failed before it was accepted: only that client is concerned.
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, address = %self.address, "cannot accept HTTP connections, retrying");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

struct Connection {
    place: Place,
    header_timeout: Duration,
    tls: Option<ServerTls>,
}

impl Connection {
    async fn run(
        self,
        stream: Watched<TcpStream>,
        peer: SocketAddr,
        service: TowerToHyperService<Router>,
        shutdown: Shutdown,
    ) {
        let Some(tls) = self.tls.clone() else { return self.exchange(stream, peer, service, shutdown).await };
        let accepted = tokio::select! {
            accepted = tokio::time::timeout(self.header_timeout, handshake(&tls, stream)) => accepted,
            () = self.place.evicted() => return,
            () = shutdown.requested() => return,
        };
        match accepted {
            Ok(Ok(Some(stream))) => self.exchange(stream, peer, service, shutdown).await,
            Ok(Ok(None)) | Err(_) => {}
            Ok(Err(error)) => tracing::debug!(%error, %peer, "a TLS handshake failed"),
        }
    }

    async fn exchange<S>(
        self,
        stream: S,
        peer: SocketAddr,
        service: TowerToHyperService<Router>,
        shutdown: Shutdown,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let place = Arc::new(self.place);
        let noting = place.clone();
        let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
            noting.has_request();
            request.extensions_mut().insert(Peer(peer));
            hyper::service::Service::call(&service, request)
        });
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.header_timeout)
            .max_buf_size(BUFFER_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(serving);
        let ended = tokio::select! {
            ended = &mut serving => ended,
            () = place.evicted() => return,
            () = shutdown.requested() => {
                serving.as_mut().graceful_shutdown();
                match tokio::time::timeout(GRACE, serving).await {
                    Ok(ended) => ended,
                    Err(_) => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "an HTTP connection ended early");
        }
    }
}

/// The stream over TLS; `None` if the client does not speak TLS, which it is told.
async fn handshake(
    tls: &ServerTls,
    mut stream: Watched<TcpStream>,
) -> std::io::Result<Option<TlsStream<Watched<TcpStream>>>> {
    let mut first = [0];
    if stream.inner().peek(&mut first).await? == 1 && first[0] != HANDSHAKE {
        stream.write_all(PLAIN).await?;
        // Closed with bytes unread, the connection would be reset, and the answer with it.
        let _ = stream.inner().try_read(&mut [0; 4096]);
        stream.shutdown().await?;
        return Ok(None);
    }
    tls.acceptor().accept(stream).await.map(Some)
}

#[cfg(test)]
mod tests;
