//! `iotctl dashboard`: the fleet in a browser.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use super::Context;
use super::flags::listen_address;
use super::support::warn_if_public;
use crate::dashboard::server;
use crate::error::UsageError;

/// The fleet in a browser: values, charts, silent sensors, extremes, anomalies, the pipeline; live and read-only.
///
/// One page, served by this process, which loads nothing from anywhere else. A Cassandra or Kafka that is away is said on
/// the page, and is back there when it is back. The JSON behind it is described by /api/openapi.json.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl dashboard                                 # on http://127.0.0.1:8080, until Ctrl-C
  iotctl dashboard --addr 9000 --silent-after 15m
  ssh -L 8080:127.0.0.1:8080 HOST                  # to see the one of another machine
  curl -s '127.0.0.1:8080/api/extremes?metric=temperature&side=highest&last=24h'")]
pub struct DashboardArgs {
    /// Serve here; a port alone is that of 127.0.0.1, which nobody else can reach
    #[arg(long, value_name = "[IP:]PORT", value_parser = listen_address, default_value = "127.0.0.1:8080")]
    pub addr: SocketAddr,
    /// A sensor is called silent after this long, 1s to 365d
    #[arg(long, value_name = "LENGTH", value_parser = humantime::parse_duration, default_value = "1h")]
    pub silent_after: Duration,
}

pub async fn run(args: DashboardArgs, context: Context) -> anyhow::Result<()> {
    if !(Duration::from_secs(1)..=Duration::from_secs(365 * 86_400)).contains(&args.silent_after) {
        return Err(UsageError::new("--silent-after lies between 1s and 365d").into());
    }
    let server = server::bind(args.addr).await?;
    let bound = server.address();
    context.output.note(format!("dashboard on http://{bound}, until Ctrl-C"));
    warn_if_public(bound, "all readings", &context.output);
    server::serve(server, context.config, args.silent_after, context.shutdown).await;
    Ok(())
}
