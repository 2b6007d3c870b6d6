//! The consumer of `ingest`: a member of the consumer group that commits only the offsets that it is given.
//!
//! Polling, committing and the reports of rebalances all happen on the caller's one thread. A revoked partition is
//! reported while it is still ours, so that its work can be finished and committed.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message as _, TopicPartitionList};

use super::client::{client_config, set_default};
use super::live::Live;
use super::message::Message;
use super::overview::ConsumerGroup;
use super::{Error, TopicName, TopicPartition, is_denial, is_refusal, refusal, renewal};
use crate::config::KafkaConfig;
use crate::retry::Tolerance;

mod context;
mod offsets;

use context::Context;
pub use context::{Change, CommitResults};
pub(super) use offsets::group_offset;
pub use offsets::{GroupOffset, GroupOffsets};

/// How long a request for offsets may hold up polling: it is repeated, and only a poll reports that the consumer group is
/// denied.
const OFFSETS_DEADLINE: Duration = Duration::from_secs(2);

/// The library retries within seconds and reports the same refusal every 30 seconds; a longer silence means that the
/// login was accepted.
const REFUSAL_GAP: Duration = Duration::from_secs(45);

/// How long closing may take; the members of the group notice a member that does not leave after session.timeout.ms.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);

const STRATEGY: &str = "partition.assignment.strategy";
const ASSIGNOR: &str = "cooperative-sticky";

/// The assignors of this program, separated by commas.
pub(super) fn assignors(config: &KafkaConfig) -> String {
    config.properties.get(STRATEGY).cloned().unwrap_or_else(|| ASSIGNOR.to_owned())
}

/// What a poll returned.
pub enum Event<'a> {
    Message(Message<'a>),
    /// Everything that this partition held has been delivered. With several topics, [`Consumer::take_ends`] says it.
    EndOfPartition(TopicPartition),
}

/// A subscribed member of the consumer group.
pub struct Consumer {
    /// `None` only while it is dropped.
    inner: Option<Live<BaseConsumer<Context>>>,
    config: KafkaConfig,
    /// For messages: the one topic, or the topic of the last message.
    topic: Cell<TopicName>,
    is_single: bool,
    refusals: RefCell<Refusals>,
}

/// Refused logins: none is tolerated before anything was read, and later they are for a while.
#[derive(Debug, Default)]
struct Refusals {
    tolerance: Tolerance,
    /// When the present series of them began, and its last.
    series: Option<(Instant, Instant)>,
}

impl Refusals {
    fn note_success(&mut self) {
        self.tolerance.note_success();
        self.series = None;
    }

    /// Notes one more. Returns whether it is tolerated.
    fn note(&mut self, now: Instant) -> bool {
        let since = match self.series {
            Some((since, last)) if now.duration_since(last) < REFUSAL_GAP => since,
            _ => now,
        };
        self.series = Some((since, now));
        !self.tolerance.is_exhausted(since, now)
    }
}

/// The properties of the consumer: tuning that `kafka.properties` may change, then the guarantees that it may not.
fn consumer_config(config: &KafkaConfig) -> ClientConfig {
    let mut client = client_config(config);
    let tuning = [
        ("auto.offset.reset", "earliest"),
        // Only the partitions that move stop while the group rebalances.
        (STRATEGY, ASSIGNOR),
        ("session.timeout.ms", "10000"),
        ("heartbeat.interval.ms", "2000"),
        // Messages fetched ahead are memory: these two bound it.
        ("queued.max.messages.kbytes", "16384"),
        ("fetch.max.bytes", "8388608"),
        ("fetch.wait.max.ms", "100"),
        ("statistics.interval.ms", "1000"),
    ];
    for (key, value) in tuning {
        set_default(&mut client, config, key, value);
    }
    client
        .set("group.id", &config.group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true");
    client
}

impl Consumer {
    /// Joins the consumer group, to read `topics`. `is_single` where no other topic is ever read. `on_change` runs inside
    /// [`Consumer::poll`].
    pub fn subscribe(
        config: &KafkaConfig,
        topics: &[String],
        is_single: bool,
        on_change: impl Fn(Change, &GroupOffsets<'_>) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let timeout = config.request_timeout.min(OFFSETS_DEADLINE);
        let context = Context::new(is_single, timeout, Box::new(on_change));
        let inner = renewal::create(config, &consumer_config(config), context)?;
        let consumer = Self {
            inner: Some(inner),
            config: config.clone(),
            topic: Cell::new(TopicName::of(topics.first().unwrap_or(&config.topic))),
            is_single,
            refusals: RefCell::default(),
        };
        consumer.resubscribe(topics)?;
        Ok(consumer)
    }

    /// Reads these topics from now on. Partitions that stay are not read again.
    pub fn resubscribe(&self, topics: &[String]) -> Result<(), Error> {
        // The library refuses an empty list; there is nothing to read before the first topic that fits a pattern.
        if topics.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        self.inner()
            .subscribe(&names)
            .map_err(|source| Error::client(format!("subscribe to the topics {}", topics.join(", ")), source))
    }

    /// Waits up to `timeout` for a message. Transient errors are logged and give `None`.
    pub fn poll(&self, timeout: Duration) -> Result<Option<Event<'_>>, Error> {
        match self.inner().poll(timeout) {
            None => Ok(None),
            Some(Ok(message)) => {
                self.note_success();
                let topic = self.topic_of(&message);
                Ok(Some(Event::Message(Message::new(message, topic))))
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                self.note_success();
                // The event does not say of which topic.
                let topic = self.topic.get();
                Ok(self.is_single.then_some(Event::EndOfPartition(TopicPartition { topic, partition })))
            }
            Some(Err(source)) if is_login(&source) && self.refusals.borrow_mut().note(Instant::now()) => {
                tracing::warn!(error = %self.unreadable(source), "cannot read from Kafka, retrying");
                Ok(None)
            }
            Some(Err(source)) if is_group_in_use(&source) => Err(self.group_in_use()),
            Some(Err(source)) if is_fatal(&source) => Err(self.unreadable(source)),
            Some(Err(error)) => {
                tracing::warn!(%error, "cannot read from Kafka, retrying");
                Ok(None)
            }
        }
    }

    fn topic_of(&self, message: &BorrowedMessage<'_>) -> TopicName {
        let last = self.topic.get();
        if self.is_single || last.as_str() == message.topic() {
            return last;
        }
        let topic = TopicName::of(message.topic());
        self.topic.set(topic);
        topic
    }

    fn note_success(&self) {
        self.refusals.borrow_mut().note_success();
        // Only members of the group are assigned partitions.
        self.inner().context().note_member();
    }

    /// Stops fetching, and stays a member of the consumer group as long as [`Consumer::poll`] is called.
    pub fn pause(&self) -> Result<(), Error> {
        let assignment = self.assignment()?;
        self.inner().pause(&assignment).map_err(|source| Error::client("pause reading", source))
    }

    /// Continues fetching where it stopped.
    pub fn resume(&self) -> Result<(), Error> {
        let assignment = self.assignment()?;
        self.inner().resume(&assignment).map_err(|source| Error::client("resume reading", source))
    }

    /// Stops fetching some partitions, until they or all are resumed.
    pub fn pause_partitions(&self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.inner()
            .pause(&listed(partitions))
            .map_err(|source| Error::client("pause reading partitions", source))
    }

    /// Continues fetching some partitions where it stopped.
    pub fn resume_partitions(&self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.inner()
            .resume(&listed(partitions))
            .map_err(|source| Error::client("resume reading partitions", source))
    }

    /// The offset after the last message of each assigned partition, as of the last second.
    pub fn end_offsets(&self) -> HashMap<TopicPartition, i64> {
        self.inner().context().ends()
    }

    /// With several topics: the partitions of which everything before an offset has been delivered, as of the last second.
    pub fn take_ends(&self) -> Vec<(TopicPartition, i64)> {
        self.inner().context().take_reached()
    }

    /// The offsets of the consumer group.
    pub fn offsets(&self) -> GroupOffsets<'_> {
        self.inner().context().offsets(self.inner())
    }

    /// Whether the consumer has joined its consumer group, with or without partitions, and the coordinator is reachable.
    pub fn is_member(&self) -> bool {
        self.inner().context().is_member()
    }

    /// Results of the commits that were answered since the last call.
    pub fn take_commit_results(&self) -> CommitResults {
        self.inner().context().take_commit_results()
    }

    /// The last error of the connection, to explain a wait.
    pub fn complaint(&self) -> Option<String> {
        self.inner().context().complaint().last()
    }

    fn inner(&self) -> &BaseConsumer<Context> {
        self.inner.as_ref().expect("it is taken out by drop alone")
    }

    fn assignment(&self) -> Result<TopicPartitionList, Error> {
        self.inner().assignment().map_err(|source| Error::client("read the assignment", source))
    }

    /// Why the topic cannot be read.
    fn unreadable(&self, source: KafkaError) -> Error {
        let (topic, group) = (self.topic.get(), &self.config.group);
        match source.rdkafka_error_code() {
            Some(RDKafkaErrorCode::GroupAuthorizationFailed) => {
                Error::client(format!("read the topic {topic:?} as the consumer group {group:?}"), source)
            }
            // The library's report says more than its error code.
            Some(code) if !is_denial(code) => match self.inner().context().complaint().refusal() {
                Some(reported) => refusal::error(&self.config, &reported),
                None => Error::client(format!("read the topic {topic:?}"), source),
            },
            _ => Error::client(format!("read the topic {topic:?}"), source),
        }
    }
}

impl Consumer {
    /// Who uses the consumer group, as far as that can be found out now.
    fn group_in_use(&self) -> Error {
        let KafkaConfig { group, .. } = &self.config;
        let listed = self.inner().client().fetch_group_list(Some(group), OFFSETS_DEADLINE);
        let found = listed.ok().and_then(|list| list.groups().first().map(ConsumerGroup::of));
        found.and_then(|found| found.refusal(&self.config)).unwrap_or_else(|| Error::ConsumerGroupInUse {
            group: group.clone(),
            clients: "another program".into(),
            assignor: "(not known)".into(),
            own: assignors(&self.config),
        })
    }
}

impl Drop for Consumer {
    /// Leaves the consumer group, unless its coordinator does not answer: librdkafka 2.12.1 then crashes, by a null pointer in
    /// the handler of LeaveGroup (fixed in 2.14.2, which no rdkafka-sys brings yet), and would wait for the coordinator without
    /// end. So the client is leaked in that case; the process is about to end, and the others take over its partitions after
    /// session.timeout.ms.
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else { return };
        let mut any = TopicPartitionList::new();
        any.add_partition(self.topic.get().as_str(), 0);
        let answers = inner.committed_offsets(any, inner.context().timeout()).is_ok();
        if !answers {
            tracing::warn!(
                "the coordinator of the consumer group does not answer: leaving it by its session timeout"
            );
            std::mem::forget(inner);
            return;
        }
        let (sender, closed) = std::sync::mpsc::channel();
        let closing = std::thread::Builder::new().name("kafka-close".into()).spawn(move || {
            drop(inner);
            let _ = sender.send(());
        });
        if closing.is_ok() && closed.recv_timeout(CLOSE_DEADLINE).is_err() {
            tracing::warn!("leaving the consumer group takes too long: leaving it by its session timeout");
        }
    }
}

fn listed(partitions: &[TopicPartition]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for TopicPartition { topic, partition } in partitions {
        list.add_partition(topic.as_str(), *partition);
    }
    list
}

/// The members of the group share partitions in a way that this program does not speak.
fn is_group_in_use(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::InconsistentGroupProtocol)
}

/// A login or a handshake that was refused, rather than a permission.
fn is_login(error: &KafkaError) -> bool {
    is_refusal(error) && !error.rdkafka_error_code().is_some_and(is_denial)
}

fn is_fatal(error: &KafkaError) -> bool {
    is_refusal(error) || error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_tune_the_consumer_but_cannot_weaken_its_guarantee() {
        let mut config = KafkaConfig::default();
        for (key, value) in
            [("fetch.max.bytes", "1000000"), ("enable.auto.commit", "true"), ("group.id", "other")]
        {
            config.properties.insert(key.into(), value.into());
        }
        let client = consumer_config(&config);
        assert_eq!(client.get("fetch.max.bytes"), Some("1000000"));
        assert_eq!(client.get("enable.auto.commit"), Some("false"));
        assert_eq!(client.get("group.id"), Some(config.group.as_str()));
    }

    #[test]
    fn refused_logins_are_tolerated_for_a_while_once_something_was_read() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(!Refusals::default().note(start), "a wrong password is reported at the start");
        let after_success = || {
            let mut refusals = Refusals::default();
            refusals.note_success();
            refusals
        };
        let mut refusals = after_success();
        assert!(refusals.note(start) && refusals.note(after(30)) && refusals.note(after(59)));
        assert!(!refusals.note(after(61)));
        // Accepted in between, even if there was nothing to read.
        let mut refusals = after_success();
        assert!(refusals.note(start) && refusals.note(after(50)) && refusals.note(after(80)));
    }

    /// librdkafka 2.12.1 ends the whole process here when it leaves the group by itself.
    #[test]
    fn closing_while_the_coordinator_is_away_neither_crashes_nor_hangs() {
        let cluster = rdkafka::mocking::MockCluster::new(1).unwrap();
        cluster.create_topic("readings", 2, 1).unwrap();
        let config = KafkaConfig {
            bootstrap_servers: vec![cluster.bootstrap_servers()],
            topic: "readings".into(),
            ..Default::default()
        };
        let topics = [config.topic.clone()];
        let consumer = Consumer::subscribe(&config, &topics, true, |_, _| ()).unwrap();
        let started = Instant::now();
        while !matches!(consumer.poll(Duration::from_millis(100)), Ok(Some(Event::EndOfPartition(_)))) {
            assert!(started.elapsed() < Duration::from_secs(60), "it was assigned nothing");
        }
        cluster.broker_down(1).unwrap();
        let lost = Instant::now();
        while lost.elapsed() < Duration::from_secs(2) {
            let _ = consumer.poll(Duration::from_millis(100));
        }
        let closing = Instant::now();
        drop(consumer);
        // The log and the queues of a leaked client go on.
        std::thread::sleep(Duration::from_secs(1));
        assert!(closing.elapsed() < OFFSETS_DEADLINE + CLOSE_DEADLINE + Duration::from_secs(2));
    }

    #[test]
    fn librdkafka_accepts_every_property_we_set() {
        assert!(
            Consumer::subscribe(&KafkaConfig::default(), &["readings".to_owned()], true, |_, _| ()).is_ok()
        );
    }
}
