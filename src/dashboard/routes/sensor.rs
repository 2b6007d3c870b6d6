//! `GET /api/sensors/{sensor}`: one sensor's newest reading, in each group that it has sent in.

use axum::extract::{Path, State};
use axum::response::Response;
use serde::Serialize;
use uuid::Uuid;

use crate::analytics::groups::Selection;
use crate::dashboard::app::App;
use crate::dashboard::fleet::ReadingBody;
use crate::dashboard::problem::Problem;
use crate::dashboard::request::{json, within_deadline};
use crate::store::readings::{self, Names};

#[derive(Serialize)]
struct Body<'a> {
    readings: Vec<ReadingBody<'a>>,
}

pub(super) async fn get(State(app): State<App>, Path(sensor): Path<String>) -> Result<Response, Problem> {
    let sensor: Uuid = sensor.parse().map_err(|_| {
        Problem::bad_request("not a sensor id (give a UUID, such as iot_sensor_id of /api/sensors)")
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
        json(&Body { readings: newest.iter().map(ReadingBody::from).collect() })
    })
    .await
}
