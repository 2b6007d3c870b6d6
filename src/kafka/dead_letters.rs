//! Messages that can never be stored, in a topic of their own: the original key and payload, with the reason and the
//! origin in headers. `ingest` sends them there, [`LetterBox`] reads them back, and [`super::replay`] sends them to their
//! topic again.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::ControlFlow;

use rdkafka::message::{Header, OwnedHeaders};

use super::message::Message;
use super::positions::Positions;
use super::producer::Position;
use super::reader::{Span, Step, TopicReader};
use super::sender::Sender;
use super::topics;
use super::{Error, Subscription, TopicName};
use crate::config::KafkaConfig;
use crate::encoding::hex;
use crate::mapping::sparkplug::REPLAYED;
use crate::mapping::{Headers, Record};

/// A message on its way to the dead-letter topic.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// `None` is a null key, which is not an empty one.
    pub key: Option<Vec<u8>>,
    pub payload: Vec<u8>,
    /// The headers of the message.
    pub headers: Option<OwnedHeaders>,
    /// A short label.
    pub reason: &'static str,
    /// The whole explanation.
    pub error: String,
    /// Where it was, and its Kafka timestamp in milliseconds since the epoch.
    pub topic: TopicName,
    pub partition: i32,
    pub offset: i64,
    pub timestamp: i64,
}

impl DeadLetter {
    /// The memory that it takes, roughly, in bytes.
    pub fn bytes(&self) -> usize {
        self.payload.len() + self.key.as_ref().map_or(0, Vec::len) + self.error.len()
    }
}

/// Bytes of the payload that a truncated letter keeps; the second number where even that is too large.
const TRUNCATED: [usize; 2] = [64 * 1024, 0];

/// The last of a letter's own headers. Its value is their number, itself included; the headers before them are the
/// message's, whatever their names.
const OWN_HEADERS: &str = "iotctl-headers";

/// A producer for the dead-letter topic.
#[derive(Clone)]
pub struct DeadLetterProducer {
    sender: Sender,
}

impl DeadLetterProducer {
    /// `limit` is the topic's max.message.bytes, if it is known.
    pub fn new(config: &KafkaConfig, limit: Option<u64>) -> Result<Self, Error> {
        let sender = Sender::new(config, config.dead_letter_topic(), "dead-letter", limit)?;
        Ok(Self { sender })
    }

    /// Returns once all in-sync replicas have the message. Sending it twice leaves two copies with the same headers.
    ///
    /// A letter that is larger than the topic allows is sent with the beginning of its payload only, and with the size and
    /// the SHA-256 of the whole payload in headers.
    pub async fn send(&self, letter: &DeadLetter) -> Result<(), Error> {
        let mut sent = self.sender.send(letter.key.as_deref(), Some(&letter.payload), headers(letter, None));
        for kept in TRUNCATED {
            match sent.await {
                Err(error) if error.is_too_large() => {}
                result => return result,
            }
            let kept = &letter.payload[..kept.min(letter.payload.len())];
            let headers = headers(letter, Some(&letter.payload));
            // A key may be large too; without the payload it is of little use.
            let key = letter.key.as_deref().filter(|_| !kept.is_empty());
            sent = self.sender.send(key, Some(kept), headers);
        }
        sent.await
    }
}

fn headers(letter: &DeadLetter, whole: Option<&[u8]>) -> OwnedHeaders {
    let [partition, offset, timestamp] =
        [i64::from(letter.partition), letter.offset, letter.timestamp].map(|number| number.to_string());
    let mut own: Vec<(&str, String)> = vec![
        ("reason", letter.reason.to_owned()),
        ("error", letter.error.clone()),
        ("topic", letter.topic.as_str().to_owned()),
        ("partition", partition),
        ("offset", offset),
        ("timestamp", timestamp),
    ];
    if let Some(whole) = whole {
        own.push(("original-size", whole.len().to_string()));
        own.push(("original-sha256", sha256(whole)));
    }
    own.push((OWN_HEADERS, (own.len() + 1).to_string()));
    // The headers of a message that is too large may be what is too large.
    let original = letter.headers.clone().filter(|_| whole.is_none());
    own.iter().fold(original.unwrap_or_default(), |headers, (key, value)| {
        headers.insert(Header { key, value: Some(value) })
    })
}

/// The SHA-256 of `bytes` in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    hex(digest.as_ref())
}

/// A dead letter's own headers and what they say. The message's headers stand before them.
pub const HEADERS: [(&str, &str); 9] = [
    ("reason", "A short label, one of a fixed few"),
    ("error", "The whole explanation"),
    ("topic", "The topic that the message was in"),
    ("partition", "Its partition there"),
    ("offset", "Its offset there"),
    ("timestamp", "Its Kafka timestamp, in milliseconds since 1970"),
    ("original-size", "Bytes of the whole payload; only where the payload had to be truncated"),
    ("original-sha256", "SHA-256 of the whole payload; only where the payload had to be truncated"),
    (OWN_HEADERS, "The number of these headers; the headers before them are those of the message"),
];

/// The reason of letters that lacked a birth of Sparkplug.
pub(super) const NO_BIRTH: &str = "no_birth";

/// The key of markers in the dead-letter topic, which say which of its records were replayed; the payload is
/// `partition:offset`.
pub(super) const MARKER_KEY: &[u8] = b"iotctl-replayed";

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
    /// `None` is a null payload, which is not an empty one.
    pub payload: Option<Vec<u8>>,
    /// Headers of the message.
    pub headers: Vec<MessageHeader>,
    /// What is missing of the message, so that it cannot be replayed; `None` if it is whole.
    pub missing: Option<Missing>,
    pub reason: String,
    pub error: String,
    pub topic: String,
    /// Where it was in that topic, and its Kafka timestamp in milliseconds since the epoch.
    pub source: Position,
    pub timestamp: i64,
}

/// A header of a message; its value may be null.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageHeader {
    pub name: String,
    pub value: Option<Vec<u8>>,
}

/// Why a letter is not the whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// The message was larger than the dead-letter topic allows: its payload had this size in bytes and this SHA-256.
    Truncated { size: u64, sha256: String },
    /// A header has a name that is not UTF-8.
    HeaderName,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Truncated { size, sha256 } => {
                write!(formatter, "truncated: {size} bytes with SHA-256 {sha256}")
            }
            Self::HeaderName => formatter.write_str("the name of a header is not UTF-8"),
        }
    }
}

impl StoredLetter {
    /// The payload; empty if it is null.
    pub fn bytes(&self) -> &[u8] {
        self.payload.as_deref().unwrap_or_default()
    }
}

impl StoredLetter {
    /// Whether it lacked the birth of its node: sent again, it may be read by a younger one.
    pub fn lacked_birth(&self) -> bool {
        self.reason == NO_BIRTH
    }

    /// The message as a mapping reads it when it is sent again.
    pub fn record(&self) -> Record<'_> {
        Record {
            topic: &self.topic,
            key: self.key.as_deref(),
            headers: self,
            timestamp: Some(self.timestamp),
            payload: self.bytes(),
        }
    }
}

impl Headers for StoredLetter {
    fn text(&self, name: &str) -> Option<String> {
        if name == REPLAYED && self.lacked_birth() {
            return Some(NO_BIRTH.to_owned());
        }
        let header = self.headers.iter().rev().find(|header| header.name == name)?;
        String::from_utf8(header.value.clone()?).ok()
    }
}

impl Stored {
    pub fn read(message: &Message<'_>) -> Self {
        let count = message.header_count();
        if count == 0 && message.key() == Some(MARKER_KEY) {
            let marked = std::str::from_utf8(message.payload()).ok().and_then(|text| text.parse().ok());
            return marked.map_or(Self::Foreign, Self::Replayed);
        }
        // Letters of version 0.1 have no headers but their own.
        let own = match count.checked_sub(1).and_then(|last| message.header(last)) {
            Some(header) if header.name == OWN_HEADERS => header.text().parse().unwrap_or(0).min(count),
            _ => count,
        };
        let own: Vec<MessageHeader> =
            (count - own..count).filter_map(|index| message.header(index)).collect();
        Self::letter(message, &own, count).map_or(Self::Foreign, Self::Letter)
    }

    fn letter(message: &Message<'_>, own: &[MessageHeader], count: usize) -> Option<StoredLetter> {
        let text = |name: &str| own.iter().find(|header| header.name == name).map(MessageHeader::text);
        let number = |name: &str| text(name)?.parse::<i64>().ok();
        let headers: Vec<Option<MessageHeader>> =
            (0..count.saturating_sub(own.len())).map(|index| message.header(index)).collect();
        let missing = match (text("original-size"), text("original-sha256")) {
            (Some(size), Some(sha256)) => Some(Missing::Truncated { size: size.parse().ok()?, sha256 }),
            _ if headers.contains(&None) => Some(Missing::HeaderName),
            _ => None,
        };
        Some(StoredLetter {
            id: Position { partition: message.partition(), offset: message.offset() },
            key: message.key().map(<[u8]>::to_vec),
            payload: message.payload_or_null().map(<[u8]>::to_vec),
            headers: headers.into_iter().flatten().collect(),
            missing,
            reason: text("reason")?,
            error: text("error")?,
            topic: text("topic")?,
            source: Position {
                partition: i32::try_from(number("partition")?).ok()?,
                offset: number("offset")?,
            },
            timestamp: number("timestamp")?,
        })
    }
}

impl MessageHeader {
    fn text(&self) -> String {
        String::from_utf8_lossy(self.value.as_deref().unwrap_or_default()).into_owned()
    }
}

/// Everything that the dead-letter topic held when it was opened.
pub struct LetterBox {
    config: KafkaConfig,
    subscription: Subscription,
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
    /// Letters of the topics of `subscription` are read.
    pub async fn open(config: &KafkaConfig, subscription: Subscription) -> Result<Self, Error> {
        let watermarks = topics::watermarks(config, &config.dead_letter_topic()).await?;
        let spans =
            (0..).zip(watermarks).map(|(partition, (from, to))| Span { partition, from, to }).collect();
        Ok(Self { config: config.clone(), subscription, spans })
    }

    /// Passes each letter to `take` until it breaks. Blocking; stops early when `is_stopped`.
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
            Stored::Letter(letter) if self.subscription.takes(&letter.topic) => {
                let mut hasher = DefaultHasher::new();
                (&letter.topic, letter.source.partition, letter.source.offset, letter.timestamp)
                    .hash(&mut hasher);
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
