//! `GET /api/series`: values of sensors over time, in a bounded number of columns.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use serde::Serialize;
use uuid::Uuid;

use crate::analytics::scan::Question;
use crate::analytics::{Order, Scan};
use crate::cassandra::Session;
use crate::dashboard::app::App;
use crate::dashboard::problem::Problem;
use crate::dashboard::request::{self, Sensor, json, range, sensor, within, within_deadline};
use crate::dashboard::rows::{Encoding, Kind, MAX_ROWS, Rows, Value};
use crate::reading::{Group, Metric};
use crate::series::{Downsampler, Point};
use crate::store::cells::Cells;
use crate::time::{TimeRange, display, now};

const MAX_COLUMNS: usize = 2_000;
const DEFAULT_COLUMNS: usize = 600;
/// From so many values per column on, a line through the extremes is a smear: the answer has means too.
const DENSE: u64 = 4;

const PARAMETERS: [&str; 7] = ["sensor", "metric", "from", "to", "last", "columns", "format"];
/// Sensors of one question.
const MAX_SENSORS: usize = 50;

#[derive(Serialize)]
struct Body<'a> {
    iot_sensor_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    sensor_name: Option<String>,
    metric: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
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

/// What is asked for, before any server is.
struct Asked {
    sensors: Vec<String>,
    metrics: Vec<Metric>,
    range: TimeRange,
    /// Where the range ends in the answer.
    end: i64,
    columns: usize,
    format: Option<String>,
}

impl Asked {
    fn read(uri: &Uri) -> Result<Self, Problem> {
        let asked = request::Asked::read(uri, &PARAMETERS)?;
        let sensors = asked.list("sensor", |part| Uuid::try_parse(part).is_ok());
        let sensors: Vec<_> = sensors.into_iter().map(str::to_owned).collect();
        within("the number of sensors", sensors.len(), 1, MAX_SENSORS)?;
        let metrics = asked.metrics()?;
        let columns = asked.one("columns")?.map(|text| {
            text.parse::<usize>()
                .map_err(|_| Problem::bad_request("columns is not a number (give 1 to 2000)"))
        });
        let (range, end) = range(asked.one("from")?, asked.one("to")?, asked.one("last")?, now())?;
        Ok(Self {
            sensors,
            metrics,
            range,
            end,
            columns: within("columns", columns.transpose()?.unwrap_or(DEFAULT_COLUMNS), 1, MAX_COLUMNS)?,
            format: asked.one("format")?.map(str::to_owned),
        })
    }

    /// Reads each metric of a sensor, in one scan.
    async fn find(
        &self,
        session: &Session,
        sensor: Uuid,
        groups: Vec<Arc<Group>>,
    ) -> Result<Vec<Found>, Problem> {
        let sampler = || Found {
            sampler: Downsampler::within(self.range.from, self.end, self.columns),
            means: Means::within(self.range.from, self.end, self.columns),
        };
        let mut found: Vec<Found> = self.metrics.iter().map(|_| sampler()).collect();
        let question = Question {
            groups,
            sensor: Some(sensor),
            range: self.range,
            filter: None,
            chosen: None,
            order: Some(Order::Asc),
        };
        let mut scan = Scan::of_cells(session, question, Cells::of(&self.metrics)).await?;
        while let Some(chunk) = scan.next().await? {
            for reading in &chunk {
                for (metric, found) in self.metrics.iter().zip(&mut found) {
                    if let Some(value) = reading.value(metric) {
                        found.sampler.add(Point { at: reading.recorded_at, value });
                        found.means.add(reading.recorded_at, value);
                    }
                }
            }
        }
        Ok(found)
    }

    /// One sensor's one metric, for a chart.
    fn chart(&self, sensor: &Sensor, found: Found) -> Result<Response, Problem> {
        let metric = &self.metrics[0];
        let drawn = found.sampler.extremes();
        let points = drawn.points.iter();
        json(&Body {
            iot_sensor_id: sensor.id,
            sensor_name: sensor.name.clone(),
            metric: metric.name(),
            unit: sensor.units.unit(metric),
            from: display(self.range.from),
            to: display(self.end),
            values: drawn.count,
            lowest: drawn.lowest,
            highest: drawn.highest,
            mean: drawn.mean,
            points: points.map(|point| PointBody { time: display(point.at), value: point.value }).collect(),
            columns: (drawn.count > DENSE * self.columns as u64).then(|| found.means.body()),
        })
    }

    /// A row for each point.
    fn list(&self, rows: &mut Rows, sensor: &Sensor, found: Vec<Found>) -> Result<(), Problem> {
        let id: Arc<str> = sensor.id.to_string().into();
        let sensor_name: Option<Arc<str>> = sensor.name.as_deref().map(Into::into);
        for (metric, found) in self.metrics.iter().zip(found) {
            let (name, unit): (Arc<str>, Option<Arc<str>>) =
                (metric.name().into(), sensor.units.unit(metric).map(Into::into));
            for point in found.sampler.extremes().points {
                rows.push(vec![
                    Value::Moment(point.at),
                    Value::Text(id.clone()),
                    sensor_name.clone().map_or(Value::Missing, Value::Text),
                    Value::Text(name.clone()),
                    unit.clone().map_or(Value::Missing, Value::Text),
                    Value::Number(point.value),
                ])?;
            }
        }
        Ok(())
    }
}

/// What a scan has of a metric.
struct Found {
    sampler: Downsampler,
    means: Means,
}

pub(super) async fn get(State(app): State<App>, headers: HeaderMap, uri: Uri) -> Result<Response, Problem> {
    let asked = Asked::read(&uri)?;
    let encoding = Encoding::asked(asked.format.as_deref(), &headers)?;
    let is_chart = asked.sensors.len() == 1 && asked.metrics.len() == 1 && encoding == Encoding::Json;
    let _permit = app.permit().await?;
    within_deadline(async {
        let session = app.session().await?;
        let columns = [
            ("recorded_timestamp", Kind::Moment),
            ("iot_sensor_id", Kind::Text),
            ("sensor_name", Kind::Text),
            ("metric", Kind::Text),
            ("unit", Kind::Text),
            ("value", Kind::Number),
        ];
        let columns = columns.map(|(name, kind)| (name.to_owned(), kind)).into();
        let mut rows = Rows::new(columns, MAX_ROWS);
        for text in &asked.sensors {
            let mut sensor = sensor(&session, text).await?;
            let groups = std::mem::take(&mut sensor.groups);
            let mut found = asked.find(&session, sensor.id, groups).await?;
            if is_chart {
                return asked.chart(&sensor, found.swap_remove(0));
            }
            asked.list(&mut rows, &sensor, found)?;
        }
        rows.answer(encoding)
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
        let parse = |query: &str| Asked::read(&format!("/api/series?{query}").parse().unwrap()).map(|_| ());
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
