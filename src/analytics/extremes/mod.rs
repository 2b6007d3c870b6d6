//! The highest and the lowest value of each sensor, ranked.
//!
//! Rolled-up days and hours give the extremes with their moments. The server aggregates the other partitions, a bounded
//! number at a time, and [`candidates`] merges everything into one entry per sensor. Afterwards only the winners' moments
//! are looked up in the raw rows. The answer is that of a full scan: values are compared as stored (32-bit floats), and a
//! copy of a reading in an overlapping bucket never adds an extreme.

mod candidates;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::analytics::sources::{Division, MaxResolution, Plan};
use crate::analytics::tags::Chosen;
use crate::cassandra::{Error, Session};
use crate::reading::{Group, Metric, Partition};
use crate::series::summary::Measured;
use crate::store::aggregates::{self, SensorExtremes};
use crate::store::readings::Slice;
use crate::store::rollups::{self, Detail, Table};
use crate::time::TimeRange;

use candidates::{Candidate, is_later, sort};
pub use candidates::{Extreme, Extremes, Limits, Side};

/// Partitions that each node aggregates at once. It keeps the node's processors busy; more would only queue there and
/// run into the server's own deadline.
const AGGREGATES_PER_NODE: usize = 3;
const MAX_AGGREGATES: usize = 24;
/// Moments that are looked up at once, and groups whose partitions are listed at once.
const IN_FLIGHT: usize = 12;
/// Rolled-up hours and days that are read at once.
const ROLLUPS_IN_FLIGHT: usize = 24;

/// The progress of [`find`]. Groups are listed while others are read, so both numbers grow together.
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

/// The extremes of one part.
enum PartExtremes {
    Rollup(Arc<Group>, Vec<(Uuid, Measured, Measured)>),
    Raw(Partition, Vec<SensorExtremes>),
}

/// Collects the extremes of `groups` in `range` from rollups no coarser than `max_resolution` and from the raw rows.
/// Only of the `chosen` sensors, if there are any. Calls `progress` whenever it changes.
pub async fn find(
    session: &Session,
    groups: &[Arc<Group>],
    metric: &Metric,
    range: TimeRange,
    max_resolution: MaxResolution,
    chosen: Option<&Chosen>,
    progress: impl Fn(Progress),
) -> Result<Extremes, Error> {
    // Atomic, so that this future is `Send` and the dashboard can await it.
    let counters = [const { AtomicU64::new(0) }; 3];
    let advance = |listed: usize, rollups: usize, done: u64| {
        let added = [listed as u64, done, rollups as u64];
        let sum = |index: usize| counters[index].fetch_add(added[index], Ordering::Relaxed) + added[index];
        progress(Progress { parts: sum(0), parts_done: sum(1), rollups: sum(2) });
    };
    // Owned groups: a stream of borrowed ones makes this future not `Send` (rust-lang/rust#102211).
    let parts = stream::iter(groups.to_vec())
        .map(|group| async move {
            let plan = Plan::make(session, &group, range, max_resolution, Division::NONE).await?;
            Ok::<_, Error>((group, plan))
        })
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
    let aggregates = Semaphore::new((AGGREGATES_PER_NODE * nodes.max(1)).min(MAX_AGGREGATES));
    let mut pages = std::pin::pin!(
        parts
            .map_ok(|part| sensors_of(session, part, metric, &aggregates))
            .try_buffer_unordered(ROLLUPS_IN_FLIGHT)
    );
    let is_chosen = |group: &Group, sensor: Uuid| chosen.is_none_or(|chosen| chosen.contains(group, sensor));
    let mut extremes = Extremes::default();
    while let Some(found) = pages.try_next().await? {
        match found {
            PartExtremes::Rollup(group, sensors) => {
                for (sensor, lowest, highest) in sensors {
                    if is_chosen(&group, sensor) {
                        extremes.merge_known(&group, sensor, lowest, highest);
                    }
                }
            }
            PartExtremes::Raw(partition, sensors) => {
                for sensor in sensors.iter().filter(|found| is_chosen(&partition.group, found.sensor)) {
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
) -> Result<PartExtremes, Error> {
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
            Ok(PartExtremes::Rollup(group, sensors))
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
            Ok(PartExtremes::Raw(partition, sensors))
        }
    }
}

/// The winners of one side, ordered by value, then by moment (latest first), then by sensor id.
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
    let contenders = extremes.contenders(side, limits);
    // By index: a stream of borrowed items makes this future not `Send` (rust-lang/rust#102211).
    let lookups = stream::iter(0..contenders.len()).map(|index| {
        let (sensor, candidate) = contenders[index];
        moment_of(session, sensor, candidate, metric, range)
    });
    let found: Vec<Option<Extreme>> = lookups.buffer_unordered(IN_FLIGHT).try_collect().await?;
    let mut ranked: Vec<Extreme> = found.into_iter().flatten().collect();
    sort(&mut ranked, side, limits);
    Ok(ranked)
}

/// Looks up the latest moment of an extreme; `None` if the row has expired since it was aggregated.
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
