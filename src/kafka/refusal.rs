//! Why the brokers refuse this client, in words. The client library reports that a connection failed and retries until
//! the caller's deadline; what is wrong with a certificate it does not report at all. So if a broker does not answer, its
//! port is probed by a TLS handshake of our own.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::Error;
use crate::config::{KafkaConfig, SaslMechanism, SecurityProtocol};
use crate::tls::{self, Settings};

pub(super) const SETTINGS: Settings = Settings {
    ca: "kafka.ssl_ca_location",
    certificate: "kafka.ssl_certificate_location",
    key: "kafka.ssl_key_location",
    off: "kafka.security_protocol to PLAINTEXT or SASL_PLAINTEXT",
    name: "connect by a name that it has, in kafka.bootstrap_servers and the brokers' advertised.listeners",
};
const DEADLINE: Duration = Duration::from_secs(2);
/// How long a refusal of our certificate may take after the handshake.
const LATE_REFUSAL: Duration = Duration::from_millis(300);

/// What is wrong, with the remedy. `reported` is the last error of the client library. `None` if nothing is certain: the
/// broker may be slow or unavailable.
pub(super) async fn explain(config: &KafkaConfig, reported: Option<&str>) -> Option<String> {
    let reported = reported.map(without_address).unwrap_or_default();
    if reported.contains("SASL") {
        return Some(login(config, reported));
    }
    match timeout(DEADLINE, probe(config)).await {
        Ok(Some(reason)) => Some(reason),
        _ if reported.contains("certificate verify failed") && config.ssl_ca_location.is_none() => {
            Some(format!(
                "its certificate is not signed by an authority that this system trusts (set {} to the PEM of the one that signed it)",
                SETTINGS.ca
            ))
        }
        _ if reported.contains("SSL") && !reported.contains("Disconnected") => {
            Some(format!("{reported} (check kafka.ssl_*)"))
        }
        _ if reported.starts_with("Disconnected") => Some(format!(
            "it closes each connection, and kafka.security_protocol is {} (set it to the protocol of the listener on that port; {})",
            name(config.security_protocol),
            "a listener that asks for a password is SASL_SSL or SASL_PLAINTEXT"
        )),
        _ => None,
    }
}

/// A refusal as the library reported it, without a probe.
pub(super) fn error(config: &KafkaConfig, reported: &str) -> Error {
    let reported = without_address(reported);
    let reason = match reported.contains("SASL") {
        true => login(config, reported),
        false => format!("{reported} (check kafka.ssl_*)"),
    };
    Error::Refused { servers: config.bootstrap_servers.join(","), reason }
}

fn login(config: &KafkaConfig, reported: &str) -> String {
    if config.sasl_mechanism == SaslMechanism::AwsMskIam && !reported.contains("supported mechanisms: ") {
        let reason = reported.strip_prefix("SASL authentication error: ").unwrap_or(reported);
        return format!(
            "it refuses the login by AWS credentials: {reason} (check that their IAM policy allows kafka-cluster:Connect on this cluster, kafka.sasl_aws_region, and this machine's clock)"
        );
    }
    let user = config.sasl_username.as_deref().unwrap_or_default();
    if let Some((_, reason)) = reported.split_once("SASL OAUTHBEARER token: ") {
        let endpoint = config.sasl_token_endpoint.as_deref().unwrap_or_default();
        return format!(
            "it asks for a token, and there is no token from {endpoint}: {reason} (check kafka.sasl_token_endpoint, kafka.sasl_username and its password)"
        );
    }
    match reported.split_once("supported mechanisms: ") {
        Some((_, supported)) if !supported.starts_with("(n/a") => format!(
            "it does not support the mechanism of this login (set kafka.sasl_mechanism to one of: {supported})"
        ),
        _ => {
            let reason = reported.strip_prefix("SASL authentication error: ").unwrap_or(reported);
            format!(
                "it refuses the login of user {user:?}: {reason} (check kafka.sasl_username, its password and kafka.sasl_mechanism)"
            )
        }
    }
}

/// The library's errors begin with the listener's URL: "sasl_ssl://127.0.0.1:9093/bootstrap: SSL handshake …".
fn without_address(reported: &str) -> &str {
    match reported.split_once(": ") {
        Some((address, rest)) if address.contains('/') && !address.contains(' ') => rest,
        _ => reported,
    }
}

fn name(protocol: SecurityProtocol) -> &'static str {
    match protocol {
        SecurityProtocol::Plaintext => "PLAINTEXT",
        SecurityProtocol::Ssl => "SSL",
        SecurityProtocol::SaslPlaintext => "SASL_PLAINTEXT",
        SecurityProtocol::SaslSsl => "SASL_SSL",
    }
}

/// Probes the first bootstrap server that accepts a connection.
async fn probe(config: &KafkaConfig) -> Option<String> {
    for server in &config.bootstrap_servers {
        let (host, port) = match server.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && !port.contains(']') => (host, port.parse().ok()?),
            _ => (server.as_str(), 9092),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let Ok(stream) = TcpStream::connect((host, port)).await else { continue };
        return match config.security_protocol {
            SecurityProtocol::Ssl | SecurityProtocol::SaslSsl => {
                refused_handshake(config, host, stream).await
            }
            SecurityProtocol::Plaintext | SecurityProtocol::SaslPlaintext => {
                let with_tls = match config.security_protocol {
                    SecurityProtocol::Plaintext => "SSL, or SASL_SSL if it asks for a password",
                    _ => "SASL_SSL",
                };
                speaks_tls(stream).await.then(|| {
                    format!(
                        "it speaks TLS there, and kafka.security_protocol is {} (set it to {with_tls})",
                        name(config.security_protocol)
                    )
                })
            }
        };
    }
    None
}

async fn refused_handshake(config: &KafkaConfig, host: &str, stream: TcpStream) -> Option<String> {
    // Without a file the library trusts the system's authorities, which this handshake does not load.
    let ca = config.ssl_ca_location.as_deref()?;
    let own = config.ssl_certificate_location.as_deref().zip(config.ssl_key_location.as_deref());
    // Only the library can read a key with a password.
    let own = own.filter(|_| config.ssl_key_password.is_none());
    let client = tls::client_config(&SETTINGS, ca, own).ok()?;
    let server = ServerName::try_from(host.to_owned()).ok()?;
    let has_own = config.ssl_certificate_location.is_some();
    let failure = match TlsConnector::from(client).connect(server, stream).await {
        Err(error) => error,
        // With TLS 1.3 a broker refuses a client's certificate only after the handshake.
        Ok(mut stream) => match timeout(LATE_REFUSAL, stream.read_u8()).await {
            Ok(Err(error)) => error,
            _ => return None,
        },
    };
    tls::explain(&failure, &SETTINGS, has_own)
}

/// Whether the other side answers a ClientHello with a TLS record.
async fn speaks_tls(mut stream: TcpStream) -> bool {
    const HANDSHAKE: u8 = 22;
    const ALERT: u8 = 21;
    let Some(hello) = client_hello() else { return false };
    let exchange = async {
        stream.write_all(&hello).await?;
        stream.read_u8().await
    };
    matches!(exchange.await, Ok(HANDSHAKE | ALERT))
}

fn client_hello() -> Option<Vec<u8>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    let config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let server = ServerName::try_from("localhost").ok()?;
    let mut connection = ClientConnection::new(Arc::new(config), server).ok()?;
    let mut hello = Vec::new();
    let written: io::Result<usize> = connection.write_tls(&mut hello);
    written.ok().map(|_| hello)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refused_login_names_the_user_and_the_supported_mechanisms() {
        let config = KafkaConfig { sasl_username: Some("iot".into()), ..Default::default() };
        let reported = "sasl_ssl://127.0.0.1:9093/bootstrap: SASL authentication error: invalid credentials";
        let reason = explain(&config, Some(reported)).await.unwrap();
        assert_eq!(
            reason,
            "it refuses the login of user \"iot\": invalid credentials (check kafka.sasl_username, its password and kafka.sasl_mechanism)"
        );
        let reported = "Failed to acquire SASL OAUTHBEARER token: HTTP 401";
        let config = KafkaConfig { sasl_token_endpoint: Some("https://login/token".into()), ..config };
        let reason = explain(&config, Some(reported)).await.unwrap();
        assert!(
            reason.starts_with(
                "it asks for a token, and there is no token from https://login/token: HTTP 401 (check"
            ),
            "{reason}"
        );
        let reported = "sasl_ssl://a:1/2: SASL PLAIN mechanism handshake failed: Broker: Unsupported SASL mechanism: \
                        broker's supported mechanisms: SCRAM-SHA-512";
        let reason = explain(&config, Some(reported)).await.unwrap();
        assert!(reason.ends_with("(set kafka.sasl_mechanism to one of: SCRAM-SHA-512)"), "{reason}");
    }

    #[tokio::test]
    async fn an_unavailable_broker_is_not_reported_as_refusing() {
        let config = KafkaConfig { bootstrap_servers: vec!["127.0.0.1:1".into()], ..Default::default() };
        assert_eq!(
            explain(&config, Some("127.0.0.1:1/bootstrap: Connect to … failed: Connection refused")).await,
            None
        );
    }
}
