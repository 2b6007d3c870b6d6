//! The whole of Kafka as seen from outside: brokers, every topic's partitions, every consumer group. For monitoring.

use rdkafka::producer::Producer as _;

use super::Error;
use super::topics::{self, Probe};
use crate::config::KafkaConfig;

/// Kafka at one moment.
#[derive(Debug, Clone, Default)]
pub struct Overview {
    pub brokers: Vec<Broker>,
    /// Without Kafka's own (`__consumer_offsets` and its like).
    pub topics: Vec<Topic>,
    /// `None` where the groups may not be listed.
    pub groups: Option<Vec<Group>>,
}

#[derive(Debug, Clone)]
pub struct Broker {
    pub id: i32,
    /// As clients are told to reach it.
    pub address: String,
}

#[derive(Debug, Clone)]
pub struct Topic {
    pub name: String,
    /// By number.
    pub partitions: Vec<Partition>,
}

#[derive(Debug, Clone)]
pub struct Partition {
    pub id: i32,
    /// -1 where there is none now.
    pub leader: i32,
    pub replicas: usize,
    pub in_sync: usize,
    /// The first replica of the list is the one that should lead.
    pub preferred: i32,
    /// The first offset kept and the one after the last; `None` where there is no leader to ask.
    pub offsets: Option<(i64, i64)>,
}

#[derive(Debug, Clone)]
pub struct Group {
    pub name: String,
    pub members: usize,
}

impl Overview {
    pub fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.iter().find(|topic| topic.name == name)
    }
}

impl Topic {
    /// Messages that are kept, of the partitions that have a leader; fewer where the topic is compacted.
    pub fn messages(&self) -> i64 {
        self.partitions.iter().filter_map(|partition| partition.offsets).map(|(from, to)| to - from).sum()
    }
}

impl Partition {
    pub fn is_under_replicated(&self) -> bool {
        self.in_sync < self.replicas
    }
}

/// Asks for everything, within `kafka.request_timeout` for all of it.
pub async fn overview(config: &KafkaConfig) -> Result<Overview, Error> {
    topics::ask(config, read).await
}

fn read(probe: &Probe) -> Result<Overview, Error> {
    let metadata = probe.metadata(None, "list the topics")?;
    let brokers = metadata
        .brokers()
        .iter()
        .map(|broker| Broker { id: broker.id(), address: format!("{}:{}", broker.host(), broker.port()) })
        .collect();
    let mut topics = Vec::new();
    for topic in metadata.topics().iter().filter(|topic| !topic.name().starts_with("__")) {
        let mut partitions = Vec::with_capacity(topic.partitions().len());
        for partition in topic.partitions() {
            // Nobody answers for a partition without a leader; asking would only use up the deadline.
            let offsets = match partition.leader() {
                ..0 => None,
                _ => Some(probe.watermarks(topic.name(), partition.id())?),
            };
            partitions.push(Partition {
                id: partition.id(),
                leader: partition.leader(),
                replicas: partition.replicas().len(),
                in_sync: partition.isr().len(),
                preferred: partition.replicas().first().copied().unwrap_or(-1),
                offsets,
            });
        }
        partitions.sort_by_key(|partition| partition.id);
        topics.push(Topic { name: topic.name().to_owned(), partitions });
    }
    Ok(Overview { brokers, topics, groups: groups(probe) })
}

/// Groups need a permission of their own; without it the rest still counts.
fn groups(probe: &Probe) -> Option<Vec<Group>> {
    match probe.client.client().fetch_group_list(None, probe.remaining()) {
        Ok(list) => Some(
            list.groups()
                .iter()
                .map(|group| Group { name: group.name().to_owned(), members: group.members().len() })
                .collect(),
        ),
        Err(error) => {
            tracing::debug!(%error, "cannot list the consumer groups");
            None
        }
    }
}
