//! The nodes of docker-compose.yml: containers, and volumes for their data. A node that joins is made like one that is
//! there, with the next address of the project's network.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytesize::ByteSize;
use chrono::Utc;
use serde_json::{Value, json};
use tokio::process::Command;

use super::{Disk, Node};
use crate::config::Config;
use crate::error::UsageError;
use crate::servers::docker::{Compose, Container};
use crate::servers::membership::view::View;

const NATIVE_PORT: u16 = 9042;
const DATA: &str = "/var/lib/cassandra";
/// Nodes that others wait for at their start, in docker-compose.yml.
const AWAITED: [&str; 2] = ["cassandra-1", "cassandra-2"];

#[derive(Debug)]
pub struct Docker {
    compose: Compose,
    /// As they were when the command began.
    containers: Vec<Container>,
}

/// Beside the compose file, as its data belongs to it.
pub(super) fn journals(config: &Config) -> anyhow::Result<PathBuf> {
    let file = std::path::absolute(config.docker.compose_file())?;
    let dir = file.parent().context("a compose file in a folder")?;
    Ok(dir.join(format!(".{}-journal", config.docker.project)))
}

impl Docker {
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        let compose = Compose::open(&config.docker).await?;
        let containers = compose.containers().await?;
        let docker = Self { compose, containers };
        if docker.nodes().is_empty() {
            bail!(UsageError::new(
                "no container of a Cassandra node is here (start them with `iotctl up --docker`)"
            ));
        }
        Ok(docker)
    }

    fn nodes(&self) -> Vec<(Node, &Container)> {
        let nodes = self.containers.iter().filter_map(|container| {
            number(container.service())?;
            let address = SocketAddr::from((container.address()?, NATIVE_PORT));
            Some((Node { name: container.service().to_owned(), address }, container))
        });
        let mut nodes: Vec<_> = nodes.collect();
        nodes.sort_by_key(|(node, _)| number(&node.name));
        nodes
    }

    pub fn contact_points(&self) -> anyhow::Result<Vec<String>> {
        let nodes = self.nodes();
        let running = nodes.iter().filter(|(_, container)| container.is_running());
        Ok(running.map(|(node, _)| node.address.to_string()).collect())
    }

    pub fn find(&self, name: &str) -> anyhow::Result<Node> {
        super::find(name, self.nodes().into_iter().map(|(node, _)| node))
    }

    pub fn named(&self, name: &str) -> anyhow::Result<Node> {
        if let Ok(known) = self.find(name) {
            return Ok(known);
        }
        let number = number(name).with_context(|| format!("{name:?} is no node"))?;
        Ok(Node { name: name.to_owned(), address: SocketAddr::from((self.address(number)?, NATIVE_PORT)) })
    }

    pub fn member(&self, address: SocketAddr) -> anyhow::Result<Node> {
        self.find(&address.ip().to_string())
    }

    /// The addresses follow each other as the numbers do.
    fn address(&self, number: u8) -> anyhow::Result<Ipv4Addr> {
        let nodes = self.nodes();
        let (known, container) = nodes.first().context("no node has a container")?;
        let (first, own) = (number_of(known)?, container.address().context("a node without an address")?);
        let address = u32::from(own) - u32::from(first) + u32::from(number);
        Ok(Ipv4Addr::from(address))
    }

    /// The lowest number that is free and whose address is nobody's seed.
    pub fn next(&self, _view: &View) -> anyhow::Result<Node> {
        let seeds = self.seed_addresses();
        for number in 1..=99_u8 {
            let name = format!("cassandra-{number}");
            let address = self.address(number)?;
            if self.find(&name).is_err() && !seeds.contains(&IpAddr::V4(address)) {
                return Ok(Node { name, address: SocketAddr::from((address, NATIVE_PORT)) });
            }
        }
        bail!(UsageError::new("99 nodes are the most"))
    }

    fn seed_addresses(&self) -> Vec<IpAddr> {
        let mut seeds = Vec::new();
        for (_, container) in self.nodes() {
            let environment = container.environment(|name| name == "CASSANDRA_SEEDS");
            let listed = environment.values().flat_map(|list| list.split(','));
            seeds.extend(listed.filter_map(|address| address.trim().parse::<IpAddr>().ok()));
        }
        seeds
    }

    pub async fn seeds(&self, _view: &View) -> anyhow::Result<Vec<IpAddr>> {
        Ok(self.seed_addresses())
    }

    pub async fn obstacles(&self, node: &Node) -> anyhow::Result<Vec<String>> {
        let mut reasons = Vec::new();
        for container in &self.containers {
            if container.address().map(IpAddr::V4) == Some(node.ip()) {
                reasons.push(format!("{} has the address {}", container.service(), node.ip()));
            }
        }
        Ok(reasons)
    }

    /// Why this runtime cannot let the node go.
    pub fn hold(&self, node: &Node) -> Option<String> {
        AWAITED.contains(&node.name.as_str()).then(|| {
            format!(
                "others wait for {} at their start, in docker-compose.yml (decommission another one)",
                node.name
            )
        })
    }

    /// All volumes are on the engine's disk.
    pub async fn disks(&self, _nodes: &[Node]) -> anyhow::Result<Vec<Disk>> {
        let nodes = self.nodes();
        let running = nodes.iter().find(|(_, container)| container.is_running());
        let (node, container) = running.context("no node runs")?;
        let said = self.compose.docker(&["exec", &container.id, "df", "--output=avail", "-B1", DATA]).await?;
        let free = said.lines().last().and_then(|line| line.trim().parse().ok());
        let free = free.with_context(|| format!("df in {} says {said:?}", node.name))?;
        Ok(vec![Disk { free: ByteSize::b(free), place: "the disk of Docker's volumes".into() }])
    }

    async fn container(&self, node: &Node) -> anyhow::Result<Option<Container>> {
        let containers = self.compose.containers().await?;
        Ok(containers.into_iter().find(|container| container.service() == node.name))
    }

    pub async fn is_running(&self, node: &Node) -> anyhow::Result<bool> {
        Ok(self.container(node).await?.is_some_and(|container| container.is_running()))
    }

    pub async fn start(&self, node: &Node, replaced: Option<IpAddr>) -> anyhow::Result<String> {
        if self.container(node).await?.is_none() {
            let nodes = self.nodes();
            let (_, model) =
                nodes.iter().find(|(_, container)| container.is_running()).context("no node runs")?;
            let volume = format!("{}-{}", node.name, Utc::now().format("%Y%m%dt%H%M%Sz"));
            let service = like(model, node, &volume, replaced);
            self.compose.nodes_file()?.put(&node.name, service, &volume)?;
        }
        self.compose.run(&["up", "-d", "--no-deps", "--no-recreate", &node.name]).await?;
        Ok(format!("started the container {}", node.name))
    }

    pub fn start_patience(&self) -> Duration {
        Duration::from_secs(30)
    }

    pub async fn stop(&self, node: &Node) -> anyhow::Result<()> {
        self.compose.run(&["stop", &node.name]).await
    }

    /// The container goes, its volume stays; who joins under this name gets a new one.
    pub async fn set_aside(&self, node: &Node) -> anyhow::Result<Option<String>> {
        let Some(container) = self.container(node).await? else { return Ok(None) };
        ensure!(!container.is_running(), "{} still runs", node.name);
        let volume = container.mounts().iter().find(|mount| mount.destination == DATA);
        let volume = volume.and_then(|mount| mount.name.clone());
        self.compose.docker(&["rm", &container.id]).await?;
        self.compose.nodes_file()?.strike(&node.name, is_in_base(&container))?;
        Ok(volume.map(|volume| format!("the volume {volume}")))
    }

    /// It is in the second compose file since its start.
    pub async fn enlist(&mut self, _node: &Node) -> anyhow::Result<()> {
        self.containers = self.compose.containers().await?;
        Ok(())
    }

    pub async fn succeed(&mut self, _dead: &Node, newcomer: &Node) -> anyhow::Result<()> {
        self.enlist(newcomer).await
    }

    /// It is struck when it is set aside.
    pub async fn strike(&mut self, node: &Node) -> anyhow::Result<()> {
        self.enlist(node).await
    }

    pub async fn last_words(&self, node: &Node) -> String {
        let Ok(Some(container)) = self.container(node).await else { return String::new() };
        match self.compose.docker(&["logs", "--tail", "20", &container.id]).await {
            Ok(lines) if !lines.trim().is_empty() => {
                format!("; the last lines of its log:\n{}", lines.trim_end())
            }
            _ => format!("; see `docker logs {}`", container.short_id()),
        }
    }

    pub fn restart_remedy(&self, _node: &Node) -> String {
        "start it with `iotctl up --docker`".into()
    }

    pub fn nodetool(&self, node: &Node, arguments: &[&str]) -> Command {
        let mut command = self.compose.command(&["exec", "-T", &node.name, "nodetool"]);
        command.args(arguments).stdin(Stdio::null());
        command
    }
}

/// The number in `cassandra-4`.
fn number(service: &str) -> Option<u8> {
    service.strip_prefix("cassandra-")?.parse().ok().filter(|number| *number > 0)
}

fn number_of(node: &Node) -> anyhow::Result<u8> {
    number(&node.name).with_context(|| format!("{} has no number", node.name))
}

/// Nodes of docker-compose.yml keep their data in a volume of their own name.
fn is_in_base(container: &Container) -> bool {
    let own = format!("_{}", container.service());
    let data = container.mounts().iter().find(|mount| mount.destination == DATA);
    data.and_then(|mount| mount.name.as_ref()).is_some_and(|name| name.ends_with(&own))
}

/// The service of a node that is made like another one.
fn like(model: &Container, node: &Node, volume: &str, replaced: Option<IpAddr>) -> Value {
    let is_setting = |name: &str| {
        name.starts_with("CASSANDRA_") && name != "CASSANDRA_HOME" && name != "CASSANDRA_CONF"
            || matches!(name, "MAX_HEAP_SIZE" | "HEAP_NEWSIZE" | "JVM_EXTRA_OPTS")
    };
    let mut environment = model.environment(is_setting);
    let options = environment.entry("JVM_EXTRA_OPTS".into()).or_default();
    // What the model itself was started with to replace a node is not this one's.
    let words = options.split_whitespace().filter(|word| !word.starts_with("-Dcassandra.replace_address"));
    let mut words: Vec<_> = words.map(str::to_owned).collect();
    words.extend(replaced.map(|dead| format!("-Dcassandra.replace_address_first_boot={dead}")));
    *options = words.join(" ");
    // Compose reads a dollar as the beginning of a variable.
    let environment: serde_json::Map<_, _> =
        environment.into_iter().map(|(name, value)| (name, Value::from(value.replace('$', "$$")))).collect();
    let mut volumes = vec![format!("{volume}:{DATA}")];
    let shared = model.mounts().iter().filter(|mount| mount.destination != DATA);
    volumes.extend(shared.filter_map(|mount| {
        let name = mount.name.as_ref()?;
        // In the file a volume is named without the project.
        let key = name.strip_prefix(model.project()).and_then(|rest| rest.strip_prefix('_')).unwrap_or(name);
        Some(format!("{key}:{}:ro", mount.destination))
    }));
    let mut service = json!({
        "image": model.image(),
        "restart": "unless-stopped",
        "stop_grace_period": "60s",
        "environment": environment,
        "volumes": volumes,
        "networks": { "iotctl": { "ipv4_address": node.ip().to_string() } },
    });
    if model.memory_limit() > 0 {
        service["mem_limit"] = model.memory_limit().into();
    }
    if let Some(check) = model.healthcheck() {
        service["healthcheck"] = healthcheck(check);
    }
    service
}

/// The engine has durations in nanoseconds and names of its own.
fn healthcheck(check: &Value) -> Value {
    let mut healthcheck = json!({});
    if let Some(test) = check["Test"].as_array() {
        let words = test.iter().filter_map(Value::as_str).map(|word| word.replace('$', "$$"));
        healthcheck["test"] = words.collect::<Vec<_>>().into();
    }
    for (name, key) in [("Interval", "interval"), ("Timeout", "timeout"), ("StartPeriod", "start_period")] {
        if let Some(nanos) = check[name].as_u64() {
            healthcheck[key] = format!("{}ms", nanos / 1_000_000).into();
        }
    }
    if let Some(retries) = check["Retries"].as_u64() {
        healthcheck["retries"] = retries.into();
    }
    healthcheck
}
