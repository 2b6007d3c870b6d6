//! Sending what can never be stored to the dead-letter topic: the original key and bytes, and in headers why and
//! where it came from.

use std::time::Duration;

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::Error;
use super::client::{Reporting, set_default};
use super::producer::producer_config;
use crate::config::KafkaConfig;

/// A message on its way to the dead-letter topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    pub key: Option<Vec<u8>>,
    pub payload: Vec<u8>,
    /// A short label and the whole explanation.
    pub reason: &'static str,
    pub error: String,
    /// Where it was, and Kafka's timestamp of it in milliseconds since the epoch.
    pub partition: i32,
    pub offset: i64,
    pub timestamp: i64,
}

/// A producer for the dead-letter topic.
#[derive(Clone)]
pub struct DeadLetterProducer {
    inner: FutureProducer<Reporting>,
    topic: String,
    source_topic: String,
}

impl DeadLetterProducer {
    pub fn new(config: &KafkaConfig) -> Result<Self, Error> {
        let mut client = producer_config(config);
        // The brokers say what is too large; the library's own limit is lower than their default.
        set_default(&mut client, config, "message.max.bytes", "100000000");
        let inner = client.create_with_context(Reporting::default()).map_err(Error::building(config))?;
        Ok(Self { inner, topic: config.dead_letter_topic(), source_topic: config.topic.clone() })
    }

    /// Returns once all in-sync replicas have the message. Sending it twice leaves two copies with the same headers.
    pub async fn send(&self, letter: &DeadLetter) -> Result<(), Error> {
        let [partition, offset, timestamp] =
            [i64::from(letter.partition), letter.offset, letter.timestamp].map(|number| number.to_string());
        let headers = [
            ("reason", letter.reason),
            ("error", &letter.error),
            ("topic", &self.source_topic),
            ("partition", &partition),
            ("offset", &offset),
            ("timestamp", &timestamp),
        ]
        .into_iter()
        .fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value) })
        });
        let mut record =
            FutureRecord::<[u8], [u8]>::to(&self.topic).payload(&letter.payload).headers(headers);
        if let Some(key) = &letter.key {
            record = record.key(key);
        }
        let queue_wait = Duration::from_secs(10);
        match self.inner.send(record, queue_wait).await {
            Ok(_) => Ok(()),
            Err((source, _)) => {
                Err(Error::client(format!("send to the dead-letter topic {:?}", self.topic), source))
            }
        }
    }
}
