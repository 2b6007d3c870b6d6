//! Each sensor's own highest and lowest value, ranked.
//!
//! Days and hours that are rolled up come from there, with their moments. Other partitions are aggregated by the
//! server, a bounded number at once, and merged here: one entry a sensor. Then the moment of each extreme that they
//! hold is looked up in the raw rows, of the winners alone. The answer is that of a full scan:
//! values are compared as the 32-bit floats they are stored as, and copies of a reading in overlapping buckets do not
//! count for an extreme.

use std::cell::Cell;
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::analytics::sources::{Coarsest, Plan};
use crate::cassandra::{Error, Session};
use crate::reading::Metric;
use crate::reading::{Group, Partition};
use crate::series::summary::Measured;
use crate::store::aggregates::{self, SensorExtremes};
use crate::store::readings::{self, Names, Slice};
use crate::store::rollups::{self, Detail, Table};
use crate::time::TimeRange;

/// Partitions that each node aggregates at once: work for its processors, so that more would only queue there and
/// run into the server's own deadline.
const AGGREGATES_PER_NODE: usize = 3;
const MOST_AGGREGATES: usize = 24;
/// Moments that are looked up at once, groups whose partitions are listed at once.
const IN_FLIGHT: usize = 12;
/// Hours and days of rollups that are read at once.
const ROLLUPS_IN_FLIGHT: usize = 24;
/// Sensors whose newest reading is looked at for names of other metrics.
const SENSORS_ASKED_FOR_NAMES: usize = 10_000;

/// Which end of a sensor's values.
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
    fn rank(self, left: f32, right: f32) -> Ordering {
        match self {
            Side::Highest => right.total_cmp(&left),
            Side::Lowest => left.total_cmp(&right),
        }
    }

    fn of(self, extremes: &SensorExtremes) -> f32 {
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
    /// The first so many; all where absent.
    pub top: Option<usize>,
    /// Only extremes greater than this.
    pub above: Option<f32>,
    /// Only extremes less than this.
    pub below: Option<f32>,
}

impl Limits {
    fn admit(&self, value: f32) -> bool {
        self.above.is_none_or(|above| value > above) && self.below.is_none_or(|below| value < below)
    }
}

/// A sensor's extreme.
#[derive(Debug, Clone, PartialEq)]
pub struct Extreme {
    pub sensor: Uuid,
    pub value: f32,
    /// The latest moment at which the sensor had this value, in milliseconds since the epoch.
    pub recorded_at: i64,
    /// The group it sent that reading in.
    pub group: Arc<Group>,
}

/// One sensor's extreme so far; its latest moment is known, or lies in one of the partitions, or both.
#[derive(Debug, Clone, PartialEq)]
struct Candidate {
    value: f32,
    known: Option<(i64, Arc<Group>)>,
    partitions: Vec<Partition>,
}

impl Candidate {
    fn in_partition(value: f32, partition: &Partition) -> Self {
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

    fn offer(&mut self, side: Side, value: f32, partition: &Partition) {
        match side.rank(value, self.value) {
            Ordering::Less => *self = Self::in_partition(value, partition),
            Ordering::Equal => self.add(partition),
            Ordering::Greater => {}
        }
    }

    /// Each partition holds the value at or after its start, so one that ends by the latest start cannot hold the
    /// latest moment. What stays are buckets that overlap: as many as there were widths.
    fn add(&mut self, partition: &Partition) {
        self.partitions.push(partition.clone());
        let latest_start = self.partitions.iter().map(|partition| partition.bucket.start).max();
        self.partitions.retain(|partition| Some(partition.bucket.end()) > latest_start);
    }
}

/// Each sensor's extremes over the partitions merged so far. Grows with the number of sensors only.
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
    fn merge_known(&mut self, group: &Arc<Group>, sensor: Uuid, lowest: Measured, highest: Measured) {
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

    /// The candidates that may be among the winners: the first `top` and all that tie with the last of them, since
    /// their moments decide.
    fn contenders(&self, side: Side, limits: &Limits) -> Vec<(Uuid, &Candidate)> {
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

/// How far [`find`] has come. The buckets of groups are listed while others are read, so the numbers grow together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Parts of the answer: raw buckets, and hours and days of rollups.
    pub parts: u64,
    pub parts_done: u64,
    /// Those of the parts that are rollups.
    pub rollups: u64,
}

/// A part of the answer.
enum Part {
    Rollup(Table, Arc<Group>, i64),
    Raw(Partition, TimeRange),
}

/// What a part says of its sensors.
enum Found {
    Rollup(Arc<Group>, Vec<(Uuid, Measured, Measured)>),
    Raw(Partition, Vec<SensorExtremes>),
}

/// Takes the extremes of `groups` in `range` from their rollups, not coarser than `coarsest`, and from the raw rows.
/// `progress` is told whenever it changes.
pub async fn find(
    session: &Session,
    groups: &[Arc<Group>],
    metric: &Metric,
    range: TimeRange,
    coarsest: Coarsest,
    progress: impl Fn(Progress),
) -> Result<Extremes, Error> {
    let state = Cell::new(Progress::default());
    let advance = |listed: usize, rollups: usize, done: u64| {
        let mut now = state.get();
        now.parts += listed as u64;
        now.rollups += rollups as u64;
        now.parts_done += done;
        state.set(now);
        progress(now);
    };
    let parts = stream::iter(groups)
        .map(async |group| Ok::<_, Error>((group, Plan::make(session, group, range, coarsest).await?)))
        .buffer_unordered(IN_FLIGHT)
        .map_ok(|(group, plan)| {
            let Plan { days, hours, raw } = plan;
            advance(days.len() + hours.len() + raw.len(), days.len() + hours.len(), 0);
            let days = days.into_iter().map(|day| Part::Rollup(Table::Daily, group.clone(), day));
            let hours = hours.into_iter().map(|hour| Part::Rollup(Table::Hourly, group.clone(), hour));
            let raw = raw.into_iter().map(|(partition, part)| Part::Raw(partition, part));
            stream::iter(days.chain(hours).chain(raw).collect::<Vec<_>>()).map(Ok::<_, Error>)
        })
        .try_flatten();
    let nodes = session.nodes().iter().filter(|node| node.is_up).count();
    let aggregates = Semaphore::new((AGGREGATES_PER_NODE * nodes.max(1)).min(MOST_AGGREGATES));
    let mut pages = std::pin::pin!(
        parts
            .map_ok(|part| sensors_of(session, part, metric, &aggregates))
            .try_buffer_unordered(ROLLUPS_IN_FLIGHT)
    );
    let mut extremes = Extremes::default();
    while let Some(found) = pages.try_next().await? {
        match found {
            Found::Rollup(group, sensors) => {
                for (sensor, lowest, highest) in sensors {
                    extremes.merge_known(&group, sensor, lowest, highest);
                }
            }
            Found::Raw(partition, sensors) => {
                for sensor in &sensors {
                    extremes.merge(&partition, sensor);
                }
            }
        }
        advance(0, 0, 1);
    }
    Ok(extremes)
}

async fn sensors_of(
    session: &Session,
    part: Part,
    metric: &Metric,
    aggregates: &Semaphore,
) -> Result<Found, Error> {
    match part {
        Part::Rollup(table, group, start) => {
            let mut pages =
                rollups::summaries(session, table, &group, start, Some(metric), None, Detail::WithoutSketch)
                    .await?;
            let mut sensors = Vec::new();
            while let Some(page) = pages.next::<Uuid>().await? {
                sensors.extend(
                    page.iter().map(|stored| (stored.key, stored.summary.lowest, stored.summary.highest)),
                );
            }
            Ok(Found::Rollup(group, sensors))
        }
        Part::Raw(partition, range) => {
            // The semaphore is never closed.
            let _permit = aggregates.acquire().await;
            let slice = Slice { from: range.from, to: range.to, sensor: None };
            let mut pages = aggregates::extremes(session, &partition, slice, metric).await?;
            let mut sensors = Vec::new();
            while let Some(page) = pages.next().await? {
                sensors.extend(page);
            }
            Ok(Found::Raw(partition, sensors))
        }
    }
}

/// The winners of one side in their order: by value, then the latest moment first, then sensor id.
pub async fn rank(
    session: &Session,
    extremes: &Extremes,
    metric: &Metric,
    range: TimeRange,
    side: Side,
    limits: &Limits,
) -> Result<Vec<Extreme>, Error> {
    if limits.top == Some(0) {
        return Ok(Vec::new());
    }
    let lookups = stream::iter(extremes.contenders(side, limits))
        .map(|(sensor, candidate)| moment_of(session, sensor, candidate, metric, range));
    let found: Vec<Option<Extreme>> = lookups.buffer_unordered(IN_FLIGHT).try_collect().await?;
    let mut ranked: Vec<Extreme> = found.into_iter().flatten().collect();
    sort(&mut ranked, side, limits);
    Ok(ranked)
}

fn sort(ranked: &mut Vec<Extreme>, side: Side, limits: &Limits) {
    ranked.sort_unstable_by(|left, right| {
        side.rank(left.value, right.value)
            .then_with(|| right.recorded_at.cmp(&left.recorded_at))
            .then_with(|| left.sensor.cmp(&right.sensor))
    });
    ranked.truncate(limits.top.unwrap_or(usize::MAX));
}

/// Looks the latest moment of an extreme up, where it is not known; `None` where the row expired since it was aggregated.
async fn moment_of(
    session: &Session,
    sensor: Uuid,
    candidate: &Candidate,
    metric: &Metric,
    range: TimeRange,
) -> Result<Option<Extreme>, Error> {
    let slice = Slice { from: range.from, to: range.to, sensor: Some(sensor) };
    let mut latest = candidate.known.clone();
    for partition in &candidate.partitions {
        let moment = aggregates::last_moment_of(session, partition, slice, metric, candidate.value).await?;
        let Some(recorded_at) = moment else { continue };
        let group = &partition.group;
        if latest.as_ref().is_none_or(|latest| is_later((recorded_at, group), latest)) {
            latest = Some((recorded_at, group.clone()));
        }
    }
    Ok(latest.map(|(recorded_at, group)| Extreme { sensor, value: candidate.value, recorded_at, group }))
}

/// Of two groups with the same moment, the one whose names come first.
fn is_later((at, group): (i64, &Arc<Group>), (known_at, known_group): &(i64, Arc<Group>)) -> bool {
    (at, std::cmp::Reverse(group)) > (*known_at, std::cmp::Reverse(known_group))
}

/// Names of other metrics that the sensors of `groups` sent last; a bounded number of sensors is asked.
pub async fn other_metric_names(
    session: &Session,
    groups: &[Arc<Group>],
) -> Result<BTreeSet<Arc<str>>, Error> {
    let mut found = BTreeSet::new();
    let mut asked = 0;
    for group in groups {
        let mut names = Names::default();
        let mut pages = readings::latest(session, group, None).await?;
        while let Some(page) = pages.next(&mut names).await? {
            asked += page.len();
            if asked >= SENSORS_ASKED_FOR_NAMES {
                break;
            }
        }
        found.extend(names.iter().cloned());
        if asked >= SENSORS_ASKED_FOR_NAMES {
            break;
        }
    }
    Ok(found)
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
            let (value, _) = (f32::from(value), at);
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
                    *id == sensor.as_u128() && holds(*at) && f32::from(*value) == candidate.value
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
            .filter(|(_, (value, _))| limits.admit(f32::from(*value)))
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
            let limits = Limits { top, above: above.map(f32::from), below: below.map(f32::from) };
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
