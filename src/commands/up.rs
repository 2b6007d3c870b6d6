//! `iotctl up`: starts the local servers or the containers.

use std::net::SocketAddr;

use clap::Args;

use super::Context;
use super::flags::PlaceArgs;
use super::support;
use crate::config::{ClusterConfig, LocalConfig, RuntimeKind};
use crate::output::table;
use crate::servers::docker::{self, Compose};
use crate::servers::local::cluster::MAX_NODES;
use crate::servers::local::{self, KafkaMode, Running, Unfinished, UpOptions};
use crate::servers::membership::Runtime;
use crate::servers::membership::journal::Journal;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl up                      # one Cassandra node and Kafka, with the existing data if there is any
  iotctl up --nodes 3            # three Cassandra nodes at 127.0.0.1, .2 and .3
  iotctl up --kafka-brokers 3    # three Kafka brokers; topics have three replicas
  iotctl up --kafka zookeeper    # Kafka 3.9 with ZooKeeper instead of Kafka 4
  iotctl up --monitoring         # also Prometheus, node_exporter and Grafana, if installed
  iotctl up --docker             # the containers of docker-compose.yml; waits until each is healthy
  iotctl down                    # stop them; data and logs stay")]
pub struct UpArgs {
    /// Number of Cassandra nodes [default: as in the existing data directory, else 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_NODES)))]
    pub nodes: Option<u32>,
    /// Number of Kafka brokers [default: as in the existing data directory, else 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_NODES)))]
    pub kafka_brokers: Option<u16>,
    /// Where Kafka keeps its metadata [default: as in the existing data directory, else kraft]
    #[arg(long, value_enum, value_name = "MODE")]
    pub kafka: Option<KafkaMode>,
    /// Also start Prometheus, node_exporter and Grafana, if installed, and a metrics agent in each JVM [default: as in the
    /// existing data directory, else no]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub monitoring: Option<bool>,
    /// Start the containers of docker-compose.yml instead: three nodes, Kafka, ingest, monitor, Prometheus, Grafana
    #[arg(long, conflicts_with_all = ["nodes", "kafka_brokers", "kafka", "monitoring", "data"])]
    pub docker: bool,
    #[command(flatten)]
    pub place: PlaceArgs,
}

pub async fn run(args: UpArgs, context: Context) -> anyhow::Result<()> {
    if args.docker {
        return containers(&context).await;
    }
    let config = args.place.configure(&context.config.local);
    let unfinished = unfinished(&config, &context)?;
    let options = UpOptions {
        nodes: args.nodes,
        brokers: args.kafka_brokers,
        kafka: args.kafka,
        monitoring: args.monitoring,
        http: context.config.http.clone(),
        unfinished,
    };
    let running = local::up(&config, &options, &context.output, &context.shutdown).await?;
    if running.already_running {
        context.output.note("already running, nothing to do");
    }
    context.output.table(&support::server_table(&running.servers))?;
    for (kind, remedy) in &running.not_installed {
        context.output.note(format!("{kind} is not installed and was not started ({remedy})"));
    }
    if let Some(Unfinished { what, command, .. }) = &options.unfinished {
        context.output.note(format!("{what} was begun and is not finished (finish it: `{command}`)"));
    }
    context.output.note(next_steps(&running, &args.place, &context));
    Ok(())
}

/// The operation of `iotctl node` on these servers that is not finished.
pub fn unfinished(local: &LocalConfig, context: &Context) -> anyhow::Result<Option<Unfinished>> {
    let mut config = context.config.clone();
    config.local = local.clone();
    if config.cluster.runtime != RuntimeKind::Local {
        // The journals of another runtime's cluster.
        config.cluster = ClusterConfig::default();
    }
    let journal = Journal::unfinished(&Runtime::journals(&config)?)?;
    Ok(journal.map(|journal| journal.record.for_up()))
}

/// What to try now, with the flags that the other commands need to find these servers.
fn next_steps(running: &Running, place: &PlaceArgs, context: &Context) -> String {
    let texts = |addresses: &[SocketAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (contact_points, brokers) = (texts(&running.cassandra), texts(&running.kafka));
    // What is not configured is found by the data directory, unless only a flag of `up` names that.
    let is_found = |setting: &str| place.data.is_none() && !context.given.contains(setting);
    let is_configured =
        |configured: &[String], running: &[String]| configured.iter().any(|point| running.contains(point));
    let mut flags = String::new();
    if !is_found("cassandra.contact_points")
        && !is_configured(&context.config.cassandra.contact_points, &contact_points)
    {
        flags.push_str(&format!(" --contact-points {}", contact_points.join(",")));
    }
    if !is_found("kafka.bootstrap_servers")
        && !is_configured(&context.config.kafka.bootstrap_servers, &brokers)
    {
        flags.push_str(&format!(" --brokers {}", brokers.join(",")));
    }
    let replicas = if contact_points.len() < 3 { " --replication-factor 1" } else { "" };
    let data = place.data.as_ref().map(|dir| format!(" --data {}", dir.display())).unwrap_or_default();
    [
        format!("data and logs: {}", running.data_dir.display()),
        format!("next: iotctl{flags} schema apply{replicas}"),
        format!("      iotctl{flags} simulate --count 10000"),
        format!("      iotctl{flags} ingest --until-end"),
        format!("      iotctl down{data}"),
    ]
    .join("\n")
}

async fn containers(context: &Context) -> anyhow::Result<()> {
    let compose = Compose::open(&context.config.docker).await?;
    let mut containers = docker::up(&compose, context.output, &context.shutdown).await?;
    containers.sort_by(|a, b| a.service().cmp(b.service()));
    let mut rows = table::table(&["service", "image", "address", "state"], &[]);
    for container in &containers {
        let address = container.address().map_or_else(|| "-".into(), |address| address.to_string());
        rows.add_row([container.service(), container.image(), &address, &container.describe()]);
    }
    context.output.table(&rows)?;
    let is_there = |service| containers.iter().any(|container| container.service() == service);
    let pages = [("prometheus", "http://127.0.0.1:9090"), ("grafana", "http://127.0.0.1:3000")];
    let pages = pages.into_iter().filter(|(service, _)| is_there(*service));
    let pages: String = pages.map(|(service, url)| format!(", {service} at {url}")).collect();
    context.output.note(format!(
        "from this machine: Cassandra at 127.0.0.1:9042, Kafka at 127.0.0.1:9092{pages}\n\
         next: iotctl simulate --count 10000\n      iotctl node list --runtime docker\n      iotctl down --docker"
    ));
    Ok(())
}
