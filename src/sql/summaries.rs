//! The tables `hourly` and `daily`: what readings amount to, by sensor and metric. From rollups where they are right, and
//! computed from raw rows elsewhere, so that the answer is that of a scan.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
use datafusion::error::Result;
use uuid::Uuid;

use super::rows::{moments, texts};
use super::scan::{Reads, Sink, external};
use super::tables::Kind;
use crate::analytics::Scan;
use crate::analytics::sources::{Division, MaxResolution, Plan};
use crate::cassandra::{Error, Session};
use crate::reading::{Group, Metric};
use crate::series::summary::Summary;
use crate::store::readings::StoredReading;
use crate::store::rollups::{Detail, Stored, Table, summaries};
use crate::time::{DAY, HOUR, TimeRange, Zone, day_of, hour_of};

/// The hours or days of one group, and where they come from.
#[derive(Debug)]
pub(super) struct Periods {
    group: Arc<Group>,
    pub(super) plan: Plan,
}

impl Periods {
    /// The periods that begin in `range`.
    pub(super) async fn plan(
        kind: Kind,
        session: &Session,
        group: &Arc<Group>,
        range: TimeRange,
    ) -> Result<Self, Error> {
        let width = if kind == Kind::Daily { DAY } else { HOUR };
        let up = |at: i64| match at {
            i64::MIN | i64::MAX => at,
            at => at.div_euclid(width).saturating_mul(width).saturating_add(match at.rem_euclid(width) {
                0 => 0,
                _ => width,
            }),
        };
        let range = TimeRange { from: up(range.from), to: up(range.to) };
        let (resolution, periods) = match kind {
            Kind::Daily => (MaxResolution::Day, crate::time::Periods::Days(Zone::Utc)),
            _ => (MaxResolution::Hour, crate::time::Periods::Hours(Zone::Utc)),
        };
        let division = Division { periods, days_have_hours: false };
        let plan = Plan::make(session, group, range, resolution, division).await?;
        Ok(Self { group: group.clone(), plan })
    }
}

/// A row of the table.
struct Line {
    group: Arc<Group>,
    start: i64,
    metric: String,
    sensor: Uuid,
    summary: Summary,
}

/// Summaries of one period by metric and sensor.
type Period = BTreeMap<(String, Uuid), Summary>;

pub(super) async fn read(reads: &Reads, sink: &mut Sink) -> Result<()> {
    for periods in &reads.periods {
        if !read_group(reads, periods, sink).await? {
            return Ok(());
        }
    }
    Ok(())
}

/// `false` where no more rows are wanted.
async fn read_group(reads: &Reads, periods: &Periods, sink: &mut Sink) -> Result<bool> {
    let Periods { group, plan } = periods;
    let start_of = if reads.kind == Kind::Daily { day_of } else { hour_of };
    // Hours from rollups, by the period that they are part of.
    let mut hours: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for &hour in &plan.hours {
        hours.entry(start_of(hour)).or_default().push(hour);
    }
    let width = if reads.kind == Kind::Daily { DAY } else { HOUR };
    let mut open: BTreeMap<i64, Period> = BTreeMap::new();
    for range in plan.raw_ranges() {
        let sensor = reads.selection.one_sensor();
        let scan = Scan::of_hours(&reads.sources.session, group.clone(), sensor, range).await;
        let mut scan = scan.map_err(external)?;
        while let Some(chunk) = scan.next().await.map_err(external)? {
            let is_over = |period: &i64| period + width <= scan.reached();
            while let Some(before) = open.first_entry().filter(|first| is_over(first.key())) {
                let (start, period) = before.remove_entry();
                let rolled = hours.remove(&start).unwrap_or_default();
                if !finish(reads, group, start, period, &rolled, sink).await? {
                    return Ok(false);
                }
            }
            for reading in chunk {
                add(reads, open.entry(start_of(reading.recorded_at)).or_default(), &reading);
            }
        }
    }
    for (start, period) in open {
        let rolled = hours.remove(&start).unwrap_or_default();
        if !finish(reads, group, start, period, &rolled, sink).await? {
            return Ok(false);
        }
    }
    for (start, rolled) in hours {
        if !finish(reads, group, start, Period::new(), &rolled, sink).await? {
            return Ok(false);
        }
    }
    for &day in &plan.days {
        let mut period = Period::new();
        merge(reads, &mut period, Table::Daily, group, day).await?;
        if !send(group, day, period, sink).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Adds the values of a raw reading.
fn add(reads: &Reads, period: &mut Period, reading: &StoredReading) {
    if !reads.selection.has_sensor(reading.sensor) {
        return;
    }
    let columns = Metric::COLUMNS.iter().filter_map(|metric| Some((metric.name(), reading.value(metric)?)));
    let others = reading.other_metrics.iter().map(|(name, value)| (&**name, *value));
    for (name, value) in columns.chain(others).filter(|(name, _)| reads.selection.has_metric(name)) {
        let key = (name.to_owned(), reading.sensor);
        match period.get_mut(&key) {
            Some(summary) => summary.add(value, reading.recorded_at),
            None => {
                period.insert(key, Summary::of(value, reading.recorded_at));
            }
        }
    }
}

/// Puts out a period of raw rows and hours from rollups.
async fn finish(
    reads: &Reads,
    group: &Arc<Group>,
    start: i64,
    mut period: Period,
    rolled: &[i64],
    sink: &mut Sink,
) -> Result<bool> {
    for &hour in rolled {
        merge(reads, &mut period, Table::Hourly, group, hour).await?;
    }
    send(group, start, period, sink).await
}

/// Adds the rollups of an hour or day.
async fn merge(reads: &Reads, period: &mut Period, table: Table, group: &Group, start: i64) -> Result<()> {
    let Reads { sources, selection, .. } = reads;
    let session = &sources.session;
    let metric = selection.one_metric().map(Metric::named);
    let sensor = selection.one_sensor().filter(|_| metric.is_some());
    let detail = Detail::WithoutSketch;
    let started = summaries(session, table, group, start, metric.as_ref(), sensor, detail).await;
    let mut pages = started.map_err(external)?;
    while let Some(page) = pages.next::<Uuid>().await.map_err(external)? {
        for Stored { key, metric, summary } in page {
            if !selection.has_sensor(key) || !selection.has_metric(&metric) {
                continue;
            }
            match period.get_mut(&(metric.clone(), key)) {
                Some(before) => before.merge(&summary),
                None => {
                    period.insert((metric, key), summary);
                }
            }
        }
    }
    Ok(())
}

async fn send(group: &Arc<Group>, start: i64, period: Period, sink: &mut Sink) -> Result<bool> {
    let lines: Vec<_> = period
        .into_iter()
        .map(|((metric, sensor), summary)| Line { group: group.clone(), start, metric, sensor, summary })
        .collect();
    sink.send(&lines, column).await
}

fn column(name: &str, lines: &[Line]) -> ArrayRef {
    let numbers = |of: fn(&Summary) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(lines.iter().map(|line| of(&line.summary))))
    };
    let times = |of: fn(&Summary) -> i64| moments(lines.iter().map(|line| Some(of(&line.summary))));
    match name {
        "location" => texts(lines.iter().map(|line| &*line.group.location)),
        "device_type" => texts(lines.iter().map(|line| &*line.group.device_type)),
        "metric" => texts(lines.iter().map(|line| &*line.metric)),
        "iot_sensor_id" => {
            Arc::new(StringArray::from_iter_values(lines.iter().map(|line| line.sensor.to_string())))
        }
        "count" => Arc::new(Int64Array::from_iter_values(
            lines.iter().map(|line| i64::try_from(line.summary.count).unwrap_or(i64::MAX)),
        )),
        "sum" => numbers(|summary| summary.sum),
        "avg" => numbers(Summary::mean),
        "stddev" => numbers(Summary::standard_deviation),
        "min" => numbers(|summary| summary.lowest.value),
        "min_at" => times(|summary| summary.lowest.at),
        "max" => numbers(|summary| summary.highest.value),
        "max_at" => times(|summary| summary.highest.at),
        "first" => numbers(|summary| summary.first.value),
        "first_at" => times(|summary| summary.first.at),
        "last" => numbers(|summary| summary.last.value),
        "last_at" => times(|summary| summary.last.at),
        _ => moments(lines.iter().map(|line| Some(line.start))),
    }
}
