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
/// From so many values per column on, a line through the extremes is a smear: the answer has means too.
const DENSE: u64 = 4;

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
    /// Absent unless there are many values in a column.
    #[serde(skip_serializing_if = "Option::is_none")]
    columns: Option<Vec<ColumnBody>>,
}

/// The values of a column of time.
#[derive(Serialize)]
struct ColumnBody {
    /// The middle of the column.
    time: String,
    low: f64,
    mean: f64,
    high: f64,
}

/// The mean of each column, beside what the sampler keeps.
struct Means {
    from: i64,
    to: i64,
    columns: Vec<Column>,
}

#[derive(Clone, Copy)]
struct Column {
    count: u32,
    sum: f64,
    low: f64,
    high: f64,
}

impl Means {
    fn within(from: i64, to: i64, columns: usize) -> Self {
        let empty = Column { count: 0, sum: 0.0, low: f64::INFINITY, high: f64::NEG_INFINITY };
        Self { from, to, columns: vec![empty; columns] }
    }

    fn add(&mut self, at: i64, value: f64) {
        let columns = self.columns.len();
        let share = (at - self.from) as f64 / (self.to - self.from).max(1) as f64;
        // `as` saturates: what is before the range is in the first column.
        let column = &mut self.columns[((share * columns as f64) as usize).min(columns - 1)];
        column.count += 1;
        column.sum += value;
        column.low = column.low.min(value);
        column.high = column.high.max(value);
    }

    fn body(&self) -> Vec<ColumnBody> {
        let width = (self.to - self.from) as f64 / self.columns.len() as f64;
        let filled = self.columns.iter().enumerate().filter(|(_, column)| column.count > 0);
        let body = |(index, column): (usize, &Column)| ColumnBody {
            time: display(self.from + ((index as f64 + 0.5) * width) as i64),
            low: column.low,
            // Rounding must not carry the mean of equal values beyond them.
            mean: (column.sum / f64::from(column.count)).clamp(column.low, column.high),
            high: column.high,
        };
        filled.map(body).collect()
    }
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
        let mut means = Means::within(range.from, end, columns);
        let question =
            Question { groups, sensor: Some(id), range, filter: None, chosen: None, order: Order::Asc };
        let mut scan = Scan::start(&session, question).await?;
        while let Some(chunk) = scan.next().await? {
            for reading in &chunk {
                if let Some(value) = reading.value(&metric) {
                    sampler.add(Point { at: reading.recorded_at, value });
                    means.add(reading.recorded_at, value);
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
            columns: (drawn.count > DENSE * columns as u64).then(|| means.body()),
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    #[test]
    fn a_column_has_the_mean_and_the_extremes_of_its_values() {
        let mut means = Means::within(0, 100, 10);
        for (at, value) in [(1, 2.0), (9, 4.0), (95, 7.0), (1_000, 8.0)] {
            means.add(at, value);
        }
        let found: Vec<_> = means.body().into_iter().map(|it| (it.time, it.low, it.mean, it.high)).collect();
        assert_eq!(found, [(display(5), 2.0, 3.0, 4.0), (display(95), 7.0, 7.5, 8.0)]);
    }

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
