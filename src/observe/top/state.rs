//! What the view shows: the last look at each side, and the rates between looks.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Action;
use crate::config::{Config, KafkaConfig};
use crate::kafka::overview::Overview;
use crate::observe::exporter::cassandra::{LATENCY, LOAD, NODE_UP, POOL_PENDING, REQUESTS};
use crate::observe::exporter::kafka::{GROUP_OFFSET, LAG, LAG_SECONDS};
use crate::observe::exporter::snapshot::Sheet;

/// As wide as any terminal's sparkline.
const MOST_HISTORY: usize = 512;

/// Kafka at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KafkaLook {
    pub at: DateTime<Utc>,
    pub brokers: usize,
    /// `None` where there is no such topic.
    pub partitions: Option<Vec<Partition>>,
    /// Members of the group; `None` where they may not be listed.
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

impl KafkaLook {
    pub fn of(config: &KafkaConfig, sheet: &Sheet, overview: &Overview) -> Self {
        let by_partition = |definition| -> BTreeMap<i32, f64> {
            let values = sheet.values(definition).into_iter();
            let ours = values.filter(|(labels, _)| labels[0] == config.group && labels[1] == config.topic);
            ours.filter_map(|(labels, value)| Some((labels[2].parse().ok()?, value))).collect()
        };
        let (committed, lag, seconds) =
            (by_partition(&GROUP_OFFSET), by_partition(&LAG), by_partition(&LAG_SECONDS));
        let whole = |values: &BTreeMap<i32, f64>, id| values.get(&id).map(|value| *value as i64);
        let partitions = overview.topic(&config.topic).map(|topic| {
            let partition = |found: &crate::kafka::overview::Partition| Partition {
                id: found.id,
                leader: found.leader,
                in_sync: found.in_sync,
                replicas: found.replicas,
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
            dead_letters: overview
                .topic(&config.dead_letter_topic())
                .map(crate::kafka::overview::Topic::messages),
        }
    }

    fn sum(&self, value: impl Fn(&Partition) -> Option<i64>) -> Option<i64> {
        let partitions = self.partitions.as_ref()?;
        let known: Vec<_> = partitions.iter().filter_map(value).collect();
        (!known.is_empty()).then(|| known.iter().sum())
    }

    pub fn lag(&self) -> Option<i64> {
        self.sum(|partition| partition.lag)
    }

    /// Of the partition that is furthest behind; `None` where one of them is not known.
    pub fn lag_seconds(&self) -> Option<f64> {
        let behind = self.partitions.as_ref()?.iter().filter(|partition| partition.lag.is_some());
        let seconds: Option<Vec<f64>> = behind.map(|partition| partition.lag_seconds).collect();
        seconds?.into_iter().reduce(f64::max)
    }
}

/// Cassandra at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CassandraLook {
    pub at: DateTime<Utc>,
    pub nodes: Vec<Node>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Node {
    pub address: String,
    pub is_up: bool,
    pub load_bytes: Option<f64>,
    /// Of the keyspace's tables, in seconds, of about the last five minutes; of the slowest table.
    pub read_p99: Option<f64>,
    pub write_p99: Option<f64>,
    /// Tasks that wait for a thread, over all pools.
    pub pending: Option<f64>,
    /// Mutations and reads of the keyspace that the node has done since it started.
    writes: Option<f64>,
    reads: Option<f64>,
    /// A second, since the look before.
    pub write_rate: Option<f64>,
    pub read_rate: Option<f64>,
}

impl CassandraLook {
    pub fn of(keyspace: &str, sheet: &Sheet) -> Self {
        let nodes = sheet.values(&NODE_UP).into_iter().map(|(labels, up)| {
            let address = labels[0];
            let values = |definition, is_meant: &dyn Fn(&[&str]) -> bool| -> Vec<f64> {
                let values = sheet.values(definition).into_iter();
                values.filter(|(labels, _)| labels[0] == address && is_meant(labels)).map(|it| it.1).collect()
            };
            let sum = |values: Vec<f64>| (!values.is_empty()).then(|| values.iter().sum());
            let max = |values: Vec<f64>| values.into_iter().reduce(f64::max);
            let of = |operation: &'static str| {
                move |labels: &[&str]| labels[1] == operation && labels[2] == keyspace
            };
            let p99 = |operation: &'static str| {
                let of = of(operation);
                max(values(&LATENCY, &|labels| of(labels) && labels[4] == "0.99"))
            };
            Node {
                address: address.to_owned(),
                is_up: up > 0.0,
                load_bytes: sheet.value(&LOAD, &[address]),
                read_p99: max([p99("local_read"), p99("local_scan")].into_iter().flatten().collect()),
                write_p99: p99("local_write"),
                pending: sum(values(&POOL_PENDING, &|_| true)),
                writes: sum(values(&REQUESTS, &of("local_write"))),
                reads: sum(
                    [values(&REQUESTS, &of("local_read")), values(&REQUESTS, &of("local_scan"))].concat()
                ),
                write_rate: None,
                read_rate: None,
            }
        });
        Self { at: Utc::now(), nodes: nodes.collect() }
    }
}

/// A side, and why it is not known now.
#[derive(Debug, Clone, PartialEq)]
pub enum Side<T> {
    /// Nothing has come yet.
    Asking,
    Known(T),
    /// The last that was known, if there was something.
    Away {
        reason: String,
        last: Option<T>,
    },
}

impl<T> Side<T> {
    pub fn last(&self) -> Option<&T> {
        match self {
            Self::Known(look) => Some(look),
            Self::Away { last, .. } => last.as_ref(),
            Self::Asking => None,
        }
    }

    fn into_last(self) -> Option<T> {
        match self {
            Self::Known(look) => Some(look),
            Self::Away { last, .. } => last,
            Self::Asking => None,
        }
    }

    /// Takes the place of what was; gives back the look before, if both are known.
    fn renew(&mut self, look: Result<T, String>) -> Option<T> {
        match (look, std::mem::replace(self, Self::Asking)) {
            (Ok(look), Self::Known(before)) => {
                *self = Self::Known(look);
                Some(before)
            }
            (Ok(look), _) => {
                *self = Self::Known(look);
                None
            }
            (Err(reason), before) => {
                *self = Self::Away { reason, last: before.into_last() };
                None
            }
        }
    }
}

/// Values over time, the newest last.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History(VecDeque<u64>);

impl History {
    pub fn push(&mut self, value: f64) {
        if self.0.len() == MOST_HISTORY {
            self.0.pop_front();
        }
        self.0.push_back(value.max(0.0) as u64);
    }

    /// The newest `width` of them.
    pub fn newest(&self, width: usize) -> Vec<u64> {
        self.0.iter().skip(self.0.len().saturating_sub(width)).copied().collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Focus {
    Nodes,
    Partitions,
}

/// Everything that the screen shows.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    pub topic: String,
    pub group: String,
    pub keyspace: String,
    pub interval: Duration,
    pub now: DateTime<Utc>,
    pub is_paused: bool,
    pub focus: Focus,
    /// The chosen row of each table.
    pub node: usize,
    pub partition: usize,
    pub kafka: Side<KafkaLook>,
    pub cassandra: Side<CassandraLook>,
    /// Messages a second into the topic, and out of it by the group.
    pub produced: Option<f64>,
    pub consumed: Option<f64>,
    pub produced_history: History,
    pub consumed_history: History,
    pub lag_history: History,
    pub writes_history: History,
}

impl State {
    pub fn new(config: &Config, interval: Duration) -> Self {
        Self {
            topic: config.kafka.topic.clone(),
            group: config.kafka.group.clone(),
            keyspace: config.cassandra.keyspace.clone(),
            interval,
            now: Utc::now(),
            is_paused: false,
            focus: Focus::Nodes,
            node: 0,
            partition: 0,
            kafka: Side::Asking,
            cassandra: Side::Asking,
            produced: None,
            consumed: None,
            produced_history: History::default(),
            consumed_history: History::default(),
            lag_history: History::default(),
            writes_history: History::default(),
        }
    }

    pub fn act(&mut self, action: Action) {
        let (chosen, rows) = match self.focus {
            Focus::Nodes => (&mut self.node, self.cassandra.last().map_or(0, |look| look.nodes.len())),
            Focus::Partitions => {
                let partitions = self.kafka.last().and_then(|look| look.partitions.as_ref());
                (&mut self.partition, partitions.map_or(0, Vec::len))
            }
        };
        match action {
            Action::Up => *chosen = chosen.saturating_sub(1),
            Action::Down => *chosen = (*chosen + 1).min(rows.saturating_sub(1)),
            Action::Pause => self.is_paused = !self.is_paused,
            Action::Switch => {
                self.focus = match self.focus {
                    Focus::Nodes => Focus::Partitions,
                    Focus::Partitions => Focus::Nodes,
                }
            }
            Action::Quit => {}
        }
    }

    pub fn take_in_kafka(&mut self, look: Result<KafkaLook, String>) {
        if self.is_paused {
            return;
        }
        (self.produced, self.consumed) = (None, None);
        let Some(before) = self.kafka.renew(look) else { return };
        let Some(now) = self.kafka.last() else { return };
        let seconds = seconds_between(before.at, now.at);
        let produced = rate(before.sum(|it| it.end), now.sum(|it| it.end), seconds);
        let consumed = rate(before.sum(|it| it.committed), now.sum(|it| it.committed), seconds);
        let lag = now.lag();
        (self.produced, self.consumed) = (produced, consumed);
        let histories = [
            (&mut self.produced_history, produced),
            (&mut self.consumed_history, consumed),
            (&mut self.lag_history, lag.map(|lag| lag as f64)),
        ];
        for (history, value) in histories {
            if let Some(value) = value {
                history.push(value);
            }
        }
    }

    pub fn take_in_cassandra(&mut self, look: Result<CassandraLook, String>) {
        if self.is_paused {
            return;
        }
        let Some(before) = self.cassandra.renew(look) else { return };
        let Side::Known(now) = &mut self.cassandra else { return };
        let seconds = seconds_between(before.at, now.at);
        for node in &mut now.nodes {
            let Some(earlier) = before.nodes.iter().find(|earlier| earlier.address == node.address) else {
                continue;
            };
            // A node that started again counts from the beginning.
            let rate = |before: Option<f64>, now: Option<f64>| {
                Some((now? - before?) / seconds).filter(|rate| *rate >= 0.0)
            };
            node.write_rate = rate(earlier.writes, node.writes);
            node.read_rate = rate(earlier.reads, node.reads);
        }
        let writes: Vec<f64> = now.nodes.iter().filter_map(|node| node.write_rate).collect();
        if !writes.is_empty() {
            self.writes_history.push(writes.iter().sum());
        }
    }
}

fn seconds_between(before: DateTime<Utc>, now: DateTime<Utc>) -> f64 {
    ((now - before).num_milliseconds() as f64 / 1000.0).max(0.001)
}

/// `None` where offsets fell: the topic was made anew, or the group's offsets were reset.
fn rate(before: Option<i64>, now: Option<i64>, seconds: f64) -> Option<f64> {
    let grown = now? - before?;
    (grown >= 0).then_some(grown as f64 / seconds)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    pub fn kafka(seconds: i64, end: i64, committed: i64) -> KafkaLook {
        let partition = |id| Partition {
            id,
            leader: 1,
            in_sync: 1,
            replicas: 1,
            end: Some(end),
            committed: Some(committed),
            lag: Some(end - committed),
            lag_seconds: Some(f64::from(id)),
        };
        KafkaLook {
            at: at(seconds),
            brokers: 1,
            partitions: Some((0..3).map(partition).collect()),
            members: Some(1),
            dead_letters: Some(0),
        }
    }

    pub fn cassandra(seconds: i64, writes: f64) -> CassandraLook {
        let node = |number| Node {
            address: format!("127.0.0.{number}:9042"),
            is_up: number != 3,
            load_bytes: Some(1e9),
            read_p99: Some(0.004),
            write_p99: Some(0.0009),
            pending: Some(2.0),
            writes: Some(writes),
            reads: Some(10.0),
            write_rate: None,
            read_rate: None,
        };
        CassandraLook { at: at(seconds), nodes: (1..=3).map(node).collect() }
    }

    pub fn state() -> State {
        let mut state = State::new(&Config::default(), Duration::from_secs(1));
        state.now = at(2);
        state.take_in_kafka(Ok(kafka(0, 1000, 900)));
        state.take_in_kafka(Ok(kafka(2, 2000, 1400)));
        state.take_in_cassandra(Ok(cassandra(0, 100.0)));
        state.take_in_cassandra(Ok(cassandra(2, 300.0)));
        state
    }

    #[test]
    fn rates_are_growth_by_the_time_between_two_looks() {
        let state = state();
        assert_eq!((state.produced, state.consumed), (Some(1500.0), Some(750.0)));
        assert_eq!(state.kafka.last().unwrap().lag(), Some(1800));
        assert_eq!(state.kafka.last().unwrap().lag_seconds(), Some(2.0));
        assert_eq!(state.cassandra.last().unwrap().nodes[0].write_rate, Some(100.0));
        assert_eq!(state.writes_history.newest(9), [300]);
    }

    #[test]
    fn a_topic_made_anew_and_a_node_started_again_have_no_rate_and_no_negative_one() {
        let mut state = state();
        state.take_in_kafka(Ok(kafka(3, 5, 0)));
        state.take_in_cassandra(Ok(cassandra(3, 7.0)));
        assert_eq!((state.produced, state.consumed), (None, None));
        assert_eq!(state.cassandra.last().unwrap().nodes[0].write_rate, None);
    }

    #[test]
    fn an_away_side_keeps_what_was_last_known_and_makes_no_rate_over_the_gap() {
        let mut state = state();
        state.take_in_kafka(Err("no broker answers".into()));
        assert_eq!(state.produced, None);
        assert!(matches!(&state.kafka, Side::Away { last: Some(_), .. }), "{:?}", state.kafka);
        state.take_in_kafka(Ok(kafka(60, 9000, 9000)));
        assert_eq!(state.produced, None);
        assert_eq!(state.kafka.last().unwrap().lag(), Some(0));
    }

    #[test]
    fn paused_it_stands_still_and_the_choice_stays_within_the_rows() {
        let mut state = state();
        state.act(Action::Pause);
        state.take_in_kafka(Ok(kafka(3, 9000, 9000)));
        assert_eq!(state.kafka.last().unwrap().lag(), Some(1800));
        for _ in 0..9 {
            state.act(Action::Down);
        }
        assert_eq!(state.node, 2);
        state.act(Action::Switch);
        state.act(Action::Up);
        assert_eq!((state.partition, state.focus), (0, Focus::Partitions));
    }

    #[test]
    fn an_unknown_age_in_one_partition_makes_the_whole_age_unknown() {
        let mut look = kafka(0, 10, 5);
        look.partitions.as_mut().unwrap()[1].lag_seconds = None;
        assert_eq!(look.lag_seconds(), None);
    }
}
