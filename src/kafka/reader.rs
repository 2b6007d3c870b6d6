//! Reading a range of a topic once, without joining a consumer group: partitions are assigned explicitly, nothing is
//! committed, and each partition ends at its given offset, however fast others write to it.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{Complaint, Reporting, client_config, set_default};
use super::live::Live;
use super::message::Message;
use super::{Error, TopicName, renewal};
use crate::config::KafkaConfig;

/// Offsets `[from, to)` of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub partition: i32,
    pub from: i64,
    pub to: i64,
}

impl Span {
    /// Number of offsets; an upper bound of its messages if the topic is compacted.
    pub fn len(&self) -> u64 {
        u64::try_from(self.to.saturating_sub(self.from)).unwrap_or(0)
    }

    pub fn is_empty(&self) -> bool {
        self.to <= self.from
    }
}

/// What a call of [`TopicReader::step`] returned.
pub enum Step<'a> {
    Message(Message<'a>),
    /// Nothing yet: an opportunity to stop.
    Waiting,
    End,
}

/// Reads spans of a topic. Blocking: each call returns within a tenth of a second.
pub struct TopicReader {
    inner: Live<BaseConsumer<Reporting>>,
    topic: TopicName,
    complaint: Complaint,
    servers: String,
    /// Spans that are not read to their end yet.
    open: Vec<Span>,
    timeout: Duration,
    last_progress: Instant,
}

impl TopicReader {
    /// Starts at the beginning of each span. [`TopicReader::step`] is the first to contact the broker.
    pub fn open(config: &KafkaConfig, topic: &str, spans: &[Span]) -> Result<Self, Error> {
        let mut client = client_config(config);
        let tuning = [
            ("queued.max.messages.kbytes", "16384"),
            ("fetch.max.bytes", "8388608"),
            ("fetch.wait.max.ms", "100"),
            // What was deleted before it was read is reported, not skipped.
            ("auto.offset.reset", "error"),
        ];
        for (key, value) in tuning {
            set_default(&mut client, config, key, value);
        }
        // The library requires a group even if none is joined.
        client.set("group.id", &config.group).set("enable.auto.commit", "false");
        client.set("enable.partition.eof", "true");
        let context = Reporting::default();
        let complaint = context.complaint.clone();
        let inner = renewal::create(config, &client, context)?;
        let open: Vec<Span> = spans.iter().copied().filter(|span| !span.is_empty()).collect();
        let reader = Self {
            inner,
            topic: TopicName::of(topic),
            complaint,
            servers: config.bootstrap_servers.join(","),
            open,
            timeout: config.request_timeout,
            last_progress: Instant::now(),
        };
        reader.assign()?;
        Ok(reader)
    }

    fn assign(&self) -> Result<(), Error> {
        let mut list = TopicPartitionList::with_capacity(self.open.len());
        for span in &self.open {
            list.add_partition_offset(self.topic.as_str(), span.partition, Offset::Offset(span.from))
                .map_err(|source| self.failed(source))?;
        }
        self.inner.assign(&list).map_err(|source| self.failed(source))
    }

    /// The next message of any partition; within one, they come in order of their offsets.
    ///
    /// # Errors
    /// When nothing came for `kafka.request_timeout` although something is left, or the broker refuses.
    pub fn step(&mut self) -> Result<Step<'_>, Error> {
        const POLL_TIMEOUT: Duration = Duration::from_millis(100);
        if self.open.is_empty() {
            return Ok(Step::End);
        }
        match self.inner.poll(POLL_TIMEOUT) {
            Some(Ok(message)) => {
                self.last_progress = Instant::now();
                let (partition, offset) =
                    (rdkafka::Message::partition(&message), rdkafka::Message::offset(&message));
                let Some(index) = self.open.iter().position(|span| span.partition == partition) else {
                    return Ok(Step::Waiting);
                };
                let to = self.open[index].to;
                if offset + 1 >= to {
                    self.open.swap_remove(index);
                    // It would continue with what was written since.
                    pause(&self.inner, self.topic.as_str(), partition)
                        .map_err(|source| self.failed(source))?;
                }
                match offset < to {
                    true => Ok(Step::Message(Message::new(message, self.topic))),
                    false => Ok(Step::Waiting),
                }
            }
            // The offsets before the end need not hold messages: transaction markers, compacted messages.
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                self.last_progress = Instant::now();
                self.open.retain(|span| span.partition != partition);
                Ok(Step::Waiting)
            }
            // Partitions that move to another leader are there again soon.
            Some(Err(source)) if super::is_moving(&source) && self.last_progress.elapsed() < self.timeout => {
                tracing::debug!(error = %source, "cannot read from Kafka, retrying");
                Ok(Step::Waiting)
            }
            Some(Err(source)) if !super::is_unreachable(&source) => Err(self.failed(source)),
            Some(Err(_)) | None => match self.complaint.refusal() {
                Some(reason) => Err(Error::Refused { servers: self.servers.clone(), reason }),
                None if self.last_progress.elapsed() > self.timeout => Err(Error::Unreachable {
                    servers: self.servers.clone(),
                    within: self.timeout,
                    reason: self.complaint.last(),
                }),
                None => Ok(Step::Waiting),
            },
        }
    }

    /// Reads no more of a partition.
    pub fn close(&mut self, partition: i32) -> Result<(), Error> {
        self.open.retain(|span| span.partition != partition);
        pause(&self.inner, self.topic.as_str(), partition).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: KafkaError) -> Error {
        Error::Client { action: format!("read the topic {:?}", self.topic), cause: source }
    }
}

fn pause(consumer: &BaseConsumer<Reporting>, topic: &str, partition: i32) -> Result<(), KafkaError> {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition(topic, partition);
    consumer.pause(&list)
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;

    use super::*;
    use crate::kafka::Producer;

    fn produce(config: &KafkaConfig, messages: usize) {
        let producer = Producer::new(config, "readings", |_| ()).unwrap();
        for number in 0..messages {
            producer.offer(format!("{number}").as_bytes(), b"{}", number).unwrap();
        }
        assert!(producer.flush(Duration::from_secs(20)));
    }

    #[test]
    fn spans_are_read_to_their_ends_and_no_further() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("readings", 2, 1).unwrap();
        let config =
            KafkaConfig { bootstrap_servers: vec![cluster.bootstrap_servers()], ..Default::default() };
        produce(&config, 200);
        let spans = [Span { partition: 0, from: 3, to: 40 }, Span { partition: 1, from: 5, to: 5 }];
        let mut reader = TopicReader::open(&config, "readings", &spans).unwrap();
        let mut offsets = Vec::new();
        loop {
            match reader.step().unwrap() {
                Step::Message(message) => {
                    assert_eq!(message.partition(), 0);
                    offsets.push(message.offset());
                }
                Step::Waiting => {}
                Step::End => break,
            }
        }
        assert_eq!(offsets, (3..40).collect::<Vec<_>>());
    }

    #[test]
    fn an_unavailable_broker_ends_the_wait() {
        let config = KafkaConfig {
            bootstrap_servers: vec!["127.0.0.1:1".into()],
            request_timeout: Duration::from_secs(1),
            ..Default::default()
        };
        let spans = [Span { partition: 0, from: 0, to: 1 }];
        let mut reader = TopicReader::open(&config, "readings", &spans).unwrap();
        let error = loop {
            match reader.step() {
                Ok(Step::Waiting) => {}
                Ok(_) => panic!("nobody can have sent this"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    }
}
