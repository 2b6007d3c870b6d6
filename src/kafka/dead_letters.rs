//! Messages that can never be stored, in a topic of their own: the original key and payload, with the reason and the
//! origin in headers. `ingest` sends them there, [`LetterBox`] reads them back, and [`super::replay`] sends them to their
//! topic again.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::ControlFlow;

use rdkafka::message::{Header, OwnedHeaders};

use super::Error;
use super::consumer::Message;
use super::positions::Positions;
use super::producer::Position;
use super::reader::{Span, Step, TopicReader};
use super::sender::Sender;
use super::topics;
use crate::config::KafkaConfig;

/// A message on its way to the dead-letter topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    pub key: Option<Vec<u8>>,
    pub payload: Vec<u8>,
    /// A short label.
    pub reason: &'static str,
    /// The whole explanation.
    pub error: String,
    /// Where it was, and its Kafka timestamp in milliseconds since the epoch.
    pub partition: i32,
    pub offset: i64,
    pub timestamp: i64,
}

/// A producer for the dead-letter topic.
#[derive(Clone)]
pub struct DeadLetterProducer {
    sender: Sender,
    source_topic: String,
}

impl DeadLetterProducer {
    pub fn new(config: &KafkaConfig) -> Result<Self, Error> {
        let sender = Sender::new(config, config.dead_letter_topic(), "dead-letter")?;
        Ok(Self { sender, source_topic: config.topic.clone() })
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
        self.sender.send(letter.key.as_deref(), &letter.payload, headers).await
    }
}

/// The key of markers in the dead-letter topic, which say which of its records were replayed; the payload is
/// `partition:offset`.
pub(super) const MARK: &[u8] = b"iotctl-replayed";

/// What a record of the dead-letter topic is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    Letter(StoredLetter),
    /// The record at this position was sent to the source topic again.
    Replayed(Position),
    /// Not written by `ingest`.
    Foreign,
}

/// A dead letter as it is read back. Its texts are untrusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLetter {
    /// Where it is in the dead-letter topic: its name for users.
    pub id: Position,
    pub key: Option<Vec<u8>>,
    pub payload: Vec<u8>,
    pub reason: String,
    pub error: String,
    pub topic: String,
    /// Where it was in that topic, and its Kafka timestamp in milliseconds since the epoch.
    pub source: Position,
    pub timestamp: i64,
}

impl Stored {
    pub fn read(message: &Message<'_>) -> Self {
        let id = Position { partition: message.partition(), offset: message.offset() };
        let texts: HashMap<&str, String> = message
            .headers()
            .map(|(name, value)| (name, String::from_utf8_lossy(value).into_owned()))
            .collect();
        if texts.is_empty() && message.key() == Some(MARK) {
            let marked = std::str::from_utf8(message.payload()).ok().and_then(|text| text.parse().ok());
            return marked.map_or(Self::Foreign, Self::Replayed);
        }
        let text = |name: &str| texts.get(name).cloned();
        let number = |name: &str| texts.get(name)?.parse::<i64>().ok();
        let letter = || {
            let partition = i32::try_from(number("partition")?).ok()?;
            Some(StoredLetter {
                id,
                key: message.key().map(<[u8]>::to_vec),
                payload: message.payload().to_vec(),
                reason: text("reason")?,
                error: text("error")?,
                topic: text("topic")?,
                source: Position { partition, offset: number("offset")? },
                timestamp: number("timestamp")?,
            })
        };
        letter().map_or(Self::Foreign, Self::Letter)
    }
}

/// Everything that the dead-letter topic held when it was opened.
pub struct LetterBox {
    config: KafkaConfig,
    spans: Vec<Span>,
}

/// What the other records of the topic say about a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub is_replayed: bool,
    /// An earlier letter holds the same message: `ingest` was killed before it could commit.
    pub is_copy: bool,
}

impl LetterBox {
    pub async fn open(config: &KafkaConfig) -> Result<Self, Error> {
        let watermarks = topics::watermarks(config, &config.dead_letter_topic()).await?;
        let spans =
            (0..).zip(watermarks).map(|(partition, (from, to))| Span { partition, from, to }).collect();
        Ok(Self { config: config.clone(), spans })
    }

    /// Passes each letter of the configured topic to `take` until it breaks. Blocking; stops early when `is_stopped`.
    ///
    /// The topic is read twice: the markers come after the letters that they refer to.
    pub fn each<B>(
        &self,
        is_stopped: &dyn Fn() -> bool,
        mut take: impl FnMut(StoredLetter, Standing) -> ControlFlow<B>,
    ) -> Result<Option<B>, Error> {
        let mut replayed = Positions::within(&self.spans);
        self.scan::<()>(is_stopped, |stored| {
            if let Stored::Replayed(position) = stored {
                replayed.insert(position);
            }
            ControlFlow::Continue(())
        })?;
        // About eight bytes per letter. With the timestamp, because the offsets of a topic that was deleted and created
        // again start from 0: its letters are not copies of the earlier ones.
        let mut seen = HashSet::new();
        self.scan(is_stopped, |stored| match stored {
            Stored::Letter(letter) if letter.topic == self.config.topic => {
                let mut hasher = DefaultHasher::new();
                (letter.source.partition, letter.source.offset, letter.timestamp).hash(&mut hasher);
                let is_copy = !seen.insert(hasher.finish());
                let standing = Standing { is_replayed: replayed.contains(letter.id), is_copy };
                take(letter, standing)
            }
            _ => ControlFlow::Continue(()),
        })
    }

    fn scan<B>(
        &self,
        is_stopped: &dyn Fn() -> bool,
        mut take: impl FnMut(Stored) -> ControlFlow<B>,
    ) -> Result<Option<B>, Error> {
        let topic = self.config.dead_letter_topic();
        let mut reader = TopicReader::open(&self.config, &topic, &self.spans)?;
        while !is_stopped() {
            match reader.step()? {
                Step::Message(message) => {
                    if let ControlFlow::Break(value) = take(Stored::read(&message)) {
                        return Ok(Some(value));
                    }
                }
                Step::Waiting => {}
                Step::End => break,
            }
        }
        Ok(None)
    }
}
