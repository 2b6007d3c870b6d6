//! What ends a bridge, or makes it connect again.

use std::time::Duration;

use crate::config::Violation;
use crate::kafka;
use crate::output::text::plural;
use crate::tls::FileError;

/// What the MQTT broker, Kafka, or the way to them refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no MQTT broker answers at {broker}: {reason} (start it, or set --broker or mqtt.broker)")]
    Unreachable { broker: String, reason: String },
    /// The handshake of TLS; the reason holds the remedy.
    #[error("the MQTT broker at {broker} refuses the connection: {reason}")]
    Tls { broker: String, reason: String },
    /// The broker's answer to CONNECT.
    #[error("the MQTT broker at {broker} refuses the connection: {reason}")]
    Refused { broker: String, reason: String, is_transient: bool },
    #[error("the MQTT broker at {broker} refuses the subscription to {filter:?}: {reason}")]
    Subscription { broker: String, filter: String, reason: String },
    #[error(
        "another client with the id {client_id:?} took over the session at {broker} (two bridges need two ids: set \
         --client-id or mqtt.client_id)"
    )]
    TakenOver { broker: String, client_id: String },
    /// The connection ended.
    #[error("the connection to the MQTT broker at {broker} is lost: {reason}")]
    Lost { broker: String, reason: String },
    #[error(
        "stopped before Kafka had acknowledged {} within {} (the MQTT broker sends those of QoS 1 again)",
        plural(*count, "message"),
        humantime::format_duration(*within)
    )]
    Undelivered { count: usize, within: Duration },
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Setting(#[from] Violation),
    #[error(transparent)]
    Kafka(#[from] kafka::Error),
}

impl Error {
    /// Whether connecting again may help without an operator.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Lost { .. } => true,
            Self::Refused { is_transient, .. } => *is_transient,
            _ => false,
        }
    }
}
