//! Rules beyond the type and bounds of a single value: names that Cassandra and Kafka accept, addresses, and settings
//! that need or exclude each other. A half-configured security setting is an error, never ignored.

use std::collections::BTreeMap;
use std::path::Path;

use super::check::{Checked, ensure};
use super::{
    CassandraConfig, ClusterConfig, Config, Consistency, IngestConfig, KafkaConfig, LocalConfig,
    SchemaConfig, SchemaRegistryConfig,
};
use super::{SaslMechanism, Secret, SecurityProtocol, names, properties};

/// Checks the configuration as a whole. Bounds of single values were checked when they were read.
pub(super) fn validate(config: &Config) -> Checked {
    cassandra(&config.cassandra)?;
    schema(&config.schema)?;
    kafka(&config.kafka)?;
    config.mqtt.check()?;
    exclusive("mqtt.password", config.mqtt.password.is_some(), config.mqtt.password_file.is_some())?;
    schema_registry(&config.schema_registry)?;
    let http = &config.http;
    pair("http.cert_file", http.cert_file.as_deref(), "http.key_file", http.key_file.as_deref())?;
    ingest(&config.ingest)?;
    for (device_type, ttl) in config.retention.iter() {
        ensure(ttl.subsec_nanos() == 0, &[&format!("retention.{device_type}")], || {
            "Cassandra counts it in whole seconds (round it)".into()
        })?;
    }
    ensure(config.forecast.retention.subsec_nanos() == 0, &["forecast.retention"], || {
        "Cassandra counts it in whole seconds (round it)".into()
    })?;
    ensure(
        config.rollup.daily_retention >= config.rollup.hourly_retention,
        &["rollup.daily_retention", "rollup.hourly_retention"],
        || "daily rollups would expire before the hourly ones (raise rollup.daily_retention)".into(),
    )?;
    addresses("local.ingest_metrics", &config.local.ingest_metrics)?;
    addresses("local.monitor_metrics", &config.local.monitor_metrics)?;
    local(&config.local)?;
    cluster(&config.cluster)?;
    let is_plain = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || "-_".contains(char);
    let project = &config.docker.project;
    ensure(
        project.starts_with(|char: char| char.is_ascii_lowercase() || char.is_ascii_digit())
            && project.chars().all(is_plain),
        &["docker.project"],
        || {
            format!(
                "{project:?} is not a Compose project name (use lower-case letters, digits, - and _, with a letter or digit first)"
            )
        },
    )
}

fn cassandra(config: &CassandraConfig) -> Checked {
    addresses("cassandra.contact_points", &config.contact_points)?;
    names::keyspace("cassandra.keyspace", &config.keyspace)?;
    ensure(config.read_consistency != Consistency::Any, &["cassandra.read_consistency"], || {
        "ANY is only for writes (use LOCAL_QUORUM or ONE)".into()
    })?;
    exclusive("cassandra.password", config.password.is_some(), config.password_file.is_some())?;
    let has_password = config.password.is_some() || config.password_file.is_some();
    let password_key =
        if config.password.is_some() { "cassandra.password" } else { "cassandra.password_file" };
    ensure(!has_password || config.username.is_some(), &[password_key], || {
        "a password without a user name (set cassandra.username)".into()
    })?;
    ensure(has_password || config.username.is_none(), &["cassandra.username"], || {
        "a user name without a password (set IOTCTL_CASSANDRA_PASSWORD or cassandra.password_file)".into()
    })?;
    login("cassandra.username", config.username.as_deref(), "cassandra.password", config.password.as_ref())?;
    cassandra_tls(&config.tls)
}

/// User name and password are sent with a zero byte between them.
pub(super) fn login(
    user_key: &str,
    user: Option<&str>,
    password_key: &str,
    password: Option<&Secret>,
) -> Checked {
    let has_zero = |text: &str| text.contains('\0');
    let problem = || "it contains a zero byte, which a login cannot contain (remove it)".into();
    ensure(!user.is_some_and(has_zero), &[user_key], problem)?;
    ensure(!password.is_some_and(|password| has_zero(password.expose())), &[password_key], problem)
}

fn cassandra_tls(config: &super::CassandraTlsConfig) -> Checked {
    let given = [
        ("cassandra.tls.ca_file", config.ca_file.is_some()),
        ("cassandra.tls.cert_file", config.cert_file.is_some()),
        ("cassandra.tls.key_file", config.key_file.is_some()),
        ("cassandra.tls.server_name", config.server_name.is_some()),
    ];
    for (key, is_given) in given {
        ensure(config.enabled || !is_given, &[key], || {
            "this has no effect without TLS (set cassandra.tls.enabled = true, or remove it)".into()
        })?;
    }
    ensure(!config.enabled || config.ca_file.is_some(), &["cassandra.tls.enabled"], || {
        "TLS needs the certificate authorities to trust (set cassandra.tls.ca_file to their PEM file)".into()
    })?;
    pair(
        "cassandra.tls.cert_file",
        config.cert_file.as_deref(),
        "cassandra.tls.key_file",
        config.key_file.as_deref(),
    )
}

fn schema(config: &SchemaConfig) -> Checked {
    for (key, duration) in [("schema.ttl", config.ttl), ("schema.bucket", config.bucket)] {
        ensure(duration.subsec_nanos() == 0, &[key], || {
            "Cassandra counts it in whole seconds (round it)".into()
        })?;
    }
    ensure(config.ttl >= config.bucket, &["schema.ttl", "schema.bucket"], || {
        "readings would expire before their bucket is complete (set schema.ttl to at least schema.bucket)"
            .into()
    })
}

fn kafka(config: &KafkaConfig) -> Checked {
    addresses("kafka.bootstrap_servers", &config.bootstrap_servers)?;
    names::kafka("kafka.topic", &config.topic)?;
    let dead_letters = config.dead_letter_topic();
    match &config.dead_letter_topic {
        Some(name) => names::kafka("kafka.dead_letter_topic", name)?,
        None => ensure(names::kafka("kafka.topic", &dead_letters).is_ok(), &["kafka.topic"], || {
            "with `.dlq` appended it has over 249 characters (shorten it, or set kafka.dead_letter_topic)"
                .into()
        })?,
    }
    ensure(dead_letters != config.topic, &["kafka.dead_letter_topic", "kafka.topic"], || {
        "dead letters would be read again as readings (use another topic)".into()
    })?;
    let alerts = config.alerts_topic();
    match &config.alerts_topic {
        Some(name) => names::kafka("kafka.alerts_topic", name)?,
        None => ensure(names::kafka("kafka.topic", &alerts).is_ok(), &["kafka.topic"], || {
            "with `-alerts` appended it has over 249 characters (shorten it, or set kafka.alerts_topic)"
                .into()
        })?,
    }
    ensure(alerts != config.topic && alerts != dead_letters, &["kafka.alerts_topic"], || {
        "alerts would be read as readings or dead letters (use another topic)".into()
    })?;
    names::kafka("kafka.group", &config.group)?;
    kafka_sasl(config)?;
    kafka_ssl(config)?;
    properties::check(&config.properties)
}

fn kafka_sasl(config: &KafkaConfig) -> Checked {
    let (user, password) = (config.sasl_username.as_deref(), config.sasl_password.as_ref());
    login("kafka.sasl_username", user, "kafka.sasl_password", password)?;
    exclusive("kafka.sasl_password", config.sasl_password.is_some(), config.sasl_password_file.is_some())?;
    let has_password = config.sasl_password.is_some() || config.sasl_password_file.is_some();
    if matches!(config.security_protocol, SecurityProtocol::SaslPlaintext | SecurityProtocol::SaslSsl) {
        tokens(config)?;
        if config.sasl_mechanism == SaslMechanism::AwsMskIam {
            return iam(config);
        }
        return ensure(config.sasl_username.is_some() && has_password, &["kafka.security_protocol"], || {
            "SASL needs a user and a password (set kafka.sasl_username, \
             and IOTCTL_KAFKA_SASL_PASSWORD or kafka.sasl_password_file)"
                .into()
        });
    }
    let given = [
        ("kafka.sasl_username", config.sasl_username.is_some()),
        ("kafka.sasl_password", config.sasl_password.is_some()),
        ("kafka.sasl_password_file", config.sasl_password_file.is_some()),
        ("kafka.sasl_token_endpoint", config.sasl_token_endpoint.is_some()),
        ("kafka.sasl_token_scope", config.sasl_token_scope.is_some()),
        ("kafka.sasl_aws_region", config.sasl_aws_region.is_some()),
        ("kafka.sasl_aws_profile", config.sasl_aws_profile.is_some()),
    ];
    without_effect(
        &given,
        "kafka.security_protocol",
        "this has no effect without SASL (set kafka.security_protocol to SASL_SSL, or remove it)",
    )
}

/// Settings that are given although another one makes them useless.
fn without_effect(settings: &[(&str, bool)], because_of: &str, problem: &str) -> Checked {
    settings.iter().try_for_each(|(key, is_given)| ensure(!is_given, &[key, because_of], || problem.into()))
}

/// AWS_MSK_IAM has neither user nor password, and its tokens must not be read on the way.
fn iam(config: &KafkaConfig) -> Checked {
    let given = [
        ("kafka.sasl_username", config.sasl_username.is_some()),
        ("kafka.sasl_password", config.sasl_password.is_some()),
        ("kafka.sasl_password_file", config.sasl_password_file.is_some()),
    ];
    without_effect(
        &given,
        "kafka.sasl_mechanism",
        "this has no effect with AWS_MSK_IAM, which logs in by AWS credentials (remove it)",
    )?;
    ensure(
        config.security_protocol == SecurityProtocol::SaslSsl,
        &["kafka.sasl_mechanism", "kafka.security_protocol"],
        || "AWS_MSK_IAM needs TLS (set kafka.security_protocol to SASL_SSL)".into(),
    )?;
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    ensure(config.sasl_aws_region.as_deref().is_none_or(plain), &["kafka.sasl_aws_region"], || {
        "this is not the name of an AWS region (write it like eu-west-1)".into()
    })
}

/// The settings of OAUTHBEARER and AWS_MSK_IAM.
fn tokens(config: &KafkaConfig) -> Checked {
    if config.sasl_mechanism != SaslMechanism::AwsMskIam {
        let given = [
            ("kafka.sasl_aws_region", config.sasl_aws_region.is_some()),
            ("kafka.sasl_aws_profile", config.sasl_aws_profile.is_some()),
        ];
        without_effect(
            &given,
            "kafka.sasl_mechanism",
            "this has no effect without AWS credentials (set kafka.sasl_mechanism to AWS_MSK_IAM, or remove it)",
        )?;
    }
    if config.sasl_mechanism != SaslMechanism::OauthBearer {
        let given = [
            ("kafka.sasl_token_endpoint", config.sasl_token_endpoint.is_some()),
            ("kafka.sasl_token_scope", config.sasl_token_scope.is_some()),
        ];
        return without_effect(
            &given,
            "kafka.sasl_mechanism",
            "this has no effect without tokens (set kafka.sasl_mechanism to OAUTHBEARER, or remove it)",
        );
    }
    let endpoint = config.sasl_token_endpoint.as_deref().unwrap_or_default();
    ensure(
        endpoint.starts_with("https://") || endpoint.starts_with("http://"),
        &["kafka.sasl_token_endpoint"],
        || {
            "OAUTHBEARER needs the URL of a token endpoint (such as https://login.example/oauth2/token)"
                .into()
        },
    )
}

fn kafka_ssl(config: &KafkaConfig) -> Checked {
    let encrypted = matches!(config.security_protocol, SecurityProtocol::Ssl | SecurityProtocol::SaslSsl);
    let given = [
        ("kafka.ssl_ca_location", config.ssl_ca_location.is_some()),
        ("kafka.ssl_certificate_location", config.ssl_certificate_location.is_some()),
        ("kafka.ssl_key_location", config.ssl_key_location.is_some()),
        ("kafka.ssl_key_password", config.ssl_key_password.is_some()),
    ];
    for (key, is_given) in given {
        ensure(encrypted || !is_given, &[key, "kafka.security_protocol"], || {
            "this has no effect without TLS (set kafka.security_protocol to SSL or SASL_SSL, or remove it)"
                .into()
        })?;
    }
    ensure(
        config.ssl_key_password.is_none() || config.ssl_key_location.is_some(),
        &["kafka.ssl_key_password"],
        || "a password without a key (set kafka.ssl_key_location)".into(),
    )?;
    pair(
        "kafka.ssl_certificate_location",
        config.ssl_certificate_location.as_deref(),
        "kafka.ssl_key_location",
        config.ssl_key_location.as_deref(),
    )
}

fn schema_registry(config: &SchemaRegistryConfig) -> Checked {
    let key = |name: &str| format!("schema_registry.{name}");
    let url = config.url.as_deref().unwrap_or_default();
    let is_url = ["http://", "https://"].iter().any(|scheme| {
        url.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', ':', '?']))
    });
    ensure(url.is_empty() || is_url, &[&key("url")], || {
        format!("{url:?} is not a URL (write it like http://registry:8081)")
    })?;
    ensure(!url.contains(['@', '?', '#', ' ']), &[&key("url")], || {
        "a URL with a login or a query is refused (set schema_registry.username and its password)".into()
    })?;
    exclusive(&key("password"), config.password.is_some(), config.password_file.is_some())?;
    let has_password = config.password.is_some() || config.password_file.is_some();
    ensure(has_password == config.username.is_some(), &[&key("username")], || {
        "a user name and a password are needed together (set schema_registry.username, and \
         IOTCTL_SCHEMA_REGISTRY_PASSWORD or schema_registry.password_file)"
            .into()
    })?;
    let username = config.username.as_deref();
    login(&key("username"), username, &key("password"), config.password.as_ref())?;
    ensure(!username.is_some_and(|name| name.contains(':')), &[&key("username")], || {
        "a user name of basic authentication has no colon (remove it)".into()
    })?;
    let is_encrypted = url.starts_with("https://");
    ensure(!is_encrypted || config.ca_file.is_some(), &[&key("url")], || {
        "TLS needs the certificate authorities to trust (set schema_registry.ca_file to their PEM file, such as \
         /etc/ssl/certs/ca-certificates.crt)"
            .into()
    })?;
    ensure(is_encrypted || config.ca_file.is_none(), &[&key("ca_file")], || {
        "this has no effect without TLS (write https:// in schema_registry.url, or remove it)".into()
    })
}

fn ingest(config: &IngestConfig) -> Checked {
    let budget = config.max_in_flight_bytes;
    for (key, size) in
        [("ingest.batch_bytes", config.batch_bytes), ("ingest.max_message_bytes", config.max_message_bytes)]
    {
        ensure(size <= budget, &[key, "ingest.max_in_flight_bytes"], || {
            "a single batch or message would exceed the bytes that may be in flight (raise ingest.max_in_flight_bytes)".into()
        })?;
    }
    Ok(())
}

fn local(config: &LocalConfig) -> Checked {
    ensure(config.address.is_loopback(), &["local.address"], || {
        format!(
            "{} is not in 127.0.0.0/8 (the servers have no password, so they stay on this machine)",
            config.address
        )
    })?;
    let mut taken = BTreeMap::new();
    for (key, port) in [
        ("local.cassandra_port", config.cassandra_port),
        ("local.cassandra_storage_port", config.cassandra_storage_port),
        ("local.cassandra_jmx_port", config.cassandra_jmx_port),
        ("local.kafka_port", config.kafka_port),
        ("local.kafka_controller_port", config.kafka_controller_port),
        ("local.zookeeper_port", config.zookeeper_port),
        ("local.cassandra_metrics_port", config.cassandra_metrics_port),
        ("local.kafka_metrics_port", config.kafka_metrics_port),
        ("local.prometheus_port", config.prometheus_port),
        ("local.node_exporter_port", config.node_exporter_port),
        ("local.grafana_port", config.grafana_port),
    ] {
        if let Some(other) = taken.insert(port, key) {
            return ensure(false, &[other, key], || format!("both are port {port} (use different ports)"));
        }
    }
    Ok(())
}

fn cluster(config: &ClusterConfig) -> Checked {
    config.hosts.iter().try_for_each(|host| {
        let is_address =
            host.parse::<std::net::IpAddr>().is_ok() || host.parse::<std::net::SocketAddr>().is_ok();
        ensure(is_address, &["cluster.hosts"], || {
            format!("{host:?} is not an IP address (write it like 10.0.0.5)")
        })
    })?;
    ensure(
        config.jmx_username.is_some() == config.jmx_password_file.is_some(),
        &["cluster.jmx_username", "cluster.jmx_password_file"],
        || "both are needed (set both, or neither)".into(),
    )
}

fn addresses(key: &str, addresses: &[String]) -> Checked {
    ensure(!addresses.is_empty(), &[key], || "this list is empty (give at least one host:port)".into())?;
    addresses.iter().try_for_each(|address| names::address(key, address))
}

/// `key` and `key_file` are alternatives.
fn exclusive(key: &str, is_given: bool, file_is_given: bool) -> Checked {
    let file_key = format!("{key}_file");
    ensure(!(is_given && file_is_given), &[key, &file_key], || {
        format!("the password is given twice (unset one, for example with `-O {file_key}=`)")
    })
}

/// Certificate and key are only useful together.
pub(super) fn pair(
    certificate_key: &str,
    certificate: Option<&Path>,
    key_key: &str,
    key: Option<&Path>,
) -> Checked {
    let (given, missing) = match (certificate, key) {
        (Some(_), None) => (certificate_key, key_key),
        (None, Some(_)) => (key_key, certificate_key),
        _ => return Ok(()),
    };
    ensure(false, &[given], || format!("a certificate and its key are needed together (set {missing} too)"))
}

#[cfg(test)]
mod tests;
