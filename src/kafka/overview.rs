//! Kafka as a whole: brokers, every topic's partitions, every consumer group. For monitoring.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use rdkafka::metadata::Metadata;
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
    /// `None` if they cannot be listed: this user may not, or not every broker answers.
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
    /// Ids of the brokers that hold the replicas. The first one should lead.
    pub replicas: Vec<i32>,
    /// Ids of the brokers whose replica is in sync.
    pub in_sync: Vec<i32>,
    /// The first offset kept and the one after the last; `None` without a leader that answers.
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
        self.in_sync.len() < self.replicas.len()
    }

    pub fn is_led_by_preferred(&self) -> bool {
        self.replicas.first().is_some_and(|preferred| *preferred == self.leader)
    }
}

/// Reads everything, within `kafka.request_timeout` in total. A leader that does not answer leaves its partitions without
/// offsets and does not hide the rest.
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
    // First: with many topics, the offsets may take all of the time.
    let consumer_groups = consumer_groups(probe);
    let offsets = offsets(probe, &metadata)?;
    let mut topics = Vec::new();
    for topic in metadata.topics().iter().filter(|topic| !topic.name().starts_with("__")) {
        let mut partitions = Vec::with_capacity(topic.partitions().len());
        for partition in topic.partitions() {
            partitions.push(Partition {
                id: partition.id(),
                leader: partition.leader(),
                replicas: partition.replicas().to_vec(),
                in_sync: partition.isr().to_vec(),
                offsets: offsets.get(&(topic.name(), partition.id())).copied(),
            });
        }
        partitions.sort_by_key(|partition| partition.id);
        topics.push(Topic { name: topic.name().to_owned(), partitions });
    }
    Ok(Overview { brokers, topics, consumer_groups })
}

/// A partition: topic and number.
type Key<'a> = (&'a str, i32);
/// The first offset kept and the one after the last.
type Offsets = (i64, i64);

/// The first offset kept and the one after the last of each partition whose leader answers. All leaders are asked at the
/// same time: while brokers fail faster than leaders are elected, some leaders are dead.
fn offsets<'a>(probe: &Probe, metadata: &'a Metadata) -> Result<HashMap<Key<'a>, Offsets>, Error> {
    let mut by_leader: BTreeMap<i32, Vec<Key<'a>>> = BTreeMap::new();
    for topic in metadata.topics().iter().filter(|topic| !topic.name().starts_with("__")) {
        for partition in topic.partitions().iter().filter(|partition| partition.leader() >= 0) {
            by_leader.entry(partition.leader()).or_default().push((topic.name(), partition.id()));
        }
    }
    // Of many topics, the configured one is the most wanted if time runs out.
    for keys in by_leader.values_mut() {
        keys.sort_by_key(|(topic, _)| !probe.is_configured(topic));
    }
    // For one answer. The other half is for what is read after a leader that is silent.
    let within = probe.remaining() / 2;
    let answers = std::thread::scope(|scope| {
        let leaders = by_leader.values();
        let asked: Vec<_> =
            leaders.map(|keys| scope.spawn(move || offsets_at(probe, keys, within))).collect();
        // A thread that panics has found nothing.
        asked.into_iter().filter_map(|thread| thread.join().ok()).collect::<Result<Vec<_>, _>>()
    })?;
    Ok(answers.into_iter().flatten().collect())
}

/// Asks one leader, until it does not answer one question within the time.
fn offsets_at<'a>(
    probe: &Probe,
    keys: &[Key<'a>],
    within: Duration,
) -> Result<Vec<(Key<'a>, Offsets)>, Error> {
    let mut found = Vec::with_capacity(keys.len());
    for &(topic, partition) in keys {
        match probe.watermarks_within(topic, partition, within) {
            Ok(offsets) => found.push(((topic, partition), offsets)),
            Err(Error::Unreachable { .. } | Error::Silent { .. }) => {
                tracing::debug!(topic, partition, "the leader does not answer");
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Consumer groups need a permission of their own; without it the rest is still of use.
fn consumer_groups(probe: &Probe) -> Option<Vec<ConsumerGroup>> {
    match probe.client.client().fetch_group_list(None, probe.remaining() / 2) {
        Ok(list) => Some(list.groups().iter().map(ConsumerGroup::of).collect()),
        Err(error) => {
            tracing::debug!(%error, "cannot list the consumer groups");
            None
        }
    }
}
