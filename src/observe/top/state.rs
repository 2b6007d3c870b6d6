//! What the view shows: the last answer of each source, and the rates between two answers.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Action;
use super::cassandra::CassandraState;
use super::kafka::KafkaState;
use super::source::{History, Source};
use crate::config::Config;
use crate::kafka::Subscription;

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
    /// The selected row of each table.
    pub node: usize,
    pub partition: usize,
    pub kafka: Source<KafkaState>,
    pub cassandra: Source<CassandraState>,
    /// Messages per second into the topic, and committed by the group.
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
            topic: Subscription::configured_or_built_in(config).to_string(),
            group: config.kafka.group.clone(),
            keyspace: config.cassandra.keyspace.clone(),
            interval,
            now: Utc::now(),
            is_paused: false,
            focus: Focus::Nodes,
            node: 0,
            partition: 0,
            kafka: Source::Asking,
            cassandra: Source::Asking,
            produced: None,
            consumed: None,
            produced_history: History::default(),
            consumed_history: History::default(),
            lag_history: History::default(),
            writes_history: History::default(),
        }
    }

    pub fn act(&mut self, action: Action) {
        let (selected, rows) = match self.focus {
            Focus::Nodes => (&mut self.node, self.cassandra.last().map_or(0, |look| look.nodes.len())),
            Focus::Partitions => {
                let partitions = self.kafka.last().and_then(|look| look.partitions.as_ref());
                (&mut self.partition, partitions.map_or(0, Vec::len))
            }
        };
        match action {
            Action::Up => *selected = selected.saturating_sub(1),
            Action::Down => *selected = (*selected + 1).min(rows.saturating_sub(1)),
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

    pub fn update_kafka(&mut self, look: Result<KafkaState, String>) {
        if self.is_paused {
            return;
        }
        (self.produced, self.consumed) = (None, None);
        let Some(before) = self.kafka.replace(look) else { return };
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

    pub fn update_cassandra(&mut self, look: Result<CassandraState, String>) {
        if self.is_paused {
            return;
        }
        let Some(before) = self.cassandra.replace(look) else { return };
        let Source::Known(now) = &mut self.cassandra else { return };
        let seconds = seconds_between(before.at, now.at);
        for node in &mut now.nodes {
            let Some(earlier) = before.nodes.iter().find(|earlier| earlier.address == node.address) else {
                continue;
            };
            // A restarted node counts from zero.
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

/// `None` if offsets decreased: the topic was recreated, or the group's offsets were reset.
fn rate(before: Option<i64>, now: Option<i64>, seconds: f64) -> Option<f64> {
    let grown = now? - before?;
    (grown >= 0).then_some(grown as f64 / seconds)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::{cassandra::Node, kafka::Partition};
    use super::*;

    pub(crate) fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    pub(crate) fn kafka(seconds: i64, end: i64, committed: i64) -> KafkaState {
        let partition = |id| Partition {
            topic: None,
            id,
            leader: 1,
            in_sync: 1,
            replicas: 1,
            end: Some(end),
            committed: Some(committed),
            lag: Some(end - committed),
            lag_seconds: Some(f64::from(id)),
        };
        KafkaState {
            at: at(seconds),
            brokers: 1,
            partitions: Some((0..3).map(partition).collect()),
            members: Some(1),
            dead_letters: Some(0),
        }
    }

    pub(crate) fn cassandra(seconds: i64, writes: f64) -> CassandraState {
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
        CassandraState { at: at(seconds), nodes: (1..=3).map(node).collect() }
    }

    pub(crate) fn state() -> State {
        let mut state = State::new(&Config::default(), Duration::from_secs(1));
        state.now = at(2);
        state.update_kafka(Ok(kafka(0, 1000, 900)));
        state.update_kafka(Ok(kafka(2, 2000, 1400)));
        state.update_cassandra(Ok(cassandra(0, 100.0)));
        state.update_cassandra(Ok(cassandra(2, 300.0)));
        state
    }

    #[test]
    fn rates_are_growth_divided_by_the_time_between_two_looks() {
        let state = state();
        assert_eq!((state.produced, state.consumed), (Some(1500.0), Some(750.0)));
        assert_eq!(state.kafka.last().unwrap().lag(), Some(1800));
        assert_eq!(state.kafka.last().unwrap().lag_seconds(), Some(2.0));
        assert_eq!(state.cassandra.last().unwrap().nodes[0].write_rate, Some(100.0));
        assert_eq!(state.writes_history.newest(9), [300]);
    }

    #[test]
    fn a_recreated_topic_and_a_restarted_node_have_no_rate_instead_of_a_negative_one() {
        let mut state = state();
        state.update_kafka(Ok(kafka(3, 5, 0)));
        state.update_cassandra(Ok(cassandra(3, 7.0)));
        assert_eq!((state.produced, state.consumed), (None, None));
        assert_eq!(state.cassandra.last().unwrap().nodes[0].write_rate, None);
    }

    #[test]
    fn an_unreachable_source_keeps_its_last_answer_and_has_no_rate_across_the_gap() {
        let mut state = state();
        state.update_kafka(Err("no broker answers".into()));
        assert_eq!(state.produced, None);
        assert!(matches!(&state.kafka, Source::Unreachable { last: Some(_), .. }), "{:?}", state.kafka);
        state.update_kafka(Ok(kafka(60, 9000, 9000)));
        assert_eq!(state.produced, None);
        assert_eq!(state.kafka.last().unwrap().lag(), Some(0));
    }

    #[test]
    fn a_paused_view_does_not_change_and_the_selection_stays_within_the_rows() {
        let mut state = state();
        state.act(Action::Pause);
        state.update_kafka(Ok(kafka(3, 9000, 9000)));
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
