//! Topics: create, describe, and where they end. Every call has the deadline of `kafka.request_timeout`; the
//! blocking ones run on the runtime's blocking threads, so that a silent broker stalls nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::producer::{BaseProducer, Producer};

use super::client::{Complaint, Reporting, client_config};
use super::live::Live;
use super::retention::retention;
use super::{Error, RETRY, is_denial, is_moving, is_refusal, is_unreachable, refusal, renewal};
use crate::config::KafkaConfig;

/// Twice the brokers' default for messages.
const LEAST_DEAD_LETTER_BYTES: u64 = 2 * 1024 * 1024;
/// What a dead letter may add to its message: its own headers, and a batch's overhead.
const DEAD_LETTER_OVERHEAD: u64 = 64 * 1024;

/// How often the client of a request is polled for its events.
const EVENT_INTERVAL: Duration = Duration::from_millis(50);
/// A broker that has not answered by then is probed, and again after each interval.
const PROBE_AFTER: Duration = Duration::from_millis(700);
const PROBE_INTERVAL: Duration = Duration::from_secs(3);

/// What [`ensure`] found or did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ensured {
    Created,
    /// It exists with this number of partitions, and is left as it is.
    Exists {
        partitions: i32,
    },
}

/// A topic as the cluster describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    pub partitions: i32,
    /// Number of replicas of the partition that has the fewest.
    pub replicas: i32,
    /// Partitions without a leader: nothing can be written to or read from them.
    pub leaderless: Vec<i32>,
}

/// Creates `topic` unless it exists. With three replicas or more, two must have a message before it is acknowledged.
pub async fn ensure(
    config: &KafkaConfig,
    topic: &str,
    partitions: i32,
    replication: i32,
) -> Result<Ensured, Error> {
    // Describing it first also gives an unreachable broker its own error, with the reason that the admin client drops.
    match describe(config, topic).await {
        Ok(Description { partitions, .. }) => return Ok(Ensured::Exists { partitions }),
        Err(Error::MissingTopic { .. }) => {}
        Err(error) => return Err(error),
    }
    let action = || format!("create the topic {topic:?}");
    let admin: Live<AdminClient<Reporting>> =
        renewal::create_brief(config, &client_config(config), Reporting::default())?;
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(replication));
    if replication >= 3 {
        // With 1, the default, a message that one broker has is acknowledged, and lost with that broker's disk.
        new = new.set("min.insync.replicas", "2");
    }
    let limit;
    if topic == config.dead_letter_topic() {
        limit = dead_letter_limit(config).await?.to_string();
        new = new.set("max.message.bytes", &limit);
    }
    let timeout = config.request_timeout;
    let options = AdminOptions::new().request_timeout(Some(timeout)).operation_timeout(Some(timeout));
    // The library has its own deadline; this one holds if the library's does not.
    let created =
        tokio::time::timeout(timeout + Duration::from_secs(5), admin.create_topics([&new], &options)).await;
    let results = match created {
        Err(_) => return Err(unreachable(config, None)),
        Ok(Err(error)) if is_unreachable(&error) => return Err(unreachable(config, None)),
        Ok(Err(source)) => return Err(Error::client(action(), source)),
        Ok(Ok(results)) => results,
    };
    match results.into_iter().next() {
        Some(Ok(_)) => {
            wait_until_led(config, topic).await?;
            Ok(Ensured::Created)
        }
        // Another client created it in between.
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => {
            let partitions = describe(config, topic).await?.partitions;
            Ok(Ensured::Exists { partitions })
        }
        Some(Err((_, code))) if is_denial(code) => Err(Error::denied(action(), code)),
        Some(Err((_, code))) => {
            Err(Error::Rejected { action: action(), reason: rejection(code, replication) })
        }
        None => Err(Error::Rejected { action: action(), reason: "the broker gave no answer for it".into() }),
    }
}

/// The `max.message.bytes` that a dead-letter topic needs: a dead letter is its message and some headers, and what just
/// fits the source topic must fit this one.
pub fn dead_letter_limit_for(source: u64) -> u64 {
    (source + DEAD_LETTER_OVERHEAD).max(LEAST_DEAD_LETTER_BYTES)
}

async fn dead_letter_limit(config: &KafkaConfig) -> Result<u64, Error> {
    let source = match describe(config, &config.topic).await {
        Ok(_) => retention(config, &config.topic).await?.max_message_bytes,
        Err(Error::MissingTopic { .. }) => None,
        Err(error) => return Err(error),
    };
    Ok(dead_letter_limit_for(source.unwrap_or(0)))
}

/// A new topic exists before its partitions have leaders, and the caller wants to use it.
async fn wait_until_led(config: &KafkaConfig, topic: &str) -> Result<(), Error> {
    let deadline = Instant::now() + config.request_timeout;
    loop {
        match describe(config, topic).await {
            Ok(description) if description.leaderless.is_empty() => return Ok(()),
            Ok(_) | Err(Error::MissingTopic { .. }) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok(description) => {
                let reason = format!("partitions {:?} have no leader yet", description.leaderless);
                return Err(Error::Rejected { action: format!("use the new topic {topic:?}"), reason });
            }
            Err(error) => return Err(error),
        }
    }
}

fn rejection(code: RDKafkaErrorCode, replication: i32) -> String {
    match code {
        RDKafkaErrorCode::InvalidReplicationFactor => {
            format!(
                "{replication} replicas need as many brokers (set kafka.replication_factor = 1 for one broker)"
            )
        }
        RDKafkaErrorCode::InvalidPartitions => {
            "the number of partitions is refused (set kafka.partitions)".into()
        }
        RDKafkaErrorCode::InvalidTopic => {
            "the name is refused (letters, digits, '.', '_' and '-', at most 249; set kafka.topic)".into()
        }
        code => code.to_string(),
    }
}

/// Partitions and replicas of `topic`; [`Error::MissingTopic`] if it does not exist.
pub async fn describe(config: &KafkaConfig, topic: &str) -> Result<Description, Error> {
    let topic = topic.to_owned();
    ask(config, move |probe| probe.describe(&topic)).await
}

/// The names of all topics that this user may see.
pub async fn names(config: &KafkaConfig) -> Result<Vec<String>, Error> {
    ask(config, |probe| {
        let metadata = probe.metadata(None, "list the topics")?;
        let topics = metadata.topics().iter().filter(|topic| !topic.partitions().is_empty());
        Ok(topics.map(|topic| topic.name().to_owned()).collect())
    })
    .await
}

/// The number of registered brokers. A broker that has just started may answer before it is registered.
pub async fn brokers(config: &KafkaConfig) -> Result<usize, Error> {
    ask(config, Probe::brokers).await
}

/// Which of these addresses answer; each is asked apart, at the same time, within `within`. A client of the library that
/// has several addresses may choose one that is silent, and wait for it.
pub async fn that_answer(config: &KafkaConfig, addresses: &[String], within: Duration) -> Vec<String> {
    let asked = addresses.iter().map(async |address| {
        let config = KafkaConfig {
            bootstrap_servers: vec![address.clone()],
            request_timeout: within,
            ..config.clone()
        };
        let connected =
            tokio::time::timeout(within, tokio::net::TcpStream::connect(with_port(address))).await;
        // The library waits for the time to be over where nothing listens.
        matches!(connected, Ok(Ok(_))) && brokers(&config).await.is_ok()
    });
    let answers = futures::future::join_all(asked).await;
    addresses
        .iter()
        .zip(answers)
        .filter(|(_, answers)| *answers)
        .map(|(address, _)| address.clone())
        .collect()
}

/// The address with its port, which may be left out in `kafka.bootstrap_servers`.
pub fn with_port(address: &str) -> String {
    let has_port = address.rsplit_once(':').is_some_and(|(host, port)| {
        (!host.contains(':') || host.ends_with(']')) && port.parse::<u16>().is_ok()
    });
    if has_port { address.to_owned() } else { format!("{address}:9092") }
}

/// The number of replicas of new topics: `kafka.replication_factor`, else 3 if there are as many brokers, else 1.
pub async fn replication_of_new_topics(config: &KafkaConfig) -> Result<i32, Error> {
    match config.replication_factor {
        Some(replicas) => Ok(replicas),
        None => Ok(if brokers(config).await? >= 3 { 3 } else { 1 }),
    }
}

/// The number of partitions of `topic`.
pub async fn partitions(config: &KafkaConfig, topic: &str) -> Result<i32, Error> {
    Ok(describe(config, topic).await?.partitions)
}

/// The offset after the last message of each partition, by partition number.
pub async fn end_offsets(config: &KafkaConfig, topic: &str) -> Result<Vec<i64>, Error> {
    Ok(watermarks(config, topic).await?.into_iter().map(|(_, end)| end).collect())
}

/// The first offset kept and the one after the last of each partition, by partition number.
pub async fn watermarks(config: &KafkaConfig, topic: &str) -> Result<Vec<(i64, i64)>, Error> {
    let topic = topic.to_owned();
    ask(config, move |probe| {
        let partitions = probe.describe(&topic)?.partitions;
        (0..partitions).map(|partition| probe.watermarks(&topic, partition)).collect()
    })
    .await
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Rejected { action: "ask the broker".into(), reason: error.to_string() }),
    }
}

/// Sends requests to the brokers. The library retries a refused login until the deadline; a refusal that waiting does not
/// fix is returned as soon as it is known.
pub(super) async fn ask<T: Send + 'static>(
    config: &KafkaConfig,
    questions: impl FnOnce(&Probe) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let probe = Arc::new(Probe::new(config)?);
    let asked = probe.clone();
    tokio::select! {
        answer = blocking(move || questions(&asked)) => match answer {
            Err(error @ Error::Unreachable { .. }) => {
                // At the deadline, a broker that only closes connections is one that refuses them.
                let reported = probe.complaint.refusal().or_else(|| probe.complaint.last());
                Err(probe.refusal(reported).await.unwrap_or(error))
            }
            result => result,
        },
        refusal = probe.refused() => Err(refusal),
    }
}

/// A client for requests alone. All its requests share one deadline, so that a topic with many partitions on a silent
/// broker does not cost one deadline per partition.
pub(super) struct Probe {
    config: KafkaConfig,
    pub(super) client: Live<BaseProducer<Reporting>>,
    complaint: Complaint,
    deadline: Instant,
    has_answered: AtomicBool,
}

impl Probe {
    fn new(config: &KafkaConfig) -> Result<Self, Error> {
        let context = Reporting::default();
        let complaint = context.complaint.clone();
        let mut client = client_config(config);
        // A request must not create the topic that it asks about.
        client.set("allow.auto.create.topics", "false");
        Ok(Self {
            config: config.clone(),
            client: renewal::create_brief(config, &client, context)?,
            complaint,
            deadline: Instant::now() + config.request_timeout,
            has_answered: AtomicBool::new(false),
        })
    }

    /// Resolves once it is certain that the brokers refuse this client.
    async fn refused(&self) -> Error {
        let mut probe_at = Instant::now() + PROBE_AFTER;
        while !self.has_answered.load(Ordering::Relaxed) {
            tokio::time::sleep(EVENT_INTERVAL).await;
            self.poll_events();
            let is_due = Instant::now() >= probe_at;
            let reported = self.complaint.refusal();
            if (is_due || reported.is_some())
                && let Some(error) = self.refusal(reported).await
            {
                return error;
            }
            if is_due {
                probe_at = Instant::now() + PROBE_INTERVAL;
            }
        }
        std::future::pending().await
    }

    /// What is wrong with the connection, if that is certain.
    async fn refusal(&self, reported: Option<String>) -> Option<Error> {
        let reason = refusal::explain(&self.config, reported.as_deref()).await?;
        Some(Error::Refused { servers: servers(&self.config), reason })
    }

    /// Handles the events that the client has queued.
    fn poll_events(&self) {
        for _ in 0..100 {
            self.client.poll(Duration::ZERO);
        }
    }

    pub(super) fn metadata(&self, topic: Option<&str>, action: &str) -> Result<Metadata, Error> {
        let metadata = self.client.client().fetch_metadata(topic, self.remaining());
        let metadata = metadata.map_err(|error| self.explain(error, action))?;
        self.has_answered.store(true, Ordering::Relaxed);
        Ok(metadata)
    }

    /// Whether the topic is that of the readings, or of their dead letters.
    pub(super) fn is_configured(&self, topic: &str) -> bool {
        topic == self.config.topic || topic == self.config.dead_letter_topic()
    }

    pub(super) fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn brokers(&self) -> Result<usize, Error> {
        Ok(self.metadata(None, "list the brokers")?.brokers().len())
    }

    fn describe(&self, topic: &str) -> Result<Description, Error> {
        let mut metadata = self.metadata(None, "list the topics")?;
        let find = |metadata: &Metadata| {
            metadata.topics().iter().position(|found| found.name() == topic && !found.partitions().is_empty())
        };
        let mut position = find(&metadata);
        if position.is_none() {
            // The list omits what this user may not see; a request by name reports it.
            metadata = self.metadata(Some(topic), "look for the topic")?;
            let denied = metadata.topics().iter().find_map(|found| found.error().map(RDKafkaErrorCode::from));
            if let Some(code) = denied.filter(|code| is_denial(*code)) {
                return Err(Error::denied(format!("see the topic {topic:?}"), code));
            }
            position = find(&metadata);
        }
        let found = position
            .map(|position| &metadata.topics()[position])
            .ok_or_else(|| Error::MissingTopic { topic: topic.to_owned(), servers: servers(&self.config) })?;
        Ok(Description {
            partitions: i32::try_from(found.partitions().len()).unwrap_or(i32::MAX),
            replicas: found
                .partitions()
                .iter()
                .map(|partition| i32::try_from(partition.replicas().len()).unwrap_or(i32::MAX))
                .min()
                .unwrap_or(0),
            leaderless: found
                .partitions()
                .iter()
                .filter(|partition| partition.leader() < 0)
                .map(rdkafka::metadata::MetadataPartition::id)
                .collect(),
        })
    }

    pub(super) fn watermarks(&self, topic: &str, partition: i32) -> Result<(i64, i64), Error> {
        self.watermarks_within(topic, partition, self.remaining())
    }

    pub(super) fn watermarks_within(
        &self,
        topic: &str,
        partition: i32,
        within: Duration,
    ) -> Result<(i64, i64), Error> {
        let client = self.client.client();
        self.patiently(within, |within| client.fetch_watermarks(topic, partition, within))
            .map_err(|error| self.explain(error, &format!("ask for the offsets of {topic}/{partition}")))
    }

    /// Asks again while what is asked about moves to another broker, until the deadline or `within`.
    pub(super) fn patiently<T>(
        &self,
        within: Duration,
        question: impl Fn(Duration) -> KafkaResult<T>,
    ) -> KafkaResult<T> {
        let deadline = Instant::now() + within.min(self.remaining());
        let mut delays = RETRY.delays();
        loop {
            let answer = question(deadline.saturating_duration_since(Instant::now()));
            let delay = delays.next_delay();
            match answer {
                Err(error) if is_moving(&error) && Instant::now() + delay < deadline => {
                    tracing::debug!(%error, "asking Kafka again");
                    std::thread::sleep(delay);
                }
                answer => return answer,
            }
        }
    }

    /// A timeout explains nothing by itself: the reason is in the events that the client has queued meanwhile.
    pub(super) fn explain(&self, error: KafkaError, action: &str) -> Error {
        self.poll_events();
        if is_unreachable(&error) && self.has_answered.load(Ordering::Relaxed) {
            return Error::Silent { action: action.to_owned(), within: self.config.request_timeout };
        }
        match is_unreachable(&error) || is_refusal(&error) {
            true => unreachable(&self.config, self.complaint.refusal().or_else(|| self.complaint.last())),
            false => Error::client(action, error),
        }
    }
}

fn servers(config: &KafkaConfig) -> String {
    config.bootstrap_servers.join(",")
}

fn unreachable(config: &KafkaConfig, reason: Option<String>) -> Error {
    // "Connection refused" is what users assume; other reasons (a name that does not resolve, a broker that advertises an
    // unreachable address) are worth printing.
    let reason = reason.filter(|reason| !reason.contains("Connection refused"));
    Error::Unreachable { servers: servers(config), within: config.request_timeout, reason }
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    use super::*;

    fn config(servers: &str) -> KafkaConfig {
        KafkaConfig {
            bootstrap_servers: vec![servers.to_owned()],
            request_timeout: Duration::from_secs(2),
            ..Default::default()
        }
    }

    #[tokio::test]
    async fn an_unavailable_broker_is_reported_within_the_deadline() {
        let begin = Instant::now();
        let error = ensure(&config("127.0.0.1:1"), "readings", 1, 1).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "no Kafka broker answers at 127.0.0.1:1 within 2s (start one with `iotctl up`, or set \
             kafka.bootstrap_servers)"
        );
        assert!(begin.elapsed() < Duration::from_secs(6));
    }

    #[tokio::test]
    async fn each_broker_is_asked_apart_and_a_silent_one_does_not_hide_the_others() {
        let cluster = MockCluster::new(1).unwrap();
        let alive = cluster.bootstrap_servers();
        // It accepts connections and says nothing, as a frozen broker does.
        let frozen = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let frozen = frozen.local_addr().map(|address| (frozen, address.to_string())).unwrap();
        let addresses = [frozen.1.clone(), alive.clone(), "127.0.0.1:1".to_owned()];
        let begin = Instant::now();
        let found = that_answer(&config(&alive), &addresses, Duration::from_secs(2)).await;
        assert_eq!(found, [alive]);
        assert!(begin.elapsed() < Duration::from_secs(6), "{:?}", begin.elapsed());
    }

    #[test]
    fn an_address_without_a_port_has_kafkas() {
        for (address, whole) in
            [("kafka1", "kafka1:9092"), ("kafka1:9192", "kafka1:9192"), ("[::1]:9093", "[::1]:9093")]
        {
            assert_eq!(with_port(address), whole);
        }
    }

    #[tokio::test]
    async fn new_topics_have_three_replicas_where_there_are_three_brokers() {
        for (brokers, replicas) in [(1, 1), (3, 3)] {
            let cluster = MockCluster::new(brokers).unwrap();
            let mut config = config(&cluster.bootstrap_servers());
            assert_eq!(replication_of_new_topics(&config).await.unwrap(), replicas);
            config.replication_factor = Some(2);
            assert_eq!(replication_of_new_topics(&config).await.unwrap(), 2);
        }
    }

    #[tokio::test]
    async fn a_topic_is_described_and_a_missing_one_is_not_created_by_asking() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("readings", 3, 1).unwrap();
        let config = config(&cluster.bootstrap_servers());
        assert_eq!(partitions(&config, "readings").await.unwrap(), 3);
        assert_eq!(end_offsets(&config, "readings").await.unwrap(), [0, 0, 0]);
        for _ in 0..2 {
            let error = describe(&config, "reading").await.unwrap_err();
            assert!(
                error.to_string().contains("run `iotctl schema apply -O kafka.topic=reading`"),
                "{error}"
            );
        }
    }

    #[tokio::test]
    async fn a_partition_whose_leader_moves_is_asked_about_again_until_the_deadline() {
        use RDKafkaRespErr::{
            RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        };
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("readings", 1, 1).unwrap();
        let patient =
            KafkaConfig { request_timeout: Duration::from_secs(20), ..config(&cluster.bootstrap_servers()) };
        for error in [RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE] {
            // The library itself asks a few times.
            cluster.request_errors(RDKafkaApiKey::ListOffsets, &[error; 12]);
            assert_eq!(end_offsets(&patient, "readings").await.unwrap(), [0]);
        }
        cluster
            .request_errors(RDKafkaApiKey::ListOffsets, &[RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION; 500]);
        let begin = Instant::now();
        let error = end_offsets(&config(&cluster.bootstrap_servers()), "readings").await.unwrap_err();
        assert!(begin.elapsed() < Duration::from_secs(6) && !error.is_hopeless(), "{error}");
    }
}
