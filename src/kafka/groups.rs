//! What a consumer group has committed, asked from outside of it.

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};

use super::Error;
use super::client::{Reporting, client_config};
use super::topics::blocking;
use crate::config::KafkaConfig;

/// The offset after the last message that the group of the configuration has finished, by partition number; `None`
/// where it never committed.
pub async fn committed(
    config: &KafkaConfig,
    topic: &str,
    partitions: i32,
) -> Result<Vec<Option<i64>>, Error> {
    let (config, topic) = (config.clone(), topic.to_owned());
    blocking(move || {
        let failed = |source| Error::Client {
            action: format!("read the offsets that group {:?} has committed of {topic:?}", config.group),
            cause: source,
        };
        let mut client = client_config(&config);
        client.set("group.id", &config.group).set("enable.auto.commit", "false");
        let consumer: BaseConsumer<Reporting> =
            client.create_with_context(Reporting::default()).map_err(Error::building(&config))?;
        let mut list = TopicPartitionList::with_capacity(usize::try_from(partitions).unwrap_or(0));
        list.add_partition_range(&topic, 0, partitions - 1);
        let list = consumer.committed_offsets(list, config.request_timeout).map_err(failed)?;
        let mut offsets = vec![None; usize::try_from(partitions).unwrap_or(0)];
        for element in list.elements() {
            element.error().map_err(failed)?;
            if let (Offset::Offset(offset), Ok(partition)) =
                (element.offset(), usize::try_from(element.partition()))
                && let Some(slot) = offsets.get_mut(partition)
            {
                *slot = Some(offset);
            }
        }
        Ok(offsets)
    })
    .await
}
