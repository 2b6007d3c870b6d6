//! What the consumer group has committed, and what it commits.

use std::collections::HashMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};

use super::context::Context;
use crate::kafka::losses::LossNote;
use crate::kafka::{Error, TopicPartition};

/// What the consumer group has committed of a partition, or is to commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOffset {
    pub of: TopicPartition,
    /// One past the last finished message.
    pub offset: i64,
    /// Stored with the offset.
    pub losses: LossNote,
}

/// Reads and commits the offsets of the consumer group.
pub struct GroupOffsets<'a> {
    consumer: &'a BaseConsumer<Context>,
    timeout: Duration,
}

impl<'a> GroupOffsets<'a> {
    pub(super) fn new(consumer: &'a BaseConsumer<Context>, timeout: Duration) -> Self {
        Self { consumer, timeout }
    }

    /// Hands the offsets to Kafka; with `wait`, returns once it has them.
    pub fn commit(&self, offsets: &[GroupOffset], wait: bool) -> Result<(), Error> {
        if offsets.is_empty() {
            return Ok(());
        }
        let failed = |source| Error::client("commit offsets", source);
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for GroupOffset { of, offset, losses } in offsets {
            let mut element = list.add_partition(of.topic.as_str(), of.partition);
            element.set_offset(Offset::Offset(*offset)).map_err(failed)?;
            if !losses.is_empty() {
                element.set_metadata(losses.to_metadata());
            }
        }
        let mode = if wait { CommitMode::Sync } else { CommitMode::Async };
        self.consumer.commit(&list, mode).map_err(failed)
    }

    /// What the consumer group has committed of `partitions`; without those of which it never did.
    pub fn committed(&self, partitions: &[TopicPartition]) -> Result<Vec<GroupOffset>, Error> {
        let list = self
            .consumer
            .committed_offsets(list_of(partitions), self.timeout)
            .map_err(|source| Error::client("read the committed offsets", source))?;
        list.elements()
            .iter()
            .filter_map(|element| group_offset(element).transpose())
            .collect::<Result<_, _>>()
            .map_err(|source| Error::client("read the committed offsets", source))
    }

    /// The first offset that Kafka keeps of each of `partitions`.
    pub fn first_offsets(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<HashMap<TopicPartition, i64>, Error> {
        let failed = |source| Error::client("read the first offsets", source);
        let mut list = list_of(partitions);
        list.set_all_offsets(Offset::Beginning).map_err(failed)?;
        let list = self.consumer.offsets_for_times(list, self.timeout).map_err(failed)?;
        let mut first = HashMap::new();
        for element in list.elements() {
            element.error().map_err(failed)?;
            if let Offset::Offset(offset) = element.offset() {
                first.insert(TopicPartition::new(element.topic(), element.partition()), offset);
            }
        }
        Ok(first)
    }
}

fn list_of(partitions: &[TopicPartition]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for TopicPartition { topic, partition } in partitions {
        list.add_partition(topic.as_str(), *partition);
    }
    list
}

/// A committed offset with its note; `None` if the group never committed.
pub(in crate::kafka) fn group_offset(
    element: &TopicPartitionListElem<'_>,
) -> KafkaResult<Option<GroupOffset>> {
    element.error()?;
    Ok(match element.offset() {
        Offset::Offset(offset) => Some(GroupOffset {
            of: TopicPartition::new(element.topic(), element.partition()),
            offset,
            losses: LossNote::from_metadata(element.metadata()),
        }),
        _ => None,
    })
}
