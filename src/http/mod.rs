//! The one way to serve HTTP: every listener of the program is a [`Server`].
//!
//! A listener must not harm the work of its process, so a server bounds what clients can take:
//!
//! | limit | effect |
//! |---|---|
//! | connections: [`MAX_CONNECTIONS`], and a quarter of the process's file descriptors | the oldest connection without a request makes room for a new one; if every connection has sent a request, the new one is closed |
//! | [`HEADER_TIMEOUT`] for a request's headers, and between two requests | the connection is closed |
//! | [`BUFFER_BYTES`] for a request's headers | the request is refused |
//! | [`GRACE`] after a shutdown | responses that take longer are cut off |
//!
//! [`client`] sends single requests.
//!
//! On a loopback address only requests whose `Host` is this machine are answered ([`host`]).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::shutdown::Shutdown;

pub(crate) mod client;
mod connections;
pub mod host;

use connections::{Connections, Place};

/// Maximum number of connections of a listener.
pub const MAX_CONNECTIONS: usize = 256;
/// How long a client may take for the headers of a request, and leave a connection idle between two requests.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Memory for a request's headers.
pub const BUFFER_BYTES: usize = 32 * 1024;
/// How long responses may take to finish after a shutdown was requested.
pub const GRACE: Duration = Duration::from_secs(5);
/// Pause after a failed accept, such as when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The response to a request that is not for this machine.
pub type Refusal = fn() -> Response;

/// A bound listener that does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    max_connections: usize,
    header_timeout: Duration,
}

impl Server {
    /// Binds `address`. `failure` is the error message, with its remedy, if that fails.
    ///
    /// # Errors
    /// The address is not this machine's, or in use.
    pub async fn bind(address: SocketAddr, failure: impl FnOnce() -> String) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(failure)?;
        let address = listener.local_addr()?;
        let max_connections = MAX_CONNECTIONS.min(connections::share_of_descriptors());
        Ok(Self { listener, address, max_connections, header_timeout: HEADER_TIMEOUT })
    }

    /// The bound address; with port 0, the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until shutdown is requested, and then until the responses in progress are sent, for at most [`GRACE`].
    pub async fn serve(self, routes: Router, refusal: Refusal, shutdown: Shutdown) {
        let checked = routes.layer(middleware::from_fn_with_state((self.address.ip(), refusal), check_host));
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
                let connection = Connection { place, header_timeout: self.header_timeout };
                tasks.spawn(connection.run(stream, service.clone(), shutdown.clone()));
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
}

impl Connection {
    async fn run(self, stream: TcpStream, service: TowerToHyperService<Router>, shutdown: Shutdown) {
        // A response is written at once, so there is nothing to wait for before sending it.
        let _ = stream.set_nodelay(true);
        let place = Arc::new(self.place);
        let noting = place.clone();
        let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
            noting.has_request();
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

async fn check_host(
    State((bound, refusal)): State<(std::net::IpAddr, Refusal)>,
    request: Request,
    next: Next,
) -> Response {
    match host::is_meant(bound, &request) {
        true => next.run(request).await,
        false => refusal(),
    }
}

#[cfg(test)]
mod tests;
