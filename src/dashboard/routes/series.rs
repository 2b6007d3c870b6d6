//! `GET /api/series`: a sensor's values over time, in a bounded number of columns.

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::analytics::scan::Question;
use crate::analytics::{Order, Scan};
use crate::dashboard::app::App;
use crate::dashboard::problem::Problem;
use crate::dashboard::request::{Sensor, json, metric, parameters, range, sensor, within, within_deadline};
use crate::series::{Downsampler, Point};
use crate::time::{display, now};

const MAX_COLUMNS: usize = 2_000;
const DEFAULT_COLUMNS: usize = 600;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    sensor: String,
    metric: String,
    from: Option<String>,
    to: Option<String>,
    last: Option<String>,
    columns: Option<usize>,
}

#[derive(Serialize)]
struct Body<'a> {
    iot_sensor_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    sensor_name: Option<String>,
    metric: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'static str>,
    from: String,
    to: String,
    /// Number of values in the range; the points may be fewer.
    values: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    lowest: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    highest: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mean: Option<f64>,
    points: Vec<PointBody>,
}

#[derive(Serialize)]
struct PointBody {
    time: String,
    value: f64,
}

pub(super) async fn get(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let asked: Parameters = parameters(&uri)?;
    let metric = metric(&asked.metric)?;
    let columns = within("columns", asked.columns.unwrap_or(DEFAULT_COLUMNS), 1, MAX_COLUMNS)?;
    let (range, end) = range(asked.from.as_deref(), asked.to.as_deref(), asked.last.as_deref(), now())?;
    let _permit = app.permit().await?;
    within_deadline(async {
        let session = app.session().await?;
        let Sensor { id, name, groups } = sensor(&session, &asked.sensor).await?;
        let mut sampler = Downsampler::within(range.from, end, columns);
        let question =
            Question { groups, sensor: Some(id), range, filter: None, chosen: None, order: Order::Asc };
        let mut scan = Scan::start(&session, question).await?;
        while let Some(chunk) = scan.next().await? {
            for reading in &chunk {
                if let Some(value) = reading.value(&metric) {
                    sampler.add(Point { at: reading.recorded_at, value });
                }
            }
        }
        let drawn = sampler.extremes();
        let points = drawn.points.iter();
        json(&Body {
            iot_sensor_id: id,
            sensor_name: name,
            metric: metric.name(),
            unit: metric.unit(),
            from: display(range.from),
            to: display(end),
            values: drawn.count,
            lowest: drawn.lowest,
            highest: drawn.highest,
            mean: drawn.mean,
            points: points.map(|point| PointBody { time: display(point.at), value: point.value }).collect(),
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    #[test]
    fn unknown_and_invalid_parameters_are_refused() {
        let parse = |query: &str| {
            parameters::<Parameters>(&format!("/api/series?{query}").parse().unwrap()).map(|_| ())
        };
        let sensor = "sensor=5f0c1c9e-8b7b-5d3c-9d55-0b8b2f7e6a11";
        assert!(parse(&format!("{sensor}&metric=temperature&last=1h")).is_ok());
        for bad in [
            format!("{sensor}&metric=temperature&limit=3"),
            "metric=temperature".to_owned(),
            format!("{sensor}&metric=temperature&columns=-1"),
            sensor.to_owned(),
        ] {
            assert_eq!(parse(&bad).unwrap_err().status, StatusCode::BAD_REQUEST, "{bad}");
        }
    }
}
