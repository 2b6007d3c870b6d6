//! The only place that knows rdkafka. Nothing here prints; each call has a deadline, and what can go wrong is one
//! [`Error`] whose message holds the remedy.
//!
//! - [`client`] translates the configuration; `refusal` explains why no broker accepts it.
//! - `aws` makes the tokens of Amazon MSK.
//! - [`renewal`] takes up passwords and certificates that change while clients run; `live` has the clients, `renewed` the producers
//!   that are made anew.
//! - [`producer`] sends with acknowledgement, [`sender`] single messages; [`consumer`] receives a [`message`] and commits as a
//!   member of the consumer group, of the topics of a [`subscription`]; [`topic_partition`] is the key of what belongs to one;
//!   [`reader`] reads a range without joining one; [`positions`] is a set of messages;
//!   [`newest`] reads the last messages.
//! - [`topics`] creates and describes topics; [`retention`] reads what they keep; [`ends`] finds the last messages; [`overview`] reads brokers, topics and
//!   consumer groups at once; [`consumer_groups`] reads what a consumer group has committed.
//! - [`births`] finds what messages of Sparkplug are read by. [`losses`] notes messages that were deleted before they were read.
//! - [`dead_letters`] holds what can never be stored, and [`replay`] sends it to its topic again.

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::config::KafkaConfig;
use crate::retry::RetryPolicy;
use crate::tls::FileError;

mod aws;
pub mod births;
pub mod client;
pub mod consumer;
pub mod consumer_groups;
pub mod dead_letters;
pub mod ends;
mod live;
pub mod losses;
pub mod message;
pub mod newest;
pub mod overview;
pub mod positions;
pub mod producer;
pub mod reader;
mod refusal;
pub mod renewal;
mod renewed;
pub mod replay;
pub mod retention;
pub mod sender;
pub mod subscription;
pub mod topic_partition;
pub mod topics;

pub use client::client_config;
pub use producer::Producer;
pub use subscription::Subscription;
pub use topic_partition::{TopicName, TopicPartition};

/// The command that makes a topic. It makes `kafka.topic` and those that are named after it; what an alerts topic is named after
/// cannot be told from its name.
fn to_create(topic: &str) -> String {
    let main = topic.strip_suffix(".dlq").unwrap_or(topic);
    match main == KafkaConfig::default().topic || main.ends_with("-alerts") {
        true => "iotctl schema apply".to_owned(),
        false => format!("iotctl schema apply -O kafka.topic={main}"),
    }
}

fn is_too_large(cause: &KafkaError) -> bool {
    let code = cause.rdkafka_error_code();
    matches!(code, Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize))
}

/// What Kafka, or the way to it, refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No broker answered before the deadline. `reason` is the last error that the client library reported, if any.
    #[error(
        "no Kafka broker answers at {servers} within {}{} (start one with `iotctl up`, or set kafka.bootstrap_servers)",
        humantime::format_duration(*within),
        .reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default()
    )]
    Unreachable { servers: String, within: Duration, reason: Option<String> },
    /// A broker answered, and the one that has to answer this request does not.
    #[error(
        "cannot {action}: the broker that leads it does not answer within {} (`iotctl status` shows which brokers answer)",
        humantime::format_duration(*within)
    )]
    Silent { action: String, within: Duration },
    /// A broker refused the connection: credentials, certificates or a listener of another protocol. The reason holds the
    /// remedy.
    #[error("the Kafka broker at {servers} refuses the connection: {reason}")]
    Refused { servers: String, reason: String },
    #[error(
        "the Kafka topic {topic:?} does not exist at {servers} (run `{}` to create it)",
        to_create(topic)
    )]
    MissingTopic { topic: String, servers: String },
    /// A topic that a mapping names.
    #[error(
        "the Kafka topic {topic:?}, which the mapping names, does not exist at {servers} (create it, or correct topics in \
         the mapping; topic_pattern waits for topics that do not exist yet)"
    )]
    MissingSource { topic: String, servers: String },
    /// Another program uses the consumer group with a protocol that this program does not speak.
    #[error(
        "the consumer group {group:?} is used by {clients} with assignor {assignor}, and this program uses {own} \
         (choose another consumer group with kafka.group or --group, or stop the other program)"
    )]
    ConsumerGroupInUse { group: String, clients: String, assignor: String, own: String },
    /// A setting that librdkafka does not have or cannot parse.
    #[error("Kafka setting {key} = {value:?} is refused: {reason} (check kafka.properties)")]
    Setting { key: String, value: String, reason: String },
    /// A PEM file of the config cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is no token to log in by.
    #[error("no login to Kafka at {servers}: {reason}")]
    NoToken { servers: String, reason: String },
    /// The user is authenticated and not authorized.
    #[error(
        "Kafka does not let this user {action}: {reason} (add the ACLs of docs/security.md, or use another user)"
    )]
    Denied { action: String, reason: &'static str },
    /// The cluster refused, for example a replication factor above the number of brokers.
    #[error("Kafka cannot {action}: {reason}")]
    Rejected { action: String, reason: String },
    /// Anything else that the library reports.
    #[error("cannot {action}: {cause}")]
    Client { action: String, cause: KafkaError },
}

impl Error {
    /// A failure to build a client: nearly always because of a setting.
    fn building(config: &KafkaConfig) -> impl Fn(KafkaError) -> Self {
        move |error| match error {
            KafkaError::ClientConfig(_, reason, key, value) => {
                // A password must not reach the message, whatever is wrong with it.
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
            RDKafkaErrorCode::GroupAuthorizationFailed => "it is not authorized for the consumer group",
            RDKafkaErrorCode::ClusterAuthorizationFailed => "it is not authorized for the cluster",
            _ => "it is not authorized for the topic",
        };
        Self::Denied { action: action.into(), reason }
    }

    /// Whether a message is larger than its topic allows.
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::Client { cause, .. } if is_too_large(cause))
    }

    /// Whether only an operator can fix it: waiting and retrying do not help.
    pub fn is_hopeless(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } => false,
            Self::Client { cause, .. } => {
                is_refusal(cause) || cause.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal)
            }
            _ => true,
        }
    }
}

/// The error for a failed delivery that was denied; `None` for other failures.
pub fn denied_delivery(failure: &KafkaError) -> Option<Error> {
    let code = failure.rdkafka_error_code().filter(|code| is_denial(*code))?;
    Some(Error::denied("write to the topic", code))
}

/// The PEM file that the library could not use when it built a client; `reason` names its property.
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

/// Whether a broker answered and refused the login or the action.
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

/// Between two requests to a leader or coordinator that is not available yet.
const RETRY: RetryPolicy = RetryPolicy::new(Duration::from_millis(100), Duration::from_millis(400));

/// Whether a broker answered that somebody else leads the partition or the consumer group, or that nobody does yet: a moment later
/// the same request succeeds.
fn is_moving(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::*;
    matches!(
        error.rdkafka_error_code(),
        Some(
            NotLeaderForPartition
                | LeaderNotAvailable
                | ReplicaNotAvailable
                | FencedLeaderEpoch
                | UnknownLeaderEpoch
                | OffsetNotAvailable
                | BrokerNotAvailable
                | NetworkException
                | KafkaStorageError
                | CoordinatorLoadInProgress
                | CoordinatorNotAvailable
                | NotCoordinator
        )
    )
}

/// Whether nobody answered, in contrast to a refusal.
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
