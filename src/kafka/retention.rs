//! What a topic keeps, and which of it came since a given time.

use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use super::client::{Reporting, client_config};
use super::live::Live;
use super::topics::blocking;
use super::{Error, renewal};
use crate::config::KafkaConfig;

/// A topic's own limits, as the broker applies them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// `None` if messages are kept whatever their age.
    pub milliseconds: Option<i64>,
    /// Per partition; `None` if messages are kept whatever their size.
    pub bytes: Option<i64>,
    /// Only the newest message of each key is kept.
    pub is_compacted: bool,
    /// The largest batch of messages that the topic accepts, in bytes.
    pub max_message_bytes: Option<u64>,
    /// Replicas that must have a message before it is acknowledged.
    pub min_in_sync_replicas: Option<usize>,
}

/// The limits of a topic.
pub async fn retention(config: &KafkaConfig, topic: &str) -> Result<Retention, Error> {
    let admin: Live<AdminClient<Reporting>> =
        renewal::create_brief(config, &client_config(config), Reporting::default())?;
    let action = || format!("read the settings of the topic {topic:?}");
    let options = AdminOptions::new().request_timeout(Some(config.request_timeout));
    let asked = [ResourceSpecifier::Topic(topic)];
    let asked = admin.describe_configs(&asked, &options);
    let within = config.request_timeout;
    let answer = tokio::time::timeout(within + std::time::Duration::from_secs(1), asked).await;
    let resources = match answer {
        Ok(resources) => resources.map_err(|error| Error::client(action(), error))?,
        Err(_) => {
            let servers = config.bootstrap_servers.join(",");
            return Err(Error::Unreachable { servers, within, reason: None });
        }
    };
    let resource = match resources.into_iter().next() {
        Some(Ok(resource)) => resource,
        Some(Err(code)) if super::is_denial(code) => return Err(Error::denied(action(), code)),
        Some(Err(code)) => return Err(Error::Rejected { action: action(), reason: code.to_string() }),
        None => {
            return Err(Error::Rejected {
                action: action(),
                reason: "the broker gave no answer for it".into(),
            });
        }
    };
    let entry = |name: &str| resource.get(name).and_then(|entry| entry.value.clone());
    let limit = |name: &str| entry(name).and_then(|value| value.parse().ok()).filter(|limit| *limit >= 0);
    let is_compacted = entry("cleanup.policy").is_some_and(|policy| !policy.contains("delete"));
    Ok(Retention {
        milliseconds: limit("retention.ms"),
        bytes: limit("retention.bytes"),
        is_compacted,
        max_message_bytes: limit("max.message.bytes").and_then(|limit| u64::try_from(limit).ok()),
        min_in_sync_replicas: limit("min.insync.replicas").and_then(|limit| usize::try_from(limit).ok()),
    })
}

/// Of each partition, the offset of the first message at or after `moment` (milliseconds since the epoch); `None` if there
/// is none.
pub async fn offsets_since(
    config: &KafkaConfig,
    topic: &str,
    partitions: i32,
    moment: i64,
) -> Result<Vec<Option<i64>>, Error> {
    let (config, topic) = (config.clone(), topic.to_owned());
    blocking(move || {
        let failed = |cause| Error::client(format!("find an offset by time in the topic {topic:?}"), cause);
        let mut client = client_config(&config);
        client.set("group.id", &config.group).set("enable.auto.commit", "false");
        let consumer: Live<BaseConsumer<Reporting>> =
            renewal::create_brief(&config, &client, Reporting::default())?;
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&topic, 0, partitions - 1);
        list.set_all_offsets(rdkafka::Offset::Offset(moment)).map_err(failed)?;
        let list = consumer.offsets_for_times(list, config.request_timeout).map_err(failed)?;
        let mut offsets = vec![None; usize::try_from(partitions).unwrap_or(0)];
        for element in list.elements() {
            element.error().map_err(failed)?;
            let slot = usize::try_from(element.partition()).ok().and_then(|index| offsets.get_mut(index));
            if let (rdkafka::Offset::Offset(offset), Some(slot)) = (element.offset(), slot) {
                *slot = Some(offset);
            }
        }
        Ok(offsets)
    })
    .await
}
