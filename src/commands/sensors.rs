//! `iotctl sensors`: groups with their number of sensors, or sensors with their last reading.

use clap::{Args, ValueEnum};
use futures::stream::{self, StreamExt, TryStreamExt};

use super::Context;
use super::query::{GroupArgs, until_stopped};
use crate::cassandra::groups;
use crate::cassandra::readings::{self, Names};
use crate::cassandra::{Error, Session};
use crate::output::Format;
use crate::output::record::{Cell, Clock, Heading};
use crate::reading::Metric;

/// Groups that are counted at once.
const IN_FLIGHT: usize = 16;

/// Groups and sensors with their last reading.
///
/// Sensors come in order of their groups' names and then their ids, each with its newest reading; groups with their
/// number of sensors and their newest reading's moment.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl sensors --by group
  iotctl sensors --location plant-1 --device-type thermostat
  iotctl sensors --format ndjson")]
pub struct SensorsArgs {
    #[command(flatten)]
    pub group: GroupArgs,
    /// A line a sensor, or a line a group with its number of sensors
    #[arg(long, value_enum, default_value_t)]
    pub by: By,
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Local time instead of UTC
    #[arg(long)]
    pub local: bool,
}

/// What a line of the list stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum By {
    #[default]
    Sensor,
    Group,
}

pub async fn run(args: SensorsArgs, context: Context) -> anyhow::Result<()> {
    let session = Session::connect(&context.config.cassandra).await?;
    match args.by {
        By::Group => list_groups(&session, &args, &context).await,
        By::Sensor => list_sensors(&session, &args, &context).await,
    }
}

async fn list_groups(session: &Session, args: &SensorsArgs, context: &Context) -> anyhow::Result<()> {
    let matching = until_stopped(&context.shutdown, args.group.selection().resolve(session)).await?;
    let headings = vec![
        Heading::left("location"),
        Heading::left("device_type"),
        Heading::right("sensors"),
        Heading::left("last_recorded_timestamp"),
    ];
    let mut records = context.output.records(args.format, clock(args), headings)?;
    let mut summaries = stream::iter(matching)
        .map(|group| async move { Ok::<_, Error>((groups::summary(session, &group).await?, group)) })
        .buffered(IN_FLIGHT);
    let mut sensors = 0;
    while let Some((summary, group)) = until_stopped(&context.shutdown, summaries.try_next()).await? {
        sensors += summary.sensors;
        records.write(&[
            Cell::Text(&group.location),
            Cell::Text(&group.device_type),
            Cell::Count(summary.sensors),
            summary.last_recorded_at.map_or(Cell::Missing, Cell::Moment),
        ])?;
    }
    let groups = records.finish()?;
    context.output.note(format!("{groups} groups, {sensors} sensors"));
    Ok(())
}

/// `iot_latest` has a row for each sensor, written together with its entry in the registry.
async fn list_sensors(session: &Session, args: &SensorsArgs, context: &Context) -> anyhow::Result<()> {
    let matching = until_stopped(&context.shutdown, args.group.selection().resolve(session)).await?;
    let mut headings = vec![
        Heading::left("location"),
        Heading::left("device_type"),
        Heading::left("iot_sensor_id"),
        Heading::left("recorded_timestamp"),
    ];
    for metric in Metric::COLUMNS {
        let unit = metric.unit().map(|unit| format!(" ({unit})")).unwrap_or_default();
        headings.push(Heading::right(metric.name()).titled(format!("{metric}{unit}")));
    }
    headings.extend([Heading::left("motion_detected"), Heading::left("other_metrics")]);
    let mut records = context.output.records(args.format, clock(args), headings)?;
    let mut names = Names::default();
    for group in &matching {
        let mut pages = until_stopped(&context.shutdown, readings::latest(session, group, None)).await?;
        while let Some(page) = until_stopped(&context.shutdown, pages.next(&mut names)).await? {
            for reading in &page {
                let mut cells = vec![
                    Cell::Text(&group.location),
                    Cell::Text(&group.device_type),
                    Cell::Uuid(reading.sensor),
                    Cell::Moment(reading.recorded_at),
                ];
                let metrics = Metric::COLUMNS.iter();
                cells.extend(metrics.map(|metric| reading.value(metric).map_or(Cell::Missing, Cell::Number)));
                cells.push(reading.motion_detected.map_or(Cell::Missing, Cell::Boolean));
                cells.push(match reading.other_metrics.is_empty() {
                    true => Cell::Missing,
                    false => Cell::Metrics(&reading.other_metrics),
                });
                records.write(&cells)?;
            }
            records.flush()?;
        }
    }
    let sensors = records.finish()?;
    context
        .output
        .note(format!("{sensors} sensors in {} groups (--by group for a line a group)", matching.len()));
    Ok(())
}

fn clock(args: &SensorsArgs) -> Clock {
    if args.local { Clock::Local } else { Clock::Utc }
}
