//! One validated configuration shared by all commands: defaults < a TOML file < environment < flags.
//!
//! - Each setting is declared once, in [`cassandra`], [`kafka`], [`mqtt`], [`schema_registry`], [`http`], [`pipeline`] or [`servers`], by
//!   the macro of
//!   [`section`]; [`keys`] is the table of all of them.
//! - [`load`] merges the sources ([`mod@file`], [`environment`], flags) as flat [`settings`], whose values [`value`] reads,
//!   and [`validate`] checks the result as a whole. [`error`] names the culprit if something is refused.
//! - [`show`] is what `config show` prints, [`init`] the commented file, [`reference`](mod@reference) the page of the docs.
//!
//! Nothing here opens a connection.

use serde::{Deserialize, Serialize};

mod cassandra;
mod check;
pub mod duration;
mod environment;
mod error;
pub mod file;
mod http;
pub mod init;
mod kafka;
mod keys;
mod load;
mod mqtt;
mod names;
mod origin;
pub(crate) mod password_file;
mod pipeline;
mod properties;
pub mod reference;
mod schema_registry;
mod secret;
mod section;
mod servers;
mod settings;
pub mod show;
mod validate;
mod value;

pub use cassandra::{CassandraConfig, CassandraTlsConfig, Consistency};
pub use check::Violation;
pub use error::ConfigError;
pub use http::HttpConfig;
pub use kafka::{KafkaConfig, SaslMechanism, SecurityProtocol};
pub(crate) use load::from_text;
pub use load::{Loaded, Sources};
pub use mqtt::{MqttAddress, MqttConfig};
pub use origin::Origin;
pub use pipeline::{
    ForecastConfig, IngestConfig, OnLostMessages, RetentionConfig, RollupConfig, SchemaConfig,
};
pub use reference::reference;
pub use schema_registry::SchemaRegistryConfig;
pub use secret::Secret;
pub use servers::{ClusterConfig, DockerConfig, LocalConfig, RuntimeKind};

/// Whether `name` can stand in a statement without quotes: the rule for `cassandra.keyspace`.
pub fn check_keyspace(name: &str) -> Result<(), Violation> {
    names::keyspace("cassandra.keyspace", name)
}

/// Every setting of `iotctl`. Durations are written as `90d`, `1h 30m`, `500ms`; sizes as `64MiB`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub cassandra: CassandraConfig,
    pub schema: SchemaConfig,
    pub kafka: KafkaConfig,
    pub mqtt: MqttConfig,
    pub schema_registry: SchemaRegistryConfig,
    pub http: HttpConfig,
    pub ingest: IngestConfig,
    pub retention: RetentionConfig,
    pub rollup: RollupConfig,
    pub forecast: ForecastConfig,
    pub local: LocalConfig,
    pub cluster: ClusterConfig,
    pub docker: DockerConfig,
}
