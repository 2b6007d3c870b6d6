//! `iotctl anomalies`: values unlike the others.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::Utc;
use clap::{Args, Subcommand};

use super::Context;
use super::flags::{PlotArgs, SelectionArgs, TimeArgs, finite, length, metric};
use super::support::{
    self, NAMES_AT_ONCE, known_or_refused, rounded, sensor_cells, sensor_headings, until_stopped,
};
use crate::analytics::metric_names;
use crate::analytics::series::SeriesQuery;
use crate::analytics::units::{Asked, Units};
use crate::anomalies::score::Score;
use crate::anomalies::threshold::Limits;
use crate::anomalies::{
    Anomaly, Method, Search, SearchError, SearchResult, Sensitivity, SensorAnomaly, labels, peers,
};
use crate::cassandra::Session;
use crate::error::UsageError;
use crate::output::record::{Cell, Heading};
use crate::output::text::{one_or_many, plural};
use crate::output::{Format, Output};
use crate::plot::files::Picture;
use crate::plot::{Chart, Series, lines};
use crate::reading::Group;
use crate::reading::Metric;
use crate::series::Downsampler;
use crate::series::Point;
use crate::time::TimeRange;

mod score;

/// Anomalies of a table where no --top is given: about what a person looks at.
const TABLE_TOP: usize = 100;

/// Find values unlike the others.
///
/// Four methods define what is usual: a limit that you set (threshold); the sensor's own median (robust-z); the hour of the day
/// and the trend of that sensor (seasonal, by MSTL); the other sensors of its location and device type at the same time (peers,
/// by DBSCAN). Neighbouring values are joined into one anomaly. Spread is measured by the median absolute deviation, which an
/// anomaly hardly changes. What is usual is learned from the same range of time, so ask for days rather than minutes.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:
  iotctl anomalies --metric temperature --above 28 --last 24h
  iotctl anomalies --metric temperature --method robust-z --last 7d
  iotctl anomalies --metric temperature --method seasonal --location plant-1 --last 14d --sensitivity 0.8
  iotctl anomalies --metric humidity --method peers --location plant-1 --device-type thermostat --last 24h
  iotctl anomalies --metric rpm --method seasonal --season 24h,7d --step 10m --last 60d --format ndjson
  iotctl anomalies --metric temperature --method robust-z --score labels.json
  iotctl anomalies score machine.csv --map timestamp=recorded_timestamp,value=value --output scores.csv

Sensitivity: a point is unusual beyond 3 / SENSITIVITY robust standard deviations: 6 at 0.5 (the default), 3 at 1.
The score is that distance in robust standard deviations. The expected value is shown beside the measured one."
)]
pub struct AnomaliesArgs {
    #[command(subcommand)]
    pub command: Option<AnomaliesCommand>,
    #[command(flatten)]
    pub search: SearchArgs,
}

#[derive(Debug, Subcommand)]
pub enum AnomaliesCommand {
    Score(score::ScoreArgs),
}

/// What to search for in the stored readings.
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// A numeric column or a name in other_metrics
    // Not there with a command, which clap can say of an argument alone and not of a group of them.
    #[arg(long, value_name = "NAME", value_parser = metric, required = true)]
    pub metric: Option<Metric>,
    /// Detection method [default: threshold with --above or --below, else robust-z]
    #[arg(long, value_enum)]
    pub method: Option<Method>,
    /// Values greater than this
    #[arg(long, value_name = "VALUE", allow_negative_numbers = true, value_parser = finite)]
    pub above: Option<f64>,
    /// Values less than this
    #[arg(long, value_name = "VALUE", allow_negative_numbers = true, value_parser = finite)]
    pub below: Option<f64>,
    /// How small a deviation counts, above 0 and up to 1 [default: 0.5]
    #[arg(long, value_name = "0-1", value_parser = sensitivity)]
    pub sensitivity: Option<Sensitivity>,
    /// Length of the season, for --method seasonal [default: 24h]
    #[arg(long, value_name = "LENGTH,…", value_delimiter = ',', value_parser = length)]
    pub season: Vec<i64>,
    /// Use means over this length instead of single readings [default for peers: the usual interval]
    #[arg(long, value_name = "LENGTH", value_parser = length)]
    pub step: Option<i64>,
    /// Join values at most this far apart into one anomaly [default: two usual intervals of the sensor]
    #[arg(long, value_name = "LENGTH", value_parser = length)]
    pub join: Option<i64>,
    /// Maximum number of anomalies, the most unusual first; 0 for all [default: 100 for tables, else all]
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub time: TimeArgs,
    /// Print precision, recall and F1 against this file: labelled windows (JSON) or a ledger of `simulate`
    #[arg(long, value_name = "FILE", conflicts_with = "top")]
    pub score: Option<PathBuf>,
    #[command(flatten)]
    pub plot: PlotArgs,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

fn sensitivity(text: &str) -> Result<Sensitivity, String> {
    let sensitivity = text.parse().ok().and_then(Sensitivity::new);
    sensitivity.ok_or_else(|| "not a number above 0 and up to 1".to_owned())
}

impl SearchArgs {
    fn metric(&self) -> Result<&Metric, UsageError> {
        self.metric.as_ref().ok_or_else(|| UsageError::new("--metric is missing"))
    }

    /// What to search for, once the flags agree with each other.
    fn search(&self) -> Result<Search, UsageError> {
        let has_limit = self.above.is_some() || self.below.is_some();
        let method = self.method.unwrap_or(if has_limit { Method::Threshold } else { Method::RobustZ });
        let name = method.name();
        let refuse = |message: String| Err(UsageError::new(message));
        match method {
            Method::Threshold if !has_limit => {
                return refuse("--method threshold needs --above or --below".to_owned());
            }
            Method::Threshold if self.sensitivity.is_some() => {
                return refuse("--sensitivity has no effect with a limit (leave it out)".to_owned());
            }
            Method::Threshold => {}
            _ if has_limit => {
                return refuse(format!("--above and --below are for --method threshold, not {name}"));
            }
            _ => {}
        }
        if let (Some(above), Some(below)) = (self.above, self.below)
            && above < below
        {
            return refuse(format!(
                "every value is above {above} or below {below} (swap --above and --below)"
            ));
        }
        if !self.season.is_empty() && method != Method::Seasonal {
            return refuse(format!("--season is for --method seasonal, not {name}"));
        }
        if self.selection.sensor.is_some() && method == Method::Peers {
            return refuse("--method peers compares the sensors of a group (leave --sensor out)".to_owned());
        }
        let mut search = Search {
            limits: Limits { above: self.above, below: self.below },
            sensitivity: self.sensitivity.unwrap_or(Sensitivity::DEFAULT),
            step: self.step,
            zone: self.time.zone()?,
            join: self.join,
            ..Search::by(method)
        };
        if !self.season.is_empty() {
            search.seasons = self.season.clone();
        }
        Ok(search)
    }
}

pub async fn run(args: AnomaliesArgs, context: Context) -> anyhow::Result<()> {
    match args.command {
        Some(AnomaliesCommand::Score(args)) => score::run(args, context).await,
        None => search(args.search, context).await,
    }
}

async fn search(mut args: SearchArgs, context: Context) -> anyhow::Result<()> {
    let range = args.time.range(Utc::now().timestamp_millis())?;
    let search = Arc::new(args.search()?);
    if args.plot.plot.is_some() && args.selection.sensor.is_none() {
        return Err(support::plot_refused("of one sensor: add --sensor ID"));
    }
    let Context { output, shutdown, config, .. } = &context;
    let session = Session::connect(&config.cassandra).await?;
    until_stopped(shutdown, args.selection.find_sensor(&session)).await?;
    let metric = args.metric()?;
    let groups = until_stopped(shutdown, args.selection.groups(&session)).await?;

    let mut result = SearchResult::default();
    let spinner = output.spinner(format!("looking for unusual {metric}"));
    for group in &groups {
        let query = SeriesQuery {
            group: group.clone(),
            sensor: args.selection.sensor_id(),
            metric: metric.clone(),
            range,
        };
        let searched = async {
            match search.run(&session, &query, (), &mut result).await {
                Err(error @ SearchError::TooMany) => {
                    Err(anyhow::Error::from(UsageError::new(error.to_string())))
                }
                other => Ok(other?),
            }
        };
        until_stopped(shutdown, searched).await?;
    }
    spinner.finish_and_clear();
    if result.values == 0 && matches!(metric, Metric::Other(_)) {
        let names = until_stopped(shutdown, metric_names::other_metric_names(&session, &groups)).await?;
        known_or_refused(metric, &names, groups.len())?;
    }
    let asked = Asked { groups: &groups, sensor: args.selection.sensor_id(), chosen: None };
    let units = until_stopped(shutdown, Units::of(&session, asked, metric)).await?;
    units.remark(metric).into_iter().for_each(|remark| output.note(remark));
    if args.plot.plot.is_some() {
        let picture = picture(&session, &groups, &args, (metric, units.one(), range), &result);
        return args.plot.show(&until_stopped(shutdown, picture).await?, output);
    }
    match &args.score {
        Some(path) => print_score(path, &args, &search, (metric, range), &result, output)?,
        None => print(&session, &args, &search, (&mut result, &units), &context).await?,
    }
    remark(&result, &search, metric, range, groups.len(), output);
    Ok(())
}

async fn print(
    session: &Session,
    args: &SearchArgs,
    search: &Search,
    (result, units): (&mut SearchResult, &Units),
    context: &Context,
) -> anyhow::Result<()> {
    let Context { output, shutdown, .. } = context;
    let metric = args.metric()?;
    let top = match args.top {
        Some(0) => usize::MAX,
        Some(top) => top,
        None if args.format == Format::Table => TABLE_TOP,
        None => usize::MAX,
    };
    if result.anomalies.len() > top && args.top.is_none() {
        output.note(format!("showing the {top} most unusual (--top 0 for all)"));
    }
    result.keep_most_unusual(top);
    let unit = units.among(result.anomalies.iter().map(|found| found.sensor));
    // Of several units, each row has its own.
    let has_unit = args.format != Format::Table || unit.is_none() && units.are_known();
    let headings = headings(metric, unit, args.format, has_unit);
    let mut records = output.records(args.format, args.time.zone()?, headings)?;
    let mut names = args.selection.names();
    for part in result.anomalies.chunks(NAMES_AT_ONCE) {
        let sensors = part.iter().map(|found| (&found.group, found.sensor));
        until_stopped(shutdown, names.learn(session, sensors)).await?;
        for found in part {
            let name = names.get(found.sensor);
            let unit = has_unit.then(|| units.of_sensor(found.sensor));
            records.write(&cells(found, search, (metric, unit), args.format, name))?;
        }
    }
    records.finish()?;
    Ok(())
}

/// One sensor's values with the worst moment of each anomaly marked.
async fn picture(
    session: &Session,
    groups: &[Arc<Group>],
    args: &SearchArgs,
    (metric, unit, range): (&Metric, Option<&str>, TimeRange),
    result: &SearchResult,
) -> anyhow::Result<Picture> {
    let mut line = Downsampler::default();
    for group in groups {
        let query = SeriesQuery {
            group: group.clone(),
            sensor: args.selection.sensor_id(),
            metric: metric.clone(),
            range,
        };
        let mut scan = query.scan(session).await?;
        while let Some(chunk) = scan.next().await? {
            for reading in &chunk {
                if let Some(value) = reading.value(metric) {
                    line.add(Point { at: reading.recorded_at, value });
                }
            }
        }
    }
    let series = vec![Series { name: "measured".to_owned(), points: line.polyline() }];
    let marks = result.anomalies.iter().map(|found| found.anomaly.worst.point).collect();
    let title = format!("{}, {} anomalies", lines::title_in(metric, unit), result.anomalies.len());
    Ok(Picture::Chart(Chart {
        title,
        subject: support::plot_subject(&args.selection),
        series,
        marks,
        marks_name: "most unusual value of each anomaly".to_owned(),
        limit: args.above.or(args.below),
        zone: args.time.zone()?,
        ..Chart::default()
    }))
}

/// One line: how good these anomalies are by a file of labels.
fn print_score(
    path: &Path,
    args: &SearchArgs,
    search: &Search,
    (metric, range): (&Metric, TimeRange),
    result: &SearchResult,
    output: &Output,
) -> anyhow::Result<()> {
    let mut labels = labels::read(path, metric, range)
        .map_err(|error| UsageError::new(format!("--score {}: {error}", path.display())))?;
    labels.retain(|label| label.sensor.is_none_or(|sensor| result.sensors.contains(&sensor)));
    let score = Score::of(result.anomalies.iter().map(|found| (found.sensor, &found.anomaly)), &labels);
    let headings = vec![
        Heading::left("method"),
        Heading::right("sensitivity"),
        Heading::right("anomalies"),
        Heading::right("windows"),
        Heading::right("found"),
        Heading::right("false_alarms").titled("false alarms"),
        Heading::right("precision"),
        Heading::right("recall"),
        Heading::right("f1").titled("F1"),
    ];
    let mut records = output.records(args.format, args.time.zone()?, headings)?;
    let share = |share: Option<f64>| share.map_or(Cell::Missing, |share| Cell::Number(rounded(share)));
    let knows_sensitivity = search.method != Method::Threshold;
    records.write(&[
        Cell::Text(search.method.name()),
        share(knows_sensitivity.then(|| 3.0 / search.sensitivity.deviations())),
        Cell::Count(result.anomalies.len() as u64),
        Cell::Count(score.windows as u64),
        Cell::Count(score.found as u64),
        Cell::Count(score.false_alarms as u64),
        share(score.precision()),
        share(score.recall()),
        share(score.f1()),
    ])?;
    records.finish()?;
    Ok(())
}

fn headings(metric: &Metric, unit: Option<&str>, format: Format, has_unit: bool) -> Vec<Heading> {
    let mut headings = vec![
        Heading::left("from"),
        Heading::left("to").rank(2),
        Heading::right("points").rank(3),
        Heading::left("worst").rank(4),
        Heading::right("value").titled(lines::title_in(metric, unit)),
        Heading::right("expected").rank(1),
        Heading::right("score").rank(1),
    ];
    headings.extend(sensor_headings(format));
    headings.extend(["location", "device_type"].map(|name| Heading::left(name).rank(3)));
    if format != Format::Table {
        headings.extend([Heading::left("method"), Heading::left("metric")]);
    }
    if has_unit {
        headings.push(Heading::left("unit"));
    }
    headings
}

fn cells<'a>(
    found: &'a SensorAnomaly,
    search: &Search,
    (metric, unit): (&'a Metric, Option<Option<&'a str>>),
    format: Format,
    name: Option<&'a str>,
) -> Vec<Cell<'a>> {
    let Anomaly { from, to, points, worst } = &found.anomaly;
    let mut cells = vec![
        Cell::Moment(*from),
        Cell::Moment(*to),
        Cell::Count(*points),
        Cell::Moment(worst.point.at),
        Cell::Number(worst.point.value),
        Cell::Number(rounded(worst.expected)),
        worst.score.map_or(Cell::Missing, |score| Cell::Number(rounded(score))),
    ];
    cells.extend(sensor_cells(format, found.sensor, name));
    cells.extend([Cell::Text(&found.group.location), Cell::Text(&found.group.device_type)]);
    if format != Format::Table {
        cells.push(Cell::Text(search.method.name()));
        cells.push(Cell::Text(metric.name()));
    }
    if let Some(unit) = unit {
        cells.push(unit.map_or(Cell::Missing, Cell::Text));
    }
    cells
}

fn remark(
    result: &SearchResult,
    search: &Search,
    metric: &Metric,
    range: TimeRange,
    groups: usize,
    output: &Output,
) {
    let (anomalies, sensors, values) = (result.anomalies.len(), result.series, result.values);
    output.note(if groups == 0 {
        support::NOTHING_STORED.to_owned()
    } else if values == 0 {
        let when = if range.is_everything() { "" } else { " in this range of time" };
        format!("no reading has {metric}{when}")
    } else {
        let name = search.method.name();
        format!(
            "{} by {name} in {} of {}",
            one_or_many(anomalies, "anomaly", "anomalies"),
            plural(values, "value"),
            plural(sensors, "sensor")
        )
    });
    if search.method == Method::Peers && sensors > 0 && sensors < peers::MIN_SENSORS {
        output.note("--method peers needs at least 3 sensors in a group");
    }
    if let Some(why) = &result.skip_reason {
        output.note(format!("{} skipped: {why}", one_or_many(result.skipped, "sensor was", "sensors were")));
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: SearchArgs,
    }

    fn search(flags: &str) -> Result<Search, String> {
        let line = ["anomalies", "--metric", "temperature"].into_iter().chain(flags.split_whitespace());
        let line = Line::try_parse_from(line).map_err(|error| error.to_string())?;
        line.args.search().map_err(|error| error.to_string())
    }

    #[test]
    fn a_limit_makes_it_a_threshold_and_else_the_median_decides() {
        assert_eq!(search("--above 28").unwrap().method, Method::Threshold);
        assert_eq!(search("--below -5").unwrap().limits.below, Some(-5.0));
        assert_eq!(search("").unwrap().method, Method::RobustZ);
        assert_eq!(
            search("--method seasonal --season 24h,7d").unwrap().seasons,
            [86_400_000, 7 * 86_400_000]
        );
    }

    #[test]
    fn a_search_needs_a_metric_and_the_scoring_of_a_file_does_not() {
        #[derive(Debug, Parser)]
        struct Whole {
            #[command(flatten)]
            args: AnomaliesArgs,
        }
        let parse = |line: &str| Whole::try_parse_from(line.split_whitespace()).map(|line| line.args);
        let search = parse("anomalies --metric humidity --above 3").unwrap();
        assert!(search.command.is_none() && search.search.metric().unwrap().name() == "humidity");
        assert!(parse("anomalies --above 3").unwrap_err().to_string().contains("--metric"));
        let score = parse("anomalies score a.csv --output b.csv").unwrap();
        assert!(matches!(score.command, Some(AnomaliesCommand::Score(_))));
        assert!(parse("anomalies --metric humidity score a.csv --output b.csv").is_err());
    }

    #[test]
    fn flags_that_mean_nothing_together_are_refused() {
        for (flags, word) in [
            ("--method threshold", "--above"),
            ("--above 28 --sensitivity 0.9", "leave it out"),
            ("--above 28 --method peers", "threshold"),
            ("--above 5 --below 28", "swap"),
            ("--season 24h", "seasonal"),
            ("--method peers --sensor 5f0c1c9e-8b7b-5d3c-9d55-0b8b2f7e6a11", "--sensor"),
            ("--sensitivity 0", "above 0"),
            ("--sensitivity 2", "above 0"),
            ("--step 1ms", "1s"),
            ("--join soon", "10m"),
        ] {
            let error = search(flags).err().unwrap_or_default();
            assert!(error.contains(word), "{flags}: {error:?}");
        }
    }
}
