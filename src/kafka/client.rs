//! [`KafkaConfig`] -> librdkafka's properties, in one place, and the context that all clients share: it sends the
//! library's own log through `tracing` and keeps its last error, which is the best explanation of a timeout.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::{is_refusal, renewal};
use crate::config::{KafkaConfig, SaslMechanism, SecurityProtocol};

/// The properties that every client shares. Producers and consumers add their own; `kafka.properties` overrides
/// these, except those that the delivery guarantee depends on: producer and consumer set them last.
pub fn client_config(config: &KafkaConfig) -> ClientConfig {
    let mut client = ClientConfig::new();
    let timeout = config.request_timeout.as_millis().to_string();
    client
        .set("bootstrap.servers", config.bootstrap_servers.join(","))
        .set("client.id", "iotctl")
        .set("security.protocol", security_protocol(config.security_protocol))
        .set("socket.connection.setup.timeout.ms", socket_timeout(config).to_string())
        .set("socket.keepalive.enable", "true")
        // Nagle's algorithm would hold back small produce requests for a delayed ACK.
        .set("socket.nagle.disable", "true")
        .set("reconnect.backoff.ms", "100")
        .set("reconnect.backoff.max.ms", "2000")
        .set("topic.metadata.refresh.interval.ms", "60000")
        .set_log_level(RDKafkaLogLevel::Info);
    client.set("socket.timeout.ms", &timeout);
    if matches!(config.security_protocol, SecurityProtocol::SaslPlaintext | SecurityProtocol::SaslSsl) {
        client.set("sasl.mechanism", sasl_mechanism(config.sasl_mechanism));
    }
    let by_tokens = config.sasl_mechanism == SaslMechanism::OauthBearer;
    let (user, password) = match by_tokens {
        true => ("sasl.oauthbearer.client.id", "sasl.oauthbearer.client.secret"),
        false => ("sasl.username", "sasl.password"),
    };
    if by_tokens {
        client.set("sasl.oauthbearer.method", "oidc");
    }
    let secret = |secret: &Option<crate::config::Secret>| secret.as_ref().map(|it| it.expose().to_owned());
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|it| it.to_string_lossy().into_owned());
    let optional = [
        (user, config.sasl_username.clone()),
        (password, secret(&renewal::password(config))),
        ("sasl.oauthbearer.token.endpoint.url", config.sasl_token_endpoint.clone()),
        ("sasl.oauthbearer.scope", config.sasl_token_scope.clone()),
        ("ssl.ca.location", path(&config.ssl_ca_location)),
        ("ssl.certificate.location", path(&config.ssl_certificate_location)),
        ("ssl.key.location", path(&config.ssl_key_location)),
        ("ssl.key.password", secret(&config.ssl_key_password)),
    ];
    for (key, value) in optional {
        if let Some(value) = value {
            client.set(key, value);
        }
    }
    for (key, value) in &config.properties {
        client.set(key, value);
    }
    client
}

/// Whether clients log in by a user and a password, which the library lets change.
pub(super) fn is_by_password(config: &KafkaConfig) -> bool {
    matches!(config.security_protocol, SecurityProtocol::SaslPlaintext | SecurityProtocol::SaslSsl)
        && !matches!(config.sasl_mechanism, SaslMechanism::OauthBearer | SaslMechanism::AwsMskIam)
}

/// Sets `key` unless the user set it through `kafka.properties`: for tuning, not for guarantees.
pub(super) fn set_default(client: &mut ClientConfig, config: &KafkaConfig, key: &str, value: &str) {
    if !config.properties.contains_key(key) {
        client.set(key, value);
    }
}

/// librdkafka requires at least a second for the connection setup.
fn socket_timeout(config: &KafkaConfig) -> u128 {
    config.request_timeout.as_millis().clamp(1000, 30_000)
}

fn security_protocol(protocol: SecurityProtocol) -> &'static str {
    match protocol {
        SecurityProtocol::Plaintext => "plaintext",
        SecurityProtocol::Ssl => "ssl",
        SecurityProtocol::SaslPlaintext => "sasl_plaintext",
        SecurityProtocol::SaslSsl => "sasl_ssl",
    }
}

fn sasl_mechanism(mechanism: SaslMechanism) -> &'static str {
    match mechanism {
        SaslMechanism::Plain => "PLAIN",
        SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
        SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
        SaslMechanism::OauthBearer | SaslMechanism::AwsMskIam => "OAUTHBEARER",
    }
}

/// The last error that a client reported outside of any call, such as a refused connection. Cheap to clone; shared
/// between the client's context and the code that explains its timeout.
#[derive(Debug, Clone, Default)]
pub struct Complaint(Arc<Mutex<Option<(bool, String)>>>);

impl Complaint {
    /// Notes what the library reported. A refusal (credentials, TLS) is kept when "all brokers are down" follows it.
    pub fn note(&self, error: &KafkaError, reason: &str) {
        let refusal = is_refusal(error);
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            return;
        }
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if refusal || !matches!(*last, Some((true, _))) {
            *last = Some((refusal, shorten(reason)));
        }
    }

    /// Notes a line of the library's log: only there it reports that a broker closes the connection.
    fn note_log(&self, facility: &str, message: &str) {
        if facility != "FAIL" || !message.contains(": Disconnected") {
            return;
        }
        let reason = message.split_once("]: ").map_or(message, |(_, reason)| reason);
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none() {
            *last = Some((false, shorten(reason)));
        }
    }

    /// Why a broker refused the connection, if one did.
    pub fn refusal(&self) -> Option<String> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().filter(|(refusal, _)| *refusal).map(|(_, reason)| reason.clone())
    }

    /// The last error of any kind.
    pub fn last(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|(_, reason)| reason.clone())
    }
}

/// librdkafka appends its own bookkeeping to its reasons: "… (after 0ms in state CONNECT, 1 identical error(s) suppressed)".
fn shorten(reason: &str) -> String {
    reason.split(" (after ").next().unwrap_or(reason).trim().to_owned()
}

/// The context of clients that need no callbacks of their own.
#[derive(Debug, Clone, Default)]
pub struct Reporting {
    pub complaint: Complaint,
}

impl ClientContext for Reporting {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        trace(level, facility, message);
        self.complaint.note_log(facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", "{error}: {reason}");
        self.complaint.note(&error, reason);
    }
}

impl rdkafka::consumer::ConsumerContext for Reporting {}

impl rdkafka::producer::ProducerContext for Reporting {
    type DeliveryOpaque = ();

    fn delivery(&self, _result: &rdkafka::message::DeliveryResult<'_>, (): ()) {}
}

/// One line of librdkafka's log, for the `log` of any client's context. The library logs an unavailable broker as an
/// error and retries by itself, so nothing of it is above a warning here.
pub fn trace(level: RDKafkaLogLevel, facility: &str, message: &str) {
    use RDKafkaLogLevel::*;
    match level {
        Emerg | Alert | Critical | Error | Warning => {
            tracing::warn!(target: "librdkafka", "{facility}: {message}");
        }
        Notice | Info => tracing::info!(target: "librdkafka", "{facility}: {message}"),
        Debug => tracing::debug!(target: "librdkafka", "{facility}: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn security_settings_reach_librdkafka_under_its_names() {
        let config = KafkaConfig {
            security_protocol: SecurityProtocol::SaslSsl,
            sasl_username: Some("iot".into()),
            sasl_password: Some(Secret::new("hunter2")),
            ssl_ca_location: Some("/etc/ca.pem".into()),
            ..Default::default()
        };
        let client = client_config(&config);
        assert_eq!(client.get("security.protocol"), Some("sasl_ssl"));
        assert_eq!(client.get("sasl.mechanism"), Some("SCRAM-SHA-512"));
        assert_eq!(client.get("sasl.username"), Some("iot"));
        assert_eq!(client.get("sasl.password"), Some("hunter2"));
        assert_eq!(client.get("ssl.ca.location"), Some("/etc/ca.pem"));
        assert_eq!(client.get("ssl.key.location"), None);
    }

    #[test]
    fn with_tokens_the_user_is_the_client_id() {
        let config = KafkaConfig {
            security_protocol: SecurityProtocol::SaslSsl,
            sasl_mechanism: SaslMechanism::OauthBearer,
            sasl_username: Some("iot".into()),
            sasl_password: Some(Secret::new("hunter2")),
            sasl_token_endpoint: Some("https://login.example/token".into()),
            sasl_token_scope: Some("kafka".into()),
            ..Default::default()
        };
        let client = client_config(&config);
        for (property, value) in [
            ("sasl.mechanism", "OAUTHBEARER"),
            ("sasl.oauthbearer.method", "oidc"),
            ("sasl.oauthbearer.client.id", "iot"),
            ("sasl.oauthbearer.client.secret", "hunter2"),
            ("sasl.oauthbearer.token.endpoint.url", "https://login.example/token"),
            ("sasl.oauthbearer.scope", "kafka"),
        ] {
            assert_eq!(client.get(property), Some(value), "{property}");
        }
        assert_eq!((client.get("sasl.username"), client.get("sasl.password")), (None, None));
    }

    #[test]
    fn amazon_msk_gets_tokens_of_our_own() {
        let config = KafkaConfig {
            security_protocol: SecurityProtocol::SaslSsl,
            sasl_mechanism: SaslMechanism::AwsMskIam,
            ..Default::default()
        };
        let client = client_config(&config);
        assert_eq!(client.get("sasl.mechanism"), Some("OAUTHBEARER"));
        assert_eq!(client.get("sasl.oauthbearer.method"), None);
        assert!(!is_by_password(&config));
    }

    #[test]
    fn properties_override_what_the_program_chose() {
        let mut config = KafkaConfig::default();
        config.properties.insert("client.id".into(), "plant-1".into());
        let mut client = client_config(&config);
        assert_eq!(client.get("client.id"), Some("plant-1"));
        config.properties.insert("linger.ms".into(), "50".into());
        client = client_config(&config);
        set_default(&mut client, &config, "linger.ms", "5");
        assert_eq!(client.get("linger.ms"), Some("50"));
    }

    #[test]
    fn a_refusal_is_not_forgotten_when_the_connection_then_drops() {
        let complaint = Complaint::default();
        complaint.note(&KafkaError::Global(RDKafkaErrorCode::Authentication), "bad credentials");
        complaint.note(
            &KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure),
            "Disconnected (after 1ms in state UP)",
        );
        assert_eq!(complaint.refusal().as_deref(), Some("bad credentials"));
        let other = Complaint::default();
        other.note(
            &KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure),
            "Connection refused (after 0ms in state CONNECT)",
        );
        assert_eq!((other.refusal(), other.last().as_deref()), (None, Some("Connection refused")));
    }
}
