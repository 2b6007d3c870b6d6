//! What a consumer group has committed, read and changed without joining it.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::Producer as _;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{Reporting, client_config};
use super::consumer::{GroupOffset, group_offset};
use super::live::Live;
use super::losses::LostMessages;
use super::overview::ConsumerGroup;
use super::topics::{self, blocking};
use super::{Error, RETRY, is_moving, renewal};
use crate::config::KafkaConfig;

/// How long one request waits before the reason is looked for.
const ATTEMPT: Duration = Duration::from_secs(1);
/// The library retries for ever where the consumer group is denied, and reports the denial only to those who poll.
fn denial(consumer: &BaseConsumer<Reporting>) -> Option<KafkaError> {
    let event = consumer.poll(Duration::ZERO)?;
    event.err().filter(|error| error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed))
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
    let offset = |offset: Option<GroupOffset>| offset.map(|found| found.offset);
    let found = offsets_of_topics(config, topics).await?;
    Ok(found.into_iter().map(|topic| topic.into_iter().map(offset).collect()).collect())
}

/// Messages of a topic that Kafka deleted before the configured consumer group had read them, as `ingest` noted it beside
/// the committed offsets; without partitions that lost none. An operator clears the notes by committing offsets with
/// another tool.
pub async fn lost_messages(
    config: &KafkaConfig,
    topic: &str,
    partitions: i32,
) -> Result<Vec<LostMessages>, Error> {
    let found = offsets_of_topics(config, vec![(topic.to_owned(), partitions)]).await?;
    let offsets = found.into_iter().flatten().flatten().filter(|offset| !offset.losses.is_empty());
    Ok(offsets
        .map(|offset| LostMessages {
            topic: topic.to_owned(),
            partition: offset.of.partition,
            note: offset.losses,
        })
        .collect())
}

/// By topic and partition number.
async fn offsets_of_topics(
    config: &KafkaConfig,
    topics: Vec<(String, i32)>,
) -> Result<Vec<Vec<Option<GroupOffset>>>, Error> {
    let config = config.clone();
    blocking(move || {
        let failed = |source| Error::Client {
            action: format!("read the committed offsets of the consumer group {:?}", config.group),
            cause: source,
        };
        let mut client = client_config(&config);
        client.set("group.id", &config.group).set("enable.auto.commit", "false");
        let consumer: Live<BaseConsumer<Reporting>> =
            renewal::create_brief(&config, &client, Reporting::default())?;
        let mut list = TopicPartitionList::new();
        for (topic, partitions) in &topics {
            list.add_partition_range(topic, 0, partitions - 1);
        }
        let deadline = Instant::now() + config.request_timeout;
        let mut delays = RETRY.delays();
        let found = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = consumer.committed_offsets(list.clone(), left.min(ATTEMPT)).and_then(|list| {
                list.elements()
                    .iter()
                    .filter_map(|element| group_offset(element).transpose())
                    .collect::<KafkaResult<Vec<_>>>()
            });
            match answer {
                // The first request about any consumer group creates the topic that groups are stored in, and its coordinators
                // take a moment to start.
                Err(error) if is_moving(&error) && !left.is_zero() => {
                    std::thread::sleep(delays.next_delay().min(left));
                }
                Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::OperationTimedOut) => {
                    if let Some(denial) = denial(&consumer) {
                        let topics: Vec<_> = topics.iter().map(|(topic, _)| format!("{topic:?}")).collect();
                        let action =
                            format!("read {} as the consumer group {:?}", topics.join(", "), config.group);
                        return Err(Error::client(action, denial));
                    }
                    if left.is_zero() {
                        return Err(failed(error));
                    }
                }
                answer => break answer.map_err(failed)?,
            }
        };
        let length = |partitions: i32| usize::try_from(partitions).unwrap_or(0);
        let mut offsets: Vec<Vec<Option<GroupOffset>>> =
            topics.iter().map(|(_, partitions)| vec![None; length(*partitions)]).collect();
        for offset in found {
            let position = topics.iter().position(|(name, _)| name == offset.of.topic.as_str());
            if let (Ok(partition), Some(position)) = (usize::try_from(offset.of.partition), position)
                && let Some(slot) = offsets[position].get_mut(partition)
            {
                *slot = Some(offset);
            }
        }
        Ok(offsets)
    })
    .await
}

/// The members of the configured consumer group; `None` if there is no such group, which then has none.
pub async fn members(config: &KafkaConfig) -> Result<Option<ConsumerGroup>, Error> {
    let group = config.group.clone();
    topics::ask(config, move |probe| {
        let listed = probe.patiently(probe.remaining(), |within| {
            probe.client.client().fetch_group_list(Some(&group), within)
        });
        let action = || format!("list the members of the consumer group {group:?}");
        let listed = listed.map_err(|error| probe.explain(error, &action()))?;
        Ok(listed.groups().first().map(ConsumerGroup::of))
    })
    .await
}

/// Commits offsets of a topic for the configured consumer group, which must have no members; notes of lost messages go.
///
/// # Errors
/// The group has members, or Kafka refuses.
pub async fn commit(config: &KafkaConfig, topic: &str, offsets: &[(i32, i64)]) -> Result<(), Error> {
    // Whether the coordinator answers, with a deadline: the commit below has none of its own.
    let partitions = offsets.iter().map(|(partition, _)| partition + 1).max().unwrap_or(0);
    committed(config, topic, partitions).await?;
    let action = format!("commit offsets for the consumer group {:?}", config.group);
    let mut client = client_config(config);
    client.set("group.id", &config.group).set("enable.auto.commit", "false");
    let consumer: Live<BaseConsumer<Reporting>> =
        renewal::create_brief(config, &client, Reporting::default())?;
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for (partition, offset) in offsets {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset))
            .map_err(|cause| Error::client(action.clone(), cause))?;
    }
    let (sender, answered) = tokio::sync::oneshot::channel();
    // A thread of its own and not one of the runtime's, whose end would wait for it.
    std::thread::spawn(move || sender.send(consumer.commit(&list, CommitMode::Sync)));
    match tokio::time::timeout(config.request_timeout, answered).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(cause))) if has_members(&cause) => Err(Error::Rejected {
            action,
            reason: "it has members, which commit by themselves (stop every ingest of the group first)"
                .into(),
        }),
        Ok(Ok(Err(cause))) => Err(Error::client(action, cause)),
        Ok(Err(_)) => Err(Error::Rejected { action, reason: "the client ended".into() }),
        Err(_) => Err(Error::Silent { action, within: config.request_timeout }),
    }
}

/// What a coordinator answers to a commit from outside of a group with members.
fn has_members(cause: &KafkaError) -> bool {
    use RDKafkaErrorCode::{IllegalGeneration, RebalanceInProgress, UnknownMemberId};
    matches!(cause.rdkafka_error_code(), Some(IllegalGeneration | RebalanceInProgress | UnknownMemberId))
}
