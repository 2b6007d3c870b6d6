//! Kafka at one moment.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::config::KafkaConfig;
use crate::kafka::Subscription;
use crate::kafka::overview::{self, Overview};
use crate::observe::exporter::kafka::{GROUP_OFFSET, LAG, LAG_SECONDS};
use crate::observe::exporter::snapshot::Snapshot;

/// Kafka at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KafkaState {
    pub at: DateTime<Utc>,
    pub brokers: usize,
    /// `None` if the topic does not exist.
    pub partitions: Option<Vec<Partition>>,
    /// Members of the group; `None` if this user may not list groups.
    pub members: Option<usize>,
    pub dead_letters: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Partition {
    /// Where several topics are read.
    pub topic: Option<String>,
    pub id: i32,
    pub leader: i32,
    pub in_sync: usize,
    pub replicas: usize,
    pub end: Option<i64>,
    pub committed: Option<i64>,
    pub lag: Option<i64>,
    pub lag_seconds: Option<f64>,
}

impl KafkaState {
    pub fn of(
        config: &KafkaConfig,
        subscription: &Subscription,
        snapshot: &Snapshot,
        overview: &Overview,
    ) -> Self {
        let by_partition = |definition| -> BTreeMap<(String, i32), f64> {
            let values = snapshot.values(definition).into_iter();
            let ours =
                values.filter(|(labels, _)| labels[0] == config.group && subscription.takes(labels[1]));
            ours.filter_map(|(labels, value)| Some(((labels[1].to_owned(), labels[2].parse().ok()?), value)))
                .collect()
        };
        let (committed, lag, seconds) =
            (by_partition(&GROUP_OFFSET), by_partition(&LAG), by_partition(&LAG_SECONDS));
        let whole = |values: &BTreeMap<(String, i32), f64>, of: &(String, i32)| {
            values.get(of).map(|value| *value as i64)
        };
        let names = subscription.among(overview.topics.iter().map(|topic| topic.name.as_str()));
        let topics: Vec<_> = names.iter().filter_map(|name| overview.topic(name)).collect();
        let is_one = names.len() < 2;
        let partition = |topic: &overview::Topic, found: &overview::Partition| {
            let of = (topic.name.clone(), found.id);
            Partition {
                id: found.id,
                leader: found.leader,
                in_sync: found.in_sync.len(),
                replicas: found.replicas.len(),
                end: found.offsets.map(|(_, end)| end),
                committed: whole(&committed, &of),
                lag: whole(&lag, &of),
                lag_seconds: seconds.get(&of).copied(),
                topic: (!is_one).then_some(of.0),
            }
        };
        let partitions = (!topics.is_empty()).then(|| {
            let all = topics.iter().flat_map(|topic| topic.partitions.iter().map(|it| partition(topic, it)));
            all.collect()
        });
        let members = overview.consumer_groups.as_ref().map(|groups| {
            groups.iter().find(|group| group.name == config.group).map_or(0, |group| group.members)
        });
        Self {
            at: Utc::now(),
            brokers: overview.brokers.len(),
            partitions,
            members,
            dead_letters: overview.topic(&config.dead_letter_topic()).map(overview::Topic::messages),
        }
    }

    pub(super) fn sum(&self, value: impl Fn(&Partition) -> Option<i64>) -> Option<i64> {
        let partitions = self.partitions.as_ref()?;
        let known: Vec<_> = partitions.iter().filter_map(value).collect();
        (!known.is_empty()).then(|| known.iter().sum())
    }

    pub fn lag(&self) -> Option<i64> {
        self.sum(|partition| partition.lag)
    }

    /// Lag in seconds of the partition with the largest one; `None` if that of any partition is unknown.
    pub fn lag_seconds(&self) -> Option<f64> {
        let partitions = self.partitions.as_ref()?.iter().filter(|partition| partition.lag.is_some());
        let seconds: Option<Vec<f64>> = partitions.map(|partition| partition.lag_seconds).collect();
        seconds?.into_iter().reduce(f64::max)
    }
}
