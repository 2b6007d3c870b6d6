//! The HTTP endpoint: /metrics for Prometheus, /healthz (the process works or can be waited for), /readyz (its work
//! advances).

use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{Registry, TextEncoder};

use super::Health;
use crate::http::{Server, host};
use crate::shutdown::Shutdown;

/// Binds `address` and serves until shutdown. Returns the bound address (useful with port 0).
///
/// # Errors
/// The address cannot be bound.
pub async fn serve(
    address: SocketAddr,
    registry: Registry,
    health: Health,
    shutdown: Shutdown,
) -> anyhow::Result<SocketAddr> {
    let server = Server::bind(address, || {
        format!("cannot serve metrics on {address} (choose another --metrics-addr)")
    })
    .await?;
    let bound = server.address();
    let probes = Router::new()
        .route("/healthz", get(async |State(health): State<Health>| probe(health.liveness(), "ok")))
        .route("/readyz", get(async |State(health): State<Health>| probe(health.readiness(), "ready")));
    let routes =
        Router::new().route("/metrics", get(metrics)).with_state(registry).merge(probes.with_state(health));
    tokio::spawn(server.serve(routes, refusal, shutdown));
    Ok(bound)
}

fn refusal() -> Response {
    (StatusCode::MISDIRECTED_REQUEST, format!("{}\n", host::REFUSED)).into_response()
}

async fn metrics(State(registry): State<Registry>) -> impl IntoResponse {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(text) => (StatusCode::OK, [(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn probe(state: Result<(), String>, answer: &str) -> (StatusCode, String) {
    match state {
        Ok(()) => (StatusCode::OK, format!("{answer}\n")),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not {answer}: {reason}\n")),
    }
}
