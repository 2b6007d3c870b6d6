//! Passwords, logins and readings that leave this machine unencrypted.

use super::machine::is_loopback;
use super::{Finding, failed, ok, warning};
use crate::config::{CassandraConfig, KafkaConfig, SecurityProtocol};

/// The connection to Cassandra.
pub(super) fn of_cassandra(cassandra: &CassandraConfig) -> Finding {
    let remote: Vec<_> =
        cassandra.contact_points.iter().filter(|point| !is_loopback(point)).cloned().collect();
    match (cassandra.tls.enabled, cassandra.password.is_some(), remote.is_empty()) {
        (true, _, _) => ok("TLS"),
        (false, _, true) => ok("not encrypted, and the traffic does not leave this machine"),
        (false, true, false) => failed(
            format!("the password is sent to {} unencrypted", remote.join(", ")),
            "set cassandra.tls.enabled",
        ),
        (false, false, false) => warning(
            format!("readings are sent to {} unencrypted, without a password", remote.join(", ")),
            "set cassandra.tls.enabled and cassandra.username (docs/security.md)",
        ),
    }
}

/// The connection to Kafka.
pub(super) fn of_kafka(config: &KafkaConfig) -> Finding {
    let remote: Vec<_> = config.bootstrap_servers.iter().filter(|it| !is_loopback(it)).cloned().collect();
    match (config.security_protocol, remote.is_empty()) {
        (SecurityProtocol::Ssl | SecurityProtocol::SaslSsl, _) => ok("TLS"),
        (_, true) => ok("not encrypted, and the traffic does not leave this machine"),
        (SecurityProtocol::SaslPlaintext, false) => failed(
            format!("the login is sent to {} unencrypted", remote.join(", ")),
            "set kafka.security_protocol = \"SASL_SSL\"",
        ),
        (SecurityProtocol::Plaintext, false) => warning(
            format!("readings are sent to {} unencrypted, without a login", remote.join(", ")),
            "set kafka.security_protocol = \"SASL_SSL\" (docs/security.md)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn an_unencrypted_password_to_another_machine_fails() {
        let mut config = CassandraConfig::default();
        assert_eq!(of_cassandra(&config).0, Verdict::Ok);
        config.contact_points = vec!["10.0.0.1:9042".into()];
        assert_eq!(of_cassandra(&config).0, Verdict::Warning);
        config.password = Some(crate::config::Secret::new("hidden"));
        let (verdict, found, _) = of_cassandra(&config);
        assert!(verdict == Verdict::Failed && !found.contains("hidden"), "{found}");
        config.tls.enabled = true;
        assert_eq!(of_cassandra(&config).0, Verdict::Ok);
    }

    #[test]
    fn an_unencrypted_login_to_another_machine_fails() {
        let mut config = KafkaConfig::default();
        assert_eq!(of_kafka(&config).0, Verdict::Ok);
        config.bootstrap_servers = vec!["kafka1.example:9092".into()];
        assert_eq!(of_kafka(&config).0, Verdict::Warning);
        config.security_protocol = SecurityProtocol::SaslPlaintext;
        assert_eq!(of_kafka(&config).0, Verdict::Failed);
        config.security_protocol = SecurityProtocol::SaslSsl;
        assert_eq!(of_kafka(&config).0, Verdict::Ok);
    }
}
