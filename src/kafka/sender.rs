//! Single messages to a topic other than that of the readings, each with its own acknowledgement.

use std::sync::Arc;

use rdkafka::error::KafkaError;
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::client::{Reporting, set_default};
use super::live::Live;
use super::producer::producer_config;
use super::{Error, renewal};
use crate::config::KafkaConfig;

/// What the library allows at most for `message.max.bytes` here.
const MOST_BYTES: u64 = 100_000_000;

/// Sends to one topic.
#[derive(Clone)]
pub(crate) struct Sender {
    inner: Arc<Live<FutureProducer<Reporting>>>,
    topic: String,
    /// What the topic is for users: "dead-letter".
    what: &'static str,
}

impl Sender {
    /// `limit` is the topic's max.message.bytes, if it is known.
    pub(crate) fn new(
        config: &KafkaConfig,
        topic: String,
        what: &'static str,
        limit: Option<u64>,
    ) -> Result<Self, Error> {
        let mut client = producer_config(config);
        // Without a known limit the brokers decide what is too large; the library's own is lower than their default. With
        // it, no batch grows beyond the limit, so that a refusal is about a single message.
        let limit = limit.unwrap_or(MOST_BYTES).clamp(1_000, MOST_BYTES).to_string();
        set_default(&mut client, config, "message.max.bytes", &limit);
        let inner = Arc::new(renewal::create(config, &client, Reporting::default())?);
        Ok(Self { inner, topic, what })
    }

    /// Queues the message before it returns, so that messages are sent in the order of these calls. The future ends once
    /// all in-sync replicas have it; a full queue is a transient error.
    pub(crate) fn send(
        &self,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
        headers: OwnedHeaders,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let mut record = FutureRecord::<[u8], [u8]>::to(&self.topic).headers(headers);
        (record.key, record.payload) = (key, payload);
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
