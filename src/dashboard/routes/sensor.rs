//! `GET /api/sensors/{sensor}`: one sensor's newest reading, in each group that it has sent in, and what it measures.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use serde::Serialize;

use crate::analytics::scan::Question;
use crate::analytics::{Order, Scan};
use crate::dashboard::app::App;
use crate::dashboard::fleet::{MetricBody, ReadingBody};
use crate::dashboard::problem::Problem;
use crate::dashboard::request::{Sensor, json, sensor, within_deadline};
use crate::reading::Metric;
use crate::store::readings::{self, Names};
use crate::store::sensors::SensorNames;
use crate::time::{DAY, TimeRange};

/// Other metrics are searched in this many readings, and this long before the newest one.
const MAX_SEARCHED: usize = 2_000;
const SEARCHED: i64 = 30 * DAY;

#[derive(Serialize)]
struct Body<'a> {
    /// All that it has ever measured, the columns first.
    metrics: Vec<MetricBody<'a>>,
    readings: Vec<ReadingBody<'a>>,
}

pub(super) async fn get(State(app): State<App>, Path(asked): Path<String>) -> Result<Response, Problem> {
    let _permit = app.permit().await?;
    within_deadline(async {
        let session = app.session().await?;
        let Sensor { id, name, groups, units } = sensor(&session, &asked).await?;
        let sensor_names = SensorNames::default().with(id, name.as_deref());
        let mut newest = Vec::new();
        let mut names = Names::default();
        for group in &groups {
            let mut pages = readings::latest(&session, group, Some(id)).await?;
            while let Some(page) = pages.next(&mut names).await? {
                newest.extend(page);
            }
        }
        newest.sort_by_key(|reading| std::cmp::Reverse(reading.recorded_at));
        let mut others: BTreeSet<Arc<str>> = names.iter().cloned().collect();
        if let Some(last) = newest.first() {
            // Only one map of other metrics is kept in the row of the newest reading: others had other names.
            let to = last.recorded_at.saturating_add(1);
            let range = TimeRange { from: to.saturating_sub(SEARCHED), to };
            let question = Question {
                groups,
                sensor: Some(id),
                range,
                filter: None,
                chosen: None,
                order: Some(Order::Desc),
            };
            let mut scan = Scan::start(&session, question).await?;
            let mut searched = 0;
            while searched < MAX_SEARCHED
                && let Some(chunk) = scan.next().await?
            {
                searched += chunk.len();
            }
            others.extend(scan.metric_names());
        }
        let columns: Vec<Metric> = names.columns().collect();
        let others: Vec<Metric> = others.iter().map(|name| Metric::Other(name.to_string())).collect();
        json(&Body {
            metrics: columns.iter().chain(&others).map(|metric| MetricBody::of(metric, &units)).collect(),
            readings: newest.iter().map(|reading| ReadingBody::new(reading, &sensor_names)).collect(),
        })
    })
    .await
}
