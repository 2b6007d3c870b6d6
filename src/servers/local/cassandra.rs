//! A Cassandra node: its configuration files and the command that runs it.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use bytesize::ByteSize;

use super::Kind;
use super::cluster::Server;
use super::java::Java;
use super::layout::Layout;
use super::monitoring::agent_option;
use super::template::{file_url, render};
use crate::config::LocalConfig;

const YAML: &str = include_str!("templates/cassandra.yaml");
const LOGBACK: &str = include_str!("templates/logback.xml");
const MAIN: &str = "org.apache.cassandra.service.CassandraDaemon";
const MIB: u64 = 1 << 20;

/// What Cassandra 5.0's own conf/jvm17-server.options opens, by module.
const EXPORTS: [&str; 11] = [
    "java.base/jdk.internal.misc",
    "java.base/jdk.internal.ref",
    "java.base/sun.nio.ch",
    "java.base/java.lang.ref",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.sql/java.sql",
    "jdk.unsupported/sun.misc",
    "jdk.compiler/com.sun.tools.javac.file",
    "jdk.attach/sun.tools.attach",
];
const OPENS: [&str; 17] = [
    "java.base/java.lang.module",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.util.jar",
    "java.base/sun.nio.ch",
    "java.base/java.io",
    "java.base/java.lang.reflect",
    "java.base/java.lang",
    "java.base/java.util",
    "java.base/java.nio",
    "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic",
    "jdk.management/com.sun.management.internal",
    "jdk.compiler/com.sun.tools.javac",
];

/// What the nodes of a cluster have in common.
#[derive(Debug, Clone)]
pub struct Nodes<'a> {
    pub config: &'a LocalConfig,
    pub layout: &'a Layout,
    pub java: &'a Java,
    pub jars: &'a Path,
    pub heap: ByteSize,
    /// Indexes and addresses: in a fresh cluster that starts at once, each node is a seed.
    pub seeds: Vec<(u16, IpAddr)>,
    /// A dead node whose place the started one takes.
    pub replaced: Option<IpAddr>,
    /// The folder of the metrics agent, with `--monitoring`.
    pub agent: Option<&'a Path>,
}

impl Nodes<'_> {
    /// Writes the node's configuration and returns the command that runs it.
    pub fn prepare(&self, server: &Server) -> anyhow::Result<Command> {
        let dir = self.layout.server_dir(&server.name);
        let (conf, triggers) = (dir.join("conf"), dir.join("conf/triggers"));
        // Cassandra complains in its log where there is no folder for triggers.
        std::fs::create_dir_all(&triggers).with_context(|| format!("cannot make {}", triggers.display()))?;
        let (yaml, logback) = (conf.join("cassandra.yaml"), conf.join("logback.xml"));
        for (path, text) in [(&yaml, self.yaml(server, &dir)), (&logback, LOGBACK.to_owned())] {
            std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        let mut options = self.jvm_options()?;
        let jmx = self.config.cassandra_jmx_port.saturating_add(server.index);
        options.extend([
            format!("-Dcassandra.config={}", file_url(&yaml)),
            format!("-Dcassandra.storagedir={}", dir.display()),
            format!("-Dcassandra.triggers_dir={}", triggers.display()),
            format!("-Dcassandra.logdir={}", dir.join("audit").display()),
            format!("-Dlogback.configurationFile={}", file_url(&logback)),
            format!("-Diotctl.log={}", self.layout.log(&server.name).display()),
            format!("-Dcassandra.jmx.local.port={jmx}"),
            "-Dcassandra.ring_delay_ms=5000".into(),
            "-Dcassandra-foreground=yes".into(),
        ]);
        if self.is_seed(server) {
            // All nodes are known and start together: there is no gossip to wait for.
            options.push("-Dcassandra.skip_wait_for_gossip_to_settle=0".into());
        }
        if let Some(replaced) = self.replaced {
            options.push(format!("-Dcassandra.replace_address_first_boot={replaced}"));
        }
        if let Some(jars) = self.agent {
            let address = SocketAddr::new(server.address.ip(), self.config.cassandra_metrics_port);
            options.push(agent_option(jars, address, Kind::Cassandra, &dir)?);
        }
        options.extend(self.config.cassandra_jvm_options.iter().cloned());
        let mut command = self.java.command(self.jars, options, MAIN);
        // Where a crash of the JVM leaves its report.
        command.current_dir(&dir);
        Ok(command)
    }

    fn yaml(&self, server: &Server, dir: &Path) -> String {
        let seeds: Vec<_> =
            self.seeds.iter().map(|(_, ip)| format!("{ip}:{}", self.config.cassandra_storage_port)).collect();
        render(
            YAML,
            &[
                ("cluster_name", "iotctl".into()),
                ("address", server.address.ip().to_string()),
                ("cassandra_port", self.config.cassandra_port.to_string()),
                ("storage_port", self.config.cassandra_storage_port.to_string()),
                ("seeds", seeds.join(",")),
                ("auto_bootstrap", (!self.is_seed(server)).to_string()),
                // With one replica there is nothing to choose between.
                ("dynamic_snitch", (self.seeds.len() > 1 || !self.is_seed(server)).to_string()),
                ("memtable_mib", (self.heap.as_u64() / 4 / MIB).max(1).to_string()),
                ("data_dir", dir.display().to_string()),
            ],
        )
    }

    fn is_seed(&self, server: &Server) -> bool {
        self.seeds.iter().any(|(index, _)| *index == server.index)
    }

    fn jvm_options(&self) -> anyhow::Result<Vec<String>> {
        let heap = self.heap.as_u64() / MIB;
        let agent = jamm(self.jars)?;
        let mut options = vec![
            format!("-Xms{heap}m"),
            format!("-Xmx{heap}m"),
            "-Xss256k".into(),
            "-XX:+UseG1GC".into(),
            // Tries, file buffers and network buffers live beside the heap.
            format!("-XX:MaxDirectMemorySize={}m", (heap * 3 / 4).max(256)),
            // A node without memory must not linger half dead.
            "-XX:+ExitOnOutOfMemoryError".into(),
            // Else each safepoint may wait for the disk.
            "-XX:+PerfDisableSharedMem".into(),
            format!("-javaagent:{}", agent.display()),
            "-Djdk.attach.allowAttachSelf=true".into(),
            "-Dio.netty.tryReflectionSetAccessible=true".into(),
            "-Djava.net.preferIPv4Stack=true".into(),
        ];
        options.extend(EXPORTS.map(|package| format!("--add-exports={package}=ALL-UNNAMED")));
        options.extend(OPENS.map(|package| format!("--add-opens={package}=ALL-UNNAMED")));
        Ok(options)
    }
}

/// The agent that Cassandra measures its objects with.
fn jamm(jars: &Path) -> anyhow::Result<std::path::PathBuf> {
    let entries = std::fs::read_dir(jars).with_context(|| format!("cannot list {}", jars.display()))?;
    let is_jamm = |path: &std::path::PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("jamm-"))
    };
    match entries.filter_map(|entry| Some(entry.ok()?.path())).find(is_jamm) {
        Some(path) => Ok(path),
        None => bail!("there is no jamm-*.jar in {} (delete that folder, and run again)", jars.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_has_no_blank_left_and_binds_to_its_address() {
        let config = LocalConfig { data_dir: Some("/data dir".into()), ..Default::default() };
        let layout = Layout::of(&config).unwrap();
        let nodes = Nodes {
            config: &config,
            layout: &layout,
            java: &Java { program: "java".into(), version: 17 },
            jars: Path::new("/jars"),
            heap: ByteSize::mib(768),
            seeds: vec![(0, "127.0.0.1".parse().unwrap()), (1, "127.0.0.2".parse().unwrap())],
            replaced: None,
            agent: None,
        };
        let server = Server {
            name: "cassandra-2".into(),
            kind: Kind::Cassandra,
            address: "127.0.0.2:9042".parse().unwrap(),
            index: 1,
        };
        let yaml = nodes.yaml(&server, &layout.server_dir("cassandra-2"));
        assert!(!yaml.contains("{{"), "{yaml}");
        for line in [
            "listen_address: 127.0.0.2",
            "rpc_address: 127.0.0.2",
            "      - seeds: \"127.0.0.1:7000,127.0.0.2:7000\"",
            "memtable_heap_space: 192MiB",
            "commitlog_directory: \"/data dir/cassandra-2/commitlog\"",
            "materialized_views_enabled: true",
            "auto_bootstrap: false",
        ] {
            assert!(yaml.lines().any(|found| found == line), "{line} is not in\n{yaml}");
        }
        let newcomer = Server { name: "cassandra-3".into(), index: 2, ..server };
        let yaml = nodes.yaml(&newcomer, &layout.server_dir("cassandra-3"));
        assert!(yaml.contains("auto_bootstrap: true"), "what joins later streams its data first");
    }

    #[test]
    fn the_users_options_come_after_those_of_iotctl() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("jamm-1.jar"), "").unwrap();
        let config = LocalConfig {
            data_dir: Some(folder.path().join("data")),
            cassandra_jvm_options: vec!["-XX:-UseG1GC".into(), "-Da=b c".into()],
            ..Default::default()
        };
        let nodes = Nodes {
            config: &config,
            layout: &Layout::of(&config).unwrap(),
            java: &Java { program: "java".into(), version: 17 },
            jars: folder.path(),
            heap: ByteSize::mib(768),
            seeds: vec![(0, "127.0.0.1".parse().unwrap())],
            replaced: None,
            agent: None,
        };
        let address = "127.0.0.1:9042".parse().unwrap();
        let server = Server { name: "cassandra-1".into(), kind: Kind::Cassandra, address, index: 0 };
        let command = nodes.prepare(&server).unwrap();
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
        let place = |option: &str| arguments.iter().position(|argument| argument == option).unwrap();
        assert!(place("-XX:+UseG1GC") < place("-XX:-UseG1GC"));
        assert_eq!(place("-XX:-UseG1GC") + 1, place("-Da=b c"));
        assert!(place("-Da=b c") < place("-cp"), "the class is last");
    }
}
