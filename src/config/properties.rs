//! `kafka.properties`: what may not be set there. Some properties have a setting of their own; on some the delivery
//! promise rests (no acknowledged loss), so they are not for choice.

use std::collections::BTreeMap;

use super::validate::{Checked, ensure};

/// (librdkafka's property, our own setting).
const OWN_SETTINGS: &[(&str, &str)] = &[
    ("bootstrap.servers", "kafka.bootstrap_servers"),
    ("metadata.broker.list", "kafka.bootstrap_servers"),
    ("group.id", "kafka.group"),
    ("security.protocol", "kafka.security_protocol"),
    ("sasl.mechanism", "kafka.sasl_mechanism"),
    ("sasl.mechanisms", "kafka.sasl_mechanism"),
    ("sasl.username", "kafka.sasl_username"),
    ("sasl.password", "kafka.sasl_password"),
    ("ssl.ca.location", "kafka.ssl_ca_location"),
    ("ssl.certificate.location", "kafka.ssl_certificate_location"),
    ("ssl.key.location", "kafka.ssl_key_location"),
    ("ssl.key.password", "kafka.ssl_key_password"),
];

/// Every acknowledged message is on all in-sync replicas once and in order; every offset is committed by the pipeline
/// itself, from the topic's start, and only after its row is stored.
const PROMISE: &[&str] = &[
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

pub fn check(properties: &BTreeMap<String, String>) -> Checked {
    properties.keys().try_for_each(|name| {
        let path = format!("kafka.properties.{name}");
        if let Some((_, own)) = OWN_SETTINGS.iter().find(|(property, _)| property == name) {
            return ensure(false, &[&path], || format!("this has a setting of its own (set {own} instead)"));
        }
        ensure(!PROMISE.contains(&name.as_str()), &[&path], || {
            "the promise to lose no reading rests on it, so iotctl sets it itself (leave it out)".into()
        })
    })
}
