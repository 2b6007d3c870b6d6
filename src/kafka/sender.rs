//! Single messages to a topic other than that of the readings, each with its own acknowledgement.

use rdkafka::error::KafkaError;
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::Error;
use super::client::{Reporting, set_default};
use super::producer::producer_config;
use crate::config::KafkaConfig;

/// Sends to one topic.
#[derive(Clone)]
pub(crate) struct Sender {
    inner: FutureProducer<Reporting>,
    topic: String,
    /// What the topic is for users: "dead-letter".
    what: &'static str,
}

impl Sender {
    pub fn new(config: &KafkaConfig, topic: String, what: &'static str) -> Result<Self, Error> {
        let mut client = producer_config(config);
        // The brokers decide what is too large; the library's own limit is lower than their default.
        set_default(&mut client, config, "message.max.bytes", "100000000");
        let inner = client.create_with_context(Reporting::default()).map_err(Error::building(config))?;
        Ok(Self { inner, topic, what })
    }

    /// Queues the message before it returns, so that messages are sent in the order of these calls. The future ends once
    /// all in-sync replicas have it; a full queue is a transient error.
    pub fn send(
        &self,
        key: Option<&[u8]>,
        payload: &[u8],
        headers: OwnedHeaders,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let mut record = FutureRecord::<[u8], [u8]>::to(&self.topic).payload(payload).headers(headers);
        if let Some(key) = key {
            record = record.key(key);
        }
        let queued = self.inner.send_result(record).map_err(|(cause, _)| cause);
        let action = format!("send to the {} topic {:?}", self.what, self.topic);
        async move {
            let failed = match queued {
                Ok(delivery) => match delivery.await {
                    Ok(Ok(_)) => return Ok(()),
                    Ok(Err((cause, _))) => cause,
                    Err(_) => KafkaError::Canceled,
                },
                Err(cause) => cause,
            };
            Err(Error::client(action, failed))
        }
    }
}
