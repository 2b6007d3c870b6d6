//! `iotctl monitor`: the state of Kafka and Cassandra as Prometheus metrics.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use super::Context;
use super::flags::{ListenArgs, listen_address};
use super::support::serve_metrics;
use crate::error::UsageError;
use crate::metrics::{Health, watchdog};
use crate::observe::exporter::{Monitor, Options};

/// Export lag, offsets and each node's health for Prometheus, without an agent on any server.
///
/// Queries Kafka and every Cassandra node of the local datacenter once per interval, and serves scrapes from memory.
/// Unreachable servers are metrics too: iotctl_cassandra_node_up, iotctl_monitor_up.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl monitor                                   # on 127.0.0.1:9465, every 10 s, until Ctrl-C
  iotctl monitor --metrics-addr 127.0.0.1:9465 --interval 5s
  iotctl monitor --group iotctl --group backfill   # only these consumer groups
  curl -s 127.0.0.1:9465/metrics | grep lag")]
pub struct MonitorArgs {
    /// Serve the metrics at this address; a port alone means 127.0.0.1
    #[arg(long, value_name = "[IP:]PORT", value_parser = listen_address, default_value = "127.0.0.1:9465")]
    pub metrics_addr: SocketAddr,
    #[command(flatten)]
    pub listen: ListenArgs,
    /// Time between two queries, 1s to 1h
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "10s")]
    pub interval: Duration,
    /// Consumer group to monitor; may be repeated [default: all that Kafka lists, and kafka.group]
    #[arg(long, value_name = "NAME")]
    pub group: Vec<String>,
}

pub async fn run(args: MonitorArgs, context: Context) -> anyhow::Result<()> {
    if !(Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&args.interval) {
        return Err(UsageError::new("--interval must be between 1s and 1h").into());
    }
    let monitor = Monitor::new(&context.config, Options { interval: args.interval, groups: args.group });
    let health = Health::default();
    let registry = monitor.registry()?;
    serve_metrics(args.metrics_addr, args.listen, registry, &health, ", until Ctrl-C", &context).await?;
    watchdog::watch(health.clone(), context.shutdown.clone());
    monitor.run(health, context.shutdown.clone()).await;
    Ok(())
}
