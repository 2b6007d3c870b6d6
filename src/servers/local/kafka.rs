//! The Kafka brokers, by themselves or with a ZooKeeper: configuration files and the commands that run them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use bytesize::ByteSize;
use uuid::Uuid;

use super::Kind;
use super::cluster::{Cluster, KafkaMode, Server};
use super::java::{self, Java};
use super::layout::Layout;
use super::monitoring::agent_option;
use super::template::{property, render};
use crate::config::LocalConfig;

const KRAFT: &str = include_str!("templates/kafka-kraft.properties");
const WITH_ZOOKEEPER: &str = include_str!("templates/kafka-zookeeper.properties");
const COMMON: &str = include_str!("templates/kafka-common.properties");
const ZOOKEEPER: &str = include_str!("templates/zookeeper.properties");
const MIB: u64 = 1 << 20;

/// What the brokers and their ZooKeeper have in common.
#[derive(Debug, Clone)]
pub struct Broker<'a> {
    pub config: &'a LocalConfig,
    pub layout: &'a Layout,
    pub java: &'a Java,
    pub jars: &'a Path,
    pub cluster: &'a Cluster,
    pub heap: ByteSize,
    /// The folder of the metrics agent, with `--monitoring`.
    pub agent: Option<&'a Path>,
}

impl Broker<'_> {
    /// Writes the broker's configuration, formats its storage the first time, and returns the command that runs it.
    pub async fn prepare(&self, server: &Server) -> anyhow::Result<Command> {
        let template = match self.cluster.kafka {
            KafkaMode::Kraft => format!("{KRAFT}{COMMON}"),
            KafkaMode::Zookeeper => format!("{WITH_ZOOKEEPER}{COMMON}"),
        };
        let (properties, data) = self.write(server, "server.properties", &template)?;
        if self.cluster.kafka == KafkaMode::Kraft && !data.join("meta.properties").is_file() {
            self.format(&properties).await?;
        }
        let mut more = Vec::new();
        if let Some(jars) = self.agent {
            let address = SocketAddr::new(server.address.ip(), self.config.kafka_metrics_port);
            let dir = self.layout.server_dir(&server.name);
            more.push(agent_option(jars, address, Kind::Kafka, &dir)?);
        }
        Ok(self.command(server, "kafka.Kafka", &properties, self.heap, more))
    }

    /// The same for the ZooKeeper.
    pub fn prepare_zookeeper(&self, server: &Server) -> anyhow::Result<Command> {
        let (properties, _) = self.write(server, "zookeeper.properties", ZOOKEEPER)?;
        let main = "org.apache.zookeeper.server.quorum.QuorumPeerMain";
        Ok(self.command(server, main, &properties, ByteSize::mib(128), Vec::new()))
    }

    /// Writes the configuration file; returns its path and the folder of the data.
    fn write(&self, server: &Server, name: &str, template: &str) -> anyhow::Result<(PathBuf, PathBuf)> {
        let dir = self.layout.server_dir(&server.name);
        let (file, data) = (dir.join(name), dir.join("data"));
        std::fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
        let text = self.properties(server, template, &data)?;
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        Ok((file, data))
    }

    fn properties(&self, server: &Server, template: &str, data: &Path) -> anyhow::Result<String> {
        let replicas = self.cluster.brokers.min(3);
        Ok(render(
            template,
            &[
                ("id", broker_id(server).to_string()),
                ("quorum", self.quorum()?),
                ("first_address", self.cluster.address.to_string()),
                ("replicas", replicas.to_string()),
                // One replica of three may be missing.
                ("min_in_sync", if replicas == 3 { "2" } else { "1" }.to_owned()),
                ("address", server.address.ip().to_string()),
                ("kafka_port", self.config.kafka_port.to_string()),
                ("controller_port", self.config.kafka_controller_port.to_string()),
                ("zookeeper_port", self.config.zookeeper_port.to_string()),
                ("data_dir", property(data)),
            ],
        ))
    }

    /// The controllers: every broker is one.
    fn quorum(&self) -> anyhow::Result<String> {
        let port = self.config.kafka_controller_port;
        if self.cluster.brokers == 1 {
            return Ok(format!("controller.quorum.bootstrap.servers={}:{port}", self.cluster.address));
        }
        let brokers = self.cluster.brokers(self.config)?;
        let voters: Vec<_> = brokers
            .iter()
            .map(|broker| format!("{}@{}:{port}", broker_id(broker), broker.address.ip()))
            .collect();
        Ok(format!("controller.quorum.voters={}", voters.join(",")))
    }

    /// KRaft wants its storage formatted with the cluster's id before the first start.
    async fn format(&self, properties: &Path) -> anyhow::Result<()> {
        let mut command = self.java.command(self.jars, vec!["-Xmx128m".into()], "kafka.tools.StorageTool");
        command.args(["format", "--cluster-id", &self.cluster.kafka_id]);
        if self.cluster.brokers == 1 {
            command.arg("--standalone");
        }
        command.arg("--config").arg(properties);
        java::run(command, "format Kafka's storage", self.config.boot_timeout).await
    }

    fn command(
        &self,
        server: &Server,
        main: &str,
        properties: &Path,
        heap: ByteSize,
        more: Vec<String>,
    ) -> Command {
        let heap = heap.as_u64() / MIB;
        let logger = "-Dorg.slf4j.simpleLogger";
        let mut options = vec![
            format!("-Xms{heap}m"),
            format!("-Xmx{heap}m"),
            "-XX:+UseG1GC".into(),
            "-XX:+ExitOnOutOfMemoryError".into(),
            "-Djava.net.preferIPv4Stack=true".into(),
            format!("{logger}.showDateTime=true"),
            format!("{logger}.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS"),
        ];
        options.extend(more);
        options.extend(self.config.kafka_jvm_options.iter().cloned());
        let mut command = self.java.command(self.jars, options, main);
        command.arg(properties).current_dir(self.layout.server_dir(&server.name));
        command
    }
}

/// Kafka's number of a broker, from 1.
pub fn broker_id(server: &Server) -> u16 {
    server.index + 1
}

/// A random id as Kafka writes them: 16 bytes in 22 characters of base64. Hexadecimal digits are base64 too, and
/// the last character carries no more than zero bits.
pub fn cluster_id() -> String {
    format!("{}A", &Uuid::new_v4().simple().to_string()[..21])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_modes_have_no_blank_left_and_bind_to_their_address() {
        let config = LocalConfig { data_dir: Some("/data".into()), ..Default::default() };
        let layout = Layout::of(&config).unwrap();
        let broker = Broker {
            config: &config,
            layout: &layout,
            java: &Java { program: "java".into(), version: 17 },
            jars: Path::new("/jars"),
            cluster: &Cluster::fresh(1, KafkaMode::Kraft, [127, 0, 0, 9].into()),
            heap: ByteSize::mib(512),
            agent: None,
        };
        let address = "127.0.0.9:9092".parse().unwrap();
        let server = Server { name: "kafka".into(), kind: Kind::Kafka, address, index: 0 };
        for template in [KRAFT, WITH_ZOOKEEPER, COMMON, ZOOKEEPER] {
            let text = broker.properties(&server, template, Path::new("/data/kafka/data")).unwrap();
            assert!(!text.contains("{{"), "{text}");
        }
        let text = broker.properties(&server, KRAFT, Path::new("/data/kafka/data")).unwrap();
        assert!(text.contains("listeners=PLAINTEXT://127.0.0.9:9092,CONTROLLER://127.0.0.9:9093"), "{text}");
        assert!(text.contains("controller.quorum.bootstrap.servers=127.0.0.9:9093\n"), "{text}");
    }

    #[test]
    fn three_brokers_know_each_other_and_keep_three_replicas_of_which_one_may_be_missing() {
        let config = LocalConfig { data_dir: Some("/data".into()), ..Default::default() };
        let cluster = Cluster { brokers: 3, ..Cluster::fresh(1, KafkaMode::Kraft, [127, 0, 0, 9].into()) };
        let broker = Broker {
            config: &config,
            layout: &Layout::of(&config).unwrap(),
            java: &Java { program: "java".into(), version: 17 },
            jars: Path::new("/jars"),
            cluster: &cluster,
            heap: ByteSize::mib(512),
            agent: None,
        };
        let third = &cluster.brokers(&config).unwrap()[2];
        let text =
            broker.properties(third, &format!("{KRAFT}{COMMON}"), Path::new("/data/kafka-3/data")).unwrap();
        for line in [
            "node.id=3",
            "controller.quorum.voters=1@127.0.0.9:9093,2@127.0.0.10:9093,3@127.0.0.11:9093",
            "advertised.listeners=PLAINTEXT://127.0.0.11:9092,CONTROLLER://127.0.0.11:9093",
            "default.replication.factor=3",
            "min.insync.replicas=2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn cluster_ids_are_22_characters_and_differ() {
        assert_eq!(cluster_id().len(), 22);
        assert_ne!(cluster_id(), cluster_id());
    }
}
