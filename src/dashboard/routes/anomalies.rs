//! `GET /api/anomalies`: a sensor's values that are unlike its others.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::analytics::series::{SeriesError, SeriesQuery};
use crate::anomalies::{Method, Search, SearchError, SearchResult, Sensitivity, SensorAnomaly};
use crate::dashboard::app::App;
use crate::dashboard::problem::Problem;
use crate::dashboard::request::{Sensor, json, metric, parameters, range, sensor, within_deadline};
use crate::time::{display, now};

/// Values of one sensor that a detector may hold: 8 MB.
const MAX_VALUES: usize = 500_000;
/// Anomalies in an answer; the most unusual.
const MAX_LISTED: usize = 200;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    sensor: String,
    metric: String,
    method: Option<MethodName>,
    sensitivity: Option<f64>,
    from: Option<String>,
    to: Option<String>,
    last: Option<String>,
}

/// The methods that judge a sensor by itself and without a limit.
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum MethodName {
    RobustZ,
    Seasonal,
}

#[derive(Serialize)]
struct Body<'a> {
    iot_sensor_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    sensor_name: Option<String>,
    metric: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'static str>,
    method: &'static str,
    values: usize,
    /// Number of anomalies; the list holds the most unusual.
    found: usize,
    anomalies: Vec<AnomalyBody>,
}

#[derive(Serialize)]
struct AnomalyBody {
    from: String,
    to: String,
    points: u64,
    worst: String,
    value: f64,
    expected: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
    location: String,
    device_type: String,
}

impl From<&SensorAnomaly> for AnomalyBody {
    fn from(found: &SensorAnomaly) -> Self {
        let SensorAnomaly { group, anomaly, .. } = found;
        Self {
            from: display(anomaly.from),
            to: display(anomaly.to),
            points: anomaly.points,
            worst: display(anomaly.worst.point.at),
            value: anomaly.worst.point.value,
            expected: anomaly.worst.expected,
            score: anomaly.worst.score,
            location: group.location.clone(),
            device_type: group.device_type.clone(),
        }
    }
}

pub(super) async fn get(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let asked: Parameters = parameters(&uri)?;
    let metric = metric(&asked.metric)?;
    let search = Arc::new(search(&asked)?);
    let (range, _) = range(asked.from.as_deref(), asked.to.as_deref(), asked.last.as_deref(), now())?;
    let permit = app.permit().await?;
    within_deadline(async {
        let session = app.session().await?;
        let Sensor { id, name, groups, .. } = sensor(&session, &asked.sensor).await?;
        let mut result = SearchResult::default();
        for group in groups {
            let query = SeriesQuery { group, sensor: Some(id), metric: metric.clone(), range };
            // The detector holds the permit until it ends, also when the client has disconnected.
            search.run(&session, &query, permit.clone(), &mut result).await.map_err(problem)?;
            if let Some(reason) = &result.skip_reason {
                return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, reason.to_string()));
            }
        }
        let found = result.anomalies.len();
        result.keep_most_unusual(MAX_LISTED);
        json(&Body {
            iot_sensor_id: id,
            sensor_name: name,
            metric: metric.name(),
            unit: metric.unit(),
            method: search.method.name(),
            values: result.values,
            found,
            anomalies: result.anomalies.iter().map(AnomalyBody::from).collect(),
        })
    })
    .await
}

fn search(asked: &Parameters) -> Result<Search, Problem> {
    let method = match asked.method {
        None | Some(MethodName::RobustZ) => Method::RobustZ,
        Some(MethodName::Seasonal) => Method::Seasonal,
    };
    let sensitivity = match asked.sensitivity {
        None => Sensitivity::DEFAULT,
        Some(value) => Sensitivity::new(value).ok_or_else(|| {
            Problem::bad_request(format!("sensitivity is {value} (give more than 0, up to 1)"))
        })?,
    };
    Ok(Search { sensitivity, max_points: MAX_VALUES, ..Search::by(method) })
}

fn problem(error: SearchError) -> Problem {
    let unprocessable = |text: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, text);
    match error {
        SearchError::Series(SeriesError::Cassandra(error)) => error.into(),
        SearchError::Series(SeriesError::TooMany { max, .. }) => {
            unprocessable(format!("more than {max} values (ask for a shorter range of time)"))
        }
        SearchError::Panicked => Problem::internal(error.to_string()),
        other => unprocessable(other.to_string()),
    }
}
