//! `iotctl healthcheck`: whether an `ingest` or a `monitor` is healthy, for images without curl.

use std::net::SocketAddr;

use anyhow::ensure;
use clap::Args;

use super::Context;
use super::flags::listen_address;
use crate::servers::local::ready;

/// Check that an ingest or a monitor is healthy.
///
/// Asks its HTTP endpoint. Exit code 1 where it is not healthy or does not answer.
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
    ensure!(
        ready::page_answers(args.address, path).await,
        "no healthy answer from {}{path} (start `iotctl ingest --metrics-addr {}`, or see its log)",
        args.address,
        args.address.port()
    );
    context.output.note("healthy");
    Ok(())
}
