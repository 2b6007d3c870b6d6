//! What a consumer group has committed, read without joining it.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::Error;
use super::client::{Reporting, client_config};
use super::topics::blocking;
use crate::config::KafkaConfig;
use crate::retry::RetryPolicy;

/// Between two requests to a coordinator that is not available yet.
const RETRY: RetryPolicy = RetryPolicy::new(Duration::from_millis(100), Duration::from_millis(400));

/// The first request about any consumer group creates the topic that groups are stored in, and its coordinators take a
/// moment to start.
fn is_not_ready(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator};
    matches!(
        error.rdkafka_error_code(),
        Some(CoordinatorLoadInProgress | CoordinatorNotAvailable | NotCoordinator)
    )
}

/// What a consumer group has committed of a topic, by partition number; `None` if it never committed.
pub type Committed = Vec<Option<i64>>;

/// The offset after the last message that the configured consumer group has finished, by partition number; `None` if it
/// never committed.
pub async fn committed(config: &KafkaConfig, topic: &str, partitions: i32) -> Result<Committed, Error> {
    let topics = vec![(topic.to_owned(), partitions)];
    Ok(committed_of_topics(config, topics).await?.pop().unwrap_or_default())
}

/// As [`committed`], of several topics, each with its number of partitions, in one request.
pub async fn committed_of_topics(
    config: &KafkaConfig,
    topics: Vec<(String, i32)>,
) -> Result<Vec<Committed>, Error> {
    let config = config.clone();
    blocking(move || {
        let failed = |source| Error::Client {
            action: format!("read the committed offsets of the consumer group {:?}", config.group),
            cause: source,
        };
        let mut client = client_config(&config);
        client.set("group.id", &config.group).set("enable.auto.commit", "false");
        let consumer: BaseConsumer<Reporting> =
            client.create_with_context(Reporting::default()).map_err(Error::building(&config))?;
        let length = |partitions: i32| usize::try_from(partitions).unwrap_or(0);
        let mut list = TopicPartitionList::new();
        for (topic, partitions) in &topics {
            list.add_partition_range(topic, 0, partitions - 1);
        }
        let deadline = Instant::now() + config.request_timeout;
        let mut delays = RETRY.delays();
        let list = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = consumer.committed_offsets(list.clone(), left).and_then(|list| {
                list.elements()
                    .iter()
                    .try_for_each(rdkafka::topic_partition_list::TopicPartitionListElem::error)?;
                Ok(list)
            });
            match answer {
                Err(error) if is_not_ready(&error) && !left.is_zero() => {
                    std::thread::sleep(delays.next_delay().min(left));
                }
                answer => break answer.map_err(failed)?,
            }
        };
        let mut committed: Vec<Committed> =
            topics.iter().map(|(_, partitions)| vec![None; length(*partitions)]).collect();
        for element in list.elements() {
            let position = topics.iter().position(|(topic, _)| topic == element.topic());
            if let (Offset::Offset(offset), Ok(partition), Some(position)) =
                (element.offset(), usize::try_from(element.partition()), position)
                && let Some(slot) = committed[position].get_mut(partition)
            {
                *slot = Some(offset);
            }
        }
        Ok(committed)
    })
    .await
}
