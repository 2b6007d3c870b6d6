//! Kafka from outside, under the names of danielqsj/kafka_exporter, which existing dashboards and alerts use; and each
//! group's lag in seconds, which kafka_exporter does not have.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, warn};

use crate::config::KafkaConfig;
use crate::kafka::Subscription;
use crate::kafka::consumer_groups::{self, Committed};
use crate::kafka::ends::{self, FirstMessage};
use crate::kafka::overview::{Overview, Partition, Topic, overview};
use crate::kafka::reader::Span;
use crate::observe::exporter::snapshot::{Definition, Snapshot};

/// Maximum number of groups per round: each needs a client of its own.
const MAX_GROUPS: usize = 50;

const BY_PARTITION: &[&str] = &["topic", "partition"];
const BY_GROUP: &[&str] = &["consumergroup", "topic", "partition"];

const BROKERS: Definition = Definition::gauge("kafka_brokers", "Brokers in the cluster", &[]);
const BROKER: Definition =
    Definition::gauge("kafka_broker_info", "1 for each broker in the cluster", &["id", "address"]);
const PARTITIONS: Definition =
    Definition::gauge("kafka_topic_partitions", "Partitions of the topic", &["topic"]);
const CURRENT: Definition = Definition::gauge(
    "kafka_topic_partition_current_offset",
    "Offset after the last message of the partition",
    BY_PARTITION,
);
const OLDEST: Definition = Definition::gauge(
    "kafka_topic_partition_oldest_offset",
    "Offset of the first message that the partition still keeps",
    BY_PARTITION,
);
const LEADER: Definition = Definition::gauge(
    "kafka_topic_partition_leader",
    "Id of the broker that leads the partition, -1 if it has no leader",
    BY_PARTITION,
);
const REPLICAS: Definition =
    Definition::gauge("kafka_topic_partition_replicas", "Replicas of the partition", BY_PARTITION);
const IN_SYNC: Definition = Definition::gauge(
    "kafka_topic_partition_in_sync_replica",
    "Replicas of the partition that are in sync",
    BY_PARTITION,
);
const PREFERRED: Definition = Definition::gauge(
    "kafka_topic_partition_leader_is_preferred",
    "1 if the preferred broker leads the partition, else 0",
    BY_PARTITION,
);
const UNDER_REPLICATED: Definition = Definition::gauge(
    "kafka_topic_partition_under_replicated_partition",
    "1 if fewer replicas are in sync than the partition has, else 0",
    BY_PARTITION,
);
pub const MEMBERS: Definition =
    Definition::gauge("kafka_consumergroup_members", "Current members of the group", &["consumergroup"]);
pub const GROUP_OFFSET: Definition = Definition::gauge(
    "kafka_consumergroup_current_offset",
    "Offset after the last message that the group has committed",
    BY_GROUP,
);
pub const LAG: Definition = Definition::gauge(
    "kafka_consumergroup_lag",
    "Messages of the partition that the group has not committed; for the configured group and topic also before the \
     first commit, counted from the oldest message",
    BY_GROUP,
);
const LAG_SUM: Definition = Definition::gauge(
    "kafka_consumergroup_lag_sum",
    "Messages of the topic that the group has not committed",
    &["consumergroup", "topic"],
);
pub const LAG_SECONDS: Definition = Definition::gauge(
    "kafka_consumergroup_lag_seconds",
    "Age of the first message that the group has not committed: the current time minus the message's timestamp, which \
     its producer set; 0 if everything is committed",
    BY_GROUP,
);

pub const DEFINITIONS: [Definition; 15] = [
    BROKERS,
    BROKER,
    PARTITIONS,
    CURRENT,
    OLDEST,
    LEADER,
    REPLICAS,
    IN_SYNC,
    PREFERRED,
    UNDER_REPLICATED,
    MEMBERS,
    GROUP_OFFSET,
    LAG,
    LAG_SUM,
    LAG_SECONDS,
];

/// Looks at Kafka, round by round.
pub struct Watch {
    config: KafkaConfig,
    /// What the configured group reads.
    subscription: Subscription,
    requested: Vec<String>,
    timeout: Duration,
    /// The timestamp of the message at each group's position; a group that is stuck stays at the same message.
    stamps: HashMap<Position, i64>,
    /// Groups that the last look failed to read, each with the reason.
    failures: Vec<(String, String)>,
}

/// A message: topic, partition, offset.
type Position = (String, i32, i64);

impl Watch {
    pub fn new(config: &KafkaConfig, groups: Vec<String>, timeout: Duration) -> Self {
        let mut config = config.clone();
        config.request_timeout = config.request_timeout.min(timeout);
        let subscription = Subscription::new(&config, None);
        Self {
            config,
            subscription,
            requested: groups,
            timeout,
            stamps: HashMap::new(),
            failures: Vec::new(),
        }
    }

    /// The configured group reads these topics.
    #[must_use]
    pub fn reading(self, subscription: Subscription) -> Self {
        Self { subscription, ..self }
    }

    /// What was found; an error where Kafka does not answer.
    pub async fn look(&mut self) -> Result<(Snapshot, Overview), crate::kafka::Error> {
        let mut snapshot = Snapshot::default();
        let overview = overview(&self.config).await?;
        describe(&mut snapshot, &overview);
        let deadline = Instant::now() + self.timeout;
        let (mut stamps, mut failures) = (HashMap::new(), Vec::new());
        for group in self.groups(&overview) {
            // A group that is not read in time is read by the next round.
            let looked = self.look_at_group(&mut snapshot, &overview, &group, &mut stamps, deadline);
            match tokio::time::timeout_at(deadline, looked).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    debug!(group, %error, "cannot read what the group has committed");
                    failures.push((group, error.to_string()));
                }
                Err(_) => {
                    warn!(
                        group,
                        "reading the groups' positions took too long; the remaining groups are left out of this round"
                    );
                    failures.push((group, format!("no answer within {:?}", self.timeout)));
                    break;
                }
            }
        }
        (self.stamps, self.failures) = (stamps, failures);
        Ok((snapshot, overview))
    }

    /// Why the last look failed to read a group, if it did.
    pub fn failure_of(&self, group: &str) -> Option<&str> {
        self.failures.iter().find(|(name, _)| name == group).map(|(_, failure)| failure.as_str())
    }

    fn groups(&self, overview: &Overview) -> Vec<String> {
        if !self.requested.is_empty() {
            return self.requested.clone();
        }
        let listed = overview.consumer_groups.iter().flatten().map(|group| group.name.clone());
        let mut groups: BTreeSet<String> = listed.collect();
        groups.remove(&self.config.group);
        if groups.len() >= MAX_GROUPS {
            warn!(
                "{} consumer groups, only {MAX_GROUPS} are read (name the relevant ones with --group)",
                groups.len()
            );
        }
        // The configured group comes first, so that it is read even if time runs out.
        std::iter::once(self.config.group.clone()).chain(groups).take(MAX_GROUPS).collect()
    }

    async fn look_at_group(
        &self,
        snapshot: &mut Snapshot,
        overview: &Overview,
        group: &str,
        stamps: &mut HashMap<Position, i64>,
        deadline: Instant,
    ) -> Result<(), crate::kafka::Error> {
        let config = KafkaConfig { group: group.to_owned(), ..self.config.clone() };
        let topics = overview
            .topics
            .iter()
            .map(|topic| (topic.name.clone(), i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX)));
        let committed = consumer_groups::committed_of_topics(&config, topics.collect()).await?;
        for (topic, committed) in overview.topics.iter().zip(committed) {
            // The configured group has the whole topic to read before its first commit; of other groups it is not
            // known which topics they read.
            let is_ours = group == self.config.group && self.subscription.takes(&topic.name);
            let mut lags = lags(topic, &committed, is_ours);
            if lags.is_empty() {
                continue;
            }
            // A little before the deadline, so that the messages are counted even if their age is not known in time.
            let end = deadline - self.timeout / 10;
            if tokio::time::timeout_at(end, self.stamp(&config, topic, &mut lags, stamps)).await.is_err() {
                debug!(group, topic = topic.name, "the oldest uncommitted messages were not read in time");
            }
            describe_lags(snapshot, group, topic, &lags, stamps);
        }
        Ok(())
    }

    /// Adds the timestamps of the messages at the positions that are behind. Where no message is left, only transaction
    /// markers, nothing is behind.
    async fn stamp(
        &self,
        config: &KafkaConfig,
        topic: &Topic,
        lags: &mut [Lag],
        stamps: &mut HashMap<Position, i64>,
    ) {
        let mut unknown = Vec::new();
        for lag in lags.iter().filter(|lag| lag.messages > 0) {
            let position = (topic.name.clone(), lag.partition, lag.next);
            match self.stamps.get(&position) {
                Some(stamp) => {
                    stamps.insert(position, *stamp);
                }
                None => unknown.push(Span {
                    partition: lag.partition,
                    from: lag.next,
                    to: lag.next + lag.messages,
                }),
            }
        }
        if !unknown.is_empty() {
            let (config, name, spans) = (config.clone(), topic.name.clone(), unknown.clone());
            match tokio::task::spawn_blocking(move || first_messages(config, &name, &spans)).await {
                Ok(Ok(found)) => {
                    for Span { partition, from, .. } in unknown {
                        match found.get(&partition) {
                            Some(first) => {
                                stamps.insert((topic.name.clone(), partition, from), first.timestamp);
                            }
                            None => lags
                                .iter_mut()
                                .filter(|lag| lag.partition == partition)
                                .for_each(|lag| lag.messages = 0),
                        }
                    }
                }
                Ok(Err(error)) => {
                    debug!(topic = topic.name, %error, "cannot read the oldest uncommitted messages");
                }
                Err(error) => debug!(%error, "reading messages ended early"),
            }
        }
    }
}

/// How far a group is behind in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Lag {
    partition: i32,
    committed: Option<i64>,
    /// Offset of the first uncommitted message, if there is one.
    next: i64,
    messages: i64,
}

fn lags(topic: &Topic, committed: &Committed, is_ours: bool) -> Vec<Lag> {
    let lag = |(partition, committed): (&Partition, &Option<i64>)| {
        let (oldest, end) = partition.offsets?;
        if committed.is_none() && !is_ours {
            return None;
        }
        // Messages that retention has deleted no longer count as lag.
        let next = committed.unwrap_or(oldest).max(oldest);
        Some(Lag { partition: partition.id, committed: *committed, next, messages: (end - next).max(0) })
    };
    topic.partitions.iter().zip(committed).filter_map(lag).collect()
}

/// The first message of each span.
fn first_messages(
    mut config: KafkaConfig,
    topic: &str,
    spans: &[Span],
) -> Result<HashMap<i32, FirstMessage>, crate::kafka::Error> {
    // One message per partition is needed, but a broker sends at least one batch. The rest of that batch would delay
    // the other partitions by a second each.
    let tuning =
        [("fetch.message.max.bytes", "1024"), ("queued.min.messages", "1"), ("fetch.queue.backoff.ms", "5")];
    for (key, value) in tuning {
        config.properties.insert(key.into(), value.into());
    }
    ends::first_messages(&config, topic, spans)
}

fn describe(snapshot: &mut Snapshot, overview: &Overview) {
    snapshot.set(&BROKERS, &[], overview.brokers.len() as f64);
    for broker in &overview.brokers {
        snapshot.set(&BROKER, &[&broker.id.to_string(), &broker.address], 1.0);
    }
    for topic in &overview.topics {
        snapshot.set(&PARTITIONS, &[&topic.name], topic.partitions.len() as f64);
        for partition in &topic.partitions {
            let number = partition.id.to_string();
            let labels = [topic.name.as_str(), number.as_str()];
            let truth = |truth: bool| f64::from(u8::from(truth));
            if let Some((oldest, end)) = partition.offsets {
                snapshot.set(&OLDEST, &labels, oldest as f64);
                snapshot.set(&CURRENT, &labels, end as f64);
            }
            snapshot.set(&LEADER, &labels, f64::from(partition.leader));
            snapshot.set(&REPLICAS, &labels, partition.replicas.len() as f64);
            snapshot.set(&IN_SYNC, &labels, partition.in_sync.len() as f64);
            snapshot.set(&PREFERRED, &labels, truth(partition.is_led_by_preferred()));
            snapshot.set(&UNDER_REPLICATED, &labels, truth(partition.is_under_replicated()));
        }
    }
    for group in overview.consumer_groups.iter().flatten() {
        snapshot.set(&MEMBERS, &[&group.name], group.members as f64);
    }
}

fn describe_lags(
    snapshot: &mut Snapshot,
    group: &str,
    topic: &Topic,
    lags: &[Lag],
    stamps: &HashMap<Position, i64>,
) {
    let now = chrono::Utc::now().timestamp_millis();
    for lag in lags {
        let number = lag.partition.to_string();
        let labels = [group, topic.name.as_str(), number.as_str()];
        if let Some(committed) = lag.committed {
            snapshot.set(&GROUP_OFFSET, &labels, committed as f64);
        }
        snapshot.set(&LAG, &labels, lag.messages as f64);
        let stamp = stamps.get(&(topic.name.clone(), lag.partition, lag.next));
        let behind = match (lag.messages, stamp) {
            (0, _) => Some(0),
            (_, stamp) => stamp.map(|stamp| (now - stamp).max(0)),
        };
        if let Some(behind) = behind {
            snapshot.set(&LAG_SECONDS, &labels, behind as f64 / 1000.0);
        }
    }
    let sum: i64 = lags.iter().map(|lag| lag.messages).sum();
    snapshot.set(&LAG_SUM, &[group, &topic.name], sum as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(offsets: &[Option<(i64, i64)>]) -> Topic {
        let partitions = offsets.iter().zip(0..).map(|(offsets, id)| Partition {
            id,
            leader: if offsets.is_some() { 1 } else { -1 },
            replicas: vec![1, 2, 3],
            in_sync: vec![1, 2],
            offsets: *offsets,
        });
        Topic { name: "readings".into(), partitions: partitions.collect() }
    }

    #[test]
    fn a_group_without_a_commit_is_behind_by_the_whole_topic_if_it_is_the_configured_one() {
        let topic = topic(&[Some((10, 30)), Some((0, 5)), None]);
        let committed = vec![None, Some(5), Some(1)];
        let messages = |is_ours| {
            lags(&topic, &committed, is_ours)
                .iter()
                .map(|lag| (lag.partition, lag.messages))
                .collect::<Vec<_>>()
        };
        assert_eq!(messages(true), [(0, 20), (1, 0)]);
        assert_eq!(messages(false), [(1, 0)]);
    }

    #[test]
    fn deleted_messages_and_commits_beyond_the_end_make_no_lag() {
        let topic = topic(&[Some((10, 30)), Some((0, 5))]);
        let lags = lags(&topic, &vec![Some(3), Some(9)], false);
        assert_eq!(lags.iter().map(|lag| (lag.next, lag.messages)).collect::<Vec<_>>(), [(10, 20), (9, 0)]);
    }

    #[test]
    fn lag_in_seconds_is_the_age_of_the_first_uncommitted_message() {
        let topic = topic(&[Some((0, 30)), Some((0, 5)), Some((0, 5))]);
        let lags = lags(&topic, &vec![Some(10), Some(5), Some(1)], false);
        let minute_ago = chrono::Utc::now().timestamp_millis() - 60_000;
        let stamps = HashMap::from([(("readings".to_owned(), 0, 10), minute_ago)]);
        let mut snapshot = Snapshot::default();
        describe_lags(&mut snapshot, "g", &topic, &lags, &stamps);
        let text = snapshot.into_text();
        let seconds = |partition: &str| {
            let start = format!(
                "kafka_consumergroup_lag_seconds{{consumergroup=\"g\",topic=\"readings\",partition=\"{partition}\"}} "
            );
            text.lines().find_map(|line| line.strip_prefix(&start)).map(|value| value.parse::<f64>().unwrap())
        };
        assert!(seconds("0").is_some_and(|seconds| (60.0..65.0).contains(&seconds)), "{text}");
        assert_eq!(seconds("1"), Some(0.0));
        // An unknown lag is not a lag of zero.
        assert_eq!(seconds("2"), None);
        assert!(text.contains("kafka_consumergroup_lag_sum{consumergroup=\"g\",topic=\"readings\"} 24"));
    }
}
