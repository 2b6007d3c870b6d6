//! The operator's own machines. The cluster itself reports its members; what has to happen on a machine is done by the
//! commands in `[cluster]`, which a shell runs with the node's address in `$NODE`, so that no address is ever pasted into
//! a command line. Without a command, the message names what to do by hand.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytesize::ByteSize;
use futures::future::join_all;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

use super::{Disk, Node};
use crate::config::{ClusterConfig, Config};
use crate::error::UsageError;
use crate::servers::local::layout;
use crate::servers::membership::nodetool;
use crate::servers::membership::view::View;

const PROBE_DEADLINE: Duration = Duration::from_secs(3);
const START_PATIENCE: Duration = Duration::from_secs(120);
const NATIVE_PORT: u16 = 9042;

#[derive(Debug)]
pub struct Remote {
    config: ClusterConfig,
    contact_points: Vec<String>,
}

/// Journals of this cluster, in the user's data folder.
pub(super) fn journals(config: &Config) -> anyhow::Result<PathBuf> {
    let first = config.cassandra.contact_points.first().map_or("", String::as_str);
    let plain = |char: char| if char.is_ascii_alphanumeric() || char == '.' { char } else { '-' };
    let name: String = first.chars().map(plain).collect();
    Ok(layout::user_data_dir("cluster.journal_dir")?.join("journals").join(name))
}

impl Remote {
    pub fn open(config: &Config) -> Self {
        Self { config: config.cluster.clone(), contact_points: config.cassandra.contact_points.clone() }
    }

    pub fn contact_points(&self) -> anyhow::Result<Vec<String>> {
        Ok(self.contact_points.clone())
    }

    /// By address; whether it is a member is for the cluster to report.
    pub fn find(&self, name: &str) -> anyhow::Result<Node> {
        let address = name.parse::<SocketAddr>().or_else(|_| {
            name.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, NATIVE_PORT)).map_err(|_| {
                UsageError::new(format!(
                    "{name:?} is not an address (name a node as `iotctl node list` shows it)"
                ))
            })
        })?;
        self.member(address)
    }

    pub fn named(&self, name: &str) -> anyhow::Result<Node> {
        self.find(name)
    }

    pub fn member(&self, address: SocketAddr) -> anyhow::Result<Node> {
        let name = match address.port() {
            NATIVE_PORT => address.ip().to_string(),
            _ => address.to_string(),
        };
        Ok(Node { name, address })
    }

    /// The first of the configured hosts that is no member.
    pub fn next(&self, view: &View) -> anyhow::Result<Node> {
        for host in &self.config.hosts {
            let node = self.find(host)?;
            if view.member(node.ip()).is_none() {
                return Ok(node);
            }
        }
        bail!(UsageError::new(
            "no host is left that could join (add the address of a machine to cluster.hosts, with Cassandra installed \
             and configured, but not started)"
        ))
    }

    /// The seeds that each member reports besides itself.
    pub async fn seeds(&self, view: &View) -> anyhow::Result<Vec<IpAddr>> {
        let mut seeds = Vec::new();
        for member in &view.members {
            let node = self.member(member.address)?;
            let what = format!("nodetool getseeds for {}", node.name);
            let said = self.finish(self.nodetool(&node, &["getseeds"]), &what).await?;
            ensure!(said.status.success(), "{what} failed: {}", nodetool::reason(&said));
            for ip in addresses(&String::from_utf8_lossy(&said.stdout)) {
                if !seeds.contains(&ip) {
                    seeds.push(ip);
                }
            }
        }
        Ok(seeds)
    }

    pub async fn obstacles(&self, node: &Node) -> anyhow::Result<Vec<String>> {
        let mut reasons = Vec::new();
        if self.is_running(node).await? || is_open(node.address).await {
            reasons
                .push(format!("something answers at {} (stop it, and clear its data directory)", node.name));
        }
        if self.config.start_command.is_none() {
            reasons.push("iotctl does not know how to start a node (set cluster.start_command)".into());
        }
        if let Some(command) = &self.config.check_command
            && let Err(error) = self.run("cluster.check_command", command, node, None).await
        {
            reasons.push(format!("{error:#}"));
        }
        Ok(reasons)
    }

    pub async fn disks(&self, nodes: &[Node]) -> anyhow::Result<Vec<Disk>> {
        let Some(command) = &self.config.disk_command else { return Ok(Vec::new()) };
        let disks = nodes.iter().map(async |node| {
            let said = self.run("cluster.disk_command", command, node, None).await?;
            let bytes = said.trim().parse().with_context(|| {
                format!("cluster.disk_command prints {said:?} for {} instead of a number of bytes", node.name)
            })?;
            Ok(Disk { free: ByteSize::b(bytes), place: node.name.clone() })
        });
        join_all(disks).await.into_iter().collect()
    }

    /// Cassandra listens for other nodes from the start, and for clients only after it has joined.
    pub async fn is_running(&self, node: &Node) -> anyhow::Result<bool> {
        Ok(is_open(SocketAddr::new(node.ip(), self.config.storage_port)).await)
    }

    pub async fn start(&self, node: &Node, replaced: Option<IpAddr>) -> anyhow::Result<String> {
        let (key, command) = match replaced {
            None => ("cluster.start_command", &self.config.start_command),
            Some(_) => ("cluster.replace_command", &self.config.replace_command),
        };
        let Some(command) = command else {
            bail!(UsageError::new(format!("iotctl does not know how to start {} (set {key})", node.name)));
        };
        self.run(key, command, node, replaced).await?;
        Ok(format!("started by {key}"))
    }

    /// The command may return before Cassandra listens.
    pub fn start_patience(&self) -> Duration {
        START_PATIENCE
    }

    /// A node that has left no longer listens but still runs, so the command is run even if nothing answers.
    pub async fn stop(&self, node: &Node) -> anyhow::Result<()> {
        let Some(command) = &self.config.stop_command else {
            if !self.is_running(node).await? {
                return Ok(());
            }
            bail!(UsageError::new(format!(
                "{} still runs and iotctl does not know how to stop it (stop it, or set cluster.stop_command, and run the \
                 same command again)",
                node.name
            )));
        };
        self.run("cluster.stop_command", command, node, None).await.map(|_| ())
    }

    pub async fn set_aside(&self, node: &Node) -> anyhow::Result<Option<String>> {
        let Some(command) = &self.config.set_aside_command else {
            return Ok(Some(format!(
                "its own data directory on {}, which has to be moved before Cassandra is started there again",
                node.name
            )));
        };
        let said = self.run("cluster.set_aside_command", command, node, None).await?;
        let said = said.lines().next().map(str::trim).filter(|line| !line.is_empty());
        Ok(said.map(|place| format!("{place} on {}", node.name)))
    }

    /// What starts with the machine is up to the machine's own service manager.
    pub async fn enlist(&mut self, _node: &Node) -> anyhow::Result<()> {
        Ok(())
    }

    pub async fn succeed(&mut self, _dead: &Node, _newcomer: &Node) -> anyhow::Result<()> {
        Ok(())
    }

    pub async fn strike(&mut self, _node: &Node) -> anyhow::Result<()> {
        Ok(())
    }

    pub async fn last_words(&self, node: &Node) -> String {
        format!("; its log is on {}", node.name)
    }

    pub fn restart_remedy(&self, node: &Node) -> String {
        format!("start Cassandra on {} again", node.name)
    }

    /// The password is passed in a file, because every user of a machine sees the arguments of its processes.
    pub fn nodetool(&self, node: &Node, arguments: &[&str]) -> Command {
        let ClusterConfig { nodetool, jmx_host, jmx_port, jmx_username, jmx_password_file, .. } =
            &self.config;
        let mut command = shell(&format!("{nodetool} \"$@\""), node, None);
        command.arg("nodetool");
        command.arg("-h").arg(jmx_host.clone().unwrap_or_else(|| node.ip().to_string()));
        command.arg("-p").arg(jmx_port.to_string());
        if let (Some(username), Some(file)) = (jmx_username, jmx_password_file) {
            command.arg("-u").arg(username).arg("-pwf").arg(file);
        }
        command.args(arguments);
        command
    }

    /// What one of the operator's commands prints.
    async fn run(
        &self,
        key: &str,
        command: &str,
        node: &Node,
        dead: Option<IpAddr>,
    ) -> anyhow::Result<String> {
        let what = format!("{key} for {}", node.name);
        let output = self.finish(shell(command, node, dead), &what).await?;
        let said = [&output.stderr[..], &output.stdout[..]].concat();
        let said = String::from_utf8_lossy(&said);
        let reason =
            said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it gives no reason");
        ensure!(output.status.success(), "{what} failed: {reason}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a command to its end, within `cluster.command_timeout`.
    async fn finish(&self, mut command: Command, what: &str) -> anyhow::Result<Output> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let limit = self.config.command_timeout;
        match timeout(limit, command.output()).await {
            Ok(output) => output.with_context(|| format!("cannot run {what}")),
            Err(_) => bail!(
                "{what} did not end within {} (fix it, or raise cluster.command_timeout)",
                humantime::format_duration(limit)
            ),
        }
    }
}

fn shell(command: &str, node: &Node, dead: Option<IpAddr>) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command).stdin(Stdio::null()).kill_on_drop(true);
    shell.env("NODE", node.ip().to_string());
    if let Some(dead) = dead {
        shell.env("DEAD", dead.to_string());
    }
    shell
}

async fn is_open(address: SocketAddr) -> bool {
    matches!(timeout(PROBE_DEADLINE, TcpStream::connect(address)).await, Ok(Ok(_)))
}

/// Addresses in what `nodetool getseeds` prints, such as "/10.0.0.1:7000 node2/10.0.0.2:7000".
fn addresses(text: &str) -> Vec<IpAddr> {
    let words = text.split_whitespace().filter_map(|word| word.rsplit('/').next());
    words
        .filter_map(|word| {
            let with_port = word.parse::<SocketAddr>().map(|address| address.ip());
            with_port.or_else(|_| word.parse()).ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn remote(config: ClusterConfig) -> Remote {
        Remote::open(&Config { cluster: config, ..Config::default() })
    }

    fn node(remote: &Remote) -> Node {
        remote.find("127.0.0.77").unwrap()
    }

    #[test]
    fn a_node_is_named_by_its_address() {
        let remote = remote(ClusterConfig::default());
        assert_eq!(node(&remote).name, "127.0.0.77");
        assert_eq!(node(&remote).address, "127.0.0.77:9042".parse().unwrap());
        assert_eq!(remote.find("10.0.0.1:9043").unwrap().name, "10.0.0.1:9043");
        assert!(remote.find("node-1; rm -rf /").unwrap_err().to_string().contains("is not an address"));
    }

    #[test]
    fn seeds_are_read_from_what_nodetool_prints() {
        let text = "Current list of seed node IPs, excluding the current node's IP: /10.0.0.1:7000 n2/10.0.0.2:7000\n";
        assert_eq!(addresses(text), [IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])]);
        let none = "Seed node list does not contain any remote node IPs\n";
        assert_eq!(addresses(none), Vec::<IpAddr>::new());
    }

    #[tokio::test]
    async fn a_command_gets_the_addresses_in_its_environment() {
        let remote = remote(ClusterConfig::default());
        let dead = Some(IpAddr::from([127, 0, 0, 78]));
        let said = remote.run("key", "echo $NODE instead of $DEAD", &node(&remote), dead).await.unwrap();
        assert_eq!(said, "127.0.0.77 instead of 127.0.0.78\n");
    }

    #[tokio::test]
    async fn a_command_that_fails_or_hangs_is_named_with_its_reason() {
        let limit = Duration::from_millis(300);
        let remote = remote(ClusterConfig { command_timeout: limit, ..ClusterConfig::default() });
        let failed =
            remote.run("cluster.x", "echo; echo no such unit >&2; exit 5", &node(&remote), None).await;
        assert_eq!(failed.unwrap_err().to_string(), "cluster.x for 127.0.0.77 failed: no such unit");
        let started = Instant::now();
        let hung = remote.run("cluster.x", "sleep 60", &node(&remote), None).await.unwrap_err().to_string();
        assert!(hung.contains("did not end within 300ms"), "{hung}");
        assert!(started.elapsed() < Duration::from_secs(5));
    }

    #[tokio::test]
    async fn free_disk_is_a_number_of_bytes_or_nothing() {
        let with = |command: Option<&str>| {
            remote(ClusterConfig { disk_command: command.map(str::to_owned), ..ClusterConfig::default() })
        };
        let known = with(Some("echo 4096"));
        let disks = known.disks(&[node(&known)]).await.unwrap();
        assert_eq!(disks, [Disk { free: ByteSize::b(4096), place: "127.0.0.77".into() }]);
        let unknown = with(None);
        assert_eq!(unknown.disks(&[node(&unknown)]).await.unwrap(), []);
        let strange = with(Some("df -h /nowhere-at-all; echo much"));
        let error = strange.disks(&[node(&strange)]).await.unwrap_err();
        assert!(format!("{error:#}").contains("instead of a number of bytes"), "{error:#}");
    }

    #[test]
    fn the_jmx_password_is_not_an_argument() {
        let config = ClusterConfig {
            jmx_username: Some("operator".into()),
            jmx_password_file: Some("/etc/iotctl/jmx".into()),
            ..ClusterConfig::default()
        };
        let remote = remote(config);
        let command = remote.nodetool(&node(&remote), &["status"]);
        let arguments: Vec<_> = command.as_std().get_args().map(|text| text.to_string_lossy()).collect();
        let words = ["-h", "127.0.0.77", "-p", "7199", "-u", "operator", "-pwf", "/etc/iotctl/jmx", "status"];
        assert_eq!(arguments[3..], words);
    }
}
