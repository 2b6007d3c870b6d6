//! One validated configuration shared by all commands: defaults < a TOML file < environment < flags.
//!
//! This file says what can be configured and its defaults. [`keys`] describes each setting to the rest: [`load`] merges
//! the sources ([`file`], [`environment`], flags) as flat [`settings`], whose values [`value`] reads, and [`validate`]
//! checks the whole; [`error`] names the culprit when something is refused. [`show`] prints the result with its origins
//! and [`init`] writes a commented file. Nothing here opens a connection.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

pub mod duration;
mod environment;
mod error;
pub mod file;
pub mod init;
pub mod keys;
mod load;
mod names;
mod origin;
mod password_file;
mod properties;
mod secret;
mod settings;
pub mod show;
pub mod validate;
pub mod value;

pub use error::ConfigError;
pub(crate) use load::from_text;
pub use load::{Loaded, Sources};
pub use origin::Origin;
pub use secret::Secret;

/// Whether `name` can stand in a statement as it is, without quotes: what `cassandra.keyspace` is held to.
pub fn check_keyspace(name: &str) -> Result<(), validate::Violation> {
    names::keyspace("cassandra.keyspace", name)
}

/// Every setting of `iotctl`. Durations are written as `90d`, `1h 30m`, `500ms`; sizes as `64MiB`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub cassandra: CassandraConfig,
    pub schema: SchemaConfig,
    pub kafka: KafkaConfig,
    pub ingest: IngestConfig,
    pub retention: RetentionConfig,
    pub rollup: RollupConfig,
    pub forecast: ForecastConfig,
    pub local: LocalConfig,
    pub cluster: ClusterConfig,
    pub docker: DockerConfig,
}

/// How to reach Cassandra and what to ask of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CassandraConfig {
    /// `host:port` (port 9042 when absent) of some nodes; the others are discovered.
    pub contact_points: Vec<String>,
    pub keyspace: String,
    /// Only nodes of this datacenter are asked; the contact point's own when absent.
    pub local_datacenter: Option<String>,
    pub write_consistency: Consistency,
    pub read_consistency: Consistency,
    pub username: Option<String>,
    pub password: Option<Secret>,
    /// A file whose first line is the password; instead of `password`.
    pub password_file: Option<PathBuf>,
    /// The whole time a request may take, over all nodes that are tried.
    #[serde(with = "duration")]
    pub request_timeout: Duration,
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    pub connections_per_node: usize,
    pub tls: CassandraTlsConfig,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CassandraTlsConfig {
    pub enabled: bool,
    /// PEM file of the authorities to trust. Required when TLS is enabled.
    pub ca_file: Option<PathBuf>,
    /// PEM files of the client's own certificate and key, where the servers ask for one.
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// The name that the servers' certificates carry; each node's own address when absent.
    pub server_name: Option<String>,
}

/// What `schema apply` fills into schema.cql, and what decides where a row is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SchemaConfig {
    /// For SimpleStrategy; ignored where `datacenters` is given.
    pub replication_factor: u32,
    /// For NetworkTopologyStrategy: replicas by datacenter, `{ dc1 = 3, dc2 = 3 }`.
    pub datacenters: std::collections::BTreeMap<String, u32>,
    /// How long raw readings live.
    #[serde(with = "duration")]
    pub ttl: Duration,
    /// Width of the time bucket in a partition key. May be changed at any time: old buckets keep their width.
    #[serde(with = "duration")]
    pub bucket: Duration,
}

/// How long the readings of a device type live, where that is not `schema.ttl`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RetentionConfig(std::collections::BTreeMap<String, Ttl>);

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ttl(#[serde(with = "duration")] pub Duration);

impl RetentionConfig {
    pub fn of(&self, device_type: &str) -> Option<Duration> {
        self.0.get(device_type).map(|ttl| ttl.0)
    }

    /// Device types and how long their readings live.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Duration)> {
        self.0.iter().map(|(device_type, ttl)| (device_type.as_str(), ttl.0))
    }
}

/// Rollups of the readings by hour and day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RollupConfig {
    /// Whether `ingest` computes them. What is late is marked in any case.
    pub in_ingest: bool,
    /// How long those of an hour and of a day are kept, counted from the end of the day.
    #[serde(with = "duration")]
    pub hourly_retention: Duration,
    #[serde(with = "duration")]
    pub daily_retention: Duration,
}

/// Forecasts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ForecastConfig {
    /// How long stored ones are kept, counted from when they were made.
    #[serde(with = "duration")]
    pub retention: Duration,
}

/// How to reach Kafka and what to ask of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaConfig {
    pub bootstrap_servers: Vec<String>,
    pub topic: String,
    /// `<topic>.dlq` when absent.
    pub dead_letter_topic: Option<String>,
    /// `<topic>` with `-alerts` in place of `-topic` when absent.
    pub alerts_topic: Option<String>,
    /// The consumer group of `ingest`.
    pub group: String,
    /// Partitions and replicas of the topics that `schema apply` creates.
    pub partitions: i32,
    pub replication_factor: i32,
    #[serde(with = "duration")]
    pub request_timeout: Duration,
    pub security_protocol: SecurityProtocol,
    pub sasl_mechanism: SaslMechanism,
    pub sasl_username: Option<String>,
    pub sasl_password: Option<Secret>,
    /// A file whose first line is the password; instead of `sasl_password`.
    pub sasl_password_file: Option<PathBuf>,
    pub ssl_ca_location: Option<PathBuf>,
    pub ssl_certificate_location: Option<PathBuf>,
    pub ssl_key_location: Option<PathBuf>,
    pub ssl_key_password: Option<Secret>,
    /// Further librdkafka properties, as its CONFIGURATION.md names them. Those that the delivery promise rests on
    /// (acks, idempotence, offset commits) are refused.
    pub properties: std::collections::BTreeMap<String, String>,
}

/// The pipeline from Kafka to Cassandra.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngestConfig {
    /// A batch (rows of one partition) is written when it reaches this many rows…
    pub batch_rows: usize,
    /// …or this many bytes…
    pub batch_bytes: ByteSize,
    /// …or this age.
    #[serde(with = "duration")]
    pub linger: Duration,
    /// Batches being written at once.
    pub max_in_flight_batches: usize,
    /// Bytes decoded but not yet stored; beyond it, fetching waits.
    pub max_in_flight_bytes: ByteSize,
    #[serde(with = "duration")]
    pub commit_interval: Duration,
    /// On revocation or shutdown: how long to wait for what is being written.
    #[serde(with = "duration")]
    pub drain_timeout: Duration,
    /// A reading further in the future than this is a dead letter.
    #[serde(with = "duration")]
    pub max_future_skew: Duration,
    /// A message larger than this is a dead letter.
    pub max_message_bytes: ByteSize,
    /// Stop when more than this share of 1,000 messages cannot be stored; 100 never stops.
    pub max_dead_letter_percent: u8,
}

/// The servers of `iotctl up`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LocalConfig {
    /// Data, logs and pid files of the local servers; the user's data folder when absent.
    pub data_dir: Option<PathBuf>,
    /// Jars, shared between runs; the user's cache folder when absent.
    pub cache_dir: Option<PathBuf>,
    /// Address of the first node and of Kafka; further nodes take the following addresses. Loopback only.
    pub address: std::net::Ipv4Addr,
    pub cassandra_port: u16,
    pub cassandra_storage_port: u16,
    pub cassandra_jmx_port: u16,
    pub kafka_port: u16,
    pub kafka_controller_port: u16,
    pub zookeeper_port: u16,
    /// Where the JVMs show their metrics with `up --monitoring`, each at its own address.
    pub cassandra_metrics_port: u16,
    pub kafka_metrics_port: u16,
    pub prometheus_port: u16,
    pub node_exporter_port: u16,
    pub grafana_port: u16,
    /// Heap of each Cassandra node; chosen from the machine's memory when absent.
    pub cassandra_heap: Option<ByteSize>,
    pub kafka_heap: Option<ByteSize>,
    /// Below this, `status` and `doctor` complain of the disk that holds `data_dir`.
    pub least_free_disk: ByteSize,
    /// How long a server may take to come up.
    #[serde(with = "duration")]
    pub boot_timeout: Duration,
}

/// Whose nodes `iotctl node` adds and takes out, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterConfig {
    pub runtime: RuntimeKind,
    /// What was done to the membership; by the local servers, or in the user's data folder, when absent.
    pub journal_dir: Option<PathBuf>,
    /// Machines that may join, in this order.
    pub hosts: Vec<String>,
    pub nodetool: String,
    /// Where `nodetool` finds JMX; each node's own address when absent.
    pub jmx_host: Option<String>,
    pub jmx_port: u16,
    pub jmx_username: Option<String>,
    /// In nodetool's own form: a line `user password`.
    pub jmx_password_file: Option<PathBuf>,
    /// Where the nodes listen to each other.
    pub storage_port: u16,
    pub start_command: Option<String>,
    pub replace_command: Option<String>,
    pub stop_command: Option<String>,
    pub set_aside_command: Option<String>,
    pub check_command: Option<String>,
    pub disk_command: Option<String>,
    #[serde(with = "duration")]
    pub command_timeout: Duration,
}

/// The containers of `iotctl up --docker`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DockerConfig {
    /// `docker-compose.yml` in the folder where the command runs, when absent.
    pub compose_file: Option<PathBuf>,
    /// Compose's project name: the prefix of containers, networks and volumes.
    pub project: String,
}

/// Who runs the Cassandra nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeKind {
    /// `iotctl up`, on this machine
    #[default]
    Local,
    /// `iotctl up --docker`
    Docker,
    /// Machines of yours, by the commands in `[cluster]`
    Remote,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Consistency {
    Any,
    One,
    Two,
    Three,
    Quorum,
    All,
    LocalQuorum,
    EachQuorum,
    LocalOne,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SecurityProtocol {
    Plaintext,
    Ssl,
    SaslPlaintext,
    SaslSsl,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SaslMechanism {
    #[serde(rename = "PLAIN")]
    Plain,
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl Default for CassandraConfig {
    fn default() -> Self {
        Self {
            contact_points: vec!["127.0.0.1:9042".into()],
            keyspace: "sensor_data_schema".into(),
            local_datacenter: None,
            write_consistency: Consistency::LocalQuorum,
            read_consistency: Consistency::LocalQuorum,
            username: None,
            password: None,
            password_file: None,
            request_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            connections_per_node: 2,
            tls: CassandraTlsConfig::default(),
        }
    }
}

impl Default for SchemaConfig {
    fn default() -> Self {
        Self {
            replication_factor: 3,
            datacenters: Default::default(),
            ttl: Duration::from_secs(90 * 24 * 3600),
            bucket: Duration::from_secs(3600),
        }
    }
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            bootstrap_servers: vec!["127.0.0.1:9092".into()],
            topic: "iot-analytics-topic".into(),
            dead_letter_topic: None,
            alerts_topic: None,
            group: "iotctl-ingest".into(),
            partitions: 12,
            replication_factor: 1,
            request_timeout: Duration::from_secs(10),
            security_protocol: SecurityProtocol::Plaintext,
            sasl_mechanism: SaslMechanism::ScramSha512,
            sasl_username: None,
            sasl_password: None,
            sasl_password_file: None,
            ssl_ca_location: None,
            ssl_certificate_location: None,
            ssl_key_location: None,
            ssl_key_password: None,
            properties: Default::default(),
        }
    }
}

impl KafkaConfig {
    /// Where messages go that can never be stored.
    pub fn dead_letter_topic(&self) -> String {
        self.dead_letter_topic.clone().unwrap_or_else(|| format!("{}.dlq", self.topic))
    }

    /// Where live detection says what it finds.
    pub fn alerts_topic(&self) -> String {
        let stem = self.topic.strip_suffix("-topic").unwrap_or(&self.topic);
        self.alerts_topic.clone().unwrap_or_else(|| format!("{stem}-alerts"))
    }
}

impl Default for ForecastConfig {
    fn default() -> Self {
        Self { retention: Duration::from_secs(30 * 86_400) }
    }
}

impl Default for RollupConfig {
    fn default() -> Self {
        let days = |days: u64| Duration::from_secs(days * 86_400);
        Self { in_ingest: true, hourly_retention: days(400), daily_retention: days(1825) }
    }
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            batch_rows: 64,
            batch_bytes: ByteSize::kib(16),
            linger: Duration::from_millis(50),
            max_in_flight_batches: 64,
            max_in_flight_bytes: ByteSize::mib(32),
            commit_interval: Duration::from_secs(1),
            drain_timeout: Duration::from_secs(20),
            max_future_skew: Duration::from_secs(3600),
            max_message_bytes: ByteSize::mib(1),
            max_dead_letter_percent: 80,
        }
    }
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            runtime: RuntimeKind::Local,
            journal_dir: None,
            hosts: Vec::new(),
            nodetool: "nodetool".into(),
            jmx_host: None,
            jmx_port: 7199,
            jmx_username: None,
            jmx_password_file: None,
            storage_port: 7000,
            start_command: None,
            replace_command: None,
            stop_command: None,
            set_aside_command: None,
            check_command: None,
            disk_command: None,
            command_timeout: Duration::from_secs(120),
        }
    }
}

impl DockerConfig {
    pub fn compose_file(&self) -> PathBuf {
        self.compose_file.clone().unwrap_or_else(|| "docker-compose.yml".into())
    }
}

impl Default for DockerConfig {
    fn default() -> Self {
        Self { compose_file: None, project: "iotctl".into() }
    }
}

impl Default for LocalConfig {
    fn default() -> Self {
        Self {
            data_dir: None,
            cache_dir: None,
            address: std::net::Ipv4Addr::LOCALHOST,
            cassandra_port: 9042,
            cassandra_storage_port: 7000,
            cassandra_jmx_port: 7199,
            kafka_port: 9092,
            kafka_controller_port: 9093,
            zookeeper_port: 2181,
            cassandra_metrics_port: 7070,
            kafka_metrics_port: 7071,
            prometheus_port: 9090,
            node_exporter_port: 9100,
            grafana_port: 3000,
            cassandra_heap: None,
            kafka_heap: None,
            least_free_disk: ByteSize::gib(10),
            boot_timeout: Duration::from_secs(180),
        }
    }
}
