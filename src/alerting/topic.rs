//! The topic of alerts: one JSON object per message, an alert, the acknowledgement of one, or a silence. The key
//! is the sensor id, so the alerts of a sensor stay in order; that of a silence is its own id.

use std::ops::ControlFlow;

use rdkafka::message::{Header, OwnedHeaders};

use super::acknowledgement::Acknowledgement;
use super::alert::Alert;
use super::mute::{Mute, Mutes};
use crate::config::KafkaConfig;
use crate::kafka::Error;
use crate::kafka::reader::{Span, Step, TopicReader};
use crate::kafka::sender::Sender;
use crate::kafka::topics;

/// A producer for the topic of alerts.
#[derive(Clone)]
pub struct AlertProducer(Sender);

impl AlertProducer {
    pub fn new(config: &KafkaConfig) -> Result<Self, Error> {
        Ok(Self(Sender::new(config, config.alerts_topic(), "alerts", None)?))
    }

    /// Queues the alert before it returns, so alerts are sent in the order of the calls. The future resolves when all
    /// in-sync replicas have it. Sending an alert twice leaves two copies with the same id.
    pub fn send(&self, alert: &Alert) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        // Every field has a JSON form.
        let payload = serde_json::to_vec(alert).unwrap_or_default();
        let headers = [
            ("rule", alert.rule.as_str()),
            ("severity", alert.severity.name()),
            ("state", alert.state.name()),
        ]
        .into_iter()
        .fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value) })
        });
        self.0.send(Some(alert.iot_sensor_id.to_string().as_bytes()), Some(&payload), headers)
    }

    /// Returns when all in-sync replicas have it.
    pub async fn acknowledge(&self, acknowledgement: &Acknowledgement) -> Result<(), Error> {
        // Every field has a JSON form.
        let payload = serde_json::to_vec(acknowledgement).unwrap_or_default();
        let header = Header { key: "kind", value: Some("acknowledgement") };
        let headers = OwnedHeaders::new().insert(header);
        let key = acknowledgement.iot_sensor_id.to_string();
        self.0.send(Some(key.as_bytes()), Some(&payload), headers).await
    }
}

impl AlertProducer {
    /// Returns when all in-sync replicas have it.
    pub async fn silence(&self, mute: &Mute) -> Result<(), Error> {
        // Every field has a JSON form.
        let payload = serde_json::to_vec(mute).unwrap_or_default();
        let headers = OwnedHeaders::new().insert(Header { key: "kind", value: Some("silence") });
        self.0.send(Some(mute.id.to_string().as_bytes()), Some(&payload), headers).await
    }
}

/// Reads the topic of alerts, each time the messages since the last time.
pub struct AlertFeed {
    config: KafkaConfig,
    /// The next offset by partition.
    positions: Vec<i64>,
}

impl AlertFeed {
    /// Starts at the first alert that the topic still has.
    pub async fn open(config: &KafkaConfig) -> Result<Self, Error> {
        let watermarks = topics::watermarks(config, &config.alerts_topic()).await?;
        Ok(Self {
            config: config.clone(),
            positions: watermarks.into_iter().map(|(first, _)| first).collect(),
        })
    }

    /// The alerts that have not been read yet, as a blocking reader.
    pub async fn next(&mut self) -> Result<AlertBatch, Error> {
        let topic = self.config.alerts_topic();
        let watermarks = topics::watermarks(&self.config, &topic).await?;
        self.positions.resize(watermarks.len().max(self.positions.len()), 0);
        let spans =
            (0..).zip(watermarks).zip(&mut self.positions).map(|((partition, (first, end)), position)| {
                let from = first.max(*position);
                *position = end;
                Span { partition, from, to: end }
            });
        Ok(AlertBatch { config: self.config.clone(), topic, spans: spans.collect() })
    }
}

/// A message of the topic.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    Alert(Box<Alert>),
    Acknowledgement(Acknowledgement),
    Silence(Box<Mute>),
}

impl Record {
    /// `None` for anything else.
    pub fn read(payload: &[u8]) -> Option<Self> {
        match serde_json::from_slice(payload) {
            Ok(alert) => Some(Self::Alert(Box::new(alert))),
            Err(_) => match serde_json::from_slice(payload) {
                Ok(acknowledgement) => Some(Self::Acknowledgement(acknowledgement)),
                Err(_) => serde_json::from_slice(payload).ok().map(|mute| Self::Silence(Box::new(mute))),
            },
        }
    }
}

/// Alerts of the topic that are there and have not been read.
pub struct AlertBatch {
    config: KafkaConfig,
    topic: String,
    spans: Vec<Span>,
}

impl AlertBatch {
    /// Passes each alert to `take` until it breaks. Messages that are none of the three are counted and
    /// skipped. Blocks, and stops early when `is_stopped`.
    pub fn each<B>(
        &self,
        is_stopped: &dyn Fn() -> bool,
        mut take: impl FnMut(Alert) -> ControlFlow<B>,
    ) -> Result<(Option<B>, u64), Error> {
        self.each_record(is_stopped, |record| match record {
            Record::Alert(alert) => take(*alert),
            Record::Acknowledgement(_) | Record::Silence(_) => ControlFlow::Continue(()),
        })
    }

    /// Takes the silences among them.
    pub fn silences(&self, is_stopped: &dyn Fn() -> bool, mutes: &mut Mutes) -> Result<(), Error> {
        let read = self.each_record(is_stopped, |record| {
            if let Record::Silence(mute) = record {
                mutes.add(*mute);
            }
            ControlFlow::<()>::Continue(())
        });
        read.map(drop)
    }

    /// As [`AlertBatch::each`], with acknowledgements and silences.
    pub fn each_record<B>(
        &self,
        is_stopped: &dyn Fn() -> bool,
        mut take: impl FnMut(Record) -> ControlFlow<B>,
    ) -> Result<(Option<B>, u64), Error> {
        let mut foreign = 0;
        if self.spans.iter().all(Span::is_empty) {
            return Ok((None, foreign));
        }
        let mut reader = TopicReader::open(&self.config, &self.topic, &self.spans)?;
        while !is_stopped() {
            match reader.step()? {
                Step::Message(message) => match Record::read(message.payload()) {
                    Some(record) => {
                        if let ControlFlow::Break(value) = take(record) {
                            return Ok((Some(value), foreign));
                        }
                    }
                    None => foreign += 1,
                },
                Step::Waiting => {}
                Step::End => break,
            }
        }
        Ok((None, foreign))
    }
}
