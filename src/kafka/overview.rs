//! Kafka as a whole: brokers, every topic's partitions, every consumer group. For monitoring.

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
    /// `None` if this user may not list them.
    pub consumer_groups: Option<Vec<ConsumerGroup>>,
}

#[derive(Debug, Clone)]
pub struct Broker {
    pub id: i32,
    /// As advertised to clients.
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
    /// -1 if there is none now.
    pub leader: i32,
    pub replicas: usize,
    pub in_sync: usize,
    /// The first replica of the list, which should lead.
    pub preferred: i32,
    /// The first offset kept and the one after the last; `None` without a leader to ask.
    pub offsets: Option<(i64, i64)>,
}

#[derive(Debug, Clone)]
pub struct ConsumerGroup {
    pub name: String,
    pub members: usize,
    /// How its members share partitions, such as "cooperative-sticky"; empty while it rebalances, and without members.
    pub assignor: String,
    /// The members' client ids and hosts.
    pub clients: Vec<String>,
}

impl Overview {
    pub fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.iter().find(|topic| topic.name == name)
    }
}

impl ConsumerGroup {
    pub(super) fn of(group: &rdkafka::groups::GroupInfo) -> Self {
        let clients = group.members().iter().map(|member| {
            format!("{} ({})", member.client_id(), member.client_host().trim_start_matches('/'))
        });
        Self {
            name: group.name().to_owned(),
            members: group.members().len(),
            assignor: group.protocol().to_owned(),
            clients: clients.collect(),
        }
    }

    /// Why this program cannot join the group, if so: its members share partitions in another way.
    pub fn refusal(&self, config: &KafkaConfig) -> Option<Error> {
        let own = super::consumer::assignors(config);
        let is_foreign = self.members > 0
            && !self.assignor.is_empty()
            && !own.split(',').any(|own| own.trim() == self.assignor);
        is_foreign.then(|| Error::ConsumerGroupInUse {
            group: self.name.clone(),
            clients: self.clients.join(", "),
            assignor: self.assignor.clone(),
            own,
        })
    }
}

impl Topic {
    /// Messages kept in the partitions that have a leader; an upper bound if the topic is compacted.
    pub fn messages(&self) -> i64 {
        self.partitions.iter().filter_map(|partition| partition.offsets).map(|(from, to)| to - from).sum()
    }
}

impl Partition {
    pub fn is_under_replicated(&self) -> bool {
        self.in_sync < self.replicas
    }
}

/// Reads everything, within `kafka.request_timeout` in total.
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
            // A partition without a leader has nobody to ask; asking would only use up the deadline.
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
    Ok(Overview { brokers, topics, consumer_groups: consumer_groups(probe) })
}

/// Consumer groups need a permission of their own; without it the rest is still of use.
fn consumer_groups(probe: &Probe) -> Option<Vec<ConsumerGroup>> {
    match probe.client.client().fetch_group_list(None, probe.remaining()) {
        Ok(list) => Some(list.groups().iter().map(ConsumerGroup::of).collect()),
        Err(error) => {
            tracing::debug!(%error, "cannot list the consumer groups");
            None
        }
    }
}
