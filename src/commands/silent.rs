//! `iotctl silent`: sensors that have sent nothing for too long.

use chrono::Utc;
use clap::Args;

use super::Context;
use super::flags::{GroupArgs, TagArgs, ZoneArgs};
use super::support::{Age, NAMES_AT_ONCE, NOTHING_STORED, age, sensor_cells, sensor_headings, until_stopped};
use crate::analytics::silence;
use crate::cassandra::Session;
use crate::error::UsageError;
use crate::output::Format;
use crate::output::record::{Cell, Heading};
use crate::store::sensors::SensorNames;
use crate::time;

/// List sensors that have sent nothing for too long, the longest silence first.
///
/// Silence is counted from the time at which the newest reading was recorded, not from its arrival: a late reading does not
/// end it. A sensor that has moved to another group is silent in its old group.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl silent
  iotctl silent --longer-than 15m --location plant-1
  iotctl silent --tag room=A12 --tag room=A13
  iotctl silent --longer-than 1d --format ndjson | jq -r .iot_sensor_id")]
pub struct SilentArgs {
    /// Minimum silence: 15m, 1h, 2d
    #[arg(long, value_name = "LENGTH", default_value = "1h")]
    pub longer_than: String,
    #[command(flatten)]
    pub group: GroupArgs,
    #[command(flatten)]
    pub tags: TagArgs,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    #[command(flatten)]
    pub zone: ZoneArgs,
}

pub async fn run(args: SilentArgs, context: Context) -> anyhow::Result<()> {
    let longest = time::length(&args.longer_than).map_err(|error| UsageError::new(error.to_string()))?;
    let zone = args.zone.zone()?;
    let session = Session::connect(&context.config.cassandra).await?;
    let groups = until_stopped(&context.shutdown, args.group.selection().resolve(&session)).await?;
    let (groups, chosen) = until_stopped(&context.shutdown, args.tags.choose(&session, groups)).await?;
    let now = Utc::now().timestamp_millis();
    let since = now.saturating_sub(longest);
    let found =
        until_stopped(&context.shutdown, silence::find(&session, &groups, since, chosen.as_deref())).await?;
    let mut headings = vec![Heading::left("location"), Heading::left("device_type")];
    headings.extend(sensor_headings(args.format));
    headings.extend([
        Heading::left("recorded_timestamp").titled("last reading").rank(1),
        Heading::right("age_seconds").titled("silent for"),
    ]);
    let mut records = context.output.records(args.format, zone, headings)?;
    let mut names = SensorNames::default();
    for part in found.silent.chunks(NAMES_AT_ONCE) {
        let sensors = part.iter().map(|silent| (&silent.group, silent.sensor));
        until_stopped(&context.shutdown, names.learn(&session, sensors)).await?;
        for silent in part {
            let age: Age = age(now, silent.last_at, args.format);
            let mut cells = vec![Cell::Text(&silent.group.location), Cell::Text(&silent.group.device_type)];
            cells.extend(sensor_cells(args.format, silent.sensor, names.get(silent.sensor)));
            cells.extend([Cell::Moment(silent.last_at), age.cell()]);
            records.write(&cells)?;
        }
    }
    let silent = records.finish()?;
    context.output.note(match found.sensors {
        0 => NOTHING_STORED.to_owned(),
        sensors => {
            format!("{silent} of {sensors} sensors silent for longer than {}", args.longer_than.trim())
        }
    });
    Ok(())
}
