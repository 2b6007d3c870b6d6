//! `GET /api/forecast`: the next hours of a sensor's metric, as `iotctl forecast --sensor` computes them.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::analytics::history::History;
use crate::analytics::series::SeriesError;
use crate::dashboard::app::App;
use crate::dashboard::problem::Problem;
use crate::dashboard::request::{Sensor, json, metric, parameters, sensor, within, within_deadline};
use crate::forecasts::{self, Forecast, Model, Plan, Seasons};
use crate::series::Regular;
use crate::time::{HOUR, TimeRange, Zone, display, hour_of, now};

/// The past that a model learns from, in milliseconds.
const HISTORY: i64 = 30 * 24 * HOUR;
/// A day and a week, in hours.
const SEASON: usize = 24;
const SEASONS: Seasons = Seasons { short: SEASON, long: Some(7 * SEASON) };
const MAX_HOURS: usize = 168;
const LEVEL: f64 = 0.95;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    sensor: String,
    metric: String,
    hours: Option<usize>,
}

#[derive(Serialize)]
struct Body<'a> {
    iot_sensor_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    sensor_name: Option<String>,
    metric: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'static str>,
    /// Absent with the points, where `reason` says why.
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    level: f64,
    step_seconds: i64,
    points: Vec<PointBody>,
}

#[derive(Serialize)]
struct PointBody {
    time: String,
    value: f64,
    low: f64,
    high: f64,
}

/// A past that is too short for any model is not an error of the request: the answer holds the reason and no points.
pub(super) async fn get(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let asked: Parameters = parameters(&uri)?;
    let metric = metric(&asked.metric)?;
    let hours = within("hours", asked.hours.unwrap_or(SEASON), 1, MAX_HOURS)?;
    let permit = app.permit().await?;
    within_deadline(async {
        let session = app.session().await?;
        let Sensor { id, name, groups, .. } = sensor(&session, &asked.sensor).await?;
        // An hour that is not over yet would look like a fall or a rise.
        let to = hour_of(now());
        let history = History {
            groups,
            sensor: Some(id),
            metric: metric.clone(),
            range: TimeRange { from: to - HISTORY, to },
            step: HOUR,
            zone: Zone::Utc,
        };
        let found = match history.read(&session).await.map_err(problem)? {
            None => Err("there is no value in the last 30 days".to_owned()),
            Some(series) => {
                // A model cannot be cancelled. It holds the permit until it ends, also when the client has disconnected.
                let permit = Arc::clone(&permit);
                let model = tokio::task::spawn_blocking(move || {
                    let _permit = permit;
                    forecasts::forecast(&series, &plan(&series, hours))
                });
                let found = model.await;
                let found = found.map_err(|_| Problem::internal("the model panicked (see the log)"))?;
                found.map_err(|error| Problem::bad_request(error.to_string()).detail)
            }
        };
        json(&Body {
            iot_sensor_id: id,
            sensor_name: name,
            metric: metric.name(),
            unit: metric.unit(),
            model: found.as_ref().ok().map(|found| found.model.name()),
            level: LEVEL,
            step_seconds: HOUR / 1000,
            points: found.as_ref().map(points).unwrap_or_default(),
            reason: found.err(),
        })
    })
    .await
}

fn problem(error: SeriesError) -> Problem {
    match error {
        SeriesError::Cassandra(error) => error.into(),
        other => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, other.to_string()),
    }
}

/// The best of the quick models where the past holds enough days; else ETS, which does not model a season, for a quarter
/// of that past.
fn plan(series: &Regular, hours: usize) -> Plan {
    let needs = forecasts::needs(&Model::QUICK, Seasons { long: None, ..SEASONS }, hours);
    if series.len() >= needs {
        return Plan { models: Model::QUICK.to_vec(), horizon: hours, seasons: SEASONS, level: LEVEL };
    }
    let horizon = hours.min(series.len() / 4).max(1);
    Plan { models: vec![Model::Ets], horizon, seasons: Seasons { short: 2, long: None }, level: LEVEL }
}

/// Each mean at the middle of its hour, where a reader expects it.
fn points(found: &Forecast) -> Vec<PointBody> {
    let point = |step: &forecasts::Step| PointBody {
        time: display(step.at + HOUR / 2),
        value: step.value,
        low: step.low,
        high: step.high,
    };
    found.steps.iter().map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(hours: usize) -> Regular {
        let value = |hour: usize| (hour as f64 / 24.0 * std::f64::consts::TAU).sin();
        Regular { start: 0, step: HOUR, values: (0..hours).map(value).collect(), zone: Zone::Utc }
    }

    #[test]
    fn a_short_past_is_forecast_for_a_part_of_its_length() {
        for (hours, expected) in [(24 * 14, 24), (79, 19), (24, 6)] {
            let series = series(hours);
            let found = forecasts::forecast(&series, &plan(&series, 24)).unwrap();
            assert_eq!(found.steps.len(), expected, "{hours} hours");
        }
        let few = series(9);
        assert!(forecasts::forecast(&few, &plan(&few, 24)).is_err());
    }
}
