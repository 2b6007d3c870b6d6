//! `iotctl sensors`: sensors with their newest reading, or groups with their number of sensors; and what people call them
//! ([`labels`]).

use chrono::Utc;
use clap::Args;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::Context;
use super::flags::{GroupArgs, ZoneArgs};
use super::support::{Age, NOTHING_STORED, age, until_stopped};
use crate::cassandra::{Error, Session};
use crate::output::record::{Cell, Heading};
use crate::output::text::plural;
use crate::output::{Format, Output};
use crate::reading::Metric;
use crate::store::groups;
use crate::store::readings::{self, Names, StoredReading};
use crate::store::sensors::SensorNames;
use crate::time::Zone;

mod labels;

pub use labels::SensorsCommand;

/// Groups that are counted at the same time.
const IN_FLIGHT: usize = 16;

/// List sensors with their newest reading, or groups with their number of sensors.
///
/// Sensors are listed by location, device type and id, each with its newest reading by recorded time and its age. A value
/// that the newest reading did not measure is empty in tables and CSV, and absent from JSON.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  iotctl sensors
  iotctl sensors --groups
  iotctl sensors rename th-1 boiler-north
  iotctl sensors tag th-1 room=A12
  iotctl sensors --location plant-1 --device-type thermostat --local
  iotctl sensors --format ndjson | jq 'select(.age_seconds > 3600) | .iot_sensor_id'"
)]
pub struct SensorsArgs {
    #[command(subcommand)]
    pub command: Option<SensorsCommand>,
    #[command(flatten)]
    pub group: GroupArgs,
    /// One line per location and device type, with its number of sensors
    #[arg(long)]
    pub groups: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    #[command(flatten)]
    pub zone: ZoneArgs,
}

pub async fn run(args: SensorsArgs, context: Context) -> anyhow::Result<()> {
    if let Some(command) = args.command {
        return labels::run(command, context).await;
    }
    let zone = args.zone.zone()?;
    let session = Session::connect(&context.config.cassandra).await?;
    match args.groups {
        true => list_groups(&session, &args, zone, &context).await,
        false => list_sensors(&session, &args, zone, &context).await,
    }
}

async fn list_groups(
    session: &Session,
    args: &SensorsArgs,
    zone: Zone,
    context: &Context,
) -> anyhow::Result<()> {
    let matching = until_stopped(&context.shutdown, args.group.selection().resolve(session)).await?;
    let now = Utc::now().timestamp_millis();
    let headings = vec![
        Heading::left("location"),
        Heading::left("device_type"),
        Heading::right("sensors"),
        Heading::left("recorded_timestamp").titled("newest reading").rank(1),
        Heading::right("age_seconds").titled("age"),
    ];
    let mut records = context.output.records(args.format, zone, headings)?;
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
async fn list_sensors(
    session: &Session,
    args: &SensorsArgs,
    zone: Zone,
    context: &Context,
) -> anyhow::Result<()> {
    let matching = until_stopped(&context.shutdown, args.group.selection().resolve(session)).await?;
    let now = Utc::now().timestamp_millis();
    let mut records = context.output.records(args.format, zone, sensor_headings())?;
    let mut names = Names::default();
    let mut sensor_names = SensorNames::default();
    for group in &matching {
        let mut pages = until_stopped(&context.shutdown, readings::latest(session, group, None)).await?;
        while let Some(page) = until_stopped(&context.shutdown, pages.next(&mut names)).await? {
            let shown = page.iter().map(|reading| (&reading.group, reading.sensor));
            until_stopped(&context.shutdown, sensor_names.learn(session, shown)).await?;
            for reading in &page {
                let age = age(now, reading.recorded_at, args.format);
                let name = sensor_names.get(reading.sensor);
                records.write(&sensor_cells(reading, name, &age))?;
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
        Heading::left("sensor_name").titled("name"),
        Heading::left("iot_sensor_id"),
        // The age says it more shortly.
        Heading::left("recorded_timestamp").titled("last reading").rank(1),
        Heading::right("age_seconds").titled("age"),
    ];
    headings.extend(Metric::COLUMNS.iter().map(|metric| {
        let unit = metric.unit().map(|unit| format!(" ({unit})")).unwrap_or_default();
        Heading::right(metric.name()).titled(format!("{metric}{unit}"))
    }));
    headings.extend([
        Heading::left("motion_detected"),
        Heading::left("other_metrics"),
        Heading::left("states"),
    ]);
    headings
}

fn sensor_cells<'a>(reading: &'a StoredReading, name: Option<&'a str>, age: &'a Age) -> Vec<Cell<'a>> {
    let mut cells = vec![
        Cell::Text(&reading.group.location),
        Cell::Text(&reading.group.device_type),
        name.map_or(Cell::Missing, Cell::Text),
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
    cells.push(match reading.states.is_empty() {
        true => Cell::Missing,
        false => Cell::States(&reading.states),
    });
    cells
}

fn remark(output: &Output, groups: u64, sensors: u64) {
    output.note(match groups {
        0 => NOTHING_STORED.to_owned(),
        _ => format!("{} in {}", plural(sensors, "sensor"), plural(groups, "group")),
    });
}
