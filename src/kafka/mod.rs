//! The only place that knows rdkafka: [`client`] translates the configuration, [`topics`] creates and describes
//! topics, [`producer`] sends with acknowledgement, [`consumer`] receives and commits, [`reader`] reads a stretch
//! beside any group, [`groups`] knows what a group has committed, [`overview`] sees brokers, topics and groups at once, [`retention`] knows what topics keep and since when,
//! [`dead_letters`] keeps what can never be stored, [`alerts`] what live detection found,
//! `refusal` says why no broker will have us. Nothing here prints; each call has a deadline, and what can go
//! wrong is one [`Error`] whose message holds the remedy.

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::config::KafkaConfig;
use crate::tls::FileError;

pub mod client;
pub mod consumer;
pub mod dead_letters;
pub mod groups;
pub mod overview;
pub mod positions;
pub mod producer;
pub mod reader;
mod refusal;
pub mod replay;
pub mod retention;
pub mod sender;
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
    /// The reason holds the remedy.
    #[error("the Kafka broker at {servers} refuses the connection: {reason}")]
    Refused { servers: String, reason: String },
    #[error("the Kafka topic {topic:?} does not exist at {servers} (run `iotctl schema apply` to create it)")]
    MissingTopic { topic: String, servers: String },
    /// A setting that librdkafka does not know or cannot parse.
    #[error("Kafka setting {key} = {value:?} is refused: {reason} (check kafka.properties)")]
    Setting { key: String, value: String, reason: String },
    /// A PEM file of the config cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The user is known and may not do this.
    #[error(
        "Kafka does not let this user {action}: {reason} (add the ACLs of docs/security.md, or use another user)"
    )]
    Denied { action: String, reason: &'static str },
    /// The cluster answered that it will not, such as a replication factor above the number of brokers.
    #[error("Kafka cannot {action}: {reason}")]
    Rejected { action: String, reason: String },
    /// Anything else that the library reports.
    #[error("cannot {action}: {cause}")]
    Client { action: String, cause: KafkaError },
}

impl Error {
    /// A failure to build a client: nearly always a setting.
    fn building(config: &KafkaConfig) -> impl Fn(KafkaError) -> Self {
        move |error| match error {
            KafkaError::ClientConfig(_, reason, key, value) => {
                // A password must not reach the message, whatever librdkafka holds against it.
                let value = if key.contains("password") { "<redacted>".to_owned() } else { value };
                Self::Setting { key, value, reason }
            }
            KafkaError::ClientCreation(reason) => match unusable_file(config, &reason) {
                Some(error) => Self::File(error),
                None => Self::Rejected { action: "create a client from the kafka.* settings".into(), reason },
            },
            source => Self::Client { action: "create a Kafka client".into(), cause: source },
        }
    }

    /// What the library reports of an action.
    fn client(action: impl Into<String>, cause: KafkaError) -> Self {
        let action = action.into();
        match cause.rdkafka_error_code() {
            Some(code) if is_denial(code) => Self::denied(action, code),
            _ => Self::Client { action, cause },
        }
    }

    fn denied(action: impl Into<String>, code: RDKafkaErrorCode) -> Self {
        let reason = match code {
            RDKafkaErrorCode::GroupAuthorizationFailed => "it is not authorized for the group",
            RDKafkaErrorCode::ClusterAuthorizationFailed => "it is not authorized for the cluster",
            _ => "it is not authorized for the topic",
        };
        Self::Denied { action: action.into(), reason }
    }

    /// Whether only a person can help: waiting and trying again does not.
    pub fn is_hopeless(&self) -> bool {
        match self {
            Self::Unreachable { .. } => false,
            Self::Client { cause, .. } => {
                is_refusal(cause) || cause.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal)
            }
            _ => true,
        }
    }
}

/// What to say of a failed delivery that was denied; `None` for other failures.
pub fn denied_delivery(failure: &KafkaError) -> Option<Error> {
    let code = failure.rdkafka_error_code().filter(|code| is_denial(*code))?;
    Some(Error::denied("write to the topic", code))
}

/// The PEM file that the library could not use when it built a client, named as its property in `reason`.
fn unusable_file(config: &KafkaConfig, reason: &str) -> Option<FileError> {
    let files = [
        ("ssl.ca.location", "kafka.ssl_ca_location", &config.ssl_ca_location),
        ("ssl.certificate.location", "kafka.ssl_certificate_location", &config.ssl_certificate_location),
        ("ssl.key.location", "kafka.ssl_key_location", &config.ssl_key_location),
    ];
    let (_, setting, path) = files.into_iter().find(|(property, _, _)| reason.contains(property))?;
    let path = path.clone()?;
    let reason = match std::fs::File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            "it does not exist (name the PEM file)".to_owned()
        }
        Err(error) => error.to_string(),
        Ok(_) if setting == "kafka.ssl_key_location" => {
            format!("it holds no private key in PEM, or kafka.ssl_key_password is not its password: {reason}")
        }
        Ok(_) => "it holds no certificate in PEM (-----BEGIN CERTIFICATE-----)".to_owned(),
    };
    Some(FileError { setting, path, reason })
}

fn is_denial(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::TransactionalIdAuthorizationFailed
    )
}

/// True where a broker answered and will not have us, or not let us do it.
fn is_refusal(error: &KafkaError) -> bool {
    error.rdkafka_error_code().is_some_and(|code| {
        is_denial(code)
            || matches!(
                code,
                RDKafkaErrorCode::Authentication
                    | RDKafkaErrorCode::SaslAuthenticationFailed
                    | RDKafkaErrorCode::UnsupportedSASLMechanism
                    | RDKafkaErrorCode::SSL
            )
    })
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
        assert!(!Error::building(&KafkaConfig::default())(error).to_string().contains("hunter2"));
    }
}
