//! `iotctl healthcheck`: whether an `ingest` or a `monitor` is healthy, for images without curl.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use rustls::ClientConfig;
use tokio::time::timeout;

use super::Context;
use super::flags::listen_address;
use crate::http::client::Endpoint;
use crate::http::own_client;
use crate::servers::local::ready;
use crate::tls;

/// Of an answer, and of its body in bytes.
const DEADLINE: Duration = Duration::from_secs(4);
const MAX_BODY: usize = 16 * 1024;
const TLS: tls::Settings = tls::Settings {
    ca: "http.cert_file",
    certificate: "http.cert_file",
    key: "http.key_file",
    off: "http.cert_file to nothing",
    name: "use the certificate of that listener",
};

/// Check that an ingest or a monitor is healthy.
///
/// Asks its HTTP endpoint, over TLS if http.cert_file is set as for the listener. Exit code 1 where it is not healthy or does not answer.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl healthcheck                    # an ingest on 127.0.0.1:9464
  iotctl healthcheck 9465 --ready       # whether a monitor has seen its servers")]
pub struct HealthcheckArgs {
    /// Address that was given as --metrics-addr
    #[arg(value_name = "[IP:]PORT", value_parser = listen_address, default_value = "9464")]
    pub address: SocketAddr,
    /// Check that it is ready, not only that it is alive
    #[arg(long)]
    pub ready: bool,
}

pub async fn run(args: HealthcheckArgs, context: Context) -> anyhow::Result<()> {
    let path = if args.ready { "/readyz" } else { "/healthz" };
    let is_healthy = match own_client(&context.config.http)? {
        Some(tls) => answers_over_tls(args.address, path, tls).await,
        None => ready::page_answers(args.address, path).await,
    };
    ensure!(
        is_healthy,
        "no healthy answer from {}{path} (start `iotctl ingest --metrics-addr {}`, or see its log)",
        args.address,
        args.address.port()
    );
    context.output.note("healthy");
    Ok(())
}

/// Whether a listener with the certificate of the settings answers 200.
async fn answers_over_tls(address: SocketAddr, path: &str, tls: Arc<ClientConfig>) -> bool {
    let Ok(endpoint) = Endpoint::parse(&format!("https://{address}"), MAX_BODY) else { return false };
    let endpoint = endpoint.with_tls(tls, &TLS);
    let Ok(request) = Request::get(path).body(Full::new(Bytes::new())) else { return false };
    let answer = timeout(DEADLINE, endpoint.send(request)).await;
    matches!(answer, Ok(Ok((StatusCode::OK, _))))
}
