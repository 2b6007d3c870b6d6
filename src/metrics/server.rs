//! The HTTP endpoint: /metrics for Prometheus, /healthz (the process works or can be waited for), /readyz (its work
//! advances). Where there is a login, the probes are open all the same, but say why they fail only to who is logged in.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{Registry, TextEncoder};

use super::{Health, renewal};
use crate::http::{Access, Caller, Gate, Refused, Server, Site};
use crate::shutdown::Shutdown;

const SITE: Site = Site { refusal, open: &["/healthz", "/readyz"], sign_in: None };

/// Binds `address` and serves until shutdown. Returns the bound address (useful with port 0).
///
/// # Errors
/// The address cannot be bound.
pub async fn serve(
    address: SocketAddr,
    access: Access,
    registry: Registry,
    health: Health,
    shutdown: Shutdown,
) -> anyhow::Result<SocketAddr> {
    let server = Server::bind(address, access, || {
        format!("cannot serve metrics on {address} (choose another --metrics-addr)")
    })
    .await?;
    let bound = server.address();
    server.register(&registry)?;
    renewal::register(&registry)?;
    let liveness =
        async |State(health): State<Health>, request: Request| probe(health.liveness(), "ok", &request);
    let readiness =
        async |State(health): State<Health>, request: Request| probe(health.readiness(), "ready", &request);
    let probes = Router::new().route("/healthz", get(liveness)).route("/readyz", get(readiness));
    let routes =
        Router::new().route("/metrics", get(metrics)).with_state(registry).merge(probes.with_state(health));
    tokio::spawn(server.serve(routes, SITE, shutdown));
    Ok(bound)
}

fn refusal(refused: &Refused) -> Response {
    (refused.status(), format!("{}\n", refused.text())).into_response()
}

async fn metrics(State(registry): State<Registry>) -> impl IntoResponse {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(text) => (StatusCode::OK, [(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn probe(state: Result<(), String>, answer: &str, request: &Request) -> (StatusCode, String) {
    // The reason can name servers.
    let extensions = request.extensions();
    let is_stranger = extensions.get::<Gate>().is_some() && extensions.get::<Caller>().is_none();
    match state {
        Ok(()) => (StatusCode::OK, format!("{answer}\n")),
        Err(_) if is_stranger => (StatusCode::SERVICE_UNAVAILABLE, format!("not {answer}\n")),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not {answer}: {reason}\n")),
    }
}
