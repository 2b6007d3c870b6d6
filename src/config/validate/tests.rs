//! Each rule is broken once, by the smallest change to a valid configuration.

use std::time::Duration;

use bytesize::ByteSize;

use super::*;
use crate::config::Secret;

/// The message after one change to the defaults.
fn refused(change: impl FnOnce(&mut Config)) -> String {
    let mut config = Config::default();
    change(&mut config);
    validate(&config).expect_err("the rule is broken").to_string()
}

fn accepted(change: impl FnOnce(&mut Config)) {
    let mut config = Config::default();
    change(&mut config);
    validate(&config).expect("the configuration is valid");
}

fn starts(message: &str, start: &str) {
    assert!(message.starts_with(start), "{message}");
}

#[test]
fn the_defaults_are_valid() {
    accepted(|_| {});
}

#[test]
fn addresses_are_given_and_well_formed() {
    starts(&refused(|c| c.cassandra.contact_points.clear()), "cassandra.contact_points: this list is empty");
    starts(
        &refused(|c| c.kafka.bootstrap_servers = vec!["a:b".into()]),
        "kafka.bootstrap_servers: \"a:b\" is not",
    );
}

#[test]
fn cassandra_accepts_the_keyspace_and_the_consistencies() {
    starts(
        &refused(|c| c.cassandra.keyspace = "My-Keyspace".into()),
        "cassandra.keyspace: \"My-Keyspace\" is not a plain CQL name",
    );
    starts(&refused(|c| c.cassandra.read_consistency = Consistency::Any), "cassandra.read_consistency: ANY");
}

#[test]
fn a_cassandra_user_has_one_password() {
    let password = || Some(Secret::new("hunter2"));
    starts(
        &refused(|c| c.cassandra.username = Some("ann".into())),
        "cassandra.username: a user name without",
    );
    starts(&refused(|c| c.cassandra.password = password()), "cassandra.password: a password without");
    starts(&refused(|c| c.cassandra.password_file = Some("p".into())), "cassandra.password_file: a password");
    let twice = refused(|c| {
        c.cassandra.password = password();
        c.cassandra.password_file = Some("p".into());
    });
    starts(&twice, "cassandra.password, cassandra.password_file: the password is given twice");
    accepted(|c| {
        c.cassandra.username = Some("ann".into());
        c.cassandra.password = password();
    });
}

#[test]
fn cassandra_tls_is_complete_or_off() {
    starts(
        &refused(|c| c.cassandra.tls.enabled = true),
        "cassandra.tls.enabled: TLS needs the certificate authorities",
    );
    starts(
        &refused(|c| c.cassandra.tls.ca_file = Some("ca".into())),
        "cassandra.tls.ca_file: this has no effect",
    );
    let half = refused(|c| {
        c.cassandra.tls.enabled = true;
        c.cassandra.tls.ca_file = Some("ca".into());
        c.cassandra.tls.cert_file = Some("cert".into());
    });
    starts(
        &half,
        "cassandra.tls.cert_file: a certificate and its key are needed together (set cassandra.tls.key_file",
    );
    accepted(|c| {
        c.cassandra.tls.enabled = true;
        c.cassandra.tls.ca_file = Some("ca".into());
    });
}

#[test]
fn durations_of_the_schema_are_whole_seconds_and_readings_outlive_their_bucket() {
    starts(&refused(|c| c.schema.bucket = Duration::from_millis(60_500)), "schema.bucket: Cassandra counts");
    starts(&refused(|c| c.schema.ttl = Duration::from_millis(7_200_500)), "schema.ttl: Cassandra counts");
    starts(&refused(|c| c.schema.ttl = Duration::from_secs(60)), "schema.ttl, schema.bucket: readings");
    accepted(|c| c.schema.ttl = c.schema.bucket);
}

#[test]
fn topics_and_groups_have_names_that_kafka_allows() {
    starts(&refused(|c| c.kafka.topic = "a b".into()), "kafka.topic: \"a b\" is not a valid name");
    starts(&refused(|c| c.kafka.group = String::new()), "kafka.group: this is empty");
    starts(&refused(|c| c.kafka.topic = "t".repeat(246)), "kafka.topic: with `.dlq` appended it has over");
    starts(&refused(|c| c.kafka.dead_letter_topic = Some("a/b".into())), "kafka.dead_letter_topic: \"a/b\"");
    let same = refused(|c| c.kafka.dead_letter_topic = Some(c.kafka.topic.clone()));
    starts(&same, "kafka.dead_letter_topic, kafka.topic: dead letters would be read again");
    accepted(|c| {
        c.kafka.topic = "t".repeat(249);
        c.kafka.dead_letter_topic = Some("dead".into());
        c.kafka.alerts_topic = Some("alerts".into());
    });
    starts(&refused(|c| c.kafka.alerts_topic = Some("a/b".into())), "kafka.alerts_topic: \"a/b\"");
    starts(
        &refused(|c| c.kafka.alerts_topic = Some(c.kafka.topic.clone())),
        "kafka.alerts_topic: alerts would",
    );
    let names = [("iot-analytics-topic", "iot-analytics-alerts"), ("readings", "readings-alerts")];
    for (topic, alerts) in names {
        let kafka = KafkaConfig { topic: topic.into(), ..KafkaConfig::default() };
        assert_eq!(kafka.alerts_topic(), alerts);
    }
}

#[test]
fn kafka_security_is_complete_or_off() {
    let sasl = |c: &mut Config| c.kafka.security_protocol = SecurityProtocol::SaslSsl;
    starts(&refused(sasl), "kafka.security_protocol: SASL needs a user and a password");
    starts(
        &refused(|c| c.kafka.sasl_username = Some("bob".into())),
        "kafka.sasl_username, kafka.security_protocol: this has no effect without SASL",
    );
    starts(
        &refused(|c| c.kafka.ssl_ca_location = Some("ca".into())),
        "kafka.ssl_ca_location, kafka.security_protocol: this has no effect without TLS",
    );
    let ssl = |c: &mut Config| c.kafka.security_protocol = SecurityProtocol::Ssl;
    let half = refused(|c| {
        ssl(c);
        c.kafka.ssl_key_location = Some("key".into());
    });
    starts(&half, "kafka.ssl_key_location: a certificate and its key are needed together");
    let no_key = refused(|c| {
        ssl(c);
        c.kafka.ssl_key_password = Some(Secret::new("hunter2"));
    });
    starts(&no_key, "kafka.ssl_key_password: a password without a key");
    let twice = refused(|c| {
        c.kafka.sasl_password = Some(Secret::new("hunter2"));
        c.kafka.sasl_password_file = Some("p".into());
    });
    starts(&twice, "kafka.sasl_password, kafka.sasl_password_file: the password is given twice");
    accepted(|c| {
        sasl(c);
        c.kafka.sasl_username = Some("bob".into());
        c.kafka.sasl_password_file = Some("p".into());
        c.kafka.ssl_ca_location = Some("ca".into());
    });
}

#[test]
fn tokens_need_an_endpoint_and_an_endpoint_needs_tokens() {
    let sasl = |c: &mut Config| {
        c.kafka.security_protocol = SecurityProtocol::SaslSsl;
        c.kafka.sasl_username = Some("iot".into());
        c.kafka.sasl_password = Some(Secret::new("hunter2"));
    };
    let tokens = |c: &mut Config| {
        sasl(c);
        c.kafka.sasl_mechanism = SaslMechanism::OauthBearer;
    };
    starts(&refused(tokens), "kafka.sasl_token_endpoint: OAUTHBEARER needs the URL of a token endpoint");
    let without = refused(|c| {
        sasl(c);
        c.kafka.sasl_token_endpoint = Some("https://login.example/token".into());
    });
    starts(&without, "kafka.sasl_token_endpoint, kafka.sasl_mechanism: this has no effect without tokens");
    accepted(|c| {
        tokens(c);
        c.kafka.sasl_token_endpoint = Some("https://login.example/token".into());
    });
}

#[test]
fn a_login_by_aws_credentials_has_no_password_and_needs_tls() {
    let iam = |c: &mut Config| {
        c.kafka.security_protocol = SecurityProtocol::SaslSsl;
        c.kafka.sasl_mechanism = SaslMechanism::AwsMskIam;
    };
    accepted(|c| {
        iam(c);
        c.kafka.sasl_aws_region = Some("eu-west-1".into());
        c.kafka.sasl_aws_profile = Some("plant".into());
    });
    let with_user = refused(|c| {
        iam(c);
        c.kafka.sasl_username = Some("iot".into());
    });
    starts(&with_user, "kafka.sasl_username, kafka.sasl_mechanism: this has no effect with AWS_MSK_IAM");
    let unencrypted = refused(|c| {
        iam(c);
        c.kafka.security_protocol = SecurityProtocol::SaslPlaintext;
    });
    starts(&unencrypted, "kafka.sasl_mechanism, kafka.security_protocol: AWS_MSK_IAM needs TLS");
    let region = refused(|c| {
        iam(c);
        c.kafka.sasl_aws_region = Some("eu-west-1.example".into());
    });
    starts(&region, "kafka.sasl_aws_region: this is not the name of an AWS region");
    let without = refused(|c| {
        c.kafka.security_protocol = SecurityProtocol::SaslSsl;
        c.kafka.sasl_aws_profile = Some("plant".into());
    });
    starts(
        &without,
        "kafka.sasl_aws_profile, kafka.sasl_mechanism: this has no effect without AWS credentials",
    );
}

#[test]
fn properties_override_neither_the_guarantee_nor_our_own_settings() {
    let with = |name: &str| {
        let name = name.to_owned();
        move |c: &mut Config| drop(c.kafka.properties.insert(name, "x".into()))
    };
    for promised in
        ["acks", "enable.idempotence", "enable.auto.commit", "enable.auto.offset.store", "isolation.level"]
    {
        starts(
            &refused(with(promised)),
            &format!(
                "kafka.properties.{promised}: iotctl sets this itself, because the guarantee to lose no reading"
            ),
        );
    }
    starts(
        &refused(with("bootstrap.servers")),
        "kafka.properties.bootstrap.servers: this has its own setting (set kafka.bootstrap_servers instead)",
    );
    for own in ["group.id", "security.protocol", "sasl.password", "ssl.ca.location"] {
        assert!(refused(with(own)).contains("this has its own setting"), "{own}");
    }
    accepted(with("linger.ms"));
}

#[test]
fn a_single_batch_or_message_fits_into_the_bytes_in_flight() {
    let message = refused(|c| c.ingest.max_message_bytes = ByteSize::mib(64));
    starts(
        &message,
        "ingest.max_message_bytes, ingest.max_in_flight_bytes: a single batch or message would exceed",
    );
    let batch = refused(|c| {
        c.ingest.max_in_flight_bytes = ByteSize::mib(1);
        c.ingest.batch_bytes = ByteSize::mib(2);
    });
    starts(&batch, "ingest.batch_bytes, ingest.max_in_flight_bytes: ");
}

#[test]
fn local_servers_listen_on_loopback_and_on_different_ports() {
    starts(
        &refused(|c| c.local.address = [10, 0, 0, 1].into()),
        "local.address: 10.0.0.1 is not in 127.0.0.0/8",
    );
    starts(
        &refused(|c| c.local.kafka_port = c.local.cassandra_port),
        "local.cassandra_port, local.kafka_port: both are port 9042",
    );
}
