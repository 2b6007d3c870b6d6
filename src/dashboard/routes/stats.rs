//! `GET /api/stats`: statistics by sensor, location, device type, tag and length of time, as `iotctl stats` computes them.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;

use crate::analytics::groups::Selection;
use crate::analytics::sources::MaxResolution;
use crate::analytics::stats::{Key, Part, StatsQuery};
use crate::analytics::table::{Aggregate, ByArg, Fill, Row, by, rows};
use crate::analytics::tags::{TagFilter, TagValues};
use crate::dashboard::app::App;
use crate::dashboard::problem::Problem;
use crate::dashboard::request::{Asked, name, range_in, sensor, within, within_deadline};
use crate::dashboard::rows::{Encoding, Kind, MAX_ROWS, Rows, Value};
use crate::output::record::Cell;
use crate::reading::{Metric, tags};
use crate::store::rollups::Detail;
use crate::store::sensors::SensorNames;
use crate::time::{self, TimeRange, Zone, now};

const PARAMETERS: [&str; 14] = [
    "metric",
    "by",
    "agg",
    "from",
    "to",
    "last",
    "zone",
    "sensor",
    "location",
    "device_type",
    "tag",
    "compare",
    "fill",
    "limit",
];
const DEFAULT_AGGREGATES: &str = "count,min,avg,max,stddev";
const MAX_AGGREGATES: usize = 20;

/// What is asked for, before any server is.
struct Question {
    metrics: Vec<Metric>,
    by: Vec<ByArg>,
    aggregates: Vec<Aggregate>,
    range: TimeRange,
    zone: Zone,
    sensor: Option<String>,
    selection: Selection,
    tags: Vec<(String, String)>,
    compare: Option<i64>,
    fill: Option<Fill>,
    limit: usize,
    now: i64,
}

impl Question {
    fn of(asked: &Asked, now: i64) -> Result<Self, Problem> {
        let bad = |parameter: &str, error: &dyn std::fmt::Display| {
            Problem::bad_request(format!("{parameter} is not understood: {error}"))
        };
        let metrics = asked.metrics()?;
        let by = asked
            .list("by", |_| true)
            .into_iter()
            .map(|text| text.parse::<ByArg>().map_err(|error| bad("by", &error)));
        let by = by.collect::<Result<Vec<ByArg>, _>>()?;
        let aggregates = asked
            .one("agg")?
            .unwrap_or(DEFAULT_AGGREGATES)
            .split(',')
            .map(|text| text.trim().parse::<Aggregate>().map_err(|error| bad("agg", &error)));
        let aggregates = aggregates.collect::<Result<Vec<Aggregate>, _>>()?;
        within("the number of statistics", aggregates.len(), 1, MAX_AGGREGATES)?;
        let zone = match asked.one("zone")? {
            Some(text) => Zone::named(text).map_err(|error| bad("zone", &error))?,
            None => Zone::Utc,
        };
        let (range, _) = range_in(zone, asked.one("from")?, asked.one("to")?, asked.one("last")?, now)?;
        let compare = asked.one("compare")?.map(|text| match time::length(text) {
            Ok(0) => Err(Problem::bad_request("compare is 0 (give a length of time such as 24h or 7d)")),
            Ok(length) => Ok(length),
            Err(error) => Err(bad("compare", &error)),
        });
        let has_time = by.iter().any(|by| matches!(by, ByArg::Every(..)));
        let fill = match asked.one("fill")? {
            None => None,
            Some(_) if !has_time => {
                return Err(Problem::bad_request("fill is for periods of time (add by=hour, or by=15m)"));
            }
            Some("null") => Some(Fill::Null),
            Some("previous") => Some(Fill::Previous),
            Some("linear") => Some(Fill::Linear),
            Some(_) => return Err(Problem::bad_request("fill is not known (give null, previous or linear)")),
        };
        let tags = asked.all("tag").map(|text| tags::condition(text).map_err(|error| bad("tag", &error)));
        let limit =
            asked.one("limit")?.map(|text| text.parse::<usize>().map_err(|error| bad("limit", &error)));
        Ok(Self {
            metrics,
            by,
            aggregates,
            range,
            zone,
            sensor: asked.one("sensor")?.map(str::to_owned),
            selection: Selection {
                location: asked.one("location")?.map(|text| name("location", text)).transpose()?,
                device_type: asked.one("device_type")?.map(|text| name("device_type", text)).transpose()?,
            },
            tags: tags.collect::<Result<_, _>>()?,
            compare: compare.transpose()?,
            fill,
            limit: within("limit", limit.transpose()?.unwrap_or(MAX_ROWS), 1, MAX_ROWS)?,
            now,
        })
    }

    fn columns(&self) -> Vec<(String, Kind)> {
        let mut columns: Vec<(String, Kind)> = Vec::new();
        let mut add = |name: &str, kind| columns.push((name.to_owned(), kind));
        for by in &self.by {
            match by {
                ByArg::Sensor => {
                    add("iot_sensor_id", Kind::Text);
                    add("sensor_name", Kind::Text);
                }
                ByArg::Every(..) => add(&by.heading().name, Kind::Moment),
                ByArg::Location | ByArg::DeviceType | ByArg::Tag(_) => add(&by.heading().name, Kind::Text),
            }
        }
        for (name, by) in [("location", ByArg::Location), ("device_type", ByArg::DeviceType)] {
            if self.by.contains(&ByArg::Sensor) && !self.by.contains(&by) {
                add(name, Kind::Text);
            }
        }
        add("metric", Kind::Text);
        add("unit", Kind::Text);
        for aggregate in &self.aggregates {
            let kind = if *aggregate == Aggregate::Count { Kind::Count } else { Kind::Number };
            add(aggregate.name(), kind);
            if self.compare.is_some() {
                add(&format!("{}_before", aggregate.name()), kind);
                add(&format!("{}_change", aggregate.name()), Kind::Number);
            }
        }
        columns
    }

    fn values(&self, metric: &Metric, key: &Key, row: &Row, names: &SensorNames) -> Vec<Value> {
        let text = |text: Option<&str>| text.map_or(Value::Missing, Value::text);
        let mut values = Vec::new();
        for part in key {
            match part {
                Part::Sensor(sensor) => {
                    values.push(Value::text(sensor.to_string()));
                    values.push(text(names.get(*sensor)));
                }
                Part::Name(name) => values.push(Value::Text(name.clone())),
                Part::Moment(at) => values.push(Value::Moment(*at)),
                Part::Untagged => values.push(Value::Missing),
                Part::None => {}
            }
        }
        if self.by.contains(&ByArg::Sensor) {
            let group = row.group.as_deref();
            if !self.by.contains(&ByArg::Location) {
                values.push(text(group.map(|group| group.location.as_str())));
            }
            if !self.by.contains(&ByArg::DeviceType) {
                values.push(text(group.map(|group| group.device_type.as_str())));
            }
        }
        values.push(Value::text(metric.name()));
        values.push(text(metric.unit()));
        for (index, aggregate) in self.aggregates.iter().enumerate() {
            let of = |values: &[Option<f64>]| values.get(index).copied().flatten();
            let (now, before) = (of(&row.values), of(&row.before));
            values.push(value(aggregate.cell(now, row.is_filled)));
            if self.compare.is_some() {
                values.push(value(aggregate.cell(before, false)));
                let change = now.zip(before).map(|(now, then)| now - then);
                values.push(change.map_or(Value::Missing, Value::Computed));
            }
        }
        values
    }
}

/// A statistic as the command line has it.
fn value(cell: Cell<'_>) -> Value {
    match cell {
        Cell::Count(count) => Value::Count(count),
        Cell::Number(number) => Value::Number(number),
        Cell::Double(number) => Value::Computed(number),
        _ => Value::Missing,
    }
}

pub(super) async fn get(State(app): State<App>, headers: HeaderMap, uri: Uri) -> Result<Response, Problem> {
    let mut known = PARAMETERS.to_vec();
    known.push("format");
    let asked = Asked::read(&uri, &known)?;
    let encoding = Encoding::asked(asked.one("format")?, &headers)?;
    let question = Question::of(&asked, now())?;
    let mut tag_keys = Vec::new();
    let by = by::dimensions(&question.by, question.zone, &mut tag_keys)?;
    let _permit = app.permit().await?;
    within_deadline(async {
        let session = app.session().await?;
        let (groups, id) = match &question.sensor {
            Some(text) => {
                let found = sensor(&session, text).await?;
                (question.selection.resolve_sensor(&session, found.id).await?, Some(found.id))
            }
            None => (question.selection.resolve(&session).await?, None),
        };
        let (groups, chosen) = match question.tags.is_empty() {
            true => (groups, None),
            false => {
                let chosen = TagFilter::of(&question.tags).choose(&session, &groups).await?;
                (chosen.groups(), Some(Arc::new(chosen)))
            }
        };
        let mut tag_values = Vec::new();
        for key in &tag_keys {
            tag_values.push(TagValues::read(&session, &groups, key).await?);
        }
        let has_percentile = question.aggregates.iter().any(|aggregate| aggregate.quantile().is_some());
        let query = StatsQuery {
            groups,
            sensor: id,
            chosen,
            tag_values: tag_values.into(),
            metric: question.metrics[0].clone(),
            range: question.range,
            by,
            detail: if has_percentile { Detail::Whole } else { Detail::WithoutSketch },
            max_resolution: MaxResolution::Day,
        };
        let mut answer = Rows::new(question.columns(), question.limit);
        let mut names = SensorNames::default();
        for metric in &question.metrics {
            let query = StatsQuery { metric: metric.clone(), ..query.clone() };
            let found = query.find(&session, |_| {}).await?;
            let mut lines = rows::rows(&found.lines, &question.aggregates);
            if let Some(length) = question.compare {
                let to = if question.range.to == i64::MAX { question.now } else { question.range.to };
                let shown = TimeRange { to, ..question.range };
                let range = rows::earlier(question.zone, shown, length);
                let earlier = StatsQuery { range, by: by.earlier(length), ..query };
                let before = earlier.find(&session, |_| {}).await?;
                rows::compare(&mut lines, &before.lines, &question.aggregates, by.periods(), shown);
            }
            if let Some(how) = question.fill {
                let periods = by.periods();
                rows::fill(&mut lines, how, &question.aggregates, periods, question.range, question.now)?;
            }
            let sensors: BTreeSet<_> = lines
                .iter()
                .filter_map(|(key, row)| Some((key, row.group.as_ref()?)))
                .flat_map(|(key, group)| {
                    key.iter().filter_map(move |part| match part {
                        Part::Sensor(sensor) => Some((group, *sensor)),
                        _ => None,
                    })
                })
                .take(question.limit)
                .collect();
            names.learn(&session, sensors).await?;
            for (key, row) in &lines {
                answer.push(question.values(metric, key, row, &names))?;
            }
        }
        answer.answer(encoding)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(query: &str) -> Result<Question, Problem> {
        let mut known = PARAMETERS.to_vec();
        known.push("format");
        let uri = format!("/api/stats?{query}").parse().unwrap();
        Question::of(&Asked::read(&uri, &known)?, 1_769_860_800_000)
    }

    #[test]
    fn lists_are_given_with_commas_or_several_times() {
        let found =
            question("metric=temperature&metric=humidity&by=sensor,1h&agg=avg,p99.9&compare=7d").unwrap();
        assert_eq!((found.metrics.len(), found.by.len(), found.aggregates.len()), (2, 2, 2));
        let columns: Vec<_> = found.columns().into_iter().map(|(name, _)| name).collect();
        let expected = [
            "iot_sensor_id",
            "sensor_name",
            "time",
            "location",
            "device_type",
            "metric",
            "unit",
            "avg",
            "avg_before",
            "avg_change",
            "p99.9",
            "p99.9_before",
            "p99.9_change",
        ];
        assert_eq!(columns, expected);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for query in [
            "",
            "metric=temperature&by=colour",
            "metric=temperature&agg=median",
            "metric=temperature&fill=null",
            "metric=temperature&by=1h&fill=nearest",
            "metric=temperature&zone=Mars/Base",
            "metric=temperature&limit=0",
            "metric=temperature&compare=0s",
            "metric=temperature&tag=room",
            "metric=temperature&raw=1",
            "metric=temperature&zone=UTC&zone=Europe/Berlin",
            "metric=location",
        ] {
            let problem = question(query).err().unwrap_or_else(|| panic!("{query} is accepted"));
            assert_eq!(problem.status, axum::http::StatusCode::BAD_REQUEST, "{query}");
        }
    }
}
