//! `iotctl sensors`: sensors with their last reading, or groups with their number of sensors.

use std::time::Duration;

use chrono::Utc;
use clap::Args;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::Context;
use super::query::{GroupArgs, until_stopped};
use crate::cassandra::{Error, Session};
use crate::output::record::{Cell, Clock, Heading};
use crate::output::{Format, Output};
use crate::reading::Metric;
use crate::store::groups;
use crate::store::readings::{self, Names, StoredReading};

/// Groups that are counted at once.
const IN_FLIGHT: usize = 16;

/// Sensors with their last reading, or groups with their number of sensors.
///
/// Sensors come by location, device type and id, each with its newest reading, however late others arrived, and the
/// time since then. A value that the newest reading did not measure is empty in tables and CSV and left out of JSON.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl sensors
  iotctl sensors --groups
  iotctl sensors --location plant-1 --device-type thermostat --local
  iotctl sensors --format ndjson | jq 'select(.age_seconds > 3600) | .iot_sensor_id'")]
pub struct SensorsArgs {
    #[command(flatten)]
    pub group: GroupArgs,
    /// A line for each location and device type, with its number of sensors
    #[arg(long)]
    pub groups: bool,
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Local time instead of UTC
    #[arg(long)]
    pub local: bool,
}

pub async fn run(args: SensorsArgs, context: Context) -> anyhow::Result<()> {
    let session = Session::connect(&context.config.cassandra).await?;
    match args.groups {
        true => list_groups(&session, &args, &context).await,
        false => list_sensors(&session, &args, &context).await,
    }
}

async fn list_groups(session: &Session, args: &SensorsArgs, context: &Context) -> anyhow::Result<()> {
    let matching = until_stopped(&context.shutdown, args.group.selection().resolve(session)).await?;
    let now = Utc::now().timestamp_millis();
    let headings = vec![
        Heading::left("location"),
        Heading::left("device_type"),
        Heading::right("sensors"),
        Heading::left("recorded_timestamp").titled("newest reading"),
        Heading::right("age_seconds").titled("age"),
    ];
    let mut records = context.output.records(args.format, clock(args), headings)?;
    let mut summaries = stream::iter(matching)
        .map(|group| async move { Ok::<_, Error>((groups::summary(session, &group).await?, group)) })
        .buffered(IN_FLIGHT);
    let mut sensors = 0;
    while let Some((summary, group)) = until_stopped(&context.shutdown, summaries.try_next()).await? {
        sensors += summary.sensors;
        let age = summary.last_recorded_at.map(|at| age(now, at, args.format));
        records.write(&[
            Cell::Text(&group.location),
            Cell::Text(&group.device_type),
            Cell::Count(summary.sensors),
            summary.last_recorded_at.map_or(Cell::Missing, Cell::Moment),
            age.as_ref().map_or(Cell::Missing, Age::cell),
        ])?;
    }
    let groups = records.finish()?;
    remark(&context.output, groups, sensors);
    Ok(())
}

/// `iot_latest` has a row for each sensor, written together with its entry in the registry.
async fn list_sensors(session: &Session, args: &SensorsArgs, context: &Context) -> anyhow::Result<()> {
    let matching = until_stopped(&context.shutdown, args.group.selection().resolve(session)).await?;
    let now = Utc::now().timestamp_millis();
    let mut records = context.output.records(args.format, clock(args), sensor_headings())?;
    let mut names = Names::default();
    for group in &matching {
        let mut pages = until_stopped(&context.shutdown, readings::latest(session, group, None)).await?;
        while let Some(page) = until_stopped(&context.shutdown, pages.next(&mut names)).await? {
            for reading in &page {
                let age = age(now, reading.recorded_at, args.format);
                records.write(&sensor_cells(reading, &age))?;
            }
            records.flush()?;
        }
    }
    let sensors = records.finish()?;
    remark(&context.output, matching.len() as u64, sensors);
    Ok(())
}

fn sensor_headings() -> Vec<Heading> {
    let mut headings = vec![
        Heading::left("location"),
        Heading::left("device_type"),
        Heading::left("iot_sensor_id"),
        Heading::left("recorded_timestamp").titled("last reading"),
        Heading::right("age_seconds").titled("age"),
    ];
    headings.extend(Metric::COLUMNS.iter().map(|metric| {
        let unit = metric.unit().map(|unit| format!(" ({unit})")).unwrap_or_default();
        Heading::right(metric.name()).titled(format!("{metric}{unit}"))
    }));
    headings.extend([Heading::left("motion_detected"), Heading::left("other_metrics")]);
    headings
}

fn sensor_cells<'a>(reading: &'a StoredReading, age: &'a Age) -> Vec<Cell<'a>> {
    let mut cells = vec![
        Cell::Text(&reading.group.location),
        Cell::Text(&reading.group.device_type),
        Cell::Uuid(reading.sensor),
        Cell::Moment(reading.recorded_at),
        age.cell(),
    ];
    let metrics = Metric::COLUMNS.iter();
    cells.extend(metrics.map(|metric| reading.value(metric).map_or(Cell::Missing, Cell::Number)));
    cells.push(reading.motion_detected.map_or(Cell::Missing, Cell::Boolean));
    cells.push(match reading.other_metrics.is_empty() {
        true => Cell::Missing,
        false => Cell::Metrics(&reading.other_metrics),
    });
    cells
}

/// The time since a reading: for people as `3h 12m`, for programs in whole seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Age {
    Text(String),
    Seconds(u64),
}

impl Age {
    pub(super) fn cell(&self) -> Cell<'_> {
        match self {
            Age::Text(text) => Cell::Text(text),
            Age::Seconds(seconds) => Cell::Count(*seconds),
        }
    }
}

/// A reading that is ahead of our clock is 0 s old.
pub(super) fn age(now: i64, at: i64, format: Format) -> Age {
    let seconds = u64::try_from(now.saturating_sub(at) / 1000).unwrap_or(0);
    match format {
        Format::Table => Age::Text(two_largest_units(seconds)),
        Format::Json | Format::Ndjson | Format::Csv => Age::Seconds(seconds),
    }
}

/// As precise as people need it: `12s`, `3m 20s`, `5h 3m`, `12days 4h`.
fn two_largest_units(seconds: u64) -> String {
    let precision = match seconds {
        0..3_600 => 1,
        3_600..86_400 => 60,
        _ => 3_600,
    };
    let text = humantime::format_duration(Duration::from_secs(seconds - seconds % precision)).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

fn remark(output: &Output, groups: u64, sensors: u64) {
    output.note(match groups {
        0 => "nothing is stored yet: run `iotctl simulate` and `iotctl ingest`".to_owned(),
        _ => format!("{sensors} sensors in {groups} groups"),
    });
}

fn clock(args: &SensorsArgs) -> Clock {
    if args.local { Clock::Local } else { Clock::Utc }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short_for_people_and_exact_for_programs() {
        let shown = |seconds: i64| match age(seconds * 1000, 0, Format::Table) {
            Age::Text(text) => text,
            Age::Seconds(_) => unreachable!("tables are for people"),
        };
        assert_eq!(shown(12), "12s");
        assert_eq!(shown(200), "3m 20s");
        assert_eq!(shown(5 * 3600 + 3 * 60 + 59), "5h 3m");
        assert_eq!(shown(12 * 86_400 + 4 * 3600 + 61), "12days 4h");
        assert_eq!(age(12_999, 0, Format::Ndjson), Age::Seconds(12));
    }

    #[test]
    fn a_clock_that_is_ahead_makes_no_negative_age() {
        assert_eq!(age(0, 5_000, Format::Json), Age::Seconds(0));
        assert_eq!(age(0, i64::MIN, Format::Json), Age::Seconds(i64::MAX as u64 / 1000));
    }
}
