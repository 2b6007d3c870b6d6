//! What a consumer group has committed, asked from outside of it.

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};

use super::Error;
use super::client::{Reporting, client_config};
use super::topics::blocking;
use crate::config::KafkaConfig;

/// What a group has committed of a topic, by partition number; `None` where it never committed.
pub type Committed = Vec<Option<i64>>;

/// The offset after the last message that the group of the configuration has finished, by partition number; `None`
/// where it never committed.
pub async fn committed(config: &KafkaConfig, topic: &str, partitions: i32) -> Result<Committed, Error> {
    let topics = vec![(topic.to_owned(), partitions)];
    Ok(committed_of_topics(config, topics).await?.pop().unwrap_or_default())
}

/// The same of several topics, each with its number of partitions, in one question.
pub async fn committed_of_topics(
    config: &KafkaConfig,
    topics: Vec<(String, i32)>,
) -> Result<Vec<Committed>, Error> {
    let config = config.clone();
    blocking(move || {
        let failed = |source| Error::Client {
            action: format!("read the offsets that group {:?} has committed", config.group),
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
        let list = consumer.committed_offsets(list, config.request_timeout).map_err(failed)?;
        let mut committed: Vec<Committed> =
            topics.iter().map(|(_, partitions)| vec![None; length(*partitions)]).collect();
        for element in list.elements() {
            element.error().map_err(failed)?;
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
