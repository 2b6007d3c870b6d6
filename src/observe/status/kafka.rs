//! The configured brokers, topic and dead letters, and the group's lag.

use std::time::Duration;

use serde::Serialize;

use super::Section;
use crate::config::KafkaConfig;
use crate::kafka::losses::{self, LostMessages};
use crate::kafka::overview::{self, Overview};
use crate::kafka::{Error, Subscription, consumer_groups, topics};
use crate::observe::exporter::kafka::{LAG, LAG_SECONDS, Watch};
use crate::observe::exporter::snapshot::Snapshot;
use crate::output::text::{self, one_or_many, plural};

/// How long a broker may take to answer when it is asked by itself.
const BROKER_DEADLINE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Kafka {
    pub brokers: Vec<Broker>,
    /// The topic that `ingest` reads; the first of them where a mapping names several.
    pub topic: Topic,
    /// The others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other_topics: Vec<Topic>,
    pub dead_letters: Topic,
    pub group: Group,
    #[serde(skip)]
    pub remarks: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Broker {
    /// `None` if only the configuration names it.
    pub id: Option<i32>,
    pub address: String,
    /// Whether it answered, when asked by itself.
    pub answers: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Topic {
    pub name: String,
    pub exists: bool,
    pub partitions: usize,
    /// Lowest number of replicas of any partition.
    pub replicas: usize,
    /// Partitions with fewer replicas in sync than they have, or with one on a broker that does not answer.
    pub under_replicated: Vec<i32>,
    /// Partitions without a leader, or with one that does not answer: they cannot be read or written now.
    pub leaderless: Vec<i32>,
    /// Messages that the topic currently holds.
    pub messages: i64,
    /// Why nothing is known about it, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Group {
    pub name: String,
    /// Current members; `None` if they cannot be listed: this user may not, or not every broker answers.
    pub members: Option<usize>,
    /// Messages that it has not committed; `None` if that could not be read.
    pub lag_messages: Option<i64>,
    /// Age of the oldest of them; `None` if that could not be read.
    pub lag_seconds: Option<f64>,
    /// Messages that Kafka deleted before `ingest` had read them, as it noted.
    pub lost: Vec<LostMessages>,
    /// Why `ingest` cannot join it, if so: another program uses it.
    pub in_use: Option<String>,
}

impl Topic {
    /// `silent`: brokers that do not answer. Until the others have elected a leader in their place, if they can, they are
    /// still listed as leaders and as in sync.
    fn of(name: &str, overview: &Overview, silent: &[i32]) -> Self {
        let Some(topic) = overview.topic(name) else {
            return Self { name: name.to_owned(), ..Self::default() };
        };
        let which = |is_meant: &dyn Fn(&&overview::Partition) -> bool| {
            topic.partitions.iter().filter(is_meant).map(|partition| partition.id).collect()
        };
        Self {
            name: name.to_owned(),
            exists: true,
            partitions: topic.partitions.len(),
            replicas: topic.partitions.iter().map(|partition| partition.replicas.len()).min().unwrap_or(0),
            under_replicated: which(&|partition| {
                partition.is_under_replicated() || partition.in_sync.iter().any(|id| silent.contains(id))
            }),
            leaderless: which(&|partition| partition.leader < 0 || silent.contains(&partition.leader)),
            messages: topic.messages(),
            unknown: None,
        }
    }

    fn attention(&self) -> Vec<String> {
        let name = &self.name;
        let mut attention = Vec::new();
        if let Some(unknown) = &self.unknown {
            attention.push(unknown.clone());
        } else if !self.exists {
            attention.push(format!("the Kafka topic {name} does not exist (run `iotctl schema apply`)"));
        }
        if !self.leaderless.is_empty() {
            attention.push(format!(
                "topic {name}: partitions {:?} have no leader (start the brokers that hold their replicas)",
                self.leaderless
            ));
        }
        if !self.under_replicated.is_empty() {
            attention.push(format!(
                "topic {name}: partitions {:?} have replicas that are not in sync (start the brokers, or see their logs)",
                self.under_replicated
            ));
        }
        attention
    }
}

impl Kafka {
    /// Every topic that `ingest` reads.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        std::iter::once(&self.topic).chain(&self.other_topics)
    }

    pub fn attention(&self, old_lag_seconds: f64) -> Vec<String> {
        let silent = self.brokers.iter().filter(|broker| !broker.answers);
        let mut attention: Vec<_> = silent
            .map(|broker| {
                format!("the Kafka broker at {} does not answer (start it, or see its log)", broker.address)
            })
            .collect();
        attention.extend(self.topics().flat_map(Topic::attention));
        attention.extend(self.dead_letters.attention());
        let Group { name, members, lag_messages, lag_seconds, lost, in_use } = &self.group;
        let messages = lag_messages.unwrap_or(0);
        let age = lag_seconds.map(|seconds| format!(", the oldest for {}", age(seconds))).unwrap_or_default();
        if messages > 0 && *members == Some(0) {
            attention.push(format!(
                "no ingest runs in group {name} and {} waiting{age} (start `iotctl ingest`)",
                one_or_many(messages, "message is", "messages are")
            ));
        } else if messages > 0 && lag_seconds.is_some_and(|seconds| seconds > old_lag_seconds) {
            attention.push(format!(
                "group {name} is {} behind{age} (see `iotctl top`; start another ingest, or see the log of the running one)",
                plural(messages, "message")
            ));
        }
        attention.extend(in_use.clone());
        if let Some(lost) = losses::describe(lost) {
            attention.push(format!(
                "group {name} lost {lost}: Kafka deleted them before they were read (see `iotctl doctor`)"
            ));
        }
        attention
    }
}

/// The two largest units: "2h 3m", "41s".
pub fn age(seconds: f64) -> String {
    text::largest_units(seconds.max(0.0) as u64)
}

pub async fn look(config: &KafkaConfig, subscription: Subscription, timeout: Duration) -> Section<Kafka> {
    let configured = &config.bootstrap_servers;
    let config = KafkaConfig {
        request_timeout: config.request_timeout.min(timeout),
        bootstrap_servers: answering(config).await,
        ..config.clone()
    };
    let mut watch = Watch::new(&config, vec![config.group.clone()], timeout).reading(subscription.clone());
    let (snapshot, overview) = match watch.look().await {
        Ok(found) => found,
        Err(error) => return Section::unknown_because(error),
    };
    let brokers = brokers(&config, configured, &overview).await;
    let mut kafka = of(&config, &subscription, (&snapshot, &overview), brokers);
    let [topic, dead_letters] = [&mut kafka.topic, &mut kafka.dead_letters];
    tokio::join!(explain(&config, topic), explain(&config, dead_letters));
    // A user without permission for the dead-letter topic may still have all others.
    if let Some(unknown) = kafka.dead_letters.unknown.take() {
        kafka.dead_letters.exists = true;
        kafka.remarks.push(unknown);
    }
    // Where the group's coordinator does not answer, asking again would only take time.
    if watch.failure_of(&kafka.group.name).is_none() {
        let existing = kafka.topics().filter(|topic| topic.exists);
        let counts: Vec<(String, i32)> = existing
            .map(|topic| (topic.name.clone(), i32::try_from(topic.partitions).unwrap_or(i32::MAX)))
            .collect();
        for (topic, count) in counts {
            match consumer_groups::lost_messages(&config, &topic, count).await {
                Ok(lost) => kafka.group.lost.extend(lost),
                Err(error) => {
                    kafka.remarks.push(format!("whether messages were deleted unread is unknown: {error}"));
                    break;
                }
            }
        }
    }
    if kafka.group.lag_messages.is_none() && kafka.topic.exists {
        let group = &kafka.group.name;
        let failure =
            watch.failure_of(group).unwrap_or("the leaders of its partitions did not answer in time");
        kafka.remarks.push(format!("the lag of group {group} is unknown: {failure}"));
    }
    Section::Known(kafka)
}

/// The configured servers that answer. If none does, all of them: the next request reports why.
pub(crate) async fn answering(config: &KafkaConfig) -> Vec<String> {
    let configured = &config.bootstrap_servers;
    if configured.len() < 2 {
        return configured.clone();
    }
    let answering = topics::that_answer(config, configured, BROKER_DEADLINE).await;
    if answering.is_empty() { configured.clone() } else { answering }
}

/// Every broker that the cluster lists or that is configured, and whether it answers. `config` has the servers that were
/// found to answer, of the `configured` ones.
async fn brokers(config: &KafkaConfig, configured: &[String], overview: &Overview) -> Vec<Broker> {
    let answering: Vec<_> = config.bootstrap_servers.iter().map(|server| topics::with_port(server)).collect();
    let silent = configured.iter().map(|server| topics::with_port(server));
    let silent: Vec<_> = silent.filter(|server| !answering.contains(server)).collect();
    let listed = || overview.brokers.iter().map(|broker| &broker.address);
    // A single broker is the one that has listed itself.
    let unknown = listed().filter(|address| overview.brokers.len() > 1 && !answering.contains(*address));
    let unknown: Vec<_> = unknown.filter(|address| !silent.contains(*address)).cloned().collect();
    let found = topics::that_answer(config, &unknown, BROKER_DEADLINE).await;
    let mut brokers: Vec<_> = overview
        .brokers
        .iter()
        .map(|overview::Broker { id, address }| Broker {
            id: Some(*id),
            address: address.clone(),
            answers: !silent.contains(address) && (!unknown.contains(address) || found.contains(address)),
        })
        .collect();
    let unlisted = silent.iter().filter(|server| !listed().any(|address| address == *server));
    brokers.extend(unlisted.map(|server| Broker { id: None, address: server.clone(), answers: false }));
    brokers
}

/// A topic that is not in the list may be hidden from this user: Kafka says so when asked for it by name.
async fn explain(config: &KafkaConfig, topic: &mut Topic) {
    if !topic.exists
        && let Err(error) = topics::describe(config, &topic.name).await
        && !matches!(error, Error::MissingTopic { .. })
    {
        topic.unknown = Some(error.to_string());
    }
}

fn of(
    config: &KafkaConfig,
    subscription: &Subscription,
    (snapshot, overview): (&Snapshot, &Overview),
    brokers: Vec<Broker>,
) -> Kafka {
    let names = subscription.among(overview.topics.iter().map(|topic| topic.name.as_str()));
    let silent = brokers.iter().filter(|broker| !broker.answers).filter_map(|broker| broker.id);
    let silent: Vec<_> = silent.collect();
    let is_ours = |labels: &[&str]| labels[0] == config.group && subscription.takes(labels[1]);
    let values = |definition| {
        let values = snapshot.values(definition).into_iter().filter(|(labels, _)| is_ours(labels));
        values.map(|(_, value)| value).collect::<Vec<_>>()
    };
    let (lags, seconds) = (values(&LAG), values(&LAG_SECONDS));
    // A partition whose oldest message could not be read may have the largest lag.
    let is_whole = !lags.is_empty() && lags.len() == seconds.len();
    let groups = overview.consumer_groups.as_ref();
    let group = groups.and_then(|groups| groups.iter().find(|group| group.name == config.group));
    let members = groups.map(|_| group.map_or(0, |group| group.members));
    let in_use = group.and_then(|group| group.refusal(config)).map(|error| error.to_string());
    Kafka {
        topic: Topic::of(names.first().unwrap_or(&config.topic), overview, &silent),
        other_topics: names.iter().skip(1).map(|name| Topic::of(name, overview, &silent)).collect(),
        dead_letters: Topic::of(&config.dead_letter_topic(), overview, &silent),
        brokers,
        group: Group {
            name: config.group.clone(),
            members,
            lag_messages: (!lags.is_empty()).then(|| lags.iter().sum::<f64>() as i64),
            lag_seconds: is_whole.then(|| seconds.iter().copied().fold(0.0, f64::max)),
            lost: Vec::new(),
            in_use,
        },
        remarks: Vec::new(),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn kafka() -> Kafka {
        let topic = |name: &str, messages| Topic {
            name: name.into(),
            exists: true,
            partitions: 12,
            replicas: 1,
            messages,
            ..Topic::default()
        };
        Kafka {
            brokers: vec![Broker { id: Some(1), address: "127.0.0.1:9092".into(), answers: true }],
            topic: topic("readings", 5000),
            other_topics: Vec::new(),
            dead_letters: topic("readings.dlq", 2),
            group: Group {
                name: "ingest".into(),
                members: Some(1),
                lag_messages: Some(10),
                lag_seconds: Some(0.5),
                lost: Vec::new(),
                in_use: None,
            },
            remarks: Vec::new(),
        }
    }

    #[test]
    fn a_broker_that_does_not_answer_is_named_and_its_partitions_have_no_leader() {
        let mut kafka = kafka();
        assert_eq!(kafka.attention(600.0), Vec::<String>::new());
        let partition = |id, leader| overview::Partition {
            id,
            leader,
            replicas: vec![1, 2],
            in_sync: vec![1, 2],
            offsets: None,
        };
        // The cluster has not noticed yet, or cannot elect another leader.
        let topic =
            overview::Topic { name: "readings".into(), partitions: vec![partition(0, 1), partition(1, 2)] };
        let overview = Overview { topics: vec![topic], ..Overview::default() };
        kafka.topic = Topic::of("readings", &overview, &[2]);
        assert_eq!((&*kafka.topic.leaderless, &*kafka.topic.under_replicated), (&[1][..], &[0, 1][..]));
        kafka.brokers.push(Broker { id: Some(2), address: "127.0.0.2:9092".into(), answers: false });
        let attention = kafka.attention(600.0);
        assert_eq!(attention.len(), 3, "{attention:?}");
        assert!(
            attention[0].starts_with("the Kafka broker at 127.0.0.2:9092 does not answer"),
            "{attention:?}"
        );
    }

    #[test]
    fn a_lag_needs_attention_when_no_ingest_runs_or_it_is_old() {
        let mut kafka = kafka();
        let mut attention = |members, seconds| {
            kafka.group.members = members;
            kafka.group.lag_seconds = seconds;
            kafka.attention(600.0).join("\n")
        };
        assert_eq!(attention(Some(1), Some(599.0)), "");
        // Without permission to list groups, only an old lag is reported.
        assert_eq!(attention(None, Some(1.0)), "");
        assert!(attention(Some(0), Some(3_725.0)).contains("10 messages are waiting, the oldest for 1h 2m"));
        assert!(attention(Some(0), None).contains("10 messages are waiting (start `iotctl ingest`)"));
        assert!(attention(None, Some(601.0)).contains("10 messages behind, the oldest for 10m 1s"));
    }

    #[test]
    fn a_missing_topic_names_schema_apply_and_a_hidden_one_the_permission() {
        let mut kafka = kafka();
        kafka.topic.exists = false;
        assert!(kafka.attention(600.0)[0].contains("run `iotctl schema apply`"));
        kafka.topic.unknown = Some("Kafka does not let this user see it".into());
        assert_eq!(kafka.attention(600.0)[0], "Kafka does not let this user see it");
    }
}
