//! Sending dead letters to their topic again, once the cause is fixed.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};

use super::Error;
use super::dead_letters::{MARKER_KEY, NO_BIRTH, StoredLetter};
use super::producer::{DELIVERY_TIMEOUT, Delivery, Offer, Position, Producer};
use crate::config::KafkaConfig;
use crate::mapping::sparkplug::REPLAYED;

/// Sends dead letters to the topic they came from, and marks them in the dead-letter topic.
pub struct Replayer {
    source: Producer<OnDelivery>,
    marks: Producer<OnDelivery>,
    /// The dead-letter topic.
    marked: String,
    failure: Failure,
    /// Whether a message keeps its timestamp, because its readings may depend on it. An old one is deleted sooner.
    keeps_timestamps: bool,
    /// Sent and not marked yet.
    sent: Vec<Position>,
}

type OnDelivery = Box<dyn Fn(Delivery) + Send + Sync>;

/// Why the first message that was not accepted was refused.
type Failure = Arc<OnceLock<KafkaError>>;

impl Replayer {
    /// Letters sent before their acknowledgements are awaited and they are marked.
    const CHUNK: usize = 1_000;

    pub fn new(config: &KafkaConfig, keeps_timestamps: bool) -> Result<Self, Error> {
        let mut config = config.clone();
        // As large as whatever the dead-letter topic took.
        config.properties.entry("message.max.bytes".into()).or_insert_with(|| "100000000".into());
        let failure = Failure::default();
        let producer = |topic: &str| {
            let failure = failure.clone();
            let note: OnDelivery = Box::new(move |delivery| {
                if let Err(error) = delivery.outcome {
                    let _ = failure.set(error);
                }
            });
            Producer::new(&config, topic, note)
        };
        let (source, marks) = (producer(&config.topic)?, producer(&config.dead_letter_topic())?);
        let marked = config.dead_letter_topic();
        Ok(Self { source, marks, marked, failure, keeps_timestamps, sent: Vec::new() })
    }

    /// Sends a letter as the message that it was: null keys and payloads, and its headers. One that lacked a birth gets a header
    /// that says so. It is marked once the brokers have acknowledged it; a crash in between sends it twice, which stores one row.
    pub fn send(&mut self, letter: &StoredLetter) -> Result<(), Error> {
        let mut headers = letter.headers.iter().fold(None, |headers: Option<OwnedHeaders>, header| {
            let header = Header { key: &header.name, value: header.value.as_ref() };
            Some(headers.unwrap_or_default().insert(header))
        });
        if letter.lacked_birth() && !letter.headers.iter().any(|header| header.name == REPLAYED) {
            let header = Header { key: REPLAYED, value: Some(NO_BIRTH) };
            headers = Some(headers.unwrap_or_default().insert(header));
        }
        let timestamp = self.keeps_timestamps.then_some(letter.timestamp);
        self.offer(
            (&self.source, &letter.topic),
            letter.key.as_deref(),
            letter.payload.as_deref(),
            headers.as_ref(),
            timestamp,
        )?;
        self.sent.push(letter.id);
        if self.sent.len() >= Self::CHUNK { self.finish() } else { Ok(()) }
    }

    /// Waits until all that was sent is acknowledged, and marks it.
    pub fn finish(&mut self) -> Result<(), Error> {
        self.wait(&self.source, "replay dead letters")?;
        for id in std::mem::take(&mut self.sent) {
            self.offer(
                (&self.marks, &self.marked),
                Some(MARKER_KEY),
                Some(id.to_string().as_bytes()),
                None,
                None,
            )?;
        }
        self.wait(&self.marks, "mark dead letters as replayed")
    }

    fn offer(
        &self,
        (producer, topic): (&Producer<OnDelivery>, &str),
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
        headers: Option<&OwnedHeaders>,
        timestamp: Option<i64>,
    ) -> Result<(), Error> {
        while producer.offer_to(topic, key, payload, headers.cloned(), timestamp, 0)? == Offer::Full {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn wait(&self, producer: &Producer<OnDelivery>, action: &str) -> Result<(), Error> {
        let is_flushed = producer.flush(DELIVERY_TIMEOUT + Duration::from_secs(5));
        match self.failure.get() {
            Some(cause) => Err(producer.end().unwrap_or_else(|| Error::client(action, cause.clone()))),
            None if is_flushed => Ok(()),
            None => {
                let reason = producer.complaint().unwrap_or_else(|| "the brokers do not answer".into());
                Err(Error::Rejected { action: action.into(), reason })
            }
        }
    }
}
