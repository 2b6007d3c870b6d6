//! `iotctl stats`: averages, extremes, deviations and percentiles by sensor, group or time.

use std::cell::Cell as Counter;
use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;

mod by;
mod picture;

use super::Context;
use super::flags::{PlotArgs, SelectionArgs, TagArgs, TimeArgs, metric};
use super::support::{
    self, NAMES_AT_ONCE, known_or_refused, sensor_cells, sensor_headings, until_stopped, with_bar,
};
use crate::analytics::metric_names;
use crate::analytics::sources::MaxResolution;
use crate::analytics::stats::{By, Key, Lines, Part, Sources, StatsQuery};
use crate::analytics::table::{self, Aggregate, ByArg, Fill, Row, Rows, rows};
use crate::analytics::tags::TagValues;
use crate::analytics::units::{Asked, Units};
use crate::cassandra::Session;
use crate::error::UsageError;
use crate::output::record::{Cell, Heading, Records};
use crate::output::text;
use crate::output::text::{grouped, plural};
use crate::output::{Format, Output};
use crate::reading::{Group, Metric};
use crate::store::rollups::Detail;
use crate::store::sensors::SensorNames;
use crate::time::{self, TimeRange};
use by::ByParser;
use picture::picture;

/// The statistics where none are asked for.
const DEFAULT_AGG: &str = "count,min,avg,max,stddev";

/// Statistics of metrics: by sensor, location, device type, tag and any length of time.
///
/// The answer is that of a scan over all readings: from rollups where hours and days have them (`iotctl rollup`), from the
/// raw rows elsewhere. Percentiles are within 0.4 % of the range of the values (of the value times its octaves, if the values
/// span several); --raw makes them exact. All else is exact. The deviation is that of the values themselves (divided by their
/// number).
///
/// Periods are those of UTC, or of the zone of --local or --time-zone: such a day has 23, 24 or 25 hours, and an hour
/// that comes twice is two lines. Weeks begin on Monday. Periods shorter than an hour, and hours in zones with half hours, are
/// read from the raw rows.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl stats --metric temperature --by location --last 30d
  iotctl stats --metric temperature --by tag:room --tag floor=2 --last 7d
  iotctl stats --metric humidity --by hour --location plant-1 --device-type thermostat --last 24h
  iotctl stats --metric rpm --by sensor --agg avg,p95,p99 --rate --format csv
  iotctl stats --metric temperature --by hour --last 14d --plot --heat-map
  iotctl stats --metric temperature --by day --sensor 5f0c1c9e-8b7b-5d3c-9d55-0b8b2f7e6a11
  iotctl stats --metric temperature --by day --last 30d --time-zone Europe/Berlin
  iotctl stats --metric temperature --metric humidity --by location,6h --last 7d
  iotctl stats --metric temperature --by 15m --last 24h --fill linear --agg avg,p99.9
  iotctl stats --metric rpm --by device-type --last 24h --compare 7d

Metrics: temperature (°C), humidity (%RH), pressure (hPa), light_level (lux), gas_concentration (ppm), and any name
in other_metrics. A value that was not measured never counts.")]
pub struct StatsArgs {
    /// A numeric column or a name in other_metrics; repeatable
    #[arg(long, value_name = "NAME", value_parser = metric, required = true)]
    metric: Vec<Metric>,
    /// What each line is about, up to four, in this order; tag:room for the values of a tag, or a length of time
    /// [default: one line for everything]
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', value_parser = ByParser)]
    by: Vec<ByArg>,
    /// Which statistics, in this order: count, min, avg, max, sum, stddev, or a percentile such as p50 or p99.9
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', default_value = DEFAULT_AGG)]
    agg: Vec<Aggregate>,
    /// Also print the change per hour from the first to the last value of each sensor
    #[arg(long)]
    pub rate: bool,
    /// Also print the statistics of the same range so much earlier, and the change since then
    #[arg(long, value_name = "LENGTH", conflicts_with = "plot", value_parser = length)]
    compare: Option<i64>,
    /// Print periods without a value too, with this in them
    #[arg(long, value_enum, value_name = "HOW", conflicts_with = "plot")]
    fill: Option<Fill>,
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub tags: TagArgs,
    #[command(flatten)]
    pub time: TimeArgs,
    /// Read every raw row, even if there are rollups; percentiles are exact
    #[arg(long)]
    pub raw: bool,
    #[command(flatten)]
    pub plot: PlotArgs,
    /// Draw a map of days by hours instead of a line; needs --by hour
    #[arg(long, requires = "plot")]
    pub heat_map: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

fn length(text: &str) -> Result<i64, String> {
    match time::length(text) {
        Ok(0) => Err("must be longer than 0 (write 24h or 7d)".to_owned()),
        Ok(length) => Ok(length),
        Err(error) => Err(error.to_string()),
    }
}

impl StatsArgs {
    fn detail(&self) -> Detail {
        match self.quantiles().is_empty() {
            true => Detail::WithoutSketch,
            false => Detail::Whole,
        }
    }

    fn quantiles(&self) -> Vec<f64> {
        self.agg.iter().filter_map(Aggregate::quantile).collect()
    }

    fn has_time(&self) -> bool {
        self.by.iter().any(|by| matches!(by, ByArg::Every(..)))
    }

    fn is_by_hour(&self) -> bool {
        matches!(self.by.as_slice(), [ByArg::Every(_, time::Span::Clock(time::HOUR))])
    }

    /// What cannot work together, before any server is asked.
    fn check(&self) -> anyhow::Result<()> {
        let refuse = |text: &str| Err(UsageError::new(text).into());
        if self.rate && !self.by.contains(&ByArg::Sensor) && self.selection.sensor.is_none() {
            return refuse(
                "--rate needs single sensors: a group has no first and last value (add --by sensor, or --sensor ID)",
            );
        }
        if self.plot.plot.is_some() && !self.has_time() {
            return Err(support::plot_refused("add --by hour or --by day"));
        }
        if self.plot.plot.is_some() && self.metric.len() > 1 {
            return refuse("--plot draws one metric (leave the other ones out)");
        }
        if self.heat_map && !self.is_by_hour() {
            return refuse("--heat-map needs hours (add --by hour)");
        }
        if self.fill.is_some() && !self.has_time() {
            return refuse("--fill is for periods of time (add --by hour, or --by 15m)");
        }
        if self.compare.is_some() && self.time.from.is_none() && self.time.last.is_none() {
            return refuse("--compare needs the start of a range of time (add --last 24h, or --from)");
        }
        Ok(())
    }

    /// Whether the lines of a table have to name the metric. Those for programs always do.
    fn names_metric(&self) -> bool {
        self.format != Format::Table || self.by.is_empty() || self.metric.len() > 1
    }

    /// Whether each line has its unit: always for programs, and where lines of sensors have no unit in common.
    fn has_unit(&self, units: &[Units]) -> bool {
        let differ = || units.iter().any(|units| units.one().is_none() && units.are_known());
        self.names_metric() || self.by.contains(&ByArg::Sensor) && differ()
    }

    /// `units` are those of the metrics.
    fn headings(&self, units: &[Units]) -> Vec<Heading> {
        let mut headings = Vec::new();
        for by in &self.by {
            match by {
                ByArg::Sensor => headings.extend(sensor_headings(self.format)),
                _ => headings.push(by.heading()),
            }
        }
        // Where there is no room for all, the id names the sensor, and the values are the answer.
        for (name, by) in [("location", ByArg::Location), ("device_type", ByArg::DeviceType)] {
            if self.by.contains(&ByArg::Sensor) && !self.by.contains(&by) {
                headings.push(Heading::left(name).rank(1));
            }
        }
        if self.names_metric() {
            headings.push(Heading::left("metric"));
        }
        if self.has_unit(units) {
            headings.push(Heading::left("unit"));
        }
        let one = match units {
            [units] => units.one().map(text::visible),
            _ => None,
        };
        let unit = one.as_ref().map(|unit| format!(" ({unit})")).unwrap_or_default();
        for aggregate in &self.agg {
            headings.push(aggregate.heading("", &unit));
            if self.compare.is_some() {
                headings.push(aggregate.heading("_before", &unit));
                headings.push(aggregate.heading("_change", &unit));
            }
        }
        if self.rate {
            let unit = one.unwrap_or_default();
            headings.push(Heading::right("rate").titled(format!("rate ({unit}/h)")));
        }
        headings
    }

    fn cells<'a>(
        &self,
        (metric, units, has_unit): (&'a Metric, &'a Units, bool),
        key: &'a Key,
        row: &'a Row,
        names: &'a SensorNames,
    ) -> Vec<Cell<'a>> {
        let mut cells = Vec::new();
        for part in key {
            match part {
                Part::Sensor(sensor) => {
                    cells.extend(sensor_cells(self.format, *sensor, names.get(*sensor)));
                }
                Part::Name(name) => cells.push(Cell::Text(name)),
                Part::Moment(at) => cells.push(Cell::Moment(*at)),
                Part::Untagged => cells.push(Cell::Missing),
                Part::None => {}
            }
        }
        let group = row.group.as_deref();
        if self.by.contains(&ByArg::Sensor) {
            if !self.by.contains(&ByArg::Location) {
                cells.push(group.map_or(Cell::Missing, |group| Cell::Text(&group.location)));
            }
            if !self.by.contains(&ByArg::DeviceType) {
                cells.push(group.map_or(Cell::Missing, |group| Cell::Text(&group.device_type)));
            }
        }
        if self.names_metric() {
            cells.push(Cell::Text(metric.name()));
        }
        if has_unit {
            let sensor = key.iter().find_map(|part| match part {
                Part::Sensor(sensor) => Some(*sensor),
                _ => None,
            });
            let unit = sensor.map_or_else(|| units.one(), |sensor| units.of_sensor(sensor));
            cells.push(unit.map_or(Cell::Missing, Cell::Text));
        }
        for (index, aggregate) in self.agg.iter().enumerate() {
            let value = row.values.get(index).copied().flatten();
            cells.push(aggregate.cell(value, row.is_filled));
            if self.compare.is_some() {
                let before = row.before.get(index).copied().flatten();
                cells.push(aggregate.cell(before, false));
                cells.push(value.zip(before).map_or(Cell::Missing, |(now, then)| Cell::Double(now - then)));
            }
        }
        if self.rate {
            cells.push(row.rate.map_or(Cell::Missing, Cell::Double));
        }
        cells
    }
}

/// What all metrics of the question have in common.
struct Question<'a> {
    args: &'a StatsArgs,
    context: &'a Context,
    session: &'a Session,
    query: StatsQuery,
}

impl Question<'_> {
    async fn find(&self, metric: &Metric, range: TimeRange) -> anyhow::Result<Lines> {
        self.find_by(metric, range, self.query.by).await
    }

    /// The lines that those of `length` later are compared with.
    async fn find_earlier(&self, metric: &Metric, range: TimeRange, length: i64) -> anyhow::Result<Lines> {
        self.find_by(metric, range, self.query.by.earlier(length)).await
    }

    async fn find_by(&self, metric: &Metric, range: TimeRange, by: By) -> anyhow::Result<Lines> {
        let Self { args, context, session, query } = self;
        let query = StatsQuery { metric: metric.clone(), range, by, ..query.clone() };
        let progress = Counter::new(Sources::default());
        let quantiles = args.quantiles();
        let find = async {
            match args.raw && !quantiles.is_empty() {
                true => query.find_exact(session, &quantiles, |now| progress.set(now)).await,
                false => Ok(query.find(session, |now| progress.set(now)).await?),
            }
        };
        let parts = || (progress.get().parts, progress.get().parts_done);
        let found = until_stopped(&context.shutdown, with_bar(&context.output, parts, find)).await?;
        if found.lines.is_empty() && matches!(metric, Metric::Other(_)) {
            let names = metric_names::other_metric_names(session, &query.groups);
            let names = until_stopped(&context.shutdown, names).await?;
            known_or_refused(metric, &names, query.groups.len())?;
        }
        Ok(found)
    }

    /// The names of the sensors among the keys, into `names`.
    async fn learn<'a>(
        &self,
        names: &mut SensorNames,
        keys: impl Iterator<Item = (&'a Key, &'a Arc<Group>)>,
    ) -> anyhow::Result<()> {
        let sensors: BTreeSet<_> = keys
            .flat_map(|(key, group)| {
                key.iter().filter_map(move |part| match part {
                    Part::Sensor(sensor) => Some((group, *sensor)),
                    _ => None,
                })
            })
            .collect();
        until_stopped(&self.context.shutdown, names.learn(self.session, sensors)).await?;
        Ok(())
    }
}

pub async fn run(mut args: StatsArgs, context: Context) -> anyhow::Result<()> {
    args.check()?;
    let (zone, now) = (args.time.zone()?, time::now());
    let range = args.time.range(now)?;
    let mut keys = Vec::new();
    let by = table::by::dimensions(&args.by, zone, &mut keys)?;
    let Context { output, shutdown, config, .. } = &context;
    let session = Session::connect(&config.cassandra).await?;
    until_stopped(shutdown, args.selection.find_sensor(&session)).await?;
    let groups = until_stopped(shutdown, args.selection.groups(&session)).await?;
    let (groups, chosen) = until_stopped(shutdown, args.tags.choose(&session, groups)).await?;
    let mut tag_values = Vec::new();
    for key in &keys {
        tag_values.push(until_stopped(shutdown, TagValues::read(&session, &groups, key)).await?);
    }
    let query = StatsQuery {
        groups,
        chosen,
        tag_values: tag_values.into(),
        sensor: args.selection.sensor_id(),
        metric: args.metric[0].clone(),
        range,
        by,
        detail: args.detail(),
        max_resolution: if args.raw { MaxResolution::Raw } else { MaxResolution::Day },
    };
    let question = Question { args: &args, context: &context, session: &session, query };
    let periods = by.periods();
    let mut names = args.selection.names();
    let mut units = Vec::new();
    for metric in &args.metric {
        let query = &question.query;
        let asked = Asked { groups: &query.groups, sensor: query.sensor, chosen: query.chosen.as_deref() };
        let found = until_stopped(shutdown, Units::of(&session, asked, metric)).await?;
        found.remark(metric).into_iter().for_each(|remark| output.note(remark));
        units.push(found);
    }
    if args.plot.plot.is_some() {
        let found = question.find(&args.metric[0], range).await?;
        question.learn(&mut names, found.lines.iter().map(|(key, line)| (key, &line.group))).await?;
        let picture =
            picture(&args, (&args.metric[0], units[0].one()), (zone, periods), &found, &names, output);
        return args.plot.show(&picture, output);
    }
    let mut records = output.records(args.format, zone, args.headings(&units))?;
    let mut told = Told::default();
    let has_unit = args.has_unit(&units);
    for (metric, units) in args.metric.iter().zip(&units) {
        let found = question.find(metric, range).await?;
        let mut rows = rows::rows(&found.lines, &args.agg);
        told.add(metric, &found);
        if let Some(length) = args.compare {
            let shown = TimeRange { to: if range.to == i64::MAX { now } else { range.to }, ..range };
            let before = question.find_earlier(metric, rows::earlier(zone, shown, length), length).await?;
            rows::compare(&mut rows, &before.lines, &args.agg, periods, shown);
        }
        if let Some(how) = args.fill {
            rows::fill(&mut rows, how, &args.agg, periods, range, now)?;
        }
        print(&question, (metric, units, has_unit), &rows, &mut names, &mut records).await?;
    }
    records.finish()?;
    told.note(&question, output);
    Ok(())
}

async fn print(
    question: &Question<'_>,
    metric: (&Metric, &Units, bool),
    rows: &Rows,
    names: &mut SensorNames,
    records: &mut Records<impl std::io::Write>,
) -> anyhow::Result<()> {
    let rows: Vec<_> = rows.iter().collect();
    for part in rows.chunks(NAMES_AT_ONCE) {
        let keys = part.iter().filter_map(|(key, row)| Some((*key, row.group.as_ref()?)));
        question.learn(names, keys).await?;
        for (key, row) in part {
            let cells = question.args.cells(metric, key, row, names);
            records.write(&cells).context("cannot print a line")?;
        }
    }
    Ok(())
}

/// What is said after the answer.
#[derive(Debug, Default)]
struct Told {
    values: u64,
    rollups: u64,
    readings: u64,
    legacy: usize,
    without: Vec<String>,
}

impl Told {
    fn add(&mut self, metric: &Metric, found: &Lines) {
        self.values += found.lines.values().map(|line| line.summary.count).sum::<u64>();
        self.rollups += found.sources.rollups;
        self.readings += found.sources.readings;
        self.legacy += found.lines.values().filter(|line| line.summary.sketch.is_legacy()).count();
        if found.lines.is_empty() {
            self.without.push(metric.to_string());
        }
    }

    fn note(&self, question: &Question<'_>, output: &Output) {
        if question.query.groups.is_empty() {
            return output.note(support::NOTHING_STORED);
        }
        for metric in &self.without {
            output.note(format!("no reading has {metric} in this range of time"));
        }
        if self.values > 0 {
            output.note(format!(
                "{}, from {} of rollups and {}",
                grouped(self.values, "value"),
                grouped(self.rollups, "partition"),
                grouped(self.readings, "raw reading")
            ));
        }
        if self.legacy > 0 {
            output.note(format!(
                "the percentiles of {} come from rollups of an older version: they are within 0.4 % of the value, \
                 not of the range (`iotctl rollup --rebuild` computes the rollups again)",
                plural(self.legacy, "line")
            ));
        }
    }
}
