//! Kafka at one moment.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::config::KafkaConfig;
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
    pub fn of(config: &KafkaConfig, snapshot: &Snapshot, overview: &Overview) -> Self {
        let by_partition = |definition| -> BTreeMap<i32, f64> {
            let values = snapshot.values(definition).into_iter();
            let ours = values.filter(|(labels, _)| labels[0] == config.group && labels[1] == config.topic);
            ours.filter_map(|(labels, value)| Some((labels[2].parse().ok()?, value))).collect()
        };
        let (committed, lag, seconds) =
            (by_partition(&GROUP_OFFSET), by_partition(&LAG), by_partition(&LAG_SECONDS));
        let whole = |values: &BTreeMap<i32, f64>, id| values.get(&id).map(|value| *value as i64);
        let partitions = overview.topic(&config.topic).map(|topic| {
            let partition = |found: &overview::Partition| Partition {
                id: found.id,
                leader: found.leader,
                in_sync: found.in_sync.len(),
                replicas: found.replicas.len(),
                end: found.offsets.map(|(_, end)| end),
                committed: whole(&committed, found.id),
                lag: whole(&lag, found.id),
                lag_seconds: seconds.get(&found.id).copied(),
            };
            topic.partitions.iter().map(partition).collect()
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
