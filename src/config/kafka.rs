//! `[kafka]`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::Secret;
use super::section::{REPLICAS, choice, hours, millis, seconds, section, time, whole};

section! {
    /// How to reach Kafka and what to ask of it.
    "kafka" => KafkaConfig {
        /// Addresses of some brokers as host:port (default port 9092).
        bootstrap_servers: Vec<String> = vec!["127.0.0.1:9092".into()];
        /// Topic of the readings.
        topic: String = "iot-analytics-topic".into();
        /// Topic for messages that cannot be stored. Empty: the name of the topic with .dlq appended.
        dead_letter_topic: Option<String>;
        /// Topic for the alerts of `iotctl ingest --detect`. Empty: the name of the topic with -alerts in place of
        /// -topic.
        alerts_topic: Option<String>;
        /// Consumer group of `iotctl ingest`.
        group: String = "iotctl-ingest".into();
        /// Partitions of the topics that `iotctl schema apply` creates.
        partitions: i32 = 12, whole(1, 10_000);
        /// Replicas of the topics that `iotctl schema apply` creates. Empty: 3, or 1 if Kafka has fewer than three brokers.
        replication_factor: Option<i32> = None, REPLICAS;
        /// Time limit of a request.
        request_timeout: Duration = seconds(10), time(millis(1), hours(1));
        /// Encryption and authentication.
        security_protocol: SecurityProtocol = SecurityProtocol::Plaintext;
        /// Authentication mechanism of the SASL protocols. OAUTHBEARER: tokens of an OpenID Connect server, by client
        /// credentials. AWS_MSK_IAM: AWS credentials, for Amazon MSK.
        sasl_mechanism: SaslMechanism = SaslMechanism::ScramSha512;
        /// User name, or client id for OAUTHBEARER. Required by the SASL protocols, with a password.
        sasl_username: Option<String>;
        /// Password, or client secret for OAUTHBEARER. Better given as a variable or in sasl_password_file.
        sasl_password: Option<Secret>;
        /// File whose first line is the password. Use it instead of sasl_password.
        sasl_password_file: Option<PathBuf>;
        /// URL of the OpenID Connect server's token endpoint. Required by OAUTHBEARER. The certificate authorities are those
        /// of the system, or the property https.ca.location.
        sasl_token_endpoint: Option<String>;
        /// Scope that the token is asked for, if the server wants one.
        sasl_token_scope: Option<String>;
        /// AWS region of the cluster, for AWS_MSK_IAM. Empty: the variable AWS_REGION, or the region in the names of the
        /// brokers.
        sasl_aws_region: Option<String>;
        /// Profile of the shared files of AWS's tools (~/.aws/credentials), for AWS_MSK_IAM. Empty: the credentials in the
        /// variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or else the profile that AWS_PROFILE names.
        sasl_aws_profile: Option<String>;
        /// PEM file of the trusted certificate authorities. Empty: those of the system.
        ssl_ca_location: Option<PathBuf>;
        /// PEM file of the client certificate. Needs ssl_key_location.
        ssl_certificate_location: Option<PathBuf>;
        /// PEM file of the client key. Needs ssl_certificate_location.
        ssl_key_location: Option<PathBuf>;
        /// Password of the client key. Better given as a variable.
        ssl_key_password: Option<Secret>;
        /// Further librdkafka properties, such as { "linger.ms" = 20 }. Properties that the delivery guarantee depends
        /// on (acks, idempotence, offset commits) are refused.
        properties: BTreeMap<String, String>;
    }
}

choice! {
    SecurityProtocol {
        Plaintext = "PLAINTEXT",
        Ssl = "SSL",
        SaslPlaintext = "SASL_PLAINTEXT",
        SaslSsl = "SASL_SSL",
    }
}

choice! {
    SaslMechanism {
        Plain = "PLAIN",
        ScramSha256 = "SCRAM-SHA-256",
        ScramSha512 = "SCRAM-SHA-512",
        OauthBearer = "OAUTHBEARER",
        AwsMskIam = "AWS_MSK_IAM",
    }
}

impl KafkaConfig {
    /// Topic for messages that cannot be stored.
    pub fn dead_letter_topic(&self) -> String {
        self.dead_letter_topic.clone().unwrap_or_else(|| format!("{}.dlq", self.topic))
    }

    /// Topic for the alerts of live detection.
    pub fn alerts_topic(&self) -> String {
        let stem = self.topic.strip_suffix("-topic").unwrap_or(&self.topic);
        self.alerts_topic.clone().unwrap_or_else(|| format!("{stem}-alerts"))
    }

    /// Topic for the alerts that a receiver of `alerts deliver` refused.
    pub fn alerts_dead_letter_topic(&self) -> String {
        format!("{}.dlq", self.alerts_topic())
    }
}
