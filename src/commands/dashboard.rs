//! `iotctl dashboard`: the fleet as a page in a browser.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use super::Context;
use super::flags::{ListenArgs, listen_address};
use super::support::warn_if_exposed;
use crate::dashboard::server;
use crate::error::UsageError;

/// Serve the fleet as a page in a browser.
///
/// The page shows values, charts, silent sensors, extremes, anomalies and the pipeline, live and read-only. It is served by this
/// process and loads nothing from elsewhere. An unreachable Cassandra or Kafka is reported on the page, and its data returns
/// when the server does. /api/openapi.json describes the JSON API behind it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl dashboard                                 # on http://127.0.0.1:8080, until Ctrl-C
  iotctl dashboard --addr 9000 --silent-after 15m
  ssh -L 8080:127.0.0.1:8080 HOST                  # the dashboard of another machine
  curl -s '127.0.0.1:8080/api/extremes?metric=temperature&side=highest&last=24h'")]
pub struct DashboardArgs {
    /// Address to serve on; a port alone is on 127.0.0.1, which other machines cannot reach
    #[arg(long, value_name = "[IP:]PORT", value_parser = listen_address, default_value = "127.0.0.1:8080")]
    pub addr: SocketAddr,
    #[command(flatten)]
    pub listen: ListenArgs,
    /// How long without a reading until a sensor counts as silent, 1s to 365d
    #[arg(long, value_name = "LENGTH", value_parser = humantime::parse_duration, default_value = "1h")]
    pub silent_after: Duration,
}

pub async fn run(args: DashboardArgs, context: Context) -> anyhow::Result<()> {
    if !(Duration::from_secs(1)..=Duration::from_secs(365 * 86_400)).contains(&args.silent_after) {
        return Err(UsageError::new("--silent-after must be between 1s and 365d").into());
    }
    let access = args.listen.access(&context.config.http)?;
    let server = server::bind(args.addr, access.clone()).await?;
    let bound = server.address();
    context.output.note(format!("dashboard on {}://{bound}, until Ctrl-C", access.scheme()));
    warn_if_exposed(&access, bound, "all readings", &context.output);
    server::serve(server, context.config, args.silent_after, context.shutdown).await;
    Ok(())
}
