//! A message as it was read, wherever it was read from.

use std::panic::AssertUnwindSafe;

use rdkafka::Message as _;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Headers as _, OwnedHeaders, OwnedMessage};

use super::dead_letters::MessageHeader;
use super::{TopicName, TopicPartition};
use crate::mapping::{Headers, Record};

/// A message, borrowed from the library's buffer or copied out of it.
pub struct Message<'a> {
    inner: Inner<'a>,
    topic: TopicName,
}

enum Inner<'a> {
    Borrowed(BorrowedMessage<'a>),
    Owned(Box<OwnedMessage>),
}

/// The same on either of them.
macro_rules! either {
    ($message:expr, $inner:ident => $result:expr) => {
        match $message {
            Inner::Borrowed($inner) => $result,
            Inner::Owned($inner) => $result,
        }
    };
}

impl<'a> Message<'a> {
    pub(super) fn new(message: BorrowedMessage<'a>, topic: TopicName) -> Self {
        Self { inner: Inner::Borrowed(message), topic }
    }

    pub fn topic(&self) -> TopicName {
        self.topic
    }

    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition { topic: self.topic, partition: self.partition() }
    }

    /// A copy that outlives the next poll.
    pub fn to_owned(&self) -> Message<'static> {
        let inner = match &self.inner {
            Inner::Borrowed(message) => message.detach(),
            Inner::Owned(message) => (**message).clone(),
        };
        Message { inner: Inner::Owned(Box::new(inner)), topic: self.topic }
    }

    /// Bytes in memory, without the headers.
    pub fn bytes(&self) -> usize {
        size_of::<OwnedMessage>() + self.payload().len() + self.key().map_or(0, <[u8]>::len)
    }

    pub fn partition(&self) -> i32 {
        either!(&self.inner, message => message.partition())
    }

    pub fn offset(&self) -> i64 {
        either!(&self.inner, message => message.offset())
    }

    /// Milliseconds since the epoch; 0 for a message without one.
    pub fn timestamp(&self) -> i64 {
        either!(&self.inner, message => message.timestamp()).to_millis().unwrap_or(0)
    }

    pub fn key(&self) -> Option<&[u8]> {
        either!(&self.inner, message => message.key())
    }

    /// Number of headers.
    pub fn header_count(&self) -> usize {
        either!(&self.inner, message => message.headers().map_or(0, rdkafka::message::Headers::count))
    }

    /// A header; `None` beyond the last, or if its name is not UTF-8.
    pub fn header(&self, index: usize) -> Option<MessageHeader> {
        either!(&self.inner, message => {
            let headers = message.headers()?;
            // The library panics at such a name, and anyone who may write to the topic can send one.
            let found = std::panic::catch_unwind(AssertUnwindSafe(|| headers.try_get(index)));
            let header = found.ok().flatten()?;
            Some(MessageHeader { name: header.key.to_owned(), value: header.value.map(<[u8]>::to_vec) })
        })
    }

    /// As a mapping reads it.
    pub fn record<'m>(&'m self, payload: &'m [u8]) -> Record<'m> {
        Record {
            topic: self.topic.as_str(),
            key: self.key(),
            headers: self,
            timestamp: Some(self.timestamp()),
            payload,
        }
    }

    /// A copy of all headers, whatever their names; `None` if there are none.
    pub fn headers(&self) -> Option<OwnedHeaders> {
        match &self.inner {
            Inner::Borrowed(message) => message.headers().map(BorrowedHeaders::detach),
            Inner::Owned(message) => message.headers().cloned(),
        }
    }

    /// Empty for a tombstone.
    pub fn payload(&self) -> &[u8] {
        self.payload_or_null().unwrap_or_default()
    }

    /// `None` for a tombstone.
    pub fn payload_or_null(&self) -> Option<&[u8]> {
        either!(&self.inner, message => message.payload())
    }
}

impl Headers for Message<'_> {
    fn text(&self, name: &str) -> Option<String> {
        let mut headers = (0..self.header_count()).rev().filter_map(|index| self.header(index));
        String::from_utf8(headers.find(|header| header.name == name)?.value?).ok()
    }
}
