//! `kafka.properties`: what may not be set there. Some properties have their own setting, others are fixed because the
//! delivery guarantee (no acknowledged loss) depends on them.

use std::collections::BTreeMap;

use super::check::{Checked, ensure};

/// (librdkafka's property, our setting).
const OWN_SETTINGS: &[(&str, &str)] = &[
    ("bootstrap.servers", "kafka.bootstrap_servers"),
    ("metadata.broker.list", "kafka.bootstrap_servers"),
    ("group.id", "kafka.group"),
    ("security.protocol", "kafka.security_protocol"),
    ("sasl.mechanism", "kafka.sasl_mechanism"),
    ("sasl.mechanisms", "kafka.sasl_mechanism"),
    ("sasl.username", "kafka.sasl_username"),
    ("sasl.password", "kafka.sasl_password"),
    ("sasl.oauthbearer.client.id", "kafka.sasl_username"),
    ("sasl.oauthbearer.client.credentials.client.id", "kafka.sasl_username"),
    ("sasl.oauthbearer.client.secret", "kafka.sasl_password"),
    ("sasl.oauthbearer.client.credentials.client.secret", "kafka.sasl_password"),
    ("sasl.oauthbearer.token.endpoint.url", "kafka.sasl_token_endpoint"),
    ("sasl.oauthbearer.scope", "kafka.sasl_token_scope"),
    ("ssl.ca.location", "kafka.ssl_ca_location"),
    ("ssl.certificate.location", "kafka.ssl_certificate_location"),
    ("ssl.key.location", "kafka.ssl_key_location"),
    ("ssl.key.password", "kafka.ssl_key_password"),
];

/// Every acknowledged message is on all in-sync replicas, once and in order. The pipeline itself commits every offset,
/// from the start of the topic, and only after its row is stored.
const GUARANTEE: &[&str] = &[
    "acks",
    "request.required.acks",
    "enable.idempotence",
    "enable.gapless.guarantee",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "retries",
    "message.send.max.retries",
    "transactional.id",
    "enable.auto.commit",
    "auto.commit.enable",
    "enable.auto.offset.store",
    "auto.offset.reset",
    "isolation.level",
    "enable.partition.eof",
    "partition.assignment.strategy",
    "group.protocol",
];

pub(super) fn check(properties: &BTreeMap<String, String>) -> Checked {
    properties.keys().try_for_each(|name| {
        let path = format!("kafka.properties.{name}");
        if let Some((_, own)) = OWN_SETTINGS.iter().find(|(property, _)| property == name) {
            return ensure(false, &[&path], || format!("this has its own setting (set {own} instead)"));
        }
        ensure(!GUARANTEE.contains(&name.as_str()), &[&path], || {
            "iotctl sets this itself, because the guarantee to lose no reading depends on it (remove it)"
                .into()
        })
    })
}
