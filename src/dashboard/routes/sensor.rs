//! `GET /api/sensors/{sensor}`: one sensor's newest reading, in each group that it has sent in, and what it measures.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use serde::Serialize;
use uuid::Uuid;

use crate::analytics::groups::Selection;
use crate::analytics::scan::Question;
use crate::analytics::{Order, Scan};
use crate::dashboard::app::App;
use crate::dashboard::fleet::{MetricBody, ReadingBody};
use crate::dashboard::problem::Problem;
use crate::dashboard::request::{json, within_deadline};
use crate::reading::Metric;
use crate::store::readings::{self, Names};
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

pub(super) async fn get(State(app): State<App>, Path(sensor): Path<String>) -> Result<Response, Problem> {
    let sensor: Uuid = sensor.parse().map_err(|_| {
        Problem::bad_request("not a sensor id (give a UUID, such as iot_sensor_id of /api/sensors)")
    })?;
    let _permit = app.permit().await?;
    within_deadline(async {
        let session = app.session().await?;
        let groups = Selection::default().resolve_sensor(&session, sensor).await?;
        let mut newest = Vec::new();
        let mut names = Names::default();
        for group in &groups {
            let mut pages = readings::latest(&session, group, Some(sensor)).await?;
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
            let question = Question { groups, sensor: Some(sensor), range, filter: None, order: Order::Desc };
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
            metrics: columns.iter().chain(&others).map(MetricBody::from).collect(),
            readings: newest.iter().map(ReadingBody::from).collect(),
        })
    })
    .await
}
