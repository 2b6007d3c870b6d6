//! The newest values of the sensors of each group, for comparison with their median.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::rules::Peers;
use super::verdict::Verdict;
use super::window::judge_threshold;
use crate::kafka::TopicPartition;
use crate::reading::Reading;

/// Sensors of a group that are remembered; beyond it the values that are too old are dropped.
const MOST: usize = 10_000;
/// In groups of up to this many sensors the median is that of the others at each reading; in larger ones it is that of all,
/// computed again after a sixteenth of them has sent.
const EXACT: usize = 64;

/// The groups of one rule: by location and device type.
#[derive(Debug, Default)]
pub(super) struct Groups(HashMap<String, HashMap<String, Group>>);

/// What a sensor's value is to the others, for after a restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Peer {
    location: String,
    device_type: String,
    at: i64,
    value: f64,
}

#[derive(Debug, Default)]
struct Group {
    values: HashMap<Uuid, Newest>,
    /// The median of all, and for how many more values it is used.
    median: Option<(f64, usize)>,
}

#[derive(Debug, Clone, Copy)]
struct Newest {
    partition: TopicPartition,
    at: i64,
    value: f64,
}

impl Groups {
    /// Judges a value by those of the other sensors of its group, then remembers it.
    pub(super) fn judge(
        &mut self,
        rule: &Peers,
        partition: TopicPartition,
        reading: &Reading<'_>,
        value: f64,
    ) -> Verdict {
        let Self(locations) = self;
        if !locations.get(&*reading.location).is_some_and(|types| types.contains_key(&*reading.device_type)) {
            let types = locations.entry(reading.location.to_string()).or_default();
            types.entry(reading.device_type.to_string()).or_default();
        }
        let group =
            locations.get_mut(&*reading.location).and_then(|types| types.get_mut(&*reading.device_type));
        let Some(group) = group else { return Verdict::UNKNOWN };
        let at = reading.recorded_at;
        let median = group.median_of_others(rule, reading.sensor, at);
        if group.values.len() >= MOST && !group.values.contains_key(&reading.sensor) {
            group.values.retain(|_, newest| at.saturating_sub(newest.at) <= rule.within);
        }
        if group.values.len() < MOST || group.values.contains_key(&reading.sensor) {
            group.values.insert(reading.sensor, Newest { partition, at, value });
        }
        let Some(median) = median else { return Verdict::UNKNOWN };
        let difference = value - median;
        Verdict {
            expected: Some(median),
            measured: Some(difference),
            ..judge_threshold(&rule.limits, difference)
        }
    }

    /// Takes the value of a sensor back.
    pub(super) fn restore(&mut self, partition: TopicPartition, sensor: Uuid, peer: &Peer) {
        let types = self.0.entry(peer.location.clone()).or_default();
        let group = types.entry(peer.device_type.clone()).or_default();
        if group.values.len() < MOST || group.values.contains_key(&sensor) {
            group.values.insert(sensor, Newest { partition, at: peer.at, value: peer.value });
            group.median = None;
        }
    }

    /// Drops the sensors of a partition.
    pub(super) fn forget(&mut self, partition: TopicPartition) {
        for group in self.0.values_mut().flat_map(HashMap::values_mut) {
            group.values.retain(|_, newest| newest.partition != partition);
            group.median = None;
        }
    }
}

impl Peer {
    /// Takes note of a reading's value.
    pub(super) fn note(peer: &mut Option<Box<Self>>, reading: &Reading<'_>, value: f64) {
        let at = reading.recorded_at;
        match peer {
            Some(peer) if peer.location == *reading.location && peer.device_type == *reading.device_type => {
                (peer.at, peer.value) = (at, value);
            }
            _ => {
                let (location, device_type) = (reading.location.to_string(), reading.device_type.to_string());
                *peer = Some(Box::new(Self { location, device_type, at, value }));
            }
        }
    }
}

impl Group {
    fn median_of_others(&mut self, rule: &Peers, sensor: Uuid, at: i64) -> Option<f64> {
        if let Some((median, left)) = &mut self.median
            && *left > 0
        {
            *left -= 1;
            return Some(*median);
        }
        let is_large = self.values.len() > EXACT;
        let is_near = |newest: &Newest| at.abs_diff(newest.at) <= rule.within.unsigned_abs();
        let others =
            self.values.iter().filter(|(of, newest)| (is_large || **of != sensor) && is_near(newest));
        let mut others: Vec<f64> = others.map(|(_, newest)| newest.value).collect();
        // The sensor itself is one of the group.
        if others.len() + 1 < rule.min_sensors {
            self.median = None;
            return None;
        }
        others.sort_unstable_by(f64::total_cmp);
        let half = others.len() / 2;
        let median = match others.len() % 2 {
            1 => others.get(half).copied()?,
            _ => f64::midpoint(*others.get(half.checked_sub(1)?)?, *others.get(half)?),
        };
        self.median = is_large.then_some((median, self.values.len() / 16));
        Some(median)
    }
}
