//! Real Cassandra and Kafka servers on this machine, for `iotctl up` and for the tests; no container needed.
//!
//! [`up`](fn@up) finds a Java ([`java`]), fetches the jars ([`jars`]), checks the ports ([`ports`]), writes configurations
//! ([`cassandra`], [`kafka`], [`monitoring`]) and starts (`boot`) each server as a detached process ([`process`]) that [`down`](fn@down) and
//! [`status`](fn@status) find again through its pid file. Everything of one `up` lies in one directory ([`layout`]), which is
//! made for one [`cluster`]. All of it binds to loopback.
//!
//! The contract: a first `up` that fails, and every `up` that is interrupted, leaves nothing running that it started; a
//! later one that fails stops only servers that do not answer; `down` stops exactly what `up` started; data and logs stay
//! until they are purged.

use serde::{Deserialize, Serialize};

pub mod boot;
pub mod cassandra;
pub mod cluster;
pub mod disk;
pub mod down;
pub mod jars;
pub mod java;
pub mod kafka;
pub mod layout;
pub mod memory;
pub mod monitoring;
pub mod ports;
pub mod process;
pub mod progress;
pub mod ready;
pub mod running;
mod scraping;
pub mod status;
mod tail;
pub mod template;
pub mod up;

pub use cluster::KafkaMode;
pub use down::{Stopped, down, purge};
pub use status::{ServerStatus, State, status};
pub use up::{Running, Unfinished, UpOptions, up};

/// What a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Cassandra,
    Kafka,
    Zookeeper,
    Prometheus,
    #[serde(rename = "node-exporter")]
    NodeExporter,
    Grafana,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Cassandra => "cassandra",
            Self::Kafka => "kafka",
            Self::Zookeeper => "zookeeper",
            Self::Prometheus => "prometheus",
            Self::NodeExporter => "node-exporter",
            Self::Grafana => "grafana",
        })
    }
}
