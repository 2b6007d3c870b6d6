//! The questions of the JSON API. Each is bounded: in time, in points or rows, in how many run at once; and each ends
//! when its client goes away.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use chrono::Utc;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::events::Feed;
use super::fleet::{MOST_LISTED, ReadingBody, Snapshot};
use super::health::{self, Health};
use super::problem::Problem;
use crate::analytics::extremes::{self, Limits, Side};
use crate::analytics::groups::Selection;
use crate::analytics::scan::Question;
use crate::analytics::sources::MaxResolution;
use crate::analytics::{Column, Order, Scan, silence};
use crate::anomalies::{Anomaly, Sensitivity, robust_z, runs, seasonal};
use crate::cassandra::Session;
use crate::config::Config;
use crate::reading::Group;
use crate::reading::Metric;
use crate::series::downsample::Downsampler;
use crate::series::{self, Point};
use crate::shutdown::Shutdown;
use crate::store::readings::{self, Names};
use crate::time::TimeRange;
use crate::time::{self, Zone, display};

/// How long a question may take.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(20);
/// Questions that read raw rows at once; the others wait for [`PATIENCE`] and are then sent away.
pub const MOST_SCANS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(5);
/// A look at the fleet that is not older answers again.
const FRESH: Duration = Duration::from_secs(1);
/// After a failed attempt to reach Cassandra, the next waits so long.
const RETRY: Duration = Duration::from_secs(2);

const DEFAULT_LAST: &str = "24h";
const LONGEST_RANGE: i64 = 3_660 * 86_400_000;
pub const MOST_COLUMNS: usize = 2_000;
const DEFAULT_COLUMNS: usize = 600;
/// Values of one sensor that a detector may hold: 8 MB.
const MOST_VALUES: usize = 500_000;
const LONGEST_NAME: usize = 256;

/// What all requests share. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    config: Config,
    silent_after: Duration,
    shutdown: Shutdown,
    session: Mutex<Connected>,
    scans: Arc<Semaphore>,
    fleet: Seen<Result<Arc<Snapshot>, Problem>>,
    health: Seen<Arc<Health>>,
    feed: Feed,
}

/// What was seen last, and when.
type Seen<T> = Mutex<Option<(Instant, T)>>;

#[derive(Default)]
struct Connected {
    session: Option<Session>,
    failed: Option<(Instant, Problem)>,
}

impl App {
    pub fn new(config: Config, silent_after: Duration, shutdown: Shutdown) -> Self {
        Self(Arc::new(Inner {
            config,
            silent_after,
            shutdown,
            session: Mutex::default(),
            scans: Arc::new(Semaphore::new(MOST_SCANS)),
            fleet: Mutex::default(),
            health: Mutex::default(),
            feed: Feed::default(),
        }))
    }

    pub fn config(&self) -> &Config {
        &self.0.config
    }

    pub fn silent_after(&self) -> Duration {
        self.0.silent_after
    }

    pub fn shutdown(&self) -> &Shutdown {
        &self.0.shutdown
    }

    pub fn feed(&self) -> &Feed {
        &self.0.feed
    }

    /// The session, opened when it is first wanted: the page is there before Cassandra is. Once open, it mends itself.
    pub async fn session(&self) -> Result<Session, Problem> {
        let mut connected = self.0.session.lock().await;
        if let Some(session) = &connected.session {
            return Ok(session.clone());
        }
        if let Some((at, problem)) = &connected.failed
            && at.elapsed() < RETRY
        {
            return Err(problem.clone());
        }
        let problem = match timeout(REQUEST_DEADLINE / 2, Session::connect(&self.0.config.cassandra)).await {
            Ok(Ok(session)) => return Ok(connected.session.insert(session).clone()),
            Ok(Err(error)) => Problem::from(error),
            Err(_) => {
                Problem::unavailable("Cassandra does not answer (see `iotctl status` and the nodes' logs)")
            }
        };
        connected.failed = Some((Instant::now(), problem.clone()));
        Err(problem)
    }

    /// The fleet as it is, or was less than a second ago. Whoever asks meanwhile waits for the same read.
    pub async fn fleet(&self) -> Result<Arc<Snapshot>, Problem> {
        let mut known = self.0.fleet.lock().await;
        if let Some((at, snapshot)) = &*known
            && at.elapsed() < FRESH
        {
            return snapshot.clone();
        }
        let read = async { Ok(Snapshot::read(&self.session().await?, self.0.silent_after).await?) };
        let snapshot = within_deadline(read).await.map(Arc::new);
        *known = Some((Instant::now(), snapshot.clone()));
        snapshot
    }

    /// Kafka and Cassandra as they are, or were a few seconds ago.
    pub async fn health(&self) -> Arc<Health> {
        let mut known = self.0.health.lock().await;
        if let Some((at, health)) = &*known
            && at.elapsed() < health::FRESH
        {
            return health.clone();
        }
        let health = Arc::new(Health::look(self).await);
        *known = Some((Instant::now(), health.clone()));
        health
    }

    /// Room for one more question that reads raw rows.
    pub(super) async fn permit(&self) -> Result<Arc<OwnedSemaphorePermit>, Problem> {
        match timeout(PATIENCE, self.0.scans.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Arc::new(permit)),
            _ => Err(Problem::unavailable(format!(
                "{MOST_SCANS} other questions are being answered (ask again in a few seconds)"
            ))),
        }
    }
}

pub(super) async fn within_deadline<T>(work: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    timeout(REQUEST_DEADLINE, work).await.unwrap_or_else(|_| {
        let text = format!(
            "no answer within {REQUEST_DEADLINE:?} (ask for a shorter range of time or one location)"
        );
        Err(Problem::new(StatusCode::GATEWAY_TIMEOUT, text))
    })
}

/// Runs what cannot move between threads on a thread of its own, and ends it when nobody waits any more.
pub(super) async fn on_own_thread<T, F>(work: impl FnOnce() -> F + Send + 'static) -> Result<T, Problem>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Problem>>,
{
    let token = CancellationToken::new();
    let _guard = token.clone().drop_guard();
    let runtime = tokio::runtime::Handle::current();
    let done = tokio::task::spawn_blocking(move || {
        runtime.block_on(async move {
            tokio::select! {
                result = work() => result,
                () = token.cancelled() => Err(Problem::unavailable("nobody waits for the answer")),
            }
        })
    });
    done.await.unwrap_or_else(|_| Err(internal("the work ended with a panic (see the log)")))
}

pub(super) fn internal(text: &str) -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, text)
}

/// The query string; a parameter that is not known is refused and not ignored.
pub(super) fn parameters<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    match Query::try_from_uri(uri) {
        Ok(Query(parameters)) => Ok(parameters),
        Err(error) => Err(Problem::bad_request(format!("{} (see /api/openapi.json)", error.body_text()))),
    }
}

pub fn json<T: Serialize>(body: &T) -> Result<Response, Problem> {
    let text = serde_json::to_string(body).map_err(|error| internal(&error.to_string()))?;
    let headers = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Ok((headers, text).into_response())
}

fn name(parameter: &str, text: &str) -> Result<String, Problem> {
    if text.is_empty() || text.len() > LONGEST_NAME || text.chars().any(char::is_control) {
        let text = format!("{parameter} is no name: 1 to {LONGEST_NAME} bytes without control characters");
        return Err(Problem::bad_request(text));
    }
    Ok(text.to_owned())
}

pub(super) fn metric(text: &str) -> Result<Metric, Problem> {
    match Column::named(&name("metric", text)?) {
        Column::Metric(metric) => Ok(metric),
        other => {
            Err(Problem::bad_request(format!("{} holds no number (see metrics of /api/fleet)", other.name())))
        }
    }
}

pub(super) fn within(name: &str, value: usize, least: usize, most: usize) -> Result<usize, Problem> {
    if (least..=most).contains(&value) {
        Ok(value)
    } else {
        Err(Problem::bad_request(format!("{name} is {value} (give {least} to {most})")))
    }
}

/// The range asked for, and where it ends for the eye: an open one ends now.
fn range(
    from: Option<&str>,
    to: Option<&str>,
    last: Option<&str>,
    now: i64,
) -> Result<(TimeRange, i64), Problem> {
    if last.is_some() && (from.is_some() || to.is_some()) {
        return Err(Problem::bad_request("last and from or to are both given (leave one out)"));
    }
    let default = (last.is_none() && from.is_none()).then_some(DEFAULT_LAST);
    // The day before `to` where that is given alone.
    let base = match to {
        Some(to) if from.is_none() => time::moment(to, Zone::Utc, now),
        _ => Ok(now),
    };
    let range = base.and_then(|base| {
        let from = match default {
            Some(last) => Some(display(base.saturating_sub(time::length(last)?))),
            None => from.map(ToOwned::to_owned),
        };
        TimeRange::parse(from.as_deref(), to, last, Zone::Utc, now)
    });
    let range = range.map_err(|error| Problem::bad_request(error.to_string()))?;
    let end = if range.to == i64::MAX { now.max(range.from.saturating_add(1)) } else { range.to };
    if end.saturating_sub(range.from) > LONGEST_RANGE {
        return Err(Problem::bad_request("the range is longer than 3660 days (ask for a shorter one)"));
    }
    Ok((range, end))
}

fn selection(location: Option<&str>, device_type: Option<&str>) -> Result<Selection, Problem> {
    Ok(Selection {
        location: location.map(|text| name("location", text)).transpose()?,
        device_type: device_type.map(|text| name("device_type", text)).transpose()?,
    })
}

pub async fn fleet(State(app): State<App>) -> Result<Response, Problem> {
    json(&app.fleet().await?.body(app.silent_after()))
}

pub async fn status(State(app): State<App>) -> Result<Response, Problem> {
    json(&*app.health().await)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SensorsQuery {
    location: String,
    device_type: Option<String>,
    limit: Option<usize>,
}

#[derive(Serialize)]
struct SensorsBody<'a> {
    at: String,
    sensors: u64,
    truncated: bool,
    readings: Vec<ReadingBody<'a>>,
}

/// Newest readings of a location, from what is held for all.
pub async fn sensors(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let query: SensorsQuery = parameters(&uri)?;
    let limit = within("limit", query.limit.unwrap_or(MOST_LISTED), 1, MOST_LISTED)?;
    let wanted = selection(Some(&query.location), query.device_type.as_deref())?;
    let snapshot = app.fleet().await?;
    let matching = snapshot.groups.iter().filter(|look| wanted.matches(&look.group));
    let sensors = matching.clone().map(|look| look.sensors).sum();
    if matching.clone().next().is_none() {
        let text = format!("no readings for {} (see /api/fleet)", wanted.describe());
        return Err(Problem::new(StatusCode::NOT_FOUND, text));
    }
    let readings: Vec<_> =
        matching.flat_map(|look| &look.readings).take(limit).map(ReadingBody::from).collect();
    let truncated = (readings.len() as u64) < sensors;
    json(&SensorsBody { at: display(snapshot.at), sensors, truncated, readings })
}

#[derive(Serialize)]
struct SensorBody<'a> {
    readings: Vec<ReadingBody<'a>>,
}

/// One sensor's newest reading, in each group that it has sent in.
pub async fn sensor(State(app): State<App>, Path(sensor): Path<String>) -> Result<Response, Problem> {
    let sensor: Uuid = sensor.parse().map_err(|_| {
        Problem::bad_request("that is no sensor id (give a UUID, such as iot_sensor_id of /api/sensors)")
    })?;
    within_deadline(async {
        let session = app.session().await?;
        let groups = Selection::default().resolve_sensor(&session, sensor).await?;
        let mut newest = Vec::new();
        for group in &groups {
            let mut pages = readings::latest(&session, group, Some(sensor)).await?;
            while let Some(page) = pages.next(&mut Names::default()).await? {
                newest.extend(page);
            }
        }
        newest.sort_by_key(|reading| std::cmp::Reverse(reading.recorded_at));
        json(&SensorBody { readings: newest.iter().map(ReadingBody::from).collect() })
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SeriesQuery {
    sensor: Uuid,
    metric: String,
    from: Option<String>,
    to: Option<String>,
    last: Option<String>,
    columns: Option<usize>,
}

#[derive(Serialize)]
struct SeriesBody<'a> {
    iot_sensor_id: Uuid,
    metric: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'static str>,
    from: String,
    to: String,
    /// Values in the range; the points may be fewer.
    values: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    lowest: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    highest: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mean: Option<f64>,
    points: Vec<PointBody>,
}

#[derive(Serialize)]
struct PointBody {
    time: String,
    value: f32,
}

/// A sensor's values over time, in at most so many columns.
pub async fn series(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let query: SeriesQuery = parameters(&uri)?;
    let metric = metric(&query.metric)?;
    let columns = within("columns", query.columns.unwrap_or(DEFAULT_COLUMNS), 1, MOST_COLUMNS)?;
    let now = Utc::now().timestamp_millis();
    let (range, end) = range(query.from.as_deref(), query.to.as_deref(), query.last.as_deref(), now)?;
    let _permit = app.permit().await?;
    within_deadline(async {
        let session = app.session().await?;
        let groups = Selection::default().resolve_sensor(&session, query.sensor).await?;
        let mut sampler = Downsampler::new(range.from, end, columns);
        each_value(&session, groups, query.sensor, &metric, range, |point| {
            sampler.add(point);
            Ok(())
        })
        .await?;
        let drawn = sampler.finish();
        // Values are stored as 32-bit floats, so that nothing is lost.
        let body = SeriesBody {
            iot_sensor_id: query.sensor,
            metric: metric.name(),
            unit: metric.unit(),
            from: display(range.from),
            to: display(end),
            values: drawn.count,
            lowest: drawn.lowest.map(|value| value as f32),
            highest: drawn.highest.map(|value| value as f32),
            mean: drawn.mean,
            points: drawn
                .points
                .iter()
                .map(|point| PointBody { time: display(point.at), value: point.value as f32 })
                .collect(),
        };
        json(&body)
    })
    .await
}

/// Streams a sensor's values in order of time.
async fn each_value(
    session: &Session,
    groups: Vec<Arc<Group>>,
    sensor: Uuid,
    metric: &Metric,
    range: TimeRange,
    mut take: impl FnMut(Point) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let question = Question { groups, sensor: Some(sensor), range, filter: None, order: Order::Asc };
    let mut scan = Scan::start(session, question).await?;
    while let Some(chunk) = scan.next().await? {
        for reading in &chunk {
            if let Some(value) = reading.value(metric) {
                take(Point { at: reading.recorded_at, value: f64::from(value) })?;
            }
        }
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExtremesQuery {
    metric: String,
    side: SideName,
    top: Option<usize>,
    location: Option<String>,
    device_type: Option<String>,
    from: Option<String>,
    to: Option<String>,
    last: Option<String>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum SideName {
    Highest,
    Lowest,
}

#[derive(Serialize)]
struct ExtremesBody<'a> {
    metric: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'static str>,
    from: String,
    to: String,
    /// Sensors that have a value in the range.
    sensors: usize,
    extremes: Vec<ExtremeBody>,
}

#[derive(Serialize)]
struct ExtremeBody {
    extreme: &'static str,
    rank: usize,
    value: f32,
    recorded_timestamp: String,
    iot_sensor_id: Uuid,
    location: String,
    device_type: String,
}

/// Each sensor's highest or lowest value, ranked.
pub async fn extremes(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let query: ExtremesQuery = parameters(&uri)?;
    let metric = metric(&query.metric)?;
    let top = within("top", query.top.unwrap_or(10), 1, 100)?;
    let wanted = selection(query.location.as_deref(), query.device_type.as_deref())?;
    let side = match query.side {
        SideName::Highest => Side::Highest,
        SideName::Lowest => Side::Lowest,
    };
    let now = Utc::now().timestamp_millis();
    let (range, end) = range(query.from.as_deref(), query.to.as_deref(), query.last.as_deref(), now)?;
    let _permit = app.permit().await?;
    within_deadline(async {
        let session = app.session().await?;
        let asked = metric.clone();
        let (sensors, ranked) = on_own_thread(move || async move {
            let groups = wanted.resolve(&session).await?;
            let found = extremes::find(&session, &groups, &asked, range, MaxResolution::Day, |_| {}).await?;
            let limits = Limits { top: Some(top), above: None, below: None };
            let ranked = extremes::rank(&session, &found, &asked, range, side, &limits).await?;
            Ok((found.sensors(), ranked))
        })
        .await?;
        let extremes = ranked.into_iter().enumerate().map(|(index, extreme)| ExtremeBody {
            extreme: side.name(),
            rank: index + 1,
            value: extreme.value,
            recorded_timestamp: display(extreme.recorded_at),
            iot_sensor_id: extreme.sensor,
            location: extreme.group.location.clone(),
            device_type: extreme.group.device_type.clone(),
        });
        json(&ExtremesBody {
            metric: metric.name(),
            unit: metric.unit(),
            from: display(range.from),
            to: display(end),
            sensors,
            extremes: extremes.collect(),
        })
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SilentQuery {
    longer_than: Option<String>,
    top: Option<usize>,
    location: Option<String>,
    device_type: Option<String>,
}

#[derive(Serialize)]
struct SilentBody {
    at: String,
    /// Of how many sensors.
    sensors: u64,
    /// How many are silent; the list may be shorter.
    silent: usize,
    list: Vec<SilentSensor>,
}

#[derive(Serialize)]
struct SilentSensor {
    location: String,
    device_type: String,
    iot_sensor_id: Uuid,
    recorded_timestamp: String,
    age_seconds: u64,
}

/// The longest silent first.
pub async fn silent(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let query: SilentQuery = parameters(&uri)?;
    let top = within("top", query.top.unwrap_or(50), 1, 500)?;
    let longest = match &query.longer_than {
        Some(text) => time::length(text).map_err(|error| Problem::bad_request(error.to_string()))?,
        None => i64::try_from(app.silent_after().as_millis()).unwrap_or(i64::MAX),
    };
    let wanted = selection(query.location.as_deref(), query.device_type.as_deref())?;
    let _permit = app.permit().await?;
    within_deadline(async {
        let session = app.session().await?;
        let now = Utc::now().timestamp_millis();
        let found = on_own_thread(move || async move {
            let groups = wanted.resolve(&session).await?;
            Ok(silence::find(&session, &groups, now.saturating_sub(longest)).await?)
        })
        .await?;
        let list = found.silent.iter().take(top).map(|silent| SilentSensor {
            location: silent.group.location.clone(),
            device_type: silent.group.device_type.clone(),
            iot_sensor_id: silent.sensor,
            recorded_timestamp: display(silent.last_at),
            age_seconds: u64::try_from(now.saturating_sub(silent.last_at) / 1000).unwrap_or(0),
        });
        let list = list.collect();
        json(&SilentBody { at: display(now), sensors: found.sensors, silent: found.silent.len(), list })
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnomaliesQuery {
    sensor: Uuid,
    metric: String,
    method: Option<Method>,
    sensitivity: Option<f64>,
    from: Option<String>,
    to: Option<String>,
    last: Option<String>,
}

#[derive(Deserialize, Clone, Copy, Default)]
#[serde(rename_all = "kebab-case")]
enum Method {
    #[default]
    RobustZ,
    Seasonal,
}

#[derive(Serialize)]
struct AnomaliesBody<'a> {
    iot_sensor_id: Uuid,
    metric: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'static str>,
    method: &'static str,
    values: usize,
    /// How many there are; the list holds the most unusual.
    found: usize,
    anomalies: Vec<AnomalyBody>,
}

#[derive(Serialize)]
struct AnomalyBody {
    from: String,
    to: String,
    points: u64,
    worst: String,
    value: f32,
    expected: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
    location: String,
    device_type: String,
}

/// Anomalies that are told; the most unusual.
const MOST_ANOMALIES: usize = 200;

/// A sensor's values that are unlike its others.
pub async fn anomalies(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let query: AnomaliesQuery = parameters(&uri)?;
    let metric = metric(&query.metric)?;
    let method = query.method.unwrap_or_default();
    let sensitivity = match query.sensitivity {
        None => Sensitivity::DEFAULT,
        Some(value) => Sensitivity::new(value).ok_or_else(|| {
            Problem::bad_request(format!("sensitivity is {value} (give more than 0, up to 1)"))
        })?,
    };
    let now = Utc::now().timestamp_millis();
    let (range, _) = range(query.from.as_deref(), query.to.as_deref(), query.last.as_deref(), now)?;
    let permit = app.permit().await?;
    within_deadline(async {
        let session = app.session().await?;
        let groups = Selection::default().resolve_sensor(&session, query.sensor).await?;
        let mut values = 0;
        let mut found = Vec::new();
        for group in groups {
            let mut points = Vec::new();
            each_value(&session, vec![group.clone()], query.sensor, &metric, range, |point| {
                if points.len() >= MOST_VALUES {
                    let text = format!("more than {MOST_VALUES} values (ask for a shorter range of time)");
                    return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, text));
                }
                points.push(point);
                Ok(())
            })
            .await?;
            values += points.len();
            // The work cannot be stopped, so it holds its place until it is done, whoever has gone away.
            let permit = permit.clone();
            let work = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                detect(&points, method, sensitivity)
            });
            let anomalies =
                work.await.map_err(|_| internal("the detector ended with a panic (see the log)"))??;
            found.extend(anomalies.into_iter().map(|anomaly| (group.clone(), anomaly)));
        }
        let all = found.len();
        found.sort_by(|(_, left), (_, right)| right.severity().total_cmp(&left.severity()));
        found.truncate(MOST_ANOMALIES);
        found.sort_by_key(|(_, anomaly)| anomaly.from);
        let anomalies = found.into_iter().map(|(group, anomaly)| anomaly_body(&group, &anomaly)).collect();
        let body = AnomaliesBody {
            iot_sensor_id: query.sensor,
            metric: metric.name(),
            unit: metric.unit(),
            method: match method {
                Method::RobustZ => "robust-z",
                Method::Seasonal => "seasonal",
            },
            values,
            found: all,
            anomalies,
        };
        json(&body)
    })
    .await
}

fn detect(points: &[Point], method: Method, sensitivity: Sensitivity) -> Result<Vec<Anomaly>, Problem> {
    const DAY: i64 = 86_400_000;
    let findings = match method {
        Method::RobustZ => robust_z::find(points, sensitivity),
        Method::Seasonal => seasonal::find(points, &[DAY], sensitivity)
            .map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?,
    };
    // As `iotctl anomalies` joins them: one reading may be missing or ordinary in between.
    let quiet = 2 * series::usual_step(points).map_or(0, series::round_step);
    Ok(runs::join(findings, quiet))
}

fn anomaly_body(group: &Group, anomaly: &Anomaly) -> AnomalyBody {
    AnomalyBody {
        from: display(anomaly.from),
        to: display(anomaly.to),
        points: anomaly.points,
        worst: display(anomaly.worst.point.at),
        value: anomaly.worst.point.value as f32,
        expected: anomaly.worst.expected,
        score: anomaly.worst.score,
        location: group.location.clone(),
        device_type: group.device_type.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_769_860_800_000;

    #[test]
    fn a_range_has_an_end_for_the_eye_and_a_day_where_none_is_given() {
        let (all, end) = range(None, None, None, NOW).unwrap();
        assert_eq!((all.from, all.to, end), (NOW - 86_400_000, i64::MAX, NOW));
        let (before, end) = range(None, Some("2026-01-02"), None, NOW).unwrap();
        assert_eq!(end - before.from, 86_400_000);
        let (last, _) = range(None, None, Some("1h"), NOW).unwrap();
        assert_eq!(last.from, NOW - 3_600_000);
    }

    #[test]
    fn ranges_that_mean_nothing_or_too_much_are_refused() {
        for (from, to, last) in [
            (Some("1900-01-01"), None, None),
            (Some("now"), Some("-1h"), None),
            (Some("-1h"), None, Some("1h")),
            (None, None, Some("100000d")),
            (Some("soon"), None, None),
            (None, Some("soon"), None),
        ] {
            let problem = range(from, to, last, NOW).unwrap_err();
            assert_eq!(problem.status, StatusCode::BAD_REQUEST, "{problem:?}");
            assert!(problem.remedy.is_some(), "{problem:?}");
        }
    }

    #[test]
    fn parameters_that_are_not_known_or_not_valid_are_refused() {
        let parse = |query: &str| {
            parameters::<SeriesQuery>(&format!("/api/series?{query}").parse().unwrap()).map(|_| ())
        };
        let sensor = "sensor=5f0c1c9e-8b7b-5d3c-9d55-0b8b2f7e6a11";
        assert!(parse(&format!("{sensor}&metric=temperature&last=1h")).is_ok());
        for bad in [
            format!("{sensor}&metric=temperature&limit=3"),
            "sensor=1&metric=temperature".to_owned(),
            format!("{sensor}&metric=temperature&columns=-1"),
            sensor.to_owned(),
        ] {
            assert_eq!(parse(&bad).unwrap_err().status, StatusCode::BAD_REQUEST, "{bad}");
        }
        assert!(
            metric("location").is_err() && metric("a\u{7}").is_err() && metric(&"x".repeat(300)).is_err()
        );
        assert!(within("columns", 0, 1, MOST_COLUMNS).is_err());
    }
}
