//! `iotctl healthcheck`: whether an `ingest` or a `monitor` is well, for images without curl.

use std::net::SocketAddr;

use anyhow::ensure;
use clap::Args;

use super::Context;
use super::flags::listen_address;
use crate::servers::local::ready;

/// Ask a running ingest or monitor whether it is well; exit code 1 where it is not
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl healthcheck                    # the ingest at 127.0.0.1:9464
  iotctl healthcheck 9465 --ready       # whether a monitor has seen its servers")]
pub struct HealthcheckArgs {
    /// Its --metrics-addr
    #[arg(value_name = "[IP:]PORT", value_parser = listen_address, default_value = "9464")]
    pub address: SocketAddr,
    /// Whether it does its work, and not only whether it lives
    #[arg(long)]
    pub ready: bool,
}

pub async fn run(args: HealthcheckArgs, context: Context) -> anyhow::Result<()> {
    let path = if args.ready { "/readyz" } else { "/healthz" };
    ensure!(
        ready::page_answers(args.address, path).await,
        "nothing well answers at {}{path} (start `iotctl ingest --metrics-addr {}`, or see its log)",
        args.address,
        args.address.port()
    );
    context.output.note("well");
    Ok(())
}
