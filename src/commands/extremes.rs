//! `iotctl extremes`: each sensor's highest or lowest value, ranked.

use std::cell::Cell as Counter;
use std::sync::Arc;

use chrono::Utc;
use clap::Args;

use super::Context;
use super::flags::{GroupArgs, TagArgs, TimeArgs, finite, metric};
use super::support::{
    self, NAMES_AT_ONCE, known_or_refused, sensor_cells, sensor_headings, until_stopped, with_bar,
};
use crate::analytics::extremes::{self, Extreme, Limits, Progress, Side};
use crate::analytics::metric_names;
use crate::analytics::sources::MaxResolution;
use crate::analytics::units::{Asked, Units};
use crate::cassandra::Session;
use crate::error::UsageError;
use crate::output::record::{Cell, Heading};
use crate::output::text::{one_or_many, plural};
use crate::output::{Format, Output};
use crate::plot::lines;
use crate::reading::Group;
use crate::reading::Metric;
use crate::store::sensors::SensorNames;
use crate::time::TimeRange;

/// Rank sensors by their highest or lowest value.
///
/// The answer is that of a scan over all readings: from rollups where hours and days have them, computed by the servers from the
/// raw rows elsewhere. The time is the latest one at which the sensor had the value. Equal values rank by time, the latest
/// first, then by sensor id. Without --highest or --lowest, both are shown.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl extremes --metric temperature
  iotctl extremes --metric temperature --highest --top 3 --last 24h
  iotctl extremes --metric humidity --lowest --below 20 --location plant-1
  iotctl extremes --metric temperature --highest --tag room=A12
  iotctl extremes --metric rpm --device-type machine --from 2026-01-31 --to 2026-02-01 --format csv

Metrics: temperature (°C), humidity (%RH), pressure (hPa), light_level (lux), gas_concentration (ppm), and any name
in other_metrics. A value that was not measured never counts.")]
pub struct ExtremesArgs {
    /// A numeric column or a name in other_metrics
    #[arg(long, value_name = "NAME", value_parser = metric)]
    pub metric: Metric,
    /// Maximum number of sensors on each side; 0 for all
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub top: usize,
    /// Rank by highest value
    #[arg(long, conflicts_with_all = ["lowest", "both"])]
    pub highest: bool,
    /// Rank by lowest value
    #[arg(long, conflicts_with = "both")]
    pub lowest: bool,
    /// Rank by both (the default)
    #[arg(long)]
    pub both: bool,
    /// Only sensors whose extreme is greater than this
    #[arg(long, value_name = "VALUE", allow_negative_numbers = true, value_parser = finite)]
    pub above: Option<f64>,
    /// Only sensors whose extreme is less than this
    #[arg(long, value_name = "VALUE", allow_negative_numbers = true, value_parser = finite)]
    pub below: Option<f64>,
    #[command(flatten)]
    pub group: GroupArgs,
    #[command(flatten)]
    pub tags: TagArgs,
    #[command(flatten)]
    pub time: TimeArgs,
    /// Read all raw rows and use no rollups
    #[arg(long)]
    pub raw: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

impl ExtremesArgs {
    fn sides(&self) -> &'static [Side] {
        match (self.highest, self.lowest) {
            (true, _) => &[Side::Highest],
            (_, true) => &[Side::Lowest],
            _ => &[Side::Highest, Side::Lowest],
        }
    }

    fn limits(&self) -> Result<Limits, UsageError> {
        if let (Some(above), Some(below)) = (self.above, self.below)
            && above >= below
        {
            let message = format!("no value is above {above} and below {below} (swap --above and --below)");
            return Err(UsageError::new(message));
        }
        Ok(Limits { top: (self.top > 0).then_some(self.top), above: self.above, below: self.below })
    }
}

pub async fn run(args: ExtremesArgs, context: Context) -> anyhow::Result<()> {
    let range = args.time.range(Utc::now().timestamp_millis())?;
    let limits = args.limits()?;
    let metric = &args.metric;
    let Context { output, shutdown, config, .. } = &context;
    let session = Session::connect(&config.cassandra).await?;
    let groups = until_stopped(shutdown, args.group.selection().resolve(&session)).await?;

    let (groups, chosen) = until_stopped(shutdown, args.tags.choose(&session, groups)).await?;
    let progress = Counter::new(Progress::default());
    let max_resolution = if args.raw { MaxResolution::Raw } else { MaxResolution::Day };
    let find = extremes::find(&session, &groups, metric, range, max_resolution, chosen.as_deref(), |now| {
        progress.set(now);
    });
    let parts = || (progress.get().parts, progress.get().parts_done);
    let found = until_stopped(shutdown, with_bar(output, parts, find)).await?;
    if found.sensors() == 0 && matches!(metric, Metric::Other(_)) {
        let names = until_stopped(shutdown, metric_names::other_metric_names(&session, &groups)).await?;
        known_or_refused(metric, &names, groups.len())?;
    }

    let asked = Asked { groups: &groups, sensor: None, chosen: chosen.as_deref() };
    let units = until_stopped(shutdown, Units::of(&session, asked, metric)).await?;
    let mut names = SensorNames::default();
    let mut all = Vec::new();
    for &side in args.sides() {
        let ranked = extremes::rank(&session, &found, metric, range, side, &limits);
        all.push((side, until_stopped(shutdown, ranked).await?));
    }
    let unit = units.among(all.iter().flat_map(|(_, ranked)| ranked).map(|extreme| extreme.sensor));
    // Of several units, each row has its own.
    let has_unit = args.format != Format::Table || unit.is_none() && units.are_known();
    let headings = headings(metric, unit, args.format, has_unit);
    let mut records = output.records(args.format, args.time.zone()?, headings)?;
    for (side, ranked) in all {
        for (part, first) in ranked.chunks(NAMES_AT_ONCE).zip((1..).step_by(NAMES_AT_ONCE)) {
            let sensors = part.iter().map(|extreme| (&extreme.group, extreme.sensor));
            until_stopped(shutdown, names.learn(&session, sensors)).await?;
            for (extreme, rank) in part.iter().zip(first..) {
                let name = names.get(extreme.sensor);
                let unit = has_unit.then(|| units.of_sensor(extreme.sensor));
                records.write(&cells((metric, unit), args.format, side, rank, extreme, name))?;
            }
        }
    }
    let rows = records.finish()?;
    units.remark(metric).into_iter().for_each(|remark| output.note(remark));
    remark(rows, found.sensors(), progress.get(), &groups, range, metric, output);
    Ok(())
}

/// A table names the metric in its heading, with the unit; for programs each row says all.
fn headings(metric: &Metric, unit: Option<&str>, format: Format, has_unit: bool) -> Vec<Heading> {
    let mut headings = vec![
        Heading::left("extreme"),
        Heading::right("rank"),
        Heading::right("value").titled(lines::title_in(metric, unit)),
        Heading::left("recorded_timestamp"),
    ];
    headings.extend(sensor_headings(format));
    headings.extend([Heading::left("location"), Heading::left("device_type")]);
    if format != Format::Table {
        headings.push(Heading::left("metric"));
    }
    if has_unit {
        headings.push(Heading::left("unit"));
    }
    headings
}

fn cells<'a>(
    (metric, unit): (&'a Metric, Option<Option<&'a str>>),
    format: Format,
    side: Side,
    rank: u64,
    extreme: &'a Extreme,
    name: Option<&'a str>,
) -> Vec<Cell<'a>> {
    let mut cells = vec![
        Cell::Text(side.name()),
        Cell::Count(rank),
        Cell::Number(extreme.value),
        Cell::Moment(extreme.recorded_at),
    ];
    cells.extend(sensor_cells(format, extreme.sensor, name));
    cells.extend([Cell::Text(&extreme.group.location), Cell::Text(&extreme.group.device_type)]);
    if format != Format::Table {
        cells.push(Cell::Text(metric.name()));
    }
    if let Some(unit) = unit {
        cells.push(unit.map_or(Cell::Missing, Cell::Text));
    }
    cells
}

fn remark(
    rows: u64,
    sensors: usize,
    progress: Progress,
    groups: &[Arc<Group>],
    range: TimeRange,
    metric: &Metric,
    output: &Output,
) {
    let groups = groups.len();
    let Progress { parts, rollups, .. } = progress;
    let raw = parts - rollups;
    let sources = match (rollups, raw) {
        (0, _) => plural(raw, "bucket"),
        (_, 0) => plural(rollups, "rollup"),
        _ => format!("{} and {}", plural(rollups, "rollup"), plural(raw, "raw bucket")),
    };
    output.note(if groups == 0 {
        support::NOTHING_STORED.to_owned()
    } else if sensors == 0 {
        let when = if range.is_everything() { "" } else { " in this range of time" };
        format!("no reading has {metric}{when} ({sources} of {})", plural(groups, "group"))
    } else {
        let none = if rows == 0 { "no extreme within the limits; " } else { "" };
        let sensors = one_or_many(sensors, "sensor has", "sensors have");
        format!("{none}{sensors} {metric} ({sources} of {})", plural(groups, "group"))
    });
}
