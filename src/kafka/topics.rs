//! Topics: create, describe, and where they end. Every call has the deadline of `kafka.request_timeout`; the
//! blocking ones run on the runtime's blocking threads, so that a silent broker stalls nobody else.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer};

use super::client::{Complaint, Reporting, client_config};
use super::{Error, is_unreachable};
use crate::config::KafkaConfig;

/// Twice the brokers' default for messages.
const DEAD_LETTER_MAX_BYTES: &str = "2097152";

/// What [`ensure`] found or did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ensured {
    Created,
    /// It was there, with this many partitions; it is left as it is.
    Exists {
        partitions: i32,
    },
}

/// A topic as the cluster describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    pub partitions: i32,
    /// Replicas of the partition that has the fewest.
    pub replicas: i32,
    /// Partitions that have no leader now: nothing can be written to or read from them.
    pub leaderless: Vec<i32>,
}

/// Creates `topic` unless it is there already.
pub async fn ensure(
    config: &KafkaConfig,
    topic: &str,
    partitions: i32,
    replication: i32,
) -> Result<Ensured, Error> {
    // Asking first also gives an unreachable broker its own error, with the reason the admin client would swallow.
    match describe(config, topic).await {
        Ok(Description { partitions, .. }) => return Ok(Ensured::Exists { partitions }),
        Err(Error::MissingTopic { .. }) => {}
        Err(error) => return Err(error),
    }
    let action = || format!("create the topic {topic:?}");
    let admin: AdminClient<Reporting> =
        client_config(config).create_with_context(Reporting::default()).map_err(Error::building)?;
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(replication));
    if topic == config.dead_letter_topic() {
        // A dead letter is its message and some headers: what just fits one topic must fit the other.
        new = new.set("max.message.bytes", DEAD_LETTER_MAX_BYTES);
    }
    let timeout = config.request_timeout;
    let options = AdminOptions::new().request_timeout(Some(timeout)).operation_timeout(Some(timeout));
    // The library keeps its own deadline; the second one is for a library that does not.
    let created =
        tokio::time::timeout(timeout + Duration::from_secs(5), admin.create_topics([&new], &options)).await;
    let results = match created {
        Err(_) => return Err(unreachable(config, None)),
        Ok(Err(error)) if is_unreachable(&error) => return Err(unreachable(config, None)),
        Ok(Err(source)) => return Err(Error::Client { action: action(), cause: source }),
        Ok(Ok(results)) => results,
    };
    match results.into_iter().next() {
        Some(Ok(_)) => {
            wait_until_led(config, topic).await?;
            Ok(Ensured::Created)
        }
        // Somebody else created it in between.
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => {
            let partitions = describe(config, topic).await?.partitions;
            Ok(Ensured::Exists { partitions })
        }
        Some(Err((_, code))) => {
            Err(Error::Rejected { action: action(), reason: rejection(code, replication) })
        }
        None => Err(Error::Rejected { action: action(), reason: "the broker gave no answer for it".into() }),
    }
}

/// A new topic exists before its partitions have leaders; whoever asked for it wants to use it.
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
        RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed => {
            "this user may not create topics (ask for the Create permission, or have it created)".into()
        }
        code => code.to_string(),
    }
}

/// Partitions and replicas of `topic`; [`Error::MissingTopic`] where there is none.
pub async fn describe(config: &KafkaConfig, topic: &str) -> Result<Description, Error> {
    let (config, topic) = (config.clone(), topic.to_owned());
    blocking(move || Probe::new(&config)?.describe(&topic)).await
}

/// The number of brokers that the cluster knows. A broker that has just started may answer before it has registered.
pub async fn brokers(config: &KafkaConfig) -> Result<usize, Error> {
    let config = config.clone();
    blocking(move || Probe::new(&config)?.brokers()).await
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
    let (config, topic) = (config.clone(), topic.to_owned());
    blocking(move || {
        let probe = Probe::new(&config)?;
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

/// A client for questions alone. All its questions share one deadline, so that a topic of many partitions on a
/// silent broker does not cost a deadline each.
struct Probe<'a> {
    config: &'a KafkaConfig,
    client: BaseProducer<Reporting>,
    complaint: Complaint,
    deadline: Instant,
}

impl<'a> Probe<'a> {
    fn new(config: &'a KafkaConfig) -> Result<Self, Error> {
        let context = Reporting::default();
        let complaint = context.complaint.clone();
        let client = client_config(config).create_with_context(context).map_err(Error::building)?;
        Ok(Self { config, client, complaint, deadline: Instant::now() + config.request_timeout })
    }

    fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn brokers(&self) -> Result<usize, Error> {
        let metadata = self.client.client().fetch_metadata(None, self.remaining());
        let metadata = metadata.map_err(|error| self.explain(error, "list the brokers"))?;
        Ok(metadata.brokers().len())
    }

    fn describe(&self, topic: &str) -> Result<Description, Error> {
        // All topics and not just this one: asking for one by name creates it where the broker allows that.
        let metadata = self.client.client().fetch_metadata(None, self.remaining());
        let metadata = metadata.map_err(|error| self.explain(error, "list the topics"))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let found = found
            .filter(|found| !found.partitions().is_empty())
            .ok_or_else(|| Error::MissingTopic { topic: topic.to_owned(), servers: servers(self.config) })?;
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
                .map(|partition| partition.id())
                .collect(),
        })
    }

    fn watermarks(&self, topic: &str, partition: i32) -> Result<(i64, i64), Error> {
        self.client
            .client()
            .fetch_watermarks(topic, partition, self.remaining())
            .map_err(|error| self.explain(error, &format!("ask for the offsets of {topic}/{partition}")))
    }

    /// A timeout says nothing by itself: the reason is in the events the client has queued meanwhile.
    fn explain(&self, error: KafkaError, action: &str) -> Error {
        for _ in 0..100 {
            self.client.poll(Duration::ZERO);
        }
        match self.complaint.refusal() {
            Some(reason) => Error::Refused { servers: servers(self.config), reason },
            None if is_unreachable(&error) => unreachable(self.config, self.complaint.last()),
            None => Error::Client { action: action.to_owned(), cause: error },
        }
    }
}

fn servers(config: &KafkaConfig) -> String {
    config.bootstrap_servers.join(",")
}

fn unreachable(config: &KafkaConfig, reason: Option<String>) -> Error {
    // "Connection refused" is what everybody assumes; anything else (a name that does not resolve, a broker that
    // advertises an address we cannot reach) is worth the words.
    let reason = reason.filter(|reason| !reason.contains("Connection refused"));
    Error::Unreachable { servers: servers(config), within: config.request_timeout, reason }
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;

    use super::*;

    fn config(servers: &str) -> KafkaConfig {
        KafkaConfig {
            bootstrap_servers: vec![servers.to_owned()],
            request_timeout: Duration::from_secs(2),
            ..Default::default()
        }
    }

    #[tokio::test]
    async fn a_broker_that_is_not_there_is_said_within_the_deadline() {
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
    async fn a_topic_is_described_and_a_missing_one_is_not_created_by_asking() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("readings", 3, 1).unwrap();
        let config = config(&cluster.bootstrap_servers());
        assert_eq!(partitions(&config, "readings").await.unwrap(), 3);
        assert_eq!(end_offsets(&config, "readings").await.unwrap(), [0, 0, 0]);
        for _ in 0..2 {
            let error = describe(&config, "reading").await.unwrap_err();
            assert!(error.to_string().contains("run `iotctl schema apply`"), "{error}");
        }
    }
}
