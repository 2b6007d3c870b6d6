//! Starts the servers, all that can be at once, and waits until each of them answers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use futures::future::{LocalBoxFuture, join_all, try_join_all};
use tokio::time::{sleep, timeout};

use super::cassandra::Nodes;
use super::cluster::{Cluster, KafkaMode, Server};
use super::down::stop_all;
use super::java::{self, Java};
use super::kafka::{Broker, broker_id};
use super::layout::{Layout, cache_dir};
use super::memory::{self, Heaps};
use super::monitoring::Watchers;
use super::process::{self, Process};
use super::progress::{ProgressLines, Step};
use super::up::{Unfinished, UpOptions};
use super::{Kind, jars, ports, ready, tail};
use crate::config::{HttpConfig, LocalConfig};
use crate::error::Interrupted;
use crate::output::Output;
use crate::output::text::one_or_many;
use crate::shutdown::Shutdown;

const POLL: Duration = Duration::from_millis(200);
/// Well past the session timeout in templates/kafka-zookeeper.properties.
const FORGETTING_DEADLINE: Duration = Duration::from_secs(20);
/// How long to wait for a ring that an unfinished operation may keep from becoming whole.
const UNFINISHED_RING_DEADLINE: Duration = Duration::from_secs(30);

/// Everything that the servers need before the first of them starts.
pub(super) struct Site<'a> {
    config: &'a LocalConfig,
    layout: &'a Layout,
    board: &'a ProgressLines,
    cluster: Cluster,
    unfinished: Option<&'a Unfinished>,
    http: &'a HttpConfig,
    java: Java,
    cassandra_jars: PathBuf,
    kafka_jars: PathBuf,
    /// With `--monitoring`.
    agent_jars: Option<PathBuf>,
    heaps: Heaps,
    /// What this `up` has started.
    started: Mutex<Vec<Process>>,
}

impl<'a> Site<'a> {
    /// Checks the ports and gathers Java and the jars; starts nothing.
    pub(super) async fn prepare(
        config: &'a LocalConfig,
        layout: &'a Layout,
        cluster: &Cluster,
        options: &'a UpOptions,
        missing: &[&Server],
        board: &'a ProgressLines,
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
            board.note(format!("Java 17 is not installed; the servers run on Java {}", java.version));
        }
        let cache = cache_dir(config)?;
        let cassandra_jars = jars::CASSANDRA.fetch(&cache, &java, board, shutdown).await?;
        let kafka_jars = kafka.fetch(&cache, &java, board, shutdown).await?;
        let agent_jars = match cluster.monitoring {
            Some(_) => Some(jars::JMX_EXPORTER.fetch(&cache, &java, board, shutdown).await?),
            None => None,
        };
        let suited = memory::heaps(memory::total(), u32::try_from(cluster.nodes.len()).unwrap_or(u32::MAX));
        let heaps = Heaps {
            cassandra: config.cassandra_heap.unwrap_or(suited.cassandra),
            kafka: config.kafka_heap.unwrap_or(suited.kafka_of(cluster.brokers)),
        };
        let (cluster, started) = (cluster.clone(), Mutex::default());
        Ok(Self {
            config,
            layout,
            board,
            cluster,
            unfinished: options.unfinished.as_ref(),
            http: &options.http,
            java,
            cassandra_jars,
            kafka_jars,
            agent_jars,
            heaps,
            started,
        })
    }

    /// Starts the servers that are not `alive` and waits for all.
    ///
    /// On failure, a first start stops everything that it started. A later one keeps the servers that answer: they have
    /// the users' data, and two nodes of three are of more use than none.
    pub(super) async fn boot(
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
        let mut started = std::mem::take(&mut *self.started.lock().unwrap_or_else(PoisonError::into_inner));
        let mut kept = Vec::new();
        if self.is_restart() && !error.is::<Interrupted>() {
            for process in std::mem::take(&mut started) {
                let answers = process.is_alive() && ready::answers(process.kind, process.address).await;
                if answers { kept.push(process.name) } else { started.push(process) }
            }
        }
        if !started.is_empty() {
            output.note("stopping what was started and does not answer");
        }
        if let Err(stopping) = stop_all(self.layout, started).await {
            return Err(error.context(format!("cannot stop the servers after this error: {stopping:#}")));
        }
        match kept.is_empty() {
            true => Err(error),
            false => Err(anyhow!("{error:#}\nthese servers answer and keep running: {}", kept.join(", "))),
        }
    }

    /// True where the cluster has been up before, so that its data is of value.
    fn is_restart(&self) -> bool {
        self.cluster.is_complete
    }

    /// Boots side by side. A first start ends with the first error; a later one waits for every server that can start.
    async fn together(
        &self,
        boots: impl IntoIterator<Item = impl Future<Output = anyhow::Result<()>>>,
    ) -> anyhow::Result<()> {
        if !self.is_restart() {
            return try_join_all(boots).await.map(|_| ());
        }
        let mut errors: Vec<_> = join_all(boots).await.into_iter().filter_map(Result::err).collect();
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => {
                let errors: Vec<_> = errors.iter().map(|error| format!("{error:#}")).collect();
                Err(anyhow!(errors.join("\n")))
            }
        }
    }

    async fn boot_all(&self, servers: &[Server], alive: &[Process]) -> anyhow::Result<()> {
        let of = |kind| servers.iter().filter(move |server| server.kind == kind);
        let nodes = Nodes {
            config: self.config,
            layout: self.layout,
            java: &self.java,
            jars: &self.cassandra_jars,
            heap: self.heaps.cassandra,
            seeds: self.cluster.seeds(self.config)?,
            replaced: None,
            agent: self.agent_jars.as_deref(),
        };
        let broker = Broker {
            config: self.config,
            layout: self.layout,
            java: &self.java,
            jars: &self.kafka_jars,
            cluster: &self.cluster,
            heap: self.heaps.kafka,
            agent: self.agent_jars.as_deref(),
        };
        let running = |server: &Server| alive.iter().find(|process| process.name == server.name);
        let cassandra = async {
            let answering = Mutex::new(Vec::new());
            let boots = of(Kind::Cassandra).map(async |server| {
                let booted = self.boot_one(server, running(server), async || nodes.prepare(server)).await;
                match booted {
                    Err(error) if self.is_leaving(server) => self.note_left(server, &error),
                    booted => {
                        booted?;
                        answering.lock().unwrap_or_else(PoisonError::into_inner).push(server.address);
                    }
                }
                Ok(())
            });
            self.together(boots).await?;
            self.wait_for_ring(answering.into_inner().unwrap_or_else(PoisonError::into_inner)).await
        };
        let kafka = async {
            for server in of(Kind::Zookeeper) {
                self.boot_one(server, running(server), async || broker.prepare_zookeeper(server)).await?;
            }
            // Side by side: a controller answers once most of them run.
            let boots = of(Kind::Kafka).map(async |server| {
                let prepare = async || {
                    for zookeeper in of(Kind::Zookeeper) {
                        let forgotten = ready::broker_is_forgotten(zookeeper.address, broker_id(server));
                        // If it does not forget, the broker reports it better than we could.
                        let _ = timeout(FORGETTING_DEADLINE, forgotten).await;
                    }
                    broker.prepare(server).await
                };
                self.boot_one(server, running(server), prepare).await
            });
            self.together(boots).await?;
            self.wait_for_brokers(of(Kind::Kafka).map(|server| server.address).collect()).await
        };
        let watchers = Watchers { config: self.config, layout: self.layout, cluster: &self.cluster };
        let watching = [Kind::Prometheus, Kind::NodeExporter, Kind::Grafana].into_iter().flat_map(of);
        let watching = self.together(watching.map(|server| {
            self.boot_one(server, running(server), async || watchers.prepare(server, self.http))
        }));
        let all: [LocalBoxFuture<'_, anyhow::Result<()>>; 3] =
            [Box::pin(cassandra), Box::pin(kafka), Box::pin(watching)];
        self.together(all).await
    }

    fn is_leaving(&self, server: &Server) -> bool {
        self.unfinished.is_some_and(|unfinished| unfinished.leaving.as_ref() == Some(&server.name))
    }

    /// A node whose decommission is not finished may have left the ring already, and then refuses to start.
    fn note_left(&self, server: &Server, error: &anyhow::Error) {
        let reason = format!("{error:#}");
        let reason = reason.lines().next().unwrap_or_default();
        self.board.note(format!("{} is being decommissioned and did not start: {reason}", server.name));
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
            step.set("booting");
            sleep(POLL).await;
        }
    }

    /// A topic with three replicas can be created once three brokers are registered.
    async fn wait_for_brokers(&self, brokers: Vec<SocketAddr>) -> anyhow::Result<()> {
        if brokers.len() < 2 {
            return Ok(());
        }
        let step = self.board.step("brokers", "waiting until every broker is registered");
        let deadline = self.config.boot_timeout;
        if timeout(deadline, ready::brokers_are_registered(&brokers)).await.is_err() {
            bail!(
                "the {} Kafka brokers answer, but not all of them are registered within {} (see the logs in {})",
                brokers.len(),
                humantime::format_duration(deadline),
                self.layout.root().join("logs").display()
            );
        }
        step.done(&one_or_many(brokers.len(), "broker is registered", "brokers are registered"));
        Ok(())
    }

    async fn wait_for_ring(&self, nodes: Vec<SocketAddr>) -> anyhow::Result<()> {
        if nodes.len() < 2 {
            return Ok(());
        }
        let step = self.board.step("ring", "waiting until every node reaches the others");
        let deadline = match self.unfinished {
            Some(_) => self.config.boot_timeout.min(UNFINISHED_RING_DEADLINE),
            None => self.config.boot_timeout,
        };
        if timeout(deadline, ready::ring_is_whole(&nodes)).await.is_ok() {
            step.done(&format!("{} nodes reach each other", nodes.len()));
            return Ok(());
        }
        let what = format!(
            "{} Cassandra nodes answer, but not every one of them reaches the replicas of all data within {}",
            nodes.len(),
            humantime::format_duration(deadline)
        );
        if self.unfinished.is_some() {
            self.board.note(what);
            return Ok(());
        }
        bail!("{what} (see `iotctl node list` and the logs in {})", self.layout.root().join("logs").display())
    }
}

/// The end of what the server wrote to its log, for the end of a message.
pub fn last_words(process: &Process) -> String {
    let log = &process.log;
    match tail::last_lines(log, process.log_offset, 20) {
        Ok(lines) if !lines.is_empty() => {
            let lines: Vec<_> = lines.iter().map(|line| format!("  {line}")).collect();
            format!("; the last lines of {}:\n{}", log.display(), lines.join("\n"))
        }
        _ => format!("; its log is {}", log.display()),
    }
}
