//! The bridge from an MQTT broker to Kafka (`iotctl bridge mqtt`).
//!
//! A message is acknowledged to the MQTT broker only after all in-sync replicas of Kafka have it, and in the order of
//! receipt. Until then the broker keeps it: in the session while the bridge is away, and in flight while it is connected.
//! So each message that the broker took with QoS 1 is in Kafka at least once; after a lost connection or a kill, some are
//! in Kafka twice, which store one row.
//!
//! - `connection` is one connection; `link` makes it again whenever it is lost. `window` keeps the order of
//!   acknowledgements.
//! - [`run`] takes messages from the link to Kafka and acknowledgements back. Messages too large for Kafka go to the
//!   dead-letter topic.
//! - Memory is bounded by mqtt.max_in_flight (of QoS 1) and mqtt.max_in_flight_bytes (of all). While Kafka is away nothing
//!   is acknowledged, so the broker stops sending; pings go on.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Publish;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::{info, warn};

use self::connection::{Event, Order, Received, Target, permits};
use self::window::Window;
use crate::config::{Config, MqttConfig};
use crate::kafka::dead_letters::{DeadLetter, DeadLetterProducer};
use crate::kafka::producer::{Delivery, Offer, headers, patient};
use crate::kafka::{self, Producer, TopicName, retention, topics};
use crate::metrics::Health;
use crate::retry::{RetryPolicy, Tolerance};
use crate::shutdown::Shutdown;
use crate::time;

mod connection;
mod error;
mod link;
mod metrics;
mod window;

pub use error::Error;
pub use metrics::BridgeMetrics;

/// The reason of dead letters.
const TOO_LARGE: &str = "too_large";
/// Events that wait between the connection and the bridge.
const EVENTS: usize = 256;
/// How often retries are made and the state is looked at.
const TICK: Duration = Duration::from_millis(100);
/// Before a message that Kafka did not take is sent again.
const AGAIN: Duration = Duration::from_secs(1);
/// After a change of certificates: how long messages in flight may hold up the new client of Kafka. They are sent again then.
const RENEW_WITHIN: Duration = Duration::from_secs(10);
/// A message that waits longer for Kafka makes the bridge not ready.
const STALLED: Duration = Duration::from_secs(5);
/// How long a report of health is valid.
const HEALTH_VALID: Duration = Duration::from_secs(30);
/// After the end: how long the last acknowledgements may take to be written.
const GOODBYE: Duration = Duration::from_secs(3);

/// How to run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Begin a new session: what the broker keeps in the old one is discarded.
    pub new_session: bool,
    /// Stop when no message has come for so long and all are acknowledged.
    pub until_idle: Option<Duration>,
}

/// Why a bridge ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Stopped,
    Idle,
}

/// The name of the session: as configured, or by the host and the Kafka topic.
pub fn client_id(config: &MqttConfig, topic: &str) -> String {
    config.client_id.clone().unwrap_or_else(|| {
        let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        format!("iotctl-{}-{topic}", host.unwrap_or_default())
    })
}

/// Runs until shutdown. What was received is stored and acknowledged within `ingest.drain_timeout` then.
///
/// # Errors
/// A server refuses what only an operator can change, or Kafka did not acknowledge all messages in time at the end.
pub async fn run(
    config: &Config,
    options: Options,
    metrics: BridgeMetrics,
    health: Health,
    shutdown: Shutdown,
) -> Result<Ending, Error> {
    config.mqtt.check()?;
    topics::partitions(&config.kafka, &config.kafka.topic).await?;
    let limit = async |topic: &str| {
        let kept = retention::retention(&config.kafka, topic).await;
        kept.ok().and_then(|kept| kept.max_message_bytes)
    };
    let kafka = patient(&config.kafka, limit(&config.kafka.topic).await);
    let dead_letters =
        DeadLetterProducer::new(&config.kafka, limit(&config.kafka.dead_letter_topic()).await)?;
    let (delivered, deliveries) = mpsc::unbounded_channel();
    let producer = Producer::new(&kafka, &config.kafka.topic, move |delivery| {
        let _ = delivered.send(delivery);
    })?;
    let target = Target::new(&config.mqtt, client_id(&config.mqtt, &config.kafka.topic))?;
    info!(broker = %target.address, client_id = target.client_id, "connecting");
    let budget = permits(usize::try_from(config.mqtt.max_in_flight_bytes.as_u64()).unwrap_or(usize::MAX));
    let budget = Arc::new(Semaphore::new(budget.min(Semaphore::MAX_PERMITS)));
    let (event, events) = mpsc::channel(EVENTS);
    let (orders, order) = mpsc::unbounded_channel();
    let link = link::keep(target, options.new_session, config.kafka.request_timeout, budget, event, order);
    let link = tokio::spawn(link);
    let bridge = Bridge {
        topic: TopicName::of(&config.kafka.topic),
        producer,
        dead_letters,
        metrics,
        orders,
        waiting: BTreeMap::new(),
        next: 0,
        window: Window::default(),
        connection: 0,
        lost: Some("connecting".to_owned()),
        again: VecDeque::new(),
        letters: FuturesUnordered::new(),
        tolerance: Tolerance::default(),
        failing_since: None,
        active: Instant::now(),
        failure: None,
    };
    let ended =
        bridge.run(events, deliveries, &options, config.ingest.drain_timeout, &health, &shutdown).await;
    health.end();
    let abort = link.abort_handle();
    if tokio::time::timeout(GOODBYE, link).await.is_err() {
        abort.abort();
    }
    ended
}

/// A message that Kafka has not acknowledged.
struct Waiting {
    publish: Publish,
    /// When it was received: in milliseconds since the epoch, and for measuring.
    at: i64,
    since: Instant,
    _permit: OwnedSemaphorePermit,
}

struct Bridge<F: Fn(Delivery) + Send + Sync + 'static> {
    topic: TopicName,
    producer: Producer<F>,
    dead_letters: DeadLetterProducer,
    metrics: BridgeMetrics,
    orders: mpsc::UnboundedSender<Order>,
    /// By a number that rises with each message.
    waiting: BTreeMap<usize, Waiting>,
    next: usize,
    window: Window,
    connection: u64,
    /// Why there are no subscriptions at the moment.
    lost: Option<String>,
    /// Messages to be offered to Kafka, each not before its time.
    again: VecDeque<(Instant, usize)>,
    letters: FuturesUnordered<BoxFuture<'static, (usize, Result<(), kafka::Error>)>>,
    tolerance: Tolerance,
    /// Since when Kafka has refused what only an operator can change.
    failing_since: Option<Instant>,
    /// When the last message or connection came.
    active: Instant,
    /// What ends the bridge.
    failure: Option<Error>,
}

impl<F: Fn(Delivery) + Send + Sync + 'static> Bridge<F> {
    async fn run(
        mut self,
        mut events: mpsc::Receiver<Event>,
        mut deliveries: mpsc::UnboundedReceiver<Delivery>,
        options: &Options,
        drain: Duration,
        health: &Health,
        shutdown: &Shutdown,
    ) -> Result<Ending, Error> {
        let mut ticks = tokio::time::interval(TICK);
        let mut ending = Ending::Stopped;
        let mut deadline: Option<Instant> = None;
        loop {
            tokio::select! {
                Some(delivery) = deliveries.recv() => {
                    self.delivered(delivery);
                    while let Ok(delivery) = deliveries.try_recv() {
                        self.delivered(delivery);
                    }
                }
                // Nothing more is taken while Kafka's queue is full or the bridge ends: the MQTT broker keeps it.
                Some(event) = events.recv(), if deadline.is_none() && self.again.is_empty() => self.take(event),
                Some((number, sent)) = self.letters.next(), if !self.letters.is_empty() => match sent {
                    Ok(()) => {
                        self.metrics.dead_letters.with_label_values(&[TOO_LARGE]).inc();
                        self.settle(number);
                    }
                    Err(error) => self.failure = Some(error.into()),
                },
                _ = ticks.tick() => {
                    self.producer.renew(RENEW_WITHIN);
                    self.offer_again();
                    self.report(health);
                    let is_idle = options.until_idle.is_some_and(|idle| self.is_idle_for(idle));
                    if is_idle && deadline.is_none() {
                        ending = Ending::Idle;
                        deadline = Some(Instant::now() + drain);
                    }
                }
                () = shutdown.requested(), if deadline.is_none() => deadline = Some(Instant::now() + drain),
            }
            let packets = self.window.acknowledge();
            if !packets.is_empty() {
                self.metrics.acknowledged.inc_by(packets.len() as u64);
                let _ = self.orders.send(Order::Acknowledge { connection: self.connection, packets });
            }
            self.metrics.in_flight.set(i64::try_from(self.waiting.len()).unwrap_or(i64::MAX));
            if self.failure.is_some() {
                deadline.get_or_insert_with(|| Instant::now() + drain);
            }
            let is_over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if deadline.is_some() && (self.waiting.is_empty() || is_over || self.producer.end().is_some()) {
                break;
            }
        }
        let _ = self.orders.send(Order::Disconnect);
        let count = self.waiting.len();
        match self.failure.or_else(|| self.producer.end().map(Error::from)) {
            Some(failure) => Err(failure),
            None if count > 0 => Err(Error::Undelivered { count, within: drain }),
            None => Ok(ending),
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Opened { connection } => {
                self.connection = connection;
                self.window.clear();
                self.metrics.connections.inc();
            }
            Event::Subscribed { has_session } => {
                info!(has_session, "subscribed");
                self.lost = None;
                self.active = Instant::now();
                self.metrics.connected.set(1);
            }
            Event::Message(received) => self.receive(received),
            Event::Lost { reason } => {
                // The first attempts end with an error if they fail.
                match self.connection {
                    0 => info!("{reason}; connecting again"),
                    _ => warn!("{reason}; connecting again"),
                }
                self.window.clear();
                self.metrics.connected.set(0);
                self.lost = Some(reason);
            }
            Event::Failed(error) => {
                self.metrics.connected.set(0);
                self.failure = Some(error);
            }
        }
    }

    fn receive(&mut self, received: Received) {
        let Received { connection, publish, permit } = received;
        let (number, at) = (self.next, time::now());
        self.next += 1;
        self.active = Instant::now();
        self.metrics.received.inc();
        self.metrics.received_bytes.inc_by(publish.payload.len() as u64);
        self.metrics.redelivered.inc_by(publish.dup.into());
        self.metrics.last_message.set(at / 1000);
        self.metrics.in_flight_bytes.add(size(&publish));
        if publish.qos != QoS::AtMostOnce && connection == self.connection {
            self.window.received(number, publish.pkid);
        }
        self.waiting.insert(number, Waiting { publish, at, since: Instant::now(), _permit: permit });
        self.offer(number);
    }

    /// Hands a message to Kafka's client.
    fn offer(&mut self, number: usize) {
        let Some(Waiting { publish, .. }) = self.waiting.get(&number) else { return };
        // An empty payload, by which MQTT deletes a retained message, is what Kafka calls a tombstone.
        let payload = Some(&publish.payload[..]).filter(|payload| !payload.is_empty());
        let headers = headers(about(publish));
        match self.producer.offer_whole(Some(&key(&publish.topic)), payload, Some(headers), None, number) {
            Ok(Offer::Accepted) => {}
            Ok(Offer::Full) => self.again.push_front((Instant::now(), number)),
            Err(error) if error.is_too_large() => self.bury(number),
            Err(error) => self.failure = Some(error.into()),
        }
    }

    fn offer_again(&mut self) {
        for _ in 0..self.again.len() {
            let Some((not_before, number)) = self.again.pop_front() else { return };
            if not_before > Instant::now() {
                self.again.push_back((not_before, number));
                continue;
            }
            self.offer(number);
            // Still full.
            if self.again.front().is_some_and(|(_, first)| *first == number) {
                return;
            }
        }
    }

    fn delivered(&mut self, delivery: Delivery) {
        let number = delivery.tag;
        if delivery.is_too_large() {
            return self.bury(number);
        }
        let Err(cause) = delivery.outcome else {
            self.tolerance.note_success();
            self.failing_since = None;
            self.metrics.stored.inc();
            return self.settle(number);
        };
        let error = self.producer.failure(cause);
        let now = Instant::now();
        if error.is_hopeless() {
            let since = *self.failing_since.get_or_insert(now);
            if self.tolerance.is_exhausted(since, now) {
                self.failure = Some(error.into());
                return;
            }
        }
        warn!("{error}; sending the message again");
        self.metrics.retries.inc();
        self.again.push_back((now + AGAIN, number));
    }

    /// The message is in Kafka or a dead letter.
    fn settle(&mut self, number: usize) {
        if let Some(Waiting { publish, .. }) = self.waiting.remove(&number) {
            self.metrics.in_flight_bytes.sub(size(&publish));
        }
        self.window.stored(number);
    }

    /// Sends a message that Kafka's topic cannot hold to the dead-letter topic.
    fn bury(&mut self, number: usize) {
        let Some(Waiting { publish, at, .. }) = self.waiting.get(&number) else { return };
        let error = format!(
            "{} bytes from the MQTT topic {:?} are more than the Kafka topic takes (raise its max.message.bytes)",
            publish.payload.len(),
            String::from_utf8_lossy(&publish.topic)
        );
        warn!("{error}; it goes to the dead-letter topic");
        let letter = DeadLetter {
            key: Some(key(&publish.topic).into_owned()),
            payload: publish.payload.to_vec(),
            headers: Some(headers(about(publish))),
            reason: TOO_LARGE,
            error,
            // It never was in the topic. The offset tells letters of the same millisecond apart.
            topic: self.topic,
            partition: -1,
            offset: -1 - i64::try_from(number).unwrap_or(i64::MAX - 1),
            timestamp: *at,
        };
        let sender = self.dead_letters.clone();
        let policy = RetryPolicy::WRITES.tolerating(self.tolerance.clone());
        self.letters.push(Box::pin(async move {
            let mut attempts = policy.attempts();
            loop {
                let Err(error) = sender.send(&letter).await else { return (number, Ok(())) };
                let Some(delay) = attempts.failed(!error.is_hopeless()) else { return (number, Err(error)) };
                warn!("{error}; sending the dead letter again");
                tokio::time::sleep(delay).await;
            }
        }));
    }

    fn is_idle_for(&self, idle: Duration) -> bool {
        self.lost.is_none() && self.waiting.is_empty() && self.active.elapsed() >= idle
    }

    fn report(&self, health: &Health) {
        let stalled = self.waiting.first_key_value().filter(|(_, oldest)| oldest.since.elapsed() > STALLED);
        let not_ready = match (&self.lost, stalled) {
            (Some(reason), _) => Some(format!("no connection to the MQTT broker: {reason}")),
            (None, Some(_)) => {
                let reason = self.producer.complaint().map(|reason| format!(": {reason}"));
                Some(format!("Kafka does not acknowledge messages{}", reason.unwrap_or_default()))
            }
            (None, None) => None,
        };
        health.report(not_ready, None, HEALTH_VALID);
    }
}

/// The key of a message in Kafka: its MQTT topic. Of Sparkplug B, `spBv1.0/GROUP/EDGE_NODE`, so that the births and the data of
/// an edge node and its devices stay in order, in one partition.
fn key(topic: &[u8]) -> Cow<'_, [u8]> {
    const TYPES: [&[u8]; 8] =
        [b"NBIRTH", b"NDATA", b"NDEATH", b"NCMD", b"DBIRTH", b"DDATA", b"DDEATH", b"DCMD"];
    let parts: Vec<&[u8]> = topic.splitn(5, |byte| *byte == b'/').collect();
    match parts[..] {
        [b"spBv1.0", group, kind, node, ..] if TYPES.contains(&kind) => {
            Cow::Owned([b"spBv1.0", group, node].join(&b'/'))
        }
        _ => Cow::Borrowed(topic),
    }
}

/// The headers of a message in Kafka.
fn about(publish: &Publish) -> impl Iterator<Item = (&str, &[u8])> {
    let qos: &[u8] = if publish.qos == QoS::AtMostOnce { b"0" } else { b"1" };
    let retain = publish.retain.then_some(("mqtt.retain", &b"true"[..]));
    [("mqtt.topic", &publish.topic[..]), ("mqtt.qos", qos)].into_iter().chain(retain)
}

/// Bytes of a message.
fn size(publish: &Publish) -> i64 {
    i64::try_from(publish.topic.len() + publish.payload.len()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::key;

    #[test]
    fn births_and_data_of_an_edge_node_have_one_key() {
        for kind in ["NBIRTH/edge", "NDATA/edge", "DBIRTH/edge/pump", "DDATA/edge/pump/x", "NDEATH/edge"] {
            let topic = format!("spBv1.0/plant/{kind}");
            assert_eq!(&*key(topic.as_bytes()), b"spBv1.0/plant/edge", "{topic}");
        }
        for other in
            ["", "zigbee2mqtt/th-1", "spBv1.0/STATE/host", "spBv1.0/plant/NDATA", "spBv1.0/plant/x/edge"]
        {
            assert_eq!(&*key(other.as_bytes()), other.as_bytes());
        }
    }
}
