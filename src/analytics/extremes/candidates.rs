//! The merge behind the ranking: one candidate per sensor and side, from the extremes of partitions and rollups in any
//! order. Pure computation; [`super`] feeds it and looks up the moments that it does not know.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::reading::{Group, Partition};
use crate::series::summary::Measured;
use crate::store::aggregates::SensorExtremes;

/// Which extreme of a sensor's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Highest,
    Lowest,
}

impl Side {
    pub fn name(self) -> &'static str {
        match self {
            Side::Highest => "highest",
            Side::Lowest => "lowest",
        }
    }

    /// `Less` where `left` ranks before `right`.
    fn rank(self, left: f64, right: f64) -> Ordering {
        match self {
            Side::Highest => right.total_cmp(&left),
            Side::Lowest => left.total_cmp(&right),
        }
    }

    fn of(self, extremes: &SensorExtremes) -> f64 {
        let value = match self {
            Side::Highest => extremes.highest,
            Side::Lowest => extremes.lowest,
        };
        // -0.0 and 0.0 are the same value.
        value + 0.0
    }
}

/// Which extremes to keep of those found.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits {
    /// Maximum number of sensors; `None` keeps all.
    pub top: Option<usize>,
    /// Only extremes greater than this.
    pub above: Option<f64>,
    /// Only extremes less than this.
    pub below: Option<f64>,
}

impl Limits {
    fn admit(&self, value: f64) -> bool {
        self.above.is_none_or(|above| value > above) && self.below.is_none_or(|below| value < below)
    }
}

/// A sensor's extreme.
#[derive(Debug, Clone, PartialEq)]
pub struct Extreme {
    pub sensor: Uuid,
    pub value: f64,
    /// The latest moment at which the sensor had this value, in milliseconds since the epoch.
    pub recorded_at: i64,
    /// The group it sent that reading in.
    pub group: Arc<Group>,
}

/// A sensor's extreme so far. Its latest moment is known, or lies in one of the partitions, or both.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Candidate {
    pub value: f64,
    pub known: Option<(i64, Arc<Group>)>,
    pub partitions: Vec<Partition>,
}

impl Candidate {
    fn in_partition(value: f64, partition: &Partition) -> Self {
        Self { value, known: None, partitions: vec![partition.clone()] }
    }

    fn offer_known(&mut self, side: Side, measured: Measured, group: &Arc<Group>) {
        match side.rank(measured.value, self.value) {
            Ordering::Less => {
                let known = Some((measured.at, group.clone()));
                *self = Self { value: measured.value, known, partitions: Vec::new() };
            }
            Ordering::Equal => {
                let is_later = self.known.as_ref().is_none_or(|known| is_later((measured.at, group), known));
                if is_later {
                    self.known = Some((measured.at, group.clone()));
                }
            }
            Ordering::Greater => {}
        }
    }

    fn offer(&mut self, side: Side, value: f64, partition: &Partition) {
        match side.rank(value, self.value) {
            Ordering::Less => *self = Self::in_partition(value, partition),
            Ordering::Equal => self.add(partition),
            Ordering::Greater => {}
        }
    }

    /// Each partition holds the value at or after its start, so a partition that ends before the latest start cannot
    /// hold the latest moment. Only overlapping buckets remain: at most one per bucket width in use.
    fn add(&mut self, partition: &Partition) {
        self.partitions.push(partition.clone());
        let latest_start = self.partitions.iter().map(|partition| partition.bucket.start).max();
        self.partitions.retain(|partition| Some(partition.bucket.end()) > latest_start);
    }
}

/// The extremes of each sensor over all that was merged so far. Memory grows with the number of sensors only.
#[derive(Debug, Default)]
pub struct Extremes {
    highest: HashMap<Uuid, Candidate>,
    lowest: HashMap<Uuid, Candidate>,
}

impl Extremes {
    /// Adds a sensor's extremes within one partition.
    pub fn merge(&mut self, partition: &Partition, extremes: &SensorExtremes) {
        for (side, candidates) in [(Side::Highest, &mut self.highest), (Side::Lowest, &mut self.lowest)] {
            let value = side.of(extremes);
            candidates
                .entry(extremes.sensor)
                .and_modify(|candidate| candidate.offer(side, value, partition))
                .or_insert_with(|| Candidate::in_partition(value, partition));
        }
    }

    /// Adds a sensor's extremes with their moments.
    pub(super) fn merge_known(
        &mut self,
        group: &Arc<Group>,
        sensor: Uuid,
        lowest: Measured,
        highest: Measured,
    ) {
        let sides = [(Side::Highest, &mut self.highest, highest), (Side::Lowest, &mut self.lowest, lowest)];
        for (side, candidates, measured) in sides {
            candidates
                .entry(sensor)
                .and_modify(|candidate| candidate.offer_known(side, measured, group))
                .or_insert_with(|| Candidate {
                    value: measured.value,
                    known: Some((measured.at, group.clone())),
                    partitions: Vec::new(),
                });
        }
    }

    /// Sensors with a value.
    pub fn sensors(&self) -> usize {
        self.highest.len()
    }

    /// The candidates that can be among the winners: the first `top`, and all that tie with the last of those, because
    /// their moments decide.
    pub(super) fn contenders(&self, side: Side, limits: &Limits) -> Vec<(Uuid, &Candidate)> {
        let candidates = match side {
            Side::Highest => &self.highest,
            Side::Lowest => &self.lowest,
        };
        let mut contenders: Vec<_> = candidates
            .iter()
            .filter(|(_, candidate)| limits.admit(candidate.value))
            .map(|(sensor, candidate)| (*sensor, candidate))
            .collect();
        contenders.sort_unstable_by(|(_, left), (_, right)| side.rank(left.value, right.value));
        if let Some(top) = limits.top
            && let Some(last) = top.checked_sub(1).and_then(|last| contenders.get(last))
        {
            let last = last.1.value;
            contenders.retain(|(_, candidate)| side.rank(candidate.value, last) != Ordering::Greater);
        }
        contenders
    }
}

/// Orders extremes by value, then by moment (latest first), then by sensor id, and cuts them to the limit.
pub(super) fn sort(ranked: &mut Vec<Extreme>, side: Side, limits: &Limits) {
    ranked.sort_unstable_by(|left, right| {
        side.rank(left.value, right.value)
            .then_with(|| right.recorded_at.cmp(&left.recorded_at))
            .then_with(|| left.sensor.cmp(&right.sensor))
    });
    ranked.truncate(limits.top.unwrap_or(usize::MAX));
}

/// At the same moment in two groups, the group whose names sort first wins.
pub(super) fn is_later((at, group): (i64, &Arc<Group>), (known_at, known_group): &(i64, Arc<Group>)) -> bool {
    (at, std::cmp::Reverse(group)) > (*known_at, std::cmp::Reverse(known_group))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::reading::Bucket;

    fn partition(start: i64, seconds: i32) -> Partition {
        let group = Arc::new(Group { location: "a".into(), device_type: "b".into() });
        Partition { group, bucket: Bucket { start, seconds } }
    }

    /// (sensor, moment, value); with the moment's bucket known, this is what the raw table holds.
    type Row = (u128, i64, i8);

    /// What the server answers for one partition.
    fn aggregate(rows: &[Row], bucket: Bucket) -> Vec<SensorExtremes> {
        let mut sensors: HashMap<u128, SensorExtremes> = HashMap::new();
        for &(sensor, at, value) in rows.iter().filter(|row| bucket.contains(row.1)) {
            let (value, _) = (f64::from(value), at);
            let entry = sensors.entry(sensor).or_insert(SensorExtremes {
                sensor: Uuid::from_u128(sensor),
                lowest: value,
                highest: value,
            });
            entry.lowest = entry.lowest.min(value);
            entry.highest = entry.highest.max(value);
        }
        sensors.into_values().collect()
    }

    /// The moments that the lookups find.
    fn look_up(rows: &[Row], contenders: Vec<(Uuid, &Candidate)>) -> Vec<Extreme> {
        let moment = |sensor: Uuid, candidate: &Candidate| {
            let holds = |at| candidate.partitions.iter().any(|partition| partition.bucket.contains(at));
            rows.iter()
                .filter(|(id, at, value)| {
                    *id == sensor.as_u128() && holds(*at) && f64::from(*value) == candidate.value
                })
                .map(|row| row.1)
                .max()
        };
        contenders
            .into_iter()
            .map(|(sensor, candidate)| Extreme {
                sensor,
                value: candidate.value,
                recorded_at: moment(sensor, candidate).expect("a candidate's partitions hold its value"),
                group: candidate.partitions[0].group.clone(),
            })
            .collect()
    }

    fn brute_force(rows: &[Row], side: Side, limits: &Limits) -> Vec<(u128, i64, i8)> {
        let mut best: HashMap<u128, (i8, i64)> = HashMap::new();
        for &(sensor, at, value) in rows {
            let entry = best.entry(sensor).or_insert((value, at));
            let better = match side {
                Side::Highest => value > entry.0,
                Side::Lowest => value < entry.0,
            };
            if better || (value == entry.0 && at > entry.1) {
                *entry = (value, at);
            }
        }
        let mut ranked: Vec<_> = best
            .into_iter()
            .filter(|(_, (value, _))| limits.admit(f64::from(*value)))
            .map(|(sensor, (value, at))| (sensor, at, value))
            .collect();
        ranked.sort_by_key(|&(sensor, at, value)| {
            let value = i16::from(value);
            (if side == Side::Highest { -value } else { value }, -at, sensor)
        });
        ranked.truncate(limits.top.unwrap_or(usize::MAX));
        ranked
    }

    proptest! {
        #[test]
        fn merged_partitions_give_what_a_full_scan_gives(
            rows in prop::collection::vec((0u128..6, 0i64..80_000, -3i8..4), 1..120),
            both_widths in any::<bool>(),
            seed in any::<u64>(),
            top in prop::option::of(1usize..5),
            above in prop::option::of(-4i8..4),
            below in prop::option::of(-4i8..4),
        ) {
            // A sensor has one value a moment.
            let rows: Vec<Row> = {
                let unique: HashMap<_, _> = rows.into_iter().map(|(s, at, value)| ((s, at), value)).collect();
                unique.into_iter().map(|((s, at), value)| (s, at, value)).collect()
            };
            let mut partitions: Vec<_> = (0..8).map(|n| partition(n * 10_000, 10)).collect();
            if both_widths {
                partitions.extend((0..4).map(|n| partition(n * 20_000, 20)));
            }
            // Partitions are answered in any order.
            let count = partitions.len();
            partitions.rotate_left((seed % count as u64) as usize);
            let mut extremes = Extremes::default();
            for partition in &partitions {
                for sensor in aggregate(&rows, partition.bucket) {
                    extremes.merge(partition, &sensor);
                }
            }
            let limits = Limits { top, above: above.map(f64::from), below: below.map(f64::from) };
            for side in [Side::Highest, Side::Lowest] {
                let mut found = look_up(&rows, extremes.contenders(side, &limits));
                sort(&mut found, side, &limits);
                let found: Vec<_> =
                    found.iter().map(|e| (e.sensor.as_u128(), e.recorded_at, e.value as i8)).collect();
                prop_assert_eq!(found, brute_force(&rows, side, &limits));
            }
        }

        #[test]
        fn a_value_that_never_changes_does_not_pile_partitions_up(order in any::<u64>()) {
            let mut starts: Vec<i64> = (0..200).collect();
            starts.rotate_left((order % 200) as usize);
            let mut extremes = Extremes::default();
            for n in starts {
                let extreme = SensorExtremes { sensor: Uuid::nil(), lowest: 5.0, highest: 5.0 };
                extremes.merge(&partition(n * 10_000, 10), &extreme);
                extremes.merge(&partition(n / 2 * 20_000, 20), &extreme);
            }
            prop_assert!(extremes.highest[&Uuid::nil()].partitions.len() <= 4);
        }
    }
}
