//! The only place that knows rdkafka: [`client`] translates the configuration, [`topics`] creates and describes
//! topics, [`producer`] sends with acknowledgement, [`consumer`] receives and commits, [`reader`] reads a stretch
//! beside any group, [`groups`] knows what a group has committed, [`dead_letters`] keeps what can never be stored. Nothing here prints; each call has a deadline, and what can go
//! wrong is one [`Error`] whose message holds the remedy.

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

pub mod client;
pub mod consumer;
pub mod dead_letters;
pub mod groups;
pub mod producer;
pub mod reader;
pub mod topics;

pub use client::client_config;
pub use producer::Producer;

/// What Kafka, or the way to it, refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No broker could be spoken to before the deadline. `reason` is the client library's last word, if it had one.
    #[error(
        "no Kafka broker answers at {servers} within {}{} (start one with `iotctl up`, or set kafka.bootstrap_servers)",
        humantime::format_duration(*within),
        .reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default()
    )]
    Unreachable { servers: String, within: Duration, reason: Option<String> },
    /// A broker answered and turned us away: credentials, certificates or a listener that speaks another protocol.
    #[error(
        "the Kafka broker at {servers} refuses the connection: {reason} \
         (check kafka.security_protocol, kafka.sasl_* and kafka.ssl_*)"
    )]
    Refused { servers: String, reason: String },
    #[error("the Kafka topic {topic:?} does not exist at {servers} (run `iotctl schema apply` to create it)")]
    MissingTopic { topic: String, servers: String },
    /// A setting that librdkafka does not know or cannot parse.
    #[error("Kafka setting {key} = {value:?} is refused: {reason} (check kafka.properties)")]
    Setting { key: String, value: String, reason: String },
    /// The cluster answered that it will not, such as a replication factor above the number of brokers.
    #[error("Kafka cannot {action}: {reason}")]
    Rejected { action: String, reason: String },
    /// Anything else that the library reports.
    #[error("cannot {action}: {cause}")]
    Client { action: String, cause: KafkaError },
}

impl Error {
    /// A failure to build a client: nearly always a setting.
    fn building(error: KafkaError) -> Self {
        match error {
            KafkaError::ClientConfig(_, reason, key, value) => {
                // A password must not reach the message, whatever librdkafka holds against it.
                let value = if key.contains("password") { "<redacted>".to_owned() } else { value };
                Error::Setting { key, value, reason }
            }
            KafkaError::ClientCreation(reason) => {
                Error::Rejected { action: "create a client from the kafka.* settings".into(), reason }
            }
            source => Error::Client { action: "create a Kafka client".into(), cause: source },
        }
    }
}

/// True for errors that mean "nobody answered" rather than "the answer is no".
fn is_unreachable(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::TimedOutQueue
                | RDKafkaErrorCode::RequestTimedOut
                | RDKafkaErrorCode::Resolve
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreachable_broker_is_named_with_the_deadline_and_the_remedy() {
        let error = Error::Unreachable {
            servers: "127.0.0.1:9092".into(),
            within: Duration::from_secs(10),
            reason: None,
        };
        assert_eq!(
            error.to_string(),
            "no Kafka broker answers at 127.0.0.1:9092 within 10s (start one with `iotctl up`, or set \
             kafka.bootstrap_servers)"
        );
    }

    #[test]
    fn a_refused_password_is_not_repeated() {
        let refused = rdkafka::types::RDKafkaConfRes::RD_KAFKA_CONF_INVALID;
        let error = KafkaError::ClientConfig(refused, "bad".into(), "sasl.password".into(), "hunter2".into());
        assert!(!Error::building(error).to_string().contains("hunter2"));
    }
}
