//! Single messages to a topic other than that of the readings, each with its own acknowledgement.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::client::{Reporting, set_default};
use super::producer::producer_config;
use super::renewed::Renewed;
use super::{Error, renewal};
use crate::config::KafkaConfig;

/// What the library allows at most for `message.max.bytes` here.
const MOST_BYTES: u64 = 100_000_000;

/// How long a message waits for others that go to the broker with it, in milliseconds. Each of these messages is acknowledged by
/// itself, and without this each is a request of its own (docs/performance.md has what that costs the broker).
const LINGER: &str = "100";

/// After a change of certificates: how long messages in flight may hold up the new client.
const RENEW_WITHIN: Duration = Duration::from_secs(10);

/// Sends to one topic.
#[derive(Clone)]
pub(crate) struct Sender {
    inner: Arc<Renewed<FutureProducer<Reporting>>>,
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
        // Without a known limit the brokers decide what is too large; the library's own is lower than their default. With
        // it, no batch grows beyond the limit, so that a refusal is about a single message.
        let limit = limit.unwrap_or(MOST_BYTES).clamp(1_000, MOST_BYTES).to_string();
        let config = config.clone();
        let inner = Renewed::new(move || {
            let mut client = producer_config(&config);
            set_default(&mut client, &config, "message.max.bytes", &limit);
            set_default(&mut client, &config, "linger.ms", LINGER);
            renewal::create(&config, &client, Reporting::default())
        })?;
        Ok(Self { inner: Arc::new(inner), topic, what })
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
        self.inner.renew(Some(RENEW_WITHIN));
        let client = self.inner.current();
        let queued = client.send_result(record).map_err(|(cause, _)| cause);
        let action = format!("send to the {} topic {:?}", self.what, self.topic);
        async move {
            // Dropped, it would give up what it has accepted.
            let _client = client;
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
