//! Sending with acknowledgement: idempotent, acks=all, a bounded queue. An accepted message ends in exactly one
//! [`Delivery`], passed to a callback on the producer's own thread; a full queue is reported, and nothing is dropped.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer};

use super::client::{Complaint, client_config, set_default, trace};
use super::renewed::{InFlight, Renewed};
use super::{Error, is_too_large, renewal};
use crate::config::KafkaConfig;

/// How long the library retries a message before it reports it as failed.
pub const DELIVERY_TIMEOUT: Duration = Duration::from_secs(120);

/// Where the broker put a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Position {
    pub partition: i32,
    pub offset: i64,
}

/// "partition:offset".
impl std::fmt::Display for Position {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}:{}", self.partition, self.offset)
    }
}

impl std::str::FromStr for Position {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (partition, offset) = text.split_once(':')?;
            Some(Self { partition: partition.parse().ok()?, offset: offset.parse().ok()? })
        };
        let position: Option<Self> = parse();
        position
            .filter(|position| position.partition >= 0 && position.offset >= 0)
            .ok_or("write PARTITION:OFFSET, such as 0:12")
    }
}

/// The end of one message: acknowledged by all in-sync replicas, or failed for good.
#[derive(Debug)]
pub struct Delivery {
    /// The number given to [`Producer::offer`].
    pub tag: usize,
    pub outcome: Result<Position, KafkaError>,
}

/// The result of offering a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    Accepted,
    /// The queue is full: offer it again after a moment.
    Full,
}

/// Headers of a message, by name and value.
pub fn headers<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> OwnedHeaders {
    pairs
        .into_iter()
        .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }))
}

/// Settings for a producer that keeps trying without end, and hands messages over up to `limit`, the topic's
/// max.message.bytes if it is known. `kafka.properties` goes first.
pub fn patient(config: &KafkaConfig, limit: Option<u64>) -> KafkaConfig {
    const MOST_BYTES: u64 = 100_000_000;
    let mut config = config.clone();
    let limit = limit.unwrap_or(MOST_BYTES).clamp(1_000, MOST_BYTES);
    for (key, value) in [("message.timeout.ms", "0".to_owned()), ("message.max.bytes", limit.to_string())] {
        config.properties.entry(key.to_owned()).or_insert(value);
    }
    config
}

/// The properties of every producer: tuning that `kafka.properties` may change, then the guarantees that it may not.
pub fn producer_config(config: &KafkaConfig) -> ClientConfig {
    let mut client = client_config(config);
    let tuning = [
        ("linger.ms", "5"),
        // JSON of a fleet shrinks to a fifth: less network, broker disk and page cache, at no measured cost in throughput
        // on one local broker.
        ("compression.type", "lz4"),
        ("batch.size", "1000000"),
        ("queue.buffering.max.messages", "200000"),
        ("queue.buffering.max.kbytes", "49152"),
        // The Java clients' partitioner: a sensor's readings share a partition, whichever client sends them.
        ("partitioner", "murmur2_random"),
    ];
    for (key, value) in tuning {
        set_default(&mut client, config, key, value);
    }
    set_default(&mut client, config, "message.timeout.ms", &DELIVERY_TIMEOUT.as_millis().to_string());
    client.set("enable.idempotence", "true").set("acks", "all");
    client
}

/// A producer for one topic. After a change of certificates it takes no messages until those before are delivered, and goes on with
/// a new client.
pub struct Producer<F: Fn(Delivery) + Send + Sync + 'static> {
    inner: Renewed<ThreadedProducer<Acknowledging<F>>>,
    topic: String,
    complaint: Complaint,
}

impl<F: Fn(Delivery) + Send + Sync + 'static> Producer<F> {
    /// `on_delivery` runs on the producer's thread for each accepted message and must be quick. Connects in the
    /// background: call [`super::topics::partitions`] first to find out whether a broker answers.
    pub fn new(config: &KafkaConfig, topic: &str, on_delivery: F) -> Result<Self, Error> {
        let complaint = Complaint::default();
        let context = Acknowledging { on_delivery: Arc::new(on_delivery), complaint: complaint.clone() };
        let config = config.clone();
        let inner =
            Renewed::new(move || renewal::create(&config, &producer_config(&config), context.clone()))?;
        Ok(Self { inner, topic: topic.to_owned(), complaint })
    }

    /// Queues a message, copying it. `tag` comes back with its [`Delivery`].
    pub fn offer(&self, key: &[u8], payload: &[u8], tag: usize) -> Result<Offer, Error> {
        self.offer_whole(Some(key), Some(payload), None, None, tag)
    }

    /// As [`Producer::offer`], with headers, a timestamp of its own (milliseconds since the epoch), and null where there is no
    /// key or payload.
    pub fn offer_whole(
        &self,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
        headers: Option<OwnedHeaders>,
        timestamp: Option<i64>,
        tag: usize,
    ) -> Result<Offer, Error> {
        self.offer_to(&self.topic, key, payload, headers, timestamp, tag)
    }

    /// As [`Producer::offer_whole`], to another topic than the producer's.
    pub fn offer_to(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
        headers: Option<OwnedHeaders>,
        timestamp: Option<i64>,
        tag: usize,
    ) -> Result<Offer, Error> {
        let mut record = BaseRecord::<[u8], [u8], usize>::with_opaque_to(topic, tag);
        (record.key, record.payload, record.headers) = (key, payload, headers);
        record.timestamp = timestamp;
        if self.inner.renew(None).is_some() {
            return Ok(Offer::Full);
        }
        match self.inner.with(|client| client.send(record).map_err(|(error, _)| error)) {
            Ok(()) => Ok(Offer::Accepted),
            Err(KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) => Ok(Offer::Full),
            Err(source) => Err(self.end().unwrap_or_else(|| Error::client(self.sending(), source))),
        }
    }

    /// Why this producer accepts and delivers nothing any more, if so: an idempotent producer ends at the first refusal,
    /// and what is queued behind it fails without a reason of its own.
    pub fn end(&self) -> Option<Error> {
        let (code, _) = self.inner.with(|client| client.client().fatal_error())?;
        Some(Error::client(self.sending(), KafkaError::MessageProduction(code)))
    }

    /// What a failed delivery means.
    pub fn failure(&self, cause: KafkaError) -> Error {
        self.end().unwrap_or_else(|| Error::client(self.sending(), cause))
    }

    fn sending(&self) -> String {
        format!("write to the topic {:?}", self.topic)
    }

    /// Messages accepted whose delivery has not been reported yet.
    pub fn in_flight(&self) -> usize {
        usize::try_from(self.inner.with(InFlight::in_flight)).unwrap_or(0)
    }

    /// Waits until every accepted message has been delivered or has failed. `false` when `deadline` came first.
    pub fn flush(&self, deadline: Duration) -> bool {
        self.inner.with(|client| client.flush(deadline)).is_ok()
    }

    /// Gives up what is queued or in flight: each such message is reported as failed.
    pub fn abandon(&self) {
        self.inner.with(|client| {
            client.purge(PurgeConfig::default().queue().inflight());
            client.flush(Duration::from_secs(1)).ok();
        });
    }

    /// For those who send again what has failed, and call this now and then: takes up a change of certificates. What is not delivered
    /// `within` after it is reported as failed, so that messages which nobody accepts by the old certificates hold nothing up.
    pub fn renew(&self, within: Duration) {
        let waited = self.inner.renew(None);
        if waited.is_some_and(|waited| waited >= within) {
            self.inner.with(|client| client.purge(PurgeConfig::default().queue().inflight()));
        }
    }

    /// The last error of the connection, to explain a wait.
    pub fn complaint(&self) -> Option<String> {
        self.complaint.last()
    }
}

/// Turns librdkafka's delivery reports into calls of `on_delivery`.
struct Acknowledging<F> {
    on_delivery: Arc<F>,
    complaint: Complaint,
}

impl<F> Clone for Acknowledging<F> {
    fn clone(&self) -> Self {
        Self { on_delivery: self.on_delivery.clone(), complaint: self.complaint.clone() }
    }
}

impl<F: Fn(Delivery) + Send + Sync> ClientContext for Acknowledging<F> {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        trace(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", "{error}: {reason}");
        self.complaint.note(&error, reason);
    }
}

impl Delivery {
    /// Whether the message is larger than its topic allows.
    pub fn is_too_large(&self) -> bool {
        matches!(&self.outcome, Err(cause) if is_too_large(cause))
    }
}

impl<F: Fn(Delivery) + Send + Sync> ProducerContext for Acknowledging<F> {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, tag: usize) {
        let outcome = match result {
            Ok(message) => Ok(Position { partition: message.partition(), offset: message.offset() }),
            Err((error, _)) => Err(error.clone()),
        };
        (self.on_delivery)(Delivery { tag, outcome });
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::DefaultProducerContext;

    use super::*;

    #[test]
    fn properties_tune_the_producer_but_cannot_weaken_its_guarantee() {
        let mut config = KafkaConfig::default();
        for (key, value) in [("linger.ms", "100"), ("acks", "0"), ("enable.idempotence", "false")] {
            config.properties.insert(key.into(), value.into());
        }
        let client = producer_config(&config);
        assert_eq!(client.get("linger.ms"), Some("100"));
        assert_eq!(client.get("acks"), Some("all"));
        assert_eq!(client.get("enable.idempotence"), Some("true"));
    }

    #[test]
    fn librdkafka_accepts_every_property_we_set() {
        assert!(Producer::new(&KafkaConfig::default(), "readings", |_| ()).is_ok());
    }

    /// A cluster in this process that has the topic.
    fn with_readings() -> (MockCluster<'static, DefaultProducerContext>, KafkaConfig) {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("readings", 1, 1).unwrap();
        let config =
            KafkaConfig { bootstrap_servers: vec![cluster.bootstrap_servers()], ..Default::default() };
        (cluster, config)
    }

    #[test]
    fn every_accepted_message_comes_back_with_its_tag_and_position() {
        let (_cluster, config) = with_readings();
        let (sender, deliveries) = std::sync::mpsc::channel();
        let producer = Producer::new(&config, "readings", move |delivery| {
            sender.send((delivery.tag, delivery.outcome.unwrap().offset)).unwrap();
        })
        .unwrap();
        for tag in 0..100 {
            assert_eq!(producer.offer(b"sensor", b"{}", tag).unwrap(), Offer::Accepted);
        }
        assert!(producer.flush(Duration::from_secs(20)));
        assert_eq!(producer.in_flight(), 0);
        let delivered: Vec<_> = deliveries.try_iter().collect();
        assert_eq!(delivered, (0..100).map(|n| (n as usize, n)).collect::<Vec<_>>());
    }

    #[test]
    fn messages_keep_their_order_when_the_client_is_made_anew() {
        let (_cluster, config) = with_readings();
        let (sender, deliveries) = std::sync::mpsc::channel();
        let producer = Producer::new(&config, "readings", move |delivery| {
            sender.send((delivery.outcome.unwrap().offset, delivery.tag)).unwrap();
        })
        .unwrap();
        let client = |producer: &Producer<_>| Arc::as_ptr(&producer.inner.current()).addr();
        let first = client(&producer);
        for tag in 0..300 {
            if tag % 100 == 50 {
                renewal::note_change();
            }
            while producer.offer(b"sensor", b"{}", tag).unwrap() == Offer::Full {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        assert!(producer.flush(Duration::from_secs(20)));
        let mut delivered: Vec<_> = deliveries.try_iter().collect();
        delivered.sort_unstable();
        assert_eq!(delivered, (0..300).map(|n| (n, n as usize)).collect::<Vec<_>>());
        assert_ne!(client(&producer), first);
    }

    #[test]
    fn what_nobody_accepts_does_not_hold_up_new_certificates() {
        let config = KafkaConfig { bootstrap_servers: vec!["127.0.0.1:1".into()], ..Default::default() };
        let (sender, deliveries) = std::sync::mpsc::channel();
        let producer = Producer::new(&config, "readings", move |delivery| {
            sender.send((delivery.tag, delivery.outcome.is_ok())).unwrap();
        })
        .unwrap();
        assert_eq!(producer.offer(b"sensor", b"{}", 7).unwrap(), Offer::Accepted);
        renewal::note_change();
        assert_eq!(producer.offer(b"sensor", b"{}", 8).unwrap(), Offer::Full);
        producer.renew(Duration::ZERO);
        assert_eq!(deliveries.recv_timeout(Duration::from_secs(20)).unwrap(), (7, false));
        while producer.offer(b"sensor", b"{}", 8).unwrap() == Offer::Full {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
