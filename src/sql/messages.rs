//! The tables `alerts` and `dead_letters`: topics of Kafka as rows. `forecasts`: what `iotctl forecast --store` has kept.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray};
use datafusion::error::Result;
use tokio::sync::mpsc;

use super::rows::{moments, optional_texts, texts};
use super::scan::{Reads, Sink, external};
use crate::alerting::alert::Alert;
use crate::alerting::topic::AlertFeed;
use crate::kafka::dead_letters::{LetterBox, Standing, StoredLetter};
use crate::kafka::{Error, Subscription};
use crate::store::forecasts::{self, StoredStep};

/// Messages that are read ahead.
const AHEAD: usize = 1_000;

/// Each alert once, however often it was sent.
pub(super) async fn alerts(reads: &Reads, sink: &mut Sink) -> Result<()> {
    let mut feed = AlertFeed::open(&reads.sources.config.kafka).await.map_err(external)?;
    let batch = feed.next().await.map_err(external)?;
    let found = read_topic(move |messages| {
        let mut seen = HashSet::new();
        let is_stopped = || messages.is_closed();
        let take = |alert: Alert| match seen.insert(alert.id) {
            true => pass(&messages, alert),
            false => ControlFlow::Continue(()),
        };
        batch.each(&is_stopped, take).map(|_| ())
    });
    let selection = reads.selection.clone();
    let passes = |alert: &Alert| {
        selection.has_names(&alert.location, &alert.device_type)
            && selection.has_sensor(alert.iot_sensor_id)
            && selection.has_metric(&alert.metric)
            && selection.range.contains(alert.recorded_timestamp.timestamp_millis())
    };
    send_all(found, sink, passes, alert_column).await
}

/// A dead letter, and whether it was sent again.
type Letter = (StoredLetter, Standing);

pub(super) async fn dead_letters(reads: &Reads, sink: &mut Sink) -> Result<()> {
    // They have no location, and any payload.
    if !reads.sources.access.is_all() {
        return Ok(());
    }
    let config = &reads.sources.config;
    let subscription = Subscription::configured(config).map_err(external)?;
    let letters = LetterBox::open(&config.kafka, subscription).await.map_err(external)?;
    let found = read_topic(move |messages| {
        let is_stopped = || messages.is_closed();
        let take = |letter, standing: Standing| match standing.is_copy {
            true => ControlFlow::Continue(()),
            false => pass(&messages, (letter, standing)),
        };
        letters.each::<()>(&is_stopped, take).map(|_| ())
    });
    let range = reads.selection.range;
    send_all(found, sink, |(letter, _): &Letter| range.contains(letter.timestamp), letter_column).await
}

pub(super) async fn forecasts(reads: &Reads, sink: &mut Sink) -> Result<()> {
    let mut pages = forecasts::stored(&reads.sources.session).await.map_err(external)?;
    let selection = &reads.selection;
    while let Some(mut page) = pages.next().await.map_err(external)? {
        page.retain(|step| {
            selection.has_names(&step.location, &step.device_type)
                && selection.has_metric(&step.metric)
                && selection.range.contains(step.step.at)
                && match step.sensor {
                    Some(sensor) => selection.has_sensor(sensor),
                    // Of a whole group: NULL, which is equal to no id.
                    None => selection.sensors.is_none(),
                }
        });
        if !sink.send(&page, forecast_column).await? {
            break;
        }
    }
    Ok(())
}

type Found<T> = (mpsc::Receiver<T>, tokio::task::JoinHandle<Result<(), Error>>);

/// Reads a topic on a thread that may block; it ends early when the receiver is dropped.
fn read_topic<T: Send + 'static>(
    read: impl FnOnce(mpsc::Sender<T>) -> Result<(), Error> + Send + 'static,
) -> Found<T> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    (receiver, tokio::task::spawn_blocking(move || read(sender)))
}

fn pass<T>(messages: &mpsc::Sender<T>, message: T) -> ControlFlow<()> {
    match messages.blocking_send(message) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    }
}

async fn send_all<T>(
    (mut messages, reading): Found<T>,
    sink: &mut Sink,
    passes: impl Fn(&T) -> bool,
    build: impl Fn(&str, &[T]) -> ArrayRef,
) -> Result<()> {
    let mut rows = Vec::new();
    while messages.recv_many(&mut rows, AHEAD).await > 0 {
        rows.retain(&passes);
        if !sink.send(&rows, &build).await? {
            return Ok(());
        }
        rows.clear();
    }
    reading.await.map_err(external)?.map_err(external)
}

fn alert_column(name: &str, rows: &[Alert]) -> ArrayRef {
    let at =
        |of: fn(&Alert) -> DateTime<Utc>| moments(rows.iter().map(|row| Some(of(row).timestamp_millis())));
    match name {
        "id" => Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.id.to_string()))),
        "rule" => texts(rows.iter().map(|row| &*row.rule)),
        "severity" => texts(rows.iter().map(|row| row.severity.name())),
        "state" => texts(rows.iter().map(|row| row.state.name())),
        "location" => texts(rows.iter().map(|row| &*row.location)),
        "device_type" => texts(rows.iter().map(|row| &*row.device_type)),
        "iot_sensor_id" => {
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.iot_sensor_id.to_string())))
        }
        "sensor_name" => optional_texts(rows.iter().map(|row| row.sensor_name.clone())),
        "metric" => texts(rows.iter().map(|row| &*row.metric)),
        "value" => Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.value))),
        "expected" => Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.expected))),
        "score" => Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.score))),
        "since" => at(|row| row.since),
        "detected_timestamp" => at(|row| row.detected_timestamp),
        "message" => texts(rows.iter().map(|row| &*row.message)),
        _ => at(|row| row.recorded_timestamp),
    }
}

fn letter_column(name: &str, rows: &[Letter]) -> ArrayRef {
    let lossy = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    match name {
        "id" => Arc::new(StringArray::from_iter_values(rows.iter().map(|(row, _)| row.id.to_string()))),
        "reason" => texts(rows.iter().map(|(row, _)| &*row.reason)),
        "error" => texts(rows.iter().map(|(row, _)| &*row.error)),
        "topic" => texts(rows.iter().map(|(row, _)| &*row.topic)),
        "topic_partition" => Arc::new(Int64Array::from_iter_values(
            rows.iter().map(|(row, _)| i64::from(row.source.partition)),
        )),
        "topic_offset" => {
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|(row, _)| row.source.offset)))
        }
        "message_key" => optional_texts(rows.iter().map(|(row, _)| lossy(row.key.as_deref()))),
        "payload" => optional_texts(rows.iter().map(|(row, _)| lossy(row.payload.as_deref()))),
        "is_replayed" => {
            Arc::new(BooleanArray::from_iter(rows.iter().map(|(_, standing)| Some(standing.is_replayed))))
        }
        _ => moments(rows.iter().map(|(row, _)| Some(row.timestamp))),
    }
}

fn forecast_column(name: &str, rows: &[StoredStep]) -> ArrayRef {
    let numbers = |of: fn(&StoredStep) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(rows.iter().map(of)))
    };
    match name {
        "location" => texts(rows.iter().map(|row| &*row.location)),
        "device_type" => texts(rows.iter().map(|row| &*row.device_type)),
        "metric" => texts(rows.iter().map(|row| &*row.metric)),
        "iot_sensor_id" => optional_texts(rows.iter().map(|row| row.sensor.map(|sensor| sensor.to_string()))),
        "made_at" => moments(rows.iter().map(|row| Some(row.made_at))),
        "step_seconds" => {
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| i64::from(row.step_seconds))))
        }
        "model" => texts(rows.iter().map(|row| &*row.model)),
        "value" => numbers(|row| row.step.value),
        "low" => numbers(|row| row.step.low),
        "high" => numbers(|row| row.step.high),
        "level" => numbers(|row| row.level),
        _ => moments(rows.iter().map(|row| Some(row.step.at))),
    }
}
