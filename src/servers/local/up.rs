//! `up`: from whatever runs now to all servers of the cluster answering.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, bail};

use super::Kind;
use super::boot::Site;
use super::cluster::{Cluster, KafkaMode, MAX_NODES, Server};
use super::layout::Layout;
use super::monitoring;
use super::process::Process;
use super::progress::ProgressLines;
use super::status::{ServerStatus, status};
use crate::config::{HttpConfig, LocalConfig};
use crate::error::UsageError;
use crate::output::Output;
use crate::shutdown::Shutdown;

/// What is requested; what is left out is as in the existing data directory, else one node, one broker and KRaft.
#[derive(Debug, Clone, Default)]
pub struct UpOptions {
    pub nodes: Option<u32>,
    /// Kafka brokers.
    pub brokers: Option<u16>,
    pub kafka: Option<KafkaMode>,
    /// Prometheus, node_exporter and Grafana where they are installed, and an agent in each JVM.
    pub monitoring: Option<bool>,
    /// How `ingest` and `monitor` listen, which Prometheus is told.
    pub http: HttpConfig,
    pub unfinished: Option<Unfinished>,
}

/// An operation of `iotctl node` that was begun on this cluster and is not finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// Such as "decommission of cassandra-3".
    pub what: String,
    /// The command that finishes it.
    pub command: String,
    /// The node that is being decommissioned. It may have left the ring, and then it refuses to start.
    pub leaving: Option<String>,
    /// The dead node that a new node replaces. Started again, it would claim tokens that are no longer its own.
    pub replaced: Option<String>,
}

impl Unfinished {
    /// Whether `up` leaves this server alone.
    fn skips(&self, server: &Server, layout: &Layout) -> bool {
        // A node that has left and whose files are aside already would join again, with no data.
        let has_left =
            self.leaving.as_ref() == Some(&server.name) && !layout.server_dir(&server.name).exists();
        has_left || self.replaced.as_ref() == Some(&server.name)
    }
}

/// The servers, all of which answer.
#[derive(Debug, Clone)]
pub struct Running {
    pub cassandra: Vec<SocketAddr>,
    pub kafka: Vec<SocketAddr>,
    pub kafka_mode: KafkaMode,
    pub data_dir: PathBuf,
    pub servers: Vec<ServerStatus>,
    /// True where this `up` found everything running and started nothing.
    pub already_running: bool,
    /// With monitoring: what of it is not installed, and what installs it.
    pub not_installed: Vec<(Kind, &'static str)>,
}

/// Starts what is not running yet and waits until all servers answer.
///
/// # Errors
/// The reason why a server does not answer within `local.boot_timeout`, with the last lines of its log;
/// [`Interrupted`](crate::error::Interrupted) after a shutdown request. Servers that were started and do not answer have been
/// stopped again; after an interrupt, or if the cluster has never been up before, all that were started.
pub async fn up(
    config: &LocalConfig,
    options: &UpOptions,
    output: &Output,
    shutdown: &Shutdown,
) -> anyhow::Result<Running> {
    if let Some(nodes) = options.nodes.filter(|nodes| !(1..=MAX_NODES).contains(nodes)) {
        bail!(UsageError::new(format!("cannot start {nodes} nodes (give a number from 1 to {MAX_NODES})")));
    }
    let layout = Layout::of(config)?;
    layout.create()?;
    let _lock = layout.lock()?;
    let (alive, gone): (Vec<_>, Vec<_>) = Process::all(&layout)?.into_iter().partition(Process::is_alive);
    let mut cluster = choose(&layout, config, options, !alive.is_empty())?;
    let mut servers = cluster.servers(config)?;
    let unfinished = options.unfinished.as_ref();
    servers.retain(|server| unfinished.is_none_or(|unfinished| !unfinished.skips(server, &layout)));
    check_addresses(&alive, &servers)?;
    let missing: Vec<_> =
        servers.iter().filter(|server| alive.iter().all(|process| process.name != server.name)).collect();
    let already_running = missing.is_empty() && cluster.is_complete;
    if !already_running {
        let board = ProgressLines::new(*output);
        let site = Site::prepare(config, &layout, &cluster, options, &missing, &board, shutdown).await?;
        for process in gone {
            process.forget(&layout)?;
        }
        if !cluster.is_complete && alive.is_empty() {
            discard_unfinished(&layout)?;
        }
        cluster.save(&layout)?;
        site.boot(&servers, &alive, shutdown, output).await?;
        cluster.is_complete = true;
        cluster.save(&layout)?;
    }
    let addresses =
        |kind| servers.iter().filter(move |server| server.kind == kind).map(|server| server.address);
    let not_installed = match &cluster.monitoring {
        Some(kinds) => monitoring::PROGRAMS.into_iter().filter(|(kind, _)| !kinds.contains(kind)).collect(),
        None => Vec::new(),
    };
    Ok(Running {
        cassandra: addresses(Kind::Cassandra).collect(),
        kafka: addresses(Kind::Kafka).collect(),
        kafka_mode: cluster.kafka,
        data_dir: layout.root().to_owned(),
        servers: status(config).await?,
        already_running,
        not_installed,
    })
}

/// The cluster to run: the one of the data directory if it matches the request, a new one where there is none.
fn choose(
    layout: &Layout,
    config: &LocalConfig,
    options: &UpOptions,
    is_running: bool,
) -> anyhow::Result<Cluster> {
    let dir = layout.root().display();
    match Cluster::load(layout)? {
        Some(known) if known.answers(options.nodes, options.brokers, options.kafka, config.address) => {
            with_monitoring(known, options.monitoring, is_running)
        }
        Some(known) if is_running => {
            bail!(
                "{known} already run in {dir}, which differs from what is requested (run `iotctl down` first)"
            )
        }
        Some(known) if known.is_complete => bail!(
            "the data in {dir} belongs to {known}, which differs from what is requested (leave --nodes, --kafka-brokers, --kafka \
             and local.address as they were, choose another directory with --data DIR, or delete the data with \
             `iotctl down --purge --yes`)"
        ),
        _ => Ok(Cluster {
            monitoring: (options.monitoring == Some(true)).then(monitoring::installed),
            brokers: options.brokers.unwrap_or(1),
            ..Cluster::fresh(options.nodes.unwrap_or(1), options.kafka.unwrap_or_default(), config.address)
        }),
    }
}

/// The cluster with monitoring as requested. An agent is in its JVM from the start or not at all.
fn with_monitoring(mut known: Cluster, requested: Option<bool>, is_running: bool) -> anyhow::Result<Cluster> {
    let Some(requested) = requested else { return Ok(known) };
    if is_running && requested != known.monitoring.is_some() {
        let with = if requested { "without" } else { "with" };
        bail!("{known} run {with} monitoring (run `iotctl down` first; the data stays)");
    }
    // What has been installed since is started beside what runs.
    let mut kinds = known.monitoring.take().unwrap_or_default();
    kinds
        .extend(monitoring::installed().into_iter().filter(|kind| !kinds.contains(kind)).collect::<Vec<_>>());
    known.monitoring = requested.then_some(kinds);
    Ok(known)
}

/// Servers that run keep their ports, even if the configuration has changed since.
fn check_addresses(alive: &[Process], servers: &[Server]) -> anyhow::Result<()> {
    for process in alive {
        let moved =
            servers.iter().find(|server| server.name == process.name && server.address != process.address);
        if let Some(server) = moved {
            bail!(
                "{} runs at {}, but is configured for {} (run `iotctl down` first)",
                server.name,
                process.address,
                server.address
            );
        }
    }
    Ok(())
}

/// Deletes the data of a first start that did not complete.
fn discard_unfinished(layout: &Layout) -> anyhow::Result<()> {
    let root = layout.root();
    for entry in std::fs::read_dir(root).with_context(|| format!("cannot list {}", root.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("kafka") || name == "zookeeper" || name.starts_with("cassandra-") {
            let path = entry.path();
            std::fs::remove_dir_all(&path).with_context(|| format!("cannot delete {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made_for_three_nodes(is_complete: bool) -> (tempfile::TempDir, LocalConfig, Layout) {
        let dir = tempfile::tempdir().unwrap();
        let config = LocalConfig { data_dir: Some(dir.path().to_owned()), ..Default::default() };
        let layout = Layout::of(&config).unwrap();
        layout.create().unwrap();
        let cluster = Cluster { is_complete, ..Cluster::fresh(3, KafkaMode::Kraft, config.address) };
        cluster.save(&layout).unwrap();
        (dir, config, layout)
    }

    #[test]
    fn data_of_three_nodes_is_started_as_three_and_as_nothing_else() {
        let (_dir, config, layout) = made_for_three_nodes(true);
        let choose = |nodes| choose(&layout, &config, &UpOptions { nodes, ..Default::default() }, false);
        assert_eq!(choose(None).unwrap().nodes.len(), 3);
        let error = choose(Some(1)).unwrap_err().to_string();
        assert!(error.contains("3 Cassandra nodes") && error.contains("--purge"), "{error}");
        let options = UpOptions { brokers: Some(3), ..Default::default() };
        let error = super::choose(&layout, &config, &options, false).unwrap_err().to_string();
        assert!(error.contains("and Kafka (kraft)") && error.contains("--kafka-brokers"), "{error}");
    }

    #[test]
    fn monitoring_stays_as_it_was_until_asked_and_never_changes_under_servers_that_run() {
        let (_dir, config, layout) = made_for_three_nodes(true);
        let choose = |monitoring, is_running| {
            let options = UpOptions { monitoring, ..Default::default() };
            choose(&layout, &config, &options, is_running)
        };
        assert!(choose(None, false).unwrap().monitoring.is_none());
        let error = choose(Some(true), true).unwrap_err().to_string();
        assert!(error.contains("without monitoring (run `iotctl down` first"), "{error}");
        choose(Some(true), false).unwrap().save(&layout).unwrap();
        assert!(choose(None, false).unwrap().monitoring.is_some());
        assert!(choose(Some(true), true).unwrap().monitoring.is_some());
        assert!(choose(Some(false), true).unwrap_err().to_string().contains("with monitoring"));
        assert!(choose(Some(false), false).unwrap().monitoring.is_none());
    }

    #[test]
    fn an_unfinished_operation_decides_which_nodes_start() {
        let (_dir, config, layout) = made_for_three_nodes(true);
        let servers = Cluster::load(&layout).unwrap().unwrap().servers(&config).unwrap();
        let skipped = |leaving: Option<&str>, replaced: Option<&str>| -> Vec<&str> {
            let unfinished = Unfinished {
                what: "decommission of cassandra-2".into(),
                command: "iotctl node decommission cassandra-2".into(),
                leaving: leaving.map(str::to_owned),
                replaced: replaced.map(str::to_owned),
            };
            let skipped = servers.iter().filter(|server| unfinished.skips(server, &layout));
            skipped.map(|server| server.name.as_str()).collect()
        };
        assert_eq!(skipped(None, Some("cassandra-2")), ["cassandra-2"]);
        assert_eq!(skipped(Some("cassandra-2"), None), ["cassandra-2"], "its files are aside");
        std::fs::create_dir(layout.server_dir("cassandra-2")).unwrap();
        assert_eq!(skipped(Some("cassandra-2"), None), Vec::<&str>::new(), "it has its data and may finish");
    }

    #[test]
    fn other_servers_than_those_that_run_are_refused_until_down() {
        let (_dir, config, layout) = made_for_three_nodes(false);
        let options = UpOptions { kafka: Some(KafkaMode::Zookeeper), ..Default::default() };
        let error = choose(&layout, &config, &options, true).unwrap_err().to_string();
        assert!(error.contains("run `iotctl down` first"), "{error}");
    }

    #[test]
    fn a_first_start_that_did_not_complete_leaves_the_choice_open() {
        let (_dir, config, layout) = made_for_three_nodes(false);
        let options = UpOptions { nodes: Some(1), kafka: Some(KafkaMode::Zookeeper), ..Default::default() };
        let cluster = choose(&layout, &config, &options, false).unwrap();
        assert_eq!((cluster.nodes.len(), cluster.kafka), (1, KafkaMode::Zookeeper));
    }
}
