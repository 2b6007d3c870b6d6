//! `iotctl query`: readings in order of time, or the newest reading of each sensor.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Context as _;
use chrono::Utc;
use clap::Args;
use uuid::Uuid;

use super::Context;
use super::flags::{PlotArgs, SelectionArgs, TagArgs, TimeArgs};
use super::support::{self, until_stopped};
use crate::analytics::column::Value;
use crate::analytics::scan::Question;
use crate::analytics::units::{Asked, Units};
use crate::analytics::{Column, Filter, Order, Scan};
use crate::cassandra::Session;
use crate::error::UsageError;
use crate::output::record::{Cell, Heading, Records};
use crate::output::{Format, Output, text};
use crate::plot::files::Picture;
use crate::plot::{Chart, Series, lines};
use crate::reading::Metric;
use crate::series::Downsampler;
use crate::series::Point;
use crate::shutdown::Shutdown;
use crate::store::readings::{self, Names, StoredReading};
use crate::store::sensors::SensorNames;
use crate::time::Zone;

/// Rows of a table without --limit: about what a person looks at.
const TABLE_LIMIT: u64 = 100;

/// Print the readings of a group or a sensor.
///
/// Rows are printed in order of time, newest first, as soon as the first ones are known; memory does not grow with the
/// result. Without a time range, everything that is stored is searched.
///
/// JSON uses the field names of the wire format, so that it can be sent again with `iotctl simulate --replay`. A value that
/// was not measured is empty in tables and CSV, and absent from JSON.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl query --location plant-1 --device-type thermostat --last 1h
  iotctl query --sensor 5f0c1c9e-8b7b-5d3c-9d55-0b8b2f7e6a11 --from '2026-01-31 12:00' --to '2026-01-31 13:00'
  iotctl query --location plant-1 --device-type thermostat --where 'temperature > 28 and humidity < 40'
  iotctl query --location plant-1 --device-type machine --columns recorded_timestamp,temperature,rpm --format csv
  iotctl query --location plant-1 --device-type thermostat --latest
  iotctl query --tag room=A12 --tag floor=2 --last 1h
  iotctl query --location plant-1 --device-type thermostat --last 24h --columns humidity --plot humidity.svg

A condition compares columns or names of other metrics with =, !=, <, <=, >, >= and joins with and, or, not, ( );
`humidity is missing` and `humidity is not missing` ask for what was not measured, which no comparison finds.
A name with blanks or quotes stands in quotes, and the same quote inside is written twice: '\"5\"\" pipe\" > 3'.
Moments: 2026-01-31, '2026-01-31 12:00', 2026-01-31T12:00:00Z, now, -2h, '2h ago'; UTC without --local, --time-zone
or an offset.")]
pub struct QueryArgs {
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub tags: TagArgs,
    #[command(flatten)]
    pub time: TimeArgs,
    /// Maximum number of rows, the first in --order; 0 for all [default: 100 for tables, else all]
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Only the newest reading of each sensor, in order of sensor id
    #[arg(long, conflicts_with = "order")]
    pub latest: bool,
    /// Only readings that match this condition
    ///
    /// Compare columns and other metrics with numbers, true, false or text in quotes, and combine that with and, or, not
    /// and parentheses. Put an unusual name in quotes, and write a quote inside it twice: --where '"5"" pipe" > 3'.
    #[arg(long = "where", value_name = "CONDITION")]
    pub condition: Option<String>,
    /// Columns to print; other metrics by their names
    #[arg(long, value_name = "A,B,…", value_delimiter = ',')]
    pub columns: Vec<String>,
    /// Order by time: newest or oldest first
    #[arg(long, value_enum, default_value_t)]
    pub order: Order,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Print the defaults of the legacy platform for values that were not measured (-999.0, false, 0, {}); --where ignores them
    #[arg(long)]
    pub fill_defaults: bool,
    #[command(flatten)]
    pub plot: PlotArgs,
}

pub async fn run(mut args: QueryArgs, context: Context) -> anyhow::Result<()> {
    let now = Utc::now().timestamp_millis();
    let zone = args.time.zone()?;
    let range = args.time.range(now)?;
    let filter = args
        .condition
        .as_deref()
        .map(|condition| Filter::parse(condition, zone, now))
        .transpose()
        .map_err(|error| UsageError::new(error.to_string()))?;
    let columns = columns(&args)?;
    let selection = args.selection.group.selection();
    if args.selection.sensor.is_none() && args.tags.tags.is_empty() {
        selection.exactly()?;
    }
    let session = Session::connect(&context.config.cassandra).await?;
    until_stopped(&context.shutdown, args.selection.find_sensor(&session)).await?;
    let sensor = args.selection.sensor_id();
    let groups = match args.tags.tags.is_empty() {
        true => until_stopped(&context.shutdown, args.selection.one_group(&session)).await?,
        false => until_stopped(&context.shutdown, args.selection.groups(&session)).await?,
    };
    let (groups, chosen) = until_stopped(&context.shutdown, args.tags.choose(&session, groups)).await?;
    let question = Question { groups, sensor, range, filter, chosen, order: Some(args.order) };
    if args.plot.plot.is_some() {
        return draw(&args, &session, question, drawn(&args, &columns, &context.output)?, &context).await;
    }
    let limit = match args.limit {
        Some(0) => u64::MAX,
        Some(limit) => limit,
        None if args.format == Format::Table => TABLE_LIMIT,
        None => u64::MAX,
    };
    let mut headings: Vec<Heading> = columns.iter().map(|column| heading(column, args.format)).collect();
    if args.format == Format::Table {
        for (heading, column) in headings.iter_mut().zip(&columns) {
            let Shown::Column(Column::Metric(metric @ Metric::Other(_))) = column else { continue };
            let asked = Asked { groups: &question.groups, sensor, chosen: question.chosen.as_deref() };
            let units = until_stopped(&context.shutdown, Units::of(&session, asked, metric)).await?;
            units.remark(metric).into_iter().for_each(|remark| context.output.note(remark));
            if let Some(unit) = units.one() {
                heading.title = lines::title_in(metric, Some(unit));
            }
        }
    }
    let printer = Printer {
        records: context.output.records(args.format, zone, headings)?,
        columns: &columns,
        fill_defaults: args.fill_defaults,
        limit,
        is_table: args.format == Format::Table,
        names: args.selection.names(),
    };
    let answer = match args.latest {
        true => print_latest(&session, &question, printer, &context.shutdown).await?,
        false => print_scan(&session, question.clone(), printer, &context.shutdown).await?,
    };
    if answer.rows == 0 && sensor.is_none() {
        selection.explain_absence(&session).await?;
    }
    remark(&answer, &args, zone, &question, &columns, &context.output);
    Ok(())
}

/// The metric of --columns that --plot draws; `None` without --columns.
fn drawn(args: &QueryArgs, columns: &[Shown], output: &Output) -> Result<Option<Metric>, UsageError> {
    if args.columns.is_empty() {
        return Ok(None);
    }
    let mut metrics = columns.iter().filter_map(|column| match column {
        Shown::Column(Column::Metric(metric)) => Some(metric),
        _ => None,
    });
    let Some(metric) = metrics.next() else {
        let names = args.columns.join(", ");
        return Err(UsageError::new(format!(
            "--plot draws numbers, and {names} is none (name a metric with --columns, such as temperature)"
        )));
    };
    if metrics.next().is_some() {
        output.note(format!("drawing {metric}, the first metric of --columns"));
    }
    Ok(Some(metric.clone()))
}

/// What a picture has, and the metrics of the readings that have no value of the one that was asked for.
#[derive(Default)]
struct Drawing {
    lines: BTreeMap<Uuid, Downsampler>,
    sensors: BTreeSet<Uuid>,
    others: BTreeSet<(usize, String)>,
}

impl Drawing {
    /// One that the readings do have: of the columns the first one, else the first name.
    fn other(&self) -> Option<Metric> {
        self.others.first().map(|(_, name)| Metric::named(name))
    }
}

/// Reads the lines of a metric, one per sensor. Memory does not grow with the answer.
async fn read(
    session: &Session,
    question: Question,
    metric: &Metric,
    names: &mut SensorNames,
    context: &Context,
) -> anyhow::Result<Drawing> {
    let Drawing { mut lines, mut sensors, mut others } = Drawing::default();
    let mut scan = until_stopped(&context.shutdown, Scan::start(session, question)).await?;
    while let Some(chunk) = until_stopped(&context.shutdown, scan.next()).await? {
        let shown = chunk
            .iter()
            .filter(|reading| lines.len() < MOST_SENSORS_DRAWN || lines.contains_key(&reading.sensor));
        let shown = shown.map(|reading| (&reading.group, reading.sensor));
        until_stopped(&context.shutdown, names.learn(session, shown)).await?;
        for reading in &chunk {
            let Some(value) = reading.value(metric) else {
                let columns = Metric::COLUMNS.iter().enumerate();
                let measured = columns.filter(|(_, column)| reading.column(column).is_some());
                let measured = measured.map(|(place, column)| (place, column.name()));
                let named = reading.other_metrics.first().map(|(name, _)| (Metric::COLUMNS.len(), &**name));
                if let Some((place, name)) = measured.chain(named).next()
                    && others.len() < MOST_SENSORS_DRAWN
                {
                    others.insert((place, name.to_owned()));
                }
                continue;
            };
            sensors.insert(reading.sensor);
            let room = lines.len() < MOST_SENSORS_DRAWN || lines.contains_key(&reading.sensor);
            if room {
                let point = Point { at: reading.recorded_at, value };
                lines.entry(reading.sensor).or_default().add(point);
            }
        }
    }
    Ok(Drawing { lines, sensors, others })
}

/// One metric of the answer as lines, with the extremes of each marked. Without --columns it is temperature, or what the
/// readings have instead.
async fn draw(
    args: &QueryArgs,
    session: &Session,
    question: Question,
    metric: Option<Metric>,
    context: &Context,
) -> anyhow::Result<()> {
    if args.latest || args.limit.is_some() {
        return Err(support::plot_refused("remove --latest and --limit"));
    }
    let is_given = metric.is_some();
    let mut metric = metric.unwrap_or(Metric::Temperature);
    let mut names = args.selection.names();
    let mut drawing = read(session, question.clone(), &metric, &mut names, context).await?;
    if drawing.lines.is_empty()
        && !is_given
        && let Some(other) = drawing.other()
    {
        context
            .output
            .note(format!("no reading here has temperature: drawing {other} (--columns names another)"));
        metric = other;
        drawing = read(session, question.clone(), &metric, &mut names, context).await?;
    }
    let Drawing { lines, sensors, .. } = drawing;
    if lines.is_empty() {
        if args.selection.sensor.is_none() {
            args.selection.group.selection().explain_absence(session).await?;
        }
        anyhow::bail!(
            "no reading here has {metric} (name another metric with --columns; see `iotctl sensors`)"
        );
    }
    let metric = &metric;
    let asked =
        Asked { groups: &question.groups, sensor: question.sensor, chosen: question.chosen.as_deref() };
    let units = until_stopped(&context.shutdown, Units::of(session, asked, metric)).await?;
    units.remark(metric).into_iter().for_each(|remark| context.output.note(remark));
    let series = lines.iter().map(|(sensor, line)| {
        let name =
            names.get(*sensor).map_or_else(|| sensor.to_string(), |name| text::visible(name).into_owned());
        Series { name, points: line.polyline() }
    });
    let mut chart = Chart {
        title: lines::title_in(metric, units.one()),
        subject: support::plot_subject(&args.selection),
        series: series.collect(),
        marks_name: "highest and lowest value".to_owned(),
        zone: args.time.zone()?,
        ..Chart::default()
    };
    support::keep_distinguishable(&mut chart.series, sensors.len(), &context.output);
    for series in &chart.series {
        let by_value = |left: &&Point, right: &&Point| left.value.total_cmp(&right.value);
        let measured = || series.points.iter().filter(|point| !point.value.is_nan());
        let extremes = [measured().max_by(by_value), measured().min_by(by_value)];
        chart.marks.extend(extremes.into_iter().flatten());
    }
    args.plot.show(&Picture::Chart(chart), &context.output)
}

/// Sensors whose lines are held for a picture; the first ones are drawn.
const MOST_SENSORS_DRAWN: usize = 64;

/// What was printed, for the remarks.
struct Answer {
    rows: u64,
    /// Whether there was more.
    cut: bool,
    metric_names: BTreeSet<Arc<str>>,
}

/// Rows of readings, up to a limit.
struct Printer<'a, W: std::io::Write> {
    records: Records<W>,
    columns: &'a [Shown],
    fill_defaults: bool,
    limit: u64,
    is_table: bool,
    names: SensorNames,
}

impl<W: std::io::Write> Printer<'_, W> {
    /// Looks up the names of the sensors that will be printed.
    async fn learn(
        &mut self,
        session: &Session,
        readings: &[StoredReading],
    ) -> Result<(), crate::cassandra::Error> {
        let is_shown = |column: &Shown| matches!(column, Shown::SensorName | Shown::Column(Column::Sensor));
        if !self.columns.iter().any(is_shown) {
            return Ok(());
        }
        let left = self.limit.saturating_sub(self.records.rows());
        let shown = readings.iter().take(usize::try_from(left).unwrap_or(usize::MAX));
        self.names.learn(session, shown.map(|reading| (&reading.group, reading.sensor))).await
    }

    /// Prints readings as long as the limit allows; `false` where it cut them off.
    fn print(&mut self, readings: &[StoredReading]) -> anyhow::Result<bool> {
        let mut cells = Vec::with_capacity(self.columns.len());
        for reading in readings {
            if self.records.rows() >= self.limit {
                return Ok(false);
            }
            cells.clear();
            cells.extend(
                self.columns
                    .iter()
                    .map(|column| cell(column, reading, self.fill_defaults, self.is_table, &self.names)),
            );
            self.records.write(&cells)?;
        }
        self.records.flush()?;
        Ok(true)
    }
}

/// The value of a reading in a column; `fills` with the defaults of the legacy platform.
fn cell<'r>(
    column: &Shown,
    reading: &'r StoredReading,
    fills: bool,
    is_table: bool,
    names: &'r SensorNames,
) -> Cell<'r> {
    let column = match column {
        Shown::Column(column) => column,
        Shown::SensorName => return names.get(reading.sensor).map_or(Cell::Missing, Cell::Text),
    };
    let default = || if fills { column.legacy_default() } else { None };
    match column.value(reading).or_else(default) {
        None => Cell::Missing,
        Some(Value::Text(text)) => Cell::Text(text),
        Some(Value::Sensor(sensor)) if is_table => Cell::Sensor(sensor, names.get(sensor)),
        Some(Value::Sensor(sensor)) => Cell::Uuid(sensor),
        Some(Value::Moment(at)) => Cell::Moment(at),
        Some(Value::Boolean(boolean)) => Cell::Boolean(boolean),
        Some(Value::Number(number)) => Cell::Number(number),
        Some(Value::Metrics(metrics)) => Cell::Metrics(metrics),
        Some(Value::States(states)) => Cell::States(states),
    }
}

async fn print_scan<W: std::io::Write>(
    session: &Session,
    question: Question,
    mut printer: Printer<'_, W>,
    shutdown: &Shutdown,
) -> anyhow::Result<Answer> {
    let mut scan = until_stopped(shutdown, Scan::start(session, question)).await?;
    let mut cut = false;
    while let Some(chunk) = until_stopped(shutdown, scan.next()).await? {
        until_stopped(shutdown, printer.learn(session, &chunk)).await?;
        if !printer.print(&chunk)? {
            cut = true;
            break;
        }
    }
    Ok(Answer { rows: printer.records.finish()?, cut, metric_names: scan.metric_names() })
}

async fn print_latest<W: std::io::Write>(
    session: &Session,
    question: &Question,
    mut printer: Printer<'_, W>,
    shutdown: &Shutdown,
) -> anyhow::Result<Answer> {
    let mut names = Names::default();
    let mut cut = false;
    'groups: for group in &question.groups {
        let mut pages = until_stopped(shutdown, readings::latest(session, group, question.sensor)).await?;
        while let Some(mut page) = until_stopped(shutdown, pages.next(&mut names)).await? {
            page.retain(|reading| {
                question.range.contains(reading.recorded_at)
                    && question.chosen.as_ref().is_none_or(|chosen| chosen.contains(group, reading.sensor))
                    && question.filter.as_ref().is_none_or(|filter| filter.accepts(reading))
            });
            until_stopped(shutdown, printer.learn(session, &page)).await?;
            if !printer.print(&page)? {
                cut = true;
                break 'groups;
            }
        }
    }
    let metric_names = names.iter().cloned().collect();
    Ok(Answer { rows: printer.records.finish()?, cut, metric_names })
}

/// A column of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Shown {
    Column(Column),
    /// What the sensor is called: in tables it stands in the place of the id.
    SensorName,
}

impl Shown {
    fn name(&self) -> &str {
        match self {
            Self::Column(column) => column.name(),
            Self::SensorName => "sensor_name",
        }
    }

    fn named(name: &str) -> Self {
        match name {
            "sensor_name" => Self::SensorName,
            name => Self::Column(Column::named(name)),
        }
    }
}

/// The columns asked for. A table leaves the group out where it is the same in all rows.
fn columns(args: &QueryArgs) -> anyhow::Result<Vec<Shown>> {
    if args.columns.is_empty() {
        let group = &args.selection.group;
        let one_group = group.location.is_some() && group.device_type.is_some();
        let is_constant = |column: &Column| matches!(column, Column::Location | Column::DeviceType);
        let hide = args.format == Format::Table && one_group;
        let mut columns: Vec<_> = Column::ALL
            .into_iter()
            .filter(|column| !(hide && is_constant(column)))
            .map(Shown::Column)
            .collect();
        if args.format != Format::Table
            && let Some(id) = columns.iter().position(|column| *column == Shown::Column(Column::Sensor))
        {
            columns.insert(id + 1, Shown::SensorName);
        }
        return Ok(columns);
    }
    let names = args.columns.iter().map(|name| name.trim());
    let columns: Vec<_> = names
        .map(|name| (!name.is_empty()).then(|| Shown::named(name)))
        .collect::<Option<_>>()
        .context(UsageError::new(
            "--columns has an empty name (write it as --columns recorded_timestamp,temperature)",
        ))?;
    for (index, column) in columns.iter().enumerate() {
        if columns[..index].contains(column) {
            return Err(UsageError::new(format!("--columns names {} twice", column.name())).into());
        }
    }
    Ok(columns)
}

fn heading(column: &Shown, format: Format) -> Heading {
    let column = match column {
        Shown::SensorName => return Heading::left("sensor_name"),
        Shown::Column(Column::Sensor) if format == Format::Table => {
            return Heading::left("iot_sensor_id").titled("sensor");
        }
        Shown::Column(column) => column,
    };
    let heading = Heading::left(column.name()).titled(column.heading());
    Heading { align_right: matches!(column, Column::Metric(_)), ..heading }
}

/// Remarks about the answer, on stderr.
fn remark(
    answer: &Answer,
    args: &QueryArgs,
    zone: Zone,
    question: &Question,
    columns: &[Shown],
    output: &Output,
) {
    if answer.cut && args.limit.is_none() {
        let which = match (args.latest, args.order) {
            (true, _) => "first",
            (false, Order::Desc) => "newest",
            (false, Order::Asc) => "oldest",
        };
        output.note(format!("showing the {which} {} (--limit 0 for all)", answer.rows));
    }
    if answer.rows == 0 {
        output.note(no_rows(question, zone));
    }
    let conditions = question.filter.iter().flat_map(Filter::columns);
    let columns = columns.iter().filter_map(|column| match column {
        Shown::Column(column) => Some(column),
        Shown::SensorName => None,
    });
    for column in columns.chain(conditions).collect::<std::collections::HashSet<_>>() {
        if let Column::Metric(Metric::Other(name)) = column
            && !answer.metric_names.contains(name.as_str())
        {
            let known: Vec<&str> = answer.metric_names.iter().take(20).map(|name| &**name).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            output.note(format!("no reading here has {name} (other metrics here: {known})"));
        }
    }
}

fn no_rows(question: &Question, zone: Zone) -> String {
    let mut text = "no readings".to_owned();
    if !question.range.is_everything() {
        if question.range.from > i64::MIN {
            text += &format!(" from {}", zone.show(question.range.from));
        }
        if question.range.to < i64::MAX {
            text += &format!(" up to {}", zone.show(question.range.to));
        }
    }
    if question.filter.is_some() {
        text += " that match the condition";
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: QueryArgs,
    }

    #[test]
    fn a_picture_is_of_the_first_metric_of_the_columns_and_of_none_is_refused_by_name() {
        let drawn = |flags: &str| {
            let args = Line::parse_from(
                format!("query --location a --device-type b --plot a.svg {flags}").split(' '),
            )
            .args;
            let columns = columns(&args).unwrap();
            drawn(&args, &columns, &Output::new(crate::output::ColorChoice::Never, true))
        };
        assert_eq!(drawn("--columns recorded_timestamp,humidity").unwrap(), Some(Metric::Humidity));
        assert_eq!(drawn("--last 1h").unwrap(), None);
        let error = drawn("--columns motion_detected").unwrap_err().to_string();
        assert!(error.contains("motion_detected"), "{error}");
    }

    #[test]
    fn what_is_drawn_instead_of_temperature_is_a_column_before_another_metric() {
        let mut drawing = Drawing::default();
        assert_eq!(drawing.other(), None);
        drawing.others.extend([(5, "rpm".to_owned()), (2, "pressure".to_owned())]);
        assert_eq!(drawing.other(), Some(Metric::Pressure));
    }
}
