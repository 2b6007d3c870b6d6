//! `up`: from whatever is there to all servers of the cluster answering, or to nothing of this `up` running.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures::future::try_join_all;
use tokio::time::{sleep, timeout};

use super::cassandra::Nodes;
use super::cluster::{Cluster, KafkaMode, MAX_NODES, Server};
use super::down::stop_all;
use super::java::{self, Java};
use super::kafka::Broker;
use super::layout::{Layout, cache_dir};
use super::memory::{self, Heaps};
use super::process::{self, Process};
use super::progress::{Board, Step};
use super::status::{ServerStatus, status};
use super::{Kind, jars, ports, ready, tail};
use crate::config::LocalConfig;
use crate::error::{Interrupted, UsageError};
use crate::output::Output;
use crate::shutdown::Shutdown;

const POLL: Duration = Duration::from_millis(200);
/// Well past the session timeout in templates/kafka-zookeeper.properties.
const FORGETTING_DEADLINE: Duration = Duration::from_secs(20);

/// What is asked for; what is left out is as the data directory has it, else one node and KRaft.
#[derive(Debug, Clone, Copy, Default)]
pub struct UpOptions {
    pub nodes: Option<u32>,
    pub kafka: Option<KafkaMode>,
}

/// The servers, all of them answering.
#[derive(Debug, Clone)]
pub struct Running {
    pub cassandra: Vec<SocketAddr>,
    pub kafka: SocketAddr,
    pub kafka_mode: KafkaMode,
    pub data_dir: PathBuf,
    pub servers: Vec<ServerStatus>,
    /// True where this `up` found everything running and started nothing.
    pub already_running: bool,
}

/// Starts what is not running yet and waits until all servers answer.
///
/// # Errors
/// Whatever keeps a server from answering within `local.boot_timeout`, with the server's own last lines;
/// [`Interrupted`] after a shutdown request. Either way, what this `up` started has been stopped again.
pub async fn up(
    config: &LocalConfig,
    options: &UpOptions,
    output: &Output,
    shutdown: &Shutdown,
) -> anyhow::Result<Running> {
    if let Some(nodes @ (0 | MAX_NODES..)) = options.nodes.filter(|&nodes| nodes != MAX_NODES) {
        bail!(UsageError::new(format!("{nodes} nodes cannot be had (1 to {MAX_NODES} can)")));
    }
    let layout = Layout::of(config)?;
    layout.create()?;
    let _lock = layout.lock()?;
    let (alive, gone): (Vec<_>, Vec<_>) = Process::all(&layout)?.into_iter().partition(Process::is_alive);
    let mut cluster = choose(&layout, config, options, !alive.is_empty())?;
    let servers = cluster.servers(config)?;
    check_addresses(&alive, &servers)?;
    let missing: Vec<_> =
        servers.iter().filter(|server| alive.iter().all(|process| process.name != server.name)).collect();
    let already_running = missing.is_empty() && cluster.is_complete;
    if !already_running {
        let board = Board::new(*output);
        let site = Site::prepare(config, &layout, &cluster, &missing, &board, shutdown).await?;
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
    Ok(Running {
        cassandra: addresses(Kind::Cassandra).collect(),
        kafka: SocketAddr::from((cluster.address, config.kafka_port)),
        kafka_mode: cluster.kafka,
        data_dir: layout.root().to_owned(),
        servers: status(config).await?,
        already_running,
    })
}

/// The cluster to run: the one of the data directory if that is what is asked for, a new one where there is none.
fn choose(
    layout: &Layout,
    config: &LocalConfig,
    options: &UpOptions,
    is_running: bool,
) -> anyhow::Result<Cluster> {
    let dir = layout.root().display();
    match Cluster::load(layout)? {
        Some(known) if known.answers(options.nodes, options.kafka, config.address) => Ok(known),
        Some(known) if is_running => {
            bail!("{known} run in {dir} already, which is not what is asked for (run `iotctl down` first)")
        }
        Some(known) if known.is_complete => bail!(
            "the data in {dir} is that of {known}, which is not what is asked for (start those by leaving --nodes \
             and --kafka out, choose another directory with --data DIR, or delete the data with `iotctl down \
             --purge --yes`)"
        ),
        _ => Ok(Cluster {
            nodes: options.nodes.unwrap_or(1),
            kafka: options.kafka.unwrap_or_default(),
            address: config.address,
            is_complete: false,
        }),
    }
}

/// Servers that run keep their ports whatever the configuration says since.
fn check_addresses(alive: &[Process], servers: &[Server]) -> anyhow::Result<()> {
    for process in alive {
        let moved =
            servers.iter().find(|server| server.name == process.name && server.address != process.address);
        if let Some(server) = moved {
            bail!(
                "{} runs at {} and is configured for {} (run `iotctl down` first)",
                server.name,
                process.address,
                server.address
            );
        }
    }
    Ok(())
}

/// Data of a first start that never got to its end belongs to nobody.
fn discard_unfinished(layout: &Layout) -> anyhow::Result<()> {
    let root = layout.root();
    for entry in std::fs::read_dir(root).with_context(|| format!("cannot list {}", root.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name == "kafka" || name == "zookeeper" || name.starts_with("cassandra-") {
            let path = entry.path();
            std::fs::remove_dir_all(&path).with_context(|| format!("cannot delete {}", path.display()))?;
        }
    }
    Ok(())
}

/// Everything that the servers need before the first of them starts.
struct Site<'a> {
    config: &'a LocalConfig,
    layout: &'a Layout,
    board: &'a Board,
    cluster: Cluster,
    java: Java,
    cassandra_jars: PathBuf,
    kafka_jars: PathBuf,
    heaps: Heaps,
    /// What this `up` has started.
    started: Mutex<Vec<Process>>,
}

impl<'a> Site<'a> {
    /// Checks the ports and gathers Java and the jars; starts nothing.
    async fn prepare(
        config: &'a LocalConfig,
        layout: &'a Layout,
        cluster: &Cluster,
        missing: &[&Server],
        board: &'a Board,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Self> {
        ports::check(&ports::needed(config, cluster, missing))?;
        let java = java::find(&java::Places::of_this_machine()).await?;
        let kafka = match cluster.kafka {
            KafkaMode::Kraft => {
                java.check_runs_kafka_4()?;
                jars::KAFKA
            }
            KafkaMode::Zookeeper => jars::KAFKA_ZOOKEEPER,
        };
        if java.version < 17 {
            board.note(format!("no Java 17 here; the servers run on Java {}", java.version));
        }
        let cache = cache_dir(config)?;
        let cassandra_jars = jars::CASSANDRA.fetch(&cache, &java, board, shutdown).await?;
        let kafka_jars = kafka.fetch(&cache, &java, board, shutdown).await?;
        let suited = memory::heaps(memory::total(), cluster.nodes);
        let heaps = Heaps {
            cassandra: config.cassandra_heap.unwrap_or(suited.cassandra),
            kafka: config.kafka_heap.unwrap_or(suited.kafka),
        };
        let (cluster, started) = (cluster.clone(), Mutex::default());
        Ok(Self { config, layout, board, cluster, java, cassandra_jars, kafka_jars, heaps, started })
    }

    /// Starts the servers that are not `alive` and waits for all. On failure, stops what it started.
    async fn boot(
        &self,
        servers: &[Server],
        alive: &[Process],
        shutdown: &Shutdown,
        output: &Output,
    ) -> anyhow::Result<()> {
        let booted = tokio::select! {
            booted = self.boot_all(servers, alive) => booted,
            () = shutdown.requested() => Err(Interrupted.into()),
        };
        let Err(error) = booted else { return Ok(()) };
        let started = std::mem::take(&mut *self.started.lock().unwrap_or_else(PoisonError::into_inner));
        if !started.is_empty() {
            output.note("stopping what was started");
        }
        if let Err(stopping) = stop_all(self.layout, started).await {
            return Err(error.context(format!("{stopping:#}; it was to be stopped because of this")));
        }
        Err(error)
    }

    async fn boot_all(&self, servers: &[Server], alive: &[Process]) -> anyhow::Result<()> {
        let of = |kind| servers.iter().filter(move |server| server.kind == kind);
        let nodes = Nodes {
            config: self.config,
            layout: self.layout,
            java: &self.java,
            jars: &self.cassandra_jars,
            heap: self.heaps.cassandra,
            seeds: of(Kind::Cassandra).map(|server| server.address.ip()).collect(),
        };
        let broker = Broker {
            config: self.config,
            layout: self.layout,
            java: &self.java,
            jars: &self.kafka_jars,
            mode: self.cluster.kafka,
            heap: self.heaps.kafka,
        };
        let running = |server: &Server| alive.iter().find(|process| process.name == server.name);
        let cassandra = async {
            let boots = of(Kind::Cassandra)
                .map(|server| self.boot_one(server, running(server), async || nodes.prepare(server)));
            try_join_all(boots).await?;
            self.wait_for_ring(of(Kind::Cassandra).map(|server| server.address).collect()).await
        };
        let kafka = async {
            for server in of(Kind::Zookeeper) {
                self.boot_one(server, running(server), async || broker.prepare_zookeeper(server)).await?;
            }
            for server in of(Kind::Kafka) {
                let prepare = async || {
                    for zookeeper in of(Kind::Zookeeper) {
                        let forgotten = ready::broker_is_forgotten(zookeeper.address);
                        // If it does not forget, the broker says so better than we could.
                        let _ = timeout(FORGETTING_DEADLINE, forgotten).await;
                    }
                    broker.prepare(server).await
                };
                self.boot_one(server, running(server), prepare).await?;
            }
            anyhow::Ok(())
        };
        tokio::try_join!(cassandra, kafka).map(|_| ())
    }

    /// Starts one server, unless it runs, and waits until it answers.
    async fn boot_one(
        &self,
        server: &Server,
        running: Option<&Process>,
        prepare: impl AsyncFnOnce() -> anyhow::Result<Command>,
    ) -> anyhow::Result<()> {
        let step = self.board.step(&server.name, "starting");
        let (process, child) = match running {
            Some(process) => (process.clone(), None),
            None => {
                let mut command = prepare().await?;
                let (process, child) =
                    process::spawn(self.layout, &server.name, server.kind, server.address, &mut command)?;
                self.started.lock().unwrap_or_else(PoisonError::into_inner).push(process.clone());
                (process, Some(child))
            }
        };
        self.wait_for(&process, child, &step).await?;
        step.done(&format!("answers at {}", server.address));
        Ok(())
    }

    /// Until the server answers; at once when it ends instead.
    async fn wait_for(&self, process: &Process, mut child: Option<Child>, step: &Step) -> anyhow::Result<()> {
        let deadline = self.config.boot_timeout;
        let started = Instant::now();
        loop {
            if !process.is_alive() {
                let exit = child.as_mut().and_then(|child| child.try_wait().ok().flatten());
                let exit = exit.map(|exit| format!(" ({exit})")).unwrap_or_default();
                bail!("{} ended while it was starting{exit}{}", process.name, last_words(process));
            }
            if ready::answers(process.kind, process.address).await {
                return Ok(());
            }
            if started.elapsed() > deadline {
                bail!(
                    "{} does not answer at {} within {} (set local.boot_timeout for a slower machine){}",
                    process.name,
                    process.address,
                    humantime::format_duration(deadline),
                    last_words(process)
                );
            }
            step.say("booting");
            sleep(POLL).await;
        }
    }

    async fn wait_for_ring(&self, nodes: Vec<SocketAddr>) -> anyhow::Result<()> {
        if nodes.len() < 2 {
            return Ok(());
        }
        let step = self.board.step("ring", "waiting for the nodes to find each other");
        let deadline = self.config.boot_timeout;
        timeout(deadline, ready::ring_is_whole(&nodes)).await.with_context(|| {
            format!(
                "the {} Cassandra nodes answer but do not find each other within {} (see the logs in {})",
                nodes.len(),
                humantime::format_duration(deadline),
                self.layout.root().join("logs").display()
            )
        })?;
        step.done(&format!("{} nodes see each other", nodes.len()));
        Ok(())
    }
}

/// What the server wrote last, for the end of a message.
fn last_words(process: &Process) -> String {
    let log: &Path = &process.log;
    match tail::last_lines(log, process.log_offset, 20) {
        Ok(lines) if !lines.is_empty() => {
            let lines: Vec<_> = lines.iter().map(|line| format!("  {line}")).collect();
            format!("; the last lines of {}:\n{}", log.display(), lines.join("\n"))
        }
        _ => format!("; its log is {}", log.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made_for_three_nodes(is_complete: bool) -> (tempfile::TempDir, LocalConfig, Layout) {
        let dir = tempfile::tempdir().unwrap();
        let config = LocalConfig { data_dir: Some(dir.path().to_owned()), ..Default::default() };
        let layout = Layout::of(&config).unwrap();
        layout.create().unwrap();
        let cluster = Cluster { nodes: 3, kafka: KafkaMode::Kraft, address: config.address, is_complete };
        cluster.save(&layout).unwrap();
        (dir, config, layout)
    }

    #[test]
    fn data_of_three_nodes_is_started_as_three_and_as_nothing_else() {
        let (_dir, config, layout) = made_for_three_nodes(true);
        let choose = |nodes| choose(&layout, &config, &UpOptions { nodes, kafka: None }, false);
        assert_eq!(choose(None).unwrap().nodes, 3);
        let error = choose(Some(1)).unwrap_err().to_string();
        assert!(error.contains("3 Cassandra nodes") && error.contains("--purge"), "{error}");
    }

    #[test]
    fn other_servers_than_those_that_run_are_refused_until_down() {
        let (_dir, config, layout) = made_for_three_nodes(false);
        let options = UpOptions { nodes: None, kafka: Some(KafkaMode::Zookeeper) };
        let error = choose(&layout, &config, &options, true).unwrap_err().to_string();
        assert!(error.contains("run `iotctl down` first"), "{error}");
    }

    #[test]
    fn a_first_start_that_never_ended_binds_nobody() {
        let (_dir, config, layout) = made_for_three_nodes(false);
        let options = UpOptions { nodes: Some(1), kafka: Some(KafkaMode::Zookeeper) };
        let cluster = choose(&layout, &config, &options, false).unwrap();
        assert_eq!((cluster.nodes, cluster.kafka), (1, KafkaMode::Zookeeper));
    }
}
