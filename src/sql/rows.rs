//! Readings, newest readings, sensors and groups as columns.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMillisecondArray,
};
use datafusion::error::Result;
use uuid::Uuid;

use super::scan::{Reads, Sink, external};
use crate::analytics::scan::Question;
use crate::analytics::{Column, Order, Scan};
use crate::reading::Group;
use crate::store::cells::Cells;
use crate::store::groups::{self, GroupSummary};
use crate::store::readings::{self, Names, StoredReading};
use crate::store::sensors::{self, Detail, Registered, Which};

/// Sensors of a statement that are read one by one, as slices of partitions, instead of whole partitions.
const FEW_SENSORS: usize = 32;

/// Raw readings, in an order or as they are stored, which costs less.
pub(super) async fn readings(reads: &Reads, order: Option<Order>, sink: &mut Sink) -> Result<()> {
    let cells = sink.columns().map(cells_of).fold(Cells::of([]), Cells::or);
    for (sensor, groups) in parts(reads, order).await? {
        let range = reads.selection.range;
        // For one sensor, order costs nothing.
        let order = order.or(sensor.map(|_| Order::Desc));
        let question = Question { groups, sensor, range, filter: None, chosen: None, order };
        let scan = Scan::of_cells(&reads.sources.session, question, cells).await;
        let mut scan = scan.map_err(external)?;
        while let Some(mut chunk) = scan.next().await.map_err(external)? {
            chunk.retain(|reading| reads.selection.has_sensor(reading.sensor));
            if !sink.send(&chunk, reading_column).await? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// What is read one after another: each of a few sensors by itself, else all rows of the groups.
async fn parts(reads: &Reads, order: Option<Order>) -> Result<Vec<(Option<Uuid>, Vec<Arc<Group>>)>> {
    let Reads { groups: all, selection, sources, .. } = reads;
    let mut parts = Vec::new();
    match &selection.sensors {
        _ if all.is_empty() => {}
        // The groups of the only sensor are known from planning.
        Some(sensors) if order.is_none() && (2..=FEW_SENSORS).contains(&sensors.len()) => {
            for &sensor in sensors {
                let mut of_sensor =
                    groups::groups_of_sensor(&sources.session, sensor).await.map_err(external)?;
                of_sensor.retain(|group| all.iter().any(|chosen| **chosen == *group));
                parts.push((Some(sensor), of_sensor.into_iter().map(Arc::new).collect()));
            }
        }
        _ => parts.push((selection.one_sensor(), all.clone())),
    }
    Ok(parts)
}

/// The cells that a column is built from.
fn cells_of(column: &str) -> Cells {
    match Column::named(column) {
        Column::Location | Column::DeviceType | Column::Sensor | Column::RecordedAt => Cells::of([]),
        Column::MotionDetected | Column::States => Cells::STATES,
        Column::Metric(metric) => Cells::of([&metric]),
        Column::OtherMetrics => Cells::OTHERS,
    }
}

/// The newest reading of each sensor.
pub(super) async fn latest(reads: &Reads, sink: &mut Sink) -> Result<()> {
    let mut names = Names::default();
    for group in &reads.groups {
        let started = readings::latest(&reads.sources.session, group, reads.selection.one_sensor()).await;
        let mut pages = started.map_err(external)?;
        while let Some(mut page) = pages.next(&mut names).await.map_err(external)? {
            page.retain(|reading| {
                reads.selection.has_sensor(reading.sensor)
                    && reads.selection.range.contains(reading.recorded_at)
            });
            if !sink.send(&page, reading_column).await? {
                return Ok(());
            }
        }
    }
    Ok(())
}

pub(super) async fn sensors(reads: &Reads, sink: &mut Sink) -> Result<()> {
    for group in &reads.groups {
        let which = reads.selection.one_sensor().map_or(Which::All, |sensor| Which::Ids(vec![sensor]));
        let started = sensors::registered(&reads.sources.session, group, which, Detail::NamesAndTags).await;
        let mut pages = started.map_err(external)?;
        while let Some(mut page) = pages.next().await.map_err(external)? {
            page.retain(|sensor| reads.selection.has_sensor(sensor.sensor));
            if !sink.send(&page, |name, rows| sensor_column(name, group, rows)).await? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Groups; their sensors are counted only where that is asked for.
pub(super) async fn groups(reads: &Reads, sink: &mut Sink) -> Result<()> {
    let counts = sink.needs("sensors") || sink.needs("last_recorded_timestamp");
    for group in &reads.groups {
        let summary = match counts {
            true => groups::summary(&reads.sources.session, group).await.map_err(external)?,
            false => GroupSummary { sensors: 0, last_recorded_at: None },
        };
        if !sink.send(&[(group.clone(), summary)], group_column).await? {
            return Ok(());
        }
    }
    Ok(())
}

pub(super) fn texts<'a>(values: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

pub(super) fn optional_texts(values: impl Iterator<Item = Option<String>>) -> ArrayRef {
    Arc::new(StringArray::from_iter(values))
}

pub(super) fn moments(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from_iter(values).with_timezone("+00:00"))
}

fn reading_column(name: &str, rows: &[StoredReading]) -> ArrayRef {
    match Column::named(name) {
        Column::Location => texts(rows.iter().map(|row| &*row.group.location)),
        Column::DeviceType => texts(rows.iter().map(|row| &*row.group.device_type)),
        Column::Sensor => {
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.sensor.to_string())))
        }
        Column::RecordedAt => moments(rows.iter().map(|row| Some(row.recorded_at))),
        Column::Metric(metric) => {
            Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.value(&metric))))
        }
        Column::MotionDetected => {
            Arc::new(BooleanArray::from_iter(rows.iter().map(|row| row.motion_detected)))
        }
        Column::OtherMetrics => {
            optional_texts(rows.iter().map(|row| {
                json(row.other_metrics.iter().map(|(name, value)| (name.clone(), (*value).into())))
            }))
        }
        Column::States => optional_texts(
            rows.iter()
                .map(|row| json(row.states.iter().map(|(name, text)| (name.clone(), (&**text).into())))),
        ),
    }
}

/// A JSON object; `None` where it would be empty.
fn json(pairs: impl ExactSizeIterator<Item = (Arc<str>, serde_json::Value)>) -> Option<String> {
    if pairs.len() == 0 {
        return None;
    }
    let object: serde_json::Map<_, _> = pairs.map(|(name, value)| (name.to_string(), value)).collect();
    Some(serde_json::Value::Object(object).to_string())
}

fn sensor_column(name: &str, group: &Group, rows: &[Registered]) -> ArrayRef {
    match name {
        "location" => texts(rows.iter().map(|_| &*group.location)),
        "device_type" => texts(rows.iter().map(|_| &*group.device_type)),
        "iot_sensor_id" => {
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.sensor.to_string())))
        }
        "name" => optional_texts(rows.iter().map(|row| row.shown_name().map(str::to_owned))),
        _ => optional_texts(rows.iter().map(|row| {
            let tags = row.all_tags();
            if tags.is_empty() { None } else { serde_json::to_string(&tags).ok() }
        })),
    }
}

fn group_column(name: &str, rows: &[(Arc<Group>, GroupSummary)]) -> ArrayRef {
    match name {
        "location" => texts(rows.iter().map(|(group, _)| &*group.location)),
        "device_type" => texts(rows.iter().map(|(group, _)| &*group.device_type)),
        "sensors" => Arc::new(Int64Array::from_iter_values(
            rows.iter().map(|(_, summary)| i64::try_from(summary.sensors).unwrap_or(i64::MAX)),
        )),
        _ => moments(rows.iter().map(|(_, summary)| summary.last_recorded_at)),
    }
}
