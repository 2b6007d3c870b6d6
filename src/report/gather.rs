//! The figures of a report, each by the room that answers the verb of the same name.

use std::collections::HashMap;
use std::sync::Arc;

use super::{GroupHealth, MOST_ROWS, MetricFigures, Report, kafka};
use crate::analytics::extremes::{self, Limits, Side};
use crate::analytics::groups::Selection;
use crate::analytics::history::History;
use crate::analytics::series::SeriesQuery;
use crate::analytics::silence;
use crate::analytics::sources::MaxResolution;
use crate::analytics::stats::{By, Dimension, Part, StatsQuery};
use crate::anomalies::{Method, Search, SearchResult};
use crate::cassandra::Session;
use crate::config::Config;
use crate::forecasts::{self, Forecast, Model, Plan, Seasons};
use crate::kafka::Subscription;
use crate::plot::files::Picture;
use crate::plot::{Chart, Series, lines};
use crate::reading::{Group, Metric};
use crate::series::{Regular, Summary};
use crate::shutdown::Shutdown;
use crate::store::groups;
use crate::store::rollups::Detail;
use crate::store::sensors::SensorNames;
use crate::time::{DAY, HOUR, Periods, TimeRange, Zone};

/// Ranked sensors on each side.
const TOP: usize = 5;
/// Forecasts of one report: each fits models a hundred times.
const MOST_FORECASTS: usize = 6;
/// The past that a forecast learns from, and how far ahead it is, in milliseconds.
const HISTORY: i64 = 30 * DAY;
const HORIZON: usize = 24;
const LEVEL: f64 = 0.95;

/// What a report is about.
pub struct Question {
    pub selection: Selection,
    pub range: TimeRange,
    pub zone: Zone,
    pub now: i64,
    /// The metrics that are asked for; the columns that have values, if it is empty.
    pub metrics: Vec<Metric>,
    /// Minimum silence, in milliseconds.
    pub silent_after: i64,
}

/// Answers the question. Kafka need not answer: its sections then say why they are empty.
///
/// # Errors
/// Cassandra does not answer, or a question is too large.
pub async fn gather(
    question: &Question,
    session: &Session,
    config: &Config,
    shutdown: &Shutdown,
) -> anyhow::Result<Report> {
    let Question { selection, range, zone, .. } = question;
    let groups = selection.resolve(session).await?;
    let since = range.to.saturating_sub(question.silent_after);
    let silent = silence::find(session, &groups, since, None).await?.silent;
    let mut by_group: HashMap<&Arc<Group>, u64> = HashMap::new();
    for silent in &silent {
        *by_group.entry(&silent.group).or_default() += 1;
    }
    let mut health = Vec::with_capacity(groups.len());
    for group in &groups {
        let summary = groups::summary(session, group).await?;
        let silent = by_group.get(group).copied().unwrap_or(0);
        health.push(GroupHealth {
            group: group.clone(),
            sensors: summary.sensors,
            silent,
            // What was newest at the end of a past range is not kept.
            newest: summary.last_recorded_at.filter(|at| *at < range.to || range.to >= question.now),
        });
    }
    let mut remarks = Vec::new();
    let mut metrics = Vec::new();
    let asked = match question.metrics.is_empty() {
        true => Metric::COLUMNS.to_vec(),
        false => question.metrics.clone(),
    };
    let mut forecasts_left = MOST_FORECASTS;
    for metric in asked {
        let found =
            figures(question, session, &groups, metric.clone(), &mut forecasts_left, &mut remarks).await?;
        match found {
            Some(found) => metrics.push(found),
            None if question.metrics.is_empty() => {}
            None => remarks.push(format!("no reading has {metric} in this range of time")),
        }
    }
    if forecasts_left == 0 {
        remarks.push(format!(
            "the first {MOST_FORECASTS} forecasts only (`iotctl forecast` answers for each group and metric)"
        ));
    }
    let mut names = SensorNames::default();
    let shown = silent.iter().take(MOST_ROWS).map(|silent| (&silent.group, silent.sensor));
    names.learn(session, shown).await?;
    for found in &metrics {
        let ranked =
            found.highest.iter().chain(&found.lowest).map(|extreme| (&extreme.group, extreme.sensor));
        names.learn(session, ranked).await?;
        names.learn(session, found.anomalies.iter().map(|found| (&found.group, found.sensor))).await?;
    }
    let alerts = kafka::alerts(&config.kafka, selection, *range, shutdown).await;
    let letters = match Subscription::configured(config) {
        Ok(subscription) => kafka::letters(&config.kafka, subscription, *range, shutdown).await,
        Err(error) => Err(error.into()),
    };
    Ok(Report {
        subject: subject(selection),
        range: *range,
        zone: *zone,
        made_at: question.now,
        groups: health,
        silent,
        silent_after: question.silent_after,
        metrics,
        alerts: alerts.map_err(|error| format!("{error:#}")),
        letters: letters.map_err(|error| format!("{error:#}")),
        names,
        remarks,
    })
}

fn subject(selection: &Selection) -> String {
    match (&selection.location, &selection.device_type) {
        (Some(location), Some(device_type)) => format!("{location}, {device_type}"),
        (Some(name), None) | (None, Some(name)) => name.clone(),
        (None, None) => "all locations".to_owned(),
    }
}

/// `None` where no reading of the range has the metric.
async fn figures(
    question: &Question,
    session: &Session,
    groups: &[Arc<Group>],
    metric: Metric,
    forecasts_left: &mut usize,
    remarks: &mut Vec<String>,
) -> anyhow::Result<Option<MetricFigures>> {
    let range = question.range;
    let ask = |by: By| StatsQuery {
        groups: groups.to_vec(),
        sensor: None,
        chosen: None,
        tag_values: Arc::new([]),
        metric: metric.clone(),
        range,
        by,
        detail: Detail::WithoutSketch,
        max_resolution: MaxResolution::Day,
    };
    let by_type = ask(By::one(Dimension::DeviceType)).find(session, |_| {}).await?;
    if by_type.lines.is_empty() {
        return Ok(None);
    }
    let statistics = by_type.lines.into_iter().filter_map(|(key, line)| match key {
        [Part::Name(name), ..] => Some((name.to_string(), line.summary)),
        _ => None,
    });
    let statistics: Vec<_> = statistics.collect();
    let found = extremes::find(session, groups, &metric, range, MaxResolution::Day, None, |_| {}).await?;
    let limits = Limits { top: Some(TOP), above: None, below: None };
    let highest = extremes::rank(session, &found, &metric, range, Side::Highest, &limits).await?;
    let lowest = extremes::rank(session, &found, &metric, range, Side::Lowest, &limits).await?;
    let hours = ask(By::time(Periods::Hours(question.zone))).find(session, |_| {}).await?;
    let hours = hours.lines.iter().filter_map(|(key, line)| match key {
        [Part::Moment(at), ..] => Some((*at, &line.summary)),
        _ => None,
    });
    let mut charts = vec![over_time(question, &metric, hours)];
    // A group that never measured this has no anomalies and no forecast, and nobody asks why.
    let measures = |group: &&Arc<Group>| statistics.iter().any(|(name, _)| **name == *group.device_type);
    let groups: Vec<_> = groups.iter().filter(measures).collect();
    let search = Arc::new(Search::by(Method::RobustZ));
    let mut unusual = SearchResult::default();
    for &group in &groups {
        let query = SeriesQuery { group: group.clone(), sensor: None, metric: metric.clone(), range };
        if let Err(error) = search.run(session, &query, (), &mut unusual).await {
            remarks.push(format!("anomalies of {metric} ({}): {error}", group.device_type));
        }
    }
    let anomalies_found = unusual.anomalies.len();
    unusual.keep_most_unusual(TOP * 2);
    for &group in &groups {
        if *forecasts_left == 0 {
            break;
        }
        match forecast(question, session, group, &metric).await? {
            Ok(chart) => {
                *forecasts_left -= 1;
                charts.push(chart);
            }
            Err(reason) => remarks.push(format!(
                "no forecast of {metric} ({} at {}): {reason}",
                group.device_type, group.location
            )),
        }
    }
    let anomalies = unusual.anomalies;
    Ok(Some(MetricFigures { metric, statistics, highest, lowest, anomalies, anomalies_found, charts }))
}

/// Averages between the lowest and the highest value by hour.
fn over_time<'s>(
    question: &Question,
    metric: &Metric,
    hours: impl Iterator<Item = (i64, &'s Summary)>,
) -> Picture {
    let (points, band) = lines::means(hours, Periods::Hours(question.zone));
    Picture::Chart(Chart {
        title: format!("{} by hour", lines::title(metric)),
        subject: subject(&question.selection),
        series: vec![Series { name: "average".to_owned(), points }],
        band,
        band_name: "lowest to highest value".to_owned(),
        zone: question.zone,
        ..Chart::default()
    })
}

/// The forecast of a group from the end of the range, or why there is none.
async fn forecast(
    question: &Question,
    session: &Session,
    group: &Arc<Group>,
    metric: &Metric,
) -> anyhow::Result<Result<Picture, String>> {
    let history = History {
        groups: vec![group.clone()],
        sensor: None,
        metric: metric.clone(),
        range: History::range_before(question.range.to, HISTORY, HOUR, question.zone),
        step: HOUR,
        zone: question.zone,
    };
    let Some(series) = history.read(session).await? else {
        return Ok(Err("no value in the 30 days before the end of the range".to_owned()));
    };
    let seasons = Seasons { short: 24, long: Some(168) };
    let plan = Plan { models: Model::QUICK.to_vec(), horizon: HORIZON, seasons, level: LEVEL };
    let fitted = {
        let series = series.clone();
        tokio::task::spawn_blocking(move || forecasts::forecast(&series, &plan)).await?
    };
    Ok(fitted
        .map(|found| with_band(question, group, metric, &series, &found))
        .map_err(|error| error.to_string()))
}

fn with_band(
    question: &Question,
    group: &Group,
    metric: &Metric,
    series: &Regular,
    found: &Forecast,
) -> Picture {
    let (series, band) = lines::forecast(series, &found.steps);
    Picture::Chart(Chart {
        title: format!("{}, forecast by {}", lines::title(metric), found.model.name()),
        subject: format!("{} at {}", group.device_type, group.location),
        series,
        band,
        band_name: format!("{} % interval", LEVEL * 100.0),
        zone: question.zone,
        ..Chart::default()
    })
}
