//! What a sensor's metric will do next, as `iotctl forecast --sensor` has it by the hour.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use chrono::Utc;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::api::{self, App};
use super::problem::Problem;
use crate::analytics::groups::Selection;
use crate::analytics::history::History;
use crate::forecasts::{self, Forecast, Model, Plan};
use crate::series::Regular;
use crate::time::HOUR;
use crate::time::TimeRange;
use crate::time::display;

/// How much of the past is learnt from.
const HISTORY: i64 = 30 * 24 * HOUR;
const SEASON: usize = 24;
const LONGEST: usize = 168;
const LEVEL: f64 = 0.95;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ForecastQuery {
    sensor: Uuid,
    metric: String,
    hours: Option<usize>,
}

#[derive(Serialize)]
struct ForecastBody<'a> {
    iot_sensor_id: Uuid,
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
    points: Vec<ForecastPoint>,
}

#[derive(Serialize)]
struct ForecastPoint {
    time: String,
    value: f64,
    low: f64,
    high: f64,
}

/// The next hours of a sensor, each with an interval; none where its past does not do, which is no error of who asks.
pub async fn forecast(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let query: ForecastQuery = api::parameters(&uri)?;
    let metric = api::metric(&query.metric)?;
    let hours = api::within("hours", query.hours.unwrap_or(SEASON), 1, LONGEST)?;
    let permit = app.permit().await?;
    api::within_deadline(async {
        let session = app.session().await?;
        let groups = Selection::default().resolve_sensor(&session, query.sensor).await?;
        // The hour that is not over yet would look like a fall or a rise.
        let to = Utc::now().timestamp_millis().div_euclid(HOUR) * HOUR;
        let history = History {
            groups,
            sensor: Some(query.sensor),
            metric: metric.clone(),
            range: TimeRange { from: to - HISTORY, to },
            step: HOUR,
        };
        let read = api::on_own_thread(move || async move {
            let read = history.read(&session).await;
            read.map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))
        });
        let found = match read.await? {
            None => Err("there is no value in the last 30 days".to_owned()),
            Some(series) => {
                // The work cannot be stopped, so it holds its place until it is done, whoever has gone away.
                let permit = Arc::clone(&permit);
                let work = tokio::task::spawn_blocking(move || {
                    let _permit = permit;
                    forecasts::forecast(&series, &plan(&series, hours))
                });
                let found = work.await;
                let found =
                    found.map_err(|_| api::internal("the forecast ended with a panic (see the log)"))?;
                found.map_err(|error| Problem::bad_request(error.to_string()).detail)
            }
        };
        api::json(&ForecastBody {
            iot_sensor_id: query.sensor,
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

/// The best of the quick models where the past holds enough days; else ETS, which knows no season, for a quarter of that past.
fn plan(series: &Regular, hours: usize) -> Plan {
    let needs = forecasts::needs(SEASON, hours);
    if series.len() >= needs {
        return Plan { models: Model::QUICK.to_vec(), horizon: hours, season: SEASON, level: LEVEL };
    }
    let horizon = hours.min(series.len() / 4).max(1);
    Plan { models: vec![Model::Ets], horizon, season: 2, level: LEVEL }
}

/// In the middle of its hour, as the eye expects the mean of one.
fn points(found: &Forecast) -> Vec<ForecastPoint> {
    let point = |step: &forecasts::Step| ForecastPoint {
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
        Regular { start: 0, step: HOUR, values: (0..hours).map(value).collect() }
    }

    #[test]
    fn a_short_past_is_continued_for_a_part_of_its_length() {
        for (hours, expected) in [(24 * 14, 24), (79, 19), (24, 6)] {
            let series = series(hours);
            let found = forecasts::forecast(&series, &plan(&series, 24)).unwrap();
            assert_eq!(found.steps.len(), expected, "{hours} hours");
        }
        let few = series(9);
        assert!(forecasts::forecast(&few, &plan(&few, 24)).is_err());
    }
}
