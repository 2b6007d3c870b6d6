//! `iotctl stats`: averages, extremes, deviations and percentiles by sensor, group or time.

use std::cell::Cell as Counter;
use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use chrono::Utc;
use clap::builder::{EnumValueParser, PossibleValue, TypedValueParser};
use clap::{Args, ValueEnum};

use super::Context;
use super::flags::{PlotArgs, SelectionArgs, TagArgs, TimeArgs, metric};
use super::support::{
    self, NAMES_AT_ONCE, known_or_refused, sensor_cells, sensor_headings, until_stopped, with_bar,
};
use crate::analytics::metric_names;
use crate::analytics::sources::MaxResolution;
use crate::analytics::stats::{By, Key, Line, Sources, StatsQuery};
use crate::analytics::tags::TagValues;
use crate::cassandra::Session;
use crate::error::UsageError;
use crate::output::Format;
use crate::output::record::{Cell, Heading};
use crate::plot::files::Picture;
use crate::plot::{Chart, HeatMap, Range, Series};
use crate::reading::{Metric, tags};
use crate::series::Point;
use crate::store::rollups::Detail;
use crate::store::sensors::SensorNames;
use crate::time::{Periods, Zone};

/// Statistics of a metric: by sensor, location, device type, hour or day.
///
/// The answer is that of a scan over all readings: from rollups where hours and days have them (`iotctl rollup`), from the
/// raw rows elsewhere. Percentiles are within 0.4 % of the range of the values (of the value times its octaves, if the values
/// span several); --raw makes them exact. All else is exact. The deviation is that of the values themselves (divided by their
/// number).
///
/// Hours and days are those of UTC, or of the zone of --local or --time-zone: such a day has 23, 24 or 25 hours, and an hour
/// that comes twice is two lines. In zones with half hours, --by hour reads all raw rows.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl stats --metric temperature --by location --last 30d
  iotctl stats --metric temperature --by tag:room --tag floor=2 --last 7d
  iotctl stats --metric humidity --by hour --location plant-1 --device-type thermostat --last 24h
  iotctl stats --metric rpm --by sensor --agg avg,p95,p99 --rate --format csv
  iotctl stats --metric temperature --by hour --last 14d --plot --heat-map
  iotctl stats --metric temperature --by day --sensor 5f0c1c9e-8b7b-5d3c-9d55-0b8b2f7e6a11
  iotctl stats --metric temperature --by day --last 30d --time-zone Europe/Berlin

Metrics: temperature (°C), humidity (%RH), pressure (hPa), light_level (lux), gas_concentration (ppm), and any name
in other_metrics. A value that was not measured never counts.")]
pub struct StatsArgs {
    /// A numeric column or a name in other_metrics
    #[arg(long, value_name = "NAME", value_parser = metric)]
    pub metric: Metric,
    /// What each line is about; tag:room for the values of a tag [default: one line for everything]
    #[arg(long, value_name = "WHAT", value_parser = ByParser)]
    pub by: Option<ByArg>,
    /// Which statistics, in this order
    #[arg(
        long,
        value_enum,
        value_name = "A,B,…",
        value_delimiter = ',',
        default_value = "count,min,avg,max,stddev"
    )]
    pub agg: Vec<Aggregate>,
    /// Also print the change per hour from the first to the last value of each sensor
    #[arg(long)]
    pub rate: bool,
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

#[derive(Debug, Clone, PartialEq, Eq, clap::ValueEnum)]
pub enum ByArg {
    Sensor,
    Location,
    DeviceType,
    Hour,
    Day,
    /// With its key.
    #[value(skip)]
    Tag(String),
}

/// `tag:KEY`, or one of the names.
#[derive(Debug, Clone, Copy)]
struct ByParser;

impl TypedValueParser for ByParser {
    type Value = ByArg;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<ByArg, clap::Error> {
        match value.to_str().and_then(|text| text.strip_prefix("tag:")) {
            Some(key) if tags::check_key(key).is_ok() => Ok(ByArg::Tag(key.to_owned())),
            _ => EnumValueParser::<ByArg>::new().parse_ref(command, arg, value),
        }
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let tag = PossibleValue::new("tag:KEY");
        let names = ByArg::value_variants().iter().filter_map(ValueEnum::to_possible_value);
        Some(Box::new(names.chain([tag])))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Aggregate {
    Count,
    Min,
    Avg,
    Max,
    Sum,
    Stddev,
    P50,
    P90,
    P95,
    P99,
}

impl Aggregate {
    fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Min => "min",
            Self::Avg => "avg",
            Self::Max => "max",
            Self::Sum => "sum",
            Self::Stddev => "stddev",
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P95 => "p95",
            Self::P99 => "p99",
        }
    }

    fn quantile(self) -> Option<f64> {
        match self {
            Self::P50 => Some(0.5),
            Self::P90 => Some(0.9),
            Self::P95 => Some(0.95),
            Self::P99 => Some(0.99),
            _ => None,
        }
    }

    fn cell(self, line: &Line) -> Cell<'static> {
        let summary = &line.summary;
        match self {
            Self::Count => Cell::Count(summary.count),
            Self::Min => Cell::Number(summary.lowest.value),
            Self::Avg => Cell::Double(summary.mean()),
            Self::Max => Cell::Number(summary.highest.value),
            Self::Sum => Cell::Double(summary.sum),
            Self::Stddev => Cell::Double(summary.standard_deviation()),
            Self::P50 | Self::P90 | Self::P95 | Self::P99 => {
                self.quantile().map_or(Cell::Missing, |quantile| Cell::Number(line.quantile(quantile)))
            }
        }
    }
}

impl StatsArgs {
    fn by(&self) -> By {
        match &self.by {
            Some(ByArg::Sensor) => By::Sensor,
            Some(ByArg::Tag(_)) => By::Tag,
            Some(ByArg::Location) => By::Location,
            Some(ByArg::DeviceType) => By::DeviceType,
            Some(ByArg::Hour) => By::Hour,
            Some(ByArg::Day) => By::Day,
            None => By::Everything,
        }
    }

    fn detail(&self) -> Detail {
        match self.agg.iter().any(|aggregate| aggregate.quantile().is_some()) {
            true => Detail::Whole,
            false => Detail::WithoutSketch,
        }
    }

    /// For programs, every line names the metric.
    fn headings(&self, metric: &Metric) -> Vec<Heading> {
        let mut headings = match &self.by {
            // Where there is no room for all, the id names the sensor, and the values are the answer.
            Some(ByArg::Sensor) => {
                let mut headings = sensor_headings(self.format);
                headings.extend(["location", "device_type"].map(|name| Heading::left(name).rank(1)));
                headings
            }
            Some(ByArg::Location) => vec![Heading::left("location")],
            Some(ByArg::DeviceType) => vec![Heading::left("device_type")],
            Some(ByArg::Hour) => vec![Heading::left("hour")],
            Some(ByArg::Day) => vec![Heading::left("day")],
            Some(ByArg::Tag(key)) => vec![Heading::left(format!("tag:{key}"))],
            None => Vec::new(),
        };
        if self.format != Format::Table || self.by.is_none() {
            headings.push(Heading::left("metric"));
            headings.push(Heading::left("unit"));
        }
        let unit = metric.unit().map(|unit| format!(" ({unit})")).unwrap_or_default();
        headings.extend(self.agg.iter().map(|aggregate| {
            let heading = Heading::right(aggregate.name());
            match aggregate {
                Aggregate::Count => heading,
                _ => heading.titled(format!("{}{unit}", aggregate.name())),
            }
        }));
        if self.rate {
            let unit = metric.unit().unwrap_or_default();
            headings.push(Heading::right("rate").titled(format!("rate ({unit}/h)")));
        }
        headings
    }

    fn cells<'a>(
        &self,
        metric: &'a Metric,
        key: &'a Key,
        line: &'a Line,
        names: &'a SensorNames,
    ) -> Vec<Cell<'a>> {
        let mut cells = match key {
            Key::Sensor(sensor) => {
                let mut cells: Vec<_> = sensor_cells(self.format, *sensor, names.get(*sensor)).collect();
                cells.extend([Cell::Text(&line.group.location), Cell::Text(&line.group.device_type)]);
                cells
            }
            Key::Name(name) => vec![Cell::Text(name)],
            Key::Moment(at) => vec![Cell::Moment(*at)],
            Key::Untagged => vec![Cell::Missing],
            Key::Everything => Vec::new(),
        };
        if self.format != Format::Table || self.by.is_none() {
            cells.push(Cell::Text(metric.name()));
            cells.push(metric.unit().map_or(Cell::Missing, Cell::Text));
        }
        cells.extend(self.agg.iter().map(|aggregate| aggregate.cell(line)));
        if self.rate {
            cells.push(line.summary.change_per_hour().map_or(Cell::Missing, Cell::Double));
        }
        cells
    }
}

/// Averages between the lowest and the highest value, or as a map of days by hours.
fn picture(args: &StatsArgs, metric: &Metric, zone: Zone, lines: &BTreeMap<Key, Line>) -> Picture {
    let moments = || {
        lines.iter().filter_map(|(key, line)| match key {
            Key::Moment(at) => Some((*at, &line.summary)),
            _ => None,
        })
    };
    let periods = if args.by == Some(ByArg::Day) { Periods::Days(zone) } else { Periods::Hours(zone) };
    let mut points: Vec<Point> = Vec::new();
    let mut band: Vec<Range> = Vec::new();
    for (at, summary) in moments() {
        // A gap in the data is a gap in the line.
        let end = points.last().map(|last| periods.of(last.at).to);
        if let Some(end) = end.filter(|end| at > *end && !args.heat_map) {
            points.push(Point { at: end, value: f64::NAN });
            band.push(Range { at: end, low: f64::NAN, high: f64::NAN });
        }
        points.push(Point { at, value: summary.mean() });
        let (low, high) = (summary.lowest.value, summary.highest.value);
        band.push(Range { at, low, high });
    }
    let title = format!("average {}", support::plot_title(metric));
    let subject = support::plot_subject(&args.selection);
    if args.heat_map {
        let title = format!("{title} by day and hour");
        return Picture::HeatMap(HeatMap { title, subject, ..HeatMap::of(zone, points) });
    }
    let series = vec![Series { name: "average".to_owned(), points }];
    let band_name = "lowest to highest value".to_owned();
    Picture::Chart(Chart { title, subject, series, band, band_name, zone, ..Chart::default() })
}

pub async fn run(mut args: StatsArgs, context: Context) -> anyhow::Result<()> {
    let zone = args.time.zone()?;
    let range = args.time.range(Utc::now().timestamp_millis())?;
    if args.rate && args.by != Some(ByArg::Sensor) && args.selection.sensor.is_none() {
        let message = "--rate needs single sensors: a group has no first and last value \
                       (add --by sensor, or --sensor ID)";
        return Err(UsageError::new(message).into());
    }
    if args.plot.plot.is_some() && !matches!(args.by, Some(ByArg::Hour | ByArg::Day)) {
        return Err(support::plot_refused("add --by hour or --by day"));
    }
    if args.heat_map && args.by != Some(ByArg::Hour) {
        return Err(UsageError::new("--heat-map needs hours (add --by hour)").into());
    }
    let Context { output, shutdown, config, .. } = &context;
    let session = Session::connect(&config.cassandra).await?;
    until_stopped(shutdown, args.selection.find_sensor(&session)).await?;
    let groups = until_stopped(shutdown, args.selection.groups(&session)).await?;
    let (groups, chosen) = until_stopped(shutdown, args.tags.choose(&session, groups)).await?;
    let tag_values = match &args.by {
        Some(ByArg::Tag(key)) => until_stopped(shutdown, TagValues::read(&session, &groups, key)).await?,
        _ => TagValues::default(),
    };
    let query = StatsQuery {
        groups,
        chosen,
        tag_values: Arc::new(tag_values),
        sensor: args.selection.sensor_id(),
        metric: args.metric.clone(),
        range,
        by: args.by(),
        zone,
        detail: args.detail(),
        max_resolution: if args.raw { MaxResolution::Raw } else { MaxResolution::Day },
    };
    let progress = Counter::new(Sources::default());
    let has_percentiles = query.detail == Detail::Whole;
    let find = async {
        match args.raw && has_percentiles {
            true => query.find_exact(&session, |now| progress.set(now)).await,
            false => Ok(query.find(&session, |now| progress.set(now)).await?),
        }
    };
    let parts = || (progress.get().parts, progress.get().parts_done);
    let found = until_stopped(shutdown, with_bar(output, parts, find)).await?;
    let metric = &query.metric;
    if found.lines.is_empty() && matches!(metric, Metric::Other(_)) {
        let names =
            until_stopped(shutdown, metric_names::other_metric_names(&session, &query.groups)).await?;
        known_or_refused(metric, &names, query.groups.len())?;
    }
    if args.plot.plot.is_some() {
        return args.plot.show(&picture(&args, metric, zone, &found.lines), output);
    }
    let mut records = output.records(args.format, zone, args.headings(metric))?;
    let mut names = args.selection.names();
    let lines: Vec<_> = found.lines.iter().collect();
    for part in lines.chunks(NAMES_AT_ONCE) {
        let sensors = part.iter().filter_map(|(key, line)| match key {
            Key::Sensor(sensor) => Some((&line.group, *sensor)),
            _ => None,
        });
        until_stopped(shutdown, names.learn(&session, sensors)).await?;
        for (key, line) in part {
            records.write(&args.cells(metric, key, line, &names)).context("cannot print a line")?;
        }
    }
    records.finish()?;
    let Sources { rollups, readings, .. } = found.sources;
    output.note(if query.groups.is_empty() {
        support::NOTHING_STORED.to_owned()
    } else if found.lines.is_empty() {
        format!("no reading has {metric} in this range of time")
    } else {
        let values: u64 = found.lines.values().map(|line| line.summary.count).sum();
        let count = |count| indicatif::HumanCount(count).to_string();
        format!(
            "{} values, from {} partitions of rollups and {} raw readings",
            count(values),
            count(rollups),
            count(readings)
        )
    });
    let old = found.lines.values().filter(|line| line.summary.sketch.is_legacy()).count();
    if old > 0 {
        output.note(format!(
            "the percentiles of {old} lines come from rollups of an older version: they are within 0.4 % of the value, \
             not of the range (`iotctl rollup --rebuild` computes the rollups again)"
        ));
    }
    Ok(())
}
