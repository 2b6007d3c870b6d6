//! `iotctl alerts history`: the episodes of a time, each with its beginning, its end, and who has acknowledged it.

use std::collections::HashMap;
use std::ops::ControlFlow;

use chrono::{DateTime, Utc};
use clap::Args;
use uuid::Uuid;

use super::filter::{Filter, Seen, Wanted};
use crate::alerting::alert::State;
use crate::alerting::rules::Severity;
use crate::alerting::topic::{AlertFeed, Record};
use crate::alerting::{Acknowledgement, Alert};
use crate::commands::Context;
use crate::commands::flags::{SelectionArgs, TimeArgs};
use crate::commands::support::{NAMES_AT_ONCE, blocking, sensor_cells, sensor_headings, until_stopped};
use crate::output::Format;
use crate::output::record::{Cell, Heading};

/// Show the episodes of a time: from when to when a rule fired for a sensor, and who acknowledged it
///
/// One row per episode, by the time at which it began to fire. The range is of that time. An episode without an end still fires, or
/// its end is no longer in the topic, which keeps alerts for a while.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl alerts history --last 24h
  iotctl alerts history --last 7d --rule hot --sensor th-1
  iotctl alerts history --from 2026-11-01 --to 2026-11-08 --time-zone Europe/Berlin --format csv
  iotctl alerts history --location plant-3 --severity critical --format json")]
pub struct HistoryArgs {
    /// Only episodes of this rule
    #[arg(long, value_name = "NAME")]
    pub rule: Option<String>,
    /// Only episodes of this severity
    #[arg(long, value_enum)]
    pub severity: Option<Severity>,
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub time: TimeArgs,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// From the alert that fires to the one that resolves.
#[derive(Debug, Default)]
struct Episode {
    firing: Option<Box<Alert>>,
    resolved: Option<DateTime<Utc>>,
    acknowledged: Option<Acknowledgement>,
}

/// Rule, sensor, and the time of the first reading.
type Key = (String, Uuid, DateTime<Utc>);

#[derive(Debug, Default)]
struct Episodes(HashMap<Key, Episode>);

impl Episodes {
    /// Takes the records in the order of the topic.
    fn take(&mut self, record: Record) {
        match record {
            Record::Alert(alert) => {
                let episode = self.of(&alert.rule, alert.iot_sensor_id, alert.since);
                match alert.state {
                    // A copy changes nothing.
                    State::Firing => drop(episode.firing.get_or_insert(alert)),
                    State::Resolved => {
                        let at = alert.recorded_timestamp;
                        episode.resolved = Some(episode.resolved.map_or(at, |before| before.min(at)));
                    }
                }
            }
            Record::Acknowledgement(seen) => {
                let episode = self.of(&seen.rule, seen.iot_sensor_id, seen.since);
                episode.acknowledged = Some(seen);
            }
            Record::Silence(_) => {}
        }
    }

    fn of(&mut self, rule: &str, sensor: Uuid, since: DateTime<Utc>) -> &mut Episode {
        self.0.entry((rule.to_owned(), sensor, since)).or_default()
    }

    /// Those that are asked for, in order of time. One whose beginning the topic no longer has is not shown.
    fn sorted(self, is_asked_for: impl Fn(&Alert) -> bool) -> Vec<(Box<Alert>, Episode)> {
        let firing = self.0.into_values().filter_map(|mut episode| Some((episode.firing.take()?, episode)));
        let mut sorted: Vec<_> = firing.filter(|(alert, _)| is_asked_for(alert)).collect();
        sorted.sort_by(|(left, _), (right, _)| {
            let key = |alert: &Alert| (alert.recorded_timestamp, alert.iot_sensor_id);
            key(left).cmp(&key(right)).then_with(|| left.rule.cmp(&right.rule))
        });
        sorted
    }
}

pub(super) async fn run(mut args: HistoryArgs, context: Context) -> anyhow::Result<()> {
    let range = args.time.range(Utc::now().timestamp_millis())?;
    let mut feed = until_stopped(&context.shutdown, AlertFeed::open(&context.config.kafka)).await?;
    let (sensor, mut registry) =
        until_stopped(&context.shutdown, Wanted::find(&mut args.selection, &context)).await?;
    let filter = Filter {
        severity: args.severity,
        range: Some(range),
        ..Filter::new(args.rule.clone(), &args.selection, sensor)
    };
    let batch = until_stopped(&context.shutdown, feed.next()).await?;
    let (shutdown, asked) = (context.shutdown.clone(), filter.clone());
    let read = blocking(move || {
        let (mut episodes, mut seen) = (Episodes::default(), Seen::default());
        let read = batch.each_record(&|| shutdown.is_requested(), |record| {
            if let Record::Alert(alert) = &record {
                seen.note(alert, &asked);
            }
            episodes.take(record);
            ControlFlow::<()>::Continue(())
        });
        read.map(|_| (episodes, seen))
    });
    let (episodes, seen) = until_stopped(&context.shutdown, read).await??;
    let episodes = episodes.sorted(|alert| filter.matches(alert));
    let is_table = args.format == Format::Table;
    let in_table = |name: &str| {
        !is_table
            || !["device_type", "since", "id", "acknowledged_timestamp", "acknowledged_comment"]
                .contains(&name)
    };
    let mut headings = vec![
        Heading::left("fired"),
        // Where there is little room, `seconds` says as much, and the message matters more.
        Heading::left("resolved").rank(1),
        Heading::right("seconds"),
        Heading::left("severity").rank(2),
        Heading::left("rule"),
    ];
    headings.extend(["location", "device_type"].map(Heading::left));
    headings.extend(sensor_headings(args.format));
    headings.extend(
        ["message", "acknowledged_by", "acknowledged_timestamp", "acknowledged_comment", "since", "id"]
            .map(Heading::left),
    );
    headings.retain(|heading| in_table(&heading.name));
    let mut records = context.output.records(args.format, args.time.zone()?, headings)?;
    for part in episodes.chunks(NAMES_AT_ONCE) {
        registry.learn(part.iter().map(|(alert, _)| &**alert)).await;
        for (alert, Episode { resolved, acknowledged, .. }) in part {
            let name = registry.names.get(alert.iot_sensor_id).or(alert.sensor_name.as_deref());
            let moment = |at: DateTime<Utc>| Cell::Moment(at.timestamp_millis());
            let seen = acknowledged.as_ref();
            let lasted = resolved.map(|end| (end - alert.recorded_timestamp).num_milliseconds() as f64 / 1e3);
            let mut cells = vec![
                moment(alert.recorded_timestamp),
                resolved.map_or(Cell::Missing, moment),
                lasted.map_or(Cell::Missing, Cell::Double),
                Cell::Text(alert.severity.name()),
                Cell::Text(&alert.rule),
                Cell::Text(&alert.location),
            ];
            if !is_table {
                cells.push(Cell::Text(&alert.device_type));
            }
            cells.extend(sensor_cells(args.format, alert.iot_sensor_id, name));
            cells.push(Cell::Text(&alert.message));
            cells.push(seen.map_or(Cell::Missing, |seen| Cell::Text(&seen.by)));
            if !is_table {
                cells.extend([
                    seen.map_or(Cell::Missing, |seen| moment(seen.acknowledged_timestamp)),
                    seen.and_then(|seen| seen.comment.as_deref()).map_or(Cell::Missing, Cell::Text),
                    moment(alert.since),
                    Cell::Uuid(alert.id),
                ]);
            }
            records.write(&cells)?;
        }
    }
    if records.finish()? == 0 {
        context.output.note(seen.remark(&filter));
    }
    Ok(())
}
