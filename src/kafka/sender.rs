//! Single messages to a topic beside the readings, each with its own acknowledgement.

use std::time::Duration;

use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::Error;
use super::client::{Reporting, set_default};
use super::producer::producer_config;
use crate::config::KafkaConfig;

/// A full queue is waited for this long; whoever sends tries again.
const QUEUE_WAIT: Duration = Duration::from_secs(10);

/// Sends to one topic.
#[derive(Clone)]
pub(super) struct Sender {
    inner: FutureProducer<Reporting>,
    topic: String,
    /// What the topic is to people: "dead-letter".
    what: &'static str,
}

impl Sender {
    pub fn new(config: &KafkaConfig, topic: String, what: &'static str) -> Result<Self, Error> {
        let mut client = producer_config(config);
        // The brokers say what is too large; the library's own limit is lower than their default.
        set_default(&mut client, config, "message.max.bytes", "100000000");
        let inner = client.create_with_context(Reporting::default()).map_err(Error::building(config))?;
        Ok(Self { inner, topic, what })
    }

    /// Returns once all in-sync replicas have the message.
    pub async fn send(&self, key: Option<&[u8]>, payload: &[u8], headers: OwnedHeaders) -> Result<(), Error> {
        let mut record = FutureRecord::<[u8], [u8]>::to(&self.topic).payload(payload).headers(headers);
        if let Some(key) = key {
            record = record.key(key);
        }
        match self.inner.send(record, QUEUE_WAIT).await {
            Ok(_) => Ok(()),
            Err((source, _)) => {
                Err(Error::client(format!("send to the {} topic {:?}", self.what, self.topic), source))
            }
        }
    }
}
